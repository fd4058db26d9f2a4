//! `caplet why`: runs a command as `run` does, watched from inside its session, and explains what it was refused. This
//! file is the part outside: it stands in for the helper at the terminal, hears the watcher's report, and tells.

mod advice;
mod arguments;
mod calls;
mod explain;
mod files;
mod filter;
mod inside;
mod kernel;
mod learn;
mod netlink;
mod object;
mod open;
mod proc;
mod proposal;
mod report;
mod rules;
mod table;
mod text;
mod walks;
mod watcher;

use crate::cli;
use crate::front::start_helper;
use crate::installed::session_profile;
use crate::messages::{self, FAILURE, Trouble, tell, why, write_stderr};
use advice::Advice;
use caplet_policy::request::{Request, Start};
use kernel::Trace;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid, getsid, pipe2};
use report::Report;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};

pub use inside::enter as inside;
pub use learn::run as learn;

/// si_code of a signal that the kernel sent: a key on the terminal, which the helper got itself.
const SI_KERNEL: i32 = 0x80;
/// Where the shell's hook notes the last command that failed.
const LAST: &str = "CAPLET_LAST";
/// More than a watcher writes.
const LARGEST: usize = 1 << 20;

/// Runs the request's command and explains; the command's exit code.
pub fn run(request: &Request, json: bool) -> ExitCode {
    let request = &match again(request) {
        Ok(request) => request,
        Err(trouble) => {
            tell(&trouble);
            return FAILURE.into();
        }
    };
    let inside = session_profile().map(|profile| profile.to_string_lossy().into_owned());
    let done = match cli::shell_line(request) {
        (true, instead) if inside.is_some() => Err(Trouble::Fixed { asked: true, instead }),
        _ => watched(request, false),
    };
    match done {
        Ok((code, Some(report))) => {
            let mut advice = Advice { inside, ..Advice::of(request) };
            let lines = if json { Vec::new() } else { explain::lines(&report, &mut advice) };
            match json {
                true => write_stderr(&messages::json(&explain::to_json(&report, &mut advice).to_string())),
                false if lines.is_empty() && report.code == 0 && !request.quiet => tell(&"nothing was refused"),
                false => lines.iter().for_each(|line| tell(line)),
            }
            code.into()
        }
        Ok((code, None)) => code.into(),
        Err(trouble) => {
            tell(&trouble);
            FAILURE.into()
        }
    }
}

/// Without a command it is the last one that failed, where the shell's hook has noted it (caplet-why(1)).
fn again(request: &Request) -> Result<Request, Trouble> {
    if matches!(request.start, Start::Command(_)) {
        return Ok(request.clone());
    }
    let line = std::env::var_os(LAST).filter(|line| !line.as_bytes().trim_ascii().is_empty());
    let line = line.filter(|line| !line.as_bytes().trim_ascii().starts_with(b"caplet why")).ok_or(Trouble::WhyWhat)?;
    // The shell that noted it, if that is where this was typed.
    let parent = std::fs::read_link(format!("/proc/{}/exe", getppid())).unwrap_or_default();
    let is_shell = ["bash", "zsh", "fish"].iter().any(|name| parent.file_name().is_some_and(|own| own == *name));
    let shell = if is_shell { parent.into_os_string() } else { "/bin/sh".into() };
    if !request.quiet {
        tell(&Trouble::Again(line.clone()));
    }
    Ok(Request { start: Start::Command(vec![shell, "-c".into(), line]), ..request.clone() })
}

/// Inside a session its own rights are all that there is: the watcher starts here.
fn start_here(request: &Request, number: u16) -> Result<Child, Trouble> {
    let Start::Command(command) = &request.start else { return Err(Trouble::WhyWhat) };
    let words = [format!("--watch={number}"), "--".into()];
    // Setting the group that it has anyway has std fork: musl's posix_spawn(3) leaves signals 32 and 33 ignored.
    let group = nix::unistd::getgid().as_raw();
    let mut watcher = Command::new("/proc/self/exe");
    watcher.arg0("caplet-session").args(words).args(command).env_remove(LAST).gid(group);
    watcher.spawn().map_err(|error| Trouble::Watcher(why(&error)))
}

