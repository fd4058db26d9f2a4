//! `[network.NAME]`: sessions that share a bridge, what they reach and what not.

use caplet_lab::network::{Member, nothing_stays, state};
use caplet_lab::{Lab, SharedLab, need, shared};
use std::time::Duration;

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[network.lab]
subnet = "172.17.0.0/16"
gateway = "172.17.254.254"

[network.other]
subnet = "172.18.0.0/24"

[network.apart]
subnet = "172.19.0.0/24"
isolate = true

[network.loose]
subnet = "172.20.0.0/24"
antispoof = false

[network.open]
subnet = "172.21.0.0/24"
host_access = true

[network.tiny]
subnet = "172.22.0.0/30"

[profile.lab]
users = ["*"]
user = "root"
network = "lab"
may_add = ["NET_ADMIN"]

[profile.self]
users = ["*"]
network = "lab"
may_add = ["NET_ADMIN", "NET_RAW"]

[profile.other]
users = ["*"]
user = "root"
network = "other"
may_add = ["NET_ADMIN"]

[profile.apart]
users = ["*"]
user = "root"
network = "apart"
may_add = ["NET_ADMIN"]

[profile.loose]
users = ["*"]
user = "root"
network = "loose"
may_add = ["NET_ADMIN"]

[profile.open]
users = ["*"]
user = "root"
network = "open"

[profile.tiny]
users = ["*"]
network = "tiny"
"#;

fn lab() -> Option<&'static Lab> {
    if !caplet_lab::have("nft") {
        caplet_lab::record_skip("needs nft");
        return None;
    }
    shared(&LAB, || {
        let users = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"];
        users.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &[])).policy(POLICY)
    })
}

/// The line that this project began with, and the words of the blog post around it.
#[test]
fn the_route_of_the_story_works_with_net_admin_and_is_refused_without() {
    need!("route");
    let Some(lab) = lab() else { return };
    let mut without = Member::new(lab, "alice", "lab", &[]);
    let out = without.run("route add -net 192.168.0.0/24 gw 172.17.254.254 eth0");
    assert!(out.contains("SIOCADDRT: Operation not permitted"), "{out}");
    without.end();
    let mut with = Member::new(lab, "alice", "lab", &["--cap-add", "NET_ADMIN"]);
    let out = with.run("route add -net 192.168.0.0/24 gw 172.17.254.254 eth0 && route -n");
    assert!(out.ends_with("code=0"), "{out}");
    let row = |out: &str, row: [&str; 4]| {
        out.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.len() == 8 && [fields[0], fields[1], fields[2], fields[7]] == row
        })
    };
    assert!(row(&out, ["192.168.0.0", "172.17.254.254", "255.255.255.0", "eth0"]), "{out}");
    assert!(row(&out, ["0.0.0.0", "172.17.254.254", "0.0.0.0", "eth0"]), "{out}");
    assert!(row(&out, ["172.17.0.0", "0.0.0.0", "255.255.0.0", "eth0"]), "{out}");
    assert!(!lab.root("ip route").out().contains("192.168.0.0"), "not the machine's");
    let hosts = with.run("getent hosts gateway; hostname -i; cat /etc/hosts");
    assert!(hosts.contains("172.17.254.254") && hosts.contains(&with.address), "{hosts}");
    with.end();
}

