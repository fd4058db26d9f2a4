//! The last steps of giving up root: bounding set, ids, the three sets, ambient, securebits, no_new_privs, and
//! reading all of it back. Nothing here starts from the caller's sets: every value comes from the plan.

use crate::error::{Error, call};
use crate::sys::{Errno, capability, identity};
use caplet_policy::capability::CapSet;

const NOROOT: u32 = 1 << 0;
const NOROOT_LOCKED: u32 = 1 << 1;
const KEEP_CAPS: u32 = 1 << 4;
const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
const NO_CAP_AMBIENT_RAISE_LOCKED: u32 = 1 << 7;

/// What the command's process shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Ids as seen in the command's user namespace.
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups to set; `None` where they were set before and cannot be any more (setgroups denied).
    pub groups: Option<Vec<u32>>,
    pub permitted: CapSet,
    pub inheritable: CapSet,
    pub ambient: CapSet,
    /// `None`: left whole.
    pub bounding: Option<CapSet>,
    pub securebits: u32,
    pub no_new_privs: bool,
}

impl Target {
    /// A process that keeps its uid and holds the grant in all five sets, ambient included.
    pub fn ambient(uid: u32, gid: u32, caps: CapSet) -> Self {
        Self {
            uid,
            gid,
            groups: None,
            permitted: caps,
            inheritable: caps,
            ambient: caps,
            bounding: Some(caps),
            // Nothing more can be made ambient, and uid 0, were it reached, would mean no capability.
            securebits: NOROOT | NOROOT_LOCKED | NO_CAP_AMBIENT_RAISE | NO_CAP_AMBIENT_RAISE_LOCKED,
            no_new_privs: true,
        }
    }

    /// uid 0 of a user namespace, as in Docker: inheritable and ambient stay empty (CVE-2022-24769).
    pub fn namespace_root(caps: CapSet) -> Self {
        Self {
            uid: 0,
            gid: 0,
            groups: None,
            permitted: caps,
            inheritable: CapSet::EMPTY,
            ambient: CapSet::EMPTY,
            bounding: Some(caps),
            securebits: 0,
            no_new_privs: true,
        }
    }
}

/// Becomes the target, in the one order that works (facts.md 3.1, rows 3 and 4), then checks every value.
pub fn become_target(target: &Target) -> Result<(), Error> {
    if let Some(bounding) = target.bounding {
        cut_bounding(bounding)?;
    }
    capability::clear_ambient().map_err(call("clear the ambient set"))?;
    // Known securebits start from nothing; KEEP_CAPS carries the permitted set over setresuid.
    capability::set_securebits(KEEP_CAPS).map_err(call("prctl(PR_SET_SECUREBITS, KEEP_CAPS)"))?;
    if let Some(groups) = &target.groups {
        identity::set_supplementary_groups(groups).map_err(call("setgroups"))?;
    }
    identity::set_group(target.gid).map_err(call("setresgid"))?;
    identity::set_user(target.uid).map_err(call("setresuid"))?;
    if target.no_new_privs {
        capability::set_no_new_privs().map_err(call("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    }
    let sets = |permitted: CapSet, inheritable: CapSet| capability::Sets {
        effective: permitted.bits(),
        permitted: permitted.bits(),
        inheritable: inheritable.bits(),
    };
    // SETPCAP once more, for the securebits; the grant alone is what stays after it.
    let setpcap = CapSet::from_bits(1 << 8);
    capability::set(sets(target.permitted.union(setpcap), target.inheritable)).map_err(call("capset"))?;
    for cap in target.ambient.iter() {
        capability::raise_ambient(cap.number()).map_err(call("raise the ambient set"))?;
    }
    capability::set_securebits(target.securebits).map_err(call("prctl(PR_SET_SECUREBITS)"))?;
    capability::set(sets(target.permitted, target.inheritable)).map_err(call("capset"))?;
    read_back(target)
}

/// Drops everything from the bounding set that is not in `keep`, capabilities that this program does not know
/// included: the loop ends where the kernel says EINVAL.
fn cut_bounding(keep: CapSet) -> Result<(), Error> {
    for number in 0..64 {
        if keep.bits() & (1 << number) != 0 {
            continue;
        }
        match capability::drop_bounding(number) {
            Ok(()) => {}
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(call("cut the bounding set")(errno)),
        }
    }
    Ok(())
}

/// The kernel's word on all that was set; capset(2) drops unknown bits without an error.
fn read_back(target: &Target) -> Result<(), Error> {
    let differs = |what: &str| Err(Error::NotAsGranted(what.into()));
    let sets = capability::get().map_err(call("capget"))?;
    if sets.permitted != target.permitted.bits() || sets.effective != target.permitted.bits() {
        return differs("permitted and effective capabilities differ");
    }
    if sets.inheritable != target.inheritable.bits() {
        return differs("inheritable capabilities differ");
    }
    for number in 0..64 {
        let bounded = match capability::in_bounding(number) {
            Err(Errno::EINVAL) => break, // the kernel has no more
            bounded => bounded.map_err(call("read the bounding set"))?,
        };
        let wanted = 1u64 << number;
        if target.bounding.is_some_and(|set| bounded != (set.bits() & wanted != 0)) {
            return differs("the bounding set differs");
        }
        let ambient = capability::in_ambient(number).map_err(call("read the ambient set"))?;
        if ambient != (target.ambient.bits() & wanted != 0) {
            return differs("the ambient set differs");
        }
    }
    if capability::securebits().map_err(call("read securebits"))? & 0xff != target.securebits {
        return differs("securebits differ");
    }
    if capability::no_new_privs().map_err(call("read no_new_privs"))? != target.no_new_privs {
        return differs("no_new_privs differs");
    }
    let (uids, gids) = (nix::unistd::getresuid(), nix::unistd::getresgid());
    let (uids, gids) = (uids.map_err(call("getresuid"))?, gids.map_err(call("getresgid"))?);
    if [uids.real, uids.effective, uids.saved].iter().any(|id| id.as_raw() != target.uid) {
        return differs("user ids differ");
    }
    if [gids.real, gids.effective, gids.saved].iter().any(|id| id.as_raw() != target.gid) {
        return differs("group ids differ");
    }
    if let Some(wanted) = &target.groups {
        let mut wanted = wanted.clone();
        let mut held: Vec<u32> =
            nix::unistd::getgroups().map_err(call("getgroups"))?.iter().map(|g| g.as_raw()).collect();
        wanted.sort_unstable();
        held.sort_unstable();
        if held != wanted {
            return differs("supplementary groups differ");
        }
    }
    Ok(())
}

/// Gives up every capability but `keep`, for processes of ours that stay.
pub fn reduce_to(keep: CapSet) -> Result<(), Error> {
    capability::clear_ambient().map_err(call("clear the ambient set"))?;
    cut_bounding(keep)?;
    let sets = capability::Sets { effective: keep.bits(), permitted: keep.bits(), inheritable: 0 };
    capability::set(sets).map_err(call("capset"))?;
    capability::set_no_new_privs().map_err(call("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    if capability::get().map_err(call("capget"))? == sets {
        Ok(())
    } else {
        Err(Error::NotAsGranted("a process of ours kept capabilities".into()))
    }
}
