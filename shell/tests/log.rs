//! `caplet log` on a file whose lines nobody has sealed: what a user can write with logger(1). Who is not root reads
//! nothing; the rest is skipped for them.

mod tree;

use nix::unistd::geteuid;
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::process::Command;
use tree::{Said, Tree, said};

/// Of which only the second and the last are caplet's by their ident.
const LINES: &[u8] = b"\xff\xfe\n\
    2026-11-25T02:12:33.123456+00:00 host caplet[7]: grant id=7f user=root uid=0 seal=0123456789abcdef\n\
    Nov 25 02:12:33 host sshd[1]: caplet[7]: no\n\
    2026-11-25T02:12:34+00:00 h\xffst caplet: \x1b[2J\xff\xc2\x9b2J\n";

fn tree() -> Tree {
    let tree = Tree::with_helper("cat /proc/$$/cmdline > words; echo noise; echo noise >&2; exit 1");
    std::fs::write(tree.folder.join("auth.log"), LINES).expect("a file of our own");
    tree
}

/// In UTC. What is said of the key, which the machine may have or not, is left out.
fn log(tree: &Tree, words: &[&str]) -> Said {
    let output = tree.caplet().arg("log").args(words).env("TZ", "UTC").output();
    let mut said = said(output.expect("caplet starts"));
    let kept = said.stderr.lines().filter(|line| !line.starts_with("caplet: no line of a file can be believed"));
    said.stderr = kept.map(|line| format!("{line}\n")).collect();
    said
}

#[test]
fn who_is_not_root_is_sent_to_sudo() {
    let tree = tree();
    let mut command = tree.caplet();
    if geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let said = said(command.args(["log", "--file", "auth.log"]).output().expect("caplet starts"));
    let stderr = "caplet: the log is root's to read: sudo caplet log\n".to_owned();
    assert_eq!(said, Said { code: Some(1), stdout: String::new(), stderr });
    assert_eq!(tree.recorded(), None);
}

#[test]
fn what_nobody_sealed_is_foreign_and_harmless() {
    if !geteuid().is_root() {
        return;
    }
    let tree = tree();
    let said = log(&tree, &["--file", "auth.log"]);
    let expect = "2026-11-25 02:12:33  foreign  -  grant id=7f user=root uid=0 seal=0123456789abcdef\n\
                  2026-11-25 02:12:34  foreign  -  \\x1b[2J\\xff\\u{9b}2J\n";
    assert_eq!(said, Said { code: Some(0), stdout: expect.to_owned(), stderr: String::new() });
    // Before, the helper was asked to end what was killed; that it failed is no matter.
    assert_eq!(tree.recorded().expect("asked"), [&b"sweep"[..]]);
    let said = log(&tree, &["--json", "--since", "2026-11-25T02:12:34Z", "--file=auth.log"]);
    let json: Value = serde_json::from_str(&said.stdout).expect("one object");
    let text = "\u{1b}[2J\u{fffd}\u{9b}2J";
    assert_eq!(
        json,
        serde_json::json!({"time": "2026-11-25T02:12:34+00:00", "event": "foreign", "uid": null, "text": text})
    );
}

#[test]
fn no_record_is_no_failure() {
    if !geteuid().is_root() {
        return;
    }
    let tree = tree();
    let said = log(&tree, &["--file", "auth.log", "--user", "root"]);
    let text = "caplet: no such record in auth.log; for all of them leave --user and --since out\n";
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "", text));
    tree.write("empty", "");
    assert_eq!(log(&tree, &["--file", "empty"]).stderr, "caplet: no record in empty\n");
}

#[test]
fn a_file_that_cannot_be_read_is_a_failure() {
    if !geteuid().is_root() {
        return;
    }
    let tree = tree();
    for (path, why) in [("none", "No such file or directory"), (".", "Is a directory")] {
        let said = log(&tree, &["--file", path]);
        let text = format!("caplet: cannot read {path}: {why}; name another file: caplet log --file FILE\n");
        assert_eq!((said.code, said.stderr), (Some(1), text));
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is_one() {
    if !geteuid().is_root() {
        return;
    }
    let tree = tree();
    std::fs::write(tree.folder.join("big"), LINES.repeat(5000)).expect("a file of our own");
    let line = "{ ./caplet log --file big 2>err; echo $? >code; } | head -n 1; cat code; grep -v believed err; \
                ./caplet log --file big >/dev/full 2>err; echo $?; grep -v believed err";
    let output = Command::new("sh").args(["-c", line]).current_dir(&tree.folder).env_remove("CAPLET_PROFILE").output();
    let said = said(output.expect("sh runs"));
    let (first, rest) = said.stdout.split_once('\n').expect("a line");
    assert!(first.contains("foreign"), "{first}");
    assert_eq!(rest, "0\n1\ncaplet: cannot write the output: No space left on device\n");
}
