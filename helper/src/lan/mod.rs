//! A network that sessions share: a bridge with a port for each, made when the first comes, removed when the last has
//! gone. One lock a network: who makes or removes it holds it alone, who starts a session in it with others.

mod links;
mod netlink;
pub mod outgoing;
mod pump;
mod reach;
mod rules;

use crate::error::{Error, call};
use crate::registry;
use crate::sys::{Errno, process};
use caplet_policy::document::{Kind, Lan, Subnet, Subnet6};
use links::Links;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use outgoing::Outgoing;
use rules::Tables;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The verb of a watcher whose session is over: `unplug NAME [PORT]`.
pub const VERB: &str = "unplug";
/// The record of what watches the ports of all networks: no network can have this name.
const WATCH: &str = "WATCH";
/// How long a network's lock, or the kernel's taking down of a link, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The link that is a network's bridge.
fn bridge(lan: &Lan) -> String {
    lan.bridge.clone().unwrap_or_else(|| own_bridge(&lan.name))
}

fn own_bridge(network: &str) -> String {
    format!("cplt-{network}")
}

/// A network that is ready for one more: nobody removes it as long as this is held.
#[derive(Debug)]
pub struct Plug {
    lan: Lan,
    lock: File,
    bridge: u32,
}

/// A session's place in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    pub subnet: Subnet,
    pub subnet6: Option<Subnet6>,
    pub at: At,
}

/// What is at the other end of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The port of that number, of a bridge.
    Port(u32),
    /// passt(1), which has that address for the machine's name server.
    Stack { resolver: Ipv4Addr },
}

/// Where a session's link will lead.
#[derive(Debug)]
pub enum Uplink {
    /// Into a network that others are in.
    Shared(Plug),
    /// Out, for this session alone.
    Alone(Outgoing),
}

impl Uplink {
    /// Refuses before anything of a session is built.
    pub fn prepare(lan: &Lan) -> Result<Self, Error> {
        match lan.kind {
            Kind::Bridge => Plug::prepare(lan).map(Self::Shared),
            Kind::Outgoing => Outgoing::prepare(lan).map(Self::Alone),
        }
    }

    /// The network that is to be taken down with its last session.
    pub fn shared(&self) -> Option<&str> {
        match self {
            Self::Shared(plug) => Some(&plug.lan.name),
            Self::Alone(_) => None,
        }
    }
}

impl Plug {
    /// Makes what is missing of it. Refuses before anything of a session is built.
    pub fn prepare(lan: &Lan) -> Result<Self, Error> {
        let script = rules::script(lan);
        let mut links = Links::open().map_err(call("socket(NETLINK_ROUTE)"))?;
        let mut tables = Tables::open()?;
        let mut alone = false;
        for _ in 0..8 {
            let mut lock = locked(&lan.name, alone)?;
            let mut made = String::new();
            let read = lock.rewind().and_then(|()| lock.read_to_string(&mut made));
            read.map_err(|e| crate::hygiene::io("read a network's record", &e))?;
            let found = links.find(&bridge(lan)).map_err(call("look a bridge up"))?;
            if let (true, Some((index, kind)), true) = (made == script, &found, tables.are_there(lan)?) {
                if kind == "bridge" {
                    return Ok(Self { lan: lan.clone(), bridge: *index, lock });
                }
            }
            if !alone {
                alone = true; // and look again: somebody else may have been first
                continue;
            }
            if let Err(error) = make(lan, &script, &made, found, &mut links) {
                let _ = remove_if_empty(&lan.name, lock);
                return Err(error);
            }
            let put = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(script.as_bytes()));
            put.map_err(|e| crate::hygiene::io("write a network's record", &e))?;
            alone = false;
        }
        Err(Error::NoNetwork(format!("network \"{}\" is gone again as soon as it is made", lan.name)))
    }

    /// Gives the process's network a link of its own into this one: the user's usual address, or the next free one.
    pub fn connect(self, pid: i32, uid: u32) -> Result<Place, Error> {
        let Lan { name, subnet, gateway, subnet6, antispoof, .. } = &self.lan;
        let mut links = Links::open().map_err(call("socket(NETLINK_ROUTE)"))?;
        let gateways = |address: &Ipv4Addr| subnet6.is_some_and(|six| six.member(*address) == six.gateway);
        for address in candidates(*subnet, *gateway, uid).filter(|address| !gateways(address)) {
            let port = match links.make_port(self.bridge, &self.lan, address, pid) {
                Err(Errno::EEXIST) => continue,
                Err(Errno::EXFULL) => {
                    return Err(Error::NoNetwork(format!("network \"{name}\" has as many members as a bridge takes")));
                }
                made => made.map_err(call(format!("make a link into network \"{name}\"")))?,
            };
            if *antispoof {
                let admitted =
                    Tables::open().and_then(|mut t| t.admit(address, *subnet6).map_err(call("admit a member")));
                admitted.inspect_err(|_| {
                    let _ = links.remove_port(port);
                })?;
            }
            // For whoever has inherited the descriptor too.
            let _ = process::unlock(&self.lock);
            return Ok(Place { address, gateway: *gateway, subnet: *subnet, subnet6: *subnet6, at: At::Port(port) });
        }
        Err(Error::NoNetwork(format!("network \"{name}\" has no free address in {subnet}")))
    }
}

