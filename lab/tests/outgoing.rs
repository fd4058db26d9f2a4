//! `kind = "outgoing"`: a way out for one session alone, what it reaches and what not, and that nothing of the machine is
//! touched by it.

use caplet_lab::{Lab, ProcStatus, Running, Session, SharedLab, need, shared};
use nix::sys::signal::Signal;
use std::time::Duration;

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[network.out]
kind = "outgoing"

[network.open]
kind = "outgoing"
host_access = true

[network.six]
kind = "outgoing"
subnet = "10.9.0.0/29"
subnet6 = "fd00:9::/64"
dns = ["192.0.2.53"]

[network.lab]
subnet = "172.17.0.0/16"

[profile.out]
users = ["*"]
user = "root"
network = "out"
may_add = ["NET_ADMIN"]

[profile.self]
users = ["*"]
network = "out"

[profile.open]
users = ["*"]
user = "root"
network = "open"
may_add = ["NET_ADMIN"]

[profile.six]
users = ["*"]
user = "root"
network = "six"
may_add = ["NET_ADMIN"]

[profile.lab]
users = ["*"]
network = "lab"

[profile.linger]
users = ["*"]
network = "out"
linger = true
"#;

/// A server in a network namespace of its own stands for the outside. It tells whoever comes from where; by UDP too; and it
/// answers every question for a name with 203.0.113.77. The machine serves likewise, on its loopback and on all addresses.
const OUTSIDE: &str = r#"
set -e
unshare -n sleep 1000 >/dev/null 2>&1 & echo $! >/run/outside
until [ "$(readlink /proc/$(cat /run/outside)/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add uplink type veth peer name up0 netns $(cat /run/outside)
ip addr add 203.0.113.1/24 dev uplink; ip addr add 2001:db8::1/64 dev uplink nodad; ip link set uplink up
inside() { nsenter -t $(cat /run/outside) -n "$@"; }
inside ip link set lo up
inside ip addr add 203.0.113.2/24 dev up0; inside ip addr add 2001:db8::2/64 dev up0 nodad; inside ip link set up0 up
ip route add default via 203.0.113.2; ip -6 route add default via 2001:db8::2
ip addr add 10.99.0.1/32 dev lo; ip route add local 10.98.0.0/16 dev lo
sysctl -qw net.ipv4.ping_group_range='0 2147483647'
echo 'nameserver 203.0.113.2' >/etc/resolv.conf
serve='
import socket, sys, threading
def tell(s):
    while True:
        c, a = s.accept(); c.sendall(a[0].encode()); c.close()
def echo(s, make):
    while True:
        d, a = s.recvfrom(2048); s.sendto(make(d, a), a)
def name(d, a):
    end = d.index(0, 12) + 5
    return d[:2] + b"\x81\x80\0\1" + (b"\0\1" if d[end-4:end-2] == b"\0\1" else b"\0\0") + b"\0\0\0\0" + d[12:end] + \
        (b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([203, 0, 113, 77]) if d[end-4:end-2] == b"\0\1" else b"")
def udp(address, port):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM); s.bind((address, port)); return s
def tcp(address, port):
    return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
for address in sys.argv[2:]:
    threading.Thread(target=tell, args=(tcp(address, int(sys.argv[1])),)).start()
    threading.Thread(target=echo, args=(udp(address, int(sys.argv[1])), lambda d, a: a[0].encode())).start()
    if sys.argv[1] == "7008":
        threading.Thread(target=echo, args=(udp(address, 53), name)).start()
print("up", flush=True)
'
printf '%s' "$serve" >/run/serve.py
(inside python3 /run/serve.py 7008 203.0.113.2 2001:db8::2 >/run/outside.up 2>&1 &)
(python3 /run/serve.py 7007 127.0.0.1 ::1 203.0.113.1 2001:db8::1 10.99.0.1 10.98.7.7 >/run/machine.up 2>&1 &)
until grep -q up /run/outside.up && grep -q up /run/machine.up; do sleep 0.05; done
until [ -z "$(ip -6 addr show tentative; inside ip -6 addr show tentative)" ]; do sleep 0.05; done
"#;

