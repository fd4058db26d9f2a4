//! What the log says, to whom it says it, and who is believed.

use caplet_lab::{Lab, ProcStatus, Session, SharedLab, need, shared};
use nix::sys::signal::Signal;

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.own]
users = ["alice", "bob", "carol"]
may_add = ["NET_ADMIN"]

[profile.real]
users = ["alice", "bob", "carol"]
scope = "host"
pam_account = false
"#;

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        Lab::new().user("alice", &[]).user("bob", &[]).user("carol", &[]).user("mallory", &[]).policy(POLICY)
    })
}

#[test]
fn an_end_says_what_was_used_and_records_know_their_order() {
    let Some(lab) = lab() else { return };
    let burn = "x = bytearray(60 << 20)\nfor n in range(3000000): n * n";
    for profile in ["own", "real"] {
        // In a child: what a command's own children used counts as well.
        let line =
            format!("python3 -I -c '{}'; exit 3", burn.replace('\n', "\nif 1:\n ").replace("if 1:\n for", "for"));
        let words = ["caplet", "run", "--quiet", "-p", profile, "sh", "-c", &line];
        lab.task("alice", words).env("PATH", "/usr/bin:/bin").run().expect_code(3);
        let end = lab.log().wait("end", &[("user", "alice"), ("profile", profile), ("status", "exit:3")]);
        let peak: u64 = end.field("peak").parse().expect("KiB");
        assert!((60 << 10..200 << 10).contains(&peak), "{}", end.text());
        let cpu: f64 = end.field("cpu").parse().expect("seconds");
        assert!(cpu > 0.05 && cpu < 20.0, "{}", end.text());
        let grant = lab.log().wait("grant", &[("id", &end.field("id"))]);
        let up = |record: &caplet_lab::Record| record.field("up").parse::<f64>().expect("seconds since boot");
        assert!(up(&grant) < up(&end), "{} {}", grant.text(), end.text());
        let now: f64 = lab.read("/proc/uptime").split(' ').next().expect("up").parse().expect("seconds");
        assert!((up(&end) - now).abs() < 60.0, "since boot, not since an epoch: {} {now}", up(&end));
    }
}

// L1
#[test]
fn odd_arguments_make_one_line_that_parses_back_and_long_ones_are_cut_with_a_mark() {
    let Some(lab) = lab() else { return };
    let odd: Vec<String> = [
        "a\nNov 23 00:00:00 x sudo: root : FAKE",
        "\u{1b}[31m",
        "\u{9b}31m",
        "\u{202e}evil",
        "two words",
        "",
        "\" seal=0123456789abcdef",
        "'",
    ]
    .map(str::to_owned)
    .into();
    let words: Vec<String> =
        ["caplet", "run", "--quiet", "-p", "own", "true"].map(str::to_owned).into_iter().chain(odd.clone()).collect();
    lab.run_as("bob", &words).expect_ok();
    let record = until_found(lab, "FAKE");
    let text = record.text();
    assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}' && c != '\u{9b}'), "{text:?}");
    let command = record.field("command").into_bytes();
    let argv = caplet_policy::escape::parse_log_command(&command).expect("it parses back");
    let wanted: Vec<Vec<u8>> = std::iter::once("true".to_owned()).chain(odd).map(String::into_bytes).collect();
    assert_eq!(argv, wanted);
    // No bytes of another argument, whatever they are: invalid UTF-8 by way of a shell.
    lab.sh("bob", "caplet run --quiet -p own true $'\\xff\\xfe-marked'").expect_ok();
    let record = until_found(lab, "-marked");
    assert!(record.field("command").contains("\\xff\\xfe-marked"), "{}", record.text());
    let long = "y".repeat(131_000);
    lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "own", "true", &long]).expect_ok();
    let record = until_found(lab, "yyyy");
    assert!(record.bytes.len() < 8192, "{} bytes", record.bytes.len());
    assert!(record.field("command").contains("[...12") && record.field("command").ends_with(']'), "{}", record.text());
}

