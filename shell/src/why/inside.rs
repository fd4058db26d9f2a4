//! The watcher inside a session: starts the command, stops it at the calls of `calls` alone, notes what is refused, and
//! ends as the command ended. It holds no more than the command, and the command's output is not its own.

use super::calls::{self, At, Call};
use super::filter;
use super::netlink;
use super::object::{self, Object, Want, Who};
use super::report::{Finding, Report};
use super::rules::{self, Refusal};
use super::text;
use crate::messages::{FAILURE, NOT_EXECUTABLE, NOT_FOUND, Trouble, tell};
use caplet_trace::{self as trace, Change, Place, Until};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The word by which the watcher starts itself once more, to become the command.
const TRACED: &str = "--traced";

/// The helper's words `--watch=N -- COMMAND...`, or our own; `None`: neither.
pub fn enter(words: &[OsString]) -> Option<ExitCode> {
    match words {
        [first, dashes, command @ ..] if dashes == "--" && !command.is_empty() => match first.as_bytes() {
            word if word == TRACED.as_bytes() => Some(become_command(command)),
            word => caplet_policy::request::watch_number(word).map(|number| watch(number, command)),
        },
        _ => None,
    }
}

/// The child that is watched: waits for its watcher, then becomes the command.
fn become_command(command: &[OsString]) -> ExitCode {
    let _ = SigSet::empty().thread_set_mask();
    let _ = raise(Signal::SIGSTOP);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let watched = status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
    // Without a watcher the filter would make every call that it stops at fail.
    if !watched || seccompiler::apply_filter(&filter::program()).is_err() {
        tell(&Trouble::NotWatched);
        return FAILURE.into();
    }
    let error = execute(command);
    let name = command[0].clone();
    match Errno::from_raw(error) {
        Errno::ENOENT | Errno::ENOTDIR => {
            tell(&Trouble::CommandNotFound(name));
            NOT_FOUND.into()
        }
        errno => {
            tell(&Trouble::CommandFailed { name, why: errno.desc() });
            NOT_EXECUTABLE.into()
        }
    }
}

/// As the helper does, and execvp(3): along PATH; a file that the kernel does not know is a shell script.
fn execute(command: &[OsString]) -> i32 {
    let word = &command[0];
    if word.is_empty() {
        return libc::ENOENT;
    }
    let attempt = |path: &Path| {
        let error = Command::new(path).arg0(word).args(&command[1..]).exec();
        match error.raw_os_error().unwrap_or(libc::EIO) {
            libc::ENOEXEC => {
                let error = Command::new("/bin/sh").arg0("sh").arg(path).args(&command[1..]).exec();
                error.raw_os_error().unwrap_or(libc::EIO)
            }
            errno => errno,
        }
    };
    if word.as_bytes().contains(&b'/') {
        return attempt(Path::new(word));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut last = libc::ENOENT;
    for folder in path.as_bytes().split(|b| *b == b':') {
        let folder = if folder.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(folder) };
        match attempt(&Path::new(folder).join(word)) {
            libc::ENOENT | libc::ENOTDIR => {}
            errno @ (libc::EACCES | libc::ELOOP | libc::ENAMETOOLONG) => last = errno,
            errno => return errno,
        }
    }
    last
}

fn watch(number: u16, command: &[OsString]) -> ExitCode {
    let Some(pipe) = trace::adopt(number).map(File::from) else {
        tell(&Trouble::SessionWords);
        return FAILURE.into();
    };
    match start(command) {
        Ok(child) => {
            let mut watcher = Watcher::new(child, command);
            if !watcher.report.isolated {
                hand_signals_on(child);
            }
            let end = watcher.until_the_end();
            watcher.hand_over(pipe, end);
            match end {
                Change::Signaled(signal) => trace::end_by(signal),
                Change::Exited(code) => std::process::exit(code),
                _ => FAILURE.into(),
            }
        }
        Err(trouble) => {
            tell(&trouble);
            FAILURE.into()
        }
    }
}

