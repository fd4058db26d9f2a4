//! How many sessions a user has: one locked file a session in `/run/caplet`. The kernel takes the lock back when
//! the guard dies, however it dies, so a count can neither leak nor be forged.

use crate::cgroup;
use crate::error::{Error, call};
use crate::sys::{Errno, mount, process};
use caplet_policy::escape::parse_log_line;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::io::Seek;
use std::os::fd::OwnedFd;

const FOLDER: &str = "/run/caplet";
/// No start looks through more records than these for dead ones, besides those it meets on the way to its own place.
const FEW: usize = 64;

/// A session's place, held as long as this value lives.
#[derive(Debug)]
pub struct Slot {
    lock: OwnedFd,
    folder: OwnedFd,
    name: String,
    /// Dead sessions' records that were met on the way.
    met: Vec<String>,
    /// The session's, where its profile limits it.
    pub cgroup: Option<cgroup::Own>,
}

impl Slot {
    /// Takes the user's first free place out of `max`; one with a dead session's record, which waits for the log to
    /// take its `end`, only where no other is left.
    pub fn take(uid: u32, max: u32) -> Result<Self, Error> {
        let folder = folder()?;
        let mut met = Vec::new();
        for also_dead in [false, true] {
            for number in 0..max {
                let name = format!("{uid}.{number}");
                let Some(lock) = lock(&folder, &name)? else { continue };
                let is_empty = fstat(&lock).map_err(call("fstat a session record"))?.st_size == 0;
                // A dead session's cgroup is found by its record alone.
                if is_empty || (also_dead && read_all(&lock).is_some_and(|text| without_cgroup(&text))) {
                    let slot = Self { lock, folder, name, met, cgroup: None };
                    let emptied = nix::unistd::ftruncate(&slot.lock, 0).map_err(call("ftruncate a session record"));
                    emptied.inspect_err(|_| {
                        if is_empty {
                            slot.release()
                        }
                    })?;
                    return Ok(slot);
                }
                met.push(name);
            }
        }
        Err(Error::TooMany(max))
    }

