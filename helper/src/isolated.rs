//! Isolated scope: namespaces that no user owns, a tree of its own, PID 1. The order is the one that was measured to
//! work (architecture.md); each step says what would break if it stood elsewhere.

use crate::caller::Person;
use crate::capset;
use crate::cgroup;
use crate::error::{Error, OURS, call};
use crate::lan::outgoing::Running;
use crate::lan::{At, Place, Uplink};
use crate::launch::Start;
use crate::namespaces::{self, Share};
use crate::plan::{Isolation, Plan};
use crate::rootfs::{Names, Tree};
use crate::seccomp::Filter;
use crate::supervise::guard::{self, Started};
use crate::supervise::init::{self, Foreground};
use crate::supervise::terminal::{Outer, Pty, new_devpts};
use crate::supervise::wire::{self, Report};
use crate::sys::process::{self, Fork};
use crate::sys::{Errno, capability, identity};
use crate::user_files;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// The ends of the lines to those around the guard.
#[derive(Debug)]
pub struct Around<'a> {
    pub relay: &'a OwnedFd,
    pub watcher: Option<&'a OwnedFd>,
    pub outer: Option<&'a Outer>,
    /// What the session's processes enter.
    pub cgroup: Option<&'a cgroup::Own>,
}

/// Builds the session around a new PID 1, which waits until all of it stands.
pub fn start(plan: Plan, person: &Person, around: Around<'_>, uplink: Option<Uplink>) -> Result<Started, Error> {
    let Around { relay, watcher, outer, cgroup } = around;
    let Some(isolation) = &plan.isolation else {
        return Err(Error::NotAsGranted("no isolation was planned".into()));
    };
    let real = plan.power == crate::hygiene::Power::Setuid;
    nix::unistd::setsid().map_err(call("setsid"))?;
    nix::sys::stat::umask(Mode::empty());
    plan.limits.raise()?;
    if real {
        // Inside, setgroups is denied: the session inherits what stands here.
        identity::set_supplementary_groups(&plan.groups).map_err(call("setgroups"))?;
    } else {
        own_namespace(person)?;
    }
    // While all namespaces are the machine's, and the cgroup is the caller's.
    let (plug, outgoing) = match uplink {
        None => (None, None),
        Some(Uplink::Shared(plug)) => (Some(plug), None),
        Some(Uplink::Alone(outgoing)) => {
            plan.scheduling.give_back()?;
            let running = outgoing.start(person, &plan.groups, &plan.limits_outside);
            plan.scheduling.undo();
            (None, Some(running?))
        }
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = open("/proc", flags, Mode::empty()).map_err(call("open /proc"))?;
    process::unshare(libc::CLONE_NEWNS).map_err(call("unshare(CLONE_NEWNS)"))?;
    let devpts = new_devpts(real)?;
    let pty = outer.map(|outer| Pty::new(&devpts, outer, isolation.tree.owner)).transpose()?;
    let (ours, theirs) = wire::pair()?;
    let share = Share::of(isolation, &proc)?;
    plan.scheduling.give_back()?;
    let made = namespaces::first_process(isolation, &proc, cgroup.map(cgroup::Own::entrance), &share);
    if !matches!(made, Ok(None)) {
        plan.scheduling.undo();
    }
    let Some((pid, pidfd)) = made? else {
        let pty = pty.map(|pty| (pty.slave, outer.is_some_and(|outer| outer.interactive)));
        drop(ours);
        let error = become_session(plan, &theirs, &proc, pty, &share);
        error.say();
        process::exit_now(error.code())
    };
    drop(theirs);
    let build = || {
        let place = plug.map(|plug| plug.connect(pid, person.uid)).transpose()?;
        if let (Some(Place { at: At::Port(port), .. }), Some(watcher)) = (&place, watcher) {
            wire::send(watcher, Report::Plugged(*port), None).map_err(call("tell the watcher"))?;
        }
        let place = place.or_else(|| outgoing.as_ref().map(Running::place).cloned());
        process::setns(&pidfd, libc::CLONE_NEWPID).map_err(call("setns(pid)"))?;
        let (kernel, user, link) =
            user_files::open(isolation, person, &proc, &pidfd, relay.as_fd(), place.as_ref(), real)?;
        if let (Some(outgoing), Some(link)) = (&outgoing, link) {
            outgoing.take(&link)?;
        }
        let tree = Tree { names: names(isolation, place.as_ref())?, ..isolation.tree.clone() };
        tree.build(user, kernel, &devpts, real)?;
        if let Some(pty) = &pty {
            wire::send(relay, Report::Terminal, Some(&pty.master))
                .map_err(wire::untold("hand the terminal to the relay"))?;
        }
        outgoing.as_ref().map_or(Ok(()), |outgoing| outgoing.wait(relay.as_fd()))?;
        wire::send(&ours, Report::Go, None).map_err(call("start PID 1"))
    };
    if let Err(error) = build() {
        let _ = process::pidfd_signal(&pidfd, libc::SIGKILL);
        return Err(guard::unless_it_ended(pid, &pidfd, error));
    }
    let killer = cgroup.and_then(cgroup::Own::killer);
    Ok(Started { pid, pidfd, line: ours, session: true, linger: isolation.linger, killer, outgoing })
}

/// What a member of a network finds in `/etc/hosts` and `/etc/resolv.conf`.
fn names(isolation: &Isolation, place: Option<&Place>) -> Result<Option<Names>, Error> {
    let Some(place) = place else { return Ok(None) };
    let host = nix::sys::utsname::uname().map_err(call("uname"))?.nodename().to_string_lossy().into_owned();
    let own = isolation.hostname.as_deref().unwrap_or(&host);
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{} {own}\n{} gateway\n{}",
        place.address,
        place.gateway,
        place
            .subnet6
            .map(|s| format!("{} {own}\n{} gateway\n", s.member(place.address), s.gateway))
            .unwrap_or_default()
    );
    let mut servers = isolation.dns.iter().map(|server| format!("nameserver {server}\n")).collect::<String>();
    if let (At::Stack { resolver }, true) = (place.at, servers.is_empty()) {
        servers = format!("nameserver {resolver}\n");
    }
    Ok(Some(Names { hosts, resolver: Some(servers).filter(|servers| !servers.is_empty()) }))
}

