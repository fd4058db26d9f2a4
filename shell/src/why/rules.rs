//! What a refusal means, as data: call, arguments, errno -> the capabilities that the kernel asks for, of whom it asks
//! them, and what else it may be. Written from the kernel's own checks; the source of each stands at its row. Files have
//! a module of their own.

use super::calls::{NAMESPACES, NEW_USER};
use super::files;
use super::object::{Object, Who};
use caplet_policy::capability::{CapList, CapSet};

pub const EPERM: i32 = libc::EPERM;
pub const EACCES: i32 = libc::EACCES;
const EINVAL: i32 = libc::EINVAL;
const ENOMEM: i32 = libc::ENOMEM;
const EAGAIN: i32 = libc::EAGAIN;

/// A call that failed, and what it was about.
#[derive(Debug)]
pub struct Refusal<'a> {
    pub call: &'a str,
    pub args: [u64; 6],
    pub errno: i32,
    pub object: &'a Object,
    pub who: &'a Who,
    /// In a user namespace of the session's.
    pub isolated: bool,
    /// Flags of the mount of the file that it is about.
    pub mount: &'a [String],
    /// net.ipv4.ip_unprivileged_port_start
    pub port_floor: u16,
    /// A few bytes that an argument points to: the sets of capset(2).
    pub memory: &'a [u8],
}

/// Whose capability the kernel asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The machine's: `capable()`. An isolated session's own is not it.
    Machine,
    /// That of the namespace: `ns_capable()`. An isolated session's own is enough.
    Session,
    /// That of the network namespace: an isolated session's own is enough where it has a network of its own.
    Network,
}

/// What a refusal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Each is enough, with all that is in it. Empty: no capability helps.
    pub needs: Vec<CapSet>,
    pub reach: Reach,
    /// Whether there is nothing else that it can be.
    pub sure: bool,
    /// The cause, where the capability alone does not say it.
    pub cause: Option<String>,
}

impl Verdict {
    pub fn no_capability(cause: impl Into<String>) -> Self {
        Self { needs: Vec::new(), reach: Reach::Machine, sure: true, cause: Some(cause.into()) }
    }

    pub fn needs(needs: &[&str], reach: Reach) -> Self {
        Self { needs: needs.iter().map(|names| set(names)).collect(), reach, sure: true, cause: None }
    }

    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub fn unsure(mut self) -> Self {
        self.sure = false;
        self
    }
}

/// Names of ours as a set.
fn set(names: &str) -> CapSet {
    let mut list = CapList::default();
    let _ = list.add_text(names);
    list.names
}

/// When a row fits, besides call and errno.
#[derive(Debug, Clone, Copy)]
enum When {
    Any,
    /// Argument N, its low 32 bits, is one of these.
    Is(usize, &'static [u32]),
    /// Argument N has one of these bits.
    Has(usize, u32),
    /// Argument N under this mask is one of these.
    Masked(usize, u32, &'static [u32]),
    /// Argument N from here to there.
    Between(usize, u32, u32),
    Both(&'static When, &'static When),
    /// The process that it is about belongs to somebody else, or none is known.
    Foreign,
    /// The text is one of these.
    Named(&'static [&'static str]),
}

struct Rule {
    calls: &'static [&'static str],
    errno: &'static [i32],
    when: When,
    /// Each is enough; empty: none helps.
    needs: &'static [&'static str],
    reach: Reach,
    sure: bool,
    cause: &'static str,
}

/// File systems that a user namespace may mount: FS_USERNS_MOUNT of `fs/*`.
const MOUNTED_BY_USERS: &[&str] = &[
    "tmpfs", "ramfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "fuse", "fuse.", "bpf",
    "binder", "aufs",
];
/// MS_REMOUNT, MS_BIND, MS_MOVE, MS_UNBINDABLE to MS_SHARED: no new file system.
const NO_NEW_MOUNT: u32 = 32 | 4096 | 8192 | (1 << 17) | (1 << 18) | (1 << 19) | (1 << 20);
const S_IFMT: u32 = libc::S_IFMT;

