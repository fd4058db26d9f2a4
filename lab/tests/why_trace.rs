//! `why = "trace"`: the kernel's own word settles what the rules are not sure of; where there is none the rules stand; and
//! what reads it is root's, without power, and nowhere in the session.

use caplet_lab::{Lab, Output, record_skip};
use serde_json::Value;

const POLICY: &str = r#"
[profile.rules]
users = ["alice"]
seccomp = "none"

[profile.traced]
users = ["alice"]
seccomp = "none"
why = "trace"
"#;

/// SO_PREFER_BUSY_POLL, which the rules do not know: net/core/sock.c asks for the machine's NET_ADMIN.
const BUSY: &str = "import socket; s = socket.socket(); s.setsockopt(1, 69, 1)";

/// A machine of its own for each test: they look at all processes.
fn lab() -> Option<Lab> {
    let lab = Lab::new().user("alice", &[]).policy(POLICY).start()?;
    let mounted = "cd /sys/kernel/tracing; [ -e events ] || mount -t tracefs none . ; cd . ; \
        [ -e /sys/kernel/tracing/events/capability/cap_capable/id ] || echo none";
    if lab.root(mounted).out() == "none" {
        record_skip("this kernel has no tracepoint capability:cap_capable (Linux 6.14)");
        return None;
    }
    Some(lab)
}

fn why(lab: &Lab, profile: &str, command: &[&str]) -> Output {
    lab.run_as("alice", [&["caplet", "why", "--json", "-p", profile, "--"], command].concat())
}

#[track_caller]
fn report(out: &Output) -> Value {
    let line = out.err_lines().into_iter().rev().find(|line| line.starts_with("{\""));
    serde_json::from_str(&line.unwrap_or_else(|| panic!("{out}"))).expect("JSON")
}

