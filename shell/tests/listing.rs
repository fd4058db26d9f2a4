//! `caplet list`, with a helper that answers what it is told to.

mod tree;

use serde_json::Value;
use tree::Tree;

const LINES: &str = r#"
cat <<'END'
profile name=netlab scope=isolated user=root network=private home=rw login=no auth=none privileged=no seccomp=default until="2027-02-15 23:59:59" caps=CHOWN,DAC_OVERRIDE,FOWNER,FSETID,KILL,SETGID,SETUID,SETPCAP,NET_BIND_SERVICE,NET_RAW,SYS_CHROOT,MKNOD,AUDIT_WRITE,SETFCAP may_add=NET_ADMIN,SYS_PTRACE description="Networks course: routes, bridges, firewalls in a network of your own"
profile name=student scope=isolated user=self network=host home=ro login=yes auth=none privileged=yes seccomp=none until= caps= may_add=ALL description=
profile name=clock scope=host user=self network=private home=rw login=no auth=password privileged=no until= caps=SYS_TIME may_add= description="\x1b[2J \"set\" the clock" command=/usr/bin/date command="/usr/sbin/hwclock --systohc"
contact text="lab-admin@example.edu, room 2.14"
END
"#;

#[test]
fn the_page_is_readable_at_80_columns() {
    let said = Tree::with_helper(LINES).run(&["list"]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let expect = r#"netlab      isolated, you are root inside, own network
  for       Networks course: routes, bridges, firewalls in a network of your own
  holds     Docker's 14
  may add   NET_ADMIN, SYS_PTRACE
  until     2027-02-15 23:59:59
  try       caplet run -p netlab --cap-add NET_ADMIN ip link set lo mtu 1400

student     isolated, you stay who you are, the machine's network, home is
            read-only, also at login
  holds     no capability
  may add   every capability; or --privileged
  try       caplet shell -p student --cap-add SYS_PTRACE

clock       host: real capabilities on this machine, asks for your password
  for       \x1b[2J "set" the clock
  holds     SYS_TIME
  may add   nothing
  commands  /usr/bin/date
            /usr/sbin/hwclock --systohc
  try       caplet run -p clock date

More? Ask: lab-admin@example.edu, room 2.14
"#;
    assert_eq!(said.stdout, expect);
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn json_says_the_same() {
    let said = Tree::with_helper(LINES).run(&["list", "--json"]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let json: Value = serde_json::from_str(&said.stdout).expect("valid JSON");
    assert_eq!(json["contact"], "lab-admin@example.edu, room 2.14");
    let profiles = json["profiles"].as_array().expect("a list");
    assert_eq!(profiles.len(), 3);
    assert_eq!(profiles[0]["may_add"], serde_json::json!(["NET_ADMIN", "SYS_PTRACE"]));
    assert_eq!(profiles[0]["caps"].as_array().map(Vec::len), Some(14));
    assert_eq!(profiles[0]["valid_until"], "2027-02-15 23:59:59");
    assert_eq!(profiles[1]["may_add"], serde_json::json!(["ALL"]));
    assert_eq!(profiles[1]["description"], Value::Null);
    assert_eq!(profiles[2]["description"], "\u{1b}[2J \"set\" the clock");
    assert_eq!(profiles[2]["commands"], serde_json::json!([["/usr/bin/date"], ["/usr/sbin/hwclock", "--systohc"]]));
}

#[test]
fn no_profile_is_a_no_with_the_contact() {
    let tree = Tree::with_helper("echo 'contact text=\"room 2.14\"'");
    let text = "caplet: no profile of this machine's policy is yours\ncaplet: ask: room 2.14";
    tree.refuses(&["list"], 1, text);
    let said = tree.run(&["list", "--json"]);
    assert_eq!(said.code, Some(1));
    assert_eq!(serde_json::from_str::<Value>(&said.stdout).expect("valid JSON")["profiles"], serde_json::json!([]));
}

#[test]
fn the_helper_is_asked_to_list() {
    let tree = Tree::with_helper("cat /proc/$$/cmdline > words");
    assert_eq!(tree.run(&["list", "--policy", "p.toml"]).code, Some(1));
    assert_eq!(tree.recorded().expect("asked"), [&b"list"[..], b"--policy=p.toml"]);
}

#[test]
fn a_helper_that_fails_has_the_word() {
    let tree = Tree::with_helper("echo 'caplet: the policy is faulty' >&2; exit 125");
    tree.refuses(&["list"], 1, "caplet: the policy is faulty");
    let tree = Tree::with_helper("kill -9 $$");
    tree.refuses(&["list"], 1, "caplet: no list: the helper was ended by signal 9; try again");
    let tree = Tree::with_helper("echo nonsense");
    let text =
        "caplet: no list: the helper's answer is not understood; caplet and caplet-helper must be of one version";
    tree.refuses(&["list"], 1, text);
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    let tree = Tree::with_helper(LINES);
    let output = std::process::Command::new("sh")
        .args(["-c", "{ sleep 0.2; ./caplet list; } | true"])
        .current_dir(&tree.folder)
        .env_remove("CAPLET_PROFILE")
        .output()
        .expect("sh runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
