//! `ssh -A`: the socket that sshd(8) makes below `/tmp` for this login leads into its session, and no other socket
//! does. `SSH_AUTH_SOCK` is the user's to set: a socket of the user's service manager would be a way out.

use crate::error::{Error, call};
use crate::sys::mount;
use crate::sys::standard_cwd;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// sshd's own programs; from OpenSSH 9.8 on the latter.
const SSHD: [&[u8]; 2] = [b"sshd", b"sshd-session"];
/// How many processes may stand between sshd and the helper: the login shell, a script or two.
const FAR: usize = 8;

/// A name of the one form that sshd gives: `/tmp/ssh-XXXXXXXXXX/agent.PID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    folder: String,
    socket: String,
}

impl Agent {
    /// `None`: it is no such name.
    pub fn named(path: &OsStr) -> Option<Self> {
        let (folder, socket) = path.to_str()?.strip_prefix("/tmp/")?.split_once('/')?;
        let random = folder.strip_prefix("ssh-")?;
        let pid = socket.strip_prefix("agent.")?;
        let fits = (6..=32).contains(&random.len())
            && random.bytes().all(|b| b.is_ascii_alphanumeric())
            && (1..=10).contains(&pid.len())
            && pid.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| Self { folder: folder.into(), socket: socket.into() })
    }

    /// Opens it with the user's own rights, in a folder that is the user's alone; the socket, and a connection to it.
    pub fn open(&self, uid: u32) -> Option<(OwnedFd, OwnedFd)> {
        let links = mount::RESOLVE_NO_SYMLINKS | mount::RESOLVE_NO_MAGICLINKS;
        let path = format!("/tmp/{}", self.folder);
        let folder = mount::openat2(standard_cwd(), path, libc::O_PATH, links).ok()?;
        let is = |fd: &OwnedFd, kind: u32, others: u32| {
            fstat(fd).is_ok_and(|s| s.st_uid == uid && s.st_mode & libc::S_IFMT == kind && s.st_mode & others == 0)
        };
        if !is(&folder, libc::S_IFDIR, 0o077) {
            return None;
        }
        let socket_file = mount::openat2(&folder, &self.socket, libc::O_PATH, links).ok()?;
        if !is(&socket_file, libc::S_IFSOCK, 0) {
            return None;
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
        let path = format!("/proc/self/fd/{}", socket_file.as_raw_fd());
        connect(probe.as_raw_fd(), &UnixAddr::new(path.as_str()).ok()?).ok()?;
        Some((socket_file, probe))
    }

    /// Puts it at its own place in the session's new `/tmp`.
    pub fn put(&self, socket: &OwnedFd, owner: (u32, u32)) -> Result<(), Error> {
        let failed = |what: &'static str| call(format!("{what} the agent's socket"));
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let tmp = mount::openat2(standard_cwd(), "/tmp", flags, 0).map_err(failed("open /tmp for"))?;
        mkdirat(&tmp, self.folder.as_str(), Mode::from_bits_truncate(0o700)).map_err(failed("mkdir for"))?;
        let at = format!("{}/{}", self.folder, self.socket);
        mknodat(&tmp, at.as_str(), SFlag::S_IFREG, Mode::from_bits_truncate(0o600), 0).map_err(failed("mknod for"))?;
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        let no_link = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        fchownat(&tmp, self.folder.as_str(), Some(uid), Some(gid), no_link).map_err(failed("chown for"))?;
        mount::attach(socket, &tmp, at).map_err(failed("mount"))
    }
}

/// Whether at the other end is the sshd that has started this process: root's program, and among our forebears. Not
/// for a process in the session's pid namespace, which knows no number for it.
pub fn is_our_sshds(connection: OwnedFd) -> bool {
    let Ok(listener) = getsockopt(&connection, PeerCredentials) else { return false };
    let listener = listener.pid();
    drop(connection); // or sshd would keep a channel to the agent open
    let exe = format!("/proc/{listener}/exe");
    let program = std::fs::read_link(&exe).ok();
    let name = program.as_deref().and_then(Path::file_name).map(OsStr::as_bytes).unwrap_or_default();
    std::fs::metadata(&exe).is_ok_and(|meta| is_sshd(name, meta.uid(), meta.mode())) && is_forebear(listener)
}

/// Whether a program of that name, owner and mode is one of sshd's own: a user may call theirs what they will.
fn is_sshd(name: &[u8], owner: u32, mode: u32) -> bool {
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    SSHD.contains(&name) && owner == 0 && mode & 0o022 == 0
}

