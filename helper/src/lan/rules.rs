//! What members of a network may do, as rules of nftables in tables of the network's own: nft(8) makes them once, the
//! few requests of each session go to the kernel directly (`linux/netfilter/nf_tables.h`).

use super::links::{link_local, mac, port};
use super::netlink::{ACK, CREATE, Message, Netlink};
use crate::error::{Error, call};
use crate::sys::{Errno, process};
use caplet_policy::document::{Lan, Subnet6};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::SockProtocol;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

const NFT: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
/// How long nft may take, in milliseconds.
const PATIENCE: u16 = 10_000;
const INET: u8 = 1;
const BRIDGE: u8 = 7;
const SUBSYSTEM: u16 = 10;
const GETTABLE: u16 = SUBSYSTEM << 8 | 1;
const GETSET: u16 = SUBSYSTEM << 8 | 10;
const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
const NEWSETELEM: u16 = SUBSYSTEM << 8 | 12;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// The name of a network's tables.
pub fn table(network: &str) -> String {
    format!("caplet-{network}")
}

/// The whole of a network's rules, which also say whether two policies mean the same by it.
pub fn script(lan: &Lan) -> String {
    let bridge = super::bridge(lan);
    let mut text = format!(
        "# {} {} {bridge}{}\n# isolate {} antispoof {}\n",
        lan.subnet,
        lan.gateway,
        sixth(lan),
        lan.isolate,
        lan.antispoof
    );
    if lan.bridge.is_none() {
        let table = table(&lan.name);
        // Declared first, so that there is something to delete.
        let _ = write!(text, "table inet {table}\ndelete table inet {table}\n{}", between(lan, &table, &bridge));
    }
    text
}

fn sixth(lan: &Lan) -> String {
    lan.subnet6.map(|subnet| format!(" {subnet} {}", subnet.gateway)).unwrap_or_default()
}

/// What a port of any network with `antispoof` may send: its own addresses, over IPv4 and ARP and, where the network has
/// it, IPv6, and no offers of addresses or routes. One table for all of them, so that a port that nobody has admitted
/// can send nothing. What the kernel hands to a port itself (frames to 01:80:c2:00:00:0X go round the bridge and its
/// hooks) ends there, but for the spanning tree's: where the kernel has one, links::join keeps them out of it, where the
/// bridge hands them on, a rule. The target of a neighbour advertisement stands at bit 64 of ICMPv6 (RFC 4861, 4.4).
pub fn antispoof(with_ipv6: bool) -> String {
    watched(with_ipv6, &mark(with_ipv6))
}

/// An empty set of that name says which rules these are: those of an older caplet's are made anew.
fn mark(with_ipv6: bool) -> String {
    let mut hash = DefaultHasher::new();
    watched(with_ipv6, "").hash(&mut hash);
    format!("rules_{:016x}", hash.finish())
}

fn watched(with_ipv6: bool, mark: &str) -> String {
    let (sets, rules) = match with_ipv6 {
        true => (SETS6, RULES6),
        false => ("", ""),
    };
    format!(
        "table inet caplet
delete table inet caplet
table inet caplet {{
  chain to_ports {{
    type filter hook prerouting priority -400; policy accept;
    iifname \"cplt-*\" accept
    iifname \"cplt*\" drop
    iifname \"cplo*\" drop
  }}
}}
table bridge caplet
delete table bridge caplet
table bridge caplet {{
  set {mark} {{ type mark; }}
  set members {{ type ifname . ether_addr . ipv4_addr; }}
{sets}  chain from_members {{
    type filter hook prerouting priority -300; policy accept;
    iifname \"cpl*\" ether daddr 01:80:c2:00:00:00 drop
    iifname != \"cplt*\" accept
    udp sport 67 drop
    udp dport 68 drop
    ether type arp iifname . ether saddr . arp saddr ip @members iifname . arp saddr ether . arp saddr ip @members accept
    ether type ip iifname . ether saddr . ip saddr @members accept
{rules}    drop
  }}
}}
"
    )
}

