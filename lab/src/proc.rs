//! What the kernel says of a process: `/proc/PID/status` and `/proc/PID/mountinfo`, read and nothing believed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The five sets of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CapSets {
    pub inheritable: u64,
    pub permitted: u64,
    pub effective: u64,
    pub bounding: u64,
    pub ambient: u64,
}

impl CapSets {
    /// All five the same.
    pub const fn all(set: u64) -> Self {
        Self { inheritable: set, permitted: set, effective: set, bounding: set, ambient: set }
    }

    /// Docker's for uid 0: permitted, effective and bounding hold the set, inheritable and ambient nothing.
    pub const fn root(set: u64) -> Self {
        Self { inheritable: 0, permitted: set, effective: set, bounding: set, ambient: 0 }
    }
}

impl std::fmt::Display for CapSets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "I={:x} P={:x} E={:x} B={:x} A={:x}",
            self.inheritable, self.permitted, self.effective, self.bounding, self.ambient
        )
    }
}

/// One `/proc/PID/status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcStatus {
    fields: HashMap<String, String>,
}

impl ProcStatus {
    /// Reads a status file's text, for example what a session printed.
    ///
    /// # Panics
    /// Where it is none.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let fields: HashMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect();
        assert!(fields.contains_key("CapEff"), "this is no /proc/PID/status: {text:?}");
        Self { fields }
    }

    /// That of a process of the host's (and so of any machine's, by its pid here). `None`: it is gone.
    pub fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        text.contains("CapEff").then(|| Self::parse(&text))
    }

    /// One line's value.
    ///
    /// # Panics
    /// Where this kernel does not write it.
    #[track_caller]
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("no {name} in /proc/PID/status"))
    }

    #[track_caller]
    fn hex(&self, name: &str) -> u64 {
        u64::from_str_radix(self.field(name), 16).expect("a mask")
    }

    #[track_caller]
    fn numbers(&self, name: &str) -> Vec<u32> {
        self.field(name).split_whitespace().map(|n| n.parse().expect("a number")).collect()
    }

    /// `CapInh`, `CapPrm`, `CapEff`, `CapBnd`, `CapAmb`.
    #[track_caller]
    pub fn caps(&self) -> CapSets {
        CapSets {
            inheritable: self.hex("CapInh"),
            permitted: self.hex("CapPrm"),
            effective: self.hex("CapEff"),
            bounding: self.hex("CapBnd"),
            ambient: self.hex("CapAmb"),
        }
    }

    /// A mask of signals: `SigBlk`, `SigIgn`, `SigCgt`.
    #[track_caller]
    pub fn signals(&self, name: &str) -> u64 {
        self.hex(name)
    }

    /// Real, effective, saved, file system.
    #[track_caller]
    pub fn uids(&self) -> Vec<u32> {
        self.numbers("Uid")
    }

    /// Real, effective, saved, file system.
    #[track_caller]
    pub fn gids(&self) -> Vec<u32> {
        self.numbers("Gid")
    }

    /// Supplementary groups, sorted.
    #[track_caller]
    pub fn groups(&self) -> Vec<u32> {
        let mut groups = self.numbers("Groups");
        groups.sort_unstable();
        groups
    }

    /// `NoNewPrivs`.
    #[track_caller]
    pub fn no_new_privs(&self) -> bool {
        self.field("NoNewPrivs") == "1"
    }

    /// `Seccomp`: 0 none, 1 strict, 2 filter.
    #[track_caller]
    pub fn seccomp(&self) -> u32 {
        self.field("Seccomp").parse().expect("a number")
    }

    /// The parent's pid, in the reader's pid namespace.
    pub fn parent(&self) -> i32 {
        self.field("PPid").parse().expect("a number")
    }

    /// A letter: `R`, `S`, `T`, `Z`.
    pub fn state(&self) -> char {
        self.field("State").chars().next().expect("a state")
    }

    /// The name, as the kernel has it.
    pub fn comm(&self) -> &str {
        self.field("Name")
    }

    /// Its pid in each pid namespace, outermost (the reader's) first.
    pub fn namespace_pids(&self) -> Vec<i32> {
        self.field("NSpid").split_whitespace().map(|n| n.parse().expect("a number")).collect()
    }
}

/// Every process that is a child of this one, by pids of the host; zombies too.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<i32> = entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .filter(|child| ProcStatus::of(*child).is_some_and(|s| s.parent() == pid))
        .collect();
    found.sort_unstable();
    found
}

/// One line of `/proc/PID/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Mount {
    pub id: u32,
    pub root: String,
    pub point: PathBuf,
    /// Of the mount: `ro`, `nosuid`...
    pub options: Vec<String>,
    /// `shared:N`, `master:N`...
    pub propagation: Vec<String>,
    pub kind: String,
    pub source: String,
    /// Of the file system.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Reads a whole mountinfo.
    ///
    /// # Panics
    /// Where a line is none.
    pub fn table(text: &str) -> Vec<Self> {
        text.lines().map(Self::line).collect()
    }

    fn line(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let dash = words.iter().position(|w| *w == "-").expect("a line of mountinfo");
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        Self {
            id: words[0].parse().expect("a mount id"),
            root: words[3].to_owned(),
            point: Path::new(&words[4].replace("\\040", " ")).to_owned(),
            options: list(words[5]),
            propagation: words[6..dash].iter().map(|w| (*w).to_owned()).collect(),
            kind: words[dash + 1].to_owned(),
            source: words[dash + 2].to_owned(),
            super_options: list(words[dash + 3]),
        }
    }

    /// Whether the mount has that option (`ro`, `nosuid`).
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }
}
