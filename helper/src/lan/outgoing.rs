//! A way out for one session alone (`kind = "outgoing"`): its `eth0` is a TAP link whose frames passt(1) turns into sockets
//! of the user's, outside the session and without a privilege. Nothing of the machine is changed.

use super::links::Links;
use super::pump::{Pump, SILENT, Stack};
use super::reach::Reach;
use super::{At, Place, links};
use crate::caller::Person;
use crate::error::{Error, OURS, call};
use crate::limits::Limits;
use crate::supervise::wire::{self, Report};
use crate::sys::process::{self, Change, Fork};
use crate::sys::{Errno, tun};
use crate::trusted;
use caplet_policy::document::Lan;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::stat::{Mode, fstat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The program that answers the session's frames. Root's own file, at this place alone.
const TOOL: &str = "/usr/bin/passt";
const TUN: &str = "/dev/net/tun";
/// Major and minor number of [`TUN`] (`devices.txt`).
const TUN_DEVICE: (u64, u64) = (10, 200);
/// What may wait in one direction between the session and passt. It sends what the other side does not take fast enough
/// again, much later: with the usual 208 KiB a download has 20 Mbit/s.
const WAITING: usize = 8 << 20;
/// How long a process that is gone takes to end: so often, so many milliseconds.
const MOMENT: (u32, u16) = (100, 10);
/// How long passt has to answer its first frame.
const PATIENCE: Duration = Duration::from_secs(10);

/// All that a machine needs for it is there.
#[derive(Debug)]
pub struct Outgoing {
    lan: Lan,
    tool: OwnedFd,
}

/// What answers a session's frames, as the guard holds it. It ends with this value, or with the guard.
#[derive(Debug)]
pub struct Running {
    place: Place,
    line: OwnedFd,
    pump: (i32, OwnedFd),
}

impl Outgoing {
    /// Refuses before anything of a session is built.
    pub fn prepare(lan: &Lan) -> Result<Self, Error> {
        let refused = |why: String| Error::NoNetwork(format!("network \"{}\": {why}", lan.name));
        let tool = trusted::resolve(Path::new(TOOL)).map_err(|distrust| match distrust {
            trusted::Distrust::Unopened(Errno::ENOENT) => {
                refused(format!("{TOOL} is not there; root installs the package passt"))
            }
            trusted::Distrust::Unopened(errno) => refused(format!("{TOOL} cannot be opened: {}", errno.desc())),
            trusted::Distrust::Writable => refused(format!("{TOOL} is not root's alone to write, and so not executed")),
            trusted::Distrust::Kind => refused(format!("{TOOL} is no program")),
        })?;
        open_tun().map_err(|errno| {
            refused(format!("{TUN} cannot be opened ({}): the kernel's tun is needed", errno.desc()))
        })?;
        Ok(Self { lan: lan.clone(), tool })
    }

    /// Starts it as the user, outside of all that is the session's. Before the guard has namespaces of its own.
    pub fn start(self, person: &Person, groups: &[u32], limits: &Limits) -> Result<Running, Error> {
        let lan = &self.lan;
        let place = place(lan);
        let (ours, theirs) = wire::pair()?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).map_err(call("socketpair"))?;
        for end in [&near, &far] {
            // A container's root may not go above the machine's limit, and then has what it allows.
            let _ =
                setsockopt(end, sockopt::SndBufForce, &WAITING).or_else(|_| setsockopt(end, sockopt::SndBuf, &WAITING));
        }
        let stack = Stack { tool: self.tool, words: words(lan, &place), socket: far };
        let guard = std::process::id() as i32;
        match process::fork().map_err(call("fork"))? {
            Fork::Child => {
                let pump = Pump { socket: near, guard: theirs, guards_pid: guard };
                let reach = Reach::of(lan);
                pump.become_and_run(stack, reach, &place, person, groups, limits)
            }
            Fork::Parent(pid) => {
                let pidfd = process::pidfd_open(pid).map_err(call("pidfd_open"))?;
                Ok(Running { place, line: ours, pump: (pid, pidfd) })
            }
        }
    }
}

impl Running {
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The session's link is made: its frames may go.
    pub fn take(&self, tap: &OwnedFd) -> Result<(), Error> {
        wire::send(&self.line, Report::Go, Some(tap)).map_err(|_| self.ended())
    }

    /// Until passt answers. The user may stop it, and no longer than this; gives up when the relay is gone.
    pub fn wait(&self, relay: BorrowedFd<'_>) -> Result<(), Error> {
        let mut waits = [PollFd::new(self.line.as_fd(), PollFlags::POLLIN), PollFd::new(relay, PollFlags::POLLHUP)];
        let until = process::boot_time() + PATIENCE;
        loop {
            let left = until.saturating_sub(process::boot_time()).as_millis() as i32;
            match poll(&mut waits, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
                Ok(0) => return Err(Error::NoNetwork(format!("{TOOL} does not answer"))),
                Ok(_) if waits[1].revents().is_some_and(|events| !events.is_empty()) => return Err(Error::Said(OURS)),
                Ok(_) => return wire::wait_for(&self.line, Report::Go).map_err(|_| self.ended()),
                Err(_) => {}
            }
        }
    }

