//! `~/.config/caplet/config.toml`: what a user wishes for every login. The helper never reads it: it becomes a request
//! that is judged as any other. What is wrong with it costs the wishes, and never the login.

use crate::front::ask_helper;
use crate::messages::{Trouble, why};
use caplet_policy::capability::CapList;
use caplet_policy::escape::{for_terminal, quoted};
use caplet_policy::request::{Request, Verb, is_profile_name};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
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

/// The shell that is wished for, if it is one of the machine's.
pub fn shell() -> Result<Option<PathBuf>, Fault> {
    let Some(shell) = read()?.shell else { return Ok(None) };
    let shells = std::fs::read("/etc/shells").unwrap_or_default();
    match shells.split(|byte| *byte == b'\n').any(|line| line == shell.as_os_str().as_bytes()) {
        true => Ok(Some(shell)),
        false => {
            let name = for_terminal(shell.as_os_str().as_bytes());
            Err(format!("{SHOWN}: shell {name} is none of this machine's, which are in /etc/shells"))
        }
    }
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

fn parse(text: &str) -> Result<Wishes, Fault> {
    let at = |start: usize| {
        let before = text.get(..start).unwrap_or(text);
        format!("{SHOWN}:{}", before.matches('\n').count() + 1)
    };
    let table = DeTable::parse(text)
        .map_err(|error| format!("{}: {}", at(error.span().map_or(0, |span| span.start)), error.message()))?;
    let mut wishes = Wishes::default();
    for (key, value) in table.get_ref() {
        let said = wishes.take(key.get_ref(), value.get_ref());
        said.map_err(|fault| format!("{}: {fault}", at(key.span().start)))?;
    }
    Ok(wishes)
}

impl Wishes {
    fn take(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), Fault> {
        match key {
            "profile" => {
                let name = string(key, value)?;
                if !is_profile_name(name.as_bytes()) {
                    return Err(format!("no profile can be called {}", quoted(name.as_bytes())));
                }
                self.profile = Some(name.to_owned());
            }
            "cap_add" => self.add = capabilities(key, value)?,
            "cap_drop" => self.drop = capabilities(key, value)?,
            "shell" => {
                let path = string(key, value)?;
                if !path.starts_with('/') || path.contains('\0') {
                    return Err(format!("shell {} is no absolute path", quoted(path.as_bytes())));
                }
                self.shell = Some(PathBuf::from(OsStr::new(path)));
            }
            other => return Err(format!("unknown key {}; there are: {KEYS}", quoted(other.as_bytes()))),
        }
        Ok(())
    }
}

fn string<'v>(key: &str, value: &'v DeValue<'_>) -> Result<&'v str, Fault> {
    value.as_str().ok_or_else(|| format!("{key} must be a string, as in: {key} = \"...\""))
}

fn capabilities(key: &str, value: &DeValue<'_>) -> Result<CapList, Fault> {
    let wrong = || format!("{key} must be a list of names, as in: {key} = [\"NET_ADMIN\"]");
    let mut list = CapList::default();
    for item in value.as_array().ok_or_else(wrong)? {
        let name = item.get_ref().as_str().ok_or_else(wrong)?;
        list.add_text(name).map_err(|error| format!("{key}: {error}"))?;
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
            ("\nprofil = \"x\"", ":2: unknown key \"profil\"; there are: profile, cap_add, cap_drop, shell"),
            ("profile = 1", ":1: profile must be a string, as in: profile = \"...\""),
            ("profile = \"a b\"", ":1: no profile can be called \"a b\""),
            ("cap_add = \"KILL\"", ":1: cap_add must be a list of names, as in: cap_add = [\"NET_ADMIN\"]"),
            ("cap_add = [1]", ":1: cap_add must be a list of names, as in: cap_add = [\"NET_ADMIN\"]"),
            ("shell = \"zsh\"", ":1: shell \"zsh\" is no absolute path"),
            ("\"\\u001b[2J\" = 1", ":1: unknown key \"\\x1b[2J\"; there are: profile, cap_add, cap_drop, shell"),
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
