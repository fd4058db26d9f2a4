//! Refusals that no call returns: netlink answers sendmsg(2) with success, and later says NLMSG_ERROR (netlink(7)).

use super::rules::{Reach, Verdict};

/// A refused message: its type, and the errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub kind: u16,
    pub errno: i32,
}

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
                found.push(Refused { kind, errno });
            }
        }
        let next = (length as usize).max(16).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    found
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
        assert_eq!(refused(&bytes), [Refused { kind: 24, errno: libc::EPERM }]);
        assert_eq!(refused(&bytes[..20]), []);
        assert_eq!(refused(&[0; 40]), []);
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
