//! Ways in: caplet-shell as a login shell, an sshd(8) on the machine's loopback, and what the kernel says of who got in.

use crate::{CapSets, Lab, Mount, Output, ProcStatus, record_skip};
use std::collections::BTreeMap;

/// Installed in a machine by [`Lab::login_shells`]: prints what [`Inside::of`] reads.
pub const PROBE: &str = "/usr/bin/lab-probe";

const PROBE_TEXT: &str = "#!/bin/sh\n\
    echo probe-begins\n\
    for n in user mnt pid ipc uts cgroup net; do echo $n $(readlink /proc/self/ns/$n); done\n\
    echo probe-status; cat /proc/self/status\n\
    echo probe-mounts; cat /proc/self/mountinfo\n\
    echo probe-ends\n";

/// dora's words to ssh(1) and its kin: her key, no question, nobody's configuration.
pub const SSH: &str = "-F none -i /home/dora/key -o IdentitiesOnly=yes -o HostKeyAlias=lab \
    -o UserKnownHostsFile=/home/dora/known -o BatchMode=yes -o LogLevel=ERROR";

const SSHD: &str = "Port 22\nListenAddress 127.0.0.1\nHostKey /etc/lab-host\nUsePAM yes\nPidFile none\n\
    MaxStartups 100\nX11Forwarding no\nSubsystem sftp /usr/lib/openssh/sftp-server\n";

impl Lab {
    /// Gives these users caplet-shell as their login shell.
    ///
    /// # Panics
    /// Where it cannot.
    #[track_caller]
    pub fn login_shells(&self, users: &[&str]) {
        self.write(PROBE, PROBE_TEXT, 0o755, "root");
        let names = users.join("|");
        self.edit_accounts(&format!("sed -i -E '/^({names}):/s#:/bin/bash$#:/usr/bin/caplet-shell#' /etc/passwd"));
    }

    /// Starts an sshd with these lines before its own, and lets dora's key in as each of these users.
    /// `false`: there is none here, said and recorded as a skip.
    ///
    /// # Panics
    /// Where it does not come up.
    #[track_caller]
    pub fn sshd(&self, users: &[&str], more: &str) -> bool {
        if !crate::have("/usr/sbin/sshd") || !crate::have("ssh") {
            record_skip("needs ssh and sshd");
            return false;
        }
        self.write("/etc/lab-sshd", format!("{more}{SSHD}"), 0o600, "root");
        self.root(&format!(
            "mkdir -p /run/sshd; cd /home/dora; ssh-keygen -q -t ed25519 -N '' -f /etc/lab-host; \
             ssh-keygen -q -t ed25519 -N '' -f key; chown dora: key; echo \"lab $(cat /etc/lab-host.pub)\" >known; \
             for u in {}; do mkdir -p -m 700 /home/$u/.ssh; cp key.pub /home/$u/.ssh/authorized_keys; \
             chown -R $u: /home/$u/.ssh; done; /usr/sbin/sshd -f /etc/lab-sshd -E /var/log/lab-sshd; \
             for i in $(seq 500); do (: </dev/tcp/127.0.0.1/22) 2>/dev/null && exit; sleep 0.02; done; exit 1",
            users.join(" ")
        ));
        true
    }

    /// dora's client: `ssh USER@machine REST`, read by a shell of hers.
    ///
    /// # Panics
    /// As [`crate::Task::run`].
    #[track_caller]
    pub fn ssh(&self, user: &str, rest: &str) -> Output {
        self.sh("dora", &format!("ssh {SSH} {user}@127.0.0.1 {rest}"))
    }

    /// A user's processes that are called so, by the machine's pids; zombies not counted.
    ///
    /// # Panics
    /// Where the machine has no such user.
    #[track_caller]
    pub fn pids_of(&self, user: &str, name: &str) -> Vec<i32> {
        let uid = self.uid(user);
        let of_user = |pid: i32| self.inside(|| ProcStatus::of(pid)).is_some_and(|s| s.uids()[1] == uid);
        let named = self.processes().into_iter().filter(|(_, comm)| name.is_empty() || comm == name);
        named.map(|(pid, _)| pid).filter(|pid| of_user(*pid)).collect()
    }

