//! uid_map and gid_map of a session's user namespace, and the subordinate ranges behind them: user_namespaces(7),
//! subuid(5).

use crate::caller::Person;
use crate::error::{Error, call};
use crate::journal::key;
use crate::sys::identity::enumerated_id_within;
use caplet_policy::document::{Profile, UserMode};
use caplet_policy::subids::{self, Range, Unusable, reach_owners};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Group, Uid, User, write};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;

const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";

/// The two maps, in the kernel's text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maps {
    uid: String,
    gid: String,
    /// setgroups(2) is refused inside: without a range of groups it could only drop a "deny" group (CVE-2014-8989).
    pub deny_setgroups: bool,
}

impl Maps {
    /// What the profile wants. `outside` are the ids as the helper's own user namespace sees them.
    pub fn of(profile: &Profile, person: &Person, outside: (u32, u32)) -> Result<Self, Error> {
        let inside = match profile.user {
            UserMode::Own => (person.uid, person.gid),
            UserMode::Root => (0, 0),
        };
        let mut maps = Self {
            uid: format!("{} {} 1\n", inside.0, outside.0),
            gid: format!("{} {} 1\n", inside.1, outside.1),
            deny_setgroups: !profile.subids,
        };
        if profile.subids {
            let (uids, gids) = (own_range(person, SUBUID)?, own_range(person, SUBGID)?);
            must_be_free(&uids, SUBUID, false)?;
            must_be_free(&gids, SUBGID, true)?;
            maps.uid.push_str(&format!("1 {} {}\n", uids.first, uids.count));
            maps.gid.push_str(&format!("1 {} {}\n", gids.first, gids.count));
        }
        Ok(maps)
    }

    /// Those of a namespace around: root, which owns the session's, and the ids that the session's maps speak of.
    pub fn outer(&self) -> Self {
        let around = |map: &str| {
            let ranges = map.lines().filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest);
            let ranges = ranges.filter_map(|rest| Some(format!("{} {rest}\n", rest.split_once(' ')?.0)));
            std::iter::once("0 0 1\n".to_owned()).chain(ranges).collect()
        };
        Self { uid: around(&self.uid), gid: around(&self.gid), deny_setgroups: self.deny_setgroups }
    }

    /// Writes them for the process `pid` below an open `/proc`.
    pub fn write(&self, proc: &OwnedFd, pid: i32) -> Result<(), Error> {
        let put = |name: &str, text: &str| {
            let path = format!("{pid}/{name}");
            let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let file = openat(proc, path.as_str(), flags, Mode::empty()).map_err(call(format!("open /proc/{path}")))?;
            match write(&file, text.as_bytes()) {
                Ok(written) if written == text.len() => Ok(()),
                Ok(_) => Err(Error::NotAsGranted(format!("{name} was written in part"))),
                Err(errno) => {
                    Err(call(format!("write {} to /proc/{path}", text.trim_end().replace('\n', ", ")))(errno))
                }
            }
        };
        if self.deny_setgroups {
            put("setgroups", "deny")?;
        }
        put("gid_map", &self.gid)?;
        put("uid_map", &self.uid)
    }
}

/// The id that owns the namespaces of a user's sessions, for which all that they hold is counted: one for each user, so that
/// nobody uses up what root's services or another user's sessions have. No process has it, and nobody knows it before there is
/// a session: another one after each boot. `None`: somebody may have it, and root owns them.
pub fn owner(uid: u32) -> Option<u32> {
    let nsswitch = text("/etc/nsswitch.conf")?;
    if reach_owners(&text(SUBUID)?, &nsswitch).is_some() {
        return None;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let owner = subids::owner(uid, key::find()?.number(&format!("owners of namespaces, boot {boot}")))?;
    (!has_account(owner, &nsswitch)).then_some(owner)
}

/// What a file has; nothing, where it is missing.
fn text(path: &str) -> Option<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Some(String::new()),
        text => text.ok(),
    }
}

/// Whether it is an account's, or NSS cannot say. It is asked where there is more than the file: it takes time and memory.
fn has_account(id: u32, nsswitch: &str) -> bool {
    let passwd = text("/etc/passwd").filter(|_| is_local(nsswitch) && no_user_records());
    passwd.and_then(|passwd| stands_in(&passwd, id)).unwrap_or_else(|| !matches!(User::from_uid(id.into()), Ok(None)))
}

/// Whether accounts come from `/etc/passwd` and systemd alone (nsswitch.conf(5)). The C library takes the last line of a name,
/// with or without a colon.
fn is_local(nsswitch: &str) -> bool {
    let lines = nsswitch.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let mut lines = lines.filter(|line| line.starts_with("passwd")).peekable();
    let is_own = |source: &str| ["files", "systemd"].contains(&source);
    let is_local = |line: &str| {
        let sources = line.strip_prefix("passwd").and_then(|rest| rest.trim_start().strip_prefix(':'));
        sources.is_some_and(|sources| sources.split_whitespace().all(is_own))
    };
    lines.peek().is_some() && lines.all(is_local)
}

