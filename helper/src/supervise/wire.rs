//! What PID 1 tells the guard, and the guard the relay: one small packet each. What PID 1 says is not trusted
//! further than to end its own session.

use crate::authenticate::talk::{self, Word};
use crate::environment::Environment;
use crate::error::{Error, OURS, call};
use crate::limits::Limits;
use crate::plan::Umask;
use crate::sys::Errno;
use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The command's process stands; a pidfd to signal comes with it.
    Started,
    /// The command stopped, by this signal.
    Stopped(i32),
    /// It wants to read the terminal, being in a pipeline.
    WantsTerminal,
    /// It ended with this status.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// The guard to PID 1: the tree stands. Relay, watcher and tracer to the guard: they are ready.
    Go,
    /// The master of the session's pty comes with it.
    Terminal,
    /// The guard to whoever starts the command: its power is given up, the command may run.
    Run,
    /// PID 1 to the guard, and the guard to the relay: others than the command, which is over, go on (`linger`).
    Lingers,
    /// The guard to PID 1: the command is to be killed, and what it leaves behind goes on.
    Abandon,
    /// The guard to the watcher: the number of the session's port in its network.
    Plugged(u32),
    /// The guard to the tracer: the number of the process that it is to look at.
    Trace(u32),
    /// The watcher to the guard, and the guard to the relay: the session is being ended, and why.
    Ending(Cause),
}

/// Why a session is ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// `max_lifetime` or `valid_until`.
    Lifetime,
    /// The process that asked for it is gone.
    Hangup,
    /// `caplet end`.
    Asked,
    /// The policy grants it no more.
    Policy,
    /// The account is gone, locked or expired.
    Account,
    /// Nobody judges it any more.
    Unjudged,
    /// Its PID 1 or its guard could not go on.
    Failed,
}

impl Cause {
    const EVERY: [Self; 7] =
        [Self::Lifetime, Self::Hangup, Self::Asked, Self::Policy, Self::Account, Self::Unjudged, Self::Failed];

    /// Its word in the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime",
            Self::Hangup => "hangup",
            Self::Asked => "asked",
            Self::Policy => "policy",
            Self::Account => "account",
            Self::Unjudged => "unjudged",
            Self::Failed => "failed",
        }
    }

    /// What a person reads at the end of the session.
    pub const fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::Hangup => return None, // nobody is left to read it
            Self::Lifetime => "this session was ended: its time is up",
            Self::Asked => "this session was ended by caplet end",
            Self::Policy => "this session was ended: the policy grants it to you no longer; see: caplet list",
            Self::Account => "this session was ended: your account is locked, has expired or is gone",
            Self::Unjudged => "this session was ended: whether it is still granted could not be judged; start it again",
            Self::Failed => "this session was ended: the process that watches it failed",
        })
    }
}

impl Report {
    fn encode(self) -> [u8; 5] {
        let (tag, value) = match self {
            Report::Started => (1u8, 0),
            Report::Stopped(signal) => (2, signal),
            Report::WantsTerminal => (3, 0),
            Report::Exited(code) => (4, code),
            Report::Signaled(signal) => (5, signal),
            Report::Go => (6, 0),
            Report::Terminal => (7, 0),
            Report::Run => (8, 0),
            Report::Ending(cause) => (9, cause as i32),
            Report::Lingers => (10, 0),
            Report::Abandon => (11, 0),
            Report::Plugged(port) => (12, port as i32),
            Report::Trace(pid) => (13, pid as i32),
        };
        let [a, b, c, d] = value.to_ne_bytes();
        [tag, a, b, c, d]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [tag, a, b, c, d] = *bytes else { return None };
        let value = i32::from_ne_bytes([a, b, c, d]);
        Some(match tag {
            1 => Report::Started,
            2 => Report::Stopped(value),
            3 => Report::WantsTerminal,
            4 => Report::Exited(value & 0xff),
            5 => Report::Signaled(value.clamp(1, 64)),
            6 => Report::Go,
            7 => Report::Terminal,
            8 => Report::Run,
            9 => Report::Ending(Cause::EVERY.into_iter().find(|cause| *cause as i32 == value)?),
            10 => Report::Lingers,
            11 => Report::Abandon,
            12 => Report::Plugged(value as u32),
            13 => Report::Trace(value as u32),
            _ => return None,
        })
    }

    /// The exit code that the relay ends with.
    pub fn code(self) -> Option<i32> {
        match self {
            Report::Exited(code) => Some(code),
            Report::Signaled(signal) => Some(128 + signal),
            _ => None,
        }
    }
}

/// Two connected ends for packets.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(call("socketpair"))
}

