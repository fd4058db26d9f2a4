//! The seal of a log line: a keyed hash over its text. In a plain syslog file nothing else tells a record of the
//! helper from `logger -t caplet`; the key is root's alone.

// SipHash-2-4 is a keyed hash made for short texts, and this is the standard library's own. It is deprecated as a
// hasher for maps only, and saves the setuid helper a crate.
use std::hash::Hasher;
#[allow(deprecated)]
use std::hash::SipHasher;

/// Where the key lies: [`KEY_LENGTH`] random bytes, root's, mode 0600, made by the helper when it first needs them.
pub const KEY_FILE: &str = "/var/lib/caplet/log.key";
/// Its length in bytes: SipHash's key.
pub const KEY_LENGTH: usize = 16;
/// What stands between a line and its seal, always the last field.
const FIELD: &str = " seal=";

/// A key; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_LENGTH]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// The key that these bytes are; `None` if their number is wrong.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().map(Self).ok()
    }

    /// The line with its seal: `grant id=7f ... seal=0123456789abcdef`.
    pub fn seal(&self, line: &str) -> String {
        format!("{line}{FIELD}{:016x}", self.hash(line))
    }

    /// Whether the line bears this key's seal, over all that stands before it.
    pub fn is_sealed(&self, line: &str) -> bool {
        line.rsplit_once(FIELD).is_some_and(|(text, seal)| format!("{:016x}", self.hash(text)) == seal)
    }

    /// A number that nobody can foretell without the key; of a text that is no log line's.
    pub fn number(&self, text: &str) -> u64 {
        self.hash(text)
    }

    #[allow(deprecated)]
    fn hash(&self, text: &str) -> u64 {
        let [a, b] =
            [&self.0[..8], &self.0[8..]].map(|half| half.iter().rev().fold(0, |n, b| (n << 8) | u64::from(*b)));
        let mut hasher = SipHasher::new_with_keys(a, b);
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_siphash_2_4_as_published() {
        // The paper's own example: key 00 01 .. 0f, text 00 01 .. 0e.
        let key = Key::new(&(0..16).collect::<Vec<u8>>()).unwrap();
        let text: String = (0..15u8).map(char::from).collect();
        assert_eq!(key.hash(&text), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn a_seal_holds_for_its_own_text_and_key_alone() {
        let (key, other) = (Key::new(&[7; 16]).unwrap(), Key::new(&[8; 16]).unwrap());
        let line = key.seal("grant id=7f3a90 user=alice command=\"a seal=1\"");
        assert!(key.is_sealed(&line));
        assert!(!other.is_sealed(&line));
        assert!(!key.is_sealed(&line.replace("alice", "mallory")));
        assert!(!key.is_sealed("grant id=7f3a90 user=alice"));
        assert!(!key.is_sealed(&format!("{line} user=root")));
        assert!(!key.is_sealed(&line.to_uppercase()));
        assert_eq!(Key::new(&[1; 15]), None);
    }
}
