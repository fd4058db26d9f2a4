//! The keys of a profile and of `[defaults]`: which there are, where each may stand, what each sets.

use super::faults::{Complaint, Sink, quoted};
use super::fields::Field;
use super::{Auth, Defaults, Home, Profile, Scope, Seccomp, UserMode, Why, amounts, network, values};
use crate::capability::CapSet;
use toml::de::DeTable;

#[rustfmt::skip]
const EITHER_SCOPE: [&str; 24] = [
    "description", "users", "groups", "not_users", "not_groups", "machines", "scope", "caps", "may_add", "auth",
    "auth_cache_minutes", "pam_account", "pam_session", "valid_from", "valid_until", "limits", "cgroup", "umask",
    "env_keep", "env_set", "shell", "groups_keep", "max_sessions", "max_lifetime",
];
#[rustfmt::skip]
const ISOLATED: [&str; 16] = [
    "login", "user", "network", "home", "tmp_size", "writable", "hide", "devices", "hostname", "subids",
    "time_namespace", "nested_userns", "seccomp", "privileged", "linger", "why",
];
const HOST: [&str; 4] = ["commands", "home_keep", "no_new_privs", "accept_root_equivalent"];
#[rustfmt::skip]
const DEFAULTS: [&str; 9] = [
    "contact", "log", "limits", "umask", "env_keep", "env_set", "hide", "pam_account", "auth_cache_minutes",
];

/// Reads the table of a profile, with what `[defaults]` says before it. Faults between keys are `check`'s.
pub(super) fn read(sink: &mut Sink, name: &str, table: &DeTable<'_>, defaults: &DeTable<'_>) -> Profile {
    let mut scope = Some(Scope::Isolated);
    if let Some(value) = table.get("scope") {
        let mut field = Field::new(sink, "scope", value);
        scope = field.choice(&[("isolated", Scope::Isolated), ("host", Scope::Host)]);
    }
    let mut profile = Profile::new(name, scope.unwrap_or(Scope::Isolated));
    for (key, value) in defaults {
        let key = key.get_ref().as_ref();
        // their faults were complained of where they stand
        let sink = &mut Sink::default();
        if DEFAULTS.contains(&key) && !(key == "hide" && profile.scope == Scope::Host) {
            set(&mut profile, Field::new(sink, key, value));
        }
    }
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let (isolated, host) = (ISOLATED.contains(&name), HOST.contains(&name));
        let complaint = match scope {
            _ if EITHER_SCOPE.contains(&name) => None,
            Some(Scope::Isolated) if host => {
                Some(Complaint::new(format!("{name} is for host profiles")).help("scope = \"host\" makes this one"))
            }
            Some(Scope::Host) if isolated => Some(Complaint::new(format!("{name} is for isolated profiles"))),
            _ if isolated || host => None,
            _ if DEFAULTS.contains(&name) => Some(Complaint::new(format!("{name} belongs in [defaults]"))),
            _ => Some(unknown(name).near(name, EITHER_SCOPE.into_iter().chain(ISOLATED).chain(HOST))),
        };
        match complaint {
            Some(complaint) => sink.fault(key.span(), complaint),
            None => set(&mut profile, Field::new(sink, name, value)),
        }
    }
    profile
}

/// Reads the table of `[defaults]`; what it says for profiles is only checked.
pub(super) fn read_defaults(sink: &mut Sink, table: &DeTable<'_>) -> Defaults {
    let mut defaults = Defaults::default();
    let mut scratch = Profile::new("", Scope::Isolated);
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let mut field = Field::new(sink, name, value);
        match name {
            "contact" => defaults.contact = field.text(values::one_line),
            "log" => defaults.log_required = field.choice(&[("best-effort", false), ("required", true)]) == Some(true),
            _ if DEFAULTS.contains(&name) => set(&mut scratch, field),
            _ if is_key(name) => {
                let complaint = Complaint::new(format!("{name} cannot stand in [defaults]"));
                sink.fault(key.span(), complaint.help("it belongs in a [profile.NAME]"));
            }
            _ => sink.fault(key.span(), unknown(name).near(name, DEFAULTS)),
        }
    }
    defaults
}

/// Every key there is, for the manual page: of every profile, of isolated ones, of host ones, of `[defaults]`.
#[cfg(feature = "render")]
pub const KEYS: [&[&str]; 4] = [&EITHER_SCOPE, &ISOLATED, &HOST, &DEFAULTS];

/// Whether this is a key of profiles.
pub(super) fn is_key(name: &str) -> bool {
    EITHER_SCOPE.contains(&name) || ISOLATED.contains(&name) || HOST.contains(&name)
}

pub(super) fn unknown(key: &str) -> Complaint {
    Complaint::new(format!("unknown key {}", quoted(key)))
}

