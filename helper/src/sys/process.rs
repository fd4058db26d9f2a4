//! Processes: fork, clone3, exec, namespaces, pidfds, limits, signals, keyrings.

use super::{Errno, checked};
use std::ffi::CString;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    Parent(i32),
    Child,
}

/// fork(2). The helper has one thread, so the child may go on as the parent did.
pub fn fork() -> Result<Fork, Errno> {
    // SAFETY: single-threaded; no lock of another thread can be left held in the child.
    match Errno::result(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3(2) like fork, into new namespaces. The parent gets the child's pid and a pidfd. As a `sibling` the child
/// becomes this process's parent's.
pub fn clone_into(namespaces: i32, sibling: bool) -> Result<Option<(i32, OwnedFd)>, Errno> {
    let mut pidfd: i32 = -1;
    let flags = namespaces as u32 as u64 | libc::CLONE_PIDFD as u64;
    // A sibling's exit signal is this process's own (SIGCHLD): clone3 takes none beside CLONE_PARENT.
    let (parent, exit_signal) = if sibling { (libc::CLONE_PARENT, 0) } else { (0, libc::SIGCHLD) };
    let mut arguments = CloneArgs {
        flags: flags | parent as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: exit_signal as u64,
        ..CloneArgs::default()
    };
    // SAFETY: no CLONE_VM and no stack: the child is a copy, as after fork(2); one thread, as above. glibc's
    // cached thread id is not used by anything here. `pidfd` lives on this stack.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: CLONE_PIDFD has just put a descriptor there that nobody else knows.
    Ok(Some((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })))
}

/// A pidfd for a child of ours that has not been waited for.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers; the result is a descriptor that nobody else knows.
    unsafe {
        let number = checked(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(number as i32))
    }
}

/// Sends a signal by pidfd.
pub fn pidfd_signal(pidfd: impl AsFd, signal: i32) -> Result<(), Errno> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no siginfo is given.
    checked(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, nothing, 0) })
        .map(drop)
}

/// Leaves at once, without running anything of ours or of the C library.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Takes over a descriptor that a child with the same table has opened for us and left; negative: none.
pub fn adopt(number: i32) -> Option<OwnedFd> {
    // SAFETY: the child that opened it is gone without closing it, and told its number to nobody else.
    (number > 2).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// A descriptor that this program was started with, if it is open. Right after start: no other value has it.
pub fn inherited(number: i32) -> Option<OwnedFd> {
    // SAFETY: a plain number; a closed one is EBADF.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) }).ok()?;
    // SAFETY: it is open, and the caller's list of what is to be kept is the only place that knows it.
    (number > 2).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// unshare(2).
pub fn unshare(flags: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::unshare(flags) }).map(drop)
}

/// setns(2) with a pidfd and namespace flags.
pub fn setns(pidfd: impl AsFd, flags: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::setns(pidfd.as_fd().as_raw_fd(), flags) }).map(drop)
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: called before any descriptor above `first` is owned by a value of ours.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// A NULL-terminated array of pointers into `strings`, for exec.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// execve(2): only an error comes back.
pub fn execve(path: &CString, argv: &[CString], envp: &[CString]) -> Errno {
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: NULL-terminated arrays of strings that live through the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Errno::last()
}

/// execveat(2) of an open file: only an error comes back.
pub fn fexecve(file: impl AsFd, argv: &[CString], envp: &[CString]) -> Errno {
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: NULL-terminated arrays of strings that live through the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Errno::last()
}

/// How a child ended or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Exited(i32),
    Signaled(i32),
    Stopped(i32),
    Continued,
}

/// What a child and all that it has waited for used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub cpu: Duration,
    /// The most memory that one process of them held, in KiB.
    pub peak: u64,
}

/// waitid(2): a change of the child `pid`, or of any child. `None`: nothing yet (with `WNOHANG`).
pub fn wait(child: Option<i32>, options: i32) -> Result<Option<(i32, Change)>, Errno> {
    Ok(wait_with_usage(child, options)?.map(|(pid, change, _)| (pid, change)))
}

/// The same, and what it used, as the kernel's own call tells.
pub fn wait_with_usage(child: Option<i32>, options: i32) -> Result<Option<(i32, Change, Usage)>, Errno> {
    let (kind, id) = match child {
        Some(pid) => (libc::P_PID, pid as libc::id_t),
        None => (libc::P_ALL, 0),
    };
    loop {
        // SAFETY: both are plain data for which all zeroes is a value; they live on this stack.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let result = unsafe { libc::syscall(libc::SYS_waitid, kind, id, &raw mut info, options, &raw mut usage) };
        match checked(result) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
            Ok(_) => {}
        }
        // SAFETY: waitid filled in the SIGCHLD fields, or left pid 0 where nothing changed.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let change = match info.si_code {
            libc::CLD_EXITED => Change::Exited(status),
            libc::CLD_STOPPED | libc::CLD_TRAPPED => Change::Stopped(status),
            libc::CLD_CONTINUED => Change::Continued,
            _ => Change::Signaled(status),
        };
        let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
        let usage = Usage { cpu: time(usage.ru_utime) + time(usage.ru_stime), peak: usage.ru_maxrss as u64 };
        return Ok(Some((pid, change, usage)));
    }
}

