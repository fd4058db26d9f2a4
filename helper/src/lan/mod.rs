//! A network that sessions share: a bridge with a port for each, made when the first comes, removed when the last has
//! gone. One lock a network: who makes or removes it holds it alone, who starts a session in it with others.

mod links;
mod netlink;
pub mod outgoing;
mod pump;
mod reach;
mod rules;

use crate::error::{Error, call};
use crate::hygiene::Power;
use crate::sys::{Errno, process};
use crate::{cgroup, policy_files, registry, supervise};
use caplet_policy::document::{Kind, Lan, Subnet, Subnet6};
use caplet_policy::judge::Caller;
use links::Links;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, read, unlinkat, write};
use outgoing::Outgoing;
use rules::Tables;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The verb of a watcher whose session is over: `unplug UID NAME [PORT]`.
pub const VERB: &str = "unplug";
/// The record of what watches the ports of all networks: no network can have this name.
const WATCH: &str = "WATCH";
/// How long a network's lock, or the kernel's taking down of a link, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a session that is being built is waited for, in milliseconds: not as long as others wait for the lock.
const TO_CONNECT: u16 = 7_000;
/// What a holder says, by its first byte: the number of the bridge comes behind it, or why not; and what it hears.
const READY: u8 = 0;
const REFUSED: u8 = 1;
const FAILED: u8 = 2;
const CONNECTED: u8 = 3;
const LONGEST_ANSWER: usize = 2048;

/// The link that is a network's bridge.
fn bridge(lan: &Lan) -> String {
    lan.bridge.clone().unwrap_or_else(|| own_bridge(&lan.name))
}

fn own_bridge(network: &str) -> String {
    format!("cplt-{network}")
}

