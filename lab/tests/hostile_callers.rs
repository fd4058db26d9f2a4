//! A caller who prepared everything: namespaces, mounts, links, limits, descriptors, names, user databases and file
//! systems that do not answer. Rows of attacks.md, parts A, B and C, that no other file holds.

use caplet_lab::{Lab, Output, ProcStatus, Session, SharedLab, need, shared, skip};
use nix::sys::signal::Signal;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

static LAB: SharedLab = SharedLab::new();

const HELPER: &str = "/usr/libexec/caplet/caplet-helper";

const POLICY: &str = r#"
[profile.own]
users = ["*"]
may_add = ["ALL"]
writable = ["/srv/scratch"]

[profile.real]
users = ["*"]
scope = "host"
caps = ["SYS_NICE"]
pam_account = false

[profile.bound]
users = ["*"]
scope = "host"
caps = ["SYS_TIME"]
commands = ["/usr/bin/date"]
pam_account = false

[profile.sums]
users = ["*"]
scope = "host"
caps = ["DAC_READ_SEARCH"]
accept_root_equivalent = true
commands = ["/usr/bin/sha256sum"]
pam_account = false

[profile.alone]
users = ["*"]
scope = "host"
caps = ["DAC_READ_SEARCH"]
accept_root_equivalent = true
commands = ["/usr/bin/sha256sum"]
groups_keep = []
pam_account = false

[profile.dumps]
users = ["*"]
scope = "host"
caps = ["DAC_READ_SEARCH"]
accept_root_equivalent = true
commands = ["/usr/bin/sha256sum"]
limits = { core = "unlimited" }
pam_account = false
"#;

fn machine() -> caplet_lab::Builder {
    Lab::new()
        .user("alice", &["students"])
        .user("bob", &[])
        .user("mallory", &[])
        .file("/srv/scratch/keep", "", 0o666, "root")
        .file("/srv/scratch2/keep", "", 0o666, "root")
        .file("/srv/secret/tool", "#!/bin/sh\n", 0o755, "root")
        .file("/srv/secret/grades", "alice 1, bob 6\n".repeat(99), 0o600, "root")
        .policy(POLICY)
}

fn lab() -> Option<&'static Lab> {
    let lab = shared(&LAB, machine)?;
    static READY: std::sync::Once = std::sync::Once::new();
    READY.call_once(|| {
        lab.root("chmod 777 /srv/scratch /srv/scratch2; chmod 700 /srv/secret");
    });
    Some(lab)
}

/// One clear line and 125, and nothing ran.
#[track_caller]
fn refused(out: &Output) {
    assert_eq!((out.code(), out.out().as_str()), (125, ""), "{out}");
    assert!(out.err().starts_with("caplet: ") && !out.err().contains("panicked"), "{out}");
}

fn run<'l>(lab: &'l Lab, profile: &str, words: &[&str]) -> caplet_lab::Task<'l> {
    lab.task("alice", [&["caplet", "run", "--quiet", "-p", profile], words].concat())
}

// CVE-2025-32462, CVE-2023-7090, T38, "user namespace caller"
#[test]
fn in_a_user_namespace_with_a_policy_and_a_host_name_of_ones_own_nothing_is_granted() {
    let Some(lab) = lab() else { return };
    let own = "printf '[profile.evil]\\nusers = [\"*\"]\\nscope = \"host\"\\ncaps = [\"ALL\"]\\naccept_root_equivalent = true\\n' >/home/alice/p";
    lab.sh("alice", own).expect_ok();
    for (flags, line) in [
        ("-Urm", "mount --bind /home/alice/p /etc/caplet/policy.toml; caplet run -p evil id -u"),
        ("-Ur --uts", "hostname lab-1; caplet run -p real id -u"),
        ("-Urmp --fork", "mount -t proc p /proc; caplet run -p real id -u"),
        (
            "-Urm",
            "mount -t tmpfs t /etc; mkdir /etc/caplet; cp /home/alice/p /etc/caplet/policy.toml; caplet run id -u",
        ),
        ("-U", "caplet run -p real id -u"),
        (
            "-Ur",
            "mkdir -p /home/alice/r/usr/bin; cp -a /usr/libexec/caplet/caplet-helper /home/alice/r/h; chroot /home/alice/r /h run id",
        ),
        ("-Un", "caplet run -p own id -u"),
    ] {
        let out = lab.sh("alice", &format!("unshare {flags} sh -c '{line}'"));
        assert_ne!(out.code(), 0, "{flags} {line}: {out}");
        assert!(!out.out().contains('0') && !out.out().contains("uid="), "{flags} {line}: {out}");
    }
}