/// Asks an address and port by TCP, and by UDP; what the other side says.
const ASK: &str = r#"
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(family, kind); s.settimeout(1.5)
    try:
        s.connect((address, port)); s.send(b"x") if kind == socket.SOCK_DGRAM else None
        print(s.recv(99).decode() or "closed")
    except OSError as e:
        print("no")
"#;

/// Sends the beginning of a connection, and a datagram, as whole frames by eth0, to whatever address; whether anything
/// comes back from there.
const RAW: &str = r#"
import ipaddress, socket, struct, sys, time
to, port, ours = ipaddress.ip_address(sys.argv[1]), int(sys.argv[2]), ipaddress.ip_address(sys.argv[3])
six = to.version == 6
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(("eth0", 0)); s.settimeout(0.2)
mac = open("/sys/class/net/eth0/address").read().strip().replace(":", "")
def sum16(b):
    b += b"\0" * (len(b) % 2); n = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while n >> 16: n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff
def send(protocol, body, at):
    pseudo = ours.packed + to.packed + struct.pack("!II" if six else "!HH", *((len(body), protocol) if six else (protocol, len(body))))
    body = body[:at] + struct.pack("!H", sum16(pseudo + body) or 0xffff) + body[at+2:]
    if six:
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + ours.packed + to.packed
    else:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 64, protocol, 0) + ours.packed + to.packed
        head = head[:10] + struct.pack("!H", sum16(head)) + head[12:]
    s.send(bytes.fromhex("ffffffffffff" + mac) + (b"\x86\xdd" if six else b"\x08\0") + head + body)
send(6, struct.pack("!HHIIBBHHH", 40000 + port % 1000, port, 77, 0, 0x50, 2, 64000, 0, 0), 16)
send(17, struct.pack("!HHHH", 41000, port, 9, 0) + b"x", 6)
seen, end = set(), time.monotonic() + 1.5
while time.monotonic() < end and len(seen) < 2:
    try: frame = s.recv(70000)
    except OSError: continue
    if frame[:6].hex() != mac: continue
    body, protocol = (frame[54:], frame[20]) if six else (frame[34:], frame[23])
    if protocol == 6 and len(body) > 13 and body[13] & 0x12 == 0x12 and body[:2] == struct.pack("!H", port): seen.add("tcp")
    if protocol == 17 and body[:2] == struct.pack("!H", port): seen.add("udp")
print(" ".join(sorted(seen)) or "nothing")
"#;

/// Sends random bytes there and has them sent back.
const MIRROR: &str = r#"
import hashlib, os, socket, sys, threading
size, place = 60_000_000, ("203.0.113.2", 7011)
def take(s, h):
    left = size
    while left:
        d = s.recv(min(left, 1 << 16)); left -= len(d); yield h.update(d) or d
if len(sys.argv) > 1:
    s, _ = socket.create_server(place).accept()
    for d in take(s, hashlib.sha256()): s.sendall(d)
    s.recv(1)
else:
    s, sent, came = socket.create_connection(place), hashlib.sha256(), hashlib.sha256()
    def give():
        for _ in range(size // 60_000):
            d = os.urandom(60_000); sent.update(d); s.sendall(d)
    giver = threading.Thread(target=give); giver.start()
    for d in take(s, came): pass
    giver.join()
    print("same" if sent.digest() == came.digest() else "another")
"#;

fn machine(policy: &str) -> caplet_lab::Builder {
    let users = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"];
    let lab = users.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &[])).policy(policy);
    lab.file("/usr/local/lib/ask.py", ASK, 0o755, "root")
        .file("/usr/local/lib/raw.py", RAW, 0o755, "root")
        .file("/usr/local/lib/mirror.py", MIRROR, 0o755, "root")
        .file("/root/outside.sh", OUTSIDE, 0o700, "root")
}

