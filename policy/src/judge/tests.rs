//! The contract's rules on judging, case by case.

use super::*;
use crate::document::Source;

const POLICY: &str = r##"
[defaults]
contact = "room 2.14"

[profile.basic]
users = ["alice", "#1004"]
user = "root"
may_add = ["NET_RAW", "SYS_TIME"]

[profile.netlab]
groups = ["students"]
not_users = ["mallory"]
user = "root"
may_add = ["NET_ADMIN", "SYS_PTRACE"]

[profile.all]
users = ["*"]
not_groups = ["guests"]
machines = ["lab-*"]
may_add = ["ALL"]
privileged = true
user = "root"
caps = ["none"]

[profile.term]
users = ["tess"]
valid_from = 2026-10-01
valid_until = 2027-02-15

[profile.clock]
users = ["alice"]
scope = "host"
caps = ["SYS_TIME"]
commands = ["/usr/bin/date", ["/usr/sbin/hwclock", "--systohc"]]
pam_account = false

[profile.prio]
users = ["alice"]
scope = "host"
may_add = ["SYS_NICE", "WAKE_ALARM"]
pam_account = false
"##;

fn document() -> Document {
    let source = Source { path: "policy.toml".into(), text: POLICY.into() };
    match Document::read(&[source]) {
        Ok(document) => document,
        Err(faults) => panic!("{faults:?}"),
    }
}

fn caller(name: &str) -> Caller {
    let group = |gid, name: &str| Group { gid, name: Some(name.into()) };
    let (uid, groups) = match name {
        "alice" => (1001, vec![group(1001, "alice")]),
        "bob" => (1002, vec![group(2000, "students")]),
        "mallory" => (1007, vec![group(2000, "students"), group(2001, "guests")]),
        "dora" => (1004, vec![group(2001, "guests")]),
        "tess" => (1008, vec![group(2001, "guests")]),
        // A directory that does not answer.
        "nameless" => (1009, vec![Group { gid: 2001, name: None }]),
        "named" => (1010, vec![group(2002, "staff")]),
        _ => (1999, vec![group(2001, "guests")]),
    };
    Caller { uid, name: name.into(), groups }
}

fn asks(who: &str, machine: &str, words: &[&str]) -> Result<Grant, Refusal> {
    asks_at(who, machine, words, Civil { year: 2026, month: 11, day: 23, hour: 12, minute: 0, second: 0 })
}

fn asks_at(who: &str, machine: &str, words: &[&str], local: Civil) -> Result<Grant, Refusal> {
    let words: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
    let request = match Request::decode(&words) {
        Ok(request) => request,
        Err(error) => panic!("{error:?}"),
    };
    let first = match &request.start {
        Start::Command(argv) => argv[0].to_string_lossy().into_owned(),
        Start::Shell | Start::Line(_) => String::new(),
    };
    let same = |path: &str| path == first || path.rsplit('/').next() == Some(&first);
    let world = World {
        machine,
        unix: 1_795_435_200,
        local,
        kernel: CapSet::KNOWN,
        held: CapSet::KNOWN.minus(CapSet::from_bits(1 << 35)),
        same_file: &same,
    };
    judge(&document(), &caller(who), &world, &request)
}

/// `profile: caps` or the refusal's lines.
fn said(who: &str, words: &[&str]) -> String {
    match asks(who, "other", words) {
        Ok(grant) => format!("{}: {}", grant.profile().name, grant.caps()),
        Err(refusal) => refusal.lines().join(" | "),
    }
}

#[test]
fn the_contracts_two_examples_word_for_word() {
    let mut bobs = document();
    bobs.profiles[0].users.push(Subject::Name("bob".into()));
    let words = ["run", "--profile=basic", "--add=NET_ADMIN", "--", "ip", "route"].map(Into::into);
    let same = |_: &str| false;
    let local = Civil { year: 2026, month: 11, day: 23, hour: 12, minute: 0, second: 0 };
    let world = World { machine: "m", unix: 0, local, kernel: CapSet::KNOWN, held: CapSet::KNOWN, same_file: &same };
    let Ok(request) = Request::decode(&words) else { panic!() };
    let Err(refusal) = judge(&bobs, &caller("bob"), &world, &request) else { panic!() };
    assert_eq!(
        refusal.lines(),
        [
            "NET_ADMIN is not yours to add in profile \"basic\" (you may add: NET_RAW,SYS_TIME)",
            "profile \"netlab\" would allow it: caplet run -p netlab --cap-add NET_ADMIN ip route",
        ]
    );
    let words = ["run", "--add=SYS_MODULE", "--", "modprobe", "dummy"].map(Into::into);
    let Ok(request) = Request::decode(&words) else { panic!() };
    bobs.profiles[0].may_add = CapSet::EMPTY;
    let Err(refusal) = judge(&bobs, &caller("bob"), &world, &request) else { panic!() };
    assert_eq!(
        refusal.lines(),
        ["no profile of yours lets you add SYS_MODULE (yours: basic, netlab)", "ask: room 2.14"]
    );
}

