//! A record as a person reads it, in one line, and as a program does. Everything from the log is escaped here.

use super::trust::Record;
use super::{Entry, Origin};
use crate::messages;
use crate::quoting::word;
use caplet_policy::escape::{for_terminal, parse_log_command};
use jiff::tz::TimeZone;
use serde_json::{Map, Number, Value};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// How wide the usual events are: grant, refuse, end, probe, fault.
const EVENT: usize = 6;
/// What a field that would leave a column empty is shown as.
const NOTHING: &str = "-";

/// `2026-11-25 02:12:33  grant   alice  netlab  7f3a90c1  +NET_ADMIN  ip route`; never cut.
pub fn human(entry: &Entry, record: Option<&Record>, zone: &TimeZone) -> String {
    let time = entry.time.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let columns = record.map_or_else(|| foreign(entry), columns);
    format!("{time}  {}\n", columns.join("  "))
}

/// The uid has its column even where it is unknown: else the text could begin with one.
fn foreign(entry: &Entry) -> Vec<String> {
    let uid = uid(entry.origin).map_or_else(|| NOTHING.to_owned(), |uid| format!("uid {uid}"));
    let cut = if entry.whole { "" } else { "..." };
    vec!["foreign".to_owned(), uid, for_terminal(&entry.text) + cut]
}

/// Who sent a message, where that is known.
fn uid(origin: Origin) -> Option<u32> {
    match origin {
        Origin::Journal { uid } => uid,
        Origin::File => None,
    }
}

fn columns(record: &Record) -> Vec<String> {
    let shown = |key: &str| record.get(key).map(for_terminal);
    let uid = || shown("uid").map(|uid| format!("#{uid}"));
    let mut columns = vec![
        format!("{:<EVENT$}", for_terminal(record.event.as_bytes())),
        shown("user").or_else(uid).unwrap_or_else(|| NOTHING.to_owned()),
        shown("profile").unwrap_or_else(|| NOTHING.to_owned()),
    ];
    columns.extend(["id", "verb", "verdict", "reason", "status"].into_iter().filter_map(shown));
    columns.extend(shown("try").map(|number| format!("try {number}")));
    columns.extend(shown("privileged").map(|_| "--privileged".to_owned()));
    columns.extend(shown("add").map(|names| format!("+{names}")));
    columns.extend(shown("drop").map(|names| format!("-{names}")));
    let used = [("seconds", "s"), ("cpu", "s cpu"), ("peak", "KiB")];
    let used = used.into_iter().filter_map(|(key, unit)| shown(key).map(|number| format!("{number} {unit}")));
    columns.push(used.collect::<Vec<_>>().join(", "));
    columns.extend(record.get("command").map(command));
    columns.retain(|column| !column.is_empty());
    columns
}

/// As it can be typed again; one that the helper cut is shown as the helper wrote it.
fn command(text: &[u8]) -> String {
    match parse_log_command(text) {
        Some(argv) => argv.iter().map(|arg| word(OsStr::from_bytes(arg))).collect::<Vec<_>>().join(" "),
        // Its backslashes are escapes already.
        None => text.split(|byte| *byte == b'\\').map(for_terminal).collect::<Vec<_>>().join("\\"),
    }
}

/// One JSON object in one line.
pub fn json(entry: &Entry, record: Option<&Record>, zone: &TimeZone) -> String {
    let mut object = Map::new();
    match record {
        Some(record) => {
            for (key, value) in &record.fields {
                object.insert(key.clone(), field(key, &String::from_utf8_lossy(value)));
            }
            let argv = record.get("command").and_then(parse_log_command);
            let lossy = |argv: Vec<Vec<u8>>| argv.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
            object.extend(argv.map(|argv| ("argv".to_owned(), lossy(argv))));
            object.insert("event".into(), record.event.clone().into());
        }
        None => {
            let Entry { text, origin, .. } = entry;
            object.insert("event".into(), "foreign".into());
            object.insert("text".into(), String::from_utf8_lossy(text).into());
            object.insert("uid".into(), uid(*origin).into());
        }
    }
    let time = entry.time.display_with_offset(zone.to_offset(entry.time));
    object.insert("time".into(), time.to_string().into());
    messages::json(&Value::Object(object).to_string())
}

