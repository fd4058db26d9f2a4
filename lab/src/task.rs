//! Running a command in a machine as one of its users, as a login would have left the process.

use crate::sys::{Launch, prepare};
use crate::{Lab, Output, ProcStatus, Terminal, patience};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::{CString, OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing that a test runs takes longer on an idle machine than a second; this is for a busy one.
const LIMIT: Duration = Duration::from_secs(40);

/// A command that is not yet started. Made by [`Lab::task`].
#[derive(Debug)]
#[must_use]
pub struct Task<'l> {
    lab: &'l Lab,
    user: String,
    argv: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<OsString>,
    input: Input,
    descriptors: Vec<(OwnedFd, RawFd)>,
    limit: Duration,
}

#[derive(Debug)]
enum Input {
    Null,
    Bytes(Vec<u8>),
    Open,
}

impl<'l> Task<'l> {
    pub(crate) fn new(lab: &'l Lab, user: &str, argv: Vec<OsString>) -> Self {
        let account = lab.account(user);
        let environment = [
            ("HOME", account.home.as_str()),
            ("USER", user),
            ("LOGNAME", user),
            ("SHELL", "/bin/bash"),
            ("PATH", if account.uid == 0 { ROOT_PATH } else { "/usr/local/bin:/usr/bin:/bin" }),
            ("LANG", "C.UTF-8"),
        ];
        Self {
            lab,
            user: user.to_owned(),
            argv,
            environment: environment.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect(),
            directory: None,
            input: Input::Null,
            descriptors: Vec::new(),
            limit: LIMIT,
        }
    }

    /// A variable of its environment, besides HOME, USER, LOGNAME, SHELL, PATH and LANG.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.retain(|(n, _)| n != name);
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Where it starts, entered with the user's ids (default: home).
    pub fn cwd(mut self, directory: impl AsRef<OsStr>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// What it reads from a pipe on standard input (default: /dev/null).
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.input = Input::Bytes(bytes.as_ref().to_vec());
        self
    }

    /// Standard input is a pipe that [`Running`] holds open.
    pub fn stdin_open(mut self) -> Self {
        self.input = Input::Open;
        self
    }

    /// A descriptor that it inherits at that number (0 to 500).
    pub fn descriptor(mut self, fd: impl Into<OwnedFd>, number: RawFd) -> Self {
        self.descriptors.push((fd.into(), number));
        self
    }

    /// How long it may run (default 40 s) before the test fails.
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    fn command(&self, terminal: bool) -> (Command, Launch) {
        let account = self.lab.account(&self.user);
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).env_clear().envs(self.environment.iter().map(|(k, v)| (k, v)));
        let directory = self.directory.clone().unwrap_or_else(|| account.home.clone().into());
        let launch = Launch {
            uid: account.uid,
            gid: account.gid,
            groups: account.groups.clone(),
            directory: CString::new(directory.as_bytes()).expect("a path"),
            terminal,
            descriptors: self.descriptors.iter().map(|(fd, n)| (fd.as_raw_fd(), *n)).collect(),
        };
        (command, launch)
    }

    /// Starts it and comes back at once.
    ///
    /// # Panics
    /// Where it cannot be started at all.
    #[track_caller]
    pub fn spawn(self) -> Running {
        let (mut command, launch) = self.command(false);
        let input = if matches!(self.input, Input::Null) { Stdio::null } else { Stdio::piped };
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.lab.inside(|| {
            prepare(&mut command, launch);
            command.stdin(input()).spawn()
        });
        let mut child = child.unwrap_or_else(|e| panic!("{:?} does not start: {e}", self.argv));
        let mut stdin = child.stdin.take();
        if let Input::Bytes(bytes) = self.input {
            let mut pipe = stdin.take().expect("a pipe");
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        let stdout = Collected::new(child.stdout.take().expect("a pipe"));
        let stderr = Collected::new(child.stderr.take().expect("a pipe"));
        let pid = i32::try_from(child.id()).expect("a pid");
        Running { child, pid, stdin, stdout, stderr, status: None, limit: self.limit }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// Where it cannot be started, takes too long, or leaves somebody behind who holds its output open.
    #[track_caller]
    pub fn run(self) -> Output {
        self.spawn().output()
    }

    /// Starts it on a terminal of the machine's, as session leader with that terminal as controlling one.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn terminal(self, rows: u16, columns: u16) -> Terminal {
        let (mut command, launch) = self.command(true);
        let started = self.lab.inside(|| {
            let (master, slave) = crate::terminal::pair(rows, columns)?;
            prepare(&mut command, launch);
            let user = |fd: &OwnedFd| fd.try_clone().map(Stdio::from);
            command.stdin(user(&slave)?).stdout(user(&slave)?).stderr(user(&slave)?);
            // A terminal belongs to who logs in.
            let account = self.lab.account(&self.user);
            std::os::unix::fs::fchown(&slave, Some(account.uid), None)?;
            Ok::<_, std::io::Error>((command.spawn()?, master))
        });
        let (child, master) = started.unwrap_or_else(|e| panic!("{:?} does not start: {e}", self.argv));
        Terminal::new(child, master, self.limit)
    }
}