const SETS6: &str = "  set members6 { type ifname . ether_addr . ipv6_addr; }
  set targets6 { typeof iifname . ether saddr . @th,64,128; }
";
const RULES6: &str = "    udp sport 547 drop
    udp dport 546 drop
    icmpv6 type { nd-router-advert, nd-redirect } drop
    icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @targets6 drop
    ether type ip6 iifname . ether saddr . ip6 saddr @members6 accept
";
/// Its name.
const SHARED: &str = "caplet";

/// Between the network and everything else: the machine, other networks, the way out.
fn between(lan: &Lan, table: &str, bridge: &str) -> String {
    let (subnet, gateway) = (lan.subnet, lan.gateway);
    let input = match lan.host_access {
        true => "    accept\n".to_owned(),
        false => {
            let neighbours = lan.subnet6.map(|subnet| {
                let gateway = subnet.gateway;
                format!(
                    "    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept\n    \
                     ip6 daddr {gateway} icmpv6 type echo-request accept\n"
                )
            });
            let neighbours = neighbours.unwrap_or_default();
            format!("{neighbours}    ip daddr {gateway} icmp type echo-request accept\n    drop\n")
        }
    };
    let (mut out, mut back, mut masked) = (String::new(), "", String::new());
    if lan.nat {
        back = "    ct state established,related accept\n";
        let sixth = lan.subnet6.map(|subnet| format!("ip6 saddr {subnet}"));
        for source in [Some(format!("ip saddr {subnet}")), sixth].into_iter().flatten() {
            let _ = writeln!(out, "    {source} accept");
            let _ = writeln!(masked, "    {source} oifname != \"{bridge}\" masquerade");
        }
    }
    // Members that must not see each other do not by way of the gateway either.
    let among = if lan.isolate { "drop" } else { "accept" };
    let nat = match masked.is_empty() {
        false => {
            format!("  chain masked {{\n    type nat hook postrouting priority 100; policy accept;\n{masked}  }}\n")
        }
        true => String::new(),
    };
    format!(
        "table inet {table} {{
  chain to_machine {{
    type filter hook input priority -10; policy accept;
    iifname != \"{bridge}\" accept
    icmpv6 type {{ nd-router-advert, nd-redirect }} drop
    ct state established,related accept
{input}  }}
  chain pings_in {{
    type filter hook prerouting priority -300; policy accept;
    iifname \"{bridge}\" ip daddr {gateway} icmp type echo-request notrack
  }}
  chain pings_out {{
    type filter hook output priority -300; policy accept;
    oifname \"{bridge}\" ip saddr {gateway} icmp type echo-reply notrack
  }}
  chain through {{
    type filter hook forward priority -10; policy accept;
    iifname \"{bridge}\" oifname \"{bridge}\" {among}
    iifname \"{bridge}\" jump out
    oifname \"{bridge}\" jump back
  }}
  chain out {{
    oifname \"cplt-*\" drop
{out}    drop
  }}
  chain back {{
{back}    drop
  }}
{nat}}}
"
    )
}

/// Has nft(8) make them.
pub fn load(script: &str) -> Result<(), Error> {
    let failed = |why: String| Error::NoNetwork(format!("its rules could not be made: {why}"));
    let nft = NFT.into_iter().find(|path| std::path::Path::new(path).exists());
    let nft = nft.ok_or_else(|| Error::NoNetwork("nftables (the program nft) is not installed".into()))?;
    let mut command = Command::new(nft);
    command.args(["-f", "-"]).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).map_err(|e| failed(e.to_string()))?;
    }
    // Whoever takes longer may carry it out when the lock is somebody else's.
    let ended = process::pidfd_open(child.id() as i32)
        .and_then(|pidfd| poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PATIENCE));
    if ended != Ok(1) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed("nft did not end in time".into()));
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(failed(said.lines().next().unwrap_or("nft said nothing").to_owned()))
        }
    }
}

/// The kernel's nf_tables.
#[derive(Debug)]
pub struct Tables(Netlink);

