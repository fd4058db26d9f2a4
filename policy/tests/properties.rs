//! What holds for every policy and every request: no grant exceeds its profile, a drop never adds, order has no
//! meaning, and a refusal names a true reason.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use caplet_policy::capability::{CapList, CapSet};
use caplet_policy::document::{Civil, Document, Lan, Network, Profile, Scope, Source, Subject, UserMode};
use caplet_policy::judge::{Caller, Grant, Group, Reason, Refusal, World, judge, own_profiles};
use caplet_policy::request::{Request, Start, Verb};
use proptest::prelude::*;

const MACHINE: &str = "lab-7";
const NOW: i64 = 1_795_608_000;
/// Capabilities that a kernel, or a helper in a container, may lack.
const FEW: CapSet = CapSet::from_bits(!(1 << 40 | 1 << 25 | 1 << 12));

fn subjects() -> impl Strategy<Value = Vec<Subject>> {
    let one = prop_oneof![
        Just(Subject::Everybody),
        Just(Subject::Name("alice".into())),
        Just(Subject::Name("bob".into())),
        Just(Subject::Id(1001)),
        Just(Subject::Id(1002)),
    ];
    prop::collection::vec(one, 0..3)
}

fn groups() -> impl Strategy<Value = Vec<Subject>> {
    let one = prop_oneof![
        Just(Subject::Name("students".into())),
        Just(Subject::Name("staff".into())),
        Just(Subject::Id(50)),
        Just(Subject::Id(60)),
    ];
    prop::collection::vec(one, 0..3)
}

prop_compose! {
    fn profile()(
        host: bool, users in subjects(), of in groups(), not_users in subjects(), not_groups in groups(),
        take_out in 0u8..4, caps in prop::option::of(any::<u64>()), may_add: u64, may_add_all: bool, root: bool,
        flags in any::<[bool; 5]>(), elsewhere in 0u8..5, when in 0u8..6, net in 0u8..4,
    ) -> Profile {
        let mut p = Profile::new("x", if host { Scope::Host } else { Scope::Isolated });
        p.users = users;
        p.groups = of;
        if take_out == 0 { p.not_users = not_users }
        if take_out == 1 { p.not_groups = not_groups }
        p.caps = caps.map(CapSet::from_bits);
        p.may_add = CapSet::from_bits(may_add);
        p.may_add_all = may_add_all;
        if root && !host { p.user = UserMode::Root }
        p.privileged = flags[0] && !host;
        p.login = flags[1] && !host;
        let networks = [Network::Host, Network::Private, Network::Named("one".into()), Network::Named("two".into())];
        if !host { p.network = networks[usize::from(net)].clone() }
        if host && flags[3] {
            let args = flags[4].then(|| vec!["-s".to_owned()]);
            p.commands = Some(vec![caplet_policy::document::Command { path: "/usr/bin/date".into(), args }]);
        }
        match elsewhere { 0 => p.machines = vec!["pc-*".into()], 1 => p.machines = vec!["pc-*".into(), "LAB-?".into()], _ => {} }
        let moment = caplet_policy::document::Moment::Unix;
        match when { 0 => p.valid_from = Some(moment(NOW + 1)), 1 => p.valid_until = Some(moment(NOW - 1)), 2 => p.valid_until = Some(moment(NOW)), _ => {} }
        p
    }
}

fn document() -> impl Strategy<Value = Document> {
    prop::collection::vec(profile(), 0..5).prop_map(|mut profiles| {
        for (n, profile) in profiles.iter_mut().enumerate() {
            profile.name = format!("p{n}");
        }
        let mut document = Document::built_in();
        document.profiles = profiles;
        document.networks = vec![lan("other"), lan("one"), lan("two")];
        document
    })
}

fn lan(name: &str) -> Lan {
    let text = format!("[network.{name}]\nsubnet = \"10.9.0.0/24\"\n");
    let mut read = Document::read(&[Source { path: "x".into(), text }]).expect("a network");
    read.networks.remove(0)
}

prop_compose! {
    fn request()(
        // Few at a time: else nothing is ever granted.
        add in prop::collection::vec(0u8..41, 0..3), drop in prop::collection::vec(0u8..41, 0..3), add_all in 0u8..6,
        drop_all in 0u8..6, privileged in 0u8..6, login in 0u8..8, named in prop::option::of(0usize..6), date: bool, shell in 0u8..4,
    ) -> Request {
        let words = if date { vec!["date".into(), "-s".into()] } else { vec!["ip".into()] };
        let mut r = Request::new(Verb::Run, if shell == 0 { Start::Shell } else { Start::Command(words) });
        let set = |numbers: Vec<u8>| CapSet::from_bits(numbers.into_iter().fold(0, |bits, n| bits | 1 << n));
        r.add = CapList { all: add_all == 0, names: set(add) };
        r.drop = CapList { all: drop_all == 0 && add_all != 0, names: set(drop).minus(r.add.names) };
        r.privileged = privileged == 0;
        r.login = login == 0;
        r.profile = named.map(|n| format!("p{n}"));
        r
    }
}

