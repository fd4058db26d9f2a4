//! What all of a session may have together: `cgroup` and `tmp_size` of its profile, and its part of what the kernel counts
//! by user. A machine whose cgroup v2 has no controllers refuses what needs them, and the tests of them are skipped there:
//! a virtual machine has them.

use caplet_lab::{Lab, Running, Session, SharedLab, need, record_skip, shared, until};
use nix::sys::signal::Signal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const POLICY: &str = r#"
[profile.few]
users = ["alice"]
may_add = ["ALL"]
max_sessions = 4
cgroup = { tasks = 40 }

[profile.lean]
users = ["alice"]
cgroup = { memory = "64M", tasks = 40 }

[profile.slow]
users = ["alice"]
cgroup = { cpu = "20%" }

[profile.full]
users = ["alice"]
may_add = ["ALL"]
privileged = true
user = "root"
nested_userns = true
cgroup = { tasks = 60, memory = "256M", cpu = "100%" }

[profile.kept]
users = ["alice"]
linger = true
cgroup = { tasks = 40 }

[profile.real]
users = ["alice"]
scope = "host"
caps = ["SYS_NICE"]
pam_account = false
cgroup = { tasks = 40 }

[profile.small]
users = ["alice"]
tmp_size = "4M"
home = "tmpfs"

[profile.own]
users = ["alice", "bob"]
"#;

const TREE: &str = "/sys/fs/cgroup";
/// The shell itself forks once only: one that cannot ends.
const BOMB: &str = "f() { f | f & }; (f 2>/dev/null) & read x";

fn machine() -> caplet_lab::Builder {
    Lab::new().user("alice", &[]).user("bob", &[]).policy(POLICY)
}

fn lab() -> Option<&'static Lab> {
    static LAB: SharedLab = SharedLab::new();
    shared(&LAB, machine)
}

/// One test at a time that looks at the tree of cgroups: it is the whole machine's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine that has the controllers.
fn bounded() -> Option<(&'static Lab, MutexGuard<'static, ()>)> {
    let alone = alone();
    let lab = lab().filter(|lab| {
        let there = lab.inside(|| std::fs::read_to_string(format!("{TREE}/cgroup.controllers")).unwrap_or_default());
        let all = ["pids", "memory", "cpu"].iter().all(|name| there.split_ascii_whitespace().any(|word| word == *name));
        if !all {
            record_skip(&format!("the cgroup v2 here has no controllers pids, memory and cpu: {:?}", there.trim()));
        }
        all
    });
    lab.map(|lab| (lab, alone))
}

/// Cgroups of sessions that are there, all over the tree.
fn left(lab: &Lab) -> String {
    lab.root(&format!("find {TREE} -type d -name 'caplet-*'")).out()
}

/// Where the last session of that profile is, as its record says.
fn folder(lab: &Lab, profile: &str) -> String {
    let records = lab.log().find("grant", &[("profile", profile)]);
    format!("{TREE}{}", records.last().expect("a grant").field("cgroup"))
}

/// Where the next one is.
fn folder_of_next(lab: &Lab, profile: &str, start: impl FnOnce() -> Running) -> (Running, String) {
    let count = || lab.log().find("grant", &[("profile", profile)]).len();
    let before = count();
    let running = start();
    assert!(until(Duration::from_secs(30), || count() > before), "{profile}: {}", running.err_so_far());
    (running, folder(lab, profile))
}

fn number(lab: &Lab, file: &str, key: &str) -> u64 {
    let text = lab.read(file);
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("{key} in {file}: {text}"))
}

fn others_go_on(lab: &Lab, beside: &str) {
    let start = Instant::now();
    lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "own", "true"]).expect_ok();
    assert!(start.elapsed() < Duration::from_secs(20), "beside {beside}: {:?}", start.elapsed());
}

/// Who has a profile is told what it limits, and so is root who asks for somebody.
#[test]
fn limits_are_shown_to_whom_they_bind() {
    let Some(lab) = lab() else { return };
    let page = lab.run_as("alice", ["caplet", "list"]).expect_ok().out();
    for line in ["64M of memory", "20% of a processor", "4M in /tmp and the like", "60 processes and threads, 256M of"]
    {
        assert!(page.contains(line), "{line}: {page}");
    }
    let json = lab.run_as("alice", ["caplet", "list", "--json"]).expect_ok().out();
    assert!(json.contains("\"tmp_size\": 4194304") && json.contains("\"memory\": 67108864"), "{json}");
    let said = lab.root("caplet check --as alice -p lean true").out();
    assert!(said.contains("limits: 40 processes and threads, 64M of memory"), "{said}");
}