/// However long a user makes what is logged, the line fits into every log daemon whole, seal and all.
#[test]
fn no_line_is_longer_than_a_log_daemon_takes() {
    let Some(lab) = lab() else { return };
    let deep = "import os, sys\nfor n in range(150): os.mkdir('\\x01' * 200); os.chdir('\\x01' * 200)\n\
        os.execv('/usr/bin/caplet', ['caplet', 'run', '--quiet', '-p', sys.argv[1], 'true', '\"' * 60000, '\\\\' * 60000])";
    for profile in ["own", "real"] {
        lab.task("carol", ["/usr/bin/python3", "-I", "-c", deep, profile]).cwd("/tmp").run().expect_ok();
        let end = lab.log().wait("end", &[("user", "carol"), ("profile", profile)]);
        let grant = lab.log().wait("grant", &[("id", &end.field("id"))]);
        assert!(grant.bytes.len() < 7800, "{} bytes", grant.bytes.len());
        assert!(grant.field("cwd").contains("[...") && grant.field("command").contains("[..."), "{}", grant.text());
        assert_eq!(grant.field("seal").len(), 16);
        lab.root("rm -rf /tmp/$'\\x01'*");
    }
    lab.run_as("mallory", ["caplet", "run", "-p", "own", "id", &"\\".repeat(60_000)]).expect_code(125);
    let refuse = lab.log().wait("refuse", &[("user", "mallory"), ("profile", "own")]);
    assert!(refuse.bytes.len() < 7800 && refuse.field("seal").len() == 16, "{}", refuse.bytes.len());
}

fn until_found(lab: &Lab, part: &str) -> caplet_lab::Record {
    let mut found = None;
    lab.until(|| {
        found =
            lab.log().records().into_iter().find(|r| r.event().as_deref() == Some("grant") && r.text().contains(part));
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("no grant with {part}"))
}

// A name of the caller's choosing must not stand before the lines that modules write.
#[test]
fn argv0_is_not_the_name_in_the_log() {
    let Some(lab) = Lab::new()
        .user("alice", &[])
        .policy("[profile.p]\nusers = [\"alice\"]\nscope = \"host\"\npam_session = true\n")
        .start()
    else {
        return;
    };
    let program = "import os; os.execv('/usr/libexec/caplet/caplet-helper', ['sshd[1]: Accepted password for root\\nx', 'run', '--profile=p', '--', 'true'])";
    lab.python("alice", program).expect_ok();
    lab.log().wait("end", &[("status", "exit:0")]);
    let lines: Vec<String> = lab.log().records().iter().map(caplet_lab::Record::text).collect();
    assert!(lines.iter().any(|l| l.contains("caplet-helper: pam_unix(caplet:session)")), "{lines:#?}");
    assert!(!lines.iter().any(|l| l.contains("sshd[1]") || l.contains("Accepted")), "{lines:#?}");
}

// R3: everything of ours is killed
#[test]
fn a_grant_has_its_end_also_after_everything_was_killed() {
    // A machine of its own: whoever runs something buries the dead.
    let Some(lab) = Lab::new().user("carol", &[]).user("bob", &[]).user("mallory", &[]).policy(POLICY).start() else {
        return;
    };
    let start = |profile: &str| {
        let running =
            lab.task("carol", ["caplet", "run", "--quiet", "-p", profile, "sh", "-c", ": lost; sleep 99"]).spawn();
        let session = if profile == "own" { Session::isolated(&running) } else { Session::host(&running) };
        (running, session)
    };
    let grants =
        || lab.log().find("grant", &[]).into_iter().filter(|r| r.text().contains(": lost")).map(|r| r.field("id"));
    let over = |pid: i32| ProcStatus::of(pid).is_none_or(|status| status.state() == 'Z');
    for profile in ["own", "real"] {
        // The relay lives, or the watcher: either has the end written at once, and what would go on killed.
        for stopped in [None, Some("relay"), Some("watcher")] {
            let (mut running, session) = start(profile);
            let sleeper = match stopped {
                Some("relay") => Some(session.relay),
                Some(_) => Some(session.watcher()),
                None => None,
            };
            sleeper.iter().for_each(|pid| Session::signal(*pid, Signal::SIGSTOP));
            Session::signal(session.guard, Signal::SIGKILL);
            let id = grants().next_back().expect("a grant");
            lab.log().wait("end", &[("id", &id), ("status", "lost"), ("user", "carol"), ("profile", profile)]);
            assert!(over(session.init) && over(session.command), "{profile}, {stopped:?}: it goes on");
            sleeper.iter().for_each(|pid| Session::signal(*pid, Signal::SIGCONT));
            running.wait();
            session.wait_end();
        }
        // Nothing lives, nor anybody who sweeps after the last one: whoever comes next finds it.
        assert!(lab.until(|| !lab.sh("root", "pgrep -x caplet-helper").ok()));
        let (mut running, session) = start(profile);
        // Neither must see the guard die, nor the guard one of them.
        let beside = [session.relay, session.watcher()];
        beside.iter().for_each(|pid| Session::signal(*pid, Signal::SIGSTOP));
        [session.guard].iter().chain(&beside).for_each(|pid| Session::signal(*pid, Signal::SIGKILL));
        running.wait();
        assert!(lab.until(|| over(session.guard)), "its lock goes with it");
        let id = grants().next_back().expect("a grant");
        assert!(lab.log().find("end", &[("id", &id)]).is_empty());
        lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "own", "true"]).expect_ok();
        let end = lab.log().wait("end", &[("id", &id), ("status", "lost")]);
        assert_eq!(end.uid, 0);
        assert_eq!(lab.log().find("end", &[("id", &id)]).len(), 1);
        session.wait_end();
    }
    let ours = format!("ls /run/caplet | grep -c '^{}[.]' || true", lab.uid("carol"));
    assert_eq!(lab.root(&ours).out(), "0");
    // A session that lives is nobody's to bury.
    let (mut running, session) = start("own");
    lab.run_as("mallory", ["/usr/libexec/caplet/caplet-helper", "sweep"]).expect_ok();
    let id = grants().next_back().expect("a grant");
    assert!(lab.log().find("end", &[("id", &id)]).is_empty());
    Session::signal(session.relay, Signal::SIGTERM);
    running.wait();
    let end = lab.log().wait("end", &[("id", &id)]);
    assert_ne!(end.field("status"), "lost");
}

