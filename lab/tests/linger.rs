//! `linger`: what a command leaves behind goes on, and ends with its last process, or when it is ended.

use caplet_lab::{Lab, ProcStatus, Session, SharedLab, shared};
use nix::sys::signal::Signal;

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.lingers]
users = ["alice", "bob", "carol", "dave"]
linger = true
max_sessions = 1

[profile.ends]
users = ["erin"]
"#;

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        let users = ["alice", "bob", "carol", "dave", "erin"];
        users.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &[])).policy(POLICY)
    })
}

/// A user's processes of that name, by the lab's numbers.
fn pids(lab: &Lab, user: &str, name: &str) -> Vec<i32> {
    let out = lab.root(&format!("pgrep -u {user} -x {name}; true")).out();
    out.lines().map(|line| line.trim().parse().expect("a pid")).collect()
}

#[test]
fn what_is_left_behind_goes_on_until_its_last_process() {
    let Some(lab) = lab() else { return };
    let line = "setsid sleep 4 >/dev/null 2>&1 & mkdir /tmp/here; exit 3";
    let out = lab.run_as("alice", ["caplet", "run", "--quiet", "bash", "-c", line]);
    assert_eq!((out.code(), out.err()), (3, String::new()));
    let [left] = pids(lab, "alice", "sleep")[..] else { panic!("{:?}", pids(lab, "alice", "sleep")) };
    // Still in its own namespaces, with nothing more than it had.
    let space = |pid: &str| lab.root(&format!("readlink /proc/{pid}/ns/pid")).out();
    assert_ne!(space(&left.to_string()), space("self"));
    let refused = lab.run_as("alice", ["caplet", "run", "--quiet", "true"]);
    assert!(refused.err().contains("you have a session already"), "its place is still taken: {refused}");
    assert!(lab.run_as("alice", ["caplet", "sessions"]).out().contains("lingers"));
    let grant = lab.log().wait("grant", &[("user", "alice")]);
    assert!(lab.log().find("end", &[("id", &grant.field("id"))]).is_empty());
    let end = lab.log().wait("end", &[("id", &grant.field("id"))]);
    assert_eq!(end.field("status"), "exit:3");
    assert!(!end.fields().contains_key("by"), "{end:?}");
    assert!(lab.until(|| pids(lab, "alice", "sleep").is_empty()));
    assert!(lab.until(|| lab.run_as("alice", ["caplet", "run", "--quiet", "true"]).ok()), "the place is free again");
}

#[test]
fn without_it_nothing_is_left() {
    let Some(lab) = lab() else { return };
    let line = "setsid sleep 1000 >/dev/null 2>&1 & exit 3";
    let out = lab.run_as("erin", ["caplet", "run", "--quiet", "bash", "-c", line]);
    assert_eq!(out.code(), 3);
    assert!(pids(lab, "erin", "sleep").is_empty());
}

#[test]
fn a_lingering_session_can_be_ended() {
    let Some(lab) = lab() else { return };
    let line = "(trap '' TERM HUP; exec setsid sleep 1000 >/dev/null 2>&1) & exit 0";
    lab.run_as("bob", ["caplet", "run", "--quiet", "bash", "-c", line]).expect_ok();
    let grant = lab.log().wait("grant", &[("user", "bob")]);
    assert_eq!(pids(lab, "bob", "sleep").len(), 1);
    lab.run_as("bob", ["caplet", "end", &grant.field("id")]).expect_ok();
    assert!(pids(lab, "bob", "sleep").is_empty(), "deaf as it is");
    let end = lab.log().wait("end", &[("id", &grant.field("id"))]);
    assert_eq!(end.field("by"), format!("uid:{}", lab.uid("bob")));
}

/// A lost connection: the command is hung up, and killed if it does not hear; what it had left behind stays.
#[test]
fn a_caller_that_is_gone_takes_the_command_along_and_no_more() {
    let Some(lab) = lab() else { return };
    let line =
        "setsid sleep 1000 >/dev/null 2>&1 & trap '' HUP TERM; echo ready; while :; do read -t 1 x <>/dev/zero; done";
    let mut running = lab.task("carol", ["caplet", "run", "--quiet", "bash", "-c", line]).spawn();
    running.wait_for("ready");
    let session = Session::isolated(&running);
    Session::signal(session.relay, Signal::SIGKILL);
    running.wait();
    let gone = |pid: i32| ProcStatus::of(pid).is_none_or(|status| status.state() == 'Z');
    assert!(lab.until(|| gone(session.command)), "the command");
    assert!(!gone(session.init) && !gone(session.guard));
    assert_eq!(pids(lab, "carol", "sleep").len(), 1);
    let grant = lab.log().wait("grant", &[("user", "carol")]);
    assert!(lab.log().find("end", &[("id", &grant.field("id"))]).is_empty());
    lab.root("pkill -KILL -u carol -x sleep");
    session.wait_end();
    let end = lab.log().wait("end", &[("id", &grant.field("id"))]);
    assert_eq!((end.field("status"), end.field("by")), ("signal:9".into(), "hangup".into()));
}

/// A job in the background holds the session's terminal open; nobody waits for that.
#[test]
fn a_terminal_is_given_back_at_once() {
    let Some(lab) = lab() else { return };
    let mut terminal = lab.task("dave", ["caplet", "run", "--quiet", "bash", "--norc", "-i"]).terminal(24, 80);
    let before = terminal.settings();
    terminal.send("PS1='at> '\r");
    terminal.expect("at> ");
    terminal.send("sleep 1000 &\r");
    terminal.expect("[1]");
    terminal.send("echo last''words; exit 4\r");
    terminal.expect("lastwords");
    assert_eq!(terminal.wait().code(), Some(4));
    assert_eq!(terminal.settings(), before);
    assert_eq!(pids(lab, "dave", "sleep").len(), 1, "a job in the background hears no hang-up");
    let grant = lab.log().wait("grant", &[("user", "dave")]);
    lab.root(&format!("caplet end {}", grant.field("id"))).expect_ok();
    assert!(pids(lab, "dave", "sleep").is_empty());
}
