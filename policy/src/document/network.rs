//! `[network.NAME]`: a network that sessions share. No netlink and no rules in here.

use super::faults::{Complaint, Sink, quoted};
use super::fields::Field;
use super::profile::unknown;
use super::{Kind, Lan, Location, Network, Profile, Subnet, Subnet6};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use toml::de::DeTable;

/// The keys of `[network.NAME]`.
pub const NETWORK_KEYS: [&str; 12] = [
    "description",
    "kind",
    "subnet",
    "gateway",
    "nat",
    "isolate",
    "dns",
    "host_access",
    "antispoof",
    "bridge",
    "subnet6",
    "gateway6",
];
/// Keys that only a bridge has.
const OF_BRIDGES: [&str; 4] = ["nat", "isolate", "antispoof", "bridge"];
/// The subnet of a network of `kind = "outgoing"` that names none.
const OWN: Subnet = Subnet { address: Ipv4Addr::new(10, 173, 0, 0), prefix: 24 };
/// Words that `network =` already means something else by.
const TAKEN: [&str; 4] = ["private", "host", "none", "join"];

/// Reads the table of a network; whether it has no fault.
pub(super) fn read(sink: &mut Sink, name: &str, span: Range<usize>, table: &DeTable<'_>) -> (Lan, bool) {
    let before = sink.count();
    if let Err(complaint) = is_name(name) {
        sink.fault(span.clone(), complaint);
    }
    let mut lan = Lan::new(name);
    let (mut subnet, mut gateway) = (None, None);
    let (mut subnet6, mut gateway6) = (None, None);
    for (key, value) in table {
        let key_name = key.get_ref().as_ref();
        let mut field = Field::new(sink, key_name, value);
        match key_name {
            "description" => lan.description = field.text(super::values::one_line),
            "kind" => {
                let kinds = [Kind::Bridge, Kind::Outgoing].map(|kind| (kind.word(), kind));
                lan.kind = field.choice(&kinds).unwrap_or(lan.kind);
            }
            "subnet" => subnet = field.text(subnet_of),
            "gateway" => gateway = field.text(address),
            "subnet6" => subnet6 = field.text(subnet6_of),
            "gateway6" => gateway6 = field.text(address6),
            "nat" => lan.nat = field.boolean().unwrap_or_default(),
            "isolate" => lan.isolate = field.boolean().unwrap_or_default(),
            "dns" => lan.dns = field.list(server),
            "host_access" => lan.host_access = field.boolean().unwrap_or_default(),
            "antispoof" => lan.antispoof = field.boolean().unwrap_or(true),
            "bridge" => lan.bridge = field.text(interface),
            _ => sink.fault(key.span(), unknown(key_name).near(key_name, NETWORK_KEYS)),
        }
    }
    let value_of = |key| table.get(key).map_or(span.clone(), |value| value.span());
    match (subnet, table.get("subnet")) {
        (None, None) if lan.kind == Kind::Outgoing => lan.subnet = OWN,
        (None, None) => {
            let complaint = Complaint::new(format!("network {} has no subnet", quoted(name)));
            sink.fault(span.clone(), complaint.help("subnet = \"172.17.0.0/16\""));
        }
        (subnet, _) => lan.subnet = subnet.unwrap_or(lan.subnet),
    }
    lan.gateway = gateway.unwrap_or_else(|| lan.subnet.first());
    if gateway.is_some_and(|gateway| !lan.subnet.has_host(gateway)) && lan.subnet.address != Ipv4Addr::UNSPECIFIED {
        let complaint = Complaint::new(format!("gateway {} is no address of {}", lan.gateway, lan.subnet));
        sink.fault(value_of("gateway"), complaint);
    }
    lan.subnet6 = subnet6.map(|subnet: Subnet6| Subnet6 { gateway: gateway6.unwrap_or(subnet.gateway), ..subnet });
    if let (Some(gateway), false) = (gateway6, lan.subnet6.is_some_and(|subnet| subnet.has(subnet.gateway))) {
        let complaint = match subnet6 {
            Some(subnet) => Complaint::new(format!("gateway6 {gateway} is no address of {subnet}")),
            None => Complaint::new("gateway6 without a subnet6"),
        };
        sink.fault(value_of("gateway6"), complaint);
    }
    if lan.kind == Kind::Outgoing {
        for (key, _) in table.iter().filter(|(key, _)| OF_BRIDGES.contains(&key.get_ref().as_ref())) {
            let complaint = Complaint::new(format!("{} is for kind = \"bridge\"", key.get_ref()));
            sink.fault(key.span(), complaint.help("an outgoing session is alone in its network: leave it out"));
        }
        if lan.subnet.hosts() < 6 {
            let complaint = Complaint::new(format!("{} is too small for kind = \"outgoing\"", lan.subnet));
            sink.fault(value_of("subnet"), complaint.help("/8 to /29"));
        }
    } else if lan.bridge.is_some() {
        // The administrator's bridge has the administrator's rules and addresses.
        for (key, set) in [("nat", lan.nat), ("host_access", lan.host_access)] {
            if set {
                let complaint = Complaint::new(format!("{key} is for a bridge of caplet's own"));
                sink.fault(value_of(key), complaint.help("on one of yours the rules are yours: leave it out"));
            }
        }
    }
    let sound = sink.count() == before;
    (lan, sound)
}

