//! From the typed command line to the helper's words: nothing lost, nothing added, nothing of ours in between.

mod tree;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use tree::{Tree, said, shown};

#[test]
fn options_end_at_the_first_word_of_the_command() {
    let tree = Tree::recording();
    for (typed, wire) in [
        (&["run", "-p", "x", "ip", "-n", "route"][..], &["run", "--profile=x", "--", "ip", "-n", "route"][..]),
        (&["run", "-n", "ip", "-n"], &["run", "--non-interactive", "--", "ip", "-n"]),
        (&["run", "ip", "--", "-x"], &["run", "--", "ip", "--", "-x"]),
        (&["run", "--", "-x", "--help"], &["run", "--", "-x", "--help"]),
        (&["run", "--", "--", "x"], &["run", "--", "--", "x"]),
        (&["run", "date", "--help"], &["run", "--", "date", "--help"]),
        (&["run", "date", "--cap-add"], &["run", "--", "date", "--cap-add"]),
        (&["run", "-", "-n"], &["run", "--", "-", "-n"]),
        (&["run", "", "-n"], &["run", "--", "", "-n"]),
        (&["run", "--"], &["run"]),
        (&["run"], &["run"]),
        (&["shell"], &["run"]),
        (&["run", "run", "shell"], &["run", "--", "run", "shell"]),
    ] {
        assert_eq!(tree.wire(typed), wire, "{typed:?}");
    }
}

#[test]
fn every_option_reaches_the_helper() {
    let tree = Tree::recording();
    let session = "--cap-add net_raw --cap-add=CAP_SYS_PTRACE,chown --cap-drop mknod -pnetlab --privileged -n -S --quiet \
                   --policy p.toml";
    let expect = [
        "--profile=netlab",
        "--add=CHOWN,NET_RAW,SYS_PTRACE",
        "--drop=MKNOD",
        "--privileged",
        "--non-interactive",
        "--stdin",
        "--quiet",
        "--policy=p.toml",
    ];
    for subcommand in ["run", "shell"] {
        let typed: Vec<&str> = [subcommand].into_iter().chain(session.split_whitespace()).collect();
        let wire = tree.wire(&typed);
        assert_eq!(wire[0], "run");
        assert_eq!(wire[1..], expect);
    }
    assert_eq!(tree.wire(&["run", "-A", "id"]), ["run", "--askpass", "--", "id"]);
    assert_eq!(tree.wire(&["run", "--dry-run", "id"]), ["judge", "--", "id"]);
    assert_eq!(tree.wire(&["shell", "--dry-run"]), ["judge"]);
    assert_eq!(tree.wire(&["run", "--profile=lab_2", "id"]), ["run", "--profile=lab_2", "--", "id"]);
    assert_eq!(tree.wire(&["run", "--cap-add", " all ", "id"]), ["run", "--add=ALL", "--", "id"]);
}

#[test]
fn dockers_habits_are_taken_and_do_nothing() {
    let tree = Tree::recording();
    for habit in ["-i", "-t", "-it", "-ti"] {
        assert_eq!(tree.wire(&["run", habit, "id"]), ["run", "--", "id"]);
    }
    assert_eq!(tree.wire(&["run", "-itn", "-n", "id"]), ["run", "--non-interactive", "--", "id"]);
}

#[test]
fn every_byte_of_the_command_arrives() {
    let tree = Tree::recording();
    let all_bytes: Vec<u8> = (1..=255).collect();
    // The kernel's MAX_ARG_STRLEN, 128 KiB, counts the NUL.
    let longest = vec![b'x'; 128 * 1024 - 1];
    let words: [&[u8]; 8] = [b"printf", b"", b"\xff\xfe", &all_bytes, &longest, b"$(id) `id` ;", b"a\nb", b""];
    let mut typed: Vec<OsString> = vec!["run".into(), "-p".into(), "x".into()];
    typed.extend(words.iter().map(|w| OsString::from_vec(w.to_vec())));
    assert_eq!(tree.run(&typed).code, Some(7));
    let recorded = tree.recorded().expect("the helper was started");
    assert_eq!(recorded[..3], [&b"run"[..], b"--profile=x", b"--"]);
    assert!(recorded[3..] == words, "some byte changed");
}

#[test]
fn the_policy_file_may_have_any_name() {
    let tree = Tree::recording();
    let name = OsStr::from_bytes(b"p=\xff.toml");
    assert_eq!(tree.run(&[OsStr::new("run"), OsStr::new("--policy"), name]).code, Some(7));
    assert_eq!(tree.recorded().expect("started")[1], b"--policy=p=\xff.toml");
}

