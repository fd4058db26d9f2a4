//! What the watcher inside tells the part outside, as one line of JSON; nobody else reads it.

use super::kernel::Trace;
use super::rules::{Reach, Verdict};
use caplet_policy::capability::{CapList, CapSet};
use serde_json::{Value, json};

/// More are only counted.
pub const MOST: usize = 24;
/// Longest text in it, in characters.
const LONGEST: usize = 300;

/// What was seen of a command, from its start to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub profile: String,
    pub isolated: bool,
    /// 128 and the signal's number, as a shell has it.
    pub code: i32,
    pub program: String,
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more: u64,
    /// Programs whose setuid bit was without power.
    pub setuid: Vec<String>,
    /// It spoke to a service of the system bus.
    pub bus: bool,
    /// Processes that the command left behind, and that ended with it.
    pub left: u64,
    /// What the kernel itself said; not the watcher's.
    pub trace: Trace,
}

/// One refusal, and how often there was the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub program: String,
    pub call: String,
    pub errno: i32,
    pub verdict: Verdict,
    /// The process held what the kernel asked for, in its own namespace.
    pub held: bool,
    pub times: u64,
    /// Programs try this and do without. Only for the order; it is not told.
    pub tries: bool,
    /// Who made the call, by its number inside, and from when to when (CLOCK_MONOTONIC_RAW, nanoseconds).
    pub thread: u64,
    pub during: (u64, u64),
    /// The kernel's own trace says so.
    pub traced: bool,
}

impl Report {
    /// Takes a refusal in.
    pub fn add(&mut self, finding: Finding) {
        let same =
            |old: &Finding| (&old.program, &old.call, old.errno) == (&finding.program, &finding.call, finding.errno);
        match self.findings.iter().position(same) {
            Some(at) => self.findings[at].times += 1,
            None if self.findings.len() < MOST => self.findings.push(finding),
            None => self.more += 1,
        }
    }

    pub fn to_json(&self) -> Value {
        json!({
            "profile": self.profile,
            "scope": if self.isolated { "isolated" } else { "host" },
            "program": cut(&self.program),
            "code": self.code,
            "refusals": self.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
            "more": self.more,
            "setuid": self.setuid,
            "bus": self.bus,
            "left": self.left,
        })
    }

    /// `None` if it is not what a watcher of this version writes, in its first line.
    pub fn read(text: &[u8]) -> Option<Self> {
        let line = text.split(|byte| *byte == b'\n').next()?;
        let value: Value = serde_json::from_slice(line).ok()?;
        let texts = |value: &Value| -> Option<Vec<String>> {
            value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
        };
        Some(Self {
            profile: value["profile"].as_str()?.to_owned(),
            isolated: value["scope"] == "isolated",
            code: value["code"].as_i64()? as i32,
            program: value["program"].as_str()?.to_owned(),
            findings: value["refusals"].as_array()?.iter().map(Finding::read).collect::<Option<_>>()?,
            more: value["more"].as_u64()?,
            setuid: texts(&value["setuid"])?,
            bus: value["bus"].as_bool()?,
            left: value["left"].as_u64()?,
            trace: Trace::Off,
        })
    }
}

const REACHES: [(Reach, &str); 3] =
    [(Reach::Machine, "machine"), (Reach::Session, "session"), (Reach::Network, "network")];

impl Finding {
    fn to_json(&self) -> Value {
        let reach = REACHES.iter().find(|(reach, _)| *reach == self.verdict.reach).map(|(_, name)| name);
        json!({
            "program": cut(&self.program),
            "call": cut(&self.call),
            "errno": self.errno,
            "error": errno_name(self.errno),
            "needs": self.verdict.needs.iter().map(|set| names(*set)).collect::<Vec<_>>(),
            "of": reach,
            "sure": self.verdict.sure,
            "cause": self.verdict.cause.as_deref().map(cut),
            "held": self.held,
            "times": self.times,
            "traced": self.traced,
            "thread": self.thread,
            "during": [self.during.0, self.during.1],
        })
    }

    fn read(value: &Value) -> Option<Self> {
        let set = |value: &Value| {
            let mut list = CapList::default();
            for name in value.as_array()? {
                list.add_text(name.as_str()?).ok()?;
            }
            Some(list.names)
        };
        let verdict = Verdict {
            needs: value["needs"].as_array()?.iter().map(set).collect::<Option<_>>()?,
            reach: REACHES.iter().find(|(_, name)| value["of"] == *name)?.0,
            sure: value["sure"].as_bool()?,
            cause: value["cause"].as_str().map(str::to_owned),
        };
        Some(Self {
            program: value["program"].as_str()?.to_owned(),
            call: value["call"].as_str()?.to_owned(),
            errno: value["errno"].as_i64()? as i32,
            verdict,
            held: value["held"].as_bool()?,
            times: value["times"].as_u64()?,
            tries: false,
            thread: value["thread"].as_u64()?,
            during: (value["during"][0].as_u64()?, value["during"][1].as_u64()?),
            traced: false,
        })
    }
}

/// `EPERM`.
pub fn errno_name(errno: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

pub fn names(set: CapSet) -> Vec<&'static str> {
    set.iter().map(|cap| cap.name()).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(call: &str) -> Finding {
        let verdict = Verdict::needs(&["SYS_TIME", "BPF,PERFMON"], Reach::Machine).because("x").unsure();
        Finding {
            program: "date".into(),
            call: call.into(),
            errno: 1,
            verdict,
            held: false,
            times: 1,
            tries: false,
            thread: 1,
            during: (2, 3),
            traced: false,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut report =
            Report { profile: "p".into(), isolated: true, setuid: vec!["sudo".into()], ..Report::default() };
        report.add(finding("one()"));
        report.add(finding("one()"));
        assert_eq!(report.findings[0].times, 2);
        let text = report.to_json().to_string();
        assert!(text.contains("\"error\":\"EPERM\""), "{text}");
        assert_eq!(Report::read(text.as_bytes()), Some(report));
        assert_eq!(Report::read(b"{}"), None);
    }

    #[test]
    fn it_stays_small() {
        let mut report = Report::default();
        for n in 0..1000 {
            report.add(finding(&format!("{n}{}", "x".repeat(5000))));
        }
        assert_eq!((report.findings.len(), report.more), (MOST, 1000 - MOST as u64));
        assert!(report.to_json().to_string().len() < 32 << 10);
    }
}
