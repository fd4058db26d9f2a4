//! System calls that the helper makes fail once, each in turn: some of them, or every one with CAPLET_FULL=calls (as in
//! `make hostile`), or every one with each of six errors with CAPLET_FULL=1 (an hour and more). Then
//! either nothing runs, or the session is to the last bit what it would have been. Nothing in between, and nothing is left
//! behind. Row T40 of attacks.md.

use caplet_lab::{Interference, Lab, Output, Point, need};
use nix::errno::Errno;
use nix::libc;

const HELPER: &str = "/usr/libexec/caplet/caplet-helper";

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

[profile.listed]
users = ["alice"]
scope = "host"
caps = ["SYS_NICE"]
commands = ["/usr/local/bin/fingerprint"]
pam_account = false

[profile.bound]
users = ["alice"]
cgroup = { tasks = 100, memory = "256M", cpu = "400%" }

[network.lab]
subnet = "172.17.0.0/24"
gateway = "172.17.0.1"

[profile.lan]
users = ["alice"]
network = "lab"

[network.outside]
kind = "outgoing"

[profile.out]
users = ["alice"]
network = "outside"
"#;

fn lab() -> Option<Lab> {
    let lab = Lab::new()
        .user("alice", &["students", "docker"])
        .subid("alice", 200_000, 256)
        .file("/srv/secret/key", "secret", 0o644, "root")
        .file("/root/fingerprint.c", include_str!("../inject/fingerprint.c"), 0o644, "root")
        .policy(POLICY)
        .start()?;
    lab.injector();
    lab.root(
        "cc -O2 -Wall -Werror -o /usr/local/bin/fingerprint /root/fingerprint.c; mkdir -m 777 /srv/scratch; \
         readlink /proc/self/ns/* >/srv/namespaces; \
         ip link add uplink type veth peer name up0 && ip link set up0 up && ip addr add 203.0.113.1/24 dev uplink && ip link set uplink up && \
         ip route add default via 203.0.113.2",
    );
    Some(lab)
}

/// The lines of either that the other has not.
fn difference(wanted: &str, got: &str) -> Vec<String> {
    let missing = wanted.lines().filter(|l| !got.lines().any(|g| g == *l)).map(|l| format!("-{l}"));
    let added = got.lines().filter(|l| !wanted.lines().any(|w| w == *l)).map(|l| format!("+{l}"));
    missing.chain(added).collect()
}

const ERRORS: [Errno; 6] = [Errno::EPERM, Errno::ENOMEM, Errno::EINTR, Errno::ENOSPC, Errno::EMFILE, Errno::EAGAIN];

/// What a run was: the session that was granted, or none and one line that says why. `spared`: how lines begin that may
/// be others.
fn verdict(whole: &str, out: &Output, spared: Option<&str>) -> Result<(), String> {
    let lines = out.err_lines();
    // Relay and guard have given the caller's descriptors up by then: the exit code says it.
    if out.out() == whole && (out.code() == 0 || (lines.len() < 2 && [125, 137].contains(&out.code()))) {
        return Ok(());
    }
    let but =
        |start: &str, text: &str| text.lines().filter(|l| !l.starts_with(start)).map(str::to_owned).collect::<Vec<_>>();
    if out.ok() && spared.is_some_and(|start| but(start, &out.out()) == but(start, whole)) {
        return Ok(());
    }
    if !out.stdout.is_empty() {
        return Err(format!("another session, {}: {:?} {lines:?}", out.code(), difference(whole, &out.out())));
    }
    match (out.code(), lines.as_slice()) {
        (125..=127, [line]) if line.starts_with("caplet: ") => Ok(()),
        // What root reads where, and whom to ask, follow in lines of their own.
        (125, [line, ..]) if line.starts_with("caplet: the policy of this machine is faulty") => Ok(()),
        // A file that cannot be looked at is not the policy's command.
        (125, [line, ..]) if line.contains("is for certain commands only, and this is none of them") => Ok(()),
        (code, lines) => Err(format!("no session, {code}: {lines:?}")),
    }
}

