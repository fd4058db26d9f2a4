//! What a person reads when the command line is not one: exact text, exact code, nothing raw, no panic.

mod tree;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use tree::{Tree, said};

#[test]
fn mistakes_in_run_and_shell_end_with_125() {
    let tree = Tree::recording();
    for (words, text) in [
        (&["run", "--cap-ad", "X", "id"][..], "run has no option \"--cap-ad\"; did you mean: --cap-add"),
        (&["run", "-x", "id"], "run has no option \"-x\"; see: caplet run --help"),
        (&["run", "-nx", "id"], "run has no option \"-x\"; see: caplet run --help"),
        (&["shell", "--login"], "shell has no option \"--login\"; see: caplet shell --help"),
        (&["run", "--cap-add"], "--cap-add needs a capability, as in: --cap-add NET_ADMIN"),
        (&["run", "--cap-drop"], "--cap-drop needs a capability, as in: --cap-drop NET_ADMIN"),
        (&["run", "--cap-add", "-n"], "--cap-add needs a capability, as in: --cap-add NET_ADMIN"),
        (&["run", "-p"], "--profile needs a name, as in: -p netlab; yours are in: caplet list"),
        (&["run", "--policy=", "id"], "--policy needs a value"),
        (&["run", "--quiet=yes"], "--quiet takes no value; write: --quiet"),
        (&["run", "-p", "a", "-p", "b", "id"], "--profile is given twice; one session has one"),
        (&["run", "-S", "-A", "id"], "-S and -A exclude each other: the password comes from one place"),
        (&["run", "--cap-add", "NET_ADMN"], "--cap-add NET_ADMN: no such capability; did you mean NET_ADMIN?"),
        (&["run", "--cap-drop", "CAP_ALL"], "--cap-drop CAP_ALL: no such capability; did you mean ALL?"),
        (&["run", "--cap-add", "all,zzzzzz"], "--cap-add zzzzzz: no such capability; the names: caplet caps"),
        (&["run", "--cap-add=", "id"], "--cap-add has an empty name; write: --cap-add NET_ADMIN,NET_RAW"),
        (&["run", "--cap-add", "ALL,", "id"], "--cap-add has an empty name; write: --cap-add NET_ADMIN,NET_RAW"),
        (
            &["run", "--cap-add", "chown", "--cap-drop", "CHOWN", "id"],
            "CHOWN is in both --cap-add and --cap-drop: leave one of the two out",
        ),
        (
            &["run", "--cap-add", "all", "--cap-drop", "ALL", "id"],
            "ALL is in both --cap-add and --cap-drop: nobody can mean it; leave one out",
        ),
        (
            &["run", "-p", "a b", "id"],
            "no profile can be called \"a b\" (letters, digits, _ and -); yours are in: caplet list",
        ),
        (
            &["run", "-p", "", "id"],
            "no profile can be called \"\" (letters, digits, _ and -); yours are in: caplet list",
        ),
        (&["shell", "-p", "lab", "ip", "route"], "shell takes no command; did you mean: caplet run -p lab ip route"),
        (&["run", "--\x1b[2J"], "run has no option \"--\\x1b[2J\"; see: caplet run --help"),
        (
            &["run", "-p", "\u{202e}x"],
            "no profile can be called \"\\u{202e}x\" (letters, digits, _ and -); yours are in: caplet list",
        ),
        (&["run", "--cap-add", "\x1b[2J"], "--cap-add $'\\x1b[2J': no such capability; the names: caplet caps"),
    ] {
        tree.refuses(words, 125, &format!("caplet: {text}"));
    }
}

#[test]
fn other_mistakes_end_with_2() {
    let tree = Tree::recording();
    for (words, text) in [
        (&["date"][..], "no subcommand \"date\"; did you mean: caplet run date"),
        (&["date", "-s", "12:00 x"], "no subcommand \"date\"; did you mean: caplet run date -s '12:00 x'"),
        (&["rnu", "ip"], "no subcommand \"rnu\"; did you mean: caplet run ip"),
        (&["ls"], "no subcommand \"ls\"; did you mean: caplet run ls"),
        (&["lst"], "no subcommand \"lst\"; did you mean: caplet list"),
        (&[""], "no subcommand \"\"; did you mean: caplet run ''"),
        (&["\x1b[2J"], "no subcommand \"\\x1b[2J\"; did you mean: caplet run $'\\x1b[2J'"),
        (&["-p", "lab", "ip"], "no option \"-p\" before the subcommand; did you mean: caplet run -p lab ip"),
        (&["-p", "lab", "run", "ip"], "no option \"-p\" before the subcommand; did you mean: caplet run -p lab ip"),
        (&["help", "date"], "no subcommand \"date\"; did you mean: caplet run date"),
        (&["list", "--jsn"], "list has no option \"--jsn\"; did you mean: --json"),
        (&["list", "netlab"], "list does not take \"netlab\"; see: caplet list --help"),
        (&["list", "--policy", ""], "--policy needs a value"),
        (&["check", "a", "b"], "check does not take \"b\"; see: caplet check --help"),
        (&["forget", "alice"], "forget does not take \"alice\"; see: caplet forget --help"),
        (&["log", "alice"], "log does not take \"alice\"; see: caplet log --help"),
        (&["log", "--since"], "--since needs a time, as in: --since 2h"),
        (&["log", "--user", ""], "--user needs a user, as in: --user alice"),
        (&["log", "--file="], "--file needs a file, as in: --file /var/log/auth.log.1"),
        (&["log", "--user", "a", "--user", "b"], "--user is given twice; leave one of the two out"),
        (&["log", "--user", "#x"], "--user '#x': no such uid; write a login name, or #1004"),
        (
            &["log", "--since", "\x1b[2J"],
            "--since $'\\x1b[2J': no such time; write 2027-02-15, 2027-02-15T18:00, 18:00 (today), or an age: 90s, \
             30min, 2h, 3d",
        ),
        (&["check", "--all"], "check has no option \"--all\"; see: caplet check --help"),
    ] {
        tree.refuses(words, 2, &format!("caplet: {text}"));
    }
}

