//! The watcher inside a session: starts the command, stops it at the calls of `calls` alone, notes what is refused, and
//! ends as the command ended. It holds no more than the command, and the command's output is not its own.

use super::filter;
use super::watcher::Watcher;
use crate::messages::{FAILURE, NOT_EXECUTABLE, NOT_FOUND, Trouble, tell};
use caplet_trace::{self as trace, Change};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The word by which the watcher starts itself once more, to become the command.
const TRACED: &str = "--traced";

/// Before the `--`: the command is this file, and nothing else is tried.
const EXACT: &str = "--exact";

/// The helper's words `--watch=N [--exact] -- COMMAND...`, or our own; `None`: neither.
pub fn enter(words: &[OsString]) -> Option<ExitCode> {
    let (first, rest) = words.split_first()?;
    let (exact, command) = match rest {
        [exact, dashes, command @ ..] if exact == EXACT && dashes == "--" => (true, command),
        [dashes, command @ ..] if dashes == "--" => (false, command),
        _ => return None,
    };
    match first.as_bytes() {
        _ if command.is_empty() => None,
        word if word == TRACED.as_bytes() => Some(become_command(command, exact)),
        word => caplet_policy::request::watch_number(word).map(|number| watch(number, command, exact)),
    }
}

/// The child that is watched: waits for its watcher, then becomes the command.
fn become_command(command: &[OsString], exact: bool) -> ExitCode {
    let _ = SigSet::empty().thread_set_mask();
    let _ = raise(Signal::SIGSTOP);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let watched = status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
    // Without a watcher the filter would make every call that it stops at fail.
    if !watched || seccompiler::apply_filter(&filter::program()).is_err() {
        tell(&Trouble::NotWatched);
        return FAILURE.into();
    }
    let error = execute(command, exact);
    let name = command[0].clone();
    match Errno::from_raw(error) {
        Errno::ENOENT | Errno::ENOTDIR => {
            tell(&Trouble::CommandNotFound(name));
            NOT_FOUND.into()
        }
        errno => {
            tell(&Trouble::CommandFailed { name, why: errno.desc() });
            NOT_EXECUTABLE.into()
        }
    }
}

/// As the helper does, and execvp(3): along PATH; a file that the kernel does not know is a shell script.
fn execute(command: &[OsString], exact: bool) -> i32 {
    let word = &command[0];
    if word.is_empty() {
        return libc::ENOENT;
    }
    let attempt = |path: &Path| match trace::execute(path.as_os_str(), word, &command[1..]) {
        Errno::ENOEXEC if !exact => {
            let words = [&[path.as_os_str().to_owned()], &command[1..]].concat();
            trace::execute(OsStr::new("/bin/sh"), OsStr::new("sh"), &words) as i32
        }
        errno => errno as i32,
    };
    if word.as_bytes().contains(&b'/') {
        return attempt(Path::new(word));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut last = libc::ENOENT;
    for folder in path.as_bytes().split(|b| *b == b':') {
        let folder = if folder.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(folder) };
        match attempt(&Path::new(folder).join(word)) {
            libc::ENOENT | libc::ENOTDIR => {}
            errno @ (libc::EACCES | libc::ELOOP | libc::ENAMETOOLONG) => last = errno,
            errno => return errno,
        }
    }
    last
}

fn watch(number: u16, command: &[OsString], exact: bool) -> ExitCode {
    let Some(pipe) = trace::adopt(number).map(File::from) else {
        tell(&Trouble::SessionWords);
        return FAILURE.into();
    };
    match start(command, exact) {
        Ok(child) => {
            let mut watcher = Watcher::new(child, command);
            // PID 1 is this process's parent where the helper has started it.
            if !watcher.report.isolated || nix::unistd::getppid().as_raw() != 1 {
                hand_signals_on(child);
            }
            let end = watcher.until_the_end();
            watcher.hand_over(pipe, end);
            match end {
                Change::Signaled(signal) => trace::end_by(signal),
                Change::Exited(code) => std::process::exit(code),
                _ => FAILURE.into(),
            }
        }
        Err(trouble) => {
            tell(&trouble);
            FAILURE.into()
        }
    }
}

/// In host scope the helper signals this process alone, for the command; in an isolated session PID 1 signals the whole
/// job. What a key on the terminal sends, the command gets itself. By a handle: the watcher may hold CAP_KILL, and the number of a command that has ended is soon another's.
fn hand_signals_on(command: i32) {
    let Ok(command) = trace::handle(command) else { return };
    let Ok(signals) = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC) else { return };
    std::thread::spawn(move || {
        while let Ok(Some(signal)) = signals.read_signal() {
            let from_somebody = [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL].contains(&signal.ssi_code);
            if from_somebody && signal.ssi_pid != std::process::id() {
                trace::send(&command, signal.ssi_signo as i32);
            }
        }
    });
}

/// Starts the child and has it stand still under our eyes.
fn start(command: &[OsString], exact: bool) -> Result<i32, Trouble> {
    let own = Path::new("/proc/self/exe");
    let words = if exact { &[TRACED, EXACT, "--"][..] } else { &[TRACED, "--"] };
    // Setting the group that it has anyway has std fork: musl's posix_spawn(3) leaves signals 32 and 33 ignored.
    let group = nix::unistd::getgid().as_raw();
    let child = Command::new(own).arg0("caplet-session").args(words).args(command).gid(group).spawn();
    let child = child.map_err(|error| Trouble::Watcher(crate::messages::why(&error)))?;
    let pid = Pid::from_raw(child.id() as i32);
    // From here on signals of the whole job reach the command itself; the watcher goes when the command has gone.
    let _ = SigSet::all().thread_block();
    let stopped = matches!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)), Ok(WaitStatus::Stopped(..)));
    match trace::seize(pid.as_raw()) {
        Ok(()) if stopped => {
            let _ = kill(pid, Signal::SIGCONT);
            Ok(pid.as_raw())
        }
        result => {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
            Err(match result {
                Err(Errno::EPERM) => Trouble::NoTracing,
                Err(errno) => Trouble::Watcher(errno.desc().to_owned()),
                Ok(()) => Trouble::Watcher("it ended before it began".to_owned()),
            })
        }
    }
}