/// Whether a signal is ignored at the moment.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: a null new action only reads; sigaction is plain data.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    }
}

/// The kernel's own `struct sigaction`, without a handler of ours in it.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Sets a signal to its default action, or to be ignored; by the kernel's call, since the C library keeps 32 and 33
/// to itself and posix_spawn(3) leaves 32 ignored.
pub fn set_ignored(signal: i32, ignored: bool) -> Result<(), Errno> {
    let handler = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
    let action = KernelAction { handler, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: no handler function is installed; the action lives through the call; 8 is the size of its mask.
    checked(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, 0usize, 8usize) }).map(drop)
}

extern "C" fn nothing(_: libc::c_int) {}

/// Installs a handler that does nothing: PID 1 of a namespace ignores signals that have none.
pub fn handle(signal: i32) -> Result<(), Errno> {
    // SAFETY: the handler touches nothing at all, so it is safe at any moment.
    Errno::result(unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    })
    .map(drop)
}

/// kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Has SIGALRM end this process after so many seconds, whatever it waits for.
pub fn end_in(seconds: u32) -> Result<(), Errno> {
    let none = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let after = libc::itimerval { it_interval: none, it_value: libc::timeval { tv_sec: seconds.into(), ..none } };
    // SAFETY: the kernel reads one itimerval; where the old one would go is null.
    Errno::result(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const after, std::ptr::null_mut()) })?;
    let mut alarm = nix::sys::signal::SigSet::empty();
    alarm.add(nix::sys::signal::Signal::SIGALRM);
    alarm.thread_unblock()
}

/// Disarms the three interval timers that survive exec.
pub fn disarm_timers() {
    for timer in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        // SAFETY: all zeroes disarms; the value lives through the call.
        unsafe {
            let off: libc::itimerval = std::mem::zeroed();
            libc::setitimer(timer, &raw const off, std::ptr::null_mut());
        }
    }
}

/// The soft and hard value of a resource limit.
pub fn limit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads no new limit, writes the old one to this stack.
    Errno::result(unsafe { libc::prlimit64(0, resource, std::ptr::null(), &raw mut old) })?;
    Ok((old.rlim_cur, old.rlim_max))
}

/// Sets a resource limit of this process.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let new = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: reads the new limit from this stack.
    Errno::result(unsafe { libc::prlimit64(0, resource, &raw const new, std::ptr::null_mut()) }).map(drop)
}

/// This thread's timer slack in nanoseconds (prctl(2)).
pub fn timer_slack() -> Option<u64> {
    // SAFETY: plain numbers; the value is the result, which the C library's own prctl would cut to an int.
    u64::try_from(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) }).ok()
}

/// Sets it; 0 would mean what it was at the start.
pub fn set_timer_slack(nanoseconds: u64) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds.max(1), 0, 0, 0) }).map(drop)
}

/// Whether this process runs under SCHED_IDLE (sched(7)).
pub fn is_idle() -> bool {
    // SAFETY: plain numbers; the raw call, since some C libraries refuse to know it.
    unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) as i32 & !libc::SCHED_RESET_ON_FORK == libc::SCHED_IDLE }
}

/// SCHED_IDLE, or the usual policy.
pub fn set_idle(idle: bool) -> Result<(), Errno> {
    let policy = if idle { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    let priority: libc::c_int = 0; // all of struct sched_param
    // SAFETY: reads one number of this stack.
    checked(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) }).map(drop)
}

/// The I/O class and priority of this process, as ioprio_get(2) packs them; 0: the usual one.
pub fn io_priority() -> Option<i32> {
    // SAFETY: plain numbers: IOPRIO_WHO_PROCESS, and itself.
    let packed = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) } as i32;
    let class = packed >> 13;
    (packed > 0).then_some(if class == 0 { 0 } else { packed })
}

/// Sets it (ioprio_set(2)).
pub fn set_io_priority(packed: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, packed) }).map(drop)
}

/// A set of processors; more than 8,192 no kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affinity(Vec<u64>);

impl Affinity {
    const WORDS: usize = 128;

    /// Every one: the kernel leaves those of them that are there.
    pub fn all() -> Self {
        Self(vec![u64::MAX; Self::WORDS])
    }

    /// Those that this process may run on (sched_getaffinity(2)).
    pub fn own() -> Option<Self> {
        let mut words = vec![0u64; Self::WORDS];
        // SAFETY: the kernel writes at most the bytes of this vector.
        let result = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, Self::WORDS * 8, words.as_mut_ptr()) };
        (result > 0).then_some(Self(words))
    }

    /// Makes this process run on them.
    pub fn set(&self) -> Result<(), Errno> {
        // SAFETY: the kernel reads the bytes of a vector that lives through the call.
        checked(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, self.0.len() * 8, self.0.as_ptr()) }).map(drop)
    }
}

