//! What a user may try so that a session outlives its grant: found in a hostile review, each tried here.

use caplet_lab::{Lab, ProcStatus, Running, Session, need, until};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

const POLICY: &str = r#"
[profile.short]
users = ["*"]
max_lifetime = 1
[profile.lingers]
users = ["*"]
linger = true
max_lifetime = 1
[profile.taken]
users = ["alice"]
[profile.course]
groups = ["course"]
[profile.real]
users = ["*"]
scope = "host"
pam_account = false
caps = ["NET_ADMIN"]
[profile.asks]
users = ["*"]
scope = "host"
auth = "password"
pam_account = false
"#;

const DEAF: &str = "trap '' TERM HUP INT; echo ready; while :; do sleep 1; done";

fn started(lab: &Lab, user: &str, argv: &[&str]) -> Running {
    let running = lab.task(user, argv).limit(300).spawn();
    running.wait_for("ready");
    running
}

/// A timer slack of months delays every poll(2) of a process and of those that it starts.
#[test]
fn no_timer_slack_of_the_callers_puts_the_end_off() {
    need!("python3");
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    let slack = "import ctypes, os, sys\nassert ctypes.CDLL(None).prctl(29, ctypes.c_ulong(10**16), 0, 0, 0) == 0\nos.execv('/usr/bin/caplet', ['caplet', 'run', '--quiet', *sys.argv[1:]])";
    let start = Instant::now();
    let slow =
        |profile: &str| started(&lab, "alice", &["/usr/bin/python3", "-c", slack, "-p", profile, "bash", "-c", DEAF]);
    let (mut timed, mut taken) = (slow("short"), slow("taken"));
    let session = Session::isolated(&timed);
    let slack_of = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/timerslack_ns")).expect("its slack");
    assert_eq!(slack_of(session.guard).trim(), "50000");
    assert_eq!(slack_of(session.command).trim(), "10000000000000000", "the command has its own back");
    std::thread::sleep(Duration::from_secs(4));
    lab.set_policy(&POLICY.replace("[profile.taken]\nusers = [\"alice\"]\n", ""));
    timed.wait();
    taken.wait();
    assert!(start.elapsed() < Duration::from_secs(100), "{:?}", start.elapsed());
}

/// Scheduled as the last of all, bound to one processor, first to be killed: the command alone.
#[test]
fn no_scheduling_of_the_callers_starves_those_who_watch() {
    need!("chrt", "taskset", "ionice", "nice");
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    for (profile, isolated) in [("short", true), ("real", false)] {
        let line = format!(
            "echo 900 >/proc/self/oom_score_adj; exec nice -n 7 ionice -c 3 taskset -c 0 chrt -i 0 \
             caplet run --quiet -p {profile} bash -c 'echo ready; sleep 100; :'"
        );
        let mut running = started(&lab, "alice", &["bash", "-c", &line]);
        let session = if isolated { Session::isolated(&running) } else { Session::host(&running) };
        let relays_others: Vec<i32> = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", session.relay))
            .expect("children")
            .split_whitespace()
            .map(|pid| pid.parse().expect("a pid"))
            .collect();
        assert_eq!(relays_others.len(), 2, "guard and watcher");
        let state = |pid: i32| {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it runs");
            let sched = read("sched");
            let policy = sched
                .lines()
                .find_map(|line| line.strip_prefix("policy"))
                .map_or("?".to_owned(), |rest| rest.trim_start_matches([' ', ':']).to_owned());
            let cpus = ProcStatus::of(pid).expect("it runs").field("Cpus_allowed_list").to_owned();
            let stat = read("stat");
            let nice =
                stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(16)).expect("nice").to_owned();
            (policy, nice, cpus, read("oom_score_adj").trim().to_owned())
        };
        for pid in relays_others {
            let (policy, nice, cpus, oom) = state(pid);
            assert_eq!((policy.as_str(), nice.as_str(), oom.as_str()), ("0", "0", "0"), "{pid}");
            assert_ne!(cpus, "0", "{pid}");
        }
        let (policy, nice, cpus, oom) = state(session.command);
        assert_eq!(
            (policy.as_str(), nice.as_str(), cpus.as_str(), oom.as_str()),
            ("5", "7", "0", "900"),
            "the command"
        );
        running.signal(Signal::SIGTERM);
        running.wait();
    }
}

/// Whoever kills the own relay in the two seconds before the kill has not got away.
#[test]
fn a_hang_up_takes_no_end_back() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    let line = "setsid bash -c \"trap '' TERM HUP; while :; do sleep 1; done\" >/dev/null 2>&1 & \
        trap 'echo asked' TERM; trap '' HUP; echo ready; while :; do sleep 0.1; done";
    let mut running = started(&lab, "alice", &["caplet", "run", "--quiet", "-p", "lingers", "bash", "-c", line]);
    let session = Session::isolated(&running);
    assert!(until(Duration::from_secs(90), || running.out_so_far().contains("asked")), "its time is up");
    Session::signal(session.relay, Signal::SIGKILL);
    running.wait();
    let gone = |pid: i32| ProcStatus::of(pid).is_none_or(|status| status.state() == 'Z');
    assert!(
        until(Duration::from_secs(20), || gone(session.init) && gone(session.guard)),
        "PID 1 and all that was left behind"
    );
    let end = lab.log().wait("end", &[("user", "alice")]);
    assert_eq!(end.field("by"), "lifetime");
}

