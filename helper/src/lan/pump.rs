//! The pump: it carries frames between a session's link and passt(1), which would have no way in. The user's process,
//! outside the session, without a capability; nobody can look into it, and of what the session sends it passes on what
//! the session may reach. Without it the session has no link any more, and nothing else changes.

use super::Place;
use super::links::{Links, mac};
use super::reach::{ARP, HEADER, Reach};
use crate::caller::Person;
use crate::error::{Error, OURS, call};
use crate::limits::Limits;
use crate::seccomp;
use crate::supervise::wire::{self, Report};
use crate::sys::process::{self, Fork};
use crate::sys::{Errno, capability, terminal};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, getppid, pipe2, read, setsid, write};
use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The longest frame: an IPv4 packet, and its header.
const LONGEST: usize = 65_535 + HEADER;
/// What stands before each frame: its length (QEMU's `-netdev stream`).
const PREFIX: usize = 4;
/// As much as is read of passt in one go.
const BATCH: usize = 256 * 1024;
/// As many frames of the session as are passed on before the other side has its turn.
const AT_ONCE: usize = 64;
/// The kernel gives what is sent over a stream to its reader in pieces of at least this (`net/unix/af_unix.c`).
const IN_ONE_PIECE: usize = 32 * 1024;

/// The exit code of a pump that has failed and has nowhere to say so.
pub const SILENT: i32 = 1;

/// What is executed, and its end of the line.
#[derive(Debug)]
pub struct Stack {
    pub tool: OwnedFd,
    pub words: Vec<String>,
    pub socket: OwnedFd,
}

/// What the pump holds from the beginning.
#[derive(Debug)]
pub struct Pump {
    pub socket: OwnedFd,
    pub guard: OwnedFd,
    pub guards_pid: i32,
}

impl Pump {
    /// In a process of its own: gives root up, starts passt, and pumps as long as both sides are there.
    pub fn become_and_run(
        self,
        stack: Stack,
        reach: Reach,
        place: &Place,
        person: &Person,
        groups: &[u32],
        limits: &Limits,
    ) -> ! {
        let done = self.begin(stack, person, groups, limits).and_then(|complaints| self.greet(place, complaints));
        match done.and_then(|()| self.run(reach)) {
            Ok(()) => process::exit_now(0),
            Err(error) => {
                error.say();
                process::exit_now(error.code())
            }
        }
    }

    /// Gives up what is root's and the caller's, and starts passt; what it complains of can be read.
    fn begin(&self, stack: Stack, person: &Person, groups: &[u32], limits: &Limits) -> Result<OwnedFd, Error> {
        setsid().map_err(call("setsid"))?;
        let (complaints, stderr) = pipe2(OFlag::O_CLOEXEC).map_err(call("pipe"))?;
        let kept = [&self.socket, &self.guard, &stack.tool, &stack.socket, &complaints, &stderr];
        process::close_all_but(kept.map(AsRawFd::as_raw_fd).to_vec()).map_err(call("close_range"))?;
        for number in 0..2 {
            terminal::replace_standard(&null()?, number).map_err(call("dup2 /dev/null"))?;
        }
        person.become_again(Some(groups))?;
        capability::set_no_new_privs().map_err(call("prctl(PR_SET_NO_NEW_PRIVS)"))?;
        die_with(self.guards_pid)?;
        chdir("/").map_err(call("chdir /"))?;
        umask(Mode::from_bits_truncate(0o077));
        SigSet::empty().thread_set_mask().map_err(call("sigprocmask"))?;
        let own = std::process::id() as i32;
        match process::fork().map_err(call("fork"))? {
            Fork::Parent(_) => Ok(complaints),
            Fork::Child => {
                // Its word is the pump's to say, as passt's is: one line is enough.
                if terminal::replace_standard(&stderr, 2).is_ok() {
                    let error = die_with(own).and_then(|()| stack.exec(limits));
                    error.unwrap_or_else(|error| error).say();
                }
                process::exit_now(OURS)
            }
        }
    }

