//! Files of the kernel's own in /proc and the like, which look at more than a mode.

use super::object::File;
use super::rules::{EACCES, EPERM, Reach, Refusal, Verdict};

/// fs/proc/base.c: what of /proc/PID needs leave to look into the process (ptrace_may_access), besides its mode.
const LOOKED_INTO: &[&str] = &[
    "auxv",
    "cwd",
    "environ",
    "exe",
    "io",
    "maps",
    "mem",
    "ns",
    "numa_maps",
    "pagemap",
    "personality",
    "root",
    "smaps",
    "smaps_rollup",
    "stack",
    "syscall",
    "timers",
];
/// Of these, what may be read of a process's memory by whom profiles too: fs/proc/base.c and kernel/fork.c,
/// may_access_mm, of Linux 6.15.
const PROFILED: &[&str] = &["auxv", "environ", "maps", "numa_maps", "pagemap", "smaps", "smaps_rollup"];
/// Of these, what the mode keeps from others as well: 0400, 0500 and 0600.
const CLOSED: &[&str] = &["auxv", "environ", "io", "mem", "pagemap", "personality", "stack", "syscall"];
/// What only the mode keeps from others.
const MODE_ALONE: &[&str] = &["fd", "fdinfo", "map_files", "ns", "task"];
/// kernel/printk/sysctl.c and others: open to uid 0, and then written with SYS_ADMIN alone (proc_dointvec_minmax_sysadmin).
const PRIVATE: &str = "is for uid 0 of the machine: no capability opens it";

/// `None`: it is as any other file.
pub fn judge(refusal: &Refusal<'_>, file: &File) -> Option<Verdict> {
    if ![EPERM, EACCES].contains(&refusal.errno) {
        return None;
    }
    let path = file.path.to_str()?;
    if let Some(name) = path.strip_prefix("/proc/sys/") {
        return Some(sysctl(refusal, name));
    }
    let (process, what) = path.strip_prefix("/proc/")?.split_once('/')?;
    process.parse::<i32>().ok()?;
    let what = what.strip_prefix("task/").and_then(|rest| Some(rest.split_once('/')?.1)).unwrap_or(what);
    of_process(refusal, file, what)
}

/// fs/proc/proc_sysctl.c: test_perm looks at uid 0 and gid 0, and at no capability; some tables have a rule of their own.
fn sysctl(refusal: &Refusal<'_>, name: &str) -> Verdict {
    match (name, refusal.errno) {
        // kernel/pid_namespace.c and ipc/ipc_sysctl.c: checkpoint_restore_ns_capable
        ("kernel/ns_last_pid" | "kernel/sem_next_id" | "kernel/msg_next_id" | "kernel/shm_next_id", _) => {
            Verdict::needs(&["CHECKPOINT_RESTORE", "SYS_ADMIN"], Reach::Session)
        }
        // security/yama/yama_lsm.c
        ("kernel/yama/ptrace_scope", EPERM) => Verdict::needs(&["SYS_PTRACE"], Reach::Machine),
        // net/sysctl_net.c: net_ctl_permissions
        _ if name.starts_with("net/") => Verdict::needs(&["NET_ADMIN"], Reach::Network),
        // kernel/ucount.c: set_permissions
        _ if name.starts_with("user/") => Verdict::needs(&["SYS_RESOURCE"], Reach::Session),
        // kernel/sysctl.c: proc_dointvec_minmax_sysadmin, and the like
        (_, EPERM) if refusal.call == "write" => Verdict::needs(&["SYS_ADMIN"], Reach::Machine),
        _ => Verdict::no_capability(format!("/proc/sys/{name} {PRIVATE}")),
    }
}

