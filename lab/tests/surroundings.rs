//! What the caller leaves behind for the helper, and what lies around it: part B of attacks.md, FUSE, load.

use caplet_lab::{Lab, SharedLab, need, shared, skip};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.own]
users = ["alice"]
max_sessions = 400
may_add = ["NET_RAW"]

[profile.real]
users = ["alice"]
scope = "host"
pam_account = false
max_sessions = 400
"#;

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || Lab::new().user("alice", &[]).user("bob", &[]).policy(POLICY))
}

/// Runs `caplet` from Python after some hostile preparation; what `sh -c LINE` in the session printed.
fn after(lab: &Lab, preparation: &str, line: &str) -> Vec<String> {
    let run = |profile: &str| {
        let program = format!(
            "import os,signal,resource,socket,ctypes,sys\n{preparation}\n\
             os.execv('/usr/bin/caplet',['caplet','run','--quiet','-p','{profile}','sh','-c',{line:?}])"
        );
        let out = lab.python("alice", &program);
        format!("{} {}", out.code(), out.out())
    };
    ["own", "real"].map(run).into()
}

#[test]
fn what_the_caller_left_us_does_not_reach_the_command() {
    let Some(lab) = lab() else { return };
    let status = |name: &str| format!("grep {name} /proc/self/status | tr -d '\\t'; exit 42");
    let may_raise = lab.full() & (1 << 24) != 0; // CAP_SYS_RESOURCE
    for (preparation, line, wanted) in [
        (
            "[os.dup2(1,n) for n in range(3,200)]\nfor n in range(3,200): os.set_inheritable(n,True)",
            "ls /proc/self/fd | wc -l; exit 42",
            "42 4",
        ),
        ("signal.signal(signal.SIGCHLD,signal.SIG_IGN)", &status("SigIgn"), "42 SigIgn:0000000000000000"),
        ("signal.pthread_sigmask(signal.SIG_BLOCK,range(1,64))", &status("SigBlk"), "42 SigBlk:0000000000000000"),
        ("resource.setrlimit(resource.RLIMIT_FSIZE,(0,resource.RLIM_INFINITY))", "ulimit -f; exit 42", "42 0"),
        // Where root itself may raise no hard limit, no record can be written, and without one there is no session.
        (
            "resource.setrlimit(resource.RLIMIT_FSIZE,(0,0))",
            "ulimit -f; exit 42",
            if may_raise { "42 0" } else { "125 " },
        ),
        ("resource.setrlimit(resource.RLIMIT_STACK,(65536,65536))", "exit 42", "42 "),
        ("resource.setrlimit(resource.RLIMIT_NOFILE,(64,64))", "ulimit -n; exit 42", "42 64"),
        ("os.umask(0)", "umask; exit 42", "42 0000"),
        (
            "d=os.mkdir('/tmp/gone-%d'%os.getpid()); os.chdir('/tmp/gone-%d'%os.getpid()); os.rmdir('/tmp/gone-%d'%os.getpid())",
            "exit 42",
            "42 ",
        ),
        ("os.environ.update({'X%d'%n:'y'*100000 for n in range(14)})", "echo ${#X3}; exit 42", "42 100000"),
        (
            "os.environ['TMPDIR']='/home/alice'; os.environ['LD_LIBRARY_PATH']='/opt/lib'",
            "echo $TMPDIR $LD_LIBRARY_PATH; exit 42",
            "42 /home/alice /opt/lib",
        ),
    ] {
        let got = after(lab, preparation, line);
        assert_eq!(got, [wanted, wanted], "{preparation}");
    }
}

#[test]
fn a_shell_has_no_descriptor_but_the_three() {
    let Some(lab) = lab() else { return };
    for profile in ["own", "real"] {
        let shell = lab.task("alice", ["caplet", "shell", "--quiet", "-p", profile]).env("HOME", "/home/alice");
        let out = shell.stdin("ls /proc/self/fd | tr '\\n' ' '\n").run();
        assert_eq!(out.out().trim_end(), "0 1 2 3", "{profile}: the fourth is ls's own: {out}");
    }
}