#[test]
fn grants() {
    let docker = CapSet::DOCKER.to_string();
    let with_raw = CapSet::DOCKER.to_string();
    let netlab = format!("netlab: {}", CapSet::from_bits(0xa804_25fb | 1 << 12));
    let without_mknod = format!("basic: {}", CapSet::from_bits(0xa804_25fb & !(1 << 27)));
    for (who, words, wanted) in [
        ("alice", vec!["run", "--", "true"], format!("basic: {docker}")),
        ("dora", vec!["run", "--", "true"], format!("basic: {docker}")),
        ("alice", vec!["run", "--add=NET_RAW", "--", "true"], format!("basic: {with_raw}")),
        ("alice", vec!["run", "--add=CHOWN", "--", "true"], format!("basic: {docker}")),
        ("alice", vec!["run", "--drop=MKNOD", "--", "true"], without_mknod),
        ("alice", vec!["run", "--drop=ALL", "--", "true"], "basic: ".into()),
        ("alice", vec!["run", "--drop=ALL", "--add=NET_RAW", "--", "true"], "basic: NET_RAW".into()),
        ("alice", vec!["run", "--drop=SYS_MODULE", "--", "true"], format!("basic: {docker}")),
        ("bob", vec!["run", "--add=NET_ADMIN", "--", "true"], netlab),
        ("alice", vec!["run", "--profile=clock", "--", "date"], "clock: SYS_TIME".into()),
        ("alice", vec!["run", "--profile=clock", "--", "/usr/bin/date", "-s", "x"], "clock: SYS_TIME".into()),
        ("alice", vec!["run", "--profile=clock", "--", "hwclock", "--systohc"], "clock: SYS_TIME".into()),
        ("alice", vec!["run", "--profile=prio", "--add=SYS_NICE", "--", "x"], "prio: SYS_NICE".into()),
        ("tess", vec!["run", "--", "x"], "term: ".into()),
    ] {
        assert_eq!(said(who, &words), wanted, "{who} {words:?}");
    }
}

#[test]
fn refusals() {
    for (who, words, wanted) in [
        ("carol", vec!["run", "--", "true"], "no profile of this machine is yours | ask: room 2.14"),
        ("mallory", vec!["run", "--", "true"], "no profile of this machine is yours | ask: room 2.14"),
        (
            "alice",
            vec!["run", "--profile=netlab", "--", "true"],
            "profile \"netlab\" is not yours here and now (yours: basic, clock, prio) | \
             profile \"basic\" would allow it: caplet run -p basic true",
        ),
        (
            "alice",
            vec!["run", "--profile=nosuch", "--", "true"],
            "profile \"nosuch\" is not yours here and now (yours: basic, clock, prio) | \
             profile \"basic\" would allow it: caplet run -p basic true",
        ),
        (
            "alice",
            vec!["run", "--profile=basic", "--add=SYS_TIME", "--", "date", "-s", "12:00"],
            "SYS_TIME can do nothing in an isolated session: the clock belongs to the whole machine | \
             profile \"clock\" would allow it: caplet run -p clock date -s 12:00",
        ),
        (
            "alice",
            vec!["run", "--profile=clock", "--", "hwclock", "--set"],
            "profile \"clock\" is for certain commands only, and this is none of them | \
             profile \"basic\" would allow it: caplet run -p basic hwclock --set",
        ),
        (
            "alice",
            vec!["run", "--profile=prio", "--add=WAKE_ALARM", "--", "x"],
            "WAKE_ALARM cannot be given here: the helper does not hold it itself (a container, a hardened unit?) | \
             ask: room 2.14",
        ),
        (
            "alice",
            vec!["run", "--profile=basic", "--privileged", "--", "x"],
            "--privileged is not yours in profile \"basic\" | ask: room 2.14",
        ),
        (
            "alice",
            vec!["run", "--profile=clock", "--privileged", "--", "date"],
            "--privileged is for isolated sessions, and profile \"clock\" is a host profile | ask: room 2.14",
        ),
        (
            "bob",
            vec!["run", "--add=ALL", "--", "x"],
            "ALL is not yours to add in profile \"netlab\" (you may add: NET_ADMIN,SYS_PTRACE) | ask: room 2.14",
        ),
    ] {
        assert_eq!(said(who, &words), wanted, "{who} {words:?}");
    }
}