#[test]
fn two_members_see_each_other_and_members_of_another_network_do_not() {
    let Some(lab) = lab() else { return };
    let mut bob = Member::new(lab, "bob", "lab", &[]);
    let mut carol = Member::new(lab, "carol", "self", &[]);
    let mut other = Member::new(lab, "dave", "other", &["--cap-add", "NET_ADMIN"]);
    assert_ne!(bob.address, carol.address);
    assert!(bob.pings(&carol.address) && carol.pings(&bob.address));
    assert!(bob.pings("172.17.254.254") && other.pings("172.18.0.1"), "each its gateway");
    // Not by the gateway, and not by a route or an address of one's own making.
    let bobs = bob.address.clone();
    assert!(!other.pings(&bobs) && !bob.pings(&other.address));
    other.run("ip addr add 172.17.9.9/16 dev eth0");
    assert!(!other.pings(&bobs));
    // The machine's own services are not theirs: its other addresses, and the gateway's ports.
    lab.root("ip addr add 10.99.0.1/32 dev lo 2>/dev/null; true");
    assert!(!bob.pings("10.99.0.1"));
    let mut server = lab.task(
        "root",
        [
            "python3",
            "-c",
            "import socket; s=socket.create_server(('0.0.0.0',7007)); print('up',flush=True); s.accept()",
        ],
    );
    server = server.env("PATH", "/usr/bin:/bin").limit(100);
    let server = server.spawn();
    server.wait_for("up");
    for (member, gateway) in [(&mut bob, "172.17.254.254"), (&mut other, "172.18.0.1")] {
        let out = member.run(&format!("timeout 1 bash -c '</dev/tcp/{gateway}/7007'"));
        assert!(out.ends_with("code=124"), "no answer: {out}");
    }
    let mut open = Member::new(lab, "erin", "open", &[]);
    let out = open.run("timeout 5 bash -c '</dev/tcp/172.21.0.1/7007'");
    assert!(out.ends_with("code=0"), "host_access: {out}");
    drop(server);
    // One address stays a user's.
    let address = bob.address.clone();
    bob.end();
    let again = (0..20).find_map(|_| {
        let bob = Member::new(lab, "bob", "lab", &[]);
        let same = bob.address == address;
        bob.end();
        std::thread::sleep(Duration::from_millis(100));
        same.then_some(())
    });
    assert!(again.is_some(), "{address}");
    carol.end();
    other.end();
    open.end();
}

#[test]
fn isolated_members_see_the_gateway_alone() {
    let Some(lab) = lab() else { return };
    let mut one = Member::new(lab, "alice", "apart", &["--cap-add", "NET_ADMIN"]);
    let mut two = Member::new(lab, "bob", "apart", &[]);
    let (a, b) = (one.address.clone(), two.address.clone());
    assert!(one.pings("172.19.0.1") && two.pings("172.19.0.1"));
    assert!(!one.pings(&b) && !two.pings(&a));
    // Nor by way of the gateway, also on a machine that forwards.
    lab.root("sysctl -qw net.ipv4.ip_forward=1");
    one.run(&format!("ip route add {b} via 172.19.0.1"));
    assert!(!one.pings(&b));
    one.end();
    two.end();
}

#[test]
fn nobody_speaks_for_somebody_else() {
    need!("python3", "tcpdump");
    let Some(lab) = lab() else { return };
    let mut mallory = Member::new(lab, "frank", "lab", &["--cap-add", "NET_ADMIN"]);
    let mut victim = Member::new(lab, "grace", "self", &["--cap-add", "NET_RAW"]);
    let mut third = Member::new(lab, "heidi", "lab", &[]);
    let (own, his) = (mallory.address.clone(), victim.address.clone());
    assert!(mallory.pings(&his) && third.pings(&his));
    victim.run("tcpdump -i eth0 -n -U -w /tmp/seen >/dev/null 2>&1 & until [ -s /tmp/seen ]; do sleep 0.05; done");
    // His address, a third one's, the gateway's; another MAC; a frame of each kind that only a gateway sends.
    let program = r#"
import socket, struct, sys
own, third, victim, gateway = (socket.inet_aton(a) for a in sys.argv[1:5])
mac = lambda a: b"\x02\xca" + a
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
def ip(src, dst, proto, body):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, proto, 0, src, dst)
    total = sum(struct.unpack("!10H", head)); total = (total >> 16) + (total & 0xffff); total += total >> 16
    return head[:10] + struct.pack("!H", ~total & 0xffff) + head[12:] + body
def udp(sport, dport, body=b"spoof"):
    return struct.pack("!HHHH", sport, dport, 8 + len(body), 0) + body
def arp(sender_mac, sender, target):
    return struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 2, sender_mac, sender, mac(target), target)
