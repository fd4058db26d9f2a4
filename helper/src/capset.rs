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
    /// What is executed next is not dumpable, as a setuid program is not: a core would hand over what it has read.
    pub no_core: bool,
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
            no_core: false,
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
            no_core: false,
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
    if target.no_core {
        // exec makes it the effective one again, and takes that for a change of ids (kernel/cred.c, commit_creds).
        // Until then its process opens nothing but the program and what that is interpreted by, both root's.
        identity::set_file_group(other_than(target.gid)).map_err(call("setfsgid"))?;
    }
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

/// A group that nobody is in: nogroup, as the kernel calls what it has no name for.
fn other_than(gid: u32) -> u32 {
    const OVERFLOW: u32 = 65534;
    if gid == OVERFLOW { OVERFLOW - 1 } else { OVERFLOW }
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
    match Held::now()?.differs(target) {
        None => Ok(()),
        Some(what) => Err(Error::NotAsGranted(format!("{what} differ"))),
    }
}

/// What this process is, as the kernel says.
#[derive(Debug, Clone)]
struct Held {
    sets: capability::Sets,
    /// The capabilities that this kernel has.
    known: u64,
    bounding: u64,
    ambient: u64,
    securebits: u32,
    no_new_privs: bool,
    /// Real, effective, saved.
    uids: [u32; 3],
    gids: [u32; 3],
    groups: Vec<u32>,
}

impl Held {
    fn now() -> Result<Self, Error> {
        let (mut known, mut bounding, mut ambient) = (0, 0, 0);
        for number in 0..64 {
            let bounded = match capability::in_bounding(number) {
                Err(Errno::EINVAL) => break, // the kernel has no more
                bounded => bounded.map_err(call("read the bounding set"))?,
            };
            known |= 1u64 << number;
            bounding |= u64::from(bounded) << number;
            ambient |= u64::from(capability::in_ambient(number).map_err(call("read the ambient set"))?) << number;
        }
        let uids = nix::unistd::getresuid().map_err(call("getresuid"))?;
        let gids = nix::unistd::getresgid().map_err(call("getresgid"))?;
        Ok(Self {
            sets: capability::get().map_err(call("capget"))?,
            known,
            bounding,
            ambient,
            securebits: capability::securebits().map_err(call("read securebits"))? & 0xff,
            no_new_privs: capability::no_new_privs().map_err(call("read no_new_privs"))?,
            uids: [uids.real, uids.effective, uids.saved].map(|id| id.as_raw()),
            gids: [gids.real, gids.effective, gids.saved].map(|id| id.as_raw()),
            groups: nix::unistd::getgroups().map_err(call("getgroups"))?.iter().map(|g| g.as_raw()).collect(),
        })
    }

    /// Whether it has these capabilities and can have no others.
    fn is_reduced_to(&self, sets: capability::Sets) -> bool {
        (self.sets, self.ambient, self.no_new_privs) == (sets, 0, true) && self.bounding == sets.permitted & self.known
    }

    /// The first thing in which this is not the target.
    fn differs(&self, target: &Target) -> Option<&'static str> {
        let sorted = |groups: &[u32]| {
            let mut groups = groups.to_vec();
            groups.sort_unstable();
            groups
        };
        let permitted = target.permitted.bits();
        let as_wanted = [
            ("permitted capabilities", self.sets.permitted == permitted),
            ("effective capabilities", self.sets.effective == permitted),
            ("inheritable capabilities", self.sets.inheritable == target.inheritable.bits()),
            ("bounding capabilities", target.bounding.is_none_or(|set| self.bounding == set.bits() & self.known)),
            ("ambient capabilities", self.ambient == target.ambient.bits() & self.known),
            ("securebits", self.securebits == target.securebits),
            ("no_new_privs flags", self.no_new_privs == target.no_new_privs),
            ("user ids", self.uids == [target.uid; 3]),
            ("group ids", self.gids == [target.gid; 3]),
            ("supplementary groups", target.groups.as_ref().is_none_or(|g| sorted(g) == sorted(&self.groups))),
        ];
        as_wanted.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }
}

