//! The system calls that the kernel may refuse for want of a capability: by what they are found, and where they name
//! the object they are about. The filter is made of this table; what a refusal means stands in `rules`.

use super::walks;

/// One call.
#[derive(Debug)]
pub struct Call {
    pub name: &'static str,
    pub number: libc::c_long,
    pub trap: Trap,
    pub object: At,
}

/// For which arguments the call is looked at.
#[derive(Debug, Clone, Copy)]
pub enum Trap {
    Always,
    /// Where this argument (its low 32 bits) is one of these.
    Values(u8, &'static [u32]),
    /// Where this argument has one of these bits.
    Bits(u8, u32),
    /// Where this argument is not that value, or the first one is AT_FDCWD.
    Unless(u8, u32),
    /// ioctl(2): where the request's second byte is one of these, or the request one of those.
    Requests(&'static [u8], &'static [u32]),
}

/// Which arguments name the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Nothing,
    /// A path from the current folder.
    Path(u8),
    /// A folder's descriptor, and a path from there.
    Folder(u8, u8),
    /// An open file.
    File(u8),
    /// A process.
    Process(u8),
    /// An address of a socket, and its length.
    Address(u8, u8),
    /// A name that is no path.
    Text(u8),
}

macro_rules! calls {
    ($($(#[$meta:meta])* $name:ident $number:ident $trap:expr, $at:expr;)*) => {
        pub static CALLS: &[Call] = &[$(
            $(#[$meta])*
            Call { name: stringify!($name), number: libc::$number, trap: $trap, object: $at },
        )*];
    };
}

use At::{Address, File, Folder, Nothing, Path, Process, Text};
use Trap::{Always, Bits, Requests, Unless, Values};

/// CLONE_NEWNS to CLONE_NEWNET, without CLONE_NEWUSER, which asks for none.
pub const NAMESPACES: u32 = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x2000_0000 | 0x4000_0000;
/// CLONE_NEWTIME; in clone(2) it would be a signal.
pub const NEW_TIME: u32 = 0x80;
/// CLONE_NEWUSER.
pub const NEW_USER: u32 = 0x1000_0000;
/// Ranges of ioctl: block devices, SCSI, consoles, loop devices, NVMe, virtual terminals, `X`, `f` and `v` of file
/// systems, the real-time clock, network devices and wireless ones, btrfs, the device mapper.
const GUARDED: &[u8] = &[0x12, 0x22, 0x4b, 0x4c, 0x4e, 0x56, 0x58, 0x66, 0x70, 0x76, 0x89, 0x8b, 0x94, 0xfd];
/// FIBMAP, TIOCSCTTY, TIOCSTI, TIOCCONS, TUNSETIFF, TUNSETPERSIST, TUNSETOWNER.
const SINGLE: &[u32] = &[1, 0x540e, 0x5412, 0x541d, 0x4004_54ca, 0x4004_54cb, 0x4004_54cc];
/// Of stat(2) and its like: by a path from the current folder. What walks a tree names files from an open folder, and
/// is not slowed down.
const FROM_HERE: &[u32] = &[libc::AT_FDCWD as u32];

calls! {
    #[cfg(target_arch = "x86_64")] open SYS_open Always, Path(0);
    openat SYS_openat Unless(2, walks::FLAGS), Folder(0, 1);
    openat2 SYS_openat2 Always, Folder(0, 1);
    #[cfg(target_arch = "x86_64")] creat SYS_creat Always, Path(0);
    execve SYS_execve Always, Path(0);
    execveat SYS_execveat Always, Folder(0, 1);
    #[cfg(target_arch = "x86_64")] mkdir SYS_mkdir Always, Path(0);
    mkdirat SYS_mkdirat Always, Folder(0, 1);
    #[cfg(target_arch = "x86_64")] rmdir SYS_rmdir Always, Path(0);
    #[cfg(target_arch = "x86_64")] unlink SYS_unlink Always, Path(0);
    unlinkat SYS_unlinkat Always, Folder(0, 1);
    #[cfg(target_arch = "x86_64")] rename SYS_rename Always, Path(0);
    #[cfg(target_arch = "x86_64")] renameat SYS_renameat Always, Folder(0, 1);
    renameat2 SYS_renameat2 Always, Folder(0, 1);
    #[cfg(target_arch = "x86_64")] link SYS_link Always, Path(0);
    linkat SYS_linkat Always, Folder(0, 1);
    #[cfg(target_arch = "x86_64")] symlink SYS_symlink Always, Path(1);
    symlinkat SYS_symlinkat Always, Folder(1, 2);
    #[cfg(target_arch = "x86_64")] mknod SYS_mknod Always, Path(0);
    mknodat SYS_mknodat Always, Folder(0, 1);
    #[cfg(target_arch = "x86_64")] chmod SYS_chmod Always, Path(0);
    fchmod SYS_fchmod Always, File(0);
    fchmodat SYS_fchmodat Always, Folder(0, 1);
    #[cfg(target_arch = "x86_64")] chown SYS_chown Always, Path(0);
    #[cfg(target_arch = "x86_64")] lchown SYS_lchown Always, Path(0);
    fchown SYS_fchown Always, File(0);
    fchownat SYS_fchownat Always, Folder(0, 1);
    #[cfg(target_arch = "x86_64")] utime SYS_utime Always, Path(0);
    #[cfg(target_arch = "x86_64")] utimes SYS_utimes Always, Path(0);
    utimensat SYS_utimensat Always, Folder(0, 1);
    truncate SYS_truncate Always, Path(0);
    #[cfg(target_arch = "x86_64")] stat SYS_stat Always, Path(0);
    #[cfg(target_arch = "x86_64")] lstat SYS_lstat Always, Path(0);
    newfstatat SYS_newfstatat Values(0, FROM_HERE), Folder(0, 1);
    statx SYS_statx Values(0, FROM_HERE), Folder(0, 1);
    #[cfg(target_arch = "x86_64")] access SYS_access Always, Path(0);
    faccessat SYS_faccessat Values(0, FROM_HERE), Folder(0, 1);
    faccessat2 SYS_faccessat2 Values(0, FROM_HERE), Folder(0, 1);
    #[cfg(target_arch = "x86_64")] readlink SYS_readlink Always, Path(0);
    readlinkat SYS_readlinkat Values(0, FROM_HERE), Folder(0, 1);
    chdir SYS_chdir Always, Path(0);
    chroot SYS_chroot Always, Path(0);
    setxattr SYS_setxattr Always, Path(0);
    lsetxattr SYS_lsetxattr Always, Path(0);
    fsetxattr SYS_fsetxattr Always, File(0);
    removexattr SYS_removexattr Always, Path(0);
    lremovexattr SYS_lremovexattr Always, Path(0);
    fremovexattr SYS_fremovexattr Always, File(0);
    open_by_handle_at SYS_open_by_handle_at Always, Nothing;
    fcntl SYS_fcntl Values(1, &[1024, 1031]), File(0); // F_SETLEASE, F_SETPIPE_SZ
    ioctl SYS_ioctl Requests(GUARDED, SINGLE), File(0);
    mount SYS_mount Always, Text(2);
    umount2 SYS_umount2 Always, Path(0);
    pivot_root SYS_pivot_root Always, Nothing;
    open_tree SYS_open_tree Bits(2, 1), Nothing;
    move_mount SYS_move_mount Always, Nothing;
    fsopen SYS_fsopen Always, Text(0);
    fsmount SYS_fsmount Always, Nothing;
    fspick SYS_fspick Always, Nothing;
    mount_setattr SYS_mount_setattr Always, Nothing;
    swapon SYS_swapon Always, Path(0);
    swapoff SYS_swapoff Always, Path(0);
    quotactl SYS_quotactl Always, Nothing;
    quotactl_fd SYS_quotactl_fd Always, Nothing;
    acct SYS_acct Always, Nothing;
    sethostname SYS_sethostname Always, Nothing;
    setdomainname SYS_setdomainname Always, Nothing;
    clock_settime SYS_clock_settime Always, Nothing;
    settimeofday SYS_settimeofday Always, Nothing;
    clock_adjtime SYS_clock_adjtime Always, Nothing;
    adjtimex SYS_adjtimex Always, Nothing;
    timerfd_create SYS_timerfd_create Values(0, &[8, 9]), Nothing; // the _ALARM clocks
    timer_create SYS_timer_create Values(0, &[8, 9]), Nothing;
    reboot SYS_reboot Always, Nothing;
    kexec_load SYS_kexec_load Always, Nothing;
    kexec_file_load SYS_kexec_file_load Always, Nothing;
    init_module SYS_init_module Always, Nothing;
    finit_module SYS_finit_module Always, Nothing;
    delete_module SYS_delete_module Always, Text(0);
    #[cfg(target_arch = "x86_64")] ioperm SYS_ioperm Always, Nothing;
    #[cfg(target_arch = "x86_64")] iopl SYS_iopl Always, Nothing;
    syslog SYS_syslog Always, Nothing;
    vhangup SYS_vhangup Always, Nothing;
    unshare SYS_unshare Always, Nothing;
    clone SYS_clone Always, Nothing;
    clone3 SYS_clone3 Always, Nothing;
    setns SYS_setns Always, Nothing;
    setuid SYS_setuid Always, Nothing;
    setreuid SYS_setreuid Always, Nothing;
    setresuid SYS_setresuid Always, Nothing;
    setgid SYS_setgid Always, Nothing;
    setregid SYS_setregid Always, Nothing;
    setresgid SYS_setresgid Always, Nothing;
    setgroups SYS_setgroups Always, Nothing;
    capset SYS_capset Always, Nothing;
    prctl SYS_prctl Values(0, &[24, 28, 35, 47]), Nothing; // PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_MM, PR_CAP_AMBIENT
    setpriority SYS_setpriority Always, Nothing;
    sched_setscheduler SYS_sched_setscheduler Always, Process(0);
    sched_setparam SYS_sched_setparam Always, Process(0);
    sched_setattr SYS_sched_setattr Always, Process(0);
    sched_setaffinity SYS_sched_setaffinity Always, Process(0);
    ioprio_set SYS_ioprio_set Always, Nothing;
    setrlimit SYS_setrlimit Always, Nothing;
    prlimit64 SYS_prlimit64 Always, Process(0);
    mlock SYS_mlock Always, Nothing;
    mlock2 SYS_mlock2 Always, Nothing;
    mlockall SYS_mlockall Always, Nothing;
    shmget SYS_shmget Always, Nothing;
    shmat SYS_shmat Always, Nothing;
    shmctl SYS_shmctl Always, Nothing;
    semget SYS_semget Always, Nothing;
    semctl SYS_semctl Always, Nothing;
    msgget SYS_msgget Always, Nothing;
    msgctl SYS_msgctl Always, Nothing;
    kill SYS_kill Always, Process(0);
    tkill SYS_tkill Always, Process(0);
    tgkill SYS_tgkill Always, Process(0);
    rt_sigqueueinfo SYS_rt_sigqueueinfo Always, Process(0);
    pidfd_send_signal SYS_pidfd_send_signal Always, Nothing;
    ptrace SYS_ptrace Always, Process(1);
    process_vm_readv SYS_process_vm_readv Always, Process(0);
    process_vm_writev SYS_process_vm_writev Always, Process(0);
    kcmp SYS_kcmp Always, Process(0);
    pidfd_getfd SYS_pidfd_getfd Always, Nothing;
    migrate_pages SYS_migrate_pages Always, Process(0);
    move_pages SYS_move_pages Always, Process(0);
    mbind SYS_mbind Bits(5, 4), Nothing; // MPOL_MF_MOVE_ALL
    process_madvise SYS_process_madvise Always, Nothing;
    socket SYS_socket Always, Nothing;
    connect SYS_connect Always, Address(1, 2);
    sendmsg SYS_sendmsg Always, Nothing;
    mq_open SYS_mq_open Always, Text(0);
    mq_unlink SYS_mq_unlink Always, Text(0);
    bind SYS_bind Always, Address(1, 2);
    setsockopt SYS_setsockopt Always, Nothing;
    getsockopt SYS_getsockopt Values(1, &[0, 41]), Nothing; // SOL_IP and SOL_IPV6: the tables of iptables
    fanotify_mark SYS_fanotify_mark Always, Nothing;
    fanotify_init SYS_fanotify_init Always, Nothing;
    perf_event_open SYS_perf_event_open Always, Nothing;
    bpf SYS_bpf Always, Nothing;
    userfaultfd SYS_userfaultfd Always, Nothing;
    io_uring_setup SYS_io_uring_setup Always, Nothing;
    keyctl SYS_keyctl Values(0, &[4, 5]), Nothing; // KEYCTL_CHOWN, KEYCTL_SETPERM
}

/// The call of that number.
pub fn call(number: u64) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.number as u64 == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_stands_twice() {
        for (n, call) in CALLS.iter().enumerate() {
            assert!(CALLS[..n].iter().all(|other| other.number != call.number), "{}", call.name);
        }
    }
}