everybody = b"\xff" * 6
frames = [
    (mac(victim), mac(own), 0x800, ip(third, victim, 17, udp(1, 1111))),       # IP of a third
    (mac(victim), mac(own), 0x800, ip(gateway, victim, 17, udp(1, 1112))),     # of the gateway
    (mac(victim), mac(third), 0x800, ip(own, victim, 17, udp(1, 1113))),       # MAC of a third
    (mac(victim), mac(gateway), 0x800, ip(gateway, victim, 17, udp(1, 1114))), # both of the gateway
    (everybody, mac(own), 0x806, arp(mac(own), gateway, victim)),              # ARP: the gateway is me
    (everybody, mac(own), 0x806, arp(mac(gateway), own, victim)),              # ARP: I am at its MAC
    (everybody, mac(own), 0x800, ip(own, b"\xff" * 4, 17, udp(67, 68))),       # DHCP offer
    (everybody, mac(own), 0x800, ip(own, b"\xff" * 4, 17, udp(4444, 68))),     # clients look at its port alone
    (everybody, mac(own), 0x86dd, b"\x60\0\0\0\0\x08\x3a\xff" + b"\xfe\x80" + b"\0" * 13 + b"\1" + b"\xff\x02" + b"\0" * 13 + b"\1" + b"\x86\0\0\0\x40\0\0\x1e"),
    (everybody, mac(own), 0x8100, b"\0\5\x08\0" + ip(own, victim, 17, udp(1, 1115))),  # VLAN 5
    (everybody, mac(own), 0x88cc, b"\0" * 46),                                 # LLDP
    (mac(victim), mac(own), 0x800, ip(own, victim, 17, udp(1, 2222))),         # what is allowed
]
for dst, src, kind, body in frames:
    s.send(dst + src + struct.pack("!H", kind) + body)
"#;
    lab.write("/usr/local/lib/spoof.py", program, 0o644, "root");
    let third_address = third.address.clone();
    let out = mallory.run(&format!("python3 /usr/local/lib/spoof.py {own} {third_address} {his} 172.17.254.254"));
    assert!(out.ends_with("code=0"), "{out}");
    // What is allowed was sent last: where it is there, so are those before it.
    let seen = victim.run(
        "shown() { tcpdump -n -e -r /tmp/seen 2>/dev/null | grep -v ICMP; }; \
         for n in $(seq 100); do shown | grep -q '\\.2222: ' && break; sleep 0.1; done; pkill -INT tcpdump; shown",
    );
    assert!(seen.contains(&format!("{own}.1 > {his}.2222")), "what is its own arrives: {seen}");
    for spoofed in [
        "1111",
        "1112",
        "1113",
        "1114",
        "1115",
        "4444",
        "is-at 02:ca:ac:11:fe:fe",
        "BOOTP",
        "802.1Q",
        "LLDP",
        "IP6",
        "router",
    ] {
        assert!(!seen.contains(spoofed), "{spoofed}: {seen}");
    }
    assert!(!seen.lines().any(|line| line.contains("172.17.254.254 is-at")), "{seen}");
    // By the kernel's own means too.
    for line in [
        format!("ip addr add {third_address}/16 dev eth0; ping -c 1 -W 1 -I {third_address} {his}"),
        format!("ip addr flush dev eth0; ip addr add 172.17.44.44/16 dev eth0; ping -c 1 -W 1 {his}"),
        format!("ip link set eth0 address 02:00:00:00:00:77; ip addr add {own}/16 dev eth0; ping -c 1 -W 1 {his}"),
    ] {
        let out = mallory.run(&line);
        assert!(!out.ends_with("code=0"), "{line}: {out}");
    }
    assert!(third.pings(&his) && victim.pings("172.17.254.254"), "nobody else was harmed");
    // Where the policy lets them, they may.
    let mut loose = Member::new(lab, "ivan", "loose", &["--cap-add", "NET_ADMIN"]);
    let mut near = Member::new(lab, "judy", "loose", &[]);
    let theirs = near.address.clone();
    let out =
        loose.run(&format!("ip addr flush dev eth0; ip addr add 172.20.0.200/24 dev eth0; ping -c 1 -W 2 {theirs}"));
    assert!(out.ends_with("code=0"), "{out}");
    for member in [mallory, victim, third, loose] {
        member.end();
    }
    near.run("true");
    near.end();
}

#[test]
fn a_full_network_refuses_and_what_is_free_again_is_given_again() {
    let Some(lab) = lab() else { return };
    let one = Member::new(lab, "alice", "tiny", &[]);
    let out = lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "tiny", "true"]);
    assert_eq!(
        (out.code(), out.err()),
        (125, "caplet: no session: network \"tiny\" has no free address in 172.22.0.0/30".into())
    );
    one.end();
    let free = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "tiny", "true"]).ok()
    });
    assert!(free);
}

