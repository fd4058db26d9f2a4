//! `~/.config/caplet/config.toml`: what a user wishes for every login. The helper never reads it: it becomes a request
//! that is judged as any other. What is wrong with it costs the wishes, and never the login.

use crate::front::ask_helper;
use crate::messages::{Trouble, why};
use caplet_policy::capability::CapList;
use caplet_policy::escape::{for_terminal, quoted};
use caplet_policy::request::{Request, Verb, is_profile_name};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// As people call it.
const SHOWN: &str = "~/.config/caplet/config.toml";
/// More than this is no list of four wishes.
const LARGEST: u64 = 64 << 10;
const KEYS: &str = "profile, cap_add, cap_drop, shell";

/// What somebody wishes for the session of a login.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    profile: Option<String>,
    add: CapList,
    drop: CapList,
    shell: Option<PathBuf>,
}

/// Why the wishes do not come true, in one line.
pub type Fault = String;

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

/// What is wrong, and at which byte.
type Wrong = (usize, String);

/// Of several faults, the first in the file.
fn parse(text: &str) -> Result<Wishes, Fault> {
    let said = |(start, what): Wrong| format!("{}: {what}", place(text, start));
    let table = DeTable::parse(text)
        .map_err(|error| said((error.span().map_or(0, |span| span.start), error.message().to_owned())))?;
    let mut wishes = Wishes::default();
    let wrong = table.get_ref().iter().filter_map(|(key, value)| wishes.take(key, value).err()).min();
    wrong.map_or(Ok(wishes), |wrong| Err(said(wrong)))
}

/// `FILE:LINE:COLUMN`, as the policy's faults; columns in characters.
fn place(text: &str, start: usize) -> String {
    let before = text.get(..start).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let column = line.trim_start_matches('\u{feff}').chars().count() + 1;
    format!("{SHOWN}:{}:{column}", before.matches('\n').count() + 1)
}

impl Wishes {
    fn take(&mut self, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Result<(), Wrong> {
        let wrong = |what: String| (value.span().start, what);
        match key.get_ref().as_ref() {
            "profile" => {
                let name = string("profile", value)?;
                if !is_profile_name(name.as_bytes()) {
                    return Err(wrong(format!("no profile can be called {}", quoted(name.as_bytes()))));
                }
                self.profile = Some(name.to_owned());
            }
            "cap_add" => self.add = capabilities("cap_add", value)?,
            "cap_drop" => self.drop = capabilities("cap_drop", value)?,
            "shell" => {
                let path = string("shell", value)?;
                if !path.starts_with('/') || path.contains('\0') {
                    return Err(wrong(format!("shell {} is no absolute path", quoted(path.as_bytes()))));
                }
                self.shell = Some(PathBuf::from(OsStr::new(path)));
            }
            other => {
                let what = format!("unknown key {}; there are: {KEYS}", quoted(other.as_bytes()));
                return Err((key.span().start, what));
            }
        }
        Ok(())
    }
}

fn string<'v>(key: &str, value: &'v Spanned<DeValue<'_>>) -> Result<&'v str, Wrong> {
    let wrong = || (value.span().start, format!("{key} must be a string, as in: {key} = \"...\""));
    value.get_ref().as_str().ok_or_else(wrong)
}

fn capabilities(key: &str, value: &Spanned<DeValue<'_>>) -> Result<CapList, Wrong> {
    let wrong = |at: &Spanned<DeValue<'_>>| {
        (at.span().start, format!("{key} must be a list of names, as in: {key} = [\"NET_ADMIN\"]"))
    };
    let mut list = CapList::default();
    for item in value.get_ref().as_array().ok_or_else(|| wrong(value))? {
        let name = item.get_ref().as_str().ok_or_else(|| wrong(item))?;
        list.add_text(name).map_err(|error| (item.span().start, format!("{key}: {error}")))?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_wishes_are_read() {
        let text = "# mine\nprofile = \"lab\"\ncap_add = [\"net_admin\", \"CAP_NET_RAW\"]\ncap_drop = [\"ALL\"]\nshell = \"/bin/zsh\"\n";
        let wishes = parse(text).expect("good");
        assert_eq!((wishes.profile.as_deref(), wishes.drop.all), (Some("lab"), true));
        assert_eq!(wishes.add.to_string(), "NET_ADMIN,NET_RAW");
        assert_eq!(wishes.shell, Some("/bin/zsh".into()));
        assert_eq!(parse(""), Ok(Wishes::default()));
    }

    #[test]
    fn what_is_wrong_is_one_line_that_says_where() {
        for (text, fault) in [
            ("\nprofil = \"x\"", ":2:1: unknown key \"profil\"; there are: profile, cap_add, cap_drop, shell"),
            ("profile = 1", ":1:11: profile must be a string, as in: profile = \"...\""),
            ("profile = \"a b\"", ":1:11: no profile can be called \"a b\""),
            ("cap_add = \"KILL\"", ":1:11: cap_add must be a list of names, as in: cap_add = [\"NET_ADMIN\"]"),
            ("cap_add = [\"KILL\", 1]", ":1:20: cap_add must be a list of names, as in: cap_add = [\"NET_ADMIN\"]"),
            ("\u{feff}cap_add = 1", ":1:11: cap_add must be a list of names, as in: cap_add = [\"NET_ADMIN\"]"),
            // Columns are characters, and the first fault counts.
            ("profile = \"é\"", ":1:11: no profile can be called \"é\""),
            ("shell = 1 # é\ncap_add = 1", ":1:9: shell must be a string, as in: shell = \"...\""),
            ("cap_drop = [\"KILL\",\n \"KIL\"]", ":2:2: cap_drop: unknown capability \"KIL\"; did you mean KILL?"),
            ("shell = \"zsh\"", ":1:9: shell \"zsh\" is no absolute path"),
            ("\"\\u001b[2J\" = 1", ":1:1: unknown key \"\\x1b[2J\"; there are: profile, cap_add, cap_drop, shell"),
        ] {
            assert_eq!(parse(text), Err(format!("{SHOWN}{fault}")), "{text}");
        }
        for text in ["profile", "profile = \"x\"\nprofile = \"y\"", "cap_add = [\"NOSUCH\"]", "= 1"] {
            let fault = parse(text).expect_err("a fault");
            assert!(fault.starts_with(&format!("{SHOWN}:")) && fault.lines().count() == 1, "{text}: {fault}");
        }
    }

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
