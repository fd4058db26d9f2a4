//! The processes of one session, found by what the kernel says of them: who is whose child.

use crate::proc::children;
use crate::task::until;
use crate::{ProcStatus, Running};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

/// A running session, by pids of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// What the caller started: signals and terminal.
    pub relay: i32,
    /// Its child, under a uid that the user cannot signal.
    pub guard: i32,
    /// PID 1 of an isolated session; in host scope the command.
    pub init: i32,
    /// The user's command (in host scope the same as `init`).
    pub command: i32,
}

impl Session {
    /// The isolated session that this command (`caplet run ...`) is the relay of, once its own command runs.
    ///
    /// # Panics
    /// Where it does not come up in twenty seconds.
    #[track_caller]
    pub fn isolated(running: &Running) -> Self {
        Self::find(running.pid(), true).unwrap_or_else(|| {
            panic!("no session under {}: {:?} {}", running.pid(), Tree(running.pid()), running.err_so_far())
        })
    }

    /// The host session of this command, likewise.
    ///
    /// # Panics
    /// Where it does not come up in twenty seconds.
    #[track_caller]
    pub fn host(running: &Running) -> Self {
        Self::find(running.pid(), false).unwrap_or_else(|| {
            panic!("no session under {}: {:?} {}", running.pid(), Tree(running.pid()), running.err_so_far())
        })
    }

    /// The isolated session below that relay.
    pub fn find(relay: i32, isolated: bool) -> Option<Self> {
        let mut found = None;
        until(Duration::from_secs(20), || {
            found = Self::look(relay, isolated);
            found.is_some()
        });
        found
    }

    fn look(relay: i32, isolated: bool) -> Option<Self> {
        let guard = *children(relay).iter().find(|pid| uid(**pid) == Some(0))?;
        // The command carries a name of its own; before its exec it is still the helper.
        let (init, command) = if isolated {
            // Beside it there may be what answers its network.
            let is_first = |pid: &i32| ProcStatus::of(*pid).is_some_and(|s| s.namespace_pids().last() == Some(&1));
            let init = children(guard).into_iter().find(|pid| is_first(pid))?;
            (init, *children(init).first()?)
        } else {
            let command = *children(guard).first()?;
            (command, command)
        };
        (ProcStatus::of(command)?.comm() != "caplet-helper").then_some(Self { relay, guard, init, command })
    }

    /// The process of root's that has it judged again: asleep, beside the guard.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    pub fn watcher(&self) -> i32 {
        let beside = children(self.relay).into_iter().find(|pid| *pid != self.guard && uid(*pid) == Some(0));
        beside.unwrap_or_else(|| panic!("no watcher: {:?}", Tree(self.relay)))
    }

    /// All of its pids that still run, zombies not counted.
    pub fn alive(&self) -> Vec<i32> {
        let mut pids = vec![self.relay, self.guard, self.init, self.command];
        pids.dedup();
        pids.retain(|pid| ProcStatus::of(*pid).is_some_and(|s| s.state() != 'Z'));
        pids
    }

    /// Waits until none of them runs.
    ///
    /// # Panics
    /// Where some still do after ten seconds.
    #[track_caller]
    pub fn wait_end(&self) {
        let gone = until(Duration::from_secs(10), || self.alive().is_empty());
        assert!(gone, "of {self:?} these still run: {:?}", self.alive());
    }

    /// Sends a signal to one of them, as root.
    ///
    /// # Panics
    /// Where it is gone.
    #[track_caller]
    pub fn signal(pid: i32, signal: Signal) {
        kill(Pid::from_raw(pid), signal).expect("it still runs");
    }
}

fn uid(pid: i32) -> Option<u32> {
    Some(ProcStatus::of(pid)?.uids()[1])
}

/// A process and all below it, for messages.
struct Tree(i32);

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(status) = ProcStatus::of(self.0) else { return f.write_str("gone") };
        write!(f, "{}({},uid {},{})", self.0, status.comm(), status.uids()[1], status.state())?;
        f.debug_list().entries(children(self.0).into_iter().map(Tree)).finish()
    }
}
