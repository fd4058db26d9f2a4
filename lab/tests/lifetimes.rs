//! How sessions end: by time, by signals, by whoever is stopped or killed; and that the log hears of each.

use caplet_lab::{Lab, Session, SharedLab, shared};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.own]
users = ["alice", "bob"]
max_sessions = 400

[profile.zero]
users = ["alice", "bob"]
user = "root"

[profile.real]
users = ["alice"]
scope = "host"
pam_account = false

[profile.short]
users = ["alice"]
max_lifetime = 1

[profile.shortreal]
users = ["alice"]
scope = "host"
pam_account = false
max_lifetime = 1
"#;

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || Lab::new().user("alice", &[]).user("bob", &[]).policy(POLICY))
}

/// Three sessions at once: one asked nicely, two that will not hear, one whose relay and PID 1 stand still.
#[test]
fn max_lifetime_ends_a_session_that_does_not_cooperate() {
    let Some(lab) = lab() else { return };
    let deaf = "trap '' TERM HUP INT; while :; do sleep 1; done";
    let started = Instant::now();
    let run = |profile: &str, mark: &str| {
        let line = format!("{deaf}; : {mark}");
        lab.task("alice", ["caplet", "run", "--quiet", "-p", profile, "bash", "-c", &line]).limit(100).spawn()
    };
    let (mut inside, mut stopped, mut outside) =
        (run("short", "inside"), run("short", "stopped"), run("shortreal", "outside"));
    let mut polite = lab
        .task(
            "alice",
            [
                "caplet",
                "run",
                "--quiet",
                "-p",
                "short",
                "bash",
                "-c",
                "trap '' HUP; trap 'exit 3' TERM; while :; do sleep 1; done",
            ],
        )
        .limit(100)
        .spawn();
    let sessions =
        [Session::isolated(&inside), Session::isolated(&stopped), Session::host(&outside), Session::isolated(&polite)];
    let [_, still, ..] = &sessions;
    for pid in [still.relay, still.init] {
        Session::signal(pid, Signal::SIGSTOP);
    }
    assert_eq!(outside.wait().code(), Some(128 + 9));
    assert_eq!(inside.wait().code(), Some(128 + 9));
    assert_eq!(polite.wait().code(), Some(3));
    let seconds = started.elapsed().as_secs();
    assert!((59..90).contains(&seconds), "{seconds} s");
    // Nothing of the stopped one stays but the relay, which is its caller's to continue.
    let left = (0..200).find(|_| {
        std::thread::sleep(Duration::from_millis(50));
        still.alive() == [still.relay]
    });
    assert!(left.is_some(), "{:?}", still.alive());
    Session::signal(still.relay, Signal::SIGCONT);
    assert_eq!(stopped.wait().code(), Some(128 + 9));
    sessions.iter().for_each(Session::wait_end);
    for mark in ["inside", "stopped", "outside"] {
        let grants = lab.log().find("grant", &[]);
        let grant = grants.iter().find(|g| g.field("command").contains(&format!(": {mark}"))).expect("its grant");
        let end = lab.log().wait("end", &[("id", &grant.field("id"))]);
        assert_eq!(end.field("status"), "signal:9");
    }
}

/// As sudo(8) hands them on: what is sent to the process that the caller started reaches the command.
#[test]
fn signals_sent_to_the_caller_process_reach_the_command() {
    let Some(lab) = lab() else { return };
    let line = "for s in USR1 USR2 HUP INT ALRM WINCH QUIT; do trap \"echo got $s\" $s; done; \
        trap 'echo got TERM; exit 4' TERM; echo ready; while :; do sleep 0.02; done";
    for profile in ["own", "real"] {
        let mut running = lab.task("alice", ["caplet", "run", "--quiet", "-p", profile, "bash", "-c", line]).spawn();
        running.wait_for("ready");
        for (signal, name) in [
            (Signal::SIGUSR1, "USR1"),
            (Signal::SIGUSR2, "USR2"),
            (Signal::SIGHUP, "HUP"),
            (Signal::SIGINT, "INT"),
            (Signal::SIGALRM, "ALRM"),
            (Signal::SIGWINCH, "WINCH"),
            (Signal::SIGQUIT, "QUIT"),
            (Signal::SIGTERM, "TERM"),
        ] {
            running.signal(signal);
            running.wait_for(&format!("got {name}"));
        }
        assert_eq!(running.wait().code(), Some(4), "{profile}");
    }
}