fn caller() -> Caller {
    let group = |gid, name: &str| Group { gid, name: Some(name.into()) };
    Caller { uid: 1001, name: "alice".into(), groups: vec![group(1001, "alice"), group(50, "students")] }
}

fn judged(document: &Document, request: &Request, few: bool) -> Result<Grant, Refusal> {
    let local = Civil { year: 2026, month: 11, day: 25, hour: 12, minute: 0, second: 0 };
    let all = if few { FEW } else { CapSet::KNOWN };
    let is_date = matches!(&request.start, Start::Command(argv) if argv[0] == "date");
    let same_file = |path: &str| is_date && path == "/usr/bin/date";
    let world = World { machine: MACHINE, unix: NOW, local, kernel: all, held: all, same_file: &same_file };
    let own = own_profiles(document, &caller(), &world).len();
    let verdict = judge(document, &caller(), &world, request);
    assert!(verdict.is_err() || own > 0, "nobody's profile grants something");
    verdict
}

/// Whether a subject list speaks of alice, said once more in other words than the judge's.
fn is_alice(users: &[Subject], groups: &[Subject]) -> bool {
    users.iter().any(|s| [Subject::Everybody, Subject::Name("alice".into()), Subject::Id(1001)].contains(s))
        || groups.iter().any(|s| [Subject::Name("students".into()), Subject::Id(50)].contains(s))
}

fn most(profile: &Profile, request: &Request) -> CapSet {
    if profile.may_add_all || (request.privileged && profile.privileged) {
        return CapSet::KNOWN;
    }
    profile.may_add.union(profile.starting_set())
}

fn lan_name(profile: &Profile) -> Option<&str> {
    match &profile.network {
        Network::Named(name) => Some(name),
        Network::Private | Network::Host => None,
    }
}

