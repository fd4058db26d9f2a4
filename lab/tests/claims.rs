//! The claims of the main line, each as a person would say it, held by what the kernel says.

use caplet_lab::{CapSets, Lab, Session, SharedLab, need, shared, skip};
use nix::sys::signal::Signal;

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r##"
[defaults]
contact = "room 2.14"

[profile.basic]
users = ["alice"]
user = "root"
may_add = ["NET_RAW"]

[profile.own]
users = ["alice"]
may_add = ["NET_ADMIN", "SYS_ADMIN"]

[profile.netlab]
groups = ["students"]
user = "root"
may_add = ["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "DAC_OVERRIDE"]
hide = ["/srv/secret", "/etc/hidden"]

[profile.whole]
users = ["alice"]
user = "root"
may_add = ["ALL"]
privileged = true

[profile.nested]
users = ["alice"]
nested_userns = true

[profile.subs]
users = ["alice"]
user = "root"
subids = true

[profile.few]
users = ["bob"]
max_sessions = 1

[profile.watchers]
users = ["alice", "bob"]

[profile.clock]
groups = ["timekeepers"]
scope = "host"
caps = ["SYS_TIME"]
commands = ["/usr/bin/date", ["/usr/bin/env", "LANG=C"], "/usr/bin/python3"]
pam_account = false

[profile.real]
users = ["alice"]
scope = "host"
may_add = ["SYS_NICE", "NET_RAW", "NET_ADMIN"]
pam_account = false

[profile.setuidok]
users = ["alice"]
scope = "host"
caps = ["SYS_NICE"]
no_new_privs = false
pam_account = false
"##;

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        Lab::new()
            .user("alice", &["students", "timekeepers", "docker"])
            .user("bob", &["students"])
            .user("mallory", &[])
            .subid("alice", 200_000, 65_536)
            .file("/srv/secret/key", "secret", 0o644, "root")
            .file("/etc/hidden", "secret", 0o644, "root")
            .policy(POLICY)
    })
}

const DOCKER: u64 = 0xa804_25fb;
const NET_ADMIN: u64 = 1 << 12;
const SYS_NICE: u64 = 1 << 23;

fn all_five(caps: u64) -> CapSets {
    CapSets { inheritable: caps, permitted: caps, effective: caps, bounding: caps, ambient: caps }
}

fn as_root(caps: u64) -> CapSets {
    CapSets { inheritable: 0, permitted: caps, effective: caps, bounding: caps, ambient: 0 }
}

// T27, CVE-2022-24769
#[test]
fn the_five_sets_are_exactly_as_granted_in_each_scope() {
    let Some(lab) = lab() else { return };
    let sets = |words: &[&str]| {
        let words = [&["caplet", "run"], words, &["cat", "/proc/self/status"]].concat();
        let status = lab.run_as("alice", words).expect_ok().proc_status();
        (status.caps(), status.no_new_privs())
    };
    assert_eq!(sets(&["-p", "basic"]), (as_root(DOCKER), true));
    assert_eq!(sets(&["-p", "basic", "--cap-drop", "ALL"]), (as_root(0), true));
    assert_eq!(sets(&["-p", "own"]), (all_five(0), true));
    assert_eq!(sets(&["-p", "own", "--cap-add", "net_admin"]), (all_five(NET_ADMIN), true));
    assert_eq!(sets(&["-p", "real", "--cap-add", "SYS_NICE"]), (all_five(SYS_NICE), true));
    let whole = lab.kernel();
    assert_eq!(sets(&["-p", "whole", "--cap-add", "ALL", "--cap-drop", "MKNOD"]), (as_root(whole & !(1 << 27)), true));
    assert_eq!(sets(&["-p", "whole", "--privileged"]), (as_root(whole), true));
}

#[test]
fn a_profile_without_no_new_privs_leaves_the_bounding_set_whole() {
    let Some(lab) = lab() else { return };
    let status = lab.run_as("alice", ["caplet", "run", "-p", "setuidok", "cat", "/proc/self/status"]).proc_status();
    assert!(!status.no_new_privs());
    assert_eq!(status.caps(), CapSets { bounding: lab.full(), ..all_five(SYS_NICE) });
}