/// Gives up every capability but `keep`, for processes of ours that stay.
pub fn reduce_to(keep: CapSet) -> Result<(), Error> {
    capability::clear_ambient().map_err(call("clear the ambient set"))?;
    cut_bounding(keep)?;
    let sets = capability::Sets { effective: keep.bits(), permitted: keep.bits(), inheritable: 0 };
    capability::set(sets).map_err(call("capset"))?;
    capability::set_no_new_privs().map_err(call("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    if Held::now()?.is_reduced_to(sets) {
        Ok(())
    } else {
        Err(Error::NotAsGranted("a process of ours kept capabilities".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> (Target, Held) {
        let caps = CapSet::from_bits(1 << 12 | 1 << 40);
        let target = Target { groups: Some(vec![27, 100]), ..Target::ambient(1001, 100, caps) };
        let bits = caps.bits();
        let held = Held {
            sets: capability::Sets { effective: bits, permitted: bits, inheritable: bits },
            known: (1 << 41) - 1,
            bounding: bits,
            ambient: bits,
            securebits: target.securebits,
            no_new_privs: true,
            uids: [1001; 3],
            gids: [100; 3],
            groups: vec![100, 27],
        };
        (target, held)
    }

    #[test]
    fn the_securebits_of_an_ambient_session_are_those_of_the_manual() {
        // capabilities(7), linux/securebits.h: NOROOT and its lock, NO_CAP_AMBIENT_RAISE and its lock.
        assert_eq!(target().0.securebits, 1 | 2 | 64 | 128);
        assert_eq!(Target::namespace_root(CapSet::EMPTY).securebits, 0);
    }

    #[test]
    fn whatever_is_not_as_granted_is_named() {
        let (wanted, as_granted) = target();
        assert_eq!(as_granted.differs(&wanted), None);
        let wrong = |name: &str, change: &dyn Fn(&mut Held)| {
            let mut held = as_granted.clone();
            change(&mut held);
            assert_eq!(held.differs(&wanted), Some(name));
        };
        for bit in [1u64 << 12, 1 << 21, 1 << 40] {
            wrong("permitted capabilities", &|held| held.sets.permitted ^= bit);
            wrong("effective capabilities", &|held| held.sets.effective ^= bit);
            wrong("inheritable capabilities", &|held| held.sets.inheritable ^= bit);
            wrong("bounding capabilities", &|held| held.bounding ^= bit);
            wrong("ambient capabilities", &|held| held.ambient ^= bit);
        }
        for bit in [1, 2, 16, 64, 128] {
            wrong("securebits", &|held| held.securebits ^= bit);
        }
        wrong("no_new_privs flags", &|held| held.no_new_privs = false);
        for which in 0..3 {
            wrong("user ids", &|held| held.uids[which] = 0);
            wrong("group ids", &|held| held.gids[which] = 0);
        }
        wrong("supplementary groups", &|held| held.groups.push(0));
        wrong("supplementary groups", &|held| held.groups.clear());
    }

    #[test]
    fn a_process_of_ours_that_kept_anything_is_not_reduced() {
        let (_, held) = target();
        let kill = capability::Sets { effective: 1 << 5, permitted: 1 << 5, inheritable: 0 };
        let reduced = Held { sets: kill, bounding: 1 << 5, ambient: 0, ..held };
        assert!(reduced.is_reduced_to(kill));
        let wrong = |change: &dyn Fn(&mut Held)| {
            let mut held = reduced.clone();
            change(&mut held);
            assert!(!held.is_reduced_to(kill), "{held:?}");
        };
        for bit in [1u64 << 5, 1 << 21] {
            wrong(&|held| held.sets.permitted ^= bit);
            wrong(&|held| held.sets.effective ^= bit);
            wrong(&|held| held.sets.inheritable ^= bit);
            wrong(&|held| held.bounding ^= bit);
            wrong(&|held| held.ambient ^= bit);
        }
        wrong(&|held| held.no_new_privs = false);
        // A kernel that lacks it has it in no bounding set.
        let lacks = Held { known: 0x1f, bounding: 0, ..reduced };
        assert!(lacks.is_reduced_to(kill));
    }

    #[test]
    fn what_a_target_leaves_as_it_is_may_be_anything() {
        let (wanted, mut held) = target();
        let wanted = Target { groups: None, bounding: None, ..wanted };
        (held.bounding, held.groups) = (u64::MAX, vec![0]);
        assert_eq!(held.differs(&wanted), None);
        // A capability that this kernel lacks cannot be in its bounding set; the permitted set says that it is missing.
        let (wanted, mut held) = target();
        held.known = (1 << 40) - 1;
        (held.bounding, held.ambient) = (1 << 12, 1 << 12);
        assert_eq!(held.differs(&wanted), None);
    }

    #[test]
    fn what_is_read_is_what_the_kernel_says() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let of =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim();
        let set = |name: &str| u64::from_str_radix(of(name), 16).unwrap();
        let last: u32 = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
        let held = Held::now().unwrap();
        assert_eq!(held.known, (1 << (last + 1)) - 1);
        assert_eq!((held.bounding, held.ambient), (set("CapBnd"), set("CapAmb")));
        assert_eq!((held.sets.permitted, held.sets.inheritable), (set("CapPrm"), set("CapInh")));
        assert_eq!(u8::from(held.no_new_privs).to_string(), of("NoNewPrivs"));
        let ids = |ids: [u32; 3]| ids.map(|id| id.to_string()).join("\t");
        assert!(of("Uid").starts_with(&ids(held.uids)) && of("Gid").starts_with(&ids(held.gids)), "{status}");
        // Neither an error nor silence where it is not as granted.
        let other = Target { uid: held.uids[0] + 1, ..Target::ambient(0, held.gids[0], CapSet::EMPTY) };
        assert!(matches!(read_back(&other), Err(Error::NotAsGranted(_))));
    }
}