#[test]
fn all_and_privileged_on_the_machine_that_has_them() {
    let caps = |words: &[&str]| asks("bob", "LAB-7", words).map(|g| g.caps()).ok();
    let without = |number: u8| CapSet::from_bits(CapSet::KNOWN.bits() & !(1 << number));
    assert_eq!(caps(&["run", "--profile=all", "--add=ALL", "--", "x"]), Some(CapSet::KNOWN));
    assert_eq!(caps(&["run", "--profile=all", "--add=ALL", "--drop=MKNOD", "--", "x"]), Some(without(27)));
    assert_eq!(caps(&["run", "--profile=all", "--privileged", "--", "x"]), Some(CapSet::KNOWN));
    assert_eq!(caps(&["run", "--profile=all", "--privileged", "--drop=MKNOD", "--", "x"]), Some(without(27)));
    assert_eq!(caps(&["run", "--profile=all", "--add=SYS_TIME", "--", "x"]), None);
    assert!(asks("carol", "lab-1", &["run", "--", "x"]).is_err());
}

#[test]
fn dates_hold_through_the_last_day() {
    let at = |year, month, day, hour| {
        let local = Civil { year, month, day, hour, minute: 59, second: 59 };
        asks_at("tess", "m", &["run", "--", "x"], local).is_ok()
    };
    assert!(!at(2026, 9, 30, 23));
    assert!(at(2026, 10, 1, 0));
    assert!(at(2027, 2, 15, 23));
    assert!(!at(2027, 2, 16, 0));
}

#[test]
fn an_unknown_profile_and_anothers_give_the_same_answer() {
    let one = said("bob", &["run", "--profile=basic", "--", "x"]).replace("basic", "?");
    let other = said("bob", &["run", "--profile=nosuch", "--", "x"]).replace("nosuch", "?");
    assert_eq!(one, other);
}

#[test]
fn host_names_match_by_pattern_without_case() {
    for (pattern, name, wanted) in [
        ("lab-*", "lab-7", true),
        ("lab-*", "LAB-", true),
        ("lab-?", "lab-77", false),
        ("*", "", true),
        ("a*b*c", "aXXbYYc", true),
        ("a*b*c", "aXXbYY", false),
        ("", "x", false),
    ] {
        assert_eq!(is_match(pattern, name), wanted, "{pattern} {name}");
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_grant_never_exceeds_its_profile(add in 0u64..1 << 41, drop in 0u64..1 << 41, add_all: bool, drop_all: bool, privileged: bool) {
            let document = document();
            let mut request = Request::new(crate::request::Verb::Run, Start::Command(vec!["date".into()]));
            request.add = CapList { all: add_all, names: CapSet::from_bits(add) };
            request.drop = CapList { all: drop_all, names: CapSet::from_bits(drop & !add) };
            request.privileged = privileged;
            let same = |path: &str| path == "/usr/bin/date";
            let local = Civil { year: 2026, month: 11, day: 23, hour: 12, minute: 0, second: 0 };
            let world = World { machine: "m", unix: 0, local, kernel: CapSet::KNOWN, held: CapSet::KNOWN, same_file: &same };
            for who in ["alice", "bob", "mallory", "carol"] {
                if let Ok(grant) = judge(&document, &caller(who), &world, &request) {
                    let profile = grant.profile();
                    let most = if profile.may_add_all { CapSet::KNOWN } else { profile.may_add.union(profile.starting_set()) };
                    prop_assert!(most.contains_all(grant.caps()));
                    prop_assert!(request.drop.names.intersection(grant.caps()).is_empty());
                }
            }
        }
    }
}

