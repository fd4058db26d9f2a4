//! Which messages are the helper's own. Anybody may write to the log under the name `caplet`.

use super::{Entry, Origin};
use crate::messages::{Trouble, tell};
use caplet_policy::escape::parse_log_line;
use caplet_policy::seal::{KEY_LENGTH, Key};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Seen;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// How far apart lines of one millisecond may have come to the log.
const MOMENT: SignedDuration = SignedDuration::from_secs(2);

/// What the helper wrote.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub event: String,
    /// Without the seal.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// A field that is there and not empty.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|(name, _)| name == key);
        field.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }
}

/// Tells records from what only looks like one, over one source from its start to its end.
#[derive(Debug)]
pub struct Judge {
    key_file: PathBuf,
    /// Who must own the key: root.
    owner: u32,
    /// Read when the first line comes; then `Some(None)` if there is none.
    key: Option<Option<Key>>,
    /// Hashes of what comes once only (a record itself is far longer), and when it came.
    seen: HashMap<u64, Timestamp>,
    hasher: RandomState,
}

impl Judge {
    pub fn new(key_file: impl Into<PathBuf>, owner: u32) -> Self {
        Self { key_file: key_file.into(), owner, key: None, seen: HashMap::new(), hasher: RandomState::new() }
    }

    /// The record that a message is; `None` if it is foreign.
    pub fn record(&mut self, entry: &Entry) -> Option<Record> {
        let text = std::str::from_utf8(&entry.text).ok().filter(|_| entry.whole)?;
        let believed = match entry.origin {
            // Also what the helper says on standard error comes from uid 0, where that is a socket of the journal's.
            Origin::Journal { uid } => uid == Some(0) && self.quiet_key().is_none_or(|key| key.is_sealed(text)),
            Origin::File => self.key().is_some_and(|key| key.is_sealed(text)),
        };
        let (event, mut fields) = believed.then(|| parse_log_line(text)).flatten()?;
        fields.retain(|(key, _)| key != "seal");
        let record = Record { event, fields };
        let id = record.get("id");
        // A seal says who wrote a line and not how often.
        let replayed = entry.origin == Origin::File
            && self.before(("line", text.as_bytes()), entry.time).is_some_and(|before| {
                // Without an id, two requests of one millisecond may well be the same.
                id.is_some() || entry.time.duration_since(before).abs() > MOMENT
            });
        let again = id.is_some_and(|id| record.event == "grant" && self.before(("grant", id), entry.time).is_some());
        (!replayed && !again).then_some(record)
    }

    /// When the same came first, if this is not the first time.
    fn before(&mut self, what: (&str, &[u8]), time: Timestamp) -> Option<Timestamp> {
        match self.seen.entry(self.hasher.hash_one(what)) {
            Seen::Occupied(first) => Some(*first.get()),
            Seen::Vacant(place) => {
                place.insert(time);
                None
            }
        }
    }

    /// Without a key the journal's word for the sender must do.
    fn quiet_key(&mut self) -> Option<&Key> {
        let (path, owner) = (&self.key_file, self.owner);
        self.key.get_or_insert_with(|| read_key(path, owner).ok()).as_ref()
    }

    fn key(&mut self) -> Option<&Key> {
        let (path, owner) = (&self.key_file, self.owner);
        let read = || read_key(path, owner).inspect_err(|trouble| tell(trouble)).ok();
        self.key.get_or_insert_with(read).as_ref()
    }
}

