//! What the kernel itself says that it asked for: the helper's word at the end of a session of a profile with
//! `why = "trace"`. It settles what the rules are not sure of; where it says nothing, the rules stand.

use super::explain::OF_FILES;
use super::report::{Finding, Report};
use super::rules::Reach;
use caplet_policy::capability::CapSet;
use serde_json::Value;
use std::collections::HashMap;

/// Calls, and what the kernel asks for in them in passing: alone, it says nothing there.
const IN_PASSING: &[(&str, &[&str])] = &[
    // security/commoncap.c: cap_vm_enough_memory, where memory is counted
    ("SYS_ADMIN", &["clone", "clone3", "execve", "execveat", "shmget", "bpf", "userfaultfd", "mlockall"]),
    // security/commoncap.c: cap_inh_is_capped, before it is looked at what is to be raised
    ("SETPCAP", &["capset"]),
];

/// What came of the trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trace {
    /// The profile has the rules alone.
    #[default]
    Off,
    /// There is none, and why.
    Missing(&'static str),
    Read {
        refused: Vec<Refused>,
        /// Records that did not come through.
        lost: u64,
    },
}

/// The kernel has refused a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// CLOCK_MONOTONIC_RAW, in nanoseconds.
    time: u64,
    /// By the machine's number.
    thread: u64,
    cap: CapSet,
    /// It was asked of the machine's user namespace, not of one of the session's.
    machine: bool,
}

impl Trace {
    /// From all that came through the pipe, a line each.
    pub fn read(heard: &[u8]) -> Self {
        let mut lines = heard.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"trace\":"));
        let Some(value) = lines.next_back().and_then(|line| serde_json::from_slice::<Value>(line).ok()) else {
            return Self::Off;
        };
        let value = &value["trace"];
        if let Some(refused) = value["refused"].as_array() {
            let refused = refused.iter().filter_map(Refused::read).collect();
            return Self::Read { refused, lost: value["lost"].as_u64().unwrap_or(0) };
        }
        Self::Missing(match value["not"].as_str() {
            Some("missing") => "this kernel has no such tracepoint (Linux 6.14), or tracefs is not mounted",
            Some("refused") => "the kernel refuses perf_event_open(2)",
            _ => "this kernel's tracepoint has another format",
        })
    }

    /// Settles what it can.
    pub fn settle(&self, report: &mut Report) {
        let Self::Read { refused, .. } = self else { return };
        // Threads of the session have other numbers inside: who was alone in its call is known from then on.
        let mut threads: HashMap<u64, u64> = HashMap::new();
        let during = |finding: &Finding| -> Vec<Refused> {
            let (from, to) = finding.during;
            refused.iter().filter(|one| (from..=to).contains(&one.time)).copied().collect()
        };
        for finding in &report.findings {
            let asked = during(finding);
            if let Some(first) = asked.first().filter(|first| asked.iter().all(|one| one.thread == first.thread)) {
                threads.entry(finding.thread).or_insert(first.thread);
            }
        }
        for finding in &mut report.findings {
            let Some(thread) = threads.get(&finding.thread) else { continue };
            let asked: Vec<Refused> = during(finding).into_iter().filter(|one| one.thread == *thread).collect();
            finding.settle(&asked, report.isolated);
        }
    }

    /// For --json.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Off => Value::Null,
            Self::Missing(why) => serde_json::json!({ "used": false, "why": why }),
            Self::Read { lost, .. } => serde_json::json!({ "used": true, "lost": lost }),
        }
    }
}

impl Refused {
    fn read(value: &Value) -> Option<Self> {
        let cap = u8::try_from(value[2].as_u64()?).ok().filter(|number| *number < 64)?;
        Some(Self {
            time: value[0].as_u64()?,
            thread: value[1].as_u64()?,
            cap: CapSet::from_bits(1 << cap),
            machine: value[3].as_bool()?,
        })
    }
}

