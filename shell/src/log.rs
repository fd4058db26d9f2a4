//! `caplet log`: the helper's records read back for root, and what only claims to be one. Nothing is judged here.

mod file;
mod gaps;
mod journal;
mod lines;
mod show;
mod since;
mod trust;

use crate::front::ask_helper;
use crate::installed::session_profile;
use crate::messages::{NO, Trouble, tell};
use caplet_policy::request::{Request, Start, Verb};
use caplet_policy::seal::KEY_FILE;
use gaps::{Gap, Numbers};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::ffi::OsString;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use trust::{Judge, Record};

/// Where syslogd writes what is of authpriv: Debian, Red Hat, and what is left.
const FILES: [&str; 4] = ["/var/log/auth.log", "/var/log/secure", "/var/log/messages", "/var/log/syslog"];

/// What is asked for.
#[derive(Debug)]
pub struct Question {
    pub user: Option<Whose>,
    pub since: Option<Timestamp>,
    pub json: bool,
    /// A file instead of the machine's log.
    pub file: Option<PathBuf>,
}

/// Whose records; the account need not be there any more.
#[derive(Debug, PartialEq, Eq)]
pub enum Whose {
    Name(Vec<u8>),
    Uid(u32),
}

impl Whose {
    /// A login name, or `#uid`.
    pub fn read(text: OsString) -> Result<Self, Trouble> {
        let Some(digits) = text.as_bytes().strip_prefix(b"#") else {
            return Ok(Self::Name(text.into_vec()));
        };
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(Self::Uid).ok_or(Trouble::NoUid(text))
    }

    fn fits(&self, record: &Record) -> bool {
        match self {
            Self::Name(name) => record.get("user") == Some(name),
            Self::Uid(uid) => record.get("uid") == Some(uid.to_string().as_bytes()),
        }
    }
}

/// A point in time as people write it.
pub fn since(text: OsString) -> Result<Timestamp, Trouble> {
    let parsed = text.to_str().and_then(|text| since::parse(text, Timestamp::now(), &TimeZone::system()));
    parsed.ok_or(Trouble::NoTime(text))
}

/// A message under the ident `caplet`.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    time: Timestamp,
    text: Vec<u8>,
    /// Nothing was left out of it.
    whole: bool,
    origin: Origin,
}

/// What there is to tell who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// journald asked the kernel for the sender's uid.
    Journal {
        uid: Option<u32>,
    },
    File,
}

/// Who takes the entries, one by one; an error ends the reading.
type Each<'a> = &'a mut dyn FnMut(Entry) -> Result<(), Trouble>;

/// Shows the records; exit code 0 also if there is none.
pub fn run(question: &Question) -> ExitCode {
    let allowed = may_read(nix::unistd::geteuid().as_raw(), session_profile());
    match allowed.and_then(|()| read_out(question)) {
        Ok(()) => ExitCode::SUCCESS,
        // `caplet log | head` has what it wanted.
        Err(Trouble::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(trouble) => {
            tell(&trouble);
            NO.into()
        }
    }
}

/// The root of a session is not the machine's.
fn may_read(euid: u32, session: Option<OsString>) -> Result<(), Trouble> {
    match session {
        Some(profile) => Err(Trouble::LogInside { profile }),
        None if euid != 0 => Err(Trouble::LogIsRoots),
        None => Ok(()),
    }
}

fn read_out(question: &Question) -> Result<(), Trouble> {
    sweep();
    let place = Place::find(question.file.as_deref(), Path::new("/"))?;
    let mut printer = Printer {
        question,
        judge: Judge::new(KEY_FILE, 0),
        zone: TimeZone::system(),
        out: BufWriter::new(io::stdout().lock()),
        shown: 0,
        numbers: Numbers::default(),
    };
    let read = place.read(question.since, &TimeZone::system(), &mut |entry| printer.take(&entry));
    // What was read before a failure is shown before it is told.
    printer.out.flush().map_err(Trouble::Output)?;
    read?;
    tell_gaps(&printer.numbers.gaps());
    if printer.shown == 0 {
        let filtered = question.user.is_some() || question.since.is_some();
        tell(&Trouble::NoRecord { place: place.name(), filtered });
    }
    Ok(())
}

/// Each is told, up to a few: somebody may have flooded the log to get rid of a record.
fn tell_gaps(gaps: &[Gap]) {
    const FEW: usize = 5;
    for gap in gaps.iter().take(FEW) {
        tell(&Trouble::LogGap { boot: gap.boot.clone(), from: *gap.numbers.start(), to: *gap.numbers.end() });
    }
    if gaps.len() > FEW {
        tell(&Trouble::LogGaps { further: gaps.len() - FEW });
    }
}

/// Gives sessions that were killed their end. Without it the log is read as it is.
fn sweep() {
    let _ = ask_helper(&Request::new(Verb::Sweep, Start::Shell).encode(), |command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    });
}

