//! Interfering with one system call of one process of the helper: `lab/inject/inject.c`, by ptrace(2), as root.

use crate::{Lab, Output};
use std::io::Read;

const PROGRAM: &str = "/root/inject";
const LIST: &str = "/root/calls";

/// A system call that the helper makes: which process (0 is the first, 0.1 its first child), and its how manieth.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Point {
    pub process: String,
    pub number: u32,
    pub call: i64,
    /// What it returned: an errno is negative.
    pub result: i64,
    /// What openat(2) was asked for.
    pub path: String,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} call {} (number {}) {}", self.process, self.number, self.call, self.path)
    }
}

/// What is done at a point.
#[derive(Debug, Clone, Copy)]
pub enum Interference<'a> {
    /// The call is not made, and this errno comes back.
    Fail(i32),
    /// The process is killed.
    Kill,
    /// The process is stopped; this line of `sh` runs as root with its pid in `PID`; then it goes on.
    Stop(&'a str),
}

impl Lab {
    /// Builds and installs the program.
    ///
    /// # Panics
    /// Where it cannot be built.
    #[track_caller]
    pub fn injector(&self) {
        self.write("/root/inject.c", include_str!("../inject/inject.c"), 0o644, "root");
        self.root(&format!("cc -O2 -Wall -Werror -o {PROGRAM} /root/inject.c"));
    }

    /// The calls that a run of the helper by that user makes, once it opens its policy: in the order they end.
    ///
    /// # Panics
    /// Where the run fails.
    #[track_caller]
    pub fn calls(&self, user: &str, words: &[&str]) -> (Vec<Point>, Output) {
        let out = self.interfered(user, &["list", LIST], words).run();
        let parse = |line: &str| {
            let mut parts = line.splitn(5, ' ');
            let process = parts.next()?.to_owned();
            let number = parts.next()?.parse().ok()?;
            let call = parts.next()?.parse().ok()?;
            let result = parts.next()?.parse().ok()?;
            Some(Point { process, number, call, result, path: parts.next().unwrap_or_default().to_owned() })
        };
        let all: Vec<Point> =
            self.read(LIST).lines().map(|line| parse(line).unwrap_or_else(|| panic!("no call: {line:?}"))).collect();
        let start = all
            .iter()
            .position(|p| p.path.ends_with("caplet") || p.path.ends_with("policy.toml"))
            .unwrap_or_else(|| panic!("{out}\n{}", self.read(LIST)));
        (all[start..].to_vec(), out)
    }

    /// Runs the helper so that this happens at that call. `None`: it made no such call this time.
    ///
    /// # Panics
    /// As `Task::run`.
    #[track_caller]
    pub fn interfere(&self, user: &str, at: &Point, what: Interference<'_>, words: &[&str]) -> (Output, bool) {
        let (number, call) = (at.number.to_string(), at.call.to_string());
        let (mode, errno, hook) = match what {
            Interference::Fail(errno) => ("fail", errno.to_string(), ""),
            Interference::Kill => ("kill", "0".to_owned(), ""),
            Interference::Stop(hook) => ("stop", "0".to_owned(), hook),
        };
        let (read, write) = nix::unistd::pipe().expect("a pipe");
        let own = [mode, &at.process, &number, &call, &errno, hook];
        let out = self.interfered(user, &own, words).descriptor(write, 9).run();
        let mut missed = String::new();
        std::fs::File::from(read).read_to_string(&mut missed).expect("a pipe");
        (out, missed.is_empty())
    }

    fn interfered(&self, user: &str, own: &[&str], words: &[&str]) -> crate::Task<'_> {
        let (uid, gid) = (self.uid(user).to_string(), self.account(user).gid.to_string());
        let groups: Vec<String> = self.account(user).groups.iter().map(u32::to_string).collect();
        let groups = groups.join(",");
        // 124: it hung.
        let start = ["timeout", "-k", "1", "20", PROGRAM, &uid, &gid, &groups];
        let words: Vec<&str> = [&start, own, &["--", crate::builder::HELPER], words].concat();
        self.task("root", words).env("PATH", "/usr/bin:/bin").env("HOME", format!("/home/{user}")).cwd("/srv")
    }
}