/// The key that seals the lines. One that others can read seals nothing.
fn read_key(path: &PathBuf, owner: u32) -> Result<Key, Trouble> {
    let missing = |error| Trouble::NoKey { path: path.into(), error };
    let file = File::open(path).map_err(missing)?;
    let meta = file.metadata().map_err(missing)?;
    let mut bytes = Vec::new();
    file.take(KEY_LENGTH as u64 + 1).read_to_end(&mut bytes).map_err(missing)?;
    let private = meta.is_file() && meta.uid() == owner && meta.mode() & 0o077 == 0;
    Key::new(&bytes).filter(|_| private).ok_or_else(|| Trouble::BadKey(path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::NamedTempFile;

    const KEY: [u8; KEY_LENGTH] = [7; KEY_LENGTH];

    fn key_file(bytes: &[u8], mode: u32) -> NamedTempFile {
        let mut file = NamedTempFile::new().expect("a file of our own");
        file.write_all(bytes).expect("it is written");
        set_permissions(file.path(), Permissions::from_mode(mode)).expect("chmod");
        file
    }

    fn judge(file: &NamedTempFile) -> Judge {
        Judge::new(file.path(), file.as_file().metadata().expect("it is there").uid())
    }

    fn sealed(line: &str) -> String {
        Key::new(&KEY).expect("a key").seal(line)
    }

    fn entry(text: impl Into<Vec<u8>>, origin: Origin) -> Entry {
        Entry { time: Timestamp::UNIX_EPOCH, text: text.into(), whole: true, origin }
    }

    #[test]
    fn in_a_file_only_a_sealed_line_is_believed() {
        let file = key_file(&KEY, 0o600);
        let mut judge = judge(&file);
        let line = sealed("auth-failure user=alice uid=1001 try=2");
        let record = judge.record(&entry(line.as_str(), Origin::File)).expect("it is sealed");
        assert_eq!((record.event.as_str(), record.get("try")), ("auth-failure", Some(&b"2"[..])));
        assert_eq!(record.get("seal"), None);
        for forged in [
            "grant id=1 user=root".to_owned(),
            "grant id=1 user=root seal=0123456789abcdef".to_owned(),
            line.replace("alice", "mallory"),
            format!("{line} user=root"),
            sealed("no line of the form"),
            String::new(),
        ] {
            assert_eq!(judge.record(&entry(forged.as_str(), Origin::File)), None, "{forged}");
        }
        let mut cut = entry(sealed("end id=2"), Origin::File);
        cut.whole = false;
        assert_eq!(judge.record(&cut), None);
        assert_eq!(judge.record(&entry(*b"\xff", Origin::File)), None);
    }

    #[test]
    fn in_the_journal_only_root_is_believed() {
        let mut judge = Judge::new("/nonexistent", 0);
        for (uid, believed) in [(Some(0), true), (Some(1000), false), (None, false)] {
            let record = judge.record(&entry("end id=1 status=exit:0", Origin::Journal { uid }));
            assert_eq!(record.is_some(), believed, "{uid:?}");
        }
        assert_eq!(judge.record(&entry("Hello", Origin::Journal { uid: Some(0) })), None);
    }

    #[test]
    fn a_line_that_is_replayed_is_foreign() {
        let file = key_file(&KEY, 0o600);
        let mut judge = judge(&file);
        let (grant, again) = (sealed("grant id=1 user=alice"), sealed("grant id=1 user=alice up=5"));
        let end = sealed("end id=1 user=alice");
        let mut believed = |line: &str| judge.record(&entry(line, Origin::File)).is_some();
        let answers = [believed(&grant), believed(&end), believed(&grant), believed(&again), believed(&end)];
        assert_eq!(answers, [true, true, false, false, false]);
        assert!(believed(&sealed("grant user=alice")) && believed(&sealed("grant user=bob")));
    }

    #[test]
    fn a_line_without_an_id_may_come_twice_in_a_moment() {
        let file = key_file(&KEY, 0o600);
        let mut judge = judge(&file);
        let mut believed = |second| {
            let mut entry = entry(sealed("refuse user=alice up=1.234"), Origin::File);
            entry.time = Timestamp::from_second(second).expect("a time");
            judge.record(&entry).is_some()
        };
        assert_eq!([0, 1, 2, 3, 600, -3].map(&mut believed), [true, true, true, false, false, false]);
    }

    #[test]
    fn a_replayed_grant_in_the_journal_is_foreign_and_a_second_end_is_not() {
        let mut judge = Judge::new("/nonexistent", 0);
        let mut believed = |line: &str| judge.record(&entry(line, Origin::Journal { uid: Some(0) })).is_some();
        assert!(believed("grant id=1") && !believed("grant id=1") && believed("grant id=2"));
        assert!(believed("end id=1") && believed("end id=1"));
    }

    #[test]
    fn a_forged_line_does_not_take_the_id_of_a_true_one() {
        let file = key_file(&KEY, 0o600);
        let mut judge = judge(&file);
        assert_eq!(judge.record(&entry("grant id=1 user=alice", Origin::File)), None);
        assert!(judge.record(&entry(sealed("grant id=1 user=alice"), Origin::File)).is_some());
    }

    #[test]
    fn a_key_that_is_not_roots_alone_seals_nothing() {
        for (bytes, mode, good) in [
            (&KEY[..], 0o600, true),
            (&KEY, 0o400, true),
            (&KEY, 0o640, false),
            (&KEY[1..], 0o600, false),
            (&[7; 17], 0o600, false),
        ] {
            let file = key_file(bytes, mode);
            let owner = file.as_file().metadata().expect("it is there").uid();
            assert_eq!(read_key(&file.path().into(), owner).is_ok(), good, "{mode:o}");
            assert!(read_key(&file.path().into(), owner + 1).is_err());
        }
        let missing = read_key(&"/nonexistent".into(), 0).expect_err("it is not there").to_string();
        assert!(missing.contains("without its key /nonexistent: No such file or directory;"), "{missing}");
    }
}
