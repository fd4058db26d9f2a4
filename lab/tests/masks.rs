//! What is hidden or read-only stays so, whatever mount calls the session makes with every capability it can have.
//! Rows T05, T16, T18, T19, T20 and T33 of attacks.md.

use caplet_lab::{Lab, Mount, Output, SharedLab, shared, skip};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.own]
users = ["alice", "big"]
may_add = ["ALL"]
hide = ["/srv/secret", "/srv/file"]

[profile.zero]
users = ["alice", "big"]
user = "root"
may_add = ["ALL"]
privileged = true
hide = ["/srv/secret", "/srv/file"]

[profile.subs]
users = ["alice"]
user = "root"
subids = true
may_add = ["ALL"]
hide = ["/srv/secret", "/srv/file"]

[profile.nested]
users = ["alice"]
nested_userns = true
may_add = ["ALL"]
hide = ["/srv/secret", "/srv/file"]

[profile.readonly]
users = ["alice"]
user = "root"
may_add = ["ALL"]
home = "ro"

[profile.unfiltered]
users = ["alice"]
may_add = ["ALL"]
seccomp = "none"

[profile.unfiltered-zero]
users = ["alice"]
user = "root"
may_add = ["ALL"]
seccomp = "none"
"#;

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        Lab::new()
            .user("alice", &["students"])
            .user("bob", &[])
            .user("zoe", &[])
            .subid("alice", 200_000, 65_536)
            .file("/srv/secret/key", "hushhush", 0o644, "root")
            .file("/srv/file", "hushhush", 0o644, "root")
            .file("/home/bob/open", "hushhush", 0o644, "bob")
            .file("/srv/deny", "for all but students", 0o604, "root")
            .policy(POLICY)
    })
}

const PROFILES: [&str; 4] = ["own", "zero", "subs", "nested"];

fn python(lab: &Lab, profile: &str, program: &str) -> Output {
    let prelude = "import os,ctypes,errno,struct,subprocess,sys,platform\nlibc=ctypes.CDLL(None,use_errno=True)\n\
        PIVOT=41 if platform.machine()=='aarch64' else 155\n\
        def call(*words):\n\
        \x20   r=libc.syscall(*[ctypes.c_long(w) if isinstance(w,int) else w for w in words])\n\
        \x20   if r==-1: raise OSError(ctypes.get_errno(),'x')\n\
        \x20   return r\n\
        def mount(s,t,k=b'',f=0,d=None):\n\
        \x20   if libc.mount(s,t,k,ctypes.c_ulong(f),d): raise OSError(ctypes.get_errno(),'x')\n\
        def look(where):\n\
        \x20   for p in ('srv/secret/key','srv/file','home/bob/open'):\n\
        \x20       try: print(open(where+'/'+p).read())\n\
        \x20       except OSError: pass\n\
        BIND,REC,MOVE,REMOUNT=4096,16384,8192,32\n";
    let body: String = program.lines().map(|line| format!("    {line}\n")).collect();
    let program =
        format!("{prelude}try:\n{body}    print('done')\nexcept OSError as e: print(errno.errorcode[e.errno])");
    let words = ["caplet", "run", "--quiet", "-p", profile, "--cap-add", "ALL", "/usr/bin/python3", "-c", &program];
    lab.run_as("alice", words)
}

