//! The requests of ptrace(2) that caplet's watcher needs and no safe crate has whole: nix knows no real-time signal (it
//! would lose one that glibc sends to its own threads, and the process with it) and no PTRACE_LISTEN (without it a
//! stopped job could not be told to go on). Nothing in here decides anything: each function is one call, or the exec that std
//! leaves to the C library.
#![warn(missing_docs)]

use nix::errno::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// What a traced thread reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It ended by itself.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// It is about to get this signal, unless [`go_on`] leaves it out.
    Signal(i32),
    /// It has stopped as a job does (a group-stop), by this signal.
    Stopped(i32),
    /// It stands at the entry or the exit of a system call.
    SystemCall,
    /// The filter has stopped it before a system call.
    Filter,
    /// It has made a process or a thread, and goes on.
    Child,
    /// It executes another program from here on.
    Exec,
    /// Something else that needs no answer but [`go_on`].
    Other,
}

/// Where a thread stands in a system call: PTRACE_GET_SYSCALL_INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before it: the AUDIT_ARCH of its table, its number there, its six arguments.
    Before(u32, u64, [u64; 6]),
    /// After it: what it returned, or the errno.
    After(Result<i64, i32>),
    /// In none.
    Elsewhere,
}

/// How a thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Up to the next event (PTRACE_CONT).
    Event,
    /// Up to the next entry or exit of a system call too (PTRACE_SYSCALL).
    SystemCall,
}

const EVENT_STOP: i32 = 128; // PTRACE_EVENT_STOP of linux/ptrace.h
const GET_SYSCALL_INFO: libc::c_int = 0x420e;

/// Traces a process that is a child of this one (PTRACE_SEIZE): its threads and children too, to the end. When this
/// process ends, so do they.
///
/// # Errors
/// EPERM where this machine does not let its users trace.
pub fn seize(pid: i32) -> Result<(), Errno> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SEIZE as libc::c_int, pid, options as usize)
}

/// Lets a thread that has stopped go on, with a signal (0: none) that it gets.
///
/// # Errors
/// ESRCH where it is gone.
pub fn go_on(pid: i32, until: Until, signal: i32) -> Result<(), Errno> {
    let how = match until {
        Until::Event => libc::PTRACE_CONT,
        Until::SystemCall => libc::PTRACE_SYSCALL,
    };
    request(how as libc::c_int, pid, signal as usize)
}

/// Leaves a thread in its group-stop until SIGCONT, which it then reports.
///
/// # Errors
/// ESRCH where it is gone.
pub fn leave_stopped(pid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_LISTEN as libc::c_int, pid, 0)
}

fn request(what: libc::c_int, pid: i32, data: usize) -> Result<(), Errno> {
    // SAFETY: none of the requests above has the kernel write to this process's memory: address and data are numbers.
    let result = unsafe { libc::ptrace(what as _, pid, std::ptr::null_mut::<libc::c_void>(), data) };
    Errno::result(result).map(drop)
}

/// `struct ptrace_syscall_info` of linux/ptrace.h, its union as the numbers that it holds.
#[repr(C)]
#[derive(Debug, Default)]
struct Info {
    op: u8,
    spare: [u8; 3],
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    rest: [u64; 8],
}

/// Where a stopped thread stands.
///
/// # Errors
/// ESRCH where it is gone.
pub fn place(pid: i32) -> Result<Place, Errno> {
    let mut info = Info::default();
    // SAFETY: the kernel writes at most as many bytes as the third argument says, which are `info`'s own.
    let result = unsafe { libc::ptrace(GET_SYSCALL_INFO as _, pid, size_of::<Info>(), &raw mut info) };
    Errno::result(result)?;
    let [number, a, b, c, d, e, f, _] = info.rest;
    Ok(match info.op {
        // PTRACE_SYSCALL_INFO_ENTRY and _SECCOMP begin in the same way.
        1 | 3 => Place::Before(info.arch, number, [a, b, c, d, e, f]),
        2 if a as u8 != 0 => Place::After(Err(-(number as i64) as i32)),
        2 => Place::After(Ok(number as i64)),
        _ => Place::Elsewhere,
    })
}

/// Waits for the next change of any child or traced thread: its number, and what.
///
/// # Errors
/// ECHILD where there is none; EINTR.
pub fn wait() -> Result<(i32, Change), Errno> {
    let mut status = 0;
    // SAFETY: the kernel writes one number.
    let pid = Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) })?;
    Ok((pid, change(status)))
}

