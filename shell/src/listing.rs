//! `caplet list`: the helper's lines about the caller's own profiles, read; `page` shows them to a person.

mod limits;
mod page;

use crate::front::ask_helper;
use crate::installed::session_profile;
use crate::messages::{self, NO, Trouble, tell};
use caplet_policy::capability::{CapList, CapSet};
use caplet_policy::escape::{parse_log_command, parse_log_line};
use caplet_policy::request::{Request, Start, Verb};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, Stdio};

pub use limits::Limits;
pub use page::describe;

/// What the helper says about the caller.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub profiles: Vec<Line>,
    pub contact: Option<String>,
}

/// One profile, as its line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    description: Option<String>,
    pub scope: String,
    pub user: String,
    pub network: String,
    /// `bridge` or `outgoing`, where the network is one of the policy's.
    network_kind: Option<String>,
    home: String,
    login: bool,
    auth: String,
    privileged: bool,
    seccomp: String,
    until: Option<String>,
    limits: Limits,
    pub caps: CapSet,
    pub may_add: CapList,
    commands: Vec<Vec<String>>,
}

/// Shows the caller's profiles; exit code 1 if there is none.
pub fn show(json: bool, policy: Option<OsString>) -> ExitCode {
    match ask(policy) {
        Ok(Some(own)) => {
            let none = own.profiles.is_empty();
            let code = if json {
                messages::print(&messages::json(&format!("{:#}", own.to_json())), NO)
            } else if none {
                tell(&Trouble::NoProfile);
                if let Some(contact) = own.contact {
                    tell(&Trouble::Contact(contact));
                }
                NO.into()
            } else {
                messages::print(&page::render(&own), NO)
            };
            if none { NO.into() } else { code }
        }
        // The helper has said why.
        Ok(None) => NO.into(),
        Err(trouble) => {
            tell(&trouble);
            NO.into()
        }
    }
}

/// `None`: the helper has said why not.
pub fn ask(policy: Option<OsString>) -> Result<Option<Own>, Trouble> {
    if let Some(profile) = session_profile() {
        return Err(Trouble::ListInside { profile });
    }
    let mut request = Request::new(Verb::List, Start::Shell);
    request.policy = policy;
    let answer = ask_helper(&request.encode(), |command| {
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
    })?;
    if let Some(signal) = answer.status.signal() {
        return Err(Trouble::HelperKilled { undone: "no list", signal });
    }
    if answer.status.code().is_some_and(|code| code > 1) {
        return Ok(None);
    }
    let text = String::from_utf8(answer.stdout).map_err(|_| Trouble::HelperUnclear)?;
    Own::read(&text).map(Some).ok_or(Trouble::HelperUnclear)
}

impl Own {
    /// `None` if a line is not what the helper of this version writes. A key that is not known here is passed over.
    fn read(text: &str) -> Option<Self> {
        let mut own = Self::default();
        for line in text.lines() {
            let (event, fields) = parse_log_line(line)?;
            let fields = fields.into_iter().map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned()));
            match event.as_str() {
                "profile" => own.profiles.push(Line::read(fields)?),
                "contact" => own.contact = fields.into_iter().find(|(key, _)| key == "text").map(|(_, text)| text),
                _ => return None,
            }
        }
        Some(own)
    }

    fn to_json(&self) -> Value {
        json!({
            "contact": self.contact,
            "profiles": self.profiles.iter().map(Line::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Line {
    fn read(fields: impl Iterator<Item = (String, String)>) -> Option<Self> {
        let mut line = Self::default();
        for (key, value) in fields {
            match key.as_str() {
                "name" => line.name = value,
                "description" => line.description = some(value),
                "scope" => line.scope = value,
                "user" => line.user = value,
                "network" => line.network = value,
                "network_kind" => line.network_kind = some(value),
                "home" => line.home = value,
                "login" => line.login = yes(&value)?,
                "auth" => line.auth = value,
                "seccomp" => line.seccomp = value,
                "privileged" => line.privileged = yes(&value)?,
                "until" => line.until = some(value),
                "tasks" => line.limits.tasks = number(&value)?,
                "memory" => line.limits.memory = number(&value)?,
                "cpu" => line.limits.cpu = number(&value)?,
                "tmp_size" => line.limits.tmp_size = number(&value)?,
                "caps" => line.caps = capabilities(&value)?.names,
                "may_add" => line.may_add = capabilities(&value)?,
                "command" => line.commands.push(command(&value)?),
                _ => {}
            }
        }
        (!line.name.is_empty() && !line.scope.is_empty()).then_some(line)
    }

    fn to_json(&self) -> Value {
        let mut may_add = names(self.may_add.names);
        if self.may_add.all {
            may_add.insert(0, "ALL");
        }
        let mut object = json!({
            "name": self.name,
            "description": self.description,
            "scope": self.scope,
            "login": self.login,
            "auth": self.auth,
            "valid_until": self.until,
            "cgroup": {"tasks": self.limits.tasks, "memory": self.limits.memory, "cpu": self.limits.cpu},
            "caps": names(self.caps),
            "may_add": may_add,
        });
        let more = if self.scope == "host" {
            [("commands", json!(self.commands))].to_vec()
        } else {
            [
                ("user", json!(self.user)),
                ("network", json!(self.network)),
                ("network_kind", json!(self.network_kind)),
                ("home", json!(self.home)),
                ("tmp_size", json!(self.limits.tmp_size)),
                ("privileged", json!(self.privileged)),
                ("seccomp", json!(self.seccomp)),
            ]
            .to_vec()
        };
        for (key, value) in more {
            object[key] = value;
        }
        object
    }
}

fn names(set: CapSet) -> Vec<&'static str> {
    set.iter().map(|cap| cap.name()).collect()
}

fn some(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

/// `None` within: no limit.
fn number(value: &str) -> Option<Option<u64>> {
    if value.is_empty() { Some(None) } else { value.parse().ok().map(Some) }
}

fn yes(value: &str) -> Option<bool> {
    match value {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn capabilities(names: &str) -> Option<CapList> {
    let mut list = CapList::default();
    if !names.is_empty() {
        list.add_text(names).ok()?;
    }
    Some(list)
}

fn command(value: &str) -> Option<Vec<String>> {
    let words = parse_log_command(value.as_bytes())?;
    Some(words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_the_helpers_is_not_guessed_at() {
        for bad in [
            "nonsense",
            "profile",
            "profile name=x",
            "profile name=x scope=isolated login=maybe",
            "profile name=x scope=isolated caps=WHATEVER",
            "profile name=x scope=isolated memory=1G",
            "other name=x scope=isolated",
        ] {
            assert_eq!(Own::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_helpers_lines_are_read() {
        let text = "profile name=clock scope=host login=no auth=password privileged=no until= caps=SYS_TIME may_add= \
                    description=\"say \\\"hi\\\"\" command=/usr/bin/date command=\"/usr/sbin/hwclock --systohc\" new=1\n\
                    contact text=\"room 2.14\"\n";
        let own = Own::read(text).expect("good lines");
        assert_eq!(own.contact.as_deref(), Some("room 2.14"));
        let line = &own.profiles[0];
        assert_eq!(line.description.as_deref(), Some("say \"hi\""));
        assert_eq!(line.caps.to_string(), "SYS_TIME");
        assert_eq!(line.commands, [vec!["/usr/bin/date"], vec!["/usr/sbin/hwclock", "--systohc"]]);
        assert_eq!(line.until, None);
    }

    #[test]
    fn nothing_from_the_helper_means_no_profile() {
        assert_eq!(Own::read(""), Some(Own::default()));
    }
}
