//! What stays of a request: the log's lines, and the record of a running session, which has a place in the registry
//! from before its `grant` line until after its `end`.

use crate::audit;
use crate::authenticate::{Authenticated, Session, Word};
use crate::caller::{Person, terminal_name};
use crate::cgroup::{self, Place};
use crate::error::{Error, call, say};
use crate::hygiene::Power;
use crate::journal::{Journal, Line, Logged, PATIENCE, Severity, insist, seconds};
use crate::registry::{self, Dead, Slot};
use crate::sys::process::{self, Usage};
use crate::sys::{Errno, capability, identity};
use crate::{lan, supervise};
use caplet_policy::document::Scope;
use caplet_policy::escape::parse_log_line;
use caplet_policy::judge::{Grant, Refusal};
use caplet_policy::request::{Request, Start};
use nix::poll::{PollTimeout, poll};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// How long an `end` is offered to a log that does not take it, and how often, in milliseconds.
const INSISTENCE: Duration = Duration::from_secs(10);
const PAUSE: u16 = 200;

/// The way to the log of one request, opened with the real uid 0, so that its records carry credentials that no user
/// can forge.
#[derive(Debug)]
pub struct Trail<'a> {
    power: Power,
    person: &'a Person,
    journal: Option<Journal>,
}

impl<'a> Trail<'a> {
    pub fn new(power: Power, person: &'a Person) -> Self {
        Self { power, person, journal: None }
    }

    pub fn journal(&mut self) -> Result<&mut Journal, Error> {
        if self.journal.is_none() {
            self.journal = Some(match self.power {
                Power::None => Journal::none(),
                Power::Setuid => open_as_root()?,
            });
        }
        self.journal.as_mut().ok_or(Error::Unlogged)
    }

    fn into_journal(mut self) -> Result<Journal, Error> {
        self.journal()?;
        self.journal.take().ok_or(Error::Unlogged)
    }

    /// A faulty policy, with what root needs to mend it.
    pub fn fault(&mut self, error: Error) -> Error {
        if let Error::Policy { detail, .. } = &error {
            let line = Line::new("fault").person(self.person).field("reason", detail);
            self.write(Severity::Warning, &line);
        }
        error
    }

    /// A refusal of the judge.
    pub fn refuse(&mut self, request: &Request, refusal: &Refusal) -> Error {
        self.refused(request.profile.as_deref().unwrap_or_default(), request, refusal.log_reason());
        Error::Refused(refusal.lines().to_vec())
    }

    /// A grant that cannot become a session here.
    pub fn impossible(&mut self, profile: &str, request: &Request, error: Error) -> Error {
        self.refused(profile, request, &error.lines().join("; "));
        error
    }

    /// Any refusal.
    pub fn refused(&mut self, profile: &str, request: &Request, reason: &str) {
        let line = asked(Line::new("refuse"), self.person, profile, request);
        let line = line.field("reason", reason).command(&command(request));
        self.write(Severity::Warning, &line);
        self.audit(request, false);
    }

    /// An attempt to authenticate that failed.
    pub fn failed(&mut self, profile: &str, request: &Request, tries: u32, reason: &str) {
        let line = asked(Line::new("auth-failure"), self.person, profile, request)
            .field("try", tries.to_string())
            .field("tty", terminal_name().unwrap_or_default())
            .field("reason", reason)
            .command(&command(request));
        self.write(Severity::Warning, &line);
    }

    /// A question that ran nothing.
    pub fn probe(&mut self, verb: &str, request: &Request, verdict: &Result<Grant, Refusal>) {
        let profile = match verdict {
            Ok(grant) => grant.profile().name.as_str(),
            Err(_) => request.profile.as_deref().unwrap_or_default(),
        };
        let line = asked(Line::new("probe").field("verb", verb), self.person, profile, request)
            .field("verdict", verdict.as_ref().map_or_else(Refusal::log_reason, |_| "granted"))
            .command(&command(request));
        self.write(Severity::Info, &line);
    }

