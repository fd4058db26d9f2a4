//! What the caller left us: descriptors, signals, timers, limits, umask, environment, and whether the setuid bit
//! worked. Runs before anything else does; after it the helper starts from a known state.

use crate::descriptors;
use crate::error::{Error, call};
use crate::scheduling::Scheduling;
use crate::sys::{self, Errno, process};
use nix::sys::stat::{Mode, umask};
use std::ffi::{CString, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

/// Whether this run has borrowed privilege from its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// The setuid bit worked: the policy rules.
    Setuid,
    /// A build tree: no privilege that the caller lacks.
    None,
}

/// The caller's state, put aside for the command.
#[derive(Debug)]
pub struct Inherited {
    pub argv: Vec<OsString>,
    /// `NAME=value`, as the kernel passed it: the loader has already taken `TMPDIR` and the like out of ours.
    pub environment: Vec<CString>,
    /// Resource, soft, hard.
    pub limits: Vec<(u32, u64, u64)>,
    pub umask: u32,
    /// Signals ignored by the caller on purpose (nohup, a shell's background job).
    pub ignored: Vec<i32>,
    pub power: Power,
    pub scheduling: Scheduling,
    /// The descriptor that `--watch` names, for the watcher alone.
    pub report: Option<OwnedFd>,
}

/// Signals whose being ignored is a wish of the caller's for the command.
const KEPT_IGNORED: [i32; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT];

/// Limits that would break the helper's own work, raised as far as allowed until the command starts.
const OUR_LIMITS: [u32; 9] = [
    libc::RLIMIT_FSIZE,
    libc::RLIMIT_NOFILE,
    libc::RLIMIT_AS,
    libc::RLIMIT_DATA,
    libc::RLIMIT_NPROC,
    libc::RLIMIT_CPU,
    libc::RLIMIT_RTTIME,
    libc::RLIMIT_CORE,
    libc::RLIMIT_STACK,
];

/// As much stack as modules of NSS and PAM are written for: the usual default.
const STACK: u64 = 8 << 20;

/// Takes everything over. Descriptors 0 to 2 were opened by `sys::entry` where the caller had closed them.
pub fn take_over() -> Result<Inherited, Error> {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let power = power()?;
    let ignored = reset_signals();
    process::disarm_timers();
    if power == Power::Setuid {
        sys::capability::set_not_dumpable().map_err(call("prctl(PR_SET_DUMPABLE, 0)"))?;
        default_securebits()?;
    }
    // Nobody but the user waits for a build tree's.
    let scheduling = if power == Power::Setuid { Scheduling::take() } else { Scheduling::default() };
    let limits = take_limits()?;
    let umask = umask(Mode::from_bits_truncate(0o077)).bits();
    let report = descriptors::close_but_report(&argv)?;
    let environment = take_environment();
    Ok(Inherited { argv, environment, limits, umask, ignored, power, scheduling, report })
}

/// The caller's securebits would change what setresuid(2) does to the helper's own capabilities; locked ones refuse.
fn default_securebits() -> Result<(), Error> {
    let bits = sys::capability::securebits().map_err(call("prctl(PR_GET_SECUREBITS)"))?;
    if bits & 0xff == 0 {
        return Ok(());
    }
    // SECBIT_NOROOT: the bits cannot be changed by a setuid program, since that one has no capability.
    let why = match bits & 1 {
        0 => "the securebits of this process are locked, so that the helper could not give up root cleanly",
        _ => "noroot is among the securebits of this process: setuid programs have no power under it",
    };
    sys::capability::set_securebits(bits & !0xff).map_err(|_| Error::Powerless(why))
}

/// Default action for every signal, nothing blocked; says which the caller had ignored on purpose.
fn reset_signals() -> Vec<i32> {
    let ignored = KEPT_IGNORED.into_iter().filter(|s| process::is_ignored(*s)).collect();
    for signal in (1..=64).filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s)) {
        let _ = process::set_ignored(signal, false);
    }
    // Our own writes must not kill us: a closed pipe or a file size limit is an error of write(2).
    let _ = process::set_ignored(libc::SIGPIPE, true);
    let _ = process::set_ignored(libc::SIGXFSZ, true);
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    ignored
}

fn take_limits() -> Result<Vec<(u32, u64, u64)>, Error> {
    let mut kept = Vec::with_capacity(OUR_LIMITS.len());
    for resource in OUR_LIMITS {
        let (soft, hard) = process::limit(resource).map_err(call("prlimit"))?;
        kept.push((resource, soft, hard));
        let wanted = for_our_work(resource, soft, hard);
        if wanted != (soft, hard) && process::set_limit(resource, wanted.0, wanted.1).is_err() && soft != hard {
            // Without CAP_SYS_RESOURCE the hard value is the most; what fails under it fails closed.
            let _ = process::set_limit(resource, hard, hard);
        }
    }
    Ok(kept)
}

