//! The kernel's audit trail: a user record of each command asked for, as sudo writes it.

use caplet_lab::{need, skip};
use std::process::Command;

#[test]
fn auditd_gets_a_user_record_of_grants_and_refusals() {
    need!("auditd", "auditctl");
    if !nix::unistd::geteuid().is_root() {
        skip!("needs root");
    }
    let Some(build) = std::env::var_os("CAPLET_BUILD") else { skip!("CAPLET_BUILD names no build") };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audit.sh");
    for (words, cmd, result) in [
        (&["-p", "own", "true", "two words\" res=x"][..], "747275652074776F20776F72647322207265733D78", "success"),
        (&["-p", "own", "--cap-add", "SYS_MODULE", "id"], "\"id\"", "failed"),
    ] {
        let out = Command::new("bash").arg(script).arg(&build).args(["caplet", "run"]).args(words).output();
        let out = out.expect("bash starts");
        if out.status.code() == Some(77) {
            skip!("the kernel audits for somebody else here, or not at all");
        }
        let text = String::from_utf8_lossy(&out.stdout);
        assert_eq!(text.lines().count(), 1, "{text}{}", String::from_utf8_lossy(&out.stderr));
        assert!(text.contains(" uid=0 ") && text.contains(&format!("cwd=\"/home/alice\" cmd={cmd} exe=")), "{text}");
        assert!(text.contains(&format!("terminal=? res={result}'")), "{text}");
    }
}