/// The exit code, and what was seen. No report: the helper has said why there was no session.
fn watched(request: &Request, silent: bool) -> Result<(u8, Option<Report>), Trouble> {
    let failed = |errno: Errno| Trouble::Watcher(errno.desc().to_owned());
    let (hears, tells) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    fcntl(&tells, FcntlArg::F_SETFD(FdFlag::empty())).map_err(failed)?;
    let number = u16::try_from(tells.as_raw_fd()).map_err(|_| failed(Errno::EMFILE))?;
    let request = Request { watch: Some(number), ..request.clone() };
    let signals =
        SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
    // The helper starts with nothing blocked, whatever stands here.
    SigSet::all().thread_block().map_err(failed)?;
    let child = match session_profile() {
        Some(_) => start_here(&request, number)?,
        None => start_helper(&request, silent)?,
    };
    let helper = Pid::from_raw(child.id() as i32);
    drop(tells);
    let mut heard = Vec::new();
    let code = stand_in(helper, &signals, &hears, &mut heard);
    let mut report = Report::read(&heard);
    if let Some(report) = &mut report {
        let trace = Trace::read(&heard);
        trace.settle(report);
        report.trace = trace;
    }
    if report.is_none() && code > 128 {
        tell(&Trouble::NoReport);
    }
    Ok((code, report))
}

/// Waits for the helper: stops when it stops, hands on the signals that it did not get itself.
fn stand_in(helper: Pid, signals: &SignalFd, hears: &OwnedFd, heard: &mut Vec<u8>) -> u8 {
    let mut open = true;
    loop {
        let mut waits = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if open {
            waits.push(PollFd::new(hears.as_fd(), PollFlags::POLLIN));
        }
        let _ = poll(&mut waits, PollTimeout::NONE);
        if waits.get(1).and_then(PollFd::revents).is_some_and(|events| !events.is_empty()) {
            open = hear(hears, heard);
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            let number = signal.ssi_signo as i32;
            let own = signal.ssi_pid == helper.as_raw() as u32;
            let for_us = [libc::SIGCHLD, libc::SIGCONT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGWINCH];
            if !own && signal.ssi_code != SI_KERNEL && !for_us.contains(&number) {
                let _ = Signal::try_from(number).map(|signal| kill(helper, signal));
            }
        }
        loop {
            match waitpid(helper, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Exited(_, code)) => {
                    hear_the_rest(hears, heard);
                    return code as u8;
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    hear_the_rest(hears, heard);
                    return 128 + signal as u8;
                }
                Ok(WaitStatus::Stopped(..)) => stop_too(helper),
                Err(Errno::EINTR) => {}
                Err(_) => return FAILURE,
                Ok(_) => break,
            }
        }
    }
}

/// Whether there may be more.
fn hear(hears: &OwnedFd, heard: &mut Vec<u8>) -> bool {
    let mut bytes = [0u8; 4096];
    match nix::unistd::read(hears, &mut bytes) {
        Ok(0) => false,
        Ok(length) => {
            if heard.len() < LARGEST {
                heard.extend_from_slice(&bytes[..length]);
            }
            true
        }
        Err(Errno::EINTR | Errno::EAGAIN) => true,
        Err(_) => false,
    }
}

/// What is still in the pipe: others than the watcher may hold its other end open.
fn hear_the_rest(hears: &OwnedFd, heard: &mut Vec<u8>) {
    let _ = fcntl(hears, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    loop {
        let before = heard.len();
        if !hear(hears, heard) || heard.len() == before {
            return;
        }
    }
}

/// The helper has stopped with its session: so does this process, for the shell that waits for it; then both go on.
fn stop_too(helper: Pid) {
    let own_session = getsid(None).ok();
    // With nobody in this session to continue us, stopping would be for ever.
    if own_session.is_some() && own_session == getsid(Some(getppid())).ok() {
        let _ = raise(Signal::SIGSTOP);
    }
    let _ = kill(helper, Signal::SIGCONT);
}
