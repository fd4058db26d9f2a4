//! The person's terminal, for one line at a time. Nothing typed is ever echoed: what is left in the queue is flushed
//! before echo comes back, whatever ends the question. The process that does this cannot be killed by the user.

use super::dialogue::{Event, Watch};
use super::talk::Typed;
use crate::error::{Error, call};
use crate::sys::{Errno, process, standard, terminal};
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use nix::sys::termios::{InputFlags, LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Where a person is asked.
#[derive(Debug)]
pub struct Terminal {
    input: OwnedFd,
    output: OwnedFd,
    original: Termios,
}

/// How a question ended.
#[derive(Debug)]
pub enum Answer {
    Line(Typed),
    /// End of file before anything was typed.
    End,
    /// The watch saw something else first.
    Other(Event),
}

impl Terminal {
    /// The controlling terminal, and none other: descriptors 0 to 2 may be somebody else's.
    pub fn controlling() -> Result<Self, Errno> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let input = open("/dev/tty", flags, Mode::empty())?;
        let output = input.try_clone().map_err(|_| Errno::EMFILE)?;
        let original = tcgetattr(&input)?;
        Ok(Self { input, output, original })
    }

    /// Standard input where that is a terminal (`-S`); prompts go to standard error.
    pub fn standard() -> Result<Option<Self>, Error> {
        if !terminal::is_terminal(standard(0)) {
            return Ok(None);
        }
        let copy = |n: i32| standard(n).try_clone_to_owned().map_err(|e| crate::hygiene::io("dup", &e));
        let (input, output) = (copy(0)?, copy(2)?);
        let original = tcgetattr(&input).map_err(call("tcgetattr"))?;
        Ok(Some(Self { input, output, original }))
    }

    pub fn write(&self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match nix::unistd::write(&self.output, rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Asks one question. After Ctrl-Z and `fg` it is asked anew.
    pub fn ask(&self, prompt: &str, visible: bool, watch: &Watch<'_>, patience: Duration) -> Answer {
        loop {
            if self.settle(visible).is_err() {
                return Answer::End;
            }
            self.write(prompt);
            let answer = self.line(watch, process::boot_time() + patience);
            // Drops what was typed ahead, so that it is not shown once echo is back, nor read by the shell.
            let _ = tcsetattr(&self.input, SetArg::TCSAFLUSH, &self.original);
            if !visible || !matches!(answer, Answer::Line(_)) {
                self.write("\n");
            }
            match answer {
                Answer::Other(Event::Stop) => stop(),
                answer => return answer,
            }
        }
    }

    /// Lines and signals as usual, whatever a program left behind; echo only where the answer is no secret. In the
    /// background this stops the process, as it should (SIGTTOU is not blocked).
    fn settle(&self, visible: bool) -> Result<(), Errno> {
        let mut modes = self.original.clone();
        modes.local_flags |= LocalFlags::ICANON | LocalFlags::ISIG;
        modes.local_flags.set(LocalFlags::ECHO, visible);
        modes.local_flags.remove(LocalFlags::ECHONL);
        modes.input_flags |= InputFlags::ICRNL;
        loop {
            match tcsetattr(&self.input, SetArg::TCSAFLUSH, &modes) {
                Err(Errno::EINTR) => {}
                done => return done,
            }
        }
    }

    fn line(&self, watch: &Watch<'_>, deadline: Duration) -> Answer {
        let mut typed = Typed::new();
        // A line of a terminal is 4,095 bytes at most (N_TTY_BUF_SIZE); wiped when freed, as all memory here.
        let mut bytes = vec![0u8; 4096];
        loop {
            match watch.wait(self.input.as_fd(), deadline) {
                Event::Ready => {}
                other => return Answer::Other(other),
            }
            match nix::unistd::read(&self.input, &mut bytes) {
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Ok(n) if n > 0 => {
                    for byte in bytes.iter().take(n) {
                        match byte {
                            b'\n' => return Answer::Line(typed),
                            byte => typed.take(*byte),
                        }
                    }
                }
                // Ctrl-D, or the terminal is gone.
                _ if typed.is_empty() => return Answer::End,
                _ => return Answer::Line(typed),
            }
        }
    }
}

/// Stops this process as Ctrl-Z stops any; comes back when it is continued.
pub fn stop() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTSTP);
    let _ = set.thread_unblock();
    let _ = process::kill(std::process::id() as i32, libc::SIGTSTP);
    let _ = set.thread_block();
}