fn spared(profile: &str, point: &Point) -> Option<&'static str> {
    match (profile, point.process.as_str(), point.call) {
        // In the process that asks PAM: what a module makes of a failure is its own; its limits are all that it can mean.
        ("pam", "0.1", _) => Some("limit "),
        // A frame that cannot be read of the session's link: the pump ends, and the link with it, as with any broken wire.
        ("out", "0.1.1", libc::SYS_read) => Some("links "),
        _ => None,
    }
}

/// Without CAPLET_FULL each of so many calls fails.
const FEW: usize = 6;

/// With CAPLET_FULL every call that a session of that profile makes once its policy is opened fails in turn, with each
/// of the errors, or with one of them (`calls`); else some, with one each.
fn fail_each_call(profile: &str) {
    let Some(lab) = lab() else { return };
    let full = std::env::var_os("CAPLET_FULL");
    let (all, each) = (full.is_some(), full.is_some_and(|full| full != "calls"));
    let profile_word = format!("--profile={profile}");
    let words = ["run", &profile_word, "--quiet", "--", "/usr/local/bin/fingerprint"];
    // One of them is watched from the very first use of a machine on.
    let first = || {
        if profile == "real" {
            lab.root("rm -rf /run/caplet /var/lib/caplet");
        }
    };
    // A range of ids is asked after with many questions, for each of which systemd's module makes a hundred calls: that
    // module's are made to fail with the other profiles.
    if profile == "zero" {
        lab.root("sed -i 's/^\\(passwd\\|group\\):.*/\\1: files/' /etc/nsswitch.conf");
    }
    lab.run_as("alice", [&[HELPER], &words[..]].concat()).expect_ok();
    lab.processes_left();
    first();
    let (points, out) = lab.calls("alice", &words);
    let whole = out.expect_ok().out();
    assert!(whole.ends_with("whole"), "{whole}");
    // What the kernel never refuses.
    let never = [
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_rt_sigreturn,
        libc::SYS_umask,
        libc::SYS_rt_sigprocmask,
        libc::SYS_futex,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getppid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
    ];
    // CAPLET_POINT="PROCESS NUMBER CALL": that one alone.
    let only = std::env::var("CAPLET_POINT").ok();
    let is_wanted =
        |p: &Point| only.as_ref().is_none_or(|only| *only == format!("{} {} {}", p.process, p.number, p.call));
    let points = points.into_iter().filter(|p| !never.contains(&p.call) && is_wanted(p));
    // What is nobody's business but the command's, and lost without a trace where nobody looks.
    let always = [libc::SYS_setpriority, libc::SYS_ioprio_set, libc::SYS_sched_setaffinity];
    let is_taken = |(index, p): &(usize, Point)| all || index % FEW == 0 || always.contains(&p.call);
    let points: Vec<Point> = points.enumerate().filter(is_taken).map(|(_, point)| point).collect();
    let (mut odd, mut runs, mut unmet, mut refused, mut wanted) = (Vec::new(), 0, Vec::new(), 0, 0);
    for (index, point) in points.iter().enumerate() {
        let errors = match (point.call, each) {
            // Besides for want of children, it fails for signals alone.
            (libc::SYS_waitid, _) => &[Errno::EINTR],
            (_, true) => &ERRORS[..],
            (_, false) => &ERRORS[index % ERRORS.len()..][..1],
        };
        wanted += errors.len();
        for error in errors {
            // How often somebody waits depends on who is faster: such a call may come next time.
            let mut met = false;
            for _ in 0..4 {
                first();
                let (out, hit) = lab.interfere("alice", point, Interference::Fail(*error as i32), &words);
                runs += 1;
                refused += u32::from(out.stdout.is_empty());
                if let Err(what) = verdict(&whole, &out, spared(profile, point)) {
                    println!("ODD {profile}: {point} {error}: {what}");
                    odd.push(format!("{point} {error}: {what}"));
                }
                if let Some(left) = left_behind(&lab) {
                    odd.push(format!("{point} {error}: left behind: {left}"));
                }
                met = hit;
                if hit {
                    break;
                }
            }
            if !met {
                unmet.push(format!("{point} {error}"));
                // Of those who clean up behind a session: also what is left to clean up.
                let waits = [libc::SYS_read, libc::SYS_poll, libc::SYS_ppoll, libc::SYS_recvfrom, libc::SYS_recvmsg];
                let builds = ["0", "0.1"].contains(&point.process.as_str());
                if builds && !waits.contains(&point.call) && point.call != libc::SYS_waitid {
                    odd.push(format!("{point} {error}: was never met"));
                }
            }
        }
    }
    println!(
        "COVERED {profile}: {} of {wanted} points ({} calls), {runs} runs, {refused} refused, {} odd",
        wanted - unmet.len(),
        points.len(),
        odd.len()
    );
    for line in &unmet {
        println!("UNMET {profile}: {line}");
    }
    assert!(odd.is_empty(), "{profile}: {} odd: {odd:#?}", odd.len());
    assert!(unmet.len() <= (wanted / 100).max(1), "{unmet:#?}");
    nothing_is_left(&lab);
}