/// Soft and hard.
fn for_our_work(resource: u32, soft: u64, hard: u64) -> (u64, u64) {
    match resource {
        libc::RLIMIT_CORE => (0, hard),
        libc::RLIMIT_STACK => (soft.max(STACK.min(hard)), hard),
        libc::RLIMIT_NOFILE if hard >= 256 => (soft.max(256), hard),
        libc::RLIMIT_NOFILE => (256, 256),
        _ => (libc::RLIM64_INFINITY, libc::RLIM64_INFINITY),
    }
}

/// Copies the environment out and empties the process's own.
///
/// `/proc/self/environ` still has what the loader removes from a setuid program's environment (`TMPDIR`,
/// `LD_LIBRARY_PATH`: ld.so(8)): the user's session gets it back, the helper never looks at it but in
/// `rejudge`, which is root's alone.
fn take_environment() -> Vec<CString> {
    let raw = std::fs::read("/proc/self/environ").unwrap_or_default();
    let environment = entries(&raw);
    process::clear_environment();
    environment
}

fn entries(raw: &[u8]) -> Vec<CString> {
    raw.split(|b| *b == 0)
        .filter(|entry| entry.iter().position(|b| *b == b'=').is_some_and(|at| at > 0))
        .filter_map(|entry| CString::new(entry).ok())
        .collect()
}

/// Whether the setuid bit worked; if the file has one and it did not, the cause.
fn power() -> Result<Power, Error> {
    // Root itself borrows nothing, and gets no further than to the sweep: `caller` sends it away.
    if nix::unistd::geteuid().is_root() {
        return Ok(Power::Setuid);
    }
    let file = std::fs::metadata("/proc/self/exe").map_err(|e| io("stat(/proc/self/exe)", &e))?;
    if file.mode() & libc::S_ISUID == 0 {
        let installed = std::fs::read_link("/proc/self/exe").is_ok_and(|p| p.starts_with(crate::LIBEXECDIR));
        return match installed {
            true => Err(Error::Powerless("the helper has lost its setuid bit: root mends it with chmod 4755")),
            false => Ok(Power::None),
        };
    }
    if sys::capability::no_new_privs().unwrap_or(false) {
        let why = "no_new_privs is set on this process (a container, a hardened service, or a session of caplet): \
                   setuid programs have no power under it";
        return Err(Error::Powerless(why));
    }
    let mount = nix::sys::statvfs::statvfs("/proc/self/exe").map_err(call("statvfs(/proc/self/exe)"))?;
    if mount.flags().contains(nix::sys::statvfs::FsFlags::ST_NOSUID) {
        return Err(Error::Powerless(
            "the helper lies on a file system mounted nosuid, so its setuid bit has no power",
        ));
    }
    if file.uid() != 0 {
        return Err(Error::Powerless("the helper does not belong to root here (a user namespace?): it has no power"));
    }
    Err(Error::Powerless("the setuid bit of the helper did not work (is it being traced?)"))
}

/// An I/O error as the kernel call behind it.
pub fn io(name: &str, error: &std::io::Error) -> Error {
    Error::Call { call: name.into(), errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_what_has_a_name() {
        let found = entries(b"A=1\0=no\0none\0B=\0LD_PRELOAD=/x=y\0\0");
        assert_eq!(found, [c"A=1".to_owned(), c"B=".into(), c"LD_PRELOAD=/x=y".into()]);
        assert_eq!(entries(b""), Vec::<CString>::new());
    }

    #[test]
    fn our_limits_are_wide_enough_for_our_work_and_no_core_is_dumped() {
        const ALL: u64 = libc::RLIM64_INFINITY;
        let mib = 1 << 20;
        for (resource, (soft, hard), wanted) in [
            (libc::RLIMIT_CORE, (ALL, ALL), (0, ALL)),
            (libc::RLIMIT_CORE, (0, 0), (0, 0)),
            (libc::RLIMIT_STACK, (mib, ALL), (8 * mib, ALL)),
            (libc::RLIMIT_STACK, (mib, 2 * mib), (2 * mib, 2 * mib)),
            (libc::RLIMIT_STACK, (16 * mib, ALL), (16 * mib, ALL)),
            (libc::RLIMIT_NOFILE, (3, 1024), (256, 1024)),
            (libc::RLIMIT_NOFILE, (1024, 4096), (1024, 4096)),
            (libc::RLIMIT_NOFILE, (3, 256), (256, 256)),
            (libc::RLIMIT_NOFILE, (3, 10), (256, 256)),
            (libc::RLIMIT_CPU, (1, 2), (ALL, ALL)),
            (libc::RLIMIT_RTTIME, (1, 1), (ALL, ALL)),
            (libc::RLIMIT_FSIZE, (0, 0), (ALL, ALL)),
            (libc::RLIMIT_NPROC, (1, 1), (ALL, ALL)),
        ] {
            assert_eq!(for_our_work(resource, soft, hard), wanted, "{resource}: {soft}, {hard}");
        }
    }
}