#[test]
fn too_few_descriptors_or_a_timer_end_in_a_clean_refusal_or_a_whole_run() {
    let Some(lab) = lab() else { return };
    for preparation in [
        "resource.setrlimit(resource.RLIMIT_NOFILE,(6,6))",
        "resource.setrlimit(resource.RLIMIT_NOFILE,(4,4))",
        "signal.setitimer(signal.ITIMER_REAL,0.003)",
        "resource.setrlimit(resource.RLIMIT_NPROC,(0,0))",
        "resource.setrlimit(resource.RLIMIT_AS,(30<<20,30<<20))",
        "os.close(0);os.close(1);os.close(2)",
        "os.close(0)",
    ] {
        for got in after(lab, preparation, "echo ran; exit 42") {
            let whole = got == "42 ran" || got == "42 ";
            let refused = got == "125 ";
            // The command's own exec fails for want of a process: found, not executable.
            let refused = refused || got == "126 " && preparation.contains("NPROC");
            let died = preparation.contains("ITIMER") && !got.contains("ran");
            assert!(whole || refused || died, "{preparation}: {got}");
        }
    }
}

// CVE-2021-4034
#[test]
fn no_arguments_at_all_is_a_usage_error() {
    let Some(lab) = lab() else { return };
    let program = "import ctypes,os\nlibc=ctypes.CDLL(None)\n\
        null=(ctypes.c_char_p*1)(None)\nlibc.execve(b'/usr/libexec/caplet/caplet-helper',null,null)";
    let out = lab.python("alice", program);
    assert_eq!(out.code(), 125, "{out}");
    assert_eq!(out.err_lines().len(), 1, "{out}");
}

// T06, CVE-2024-21626
#[test]
fn descriptors_that_lead_out_of_a_session_are_refused() {
    let Some(lab) = lab() else { return };
    for (preparation, what) in [
        ("os.dup2(os.open('/',os.O_RDONLY),0)", "a folder"),
        ("os.dup2(os.open('/etc/passwd',os.O_PATH),0)", "a path descriptor"),
        ("os.dup2(os.open('/proc/self/ns/net',os.O_RDONLY),0)", "a namespace"),
        ("os.dup2(os.pidfd_open(os.getpid()),0)", "a process handle"),
        ("os.dup2(os.open('/proc/self/mem',os.O_RDWR),1)", "a writable file of /proc"),
    ] {
        for profile in ["own", "real"] {
            let program = format!(
                "import os\n{preparation}\nos.execv('/usr/bin/caplet',['caplet','run','-p','{profile}','true'])"
            );
            let out = lab.python("alice", &program);
            assert_eq!(out.code(), 125, "{preparation}: {out}");
            assert!(out.err().contains(what), "{preparation}: {out}");
        }
    }
}

// T38
#[test]
fn without_power_the_helper_says_why() {
    let Some(lab) = lab() else { return };
    let out = lab.run_as("alice", ["setpriv", "--no-new-privs", "caplet", "run", "-p", "own", "true"]);
    assert!(out.err().contains("no_new_privs is set"), "{out}");
    let out = lab.run_as("alice", ["unshare", "-U", "caplet", "run", "-p", "own", "true"]).expect_code(125);
    assert!(out.err().contains("user namespace"), "{out}");
    let out = lab.run_as("root", ["caplet", "run", "true"]).expect_code(125);
    assert!(out.err().starts_with("caplet: you are root"), "{out}");
}

// Part B: the caller's own inheritable and ambient sets
#[test]
fn the_callers_capability_sets_are_not_the_starting_point() {
    let Some(lab) = lab() else { return };
    let uid = lab.uid("alice").to_string();
    for profile in ["own", "real"] {
        let words = [
            "setpriv",
            "--reuid",
            &uid,
            "--regid",
            &uid,
            "--clear-groups",
            "--inh-caps",
            "+net_raw",
            "--ambient-caps",
            "+net_raw",
            "caplet",
            "run",
            "--quiet",
            "-p",
            profile,
            "cat",
            "/proc/self/status",
        ];
        let caps = lab.run_as("root", words).expect_ok().proc_status().caps();
        assert_eq!((caps.inheritable, caps.ambient, caps.effective, caps.bounding), (0, 0, 0, 0), "{profile}");
    }
}

