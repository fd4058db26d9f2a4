//! The guard: root's, so that the user can neither stop nor kill it, but with CAP_KILL alone (and CAP_SETUID, to end as
//! the user), in an empty root. It ends the session when the relay dies, when the time is up or when it is no longer
//! granted, and sees to it that every `grant` gets its `end`.

use super::terminal::Outer;
use super::wire::{self, Cause, Report};
use super::{SETUID, trace};
use crate::authenticate::TO_THINK;
use crate::authenticate::talk::{self, Word};
use crate::capset;
use crate::cgroup;
use crate::error::{Error, OURS, TO_SAY, call};
use crate::hygiene::Power;
use crate::isolated::{self, Around};
use crate::lan::Uplink;
use crate::lan::outgoing::Running;
use crate::plan::Plan;
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::process::{self, Change, Usage};
use crate::sys::{Errno, capability, identity, standard, terminal};
use crate::trail::Recorded;
use crate::{host, seccomp};
use caplet_policy::capability::CapSet;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use std::cell::Cell;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::time::Duration;

/// From the judgement to the command, at most, but for what PAM's session takes: longer than its watcher may take, and all
/// that is waited for.
const TO_RUN: Duration = Duration::from_secs(30);
/// How long a command has after it was asked to end.
const GRACE: Duration = Duration::from_secs(2);
/// How long it takes a process to end, in milliseconds.
const MOMENT: u16 = 200;
/// CAP_KILL, and for its end CAP_SETUID.
const KEPT: CapSet = CapSet::from_bits(1 << 5 | SETUID.bits());

/// A running command, as its starter hands it to the guard.
#[derive(Debug)]
pub struct Started {
    /// The guard's child: the command, or PID 1 of its session.
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// The line to it: what it waits for, and what PID 1 reports.
    pub line: OwnedFd,
    /// It is PID 1 of a session; else the command itself.
    pub session: bool,
    /// What the command leaves behind goes on.
    pub linger: bool,
    /// What kills all of the session at once, where it has a cgroup of its own.
    pub killer: Option<OwnedFd>,
    /// What answers the frames of a link of the session's own. The session goes on without it, should its user end it.
    pub outgoing: Option<Running>,
}