impl Place {
    /// In the session's network namespace; the descriptor of a link that is made here.
    pub fn settle(&self) -> Result<Option<OwnedFd>, Error> {
        let tap = match self.at {
            At::Port(_) => None,
            At::Stack { .. } => Some(outgoing::make_link(self)?),
        };
        let settled = Links::open().and_then(|mut links| links.settle(self));
        settled.map_err(call("configure eth0")).map(|()| tap)
    }
}

/// Everything that `nft` and the bridge need, checked and made.
fn make(lan: &Lan, script: &str, before: &str, found: Option<(u32, String)>, links: &mut Links) -> Result<(), Error> {
    let refused = |why: String| Err(Error::NoNetwork(format!("network \"{}\": {why}", lan.name)));
    let name = bridge(lan);
    if lan.nat && std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|on| on.trim() == "0") {
        return refused(
            "nat needs net.ipv4.ip_forward = 1 on this machine; root: sysctl -w net.ipv4.ip_forward=1".into(),
        );
    }
    if lan.subnet6.is_some() {
        let setting = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/all/{name}"));
        if setting("disable_ipv6").map_or(true, |off| off.trim() == "1") {
            return refused("it has a subnet6, and IPv6 is off on this machine".into());
        }
        if lan.nat && setting("forwarding").is_ok_and(|on| on.trim() == "0") {
            let how = "sysctl -w net.ipv6.conf.all.forwarding=1";
            return refused(format!("nat with a subnet6 needs IPv6 forwarding on this machine; root: {how}"));
        }
    }
    match (&found, &lan.bridge) {
        (Some((_, kind)), _) if kind != "bridge" => return refused(format!("{name} is a link, and no bridge")),
        (None, Some(_)) => return refused(format!("there is no bridge {name}: root makes it, or leaves the key out")),
        _ => {}
    }
    // The first two lines say which addresses it has, and what its ports are; that can change only while nobody uses
    // them.
    let identity = |text: &str| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    let other = identity(before) != identity(script);
    let subnet_before =
        before.lines().next().and_then(|line| subnet_of(line.trim_start_matches("# ").split(' ').next()?));
    let in_use = |subnet: Subnet| ports().any(|(_, address)| subnet.has_host(address));
    if other && (in_use(lan.subnet) || subnet_before.is_some_and(in_use)) {
        return refused("the policy has changed what it is while sessions are in it; end them first".into());
    }
    if found.is_some() && other && lan.bridge.is_none() {
        links.remove(&name).map_err(call("remove a bridge"))?;
    }
    let fresh = lan.bridge.is_none() && (found.is_none() || other);
    let routes = || std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    if let Some(route) = fresh.then(|| lan.subnet.route_into(&routes(), &name)).flatten() {
        return refused(format!("its subnet {} overlaps this machine's route by {route}", lan.subnet));
    }
    // The rules first: no bridge is ever without them.
    if lan.bridge.is_none() {
        rules::load(script)?;
    }
    watch(lan.antispoof && lan.subnet6.is_some())?;
    if fresh {
        links.make_bridge(&name, lan).map_err(call(format!("make the bridge {name}")))?;
    }
    Ok(())
}

/// Has all ports watched that are to be, with those admitted that are there. Made and removed under a lock of its own.
fn watch(ipv6: bool) -> Result<(), Error> {
    let _alone = locked(WATCH, true)?;
    let mut tables = Tables::open()?;
    if tables.watch_is_there(ipv6)? {
        return Ok(());
    }
    // An older nft may not know what IPv6 needs, which then only such a network misses.
    rules::load(&rules::antispoof(true)).or_else(|error| match ipv6 {
        true => Err(error),
        false => rules::load(&rules::antispoof(false)),
    })?;
    let known = sixths()?;
    let of = |address: Ipv4Addr| known.iter().find(|(subnet, _)| subnet.has_host(address)).map(|(_, sixth)| *sixth);
    ports()
        .filter(|(name, _)| name.starts_with(links::WATCHED))
        .try_for_each(|(_, address)| tables.admit(address, of(address)).map_err(call("admit a member")))
}

