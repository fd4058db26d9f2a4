//! The log line: syslog, facility authpriv, ident caplet, to `/dev/log`. A dead or full socket cannot hang us.

use crate::caller::Person;
use crate::error::{Error, call};
use crate::sys::{identity, mount};
use caplet_policy::escape::{log_command, log_value};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
use nix::sys::stat::Mode;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Severity of syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// LOG_AUTHPRIV.
const FACILITY: u8 = 10 << 3;
/// The longest `command=`; a line stays under the 8 KiB that rsyslog takes.
const LONGEST_COMMAND: usize = 4096;
/// How long a full socket is waited for, in milliseconds.
const PATIENCE: u16 = 250;

/// The way to the system log, kept open for the record at the end.
#[derive(Debug)]
pub struct Journal {
    socket: Option<OwnedFd>,
    /// The folder of the socket, so that a restarted log daemon is found again from an empty root.
    folder: Option<OwnedFd>,
    name: PathBuf,
    silent: bool,
}

impl Journal {
    /// Connects. That nobody listens is seen when something is to be written.
    pub fn open() -> Self {
        let target = readlink("/dev/log").map_or_else(|_| PathBuf::from("/dev/log"), PathBuf::from);
        let target = Path::new("/dev").join(target);
        let parent = target.parent().unwrap_or(Path::new("/"));
        let folder = open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok();
        let socket = connected(&target);
        let name = target.file_name().map_or_else(|| PathBuf::from("log"), PathBuf::from);
        Self { socket, folder, name, silent: false }
    }

    /// A journal that writes nothing: a build tree borrows no privilege, so there is nothing to account for.
    pub fn none() -> Self {
        Self { socket: None, folder: None, name: PathBuf::new(), silent: true }
    }

    /// A detached mount of the socket's folder stands for it from here on.
    pub fn enclose(&mut self) -> Result<(), Error> {
        if let Some(folder) = &mut self.folder {
            *folder = mount::clone_tree(&*folder, "", false).map_err(call("open_tree the log's folder"))?;
        }
        Ok(())
    }

    /// Writes one line; an error says that it was not taken.
    pub fn write(&mut self, severity: Severity, line: &str) -> Result<(), Errno> {
        if self.silent {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        let t = identity::local_time(now);
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = months.get(usize::from(t.month).wrapping_sub(1)).unwrap_or(&"Jan");
        let text = format!(
            "<{}>{month} {:2} {:02}:{:02}:{:02} caplet[{}]: {line}",
            FACILITY | severity as u8,
            t.day,
            t.hour,
            t.minute,
            t.second,
            std::process::id(),
        );
        match self.try_send(text.as_bytes()) {
            Err(Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::ECONNRESET | Errno::EPIPE) => {
                self.reconnect();
                self.try_send(text.as_bytes())
            }
            done => done,
        }
    }

    fn try_send(&self, text: &[u8]) -> Result<(), Errno> {
        let Some(socket) = &self.socket else {
            return Err(Errno::ENOTCONN);
        };
        for attempt in 0..2 {
            match send(std::os::fd::AsRawFd::as_raw_fd(socket), text, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EAGAIN | Errno::ENOBUFS) if attempt == 0 => {
                    let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut wait, PollTimeout::from(PATIENCE));
                }
                done => return done.map(drop),
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Looks for the socket again, by its folder: the guard's root is empty by then.
    fn reconnect(&mut self) {
        let Some(folder) = &self.folder else { return };
        // The guard may open nothing any more, and then stays in the folder.
        let before = open(".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        if nix::unistd::fchdir(folder).is_ok() {
            self.socket = connected(&self.name);
            let _ = before.map(nix::unistd::fchdir);
        }
    }
}

fn connected(path: &Path) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None).ok()?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(path).ok()?).ok()?;
    Some(socket)
}

/// One line under construction: an event and `key=value` fields that parse back.
#[derive(Debug)]
pub struct Line(String);

impl Line {
    pub fn new(event: &str) -> Self {
        Self(event.into())
    }
    pub fn field(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        use std::os::unix::ffi::OsStrExt;
        self.0.push(' ');
        self.0.push_str(key);
        self.0.push('=');
        let value = value.as_ref().as_bytes();
        if !value.is_empty() {
            self.0.push_str(&log_value(value));
        }
        self
    }
    pub fn person(self, person: &Person) -> Self {
        self.field("user", &person.name).field("uid", person.uid.to_string())
    }
    pub fn command(self, argv: &[std::ffi::OsString]) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let words: Vec<&[u8]> = argv.iter().map(|word| word.as_bytes()).collect();
        self.field("command", log_command(&words, LONGEST_COMMAND))
    }
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Writes a line that the policy may insist on.
pub fn insist(journal: &mut Journal, required: bool, severity: Severity, line: &Line) -> Result<(), Error> {
    match journal.write(severity, line.text()) {
        Err(_) if required => Err(Error::Unlogged),
        _ => Ok(()),
    }
}