#[test]
fn bytes_that_are_no_text_are_shown_as_such() {
    let tree = Tree::recording();
    for (words, code, text) in [
        (&[&b"\xff"[..]][..], 2, r#"no subcommand "\xff"; did you mean: caplet run $'\xff'"#),
        (&[b"run", b"--cap-add", b"\xff"], 125, r"--cap-add $'\xff': no such capability; the names: caplet caps"),
        (
            &[b"run", b"-p\xff"],
            125,
            r#"no profile can be called "\xff" (letters, digits, _ and -); yours are in: caplet list"#,
        ),
    ] {
        let words: Vec<&OsStr> = words.iter().map(|w| OsStr::from_bytes(w)).collect();
        let said = tree.run(&words);
        assert_eq!((said.code, said.stderr), (Some(code), format!("caplet: {text}\n")), "{words:?}");
    }
}

#[test]
fn helps_go_to_stdout_and_fit_80_columns() {
    let tree = Tree::recording();
    for words in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["help", "run"],
        &["run", "--help"],
        &["run", "-h"],
        &["shell", "--help"],
        &["list", "--help"],
        &["check", "--help"],
        &["forget", "--help"],
        &["log", "--help"],
    ] {
        let said = tree.run(words);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{words:?}");
        assert!(
            said.stdout.contains("Usage: caplet") && said.stdout.contains("Examples:"),
            "{words:?}: {}",
            said.stdout
        );
        assert!(!said.stdout.contains("\n  fits\n"), "an example is wrapped: {}", said.stdout);
        for line in said.stdout.lines() {
            assert!(line.chars().count() <= 80, "{words:?}: {line}");
        }
        // What is hidden or not built yet is not taught.
        for word in ["\n  -i", "\n  -t", "caplet why", "caplet learn", "caplet edit", "caplet doctor"] {
            assert!(!said.stdout.contains(word), "{words:?} shows {word:?}");
        }
    }
    let version = tree.run(&["--version"]);
    let lines: Vec<&str> = version.stdout.lines().collect();
    let [first, features, helper] = lines[..] else { panic!("{version:?}") };
    assert_eq!(version.code, Some(0));
    assert!(first.starts_with(&format!("caplet {} (commit ", env!("CARGO_PKG_VERSION"))), "{first}");
    assert!(features.starts_with("features: ") && helper.starts_with("helper: /"), "{features} {helper}");
}

#[test]
fn no_word_at_all_shows_the_help_and_is_no_success() {
    let tree = Tree::recording();
    let said = tree.run::<&str>(&[]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""));
    assert!(said.stderr.starts_with("Run commands with the Linux capabilities"), "{}", said.stderr);
}

#[test]
fn streams_that_are_closed_or_full_cause_no_panic() {
    let tree = Tree::recording();
    for (line, code) in [
        ("./caplet --help >&-", 0), // Rust's runtime opens /dev/null there
        ("./caplet --help >/dev/full 2>&-", 1),
        ("./caplet list --help >/dev/full", 1),
        ("./caplet run --help >/dev/full", 125),
        ("./caplet run --bad 2>&-", 125),
        ("./caplet run --bad 2>/dev/full", 125),
        ("./caplet date 2>/dev/full >&- <&-", 2),
        ("./caplet 2>/dev/full", 2),
        ("./caplet run id >&- 2>&- <&-", 7),
    ] {
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(&tree.folder)
            .env_remove("CAPLET_PROFILE")
            .output()
            .expect("sh runs");
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{line}: {output:?}");
    }
    let full = Command::new("sh").args(["-c", "./caplet --help >/dev/full"]).current_dir(&tree.folder).output();
    let full = said(full.expect("sh runs"));
    assert_eq!(full.stderr, "caplet: cannot write the output: No space left on device\n");
}
