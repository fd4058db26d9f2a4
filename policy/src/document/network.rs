//! `[network.NAME]`: a network that sessions share. No netlink and no rules in here.

use super::faults::{Complaint, Sink, quoted};
use super::fields::Field;
use super::profile::unknown;
use super::{Lan, Location, Network, Profile, Subnet};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use toml::de::DeTable;

const KEYS: [&str; 10] =
    ["description", "kind", "subnet", "gateway", "nat", "isolate", "dns", "host_access", "antispoof", "bridge"];
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
    for (key, value) in table {
        let key_name = key.get_ref().as_ref();
        let mut field = Field::new(sink, key_name, value);
        match key_name {
            "description" => lan.description = field.text(super::values::one_line),
            "kind" => drop(field.choice(&[("bridge", ())])),
            "subnet" => subnet = field.text(subnet_of),
            "gateway" => gateway = field.text(address),
            "nat" => lan.nat = field.boolean().unwrap_or_default(),
            "isolate" => lan.isolate = field.boolean().unwrap_or_default(),
            "dns" => lan.dns = field.list(server),
            "host_access" => lan.host_access = field.boolean().unwrap_or_default(),
            "antispoof" => lan.antispoof = field.boolean().unwrap_or(true),
            "bridge" => lan.bridge = field.text(interface),
            _ => sink.fault(key.span(), unknown(key_name).near(key_name, KEYS)),
        }
    }
    let value_of = |key| table.get(key).map_or(span.clone(), |value| value.span());
    match (subnet, table.get("subnet")) {
        (None, None) => {
            let complaint = Complaint::new(format!("network {} has no subnet", quoted(name)));
            sink.fault(span.clone(), complaint.help("subnet = \"172.17.0.0/16\""));
        }
        (subnet, _) => lan.subnet = subnet.unwrap_or(lan.subnet),
    }
    lan.gateway = gateway.unwrap_or_else(|| lan.subnet.first());
    if gateway.is_some_and(|gateway| !lan.subnet.has_host(gateway)) && subnet.is_some() {
        let complaint = Complaint::new(format!("gateway {} is no address of {}", lan.gateway, lan.subnet));
        sink.fault(value_of("gateway"), complaint);
    }
    if lan.bridge.is_some() {
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

/// What no network can see by itself: overlapping subnets, and profiles in networks that are not there.
pub(super) fn check_all(lans: &[Lan], mut complain: impl FnMut(usize, Complaint)) {
    for (n, lan) in lans.iter().enumerate() {
        for other in lans.iter().take(n) {
            if lan.name == other.name {
                let complaint = Complaint::new(format!("network {} stands in two files", quoted(&lan.name)));
                complain(n, complaint.help(format!("first in {}:{}", other.at.file, other.at.line)));
            } else if lan.subnet.overlaps(other.subnet) {
                let text = format!("subnet {} overlaps that of network {}", lan.subnet, quoted(&other.name));
                complain(n, Complaint::new(text).help(format!("which is {}", other.subnet)));
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
    let known: BTreeMap<&str, ()> = lans.iter().map(|lan| (lan.name.as_str(), ())).collect();
    let known: Vec<String> = known.into_keys().map(quoted).collect();
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

impl Lan {
    fn new(name: &str) -> Self {
        let subnet = Subnet { address: Ipv4Addr::UNSPECIFIED, prefix: 8 };
        Self {
            name: name.into(),
            at: Location { file: String::new(), line: 0 },
            description: None,
            subnet,
            gateway: subnet.first(),
            nat: false,
            isolate: false,
            dns: Vec::new(),
            host_access: false,
            antispoof: true,
            bridge: None,
        }
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
