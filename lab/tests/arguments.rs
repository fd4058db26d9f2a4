//! What is typed arrives: every byte of every argument, and scripts that a policy names.

use caplet_lab::{Lab, SharedLab, shared};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

static LAB: SharedLab = SharedLab::new();

fn lab() -> Option<&'static Lab> {
    let policy = r#"
[profile.own]
users = ["alice"]

[profile.real]
users = ["alice"]
scope = "host"
pam_account = false

[profile.tool]
users = ["alice"]
scope = "host"
pam_account = false
caps = ["SYS_NICE"]
commands = ["/usr/local/bin/tool", ["/usr/local/bin/exact", "one", "two words"]]
"#;
    let script = "#!/bin/sh\nprintf '%s|' \"$0\" \"$@\"; grep CapEff /proc/$$/status\n";
    shared(&LAB, || {
        Lab::new()
            .user("alice", &[])
            .policy(policy)
            .file("/usr/local/bin/tool", script, 0o755, "root")
            .file("/usr/local/bin/exact", script, 0o755, "root")
            .file("/usr/local/bin/show", SHOW, 0o755, "root")
    })
}

/// Every argument in hexadecimal, a line each.
const SHOW: &str = "#!/usr/bin/python3\nimport os, sys\nfor a in sys.argv[1:]: print('=' + os.fsencode(a).hex())\n";

fn hex(bytes: &[u8]) -> String {
    std::iter::once("=".into()).chain(bytes.iter().map(|b| format!("{b:02x}"))).collect()
}

#[test]
fn every_byte_of_every_argument_arrives() {
    let Some(lab) = lab() else { return };
    let every: Vec<u8> = (1..=255).collect();
    let many: Vec<Vec<u8>> = (0..2000).map(|n: u32| n.to_string().into_bytes()).collect();
    // MAX_ARG_STRLEN of linux/binfmts.h is 128 KiB with the zero at its end.
    let cases: [Vec<Vec<u8>>; 6] = [
        vec![b"".to_vec()],
        vec![b"".to_vec(), b"--".to_vec(), b"-p".to_vec(), b"".to_vec(), b"--cap-add=ALL".to_vec()],
        vec![every],
        vec![vec![b'x'; 131_071]],
        vec![b"\xff\xfe\n\x1b[31m".to_vec(), "\u{202e}evil".into()],
        many,
    ];
    for profile in ["own", "real"] {
        for case in &cases {
            let mut words: Vec<OsString> = ["caplet", "run", "-p", profile, "--", "show"].map(OsString::from).into();
            words.extend(case.iter().cloned().map(OsString::from_vec));
            let out = lab.run_as("alice", words).expect_ok().out();
            let wanted: Vec<String> = case.iter().map(|bytes| hex(bytes)).collect();
            assert!(out.lines().eq(wanted.iter().map(String::as_str)), "{profile}: {} words", case.len());
        }
        let grants = lab.log().find("grant", &[("profile", profile)]);
        assert_eq!(grants.len(), cases.len(), "each is one line of the log");
    }
}

#[test]
fn a_script_of_the_policy_runs_by_its_path_with_the_grant() {
    let Some(lab) = lab() else { return };
    let eff = "CapEff:\t0000000000800000";
    let run = |line: &str| lab.sh("alice", &format!("caplet run --quiet -p tool {line}"));
    assert_eq!(run("tool a 'b c'").expect_ok().out(), format!("/usr/local/bin/tool|a|b c|{eff}"));
    assert_eq!(run("/usr/local/bin/tool").expect_ok().out(), format!("/usr/local/bin/tool|{eff}"));
    assert_eq!(run("exact one 'two words'").expect_ok().out(), format!("/usr/local/bin/exact|one|two words|{eff}"));
    for refused in ["exact one", "exact one 'two words' three", "exact one two words", "show", "/tmp/tool"] {
        let out = run(refused);
        assert_eq!(out.code(), 125, "{refused}: {out}");
    }
    // A link of the user's own to the same file is another file to the policy: the folder counts.
    let out = lab.sh("alice", "mkdir -p bin && ln -sf /usr/local/bin/tool bin/tool && caplet run -p tool ./bin/tool");
    assert_eq!(out.code(), 125, "{out}");
}
