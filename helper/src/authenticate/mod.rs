//! Who the caller claims to be, proven as the profile wants it, by PAM, before anything is built. PAM runs in a process
//! of its own; what the person types goes there and nowhere else.

mod askpass;
pub mod cache;
mod dialogue;
mod process;
pub mod talk;
mod terminal;

use crate::caller::Person;
use crate::error::{Error, OURS, call};
use crate::hygiene::{Inherited, Power};
use crate::supervise::terminal::reopen;
use crate::sys::process::{self as system, Fork};
use crate::sys::standard;
use crate::trail::Trail;
use askpass::Askpass;
use cache::{Asking, Cache};
use caplet_policy::document::{Auth, Profile};
use caplet_policy::escape::for_terminal;
use caplet_policy::judge::Grant;
use caplet_policy::request::Request;
pub use dialogue::TO_THINK;
use dialogue::{Dialogue, Outcome, Process, Source};
use process::Order;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;
use talk::Gate;
pub use talk::Word;
use terminal::Terminal;

/// A grant whose authentication, as the profile wants it, has passed.
#[derive(Debug)]
#[must_use]
pub struct Authenticated {
    grant: Grant,
    session: Option<Session>,
    /// When PAM said yes, since boot.
    proven: Option<Duration>,
}

/// How old PAM's yes may be when the session is built: what it looked at, the account among it, may change. Longer than a
/// network takes to be made.
const HOLDS: Duration = Duration::from_secs(15);

/// A PAM session, opened while the helper builds; it closes when this is, or the process that holds it, goes.
#[derive(Debug)]
pub struct Session {
    process: Process,
    profile: String,
}

impl Session {
    /// Waits until it is open; what its modules changed for the command.
    pub fn opened(&self, relay: BorrowedFd<'_>) -> Result<Vec<Word>, Error> {
        self.process.opened(relay).map_err(|outcome| match outcome {
            Outcome::Interrupted(_) => Error::Said(OURS),
            outcome => Error::Refused(vec![unhappy(&self.profile, &outcome, 0).1]),
        })
    }

    /// Has it closed, and does not wait.
    pub fn close(&self) {
        self.process.close();
    }

    /// Waits for that.
    pub fn wait_closed(&self) {
        self.process.wait_closed();
    }
}

impl Authenticated {
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whether PAM's yes still counts; if not, what to say. A person can stop this process (Ctrl-Z, a frozen cgroup) and the
    /// one that asks PAM, and go on with them a week later.
    pub fn is_recent(&self) -> Result<(), [String; 2]> {
        match self.proven {
            Some(proven) if system::boot_time().saturating_sub(proven) > HOLDS => Err([
                format!("this was stopped for more than {} seconds after you had proven who you are", HOLDS.as_secs()),
                "give the command again".into(),
            ]),
            _ => Ok(()),
        }
    }

    pub fn into_parts(self) -> (Grant, Option<Session>) {
        (self.grant, self.session)
    }
}

/// A grant whose proof is under way: PAM works in its own process meanwhile, and dies with this one.
#[derive(Debug)]
#[must_use]
pub struct Pending<'a> {
    grant: Grant,
    asked: Option<Asked<'a>>,
}

#[derive(Debug)]
struct Asked<'a> {
    process: Process,
    source: Source<'a>,
    /// Where the proof is kept once it is given.
    cache: Option<Cache>,
    _asking: Option<Asking>,
    ignored: &'a [i32],
    since: Duration,
}

