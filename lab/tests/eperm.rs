//! The truth table `lab/eperm.tsv`: every row that can run here is run under the watcher, and the capability and the
//! scope that it names are compared with those that the kernel's own trace showed.

use caplet_lab::{Lab, SharedLab, record_skip, shared};
use serde_json::Value;
use std::collections::BTreeSet;

static LAB: SharedLab = SharedLab::new();

/// Of the rows that run, so many in a hundred are right, and none is wrong with confidence.
const RIGHT: usize = 95;

const POLICY: &str = r#"
[profile.bare]
users = ["alice"]
scope = "host"

[profile.holder]
users = ["alice"]
scope = "host"
caps = ["WAKE_ALARM"]
"#;

const PREPARED: &str = "mkdir -p /srv/mounted /home/links /run/netns && [ -e /dev/kmsg ] || mknod -m 644 /dev/kmsg c 1 11; mount -t tmpfs none /srv/mounted && chmod 777 /home/links; \
     chmod 600 /dev/loop0; mkdir -m 700 /srv/shut; ln /srv/roots /home/links/roots 2>/dev/null || cp /srv/roots \
     /home/links/roots; /usr/bin/python3 -I -c \"import socket; s = socket.socket(socket.AF_UNIX); \
     s.bind('/srv/docker.sock'); import os; os.chmod('/srv/docker.sock', 0o660)\"; ipcmk -Q >/dev/null; ";

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        Lab::new()
            .user("alice", &[])
            .user("bob", &[])
            .file("/srv/roots", "secret", 0o644, "root")
            .file("/srv/eperm.py", include_str!("../eperm.py"), 0o644, "root")
            .policy(POLICY)
    })
}

#[derive(Debug)]
struct Row<'a> {
    name: &'a str,
    call: &'a str,
    errno: &'a str,
    capability: &'a str,
    userns: &'a str,
    line: &'a str,
    note: &'a str,
}

fn rows() -> Vec<Row<'static>> {
    let lines = include_str!("../eperm.tsv").lines().filter(|line| !line.starts_with('#')).skip(1);
    lines
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [name, call, errno, capability, userns, line, note] => {
                Row { name, call, errno, capability, userns, line, note }
            }
            _ => panic!("not seven fields: {line}"),
        })
        .collect()
}

type Sets = BTreeSet<BTreeSet<String>>;

fn of_row(text: &str) -> Sets {
    let one = |all: &str| all.split('&').map(|name| name.trim_start_matches("CAP_").to_owned()).collect();
    if text == "-" { Sets::new() } else { text.split('|').map(one).collect() }
}

fn of_refusal(refusal: &Value) -> Sets {
    let one =
        |all: &Value| all.as_array().expect("a list").iter().map(|n| n.as_str().expect("a name").into()).collect();
    refusal["needs"].as_array().expect("a list").iter().map(one).collect()
}

/// Whether this refusal is the call that the row is about: `openat(...)`, `RTM_NEWLINK (netlink)`.
fn is_about(row: &Row<'_>, refusal: &Value) -> bool {
    let call = refusal["call"].as_str().unwrap_or_default();
    let family = |name: &str| {
        let name = name.split(['(', ' ']).next().unwrap_or_default();
        let name = name.strip_prefix(['l', 'f']).filter(|rest| rest.starts_with("setxattr")).unwrap_or(name);
        let name = name.strip_suffix("at").filter(|rest| rest.len() > 3).unwrap_or(name).to_owned();
        if name == "sched_setparam" { "sched_setscheduler".into() } else { name }
    };
    let netlink = ["sendmsg", "sendto"].contains(&row.call) && call.ends_with("(netlink)");
    refusal["error"] == row.errno && (netlink || family(call) == family(row.call))
}

