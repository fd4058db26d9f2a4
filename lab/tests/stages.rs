//! The helper is stopped before a call, in each of its processes and at each stage; then the user, or chance, does the
//! worst that can be done just then. Rows T07, T08 and T09 of attacks.md, and "policy replaced during read".

use caplet_lab::{Interference, Lab, Point};
use nix::libc;

const POLICY: &str = r#"
[profile.own]
users = ["alice"]
may_add = ["NET_ADMIN"]
writable = ["/home/alice/out"]

[profile.zero]
users = ["alice"]
user = "root"
may_add = ["NET_ADMIN"]

[profile.real]
users = ["alice"]
scope = "host"
caps = ["SYS_NICE"]
pam_account = false

[profile.pam]
users = ["alice"]
scope = "host"
pam_session = true
"#;

/// Prints what it gets at of the process in argv: nothing, where all is well.
const ATTACK: &str = r#"
import ctypes, os, struct, sys, platform
pid = int(sys.argv[1]); libc = ctypes.CDLL(None, use_errno=True)
READV, WRITEV = (270, 271) if platform.machine() == 'aarch64' else (310, 311)
def reads(name):
    with open('/proc/%d/%s' % (pid, name), 'rb') as f: return f.read(1)
def call(*words): return libc.syscall(*[ctypes.c_long(w) if isinstance(w, int) else w for w in words]) >= 0
buffer = ctypes.create_string_buffer(8); v = struct.pack('PN', ctypes.addressof(buffer), 8)
def descriptor():
    f = os.pidfd_open(pid)
    return any(call(438, f, n, 0) for n in range(12))
def enters():
    f = os.pidfd_open(pid)
    return any(call(268 if platform.machine() == 'aarch64' else 308, f, n) for n in (0x40000000, 0x10000000, 0x20000))
stack = 0x7ffd00000000
ways = {
    'ptrace': lambda: libc.ptrace(16, pid, 0, 0) == 0, 'seize': lambda: libc.ptrace(0x4206, pid, 0, 0) == 0,
    'readv': lambda: call(READV, pid, v, 1, struct.pack('PN', stack, 8), 1, 0),
    'writev': lambda: call(WRITEV, pid, v, 1, struct.pack('PN', stack, 8), 1, 0),
    'getfd': descriptor, 'setns': enters,
    'mem': lambda: os.open('/proc/%d/mem' % pid, os.O_RDWR) >= 0, 'environ': lambda: reads('environ'),
    'maps': lambda: reads('maps'), 'auxv': lambda: reads('auxv'), 'syscall': lambda: reads('syscall'),
    'stack': lambda: reads('stack'), 'fd': lambda: os.listdir('/proc/%d/fd' % pid),
    'root': lambda: os.listdir('/proc/%d/root/' % pid), 'cwd': lambda: os.listdir('/proc/%d/cwd/' % pid),
    'exe': lambda: os.readlink('/proc/%d/exe' % pid), 'map_files': lambda: os.listdir('/proc/%d/map_files' % pid),
    'ns': lambda: os.readlink('/proc/%d/ns/net' % pid),
}
for name, way in ways.items():
    try:
        if way(): print('GOT', name)
    except OSError: pass
print('tried', pid)
"#;

const AS_ALICE: &str = "setpriv --reuid alice --regid alice --init-groups --inh-caps=-all --bounding-set=-all";

fn lab() -> Option<Lab> {
    let lab = Lab::new()
        .user("alice", &["students"])
        .user("bob", &[])
        .file("/srv/attack.py", ATTACK, 0o755, "root")
        .policy(POLICY)
        .start()?;
    lab.injector();
    lab.root("mkdir -m 777 /srv/open; install -d -o alice -g alice /home/alice/out");
    Some(lab)
}

