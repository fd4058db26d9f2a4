//! The five capability sets, securebits and no_new_privs: capabilities(7), prctl(2), capset(2).

use super::{Errno, checked};

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The three sets that capget(2) and capset(2) carry, as 64-bit masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

/// The calling process's own sets.
pub fn get() -> Result<Sets, Errno> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads a header and writes two `Data`; both live on this stack.
    checked(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |f: fn(&Data) -> u32| u64::from(f(&data[0])) | u64::from(f(&data[1])) << 32;
    Ok(Sets {
        effective: join(|d| d.effective),
        permitted: join(|d| d.permitted),
        inheritable: join(|d| d.inheritable),
    })
}

/// Sets all three at once.
pub fn set(sets: Sets) -> Result<(), Errno> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads a header and two `Data`; both live on this stack.
    checked(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// Gives all of the three up but these of the effective and permitted one, and asks the kernel whether that was done: `EPERM` if not.
pub fn give_up_but(keep: u64) -> Result<(), Errno> {
    let kept = Sets { effective: keep, permitted: keep, inheritable: 0 };
    set(kept)?;
    if get()? == kept { Ok(()) } else { Err(Errno::EPERM) }
}

fn prctl(option: i32, arg2: u64, arg3: u64) -> Result<i32, Errno> {
    // SAFETY: every option used in this file takes plain numbers, no pointer.
    Errno::result(unsafe { libc::prctl(option, arg2, arg3, 0u64, 0u64) })
}

/// Whether a capability number is in the bounding set; `EINVAL` past the kernel's last capability.
pub fn in_bounding(number: u8) -> Result<bool, Errno> {
    prctl(libc::PR_CAPBSET_READ, u64::from(number), 0).map(|r| r == 1)
}

/// Drops one from the bounding set.
pub fn drop_bounding(number: u8) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0).map(drop)
}

/// Raises one in the ambient set.
pub fn raise_ambient(number: u8) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(number)).map(drop)
}

/// Empties the ambient set.
pub fn clear_ambient() -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).map(drop)
}

/// Whether one is in the ambient set.
pub fn in_ambient(number: u8) -> Result<bool, Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET as u64, u64::from(number)).map(|r| r == 1)
}

/// The securebits.
pub fn securebits() -> Result<u32, Errno> {
    prctl(libc::PR_GET_SECUREBITS, 0, 0).map(|bits| bits as u32)
}

/// Sets the securebits.
pub fn set_securebits(bits: u32) -> Result<(), Errno> {
    prctl(libc::PR_SET_SECUREBITS, u64::from(bits), 0).map(drop)
}

/// Sets no_new_privs, for good, and asks the kernel whether it is: `EPERM` if not.
pub fn set_no_new_privs() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    if no_new_privs()? { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether no_new_privs is set.
pub fn no_new_privs() -> Result<bool, Errno> {
    prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0).map(|r| r == 1)
}

/// Makes the process not dumpable: no core, no ptrace, `/proc/PID` owned by root. `EPERM` if the kernel says it is not so.
pub fn set_not_dumpable() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
    if prctl(libc::PR_GET_DUMPABLE, 0, 0)? == 0 { Ok(()) } else { Err(Errno::EPERM) }
}

/// The signal that the kernel sends when the parent dies; every change of ids clears it.
pub fn set_parent_death_signal(signal: i32) -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0).map(drop)
}

/// Installs a seccomp filter program. Needs no_new_privs or CAP_SYS_ADMIN.
pub fn install_filter(program: &[libc::sock_filter]) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `filter` points at `len` instructions that live through the call; the kernel copies them.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER as u64, &raw const filter, 0u64, 0u64) };
    Errno::result(result).map(drop)
}

/// Installs a filter for programs of other people's, which gain nothing by the slower speculation that kernels before
/// 5.16 force upon a filtered process (seccomp(2), SECCOMP_FILTER_FLAG_SPEC_ALLOW). Needs no_new_privs.
pub fn install_session_filter(program: &[libc::sock_filter]) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `filter` points at `len` instructions that live through the call; the kernel copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const filter,
        )
    };
    Errno::result(result).map(drop)
}

/// What swapon(2) with a flag that there is not says: EINVAL or ENOSYS of the kernel itself, else a filter's word.
pub fn senseless_swapon() -> Result<(), Errno> {
    // SAFETY: the kernel reads no path before it has looked at the flags, and takes a null one for a fault.
    let result = unsafe { libc::syscall(libc::SYS_swapon, std::ptr::null::<libc::c_char>(), 1 << 30) };
    Errno::result(result).map(drop)
}

/// What fsync(2) of no descriptor says: EBADF of the kernel itself, else a filter's word.
pub fn senseless_fsync() -> Result<(), Errno> {
    // SAFETY: a plain number.
    Errno::result(unsafe { libc::fsync(-1) }).map(drop)
}

/// What ioctl(TIOCSTI) of no descriptor says: EBADF of the kernel itself, else a filter's word.
pub fn senseless_tiocsti() -> Result<(), Errno> {
    // SAFETY: no byte is read before the descriptor is looked at.
    Errno::result(unsafe { libc::ioctl(-1, libc::TIOCSTI, std::ptr::null::<libc::c_char>()) }).map(drop)
}