/// The networks that have IPv6 too, as the first lines of their records say.
fn sixths() -> Result<Vec<(Subnet, Subnet6)>, Error> {
    let folder = registry::folder()?;
    let read = |name: &String| {
        let mut text = String::new();
        File::from(open(&folder, name, OFlag::empty()).ok()?).read_to_string(&mut text).ok()?;
        let fields: Vec<&str> = text.lines().next()?.trim_start_matches("# ").split(' ').collect();
        let [subnet, _, _, sixth, gateway] = fields[..] else { return None };
        let (address, prefix) = sixth.split_once('/')?;
        let sixth =
            Subnet6 { address: address.parse().ok()?, prefix: prefix.parse().ok()?, gateway: gateway.parse().ok()? };
        Some((subnet_of(subnet)?, sixth))
    };
    Ok(registry::networks(&folder)?.iter().filter_map(read).collect())
}

fn subnet_of(text: &str) -> Option<Subnet> {
    let (address, prefix) = text.split_once('/')?;
    Some(Subnet { address: address.parse().ok()?, prefix: prefix.parse().ok()? })
}

/// With the last network the watch goes too.
fn unwatch() -> Result<(), Error> {
    let alone = locked(WATCH, true)?;
    let folder = registry::folder()?;
    if registry::networks(&folder)?.iter().any(|name| name != WATCH) || ports().next().is_some() {
        return Ok(());
    }
    Tables::open()?.remove_watch().map_err(call("remove a table"))?;
    let _ = unlinkat(folder.as_fd(), record(WATCH).as_str(), UnlinkatFlags::NoRemoveDir);
    drop(alone);
    Ok(())
}

/// The addresses of a subnet, a user's own first, then those after it; every one but the gateway once.
fn candidates(subnet: Subnet, gateway: Ipv4Addr, uid: u32) -> impl Iterator<Item = Ipv4Addr> {
    // Knuth's multiplicative hash: neighbours in uid are none in address.
    let (first, hosts) = (u32::from(subnet.address) + 1, subnet.hosts());
    let start = u32::try_from((u64::from(uid.wrapping_mul(2_654_435_769)) * u64::from(hosts)) >> 32).unwrap_or(0);
    let all = (0..hosts).map(move |n| Ipv4Addr::from(first + (start + n) % hosts));
    all.filter(move |address| *address != gateway)
}

/// The ports of all networks, and the addresses that they are for.
fn ports() -> impl Iterator<Item = (String, Ipv4Addr)> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let address = links::address_of(&name)?;
        Some((name, address))
    })
}

fn has_ports(bridge: &str) -> bool {
    std::fs::read_dir(format!("/sys/class/net/{bridge}/brif")).is_ok_and(|mut ports| ports.next().is_some())
}

/// The network's record, locked; `alone` against everybody.
fn locked(name: &str, alone: bool) -> Result<File, Error> {
    let folder = registry::folder()?;
    let start = process::boot_time();
    let mut killed = false;
    while process::boot_time() < start + PATIENCE {
        let file = open(&folder, name, OFlag::O_CREAT)?;
        if process::try_flock(&file, alone).map_err(call("lock a network's record"))? {
            // One that was removed meanwhile is nobody's.
            if fstat(&file).map_err(call("fstat a network's record"))?.st_nlink > 0 {
                return Ok(File::from(file));
            }
            continue;
        }
        // Nobody holds it for so long but a helper that stands still (in a cgroup that its user has frozen).
        if !killed && process::boot_time() > start + PATIENCE / 2 {
            killed = true;
            kill_holders(&file)?;
        }
        pause();
    }
    Err(Error::NoNetwork(format!(
        "network \"{name}\" is being made or removed by somebody else, and has been for long"
    )))
}

/// Kills the helpers that hold a record's lock, as `/proc/locks` (proc_locks(5)) has them: a start that is killed at any
/// moment leaves nothing that the next one does not mend.
fn kill_holders(file: &OwnedFd) -> Result<(), Error> {
    let stat = fstat(file).map_err(call("fstat a network's record"))?;
    let place = format!("{:02x}:{:02x}:{}", libc::major(stat.st_dev), libc::minor(stat.st_dev), stat.st_ino);
    let holders = || -> Vec<i32> {
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        let of_it = |line: &&str| line.contains(" FLOCK ") && line.split_ascii_whitespace().any(|word| word == place);
        locks.lines().filter(of_it).filter_map(|line| line.split_ascii_whitespace().nth(4)?.parse().ok()).collect()
    };
    for pid in holders() {
        // It may have handed it on to its guard, a child of its own.
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        let all: Vec<(i32, OwnedFd)> =
            children.chain([pid]).filter_map(|pid| Some((pid, process::pidfd_open(pid).ok()?))).collect();
        // Looked at again: what holds it now is what the descriptors are of.
        if holders().contains(&pid) {
            for (pid, pidfd) in all {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                if name.trim() == "caplet-helper" {
                    let _ = process::pidfd_signal(&pidfd, libc::SIGKILL);
                }
            }
        }
    }
    Ok(())
}

