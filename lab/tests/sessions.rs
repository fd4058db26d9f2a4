//! Who runs what, and how it ends from outside: `caplet sessions`, `caplet end`, and what was granted and is no more.

use caplet_lab::{Lab, ProcStatus, Running, Session, SharedLab, shared};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.own]
users = ["alice", "bob", "carol"]
may_add = ["NET_ADMIN"]

[profile.real]
users = ["alice"]
scope = "host"
pam_account = false
"#;

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || Lab::new().user("alice", &[]).user("bob", &[]).user("carol", &[]).user("dave", &[]).policy(POLICY))
}

/// A session that hears nobody.
fn deaf(lab: &Lab, user: &str, words: &[&str]) -> Running {
    let mut argv = vec!["caplet", "run", "--quiet"];
    argv.extend_from_slice(words);
    let line = "trap '' TERM HUP INT; echo ready; while :; do sleep 1; done";
    argv.extend_from_slice(&["bash", "-c", line]);
    let running = lab.task(user, argv).limit(200).spawn();
    running.wait_for("ready");
    running
}

fn sessions(lab: &Lab, user: &str) -> serde_json::Value {
    let out = lab.run_as(user, ["caplet", "sessions", "--json"]).expect_ok();
    serde_json::from_str(&out.out()).expect("JSON")
}

/// The id of a user's only session with this profile.
fn id(lab: &Lab, user: &str, profile: &str) -> String {
    let all = sessions(lab, user);
    let mut ids = all.as_array().expect("a list").iter().filter(|s| s["profile"] == profile && s["user"] == user);
    let id = ids.next().and_then(|s| s["id"].as_str()).expect("a session").to_owned();
    assert!(ids.next().is_none(), "{all}");
    id
}

#[test]
fn everybody_sees_the_own_sessions_and_root_all() {
    let Some(lab) = lab() else { return };
    let mut alices = deaf(lab, "alice", &["-p", "own", "--cap-add", "NET_ADMIN"]);
    let mut bobs = deaf(lab, "bob", &["-p", "own"]);
    let session = Session::isolated(&alices);
    let all = sessions(lab, "alice");
    let own: Vec<_> = all.as_array().expect("a list").iter().filter(|s| s["profile"] == "own").collect();
    assert!(all.as_array().expect("a list").iter().all(|s| s["user"] == "alice"), "{all}");
    let [seen] = own.as_slice() else { panic!("{all}") };
    assert_eq!(seen["caps"], serde_json::json!(["NET_ADMIN"]));
    assert_eq!(seen["scope"], "isolated");
    assert_eq!(seen["command"][0], "bash");
    let pids: Vec<i32> =
        seen["pids"].as_array().expect("pids").iter().map(|p| p.as_i64().expect("pid") as i32).collect();
    // The lab's numbers: its own processes cannot see the machine's.
    let init = ProcStatus::of(session.init).expect("PID 1").namespace_pids()[1];
    assert!(pids.contains(&init) && pids.len() >= 2, "{seen} {session:?}");
    let space = |pid: i32| lab.root(&format!("readlink /proc/{pid}/ns/pid; true")).out();
    let all_inside = pids.iter().map(|pid| space(*pid)).all(|space_of| space_of.is_empty() || space_of == space(init));
    assert!(all_inside && space(init).starts_with("pid:"), "{seen}");
    assert!(seen["memory"].as_u64().expect("bytes") > 100_000, "{seen}");
    let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now").as_secs() as i64
        - seen["since"].as_i64().expect("since");
    assert!((0..100).contains(&age), "{seen}");
    let table = lab.root("caplet sessions").out();
    for text in ["ID ", "alice", "bob", "NET_ADMIN", "isolated"] {
        assert!(table.contains(text), "{table}");
    }
    assert!(!lab.run_as("bob", ["caplet", "sessions"]).expect_ok().out().contains("alice"));
    assert_eq!(lab.run_as("dave", ["caplet", "sessions"]).expect_ok().out(), "");
    let bob = id(lab, "bob", "own");
    let refused = lab.run_as("alice", ["caplet", "end", &bob]);
    assert_eq!(refused.err(), format!("caplet: no running session of yours has the id {bob}; see: caplet sessions"));
    assert_eq!(refused.code(), 1);
    lab.run_as("bob", ["caplet", "end", &bob[..6]]).expect_ok();
    assert_eq!(bobs.wait().code(), Some(128 + 9));
    let alice = id(lab, "alice", "own");
    lab.root(&format!("caplet end {alice}")).expect_ok();
    assert_eq!(alices.wait().code(), Some(128 + 9));
    for (id, by) in [(&bob, format!("uid:{}", lab.uid("bob"))), (&alice, "uid:0".into())] {
        assert_eq!(lab.log().wait("end", &[("id", id)]).field("by"), by);
    }
}