    fn write(&mut self, severity: Severity, line: &Line) {
        if let Ok(journal) = self.journal() {
            let _ = journal.write(severity, line);
        }
    }

    fn audit(&self, request: &Request, granted: bool) {
        if self.power == Power::Setuid {
            tell_audit(request, granted);
        }
    }
}

/// The ids become root's, and stay so until the session is built: a user namespace inherits the real uid's limits,
/// records carry it, and the user can no longer signal a half-built session. Not before the judgement: it is made with
/// the user's uid.
fn open_as_root() -> Result<Journal, Error> {
    identity::set_group(0).map_err(call("setresgid(0)"))?;
    identity::set_user(0).map_err(call("setresuid(0)"))?;
    if !nix::unistd::getuid().is_root() || nix::unistd::getgid().as_raw() != 0 {
        return Err(Error::NotAsGranted("the helper's own ids did not change".into()));
    }
    // The change of ids may have made it what fs.suid_dumpable says.
    capability::set_not_dumpable().map_err(call("prctl(PR_SET_DUMPABLE)"))?;
    Ok(Journal::open())
}

/// The verb of a watcher whose guard was killed: `sweep-for UID`.
pub const FOR: &str = "sweep-for";

/// Sweeps, and leaves nothing of root's behind for the user to wait for. For root alone.
pub fn sweep_for(words: &[OsString]) -> Result<i32, Error> {
    let uid = supervise::user_of(words, &format!("{FOR} UID"))?;
    let _ = sweep(uid);
    supervise::end_as(uid)
}

/// Has the `end` written of every session whose guard was killed (the verb `sweep`), and what was left of them taken away.
pub fn sweep(uid: u32) -> Result<(), Error> {
    open_as_root()?;
    let line = begin_to_sweep(uid)?;
    // Until its end. Whoever stops this process keeps nobody's record.
    match nix::unistd::read(&line, &mut [0]) {
        Ok(1) => Ok(()),
        _ => Err(call("sweep")(Errno::ECHILD)),
    }
}

/// Anybody may have that done, who is not to have it stand still with others' records.
fn begin_to_sweep(uid: u32) -> Result<OwnedFd, Error> {
    let sweep = |line: &OwnedFd, left: Result<(), _>| {
        if let (Ok(()), Ok(folder)) = (left, registry::folder()) {
            let mut journal = Journal::open();
            registry::dead(&folder, None).into_iter().flatten().for_each(|dead| bury(&mut journal, dead));
            let _ = lan::sweep(&folder);
            let _ = nix::unistd::write(line, &[1]);
        }
    };
    supervise::apart(uid, sweep).map_err(call("fork to sweep"))
}

fn bury(journal: &mut Journal, dead: Dead<'_>) {
    let Some((_, fields)) = parse_log_line(dead.grant()) else { return };
    // Before the record, by which it is found.
    if !dead.empty() {
        return;
    }
    let mut line = Line::new("end");
    for key in ["id", "user", "uid", "profile"] {
        let value = fields.iter().find(|(k, _)| k == key).map_or(&[][..], |(_, value)| value);
        line = line.field(key, OsStr::from_bytes(value));
    }
    // What the log does not take now is found again.
    if journal.write(Severity::Notice, &line.field("status", "lost")).is_ok() {
        dead.bury();
    }
}

/// A grant that was authenticated and stands in the log: only such a one can be built.
#[derive(Debug)]
#[must_use]
pub struct Recorded {
    grant: Authenticated,
    id: String,
    person: Person,
    journal: Journal,
    slot: Option<Slot>,
    logged: Logged,
    since: Duration,
}