/// Processes, mounts, records, links and rules of a run that is over. What the helper could not take away because just
/// that failed, its next start takes away.
fn left_behind(lab: &Lab) -> Option<String> {
    let processes = lab.processes_left();
    if !processes.is_empty() {
        return Some(format!("{processes:?}"));
    }
    let mounts = lab.mounts_left();
    if !mounts.is_empty() {
        return Some(format!("{mounts:?}"));
    }
    let records = || {
        lab.inside(|| {
            let Ok(entries) = std::fs::read_dir("/run/caplet") else { return Vec::new() };
            let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
            names.filter(|name| !name.starts_with('.') && name != "auth").collect::<Vec<_>>()
        })
    };
    for _ in 0..5 {
        if records().is_empty() && !has_link(lab) {
            break;
        }
        lab.run_as("alice", [HELPER, "run", "--profile=own", "--", "/bin/true"]).expect_ok();
        lab.processes_left();
    }
    let left = records();
    if !left.is_empty() {
        return Some(format!("{left:?}"));
    }
    if has_link(lab) {
        return Some("a link of a network".to_owned());
    }
    // Others' come and go meanwhile.
    let cgroups = lab.root("find /sys/fs/cgroup -type d -name 'caplet-*' 2>/dev/null; true").out();
    (!cgroups.is_empty()).then_some(cgroups)
}

fn has_link(lab: &Lab) -> bool {
    lab.inside(|| std::fs::read_to_string("/proc/net/dev").is_ok_and(|text| text.contains("cplt")))
}

fn run(lab: &Lab, profile: &str, inject: &str) -> (i32, String, String, bool) {
    let trace = format!("/tmp/trace-{profile}");
    let filter = format!("trace={}", inject.split(':').next().unwrap_or_default());
    let inject = format!("inject={inject}");
    let profile = format!("--profile={profile}");
    let words = ["strace", "-f", "-qq", "-b", "execve", "-u", "alice", "-o", &trace, "-e", &filter, "-e", &inject];
    let words = [&words[..], &[HELPER, "run", &profile, "--quiet", "--", "/usr/local/bin/fingerprint"]].concat();
    let out = lab.task("root", words).env("PATH", "/usr/bin:/bin").cwd("/srv").run();
    let injected = lab.exists(&trace) && lab.read(&trace).contains("(INJECTED)");
    (out.code(), out.out(), out.err(), injected)
}

/// Row T08: whoever of ours is killed at whatever call of its own, nobody of a session is left waiting for it.
#[test]
fn a_kill_at_any_call_leaves_nobody() {
    need!("strace");
    let Some(lab) = lab() else { return };
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
    // A record that could not be taken away is found again, and has its end twice: one too many, never one too few.
    let ends = ids("end");
    let open: Vec<String> = ids("grant").into_iter().filter(|id| !ends.contains(id)).collect();
    assert_eq!(open, Vec::<String>::new());
}

