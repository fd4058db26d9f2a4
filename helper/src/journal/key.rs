//! The key that seals log lines, and hides whose id owns a session: read, or made where there is none yet. Without one, lines
//! go unsealed.

use crate::sys::process;
use caplet_policy::seal::{KEY_FILE, KEY_LENGTH, Key};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{linkat, mkdir, unlink, write};
use std::path::Path;

/// The machine's key.
pub fn find() -> Option<Key> {
    match read() {
        Err(Errno::ENOENT) => make().and_then(|()| read()).ok()?,
        read => read.ok()?,
    }
}

/// `Ok(None)`: there is a file, and it is no key.
fn read() -> Result<Option<Key>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = open(KEY_FILE, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG || stat.st_uid != 0 || stat.st_mode & 0o077 != 0 {
        return Ok(None);
    }
    let mut bytes = [0; KEY_LENGTH + 1];
    let length = nix::unistd::read(&file, &mut bytes)?;
    Ok(bytes.get(..length).and_then(Key::new))
}

/// Of two that make one at once, one wins, and no half of a key is ever seen.
fn make() -> Result<(), Errno> {
    let bytes: [u8; KEY_LENGTH] = process::random()?;
    if let Some(folder) = Path::new(KEY_FILE).parent() {
        match mkdir(folder, Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    let new = format!("{KEY_FILE}.{}", std::process::id());
    let _ = unlink(new.as_str());
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = open(new.as_str(), flags, Mode::from_bits_truncate(0o600))?;
    let whole = |n: usize| if n == KEY_LENGTH { nix::unistd::fsync(&file) } else { Err(Errno::EIO) };
    let written = write(&file, &bytes).and_then(whole);
    let here = crate::sys::standard_cwd();
    let linked = written.and_then(|()| linkat(here, new.as_str(), here, KEY_FILE, AtFlags::empty()));
    let _ = unlink(new.as_str());
    match linked {
        Err(Errno::EEXIST) => Ok(()),
        done => done,
    }
}
