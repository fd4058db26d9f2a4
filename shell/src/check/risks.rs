//! Grants that are right by the rules and still give more than an administrator may think.

use caplet_policy::capability::CapSet;
use caplet_policy::document::{Document, Profile, Scope, Subject, UserMode, root_equivalents};
use caplet_policy::handbook::entry;

/// Programs whose purpose is to start others, or that do it at a key press.
const STARTERS: [&str; 24] = [
    "awk", "bash", "dash", "emacs", "env", "find", "gdb", "git", "less", "man", "more", "nano", "nice", "perl",
    "python3", "screen", "sh", "strace", "su", "tmux", "vi", "vim", "xargs", "zsh",
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
    document
        .profiles
        .iter()
        .flat_map(|profile| {
            texts(profile).into_iter().map(|text| Risk {
                at: format!("{}:{}", profile.at.file, profile.at.line),
                profile: profile.name.clone(),
                text,
            })
        })
        .collect()
}

fn texts(profile: &Profile) -> Vec<String> {
    let mut texts = Vec::new();
    if profile.login && profile.users.contains(&Subject::Everybody) {
        texts.push(
            "everybody, also system accounts, logs in here; name a group, or take accounts out with not_users".into(),
        );
    }
    if profile.login && profile.user == UserMode::Root {
        texts.push(
            "login as uid 0: tar and rsync restore owners, ssh looks in root's places; user = \"self\" has none of it"
                .into(),
        );
    }
    if profile.scope == Scope::Host {
        host(profile, &mut texts);
    }
    texts
}

fn host(profile: &Profile, texts: &mut Vec<String>) {
    let reach = if profile.may_add_all { CapSet::KNOWN } else { profile.may_add.union(profile.starting_set()) };
    let as_root = root_equivalents(reach);
    if reach == CapSet::KNOWN {
        texts.push("every capability of the machine: this is root".into());
    } else {
        for cap in as_root.iter() {
            texts.push(format!("{cap} is as good as root: {}", entry(cap).how));
        }
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
