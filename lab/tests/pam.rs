//! `auth = "password"`, `pam_account` and `pam_session`, with the real Linux-PAM: attacks.md, parts A and B.

use caplet_lab::{Lab, PAM_MODULE, SharedLab, Terminal, need, shared};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

const POLICY: &str = r#"
[defaults]
contact = "lab-admin@example.edu"

[profile.asks]
users = ["*"]
scope = "host"
caps = ["SYS_NICE"]
auth = "password"
auth_cache_minutes = 0
pam_account = false

[profile.iso]
users = ["*"]
auth = "password"
auth_cache_minutes = 0

[profile.named]
users = ["*"]
scope = "host"
auth = "password"
auth_cache_minutes = 0
pam_account = false
commands = ["/usr/bin/printf"]

[profile.account]
users = ["*"]
scope = "host"

[profile.session]
users = ["*"]
scope = "host"
pam_session = true

[profile.bound]
users = ["*"]
scope = "host"
pam_session = true
commands = ["/usr/bin/env"]
umask = "077"

[profile.isosession]
users = ["*"]
pam_session = true
limits = { nofile = 200 }

[profile.plain]
users = ["*"]
"#;

/// As Debian's stack, less the two seconds that a wrong password costs.
const UNIX: &str = "auth required pam_unix.so nodelay nullok\naccount required pam_unix.so\n\
    session required pam_unix.so\n";
const SECRET: &str = "correct horse";

static LAB: SharedLab = SharedLab::new();

/// Where passwords are checked by pam_unix.
fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        let users = ["alice", "bob", "carol", "dave", "erin", "frank", "gina", "hugo"];
        let lab = users.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &[]));
        lab.policy(POLICY).file("/etc/pam.d/caplet", UNIX, 0o644, "root").user("nopass", &[])
    })
}

/// A machine of its own for a stack of its own, with the module.
fn machine(pam: &str) -> Option<Lab> {
    let lab = Lab::new().user("alice", &[]).user("bob", &[]).policy(POLICY).start()?;
    lab.pam_module();
    lab.set_pam(&pam.replace("LAB", PAM_MODULE));
    Some(lab)
}

fn asks<'l>(lab: &'l Lab, user: &str, argv: &[&str]) -> caplet_lab::Task<'l> {
    lab.task(user, ["caplet", "run", "--quiet"].iter().chain(argv))
}

const PROMPT: &str = "caplet: password for alice (profile asks): ";

fn prompted(lab: &Lab) -> Terminal {
    lab.set_password("alice", SECRET);
    let mut terminal = asks(lab, "alice", &["-p", "asks", "sh", "-c", "echo ran-$((6*7))"]).terminal(24, 80);
    terminal.expect(PROMPT);
    terminal
}

#[test]
fn a_right_password_is_asked_for_once_and_never_shown() {
    let Some(lab) = lab() else { return };
    let mut terminal = prompted(lab);
    terminal.send("correct horse\n");
    terminal.expect("ran-42");
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(!terminal.screen().contains("horse"), "{}", terminal.screen());
    assert_eq!(terminal.screen().matches("password for").count(), 1);
}

/// What was granted at the prompt is judged anew behind it: a verdict cannot be kept for later.
#[test]
fn a_password_given_after_the_policy_has_changed_brings_nothing() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).file("/etc/pam.d/caplet", UNIX, 0o644, "root").start()
    else {
        return;
    };
    let change =
        |name: &str| lab.write("/etc/caplet/policy.toml", POLICY.replace("[profile.asks]", name), 0o640, "root");
    for (now, said) in [
        ("[profile.asked]", "is not yours here and now"),
        ("[profile.asks]\numask = \"027\"", "the policy has changed since it was asked for"),
    ] {
        change("[profile.asks]");
        let mut terminal = prompted(&lab);
        std::thread::sleep(Duration::from_millis(2100));
        change(now);
        terminal.send("correct horse\n");
        terminal.expect(said);
        assert_eq!(terminal.wait().code(), Some(125), "{now}");
        assert!(!terminal.screen().contains("ran-42"), "{now}: {}", terminal.screen());
    }
    assert_eq!(lab.log().find("refuse", &[("user", "alice")]).len(), 2);
    assert!(lab.log().find("grant", &[("user", "alice")]).is_empty());
    // A line more above it is no other profile.
    change("[profile.asks]");
    let mut terminal = prompted(&lab);
    std::thread::sleep(Duration::from_millis(2100));
    change("# for the course\n[profile.asks]");
    terminal.send("correct horse\n");
    terminal.expect("ran-42");
    assert_eq!(terminal.wait().code(), Some(0));
}

/// The first judgement found the policy's file behind the user's path; what that path leads to now has no say.
#[test]
fn a_path_of_the_users_that_changes_behind_the_prompt_changes_nothing() {
    let Some(lab) = lab() else { return };
    lab.set_password("gina", SECRET);
    let _ = lab.sh("gina", "ln -sfn /usr/bin ~/tools; mkdir -p ~/other; cp /bin/true ~/other/printf").expect_ok();
    let words = ["-p", "named", "/home/gina/tools/printf", "ran-%d", "42"];
    let mut terminal = asks(lab, "gina", &words).terminal(24, 80);
    terminal.expect("password for gina");
    std::thread::sleep(Duration::from_millis(2100)); // so that it is judged again
    let _ = lab.sh("gina", "ln -sfn ~/other ~/tools").expect_ok();
    terminal.send("correct horse\n");
    terminal.expect("ran-42");
    assert_eq!(terminal.wait().code(), Some(0));
}