/// With `no_setuid_fixup` the kernel takes no capability away where a process of uid 0 becomes a user, and with `noroot`
/// a setuid program gets none (capabilities(7)); a service or `setpriv` may leave a user with either, locked or not.
// Part B: the caller's own inheritable and ambient sets
#[test]
fn the_callers_securebits_neither_reach_the_command_nor_the_helpers_way_to_it() {
    let Some(lab) = lab() else { return };
    let uid = lab.uid("alice").to_string();
    let show = "grep -E '^(Cap|Uid|Gid|NoNewPrivs)' /proc/self/status; \
                python3 -c 'import ctypes; print(ctypes.CDLL(None).prctl(27,0,0,0,0))'";
    let with = |bits: &[&str], profile: &str| {
        let ids = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"];
        let run = ["caplet", "run", "--quiet", "-p", profile, "sh", "-c", show];
        lab.run_as("root", [&ids[..], bits, &run[..]].concat())
    };
    for profile in ["own", "real"] {
        let usual = with(&[], profile).expect_ok().out();
        assert_eq!(usual.lines().count(), 9, "{usual}");
        let open = with(&["--securebits", "+no_setuid_fixup"], profile).expect_ok().out();
        assert_eq!(open, usual, "{profile}");
        for (bits, why) in [
            ("+no_setuid_fixup,+no_setuid_fixup_locked", "the securebits of this process are locked"),
            ("+keep_caps_locked", "the securebits of this process are locked"),
            ("+noroot_locked", "the securebits of this process are locked"),
            ("+noroot", "noroot is among the securebits of this process"),
            ("+noroot,+noroot_locked", "noroot is among the securebits of this process"),
        ] {
            let out = with(&["--securebits", bits], profile).expect_code(125);
            assert_eq!((out.out().as_str(), out.err().lines().count()), ("", 1), "{profile} {bits}: {out}");
            assert!(out.err().contains(why), "{profile} {bits}: {out}");
        }
    }
}

// T37
#[test]
fn a_home_and_a_folder_deep_inside_fuse_work() {
    need!("bindfs", "fusermount3");
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    if !lab.exists("/dev/fuse") {
        skip!("no /dev/fuse here");
    }
    lab.root(
        "chmod 666 /dev/fuse; mkdir -p /data/homes; chown alice /data/homes; usermod -d /data/homes/deep/alice alice",
    );
    let _ =
        lab.sh("alice", "mkdir -p /tmp/src/deep/alice/work && echo mine > /tmp/src/deep/alice/work/file").expect_ok();
    let mounted = lab.sh("alice", "bindfs --no-allow-other /tmp/src /data/homes");
    if mounted.code() != 0 {
        skip!("bindfs does not mount here: {}", mounted.err());
    }
    assert!(lab.sh("root", "ls /data/homes/deep").code() != 0, "root may not enter it");
    let line = "pwd; cat file; echo more >> file; cd; pwd; cat work/file";
    let words = ["caplet", "run", "-p", "own", "sh", "-c", line];
    let out = lab.task("alice", words).cwd("/data/homes/deep/alice/work").env("HOME", "/data/homes/deep/alice").run();
    assert_eq!(out.expect_ok().out(), "/data/homes/deep/alice/work\nmine\n/data/homes/deep/alice\nmine\nmore");
}

/// A whole connection, with sshd(8) as the other end of a pipe and the user's own key: `~/.ssh` is found by uid and
/// name, its modes are judged, and a file goes over as it would outside.
#[test]
fn as_oneself_inside_ssh_and_scp_behave_as_outside() {
    need!("ssh", "ssh-keygen", "scp");
    if !std::path::Path::new("/usr/sbin/sshd").exists() {
        return caplet_lab::record_skip("needs sshd");
    }
    let Some(lab) = lab() else { return };
    let prepare = "umask 077; mkdir -p .ssh; cd .ssh; ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f id_ed25519; \
        cp id_ed25519.pub authorized_keys; echo \"it $(cat host.pub)\" > known_hosts; \
        printf 'HostKey %s/.ssh/host\\nUsePAM no\\nSubsystem sftp internal-sftp\\nPidFile none\\n' $HOME > sshd; \
        printf 'Host it\\n ProxyCommand /usr/sbin/sshd -i -f $HOME/.ssh/sshd\\n BatchMode yes\\n LogLevel ERROR\\n' > config; echo data > ../sent";
    lab.sh("alice", prepare).expect_ok();
    let line = "rm -f got; ssh it 'id -un; id -u; echo $HOME; cat' < sent && scp -q sent it:got && cat got && stat -c '%U %G %a' got";
    let outside = lab.sh("alice", line).expect_ok().out();
    assert!(outside.starts_with("alice\n") && outside.contains("data\ndata\nalice "), "{outside}");
    let inside = lab.run_as("alice", ["caplet", "run", "-p", "own", "sh", "-c", line]).expect_ok().out();
    assert_eq!(inside, outside);
}

