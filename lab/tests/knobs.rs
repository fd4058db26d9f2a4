//! Sessions under the switches of a whole machine, and with all of root's capabilities. They are everybody's, so this is
//! for a machine of one's own: `make kernels` boots one and sets `CAPLET_OWN_MACHINE`.

use caplet_lab::{CapSets, Lab, Output, ProcStatus, Session, SharedLab, shared, skip};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.own]
users = ["alice", "bob"]
may_add = ["NET_ADMIN"]

[profile.zero]
users = ["alice"]
user = "root"
may_add = ["ALL"]
privileged = true

[profile.nested]
users = ["alice"]
nested_userns = true

[profile.subs]
users = ["alice"]
user = "root"
subids = true

[profile.real]
users = ["alice"]
scope = "host"
caps = ["SYS_RESOURCE", "SYS_TIME", "SYS_NICE"]
pam_account = false
"#;

const DOCKER: u64 = 0xa804_25fb;
const NET_ADMIN: u64 = 1 << 12;
const SYS_PTRACE: u64 = 1 << 19;
const REAL: u64 = 1 << 24 | 1 << 25 | 1 << 23;

/// Every test of this file alone: the switches are the machine's.
static TURN: Mutex<()> = Mutex::new(());

fn own_machine() -> Option<(MutexGuard<'static, ()>, &'static Lab)> {
    if std::env::var_os("CAPLET_OWN_MACHINE").is_none() {
        caplet_lab::record_skip("for a machine of its own: make kernels");
        return None;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let lab =
        shared(&LAB, || Lab::new().user("alice", &[]).user("bob", &[]).subid("alice", 200_000, 65_536).policy(POLICY))?;
    Some((turn, lab))
}

/// A switch under `/proc/sys`, put back when dropped.
struct Knob {
    path: &'static str,
    before: String,
}

impl Knob {
    /// `None`: this kernel has no such switch.
    fn set(path: &'static str, value: &str) -> Option<Self> {
        let before = std::fs::read_to_string(path).ok()?;
        std::fs::write(path, value).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(std::fs::read_to_string(path).expect("just read").trim(), value);
        Some(Self { path, before })
    }
}

impl Drop for Knob {
    fn drop(&mut self) {
        let _ = std::fs::write(self.path, self.before.trim());
    }
}

fn map_of(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{name}")).expect("it runs");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sessions of every kind come up, and are to the kernel what they are on any machine.
#[track_caller]
fn sessions_are_as_ever(lab: &Lab) {
    let uid = lab.uid("alice");
    let own = ("own", &["--cap-add", "NET_ADMIN"][..], CapSets::all(NET_ADMIN), format!("{uid} {uid} 1"));
    let zero = ("zero", &["--cap-add", "SYS_PTRACE"][..], CapSets::root(DOCKER | SYS_PTRACE), format!("0 {uid} 1"));
    let subs = ("subs", &[][..], CapSets::root(DOCKER), format!("0 {uid} 1 1 200000 65536"));
    for (profile, more, sets, map) in [own, zero, subs] {
        let words = [&["caplet", "run", "--quiet", "-p", profile], more, &["sleep", "1000"]].concat();
        let mut running = lab.task("alice", words).spawn();
        let session = Session::isolated(&running);
        let status = ProcStatus::of(session.command).expect("it runs");
        assert_eq!(status.caps(), sets, "{profile}");
        assert!(status.no_new_privs(), "{profile}");
        assert_eq!(status.seccomp(), 2, "{profile}");
        assert_eq!(status.uids(), [uid; 4], "{profile}, seen from outside");
        assert_eq!(map_of(session.command, "uid_map"), map, "{profile}");
        // Its owner is nobody's number, so that alice outside has no power over it.
        let inside = status.namespace_pids()[1];
        for attack in [
            format!("nsenter -U --preserve-credentials -t {inside} true"),
            format!("cat /proc/{inside}/root/etc/passwd"),
        ] {
            let out = lab.sh("alice", &attack);
            assert!(!out.ok(), "{profile}: {attack}: {out}");
        }
        Session::signal(session.relay, nix::sys::signal::Signal::SIGTERM);
        running.wait();
        session.wait_end();
    }
    let status = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "real", "cat", "/proc/self/status"]);
    let status = status.expect_ok().proc_status();
    assert_eq!((status.caps(), status.no_new_privs()), (CapSets::all(REAL), true));
}

