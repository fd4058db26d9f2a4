//! `caplet check --as`: what the helper would decide. The judge is the same; what differs is who looks at the machine.

use super::{Report, nss};
use crate::installed::POLICY;
use crate::listing::Limits;
use crate::messages::{self, NO, Trouble, USAGE, tell};
use caplet_policy::capability::{CapSet, Capability};
use caplet_policy::document::{Auth, Civil, Document, Location, Scope};
use caplet_policy::judge::{Caller, Grant, Reason, Refusal, World, judge};
use caplet_policy::request::{Request, Start};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

/// What `uname -n` says.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// The question.
#[derive(Debug)]
pub struct Question {
    /// A login name, or `#uid`.
    pub user: String,
    /// Host name; this machine's if none is given.
    pub machine: Option<String>,
    /// `2027-02-15` (noon), `2027-02-15T18:00`, or with an offset; now if none is given.
    pub at: Option<String>,
    /// The policy: file or folder.
    pub policy: Option<PathBuf>,
    pub request: Request,
}

/// Answers: 0 granted, 1 refused or no answer, 2 a question that makes no sense.
pub fn answer(question: &Question) -> ExitCode {
    match consider(question) {
        Ok(code) => code,
        Err(trouble) => {
            let usage = matches!(trouble, Trouble::NoUser(_) | Trouble::NoDate(_));
            tell(&trouble);
            if usage { USAGE.into() } else { NO.into() }
        }
    }
}

fn consider(question: &Question) -> Result<ExitCode, Trouble> {
    let caller = nss::find(&question.user)?;
    let (unix, local) = moment(question.at.as_deref())?;
    let mut report = Report::default();
    let files = report.files(question.policy.as_deref().unwrap_or(Path::new(POLICY)));
    let sources = report.sources(&files);
    // Faults are shown as `check` shows them; with one, the answer to everybody is no.
    let Some(document) = report.read(&sources) else {
        return Ok(report.finish());
    };
    let machine = match &question.machine {
        Some(machine) => machine.clone(),
        None => fs::read_to_string(HOSTNAME)
            .map(|name| name.trim_end().to_owned())
            .map_err(|error| Trouble::Unreadable { path: HOSTNAME.into(), error })?,
    };
    let first_word = match &question.request.start {
        Start::Command(argv) => argv.first().cloned().unwrap_or_default(),
        Start::Shell | Start::Line(_) => Default::default(),
    };
    let kernel = kernel_capabilities();
    let same_file = |path: &str| is_same(&first_word, path);
    let world = World { machine: &machine, unix, local, kernel, held: kernel, same_file: &same_file };
    let verdict = judge(&document, &caller, &world, &question.request);
    let code = if verdict.is_ok() { ExitCode::SUCCESS } else { NO.into() };
    let text = match &verdict {
        Ok(grant) => granted(&document, grant, &reasons_before(&document, &caller, &world, question, grant)),
        Err(refusal) => refused(refusal),
    };
    messages::print(&text, NO);
    Ok(code)
}

/// The judge stops at the first profile that fits: each one before it is asked alone why it did not.
fn reasons_before(
    document: &Document,
    caller: &Caller,
    world: &World<'_>,
    question: &Question,
    grant: &Grant,
) -> Vec<(String, Location, Reason)> {
    let mut reasons = Vec::new();
    for scope in [Scope::Isolated, Scope::Host] {
        for profile in document.profiles.iter().filter(|profile| profile.scope == scope) {
            if profile.name == grant.profile().name {
                return reasons;
            }
            let networks = document.networks.clone();
            let alone = Document { defaults: document.defaults.clone(), networks, profiles: vec![profile.clone()] };
            if let Err(refusal) = judge(&alone, caller, world, &question.request) {
                reasons.extend(refusal.tried);
            }
        }
    }
    reasons
}

fn granted(document: &Document, grant: &Grant, before: &[(String, Location, Reason)]) -> String {
    let profile = grant.profile();
    let caps = if grant.caps().is_empty() { "no capability".into() } else { grant.caps().to_string() };
    let scope = if profile.scope == Scope::Host { "host" } else { "isolated" };
    let mut text = format!(
        "granted by profile \"{}\" ({scope}), {}:{}\n  holds: {caps}\n",
        profile.name, profile.at.file, profile.at.line
    );
    if let Some(path) = grant.command_path() {
        text += &format!("  runs: {path}\n");
    }
    if let Some(limits) = Limits::of(profile).words() {
        text += &format!("  limits: {limits}\n");
    }
    if profile.auth == Auth::Password {
        text += "  asks for: the user's password\n";
    }
    if before.iter().any(|(_, _, reason)| *reason != Reason::NotNamed) {
        let after = document.profiles.len() - before.len() - 1;
        text += "tried before it:\n";
        text += &lines(before);
        if after > 0 {
            text += &format!("not tried: {after} behind it\n");
        }
    }
    text
}

fn refused(refusal: &Refusal) -> String {
    let mut text = String::from("refused\n");
    text += &lines(&refusal.tried);
    text += "the user reads:\n";
    for line in refusal.lines() {
        text += &format!("  caplet: {line}\n");
    }
    text
}

fn lines(tried: &[(String, Location, Reason)]) -> String {
    let line = |(name, at, reason): &(String, Location, Reason)| {
        format!("  {}:{}: profile \"{name}\": {}\n", at.file, at.line, why(reason))
    };
    // With -p the others were never asked.
    tried.iter().filter(|(_, _, reason)| *reason != Reason::NotNamed).map(line).collect()
}