/// Why a profile was passed over must be so.
fn is_true(reason: &Reason, profile: &Profile, request: &Request, few: bool) -> bool {
    let may = profile.may_add.union(profile.starting_set());
    match reason {
        Reason::NotNamed => request.profile.as_ref().is_some_and(|name| *name != profile.name),
        Reason::NotSubject => !is_alice(&profile.users, &profile.groups),
        Reason::TakenOut => is_alice(&profile.not_users, &profile.not_groups),
        Reason::OtherMachine => profile.machines == ["pc-*"],
        Reason::NotYet => profile.valid_from.is_some(),
        Reason::Expired => profile.valid_until == Some(caplet_policy::document::Moment::Unix(NOW - 1)),
        Reason::NotMayAdd(excess) => {
            !profile.may_add_all
                && (!excess.all || request.add.all)
                && (excess.all || !excess.names.is_empty())
                && request.add.names.contains_all(excess.names)
                && excess.names.intersection(may).is_empty()
        }
        Reason::Useless(set) => {
            profile.scope == Scope::Isolated && !set.is_empty() && request.add.names.contains_all(*set)
        }
        Reason::Command => profile.commands.is_some(),
        Reason::NeedsName => profile.scope == Scope::Host && request.profile.is_none() && profile.commands.is_none(),
        Reason::Privileged => request.privileged && !profile.privileged,
        Reason::NotHeld(set) => few && !set.is_empty() && set.intersection(FEW).is_empty(),
        Reason::NoLogin => request.login && !profile.login,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_grant_exceeds_its_profile(document in document(), request in request(), few: bool) {
        if let Ok(grant) = judged(&document, &request, few) {
            let profile = grant.profile();
            prop_assert!(is_alice(&profile.users, &profile.groups));
            prop_assert!(!is_alice(&profile.not_users, &profile.not_groups));
            prop_assert!(profile.machines != ["pc-*"] && profile.valid_from.is_none());
            prop_assert!(profile.valid_until != Some(caplet_policy::document::Moment::Unix(NOW - 1)));
            prop_assert!(request.profile.as_ref().is_none_or(|name| *name == profile.name));
            prop_assert!(!request.login || profile.login);
            prop_assert!(!request.privileged || profile.privileged);
            prop_assert!(profile.commands.is_none() || grant.command_path() == Some("/usr/bin/date"));
            prop_assert!(profile.scope == Scope::Isolated || profile.commands.is_some() || request.profile.is_some());
            // What is written down of it, and what the filter and the network follow, is what was asked and decided.
            prop_assert_eq!((grant.added(), grant.dropped()), (request.add, request.drop));
            prop_assert_eq!(grant.privileged(), request.privileged);
            prop_assert_eq!(grant.lan().map(|lan| lan.name.as_str()), lan_name(profile));
            prop_assert_eq!(grant.rule(), &profile.at);
            prop_assert!(most(profile, &request).contains_all(grant.caps()));
            prop_assert!(!few || FEW.contains_all(grant.caps()), "what is not there is not given");
            // What is given was there from the start, or asked for.
            let asked = if request.add.all || request.privileged { CapSet::KNOWN } else { request.add.names };
            prop_assert!(profile.starting_set().union(asked).contains_all(grant.caps()));
            prop_assert!(request.drop.names.intersection(grant.caps()).is_empty());
            prop_assert!(!request.drop.all || request.add.names.contains_all(grant.caps()));
            // And what was asked for is given, but what is dropped.
            prop_assert!(grant.caps().contains_all(request.add.names.minus(request.drop.names)));
        }
    }

    #[test]
    fn a_drop_never_adds_and_never_opens(document in document(), request in request(), few: bool, more in 0u8..41) {
        let mut less = request.clone();
        less.drop.names = less.drop.names.union(CapSet::from_bits(1 << more)).minus(less.add.names);
        let (before, after) = (judged(&document, &request, few), judged(&document, &less, few));
        if let (Ok(before), Ok(after)) = (&before, &after) {
            if before.profile().name == after.profile().name {
                prop_assert!(before.caps().contains_all(after.caps()), "{} {}", before.caps(), after.caps());
            }
        }
        // A drop can make room where a starting capability is not held here; it never makes more of a profile.
        if let Ok(after) = &after {
            prop_assert!(most(after.profile(), &less).contains_all(after.caps()));
        }
        let mut none = request.clone();
        none.drop = CapList { all: true, names: CapSet::EMPTY };
        if !none.add.all {
            if let Ok(grant) = judged(&document, &none, few) {
                prop_assert_eq!(grant.caps(), none.add.names);
            }
        }
    }

    #[test]
    fn order_and_spelling_mean_nothing(document in document(), request in request(), turn in 0usize..9) {
        let mut written = CapList::default();
        let mut names: Vec<String> = request.add.names.iter().map(|cap| format!(" cap_{} ", cap.name().to_lowercase())).collect();
        if request.add.all { names.push("all".into()) }
        names.extend(names.clone());
        let length = names.len().max(1);
        if !names.is_empty() {
            names.rotate_left(turn % length);
        }
        if !names.is_empty() { written.add_text(&names.join(",")).unwrap() }
        let again = Request { add: written, ..request.clone() };
        let caps = |verdict: Result<Grant, Refusal>| verdict.map(|g| (g.profile().name.clone(), g.caps())).map_err(|r| r.lines().to_vec());
        prop_assert_eq!(caps(judged(&document, &request, false)), caps(judged(&document, &again, false)));
        // Nor does it matter what stands behind the profile that grants, or before it and does not fit.
        if let Ok(grant) = judged(&document, &request, false) {
            let mut alone = document.clone();
            alone.profiles.retain(|profile| profile.name == grant.profile().name);
            let alone = judged(&alone, &request, false).expect("it grants alone");
            prop_assert_eq!(alone.caps(), grant.caps());
        }
    }

    #[test]
    fn a_refusal_names_a_true_reason_for_every_profile(document in document(), request in request(), few: bool) {
        if let Err(refusal) = judged(&document, &request, few) {
            prop_assert!(!refusal.lines().is_empty() && !refusal.log_reason().is_empty());
            if request.check().is_ok() {
                prop_assert_eq!(refusal.tried.len(), document.profiles.len());
                for (name, _, reason) in &refusal.tried {
                    let profile = document.profiles.iter().find(|profile| profile.name == *name).unwrap();
                    prop_assert!(is_true(reason, profile, &request, few), "{reason:?}: {profile:?}");
                }
                // Nobody reads the name of a profile that is not theirs, but the one that was typed.
                for profile in &document.profiles {
                    let theirs = is_alice(&profile.users, &profile.groups) && !is_alice(&profile.not_users, &profile.not_groups);
                    let typed = request.profile.as_ref() == Some(&profile.name);
                    let quoted = format!("\"{}\"", profile.name);
                    prop_assert!(theirs || typed || !refusal.lines().iter().any(|line| line.contains(&quoted)));
                }
            }
        }
    }

    /// What a refusal offers is granted when it is typed.
    #[test]
    fn what_is_suggested_works(document in document(), request in request()) {
        if let Err(refusal) = judged(&document, &request, false) {
            let offer = refusal.lines().iter().find_map(|line| line.split_once(" would allow it: ").map(|(name, line)| (name.to_owned(), line.to_owned())));
            if let Some((name, line)) = offer {
                let mut typed = request.clone();
                typed.profile = Some(name.trim_start_matches("profile ").trim_matches('"').to_owned());
                if !line.contains("--cap-add") { typed.add = CapList::default() }
                prop_assert!(judged(&document, &typed, false).is_ok(), "{line}");
            }
        }
    }
}
