//! What a refusal means, as data: call, arguments, errno -> the capabilities that the kernel asks for, of whom it asks
//! them, and what else it may be. Written from the kernel's own checks; the source of each stands at its row. Files have
//! a module of their own.

use super::files;
use super::object::{Object, Stat, Who};
use super::table::{RULES, Rule};
use caplet_policy::capability::{CapList, CapSet};
use caplet_policy::syscalls::{Answer, GATES, Gate, When as Off};

pub const EPERM: i32 = libc::EPERM;
pub const EACCES: i32 = libc::EACCES;

/// A call that failed, and what it was about.
#[derive(Debug)]
pub struct Refusal<'a> {
    pub call: &'a str,
    pub args: [u64; 6],
    pub errno: i32,
    pub object: &'a Object,
    pub who: &'a Who,
    /// In a user namespace of the session's.
    pub isolated: bool,
    /// Flags of the mount of the file that it is about.
    pub mount: &'a [String],
    /// net.ipv4.ip_unprivileged_port_start
    pub port_floor: u16,
    /// The file of the program that made the call.
    pub program: Stat,
    /// A filter of the session's stands before the kernel's own checks: `caplet_policy::syscalls`.
    pub filtered: bool,
    /// Of the kernel.
    pub release: (u32, u32),
    /// A few bytes that an argument points to: the sets of capset(2), the credentials of sendmsg(2), `union bpf_attr`.
    pub memory: &'a [u8],
}

/// Whose capability the kernel asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The machine's: `capable()`. An isolated session's own is not it.
    Machine,
    /// That of the namespace: `ns_capable()`. An isolated session's own is enough.
    Session,
    /// That of the network namespace: an isolated session's own is enough where it has a network of its own.
    Network,
    /// That of whoever the object belongs to: the session's for what is in an isolated one, else the machine's. In rows
    /// alone: a verdict says which.
    Others,
}

/// What a refusal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Each is enough, with all that is in it. Empty: no capability helps.
    pub needs: Vec<CapSet>,
    pub reach: Reach,
    /// Whether there is nothing else that it can be.
    pub sure: bool,
    /// The cause, where the capability alone does not say it.
    pub cause: Option<String>,
}

impl Verdict {
    pub fn no_capability(cause: impl Into<String>) -> Self {
        Self { needs: Vec::new(), reach: Reach::Machine, sure: true, cause: Some(cause.into()) }
    }

    pub fn needs(needs: &[&str], reach: Reach) -> Self {
        Self { needs: needs.iter().map(|names| set(names)).collect(), reach, sure: true, cause: None }
    }

    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub fn unsure(mut self) -> Self {
        self.sure = false;
        self
    }
}

/// Names of ours as a set.
fn set(names: &str) -> CapSet {
    let mut list = CapList::default();
    let _ = list.add_text(names);
    list.names
}

/// Whether the session's filter may have this call off.
pub fn gated(call: &str) -> bool {
    GATES.iter().any(|gate| gate.call == call)
}