/// R2: the limit is on the user's processes, and a session is charged to root until its command stands.
#[test]
fn a_user_at_the_nproc_limit_still_gets_a_session_and_the_limit_holds_in_it() {
    let Some(lab) = lab() else { return };
    for profile in ["own", "zero"] {
        // 12 sleepers are more than the limit of 10: nothing that is the user's can fork outside.
        let script = format!(
            "exec 2>&1; for i in $(seq 12); do sleep 3 >/dev/null 2>&1 & done; ulimit -u 10; \
             exec caplet run --quiet -p {profile} bash -c 'echo started; ulimit -u; \
             for i in $(seq 20); do sleep 1 & done; echo $(jobs -p | wc -l) of 20'"
        );
        let out = lab.task("bob", ["bash", "-c", &script]).run();
        assert!(out.out().contains("started\n10\n"), "{profile}: {out}");
        assert!(out.out().contains("Resource temporarily unavailable"), "{profile}: {out}");
        assert!(!out.out().contains("20 of 20"), "{profile}: {out}");
    }
}

/// T24: whoever dies while a session starts, nothing of it is left, and no command runs without its guard.
#[test]
fn a_caller_that_is_killed_during_the_start_leaves_nothing() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    // As the user: while the process is root's the signal is refused, and comes again.
    let line = "for i in $(seq 0 44); do for p in own zero real; do \
        caplet run --quiet -p $p sleep 1000 & sleep 0.00$((i / 10))$((i % 10)); \
        until kill -KILL $! 2>/dev/null; do :; done; wait $!; done; done";
    lab.task("alice", ["bash", "-c", line]).limit(60).run();
    let empty = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        lab.root("pgrep -u alice -f 'sleep 1000|caplet-helper'; pgrep -u 0 caplet-helper; true").out().is_empty()
    });
    assert!(empty, "{:?}", lab.processes());
    assert_eq!(lab.root("ls /run/caplet").out(), "");
    let of = |event: &str| lab.log().find(event, &[]).iter().map(|r| r.field("id")).collect::<Vec<_>>();
    let ends = of("end");
    let open = lab.log().find("grant", &[("command", "sleep 1000")]);
    assert!(open.iter().all(|g| ends.contains(&g.field("id"))), "a grant without its end");
}

/// A log socket whose queue nobody empties hangs nobody. What insists on its line is refused.
#[test]
fn a_full_log_queue_hangs_nobody() {
    let lab = Lab::new().user("alice", &[]).policy(POLICY).without_journal().start();
    let Some(lab) = lab else { return };
    let full = "import socket, os, time\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('/dev/log'); os.chmod('/dev/log', 0o666)\n\
        c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); c.setblocking(False); c.connect('/dev/log')\n\
        try:\n while True: c.send(b'x')\n\
        except BlockingIOError: print('full', flush=True)\n\
        time.sleep(1000)\n";
    let mut daemon = lab.task("root", ["python3", "-c", full]).env("PATH", "/usr/bin:/bin").limit(100).spawn();
    daemon.wait_for("full");
    for profile in ["own", "real"] {
        let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", profile, "sh", "-c", "exit 7"]);
        assert_eq!(out.code(), 7, "{profile}: {out}");
    }
    lab.set_policy(&format!("[defaults]\nlog = \"required\"\n{POLICY}"));
    for profile in ["own", "real"] {
        let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", profile, "sh", "-c", "echo ran"]);
        assert_eq!((out.code(), out.out().as_str()), (125, ""), "{profile}: {out}");
        assert!(out.err().contains("the system log takes nothing now"), "{profile}: {out}");
    }
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    assert_eq!(lab.processes_left(), []);
    assert_eq!(lab.root("ls /run/caplet").out(), "");
}

/// A log daemon that was restarted during a session gets the `end`: the guard finds the new socket.
#[test]
fn a_restarted_log_daemon_gets_the_end() {
    let lab = Lab::new().user("alice", &[]).policy(POLICY).without_journal().start();
    let Some(lab) = lab else { return };
    let daemon = "import socket, os\n\
        try: os.unlink('/dev/log')\nexcept FileNotFoundError: pass\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('/dev/log'); os.chmod('/dev/log', 0o666)\n\
        print('listens', flush=True)\nprint(s.recv(9000).decode(), flush=True)\n";
    let listen = || {
        let running = lab.task("root", ["python3", "-c", daemon]).env("PATH", "/usr/bin:/bin").spawn();
        running.wait_for("listens");
        running
    };
    for profile in ["own", "real"] {
        let first = listen();
        let mut session =
            lab.task("alice", ["caplet", "run", "--quiet", "-p", profile, "sh", "-c", "echo ready; read x"]);
        session = session.stdin_open();
        let mut session = session.spawn();
        session.wait_for("ready");
        let first = first.output();
        assert!(first.ok() && first.out().contains("grant id="), "{first}");
        let second = listen();
        session.signal(Signal::SIGTERM);
        session.wait();
        let second = second.output();
        assert!(second.ok() && second.out().contains("end id="), "{profile}: {second}");
    }
}
