//! Amounts: sizes in bytes, shares of a processor, and the table `cgroup` that is made of them. No limit is set in here.

use super::faults::{Complaint, quoted};

/// The keys of `cgroup`.
pub const CGROUP_KEYS: [&str; 3] = ["tasks", "memory", "cpu"];

/// Fewer cannot start a session: PID 1, the command, and who makes them.
pub(super) const LEAST_TASKS: u32 = 4;
/// PID_MAX_LIMIT of `linux/threads.h`: the kernel takes no more for pids.max.
pub(super) const MOST_TASKS: u32 = 4_194_304;
/// With less the kernel kills a session while it starts.
const LEAST_MEMORY: u64 = 8 << 20;
/// An inode and a page of it each are the least that a file needs.
const LEAST_FILES: u64 = 64 << 10;

/// `"512M"`: bytes, or K, M, G, T of 1024 each; not below `least`.
fn size(text: &str, least: u64) -> Result<u64, Complaint> {
    let wrong = || Complaint::new(format!("{} is no size", quoted(text)));
    let help = "a number of bytes, or one with K, M, G or T: \"512M\"";
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong().help(help)),
    };
    // The kernel's own numbers are signed.
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)).filter(|n| *n <= i64::MAX as u64);
    match bytes {
        None => Err(wrong().help(help)),
        Some(bytes) if bytes < least => Err(wrong().help(format!("at least {}K", least >> 10))),
        Some(bytes) => Ok(bytes),
    }
}

/// `memory` of `cgroup`.
pub(super) fn memory(text: &str) -> Result<u64, Complaint> {
    size(text, LEAST_MEMORY)
}

/// `tmp_size`.
pub(super) fn files(text: &str) -> Result<u64, Complaint> {
    size(text, LEAST_FILES)
}

/// `"150%"`: of one processor, as systemd's CPUQuota=.
pub(super) fn percent(text: &str) -> Result<u32, Complaint> {
    let wrong = || Complaint::new(format!("{} is no share of a processor", quoted(text)));
    let plain = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()) && !digits.is_empty();
    match text.strip_suffix('%').filter(|digits| plain(digits)).and_then(|digits| digits.parse::<u32>().ok()) {
        Some(percent @ 1..=1_000_000) => Ok(percent),
        _ => Err(wrong().help("a whole percentage of one processor: \"50%\", or \"150%\" for one and a half")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_with_a_unit_or_none() {
        for (text, bytes) in
            [("8388608", 8 << 20), ("8192K", 8 << 20), ("512M", 512 << 20), ("2G", 2 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(memory(text).ok(), Some(bytes), "{text}");
        }
        for text in
            ["", "K", "-1", "+9G", "1.5G", "1 G", "1g", "1GB", "1GiB", "0", "8191K", "99999999999999999999", "8388608T"]
        {
            assert_eq!(memory(text).ok(), None, "{text:?}");
        }
        assert_eq!((files("64K").ok(), files("63K").ok()), (Some(64 << 10), None));
    }

    #[test]
    fn a_share_of_a_processor_is_a_percentage() {
        assert_eq!((percent("1%").ok(), percent("50%").ok(), percent("150%").ok()), (Some(1), Some(50), Some(150)));
        for text in ["", "%", "0%", "50", "1.5", "50.5%", "-1%", "+5%", "50 %", "50%%", "1000001%", "99999999999%"] {
            assert_eq!(percent(text).ok(), None, "{text:?}");
        }
    }
}
