//! `caplet sessions` and `caplet end`: the helper tells which sessions run, and ends one; the rest is read from /proc.

mod processes;

use crate::front::ask_helper;
use crate::installed::session_profile;
use crate::messages::{self, NO, Trouble, tell};
use caplet_policy::escape::{for_terminal, parse_log_command, parse_log_line, shell_word};
use caplet_policy::request::{ID_LENGTH, Request, Start, Verb, is_session_id};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use processes::{Processes, Tree};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, Output, Stdio};

/// A running session, as its record says.
#[derive(Debug, Default, PartialEq)]
struct Session {
    id: String,
    user: String,
    profile: String,
    scope: String,
    caps: String,
    terminal: String,
    command: Vec<Vec<u8>>,
    /// The command, or PID 1 of the session; none while it is being built.
    main: Option<u32>,
    /// When it began, in seconds since boot.
    up: Option<f64>,
}

/// Shows what runs: root everybody's sessions, a user the user's own.
pub fn show(json: bool) -> ExitCode {
    match list() {
        Ok(Some(sessions)) => {
            let processes = Processes::read();
            let now = Timestamp::now();
            let text = match json {
                true => {
                    let value = Value::from_iter(sessions.iter().map(|s| s.to_json(&processes, now)));
                    messages::json(&format!("{value:#}"))
                }
                false if sessions.is_empty() => String::new(),
                false => table(&sessions, &processes, now, &TimeZone::system()),
            };
            messages::print(&text, NO)
        }
        Ok(None) => NO.into(),
        Err(trouble) => {
            tell(&trouble);
            NO.into()
        }
    }
}

/// Ends the session that this id, or the start of one, names.
pub fn end(id: OsString) -> ExitCode {
    match find(id).and_then(|id| id.map_or(Ok(false), |id| end_it(&id))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => NO.into(),
        Err(trouble) => {
            tell(&trouble);
            NO.into()
        }
    }
}

fn end_it(id: &str) -> Result<bool, Trouble> {
    let mut request = Request::new(Verb::End, Start::Shell);
    request.id = Some(id.to_owned());
    Ok(ask(&request, "no session was ended")?.status.success())
}

/// The whole id. `None`: the helper has said why there is no answer.
fn find(id: OsString) -> Result<Option<String>, Trouble> {
    if !is_session_id(id.as_bytes()) {
        return Err(Trouble::NoSessionId(id));
    }
    let start = id.to_string_lossy().into_owned();
    if start.len() == ID_LENGTH {
        return Ok(Some(start));
    }
    let Some(sessions) = list()? else { return Ok(None) };
    let mut found = sessions.into_iter().map(|session| session.id).filter(|id| id.starts_with(&start));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(Some(id)),
        (Some(_), Some(_)) => Err(Trouble::ManySessions(start)),
        (None, _) => Err(Trouble::NoSession(start)),
    }
}

fn list() -> Result<Option<Vec<Session>>, Trouble> {
    let answer = ask(&Request::new(Verb::Sessions, Start::Shell), "no list of sessions")?;
    if !answer.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8(answer.stdout).map_err(|_| Trouble::HelperUnclear)?;
    let mut sessions: Vec<Session> = text.lines().filter_map(Session::read).collect();
    // One bad line hides no other session.
    if sessions.len() < text.lines().count() {
        tell(&Trouble::SessionsUnclear { lines: text.lines().count() - sessions.len() });
    }
    sessions.sort_by(|a, b| a.up.unwrap_or(f64::MAX).total_cmp(&b.up.unwrap_or(f64::MAX)));
    Ok(Some(sessions))
}

fn ask(request: &Request, undone: &'static str) -> Result<Output, Trouble> {
    if let Some(profile) = session_profile() {
        return Err(Trouble::SessionsInside { profile });
    }
    let answer = ask_helper(&request.encode(), |command| {
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
    })?;
    match answer.status.signal() {
        Some(signal) => Err(Trouble::HelperKilled { undone, signal }),
        None => Ok(answer),
    }
}

impl Session {
    /// `None` if the line is not what the helper of this version writes.
    fn read(line: &str) -> Option<Self> {
        let (event, fields) = parse_log_line(line.trim_end())?;
        let mut session = Self::default();
        for (key, bytes) in fields {
            let value = String::from_utf8_lossy(&bytes).into_owned();
            match key.as_str() {
                "id" => session.id = value,
                "user" => session.user = value,
                "profile" => session.profile = value,
                "scope" => session.scope = value,
                "caps" => session.caps = value,
                "tty" => session.terminal = value,
                // One that was cut in the record stays one text.
                "command" => session.command = parse_log_command(&bytes).unwrap_or_else(|| vec![bytes]),
                "main" => session.main = Some(value.parse().ok()?),
                "up" => session.up = Some(value.parse().ok()?),
                _ => {}
            }
        }
        (event == "grant" && is_session_id(session.id.as_bytes())).then_some(session)
    }

    fn tree(&self, processes: &Processes) -> Tree {
        self.main.map(|main| processes.below(main)).unwrap_or_default()
    }

    fn began(&self, processes: &Processes, now: Timestamp) -> Option<Timestamp> {
        let age = processes.uptime? - self.up?;
        now.checked_sub(SignedDuration::try_from_secs_f64(age).ok()?).ok()
    }

