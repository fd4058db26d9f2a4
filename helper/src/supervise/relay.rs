//! The relay: the process that the caller started, with the user's ids and no capability. It passes signals and the
//! terminal's bytes on, stops when the command stops, and ends as the command ended.

use super::terminal::Outer;
use super::wire::{self, Cause, Report};
use super::{become_helper, fresh_helper};
use crate::error::{Error, OURS, call, say};
use crate::sys::process::{self, Fork};
use crate::sys::{Errno, capability, standard, terminal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, OwnedFd};

/// si_code of a signal that the kernel sent: a key on the terminal, which the whole foreground group got.
const SI_KERNEL: i32 = 0x80;
/// As much as waits in one direction; a side that does not read stops the other.
const BUFFER: usize = 16 * 1024;
/// How often a relay in the background looks whether it has come to the foreground, in milliseconds.
const LOOK_AGAIN: u16 = 200;

/// What the relay needs to know; its ids are given up before it gets here.
#[derive(Debug)]
pub struct Relay {
    pub guard: OwnedFd,
    pub guard_pid: i32,
    pub outer: Option<Outer>,
    /// Signals that the caller ignores: not passed on.
    pub ignored: Vec<i32>,
    /// A login: the session ends with the process that asked for it. sshd(8) leaves a command without a terminal running
    /// when the connection is lost.
    pub parent: Option<OwnedFd>,
    /// Host scope: the command shares the caller's process group, and gets the terminal's signals itself.
    pub shares_group: bool,
}

impl Relay {
    /// Runs until the session is over; the exit code.
    pub fn run(self) -> i32 {
        let mut running = match Running::new(self) {
            Ok(running) => running,
            Err(error) => {
                error.say();
                return error.code();
            }
        };
        let code = running.until_the_end();
        if let Some(outer) = &mut running.relay.outer {
            outer.restore();
        }
        if let Some(text) = running.ended.and_then(Cause::text) {
            say(text);
        }
        code
    }
}

struct Running {
    relay: Relay,
    signals: SignalFd,
    /// The process to signal: the command, or PID 1 of its session.
    session: Option<OwnedFd>,
    master: Option<OwnedFd>,
    to_session: Vec<u8>,
    to_outer: Vec<u8>,
    wants_input: bool,
    result: Option<i32>,
    /// Why we end it.
    ended: Option<Cause>,
    /// Others of the session go on, and may hold its terminal open.
    lingers: bool,
}

