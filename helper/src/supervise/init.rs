//! PID 1 of an isolated session: forked, never exec'd, so that `/proc/1/mem` and `/proc/1/exe` are nobody's. It
//! reaps, passes signals on to the command, and reports. Its end is the session's end: with the command, or where the
//! profile says `linger` with the last process that it left behind.

use super::wire::{self, Report};
use crate::capset;
use crate::error::{Error, OURS, call};
use crate::seccomp;
use crate::sys::{Errno, capability, process, standard, terminal};
use caplet_policy::capability::CapSet;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// si_code of a signal that the kernel sent.
const SI_KERNEL: i32 = 0x80;

/// Signals that PID 1 hands to the command's process group.
const PASSED_ON: [i32; 10] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGALRM,
    libc::SIGWINCH,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// How the command stands to the session's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreground {
    /// No terminal.
    None,
    /// At once.
    Now,
    /// When it first asks: it is part of a pipeline whose other members may be reading the real terminal.
    OnDemand,
}

/// Takes the place of a session leader, with the session's own pty as its controlling terminal.
pub fn lead_session(slave: Option<&OwnedFd>) -> Result<(), Error> {
    nix::unistd::setsid().map_err(call("setsid"))?;
    if let Some(slave) = slave {
        terminal::make_controlling(slave).map_err(call("ioctl(TIOCSCTTY)"))?;
        for number in 0..3 {
            if terminal::is_terminal(standard(number)) {
                terminal::replace_standard(slave, number).map_err(call("dup2 the session's terminal"))?;
            }
        }
    }
    Ok(())
}

/// Runs as PID 1 from here on. `command` is the child just forked, in a process group of its own.
/// It waits for a word over `line`.
pub fn run(
    command: i32,
    status: &OwnedFd,
    line: OwnedFd,
    foreground: Foreground,
    terminal: Option<OwnedFd>,
    linger: bool,
) -> ! {
    let mut state = Watch { command, status, foreground, terminal, linger, over: false };
    let words = standard(2).try_clone_to_owned().ok();
    let started = state.settle(line, words.as_ref()).inspect_err(|error| {
        // Nothing has run: the session ends with this process.
        if let Some(words) = &words {
            let _ = terminal::replace_standard(words, 2);
        }
        error.say();
    });
    drop(words);
    let code = match started.and_then(|signals| state.watch(&signals)) {
        Ok(()) => 0,
        Err(_) => OURS,
    };
    process::exit_now(code)
}

fn is_gone(status: BorrowedFd<'_>) -> bool {
    let mut waits = [PollFd::new(status, PollFlags::POLLHUP)];
    let _ = poll(&mut waits, PollTimeout::ZERO);
    waits[0].revents().is_some_and(|e| e.contains(PollFlags::POLLHUP))
}

struct Watch<'a> {
    command: i32,
    status: &'a OwnedFd,
    foreground: Foreground,
    terminal: Option<OwnedFd>,
    linger: bool,
    /// The command has ended.
    over: bool,
}

