//! `caplet check` on a machine where it is installed: every warning, from the thing itself.

use caplet_lab::Lab;

const SOUND: &str = "[profile.a]\nusers = [\"alice\"]\nmay_add = [\"NET_RAW\"]\n";

fn lab() -> Option<Lab> {
    let lab = Lab::new().user("alice", &["sudo"]).user("bob", &["students"]).policy(SOUND).start()?;
    lab.root("rm /usr/bin/caplet-shell"); // nobody has it as login shell here
    Some(lab)
}

fn profile(rest: &str) -> String {
    format!("[profile.risky]\nusers = [\"alice\"]\n{rest}\n")
}

#[test]
fn each_risky_grant_is_warned_of() {
    let Some(lab) = lab() else { return };
    lab.root("mknod /dev/lab-disk b 7 200");
    let host = |rest: &str| profile(&format!("scope = \"host\"\npam_account = false\n{rest}"));
    let cases: [(String, &str); 24] = [
        ("[profile.r]\nusers = [\"*\"]\n".into(), "everybody, also system accounts, is let in here"),
        ("[profile.r]\nusers = [\"*\"]\nlogin = true\n".into(), "everybody, also system accounts, logs in here"),
        (profile("user = \"root\"\nlogin = true"), "login as uid 0"),
        (profile("devices = [\"/dev/lab-disk\"]"), "/dev/lab-disk is a block device"),
        (profile("devices = [\"/dev/no-such-node\"]"), "/dev/no-such-node is not there"),
        (
            host("caps = [\"SYS_ADMIN\"]\naccept_root_equivalent = true"),
            "SYS_ADMIN is as good as root: mount over /etc",
        ),
        (host("caps = [\"DAC_READ_SEARCH\"]\naccept_root_equivalent = true"), "DAC_READ_SEARCH is as good as root"),
        (host("may_add = [\"PERFMON\", \"BPF\"]\naccept_root_equivalent = true"), "BPF is as good as root"),
        (host("caps = [\"PERFMON\"]"), "PERFMON copies what any process has on its stack"),
        (profile("hide = [\"/srv/none-yet\"]"), "hide: /srv/none-yet is not there"),
        (host("may_add = [\"ALL\"]\naccept_root_equivalent = true"), "every capability of the machine: this is root"),
        (host("caps = [\"SYS_NICE\"]\ncommands = [\"/usr/bin/vim\"]"), "whatever /usr/bin/vim starts inherits"),
        (host("caps = [\"SYS_NICE\"]\ncommands = [\"/usr/bin/less\"]"), "whatever /usr/bin/less starts inherits"),
        (host("caps = [\"SYS_NICE\"]\ncommands = [\"/usr/bin/python3\"]"), "whatever /usr/bin/python3 starts inherits"),
        (
            host("caps = [\"CHOWN\"]\naccept_root_equivalent = true\ncommands = [\"/usr/bin/id\"]"),
            "whatever /usr/bin/id starts",
        ),
        (
            host("caps = [\"SYS_TIME\"]\n[profile.dated]\nusers = [\"bob\"]\nvalid_until = 2099-01-01"),
            "its dates follow the machine's clock, which profile \"risky\" lets people set",
        ),
        (profile("cgroup = { tasks = 5 }"), "tasks = 5: hardly a shell and a pipeline"),
        (profile("cgroup = { memory = \"16M\" }"), "memory of 16384K: most programs are killed"),
        (profile("cgroup = { cpu = \"1%\" }"), "cpu = \"1%\": a login takes seconds"),
        (
            host("caps = [\"DAC_OVERRIDE\"]\naccept_root_equivalent = true\ncgroup = { tasks = 50 }"),
            "its cgroup holds nobody who has DAC_OVERRIDE",
        ),
        (
            host("may_add = [\"SYS_NICE\"]\ncgroup = { cpu = \"50%\" }"),
            "cpu does not hold real-time processes, which SYS_NICE makes",
        ),
        (profile("user = \"root\"\nsubids = true"), "profile \"risky\": alice has no range in /etc/subuid"),
        (profile("user = \"root\"\nsubids = true"), "profile \"risky\": alice has no range in /etc/subgid"),
        (
            "[profile.r]\ngroups = [\"students\"]\nuser = \"root\"\nsubids = true\n".into(),
            "profile \"r\": bob has no range in /etc/subuid",
        ),
    ];
    lab.root("for f in /etc/subuid /etc/subgid; do : > $f; done");
    for (policy, warning) in &cases {
        lab.set_policy(policy);
        let out = lab.root("caplet check; echo code=$?");
        assert_eq!(out.out(), "code=0", "{warning}: {out}");
        let lines: Vec<String> = out.err_lines().into_iter().filter(|l| l.contains(warning)).collect();
        assert_eq!(lines.len(), 1, "{warning}: {out}");
        assert!(lines[0].starts_with("caplet: warning: "), "{out}");
        assert_eq!(lab.root("caplet check --strict; echo code=$?").out(), "code=1", "{warning}");
    }
    lab.set_policy(SOUND);
    for words in ["caplet check", "caplet check --strict", "caplet check /etc/caplet"] {
        let out = lab.root(&format!("{words}; echo code=$?"));
        assert_eq!((out.out().as_str(), out.err().contains("warning")), ("code=0", false), "{words}: {out}");
    }
}

