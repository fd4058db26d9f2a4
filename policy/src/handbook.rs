//! What each capability gates, where it works and how it becomes root: `capabilities.tsv` as data.
//!
//! Also the one list of the capabilities' names. The prose is for people: only with feature `render`.

use crate::capability::Capability;

/// A three-valued fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Degree {
    /// Wholly so.
    Full,
    /// In part.
    Partial,
    /// Not at all.
    None,
}

/// One row of the handbook.
#[derive(Debug)]
pub struct Entry {
    /// Which capability: its short name, `NET_ADMIN`.
    pub name: &'static str,
    /// How far it works inside a user namespace that does not own the object (column `userns`).
    pub userns: Degree,
    /// Whether it is as good as root on a host file system (yes = Full, partial, no = None).
    pub root_equivalent: Degree,
    /// Whether Docker gives it by default.
    pub docker: bool,
    /// What it gates, in words.
    #[cfg(feature = "render")]
    pub gates: &'static str,
    /// How it becomes root, or what harm it does.
    #[cfg(feature = "render")]
    pub how: &'static str,
    /// A command people know that needs it, or "-".
    #[cfg(feature = "render")]
    pub example: &'static str,
}

/// The row of a capability.
pub fn entry(cap: Capability) -> &'static Entry {
    // In range by construction: a `Capability` is below `COUNT`, and the table has that many rows.
    &TABLE[usize::from(cap.number())]
}

/// Reads the rows below, which have the columns of the tsv in its order and words.
macro_rules! table {
    (@degree full) => { Degree::Full };
    (@degree yes) => { Degree::Full };
    (@degree partial) => { Degree::Partial };
    (@degree no) => { Degree::None };
    (@degree none) => { Degree::None };
    (@flag yes) => { true };
    (@flag no) => { false };
    ($($name:ident | $gates:literal | $userns:ident | $root:ident | $how:literal | $docker:ident | $example:literal;)*) => {
        static TABLE: [Entry; Capability::COUNT as usize] = [$(Entry {
            name: stringify!($name),
            userns: table!(@degree $userns),
            root_equivalent: table!(@degree $root),
            docker: table!(@flag $docker),
            #[cfg(feature = "render")]
            gates: $gates,
            #[cfg(feature = "render")]
            how: $how,
            #[cfg(feature = "render")]
            example: $example,
        }),*];
    };
}

