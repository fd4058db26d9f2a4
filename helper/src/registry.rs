//! How many sessions a user has: one locked file a session in `/run/caplet`. The kernel takes the lock back when
//! the guard dies, however it dies, so a count can neither leak nor be forged.

use crate::cgroup;
use crate::error::{Error, call};
use crate::process_stat;
use crate::sys::{Errno, mount, process};
use caplet_policy::escape::parse_log_line;
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::io::Seek;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

const FOLDER: &str = "/run/caplet";
/// How long a command is from its start to its record's second line, at most: a guard gives up before.
const SOON: f64 = 60.0;
/// How often, and in milliseconds how long each time, a process waits for others' commands that it has killed.
static FOR_OTHERS: AtomicU32 = AtomicU32::new(40);
const PAUSE: u16 = 5;
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
        Self::take_in(folder()?, uid, max)
    }

    fn take_in(folder: OwnedFd, uid: u32, max: u32) -> Result<Self, Error> {
        let mut met = Vec::new();
        for also_dead in [false, true] {
            for number in 0..max {
                let name = format!("{uid}.{number}");
                let Some(lock) = lock(&folder, &name)? else { continue };
                let is_empty = fstat(&lock).map_err(call("fstat a session record"))?.st_size == 0;
                // What is left of a dead session is found by its record alone.
                if is_empty || (also_dead && read_all(&lock).is_some_and(|text| emptied(&text))) {
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

    /// Gives the lock back, and nothing else: to take a detached mount apart costs more than all else at a session's end.
    pub fn leave(self) {
        drop(self.lock);
        std::mem::forget((self.folder, self.cgroup));
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
    if !is_roots(&stat, 0o077) {
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

    /// Kills what is left of it and takes its cgroup away; whether all is gone.
    pub fn empty(&self) -> bool {
        emptied(&self.text)
    }

    /// Takes it away.
    pub fn bury(self) {
        let _ = unlinkat(self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// The records of sessions whose guard was killed, of everybody; or of a user among the first few of all, so that a start
/// does not cost more the more sessions there are. One is open at a time.
pub fn dead(folder: &OwnedFd, of: Option<u32>) -> Result<impl Iterator<Item = Dead<'_>>, Error> {
    let names = names(folder, of.map_or(usize::MAX, |_| FEW))?
        .into_iter()
        .filter(move |name| of.is_none_or(|uid| is_of(name, uid)));
    Ok(names.filter_map(|name| take_dead(folder, name)))
}

/// Whether there seem to be such records of others than that user, among the first few. No lock is taken, which whoever can
/// freeze this process would keep.
pub fn others_are_dead(folder: &OwnedFd, uid: u32) -> Result<bool, Error> {
    let mut others = names(folder, FEW)?.into_iter().filter(|name| !is_of(name, uid));
    Ok(others.any(|name| seems_dead(folder, &name).unwrap_or(false)))
}

/// Its guard is gone. One that was killed before it stood there is found by the user's own next start.
fn seems_dead(folder: &OwnedFd, name: &str) -> Option<bool> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let text = read_all(&openat(folder, name, flags, Mode::empty()).ok()?)?;
    let guard: i32 = field(&line(&text, 1), "guard")?.parse().ok().filter(|pid| *pid > 0)?;
    Some(process::kill(guard, 0) == Err(Errno::ESRCH))
}

fn is_of(name: &str, uid: u32) -> bool {
    name.split('.').next() == Some(uid.to_string().as_str())
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

    /// The guard, or the main process.
    pub fn process(&self, which: &str) -> Option<OwnedFd> {
        Process::find(&line(&self.text, 1), which).ok().flatten().map(|process| process.pidfd)
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

/// Whether nothing is left of a dead session: its main process, and its cgroup, if it has one.
fn emptied(record: &str) -> bool {
    without_main(record) & cgroup_of(record).is_none_or(|(path, id)| cgroup::bury(&path, &id))
}

/// Kills a command in host scope, which its guard's death leaves alone with what it was granted, or PID 1 of an isolated
/// session, which goes with its guard anyway; whether it is gone.
fn without_main(record: &str) -> bool {
    let main = match Process::find(&line(record, 1), "main") {
        Ok(Some(main)) => main,
        gone => return gone.is_ok(),
    };
    // A record of another boot, where /run is a disk's, may name whom it will.
    if main.up - main.started > SOON {
        return true;
    }
    // Nor is one killed that has become another user (a setuid program, where the profile lets those work): as long as it
    // runs its record stays.
    let uid = field(&line(record, 0), "uid").and_then(|uid| uid.parse().ok());
    if uid.is_none() || process_stat::real_uid(main.pid) != uid {
        return false;
    }
    let _ = process::pidfd_signal(&main.pidfd, libc::SIGKILL);
    loop {
        match poll(&mut [PollFd::new(main.pidfd.as_fd(), PollFlags::POLLIN)], PAUSE) {
            Ok(1) => return true,
            // A dead file server may keep it for ever, and so it holds up nobody for long.
            _ if FOR_OTHERS.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() => return false,
            _ => {}
        }
    }
}

/// A process that a record names.
struct Process {
    pid: i32,
    pidfd: OwnedFd,
    /// When it began, and when it was written down, in seconds since boot.
    started: f64,
    up: f64,
}

impl Process {
    /// `guard` or `main` of a record's second line. Whatever bears the number and is older than the line can be nobody
    /// else. `None`: it is gone, or none is named. An error: nobody knows.
    fn find(running: &str, which: &str) -> Result<Option<Self>, Errno> {
        let number = || field(running, which)?.parse().ok();
        let up = || field(running, "up")?.parse().ok();
        let (Some(pid), Some(up)) = (number(), up()) else { return Ok(None) };
        let pidfd = match process::pidfd_open(pid) {
            Err(Errno::ESRCH) => return Ok(None),
            opened => opened?,
        };
        match process_stat::started(pid) {
            Some(started) if started <= up => Ok(Some(Self { pid, pidfd, started, up })),
            Some(_) => Ok(None),
            None if poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1) => Ok(None),
            None => Err(Errno::ESRCH),
        }
    }
}

/// A line of a record as the log has it: the second one has no event of its own.
fn line(record: &str, number: usize) -> String {
    let text = record.lines().nth(number).unwrap_or_default();
    if number == 0 { text.to_owned() } else { format!("running {text}") }
}

/// A field of such a line.
pub fn field(line: &str, name: &str) -> Option<String> {
    let (_, fields) = parse_log_line(line)?;
    let (_, value) = fields.into_iter().find(|(key, _)| key == name)?;
    String::from_utf8(value).ok()
}

/// The cgroup that a record names, and its session's id.
fn cgroup_of(record: &str) -> Option<(String, String)> {
    let grant = line(record, 0);
    Some((field(&grant, "cgroup")?, field(&grant, "id").unwrap_or_default()))
}

/// The running sessions of a user, or of everybody.
pub fn live(of: Option<u32>) -> Result<Vec<Live>, Error> {
    live_in(&folder()?, of)
}

fn live_in(folder: &OwnedFd, of: Option<u32>) -> Result<Vec<Live>, Error> {
    let is_theirs = |name: &String| of.is_none_or(|uid| is_of(name, uid));
    let names = names(folder, usize::MAX)?.into_iter().filter(is_theirs);
    Ok(names.filter_map(|name| read_live(folder, &name)).collect())
}

/// Whether [`Slot::take`] would find no place. Takes none.
pub fn is_full(uid: u32, max: u32) -> Result<bool, Error> {
    Ok(is_full_in(&folder()?, uid, max))
}

fn is_full_in(folder: &OwnedFd, uid: u32, max: u32) -> bool {
    (0..max).all(|number| read_live(folder, &format!("{uid}.{number}")).is_some())
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
    if !is_roots(&stat, 0o022) {
        return Err(call(named("the folder must belong to root and be writable by nobody else:"))(Errno::EPERM));
    }
    Ok(folder)
}

/// Whether it is root's, and these bits of its mode are nobody's.
pub fn is_roots(stat: &FileStat, closed: u32) -> bool {
    stat.st_uid == 0 && stat.st_mode & closed == 0
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A folder in the place of `/run/caplet`.
    struct Run(PathBuf, OwnedFd);

    impl Run {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("caplet-registry.{test}.{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            let folder = std::fs::File::open(&path).unwrap().into();
            Self(path, folder)
        }

        fn take(&self, uid: u32, max: u32) -> Result<Slot, Error> {
            Slot::take_in(self.1.try_clone().unwrap(), uid, max)
        }

        /// What a session leaves whose guard was killed.
        fn killed(&self, name: &str, record: &str) {
            std::fs::write(self.0.join(name), record).unwrap();
        }

        fn there(&self) -> Vec<String> {
            let mut all: Vec<String> = std::fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            all.sort();
            all
        }
    }

    impl Drop for Run {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_user_has_as_many_places_as_the_policy_says() {
        let run = Run::new("places");
        let (one, two) = (run.take(7, 2).unwrap(), run.take(7, 2).unwrap());
        assert_eq!((one.name.as_str(), two.name.as_str()), ("7.0", "7.1"));
        assert!(matches!(run.take(7, 2), Err(Error::TooMany(2))));
        assert_eq!(run.take(8, 1).unwrap().name, "8.0", "another user's are another's");
        assert_eq!(run.take(7, 3).unwrap().name, "7.2");
        one.release();
        drop(one);
        assert_eq!(run.take(7, 2).unwrap().name, "7.0");
        assert!(matches!(run.take(9, 0), Err(Error::TooMany(0))));
    }

    #[test]
    fn a_killed_sessions_record_is_met_and_its_place_is_the_last_to_be_taken() {
        let run = Run::new("killed");
        run.killed("7.0", "grant id=a\n");
        let slot = run.take(7, 2).unwrap();
        assert_eq!(slot.name, "7.1");
        let met: Vec<String> = slot.met().map(|dead| dead.grant().to_owned()).collect();
        assert_eq!(met, ["grant id=a"]);
        let last = run.take(7, 2).unwrap();
        assert_eq!(last.name, "7.0");
        assert_eq!(std::fs::read(run.0.join("7.0")).unwrap(), b"", "nothing of the dead one's");
        assert_eq!(last.met().count(), 0, "its own is none");
        slot.release();
        assert_eq!(run.there(), ["7.0"]);
    }

    #[test]
    fn a_session_is_live_while_its_guard_holds_the_lock_and_has_said_what_it_is() {
        let run = Run::new("live");
        let slot = run.take(7, 2).unwrap();
        assert_eq!(live_in(&run.1, None).unwrap().len(), 0, "not yet");
        assert!(!is_full_in(&run.1, 7, 1));
        slot.record("grant id=a\n").unwrap();
        let other = run.take(70, 1).unwrap();
        other.record("grant id=b\nrunning pid=2\n").unwrap();
        let grants = |of| live_in(&run.1, of).unwrap().iter().map(|l| l.grant().to_owned()).collect::<Vec<_>>();
        assert_eq!((grants(Some(7)), grants(Some(70))), (vec!["grant id=a".into()], vec!["grant id=b".into()]));
        assert_eq!((grants(None).len(), grants(Some(0)).len()), (2, 0));
        let all = live_in(&run.1, Some(7)).unwrap();
        assert_eq!(all[0].running(), "");
        slot.record("running pid=1\n").unwrap();
        assert_eq!(live_in(&run.1, Some(7)).unwrap()[0].running(), "running pid=1");
        assert!(is_full_in(&run.1, 7, 1) && !is_full_in(&run.1, 7, 2) && is_full_in(&run.1, 70, 1));
        assert_eq!(dead(&run.1, None).unwrap().count(), 0);
        // The guard is killed.
        drop(slot);
        assert!(!all[0].is_held());
        drop(all); // asking took the lock
        assert!(!is_full_in(&run.1, 7, 1));
        assert_eq!((grants(Some(7)).len(), grants(Some(70)).len()), (0, 1));
        let mut left: Vec<Dead<'_>> = dead(&run.1, None).unwrap().collect();
        assert_eq!(left.len(), 1);
        let left = left.remove(0);
        assert!(left.empty(), "it has no cgroup");
        left.bury();
        assert_eq!(run.there(), ["70.0"]);
    }

    #[test]
    fn what_is_no_sessions_record_is_left_alone() {
        let run = Run::new("others");
        for name in ["net.lab", "net.x", "auth", ".7.0", "7.0x", "sequence"] {
            run.killed(name, "x");
        }
        run.killed("7.1", "");
        for number in 0..70 {
            run.killed(&format!("8.{number}"), "grant id=a\n");
        }
        assert_eq!(dead(&run.1, None).unwrap().count(), 70);
        assert_eq!(
            (dead(&run.1, Some(8)).unwrap().count() > FEW - 5, dead(&run.1, Some(7)).unwrap().count()),
            (true, 0)
        );
        assert_eq!(names(&run.1, 5).unwrap().len(), 5);
        let mut found = networks(&run.1).unwrap();
        found.sort();
        assert_eq!(found, ["lab", "x"]);
        std::os::unix::fs::symlink("8.0", run.0.join("9.0")).unwrap();
        assert!(run.take(9, 1).is_err(), "no link is followed");
        assert!(take_dead(&run.1, "9.0".into()).is_none() && take_dead(&run.1, "7.1".into()).is_none());
        let held = lock(&run.1, "8.0").unwrap();
        assert!(held.is_some() && lock(&run.1, "8.0").unwrap().is_none());
        assert!(take_dead(&run.1, "8.0".into()).is_none(), "somebody has it");
    }

    #[test]
    fn others_seem_dead_where_their_guard_is_gone() {
        let run = Run::new("gone");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let guard = |pid: u32| format!("grant v=1 id=\"a\"\nguard={pid} main={pid} up=1.00\n");
        run.killed("7.0", &guard(std::process::id()));
        run.killed("8.0", "grant v=1 id=\"a\"\n");
        run.killed("8.1", &guard(0));
        assert!(!others_are_dead(&run.1, 9).unwrap(), "one lives, the others name nobody");
        run.killed("7.1", &guard(child.id()));
        assert!(others_are_dead(&run.1, 9).unwrap() && !others_are_dead(&run.1, 7).unwrap());
    }

    #[test]
    fn a_record_says_which_cgroup_is_its_sessions() {
        let line = "grant v=1 id=\"a\" cgroup=\"/user.slice/caplet-a\"\nrunning cgroup=\"/other\"\n";
        assert_eq!(cgroup_of(line), Some(("/user.slice/caplet-a".into(), "a".into())));
        for none in ["", "nonsense", "grant v=1 id=\"a\""] {
            assert_eq!(cgroup_of(none), None, "{none}");
            assert!(emptied(none));
        }
        // One that is not named after its session is nobody's to kill.
        assert!(emptied("grant v=1 id=\"a\" cgroup=\"/\""));
    }

    /// What a session leaves behind whose guard was killed, and nobody else: neither another user's, nor one that has the
    /// number by now.
    #[test]
    fn a_dead_sessions_command_is_killed_and_no_other() {
        let uid = nix::unistd::getuid().as_raw();
        let mut child = std::process::Command::new("sleep").arg("99").spawn().unwrap();
        let pid = child.id() as i32;
        let started = process_stat::started(pid).unwrap();
        let record = |uid: u32, up: f64| format!("grant v=1 id=\"a\" uid=\"{uid}\"\nguard=1 main={pid} up={up:.2}\n");
        let mut lives = |record: &str| {
            assert_eq!(emptied(record), !record.contains(&format!("uid=\"{}\"", uid + 1)), "{record}");
            child.try_wait().unwrap().is_none()
        };
        assert!(lives(&record(uid + 1, started + 0.1)), "another user's");
        assert!(lives(&record(uid, started - 1.0)), "it began later");
        assert!(lives(&record(uid, started + 2.0 * SOON)), "it was there long before");
        assert!(lives(&format!("grant v=1 id=\"a\" uid=\"{uid}\"\n")), "none is named");
        assert!(!lives(&record(uid, started + 0.1)));
        assert!(emptied(&record(uid, started + 0.1)), "it is gone");
        child.wait().unwrap();
    }

    /// A session ends in the moment in which the next one opens its place: a lock on a file without a name would be a
    /// place that nobody counts.
    #[test]
    fn a_place_that_was_given_back_meanwhile_is_none() {
        let run = Run::new("given-back");
        let other = run.1.try_clone().unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !over.load(order) {
                    let Some(_held) = lock(&other, "5.0").unwrap() else { continue };
                    unlinkat(&other, "5.0", UnlinkatFlags::NoRemoveDir).unwrap();
                }
            });
            let links = |held: OwnedFd| fstat(&held).unwrap().st_nlink;
            let (taken, nameless) = (0..20_000)
                .filter_map(|_| lock(&run.1, "5.0").inspect_err(|_| over.store(true, order)).unwrap().map(links))
                .fold((0, 0), |(taken, nameless), links| (taken + 1, nameless + u32::from(links == 0)));
            over.store(true, order);
            assert!(taken > 0 && nameless == 0, "{nameless} of {taken}");
        });
    }

    #[test]
    fn whose_a_folder_is_and_whom_it_is_closed_to() {
        let of = |uid: u32, mode: u32| {
            let mut stat = nix::sys::stat::stat("/").unwrap();
            (stat.st_uid, stat.st_mode) = (uid, libc::S_IFDIR | mode);
            stat
        };
        assert!(is_roots(&of(0, 0o755), 0o022) && is_roots(&of(0, 0o700), 0o077));
        assert!(!is_roots(&of(0, 0o755), 0o077) && !is_roots(&of(0, 0o775), 0o022) && !is_roots(&of(0, 0o702), 0o022));
        assert!(!is_roots(&of(7, 0o700), 0o077) && !is_roots(&of(7, 0o755), 0o022));
    }
}
