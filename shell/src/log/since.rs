//! Points in time as people write them: a date, a time of today, an age.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// The units of an age, in seconds.
const UNITS: [(&str, i64); 4] = [("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)];

/// `2027-02-15` (from its midnight), `2027-02-15T18:00`, with an offset too, `18:00` of today; `90s`, `30min`, `2h`,
/// `3d` ago. `None`: nothing of the kind.
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Some(age) = age(text) {
        return now.checked_sub(SignedDuration::from_secs(age?)).ok();
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    let civil = if text.contains('-') {
        text.parse::<DateTime>().ok()?
    } else if text.contains(':') && text.starts_with(|c: char| c.is_ascii_digit()) {
        now.to_zoned_datetime(zone.clone()).date().to_datetime(text.parse::<Time>().ok()?)
    } else {
        return None;
    };
    Some(civil.to_zoned_datetime(zone.clone()).ok()?.timestamp())
}

/// In seconds. The outer `None`: no age; the inner one: too old for a number.
fn age(text: &str) -> Option<Option<i64>> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let unit = UNITS.iter().find(|(name, _)| *name == &text[number.len()..])?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(number.parse::<i64>().ok().and_then(|number| number.checked_mul(unit.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<String> {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let now = "2027-02-15T23:30:00Z".parse().expect("a time");
        parse(text, now, &zone).map(|moment| moment.to_string())
    }

    #[test]
    fn times_as_people_write_them() {
        for (text, moment) in [
            ("2027-02-15", "2027-02-14T23:00:00Z"),
            ("2027-02-15T18:00", "2027-02-15T17:00:00Z"),
            ("2027-02-15 18:00:05", "2027-02-15T17:00:05Z"),
            ("2027-02-15T18:00Z", "2027-02-15T18:00:00Z"),
            // In this zone it is the 16th already.
            ("18:00", "2027-02-16T17:00:00Z"),
            ("00:10:30", "2027-02-15T23:10:30Z"),
            ("90s", "2027-02-15T23:28:30Z"),
            ("30min", "2027-02-15T23:00:00Z"),
            ("2h", "2027-02-15T21:30:00Z"),
            ("3d", "2027-02-12T23:30:00Z"),
            ("0s", "2027-02-15T23:30:00Z"),
        ] {
            assert_eq!(at(text).as_deref(), Some(moment), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_guessed_at() {
        for text in [
            "",
            "yesterday",
            "2",
            "h",
            "2 h",
            "-2h",
            "+2h",
            "2m",
            "2H",
            "1.5h",
            "2h30min",
            "2027-02-30",
            "2027-13-01",
            "25:00",
            "18:00x",
            ":",
            "T18:00",
            "1800",
            "99999999999999999999d",
            "9999999999999d",
            "\u{660}h",
            "2027-02-15\u{1b}",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
