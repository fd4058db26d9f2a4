//! The bench itself: is the machine what the system tests take it for? Needs no caplet.

use caplet_lab::{Lab, ProcStatus, SharedLab, need, patience, shared, skip};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

static LAB: SharedLab = SharedLab::new();

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        Lab::new()
            .without_caplet()
            .user("alice", &["students", "video"])
            .user("bob", &[])
            .group("docker")
            .subid("alice", 100_000, 65_536)
            .file("/usr/local/bin/rootid", std::fs::read("/usr/bin/id").unwrap_or_default(), 0o4755, "root")
    })
}

#[test]
fn users_have_their_ids_groups_home_and_a_clean_environment() {
    let Some(lab) = lab() else { return };
    let out = lab.run_as("alice", ["cat", "/proc/self/status"]).expect_ok();
    let status = out.proc_status();
    assert_eq!(status.uids(), [lab.uid("alice"); 4]);
    assert_eq!(status.gids(), [lab.uid("alice"); 4]);
    let mut groups = vec![lab.uid("alice"), lab.gid("students"), lab.gid("video")];
    groups.sort_unstable();
    assert_eq!(status.groups(), groups);
    assert_eq!(status.caps().effective, 0);
    assert_eq!((status.signals("SigBlk"), status.signals("SigIgn")), (0, 0));
    assert_eq!(lab.sh("alice", "pwd; stat -c %a:%U .").out(), "/home/alice\n700:alice");
    assert_eq!(lab.run_as("alice", ["id", "-nG"]).out().split(' ').count(), 3);
    assert_eq!(lab.run_as("alice", ["getent", "group", "docker"]).code(), 0);
    let environment = lab.run_as("alice", ["env"]).out();
    let mut names: Vec<_> = environment.lines().filter_map(|l| l.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER"]);
    assert_eq!(lab.read("/etc/subuid"), "alice:100000:65536\n");
}

#[test]
fn root_is_root_and_has_what_this_process_has() {
    let Some(lab) = lab() else { return };
    let own = ProcStatus::of(std::process::id().cast_signed()).expect("this process").caps();
    let there = lab.run_as("root", ["cat", "/proc/self/status"]).proc_status().caps();
    assert_eq!(there.permitted, own.permitted);
    assert_eq!(there.bounding, own.bounding);
    assert_eq!(lab.full(), own.bounding);
    assert_eq!(lab.kernel() & own.bounding, own.bounding);
}

#[test]
fn the_setuid_bit_is_honoured() {
    let Some(lab) = lab() else { return };
    assert!(lab.run_as("alice", ["rootid"]).out().contains("euid=0(root)"));
}

#[test]
fn the_machine_is_apart_from_the_host() {
    let Some(lab) = lab() else { return };
    assert_eq!(lab.run_as("alice", ["hostname"]).out(), "lab");
    assert_eq!(lab.sh("bob", "echo /sys/class/net/*").out(), "/sys/class/net/lo");
    assert_eq!(lab.sh("bob", "ls -A /run/user").out(), "");
    for name in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace");
        assert_ne!(link(&lab.init().to_string()), link("self"), "{name}");
    }
    let user = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).expect("a namespace");
    assert_eq!(user(&lab.init().to_string()), user("self"));
    lab.root("touch /etc/of-the-lab /tmp/of-the-lab; ip link add type veth; ip link set lo down; ip link set lo up");
    assert!(!std::path::Path::new("/etc/of-the-lab").exists());
    assert!(!std::path::Path::new("/tmp/of-the-lab").exists());
}

#[test]
fn log_records_carry_who_sent_them() {
    let Some(lab) = lab() else { return };
    let program = "import syslog; syslog.openlog('caplet', syslog.LOG_PID, syslog.LOG_AUTHPRIV); \
                   syslog.syslog(syslog.LOG_NOTICE, 'grant id=1 user=forged command=\"a b\"')";
    let _ = lab.python("alice", program).expect_ok();
    let record = lab.log().wait("grant", &[("user", "forged")]);
    assert_eq!((record.uid, record.gid), (lab.uid("alice"), lab.uid("alice")));
    assert_eq!(record.priority(), Some((10, 5)));
    assert_eq!(record.field("command"), "a b");
    assert_eq!(lab.log().find("grant", &[("user", "nobody")]), []);
}

#[test]
fn input_output_status_and_descriptors_pass() {
    let Some(lab) = lab() else { return };
    assert_eq!(lab.task("alice", ["cat"]).stdin("one\ntwo").run().out(), "one\ntwo");
    assert_eq!(lab.sh("alice", "exit 42").code(), 42);
    assert_eq!(lab.sh("alice", "kill -9 $$").code(), 1009);
    assert_eq!(lab.task("alice", ["pwd"]).cwd("/usr").run().out(), "/usr");
    assert_eq!(lab.task("alice", ["sh", "-c", "echo $X"]).env("X", "y").run().out(), "y");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let out = lab.task("alice", ["sh", "-c", "echo hello >&7; ls -1 /proc/$$/fd"]).descriptor(writer, 7).run();
    assert_eq!(out.out(), "0\n1\n2\n7");
    assert_eq!(std::io::read_to_string(reader).expect("text"), "hello\n");
}

