//! What a session's frames may reach by way of passt(1), which by itself would send anything anywhere: never the machine
//! itself (unless the policy opens it), by none of its addresses, nor the networks of its other sessions. The kernel is
//! asked which way each destination goes; what it does not know, and all that is not for one host, stays inside.

use super::links::Links;
use crate::sys::process;
use caplet_policy::document::Lan;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// An Ethernet header without a tag.
pub const HEADER: usize = 14;
pub const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const SOLICITATION: u8 = 135; // RFC 4861, 4.3
const DNS: u16 = 53;
/// How long an answer of the kernel's is believed: an address that the machine takes is its own soon.
const FRESH: Duration = Duration::from_secs(2);
/// So many answers are kept: a scan of the whole world needs no more.
const MANY: usize = 4096;

/// `rtm_type` (rtnetlink(7)) of a route to one host or by a gateway, and of one that ends on this machine.
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;

/// What is open to one session.
#[derive(Debug)]
pub struct Reach {
    machine: bool,
    ipv6: bool,
    /// Asked for names, it answers: nothing else of that address does.
    resolver: Option<Ipv4Addr>,
    gateways: Vec<IpAddr>,
    known: BTreeMap<IpAddr, (bool, Duration)>,
}

/// Where a frame wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// passt alone hears it.
    Stack,
    /// To the kernel's sockets, there.
    To(IpAddr),
    Nowhere,
}

impl Reach {
    pub fn of(lan: &Lan) -> Self {
        let gateways = [Some(lan.gateway.into()), lan.subnet6.map(|subnet| subnet.gateway.into())];
        Self {
            machine: lan.host_access,
            ipv6: lan.subnet6.is_some(),
            resolver: lan.dns.is_empty().then_some(lan.outgoing_addresses().0),
            gateways: gateways.into_iter().flatten().collect(),
            known: BTreeMap::new(),
        }
    }

    /// Whether a frame of the session's may go.
    pub fn lets_out(&mut self, frame: &[u8], links: &mut Links) -> bool {
        match self.way(frame) {
            Some(Way::Stack) => true,
            Some(Way::To(address)) => self.is_open(address, links),
            Some(Way::Nowhere) | None => false,
        }
    }

    /// `None`: too short to say.
    fn way(&self, frame: &[u8]) -> Option<Way> {
        let packet = frame.get(HEADER..)?;
        Some(match word(frame, 12)? {
            ARP => Way::Stack,
            IPV4 if packet.first()? >> 4 == 4 => {
                let to = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
                match Some(to) == self.resolver && is_question(packet)? {
                    true => Way::Stack,
                    false if is_host(to) => Way::To(to.into()),
                    false => Way::Nowhere,
                }
            }
            IPV6 if self.ipv6 && packet.first()? >> 4 == 6 => {
                let to = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?);
                match *packet.get(6)? == ICMP6 && *packet.get(40)? == SOLICITATION {
                    true => Way::Stack,
                    false if is_host6(to) => Way::To(to.into()),
                    false => Way::Nowhere,
                }
            }
            _ => Way::Nowhere,
        })
    }

    fn is_open(&mut self, address: IpAddr, links: &mut Links) -> bool {
        if self.machine && self.gateways.contains(&address) {
            return true; // stands for the machine's loopback
        }
        let now = process::boot_time();
        if let Some((open, until)) = self.known.get(&address) {
            if now < *until {
                return *open;
            }
        }
        let open = match links.route_to(address) {
            Ok((UNICAST, link)) => !links.is_ours(link).unwrap_or(true),
            Ok((LOCAL, _)) => self.machine,
            Ok(_) | Err(_) => false,
        };
        if self.known.len() >= MANY {
            self.known.clear();
        }
        self.known.insert(address, (open, now + FRESH));
        open
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Whether an IPv4 packet is for a name server, and no later part of another.
fn is_question(packet: &[u8]) -> Option<bool> {
    let head = usize::from(packet.first()? & 0xf) * 4;
    let is_first = word(packet, 6)? & 0x1fff == 0;
    Some(is_first && [TCP, UDP].contains(packet.get(9)?) && word(packet, head + 2)? == DNS)
}

/// Neither this host, nor many (RFC 1122, 3.2.1.3). Connected to, 0.0.0.0 is the machine.
fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 224
}

/// Global unicast or unique local (RFC 4291, RFC 4193): no link-local ones, no IPv4 address in disguise.
fn is_host6(address: Ipv6Addr) -> bool {
    let first = address.octets()[0];
    first >> 5 == 1 || first >> 1 == 0x7e
}

#[cfg(test)]
mod tests {
    use super::*;
    use caplet_policy::document::{Document, Source};

