//! `caplet learn`: the least that a command needs. It is tried with all that its user may have, with nothing, with what it
//! was refused, and then without each of these; each time in a session of its own, watched.

use super::advice::{Advice, Answer};
use super::proposal::Proposal;
use super::report::Report;
use super::{explain, watched};
use crate::cli;
use crate::installed::session_profile;
use crate::messages::{self, FAILURE, NO, Trouble, tell};
use crate::quoting::command_line;
use caplet_policy::capability::{CapSet, Capability};
use caplet_policy::request::{Request, Verb};
use std::collections::BTreeSet;
use std::process::ExitCode;

/// A chain of refusals is no longer than this: each link is one session.
const LONGEST_CHAIN: usize = 16;

/// What is compared of two sessions: how it ended, and for want of what it was refused something.
type Outcome = (i32, BTreeSet<u64>);

/// Prints the profile; 1 where there is none.
pub fn run(request: &Request) -> ExitCode {
    if session_profile().is_some() {
        let (asked, instead) = cli::shell_line(request);
        tell(&Trouble::Fixed { asked, instead });
        return FAILURE.into();
    }
    match learn(request) {
        Ok(Some(text)) => messages::print(&text, NO),
        Ok(None) => NO.into(),
        Err(trouble) => {
            tell(&trouble);
            NO.into()
        }
    }
}

struct Learner<'a> {
    request: &'a Request,
    profile: String,
    sessions: usize,
}

impl Learner<'_> {
    /// The command in a session that holds exactly these.
    fn exactly(&self, held: CapSet) -> Request {
        let mut request = Request { profile: Some(self.profile.clone()), quiet: true, ..self.request.clone() };
        request.drop.all = true;
        request.add.names = held;
        request
    }

    fn attempt(&mut self, held: CapSet) -> Result<Report, Trouble> {
        self.sessions += 1;
        let (code, report) = watched(&self.exactly(held), true)?;
        match report {
            // A key on the terminal, and whoever ends us, means all of it.
            _ if [129, 130, 131, 143].contains(&code) => Err(Trouble::LearnStopped(code)),
            Some(report) => Ok(report),
            None => Err(Trouble::LearnNoSession(self.profile.clone())),
        }
    }
}

fn outcome(report: &Report) -> Outcome {
    let missing = report.findings.iter().filter(|finding| !finding.held);
    (report.code, missing.flat_map(|finding| finding.verdict.needs.iter().map(|need| need.bits())).collect())
}

fn learn(request: &Request) -> Result<Option<String>, Trouble> {
    let mut advice = Advice::of(request);
    let Some(Widest { name, root, host_network, may_have }) = widest(request, &mut advice) else {
        tell(&Trouble::LearnNothing);
        return Ok(None);
    };
    let mut learner = Learner { request, profile: name, sessions: 0 };
    let all = learner.attempt(may_have)?;
    if all.code != 0 {
        tell(&Trouble::LearnInVain { all: may_have.to_string(), code: all.code });
        explain::lines(&all, &mut advice).iter().for_each(|line| tell(line));
        return Ok(None);
    }
    let wanted = outcome(&all);
    let mut needed = chain(&mut learner, may_have, &wanted)?;
    for cap in needed.iter() {
        let without = needed.minus(CapSet::EMPTY.with(cap));
        if outcome(&learner.attempt(without)?) == wanted {
            needed = without;
        }
    }
    tell(&Trouble::Learned { sessions: learner.sessions, profile: learner.profile });
    let proposal = Proposal { root, host_network, caps: needed, caps_said: true, ..Proposal::new(&advice) };
    let command = command_line(&advice.words());
    let table = format!("[profile.{}]\n{}\n", proposal.name, proposal.entries().join("\n"));
    Ok(Some(format!("# The least for: {}\n{table}", caplet_policy::escape::for_terminal(command.as_bytes()))))
}

/// From nothing on, what is refused is added, until it is as with all; else all.
fn chain(learner: &mut Learner<'_>, may_have: CapSet, wanted: &Outcome) -> Result<CapSet, Trouble> {
    let mut held = CapSet::EMPTY;
    for _ in 0..LONGEST_CHAIN {
        let report = learner.attempt(held)?;
        if outcome(&report) == *wanted {
            return Ok(held);
        }
        let enough = |needs: &Vec<CapSet>| needs.iter().copied().find(|need| may_have.contains_all(*need));
        let refused = report.findings.iter().filter_map(|finding| enough(&finding.verdict.needs));
        let more = refused.fold(held, CapSet::union);
        if more == held {
            break;
        }
        held = more;
    }
    Ok(may_have)
}

/// A profile of the user's, and what may be had in its sessions.
struct Widest {
    name: String,
    root: bool,
    host_network: bool,
    may_have: CapSet,
}

/// The user's isolated profile in which the most can be had; with `-p` that one.
fn widest(request: &Request, advice: &mut Advice<'_>) -> Option<Widest> {
    let named = |name: &str| request.profile.as_ref().is_none_or(|wanted| wanted == name);
    let own = advice.own().profiles.iter().filter(|line| line.scope == "isolated" && named(&line.name));
    let profiles: Vec<Widest> = own
        .map(|line| Widest {
            name: line.name.clone(),
            root: line.user == "root",
            host_network: line.network == "host",
            may_have: if line.may_add.all { CapSet::KNOWN } else { line.caps.union(line.may_add.names) },
        })
        .collect();
    let mut best: Option<Widest> = None;
    for profile in profiles {
        // Of what is listed, some can do nothing in a session, and is refused by name.
        let granted = |cap: &Capability| {
            let mut asked = Request { verb: Verb::Judge, profile: Some(profile.name.clone()), ..request.clone() };
            asked.drop.all = true;
            asked.add.names = CapSet::EMPTY.with(*cap);
            matches!((advice.judge)(&asked), Answer::Granted(_))
        };
        let may_have = profile.may_have.iter().filter(granted).fold(CapSet::EMPTY, CapSet::with);
        let size = |set: CapSet| set.iter().count();
        if best.as_ref().is_none_or(|best| size(may_have) > size(best.may_have)) {
            best = Some(Widest { may_have, ..profile });
        }
    }
    best
}
