//! What a session's filter shuts, what each capability opens again, and what stays as it is on the machine.

use caplet_lab::{Filter, Lab, Output, ProcStatus, Session, SharedLab, need, shared};
use caplet_policy::capability::CapSet;
use caplet_policy::syscalls::{Answer, GATES, Gate, When};
use nix::sys::signal::Signal;

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.own]
users = ["alice"]
may_add = ["ALL"]

[profile.zero]
users = ["alice"]
user = "root"
may_add = ["ALL"]
privileged = true

[profile.nested]
users = ["alice"]
nested_userns = true

[profile.unfiltered]
users = ["alice"]
seccomp = "none"

[profile.real]
users = ["alice"]
scope = "host"
caps = ["SYS_NICE"]
pam_account = false
"#;

/// Calls whose arguments the kernel refuses otherwise than a filter would; some again by `int 0x80`, and one as x32.
const CALLS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void say(const char *name, long r) { printf("%s %s\n", name, r < 0 ? strerrorname_np(errno) : "ok"); }
static void *thread(void *unused) { return unused; }
#ifdef __x86_64__
static void old(const char *name, long number, long a, long b, long c) {
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    if (r < 0) errno = -r;
    say(name, r < 0 ? -1 : r);
}
#endif
int main(void) {
    say("unshare", syscall(SYS_unshare, CLONE_NEWNS | 1));
    say("clone", syscall(SYS_clone, CLONE_NEWNS | CLONE_FS, 0, 0, 0, 0));
    say("clone3", syscall(SYS_clone3, 0, 0));
    say("setns", syscall(SYS_setns, -1, 0));
    say("mount", syscall(SYS_mount, 0, "/nowhere", 0, 0, 0));
    say("umount2", syscall(SYS_umount2, "/nowhere", 0x10000));
    say("open_tree", syscall(SYS_open_tree, -1, "", 2));
    say("mount_setattr", syscall(SYS_mount_setattr, -1, "", 2, 0, 0));
    say("swapon", syscall(SYS_swapon, "/nowhere", 1 << 30));
    say("settimeofday", syscall(SYS_settimeofday, 1, 0));
    say("clock_settime", syscall(SYS_clock_settime, 9999, 0));
    say("io_uring_setup", syscall(SYS_io_uring_setup, 1, 0));
    say("AF_ALG", socket(38, SOCK_SEQPACKET, 0));
    say("AF_VSOCK", socket(40, 99, 0));
#ifdef __x86_64__
    say("ioperm", syscall(SYS_ioperm, 0, 0, 0));
    say("x32", syscall(0x40000000 + SYS_getpid));
    old("i386 getpid", 20, 0, 0, 0);
    old("i386 unshare", 310, CLONE_NEWNS | 1, 0, 0);
    old("i386 setns", 346, -1, 0, 0);
    old("i386 umount2", 52, 0, 0x10000, 0);
    old("i386 clone3", 435, 0, 0, 0);
    old("i386 settimeofday", 79, 1, 0, 0);
    old("i386 io_uring_setup", 425, 1, 0, 0);
    old("i386 AF_VSOCK", 359, 40, 99, 0);
    old("i386 AF_UNIX", 359, 1, 1, 0);
    old("i386 socketcall", 102, 1, 0, 0);
#endif
    say("kept unshare", unshare(CLONE_FS | CLONE_FILES));
    say("kept userfaultfd", syscall(SYS_userfaultfd, 1));
    say("kept AF_NETLINK", socket(AF_NETLINK, SOCK_RAW, 0));
    pthread_t one;
    errno = pthread_create(&one, 0, thread, 0);
    say("kept threads", errno ? -1 : pthread_join(one, 0));
    pid_t child = fork();
    if (!child) _exit(0);
    say("kept fork", child < 0 ? -1 : waitpid(child, 0, 0) == child ? 0 : -1);
}
"#;

fn lab() -> Option<&'static Lab> {
    let lab = shared(&LAB, || {
        Lab::new().user("alice", &["students"]).file("/srv/calls.c", CALLS, 0o644, "root").policy(POLICY)
    })?;
    lab.root("[ -x /srv/calls ] || { cc -w -pthread -o /srv/new.$$ /srv/calls.c && mv /srv/new.$$ /srv/calls; }")
        .expect_ok();
    Some(lab)
}

