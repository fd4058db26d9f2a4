//! A kernel that is too old: refused in both scopes before anything is asked, recorded or built. A process may have its
//! kernel call itself 2.6 (personality(2), UNAME26); under a kernel that really is older (`make kernels`) it is the same.

use caplet_lab::{Lab, Output, SharedLab, shared};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.own]
users = ["alice"]

[profile.zero]
users = ["alice"]
user = "root"

[profile.real]
users = ["alice"]
scope = "host"
caps = ["SYS_NICE"]
pam_account = false

[profile.asks]
users = ["alice"]
scope = "host"
caps = ["SYS_NICE"]
auth = "password"
pam_account = false
"#;

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || Lab::new().user("alice", &[]).policy(POLICY))
}

/// One clear line, 125, a refusal in the log, no grant, nothing left.
#[track_caller]
fn is_refused(lab: &Lab, out: &Output, profile: &str, release: &str) {
    let why = format!("kernel {release} is too old: sessions need Linux 5.14 or newer");
    assert_eq!((out.code(), out.out().as_str(), out.err()), (125, "", format!("caplet: {why}")), "{profile}");
    let record = lab.log().wait("refuse", &[("user", "alice"), ("profile", profile)]);
    assert_eq!(record.field("reason"), why);
    assert!(lab.log().find("grant", &[("profile", profile)]).is_empty(), "{profile}: a grant was recorded");
    assert_eq!(lab.processes_left(), []);
    assert_eq!(lab.mounts_left(), Vec::<std::path::PathBuf>::new());
    assert_eq!(lab.root("ls -A /run/caplet 2>/dev/null | grep -vxE 'auth|[.]sequence'; true").out(), "", "{profile}");
}

const PROFILES: [&str; 4] = ["own", "zero", "real", "asks"];

#[test]
fn a_kernel_that_calls_itself_old_gets_no_session_in_either_scope() {
    let Some(lab) = lab() else { return };
    let release = lab.sh("alice", "setarch --uname-2.6 uname -r").expect_ok().out();
    assert!(release.starts_with("2.6."), "{release}");
    for profile in PROFILES {
        let words = ["setarch", "--uname-2.6", "caplet", "run", "--quiet", "-p", profile, "touch", "/home/alice/ran"];
        is_refused(lab, &lab.run_as("alice", words), profile, &release);
    }
    assert!(!lab.exists("/home/alice/ran"));
}

#[test]
fn this_kernel_gets_sessions_unless_it_is_older_than_5_14() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    let release = lab.root("uname -r").out();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let old = (numbers.next().expect("a number"), numbers.next().expect("a number")) < (5, 14);
    for profile in PROFILES {
        let out = lab.run_as("alice", ["caplet", "run", "-n", "--quiet", "-p", profile, "echo", "ran"]);
        if old {
            is_refused(&lab, &out, profile, &release);
        } else if profile != "asks" {
            assert_eq!(out.expect_ok().out(), "ran", "{profile}");
        }
    }
}
