//! The page that `caplet list` prints: 80 columns, for a person.

use super::{Line, Own};
use crate::columns::{COLUMNS, INDENT, put};
use crate::quoting;
use caplet_policy::capability::{CapList, CapSet, Capability};
use caplet_policy::document::Scope;
use caplet_policy::escape::for_terminal;
use caplet_policy::handbook::{Degree, entry};
use std::fmt::Write;

/// What an example adds, if it may.
const SOUGHT: [&str; 4] = ["NET_ADMIN", "SYS_PTRACE", "SYS_ADMIN", "NET_RAW"];

/// All profiles, a blank line between them.
pub fn render(own: &Own) -> String {
    let mut page = String::new();
    for line in &own.profiles {
        if !page.is_empty() {
            page.push('\n');
        }
        profile(&mut page, line);
    }
    if let Some(contact) = &own.contact {
        page.push('\n');
        put(&mut page, "More? Ask: ", &for_terminal(contact.as_bytes()));
    }
    page
}

/// A set in few words: `Docker's 14 and NET_ADMIN`.
pub fn describe(set: CapSet) -> String {
    for (known, name) in [(CapSet::DOCKER, "Docker's 14"), (CapSet::PODMAN, "Podman's 11")] {
        if set == known {
            return name.to_owned();
        }
        if set != CapSet::KNOWN && set.contains_all(known) {
            return format!("{name} and {}", listed(set.minus(known)));
        }
    }
    match set {
        CapSet::EMPTY => "no capability".to_owned(),
        CapSet::KNOWN => "every capability".to_owned(),
        _ => listed(set),
    }
}

fn listed(set: CapSet) -> String {
    set.iter().map(Capability::name).collect::<Vec<_>>().join(", ")
}

fn profile(page: &mut String, line: &Line) {
    put(page, &format!("{:<INDENT$}", format!("{} ", line.name)), &kind(line));
    if let Some(description) = &line.description {
        put(page, "  for       ", &for_terminal(description.as_bytes()));
    }
    put(page, "  holds     ", &describe(line.caps));
    put(page, "  may add   ", &addable(line));
    for (n, command) in line.commands.iter().enumerate() {
        put(page, if n == 0 { "  commands  " } else { "" }, &quoting::command_line(command));
    }
    if let Some(until) = &line.until {
        put(page, "  until     ", &for_terminal(until.as_bytes()));
    }
    if let Some(limits) = line.limits.words() {
        put(page, "  limits    ", &limits);
    }
    // Not wrapped: it is there to be copied.
    let _ = writeln!(page, "  try       {}", example(line));
}

/// What kind of session it is.
fn kind(line: &Line) -> String {
    let named = match line.network_kind.as_deref() {
        Some("outgoing") => format!("own network with a way out (\"{}\")", line.network),
        _ => format!("network \"{}\" with others", line.network),
    };
    let mut words = Vec::new();
    if line.scope() == Scope::Host {
        words.push("host: real capabilities on this machine");
    } else {
        words.push("isolated");
        words.push(if line.user == "root" { "you are root inside" } else { "you stay who you are" });
        words.push(match line.network.as_str() {
            "host" => "the machine's network",
            "private" => "own network",
            _ => &named,
        });
        match line.home.as_str() {
            "ro" => words.push("home is read-only"),
            "tmpfs" => words.push("home is empty and forgotten at the end"),
            _ => {}
        }
    }
    if line.login {
        words.push("also at login");
    }
    if line.auth == "password" {
        words.push("asks for your password");
    }
    words.join(", ")
}

fn addable(line: &Line) -> String {
    let CapList { all, names } = line.may_add;
    let mut text = match (all, names.is_empty()) {
        (true, _) => "every capability".to_owned(),
        (false, true) => "nothing".to_owned(),
        (false, false) => describe(names),
    };
    if line.privileged {
        text = if names.is_empty() && !all {
            "every capability, by --privileged".to_owned()
        } else {
            format!("{text}; or --privileged")
        };
    }
    text
}

/// A line to type: the best that this profile has to offer.
fn example(line: &Line) -> String {
    let name = &line.name;
    if let Some(command) = line.commands.first() {
        let mut words: Vec<&str> = vec!["caplet", "run", "-p", name];
        words.extend(command.iter().map(String::as_str));
        // The name alone finds the same file where it lies in everybody's PATH.
        if let Some(path) = words.get_mut(4) {
            let path_of_all = ["/usr/bin/", "/bin/"].iter().find_map(|folder| path.strip_prefix(folder));
            *path = path_of_all.filter(|rest| !rest.contains('/')).unwrap_or(path);
        }
        return quoting::command_line(&words);
    }
    let offered = if line.may_add.all { CapSet::KNOWN } else { line.may_add.names };
    let useful = |cap: &Capability| !line.caps.contains(*cap) && line.can_use(*cap);
    // What people come for first, else the first there is.
    let best = offered.iter().filter(useful).min_by_key(|cap| {
        let place = SOUGHT.iter().position(|name| *name == cap.name());
        (place.unwrap_or(SOUGHT.len()), *cap)
    });
    let Some(cap) = best else {
        return format!("caplet shell -p {name}");
    };
    let start = format!("-p {name} --cap-add {cap}");
    let with_command = format!("caplet run {start} ip link set lo mtu 1400");
    if cap.name() == "NET_ADMIN" && line.scope() == Scope::Isolated && INDENT + with_command.len() <= COLUMNS {
        with_command
    } else {
        format!("caplet shell {start}")
    }
}