/// Where the records are.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// systemd's journal, by this journalctl.
    Journal(PathBuf),
    /// Files of syslogd, the older one first.
    Files(Vec<PathBuf>),
}

impl Place {
    /// The file that was named, or the machine's log, below that root.
    fn find(file: Option<&Path>, root: &Path) -> Result<Self, Trouble> {
        if let Some(file) = file {
            return Ok(Self::Files(vec![file.to_owned()]));
        }
        if root.join("run/systemd/journal/socket").exists() {
            let journalctl = ["usr/bin/journalctl", "bin/journalctl"].map(|path| root.join(path));
            if let Some(journalctl) = journalctl.into_iter().find(|path| path.exists()) {
                return Ok(Self::Journal(journalctl));
            }
        }
        let mut files = FILES.map(|path| root.join(path.trim_start_matches('/'))).into_iter();
        let file = files.find(|path| path.exists()).ok_or(Trouble::NoLog { files: &FILES })?;
        let mut rotated = file.clone().into_os_string();
        rotated.push(".1");
        let rotated = Some(PathBuf::from(rotated)).filter(|path| path.exists());
        Ok(Self::Files(rotated.into_iter().chain([file]).collect()))
    }

    fn read(&self, since: Option<Timestamp>, zone: &TimeZone, each: Each<'_>) -> Result<(), Trouble> {
        match self {
            Self::Journal(journalctl) => journal::read(journalctl, since, each),
            Self::Files(files) => files.iter().try_for_each(|path| file::read(path, Timestamp::now(), zone, each)),
        }
    }

    fn name(&self) -> OsString {
        match self {
            Self::Journal(_) => "systemd's journal".into(),
            Self::Files(files) => files.last().cloned().unwrap_or_default().into(),
        }
    }
}

/// Writes what fits the question.
struct Printer<'q, W: Write> {
    question: &'q Question,
    judge: Judge,
    zone: TimeZone,
    out: W,
    shown: u64,
    numbers: Numbers,
}

