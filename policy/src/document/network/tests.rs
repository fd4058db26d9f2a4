//! Subnets, addresses and names of links, one by one.

use super::*;

#[test]
fn a_subnet_of_ipv6_is_its_network_and_no_host() {
    for good in ["fd00::/16", "fd00:17::/64", "fc00::/96", "2000::/16", "3fff:1::/32"] {
        let subnet = subnet6_of(good).unwrap();
        assert_eq!(subnet.to_string(), good);
        assert_eq!(u128::from(subnet.gateway), u128::from(subnet.address) | 1);
    }
    for bad in ["fd00::/15", "fd00::/97", "fd00::/064", "fd00::/+64", "fd00::/ 64", "fd00::/0", "fd00::/", "fd00::"] {
        assert!(subnet6_of(bad).is_err(), "{bad}");
    }
    for not_for_hosts in ["fe80::/64", "ff02::/64", "::/16", "1fff::/16", "4000::/16", "fb00::/16", "fe00::/16"] {
        assert!(subnet6_of(not_for_hosts).is_err(), "{not_for_hosts}");
    }
    assert!(subnet6_of("fd00:0:0:1::/48").is_err() && subnet6_of("fd00::1:0:0:0/64").is_err());
}

#[test]
fn an_address_of_ipv6_is_a_subnets_or_not() {
    let subnet = subnet6_of("fd00:17::/64").unwrap();
    for (address, inside) in
        [("fd00:17::1", true), ("fd00:17::", false), ("fd00:17:0:1::1", false), ("fd00:16::1", false), ("::1", false)]
    {
        assert_eq!(subnet.has(address.parse().unwrap()), inside, "{address}");
    }
    assert!(subnet.has("fd00:17::ffff:ffff:ffff:ffff".parse().unwrap()));
    assert_eq!(subnet.member("172.17.0.9".parse().unwrap()), "fd00:17::ac11:9".parse::<Ipv6Addr>().unwrap());
    for (other, overlap) in
        [("fd00:17::/64", true), ("fd00:17::/32", true), ("fd00:17:0:1::/64", false), ("fd00:18::/32", false)]
    {
        let other = subnet6_of(other).unwrap();
        assert_eq!((subnet.overlaps(other), other.overlaps(subnet)), (overlap, overlap), "{other}");
    }
}

#[test]
fn an_ipv4_subnet_is_for_hosts_and_its_hosts_are_counted() {
    for bad in ["127.0.0.0/8", "224.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8", "240.0.0.0/8", "255.0.0.0/8"] {
        assert!(subnet_of(bad).is_err(), "{bad}");
    }
    for (text, hosts) in [("10.0.0.0/8", (1 << 24) - 2), ("239.0.0.0/8", 0), ("192.168.7.4/30", 2)] {
        assert_eq!(subnet_of(text).map(Subnet::hosts).unwrap_or(0), hosts, "{text}");
    }
    let subnet = subnet_of("192.168.7.4/30").unwrap();
    for (host, has) in [(3, false), (4, false), (5, true), (6, true), (7, false), (8, false)] {
        assert_eq!(subnet.has_host(Ipv4Addr::new(192, 168, 7, host)), has, "{host}");
    }
    for bad in ["10.0.0.0/7", "10.0.0.0/31", "10.0.0.0/08", "10.0.0.0/+8", "10.1.0.0/8", "10.0.0.0", "10.0.0/8"] {
        assert!(subnet_of(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_route_leads_in_where_either_holds_the_other() {
    let subnet = subnet_of("10.1.0.0/16").unwrap();
    let routes = |link: &str, destination: [u8; 4], mask: [u8; 4]| {
        let number = |octets| u32::from_ne_bytes(octets);
        format!(
            "Iface Destination Gateway Flags RefCnt Use Metric Mask\n{link} {:08X} 00000000 0001 0 0 0 {:08X}\n",
            number(destination),
            number(mask)
        )
    };
    for (destination, mask, leads) in [
        ([10, 1, 2, 0], [255, 255, 255, 0], true),
        ([10, 0, 0, 0], [255, 0, 0, 0], true),
        ([10, 2, 0, 0], [255, 255, 0, 0], false),
        ([0, 0, 0, 0], [0, 0, 0, 0], false), // the default route
    ] {
        let found = subnet.route_into(&routes("eth0", destination, mask), "cplt-a");
        assert_eq!(found.is_some(), leads, "{destination:?}");
        assert_eq!(subnet.route_into(&routes("cplt-a", destination, mask), "cplt-a"), None);
    }
}

#[test]
fn names_of_links_are_the_kernels() {
    for good in ["br0", "a", "br-lab.7", "123456789012345"] {
        assert_eq!(interface(good).unwrap(), good);
    }
    for bad in ["", ".", "..", "a/b", "a:b", "a%b", "a b", "br\u{e4}", "1234567890123456", "cplt-a"] {
        assert!(interface(bad).is_err(), "{bad}");
    }
}