/// What no network can see by itself: subnets of bridges that overlap, and profiles in networks that are not there.
pub(super) fn check_all(lans: &[Lan], mut complain: impl FnMut(usize, Complaint)) {
    for (n, lan) in lans.iter().enumerate() {
        for other in lans.iter().take(n) {
            if lan.name == other.name {
                let complaint = Complaint::new(format!("network {} stands in two files", quoted(&lan.name)));
                complain(n, complaint.help(format!("first in {}:{}", other.at.file, other.at.line)));
            } else if [lan.kind, other.kind].contains(&Kind::Outgoing) {
                // Each session is alone in its own.
            } else if lan.subnet.overlaps(other.subnet) {
                let text = format!("subnet {} overlaps that of network {}", lan.subnet, quoted(&other.name));
                complain(n, Complaint::new(text).help(format!("which is {}", other.subnet)));
            } else if lan.subnet6.zip(other.subnet6).is_some_and(|(a, b)| a.overlaps(b)) {
                complain(n, Complaint::new(format!("subnet6 overlaps that of network {}", quoted(&other.name))));
            } else if lan.bridge.is_some() && lan.bridge == other.bridge {
                let text = format!("the bridge of network {} is this one's too", quoted(&other.name));
                complain(n, Complaint::new(text));
            }
        }
    }
}

/// Whether a profile's network is there.
pub(super) fn is_there(profile: &Profile, lans: &[Lan]) -> bool {
    match &profile.network {
        Network::Named(name) => lans.iter().any(|lan| lan.name == *name),
        Network::Private | Network::Host => true,
    }
}

/// By name, for whoever looks one up.
pub(super) fn missing(name: &str, lans: &[Lan]) -> Complaint {
    let complaint = Complaint::new(format!("no network is called {}", quoted(name)));
    let mut known: Vec<&str> = lans.iter().map(|lan| lan.name.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    let known: Vec<String> = known.into_iter().map(quoted).collect();
    complaint.help(match known.as_slice() {
        [] => "\"private\", \"host\", or the NAME of a [network.NAME]".to_owned(),
        known => format!("\"private\", \"host\", {}", known.join(", ")),
    })
}

/// `network =` of a profile.
pub(super) fn of_profile(text: &str) -> Result<Network, Complaint> {
    match text {
        "private" => Ok(Network::Private),
        "host" => Ok(Network::Host),
        name => is_name(name).map(|()| Network::Named(name.to_owned())),
    }
}

/// With `cplt-` in front it is a link's name, which has 15 characters at most.
fn is_name(text: &str) -> Result<(), Complaint> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if TAKEN.contains(&text) {
        return Err(Complaint::of(text, "cannot be the name of a network"));
    }
    match (1..=10).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-') {
        true => Ok(()),
        false => {
            Err(Complaint::of(text, "cannot be the name of a network")
                .help("1 to 10 lower case letters, digits and \"-\""))
        }
    }
}

fn address(text: &str) -> Result<Ipv4Addr, Complaint> {
    text.parse().map_err(|_| Complaint::of(text, "is no IPv4 address"))
}

fn address6(text: &str) -> Result<Ipv6Addr, Complaint> {
    text.parse().map_err(|_| Complaint::of(text, "is no IPv6 address"))
}

fn subnet6_of(text: &str) -> Result<Subnet6, Complaint> {
    let form = || Complaint::of(text, "is no IPv6 subnet").help("as in: \"fd00:17::/64\"");
    let (address, prefix) = text.split_once('/').ok_or_else(form)?;
    let address: Ipv6Addr = address.parse().map_err(|_| form())?;
    let plain = prefix.bytes().all(|b| b.is_ascii_digit()) && !prefix.starts_with('0');
    let prefix: u8 = prefix.parse().ok().filter(|_| plain).ok_or_else(form)?;
    if !(16..=96).contains(&prefix) {
        return Err(Complaint::of(text, "is too large or too small").help("/16 to /96"));
    }
    let subnet = Subnet6 { address, prefix, gateway: Ipv6Addr::from(u128::from(address) | 1) };
    if u128::from(address) & !subnet.mask() != 0 {
        return Err(Complaint::of(text, "names a host of its subnet"));
    }
    // 2000::/3 and fc00::/7
    let first = address.octets()[0];
    if first >> 5 != 1 && first >> 1 != 0x7e {
        return Err(Complaint::of(text, "is not for hosts").help("one of fd00::/8, or of the addresses that are yours"));
    }
    Ok(subnet)
}

