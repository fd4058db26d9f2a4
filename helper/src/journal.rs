//! The log line: facility authpriv, ident caplet, to systemd's journal or to syslog's `/dev/log`. A dead or full socket
//! cannot hang us.

pub mod key;
mod sequence;

use crate::caller::Person;
use crate::error::{Error, call};
use crate::sys::{identity, mount, process};
use caplet_policy::escape::{log_command_within, log_cut, log_value};
use caplet_policy::seal::Key;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
use nix::sys::stat::Mode;
use sequence::Sequence;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Severity of syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// LOG_AUTHPRIV.
const FACILITY: u8 = 10;
/// The longest `command=`, and the longest of any other value, as they stand in the line: a whole line stays under the
/// 8 KiB that rsyslog takes, whatever a user puts into it, and so keeps its seal.
const LONGEST_COMMAND: usize = 4096;
const LONGEST_VALUE: usize = 768;
/// How long a full socket is waited for.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// Where systemd's journal takes records whose fields are fields.
const NATIVE: &str = "/run/systemd/journal/socket";
/// What `/dev/log` is where the journal listens on it.
const NATIVE_LOG: &str = "/run/systemd/journal/dev-log";

/// The way to the system log, kept open for the record at the end.
#[derive(Debug)]
pub struct Journal {
    socket: Option<OwnedFd>,
    /// The folder of the socket, so that a restarted log daemon is found again from an empty root.
    folder: Option<OwnedFd>,
    name: PathBuf,
    /// The journal's own protocol instead of syslog's.
    native: bool,
    /// What seals each line, where the key could be read or made.
    key: Option<Key>,
    sequence: Option<Sequence>,
    silent: bool,
}

impl Journal {
    /// Connects. That nobody listens is seen when something is to be written.
    pub fn open() -> Self {
        let target = match readlink("/dev/log") {
            Ok(link) => Path::new("/dev").join(PathBuf::from(link)),
            Err(_) => PathBuf::from("/dev/log"),
        };
        let native = target == Path::new(NATIVE_LOG) || !target.exists();
        let path = if native { Path::new(NATIVE) } else { &target };
        let (socket, native, path) = match connected(path) {
            None if native => (connected(&target), false, target.as_path()),
            socket => (socket, native, path),
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        let folder = open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok();
        let name = path.file_name().map_or_else(|| PathBuf::from("log"), PathBuf::from);
        Self { socket, folder, name, native, key: key::find(), sequence: Sequence::open(), silent: false }
    }

    /// A journal that writes nothing: a build tree borrows no privilege, so there is nothing to account for.
    pub fn none() -> Self {
        Self {
            socket: None,
            folder: None,
            name: PathBuf::new(),
            native: false,
            key: None,
            sequence: None,
            silent: true,
        }
    }

    /// A detached mount of the socket's folder stands for it from here on.
    pub fn enclose(&mut self) -> Result<(), Error> {
        if let Some(folder) = &mut self.folder {
            *folder = mount::clone_tree(&*folder, "", false).map_err(call("open_tree the log's folder"))?;
        }
        Ok(())
    }

    /// Writes one line; an error says that it was not taken.
    pub fn write(&mut self, severity: Severity, line: &Line) -> Result<(), Errno> {
        let packet = self.packet(severity, line);
        self.deliver(&packet, PATIENCE)
    }

    /// The line as it goes over the socket, with its number and its seal.
    pub fn packet(&mut self, severity: Severity, line: &Line) -> Vec<u8> {
        if self.silent {
            return Vec::new();
        }
        // Whoever may set the clock cannot change the order of records within a boot; whoever floods the log, so that
        // some get lost, cannot hide that.
        let line = line.clone().field("up", seconds(process::boot_time()));
        let line = match &self.sequence {
            Some(sequence) => line.field("seq", sequence.next()),
            None => line,
        };
        let text = line.text();
        let text = self.key.as_ref().map_or_else(|| text.clone(), |key| key.seal(&text));
        if self.native { native(severity, &line, &text) } else { syslog(severity, &text) }
    }

    /// Hands it over, waiting so long for a full socket.
    pub fn deliver(&mut self, packet: &[u8], patience: Duration) -> Result<(), Errno> {
        if self.silent {
            return Ok(());
        }
        match self.try_send(packet, patience) {
            Err(Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::ECONNRESET | Errno::EPIPE) => {
                self.reconnect();
                self.try_send(packet, patience)
            }
            done => done,
        }
    }

    fn try_send(&self, text: &[u8], patience: Duration) -> Result<(), Errno> {
        let Some(socket) = &self.socket else {
            return Err(Errno::ENOTCONN);
        };
        let until = process::boot_time() + patience;
        loop {
            match send(std::os::fd::AsRawFd::as_raw_fd(socket), text, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    // Many may wait for the same place: who comes too late waits again.
                    let left = until.saturating_sub(process::boot_time());
                    if left.is_zero() {
                        return Err(Errno::EAGAIN);
                    }
                    let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut wait, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
                }
                done => return done.map(drop),
            }
        }
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

/// Seconds and milliseconds.
pub fn seconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}

/// As syslog(3) writes it, in the machine's time.
fn syslog(severity: Severity, text: &str) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let t = identity::local_time(now);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.get(usize::from(t.month).wrapping_sub(1)).unwrap_or(&"Jan");
    format!(
        "<{}>{month} {:2} {:02}:{:02}:{:02} caplet[{}]: {text}",
        FACILITY << 3 | severity as u8,
        t.day,
        t.hour,
        t.minute,
        t.second,
        std::process::id(),
    )
    .into_bytes()
}