fn outside(lab: &Lab) {
    lab.root("PATH=/usr/sbin:/usr/bin:/sbin:/bin bash /root/outside.sh").expect_ok();
}

fn lab() -> Option<&'static Lab> {
    static MADE: std::sync::Once = std::sync::Once::new();
    let lab = shared(&LAB, || machine(POLICY))?;
    MADE.call_once(|| outside(lab));
    Some(lab)
}

/// A session that waits on its standard input and runs each line that comes there.
struct Member(Running);

impl Member {
    fn new(lab: &Lab, user: &str, profile: &str, more: &[&str]) -> Self {
        let mut words = vec!["caplet", "run", "--quiet", "-p", profile];
        words.extend_from_slice(more);
        words.extend_from_slice(&["bash", "-c", "echo ready; exec bash"]);
        let running = lab.task(user, words).stdin_open().limit(120).spawn();
        running.wait_for("ready");
        Self(running)
    }

    /// Runs a line inside; what it says, and its code at the end.
    fn run(&mut self, line: &str) -> String {
        use std::io::Write;
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let stdin = self.0.stdin.as_mut().expect("its input");
        writeln!(stdin, "echo begin-{n}; {{ {line}; }} 2>&1; echo code=$? end-{n}").expect("it reads");
        self.0.wait_for(&format!("end-{n}"));
        let out = self.0.out_so_far();
        let (_, out) = out.split_once(&format!("begin-{n}\n")).expect("its answer");
        out.split_once(&format!(" end-{n}")).expect("its answer").0.to_owned()
    }

    /// What an address says by TCP and by UDP.
    fn ask(&mut self, address: &str, port: u16) -> [String; 2] {
        let out = self.run(&format!("/usr/bin/python3 /usr/local/lib/ask.py {address} {port}"));
        let mut lines = out.lines().map(str::to_owned);
        [lines.next().expect("tcp"), lines.next().expect("udp")]
    }

    /// What comes back of a frame that no socket would send; `ours` is the session's address.
    fn raw(&mut self, address: &str, port: u16, ours: &str) -> String {
        let out = self.run(&format!("/usr/bin/python3 /usr/local/lib/raw.py {address} {port} {ours}"));
        out.strip_suffix("\ncode=0").unwrap_or(&out).to_owned()
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait();
    }
}

/// What the machine has of links, addresses, routes, rules, settings and records.
fn state(lab: &Lab) -> String {
    lab.root(
        "ip -o link | sed 's/^[0-9]*: //'; ip -o addr | sed 's/^[0-9]*: //'; ip route show table all; ip -6 route show table all; \
         ip rule; nft list ruleset 2>/dev/null; ls /run/caplet | grep -v '^[0-9]'; sysctl -a 2>/dev/null | grep -E '^net.(ipv4|ipv6|bridge)' | \
         grep -vE 'neigh|inode|mem|tcp_fastopen|route.min|nf_conntrack'; ss -Hltn | tr -s ' ' | sort",
    )
    .out()
}

fn same_state(lab: &Lab, before: &str) {
    let after = state(lab);
    let other =
        |a: &str, b: &str| a.lines().filter(|line| !b.lines().any(|l| l == *line)).collect::<Vec<_>>().join("\n");
    assert!(after == before, "gone: {}\ncome: {}", other(before, &after), other(&after, before));
}

/// The processes of a session that answer its network: those of the user's that are the guard's, and below.
fn stack(session: &Session) -> Vec<i32> {
    let children = |pid: i32| -> Vec<i32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    };
    let pump = children(session.guard).into_iter().find(|pid| *pid != session.init).expect("a pump");
    let passt = children(pump);
    assert_eq!(passt.len(), 1, "one passt");
    vec![pump, passt[0]]
}

fn alive(pid: i32) -> bool {
    ProcStatus::of(pid).is_some_and(|status| status.state() != 'Z')
}

fn all_gone(lab: &Lab, pids: &[i32]) {
    let gone = lab.until(|| pids.iter().all(|pid| !alive(*pid)));
    assert!(gone, "{:?}", pids.iter().filter_map(|pid| ProcStatus::of(*pid)).collect::<Vec<_>>());
}