    fn reach(keys: &str) -> Reach {
        let text = format!("[network.out]\nkind = \"outgoing\"\n{keys}");
        let document = Document::read(&[Source { path: "p".into(), text }]).unwrap();
        Reach::of(&document.networks[0])
    }

    fn frame(ethertype: u16, packet: &[u8]) -> Vec<u8> {
        [&[2u8; 12][..], &ethertype.to_be_bytes(), packet].concat()
    }

    fn ipv4(to: [u8; 4], protocol: u8, port: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 173, 0, 3];
        packet.extend(to);
        packet.extend([0x99, 0x99]);
        packet.extend(port.to_be_bytes());
        packet
    }

    fn ipv6(to: &str, next: u8, kind: u8) -> Vec<u8> {
        let mut packet = vec![0u8; 41];
        (packet[0], packet[6], packet[40]) = (0x60, next, kind);
        packet[24..40].copy_from_slice(&to.parse::<Ipv6Addr>().unwrap().octets());
        packet
    }

    #[test]
    fn only_one_hosts_address_is_a_way() {
        let reach = reach("");
        let way = |to| reach.way(&frame(IPV4, &ipv4(to, TCP, 80)));
        assert_eq!(way([203, 0, 113, 9]), Some(Way::To(Ipv4Addr::new(203, 0, 113, 9).into())));
        for to in [[0, 0, 0, 0], [0, 1, 2, 3], [224, 0, 0, 251], [240, 0, 0, 1], [255, 255, 255, 255]] {
            assert_eq!(way(to), Some(Way::Nowhere), "{to:?}");
        }
        assert_eq!(reach.way(&frame(ARP, &[0; 28])), Some(Way::Stack));
        for other in [0x8100, 0x88a8, 0x8863, 0x0000] {
            assert_eq!(reach.way(&frame(other, &ipv4([203, 0, 113, 9], TCP, 80))), Some(Way::Nowhere), "{other:x}");
        }
        // A header that says another version, and frames cut off anywhere.
        assert_eq!(reach.way(&frame(IPV4, &ipv6("2001:db8::1", TCP, 0))), Some(Way::Nowhere));
        let whole = frame(IPV4, &ipv4([203, 0, 113, 9], TCP, 80));
        assert!((0..HEADER + 20).all(|length| reach.way(&whole[..length]).is_none_or(|way| way == Way::Nowhere)));
    }

    #[test]
    fn of_the_name_server_only_questions_pass_unasked() {
        let reach = reach("");
        let resolver = [10, 173, 0, 2];
        let way = |packet: &[u8]| reach.way(&frame(IPV4, packet)).unwrap();
        assert_eq!(way(&ipv4(resolver, UDP, 53)), Way::Stack);
        assert_eq!(way(&ipv4(resolver, TCP, 53)), Way::Stack);
        let there = Way::To(Ipv4Addr::from(resolver).into());
        assert_eq!(way(&ipv4(resolver, TCP, 22)), there);
        assert_eq!(way(&ipv4(resolver, 1, 53)), there);
        let mut part = ipv4(resolver, UDP, 53);
        part[7] = 1;
        assert_eq!(way(&part), there);
        // The port is where the header's own length says.
        let mut long = ipv4(resolver, UDP, 53);
        long[0] = 0x46;
        long.extend([0, 22, 0, 22]);
        assert_eq!(way(&long), there);
        assert_eq!(self::reach("dns = ['192.0.2.53']").way(&frame(IPV4, &ipv4(resolver, UDP, 53))), Some(there));
    }

    #[test]
    fn ipv6_only_where_it_was_asked_for_and_in_no_disguise() {
        assert_eq!(reach("").way(&frame(IPV6, &ipv6("2001:db8::1", TCP, 0))), Some(Way::Nowhere));
        let reach = reach("subnet6 = 'fd00::/64'");
        let way = |packet: &[u8]| reach.way(&frame(IPV6, packet)).unwrap();
        assert_eq!(way(&ipv6("2001:db8::1", TCP, 0)), Way::To("2001:db8::1".parse().unwrap()));
        assert_eq!(way(&ipv6("fd00::1", UDP, 0)), Way::To("fd00::1".parse().unwrap()));
        for to in ["::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fe80::1", "ff02::fb", "fec0::1"] {
            assert_eq!(way(&ipv6(to, TCP, 0)), Way::Nowhere, "{to}");
        }
        assert_eq!(way(&ipv6("ff02::1:ff00:1", ICMP6, SOLICITATION)), Way::Stack);
        assert_eq!(way(&ipv6("ff02::1", ICMP6, 128)), Way::Nowhere);
    }
}