    /// Asks passt for the gateway's MAC; its answer says that all of it works.
    fn greet(&self, place: &Place, complaints: OwnedFd) -> Result<(), Error> {
        fcntl(&self.socket, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).map_err(call("fcntl(O_NONBLOCK)"))?;
        let mut question = Vec::new();
        enclose(&mut question, &who_has_the_gateway(place));
        let (mut frames, mut answered) = (Frames::default(), false);
        let mut alive = send(self.socket.as_raw_fd(), &question, MsgFlags::MSG_NOSIGNAL).is_ok();
        while alive && !answered {
            let mut waits = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.guard.as_fd(), PollFlags::empty()),
            ];
            let _ = poll(&mut waits, PollTimeout::NONE);
            if waits[1].revents().is_some_and(|events| !events.is_empty()) {
                return Err(Error::Said(OURS)); // the guard is gone
            }
            alive = frames.fill(&self.socket).is_ok();
            alive &= frames.each(|frame| answered |= frame.get(12..HEADER) == Some(&ARP.to_be_bytes()));
        }
        if !answered {
            return Err(Error::NoNetwork(format!("passt has ended: {}", said(complaints))));
        }
        Ok(())
    }

    fn run(self, mut reach: Reach) -> Result<(), Error> {
        let mut links = Links::open().map_err(call("socket(NETLINK_ROUTE)"))?;
        let (mut incoming, mut outgoing) = (Frames::default(), Outgoing::new());
        let link = match wire::receive(&self.guard) {
            Ok(Some((Report::Go, Some(link)))) => link,
            Ok(_) => return Err(Error::Said(OURS)), // the guard is gone, and has said why
            Err(errno) => return Err(call("take the session's link")(errno)),
        };
        terminal::replace_standard(&null()?, 2).map_err(call("dup2 /dev/null"))?;
        let ready = seccomp::only_pump().is_ok() && wire::send(&self.guard, Report::Go, None).is_ok();
        if !ready {
            process::exit_now(SILENT);
        }
        // From here on nothing fails but the network itself.
        loop {
            let (mut of_link, mut of_socket) = (PollFlags::POLLIN, PollFlags::POLLIN);
            if !outgoing.is_sent() {
                // passt takes no more at the moment: what the session sends waits in its link.
                (of_link, of_socket) = (PollFlags::empty(), PollFlags::POLLIN | PollFlags::POLLOUT);
            }
            let mut waits = [
                PollFd::new(link.as_fd(), of_link),
                PollFd::new(self.socket.as_fd(), of_socket),
                PollFd::new(self.guard.as_fd(), PollFlags::POLLIN),
            ];
            let _ = poll(&mut waits, PollTimeout::NONE);
            let events = |at: usize| waits[at].revents().unwrap_or(PollFlags::empty());
            if !events(2).is_empty() {
                return Ok(()); // the guard has nothing more to say than that it is gone
            }
            let mut over = events(0).intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
            if events(0).contains(PollFlags::POLLIN) || events(1).contains(PollFlags::POLLOUT) {
                over |= outgoing.pass(&link, &self.socket, |frame| reach.lets_out(frame, &mut links)).is_err();
            }
            if !(events(1) & !PollFlags::POLLOUT).is_empty() {
                over |= incoming.fill(&self.socket).is_err();
                // One that the link does not take is lost, as on any wire; but the link itself may be gone.
                let mut gone = false;
                over |= !incoming.each(|frame| gone |= write(&link, frame) == Err(Errno::EBADFD));
                over |= gone;
            }
            if over {
                return Ok(());
            }
        }
    }
}