/// No cgroup v2, one without the controllers, one in which a container's processes sit, one that is read-only.
#[test]
fn limits_that_cannot_be_had_are_a_refusal_and_leave_nothing() {
    let Some(lab) = machine().start() else { return };
    let _alone = alone();
    let before = left(&lab);
    let run = "runuser -u alice -- caplet run --quiet -p lean echo ran";
    let hybrid = format!("mount -t tmpfs t {TREE}; mkdir {TREE}/unified; mount -t cgroup2 c {TREE}/unified\n{run}");
    let inside = format!(
        "mkdir -p {TREE}/box; echo $$ >{TREE}/box/cgroup.procs; umount {TREE}\n\
         exec unshare -C sh -c 'mount -t cgroup2 c {TREE}; {run}'"
    );
    let sealed = format!("mount -o remount,bind,ro {TREE}\n{run}");
    for (what, script) in [("hybrid", hybrid), ("a container", inside), ("read-only", sealed)] {
        lab.write("/root/script", script, 0o644, "root");
        let out = lab.root("unshare -m sh /root/script >/root/said 2>&1; echo $?; cat /root/said").out();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 2, "{what}: {out}");
        assert_eq!(lines[0], "125", "{what}: {out}");
        assert!(lines[1].starts_with("caplet: no session: its cgroup limits cannot be had: "), "{what}: {out}");
        let reason = lab.log().find("refuse", &[("profile", "lean")]).last().map(|r| r.field("reason"));
        assert_eq!(reason.as_deref(), lines[1].strip_prefix("caplet: "), "{what}");
        assert!(lab.log().find("grant", &[("profile", "lean")]).is_empty(), "{what}");
        assert_eq!(lab.root("ls -I auth /run/caplet").out(), "", "{what}");
        assert_eq!(left(&lab), before, "{what}");
        assert_eq!(lab.processes_left(), [], "{what}");
        // Who asks for no limit has a session all the same.
        lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "own", "true"]).expect_ok();
    }
    lab.root(&format!("rmdir {TREE}/box"));
}

/// Part D, 7.
#[test]
fn a_fork_bomb_is_bounded_and_ends_with_its_session() {
    let Some((lab, _alone)) = bounded() else { return };
    for profile in ["few", "real"] {
        let words = ["caplet", "run", "--quiet", "-p", profile, "bash", "-c", BOMB];
        let start = || lab.task("alice", words).stdin_open().spawn();
        let (mut bomb, folder) = folder_of_next(lab, profile, start);
        // Older kernels count it where it was tried, newer ones where the limit is.
        let events = || ["", "/session"].map(|of| number(lab, &format!("{folder}{of}/pids.events"), "max "));
        let refused = || events().into_iter().sum::<u64>() > 0;
        assert!(until(Duration::from_secs(40), refused), "{profile}");
        assert!(number(lab, &format!("{folder}/pids.current"), "") <= 40);
        others_go_on(lab, "a fork bomb");
        let id = folder.rsplit('-').next().expect("an id").to_owned();
        lab.run_as("root", ["caplet", "end", &id]).expect_ok();
        bomb.wait();
        assert_eq!(lab.processes_left(), [], "{profile}");
        assert_eq!(left(lab), "", "{profile}");
    }
}

/// Who takes too much is killed, in that session alone; its shell goes on. What lies in its files counts too.
#[test]
fn a_memory_hog_is_killed_in_its_own_session() {
    let Some((lab, _alone)) = bounded() else { return };
    let mut other = lab.task("alice", ["caplet", "run", "--quiet", "-p", "own", "cat"]).stdin_open().spawn();
    let hog = "python3 -c 'x = bytearray(256 << 20); print(\"had it\")'; echo hog $?; echo still here; read x";
    let mut session =
        lab.task("alice", ["caplet", "run", "--quiet", "-p", "lean", "bash", "-c", hog]).stdin_open().spawn();
    session.wait_for("still here");
    assert_eq!(session.out_so_far(), "hog 137\nstill here\n");
    let folder = folder(lab, "lean");
    assert!(number(lab, &format!("{folder}/memory.events"), "oom_kill ") >= 1);
    assert_eq!(lab.read(&format!("{folder}/memory.swap.max")), "0\n");
    assert!(number(lab, &format!("{folder}/memory.current"), "") <= 64 << 20);
    others_go_on(lab, "a memory hog");
    assert!(other.alive());
    // Files in memory cannot be killed: whoever writes them is.
    let dd = ["caplet", "run", "--quiet", "-p", "lean", "dd", "if=/dev/zero", "of=/tmp/x", "bs=1M", "count=256"];
    lab.run_as("alice", dd).expect_code(137);
    for running in [&mut session, &mut other] {
        drop(running.stdin.take());
        running.wait();
    }
    assert_eq!(left(lab), "");
}

