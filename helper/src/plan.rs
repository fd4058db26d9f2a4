//! What is going to be built, as data made from the grant: every decision of a session stands here, and the
//! builders only carry it out.

use crate::agent::Agent;
use crate::caller::{Moment, Person};
use crate::capset::Target;
use crate::command::{self, Program};
use crate::environment::{Environment, shell};
use crate::error::{Error, NOT_FOUND, call};
use crate::hygiene::{Inherited, Power};
use crate::idmap::{self, Maps};
use crate::limits::Limits;
use crate::rootfs::Tree;
use crate::scheduling::Scheduling;
use crate::seccomp::Filter;
use crate::sys::identity;
use caplet_policy::capability::CapSet;
use caplet_policy::document::{
    self, GroupsKeep, Network, Profile, ROOT_GROUPS, Scope, Seccomp, Subject, UserMode, Why,
};
use caplet_policy::judge::{Caller, Grant};
use caplet_policy::request::{Request, Start};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::{CString, OsString};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A session that has not been built yet.
#[derive(Debug)]
pub struct Plan {
    pub target: Target,
    pub limits: Limits,
    /// The caller's own, for what runs outside the session as the user.
    pub limits_outside: Limits,
    pub umask: Umask,
    /// Supplementary groups, narrowed.
    pub groups: Vec<u32>,
    pub environment: Environment,
    pub start: Launch,
    /// Signals that stay ignored for the command.
    pub ignored: Vec<i32>,
    /// Where the command starts, if it is there.
    pub cwd: Option<PathBuf>,
    pub home: PathBuf,
    pub lifetime: Option<Duration>,
    /// When it was judged, since boot.
    pub judged_at: Duration,
    pub quiet: bool,
    /// Whether the new session keyring shows the user's own, as pam_keyinit(8) leaves it: with a PAM session, and in
    /// host scope alone. An isolated session has a user keyring of its own namespace.
    pub user_keyring: bool,
    /// `None`: host scope.
    pub isolation: Option<Isolation>,
    pub power: Power,
    /// What the command has back of its caller's.
    pub scheduling: Scheduling,
}

/// The command's umask, and whether the profile says so.
#[derive(Debug, Clone, Copy)]
pub struct Umask {
    pub mask: u32,
    pub fixed: bool,
}

impl Umask {
    pub fn set(self) {
        nix::sys::stat::umask(Mode::from_bits_truncate(self.mask));
    }
}

/// What is executed at the end.
#[derive(Debug)]
pub enum Launch {
    /// Looked up as the user, in the session, along the user's PATH.
    Search(Vec<CString>),
    /// The policy's command.
    Policy { program: Program, argv: Vec<CString> },
    /// The stage inside, which starts the user's shell, or watches the command and reports; opened before the tree
    /// changed.
    Stage { file: OwnedFd, argv: Vec<CString>, report: Option<OwnedFd> },
}

/// The namespaces of an isolated session and what fills them.
#[derive(Debug)]
pub struct Isolation {
    /// CLONE_NEW* flags, all at once, owned by the new user namespace.
    pub namespaces: i32,
    pub maps: Maps,
    /// Who owns them. `None`: whoever makes them.
    pub owner: Option<u32>,
    pub tree: Tree,
    pub hostname: Option<String>,
    /// Whether programs inside may make user namespaces of their own.
    pub nested: bool,
    /// Whether they may make namespaces of any other kind.
    pub makes_namespaces: bool,
    /// The command's system call filter; `None` where the profile or `--privileged` says so.
    pub filter: Option<Filter>,
    /// Whether the limit on them must stand above the session: it holds CAP_SYS_RESOURCE.
    pub ceiling: bool,
    pub private_network: bool,
    /// Name servers of the network that the session is in.
    pub dns: Vec<IpAddr>,
    /// Whether what the command leaves behind goes on.
    pub linger: bool,
    /// Whether what the kernel refuses to it is read, for `caplet why`.
    pub traced: bool,
    /// Where the name of an agent's socket is sshd's: it is bound if the socket is.
    pub agent: Option<Agent>,
}

/// CLONE_NEWTIME of `linux/sched.h`.
const CLONE_NEWTIME: i32 = 0x80;
/// CAP_SYS_ADMIN, of `linux/capability.h`.
const SYS_ADMIN: u64 = 1 << 21;
/// CAP_SYS_RESOURCE, of `linux/capability.h`.
const SYS_RESOURCE: u64 = 1 << 24;