fn of_process(refusal: &Refusal<'_>, file: &File, what: &str) -> Option<Verdict> {
    let foreign = file.stat.is_none_or(|stat| stat.uid != refusal.who.uid);
    let theirs = if refusal.isolated { Reach::Session } else { Reach::Machine };
    let first = what.split('/').next()?;
    if refusal.call == "write" {
        return match first {
            // fs/proc/base.c: __set_oom_adj, proc_loginuid_write, timerslack_ns_write
            "oom_score_adj" | "oom_adj" => Some(
                Verdict::needs(&["SYS_RESOURCE"], Reach::Machine).because("the value is lower than it may be made"),
            ),
            "loginuid" => Some(Verdict::needs(&["AUDIT_CONTROL"], Reach::Machine)),
            "timerslack_ns" => Some(Verdict::needs(&["SYS_NICE"], theirs)),
            // kernel/user_namespace.c: new_idmap_permitted, of the namespace above
            "uid_map" | "projid_map" => Some(maps(&["SETUID"], theirs)),
            "gid_map" => Some(maps(&["SETGID"], theirs)),
            "setgroups" => Some(Verdict::no_capability("once the group ids are mapped, it is fixed")),
            _ => None,
        };
    }
    if !foreign {
        return None;
    }
    let inner = what.len() > first.len();
    if MODE_ALONE.contains(&first) && !inner {
        return Some(
            Verdict::needs(&["DAC_READ_SEARCH", "DAC_OVERRIDE"], theirs)
                .because("the process belongs to somebody else"),
        );
    }
    if !LOOKED_INTO.contains(&first) && !["fd", "fdinfo", "map_files"].contains(&first) {
        return None;
    }
    // What is behind a link of fd, once the folder can be searched.
    let searched = ["fd", "fdinfo", "map_files"].contains(&first);
    let profiled = PROFILED.contains(&first) && refusal.release >= (6, 15);
    let needs: &[&str] = match (CLOSED.contains(&first) || searched, profiled) {
        (true, true) => &["DAC_READ_SEARCH,SYS_PTRACE", "DAC_READ_SEARCH,PERFMON"],
        (true, false) if first == "stack" => &["DAC_READ_SEARCH,SYS_PTRACE,SYS_ADMIN"],
        (true, false) if first == "mem" => &["DAC_OVERRIDE,SYS_PTRACE"],
        (true, false) => &["DAC_READ_SEARCH,SYS_PTRACE"],
        (false, true) => &["SYS_PTRACE", "PERFMON"],
        (false, false) => &["SYS_PTRACE"],
    };
    Some(Verdict::needs(needs, theirs).because("the process belongs to somebody else"))
}

fn maps(needs: &[&str], theirs: Reach) -> Verdict {
    Verdict::needs(needs, theirs).because(
        "ids of others are mapped by whoever may become them: newuidmap(1) and newgidmap(1), for the ranges of /etc/subuid",
    )
}

#[cfg(test)]
mod tests {
    use super::super::object::{Object, Stat, Who};
    use super::super::rules;
    use super::*;
    use caplet_policy::capability::CapSet;

    fn ask(call: &str, errno: i32, path: &str) -> (String, Option<Reach>) {
        let stat = Stat { uid: 0, gid: 0, mode: 0o444, is_folder: false, is_device: false };
        let file = File { shown: path.into(), path: path.into(), stat: Some(stat), folder: None, obstacle: None };
        let (who, object) = (Who { uid: 1000, ..Who::default() }, Object::File(file));
        let verdict = rules::judge(&Refusal {
            call,
            args: [0; 6],
            errno,
            object: &object,
            who: &who,
            isolated: false,
            mount: &[],
            port_floor: 1024,
            program: Stat::default(),
            filtered: false,
            release: (6, 18),
            memory: &[],
        });
        let names = |v: &Verdict| v.needs.iter().map(CapSet::to_string).collect::<Vec<_>>().join("|");
        (verdict.as_ref().map(names).unwrap_or_default(), verdict.map(|verdict| verdict.reach))
    }

    #[test]
    fn the_kernels_own_files_ask_for_more_than_a_mode() {
        for (call, errno, path, wanted, reach) in [
            ("openat", EACCES, "/proc/sys/net/ipv4/ip_forward", "NET_ADMIN", Reach::Network),
            ("openat", EACCES, "/proc/sys/kernel/core_pattern", "", Reach::Machine),
            ("write", EPERM, "/proc/sys/kernel/ns_last_pid", "CHECKPOINT_RESTORE|SYS_ADMIN", Reach::Session),
            ("write", EPERM, "/proc/sys/kernel/dmesg_restrict", "SYS_ADMIN", Reach::Machine),
            ("openat", EACCES, "/proc/1/environ", "DAC_READ_SEARCH,SYS_PTRACE|DAC_READ_SEARCH,PERFMON", Reach::Machine),
            ("openat", EACCES, "/proc/1/maps", "SYS_PTRACE|PERFMON", Reach::Machine),
            ("openat", EACCES, "/proc/1/task/1/maps", "SYS_PTRACE|PERFMON", Reach::Machine),
            ("openat", EACCES, "/proc/1/fd", "DAC_READ_SEARCH|DAC_OVERRIDE", Reach::Machine),
            ("readlink", EACCES, "/proc/1/exe", "SYS_PTRACE", Reach::Machine),
            ("openat", EACCES, "/proc/1/ns/net", "SYS_PTRACE", Reach::Machine),
            ("write", EACCES, "/proc/1/oom_score_adj", "SYS_RESOURCE", Reach::Machine),
            ("write", EPERM, "/proc/1/uid_map", "SETUID", Reach::Machine),
        ] {
            assert_eq!(ask(call, errno, path), (wanted.to_owned(), Some(reach)), "{call} {path}");
        }
    }
}
