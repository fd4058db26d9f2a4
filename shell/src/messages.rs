//! Every word a person can read when something does not go, and how it is printed. Help texts are in `cli`.

use crate::check::Risk;
use crate::quoting::{command_line, word};
use caplet_policy::escape::for_terminal;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// Exit code of `run` and `shell` for everything of ours.
pub const FAILURE: u8 = 125;
/// Exit code for "found but could not be executed".
pub const NOT_EXECUTABLE: u8 = 126;
/// Exit code for "not found".
pub const NOT_FOUND: u8 = 127;
/// Exit code of the other commands for a "no".
pub const NO: u8 = 1;
/// Exit code of the other commands for a usage error.
pub const USAGE: u8 = 2;

/// What can go wrong here: what was asked, why not, what would work, in one line each.
#[derive(Debug)]
pub enum Trouble {
    Internal,
    /// Why a login is without the wishes of `config.toml`; escaped already.
    NoWish(String),
    /// The same of its shell alone.
    NoShellWish {
        fault: String,
        instead: OsString,
    },
    /// A word that no login program says.
    LoginWord(OsString),
    /// The first word is no subcommand: it, the rest, and what the line was probably meant to be.
    NoSubcommand {
        word: OsString,
        meant: Vec<OsString>,
    },
    /// An option before the subcommand.
    EarlyOption {
        option: String,
        rest: Vec<OsString>,
    },
    NoOption {
        command: &'static str,
        option: String,
        near: Option<String>,
    },
    NeedsValue {
        option: String,
    },
    TakesNoValue {
        option: String,
    },
    GivenTwice {
        option: String,
    },
    ShellTakesNoCommand {
        meant: Vec<OsString>,
    },
    NoSuchWord {
        command: &'static str,
        word: String,
    },
    EmptyCapability {
        option: &'static str,
    },
    UnknownCapability {
        option: &'static str,
        text: OsString,
        near: Option<&'static str>,
    },
    BadProfileName(OsString),
    /// A text of the policy crate, already escaped.
    Request(String),
    Usage(String),
    Fixed {
        asked: bool,
        instead: Vec<OsString>,
    },
    ListInside {
        profile: OsString,
    },
    HelperMissing(OsString),
    HelperForbidden(OsString),
    CommandTooLong,
    HelperFailed {
        path: OsString,
        error: io::Error,
    },
    HelperKilled {
        /// What did not come about by it.
        undone: &'static str,
        signal: i32,
    },
    HelperUnclear,
    /// What `learn` can meet.
    LearnWhat,
    LearnNothing,
    LearnNoSession(String),
    LearnStopped(u8),
    LearnInVain {
        all: String,
        code: i32,
    },
    Learned {
        sessions: usize,
        profile: String,
    },
    /// What `why` can meet.
    WhyWhat,
    /// The command line that is run once more.
    Again(OsString),
    NoTracing,
    NotWatched,
    Watcher(String),
    NoReport,
    CommandNotFound(OsString),
    CommandFailed {
        name: OsString,
        why: &'static str,
    },
    NoProfile,
    Contact(String),
    SessionWords,
    ShellNotFound(OsString),
    ShellFailed {
        shell: OsString,
        error: io::Error,
    },
    Output(io::Error),
    /// What `check` finds.
    Unreadable {
        path: OsString,
        error: io::Error,
    },
    /// `check --as` of a user whom NSS does not know.
    NoUser(OsString),
    NoDate(OsString),
    /// What `edit` can meet.
    EditBusy(OsString),
    EditDenied(OsString),
    NoEditor(OsString),
    EditorFailed {
        editor: OsString,
        status: std::process::ExitStatus,
    },
    ForgetInside {
        profile: OsString,
    },
    /// What `sessions` and `end` can meet.
    SessionsInside {
        profile: OsString,
    },
    SessionsUnclear {
        lines: usize,
    },
    EndWhat,
    NoSessionId(OsString),
    NoSession(String),
    ManySessions(String),
    /// What `log` can meet.
    LogIsRoots,
    /// `doctor` asked by somebody else than root.
    DoctorIsRoots,
    /// Records that are not in the log although later ones are.
    LogGap {
        boot: String,
        from: u64,
        to: u64,
    },
    LogGaps {
        further: usize,
    },
    LogInside {
        profile: OsString,
    },
    CheckInside {
        profile: OsString,
    },
    NoTime(OsString),
    NoUid(OsString),
    NoLog {
        files: &'static [&'static str],
    },
    LogUnreadable {
        path: OsString,
        error: io::Error,
    },
    JournalFailed {
        status: std::process::ExitStatus,
    },
    NoKey {
        path: OsString,
        error: io::Error,
    },
    BadKey(OsString),
    NoRecord {
        place: OsString,
        filtered: bool,
    },
    NotWritten {
        path: OsString,
        error: io::Error,
    },
    ChangedMeanwhile(OsString),
    Unchanged(OsString),
    Replaced(OsString),
    NotAFile(OsString),
    TooLarge(OsString),
    NotText {
        path: OsString,
        line: usize,
    },
    Symlink(OsString),
    NotRoots {
        path: OsString,
        uid: u32,
        mode: u32,
    },
    NoHelper(OsString),
    HelperMode {
        path: OsString,
        uid: u32,
        mode: u32,
    },
    Warning(Box<Trouble>),
    /// A warning about the machine.
    Note(String),
    Risk(Risk),
    NoFault {
        profiles: usize,
    },
    Faults {
        number: usize,
    },
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal => f.write_str("a fault in caplet itself; nothing was started by it"),
            Self::NoWish(fault) => write!(f, "{fault}; this login goes on without these wishes"),
            Self::NoShellWish { fault, instead } => write!(f, "{fault}; this login goes on with {}", safe(instead)),
            Self::LoginWord(text) => {
                write!(f, "a login shell takes -l and -c COMMAND, not {}; more: caplet run", word(text))
            }
            Self::NoSubcommand { word, meant } => {
                write!(f, "no subcommand \"{}\"; did you mean: {}", safe(word), command_line(meant))
            }
            Self::EarlyOption { option, rest } => {
                write!(f, "no option \"{}\" before the subcommand; did you mean: {}", safe(option), command_line(rest))
            }
            Self::NoOption { command, option, near } => {
                write!(f, "{command} has no option \"{}\"; ", safe(option))?;
                match near {
                    Some(near) => write!(f, "did you mean: {near}"),
                    None => write!(f, "see: caplet {command} --help"),
                }
            }
            Self::NeedsValue { option } => match option.as_str() {
                "--cap-add" | "--cap-drop" => write!(f, "{option} needs a capability, as in: {option} NET_ADMIN"),
                "--profile" => f.write_str("--profile needs a name, as in: -p netlab; yours are in: caplet list"),
                "--as" => f.write_str("--as needs a user, as in: --as alice"),
                "--at" => f.write_str("--at needs a date, as in: --at 2027-02-15"),
                "--user" => f.write_str("--user needs a user, as in: --user alice"),
                "--since" => f.write_str("--since needs a time, as in: --since 2h"),
                "--file" => f.write_str("--file needs a file, as in: --file /var/log/auth.log.1"),
                _ => write!(f, "{} needs a value", safe(option)),
            },
            Self::TakesNoValue { option } => write!(f, "{0} takes no value; write: {0}", safe(option)),
            Self::GivenTwice { option } if ["--user", "--since", "--file"].contains(&option.as_str()) => {
                write!(f, "{option} is given twice; leave one of the two out")
            }
            Self::GivenTwice { option } => write!(f, "{} is given twice; one session has one", safe(option)),
            Self::ShellTakesNoCommand { meant } => {
                write!(f, "shell takes no command; did you mean: {}", command_line(meant))
            }
            Self::NoSuchWord { command, word } => {
                write!(f, "{command} does not take \"{}\"; see: caplet {command} --help", safe(word))
            }
            Self::NoUser(name) => {
                write!(f, "--as {}: no such user; write a login name, or #1004", word(name))
            }
            Self::NoDate(text) => {
                write!(f, "--at {}: no such date; write 2027-02-15, or 2027-02-15T18:00", word(text))
            }
            Self::EmptyCapability { option } => {
                write!(f, "{option} has an empty name; write: {option} NET_ADMIN,NET_RAW")
            }
            Self::UnknownCapability { option, text, near } => {
                write!(f, "{option} {}: no such capability; ", word(text))?;
                match near {
                    Some(near) => write!(f, "did you mean {near}?"),
                    None => f.write_str("the names: caplet caps"),
                }
            }
            Self::BadProfileName(name) => write!(
                f,
                "no profile can be called \"{}\" (letters, digits, _ and -); yours are in: caplet list",
                safe(name)
            ),
            Self::Request(text) => f.write_str(text),
            Self::Usage(text) => write!(f, "{}; see: caplet --help", safe(text)),
            Self::Fixed { asked, instead } => write!(
                f,
                "this session is fixed; start {}: {}",
                if *asked { "one that has it" } else { "one outside of it" },
                command_line(instead)
            ),
            Self::ListInside { profile } => write!(
                f,
                "this session is fixed (profile \"{}\"); to see what else is yours, leave it: exit",
                safe(profile)
            ),
            Self::HelperMissing(path) => write!(f, "no session: {} is missing; install caplet again", safe(path)),
            Self::HelperForbidden(path) => write!(
                f,
                "no session: {} may not be executed; it must be root's, mode 4755, on a file system without noexec",
                safe(path)
            ),
            Self::CommandTooLong => {
                f.write_str("no session: arguments and environment are longer than the kernel takes; shorten them")
            }
            Self::HelperFailed { path, error } => {
                write!(f, "no session: {} cannot be started: {}; install caplet again", safe(path), why(error))
            }
            Self::HelperKilled { undone, signal } => {
                write!(f, "{undone}: the helper was ended by signal {signal}; try again")
            }
            Self::HelperUnclear => f.write_str(
                "no list: the helper's answer is not understood; caplet and caplet-helper must be of one version",
            ),
            Self::LearnWhat => {
                f.write_str("learn needs a command to try, as in: caplet learn -- ip link add br0 type bridge")
            }
            Self::LearnNothing => {
                f.write_str("nothing to learn in: no isolated profile of yours fits (caplet list); ask for one")
            }
            Self::LearnNoSession(profile) => write!(
                f,
                "not learned: there was no session of profile \"{profile}\"; what it says: caplet why -p {profile} -- COMMAND"
            ),
            Self::LearnStopped(code) => write!(f, "not learned: ended by signal {}", code.saturating_sub(128)),
            Self::LearnInVain { all, code } => {
                let all = if all.is_empty() { "no capability" } else { all };
                let why = match *code {
                    126 => " (it cannot be executed there)",
                    127 => " (it is not found there)",
                    _ => "",
                };
                write!(f, "not learned: with all that you may have in a session ({all}) it ends with {code}{why}")
            }
            Self::Learned { sessions, profile } => {
                write!(f, "learned in {sessions} sessions of profile \"{profile}\"; as a file of policy.d:")
            }
            Self::WhyWhat => f.write_str(
                "why needs a command to watch, as in: caplet why -- date -s 12:00 (or the shell's hook, which notes the last \
                 one that failed: man caplet-why)",
            ),
            Self::Again(line) => write!(f, "once more, watched: {}", safe(line)),
            Self::NoTracing => f.write_str(
                "not watched, and not run: this machine lets nobody trace programs (kernel.yama.ptrace_scope); without \
                 an explanation: caplet run",
            ),
            Self::NotWatched => f.write_str("not run: the watcher is gone; try again, or without it: caplet run"),
            Self::Watcher(why) => {
                write!(f, "not watched, and not run: {}; without an explanation: caplet run", safe(why))
            }
            Self::NoReport => f.write_str("no explanation: the watcher was ended before the command"),
            Self::CommandNotFound(name) => write!(f, "{}: command not found", safe(name)),
            Self::CommandFailed { name, why } => write!(f, "{}: cannot be executed: {why}", safe(name)),
            Self::NoProfile => f.write_str("no profile of this machine's policy is yours"),
            Self::Contact(text) => write!(f, "ask: {}", safe(text)),
            Self::SessionWords => {
                f.write_str("caplet-session is started by caplet-helper alone; to get a session: caplet shell")
            }
            Self::ShellNotFound(shell) => {
                write!(f, "your shell {} is not there; name a command instead: caplet run /bin/sh", safe(shell))
            }
            Self::ShellFailed { shell, error } => write!(
                f,
                "your shell {} cannot be executed: {}; name a command instead: caplet run /bin/sh",
                safe(shell),
                why(error)
            ),
            Self::ForgetInside { profile } => write!(
                f,
                "inside a session (profile \"{}\") there is no password to forget; leave it first: exit",
                safe(profile)
            ),
            Self::SessionsInside { profile } => write!(
                f,
                "inside a session (profile \"{}\") no other one is seen or ended; leave it first: exit",
                safe(profile)
            ),
            Self::SessionsUnclear { lines } => write!(
                f,
                "{lines} session{} with a record that is not understood; caplet and caplet-helper must be of one version",
                plural(*lines)
            ),
            Self::EndWhat => f.write_str("end needs the id of a session, as in: caplet end 7f3a; see: caplet sessions"),
            Self::NoSessionId(id) => write!(f, "{} is no session's id (0-9, a-f); see: caplet sessions", word(id)),
            Self::NoSession(id) => {
                write!(f, "no running session of yours has an id that starts with {id}; see: caplet sessions")
            }
            Self::ManySessions(id) => {
                write!(f, "the ids of several running sessions start with {id}; name more of it: caplet sessions")
            }
            Self::LogGap { boot, from, to } => {
                let (what, are) = match to - from {
                    0 => (format!("record {from}"), "is"),
                    _ => (format!("records {from} to {to}"), "are"),
                };
                let boot = for_terminal(boot.as_bytes());
                write!(f, "{what} of boot {boot} {are} missing: the log lost them, was flooded, or was cut")
            }
            Self::LogGaps { further } => write!(f, "and {further} more gaps like these"),
            Self::DoctorIsRoots => f.write_str("the doctor is for root, outside of a session: sudo caplet doctor"),
            Self::LogIsRoots => f.write_str("the log is root's to read: sudo caplet log"),
            Self::LogInside { profile } => write!(
                f,
                "inside a session (profile \"{}\") the log cannot be read; leave it, then: sudo caplet log",
                safe(profile)
            ),
            Self::CheckInside { profile } => write!(
                f,
                "inside a session (profile \"{}\") the installed policy cannot be read; leave it, then: \
                 sudo caplet check",
                safe(profile)
            ),
            Self::NoTime(text) => write!(
                f,
                "--since {}: no such time; write 2027-02-15, 2027-02-15T18:00, 18:00 (today), or an age: 90s, 30min, \
                 2h, 3d",
                word(text)
            ),
            Self::NoUid(text) => write!(f, "--user {}: no such uid; write a login name, or #1004", word(text)),
            Self::NoLog { files } => write!(
                f,
                "no log: systemd's journal is not there, and none of {}; name a file: caplet log --file FILE",
                files.join(", ")
            ),
            Self::LogUnreadable { path, error } => {
                write!(f, "cannot read {}: {}; name another file: caplet log --file FILE", safe(path), why(error))
            }
            Self::JournalFailed { status } => write!(
                f,
                "systemd's journal cannot be read: journalctl ended with {status}; name a file: caplet log --file FILE"
            ),
            Self::NoKey { path, error } => write!(
                f,
                "no line of a file can be believed without its key {}: {}; the helper makes it with its first record",
                safe(path),
                why(error)
            ),
            Self::BadKey(path) => write!(
                f,
                "no line of a file can be believed: {} is no key that root alone can read; remove it, and the helper \
                 makes a new one",
                safe(path)
            ),
            Self::NoRecord { place, filtered: false } => write!(f, "no record in {}", safe(place)),
            Self::NoRecord { place, filtered: true } => {
                write!(f, "no such record in {}; for all of them leave --user and --since out", safe(place))
            }
            Self::Output(error) => write!(f, "cannot write the output: {}", why(error)),
            Self::EditBusy(path) => {
                write!(f, "{} is being edited by somebody else: try again when they are done", safe(path))
            }
            Self::EditDenied(path) => {
                write!(f, "{} is not yours to change: sudo caplet edit {}", safe(path), word(path))
            }
            Self::NoEditor(editor) => {
                write!(f, "the editor {} cannot be started; name another: EDITOR=/usr/bin/vi", word(editor))
            }
            Self::EditorFailed { editor, status } => {
                write!(f, "the editor {} ended with {status}: nothing is changed", word(editor))
            }
            Self::NotWritten { path, error } => {
                write!(f, "{} cannot be written: {}; nothing is changed", safe(path), why(error))
            }
            Self::ChangedMeanwhile(path) => {
                write!(f, "{} was changed by somebody else meanwhile: nothing is changed by you", safe(path))
            }
            Self::Unchanged(path) => write!(f, "{} is unchanged", safe(path)),
            Self::Replaced(path) => write!(f, "{} is replaced", safe(path)),
            Self::Unreadable { path, error } => {
                write!(f, "cannot read {}: {}", safe(path), why(error))?;
                match error.kind() {
                    io::ErrorKind::PermissionDenied => f.write_str("; read it as root: sudo caplet check"),
                    _ => Ok(()),
                }
            }
            Self::NotAFile(path) => write!(f, "{} is not a regular file", safe(path)),
            Self::TooLarge(path) => write!(f, "{} is larger than 16 MiB; no policy is", safe(path)),
            Self::NotText { path, line } => write!(f, "{}:{line}: not UTF-8; save it as UTF-8", safe(path)),
            Self::Symlink(path) => write!(
                f,
                "{} is a symbolic link, which the helper does not follow here; put the file itself there",
                safe(path)
            ),
            Self::NotRoots { path, uid, mode } => write!(
                f,
                "{} has owner {uid} and mode {mode:04o}; installed it must be root's and writable by nobody else",
                safe(path)
            ),
            Self::NoHelper(path) => write!(f, "{} is missing; install caplet again", safe(path)),
            Self::HelperMode { path, uid, mode } => {
                write!(f, "{} has owner {uid} and mode {mode:04o}; it must be root's with mode 4755", safe(path))
            }
            Self::Note(text) => f.write_str(&safe(text)),
            Self::Warning(trouble) => write!(f, "warning: {trouble}"),
            Self::Risk(Risk { at, profile, text }) => {
                write!(f, "warning: {}: profile \"{profile}\": {}", safe(at), safe(text))
            }
            Self::NoFault { profiles: 0 } => f.write_str("no profile, no fault: this policy grants nobody anything"),
            Self::NoFault { profiles } => write!(f, "{profiles} profile{}, no fault", plural(*profiles)),
            Self::Faults { number } => {
                write!(f, "{number} fault{}: as it is, this policy grants nobody anything", plural(*number))
            }
        }
    }
}

