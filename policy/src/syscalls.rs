//! The system calls that are off in an isolated session unless its grant stands for them. Data alone: the helper makes
//! a filter of it, pages and answers are made of it.
//!
//! A session is a login shell, not a container: what a plain user has on the machine stays, where no row says why not.
//! So ptrace(2), keyctl(2) (Kerberos keeps its tickets there), perf_event_open(2), syslog(2), fanotify_init(2),
//! quotactl(2), personality(2) (gdb) and the NUMA calls are on, as far as the machine's own switches let a user.

use crate::capability::{CapSet, Capability};

/// When a call is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// If its first argument has one of these bits.
    AnyBit(u32),
    /// If its first argument lacks this bit.
    NoBit(u32),
    /// If its first argument, an int, is one of these.
    OneOf([u32; 2]),
}

/// What the caller of a call that is off gets: the errno that a kernel without it, or without the right to it, gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// EPERM.
    NotPermitted,
    /// ENOSYS: libraries then fall back.
    NoSuchCall,
    /// EAFNOSUPPORT.
    NoSuchFamily,
}

/// One system call that is off.
#[derive(Debug)]
pub struct Gate {
    /// Its name, of section 2.
    pub call: &'static str,
    /// When it is off.
    pub when: When,
    /// What its caller gets.
    pub answer: Answer,
    /// Each of these in the grant turns it on.
    pub opened_by: CapSet,
    /// Whether `nested_userns` turns it on.
    pub nested: bool,
}

impl Gate {
    /// Whether it is on in a session with these capabilities.
    pub fn is_open(&self, caps: CapSet, nested_userns: bool) -> bool {
        !self.opened_by.intersection(caps).is_empty() || (self.nested && nested_userns)
    }
}

/// The names of the calls that a capability turns on, in the table's order.
pub fn opened_by(cap: Capability) -> impl Iterator<Item = &'static str> {
    GATES.iter().filter(move |gate| gate.opened_by.contains(cap)).map(|gate| gate.call)
}

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET of `linux/sched.h`.
const NEW_NAMESPACE: u32 = 0x7e02_0000;
/// CLONE_NEWTIME: in clone(2) these bits are the signal's.
const NEW_TIME: u32 = 0x80;
/// UFFD_USER_MODE_ONLY of `linux/userfaultfd.h`.
const USER_MODE_ONLY: u32 = 1;
/// AF_ALG and AF_VSOCK.
const ALG_AND_VSOCK: [u32; 2] = [38, 40];
/// SYS_SOCKET of `linux/net.h`.
const OF_SOCKETCALL: [u32; 2] = [1, 1];

// linux/capability.h
const NOBODY: CapSet = CapSet::EMPTY;
const DAC_READ_SEARCH: CapSet = CapSet::from_bits(1 << 2);
const SYS_MODULE: CapSet = CapSet::from_bits(1 << 16);
const SYS_RAWIO: CapSet = CapSet::from_bits(1 << 17);
const SYS_PTRACE: CapSet = CapSet::from_bits(1 << 19);
const SYS_PACCT: CapSet = CapSet::from_bits(1 << 20);
const SYS_ADMIN: CapSet = CapSet::from_bits(1 << 21);
const SYS_BOOT: CapSet = CapSet::from_bits(1 << 22);
const SYS_TIME: CapSet = CapSet::from_bits(1 << 25);
const BPF: CapSet = CapSet::from_bits(1 << 39).union(SYS_ADMIN);
const CHECKPOINT_RESTORE: CapSet = CapSet::from_bits(1 << 40).union(SYS_ADMIN);

const fn gate(call: &'static str, answer: Answer, opened_by: CapSet) -> Gate {
    Gate { call, when: When::Always, answer, opened_by, nested: false }
}

/// The kernel checks SYS_ADMIN of a namespace; whoever makes a user namespace has it there.
const fn of_namespaces(call: &'static str) -> Gate {
    Gate { nested: true, ..gate(call, Answer::NotPermitted, SYS_ADMIN) }
}

use Answer::{NoSuchCall, NoSuchFamily, NotPermitted};

