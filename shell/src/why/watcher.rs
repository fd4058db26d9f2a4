//! The watcher's loop: stops a command at the calls of `calls` alone, and notes what is refused.

use super::arguments;
use super::calls::{self, At, Call};
use super::filter;
use super::netlink;
use super::object::{self, Object, Who};
use super::open::{self, Open};
use super::report::{Finding, Report};
use super::rules::{self, Refusal};
use super::text;
use super::walks;
use crate::messages::FAILURE;
use caplet_trace::{self as trace, Change, Place, Until};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, raise};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The filter of an isolated session's command answers before the watcher's own stops anything, so there every call is
/// looked at: the first ones of each program, and not for ever, or it would cost what strace(1) costs.
const OF_A_PROGRAM: u32 = 800;
const ALTOGETHER: u32 = 30_000;
/// So many stops later the watcher looks again where the command runs, to run there.
const MOVES: u32 = 64;

#[derive(Debug, Default)]
struct Thread {
    group: i32,
    /// The call that it is in.
    call: Option<(u64, [u64; 6])>,
    /// Since when.
    since: u64,
}

/// Looks at the command from its start to its end.
pub struct Watcher {
    command: i32,
    /// The command is on its way: a stop is its own from here on.
    running: bool,
    threads: HashMap<i32, Thread>,
    open: HashMap<i32, Open>,
    /// Processes that walk a tree, whose messages are read: which folders each was refused.
    walks: HashMap<i32, HashSet<PathBuf>>,
    /// There is a filter before the watcher's own.
    filtered: bool,
    /// Calls that were looked at whether or not they can be refused: of each process, and in all.
    looked_at: HashMap<i32, u32>,
    looked_at_in_all: u32,
    stops: u32,
    /// Of generic netlink, by their numbers.
    families: HashMap<u16, netlink::Family>,
    /// The call that is being judged: whose, from when to when. `None`: what is told of it came later.
    during: Option<(u64, (u64, u64))>,
    pub report: Report,
    port_floor: u16,
    release: (u32, u32),
}