#[test]
fn an_outgoing_session_reaches_the_outside_and_the_machine_stays_as_it_was() {
    need!("/usr/bin/passt", "python3", "ping");
    let Some(own) = machine(POLICY).start() else { return };
    let lab = &own;
    outside(lab);
    let before = state(lab);
    let mut alice = Member::new(lab, "alice", "out", &["--cap-add", "NET_ADMIN"]);
    let mut bob = Member::new(lab, "bob", "self", &[]);
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.ask("203.0.113.2", 7008), ["203.0.113.1", "203.0.113.1"], "seen as the machine itself");
        let out = member.run("ping -c 1 -W 3 203.0.113.2 >/dev/null");
        assert!(out.ends_with("code=0"), "where ping_group_range has the user: {out}");
        assert!(member.run("cat /etc/resolv.conf").starts_with("nameserver 10.173.0.2\n"));
        assert!(member.run("getent ahostsv4 www.example.org").contains("203.0.113.77"), "the machine's name server");
    }
    let list = lab.sh("alice", "caplet list; caplet list --json").out();
    for part in
        ["own network with a way out (\"out\")", "\"network_kind\": \"outgoing\"", "network \"lab\" with others"]
    {
        assert!(list.split_whitespace().collect::<Vec<_>>().join(" ").contains(part), "{part} in {list}");
    }
    let out = alice.run("ip -br addr show eth0; ip -4 route; cat /sys/class/net/eth0/address /etc/hosts");
    for part in ["10.173.0.3/24", "default via 10.173.0.1 dev eth0", "02:ca:0a:ad:00:03", "10.173.0.1 gateway"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    // The line that this project began with.
    let out = alice.run("ip route add 192.168.0.0/24 via 10.173.0.1 dev eth0 && ip route show 192.168.0.0/24");
    assert!(out.contains("192.168.0.0/24 via 10.173.0.1"), "{out}");
    // Its own side is the session's to change.
    let line = "ip link set eth0 down; ip link set eth0 mtu 1400 up && ip route replace default via 10.173.0.1";
    assert!(alice.run(line).ends_with("code=0"));
    assert_eq!(alice.ask("203.0.113.2", 7008), ["203.0.113.1", "203.0.113.1"]);
    same_state(lab, &before);
    // More than any buffer holds: what comes is what was sent, there and back.
    lab.root(
        "(nsenter -t $(cat /run/outside) -n python3 /usr/local/lib/mirror.py serve >/dev/null 2>&1 &) ; sleep 0.5",
    );
    let out = bob.run("/usr/bin/python3 /usr/local/lib/mirror.py");
    assert_eq!(out, "same\ncode=0");
    alice.end();
    bob.end();
    same_state(lab, &before);
}