/// An account that passes now may be locked when `fg` comes.
#[test]
fn a_proof_cannot_be_put_aside_for_later() {
    let Some(lab) = machine(&format!("{UNIX}auth optional pam_exec.so quiet /bin/sleep 2\n")) else { return };
    let attempt = format!("/run/caplet/auth/{}.attempt", lab.uid("alice"));
    let judging = || {
        let begun = || lab.exists(&attempt) && !lab.read(&attempt).is_empty();
        assert!(caplet_lab::until(Duration::from_secs(20), begun), "the answer is not being judged");
    };
    // Nor does it count for who has changed their mind meanwhile.
    let mut terminal = prompted(&lab);
    terminal.send("correct horse\n");
    judging();
    terminal.send("\u{3}");
    assert_eq!(terminal.wait().code(), Some(130));
    assert!(!terminal.screen().contains("ran-42"), "{}", terminal.screen());
    let mut terminal = lab.task("alice", ["bash", "--norc", "-i"]).env("PS1", "outer> ").terminal(24, 80);
    terminal.expect("outer> ");
    for (seconds, said) in [(4, "ran-42"), (20, "stopped for more than 15 seconds after you had proven who you are")] {
        terminal.send("caplet run --quiet -p asks sh -c 'echo ran-$((6*7))'\n");
        terminal.expect(PROMPT);
        terminal.send("correct horse\n");
        judging();
        terminal.send("\u{1a}");
        terminal.expect("Stopped");
        std::thread::sleep(Duration::from_secs(seconds));
        terminal.send("fg\n");
        terminal.expect(said);
        terminal.expect("outer> ");
    }
    terminal.send("exit\n");
    terminal.wait();
    assert_eq!(terminal.screen().matches("ran-42").count(), 1, "{}", terminal.screen());
    lab.log().wait("refuse", &[("user", "alice"), ("reason", "the proof is too old")]);
    assert_eq!(lab.log().find("grant", &[("user", "alice")]).len(), 1);
    assert_eq!(lab.processes_left(), []);
}

#[test]
fn three_wrong_ones_are_refused_and_each_is_logged() {
    let Some(lab) = lab() else { return };
    lab.set_password("bob", SECRET);
    let mut terminal = asks(lab, "bob", &["-p", "asks", "id"]).terminal(24, 80);
    for (n, wrong) in ["wrong-one", "correct hors", "correct horse "].iter().enumerate() {
        terminal.expect("password for bob");
        terminal.send(&format!("{wrong}\n"));
        if n < 2 {
            terminal.expect("that was not right: try again");
        }
    }
    terminal.expect("you were not authenticated for profile \"asks\": 3 attempts failed");
    terminal.expect("ask: lab-admin@example.edu");
    assert_eq!(terminal.wait().code(), Some(125));
    for number in ["1", "2", "3"] {
        let record = lab.log().wait("auth-failure", &[("user", "bob"), ("try", number)]);
        assert_eq!((record.priority(), record.uid), (Some((10, 4)), 0));
        assert!(record.field("tty").starts_with("/dev/pts/"));
    }
    let refused = lab.log().wait("refuse", &[("user", "bob"), ("profile", "asks")]);
    assert_eq!(refused.field("reason"), "not authenticated: 3 attempts failed");
    assert!(lab.log().find("grant", &[("user", "bob")]).is_empty());
    assert!(!terminal.screen().contains("wrong-one"));
}

// CVE-2019-18634, CVE-2022-43995: lengths and control bytes on a pipe
#[test]
fn every_length_of_password_on_standard_input_is_itself() {
    let Some(lab) = lab() else { return };
    for length in 1..=8 {
        let right = &"\u{15}bcdefgh"[..length];
        lab.set_password("carol", right);
        let ask = |text: String| asks(lab, "carol", &["-S", "-p", "asks", "echo", "ran"]).stdin(text).run();
        let out = ask(format!("{right}\n")).expect_ok();
        assert_eq!(out.out(), "ran", "{length}: {out}");
        for wrong in [&right[..length - 1], &format!("{right}x"), &right.replace('\u{15}', "")] {
            let out = ask(format!("{wrong}\n")).expect_code(125);
            assert!(out.out().is_empty(), "{length} {wrong:?}: {out}");
        }
    }
}

#[test]
fn an_answer_that_is_too_long_or_holds_nul_counts_as_an_attempt_and_the_rest_is_the_commands() {
    let Some(lab) = lab() else { return };
    lab.set_password("dave", SECRET);
    let long = |n: usize| "x".repeat(n);
    for (wrong, why) in [
        (long(513), "longer than 511 bytes"),
        (long(1 << 20), "longer than 511 bytes"),
        (format!("{SECRET}\0"), "NUL byte"),
        (format!("\0{SECRET}"), "NUL byte"),
        (long(511), "that was not right"),
    ] {
        let text = format!("{wrong}\n{SECRET}\nfor the command\n\x15\x7f");
        let out = asks(lab, "dave", &["-S", "-p", "asks", "cat"]).stdin(text).run().expect_ok();
        assert!(out.err().contains(why), "{out}");
        assert_eq!(out.out(), "for the command\n\x15\x7f", "{} bytes", wrong.len());
    }
    let out = asks(lab, "dave", &["-S", "-p", "asks", "id"]).stdin("").run().expect_code(125);
    assert!(out.err().contains("and no password was given"), "{out}");
    // Without a newline at the end, as sudo takes it.
    asks(lab, "dave", &["-S", "-p", "asks", "true"]).stdin(SECRET).run().expect_ok();
}

