//! `~/.config/caplet/config.toml`: what a user wishes for every login. The helper never reads it: it becomes a request
//! that is judged as any other. What is wrong with it costs the wishes, and never the login.

use crate::front::ask_helper;
use crate::messages::{Trouble, why};
use caplet_policy::escape::for_terminal;
use caplet_policy::request::{Request, Verb};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

mod text;

use text::{Fault, SHOWN, Wishes, parse};

/// More than this is no list of four wishes.
const LARGEST: u64 = 64 << 10;

/// The request of a login with its user's wishes, if there are any and they are granted; else as it was, and why.
pub fn wished(plain: Request) -> (Request, Option<Fault>) {
    let wishes = match read() {
        Ok(wishes) => wishes,
        Err(fault) => return (plain, Some(fault)),
    };
    if wishes.profile.is_none() && wishes.add.is_empty() && wishes.drop.is_empty() {
        return (plain, None);
    }
    let wished = Request { profile: wishes.profile, add: wishes.add, drop: wishes.drop, ..plain.clone() };
    match granted(&wished) {
        Ok(()) => (wished, None),
        Err(fault) => (plain, Some(fault)),
    }
}

/// The shell that is wished for, if it is one of the machine's. A faulty file has been told of outside the session.
pub fn shell() -> Result<Option<PathBuf>, Fault> {
    let Ok(Wishes { shell: Some(shell), .. }) = read() else { return Ok(None) };
    let shells = std::fs::read("/etc/shells").unwrap_or_default();
    let is_listed = shells.split(|byte| *byte == b'\n').any(|line| line == shell.as_os_str().as_bytes());
    match () {
        () if !is_listed => Err(shell_fault(&shell, "is none of this machine's, which are in /etc/shells")),
        () if is_caplet(&shell) => Err(shell_fault(&shell, "is caplet itself, and this is its session already")),
        () => Ok(Some(shell)),
    }
}

/// Why the shell that is wished for does not come about.
pub fn shell_fault(shell: &Path, why: &str) -> Fault {
    format!("{SHOWN}: shell {} {why}", for_terminal(shell.as_os_str().as_bytes()))
}

/// Whether it is this program, under whatever name: it would ask for a session inside the session.
fn is_caplet(shell: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let is_named = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"caplet"));
    let is_same = matches!((file(shell), file(Path::new("/proc/self/exe"))), (Ok(a), Ok(b)) if a == b);
    is_same || is_named(shell) || std::fs::canonicalize(shell).is_ok_and(|real| is_named(&real))
}

/// Asks the judge first: a session that is refused would lock its user out.
fn granted(wished: &Request) -> Result<(), Fault> {
    wished.check().map_err(|error| format!("{SHOWN}: {error}"))?;
    // A password that cannot be asked for is a refusal too.
    let terminal = io::stdin().is_terminal();
    let question = Request { verb: Verb::Judge, non_interactive: !terminal, ..wished.clone() };
    let answer = ask_helper(&question.encode(), |command| {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    });
    let answer = answer.map_err(|trouble: Trouble| trouble.to_string())?;
    if answer.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer.stderr);
    let first = said.lines().next().map_or("the helper gives no answer", |line| line.trim_start_matches("caplet: "));
    Err(format!("{SHOWN}: {}", for_terminal(first.as_bytes())))
}

/// XDG_CONFIG_HOME is not looked at: sshd(8) and cron(8) do not set it, and each way in would find another file.
fn read() -> Result<Wishes, Fault> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match home.map(|home| open(&home.join(".config/caplet/config.toml"))) {
        None => Ok(Wishes::default()),
        Some(Ok(Some(text))) => parse(&text),
        Some(Ok(None)) => Ok(Wishes::default()),
        Some(Err(error)) => Err(format!("{SHOWN} cannot be read: {}", why(&error))),
    }
}

/// `None`: there is no such file. Never waits: a FIFO there must not hold a login.
fn open(path: &Path) -> io::Result<Option<String>> {
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits() | nix::fcntl::OFlag::O_NOCTTY.bits();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    let own = nix::unistd::getuid().as_raw();
    let wrong = match () {
        () if !meta.is_file() => Some("it is no regular file"),
        () if ![0, own].contains(&meta.uid()) => Some("it belongs to somebody else"),
        () if meta.len() > LARGEST => Some("it is larger than 64 KiB"),
        () => None,
    };
    match wrong {
        Some(wrong) => Err(io::Error::other(wrong)),
        None => text(file).map(Some),
    }
}

fn text(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => io::Error::other("it is not UTF-8"),
        _ => error,
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_file_is_read_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        assert_eq!(open(&path).expect("no file, no fault"), None);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        assert_eq!(open(&path).expect_err("a FIFO").to_string(), "it is no regular file");
        assert!(open(folder.path()).is_err());
        let big = folder.path().join("big");
        std::fs::write(&big, vec![b'#'; 65537]).expect("a file");
        assert_eq!(open(&big).expect_err("too large").to_string(), "it is larger than 64 KiB");
        std::fs::write(&big, b"\xff").expect("a file");
        assert_eq!(open(&big).expect_err("bytes").to_string(), "it is not UTF-8");
    }
}
