//! Members of a `[network.NAME]`, and what the machine has of networks.

use crate::machine::Lab;
use crate::task::Running;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A session that waits on its standard input and runs each line that comes there; its address.
#[derive(Debug)]
pub struct Member {
    /// The session's caller.
    pub running: Running,
    /// Its IPv4 address.
    pub address: String,
}

impl Member {
    /// Starts one, and waits until it answers.
    ///
    /// # Panics
    /// Where it does not come up with an eth0.
    pub fn new(lab: &Lab, user: &str, profile: &str, more: &[&str]) -> Self {
        let mut words = vec!["caplet", "run", "--quiet", "-p", profile];
        words.extend_from_slice(more);
        words.extend_from_slice(&["bash", "-c", "ip -4 -br addr show eth0; echo ready; exec bash"]);
        let running = lab.task(user, words).stdin_open().limit(120).spawn();
        running.wait_for("ready");
        let out = running.out_so_far();
        let address = out.split_whitespace().find(|word| word.contains('/')).expect("an address");
        let address = address.split('/').next().expect("an address").to_owned();
        Self { running, address }
    }

    /// Runs a line inside; what it says, and its code at the end.
    ///
    /// # Panics
    /// Where it does not answer.
    pub fn run(&mut self, line: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let stdin = self.running.stdin.as_mut().expect("its input");
        writeln!(stdin, "echo begin-{n}; {{ {line}; }} 2>&1; echo code=$? end-{n}").expect("it reads");
        self.running.wait_for(&format!("end-{n}"));
        let out = self.running.out_so_far();
        let (_, out) = out.split_once(&format!("begin-{n}\n")).expect("its answer");
        out.split_once(&format!(" end-{n}")).expect("its answer").0.to_owned()
    }

    /// Whether that address answers it.
    pub fn pings(&mut self, address: &str) -> bool {
        self.run(&format!("ping -c 1 -W 1 {address} >/dev/null")).ends_with("code=0")
    }

    /// Ends it, and waits for that.
    pub fn end(mut self) {
        drop(self.running.stdin.take());
        self.running.wait();
    }
}

/// What the machine has of links, addresses, routes, rules and settings.
pub fn state(lab: &Lab) -> String {
    lab.root(
        "ip -o link | sed 's/^[0-9]*: //'; ip -o addr | sed 's/^[0-9]*: //'; ip route show table all; ip -6 route show table all; \
         ip rule; nft list ruleset; ls /run/caplet; sysctl -a 2>/dev/null | grep -E '^net.(ipv4|ipv6|bridge)' | \
         grep -vE 'neigh|inode|mem|tcp_fastopen|route.min|nf_conntrack'",
    )
    .out()
}

/// Nothing stays of a network whose last session has ended; the kernel takes links down in its own time.
///
/// # Panics
/// Where it is otherwise after a while.
pub fn nothing_stays(lab: &Lab, before: &str) {
    let same = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        state(lab) == before
    });
    let after = state(lab);
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let gone: Vec<_> = old.iter().filter(|line| !new.contains(line)).collect();
    let come: Vec<_> = new.iter().filter(|line| !old.contains(line)).collect();
    assert!(same, "gone: {gone:#?}\ncome: {come:#?}");
}
