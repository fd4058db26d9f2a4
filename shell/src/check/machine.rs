//! What of the machine around an installed policy would surprise its administrator: mounts, shells, subordinate ids.

use super::{nss, ownership};
use crate::installed;
use crate::messages::Trouble;
use caplet_policy::document::{Document, Kind, Lan, Profile, Scope, Subject, UserMode};
use caplet_policy::subids::{OWNERS, Range, Unusable, reach_owners};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs;
use std::io::ErrorKind;
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
    texts.extend(document.into_iter().flat_map(hidden));
    texts.extend(document.and_then(homes));
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
    if lan.kind == Kind::Outgoing {
        return outgoing(lan, routes, &mut say);
    }
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

/// The same for one that needs nothing of the machine's but passt(1) and the kernel's tun.
fn outgoing(lan: &Lan, routes: &str, say: &mut dyn FnMut(String)) {
    let passt = Path::new("/usr/bin/passt");
    match fs::canonicalize(passt) {
        Err(_) => say("the package passt is not installed: its sessions are refused".into()),
        Ok(file) => {
            if file.ancestors().any(|path| ownership::look(path, path != file).is_some()) {
                say("/usr/bin/passt is not root's alone to write: its sessions are refused".into());
            }
        }
    }
    if !Path::new("/dev/net/tun").exists() {
        say("/dev/net/tun is not there: its sessions are refused".into());
    }
    if let Some(link) = lan.subnet.route_into(routes, "") {
        say(format!(
            "its subnet {} overlaps the machine's route by {link}: what has the same addresses there as the gateway and the \
             name server here is not reached",
            lan.subnet
        ));
    }
}

/// Whether the helper's setuid bit is without effect where it lies.
pub fn on_nosuid() -> bool {
    statvfs(&installed::helper()).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_NOSUID))
}

/// What is wrong with the subordinate ids of the users whom the policy names, and with those of others.
pub fn subordinate_ids(document: Option<&Document>) -> Vec<String> {
    let mut texts = Vec::new();
    let is_isolated = |profile: &Profile| profile.scope == Scope::Isolated;
    if document.is_some_and(|document| document.profiles.iter().any(is_isolated)) {
        let read = |path: &str| match fs::read_to_string(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("{path}: {error}")),
            text => Ok(text.unwrap_or_default()),
        };
        let why = match (read("/etc/subuid"), read("/etc/nsswitch.conf")) {
            (Ok(subuid), Ok(nsswitch)) => reach_owners(&subuid, &nsswitch),
            (Err(why), _) | (_, Err(why)) => Some(why),
        };
        texts.extend(why.map(|why| {
            format!(
                "ids from {OWNERS} on may be somebody's ({why}): watches and namespaces of all sessions are counted as root's, \
                 together; where subordinate ids end below it, each user's are counted alone"
            )
        }));
    }
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

/// What is to be hidden and is not there: who has a session by the time it is made will see it.
fn hidden(document: &Document) -> Vec<String> {
    let mut paths: Vec<&String> = document.profiles.iter().flat_map(|profile| &profile.hide).collect();
    paths.sort();
    paths.dedup();
    let is_missing = |path: &&String| fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound);
    let missing = paths.into_iter().filter(is_missing);
    missing
        .map(|path| format!("hide: {path} is not there: sessions that begin before it is made will see it"))
        .collect()
}

/// Homes that sessions of others show: an isolated one lays over `/home`, `/root` and the folder that its own home is in.
fn homes(document: &Document) -> Option<String> {
    if document.profiles.iter().all(|profile| profile.scope == Scope::Host) {
        return None;
    }
    let accounts = nss::ask("getent", &["passwd"]).ok().flatten()?;
    let (folders, all) = folders_of_homes(&accounts);
    let hides = |folder: &str, path: &String| Path::new(folder).starts_with(path);
    let is_hidden = |folder: &str| document.profiles.iter().any(|p| p.hide.iter().any(|path| hides(folder, path)));
    let open: Vec<&str> =
        folders.iter().map(String::as_str).filter(|folder| Path::new(folder).is_dir() && !is_hidden(folder)).collect();
    // One folder of everybody's is laid over in each session, but for those that hold more than homes.
    let is_seen = all > 1 || open.iter().any(|folder| SHARED.contains(folder));
    (!open.is_empty() && is_seen).then(|| {
        let open = open.join(", ");
        format!("homes are also in {open}: isolated sessions of people with a home elsewhere see them, where hide does not name them")
    })
}

/// Folders that no session lays over, though homes may be in them: the likelier ones of the helper's list.
const SHARED: [&str; 5] = ["/srv", "/opt", "/mnt", "/media", "/var"];
/// login.defs(5): from here on accounts are people's; the last one is `nobody`.
const PEOPLE: std::ops::Range<u32> = 1000..65_534;

/// The folders of people's homes but `/home`, and how many there are with it.
fn folders_of_homes(accounts: &str) -> (Vec<String>, usize) {
    let folder = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_person = fields.get(2)?.parse().is_ok_and(|uid| PEOPLE.contains(&uid));
        let home = Path::new(fields.get(5)?);
        let folder = if home.starts_with("/home") { Path::new("/home") } else { home.parent()? };
        (is_person && home.is_absolute() && folder != Path::new("/")).then(|| folder.display().to_string())
    };
    let mut folders: Vec<String> = accounts.lines().filter_map(folder).collect();
    folders.sort();
    folders.dedup();
    let all = folders.len();
    folders.retain(|folder| folder != "/home");
    (folders, all)
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
    let has_users = accounts.lines().any(|line| line.rsplit(':').next().is_some_and(installed::is_login_shell));
    let administrators: Vec<String> = ADMINISTRATORS.iter().flat_map(|group| nss::members(group)).collect();
    let other = |user: &String| {
        shell_of(user)
            .is_some_and(|s| !installed::is_login_shell(&s) && !s.ends_with("nologin") && !s.ends_with("false"))
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_where_people_have_them() {
        let accounts = "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/var/www:/bin/false\nnobody:x:65534:65534::/:/bin/false\n\
                        a:x:1000:100::/home/a:/bin/sh\nb:x:1001:100::/home/new/b:/bin/sh\nodd:x:1002\n\
                        c:x:1003:100::/srv/staff/c:/bin/sh\nd:x:1004:100::/srv/staff/d:/bin/sh\ne:x:1005:100::relative:/x\n";
        assert_eq!(folders_of_homes(accounts), (vec!["/srv/staff".into()], 2));
        assert_eq!(folders_of_homes("a:x:1000:100::/homes/a:/bin/sh\n"), (vec!["/homes".into()], 1));
        assert_eq!(folders_of_homes("a:x:1000:100::/a:/bin/sh\n"), (vec![], 0));
    }
}
