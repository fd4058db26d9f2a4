//! What of the machine around an installed policy would surprise its administrator: mounts, shells, subordinate ids.

use super::ownership;
use super::what_if::ask;
use crate::installed;
use crate::messages::Trouble;
use caplet_policy::document::{Document, Profile, Subject, UserMode};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

const PAM_SERVICE: &str = "/etc/pam.d/caplet";
/// Groups whose members administrate, on one distribution or another.
const ADMINISTRATORS: [&str; 3] = ["sudo", "wheel", "admin"];

/// Everything but what the policy says: for the installed policy alone.
pub fn troubles(document: Option<&Document>) -> Vec<Trouble> {
    let mut texts = Vec::new();
    let mut troubles: Vec<Trouble> =
        Path::new(PAM_SERVICE).ancestors().filter_map(|p| ownership::look(p, p != Path::new(PAM_SERVICE))).collect();
    let helper = installed::helper();
    if statvfs(&helper).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_NOSUID)) {
        texts.push(format!("{} lies on a file system mounted nosuid: no session can start", helper.display()));
    }
    login_shell(&mut texts);
    for profile in document.iter().flat_map(|document| &document.profiles) {
        subordinate_ids(profile, &mut texts);
    }
    troubles.extend(texts.into_iter().map(Trouble::Note));
    troubles
}

/// What is wrong with the nodes that a profile shows.
pub fn devices(profile: &Profile) -> Vec<String> {
    let mut texts = Vec::new();
    for path in &profile.devices {
        match fs::metadata(path) {
            Ok(meta) if meta.file_type().is_block_device() => {
                texts.push(format!("{path} is a block device: who may open it reads and writes every file on it"));
            }
            Ok(_) => {}
            Err(_) => texts.push(format!("{path} is not there: the profile's sessions are refused until it is")),
        }
    }
    texts
}

/// `caplet-shell` as a login shell: known to login programs, and not the only way in.
fn login_shell(texts: &mut Vec<String>) {
    let shell = installed::login_shell();
    if !shell.exists() {
        return;
    }
    let name = shell.display().to_string();
    let shells = fs::read_to_string("/etc/shells").unwrap_or_default();
    if !shells.lines().any(|line| line.trim() == name) {
        texts.push(format!("{name} is not in /etc/shells: chsh(1), ftp and some display managers refuse its users"));
    }
    let accounts = ask("getent", &["passwd"]).ok().flatten().unwrap_or_default();
    let shell_of = |user: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(user))?;
        line.rsplit(':').next().map(str::to_owned)
    };
    let has_users = accounts.lines().any(|line| line.rsplit(':').next() == Some(&name));
    let administrators: Vec<String> = ADMINISTRATORS.iter().flat_map(|group| members(group)).collect();
    let other =
        |user: &String| shell_of(user).is_some_and(|s| s != name && !s.ends_with("nologin") && !s.ends_with("false"));
    if has_users && !administrators.is_empty() && !administrators.iter().any(other) {
        texts.push(format!(
            "every administrator has {name} as login shell: a faulty policy would lock all of them out; leave one with another shell"
        ));
    }
}

fn members(group: &str) -> Vec<String> {
    let entry = ask("getent", &["group", group]).ok().flatten().unwrap_or_default();
    let names = entry.lines().next().and_then(|line| line.rsplit(':').next()).unwrap_or_default();
    names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// Users of a `subids` profile without a range, or with one that somebody else's overlaps: the helper refuses them.
fn subordinate_ids(profile: &Profile, texts: &mut Vec<String>) {
    if !profile.subids || profile.user != UserMode::Root {
        return;
    }
    let name_of = |subject: &Subject| match subject {
        Subject::Name(name) => vec![name.clone()],
        _ => Vec::new(),
    };
    let of_group = |subject: &Subject| match subject {
        Subject::Name(group) => members(group),
        _ => Vec::new(),
    };
    let mut users: Vec<String> = profile.users.iter().flat_map(name_of).collect();
    users.extend(profile.groups.iter().flat_map(of_group));
    users.sort();
    users.dedup();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let ranges: Vec<(&str, u64, u64)> = text.lines().filter_map(range).collect();
        for user in &users {
            let uid = ask("id", &["-u", "--", user]).ok().flatten().unwrap_or_default();
            let mine = |owner: &str| owner == user || owner == uid.trim();
            let at = format!("profile \"{}\": {user}", profile.name);
            match ranges.iter().find(|(owner, ..)| mine(owner)) {
                None => texts.push(format!("{at} has no range in {file}: usermod --add-subuids, --add-subgids")),
                Some((_, first, count)) => {
                    let clash =
                        |(owner, f, c): &&(&str, u64, u64)| !mine(owner) && *f < first + count && *first < f + c;
                    if let Some((owner, f, c)) = ranges.iter().find(clash) {
                        texts.push(format!("{at}'s range in {file} overlaps the entry {owner}:{f}:{c}"));
                    }
                }
            }
        }
    }
}

/// `owner:first:count` of subuid(5).
fn range(line: &str) -> Option<(&str, u64, u64)> {
    let mut parts = line.trim().split(':');
    let (owner, first, count) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (parts.next().is_none() && count > 0).then_some((owner, first, count))
}
