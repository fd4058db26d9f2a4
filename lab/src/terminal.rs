//! A command on a terminal: what a person types, sees and resizes.

use crate::ProcStatus;
use crate::sys::set_window_size;
use crate::task::{Collected, until};
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// A new terminal of the machine that the calling thread is in: master and slave.
pub(crate) fn pair(rows: u16, columns: u16) -> Result<(OwnedFd, OwnedFd)> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let noctty = OFlag::O_NOCTTY.bits();
    let slave = OpenOptions::new().read(true).write(true).custom_flags(noctty).open(ptsname_r(&master)?)?;
    set_window_size(slave.as_raw_fd(), rows, columns)?;
    Ok((master.into(), slave.into()))
}

/// A command on a terminal. Hung up and killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: File,
    screen: Collected,
    seen: usize,
    limit: Duration,
    ended: bool,
}

impl Terminal {
    pub(crate) fn new(child: Child, master: OwnedFd, limit: Duration) -> Self {
        let master = File::from(master);
        let screen = Collected::new(master.try_clone().expect("dup"));
        Self { child, master, screen, seen: 0, limit, ended: false }
    }

    /// The pid of what was started, as this process sees it.
    ///
    /// # Panics
    /// Never: a pid fits.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Types.
    ///
    /// # Panics
    /// Where the terminal is gone.
    #[track_caller]
    pub fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Pastes: types bytes of any value and any number, and does not wait until they are read.
    ///
    /// # Panics
    /// Where there are no descriptors left.
    pub fn paste(&self, bytes: impl Into<Vec<u8>>) {
        let (mut master, bytes) = (self.master.try_clone().expect("dup"), bytes.into());
        std::thread::spawn(move || master.write_all(&bytes));
    }

    /// Waits until that text is shown, after everything that an earlier call waited for; what was shown up to there.
    ///
    /// # Panics
    /// Where it does not come.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let start = self.seen;
        let mut end = None;
        until(self.limit, || {
            let bytes = self.screen.so_far();
            end = find(&bytes[start..], text.as_bytes()).map(|at| start + at + text.len());
            end.is_some()
        });
        let bytes = self.screen.so_far();
        let shown = |upto: usize| String::from_utf8_lossy(&bytes[start..upto]).into_owned();
        let Some(end) = end else { panic!("{text:?} is not shown: {:?}", shown(bytes.len())) };
        self.seen = end;
        shown(end)
    }

    /// The bytes shown since the last call waited for something, once there are so many.
    ///
    /// # Panics
    /// Where they do not come.
    #[track_caller]
    pub fn next_bytes(&mut self, count: usize) -> Vec<u8> {
        let start = self.seen;
        let mut bytes = Vec::new();
        until(self.limit, || {
            bytes = self.screen.so_far().split_off(start);
            bytes.len() >= count
        });
        assert!(bytes.len() >= count, "{} bytes of {count}", bytes.len());
        bytes.truncate(count);
        self.seen += count;
        bytes
    }

    /// Everything shown from the start.
    pub fn screen(&self) -> String {
        self.screen.text()
    }

    /// Changes the window's size, as a person pulls at its corner.
    ///
    /// # Panics
    /// Where the terminal is gone.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        set_window_size(self.master.as_raw_fd(), rows, columns).expect("TIOCSWINSZ");
    }

    /// The line settings.
    ///
    /// # Panics
    /// Where the terminal is gone.
    #[track_caller]
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.master).expect("tcgetattr")
    }

    /// The process group in the foreground.
    ///
    /// # Panics
    /// Where the kernel does not say.
    #[track_caller]
    pub fn foreground(&self) -> i32 {
        // Field 8 of stat, after the last parenthesis: the session leader's terminal's foreground group.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it still runs");
        let rest = stat.rsplit_once(')').expect("a stat").1;
        rest.split_whitespace().nth(5).expect("tpgid").parse().expect("a number")
    }

    /// Sends a signal to what was started.
    ///
    /// # Panics
    /// Where it is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it still runs");
    }

    /// Whether it still runs, by its state in `/proc`.
    pub fn alive(&self) -> bool {
        ProcStatus::of(self.pid()).is_some_and(|s| s.state() != 'Z')
    }

    /// Waits for the end of what was started.
    ///
    /// # Panics
    /// Where it does not end in time.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until(self.limit, || {
            status = self.child.try_wait().expect("waitpid");
            status.is_some()
        });
        let Some(status) = status else { panic!("no end: {:?}", self.screen()) };
        self.ended = true;
        status
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|w| w == text)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