// T18
#[test]
fn no_mount_call_uncovers_what_is_hidden() {
    let Some(lab) = lab() else { return };
    lab.root("chmod 755 /home/bob");
    assert!(lab.sh("alice", "cat /srv/secret/key /srv/file /home/bob/open").out().contains("hush"));
    for program in [
        // Copies of the tree with and without what is mounted in it.
        "mount(b'/',b'/mnt',f=BIND); look('/mnt')",
        "mount(b'/',b'/mnt',f=BIND|REC); look('/mnt')",
        "mount(b'/srv',b'/mnt',f=BIND); look('/mnt/..'); print(os.listdir('/mnt/secret'))",
        "mount(b'/home',b'/mnt',f=BIND); print(open('/mnt/bob/open').read())",
        "f=call(428,-100,b'/',1|0x80000); os.fchdir(f); look('.')",
        "f=call(428,-100,b'/',1|0x8000|0x80000); os.fchdir(f); look('.')",
        "f=call(428,-100,b'/srv',1|0x80000); call(429,f,b'',-100,b'/mnt',4); look('/mnt/..'); os.listdir('/mnt/secret')",
        // Taking the masks off, or away.
        "libc.umount2(b'/srv/secret',0); libc.umount2(b'/srv/secret',2); libc.umount2(b'/srv/file',2); look('/')",
        "libc.umount2(b'/home',2); libc.umount2(b'/home',8); look('/')",
        "mount(b'/srv/secret',b'/mnt',f=MOVE); look('/')",
        "call(429,-100,b'/srv/file',-100,b'/dev/null',0); look('/')",
        "f=os.open('/home',os.O_PATH); call(429,f,b'',-100,b'/mnt',4); look('/')",
        // Another root.
        "mount(b'/',b'/mnt',f=BIND|REC); os.chdir('/mnt'); call(PIVOT,b'.',b'.'); libc.umount2(b'.',2); look('/')",
        "mount(b'/',b'/mnt',f=BIND|REC); os.chroot('/mnt'); libc.umount2(b'/srv/secret',2); libc.umount2(b'/srv/file',2); look('/')",
        "mount(b't',b'/mnt',b'tmpfs'); os.mkdir('/mnt/o'); os.chdir('/mnt'); call(PIVOT,b'.',b'o'); libc.umount2(b'/o',2); libc.umount2(b'/o/home',2); look('/o')",
        // Another mount namespace, and a user namespace where there can be one.
        "call(97 if platform.machine()=='aarch64' else 272,0x20000); libc.umount2(b'/srv/secret',2); libc.umount2(b'/home',2); look('/')",
        "subprocess.run(['unshare','-Urm','sh','-c','umount -l /srv/secret; umount -l /home; umount /srv/file; cat /srv/secret/key /srv/file /home/bob/open']); look('/')",
        "subprocess.run(['unshare','-Urm','sh','-c','mount --bind / /mnt; mount --rbind / /mnt; umount -l /mnt/home; cat /mnt/srv/secret/key /mnt/srv/file /mnt/home/bob/open'])",
        // Through a file system of one's own.
        "os.makedirs('/tmp/u'); os.makedirs('/tmp/w'); mount(b'o',b'/mnt',b'overlay',0,b'lowerdir=/srv,upperdir=/tmp/u,workdir=/tmp/w'); print(open('/mnt/secret/key').read())",
        "mount(b'o',b'/mnt',b'overlay',0,b'lowerdir=/:/srv'); look('/mnt')",
        // Through names of processes.
        "look('/proc/1/root'); look('/proc/self/root'); look('/proc/1/cwd'); look('/proc/1/root/proc/1/root')",
        "[look('/proc/self/fd/%d/..'%f) for f in range(9)]",
        // By propagation.
        "mount(b'n',b'/',f=REC|(1<<20)); libc.umount2(b'/srv/secret',2); look('/')",
        "mount(b'n',b'/',f=REC|(1<<18)); libc.umount2(b'/home',2); look('/')",
        // By handle: needs DAC_READ_SEARCH in the file system's own user namespace.
        "h=struct.pack('II',128,0)+bytes(128); b=ctypes.create_string_buffer(h); m=ctypes.c_int()\n\
         r=libc.name_to_handle_at(-100,b'/srv',b,ctypes.byref(m),0)\n\
         f=libc.open_by_handle_at(os.open('/',0),b,0)\nif f>=0: print('reached', os.listdir(f))",
    ] {
        for profile in PROFILES {
            let out = python(lab, profile, program);
            let said = format!("{}{}", out.out(), out.err());
            assert!(!said.contains("hush") && !said.contains("reached"), "{profile}: {program}\n{out}");
            assert!(!out.out().contains("'key'"), "{profile}: {program}\n{out}");
        }
    }
    lab.root("chmod 700 /home/bob");
}

