//! The rules as rows: calls, errnos, and when -> the capabilities of which each is enough, of whom they are asked, and
//! whether it can be nothing else. Written from the kernel's own checks; the source of each stands above it.

use super::calls::{NAMESPACES, NEW_TIME, NEW_USER};
use super::object::Object;
use super::rules::{EACCES, EPERM, Reach, Refusal};

const EINVAL: i32 = libc::EINVAL;
const ENOMEM: i32 = libc::ENOMEM;
const EAGAIN: i32 = libc::EAGAIN;
const ENOSYS: i32 = libc::ENOSYS;
const EIO: i32 = libc::EIO;
const EMFILE: i32 = libc::EMFILE;
const ENOSPC: i32 = libc::ENOSPC;
const EUSERS: i32 = libc::EUSERS;

/// When a row fits, besides call and errno.
#[derive(Debug, Clone, Copy)]
pub enum When {
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

/// One row.
#[derive(Debug)]
pub struct Rule {
    pub calls: &'static [&'static str],
    pub errno: &'static [i32],
    pub when: When,
    /// Each is enough; empty: none helps.
    pub needs: &'static [&'static str],
    pub reach: Reach,
    pub sure: bool,
    pub cause: &'static str,
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
        pub static RULES: &[Rule] = &[$(Rule {
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
    quotactl quotactl_fd: EPERM, Any => ["SYS_ADMIN"] Machine sure "";
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
    unshare clone clone3: EPERM, Has(0, NEW_USER) => [] Session sure
        "this session, or this machine, lets nobody make user namespaces (nested_userns, user.max_user_namespaces)";
    unshare: EPERM, Has(0, NAMESPACES | NEW_TIME) => ["SYS_ADMIN"] Session sure "";
    clone clone3: EPERM, Has(0, NAMESPACES) => ["SYS_ADMIN"] Session sure "";
    unshare clone clone3: ENOSPC EUSERS, Has(0, NAMESPACES | NEW_USER) => [] Session sure
        "there are as many namespaces of this kind as there may be (/proc/sys/user); in an isolated session that is none of users, but where its profile says nested_userns = true";
    setns: EPERM, Any => ["SYS_ADMIN"] Session perhaps "the namespace may also belong to somebody else: then the machine's own is asked for";

    // kernel/sys.c, kernel/groups.c; kernel/user_namespace.c: make_kuid
    setuid setreuid setresuid: EPERM, Any => ["SETUID"] Session sure "";
    setgid setregid setresgid: EPERM, Any => ["SETGID"] Session sure "";
    setuid setreuid setresuid setgid setregid setresgid setgroups: EINVAL, Any => [] Session sure
        "this session knows no such id: no capability helps, only a range of ids (subids = true in its profile)";
    chown lchown fchown fchownat: EINVAL, Any => [] Session sure
        "this session knows no such id: no capability helps, only a range of ids (subids = true in its profile)";

    // kernel/sys.c: set_one_prio, can_nice
    setpriority: EACCES, Any => ["SYS_NICE"] Machine sure "";
    setpriority: EPERM, Any => ["SYS_NICE"] Others sure "the process belongs to somebody else";
    // kernel/sched/syscalls.c: user_check_sched_setscheduler; block/ioprio.c
    sched_setscheduler sched_setparam sched_setattr: EPERM, Foreign => ["SYS_NICE"] Others sure "the process belongs to somebody else";
    sched_setscheduler sched_setparam sched_setattr: EPERM, Any => ["SYS_NICE"] Machine sure "";
    sched_setaffinity: EPERM, Any => ["SYS_NICE"] Others sure "the process belongs to somebody else";
    ioprio_set: EPERM, Masked(2, 0xe000, &[0x2000]) => ["SYS_NICE", "SYS_ADMIN"] Machine sure "";
    ioprio_set: EPERM, Any => ["SYS_NICE"] Others sure "the process belongs to somebody else";
    // kernel/sys.c: do_prlimit, check_prlimit_permission
    setrlimit: EPERM, Any => ["SYS_RESOURCE"] Machine sure "a hard limit is never raised without it (PAM's limits, or `limits` of the profile, set it)";
    prlimit64: EPERM, Foreign => ["SYS_RESOURCE"] Others sure "the process belongs to somebody else";
    prlimit64: EPERM, Any => ["SYS_RESOURCE"] Machine sure "a hard limit is never raised without it (PAM's limits, or `limits` of the profile, set it)";
    // mm/mlock.c: can_do_mlock; rlimit
    mlock mlock2 mlockall: EPERM, Any => ["IPC_LOCK"] Machine sure "the limit on locked memory is 0 (ulimit -l)";
    mlock mlock2 mlockall: ENOMEM EAGAIN, Any => ["IPC_LOCK"] Machine perhaps "more than the limit on locked memory (ulimit -l), or than there is";
    // ipc/shm.c, ipc/util.c: ipcperms, ipcctl_obtain_check
    shmget: EPERM, Has(2, 0o4000) => ["IPC_LOCK"] Machine sure "huge pages; or the group of vm.hugetlb_shm_group";
    shmctl: EPERM, Is(1, &[11, 12]) => ["IPC_LOCK"] Session sure "";
    shmctl semctl msgctl: EPERM, Any => ["SYS_ADMIN"] Session sure "it belongs to somebody else";
    mq_open: EACCES, Any => ["DAC_OVERRIDE"] Session perhaps "the queue belongs to somebody else";
    mq_unlink: EACCES EPERM, Any => ["FOWNER"] Session perhaps "the queue belongs to somebody else (the folder of queues is sticky)";
    mq_open: EMFILE ENOSPC, Any => ["SYS_RESOURCE"] Session perhaps "more queues or messages than RLIMIT_MSGQUEUE and fs.mqueue allow";
    shmget shmat shmctl semget semctl msgget msgctl: EACCES, Any => ["IPC_OWNER"] Session sure "it belongs to somebody else";

    // kernel/signal.c: check_kill_permission
    kill tkill tgkill rt_sigqueueinfo pidfd_send_signal: EPERM, Any => ["KILL"] Others sure "";
    // kernel/ptrace.c: __ptrace_may_access
    ptrace: EPERM, Is(0, &[0]) => [] Session sure "it is being traced already: by caplet why";
    process_vm_readv process_vm_writev kcmp pidfd_getfd: EPERM, Any => ["SYS_PTRACE"] Others sure "";
    // mm/mempolicy.c: kernel_migrate_pages; do_mbind. mm/migrate.c: find_mm_struct, MPOL_MF_MOVE_ALL. mm/madvise.c
    migrate_pages: EPERM, Any => ["SYS_PTRACE,SYS_NICE"] Others sure "";
    move_pages: EPERM, Has(5, 4) => ["SYS_NICE"] Machine sure "MPOL_MF_MOVE_ALL moves pages of others";
    move_pages: EPERM, Any => ["SYS_PTRACE"] Others sure "";
    mbind: EPERM, Any => ["SYS_NICE"] Machine sure "MPOL_MF_MOVE_ALL moves pages of others";
    process_madvise: EPERM, Any => ["SYS_NICE"] Others perhaps "to look into the process, SYS_PTRACE may be needed, too";

    // net/ipv4/af_inet.c, net/packet/af_packet.c, net/key/af_key.c, net/xdp/xsk.c
    socket: EPERM, Is(0, &[17, 44]) => ["NET_RAW"] Network sure "";
    socket: EPERM, Is(0, &[15]) => ["NET_ADMIN"] Network sure "";
    socket: EPERM, Masked(1, 0xf, &[3]) => ["NET_RAW"] Network sure "";
    socket: EACCES, Both(&Is(0, &[2, 10]), &Is(2, &[1, 58])) => [] Network sure
        "ICMP without privilege is for the groups of net.ipv4.ping_group_range; a raw socket, which NET_RAW opens, is another call";
    // net/socket.c, net/ipv4/udp.c: broadcasts without SO_BROADCAST; netfilter
    connect: EACCES EPERM, Any => [] Network sure "an address of broadcasts, or a rule of the firewall: no capability of the session changes it";
    // net/netlink/af_netlink.c: netlink_sendmsg to a group; others are told apart before
    sendmsg: EPERM, Any => ["NET_ADMIN"] Network perhaps "or a rule of the firewall";
    // net/core/sock.c: capable() for *FORCE and SO_DEBUG, ns_capable() for the rest
    setsockopt: EPERM EACCES, Both(&Is(1, &[1]), &Is(2, &[1, 32, 33, 46, 70])) => ["NET_ADMIN"] Machine sure "many programs ask for it, and go on without";
    setsockopt: EPERM, Both(&Is(1, &[1]), &Is(2, &[12, 36])) => ["NET_ADMIN", "NET_RAW"] Network sure "";
    setsockopt: EPERM, Both(&Is(1, &[1]), &Is(2, &[25])) => ["NET_RAW"] Network sure "";
    // SO_BINDTODEVICE on one that is bound; SO_INCOMING..., SO_TXTIME
    setsockopt: EPERM, Is(1, &[1]) => ["NET_ADMIN"] Network perhaps "";
    // net/ipv4/tcp.c: TCP_REPAIR; tcp_set_congestion_control. net/ipv4/ipmr.c, net/ipv6/ip6mr.c: the routers of multicast
    setsockopt: EPERM, Is(1, &[6]) => ["NET_ADMIN"] Network sure "";
    setsockopt getsockopt: EPERM EACCES, Both(&Is(1, &[0, 41]), &Between(2, 200, 212)) => ["NET_ADMIN"] Network sure "";
    // net/ipv4/ip_sockglue.c, net/ipv6/ipv6_sockglue.c; netfilter's tables; net/ipv4/tcp.c
    setsockopt: EPERM, Both(&Is(1, &[0]), &Is(2, &[19])) => ["NET_RAW", "NET_ADMIN"] Network sure "";
    setsockopt: EPERM, Both(&Is(1, &[41]), &Is(2, &[75])) => ["NET_RAW", "NET_ADMIN"] Network sure "";
    setsockopt getsockopt: EPERM, Both(&Is(1, &[0, 41]), &Between(2, 64, 100)) => ["NET_ADMIN"] Network sure "";
    setsockopt getsockopt: EPERM, Any => ["NET_ADMIN"] Network perhaps "";
    // net/core/dev_ioctl.c, net/ipv4/fib_frontend.c, net/bridge/br_ioctl.c, drivers/net/tun.c
    ioctl: EPERM, Masked(1, 0xff00, &[0x8900, 0x8b00]) => ["NET_ADMIN"] Network sure "";
    ioctl: EPERM, Is(1, &[0x4004_54ca, 0x4004_54cb, 0x4004_54cc]) => ["NET_ADMIN"] Network sure "the device may also belong to somebody else";
    // fs/ioctl.c: vfs_fileattr_set; FITRIM, FIFREEZE, FITHAW, FIBMAP
    ioctl: EPERM, Is(1, &[0x4008_6602, 0x401c_5820]) => ["LINUX_IMMUTABLE"] Machine sure "a flag as of chattr +i or +a is set or taken away";
    ioctl: EPERM, Is(1, &[0xc018_5879, 0xc004_5877, 0xc004_5878]) => ["SYS_ADMIN"] Machine sure "";
    ioctl: EPERM, Is(1, &[1]) => ["SYS_RAWIO"] Machine sure "";
    // ext4/ioctl.c: resizing; xfs, btrfs
    ioctl: EPERM, Masked(1, 0xff00, &[0x6600]) => ["SYS_RESOURCE", "SYS_ADMIN"] Machine perhaps "it depends on the file system";
    ioctl: EPERM, Masked(1, 0xff00, &[0x7600]) => ["FOWNER"] Others sure "the file belongs to somebody else";
    ioctl: EPERM, Masked(1, 0xff00, &[0x5800, 0x9400]) => ["SYS_ADMIN"] Machine sure "";
    // drivers/nvme/host/ioctl.c; drivers/md/dm-ioctl.c
    ioctl: EPERM EACCES, Masked(1, 0xff00, &[0x4e00, 0xfd00]) => ["SYS_ADMIN"] Machine sure "";
    // drivers/scsi, block/ioctl.c, drivers/block/loop.c, drivers/tty
    ioctl: EPERM, Masked(1, 0xff00, &[0x2200]) => ["SYS_RAWIO"] Machine sure "";
    ioctl: EPERM EACCES, Masked(1, 0xff00, &[0x1200, 0x4c00]) => ["SYS_ADMIN"] Machine sure "";
    ioctl: EPERM, Masked(1, 0xff00, &[0x4b00, 0x5600]) => ["SYS_TTY_CONFIG"] Machine sure "";
    ioctl: EPERM, Is(1, &[0x540e]) => ["SYS_ADMIN"] Machine perhaps "the terminal is that of another session, or this process leads none";
    ioctl: EPERM EIO, Is(1, &[0x5412, 0x541d]) => ["SYS_ADMIN"] Machine sure "";

    // fs/notify/fanotify, kernel/events/core.c, kernel/bpf/syscall.c
    fanotify_init: EPERM, Any => ["SYS_ADMIN"] Machine sure "";
    fanotify_mark: EPERM, Has(1, 0x110) => ["SYS_ADMIN"] Machine sure "a whole mount or file system";
    fanotify_mark: EPERM, Any => ["SYS_ADMIN"] Machine perhaps "";
    perf_event_open: EPERM EACCES, Any => ["PERFMON", "SYS_ADMIN"] Machine sure "kernel.perf_event_paranoid says what is free";
    bpf: EPERM, Is(0, &[11, 12, 13, 14, 19, 23, 30, 31]) => ["SYS_ADMIN"] Machine sure "";
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
    prctl: EPERM, Is(0, &[47]) => [] Session sure "the capability is not in both the permitted and the inheritable set, or securebits forbid it: an ambient one must be held before";
    prctl: EPERM, Is(0, &[35]) => ["SYS_RESOURCE"] Machine sure "";
    // fs/namei.c: vfs_mknod
    mknod: EPERM, Masked(1, S_IFMT, &[libc::S_IFCHR, libc::S_IFBLK]) => ["MKNOD"] Machine sure "";
    mknodat: EPERM, Masked(2, S_IFMT, &[libc::S_IFCHR, libc::S_IFBLK]) => ["MKNOD"] Machine sure "";

    // fs/fcntl.c, kernel/fork.c, fs/file.c: limits
    clone clone3: EAGAIN, Any => ["SYS_RESOURCE", "SYS_ADMIN"] Machine perhaps "more processes than the limit (ulimit -u, pids.max of the cgroup), or than there may be";
    // What has no other way to be asked for than by a capability: kernel/sys_ni.c, or a filter of system calls
    kexec_load kexec_file_load init_module finit_module delete_module ioperm iopl acct swapon swapoff quotactl bpf perf_event_open userfaultfd keyctl syslog reboot: ENOSYS, Any => [] Machine sure
        "this kernel has no such call, or a filter of system calls (seccomp) hides it: no capability brings it back";
}

impl When {
    pub fn fits(self, refusal: &Refusal<'_>) -> bool {
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