#[test]
fn a_share_of_a_processor_is_all_it_gets() {
    let Some((lab, _alone)) = bounded() else { return };
    let start = Instant::now();
    let line = "timeout 4 sh -c 'while :; do :; done' & timeout 4 sh -c 'while :; do :; done'; wait; times; read x";
    let mut session =
        lab.task("alice", ["caplet", "run", "--quiet", "-p", "slow", "bash", "-c", line]).stdin_open().spawn();
    session.wait_for("m");
    let stat = format!("{}/cpu.stat", folder(lab, "slow"));
    assert!(number(lab, &stat, "nr_throttled ") > 5, "{}", lab.read(&stat));
    // A fifth of the time, and some of it at each start of a period.
    let (used, passed) = (number(lab, &stat, "usage_usec "), start.elapsed().as_micros() as u64);
    assert!(used < passed * 3 / 10, "{used} of {passed}");
    drop(session.stdin.take());
    session.wait();
}

/// Also with every capability, as uid 0 of the session, with a tree of cgroups mounted and namespaces of one's own.
#[test]
fn nobody_leaves_the_cgroup_of_a_session() {
    let Some((lab, _alone)) = bounded() else { return };
    let attempts = "mount -t cgroup2 none /mnt && ls -d /mnt/cgroup.procs; cat /proc/self/cgroup; \
        for f in /mnt/cgroup.procs /mnt/../cgroup.procs /sys/fs/cgroup/cgroup.procs /proc/1/root/sys/fs/cgroup/cgroup.procs; do \
            echo 0 >$f && echo LEFT $f; done; \
        mkdir /mnt/sub && echo MADE; echo max >/mnt/pids.max && echo RAISED; echo 0 >/mnt/cgroup.freeze && echo THAWED; \
        unshare -C sh -c 'umount /mnt; mount -t cgroup2 none /mnt; echo 0 >/mnt/cgroup.procs && echo LEFT; \
            mkdir /mnt/sub && echo MADE'; \
        unshare -UrmC sh -c 'mount -t cgroup2 none /mnt; echo 0 >/mnt/cgroup.procs && echo LEFT; mkdir /mnt/s && echo MADE'; \
        echo ready; read x";
    for extra in [&["--privileged"][..], &["--cap-add", "ALL"], &[]] {
        let words = [&["caplet", "run", "--quiet", "-p", "full"], extra, &["sh", "-c", attempts]].concat();
        let mut session = lab.task("alice", words).stdin_open().spawn();
        session.wait_for("ready");
        let (out, err) = (session.out_so_far(), session.err_so_far());
        for word in ["LEFT", "MADE", "RAISED", "THAWED"] {
            assert!(!out.contains(word), "{extra:?}: {out}\n{err}");
        }
        // It sees itself at the top, and nothing else.
        assert!(out.contains("0::/\n"), "{out}");
        if !extra.is_empty() {
            assert!(out.contains("/mnt/cgroup.procs\n"), "{extra:?}: {out}\n{err}");
        }
        // From outside, as the same user.
        let folder = folder(lab, "full");
        let inside = Session::isolated(&session);
        let pid = caplet_lab::ProcStatus::of(inside.command).expect("it runs").namespace_pids()[1];
        lab.sh("alice", &format!("echo {pid} >{TREE}/cgroup.procs")).expect_code(1);
        lab.sh("alice", &format!("echo {pid} >{folder}/session/cgroup.procs; echo 1 >{folder}/cgroup.kill"))
            .expect_code(1);
        // All of the session is in it: PID 1 and the command. Those who watch it are not.
        let listed = lab.read(&format!("{folder}/session/cgroup.procs"));
        for inner in [inside.init, inside.command] {
            assert!(listed.lines().any(|line| line == inner.to_string()), "{inner}: {listed}");
        }
        assert_eq!(listed.lines().count(), 2, "{listed}");
        drop(session.stdin.take());
        session.wait();
        assert_eq!(left(lab), "");
    }
}