impl Recorded {
    /// Takes a place, then writes the `grant` line. No privilege was borrowed: no record.
    pub fn of(
        grant: Authenticated,
        person: Person,
        trail: Trail<'_>,
        request: &Request,
        cwd: Option<&Path>,
        place: Option<Place>,
    ) -> Result<Self, Error> {
        let borrowed = trail.power == Power::Setuid;
        let mut journal = trail.into_journal()?;
        let profile = grant.grant().profile();
        let id: [u8; 6] = process::random().map_err(call("getrandom"))?;
        let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
        let granted = grant.grant();
        let line = asked(Line::new("grant").field("id", &id), &person, &profile.name, request)
            .field("scope", scope_name(profile.scope))
            .field("caps", granted.caps().to_string())
            .field("tty", terminal_name().unwrap_or_default())
            .field("cwd", cwd.unwrap_or(Path::new("")))
            .field("rule", format!("{}:{}", granted.rule().file, granted.rule().line));
        let line = match &place {
            Some(place) => line.field("cgroup", place.path_of(&id)),
            None => line,
        };
        let line = line.command(&command(request));
        let slot = match borrowed {
            true => {
                let folder = registry::folder()?;
                registry::dead(&folder, Some(person.uid))?.for_each(|dead| bury(&mut journal, dead));
                // What others have left stands in nobody's way, and nobody waits for it.
                if registry::others_are_dead(&folder, person.uid)?
                    || lan::is_one_left(&folder, granted.lan().map(|lan| lan.name.as_str()))
                {
                    drop(begin_to_sweep(person.uid));
                }
                let mut slot = Slot::take(person.uid, profile.max_sessions)?;
                slot.met().for_each(|dead| bury(&mut journal, dead));
                // Before the line: whoever kills us between the two leaves an end too many, not one too few.
                slot.record(&line.text()).inspect_err(|_| slot.release())?;
                // Where it will be stands in the record: one that is killed on the way leaves nothing that is not found.
                let own = place.map(|place| place.make(&id)).transpose();
                slot.cgroup = own.inspect_err(|error| {
                    slot.release();
                    let line = asked(Line::new("refuse"), &person, &profile.name, request);
                    let line = line.field("reason", error.lines().join("; ")).command(&command(request));
                    let _ = journal.write(Severity::Warning, &line);
                })?;
                Some(slot)
            }
            false => None,
        };
        let logged = insist(&mut journal, granted.defaults().log_required, Severity::Notice, &line);
        let logged = logged.inspect_err(|_| slot.iter().for_each(Slot::release))?;
        if logged == Logged::No && !request.quiet {
            say("the system log takes nothing now: this session is not in it");
        }
        if borrowed {
            tell_audit(request, true);
        }
        Ok(Self { grant, id, person, journal, slot, logged, since: process::boot_time() })
    }

    pub fn grant(&self) -> &Grant {
        self.grant.grant()
    }

    pub fn person(&self) -> &Person {
        &self.person
    }

    /// The part that the guard keeps: what is needed to write `end`, and the place in the registry.
    pub fn into_ending(self) -> Ending {
        let (grant, session) = self.grant.into_parts();
        let line = Line::new("end").field("id", &self.id).person(&self.person).field("profile", &grant.profile().name);
        Ending { line, journal: self.journal, slot: self.slot, session, logged: self.logged, since: self.since }
    }
}

/// What is left to do when a session is over.
#[derive(Debug)]
pub struct Ending {
    line: Line,
    journal: Journal,
    slot: Option<Slot>,
    session: Option<Session>,
    logged: Logged,
    since: Duration,
}

impl Ending {
    /// Makes the folders that stay open roots of their own, so that `..` leads nowhere from them.
    pub fn enclose(&mut self) -> Result<(), Error> {
        self.journal.enclose()?;
        self.slot.as_mut().map_or(Ok(()), Slot::enclose)
    }

    /// The cgroup that the session's processes enter, if they have one of their own.
    pub fn cgroup(&self) -> Option<&cgroup::Own> {
        self.slot.as_ref().and_then(|slot| slot.cgroup.as_ref())
    }

