//! A part of the cgroup tree that is its user's (delegation, cgroups(7)) is frozen and starved by the user at will, with
//! everybody in it: those who watch a session leave it. And sessions whose profile limits them have one of their own.

mod own;

pub use own::{Own, Place, bury, enter, kill_all};

use crate::sys::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::write;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

const TREE: &str = "/sys/fs/cgroup";
/// Where version 2 is beside version 1's trees, and the one by which systemd knows processes then.
const HYBRID: &str = "/sys/fs/cgroup/unified";
/// Version 1's hierarchies by which a process is known or held up, and where they are.
const OLD: [(&str, &str); 2] = [("name=systemd", "/sys/fs/cgroup/systemd"), ("freezer", "/sys/fs/cgroup/freezer")];
/// Where those who watch are if the top of the tree can have no processes: it is a container's. It stays.
const WATCHERS: &str = "caplet.watch";

/// The way out of the caller's cgroup, opened where this process still sees the machine's own tree.
#[derive(Debug)]
pub struct Way {
    proc: OwnedFd,
    tree: OwnedFd,
    old: Vec<(&'static str, OwnedFd)>,
}

impl Way {
    /// `None`: there is no cgroup version 2, or this process is at its top.
    ///
    /// # Errors
    /// Those of opening `/proc` and the tree.
    pub fn open() -> Result<Option<Self>, Errno> {
        let folder = |path: &str| {
            let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            open(path, flags, Mode::empty())
        };
        let proc = folder("/proc")?;
        if !is_elsewhere(&own(&proc, "")) && !OLD.iter().any(|(name, _)| is_elsewhere(&own(&proc, name))) {
            return Ok(None);
        }
        let tree = folder(HYBRID).or_else(|_| folder(TREE))?;
        let old = OLD.iter().filter_map(|(name, path)| Some((*name, folder(path).ok()?))).collect();
        Ok(Some(Self { proc, tree, old }))
    }

    /// Moves this process to the top of the tree: whoever manages the caller's cgroup (systemd, which takes any signal for
    /// all that are in it from the user who is logged in there: `KillSession` of logind's D-Bus) reaches it no more, nor
    /// does its memory limit.
    ///
    /// # Errors
    /// Where it cannot be moved out of a folder that is somebody else's than root's, or nobody can tell whose that is.
    pub fn leave(&self) -> Result<(), Errno> {
        for (name, folder) in &self.old {
            if is_elsewhere(&own(&self.proc, name)) {
                let _ = move_to(folder, "cgroup.procs");
            }
            // Where version 1 freezes, it is that one's folder that counts.
            match own(&self.proc, name)? {
                Some(path) if *name == "freezer" && is_a_users(folder, &path) => return Err(Errno::EPERM),
                _ => {}
            }
        }
        if !is_elsewhere(&own(&self.proc, "")) {
            return Ok(());
        }
        if move_to(&self.tree, "cgroup.procs").is_err() {
            let _ = mkdirat(&self.tree, WATCHERS, Mode::from_bits_truncate(0o755));
            let _ = move_to(&self.tree, &format!("{WATCHERS}/cgroup.procs"));
        }
        match own(&self.proc, "")? {
            Some(path) if is_a_users(&self.tree, &path) => Err(Errno::EPERM),
            _ => Ok(()),
        }
    }
}

fn move_to(folder: &OwnedFd, list: &str) -> Result<(), Errno> {
    let file = openat(folder, list, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write(&file, b"0").map(drop)
}

/// Also where nobody can tell: a folder's name may be any bytes, and the whole longer than a path may be.
fn is_elsewhere(own: &Result<Option<PathBuf>, Errno>) -> bool {
    own.as_ref().map_or(true, |own| own.as_ref().is_some_and(|path| path != Path::new("/")))
}

/// Where this process is in that hierarchy (cgroups(7), `/proc/PID/cgroup`; version 2's has no name).
fn own(proc: &OwnedFd, hierarchy: &str) -> Result<Option<PathBuf>, Errno> {
    let file = openat(proc, "self/cgroup", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = Vec::new();
    let read = File::from(file).read_to_end(&mut text);
    read.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    Ok(path_of(&text, hierarchy))
}

fn path_of(text: &[u8], hierarchy: &str) -> Option<PathBuf> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':').skip(1);
        let found = fields.next() == Some(hierarchy.as_bytes());
        fields.next().filter(|_| found).map(|path| PathBuf::from(OsString::from_vec(path.to_vec())))
    })
}

/// Whether a folder on the way there, or its list of processes, is for somebody else than root to write to; also where
/// that cannot be seen. A folder that is not there is another machine's, as a container sees it.
fn is_a_users(tree: &OwnedFd, path: &Path) -> bool {
    let is_not_roots = |path: &Path| match fstatat(tree, path, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat.st_uid != 0 || stat.st_mode & 0o022 != 0,
        Err(errno) => errno != Errno::ENOENT,
    };
    let whole = path.strip_prefix("/").unwrap_or(path);
    let way = whole.ancestors().take_while(|folder| *folder != Path::new(""));
    way.into_iter().any(|folder| is_not_roots(folder) || is_not_roots(&folder.join("cgroup.procs")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_own_folders_are_whoever_runs_them() {
        let tree = std::env::temp_dir().join(format!("caplet-cgroup-{}", std::process::id()));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        let mode = |mode| {
            std::fs::set_permissions(tree.join("a"), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        mode(0o755);
        std::fs::set_permissions(tree.join("a/b"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let own = nix::unistd::getuid().as_raw() != 0;
        let top = OwnedFd::from(File::open(&tree).unwrap());
        let is_a_users = |path: &str| is_a_users(&top, Path::new(path));
        assert_eq!(is_a_users("/a/b"), own);
        assert!(!is_a_users("/") && !is_a_users("/not/there"));
        mode(0o775);
        assert!(is_a_users("/a/b"), "a group's");
        mode(0o755);
        if !own {
            std::os::unix::fs::chown(tree.join("a"), Some(1), None).unwrap();
            assert!(is_a_users("/a/b"));
        }
        assert!(is_a_users(&format!("/{}", "x".repeat(300))), "no folder's name is so long: nobody can tell");
        std::fs::remove_dir_all(tree).unwrap();
    }

    #[test]
    fn a_cgroup_may_have_any_name() {
        let text = b"12:pids:/p\n1:name=systemd:/user.slice/a:b\n0::/user.slice/\xff:x\n";
        assert_eq!(path_of(text, "name=systemd").unwrap(), Path::new("/user.slice/a:b"));
        let own = path_of(text, "").unwrap();
        assert_eq!(own.into_os_string().into_vec(), b"/user.slice/\xff:x");
        assert_eq!(path_of(b"4:memory:/\n", ""), None);
        assert_eq!(path_of(b"", ""), None);
    }
}