/// Builds the session and stays until it is over.
pub fn run(
    plan: Plan,
    recorded: Recorded,
    relay: &OwnedFd,
    watcher: Option<OwnedFd>,
    outer: Option<Outer>,
    uplink: Option<Uplink>,
    tracer: Option<OwnedFd>,
) -> ! {
    let (isolated, lifetime, judged_at) = (plan.isolation.is_some(), plan.lifetime, plan.judged_at);
    let real = plan.power == Power::Setuid;
    let person = recorded.person().clone();
    let uid = person.uid;
    let mut ending = recorded.into_ending();
    // Before the root is empty. A kernel without it (CONFIG_PROC_CHILDREN) leaves the command itself.
    let list = format!("/proc/self/task/{}/children", std::process::id());
    let readable = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let children = if isolated { None } else { open(list.as_str(), readable, Mode::empty()).ok() };
    // For a word about what fails once the caller's descriptors are given up.
    let words = standard(2).try_clone_to_owned().ok();
    let started = null().and_then(|null| {
        ending.enclose()?;
        let cgroup = ending.cgroup();
        // Before this process sees the session's tree.
        let way = if real { cgroup::Way::open().map_err(call("open the tree of cgroups"))? } else { None };
        let started = match isolated {
            true => {
                let around = Around { relay, watcher: watcher.as_ref(), outer: outer.as_ref(), cgroup };
                isolated::start(plan, &person, around, uplink)?
            }
            false => {
                // What a host command leaves behind holds real capabilities: it stays in sight until its end.
                process::adopt_orphans().map_err(call("prctl(PR_SET_CHILD_SUBREAPER)"))?;
                host::start(plan, cgroup)?
            }
        };
        ending.running(started.pid).inspect_err(|_| {
            let _ = process::pidfd_signal(&started.pidfd, libc::SIGKILL);
        })?;
        let told = wire::send(relay, Report::Started, Some(&started.pidfd)).map_err(wire::untold("tell the relay"));
        let waited = Cell::new(Duration::ZERO);
        let surround = || {
            let since = process::boot_time();
            let changes = ending.changes(relay)?;
            waited.set(process::boot_time().saturating_sub(since).min(TO_THINK));
            changes.iter().try_for_each(|change| surround(&started, change))
        };
        let run = || {
            // The relay has given root up, and the watcher all that is the caller's: who fails in that fails before.
            wire::wait_for(relay, Report::Go)?;
            let ready = |error| match error {
                Error::Said(_) => Error::NotAsGranted("its watcher did not come up".into()),
                error => error,
            };
            watcher.as_ref().map_or(Ok(()), |w| wire::wait_for(w, Report::Go)).map_err(ready)?;
            // Whoever can freeze the caller's cgroup could, until it was left, keep this start for when it is granted no
            // more: what the watcher has said of that meanwhile is heard only once the command runs.
            if watcher.is_some() && process::boot_time().saturating_sub(judged_at) > TO_RUN + waited.get() {
                let seconds = TO_RUN.as_secs();
                let what = format!("its start stood still for more than {seconds} s; give the command again");
                return Err(Error::NotAsGranted(what));
            }
            // Before PID 1 makes the command, which is then recorded from its first breath.
            tracer.iter().for_each(|line| trace::attach(line, started.pid));
            wire::send(&started.line, Report::Run, None).map_err(call("start the command"))
        };
        // Late: the watcher's own move has waited for all processors meanwhile (RCU), and this one need not. What was
        // started stays where its caller is.
        let leave = || way.iter().try_for_each(cgroup::Way::leave).map_err(call("leave the caller's cgroup"));
        match told
            .and_then(|()| surround())
            .and_then(|()| leave())
            .and_then(|()| retire(&null, uid))
            .and_then(|()| run())
        {
            Ok(()) => Ok(started),
            Err(error) => {
                let _ = process::pidfd_signal(&started.pidfd, libc::SIGKILL);
                Err(unless_it_ended(started.pid, &started.pidfd, error))
            }
        }
    });
    drop(outer);
    if let (Err(_), Some(words)) = (&started, &words) {
        let _ = terminal::replace_standard(words, 2);
    }
    drop(words);
    let (report, late) = match started {
        Ok(started) => {
            let Over { report, used, by, watcher } = watch(&started, relay, watcher, children, lifetime);
            let status = match report {
                Report::Signaled(signal) => format!("signal:{signal}"),
                other => format!("exit:{}", other.code().unwrap_or(OURS)),
            };
            tracer.into_iter().for_each(trace::finish);
            drop(started.outgoing); // before anybody hears of the end
            let late = ending.end(&status, Some(used), by.as_deref());
            // Who hears no such word takes it that this process was killed.
            if let Some(watcher) = &watcher {
                let _ = wire::send(watcher, report, None);
            }
            (report, late)
        }
        Err(error) => {
            let late = ending.end(&format!("failed:{}", error.code()), None, None);
            reap();
            // What is still to be logged would end with it. Else nothing is left to do as root.
            if late.is_none() {
                if real {
                    identity::end_as(uid);
                }
                let _ = process::end_in(TO_SAY);
            }
            error.say();
            process::disarm_timers();
            (Report::Exited(error.code()), late)
        }
    };
    let _ = wire::send(relay, report, None);
    if let Some(late) = late {
        late.insist();
    }
    if real { super::end_as(uid) } else { process::exit_now(0) }
}

/// Asks after what was killed while it was still root's, before the user may kill this process too: nobody else would.
fn reap() {
    for _ in 0..MOMENT {
        match process::wait(None, libc::WEXITED | libc::WNOHANG) {
            Err(_) => return,
            Ok(Some(_)) => {}
            Ok(None) => drop(poll(&mut [], PollTimeout::from(MOMENT / 20))),
        }
    }
}

/// The error of who worked for a child of ours that is being killed; nothing more to say where it had ended by itself,
/// and so has said why. It is not waited for long: the kernel keeps PID 1 until all others of its namespace are gone.
pub fn unless_it_ended(child: i32, pidfd: &OwnedFd, error: Error) -> Error {
    if let Error::Said(_) = error {
        return error;
    }
    let _ = poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], MOMENT);
    for _ in 0..10 {
        match process::wait(Some(child), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) {
            Ok(Some((_, Change::Exited(code)))) => return Error::Said(code),
            Ok(None) => drop(poll(&mut [], PollTimeout::from(MOMENT / 20))), // whoever traces it has it first
            _ => break,
        }
    }
    error
}