/// newgrp(1) makes a group the primary one, which getgrouplist(3) then always lists.
#[test]
fn a_group_that_is_the_primary_one_can_be_lost_too() {
    need!("sg");
    let lab = Lab::new().group("course").user("alice", &["course"]).user("bob", &["course"]).policy(POLICY);
    let Some(lab) = lab.start() else { return };
    lab.root("usermod -g course bob");
    let by_sg = format!("exec caplet run --quiet -p course bash -c \"{}\"", DEAF.replace('"', "\\\""));
    let mut one = started(&lab, "alice", &["sg", "course", "-c", &by_sg]);
    let mut two = started(&lab, "bob", &["caplet", "run", "--quiet", "-p", "course", "bash", "-c", DEAF]);
    std::thread::sleep(Duration::from_secs(4));
    lab.edit_accounts("gpasswd -d alice course; usermod -g nogroup bob; gpasswd -d bob course");
    one.wait();
    two.wait();
    for user in ["alice", "bob"] {
        assert_eq!(lab.log().wait("end", &[("user", user)]).field("by"), "policy", "{user}");
    }
}

/// What a host command leaves behind has real capabilities: it is seen, ended, and counted.
#[test]
fn what_a_host_command_leaves_behind_stays_in_sight() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    let line =
        "setsid bash -c \"trap '' TERM HUP; (trap '' TERM; sleep 3333 & sleep 3333); :\" >/dev/null 2>&1 & exit 5";
    let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "real", "bash", "-c", line]);
    assert_eq!((out.code(), out.err()), (5, String::new()), "nobody waits for it");
    assert!(until(Duration::from_secs(10), || lab.root("pgrep -x sleep -c || true").out() == "2"));
    assert!(lab.run_as("alice", ["caplet", "sessions"]).out().contains("real"));
    let id = lab.log().wait("grant", &[("user", "alice")]).field("id");
    assert!(lab.log().find("end", &[("id", &id)]).is_empty());
    lab.run_as("alice", ["caplet", "end", &id]).expect_ok();
    assert_eq!(lab.root("pgrep -x sleep -c || true").out(), "0", "deaf and detached as they are");
    let end = lab.log().wait("end", &[("id", &id)]);
    assert_eq!((end.field("status"), end.field("by")), ("exit:5".into(), format!("uid:{}", lab.uid("alice"))));
    // One that ends by itself is over with its last process.
    lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "real", "bash", "-c", "setsid sleep 2 & exit 0"])
        .expect_ok();
    assert!(until(Duration::from_secs(20), || lab.run_as("alice", ["caplet", "sessions"]).out().is_empty()));
}

/// A session that cannot be written down is nobody's to see or to end: there is none.
#[test]
fn without_room_for_its_record_there_is_no_session() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "short", "true"]).expect_ok();
    lab.root(
        "mount -t tmpfs -o size=16k,mode=700 tiny /run/caplet; head -c 1000000 /dev/zero > /run/caplet/fill || true",
    );
    for profile in ["short", "real"] {
        let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", profile, "echo", "ran"]);
        assert_eq!((out.code(), out.out()), (125, String::new()), "{out}");
        assert!(out.err().contains("No space left"), "{out}");
    }
    lab.root("rm /run/caplet/fill");
    lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "short", "true"]).expect_ok();
}

