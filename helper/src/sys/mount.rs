//! Mounts by descriptor: open_tree, move_mount, mount_setattr, fsopen and friends, openat2 (Linux 5.2 to 5.12).

use super::{Errno, c_string, checked};
use std::ffi::OsStr;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

pub const OPEN_TREE_CLONE: u32 = 1;
pub const AT_RECURSIVE: u32 = 0x8000;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

pub const RDONLY: u64 = 0x1;
pub const NOSUID: u64 = 0x2;
pub const NODEV: u64 = 0x4;
pub const NOEXEC: u64 = 0x8;

/// mount_setattr(2)'s argument.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub userns_fd: u64,
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub const RESOLVE_NO_SYMLINKS: u64 = 0x04;

fn descriptor(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let number = checked(result)? as i32;
    // SAFETY: the kernel just gave this descriptor to us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// openat2(2); `O_CLOEXEC` is always added.
pub fn openat2(dir: impl AsFd, path: impl AsRef<OsStr>, flags: i32, resolve: u64) -> Result<OwnedFd, Errno> {
    let path = c_string(path)?;
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve };
    // SAFETY: path and `how` live through the call, and the size given is `how`'s.
    descriptor(unsafe {
        libc::syscall(libc::SYS_openat2, dir.as_fd().as_raw_fd(), path.as_ptr(), &raw const how, size_of::<OpenHow>())
    })
}

/// A detached copy of the mounts at `path` below `dir` (`path` empty: at `dir` itself).
pub fn clone_tree(dir: impl AsFd, path: &str, recursive: bool) -> Result<OwnedFd, Errno> {
    let path = c_string(path)?;
    let flags =
        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32 | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path lives through the call.
    descriptor(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), path.as_ptr(), flags) })
}

/// Attaches a detached mount at `path` below `dir` (`path` empty: on `dir` itself).
pub fn attach(mount: impl AsFd, dir: impl AsFd, path: impl AsRef<OsStr>) -> Result<(), Errno> {
    let path = c_string(path)?;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | if path.is_empty() { MOVE_MOUNT_T_EMPTY_PATH } else { 0 };
    // SAFETY: both paths live through the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
        )
    })
    .map(drop)
}

/// mount_setattr(2) on the mount at `dir`/`path`, with all below it if `recursive`.
pub fn set_attributes(dir: impl AsFd, path: &str, recursive: bool, attributes: Attributes) -> Result<(), Errno> {
    let path = c_string(path)?;
    let flags = libc::AT_EMPTY_PATH as u32 | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: path and attributes live through the call, and the size given is the struct's.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    })
    .map(drop)
}

/// A new, detached file system; options with an empty value are flags.
pub fn new_filesystem(kind: &str, options: &[(&str, &str)], attributes: u64) -> Result<OwnedFd, Errno> {
    let kind = c_string(kind)?;
    // SAFETY: the name lives through the call; 1 is FSOPEN_CLOEXEC.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })?;
    for (key, value) in options {
        let (key, value) = (c_string(key)?, c_string(value)?);
        let (command, value) = match value.is_empty() {
            true => (FSCONFIG_SET_FLAG, std::ptr::null()),
            false => (FSCONFIG_SET_STRING, value.as_ptr()),
        };
        // SAFETY: key and value live to the end of this iteration; a flag takes no value.
        checked(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key.as_ptr(), value, 0) })?;
    }
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: CREATE takes neither key nor value.
    checked(unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, nothing, nothing, 0)
    })?;
    // SAFETY: plain numbers; 1 is FSMOUNT_CLOEXEC.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, attributes) })
}

/// umount2(2) with MNT_DETACH, not following a symbolic link at the end.
pub fn detach(path: &str) -> Result<(), Errno> {
    let path = c_string(path)?;
    // SAFETY: the path lives through the call.
    Errno::result(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }).map(drop)
}
