//! subuid(5) and subgid(5): whose range is whose. Text in, range out; which file it was is the caller's business.

/// A range of subordinate ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Login name or uid, as the file has it.
    pub owner: String,
    /// Its first id.
    pub first: u32,
    /// How many, one or more.
    pub count: u32,
}

/// Why a user has no range to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// There is no entry of the user's.
    Missing,
    /// Somebody else's entry takes in ids of it.
    Overlaps {
        /// The user's range.
        own: Range,
        /// The other entry.
        other: Range,
    },
}

/// The first of the ids that own the namespaces of sessions ([`owner`]): systemd's UIDS-GIDS.md has nobody live there.
pub const OWNERS: u32 = 1 << 31;

/// The id that owns the namespaces of a user's sessions, of [`OWNERS`]: no two users have the same. `secret` keeps everybody from
/// having a setuid file of it ready. `None`: the user's own id is too high.
pub fn owner(uid: u32, secret: u64) -> Option<u32> {
    let count = u64::from(OWNERS - 1); // the last id of all is none
    let number = (u64::from(uid) < count).then(|| (u64::from(uid) + secret % count) % count)?;
    u32::try_from(number).ok()?.checked_add(OWNERS)
}

/// What says that subordinate ids of somebody's may be among [`OWNERS`]: whoever has one makes a setuid file of it, and with
/// that is its id. Of the texts of subuid(5) and nsswitch.conf(5).
pub fn reach_owners(subuid: &str, nsswitch: &str) -> Option<String> {
    let reaches = |line: &str| -> Option<String> {
        let ranges = [Range::read(line, decimal), Range::read(line, any_base)];
        let range = ranges.into_iter().flatten().find(|range| range.count > 0 && range.last() >= OWNERS);
        // What is no number to us may be one to newuidmap(1), as a negative one is to older ones.
        let is_odd = |text: &str| decimal(text).is_none() && any_base(text).is_none();
        let is_range = !line.starts_with('#') && line.matches(':').count() >= 2;
        let has_odd = line.contains('\0') || is_range && line.split(':').skip(1).take(2).any(is_odd);
        range.map(|range| range.to_string()).or_else(|| has_odd.then(|| format!("{line:?}")))
    };
    let sources = nsswitch.lines().find_map(|line| {
        let (name, sources) = line.split('#').next()?.split_once(':')?;
        let is_other = sources.split_whitespace().any(|source| source != "files");
        (name.trim().eq_ignore_ascii_case("subid") && is_other).then(|| sources.trim())
    });
    let of_range = subuid.lines().find_map(reaches).map(|entry| format!("/etc/subuid has {entry}"));
    of_range.or_else(|| sources.map(|sources| format!("/etc/nsswitch.conf has subid: {sources}")))
}

impl Range {
    /// The user's first usable entry.
    ///
    /// # Errors
    /// There is none, or another entry overlaps it.
    pub fn find(text: &str, name: &str, uid: u32) -> Result<Self, Unusable> {
        let mine = |owner: &str| owner == name || owner == uid.to_string();
        let own = text.lines().find_map(|line| Range::usable(line).filter(|range| mine(&range.owner)));
        let own = own.ok_or(Unusable::Missing)?;
        let others = text.lines().flat_map(|line| [Range::read(line, decimal), Range::read(line, any_base)]);
        let clash = others.flatten().find(|other| {
            !mine(&other.owner) && other.count > 0 && other.first <= own.last() && own.first <= other.last()
        });
        match clash {
            Some(other) => Err(Unusable::Overlaps { own, other }),
            None => Ok(own),
        }
    }

    /// `owner:first:count`; a range that leaves u32, or holds uid 0 or -1, is none that a user could have.
    fn usable(line: &str) -> Option<Self> {
        let range = Self::read(line, decimal)?;
        let whole = range.first.checked_add(range.count).is_some();
        (line == line.trim() && line.matches(':').count() == 2 && whole && range.first > 0 && range.count > 0)
            .then_some(range)
    }

    /// Whatever a program might take for a range: of somebody else's, too much is read rather than too little.
    fn read(line: &str, number: fn(&str) -> Option<u64>) -> Option<Self> {
        let mut parts = line.trim().split(':');
        let (owner, first, count) = (parts.next()?, number(parts.next()?)?, number(parts.next()?)?);
        let end = first.saturating_add(count).min(u64::from(u32::MAX) + 1);
        let first = u32::try_from(first).ok()?;
        // A range up to the last id there is has one more than u32 can count.
        let count = u32::try_from(end.saturating_sub(u64::from(first))).unwrap_or(u32::MAX);
        Some(Self { owner: owner.into(), first, count })
    }

