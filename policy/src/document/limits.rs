//! `limits`: limits.conf(5)'s names and units into setrlimit(2)'s. No limit is set in here.

use super::faults::{Complaint, quoted};
use super::{LIMIT_NAMES, Limit};

/// The name as [`Limit::name`] holds it.
pub(super) fn name(text: &str) -> Result<&'static str, Complaint> {
    if let Some(name) = LIMIT_NAMES.into_iter().find(|name| *name == text) {
        return Ok(name);
    }
    let complaint = Complaint::new(format!("unknown limit {}", quoted(text)));
    Err(match text {
        "maxlogins" | "maxsyslogins" => complaint.help("max_sessions of the profile counts sessions"),
        _ => complaint.near(text, LIMIT_NAMES),
    })
}

/// A value of the file: an integer, or `"soft:hard"`, or one value for both.
pub(super) fn limit(name: &'static str, text: &str) -> Result<Limit, Complaint> {
    let (soft_text, hard_text) = text.split_once(':').unwrap_or((text, text));
    let (soft, hard) = (amount(name, soft_text)?, amount(name, hard_text)?);
    if soft > hard {
        return Err(Complaint::new(format!("the soft limit {soft_text} is above the hard one, {hard_text}")));
    }
    Ok(Limit { name, soft, hard })
}

fn amount(name: &str, text: &str) -> Result<u64, Complaint> {
    let wrong = || Complaint::new(format!("{} is no value for {name}", quoted(text)));
    // i64::from_str takes "+5", limits.conf(5) does not speak of it
    let number = text.parse::<i64>().ok().filter(|_| !text.starts_with('+'));
    if name == "nice" {
        // RLIMIT_NICE is 20 - nice (getrlimit(2)): a higher limit is a lower nice value
        let limit = number.and_then(|n| u64::try_from(20 - n.clamp(-21, 21)).ok());
        return limit.filter(|limit| (1..=40).contains(limit)).ok_or_else(|| wrong().help("a nice value, -20 to 19"));
    }
    let unit = match name {
        "core" | "data" | "fsize" | "memlock" | "rss" | "stack" | "as" => 1024,
        "cpu" => 60,
        _ => 1,
    };
    match number {
        _ if text == "unlimited" => Ok(u64::MAX),
        Some(-1) => Ok(u64::MAX),
        Some(number) => u64::try_from(number)
            .ok()
            .and_then(|number| number.checked_mul(unit))
            .ok_or_else(|| wrong().help("a number from 0, or \"unlimited\"")),
        None => Err(wrong().help("a number, \"unlimited\", or \"soft:hard\"")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn limits_conf_units_become_the_kernels() {
        let limit = |name, text| limit(name, text).map(|l| (l.soft, l.hard)).ok();
        assert_eq!(limit("as", "1024"), Some((1 << 20, 1 << 20)));
        assert_eq!(limit("cpu", "1:10"), Some((60, 600)));
        assert_eq!(limit("nofile", "1024:unlimited"), Some((1024, u64::MAX)));
        assert_eq!(limit("nproc", "-1"), Some((u64::MAX, u64::MAX)));
        assert_eq!(limit("nice", "-20"), Some((40, 40)));
        assert_eq!(limit("nice", "19:-1"), Some((1, 21)));
        assert_eq!(limit("rtprio", "0"), Some((0, 0)));
        assert_eq!(limit("as", "9223372036854775807"), None);
        for text in ["", ":", "1:", ":1", "1:2:3", "+1", " 1", "1k", "-2", "0x10", "2:1", "unlimited:1"] {
            assert_eq!(limit("nofile", text), None, "{text:?}");
        }
        for text in ["20", "-21", "unlimited", "-1:0", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(limit("nice", text), None, "{text:?}");
        }
    }
}
