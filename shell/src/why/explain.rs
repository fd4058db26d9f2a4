//! A report in plain words: what was refused, what it needs, where that can help, and what this user can do under this
//! machine's policy. Whether something would be granted is the judge's to say, never this file's.

use super::advice::{Advice, Answer};
use super::proposal::{self, Proposal};
use super::report::{Finding, Report, errno_name};
use super::rules::Reach;
use crate::cli;
use crate::listing::Own;
use crate::quoting::command_line;
use caplet_policy::capability::CapSet;
use caplet_policy::escape::for_terminal;
use caplet_policy::request::{Request, Verb};
use serde_json::{Value, json};
use std::ffi::OsString;

/// What overrides an owner's will.
pub const OF_FILES: [&str; 5] = ["CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "SETFCAP"];

/// Everything, a line each.
pub fn lines(report: &Report, advice: &mut Advice<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut advised: Vec<(Vec<CapSet>, Reach)> = Vec::new();
    for finding in &report.findings {
        lines.push(what(finding));
        let about = (finding.verdict.needs.clone(), finding.verdict.reach);
        if !finding.verdict.needs.is_empty() && !advised.contains(&about) {
            advised.push(about);
            lines.extend(remedy(finding, report, advice));
        }
    }
    if report.more > 0 {
        lines.push(format!("and {} more refusals of other kinds", report.more));
    }
    lines.extend(without_a_call(report, advice));
    // Whatever no capability changes is for people to talk about.
    if report.findings.iter().any(|finding| finding.verdict.needs.is_empty()) && advised.is_empty() {
        lines.extend(advice.own().contact.clone().map(|contact| format!("ask: {contact}")));
    }
    if report.left > 0 && !report.isolated {
        lines.push(format!(
            "what it left in the background ({} processes) ended with it: caplet run lets it go on",
            report.left
        ));
    }
    lines.iter().map(|line| for_terminal(line.as_bytes())).collect()
}

/// The report with the remedies, for programs.
pub fn to_json(report: &Report, advice: &mut Advice<'_>) -> Value {
    let mut value = report.to_json();
    for (n, finding) in report.findings.iter().enumerate() {
        let lines = if finding.verdict.needs.is_empty() { Vec::new() } else { remedy(finding, report, advice) };
        value["refusals"][n]["advice"] = json!(lines);
        if let Some(refusal) = value["refusals"][n].as_object_mut() {
            refusal.retain(|key, _| key != "thread" && key != "during"); // between the two parts alone
        }
    }
    value["trace"] = report.trace.to_json();
    value["notes"] = json!(without_a_call(report, advice));
    value
}

/// `date: clock_settime(CLOCK_REALTIME) was refused (EPERM): it needs SYS_TIME`
fn what(finding: &Finding) -> String {
    let Finding { program, call, errno, verdict, times, .. } = finding;
    let often = if *times > 1 { format!(", {times} times") } else { String::new() };
    let cause = verdict.cause.as_deref().unwrap_or("no capability helps");
    let needs = match (verdict.needs.is_empty(), verdict.sure) {
        (true, _) => cause.to_owned(),
        (false, sure) => {
            let any: Vec<String> = verdict.needs.iter().map(|need| need.to_string().replace(',', " and ")).collect();
            let any = any.join(if sure { " or " } else { ", " });
            let because = verdict.cause.as_deref().map(|cause| format!(": {cause}")).unwrap_or_default();
            match (sure, verdict.needs.len()) {
                (true, _) => format!("it needs {any}{because}"),
                (false, 1) => format!("not sure; perhaps it needs {any}{because}"),
                (false, _) => format!("not sure; it needs one of {any}{because}"),
            }
        }
    };
    format!("{program}: {call} was refused ({}{often}): {needs}", errno_name(*errno))
}

/// Where it can help, and what this user can do.
fn remedy(finding: &Finding, report: &Report, advice: &mut Advice<'_>) -> Vec<String> {
    let verdict = &finding.verdict;
    let first = verdict.needs.first().copied().unwrap_or(CapSet::EMPTY);
    if let Some(profile) = advice.inside.clone() {
        return in_a_session(finding, report.isolated, &profile, advice);
    }
    let shared = verdict.reach == Reach::Network
        && advice.own().profiles.iter().any(|own| own.name == report.profile && own.network == "host");
    let machine = report.isolated && (verdict.reach == Reach::Machine || shared);
    let mut lines = Vec::new();
    if finding.held && !machine {
        return vec![format!("the session holds {}: so it is something else", held(finding, first))];
    }
    if machine {
        let belongs = match first.to_string().as_str() {
            "SYS_TIME" => "the clock belongs to the whole machine",
            _ if OF_FILES.iter().any(|cap| first.to_string() == *cap) => "the session does not know the owner",
            _ if shared => "the network of this session is the whole machine's",
            _ => "what it is needed for here belongs to the whole machine",
        };
        let any = verdict.needs.iter().map(CapSet::to_string).collect::<Vec<_>>().join(" or ");
        lines.push(format!("{any} can do nothing for it in an isolated session: {belongs}"));
        lines.extend(on_the_machine(&verdict.needs, advice));
        return lines;
    }
    let mut refused = None;
    for need in &verdict.needs {
        let request = advice.with(*need);
        match (advice.judge)(&request) {
            Answer::Granted(profile) => {
                lines.push(format!("your profile \"{profile}\" allows it: {}", command_line(&cli::run_line(&request))));
                return lines;
            }
            Answer::Refused(said) => refused = refused.or(Some(said)),
        }
    }
    let mut said = refused.unwrap_or_default();
    let ask = said.iter().rposition(|line| line.starts_with("ask: ")).map(|at| said.remove(at));
    lines.extend(said);
    let zero = is_root(&report.profile, advice.own());
    // The scope is the one it ran in, but for a host's: there the machine's own is what was refused.
    let proposal = match report.isolated {
        true => Proposal { root: zero, may_add: first, ..Proposal::new(advice) },
        false => on_this_machine(first, advice),
    };
    lines.extend(proposal.lines());
    lines.extend(ask.or_else(|| advice.own().contact.clone().map(|contact| format!("ask: {contact}"))));
    lines
}

/// Where the helper has no power, and so cannot be asked.
fn in_a_session(finding: &Finding, isolated: bool, profile: &str, advice: &Advice<'_>) -> Vec<String> {
    let verdict = &finding.verdict;
    let any = verdict.needs.iter().map(CapSet::to_string).collect::<Vec<_>>().join(" or ");
    let first = verdict.needs.first().copied().unwrap_or(CapSet::EMPTY);
    if isolated && verdict.reach == Reach::Machine {
        let why = [&[OsString::from("caplet"), "why".into(), "--".into()][..], &advice.words()].concat();
        return vec![
            format!("{any} can do nothing for it in an isolated session"),
            format!("what you can do is said outside of it: {}", command_line(&why)),
        ];
    }
    if finding.held {
        return vec![format!("the session holds {first}: so it is something else")];
    }
    let (_, line) = cli::shell_line(&Request { profile: Some(profile.to_owned()), ..advice.with(first) });
    vec![format!("this session is fixed; one that has it, if that is granted to you: {}", command_line(&line))]
}

fn on_this_machine(need: CapSet, advice: &Advice<'_>) -> Proposal {
    let commands = proposal::path_of(advice.request).into_iter().collect();
    Proposal { host: true, caps: need, commands, ..Proposal::new(advice) }
}

fn is_root(profile: &str, own: &Own) -> bool {
    own.profiles.iter().any(|p| p.name == profile && p.user == "root" && p.scope == "isolated")
}

fn held(finding: &Finding, first: CapSet) -> String {
    finding.verdict.needs.get(..1).map_or(first, |needs| needs[0]).to_string()
}

/// Only a host profile has the machine's own: the first of the user's that would be granted.
fn on_the_machine(needs: &[CapSet], advice: &mut Advice<'_>) -> Vec<String> {
    let hosts: Vec<(String, CapSet, bool, CapSet)> = advice
        .own()
        .profiles
        .iter()
        .filter(|own| own.scope == "host")
        .map(|own| (own.name.clone(), own.caps, own.may_add.all, own.may_add.names))
        .collect();
    for need in needs {
        for (name, caps, all, may_add) in &hosts {
            if !all && !caps.union(*may_add).contains_all(*need) {
                continue;
            }
            // Only what it does not start with is asked for; what was typed was for another session.
            let mut request = Request {
                verb: Verb::Judge,
                quiet: false,
                profile: Some(name.clone()),
                privileged: false,
                ..advice.request.clone()
            };
            request.add.names = need.minus(*caps);
            request.add.all = false;
            request.drop = Default::default();
            if let Answer::Granted(profile) = (advice.judge)(&request) {
                return vec![format!(
                    "your profile \"{profile}\" allows it: {}",
                    command_line(&cli::run_line(&request))
                )];
            }
        }
    }
    let any = needs.iter().map(CapSet::to_string).collect::<Vec<_>>().join(" or ");
    let mut lines = vec![format!("no profile of yours gives {any} on the machine itself for this command")];
    lines.extend(on_this_machine(needs.first().copied().unwrap_or(CapSet::EMPTY), advice).lines());
    lines.extend(advice.own().contact.clone().map(|contact| format!("ask: {contact}")));
    lines
}

/// What no call says: programs that look at their own uid, and those whose setuid bit is without power.
fn without_a_call(report: &Report, advice: &mut Advice<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    // Not started, or ended by a signal.
    if report.code == 0 || report.code == 126 || report.code == 127 || (129..=192).contains(&report.code) {
        return lines;
    }
    for program in &report.setuid {
        lines.push(format!(
            "{program} is a setuid program: its bit has no power in a session (no_new_privs), nor while it is watched"
        ));
    }
    if !report.findings.is_empty() {
        return lines;
    }
    lines.push(format!(
        "{} ended with {}, and no call of it that is watched was refused for want of a capability",
        report.program, report.code
    ));
    if report.bus {
        lines.push(
            "it asked a service over the system bus: that it refuses is its own will, or that of polkit (pkaction, pkcheck), \
             and no capability changes it"
                .to_owned(),
        );
        lines.extend(advice.own().contact.clone().map(|contact| format!("ask: {contact}")));
        return lines;
    }
    if !is_root(&report.profile, advice.own()) {
        let roots: Vec<String> = advice
            .own()
            .profiles
            .iter()
            .filter(|own| own.user == "root" && own.scope == "isolated")
            .map(|own| own.name.clone())
            .collect();
        let known = "where it says that only root may, it looks at its own uid, and no capability changes that";
        lines.push(match roots.first() {
            Some(name) => {
                let request = Request { profile: Some(name.clone()), ..advice.request.clone() };
                format!("{known}; in your profile \"{name}\" it is 0: {}", command_line(&cli::run_line(&request)))
            }
            None => format!("{known}; in a session of a profile with user = \"root\" it is 0"),
        });
        if roots.is_empty() && advice.inside.is_none() {
            lines.extend(Proposal { root: true, ..Proposal::new(advice) }.lines());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::rules::Verdict;
    use super::*;
    use crate::listing;
    use caplet_policy::capability::CapList;
    use caplet_policy::request::Start;

    fn set(names: &str) -> CapSet {
        let mut list = CapList::default();
        list.add_text(names).expect("names");
        list.names
    }

    fn finding(verdict: Verdict) -> Finding {
        Finding {
            program: "date".into(),
            call: "call()".into(),
            errno: 1,
            verdict,
            held: false,
            times: 1,
            tries: false,
            thread: 0,
            during: (0, 0),
            traced: false,
        }
    }

    fn own(name: &str, scope: &str, caps: &str) -> listing::Line {
        let mut line = listing::Line::default();
        (line.name, line.scope, line.caps) = (name.into(), scope.into(), set(caps));
        line
    }

    /// Grants what the profile `clock` starts with, and NET_ADMIN.
    fn explained(report: &Report) -> Vec<String> {
        let request = Request::new(Verb::Run, Start::Command(vec!["date".into(), "-s".into(), "12:00".into()]));
        let judge = |request: &Request| match request.profile.as_deref() {
            Some("clock") if request.add.is_empty() => Answer::Granted("clock".into()),
            None if request.add.names == set("NET_ADMIN") => Answer::Granted("netlab".into()),
            _ => Answer::Refused(vec!["no".into(), "ask: them".into()]),
        };
        let list = || Some(Own { profiles: vec![own("clock", "host", "SYS_TIME")], contact: Some("them".into()) });
        lines(
            report,
            &mut Advice {
                request: &request,
                user: "alice".into(),
                inside: None,
                own: None,
                judge: Box::new(judge),
                list: Box::new(list),
            },
        )
    }

    fn isolated(verdicts: &[Verdict]) -> Report {
        let findings = verdicts.iter().cloned().map(finding).collect();
        Report { isolated: true, code: 1, program: "date".into(), findings, ..Report::default() }
    }

    #[test]
    fn what_belongs_to_the_machine_is_for_a_host_profile() {
        assert_eq!(
            explained(&isolated(&[Verdict::needs(&["SYS_TIME"], Reach::Machine)])),
            [
                "date: call() was refused (EPERM): it needs SYS_TIME",
                "SYS_TIME can do nothing for it in an isolated session: the clock belongs to the whole machine",
                "your profile \"clock\" allows it: caplet run -p clock -- date -s 12:00",
            ]
        );
        let lines = explained(&isolated(&[Verdict::needs(&["SYS_NICE"], Reach::Machine)]));
        assert_eq!(
            lines[2..],
            [
                "no profile of yours gives SYS_NICE on the machine itself for this command",
                "this would, as a file of policy.d: profile.alice-date = { users = [\"alice\"], scope = \"host\", caps = \
                 [\"SYS_NICE\"], commands = [\"/usr/bin/date\"] }",
                "ask: them"
            ]
        );
    }

    #[test]
    fn what_the_judge_grants_is_a_line_to_type_and_said_once() {
        let verdict = Verdict::needs(&["NET_RAW", "NET_ADMIN"], Reach::Network);
        let lines = explained(&isolated(&[verdict.clone(), verdict]));
        assert_eq!(lines[1], "your profile \"netlab\" allows it: caplet run --cap-add NET_ADMIN -- date -s 12:00");
        assert_eq!(lines.len(), 3);
        let lines = explained(&isolated(&[Verdict::needs(&["KILL"], Reach::Session).unsure()]));
        assert_eq!(
            lines,
            [
                "date: call() was refused (EPERM): not sure; perhaps it needs KILL",
                "no",
                "this would, as a file of policy.d: profile.alice-date = { users = [\"alice\"], may_add = [\"KILL\"] }",
                "ask: them"
            ]
        );
    }

    #[test]
    fn what_no_capability_helps_says_why() {
        let lines = explained(&isolated(&[Verdict::no_capability("it is on a read-only mount")]));
        assert_eq!(lines, ["date: call() was refused (EPERM): it is on a read-only mount", "ask: them"]);
        let lines = explained(&isolated(&[]));
        assert!(
            lines[0].starts_with("date ended with 1, and no call") && lines[1].contains("its own uid"),
            "{lines:?}"
        );
        assert_eq!(explained(&Report { code: 0, ..isolated(&[]) }), [""; 0]);
    }
}
