//! A part of the cgroup tree that is its user's (delegation, cgroups(7)) is frozen and starved by the user at will, with
//! everybody in it: those who watch a session leave it. And sessions whose profile limits them have one of their own.

mod own;

pub use own::{Own, Place, bury, enter, kill_all};

use std::os::unix::fs::MetadataExt;
use std::path::Path;

const TREE: &str = "/sys/fs/cgroup";

/// Moves this process to the top of the tree, where processes may always be, if a folder above it is not root's. Where
/// that cannot be (a container's top is none), it stays.
pub fn leave_the_users() {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if own.lines().find_map(|line| line.strip_prefix("0::")).is_some_and(|path| is_a_users(Path::new(TREE), path)) {
        let _ = std::fs::write(format!("{TREE}/cgroup.procs"), "0");
    }
}

/// Whether a folder on the way there, or its list of processes, is somebody else's than root's.
fn is_a_users(tree: &Path, path: &str) -> bool {
    let is_not_roots = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.uid() != 0);
    let whole = tree.join(path.trim_start_matches('/'));
    let way = whole.ancestors().take_while(|folder| *folder != tree);
    way.into_iter().any(|folder| is_not_roots(folder) || is_not_roots(&folder.join("cgroup.procs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_own_folders_are_whoever_runs_them() {
        let tree = std::env::temp_dir().join(format!("caplet-cgroup-{}", std::process::id()));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        let own = nix::unistd::getuid().as_raw() != 0;
        assert_eq!(is_a_users(&tree, "/a/b"), own);
        assert!(!is_a_users(&tree, "/"));
        if !own {
            std::os::unix::fs::chown(tree.join("a"), Some(1), None).unwrap();
            assert!(is_a_users(&tree, "/a/b"));
        }
        std::fs::remove_dir_all(tree).unwrap();
    }
}
