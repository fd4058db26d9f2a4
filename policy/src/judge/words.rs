//! What a refused user reads: what was asked, why not, what would work. Only the user's own profiles are named, and
//! every suggestion has been judged before it is made.

use super::{Caller, Reason, Refusal, World, fits, in_order, own_profiles};
use crate::capability::{CapList, CapSet};
use crate::document::{Auth, Document, Location, Network, Profile, Scope};
use crate::escape::{for_terminal, shell_word};
use crate::request::{Request, Start};
use std::os::unix::ffi::OsStrExt;

/// The longest command that is repeated to the user.
const LONGEST: usize = 200;

pub(super) fn refusal(
    document: &Document,
    caller: &Caller,
    world: &World<'_>,
    request: &Request,
    tried: Vec<(String, Location, Reason)>,
) -> Refusal {
    let own = own_profiles(document, caller, world);
    let named = request.profile.as_ref().and_then(|name| own.iter().find(|p| p.name == *name).copied());
    let (first, log_reason) = match (&request.profile, named) {
        (Some(name), None) => (
            format!("profile \"{}\" is not yours here and now{}", for_terminal(name.as_bytes()), yours(&own)),
            "no such profile for this user".to_string(),
        ),
        (Some(_), Some(profile)) => {
            let reason = tried.iter().find(|(name, _, _)| *name == profile.name).map(|(_, _, reason)| reason);
            explain(profile, reason.unwrap_or(&Reason::NotSubject))
        }
        (None, _) => unnamed(&own, request, &tried),
    };
    let mut lines = vec![first];
    let suggestions = suggest(document, caller, world, request);
    let helped = !suggestions.is_empty();
    lines.extend(suggestions);
    if let Some(contact) = document.defaults.contact.as_ref().filter(|_| !helped) {
        lines.push(format!("ask: {}", for_terminal(contact.as_bytes())));
    }
    Refusal { tried, lines, log_reason }
}

fn yours(own: &[&Profile]) -> String {
    let names: Vec<&str> = own.iter().map(|profile| profile.name.as_str()).collect();
    if names.is_empty() { " (you have none)".into() } else { format!(" (yours: {})", names.join(", ")) }
}

/// One profile's reason, as its user reads it and as the log has it.
fn explain(profile: &Profile, reason: &Reason) -> (String, String) {
    let name = &profile.name;
    match reason {
        Reason::NotMayAdd(excess) => {
            let may = match (profile.may_add_all, profile.may_add.is_empty()) {
                (true, _) => "you may add: ALL".into(),
                (false, true) => "you may add nothing".into(),
                (false, false) => format!("you may add: {}", profile.may_add),
            };
            let is = if usize::from(excess.all) + excess.names.iter().count() == 1 { "is" } else { "are" };
            (format!("{excess} {is} not yours to add in profile \"{name}\" ({may})"), "not in this profile".into())
        }
        Reason::Useless(set) => (useless(*set, profile), "can do nothing in this scope".into()),
        Reason::Command => {
            // Which they are is the policy's text: not for the user.
            (
                format!("profile \"{name}\" is for certain commands only, and this is none of them"),
                "not a command of this profile".into(),
            )
        }
        Reason::Privileged if profile.scope == Scope::Host => (
            format!("--privileged is for isolated sessions, and profile \"{name}\" is a host profile"),
            "privileged in host scope".into(),
        ),
        Reason::Privileged => {
            (format!("--privileged is not yours in profile \"{name}\""), "privileged not allowed".into())
        }
        Reason::NotHeld(set) => (
            format!("{set} cannot be given here: the helper does not hold it itself (a container, a hardened unit?)"),
            "not held by the helper".into(),
        ),
        Reason::NoLogin => (format!("profile \"{name}\" is not for logins"), "no login profile".into()),
        _ => (format!("profile \"{name}\" does not fit this request"), "does not fit".into()),
    }
}