// T38, "no_new_privs" of part B
#[test]
fn a_helper_that_lies_elsewhere_has_no_power_and_a_hard_link_no_other_policy() {
    let Some(lab) = lab() else { return };
    lab.root("mkdir -p /mnt/nosuid; mount -t tmpfs -o nosuid t /mnt/nosuid; cp -a /usr/libexec/caplet/caplet-helper /mnt/nosuid/h");
    let out = lab.run_as("alice", ["/mnt/nosuid/h", "run", "--", "id"]);
    refused(&out);
    assert!(out.err().contains("mounted nosuid"), "{out}");
    lab.root("umount /mnt/nosuid");
    // By the user: a link that the kernel refuses (protected_hardlinks), a copy without the bit.
    assert_ne!(lab.sh("alice", &format!("ln {HELPER} ~/h && ~/h list")).code(), 0);
    let line = format!("cp {HELPER} ~/h; chmod 4755 ~/h; ~/h run --profile=real -- grep CapEff /proc/self/status");
    assert!(!lab.sh("alice", &line).out().contains("0000000000800000"));
    // Made by root, or where links are free: another name of the same file, the same policy.
    lab.root(&format!("ln {HELPER} /usr/libexec/caplet/other"));
    let out =
        lab.run_as("alice", ["/usr/libexec/caplet/other", "run", "--add=SYS_MODULE", "--profile=real", "--", "id"]);
    refused(&out);
    lab.root("rm /usr/libexec/caplet/other");
    let out = lab.sh("alice", "strace -o /dev/null caplet run -p real id");
    assert_ne!(out.code(), 0, "{out}");
}

// CVE-2021-3156, CVE-2021-4034: the mode is never chosen by a name
#[test]
fn argv0_selects_nothing_in_the_helper_and_odd_words_are_refused() {
    let Some(lab) = lab() else { return };
    let with = |name: &str, words: &[&str]| {
        let mut line = vec!["bash", "-c", "name=$1; shift; exec -a \"$name\" \"$0\" \"$@\"", HELPER, name];
        line.extend_from_slice(words);
        lab.run_as("alice", line)
    };
    for name in ["sudoedit", "caplet-shell", "-caplet-shell", "-sh", "", "rejudge", "unplug", "../../x\n"] {
        assert_eq!(
            with(name, &["run", "--profile=real", "--quiet", "--", "id", "-u"]).expect_ok().out(),
            lab.uid("alice").to_string()
        );
        refused(&with(name, &["run", "--profile=real", "--add=SYS_MODULE", "--", "id"]));
    }
    for words in [
        &["-s", "\\"][..],
        &["rejudge", "5001", "real"],
        &["unplug", "lab"],
        &["run", "--uid=0", "--", "id"],
        &["run", "--user=bob", "--", "id"],
        &["run", "--machine=lab-1", "--", "id"],
        &["run", "--policy=/home/alice/p", "--", "id"],
        &["list", "--user=bob"],
        &["end", "../../../etc/passwd"],
    ] {
        let out = with("caplet-helper", words);
        assert_ne!(out.code(), 0, "{words:?}: {out}");
        assert_eq!(out.out(), "", "{words:?}: {out}");
    }
}

/// They judge whoever they are told, and take links away.
#[test]
fn verbs_between_helpers_of_roots_answer_nobody_else() {
    let Some(lab) = lab() else { return };
    let words = "rejudge 5001 5001 alice isolated '' 5001 5001 no no '' run --profile=own -- id";
    let by_words = format!("exec {HELPER} {words}");
    let by_environment = format!(
        "number=0; for word in {words}; do set -- \"$@\" \"WORD$(printf %04d $number)=$word\"; number=$((number+1)); done; \
         exec env -i \"$@\" {HELPER} rejudge"
    );
    for line in [&by_words, &by_environment] {
        let _ = lab.sh("root", line).expect_code(0);
        let _ = lab.sh("root", &line.replace("=own", "=none")).expect_code(10);
    }
    let by_port = format!("exec {HELPER} unplug 5001 lab 4711");
    for (line, why) in [
        (by_words, "rejudge is root's alone"),
        (by_environment, "rejudge is root's alone"),
        (format!("exec {HELPER} unplug 5001 lab"), "unplug UID NAME [PORT] is for root"),
        (by_port, "unplug UID NAME [PORT] is for root"),
        (format!("exec {HELPER} sweep-for 5001"), "sweep-for UID is for root"),
    ] {
        let out = lab.sh("alice", &line).expect_code(125);
        assert!(out.out().is_empty() && out.err().contains(why), "{line}: {out}");
    }
}

