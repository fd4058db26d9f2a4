//! uid_map and gid_map of a session's user namespace, and the subordinate ranges behind them: user_namespaces(7),
//! subuid(5).

use crate::caller::Person;
use crate::error::{Error, call};
use crate::sys::identity::enumerated_id_within;
use caplet_policy::document::{Profile, UserMode};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Group, Uid, User, write};
use std::os::fd::OwnedFd;

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
            let (uids, gids) = (Range::of(person, "/etc/subuid")?, Range::of(person, "/etc/subgid")?);
            uids.must_be_free(false)?;
            gids.must_be_free(true)?;
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

/// A range of subordinate ids, with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    file: &'static str,
    owner: String,
    first: u32,
    count: u32,
}

impl Range {
    /// The user's first usable entry; refused where another entry overlaps it.
    fn of(person: &Person, file: &'static str) -> Result<Self, Error> {
        let text = std::fs::read_to_string(file)
            .map_err(|_| Error::Subids(format!("the profile wants subordinate ids, and {file} cannot be read")))?;
        Self::find(&text, file, &person.name, person.uid)
    }

    fn find(text: &str, file: &'static str, name: &str, uid: u32) -> Result<Self, Error> {
        let entries: Vec<Range> = text.lines().filter_map(|line| Range::parse(line, file)).collect();
        let mine = |entry: &Range| entry.owner == name || entry.owner == uid.to_string();
        let Some(own) = entries.iter().find(|entry| mine(entry)) else {
            return Err(Error::Subids(format!(
                "you have no range in {file}: root gives one with usermod --add-subuids"
            )));
        };
        let clash = entries.iter().find(|other| !mine(other) && other.first <= own.last() && own.first <= other.last());
        match clash {
            Some(other) => Err(Error::Subids(format!(
                "your range in {file} ({}:{}:{}) overlaps the entry {}:{}:{}",
                own.owner, own.first, own.count, other.owner, other.first, other.count
            ))),
            None => Ok(own.clone()),
        }
    }

    /// `owner:first:count`, in u64 so that nothing wraps; a range that leaves u32, or holds uid 0 or -1, is none.
    fn parse(line: &str, file: &'static str) -> Option<Self> {
        let mut parts = line.trim().split(':');
        let (owner, first, count) = (parts.next()?, parts.next()?, parts.next()?);
        let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
        let end = first.checked_add(count)?;
        if parts.next().is_some() || first == 0 || count == 0 || end > u64::from(u32::MAX) {
            return None;
        }
        Some(Self { file, owner: owner.into(), first: first as u32, count: count as u32 })
    }

    fn last(&self) -> u32 {
        self.first + (self.count - 1)
    }

    /// No id of the range may belong to a real user or group: NSS is enumerated, and asked for ids spread over the
    /// range, since directories often answer look-ups only.
    fn must_be_free(&self, groups: bool) -> Result<(), Error> {
        let resolves = |id: u32| match groups {
            true => Group::from_gid(Gid::from_raw(id)).map(|g| g.is_some()),
            false => User::from_uid(Uid::from_raw(id)).map(|u| u.is_some()),
        };
        let taken = |id: u32| {
            let what = if groups { "group" } else { "user" };
            Error::Subids(format!(
                "your range in {} ({}:{}:{}) takes in {what} id {id}, which belongs to somebody",
                self.file, self.owner, self.first, self.count
            ))
        };
        if let Some(id) = enumerated_id_within(self.first, self.last(), groups) {
            return Err(taken(id));
        }
        let spread = 16;
        for part in 0..=spread {
            let id = self.first + ((u64::from(self.count - 1) * part) / spread) as u32;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Result<Range, String> {
        Range::find(text, "/etc/subuid", "alice", 1001).map_err(|e| e.lines().join("; "))
    }

    #[test]
    fn the_namespace_around_maps_root_and_the_same_ids_to_themselves() {
        let maps = Maps { uid: "0 1001 1\n1 165536 65536\n".into(), gid: "5 7 1\n".into(), deny_setgroups: false };
        let outer = maps.outer();
        assert_eq!(outer.uid, "0 0 1\n1001 1001 1\n165536 165536 65536\n");
        assert_eq!(outer.gid, "0 0 1\n7 7 1\n");
    }

    #[test]
    fn the_users_own_entry_counts_by_name_or_uid() {
        assert_eq!(find("bob:100000:65536\nalice:165536:65536\n").map(|r| r.first), Ok(165_536));
        assert_eq!(find("1001:300000:10").map(|r| (r.first, r.last())), Ok((300_000, 300_009)));
    }

    #[test]
    fn an_overlapping_entry_refuses_and_is_named() {
        let said = find("alice:100000:65536\nbob:165535:10\n");
        assert!(said.is_err_and(|text| text.contains("overlaps the entry bob:165535:10")));
    }

    #[test]
    fn ranges_that_are_none_are_not_taken() {
        for line in
            ["alice:0:5", "alice:100000:0", "alice:4294967290:10", "alice:-5:10", "alice:1:2:3", "alice:x:1", ""]
        {
            assert!(find(line).is_err(), "{line}");
        }
    }
}