impl Plan {
    /// Makes the plan of a grant; opens what must be opened before the tree changes.
    pub fn of(
        grant: &Grant,
        person: &Person,
        caller: &Caller,
        request: &Request,
        inherited: &Inherited,
        cwd: Option<PathBuf>,
        moment: &Moment,
    ) -> Result<Self, Error> {
        let profile = grant.profile();
        let groups = kept_groups(&profile.groups_keep, caller);
        let environment = Environment::of(grant, person, &inherited.environment);
        let mut isolation = match profile.scope {
            Scope::Isolated => Some(Isolation::of(grant, person, inherited.power, moment.held)?),
            Scope::Host => None,
        };
        if let Some(isolation) = &mut isolation {
            isolation.traced = is_traced(grant, request, inherited.power);
        }
        if let Some(isolation) = isolation.as_mut().filter(|_| request.login || request.tied) {
            isolation.agent = environment.get("SSH_AUTH_SOCK").and_then(Agent::named);
        }
        Ok(Self {
            target: target(grant, person, &groups),
            limits: Limits::of(&inherited.limits, &profile.limits, reads_for_another(grant))?,
            limits_outside: Limits::of(&inherited.limits, &[], false)?,
            umask: Umask { mask: profile.umask.unwrap_or(inherited.umask), fixed: profile.umask.is_some() },
            groups,
            environment,
            start: launch(grant, person, request, inherited)?,
            ignored: inherited.ignored.clone(),
            cwd,
            home: person.home.clone(),
            lifetime: lifetime(profile, moment.unix),
            judged_at: moment.boot,
            quiet: request.quiet,
            user_keyring: profile.pam_session,
            isolation,
            power: inherited.power,
            scheduling: inherited.scheduling.clone(),
        })
    }

    /// Where it was judged anew, and so later.
    pub fn date(&mut self, profile: &Profile, now: &Moment) {
        self.lifetime = lifetime(profile, now.unix);
        self.judged_at = now.boot;
    }
}

/// How long the session may last: `max_lifetime`, or until `valid_until` is over. As a span, so that whoever may set
/// the clock gains nothing by it.
fn lifetime(profile: &Profile, now: i64) -> Option<Duration> {
    let minutes = profile.max_lifetime.map(|minutes| Duration::from_secs(u64::from(minutes) * 60));
    let until = profile.valid_until.map(|until| {
        let last = match until {
            document::Moment::Local(civil) => identity::unix_time(civil),
            document::Moment::Unix(unix) => unix,
        };
        // The last second still belongs to it.
        Duration::from_secs(last.saturating_add(1).saturating_sub(now).max(0) as u64)
    });
    minutes.into_iter().chain(until).min()
}

/// The sets of each scope and user mode (contract, "Two scopes").
fn target(grant: &Grant, person: &Person, groups: &[u32]) -> Target {
    let profile = grant.profile();
    match (profile.scope, profile.user) {
        (Scope::Isolated, UserMode::Root) => Target::namespace_root(grant.caps()),
        (Scope::Isolated, UserMode::Own) => Target::ambient(person.uid, person.gid, grant.caps()),
        (Scope::Host, _) => {
            let target =
                Target { groups: Some(groups.into()), ..Target::ambient(person.uid, person.gid, grant.caps()) };
            let target = if reads_for_another(grant) { without_core(target) } else { target };
            match profile.no_new_privs {
                true => target,
                // Setuid programs must work whole or not at all: nothing is cut that they would miss.
                false => Target { bounding: None, securebits: 0, no_new_privs: false, ..target },
            }
        }
    }
}

/// The primary group among the others: newer kernels (seen with 6.18) look at exec for the effective one among those that the
/// process is in for files, and take all capabilities where it is not (in_group_p, security/commoncap.c).
fn without_core(mut target: Target) -> Target {
    let gid = target.gid;
    target.groups.iter_mut().filter(|groups| !groups.contains(&gid)).for_each(|groups| groups.push(gid));
    Target { no_core: true, ..target }
}

/// Whether the policy's own commands hold real capabilities: what they read is theirs, and not the user's.
fn reads_for_another(grant: &Grant) -> bool {
    grant.profile().scope == Scope::Host && grant.command_path().is_some()
}

/// Whether the kernel's own word on refusals is read: where somebody asks why, and the policy says so.
fn is_traced(grant: &Grant, request: &Request, power: Power) -> bool {
    request.watch.is_some() && power == Power::Setuid && grant.profile().why == Why::Trace
}

fn filter(grant: &Grant) -> Option<Filter> {
    match (grant.profile().seccomp, grant.privileged()) {
        (Seccomp::None, _) | (_, true) => None,
        (Seccomp::Default, false) => Some(Filter::of(grant.caps(), grant.profile().nested_userns)),
    }
}

fn kept_groups(keep: &GroupsKeep, caller: &Caller) -> Vec<u32> {
    let kept = caller.groups.iter().filter(|group| match keep {
        GroupsKeep::All => true,
        GroupsKeep::NotRootEquivalent => group.name.as_deref().is_none_or(|name| !ROOT_GROUPS.contains(&name)),
        GroupsKeep::Listed(subjects) => subjects.iter().any(|subject| match subject {
            Subject::Everybody => false,
            Subject::Name(name) => group.name.as_deref() == Some(name),
            Subject::Id(gid) => group.gid == *gid,
        }),
    });
    kept.map(|group| group.gid).collect()
}