impl Finding {
    /// What the kernel asked for in this call, in its order. It stops at a capability that is held; so each of these
    /// would have been enough to come further.
    fn settle(&mut self, asked: &[Refused], isolated: bool) {
        let call = self.call.split('(').next().unwrap_or_default();
        let in_passing = |one: &&Refused| {
            let name = one.cap.to_string();
            IN_PASSING.iter().any(|(cap, calls)| *cap == name && calls.contains(&call))
        };
        if asked.iter().all(|one| in_passing(&one)) {
            return;
        }
        let verdict = &mut self.verdict;
        let is_asked = |need: &CapSet| asked.iter().any(|one| need.contains_all(one.cap));
        let named: Vec<CapSet> = verdict.needs.iter().copied().filter(is_asked).collect();
        let overruled = named.is_empty();
        match overruled {
            // Of what the rules have, this. More than one is needed after another where they say so.
            false => verdict.needs = named,
            // Something in passing, and the rules know better.
            true if verdict.sure && verdict.needs.is_empty() => return,
            true => {
                verdict.needs.clear();
                for one in asked {
                    if !verdict.needs.contains(&one.cap) {
                        verdict.needs.push(one.cap);
                    }
                }
                verdict.cause = None;
            }
        }
        if !verdict.sure {
            verdict.cause = None;
        }
        verdict.sure = true;
        let of_it = |one: &&Refused| verdict.needs.iter().any(|need| need.contains_all(one.cap));
        let machine = asked.iter().filter(of_it).all(|one| one.machine);
        // For a file the kernel asks the session's namespace, and then whether that knows the owner: the rules know.
        let of_a_file = asked.iter().any(|one| OF_FILES.contains(&one.cap.to_string().as_str()));
        match () {
            () if !isolated => {}
            () if machine => verdict.reach = Reach::Machine,
            () if overruled && !of_a_file => verdict.reach = Reach::Session,
            () => {}
        }
        self.traced = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::Verdict;
    use super::*;

    fn finding(call: &str, verdict: Verdict, thread: u64, during: (u64, u64)) -> Finding {
        Finding {
            program: "p".into(),
            call: call.into(),
            errno: 1,
            verdict,
            held: false,
            times: 1,
            tries: false,
            thread,
            during,
            traced: false,
        }
    }

    fn settled(trace: &str, findings: Vec<Finding>) -> Vec<(String, bool, Reach, bool)> {
        let mut report = Report { isolated: true, findings, ..Report::default() };
        Trace::read(format!("{{}}\n{{\"trace\":{trace}}}\n").as_bytes()).settle(&mut report);
        let names =
            |finding: &Finding| finding.verdict.needs.iter().map(CapSet::to_string).collect::<Vec<_>>().join("|");
        report.findings.iter().map(|f| (names(f), f.verdict.sure, f.verdict.reach, f.traced)).collect()
    }

    #[test]
    fn what_was_asked_in_the_call_settles_it() {
        let unsure = Verdict::needs(&["SYS_TIME", "SYS_NICE", "SYS_ADMIN"], Reach::Session).unsure();
        let trace = r#"{"refused":[[5,900,25,true],[15,900,23,true],[15,901,12,true]],"lost":0}"#;
        let found = settled(
            trace,
            vec![
                finding("clock_settime()", unsure.clone(), 3, (4, 6)),
                // Somebody else was at work meanwhile: whose is whose is known from the first.
                finding("setpriority()", unsure.clone(), 3, (10, 20)),
                finding("kill()", unsure.clone(), 4, (10, 20)),
                finding("kill()", unsure, 5, (30, 40)),
            ],
        );
        assert_eq!(found[0], ("SYS_TIME".into(), true, Reach::Machine, true));
        assert_eq!(found[1], ("SYS_NICE".into(), true, Reach::Machine, true));
        assert_eq!((found[2].1, found[3].1), (false, false), "nothing is known of these");
    }

    #[test]
    fn a_rule_that_is_wrong_is_overruled_but_not_by_what_is_asked_in_passing() {
        let wrong = Verdict::needs(&["SYS_NICE"], Reach::Machine);
        let trace = r#"{"refused":[[5,9,12,false],[15,9,21,true],[25,9,21,true]],"lost":3}"#;
        let found = settled(
            trace,
            vec![
                finding("ioctl(X)", wrong.clone(), 3, (4, 6)),
                finding("clone()", wrong, 3, (14, 16)),
                finding("openat()", Verdict::no_capability("x"), 3, (24, 26)),
            ],
        );
        assert_eq!(found[0], ("NET_ADMIN".into(), true, Reach::Session, true));
        assert_eq!(found[1], ("SYS_NICE".into(), true, Reach::Machine, false));
        assert_eq!(found[2], (String::new(), true, Reach::Machine, false));
    }

    #[test]
    fn without_a_trace_the_rules_stand() {
        assert_eq!(Trace::read(b"{\"profile\":1}\n"), Trace::Off);
        let missing = Trace::read(b"{\"trace\":{\"not\":\"missing\"}}\n");
        assert_eq!(missing.to_json()["used"], false);
        assert!(missing.to_json()["why"].as_str().is_some_and(|why| why.contains("tracefs")));
        let odd = Trace::read(b"{\"trace\":{\"refused\":[[1,2,99,true],[1],\"x\"],\"lost\":1}}\n");
        assert_eq!(odd, Trace::Read { refused: Vec::new(), lost: 1 });
    }
}