impl Running {
    fn new(relay: Relay) -> Result<Self, Error> {
        capability::set_not_dumpable().map_err(call("prctl(PR_SET_DUMPABLE)"))?;
        let mut set = SigSet::all();
        set.remove(nix::sys::signal::Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(call("signalfd"))?;
        let wants_input = relay.outer.as_ref().is_some_and(|outer| outer.interactive);
        let (to_session, to_outer) = (Vec::new(), Vec::new());
        let (session, master, result, ended) = (None, None, None, None);
        Ok(Self { relay, signals, session, master, to_session, to_outer, wants_input, result, ended, lingers: false })
    }

    fn until_the_end(&mut self) -> i32 {
        loop {
            if self.master.is_none() {
                if let Some(code) = self.result {
                    return code;
                }
            }
            if self.lingers && self.result.is_some() && self.to_outer.is_empty() && !self.is_more() {
                self.master = None;
                continue;
            }
            self.take_terminal();
            let ready = self.wait();
            if ready.signals {
                if let Some(code) = self.pass_signals() {
                    return code;
                }
            }
            if ready.guard {
                if let Some(code) = self.listen() {
                    return code;
                }
            }
            if ready.parent_gone {
                return 128 + libc::SIGHUP; // the guard ends what is left
            }
            self.move_bytes(&ready);
        }
    }

    /// Whether the session's terminal has more to show.
    fn is_more(&self) -> bool {
        let Some(master) = &self.master else { return false };
        let mut waits = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        poll(&mut waits, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Raw mode as soon as input is wanted and the terminal is ours to touch.
    fn take_terminal(&mut self) {
        let wanted = self.wants_input && self.master.is_some() && self.result.is_none();
        if let Some(outer) = self.relay.outer.as_mut().filter(|outer| wanted && !outer.is_raw() && outer.is_ours()) {
            outer.make_raw();
        }
    }

    fn wait(&self) -> Ready {
        let mut waits = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let mut places = [None; 6];
        let mut add = |place: usize, fd, flags| {
            places[place] = Some(waits.len());
            waits.push(PollFd::new(fd, flags));
        };
        if self.result.is_none() {
            add(0, self.relay.guard.as_fd(), PollFlags::POLLIN);
        }
        if let Some(parent) = &self.relay.parent {
            add(5, parent.as_fd(), PollFlags::POLLIN);
        }
        if let (Some(master), Some(outer)) = (&self.master, &self.relay.outer) {
            if self.to_outer.len() < BUFFER {
                add(1, master.as_fd(), PollFlags::POLLIN);
            }
            if !self.to_session.is_empty() {
                add(2, master.as_fd(), PollFlags::POLLOUT);
            }
            if outer.is_raw() && self.to_session.len() < BUFFER {
                add(3, outer.input.as_fd(), PollFlags::POLLIN);
            }
            if !self.to_outer.is_empty() {
                add(4, outer.output.as_fd(), PollFlags::POLLOUT);
            }
        }
        let in_background = self.wants_input && self.relay.outer.as_ref().is_some_and(|outer| !outer.is_raw());
        let timeout = if in_background { PollTimeout::from(LOOK_AGAIN) } else { PollTimeout::NONE };
        let _ = poll(&mut waits, timeout);
        let is = |index: Option<usize>| {
            index.and_then(|i| waits.get(i)).and_then(PollFd::revents).is_some_and(|events| !events.is_empty())
        };
        Ready {
            signals: is(Some(0)),
            guard: is(places[0]),
            from_session: is(places[1]),
            to_session: is(places[2]),
            from_outer: is(places[3]),
            to_outer: is(places[4]),
            parent_gone: is(places[5]),
        }
    }

    /// What the guard says. A code: it is gone without a word.
    fn listen(&mut self) -> Option<i32> {
        match wire::receive(&self.relay.guard) {
            Ok(Some((Report::Started, session))) => {
                self.session = session;
                self.let_go();
            }
            Ok(Some((Report::Terminal, master))) => self.master = master,
            Ok(Some((Report::Stopped(_), _))) => self.stop_too(),
            Ok(Some((Report::WantsTerminal, _))) => self.wants_input = true,
            Ok(Some((Report::Lingers, _))) => self.lingers = true,
            Ok(Some((Report::Ending(cause), _))) => self.ended = Some(cause),
            Ok(Some((report, _))) => self.result = report.code().or(self.result),
            Ok(None) | Err(_) => {
                say("the session's guard is gone, and the session with it");
                self.bury();
                return Some(OURS);
            }
        }
        None
    }

    /// Has the helper write the `end` that the guard can write no more; it takes nobody's word for what is dead.
    fn bury(&self) {
        // Its lock on the record goes with the last of its descriptors, some time after the socket.
        let _ = process::wait(Some(self.relay.guard_pid), libc::WEXITED);
        let Some(helper) = fresh_helper(["sweep".into()]) else { return };
        match process::fork() {
            Ok(Fork::Child) => {
                become_helper(&helper, &[]);
                process::exit_now(OURS)
            }
            Ok(Fork::Parent(child)) => {
                let _ = process::wait(Some(child), libc::WEXITED);
            }
            Err(_) => {}
        }
    }

    /// The command has its own copies of descriptors 0 to 2: a pipe must see its end when the command closes it.
    fn let_go(&self) {
        let flags = nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC;
        if let Ok(null) = nix::fcntl::open("/dev/null", flags, nix::sys::stat::Mode::empty()) {
            for number in 0..3 {
                if number != 2 || !terminal::is_terminal(standard(2)) {
                    let _ = terminal::replace_standard(&null, number);
                }
            }
        }
    }

    /// Hands signals on. A code: one ended us before there was a session.
    fn pass_signals(&mut self) -> Option<i32> {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = signal.ssi_signo as i32;
            match number {
                libc::SIGWINCH if self.master.is_some() => {
                    self.resize(); // the session's own terminal tells its processes
                    continue;
                }
                libc::SIGTTIN | libc::SIGTTOU | libc::SIGPIPE | libc::SIGXFSZ | libc::SIGURG | libc::SIGCHLD => {
                    continue;
                }
                _ if self.relay.ignored.contains(&number) => continue,
                _ => {}
            }
            let from_the_keyboard = signal.ssi_code == SI_KERNEL && number != libc::SIGHUP;
            match &self.session {
                Some(session) if !(self.relay.shares_group && from_the_keyboard) => {
                    let _ = process::pidfd_signal(session, number);
                }
                Some(_) => {}
                None if matches!(number, libc::SIGTSTP | libc::SIGCONT | libc::SIGWINCH) => {}
                None => return Some(128 + number),
            }
        }
        None
    }

    /// The command has stopped: so does this process, for the shell that waits for it; then both go on.
    fn stop_too(&mut self) {
        if let Some(outer) = &mut self.relay.outer {
            outer.restore();
        }
        let own_session = nix::unistd::getsid(None).ok();
        let parents = nix::unistd::getsid(Some(nix::unistd::getppid())).ok();
        // With nobody in this session to continue us, stopping would be for ever (an orphaned process group).
        if own_session.is_some() && own_session == parents {
            if !self.relay.shares_group {
                let _ = process::kill(0, libc::SIGTSTP); // the rest of the pipeline; blocked here
                while let Ok(Some(_)) = self.signals.read_signal() {}
            }
            let _ = process::kill(std::process::id() as i32, libc::SIGSTOP);
        }
        if let Some(session) = &self.session {
            let _ = process::pidfd_signal(session, libc::SIGCONT);
        }
        self.resize();
    }

    fn resize(&self) {
        if let (Some(master), Some(outer)) = (&self.master, &self.relay.outer) {
            let _ = terminal::copy_window_size(outer.input.as_fd(), master.as_fd());
        }
    }

    fn move_bytes(&mut self, ready: &Ready) {
        let Some(outer) = &self.relay.outer else { return };
        let Some(master) = &self.master else { return };
        if ready.from_outer && outer.is_ours() {
            match fill(&mut self.to_session, &outer.input) {
                Flow::Open => {}
                Flow::Closed => {
                    // The terminal hung up: so does the session's.
                    self.wants_input = false;
                    if let Some(session) = &self.session {
                        let _ = process::pidfd_signal(session, libc::SIGHUP);
                    }
                    self.master = None;
                    return;
                }
            }
        }
        if ready.to_session || !self.to_session.is_empty() {
            let _ = drain(&mut self.to_session, master);
        }
        let ended = ready.from_session && matches!(fill(&mut self.to_outer, master), Flow::Closed);
        if ready.to_outer || !self.to_outer.is_empty() {
            if let Flow::Closed = drain(&mut self.to_outer, &outer.output) {
                self.to_outer.clear();
            }
        }
        // A closed master may still have an owner waiting to be told; what was read goes out first.
        if ended && self.to_outer.is_empty() {
            self.master = None;
        }
    }
}

struct Ready {
    signals: bool,
    guard: bool,
    from_session: bool,
    to_session: bool,
    from_outer: bool,
    to_outer: bool,
    parent_gone: bool,
}

enum Flow {
    Open,
    Closed,
}

fn fill(buffer: &mut Vec<u8>, from: &OwnedFd) -> Flow {
    let mut bytes = [0u8; 4096];
    match nix::unistd::read(from, &mut bytes) {
        Ok(0) => Flow::Closed,
        Ok(n) => {
            buffer.extend_from_slice(&bytes[..n]);
            Flow::Open
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Flow::Open,
        Err(_) => Flow::Closed,
    }
}

fn drain(buffer: &mut Vec<u8>, to: &OwnedFd) -> Flow {
    let part = buffer.len().min(2048);
    match nix::unistd::write(to, &buffer[..part]) {
        Ok(n) => {
            buffer.drain(..n);
            Flow::Open
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Flow::Open,
        Err(_) => Flow::Closed,
    }
}