/// What stays behind stays limited, and the folder with it, until the last of it has ended.
#[test]
fn what_lingers_is_still_limited() {
    let Some((lab, _alone)) = bounded() else { return };
    let line = "setsid sleep 4713 >/dev/null 2>&1 & echo gone";
    lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "kept", "sh", "-c", line]).expect_ok();
    let folder = folder(lab, "kept");
    assert_eq!(lab.read(&format!("{folder}/pids.max")), "40\n");
    assert!(number(lab, &format!("{folder}/pids.current"), "") >= 2);
    let id = folder.rsplit('-').next().expect("an id").to_owned();
    lab.run_as("root", ["caplet", "end", &id]).expect_ok();
    assert!(until(Duration::from_secs(10), || left(lab).is_empty()), "{}", left(lab));
}

/// Row T08: whoever is killed, and be it everybody of ours at once, the next start finds what is left.
#[test]
fn a_cgroup_whose_session_was_killed_goes_with_the_next_start() {
    let Some((lab, _alone)) = bounded() else { return };
    for profile in ["few", "real"] {
        for _ in 0..3 {
            let words = ["caplet", "run", "--quiet", "-p", profile, "sleep", "4714"];
            let mut running: Vec<_> = (0..3).map(|_| lab.task("alice", words).spawn()).collect();
            let find = |r| if profile == "real" { Session::host(r) } else { Session::isolated(r) };
            let sessions: Vec<Session> = running.iter().map(find).collect();
            for session in &sessions {
                for pid in [session.guard, session.relay] {
                    Session::signal(pid, Signal::SIGKILL);
                }
            }
            // Many at once look for it.
            let start = || lab.task("bob", ["caplet", "run", "--quiet", "-p", "own", "true"]).spawn();
            let starts: Vec<_> = (0..6).map(|_| start()).collect();
            starts.into_iter().for_each(|start| drop(start.output().expect_ok()));
            for running in &mut running {
                running.wait();
            }
            lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "own", "true"]).expect_ok();
            assert_eq!(left(lab), "", "{profile}");
            // A command without its guard goes with its cgroup.
            assert_eq!(lab.processes_left(), [], "{profile}");
            assert_eq!(lab.root("ls -I auth /run/caplet").out(), "", "{profile}");
        }
    }
}

/// A folder that was delegated to the caller is the caller's to freeze and to move out of: the session is made above it,
/// and below everything that is root's, whose limits go on holding.
#[test]
fn a_session_is_made_above_what_is_delegated_and_below_what_is_roots() {
    let Some((lab, _alone)) = bounded() else { return };
    lab.root(&format!(
        "cd {TREE}; echo '+pids +memory +cpu' >cgroup.subtree_control; mkdir -p slice/mine/job; \
         chown -R alice slice/mine; echo 30 >slice/pids.max"
    ));
    let line = format!(
        "echo $$ >{TREE}/slice/mine/job/cgroup.procs; \
         exec setpriv --reuid=alice --regid=alice --clear-groups caplet run --quiet -p few sh -c 'echo ready; read x'"
    );
    let mut session = lab.task("root", ["sh", "-c", &line]).stdin_open().spawn();
    session.wait_for("ready");
    let folder = folder(lab, "few");
    assert!(folder.starts_with(&format!("{TREE}/slice/caplet-")), "{folder}");
    let inside = Session::isolated(&session);
    let pid = caplet_lab::ProcStatus::of(inside.command).expect("it runs").namespace_pids()[1];
    lab.sh("alice", &format!("echo {pid} >{TREE}/slice/mine/job/cgroup.procs")).expect_code(1);
    // Whoever manages the folder above cannot take the controller away.
    lab.sh("root", &format!("echo -pids >{TREE}/slice/cgroup.subtree_control")).expect_code(1);
    drop(session.stdin.take());
    session.wait();
    assert_eq!(left(lab), "");
    lab.root(&format!("cd {TREE}; rmdir slice/mine/job slice/mine slice"));
}

