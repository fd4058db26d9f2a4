//! The processes around a command: the relay (the user's, in the caller's place), the guard (root's, without
//! power), the watcher (root's, asleep), PID 1 of an isolated session, and the words between them.

use crate::sys::process;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

pub mod guard;
pub mod init;
pub mod relay;
pub mod terminal;
pub mod watcher;
pub mod wire;

/// The installed helper's argv, its path the first word. `None`: one of the words holds a NUL.
pub fn fresh_helper(words: impl IntoIterator<Item = OsString>) -> Option<Vec<CString>> {
    let path = format!("{}/caplet-helper", crate::LIBEXECDIR);
    let all = std::iter::once(path.into()).chain(words);
    all.map(|word: OsString| CString::new(word.into_vec()).ok()).collect()
}

/// Becomes that, in an empty environment. Comes back only where it fails.
pub fn become_helper(argv: &[CString]) {
    if let Some(path) = argv.first() {
        let _ = process::execve(path, argv, &[]);
    }
}