/// For root: no word of it is kept back, unlike what the user reads.
fn why(reason: &Reason) -> String {
    match reason {
        Reason::NotNamed => "-p names another one".into(),
        Reason::NotSubject => "the user is in none of its users and groups".into(),
        Reason::TakenOut => "the user is taken out by not_users or not_groups".into(),
        Reason::OtherMachine => "not on this machine (machines)".into(),
        Reason::NotYet => "not yet (valid_from)".into(),
        Reason::Expired => "no longer (valid_until)".into(),
        Reason::NotMayAdd(list) => format!("{list} is neither in may_add nor in caps"),
        Reason::Useless(set) => format!("{set} can do nothing in this scope and network"),
        Reason::Command => "not one of its commands".into(),
        Reason::NeedsName => "a host profile without commands is taken only with -p".into(),
        Reason::Privileged => "it does not say privileged = true, or is a host profile".into(),
        Reason::NotHeld(set) => format!("{set} is not held by the helper itself on this machine"),
        Reason::NoLogin => "it does not say login = true".into(),
    }
}

/// Now, or what was asked, in seconds since the epoch and in this machine's time zone.
fn moment(at: Option<&str>) -> Result<(i64, Civil), Trouble> {
    let zone = TimeZone::system();
    let zoned = match at {
        None => Timestamp::now().to_zoned_datetime(zone),
        Some(text) => {
            let none = |_| Trouble::NoDate(text.into());
            match text.parse::<Timestamp>() {
                Ok(moment) => moment.to_zoned_datetime(zone),
                Err(_) => {
                    let civil = text.parse::<DateTime>().map_err(none)?;
                    // A bare date is its noon: inside every day that a policy can name.
                    let civil = if text.contains(['T', ' ']) { civil } else { civil.date().at(12, 0, 0, 0) };
                    civil.to_zoned_datetime(zone).map_err(none)?
                }
            }
        }
    };
    let unsigned = |number: i8| u8::try_from(number).unwrap_or_default();
    let local = Civil {
        year: zoned.year().into(),
        month: unsigned(zoned.month()),
        day: unsigned(zoned.day()),
        hour: unsigned(zoned.hour()),
        minute: unsigned(zoned.minute()),
        second: unsigned(zoned.second()),
    };
    Ok((zoned.timestamp().as_second(), local))
}

/// What the kernel has, and so what a helper with the setuid bit holds outside a container.
fn kernel_capabilities() -> CapSet {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok().and_then(|text| text.trim().parse::<u8>().ok());
    let last = last.unwrap_or(u8::MAX);
    CapSet::KNOWN.iter().filter(|cap: &Capability| cap.number() <= last).collect()
}

/// As the helper compares: the same folder, the same last name, reached only through what root alone can write.
fn is_same(word: &OsStr, listed: &str) -> bool {
    let (asked, listed) = (Path::new(word), Path::new(listed));
    if asked.file_name() != listed.file_name() || asked.file_name().is_none() || !is_roots(listed) {
        return false;
    }
    if asked == listed || !word.as_bytes().contains(&b'/') {
        return true;
    }
    let folder = |path: &Path| path.parent().and_then(|parent| fs::metadata(parent).ok()).map(|m| (m.dev(), m.ino()));
    folder(asked).zip(folder(listed)).is_some_and(|(a, b)| a == b)
}

/// Whether root alone could have made each step of an absolute path, symbolic links included.
fn is_roots(path: &Path) -> bool {
    let mut rest: Vec<PathBuf> = parts(path);
    let mut here = PathBuf::from("/");
    for _ in 0..296 {
        let Some(part) = rest.pop() else {
            return fs::metadata(&here).is_ok_and(|meta| meta.is_file());
        };
        if part == Path::new("..") {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        let Ok(meta) = fs::symlink_metadata(&next) else { return false };
        if meta.uid() != 0 || (!meta.is_symlink() && meta.mode() & 0o022 != 0) {
            return false;
        }
        if meta.is_symlink() {
            let Ok(target) = fs::read_link(&next) else { return false };
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            rest.extend(parts(&target));
        } else {
            here = next;
        }
    }
    false
}

/// The steps of a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let step = |part: Component<'_>| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        _ => None,
    };
    let mut steps: Vec<PathBuf> = path.components().filter_map(step).collect();
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_people_write_them() {
        let local = |text: &str| moment(Some(text)).map(|(_, civil)| (civil.year, civil.month, civil.day, civil.hour));
        assert_eq!(local("2027-02-15").ok(), Some((2027, 2, 15, 12)));
        assert_eq!(local("2027-02-15T18:30").ok(), Some((2027, 2, 15, 18)));
        assert_eq!(local("2027-02-15 18:30:05").ok(), Some((2027, 2, 15, 18)));
        assert_eq!(moment(Some("2027-02-15T00:00:00Z")).map(|(unix, _)| unix).ok(), Some(1_802_649_600));
        for none in ["tomorrow", "2027-13-01", "", "12:00", "2027-02-30"] {
            assert!(moment(Some(none)).is_err(), "{none}");
        }
    }

    #[test]
    fn only_what_root_alone_can_change_is_the_same_file() {
        assert!(is_same(OsStr::new("env"), "/usr/bin/env"));
        assert!(is_same(OsStr::new("/usr/../usr/bin/env"), "/usr/bin/env"));
        for (word, listed) in
            [("env", "/usr/bin/id"), ("/tmp/env", "/usr/bin/env"), ("x", "/tmp/x"), ("", "/usr/bin/env")]
        {
            assert!(!is_same(OsStr::new(word), listed), "{word} {listed}");
        }
    }
}
