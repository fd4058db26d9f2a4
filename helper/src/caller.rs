//! Who asks: real uid, passwd entry, the groups that the kernel holds, terminal, host, time.

use crate::error::{Error, call};
use crate::process_stat::{fields, number};
use crate::sys::{Errno, capability, identity, process};
use caplet_policy::capability::CapSet;
use caplet_policy::document::Civil;
use caplet_policy::judge::{Caller, Group};
use nix::unistd::{Gid, User};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The calling user, resolved once, by uid.
#[derive(Debug, Clone)]
pub struct Person {
    pub uid: u32,
    pub gid: u32,
    pub name: String,
    pub home: PathBuf,
    pub shell: PathBuf,
    /// The kernel's list, the real gid first.
    pub groups: Vec<u32>,
}

impl Person {
    /// Asks the kernel and NSS. "Not found" and "could not ask" are told apart, and both refuse.
    pub fn find() -> Result<Self, Error> {
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        if uid.is_root() {
            return Err(Error::Root);
        }
        let entry = match User::from_uid(uid) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Err(Error::Nameless(uid.as_raw(), "has no passwd entry")),
            Err(_) => {
                return Err(Error::Nameless(uid.as_raw(), "could not be looked up (NSS does not answer)"));
            }
        };
        // Two names of one uid: the policy would speak of another person than the one who asks.
        match User::from_name(&entry.name) {
            Ok(Some(back)) if back.uid == uid => {}
            _ => {
                return Err(Error::Nameless(uid.as_raw(), "has a login name that belongs to another uid"));
            }
        }
        let supplementary = nix::unistd::getgroups().map_err(call("getgroups"))?;
        let mut groups = vec![gid.as_raw()];
        groups.extend(supplementary.iter().map(|g| g.as_raw()).filter(|g| *g != gid.as_raw()));
        Ok(Self { uid: uid.as_raw(), gid: gid.as_raw(), name: entry.name, home: entry.dir, shell: entry.shell, groups })
    }

    /// The same for the judge.
    pub fn as_caller(&self) -> Result<Caller, Error> {
        let named =
            |gid: u32| group_name(gid).map_err(|_| Error::Nameless(self.uid, "has groups that NSS could not name"));
        let groups = self.groups.iter().map(|gid| Ok(Group { gid: *gid, name: named(*gid)? }));
        Ok(Caller { uid: self.uid, name: self.name.clone(), groups: groups.collect::<Result<_, _>>()? })
    }

    /// Takes the user's ids back for good: groups, gid, uid, in this order; all capabilities go with them.
    pub fn become_again(&self, groups: Option<&[u32]>) -> Result<(), Error> {
        if let Some(groups) = groups {
            identity::set_supplementary_groups(groups).map_err(call("setgroups"))?;
        }
        identity::set_group(self.gid).map_err(call("setresgid"))?;
        identity::set_user(self.uid).map_err(call("setresuid"))?;
        // Not left to the kernel's fix-up on setuid alone, which securebits can switch off.
        capability::clear_ambient().map_err(call("clear the ambient set"))?;
        capability::give_up_but(0).map_err(call("capset"))?;
        capability::set_not_dumpable().map_err(call("prctl(PR_SET_DUMPABLE)"))
    }
}

/// A group's name, if it has one; an error if NSS could not say.
pub fn group_name(gid: u32) -> Result<Option<String>, Errno> {
    Ok(nix::unistd::Group::from_gid(Gid::from_raw(gid))?.map(|g| g.name))
}

/// The machine at this moment, as the judge wants it.
#[derive(Debug)]
pub struct Moment {
    pub machine: String,
    pub unix: i64,
    /// Since boot: what nobody can set.
    pub boot: Duration,
    pub local: Civil,
    pub kernel: CapSet,
    pub held: CapSet,
}

impl Moment {
    pub fn now() -> Result<Self, Error> {
        let machine = nix::sys::utsname::uname().map_err(call("uname"))?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        let held = capability::get().map_err(call("capget"))?.permitted;
        let mut kernel = CapSet::EMPTY;
        for cap in CapSet::KNOWN.iter() {
            if capability::in_bounding(cap.number()).is_ok() {
                kernel = kernel.with(cap);
            }
        }
        Ok(Self {
            machine: machine.nodename().to_string_lossy().into_owned(),
            unix,
            boot: process::boot_time(),
            local: identity::local_time(unix),
            kernel,
            held: CapSet::from_bits(held),
        })
    }
}

/// The name of the terminal on descriptors 0 to 2, from its device number: a name can be forged.
pub fn terminal_name() -> Option<String> {
    (0..3).find_map(|number| {
        let stat = nix::sys::stat::fstat(crate::sys::standard(number)).ok()?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFCHR {
            return None;
        }
        name_of_terminal(stat.st_rdev)
    })
}

/// The name of a terminal's device.
fn name_of_terminal(device: u64) -> Option<String> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    match major {
        136..=143 => Some(format!("/dev/pts/{}", (major - 136) * 256 + minor)),
        4 if minor < 64 => Some(format!("/dev/tty{minor}")),
        4 => Some(format!("/dev/ttyS{}", minor - 64)),
        5 if minor == 1 => Some("/dev/console".into()),
        _ => None,
    }
}

/// The controlling terminal and its session's leader, as the kernel numbers them.
#[derive(Debug)]
pub struct Controlling {
    /// Device number of the terminal.
    pub terminal: u64,
    pub name: Option<String>,
    pub leader: i32,
    /// When the leader began, in clock ticks since boot: a recycled pid has another one.
    pub leader_started: u64,
}

impl Controlling {
    /// `None`: there is no terminal, or its leader is gone or out of sight.
    pub fn find() -> Option<Self> {
        let own = fields("self")?;
        let (session, terminal) = (number(&own, 3)?, number(&own, 4)?);
        let leader = fields(&session.to_string())?;
        if terminal == 0 || session == 0 || number(&leader, 3)? != session {
            return None;
        }
        Some(Self {
            terminal,
            name: name_of_terminal(terminal),
            leader: i32::try_from(session).ok()?,
            leader_started: number(&leader, 19)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_the_name_of_its_device() {
        // Documentation/admin-guide/devices.txt
        for (major, minor, name) in [
            (136, 0, Some("/dev/pts/0")),
            (136, 255, Some("/dev/pts/255")),
            (137, 1, Some("/dev/pts/257")),
            (143, 2, Some("/dev/pts/1794")),
            (4, 0, Some("/dev/tty0")),
            (4, 63, Some("/dev/tty63")),
            (4, 64, Some("/dev/ttyS0")),
            (4, 65, Some("/dev/ttyS1")),
            (5, 1, Some("/dev/console")),
            (5, 0, None), // "the own one" is nobody's name
            (144, 0, None),
            (1, 3, None),
        ] {
            assert_eq!(name_of_terminal(libc::makedev(major, minor)).as_deref(), name, "{major}:{minor}");
        }
    }

    #[test]
    fn groups_are_named_by_the_user_database() {
        assert_eq!(group_name(0), Ok(Some("root".into())));
        assert_eq!(group_name(3_999_999_999), Ok(None));
        let named = crate::samples::alice().as_caller().unwrap();
        assert_eq!((named.uid, named.name.as_str()), (1001, "alice"));
        assert_eq!(named.groups.iter().map(|group| group.gid).collect::<Vec<_>>(), [100, 27, 50]);
    }
}
