//! What `/proc/PID/stat` (proc_pid_stat(5)) says of other processes: parent, state, start.

/// The parent of a process.
pub fn parent(pid: i32) -> Option<i32> {
    i32::try_from(number(&fields(&pid.to_string())?, 1)?).ok()
}

/// The state of a process: R, S, D, ...
pub fn state(pid: i32) -> Option<char> {
    fields(&pid.to_string())?.first()?.chars().next()
}

/// When a process began, in seconds since boot.
pub fn started(pid: i32) -> Option<f64> {
    let ticks = number(&fields(&pid.to_string())?, 19)?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    Some(ticks as f64 / per_second as f64)
}

/// The real user id of a process (proc_pid_status(5)).
pub fn real_uid(pid: i32) -> Option<u32> {
    let status = std::fs::read(format!("/proc/{pid}/status")).ok()?;
    // A name before it has its line ends escaped.
    let status = String::from_utf8_lossy(&status);
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The fields of `/proc/PID/stat` from the state on: the name before them can hold anything (CVE-2017-1000367).
pub fn fields(pid: &str) -> Option<Vec<String>> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace().map(str::to_owned).collect())
}

/// One of them as a number.
pub fn number(fields: &[String], at: usize) -> Option<u64> {
    fields.get(at)?.parse().ok()
}
