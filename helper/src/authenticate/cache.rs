//! Who has proven lately who they are: `/run/caplet/auth/UID`, for root alone. A proof holds for one profile, one
//! terminal, one session leader (pid and start time) and one boot; its age is the time since boot, sleep included, so
//! that nobody gains by setting the clock.

use crate::caller::Controlling;
use crate::error::{Error, call};
use crate::registry;
use crate::sys::process;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, ftruncate, unlinkat};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Proofs kept for one user; the oldest go first.
const MOST: usize = 64;
/// As much as `MOST` proofs take, and then some.
const LARGEST: u64 = 16 * 1024;
/// What an attempt that was cut short costs: the fail delay of pam_unix(8).
const FAIL_DELAY: Duration = Duration::from_secs(2);
/// How long another attempt of the same user is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
/// How many passwords one user may be asked for at once.
const QUESTIONS: u32 = 16;

/// A proof's place and age.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proof {
    /// Seconds since boot.
    at: u64,
    terminal: u64,
    leader: i32,
    started: u64,
    profile: String,
}

impl Proof {
    fn write(&self) -> String {
        format!("{} {} {} {} {}\n", self.at, self.terminal, self.leader, self.started, self.profile)
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut next = || words.next();
        let (at, terminal, leader) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
        let (started, profile) = (next()?.parse().ok()?, next()?.to_owned());
        words.next().is_none().then_some(Self { at, terminal, leader, started, profile })
    }

    fn is_same_place(&self, other: &Self) -> bool {
        Self { at: 0, ..self.clone() } == Self { at: 0, ..other.clone() }
    }
}

/// The proofs of one user in a file's text; another boot's count for nothing, and so does a text that is not ours.
fn read(text: &str, boot: &str) -> Vec<Proof> {
    let mut lines = text.lines();
    if lines.next() != Some(boot) {
        return Vec::new();
    }
    lines.map(Proof::read).collect::<Option<_>>().unwrap_or_default()
}

/// Whether one of them holds here and now.
fn holds(proofs: &[Proof], here: &Proof, minutes: u32) -> bool {
    let fresh = |proof: &&Proof| proof.at <= here.at && here.at - proof.at < u64::from(minutes) * 60;
    proofs.iter().filter(fresh).any(|proof| proof.is_same_place(here))
}

/// A place where a proof can be kept: the user's file, for one profile at one terminal.
#[derive(Debug)]
pub struct Cache {
    uid: u32,
    boot: String,
    place: Proof,
    minutes: u32,
}

impl Cache {
    /// `None`: nothing may be kept (`auth_cache_minutes = 0`), or there is nothing to bind it to.
    pub fn of(uid: u32, profile: &str, minutes: u32) -> Option<Self> {
        if minutes == 0 {
            return None;
        }
        let controlling = Controlling::find()?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let place = Proof {
            at: 0,
            terminal: controlling.terminal,
            leader: controlling.leader,
            started: controlling.leader_started,
            profile: profile.into(),
        };
        Some(Self { uid, boot: boot.trim().into(), place, minutes })
    }

    /// Whether the user need not be asked; if so, the time begins anew, as sudo's does.
    pub fn holds(&self) -> bool {
        self.update(|proofs, now| holds(proofs, now, self.minutes)).unwrap_or(false)
    }

    /// Keeps a proof. One that cannot be kept is asked for again: no reason to refuse.
    pub fn keep(&self) {
        let _ = self.update(|_, _| true);
    }

    /// Reads, asks `is_proven`, and if so writes the proof with its new time; all under the file's lock.
    fn update(&self, is_proven: impl Fn(&[Proof], &Proof) -> bool) -> Result<bool, Error> {
        let folder = registry::private_folder()?;
        let file = File::from(open(&folder, &self.uid.to_string())?);
        lock(&file, Duration::from_secs(2))?;
        let mut text = String::new();
        let _ = (&file).take(LARGEST).read_to_string(&mut text);
        let mut proofs = read(&text, &self.boot);
        let now = Proof { at: process::boot_time().as_secs(), ..self.place.clone() };
        if !is_proven(&proofs, &now) {
            return Ok(false);
        }
        proofs.retain(|proof| !proof.is_same_place(&now));
        proofs.drain(..proofs.len().saturating_sub(MOST - 1));
        proofs.push(now);
        let text = proofs.iter().fold(format!("{}\n", self.boot), |text, proof| text + &proof.write());
        ftruncate(&file, 0).map_err(call("ftruncate a proof"))?;
        file.write_all_at(text.as_bytes(), 0).map_err(|e| crate::hygiene::io("write a proof", &e))?;
        Ok(true)
    }
}

/// All proofs of the user go.
pub fn forget(uid: u32) -> Result<(), Error> {
    match unlinkat(&registry::private_folder()?, uid.to_string().as_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
        Err(errno) => Err(call("unlink a proof")(errno)),
    }
}