/// Sets going what the grant's profile wants proven.
pub fn begin<'a>(
    grant: Grant,
    request: &Request,
    person: &'a Person,
    inherited: &'a Inherited,
    trail: &mut Trail<'_>,
) -> Result<Pending<'a>, Error> {
    let profile = grant.profile();
    let wants_password = profile.auth == Auth::Password;
    if !profile.needs_pam() {
        return Ok(Pending { grant, asked: None });
    }
    let mut case = Case { grant: &grant, request, trail };
    if inherited.power == Power::None {
        return Err(case.refuse("PAM needs the installed helper", vec![needs_installation(profile)]));
    }
    let since = system::boot_time();
    let cache = match wants_password {
        true => Cache::of(person.uid, &profile.name, profile.auth_cache_minutes),
        false => None,
    };
    let password = wants_password && !cache.as_ref().is_some_and(Cache::holds);
    let (source, asking) = match password {
        true => {
            let source = case.source(person, inherited)?;
            (source, Some(Asking::begin(person.uid).map_err(|error| case.unable(error))?))
        }
        false => (Source::Nowhere, None),
    };
    let order = Order { person, password, account: profile.pam_account, session: profile.pam_session };
    let process = start(&order).map_err(|error| case.unable(error))?;
    let cache = cache.filter(|_| password);
    let asked = Asked { process, source, cache, _asking: asking, ignored: &inherited.ignored, since };
    // Real uid 0 from here on, so that the user cannot kill what handles the terminal.
    case.trail.journal()?;
    Ok(Pending { grant, asked: Some(asked) })
}

impl Pending<'_> {
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Waits for the proof, asking what PAM asks.
    pub fn finish(self, request: &Request, person: &Person, trail: &mut Trail<'_>) -> Result<Authenticated, Error> {
        let Self { grant, asked } = self;
        let Some(Asked { process, source, cache, _asking, ignored, since }) = asked else {
            return Ok(Authenticated { grant, session: None, proven: None });
        };
        let profile = grant.profile();
        let mut case = Case { grant: &grant, request, trail };
        let dialogue = Dialogue { process: &process, source: &source, person, profile: &profile.name, ignored, since };
        let mut tries = 0;
        let outcome = dialogue.run(&mut |text| {
            tries += 1;
            case.trail.failed(&profile.name, request, tries, text);
        });
        let proven = match outcome {
            Ok(Outcome::Accepted(proven)) => proven,
            outcome => {
                process.kill();
                return Err(match outcome {
                    Ok(outcome) => case.not_accepted(outcome, tries),
                    Err(error) => case.unable(error),
                });
            }
        };
        // Without a PAM session the process ends now, by itself.
        let session = profile.pam_session.then(|| Session { process, profile: profile.name.clone() });
        let authenticated = Authenticated { grant, session, proven: Some(proven) };
        if let Some(cache) = cache.filter(|_| authenticated.is_recent().is_ok()) {
            cache.keep();
        }
        Ok(authenticated)
    }
}

fn needs_installation(profile: &Profile) -> String {
    let (key, instead) = match profile {
        Profile { auth: Auth::Password, .. } => ("auth = \"password\"", "auth = \"none\""),
        Profile { pam_account: true, .. } => {
            ("pam_account = true (the default of host profiles)", "pam_account = false")
        }
        _ => ("pam_session = true", "pam_session = false"),
    };
    format!(
        "profile \"{}\" wants {key}, and PAM works with the installed, setuid helper alone: here say {instead}",
        profile.name
    )
}

/// Standard input. A pipe is opened anew, so that non-blocking mode is ours alone: another reader may take bytes away
/// between poll(2) and read(2).
fn input() -> Result<OwnedFd, Error> {
    let stat = nix::sys::stat::fstat(standard(0)).map_err(call("fstat(0)"))?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFIFO => reopen(0),
        _ => standard(0).try_clone_to_owned().map_err(|e| crate::hygiene::io("dup", &e)),
    }
}

fn start(order: &Order<'_>) -> Result<Process, Error> {
    let (ours, theirs) = crate::supervise::wire::pair()?;
    let helper = std::process::id();
    match system::fork().map_err(call("fork"))? {
        Fork::Child => {
            drop(ours);
            process::serve(order, &theirs, helper)
        }
        Fork::Parent(pid) => {
            drop(theirs);
            let pidfd = system::pidfd_open(pid).map_err(|errno| {
                let _ = system::kill(pid, libc::SIGKILL);
                call("pidfd_open")(errno)
            })?;
            Ok(Process { pid, pidfd, socket: ours })
        }
    }
}

/// What `-n` says where a password is needed.
pub fn not_asked(profile: &str) -> [String; 2] {
    let needed = format!("a password is needed for profile \"{profile}\", and -n forbids to ask for it");
    [needed, "without -n you are asked".into()]
}

/// A grant on its way, for what there is to say of it.
struct Case<'a, 't> {
    grant: &'a Grant,
    request: &'a Request,
    trail: &'a mut Trail<'t>,
}