/// An end that the log does not take is not forgotten.
#[test]
fn an_end_that_finds_no_log_is_written_when_there_is_one_again() {
    let Some(lab) = machine_with_log(&RSYSLOGD.replace("FORM", "RSYSLOG_FileFormat")) else { return };
    need!("rsyslogd");
    let mut running = lab.task("alice", ["caplet", "run", "--quiet", "-p", "own", "sh", "-c", "echo ready; read x"]);
    running = running.stdin_open();
    let mut running = running.spawn();
    running.wait_for("ready");
    lab.root("pkill -x rsyslogd; while pgrep -x rsyslogd >/dev/null; do sleep 0.05; done; rm -f /dev/log");
    drop(running.stdin.take());
    running.wait();
    let ends = || {
        lab.read("/var/log/auth.log").lines().filter(|l| l.contains(": end id=") && l.contains("user=alice")).count()
    };
    assert_eq!(ends(), 0);
    lab.sh("mallory", "/usr/libexec/caplet/caplet-helper sweep").expect_ok();
    lab.root(&RSYSLOGD.replace("FORM", "RSYSLOG_FileFormat").replace("rm -f /var/log/auth.log*;", ""));
    lab.sh("mallory", "/usr/libexec/caplet/caplet-helper sweep").expect_ok();
    assert!(lab.until(|| ends() == 1), "{}", lab.read("/var/log/auth.log"));
    assert_eq!(lab.root("ls /run/caplet").out(), "");
}

#[test]
fn without_a_log_best_effort_says_so_once_and_required_refuses() {
    let policy = |log: &str| format!("[defaults]\nlog = \"{log}\"\n{POLICY}");
    let Some(lab) = Lab::new().user("alice", &[]).without_journal().policy(&policy("best-effort")).start() else {
        return;
    };
    for profile in ["own", "real"] {
        let out = lab.run_as("alice", ["caplet", "run", "-p", profile, "echo", "ran"]).expect_ok();
        assert_eq!(
            (out.out().as_str(), out.err().as_str()),
            ("ran", "caplet: the system log takes nothing now: this session is not in it")
        );
        let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", profile, "echo", "ran"]).expect_ok();
        assert_eq!(out.err(), "");
    }
    lab.set_policy(&policy("required"));
    for profile in ["own", "real"] {
        let out = lab.run_as("alice", ["caplet", "run", "-p", profile, "echo", "ran"]).expect_code(125);
        assert!(out.out().is_empty() && out.err().contains("the policy wants every session logged"), "{out}");
        assert_eq!(lab.root("ls /run/caplet | grep -v auth || true").out(), "", "no record is left");
    }
}

/// Starts journald as systemd would find it, with its sockets where programs look.
const JOURNALD: &str = "mkdir -p /run/systemd/journal /run/log/journal; setsid /lib/systemd/systemd-journald >/dev/null 2>&1 </dev/null & \
    n=0; until [ -S /run/systemd/journal/socket ] && [ -S /run/systemd/journal/dev-log ]; do n=$((n+1)); [ $n -lt 200 ] || exit 1; sleep 0.05; done; \
    ln -sf /run/systemd/journal/dev-log /dev/log";