fn open(folder: &OwnedFd, name: &str, create: OFlag) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | create;
    openat(folder, record(name).as_str(), flags, Mode::from_bits_truncate(0o600))
        .map_err(call("open a network's record"))
}

fn record(name: &str) -> String {
    format!("net.{name}")
}

fn pause() {
    let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(10u16));
}

/// What is left to do when a session is over: its link goes, and with the last one the network.
pub fn unplug(words: &[std::ffi::OsString]) -> Result<i32, Error> {
    let text = |at: usize| words.get(at).and_then(|word| word.to_str());
    let usage = || Error::Usage(caplet_policy::request::RequestError(format!("{VERB} NAME [PORT] is for root")));
    let is_root = nix::unistd::getuid().is_root() && nix::unistd::geteuid().is_root();
    let name = text(1).filter(|_| is_root).ok_or_else(usage)?;
    match text(2) {
        // By number: its name is an address's, which may be somebody else's by now.
        Some(port) => {
            let port = port.parse().map_err(|_| usage())?;
            let mut links = Links::open().map_err(call("socket(NETLINK_ROUTE)"))?;
            links.remove_port(port).map_err(call("remove a link"))?;
        }
        // The kernel takes it down with the session's network, in its own time.
        None => {
            let until = process::boot_time() + PATIENCE / 2;
            while has_ports(&own_bridge(name)) && process::boot_time() < until {
                pause();
            }
        }
    }
    let lock = locked(name, true)?;
    remove_if_empty(name, lock)?;
    Ok(0)
}

/// Networks that were left behind when everything of ours was killed.
pub fn sweep(folder: &OwnedFd) -> Result<(), Error> {
    let all = registry::networks(folder)?;
    for name in all.iter().filter(|name| *name != WATCH) {
        let Ok(file) = open(folder, name, OFlag::empty()) else { continue };
        if process::try_flock(&file, true).unwrap_or(false) {
            remove_if_empty(name, File::from(file))?;
        }
    }
    if all == [WATCH] { unwatch() } else { Ok(()) }
}

/// The lock is held by nobody else.
fn remove_if_empty(name: &str, mut lock: File) -> Result<(), Error> {
    let mut made = String::new();
    let read = lock.rewind().and_then(|()| lock.read_to_string(&mut made));
    read.map_err(|e| crate::hygiene::io("read a network's record", &e))?;
    // As the first line of its rules says.
    let mut first = made.lines().next().unwrap_or_default().trim_start_matches("# ").split(' ');
    let subnet = first.next().and_then(subnet_of);
    let own = own_bridge(name);
    if has_ports(&own) || subnet.is_some_and(|subnet| ports().any(|(_, address)| subnet.has_host(address))) {
        return Ok(());
    }
    if Path::new("/sys/class/net").join(&own).join("bridge").exists() {
        let mut links = Links::open().map_err(call("socket(NETLINK_ROUTE)"))?;
        links.remove(&own).map_err(call(format!("remove the bridge {own}")))?;
    }
    Tables::open()?.remove(name).map_err(call("remove a network's tables"))?;
    let folder = registry::folder()?;
    let _ = unlinkat(folder.as_fd(), record(name).as_str(), UnlinkatFlags::NoRemoveDir);
    unwatch()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(a: [u8; 4], prefix: u8) -> Subnet {
        Subnet { address: a.into(), prefix }
    }

    #[test]
    fn every_address_is_tried_once_and_a_users_own_first() {
        let subnet = subnet([10, 0, 0, 0], 29);
        let gateway = subnet.first();
        for uid in [0, 1000, 1001, u32::MAX] {
            let all: Vec<_> = candidates(subnet, gateway, uid).collect();
            assert_eq!(all, candidates(subnet, gateway, uid).collect::<Vec<_>>());
            let mut sorted = all.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!((all.len(), sorted.len()), (5, 5), "{all:?}");
            assert!(all.iter().all(|a| subnet.has_host(*a) && *a != gateway));
        }
        let first = |uid| candidates(Subnet { prefix: 16, ..subnet }, gateway, uid).next();
        assert_ne!(first(1000), first(1001));
    }
}
