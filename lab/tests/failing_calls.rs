//! Every system call that the helper makes fails once, each in turn: then either nothing runs, or the session is to the
//! last bit what it would have been. Nothing in between, and nothing is left behind. Row T40 of attacks.md.

use caplet_lab::{Lab, need};

const POLICY: &str = r#"
[profile.own]
users = ["alice"]
may_add = ["NET_RAW"]
hide = ["/srv/secret"]
writable = ["/srv/scratch"]
limits = { nproc = 500 }
umask = "0027"

[profile.zero]
users = ["alice"]
user = "root"
subids = true

[profile.full]
users = ["alice"]
caps = ["SYS_RESOURCE"]

[profile.real]
users = ["alice"]
scope = "host"
may_add = ["SYS_NICE"]
pam_account = false
umask = "0027"

[profile.pam]
users = ["alice"]
scope = "host"
pam_session = true
"#;

fn lab() -> Option<Lab> {
    Lab::new()
        .user("alice", &["students", "docker"])
        .subid("alice", 200_000, 65_536)
        .file("/srv/secret/key", "secret", 0o644, "root")
        .file("/usr/local/bin/fingerprint", FINGERPRINT, 0o755, "root")
        .policy(POLICY)
        .start()
}

/// Everything about a session that must not differ. Its last word says that it is whole.
const FINGERPRINT: &str = r#"#!/bin/bash
grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups|Sig(Blk|Ign))' /proc/self/status
cut -d' ' -f4,5,6 /proc/self/mountinfo | sed 's/ \/proc\/[0-9]*/ /'
cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups /proc/sys/user/max_user_namespaces
grep -c . /proc/net/dev
ls /home /srv/secret
ls /proc/self/fd
umask
ulimit -u
hostname
if [ "$CAPLET_SCOPE" = isolated ]; then set -- /proc/[0-9]*; echo $#; fi
echo whole
"#;

fn run(lab: &Lab, profile: &str, inject: &str) -> (i32, String, String, bool) {
    let trace = format!("/tmp/trace-{profile}");
    let filter = format!("trace={}", inject.split(':').next().unwrap_or_default());
    let inject = format!("inject={inject}");
    let profile = format!("--profile={profile}");
    let helper = "/usr/libexec/caplet/caplet-helper";
    let words = ["strace", "-f", "-qq", "-b", "execve", "-u", "alice", "-o", &trace, "-e", &filter, "-e", &inject];
    let words = [&words[..], &[helper, "run", &profile, "--quiet", "--", "/usr/local/bin/fingerprint"]].concat();
    let out = lab.task("root", words).env("PATH", "/usr/bin:/bin").cwd("/srv").run();
    let injected = lab.exists(&trace) && lab.read(&trace).contains("(INJECTED)");
    (out.code(), out.out(), out.err(), injected)
}

/// The lines of either that the other has not.
fn difference(wanted: &str, got: &str) -> Vec<String> {
    let missing = wanted.lines().filter(|l| !got.lines().any(|g| g == *l)).map(|l| format!("-{l}"));
    let added = got.lines().filter(|l| !wanted.lines().any(|w| w == *l)).map(|l| format!("+{l}"));
    missing.chain(added).collect()
}

/// The calls whose silent failure would be a hole, and those whose failure is likeliest.
const CALLS: &str = "\
    setresuid setresgid setgroups capset capget prctl unshare setns mount umount2 mount_setattr \
    move_mount open_tree fsopen fsconfig fsmount pivot_root chroot fchdir chdir openat2 mkdirat \
    mknodat symlinkat fchownat keyctl seccomp prlimit64 setsid sethostname socketpair sendmsg \
    recvmsg sendto write clone3 dup3 flock";

/// What was wrong, one line each.
fn fail_each_call(profile: &str) {
    need!("strace");
    let Some(lab) = lab() else { return };
    lab.root("mkdir -m 777 /srv/scratch");
    let all = std::env::var_os("CAPLET_FULL").is_some();
    let (code, whole, err, _) = run(&lab, profile, "getitimer:error=EINVAL:when=60000");
    assert_eq!(code, 0, "{err}");
    assert!(whole.ends_with("whole"), "{whole}");
    let mut odd = Vec::new();
    let mut runs = 0;
    for call in CALLS.split_whitespace() {
        // One call for each of 41 capabilities, again and again: a sample will do.
        let step = if call == "prctl" && !all { 5 } else { 1 };
        for nth in (1..400).step_by(step) {
            let (code, out, err, injected) = run(&lab, profile, &format!("{call}:error=ENOMEM:when={nth}"));
            runs += 1;
            let place = format!("{call} {nth}: {code}");
            if !out.is_empty() && out != whole {
                odd.push(format!("{place}: another session: {:?} {err}", difference(&whole, &out)));
            }
            if out.is_empty() && code == 0 {
                odd.push(format!("{place}: success without a session: {err}"));
            }
            if code != 0 && err.is_empty() {
                eprintln!("{place}: not a word");
            }
            if !injected {
                break;
            }
        }
    }
    eprintln!("{runs} runs");
    assert!(odd.is_empty(), "{odd:#?}");
    nothing_is_left(&lab);
}