#[test]
fn a_terminal_behaves_as_one() {
    let Some(lab) = lab() else { return };
    let mut terminal = lab.task("alice", ["/bin/bash", "--norc", "-i"]).terminal(33, 99);
    terminal.send("PS1='> '; tty; stty size\n");
    terminal.expect("/dev/pts/");
    terminal.expect("33 99");
    terminal.resize(20, 70);
    terminal.send("stty size\n");
    terminal.expect("20 70");
    terminal.send("sleep 100\n");
    terminal.expect("sleep 100");
    std::thread::sleep(Duration::from_millis(200));
    assert_ne!(terminal.foreground(), 0);
    terminal.send("\u{3}");
    terminal.send("echo code $?\n");
    terminal.expect("code 130");
    terminal.send("exit 7\n");
    assert_eq!(terminal.wait().code(), Some(7));
}

#[test]
fn who_stays_behind_is_seen_and_reaped() {
    // A machine of its own: in the shared one others run.
    let Some(lab) = Lab::new().without_caplet().user("alice", &[]).start() else { return };
    let _ = lab.sh("alice", "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!").expect_ok();
    let seen = || lab.processes().iter().any(|(_, name)| name == "sleep");
    let start = Instant::now();
    while !seen() && start.elapsed() < patience(Duration::from_secs(10)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(seen());
    lab.root("pkill -x sleep");
    assert_eq!(lab.processes_left(), []);
    lab.root("mount -t tmpfs x /mnt");
    assert_eq!(lab.mounts_left(), [std::path::PathBuf::from("/mnt")]);
    lab.root("umount /mnt");
    assert!(lab.mounts_left().is_empty());
}

#[test]
fn tools_of_the_machine_work_for_its_users() {
    need!("bindfs", "fusermount3", "setcap");
    let Some(lab) = lab() else { return };
    lab.root("chmod 666 /dev/fuse");
    let out =
        lab.sh("alice", "mkdir -p a b && echo x > a/f && bindfs --no-allow-other a b && cat b/f; fusermount3 -u b");
    assert_eq!(out.out(), "x", "{out}");
    lab.root("cp /bin/cat /usr/local/bin/capcat && setcap cap_net_raw=ep /usr/local/bin/capcat");
    let status = lab.run_as("alice", ["capcat", "/proc/self/status"]).proc_status();
    assert_eq!(status.caps().effective, 1 << 13);
}

#[test]
fn a_machine_starts_quickly_and_leaves_nothing() {
    let start = Instant::now();
    let Some(lab) = Lab::new().without_caplet().user("alice", &[]).start() else { return };
    let took = start.elapsed();
    let init = lab.init();
    let _ = lab.sh("alice", "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo").expect_ok();
    drop(lab);
    assert_gone(init);
    // 0.15 s on an idle machine; this one is shared.
    assert!(took < patience(Duration::from_secs(3)), "{took:?}");
    eprintln!("a machine took {took:?}");
}

#[test]
fn a_killed_test_leaves_nothing() {
    if !nix::unistd::geteuid().is_root() {
        skip!("needs root");
    }
    let mut test = Command::new(std::env::current_exe().expect("this program"));
    test.args(["--exact", "waits_to_be_killed", "--ignored", "--nocapture"]).stdout(Stdio::piped());
    let mut test = test.process_group(0).spawn().expect("this program starts");
    let lines = BufReader::new(test.stdout.take().expect("a pipe")).lines();
    let init = lines.map_while(Result::ok).find_map(|l| l.rsplit_once("init ")?.1.parse().ok()).expect("its pid");
    assert!(ProcStatus::of(init).is_some());
    test.kill().expect("kill");
    test.wait().expect("wait");
    assert_gone(init);
}

#[test]
#[ignore = "not a test: the victim of a_killed_test_leaves_nothing"]
fn waits_to_be_killed() {
    let Some(lab) = Lab::new().without_caplet().user("alice", &[]).start() else { return };
    let _sleeper = lab.task("alice", ["sleep", "1000"]).spawn();
    println!("init {}", lab.init());
    std::thread::sleep(Duration::from_secs(60));
}

fn assert_gone(init: i32) {
    let start = Instant::now();
    while ProcStatus::of(init).is_some_and(|s| s.state() != 'Z') {
        assert!(start.elapsed() < patience(Duration::from_secs(5)), "PID 1 of the machine still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.lines().any(|l| l.contains(" - overlay lab ")), "{mounts}");
}