impl Stack {
    /// Becomes passt; an error otherwise.
    fn exec(self, limits: &Limits) -> Result<Error, Error> {
        let Self { tool, mut words, socket } = self;
        limits.set()?;
        // Nobody listens to its complaints for ever.
        let _ = process::set_ignored(libc::SIGPIPE, true);
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty())).map_err(call("fcntl(F_SETFD)"))?;
        words.extend(["-F".to_owned(), socket.as_raw_fd().to_string()]);
        let words = words.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
        let words = words.map_err(|_| call("execveat passt")(Errno::EINVAL))?;
        Ok(call("execveat passt")(process::fexecve(&tool, &words, &[])))
    }
}

fn null() -> Result<OwnedFd, Error> {
    open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(call("open /dev/null"))
}

/// This process ends with its parent, stopped or not; an error where that is gone already.
fn die_with(parent: i32) -> Result<(), Error> {
    capability::set_parent_death_signal(libc::SIGKILL).map_err(call("prctl(PR_SET_PDEATHSIG)"))?;
    if getppid().as_raw() == parent { Ok(()) } else { Err(Error::Said(OURS)) }
}

/// What passt said before its end, as a line. It also says where it could not reach the system log.
fn said(complaints: OwnedFd) -> String {
    let mut text = Vec::new();
    let _ = std::fs::File::from(complaints).take(4096).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Failed to send "));
    let line = lines.next().unwrap_or("it did not say why");
    line.strip_prefix("caplet: ").unwrap_or(line).to_owned()
}

/// An ARP request (RFC 826) for the gateway, to everybody.
fn who_has_the_gateway(place: &Place) -> Vec<u8> {
    let own = mac(place.address);
    let head = [&[0xff; 6][..], &own, &ARP.to_be_bytes()].concat();
    let request = [0, 1, 8, 0, 6, 4, 0, 1];
    [&head[..], &request, &own, &place.address.octets(), &[0; 6], &place.gateway.octets()].concat()
}

fn enclose(buffer: &mut Vec<u8>, frame: &[u8]) {
    buffer.extend_from_slice(&(frame.len() as u32).to_be_bytes());
    buffer.extend_from_slice(frame);
}

/// The other side is gone, or talks nonsense.
#[derive(Debug, PartialEq, Eq)]
struct Gone;

/// Frames on their way to the session, as they come.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    length: usize,
}