/// A network that is ready for one more: nobody removes it as long as its holder lives, a process that stands apart from
/// the caller's cgroup, whose user could have a lock stand still with whoever has it.
#[derive(Debug)]
pub struct Plug {
    lan: Lan,
    holder: OwnedFd,
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
    pub fn prepare(lan: &Lan, caller: &Caller) -> Result<Self, Error> {
        match lan.kind {
            Kind::Bridge => Plug::prepare(lan, caller).map(Self::Shared),
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
    /// Has what is missing of it made. Refuses before anything of a session is built.
    pub fn prepare(lan: &Lan, caller: &Caller) -> Result<Self, Error> {
        let hold = |line: &OwnedFd, left: Result<(), Errno>| hold(lan, caller, line, left);
        let holder = supervise::apart(caller.uid, hold).map_err(call("fork for the network"))?;
        let mut answer = [0; LONGEST_ANSWER];
        let length = read(&holder, &mut answer).map_err(call("hear of the network"))?;
        match answer.get(..length) {
            Some([READY, bridge @ ..]) => {
                let bridge = bridge.try_into().map_err(|_| call("hear of the network")(Errno::EBADMSG))?;
                Ok(Self { lan: lan.clone(), holder, bridge: u32::from_ne_bytes(bridge) })
            }
            Some([REFUSED, why @ ..]) => Err(Error::NoNetwork(String::from_utf8_lossy(why).into_owned())),
            Some([FAILED, line @ ..]) => Err(Error::Refused(vec![String::from_utf8_lossy(line).into_owned()])),
            _ => Err(call("hear of the network")(Errno::EPIPE)),
        }
    }

    /// Gives the process's network a link of its own into this one: the user's usual address, or the next free one.
    pub fn connect(self, pid: i32, uid: u32) -> Result<Place, Error> {
        // Whoever can freeze this start may have kept it for when the network is another one.
        let seconds = TO_CONNECT / 1000;
        let late =
            format!("network \"{}\": this start stood still for {seconds} s; give the command again", self.lan.name);
        let gone = || Error::NoNetwork(late.clone());
        if poll(&mut [PollFd::new(self.holder.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) != Ok(0) {
            return Err(gone());
        }
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
            // It was held until now, and is in use from now on.
            write(&self.holder, &[CONNECTED]).map_err(|_| gone()).inspect_err(|_| {
                let _ = links.remove_port(port);
            })?;
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

/// Makes it, and holds it until its session has its link, in a process that stands apart. Where there comes none, an empty
/// network goes again.
fn hold(lan: &Lan, caller: &Caller, line: &OwnedFd, left: Result<(), Errno>) {
    let answer = |kind: u8, text: &[u8]| {
        let text = text.get(..LONGEST_ANSWER - 1).unwrap_or(text);
        write(line, &[&[kind][..], text].concat()).is_ok()
    };
    let ready = left.map_err(call("leave the caller's cgroup")).and_then(|()| ready(lan, caller));
    let (told, lock) = match ready {
        Ok((bridge, lock)) => (answer(READY, &bridge.to_ne_bytes()), lock),
        Err(error) => {
            let _ = match error {
                Error::NoNetwork(why) => answer(REFUSED, why.as_bytes()),
                error => answer(FAILED, error.lines().join("; ").as_bytes()),
            };
            return;
        }
    };
    // Its own waiting is no part of what the network took.
    let _ = process::end_in(supervise::TO_WORK);
    // Who could not be told waits for nothing. What is said before the line is shut counts.
    if told {
        let _ = poll(&mut [PollFd::new(line.as_fd(), PollFlags::POLLIN)], TO_CONNECT);
    }
    let _ = shutdown(line.as_raw_fd(), Shutdown::Both);
    let connected = told && recv(line.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) == Ok(1);
    drop(lock);
    if !connected {
        let _ = registry::folder().and_then(|folder| remove_left(&folder, &lan.name));
    }
}

/// Refuses where the policy no longer says what a start has from it, which may have stood still since.
fn policy_stands(lan: &Lan, caller: &Caller) -> Result<(), Error> {
    let policy = policy_files::read(Power::Setuid, None, caller)?;
    let now = policy.networks.iter().find(|other| other.name == lan.name);
    match now.is_some_and(|now| Lan { at: lan.at.clone(), ..now.clone() } == *lan) {
        true => Ok(()),
        false => Err(Error::OtherPolicy),
    }
}

/// The network's bridge, and the lock by which others are kept from removing it.
fn ready(lan: &Lan, caller: &Caller) -> Result<(u32, File), Error> {
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
        let bridge = found.as_ref().filter(|(_, kind)| kind == "bridge").map(|(index, _)| *index);
        if let (true, Some(index), true) = (made == script, bridge, tables.are_there(lan)?) {
            if !alone {
                return Ok((index, lock));
            }
            alone = false; // somebody else was first
            continue;
        }
        if !alone {
            alone = true; // and look again: somebody else may have been first
            continue;
        }
        // The policy is read under the lock: nobody's rules are older than those that are there.
        let done = policy_stands(lan, caller).and_then(|()| make(lan, &script, &made, found, &mut links));
        if let Err(error) = done {
            let _ = remove_if_empty(&lan.name, lock);
            return Err(error);
        }
        let put = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(script.as_bytes()));
        put.map_err(|e| crate::hygiene::io("write a network's record", &e))?;
        alone = false;
    }
    Err(Error::NoNetwork(format!("network \"{}\" is gone again as soon as it is made", lan.name)))
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

/// The network's record, locked; `alone` against everybody. Who waits and who holds it stands apart from all callers.
fn locked(name: &str, alone: bool) -> Result<File, Error> {
    let folder = registry::folder()?;
    let start = process::boot_time();
    while process::boot_time() < start + PATIENCE {
        if let Some(lock) = lock(open(&folder, name, OFlag::O_CREAT)?, alone)? {
            return Ok(lock);
        }
        pause();
    }
    Err(Error::NoNetwork(format!(
        "network \"{name}\" is being made or removed by somebody else, and has been for long"
    )))
}

/// Locks it, if it is free. One that was removed meanwhile is nobody's.
fn lock(file: OwnedFd, alone: bool) -> Result<Option<File>, Error> {
    let is_free = process::try_flock(&file, alone).map_err(call("lock a network's record"))?;
    if !is_free || fstat(&file).map_err(call("fstat a network's record"))?.st_nlink == 0 {
        return Ok(None);
    }
    Ok(Some(File::from(file)))
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
    let _ = poll(&mut [], PollTimeout::from(10u16));
}

/// What is left to do when a session is over: its link goes, and with the last one the network.
pub fn unplug(words: &[std::ffi::OsString]) -> Result<i32, Error> {
    let usage = format!("{VERB} UID NAME [PORT]");
    let uid = supervise::user_of(words, &usage)?;
    let text = |at: usize| words.get(at).and_then(|word| word.to_str());
    let (Some(name), Ok(port)) = (text(2), text(3).map(str::parse).transpose()) else {
        return Err(supervise::for_root(&usage));
    };
    if let Err(error) = take_away(name, port) {
        error.say();
    }
    supervise::end_as(uid)
}

fn take_away(name: &str, port: Option<u32>) -> Result<(), Error> {
    // A watcher has left it; one that could not must not have a lock stand still.
    let way = cgroup::Way::open().map_err(call("open the tree of cgroups"))?;
    way.map_or(Ok(()), |way| way.leave()).map_err(call("leave the caller's cgroup"))?;
    match port {
        // By number: its name is an address's, which may be somebody else's by now.
        Some(port) => {
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
    remove_if_empty(name, locked(name, true)?)
}

/// Networks that were left behind when everything of ours was killed. In a process that stands apart.
pub fn sweep(folder: &OwnedFd) -> Result<(), Error> {
    for name in registry::networks(folder)?.iter().filter(|name| *name != WATCH) {
        let _ = remove_left(folder, name); // one that cannot be removed keeps no other
    }
    if registry::networks(folder)? == [WATCH] { unwatch() } else { Ok(()) }
}

/// Whether there seems to be one, but for one that is held: looks, and locks nothing.
pub fn is_one_left(folder: &OwnedFd, held: Option<&str>) -> bool {
    let all = registry::networks(folder).unwrap_or_default();
    let is_empty = |name: &String| {
        let mut made = String::new();
        let read = open(folder, name, OFlag::empty()).map(|file| File::from(file).read_to_string(&mut made));
        matches!(read, Ok(Ok(_))) && !is_in_use(name, &made)
    };
    all == [WATCH] || all.iter().filter(|name| *name != WATCH && held != Some(name.as_str())).any(is_empty)
}

fn remove_left(folder: &OwnedFd, name: &str) -> Result<(), Error> {
    match open(folder, name, OFlag::empty()).map(|file| lock(file, true)) {
        Ok(Ok(Some(lock))) => remove_if_empty(name, lock),
        _ => Ok(()),
    }
}

/// Whether anybody's link leads into it; by what its record says, too.
fn is_in_use(name: &str, made: &str) -> bool {
    // As the first line of its rules says.
    let subnet = made.lines().next().and_then(|line| subnet_of(line.trim_start_matches("# ").split(' ').next()?));
    has_ports(&own_bridge(name)) || subnet.is_some_and(|subnet| ports().any(|(_, address)| subnet.has_host(address)))
}

/// The lock is held by nobody else.
fn remove_if_empty(name: &str, mut lock: File) -> Result<(), Error> {
    let mut made = String::new();
    let read = lock.rewind().and_then(|()| lock.read_to_string(&mut made));
    read.map_err(|e| crate::hygiene::io("read a network's record", &e))?;
    if is_in_use(name, &made) {
        return Ok(());
    }
    let own = own_bridge(name);
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
    fn a_record_that_was_removed_is_nobodys_to_hold() {
        let path = std::env::temp_dir().join(format!("caplet-lan-{}", std::process::id()));
        let open = || OwnedFd::from(File::options().create(true).append(true).open(&path).expect("a file"));
        let (first, second) = (open(), open());
        let held = lock(first, true).expect("flock").expect("it is free");
        assert!(lock(open(), true).expect("flock").is_none() && lock(open(), false).expect("flock").is_none());
        std::fs::remove_file(&path).expect("it is there");
        drop(held);
        assert!(lock(second, true).expect("flock").is_none(), "it is free, and has no name");
        assert!(lock(open(), false).expect("flock").is_some());
        let _ = std::fs::remove_file(path);
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