/// Of the refusal of that call: what it needs, of whom, whether that is sure, and whether the kernel said so.
#[track_caller]
fn refusal(report: &Value, call: &str) -> (String, String, bool, bool) {
    let all = report["refusals"].as_array().expect("a list");
    let starts = |one: &&Value| one["call"].as_str().is_some_and(|text| text.starts_with(call));
    let one = all.iter().find(starts).unwrap_or_else(|| panic!("no {call}: {report}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (one["needs"].to_string(), text(&one["of"]), one["sure"] == true, one["traced"] == true)
}

#[test]
fn the_kernels_word_settles_what_the_rules_are_not_sure_of() {
    let Some(lab) = lab() else { return };
    let admin = || r#"[["NET_ADMIN"]]"#.to_owned();
    let busy = ["/usr/bin/python3", "-I", "-c", BUSY];
    let rules = report(&why(&lab, "rules", &busy));
    assert_eq!(refusal(&rules, "setsockopt"), (admin(), "network".into(), false, false));
    assert_eq!(rules["trace"], Value::Null);
    let traced = report(&why(&lab, "traced", &busy));
    assert_eq!(refusal(&traced, "setsockopt"), (admin(), "machine".into(), true, true));
    assert_eq!((&traced["trace"]["used"], &traced["trace"]["lost"]), (&true.into(), &0.into()));
    // What is between the two parts is not for others.
    assert_eq!((&traced["refusals"][0]["thread"], &traced["refusals"][0]["during"]), (&Value::Null, &Value::Null));

    let own = ["nsenter", "--uts=/proc/self/ns/uts", "true"];
    assert!(!refusal(&report(&why(&lab, "rules", &own)), "setns").2);
    let wanted = (r#"[["SYS_ADMIN"]]"#.to_owned(), "session".to_owned(), true, true);
    assert_eq!(refusal(&report(&why(&lab, "traced", &own)), "setns"), wanted);
    // A process of a process, beside others that are refused at the same time.
    let many = "for i in 1 2 3 4 5 6; do (for j in 1 2 3; do hostname x; chroot / true; done) & done 2>/dev/null; wait; \
        nsenter --uts=/proc/self/ns/uts true";
    let many = report(&why(&lab, "traced", &["sh", "-c", many]));
    assert_eq!(refusal(&many, "sethostname").0, r#"[["SYS_ADMIN"]]"#, "{many}");
    assert_eq!(refusal(&many, "chroot").0, r#"[["SYS_CHROOT"]]"#, "{many}");
    // The rules know of files more than the kernel asks: the session does not know the owner.
    let shadow = report(&why(&lab, "traced", &["cat", "/etc/shadow"]));
    assert_eq!(refusal(&shadow, "openat").1, "machine");
}

#[test]
fn without_a_trace_the_rules_stand_and_it_is_said() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    lab.root("umount /sys/kernel/tracing /sys/kernel/debug 2>/dev/null; [ ! -e /sys/kernel/tracing/events ]");
    let out = why(&lab, "traced", &["hostname", "x"]);
    let report = report(&out);
    assert_eq!(refusal(&report, "sethostname"), (r#"[["SYS_ADMIN"]]"#.into(), "session".into(), true, false));
    assert_eq!(report["trace"]["used"], false, "{report}");
    assert!(report["trace"]["why"].as_str().is_some_and(|why| why.contains("tracefs is not mounted")), "{report}");
}

/// For each process that has a perf descriptor: real and effective uid, effective set, seccomp, no_new_privs, and the owner of its folder in
/// /proc.
const READERS: &str = "for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null | grep -q perf_event || continue; \
    awk '/^(Uid|CapEff|CapPrm|Seccomp|NoNewPrivs):/ {printf \"%s%s \", $1, $2}' $p/status; stat -c %u $p/status; done";

#[test]
fn what_reads_it_is_roots_and_without_power_and_nothing_of_it_is_in_the_session() {
    let Some(lab) = lab() else { return };
    let inside = "ls -l /proc/self/fd | sed 's/.* -> //' | grep -c -v '^total' ; ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c perf_event";
    let (rules, traced) = (why(&lab, "rules", &["sh", "-c", inside]), why(&lab, "traced", &["sh", "-c", inside]));
    assert_eq!((rules.out(), traced.out()), (traced.out(), rules.out()), "{traced}");
    assert!(traced.out().ends_with("\n0"), "{traced}");

    let readers = |verb: &str, profile: &str| {
        let line =
            format!("caplet {verb} --quiet -p {profile} -- sh -c 'echo ready; sleep 60' >/home/alice/said 2>&1 &");
        lab.sh("alice", &format!("rm -f said; setsid {line}")).expect_ok();
        assert!(lab.until(|| lab.root("cat /home/alice/said").out() == "ready"), "{profile}");
        let found = lab.root(READERS).out();
        lab.root("pkill -u alice -x sleep");
        assert!(lab.until(|| lab.root("pgrep -x caplet-helper || echo none").out() == "none"), "{profile}");
        found
    };
    assert_eq!(readers("why", "rules"), "", "the policy does not say so");
    assert_eq!(readers("run", "traced"), "", "nobody asked why");
    let of_traced = readers("why", "traced");
    let setuid = "0000000000000080";
    assert_eq!(of_traced, format!("Uid:0 CapPrm:{setuid} CapEff:{setuid} NoNewPrivs:1 Seccomp:2 0"));
}

#[test]
fn nobody_keeps_it_by_not_reading() {
    let Some(lab) = lab() else { return };
    // A pipe that is full, and whose reader stays.
    let full = "import os, subprocess, time, fcntl\nr, w = os.pipe()\nfcntl.fcntl(w, fcntl.F_SETFL, os.O_NONBLOCK)\n\
        try:\n  while True: os.write(w, b'x' * 4096)\nexcept BlockingIOError: pass\nfcntl.fcntl(w, fcntl.F_SETFL, 0)\n\
        helper = ['/usr/libexec/caplet/caplet-helper', 'run', '--profile=traced', f'--watch={w}', '--', 'sleep', '60']\n\
        subprocess.Popen(helper, pass_fds=[w])\ntime.sleep(60)";
    let reader = lab.task("alice", ["/usr/bin/python3", "-I", "-c", full]).spawn();
    assert!(lab.until(|| !lab.root(READERS).out().is_empty()), "{}", lab.root("ps axf"));
    lab.root("pkill -KILL -x -u alice caplet-helper");
    assert!(
        lab.until(|| lab.root("pgrep -u root -x caplet-helper || echo none").out() == "none"),
        "{}",
        lab.root(READERS)
    );
    lab.root("pgrep -u alice -f '^/usr/bin/python3 -I'").expect_ok();
    drop(reader);
}