/// As sd_journal_send(3) writes it: the same line as MESSAGE, and each field as one of the journal's. Values go with
/// their length before them, so that none can hold the beginning of another.
fn native(severity: Severity, line: &Line, text: &str) -> Vec<u8> {
    let mut packet = format!(
        "MESSAGE={text}\nPRIORITY={}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER=caplet\nSYSLOG_PID={}\nCAPLET_EVENT={}\n",
        severity as u8,
        std::process::id(),
        line.event,
    )
    .into_bytes();
    for (key, value) in &line.fields {
        packet.extend_from_slice(format!("CAPLET_{}\n", key.to_ascii_uppercase()).as_bytes());
        packet.extend_from_slice(&(value.len() as u64).to_le_bytes());
        packet.extend_from_slice(value);
        packet.push(b'\n');
    }
    packet
}

/// One line under construction: an event and `key=value` fields that parse back.
#[derive(Debug, Clone)]
pub struct Line {
    event: &'static str,
    fields: Vec<(&'static str, Vec<u8>)>,
}

impl Line {
    pub fn new(event: &'static str) -> Self {
        Self { event, fields: Vec::with_capacity(16) }
    }
    pub fn field(mut self, key: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.fields.push((key, log_cut(value.as_ref().as_bytes(), LONGEST_VALUE)));
        self
    }
    pub fn person(self, person: &Person) -> Self {
        self.field("user", &person.name).field("uid", person.uid.to_string())
    }
    pub fn command(mut self, argv: &[OsString]) -> Self {
        let words: Vec<&[u8]> = argv.iter().map(|word| word.as_bytes()).collect();
        self.fields.push(("command", log_command_within(&words, LONGEST_COMMAND).into_bytes()));
        self
    }
    pub fn text(&self) -> String {
        let mut text = String::from(self.event);
        for (key, value) in &self.fields {
            text.push(' ');
            text.push_str(key);
            text.push('=');
            if !value.is_empty() {
                text.push_str(&log_value(value));
            }
        }
        text
    }
}

/// Whether a line was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    Yes,
    No,
}

/// Writes a line that the policy may insist on.
pub fn insist(journal: &mut Journal, required: bool, severity: Severity, line: &Line) -> Result<Logged, Error> {
    match journal.write(severity, line) {
        Err(_) if required => Err(Error::Unlogged),
        Err(_) => Ok(Logged::No),
        Ok(()) => Ok(Logged::Yes),
    }
}