impl Case<'_, '_> {
    /// Where answers come from, as the request says; a refusal where there is no such place.
    fn source<'s>(&mut self, person: &'s Person, inherited: &'s Inherited) -> Result<Source<'s>, Error> {
        let name = &self.grant.profile().name;
        let needed = |why: &str| format!("a password is needed for profile \"{name}\", and {why}");
        if self.request.non_interactive {
            return Err(self.refuse("a password is needed", not_asked(name).into()));
        }
        let (why, instead) = if self.request.stdin_password {
            return match Terminal::standard()? {
                Some(terminal) => Ok(Source::Terminal(terminal)),
                None => input().map(Source::Input),
            };
        } else if self.request.askpass {
            match Askpass::find(person, inherited) {
                Some(program) => return Ok(Source::Askpass(program)),
                None => ("CAPLET_ASKPASS names no program", "set it to the absolute path of one, or leave out -A"),
            }
        } else {
            match Terminal::controlling() {
                Ok(terminal) => return Ok(Source::Terminal(terminal)),
                Err(_) => (
                    "there is no terminal to ask on",
                    "give it on standard input (-S), or by a program (-A and CAPLET_ASKPASS)",
                ),
            }
        };
        let lines = vec![needed(why), instead.into()];
        Err(self.refuse("a password is needed", lines))
    }

    fn not_accepted(&mut self, outcome: Outcome, tries: u32) -> Error {
        let (reason, line) = unhappy(&self.grant.profile().name, &outcome, tries);
        let mut lines = vec![line];
        match outcome {
            Outcome::Interrupted(signal) => {
                self.log(&reason);
                return Error::Interrupted(signal);
            }
            Outcome::Unanswered(_) => {}
            Outcome::Refused(Gate::Account, true, _) => lines.push("change your password first: passwd".into()),
            _ => {
                let contact = self.grant.defaults().contact.as_ref();
                lines.extend(contact.map(|contact| format!("ask: {}", for_terminal(contact.as_bytes()))));
            }
        }
        self.refuse(&reason, lines)
    }

    fn log(&mut self, reason: &str) {
        self.trail.refused(&self.grant.profile().name, self.request, reason);
    }

    /// What kept us from asking: logged as any other refusal.
    fn unable(&mut self, error: Error) -> Error {
        self.log(&error.lines().join("; "));
        error
    }

    fn refuse(&mut self, reason: &str, lines: Vec<String>) -> Error {
        self.log(reason);
        Error::Refused(lines)
    }
}

/// An outcome that is no acceptance: for the log, and for the person.
fn unhappy(profile: &str, outcome: &Outcome, tries: u32) -> (String, String) {
    match outcome {
        Outcome::Interrupted(signal) => (format!("interrupted by signal {signal}"), String::new()),
        Outcome::Unanswered(why) => {
            ((*why).into(), format!("a password is needed for profile \"{profile}\", and {why}"))
        }
        Outcome::Refused(Gate::Authentication, _, _) if tries > 1 => (
            format!("not authenticated: {tries} attempts failed"),
            format!("you were not authenticated for profile \"{profile}\": {tries} attempts failed"),
        ),
        Outcome::Refused(Gate::Authentication, _, text) => (
            format!("not authenticated: {text}"),
            format!("you were not authenticated for profile \"{profile}\": {text}"),
        ),
        Outcome::Refused(Gate::Account, _, text) => (
            format!("account: {text}"),
            format!("your account is refused for profile \"{profile}\", here and now: {text}"),
        ),
        Outcome::Refused(Gate::Session, _, text) => {
            (format!("session: {text}"), format!("no PAM session can be opened for profile \"{profile}\": {text}"))
        }
        Outcome::Refused(Gate::Start, _, text) => {
            (format!("PAM: {text}"), format!("PAM cannot be asked, so nothing was run: {text}"))
        }
        Outcome::Silent => {
            ("PAM: a module does not answer".into(), "PAM did not answer in 2 minutes, so nothing was run".into())
        }
        Outcome::Gone | Outcome::Accepted(_) => (
            "PAM: its process died".into(),
            "the process that asks PAM died (a module crashed?), so nothing was run".into(),
        ),
    }
}