// name | gates | userns | root_equivalent | how | docker_default | example_command
table! {
    CHOWN | "change owner or group of any file (chown, chgrp); give own files away" | partial | yes | "take ownership of /etc/shadow or /etc/sudoers, then edit it" | yes | "chown bob file";
    DAC_OVERRIDE | "write, read or search any file or directory; execute a file that has any x bit" | partial | yes | "rewrite /etc/shadow, /etc/passwd or a root cron file" | yes | "tee -a /etc/hosts";
    DAC_READ_SEARCH | "read any file; list and search any directory; open_by_handle_at; linkat with AT_EMPTY_PATH" | partial | partial | "reads password hashes, private keys and tokens and can leave a chroot by file handle; handle as yes" | no | "cat /etc/shadow";
    FOWNER | "chmod, utime, setfattr, setfacl and chattr on files of others; delete in sticky directories; O_NOATIME" | partial | yes | "chmod 666 /etc/shadow, then write it" | yes | "chmod 644 /var/log/app.log";
    FSETID | "keep setuid and setgid bits when a file is written or chowned; set setgid with a foreign group" | partial | partial | "a binary made in a writable setgid directory becomes setgid to that directory group" | yes | "chmod g+s shared/prog";
    KILL | "send a signal to any process (kill, pkill, pidfd_send_signal)" | full | no | "denial of service: any daemon or session can be stopped, a session's guard too" | yes | "kill -HUP 1234";
    SETGID | "setgid; setgroups; set any gid in SCM_CREDENTIALS; write a multi-entry gid_map" | partial | yes | "join group shadow, disk, docker or sudo" | yes | "setpriv --regid 42 --clear-groups id";
    SETUID | "setuid family; set any uid in SCM_CREDENTIALS; write a multi-entry uid_map" | partial | yes | "become uid 0: root-owned files are writable even with no_new_privs; without it the next exec gives every bounded capability" | yes | "setpriv --reuid 0 sh";
    SETPCAP | "drop from the bounding set; add a bounded capability to the inheritable set; change securebits" | full | partial | "with no_new_privs nothing; without it feeds files that carry inheritable bits and makes setuid programs keep capabilities across setuid" | yes | "capsh --drop=cap_sys_admin --";
    LINUX_IMMUTABLE | "set or clear the append-only and immutable inode flags (chattr +a, +i)" | none | no | "needs file ownership or CAP_FOWNER as well; removes log and policy protection in combination" | no | "chattr +i file";
    NET_BIND_SERVICE | "bind TCP or UDP ports below net.ipv4.ip_unprivileged_port_start" | full | no | "impersonates a stopped system service on its port" | yes | "python3 -m http.server 80";
    NET_BROADCAST | "no check in current kernels (reserved for broadcast and multicast)" | none | no | "none" | no | "-";
    NET_ADMIN | "links, addresses, routes, rules and neighbours (ip); nft, iptables, ipset, conntrack; tc; veth, bridge and tun creation; promiscuous mode; SO_MARK; ethtool; net.* sysctls of the netns" | full | partial | "rules the whole host network; from a private netns owned by the initial userns it still edits the host netns through netlink by pid or nsid and through passed sockets" | no | "ip link set eth0 mtu 1400";
    NET_RAW | "AF_PACKET and raw IP sockets (ping, traceroute, tcpdump, nmap -sS, arping); IP_TRANSPARENT" | full | no | "sniffs and forges traffic of every user on shared interfaces" | yes | "tcpdump -i eth0";
    IPC_LOCK | "mlock and mlockall beyond RLIMIT_MEMLOCK; SHM_HUGETLB; SHM_LOCK; locked perf buffers" | none | no | "memory exhaustion" | no | "stress-ng --mlock 1";
    IPC_OWNER | "bypass permission checks of System V shared memory, semaphores and message queues" | full | partial | "reads and changes shared memory of other users services" | no | "-";
    SYS_MODULE | "init_module; finit_module; delete_module (insmod, modprobe, rmmod)" | none | yes | "load kernel code" | no | "modprobe dummy";
    SYS_RAWIO | "iopl; ioperm; /dev/mem; /dev/port; /proc/kcore; raw SCSI and ATA commands; MSR writes; FIBMAP; mmap below mmap_min_addr" | none | yes | "raw port, memory or disk commands (unless lockdown)" | no | "hdparm -I /dev/sda";
    SYS_CHROOT | "chroot; part of setns to a mount namespace" | full | partial | "with no_new_privs nothing; without it any tree that mixes a setuid program with user-written /etc gives root; leaves a chroot" | yes | "chroot /srv/tree sh";
    SYS_PTRACE | "attach to any process; process_vm_readv and writev; foreign /proc/PID/{mem,maps,environ,fd,root,ns}; pidfd_getfd; kcmp" | full | yes | "inject code into a root daemon" | no | "strace -p 1234";
    SYS_PACCT | "acct (accton)" | none | no | "turns process accounting off" | no | "accton off";
    SYS_ADMIN | "mount, umount, pivot_root; sethostname; swapon; quotactl; setns and unshare; loop and device ioctls; fanotify; keyctl; trusted xattrs; TIOCSTI; much else" | partial | yes | "mount over /etc, enter any namespace, device ioctls" | no | "mount -t tmpfs none /mnt";
    SYS_BOOT | "reboot; kexec_load and kexec_file_load" | partial | yes | "kexec an own kernel (unless lockdown or kexec_load_disabled); otherwise outage" | no | "reboot -f";
    SYS_NICE | "lower nice value; real-time and deadline scheduling; affinity, priority, ioprio and page migration of other users tasks" | partial | no | "CPU starvation by a real-time loop; in a child userns only affinity and similar of its own tasks, never a priority raise" | no | "nice -n -5 make";
    SYS_RESOURCE | "raise hard rlimits; exceed quota, reserved blocks, pipe, mqueue and keyring limits; lower oom_score_adj; PR_SET_MM" | none | no | "resource exhaustion, immunity from the OOM killer; only prlimit on tasks of the child userns is ns-aware" | no | "prlimit --nofile=1048576:1048576 sh";
    SYS_TIME | "settimeofday, clock_settime, clock_adjtime (date -s, chronyd); RTC set (hwclock); time-namespace offsets (the only ns-aware part)" | none | no | "breaks certificate, Kerberos, cron and log times" | no | "date -s 12:00";
    SYS_TTY_CONFIG | "vhangup; virtual console ioctls (keymap, font, switch)" | none | partial | "remap keys of the next console user" | no | "loadkeys us";
    MKNOD | "create character and block device nodes (FIFO, socket and overlay whiteout need none)" | none | yes | "node for the host disk on a filesystem without nodev, then raw write (a device cgroup blocks it)" | yes | "mknod null c 1 3";
    LEASE | "file leases on files of others (F_SETLEASE)" | none | no | "delays opens for the lease-break time" | no | "-";
    AUDIT_WRITE | "write user records to the kernel audit log" | none | no | "forged audit entries" | yes | "auditctl -m text";
    AUDIT_CONTROL | "switch auditing; change audit rules; read audit status; reset loginuid" | none | partial | "blinds or misattributes the audit trail" | no | "auditctl -s";
    SETFCAP | "write file capabilities (setcap); map uid 0 of the parent into a new userns" | full | yes | "setcap on an own binary, run it from a session without no_new_privs; in a child userns the xattr is tied to that userns" | yes | "setcap cap_net_raw=ep ./tool";
    MAC_OVERRIDE | "override Smack policy" | none | partial | "nothing unless Smack is the active LSM" | no | "-";
    MAC_ADMIN | "load or change Smack or AppArmor policy; set unknown SELinux labels" | none | partial | "unloads confinement of daemons; AppArmor policy namespaces are the ns-aware exception" | no | "apparmor_parser -r profile";
    SYSLOG | "read or clear the kernel log when dmesg_restrict=1; see kernel pointers when kptr_restrict=1" | none | no | "kernel address leak" | no | "dmesg";
    WAKE_ALARM | "timers that wake the system (CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM)" | none | no | "none" | no | "-";
    BLOCK_SUSPEND | "EPOLLWAKEUP; /sys/power/wake_lock" | none | no | "prevents suspend" | no | "-";
    AUDIT_READ | "join the audit multicast group" | none | no | "reads audit records of all users" | no | "-";
    PERFMON | "system-wide and kernel perf_event_open (perf top, perf stat -a); tracing BPF together with CAP_BPF; GPU counters" | none | partial | "samples the kernel and everybody, stacks with passwords and keys included; with CAP_BPF reads kernel memory" | no | "perf stat -a sleep 1";
    BPF | "bpf maps, program load and BTF; most program types also need CAP_NET_ADMIN or CAP_PERFMON" | none | partial | "large verifier attack surface; with CAP_PERFMON reads kernel memory; a BPF token (6.9) is the ns-aware exception" | no | "bpftool prog list";
    CHECKPOINT_RESTORE | "choose pids (clone3 set_tid, ns_last_pid); read map_files; PR_SET_MM exe link" | partial | no | "own pid namespace only in a child userns; map_files needs the initial userns" | no | "criu dump -t 1234";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::CapSet;

    #[test]
    fn docker_column_is_the_docker_set() {
        let docker: CapSet = CapSet::KNOWN.iter().filter(|cap| entry(*cap).docker).collect();
        assert_eq!(docker, CapSet::DOCKER);
    }

    #[cfg(feature = "render")]
    #[test]
    fn the_table_is_the_tsv() {
        let word = |degree: Degree, words: [&'static str; 3]| words[degree as usize];
        let mut text = include_str!("../data/capabilities.tsv").lines().next().unwrap().to_owned() + "\n";
        for cap in CapSet::KNOWN.iter() {
            let e = entry(cap);
            text += &format!(
                "{}\tCAP_{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
                cap.number(),
                e.name,
                e.gates,
                word(e.userns, ["full", "partial", "none"]),
                word(e.root_equivalent, ["yes", "partial", "no"]),
                e.how,
                if e.docker { "yes" } else { "no" },
                e.example,
            );
        }
        assert_eq!(text, include_str!("../data/capabilities.tsv"));
    }
}
