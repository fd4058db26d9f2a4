//! What all of a session may have together, in words: `cgroup` and `tmp_size` of its profile.

use caplet_policy::document::Profile;

/// Each where the profile says so.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub tasks: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Percent of one processor.
    pub cpu: Option<u64>,
    /// Bytes.
    pub tmp_size: Option<u64>,
}

impl Limits {
    pub fn of(profile: &Profile) -> Self {
        let cgroup = profile.cgroup.unwrap_or_default();
        Self {
            tasks: cgroup.tasks.map(u64::from),
            memory: cgroup.memory,
            cpu: cgroup.cpu.map(u64::from),
            tmp_size: profile.tmp_size,
        }
    }

    /// `None` where nothing is limited.
    pub fn words(&self) -> Option<String> {
        let words: Vec<String> = [
            self.tasks.map(|tasks| format!("{tasks} processes and threads")),
            self.memory.map(|bytes| format!("{} of memory", size(bytes))),
            self.cpu.map(|percent| format!("{percent}% of a processor")),
            self.tmp_size.map(|bytes| format!("{} in /tmp and the like", size(bytes))),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// As the policy writes it, in the largest unit that is exact.
fn size(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let exact = units.into_iter().find(|(shift, _)| bytes > 0 && bytes % (1 << shift) == 0);
    exact.map_or(format!("{bytes} bytes"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_few_words() {
        let limits = Limits { tasks: Some(200), memory: Some(3 << 29), cpu: Some(50), tmp_size: Some(1 << 30) };
        let words = "200 processes and threads, 1536M of memory, 50% of a processor, 1G in /tmp and the like";
        assert_eq!(limits.words().as_deref(), Some(words));
        assert_eq!(Limits::default().words(), None);
        assert_eq!((size(9_000_001), size(1 << 40)), ("9000001 bytes".into(), "1T".into()));
    }
}
