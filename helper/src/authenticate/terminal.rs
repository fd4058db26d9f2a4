//! The person's terminal, for one line at a time. Nothing typed is ever echoed: what is left in the queue is flushed
//! before echo comes back, whatever ends the question. The process that does this cannot be killed by the user.

use super::dialogue::{Event, Watch};
use super::talk::Typed;
use crate::error::Error;
use crate::supervise::terminal::reopen;
use crate::sys::{Errno, process, standard, terminal};
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use nix::sys::termios::{InputFlags, LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Where a person is asked.
#[derive(Debug)]
pub struct Terminal {
    input: OwnedFd,
    output: OwnedFd,
    /// The modes as they were found, from the first question until [`Terminal::restore`].
    found: RefCell<Option<Termios>>,
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
    /// The controlling terminal, and none other: descriptors 0 to 2 may be somebody else's. Non-blocking: another
    /// reader may take a line away between poll(2) and read(2).
    pub fn controlling() -> Result<Self, Errno> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let input = open("/dev/tty", flags, Mode::empty())?;
        let output = input.try_clone().map_err(|_| Errno::EMFILE)?;
        Ok(Self { input, output, found: RefCell::default() })
    }

    /// Standard input where that is a terminal (`-S`); prompts go to standard error.
    pub fn standard() -> Result<Option<Self>, Error> {
        if !terminal::is_terminal(standard(0)) {
            return Ok(None);
        }
        let output = standard(2).try_clone_to_owned().map_err(|e| crate::hygiene::io("dup", &e))?;
        Ok(Some(Self { input: reopen(0)?, output, found: RefCell::default() }))
    }

    pub fn write(&self, text: &str, watch: &Watch<'_>) {
        watch.write(self.output.as_fd(), text);
    }

    /// Asks one question. After Ctrl-Z and `fg` it is asked anew. Echo stays as the question wants it until
    /// [`Terminal::restore`], so that nothing typed while PAM thinks is shown either.
    pub fn ask(&self, prompt: &str, visible: bool, watch: &Watch<'_>, patience: Duration) -> Answer {
        loop {
            if self.settle(visible).is_err() {
                return Answer::End;
            }
            self.write(prompt, watch);
            let answer = self.line(watch, process::boot_time() + patience);
            if !visible || !matches!(answer, Answer::Line(_)) {
                self.write("\n", watch);
            }
            match answer {
                Answer::Other(Event::Stop) => self.stop(),
                answer => return answer,
            }
        }
    }

    /// Lines and signals as usual, whatever a program left behind; echo only where the answer is no secret.
    fn settle(&self, visible: bool) -> Result<(), Errno> {
        self.come_to_foreground()?;
        let mut found = self.found.borrow_mut();
        let mut modes = match &*found {
            Some(modes) => modes.clone(),
            None => found.insert(tcgetattr(&self.input)?).clone(),
        };
        modes.local_flags |= LocalFlags::ICANON | LocalFlags::ISIG;
        modes.local_flags.set(LocalFlags::ECHO, visible);
        modes.local_flags.remove(LocalFlags::ECHONL);
        modes.input_flags |= InputFlags::ICRNL;
        set(&self.input, &modes)
    }

    /// In the background this process stops, as any that wants the terminal, before it looks at the modes: they are
    /// those of whatever is in the foreground.
    fn come_to_foreground(&self) -> Result<(), Errno> {
        // Where nobody can continue it, stopping does nothing: an orphaned process group is not asked.
        for _ in 0..16 {
            match nix::unistd::tcgetpgrp(&self.input) {
                Ok(group) if group != nix::unistd::getpgrp() => {
                    let _ = process::kill(0, libc::SIGTTOU);
                }
                // Not the controlling terminal: no job control here.
                Ok(_) | Err(Errno::ENOTTY) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EIO)
    }

    /// Gives the terminal back as it was found. What was typed ahead is dropped first, so that it is neither shown once
    /// echo is back, nor read by the shell.
    pub fn restore(&self) {
        if let Some(found) = self.found.take() {
            let _ = set(&self.input, &found);
        }
    }

    /// Stops as Ctrl-Z stops any program, the terminal as it was found; then goes on as before.
    pub fn stop(&self) {
        let asked = self.found.borrow().is_some();
        self.restore();
        stop();
        if asked {
            let _ = self.settle(false);
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

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

fn set(terminal: &OwnedFd, modes: &Termios) -> Result<(), Errno> {
    loop {
        match tcsetattr(terminal, SetArg::TCSAFLUSH, modes) {
            Err(Errno::EINTR) => {}
            done => return done,
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
