//! The test bench of caplet: throwaway machines made of namespaces and an overlay over this one.
//!
//! ```no_run
//! use caplet_lab::Lab;
//! let Some(lab) = Lab::new().user("alice", &["students"]).policy("[profile.x]\nusers = [\"alice\"]\n").start() else {
//!     return; // skipped, and said so
//! };
//! let out = lab.run_as("alice", ["caplet", "run", "true"]);
//! assert_eq!(out.code(), 0, "{out}");
//! ```
//!
//! A machine dies with its [`Lab`], and with the test process however that ends. Everything it holds (users, files,
//! mounts, sockets, processes) lies in its own namespaces and in a tmpfs that only these see: the host is not touched.
//! What a test says about a session it reads from the kernel ([`ProcStatus`], `/proc` of the machine), never from
//! caplet's own words.
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]

mod binaries;
mod builder;
mod entry;
mod filter;
mod inject;
mod journal;
mod machine;
pub mod network;
mod outcome;
mod pace;
mod pam;
mod proc;
mod session;
mod skip;
mod sys;
mod task;
mod terminal;

pub use builder::Builder;
pub use entry::{Inside, PROBE, SSH};
pub use filter::Filter;
pub use inject::{Interference, Point};
pub use journal::{Journal, Record};
pub use machine::Lab;
pub use outcome::Output;
pub use pace::patience;
pub use pam::PAM_MODULE;
pub use proc::{CapSets, Mount, ProcStatus};
pub use session::Session;
pub use skip::{have, record_skip, shared};
pub use task::{Running, Task, until};
pub use terminal::Terminal;

/// A machine that all tests of one file share: `SharedLab::new()` in a static, with [`shared`].
pub type SharedLab = std::sync::OnceLock<Option<Lab>>;

/// Leaves the test with a printed and recorded reason: `skip!("no bindfs here")`.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::record_skip(&format!($($reason)*));
        return;
    }};
}

/// Skips the test unless all these programs are installed: `need!("bindfs", "fusermount3")`.
#[macro_export]
macro_rules! need {
    ($($program:expr),+) => {
        for program in [$($program),+] {
            if !$crate::have(program) {
                $crate::skip!("{program} is not installed");
            }
        }
    };
}