#[test]
fn as_oneself_inside_common_tools_behave_as_outside() {
    need!("git", "rsync", "tar");
    let Some(lab) = lab() else { return };
    let line = "cd && rm -rf w && mkdir w && cd w && git init -q r && cd r && echo a > f && git add f && \
        git -c user.name=a -c user.email=a@b commit -qm x && git log --format=%s && cd .. && tar cf r.tar r && \
        rsync -a r/ copy/ && stat -c '%U %G %a' r/f copy/f && tar tvf r.tar | head -1 | cut -d' ' -f2 && id -un";
    let outside = lab.sh("alice", line).expect_ok().out();
    let inside = lab.run_as("alice", ["caplet", "run", "-p", "own", "sh", "-c", line]).expect_ok().out();
    assert_eq!(inside, outside);
}

// T23
#[test]
fn many_runs_and_many_at_once_each_give_the_right_status_and_leave_nothing() {
    let Some(lab) = Lab::new().user("alice", &[]).policy(POLICY).start() else { return };
    let full = std::env::var_os("CAPLET_FULL").is_some();
    let (rounds, at_once) = if full { (2000, 200) } else { (200, 60) };
    // With CAPLET_LOAD=1 every processor has two more to do.
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let busy = if std::env::var_os("CAPLET_LOAD").is_some() { 2 * processors } else { 0 };
    let burden = |_| lab.task("root", ["/bin/sh", "-c", "while :; do :; done"]).spawn();
    let mut load: Vec<_> = (0..busy).map(burden).collect();
    for profile in ["own", "real"] {
        let line = format!(
            "for i in $(seq {rounds}); do caplet run --quiet -p {profile} sh -c \"exit $((i % 100))\"; \
             [ $? = $((i % 100)) ] || echo wrong $i; done"
        );
        let out = lab.task("alice", ["bash", "-c", &line]).limit(600).run();
        assert_eq!((out.out(), out.err()), (String::new(), String::new()));
        let line = format!(
            "for i in $(seq {at_once}); do (caplet run --quiet -p {profile} sh -c \"sleep 1; exit $((i % 100))\"; \
             [ $? = $((i % 100)) ] || echo wrong $i) & done; wait"
        );
        let out = lab.task("alice", ["bash", "-c", &line]).limit(300).run();
        assert_eq!((out.out(), out.err()), (String::new(), String::new()));
    }
    for task in &mut load {
        task.signal(nix::sys::signal::Signal::SIGKILL);
        task.wait();
    }
    assert_eq!(lab.processes_left(), []);
    assert_eq!(lab.root("ls /run/caplet").out(), "");
    assert_eq!(lab.mounts_left(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_limit_of_the_profile_above_the_callers_own_is_raised_or_nothing_runs() {
    let policy = "[profile.high]\nusers = [\"alice\"]\nlimits = { nofile = \"100:200\" }\n\
        [profile.real]\nusers = [\"alice\"]\nscope = \"host\"\nlimits = { nofile = \"100:200\" }\npam_account = false\n";
    let Some(lab) = Lab::new().user("alice", &[]).policy(policy).start() else { return };
    for profile in ["high", "real"] {
        let line = format!("ulimit -n 64; caplet run --quiet -p {profile} sh -c 'ulimit -Sn; ulimit -Hn'");
        let out = lab.sh("alice", &line);
        if lab.full() & (1 << 24) != 0 {
            assert_eq!(out.out(), "100\n200", "{out}");
        } else {
            assert_eq!((out.code(), out.out().as_str()), (125, ""), "{out}");
            assert!(out.err().contains("raise limit 7 to 200 (CAP_SYS_RESOURCE is missing?)"), "{out}");
        }
    }
}

#[test]
fn paths_of_the_profile_are_writable_hidden_and_shown_as_it_says() {
    let policy = r#"
[profile.p]
users = ["alice"]
home = "ro"
writable = ["/srv/scratch", "/home/alice/out"]
hide = ["/srv/private", "/nowhere"]
devices = ["/dev/net/tun"]
hostname = "inside"
limits = { nofile = "100:200" }
umask = "0027"
env_set = { COURSE = "os" }
max_lifetime = 600

[profile.empty]
users = ["alice"]
home = "tmpfs"
"#;
    let Some(lab) = Lab::new().user("alice", &[]).user("bob", &[]).policy(policy).start() else { return };
    lab.root(
        "mkdir -m 777 /srv/scratch; mkdir /srv/private; echo s > /srv/private/s; install -d -o alice /home/alice/out",
    );
    let _ = lab.sh("alice", "echo keep > ~/keep").expect_ok();
    let line = "touch /srv/scratch/x out/y && ! touch z 2>/dev/null && ! touch /srv/z 2>/dev/null && ls /srv/private; \
        ls -A /home /root; test -c /dev/net/tun && hostname; ulimit -Sn; ulimit -Hn; umask; echo $COURSE";
    let out = lab.run_as("alice", ["caplet", "run", "-p", "p", "sh", "-c", line]);
    assert!(out.out().ends_with("inside\n100\n200\n0027\nos"), "{out}");
    assert!(out.out().contains("alice") && !out.out().contains("bob"), "{out}");
    assert!(lab.exists("/srv/scratch/x") && lab.exists("/home/alice/out/y"));
    let out = lab.run_as("alice", ["caplet", "run", "-p", "empty", "sh", "-c", "ls -A; touch new; pwd"]).expect_ok();
    assert_eq!(out.out(), "/home/alice");
    assert!(!lab.exists("/home/alice/new"));
}

// T32
#[test]
fn later_mounts_of_the_host_come_in_and_nothing_goes_out() {
    let policy = "[profile.p]\nusers = [\"alice\"]\nuser = \"root\"\nmay_add = [\"SYS_ADMIN\"]\n";
    let Some(lab) = Lab::new().user("alice", &[]).policy(policy).start() else { return };
    lab.root("mkdir -p /mnt/disk");
    let line = "mount -t tmpfs t /srv && touch /srv/inside; echo ready; read x; cat /mnt/disk/file";
    let mut task =
        lab.task("alice", ["caplet", "run", "--cap-add", "SYS_ADMIN", "sh", "-c", line]).stdin_open().spawn();
    task.wait_for("ready");
    lab.root("mount -t tmpfs t /mnt/disk; echo later > /mnt/disk/file");
    assert!(!lab.exists("/srv/inside"));
    drop(task.stdin.take());
    assert!(task.output().out().contains("later"));
}

#[test]
fn a_build_that_fails_half_way_ends_with_one_line_and_leaves_nothing() {
    let policy = "[profile.p]\nusers = [\"alice\"]\nwritable = [\"/srv/missing\"]\n";
    let Some(lab) = Lab::new().user("alice", &[]).policy(policy).start() else { return };
    let out = lab.run_as("alice", ["caplet", "run", "echo", "ran"]).expect_code(125);
    assert_eq!(out.out(), "");
    assert_eq!(out.err_lines().len(), 1, "{out}");
    assert!(out.err().contains("writable path /srv/missing cannot be opened as you"), "{out}");
    assert_eq!(lab.processes_left(), []);
    assert_eq!(lab.root("ls /run/caplet").out(), "");
    lab.log().wait("end", &[("status", "failed:125")]);
}

// contract, "Without installation"
#[test]
fn without_installation_a_fresh_build_works_and_says_what_it_is() {
    let Some(lab) = Lab::new().user("alice", &[]).start() else { return };
    lab.root(
        "mkdir /opt/build; cp /usr/bin/caplet /usr/libexec/caplet/caplet-helper /opt/build; chmod 755 /opt/build/*",
    );
    let line = "ip link set lo mtu 1400 && grep CapEff /proc/self/status && cat /proc/self/uid_map";
    let out = lab.run_as("alice", ["/opt/build/caplet", "run", "--cap-add", "NET_ADMIN", "sh", "-c", line]).expect_ok();
    assert!(out.out().starts_with("CapEff:\t00000000a80435fb"), "{out}");
    assert!(out.err().contains("any process of your uid can enter it"), "{out}");
    let out = lab.run_as("alice", ["caplet", "run", "--policy", "/etc/passwd", "true"]).expect_code(125);
    assert!(out.err().contains("--policy is only for a helper without the setuid bit"), "{out}");
}