/// Stopped relay, stopped PID 1, deaf command: none is asked.
#[test]
fn end_needs_nobody_inside() {
    let Some(lab) = lab() else { return };
    let mut inside = deaf(lab, "carol", &["-p", "own"]);
    let session = Session::isolated(&inside);
    for pid in [session.relay, session.init] {
        Session::signal(pid, Signal::SIGSTOP);
    }
    let id = id(lab, "carol", "own");
    lab.run_as("carol", ["caplet", "end", &id]).expect_ok();
    let left = (0..200).find(|_| {
        std::thread::sleep(Duration::from_millis(50));
        session.alive() == [session.relay]
    });
    assert!(left.is_some(), "{:?}", session.alive());
    Session::signal(session.relay, Signal::SIGCONT);
    assert_eq!(inside.wait().code(), Some(128 + 9));
    let said = inside.err_so_far();
    assert!(said.is_empty() || said.contains("ended by caplet end"), "{said}");
    let again = lab.run_as("carol", ["caplet", "end", &id]);
    assert_eq!((again.code(), again.out()), (1, String::new()));
    assert!(sessions(lab, "carol").as_array().expect("a list").is_empty());
}

#[test]
fn the_person_at_the_terminal_reads_who_ended_it() {
    let Some(lab) = lab() else { return };
    let mut terminal = lab.task("alice", ["caplet", "run", "--quiet", "-p", "real", "cat"]).terminal(24, 80);
    let id = (0..100)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            let all = sessions(lab, "alice");
            let found =
                all.as_array()?.iter().find(|s| s["profile"] == "real" && s["pids"] != serde_json::json!([]))?;
            Some(found["id"].as_str()?.to_owned())
        })
        .expect("the session");
    lab.run_as("alice", ["caplet", "end", &id]).expect_ok();
    terminal.expect("caplet: this session was ended by caplet end");
    assert_eq!(terminal.wait().code(), Some(128 + 1)); // SIGHUP comes first
}

/// To the second, and in boot time: whoever may set the clock gains nothing by it.
#[test]
fn valid_until_ends_a_session_that_is_running() {
    let at = |seconds: i64| {
        let mut date = std::process::Command::new("date");
        let out = date.args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("{seconds} seconds")]).output();
        let out = out.expect("date");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    let until = |at: String| format!("[profile.exam]\nusers = [\"alice\"]\nvalid_until = {at}\n");
    let Some(owned) = Lab::new().user("alice", &[]).start() else { return };
    owned.set_policy(&until(at(8)));
    let started = Instant::now();
    let mut running = deaf(&owned, "alice", &[]);
    // What the policy says from now on is the watcher's to see, and not in time for this.
    owned.set_policy(&until(at(3600)));
    assert_eq!(running.wait().code(), Some(128 + 9));
    let seconds = started.elapsed().as_secs();
    assert!((7..40).contains(&seconds), "{seconds} s");
    assert_eq!(owned.log().wait("end", &[("user", "alice")]).field("by"), "lifetime");
}