fn plural(number: usize) -> &'static str {
    if number == 1 { "" } else { "s" }
}

fn safe(text: impl AsRef<OsStr>) -> String {
    for_terminal(text.as_ref().as_bytes())
}

/// The kernel's reason without Rust's "(os error 2)".
pub fn why(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// One line on stderr, in one write; what cannot be written is lost, and nothing panics.
pub fn tell(message: &dyn Display) {
    write_stderr(&format!("caplet: {message}\n"));
}

/// Text that is not one line (help, the faults of a policy) on stderr.
pub fn write_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// What was asked for, on stdout; `unwritten` is the exit code if that fails.
/// A reader that has gone (`| head`) is no failure worth a word.
pub fn print(text: &str, unwritten: u8) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                tell(&Trouble::Output(error));
            }
            unwritten.into()
        }
    }
}

/// JSON to be printed. It leaves DEL, C1 controls and bidirectional marks as they are, and a terminal may obey them:
/// they are written as JSON's own escapes, and no string changes by it. Outside of strings there is only ASCII.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        let mut bytes = [0; 4];
        let one = c.encode_utf8(&mut bytes);
        // A line feed is layout: within a string it is an escape already.
        if matches!(c, '\n' | ' '..='~') || for_terminal(one.as_bytes()) == *one {
            out.push(c);
        } else {
            let mut units = [0; 2];
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn json_means_the_same_when_it_is_harmless() {
        let text = "é 中 \u{9b} \u{7f} \u{202e} \u{e0041} \u{1f600} \u{1b} \n \" \\ \u{e31}";
        let value = json!({ "text": text, "of": [1] });
        for written in [value.to_string(), format!("{value:#}")] {
            let safe = super::json(&written);
            assert_eq!(serde_json::from_str::<Value>(&safe).expect("JSON"), value);
            assert!(safe.contains("é 中 \\u009b \\u007f \\u202e \\udb40\\udc41 \u{1f600} \\u001b \\n"), "{safe}");
            assert_eq!(safe.lines().count(), written.lines().count());
        }
    }
}