// T17
#[test]
fn groups_as_good_as_root_do_not_come_along_into_an_isolated_session() {
    let Some(lab) = lab() else { return };
    let mut task = lab.task("alice", ["caplet", "run", "-p", "own", "sleep", "60"]).spawn();
    let session = Session::isolated(&task);
    let status = caplet_lab::ProcStatus::of(session.command).expect("the command runs");
    assert!(!status.groups().contains(&lab.gid("docker")), "{:?}", status.groups());
    assert!(status.groups().contains(&lab.gid("students")));
    Session::signal(session.relay, Signal::SIGTERM);
    assert!(task.wait().code().is_some());
}

#[test]
fn ids_are_mapped_as_the_profile_says_and_no_host_root_is() {
    let Some(lab) = lab() else { return };
    let uid = lab.uid("alice");
    let map = |profile: &str| {
        let out = lab.run_as("alice", ["caplet", "run", "-p", profile, "cat", "/proc/self/uid_map"]).expect_ok().out();
        out.split_whitespace().map(|n| n.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(map("own"), [uid, uid, 1]);
    assert_eq!(map("basic"), [0, uid, 1]);
    assert_eq!(map("subs"), [0, uid, 1, 1, 200_000, 65_536]);
}

// R6
#[test]
fn a_subordinate_range_that_is_partly_somebody_elses_is_refused_and_named() {
    let lab = Lab::new().user("alice", &[]).user("carol", &[]).user("dave", &[]);
    let lab = lab.subid("alice", 200_000, 65_536).subid("carol", 265_000, 1_000).subid("dave", 300_000, 1_000);
    let lab = lab.policy("[profile.subs]\nusers = [\"*\"]\nuser = \"root\"\nsubids = true\n");
    let Some(lab) = lab.start() else { return };
    let out = lab.run_as("carol", ["caplet", "run", "true"]).expect_code(125);
    assert!(out.err().contains("overlaps the entry alice:200000:65536"), "{out}");
    lab.run_as("dave", ["caplet", "run", "true"]).expect_ok();
    lab.root("useradd -u 300500 directory-user").expect_ok();
    let out = lab.run_as("dave", ["caplet", "run", "true"]).expect_code(125);
    assert!(out.err().contains("takes in user id 300500"), "{out}");
    assert_eq!(lab.root("ls /run/caplet").out(), "");
    assert_eq!(lab.log().find("grant", &[("user", "carol")]).len(), 0);
}

/// A process's number in the lab, from the host over the lab's pid namespace down to the session's.
fn pid_in_lab(lab: &Lab, pid: i32) -> i32 {
    let machine = caplet_lab::ProcStatus::of(lab.init()).expect("the lab runs").namespace_pids().len();
    caplet_lab::ProcStatus::of(pid).expect("it runs").namespace_pids()[machine - 1]
}

/// NS_GET_OWNER_UID (ioctl_ns(2)) of the user namespace of a process.
fn owner_of(lab: &Lab, pid: i32) -> u32 {
    let program = format!(
        "import fcntl,array\nf=open('/proc/{pid}/ns/user')\na=array.array('I',[9])\nfcntl.ioctl(f,0xb704,a)\nprint(a[0])"
    );
    lab.python("root", &program).expect_ok().out().parse().expect("a number")
}

/// Who has subordinate ids makes a setuid file of one (in a user namespace of their own), and is that id outside of it.
#[test]
fn no_subordinate_id_of_anybodys_owns_a_session() {
    let lab = Lab::new().user("alice", &[]).user("bob", &[]).user("mallory", &[]);
    let Some(lab) = lab.policy("[profile.own]\nusers = [\"alice\", \"bob\"]\n").start() else { return };
    let start = |user: &str| {
        let task = lab.task(user, ["caplet", "run", "sleep", "60"]).spawn();
        let session = Session::isolated(&task);
        let pid = pid_in_lab(&lab, session.command);
        (owner_of(&lab, pid), pid, task, session)
    };
    let end = |mut task: caplet_lab::Running, session: Session| {
        Session::signal(session.relay, Signal::SIGTERM);
        task.wait();
    };
    // One for each user, and not to be known before.
    let (first, second, other) = (start("alice"), start("alice"), start("bob"));
    let reserved = first.0;
    assert!(reserved >= 1 << 31 && reserved != u32::MAX && second.0 == reserved && other.0 != reserved);
    for (_, _, task, session) in [first, second, other] {
        end(task, session);
    }
    let key =
        lab.root("cd /var/lib/caplet; cp -p log.key key; head -c 16 /dev/urandom >log.key; stat -c %s log.key").out();
    let (another, _, task, session) = start("alice");
    end(task, session);
    lab.root("cd /var/lib/caplet; mv key log.key").expect_ok();
    assert!(key == "16" && another >= 1 << 31 && another != reserved, "{another} {reserved}");
    lab.root(&format!("cp /usr/bin/nsenter /usr/local/bin/enter; chown {reserved} /usr/local/bin/enter; chmod 4755 /usr/local/bin/enter"));
    let check = || lab.root("caplet check; true").err();
    let switch = lab.read("/etc/nsswitch.conf");
    // FreeIPA hands out ranges from there on, and podman(1) has root take all of them.
    for (range, source) in [
        (None, None),
        (Some("mallory:2147483648:65536"), None),
        (Some("containers:2147483647:2147483648"), None),
        (Some("mallory:0x80000000:65536"), None),
        (Some("mallory:1:-1"), None),
        (None, Some("subid: sss")),
    ] {
        lab.write("/etc/subuid", format!("alice:100000:65536\n{}\n", range.unwrap_or_default()), 0o644, "root");
        lab.write("/etc/nsswitch.conf", format!("{switch}\n{}\n", source.unwrap_or_default()), 0o644, "root");
        let (owner, pid, task, session) = start("alice");
        let nobody = range.is_none() && source.is_none();
        assert_eq!(owner, if nobody { reserved } else { 0 }, "{range:?} {source:?}");
        let entered = lab.sh("mallory", &format!("/usr/local/bin/enter -U --preserve-credentials -t {pid} true"));
        assert_eq!(entered.ok(), nobody, "such a file is as good as the owner: {range:?} {source:?} {entered}");
        assert_eq!(check().contains("ids from 2147483648 on may be somebody's"), !nobody, "{}", check());
        end(task, session);
    }
    // Accounts, of whatever source: the file, by itself and by another module, and a record of systemd's.
    lab.write("/etc/subuid", "", 0o644, "root");
    let record = format!(
        "echo '{{\"userName\":\"somebody\",\"uid\":{reserved},\"gid\":1,\"homeDirectory\":\"/\"}}' >/etc/userdb/somebody.user; \
         ln -s somebody.user /etc/userdb/{reserved}.user"
    );
    for (accounts, line) in [
        ("files systemd", "true".to_owned()),
        ("compat", "true".to_owned()),
        ("files systemd", format!("mkdir /etc/userdb; {record}")),
        ("files systemd", format!("rm -r /etc/userdb; useradd -o -u {reserved} somebody")),
        ("compat", "true".to_owned()),
    ] {
        lab.write("/etc/nsswitch.conf", format!("passwd: {accounts}\ngroup: files\n"), 0o644, "root");
        lab.root(&line).expect_ok();
        let is_somebodys = lab.sh("root", &format!("getent passwd {reserved}")).ok();
        assert!(is_somebodys || !line.contains("useradd"));
        let (owner, _, task, session) = start("alice");
        assert_eq!(owner, if is_somebodys { 0 } else { reserved }, "{accounts}: {line}");
        end(task, session);
    }
}

// 3.1 row 18, T07
#[test]
fn a_same_uid_process_outside_cannot_enter_read_or_trace_the_session() {
    let Some(lab) = lab() else { return };
    let mut task = lab.task("alice", ["caplet", "run", "-p", "own", "--cap-add", "NET_ADMIN", "sleep", "60"]).spawn();
    let session = Session::isolated(&task);
    let inside = |pid: i32| pid_in_lab(lab, pid);
    for pid in [inside(session.command), inside(session.init)] {
        for program in [
            format!("nsenter -t {pid} -U --preserve-credentials -n true"),
            format!("nsenter -t {pid} -n ip link"),
            format!("cat /proc/{pid}/environ"),
            format!("cat /proc/{pid}/mem"),
            format!("ls /proc/{pid}/root/"),
            format!("head -c1 /proc/{pid}/maps | grep -q ."),
        ] {
            let out = lab.sh("alice", &program);
            assert_ne!(out.code(), 0, "{program}: {out}");
        }
        let attach = format!(
            "import ctypes,sys; sys.exit(0 if ctypes.CDLL(None,use_errno=True).ptrace(16,{pid},0,0)==0 else 3)"
        );
        assert_eq!(lab.python("alice", &attach).code(), 3, "ptrace of {pid}");
    }
    assert!(owner_of(lab, inside(session.command)) >= 1 << 31, "nobody");
    // So root's uid alone, as a command in host scope or a service may have it, is nothing to the session.
    let poor = format!(
        "setpriv --bounding-set=-all --inh-caps=-all nsenter -t {} -U --preserve-credentials true",
        inside(session.command)
    );
    assert!(!lab.sh("root", &poor).ok());
    Session::signal(session.relay, Signal::SIGTERM);
    task.wait();
}

#[test]
fn scoped_net_admin_reaches_the_sessions_network_only() {
    let Some(lab) = lab() else { return };
    let before = lab.root("ip -d link; ip route show table all").out();
    let line = "ip link add v0 type veth peer name v1 && ip addr add 10.9.9.1/24 dev v0 && ip link set v0 up && \
                ip route add 192.168.0.0/24 via 10.9.9.2 && ip route && ls /sys/class/net";
    let out =
        lab.run_as("alice", ["caplet", "run", "-p", "own", "--cap-add", "NET_ADMIN", "sh", "-c", line]).expect_ok();
    assert!(out.out().contains("192.168.0.0/24 via 10.9.9.2"), "{out}");
    assert!(out.out().ends_with("lo\nv0\nv1"), "{out}");
    assert_eq!(lab.root("ip -d link; ip route show table all").out(), before);
}

// facts.md, question d, way 4
#[test]
fn a_socket_of_the_host_network_handed_in_does_not_help_scoped_net_admin() {
    let Some(lab) = lab() else { return };
    let program = "import socket,fcntl,struct,sys\ns=socket.socket(fileno=0)\n\
        try:\n fcntl.ioctl(s,0x8922,struct.pack('16si12x',b'lo',1400))\n print('reached')\nexcept OSError as e: print(e.errno)";
    let socket = lab.inside(|| std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let out = lab
        .task("alice", ["caplet", "run", "-p", "own", "--cap-add", "NET_ADMIN", "/usr/bin/python3", "-c", program])
        .descriptor(socket, 0)
        .run();
    assert_eq!(out.out(), "1", "{out}");
}

// T18
#[test]
fn sys_admin_inside_cannot_take_off_a_mask() {
    let Some(lab) = lab() else { return };
    for attempt in [
        "umount /home",
        "umount -l /home",
        "umount -l /srv/secret",
        "umount /etc/hidden",
        "umount -l /proc",
        "umount -l /run",
        "umount -l /root",
        "mount --move /home /mnt",
        "mount -o remount,rw /",
        "mount -o remount,bind,rw /",
        "mount -o remount,bind,suid /",
        "mount --bind / /mnt && ls /mnt/srv/secret/key",
        "unshare -m umount -l /home",
        "mkdir /tmp/o && mount -t overlay o -o lowerdir=/srv,upperdir=/tmp,workdir=/tmp /tmp/o && cat /tmp/o/secret/key",
        "cat /srv/secret/key",
        "cat /etc/hidden | grep .",
        "ls /home/bob",
        "mount --rbind / /mnt && (umount -l /mnt/home; ls /mnt/home/bob)",
        "mount --rbind / /mnt && (umount /mnt/srv/secret; cat /mnt/srv/secret/key)",
        "touch /usr/x",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo h > /proc/sysrq-trigger",
        "head -c1 /proc/kcore",
    ] {
        let words =
            ["caplet", "run", "-p", "netlab", "--cap-add", "SYS_ADMIN,DAC_OVERRIDE,SYS_PTRACE", "sh", "-c", attempt];
        let out = lab.run_as("alice", words);
        assert_ne!(out.code(), 0, "{attempt}: {out}");
        assert!(!out.out().contains("secret"), "{attempt}: {out}");
    }
}

#[test]
fn sys_admin_inside_can_do_what_the_courses_need() {
    let Some(lab) = lab() else { return };
    for line in [
        "mount -t tmpfs t /mnt && touch /mnt/x && umount /mnt",
        "ip netns add blue && ip netns exec blue ip link",
        "unshare --mount-proc -pf ps ax",
        "mount -t proc p /mnt",
        "hostname other && hostname",
        "mount --bind /tmp /mnt",
        "mount -t sysfs s /mnt",
    ] {
        let words =
            ["caplet", "run", "-p", "netlab", "--cap-add", "SYS_ADMIN,NET_ADMIN,DAC_OVERRIDE", "sh", "-c", line];
        lab.run_as("alice", words).expect_ok();
    }
    assert_eq!(lab.root("hostname").out(), "lab");
    assert_eq!(lab.mounts_left(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn programs_inside_make_user_namespaces_only_where_the_profile_says_so() {
    let Some(lab) = lab() else { return };
    assert_ne!(lab.run_as("alice", ["caplet", "run", "-p", "own", "unshare", "-U", "true"]).code(), 0);
    lab.run_as("alice", ["caplet", "run", "-p", "nested", "unshare", "-U", "true"]).expect_ok();
}

#[test]
fn ping_and_low_ports_work_without_a_capability() {
    need!("ping");
    let Some(lab) = lab() else { return };
    lab.run_as("alice", ["caplet", "run", "-p", "own", "ping", "-c1", "-W2", "127.0.0.1"]).expect_ok();
    let bind = "import socket; socket.socket().bind(('127.0.0.1', 80))";
    lab.run_as("alice", ["caplet", "run", "-p", "own", "/usr/bin/python3", "-c", bind]).expect_ok();
}

#[test]
fn with_subids_tcpdump_and_su_work_as_uid_0() {
    need!("tcpdump");
    let Some(lab) = lab() else { return };
    let out = lab.run_as("alice", ["caplet", "run", "-p", "subs", "timeout", "2", "tcpdump", "-i", "lo", "-c", "1"]);
    assert!(!out.err().contains("Couldn't change"), "{out}");
    assert!(out.err().contains("listening on lo"), "{out}");
    lab.run_as("alice", ["caplet", "run", "-p", "subs", "su", "-s", "/bin/sh", "daemon", "-c", "id -u"]).expect_ok();
}

#[test]
fn the_session_sees_its_own_processes_only_and_pid_1_is_nobodys() {
    let Some(lab) = lab() else { return };
    let line =
        "ls -d /proc/[0-9]*; cat /proc/1/mem /proc/1/environ /proc/1/maps | head -c1; ls -l /proc/1/exe /proc/1/fd/";
    let words = ["caplet", "run", "-p", "netlab", "--cap-add", "SYS_PTRACE,DAC_OVERRIDE", "sh", "-c", line];
    let out = lab.run_as("alice", words);
    assert!(out.out().lines().filter(|l| l.starts_with("/proc/")).count() <= 5, "{out}");
    assert_eq!(out.err().matches("ermission denied").count(), 5, "{out}");
}

// T38 and the environment rows of part B
#[test]
fn a_command_bound_profile_runs_that_file_alone_with_a_reset_environment() {
    let Some(lab) = lab() else { return };
    let run = |words: &[&str]| lab.run_as("alice", [&["caplet", "run", "-p", "clock"], words].concat());
    run(&["date"]).expect_ok();
    run(&["/bin/date", "+%s"]).expect_ok();
    run(&["sh", "-c", "id"]).expect_code(125);
    run(&["env", "true"]).expect_code(125);
    lab.sh("alice", "cp /bin/sh ~/date; ln -sf /usr/bin/date ~/mydate").expect_ok();
    run(&["./date", "-c", "id"]).expect_code(125);
    run(&["/home/alice/date"]).expect_code(125);
    run(&["/home/alice/mydate"]).expect_code(125);
    let environment = lab
        .task("alice", ["caplet", "run", "-p", "clock", "env", "LANG=C"])
        .env("LD_PRELOAD", "/home/alice/x.so")
        .env("PYTHONPATH", "/home/alice")
        .env("TERM", "../../x")
        .env("TZ", "/etc/shadow")
        .run()
        .expect_ok()
        .out();
    let mut names: Vec<_> = environment.lines().filter_map(|l| l.split('=').next()).collect();
    names.sort_unstable();
    let wanted = ["CAPLET_CAPS", "CAPLET_PROFILE", "CAPLET_SCOPE", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER"];
    assert_eq!(names, wanted);
    assert!(environment.contains("\nHOME=/\n"), "{environment}");
    assert!(environment.contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
}

#[test]
fn the_clock_can_be_set_with_the_host_profile_and_not_in_isolation() {
    let Some(lab) = lab() else { return };
    let out = lab.run_as("alice", ["caplet", "run", "-p", "basic", "--cap-add", "SYS_TIME", "date", "-s", "12:00"]);
    let lines = out.expect_code(125).err_lines();
    assert_eq!(lines[0], "caplet: SYS_TIME is not yours to add in profile \"basic\" (you may add: NET_RAW)");
    assert_eq!(lines[1], "caplet: profile \"clock\" would allow it: caplet run -p clock date -s 12:00");
    if lab.full() & (1 << 25) == 0 {
        skip!("this machine's root holds no CAP_SYS_TIME");
    }
    let set_now = "import time; time.clock_settime(time.CLOCK_REALTIME, time.time())";
    lab.run_as("alice", ["caplet", "run", "-p", "clock", "/usr/bin/python3", "-c", set_now]).expect_ok();
    assert_ne!(lab.python("alice", set_now).code(), 0);
}

// T21, CVE-2017-5226, CVE-2019-10063
#[test]
fn host_commands_cannot_push_input_into_the_callers_terminal() {
    let Some(lab) = lab() else { return };
    // By syscall(2): ioctl(3) of Python cuts the request to 32 bits, which is what the last form is about.
    let push = "import ctypes, platform\nlibc = ctypes.CDLL(None, use_errno=True)\n\
        number = {'x86_64': 16, 'aarch64': 29}[platform.machine()]\n\
        for r in (0x5412, 0x541c, 0x5412 | 1 << 32):\n\
        \x20done = libc.syscall(number, 0, ctypes.c_ulong(r), ctypes.c_char_p(b'x'))\n\
        \x20print('pushed' if done == 0 else ctypes.get_errno())\n";
    let mut terminal = lab.task("alice", ["caplet", "run", "-p", "clock", "python3", "-c", push]).terminal(24, 80);
    let screen = terminal.expect("1\r\n1\r\n1\r\n");
    terminal.wait();
    assert!(!screen.contains("pushed"), "{screen}");
}

#[test]
fn host_mounts_are_nosuid_and_ping_still_starts() {
    need!("ping");
    let Some(lab) = lab() else { return };
    let out =
        lab.run_as("alice", ["caplet", "run", "-p", "real", "--cap-add", "NET_RAW", "cat", "/proc/self/mountinfo"]);
    let mounts = caplet_lab::Mount::table(&out.expect_ok().out());
    assert!(mounts.iter().all(|mount| mount.has("nosuid")), "{mounts:?}");
    let ping = ["caplet", "run", "-p", "real", "--cap-add", "NET_RAW", "ping", "-c1", "-W2", "127.0.0.1"];
    lab.run_as("alice", ping).expect_ok();
}

// R4 (the sender's part), L1
#[test]
fn the_log_has_a_grant_and_an_end_from_uid_0_and_no_forged_line() {
    let Some(lab) = lab() else { return };
    let odd = "x\nNov 23 00:00:00 caplet[1]: grant id=0 user=root\u{1b}[31m";
    lab.run_as("alice", ["caplet", "run", "-p", "own", "sh", "-c", "exit 42", odd]).expect_code(42);
    let end = lab.log().wait("end", &[("user", "alice"), ("profile", "own"), ("status", "exit:42")]);
    let grant = lab.log().wait("grant", &[("id", &end.field("id"))]);
    assert_eq!((grant.uid, end.uid), (0, 0));
    assert!(!grant.text().contains(['\n', '\u{1b}']), "{:?}", grant.text());
    assert_eq!(grant.priority(), Some((10, 5)));
    lab.run_as("mallory", ["caplet", "run", "true"]).expect_code(125);
    let refuse = lab.log().wait("refuse", &[("user", "mallory")]);
    assert_eq!((refuse.uid, refuse.priority()), (0, Some((10, 4))));
}

// T39
#[test]
fn exit_codes_are_the_commands_or_ours() {
    let Some(lab) = lab() else { return };
    lab.write("/home/alice/plain", "text", 0o644, "alice");
    for profile in ["own", "real"] {
        let code = |words: &[&str]| lab.run_as("alice", [&["caplet", "run", "-p", profile], words].concat()).code();
        assert_eq!(code(&["sh", "-c", "exit 7"]), 7);
        assert_eq!(code(&["sh", "-c", "kill -KILL $$"]), 137);
        assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 143);
        assert_eq!(code(&["no-such-command"]), 127);
        assert_eq!(code(&[""]), 127);
        assert_eq!(code(&["/home/alice/plain"]), 126);
        assert_eq!(code(&["--cap-add", "SYS_MODULE", "true"]), 125);
    }
    assert_eq!(lab.run_as("alice", ["timeout", "1", "caplet", "run", "-p", "own", "sleep", "60"]).code(), 124);
}

// R1
#[test]
fn max_sessions_counts_and_gives_back() {
    let Some(lab) = lab() else { return };
    let mut first = lab.task("bob", ["caplet", "run", "-p", "few", "sleep", "60"]).spawn();
    let session = Session::isolated(&first);
    let out = lab.run_as("bob", ["caplet", "run", "-p", "few", "true"]).expect_code(125);
    assert!(out.err().contains("you have a session already"), "{out}");
    Session::signal(session.relay, Signal::SIGKILL);
    first.wait();
    session.wait_end();
    lab.run_as("bob", ["caplet", "run", "-p", "few", "true"]).expect_ok();
    let own = format!("ls /run/caplet | grep -c '^{}[.]' || true", lab.uid("bob"));
    assert_eq!(lab.root(&own).out(), "0");
}

// R1, D7
#[test]
fn what_sessions_hold_is_counted_for_their_user_alone() {
    let Some(lab) = lab() else { return };
    let watch = "import ctypes, resource, sys\nlibc, n = ctypes.CDLL(None), 0\nlimit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n\
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))\nwhile libc.inotify_init() >= 0: n += 1\n\
        print('watches', n, flush=True)\nsys.stdin.read()";
    let all: u32 = lab.root("cat /proc/sys/fs/inotify/max_user_instances").out().parse().expect("a number");
    let watches = |out: &str| -> u32 {
        out.lines().find_map(|l| l.strip_prefix("watches ")).and_then(|n| n.parse().ok()).expect("a number")
    };
    let mut held = Vec::new();
    for _ in 0..5 {
        let words = ["caplet", "run", "--quiet", "-p", "watchers", "/usr/bin/python3", "-c", watch];
        let running = lab.task("alice", words).stdin_open().spawn();
        running.wait_for("watches");
        held.push(running);
    }
    let counts: Vec<u32> = held.iter().map(|running| watches(&running.out_so_far())).collect();
    assert_eq!(counts, [all / 4, all / 4, all / 4, all / 4, all % 4], "alice has all of hers");
    // Which is nothing to another's sessions, to herself outside, or to root's services.
    let bobs = lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "watchers", "/usr/bin/python3", "-c", watch]);
    assert_eq!(watches(&bobs.expect_ok().out()), all / 4);
    for user in ["alice", "root"] {
        let one = "import ctypes; print(ctypes.CDLL(None).inotify_init() >= 0)";
        assert_eq!(lab.python(user, one).expect_ok().out(), "True", "{user}");
    }
    for running in &mut held {
        drop(running.stdin.take());
        running.wait();
    }
}

// R3
#[test]
fn whoever_is_killed_the_session_ends_and_the_log_says_so() {
    let Some(lab) = lab() else { return };
    for (profile, isolated) in [("own", true), ("real", false)] {
        for victim in ["relay", "init", "guard"] {
            let mut task = lab.task("alice", ["caplet", "run", "-p", profile, "sleep", "77"]).spawn();
            let session = if isolated { Session::isolated(&task) } else { Session::host(&task) };
            let pid = match victim {
                "relay" => session.relay,
                "init" => session.init,
                _ => session.guard,
            };
            if victim == "guard" {
                let pid = pid_in_lab(lab, pid);
                for signal in ["KILL", "STOP", "TERM"] {
                    assert_ne!(lab.sh("alice", &format!("kill -{signal} {pid}")).code(), 0);
                }
                Session::signal(session.relay, Signal::SIGTERM);
            } else {
                Session::signal(pid, Signal::SIGKILL);
            }
            task.wait();
            session.wait_end();
        }
    }
    let ids: Vec<String> = lab.log().find("grant", &[("command", "sleep 77")]).iter().map(|r| r.field("id")).collect();
    assert_eq!(ids.len(), 6);
    for id in ids {
        lab.log().wait("end", &[("id", &id)]);
    }
}

// R8
#[test]
fn the_callers_session_keyring_stays_outside() {
    need!("keyctl");
    let Some(lab) = lab() else { return };
    let line = "keyctl session - sh -c 'keyctl add user secret x @s >/dev/null; caplet run -p own keyctl show @s'";
    assert!(!lab.sh("alice", line).out().contains("secret"));
    // Nor does one in host scope have anything in its own, the user's keyring for one: that is pam_keyinit's to give.
    let host = lab.run_as("alice", ["caplet", "run", "-p", "real", "keyctl", "show", "@s"]).expect_ok();
    assert!(!host.out().contains("_uid."), "{host}");
}

// T14, part B "policy faults"
#[test]
fn a_faulty_or_untrusted_policy_grants_nobody_anything_and_shows_its_text_to_nobody() {
    let Some(lab) = Lab::new().user("alice", &[]).policy("[profile.own]\nusers = [\"alice\"]\n").start() else {
        return;
    };
    lab.run_as("alice", ["caplet", "run", "true"]).expect_ok();
    for spoil in [
        "chown alice /etc/caplet/policy.toml",
        "chmod 660 /etc/caplet/policy.toml",
        "chmod 777 /etc/caplet",
        "chown alice /etc/caplet",
        "chmod 777 /etc/caplet/policy.d",
        "echo 'capz = [\"HUSHHUSH\"]' >> /etc/caplet/policy.toml",
        "echo 'x' > /etc/caplet/policy.d/a.toml",
        "ln -s /etc/caplet/policy.toml /etc/caplet/policy.d/b.toml",
        "mkfifo /etc/caplet/policy.d/c.toml",
        "rm /etc/caplet/policy.toml",
        "mv /etc/caplet/policy.toml /tmp/p; ln -s /tmp/p /etc/caplet/policy.toml",
    ] {
        lab.root(&format!("cp -a /etc/caplet /etc/kept; {spoil}")).expect_ok();
        let out = lab.run_as("alice", ["caplet", "run", "true"]).expect_code(125);
        assert!(out.err_lines()[0].starts_with("caplet: the policy of this machine is faulty"), "{spoil}: {out}");
        assert!(!out.err().contains("HUSH"), "{spoil}: {out}");
        lab.root("rm -rf /etc/caplet; mv /etc/kept /etc/caplet").expect_ok();
    }
    lab.root("echo 'faulty' > /etc/caplet/policy.d/.hidden.toml; echo faulty > /etc/caplet/policy.d/x.bak").expect_ok();
    lab.run_as("alice", ["caplet", "run", "true"]).expect_ok();
}

#[test]
fn log_required_refuses_where_nobody_listens_and_best_effort_runs() {
    let policy = |log: &str| format!("[defaults]\nlog = \"{log}\"\n[profile.own]\nusers = [\"alice\"]\n");
    let Some(lab) = Lab::new().user("alice", &[]).without_journal().policy(&policy("required")).start() else { return };
    let out = lab.run_as("alice", ["caplet", "run", "true"]).expect_code(125);
    assert!(out.err().contains("wants every session logged"), "{out}");
    lab.set_policy(&policy("best-effort"));
    lab.run_as("alice", ["caplet", "run", "true"]).expect_ok();
}
