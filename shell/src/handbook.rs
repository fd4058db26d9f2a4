//! `caplet caps`: the capability handbook, as a table and one by one. The facts are the policy crate's.

use crate::columns::{COLUMNS, put};
use crate::messages::{self, NO};
use caplet_policy::capability::{CapSet, Capability};
use caplet_policy::document::root_equivalents;
use caplet_policy::handbook::{Degree, Entry, entry};
use caplet_policy::syscalls;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::process::ExitCode;

/// Shows those, or the table of all where none is named.
pub fn show(names: CapSet, json: bool) -> ExitCode {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !std::io::stdout().is_terminal();
    let text = match (json, names.is_empty()) {
        (true, true) => to_json(CapSet::KNOWN),
        (true, false) => to_json(names),
        (false, true) => table(!plain),
        (false, false) => names.iter().map(|cap| page(cap, !plain)).collect::<Vec<_>>().join("\n"),
    };
    messages::print(&text, NO)
}

/// Bold, where a terminal shows it.
fn bold(text: &str, colours: bool) -> String {
    if colours { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

fn word(degree: Degree, words: [&'static str; 3]) -> &'static str {
    match degree {
        Degree::Full => words[0],
        Degree::Partial => words[1],
        Degree::None => words[2],
    }
}

/// As the policy treats it: what reads every secret counts whole.
fn as_root(cap: Capability) -> Degree {
    let whole = !root_equivalents(CapSet::EMPTY.with(cap)).is_empty();
    if whole { Degree::Full } else { entry(cap).root_equivalent }
}

/// A line each.
fn table(colours: bool) -> String {
    let head = format!("{:<19}{:<10}{:<9}{:<8}{}", "CAPABILITY", "ISOLATED", "AS ROOT", "DOCKER", "WHAT IT GATES");
    let mut text = bold(&head, colours) + "\n";
    for cap in CapSet::KNOWN.iter() {
        let e = entry(cap);
        let start = format!(
            "{:<19}{:<10}{:<9}{:<8}",
            e.name,
            word(e.userns, ["works", "partly", "nothing"]),
            word(as_root(cap), ["yes", "partly", "no"]),
            if e.docker { "yes" } else { "-" },
        );
        let line = format!("{start}{}", cut(e.gates, COLUMNS - start.len()));
        text += line.trim_end();
        text.push('\n');
    }
    text + "\n\
        ISOLATED: what it can do in an isolated session, on what the session owns.\n\
        AS ROOT: whether it is as good as root in a host session.\n\
        DOCKER: given by default.\n\
        More on one: caplet caps NET_ADMIN\n"
}

/// At a blank, with a mark where something is left out.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for word in text.split(' ') {
        if short.chars().count() + 1 + word.chars().count() + 4 > room {
            break;
        }
        if !short.is_empty() {
            short.push(' ');
        }
        short += word;
    }
    short.trim_end_matches([',', ';']).to_owned() + " ..."
}

/// Everything about one.
fn page(cap: Capability, colours: bool) -> String {
    let e = entry(cap);
    let mut text = format!("{} (CAP_{}, {})\n", bold(e.name, colours), e.name, cap.number());
    for (key, fact) in facts(cap) {
        put(&mut text, &format!("  {key:<10}"), &fact);
    }
    text
}

/// What is known of it, as pages have it.
pub fn facts(cap: Capability) -> Vec<(&'static str, String)> {
    let e = entry(cap);
    let risk = word(as_root(cap), ["as good as root: ", "partly as good as root: ", ""]);
    let mut facts = vec![("gates", e.gates.to_owned())];
    facts.extend((e.example != "-").then(|| ("needed by", e.example.to_owned())));
    facts.extend([("isolated", in_isolation(cap, e))]);
    let opens: Vec<&str> = syscalls::opened_by(cap).collect();
    facts.extend((!opens.is_empty()).then(|| ("opens", format!("in a session's filter: {}", opens.join(", ")))));
    facts.extend([
        ("host", "on the whole machine".into()),
        ("risk", format!("{risk}{}", e.how)),
        ("Docker", if e.docker { "gives it by default" } else { "does not give it by default" }.into()),
    ]);
    facts
}

fn in_isolation(cap: Capability, e: &Entry) -> String {
    let much = match e.userns {
        Degree::Full => "works, on what the session's own namespaces own",
        Degree::Partial => "works in part, on what the session's own namespaces own",
        Degree::None => "can do nothing: what it gates is the machine's",
    };
    let network = CapSet::NETWORK.contains(cap) && e.userns != Degree::None;
    format!("{much}{}", if network { "; nothing with network = \"host\"" } else { "" })
}

fn to_json(caps: CapSet) -> String {
    let row = |cap: Capability| {
        let e = entry(cap);
        json!({
            "name": e.name,
            "number": cap.number(),
            "gates": e.gates,
            "isolated": word(e.userns, ["full", "partial", "none"]),
            "root_equivalent": word(as_root(cap), ["yes", "partial", "no"]),
            "risk": e.how,
            "opens": syscalls::opened_by(cap).collect::<Vec<_>>(),
            "docker": e.docker,
            "example": if e.example == "-" { Value::Null } else { e.example.into() },
        })
    };
    messages::json(&format!("{:#}", Value::Array(caps.iter().map(row).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_80_columns_and_nothing_is_missing() {
        let mut text = table(false);
        for cap in CapSet::KNOWN.iter() {
            assert!(text.contains(cap.name()), "{}", cap.name());
            text += &page(cap, false);
        }
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > COLUMNS).collect();
        assert!(wide.is_empty(), "{wide:#?}");
        assert_eq!(table(false).lines().count(), 1 + 41 + 5);
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        assert!(!table(false).contains('\x1b') && table(true).contains("\x1b[1m"));
    }

    #[test]
    fn a_page_says_what_helps_to_decide() {
        let cap = Capability::parse("net_admin").expect("it is one");
        let text = page(cap, false);
        for part in
            ["NET_ADMIN (CAP_NET_ADMIN, 12)", "ip link set eth0", "network = \"host\"", "partly as good as root"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
