//! The stage inside a session: greets, then becomes the user's shell. It holds no more than that shell will hold,
//! and trusts nothing but the words the helper gave it.

use crate::listing::describe;
use crate::messages::{FAILURE, NOT_EXECUTABLE, NOT_FOUND, Trouble, tell, why};
use crate::wishes;
use caplet_policy::capability::{CapList, CapSet};
use caplet_policy::escape::for_terminal;
use std::env::var_os;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, IsTerminal};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The helper's words for a shell: `--shell=/bin/bash [--added=NET_ADMIN] [--login] [--own] [--quiet] [--line=COMMAND]`.
#[derive(Debug, PartialEq, Eq)]
struct Stage {
    shell: OsString,
    added: CapList,
    login: bool,
    /// The session of a login whose profile names no shell: the user may.
    own: bool,
    quiet: bool,
    /// What stands behind the shell's `-c`.
    line: Option<OsString>,
}

/// Becomes the shell; comes back only with a failure.
pub fn enter(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    if let Some(code) = crate::why::inside(&words) {
        return code;
    }
    let Some(stage) = Stage::read(words.into_iter()) else {
        tell(&Trouble::SessionWords);
        return FAILURE.into();
    };
    // A command's output is for programs as well.
    if !stage.quiet && stage.line.is_none() && std::io::stderr().is_terminal() {
        for line in greeting(&stage.added, |name| var_os(name).unwrap_or_default()) {
            tell(&line);
        }
    }
    stage.try_own_shell();
    let error = stage.become_shell(&stage.shell);
    let shell = stage.shell;
    if error.kind() == ErrorKind::NotFound {
        tell(&Trouble::ShellNotFound(shell));
        NOT_FOUND.into()
    } else {
        tell(&Trouble::ShellFailed { shell, error });
        NOT_EXECUTABLE.into()
    }
}

impl Stage {
    /// `None` for any word that the helper does not write.
    fn read(words: impl Iterator<Item = OsString>) -> Option<Self> {
        let (mut shell, mut added, mut line) = (None, None, None);
        let (mut login, mut own, mut quiet) = (false, false, false);
        for word in words {
            let bytes = word.as_bytes();
            if let Some(path) = bytes.strip_prefix(b"--shell=") {
                let path = OsString::from_vec(path.to_vec());
                (shell.is_none() && Path::new(&path).is_absolute()).then_some(())?;
                shell = Some(path);
            } else if let Some(text) = bytes.strip_prefix(b"--line=") {
                line.replace(OsString::from_vec(text.to_vec())).is_none().then_some(())?;
            } else if let Some(names) = bytes.strip_prefix(b"--added=") {
                let mut list = CapList::default();
                if !names.is_empty() {
                    list.add_text(std::str::from_utf8(names).ok()?).ok()?;
                }
                added.replace(list).is_none().then_some(())?;
            } else {
                let flag = match bytes {
                    b"--login" => &mut login,
                    b"--own" => &mut own,
                    b"--quiet" => &mut quiet,
                    _ => return None,
                };
                (!std::mem::replace(flag, true)).then_some(())?;
            }
        }
        Some(Self { shell: shell?, added: added.unwrap_or_default(), login, own, quiet, line })
    }

    /// Becomes the shell that `config.toml` wishes for, where the policy leaves the choice. Comes back where that is not
    /// to be had: a wish must not end the login.
    fn try_own_shell(&self) {
        if !self.own {
            return;
        }
        let fault = match wishes::shell() {
            Ok(None) => return,
            Ok(Some(own)) => wishes::shell_fault(&own, &cannot_start(&self.become_shell(own.as_os_str()))),
            Err(fault) => fault,
        };
        if std::io::stderr().is_terminal() {
            tell(&Trouble::NoShellWish { fault, instead: self.shell.clone() });
        }
    }

    fn become_shell(&self, shell: &OsStr) -> std::io::Error {
        let mut command = Command::new(shell);
        command.arg0(self.argv0(shell)).env("SHELL", shell);
        if let Some(line) = &self.line {
            command.arg("-c").arg(line);
        }
        command.exec()
    }

    /// The shell's last name, with the `-` by which a shell knows that it is a login shell.
    fn argv0(&self, shell: &OsStr) -> OsString {
        let mut argv0 = OsString::from(if self.login { "-" } else { "" });
        argv0.push(Path::new(shell).file_name().unwrap_or(OsStr::new("sh")));
        argv0
    }
}

