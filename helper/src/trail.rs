//! The records of one session: a place in the registry, `grant` before anything is built, `end` after all is over.

use crate::authenticate::Authenticated;
use crate::caller::{Person, terminal_name};
use crate::error::{Error, call};
use crate::journal::{Journal, Line, Severity, insist};
use crate::registry::Slot;
use crate::sys::process;
use caplet_policy::document::Scope;
use caplet_policy::judge::{Grant, Refusal};
use caplet_policy::request::{Request, Start};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// A grant that was authenticated and stands in the log: only such a one can be built.
#[derive(Debug)]
#[must_use]
pub struct Recorded {
    grant: Authenticated,
    id: String,
    person: Person,
    journal: Journal,
    slot: Option<Slot>,
    since: Duration,
}

impl Recorded {
    /// Takes a place, then writes the `grant` line. No privilege was borrowed: no record.
    pub fn of(
        grant: Authenticated,
        person: Person,
        mut journal: Journal,
        request: &Request,
        cwd: Option<&Path>,
        borrowed: bool,
    ) -> Result<Self, Error> {
        let profile = grant.grant().profile();
        let id: String = process::random().map_err(call("getrandom"))?.iter().map(|b| format!("{b:02x}")).collect();
        let granted = grant.grant();
        let line = asked(Line::new("grant").field("id", &id), &person, &profile.name, request)
            .field("scope", scope_name(profile.scope))
            .field("caps", granted.caps().to_string())
            .field("tty", terminal_name().unwrap_or_default())
            .field("cwd", cwd.unwrap_or(Path::new("")))
            .field("rule", format!("{}:{}", granted.rule().file, granted.rule().line))
            .command(&command(request));
        let slot = if borrowed { Some(Slot::take(person.uid, profile.max_sessions)?) } else { None };
        let logged = insist(&mut journal, granted.defaults().log_required, Severity::Notice, &line);
        if let Some(slot) = &slot {
            match logged {
                Ok(()) => slot.record(line.text()),
                Err(_) => slot.release(),
            }
        }
        logged?;
        Ok(Self { grant, id, person, journal, slot, since: process::boot_time() })
    }

    pub fn grant(&self) -> &Grant {
        self.grant.grant()
    }

    pub fn person(&self) -> &Person {
        &self.person
    }

    /// The part that the guard keeps: what is needed to write `end`, and the place in the registry.
    pub fn into_ending(self) -> Ending {
        let line =
            Line::new("end").field("id", &self.id).person(&self.person).field("profile", &self.grant().profile().name);
        Ending { line, journal: self.journal, slot: self.slot, since: self.since }
    }
}

/// What is left to do when a session is over.
#[derive(Debug)]
pub struct Ending {
    line: Line,
    journal: Journal,
    slot: Option<Slot>,
    since: Duration,
}

impl Ending {
    /// Makes the folders that stay open roots of their own, so that `..` leads nowhere from them.
    pub fn enclose(&mut self) -> Result<(), Error> {
        self.journal.enclose()?;
        self.slot.as_mut().map_or(Ok(()), Slot::enclose)
    }

    /// Writes `end` and gives the place back. `status` is `exit:0`, `signal:9` or `failed:125`. Nothing is closed:
    /// to take a detached mount apart costs more than all else here, and the end of the process does it.
    pub fn end(mut self, status: &str) {
        let seconds = process::boot_time().saturating_sub(self.since).as_secs();
        let line = self.line.field("status", status).field("seconds", seconds.to_string());
        let _ = self.journal.write(Severity::Notice, line.text());
        if let Some(slot) = &self.slot {
            slot.release();
        }
        std::mem::forget((self.journal, self.slot));
    }
}

/// Logs a refusal of the judge, or any other of ours.
pub fn refused(journal: &mut Journal, person: &Person, request: &Request, reason: &str) {
    let profile = request.profile.as_deref().unwrap_or_default();
    let line = asked(Line::new("refuse"), person, profile, request).field("reason", reason).command(&command(request));
    let _ = journal.write(Severity::Warning, line.text());
}

/// Logs a faulty policy, with what root needs to mend it.
pub fn fault(journal: &mut Journal, person: &Person, detail: &str) {
    let line = Line::new("fault").person(person).field("reason", detail);
    let _ = journal.write(Severity::Warning, line.text());
}

/// Logs a question that ran nothing.
pub fn probe(journal: &mut Journal, person: &Person, verb: &str, request: &Request, verdict: &Result<Grant, Refusal>) {
    let profile = match verdict {
        Ok(grant) => grant.profile().name.as_str(),
        Err(_) => request.profile.as_deref().unwrap_or_default(),
    };
    let line = asked(Line::new("probe").field("verb", verb), person, profile, request)
        .field("verdict", verdict.as_ref().map_or_else(Refusal::log_reason, |_| "granted"))
        .command(&command(request));
    let _ = journal.write(Severity::Info, line.text());
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
    }
}
