//! Resource limits: the caller's are restored, the profile's put over them. Raised while there is real power to
//! raise, lowered last.

use crate::error::{Error, call};
use crate::sys::process;
use caplet_policy::document::Limit;

/// setrlimit(2)'s number for a name of limits.conf(5).
fn resource(name: &str) -> Option<u32> {
    Some(match name {
        "core" => libc::RLIMIT_CORE,
        "data" => libc::RLIMIT_DATA,
        "fsize" => libc::RLIMIT_FSIZE,
        "memlock" => libc::RLIMIT_MEMLOCK,
        "nofile" => libc::RLIMIT_NOFILE,
        "rss" => libc::RLIMIT_RSS,
        "stack" => libc::RLIMIT_STACK,
        "cpu" => libc::RLIMIT_CPU,
        "nproc" => libc::RLIMIT_NPROC,
        "as" => libc::RLIMIT_AS,
        "locks" => libc::RLIMIT_LOCKS,
        "sigpending" => libc::RLIMIT_SIGPENDING,
        "msgqueue" => libc::RLIMIT_MSGQUEUE,
        "nice" => libc::RLIMIT_NICE,
        "rtprio" => libc::RLIMIT_RTPRIO,
        "rttime" => libc::RLIMIT_RTTIME,
        _ => return None,
    })
}

/// What the command's limits shall be: resource, soft, hard.
#[derive(Debug, Clone, Default)]
pub struct Limits(Vec<(u32, u64, u64)>);

impl Limits {
    /// The caller's own, with the profile's over them.
    pub fn of(inherited: &[(u32, u64, u64)], profile: &[Limit]) -> Result<Self, Error> {
        let mut limits = inherited.to_vec();
        for limit in profile {
            let number = resource(limit.name)
                .ok_or_else(|| Error::Unsupported(format!("limit \"{}\" is unknown to this kernel", limit.name)))?;
            limits.retain(|(r, _, _)| *r != number);
            limits.push((number, limit.soft, limit.hard));
        }
        Ok(Self(limits))
    }

    /// Lifts the hard values that lie above ours, with CAP_SYS_RESOURCE of the machine.
    pub fn raise(&self) -> Result<(), Error> {
        for (resource, soft, hard) in &self.0 {
            let (now, ceiling) = process::limit(*resource).map_err(call("prlimit"))?;
            if *hard > ceiling {
                let failed = call(format!("raise limit {resource} to {hard} (CAP_SYS_RESOURCE is missing?)"));
                process::set_limit(*resource, now.max(*soft), *hard).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Sets all of them exactly.
    pub fn set(&self) -> Result<(), Error> {
        for (resource, soft, hard) in &self.0 {
            process::set_limit(*resource, *soft, *hard).map_err(call(format!("set limit {resource}")))?;
        }
        Ok(())
    }
}