fn useless(set: CapSet, profile: &Profile) -> String {
    if profile.network == Network::Host && CapSet::NETWORK.contains_all(set) {
        let name = &profile.name;
        return format!("{set} can do nothing in profile \"{name}\": the network there is the whole machine's");
    }
    let why = if set.to_string() == "SYS_TIME" {
        "the clock belongs to the whole machine"
    } else {
        "what it governs belongs to the whole machine"
    };
    format!("{set} can do nothing in an isolated session: {why}")
}

fn unnamed(own: &[&Profile], request: &Request, tried: &[(String, Location, Reason)]) -> (String, String) {
    if own.is_empty() {
        return ("no profile of this machine is yours".into(), "no profile for this user".into());
    }
    if request.login && !own.iter().any(|profile| profile.login) {
        return (format!("no profile of yours is for logins{}", yours(own)), "no login profile".into());
    }
    let reason_of = |profile: &Profile| tried.iter().find(|(name, _, _)| *name == profile.name).map(|(_, _, r)| r);
    let isolated: Vec<&&Profile> = own.iter().filter(|profile| profile.scope == Scope::Isolated).collect();
    let all_useless = isolated.iter().find_map(|profile| match reason_of(profile) {
        Some(reason @ Reason::Useless(_)) => Some(explain(profile, reason)),
        _ => None,
    });
    // Where every isolated profile says that it would be of no use, or may not be added anyway.
    if let Some(said) = all_useless {
        return said;
    }
    if let [only] = own {
        if let Some(reason) = reason_of(only).filter(|reason| !matches!(reason, Reason::NeedsName)) {
            return explain(only, reason);
        }
    }
    let asked = if request.privileged { "--privileged".to_string() } else { request.add.to_string() };
    if request.privileged {
        return (format!("no profile of yours allows {asked}{}", yours(own)), "privileged not allowed".into());
    }
    if !request.add.is_empty() {
        return (format!("no profile of yours lets you add {asked}{}", yours(own)), "not in any profile".into());
    }
    (format!("no profile of yours fits this command without -p{}", yours(own)), "no profile fits".into())
}

/// Profiles of the user's that would grant it, with the line to type: the request with `-p`, and where the profile
/// holds all that was asked from the start, without asking.
fn suggest(document: &Document, caller: &Caller, world: &World<'_>, request: &Request) -> Vec<String> {
    let mut lines = Vec::new();
    // A login is no line that anybody types.
    if request.login {
        return lines;
    }
    for profile in in_order(document).filter(|profile| Some(&profile.name) != request.profile.as_ref()) {
        let mut changed = Request { profile: Some(profile.name.clone()), ..request.clone() };
        // A password cannot be asked for under -n.
        changed.non_interactive &= profile.auth == Auth::None;
        if profile.starting_set().contains_all(changed.add.names) && !changed.add.all && !changed.drop.all {
            changed.add = CapList::default();
        }
        if fits(profile, caller, world, &changed).is_ok() {
            lines.push(format!("profile \"{}\" would allow it: {}", profile.name, typed(&changed)));
            break;
        }
    }
    lines
}

/// The command line of a request, quoted for a shell, safe for a terminal, cut if it is very long.
fn typed(request: &Request) -> String {
    let mut line = String::from(if matches!(request.start, Start::Shell | Start::Line(_)) {
        "caplet shell"
    } else {
        "caplet run"
    });
    let mut word = |text: &str| {
        line.push(' ');
        line.push_str(text);
    };
    if let Some(profile) = &request.profile {
        word("-p");
        word(profile);
    }
    for (flag, list) in [("--cap-add", request.add), ("--cap-drop", request.drop)] {
        if !list.is_empty() {
            word(flag);
            word(&list.to_string());
        }
    }
    for (given, flag) in [
        (request.privileged, "--privileged"),
        (request.non_interactive, "-n"),
        (request.stdin_password, "-S"),
        (request.askpass, "-A"),
        (request.quiet, "--quiet"),
    ] {
        if given {
            word(flag);
        }
    }
    if let Start::Command(argv) = &request.start {
        if argv.first().is_some_and(|first| first.as_bytes().starts_with(b"-")) {
            word("--");
        }
        for argument in argv {
            word(&shell_word(argument.as_bytes()));
        }
    }
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}