/// Every gate.
#[rustfmt::skip]
pub const GATES: [Gate; 41] = [
    // New namespaces, and mounts: a user needs a user namespace for them, and there is none (user_namespaces(7)). Behind
    // them lie most ways from a user to root of the last ten years: CVE-2022-0185, CVE-2023-32233, CVE-2024-1086.
    Gate { when: When::AnyBit(NEW_NAMESPACE | NEW_TIME), ..of_namespaces("unshare") },
    Gate { when: When::AnyBit(NEW_NAMESPACE), ..of_namespaces("clone") },
    // Its flags lie behind a pointer, where no filter can look; C libraries fall back to clone. To choose a pid there
    // is no other call.
    Gate { nested: true, ..gate("clone3", NoSuchCall, CHECKPOINT_RESTORE) },
    of_namespaces("setns"),
    of_namespaces("mount"),
    of_namespaces("umount2"),
    of_namespaces("pivot_root"),
    of_namespaces("move_mount"),
    of_namespaces("open_tree"),
    of_namespaces("open_tree_attr"),
    of_namespaces("fsopen"),
    of_namespaces("fsconfig"),
    of_namespaces("fsmount"),
    of_namespaces("fspick"),
    of_namespaces("mount_setattr"),
    // What the machine's root alone has a use for.
    gate("init_module", NotPermitted, SYS_MODULE),
    gate("finit_module", NotPermitted, SYS_MODULE),
    gate("delete_module", NotPermitted, SYS_MODULE),
    gate("kexec_load", NotPermitted, NOBODY),
    gate("kexec_file_load", NotPermitted, NOBODY),
    gate("swapon", NotPermitted, NOBODY),
    gate("swapoff", NotPermitted, NOBODY),
    gate("reboot", NotPermitted, SYS_BOOT),
    gate("acct", NotPermitted, SYS_PACCT),
    gate("iopl", NotPermitted, SYS_RAWIO),
    gate("ioperm", NotPermitted, SYS_RAWIO),
    gate("settimeofday", NotPermitted, SYS_TIME),
    gate("stime", NotPermitted, SYS_TIME),
    gate("clock_settime", NotPermitted, SYS_TIME),
    // Opens a file by its number, past every folder above it: the way out of the first containers (2014).
    gate("open_by_handle_at", NotPermitted, DAC_READ_SEARCH),
    // The verifier: CVE-2020-8835, CVE-2021-3490, CVE-2022-23222. Where the machine lets users load programs
    // (kernel.unprivileged_bpf_disabled = 0), a session does not.
    gate("bpf", NotPermitted, BPF),
    // A page fault inside the kernel that a user holds up wins every race. Without USER_MODE_ONLY the kernel asks
    // for SYS_PTRACE, or root has switched that off (vm.unprivileged_userfaultfd = 1).
    Gate { when: When::NoBit(USER_MODE_ONLY), ..gate("userfaultfd", NotPermitted, SYS_PTRACE) },
    // Does other calls' work where no filter sees it, and three of five exploits in Google's kCTF of 2022 went through
    // it. Libraries take ENOSYS for an older kernel (io_uring_setup(2): 5.1) and use what was before.
    gate("io_uring_setup", NoSuchCall, NOBODY),
    gate("io_uring_enter", NoSuchCall, NOBODY),
    gate("io_uring_register", NoSuchCall, NOBODY),
    // Not in current kernels, and holes in those that have them (CVE-2004-1235).
    gate("lookup_dcookie", NoSuchCall, NOBODY),
    gate("uselib", NoSuchCall, NOBODY),
    // The kernel's ciphers: programs have their own. And the machine's hypervisor, which no network namespace holds
    // back: CVE-2021-26708, CVE-2024-50264.
    Gate { when: When::OneOf(ALG_AND_VSOCK), ..gate("socket", NoSuchFamily, NOBODY) },
    // i386 alone; the family lies behind a pointer. Its C library uses socket(2) since 2016 (glibc 2.23).
    Gate { when: When::OneOf(OF_SOCKETCALL), ..gate("socketcall", NoSuchCall, NOBODY) },
    // Other names of the same in old tables.
    of_namespaces("umount"),
    gate("clock_settime64", NotPermitted, SYS_TIME),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_off_without_a_grant_and_each_capability_opens_its_own() {
        assert!(GATES.iter().all(|gate| !gate.is_open(CapSet::EMPTY, false)));
        let opens = |name: &str| opened_by(Capability::parse(name).unwrap()).collect::<Vec<_>>().join(" ");
        assert_eq!(opens("SYS_MODULE"), "init_module finit_module delete_module");
        assert_eq!(opens("SYS_TIME"), "settimeofday stime clock_settime clock_settime64");
        assert_eq!(opens("BPF"), "bpf");
        assert_eq!(opens("CHECKPOINT_RESTORE"), "clone3");
        assert_eq!(opens("NET_ADMIN"), "");
        assert!(opens("SYS_ADMIN").starts_with("unshare clone clone3 setns mount"));
        // moby tests this one too: SYS_ADMIN alone does not open it
        assert!(!opens("SYS_ADMIN").contains("acct"));
    }

    #[test]
    fn what_nothing_stands_for_stays_off_also_under_all() {
        let shut = GATES.iter().filter(|gate| !gate.is_open(CapSet::KNOWN, true)).map(|gate| gate.call);
        assert_eq!(
            shut.collect::<Vec<_>>().join(" "),
            "kexec_load kexec_file_load swapon swapoff io_uring_setup io_uring_enter io_uring_register \
             lookup_dcookie uselib socket socketcall"
        );
    }

    #[test]
    fn nested_namespaces_open_what_makes_namespaces_and_mounts_alone() {
        let open = GATES.iter().filter(|gate| gate.is_open(CapSet::EMPTY, true));
        assert!(open.clone().all(|gate| gate.opened_by.contains_all(SYS_ADMIN)));
        assert_eq!(open.count(), 16);
    }

    #[test]
    fn no_call_is_named_twice() {
        for (n, gate) in GATES.iter().enumerate() {
            assert!(!GATES[..n].iter().any(|other| other.call == gate.call), "{}", gate.call);
        }
    }
}