// CVE-2019-19232, CVE-2019-14287, CVE-2019-15900, CVE-2023-42456
#[test]
fn who_has_no_name_or_an_odd_one_or_that_of_another_gets_nothing_and_writes_nowhere() {
    let Some(lab) = machine().start() else { return };
    let by = |id: &str| {
        let words =
            ["setpriv", "--reuid", id, "--regid", "5001", "--clear-groups", "caplet", "run", "-p", "real", "id"];
        lab.run_as("root", words)
    };
    let out = by("77777");
    refused(&out);
    assert!(out.err().contains("uid 77777 has no passwd entry"), "{out}");
    refused(&by("4294967294"));
    // Two names for one uid, two uids for one name: whom the policy speaks of is not sure.
    lab.root(
        "echo alias:x:5001:5001::/home/alice:/bin/sh >>/etc/passwd; echo bob:x:6500:5001::/:/bin/sh >>/etc/passwd",
    );
    refused(&by("6500"));
    // Names as a directory service could give them: state is kept by uid, and the log stays one line.
    for (id, name) in [
        ("7001", "../../../../etc/cron.d/x"),
        ("7002", "a b=c\" user=root"),
        ("7003", "\u{202e}evil"),
        ("7004", "#0"),
        ("7005", "*"),
    ] {
        lab.root(&format!("printf '%s\\n' '{name}:x:{id}:5001::/:/bin/sh' >>/etc/passwd"));
        let out = by(id);
        assert!(out.out().is_empty() || out.out().contains(&format!("uid={id}")), "{name}: {out}");
        assert!(!lab.exists("/etc/cron.d/x"), "{name}");
        let state = lab.root("ls -A /run/caplet /var/lib/caplet").out();
        assert!(!state.contains("cron") && !state.contains("evil"), "{name}: {state}");
        for record in lab.log().find("grant", &[]).iter().chain(&lab.log().find("refuse", &[])) {
            assert!(!record.text().contains(['\n', '\u{202e}']), "{:?}", record.text());
            record.fields();
        }
    }
}

/// Whoever does not read what `list` and `--dry-run` say keeps processes of their own, which count as theirs and end by
/// their signal.
#[test]
fn who_does_not_read_the_answer_holds_no_process_of_roots() {
    let Some(lab) = lab() else { return };
    let program = format!(
        "import os,fcntl,time,subprocess,signal\n\
         r,w=os.pipe(); fcntl.fcntl(w,1031,4096)\n\
         os.set_blocking(w,False)\n\
         try:\n    while True: os.write(w,b'x'*4096)\n\
         except BlockingIOError: pass\n\
         os.set_blocking(w,True)\n\
         for words in (['list'],['judge','--profile=own','--','true']):\n\
         \x20   p=subprocess.Popen(['{HELPER}']+words,stdout=w,env={{'PATH':'/usr/bin:/bin'}},pass_fds=())\n\
         \x20   until=time.time()+20\n\
         \x20   def ids(): return next(l.split()[1:] for l in open(f'/proc/{{p.pid}}/status') if l.startswith('Uid'))\n\
         \x20   while time.time()<until and set(ids())!={{str(os.getuid())}}: time.sleep(0.05)\n\
         \x20   time.sleep(0.3); print(p.poll(), *ids(), flush=True)\n\
         \x20   p.kill(); print(p.wait(), flush=True)"
    );
    let uid = lab.uid("alice").to_string();
    let out = lab.python("alice", &program).expect_ok().out();
    let line = format!("None {uid} {uid} {uid} {uid}\n-9");
    assert_eq!(out, format!("{line}\n{line}"));
}