    fn to_json(&self, processes: &Processes, now: Timestamp) -> Value {
        let tree = self.tree(processes);
        let caps: Vec<&str> = self.caps.split(',').filter(|name| !name.is_empty()).collect();
        let words: Vec<_> = self.command.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let began = self.began(processes, now).map(|time| time.as_second());
        json!({
            "id": self.id, "user": self.user, "profile": self.profile, "scope": self.scope, "caps": caps,
            "since": began, "terminal": self.terminal, "command": words,
            "pids": tree.pids, "memory": tree.memory,
        })
    }
}

fn table(sessions: &[Session], processes: &Processes, now: Timestamp, zone: &TimeZone) -> String {
    let heads = ["ID", "USER", "PROFILE", "SCOPE", "SINCE", "TERMINAL", "PROCESSES", "MEMORY", "CAPS", "COMMAND"];
    let mut rows = vec![heads.map(str::to_owned)];
    for session in sessions {
        let tree = session.tree(processes);
        let since = session.began(processes, now).map(|began| time(began, now, zone)).unwrap_or_default();
        let terminal = session.terminal.strip_prefix("/dev/").unwrap_or(&session.terminal);
        let words: Vec<String> = session.command.iter().map(|word| shell_word(word)).collect();
        rows.push([
            session.id.clone(),
            for_terminal(session.user.as_bytes()),
            session.profile.clone(),
            session.scope.clone(),
            since,
            for_terminal(terminal.as_bytes()),
            tree.pids.len().to_string(),
            memory(tree.memory),
            short(&session.caps),
            if words.is_empty() { "(shell)".to_owned() } else { cut(&words.join(" ")) },
        ]);
    }
    let mut widths = [0; 10];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut page = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let cell = if cell.is_empty() { "-" } else { cell };
            line.push_str(&format!("{cell:<width$}  "));
        }
        page.push_str(line.trim_end());
        page.push('\n');
    }
    page
}

/// Today the time alone.
fn time(began: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (began, now) = (zone.to_datetime(began), zone.to_datetime(now));
    let clock = format!("{:02}:{:02}", began.hour(), began.minute());
    if began.date() == now.date() { clock } else { format!("{} {clock}", began.date()) }
}

fn memory(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes < 10 * MIB { format!("{:.1} MiB", bytes as f64 / MIB as f64) } else { format!("{} MiB", bytes / MIB) }
}

/// Few capabilities by name, many by the first and their number.
fn short(caps: &str) -> String {
    let names: Vec<&str> = caps.split(',').collect();
    match names.as_slice() {
        [""] => "none".to_owned(),
        [first, _, _, _, ..] => format!("{first},... ({})", names.len()),
        _ => caps.to_owned(),
    }
}

fn cut(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let mut start: String = text.chars().take(MOST - 3).collect();
    start.push_str("...");
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "grant id=0123456789ab user=alice uid=1001 profile=lab add=NET_ADMIN drop= scope=isolated \
        caps=NET_ADMIN tty=/dev/pts/3 cwd=/home/alice rule=/etc/caplet/policy.toml:1 command=\"ip route\" \
        guard=70 main=71 up=50.000";

    #[test]
    fn the_helpers_line_is_read() {
        let session = Session::read(LINE).expect("a good line");
        assert_eq!((session.id.as_str(), session.user.as_str(), session.main), ("0123456789ab", "alice", Some(71)));
        assert_eq!(session.command, [b"ip".to_vec(), b"route".to_vec()]);
        let building = Session::read(LINE.split(" guard").next().unwrap_or_default()).expect("one being built");
        assert_eq!((building.main, building.up), (None, None));
        for bad in ["", "end id=0123456789ab", "grant id=../x", "grant id=0123456789ab up=soon"] {
            assert_eq!(Session::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_table_for_people() {
        let mut sessions = vec![Session::read(LINE).expect("a good line")];
        sessions.push(Session {
            id: "fedcba987654".into(),
            user: "bob\u{202e}".into(),
            profile: "p".into(),
            scope: "host".into(),
            caps: "CHOWN,KILL,FOWNER,SETUID".into(),
            ..Session::default()
        });
        let processes = Processes::of(110.0, &[(71, 70, 1 << 20), (72, 71, 1 << 20), (9, 1, 1 << 30)]);
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().expect("a time");
        let expect = "\
ID            USER         PROFILE  SCOPE     SINCE  TERMINAL  PROCESSES  MEMORY   CAPS            COMMAND
0123456789ab  alice        lab      isolated  11:59  pts/3     2          2.0 MiB  NET_ADMIN       ip route
fedcba987654  bob\\u{202e}  p        host      -      -         0          0.0 MiB  CHOWN,... (4)  (shell)
";
        let expect =
            expect.replace("CAPS            ", "CAPS           ").replace("NET_ADMIN       ", "NET_ADMIN      ");
        assert_eq!(table(&sessions, &processes, now, &TimeZone::UTC), expect);
        let value = sessions[0].to_json(&processes, now);
        assert_eq!(value["since"], 1_795_607_940_i64);
        assert_eq!(value["pids"], json!([71, 72]));
        assert_eq!(value["memory"], 2 << 20);
    }
}