fn run(lab: &Lab, flags: &[&str], command: &[&str]) -> Output {
    lab.run_as("alice", [&["caplet", "run", "--quiet"], flags, command].concat())
}

fn with_session<T>(lab: &Lab, flags: &[&str], look: impl FnOnce(Session) -> T) -> T {
    let words = [&["caplet", "run", "--quiet"], flags, &["sleep", "1000"]].concat();
    let mut running = lab.task("alice", words).spawn();
    let session = Session::isolated(&running);
    let seen = look(session);
    Session::signal(session.relay, Signal::SIGTERM);
    running.wait();
    session.wait_end();
    seen
}

/// The numbers of the gates' calls, as the C library's headers have them: a source of their own.
fn numbers(lab: &Lab, header: &str) -> Vec<Option<u32>> {
    let names: String = GATES.iter().map(|g| format!("=__NR_{}\n", g.call)).collect();
    let words = ["cc", "-E", "-P", "-x", "c", "-include", &format!("asm/{header}"), "-"];
    let out = lab.task("root", words).stdin(names).run().expect_ok().out();
    let numbers: Vec<Option<u32>> = out.split('=').skip(1).map(|word| word.trim().parse().ok()).collect();
    assert_eq!(numbers.len(), GATES.len(), "{out}");
    numbers
}

#[cfg(target_arch = "x86_64")]
const TABLES: &[(u32, &str, usize)] = &[(0xc000_003e, "unistd_64.h", 36), (0x4000_0003, "unistd_32.h", 38)];
#[cfg(target_arch = "aarch64")]
const TABLES: &[(u32, &str, usize)] = &[(0xc000_00b7, "unistd.h", 34)];

const ALLOW: u32 = 0x7fff_0000;

/// An argument with which the call is off.
fn off(gate: &Gate) -> u64 {
    match gate.when {
        When::Always | When::NoBit(_) => 0,
        When::AnyBit(_) => 0x1000_0000,
        When::OneOf([one, _]) => u64::from(one),
    }
}

/// Every call of every table of the machine, in the program that the kernel holds, against the gates.
fn is_as_granted(lab: &Lab, flags: &[&str], caps: CapSet, nested: bool) {
    let filters = with_session(lab, flags, |session| {
        assert_eq!(ProcStatus::of(session.command).expect("it runs").seccomp(), 2, "{flags:?}");
        assert_eq!(ProcStatus::of(session.init).expect("it runs").seccomp(), 2, "{flags:?}: PID 1");
        Filter::of(session.command)
    });
    assert_eq!(filters.len(), 1, "{flags:?}");
    for (arch, header, least) in TABLES {
        let known: Vec<(&Gate, u32)> =
            GATES.iter().zip(numbers(lab, header)).filter_map(|(gate, number)| Some((gate, number?))).collect();
        assert!(known.len() >= *least, "{header}: {known:?}");
        for (gate, number) in known {
            let errno = match gate.answer {
                Answer::NotPermitted => nix::libc::EPERM,
                Answer::NoSuchCall => nix::libc::ENOSYS,
                Answer::NoSuchFamily => nix::libc::EAFNOSUPPORT,
            };
            let wanted = if gate.is_open(caps, nested) { ALLOW } else { 0x0005_0000 | errno as u32 };
            assert_eq!(filters[0].verdict(*arch, number, off(gate)), wanted, "{flags:?}: {} {arch:#x}", gate.call);
        }
        for number in [0, 1, 63, 64] {
            assert_eq!(filters[0].verdict(*arch, number, u64::MAX), ALLOW, "{number}");
        }
    }
}

#[test]
fn the_kernel_holds_a_filter_that_is_the_grants() {
    let Some(lab) = lab() else { return };
    is_as_granted(lab, &["-p", "own"], CapSet::EMPTY, false);
    is_as_granted(lab, &["-p", "zero"], CapSet::DOCKER, false);
    is_as_granted(lab, &["-p", "nested"], CapSet::EMPTY, true);
    is_as_granted(lab, &["-p", "own", "--cap-add", "ALL"], CapSet::KNOWN, false);
}