// CVE-2023-2002, CVE-2019-14287, CVE-2026-35535 and sudo's kill(-1): what the kernel is asked
#[test]
fn no_ioctl_on_a_socket_no_id_of_minus_one_and_no_signal_to_everybody() {
    need!("strace");
    let Some(lab) = lab() else { return };
    for profile in ["own", "real"] {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let words =
            ["strace", "-f", "-qq", "-b", "execve", "-u", "alice", "-o", "/root/trace", HELPER, "run", "--quiet"];
        let profile = format!("--profile={profile}");
        let task = lab
            .task("root", [&words[..], &[&profile, "--", "/bin/true"]].concat())
            .cwd("/")
            .env("PATH", "/usr/bin:/bin");
        let copy = |fd: &std::os::unix::net::UnixStream| fd.try_clone().expect("dup");
        task.descriptor(copy(&theirs), 0).descriptor(copy(&theirs), 1).run().expect_ok();
        drop((ours, theirs));
        let trace = lab.read("/root/trace");
        assert!(trace.contains("exit_group"), "{trace}");
        for line in trace.lines() {
            let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
            assert!(!call.starts_with("ioctl(0,") && !call.starts_with("ioctl(1,"), "{profile}: {line}");
            let ids = ["setuid(", "setgid(", "setresuid(", "setresgid(", "setreuid(", "setregid("];
            if ids.iter().any(|name| call.starts_with(name)) {
                assert!(!call.contains("-1"), "{profile}: {line}");
            }
            assert!(!call.starts_with("kill(-1") && !call.starts_with("kill(0"), "{profile}: {line}");
        }
    }
}

// CVE-2021-23239, CVE-2025-46717, CVE-2025-46718: no answer tells what a user may not see
#[test]
fn a_refusal_says_nothing_of_files_profiles_and_people_that_one_cannot_see() {
    let Some(lab) = lab() else { return };
    let answer = |file: &str| {
        let out = run(lab, "bound", &[file]).run();
        (out.code(), out.out(), out.err().replace(file, "FILE"))
    };
    let missing = answer("/srv/secret/none");
    assert_eq!(missing.0, 125);
    for file in ["/srv/secret/tool", "/root/x", "/srv/secret/none/deeper", "/etc/shadow", "/home/bob/x"] {
        assert_eq!(answer(file), missing, "{file}");
    }
    let out = lab.run_as("alice", ["caplet", "check", "--as", "bob"]);
    let other = lab.run_as("alice", ["caplet", "check", "--as", "nobody-at-all"]);
    for out in [out, other] {
        assert!(out.code() != 0 && out.out().is_empty() && !out.err().contains("profile"), "{out}");
    }
}

// Part B: limits, and a bounding set of which little is left
#[test]
fn too_little_of_anything_is_a_whole_run_or_one_line() {
    let Some(lab) = lab() else { return };
    for profile in ["own", "real"] {
        for line in [
            "ulimit -n 3",
            "ulimit -n 4",
            "ulimit -n 5",
            "ulimit -n 7",
            "ulimit -n 8",
            "ulimit -s 64",
            "ulimit -v 30000",
            "ulimit -d 1024",
            "ulimit -l 0",
            "ulimit -i 0",
            "ulimit -q 0",
            "ulimit -c unlimited",
            "ulimit -s unlimited",
            "ulimit -t 1",
            "ulimit -f 0",
            "ulimit -u 0",
        ] {
            let line = format!("{line}; exec caplet run --quiet -p {profile} /bin/echo whole");
            let out = lab.sh("alice", &line);
            let words = format!("{}{}", out.out(), out.err());
            let whole = out.out() == "whole" && out.code() == 0;
            // The front end itself, or the shell before it, may not start under such a limit.
            let refused = out.out().is_empty() && out.code() != 0;
            assert!(whole || refused, "{line}: {out}");
            assert!(!words.contains("panicked") && !words.contains(".rs:"), "{line}: {out}");
        }
        let bounded = ["setpriv", "--reuid", "alice", "--regid", "alice", "--clear-groups", "--inh-caps=-all"];
        for set in [
            "-all",
            "-all,+net_raw",
            "-setuid",
            "-setpcap",
            "-sys_admin",
            "-setgid",
            "-kill",
            "-chown",
            "-dac_override",
        ] {
            let set = format!("--bounding-set={set}");
            let words =
                [&bounded[..], &[&set, "caplet", "run", "--quiet", "-p", profile, "cat", "/proc/self/status"]].concat();
            let out = lab.run_as("root", words);
            if out.ok() {
                let caps = out.proc_status().caps();
                let wanted = if profile == "real" { 1 << 23 } else { 0 };
                assert_eq!(
                    (caps.effective, caps.permitted, caps.ambient, caps.bounding),
                    (wanted, wanted, wanted, wanted),
                    "{set}"
                );
            } else {
                refused(&out);
            }
        }
    }
    assert_eq!(
        lab.root("find / -xdev -name 'core*' -newer /etc/caplet/policy.toml -type f 2>/dev/null | grep -v /proc; true")
            .out(),
        ""
    );
}

