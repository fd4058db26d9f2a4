//! A throwaway machine: booted by `machine.sh` in namespaces of its own, entered by a thread that stays in it.

use crate::binaries::Binaries;
use crate::builder::{Builder, File, HELPER};
use crate::proc::Mount;
use crate::sys::{Job, lend};
use crate::task::{Task, until};
use crate::{Journal, Output, ProcStatus};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// A user of a machine.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups, the primary one among them.
    pub groups: Vec<u32>,
    pub home: String,
}

/// A running machine. It dies with this value.
#[derive(Debug)]
pub struct Lab {
    jobs: Mutex<Option<Sender<Job>>>,
    unshare: Child,
    /// Its end is the machine's end, however this process ends.
    alive: Option<ChildStdin>,
    init: i32,
    accounts: BTreeMap<String, Account>,
    group_ids: BTreeMap<String, u32>,
    journal: Option<Journal>,
    mounts_at_start: Vec<PathBuf>,
}

const FIRST_ID: u32 = 5001;

impl Lab {
    pub(crate) fn boot(shared_mounts: bool) -> Self {
        let mut unshare = Command::new("unshare")
            .args(["-m", "-p", "-f", "-n", "-i", "-u", "-C", "--kill-child", "--propagation", "private"])
            .args(["bash", "-c", include_str!("machine.sh")])
            .env("LAB_PROPAGATION", if shared_mounts { "shared" } else { "private" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare of util-linux starts");
        let alive = unshare.stdin.take();
        let mut lines = BufReader::new(unshare.stdout.take().expect("a pipe"));
        let mut ready = String::new();
        lines.read_line(&mut ready).expect("a line of machine.sh");
        let init = ready.strip_prefix("ready ").and_then(|pid| pid.trim().parse().ok());
        let init = init.unwrap_or_else(|| panic!("the machine does not come up: {ready:?}"));
        Self {
            jobs: Mutex::new(Some(enter(init))),
            unshare,
            alive,
            init,
            accounts: BTreeMap::new(),
            group_ids: BTreeMap::new(),
            journal: None,
            mounts_at_start: Vec::new(),
        }
    }

    pub(crate) fn furnish(&mut self, plan: &Builder, programs: Option<&Binaries>) {
        self.make_accounts(plan);
        if let Some(programs) = programs {
            self.install("/usr/bin/caplet", &programs.caplet, 0o755);
            self.install("/usr/bin/caplet-shell", &programs.caplet, 0o755);
            self.install(HELPER, &programs.helper, 0o4755);
            self.inside(|| std::fs::create_dir_all("/etc/caplet/policy.d")).expect("mkdir");
            let family: &[u8] = match Path::new("/etc/pam.d/system-auth").exists() {
                true => include_bytes!("../../etc/pam.d/caplet.redhat"),
                false => include_bytes!("../../etc/pam.d/caplet.debian"),
            };
            self.install("/etc/pam.d/caplet", family, 0o644);
        }
        for file in &plan.files {
            self.put(file);
        }
        if plan.journal {
            let socket = self.inside(|| Journal::bind("/dev/log")).expect("/dev/log");
            self.journal = Some(Journal::listen(socket));
        }
        self.mounts_at_start = self.mounts().into_iter().map(|m| m.point).collect();
    }

    fn make_accounts(&mut self, plan: &Builder) {
        let (mut passwd, mut group) = (self.read("/etc/passwd"), self.read("/etc/group"));
        let mut groups: BTreeMap<String, (u32, Vec<String>)> = group
            .lines()
            .filter_map(|line| {
                let mut words = line.split(':');
                let (name, gid) = (words.next()?, words.nth(1)?);
                Some((name.to_owned(), (gid.parse().ok()?, Vec::new())))
            })
            .collect();
        let wanted = plan.groups.iter().chain(plan.users.iter().flat_map(|u| &u.groups));
        for (gid, name) in (FIRST_ID + 1000..).zip(wanted) {
            groups.entry(name.clone()).or_insert((gid, Vec::new()));
        }
        let root = Account { uid: 0, gid: 0, groups: vec![0], home: "/root".to_owned() };
        self.accounts.insert("root".to_owned(), root);
        let mut shadow = self.read("/etc/shadow");
        for (id, user) in (FIRST_ID..).zip(&plan.users) {
            let home = format!("/home/{}", user.name);
            passwd += &format!("{}:x:{id}:{id}:{}:{home}:/bin/bash\n", user.name, user.name);
            shadow += &format!("{}:*:20000:0:99999:7:::\n", user.name);
            groups.insert(user.name.clone(), (id, Vec::new()));
            let mut ids = vec![id];
            for name in &user.groups {
                let (gid, members) = groups.get_mut(name).expect("made above");
                members.push(user.name.clone());
                ids.push(*gid);
            }
            ids.sort_unstable();
            let account = Account { uid: id, gid: id, groups: ids, home };
            self.accounts.insert(user.name.clone(), account);
        }
        let old = group;
        group = String::new();
        for line in old.lines() {
            let name = line.split(':').next().unwrap_or_default();
            let added = groups.remove(name).unwrap_or_default();
            self.group_ids.insert(name.to_owned(), added.0);
            let comma = if line.ends_with(':') || added.1.is_empty() { "" } else { "," };
            group += &format!("{line}{comma}{}\n", added.1.join(","));
        }
        for (name, (gid, members)) in groups {
            group += &format!("{name}:x:{gid}:{}\n", members.join(","));
            self.group_ids.insert(name, gid);
        }
        let ranges: String = plan.subids.iter().map(|(u, first, count)| format!("{u}:{first}:{count}\n")).collect();
        let accounts = &self.accounts;
        let write = || {
            std::fs::write("/etc/passwd", passwd)?;
            std::fs::write("/etc/group", group)?;
            std::fs::write("/etc/shadow", shadow)?;
            std::fs::write("/etc/subuid", &ranges)?;
            std::fs::write("/etc/subgid", &ranges)?;
            for account in accounts.values().filter(|a| a.uid != 0) {
                let _ = std::fs::remove_dir_all(&account.home);
                std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&account.home)?;
                chown(&account.home, Some(account.uid), Some(account.gid))?;
            }
            std::fs::set_permissions("/home", PermissionsExt::from_mode(0o755))
        };
        self.inside(write).expect("the machine's accounts");
    }

    fn install(&self, path: &str, bytes: &[u8], mode: u32) {
        self.put(&File { path: path.into(), content: bytes.to_vec(), mode, owner: "root".to_owned() });
    }

    fn put(&self, file: &File) {
        let owner = self.account(&file.owner);
        let done = self.inside(|| {
            if let Some(folder) = file.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            match std::fs::remove_file(&file.path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => std::fs::write(&file.path, &file.content)?,
            }
            chown(&file.path, Some(owner.uid), Some(owner.gid))?;
            std::fs::set_permissions(&file.path, PermissionsExt::from_mode(file.mode))
        });
        done.unwrap_or_else(|e| panic!("{}: {e}", file.path.display()));
    }

    /// Runs a closure on the thread that is in the machine: its files, its network, its terminals. Processes started
    /// there are the machine's. It must not start threads.
    ///
    /// # Panics
    /// Where the closure does.
    pub fn inside<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        let (answer, result) = channel();
        let job = Box::new(move || {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            let _ = answer.send(done);
        });
        // SAFETY: this function returns only after `recv`, that is after the job has run, or was dropped with its
        // sender because the thread is gone; nothing in between unwinds.
        let job = unsafe { lend(job) };
        let sent = self.jobs.lock().is_ok_and(|jobs| jobs.as_ref().is_some_and(|j| j.send(job).is_ok()));
        match result.recv() {
            Ok(Ok(value)) if sent => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            _ => panic!("the machine is gone"),
        }
    }

