//! The processes around a command: the relay (the user's, in the caller's place), the guard (root's, without power), the
//! watcher (root's, asleep), the tracer (root's, where `why` is traced), PID 1 of an isolated session, and the words
//! between them.

use crate::cgroup;
use crate::error::Error;
use crate::sys::process::{self, Fork};
use crate::sys::{Errno, capability, identity, terminal as tty};
use caplet_policy::capability::CapSet;
use caplet_policy::request::RequestError;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

pub mod guard;
pub mod init;
pub mod relay;
pub mod terminal;
pub mod trace;
pub mod watcher;
pub mod wire;

/// CAP_SETUID: what a process of root's keeps for its end.
pub const SETUID: CapSet = CapSet::from_bits(1 << 7);

/// Ends this process, which needs CAP_SETUID for it ([`identity::end_as`]).
pub fn end_as(uid: u32) -> ! {
    identity::end_as(uid);
    process::exit_now(0)
}

/// The user of a verb `words` that is for root alone: what runs it is not there by the setuid bit.
pub fn user_of(words: &[OsString], usage: &str) -> Result<u32, Error> {
    let uid = words.get(1).and_then(|uid| uid.to_str()?.parse().ok()).filter(|_| identity::is_root());
    uid.ok_or_else(|| for_root(usage))
}

/// What a verb that is for root alone says of other words than `usage`.
pub fn for_root(usage: &str) -> Error {
    Error::Usage(RequestError(format!("{usage} is for root")))
}

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

/// How long a process that stands apart has for its work, in seconds: it holds locks of everybody's.
pub const TO_WORK: u32 = 60;

/// Has a process of root's do what nobody but root may stop, freeze or kill half-way: out of the caller's cgroup and
/// session, and nobody's child whom the caller would have to wait for. What comes back is the line to it, which ends with
/// it. It is told whether it could leave.
pub fn apart(uid: u32, work: impl FnOnce(&OwnedFd, Result<(), Errno>)) -> Result<OwnedFd, Errno> {
    let (ours, theirs) = wire::pair().map_err(|_| Errno::EMFILE)?;
    match process::fork()? {
        Fork::Child => {
            if let Ok(Fork::Child) = process::fork() {
                drop(ours);
                let left = retire(vec![theirs.as_raw_fd()]).and_then(|()| process::end_in(TO_WORK));
                work(&theirs, left);
                drop(theirs);
                end_as(uid);
            }
            process::exit_now(0)
        }
        Fork::Parent(child) => process::wait(Some(child), libc::WEXITED).map(|_| ours),
    }
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
