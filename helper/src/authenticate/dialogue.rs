//! The helper's side: shows what the PAM process shows, asks what it asks, and keeps the time.

use super::askpass::{Askpass, first_line};
use super::cache::Attempt;
use super::talk::{self, Gate, Reply, Word};
use super::terminal::{self, Answer, Terminal};
use crate::caller::Person;
use crate::error::{Error, call, say};
use crate::sys::{process, standard};
use caplet_policy::escape::for_terminal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long a person may take for an answer, as sudo's `passwd_timeout`.
const TO_TYPE: Duration = Duration::from_secs(300);
/// How long modules may be silent: some wait for a telephone.
pub const TO_THINK: Duration = Duration::from_secs(120);
/// How long they have once the person wants to stop: a fail delay is not to be cut short.
const AFTER_INTERRUPT: Duration = Duration::from_secs(10);
/// How long a message may wait for somebody to read it, in milliseconds.
const TO_WRITE: u16 = 5000;

/// The PAM process, seen from outside.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub socket: OwnedFd,
}

/// Where answers come from.
#[derive(Debug)]
pub enum Source<'a> {
    Terminal(Terminal),
    /// `-S`: standard input, where that is no terminal.
    Input(OwnedFd),
    Askpass(Askpass<'a>),
    /// Nothing is to be asked: there is no password to prove.
    Nowhere,
}

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    /// When, since boot.
    Accepted(Duration),
    Refused(Gate, bool, String),
    /// A signal that ends programs came.
    Interrupted(i32),
    /// Nobody answered, or there was nothing to read: said for the person and for the log.
    Unanswered(&'static str),
    /// The modules said nothing for too long.
    Silent,
    /// The process died.
    Gone,
}

/// What can happen while something is waited for.
#[derive(Debug)]
pub enum Event {
    Ready,
    /// Ctrl-Z.
    Stop,
    Signal(i32),
    TimedOut,
    Gone,
}

/// Signals, and the PAM process's life.
#[derive(Debug)]
pub struct Watch<'a> {
    signals: SignalFd,
    process: BorrowedFd<'a>,
    ignored: &'a [i32],
}

impl<'a> Watch<'a> {
    /// Blocks what ends or stops programs, but for what stops those in the background.
    fn new(process: &'a Process, ignored: &'a [i32]) -> Result<Self, Error> {
        let mut set = SigSet::all();
        for signal in [Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGCHLD] {
            set.remove(signal);
        }
        set.thread_set_mask().map_err(call("sigprocmask"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(call("signalfd"))?;
        Ok(Self { signals, process: process.pidfd.as_fd(), ignored })
    }

    /// Waits for `fd` to be readable, and for whatever may come first.
    pub fn wait(&self, fd: BorrowedFd<'_>, deadline: Duration) -> Event {
        loop {
            if let Some(event) = self.next_signal() {
                return event;
            }
            let left = deadline.saturating_sub(process::boot_time()).as_millis().min(600_000) as i32;
            let mut waits = [
                PollFd::new(fd, PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.process, PollFlags::POLLIN),
            ];
            match poll(&mut waits, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
                Ok(0) => return Event::TimedOut,
                Ok(_) => {}
                Err(_) => continue,
            }
            let [ready, _, gone] = waits.map(|wait| wait.revents().is_some_and(|events| !events.is_empty()));
            if ready {
                return Event::Ready;
            }
            if gone {
                return Event::Gone;
            }
        }
    }

    /// Writes a text as far as it is taken: a reader that does not read must not hold this process, which its user
    /// cannot kill.
    pub fn write(&self, fd: BorrowedFd<'_>, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let mut waits = [PollFd::new(fd, PollFlags::POLLOUT), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut waits, PollTimeout::from(TO_WRITE)).is_ok();
            if !ready || !waits[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT)) {
                return;
            }
            match nix::unistd::write(fd, &rest[..rest.len().min(512)]) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => return,
            }
        }
    }

    fn next_signal(&self) -> Option<Event> {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = signal.ssi_signo as i32;
            match number {
                libc::SIGTSTP => return Some(Event::Stop),
                libc::SIGCONT | libc::SIGWINCH | libc::SIGURG | libc::SIGPIPE | libc::SIGXFSZ => {}
                _ if self.ignored.contains(&number) => {}
                _ => return Some(Event::Signal(number)),
            }
        }
        None
    }
}

/// A conversation.
#[derive(Debug)]
pub struct Dialogue<'a> {
    pub process: &'a Process,
    pub source: &'a Source<'a>,
    pub person: &'a Person,
    pub profile: &'a str,
    pub ignored: &'a [i32],
    /// When it was set going, since boot.
    pub since: Duration,
}

