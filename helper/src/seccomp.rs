//! Filters of system calls. Where the caller's terminal is shared, TIOCSTI and TIOCLINUX must not reach it
//! (CVE-2017-5226; the kernel looks at the low 32 bits of the request only, CVE-2019-10063). The guard and PID 1 may
//! watch, the pump may move bytes, and nothing else. And an isolated session has what its grant stands for
//! (`session.rs`).

use crate::error::{Error, call};
use crate::sys::Errno;
use crate::sys::capability::{self, install_filter};
use libc::sock_filter;

mod numbers;
mod session;

pub use session::Filter;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const NUMBER: u32 = 0; // offsets in struct seccomp_data
const ARCH: u32 = 4;
const ARG0_LOW: u32 = 16;
const ARG1_LOW: u32 = 24;
const ARG2_LOW: u32 = 32;
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;

#[cfg(target_arch = "x86_64")]
mod abi {
    /// AUDIT_ARCH_X86_64, and ioctl's number in it; x32 has a number of its own under the same arch.
    pub const NATIVE: u32 = 0xc000_003e;
    pub const IOCTL: [u32; 2] = [16, 0x4000_0000 + 514];
    /// AUDIT_ARCH_I386.
    pub const COMPAT: u32 = 0x4000_0003;
    pub const COMPAT_IOCTL: u32 = 54;
}
#[cfg(target_arch = "aarch64")]
mod abi {
    /// AUDIT_ARCH_AARCH64.
    pub const NATIVE: u32 = 0xc000_00b7;
    pub const IOCTL: [u32; 2] = [29, 29];
    /// AUDIT_ARCH_ARM.
    pub const COMPAT: u32 = 0x4000_0028;
    pub const COMPAT_IOCTL: u32 = 54;
}

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// ioctl(_, TIOCSTI or TIOCLINUX, _) is EPERM, in every system call table of the machine.
const NO_TERMINAL_INPUT: [sock_filter; 14] = [
    step(LOAD, ARCH, 0, 0),
    step(EQUAL, abi::NATIVE, 2, 0),
    step(EQUAL, abi::COMPAT, 4, 0),
    step(RETURN, REFUSE, 0, 0), // no third system call table is known: nothing may use one
    step(LOAD, NUMBER, 0, 0),
    step(EQUAL, abi::IOCTL[0], 3, 0),
    step(EQUAL, abi::IOCTL[1], 2, 5),
    step(LOAD, NUMBER, 0, 0),
    step(EQUAL, abi::COMPAT_IOCTL, 0, 3),
    step(LOAD, ARG1_LOW, 0, 0),
    step(EQUAL, libc::TIOCSTI as u32, 2, 0),
    step(EQUAL, libc::TIOCLINUX as u32, 1, 0),
    step(RETURN, ALLOW, 0, 0),
    step(RETURN, REFUSE, 0, 0),
];

/// Installs the filter. Needs no_new_privs or CAP_SYS_ADMIN.
pub fn refuse_terminal_input() -> Result<(), Error> {
    install_filter(&NO_TERMINAL_INPUT).map_err(call("install the terminal filter"))?;
    stands(capability::senseless_tiocsti())
}

/// Whether a call that a filter shuts is refused by it: there may be another one over the caller already, so that the
/// kernel's word that there is one says nothing.
fn stands(tried: Result<(), Errno>) -> Result<(), Error> {
    match tried {
        Err(Errno::EPERM) => Ok(()),
        _ => Err(Error::NotAsGranted("the system call filter is not there".into())),
    }
}

/// What the guard still does: wait, hear and tell, signal, write the record, take the place away.
const WATCHING: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_waitid,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_pread64,
    libc::SYS_signalfd4,
    libc::SYS_clock_gettime,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_fchdir,
    libc::SYS_unlinkat,
    libc::SYS_dup3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    libc::SYS_getpid,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_futex,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What else PID 1 of a session does: hand the terminal to the command.
pub const FOREGROUND: &[libc::c_long] = &[libc::SYS_ioctl];

/// Everything but watching (and `more`) is EPERM from here on: the guard is uid 0, and files of root are open to that
/// alone; PID 1 is what everything in a session descends from. `ends_as`: whom alone it may become, for its end.
pub fn only_watch(more: &[libc::c_long], ends_as: Option<u32>) -> Result<(), Error> {
    only(&[WATCHING, more].concat(), ends_as)
}

/// What the pump between a session's link and passt(1) still does: move bytes, and ask the kernel for routes.
const PUMPING: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_clock_gettime,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_futex,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Everything but pumping is EPERM from here on.
pub fn only_pump() -> Result<(), Error> {
    only(PUMPING, None)
}

fn only(calls: &[libc::c_long], ends_as: Option<u32>) -> Result<(), Error> {
    let mut program = vec![
        step(LOAD, ARCH, 0, 0),
        step(EQUAL, abi::NATIVE, 1, 0),
        step(RETURN, REFUSE, 0, 0),
        step(LOAD, NUMBER, 0, 0),
    ];
    if let Some(uid) = ends_as {
        // A uid is 32 bits: the kernel looks at no more of the three arguments.
        program.extend([
            step(EQUAL, libc::SYS_setresuid as u32, 0, 8),
            step(LOAD, ARG0_LOW, 0, 0),
            step(EQUAL, uid, 0, 5),
            step(LOAD, ARG1_LOW, 0, 0),
            step(EQUAL, uid, 0, 3),
            step(LOAD, ARG2_LOW, 0, 0),
            step(EQUAL, uid, 0, 1),
            step(RETURN, ALLOW, 0, 0),
            step(RETURN, REFUSE, 0, 0),
        ]);
    }
    for (number, left) in calls.iter().zip((1..=calls.len() as u8).rev()) {
        program.push(step(EQUAL, *number as u32, left, 0));
    }
    program.extend([step(RETURN, REFUSE, 0, 0), step(RETURN, ALLOW, 0, 0)]);
    install_filter(&program).map_err(call("install a filter of system calls"))?;
    stands(capability::senseless_fsync())
}