/// An answer that PAM is judging. One user has one at a time, and the moment is kept until there is a verdict: killing
/// the judge, or this process, spares nobody the delay.
#[derive(Debug)]
pub struct Attempt(File);

impl Attempt {
    /// Waits for the attempt before, and for what is left of its delay if it never got a verdict.
    pub fn begin(uid: u32) -> Result<Self, Error> {
        let file = File::from(open(&registry::private_folder()?, &format!("{uid}.attempt"))?);
        lock(&file, PATIENCE)?;
        let mut text = String::new();
        let _ = (&file).take(32).read_to_string(&mut text);
        if let Ok(begun) = text.parse().map(Duration::from_millis) {
            let passed = process::boot_time().checked_sub(begun);
            std::thread::sleep(passed.and_then(|passed| FAIL_DELAY.checked_sub(passed)).unwrap_or_default());
        }
        let now = process::boot_time().as_millis().to_string();
        let written = ftruncate(&file, 0).map_err(call("ftruncate an attempt"));
        written.and_then(|()| file.write_all_at(now.as_bytes(), 0).map_err(|e| crate::hygiene::io("write", &e)))?;
        Ok(Self(file))
    }

    /// There is a verdict, and PAM has had its own delay.
    pub fn judged(self) {
        let _ = ftruncate(&self.0, 0);
    }
}

/// A question that waits for its answer: a process of root's, which is not counted among the user's.
#[derive(Debug)]
pub struct Asking(#[allow(dead_code)] OwnedFd);

impl Asking {
    /// One of the few that a user may have open at once.
    pub fn begin(uid: u32) -> Result<Self, Error> {
        let folder = registry::private_folder()?;
        for number in 0..QUESTIONS {
            let file = open(&folder, &format!("{uid}.asking.{number}"))?;
            if process::try_lock(&file).map_err(call("lock a question"))? {
                return Ok(Self(file));
            }
        }
        Err(Error::Unsupported(format!("you have {QUESTIONS} questions for a password open: answer or end one")))
    }
}

fn open(folder: &OwnedFd, name: &str) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(folder, name, flags, Mode::from_bits_truncate(0o600)).map_err(call("open a proof"))?;
    let stat = fstat(&file).map_err(call("fstat a proof"))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG || !registry::is_roots(&stat, 0o077) {
        return Err(call("open a proof that is root's alone")(nix::Error::EPERM));
    }
    Ok(file)
}

fn lock(file: impl std::os::fd::AsFd, patience: Duration) -> Result<(), Error> {
    let deadline = process::boot_time() + patience;
    while !process::try_lock(&file).map_err(call("lock a proof"))? {
        if process::boot_time() > deadline {
            return Err(Error::Unsupported("another attempt of yours to give a password is under way".into()));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(at: u64) -> Proof {
        Proof { at, terminal: 34_819, leader: 4711, started: 99, profile: "clock".into() }
    }

    #[test]
    fn a_proof_holds_in_its_own_place_and_time_alone() {
        let kept = [proof(1000)];
        assert!(holds(&kept, &proof(1000), 5));
        assert!(holds(&kept, &proof(1299), 5));
        assert!(!holds(&kept, &proof(1300), 5));
        assert!(!holds(&kept, &proof(999), 5), "from the future");
        assert!(!holds(&kept, &proof(1000), 0));
        for other in [
            Proof { terminal: 34_820, ..proof(1001) },
            Proof { leader: 4712, ..proof(1001) },
            Proof { started: 100, ..proof(1001) },
            Proof { profile: "other".into(), ..proof(1001) },
        ] {
            assert!(!holds(&kept, &other, 5), "{other:?}");
        }
    }

    #[test]
    fn a_text_comes_back_and_another_boots_or_a_broken_one_is_nothing() {
        let text = format!("boot-a\n{}{}", proof(1).write(), proof(2).write());
        assert_eq!(read(&text, "boot-a"), [proof(1), proof(2)]);
        assert_eq!(read(&text, "boot-b"), []);
        assert_eq!(read("", "boot-a"), []);
        assert_eq!(read(&format!("{text}1 2 3 x clock\n"), "boot-a"), []);
        assert_eq!(read(&format!("{text}1 2 3 4 clock more\n"), "boot-a"), []);
    }

    #[test]
    fn one_attempt_waits_for_the_other_and_not_for_ever() {
        let path = std::env::temp_dir().join(format!("caplet-attempt.{}", std::process::id()));
        let file = || File::options().create(true).truncate(false).write(true).open(&path).unwrap();
        let patience = Duration::from_millis(300);
        let [first, second] = [file(), file()];
        std::fs::remove_file(&path).unwrap();
        lock(&first, patience).unwrap();
        let begun = process::boot_time();
        let refused = lock(&second, patience);
        assert!(
            matches!(&refused, Err(Error::Unsupported(text)) if text.starts_with("another attempt")),
            "{refused:?}"
        );
        assert!(process::boot_time() - begun >= patience);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                std::thread::sleep(patience);
                drop(first);
            });
            lock(&second, PATIENCE).unwrap();
        });
    }
}