    /// A command of that user's (or root's), to be refined and then run.
    ///
    /// # Panics
    /// Where the machine has no such user, or there is no command.
    #[track_caller]
    pub fn task<W: AsRef<OsStr>>(&self, user: &str, argv: impl IntoIterator<Item = W>) -> Task<'_> {
        let argv: Vec<OsString> = argv.into_iter().map(|word| word.as_ref().to_owned()).collect();
        assert!(!argv.is_empty(), "a command has a first word");
        Task::new(self, user, argv)
    }

    /// Runs a command as that user.
    ///
    /// # Panics
    /// As [`Task::run`].
    #[track_caller]
    pub fn run_as<W: AsRef<OsStr>>(&self, user: &str, argv: impl IntoIterator<Item = W>) -> Output {
        self.task(user, argv).run()
    }

    /// Runs a line of `sh` as that user.
    ///
    /// # Panics
    /// As [`Task::run`].
    #[track_caller]
    pub fn sh(&self, user: &str, line: &str) -> Output {
        self.run_as(user, ["/bin/bash", "-c", line])
    }

    /// Runs a line of `sh` as root.
    ///
    /// # Panics
    /// As [`Task::run`], and where it fails.
    #[track_caller]
    pub fn root(&self, line: &str) -> Output {
        self.sh("root", line).expect_ok()
    }

    /// Runs a Python program as that user.
    ///
    /// # Panics
    /// As [`Task::run`].
    #[track_caller]
    pub fn python(&self, user: &str, program: &str) -> Output {
        self.run_as(user, ["/usr/bin/python3", "-I", "-c", program])
    }

    #[track_caller]
    pub(crate) fn account(&self, user: &str) -> &Account {
        self.accounts.get(user).unwrap_or_else(|| panic!("the machine has no user {user}"))
    }

    /// A user's uid (and gid).
    ///
    /// # Panics
    /// Where the machine has no such user.
    #[track_caller]
    pub fn uid(&self, user: &str) -> u32 {
        self.account(user).uid
    }

    /// A group's gid.
    ///
    /// # Panics
    /// Where the machine has no such group.
    #[track_caller]
    pub fn gid(&self, group: &str) -> u32 {
        *self.group_ids.get(group).unwrap_or_else(|| panic!("the machine has no group {group}"))
    }

    /// Writes a file (its folders are made), replacing what was there.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32, owner: &str) {
        self.put(&File { path: path.into(), content: content.as_ref().to_vec(), mode, owner: owner.to_owned() });
    }

    /// Replaces `/etc/caplet/policy.toml`.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn set_policy(&self, text: &str) {
        self.write("/etc/caplet/policy.toml", text, 0o640, "root");
    }

    /// A symbolic link.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    pub fn link(&self, target: &str, path: &str) {
        self.inside(|| symlink(target, path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// A file's text.
    ///
    /// # Panics
    /// Where it cannot be read.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        self.inside(|| std::fs::read_to_string(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Whether there is such a path.
    pub fn exists(&self, path: &str) -> bool {
        self.inside(|| Path::new(path).symlink_metadata().is_ok())
    }

    /// The records of `/dev/log`.
    ///
    /// # Panics
    /// Where the machine was made without.
    #[track_caller]
    pub fn log(&self) -> &Journal {
        self.journal.as_ref().expect("a machine with a journal")
    }

    /// The pid of the machine's PID 1, as this process sees it.
    pub fn init(&self) -> i32 {
        self.init
    }

    /// What root of this machine may hold at most: not everything on every test machine.
    ///
    /// # Panics
    /// Never: this process runs.
    pub fn full(&self) -> u64 {
        ProcStatus::of(self.init).expect("the machine runs").caps().bounding
    }

    /// Every capability that this kernel has: what a new user namespace begins with.
    ///
    /// # Panics
    /// Where the kernel does not say.
    pub fn kernel(&self) -> u64 {
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("cap_last_cap");
        (2_u64 << last.trim().parse::<u32>().expect("a number")) - 1
    }

    /// The mounts that PID 1 of the machine sees.
    ///
    /// # Panics
    /// Where the kernel does not say.
    pub fn mounts(&self) -> Vec<Mount> {
        Mount::table(&std::fs::read_to_string(format!("/proc/{}/mountinfo", self.init)).expect("mountinfo"))
    }

    /// The mount points that were not there when the machine started.
    pub fn mounts_left(&self) -> Vec<PathBuf> {
        let mut known = self.mounts_at_start.clone();
        let mut left: Vec<PathBuf> = self.mounts().into_iter().map(|m| m.point).collect();
        left.retain(|point| known.iter().position(|k| k == point).map(|at| known.swap_remove(at)).is_none());
        left
    }

    /// All processes of the machine but its PID 1 and zombies: pid there and name.
    ///
    /// # Panics
    /// Where its `/proc` cannot be read.
    pub fn processes(&self) -> Vec<(i32, String)> {
        self.inside(|| {
            let entries = std::fs::read_dir("/proc").expect("/proc");
            let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
            pids.filter(|pid| *pid != 1)
                .filter_map(|pid| Some((pid, ProcStatus::of(pid)?)))
                .filter(|(_, status)| status.state() != 'Z')
                .map(|(pid, status)| (pid, status.comm().to_owned()))
                .collect()
        })
    }

    /// Waits up to ten seconds until no process is left; those that are.
    pub fn processes_left(&self) -> Vec<(i32, String)> {
        let mut left = Vec::new();
        until(Duration::from_secs(10), || {
            left = self.processes();
            left.is_empty()
        });
        left
    }
}

/// A thread that enters the machine and runs jobs there until the sender is dropped.
fn enter(init: i32) -> Sender<Job> {
    let (sender, jobs) = channel::<Job>();
    let (ready, entered) = channel();
    let body = move || {
        let open = |name: &str| std::fs::File::open(format!("/proc/{init}/ns/{name}"));
        let go = || -> std::io::Result<()> {
            let namespaces = ["ipc", "uts", "net", "cgroup", "pid", "mnt"].map(open);
            // The mount namespace of one thread: only without a file-system context shared with the others.
            unshare(CloneFlags::CLONE_FS)?;
            for namespace in namespaces {
                setns(namespace?, CloneFlags::empty())?;
            }
            std::env::set_current_dir("/")
        };
        let result = go();
        let failed = result.is_err();
        let _ = ready.send(result);
        if !failed {
            jobs.into_iter().for_each(|job| job());
        }
    };
    std::thread::Builder::new().name("inside".to_owned()).spawn(body).expect("a thread");
    entered.recv().expect("an answer").expect("root may enter its own machine");
    sender
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.alive.take());
        self.journal = None;
        if let Ok(mut jobs) = self.jobs.lock() {
            jobs.take();
        }
        // PID 1 ends by itself with the pipe.
        if !until(Duration::from_secs(2), || matches!(self.unshare.try_wait(), Ok(Some(_)) | Err(_))) {
            let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
            let _ = self.unshare.wait();
        }
    }
}