/// A server in a network namespace of its own stands for the outside; what it sees of whoever comes.
const OUTSIDE: &str = r#"
set -e
unshare -n sleep 1000 >/dev/null 2>&1 & echo $! >/run/outside
until [ "$(readlink /proc/$(cat /run/outside)/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add uplink type veth peer name up0 netns $(cat /run/outside)
ip addr add 203.0.113.1/24 dev uplink; ip link set uplink up
inside() { nsenter -t $(cat /run/outside) -n "$@"; }
inside ip link set lo up; inside ip addr add 203.0.113.2/24 dev up0; inside ip link set up0 up
inside ip route add default via 203.0.113.1
inside python3 -c "
import socket
s = socket.create_server(('0.0.0.0', 7008))
while True:
    c, a = s.accept(); c.sendall(a[0].encode()); c.close()
" >/dev/null 2>&1 &
until inside bash -c '</dev/tcp/127.0.0.1/7008' 2>/dev/null; do sleep 0.05; done
"#;

#[test]
fn nat_leads_out_and_without_it_nothing_does() {
    need!("nft", "python3");
    const POLICY: &str = r#"
[network.out]
subnet = "172.17.0.0/16"
nat = true
dns = ["203.0.113.53"]
[network.in]
subnet = "172.18.0.0/16"
[profile.out]
users = ["*"]
user = "root"
network = "out"
may_add = ["NET_ADMIN"]
[profile.in]
users = ["*"]
user = "root"
network = "in"
may_add = ["NET_ADMIN"]
"#;
    let Some(own) = Lab::new().user("alice", &[]).user("bob", &[]).policy(POLICY).start() else { return };
    let lab = &own;
    lab.root("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    lab.write("/root/outside.sh", OUTSIDE, 0o700, "root");
    lab.root("PATH=/usr/sbin:/usr/bin:/sbin:/bin bash /root/outside.sh").expect_ok();
    lab.root("sysctl -qw net.ipv4.ip_forward=0");
    let refused = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "out", "true"]);
    assert!(refused.code() == 125 && refused.err().contains("nat needs net.ipv4.ip_forward = 1"), "{refused}");
    lab.log().wait("refuse", &[("user", "alice"), ("profile", "out")]);
    lab.root("sysctl -qw net.ipv4.ip_forward=1");
    let before = state(lab);
    let mut alice = Member::new(lab, "alice", "out", &["--cap-add", "NET_ADMIN"]);
    let mut bob = Member::new(lab, "bob", "in", &["--cap-add", "NET_ADMIN"]);
    let ask = "timeout 3 bash -c 'exec 3<>/dev/tcp/203.0.113.2/7008; cat <&3'";
    let out = alice.run(ask);
    assert!(out.starts_with("203.0.113.1"), "masked by the machine's own: {out}");
    assert!(alice.run("cat /etc/resolv.conf").starts_with("nameserver 203.0.113.53\n"));
    let out = bob.run(ask);
    assert!(!out.ends_with("code=0"), "{out}");
    // Nobody comes in from there, and no network by way of another.
    let address = alice.address.clone();
    let back = format!("nsenter -t $(cat /run/outside) -n ping -c 1 -W 1 {address} >/dev/null || echo none");
    assert_eq!(lab.root(&back).out(), "none");
    assert!(!alice.pings(&bob.address) && !bob.pings(&address));
    // Rules that somebody flushes are made again by the next start, for those who are there already too.
    lab.root("nft flush ruleset");
    let mut carol = Member::new(lab, "bob", "out", &[]);
    assert!(carol.pings(&address) && alice.pings(&carol.address));
    assert!(alice.run(ask).starts_with("203.0.113.1"));
    let spoof = format!("ip addr add 172.17.99.99/16 dev eth0; ping -c 1 -W 1 -I 172.17.99.99 {}", carol.address);
    assert!(!alice.run(&spoof).ends_with("code=0"), "and watched as before");
    // So are those of an older caplet, which had others and no such mark.
    let mark = lab.root("nft list sets bridge | grep -o 'rules_[0-9a-f]*'").out();
    let older = "nft add rule bridge caplet from_members accept; nft insert rule bridge caplet from_members accept";
    lab.root(&format!("nft delete set bridge caplet {mark}; {older}")).expect_ok();
    assert!(alice.run(&spoof).ends_with("code=0"), "which let it through");
    carol.end();
    let mut carol = Member::new(lab, "bob", "out", &[]);
    assert_eq!(lab.root("nft list sets bridge | grep -o 'rules_[0-9a-f]*'").out(), mark);
    assert!(carol.pings(&address) && !alice.run(&spoof).ends_with("code=0"));
    for member in [alice, bob, carol] {
        member.end();
    }
    nothing_stays(lab, &before);
}