    /// Waits until that is so, up to twenty seconds.
    pub fn until(&self, so: impl FnMut() -> bool) -> bool {
        crate::task::until(std::time::Duration::from_secs(20), so)
    }
}

/// What the kernel says of one process that ran [`PROBE`].
#[derive(Debug, Clone)]
pub struct Inside {
    namespaces: BTreeMap<String, String>,
    /// Its status.
    pub status: ProcStatus,
    /// The mounts that it sees.
    pub mounts: Vec<Mount>,
}

impl Inside {
    /// Of the only probe in that text, a terminal's or a pipe's.
    ///
    /// # Panics
    /// Where there is none, or more.
    #[track_caller]
    pub fn of(text: &str) -> Self {
        let mut all = Self::all(text);
        assert_eq!(all.len(), 1, "probes in {text:?}");
        all.remove(0)
    }

    /// Of every probe in that text, in order.
    ///
    /// # Panics
    /// Where one is not whole.
    #[track_caller]
    pub fn all(text: &str) -> Vec<Self> {
        let text = text.replace('\r', "");
        text.split("probe-begins\n").skip(1).map(Self::parse).collect()
    }

    #[track_caller]
    fn parse(text: &str) -> Self {
        let (text, _) = text.split_once("probe-ends").unwrap_or_else(|| panic!("no end: {text:?}"));
        let (namespaces, text) = text.split_once("probe-status\n").expect("namespaces");
        let (status, mounts) = text.split_once("probe-mounts\n").expect("a status");
        let pair = |line: &str| line.split_once(' ').map(|(name, link)| (name.to_owned(), link.to_owned()));
        Self {
            namespaces: namespaces.lines().filter_map(pair).collect(),
            status: ProcStatus::parse(status),
            mounts: Mount::table(mounts),
        }
    }

    /// The link of one of its namespaces: `user:[4026531837]`.
    ///
    /// # Panics
    /// Where it did not say.
    #[track_caller]
    pub fn namespace(&self, name: &str) -> &str {
        self.namespaces.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    /// Holds it against what a session of a profile with `network = "host"` and no capability is: namespaces of its
    /// own, nothing in any set, no way to more, and a tree whose setuid bits count nowhere.
    ///
    /// # Panics
    /// Where it is anything else.
    #[track_caller]
    pub fn is_session_of(&self, lab: &Lab, user: &str) {
        for name in ["user", "mnt", "pid", "ipc", "uts", "cgroup"] {
            assert_ne!(self.namespace(name), lab.namespace(name), "the machine's own {name} namespace");
        }
        assert_eq!(self.namespace("net"), lab.namespace("net"));
        assert_eq!(self.status.caps(), CapSets::all(0));
        assert!(self.status.no_new_privs());
        assert_eq!(self.status.uids(), [lab.uid(user); 4]);
        // From its own /proc: one number, and a small one.
        assert_eq!(self.status.namespace_pids().len(), 1);
        let counts: Vec<_> = self.mounts.iter().filter(|mount| !mount.has("nosuid")).collect();
        assert!(counts.is_empty(), "setuid bits count on {counts:?}");
        assert!(self.mounts.iter().any(|m| m.point.as_os_str() == "/" && m.has("ro")), "{:?}", self.mounts);
        let at = |point: &str| self.mounts.iter().rfind(|m| m.point.as_os_str() == point);
        assert_eq!(at("/proc").map(|m| m.kind.as_str()), Some("proc"));
        assert_eq!(at("/dev/pts").map(|m| m.kind.as_str()), Some("devpts"));
    }

    /// Whether it is a process that no session holds.
    pub fn is_outside(&self, lab: &Lab) -> bool {
        ["user", "mnt", "pid"].iter().all(|name| self.namespace(name) == lab.namespace(name))
    }
}

impl Lab {
    /// The link of one of the machine's own namespaces.
    ///
    /// # Panics
    /// Where the kernel does not say.
    #[track_caller]
    pub fn namespace(&self, name: &str) -> String {
        let link = std::fs::read_link(format!("/proc/{}/ns/{name}", self.init())).expect("the machine runs");
        link.to_string_lossy().into_owned()
    }
}