#[test]
fn an_empty_password_proves_nothing() {
    let Some(lab) = lab() else { return };
    lab.edit_accounts("sed -i 's/^nopass:[^:]*:/nopass::/' /etc/shadow");
    let out = asks(lab, "nopass", &["-S", "-p", "asks", "id"]).stdin("\n\n\n").run().expect_code(125);
    assert!(out.out().is_empty(), "{out}");
}

#[test]
fn control_c_at_the_prompt_ends_it_and_nothing_typed_is_shown_or_left_for_the_shell() {
    let Some(lab) = lab() else { return };
    lab.set_password("alice", SECRET);
    let mut terminal = lab.task("alice", ["bash", "--norc", "-i"]).env("PS1", "outer> ").terminal(24, 80);
    for key in ["\u{3}", "\u{1c}", "\u{4}"] {
        terminal.expect("outer> ");
        terminal.send("caplet run -p asks id\n");
        terminal.expect(PROMPT);
        terminal.send("typed-ahead");
        std::thread::sleep(Duration::from_millis(50));
        terminal.send(key);
        if key == "\u{4}" {
            terminal.send("\u{4}"); // the first one only ends a line that has begun
            terminal.expect("that was not right");
            terminal.expect(PROMPT);
            terminal.send("\u{4}");
        }
        terminal.expect("outer> ");
        terminal.send("echo status-$?\n");
        let code = match key {
            "\u{3}" => "status-130",
            "\u{1c}" => "status-131",
            _ => "status-125",
        };
        terminal.expect(code);
    }
    terminal.expect("outer> ");
    terminal.send("stty -a\n");
    let modes = terminal.expect("outer> ");
    assert!(modes.contains(" echo ") && modes.contains(" icanon "), "{modes}");
    terminal.send("exit\n");
    terminal.wait();
    assert!(!terminal.screen().contains("typed"), "{}", terminal.screen());
    lab.log().wait("refuse", &[("user", "alice"), ("reason", "interrupted by signal 2")]);
}

#[test]
fn control_z_at_the_prompt_stops_and_fg_asks_anew() {
    let Some(lab) = lab() else { return };
    lab.set_password("alice", SECRET);
    let mut terminal = lab.task("alice", ["bash", "--norc", "-i"]).env("PS1", "outer> ").terminal(24, 80);
    terminal.expect("outer> ");
    terminal.send("caplet run --quiet -p asks sh -c 'echo ran-$((6*7))'\n");
    terminal.expect(PROMPT);
    terminal.send("half-typed");
    std::thread::sleep(Duration::from_millis(50));
    terminal.send("\u{1a}");
    terminal.expect("Stopped");
    terminal.expect("outer> ");
    terminal.send("stty -a | tr -s ' ;' '\\n\\n' | grep -x echo; fg\n");
    terminal.expect("\r\necho\r\n");
    terminal.expect(PROMPT);
    terminal.send("correct horse\n");
    terminal.expect("ran-42");
    terminal.send("exit\n");
    terminal.wait();
    assert!(!terminal.screen().contains("half") && !terminal.screen().contains("horse"), "{}", terminal.screen());
}

/// The child that runs PAM, by pids of the host.
fn pam_process(terminal: &Terminal) -> i32 {
    let children = format!("/proc/{0}/task/{0}/children", terminal.pid());
    let text = std::fs::read_to_string(children).expect("it runs");
    text.split_whitespace().next().expect("a PAM process").parse().expect("a pid")
}

// T07, T08
#[test]
fn the_user_can_neither_kill_nor_read_what_holds_the_terminal_and_killing_pam_shows_nothing() {
    let Some(lab) = lab() else { return };
    let mut terminal = prompted(lab);
    let helper = caplet_lab::ProcStatus::of(terminal.pid()).expect("it runs");
    assert_eq!(helper.uids(), [0; 4], "real, effective, saved and file system uid");
    let inside = helper.namespace_pids()[1];
    for line in [
        format!("kill -9 {inside}"),
        format!("kill -STOP {inside}"),
        format!("head -c1 /proc/{inside}/environ"),
        format!("head -c1 /proc/{inside}/mem"),
        format!("ls /proc/{inside}/fd"),
    ] {
        assert!(!lab.sh("alice", &line).ok(), "{line}");
    }
    let pam = caplet_lab::ProcStatus::of(pam_process(&terminal)).expect("it runs");
    let uid = lab.uid("alice");
    assert_eq!(pam.uids(), [uid, 0, 0, 0], "the real uid is the user's, or pam_rootok would pass");
    let pam = pam.namespace_pids()[1];
    assert!(!lab.sh("alice", &format!("head -c1 /proc/{pam}/environ")).ok());
    terminal.send("typed-ahead");
    std::thread::sleep(Duration::from_millis(50));
    lab.sh("alice", &format!("kill -9 {pam}")).expect_ok();
    terminal.expect("the process that asks PAM died");
    assert_eq!(terminal.wait().code(), Some(125));
    assert!(!terminal.screen().contains("typed"), "{}", terminal.screen());
}