/// Without installation: a user namespace of the user's own, in which the build runs as its uid 0.
fn own_namespace(person: &Person) -> Result<(), Error> {
    process::unshare(libc::CLONE_NEWUSER).map_err(|errno| match errno {
        Errno::EPERM | Errno::EACCES => Error::NoUserNamespace(
            "this machine lets users make no user namespaces, and the helper is not installed setuid",
        ),
        errno => call("unshare(CLONE_NEWUSER)")(errno),
    })?;
    let put = |name: &str, text: String| {
        std::fs::write(format!("/proc/self/{name}"), text).map_err(|e| crate::hygiene::io(&format!("write {name}"), &e))
    };
    put("setgroups", "deny".into())?;
    put("gid_map", format!("0 {} 1\n", person.gid))?;
    put("uid_map", format!("0 {} 1\n", person.uid))
}

/// PID 1, from its first breath to the fork of the command; then it only watches.
fn become_session(plan: Plan, status: &OwnedFd, proc: &OwnedFd, pty: Option<(OwnedFd, bool)>, share: &Share) -> Error {
    match share.set(proc).and_then(|()| enter(plan, status, proc, pty)) {
        Ok(never) => never,
        Err(error) => error,
    }
}

fn enter(plan: Plan, status: &OwnedFd, proc: &OwnedFd, pty: Option<(OwnedFd, bool)>) -> Result<Error, Error> {
    let Plan { target, mut limits, mut environment, start, ignored, cwd, home, quiet, isolation, mut umask, .. } = plan;
    let Some(Isolation { hostname, nested, filter, linger, .. }) = isolation else {
        return Err(Error::Said(OURS));
    };
    if !nested {
        namespaces::limit(proc, "0")?;
    }
    wire::wait_for(status, Report::Go)?;
    init::lead_session(pty.as_ref().map(|(slave, _)| slave))?;
    // From here on every mount is locked.
    process::unshare(libc::CLONE_NEWNS).map_err(call("unshare(CLONE_NEWNS) in the session"))?;
    if let Some(hostname) = hostname {
        nix::unistd::sethostname(hostname).map_err(call("sethostname"))?;
    }
    process::new_session_keyring().map_err(call("a new session keyring"))?;
    identity::set_group(target.gid).map_err(call("setresgid in the session"))?;
    identity::set_user(target.uid).map_err(call("setresuid in the session"))?;
    capability::set_not_dumpable().map_err(call("prctl(PR_SET_DUMPABLE)"))?;
    let foreground = match &pty {
        None => Foreground::None,
        Some((_, true)) => Foreground::Now,
        Some((_, false)) => Foreground::OnDemand,
    };
    wire::wait_for_run(status, &mut limits, &mut umask, &mut environment)?;
    umask.set();
    // Nothing runs before PID 1 watches it.
    let (watches, watched) = wire::pair()?;
    match process::fork().map_err(call("fork"))? {
        Fork::Child => {
            drop(watches);
            let _ = nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0));
            if let (Foreground::Now, Some((slave, _))) = (foreground, &pty) {
                nix::unistd::tcsetpgrp(slave, nix::unistd::getpid()).map_err(call("tcsetpgrp"))?;
            }
            drop(pty);
            capset::become_target(&target)?;
            // After the sets and no_new_privs, which it needs: nothing that it shuts is left to do.
            filter.as_ref().map_or(Ok(()), Filter::install)?;
            wire::wait_for(&watched, Report::Go)?;
            let folders = [cwd.unwrap_or_else(|| home.clone()), home, PathBuf::from("/")].into();
            Ok(Start { launch: start, environment, limits, ignored, folders, quiet }.go())
        }
        Fork::Parent(command) => {
            let child = nix::unistd::Pid::from_raw(command);
            let _ = nix::unistd::setpgid(child, child);
            drop((start, environment, limits, target, filter));
            let slave = pty.map(|(slave, _)| slave).filter(|_| foreground == Foreground::OnDemand);
            init::run(command, status, watches, foreground, slave, linger)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{alice, command, grant};
    use caplet_policy::capability::CapSet;
    use caplet_policy::document::Subnet;

    #[test]
    fn a_member_of_a_network_finds_itself_the_gateway_and_the_name_servers() {
        let grant = grant("hostname = \"pc\"", &command(&["x"]));
        let mut isolation = Isolation::of(&grant, &alice(), crate::hygiene::Power::Setuid, CapSet::KNOWN).unwrap();
        assert_eq!(names(&isolation, None).unwrap(), None);
        let place = |at| Place {
            address: "10.1.0.7".parse().unwrap(),
            gateway: "10.1.0.1".parse().unwrap(),
            subnet: Subnet { address: "10.1.0.0".parse().unwrap(), prefix: 24 },
            subnet6: None,
            at,
        };
        let of = |isolation: &Isolation, at| names(isolation, Some(&place(at))).unwrap().unwrap();
        let port = of(&isolation, At::Port(3));
        assert!(port.hosts.ends_with("10.1.0.7 pc\n10.1.0.1 gateway\n"), "{}", port.hosts);
        assert_eq!(port.resolver, None);
        let stack = At::Stack { resolver: "10.1.0.2".parse().unwrap() };
        assert_eq!(of(&isolation, stack).resolver.as_deref(), Some("nameserver 10.1.0.2\n"));
        isolation.dns = vec!["9.9.9.9".parse().unwrap(), "2620:fe::9".parse().unwrap()];
        for at in [At::Port(3), stack] {
            let text = "nameserver 9.9.9.9\nnameserver 2620:fe::9\n";
            assert_eq!(of(&isolation, at).resolver.as_deref(), Some(text), "the policy's, and no others");
        }
    }
}
