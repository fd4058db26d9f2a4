//! What unit tests of decisions start from: a person, and grants, which the judge alone makes.

use crate::caller::Person;
use caplet_policy::capability::CapSet;
use caplet_policy::document::{Civil, Document, Source};
use caplet_policy::judge::{Caller, Grant, Group, World, judge};
use caplet_policy::request::{Request, Start, Verb};

pub fn alice() -> Person {
    Person {
        uid: 1001,
        gid: 100,
        name: "alice".into(),
        home: "/home/alice".into(),
        shell: "/bin/zsh".into(),
        groups: vec![100, 27, 50],
    }
}

pub fn caller() -> Caller {
    let group = |gid: u32, name: &str| Group { gid, name: Some(name.into()) };
    Caller { uid: 1001, name: "alice".into(), groups: vec![group(100, "users"), group(27, "sudo"), group(50, "staff")] }
}

pub fn command(words: &[&str]) -> Request {
    Request::new(Verb::Run, Start::Command(words.iter().map(Into::into).collect()))
}

/// What alice is granted by a profile of these lines, on a machine that has all capabilities. Whatever is asked is the
/// listed command.
pub fn grant(profile: &str, request: &Request) -> Grant {
    let text = format!("[profile.p]\nusers = [\"alice\"]\n{profile}\n");
    let policy = Document::read(&[Source { path: "policy.toml".into(), text }]).unwrap();
    let local = Civil { year: 2026, month: 11, day: 26, hour: 12, minute: 0, second: 0 };
    let world = World {
        machine: "lab",
        unix: 1_795_694_400,
        local,
        kernel: CapSet::KNOWN,
        held: CapSet::KNOWN,
        same_file: &|_| true,
    };
    let request = Request { profile: Some("p".into()), ..request.clone() };
    judge(&policy, &caller(), &world, &request).unwrap()
}