#[test]
fn the_machine_itself_and_its_other_sessions_are_not_reached() {
    need!("/usr/bin/passt", "python3", "nft");
    let Some(lab) = lab() else { return };
    // It serves them all, as seen from itself.
    for address in ["127.0.0.1", "203.0.113.1", "10.99.0.1", "10.98.7.7", "::1", "2001:db8::1"] {
        let out = lab.root(&format!("python3 /usr/local/lib/ask.py {address} 7007")).out();
        assert!(!out.contains("no"), "{address}: {out}");
    }
    let mut lan = Member::new(lab, "carol", "lab", &[]);
    let lan_address = lan.run("ip -4 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1");
    let lan_address = lan_address.lines().next().expect("an address").to_owned();
    assert!(lab.root(&format!("ping -c 1 -W 1 {lan_address}")).ok(), "from the machine");
    let mut alice = Member::new(lab, "alice", "out", &["--cap-add", "NET_ADMIN"]);
    let mut other = Member::new(lab, "alice", "out", &[]);
    for address in ["10.173.0.1", "10.173.0.2", "203.0.113.1", "10.99.0.1", "10.98.7.7", "172.17.0.1"] {
        assert_eq!(alice.ask(address, 7007), ["no", "no"], "{address}");
        assert!(!alice.run(&format!("ping -c 1 -W 1 {address} >/dev/null")).ends_with("code=0"), "{address}");
    }
    assert!(!alice.run(&format!("ping -c 1 -W 1 {lan_address} >/dev/null")).ends_with("code=0"));
    // Nor with frames that only a raw socket sends.
    assert_eq!(alice.raw("203.0.113.2", 7008, "10.173.0.3"), "tcp udp", "as it would be");
    for address in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "203.0.113.1", "10.99.0.1", "10.98.7.7", "10.173.0.1"] {
        assert_eq!(alice.raw(address, 7007, "10.173.0.3"), "nothing", "{address}");
    }
    // IPv6 was not asked for.
    assert_eq!(alice.ask("2001:db8::2", 7008), ["no", "no"]);
    assert_eq!(alice.raw("2001:db8::2", 7008, "fd00::3"), "nothing");
    // An address that the machine takes later is its own soon.
    assert!(lab.root("ip addr add 10.97.0.1/32 dev lo; (python3 /run/serve.py 7007 10.97.0.1 >/dev/null 2>&1 &)").ok());
    std::thread::sleep(Duration::from_secs(3));
    assert!(!lab.root("python3 /usr/local/lib/ask.py 10.97.0.1 7007").out().contains("no"));
    assert_eq!(alice.ask("10.97.0.1", 7007), ["no", "no"]);
    // Two of the same user's have the same address, and nothing of each other.
    assert!(other.run("ip -br addr show eth0").contains("10.173.0.3/24"));
    for member in [alice, other, lan] {
        member.end();
    }
}

#[test]
fn with_host_access_the_gateway_stands_for_the_machine() {
    need!("/usr/bin/passt", "python3");
    let Some(lab) = lab() else { return };
    let mut bob = Member::new(lab, "bob", "open", &[]);
    assert_eq!(bob.ask("10.173.0.1", 7007), ["127.0.0.1", "127.0.0.1"]);
    assert_eq!(bob.ask("203.0.113.1", 7007), ["203.0.113.1", "203.0.113.1"]);
    assert_eq!(bob.ask("203.0.113.2", 7008)[0], "203.0.113.1");
    // Not what is for many: the machine's own listeners for those would hear it too.
    assert_eq!(bob.ask("224.0.0.251", 7007)[1], "no");
    bob.end();
}