fn server(text: &str) -> Result<IpAddr, Complaint> {
    text.parse().map_err(|_| Complaint::of(text, "is no address of a name server"))
}

fn interface(text: &str) -> Result<String, Complaint> {
    let fits = |b: u8| b.is_ascii_graphic() && !b"/:%".contains(&b);
    match (1..=15).contains(&text.len()) && text.bytes().all(fits) && ![".", ".."].contains(&text) {
        true if text.starts_with("cplt-") => {
            Err(Complaint::of(text, "is a name that caplet gives").help("without this key caplet makes the bridge"))
        }
        true => Ok(text.to_owned()),
        false => Err(Complaint::of(text, "is no name of a link")),
    }
}

fn subnet_of(text: &str) -> Result<Subnet, Complaint> {
    let form = || Complaint::of(text, "is no subnet").help("as in: \"172.17.0.0/16\"");
    let (address, prefix) = text.split_once('/').ok_or_else(form)?;
    let address: Ipv4Addr = address.parse().map_err(|_| form())?;
    let plain = prefix.bytes().all(|b| b.is_ascii_digit()) && !prefix.starts_with('0');
    let prefix: u8 = prefix.parse().ok().filter(|_| plain).ok_or_else(form)?;
    if !(8..=30).contains(&prefix) {
        return Err(Complaint::of(text, "is too large or too small").help("/8 to /30"));
    }
    let subnet = Subnet { address, prefix };
    if u32::from(address) & !subnet.mask() != 0 {
        let first = Ipv4Addr::from(u32::from(address) & subnet.mask());
        return Err(Complaint::of(text, "names a host of its subnet").help(format!("\"{first}/{prefix}\"")));
    }
    if address.is_loopback()
        || address.is_multicast()
        || address.is_link_local()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240
    {
        return Err(Complaint::of(text, "is not for hosts"));
    }
    Ok(subnet)
}

impl Kind {
    /// Its word in the policy.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Outgoing => "outgoing",
        }
    }
}

impl Lan {
    fn new(name: &str) -> Self {
        let subnet = Subnet { address: Ipv4Addr::UNSPECIFIED, prefix: 8 };
        Self {
            name: name.into(),
            at: Location { file: String::new(), line: 0 },
            description: None,
            kind: Kind::Bridge,
            subnet,
            gateway: subnet.first(),
            subnet6: None,
            nat: false,
            isolate: false,
            dns: Vec::new(),
            host_access: false,
            antispoof: true,
            bridge: None,
        }
    }

    /// With `kind = "outgoing"`: the name server, which stands for the machine's own, and the session's address. The first
    /// two hosts that are not the gateway.
    pub fn outgoing_addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        let all = (1..=4).map(|n| Ipv4Addr::from(u32::from(self.subnet.address) + n));
        let is_gateways6 = |a: Ipv4Addr| self.subnet6.is_some_and(|six| six.member(a) == six.gateway);
        let mut free = all.filter(|address| *address != self.gateway && !is_gateways6(*address));
        let first = self.subnet.first();
        (free.next().unwrap_or(first), free.next().unwrap_or(first))
    }
}

impl Subnet6 {
    fn mask(self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// The address of the member that has this IPv4 address.
    pub fn member(self, address: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.address) | u128::from(u32::from(address)))
    }

    fn has(self, address: Ipv6Addr) -> bool {
        let bits = u128::from(address);
        bits & self.mask() == u128::from(self.address) && bits & !self.mask() != 0
    }

    fn overlaps(self, other: Self) -> bool {
        let mask = self.mask() & other.mask();
        u128::from(self.address) & mask == u128::from(other.address) & mask
    }
}

impl std::fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Subnet {
    /// The bits of the network.
    pub fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// How many hosts there can be, the gateway among them.
    pub fn hosts(self) -> u32 {
        !self.mask() - 1
    }

    /// Its first host.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) + 1)
    }

    /// Whether this is an address that a host of it can have.
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        let bits = u32::from(address);
        let host = bits & !self.mask();
        bits & self.mask() == u32::from(self.address) && host != 0 && host != !self.mask()
    }

    /// The link of a route of the machine's that leads into it, that of `own` apart; `routes` is `/proc/net/route`
    /// (proc_pid_net(5)).
    pub fn route_into(self, routes: &str, own: &str) -> Option<String> {
        routes.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(u32::from_be);
            let (link, destination, mask) = (*fields.first()?, number(1)?, number(7)?);
            let common = mask & self.mask();
            let leads_in = destination & common == u32::from(self.address) & common;
            (mask != 0 && link != own && leads_in).then(|| link.to_owned())
        })
    }

    fn overlaps(self, other: Self) -> bool {
        let mask = self.mask() & other.mask();
        u32::from(self.address) & mask == u32::from(other.address) & mask
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
