//! The profile that would allow what was refused, in the policy's own words: for the administrator, who decides.

use super::advice::Advice;
use super::files::name_in;
use caplet_policy::capability::CapSet;
use caplet_policy::document::root_equivalents;
use caplet_policy::request::{Request, Start, is_profile_name};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Programs that run whatever they are told: as a profile's command they would be every command.
const ANY_CODE: [&str; 14] =
    ["sh", "bash", "dash", "zsh", "fish", "ksh", "env", "perl", "ruby", "node", "make", "sudo", "xargs", "busybox"];

/// A profile for one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proposal {
    pub name: String,
    pub user: String,
    pub host: bool,
    /// `user = "root"`.
    pub root: bool,
    pub host_network: bool,
    /// Held from the start.
    pub caps: CapSet,
    /// `caps` is said even if it is empty.
    pub caps_said: bool,
    pub may_add: CapSet,
    pub commands: Vec<String>,
}

impl Proposal {
    /// For the user who asked, named after the command.
    pub fn new(advice: &Advice<'_>) -> Self {
        Self { name: name(&advice.user, advice.request), user: advice.user.clone(), ..Self::default() }
    }

    /// Keys and values, as they stand in a profile's table.
    pub fn entries(&self) -> Vec<String> {
        let list = |set: CapSet| set.iter().map(|cap| text(cap.name())).collect::<Vec<_>>().join(", ");
        let mut entries = vec![format!("users = [{}]", text(&self.user))];
        let mut add = |said: bool, entry: String| entries.extend(said.then_some(entry));
        add(self.host, "scope = \"host\"".into());
        add(self.root, "user = \"root\"".into());
        add(self.host_network, "network = \"host\"".into());
        match self.caps_said && self.caps.is_empty() {
            true => add(true, "caps = [\"none\"]".into()),
            false => add(!self.caps.is_empty(), format!("caps = [{}]", list(self.caps))),
        }
        add(!self.may_add.is_empty(), format!("may_add = [{}]", list(self.may_add)));
        let commands = self.commands.iter().map(|path| text(path)).collect::<Vec<_>>().join(", ");
        add(!self.commands.is_empty(), format!("commands = [{commands}]"));
        add(!self.as_good_as_root().is_empty(), "accept_root_equivalent = true".into());
        entries
    }

    fn as_good_as_root(&self) -> CapSet {
        if self.host { root_equivalents(self.caps.union(self.may_add)) } else { CapSet::EMPTY }
    }

    /// What to send to whoever keeps the policy, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let roots = self.as_good_as_root();
        if !roots.is_empty() {
            lines.push(format!("{roots} on the machine itself is as good as root"));
        }
        lines.push(format!(
            "this would, as a file of policy.d: profile.{} = {{ {} }}",
            self.name,
            self.entries().join(", ")
        ));
        lines
    }
}

/// `alice-date`: a profile's name.
fn name(user: &str, request: &Request) -> String {
    let program = match &request.start {
        Start::Command(words) => words.first().and_then(|word| Path::new(word).file_name()),
        _ => None,
    };
    let whole = format!("{user}-{}", program.unwrap_or(OsStr::new("session")).to_string_lossy());
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '-' };
    let name: String = whole.chars().map(plain).take(64).collect();
    if is_profile_name(name.as_bytes()) { name } else { "new".into() }
}

/// The login name of whoever this is, or `#uid`.
pub fn user() -> String {
    let uid = nix::unistd::getuid().as_raw();
    name_in("/etc/passwd", uid).unwrap_or_else(|| format!("#{uid}"))
}

/// The file of the request's command, along PATH; `None` where it would be every command.
pub fn path_of(request: &Request) -> Option<String> {
    let Start::Command(words) = &request.start else { return None };
    let word = words.first()?;
    let program = Path::new(word).file_name()?.to_str()?;
    if ANY_CODE.contains(&program) || program.starts_with("python") {
        return None;
    }
    let found = |path: &Path| path.is_file().then(|| path.to_str().map(str::to_owned)).flatten();
    if word.as_bytes().contains(&b'/') {
        let whole = std::path::absolute(word).ok()?;
        return found(&whole);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).filter(|folder| folder.is_absolute()).find_map(|folder| found(&folder.join(word)))
}

/// A basic string of TOML: as one of JSON, but for DEL.
fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;
    use caplet_policy::capability::CapList;
    use caplet_policy::request::Verb;

    fn set(names: &str) -> CapSet {
        let mut list = CapList::default();
        list.add_text(names).expect("names");
        list.names
    }

    #[test]
    fn it_is_a_policy_without_a_fault() {
        let own = Proposal { name: "alice-x".into(), user: "alice".into(), ..Proposal::default() };
        for proposal in [
            Proposal { may_add: set("NET_ADMIN,SYS_ADMIN"), ..own.clone() },
            Proposal { root: true, caps_said: true, ..own.clone() },
            Proposal { host: true, caps: set("SYS_TIME"), commands: vec!["/usr/bin/date".into()], ..own.clone() },
            Proposal { host: true, caps: set("DAC_OVERRIDE"), user: "#1500".into(), ..own },
        ] {
            let line = proposal.lines().pop().expect("a line");
            let (_, line) = line.split_once("policy.d: ").expect("the profile");
            let table = format!("[profile.{}]\n{}\n", proposal.name, proposal.entries().join("\n"));
            for text in [line, &table] {
                let source = caplet_policy::document::Source { path: "x.toml".into(), text: text.to_owned() };
                let read = caplet_policy::document::Document::read(&[source]);
                assert!(read.is_ok(), "{text}: {read:?}");
            }
        }
    }

    #[test]
    fn names_and_paths_are_safe() {
        let of = |words: &[&str]| Request::new(Verb::Run, Start::Command(words.iter().map(Into::into).collect()));
        assert_eq!(name("alice", &of(&["/usr/bin/date", "-s"])), "alice-date");
        assert_eq!(name("#7", &of(&["a.b c"])), "-7-a-b-c");
        assert_eq!(path_of(&of(&["/usr/bin/env", "x"])), None);
        assert_eq!(path_of(&of(&["python3.11"])), None);
        assert_eq!(path_of(&of(&["/nowhere/x"])), None);
        assert_eq!(text("a\"b\u{7f}"), r#""a\"b\u007f""#);
    }
}