/// Whether systemd has no accounts but those of running services, which have low ids: no records in files (nss-systemd(8)), and
/// no others' service, nor its own for homes.
fn no_user_records() -> bool {
    let places = ["/etc/userdb", "/run/userdb", "/run/host/userdb", "/usr/local/lib/userdb", "/usr/lib/userdb"];
    let services =
        ["DropIn", "DynamicUser", "Multiplexer", "NameServiceSwitch"].map(|name| format!("io.systemd.{name}"));
    let is_known = |name: OsString| services.iter().any(|service| name == **service);
    let are_known = match std::fs::read_dir("/run/systemd/userdb") {
        Ok(mut entries) => entries.all(|entry| entry.is_ok_and(|entry| is_known(entry.file_name()))),
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    are_known && places.iter().all(|place| matches!(std::fs::exists(place), Ok(false)))
}

/// Whether an account of passwd(5) has that id. `None`: a line is not understood.
fn stands_in(passwd: &str, id: u32) -> Option<bool> {
    let ids = passwd.lines().filter(|line| !line.is_empty()).map(|line| line.split(':').nth(2)?.parse().ok());
    ids.collect::<Option<Vec<u32>>>().map(|ids| ids.contains(&id))
}

/// The user's own range in that file.
fn own_range(person: &Person, file: &str) -> Result<Range, Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|_| Error::Subids(format!("the profile wants subordinate ids, and {file} cannot be read")))?;
    Range::find(&text, &person.name, person.uid).map_err(|why| {
        Error::Subids(match why {
            Unusable::Missing => format!("you have no range in {file}: root gives one with usermod --add-subuids"),
            Unusable::Overlaps { own, other } => format!("your range in {file} ({own}) overlaps the entry {other}"),
        })
    })
}

/// No id of the range may belong to a real user or group: NSS is enumerated, and asked for ids spread over the
/// range, since directories often answer look-ups only.
fn must_be_free(range: &Range, file: &str, groups: bool) -> Result<(), Error> {
    let resolves = |id: u32| match groups {
        true => Group::from_gid(Gid::from_raw(id)).map(|g| g.is_some()),
        false => User::from_uid(Uid::from_raw(id)).map(|u| u.is_some()),
    };
    let taken = |id: u32| {
        let what = if groups { "group" } else { "user" };
        Error::Subids(format!("your range in {file} ({range}) takes in {what} id {id}, which belongs to somebody"))
    };
    if let Some(id) = enumerated_id_within(range.first, range.last(), groups) {
        return Err(taken(id));
    }
    for id in spread(range) {
        match resolves(id) {
            Ok(false) => {}
            Ok(true) => return Err(taken(id)),
            Err(_) => {
                return Err(Error::Subids(format!("NSS could not say whether id {id} is somebody's")));
            }
        }
    }
    Ok(())
}

/// Its first, its last, and others between them.
fn spread(range: &Range) -> impl Iterator<Item = u32> {
    let (parts, last) = (16, u64::from(range.count - 1));
    (0..=parts).map(move |part| range.first + (last * part / parts) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::alice;
    use caplet_policy::document::Scope;

    #[test]
    fn one_id_is_mapped_and_groups_cannot_be_dropped() {
        let mut profile = Profile::new("p", Scope::Isolated);
        let map = |profile: &Profile| Maps::of(profile, &alice(), (1001, 100)).unwrap();
        let own = Maps { uid: "1001 1001 1\n".into(), gid: "100 100 1\n".into(), deny_setgroups: true };
        assert_eq!(map(&profile), own);
        profile.user = UserMode::Root;
        assert_eq!(map(&profile), Maps { uid: "0 1001 1\n".into(), gid: "0 100 1\n".into(), ..own });
        // alice has no range, which is no reason to do without.
        profile.subids = true;
        assert!(matches!(Maps::of(&profile, &alice(), (1001, 100)), Err(Error::Subids(_))));
    }

    #[test]
    fn a_range_that_takes_in_somebodys_id_is_not_used() {
        let range = |first, count| Range { owner: "alice".into(), first, count };
        let free = range(3_000_000_000, 65536);
        assert!(must_be_free(&free, SUBUID, false).is_ok() && must_be_free(&free, SUBGID, true).is_ok());
        let ids: Vec<u32> = spread(&range(1000, 161)).collect();
        assert_eq!(ids, (0..=16).map(|part| 1000 + part * 10).collect::<Vec<_>>());
        assert!(spread(&range(u32::MAX - 1, 2)).all(|id| id >= u32::MAX - 1));
        for range in [range(0, 65536), range(0, 1)] {
            for groups in [false, true] {
                let why = must_be_free(&range, SUBUID, groups).unwrap_err();
                assert!(matches!(&why, Error::Subids(text) if text.contains("belongs to somebody")), "{why:?}");
            }
        }
    }

    #[test]
    fn accounts_are_looked_for_where_they_come_from() {
        assert!(is_local("# x\npasswd:\tfiles systemd # sss\ngroup: sss\n") && is_local("passwd: files"));
        for more in [
            "passwd: files sss",
            "passwd: compat",
            "passwd: files [NOTFOUND=return]",
            "passwd: files\npasswd: files sss",
            "passwd: files\n passwd sss",
            "group: files",
            "",
        ] {
            assert!(!is_local(more), "{more}");
        }
        let passwd = "root:x:0:0::/root:/bin/sh\na:x:2147484649:5::/:/bin/sh\n";
        assert_eq!((stands_in(passwd, 2_147_484_649), stands_in(passwd, 2_147_484_650)), (Some(true), Some(false)));
        for odd in ["+", "+::::::", "a:x:0x1:5::/:/x", "a:x:5000000000:5::/:/x"] {
            assert_eq!(stands_in(&format!("{passwd}{odd}\n"), 7), None, "{odd}");
        }
    }

    #[test]
    fn the_namespace_around_maps_root_and_the_same_ids_to_themselves() {
        let maps = Maps { uid: "0 1001 1\n1 165536 65536\n".into(), gid: "5 7 1\n".into(), deny_setgroups: false };
        let outer = maps.outer();
        assert_eq!(outer.uid, "0 0 1\n1001 1001 1\n165536 165536 65536\n");
        assert_eq!(outer.gid, "0 0 1\n7 7 1\n");
    }
}
