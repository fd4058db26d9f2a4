//! What of the machine around an installed policy would surprise its administrator: mounts, shells, subordinate ids.

use super::{nss, ownership};
use crate::installed;
use crate::messages::Trouble;
use caplet_policy::document::{Document, Lan, Profile, Subject, UserMode};
use caplet_policy::subids::{Range, Unusable};
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
    if on_nosuid() {
        texts.push(format!("{} lies on a file system mounted nosuid: no session can start", helper.display()));
    }
    login_shell(&mut texts);
    pam(document, &mut texts);
    texts.extend(subordinate_ids(document));
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    for lan in document.iter().flat_map(|document| &document.networks) {
        network(lan, &routes, &mut texts);
    }
    troubles.extend(texts.into_iter().map(Trouble::Note));
    troubles
}

/// What the machine lacks for a network, or has that stands in its way: its sessions are refused until it is mended.
fn network(lan: &Lan, routes: &str, texts: &mut Vec<String>) {
    let name = &lan.name;
    let mut say = |what: String| texts.push(format!("network \"{name}\": {what}"));
    if !["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].iter().any(|nft| Path::new(nft).exists()) {
        say("nftables (the program nft) is not installed: its sessions are refused".into());
    }
    if lan.nat && fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|on| on.trim() == "0") {
        say("nat needs net.ipv4.ip_forward = 1, as in: sysctl -w net.ipv4.ip_forward=1".into());
    }
    let is_local = |text: String| text.lines().any(|line| line.starts_with("nameserver 127."));
    if lan.nat && lan.dns.is_empty() && fs::read_to_string("/etc/resolv.conf").is_ok_and(is_local) {
        say("no dns, and the machine's own resolver listens on its loopback, where no member reaches it".into());
    }
    match &lan.bridge {
        Some(bridge) if !Path::new("/sys/class/net").join(bridge).join("bridge").exists() => {
            say(format!("there is no bridge {bridge}: its sessions are refused"));
        }
        Some(_) => {}
        None => {
            if let Some(link) = lan.subnet.route_into(routes, &format!("cplt-{name}")) {
                say(format!(
                    "its subnet {} overlaps the machine's route by {link}: its sessions are refused",
                    lan.subnet
                ));
            }
        }
    }
}

/// Whether the helper's setuid bit is without effect where it lies.
pub fn on_nosuid() -> bool {
    statvfs(&installed::helper()).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_NOSUID))
}

/// What is wrong with the subordinate ids of the users whom the policy names.
pub fn subordinate_ids(document: Option<&Document>) -> Vec<String> {
    let mut texts = Vec::new();
    for profile in document.iter().flat_map(|document| &document.profiles) {
        ids_of(profile, &mut texts);
    }
    texts
}

/// Profiles that need PAM where there is no stack for it: PAM would take `other`, and so the helper refuses.
fn pam(document: Option<&Document>, texts: &mut Vec<String>) {
    let needing = document.iter().flat_map(|document| &document.profiles).filter(|profile| profile.needs_pam());
    let names: Vec<&str> = needing.map(|profile| profile.name.as_str()).collect();
    if !names.is_empty() && !Path::new(PAM_SERVICE).exists() {
        let names = names.join(", ");
        texts.push(format!("{PAM_SERVICE} is missing: profiles that need PAM refuse everybody ({names})"));
    }
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

/// `caplet-shell` as a login shell: not the only way in. Whether it should be in `/etc/shells` is the doctor's to say.
fn login_shell(texts: &mut Vec<String>) {
    let shell = installed::login_shell();
    if !shell.exists() {
        return;
    }
    let name = shell.display().to_string();
    let accounts = nss::ask("getent", &["passwd"]).ok().flatten().unwrap_or_default();
    let shell_of = |user: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(user))?;
        line.rsplit(':').next().map(str::to_owned)
    };
    let has_users = accounts.lines().any(|line| line.rsplit(':').next() == Some(&name));
    let administrators: Vec<String> = ADMINISTRATORS.iter().flat_map(|group| nss::members(group)).collect();
    let other =
        |user: &String| shell_of(user).is_some_and(|s| s != name && !s.ends_with("nologin") && !s.ends_with("false"));
    if has_users && !administrators.is_empty() && !administrators.iter().any(other) {
        texts.push(format!(
            "every administrator has {name} as login shell: a faulty policy would lock all of them out; leave one with another shell"
        ));
    }
}

/// Users of a `subids` profile without a range, or with one that somebody else's overlaps: the helper refuses them.
fn ids_of(profile: &Profile, texts: &mut Vec<String>) {
    if !profile.subids || profile.user != UserMode::Root {
        return;
    }
    let named = |subjects: &[Subject]| -> Vec<String> {
        let name = |subject: &Subject| match subject {
            Subject::Name(name) => Some(name.clone()),
            _ => None,
        };
        subjects.iter().filter_map(name).collect()
    };
    let mut users = named(&profile.users);
    users.extend(named(&profile.groups).iter().flat_map(|group| nss::members(group)));
    users.sort();
    users.dedup();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        for user in &users {
            let Ok(caller) = nss::find(user) else { continue };
            let at = format!("profile \"{}\": {user}", profile.name);
            match Range::find(&text, user, caller.uid) {
                Ok(_) => {}
                Err(Unusable::Missing) => {
                    texts.push(format!("{at} has no range in {file}: usermod --add-subuids, --add-subgids"));
                }
                Err(Unusable::Overlaps { other, .. }) => {
                    texts.push(format!("{at}'s range in {file} overlaps the entry {other}"));
                }
            }
        }
    }
}
