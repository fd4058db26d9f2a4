//! The watcher: it sleeps, and has a fresh helper judge the session again each minute. Root's, since the user may take
//! no part in that; it hears nobody, and goes with the guard.

use super::terminal::Keeper;
use super::wire::{self, Cause, Report};
use super::{SETUID, become_helper, end_as, fresh_helper};
use crate::rejudge::{self, Granted, Verdict};
use crate::sys::capability;
use crate::sys::process::{self, Change, Fork};
use crate::{lan, process_stat, trail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// From the judgement to the watcher's start: a moment, unless somebody had it all stand still.
const TO_START: Duration = Duration::from_secs(15);
/// A session that lasts no longer costs nothing.
const SETTLE: Duration = Duration::from_secs(2);
/// From one judgement to the next, and what chance adds, so that the sessions of a lab do not ask all at once.
const PERIOD: Duration = Duration::from_secs(40);
const JITTER_MS: u64 = 10_000;
/// How long one judgement may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the helper itself fails: how soon again, and how often, before the session is ended for want of a judge.
const AGAIN: Duration = Duration::from_secs(6);
const TRIES: u32 = 10;
/// After a line that could not be read, in milliseconds.
const AGAIN_SOON: u16 = 50;

/// Forks it. Where that fails the guard sees the end of its line, and ends the session.
pub fn start(
    uid: u32,
    granted: Granted,
    judged_at: Duration,
    lan: Option<&str>,
    keeper: Option<Keeper>,
    guard: &OwnedFd,
) {
    if let Ok(Fork::Child) = process::fork() {
        let mut watcher = Watcher { uid, guard, keeper, port: None, is_alone: false };
        let _ = watcher.run(&granted, judged_at);
        if watcher.is_alone {
            watcher.sweep();
        }
        if let Some(lan) = lan {
            watcher.unplug(lan);
        }
        end_as(uid)
    }
}

struct Watcher<'a> {
    /// Whose session it is.
    uid: u32,
    guard: &'a OwnedFd,
    keeper: Option<Keeper>,
    /// The session's in its network.
    port: Option<u32>,
    /// The guard has ended without a word.
    is_alone: bool,
}

/// The guard is gone, or the watcher cannot do its work: it ends.
struct Over;