macro_rules! rules {
    (@sure sure) => { true };
    (@sure perhaps) => { false };
    ($($($call:ident)+ : $($errno:ident)+, $when:expr => [$($need:literal),*] $reach:ident $sure:ident $cause:literal;)*) => {
        static RULES: &[Rule] = &[$(Rule {
            calls: &[$(stringify!($call)),+],
            errno: &[$($errno),+],
            when: $when,
            needs: &[$($need),*],
            reach: Reach::$reach,
            sure: rules!(@sure $sure),
            cause: $cause,
        }),*];
    };
}

use When::{Any, Between, Both, Foreign, Has, Is, Masked, Named};

// The first row that fits counts.
rules! {
    // kernel/time/time.c, kernel/time/posix-timers.c: security_settime64 -> capable(CAP_SYS_TIME)
    clock_settime settimeofday clock_adjtime adjtimex: EPERM, Any => ["SYS_TIME"] Machine sure "";
    // drivers/rtc/dev.c: RTC_SET_TIME, RTC_EPOCH_SET; RTC_IRQP_SET and RTC_PIE_ON
    ioctl: EACCES, Is(1, &[0x4024_700a, 0x4008_700e]) => ["SYS_TIME"] Machine sure "";
    ioctl: EACCES, Is(1, &[0x4008_700c, 0x7005]) => ["SYS_RESOURCE"] Machine sure "";
    // kernel/time/alarmtimer.c, fs/timerfd.c
    timerfd_create timer_create: EPERM, Any => ["WAKE_ALARM"] Machine sure "";

    // kernel/sys.c: ns_capable(uts_ns->user_ns)
    sethostname setdomainname: EPERM, Any => ["SYS_ADMIN"] Session sure "";
    // fs/namespace.c: may_mount; fs/super.c: mount_capable
    mount: EPERM, Has(3, NO_NEW_MOUNT) => ["SYS_ADMIN"] Session sure "";
    mount fsopen: EPERM, Named(MOUNTED_BY_USERS) => ["SYS_ADMIN"] Session sure "";
    mount: EPERM, Any => ["SYS_ADMIN"] Machine sure "a file system of this type is mounted by the machine's root alone";
    umount2 pivot_root open_tree move_mount fsmount fspick fsopen mount_setattr: EPERM, Any => ["SYS_ADMIN"] Session sure "";
    // mm/swapfile.c, fs/quota, kernel/acct.c
    swapon swapoff: EPERM, Any => ["SYS_ADMIN"] Machine sure "";
    quotactl: EPERM, Any => ["SYS_ADMIN"] Machine sure "";
    acct: EPERM, Any => ["SYS_PACCT"] Machine sure "";
    // kernel/reboot.c: ns_capable(pid_ns->user_ns)
    reboot: EPERM, Any => ["SYS_BOOT"] Session sure "";
    kexec_load kexec_file_load: EPERM, Any => ["SYS_BOOT"] Machine sure "";
    // kernel/module/main.c
    init_module finit_module delete_module: EPERM, Any => ["SYS_MODULE"] Machine sure "";
    // arch/x86/kernel/ioport.c
    ioperm iopl: EPERM, Any => ["SYS_RAWIO"] Machine sure "";
    // kernel/printk/printk.c: check_syslog_permissions
    syslog: EPERM, Any => ["SYSLOG"] Machine sure "";
    // fs/open.c
    vhangup: EPERM, Any => ["SYS_TTY_CONFIG"] Machine sure "";
    chroot: EPERM, Any => ["SYS_CHROOT"] Session sure "";

    // kernel/fork.c, kernel/nsproxy.c
    unshare clone: EPERM, Has(0, NEW_USER) => [] Session sure
        "this session, or this machine, lets nobody make user namespaces (nested_userns, user.max_user_namespaces)";
    unshare clone: EPERM, Has(0, NAMESPACES) => ["SYS_ADMIN"] Session sure "";
    setns: EPERM, Any => ["SYS_ADMIN"] Session perhaps "the namespace may also belong to somebody else: then the machine's own is asked for";

    // kernel/sys.c, kernel/groups.c; kernel/user_namespace.c: make_kuid
    setuid setreuid setresuid: EPERM, Any => ["SETUID"] Session sure "";
    setgid setregid setresgid: EPERM, Any => ["SETGID"] Session sure "";
    setgroups: EPERM, Any => ["SETGID"] Session perhaps "in a session without ids of its own (subids) the kernel refuses it even so";
    setuid setreuid setresuid setgid setregid setresgid setgroups: EINVAL, Any => [] Session sure
        "this session knows no such id: no capability helps, only a range of ids (subids = true in its profile)";
    chown lchown fchown fchownat: EINVAL, Any => [] Session sure
        "this session knows no such id: no capability helps, only a range of ids (subids = true in its profile)";

    // kernel/sys.c: set_one_prio, can_nice
    setpriority: EACCES, Any => ["SYS_NICE"] Machine sure "";
    setpriority: EPERM, Any => ["SYS_NICE"] Session sure "the process belongs to somebody else";
    // kernel/sched/syscalls.c: user_check_sched_setscheduler; block/ioprio.c
    sched_setscheduler sched_setparam sched_setattr: EPERM, Any => ["SYS_NICE"] Machine sure "";
    sched_setaffinity: EPERM, Any => ["SYS_NICE"] Session sure "the process belongs to somebody else";
    ioprio_set: EPERM, Masked(2, 0xe000, &[0x2000]) => ["SYS_NICE", "SYS_ADMIN"] Machine sure "";
    ioprio_set: EPERM, Any => ["SYS_NICE"] Session sure "the process belongs to somebody else";
    // kernel/sys.c: do_prlimit, check_prlimit_permission
    setrlimit: EPERM, Any => ["SYS_RESOURCE"] Machine sure "a hard limit is never raised without it (PAM's limits, or `limits` of the profile, set it)";
    prlimit64: EPERM, Foreign => ["SYS_RESOURCE"] Session sure "the process belongs to somebody else";
    prlimit64: EPERM, Any => ["SYS_RESOURCE"] Machine sure "a hard limit is never raised without it (PAM's limits, or `limits` of the profile, set it)";
    // mm/mlock.c: can_do_mlock; rlimit
    mlock mlock2 mlockall: EPERM, Any => ["IPC_LOCK"] Machine sure "the limit on locked memory is 0 (ulimit -l)";
    mlock mlock2 mlockall: ENOMEM EAGAIN, Any => ["IPC_LOCK"] Machine perhaps "more than the limit on locked memory (ulimit -l), or than there is";
    // ipc/shm.c, ipc/util.c: ipcperms, ipcctl_obtain_check
    shmget: EPERM, Has(2, 0o4000) => ["IPC_LOCK"] Machine sure "huge pages; or the group of vm.hugetlb_shm_group";
    shmctl: EPERM, Is(1, &[11, 12]) => ["IPC_LOCK"] Session sure "";
    shmctl semctl msgctl: EPERM, Any => ["SYS_ADMIN"] Session sure "it belongs to somebody else";
    shmget shmat shmctl semget semctl msgget msgctl: EACCES, Any => ["IPC_OWNER"] Session sure "it belongs to somebody else";

    // kernel/signal.c: check_kill_permission
    kill tkill tgkill rt_sigqueueinfo pidfd_send_signal: EPERM, Any => ["KILL"] Session sure "";
    // kernel/ptrace.c: __ptrace_may_access
    ptrace: EPERM, Is(0, &[0]) => [] Session sure "it is being traced already: by caplet why";
    ptrace: EPERM, Is(0, &[16, 0x4206]) => ["SYS_PTRACE"] Session perhaps "one that is traced already (a child of the watched command is) is refused to everybody, and kernel.yama.ptrace_scope may ask for more";
    process_vm_readv process_vm_writev kcmp pidfd_getfd: EPERM, Any => ["SYS_PTRACE"] Session sure "";
    migrate_pages move_pages: EPERM, Any => ["SYS_PTRACE,SYS_NICE"] Session sure "";

    // net/ipv4/af_inet.c, net/packet/af_packet.c, net/key/af_key.c, net/xdp/xsk.c
    socket: EPERM, Is(0, &[17, 44]) => ["NET_RAW"] Network sure "";
    socket: EPERM, Is(0, &[15]) => ["NET_ADMIN"] Network sure "";
    socket: EPERM, Masked(1, 0xf, &[3]) => ["NET_RAW"] Network sure "";
    socket: EACCES, Both(&Is(0, &[2, 10]), &Is(2, &[1, 58])) => [] Network sure
        "ICMP without privilege is for the groups of net.ipv4.ping_group_range; a raw socket, which NET_RAW opens, is another call";
    // net/core/sock.c: capable() for *FORCE and SO_DEBUG, ns_capable() for the rest
    setsockopt: EPERM EACCES, Both(&Is(1, &[1]), &Is(2, &[1, 32, 33, 46, 70])) => ["NET_ADMIN"] Machine sure "many programs ask for it, and go on without";
    setsockopt: EPERM, Both(&Is(1, &[1]), &Is(2, &[12, 36])) => ["NET_ADMIN", "NET_RAW"] Network sure "";
    setsockopt: EPERM, Both(&Is(1, &[1]), &Is(2, &[25])) => ["NET_RAW"] Network sure "";
    setsockopt: EPERM, Is(1, &[1]) => ["NET_ADMIN"] Network perhaps "";
    // net/ipv4/ip_sockglue.c, net/ipv6/ipv6_sockglue.c; netfilter's tables; net/ipv4/tcp.c
    setsockopt: EPERM, Both(&Is(1, &[0]), &Is(2, &[19])) => ["NET_RAW", "NET_ADMIN"] Network sure "";
    setsockopt: EPERM, Both(&Is(1, &[41]), &Is(2, &[75])) => ["NET_RAW", "NET_ADMIN"] Network sure "";
    setsockopt getsockopt: EPERM, Both(&Is(1, &[0, 41]), &Between(2, 64, 100)) => ["NET_ADMIN"] Network sure "";
    setsockopt getsockopt: EPERM, Any => ["NET_ADMIN"] Network perhaps "";
    // net/core/dev_ioctl.c, net/ipv4/fib_frontend.c, net/bridge/br_ioctl.c, drivers/net/tun.c
    ioctl: EPERM, Masked(1, 0xff00, &[0x8900, 0x8b00]) => ["NET_ADMIN"] Network sure "";
    ioctl: EPERM, Is(1, &[0x4004_54ca]) => ["NET_ADMIN"] Network sure "the device may also belong to somebody else";
    // fs/ioctl.c: vfs_fileattr_set; FITRIM, FIFREEZE, FITHAW, FIBMAP
    ioctl: EPERM, Is(1, &[0x4008_6602, 0x401c_5820]) => ["LINUX_IMMUTABLE", "FOWNER"] Machine perhaps
        "LINUX_IMMUTABLE for +i and +a, FOWNER for a file of somebody else";
    ioctl: EPERM, Is(1, &[0xc018_5879, 0xc004_5877, 0xc004_5878]) => ["SYS_ADMIN"] Machine sure "";
    ioctl: EPERM, Is(1, &[1]) => ["SYS_RAWIO"] Machine sure "";
    // drivers/scsi, block/ioctl.c, drivers/block/loop.c, drivers/tty
    ioctl: EPERM, Masked(1, 0xff00, &[0x2200]) => ["SYS_RAWIO"] Machine sure "";
    ioctl: EPERM EACCES, Masked(1, 0xff00, &[0x1200, 0x4c00]) => ["SYS_ADMIN"] Machine sure "";
    ioctl: EPERM, Masked(1, 0xff00, &[0x4b00, 0x5600]) => ["SYS_TTY_CONFIG"] Machine sure "";
    ioctl: EPERM, Is(1, &[0x5412, 0x541d]) => ["SYS_ADMIN"] Machine sure "";

    // fs/notify/fanotify, kernel/events/core.c, kernel/bpf/syscall.c
    fanotify_init: EPERM, Any => ["SYS_ADMIN"] Machine sure "";
    perf_event_open: EPERM EACCES, Any => ["PERFMON", "SYS_ADMIN"] Machine sure "kernel.perf_event_paranoid says what is free";
    bpf: EPERM, Is(0, &[11, 12, 13, 14, 19, 23, 30, 31]) => ["SYS_ADMIN"] Machine sure "";
    bpf: EPERM, Is(0, &[5]) => ["BPF,PERFMON", "BPF,NET_ADMIN", "SYS_ADMIN"] Machine perhaps "it depends on the program's type";
    bpf: EPERM, Any => ["BPF", "SYS_ADMIN"] Machine sure "";
    // fs/userfaultfd.c, io_uring/io_uring.c, fs/fhandle.c
    userfaultfd: EPERM, Any => ["SYS_PTRACE"] Machine sure "UFFD_USER_MODE_ONLY is free";
    io_uring_setup: EPERM, Any => ["SYS_ADMIN"] Machine sure "kernel.io_uring_disabled keeps it from others";
    open_by_handle_at: EPERM, Any => ["DAC_READ_SEARCH"] Machine sure "";
    // fs/locks.c, fs/pipe.c
    fcntl: EACCES, Is(1, &[1024]) => ["LEASE"] Machine sure "the file belongs to somebody else";
    fcntl: EPERM, Is(1, &[1031]) => ["SYS_RESOURCE"] Machine sure "more than fs.pipe-max-size";
    // security/keys/keyctl.c
    keyctl: EACCES EPERM, Any => ["SYS_ADMIN"] Machine sure "the key belongs to somebody else";
    // security/commoncap.c: cap_prctl; kernel/sys.c: prctl_set_mm
    prctl: EPERM, Is(0, &[24, 28]) => ["SETPCAP"] Session sure "";
    prctl: EPERM, Is(0, &[35]) => ["SYS_RESOURCE"] Machine sure "";
    // fs/namei.c: vfs_mknod
    mknod: EPERM, Masked(1, S_IFMT, &[libc::S_IFCHR, libc::S_IFBLK]) => ["MKNOD"] Machine sure "";
    mknodat: EPERM, Masked(2, S_IFMT, &[libc::S_IFCHR, libc::S_IFBLK]) => ["MKNOD"] Machine sure "";
}