fn launch(grant: &Grant, person: &Person, request: &Request, inherited: &Inherited) -> Result<Launch, Error> {
    match (&request.start, grant.command_path()) {
        (Start::Command(argv), path) if request.watch.is_some() => {
            // By its path, as a script: the folders on the way are root's alone, or it would not be the policy's.
            let command = match path {
                Some(path) => command::open(path).map(|_| command::argv(path, argv))?,
                None => argv.clone(),
            };
            let report = inherited.report.as_ref().ok_or(Error::Descriptor(3, "no pipe to write to"))?;
            let report = report.try_clone().map_err(|e| crate::hygiene::io("fcntl(F_DUPFD)", &e))?;
            let mut words = vec![OsString::from(format!("--watch={}", report.as_raw_fd()))];
            // What the kernel does not execute of the policy's is no shell script either, as without a watcher.
            words.extend(path.map(|_| OsString::from("--exact")));
            words.push("--".into());
            stage(inherited.power, words.into_iter().chain(command).collect(), Some(report))
        }
        (Start::Command(argv), Some(path)) => {
            Ok(Launch::Policy { program: command::open(path)?, argv: strings(command::argv(path, argv))? })
        }
        (Start::Command(argv), None) => Ok(Launch::Search(strings(argv.iter().cloned())?)),
        (Start::Shell | Start::Line(_), _) => stage(inherited.power, shell_words(grant, person, request), None),
    }
}

/// What the stage inside is told of the shell that it starts.
fn shell_words(grant: &Grant, person: &Person, request: &Request) -> Vec<OsString> {
    let mut words = vec![flag("--shell=", shell(grant.profile(), person))];
    if !grant.added().is_empty() {
        words.push(flag("--added=", grant.added().to_string()));
    }
    let own_shell = request.login && grant.profile().shell.is_none();
    for (given, word) in [(request.quiet, "--quiet"), (request.dash, "--login"), (own_shell, "--own")] {
        words.extend(given.then(|| OsString::from(word)));
    }
    if let Start::Line(line) = &request.start {
        words.push(flag("--line=", line));
    }
    words
}

fn stage(power: Power, words: Vec<OsString>, report: Option<OwnedFd>) -> Result<Launch, Error> {
    let front = front_end(power);
    let missing = |e: nix::Error| Error::Command {
        name: front.to_string_lossy().into_owned(),
        why: format!("the stage inside the session cannot be opened: {}", e.desc()),
        code: NOT_FOUND,
    };
    let file = open(&front, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(missing)?;
    let argv = std::iter::once("caplet-session".into()).chain(words);
    Ok(Launch::Stage { file, argv: strings(argv)?, report })
}

fn flag(name: &str, value: impl Into<OsString>) -> OsString {
    let mut word = OsString::from(name);
    word.push(value.into());
    word
}

fn strings(words: impl IntoIterator<Item = OsString>) -> Result<Vec<CString>, Error> {
    let word = |word: OsString| CString::new(word.into_vec()).map_err(|_| call("exec")(nix::errno::Errno::EINVAL));
    words.into_iter().map(word).collect()
}

/// The front end's file: the installed one, or the neighbour in a build tree.
fn front_end(power: Power) -> PathBuf {
    match (power, std::fs::read_link("/proc/self/exe")) {
        (Power::None, Ok(own)) => own.with_file_name("caplet"),
        _ => Path::new(crate::BINDIR).join("caplet"),
    }
}

impl Isolation {
    pub fn of(grant: &Grant, person: &Person, power: Power, held: CapSet) -> Result<Self, Error> {
        let profile = grant.profile();
        let private_network = profile.network != Network::Host;
        let mut namespaces =
            libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
        if private_network {
            namespaces |= libc::CLONE_NEWNET;
        }
        if profile.time_namespace {
            namespaces |= CLONE_NEWTIME;
        }
        // Without installation the build runs in a user namespace of the user's own, as its uid 0.
        let outside = if power == Power::Setuid { (person.uid, person.gid) } else { (0, 0) };
        let mknod = held.bits() & (1 << 27) != 0 && power == Power::Setuid;
        Ok(Self {
            namespaces,
            maps: Maps::of(profile, person, outside)?,
            owner: if power == Power::Setuid { idmap::owner(person.uid) } else { None },
            tree: Tree::of(profile, &person.home, person.uid, outside, mknod),
            hostname: profile.hostname.clone(),
            nested: profile.nested_userns,
            makes_namespaces: profile.nested_userns || grant.caps().bits() & SYS_ADMIN != 0,
            ceiling: power == Power::Setuid && grant.caps().bits() & SYS_RESOURCE != 0,
            private_network,
            dns: grant.lan().map(|lan| lan.dns.clone()).unwrap_or_default(),
            linger: profile.linger,
            filter: filter(grant),
            traced: false,
            agent: None,
        })
    }
}

#[cfg(test)]
mod tests;
