//! Document x caller x request -> [`Grant`] or [`Refusal`], each with its reasons. Free of NSS and clock.

use crate::capability::{CapList, CapSet};
use crate::document::{Civil, Command, Defaults, Document, Lan, Location, Moment, Network, Profile, Scope, Subject};
use crate::handbook::{Degree, entry};
use crate::request::{Request, Start};
use std::ffi::OsStr;

#[cfg(test)]
mod tests;
mod words;

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
        f.debug_struct("World").field("machine", &self.machine).finish_non_exhaustive()
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
    lan: Option<Lan>,
}

impl Grant {
    /// Whether the other grants the same by the same profile.
    pub fn is_same_as(&self, other: &Self) -> bool {
        // Where they stand in their files is nothing that is granted.
        let at = &self.profile.at;
        let profile = Profile { at: at.clone(), ..other.profile.clone() };
        let lan = other.lan.clone().map(|lan| Lan { at: at.clone(), ..lan });
        let own = self.lan.clone().map(|lan| Lan { at: at.clone(), ..lan });
        (&self.profile, own, self.caps, self.privileged, &self.command_path)
            == (&profile, lan, other.caps, other.privileged, &other.command_path)
    }
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
    /// The network that the session gets a link into.
    pub fn lan(&self) -> Option<&Lan> {
        self.lan.as_ref()
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
pub fn judge(document: &Document, caller: &Caller, world: &World<'_>, request: &Request) -> Result<Grant, Refusal> {
    if let Err(senseless) = request.check() {
        return Err(Refusal { tried: Vec::new(), log_reason: senseless.0.clone(), lines: vec![senseless.0] });
    }
    let mut tried = Vec::new();
    for profile in in_order(document) {
        match fits(profile, caller, world, request) {
            Ok((caps, command_path)) => {
                return Ok(Grant {
                    profile: profile.clone(),
                    defaults: document.defaults.clone(),
                    caps,
                    added: request.add,
                    dropped: request.drop,
                    privileged: request.privileged,
                    command_path,
                    lan: lan_of(document, profile).cloned(),
                });
            }
            Err(reason) => tried.push((profile.name.clone(), profile.at.clone(), reason)),
        }
    }
    Err(words::refusal(document, caller, world, request, tried))
}

/// The network that a profile names.
pub fn lan_of<'d>(document: &'d Document, profile: &Profile) -> Option<&'d Lan> {
    let Network::Named(name) = &profile.network else { return None };
    document.networks.iter().find(|lan| lan.name == *name)
}

/// The caller's own profiles (named, not taken out, on this machine, today), in the order tried.
pub fn own_profiles<'d>(document: &'d Document, caller: &Caller, world: &World<'_>) -> Vec<&'d Profile> {
    in_order(document).filter(|profile| is_open_to(profile, caller, world).is_ok()).collect()
}

/// Isolated profiles before host ones, otherwise as written.
fn in_order(document: &Document) -> impl Iterator<Item = &Profile> {
    let of = |scope: Scope| document.profiles.iter().filter(move |profile| profile.scope == scope);
    of(Scope::Isolated).chain(of(Scope::Host))
}

/// Whether a profile grants the request: what is then held, and the policy's path of the command.
fn fits(
    profile: &Profile,
    caller: &Caller,
    world: &World<'_>,
    request: &Request,
) -> Result<(CapSet, Option<String>), Reason> {
    if request.profile.as_ref().is_some_and(|name| *name != profile.name) {
        return Err(Reason::NotNamed);
    }
    is_open_to(profile, caller, world)?;
    if request.login && !profile.login {
        return Err(Reason::NoLogin);
    }
    if request.privileged && (profile.scope == Scope::Host || !profile.privileged) {
        return Err(Reason::Privileged);
    }
    if profile.scope == Scope::Host && profile.commands.is_none() && request.profile.is_none() {
        return Err(Reason::NeedsName);
    }
    let command = match &profile.commands {
        None => None,
        Some(commands) => Some(listed(commands, world, request).ok_or(Reason::Command)?),
    };
    Ok((capabilities(profile, world, request)?, command))
}

