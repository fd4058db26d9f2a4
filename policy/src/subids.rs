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

impl Range {
    /// The user's first usable entry.
    ///
    /// # Errors
    /// There is none, or another entry overlaps it.
    pub fn find(text: &str, name: &str, uid: u32) -> Result<Self, Unusable> {
        let entries: Vec<Range> = text.lines().filter_map(Range::parse).collect();
        let mine = |entry: &Range| entry.owner == name || entry.owner == uid.to_string();
        let own = entries.iter().find(|entry| mine(entry)).ok_or(Unusable::Missing)?;
        let clash = entries.iter().find(|other| !mine(other) && other.first <= own.last() && own.first <= other.last());
        match clash {
            Some(other) => Err(Unusable::Overlaps { own: own.clone(), other: other.clone() }),
            None => Ok(own.clone()),
        }
    }

    /// `owner:first:count`, in u64 so that nothing wraps; a range that leaves u32, or holds uid 0 or -1, is none.
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.trim().split(':');
        let (owner, first, count) = (parts.next()?, parts.next()?, parts.next()?);
        let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
        let end = first.checked_add(count)?;
        if parts.next().is_some() || first == 0 || count == 0 || end > u64::from(u32::MAX) {
            return None;
        }
        Some(Self { owner: owner.into(), first: first as u32, count: count as u32 })
    }

    /// Its last id.
    pub fn last(&self) -> u32 {
        self.first + (self.count - 1)
    }
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
    fn ranges_that_are_none_are_not_taken() {
        for line in
            ["alice:0:5", "alice:100000:0", "alice:4294967290:10", "alice:-5:10", "alice:1:2:3", "alice:x:1", ""]
        {
            assert_eq!(find(line), Err(Unusable::Missing), "{line}");
        }
    }
}