impl Watcher {
    pub fn new(command: i32, words: &[OsString]) -> Self {
        let floor = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let variable = |name| std::env::var(name).unwrap_or_default();
        let report = Report {
            profile: variable("CAPLET_PROFILE"),
            isolated: variable("CAPLET_SCOPE") == "isolated",
            program: words[0].to_string_lossy().into_owned(),
            ..Report::default()
        };
        let port_floor = floor.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let filtered =
            report.isolated && status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2'));
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0));
        let release = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self {
            command,
            running: false,
            threads: HashMap::new(),
            open: HashMap::new(),
            walks: HashMap::new(),
            families: HashMap::new(),
            filtered,
            looked_at: HashMap::new(),
            looked_at_in_all: 0,
            stops: 0,
            during: None,
            report,
            port_floor,
            release,
        }
    }

    /// How the command ended.
    pub fn until_the_end(&mut self) -> Change {
        loop {
            let (pid, change) = match trace::wait() {
                Ok(news) => news,
                Err(Errno::EINTR) => continue,
                Err(_) => return Change::Other,
            };
            match change {
                Change::Exited(_) | Change::Signaled(_) => {
                    self.forget(pid);
                    if pid == self.command {
                        return change;
                    }
                }
                Change::Stopped(signal) => {
                    let _ = trace::leave_stopped(pid);
                    if pid == self.command && self.running {
                        stop_too(signal);
                    }
                }
                Change::Signal(signal) => self.go_on(pid, signal),
                Change::Filter => {
                    self.stops = self.stops.wrapping_add(1);
                    if self.stops % MOVES == 1 {
                        trace::run_beside(pid);
                    }
                    self.running = true;
                    self.before(pid);
                    self.go_on(pid, 0);
                }
                Change::SystemCall => {
                    self.at_call(pid);
                    self.go_on(pid, 0);
                }
                Change::Child => {
                    self.know(pid);
                    self.go_on(pid, 0);
                }
                Change::Exec => {
                    self.executed(pid);
                    self.go_on(pid, 0);
                }
                Change::Other => {
                    self.know(pid);
                    self.go_on(pid, 0);
                }
            }
        }
    }

    fn forget(&mut self, pid: i32) {
        let group = self.threads.remove(&pid).map_or(pid, |thread| thread.group);
        if !self.threads.values().any(|thread| thread.group == group) {
            self.open.remove(&group);
            self.walks.remove(&group);
            self.looked_at.remove(&group);
        }
    }

    /// A thread seen for the first time has what its parent has open, if it is a new process.
    fn know(&mut self, pid: i32) -> i32 {
        if let Some(thread) = self.threads.get(&pid) {
            return thread.group;
        }
        let who = Who::of(pid).unwrap_or_default();
        let group = if who.group == 0 { pid } else { who.group };
        if group == pid
            && let Some(open) = self.open.get(&who.parent).cloned()
        {
            self.open.insert(group, open);
        }
        self.threads.insert(pid, Thread { group, ..Thread::default() });
        group
    }

    fn go_on(&mut self, pid: i32, signal: i32) {
        let group = self.know(pid);
        let in_call = self.threads.get(&pid).is_some_and(|thread| thread.call.is_some());
        let every = in_call || self.open.get(&group).is_some_and(|open| !open.is_empty()) || self.looks_at_all(group);
        let until = if every { Until::SystemCall } else { Until::Event };
        let _ = trace::go_on(pid, until, signal);
    }

    fn looks_at_all(&self, group: i32) -> bool {
        self.filtered
            && self.looked_at_in_all < ALTOGETHER
            && self.looked_at.get(&group).is_none_or(|looked_at| *looked_at < OF_A_PROGRAM)
    }

    fn before(&mut self, pid: i32) {
        let group = self.know(pid);
        let Ok(Place::Before(filter::NATIVE, number, args)) = trace::place(pid) else { return };
        if walks::is_message(number, &args) {
            return self.said(pid, group, number, &args);
        }
        if walks::begins(number, &args) {
            self.walks.entry(group).or_default();
        }
        if let Some(thread) = self.threads.get_mut(&pid) {
            thread.call = Some((number, args));
            thread.since = trace::now();
        }
    }

    /// What walks a tree says on standard error: which folder it was refused, where it was not stopped at that.
    fn said(&mut self, pid: i32, group: i32, number: u64, args: &[u64; 6]) {
        if !self.walks.contains_key(&group) {
            return;
        }
        let who = Who::of(pid).unwrap_or_default();
        let Some(object) = walks::refused(pid, number, args, &who) else { return };
        if self.is_news(group, &object) {
            let flags = [0, 0, u64::from(walks::FLAGS), 0, 0, 0];
            self.refused(pid, &who, "openat", flags, libc::EACCES, &object);
        }
    }

    /// A walk comes to a folder once, but may be stopped there and then speak of it.
    fn is_news(&mut self, group: i32, object: &Object) -> bool {
        match (self.walks.get_mut(&group), object) {
            (Some(refused), Object::File(object::File { obstacle: Some(obstacle), .. })) => {
                refused.insert(obstacle.path.clone())
            }
            _ => true,
        }
    }

    /// At the entry of a call (where every one is looked at) or at its exit.
    fn at_call(&mut self, pid: i32) {
        let group = self.know(pid);
        match trace::place(pid) {
            Ok(Place::Before(filter::NATIVE, number, args)) => {
                if self.filtered {
                    self.looked_at_in_all = self.looked_at_in_all.saturating_add(1);
                    let looked_at = self.looked_at.entry(group).or_default();
                    *looked_at = looked_at.saturating_add(1);
                }
                if let Some(thread) = self.threads.get_mut(&pid) {
                    thread.call = Some((number, args));
                    thread.since = trace::now();
                }
            }
            Ok(Place::After(result)) => {
                let thread = self.threads.get_mut(&pid);
                let call = thread.and_then(|thread| Some((thread.call.take()?, thread.since)));
                if let Some(((number, args), since)) = call {
                    match result {
                        Ok(value) => self.succeeded(pid, group, number, args, value),
                        Err(errno) => {
                            self.during = Some((pid as u64, (since, trace::now())));
                            self.failed(pid, group, number, args, errno);
                            self.during = None;
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn succeeded(&mut self, pid: i32, group: i32, number: u64, args: [u64; 6], value: i64) {
        let open = self.open.entry(group).or_default();
        let is = |call: libc::c_long| number == call as u64;
        let result = value as u64;
        if is(libc::SYS_connect) {
            self.report.bus |= arguments::is_system_bus(pid, &args);
        }
        match () {
            () if is(libc::SYS_socket) && args[0] == libc::AF_NETLINK as u64 => {
                open.netlink.insert(result, args[2] as u16);
            }
            () if open::opens_to_write(number, &args) => {
                let path = std::fs::read_link(format!("/proc/{pid}/fd/{result}")).unwrap_or_default();
                if path.starts_with("/proc") || path.starts_with("/sys") {
                    open.kernel.insert(result, ());
                }
            }
            () if open.is_empty() => {
                self.open.remove(&group);
            }
            () if is(libc::SYS_close) => open.close(args[0]),
            () if is(libc::SYS_dup) || is(libc::SYS_dup3) => open.copy(args[0], result),
            #[cfg(target_arch = "x86_64")]
            () if is(libc::SYS_dup2) => open.copy(args[0], result),
            () if is(libc::SYS_fcntl) && [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC].contains(&(args[1] as i32)) => {
                open.copy(args[0], result);
            }
            () if is(libc::SYS_recvmsg) || is(libc::SYS_recvfrom) || is(libc::SYS_read) => {
                // What is only peeked at comes once more.
                let flags = if is(libc::SYS_recvmsg) { args[2] } else { args[3] };
                let peeks = !is(libc::SYS_read) && flags as i32 & libc::MSG_PEEK != 0;
                if let Some(protocol) = open.netlink.get(&args[0]).copied().filter(|_| !peeks) {
                    let bytes = arguments::received(pid, is(libc::SYS_recvmsg), args[1], result as usize);
                    self.acknowledged(pid, protocol, &bytes);
                }
            }
            () => {}
        }
    }

    fn acknowledged(&mut self, pid: i32, protocol: u16, bytes: &[u8]) {
        if protocol == 16 {
            self.families.extend(netlink::families(bytes));
        }
        for refused in netlink::refused(bytes) {
            let (message, verdict) = match protocol {
                16 => netlink::generic(self.families.get(&refused.kind), &refused),
                _ => netlink::meaning(protocol, refused.kind),
            };
            let who = Who::of(pid).unwrap_or_default();
            self.note(&who, format!("{message} (netlink)"), refused.errno, (verdict, false));
        }
    }

    fn failed(&mut self, pid: i32, group: i32, number: u64, args: [u64; 6], errno: i32) {
        let is_write = number == libc::SYS_write as u64;
        let writes = is_write && self.open.get(&group).is_some_and(|open| open.kernel.contains_key(&args[0]));
        let (name, at) = match calls::call(number) {
            Some(Call { name, object, .. }) => (*name, *object),
            None if writes => ("write", At::File(0)),
            None => return,
        };
        // What no rule has: no need to look at anything.
        let refused = [libc::EPERM, libc::EACCES, libc::EROFS].contains(&errno);
        if !(refused || rules::knows(name, errno) || self.filtered && rules::gated(name)) {
            return;
        }
        let args = arguments::flat(pid, name, args);
        let who = Who::of(pid).unwrap_or_default();
        let object = arguments::object(pid, name, at, &args, &who);
        if !walks::is_step(number, &args) || self.is_news(group, &object) {
            self.refused(pid, &who, name, args, errno, &object);
        }
    }

    /// Judges it, and notes what comes of that.
    fn refused(&mut self, pid: i32, who: &Who, name: &'static str, args: [u64; 6], errno: i32, object: &Object) {
        let table = match object {
            Object::File(_) => std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default(),
            _ => String::new(),
        };
        let mount = match object {
            Object::File(file) => object::mount_flags(&table, &file.path),
            _ => Vec::new(),
        };
        let memory = match name {
            "capset" => trace::read(pid, args[1], 24),
            "bpf" => trace::read(pid, args[1], 4),
            "sendmsg" => arguments::credentials(pid, args[1]),
            name if name.ends_with("xattr") => arguments::text_at(pid, args[1]).into_bytes(),
            _ => Vec::new(),
        };
        let refusal = Refusal {
            call: name,
            args,
            errno,
            object,
            who,
            isolated: self.report.isolated,
            mount: &mount,
            port_floor: self.port_floor,
            program: object::Stat::of(Path::new(&format!("/proc/{pid}/exe")), true).unwrap_or_default(),
            filtered: self.filtered,
            release: self.release,
            memory: &memory,
        };
        if let Some(verdict) = rules::judge(&refusal) {
            let tries = rules::tries(&refusal);
            self.note(who, text::call(name, &args, object), errno, (verdict, tries));
        }
    }

    fn note(&mut self, who: &Who, call: String, errno: i32, (verdict, tries): (rules::Verdict, bool)) {
        let held = verdict.needs.iter().any(|need| who.effective & need.bits() == need.bits());
        let (thread, during) = self.during.unwrap_or_default();
        let program = who.name.clone();
        let finding = Finding { program, call, errno, verdict, held, times: 1, tries, thread, during, traced: false };
        self.report.add(finding);
    }

    /// What is open is closed by exec, but for the standard three. And a setuid program has lost its power.
    fn executed(&mut self, pid: i32) {
        let group = self.know(pid);
        if let Some(thread) = self.threads.get_mut(&pid) {
            thread.group = pid;
        }
        self.looked_at.remove(&group);
        self.walks.remove(&group);
        self.threads.retain(|other, thread| thread.group != group || *other == pid);
        if let Some(open) = self.open.get_mut(&group) {
            open.netlink.retain(|number, _| *number < 3);
            open.kernel.retain(|number, ()| *number < 3);
        }
        let link = PathBuf::from(format!("/proc/{pid}/exe"));
        let stat = nix::sys::stat::stat(&link).ok();
        let Some(who) = stat.filter(|stat| stat.st_mode & libc::S_ISUID != 0).and_then(|_| Who::of(pid)) else {
            return;
        };
        let program = std::fs::read_link(&link).unwrap_or_default().to_string_lossy().into_owned();
        let owned = who.uid == 0 || stat.is_some_and(|stat| stat.st_uid == who.uid);
        if !owned && !self.report.setuid.contains(&program) && self.report.setuid.len() < 8 {
            self.report.setuid.push(program);
        }
    }

    pub fn hand_over(&mut self, mut pipe: File, end: Change) {
        self.report.code = match end {
            Change::Exited(code) => code,
            Change::Signaled(signal) => 128 + signal,
            _ => i32::from(FAILURE),
        };
        let mut groups: Vec<i32> = self.threads.values().map(|thread| thread.group).collect();
        groups.sort_unstable();
        groups.dedup();
        // What programs try and do without stands behind what they were refused.
        self.report.findings.sort_by_key(|finding| finding.tries);
        self.report.left = groups.len() as u64;
        let mut text = self.report.to_json().to_string();
        text.push('\n');
        // Where nobody reads it, nothing is lost.
        let _ = pipe.write_all(text.as_bytes());
    }
}

/// The command has stopped, and whoever waits for it waits for this process.
fn stop_too(signal: i32) {
    let signal = Signal::try_from(signal).unwrap_or(Signal::SIGSTOP);
    let mut set = SigSet::empty();
    set.add(signal);
    let _ = raise(signal);
    if signal != Signal::SIGSTOP {
        let _ = set.thread_unblock();
        let _ = set.thread_block();
    }
}
