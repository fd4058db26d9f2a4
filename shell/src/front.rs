//! `caplet run` and `caplet shell`: the request becomes the helper. Nothing is decided here.

use crate::cli;
use crate::installed::{HELPER, helper_at_rest, helper_beside, session_profile};
use crate::messages::{FAILURE, Trouble, tell};
use caplet_policy::request::Request;
use nix::errno::Errno;
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// Becomes the helper; comes back only with a failure.
pub fn start(request: &Request) -> ExitCode {
    let trouble = if session_profile().is_some() {
        let (asked, instead) = cli::shell_line(request);
        Trouble::Fixed { asked, instead }
    } else {
        become_helper(request)
    };
    tell(&trouble);
    FAILURE.into()
}

/// The same without a look at where this is: a login is never inside a session.
pub fn become_helper(request: &Request) -> Trouble {
    let words = request.encode();
    let failed = |path: &Path| -> io::Error {
        // std's exec gives SIGPIPE, which Rust ignores, its default back, and leaves the environment as it is.
        Command::new(path).arg0(HELPER).args(&words).exec()
    };
    if let Some(beside) = helper_beside() {
        let error = failed(&beside);
        if error.kind() != ErrorKind::NotFound {
            return cannot_start(&beside, error);
        }
    }
    let installed = helper_at_rest();
    let error = failed(&installed);
    cannot_start(&installed, error)
}

/// Starts the helper as a child, in this process's place at the terminal; `silent`: with nothing to read, and what is
/// written thrown away.
pub fn start_helper(request: &Request, silent: bool) -> Result<Child, Trouble> {
    let words = request.encode();
    // Setting the group that it has anyway has std fork: musl's posix_spawn(3) leaves signals 32 and 33 ignored.
    let group = nix::unistd::getgid().as_raw();
    let start = |path: &Path| {
        let mut command = Command::new(path);
        if silent {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        command.arg0(HELPER).args(&words).gid(group).spawn()
    };
    if let Some(beside) = helper_beside() {
        match start(&beside) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            started => return started.map_err(|error| cannot_start(&beside, error)),
        }
    }
    let installed = helper_at_rest();
    start(&installed).map_err(|error| cannot_start(&installed, error))
}

/// Runs the helper with `configure`d streams and waits for it, as `list` does.
pub fn ask_helper(
    words: &[std::ffi::OsString],
    streams: impl Fn(&mut Command),
) -> Result<std::process::Output, Trouble> {
    let ask = |path: &Path| {
        let mut command = Command::new(path);
        command.arg0(HELPER).args(words);
        streams(&mut command);
        command.output()
    };
    if let Some(beside) = helper_beside() {
        match ask(&beside) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            answer => return answer.map_err(|error| cannot_start(&beside, error)),
        }
    }
    let installed = helper_at_rest();
    ask(&installed).map_err(|error| cannot_start(&installed, error))
}

fn cannot_start(path: &Path, error: io::Error) -> Trouble {
    let path = path.as_os_str().to_owned();
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENOTDIR) => Trouble::HelperMissing(path),
        Some(Errno::EACCES | Errno::EPERM) => Trouble::HelperForbidden(path),
        Some(Errno::E2BIG) => Trouble::CommandTooLong,
        _ => Trouble::HelperFailed { path, error },
    }
}
