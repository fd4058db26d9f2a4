//! What NSS knows of users and groups, asked through getent(1) and id(1): this program is static and loads no module.

use crate::messages::Trouble;
use caplet_policy::judge::{Caller, Group};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A login name, or `#uid`.
pub fn find(user: &str) -> Result<Caller, Trouble> {
    let none = || Trouble::NoUser(user.into());
    let key = user.strip_prefix('#').unwrap_or(user);
    let by_number = user.starts_with('#');
    if key.is_empty() || (by_number && !key.bytes().all(|b| b.is_ascii_digit())) {
        return Err(none());
    }
    let entry = ask("getent", &["passwd", key])?.ok_or_else(none)?;
    let mut fields = entry.lines().next().unwrap_or_default().split(':');
    let (name, uid) = (fields.next().unwrap_or_default(), fields.nth(1).and_then(|uid| uid.parse().ok()));
    let Some(uid) = uid.filter(|_| by_number || name == key) else {
        return Err(none());
    };
    let ids = ask("id", &["-G", "--", name])?.ok_or_else(none)?;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    let known = ask("getent", &[&["group"][..], &ids].concat())?.unwrap_or_default();
    let named = |gid: &str| {
        let of_it = |line: &&str| line.split(':').nth(2) == Some(gid);
        known.lines().find(of_it).and_then(|line| line.split(':').next()).map(str::to_owned)
    };
    let groups = ids.iter().filter_map(|gid| Some(Group { gid: gid.parse().ok()?, name: named(gid) })).collect();
    Ok(Caller { uid, name: name.to_owned(), groups })
}

/// What the program says; `None` where it knows nothing of the kind.
pub fn ask(program: &str, words: &[&str]) -> Result<Option<String>, Trouble> {
    let path = PathBuf::from("/usr/bin").join(program);
    let out = Command::new(&path).args(words).env_clear().env("LC_ALL", "C").stderr(Stdio::null()).output();
    let out = out.map_err(|error| Trouble::Unreadable { path: path.into(), error })?;
    // getent(1) ends with 2 also where only one of several keys is unknown.
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok((!text.trim().is_empty()).then_some(text))
}

/// The members that a group's entry names.
pub fn members(group: &str) -> Vec<String> {
    let entry = ask("getent", &["group", group]).ok().flatten().unwrap_or_default();
    let names = entry.lines().next().and_then(|line| line.rsplit(':').next()).unwrap_or_default();
    names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}