fn cannot_start(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "is not there".into(),
        _ => format!("cannot be executed: {}", why(error)),
    }
}

/// Two lines at most. In host scope the helper has already told which real capabilities are held.
fn greeting(added: &CapList, variable: impl Fn(&str) -> OsString) -> Vec<String> {
    let profile = for_terminal(variable("CAPLET_PROFILE").as_bytes());
    let scope = for_terminal(variable("CAPLET_SCOPE").as_bytes());
    let mut lines = vec![format!("session of profile \"{profile}\" ({scope}); exit ends it")];
    let mut held = CapList::default();
    let caps = variable("CAPLET_CAPS");
    if scope == "isolated" && (caps.is_empty() || caps.to_str().is_some_and(|names| held.add_text(names).is_ok())) {
        let mut line = format!("it holds {}", describe(held.names));
        let known = if added.all { held.names } else { added.names.intersection(held.names) };
        if !known.is_empty() {
            line = if added.all {
                format!("it holds {}; added: ALL", describe(held.names))
            } else if known == held.names {
                format!("it holds what you added: {}", describe(known))
            } else {
                let start = held.names.minus(known);
                // A capability that was added and is in Docker's 14 too does not spoil the short name.
                let start = if start.union(known) == CapSet::DOCKER { CapSet::DOCKER } else { start };
                format!("it holds {}; added: {}", describe(start), describe(known))
            };
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Option<Stage> {
        Stage::read(words.iter().map(OsString::from))
    }

    #[test]
    fn only_the_helpers_words_are_taken() {
        let stage = read(&["--shell=/bin/bash", "--added=NET_ADMIN,NET_RAW", "--login"]).expect("good words");
        assert_eq!(stage.argv0(&stage.shell), "-bash");
        assert_eq!(stage.added.to_string(), "NET_ADMIN,NET_RAW");
        let plain = read(&["--shell=/bin/bash"]).expect("good words");
        assert_eq!(plain.argv0(&plain.shell), "bash");
        for bad in [
            &[][..],
            &["--shell=bash"],
            &["--shell="],
            &["--shell=/bin/sh", "--shell=/bin/sh"],
            &["--shell=/bin/sh", "--login", "--login"],
            &["--shell=/bin/sh", "--added=NOTHING"],
            &["--shell=/bin/sh", "--added=", "--added="],
            &["--shell=/bin/sh", "-c"],
            &["--shell=/bin/sh", "x"],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    fn greet(added: &str, profile: &str, scope: &str, caps: &str) -> Vec<String> {
        let mut list = CapList::default();
        if !added.is_empty() {
            list.add_text(added).expect("names");
        }
        greeting(&list, |name| match name {
            "CAPLET_PROFILE" => profile.into(),
            "CAPLET_SCOPE" => scope.into(),
            _ => caps.into(),
        })
    }

    #[test]
    fn the_greeting_is_two_lines_of_what_is_held() {
        let docker = CapSet::DOCKER.to_string();
        assert_eq!(
            greet("", "basic", "isolated", &docker),
            ["session of profile \"basic\" (isolated); exit ends it", "it holds Docker's 14"]
        );
        assert_eq!(
            greet("NET_ADMIN", "netlab", "isolated", &format!("{docker},NET_ADMIN"))[1],
            "it holds Docker's 14; added: NET_ADMIN"
        );
        assert_eq!(greet("NET_RAW", "netlab", "isolated", "NET_RAW")[1], "it holds what you added: NET_RAW");
        assert_eq!(greet("CHOWN", "netlab", "isolated", &docker)[1], "it holds Docker's 14; added: CHOWN");
        assert_eq!(
            greet("ALL", "netlab", "isolated", &CapSet::KNOWN.to_string())[1],
            "it holds every capability; added: ALL"
        );
        assert_eq!(greet("", "self", "isolated", "")[1], "it holds no capability");
        assert_eq!(greet("", "clock", "host", "SYS_TIME"), ["session of profile \"clock\" (host); exit ends it"]);
    }

    #[test]
    fn an_odd_environment_cannot_harm_the_terminal() {
        let lines = greet("", "\x1b[2J", "isolated", "\x07");
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].contains('\x1b'), "{lines:?}");
    }
}