// T18
#[test]
fn no_mount_call_makes_the_hosts_tree_writable_or_its_setuid_bits_count() {
    let Some(lab) = lab() else { return };
    for program in [
        "mount(b'n',b'/',f=REMOUNT|BIND); open('/usr/x','w')",
        "mount(b'n',b'/',f=REMOUNT); open('/usr/x','w')",
        "call(442,-100,b'/',0x8000,struct.pack('QQQQ',0,1,0,0),32); open('/usr/x','w')",
        "call(442,-100,b'/',0,struct.pack('QQQQ',0,2,0,0),32); print('suid')",
        "mount(b'/',b'/mnt',f=BIND); mount(b'n',b'/mnt',f=REMOUNT|BIND); open('/mnt/usr/x','w')",
        "f=call(428,-100,b'/',1|0x80000); call(442,f,b'',0x1000,struct.pack('QQQQ',0,3,0,0),32); os.fchdir(f); open('usr/x','w')",
        "f=call(428,-100,b'/usr',1|0x80000); os.fchdir(f); open('x','w')",
        "os.makedirs('/tmp/u'); os.makedirs('/tmp/w'); mount(b'o',b'/mnt',b'overlay',0,b'lowerdir=/usr,upperdir=/usr,workdir=/var')",
    ] {
        for profile in PROFILES {
            let out = python(lab, profile, program);
            assert!(
                ["EPERM", "EROFS", "EINVAL", "EACCES", "EBUSY"].contains(&&*out.out()),
                "{profile}: {program}\n{out}"
            );
        }
    }
    assert!(!lab.exists("/usr/x"));
    // A read-only home stays one.
    let program =
        "libc.umount2(b'/home/alice',2); mount(b'n',b'/home/alice',f=REMOUNT|BIND); open('/home/alice/x','w')";
    let out = python(lab, "readonly", program);
    assert_ne!(out.out(), "done", "{out}");
    assert!(!lab.exists("/home/alice/x"));
    // With every mount of the session nosuid, and what the kernel made for it noexec or not, as outside.
    for profile in PROFILES {
        let out = lab.run_as("alice", ["caplet", "run", "--quiet", "-p", profile, "cat", "/proc/self/mountinfo"]);
        for mount in Mount::table(&out.expect_ok().out()) {
            assert!(mount.has("nosuid"), "{profile}: {mount:?}");
            assert!(mount.propagation.iter().all(|p| !p.starts_with("shared")), "{profile}: {mount:?}");
            if mount.point == std::path::Path::new("/") {
                assert!(mount.has("ro"), "{profile}: {mount:?}");
            }
            let covers = |p: &str| mount.point.starts_with(p) && mount.point != std::path::Path::new(p);
            assert!(!covers("/proc") && !covers("/sys"), "masks there would break the courses: {mount:?}");
        }
    }
}

// T19, T20
#[test]
fn the_kernels_own_switches_and_secrets_stay_the_hosts() {
    let Some(lab) = lab() else { return };
    let writable = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sys/kernel/poweroff_cmd",
        "/proc/sys/kernel/panic",
        "/proc/sys/kernel/yama/ptrace_scope",
        "/proc/sys/kernel/unprivileged_bpf_disabled",
        "/proc/sys/fs/suid_dumpable",
        "/proc/sys/fs/protected_symlinks",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/net/core/bpf_jit_enable",
        "/proc/sysrq-trigger",
        "/proc/acpi/wakeup",
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/module/overlay/parameters/metacopy",
        "/sys/kernel/debug/x",
        "/sys/fs/cgroup/release_agent",
        "/sys/fs/cgroup/cgroup.procs",
    ];
    let readable = [
        "/proc/kcore",
        "/proc/kpagecount",
        "/proc/vmallocinfo",
        "/proc/slabinfo",
        "/proc/1/environ",
        "/proc/1/mem",
        "/proc/1/root/etc/shadow",
        "/etc/shadow",
        "/etc/caplet/policy.toml",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/port",
        "/dev/vda",
        "/dev/loop0",
        "/dev/fuse",
        "/dev/kvm",
        "/sys/firmware/dmi/tables/DMI",
        "/sys/kernel/debug",
        "/sys/kernel/tracing/trace",
        "/sys/kernel/security/lsm",
    ];
    for profile in PROFILES {
        let program = format!(
            "for p in {writable:?}:\n\
             \x20   try:\n\
             \x20       f=os.open(p,os.O_WRONLY); print('writes',p)\n\
             \x20   except OSError as e: pass\n\
             for p in {readable:?}:\n\
             \x20   try:\n\
             \x20       b=open(p,'rb').read(1); print('reads',p,b) if b else 0\n\
             \x20   except OSError: pass"
        );
        let out = python(lab, profile, &program);
        // A range of subordinate ids brings an /etc/shadow of the session's own for su.
        let shown: Vec<_> = out.out().lines().map(str::to_owned).collect();
        let wrong: Vec<_> = shown
            .iter()
            .filter(|l| *l != "done")
            .filter(|l| !(profile == "subs" && (l.contains("/etc/shadow"))))
            .collect();
        assert!(wrong.is_empty(), "{profile}: {wrong:?} {out}");
        let out = python(lab, profile, "print(len([p for p in os.listdir('/proc') if p.isdigit()]))");
        assert!(out.out().lines().next().is_some_and(|n| n.parse().is_ok_and(|n: u32| n <= 3)), "{profile}: {out}");
        // dmesg, kallsyms' addresses.
        let out = python(lab, profile, "print({l.split()[0] for l in open('/proc/kallsyms')} <= {'0'*16})");
        assert_eq!(out.out(), "True\ndone", "{profile}: {out}");
        let out = python(lab, profile, "b=ctypes.create_string_buffer(64); n=libc.klogctl(3,b,64); print(n)");
        assert_eq!(out.out(), "-1\ndone", "{profile}: {out}");
    }
}