    /// Adds the session's processes to its record: the guard, and the command or PID 1.
    pub fn running(&self, main: i32) -> Result<(), Error> {
        let up = seconds(process::boot_time());
        let text = format!("\nguard={} main={main} up={up}", std::process::id());
        self.slot.as_ref().map_or(Ok(()), |slot| slot.record(&text))
    }

    /// Waits for the PAM session, if there is one; what its modules changed.
    pub fn changes(&self, relay: &OwnedFd) -> Result<Vec<Word>, Error> {
        self.session.as_ref().map_or(Ok(Vec::new()), |session| session.opened(relay.as_fd()))
    }

    /// Writes `end`, gives the place back, and has the PAM session closed. `status` is `exit:0`, `signal:9` or `failed:125`;
    /// `by` says who ended it, where it was not the command itself. What the log has not taken yet comes back.
    /// Nothing is closed: to take a detached mount apart costs more than all else here, and the end of the process
    /// does it.
    pub fn end(mut self, status: &str, usage: Option<Usage>, by: Option<&str>) -> Option<Late> {
        let lasted = process::boot_time().saturating_sub(self.since).as_secs();
        self.slot.as_ref().map(Slot::empty); // one that is still there is tried again with the record
        if let Some(session) = &self.session {
            session.close(); // while the record is written
        }
        let mut line = self.line.field("status", status).field("seconds", lasted.to_string());
        if let Some(usage) = usage {
            line = line.field("cpu", seconds(usage.cpu)).field("peak", usage.peak.to_string());
        }
        if let Some(by) = by {
            line = line.field("by", by);
        }
        let packet = self.journal.packet(Severity::Notice, &line);
        let written = self.journal.deliver(&packet, PATIENCE).is_ok();
        let late = !written && self.logged == Logged::Yes;
        // A grant that is in the log keeps its record until its end is too: whoever comes next tries again.
        if let Some(slot) = self.slot.as_ref().filter(|_| !late) {
            slot.release();
        }
        if let Some(session) = &self.session {
            session.wait_closed();
        }
        std::mem::forget(self.session);
        if late {
            return Some(Late { journal: self.journal, slot: self.slot, packet });
        }
        std::mem::forget(self.journal);
        if let Some(slot) = self.slot {
            slot.leave();
        }
        None
    }
}

/// An `end` that the log did not take, for nobody to wait for: a burst of ends fills every log's queue for a moment.
#[derive(Debug)]
#[must_use]
pub struct Late {
    journal: Journal,
    slot: Option<Slot>,
    packet: Vec<u8>,
}

impl Late {
    /// Tries for some seconds more. In the end the record stays, and whoever uses caplet next writes another.
    pub fn insist(mut self) {
        let until = process::boot_time() + INSISTENCE;
        while process::boot_time() < until {
            if self.journal.deliver(&self.packet, PATIENCE).is_ok() {
                self.slot.iter().for_each(Slot::release);
                break;
            }
            let _ = poll(&mut [], PollTimeout::from(PAUSE));
        }
        std::mem::forget(self.journal);
        if let Some(slot) = self.slot {
            slot.leave();
        }
    }
}

fn tell_audit(request: &Request, granted: bool) {
    let cwd = std::env::current_dir().unwrap_or_default();
    audit::tell(&command(request), &cwd, terminal_name().as_deref(), granted);
}

fn asked(line: Line, person: &Person, profile: &str, request: &Request) -> Line {
    let line = line.person(person).field("profile", profile);
    let line = line.field("add", request.add.to_string()).field("drop", request.drop.to_string());
    if request.privileged { line.field("privileged", "yes") } else { line }
}

/// `isolated` or `host`.
pub fn scope_name(scope: Scope) -> &'static str {
    if scope == Scope::Host { "host" } else { "isolated" }
}

fn command(request: &Request) -> Vec<OsString> {
    match &request.start {
        Start::Command(argv) => argv.clone(),
        Start::Shell => Vec::new(),
        Start::Line(line) => vec!["-c".into(), line.clone()],
    }
}
