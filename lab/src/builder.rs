//! What a machine is to have: users, groups, files, a policy.

use crate::Lab;
use crate::binaries::binaries;
use crate::skip::record_skip;
use std::path::PathBuf;

/// Where the programs are installed in a machine.
pub(crate) const HELPER: &str = "/usr/libexec/caplet/caplet-helper";

#[derive(Debug, Clone)]
pub(crate) struct File {
    pub path: PathBuf,
    pub content: Vec<u8>,
    pub mode: u32,
    pub owner: String,
}

#[derive(Debug, Clone)]
pub(crate) struct User {
    pub name: String,
    pub groups: Vec<String>,
}

/// A machine in the making. Made by [`Lab::new`], used up by [`Builder::start`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    pub(crate) users: Vec<User>,
    pub(crate) groups: Vec<String>,
    pub(crate) subids: Vec<(String, u32, u32)>,
    pub(crate) files: Vec<File>,
    pub(crate) caplet: bool,
    pub(crate) journal: bool,
    pub(crate) shared_mounts: bool,
}

impl Lab {
    /// Begins a machine: with caplet installed, a `/dev/log` listener, and nobody but the host's system users.
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> Builder {
        Builder {
            users: Vec::new(),
            groups: Vec::new(),
            subids: Vec::new(),
            files: Vec::new(),
            caplet: true,
            journal: true,
            shared_mounts: true,
        }
    }
}

impl Builder {
    /// A user with a group of the same name, a home of mode 0700 under `/home` and bash as shell, in these groups too
    /// (made where they do not exist). Users get uids 5001, 5002... in the order given.
    pub fn user(mut self, name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        self.users.push(User { name: name.to_owned(), groups });
        self
    }

    /// A group (where it does not exist).
    pub fn group(mut self, name: &str) -> Self {
        self.groups.push(name.to_owned());
        self
    }

    /// A line of `/etc/subuid` and `/etc/subgid`.
    pub fn subid(mut self, user: &str, first: u32, count: u32) -> Self {
        self.subids.push((user.to_owned(), first, count));
        self
    }

    /// `/etc/caplet/policy.toml`, as an administrator leaves it: root:root, 0640.
    pub fn policy(self, text: &str) -> Self {
        self.file("/etc/caplet/policy.toml", text, 0o640, "root")
    }

    /// A file; its folders are made (root's, 0755).
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>, mode: u32, owner: &str) -> Self {
        self.files.push(File { path: path.into(), content: content.as_ref().to_vec(), mode, owner: owner.to_owned() });
        self
    }

    /// A machine where caplet is not installed (for tests of the bench itself).
    pub fn without_caplet(mut self) -> Self {
        self.caplet = false;
        self
    }

    /// A machine where nobody listens on `/dev/log`; the socket does not exist.
    pub fn without_journal(mut self) -> Self {
        self.journal = false;
        self
    }

    /// A machine whose mounts propagate nowhere, as without systemd.
    pub fn with_private_mounts(mut self) -> Self {
        self.shared_mounts = false;
        self
    }

    /// Starts it. `None`: not root, said and recorded as a skip.
    ///
    /// # Panics
    /// Where root cannot make it: then the bench is broken, not the test.
    pub fn start(self) -> Option<Lab> {
        if !nix::unistd::geteuid().is_root() {
            record_skip("needs root");
            return None;
        }
        let programs = self.caplet.then(binaries);
        let mut lab = Lab::boot(self.shared_mounts);
        lab.furnish(&self, programs);
        Some(lab)
    }
}
