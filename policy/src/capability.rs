//! Names and sets of capabilities, and Docker's vocabulary for them. No policy in here.

use crate::escape;
use crate::handbook;
use std::fmt;

/// The word for every capability, in `--cap-add`, `--cap-drop` and `may_add`; never with `CAP_` before it.
pub const ALL: &str = "ALL";

/// One of the 41 capabilities of Linux 6.18 (`include/uapi/linux/capability.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// How many this program knows: 0 (CHOWN) to 40 (CHECKPOINT_RESTORE).
    pub const COUNT: u8 = 41;

    /// The capability of that number, if this program knows it.
    pub const fn from_number(number: u8) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// Its number in the kernel's bit masks.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its short name, as people type it: `NET_ADMIN`, without `CAP_`.
    pub fn name(self) -> &'static str {
        handbook::entry(self).name
    }

    /// Docker's reading of one name: any case, `CAP_` or not, blanks around trimmed. Not `ALL`.
    ///
    /// # Errors
    /// The name is empty or unknown; the error offers the nearest known name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        // Case is ASCII's alone: Unicode's upper case would turn a long s into an S.
        let upper = text.trim().to_ascii_uppercase();
        if upper.is_empty() {
            return Err(NameError::Empty);
        }
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let found = CapSet::KNOWN.iter().find(|cap| cap.name() == name);
        found.ok_or_else(|| NameError::Unknown { text: text.to_owned(), near: nearest_name(name) })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// Nothing between the commas, or an empty value.
    Empty,
    /// The text as typed (unescaped: escape before printing) and the nearest known name, if one is near.
    Unknown {
        /// What was typed, unescaped.
        text: String,
        /// The nearest known name.
        near: Option<&'static str>,
    },
}

/// `unknown capability "NET-ADMIN"; did you mean NET_ADMIN?`, escaped for a terminal.
impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, near) = match self {
            Self::Empty => return f.write_str("empty capability name"),
            Self::Unknown { text, near } => (text, near),
        };
        write!(f, "unknown capability {}", escape::quoted(text.as_bytes()))?;
        match near {
            Some(name) => write!(f, "; did you mean {name}?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NameError {}

/// The known name (or `ALL`) that an upper-case text without prefix was meant to be.
fn nearest_name(text: &str) -> Option<&'static str> {
    if text == ALL {
        return Some(ALL);
    }
    // `PTRACE` for SYS_PTRACE: the last words of exactly one name.
    let mut tails = CapSet::KNOWN.iter().map(Capability::name).filter(|name| {
        let head = name.strip_suffix(text);
        head.is_some_and(|head| head.ends_with('_'))
    });
    match (tails.next(), tails.next()) {
        (Some(only), None) => Some(only),
        _ => nearest(text, CapSet::KNOWN.iter().map(Capability::name)),
    }
}

/// The candidate that differs least from a text, if one is near enough to offer: at most one slip (a character
/// missing, superfluous, wrong or swapped with its neighbour) in three characters. The first one among equals.
pub fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let typed: Vec<char> = text.chars().take(65).collect();
    let limit = typed.len() / 3;
    let slips = |name: &str| (typed.len() <= 64).then(|| distance(&typed, &name.chars().collect::<Vec<_>>()));
    let scored = candidates.into_iter().filter_map(|name| Some((slips(name)?, name)));
    let best = scored.min_by_key(|(slips, _)| *slips)?;
    (best.0 <= limit).then_some(best.1)
}

/// The optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut cost = (at(&row, j) + usize::from(x != y)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            if i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x) {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut row, next);
    }
    at(&row, b.len())
}

/// A set of capabilities, as the kernel's 64-bit mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability this program knows.
    pub const KNOWN: Self = Self((1 << Capability::COUNT) - 1);
    /// Docker's 14 (`daemon/pkg/oci/caps/defaults.go`).
    pub const DOCKER: Self = Self(0xa804_25fb);
    /// Podman's 11 (`containers.conf`, `default_capabilities`).
    pub const PODMAN: Self = Self(0x8004_05fb);

    /// NET_BIND_SERVICE, NET_BROADCAST, NET_ADMIN, NET_RAW: what acts on the network namespace.
    pub const NETWORK: Self = Self(0xf << 10);

    /// The set of that mask; bits this program does not know are dropped.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::KNOWN.0)
    }
    /// The kernel's mask.
    pub const fn bits(self) -> u64 {
        self.0
    }
    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Whether that capability is in it.
    pub const fn contains(self, cap: Capability) -> bool {
        self.0 & (1 << cap.0) != 0
    }
    /// Whether all of `other` is in it.
    pub const fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// What is in this one and not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// The set with that capability too.
    #[must_use]
    pub const fn with(self, cap: Capability) -> Self {
        Self(self.0 | (1 << cap.0))
    }
    /// Its members by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..Capability::COUNT).filter_map(Capability::from_number).filter(move |c| self.contains(*c))
    }
}

