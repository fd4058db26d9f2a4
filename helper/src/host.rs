//! Host scope: real capabilities of the machine, ambient, exactly those granted.

use crate::capset;
use crate::cgroup;
use crate::error::{Error, call};
use crate::launch::Start;
use crate::plan::Plan;
use crate::seccomp;
use crate::supervise::guard::Started;
use crate::supervise::wire;
use crate::sys::capability;
use crate::sys::mount::{self, Attributes, NOSUID};
use crate::sys::process::{self, Fork};
use crate::sys::standard_cwd;
use std::os::fd::OwnedFd;

/// Starts the command as a child of the guard, in the caller's process group and session.
pub fn start(plan: Plan, cgroup: Option<&cgroup::Own>) -> Result<Started, Error> {
    plan.limits.raise()?;
    let (ours, theirs) = wire::pair()?;
    plan.scheduling.give_back()?;
    let forked = process::fork();
    if !matches!(forked, Ok(Fork::Child)) {
        plan.scheduling.undo();
    }
    match forked.map_err(call("fork"))? {
        Fork::Child => {
            drop(ours);
            let entered = cgroup.map_or(Ok(()), |own| cgroup::enter(own.entrance()));
            let error = match entered {
                Ok(()) => become_command(plan, &theirs),
                Err(error) => error,
            };
            error.say();
            process::exit_now(error.code())
        }
        Fork::Parent(pid) => {
            let pidfd = process::pidfd_open(pid).map_err(|errno| {
                let _ = process::kill(pid, libc::SIGKILL);
                call("pidfd_open")(errno)
            })?;
            let killer = cgroup.and_then(cgroup::Own::killer);
            Ok(Started { pid, pidfd, line: ours, session: false, linger: false, killer, outgoing: None })
        }
    }
}

fn become_command(plan: Plan, guard: &OwnedFd) -> Error {
    let Plan { target, mut limits, mut environment, start, ignored, quiet, mut umask, user_keyring, .. } = plan;
    let mut prepare = || {
        process::new_session_keyring().map_err(call("a new session keyring"))?;
        if target.no_new_privs {
            nosuid_everywhere()?;
        }
        seccomp::refuse_terminal_input()?;
        capset::become_target(&target)?;
        // The change of ids may have made it what fs.suid_dumpable says, and descriptors of root's are still open.
        capability::set_not_dumpable().map_err(call("prctl(PR_SET_DUMPABLE)"))?;
        if user_keyring {
            process::link_user_keyring(); // whose it is, the ids say that now are the user's
        }
        wire::wait_for_run(guard, &mut limits, &mut umask, &mut environment)?;
        umask.set();
        Ok(())
    };
    match prepare() {
        Err(error) => error,
        Ok(()) => Start { launch: start, environment, limits, ignored, folders: Vec::new(), quiet }.go(),
    }
}

/// A mount namespace of its own, same peer groups, every mount nosuid: a program with file capabilities then starts
/// as any other and keeps the ambient set (facts.md 3.1, rows 10 and 11).
fn nosuid_everywhere() -> Result<(), Error> {
    process::unshare(libc::CLONE_NEWNS).map_err(call("unshare(CLONE_NEWNS)"))?;
    let attributes = Attributes { set: NOSUID, ..Attributes::default() };
    mount::set_attributes(standard_cwd(), "/", true, attributes).map_err(call("mount_setattr / (nosuid)"))
}
