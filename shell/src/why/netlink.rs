//! Refusals that no call returns: netlink answers sendmsg(2) with success, and later says NLMSG_ERROR (netlink(7)).

use super::rules::{Reach, Verdict};
use std::collections::HashMap;

/// A refused message: its type, and the errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub kind: u16,
    pub errno: i32,
    /// Of generic netlink, where the answer repeats what was asked.
    pub command: Option<u8>,
}

/// A family of generic netlink: its name, and which flags each command has (linux/genetlink.h).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Family {
    pub name: String,
    pub commands: HashMap<u32, u32>,
}

/// GENL_ADMIN_PERM: of the machine. GENL_UNS_ADMIN_PERM: of the network namespace.
const ADMIN: u32 = 1;
const UNS_ADMIN: u32 = 0x10;
/// GENL_ID_CTRL
const CONTROL: u16 = 16;

const NLMSG_ERROR: u16 = 2;

/// The refusals among what a socket has received.
pub fn refused(mut bytes: &[u8]) -> Vec<Refused> {
    let mut found = Vec::new();
    let u16_at = |bytes: &[u8], at: usize| bytes.get(at..at + 2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    let u32_at = |bytes: &[u8], at: usize| bytes.get(at..at + 4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        if let (NLMSG_ERROR, Some(error), Some(kind)) = (kind, u32_at(bytes, 16), u16_at(bytes, 24)) {
            let errno = (error as i32).wrapping_neg();
            if [libc::EPERM, libc::EACCES].contains(&errno) {
                found.push(Refused { kind, errno, command: bytes.get(36).filter(|_| length > 36).copied() });
            }
        }
        let next = (length as usize).max(16).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    found
}

/// The families that the kernel has told a socket of generic netlink about, by their numbers.
pub fn families(mut bytes: &[u8]) -> Vec<(u16, Family)> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (number(bytes, 0, 4), number(bytes, 4, 2)) {
        let message = bytes.get(20..(length as usize).min(bytes.len())).unwrap_or_default();
        if kind == u32::from(CONTROL) {
            let mut family = Family::default();
            let mut id = None;
            for (kind, value) in attributes(message) {
                match kind {
                    1 => id = number(value, 0, 2),
                    2 => family.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
                    6 => {
                        for (_, command) in attributes(value) {
                            let of = |wanted| attributes(command).into_iter().find(|(kind, _)| *kind == wanted);
                            let number = |wanted| of(wanted).and_then(|(_, value)| number(value, 0, 4));
                            if let (Some(command), Some(flags)) = (number(1), number(2)) {
                                family.commands.insert(command, flags);
                            }
                        }
                    }
                    _ => {}
                }
            }
            found.extend(id.map(|id| (id as u16, family)));
        }
        bytes = bytes.get((length as usize).max(16).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// struct nlattr: length, type, value; the next one at a multiple of four.
fn attributes(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (number(bytes, 0, 2), number(bytes, 2, 2)) {
        let Some(value) = bytes.get(4..length as usize) else { break };
        found.push((kind & 0x3fff, value));
        bytes = bytes.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    let mut whole = [0; 4];
    // Little end first on the machines that there are.
    whole[..length].copy_from_slice(bytes.get(at..at + length)?);
    Some(u32::from_le_bytes(whole))
}

/// Generic netlink: GENL_ADMIN_PERM asks the machine, GENL_UNS_ADMIN_PERM the network namespace.
pub fn generic(family: Option<&Family>, refused: &Refused) -> (String, Verdict) {
    let Some(family) = family else { return meaning(16, refused.kind) };
    let flags: Vec<u32> = match refused.command.and_then(|command| family.commands.get(&u32::from(command))) {
        Some(flags) => vec![*flags],
        None => family.commands.values().copied().filter(|flags| flags & (ADMIN | UNS_ADMIN) != 0).collect(),
    };
    let machine = Verdict::needs(&["NET_ADMIN"], Reach::Machine);
    let verdict = match flags.iter().fold((false, false), |(m, n), f| (m || f & ADMIN != 0, n || f & UNS_ADMIN != 0)) {
        (true, false) => machine.because("the family asks for the machine's own"),
        (false, true) => network(),
        _ => network().because("it may ask for the machine's own").unsure(),
    };
    (format!("a message of {}", family.name), verdict)
}

/// What a refusal by that protocol of netlink means, and how its message is called.
pub fn meaning(protocol: u16, kind: u16) -> (String, Verdict) {
    let (name, verdict) = match protocol {
        // net/core/rtnetlink.c: netlink_net_capable(CAP_NET_ADMIN)
        0 => (route(kind).map_or_else(|| format!("rtnetlink message {kind}"), str::to_owned), network()),
        // kernel/audit.c: audit_netlink_ok
        9 if (1100..1200).contains(&kind) || (2100..3000).contains(&kind) => {
            ("an audit record of a user".into(), Verdict::needs(&["AUDIT_WRITE"], Reach::Machine))
        }
        9 => (format!("audit message {kind}"), Verdict::needs(&["AUDIT_CONTROL"], Reach::Machine)),
        // net/netfilter/nfnetlink.c
        12 => (netfilter(kind).into(), network()),
        // net/netlink/genetlink.c: GENL_ADMIN_PERM asks the machine, GENL_UNS_ADMIN_PERM the network namespace
        16 => {
            let which = "some families (taskstats, for one) ask for the machine's own";
            (format!("generic netlink message {kind}"), network().because(which).unsure())
        }
        6 => (format!("xfrm (IPsec) message {kind}"), network()),
        20 => (format!("rdma message {kind}"), network()),
        other => (format!("message {kind} of netlink protocol {other}"), network().unsure()),
    };
    (name, verdict)
}

fn network() -> Verdict {
    Verdict::needs(&["NET_ADMIN"], Reach::Network)
}

/// linux/rtnetlink.h
fn route(kind: u16) -> Option<&'static str> {
    Some(match kind {
        16 => "RTM_NEWLINK",
        17 => "RTM_DELLINK",
        19 => "RTM_SETLINK",
        20 => "RTM_NEWADDR",
        21 => "RTM_DELADDR",
        24 => "RTM_NEWROUTE",
        25 => "RTM_DELROUTE",
        28 => "RTM_NEWNEIGH",
        29 => "RTM_DELNEIGH",
        32 => "RTM_NEWRULE",
        33 => "RTM_DELRULE",
        36 => "RTM_NEWQDISC",
        37 => "RTM_DELQDISC",
        40 => "RTM_NEWTCLASS",
        44 => "RTM_NEWTFILTER",
        88 => "RTM_NEWNSID",
        _ => return None,
    })
}

/// linux/netfilter/nfnetlink.h: the subsystem is the upper byte.
fn netfilter(kind: u16) -> &'static str {
    match kind >> 8 {
        1 | 2 | 7 | 8 | 9 => "a conntrack message",
        6 => "an ipset message",
        10 => "an nftables message",
        _ => "a netfilter message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, error: i32, of: u16) -> Vec<u8> {
        let mut bytes = 36u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(error.to_ne_bytes());
        bytes.extend(32u32.to_ne_bytes());
        bytes.extend(of.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes
    }

    #[test]
    fn an_error_is_found_among_other_messages() {
        let bytes = [message(16, 0, 0), message(2, 0, 16), message(2, -1, 24), message(2, -2, 16)].concat();
        assert_eq!(refused(&bytes), [Refused { kind: 24, errno: libc::EPERM, command: None }]);
        assert_eq!(refused(&bytes[..20]), []);
        assert_eq!(refused(&[0; 40]), []);
    }

    /// A family `x` of number 30, with one command of those flags.
    fn told(flags: u32) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let command = [attribute(1, &7u32.to_ne_bytes()), attribute(2, &flags.to_ne_bytes())].concat();
        let body = [
            vec![1, 2, 0, 0],
            attribute(2, b"x\0"),
            attribute(1, &30u16.to_ne_bytes()),
            attribute(0x8006, &attribute(1, &command)),
        ]
        .concat();
        let mut bytes = (body.len() as u32 + 16).to_ne_bytes().to_vec();
        bytes.extend(CONTROL.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_familys_own_flags_say_whom_it_asks() {
        for (flags, reach, sure) in
            [(1, Reach::Machine, true), (0x10, Reach::Network, true), (0, Reach::Network, false)]
        {
            let families = families(&told(flags));
            assert_eq!((families[0].0, families[0].1.name.as_str()), (30, "x"));
            let refused = Refused { kind: 30, errno: libc::EPERM, command: Some(7) };
            let (name, verdict) = generic(Some(&families[0].1), &refused);
            assert_eq!((name.as_str(), verdict.reach, verdict.sure), ("a message of x", reach, sure));
        }
        assert_eq!(families(&[0xff; 64]), []);
    }

    #[test]
    fn protocols_ask_for_their_own() {
        let needs = |protocol, kind| meaning(protocol, kind).1;
        assert_eq!(needs(0, 16), Verdict::needs(&["NET_ADMIN"], Reach::Network));
        assert_eq!(needs(9, 1107), Verdict::needs(&["AUDIT_WRITE"], Reach::Machine));
        assert_eq!(needs(9, 1000), Verdict::needs(&["AUDIT_CONTROL"], Reach::Machine));
        assert!(!needs(16, 20).sure);
        assert_eq!(meaning(0, 24).0, "RTM_NEWROUTE");
    }
}
