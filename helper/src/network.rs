//! The network of a session of its own: loopback up, and two sysctls opened, as Docker does (facts.md, part 3, 3).

use crate::error::{Error, call};
use crate::sys::{Errno, process};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::os::fd::OwnedFd;

/// `ping` without a capability, and ports below 1024 without one: the network is the session's alone. Written from
/// outside: the group range names ids that are not mapped inside.
const SYSCTLS: [(&str, &str); 2] =
    [("ipv4/ping_group_range", "0 2147483647"), ("ipv4/ip_unprivileged_port_start", "0")];

/// Prepares the network namespace that this process is in. `proc` is a `/proc`; its `sys/net` is the caller's.
pub fn prepare(proc: &OwnedFd, power_is_real: bool) -> Result<(), Error> {
    process::loopback_up().map_err(call("bring lo up"))?;
    for (name, value) in SYSCTLS {
        let path = format!("sys/net/{name}");
        let file = match openat(proc, path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(Errno::ENOENT) => continue, // a kernel without IPv4 has no pings to allow
            opened => opened.map_err(call(format!("open /proc/{path}")))?,
        };
        match nix::unistd::write(&file, value.as_bytes()) {
            Ok(_) => {}
            // In a user namespace of the user's own (no installation) the range cannot be mapped: ping needs NET_RAW.
            Err(Errno::EINVAL | Errno::EPERM) if name.ends_with("range") && !power_is_real => {}
            Err(errno) => return Err(call(format!("write {value} to /proc/{path}"))(errno)),
        }
    }
    Ok(())
}