impl Frames {
    fn fill(&mut self, socket: &OwnedFd) -> Result<(), Gone> {
        self.bytes.resize(BATCH + PREFIX + LONGEST, 0);
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        match recv(socket.as_raw_fd(), room, MsgFlags::empty()) {
            Ok(0) => Err(Gone),
            Ok(length) => {
                self.length += length;
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(_) => Err(Gone),
        }
    }

    /// Hands on every whole one, and keeps the rest; whether it all makes sense.
    fn each(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        let mut rest = self.bytes.get(..self.length).unwrap_or_default();
        while let Some((prefix, behind)) = rest.split_first_chunk::<PREFIX>() {
            let length = u32::from_be_bytes(*prefix) as usize;
            if !(HEADER..=LONGEST).contains(&length) {
                return false;
            }
            let Some(frame) = behind.get(..length) else { break };
            take(frame);
            rest = behind.get(length..).unwrap_or_default();
        }
        let (end, left) = (self.length, rest.len());
        self.bytes.copy_within(end - left..end, 0);
        self.length = left;
        true
    }
}

/// The frame that is on its way to passt.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(PREFIX + LONGEST), sent: 0 }
    }

    fn is_sent(&self) -> bool {
        self.bytes.len() == self.sent
    }

    /// Passes on what the session sends and may go, until there is no more or passt takes no more; not for ever, since
    /// the other side waits. One frame at a time: what passt reads of one must be all of it (before its version of 2024
    /// it finds no beginning again).
    fn pass(&mut self, link: &OwnedFd, socket: &OwnedFd, mut may_go: impl FnMut(&[u8]) -> bool) -> Result<(), Gone> {
        for _ in 0..AT_ONCE {
            if self.is_sent() && !self.read(link, &mut may_go)? {
                return Ok(());
            }
            let rest = self.bytes.get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                continue; // one that may not go
            }
            match send(socket.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Reads the next one; whether there was any.
    fn read(&mut self, link: &OwnedFd, may_go: &mut impl FnMut(&[u8]) -> bool) -> Result<bool, Gone> {
        self.sent = 0;
        self.bytes.resize(PREFIX + LONGEST, 0);
        let length = match read(link, self.bytes.get_mut(PREFIX..).unwrap_or_default()) {
            Ok(0) => return Err(Gone),
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => {
                self.bytes.clear();
                return Ok(false);
            }
            Err(_) => return Err(Gone),
        };
        self.bytes.truncate(PREFIX + length);
        let frame = self.bytes.get(PREFIX..).unwrap_or_default();
        if length > IN_ONE_PIECE || !may_go(frame) {
            self.bytes.clear();
        } else if let Some(prefix) = self.bytes.first_chunk_mut::<PREFIX>() {
            *prefix = (length as u32).to_be_bytes();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Frames {
        Frames { bytes: bytes.to_vec(), length: bytes.len() }
    }

    #[test]
    fn frames_come_whole_and_in_order() {
        let mut stream = Vec::new();
        enclose(&mut stream, &[1; HEADER]);
        enclose(&mut stream, &[2; 60]);
        let whole = stream.len();
        stream.extend_from_slice(&[0, 0, 0, 20, 3, 3]);
        let mut frames = frames(&stream);
        let mut seen = Vec::new();
        assert!(frames.each(|frame| seen.push((frame.len(), frame[0]))));
        assert_eq!(seen, [(HEADER, 1), (60, 2)]);
        assert_eq!(&frames.bytes[..frames.length], &stream[whole..]);
        // The rest of the third, and the beginning of a prefix.
        frames.bytes.resize(frames.length, 0);
        frames.bytes.extend_from_slice(&[[3; 18].as_slice(), &[0, 0]].concat());
        frames.length = frames.bytes.len();
        assert!(frames.each(|frame| seen.push((frame.len(), frame[0]))));
        assert_eq!((seen.last(), frames.length), (Some(&(20, 3)), 2));
    }

    #[test]
    fn nonsense_is_no_frame() {
        for length in [0u32, 13, LONGEST as u32 + 1, u32::MAX] {
            assert!(!frames(&[&length.to_be_bytes()[..], &[0; 64]].concat()).each(|_| ()), "{length}");
        }
        let mut longest = Vec::new();
        enclose(&mut longest, &vec![7; LONGEST]);
        let mut count = 0;
        assert!(frames(&longest).each(|_| count += 1));
        assert_eq!(count, 1);
    }

    #[test]
    fn the_sessions_frames_go_out_as_far_as_they_may() {
        let (link, session) = wire::pair().unwrap();
        let (near, far) = nix::sys::socket::socketpair(
            nix::sys::socket::AddressFamily::Unix,
            nix::sys::socket::SockType::Stream,
            None,
            nix::sys::socket::SockFlag::empty(),
        )
        .unwrap();
        fcntl(&link, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        for number in [1u8, 2, 3] {
            write(&session, &[number; 20]).unwrap();
        }
        write(&session, &[4; IN_ONE_PIECE + 1]).unwrap();
        let mut outgoing = Outgoing::new();
        assert_eq!(outgoing.pass(&link, &near, |frame| frame[0] != 2), Ok(()));
        assert!(outgoing.is_sent());
        let mut incoming = Frames::default();
        assert_eq!(incoming.fill(&far), Ok(()));
        let mut seen = Vec::new();
        assert!(incoming.each(|frame| seen.push(frame[0])));
        assert_eq!(seen, [1, 3]);
        drop(session);
        assert_eq!(outgoing.pass(&link, &near, |_| true), Err(Gone));
        drop(near);
        assert_eq!(incoming.fill(&far), Err(Gone));
    }
}
