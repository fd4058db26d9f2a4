//! Being a login shell: sshd(8), su(1), login(1), cron(8) with `SHELL=`. Every way in becomes the one session; what the
//! command line says is never read to decide whether.

use crate::cli::{self, Wish};
use crate::front::become_helper;
use crate::messages::{FAILURE, Trouble, tell};
use crate::wishes;
use caplet_policy::request::{Request, Start, Verb};
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// root's shell, whatever the policy says: the way back in where all else fails.
const SHELL_OF_ROOT: &str = "/bin/sh";

/// How this shell was called.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    /// As a login shell: a `-` before the name, or `-l`.
    dash: bool,
    line: Option<OsString>,
}

/// Becomes the session, or says why not: this shell fails closed.
pub fn enter(argv0: &OsStr, words: Vec<OsString>) -> ExitCode {
    if nix::unistd::getuid().is_root() {
        let error = Command::new(SHELL_OF_ROOT).arg0(of_root(argv0)).args(&words).exec();
        tell(&Trouble::ShellFailed { shell: SHELL_OF_ROOT.into(), error });
        return FAILURE.into();
    }
    let trouble = match Call::read(argv0, words) {
        Ok(call) => become_helper(&with_wishes(call.request(std::io::stdin().is_terminal()))),
        Err(trouble) => trouble,
    };
    tell(&trouble);
    FAILURE.into()
}

/// What a login's user wishes for it; nothing for a request of one's own.
fn with_wishes(request: Request) -> Request {
    if !request.login {
        return request;
    }
    let (request, fault) = wishes::wished(request);
    // Not into what scp or git reads.
    if let Some(fault) = fault.filter(|_| std::io::stderr().is_terminal()) {
        tell(&Trouble::NoWish(fault));
    }
    request
}

/// `-sh` for a login shell, else `sh`.
fn of_root(argv0: &OsStr) -> &'static str {
    if argv0.as_bytes().starts_with(b"-") { "-sh" } else { "sh" }
}

impl Call {
    /// Reads what login programs say: nothing, `-l`, `-c LINE`, also together and in one word (`-lc`); `-i` and `-s` are
    /// what the shell does anyway.
    fn read(argv0: &OsStr, words: Vec<OsString>) -> Result<Self, Trouble> {
        let mut call = Self { dash: argv0.as_bytes().starts_with(b"-"), line: None };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let letters = match word.as_bytes() {
                b"--login" => b"l",
                [b'-', letters @ ..] if !letters.is_empty() && letters.iter().all(|b| b"lics".contains(b)) => letters,
                _ => return Err(Trouble::LoginWord(word)),
            };
            call.dash |= letters.contains(&b'l');
            if letters.contains(&b'c') {
                let line = words.next().ok_or(Trouble::LoginWord(word))?;
                if let Some(more) = words.next() {
                    return Err(Trouble::LoginWord(more));
                }
                call.line = Some(line);
            }
        }
        Ok(call)
    }

    /// The session that it asks for. `ssh HOST caplet run ...` is the request itself, not one session inside another.
    fn request(self, terminal: bool) -> Request {
        if let Some(request) = self.line.as_deref().and_then(own_request) {
            // The connection is this one's too: it ends with it.
            return Request { tied: true, ..request };
        }
        let start = self.line.map_or(Start::Shell, Start::Line);
        let quiet = start != Start::Shell || !terminal;
        Request { login: true, dash: self.dash, quiet, ..Request::new(Verb::Run, start) }
    }
}

/// The request that a line is, where all of it is `caplet run ...` or `caplet shell ...` in plain words: nothing that a
/// shell would read in another way. It is judged as any other.
fn own_request(line: &OsStr) -> Option<Request> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" _./:,@%+=-".contains(byte);
    if !line.as_bytes().iter().all(plain) {
        return None;
    }
    let mut words = line.as_bytes().split(|b| *b == b' ').filter(|word| !word.is_empty());
    let name = words.next()?;
    if name != b"caplet" && name != b"/usr/bin/caplet" {
        return None;
    }
    let words: Vec<OsString> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
    let session = words.first().is_some_and(|first| first == "run" || first == "shell");
    match session.then(|| cli::read(words)) {
        Some(Ok(Wish::Session(request))) => Some(request),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(argv0: &str, words: &[&str]) -> Option<Call> {
        Call::read(OsStr::new(argv0), words.iter().map(OsString::from).collect()).ok()
    }

    #[test]
    fn what_login_programs_say_is_understood() {
        let is = |dash, line: Option<&str>| Some(Call { dash, line: line.map(OsString::from) });
        for (argv0, words, wanted) in [
            ("-caplet-shell", &[][..], is(true, None)),
            ("caplet-shell", &["-l"], is(true, None)),
            ("caplet-shell", &["--login"], is(true, None)),
            ("caplet-shell", &["-c", "id; ls"], is(false, Some("id; ls"))),
            ("-caplet-shell", &["-c", "id"], is(true, Some("id"))),
            ("caplet-shell", &["-lc", "id"], is(true, Some("id"))),
            ("caplet-shell", &["-l", "-i", "-c", "-c"], is(true, Some("-c"))),
            ("caplet-shell", &[], is(false, None)),
            ("caplet-shell", &["-s"], is(false, None)),
            ("caplet-shell", &["-c"], None),
            ("caplet-shell", &["-c", "id", "name"], None),
            ("caplet-shell", &["script"], None),
            ("caplet-shell", &["-x"], None),
            ("caplet-shell", &["-"], None),
        ] {
            assert_eq!(call(argv0, words), wanted, "{argv0} {words:?}");
        }
    }

    #[test]
    fn only_a_line_that_is_nothing_else_is_a_request_of_its_own() {
        let request = |line: &str| call("caplet-shell", &["-c", line]).expect("a call").request(false);
        let own = request("caplet run --cap-add NET_ADMIN -- ip route");
        assert!(
            !own.login && own.tied && own.start == Start::Command(["ip", "route"].map(OsString::from).into()),
            "{own:?}"
        );
        assert_eq!(request("caplet shell -p netlab").profile.as_deref(), Some("netlab"));
        for line in [
            "caplet run id; id",
            "caplet run id && id",
            "caplet run $(id)",
            "caplet run 'id'",
            "caplet run id\nid",
            "caplet run ~",
            "caplet run *",
            "caplet list",
            "caplet run --no-such",
            "caplet",
            "xcaplet run id",
            "./caplet run id",
            "A=b caplet run id",
            "",
        ] {
            let request = request(line);
            assert!(request.login && request.start == Start::Line(line.into()), "{line}: {request:?}");
        }
    }
}