/// A bridge of the administrator's may have a spanning tree, which the kernel hears of before any rule does: no member is
/// part of it.
#[test]
fn no_member_takes_part_in_the_spanning_tree() {
    need!("nft", "python3", "tcpdump");
    const POLICY: &str = r#"
[network.theirs]
subnet = "172.17.0.0/24"
bridge = "br0"
[network.loose]
subnet = "172.18.0.0/24"
bridge = "br1"
antispoof = false
[profile.theirs]
users = ["*"]
network = "theirs"
may_add = ["NET_RAW"]
[profile.loose]
users = ["*"]
network = "loose"
may_add = ["NET_RAW"]
[network.still]
subnet = "172.19.0.0/24"
bridge = "br2"
[network.looser]
subnet = "172.20.0.0/24"
bridge = "br3"
antispoof = false
[profile.still]
users = ["*"]
network = "still"
may_add = ["NET_RAW"]
[profile.looser]
users = ["*"]
network = "looser"
may_add = ["NET_RAW"]
"#;
    let Some(own) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    let lab = &own;
    lab.root("for l in br0 br1; do ip link add $l type bridge stp_state 1; ip link set $l up; done");
    lab.root("for l in br2 br3; do ip link add $l type bridge stp_state 0; ip link set $l up; done");
    lab.root("ip link add near type veth peer name far; ip link set near master br0 up; ip link set far up");
    let program = r#"
import socket, struct, sys, time
mac = b"\x02\0\0\0\0\1"
best = b"\0\0" + mac
bpdu = b"\x42\x42\3" + b"\0\0\0\0\0" + best + b"\0\0\0\0" + best + b"\x80\1" + struct.pack("<4H", 0, 20, 2, 15)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0))
for n in range(5):
    s.send(b"\1\x80\xc2\0\0\0" + mac + struct.pack("!H", len(bpdu)) + bpdu)
    time.sleep(0.1)
"#;
    lab.write("/usr/local/lib/bpdu.py", program, 0o644, "root");
    let of = |bridge: &str, what: &str| lab.read(&format!("/sys/class/net/{bridge}/bridge/{what}"));
    for (profile, bridge) in [("theirs", "br0"), ("loose", "br1")] {
        let mut alice = Member::new(lab, "alice", profile, &["--cap-add", "NET_RAW"]);
        let out = alice.run("python3 /usr/local/lib/bpdu.py eth0");
        assert!(out.ends_with("code=0"), "{out}");
        assert_eq!(of(bridge, "root_id"), of(bridge, "bridge_id"), "{profile}");
        alice.end();
    }
    // A bridge without one hands its words on, and not a member's.
    for (profile, bridge) in [("still", "br2"), ("looser", "br3")] {
        let far = format!("far-{bridge}");
        lab.root(&format!("ip link add near-{bridge} type veth peer name {far}; ip link set near-{bridge} master {bridge} up; ip link set {far} up"));
        let hears = ["tcpdump", "-i", &far, "-n", "-U", "--immediate-mode", "-w", "/tmp/heard"];
        let mut heard = lab.task("root", hears).spawn();
        assert!(lab.until(|| lab.sh("root", "test -s /tmp/heard").ok()));
        let mut alice = Member::new(lab, "alice", profile, &["--cap-add", "NET_RAW"]);
        alice.run("python3 /usr/local/lib/bpdu.py eth0; ping -c 1 -W 1 255.255.255.255 -b; true");
        alice.end();
        lab.root("pkill -INT tcpdump");
        heard.wait();
        let seen = lab.root("tcpdump -n -e -r /tmp/heard; rm /tmp/heard").out();
        assert!(!seen.contains("01:80:c2:00:00:00") && seen.contains("02:ca:"), "{profile}: {seen}");
    }
    // What it hears from a port that is no member's it takes.
    lab.root("python3 /usr/local/lib/bpdu.py far").expect_ok();
    assert_eq!(of("br0", "root_id"), "0000.020000000001\n");
}

