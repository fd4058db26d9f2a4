//! Faults between the keys of one profile: each value is right, and together they are not.

use super::faults::{Complaint, Sink, quoted};
use super::{Lan, Network, Profile, Scope, UserMode, moments, network, values};
use crate::capability::{CapSet, Capability};
use crate::handbook::{Degree, entry};
use std::ops::Range;
use toml::de::DeTable;

/// What of a set is as good as root on a host file system: `root_equivalent` of the handbook, `DAC_READ_SEARCH`
/// (reads every secret), and PERFMON with BPF (read kernel memory together).
pub fn root_equivalents(set: CapSet) -> CapSet {
    // linux/capability.h
    const DAC_READ_SEARCH: u8 = 2;
    const TRACING: CapSet = CapSet::from_bits(1 << 38 | 1 << 39);
    let alone = |cap: &Capability| entry(*cap).root_equivalent == Degree::Full || cap.number() == DAC_READ_SEARCH;
    let alone = set.iter().filter(alone).fold(CapSet::EMPTY, CapSet::with);
    if set.contains_all(TRACING) { alone.union(TRACING) } else { alone }
}

/// Complains of what does not fit together. `name` is where the profile's name stands.
pub(super) fn check(sink: &mut Sink, profile: &Profile, lans: &[Lan], name: Range<usize>, table: &DeTable<'_>) {
    let value_of = |key| table.get(key).map_or(name.clone(), |value| value.span());
    // what follows from a value with a fault is not worth a complaint
    let sound = |sink: &Sink, key| !sink.has_fault(&value_of(key), false);
    if profile.users.is_empty() && profile.groups.is_empty() && sound(sink, "users") && sound(sink, "groups") {
        let complaint = Complaint::new(format!("profile {} is for nobody", quoted(&profile.name)));
        let complaint = complaint.help("users = [...] or groups = [...]; users = [\"*\"] is everybody");
        sink.fault(name.clone(), complaint);
    }
    let dates = profile.valid_from.zip(profile.valid_until);
    if dates.is_some_and(|(from, until)| moments::after(from, until)) {
        let complaint = Complaint::new("valid_until lies before valid_from");
        sink.fault(value_of("valid_until"), complaint);
    }
    if profile.subids && profile.user != UserMode::Root && sound(sink, "user") {
        let complaint = Complaint::new("subids needs user = \"root\"");
        let complaint = complaint.help("other ids exist only behind a root of the session's own");
        sink.fault(value_of("subids"), complaint);
    }
    if let (Network::Named(lan), false) = (&profile.network, network::is_there(profile, lans)) {
        sink.fault(value_of("network"), network::missing(lan, lans));
    }
    if !sound(sink, "scope") {
        return;
    }
    if profile.scope == Scope::Isolated && profile.network == Network::Host {
        each_capability(table, "may_add", |span, caps, _| {
            let caps = caps.intersection(CapSet::NETWORK);
            if !caps.is_empty() {
                let complaint = Complaint::new(format!("{caps} can do nothing with network = \"host\""));
                let complaint = complaint.help("with network = \"private\" the session has a network of its own");
                sink.fault(span, complaint);
            }
        });
    }
    if profile.scope == Scope::Host && !profile.accept_root_equivalent && sound(sink, "accept_root_equivalent") {
        const HELP: &str = "accept_root_equivalent = true, if that is meant; scope = \"isolated\", if not";
        let risky = root_equivalents(profile.starting_set().union(profile.may_add));
        for key in ["caps", "may_add"] {
            each_capability(table, key, |span, caps, all| {
                let caps = caps.intersection(risky);
                let what = if all { "ALL".to_owned() } else { caps.to_string() };
                if all || !caps.is_empty() {
                    let complaint = Complaint::new(format!("{what}: as good as root on this machine"));
                    sink.fault(span, complaint.help(HELP));
                }
            });
        }
    }
}

/// Every entry of `caps` or `may_add` again: where it stands, what it names, and whether it is `ALL`.
fn each_capability(table: &DeTable<'_>, key: &str, mut take: impl FnMut(Range<usize>, CapSet, bool)) {
    let items = table.get(key).and_then(|value| value.get_ref().as_array());
    for item in items.into_iter().flatten() {
        let text = item.get_ref().as_str().unwrap_or_default();
        let all = key == "may_add" && values::is_all(text);
        take(item.span(), values::starting(text).unwrap_or_default(), all);
    }
}