/// A run's words, and its points: every one with CAPLET_FULL, else the first, the last and those at equal distances of
/// each of its processes.
fn points(lab: &Lab, words: &[&str], of_each: usize) -> Vec<Point> {
    lab.run_as("alice", [&["/usr/libexec/caplet/caplet-helper"], words].concat()).expect_ok();
    let (mut all, out) = lab.calls("alice", words);
    out.expect_ok();
    // What stops there goes on as the command.
    all.retain(|p| ![libc::SYS_execve, libc::SYS_execveat].contains(&p.call));
    if std::env::var_os("CAPLET_FULL").is_some() {
        return all;
    }
    let mut processes: Vec<&str> = all.iter().map(|p| p.process.as_str()).collect();
    processes.sort_unstable();
    processes.dedup();
    let some = processes.iter().flat_map(|process| {
        let own: Vec<&Point> = all.iter().filter(|p| p.process == *process).collect();
        (0..of_each).map(|n| own[n * (own.len() - 1) / (of_each - 1).max(1)].clone()).collect::<Vec<_>>()
    });
    let mut some: Vec<Point> = some.collect();
    some.sort();
    some.dedup();
    some
}

fn nothing_is_left(lab: &Lab, what: &str) {
    assert_eq!(lab.processes_left(), [], "{what}");
    lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "real", "true"]).expect_ok();
    assert_eq!(lab.root("ls -I auth /run/caplet").out(), "", "{what}");
    assert_eq!(lab.mounts_left(), Vec::<std::path::PathBuf>::new(), "{what}");
}

// T07, CVE-2016-8659
#[test]
fn nobody_traces_reads_or_enters_the_helper_at_any_stage() {
    let Some(lab) = lab() else { return };
    // The bench itself: of a process of one's own all of it can be had.
    let own = lab.sh("alice", "sleep 5 & sleep 0.1; python3 -I /srv/attack.py $!; kill -KILL $!").out();
    assert!(["ptrace", "mem", "environ", "fd", "getfd"].iter().all(|way| own.contains(&format!("GOT {way}"))), "{own}");
    let hook = format!("{AS_ALICE} /usr/bin/python3 -I /srv/attack.py $PID >>/srv/loot 2>&1");
    let mut tried = 0;
    for profile in ["--profile=own", "--profile=zero", "--profile=real", "--profile=pam"] {
        let words = ["run", profile, "--quiet", "--", "/bin/sh", "-c", "echo whole"];
        for point in points(&lab, &words, 5) {
            lab.root("rm -f /srv/loot");
            let (out, met) = lab.interfere("alice", &point, Interference::Stop(&hook), &words);
            assert_eq!((out.code(), out.out().as_str()), (0, "whole"), "{profile}, {point}: {out}");
            if met {
                let loot = lab.read("/srv/loot");
                assert!(loot.contains("tried") && !loot.contains("GOT"), "{profile}, {point}: {loot}");
                tried += 1;
            }
        }
    }
    println!("STAGES: attacked at {tried}");
    assert!(tried > 60, "{tried}");
    nothing_is_left(&lab, "after all");
}

// T08: the same user may signal a process of the helper's while its real uid is theirs.
#[test]
fn a_signal_at_any_stage_leaves_no_half_of_a_session() {
    let Some(lab) = lab() else { return };
    let mut sent = 0;
    for profile in ["--profile=own", "--profile=real"] {
        let words = ["run", profile, "--quiet", "--", "/bin/sh", "-c", "echo whole"];
        for (n, point) in points(&lab, &words, 8).iter().enumerate() {
            let signal = ["KILL", "HUP", "TERM", "INT", "ALRM", "STOP", "USR1", "QUIT"][n % 8];
            let hook = format!("{AS_ALICE} kill -s {signal} $PID 2>/dev/null; true");
            println!("SIGNAL {profile} {point} {signal}");
            let (out, met) = lab.interfere("alice", point, Interference::Stop(&hook), &words);
            let said = out.out();
            assert!(said.is_empty() || said == "whole", "{profile}, {point}, {signal}: {out}");
            assert!(out.code() != 0 || said == "whole", "{profile}, {point}, {signal}: {out}");
            nothing_is_left(&lab, &format!("{profile}, {point}, {signal}"));
            sent += u32::from(met);
        }
    }
    assert!(sent > 40, "{sent}");
}

