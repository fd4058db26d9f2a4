//! caplet-policy(5) is written by hand: every key is in it, and every line of it that shows one is read here.

use super::place;
use caplet_policy::document::{Document, KEYS, NETWORK_KEYS, Source};
use caplet_policy::syscalls::GATES;
use std::fs;

/// The page's text, as a reader sees it.
fn page() -> String {
    let text = fs::read_to_string(place("man/caplet-policy.5")).expect("the page");
    text.replace("\\(dq", "\"").replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")
}

fn sections(page: &str) -> Vec<(&str, &str)> {
    let sections = page.split("\n.Sh ").skip(1);
    sections.map(|section| section.split_once('\n').expect("a heading")).collect()
}

#[test]
fn every_key_is_in_the_page_and_no_other() {
    let page = page();
    let named = |name: &str| sections(&page).into_iter().find(|(head, _)| *head == name).expect("the section").1;
    let of_the_page =
        ["KEYS OF EVERY PROFILE", "KEYS OF ISOLATED PROFILES", "KEYS OF HOST PROFILES", "KEYS OF THE DEFAULTS"];
    let networks = (NETWORK_KEYS.as_slice(), "KEYS OF NETWORKS");
    for (keys, section) in KEYS.into_iter().zip(of_the_page).chain([networks]) {
        let heads = named(section).lines().filter_map(|line| line.strip_prefix(".It Ic "));
        let mut there: Vec<&str> = heads.flat_map(|head| head.split(" , ")).collect();
        let mut wanted = keys.to_vec();
        there.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(there, wanted, "{section}");
    }
}

/// Reads a policy as the helper would.
fn read(text: &str) {
    let source = Source { path: "page".into(), text: text.into() };
    if let Err(faults) = Document::read(&[source]) {
        panic!("{text}\n{:?}", faults.faults);
    }
}

#[test]
fn every_line_that_shows_a_key_is_read_without_a_fault() {
    let page = page();
    let mut read_lines = 0;
    for (section, text) in sections(&page).into_iter().filter(|(head, _)| head.starts_with("KEYS OF ")) {
        for item in text.split("\n.It Ic ").skip(1) {
            let lines: Vec<&str> = item.lines().filter_map(|line| line.strip_prefix(".Dl ")).collect();
            assert!(!lines.is_empty(), "{section}: {item}");
            let shown = lines.join("\n");
            let scope = if section == "KEYS OF HOST PROFILES" { "scope = \"host\"\n" } else { "" };
            let somebody = if shown.starts_with("users") { "" } else { "users = [\"alice\"]\n" };
            match section {
                "KEYS OF THE DEFAULTS" => read(&format!("[defaults]\n{shown}\n")),
                "KEYS OF NETWORKS" => {
                    let subnet = if shown.starts_with("subnet ") { "" } else { "subnet = \"172.17.0.0/16\"\n" };
                    let six = if shown.starts_with("gateway6") { "subnet6 = \"fd00:17::/64\"\n" } else { "" };
                    read(&format!("[network.x]\n{subnet}{six}{shown}\n"));
                }
                _ => read(&format!("[profile.x]\n{scope}{somebody}{shown}\n")),
            }
            read_lines += lines.len();
        }
    }
    assert!(read_lines > 50, "{read_lines}");
    let examples = page.split(".Bd -literal -offset indent\n").skip(1);
    let examples: Vec<&str> = examples.filter_map(|rest| rest.split_once("\n.Ed")).map(|(block, _)| block).collect();
    assert_eq!(examples.len(), 3);
    examples.into_iter().for_each(read);
}

#[test]
fn every_call_that_is_off_is_in_the_page_and_no_other() {
    let page = page();
    let (_, text) = sections(&page).into_iter().find(|(head, _)| *head == "SYSTEM CALLS").expect("the section");
    let named = text.lines().filter_map(|line| line.strip_prefix(".Sy ")?.split(' ').next());
    let sorted = |names: &mut dyn Iterator<Item = &'static str>| {
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    };
    let mut named: Vec<String> = named.map(str::to_owned).collect();
    named.sort();
    named.dedup();
    assert_eq!(named, sorted(&mut GATES.iter().map(|gate| gate.call)));
    // Each stands below what opens it.
    for item in text.split("\n.It ").skip(1) {
        let (head, calls) = item.split_once('\n').expect("a heading");
        for call in calls.lines().filter_map(|line| line.strip_prefix(".Sy ")?.split(' ').next()) {
            let gate = GATES.iter().find(|gate| gate.call == call).expect("looked at above");
            let opened = gate.opened_by.iter().any(|cap| head.contains(cap.name()));
            assert!(opened || (gate.opened_by.is_empty() && head == "nothing") || call == "socket", "{head}: {call}");
            assert_eq!(gate.nested, head.contains("nested_userns"), "{call}");
        }
    }
}

#[test]
fn every_policy_of_the_migration_page_is_read_without_a_fault() {
    let page = fs::read_to_string(place("docs/migration.md")).expect("the page");
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```"));
    assert_eq!(blocks.map(|(block, _)| read(block)).count(), 5);
}