#[test]
fn ipv6_where_the_policy_asks_for_it() {
    need!("/usr/bin/passt", "python3");
    let Some(lab) = lab() else { return };
    let mut dave = Member::new(lab, "dave", "six", &["--cap-add", "NET_ADMIN"]);
    let out = dave.run("ip -br addr show eth0; cat /etc/resolv.conf");
    for part in ["10.9.0.3/29", "fd00:9::a09:3/64", "nameserver 192.0.2.53"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    assert_eq!(dave.ask("2001:db8::2", 7008), ["2001:db8::1", "2001:db8::1"]);
    assert_eq!(dave.ask("203.0.113.2", 7008), ["203.0.113.1", "203.0.113.1"]);
    assert_eq!(dave.raw("2001:db8::2", 7008, "fd00:9::a09:3"), "tcp udp", "as it would be");
    for address in ["2001:db8::1", "::1", "::ffff:127.0.0.1", "::ffff:203.0.113.1", "fd00:9::1", "fe80::1"] {
        assert_eq!(dave.raw(address, 7007, "fd00:9::a09:3"), "nothing", "{address}");
    }
    dave.end();
}

/// The stack is the user's, and has nothing that the user has not: whoever may kill it gains no more than its end.
#[test]
fn the_stack_is_the_users_own_and_worth_nothing_to_steal() {
    need!("/usr/bin/passt", "python3");
    let Some(lab) = lab() else { return };
    let mut erin = Member::new(lab, "erin", "out", &["--cap-add", "NET_ADMIN"]);
    let session = Session::isolated(&erin.0);
    let pids = stack(&session);
    let uid = lab.uid("erin");
    let namespace = |pid: i32, name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace");
    for pid in &pids {
        let status = ProcStatus::of(*pid).expect("it runs");
        assert_eq!(status.uids(), [uid; 4]);
        let caps = status.caps();
        assert_eq!((caps.effective, caps.permitted, caps.ambient, caps.inheritable), (0, 0, 0, 0), "{}", status.comm());
        assert!(status.no_new_privs() && status.seccomp() == 2, "{}", status.comm());
        assert_eq!(namespace(*pid, "net"), namespace(session.relay, "net"));
        for kind in ["net", "user", "pid", "mnt"] {
            assert_ne!(namespace(*pid, kind), namespace(session.command, kind), "{kind}");
        }
        let groups = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a cgroup");
        assert_eq!(groups(*pid), groups(session.relay), "where its user's processes are counted");
    }
    let [pump, passt] = pids[..] else { panic!("two") };
    let environment = std::fs::read(format!("/proc/{passt}/environ")).expect("readable for root");
    assert!(environment.iter().all(|byte| *byte == 0), "{environment:?}");
    for kind in ["user", "pid", "mnt", "ipc", "uts"] {
        assert_eq!(namespace(pump, kind), namespace(session.relay, kind), "the machine's: {kind}");
    }
    // What they hold: their line, no file, nobody's pipe or terminal.
    for pid in [pump, passt] {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("readable for root");
        for entry in entries.flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let text = target.to_string_lossy();
            let fine = ["socket:", "/dev/null"].iter().any(|start| text.starts_with(start));
            // By number: its name is another in this test's mount namespace.
            let tun = nix::sys::stat::stat(&entry.path()).is_ok_and(|s| s.st_rdev == nix::sys::stat::makedev(10, 200));
            let own = match pid == passt {
                true => {
                    text.starts_with("pipe:") && entry.file_name() == "2"
                        || text == "/"
                        || text.starts_with("anon_inode:")
                }
                false => tun,
            };
            assert!(fine || own, "{pid}: {text}");
        }
    }
    // Nobody of the user's looks into the pump, or takes its link; inside nobody sees either.
    let take = format!(
        "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
pidfd = os.pidfd_open({inner})
print([libc.syscall(438, pidfd, n, 0) for n in range(10)], libc.ptrace(16, {inner}, 0, 0))
try: print(os.listdir('/proc/{inner}/fd'))
except OSError as e: print(e.strerror)",
        inner = pid_there(pump)
    );
    let out = lab.python("erin", &take);
    assert_eq!(out.out(), "[-1, -1, -1, -1, -1, -1, -1, -1, -1, -1] -1\nPermission denied", "{out}");
    let out = erin.run("ls -d /proc/[0-9]*/exe | wc -l; cat /proc/[0-9]*/comm | sort -u | tr '\\n' ' '");
    assert!(!out.contains("passt"), "{out}");
    // The user may end it: the session has no network then, and goes on.
    let kill = format!("kill {}", pid_there(passt));
    assert!(lab.sh("erin", &kill).ok());
    all_gone(lab, &pids);
    let out = erin.run("ip link show eth0; ip -br link");
    assert!(out.contains("does not exist") && out.contains("lo "), "{out}");
    assert_eq!(erin.ask("203.0.113.2", 7008), ["no", "no"]);
    assert!(erin.run("ip link add eth0 type dummy; true").ends_with("code=0"));
    erin.end();
    session.wait_end();
}

/// A pid as the machine's own processes see it.
fn pid_there(pid: i32) -> i32 {
    *ProcStatus::of(pid).expect("it runs").namespace_pids().get(1).unwrap_or(&pid)
}