/// Each way in which a grant can end while its session runs, all within a minute; what is still granted stays.
#[test]
fn what_is_no_longer_granted_ends_within_a_minute() {
    const BEFORE: &str = r#"
[profile.taken]
users = ["a1"]
[profile.narrowed]
users = ["a2"]
may_add = ["NET_ADMIN", "NET_RAW"]
[profile.group]
groups = ["course"]
[profile.locked]
users = ["a4"]
[profile.gone]
users = ["a5"]
[profile.stays]
users = ["a6"]
may_add = ["NET_ADMIN"]
[profile.bound]
users = ["a7"]
scope = "host"
pam_account = false
commands = [["/usr/bin/sleep", "1000"]]
[profile.expired]
users = ["a8"]
[profile.renamed]
users = ["a9"]
[profile.lessened]
users = ["a10"]
caps = ["NET_ADMIN", "NET_RAW"]
[profile.reworded]
users = ["a11"]
scope = "host"
pam_account = false
commands = [["/usr/bin/sleep", "1000"]]
"#;
    const AFTER: &str = r#"
[profile.narrowed]
users = ["a2"]
may_add = ["NET_RAW"]
[profile.group]
groups = ["course"]
[profile.locked]
users = ["a4"]
[profile.gone]
users = ["a5"]
[profile.stays]
description = "reworded, and with more"
users = ["a6"]
may_add = ["ALL"]
[profile.bound]
users = ["a7"]
scope = "host"
pam_account = false
commands = [["/usr/bin/sleep", "1"]]
[profile.expired]
users = ["a8"]
[profile.renamed]
users = ["a9"]
[profile.lessened]
users = ["a10"]
caps = ["NET_RAW"]
[profile.reworded]
description = "as before"
users = ["a11"]
scope = "host"
pam_account = false
commands = [["/usr/bin/id"], ["/usr/bin/sleep", "1000"]]
"#;
    let mut builder = Lab::new().group("course").policy(BEFORE);
    for n in 1..=11 {
        builder = builder.user(&format!("a{n}"), if n == 3 { &["course"] } else { &[] });
    }
    let Some(owned) = builder.start() else { return };
    let lab = &owned;
    let mut running: Vec<Running> = Vec::new();
    for (user, words) in [
        ("a1", &["-p", "taken"][..]),
        ("a2", &["-p", "narrowed", "--cap-add", "NET_ADMIN"]),
        ("a3", &["-p", "group"]),
        ("a4", &["-p", "locked"]),
        ("a5", &["-p", "gone"]),
        ("a6", &["-p", "stays", "--cap-add", "NET_ADMIN"]),
    ] {
        running.push(deaf(lab, user, words));
    }
    let bound = lab.task("a7", ["caplet", "run", "--quiet", "-p", "bound", "/usr/bin/sleep", "1000"]).limit(200);
    running.push(bound.spawn());
    Session::host(&running[6]);
    running.push(deaf(lab, "a8", &["-p", "expired"]));
    running.push(deaf(lab, "a9", &["-p", "renamed"]));
    running.push(deaf(lab, "a10", &["-p", "lessened"]));
    let reworded = lab.task("a11", ["caplet", "run", "--quiet", "-p", "reworded", "/usr/bin/sleep", "1000"]).limit(200);
    running.push(reworded.spawn());
    let reworded = Session::host(&running[10]);
    // One whose relay stands still: a user cannot put the judgement off.
    let stopped = Session::isolated(&running[0]);
    Session::signal(stopped.relay, Signal::SIGSTOP);
    // The user database is looked at two seconds after the start; only what changes from then on counts.
    std::thread::sleep(Duration::from_secs(4));
    let changed = Instant::now();
    lab.set_policy(AFTER);
    lab.edit_accounts(
        "gpasswd -d a3 course; passwd -l a4; usermod -e 1 a8; userdel -f a5; sed -i s/^a9:/b9:/ /etc/passwd",
    );
    let ended = [
        (2, "policy"),
        (3, "policy"),
        (4, "account"),
        (5, "account"),
        (7, "policy"),
        (8, "account"),
        (9, "account"),
        (10, "policy"),
    ];
    for (n, by) in ended {
        running[n - 1].wait();
        let end = lab.log().wait("end", &[("user", &format!("a{n}"))]);
        assert_eq!(end.field("by"), by, "a{n}");
    }
    let end = lab.log().wait("end", &[("user", "a1")]);
    assert_eq!(end.field("by"), "policy");
    let seconds = changed.elapsed().as_secs();
    assert!(seconds < 75, "{seconds} s"); // 50 and the time that a busy machine takes to judge and to kill
    Session::signal(stopped.relay, Signal::SIGCONT);
    running[0].wait();
    assert!(running[5].alive() && running[10].alive(), "what is still granted goes on");
    lab.root(&format!("caplet end {}", id(lab, "a6", "stays"))).expect_ok();
    running[5].wait();
    Session::signal(reworded.command, Signal::SIGTERM);
    running[10].wait();
}

/// A faulty policy grants nothing new, and takes nothing back: its administrator is at work on it.
#[test]
fn a_slip_of_the_editor_ends_nobodys_work() {
    let Some(owned) = Lab::new().user("alice", &[]).policy("[profile.stays]\nusers = [\"alice\"]\n").start() else {
        return;
    };
    let mut running = deaf(&owned, "alice", &[]);
    owned.set_policy("[profile.stays\n");
    std::thread::sleep(Duration::from_secs(60)); // more than one judgement
    assert!(running.alive());
    owned.set_policy("");
    running.wait();
    assert_eq!(owned.log().wait("end", &[("user", "alice")]).field("by"), "policy");
}