// T08: what fails in PID 1 fails before there is a command that it could leave alone.
#[test]
fn no_command_runs_before_the_pid_1_of_its_session_watches_it() {
    let Some(lab) = lab() else { return };
    let words = ["run", "--profile=own", "--quiet", "--", "/bin/sh", "-c", "echo x >/home/alice/out/ran; echo whole"];
    let (all, out) = lab.calls("alice", &words);
    out.expect_ok();
    // The last of its many prctl(2): it has given up the sets by then, and has no eyes yet.
    let own: Vec<&Point> = all.iter().filter(|p| p.process == "0.1.1" && p.call == libc::SYS_prctl).collect();
    let hook = "sleep 0.1; test -e /home/alice/out/ran && echo early >/srv/loot; true";
    for point in own.iter().rev().take(3) {
        lab.root("rm -f /home/alice/out/ran /srv/loot");
        let (out, met) = lab.interfere("alice", point, Interference::Stop(hook), &words);
        assert!(met && out.out() == "whole", "{point}: {out}");
        assert!(!lab.exists("/srv/loot"), "{point}");
    }
    assert!(own.len() > 40, "{}", own.len());
}

// T09, CVE-2021-23240, CVE-2021-30465: what the user has a hand in is exchanged while the helper stands still.
#[test]
fn a_path_that_becomes_a_link_at_any_stage_brings_nothing_of_the_hosts_in() {
    let Some(lab) = lab() else { return };
    let words = [
        "run",
        "--profile=own",
        "--quiet",
        "--",
        "/bin/sh",
        "-c",
        "echo x >/home/alice/out/pwned; echo x >/srv/open/pwned; echo whole",
    ];
    let hook = format!("{AS_ALICE} sh -c 'mv ~alice/out ~alice/away; ln -s /srv/open ~alice/out'");
    let mut exchanged = 0;
    for point in points(&lab, &words, 12) {
        let (out, met) = lab.interfere("alice", &point, Interference::Stop(&hook), &words);
        let said = out.out();
        assert!(said == "whole" || (said.is_empty() && out.code() == 125), "{point}: {out}");
        assert!(!lab.exists("/srv/open/pwned"), "{point}: a folder of the host's was writable inside: {out}");
        exchanged += u32::from(met);
        lab.root("cd /home/alice; rm -rf out away; install -d -o alice -g alice out");
    }
    assert!(exchanged > 40, "{exchanged}");
    nothing_is_left(&lab, "after all");
}

// "policy replaced by rename during read", and in place
#[test]
fn a_policy_that_changes_while_it_is_read_is_the_old_one_or_the_new_one_or_none() {
    let Some(lab) = lab() else { return };
    let old = POLICY.to_owned();
    let new =
        POLICY.replace("[profile.real]", "[profile.other]").replace("may_add = [\"NET_ADMIN\"]", "caps = [\"KILL\"]");
    lab.write("/root/old", &old, 0o640, "root");
    lab.write("/root/new", &new, 0o640, "root");
    let words = ["run", "--profile=own", "--quiet", "--", "/bin/grep", "CapPrm", "/proc/self/status"];
    let (none, kill) = ("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000020");
    let read: Vec<Point> = points(&lab, &words, 0)
        .into_iter()
        .chain(lab.calls("alice", &words).0.into_iter().filter(|p| p.process == "0").take(40))
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for point in &read {
        for hook in [
            "cp /root/new /etc/caplet/.p; chmod 640 /etc/caplet/.p; mv /etc/caplet/.p /etc/caplet/policy.toml",
            "cat /root/new >/etc/caplet/policy.toml",
            "head -c 90 /root/new >/etc/caplet/policy.toml",
            "mv /etc/caplet/policy.toml /root/kept; ln -s /root/new /etc/caplet/policy.toml",
            "mv /etc/caplet /root/caplet; mkdir -m 777 /etc/caplet; cp /root/new /etc/caplet/policy.toml",
        ] {
            let (out, _) = lab.interfere("alice", point, Interference::Stop(hook), &words);
            let said = out.out();
            let is_one = (said == none || said == kill) && out.code() == 0;
            assert!(is_one || (said.is_empty() && out.code() == 125), "{point}, {hook}: {out}");
            seen.insert((said, out.code()));
            lab.root("rm -rf /etc/caplet /root/caplet /root/kept; mkdir -p /etc/caplet/policy.d; cp /root/old /etc/caplet/policy.toml; chmod 640 /etc/caplet/policy.toml");
        }
    }
    assert!(seen.len() == 3, "the old one, the new one and a refusal: {seen:?}");
}