/// Numbers are numbers where they parse as one.
fn field(key: &str, value: &str) -> Value {
    let number = match key {
        "uid" | "seconds" | "try" | "peak" => value.parse::<u64>().ok().map(Number::from),
        "cpu" | "up" => value.parse().ok().and_then(Number::from_f64),
        _ => None,
    };
    number.map_or_else(|| value.into(), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use caplet_policy::escape::{log_command, log_value, parse_log_line};

    fn entry(text: &[u8], origin: Origin, whole: bool) -> Entry {
        let time = "2026-11-25T02:12:33.5Z".parse().expect("a time");
        Entry { time, text: text.to_owned(), whole, origin }
    }

    fn both(line: &str) -> (String, String) {
        let (event, fields) = parse_log_line(line).expect("a record");
        let (record, entry) = (Record { event, fields }, entry(b"", Origin::File, true));
        let text = human(&entry, Some(&record), &TimeZone::UTC);
        let shown = text.strip_prefix("2026-11-25 02:12:33  ").and_then(|text| text.strip_suffix('\n'));
        (shown.expect("time and line").to_owned(), json(&entry, Some(&record), &TimeZone::UTC))
    }

    #[test]
    fn each_event_is_one_line() {
        let who = "user=alice uid=1001 profile=netlab";
        for (line, text) in [
            (
                format!(
                    "grant id=7f3a90c1 {who} scope=isolated add=NET_ADMIN,NET_RAW drop=MKNOD caps=CHOWN command=id"
                ),
                "grant   alice  netlab  7f3a90c1  +NET_ADMIN,NET_RAW  -MKNOD  id",
            ),
            (
                format!("grant id=7f {who} add= drop= privileged=yes command="),
                "grant   alice  netlab  7f  --privileged",
            ),
            (
                format!("end id=7f3a90c1 {who} status=exit:0 seconds=12 cpu=0.340 peak=3120"),
                "end     alice  netlab  7f3a90c1  exit:0  12 s, 0.340 s cpu, 3120 KiB",
            ),
            (format!("end id=7f {who} status=lost"), "end     alice  netlab  7f  lost"),
            (
                "refuse user=mallory uid=1007 profile= reason=\"no profile\" command=\"ip route\"".to_owned(),
                "refuse  mallory  -  no profile  ip route",
            ),
            (format!("auth-failure {who} try=2"), "auth-failure  alice  netlab  try 2"),
            (format!("probe verb=judge {who} verdict=granted command=id"), "probe   alice  netlab  judge  granted  id"),
            ("fault uid=1001 reason=\"line 3\"".to_owned(), "fault   #1001  -  line 3"),
            ("end".to_owned(), "end     -  -"),
        ] {
            assert_eq!(both(&line).0, text);
        }
    }

    #[test]
    fn commands_can_be_typed_again_and_are_never_cut_here() {
        let shown = |argv: &[&[u8]], limit| {
            let line = format!("grant command={}", log_value(log_command(argv, limit).as_bytes()));
            both(&line).0.replacen("grant   -  -  ", "", 1)
        };
        assert_eq!(shown(&[b"echo", b"two words", b"", b"\x1b[2J"], 4096), r"echo 'two words' '' $'\x1b[2J'");
        let long = vec![b'x'; 4000];
        assert_eq!(shown(&[b"echo", &long], 4096).len(), 4005);
        assert_eq!(shown(&[b"echo", b"a\nb\\", &long], 20), r"echo 'a\x0ab\\' xxxx[...3996]");
    }

    #[test]
    fn no_value_reaches_the_terminal_raw() {
        for bad in
            [&b"\x1b[2J"[..], b"\x9b2J", "\u{9b}2J".as_bytes(), "\u{202e}x".as_bytes(), b"\xff", b"\r\n", b"\x7f"]
        {
            let fields =
                ["id", "user", "profile", "reason", "status", "add", "seconds", "command", "verb", "try", "new"];
            let fields = fields.map(|key| (key.to_owned(), bad.to_owned())).to_vec();
            let record = Record { event: "grant".into(), fields };
            for (entry, record) in [
                (entry(bad, Origin::Journal { uid: Some(1000) }, true), None),
                (entry(b"", Origin::File, true), Some(&record)),
            ] {
                let text = human(&entry, record, &TimeZone::UTC) + &json(&entry, record, &TimeZone::UTC);
                let lines: Vec<&str> = text.lines().collect();
                let raw = |c: char| c.is_control() || c == '\u{202e}';
                assert!(lines.len() == 2 && !lines.concat().contains(raw), "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_foreign_names_the_uid_or_none() {
        let shown = |entry| human(&entry, None, &TimeZone::UTC).split_off("2026-11-25 02:12:33  ".len());
        let journal = |uid| Origin::Journal { uid };
        assert_eq!(shown(entry(b"grant id=1", journal(Some(1000)), true)), "foreign  uid 1000  grant id=1\n");
        assert_eq!(shown(entry(b"uid 0  grant", Origin::File, true)), "foreign  -  uid 0  grant\n");
        assert_eq!(shown(entry(b"xx", journal(None), false)), "foreign  -  xx...\n");
    }

    #[test]
    fn json_has_numbers_where_they_are() {
        let line = "end uid=1001 seconds=12 cpu=0.340 peak=3120 up=81234.567 try=x new=5 time=1 command=\"a [...3]\"";
        let value: Value = serde_json::from_str(&both(line).1).expect("JSON");
        let expect = serde_json::json!({
            "time": "2026-11-25T02:12:33.5+00:00", "event": "end", "uid": 1001, "seconds": 12, "cpu": 0.34,
            "peak": 3120, "up": 81234.567, "try": "x", "new": "5", "command": "a [...3]",
        });
        assert_eq!(value, expect);
        for odd in ["nan", "inf", "-1", "1e400", ""] {
            let line = format!("end uid={odd} cpu={odd}");
            let value: Value = serde_json::from_str(&both(&line).1).expect("JSON");
            assert_eq!(value["uid"], odd);
        }
    }
}