const RSYSLOGD: &str = "printf '%s\\n' 'module(load=\"imuxsock\" SysSock.Use=\"on\" SysSock.Name=\"/dev/log\")' \
    'authpriv.* action(type=\"omfile\" file=\"/var/log/auth.log\" fileCreateMode=\"0600\" template=\"FORM\")' >/etc/lab-rsyslog.conf; \
    rm -f /var/log/auth.log*; setsid rsyslogd -n -i /run/lab-rsyslog.pid -f /etc/lab-rsyslog.conf >/dev/null 2>&1 </dev/null & \
    n=0; until [ -S /dev/log ]; do n=$((n+1)); [ $n -lt 200 ] || exit 1; sleep 0.05; done";

fn machine_with_log(daemon: &str) -> Option<Lab> {
    let lab = Lab::new().user("alice", &[]).user("bob", &[]).user("mallory", &[]).without_journal().policy(POLICY);
    let lab = lab.file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o644, "root").start()?;
    lab.root(daemon);
    Some(lab)
}

fn forge(lab: &Lab) {
    let line = "grant id=00000000 user=root uid=0 profile=own add=ALL scope=host caps=ALL command=evil up=1.000 seal=0123456789abcdef";
    lab.run_as("mallory", ["logger", "-p", "authpriv.notice", "-t", "caplet", line]).expect_ok();
    lab.run_as(
        "mallory",
        ["logger", "-p", "authpriv.notice", "--id=1", "-t", "caplet", "end id=00000000 status=exit:0"],
    )
    .expect_ok();
}

fn work(lab: &Lab) {
    lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "own", "--cap-add", "NET_ADMIN", "true", "two words"])
        .expect_ok();
    lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "real", "sh", "-c", "exit 7"]).expect_code(7);
    lab.run_as("mallory", ["caplet", "run", "id"]).expect_code(125);
    forge(lab);
}