#[test]
fn nothing_comes_in_and_no_port_of_the_machine_is_taken() {
    need!("/usr/bin/passt", "python3");
    let Some(lab) = lab() else { return };
    let mut frank = Member::new(lab, "frank", "self", &[]);
    let serve = "(python3 -c \"import socket; s = socket.create_server(('0.0.0.0', 7010)); s.accept()\" >/dev/null 2>&1 &); sleep 0.7; \
                 python3 /usr/local/lib/ask.py 127.0.0.1 7010";
    assert!(frank.run(serve).starts_with("closed") || frank.run("true").ends_with("code=0"));
    let listeners = lab.root("ss -Hltnp").out();
    assert!(listeners.contains("python3") && !listeners.contains("passt"), "{listeners}");
    assert_eq!(lab.root("python3 /usr/local/lib/ask.py 203.0.113.1 7010").out(), "no\nno");
    let out = lab.root("nsenter -t $(cat /run/outside) -n python3 /usr/local/lib/ask.py 203.0.113.1 7010");
    assert_eq!(out.out(), "no\nno");
    frank.end();
}

/// However a session ends, and whoever of its own is stopped or killed, nothing of its stack stays.
#[test]
fn the_stack_ends_with_its_session() {
    need!("/usr/bin/passt");
    let Some(lab) = lab() else { return };
    type Ending = fn(&Lab, &Session, &[i32]);
    let endings: [(&str, Ending); 8] = [
        ("the command ends", |_, session, _| Session::signal(session.command, Signal::SIGKILL)),
        ("guard", |_, session, _| Session::signal(session.guard, Signal::SIGKILL)),
        ("relay", |_, session, _| Session::signal(session.relay, Signal::SIGKILL)),
        ("PID 1", |_, session, _| Session::signal(session.init, Signal::SIGKILL)),
        ("a stopped stack, the command ends", |_, session, stack| {
            stack.iter().for_each(|pid| Session::signal(*pid, Signal::SIGSTOP));
            Session::signal(session.command, Signal::SIGKILL);
        }),
        ("a stopped stack, the guard is killed", |_, session, stack| {
            stack.iter().for_each(|pid| Session::signal(*pid, Signal::SIGSTOP));
            Session::signal(session.guard, Signal::SIGKILL);
        }),
        ("pump, and passt stopped", |_, session, stack| {
            Session::signal(stack[1], Signal::SIGSTOP);
            Session::signal(stack[0], Signal::SIGKILL);
            Session::signal(session.command, Signal::SIGTERM);
        }),
        ("caplet end", |lab, _, _| {
            let id = lab.sh("grace", "caplet sessions").out();
            let id = id.lines().find(|line| line.contains("self")).and_then(|line| line.split_whitespace().next());
            lab.run_as("grace", ["caplet", "end", id.expect("its id")]).expect_ok();
        }),
    ];
    for (what, end) in endings {
        let mut running = lab.task("grace", ["caplet", "run", "--quiet", "-p", "self", "sleep", "100"]).spawn();
        let session = Session::isolated(&running);
        let pids = stack(&session);
        assert!(pids.iter().all(|pid| alive(*pid)), "{what}");
        end(lab, &session, &pids);
        session.wait_end();
        all_gone(lab, &pids);
        running.wait();
    }
}

#[test]
fn killed_at_any_moment_it_leaves_nothing() {
    need!("/usr/bin/passt");
    let Some(own) = machine(POLICY).start() else { return };
    let lab = &own;
    outside(lab);
    let before = state(lab);
    for round in 0..40 {
        let line = format!(
            "setpriv --reuid alice --regid alice --init-groups caplet run --quiet -p out sleep 5 >/dev/null 2>&1 & \
             sleep 0.0{round:02}; pkill -KILL -x caplet-helper -u root; {}; wait; true",
            if round % 2 == 0 { "pkill -KILL -x caplet" } else { "pkill -KILL -u alice" }
        );
        lab.root(&line);
    }
    let left =
        || lab.processes().into_iter().filter(|(_, name)| name.starts_with("passt") || name.starts_with("caplet"));
    assert!(lab.until(|| left().next().is_none()), "{:?}", left().collect::<Vec<_>>());
    same_state(lab, &before);
    // And the next one has all that it needs.
    let mut alice = Member::new(lab, "alice", "out", &[]);
    assert_eq!(alice.ask("203.0.113.2", 7008)[0], "203.0.113.1");
    alice.end();
}

