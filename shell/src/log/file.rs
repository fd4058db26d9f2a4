//! A file that syslogd writes. Anybody can have a line written into it under any name: which one is the helper's is
//! for `trust` to say.

use super::lines::{self, Line};
use super::{Each, Entry, Origin};
use crate::messages::Trouble;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
/// A day ahead, in seconds: clocks of machines that log over the network differ, and time zones.
const AHEAD: i64 = 86_400;
/// From one 29th of February to the next but one, over a year like 2100, in years.
const LEAP: i16 = 8;

/// Hands on every message under the ident `caplet`.
pub fn read(path: &Path, now: Timestamp, zone: &TimeZone, each: Each<'_>) -> Result<(), Trouble> {
    let unreadable = |error| Trouble::LogUnreadable { path: path.as_os_str().to_owned(), error };
    let mut from = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    loop {
        let length = lines::next(&mut from, &mut line).map_err(unreadable)?;
        if length == Line::End {
            return Ok(());
        }
        if let Some((time, text)) = message(&line, now, zone) {
            each(Entry { time, text: text.to_owned(), whole: length == Line::Whole, origin: Origin::File })?;
        }
    }
}

/// When a line was written and what it says, if its ident is `caplet`.
fn message<'l>(line: &'l [u8], now: Timestamp, zone: &TimeZone) -> Option<(Timestamp, &'l [u8])> {
    let (stamp, rest) = Stamp::read(line)?;
    let (_host, rest) = word(rest)?;
    let text = tagged(rest)?;
    Some((stamp.resolve(now, zone)?, text))
}

/// What follows `caplet[123]: ` or `caplet: `.
fn tagged(rest: &[u8]) -> Option<&[u8]> {
    let rest = rest.strip_prefix(b"caplet")?;
    let rest = match rest.strip_prefix(b"[") {
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (digits > 0).then_some(&rest[digits..])?.strip_prefix(b"]")?
        }
        None => rest,
    };
    let text = rest.strip_prefix(b":")?;
    Some(text.strip_prefix(b" ").unwrap_or(text))
}

/// Up to a blank, and what follows it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b' ')?;
    (at > 0).then(|| (&text[..at], &text[at + 1..]))
}

/// What a line says of its time.
enum Stamp<'l> {
    /// `2026-11-25T02:12:33.123456+00:00`.
    Whole(&'l [u8]),
    /// `Nov 25 02:12:33`, in the machine's time zone; the month is 1 to 12.
    Yearless { month: i8, day: i8, time: &'l [u8] },
}

impl<'l> Stamp<'l> {
    fn read(line: &'l [u8]) -> Option<(Self, &'l [u8])> {
        if line.first()?.is_ascii_digit() {
            let (stamp, rest) = word(line)?;
            return Some((Self::Whole(stamp), rest));
        }
        let (name, rest) = word(line)?;
        let month = (1..).zip(MONTHS).find(|(_, month)| name == *month)?.0;
        let (day, rest) = word(rest.strip_prefix(b" ").unwrap_or(rest))?;
        let (time, rest) = word(rest)?;
        let day = std::str::from_utf8(day).ok()?.parse().ok()?;
        Some((Self::Yearless { month, day, time }, rest))
    }

    fn resolve(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Whole(stamp) => std::str::from_utf8(stamp).ok()?.parse().ok(),
            Self::Yearless { month, day, time } => {
                let time: Time = std::str::from_utf8(time).ok()?.parse().ok()?;
                latest(*month, *day, time, now, zone)
            }
        }
    }
}

/// In the latest year that does not put it more than a day into the future.
fn latest(month: i8, day: i8, time: Time, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let limit = Timestamp::from_second(now.as_second().saturating_add(AHEAD)).ok()?;
    let last = limit.to_zoned_datetime(zone.clone()).year();
    let in_year = |year: i16| {
        let civil = DateTime::from_parts(Date::new(year, month, day).ok()?, time);
        Some(civil.to_zoned_datetime(zone.clone()).ok()?.timestamp()).filter(|moment| *moment <= limit)
    };
    (0..=LEAP).find_map(|back| in_year(last - back))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &[u8], now: &str) -> Option<(String, Vec<u8>)> {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let (time, text) = message(line, now.parse().expect("a time"), &zone)?;
        Some((time.to_string(), text.to_vec()))
    }

    const NOW: &str = "2026-11-25T12:00:00Z";

    #[test]
    fn both_forms_of_a_line_are_read() {
        for (line, time, text) in [
            ("Nov 25 02:12:33 host caplet[123]: grant id=1", "2026-11-25T01:12:33Z", "grant id=1"),
            ("Nov  5 02:12:33 host caplet: grant id=1", "2026-11-05T01:12:33Z", "grant id=1"),
            ("Nov 5 02:12:33 host caplet:  two", "2026-11-05T01:12:33Z", " two"),
            ("2026-11-25T02:12:33.123456+00:00 host caplet[1]: a: b", "2026-11-25T02:12:33.123456Z", "a: b"),
            ("2026-11-25T02:12:33Z host caplet[1]:", "2026-11-25T02:12:33Z", ""),
        ] {
            assert_eq!(read_line(line.as_bytes(), NOW), Some((time.to_owned(), text.into())), "{line}");
        }
        let odd = read_line(b"Nov 25 02:12:33 h\xffst caplet[1]: \xff", NOW).expect("bytes are no hindrance");
        assert_eq!(odd.1, b"\xff");
    }

    #[test]
    fn the_year_is_the_latest_that_can_be() {
        for (stamp, now, time) in [
            ("Nov 26 12:30:00", NOW, "2026-11-26T11:30:00Z"),
            ("Nov 26 13:30:00", NOW, "2025-11-26T12:30:00Z"),
            ("Dec 31 23:59:59", "2027-01-01T00:00:00Z", "2026-12-31T22:59:59Z"),
            ("Jan  1 00:10:00", "2026-12-31T22:00:00Z", "2026-12-31T23:10:00Z"),
            ("Feb 29 12:00:00", NOW, "2024-02-29T11:00:00Z"),
            ("Feb 29 12:00:00", "2104-01-01T00:00:00Z", "2096-02-29T11:00:00Z"),
        ] {
            let line = format!("{stamp} host caplet: x");
            assert_eq!(read_line(line.as_bytes(), now).map(|(time, _)| time).as_deref(), Some(time), "{stamp} {now}");
        }
    }

    #[test]
    fn other_idents_and_other_lines_are_passed_over() {
        for line in [
            "",
            " ",
            "Nov 25",
            "Nov 25 02:12:33 host",
            "Nov 25 02:12:33 host sshd[1]: caplet[1]: grant id=1",
            "Nov 25 02:12:33 host caplets[1]: x",
            "Nov 25 02:12:33 host caplet[]: x",
            "Nov 25 02:12:33 host caplet[x]: x",
            "Nov 25 02:12:33 host caplet[1] x",
            "Nov 25 02:12:33 host  caplet[1]: x",
            "Nov 25 02:12:33 host x caplet[1]: x",
            "Nov 31 02:12:33 host caplet[1]: x",
            "Nov 25 25:12:33 host caplet[1]: x",
            "nov 25 02:12:33 host caplet[1]: x",
            "2026-11-25T02:12:33 host caplet[1]: x",
            "2026 host caplet[1]: x",
            "-- host caplet[1]: x",
        ] {
            assert_eq!(read_line(line.as_bytes(), NOW), None, "{line}");
        }
    }
}