impl Line {
    /// Whether the capability can do anything in this kind of session.
    fn can_use(&self, cap: Capability) -> bool {
        let network = self.network == "host" && cap.name().starts_with("NET_");
        self.scope() == Scope::Host || (entry(cap).userns != Degree::None && !network)
    }

    fn scope(&self) -> Scope {
        if self.scope == "host" { Scope::Host } else { Scope::Isolated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(names: &str) -> CapSet {
        let mut list = CapList::default();
        list.add_text(names).expect("names");
        list.names
    }

    #[test]
    fn sets_in_few_words() {
        for (set, words) in [
            (CapSet::EMPTY, "no capability"),
            (CapSet::KNOWN, "every capability"),
            (CapSet::DOCKER, "Docker's 14"),
            (CapSet::PODMAN, "Podman's 11"),
            (CapSet::DOCKER.union(caps("NET_ADMIN")), "Docker's 14 and NET_ADMIN"),
            (caps("NET_RAW,KILL"), "KILL, NET_RAW"),
        ] {
            assert_eq!(describe(set), words);
        }
    }

    #[test]
    fn a_profile_is_shown_with_what_it_offers() {
        let own = Own {
            profiles: vec![Line {
                name: "netlab".into(),
                description: Some(
                    "Networks course: routes, bridges, firewalls in a network of your own, room 3".into(),
                ),
                scope: "isolated".into(),
                user: "root".into(),
                network: "private".into(),
                home: "rw".into(),
                until: Some("2027-02-15 23:59:59".into()),
                limits: crate::listing::Limits { tasks: Some(200), ..Default::default() },
                caps: CapSet::DOCKER,
                may_add: CapList { all: false, names: caps("NET_ADMIN,SYS_PTRACE") },
                ..Line::default()
            }],
            contact: Some("lab-admin@example.edu, room 2.14".into()),
        };
        assert_eq!(
            render(&own),
            "\
netlab      isolated, you are root inside, own network
  for       Networks course: routes, bridges, firewalls in a network of your
            own, room 3
  holds     Docker's 14
  may add   NET_ADMIN, SYS_PTRACE
  until     2027-02-15 23:59:59
  limits    200 processes and threads
  try       caplet run -p netlab --cap-add NET_ADMIN ip link set lo mtu 1400

More? Ask: lab-admin@example.edu, room 2.14
"
        );
    }

    #[test]
    fn a_host_profile_is_tried_with_its_own_command() {
        let mut line = Line {
            name: "clock".into(),
            scope: "host".into(),
            auth: "password".into(),
            caps: caps("SYS_TIME"),
            commands: vec![vec!["/usr/bin/date".into()], vec!["/usr/sbin/hwclock".into(), "--systohc".into()]],
            ..Line::default()
        };
        let mut page = String::new();
        profile(&mut page, &line);
        assert_eq!(
            page,
            "\
clock       host: real capabilities on this machine, asks for your password
  holds     SYS_TIME
  may add   nothing
  commands  /usr/bin/date
            /usr/sbin/hwclock --systohc
  try       caplet run -p clock date
"
        );
        line.commands.clear();
        line.may_add.names = caps("SYS_NICE");
        assert_eq!(example(&line), "caplet shell -p clock --cap-add SYS_NICE");
    }

    #[test]
    fn nothing_is_wider_than_80_columns() {
        let mut page = String::new();
        for text in ["word ".repeat(60), "größe ".repeat(60)] {
            put(&mut page, "  for       ", &text);
            put(&mut page, &format!("{} ", "n".repeat(64)), &text);
        }
        assert!(page.lines().all(|line| line.chars().count() <= COLUMNS), "{page}");
    }

    #[test]
    fn an_example_offers_nothing_that_cannot_work() {
        let line = Line {
            name: "x".into(),
            scope: "isolated".into(),
            may_add: CapList { all: false, names: caps("SYS_TIME,SYS_PTRACE") },
            ..Line::default()
        };
        assert_eq!(example(&line), "caplet shell -p x --cap-add SYS_PTRACE");
    }
}