/// `None`: right. Else what is not, and whether it was said with confidence.
fn judged(row: &Row<'_>, report: &Value) -> Option<(String, bool)> {
    let refusals = report["refusals"].as_array().expect("a list");
    let wanted = of_row(row.capability);
    let mut about = refusals.iter().filter(|refusal| is_about(row, refusal));
    // A program may try something harmless first.
    let first = about.clone().next();
    let Some(refusal) = about.find(|refusal| !of_refusal(refusal).is_empty()).or(first) else {
        // A check in the program itself, or none of the kernel's: nothing may be named.
        let named = refusals.iter().find(|refusal| refusal["sure"] == true && !of_refusal(refusal).is_empty());
        return match (row.call, named) {
            ("-", None) => None,
            ("-", Some(named)) => Some((format!("names {named}"), true)),
            _ => Some((format!("no such call among {}", report["refusals"]), false)),
        };
    };
    let named = of_refusal(refusal);
    let sure = refusal["sure"] == true;
    // Of what is needed one after the other, the kernel asks for a part first.
    let part =
        wanted.len() == 1 && named.len() == 1 && named.iter().all(|set| wanted.iter().any(|all| set.is_subset(all)));
    let also = of_row(row.note.strip_prefix("also ").unwrap_or("-"));
    let all: Sets = wanted.union(&also).cloned().collect();
    let right = named == wanted || named == all || (part && !named.is_empty());
    let scope = match refusal["of"].as_str() {
        Some("machine") => row.userns == "no",
        _ => row.userns != "no",
    };
    match () {
        () if !right => Some((format!("{refusal}"), sure && !named.is_empty())),
        () if !scope && !wanted.is_empty() => Some((format!("scope of {refusal}"), false)),
        () => None,
    }
}

#[test]
fn the_capabilities_of_the_table_are_named() {
    let Some(lab) = lab() else { return };
    lab.root(PREPARED);
    let other = lab.task("bob", ["sleep", "300"]).spawn();
    let holder = lab.task("alice", ["caplet", "run", "-p", "holder", "--", "sleep", "301"]).spawn();
    lab.root("for i in $(seq 100); do pgrep -u alice -x sleep >/dev/null && exit 0; sleep 0.1; done; exit 1");
    let (others, holders) = (lab.root("pgrep -u bob -x sleep").out(), lab.root("pgrep -u alice -x sleep").out());
    let queue = lab.root("ipcs -q | awk '$1 ~ /^0x/ {print $1; exit}'").out();
    let (mut ran, mut wrong, mut confident) = (0, Vec::new(), 0);
    for row in rows() {
        let program =
            row.line.rsplit("; ").next().and_then(|part| part.split(' ').find(|word| !word.contains(['=', '$'])));
        let here = lab.root(&format!("command -v {} >/dev/null || echo no", program.unwrap_or("true"))).out();
        if row.line == "-" || here == "no" {
            let reason = if row.line == "-" { row.note } else { "its program is not installed" };
            record_skip(&format!("row {}: {reason}", row.name));
            continue;
        }
        let words = ["caplet", "why", "--json", "-p", "bare", "--", "sh", "-c", row.line];
        let task = lab.task("alice", words).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let task = task.env("OTHER", &others).env("HOLDER", &holders).env("QUEUE", &queue);
        let out = task.limit(60).run();
        let report = out.err_lines().into_iter().rev().find(|line| line.starts_with("{\""));
        let report: Value =
            serde_json::from_str(&report.unwrap_or_else(|| panic!("{}: {out}", row.name))).expect("JSON");
        ran += 1;
        if let Some((why, with_confidence)) = judged(&row, &report) {
            confident += usize::from(with_confidence);
            wrong.push(format!("{} [{} {}]: {why}", row.name, row.capability, row.userns));
        }
    }
    drop((other, holder));
    let shown = wrong.join("\n");
    assert!(ran >= 60, "too few rows run here: {ran}");
    println!("{ran} rows, {} wrong:\n{shown}", wrong.len());
    assert_eq!(confident, 0, "named with confidence, and wrong:\n{shown}");
    assert!((ran - wrong.len()) * 100 >= ran * RIGHT, "{} of {ran} are not right:\n{shown}", wrong.len());
}