// T02, CVE-2013-1959: descriptors whose bytes would mean something
#[test]
fn nothing_of_ours_is_written_into_a_descriptor_of_the_callers_that_means_something() {
    let Some(lab) = lab() else { return };
    for target in [
        "/proc/self/uid_map",
        "/proc/self/gid_map",
        "/proc/self/mem",
        "/proc/self/oom_score_adj",
        "/proc/self/coredump_filter",
    ] {
        for number in 0..3 {
            let program = format!(
                "import os\nf=os.open('{target}',os.O_RDWR)\nos.dup2(f,{number})\n\
                 os.execv('/usr/bin/caplet',['caplet','run','--quiet','-p','own','echo','0 0 1'])"
            );
            let out = lab.python("alice", &program);
            assert_eq!(out.code(), 125, "{target} as {number}: {out}");
        }
    }
    // Closed: no file of ours lands there.
    for numbers in ["0", "1", "2", "0,1", "1,2", "0,1,2"] {
        let program = format!(
            "import os\nfor n in ({numbers},): os.close(n)\n\
             os.execv('/usr/bin/caplet',['caplet','run','--quiet','-p','real','/usr/bin/python3','-c',\
             'import os; open(\"/home/alice/fds\",\"w\").write(repr([os.readlink(\"/proc/self/fd/%d\"%n) for n in range(3)]))'])"
        );
        lab.python("alice", &program);
        let seen = lab.read("/home/alice/fds");
        assert!(!seen.contains("caplet") && !seen.contains("/run") && !seen.contains("/etc"), "{numbers}: {seen}");
        lab.root("rm /home/alice/fds");
    }
}

/// A command of the policy's that reads what its user may not (here it prints sums alone) hands nothing over by a core: it
/// is no more dumpable than a setuid program is, and nobody raises the limit, which what it starts has too.
#[test]
fn no_core_hands_over_what_a_command_of_the_policys_has_read() {
    // What sudo(8) takes away where the tests are started by it.
    let own = std::process::id().to_string();
    let raised = std::process::Command::new("prlimit").args(["--core=unlimited", "--pid", &own]).status();
    if !raised.is_ok_and(|status| status.success()) {
        skip!("the limit for cores is nobody's to raise here, and sudo has lowered it");
    }
    // A machine of its own: others look for cores.
    let Some(lab) = machine().start() else { return };
    lab.root("chmod 700 /srv/secret");
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    for (profile, words, dumpable) in [
        ("sums", &["/usr/bin/sha256sum", "/srv/secret/grades", "-"][..], false),
        // Of no group but the primary one, which is then asked for at exec.
        ("alone", &["/usr/bin/sha256sum", "/srv/secret/grades", "-"], false),
        // The policy's word on the limit leaves the first process what it is.
        ("dumps", &["/usr/bin/sha256sum", "/srv/secret/grades", "-"], false),
        ("real", &["cat"], true),
    ] {
        let folder = format!("/home/alice/core-{profile}");
        lab.root(&format!("install -d -o alice {folder}")).expect_ok();
        let line = "ulimit -c unlimited; exec caplet run --quiet -p \"$@\"";
        let before = ["sh", "-c", line, "sh", profile, "--"];
        let mut running = lab.task("alice", before.iter().chain(words)).cwd(&folder).stdin_open().spawn();
        let command = Session::host(&running).command;
        let proc = std::fs::metadata(format!("/proc/{command}/environ")).expect("its environment");
        assert_eq!(proc.uid() != 0, dumpable, "{profile}");
        let limits = std::fs::read_to_string(format!("/proc/{command}/limits")).expect("its limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("core");
        let core: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(core, if ["sums", "alone"].contains(&profile) { ["1", "1"] } else { ["unlimited"; 2] }, "{profile}");
        let status = ProcStatus::of(command).expect("its status");
        assert_eq!(status.gids(), [lab.gid("alice"); 4], "{profile}: no other group is left for files");
        let caps = if profile == "real" { 1 << 23 } else { 1 << 2 };
        assert_eq!((status.caps().effective, status.caps().ambient), (caps, caps), "{profile}");
        let inside = *status.namespace_pids().last().expect("its number");
        lab.sh("alice", &format!("kill -SEGV {inside}")).expect_ok();
        running.wait();
        let dumped = lab.root(&format!("ls -A {folder}")).out();
        if dumpable {
            assert_eq!(dumped.is_empty(), pattern.starts_with('|') || pattern.starts_with('/'), "{profile}: {pattern}");
        } else {
            assert_eq!(dumped, "", "{profile}");
        }
    }
}

// T13: a path of the profile is compared by its parts
#[test]
fn what_begins_like_a_writable_path_is_not_writable() {
    let Some(lab) = lab() else { return };
    let line = "for f in /srv/scratch/x /srv/scratch2/x /srv/scratch/../x /srv/x /srv/scratch2/../scratch2/y; do (echo x >$f) 2>/dev/null && echo $f; done; true";
    assert_eq!(run(lab, "own", &["sh", "-c", line]).run().expect_ok().out(), "/srv/scratch/x");
    lab.root("rm /srv/scratch/x");
}

// T28: with every capability of the session, the kernel's doors that ask for the machine's own stay shut
#[test]
fn the_doors_that_ask_for_the_machines_own_capabilities_stay_shut() {
    let Some(lab) = lab() else { return };
    if cfg!(not(target_arch = "x86_64")) {
        skip!("the numbers are x86_64's");
    }
    let program = r#"
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *words):
    r = libc.syscall(*[ctypes.c_long(w) if isinstance(w, int) else w for w in words])
    if r >= 0: print('OPEN', name)
attr = struct.pack('IIQQ', 3, 2, 0, 0) + bytes(100)
call('init_module', 175, b'x', 1, b'')
call('finit_module', 313, 0, b'', 0)
call('kexec_load', 246, 0, 0, 0, 0)
call('clock_settime', 227, 0, struct.pack('qq', 1, 0))
call('settimeofday', 164, struct.pack('qq', 1, 0), 0)
call('adjtimex', 159, struct.pack('I', 1) + bytes(300))
call('swapon', 167, b'/tmp/x', 0)
call('acct', 163, b'/tmp/x')
call('iopl', 172, 3)
call('ioperm', 173, 0x80, 1, 1)
call('syslog clear', 103, 5, 0, 0)
call('quotactl', 179, 0x800002, b'/dev/vda', 0, 0)
call('lookup_dcookie', 212, 0, 0, 0)
call('bpf prog', 321, 5, attr, len(attr))
call('perf of all', 298, struct.pack('II', 0, 120) + bytes(112), -1, 0, -1, 0)
call('unshare user', 272, 0x10000000)
call('clone3 user', 435, struct.pack('Q', 0x10000000) + bytes(24) + struct.pack('Q', 17) + bytes(24), 64)
call('add_key trusted', 248, b'trusted', b'x', b'new 32', 6, -3)
call('keyctl of root', 250, 6, 1, 0, 0, 0)
call('kcmp', 312, 1, os.getpid(), 0, 0, 0)
print('tried')
"#;
    let out = lab.run_as(
        "alice",
        ["caplet", "run", "--quiet", "-p", "own", "--cap-add", "ALL", "/usr/bin/python3", "-c", program],
    );
    assert_eq!(out.expect_ok().out(), "tried");
}

