//! What a command left: its status and its output.

use crate::ProcStatus;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// A finished command.
#[derive(Debug, Clone)]
pub struct Output {
    /// As wait(2) gave it.
    pub status: ExitStatus,
    /// Its bytes.
    pub stdout: Vec<u8>,
    /// Its bytes.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The exit code; 1000 + N where signal N ended it (so that it never looks like the 128 + N that caplet returns).
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 1000 + self.status.signal().unwrap_or(0))
    }

    /// Exit code 0.
    pub fn ok(&self) -> bool {
        self.status.success()
    }

    /// Standard output as text, without the last newline.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }

    /// Standard error as text, without the last newline.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end_matches('\n').to_owned()
    }

    /// Standard error's lines.
    pub fn err_lines(&self) -> Vec<String> {
        self.err().lines().map(str::to_owned).collect()
    }

    /// Itself, after a look at the exit code.
    ///
    /// # Panics
    /// Where the code is another one: with everything the command said.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self}");
        self
    }

    /// Itself, after exit code 0.
    ///
    /// # Panics
    /// Where it failed.
    #[track_caller]
    pub fn expect_ok(self) -> Self {
        self.expect_code(0)
    }

    /// Standard output as a `/proc/PID/status`, where the command was `cat /proc/self/status`.
    ///
    /// # Panics
    /// Where it is none.
    #[track_caller]
    pub fn proc_status(&self) -> ProcStatus {
        assert!(self.ok(), "{self}");
        ProcStatus::parse(&self.out())
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n--- stdout\n{}\n--- stderr\n{}\n---", self.status, self.out(), self.err())
    }
}