#[test]
fn each_capability_opens_its_own_calls_again() {
    let Some(lab) = lab() else { return };
    let stands_for_calls = |cap: &_| GATES.iter().any(|gate| gate.opened_by.contains(*cap));
    let mut seen = 0;
    for cap in CapSet::KNOWN.iter().filter(stands_for_calls) {
        // Under ALL also what can do nothing in a session is given; the rest is then taken out again.
        let others = CapSet::KNOWN.minus(CapSet::EMPTY.with(cap)).to_string();
        let flags = ["-p", "own", "--cap-add", "ALL", "--cap-drop", &others];
        is_as_granted(lab, &flags, CapSet::EMPTY.with(cap), false);
        seen += 1;
    }
    assert!(seen >= 10, "{seen}");
}

#[test]
fn no_filter_where_the_profile_or_privileged_says_so_and_pid_1_keeps_its_own() {
    let Some(lab) = lab() else { return };
    for flags in [&["-p", "unfiltered"][..], &["-p", "zero", "--privileged"]] {
        with_session(lab, flags, |session| {
            assert_eq!(ProcStatus::of(session.command).expect("it runs").seccomp(), 0, "{flags:?}");
            assert_eq!(ProcStatus::of(session.init).expect("it runs").seccomp(), 2, "{flags:?}: PID 1");
        });
    }
}

/// What one of the calls said, with these flags.
fn said(out: &Output, call: &str) -> String {
    let line = |l: &str| l.strip_prefix(call).and_then(|rest| rest.strip_prefix(' ')).map(str::to_owned);
    out.out().lines().find_map(line).unwrap_or_else(|| panic!("{call}: {out}"))
}

#[test]
fn a_user_who_calls_finds_shut_what_is_shut_in_every_table() {
    let Some(lab) = lab() else { return };
    let shut = run(lab, &["-p", "own"], &["/srv/calls"]).expect_ok();
    let open = run(lab, &["-p", "unfiltered"], &["/srv/calls"]).expect_ok();
    let all = run(lab, &["-p", "own", "--cap-add", "ALL"], &["/srv/calls"]).expect_ok();
    for (call, errno, opened) in [
        ("unshare", "EPERM", true),
        ("clone", "EPERM", true),
        ("clone3", "ENOSYS", true),
        ("setns", "EPERM", true),
        ("mount", "EPERM", true),
        ("umount2", "EPERM", true),
        ("open_tree", "EPERM", true),
        ("mount_setattr", "EPERM", true),
        ("swapon", "EPERM", false),
        ("settimeofday", "EPERM", true),
        ("clock_settime", "EPERM", true),
        ("io_uring_setup", "ENOSYS", false),
    ] {
        assert_eq!(said(&shut, call), errno, "{shut}");
        // Linux 7.2 itself says so to who may not mount, whatever the other words.
        if call != "open_tree" {
            assert_ne!(said(&open, call), errno, "without a filter the kernel itself says so: {call}");
        }
        assert_eq!(said(&all, call) != errno, opened, "{call}: {all}");
    }
    for family in ["AF_ALG", "AF_VSOCK"] {
        assert_eq!(said(&shut, family), "EAFNOSUPPORT", "{shut}");
        assert_eq!(said(&all, family), "EAFNOSUPPORT", "{all}");
    }
    for kept in ["unshare", "userfaultfd", "AF_NETLINK", "threads", "fork"] {
        let call = format!("kept {kept}");
        assert_eq!(said(&shut, &call), said(&open, &call), "{kept}: {shut}");
    }
    assert_eq!(said(&shut, "kept threads"), "ok");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(said(&shut, "ioperm"), "EPERM", "{shut}");
        assert_ne!(said(&open, "ioperm"), "EPERM", "{open}");
        for out in [&shut, &all] {
            assert_eq!(said(out, "x32"), "ENOSYS", "{out}");
        }
        if said(&open, "i386 getpid") != "ok" {
            return; // this kernel has no such table (ia32_emulation)
        }
        for (call, errno) in [
            ("getpid", "ok"),
            ("unshare", "EPERM"),
            ("setns", "EPERM"),
            ("umount2", "EPERM"),
            ("clone3", "ENOSYS"),
            ("settimeofday", "EPERM"),
            ("io_uring_setup", "ENOSYS"),
            ("AF_VSOCK", "EAFNOSUPPORT"),
            ("AF_UNIX", "ok"),
            ("socketcall", "ENOSYS"),
        ] {
            let call = format!("i386 {call}");
            assert_eq!(said(&shut, &call), errno, "{shut}");
            assert!(errno == "ok" || errno == "EAFNOSUPPORT" || said(&open, &call) != errno, "{call}: {open}");
        }
    }
}