    /// Its last id.
    pub fn last(&self) -> u32 {
        self.first.saturating_add(self.count.saturating_sub(1))
    }
}

/// As podman(1) reads numbers.
fn decimal(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// As newuidmap(1) does: strtoul(3) with any base.
fn any_base(text: &str) -> Option<u64> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, base) = match (text.strip_prefix("0x").or(text.strip_prefix("0X")), text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        (None, _) => (text, 10),
    };
    // A second sign is none of strtoul's.
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, base).ok() }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.owner, self.first, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Result<Range, Unusable> {
        Range::find(text, "alice", 1001)
    }

    #[test]
    fn the_users_own_entry_counts_by_name_or_uid() {
        assert_eq!(find("bob:100000:65536\nalice:165536:65536\n").map(|r| r.first), Ok(165_536));
        assert_eq!(find("1001:300000:10").map(|r| (r.first, r.last())), Ok((300_000, 300_009)));
    }

    #[test]
    fn an_overlapping_entry_refuses_and_is_named() {
        let said = find("alice:100000:65536\nbob:165535:10\n");
        assert!(
            matches!(said, Err(Unusable::Overlaps { own, other }) if other.to_string() == "bob:165535:10" && own.owner == "alice")
        );
    }

    #[test]
    fn what_another_program_would_take_for_somebodys_range_counts() {
        for other in ["bob:0:4294967296", "bob:100005:9999999999", "bob:0x186a5:1", "bob:0303245:1", "bob: 100005:1:x"]
        {
            let said = find(&format!("alice:100000:10\n{other}\n"));
            assert!(matches!(said, Err(Unusable::Overlaps { .. })), "{other}: {said:?}");
        }
        for other in ["bob:0:0", "bob:99999999999:5", "bob", "bob:0:100000", "bob:100010:1", "#bob:100000"] {
            assert!(find(&format!("{other}\nalice:100000:10\n")).is_ok(), "{other}");
        }
    }

    #[test]
    fn every_user_has_another_owner_and_a_secret_moves_them_all() {
        for secret in [0, 1, 2_147_483_646, 2_147_483_647, u64::MAX] {
            let owners: Vec<u32> = (1000..1100).map(|uid| owner(uid, secret).unwrap()).collect();
            assert!(owners.iter().all(|id| *id >= OWNERS && *id < u32::MAX), "{secret}");
            assert!(owners.iter().enumerate().all(|(n, id)| !owners[..n].contains(id)), "{secret}");
        }
        assert_eq!((owner(0, 0), owner(0, 5)), (Some(OWNERS), Some(OWNERS + 5)));
        assert_eq!((owner(OWNERS - 2, 0), owner(OWNERS - 2, 1)), (Some(u32::MAX - 1), Some(OWNERS)));
        assert!([OWNERS - 1, OWNERS, u32::MAX].iter().all(|uid| owner(*uid, 7).is_none()));
    }

    #[test]
    fn ids_that_may_be_somebodys_own_no_namespaces() {
        let free = "alice:100000:65536\nbob:2147483647:1\ncarol:2147483648:0\n#a:x:y\n\nx\nx:y\n";
        let usual = "passwd: files sss\n#subid: sss\nsubid:\tfiles # sss\nsubids: sss\n";
        assert_eq!((reach_owners(free, usual), reach_owners("", "")), (None, None));
        for range in
            ["a:2147483648:65536", "a:2147483647:2", "a:100000:4294967295", "a:0x80000000:1", "a: 4294967294:9:x"]
        {
            let said = reach_owners(&format!("{free}{range}\n"), usual);
            assert!(said.as_ref().is_some_and(|text| text.starts_with("/etc/subuid has a:")), "{range}: {said:?}");
        }
        for odd in ["a:1:-1", "a:-2147483648:1", "a:0b10:1", "a:5:", "a\0:5:5"] {
            let said = reach_owners(&format!("{free}{odd}\n"), usual);
            assert_eq!(said, Some(format!("/etc/subuid has {odd:?}")));
        }
        for line in ["subid: sss", " subid : files sss", "subid:sss files", "SubID: sss"] {
            let said = reach_owners(free, &format!("{line}\n{usual}"));
            assert!(said.as_ref().is_some_and(|text| text.contains("sss")), "{line}: {said:?}");
        }
    }

    #[test]
    fn ranges_that_are_none_are_not_taken() {
        for line in
            ["alice:0:5", "alice:100000:0", "alice:4294967290:10", "alice:-5:10", "alice:1:2:3", "alice:x:1", ""]
        {
            assert_eq!(find(line), Err(Unusable::Missing), "{line}");
        }
    }
}
