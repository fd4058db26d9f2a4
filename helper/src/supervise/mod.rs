//! The processes around a command: the relay (the user's, in the caller's place), the guard (root's, without power), the
//! watcher (root's, asleep), the tracer (root's, where `why` is traced), PID 1 of an isolated session, and the words
//! between them.

use crate::cgroup;
use crate::sys::{Errno, capability, identity, process, terminal as tty};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

pub mod guard;
pub mod init;
pub mod relay;
pub mod terminal;
pub mod trace;
pub mod watcher;
pub mod wire;

/// Keeps nothing of the caller's but these descriptors: a process of root's that stays.
pub fn retire(keep: Vec<i32>) -> Result<(), Errno> {
    nix::unistd::setsid()?;
    identity::set_supplementary_groups(&[])?;
    if let Some(way) = cgroup::Way::open()? {
        way.leave()?;
    }
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    for number in 0..3 {
        tty::replace_standard(&null, number)?;
    }
    std::mem::forget(null); // closed with the others
    process::close_all_but(keep)?;
    capability::set_not_dumpable()?;
    nix::unistd::chdir("/")
}

/// The installed helper's argv, its path the first word. `None`: one of the words holds a NUL.
pub fn fresh_helper(words: impl IntoIterator<Item = OsString>) -> Option<Vec<CString>> {
    let path = format!("{}/caplet-helper", crate::LIBEXECDIR);
    let all = std::iter::once(path.into()).chain(words);
    all.map(|word: OsString| CString::new(word.into_vec()).ok()).collect()
}

/// Becomes that, in this environment alone. Comes back only where it fails.
pub fn become_helper(argv: &[CString], environment: &[CString]) {
    if let Some(path) = argv.first() {
        let _ = process::execve(path, argv, environment);
    }
}