/// The set algebra of Docker, inside what the profile allows.
fn capabilities(profile: &Profile, world: &World<'_>, request: &Request) -> Result<CapSet, Reason> {
    let host = profile.scope == Scope::Host;
    let (start, all) = (profile.starting_set(), if host { world.held } else { world.kernel });
    let allowed = if profile.may_add_all { CapSet::KNOWN } else { profile.may_add.union(start) };
    let excess = CapList { all: request.add.all && !profile.may_add_all, names: request.add.names.minus(allowed) };
    if !request.privileged && !excess.is_empty() {
        return Err(Reason::NotMayAdd(excess));
    }
    let useless = request.add.names.minus(start).intersection(useless_in(profile));
    // Under ALL and --privileged what can do nothing is taken without a word.
    let by_all = request.privileged || request.add.all;
    if !by_all && !useless.is_empty() {
        return Err(Reason::Useless(useless));
    }
    // ALL in drop empties the start, also that of --privileged; then the additions count.
    let (kept, added) = if request.drop.all {
        (CapSet::EMPTY, request.add.names)
    } else {
        let start = if by_all { all } else { start };
        (start.minus(request.drop.names), request.add.names.minus(request.drop.names))
    };
    let wanted = kept.union(added);
    let missing = if by_all { added.minus(all) } else { wanted.minus(all) };
    if missing.is_empty() { Ok(wanted) } else { Err(Reason::NotHeld(missing)) }
}

/// What can do nothing in a profile's scope and network. An isolated session on the host's network does not own it.
fn useless_in(profile: &Profile) -> CapSet {
    if profile.scope == Scope::Host {
        return CapSet::EMPTY;
    }
    let network = if profile.network == Network::Host { CapSet::NETWORK } else { CapSet::EMPTY };
    CapSet::KNOWN.iter().filter(|cap| entry(*cap).userns == Degree::None).fold(network, CapSet::with)
}

/// The policy's path of the asked command, if it is one of the list with these arguments.
fn listed(commands: &[Command], world: &World<'_>, request: &Request) -> Option<String> {
    let Start::Command(argv) = &request.start else {
        return None;
    };
    let arguments = argv.get(1..)?;
    let same = |listed: &[String]| {
        listed.len() == arguments.len() && listed.iter().zip(arguments).all(|(a, b)| OsStr::new(a) == b)
    };
    let found =
        commands.iter().find(|command| command.args.as_deref().is_none_or(same) && (world.same_file)(&command.path));
    found.map(|command| command.path.clone())
}

/// Whether a profile speaks of the caller at all: no other one has a say in a judgement.
pub fn speaks_of(profile: &Profile, caller: &Caller) -> bool {
    profile.users.iter().any(|subject| is_user(subject, caller)) || profile.groups.iter().any(|s| is_group(s, caller))
}

fn is_user(subject: &Subject, caller: &Caller) -> bool {
    match subject {
        Subject::Everybody => true,
        Subject::Name(name) => *name == caller.name,
        Subject::Id(uid) => *uid == caller.uid,
    }
}

fn is_group(subject: &Subject, caller: &Caller) -> bool {
    caller.groups.iter().any(|group| match subject {
        Subject::Everybody => false,
        Subject::Name(name) => group.name.as_deref() == Some(name),
        Subject::Id(gid) => *gid == group.gid,
    })
}

/// Whether a profile is the caller's, here and now.
fn is_open_to(profile: &Profile, caller: &Caller, world: &World<'_>) -> Result<(), Reason> {
    if !speaks_of(profile, caller) {
        return Err(Reason::NotSubject);
    }
    let taken = |subjects: &[Subject], is: fn(&Subject, &Caller) -> bool| subjects.iter().any(|s| is(s, caller));
    // A group whose name nobody can tell (a directory that does not answer) may be the one.
    let unsure = profile.not_groups.iter().any(|subject| matches!(subject, Subject::Name(_)))
        && caller.groups.iter().any(|group| group.name.is_none());
    if taken(&profile.not_users, is_user) || taken(&profile.not_groups, is_group) || unsure {
        return Err(Reason::TakenOut);
    }
    if !profile.machines.is_empty() && !profile.machines.iter().any(|pattern| is_match(pattern, world.machine)) {
        return Err(Reason::OtherMachine);
    }
    let before = |moment: Moment| match moment {
        Moment::Local(local) => world.local < local,
        Moment::Unix(unix) => world.unix < unix,
    };
    let after = |moment: Moment| match moment {
        Moment::Local(local) => world.local > local,
        Moment::Unix(unix) => world.unix > unix,
    };
    if profile.valid_from.is_some_and(before) {
        return Err(Reason::NotYet);
    }
    if profile.valid_until.is_some_and(after) {
        return Err(Reason::Expired);
    }
    Ok(())
}

/// `*` is any run of characters, `?` one; host names know no case.
fn is_match(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n, mut star) = (0, 0, None);
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}
