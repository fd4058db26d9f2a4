//! `caplet sessions` and `caplet end`, with a helper that answers what it is told to.

mod tree;

use tree::{Said, Tree};

/// A helper that knows two sessions and records what it is asked to end.
const HELPER: &str = r#"
case $1 in
sessions)
    echo 'grant id=7f3a90c1d2e4 user=alice uid=1001 profile=lab scope=isolated caps=NET_ADMIN tty=/dev/pts/3 command="ip route" guard=2147483646 main=2147483647 up=1.000'
    echo 'grant id=7f3b00000000 user=alice uid=1001 profile=lab scope=isolated caps= tty= command='
    ;;
end) cat /proc/$$/cmdline > words ;;
esac
"#;

#[test]
fn sessions_are_listed() {
    let tree = Tree::with_helper(HELPER);
    let said = tree.run(&["sessions"]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(lines[0].starts_with("ID            USER   PROFILE  SCOPE     SINCE"), "{}", said.stdout);
    assert!(lines[1].starts_with("7f3a90c1d2e4  alice  lab      isolated  "), "{}", said.stdout);
    assert!(lines[1].ends_with("pts/3     0          0.0 MiB  NET_ADMIN  ip route"), "{}", said.stdout);
    assert!(lines[2].ends_with("none       (shell)"), "{}", said.stdout);
    let said = tree.run(&["sessions", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(value[0]["command"], serde_json::json!(["ip", "route"]));
    assert_eq!(value[1]["caps"], serde_json::json!([]));
}

#[test]
fn none_is_no_failure() {
    let tree = Tree::with_helper("true");
    assert_eq!(tree.run(&["sessions"]), Said { code: Some(0), stdout: String::new(), stderr: String::new() });
    assert_eq!(tree.run(&["sessions", "--json"]).stdout, "[]\n");
}

#[test]
fn the_start_of_an_id_is_enough_where_it_is_the_only_one() {
    let tree = Tree::with_helper(HELPER);
    let said = tree.run(&["end", "7f3a"]);
    assert_eq!(said, Said { code: Some(0), stdout: String::new(), stderr: String::new() });
    assert_eq!(tree.recorded().expect("asked"), [&b"end"[..], b"--id=7f3a90c1d2e4"]);
    let tree = Tree::with_helper(HELPER);
    for (id, text) in [
        ("7f3", "the ids of several running sessions start with 7f3; name more of it: caplet sessions"),
        ("0", "no running session of yours has an id that starts with 0; see: caplet sessions"),
        ("x\u{1b}", "$'x\\x1b' is no session's id (0-9, a-f); see: caplet sessions"),
        ("", "'' is no session's id (0-9, a-f); see: caplet sessions"),
    ] {
        tree.refuses(&["end", id], 1, &format!("caplet: {text}"));
    }
    let text = "caplet: end needs the id of a session, as in: caplet end 7f3a; see: caplet sessions";
    tree.refuses(&["end"], 2, text);
}

#[test]
fn a_helper_that_fails_has_the_word() {
    let tree = Tree::with_helper("echo 'caplet: no running session' >&2; exit 125");
    tree.refuses(&["end", "7f3a90c1d2e4"], 1, "caplet: no running session");
    tree.refuses(&["sessions"], 1, "caplet: no running session");
    let tree = Tree::with_helper("echo nonsense; echo 'grant id=7f3a90c1d2e4 user=alice profile=p scope=host caps='");
    let said = tree.run(&["sessions"]);
    let text =
        "caplet: 1 session with a record that is not understood; caplet and caplet-helper must be of one version\n";
    assert_eq!((said.code, said.stderr.as_str(), said.stdout.lines().count()), (Some(0), text, 2));
    let tree = Tree::with_helper("kill -9 $$");
    let text = "caplet: no session was ended: the helper was ended by signal 9; try again";
    tree.refuses(&["end", "7f3a90c1d2e4"], 1, text);
}

#[test]
fn inside_a_session_the_helper_is_not_asked() {
    let tree = Tree::recording();
    let output = tree.caplet().args(["end", "7f3a"]).env("CAPLET_PROFILE", "netlab").output().expect("caplet starts");
    let said = tree::said(output);
    let text = "caplet: inside a session (profile \"netlab\") no other one is seen or ended; leave it first: exit\n";
    assert_eq!((said.code, said.stderr.as_str()), (Some(1), text));
    assert_eq!(tree.recorded(), None);
}