/// In host scope the helper signals this process alone, for the command; in an isolated session PID 1 signals the whole
/// job. What a key on the terminal sends, the command gets itself.
fn hand_signals_on(command: i32) {
    let Ok(signals) = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC) else { return };
    std::thread::spawn(move || {
        while let Ok(Some(signal)) = signals.read_signal() {
            let from_somebody = [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL].contains(&signal.ssi_code);
            if from_somebody && signal.ssi_pid != std::process::id() {
                trace::send(command, signal.ssi_signo as i32);
            }
        }
    });
}

/// Starts the child and has it stand still under our eyes.
fn start(command: &[OsString]) -> Result<i32, Trouble> {
    let own = Path::new("/proc/self/exe");
    // Setting the group that it has anyway has std fork: musl's posix_spawn(3) leaves signals 32 and 33 ignored.
    let group = nix::unistd::getgid().as_raw();
    let child = Command::new(own).arg0("caplet-session").args([TRACED, "--"]).args(command).gid(group).spawn();
    let child = child.map_err(|error| Trouble::Watcher(crate::messages::why(&error)))?;
    let pid = Pid::from_raw(child.id() as i32);
    // From here on signals of the whole job reach the command itself; the watcher goes when the command has gone.
    let _ = SigSet::all().thread_block();
    let stopped = matches!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)), Ok(WaitStatus::Stopped(..)));
    match trace::seize(pid.as_raw()) {
        Ok(()) if stopped => {
            let _ = kill(pid, Signal::SIGCONT);
            Ok(pid.as_raw())
        }
        result => {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
            Err(match result {
                Err(Errno::EPERM) => Trouble::NoTracing,
                Err(errno) => Trouble::Watcher(errno.desc().to_owned()),
                Ok(()) => Trouble::Watcher("it ended before it began".to_owned()),
            })
        }
    }
}

/// What a process has open that answers in another way than by the call's result.
#[derive(Debug, Clone, Default)]
struct Open {
    /// Sockets of netlink, and their protocol.
    netlink: HashMap<u64, u16>,
    /// Files of /proc and /sys, open for writing.
    kernel: HashMap<u64, ()>,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.netlink.is_empty() && self.kernel.is_empty()
    }

    fn close(&mut self, number: u64) {
        self.netlink.remove(&number);
        self.kernel.remove(&number);
    }

    fn copy(&mut self, from: u64, to: u64) {
        self.close(to);
        if let Some(protocol) = self.netlink.get(&from).copied() {
            self.netlink.insert(to, protocol);
        }
        if self.kernel.contains_key(&from) {
            self.kernel.insert(to, ());
        }
    }
}

#[derive(Debug, Default)]
struct Thread {
    group: i32,
    /// The call that it is in.
    call: Option<(u64, [u64; 6])>,
}

struct Watcher {
    command: i32,
    /// The command is on its way: a stop is its own from here on.
    running: bool,
    threads: HashMap<i32, Thread>,
    open: HashMap<i32, Open>,
    report: Report,
    port_floor: u16,
}

impl Watcher {
    fn new(command: i32, words: &[OsString]) -> Self {
        let floor = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let variable = |name| std::env::var(name).unwrap_or_default();
        let report = Report {
            profile: variable("CAPLET_PROFILE"),
            isolated: variable("CAPLET_SCOPE") == "isolated",
            program: words[0].to_string_lossy().into_owned(),
            ..Report::default()
        };
        let port_floor = floor.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
        Self { command, running: false, threads: HashMap::new(), open: HashMap::new(), report, port_floor }
    }

    /// How the command ended.
    fn until_the_end(&mut self) -> Change {
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
                    self.running = true;
                    self.before(pid);
                    let _ = trace::go_on(pid, Until::SystemCall, 0);
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
        self.threads.insert(pid, Thread { group, call: None });
        group
    }

    fn go_on(&mut self, pid: i32, signal: i32) {
        let group = self.know(pid);
        let in_call = self.threads.get(&pid).is_some_and(|thread| thread.call.is_some());
        let every = in_call || self.open.get(&group).is_some_and(|open| !open.is_empty());
        let until = if every { Until::SystemCall } else { Until::Event };
        let _ = trace::go_on(pid, until, signal);
    }

