//! `caplet learn`: what it prints is a profile, and the least that makes the command work.

use caplet_lab::{Lab, record_skip};

const POLICY: &str = r#"
[profile.plain]
users = ["alice"]

[profile.netlab]
users = ["alice"]
user = "root"
caps = ["docker"]
may_add = ["NET_ADMIN", "SYS_ADMIN", "SYS_TIME", "SYS_PTRACE"]
"#;

#[test]
fn the_least_that_a_command_needs_is_printed_and_enough() {
    let Some(lab) = Lab::new().user("alice", &[]).user("bob", &[]).policy(POLICY).start() else {
        return record_skip("needs root");
    };
    for (line, caps) in [
        ("true", "\"none\""),
        ("ip link set lo mtu 1400", "\"NET_ADMIN\""),
        ("mount -t tmpfs none /mnt", "\"SYS_ADMIN\""),
        // One after the other, and what is only tried is not needed.
        (
            "mount -t tmpfs none /mnt && ip link set lo mtu 1400 && chroot / true",
            "\"NET_ADMIN\", \"SYS_CHROOT\", \"SYS_ADMIN\"",
        ),
        ("hostname x; date -s 12:00 2>/dev/null; ip link set lo mtu 1400", "\"NET_ADMIN\", \"SYS_ADMIN\""),
    ] {
        let out = lab.run_as("alice", ["caplet", "learn", "--", "sh", "-c", line]).expect_ok();
        let text = out.out();
        let (shown, table) = text.split_once('\n').expect("two lines and more");
        assert!(shown.starts_with("# The least for: sh -c "), "{out}");
        assert_eq!(
            table,
            format!("[profile.alice-sh]\nusers = [\"alice\"]\nuser = \"root\"\ncaps = [{caps}]"),
            "{line}: {out}"
        );
        // As it is printed, it is a policy; and it is enough.
        lab.root(&format!("umask 027; mkdir -p /etc/caplet/policy.d; echo '{table}' > /etc/caplet/policy.d/x.toml"));
        lab.run_as("alice", ["caplet", "run", "-p", "alice-sh", "--", "sh", "-c", line]).expect_ok();
        lab.root("rm /etc/caplet/policy.d/x.toml");
    }
    // What no session can hold is said, and nothing is printed.
    let out = lab.run_as("alice", ["caplet", "learn", "--", "date", "-s", "12:00"]);
    assert_eq!((out.code(), out.out().as_str()), (1, ""), "{out}");
    assert!(
        out.err().contains("with all that you may have in a session (") && out.err().contains("ends with 1"),
        "{out}"
    );
    assert!(out.err().contains("clock_settime(CLOCK_REALTIME) was refused (EPERM): it needs SYS_TIME"), "{out}");
    assert!(out.err().contains("profile.alice-date = { users = [\"alice\"], scope = \"host\""), "{out}");
    // With -p only that one is tried; and who has none is told.
    let out = lab.run_as("alice", ["caplet", "learn", "-p", "plain", "--", "ip", "link", "set", "lo", "mtu", "1400"]);
    assert!(out.code() == 1 && out.err().contains("(no capability) it ends with"), "{out}");
    for words in [&["-p", "nobodys", "--", "true"][..], &["--"]] {
        let out = lab.run_as("alice", [&["caplet", "learn"][..], words].concat());
        assert!([1, 2].contains(&out.code()) && out.out().is_empty() && out.err().starts_with("caplet: "), "{out}");
    }
    assert_eq!(lab.run_as("bob", ["caplet", "learn", "--", "true"]).code(), 1);
}