/// The matcher of machine names, against the one that anybody would write first.
mod patterns {
    use super::super::is_match;
    use proptest::prelude::*;

    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => naive(rest, name) || (!name.is_empty() && naive(pattern, &name[1..])),
            (Some((wanted, rest)), Some((byte, left))) => (*wanted == b'?' || wanted == byte) && naive(rest, left),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn a_pattern_fits_what_it_says(pattern in "[ab*?]{0,7}", name in "[ab]{0,8}") {
            prop_assert_eq!(is_match(&pattern, &name), naive(pattern.as_bytes(), name.as_bytes()));
        }
    }
}

mod contract_gaps {
    use super::*;
    #[test]
    fn privileged_honours_drop_all() {
        let got =
            asks("bob", "lab-7", &["run", "--profile=all", "--drop=ALL", "--privileged", "--", "x"]).map(|g| g.caps());
        assert_eq!(got.ok(), Some(CapSet::EMPTY));
    }
    #[test]
    fn privileged_honours_drop_all_then_adds() {
        let got =
            asks("bob", "lab-7", &["run", "--profile=all", "--add=KILL", "--drop=ALL", "--privileged", "--", "x"])
                .map(|g| g.caps().to_string());
        assert_eq!(got.ok().as_deref(), Some("KILL"));
    }
    #[test]
    fn all_takes_the_useless_without_a_word() {
        assert!(asks("bob", "lab-7", &["run", "--profile=all", "--add=ALL,SYS_TIME", "--", "x"]).is_ok());
        assert!(asks("bob", "lab-7", &["run", "--profile=all", "--add=SYS_TIME", "--privileged", "--", "x"]).is_ok());
    }
    #[test]
    fn a_refused_command_shows_no_policy_text() {
        assert!(!said("alice", &["run", "--profile=clock", "--", "id"]).contains("/usr/sbin/hwclock"));
    }
    #[test]
    fn a_suggestion_holds_what_was_asked_under_drop_all() {
        let text = said("alice", &["run", "--profile=prio", "--add=CHOWN", "--drop=ALL", "--", "x"]);
        assert!(text.contains("caplet run -p basic --cap-add CHOWN --cap-drop ALL x"), "{text}");
    }
    #[test]
    fn a_private_network_is_not_called_the_hosts() {
        let text = asks("bob", "lab-7", &["run", "--profile=all", "--add=NET_BROADCAST", "--", "x"])
            .unwrap_err()
            .lines()
            .join("|");
        assert!(!text.contains("the network there is the whole machine's"), "{text}");
    }
    #[test]
    fn a_suggestion_keeps_the_flags() {
        let text = said("alice", &["run", "--profile=prio", "--add=NET_RAW", "--quiet", "--", "x"]);
        assert!(text.contains("--quiet"), "{text}");
    }
    #[test]
    fn only_what_is_refused_is_named() {
        let text = said("alice", &["run", "--profile=basic", "--add=SYS_MODULE,SYS_BOOT", "--", "x"]);
        assert!(text.contains("are not yours"), "{text}");
    }
}

#[test]
fn a_group_that_nobody_can_name_may_be_one_that_is_taken_out() {
    let all = ["run", "--profile=all", "--", "id"];
    assert!(asks("named", "lab-1", &all).is_ok());
    assert!(asks("dora", "lab-1", &all).is_err() && asks("nameless", "lab-1", &all).is_err());
}

#[test]
fn the_same_grant_is_one_of_the_same_profile_with_the_same_power() {
    let grant = |words: &[&str]| asks("alice", "lab-1", words).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let one = grant(&["run", "--profile=all", "--add=KILL", "--", "id"]);
    assert!(one.is_same_as(&grant(&["run", "--profile=all", "--add=KILL", "--", "id"])));
    for other in [
        &["run", "--profile=all", "--", "id"][..],
        &["run", "--profile=all", "--privileged", "--", "id"],
        &["run", "--profile=basic", "--add=NET_RAW", "--", "id"],
        &["run", "--profile=clock", "--", "date"],
    ] {
        assert!(!one.is_same_as(&grant(other)), "{other:?}");
    }
    // Also where the profile has changed under its name; not where it has moved in its file.
    let mut moved = one.clone();
    moved.profile.at.line += 7;
    assert!(one.is_same_as(&moved));
    moved.profile.umask = Some(0o27);
    assert!(!one.is_same_as(&moved));
}