/// Sends one, perhaps with a descriptor. Never waits: the other side has little to read.
pub fn send(socket: impl AsFd, report: Report, with: Option<&OwnedFd>) -> Result<(), Errno> {
    let bytes = report.encode();
    let numbers: Vec<i32> = with.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control: &[ControlMessage<'_>] = if with.is_some() { &rights } else { &[] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(&bytes)], control, flags, None).map(drop)
}

/// Receives one. `Ok(None)`: the other side is gone.
pub fn receive(socket: impl AsFd) -> Result<Option<(Report, Option<OwnedFd>)>, Errno> {
    let mut bytes = [0u8; 5];
    let mut space = cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let number = socket.as_fd().as_raw_fd();
    let (length, descriptor) = loop {
        match recvmsg::<()>(number, &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            // The other side is gone and has not read all: said once, before what it has sent (`net/unix/af_unix.c`).
            Err(Errno::EINTR | Errno::ECONNRESET) => continue,
            Err(errno) => return Err(errno),
            Ok(message) => {
                let mut descriptor = None;
                for part in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(numbers) = part {
                        descriptor = numbers.into_iter().find_map(crate::sys::process::adopt);
                    }
                }
                break (message.bytes, descriptor);
            }
        }
    };
    match bytes.get(..length).and_then(Report::decode) {
        Some(report) => Ok(Some((report, descriptor))),
        None if length == 0 => Ok(None),
        None => Err(Errno::EBADMSG),
    }
}

/// Waits for this word of the other side; when anything else comes, or it is gone, it has said why.
pub fn wait_for(socket: impl AsFd, wanted: Report) -> Result<(), Error> {
    match receive(socket).map_err(call("recvmsg"))? {
        Some((report, _)) if report == wanted => Ok(()),
        _ => Err(Error::Said(OURS)),
    }
}

/// An error of [`send`]: whoever is gone has said why.
pub fn untold(what: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| match errno {
        Errno::EPIPE | Errno::ECONNRESET => Error::Said(OURS),
        errno => call(what)(errno),
    }
}

/// Waits for [`Report::Run`] and takes over what session modules of PAM changed, which comes before it.
pub fn wait_for_run(
    socket: &OwnedFd,
    limits: &mut Limits,
    umask: &mut Umask,
    environment: &mut Environment,
) -> Result<(), Error> {
    loop {
        let packet = talk::packet(socket, MsgFlags::empty()).map_err(call("recv"))?.ok_or(Error::Said(OURS))?;
        if Report::decode(&packet) == Some(Report::Run) {
            return Ok(());
        }
        match Word::decode(&packet) {
            Some(Word::Limit(resource, is_hard, value)) => limits.take_over(resource, is_hard, value)?,
            Some(Word::Umask(mask)) if !umask.fixed => umask.mask = mask & 0o777,
            Some(Word::Variable(entry)) => environment.offer(&entry),
            Some(Word::Umask(_)) => {}
            _ => return Err(Error::Said(OURS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_also_of_who_did_not_listen() {
        let (guard, relay) = pair().unwrap();
        send(&relay, Report::Go, None).unwrap();
        send(&guard, Report::Exited(125), None).unwrap();
        drop(guard);
        assert!(matches!(receive(&relay), Ok(Some((Report::Exited(125), None)))));
        assert!(matches!(receive(&relay), Ok(None)));
    }

    #[test]
    fn every_report_comes_back() {
        let all =
            [Report::Started, Report::Stopped(20), Report::WantsTerminal, Report::Exited(42), Report::Signaled(9)];
        let ending = Cause::EVERY.map(Report::Ending);
        for report in all
            .into_iter()
            .chain([
                Report::Trace(1 << 21),
                Report::Go,
                Report::Terminal,
                Report::Run,
                Report::Lingers,
                Report::Abandon,
                Report::Plugged(77),
            ])
            .chain(ending)
        {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        assert_eq!(Report::decode(&[14, 0, 0, 0, 0]), None);
        assert_eq!(Report::decode(&[9, 7, 0, 0, 0]), None);
        assert_eq!(Report::decode(&[1, 0]), None);
        assert_eq!(Report::decode(&[6, 0, 0, 0, 0, 0]), None);
    }

    /// PID 1 may say what it likes: an exit code comes of it, or nothing.
    #[test]
    fn whatever_is_said_is_an_exit_code_or_nothing() {
        let numbers = [0, 1, -1, 64, 65, 127, 128, 255, 256, i32::MAX, i32::MIN, i32::MIN + 1];
        for (tag, number) in (0..=255).flat_map(|tag| numbers.map(|number| (tag, number))) {
            let [a, b, c, d] = i32::to_ne_bytes(number);
            if let Some(report) = Report::decode(&[tag, a, b, c, d]) {
                assert!(report.code().is_none_or(|code| (0..=192).contains(&code) || code <= 255 && tag == 4));
                assert_eq!(Report::decode(&report.encode()), Some(report));
            }
        }
    }
}
