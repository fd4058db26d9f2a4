//! Grants that are right by the rules and still give more than an administrator may think.

use super::machine;
use caplet_policy::capability::CapSet;
use caplet_policy::document::{Document, Profile, Scope, Seccomp, Subject, UserMode, root_equivalents};
use caplet_policy::handbook::entry;

/// Programs whose purpose is to start others, or that do it at a key press.
const STARTERS: [&str; 72] = [
    "awk",
    "bash",
    "busybox",
    "chroot",
    "csh",
    "dash",
    "ed",
    "emacs",
    "env",
    "ex",
    "expect",
    "find",
    "fish",
    "gawk",
    "gdb",
    "git",
    "ionice",
    "ip",
    "irb",
    "journalctl",
    "ksh",
    "less",
    "lua",
    "make",
    "man",
    "mawk",
    "more",
    "mutt",
    "nano",
    "nice",
    "node",
    "nohup",
    "nvim",
    "perl",
    "php",
    "pico",
    "python",
    "python3",
    "rbash",
    "rlwrap",
    "rsync",
    "ruby",
    "screen",
    "script",
    "sed",
    "setpriv",
    "setsid",
    "sh",
    "socat",
    "ssh",
    "stdbuf",
    "strace",
    "su",
    "systemctl",
    "tar",
    "taskset",
    "tclsh",
    "tcpdump",
    "tcsh",
    "time",
    "timeout",
    "tmux",
    "unshare",
    "vi",
    "view",
    "vim",
    "watch",
    "wget",
    "xargs",
    "xterm",
    "zip",
    "zsh",
];

/// One risky grant.
#[derive(Debug, PartialEq, Eq)]
pub struct Risk {
    /// `FILE:LINE`.
    pub at: String,
    /// The profile.
    pub profile: String,
    /// Why, and what to do instead.
    pub text: String,
}

/// Every risk, in the order of the profiles.
pub fn of(document: &Document) -> Vec<Risk> {
    let setter = document.profiles.iter().find(|profile| sets_the_clock(profile));
    document
        .profiles
        .iter()
        .flat_map(|profile| {
            let by_the_clock = profile.valid_from.is_some() || profile.valid_until.is_some();
            let clock = setter.filter(|_| by_the_clock).map(|setter| {
                let name = &setter.name;
                format!("its dates follow the machine's clock, which profile \"{name}\" lets people set; max_lifetime does not")
            });
            texts(profile).into_iter().chain(clock).map(|text| Risk {
                at: format!("{}:{}", profile.at.file, profile.at.line),
                profile: profile.name.clone(),
                text,
            })
        })
        .collect()
}

/// Whether it gives SYS_TIME of the machine.
fn sets_the_clock(profile: &Profile) -> bool {
    profile.scope == Scope::Host && reach(profile).iter().any(|cap| cap.name() == "SYS_TIME")
}

/// All that a profile can give.
fn reach(profile: &Profile) -> CapSet {
    if profile.may_add_all { CapSet::KNOWN } else { profile.may_add.union(profile.starting_set()) }
}

fn texts(profile: &Profile) -> Vec<String> {
    let mut texts = Vec::new();
    if profile.users.contains(&Subject::Everybody) {
        let does = if profile.login { "logs in here" } else { "is let in here" };
        texts.push(format!(
            "everybody, also system accounts, {does}; name a group, or take accounts out with not_users"
        ));
    }
    texts.extend(machine::devices(profile));
    if profile.login && profile.user == UserMode::Root {
        texts.push(
            "login as uid 0: tar and rsync restore owners, ssh looks in root's places; user = \"self\" has none of it"
                .into(),
        );
    }
    if profile.seccomp == Seccomp::None {
        texts.push(
            "seccomp = \"none\": every system call of the kernel is within reach, also those that exploits go through"
                .into(),
        );
    }
    texts.extend(limits(profile));
    if profile.scope == Scope::Host {
        host(profile, &mut texts);
    }
    texts
}

/// Fewer, and a shell with a pipeline does not come up.
const FEW_TASKS: u32 = 16;
/// Less, and a shell with its libraries, or a Python, is killed.
const LITTLE_MEMORY: u64 = 64 << 20;
/// Less, and a login takes seconds.
const LITTLE_CPU: u32 = 5;

/// Limits under which nothing can be done, and those that do not hold.
fn limits(profile: &Profile) -> Vec<String> {
    let Some(cgroup) = profile.cgroup else { return Vec::new() };
    let reach = reach(profile);
    let has = |name: &str| profile.scope == Scope::Host && reach.iter().any(|cap| cap.name() == name);
    let low = [
        cgroup.tasks.filter(|n| *n < FEW_TASKS).map(|n| format!("tasks = {n}: hardly a shell and a pipeline")),
        cgroup
            .memory
            .filter(|n| *n < LITTLE_MEMORY)
            .map(|n| format!("memory of {}K: most programs are killed", n >> 10)),
        cgroup.cpu.filter(|n| *n < LITTLE_CPU).map(|n| format!("cpu = \"{n}%\": a login takes seconds")),
        (profile.scope == Scope::Host && !root_equivalents(reach).is_empty())
            .then(|| format!("its cgroup holds nobody who has {}", root_equivalents(reach))),
        (cgroup.cpu.is_some() && has("SYS_NICE"))
            .then(|| "cpu does not hold real-time processes, which SYS_NICE makes".into()),
    ];
    low.into_iter().flatten().collect()
}

fn host(profile: &Profile, texts: &mut Vec<String>) {
    let reach = reach(profile);
    let as_root = root_equivalents(reach);
    if reach == CapSet::KNOWN {
        texts.push("every capability of the machine: this is root".into());
    } else {
        for cap in as_root.iter() {
            texts.push(format!("{cap} is as good as root: {}", entry(cap).how));
        }
    }
    if reach != CapSet::KNOWN && reach.minus(as_root).iter().any(|cap| cap.name() == "PERFMON") {
        texts.push(
            "PERFMON copies what any process has on its stack, root's passwords and keys too: for people who may know them"
                .into(),
        );
    }
    if reach.is_empty() {
        return;
    }
    for command in profile.commands.iter().flatten() {
        let name = command.path.rsplit('/').next().unwrap_or_default();
        if !as_root.is_empty() || STARTERS.contains(&name) {
            texts.push(format!("whatever {} starts inherits the capabilities", command.path));
        }
    }
}