/// All that a session writes into memory is one file system of its own, and has one size.
#[test]
fn what_a_session_writes_into_memory_has_one_size() {
    let Some(lab) = lab() else { return };
    let program = "
import errno, os
def fill(path):
    total = 0
    try:
        with open(path, 'wb', 0) as f:
            while True:
                total += f.write(b'x' * 65536)
    except OSError as e:
        return total, errno.errorcode[e.errno]
home, uid = os.environ['HOME'], os.getuid()
places = ['/tmp', '/var/tmp', '/dev/shm', f'/run/user/{uid}', home]
got = [fill(p + '/fill') for p in places]
print(sum(n for n, _ in got) <= 4 << 20, {e for _, e in got})
for p in places: os.unlink(p + '/fill')
made = 0
try:
    for n in range(100000):
        os.close(os.open(f'/tmp/{n}', os.O_CREAT)); made = n
except OSError as e: print(made < 1024, errno.errorcode[e.errno])
try: os.link('/tmp/0', '/var/tmp/0')
except OSError as e: print(errno.errorcode[e.errno])
";
    let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "small", "python3", "-c", program]).expect_ok();
    assert_eq!(out.out(), "True {'ENOSPC'}\nTrue ENOSPC\nEXDEV", "{out}");
    // Without a size, half of memory for all of it, as one tmpfs has.
    let line = "stat -f -c '%i %b' /tmp /var/tmp /dev/shm /run | sort -u | wc -l; stat -f -c '%b %S' /tmp; \
        sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo";
    let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "own", "sh", "-c", line]).expect_ok().out();
    let numbers: Vec<u64> = out.split_whitespace().map(|n| n.parse().expect("a number")).collect();
    let [systems, blocks, size, total] = numbers[..] else { panic!("{out}") };
    assert_eq!(systems, 1, "{out}");
    assert!(blocks * size / 1024 <= total / 2 + 4, "{out}");
}

const TAKE: &str = r#"
#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>
int main(void) {
    int limit = open("/proc/sys/user/max_inotify_instances", O_WRONLY), n = 0, t = 0;
    if (limit >= 0 && write(limit, "100000", 6) < 0) perror("write");
    while (n < 100000 && inotify_init1(0) >= 0) n++;
    closefrom(3);
    while (open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0) t++;
    printf("%d\n%d\n", n, t);
}
"#;

/// The kernel counts a session's watches for its user, and its terminals for the machine: one session has a part of them, also
/// one that holds what raises limits.
#[test]
fn what_a_user_has_is_not_one_sessions_alone() {
    let Some(lab) = lab() else { return };
    need!("cc");
    lab.write("/root/take.c", TAKE, 0o644, "root");
    lab.root("cc -O2 -Wall -Werror -o /usr/local/bin/take /root/take.c");
    let all: u64 = lab.read("/proc/sys/fs/inotify/max_user_instances").trim().parse().expect("a number");
    lab.write(
        "/etc/caplet/policy.d/parts.toml",
        "[profile.parts]\nusers = [\"alice\"]\nmay_add = [\"ALL\"]\n\
         [profile.nested]\nusers = [\"alice\"]\nmay_add = [\"ALL\"]\nnested_userns = true\n",
        0o640,
        "root",
    );
    for profile in ["parts", "nested"] {
        for extra in [&[][..], &["--cap-add", "ALL"]] {
            let words = [&["caplet", "run", "--quiet", "-p", profile], extra, &["take"]].concat();
            let out = lab.run_as("alice", words).expect_ok().out();
            let numbers: Vec<u64> = out.lines().map(|n| n.parse().expect("a number")).collect();
            assert!(numbers[0] <= all / 4 && numbers[0] > 0, "{profile} {extra:?}: {out} of {all}");
            assert!(numbers[1] <= 64, "{profile} {extra:?}: {out}");
        }
    }
    // And of user namespaces, where it may make some.
    let limit = "/proc/sys/user/max_user_namespaces";
    let all: u64 = lab.read(limit).trim().parse().expect("a number");
    let part: u64 = lab
        .run_as("alice", ["caplet", "run", "--quiet", "-p", "nested", "cat", limit])
        .expect_ok()
        .out()
        .parse()
        .expect("a number");
    assert!(part <= all / 4 && part > 0, "{part} of {all}");
    lab.root("rm /etc/caplet/policy.d/parts.toml");
}