    fn before(&mut self, pid: i32) {
        self.know(pid);
        if let (Ok(Place::Before(filter::NATIVE, number, args)), Some(thread)) =
            (trace::place(pid), self.threads.get_mut(&pid))
        {
            thread.call = Some((number, args));
        }
    }

    /// At the entry of a call (where every one is looked at) or at its exit.
    fn at_call(&mut self, pid: i32) {
        let group = self.know(pid);
        match trace::place(pid) {
            Ok(Place::Before(filter::NATIVE, number, args)) => {
                if let Some(thread) = self.threads.get_mut(&pid) {
                    thread.call = Some((number, args));
                }
            }
            Ok(Place::After(result)) => {
                let call = self.threads.get_mut(&pid).and_then(|thread| thread.call.take());
                if let Some((number, args)) = call {
                    match result {
                        Ok(value) => self.succeeded(pid, group, number, args, value),
                        Err(errno) => self.failed(pid, group, number, args, errno),
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
        match () {
            () if is(libc::SYS_socket) && args[0] == libc::AF_NETLINK as u64 => {
                open.netlink.insert(result, args[2] as u16);
            }
            () if is(libc::SYS_openat) && args[2] as i32 & libc::O_ACCMODE != libc::O_RDONLY => {
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
                    let bytes = received(pid, is(libc::SYS_recvmsg), args[1], result as usize);
                    self.acknowledged(pid, protocol, &bytes);
                }
            }
            () => {}
        }
    }

    fn acknowledged(&mut self, pid: i32, protocol: u16, bytes: &[u8]) {
        for refused in netlink::refused(bytes) {
            let (message, verdict) = netlink::meaning(protocol, refused.kind);
            let who = Who::of(pid).unwrap_or_default();
            self.note(&who, format!("{message} (netlink)"), refused.errno, verdict);
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
        if ![libc::EPERM, libc::EACCES, libc::EROFS, libc::EINVAL, libc::ENOMEM, libc::EAGAIN].contains(&errno) {
            return;
        }
        let who = Who::of(pid).unwrap_or_default();
        let object = self.object(pid, name, at, &args, &who);
        let table = match &object {
            Object::File(_) => std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default(),
            _ => String::new(),
        };
        let mount = match &object {
            Object::File(file) => object::mount_flags(&table, &file.path),
            _ => Vec::new(),
        };
        let memory = match name {
            "capset" => trace::read(pid, args[1], 24),
            name if name.ends_with("xattr") => text_at(pid, args[1]).into_bytes(),
            _ => Vec::new(),
        };
        let refusal = Refusal {
            call: name,
            args,
            errno,
            object: &object,
            who: &who,
            isolated: self.report.isolated,
            mount: &mount,
            port_floor: self.port_floor,
            memory: &memory,
        };
        if let Some(verdict) = rules::judge(&refusal) {
            self.note(&who, text::call(name, &args, &object), errno, verdict);
        }
    }

    fn note(&mut self, who: &Who, call: String, errno: i32, verdict: rules::Verdict) {
        let held = verdict.needs.iter().any(|need| who.effective & need.bits() == need.bits());
        self.report.add(Finding { program: who.name.clone(), call, errno, verdict, held, times: 1 });
    }

    fn object(&self, pid: i32, name: &str, at: At, args: &[u64; 6], who: &Who) -> Object {
        let arg = |n: u8| args[usize::from(n)];
        match at {
            At::Nothing => Object::Nothing,
            At::File(n) => Object::File(object::open_file(pid, arg(n) as i32)),
            At::Path(n) => self.path(pid, name, None, arg(n), args, who),
            At::Folder(folder, n) => self.path(pid, name, Some(arg(folder) as i32), arg(n), args, who),
            At::Process(n) => {
                let number = (arg(n) as i32).unsigned_abs() as i32;
                let of = if number == 0 { pid } else { number };
                let uid = Who::of(of).map(|other| other.uid);
                Object::Process { pid: of, uid }
            }
            At::Address(n, length) => object::address(&trace::read(pid, arg(n), (arg(length) as usize).min(128))),
            At::Text(n) => Object::Text(text_at(pid, arg(n))),
        }
    }

    fn path(&self, pid: i32, name: &str, folder: Option<i32>, at: u64, args: &[u64; 6], who: &Who) -> Object {
        let path = text_at(pid, at);
        if let (Some(number), true) = (folder.filter(|number| *number >= 0), path.is_empty()) {
            return Object::File(object::open_file(pid, number));
        }
        let file = object::look(&object::base(pid, folder, &path), &path, want(pid, name, args), who);
        // Where the first path is free, it is the second that is refused.
        let second = match name {
            "rename" | "link" => Some((None, args[1])),
            "renameat" | "renameat2" | "linkat" => Some((Some(args[2] as i32), args[3])),
            _ => None,
        };
        if let Some((folder, at)) = second.filter(|_| file.obstacle.is_none()) {
            let path = text_at(pid, at);
            let other = object::look(&object::base(pid, folder, &path), &path, Want::Entry, who);
            if other.obstacle.is_some() {
                return Object::File(other);
            }
        }
        Object::File(file)
    }

    /// What is open is closed by exec, but for the standard three. And a setuid program has lost its power.
    fn executed(&mut self, pid: i32) {
        let group = self.know(pid);
        if let Some(thread) = self.threads.get_mut(&pid) {
            thread.group = pid;
        }
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

    fn hand_over(&mut self, mut pipe: File, end: Change) {
        self.report.code = match end {
            Change::Exited(code) => code,
            Change::Signaled(signal) => 128 + signal,
            _ => i32::from(FAILURE),
        };
        let mut groups: Vec<i32> = self.threads.values().map(|thread| thread.group).collect();
        groups.sort_unstable();
        groups.dedup();
        self.report.left = groups.len() as u64;
        let mut text = self.report.to_json().to_string();
        text.push('\n');
        // Where nobody reads it, nothing is lost.
        let _ = pipe.write_all(text.as_bytes());
    }
}

/// What the program wants of the path.
fn want(pid: i32, name: &str, args: &[u64; 6]) -> Want {
    let flags = match name {
        "open" => args[1],
        "openat" => args[2],
        "creat" => (libc::O_CREAT | libc::O_WRONLY) as u64,
        "openat2" => {
            let how = trace::read(pid, args[2], 8);
            how.try_into().map_or(0, u64::from_ne_bytes)
        }
        "execve" | "execveat" | "chdir" | "chroot" => return Want::Open(1),
        "truncate" => return Want::Open(2),
        "swapon" | "swapoff" => return Want::Open(6),
        "mkdir" | "mkdirat" | "rmdir" | "unlink" | "unlinkat" | "rename" | "renameat" | "renameat2" | "symlink"
        | "symlinkat" | "mknod" | "mknodat" => return Want::Entry,
        _ => return Want::Reach,
    } as i32;
    let bits = match flags & libc::O_ACCMODE {
        libc::O_RDONLY if flags & libc::O_TRUNC != 0 => 6,
        libc::O_RDONLY => 4,
        libc::O_WRONLY => 2,
        _ => 6,
    };
    if flags & libc::O_CREAT != 0 { Want::Make(bits) } else { Want::Open(bits) }
}

/// What a socket has received: behind a `struct msghdr`, or a buffer itself.
fn received(pid: i32, is_message: bool, at: u64, length: usize) -> Vec<u8> {
    let length = length.min(64 << 10);
    if !is_message {
        return trace::read(pid, at, length);
    }
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
    let header = trace::read(pid, at, 32);
    let vector = trace::read(pid, word(&header, 16), 16);
    trace::read(pid, word(&vector, 0), length.min(word(&vector, 8) as usize))
}

/// A text that ends with a NUL.
fn text_at(pid: i32, at: u64) -> String {
    let bytes = if at == 0 { Vec::new() } else { trace::read(pid, at, 4096) };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
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