impl FromIterator<Capability> for CapSet {
    fn from_iter<I: IntoIterator<Item = Capability>>(caps: I) -> Self {
        caps.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// Short names, by number, joined by commas: `CHOWN,NET_ADMIN`; nothing for the empty set.
impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, cap) in self.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            f.write_str(cap.name())?;
        }
        Ok(())
    }
}

/// What `--cap-add` or `--cap-drop` named, all of its occurrences together: names, and perhaps `ALL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapList {
    /// `ALL` was among them.
    pub all: bool,
    /// Those given by name.
    pub names: CapSet,
}

impl CapList {
    /// Reads one value of the flag (comma list, blanks trimmed, any case, `ALL` in any case) into the list.
    ///
    /// # Errors
    /// An empty or unknown name anywhere in it (`CAP_ALL` is unknown); the list is then unchanged.
    pub fn add_text(&mut self, text: &str) -> Result<(), NameError> {
        let mut list = *self;
        for name in text.split(',') {
            if name.trim().eq_ignore_ascii_case(ALL) {
                list.all = true;
            } else {
                list.names = list.names.with(Capability::parse(name)?);
            }
        }
        *self = list;
        Ok(())
    }
    /// Nothing was named.
    pub const fn is_empty(&self) -> bool {
        !self.all && self.names.is_empty()
    }
}