/// The README's routing course, as it is written: three students, one router, static routes.
#[test]
fn the_routing_course_works_as_it_is_written() {
    let Some(_) = lab() else { return };
    let readme = include_str!("../../README.md");
    let (_, page) = readme.split_once("**A routing course").expect("the page");
    let blocks: Vec<&str> = page.split("```").skip(1).step_by(2).take(4).collect();
    let [policy, student, router_lines, trial] = blocks[..] else { panic!("{blocks:?}") };
    let users = ["alice", "bob", "carol", "tom"];
    let lab = users.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &["students"]));
    let Some(lab) = lab.policy(policy.strip_prefix("toml").expect("a policy")).start() else { return };
    let mut members = users.map(|user| Member::new(&lab, user, "routing", &["--cap-add", "NET_ADMIN"]));
    let addresses = std::array::from_fn::<_, 4, _>(|n| members[n].address.clone());
    let told = users.iter().zip(&addresses).map(|(user, address)| format!("{user}={address}\n")).collect::<String>();
    let told = format!("{told}router={}\n", addresses[3]);
    let lines = |block: &str| -> Vec<String> {
        block.lines().skip(1).filter(|l| !l.starts_with('#') && !l.is_empty()).map(str::to_owned).collect()
    };
    let mut run = |member: usize, line: &str| {
        let out = members[member].run(&format!("{} {line}", told.replace('\n', "; ")));
        assert!(out.ends_with("code=0"), "{line}: {out}");
        out
    };
    for n in 1..=3 {
        for line in lines(student) {
            run(n - 1, &line.replace("10.1.", &format!("10.{n}.")));
        }
    }
    for line in lines(router_lines) {
        run(3, &line);
    }
    let [ping, trace] = &lines(trial)[..] else { panic!("{trial}") };
    assert!(run(0, ping).contains("ttl=63"), "by way of the router");
    if caplet_lab::have("traceroute") {
        assert!(run(0, trace).contains(&addresses[3]));
    }
    run(2, "ping -c 1 -I 10.3.0.1 10.1.0.1");
    members.into_iter().for_each(Member::end);
}

/// IPv6 beside IPv4: an address that is made of the other one, a gateway, and nobody who speaks for somebody else.
#[test]
fn a_network_with_ipv6() {
    need!("nft", "python3");
    const POLICY: &str = r#"
[network.six]
subnet = "172.17.0.0/16"
subnet6 = "fd00:17::/64"
nat = true
[network.four]
subnet = "172.18.0.0/16"
[profile.six]
users = ["*"]
user = "root"
network = "six"
may_add = ["NET_ADMIN"]
[profile.self]
users = ["*"]
network = "six"
may_add = ["NET_RAW"]
[profile.four]
users = ["*"]
user = "root"
network = "four"
"#;
    let users = ["alice", "bob", "carol", "dave"];
    let lab = users.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &[])).policy(POLICY);
    let Some(lab) = lab.start() else { return };
    lab.root("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=0");
    let refused = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "six", "true"]);
    assert!(refused.err().contains("nat with a subnet6 needs IPv6 forwarding"), "{refused}");
    lab.root("sysctl -qw net.ipv6.conf.all.forwarding=1");
    lab.root("ip link add uplink type veth peer name far; for l in uplink far; do ip link set $l addrgenmode none up; done; ip -6 addr add 2001:db8::1/64 dev uplink nodad");
    let before = state(&lab);
    let four = Member::new(&lab, "dave", "four", &[]);
    let mut alice = Member::new(&lab, "alice", "six", &["--cap-add", "NET_ADMIN"]);
    let mut bob = Member::new(&lab, "bob", "self", &["--cap-add", "NET_RAW"]);
    let mut carol = Member::new(&lab, "carol", "six", &[]);
    let sixth = |member: &Member| {
        let bits = u32::from(member.address.parse::<std::net::Ipv4Addr>().expect("an address"));
        std::net::Ipv6Addr::from(
            u128::from("fd00:17::".parse::<std::net::Ipv6Addr>().expect("a subnet")) | u128::from(bits),
        )
        .to_string()
    };
    let (a, b, c) = (sixth(&alice), sixth(&bob), sixth(&carol));
    assert!(alice.run("ip -6 -br addr show eth0").contains(&format!("{a}/64")));
    assert!(alice.run("ip -6 route").contains("default via fd00:17::1"));
    assert!(alice.pings(&b) && bob.pings(&a) && carol.pings("fd00:17::1"), "each other, and the gateway");
    assert!(alice.run("cat /etc/hosts").contains("fd00:17::1 gateway"));
    assert!(!alice.pings("2001:db8::1"), "the machine's own addresses are not theirs");
    bob.run("tcpdump -i eth0 -n -U -w /tmp/seen >/dev/null 2>&1 & sleep 0.7");
    let program = r#"