impl Watcher<'_> {
    fn run(&mut self, granted: &Granted, judged_at: Duration) -> Result<(), Over> {
        self.retire()?;
        // Out of the caller's cgroup only now: whoever can freeze that one may have let time pass, and what is looked at
        // below is to be what it was when the session was judged.
        if process::boot_time().saturating_sub(judged_at) > TO_START {
            return Err(Over);
        }
        wire::send(self.guard, Report::Go, None).map_err(|_| Over)?;
        self.sleep(SETTLE)?;
        // With its capabilities still: on some systems root without them cannot read shadow(5).
        let base = loop {
            match granted.baseline() {
                Some(base) => break base,
                None => self.sleep(AGAIN)?,
            }
        };
        capability::give_up_but(SETUID.bits()).map_err(|_| Over)?;
        let argv = fresh_helper([rejudge::VERB.into()]).ok_or(Over)?;
        let words = granted.environment(&base).ok_or(Over)?;
        let mut failures = 0;
        loop {
            let chance = process::random::<8>().map_or(0, |bytes| u64::from_ne_bytes(bytes) % JITTER_MS);
            self.sleep(if failures > 0 { AGAIN } else { PERIOD + Duration::from_millis(chance) })?;
            let cause = match self.ask(&argv, &words)? {
                Some(Verdict::Granted | Verdict::Unknown) => {
                    failures = 0;
                    continue;
                }
                None if failures + 1 < TRIES => {
                    failures += 1;
                    continue;
                }
                Some(Verdict::Policy) => Cause::Policy,
                Some(Verdict::Account) => Cause::Account,
                None => Cause::Unjudged,
            };
            wire::send(self.guard, Report::Ending(cause), None).map_err(|_| {
                self.is_alone = true;
                Over
            })?;
            failures = 0;
        }
    }

    /// Keeps nothing of the caller's but the terminal that may have to be given back: no other descriptor, no folder.
    fn retire(&self) -> Result<(), Over> {
        let mut keep = vec![self.guard.as_raw_fd()];
        keep.extend(self.keeper.as_ref().map(|keeper| keeper.terminal.as_raw_fd()));
        super::retire(keep).map_err(|_| Over)
    }

    /// The guard was killed, whose command may go on (host scope), and whose `end` is not written: a fresh helper does
    /// what it would have done. The relay has it done too, and is the user's.
    fn sweep(&self) {
        let Some(argv) = fresh_helper([trail::FOR.into(), self.uid.to_string().into()]) else { return };
        // Until the kernel has taken its lock back.
        let _ = poll(&mut [], AGAIN_SOON);
        match process::fork() {
            Ok(Fork::Child) => {
                become_helper(&argv, &[]);
                process::exit_now(crate::error::OURS)
            }
            Ok(Fork::Parent(_)) => {} // it may wait for the log
            Err(_) => become_helper(&argv, &[]),
        }
    }

    /// The session is over: a fresh helper takes its link away, and with the last one the network.
    fn unplug(&self, lan: &str) {
        let words = [
            Some(lan::VERB.into()),
            Some(self.uid.to_string().into()),
            Some(lan.into()),
            self.port.map(|port| port.to_string().into()),
        ];
        if let Some(argv) = fresh_helper(words.into_iter().flatten()) {
            become_helper(&argv, &[]);
        }
    }

    /// Whether the guard is still there after that time. It says where the session is in its network, and nothing else.
    fn sleep(&mut self, time: Duration) -> Result<(), Over> {
        let until = process::boot_time() + time;
        loop {
            let left = until.saturating_sub(process::boot_time());
            if left.is_zero() {
                return Ok(());
            }
            let mut waits = [PollFd::new(self.guard.as_fd(), PollFlags::POLLIN)];
            if let Ok(1..) = poll(&mut waits, timeout(left)) {
                match wire::receive(self.guard) {
                    Ok(Some((Report::Plugged(port), _))) => self.port = Some(port),
                    // It has ended in order, and others go on without it.
                    Ok(Some((Report::Lingers, _))) => self.keeper = None,
                    // The relay was killed.
                    Ok(Some((Report::Ending(Cause::Hangup), _))) => {
                        self.keeper.take().iter().for_each(Keeper::restore);
                    }
                    // Its last word.
                    Ok(Some((report, _))) if report.code().is_some() => return Err(Over),
                    // It is still there: what it said, if anything, is read the next time.
                    Err(_) if !hung_up(&waits[0]) => drop(poll(&mut [], AGAIN_SOON)),
                    _ => {
                        self.is_alone = true;
                        return Err(Over);
                    }
                }
            }
        }
    }

    /// A fresh helper's verdict; `None`: it gave none.
    fn ask(&mut self, argv: &[CString], words: &[CString]) -> Result<Option<Verdict>, Over> {
        let child = match process::fork() {
            Ok(Fork::Parent(child)) => child,
            Ok(Fork::Child) => {
                become_helper(argv, words);
                process::exit_now(crate::error::OURS)
            }
            Err(_) => return Ok(None),
        };
        let mut hangs = false;
        if let Ok(pidfd) = process::pidfd_open(child) {
            let mut waits =
                [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN), PollFd::new(self.guard.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut waits, timeout(PATIENCE));
            let gone = waits[1].revents().is_some_and(|events| !events.is_empty());
            if gone || waits[0].revents().is_none_or(|events| events.is_empty()) {
                // One that waits for something waits for NSS; one that would run was starved.
                hangs = process_stat::state(child).is_some_and(|state| state != 'R');
                let _ = process::pidfd_signal(&pidfd, libc::SIGKILL);
            }
        }
        match process::wait(Some(child), libc::WEXITED) {
            Ok(Some((_, Change::Exited(code)))) => Ok(Verdict::from_code(code)),
            Ok(Some((_, Change::Signaled(libc::SIGKILL)))) if hangs => Ok(Some(Verdict::Unknown)),
            _ => Ok(None),
        }
    }
}

fn hung_up(wait: &PollFd<'_>) -> bool {
    wait.revents().is_none_or(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

fn timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time.as_millis().min(60_000) as i32 + 1).unwrap_or(PollTimeout::MAX)
}