// Architecture, 6: "max_user_namespaces is 0 inside unless nested_userns".
#[test]
fn a_session_with_every_capability_cannot_allow_itself_user_namespaces() {
    let Some(lab) = lab() else { return };
    let line = "echo 100 > /proc/sys/user/max_user_namespaces; unshare -Ur grep CapEff /proc/self/status";
    for profile in ["own", "zero", "subs", "unfiltered", "unfiltered-zero"] {
        let drop = ["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN,NET_ADMIN"];
        let words = [&["caplet", "run", "--quiet", "-p", profile], &drop[..], &["sh", "-c", line]].concat();
        let out = lab.run_as("alice", words);
        assert!(!out.out().contains("CapEff"), "{profile}: {out}");
        // Without the filter it is the limit that holds.
        assert!(
            !profile.starts_with("unfiltered") || out.err().contains("No space left on device"),
            "{profile}: {out}"
        );
    }
}

/// passwd(5) has `/` for many accounts, and more: mounted as a home, it would lie over all that is laid over it.
#[test]
fn a_home_that_holds_what_is_laid_over_is_none() {
    let Some(lab) = lab() else { return };
    lab.root("ln -s / /all; touch /run/of-the-host; chmod 755 /home/bob");
    let line = "ls -d /../run/of-the-host /../home/bob /home/bob/open /../proc/self/root/run/of-the-host; \
        ls /proc /../proc | grep -c '^[0-9]'; cat /../srv/secret/key";
    let policy = "[profile.zoe]\nusers = [\"zoe\"]\nhide = [\"/srv/secret\"]\n";
    lab.write("/etc/caplet/policy.d/zoe.toml", policy, 0o640, "root");
    lab.root("usermod -d / zoe");
    assert!(lab.sh("zoe", line).out().contains("of-the-host"), "it is there outside");
    for home in ["/", "/home", "/run", "/var", "/var/tmp", "/home/..", "//", "/proc", "/all"] {
        lab.root(&format!("usermod -d {home} zoe"));
        let out = lab.run_as("zoe", ["caplet", "run", "--quiet", "-p", "zoe", "sh", "-c", line]);
        assert!(!out.out().contains('/') && !out.out().contains("hush"), "{home}: {out}");
        let processes: u32 = out.out().trim().parse().expect("a number");
        assert!(processes <= 8, "{home}: {out}");
    }
    lab.root("rm /etc/caplet/policy.d/zoe.toml /all");
}