import socket, struct, sys
own, third, victim = (socket.inet_pton(socket.AF_INET6, a) for a in sys.argv[1:4])
gateway = socket.inet_pton(socket.AF_INET6, "fd00:17::1")
mac = lambda a: b"\x02\xca" + a[12:]
local = lambda a: b"\xfe\x80" + b"\0" * 6 + b"\x00\xca" + a[12:13] + b"\xff\xfe" + a[13:16]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
def sums(data):
    data += b"\0" * (len(data) % 2)
    t = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while t >> 16: t = (t & 0xffff) + (t >> 16)
    return ~t & 0xffff
def ip6(src, dst, proto, body, hops=255):
    pseudo = src + dst + struct.pack("!IHBB", len(body), 0, 0, proto)
    at = 2 if proto == 58 else 6
    body = body[:at] + struct.pack("!H", sums(pseudo + body)) + body[at + 2:]
    return struct.pack("!IHBB", 6 << 28, len(body), proto, hops) + src + dst + body
udp = lambda port, source=1: struct.pack("!HHHH", source, port, 13, 0) + b"spoof"
advert = lambda target, hw: b"\x88\0\0\0\x60\0\0\0" + target + b"\2\1" + hw
all_nodes = socket.inet_pton(socket.AF_INET6, "ff02::1")
to = lambda a: mac(a)
multi = b"\x33\x33\0\0\0\1"
frames = [
    (to(victim), mac(own), ip6(third, victim, 17, udp(1111))),
    (to(victim), mac(third), ip6(third, victim, 17, udp(1112))),
    (to(victim), mac(own), ip6(gateway, victim, 17, udp(1113))),
    (multi, mac(own), ip6(local(own), all_nodes, 58, b"\x86\0\0\0\x40\0\7\x08" + b"\0" * 8)),          # a router
    (to(victim), mac(own), ip6(local(own), victim, 58, b"\x89\0\0\0\0\0\0\0" + third + third)),        # a redirect
    (to(victim), mac(own), ip6(own, victim, 58, advert(third, mac(own)))),                              # a third is me
    (multi, mac(own), ip6(own, all_nodes, 58, advert(gateway, mac(own)))),                              # the gateway is me
    (to(victim), mac(own), ip6(own, victim, 17, udp(546, 5555))),                                       # a client looks at it alone
    (to(victim), mac(own), ip6(own, victim, 17, udp(546, 547))),                                        # DHCPv6
    (to(victim), mac(own), ip6(own, victim, 17, udp(2222))),                                            # what is allowed
    (to(victim), mac(own), ip6(own, victim, 58, advert(own, mac(own)))),
]
for dst, src, body in frames:
    s.send(dst + src + b"\x86\xdd" + body)
"#;
    lab.write("/usr/local/lib/spoof6.py", program, 0o644, "root");
    let out = alice.run(&format!("python3 /usr/local/lib/spoof6.py {a} {c} {b}"));
    assert!(out.ends_with("code=0"), "{out}");
    let seen = bob.run("sleep 0.7; pkill -INT tcpdump; sleep 0.3; tcpdump -n -e -r /tmp/seen 2>/dev/null");
    assert!(seen.contains(&format!("{a}.1 > {b}.2222")), "what is its own arrives: {seen}");
    assert!(seen.contains(&format!("tgt is {a}")), "{seen}");
    for spoofed in [
        ".1111:",
        ".1112:",
        ".1113:",
        "router advertisement",
        "redirect",
        ".546:",
        &format!("tgt is {c}"),
        "tgt is fd00:17::1",
    ] {
        let told = seen.lines().filter(|line| line.contains(spoofed)).filter(|line| {
            // The gateway's and the third's own words are theirs.
            line.contains(&format!("02:ca:{}", "ac:11")) && line.contains(&mac_of(&alice.address))
        });
        assert_eq!(told.collect::<Vec<_>>(), Vec::<&str>::new(), "{spoofed}");
    }
    assert!(carol.pings(&b) && bob.pings("fd00:17::1"), "nobody was harmed");
    for member in [four, alice, bob, carol] {
        member.end();
    }
    nothing_stays(&lab, &before);
}