impl Watch<'_> {
    /// Keeps nothing but what it watches with; then the command may run.
    fn settle(&self, line: OwnedFd, words: Option<&OwnedFd>) -> Result<SignalFd, Error> {
        capset::reduce_to(CapSet::EMPTY)?;
        capability::set_not_dumpable().map_err(call("prctl(PR_SET_DUMPABLE)"))?;
        // After the last change of credentials, which clears it; then whether the guard is still there.
        capability::set_parent_death_signal(libc::SIGKILL).map_err(call("prctl(PR_SET_PDEATHSIG)"))?;
        if is_gone(self.status.as_fd()) {
            return Err(Error::Said(OURS));
        }
        for signal in PASSED_ON {
            process::handle(signal).map_err(call("sigaction"))?; // without a handler PID 1 never sees them
        }
        let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(call("signalfd"))?;
        let null =
            open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(call("open /dev/null"))?;
        let mut keep = vec![self.status.as_raw_fd(), line.as_raw_fd(), signals.as_raw_fd(), null.as_raw_fd()];
        keep.extend(self.terminal.as_ref().into_iter().chain(words).map(AsRawFd::as_raw_fd));
        process::close_all_but(keep).map_err(call("close_range"))?;
        for number in 0..3 {
            terminal::replace_standard(&null, number).map_err(call("dup2 /dev/null"))?;
        }
        seccomp::only_watch(seccomp::FOREGROUND, None)?;
        match wire::send(&line, Report::Go, None) {
            // It has ended, and has said why.
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(signals),
            Err(errno) => Err(call("start the command")(errno)),
        }
    }

    fn watch(&mut self, signals: &SignalFd) -> Result<(), Error> {
        loop {
            let mut waits =
                [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(self.status.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut waits, PollTimeout::NONE);
            let events = waits[1].revents().unwrap_or(PollFlags::empty());
            if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
                return Ok(()); // the guard is gone, and with it the session
            }
            if events.contains(PollFlags::POLLIN) {
                if let Ok(Some((Report::Abandon, _))) = wire::receive(self.status) {
                    if !self.over {
                        let _ = process::kill(-self.command, libc::SIGKILL);
                    }
                }
            }
            while let Ok(Some(signal)) = signals.read_signal() {
                self.pass_on(signal.ssi_signo as i32, signal.ssi_code);
            }
            let mut end = None;
            while let Some((pid, change)) = self.next_change()? {
                if pid == self.command && !self.over {
                    end = self.report(change).or(end);
                }
            }
            if let Some(end) = end {
                self.over = true;
                // Said first: whoever waits for the command alone need not wait for these.
                if self.linger && !self.is_last() {
                    let _ = wire::send(self.status, Report::Lingers, None);
                }
                let _ = wire::send(self.status, end, None);
            }
            if self.over && (!self.linger || self.is_last()) {
                return Ok(());
            }
        }
    }

    /// To the command's process group; to everybody once the command is over. Its terminal's hang-up is then nobody
    /// else's: as everywhere, a job in the background outlives it.
    fn pass_on(&self, signal: i32, code: i32) {
        match (PASSED_ON.contains(&signal), self.over) {
            (false, _) => {}
            (true, false) => drop(process::kill(-self.command, signal)),
            (true, true) if code == SI_KERNEL => {}
            (true, true) => drop(process::kill(-1, signal)),
        }
    }

    /// Whether nobody is left: every orphan of the session is a child of this process.
    fn is_last(&self) -> bool {
        matches!(process::wait(None, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT), Err(Errno::ECHILD))
    }

    fn next_change(&self) -> Result<Option<(i32, process::Change)>, Error> {
        match process::wait(None, libc::WEXITED | libc::WSTOPPED | libc::WNOHANG) {
            Err(Errno::ECHILD) => Ok(None),
            other => other.map_err(call("waitid")),
        }
    }

    /// Says what became of the command; its end is left to say.
    fn report(&mut self, change: process::Change) -> Option<Report> {
        match change {
            process::Change::Exited(code) => return Some(Report::Exited(code)),
            process::Change::Signaled(signal) => return Some(Report::Signaled(signal)),
            process::Change::Continued => {}
            process::Change::Stopped(libc::SIGTTIN | libc::SIGTTOU) if self.foreground == Foreground::OnDemand => {
                self.foreground = Foreground::Now;
                if let Some(terminal) = &self.terminal {
                    let _ = nix::unistd::tcsetpgrp(terminal, Pid::from_raw(self.command));
                }
                let _ = wire::send(self.status, Report::WantsTerminal, None);
                let _ = process::kill(-self.command, libc::SIGCONT);
            }
            process::Change::Stopped(signal) => drop(wire::send(self.status, Report::Stopped(signal), None)),
        }
        None
    }
}