/// What lingers keeps its network until its last process ends.
#[test]
fn what_lingers_keeps_its_way_out() {
    need!("/usr/bin/passt", "python3");
    let Some(lab) = lab() else { return };
    let line =
        "(setsid sh -c 'sleep 1; python3 /usr/local/lib/ask.py 203.0.113.2 7008; sleep 1' >~/answer 2>&1 &) ; true";
    lab.run_as("heidi", ["caplet", "run", "--quiet", "-p", "linger", "sh", "-c", line]).expect_ok();
    assert!(!lab.pids_of("heidi", "").is_empty(), "it goes on");
    assert!(lab.until(|| lab.sh("heidi", "cat ~/answer").out() == "203.0.113.1\n203.0.113.1"));
    assert!(lab.until(|| lab.pids_of("heidi", "").is_empty()), "{:?}", lab.pids_of("heidi", ""));
}

/// What is missing is said before anything is built, and no session is without the network that its profile names.
#[test]
fn what_the_machine_lacks_is_a_refusal() {
    need!("/usr/bin/passt", "cc");
    let Some(own) = machine(POLICY).start() else { return };
    let lab = &own;
    let refused = |because: &str| {
        let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "self", "true"]);
        assert!(out.code() == 125 && out.err().contains(because) && out.err_lines().len() == 1, "{because}: {out}");
        assert!(lab.processes_left().is_empty(), "{:?}", lab.processes());
    };
    // passt itself says no: this machine has no way out.
    refused("no session: passt has ended: ");
    lab.log().wait("end", &[("user", "alice"), ("status", "failed:125")]);
    outside(lab);
    assert!(lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "self", "true"]).ok());
    lab.root("pkill -x python3; pkill -x sleep");
    let check = |what: &str| {
        let out = lab.root("caplet check");
        assert!(out.out().contains(what) || out.err().contains(what), "{what}: {out}");
    };
    lab.root("chmod 0775 /usr/bin/passt");
    refused("network \"out\": /usr/bin/passt is not root's alone to write, and so not executed");
    check("network \"out\": /usr/bin/passt is not root's alone to write: its sessions are refused");
    lab.root("chmod 0755 /usr/bin/passt; chown alice /usr/bin/passt");
    refused("/usr/bin/passt is not root's alone to write");
    lab.root("chown root /usr/bin/passt; mv /usr/bin/passt /usr/bin/passt.away; ln -s /tmp/passt /usr/bin/passt; cp /bin/true /tmp/passt");
    refused("/usr/bin/passt is not root's alone to write");
    lab.root("rm /usr/bin/passt");
    refused("network \"out\": /usr/bin/passt is not there; root installs the package passt");
    check("network \"out\": the package passt is not installed: its sessions are refused");
    // One that is no passt: it ends, or never answers.
    lab.root("cp /bin/true /usr/bin/passt");
    refused("no session: passt has ended: it did not say why");
    lab.root("cp /bin/cat /usr/bin/passt");
    refused("no session: passt has ended: passt: invalid option");
    lab.root("echo 'int main(void) { for (;;) pause(); }' | cc -w -x c -o /usr/bin/passt -");
    refused("no session: /usr/bin/passt does not answer");
    lab.root("mv /usr/bin/passt.away /usr/bin/passt; umount /dev/net/tun 2>/dev/null; rm -f /dev/net/tun");
    refused("network \"out\": /dev/net/tun cannot be opened (No such file or directory): the kernel's tun is needed");
    check("network \"out\": /dev/net/tun is not there: its sessions are refused");
    lab.root("cp -a /dev/null /dev/net/tun");
    refused("/dev/net/tun cannot be opened (No such device)");
    let probes = lab.log().find("refuse", &[("user", "alice"), ("profile", "self")]);
    assert!(probes.len() >= 5, "each is in the log: {}", probes.len());
}
