//! `caplet why`: the command is as always, and each refusal is explained: the capability, where it helps, and what this
//! user can do under this policy. The commands are people's own, and the helper is the real one.

use caplet_lab::{Lab, Output, SharedLab, need, shared};
use nix::sys::signal::Signal;

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[defaults]
contact = "lab-admin@example.edu"

[profile.plain]
users = ["alice", "bob"]

[profile.netlab]
users = ["alice"]
user = "root"
caps = ["none"]
may_add = ["NET_ADMIN", "SYS_ADMIN", "NET_BIND_SERVICE"]

[profile.real]
users = ["alice"]
scope = "host"
may_add = ["KILL", "NET_BIND_SERVICE"]

[profile.clock]
users = ["alice"]
scope = "host"
caps = ["SYS_TIME"]
commands = ["/usr/bin/date"]

[profile.nice]
users = ["alice"]
scope = "host"
may_add = ["SYS_NICE"]
commands = ["/usr/bin/nice"]

[profile.cat]
users = ["alice"]
scope = "host"
commands = ["/usr/bin/cat", "/usr/local/bin/no-shebang"]
caps = ["WAKE_ALARM"]

[profile.setuid]
users = ["alice"]
scope = "host"
caps = ["WAKE_ALARM"]
no_new_privs = false
"#;

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        Lab::new()
            .user("alice", &[])
            .user("bob", &[])
            .file("/srv/roots", "secret", 0o600, "root")
            .file("/usr/local/bin/no-shebang", "echo a shell ran it\n", 0o755, "root")
            .file("/srv/bobs", "bob's", 0o644, "bob")
            .policy(POLICY)
    })
}

/// What `caplet run` and then `caplet why` make of the same words: the same code and output, and on standard error the
/// same and then the explanation, which comes back.
#[track_caller]
fn explained(lab: &Lab, user: &str, flags: &[&str], command: &[&str]) -> Vec<String> {
    let go = |verb: &str| -> Output {
        let words = [&["caplet", verb][..], flags, &["--"], command].concat();
        lab.task(user, words).cwd("/").run()
    };
    let (run, why) = (go("run"), go("why"));
    assert_eq!((why.code(), why.out()), (run.code(), run.out()), "{command:?}: {why}");
    let (before, after) = (run.err_lines(), why.err_lines());
    assert_eq!(after.get(..before.len()), Some(&before[..]), "{command:?}: {why}");
    after[before.len()..].iter().map(|line| line.trim_start_matches("caplet: ").to_owned()).collect()
}

#[test]
fn the_clock_is_the_machines() {
    let Some(lab) = lab() else { return };
    assert_eq!(
        explained(lab, "alice", &[], &["date", "-s", "12:00"]),
        [
            "date: clock_settime(CLOCK_REALTIME) was refused (EPERM): it needs SYS_TIME",
            "SYS_TIME can do nothing for it in an isolated session: the clock belongs to the whole machine",
            "your profile \"clock\" allows it: caplet run -p clock -- date -s 12:00",
        ]
    );
    let lines = explained(lab, "bob", &[], &["date", "-s", "12:00"]);
    assert_eq!(
        lines[2..],
        [
            "no profile of yours gives SYS_TIME on the machine itself for this command",
            "this would, as a file of policy.d: profile.bob-date = { users = [\"bob\"], scope = \"host\", caps = \
             [\"SYS_TIME\"], commands = [\"/usr/bin/date\"] }",
            "ask: lab-admin@example.edu"
        ]
    );
}