/// With `nested_userns` the tools that make their own boxes work, each call of theirs included; without it, none.
#[test]
fn with_nested_userns_the_makers_of_boxes_work_again() {
    need!("bwrap", "unshare");
    let Some(lab) = lab() else { return };
    let bwrap = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--tmpfs", "/tmp", "id", "-u"];
    // As rootless containers are made: all namespaces, mounts, a new root, a host name.
    let container = "unshare -Urmpfniu --mount-proc sh -ec 'mount -t tmpfs t /mnt; mkdir /mnt/old /mnt/usr; \
                     mount --rbind /usr /mnt/usr; ln -s usr/bin usr/lib usr/lib64 /mnt; hostname box; cd /mnt; \
                     pivot_root . old; /bin/sh -c \"echo in a box\"'";
    for (program, works) in [(&bwrap[..], "1"), (&["sh", "-c", container], "in a box")] {
        let nested = run(lab, &["-p", "nested"], program);
        assert!(nested.ok() && nested.out().contains(works), "{program:?}: {nested}");
        let plain = run(lab, &["-p", "own"], program);
        assert!(!plain.ok(), "{program:?}: {plain}");
    }
}

/// A login shell is no container: what a course types works as without a filter, tracers and debuggers included.
#[test]
fn a_day_of_work_is_the_same_with_and_without() {
    need!("strace", "python3", "git", "ssh-keygen", "script", "make");
    let Some(lab) = lab() else { return };
    for line in [
        "strace -f -o /dev/null sh -c 'echo a | cat'",
        "cd $(mktemp -d); printf 'int main(void){return 7;}' >a.c; cc -g -o a a.c; ./a; echo $?",
        "cd $(mktemp -d); printf 'all:\\n\\techo done\\n' >Makefile; make -j4 -s",
        "python3 -c 'import threading,subprocess,socket,multiprocessing as m\nt=threading.Thread(target=print,args=(1,))\n\
         t.start();t.join();print(subprocess.run([\"id\",\"-u\"],capture_output=True).stdout)\n\
         a,b=socket.socketpair();a.send(b\"x\");print(b.recv(1));p=m.Pool(2);print(p.map(abs,[-1,2]))'",
        "cd $(mktemp -d); git init -q; git -c user.name=a -c user.email=a commit -q --allow-empty -m a; git log --format=%s",
        "f=$(mktemp -u); ssh-keygen -q -t ed25519 -N '' -f $f; wc -l <$f.pub",
        "script -qec 'stty size' /dev/null </dev/null | tr -d '\\r'",
        "setarch -R true; nice -n 5 true; ionice -c 3 true; taskset -c 0 true; prlimit --nofile=64 true; chrt -i 0 true; echo $?",
        "f=$(mktemp); setfattr -n user.x -v 1 $f 2>/dev/null; sort -u /etc/passwd | head -1; sha256sum /etc/hostname; df / >/dev/null; \
         flock $f true; mkfifo $f.f; truncate -s 1M $f; cp --reflink=auto $f $f.2; cp --sparse=always $f $f.3; echo $?",
    ] {
        let with = run(lab, &["-p", "own"], &["sh", "-c", line]);
        let without = run(lab, &["-p", "unfiltered"], &["sh", "-c", line]);
        assert_eq!(with.code(), without.code(), "{line}: {with}");
        assert_eq!(with.out(), without.out(), "{line}");
        assert_eq!(with.err(), without.err(), "{line}");
        assert!(!with.out().is_empty() || line.starts_with("strace"), "{line}: {with}");
    }
}

/// A host session is the machine: its own filter, of the terminal, and no more.
#[test]
fn a_host_session_has_the_terminals_filter_alone() {
    let Some(lab) = lab() else { return };
    let shut = run(lab, &["-p", "real"], &["/srv/calls"]).expect_ok();
    assert_eq!(said(&shut, "clone3"), "EINVAL", "{shut}");
}