impl When {
    fn fits(self, refusal: &Refusal<'_>) -> bool {
        let arg = |n: usize| refusal.args[n] as u32;
        match self {
            Self::Any => true,
            Self::Is(n, values) => values.contains(&arg(n)),
            Self::Has(n, bits) => arg(n) & bits != 0,
            Self::Masked(n, mask, values) => values.contains(&(arg(n) & mask)),
            Self::Between(n, first, last) => (first..=last).contains(&arg(n)),
            Self::Both(one, other) => one.fits(refusal) && other.fits(refusal),
            Self::Foreign => {
                matches!(refusal.object, Object::Process { uid, .. } if uid.is_none_or(|uid| uid != refusal.who.uid))
            }
            Self::Named(names) => {
                matches!(refusal.object, Object::Text(text) if names.iter().any(|name| name == text || name.ends_with('.') && text.starts_with(name)))
            }
        }
    }
}

/// What a refusal means; `None`: it is no refusal, or none for want of a capability.
pub fn judge(refusal: &Refusal<'_>) -> Option<Verdict> {
    special(refusal).or_else(|| {
        let fits = |rule: &&Rule| {
            rule.calls.contains(&refusal.call) && rule.errno.contains(&refusal.errno) && rule.when.fits(refusal)
        };
        let rule = RULES.iter().find(fits)?;
        let needs = rule.needs.iter().map(|names| set(names)).collect();
        let cause = Some(rule.cause.to_owned()).filter(|cause| !cause.is_empty());
        Some(Verdict { needs, reach: rule.reach, sure: rule.sure, cause })
    })
}