fn change(status: i32) -> Change {
    if libc::WIFEXITED(status) {
        return Change::Exited(libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Change::Signaled(libc::WTERMSIG(status));
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 if signal == libc::SIGTRAP | 0x80 => Change::SystemCall,
        0 => Change::Signal(signal),
        libc::PTRACE_EVENT_SECCOMP => Change::Filter,
        libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => Change::Child,
        libc::PTRACE_EVENT_EXEC => Change::Exec,
        // A new thread's first stop, and PTRACE_INTERRUPT's, are of this kind with SIGTRAP.
        EVENT_STOP if signal != libc::SIGTRAP => Change::Stopped(signal),
        _ => Change::Other,
    }
}

/// The number of the process or thread that a [`Change::Child`] is about (PTRACE_GETEVENTMSG).
///
/// # Errors
/// ESRCH where it is gone.
pub fn child(pid: i32) -> Result<i32, Errno> {
    let mut number: libc::c_ulong = 0;
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the kernel writes one unsigned long.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG as _, pid, nothing, &raw mut number) };
    Errno::result(result).map(|_| number as i32)
}

/// Copies memory of a traced process, as much as is there (process_vm_readv(2)).
pub fn read(pid: i32, from: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; length];
    let mut have = 0;
    while have < length {
        // Never over the end of a page in one call: the next one may be missing.
        let at = from.wrapping_add(have as u64);
        let part = (4096 - (at % 4096) as usize).min(length - have);
        let local = libc::iovec { iov_base: bytes[have..].as_mut_ptr().cast(), iov_len: part };
        let remote = libc::iovec { iov_base: at as usize as *mut libc::c_void, iov_len: part };
        // SAFETY: `local` is `part` bytes of `bytes`; the other address is the other process's, checked by the kernel.
        let got = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        if got <= 0 {
            break;
        }
        have += got as usize;
    }
    bytes.truncate(have);
    bytes
}

/// The time since some moment, in nanoseconds, by the clock that nobody sets and no namespace shifts
/// (CLOCK_MONOTONIC_RAW).
pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_RAW);
    time.map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// A descriptor that this program was started with, if it is open: once, and before anything else could have it.
pub fn adopt(number: u16) -> Option<OwnedFd> {
    let number = i32::from(number);
    // SAFETY: plain numbers; a closed one is EBADF. It is closed on exec from here on.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
    // SAFETY: it is open, it is none of the standard three, and only its number has come here.
    (number > 2).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// A handle of a process that is a child of this one, closed on exec (pidfd_open(2)).
///
/// # Errors
/// ESRCH where it is gone.
pub fn handle(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers.
    let number = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just opened it for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// Sends any signal, also a real-time one; to somebody who is gone it is lost, whoever has that number by now.
pub fn send(process: &OwnedFd, signal: i32) {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: plain numbers, and no information of ours for the kernel to read.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0) };
}

/// Has this thread run where that one last ran: who stops and who is waited for then take turns on one processor, and
/// none has to be woken. Where it may not, it runs where it did.
pub fn run_beside(pid: i32) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // proc_pid_stat(5): field 39, behind the name in brackets.
    let field = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(36)?.parse::<usize>().ok());
    let Some(processor) = field.filter(|number| *number < 1024) else { return };
    // SAFETY: a set of this function's own, cleared before it is used; a number within it; the kernel only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// Becomes that program, with SIGPIPE's default as std has it; only the error comes back. std's `exec` is
/// execvp(3), which hands a file that the kernel does not know (ENOEXEC) to `/bin/sh` in glibc, and not in musl.
pub fn execute(path: &OsStr, argv0: &OsStr, arguments: &[OsString]) -> Errno {
    let text = |word: &OsStr| CString::new(word.as_bytes()).map_err(|_| Errno::EINVAL);
    let words: Result<Vec<_>, _> =
        [argv0].into_iter().chain(arguments.iter().map(OsString::as_os_str)).map(text).collect();
    match (text(path), words) {
        (Ok(path), Ok(words)) => {
            // SAFETY: signal(2) with no handler of ours.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            match nix::unistd::execv(&path, &words) {
                Ok(never) => match never {},
                Err(errno) => {
                    // SAFETY: as above.
                    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
                    errno
                }
            }
        }
        _ => Errno::EINVAL,
    }
}

/// Ends this process as a signal would, without a core of its own; where it is ignored, by 128 and its number.
pub fn end_by(signal: i32) -> ! {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain numbers, and sets of this function's own.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::raise(signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
    std::process::exit(128 + signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_the_kernel_writes_it() {
        for (status, wanted) in [
            (3 << 8, Change::Exited(3)),
            (9, Change::Signaled(9)),
            (0x857f, Change::SystemCall),
            (0x7057f, Change::Filter),
            (34 << 8 | 0x7f, Change::Signal(34)),
            (128 << 16 | 20 << 8 | 0x7f, Change::Stopped(20)),
            (128 << 16 | 5 << 8 | 0x7f, Change::Other),
            (0x3057f, Change::Child),
            (0x4057f, Change::Exec),
        ] {
            assert_eq!(change(status), wanted, "{status:x}");
        }
    }

    #[test]
    fn memory_ends_where_it_ends() {
        let own = [7u8; 9000];
        let pid = std::process::id() as i32;
        assert_eq!(read(pid, own.as_ptr() as u64, 9000), own);
        assert_eq!(read(pid, 8, 10), []);
    }
}