#[test]
fn with_all_of_roots_capabilities_the_sets_are_as_granted() {
    let Some((_turn, lab)) = own_machine() else { return };
    assert_eq!(lab.full(), lab.kernel(), "root of this machine lacks some");
    sessions_are_as_ever(lab);
    let whole = ["caplet", "run", "--quiet", "-p", "zero", "--privileged", "cat", "/proc/self/status"];
    let status = lab.run_as("alice", whole).expect_ok().proc_status();
    assert_eq!(status.caps(), CapSets::root(lab.kernel()));
    // Real ones do on the machine what they stand for, and no more.
    let raised =
        "ulimit -Hn; prlimit --nofile=1000000:1000000 --pid $$ 2>/dev/null; ulimit -Hn; hostname no 2>/dev/null";
    let out = lab.sh("alice", &format!("caplet run --quiet -p real bash -c '{raised} || echo refused'"));
    let out = out.expect_ok().out();
    let lines: Vec<_> = out.lines().collect();
    assert!(lines.len() == 3 && lines[1] != lines[0], "SYS_RESOURCE raises a limit: {out}");
    assert_eq!(lines[2], "refused", "SYS_ADMIN is not there");
}

/// Whether a command under strace(1), its child, may be traced in a session with that.
fn traced(lab: &Lab, more: &[&str]) -> Output {
    let words = [&["caplet", "run", "--quiet"], more, &["strace", "-qq", "-e", "trace=none", "true"]].concat();
    lab.run_as("alice", words)
}

#[test]
fn with_yama_at_1_sessions_are_as_ever() {
    let Some((_turn, lab)) = own_machine() else { return };
    let Some(_knob) = Knob::set("/proc/sys/kernel/yama/ptrace_scope", "1") else { skip!("no Yama in this kernel") };
    sessions_are_as_ever(lab);
    traced(lab, &["-p", "own"]).expect_ok();
}

#[test]
fn with_yama_at_2_sessions_are_as_ever_and_sys_ptrace_is_what_traces() {
    let Some((_turn, lab)) = own_machine() else { return };
    let Some(_knob) = Knob::set("/proc/sys/kernel/yama/ptrace_scope", "2") else { skip!("no Yama in this kernel") };
    sessions_are_as_ever(lab);
    assert!(!traced(lab, &["-p", "own"]).ok(), "Yama is there to refuse this");
    traced(lab, &["-p", "zero", "--cap-add", "SYS_PTRACE"]).expect_ok();
}

#[test]
fn where_users_may_make_no_user_namespaces_sessions_are_as_ever() {
    let Some((_turn, lab)) = own_machine() else { return };
    let Some(_knob) = Knob::set("/proc/sys/kernel/unprivileged_userns_clone", "0") else {
        skip!("this kernel has no kernel.unprivileged_userns_clone")
    };
    assert!(!lab.sh("alice", "unshare -Ur true").ok(), "the switch is there to refuse this");
    sessions_are_as_ever(lab);
    // The switch is the administrator's word also for sessions: no profile goes around it.
    for profile in ["own", "nested", "zero"] {
        let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", profile, "unshare", "-Ur", "true"]);
        assert!(!out.ok(), "{profile}: {out}");
    }
    // Without installation the namespace would be the user's own.
    lab.root("mkdir -p /srv/build && cp /usr/bin/caplet /usr/libexec/caplet/caplet-helper /srv/build/ && chmod 755 /srv/build/*");
    let out = lab.run_as("alice", ["/srv/build/caplet-helper"]);
    assert_eq!(out.code(), 125, "{out}");
    let out = lab.run_as("alice", ["/srv/build/caplet", "run", "--quiet", "true"]);
    assert_eq!(out.code(), 125, "{out}");
    let said = out.err_lines();
    assert!(said.iter().any(|line| line.contains("this machine lets users make no user namespaces")), "{out}");
}

#[test]
fn where_nobody_may_make_user_namespaces_the_session_is_refused_and_the_switch_named() {
    let Some((_turn, lab)) = own_machine() else { return };
    let Some(_knob) = Knob::set("/proc/sys/user/max_user_namespaces", "0") else { skip!("no such switch") };
    for profile in ["own", "zero", "subs"] {
        let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", profile, "echo", "ran"]);
        assert_eq!((out.code(), out.out().as_str()), (125, ""), "{out}");
        assert!(out.err().contains("user.max_user_namespaces is 0"), "{out}");
    }
    lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "real", "true"]).expect_ok();
    assert_eq!(lab.processes_left(), []);
}