// T16, CVE-2014-8989: a file that "students" may not read
#[test]
fn a_group_that_is_kept_out_of_a_file_cannot_be_put_off() {
    let Some(lab) = lab() else { return };
    lab.root("chgrp students /srv/deny");
    assert_ne!(lab.run_as("alice", ["cat", "/srv/deny"]).code(), 0);
    assert_eq!(lab.run_as("bob", ["cat", "/srv/deny"]).code(), 0);
    for profile in ["own", "zero", "nested"] {
        for program in [
            "libc.setgroups(0,None); print(open('/srv/deny').read())",
            "libc.setresgid(0,0,0); libc.setgroups(0,None); print(open('/srv/deny').read())",
            "subprocess.run(['unshare','-Ur','sh','-c','setpriv --clear-groups cat /srv/deny || cat /srv/deny'])",
            "os.setgroups([])",
        ] {
            let out = python(lab, profile, program);
            assert!(!out.out().contains("for all but"), "{profile}: {program}: {out}");
        }
    }
}

// T05, CVE-2024-21626
#[test]
fn a_cwd_that_is_not_in_the_session_is_left_for_one_that_is() {
    let Some(lab) = lab() else { return };
    lab.root(
        "mkdir -p /tmp/shared /home/bob/pub /root/pub; chmod 777 /tmp/shared; chmod 711 /home/bob /root; \
              chmod 755 /home/bob/pub /root/pub; chmod 777 /run/user; mkdir -p /srv/secret/deep; ls -d /home/bob/pub",
    );
    for cwd in
        ["/tmp/shared", "/home/bob/pub", "/root/pub", "/srv/secret/deep", "/run/user", "/proc/self/fd", "/dev/shm", "/"]
    {
        for profile in ["own", "zero"] {
            let line = "/bin/pwd; ls ../../../home /proc/self/cwd/../../home; readlink /proc/self/cwd";
            let words = ["caplet", "run", "--quiet", "-p", profile, "sh", "-c", line];
            let out = lab.task("alice", words).cwd(cwd).run();
            let said = out.out();
            assert!(said.starts_with('/') && !said.contains("bob"), "{cwd}, {profile}: {out}");
            assert!(!said.contains("(unreachable)"), "{cwd}, {profile}: {out}");
        }
    }
    lab.root("chmod 700 /home/bob /root; chmod 755 /run/user");
}

// T33: nothing of ours lies under a name that somebody could have guessed.
#[test]
fn nothing_of_a_session_is_seen_in_tmp_and_tmp_is_private() {
    let Some(lab) = lab() else { return };
    let before = lab.root("find /tmp /var/tmp /dev/shm -xdev | sort").out();
    let line = "echo x > /tmp/mine; echo x > /var/tmp/mine; echo x > /dev/shm/mine; ls /tmp /var/tmp /dev/shm; ls /run";
    let words = ["caplet", "run", "--quiet", "-p", "own", "sh", "-c", line];
    let out = lab.run_as("alice", words).expect_ok().out();
    assert_eq!(out.matches("mine").count(), 3, "{out}");
    assert!(!out.contains("caplet"), "{out}");
    let after = lab.root("find /tmp /var/tmp /dev/shm -xdev | sort").out();
    assert!(!after.contains("mine"), "{before} {after}");
}

// T15
#[test]
fn a_user_with_an_id_beyond_two_to_the_31_is_a_user_like_any_other() {
    let Some(lab) = lab() else { return };
    let id = "3000000000";
    let added = lab.sh(
        "root",
        &format!("echo big:x:{id}:{id}::/home/big:/bin/sh >>/etc/passwd; echo big:x:{id}: >>/etc/group; install -d -o {id} -g {id} /home/big"),
    );
    if !added.ok() {
        skip!("no such id here: {}", added.err());
    }
    for (profile, map) in [("own", format!("{id} {id} 1")), ("zero", format!("0 {id} 1"))] {
        let line = "cat /proc/self/uid_map; touch ~/f && stat -c %u ~/f";
        let words = ["setpriv", "--reuid", id, "--regid", id, "--clear-groups"];
        let words =
            [&words[..], &["env", "HOME=/home/big", "caplet", "run", "--quiet", "-p", profile, "sh", "-c", line]];
        let out = lab.run_as("root", words.concat()).expect_ok().out();
        assert!(out.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(&map), "{profile}: {out}");
        assert_eq!(lab.root("stat -c %u /home/big/f").out(), id);
    }
}
