//! The processes of a session, from what everybody may read of `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// The machine's processes at one moment.
#[derive(Debug, Default)]
pub struct Processes {
    /// Parent -> children and what each holds, in bytes.
    children: BTreeMap<u32, Vec<(u32, u64)>>,
    memory: BTreeMap<u32, u64>,
    /// Seconds since boot, sleep included; proc_uptime(5).
    pub uptime: Option<f64>,
}

/// A process and all that come from it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub pids: Vec<u32>,
    /// Anonymous and shared memory, in bytes: what the machine would have back.
    pub memory: u64,
}

impl Processes {
    /// What is gone while this reads is passed over; what hidepid hides is not there.
    pub fn read() -> Self {
        let uptime = fs::read_to_string("/proc/uptime").ok();
        let mut all = Self {
            uptime: uptime.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok()),
            ..Self::default()
        };
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(status) = fs::read(entry.path().join("status")) else { continue };
            let status = String::from_utf8_lossy(&status);
            let number = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key))?;
                line.split_ascii_whitespace().next()?.parse::<u64>().ok()
            };
            let Some(parent) = number("PPid:").and_then(|pid| u32::try_from(pid).ok()) else { continue };
            let kib = number("RssAnon:").unwrap_or(0) + number("RssShmem:").unwrap_or(0);
            all.add(pid, parent, kib * 1024);
        }
        all
    }

    fn add(&mut self, pid: u32, parent: u32, memory: u64) {
        self.children.entry(parent).or_default().push((pid, memory));
        self.memory.insert(pid, memory);
    }

    /// A process with everything below it.
    pub fn below(&self, main: u32) -> Tree {
        let mut tree = Tree::default();
        let Some(memory) = self.memory.get(&main) else { return tree };
        let mut open = vec![(main, *memory)];
        while let Some((pid, memory)) = open.pop() {
            tree.pids.push(pid);
            tree.memory += memory;
            open.extend(self.children.get(&pid).into_iter().flatten().filter(|(child, _)| *child != pid));
        }
        tree.pids.sort_unstable();
        tree
    }

    #[cfg(test)]
    pub fn of(uptime: f64, list: &[(u32, u32, u64)]) -> Self {
        let mut all = Self { uptime: Some(uptime), ..Self::default() };
        list.iter().for_each(|(pid, parent, memory)| all.add(*pid, *parent, *memory));
        all
    }
}