    /// The dead that were met.
    pub fn met(&self) -> impl Iterator<Item = Dead<'_>> {
        self.met.iter().filter(|name| **name != self.name).filter_map(|name| take_dead(&self.folder, name.clone()))
    }

    /// Detached mounts of the folders alone stand for them from here on.
    pub fn enclose(&mut self) -> Result<(), Error> {
        self.folder = mount::clone_tree(&self.folder, "", false).map_err(call(format!("open_tree {FOLDER}")))?;
        self.cgroup.as_mut().map_or(Ok(()), cgroup::Own::enclose)
    }

    /// Writes what is known of the session, behind what was written before: the `grant` line, then its processes.
    /// An error where not all of it was taken: a session without its record would be nobody's to see or to end.
    pub fn record(&self, text: &str) -> Result<(), Error> {
        match nix::unistd::write(&self.lock, text.as_bytes()) {
            Ok(written) if written == text.len() => Ok(()),
            Ok(_) => Err(call("write a session record")(Errno::ENOSPC)),
            Err(errno) => Err(call("write a session record")(errno)),
        }
    }

    /// Kills whoever is left in the session's cgroup and takes it away; whether it is gone.
    pub fn empty(&self) -> bool {
        self.cgroup.as_ref().is_none_or(cgroup::Own::remove)
    }

    /// Takes the record away: whoever comes next makes a new one. The lock goes with this process. A cgroup that cannot
    /// be taken away keeps its record, by which the next start finds it.
    pub fn release(&self) {
        if !self.empty() {
            return;
        }
        let _ = unlinkat(&self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// Where proofs of identity are kept: a folder that root alone can even look into.
pub fn private_folder() -> Result<OwnedFd, Error> {
    let folder = folder()?;
    let named = |what: &str| format!("{what} {FOLDER}/auth");
    match nix::sys::stat::mkdirat(&folder, "auth", Mode::from_bits_truncate(0o700)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(call(named("mkdir"))(errno)),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let private = openat(&folder, "auth", flags, Mode::empty()).map_err(call(named("open")))?;
    let stat = fstat(&private).map_err(call(named("fstat")))?;
    if stat.st_uid != 0 || stat.st_mode & 0o077 != 0 {
        return Err(call(named("the folder must be root's alone:"))(Errno::EPERM));
    }
    Ok(private)
}

/// The record of a session whose guard was killed: nobody else holds its lock, as long as this value lives.
#[derive(Debug)]
pub struct Dead<'f> {
    text: String,
    _lock: OwnedFd,
    folder: &'f OwnedFd,
    name: String,
}

impl Dead<'_> {
    /// Its `grant` line.
    pub fn grant(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Kills whoever is left in its cgroup and takes that away; whether it is gone.
    pub fn empty(&self) -> bool {
        without_cgroup(self.grant())
    }

    /// Takes it away.
    pub fn bury(self) {
        let _ = unlinkat(self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// The records of sessions whose guard was killed: among the first few, so that a start does not cost more the more
/// sessions there are; or among `all`.
pub fn dead(folder: &OwnedFd, all: bool) -> Result<Vec<Dead<'_>>, Error> {
    Ok(names(folder, if all { usize::MAX } else { FEW })?.into_iter().filter_map(|n| take_dead(folder, n)).collect())
}

/// The first so many records.
fn names(folder: &OwnedFd, most: usize) -> Result<Vec<String>, Error> {
    let of_a_session = |name: &str| name.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !name.starts_with('.');
    entries(folder, most, &|name| of_a_session(name).then(|| name.to_owned()))
}

/// The networks that have a record.
pub fn networks(folder: &OwnedFd) -> Result<Vec<String>, Error> {
    entries(folder, usize::MAX, &|name| name.strip_prefix("net.").map(str::to_owned))
}

fn entries(folder: &OwnedFd, most: usize, pick: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, Error> {
    // A descriptor of its own: a copy would go on where another one stopped reading.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = openat(folder, ".", flags, Mode::empty()).map_err(call(format!("open {FOLDER}")))?;
    let mut entries = nix::dir::Dir::from_fd(own).map_err(call(format!("read {FOLDER}")))?;
    let names = entries.iter().filter_map(|entry| pick(entry.ok()?.file_name().to_str().ok()?));
    Ok(names.take(most).collect())
}

/// The record of a session whose guard lives.
#[derive(Debug)]
pub struct Live {
    file: OwnedFd,
    text: String,
}

impl Live {
    /// Its `grant` line.
    pub fn grant(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// What the guard has added to it; nothing while the session is being built.
    pub fn running(&self) -> &str {
        self.text.lines().nth(1).unwrap_or_default()
    }

    /// Whether its guard still lives: the lock is its alone.
    pub fn is_held(&self) -> bool {
        matches!(process::try_lock(&self.file), Ok(false))
    }
}

/// The whole of it; a copy shares its offset, which stays at the start.
fn read_all(file: &OwnedFd) -> Option<String> {
    let mut file = std::fs::File::from(file.try_clone().ok()?);
    let text = std::io::read_to_string(&mut file).ok()?;
    file.rewind().ok()?;
    Some(text)
}

/// Takes the cgroup of a record away, if it has one; whether it is gone.
fn without_cgroup(record: &str) -> bool {
    let Some((_, fields)) = record.lines().next().and_then(parse_log_line) else { return true };
    let text = |key: &str| {
        let value = fields.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_slice());
        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
    };
    cgroup::bury(&text("cgroup"), &text("id"))
}

/// The running sessions of a user, or of everybody.
pub fn live(of: Option<u32>) -> Result<Vec<Live>, Error> {
    let folder = folder()?;
    let is_theirs = |name: &String| of.is_none_or(|uid| name.split('.').next() == Some(uid.to_string().as_str()));
    let names = names(&folder, usize::MAX)?.into_iter().filter(is_theirs);
    Ok(names.filter_map(|name| read_live(&folder, &name)).collect())
}

/// Whether [`Slot::take`] would find no place. Takes none.
pub fn is_full(uid: u32, max: u32) -> Result<bool, Error> {
    let folder = folder()?;
    Ok((0..max).all(|number| read_live(&folder, &format!("{uid}.{number}")).is_some()))
}

fn read_live(folder: &OwnedFd, name: &str) -> Option<Live> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = openat(folder, name, flags, Mode::empty()).ok()?;
    let text = read_all(&file)?;
    Some(Live { file, text }).filter(|live| !live.text.is_empty() && live.is_held())
}

/// An empty record is one that is about to be written.
fn take_dead(folder: &OwnedFd, name: String) -> Option<Dead<'_>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let lock = openat(folder, name.as_str(), flags, Mode::empty()).ok()?;
    let stat = fstat(&lock).ok()?;
    if stat.st_size == 0 || stat.st_nlink == 0 || !process::try_lock(&lock).ok()? || fstat(&lock).ok()?.st_nlink == 0 {
        return None;
    }
    let text = read_all(&lock)?;
    Some(Dead { text, _lock: lock, folder, name })
}

/// `/run/caplet`, made where it is missing, and root's alone to write.
pub fn folder() -> Result<OwnedFd, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let named = |what: &str| format!("{what} {FOLDER}");
    let folder = match open(FOLDER, flags, Mode::empty()) {
        Err(Errno::ENOENT) => {
            match nix::unistd::mkdir(FOLDER, Mode::from_bits_truncate(0o700)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(call(named("mkdir"))(errno)),
            }
            open(FOLDER, flags, Mode::empty())
        }
        opened => opened,
    }
    .map_err(call(named("open")))?;
    let stat = fstat(&folder).map_err(call(named("fstat")))?;
    if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
        return Err(call(named("the folder must belong to root and be writable by nobody else:"))(Errno::EPERM));
    }
    Ok(folder)
}

/// `None`: another session has it. A file that was unlinked while we waited for nobody is tried again.
fn lock(folder: &OwnedFd, name: &str) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    for _ in 0..64 {
        let file =
            openat(folder, name, flags, Mode::from_bits_truncate(0o600)).map_err(call("open a session record"))?;
        if !process::try_lock(&file).map_err(call("lock a session record"))? {
            return Ok(None);
        }
        if fstat(&file).map_err(call("fstat a session record"))?.st_nlink > 0 {
            return Ok(Some(file));
        }
    }
    Ok(None)
}