/// `caplet log` as root: what it believes, and what it shows as foreign.
fn read_back(lab: &Lab) {
    let mut text = String::new();
    let complete = lab.until(|| {
        text = lab.run_as("root", ["caplet", "log"]).out();
        text.matches(" end ").count() >= 2 && text.matches("foreign").count() >= 2
    });
    assert!(complete, "{text}");
    let line = |words: &[&str]| text.lines().any(|l| words.iter().all(|w| l.contains(w)));
    assert!(line(&["grant", "alice", "own", "+NET_ADMIN", "'two words'"]), "{text}");
    assert!(line(&["end", "bob", "real", "exit:7"]), "{text}");
    assert!(line(&["refuse", "mallory", "id"]), "{text}");
    assert_eq!(text.lines().filter(|l| l.contains("00000000")).count(), 2, "{text}");
    assert!(text.lines().filter(|l| l.contains("00000000")).all(|l| l.contains("foreign")), "{text}");
    let json = lab.run_as("root", ["caplet", "log", "--json", "--user", "alice", "--since", "1h"]).expect_ok().out();
    assert_eq!(json.lines().count(), 2, "{json}");
    assert!(json.contains(r#""argv":["true","two words"]"#) && !json.contains("seal"), "{json}");
    let out = lab.run_as("alice", ["caplet", "log"]).expect_code(1);
    assert!(out.err().contains("sudo caplet log"), "{out}");
}

#[test]
fn journald_has_the_line_and_the_fields_and_believes_no_user() {
    need!("/lib/systemd/systemd-journald", "journalctl", "logger");
    let Some(lab) = machine_with_log(JOURNALD) else { return };
    work(&lab);
    let export =
        |filter: &str| lab.root(&format!("journalctl --sync >/dev/null 2>&1; journalctl -q -o export {filter}")).out();
    let mut text = String::new();
    lab.until(|| {
        text = export("CAPLET_EVENT=grant CAPLET_PROFILE=own");
        text.contains("MESSAGE=grant")
    });
    for field in [
        "_UID=0",
        "SYSLOG_IDENTIFIER=caplet",
        "SYSLOG_FACILITY=10",
        "PRIORITY=5",
        "CAPLET_USER=alice",
        "CAPLET_ADD=NET_ADMIN",
        "CAPLET_COMMAND=true 'two words'",
        "CAPLET_SCOPE=isolated",
    ] {
        assert!(text.lines().any(|l| l == field), "{field}: {text}");
    }
    let line = text.lines().find_map(|l| l.strip_prefix("MESSAGE=")).expect("a line");
    assert!(
        line.starts_with("grant id=") && line.contains(" command=\"true 'two words'\" up=") && line.contains(" seal="),
        "{line}"
    );
    read_back(&lab);
    // A guard finds a journal that was restarted.
    let mut running = lab
        .task("alice", ["caplet", "run", "--quiet", "-p", "own", "sh", "-c", "echo ready; read x; exit 9"])
        .stdin_open()
        .spawn();
    running.wait_for("ready");
    lab.root(&format!("pkill -x systemd-journal; while pgrep -x systemd-journal >/dev/null; do sleep 0.05; done; rm -f /run/systemd/journal/socket /run/systemd/journal/dev-log; {JOURNALD}"));
    drop(running.stdin.take());
    running.wait();
    assert!(lab.until(|| export("CAPLET_EVENT=end CAPLET_STATUS=exit:9").contains("MESSAGE=end")));
}

#[test]
fn rsyslog_has_the_same_line_and_a_seal_tells_it_from_a_users() {
    need!("rsyslogd", "logger");
    for form in ["RSYSLOG_FileFormat", "RSYSLOG_TraditionalFileFormat"] {
        let Some(lab) = machine_with_log(&RSYSLOGD.replace("FORM", form)) else { return };
        work(&lab);
        read_back(&lab);
        let text = lab.read("/var/log/auth.log");
        assert!(text.contains(" command=\"true 'two words'\" up="), "{text}");
        // One line less: the others tell.
        let lines: Vec<&str> = text.lines().filter(|l| l.contains(" seq=")).collect();
        lab.write("/tmp/cut.log", [lines[0], lines[2], lines[3]].join("\n") + "\n", 0o600, "root");
        let out = lab.run_as("root", ["caplet", "log", "--file", "/tmp/cut.log"]).expect_ok();
        assert!(out.err().contains("record 2 of boot ") && out.err().contains(" is missing: "), "{out}");
        // The same line once more, as somebody who could read the log would send it.
        let line = text.lines().find(|l| l.contains("grant id=") && l.contains("user=alice")).expect("alice's grant");
        let message = line.split_once("]: ").expect("a tag").1;
        lab.run_as("mallory", ["logger", "-p", "authpriv.notice", "-t", "caplet", message]).expect_ok();
        assert!(lab.until(|| lab.run_as("root", ["caplet", "log"]).out().matches("foreign").count() == 3));
    }
}

#[test]
fn the_key_is_roots_alone_and_made_once() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    let mut running: Vec<_> =
        (0..8).map(|_| lab.task("alice", ["caplet", "run", "--quiet", "-p", "real", "true"]).spawn()).collect();
    running.iter_mut().for_each(|r| assert!(r.wait().success()));
    assert_eq!(
        lab.root("stat -c '%u %a %s' /var/lib/caplet /var/lib/caplet/log.key | cut -d' ' -f1,2; ls /var/lib/caplet")
            .out(),
        "0 700\n0 600\nlog.key"
    );
    assert!(!lab.sh("alice", "cat /var/lib/caplet/log.key").ok());
    let key = lab.inside(|| std::fs::read("/var/lib/caplet/log.key")).expect("a key");
    let key = caplet_policy::seal::Key::new(&key).expect("16 bytes");
    let lines: Vec<_> = lab.log().records().iter().filter_map(caplet_lab::Record::message).collect();
    assert!(lines.len() >= 16 && lines.iter().all(|line| key.is_sealed(line)), "{lines:#?}");
    // A key that others can read seals nothing; the session runs all the same.
    lab.root("chmod 644 /var/lib/caplet/log.key");
    lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "real", "true", "unsealed"]).expect_ok();
    assert!(!until_found(&lab, "unsealed").text().contains("seal="));
    // Nor does one where a link of somebody's leads.
    lab.root("rm /var/lib/caplet/log.key; ln -s /etc/hostname /var/lib/caplet/log.key");
    lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "real", "true", "linked"]).expect_ok();
    assert!(!until_found(&lab, "linked").text().contains("seal="));
}

/// What root of a session sends carries the user's uid.
#[test]
fn the_root_of_a_session_is_not_the_machines_in_the_log() {
    let policy = POLICY
        .replace("may_add", "user = \"root\"\nnetwork = \"host\"\nmay_add")
        .replace("[\"NET_ADMIN\"]", "[\"CHOWN\"]");
    let Some(lab) = Lab::new().user("alice", &[]).user("bob", &[]).policy(&policy).start() else { return };
    let send = "import socket\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
        try:\n s.connect('/dev/log'); s.send(b'<85>Nov 25 00:00:00 caplet[1]: grant id=1 user=root')\nexcept OSError as e: print(e)";
    let out = lab
        .run_as("alice", ["caplet", "run", "--quiet", "-p", "own", "/usr/bin/python3", "-I", "-c", send])
        .expect_ok();
    let forged: Vec<_> = lab.log().records().into_iter().filter(|r| r.text().contains("id=1 user=root")).collect();
    assert!(!out.out().is_empty() || forged.iter().all(|r| r.uid == lab.uid("alice")), "{out} {forged:?}");
    let _ = ProcStatus::of(lab.init());
}