fn null() -> Result<OwnedFd, Error> {
    open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(call("open /dev/null"))
}

/// What a session module of PAM changed, for the process that will be the command or start it.
fn surround(started: &Started, change: &Word) -> Result<(), Error> {
    match change {
        Word::Nice(nice) => process::set_nice(started.pid, *nice).map_err(call(format!("setpriority({nice})"))),
        Word::Limit(resource, true, hard) => {
            // The command's process sets it, and may need to be allowed to. Where this fails for want of
            // CAP_SYS_RESOURCE, one that is really higher fails there, and nothing runs.
            let _ = process::allow_limit(started.pid, *resource, *hard);
            talk::say(&started.line, change).map_err(call("tell what PAM changed"))
        }
        change => talk::say(&started.line, change).map_err(call("tell what PAM changed")),
    }
}

/// Gives up the caller's descriptors, the tree, and every capability but those.
fn retire(null: &OwnedFd, uid: u32) -> Result<(), Error> {
    let empty = mount::new_filesystem("tmpfs", &[("mode", "555")], RDONLY | NOSUID | NODEV | NOEXEC)
        .map_err(call("new tmpfs for the guard"))?;
    nix::unistd::fchdir(&empty).map_err(call("fchdir"))?;
    nix::unistd::chroot(".").map_err(call("chroot"))?;
    // Stays open: closing it now would wait for the kernel to take the mount apart.
    let _ = empty.into_raw_fd();
    let _ = identity::set_supplementary_groups(&[]); // denied in a user namespace of the user's own, and needless
    capset::reduce_to(KEPT)?;
    capability::set_not_dumpable().map_err(call("prctl(PR_SET_DUMPABLE)"))?;
    // Last, so that a failure above can still be said.
    seccomp::only_watch(&[], Some(uid))?;
    (0..3).try_for_each(|number| terminal::replace_standard(null, number)).map_err(call("dup2 /dev/null"))
}

struct Watch<'a> {
    started: &'a Started,
    relay: &'a OwnedFd,
    relay_gone: bool,
    /// What is left of the session goes on without the relay.
    lingers: bool,
    /// Who has the session judged again. `None`: nobody needs to.
    watcher: Option<OwnedFd>,
    /// What PID 1 said of the command.
    told: Option<Report>,
    /// The end of its lifetime.
    last: Option<Duration>,
    /// When to act next: at the end of its lifetime, or of the grace that the command has.
    deadline: Option<Duration>,
    asked_to_end: bool,
    /// The grace is over: whoever is left is killed.
    killing: bool,
    /// Host scope: the numbers of this process's children, which nobody else's can be before they are waited for.
    children: Option<OwnedFd>,
    used: Usage,
    /// Who ended it, for the log, where it was not the command itself.
    by: Option<String>,
}

/// How a session ended.
struct Over {
    report: Report,
    used: Usage,
    by: Option<String>,
    watcher: Option<OwnedFd>,
}

/// Until it is over.
fn watch(
    started: &Started,
    relay: &OwnedFd,
    watcher: Option<OwnedFd>,
    children: Option<OwnedFd>,
    lifetime: Option<Duration>,
) -> Over {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.add(Signal::SIGTERM); // of `caplet end`: none but root can send it
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok();
    let last = lifetime.map(|lifetime| process::boot_time() + lifetime);
    let mut watch = Watch {
        started,
        relay,
        relay_gone: false,
        lingers: false,
        watcher,
        told: None,
        last,
        deadline: last,
        asked_to_end: false,
        killing: false,
        children,
        used: Usage::default(),
        by: None,
    };
    loop {
        if let Some(report) = watch.reap() {
            return Over { report, used: watch.used, by: watch.by, watcher: watch.watcher };
        }
        watch.wait(signals.as_ref());
    }
}

