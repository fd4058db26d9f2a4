//! `list`: the caller's own profiles, one line each in the form of the log, for the front end to show.

use crate::journal::Line;
use crate::trail::scope_name;
use caplet_policy::document::{Auth, Document, Home, Lan, Moment, Network, Profile, Seccomp, UserMode};
use caplet_policy::escape::log_command;
use caplet_policy::judge::lan_of;
use std::io::Write as _;

/// Writes the lines to standard output.
pub fn write(profiles: &[&Profile], policy: &Document) -> std::io::Result<()> {
    let mut text = String::new();
    for profile in profiles {
        text.push_str(&line(profile, lan_of(policy, profile)).text());
        text.push('\n');
    }
    if let Some(contact) = &policy.defaults.contact {
        text.push_str(&Line::new("contact").field("text", contact).text());
        text.push('\n');
    }
    std::io::stdout().write_all(text.as_bytes())
}

fn line(profile: &Profile, lan: Option<&Lan>) -> Line {
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    let may_add = if profile.may_add_all { "ALL".into() } else { profile.may_add.to_string() };
    let mut line = Line::new("profile")
        .field("name", &profile.name)
        .field("scope", scope_name(profile.scope))
        .field("user", if profile.user == UserMode::Root { "root" } else { "self" })
        .field("network", network_name(&profile.network))
        .field("network_kind", lan.map(|lan| lan.kind.word()).unwrap_or_default())
        .field(
            "home",
            match profile.home {
                Home::ReadWrite => "rw",
                Home::ReadOnly => "ro",
                Home::Tmpfs => "tmpfs",
            },
        )
        .field("login", yes_no(profile.login))
        .field("auth", if profile.auth == Auth::Password { "password" } else { "none" })
        .field("seccomp", if profile.seccomp == Seccomp::None { "none" } else { "default" })
        .field("privileged", yes_no(profile.privileged))
        .field("tasks", number(profile.cgroup.and_then(|c| c.tasks)))
        .field("memory", number(profile.cgroup.and_then(|c| c.memory)))
        .field("cpu", number(profile.cgroup.and_then(|c| c.cpu)))
        .field("tmp_size", number(profile.tmp_size))
        .field("until", profile.valid_until.map(until).unwrap_or_default())
        .field("caps", profile.starting_set().to_string())
        .field("may_add", may_add)
        .field("description", profile.description.as_deref().unwrap_or_default());
    for command in profile.commands.iter().flatten() {
        let mut words = vec![command.path.as_bytes()];
        words.extend(command.args.iter().flatten().map(String::as_bytes));
        line = line.field("command", log_command(&words, 4096));
    }
    line
}

/// Empty: no limit.
fn number(limit: Option<impl ToString>) -> String {
    limit.map(|limit| limit.to_string()).unwrap_or_default()
}

fn until(moment: Moment) -> String {
    match moment {
        Moment::Local(t) => {
            format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", t.year, t.month, t.day, t.hour, t.minute, t.second)
        }
        Moment::Unix(seconds) => until(Moment::Local(crate::sys::identity::local_time(seconds))),
    }
}

fn network_name(network: &Network) -> &str {
    match network {
        Network::Host => "host",
        Network::Private => "private",
        Network::Named(name) => name,
    }
}