fn mac_of(address: &str) -> String {
    let octets = address.parse::<std::net::Ipv4Addr>().expect("an address").octets();
    octets.iter().fold("02:ca".to_owned(), |mac, octet| format!("{mac}:{octet:02x}"))
}

/// Frames to 01:80:c2:00:00:0e pass no hook of the bridge: the machine hears none, and learns nothing from them.
#[test]
fn what_goes_round_the_bridge_reaches_nobody() {
    need!("nft", "python3");
    let lab = Lab::new().user("alice", &[]).user("bob", &[]).user("carol", &[]).policy(POLICY);
    let Some(own) = lab.start() else { return };
    let lab = &own;
    lab.root(
        "sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.default.accept_ra=1 net.ipv4.conf.all.rp_filter=0 \
         net.ipv4.conf.default.rp_filter=0",
    );
    let listener = "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('0.0.0.0',7009))\n\
        print('up',flush=True)\nwhile True: print('heard', s.recv(99), flush=True)";
    lab.write("/usr/local/lib/round.py", ROUND, 0o644, "root");
    for profile in ["lab", "loose"] {
        let mut alice = Member::new(lab, "alice", profile, &[]);
        let mut bob = Member::new(lab, "bob", profile, &[]);
        let mut carol = Member::new(lab, "carol", profile, &[]);
        let gateway = alice.run("ip route show default").split_whitespace().nth(2).expect("a gateway").to_owned();
        let udp = lab.task("root", ["python3", "-c", listener]).env("PATH", "/usr/bin:/bin").limit(100).spawn();
        udp.wait_for("up");
        let (a, b) = (alice.address.clone(), bob.address.clone());
        let out = alice.run(&format!("python3 /usr/local/lib/round.py {a} {b} {gateway}"));
        assert!(out.ends_with("code=0"), "{out}");
        std::thread::sleep(Duration::from_millis(700));
        let routes = lab.root("ip -6 route; ip -6 addr").out();
        assert!(!routes.contains("bad"), "{profile}: {routes}");
        assert!(!udp.out_so_far().contains("heard"), "{profile}: {}", udp.out_so_far());
        assert!(carol.pings(&b) && bob.pings(&gateway), "{profile}: the victim is where it was");
        assert_eq!(lab.root("bridge fdb | grep -c 02:11 || true").out(), "0", "{profile}");
        for member in [alice, bob, carol] {
            member.end();
        }
    }
}

const ROUND: &str = r#"
import socket, struct, sys
own, victim, gateway = (socket.inet_aton(a) for a in sys.argv[1:4])
mac = lambda a: b"\x02\xca" + a
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
round_it = b"\x01\x80\xc2\0\0\x0e"
def sums(data):
    t = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while t >> 16: t = (t & 0xffff) + (t >> 16)
    return ~t & 0xffff
src, dst = socket.inet_pton(socket.AF_INET6, "fe80::bad"), socket.inet_pton(socket.AF_INET6, "ff02::1")
prefix = socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
ra = b"\x86\0\0\0\x40\0\x07\x08" + b"\0" * 8 + b"\3\4\x40\xc0" + b"\0\1\0\0" * 2 + b"\0" * 4 + prefix
pseudo = src + dst + struct.pack("!IHBB", len(ra), 0, 0, 58)
ra = ra[:2] + struct.pack("!H", sums(pseudo + ra)) + ra[4:]
ip6 = struct.pack("!IHBB", 6 << 28, len(ra), 58, 255) + src + dst + ra
body = struct.pack("!HHHH", 1, 7009, 13, 0) + b"round"
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0, own, gateway)
head = head[:10] + struct.pack("!H", sums(head)) + head[12:]
for _ in range(20):
    s.send(round_it + mac(own) + b"\x86\xdd" + ip6)                    # a route for the machine
    s.send(round_it + mac(victim) + b"\x08\0" + head + body)          # the victim is at my port
    s.send(round_it + mac(own) + b"\x08\0" + head + body)             # a word to a service of the machine's
    s.send(b"\x33\x33\0\0\0\1" + mac(own) + b"\x86\xdd" + ip6)      # the same route, by the straight way
for n in range(3000):
    s.send(round_it + struct.pack("!HI", 0x0211, n) + b"\x08\0" + head + body)
"#;
