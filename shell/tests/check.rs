//! `caplet check` on files and folders elsewhere than /etc/caplet, where owners and modes are only remarked on.

mod tree;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tree::{Said, Tree};

const CLOCK: &str =
    "[profile.clock]\nusers = [\"bob\"]\nscope = \"host\"\ncaps = [\"SYS_TIME\"]\ncommands = [\"/usr/bin/date\"]\n";

/// Without remarks on owners: who runs the tests owns the files.
fn check(tree: &Tree, path: &str) -> Said {
    let mut said = tree.run(&["check", path]);
    let kept = said.stderr.lines().filter(|line| !line.contains(" has owner "));
    said.stderr = kept.map(|line| format!("{line}\n")).collect();
    assert_eq!(said.stdout, "");
    said
}

#[track_caller]
fn says(tree: &Tree, path: &str, code: i32, text: &str) {
    let said = check(tree, path);
    assert_eq!((said.code, said.stderr.as_str()), (Some(code), text));
}

#[test]
fn a_policy_without_fault_is_counted() {
    let tree = Tree::bare();
    for (text, verdict) in [
        ("", "no profile, no fault: this policy grants nobody anything"),
        (CLOCK, "1 profile, no fault"),
        ("[profile.a]\nusers = [\"a\"]\n[profile.b]\nusers = [\"b\"]\n", "2 profiles, no fault"),
    ] {
        tree.write("p.toml", text);
        says(&tree, "p.toml", 0, &format!("caplet: {verdict}\n"));
    }
}

#[test]
fn every_fault_is_shown_at_once() {
    let tree = Tree::bare();
    tree.write("p.toml", "[profile.a]\ncapz = [\"NET_ADMIN\"]\nusers = [\"x\"]\nmay_add = [\"NET_ADMN\"]\n");
    let expect = r#"p.toml:2:1: unknown key "capz"
capz = ["NET_ADMIN"]
^~~~
help: did you mean "caps"?
p.toml:4:12: unknown capability "NET_ADMN"
may_add = ["NET_ADMN"]
           ^~~~~~~~~~
help: did you mean "NET_ADMIN"?
caplet: 2 faults: as it is, this policy grants nobody anything
"#;
    says(&tree, "p.toml", 1, expect);
}

#[test]
fn a_folder_is_read_with_its_drop_ins_in_order() {
    let tree = Tree::bare();
    fs::create_dir_all(tree.folder.join("etc/policy.d")).expect("folders of our own");
    tree.write("etc/policy.toml", CLOCK);
    tree.write("etc/policy.d/10-a.toml", "[profile.a]\nusers = [\"a\"]\n");
    tree.write("etc/policy.d/.20-hidden.toml", "nonsense");
    tree.write("etc/policy.d/30.toml.bak", "nonsense");
    says(&tree, "etc", 0, "caplet: 2 profiles, no fault\n");
    tree.write("etc/policy.d/9-b.toml", "[profile.a]\nusers = [\"a\"]\n");
    let said = check(&tree, "etc");
    assert_eq!(said.code, Some(1));
    // `1` comes before `9`: the second one is the duplicate.
    assert!(said.stderr.starts_with("etc/policy.d/9-b.toml:1:"), "{}", said.stderr);
    fs::remove_file(tree.folder.join("etc/policy.toml")).expect("a file of our own");
    let said = check(&tree, "etc");
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("cannot read etc/policy.toml: No such file or directory\n"), "{}", said.stderr);
}

#[test]
fn what_cannot_be_read_is_a_fault() {
    let tree = Tree::bare();
    fs::write(tree.folder.join("bytes.toml"), b"# a\n# \xff\n").expect("a file of our own");
    let end = "caplet: 1 fault: as it is, this policy grants nobody anything\n";
    for (path, text) in [
        ("none.toml", "cannot read none.toml: No such file or directory"),
        ("/dev/null", "/dev/null is not a regular file"),
        ("bytes.toml", "bytes.toml:2: not UTF-8; save it as UTF-8"),
        ("\x1b[2J", r"cannot read \x1b[2J: No such file or directory"),
    ] {
        says(&tree, path, 1, &format!("caplet: {text}\n{end}"));
    }
}

#[test]
fn modes_are_remarked_on_elsewhere() {
    let tree = Tree::bare();
    let path = tree.write("p.toml", "");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("chmod");
    let said = tree.run(&["check", "p.toml"]);
    assert_eq!(said.code, Some(0));
    let (first, _) = said.stderr.split_once('\n').expect("a line");
    assert!(first.starts_with("caplet: warning: p.toml has owner "), "{first}");
    assert!(first.ends_with(" and mode 0666; installed it must be root's and writable by nobody else"), "{first}");
}

#[test]
fn grants_that_give_more_than_they_seem_to_are_warned_of() {
    let tree = Tree::bare();
    for (text, warnings) in [
        (
            "users = [\"*\"]\nuser = \"root\"\nlogin = true",
            &[
                "everybody, also system accounts, logs in here; name a group, or take accounts out with not_users",
                "login as uid 0: tar and rsync restore owners, ssh looks in root's places; user = \"self\" has none of it",
            ][..],
        ),
        (
            "users = [\"bob\"]\nscope = \"host\"\nmay_add = [\"SYS_PTRACE\"]\naccept_root_equivalent = true\n\
             commands = [\"/usr/bin/tool\"]",
            &[
                "SYS_PTRACE is as good as root: inject code into a root daemon",
                "whatever /usr/bin/tool starts inherits the capabilities",
            ],
        ),
        (
            "users = [\"bob\"]\nscope = \"host\"\nmay_add = [\"ALL\"]\naccept_root_equivalent = true",
            &["every capability of the machine: this is root"],
        ),
        (
            "users = [\"bob\"]\nscope = \"host\"\ncaps = [\"SYS_TIME\"]\ncommands = [\"/usr/bin/date\", \"/usr/bin/vim\"]",
            &["whatever /usr/bin/vim starts inherits the capabilities"],
        ),
        (
            "users = [\"*\"]\nmay_add = [\"ALL\"]",
            &["everybody, also system accounts, is let in here; name a group, or take accounts out with not_users"],
        ),
        ("users = [\"bob\"]\nmay_add = [\"ALL\"]", &[]),
    ] {
        tree.write("p.toml", &format!("# first\n[profile.x]\n{text}\n"));
        let lines = warnings.iter().map(|w| format!("caplet: warning: p.toml:2: profile \"x\": {w}\n"));
        says(&tree, "p.toml", 0, &(lines.collect::<String>() + "caplet: 1 profile, no fault\n"));
    }
}