// "being run inside itself", "being run by root", CVE-2024-21626's cousins: what one session gives to another
#[test]
fn inside_itself_it_has_no_power() {
    let Some(lab) = lab() else { return };
    for profile in ["own", "real"] {
        let line = format!(
            "{HELPER} run --profile=real -- id; caplet run -p real id; {HELPER} list; {HELPER} sweep; {HELPER} end 00"
        );
        let out = run(lab, profile, &["sh", "-c", &line]).run();
        assert!(!out.out().contains("uid=") && out.err().contains("no_new_privs"), "{profile}: {out}");
    }
}

// "group membership": very many groups
#[test]
fn three_thousand_groups_are_a_whole_run_or_one_line() {
    let Some(lab) = lab() else { return };
    let program = "import os\nos.setgroups(list(range(100000,103000)))\nos.setgid(5001)\nos.setresuid(5001,5001,5001)\n\
        os.environ['HOME']='/home/alice'\nos.execv('/usr/bin/caplet',['caplet','run','--quiet','-p',PROFILE,'sh','-c','grep Groups /proc/self/status | wc -w; echo whole'])";
    for profile in ["own", "real"] {
        let out = lab.python("root", &format!("PROFILE='{profile}'\n{program}"));
        if out.ok() {
            assert_eq!(out.out(), "3002\nwhole", "{profile}");
        } else {
            refused(&out);
        }
    }
}

