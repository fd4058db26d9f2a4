//! The links of a network: its bridge, and a veth pair for each session; rtnetlink(7), `linux/if_link.h`.

use super::Place;
use super::netlink::{ACK, CREATE, Message, Netlink, attributes};
use crate::sys::Errno;
use caplet_policy::document::{Lan, Subnet, Subnet6};
use nix::sys::socket::SockProtocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_AF_SPEC: u16 = 26;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const BR_MCAST_SNOOPING: u16 = 23;
const BR_MULTI_BOOLOPT: u16 = 46;
const BR_FDB_MAX_LEARNED: u16 = 49;
const BRPORT_GUARD: u16 = 5;
const BRPORT_LEARNING: u16 = 8;
const BRPORT_UNICAST_FLOOD: u16 = 9;
const BRPORT_ISOLATED: u16 = 33;
const NEWNEIGH: u16 = 28;
/// As many addresses as a bridge learns where it must learn at all: members may have several there, and a flood has an
/// end.
const MOST_LEARNED: u32 = 8192;
const INET6_ADDR_GEN_MODE: u16 = 8;
const IFF_UP: u32 = libc::IFF_UP as u32;
/// What the session calls its link.
pub const INSIDE: &str = "eth0";
const LINK_FIXED: usize = 16;
/// What a session's TAP link takes in one frame: much, so that there are few, and no more than is passed on in one piece.
const LARGE: u32 = 32_000;
/// Bridges of caplet's own start so.
const BRIDGES: &str = "cplt-";
pub const WATCHED: &str = "cplt";
const UNWATCHED: &str = "cplo";

/// A locally administered address that an IPv4 address has in every network: 02:ca and its four bytes.
pub fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0xca, a, b, c, d]
}

