//! What members of a network may do, as rules of nftables in tables of the network's own: nft(8) makes them once, the
//! few requests of each session go to the kernel directly (`linux/netfilter/nf_tables.h`).

use super::links::{mac, port};
use super::netlink::{ACK, CREATE, Message, Netlink};
use crate::error::{Error, call};
use crate::sys::Errno;
use caplet_policy::document::Lan;
use nix::sys::socket::SockProtocol;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

const NFT: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
const INET: u8 = 1;
const BRIDGE: u8 = 7;
const SUBSYSTEM: u16 = 10;
const GETTABLE: u16 = SUBSYSTEM << 8 | 1;
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
    let mut text =
        format!("# {} {} {bridge}\n# isolate {} antispoof {}\n", lan.subnet, lan.gateway, lan.isolate, lan.antispoof);
    if lan.bridge.is_none() {
        let table = table(&lan.name);
        // Declared first, so that there is something to delete.
        let _ = write!(text, "table inet {table}\ndelete table inet {table}\n{}", between(lan, &table, &bridge));
    }
    text
}

/// What a port of any network with `antispoof` may send: its own addresses, over IPv4 and ARP, and no offers of
/// addresses. One table for all of them, so that a port that nobody has admitted can send nothing.
pub const ANTISPOOF: &str = "table bridge caplet {
  set members { type ifname . ether_addr . ipv4_addr; }
  chain from_members {
    type filter hook prerouting priority -300; policy accept;
    iifname != \"cplt*\" accept
    udp sport 67 drop
    ether type arp iifname . ether saddr . arp saddr ip @members iifname . arp saddr ether . arp saddr ip @members accept
    ether type ip iifname . ether saddr . ip saddr @members accept
    drop
  }
}
";
/// Its name.
const SHARED: &str = "caplet";

/// Between the network and everything else: the machine, other networks, the way out.
fn between(lan: &Lan, table: &str, bridge: &str) -> String {
    let (subnet, gateway) = (lan.subnet, lan.gateway);
    let input = match lan.host_access {
        true => "    accept\n".to_owned(),
        false => format!("    ip daddr {gateway} icmp type echo-request accept\n    drop\n"),
    };
    let (out, back) = match lan.nat {
        true => (format!("    ip saddr {subnet} accept\n"), "    ct state established,related accept\n"),
        false => (String::new(), ""),
    };
    let nat = match lan.nat {
        true => format!(
            "  chain masked {{\n    type nat hook postrouting priority 100; policy accept;\n    \
             ip saddr {subnet} oifname != \"{bridge}\" masquerade\n  }}\n"
        ),
        false => String::new(),
    };
    format!(
        "table inet {table} {{
  chain to_machine {{
    type filter hook input priority -10; policy accept;
    iifname != \"{bridge}\" accept
    ct state established,related accept
{input}  }}
  chain through {{
    type filter hook forward priority -10; policy accept;
    iifname \"{bridge}\" oifname \"{bridge}\" accept
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
        Ok(own && (!lan.antispoof || self.watch_is_there()?))
    }

    /// Whether the table is there by which ports are watched.
    pub fn watch_is_there(&mut self) -> Result<bool, Error> {
        self.is_there(BRIDGE, SHARED)
    }

    fn is_there(&mut self, family: u8, table: &str) -> Result<bool, Error> {
        match self.0.ask(Message::new(GETTABLE, ACK, &generic(family)).text(1, table)) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(call("ask nf_tables for a table")(errno)),
        }
    }

    /// Lets a port send as its address.
    pub fn admit(&mut self, address: Ipv4Addr) -> Result<(), Errno> {
        let mut key = [0u8; 28];
        let name = port(address, true);
        key[..name.len()].copy_from_slice(name.as_bytes());
        key[16..22].copy_from_slice(&mac(address));
        key[24..].copy_from_slice(&address.octets());
        let (elem_table, elem_set, elem_elements, list_elem, elem_key, data_value) = (1, 2, 3, 1, 1, 1);
        let message = Message::new(NEWSETELEM, ACK | CREATE & !(libc::NLM_F_EXCL as u16), &generic(BRIDGE))
            .text(elem_table, SHARED)
            .text(elem_set, "members")
            .nest(elem_elements, &[], |m| {
                m.nest(list_elem, &[], |m| m.nest(elem_key, &[], |m| m.bytes(data_value, &key)))
            });
        self.batch(message)
    }

    /// Takes a network's table away; one that is not there is no error.
    pub fn remove(&mut self, network: &str) -> Result<(), Errno> {
        self.delete(INET, &table(network))
    }

    /// Takes the table away by which ports are watched.
    pub fn remove_watch(&mut self) -> Result<(), Errno> {
        self.delete(BRIDGE, SHARED)
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

/// `struct nfgenmsg`.
fn generic(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}