// T14 and "10^5 includes": what is large
#[test]
fn a_policy_of_any_size_is_read_or_refused_in_time() {
    let Some(lab) = machine().start() else { return };
    let timed = |what: &str, works: bool| {
        let start = Instant::now();
        let out = run(&lab, "real", &["echo", "whole"]).run();
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
        if works { assert_eq!(out.expect_ok().out(), "whole", "{what}") } else { refused(&out) }
    };
    lab.root("truncate -s 1G /etc/caplet/policy.d/z.toml");
    timed("a gibibyte of NUL", false);
    lab.root("rm /etc/caplet/policy.d/z.toml; head -c 3000000 /dev/urandom >/etc/caplet/policy.d/z.toml");
    timed("noise", false);
    lab.root("rm /etc/caplet/policy.d/z.toml; cd /etc/caplet/policy.d; for i in $(seq 3000); do printf '[profile.p%s]\\nusers = [\"bob\"]\\n' $i >$i.toml; done");
    timed("3,000 drop-ins", true);
    lab.root("printf '[profile.p1]\\nusers = [\"bob\"]\\n' >/etc/caplet/policy.d/zz.toml");
    timed("a name twice", false);
}

/// A user database that never answers for alice, and answers for everybody else.
const DEAD_NSS: &str = r#"
#include <nss.h>
#include <pwd.h>
#include <unistd.h>
enum nss_status _nss_dead_getpwuid_r(uid_t uid, struct passwd *p, char *b, size_t n, int *e) {
    while (uid == 5001 && !access("/run/dead", F_OK)) sleep(1);
    return NSS_STATUS_NOTFOUND;
}
"#;

// "NSS that hangs", CVE-2021-3560: no answer is no grant, and nobody else waits for it
#[test]
fn a_user_database_that_hangs_holds_its_own_user_alone() {
    let Some(lab) = machine().start() else { return };
    lab.write("/root/dead.c", DEAD_NSS, 0o644, "root");
    lab.root(
        "dir=$(dirname $(ldconfig -p | sed -n 's/.*libc.so.6.*=> //p' | head -1)); cc -shared -fPIC -o $dir/libnss_dead.so.2 /root/dead.c; \
         sed -i 's/^passwd:.*/passwd: dead files/' /etc/nsswitch.conf; touch /run/dead",
    );
    for profile in ["own", "real"] {
        let mut hangs = run(&lab, profile, &["echo", "whole"]).spawn();
        std::thread::sleep(Duration::from_millis(500));
        assert!(hangs.alive() && hangs.out_so_far().is_empty(), "{profile}: {}", hangs.err_so_far());
        lab.run_as("bob", ["caplet", "run", "--quiet", "-p", profile, "true"]).expect_ok();
        // Its user can end it.
        lab.sh("alice", &format!("kill -TERM {}", hangs.pid_inside())).expect_ok();
        assert!(!hangs.wait().success());
    }
    lab.root("rm /run/dead");
    run(&lab, "own", &["true"]).run().expect_ok();
    // One that fails is no answer either, and nobody is taken for root.
    lab.root("sed -i 's/^passwd:.*/passwd: dead [NOTFOUND=return] files/' /etc/nsswitch.conf");
    refused(&run(&lab, "real", &["id"]).run());
    assert_eq!(lab.processes_left(), []);
}

// T37 and "FUSE that hangs": a file system of the user's whose daemon stands still
#[test]
fn a_file_system_that_hangs_holds_its_own_user_alone() {
    need!("bindfs", "fusermount3");
    let Some(lab) = machine().start() else { return };
    if !lab.exists("/dev/fuse") {
        skip!("no /dev/fuse here");
    }
    lab.root("chmod 666 /dev/fuse; mkdir -p /data/homes; chown alice /data/homes; usermod -d /data/homes/alice alice");
    lab.sh("alice", "mkdir -p /tmp/src/alice").expect_ok();
    let mounted = lab.sh("alice", "bindfs --no-allow-other /tmp/src /data/homes");
    if mounted.code() != 0 {
        skip!("bindfs does not mount here: {}", mounted.err());
    }
    run(&lab, "own", &["true"]).cwd("/").run().expect_ok();
    lab.root("pkill -STOP bindfs; sleep 2");
    let mut hangs = run(&lab, "own", &["true"]).cwd("/").spawn();
    std::thread::sleep(Duration::from_millis(500));
    assert!(hangs.alive());
    lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "own", "true"]).expect_ok();
    hangs.signal(Signal::SIGKILL);
    hangs.wait();
    lab.root("pkill -CONT bindfs; sleep 0.2");
    let _ = lab.sh("alice", "fusermount3 -u /data/homes");
    assert_eq!(lab.processes_left(), []);
    lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "own", "true"]).expect_ok();
    assert_eq!(lab.root("ls -I auth /run/caplet").out(), "");
}

