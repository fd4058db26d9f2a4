//! TOML's dates as points in time. No clock and no time zone in here.

use super::faults::Complaint;
use super::{Civil, Moment};
use toml::de::DeValue;

/// A date or a date-time of the file; a bare date is the first or the last second of its day.
pub(super) fn moment(value: &DeValue<'_>, end_of_day: bool) -> Result<Moment, Complaint> {
    const FORMS: &str = "2027-02-15, or 2027-02-15T18:00:00, without quotes";
    let DeValue::Datetime(written) = value else {
        return Err(Complaint::new("must be a date or a date-time").help(FORMS));
    };
    let Some(date) = written.date else {
        return Err(Complaint::new("a time of day without a date").help(FORMS));
    };
    let (hour, minute, second) = match written.time {
        Some(time) => (time.hour, time.minute, time.second.unwrap_or(0)),
        None if end_of_day => (23, 59, 59),
        None => (0, 0, 0),
    };
    let civil = Civil { year: date.year.into(), month: date.month, day: date.day, hour, minute, second };
    Ok(match written.offset {
        None => Moment::Local(civil),
        Some(offset) => Moment::Unix(seconds(civil) - offset_seconds(&offset.to_string())),
    })
}

/// `Z`, or `+02:00`, as toml writes it (its type cannot be named without its serde feature).
fn offset_seconds(offset: &str) -> i64 {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let mut parts = offset.trim_start_matches(['+', '-']).split(':');
    let seconds = number(parts.next()) * 3600 + number(parts.next()) * 60;
    if offset.starts_with('-') { -seconds } else { seconds }
}

/// Whether the one is surely after the other, in whatever time zone the machine is.
pub(super) fn after(from: Moment, until: Moment) -> bool {
    // zones lie within 14 hours of UTC
    const WIDEST: i64 = 14 * 3600;
    match (from, until) {
        (Moment::Local(from), Moment::Local(until)) => from > until,
        (Moment::Unix(from), Moment::Unix(until)) => from > until,
        (Moment::Local(from), Moment::Unix(until)) => seconds(from) - WIDEST > until,
        (Moment::Unix(from), Moment::Local(until)) => from > seconds(until) + WIDEST,
    }
}

/// Seconds since the epoch of a calendar time in UTC.
fn seconds(civil: Civil) -> i64 {
    // Days since 0000-03-01, so that a leap day ends its year and the months need no table.
    let (year, month) = (i64::from(civil.year), i64::from(civil.month));
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + i64::from(civil.day) - 1 - 719_468;
    days * 86_400 + i64::from(civil.hour) * 3600 + i64::from(civil.minute) * 60 + i64::from(civil.second)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn at(day: u8, hour: u8) -> Civil {
        Civil { year: 1970, month: 1, day, hour, minute: 0, second: 0 }
    }

    #[test]
    fn only_what_is_after_in_every_zone_is_after() {
        let (local, unix) = (|day, hour| Moment::Local(at(day, hour)), |hours: i64| Moment::Unix(hours * 3600));
        assert!(
            !after(local(2, 0), local(2, 0)) && after(local(2, 1), local(2, 0)) && !after(local(2, 0), local(2, 1))
        );
        assert!(!after(unix(9), unix(9)) && after(unix(10), unix(9)) && !after(unix(8), unix(9)));
        // Noon of the second day is the 36th hour in UTC, and 14 hours sooner or later at the very most.
        assert!(!after(local(2, 12), unix(22)) && after(local(2, 12), unix(21)) && !after(local(2, 12), unix(90)));
        assert!(!after(unix(50), local(2, 12)) && after(unix(51), local(2, 12)) && !after(unix(0), local(2, 12)));
    }

    fn read(text: &str, end_of_day: bool) -> Moment {
        moment(DeValue::parse(text).unwrap().get_ref(), end_of_day).unwrap()
    }

    #[test]
    fn offsets_become_seconds_since_the_epoch() {
        for (text, unix) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2027-02-15T10:00:00+02:00", 1_802_678_400),
            ("2027-02-15T10:00:00-00:30", 1_802_687_400),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("1969-12-31T23:59:59Z", -1),
            ("0000-01-01T00:00:00Z", -62_167_219_200),
        ] {
            assert_eq!(read(text, false), Moment::Unix(unix), "{text}");
        }
    }

    #[test]
    fn a_bare_date_is_a_whole_day() {
        let Moment::Local(first) = read("2027-02-15", false) else { panic!() };
        let Moment::Local(last) = read("2027-02-15", true) else { panic!() };
        assert_eq!((first.hour, first.minute, first.second), (0, 0, 0));
        assert_eq!((last.day, last.hour, last.minute, last.second), (15, 23, 59, 59));
        assert!(!after(read("2027-02-15", false), read("2027-02-15", true)));
        assert!(after(read("2027-02-16", false), read("2027-02-15", true)));
    }

    #[test]
    fn across_zones_only_what_is_sure_is_a_fault() {
        assert!(!after(read("2027-02-16T06:00:00", false), read("2027-02-15T20:00:00Z", true)));
        assert!(after(read("2027-02-16T11:00:00", false), read("2027-02-15T20:00:00Z", true)));
        assert!(after(read("2027-02-17T00:00:00Z", false), read("2027-02-15", true)));
    }
}
