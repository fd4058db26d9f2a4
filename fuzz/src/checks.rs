//! What must hold for any bytes: each function is a fuzz target's, and policy/tests/seeds.rs calls it with every seed.

use caplet_policy::capability::{CapList, CapSet};
use caplet_policy::document::{Document, Profile, Source, render};
use caplet_policy::escape;
use caplet_policy::judge::{Caller, Group, World, judge, own_profiles};
use caplet_policy::request::Request;
use caplet_policy::subids::{Range, Unusable};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Files of a policy, one behind each NUL. Whatever they say: faults with a place, or a document from which no grant
/// exceeds its profile.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = |(n, text): (usize, &str)| Source { path: format!("{n}.toml"), text: text.to_owned() };
    let sources: Vec<Source> = text.split('\0').take(4).enumerate().map(file).collect();
    let alices = |profile: &Profile| !profile.users.is_empty();
    let part = Document::read_for(&sources, &alices);
    match Document::read(&sources) {
        Err(faults) => {
            assert!(!faults.faults.is_empty());
            assert!(part.is_err(), "a fault is one whoever asks");
            for fault in &faults.faults {
                let shown = render(fault, &sources);
                assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
            }
        }
        Ok(mut document) => {
            judged(&document);
            document.profiles.retain(alices);
            let names = |document: &Document| document.profiles.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
            let part = part.map_err(|faults| faults.faults).expect("no fault whoever asks");
            assert_eq!(names(&document), names(&part));
            assert_eq!(format!("{:?}", document.profiles), format!("{:?}", part.profiles));
        }
    }
}

/// Requests of somebody whom the policy may know, judged.
fn judged(document: &Document) {
    let group = |gid, name: &str| Group { gid, name: Some(name.into()) };
    let caller = Caller { uid: 1001, name: "alice".into(), groups: vec![group(50, "students")] };
    let local = caplet_policy::document::Civil { year: 2026, month: 11, day: 25, hour: 12, minute: 0, second: 0 };
    let all = CapSet::KNOWN;
    let world = World { machine: "lab-7", unix: 1_795_608_000, local, kernel: all, held: all, same_file: &|_| true };
    let own = own_profiles(document, &caller, &world).len();
    for words in [
        &["run"][..],
        &["run", "--add=NET_ADMIN", "--", "x"],
        &["run", "--add=ALL", "--drop=SYS_ADMIN", "--", "date"],
        &["run", "--drop=ALL", "--add=SYS_TIME", "--", "date"],
        &["run", "--privileged"],
        &["run", "--login"],
    ] {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let request = Request::decode(&words).expect("a sound request");
        match judge(document, &caller, &world, &request) {
            Ok(grant) => {
                assert!(own > 0);
                within(grant.profile(), grant.caps(), request.privileged);
                assert!(request.drop.names.intersection(grant.caps()).is_empty());
            }
            Err(refusal) => {
                for line in refusal.lines() {
                    assert!(!line.contains(char::is_control), "{line:?}");
                }
                assert_eq!(refusal.tried.len(), document.profiles.len());
            }
        }
    }
}

fn within(profile: &Profile, caps: CapSet, privileged: bool) {
    let most = match profile.may_add_all || (privileged && profile.privileged) {
        true => CapSet::KNOWN,
        false => profile.may_add.union(profile.starting_set()),
    };
    assert!(most.contains_all(caps), "{caps}");
}

/// The helper's argv, a word behind each NUL: refused in one line, or the same again when it is written and read.
pub fn request(bytes: &[u8]) {
    let words: Vec<OsString> = bytes.split(|b| *b == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    match Request::decode(&words) {
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
        Ok(request) => {
            request.check().expect("what is read is sound");
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
    }
}

/// An argv, a word behind each NUL, in a line of the log: one line, its fields are its own, and the argv comes back.
/// The same bytes are then a line that somebody else wrote.
pub fn log(bytes: &[u8]) {
    let argv: Vec<&[u8]> = bytes.split(|b| *b == 0).collect();
    let whole = escape::log_command(&argv, usize::MAX);
    let line = format!("grant user=alice command={} seq=1", escape::log_value(whole.as_bytes()));
    assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    let (event, fields) = escape::parse_log_line(&line).expect("it parses");
    let keys: Vec<&str> = fields.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!((event.as_str(), keys.as_slice()), ("grant", &["user", "command", "seq"][..]), "nothing is forged");
    assert_eq!(fields[1].1, whole.as_bytes());
    assert_eq!(escape::parse_log_command(&fields[1].1), Some(argv.iter().map(|word| word.to_vec()).collect()));
    let limit = bytes.first().map_or(0, |b| usize::from(*b) * 8);
    let cut = escape::log_command_within(&argv, limit);
    assert!(escape::log_value(cut.as_bytes()).len() <= limit.max(64) + 32, "{cut:?} in {limit}");
    let value = escape::log_value(&escape::log_cut(bytes, limit));
    assert!(value.len() <= limit + 40 && !value.contains(char::is_control), "{} of {limit}", value.len());
    let shown = escape::for_terminal(bytes);
    assert!(!shown.contains(char::is_control), "{shown:?}");
    for word in &argv {
        assert!(!escape::shell_word(word).contains(char::is_control));
    }
    if let Ok(line) = std::str::from_utf8(bytes) {
        let _ = escape::parse_log_line(line);
    }
    let _ = escape::parse_log_command(bytes);
}

/// subuid(5): a range is never another's, and lies below the end of the ids.
pub fn subuid(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Range::find(&text, "alice", 1001) {
        Ok(range) => {
            assert!(range.owner == "alice" || range.owner == "1001");
            assert!(range.count > 0 && range.first.checked_add(range.count - 1).is_some());
            // Whoever else has one does not reach into it.
            let others = text.lines().filter_map(|line| {
                let mut parts = line.trim().split(':');
                let (owner, first, count) = (parts.next()?, parts.next()?, parts.next()?);
                let (first, count) = (first.parse::<u64>().ok()?, count.parse::<u64>().ok()?);
                (owner != "alice" && owner != "1001" && count > 0).then_some((first, first.checked_add(count)?))
            });
            let (first, end) = (u64::from(range.first), u64::from(range.first) + u64::from(range.count));
            for (other, other_end) in others.filter(|(_, end)| *end <= 1 << 32) {
                assert!(other_end <= first || end <= other, "{text:?}");
            }
        }
        Err(Unusable::Overlaps { own, other }) => assert!(own.owner != other.owner || own == other, "{text:?}"),
        Err(Unusable::Missing) => {}
    }
}

/// A value of `--cap-add`: refused without a trace, or the same set whatever the order.
pub fn capabilities(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut list = CapList::default();
    match list.add_text(text) {
        Err(error) => {
            assert!(list.is_empty());
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
        Ok(()) => {
            let mut names: Vec<&str> = text.split(',').collect();
            names.reverse();
            let mut turned = CapList::default();
            turned.add_text(&names.join(",")).expect("the same names");
            assert_eq!(turned, list);
        }
    }
}