#[test]
fn what_lies_around_the_policy_is_looked_at() {
    let Some(lab) = lab() else { return };
    // What is done, what undoes it, what is said, and whether it is a fault.
    for (made, mended, said, fault) in [
        (
            "chmod 755 /usr/libexec/caplet/caplet-helper",
            "chmod 4755 /usr/libexec/caplet/caplet-helper",
            "caplet-helper",
            true,
        ),
        ("chown bob /usr/libexec/caplet", "chown root /usr/libexec/caplet", "/usr/libexec/caplet", true),
        ("chmod 660 /etc/caplet/policy.toml", "chmod 640 /etc/caplet/policy.toml", "/etc/caplet/policy.toml", true),
        ("chown bob /etc/caplet", "chown root /etc/caplet", "/etc/caplet", true),
        ("echo > /etc/pam.d/caplet; chmod 666 /etc/pam.d/caplet", "rm /etc/pam.d/caplet", "/etc/pam.d/caplet", false),
        (
            "mount --bind /usr/libexec/caplet /usr/libexec/caplet; mount -o remount,bind,nosuid /usr/libexec/caplet",
            "umount /usr/libexec/caplet",
            "mounted nosuid",
            false,
        ),
        (
            "mkdir -p /srv/staff/bob; usermod -d /srv/staff/bob bob",
            "usermod -d /home/bob bob; rm -r /srv/staff",
            "homes are also in /srv/staff",
            false,
        ),
        (
            "ln -s caplet /usr/bin/caplet-shell; usermod -s /usr/bin/caplet-shell alice",
            "usermod -s /bin/bash alice; rm /usr/bin/caplet-shell",
            "every administrator has /usr/bin/caplet-shell",
            false,
        ),
    ] {
        lab.root(made);
        let out = lab.root("caplet check; echo code=$?");
        let lines: Vec<String> = out.err_lines().into_iter().filter(|l| l.contains(said)).collect();
        assert!(!lines.is_empty(), "{made}: {out}");
        assert_eq!(lines.iter().all(|l| l.starts_with("caplet: warning: ")), !fault, "{made}: {out}");
        assert_eq!(out.out(), if fault { "code=1" } else { "code=0" }, "{made}: {out}");
        assert_eq!(lab.root("caplet check --strict; echo code=$?").out(), "code=1", "{made}");
        lab.root(mended);
        let out = lab.root("caplet check --strict; echo code=$?");
        assert_eq!(out.out(), "code=0", "after {mended}: {out}");
    }
}

#[test]
fn a_subordinate_range_that_overlaps_is_warned_of_as_the_helper_refuses_it() {
    let Some(lab) = lab() else { return };
    lab.set_policy(&profile("user = \"root\"\nsubids = true"));
    lab.root("for f in /etc/subuid /etc/subgid; do printf 'alice:200000:65536\nbob:265535:10\n' > $f; done");
    let out = lab.root("caplet check; echo code=$?");
    assert!(out.err().contains("alice's range in /etc/subuid overlaps the entry bob:265535:10"), "{out}");
    let refused = lab.sh("alice", "caplet run -p risky true");
    assert!(refused.code() == 125 && refused.err().contains("overlaps the entry bob:265535:10"), "{refused}");
    lab.root("for f in /etc/subuid /etc/subgid; do printf 'alice:200000:65536\nbob:265536:10\n' > $f; done");
    assert_eq!(lab.root("caplet check --strict; echo code=$?").out(), "code=0");
    lab.sh("alice", "caplet run -p risky true").expect_ok();
}

#[test]
fn a_missing_pam_stack_is_warned_of_where_a_profile_needs_it() {
    let Some(lab) = lab() else { return };
    lab.root("rm /etc/pam.d/caplet");
    assert_eq!(lab.root("caplet check --strict; echo code=$?").out(), "code=0", "nothing here needs PAM");
    for keys in ["scope = \"host\"", "auth = \"password\"", "pam_session = true"] {
        lab.set_policy(&profile(keys));
        let out = lab.root("caplet check --strict; echo code=$?");
        let warning = "/etc/pam.d/caplet is missing: profiles that need PAM refuse everybody (risky)";
        assert!(out.out() == "code=1" && out.err().contains(warning), "{keys}: {out}");
        lab.sh("alice", "caplet run -n -p risky true").expect_code(125);
    }
    lab.write("/etc/pam.d/caplet", "account required pam_permit.so\n", 0o644, "root");
    lab.set_policy(&profile("scope = \"host\""));
    assert_eq!(lab.root("caplet check --strict; echo code=$?").out(), "code=0");
}

#[test]
fn inside_a_session_the_installed_policy_is_not_judged() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(&profile("user = \"root\"")).start() else { return };
    let out = lab.sh("alice", "caplet run --quiet caplet check");
    assert_eq!((out.code(), out.err_lines().len()), (1, 1), "{out}");
    assert!(out.err().contains("leave it, then: sudo caplet check"), "{out}");
    lab.write("/home/alice/own.toml", profile(""), 0o600, "alice");
    lab.sh("alice", "caplet run --quiet caplet check own.toml").expect_ok();
}