impl Dialogue<'_> {
    /// Runs it. `failed` hears of each attempt that failed.
    pub fn run(&self, failed: &mut dyn FnMut(&str)) -> Result<Outcome, Error> {
        let watch = Watch::new(self.process, self.ignored)?;
        let outcome = self.listen(&watch, failed);
        if let Source::Terminal(terminal) = self.source {
            terminal.restore();
        }
        drop(watch);
        SigSet::empty().thread_set_mask().map_err(call("sigprocmask"))?;
        outcome
    }

    fn listen(&self, watch: &Watch<'_>, failed: &mut dyn FnMut(&str)) -> Result<Outcome, Error> {
        let mut interrupted = None;
        let mut attempt: Option<Attempt> = None;
        let mut again = false;
        let mut deadline = self.since + TO_THINK;
        loop {
            match watch.wait(self.process.socket.as_fd(), deadline) {
                Event::Ready => {}
                Event::Stop => {
                    match self.source {
                        Source::Terminal(terminal) => terminal.stop(),
                        _ => terminal::stop(),
                    }
                    continue;
                }
                Event::Signal(signal) => {
                    interrupted.get_or_insert(signal);
                    deadline = deadline.min(process::boot_time() + AFTER_INTERRUPT);
                    continue;
                }
                Event::TimedOut => return Ok(interrupted.map_or(Outcome::Silent, Outcome::Interrupted)),
                // If an answer was being judged, its user may have killed the judge to be spared a fail delay: the
                // attempt stays without a verdict, and the next one waits.
                Event::Gone => return Ok(interrupted.map_or(Outcome::Gone, Outcome::Interrupted)),
            }
            let Some(word) = talk::hear(&self.process.socket) else {
                return Ok(interrupted.map_or(Outcome::Gone, Outcome::Interrupted));
            };
            match &word {
                Word::Show(_) => {}
                // Another module's question may tell that an answer was wrong, and is no verdict: its moment is kept, so
                // that who ends it all now has not been spared the delay.
                Word::Prompt { .. } => attempt = None,
                _ => attempt.take().into_iter().for_each(Attempt::judged),
            }
            let until = deadline;
            // What comes too late, after both were stopped, gives no more time: an answer does.
            if process::boot_time() <= until {
                deadline = process::boot_time() + if interrupted.is_some() { AFTER_INTERRUPT } else { TO_THINK };
            }
            // A failed attempt is still logged; anything else comes too late.
            if let Some(signal) = interrupted.filter(|_| !matches!(word, Word::Show(_) | Word::Failed(_))) {
                return Ok(Outcome::Interrupted(signal));
            }
            match word {
                Word::Show(text) => self.show(watch, &text),
                Word::Prompt { visible, text } => {
                    if std::mem::take(&mut again) {
                        self.show(watch, b"that was not right: try again");
                    }
                    match self.answer(watch, visible, &text)? {
                        Ok(reply) => {
                            attempt = Some(Attempt::begin(self.person.uid)?);
                            talk::reply(&self.process.socket, &reply).map_err(call("answer the PAM process"))?;
                        }
                        Err(outcome) => {
                            let _ = talk::reply(&self.process.socket, &Reply::Nothing);
                            return Ok(outcome);
                        }
                    }
                    deadline = process::boot_time() + TO_THINK;
                }
                Word::Failed(text) => {
                    again = true;
                    failed(&for_terminal(&text));
                }
                Word::Refused(gate, change, text) => return Ok(Outcome::Refused(gate, change, for_terminal(&text))),
                // The process that says so has its user's real uid, and can be stopped before it looks at the time.
                Word::Accepted(at) => return Ok(Outcome::Accepted(Duration::from_millis(at).min(until))),
                _ => return Ok(Outcome::Gone),
            }
        }
    }

    /// Asks. The inner error: there is no answer.
    fn answer(&self, watch: &Watch<'_>, visible: bool, text: &[u8]) -> Result<Result<Reply, Outcome>, Error> {
        let mut lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
        let last = lines.pop().unwrap_or_default();
        lines.iter().for_each(|line| self.show(watch, line));
        let prompt = self.prompt(last, visible);
        let answer = match self.source {
            Source::Terminal(terminal) => terminal.ask(&prompt, visible, watch, TO_TYPE),
            Source::Askpass(program) => program.ask(&prompt, watch, TO_TYPE)?,
            Source::Input(input) => {
                watch.write(standard(2), &prompt);
                let answer = first_line(input, watch, process::boot_time() + TO_TYPE);
                watch.write(standard(2), "\n");
                answer
            }
            Source::Nowhere => Answer::End,
        };
        Ok(match answer {
            Answer::Line(typed) => Ok(match typed.finish() {
                Ok(secret) => Reply::Answer(secret),
                Err(why) => {
                    self.show(watch, why.as_bytes());
                    Reply::Unusable
                }
            }),
            Answer::End => Err(Outcome::Unanswered("no password was given")),
            Answer::Other(Event::Signal(signal)) => Err(Outcome::Interrupted(signal)),
            Answer::Other(Event::TimedOut) => Err(Outcome::Unanswered("no password was given in 5 minutes")),
            Answer::Other(_) => Err(Outcome::Gone),
        })
    }

    /// The plain question of pam_unix(8) says neither who nor what for; any other one is a module's own.
    fn prompt(&self, text: &[u8], visible: bool) -> String {
        let text = text.trim_ascii();
        if !visible && (text.is_empty() || text.eq_ignore_ascii_case(b"password:")) {
            let name = for_terminal(self.person.name.as_bytes());
            return format!("caplet: password for {name} (profile {}): ", self.profile);
        }
        format!("caplet: {} ", for_terminal(text))
    }

    fn show(&self, watch: &Watch<'_>, text: &[u8]) {
        show(text, |line| {
            let line = format!("caplet: {line}\n");
            match self.source {
                Source::Terminal(terminal) => terminal.write(&line, watch),
                _ => watch.write(standard(2), &line),
            }
        });
    }
}

