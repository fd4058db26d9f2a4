//! Every word that the helper itself says to a user. Words about a judgement are the judge's (caplet-policy).

use crate::sys::{Errno, standard};
use caplet_policy::escape::for_terminal;
use caplet_policy::request::RequestError;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt::Write as _;
use std::io::Write as _;

/// The exit code of everything that is ours: refusal, usage, failure.
pub const OURS: i32 = 125;
/// Found, but it could not be executed.
pub const NOT_EXECUTABLE: i32 = 126;
/// Not found.
pub const NOT_FOUND: i32 = 127;

/// How long a message waits for somebody to read it, in milliseconds.
const PATIENCE: u16 = 5000;

/// Why the helper stops. Nothing was run.
#[derive(Debug)]
pub enum Error {
    /// The front end's words make no sense.
    Usage(RequestError),
    /// The setuid bit did not work, and why.
    Powerless(&'static str),
    /// uid 0 asked.
    Root,
    /// uid 0 asked to be forgotten.
    RootForgets,
    /// The caller's uid has no entry, or NSS could not say.
    Nameless(u32, &'static str),
    /// The policy cannot be used: what root may read in the log, and whom a user calls.
    Policy { detail: String, contact: Option<String> },
    /// The judge refused; its lines.
    Refused(Vec<String>),
    /// A profile needs something that this build cannot do.
    Unsupported(String),
    /// The log line could not be written and the policy wants it.
    Unlogged,
    /// All of the user's sessions are taken.
    TooMany(u32),
    /// No running session of the caller's has this id.
    NoSession(String),
    /// It is still being built, so that nobody can be asked to end it.
    NotYetRunning(String),
    /// It was asked to end, and has not yet.
    StillEnding(String),
    /// One of descriptors 0 to 2 is nothing for a session.
    Descriptor(i32, &'static str),
    /// No user namespace can be made.
    NoUserNamespace(&'static str),
    /// The profile's network cannot be had.
    NoNetwork(String),
    /// What the profile's `cgroup` limits cannot be limited here.
    NoLimits(String),
    /// Another policy than the one that it was granted by.
    OtherPolicy,
    /// The kernel is older than sessions need.
    OldKernel(String),
    /// The user's range in `/etc/subuid` or `/etc/subgid` cannot be used.
    Subids(String),
    /// A kernel call failed.
    Call { call: String, errno: Errno },
    /// What was built is not what was granted.
    NotAsGranted(String),
    /// The command could not be started: 126 or 127.
    Command { name: String, why: String, code: i32 },
    /// Already said by the process where it happened.
    Said(i32),
    /// This signal ended it while it was asking; the person knows.
    Interrupted(i32),
}

/// `map_err` of a kernel call: names the call with its arguments.
pub fn call(name: impl Into<String>) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Call { call: name.into(), errno }
}

impl Error {
    /// The exit code it ends with.
    pub fn code(&self) -> i32 {
        match self {
            Error::Command { code, .. } | Error::Said(code) => *code,
            Error::Interrupted(signal) => 128 + signal,
            _ => OURS,
        }
    }

    /// The lines a person reads, without the `caplet: ` in front.
    pub fn lines(&self) -> Vec<String> {
        let one = |text: String| vec![text];
        match self {
            Error::Usage(RequestError(text)) => one(text.clone()),
            Error::Powerless(why) => one((*why).into()),
            Error::Root => one("you are root: run this as the user who needs it, or use setpriv".into()),
            Error::RootForgets => one("you are root, who is never asked for a password: nothing to forget".into()),
            Error::Nameless(uid, why) => one(format!("uid {uid} {why}: no session can be judged")),
            Error::Policy { contact, .. } => {
                let mut lines = one("the policy of this machine is faulty, so nothing is granted to anybody".into());
                lines.push("root sees where and why: caplet check".into());
                lines.extend(contact.as_ref().map(|c| format!("ask: {}", for_terminal(c.as_bytes()))));
                lines
            }
            Error::Refused(lines) => lines.clone(),
            Error::Unsupported(text) => one(text.clone()),
            Error::Unlogged => {
                one("the policy wants every session logged, and the system log takes nothing now".into())
            }
            Error::TooMany(1) => one("you have a session already, and the profile allows no second one: end it".into()),
            Error::TooMany(max) => {
                one(format!("you have {max} sessions already, as many as the profile allows: end one"))
            }
            Error::NoSession(id) => one(format!("no running session of yours has the id {id}; see: caplet sessions")),
            Error::NotYetRunning(id) => one(format!("session {id} is only just starting: try again")),
            Error::StillEnding(id) => one(format!(
                "session {id} was killed, but its guard does not answer (frozen, or starved by its own cgroup?)"
            )),
            Error::Descriptor(number, what) => {
                one(format!("descriptor {number} is {what}, which is nothing to hand into a session: redirect it"))
            }
            Error::NoUserNamespace(why) => one(format!("no isolated session: {why}")),
            Error::NoNetwork(why) => one(format!("no session: {}", for_terminal(why.as_bytes()))),
            Error::NoLimits(why) => {
                one(format!("no session: its cgroup limits cannot be had: {}", for_terminal(why.as_bytes())))
            }
            Error::OtherPolicy => one("no session: the policy has changed since it was asked for; ask again".into()),
            Error::OldKernel(release) => one(format!(
                "kernel {} is too old: sessions need Linux 5.14 or newer",
                for_terminal(release.as_bytes())
            )),
            Error::Subids(text) => one(text.clone()),
            Error::Call { call, errno } => {
                one(format!("the session could not be built: {}: {}", for_terminal(call.as_bytes()), errno.desc()))
            }
            Error::NotAsGranted(what) => {
                one(format!("the session is not what was granted, so nothing was run: {what}"))
            }
            Error::Command { name, why, .. } => one(format!("{}: {why}", for_terminal(name.as_bytes()))),
            Error::Said(_) | Error::Interrupted(_) => Vec::new(),
        }
    }

    /// Says it on descriptor 2; a closed or full one is no reason to panic.
    pub fn say(&self) {
        let _ = self.lines().iter().all(|line| say(line));
    }
}

/// How long all that a process of root's says at its end may take, in seconds: a terminal that takes half of a line would
/// keep it, and its user cannot kill it.
pub const TO_SAY: u32 = 6;

/// One line on stderr, in one write; whether somebody took it. A full pipe is waited for a while only.
pub fn say(line: &str) -> bool {
    let mut wait = [PollFd::new(standard(2), PollFlags::POLLOUT)];
    if matches!(poll(&mut wait, PollTimeout::from(PATIENCE)), Ok(0)) {
        return false;
    }
    let mut text = String::with_capacity(line.len() + 9);
    let _ = writeln!(text, "caplet: {line}");
    std::io::stderr().write_all(text.as_bytes()).is_ok()
}