/// `ALL,CHOWN`: the form of the wire and of the log.
impl fmt::Display for CapList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.all {
            f.write_str(if self.names.is_empty() { "ALL" } else { "ALL," })?;
        }
        fmt::Display::fmt(&self.names, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cap(name: &str) -> Capability {
        Capability::parse(name).unwrap()
    }

    fn near(text: &str) -> Option<&'static str> {
        match Capability::parse(text) {
            Err(NameError::Unknown { near, .. }) => near,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn list(texts: &[&str]) -> Result<CapList, NameError> {
        let mut list = CapList::default();
        for text in texts {
            list.add_text(text)?;
        }
        Ok(list)
    }

    #[test]
    fn names_stand_at_the_kernels_numbers() {
        for (number, name) in
            [(0, "CHOWN"), (12, "NET_ADMIN"), (21, "SYS_ADMIN"), (25, "SYS_TIME"), (40, "CHECKPOINT_RESTORE")]
        {
            assert_eq!(cap(name).number(), number);
            assert_eq!(cap(name).name(), name);
        }
        assert_eq!(Capability::from_number(41), None);
        assert_eq!(Capability::from_number(255), None);
    }

    #[test]
    fn sets_with_a_name_are_these() {
        let set = |names: &[&str]| CapSet::from_iter(names.iter().map(|name| cap(name)));
        assert_eq!(CapSet::NETWORK, set(&["NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"]));
        assert_eq!(cap("NET_ADMIN").to_string(), "NET_ADMIN");
    }

    #[test]
    fn a_slip_is_an_insertion_a_deletion_another_letter_or_a_swap() {
        for (a, b, slips) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("kill", "kill", 0),
            ("kil", "kill", 1),
            ("kiill", "kill", 1),
            ("kull", "kill", 1),
            ("ikll", "kill", 1),
            ("kill", "klil", 1),
            ("abcd", "badc", 2),
            ("abc", "cab", 2),
            ("kitten", "sitting", 3),
            ("abab", "baba", 2),
            ("xaby", "xcdy", 2),
        ] {
            let of = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(distance(&of(a), &of(b)), slips, "{a} {b}");
        }
    }

    #[test]
    fn one_name_in_every_way_docker_and_podman_take_it() {
        for text in [
            "NET_ADMIN",
            "net_admin",
            "Net_Admin",
            "CAP_NET_ADMIN",
            "cap_net_admin",
            "Cap_Net_Admin",
            " NET_ADMIN ",
            "\tcap_net_admin\n",
        ] {
            assert_eq!(Capability::parse(text), Ok(cap("NET_ADMIN")), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_name_is_no_name() {
        for text in [
            "12",
            "NET-ADMIN",
            "NET ADMIN",
            "CAP_CAP_CHOWN",
            "CAP_",
            "CAP CHOWN",
            "CHOWN,KILL",
            "ALL",
            "CAP_ALL",
            "-1",
            "\u{17f}YS_ADMIN",
            "docker",
        ] {
            assert!(matches!(Capability::parse(text), Err(NameError::Unknown { .. })), "{text:?}");
        }
        for text in ["", " ", "\t"] {
            assert_eq!(Capability::parse(text), Err(NameError::Empty), "{text:?}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered() {
        for (text, name) in [
            ("NET-ADMIN", "NET_ADMIN"),
            ("cap_netadmin", "NET_ADMIN"),
            ("sys_amdin", "SYS_ADMIN"),
            ("PTRACE", "SYS_PTRACE"),
            ("time", "SYS_TIME"),
            ("CAP_ALL", "ALL"),
            ("KIL", "KILL"),
        ] {
            assert_eq!(near(text), Some(name), "{text}");
        }
        for text in ["12", "X", "ADMIN", "docker", "CHECKPOINT", "frobnicate", &"NET_ADMIN".repeat(20_000)] {
            assert_eq!(near(text), None, "{}", text.len());
        }
    }

    #[test]
    fn errors_are_one_safe_line() {
        let text = |t: &str| Capability::parse(t).unwrap_err().to_string();
        assert_eq!(text("NET-ADMIN"), "unknown capability \"NET-ADMIN\"; did you mean NET_ADMIN?");
        assert_eq!(text("a\n\u{1b}[31m"), "unknown capability \"a\\n\\x1b[31m\"");
        assert_eq!(text(""), "empty capability name");
        assert!(text(&"x".repeat(100_000)).len() < 200);
    }

    #[test]
    fn the_sets_of_docker_and_podman() {
        assert_eq!(CapSet::DOCKER.iter().count(), 14);
        assert_eq!(CapSet::PODMAN.iter().count(), 11);
        assert_eq!(CapSet::DOCKER.minus(CapSet::PODMAN).to_string(), "NET_RAW,MKNOD,AUDIT_WRITE");
        assert_eq!(CapSet::PODMAN.minus(CapSet::DOCKER), CapSet::EMPTY);
        assert_eq!(CapSet::KNOWN.iter().count(), 41);
        assert_eq!(CapSet::from_bits(u64::MAX), CapSet::KNOWN);
    }

    #[test]
    fn lists_as_podman_splits_them() {
        let expect = "CHOWN,NET_ADMIN";
        for texts in [
            &["chown", "net_admin"][..],
            &["NET_ADMIN,CHOWN"],
            &[" CAP_CHOWN , net_admin"],
            &["CHOWN,CHOWN", "NET_ADMIN", "chown"],
        ] {
            assert_eq!(list(texts).unwrap().to_string(), expect, "{texts:?}");
        }
        assert_eq!(list(&["all"]).unwrap().to_string(), "ALL");
        assert_eq!(list(&["CHOWN, All"]).unwrap().to_string(), "ALL,CHOWN");
        assert!(list(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_bad_value_leaves_the_list_as_it_was() {
        for text in ["", ",", "KILL,", ",KILL", "KILL,,CHOWN", "KILL,nosuch", "ALL,CAP_ALL", "ALL,", "CAP_ALL"] {
            let mut caps = list(&["CHOWN"]).unwrap();
            assert!(caps.add_text(text).is_err(), "{text:?}");
            assert_eq!(caps.to_string(), "CHOWN", "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = Capability::parse(&text);
            let _ = CapList::default().add_text(&text);
        }

        #[test]
        fn a_printed_list_reads_back(bits in any::<u64>(), all: bool) {
            let list = CapList { all, names: CapSet::from_bits(bits) };
            prop_assume!(!list.is_empty());
            let mut read = CapList::default();
            read.add_text(&list.to_string()).unwrap();
            prop_assert_eq!(read, list);
        }

        #[test]
        fn order_and_repeats_mean_nothing(bits in any::<u64>(), again in proptest::collection::vec(0u8..41, 0..9), turn in 0usize..41) {
            let set = CapSet::from_bits(bits | 1);
            let mut names: Vec<_> = set.iter().map(|c| c.name().to_ascii_lowercase()).collect();
            let repeated = again.iter().filter_map(|n| Capability::from_number(*n)).filter(|c| set.contains(*c));
            names.extend(repeated.map(|c| format!("cap_{}", c.name())));
            let len = names.len();
            names.rotate_left(turn % len);
            let mut read = CapList::default();
            read.add_text(&names.join(", ")).unwrap();
            prop_assert_eq!(read.names, set);
        }
    }
}