/// The link-local IPv6 address that a link with that [`mac`] takes by itself (RFC 4291, appendix A).
pub fn link_local(address: Ipv4Addr) -> Ipv6Addr {
    let [first, b, c, d, e, f] = mac(address);
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(first ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

/// The host's end of the link to that address: nobody else can have it while the link is there. Its name says whether
/// what it sends is watched.
pub fn port(address: Ipv4Addr, watched: bool) -> String {
    let start = if watched { WATCHED } else { UNWATCHED };
    format!("{start}{:08x}", u32::from(address))
}

/// The address that a port belongs to, if it is one.
pub fn address_of(port: &str) -> Option<Ipv4Addr> {
    let digits = port
        .strip_prefix(WATCHED)
        .or_else(|| port.strip_prefix(UNWATCHED))
        .filter(|d| d.len() == 8 && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok().map(Ipv4Addr::from)
}

/// `struct ifinfomsg`.
fn link(family: u8, index: u32, flags: u32, change: u32) -> [u8; LINK_FIXED] {
    let mut fixed = [0; LINK_FIXED];
    fixed[0] = family;
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
}

/// The links of the network namespace that this process is in.
#[derive(Debug)]
pub struct Links(Netlink);

impl Links {
    pub fn open() -> Result<Self, Errno> {
        Netlink::open(SockProtocol::NetlinkRoute).map(Self)
    }

    fn ask(&mut self, message: Message) -> Result<(), Errno> {
        self.0.ask(message).map(drop)
    }

    /// A link's number and kind; `None`: there is none of that name.
    pub fn find(&mut self, name: &str) -> Result<Option<(u32, String)>, Errno> {
        let question = Message::new(GETLINK, ACK, &link(0, 0, 0, 0)).text(IFLA_IFNAME, name);
        let answers = match self.0.ask(question) {
            Err(Errno::ENODEV) => return Ok(None),
            answers => answers?,
        };
        let body = answers.first().ok_or(Errno::EBADMSG)?;
        let index = body.get(4..8).and_then(|n| n.try_into().ok()).map(u32::from_ne_bytes).ok_or(Errno::EBADMSG)?;
        let info = attributes(body, LINK_FIXED).find(|(kind, _)| *kind == IFLA_LINKINFO).map(|(_, info)| info);
        let kind = info.and_then(|info| attributes(info, 0).find(|(kind, _)| *kind == INFO_KIND));
        let kind = kind.map(|(_, kind)| String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned());
        Ok(Some((index, kind.unwrap_or_default())))
    }

    /// A bridge that has its own address from the beginning: one that follows its ports would change with them.
    pub fn make_bridge(&mut self, name: &str, lan: &Lan) -> Result<u32, Errno> {
        let message = Message::new(NEWLINK, ACK | CREATE, &link(0, 0, 0, 0))
            .text(IFLA_IFNAME, name)
            .bytes(IFLA_ADDRESS, &mac(lan.gateway))
            .nest(IFLA_LINKINFO, &[], |m| {
                m.text(INFO_KIND, "bridge").nest(INFO_DATA, &[], |m| {
                    // Frames to 01:80:c2:00:00:0X pass no hook of the bridge: nothing is learnt from them.
                    let no_link_local_learning = [1u32.to_ne_bytes(), 1u32.to_ne_bytes()].concat();
                    m.byte(BR_MCAST_SNOOPING, 0)
                        .bytes(BR_MULTI_BOOLOPT, &no_link_local_learning)
                        .number(BR_FDB_MAX_LEARNED, MOST_LEARNED)
                })
            });
        self.ask(message)?;
        self.settle_bridge(name, lan).inspect_err(|_| {
            let _ = self.remove(name);
        })
    }

    fn settle_bridge(&mut self, name: &str, lan: &Lan) -> Result<u32, Errno> {
        let (index, _) = self.find(name)?.ok_or(Errno::ENODEV)?;
        // Of all its addresses the machine answers for the gateway's alone, and nobody tells it where to go.
        setting(&format!("ipv4/conf/{name}/arp_ignore"), "1")?;
        for (key, value) in [("accept_ra", "0"), ("accept_redirects", "0")] {
            setting(&format!("ipv6/conf/{name}/{key}"), value)?;
        }
        if lan.subnet6.is_none() {
            setting(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
        }
        self.ask(without_ipv6(index, IFF_UP, None)).or_else(|errno| self.up_without_ipv6(errno, index, None))?;
        self.add_address(index, lan.gateway, lan.subnet)?;
        if let Some(subnet) = lan.subnet6 {
            self.add_address6(index, subnet.gateway, subnet)?;
        }
        Ok(index)
    }

    /// A kernel without IPv6 has no mode of it to set.
    fn up_without_ipv6(&mut self, errno: Errno, index: u32, master: Option<u32>) -> Result<(), Errno> {
        if ![Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP].contains(&errno) {
            return Err(errno);
        }
        let message = Message::new(SETLINK, ACK, &link(0, index, IFF_UP, IFF_UP));
        self.ask(match master {
            Some(master) => message.number(IFLA_MASTER, master),
            None => message,
        })
    }

    /// A veth pair: one end a port of the bridge, the other `eth0` of the process's network.
    pub fn make_port(&mut self, bridge: u32, lan: &Lan, address: Ipv4Addr, pid: i32) -> Result<u32, Errno> {
        let name = port(address, lan.antispoof);
        let message = Message::new(NEWLINK, ACK | CREATE, &link(0, 0, 0, 0)).text(IFLA_IFNAME, &name).nest(
            IFLA_LINKINFO,
            &[],
            |m| {
                m.text(INFO_KIND, "veth").nest(INFO_DATA, &[], |m| {
                    m.nest(VETH_INFO_PEER, &link(0, 0, 0, 0), |m| {
                        m.text(IFLA_IFNAME, INSIDE)
                            .bytes(IFLA_ADDRESS, &mac(address))
                            .number(IFLA_NET_NS_PID, pid as u32)
                    })
                })
            },
        );
        self.ask(message)?;
        self.join(&name, bridge, lan, address).inspect_err(|_| {
            let _ = self.remove(&name);
        })
    }

    /// Makes the host's end a port of the bridge.
    fn join(&mut self, name: &str, bridge: u32, lan: &Lan, address: Ipv4Addr) -> Result<u32, Errno> {
        let (index, _) = self.find(name)?.ok_or(Errno::ENODEV)?;
        // It is a way through and none in: what reaches the port itself is nobody's.
        setting(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
        let noarp = libc::IFF_NOARP as u32;
        self.ask(Message::new(SETLINK, ACK, &link(0, index, noarp, noarp)))?;
        self.ask(without_ipv6(index, IFF_UP, Some(bridge)))
            .or_else(|errno| self.up_without_ipv6(errno, index, Some(bridge)))?;
        let message = Message::new(SETLINK, ACK, &link(libc::AF_BRIDGE as u8, index, 0, 0));
        self.ask(message.nest(IFLA_PROTINFO, &[], |m| {
            // No member takes part in the spanning tree of a bridge that has one: such a port is shut.
            let m = m.byte(BRPORT_GUARD, 1).byte(BRPORT_ISOLATED, lan.isolate.into());
            // The bridge is told where a watched member is, and believes nobody else.
            if lan.antispoof { m.byte(BRPORT_LEARNING, 0).byte(BRPORT_UNICAST_FLOOD, 0) } else { m }
        }))?;
        if lan.antispoof {
            self.add_neighbour(index, mac(address))?;
        }
        Ok(index)
    }

    /// In the session: its link has its addresses, is up, and leads everywhere.
    pub fn settle(&mut self, place: &Place) -> Result<(), Errno> {
        let (index, _) = self.find(INSIDE)?.ok_or(Errno::ENODEV)?;
        self.add_address(index, place.address, place.subnet)?;
        if let Some(subnet) = place.subnet6 {
            self.add_address6(index, subnet.member(place.address), subnet)?;
        }
        self.ask(Message::new(SETLINK, ACK, &link(0, index, IFF_UP, IFF_UP)))?;
        self.add_route(index, libc::AF_INET, &place.gateway.octets())?;
        place.subnet6.map_or(Ok(()), |subnet| self.add_route(index, libc::AF_INET6, &subnet.gateway.octets()))
    }

    /// A TAP link in the session, before it is settled: the MAC of its address, and long frames.
    pub fn dress(&mut self, address: Ipv4Addr) -> Result<(), Errno> {
        let (index, _) = self.find(INSIDE)?.ok_or(Errno::ENODEV)?;
        let message = Message::new(SETLINK, ACK, &link(0, index, 0, 0));
        self.ask(message.bytes(IFLA_ADDRESS, &mac(address)).number(IFLA_MTU, LARGE))
    }

    /// The kind of the route that a socket of this process takes to an address (`rtm_type`), and the number of its link;
    /// 0: it has none.
    pub fn route_to(&mut self, address: IpAddr) -> Result<(u8, u32), Errno> {
        let (family, octets) = match address {
            IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
            IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
        };
        // struct rtmsg; the whole address counts.
        let fixed = [family as u8, (octets.len() * 8) as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let (rta_dst, rta_oif) = (1, 4);
        let answers = self.0.ask(Message::new(GETROUTE, ACK, &fixed).bytes(rta_dst, &octets))?;
        let body = answers.first().ok_or(Errno::EBADMSG)?;
        let kind = *body.get(7).ok_or(Errno::EBADMSG)?;
        let link = attributes(body, fixed.len()).find(|(key, _)| *key == rta_oif);
        let link = link.and_then(|(_, number)| number.try_into().ok()).map_or(0, u32::from_ne_bytes);
        Ok((kind, link))
    }

    /// Whether a link is a bridge of caplet's, behind which other sessions are.
    pub fn is_ours(&mut self, index: u32) -> Result<bool, Errno> {
        Ok(self.name_of(index)?.ok_or(Errno::ENODEV)?.starts_with(BRIDGES))
    }

    fn name_of(&mut self, index: u32) -> Result<Option<String>, Errno> {
        let answers = match self.0.ask(Message::new(GETLINK, ACK, &link(0, index, 0, 0))) {
            Err(Errno::ENODEV) => return Ok(None),
            answers => answers?,
        };
        let name = answers.first().and_then(|body| attributes(body, LINK_FIXED).find(|(kind, _)| *kind == IFLA_IFNAME));
        Ok(name.map(|(_, name)| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()))
    }

    fn add_route(&mut self, index: u32, family: i32, gateway: &[u8]) -> Result<(), Errno> {
        // struct rtmsg: main table, by the administrator, everywhere, unicast
        let fixed = [family as u8, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
        let (rta_oif, rta_gateway) = (4, 5);
        let message = Message::new(NEWROUTE, ACK | CREATE, &fixed);
        self.ask(message.number(rta_oif, index).bytes(rta_gateway, gateway))
    }

    /// Without asking whether somebody else has it: nobody can.
    fn add_address6(&mut self, index: u32, address: Ipv6Addr, subnet: Subnet6) -> Result<(), Errno> {
        let no_dad = 2; // IFA_F_NODAD
        let mut fixed = [libc::AF_INET6 as u8, subnet.prefix, no_dad, 0, 0, 0, 0, 0];
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        let (ifa_address, ifa_local) = (1, 2);
        let message = Message::new(NEWADDR, ACK | CREATE, &fixed);
        self.ask(message.bytes(ifa_local, &address.octets()).bytes(ifa_address, &address.octets()))
    }

    fn add_address(&mut self, index: u32, address: Ipv4Addr, subnet: Subnet) -> Result<(), Errno> {
        let mut fixed = [libc::AF_INET as u8, subnet.prefix, 0, 0, 0, 0, 0, 0];
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        let broadcast = Ipv4Addr::from(u32::from(subnet.address) | !subnet.mask());
        let (ifa_address, ifa_local, ifa_broadcast) = (1, 2, 4);
        let message = Message::new(NEWADDR, ACK | CREATE, &fixed)
            .bytes(ifa_local, &address.octets())
            .bytes(ifa_address, &address.octets())
            .bytes(ifa_broadcast, &broadcast.octets());
        self.ask(message)
    }

    /// An entry of the bridge's own table: `struct ndmsg`, NUD_NOARP (static, and not the bridge itself), NTF_MASTER.
    fn add_neighbour(&mut self, index: u32, mac: [u8; 6]) -> Result<(), Errno> {
        let mut fixed = [libc::AF_BRIDGE as u8, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 4, 0];
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        let (nda_lladdr, replace) = (2, libc::NLM_F_REPLACE as u16);
        let flags = ACK | libc::NLM_F_CREATE as u16 | replace;
        self.ask(Message::new(NEWNEIGH, flags, &fixed).bytes(nda_lladdr, &mac))
    }

    /// Removes the port of that number; one that is not there, or is another link by now, is no error.
    pub fn remove_port(&mut self, index: u32) -> Result<(), Errno> {
        if self.name_of(index)?.and_then(|name| address_of(&name)).is_none() {
            return Ok(());
        }
        match self.ask(Message::new(DELLINK, ACK, &link(0, index, 0, 0))) {
            Err(Errno::ENODEV) => Ok(()),
            done => done,
        }
    }

    /// A link that is not there is no error.
    pub fn remove(&mut self, name: &str) -> Result<(), Errno> {
        match self.ask(Message::new(DELLINK, ACK, &link(0, 0, 0, 0)).text(IFLA_IFNAME, name)) {
            Err(Errno::ENODEV) => Ok(()),
            done => done,
        }
    }
}

/// Writes one of the machine's settings for a link of ours; a kernel without it (no IPv6) has nothing to set.
fn setting(path: &str, value: &str) -> Result<(), Errno> {
    match std::fs::write(format!("/proc/sys/net/{path}"), value) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
        }
        _ => Ok(()),
    }
}

/// Up, perhaps as a port, and with no IPv6 address of its own making: the machine gets no new way in.
fn without_ipv6(index: u32, up: u32, master: Option<u32>) -> Message {
    let none = 1; // IN6_ADDR_GEN_MODE_NONE
    let message = Message::new(SETLINK, ACK, &link(0, index, up, IFF_UP))
        .nest(IFLA_AF_SPEC, &[], |m| m.nest(libc::AF_INET6 as u16, &[], |m| m.byte(INET6_ADDR_GEN_MODE, none)));
    match master {
        Some(master) => message.number(IFLA_MASTER, master),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_its_addresss() {
        let address = Ipv4Addr::new(172, 17, 254, 1);
        assert_eq!(port(address, true), "cpltac11fe01");
        assert_eq!(address_of(&port(address, false)), Some(address));
        assert_eq!(address_of("cpltac11fe01"), Some(address));
        assert_eq!(mac(address), [2, 0xca, 172, 17, 254, 1]);
        assert_eq!(link_local(address).to_string(), "fe80::ca:acff:fe11:fe01");
        for name in ["cplt-lab", "cplt12", "eth0", "cpltxyzxyzxy"] {
            assert_eq!(address_of(name), None, "{name}");
        }
    }
}