/// Orphans of this process's descendants come to it (prctl(2), PR_SET_CHILD_SUBREAPER).
pub fn adopt_orphans() -> Result<(), Errno> {
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// The nice value of this process (getpriority(2)).
pub fn nice() -> Result<i32, Errno> {
    // SAFETY: plain numbers. The raw call gives 20 - nice, so that no result looks like an error.
    checked(unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) }).map(|value| 20 - value as i32)
}

/// Sets the nice value of a process; 0 is this one (setpriority(2)).
pub fn set_nice(pid: i32, nice: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    checked(unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, pid, nice) }).map(drop)
}

/// Links the user's own keyring into the session keyring, as pam_keyinit(8) does; a key that is not there is no error.
pub fn link_user_keyring() {
    let (link, user, session) = (8, -4, -3);
    // SAFETY: plain numbers (keyctl(2), KEYCTL_LINK of KEY_SPEC_USER_KEYRING into KEY_SPEC_SESSION_KEYRING).
    unsafe { libc::syscall(libc::SYS_keyctl, link, user, session) };
}

/// Lifts the hard value of another process's limit, where it is lower (prlimit(2)).
pub fn allow_limit(pid: i32, resource: u32, hard: u64) -> Result<(), Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads no new limit, writes the old one to this stack.
    Errno::result(unsafe { libc::prlimit64(pid, resource, std::ptr::null(), &raw mut limit) })?;
    if limit.rlim_max >= hard {
        return Ok(());
    }
    limit.rlim_max = hard;
    // SAFETY: reads the new limit from this stack.
    Errno::result(unsafe { libc::prlimit64(pid, resource, &raw const limit, std::ptr::null_mut()) }).map(drop)
}

/// A new, anonymous session keyring, so that the caller's cannot be read (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).
pub fn new_session_keyring() -> Result<(), Errno> {
    // SAFETY: a null name asks for an anonymous keyring.
    match checked(unsafe { libc::syscall(libc::SYS_keyctl, 1, std::ptr::null::<libc::c_char>()) }) {
        Ok(_) | Err(Errno::ENOSYS) => Ok(()), // a kernel without keyrings has none to read
        Err(errno) => Err(errno),
    }
}

/// Empties the process's environment, for the C library's sake (NSS, time zone, locale).
pub fn clear_environment() {
    // SAFETY: one thread; nothing holds a pointer into the environment.
    unsafe { libc::clearenv() };
}

/// The file system user id of this process, set to `uid`: path look-ups then use that user's rights (setfsuid(2)).
pub fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: plain numbers; the calls cannot fail visibly, and only narrow what a look-up may see.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
}

/// Time since boot, sleep included; no user can set it (clock_gettime(2), CLOCK_BOOTTIME).
pub fn boot_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec on this stack; the clock exists on every kernel that we run on.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Random bytes, a few (getrandom(2)).
pub fn random<const N: usize>() -> Result<[u8; N], Errno> {
    let mut bytes = [0u8; N];
    // SAFETY: writes at most the bytes of this stack.
    let got = checked(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) as libc::c_long })?;
    if got == N as libc::c_long { Ok(bytes) } else { Err(Errno::EIO) }
}

/// Brings the loopback link of the current network namespace up (netdevice(7)).
pub fn loopback_up() -> Result<(), Errno> {
    // SAFETY: a socket that only we know; ifreq is plain data and lives through both calls.
    unsafe {
        let socket = Errno::result(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        Errno::result(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request)).map(drop)
    }
}

/// Closes every descriptor from 3 on but these; the values that own the others must never be dropped.
pub fn close_all_but(mut keep: Vec<i32>) -> Result<(), Errno> {
    keep.sort_unstable();
    let mut from = 3u32;
    for number in keep.into_iter().filter(|n| *n >= 3).map(|n| n as u32) {
        if number > from {
            // SAFETY: the caller, PID 1, never drops a value again: it ends by _exit.
            checked(unsafe { libc::syscall(libc::SYS_close_range, from, number - 1, 0) })?;
        }
        from = number + 1;
    }
    close_from(from)
}

/// A lock on an open file, `alone` or with others, if it can be had now (flock(2)).
pub fn try_flock(file: impl AsFd, alone: bool) -> Result<bool, Errno> {
    let kind = if alone { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: plain numbers.
    match Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), kind | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(Errno::EWOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// An exclusive lock on an open file, if it is free (flock(2)). It goes when the last copy of the descriptor does.
pub fn try_lock(file: impl AsFd) -> Result<bool, Errno> {
    try_flock(file, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Affinity {
        /// One of those that this process may run on.
        pub fn first() -> Self {
            let mut taken = false;
            let mut only = |word: u64| {
                let bit = if taken { 0 } else { word & word.wrapping_neg() };
                taken |= bit != 0;
                bit
            };
            Self(Self::own().unwrap().0.into_iter().map(&mut only).collect())
        }
    }
}
