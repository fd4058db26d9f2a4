//! Document x caller x request -> [`Grant`] or [`Refusal`], each with its reasons. Free of NSS and clock.

use crate::capability::{CapList, CapSet};
use crate::document::{Civil, Defaults, Document, Location, Profile};
use crate::request::Request;

/// Who asks, as the kernel and NSS say.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Real user id.
    pub uid: u32,
    /// Login name of that uid.
    pub name: String,
    /// Primary and supplementary groups that the kernel holds for the process.
    pub groups: Vec<Group>,
}

/// One of the caller's groups.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its id.
    pub gid: u32,
    /// Its name, if NSS knows one (and the document needs names at all).
    pub name: Option<String>,
}

/// The rest of what a judgement depends on.
pub struct World<'a> {
    /// Host name, as `uname -n` gives it.
    pub machine: &'a str,
    /// Seconds since the epoch.
    pub unix: i64,
    /// The same moment in the machine's time zone.
    pub local: Civil,
    /// Capabilities the kernel has (isolated sessions can have all of these).
    pub kernel: CapSet,
    /// Capabilities that the helper itself holds (what a host session can get).
    pub held: CapSet,
    /// Whether the first word of the asked command is the file at that path of the policy
    /// (same directory, same last name, reached only through what root alone can write).
    pub same_file: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

/// A request that a profile grants. Only [`judge`] makes one.
#[derive(Debug, Clone)]
#[must_use]
pub struct Grant {
    profile: Profile,
    defaults: Defaults,
    caps: CapSet,
    added: CapList,
    dropped: CapList,
    privileged: bool,
    command_path: Option<String>,
}

#[allow(missing_docs)] // plain readers of the fields
impl Grant {
    pub fn profile(&self) -> &Profile {
        &self.profile
    }
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }
    /// What the session holds, exactly.
    pub fn caps(&self) -> CapSet {
        self.caps
    }
    /// What was asked to be added, for the log.
    pub fn added(&self) -> CapList {
        self.added
    }
    pub fn dropped(&self) -> CapList {
        self.dropped
    }
    pub fn privileged(&self) -> bool {
        self.privileged
    }
    pub fn rule(&self) -> &Location {
        &self.profile.at
    }
    /// The policy's path of the command, where `commands` bound it.
    pub fn command_path(&self) -> Option<&str> {
        self.command_path.as_deref()
    }
}

/// Why one profile did not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// `-p` named another one.
    NotNamed,
    /// The caller is not among its users and groups.
    NotSubject,
    /// Taken out by `not_users` or `not_groups`.
    TakenOut,
    /// Not on this machine.
    OtherMachine,
    /// `valid_from` lies ahead.
    NotYet,
    /// `valid_until` is over.
    Expired,
    /// Asked for by name or as ALL, and neither in `may_add` nor in `caps`.
    NotMayAdd(CapList),
    /// Can do nothing in this scope and network.
    Useless(CapSet),
    /// Not one of its commands.
    Command,
    /// A host profile without `commands`, taken only with `-p`.
    NeedsName,
    /// `--privileged` where the profile does not allow it (or a host profile).
    Privileged,
    /// Asked for by name, and the helper itself does not hold it.
    NotHeld(CapSet),
    /// `login` was asked and the profile has `login = false` (login issue).
    NoLogin,
}

/// A request that nothing grants.
#[derive(Debug, Clone)]
#[must_use]
pub struct Refusal {
    /// Each profile of the policy with why it did not fit, in the order tried. For root (`check --as`) and tests;
    /// [`Refusal::lines`] shows a user only what is the user's own.
    pub tried: Vec<(String, Location, Reason)>,
    lines: Vec<String>,
    log_reason: String,
}

impl Refusal {
    /// What the user reads, without the `caplet: ` in front: what was asked, why not, what would work, the contact.
    /// Escaped for a terminal.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
    /// `reason=` of the log line: `not in this profile`.
    pub fn log_reason(&self) -> &str {
        &self.log_reason
    }
}

/// Judges a request.
///
/// # Errors
/// The refusal, with the reason of every profile.
pub fn judge(_document: &Document, _caller: &Caller, _world: &World<'_>, _request: &Request) -> Result<Grant, Refusal> {
    todo!()
}

/// The caller's own profiles (named, not taken out, on this machine, today), in the order tried.
pub fn own_profiles<'d>(_document: &'d Document, _caller: &Caller, _world: &World<'_>) -> Vec<&'d Profile> {
    todo!()
}