fn is_forebear(pid: i32) -> bool {
    let mut current = nix::unistd::getppid().as_raw();
    for _ in 0..FAR {
        if current == pid {
            return true;
        }
        match crate::process_stat::parent(current) {
            Some(parent) if parent > 1 => current = parent,
            _ => return false,
        }
    }
    false
}

/// A copy of the socket's own mount, to be attached elsewhere.
pub fn copy(socket: impl AsFd) -> Result<OwnedFd, Error> {
    let tree = mount::clone_tree(socket, "", false).map_err(call("open_tree the agent's socket"))?;
    let set = mount::NOSUID | mount::NODEV | mount::NOEXEC;
    let attributes = mount::Attributes { set, propagation: libc::MS_PRIVATE, ..mount::Attributes::default() };
    mount::set_attributes(&tree, "", false, attributes).map_err(call("mount_setattr the agent's socket"))?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_that_sshd_gives() {
        let named = |path: &str| Agent::named(OsStr::new(path)).is_some();
        assert!(named("/tmp/ssh-XXXXabcd12/agent.4711"));
        for path in [
            "",
            "/run/user/1001/systemd/private",
            "/tmp/ssh-abc/agent.1",
            "/tmp/ssh-XXXXabcd12/agent.",
            "/tmp/ssh-XXXXabcd12/agent.1x",
            "/tmp/ssh-XXXXabcd12/x/agent.1",
            "/tmp/ssh-../agent.1",
            "/tmp/ssh-XXXX.bcd12/agent.1",
            "tmp/ssh-XXXXabcd12/agent.1",
            "/tmp/../tmp/ssh-XXXXabcd12/agent.1",
        ] {
            assert!(!named(path), "{path}");
        }
    }

    #[test]
    fn a_socket_is_opened_in_a_folder_of_the_users_alone() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let uid = nix::unistd::getuid().as_raw();
        let folder = format!("ssh-unit{}", std::process::id());
        let at = |name: &str| format!("/tmp/{folder}/{name}");
        let agent = |socket: &str| Agent { folder: folder.clone(), socket: socket.into() };
        std::fs::create_dir(format!("/tmp/{folder}")).unwrap();
        let mode = |bits| std::fs::set_permissions(format!("/tmp/{folder}"), std::fs::Permissions::from_mode(bits));
        let listener = std::os::unix::net::UnixListener::bind(at("agent.1")).unwrap();
        std::fs::write(at("agent.2"), "").unwrap();
        symlink("agent.1", at("agent.3")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("agent.4")).unwrap());
        mode(0o700).unwrap();
        let opened = agent("agent.1").open(uid);
        let others = agent("agent.1").open(uid + 1).is_some();
        let odd = ["agent.2", "agent.3", "agent.4", "agent.5"].map(|name| agent(name).open(uid).is_some());
        let wide = [0o710, 0o701, 0o770].map(|bits| {
            mode(bits).unwrap();
            agent("agent.1").open(uid).is_some()
        });
        std::fs::remove_dir_all(format!("/tmp/{folder}")).unwrap();
        let (_, connection) = opened.expect("a socket of one's own");
        assert!(!is_our_sshds(connection), "a test's, who is no sshd");
        drop(listener);
        assert!(!others, "another's");
        assert_eq!(odd, [false; 4], "a file, a link, a socket that nobody listens at, nothing");
        assert_eq!(wide, [false; 3], "a folder that others may enter");
    }

    #[test]
    fn an_sshd_is_roots_and_nobody_elses_to_write() {
        for name in ["sshd", "sshd-session", "sshd (deleted)", "sshd-session (deleted)"] {
            assert!(is_sshd(name.as_bytes(), 0, 0o100755), "{name}");
        }
        for name in ["", "bash", "sshd2", "(deleted)", "sshd (deleted) (deleted)", "dropbear"] {
            assert!(!is_sshd(name.as_bytes(), 0, 0o100755), "{name}");
        }
        for (owner, mode) in [(1001, 0o100755), (0, 0o100775), (0, 0o100757), (1001, 0o100777)] {
            assert!(!is_sshd(b"sshd", owner, mode), "{owner} {mode:o}");
        }
    }

    #[test]
    fn a_forebear_is_a_parent_or_one_of_its_own() {
        let parent = nix::unistd::getppid().as_raw();
        assert!(is_forebear(parent));
        let grand = crate::process_stat::parent(parent).expect("a parent's parent");
        assert_eq!(is_forebear(grand), grand > 1);
        assert!(!is_forebear(std::process::id() as i32));
        assert!(!is_forebear(0) && !is_forebear(-1));
        let mut child = std::process::Command::new("sleep").arg("9").spawn().unwrap();
        assert!(!is_forebear(child.id() as i32));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