/// Where the object says more than the arguments do.
fn special(refusal: &Refusal<'_>) -> Option<Verdict> {
    match (refusal.call, refusal.errno, refusal.object) {
        ("bind", EACCES, Object::Port(port)) if *port < refusal.port_floor => Some(
            Verdict::needs(&["NET_BIND_SERVICE"], Reach::Network)
                .because(format!("ports below {} are not for everybody", refusal.port_floor)),
        ),
        ("bind", EACCES, Object::Port(_)) => Some(Verdict::no_capability(
            "the port is not below net.ipv4.ip_unprivileged_port_start: a security module (SELinux, AppArmor)?",
        )),
        ("bind", EPERM, Object::Address(16)) => {
            Some(Verdict::needs(&["NET_ADMIN", "AUDIT_READ"], Reach::Network).unsure())
        }
        ("capset", EPERM, _) => Some(raised(refusal)),
        (_, _, Object::File(file)) => files::judge(refusal, file),
        _ => None,
    }
}

/// capset(2): what was to be raised and is not held. `struct __user_cap_data_struct`, twice: effective, permitted,
/// inheritable.
fn raised(refusal: &Refusal<'_>) -> Verdict {
    let word = |at: usize| {
        let bytes = refusal.memory.get(at * 4..at * 4 + 4).and_then(|bytes| bytes.try_into().ok());
        u64::from(bytes.map_or(0, u32::from_ne_bytes))
    };
    let wanted = word(0) | word(1) | (word(3) | word(4)) << 32;
    match CapSet::from_bits(wanted & !refusal.who.permitted) {
        missing if missing.is_empty() => Verdict::needs(&["SETPCAP"], Reach::Session).unsure(),
        missing => Verdict {
            needs: vec![missing],
            reach: Reach::Session,
            sure: true,
            cause: Some("the program wants to raise what it does not hold".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(call: &str, args: [u64; 6], errno: i32, object: &Object) -> Option<Verdict> {
        let who = Who { uid: 1000, ..Who::default() };
        judge(&Refusal {
            call,
            args,
            errno,
            object,
            who: &who,
            isolated: true,
            mount: &[],
            port_floor: 1024,
            memory: &[],
        })
    }

    fn needs(call: &str, args: &[u64], errno: i32) -> (String, Reach) {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let verdict = ask(call, all, errno, &Object::Nothing).unwrap_or_else(|| panic!("{call} {args:?}"));
        (verdict.needs.iter().map(CapSet::to_string).collect::<Vec<_>>().join("|"), verdict.reach)
    }

    #[test]
    fn calls_and_arguments_name_the_capability() {
        use Reach::{Machine, Network, Session};
        for (call, args, errno, wanted, reach) in [
            ("clock_settime", &[0][..], EPERM, "SYS_TIME", Machine),
            ("sethostname", &[], EPERM, "SYS_ADMIN", Session),
            ("socket", &[17, 3, 768], EPERM, "NET_RAW", Network),
            ("socket", &[2, 3 | 0x80000, 255], EPERM, "NET_RAW", Network),
            ("ioctl", &[3, 0x890b], EPERM, "NET_ADMIN", Network),
            ("ioctl", &[3, 0x4024_700a], EACCES, "SYS_TIME", Machine),
            ("setsockopt", &[3, 1, 33], EPERM, "NET_ADMIN", Machine),
            ("setsockopt", &[3, 1, 36], EPERM, "NET_ADMIN|NET_RAW", Network),
            ("getsockopt", &[3, 0, 64], EPERM, "NET_ADMIN", Network),
            ("setpriority", &[0, 0, 0], EACCES, "SYS_NICE", Machine),
            ("ioprio_set", &[1, 0, 0x2000], EPERM, "SYS_NICE|SYS_ADMIN", Machine),
            ("unshare", &[0x2_0000], EPERM, "SYS_ADMIN", Session),
            ("unshare", &[0x1000_0000], EPERM, "", Session),
            ("shmget", &[0, 0, 0o4000], EPERM, "IPC_LOCK", Machine),
            ("setuid", &[0], EPERM, "SETUID", Session),
            ("setuid", &[5], EINVAL, "", Session),
            ("mknodat", &[0, 0, 0o020_644], EPERM, "MKNOD", Machine),
            ("bpf", &[5], EPERM, "NET_ADMIN,BPF|PERFMON,BPF|SYS_ADMIN", Machine),
            ("mlock", &[], ENOMEM, "IPC_LOCK", Machine),
        ] {
            let (got, from) = needs(call, args, errno);
            let sorted = |text: &str| {
                let mut words: Vec<String> = text.split('|').map(str::to_owned).collect();
                words.sort();
                words
            };
            let canonical =
                |text: &str| sorted(&text.split('|').map(|t| set(t).to_string()).collect::<Vec<_>>().join("|"));
            assert_eq!((sorted(&got), from), (canonical(wanted), reach), "{call} {args:?}");
        }
        assert_eq!(ask("sched_setscheduler", [0; 6], EINVAL, &Object::Nothing), None);
    }

    #[test]
    fn what_it_is_about_decides() {
        let mount = |name: &str| ask("mount", [0; 6], EPERM, &Object::Text(name.into())).expect("a verdict").reach;
        assert_eq!(
            (mount("tmpfs"), mount("ext4"), mount("fuse.sshfs")),
            (Reach::Session, Reach::Machine, Reach::Session)
        );
        let bind = |port| ask("bind", [0; 6], EACCES, &Object::Port(port)).expect("a verdict").needs;
        assert_eq!(bind(80), [set("NET_BIND_SERVICE")]);
        assert_eq!(bind(8080), []);
        let limit = |uid| ask("prlimit64", [0; 6], EPERM, &Object::Process { pid: 1, uid }).expect("a verdict").reach;
        assert_eq!((limit(Some(1000)), limit(Some(0)), limit(None)), (Reach::Machine, Reach::Session, Reach::Session));
    }

    #[test]
    fn capset_names_what_is_missing() {
        let mut memory = [0u8; 24];
        memory[3] = 0x80; // bit 31 of the effective set: SETFCAP
        let who = Who::default();
        let refusal = Refusal {
            call: "capset",
            args: [0; 6],
            errno: EPERM,
            object: &Object::Nothing,
            who: &who,
            isolated: true,
            mount: &[],
            port_floor: 1024,
            memory: &memory,
        };
        assert_eq!(judge(&refusal).expect("a verdict").needs, [set("SETFCAP")]);
    }

    #[test]
    fn every_row_names_known_calls_and_capabilities() {
        for rule in RULES {
            for call in rule.calls {
                assert!(
                    super::super::calls::CALLS.iter().any(|c| c.name == *call) || cfg!(not(target_arch = "x86_64")),
                    "{call}"
                );
            }
            for need in rule.needs {
                assert_eq!(set(need).iter().count(), need.split(',').count(), "{need}");
            }
        }
    }
}