impl<W: Write> Printer<'_, W> {
    fn take(&mut self, entry: &Entry) -> Result<(), Trouble> {
        // Also what is too old is judged: it may come again.
        let record = self.judge.record(entry);
        if let Some(number) = record.as_ref().and_then(|record| record.get("seq")) {
            self.numbers.take(number);
        }
        let wanted = match &self.question.user {
            Some(whose) => record.as_ref().is_some_and(|record| whose.fits(record)),
            None => true,
        };
        if !wanted || self.question.since.is_some_and(|since| entry.time < since) {
            return Ok(());
        }
        self.shown += 1;
        let show = if self.question.json { show::json } else { show::human };
        let line = show(entry, record.as_ref(), &self.zone);
        self.out.write_all(line.as_bytes()).map_err(Trouble::Output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caplet_policy::seal::{KEY_LENGTH, Key};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn question(user: Option<&str>, since: Option<&str>, json: bool) -> Question {
        let user = user.map(|user| Whose::read(user.into()).expect("somebody"));
        Question { user, since: since.map(|time| time.parse().expect("a time")), json, file: None }
    }

    /// What is printed of a file with these lines, of which `@` stands for the head and `!` asks for a seal.
    fn printed(lines: &[&str], question: &Question) -> String {
        let folder = tempfile::tempdir().expect("a folder of our own");
        let (key, log) = (folder.path().join("key"), folder.path().join("log"));
        fs::write(&key, [7; KEY_LENGTH]).expect("it is written");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("chmod");
        let seal = Key::new(&[7; KEY_LENGTH]).expect("a key");
        let line = |(n, line): (usize, &&str)| match line.strip_prefix('!') {
            Some(text) => format!("2026-11-25T02:12:{n:02}+00:00 host caplet[1]: {}\n", seal.seal(text)),
            None => line.replace('@', &format!("2026-11-25T02:12:{n:02}+00:00 host ")) + "\n",
        };
        fs::write(&log, lines.iter().enumerate().map(line).collect::<String>()).expect("it is written");
        let owner = fs::metadata(&key).expect("it is there").uid();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let judge = Judge::new(key, owner);
        let mut printer =
            Printer { question, judge, zone: zone.clone(), out: Vec::new(), shown: 0, numbers: Numbers::default() };
        let place = Place::Files(vec![log]);
        place.read(question.since, &zone, &mut |entry| printer.take(&entry)).expect("it is read");
        let text = String::from_utf8(printer.out).expect("text");
        assert_eq!(text.lines().count() as u64, printer.shown);
        text
    }

    const LINES: [&str; 7] = [
        "!grant id=7f3a user=alice uid=1001 profile=netlab add=NET_ADMIN command=\"ip route\" up=7.5",
        "@sshd[3]: Accepted publickey for alice",
        "@caplet[1]: grant id=7f3b user=alice uid=1001 profile=netlab command=id",
        "!refuse user=mallory uid=1007 profile=netlab add=NET_ADMIN reason=\"not in this profile\" command=\"ip a\"",
        "@caplet: \x1b[2J\u{9b}2J",
        "!end id=7f3a user=alice uid=1001 profile=netlab status=exit:0 seconds=12",
        "!end id=7f3a user=alice uid=1001 profile=netlab status=exit:0 seconds=12",
    ];

    #[test]
    fn records_and_what_is_foreign_are_told_apart() {
        let text = printed(&LINES, &question(None, None, false));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "2026-11-25 03:12:00  grant   alice  netlab  7f3a  +NET_ADMIN  ip route");
        let forged = "2026-11-25 03:12:02  foreign  -  grant id=7f3b user=alice uid=1001 profile=netlab command=id";
        assert_eq!(lines[1], forged);
        assert_eq!(lines[2], "2026-11-25 03:12:03  refuse  mallory  netlab  not in this profile  +NET_ADMIN  ip a");
        assert_eq!(lines[3], "2026-11-25 03:12:04  foreign  -  \\x1b[2J\\u{9b}2J");
        assert_eq!(lines[4], "2026-11-25 03:12:05  end     alice  netlab  7f3a  exit:0  12 s");
        assert!(lines[5].starts_with("2026-11-25 03:12:06  foreign  -  end id=7f3a "), "{}", lines[5]);
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn a_user_is_found_by_name_and_by_uid_and_nothing_foreign_with_them() {
        for (user, number) in [("alice", 2), ("#1001", 2), ("#1007", 1), ("mallory", 1), ("ali", 0), ("1001", 0)] {
            let text = printed(&LINES, &question(Some(user), None, false));
            assert_eq!((text.lines().count(), text.contains("foreign")), (number, false), "{user}: {text}");
        }
    }

    #[test]
    fn what_is_too_old_is_left_out_and_still_known() {
        let since = question(None, Some("2026-11-25T02:12:04Z"), false);
        assert_eq!(printed(&LINES, &since).lines().count(), 3);
        let since = question(Some("alice"), Some("2026-11-25T02:12:06Z"), false);
        assert_eq!(printed(&LINES, &since), "", "the second end is a replay of one that is too old");
    }

    #[test]
    fn json_lines_stream() {
        let text = printed(&LINES, &question(None, None, true));
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let expect = serde_json::json!({
            "time": "2026-11-25T03:12:00+01:00", "event": "grant", "id": "7f3a", "user": "alice", "uid": 1001,
            "profile": "netlab", "add": "NET_ADMIN", "command": "ip route", "argv": ["ip", "route"], "up": 7.5,
        });
        assert_eq!(objects[0], expect);
        let foreign = serde_json::json!({
            "time": "2026-11-25T03:12:04+01:00", "event": "foreign", "text": "\u{1b}[2J\u{9b}2J", "uid": null,
        });
        assert_eq!(objects[3], foreign);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn only_root_outside_of_a_session_may_read() {
        assert!(may_read(0, None).is_ok());
        let trouble = may_read(1000, None).expect_err("not root");
        assert_eq!(trouble.to_string(), "the log is root's to read: sudo caplet log");
        let trouble = may_read(0, Some("netlab".into())).expect_err("root of a session");
        let text = "inside a session (profile \"netlab\") the log cannot be read; leave it, then: sudo caplet log";
        assert_eq!(trouble.to_string(), text);
    }

    #[test]
    fn the_log_of_the_machine_is_found() {
        let folder = tempfile::tempdir().expect("a folder of our own");
        let root = folder.path();
        let put = |path: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
            fs::write(&path, "").expect("it is written");
            path
        };
        assert!(matches!(Place::find(None, root), Err(Trouble::NoLog { .. })));
        let named = Place::find(Some(Path::new("x.log")), root).ok();
        assert_eq!(named, Some(Place::Files(vec!["x.log".into()])));
        let (_, messages) = (put("var/log/syslog"), put("var/log/messages"));
        assert_eq!(Place::find(None, root).ok(), Some(Place::Files(vec![messages])));
        let (older, auth) = (put("var/log/auth.log.1"), put("var/log/auth.log"));
        put("var/log/auth.log.2.gz");
        put("usr/bin/journalctl");
        assert_eq!(Place::find(None, root).ok(), Some(Place::Files(vec![older, auth])), "nobody feeds the journal");
        put("run/systemd/journal/socket");
        assert_eq!(Place::find(None, root).ok(), Some(Place::Journal(root.join("usr/bin/journalctl"))));
    }

    #[test]
    fn users_as_people_write_them() {
        let read = |text: &str| Whose::read(text.into()).ok();
        assert_eq!(read("alice"), Some(Whose::Name(b"alice".to_vec())));
        assert_eq!(read("#01004"), Some(Whose::Uid(1004)));
        for none in ["#", "#x", "#-1", "#+1", "#4294967296"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