/// The gate of the session's filter that this call has met: with a capability that opens it, the kernel decides.
fn shut(refusal: &Refusal<'_>) -> Option<&'static Gate> {
    let held = CapSet::from_bits(refusal.who.permitted);
    let first = refusal.args[0] as u32;
    GATES.iter().filter(|gate| refusal.filtered && gate.call == refusal.call && !gate.is_open(held, false)).find(
        |gate| {
            let answer = match gate.answer {
                Answer::NotPermitted => EPERM,
                Answer::NoSuchCall => libc::ENOSYS,
                Answer::NoSuchFamily => libc::EAFNOSUPPORT,
            };
            let off = match gate.when {
                Off::Always => true,
                Off::AnyBit(bits) => first & bits != 0,
                Off::NoBit(bit) => first & bit == 0,
                Off::OneOf(values) => values.contains(&first),
            };
            off && answer == refusal.errno
        },
    )
}

/// Whether it is what programs only try: looks at files, bigger buffers, higher limits for themselves.
pub fn tries(refusal: &Refusal<'_>) -> bool {
    let own = matches!(refusal.object, Object::Process { uid, .. } if *uid == Some(refusal.who.uid));
    match refusal.call {
        "prlimit64" => own,
        "setsockopt" => refusal.args[1] == 1 && [1, 32, 33].contains(&(refusal.args[2] as u32)),
        "setuid" | "setreuid" | "setresuid" => refusal.program.mode & 0o4000 != 0,
        call => {
            ["access", "faccessat", "faccessat2", "stat", "lstat", "newfstatat", "statx", "readlink", "readlinkat"]
                .contains(&call)
                || refusal.errno == libc::ENOSYS
        }
    }
}

/// Whether some row is about this error of this call.
pub fn knows(call: &str, errno: i32) -> bool {
    RULES.iter().any(|rule| rule.errno.contains(&errno) && rule.calls.contains(&call))
}

/// What a refusal means; `None`: it is no refusal, or none for want of a capability.
pub fn judge(refusal: &Refusal<'_>) -> Option<Verdict> {
    if let Some(gate) = shut(refusal) {
        // C libraries fall back to clone(2).
        if gate.call == "clone3" {
            return None;
        }
        if gate.opened_by.is_empty() {
            return Some(Verdict::no_capability(
                "the session's filter of system calls has it off, whatever is held (seccomp = \"none\" in its profile, or \
                 --privileged, leaves the filter out)",
            ));
        }
    }
    special(refusal).or_else(|| {
        let fits = |rule: &&Rule| {
            rule.calls.contains(&refusal.call) && rule.errno.contains(&refusal.errno) && rule.when.fits(refusal)
        };
        let rule = RULES.iter().find(fits)?;
        let needs = rule.needs.iter().map(|names| set(names)).collect();
        let cause = Some(rule.cause.to_owned()).filter(|cause| !cause.is_empty());
        let reach = match (rule.reach, refusal.isolated) {
            (Reach::Others, true) => Reach::Session,
            (Reach::Others, false) => Reach::Machine,
            (reach, _) => reach,
        };
        Some(Verdict { needs, reach, sure: rule.sure, cause })
    })
}

/// Where the object says more than the arguments do.
fn special(refusal: &Refusal<'_>) -> Option<Verdict> {
    match (refusal.call, refusal.errno, refusal.object) {
        ("bind", EACCES, Object::Port(port)) if *port < refusal.port_floor => Some(
            Verdict::needs(&["NET_BIND_SERVICE"], Reach::Network)
                .because(format!("ports below {} are not for everybody", refusal.port_floor)),
        ),
        ("bind", EACCES, Object::Port(_)) => Some(Verdict::no_capability(
            "the port is not below net.ipv4.ip_unprivileged_port_start: a security module (SELinux, AppArmor)?",
        )),
        ("bind", EPERM, Object::Address(16)) => {
            Some(Verdict::needs(&["NET_ADMIN", "AUDIT_READ"], Reach::Network).unsure())
        }
        // net/vmw_vsock/af_vsock.c: LAST_RESERVED_PORT
        ("bind", EACCES, Object::VsockPort(0..=1023)) => {
            Some(Verdict::needs(&["NET_BIND_SERVICE"], Reach::Machine).because("ports below 1024 of AF_VSOCK"))
        }
        ("ptrace", EPERM, Object::Process { pid, .. }) if [16, 0x4206].contains(&(refusal.args[0] as u32)) => {
            Some(attached(refusal, *pid))
        }
        ("capset", EPERM, _) => Some(raised(refusal)),
        ("setgroups", EPERM, _) => Some(groups(refusal)),
        ("setuid" | "setreuid" | "setresuid", EPERM, _) if refusal.program.mode & 0o4000 != 0 => Some(
            Verdict::needs(&["SETUID"], Reach::Session)
                .because("the program counts on its setuid bit, which has no power here")
                .unsure(),
        ),
        // fs/file_attr.c: vfs_fileattr_set asks for the owner first, then for the flags.
        ("ioctl", EPERM, Object::File(file))
            if [0x4008_6602, 0x401c_5820].contains(&(refusal.args[1] as u32))
                && file.stat.is_some_and(|stat| stat.uid != refusal.who.uid) =>
        {
            Some(
                files::owned(refusal, file)
                    .because("the file belongs to somebody else; +i and +a need LINUX_IMMUTABLE, too"),
            )
        }
        ("bpf", EPERM, _) if refusal.args[0] == 5 => Some(program(refusal)),
        ("sendmsg", EPERM, _) => credentials(refusal),
        (_, _, Object::File(file)) => files::judge(refusal, file),
        _ => None,
    }
}

/// kernel/ptrace.c: ptrace_attach. Who is traced is kept from everybody else.
fn attached(refusal: &Refusal<'_>, pid: i32) -> Verdict {
    let reach = if refusal.isolated { Reach::Session } else { Reach::Machine };
    match Who::of(pid).map(|who| (who.tracer, who.uid == refusal.who.uid)) {
        Some((tracer, _)) if tracer == std::process::id() as i32 => {
            Verdict::no_capability("it is being traced already: by caplet why")
        }
        Some((tracer, _)) if tracer != 0 => Verdict::no_capability(format!("process {tracer} traces it already")),
        Some((_, true)) => Verdict::needs(&["SYS_PTRACE"], reach).because(
            "the process holds more than the one that asks (capabilities, or a file that it cannot read), or \
             kernel.yama.ptrace_scope keeps it to its parents",
        ),
        _ => Verdict::needs(&["SYS_PTRACE"], reach),
    }
}

/// kernel/groups.c: may_setgroups, and userns_may_setgroups of kernel/user_namespace.c.
fn groups(refusal: &Refusal<'_>) -> Verdict {
    match std::fs::read_to_string(format!("/proc/{}/setgroups", refusal.who.group)) {
        Ok(text) if text.starts_with("deny") => Verdict::no_capability(
            "a session without group ids of its own keeps its groups, whatever it holds (subids = true in its profile)",
        ),
        _ => Verdict::needs(&["SETGID"], Reach::Session),
    }
}

/// kernel/bpf/syscall.c: bpf_prog_load; is_net_admin_prog_type, is_perfmon_prog_type. SYS_ADMIN stands for all of them.
fn program(refusal: &Refusal<'_>) -> Verdict {
    let kind = refusal.memory.first_chunk().map_or(u32::MAX, |bytes| u32::from_ne_bytes(*bytes));
    let needs: &[&str] = match kind {
        // BPF_PROG_TYPE_EXT: both
        28 => &["BPF,NET_ADMIN,PERFMON", "SYS_ADMIN"],
        3 | 4 | 6 | 9..=16 | 18 | 19 | 22 | 23 | 25 | 32 => &["BPF,NET_ADMIN", "SYS_ADMIN"],
        2 | 5 | 7 | 17 | 24 | 26 | 27 | 29 => &["BPF,PERFMON", "SYS_ADMIN"],
        _ => &["BPF", "SYS_ADMIN"],
    };
    Verdict::needs(needs, Reach::Machine)
}

/// net/core/scm.c: scm_check_creds. `struct ucred`: pid, uid, gid.
fn credentials(refusal: &Refusal<'_>) -> Option<Verdict> {
    let word = |at: usize| refusal.memory.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    let (pid, uid, gid) = (word(0)?, word(4)?, word(8)?);
    let wanted = [
        (pid != refusal.who.group as u32, "SYS_ADMIN"),
        (uid != refusal.who.uid, "SETUID"),
        (gid != refusal.who.gid, "SETGID"),
    ];
    // The kernel asks in this order, and stops at the first.
    let (_, first) = wanted.into_iter().find(|(other, _)| *other)?;
    let reach = if refusal.isolated { Reach::Session } else { Reach::Machine };
    let all: Vec<&str> = wanted.iter().filter(|(other, _)| *other).map(|(_, name)| *name).collect();
    let cause = format!("the credentials that it sends are not its own ({})", all.join(", "));
    Some(Verdict::needs(&[first], reach).because(cause))
}

/// capset(2): what was to be raised and is not held. `struct __user_cap_data_struct`, twice: effective, permitted,
/// inheritable.
fn raised(refusal: &Refusal<'_>) -> Verdict {
    let word = |at: usize| {
        let bytes = refusal.memory.get(at * 4..at * 4 + 4).and_then(|bytes| bytes.try_into().ok());
        u64::from(bytes.map_or(0, u32::from_ne_bytes))
    };
    let wanted = word(0) | word(1) | (word(3) | word(4)) << 32;
    match CapSet::from_bits(wanted & !refusal.who.permitted) {
        missing if missing.is_empty() => Verdict::needs(&["SETPCAP"], Reach::Session).unsure(),
        missing => Verdict {
            needs: vec![missing],
            reach: Reach::Session,
            sure: true,
            cause: Some("the program wants to raise what it does not hold".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(call: &str, args: [u64; 6], errno: i32, object: &Object) -> Option<Verdict> {
        let who = Who { uid: 1000, ..Who::default() };
        judge(&Refusal {
            call,
            args,
            errno,
            object,
            who: &who,
            isolated: true,
            mount: &[],
            port_floor: 1024,
            program: Stat::default(),
            filtered: false,
            release: (6, 18),
            memory: &[],
        })
    }

    fn needs(call: &str, args: &[u64], errno: i32) -> (String, Reach) {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let verdict = ask(call, all, errno, &Object::Nothing).unwrap_or_else(|| panic!("{call} {args:?}"));
        (verdict.needs.iter().map(CapSet::to_string).collect::<Vec<_>>().join("|"), verdict.reach)
    }

    #[test]
    fn calls_and_arguments_name_the_capability() {
        use Reach::{Machine, Network, Session};
        for (call, args, errno, wanted, reach) in [
            ("clock_settime", &[0][..], EPERM, "SYS_TIME", Machine),
            ("sethostname", &[], EPERM, "SYS_ADMIN", Session),
            ("socket", &[17, 3, 768], EPERM, "NET_RAW", Network),
            ("socket", &[2, 3 | 0x80000, 255], EPERM, "NET_RAW", Network),
            ("ioctl", &[3, 0x890b], EPERM, "NET_ADMIN", Network),
            ("ioctl", &[3, 0x4024_700a], EACCES, "SYS_TIME", Machine),
            ("setsockopt", &[3, 1, 33], EPERM, "NET_ADMIN", Machine),
            ("setsockopt", &[3, 1, 36], EPERM, "NET_ADMIN|NET_RAW", Network),
            ("getsockopt", &[3, 0, 64], EPERM, "NET_ADMIN", Network),
            ("setpriority", &[0, 0, 0], EACCES, "SYS_NICE", Machine),
            ("ioprio_set", &[1, 0, 0x2000], EPERM, "SYS_NICE|SYS_ADMIN", Machine),
            ("unshare", &[0x2_0000], EPERM, "SYS_ADMIN", Session),
            ("unshare", &[0x1000_0000], EPERM, "", Session),
            ("shmget", &[0, 0, 0o4000], EPERM, "IPC_LOCK", Machine),
            ("setuid", &[0], EPERM, "SETUID", Session),
            ("setuid", &[5], libc::EINVAL, "", Session),
            ("mknodat", &[0, 0, 0o020_644], EPERM, "MKNOD", Machine),
            ("bpf", &[5], EPERM, "BPF|SYS_ADMIN", Machine),
            ("mlock", &[], libc::ENOMEM, "IPC_LOCK", Machine),
        ] {
            let (got, from) = needs(call, args, errno);
            let sorted = |text: &str| {
                let mut words: Vec<String> = text.split('|').map(str::to_owned).collect();
                words.sort();
                words
            };
            let canonical =
                |text: &str| sorted(&text.split('|').map(|t| set(t).to_string()).collect::<Vec<_>>().join("|"));
            assert_eq!((sorted(&got), from), (canonical(wanted), reach), "{call} {args:?}");
        }
        assert_eq!(ask("sched_setscheduler", [0; 6], libc::EINVAL, &Object::Nothing), None);
    }

    #[test]
    fn what_it_is_about_decides() {
        let mount = |name: &str| ask("mount", [0; 6], EPERM, &Object::Text(name.into())).expect("a verdict").reach;
        assert_eq!(
            (mount("tmpfs"), mount("ext4"), mount("fuse.sshfs")),
            (Reach::Session, Reach::Machine, Reach::Session)
        );
        let bind = |port| ask("bind", [0; 6], EACCES, &Object::Port(port)).expect("a verdict").needs;
        assert_eq!(bind(80), [set("NET_BIND_SERVICE")]);
        assert_eq!(bind(8080), []);
        let limit = |uid| ask("prlimit64", [0; 6], EPERM, &Object::Process { pid: 1, uid }).expect("a verdict").reach;
        assert_eq!((limit(Some(1000)), limit(Some(0)), limit(None)), (Reach::Machine, Reach::Session, Reach::Session));
    }

    #[test]
    fn capset_names_what_is_missing() {
        let mut memory = [0u8; 24];
        memory[3] = 0x80; // bit 31 of the effective set: SETFCAP
        let who = Who::default();
        let refusal = Refusal {
            call: "capset",
            args: [0; 6],
            errno: EPERM,
            object: &Object::Nothing,
            who: &who,
            isolated: true,
            mount: &[],
            port_floor: 1024,
            program: Stat::default(),
            filtered: false,
            release: (6, 18),
            memory: &memory,
        };
        assert_eq!(judge(&refusal).expect("a verdict").needs, [set("SETFCAP")]);
    }

    #[test]
    fn every_row_names_known_calls_and_capabilities() {
        for rule in RULES {
            for call in rule.calls {
                assert!(
                    super::super::calls::CALLS.iter().any(|c| c.name == *call) || cfg!(not(target_arch = "x86_64")),
                    "{call}"
                );
            }
            for need in rule.needs {
                assert_eq!(set(need).iter().count(), need.split(',').count(), "{need}");
            }
        }
    }
}
