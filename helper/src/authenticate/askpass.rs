//! `-A`: the user's own program asks, as the user; its first line is the answer.

use super::dialogue::{Event, Watch};
use super::talk::Typed;
use super::terminal::{Answer, stop};
use crate::caller::Person;
use crate::error::{Error, OURS, call, say};
use crate::hygiene::Inherited;
use crate::sys::process::{self, Change, Fork};
use crate::sys::{Errno, terminal};
use nix::fcntl::{OFlag, open};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

const VARIABLE: &[u8] = b"CAPLET_ASKPASS=";

/// How long the program may take to end once it has answered.
const TO_END: Duration = Duration::from_secs(5);

/// The program that asks.
#[derive(Debug)]
pub struct Askpass<'a> {
    program: CString,
    person: &'a Person,
    inherited: &'a Inherited,
}

impl<'a> Askpass<'a> {
    /// The one that the caller's environment names, by an absolute path.
    pub fn find(person: &'a Person, inherited: &'a Inherited) -> Option<Self> {
        let value = inherited.environment.iter().find_map(|entry| entry.as_bytes().strip_prefix(VARIABLE))?;
        let program = CString::new(value).ok().filter(|_| value.starts_with(b"/"))?;
        Some(Self { program, person, inherited })
    }

    /// Runs it once.
    pub fn ask(&self, prompt: &str, watch: &Watch<'_>, patience: Duration) -> Result<Answer, Error> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(call("pipe"))?;
        let child = match process::fork().map_err(call("fork"))? {
            Fork::Child => {
                drop(reader);
                let error = self.become_program(prompt, &writer);
                error.say();
                process::exit_now(OURS)
            }
            Fork::Parent(pid) => pid,
        };
        drop(writer);
        let answer = first_line(&reader, watch, process::boot_time() + patience);
        // Its line alone is no answer, its end is; but it may not take for ever to end.
        let ended = process::pidfd_open(child).is_ok_and(|end| {
            !matches!(answer, Answer::Other(_))
                && matches!(watch.wait(end.as_fd(), process::boot_time() + TO_END), Event::Ready)
        });
        if !ended {
            let _ = process::kill(child, libc::SIGKILL);
        }
        let status = process::wait(Some(child), libc::WEXITED).map_err(call("waitid"))?;
        drop(reader); // what it says after its line is nobody's, and must not end it by SIGPIPE
        match (answer, status) {
            (answer @ Answer::Line(_), Some((_, Change::Exited(0)))) => Ok(answer),
            (answer @ Answer::Other(_), _) => Ok(answer),
            _ => Ok(Answer::End),
        }
    }

    /// All that is the user's: ids, limits, umask, signals, environment; of ours nothing.
    fn become_program(&self, prompt: &str, writer: &OwnedFd) -> Error {
        let prepare = || {
            let null = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
            terminal::replace_standard(null.map_err(call("open /dev/null"))?, 0).map_err(call("dup2"))?;
            terminal::replace_standard(writer, 1).map_err(call("dup2"))?;
            self.inherited.scheduling.give_back()?;
            self.person.become_again(None)?;
            umask(Mode::from_bits_truncate(self.inherited.umask));
            for signal in 1..=64 {
                let _ = process::set_ignored(signal, self.inherited.ignored.contains(&signal));
            }
            for (resource, soft, hard) in &self.inherited.limits {
                process::set_limit(*resource, *soft, *hard).map_err(call(format!("set limit {resource}")))?;
            }
            SigSet::empty().thread_set_mask().map_err(call("sigprocmask"))
        };
        if let Err(error) = prepare() {
            return error;
        }
        let argv = [self.program.clone(), CString::new(prompt).unwrap_or_default()];
        let errno = process::execve(&self.program, &argv, &self.inherited.environment);
        let name = caplet_policy::escape::quoted(self.program.as_bytes());
        say(&format!("CAPLET_ASKPASS is {name}, which cannot be executed: {}", errno.desc()));
        Error::Said(OURS)
    }
}

/// The first line of a pipe, byte by byte: what follows is the command's (`-S`).
pub fn first_line(from: impl AsFd, watch: &Watch<'_>, deadline: Duration) -> Answer {
    let mut typed = Typed::new();
    let mut byte = [0u8; 1];
    loop {
        match watch.wait(from.as_fd(), deadline) {
            Event::Ready => {}
            Event::Stop => {
                stop();
                continue;
            }
            other => return Answer::Other(other),
        }
        match nix::unistd::read(&from, &mut byte) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(1) if byte[0] != b'\n' => typed.take(byte[0]),
            Ok(1) => return Answer::Line(typed),
            _ if typed.is_empty() => return Answer::End,
            _ => return Answer::Line(typed),
        }
    }
}