// T30, R1: the registry, and what a user could put there
#[test]
fn nobody_can_fake_read_or_lock_a_sessions_record() {
    let Some(lab) = lab() else { return };
    run(lab, "own", &["true"]).run().expect_ok();
    for line in [
        "ls /run/caplet",
        "touch /run/caplet/5001.0",
        "cat /var/lib/caplet/log.key",
        "flock /run/caplet true",
        "mkdir /run/caplet/auth",
    ] {
        assert_ne!(lab.sh("alice", line).code(), 0, "{line}");
    }
    // Of somebody who has no session, as alice does in other tests.
    let mut fake = lab.task("mallory", ["bash", "-c", "exec -a caplet-helper sleep 5"]).spawn();
    let out = lab.run_as("root", ["caplet", "sessions", "--json"]).expect_ok().out();
    assert!(!out.contains("mallory"), "{out}");
    fake.signal(Signal::SIGKILL);
    fake.wait();
}

// Part D, 7: a fork bomb, and attempt after attempt (10,000 with CAPLET_FULL): the machine and the others go on
#[test]
fn a_bomb_and_attempt_after_attempt_leave_the_machine_answering() {
    let policy = "[profile.bounded]\nusers = [\"alice\"]\nlimits = { nproc = 60 }\nmax_sessions = 3\n[profile.own]\nusers = [\"bob\"]\n";
    let Some(lab) = Lab::new().user("alice", &[]).user("bob", &[]).policy(policy).start() else { return };
    let answers = |what: &str| {
        let start = Instant::now();
        lab.run_as("bob", ["caplet", "run", "--quiet", "true"]).expect_ok();
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:?}", start.elapsed());
    };
    let bomb = "f() { f | f & }; f 2>/dev/null; sleep 3; ls -d /proc/[0-9]* | wc -l";
    let mut running = lab.task("alice", ["caplet", "run", "--quiet", "bash", "-c", bomb]).spawn();
    std::thread::sleep(Duration::from_millis(1500));
    answers("a fork bomb");
    running.signal(Signal::SIGTERM);
    running.wait();
    assert_eq!(lab.processes_left(), [], "the bomb ends with its session");
    let attempts = if std::env::var_os("CAPLET_FULL").is_some() { 10_000 } else { 500 };
    let line = format!("for i in $(seq {attempts}); do caplet run -p none true; done 2>&1 | sort | uniq -c | wc -l");
    let mut refused = lab.task("alice", ["bash", "-c", &line]).limit(400).spawn();
    std::thread::sleep(Duration::from_millis(500));
    answers("attempt after attempt");
    assert!(refused.wait().success());
    answers("after all attempts");
    assert_eq!(lab.root("ls -I auth /run/caplet").out(), "");
}

/// Whoever takes in orphans and waits for none keeps what has ended of ours as zombies: they count as that user's
/// processes (RLIMIT_NPROC), and not as the machine's.
#[test]
fn what_is_left_of_ended_processes_counts_as_the_users() {
    need!("python3");
    let Some(lab) = machine().start() else { return };
    let program = "
import ctypes, os, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
def start(words, after=None):
    pid = os.fork()
    if pid == 0:
        os.execv(words[0], words)
    try:
        if after is not None:
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)
    except PermissionError:
        pass
run = ['/usr/bin/caplet', 'run', '--quiet', '-p']
for n in range(4):
    start(['/usr/libexec/caplet/caplet-helper', 'sweep'])
    start(['/usr/bin/caplet', 'run', '-p', 'none', 'true'])
    start(run + ['own', 'true'])
    start(run + ['real', '/usr/bin/python3', '-c', '0'])
    start(run + ['own', 'sleep', '9'], 0.3)
for n in range(60):
    start(run + ['own', 'true'], n * 0.0005)
    start(run + ['real', 'true'], n * 0.0005)
time.sleep(4)
found = []
for pid in filter(str.isdigit, os.listdir('/proc')):
    status = dict(line.split(':\\t') for line in open(f'/proc/{pid}/status').read().splitlines() if ':\\t' in line)
    if status['PPid'] == str(os.getpid()):
        found.append((status['Name'], status['State'][0], status['Uid'].split()[0]))
print(sorted(found))
";
    let out = lab.python("alice", program);
    assert!(out.out().matches("('caplet-helper', 'Z', '").count() > 30 && !out.out().contains("'0')"), "{out}");
}