/// A part of the cgroup tree that is the user's, as systemd delegates it: whoever is in it can be frozen in it. And one that
/// is not: logind sends a user's signals to all that are in the scope of a login.
#[test]
fn no_cgroup_of_the_callers_holds_those_who_watch() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    // The tree is the whole machine's.
    let top = format!("/sys/fs/cgroup/lab-{}", std::process::id());
    // A name may be any bytes.
    let made = lab.root(&format!(
        "[ -e /sys/fs/cgroup/cgroup.procs ] && mkdir {top} {top}/roots {top}/users {top}/users/$(printf '\\377') && \
         chown -R alice {top}/users && chmod 755 {top} && echo made || echo none",
    ));
    if made.out() != "made" {
        caplet_lab::record_skip("needs a cgroup2 tree that can be written");
        return;
    }
    for (profile, isolated) in [("short", true), ("real", false)] {
        for place in ["roots", "users", "users/$(printf '\\377')"] {
            // Root puts the caller there, as a service manager does.
            let line = format!(
                "echo $$ >{top}/{place}/cgroup.procs || exit; exec setpriv --reuid alice --regid alice --init-groups \
                 caplet run --quiet -p {profile} bash -c 'echo ready; trap \"\" TERM HUP; while :; do sleep 1; done'"
            );
            let mut running = started(&lab, "root", &["bash", "-c", &line]);
            let session = if isolated { Session::isolated(&running) } else { Session::host(&running) };
            let of = |pid: i32| {
                let text = std::fs::read(format!("/proc/{pid}/cgroup")).expect("it runs");
                let text = String::from_utf8_lossy(&text).into_owned();
                text.lines().find(|line| line.starts_with("0::")).map(str::to_owned).expect("version 2")
            };
            let below =
                std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", session.relay)).expect("children");
            let pids: Vec<i32> = below.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect();
            assert!(pids.len() >= 2, "{below}");
            for pid in pids.into_iter().filter(|pid| ProcStatus::of(*pid).is_some_and(|status| status.state() != 'Z')) {
                assert!(!of(pid).contains("/lab-"), "{profile} {place}: {pid} of {below}: {}", of(pid));
            }
            let own = of(session.command);
            assert!(own.contains("/lab-"), "{profile} {place}: the command stays where its caller is: {own}");
            // Frozen as it is, root's word ends it.
            if place != "roots" {
                lab.sh("alice", &format!("echo 1 >{top}/users/cgroup.freeze")).expect_ok();
            }
            let records = lab.log().find("grant", &[("user", "alice"), ("profile", profile)]);
            let id = records.last().expect("its grant").field("id");
            lab.root(&format!("caplet end {id}"));
            lab.sh("alice", &format!("echo 0 >{top}/users/cgroup.freeze")).expect_ok();
            running.wait();
        }
    }
    lab.root(&format!("find {top} -depth -type d -exec rmdir {{}} \\;"));
}

/// Whoever can freeze the caller's cgroup may let a week pass between the judgement and the watcher, which takes what the
/// user database says then for what it said at the start; or keep the guard for that long, whose watcher sees the end of
/// the grant meanwhile and is not heard. Here one call of either takes so long.
#[test]
fn a_start_that_stood_still_is_none() {
    need!("strace");
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    let start = |profile: &str, call: &str, seconds: u32| {
        let (trace, delay) = (format!("trace={call}"), format!("inject={call}:delay_enter={seconds}000000:when=1"));
        let words = ["strace", "-f", "-u", "alice", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &delay];
        let command = ["caplet", "run", "--quiet", "-p", profile, "echo", "ran"];
        lab.task("root", words.iter().chain(&command)).cwd("/").limit(180).spawn()
    };
    // The watcher's setsid, and the guard's chroot into its empty root; the delay that is let pass shows that the call is
    // made, and that nothing else is in the way.
    let cases = [("setsid", 3, None), ("setsid", 17, Some("did not come up")), ("chroot", 32, Some("stood still"))];
    let at_once = ["taken", "real"].map(|profile| cases.map(|(call, time, why)| (start(profile, call, time), why)));
    for (running, refused) in at_once.into_iter().flatten() {
        let out = running.output();
        match refused {
            None => assert!(out.code() == 0 && out.out() == "ran", "{out}"),
            Some(why) => assert!(out.code() == 125 && out.out().is_empty() && out.err().contains(why), "{why}: {out}"),
        }
    }
    assert_eq!(lab.processes_left(), []);
}

/// The process that asks PAM has its user's real uid, and so can be stopped before it says yes.
#[test]
fn a_judge_that_is_stopped_says_yes_in_time_or_in_vain() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    lab.set_pam("auth required pam_unix.so nodelay\nauth optional pam_exec.so quiet /bin/sleep 2\n");
    lab.set_password("alice", "correct horse");
    let mut terminal = lab.task("alice", ["bash", "--norc", "-i"]).env("PS1", "outer> ").limit(60).terminal(24, 80);
    terminal.expect("outer> ");
    terminal.send("caplet run --quiet -p asks sh -c 'echo ran-$((6*7))'\n");
    terminal.expect("password for alice");
    terminal.send("correct horse\n");
    // The judge's own session is one that nobody else is in, and its module sleeps.
    let judge =
        "pgrep -x caplet-helper | while read pid; do [ \"$(ps -o ruser= -p $pid)\" = alice ] && echo $pid; done";
    assert!(until(Duration::from_secs(20), || lab.sh("root", "pgrep -x sleep").ok()), "the answer is not being judged");
    let judge = lab.sh("root", judge).expect_ok().out();
    lab.sh("alice", &format!("kill -STOP {judge}")).expect_ok();
    terminal.send("\u{1a}");
    terminal.expect("Stopped");
    // The two minutes that modules may be silent, and the 15 seconds for which a yes counts.
    std::thread::sleep(Duration::from_secs(138));
    lab.sh("alice", &format!("kill -CONT {judge}")).expect_ok();
    std::thread::sleep(Duration::from_secs(4));
    terminal.send("fg\n");
    terminal.expect("stopped for more than 15 seconds after you had proven who you are");
    terminal.expect("outer> ");
    terminal.send("exit\n");
    terminal.wait();
    assert!(!terminal.screen().contains("ran-42"), "{}", terminal.screen());
    assert!(lab.log().find("grant", &[("user", "alice")]).is_empty());
    assert_eq!(lab.processes_left(), []);
}