impl Watch<'_> {
    /// The children's changes; a report once it is over.
    fn reap(&mut self) -> Option<Report> {
        // In host scope orphans of the command's are this process's children too.
        let whom = self.started.session.then_some(self.started.pid);
        loop {
            let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG;
            match process::wait_with_usage(whom, options) {
                Ok(None) => return None,
                Err(Errno::ECHILD) => return Some(self.told.unwrap_or(Report::Signaled(libc::SIGKILL))),
                // Nobody would hear of its end any more.
                Err(_) => {
                    self.killing = true;
                    self.signal(&[libc::SIGKILL]);
                    return Some(self.failed());
                }
                Ok(Some((pid, Change::Stopped(signal), _))) => {
                    if !self.started.session && pid == self.started.pid {
                        self.tell(Report::Stopped(signal));
                    }
                }
                Ok(Some((_, Change::Continued, _))) => {}
                Ok(Some((pid, change, usage))) if pid == self.started.pid => {
                    self.hear(); // what PID 1 said last is still in the socket
                    let own = match change {
                        Change::Exited(OURS) if self.started.session && self.told.is_none() => self.failed(),
                        Change::Exited(code) => Report::Exited(code),
                        Change::Signaled(signal) => Report::Signaled(signal),
                        _ => Report::Exited(OURS),
                    };
                    let report = *self.told.get_or_insert(own);
                    self.used = usage;
                    if self.started.session || self.is_last() {
                        return Some(report);
                    }
                    self.lingers = true;
                    self.let_relay_go(report);
                }
                Ok(Some(_)) => {}
            }
            if self.killing {
                self.signal(&[libc::SIGKILL]); // those that have come to us meanwhile
            }
        }
    }

    /// We cannot go on.
    fn failed(&mut self) -> Report {
        self.by.get_or_insert_with(|| Cause::Failed.word().into());
        self.tell(Report::Ending(Cause::Failed));
        self.told.unwrap_or(Report::Exited(OURS))
    }

    fn is_last(&self) -> bool {
        let look = process::wait(None, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT);
        matches!(look, Err(Errno::ECHILD))
    }

    fn wait(&mut self, signals: Option<&SignalFd>) {
        let mut waits = Vec::with_capacity(5);
        if self.started.session || self.told.is_none() {
            waits.push(PollFd::new(self.started.pidfd.as_fd(), PollFlags::POLLIN));
        }
        if let Some(signals) = signals {
            waits.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        }
        let relay_at = (!self.relay_gone).then(|| {
            waits.push(PollFd::new(self.relay.as_fd(), PollFlags::POLLHUP));
            waits.len() - 1
        });
        let watcher_at = self.watcher.as_ref().map(|watcher| {
            waits.push(PollFd::new(watcher.as_fd(), PollFlags::POLLIN));
            waits.len() - 1
        });
        let status_at = (self.started.session && self.told.is_none()).then(|| {
            waits.push(PollFd::new(self.started.line.as_fd(), PollFlags::POLLIN));
            waits.len() - 1
        });
        let left = self.deadline.map(|end| end.saturating_sub(process::boot_time()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left.as_millis().min(60_000) as i32 + 1).unwrap_or(PollTimeout::MAX)
        });
        let _ = poll(&mut waits, timeout);
        let is = |at: Option<usize>| {
            at.and_then(|i| waits.get(i)).and_then(PollFd::revents).is_some_and(|events| !events.is_empty())
        };
        let (relay, watcher, status) = (is(relay_at), is(watcher_at), is(status_at));
        while let Some(signal) = signals.and_then(|signals| signals.read_signal().ok().flatten()) {
            if signal.ssi_signo == libc::SIGTERM as u32 {
                self.end_it(Cause::Asked, format!("uid:{}", signal.ssi_uid));
            }
        }
        if status {
            self.hear();
        }
        if relay {
            self.relay_gone = true;
            if !self.lingers {
                if let Some(watcher) = &self.watcher {
                    let _ = wire::send(watcher, Report::Ending(Cause::Hangup), None);
                }
                self.end_it(Cause::Hangup, Cause::Hangup.word().into());
            }
        }
        if watcher {
            self.heed_watcher();
        }
        let now = process::boot_time();
        if self.last.is_some_and(|end| now >= end) {
            self.last = None; // once
            self.end_it(Cause::Lifetime, Cause::Lifetime.word().into());
        } else if self.deadline.is_some_and(|end| now >= end) {
            self.grace_is_over();
        }
    }

    /// Where others of the session linger, the caller hears of the command's end at once, and waits for nobody else.
    fn let_relay_go(&self, report: Report) {
        if self.lingers {
            if let Some(watcher) = &self.watcher {
                let _ = wire::send(watcher, Report::Lingers, None);
            }
            self.tell(Report::Lingers);
            self.tell(report);
        }
    }

    /// What the watcher says; its silent end is no grant either.
    fn heed_watcher(&mut self) {
        let said = self.watcher.as_ref().map(wire::receive);
        let cause = match said {
            Some(Ok(Some((Report::Ending(cause), _)))) => cause,
            _ => {
                self.watcher = None;
                Cause::Unjudged
            }
        };
        self.end_it(cause, cause.word().into());
    }

    /// PID 1's reports.
    fn hear(&mut self) {
        let status = &self.started.line;
        while self.started.session && self.told.is_none() {
            let mut ready = [PollFd::new(status.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut ready, PollTimeout::ZERO), Ok(1)) {
                return;
            }
            match wire::receive(status) {
                Ok(Some((report @ (Report::Stopped(_) | Report::WantsTerminal), _))) => self.tell(report),
                Ok(Some((Report::Lingers, _))) if self.started.linger => self.lingers = true,
                Ok(Some((report, _))) if report.code().is_some() => {
                    self.told = Some(report);
                    self.let_relay_go(report);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn tell(&self, report: Report) {
        if !self.relay_gone {
            let _ = wire::send(self.relay, report, None);
        }
    }

    /// An isolated session without its relay is killed at once; a host command, and a session whose relay is there to
    /// hear of it, is asked first. So is a command that may leave something behind, and it alone, when its relay goes,
    /// unless all of it was asked to end before.
    fn end_it(&mut self, cause: Cause, by: String) {
        let abandoned = self.started.linger && cause == Cause::Hangup;
        if abandoned && self.asked_to_end {
            return; // a hang-up takes nothing back
        }
        let only_abandoned = self.by.as_deref() == Some(Cause::Hangup.word()) && self.started.linger;
        if self.by.is_none() || only_abandoned {
            self.by = Some(by);
            self.tell(Report::Ending(cause));
        }
        let at_once = self.relay_gone && self.started.session && !self.started.linger;
        match at_once || self.asked_to_end {
            true => {
                self.killing = true;
                self.signal(&[libc::SIGKILL]);
            }
            false => self.signal(&[libc::SIGHUP, libc::SIGTERM, libc::SIGCONT]),
        }
        self.asked_to_end |= !abandoned;
        self.deadline = Some(process::boot_time() + GRACE);
    }

    /// What was asked to end, and has not.
    fn grace_is_over(&mut self) {
        self.deadline = self.last;
        if self.asked_to_end {
            self.killing = true;
            self.signal(&[libc::SIGKILL]);
        } else {
            let _ = wire::send(&self.started.line, Report::Abandon, None);
        }
    }

    /// To PID 1; in host scope to the command and to what it has left behind, whose own children come to us when it
    /// dies.
    fn signal(&self, signals: &[i32]) {
        if let Some(killer) = self.started.killer.as_ref().filter(|_| signals.contains(&libc::SIGKILL)) {
            cgroup::kill_all(killer);
        }
        for signal in signals {
            if self.started.session || self.told.is_none() {
                let _ = process::pidfd_signal(&self.started.pidfd, *signal);
            }
            for child in self.children.as_ref().map(children).unwrap_or_default() {
                if child != self.started.pid {
                    let _ = process::kill(child, *signal);
                }
            }
        }
    }
}

/// The numbers in `/proc/PID/task/TID/children` (proc_tid_children(5)), read anew.
fn children(file: &OwnedFd) -> Vec<i32> {
    let (mut text, mut buffer) = (Vec::new(), [0u8; 4096]);
    while let Ok(length @ 1..) = nix::sys::uio::pread(file, &mut buffer, text.len() as i64) {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&text).split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