const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes that a thread reads as they come.
#[derive(Debug)]
pub(crate) struct Collected {
    pub bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Collected {
    pub(crate) fn new(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(n @ 1..) = from.read(&mut chunk) {
                shared.lock().expect("no panic").extend_from_slice(&chunk[..n]);
            }
        });
        Self { bytes, reader }
    }

    pub(crate) fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().expect("no panic").clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.so_far()).into_owned()
    }

    fn ended(&self) -> bool {
        self.reader.is_finished()
    }
}

/// Looks every few milliseconds until it is so, for that long ([`patience`]). Whether it ever was.
pub fn until(limit: Duration, mut so: impl FnMut() -> bool) -> bool {
    let limit = patience(limit);
    let start = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        if so() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// A started command. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: i32,
    /// Open where [`Task::stdin_open`] asked for it; drop it to end the input.
    pub stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
    status: Option<ExitStatus>,
    limit: Duration,
}

impl Running {
    /// Its pid as this process (and `/proc` here) sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its pid as the machine's processes see it.
    ///
    /// # Panics
    /// Where it is gone.
    #[track_caller]
    pub fn pid_inside(&self) -> i32 {
        ProcStatus::of(self.pid).expect("it still runs").namespace_pids()[1]
    }

    /// What it has written to standard output up to now.
    pub fn out_so_far(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error up to now.
    pub fn err_so_far(&self) -> String {
        self.stderr.text()
    }

    /// Waits until that text stands in its standard output.
    ///
    /// # Panics
    /// Where it does not come.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let found = until(self.limit, || self.stdout.text().contains(text) || self.stdout.ended());
        assert!(
            found && self.stdout.text().contains(text),
            "{text:?} did not come: {:?} {:?}",
            self.stdout.text(),
            self.stderr.text()
        );
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// Where the kernel does not say.
    pub fn alive(&mut self) -> bool {
        self.poll().is_none()
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("waitpid");
        }
        self.status
    }

    /// Sends it a signal, as root.
    ///
    /// # Panics
    /// Where it is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("it still runs");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where it does not end in time; it is killed then.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        if !until(self.limit, || self.poll().is_some()) {
            let _ = self.child.kill();
            panic!("no end after {:?}: {:?} {:?}", self.limit, self.stdout.text(), self.stderr.text());
        }
        self.status.expect("just seen")
    }

    /// Waits for its end and the end of its output.
    ///
    /// # Panics
    /// Where it does not end in time, or somebody it left behind holds its output open.
    #[track_caller]
    pub fn output(mut self) -> Output {
        let status = self.wait();
        let ended = until(Duration::from_secs(10), || self.stdout.ended() && self.stderr.ended());
        let output = Output { status, stdout: self.stdout.so_far(), stderr: self.stderr.so_far() };
        assert!(ended, "it ended, and somebody still holds its output open: {output}");
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