/// Filters of root emulation in containers answer such calls with 0 and let none of them be made. A session that is then
/// not as granted, or whose parent is not, is none.
fn believe_nobody(profile: &str) -> Vec<String> {
    let Some(lab) = lab() else { return Vec::new() };
    let profile_word = format!("--profile={profile}");
    let words = ["run", &profile_word, "--quiet", "--", "/usr/local/bin/fingerprint"];
    let (points, out) = lab.calls("alice", &words);
    let whole = out.expect_ok().out();
    let believed = [
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_setgroups,
        libc::SYS_setfsgid,
        libc::SYS_capset,
        libc::SYS_prctl,
        libc::SYS_seccomp,
    ];
    // Each capability of the bounding set has a call of its own.
    let all = std::env::var_os("CAPLET_FULL").is_some();
    let is_taken = |(index, p): &(usize, &Point)| all || p.call != libc::SYS_prctl || index % 7 == 0;
    let points = points.iter().filter(|p| believed.contains(&p.call)).enumerate().filter(is_taken);
    let points: Vec<&Point> = points.map(|(_, point)| point).collect();
    let (mut odd, mut refused) = (Vec::new(), 0);
    for point in &points {
        let (out, hit) = lab.interfere("alice", point, Interference::Fail(0), &words);
        assert!(hit, "{point} was never met");
        refused += usize::from(out.stdout.is_empty());
        // What a command has back of its caller's is its own trouble.
        if let Err(what) = verdict(&whole, &out, Some("/proc/self/timerslack_ns")) {
            odd.push(format!("{point}: {what}"));
        }
        odd.extend(left_behind(&lab).map(|left| format!("{point}: left behind: {left}")));
    }
    println!("BELIEVED {profile}: {} points, {refused} refused, {} odd", points.len(), odd.len());
    assert!(refused > 0, "not one was noticed");
    odd
}

#[test]
fn a_call_that_is_said_to_be_made_and_is_not_means_no_session_or_the_whole_one() {
    let odd: Vec<String> =
        ["own", "zero", "full", "real", "listed", "pam"].into_iter().flat_map(believe_nobody).collect();
    assert!(odd.is_empty(), "{} odd: {odd:#?}", odd.len());
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
    for profile in ["full", "real", "pam"] {
        let profile = format!("--profile={profile}");
        let words = ["strace", "-f", "-qq", "-s", "80", "-b", "execve", "-u", "alice", "-o", "/tmp/trace"];
        let command = ["sh", "-c", "sleep 0.1; exit 7"];
        let words = [&words[..], &[HELPER, "run", &profile, "--quiet", "--"], &command].concat();
        let out = lab.task("root", words).env("PATH", "/usr/bin:/bin").cwd("/srv").run();
        let trace = lab.read("/tmp/trace");
        assert_eq!(out.code(), 7, "{out}");
        let mut settled = trace.lines().filter(|l| l.contains("PR_SET_SECCOMP") && !l.contains("len=14"));
        let guard = settled.next().and_then(|l| l.split(' ').next()).expect("the guard's filter").to_owned();
        let of_guard = || trace.lines().filter(|l| l.starts_with(&guard)).skip_while(|l| !l.contains("PR_SET_SECCOMP"));
        assert!(of_guard().any(|l| l.contains("end id")), "{trace}");
        assert!(of_guard().any(|l| l.contains("unlinkat")), "{trace}");
        let refused: Vec<&str> = of_guard().filter(|l| l.contains("EPERM") && !l.contains("fsync")).collect();
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

#[test]
fn a_failing_call_means_no_command_of_the_policys_or_one_that_dumps_no_core() {
    fail_each_call("listed");
}

#[test]
fn a_failing_call_means_no_session_in_a_network_or_the_whole_one() {
    need!("nft");
    fail_each_call("lan");
}

#[test]
fn a_failing_call_means_no_session_with_a_way_out_or_the_whole_one() {
    need!("/usr/bin/passt");
    fail_each_call("out");
}

#[test]
fn a_failing_call_means_no_session_in_a_cgroup_or_the_whole_one() {
    let there = lab().map(|lab| lab.root("cat /sys/fs/cgroup/cgroup.controllers").out()).unwrap_or_default();
    if ["pids", "memory", "cpu"].iter().any(|name| !there.split_ascii_whitespace().any(|word| word == *name)) {
        caplet_lab::skip!("the cgroup v2 here has no controllers pids, memory and cpu: {there:?}");
    }
    fail_each_call("bound");
}