/// Row T08: whoever of ours is killed at whatever call of its own, nobody of a session is left waiting for it.
#[test]
fn a_kill_at_any_call_leaves_nobody() {
    need!("strace");
    let Some(lab) = lab() else { return };
    lab.root("mkdir -m 777 /srv/scratch");
    let mut kills = 0;
    for profile in ["full", "own", "real"] {
        for call in ["openat", "write", "clone3", "waitid", "sendmsg", "recvmsg", "fchdir", "unshare"] {
            for nth in 1..60 {
                run(&lab, profile, &format!("{call}:signal=SIGKILL:when={nth}"));
                assert_eq!(lab.processes_left(), [], "{profile}: {call} {nth}");
                if !lab.read(&format!("/tmp/trace-{profile}")).contains("killed by SIGKILL") {
                    break;
                }
                kills += 1;
            }
        }
    }
    assert!(kills > 80, "{kills}");
    assert_eq!(lab.mounts_left(), Vec::<std::path::PathBuf>::new());
}

// Row T08, and "an end for every grant": each grant above has its end, and each end its grant.
fn nothing_is_left(lab: &Lab) {
    let ids = |event: &str| {
        let mut ids: Vec<String> = lab.log().find(event, &[]).iter().map(|r| r.field("id")).collect();
        ids.sort();
        ids
    };
    assert_eq!(lab.processes_left(), []);
    assert_eq!(lab.root("ls /run/caplet").out(), "");
    assert_eq!(lab.mounts_left(), Vec::<std::path::PathBuf>::new());
    assert_eq!(ids("grant"), ids("end"));
}

#[test]
fn a_failing_call_means_no_session_of_ones_own_or_the_whole_one() {
    fail_each_call("own");
}

#[test]
fn a_failing_call_means_no_session_as_uid_0_or_the_whole_one() {
    fail_each_call("zero");
}

#[test]
fn a_failing_call_means_no_session_below_a_ceiling_or_the_whole_one() {
    fail_each_call("full");
}

/// The filter of the guard lets through all that it does; a refused call would show as EPERM after the filter stands.
#[test]
fn the_guards_filter_refuses_nothing_that_it_does() {
    need!("strace");
    let Some(lab) = lab() else { return };
    let helper = "/usr/libexec/caplet/caplet-helper";
    for profile in ["full", "real", "pam"] {
        let profile = format!("--profile={profile}");
        let words = ["strace", "-f", "-qq", "-s", "80", "-b", "execve", "-u", "alice", "-o", "/tmp/trace"];
        let command = ["sh", "-c", "sleep 0.1; exit 7"];
        let words = [&words[..], &[helper, "run", &profile, "--quiet", "--"], &command].concat();
        let out = lab.task("root", words).env("PATH", "/usr/bin:/bin").cwd("/srv").run();
        let trace = lab.read("/tmp/trace");
        assert_eq!(out.code(), 7, "{out}");
        let mut settled = trace.lines().filter(|l| l.contains("PR_SET_SECCOMP") && !l.contains("len=14"));
        let guard = settled.next().and_then(|l| l.split(' ').next()).expect("the guard's filter").to_owned();
        let of_guard = || trace.lines().filter(|l| l.starts_with(&guard)).skip_while(|l| !l.contains("PR_SET_SECCOMP"));
        assert!(of_guard().any(|l| l.contains("end id")), "{trace}");
        assert!(of_guard().any(|l| l.contains("unlinkat")), "{trace}");
        let refused: Vec<&str> = of_guard().filter(|l| l.contains("EPERM")).collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }
}

/// Also the calls of the process that asks PAM, and of its modules.
#[test]
fn a_failing_call_means_no_session_behind_pam_or_the_whole_one() {
    fail_each_call("pam");
}

#[test]
fn a_failing_call_means_no_host_session_or_the_whole_one() {
    fail_each_call("real");
}
