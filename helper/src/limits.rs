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

/// What the command's limits shall be: resource, soft, hard; and which of them the profile says.
#[derive(Debug, Clone, Default)]
pub struct Limits(Vec<(u32, u64, u64)>, Vec<u32>);

impl Limits {
    /// The caller's own, with the profile's over them. `no_core`: no core, unless the profile says otherwise.
    pub fn of(inherited: &[(u32, u64, u64)], profile: &[Limit], no_core: bool) -> Result<Self, Error> {
        let (mut limits, mut fixed) = (inherited.to_vec(), Vec::new());
        for limit in profile {
            let number = resource(limit.name)
                .ok_or_else(|| Error::Unsupported(format!("limit \"{}\" is unknown to this kernel", limit.name)))?;
            limits.retain(|(r, _, _)| *r != number);
            limits.push((number, limit.soft, limit.hard));
            fixed.push(number);
        }
        if no_core && !fixed.contains(&libc::RLIMIT_CORE) {
            let core = limits.iter_mut().find(|(resource, ..)| *resource == libc::RLIMIT_CORE);
            // With just one byte a program in core_pattern is not started either (kernel: fs/coredump.c).
            core.into_iter().for_each(|(_, soft, hard)| (*soft, *hard) = (1.min(*hard), 1.min(*hard)));
            fixed.push(libc::RLIMIT_CORE);
        }
        Ok(Self(limits, fixed))
    }

    /// Takes one over that a session module of PAM has set, unless the profile says another.
    pub fn take_over(&mut self, resource: u32, is_hard: bool, value: u64) -> Result<(), Error> {
        if self.1.contains(&resource) {
            return Ok(());
        }
        let (mut soft, mut hard) = match self.0.iter().position(|(r, _, _)| *r == resource) {
            Some(at) => {
                let (_, soft, hard) = self.0.swap_remove(at);
                (soft, hard)
            }
            None => process::limit(resource).map_err(call("prlimit"))?,
        };
        *(if is_hard { &mut hard } else { &mut soft }) = value;
        self.0.push((resource, soft.min(hard), hard));
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use caplet_policy::document::LIMIT_NAMES;

    #[test]
    fn every_name_of_limits_conf_is_the_kernels_number() {
        // asm-generic/resource.h, as x86_64 and aarch64 have it.
        let names =
            "cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio rttime";
        for (number, name) in (0u32..).zip(names.split(' ')) {
            assert_eq!(resource(name), Some(number), "{name}");
        }
        assert!(LIMIT_NAMES.iter().all(|name| resource(name).is_some()), "whatever a policy may say");
        assert_eq!(resource("maxlogins"), None);
    }

    #[test]
    fn the_profiles_word_stands_over_the_callers_and_over_pams() {
        let profile = [Limit { name: "nproc", soft: 10, hard: 20 }];
        let inherited = [(libc::RLIMIT_CORE, 0, 5), (libc::RLIMIT_NPROC, 100, 200)];
        let mut limits = Limits::of(&inherited, &profile, false).unwrap();
        assert_eq!(limits.0, [(libc::RLIMIT_CORE, 0, 5), (libc::RLIMIT_NPROC, 10, 20)]);
        limits.take_over(libc::RLIMIT_NPROC, true, 1000).unwrap();
        limits.take_over(libc::RLIMIT_CORE, true, 7).unwrap();
        limits.take_over(libc::RLIMIT_CORE, false, 9).unwrap();
        assert_eq!(
            limits.0,
            [(libc::RLIMIT_NPROC, 10, 20), (libc::RLIMIT_CORE, 7, 7)],
            "no soft one above its hard one"
        );
        let mut none = Limits::of(&inherited, &profile, true).unwrap();
        none.take_over(libc::RLIMIT_CORE, true, 7).unwrap();
        assert_eq!(none.0[0], (libc::RLIMIT_CORE, 1, 1), "nobody lets it dump");
        let said = [Limit { name: "core", soft: 3, hard: 4 }];
        assert_eq!(Limits::of(&inherited, &said, true).unwrap().0[1], (libc::RLIMIT_CORE, 3, 4), "but the policy");
        assert_eq!(Limits::of(&[(libc::RLIMIT_CORE, 0, 0)], &[], true).unwrap().0, [(libc::RLIMIT_CORE, 0, 0)]);
        assert!(Limits::of(&[], &[Limit { name: "nonsense", soft: 0, hard: 0 }], false).is_err());
    }
}