impl Process {
    /// Ends it, whatever it does.
    pub fn kill(&self) {
        let _ = process::pidfd_signal(&self.pidfd, libc::SIGKILL);
        let _ = process::wait(Some(self.pid), libc::WEXITED);
    }

    /// Waits for the PAM session to be open; what its modules changed. Gives up when the relay is gone.
    pub fn opened(&self, relay: BorrowedFd<'_>) -> Result<Vec<Word>, Outcome> {
        let mut changes = Vec::new();
        let deadline = process::boot_time() + TO_THINK;
        loop {
            let left = deadline.saturating_sub(process::boot_time()).as_millis() as i32;
            let mut waits =
                [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(relay, PollFlags::POLLHUP)];
            match poll(&mut waits, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
                Ok(0) => return Err(Outcome::Silent),
                Ok(_) => {}
                Err(_) => continue,
            }
            if waits[0].revents().is_none_or(|events| events.is_empty()) {
                return Err(Outcome::Interrupted(libc::SIGHUP));
            }
            match talk::hear(&self.socket) {
                Some(Word::Opened) => return Ok(changes),
                Some(Word::Show(text)) => show(&text, |line| {
                    say(line);
                }),
                Some(Word::Refused(gate, change, text)) => {
                    return Err(Outcome::Refused(gate, change, for_terminal(&text)));
                }
                // Session modules have nobody to ask.
                Some(Word::Prompt { .. }) => {
                    let _ = talk::reply(&self.socket, &Reply::Nothing);
                }
                Some(word @ (Word::Limit(..) | Word::Umask(_) | Word::Nice(_) | Word::Variable(_))) => {
                    changes.push(word);
                }
                _ => return Err(Outcome::Gone),
            }
        }
    }

    /// Tells it that the session is over.
    pub fn close(&self) {
        if talk::reply(&self.socket, &Reply::Close).is_err() {
            // Its end says the same.
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        }
    }

    /// Waits a while for it to close the session: a module can hang here too.
    pub fn wait_closed(&self) {
        let deadline = process::boot_time() + AFTER_INTERRUPT;
        loop {
            let left = deadline.saturating_sub(process::boot_time()).as_millis() as u16;
            let mut waits = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waits, PollTimeout::from(left)) {
                Err(Errno::EINTR) => {}
                Ok(0) => {
                    let _ = process::pidfd_signal(&self.pidfd, libc::SIGKILL);
                    return;
                }
                // What it said before that, or says to nobody now, is passed over.
                Ok(_) => match talk::hear(&self.socket) {
                    None | Some(Word::Closed) => return,
                    Some(_) => {}
                },
                Err(_) => return,
            }
        }
    }
}

/// Each line of a module's message, escaped.
fn show(text: &[u8], line: impl Fn(&str)) {
    for part in text.split(|b| *b == b'\n').filter(|part| !part.is_empty()) {
        line(&for_terminal(part));
    }
}
