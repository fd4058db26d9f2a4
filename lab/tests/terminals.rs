//! The session's own terminal: what a person at a keyboard sees.

use caplet_lab::{Lab, Session, SharedLab, shared};
use nix::sys::signal::Signal;

static LAB: SharedLab = SharedLab::new();

fn lab() -> Option<&'static Lab> {
    let policy = "[profile.own]\nusers = [\"alice\"]\n\
        [profile.real]\nusers = [\"alice\"]\nscope = \"host\"\npam_account = false\n";
    shared(&LAB, || Lab::new().user("alice", &[]).policy(policy))
}

// R5, T06: a password typed outside later must not be readable inside
#[test]
fn the_session_has_a_pty_of_its_own_and_no_descriptor_of_the_callers() {
    let Some(lab) = lab() else { return };
    let line = "tty; stat -c %U $(tty); stty size; for f in /proc/[0-9]*/fd/*; do readlink $f; done; echo done";
    let mut terminal = lab.task("alice", ["caplet", "run", "-p", "own", "sh", "-c", line]).terminal(33, 121);
    let screen = terminal.expect("done\r\n");
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(screen.contains("/dev/pts/0\r\nalice\r\n33 121\r\n"), "{screen}");
    let foreign = screen.lines().filter(|l| l.starts_with("/dev/pts/") && l.trim() != "/dev/pts/0");
    assert_eq!(foreign.count(), 0, "{screen}");
}

#[test]
fn a_resize_reaches_the_command() {
    let Some(lab) = lab() else { return };
    let line = "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut terminal = lab.task("alice", ["caplet", "run", "-p", "own", "bash", "-c", line]).terminal(24, 80);
    terminal.expect("ready");
    terminal.resize(50, 132);
    terminal.expect("50 132");
    assert_eq!(terminal.wait().code(), Some(3));
}

#[test]
fn control_c_interrupts_the_command_and_the_terminal_is_as_before() {
    let Some(lab) = lab() else { return };
    let mut terminal =
        lab.task("alice", ["caplet", "run", "-p", "own", "sh", "-c", "echo ready; exec sleep 60"]).terminal(24, 80);
    let before = terminal.settings();
    terminal.expect("ready");
    assert_ne!(terminal.settings(), before, "raw while the session runs");
    terminal.send("\u{3}");
    assert_eq!(terminal.wait().code(), Some(130));
    assert_eq!(terminal.settings(), before);
}

#[test]
fn control_z_stops_it_for_the_callers_shell_and_fg_goes_on() {
    let Some(lab) = lab() else { return };
    let mut terminal = lab.task("alice", ["bash", "--norc", "-i"]).env("PS1", "outer> ").terminal(24, 80);
    terminal.expect("outer> ");
    for profile in ["own", "real"] {
        terminal.send(&format!("caplet run --quiet -p {profile} sh -c 'echo re''ady; read x; echo got-$x; exit 5'\n"));
        terminal.expect("ready");
        terminal.send("\u{1a}");
        terminal.expect("Stopped");
        terminal.expect("outer> ");
        terminal.send("fg\n");
        terminal.expect("caplet run");
        terminal.send(&format!("{profile}\n"));
        terminal.expect(&format!("got-{profile}"));
        terminal.expect("outer> ");
        terminal.send("echo status-$?\n");
        terminal.expect("status-5");
        terminal.expect("outer> ");
    }
    terminal.send("exit\n");
    terminal.wait();
}

// sudo-rs #1650
#[test]
fn control_z_in_a_pipeline_stops_all_of_it_and_fg_goes_on() {
    let Some(lab) = lab() else { return };
    let mut terminal = lab.task("alice", ["bash", "--norc", "-i"]).env("PS1", "outer> ").terminal(24, 80);
    terminal.expect("outer> ");
    for profile in ["own", "real"] {
        let line = format!("caplet run --quiet -p {profile} sh -c 'echo re''ady; sleep 3; echo go''ne-on' | cat\n");
        terminal.send(&line);
        terminal.expect("ready");
        terminal.send("\u{1a}");
        terminal.expect("Stopped");
        terminal.expect("outer> ");
        terminal.send("fg\n");
        terminal.expect("gone-on");
        terminal.expect("outer> ");
    }
    terminal.send("exit\n");
    terminal.wait();
}

#[test]
fn caplet_shell_is_the_users_shell_with_job_control() {
    let Some(lab) = lab() else { return };
    let mut terminal = lab.task("alice", ["caplet", "shell", "-p", "own"]).terminal(24, 80);
    terminal.expect("own");
    terminal.send("PS1='in> '; echo $0-$SHELL-$CAPLET_PROFILE\n");
    terminal.expect("/bin/bash-own");
    terminal.send("sleep 60\n");
    std::thread::sleep(std::time::Duration::from_millis(200));
    terminal.send("\u{1a}");
    terminal.expect("Stopped");
    terminal.send("kill %1; caplet run true\n");
    terminal.expect("this session is fixed");
    terminal.send("exit 4\n");
    assert_eq!(terminal.wait().code(), Some(4));
}

#[test]
fn a_terminal_among_pipes_still_works() {
    let Some(lab) = lab() else { return };
    let line = "echo from-pipe | caplet run -p own sh -c 'cat; echo err >&2' | sed s/from/through/; echo over";
    let mut terminal = lab.task("alice", ["sh", "-c", line]).terminal(24, 80);
    let screen = terminal.expect("over");
    assert!(screen.contains("through-pipe") && screen.contains("err"), "{screen}");
    terminal.wait();
}

#[test]
fn killing_the_relay_ends_the_session() {
    let Some(lab) = lab() else { return };
    let mut terminal =
        lab.task("alice", ["caplet", "run", "-p", "own", "sh", "-c", "echo ready; sleep 60"]).terminal(24, 80);
    terminal.expect("ready");
    let session = Session::find(terminal.pid(), true).expect("a session");
    Session::signal(session.relay, Signal::SIGKILL);
    terminal.wait();
    session.wait_end();
}