fn put<T>(into: &mut T, from: Option<T>) {
    if let Some(value) = from {
        *into = value;
    }
}

fn set(p: &mut Profile, mut f: Field<'_>) {
    match f.key {
        "description" => p.description = f.text(values::one_line),
        "users" => p.users = f.list(values::user),
        "groups" => p.groups = f.list(values::subject),
        "not_users" => p.not_users = f.list(values::subject),
        "not_groups" => p.not_groups = f.list(values::subject),
        "machines" => p.machines = f.list(values::machine),
        "caps" => {
            let alone = f.len() == 1;
            let mut caps = CapSet::EMPTY;
            f.each(|text| {
                let set = values::starting(text)?;
                caps = caps.union(set);
                let none = set.is_empty() && !alone;
                if none { Err(Complaint::new("\"none\" stands alone")) } else { Ok(()) }
            });
            p.caps = Some(caps);
        }
        "may_add" => f.each(|text| {
            match values::is_all(text) {
                true => p.may_add_all = true,
                false => p.may_add = p.may_add.union(values::addable(text)?),
            }
            Ok(())
        }),
        "auth" => {
            let ways = [("none", Auth::None), ("password", Auth::Password)];
            put(&mut p.auth, f.choice(&ways));
        }
        "auth_cache_minutes" => put(&mut p.auth_cache_minutes, f.number(0)),
        "pam_account" => put(&mut p.pam_account, f.boolean()),
        "pam_session" => put(&mut p.pam_session, f.boolean()),
        "valid_from" => p.valid_from = f.moment(false),
        "valid_until" => p.valid_until = f.moment(true),
        "limits" => p.limits = f.limits(),
        "cgroup" => p.cgroup = f.cgroup(),
        "umask" => p.umask = f.text(values::umask),
        "env_keep" => p.env_keep = f.list(values::kept_variable),
        "env_set" => p.env_set = f.variables(),
        "shell" => p.shell = f.text(values::path),
        "groups_keep" => put(&mut p.groups_keep, f.groups_keep()),
        "max_sessions" => put(&mut p.max_sessions, f.number(1)),
        "max_lifetime" => p.max_lifetime = f.number(1),
        "login" => put(&mut p.login, f.boolean()),
        "user" => {
            let users = [("self", UserMode::Own), ("root", UserMode::Root)];
            put(&mut p.user, f.choice(&users));
        }
        "network" => {
            put(&mut p.network, f.text(network::of_profile));
        }
        "home" => {
            let homes = [("rw", Home::ReadWrite), ("ro", Home::ReadOnly), ("tmpfs", Home::Tmpfs)];
            put(&mut p.home, f.choice(&homes));
        }
        "tmp_size" => p.tmp_size = f.text(amounts::files),
        "writable" => p.writable = f.list(values::path),
        "hide" => {
            p.hide.extend(f.list(values::path));
            p.hide.sort();
            p.hide.dedup();
        }
        "devices" => p.devices = f.list(values::path),
        "hostname" => p.hostname = f.text(values::hostname),
        "subids" => put(&mut p.subids, f.boolean()),
        "time_namespace" => put(&mut p.time_namespace, f.boolean()),
        "nested_userns" => put(&mut p.nested_userns, f.boolean()),
        "seccomp" => {
            let filters = [("default", Seccomp::Default), ("none", Seccomp::None)];
            put(&mut p.seccomp, f.choice(&filters));
        }
        "privileged" => put(&mut p.privileged, f.boolean()),
        "linger" => put(&mut p.linger, f.boolean()),
        "why" => put(&mut p.why, f.choice(&[("rules", Why::Rules), ("trace", Why::Trace)])),
        "commands" => p.commands = f.commands(),
        "home_keep" => put(&mut p.home_keep, f.boolean()),
        "no_new_privs" => put(&mut p.no_new_privs, f.boolean()),
        "accept_root_equivalent" => put(&mut p.accept_root_equivalent, f.boolean()),
        // "scope": read before all others, since it says which of them may stand here
        _ => (),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use toml::de::DeValue;

    #[test]
    fn every_key_is_read() {
        // no key takes a number with a point
        let value = DeValue::parse("1.5").unwrap();
        for key in EITHER_SCOPE.into_iter().chain(ISOLATED).chain(HOST).filter(|key| *key != "scope") {
            let mut sink = Sink::default();
            set(&mut Profile::new("p", Scope::Host), Field::new(&mut sink, key, &value));
            assert!(sink.has_fault(&(0..1), false), "{key}");
        }
        let kept = |key: &&str| is_key(key) || ["contact", "log"].contains(key);
        assert!(DEFAULTS.iter().all(kept));
    }
}