#[test]
fn namespaces_that_are_kept_are_counted_for_their_user_alone() {
    let Some((_turn, lab)) = own_machine() else { return };
    let most = 12;
    let Some(_knob) = Knob::set("/proc/sys/user/max_net_namespaces", &most.to_string()) else {
        skip!("no such switch")
    };
    // Each session hands a descriptor of its network to a process of alice's outside, and ends.
    let keep = "import socket, array\ns = socket.socket(socket.AF_UNIX); s.bind('/home/alice/kept'); s.listen(99)\nkept = []\n\
        print('up', flush=True)\nwhile True:\n c, _ = s.accept(); kept.append(c.recvmsg(1, 64)); c.send(b'x')";
    let hand = "import socket, array\ns = socket.socket(socket.AF_UNIX); s.connect('/home/alice/kept'); n = open('/proc/self/ns/net')\n\
        s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [n.fileno()]))])\n\
        s.recv(1)";
    let mut keeper = lab.task("alice", ["/usr/bin/python3", "-c", keep]).limit(300).spawn();
    keeper.wait_for("up");
    let start = || lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "own", "/usr/bin/python3", "-c", hand]);
    let refused = (0..=most).map(|_| start()).find(|out| !out.ok()).expect("as many as there may be are kept");
    assert!(refused.err().contains("as many namespaces as the machine allows a user are in use"), "{refused}");
    lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "own", "true"]).expect_ok();
    lab.root("unshare -n true").expect_ok();
    keeper.signal(nix::sys::signal::Signal::SIGKILL);
    keeper.wait();
    lab.root("rm /home/alice/kept");
    assert!(lab.until(|| lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "own", "true"]).ok()));
}

#[test]
fn in_cgroup_v2_a_session_stays_under_its_callers_limit_and_sees_no_group_above() {
    let Some((_turn, lab)) = own_machine() else { return };
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        skip!("no cgroup v2 here");
    }
    lab.root(
        "cd /sys/fs/cgroup && echo +pids >cgroup.subtree_control && mkdir -p lab-alice && echo 40 >lab-alice/pids.max",
    );
    let forks = "import os, time\nn = 0\ntry:\n while n < 80:\n  if os.fork() == 0: time.sleep(1000)\n  n += 1\nexcept BlockingIOError: pass\nprint('forks', n, flush=True)\ntime.sleep(1000)";
    let inside = format!(
        "cat /proc/self/cgroup; mkdir /sys/fs/cgroup/more 2>/dev/null || echo refused; \
         {{ echo max >/sys/fs/cgroup/pids.max; }} 2>/dev/null || echo refused; exec /usr/bin/python3 -I -c \"{forks}\""
    );
    lab.write("/home/alice/inside", inside, 0o644, "alice");
    let line = "echo $$ >/sys/fs/cgroup/lab-alice/cgroup.procs && exec setpriv --reuid alice --regid alice --clear-groups \
        caplet run --quiet -p zero --privileged sh /home/alice/inside";
    let mut running = lab.task("root", ["bash", "-c", line]).spawn();
    running.wait_for("forks");
    let session = Session::isolated(&running);
    let group = std::fs::read_to_string(format!("/proc/{}/cgroup", session.init)).expect("it runs");
    assert!(group.lines().any(|line| line == "0::/lab-alice"), "{group}");
    let out = running.out_so_far();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(
        lines[..3],
        ["0::/", "refused", "refused"],
        "its group is the root of what it sees, and not its own: {out}"
    );
    let count: u32 = lines[3].strip_prefix("forks ").and_then(|n| n.parse().ok()).expect("a number");
    assert!((20..40).contains(&count), "the caller's limit holds: {out}");
    assert_eq!(lab.read("/sys/fs/cgroup/lab-alice/pids.current").trim(), "40");
    Session::signal(session.relay, nix::sys::signal::Signal::SIGTERM);
    running.wait();
    session.wait_end();
    assert!(lab.until(|| lab.sh("root", "rmdir /sys/fs/cgroup/lab-alice").ok()), "somebody stays in it");
}
