//! What each capability gates, where it works and how it becomes root: `capabilities.tsv` as data.

use crate::capability::Capability;

/// A three-valued fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Degree {
    /// Wholly so.
    Full,
    /// In part.
    Partial,
    /// Not at all.
    None,
}

/// One row of the handbook.
#[derive(Debug)]
pub struct Entry {
    /// Which capability.
    pub name: &'static str,
    /// How far it works inside a user namespace that does not own the object (column `userns`).
    pub userns: Degree,
    /// Whether it is as good as root on a host file system (yes = Full, partial, no = None).
    pub root_equivalent: Degree,
    /// Whether Docker gives it by default.
    pub docker: bool,
    /// What it gates, in words.
    #[cfg(feature = "render")]
    pub gates: &'static str,
    /// How it becomes root, or what harm it does.
    #[cfg(feature = "render")]
    pub how: &'static str,
    /// A command people know that needs it, or "-".
    #[cfg(feature = "render")]
    pub example: &'static str,
}

/// The row of a capability.
pub fn entry(_cap: Capability) -> &'static Entry {
    todo!()
}