impl Tables {
    pub fn open() -> Result<Self, Error> {
        Netlink::open(SockProtocol::NetlinkNetFilter).map(Self).map_err(call("socket(NETLINK_NETFILTER)"))
    }

    /// Whether all tables that a network needs are there: whoever flushes the rules takes them along.
    pub fn are_there(&mut self, lan: &Lan) -> Result<bool, Error> {
        let own = lan.bridge.is_some() || self.is_there(INET, &table(&lan.name))?;
        Ok(own && self.watch_is_there(lan.antispoof && lan.subnet6.is_some())?)
    }

    /// Whether the table is there by which ports are watched, of this caplet's rules, with what IPv6 needs.
    pub fn watch_is_there(&mut self, ipv6: bool) -> Result<bool, Error> {
        let mut has = |with_ipv6| self.ask_for(GETSET, BRIDGE, SHARED, Some(&mark(with_ipv6)));
        let is_marked = has(true)? || !ipv6 && has(false)?;
        Ok(is_marked && self.is_there(INET, SHARED)?)
    }

    fn is_there(&mut self, family: u8, table: &str) -> Result<bool, Error> {
        self.ask_for(GETTABLE, family, table, None)
    }

    fn ask_for(&mut self, what: u16, family: u8, table: &str, set: Option<&str>) -> Result<bool, Error> {
        let message = Message::new(what, ACK, &generic(family)).text(1, table);
        let message = match set {
            Some(set) => message.text(2, set),
            None => message,
        };
        match self.0.ask(message) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(call("ask nf_tables for a table")(errno)),
        }
    }

    /// Lets a port send as its addresses.
    pub fn admit(&mut self, address: Ipv4Addr, subnet6: Option<Subnet6>) -> Result<(), Errno> {
        let mut key = [0u8; 24];
        let name = port(address, true);
        key[..name.len()].copy_from_slice(name.as_bytes());
        key[16..22].copy_from_slice(&mac(address));
        let mut elements = vec![element("members", &[&key[..], &address.octets()].concat())];
        for own in subnet6.into_iter().flat_map(|subnet| [subnet.member(address), link_local(address)]) {
            let key = [&key[..], &own.octets()].concat();
            elements.extend(["members6", "targets6"].map(|set| element(set, &key)));
        }
        elements.into_iter().try_for_each(|element| self.batch(element))
    }

    /// Takes a network's table away; one that is not there is no error.
    pub fn remove(&mut self, network: &str) -> Result<(), Errno> {
        self.delete(INET, &table(network))
    }

    /// Takes the table away by which ports are watched.
    pub fn remove_watch(&mut self) -> Result<(), Errno> {
        self.delete(BRIDGE, SHARED)?;
        self.delete(INET, SHARED)
    }

    fn delete(&mut self, family: u8, table: &str) -> Result<(), Errno> {
        match self.batch(Message::new(DELTABLE, ACK, &generic(family)).text(1, table)) {
            Err(Errno::ENOENT) => Ok(()),
            done => done,
        }
    }

    fn batch(&mut self, message: Message) -> Result<(), Errno> {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        let edge = |kind| Message::new(kind, 0, &[0, 0, high, low]);
        self.0.ask_all(vec![edge(BATCH_BEGIN), message, edge(BATCH_END)]).map(drop)
    }
}

/// One more in a set of the shared table; one that is there already is no error.
fn element(set: &str, key: &[u8]) -> Message {
    let (elem_table, elem_set, elem_elements, list_elem, elem_key, data_value) = (1, 2, 3, 1, 1, 1);
    Message::new(NEWSETELEM, ACK | CREATE & !(libc::NLM_F_EXCL as u16), &generic(BRIDGE))
        .text(elem_table, SHARED)
        .text(elem_set, set)
        .nest(elem_elements, &[], |m| m.nest(list_elem, &[], |m| m.nest(elem_key, &[], |m| m.bytes(data_value, key))))
}

/// `struct nfgenmsg`.
fn generic(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}
