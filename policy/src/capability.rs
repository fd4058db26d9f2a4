//! Names and sets of capabilities, and Docker's vocabulary for them. No policy in here.

use std::fmt;

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
        todo!()
    }

    /// Docker's reading of one name: any case, `CAP_` or not, blanks around trimmed. Not `ALL`.
    ///
    /// # Errors
    /// The name is empty or unknown; the error offers the nearest known name.
    pub fn parse(_text: &str) -> Result<Self, NameError> {
        todo!()
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
        (0..Capability::COUNT)
            .filter_map(Capability::from_number)
            .filter(move |c| self.contains(*c))
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
    pub fn add_text(&mut self, _text: &str) -> Result<(), NameError> {
        todo!()
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