    /// A pump that has ended by itself has said why. It is not waited for long: its user can stop it.
    fn ended(&self) -> Error {
        for _ in 0..MOMENT.0 {
            match process::wait(Some(self.pump.0), libc::WEXITED | libc::WNOHANG) {
                Ok(Some((_, Change::Signaled(signal)))) => {
                    return Error::NotAsGranted(format!("signal {signal} ended what answers its network"));
                }
                Ok(Some((_, Change::Exited(SILENT)))) => {
                    return Error::NotAsGranted("what answers its network could not be closed in".into());
                }
                Ok(Some(_)) => return Error::Said(OURS),
                Ok(None) => _ = poll(&mut [], MOMENT.1),
                Err(_) => break,
            }
        }
        Error::NotAsGranted("what answers its network does not hear".into())
    }
}

impl Drop for Running {
    /// Stopped or not; passt dies with it (PR_SET_PDEATHSIG), and its link with both.
    fn drop(&mut self) {
        let _ = process::pidfd_signal(&self.pump.1, libc::SIGKILL);
    }
}

fn place(lan: &Lan) -> Place {
    let (resolver, address) = lan.outgoing_addresses();
    Place { address, gateway: lan.gateway, subnet: lan.subnet, subnet6: lan.subnet6, at: At::Stack { resolver } }
}

/// passt's command line, but for the number of its socket. It listens on no port of the machine's, hands out no addresses
/// and, unless the policy says so, maps no address to the machine's loopback.
fn words(lan: &Lan, place: &Place) -> Vec<String> {
    let fixed = ["passt", "-f", "-q", "-t", "none", "-u", "none", "--no-dhcp", "--no-dhcpv6", "--no-ra"];
    let mut words: Vec<String> = fixed.map(str::to_owned).to_vec();
    let mut more = |name: &str, value: String| words.extend([name.to_owned(), value]);
    more("-n", lan.subnet.prefix.to_string());
    more("-a", place.address.to_string());
    more("-g", place.gateway.to_string());
    if let (At::Stack { resolver }, true) = (place.at, lan.dns.is_empty()) {
        more("--dns-forward", resolver.to_string());
    }
    match lan.subnet6 {
        Some(subnet) => {
            more("-a", subnet.member(place.address).to_string());
            more("-g", subnet.gateway.to_string());
        }
        None => words.push("-4".into()),
    }
    if !lan.host_access {
        words.push("--no-map-gw".into());
    }
    words
}

fn open_tun() -> Result<OwnedFd, Errno> {
    let file = open(TUN, OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&file)?;
    let device = (libc::major(stat.st_rdev).into(), libc::minor(stat.st_rdev).into());
    if stat.st_mode & libc::S_IFMT == libc::S_IFCHR && device == TUN_DEVICE { Ok(file) } else { Err(Errno::ENODEV) }
}

/// Makes the link in the session's network namespace, in which this process is.
pub fn make_link(place: &Place) -> Result<OwnedFd, Error> {
    let tap = open_tun().map_err(call(format!("open {TUN}")))?;
    tun::make_tap(&tap, links::INSIDE).map_err(call("ioctl(TUNSETIFF)"))?;
    let dressed = Links::open().and_then(|mut links| links.dress(place.address));
    dressed.map_err(call("configure eth0"))?;
    Ok(tap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use caplet_policy::document::{Document, Source};

    #[test]
    fn nothing_comes_in_and_the_loopback_is_the_policys_to_open() {
        let of = |keys: &str| {
            let text = format!("[network.out]\nkind = \"outgoing\"\n{keys}");
            let document = Document::read(&[Source { path: "p".into(), text }]).unwrap();
            let lan = document.networks[0].clone();
            words(&lan, &place(&lan)).join(" ")
        };
        let plain = of("");
        assert!(plain.starts_with("passt -f -q -t none -u none --no-dhcp --no-dhcpv6 --no-ra "), "{plain}");
        let rest = "-n 24 -a 10.173.0.3 -g 10.173.0.1 --dns-forward 10.173.0.2 -4 --no-map-gw";
        assert!(plain.ends_with(rest), "{plain}");
        let other = of("host_access = true\ndns = [\"192.0.2.53\"]\nsubnet6 = \"fd00::/64\"");
        assert!(!other.contains("--no-map-gw") && !other.contains("-4") && !other.contains("--dns-forward"), "{other}");
        assert!(other.ends_with("-a fd00::aad:3 -g fd00::1"), "{other}");
    }
}