#[test]
fn the_readmes_first_example_is_what_is_shown() {
    let Some(lab) = lab() else { return };
    let readme = include_str!("../../README.md");
    let block: Vec<&str> = readme.split("```\n").nth(1).expect("a first example").lines().collect();
    let line = block[0].strip_prefix("alice$ ").expect("a prompt");
    let out = lab.sh("alice", &format!("TZ=UTC {line} 2>&1"));
    let shown = out.out();
    // What date itself prints is the day of today.
    let same = |lines: Vec<&str>| -> Vec<String> {
        lines
            .into_iter()
            .filter(|line| !line.ends_with(" 2026") && !line.contains(" 12:00:00 "))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(same(shown.lines().collect()), same(block[1..].to_vec()), "{out}");
}

#[test]
fn netlinks_answer_is_read() {
    need!("ip");
    let Some(lab) = lab() else { return };
    let command = ["ip", "link", "add", "dummy0", "type", "dummy"];
    let lines = explained(lab, "alice", &[], &command);
    // Once for the device itself, and once by ip's look at what the kernel can do.
    assert!(
        lines[0].starts_with("ip: RTM_NEWLINK (netlink) was refused (EPERM")
            && lines[0].ends_with("it needs NET_ADMIN")
    );
    assert_eq!(
        lines[1..],
        ["your profile \"netlab\" allows it: caplet run --cap-add NET_ADMIN -- ip link add dummy0 type dummy"]
    );
    let lines = explained(lab, "bob", &[], &command);
    assert!(lines[0].starts_with("ip: RTM_NEWLINK (netlink) was refused (EPERM"), "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("ask: lab-admin@example.edu"), "{lines:?}");
}

#[test]
fn routes_by_ioctl_and_by_netlink() {
    need!("route", "ip");
    let Some(lab) = lab() else { return };
    let lines = explained(lab, "alice", &["-p", "netlab"], &["route", "add", "-net", "192.0.2.0/24", "dev", "lo"]);
    assert_eq!(lines[0], "route: ioctl(SIOCADDRT) was refused (EPERM): it needs NET_ADMIN");
    assert_eq!(
        lines[1],
        "your profile \"netlab\" allows it: caplet run -p netlab --cap-add NET_ADMIN -- route add -net 192.0.2.0/24 dev lo"
    );
    let lines = explained(lab, "alice", &["-p", "netlab"], &["ip", "route", "add", "192.0.2.0/24", "dev", "lo"]);
    assert_eq!(lines[0], "ip: RTM_NEWROUTE (netlink) was refused (EPERM): it needs NET_ADMIN");
}

#[test]
fn a_mount_is_the_sessions_where_users_may_mount_it() {
    let Some(lab) = lab() else { return };
    let lines = explained(lab, "alice", &["-p", "netlab"], &["mount", "-t", "tmpfs", "none", "/mnt"]);
    assert_eq!(
        lines,
        [
            "mount: mount(tmpfs) was refused (EPERM): it needs SYS_ADMIN",
            "your profile \"netlab\" allows it: caplet run -p netlab --cap-add SYS_ADMIN -- mount -t tmpfs none /mnt",
        ]
    );
    // Without uid 0 the program itself counts on its setuid bit too.
    let lines = explained(lab, "bob", &[], &["mount", "-t", "tmpfs", "none", "/mnt"]);
    assert!(lines.iter().any(|line| line.contains("is a setuid program: its bit has no power")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains("mount(tmpfs) was refused (EPERM): it needs SYS_ADMIN")),
        "{lines:?}"
    );
}

#[test]
fn the_sessions_own_filter_is_told_from_the_kernels_refusals() {
    let Some(lab) = lab() else { return };
    let code = |call: &str| format!("import ctypes; ctypes.CDLL(None).{call}");
    let python = |code: &str| explained(lab, "bob", &[], &["/usr/bin/python3", "-I", "-c", code]);
    // No capability opens this one; unshare(2) is the kernel's to judge for whoever holds SYS_ADMIN.
    let lines = python(&code("swapon(b'/x', 0)"));
    assert!(lines[0].contains("was refused (EPERM): the session's filter of system calls has it off"), "{lines:?}");
    let lines = python(&code("unshare(0x20000)"));
    assert!(lines[0].ends_with("unshare(CLONE_NEWNS) was refused (EPERM): it needs SYS_ADMIN"), "{lines:?}");
    // Also in the second program of the command, and after many calls of the first.
    let line = "i=0; while [ $i -lt 3000 ]; do umask >/dev/null; i=$((i+1)); done; unshare -m true";
    let lines = explained(lab, "bob", &[], &["sh", "-c", line]);
    assert!(lines[0].starts_with("unshare: unshare(CLONE_NEWNS) was refused (EPERM)"), "{lines:?}");
}

#[test]
fn owners_and_nodes() {
    let Some(lab) = lab() else { return };
    let file = ["sh", "-c", "cd; touch own; chown root own"];
    let lines = explained(lab, "alice", &["-p", "real"], &file);
    assert!(lines[0].starts_with("chown: fchownat(\"own\") was refused (EPERM): it needs CHOWN: "), "{lines:?}");
    // In a session of one id the kernel does not even know whom it is to belong to.
    let lines = explained(lab, "alice", &[], &file);
    assert!(lines[0].contains("was refused (EINVAL): this session knows no such id"), "{lines:?}");
    let lines = explained(lab, "alice", &[], &["sh", "-c", "cd /tmp; mknod null c 1 3"]);
    assert_eq!(lines[0], "mknod: mknodat(\"null\") was refused (EPERM): it needs MKNOD");
    assert!(lines[1].starts_with("MKNOD can do nothing for it in an isolated session"), "{lines:?}");
}

#[test]
fn a_process_of_somebody_else() {
    let Some(lab) = lab() else { return };
    let sleep = lab.task("bob", ["sleep", "100"]).spawn();
    let pid = lab.root("pgrep -u bob -x sleep").out();
    let lines = explained(lab, "alice", &["-p", "real"], &["kill", &pid]);
    assert_eq!(
        lines,
        [
            format!("kill: kill(process {pid}) was refused (EPERM): it needs KILL"),
            format!("your profile \"real\" allows it: caplet run -p real --cap-add KILL -- kill {pid}"),
        ]
    );
    drop(sleep);
}

#[test]
fn priorities_are_the_machines() {
    let Some(lab) = lab() else { return };
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let own = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(16)).expect("nice");
    let wanted = own.parse::<i32>().expect("a number") - 5; // `nice make test` is asked for too
    assert_eq!(
        explained(lab, "alice", &[], &["nice", "-n", "-5", "true"]),
        [
            &format!("nice: setpriority({wanted}) was refused (EACCES): it needs SYS_NICE"),
            "SYS_NICE can do nothing for it in an isolated session: what it is needed for here belongs to the whole machine",
            "your profile \"nice\" allows it: caplet run -p nice --cap-add SYS_NICE -- nice -n -5 true",
        ]
    );
}

#[test]
fn low_ports_are_told_from_other_reasons() {
    let Some(lab) = lab() else { return };
    let bind = |port| format!("import socket\nsocket.socket().bind(('127.0.0.1', {port}))");
    let (low, high) = (bind(80), bind(8080));
    let lines = explained(lab, "alice", &["-p", "real"], &["/usr/bin/python3", "-I", "-c", &low]);
    assert!(
        lines[0].contains(": bind(port 80) was refused (EACCES): it needs NET_BIND_SERVICE: ports below 1024"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("allows it: caplet run -p real --cap-add NET_BIND_SERVICE -- /usr/bin/python3"),
        "{lines:?}"
    );
    let lines = explained(lab, "alice", &["-p", "real"], &["/usr/bin/python3", "-I", "-c", &high]);
    assert_eq!(lines, ["nothing was refused"]);
}

#[test]
fn a_file_names_its_owner_and_its_mode() {
    let Some(lab) = lab() else { return };
    let lines = explained(lab, "alice", &["-p", "real"], &["cat", "/srv/roots"]);
    assert_eq!(
        lines[0],
        "cat: openat(\"/srv/roots\") was refused (EACCES): it needs DAC_READ_SEARCH or DAC_OVERRIDE: /srv/roots (owner \
         root, group root, mode 0600) may not be read by this user"
    );
    assert_eq!(lines.last().map(String::as_str), Some("ask: lab-admin@example.edu"), "{lines:?}");
    let lines = explained(lab, "alice", &["-p", "real"], &["sh", "-c", "echo x > /srv/bobs"]);
    assert!(lines[0].contains("it needs DAC_OVERRIDE: /srv/bobs (owner bob,"), "{lines:?}");
    let lines = explained(lab, "alice", &["-p", "real"], &["chmod", "600", "/srv/bobs"]);
    assert!(lines[0].contains("was refused (EPERM): it needs FOWNER: /srv/bobs (owner bob,"), "{lines:?}");
    let lines = explained(lab, "alice", &[], &["cat", "/srv/roots"]);
    assert!(lines[1].ends_with("in an isolated session: the session does not know the owner"), "{lines:?}");
    let lines = explained(lab, "alice", &["-p", "real"], &["sh", "-c", "echo 1 > /proc/sys/kernel/core_pattern"]);
    assert!(lines[0].contains("is for uid 0 of the machine: no capability opens it"), "{lines:?}");
}

#[test]
fn the_policys_own_command_is_watched_and_nothing_else() {
    let Some(lab) = lab() else { return };
    let lines = explained(lab, "alice", &["-p", "cat"], &["cat", "/srv/roots"]);
    assert!(lines[0].starts_with("cat: openat(\"/srv/roots\") was refused (EACCES)"), "{lines:?}");
    let out = lab.run_as("alice", ["caplet", "why", "-p", "cat", "--", "/bin/bash", "-c", "id"]);
    assert_eq!(out.code(), 125, "{out}");
    // What `run` does not execute, the watcher does not either: no shell stands in for it.
    let file = "/usr/local/bin/no-shebang";
    for verb in ["run", "why"] {
        let out = lab.run_as("alice", ["caplet", verb, "-p", "cat", "--", file]);
        assert_eq!((out.code(), out.out().as_str()), (126, ""), "{verb}: {out}");
    }
    // Nobody's environment has a say, as without a watcher.
    let words = ["caplet", "why", "-p", "cat", "--", "cat", "/proc/self/environ"];
    let out = lab.task("alice", words).env("LD_PRELOAD", "/tmp/evil.so").env("RUST_BACKTRACE", "1").run().expect_ok();
    assert!(!out.out().contains("LD_PRELOAD") && !out.out().contains("RUST_"), "{out}");
}

#[test]
fn codes_signals_and_the_unknown() {
    let Some(lab) = lab() else { return };
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -SEGV $$"], 139),
        (&["no-such-command"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let go = |verb| lab.run_as("alice", [&["caplet", verb, "--"][..], command].concat());
        let (run, why) = (go("run"), go("why"));
        assert_eq!((run.code(), why.code()), (code, code), "{command:?} {why}");
        assert!(why.err().starts_with(&run.err()), "{command:?} {why}\n{run}");
    }
    let out = lab.run_as("alice", ["caplet", "why"]);
    assert!(
        out.err().starts_with("caplet: why needs a command to watch, as in: caplet why -- date -s 12:00 (or"),
        "{out}"
    );
    assert_eq!(out.code(), 125);
}

#[test]
fn threads_children_and_real_time_signals() {
    let Some(lab) = lab() else { return };
    let program = "import threading, os, signal, subprocess, time\n\
        signal.signal(signal.SIGRTMIN + 2, lambda *a: print('signal', flush=True))\n\
        os.kill(os.getpid(), signal.SIGRTMIN + 2)\n\
        def body():\n    try: open('/srv/roots')\n    except PermissionError: print('thread', flush=True)\n\
        t = [threading.Thread(target=body) for _ in range(4)]\n[x.start() for x in t]; [x.join() for x in t]\n\
        subprocess.run(['sh', '-c', '(date -s 12:00; true) 2>/dev/null'])\nos._exit(5)";
    let lines = explained(lab, "alice", &["-p", "real"], &["/usr/bin/python3", "-I", "-c", program]);
    assert!(lines.iter().any(|l| l.contains("openat(\"/srv/roots\") was refused (EACCES, 4 times)")), "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with("date: clock_settime(CLOCK_REALTIME)")), "{lines:?}");
}

#[test]
fn nothing_of_the_watcher_is_left_to_the_command() {
    let Some(lab) = lab() else { return };
    // Which of its namespaces are the machine's, too.
    let outer = lab.root("readlink /proc/self/ns/* | tr '\\n' ' '").out();
    let command = format!(
        "ls -l /proc/self/fd | wc -l; umask; env | sort | grep -v ^_=; \
         grep -E '^(Uid|Gid|Cap|NoNew|Sig[^Q]|Shd|Groups|Threads)' /proc/self/status; \
         cat /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj /proc/self/timerslack_ns; \
         cut -d' ' -f 18,19,40,41 /proc/self/stat; cut -d' ' -f 4-10 /proc/self/mountinfo; \
         for n in cgroup ipc mnt net pid time user uts; do \
         case '{outer}' in *\"$(readlink /proc/self/ns/$n)\"*) echo $n the machines;; *) echo $n its own;; esac; done; \
         cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; keyctl show @s 2>&1 | tail -n +2 | cut -c 14-"
    );
    for flags in [
        &["-p", "plain"][..],
        &["-p", "netlab"],
        &["-p", "netlab", "--cap-add", "SYS_ADMIN,NET_ADMIN"],
        &["-p", "real", "--cap-add", "KILL"],
    ] {
        let lines = explained(lab, "alice", flags, &["sh", "-c", &command]);
        assert_eq!(lines, ["nothing was refused"]);
    }
}

#[test]
fn a_watched_command_never_gains_by_a_setuid_bit() {
    let Some(lab) = lab() else { return };
    // This profile alone leaves no_new_privs out; the watcher does not.
    let line = "grep -E '^(NoNewPrivs|CapPrm)' /proc/self/status; /usr/local/bin/id-of-root -u";
    lab.root("cp /usr/bin/id /usr/local/bin/id-of-root && chmod 4755 /usr/local/bin/id-of-root");
    let go = |verb| lab.run_as("alice", ["caplet", verb, "-p", "setuid", "--", "sh", "-c", line]);
    let (run, why) = (go("run").out(), go("why").out());
    assert_eq!(run.lines().collect::<Vec<_>>(), ["CapPrm:\t0000000800000000", "NoNewPrivs:\t0", "0"]);
    assert_eq!(why.lines().collect::<Vec<_>>(), ["CapPrm:\t0000000800000000", "NoNewPrivs:\t1", "5001"]);
}

#[test]
fn what_is_proposed_to_the_administrator_does_allow_it() {
    let lab = Lab::new().user("bob", &[]).policy("[profile.plain]\nusers = [\"bob\"]\n").start();
    let Some(lab) = lab else { return caplet_lab::record_skip("needs root") };
    for (command, profile) in [
        (&["nice", "-n", "-5", "nice"][..], "bob-nice"),
        (&["unshare", "-m", "true"], "bob-unshare"),
        (&["cat", "/etc/shadow"], "bob-cat"),
    ] {
        let why = lab.run_as("bob", [&["caplet", "why", "--"][..], command].concat());
        let line = why
            .err_lines()
            .into_iter()
            .find_map(|line| line.split_once("as a file of policy.d: ").map(|(_, line)| line.to_owned()));
        let line = line.unwrap_or_else(|| panic!("{command:?}: {why}"));
        lab.root(&format!(
            "umask 027; mkdir -p /etc/caplet/policy.d; echo '{line}' > /etc/caplet/policy.d/{profile}.toml"
        ));
        let again = lab.run_as("bob", [&["caplet", "why", "-p", profile, "--"][..], command].concat());
        let add = again
            .err_lines()
            .into_iter()
            .find_map(|line| line.split_once("allows it: caplet run ").map(|(_, words)| words.to_owned()));
        match add {
            Some(words) => lab.sh("bob", &format!("caplet run {words}")).expect_ok(),
            None => again.expect_ok(),
        };
    }
}

#[test]
fn json_for_programs() {
    let Some(lab) = lab() else { return };
    let out = lab.run_as("alice", ["caplet", "why", "--json", "--", "date", "-s", "12:00"]);
    let lines = out.err_lines();
    let value: serde_json::Value = serde_json::from_str(lines.last().expect("a line")).expect("JSON");
    let refusal = &value["refusals"][0];
    assert_eq!(
        (&refusal["needs"][0][0], &refusal["of"], &refusal["error"]),
        (&"SYS_TIME".into(), &"machine".into(), &"EPERM".into())
    );
    assert_eq!(value["code"], 1);
}

#[test]
fn a_descriptor_that_is_no_pipe_is_refused() {
    let Some(lab) = lab() else { return };
    let helper = "/usr/libexec/caplet/caplet-helper";
    for redirect in ["7</", "7>/dev/null", "7<>/tmp/fifo-lab", "7>&-"] {
        let line = format!("mkfifo /tmp/fifo-lab 2>/dev/null; exec {helper} run --watch=7 -- id {redirect}");
        let out = lab.sh("alice", &line);
        assert_eq!((out.code(), out.out().as_str()), (125, ""), "{redirect}: {out}");
        assert!(out.err().contains("descriptor 7 is no pipe to write to"), "{redirect}: {out}");
    }
}

/// The lines of caplet-why(1), taken from the page.
fn hook(shell: &str) -> String {
    let page = include_str!("../../man/caplet-why.1");
    let (_, rest) = page.split_once(&format!(".It {shell}\n")).expect("the shell's item");
    let (_, rest) = rest.split_once(".Bd -literal\n").expect("its lines");
    let (lines, _) = rest.split_once("\n.Ed").expect("their end");
    lines
        .replace("\\e", "\\")
        .replace("\\&", "")
        .replace("\\(dq", "\"")
        .replace("\\-", "-")
        .replace("\\(aq", "'")
        .replace("\\(ha", "^")
}

#[test]
fn in_a_session_the_last_refusal_is_explained_where_the_hook_is_on() {
    let Some(lab) = lab() else { return };
    for (shell, rc, start) in
        [("bash", ".bashrc", "bash -i"), ("zsh", ".zshrc", "zsh -i"), ("fish", ".config/fish/config.fish", "fish -i")]
    {
        if !caplet_lab::have(shell) {
            caplet_lab::record_skip(&format!("{shell} is not installed"));
            continue;
        }
        lab.root(&format!("cd /home/alice; mkdir -p $(dirname {rc}); cat > {rc} <<'END'\n{}\nEND", hook(shell)));
        for profile in ["netlab", "real"] {
            let words = [&["caplet", "run", "--quiet", "-p", profile, "--"][..], &start.split(' ').collect::<Vec<_>>()];
            let mut terminal =
                lab.task("alice", words.concat()).env("PS1", "inner> ").env("TERM", "dumb").terminal(24, 200);
            terminal.send("ip link set lo mtu 1400\n");
            terminal.expect("RTNETLINK answers: Operation not permitted");
            terminal.send("caplet why\n");
            terminal.expect("caplet: once more, watched: ip link set lo mtu 1400");
            terminal.expect("caplet: ip: RTM_NEWLINK (netlink) was refused (EPERM");
            terminal.expect(&format!(
                "this session is fixed; one that has it, if that is granted to you: caplet shell -p {profile} --cap-add NET_ADMIN"
            ));
            // Itself it does not explain, and a success is no refusal.
            terminal.send("true\n");
            terminal.send("caplet why --quiet\n");
            terminal.expect("ip: RTM_NEWLINK (netlink) was refused");
            terminal.send("exit\n");
            terminal.wait();
        }
    }
    // Without a line of the shell's, a command is watched in the session that there is.
    let words = ["caplet", "run", "-p", "netlab", "--", "caplet", "why", "--", "date", "-s", "12:00"];
    let out = lab.run_as("alice", words);
    assert_eq!(
        out.err_lines()[1..],
        [
            "caplet: date: clock_settime(CLOCK_REALTIME) was refused (EPERM): it needs SYS_TIME",
            "caplet: SYS_TIME can do nothing for it in an isolated session",
            "caplet: what you can do is said outside of it: caplet why -- date -s 12:00"
        ]
    );
    assert_eq!(out.code(), 1);
    let words = ["caplet", "run", "-p", "netlab", "--", "caplet", "why", "--cap-add", "NET_ADMIN", "--", "id"];
    assert_eq!(lab.run_as("alice", words).code(), 125);
}

#[test]
fn keys_and_job_control_are_as_always() {
    let Some(lab) = lab() else { return };
    let mut terminal = lab.task("alice", ["bash", "--norc", "-i"]).env("PS1", "outer> ").terminal(24, 80);
    terminal.expect("outer> ");
    for profile in ["plain", "real"] {
        terminal.send(&format!("caplet why -p {profile} -- sh -c 'echo re''ady; read x; echo got-$x; exit 5'\n"));
        terminal.expect("ready");
        terminal.send("\u{1a}");
        terminal.expect("Stopped");
        terminal.expect("outer> ");
        terminal.send("fg\n");
        terminal.expect("caplet why");
        terminal.send(&format!("{profile}\n"));
        terminal.expect(&format!("got-{profile}"));
        terminal.expect("outer> ");
        terminal.send("echo status-$?\n");
        terminal.expect("status-5");
        terminal.expect("outer> ");
        terminal.send(&format!("caplet why -p {profile} -- sh -c 'echo st''arted; sleep 60'\n"));
        terminal.expect("started");
        // A SIGINT that dash takes just before its fork is not the child's, and dash waits for that.
        lab.root("for i in $(seq 100); do pgrep -x sleep >/dev/null && exit 0; sleep 0.1; done; exit 1");
        terminal.send("\u{3}");
        terminal.expect("outer> ");
        terminal.send("echo status-$?\n");
        terminal.expect("status-130");
        terminal.expect("outer> ");
    }
    terminal.send("caplet why -p plain -- env PS1='in''ner> ' bash --norc -i\n");
    terminal.expect("inner> ");
    terminal.send("sleep 50\n");
    terminal.expect("sleep 50");
    std::thread::sleep(std::time::Duration::from_millis(500));
    terminal.send("\u{1a}");
    terminal.expect("Stopped");
    terminal.expect("inner> ");
    terminal.send("bg; kill %1; wait %1; echo jobs-$?\n");
    terminal.expect("jobs-143");
    terminal.expect("inner> ");
    terminal.send("exit 6\n");
    terminal.expect("outer> ");
    terminal.send("echo status-$?\n");
    terminal.expect("status-6");
    terminal.send("exit\n");
    terminal.wait();
}

#[test]
fn a_signal_to_it_reaches_the_command_and_its_end_is_the_sessions() {
    let Some(lab) = lab() else { return };
    for profile in ["plain", "real"] {
        let line = "trap 'echo caught; exit 4' TERM; echo ready > /home/alice/ready; while :; do sleep 0.05; done";
        let start = || {
            let _ = lab.root("rm -f /home/alice/ready");
            let words = ["caplet", "why", "-p", profile, "--", "sh", "-c", line];
            let task = lab.task("alice", words).spawn();
            lab.root("for i in $(seq 100); do [ -e /home/alice/ready ] && exit 0; sleep 0.1; done; exit 1");
            task
        };
        let task = start();
        task.signal(Signal::SIGTERM);
        let out = task.output();
        assert_eq!((out.code(), out.out().as_str()), (4, "caught"), "{out}");
        let task = start();
        task.signal(Signal::SIGKILL);
        assert_eq!(task.output().code(), 1009);
        let gone = "for i in $(seq 100); do pgrep -u alice -f 'ready > ' >/dev/null || exit 0; sleep 0.1; done; exit 1";
        lab.root(gone);
    }
}