#[test]
fn without_a_terminal_it_says_what_would_work() {
    let Some(lab) = lab() else { return };
    for (flags, first, second) in [
        (&["-p", "asks"][..], "and there is no terminal to ask on", "(-S), or by a program (-A and CAPLET_ASKPASS)"),
        (&["-n", "-p", "asks"], "and -n forbids to ask for it", "without -n you are asked"),
        (&["-A", "-p", "asks"], "and CAPLET_ASKPASS names no program", "absolute path"),
    ] {
        let out = lab.task("gina", ["caplet", "run"].iter().chain(flags).chain(&["id"])).run().expect_code(125);
        let lines = out.err_lines();
        assert!(lines[0].starts_with("caplet: a password is needed for profile \"asks\", "), "{out}");
        assert!(lines[0].ends_with(first) && lines[1].contains(second) && lines.len() == 2, "{out}");
    }
    let refused = lab.log().wait("refuse", &[("user", "gina")]);
    assert_eq!(refused.field("reason"), "a password is needed");
}

#[test]
fn askpass_is_the_users_program_with_the_users_rights() {
    let Some(lab) = lab() else { return };
    lab.set_password("erin", SECRET);
    let script = "#!/bin/sh\n{ id -u; echo \"$1\"; echo $MARK; grep -E 'Uid|Cap(Eff|Prm|Inh|Amb)|Groups' /proc/self/status;\
         ls /proc/self/fd; umask; readlink /proc/self/fd/0; } >/home/erin/seen\necho 'correct horse'\necho more\n";
    lab.write("/home/erin/ask", script, 0o755, "erin");
    let ask = |program: &str| {
        let task = asks(lab, "erin", &["-A", "-p", "asks", "echo", "ran"]).env("MARK", "mine");
        task.env("CAPLET_ASKPASS", program).descriptor(std::fs::File::open("/dev/null").expect("it is there"), 9).run()
    };
    let out = ask("/home/erin/ask").expect_ok();
    assert_eq!(out.out(), "ran", "{out}");
    let (seen, uid) = (lab.read("/home/erin/seen"), lab.uid("erin"));
    assert!(seen.starts_with(&format!("{uid}\ncaplet: password for erin (profile asks): \nmine\n")), "{seen}");
    assert!(seen.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")), "{seen}");
    assert_eq!(seen.matches("0000000000000000").count(), 4, "{seen}");
    assert!(seen.contains("\n0\n1\n2\n3\n0022\n/dev/null\n"), "only 0 to 2, and what ls opened: {seen}");
    // Root's power gave the helper a better place among processes than its caller has.
    lab.write("/home/erin/niced", "#!/bin/sh\nnice >/home/erin/seen\necho 'correct horse'\n", 0o755, "erin");
    let niced = ["nice", "-n", "7", "caplet", "run", "--quiet", "-A", "-p", "asks", "nice"];
    let out = lab.task("erin", niced).env("CAPLET_ASKPASS", "/home/erin/niced").run().expect_ok();
    assert_eq!((out.out().as_str(), lab.read("/home/erin/seen").as_str()), ("7", "7\n"), "{out}");
    lab.write("/home/erin/fails", "#!/bin/sh\necho 'correct horse'; exit 1\n", 0o755, "erin");
    for (program, why) in [
        ("/home/erin/fails", "no password was given"),
        ("/home/erin/nothing-there", "cannot be executed"),
        ("/etc/shadow", "cannot be executed: Permission denied"),
        ("./ask", "names no program"),
    ] {
        let out = ask(program).expect_code(125);
        assert!(out.err().contains(why) && out.out().is_empty(), "{program}: {out}");
    }
}

#[test]
fn an_isolated_session_is_asked_for_too() {
    let Some(lab) = lab() else { return };
    lab.set_password("alice", SECRET);
    let mut terminal = asks(lab, "alice", &["-p", "iso", "sh", "-c", "tty; echo ran-$((6*7))"]).terminal(24, 80);
    terminal.expect("caplet: password for alice (profile iso): ");
    terminal.send("correct horse\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("ran-42");
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(!terminal.screen().contains("horse"));
}

#[test]
fn an_expired_account_and_an_expired_password_are_told_as_such() {
    let Some(lab) = lab() else { return };
    lab.set_password("frank", SECRET);
    let ask = |profile: &str| asks(lab, "frank", &["-p", profile, "echo", "ran"]).run();
    assert_eq!(ask("account").expect_ok().out(), "ran");
    lab.edit_accounts("chage -E 1 frank");
    let out = ask("account").expect_code(125);
    assert!(out.err().contains("caplet: Your account has expired"), "{out}");
    assert!(out.err().contains("your account is refused for profile \"account\", here and now: "), "{out}");
    assert!(out.err().contains("ask: lab-admin@example.edu"), "{out}");
    let refused = lab.log().wait("refuse", &[("user", "frank"), ("profile", "account")]);
    assert!(refused.field("reason").starts_with("account: "), "{}", refused.text());
    // Isolated profiles look only where they say so.
    assert_eq!(ask("plain").expect_ok().out(), "ran");
    lab.edit_accounts("chage -E -1 -d 0 frank");
    let out = ask("account").expect_code(125);
    assert!(out.err().ends_with("caplet: change your password first: passwd"), "{out}");
}

#[test]
fn pam_access_and_pam_time_have_their_say() {
    let Some(lab) =
        machine("auth required pam_permit.so\naccount required pam_access.so\naccount required pam_time.so\n")
    else {
        return;
    };
    let ask = |user: &str| asks(&lab, user, &["-p", "account", "echo", "ran"]).run();
    ask("alice").expect_ok();
    lab.write("/etc/security/access.conf", "-:alice:ALL\n+:ALL:LOCAL\n-:ALL:ALL\n", 0o644, "root");
    let out = ask("alice").expect_code(125);
    assert!(out.err().contains("here and now: Permission denied"), "{out}");
    ask("bob").expect_ok(); // LOCAL: no remote host is claimed
    lab.write("/etc/security/access.conf", "", 0o644, "root");
    lab.write("/etc/security/time.conf", "caplet;*;alice;!Al0000-2400\n", 0o644, "root");
    let out = ask("alice").expect_code(125);
    assert!(out.err().contains("here and now: Permission denied"), "{out}");
    ask("bob").expect_ok();
}

#[test]
fn a_module_sees_who_asks_and_where_and_nothing_of_the_callers() {
    let Some(lab) = machine("auth required pam_permit.so\naccount required LAB describe\n") else { return };
    let mut terminal = asks(&lab, "alice", &["-p", "account", "tty"]).env("PAM_RHOST", "evil").terminal(24, 80);
    let tty = terminal.expect("\r\n").trim().to_owned();
    assert_eq!(terminal.wait().code(), Some(0));
    let uid = lab.uid("alice");
    let wanted = |tty: &str| {
        format!(
            "tty={tty} user=alice ruser=alice rhost=(none) real={uid} effective=0 leader=1 fd0=/dev/null cwd=/ environ=0\n"
        )
    };
    assert_eq!(lab.read("/root/pam-notes"), wanted(&tty));
    lab.root("rm /root/pam-notes");
    asks(&lab, "alice", &["-p", "account", "true"]).run().expect_ok();
    assert_eq!(lab.read("/root/pam-notes"), wanted(""));
}

#[test]
fn several_questions_of_a_module_are_asked_in_turn_and_shown_as_they_should_be() {
    let Some(lab) = machine("auth required LAB two\n") else { return };
    let mut terminal = asks(&lab, "alice", &["-p", "asks", "sh", "-c", "echo ran-$((6*7))"]).terminal(24, 80);
    terminal.expect("caplet: Two factors\\x1b[31m are asked\r\n");
    terminal.expect("caplet: First factor: ");
    terminal.send("one\n");
    terminal.expect("caplet: Second factor: ");
    // Whoever kills the judge at the second question, which may tell something of the first answer, has no verdict yet.
    let attempt = || lab.read(&format!("/run/caplet/auth/{}.attempt", lab.uid("alice")));
    assert_ne!(attempt(), "");
    terminal.send("two\n");
    terminal.expect("two\r\n");
    terminal.expect("ran-42");
    assert_eq!(attempt(), "");
    assert_eq!(terminal.wait().code(), Some(0));
    let screen = terminal.screen();
    assert_eq!((screen.matches("one").count(), screen.matches("two").count()), (0, 1), "{screen}");
}

// sudo-rs #1062, sudo PR 519
#[test]
fn modules_that_change_the_user_start_threads_crash_or_ask_too_much() {
    let Some(lab) = machine("") else { return };
    let ask = |how: &str| {
        lab.set_pam(&format!("auth required {PAM_MODULE} {how}\n"));
        asks(&lab, "alice", &["-S", "-p", "asks", "echo", "ran"]).stdin("x\n").run()
    };
    for user in ["root", "bob", "alice2"] {
        let out = ask(&format!("user {user}")).expect_code(125);
        assert!(out.err().contains("it speaks of another user than the one who asks"), "{out}");
    }
    let out = ask("crash").expect_code(125);
    assert!(out.err().contains("the process that asks PAM died"), "{out}");
    lab.log().wait("refuse", &[("reason", "PAM: its process died")]);
    // A module that has had enough is not asked again.
    let out = ask("maxtries").expect_code(125);
    assert!(out.err().contains("you were not authenticated for profile \"asks\": "), "{out}");
    assert!(!out.err().contains("try again") && !out.err().contains("attempts failed"), "{out}");
    assert_eq!(ask("thread").expect_ok().out(), "ran");
    assert_eq!(ask("many").expect_ok().out(), "ran");
    assert_eq!(lab.processes_left(), [], "no thread, no module, nothing");
}

#[test]
fn a_module_that_hangs_does_not_hold_the_person() {
    let Some(lab) = machine("auth required LAB hang\n") else { return };
    let mut terminal = asks(&lab, "alice", &["-p", "asks", "id"]).terminal(24, 80);
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    terminal.send("\u{3}");
    assert_eq!(terminal.wait().code(), Some(130));
    assert!(start.elapsed() > Duration::from_secs(5), "a fail delay must not be cut short by a key");
    assert_eq!(lab.processes_left(), []);
}

#[test]
fn nobody_waits_for_ever_for_a_person_or_for_a_module() {
    let Some(lab) = machine("auth required pam_unix.so nodelay\n") else { return };
    need!("strace");
    // The kernel says at once that the time is over: poll(2) returns 0. The first call is the front end's.
    for (when, text) in [("4", "and no password was given in 5 minutes"), ("2", "PAM did not answer in 2 minutes")] {
        let inject = format!("inject=poll:retval=0:when={when}");
        let words = ["strace", "-u", "alice", "-qq", "-o", "/dev/null", "-e", "trace=poll", "-e", &inject];
        let command = ["caplet", "run", "-p", "asks", "id"];
        let mut terminal = lab.task("root", words.iter().chain(&command)).cwd("/").terminal(24, 80);
        terminal.expect(text);
        assert_eq!(terminal.wait().code(), Some(125));
    }
    assert_eq!(lab.processes_left(), []);
}

#[test]
fn killing_the_judge_of_a_password_spares_nobody_the_delay() {
    let Some(lab) = machine("auth required LAB slow\n") else { return };
    let start = |line: &str| {
        let mut terminal = asks(&lab, "alice", &["-p", "asks", "id"]).terminal(24, 80);
        terminal.expect(PROMPT);
        terminal.send(line);
        terminal
    };
    let mut first = start("guess\n");
    std::thread::sleep(Duration::from_millis(300));
    let pam = caplet_lab::ProcStatus::of(pam_process(&first)).expect("it runs").namespace_pids()[1];
    lab.sh("alice", &format!("kill -9 {pam}")).expect_ok();
    let begun = Instant::now();
    let mut second = start("guess\n");
    second.expect("that was not right"); // after the first one's delay, and its own three seconds
    assert!(begun.elapsed() > Duration::from_millis(4500), "{:?}", begun.elapsed());
    assert_eq!(first.wait().code(), Some(125));
    second.send("\u{3}");
    second.wait();
}

// GHSA-q428: while PAM thinks, no key is shown, and none is left for the shell
#[test]
fn what_is_typed_while_pam_thinks_is_shown_to_nobody() {
    let Some(lab) = machine("auth required LAB slow\n") else { return };
    let mut terminal = lab.task("alice", ["bash", "--norc", "-i"]).env("PS1", "outer> ").terminal(24, 80);
    terminal.expect("outer> ");
    terminal.send("caplet run -p asks id\n");
    for _ in 0..3 {
        terminal.expect(PROMPT);
        terminal.send("first-word\n");
        std::thread::sleep(Duration::from_millis(300));
        terminal.send("second-word\n");
    }
    terminal.expect("3 attempts failed");
    terminal.expect("outer> ");
    terminal.send("stty -a | tr -s ' ;' '\\n\\n' | grep -x echo; exit\n");
    terminal.expect("\r\necho\r\n");
    terminal.wait();
    let screen = terminal.screen();
    assert!(!screen.contains("word\r") && !screen.contains("second") && !screen.contains("not found"), "{screen}");
}

/// `cgroup.kill` and the kernel's memory killer reach also what the user cannot signal.
#[test]
fn killing_the_helper_spares_nobody_the_delay() {
    let Some(lab) = machine("auth required LAB slow\n") else { return };
    let begun = Instant::now();
    for _ in 0..3 {
        let mut terminal = asks(&lab, "alice", &["-p", "asks", "id"]).terminal(24, 80);
        terminal.expect(PROMPT);
        let attempt = format!("/run/caplet/auth/{}.attempt", lab.uid("alice"));
        let text = || if lab.exists(&attempt) { lab.read(&attempt) } else { String::new() };
        let before = text();
        terminal.send("guess\n");
        let limit = Instant::now() + Duration::from_secs(20);
        while text() == before || text().is_empty() {
            assert!(Instant::now() < limit, "the attempt is not noted");
            std::thread::sleep(Duration::from_millis(5));
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(terminal.pid()), Signal::SIGKILL).expect("it runs");
        terminal.wait();
    }
    assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(lab.processes_left(), []);
}

#[test]
fn a_user_has_a_few_questions_open_and_no_more() {
    let Some(lab) = machine("auth required pam_unix.so nodelay\n") else { return };
    let mut open: Vec<Terminal> = Vec::new();
    for _ in 0..16 {
        let mut terminal = asks(&lab, "alice", &["-p", "asks", "id"]).terminal(24, 80);
        terminal.expect(PROMPT);
        open.push(terminal);
    }
    let mut refused = asks(&lab, "alice", &["-p", "asks", "id"]).terminal(24, 80);
    refused.expect("you have 16 questions for a password open: answer or end one");
    assert_eq!(refused.wait().code(), Some(125));
    let reason = "you have 16 questions for a password open: answer or end one";
    lab.log().wait("refuse", &[("user", "alice"), ("reason", reason)]);
    let mut other = asks(&lab, "bob", &["-p", "asks", "id"]).terminal(24, 80);
    other.expect("password for bob");
    open.push(other);
    for terminal in &mut open {
        terminal.send("\u{3}");
        assert_eq!(terminal.wait().code(), Some(130));
    }
    assert_eq!(lab.processes_left(), []);
}

#[test]
fn nobody_who_does_not_read_or_does_not_end_holds_the_helper() {
    let Some(lab) = lab() else { return };
    lab.set_password("hugo", SECRET);
    // Standard error is a pipe that is full and never read.
    let full = "import os, subprocess, fcntl\nr, w = os.pipe()\nfcntl.fcntl(w, fcntl.F_SETFL, os.O_NONBLOCK)\n\
        try:\n while True: os.write(w, b'x' * 4096)\nexcept BlockingIOError: pass\nos.set_blocking(w, True)\n\
        p = subprocess.Popen(['caplet', 'run', '-S', '-p', 'asks', 'true'], stdin=subprocess.DEVNULL, stderr=w)\nprint(p.wait())";
    let start = Instant::now();
    let out = lab.task("hugo", ["/usr/bin/python3", "-I", "-c", full]).env("PATH", "/usr/bin").run().expect_ok();
    assert_eq!(out.out(), "125");
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    // A program that has answered and does not end.
    lab.write("/home/hugo/stays", "#!/bin/sh\ntrap '' TERM INT\necho 'correct horse'\nexec sleep 60\n", 0o755, "hugo");
    let start = Instant::now();
    let task = asks(lab, "hugo", &["-A", "-p", "asks", "true"]).env("CAPLET_ASKPASS", "/home/hugo/stays");
    assert_eq!(task.run().code(), 125);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // The kernel says that there is room, as it does of a terminal that takes half of a line, and then takes nothing.
    need!("strace");
    let traced = full.replace(
        "['caplet', 'run', '-S', '-p', 'asks', 'true']",
        "['strace', '-u', 'hugo', '-qq', '-o', '/dev/null', \
        '-e', 'trace=poll', '-e', 'inject=poll:retval=1', 'caplet', 'run', '-p', 'nobodys', 'true']",
    );
    let start = Instant::now();
    let task = lab.task("root", ["/usr/bin/python3", "-I", "-c", &traced]).cwd("/").env("PATH", "/usr/bin");
    assert_eq!(task.limit(60).run().expect_ok().out(), "-14", "SIGALRM");
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
}

#[test]
fn the_modes_that_come_back_are_those_of_who_was_in_the_foreground() {
    let Some(lab) = lab() else { return };
    lab.set_password("alice", SECRET);
    let mut terminal = lab.task("alice", ["bash", "--norc", "-i"]).env("PS1", "outer> ").terminal(24, 80);
    terminal.expect("outer> ");
    // In the background while another program has changed the modes; then alone.
    terminal.send("caplet run --quiet -p asks sh -c 'stty -a | grep -c \" -echo \"; echo ran-$((6*7))' & stty -echo -icanon; sleep 1; stty echo icanon\n");
    terminal.expect("outer> ");
    terminal.send("fg\n");
    terminal.expect(PROMPT);
    terminal.send("correct horse\n");
    terminal.expect("0\r\nran-42");
    terminal.send("exit\n");
    terminal.wait();
}

/// What root's own session hooks do is nobody's to limit.
#[test]
fn session_modules_run_under_the_helpers_limits_and_umask() {
    let Some(lab) = machine(
        "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_exec.so /usr/local/bin/hook\n",
    ) else {
        return;
    };
    lab.write(
        "/usr/local/bin/hook",
        "#!/bin/bash\n{ ulimit -Sf; ulimit -Ss; ulimit -Sn; } >>/root/hook-seen\n",
        0o755,
        "root",
    );
    let line = "umask 000; ulimit -Sf 0; ulimit -Ss 40; ulimit -Sn 20; exec caplet run --quiet -p session sh -c 'umask; ulimit -Sf; ulimit -Sn'";
    let out = lab.sh("alice", line).expect_ok();
    assert_eq!(out.out(), "0000\n0\n20");
    let seen = lab.read("/root/hook-seen");
    assert_eq!(seen.lines().count(), 6, "open and close: {seen}");
    assert!(!seen.lines().any(|l| ["0", "40", "20"].contains(&l)), "{seen}");
    let mode = lab.root("stat -c %a /root/hook-seen").out();
    assert_eq!(mode, "600");
}

#[test]
fn the_real_uid_is_never_root_for_pam() {
    let Some(lab) = machine("auth sufficient pam_rootok.so\nauth required pam_deny.so\n") else { return };
    let out = asks(&lab, "alice", &["-S", "-p", "asks", "id"]).stdin("x\n").run().expect_code(125);
    assert!(out.err().contains("you were not authenticated for profile \"asks\": Authentication failure"), "{out}");
}

#[test]
fn without_its_own_service_file_nobody_passes() {
    let Some(lab) = machine("") else { return };
    lab.write("/etc/pam.d/other", "auth required pam_permit.so\naccount required pam_permit.so\n", 0o644, "root");
    for spoil in
        ["rm /etc/pam.d/caplet", ":>/etc/pam.d/caplet; chmod 666 /etc/pam.d/caplet", "chown alice /etc/pam.d/caplet"]
    {
        lab.root(spoil);
        let out = asks(&lab, "alice", &["-p", "account", "id"]).run().expect_code(125);
        assert!(
            out.err()
                .contains("PAM cannot be asked, so nothing was run: /etc/pam.d/caplet is missing or not root's alone"),
            "{out}"
        );
    }
    asks(&lab, "alice", &["-p", "plain", "true"]).run().expect_ok();
}

const SESSION: &str = "auth required pam_permit.so\nauth required LAB\naccount required pam_permit.so\n\
    session required LAB surround\n";

#[test]
fn a_session_is_opened_surrounds_the_command_and_is_closed() {
    let Some(lab) = machine(SESSION) else { return };
    let line = "ulimit -Sn; ulimit -Hn; umask; nice; echo $LAB_SESSION $LANG $CAPLET_CAPS- $LD_PRELOAD";
    for (profile, limits) in [("session", "333\n444"), ("isosession", "200\n200")] {
        let out = asks(&lab, "alice", &["-p", profile, "bash", "-c", line]).run().expect_ok();
        assert_eq!(out.out(), format!("{limits}\n0027\n7\nyes C.UTF-8 - /tmp/evil.so"), "{profile}: {out}");
        // "surround" does not ask for a preload that works: the loader complains of it on stderr.
        assert_eq!(lab.read("/root/pam-notes"), "establish\nopen\nclose\ndelete\n");
        lab.root("rm /root/pam-notes");
    }
    let out = asks(&lab, "alice", &["-p", "bound", "env"]).run().expect_ok();
    assert!(out.out().contains("\nLANG=C.UTF-8") || out.out().starts_with("LANG=C.UTF-8"), "{out}");
    assert!(!out.out().contains("LD_PRELOAD") && !out.out().contains("LAB_SESSION"), "filtered as the caller's: {out}");
    assert!(out.out().contains("CAPLET_CAPS=\n") || out.out().ends_with("CAPLET_CAPS="), "{out}");
    assert_eq!(lab.processes_left(), []);
}

#[test]
fn a_session_that_cannot_be_opened_runs_nothing_and_has_its_end() {
    let Some(lab) = machine(&SESSION.replace("surround", "refuse")) else { return };
    for profile in ["session", "isosession"] {
        let out = asks(&lab, "alice", &["-p", profile, "echo", "ran"]).run().expect_code(125);
        assert!(
            out.err().contains(&format!("no PAM session can be opened for profile \"{profile}\": Permission denied")),
            "{out}"
        );
        assert!(out.out().is_empty(), "{out}");
        lab.log().wait("end", &[("profile", profile), ("status", "failed:125")]);
    }
    assert_eq!(lab.read("/root/pam-notes"), "establish\nopen\ndelete\n".repeat(2));
    assert_eq!(lab.processes_left(), []);
}

// R3
#[test]
fn a_session_is_closed_whoever_is_killed() {
    let Some(lab) = machine(SESSION) else { return };
    for victim in ["relay", "guard"] {
        let mut running = asks(&lab, "alice", &["-p", "isosession", "sh", "-c", "echo ready; sleep 60"]).spawn();
        running.wait_for("ready");
        let session = find_session(running.pid());
        caplet_lab::Session::signal(if victim == "relay" { session.relay } else { session.guard }, Signal::SIGKILL);
        running.wait();
        assert_eq!(lab.processes_left(), [], "{victim}");
        assert_eq!(lab.read("/root/pam-notes"), "establish\nopen\nclose\ndelete\n", "{victim}");
        lab.root("rm /root/pam-notes");
    }
}

/// The relay has two children here: the guard, and what holds the PAM session.
fn find_session(relay: i32) -> caplet_lab::Session {
    let children = |pid: i32| -> Vec<i32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let guard = *children(relay).iter().find(|pid| !children(**pid).is_empty()).expect("a guard");
    let init = children(guard)[0];
    caplet_lab::Session { relay, guard, init, command: init }
}

#[test]
fn a_module_that_hangs_at_the_close_holds_nobody_for_long() {
    let Some(lab) = machine(&SESSION.replace("surround", "hang-at-close")) else { return };
    let start = Instant::now();
    asks(&lab, "alice", &["-p", "session", "true"]).run().expect_ok();
    assert!(start.elapsed() > Duration::from_secs(9), "{:?}", start.elapsed());
    assert_eq!(lab.processes_left(), []);
}

#[test]
fn the_process_that_holds_a_session_is_out_of_the_users_reach() {
    let Some(lab) = machine(SESSION) else { return };
    let mut running = asks(&lab, "alice", &["-p", "session", "sh", "-c", "echo ready; read x"]).stdin_open().spawn();
    running.wait_for("ready");
    let holders: Vec<i32> =
        lab.sh("root", "pgrep -x caplet-helper").out().lines().map(|l| l.parse().expect("a pid")).collect();
    assert_eq!(holders.len(), 4, "relay, guard, watcher, and the holder");
    for pid in holders {
        let status = lab.inside(|| caplet_lab::ProcStatus::of(pid)).expect("it runs");
        let root = status.uids()[0] == 0;
        assert_eq!(lab.sh("alice", &format!("kill -0 {pid}")).ok(), !root, "{pid}");
        assert!(!lab.sh("alice", &format!("head -c1 /proc/{pid}/environ")).ok());
    }
    drop(running.stdin.take());
    running.wait();
    assert_eq!(lab.processes_left(), []);
}

#[test]
fn the_sessions_keyring_is_new_and_shows_the_users_own() {
    let Some(lab) = machine(SESSION) else { return };
    need!("keyctl");
    let out = asks(&lab, "alice", &["-p", "session", "keyctl", "show", "@s"]).run().expect_ok();
    assert!(out.out().contains("_uid."), "{out}");
}

#[test]
fn pam_is_loaded_where_a_profile_wants_it_and_never_after_the_first_mount_of_a_session() {
    let Some(lab) =
        machine("auth required pam_unix.so nodelay\naccount required pam_unix.so\nsession required pam_limits.so\n")
    else {
        return;
    };
    need!("strace");
    let trace = |profile: &str| {
        let words = [
            "strace",
            "-f",
            "-u",
            "alice",
            "-qq",
            "-o",
            "/root/trace",
            "-e",
            "trace=open,openat,openat2,unshare,clone3,setns",
        ];
        lab.task("root", words.iter().chain(&["caplet", "run", "-p", profile, "/bin/true"])).cwd("/").run().expect_ok();
        lab.read("/root/trace")
    };
    let plain = trace("plain");
    assert!(!plain.contains("libpam") && !plain.contains("pam.d"), "{plain}");
    for profile in ["session", "isosession"] {
        let text = trace(profile);
        assert!(text.contains("libpam.so.0"), "{text}");
        let mut entered = std::collections::BTreeSet::new();
        for line in text.lines() {
            let (pid, call) = line.split_once(' ').expect("pid and call");
            let call = call.trim_start();
            if call.starts_with("execve") || call.contains("resumed") {
                continue;
            }
            if call.starts_with("unshare(CLONE_NEWNS") || call.starts_with("setns(") {
                entered.insert(pid.to_owned());
            }
            let loads = [
                "nsswitch",
                "libnss",
                "libpam",
                "security/",
                "pam.d",
                "/etc/passwd",
                "/etc/group",
                "locale",
                "zoneinfo",
                "localtime",
            ];
            let own = !call.contains("/bin/true") && loads.iter().any(|word| call.contains(word));
            assert!(!(own && entered.contains(pid)), "{profile}: {line}\n{text}");
        }
        assert!(!entered.is_empty(), "{text}");
    }
}