#[test]
fn the_helper_is_started_by_its_own_name() {
    // bash in the helper's place reads the script that the verb names.
    let tree = Tree::bare();
    symlink("/bin/bash", tree.folder.join("caplet-helper")).expect("a link of our own");
    tree.write("run", "cat /proc/$$/cmdline");
    let said = tree.run(&["run", "id"]);
    assert_eq!(said.stdout, "caplet-helper\0run\0--\0id\0");
}

#[test]
fn the_environment_is_not_touched_and_sigpipe_has_its_default() {
    let tree = Tree::recording();
    let mut caplet = tree.caplet();
    caplet.args(["run", "id"]).env_clear().env("LD_NOTHING", OsStr::from_bytes(b"\xff")).env("A", "");
    assert_eq!(said(caplet.output().expect("caplet starts")).code, Some(7));
    let environ = fs::read(tree.folder.join("environ")).expect("recorded");
    assert_eq!(environ, b"A=\0LD_NOTHING=\xff\0");
    let status = fs::read_to_string(tree.folder.join("status")).expect("recorded");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask").trim();
    let ignored = u64::from_str_radix(ignored, 16).expect("hexadecimal");
    assert_eq!(ignored & (1 << 12), 0, "SIGPIPE (13) is ignored");
}

#[test]
fn the_helpers_exit_code_is_ours() {
    for code in [0, 1, 125, 126, 127, 130] {
        assert_eq!(Tree::with_helper(&format!("exit {code}")).run(&["run", "id"]).code, Some(code));
    }
}

#[test]
fn a_link_to_the_build_tree_finds_its_helper() {
    let tree = Tree::recording();
    let elsewhere = Tree::bare();
    let link = elsewhere.folder.join("c");
    symlink(tree.folder.join("caplet"), &link).expect("a link of our own");
    let mut linked = std::process::Command::new(link);
    linked.args(["run", "id"]).env_remove("CAPLET_PROFILE");
    assert_eq!(said(linked.output().expect("caplet starts")).code, Some(7));
}

#[test]
fn a_helper_that_cannot_be_started_is_named() {
    let tree = Tree::bare();
    let helper = tree.write("caplet-helper", "");
    tree.refuses(
        &["run", "id"],
        125,
        &format!(
            "caplet: no session: {} may not be executed; it must be root's, mode 4755, on a file system without noexec",
            shown(&helper)
        ),
    );
    fs::remove_file(&helper).expect("a file of our own");
    let installed = std::path::Path::new("/usr/libexec/caplet/caplet-helper");
    if installed.exists() {
        println!("skipped: {} is installed on this machine", installed.display());
        return;
    }
    let missing = "caplet: no session: /usr/libexec/caplet/caplet-helper is missing; install caplet again";
    tree.refuses(&["run", "id"], 125, missing);
    tree.refuses(&["list"], 1, missing);
}

#[test]
fn a_session_is_fixed() {
    let tree = Tree::recording();
    let inside = |words: &[&str]| {
        let mut caplet = tree.caplet();
        caplet.args(words).env("CAPLET_PROFILE", "basic");
        let said = said(caplet.output().expect("caplet starts"));
        assert_eq!(tree.recorded(), None, "the helper was started");
        (said.code, said.stderr)
    };
    let fixed = "caplet: this session is fixed; start";
    for (words, code, rest) in [
        (
            &["run", "-p", "netlab", "--cap-add", "net_admin", "ip", "route"][..],
            125,
            "one that has it: caplet shell -p netlab --cap-add NET_ADMIN",
        ),
        (
            &["shell", "--cap-add", "ALL", "--cap-drop", "mknod"],
            125,
            "one that has it: caplet shell --cap-add ALL --cap-drop MKNOD",
        ),
        (&["shell", "--privileged"], 125, "one that has it: caplet shell --privileged"),
        (&["run", "--dry-run", "id"], 125, "one outside of it: caplet shell"),
    ] {
        assert_eq!(inside(words), (Some(code), format!("{fixed} {rest}\n")), "{words:?}");
    }
    let list = "caplet: this session is fixed (profile \"basic\"); to see what else is yours, leave it: exit\n";
    assert_eq!(inside(&["list"]), (Some(1), list.to_owned()));
}
