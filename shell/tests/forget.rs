//! `caplet forget`, with a helper that answers what it is told to.

mod tree;

use tree::{Said, Tree};

#[test]
fn the_helper_is_asked_and_nothing_is_said() {
    let tree = Tree::with_helper("cat /proc/$$/cmdline > words; echo noise");
    let said = tree.run(&["forget"]);
    assert_eq!(said, Said { code: Some(0), stdout: String::new(), stderr: String::new() });
    assert_eq!(tree.recorded().expect("asked"), [&b"forget"[..]]);
}

#[test]
fn a_helper_that_fails_has_the_word() {
    let tree = Tree::with_helper("echo 'caplet: no record is kept' >&2; exit 125");
    tree.refuses(&["forget"], 1, "caplet: no record is kept");
    let tree = Tree::with_helper("kill -9 $$");
    tree.refuses(&["forget"], 1, "caplet: nothing is forgotten: the helper was ended by signal 9; try again");
}

#[test]
fn inside_a_session_there_is_nothing_to_forget() {
    let tree = Tree::recording();
    let output = tree.caplet().arg("forget").env("CAPLET_PROFILE", "netlab").output().expect("caplet starts");
    let said = tree::said(output);
    let text = "caplet: inside a session (profile \"netlab\") there is no password to forget; leave it first: exit\n";
    assert_eq!((said.code, said.stderr.as_str()), (Some(1), text));
    assert_eq!(tree.recorded(), None);
}
