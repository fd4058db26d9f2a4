//! Files and folders that root alone can write: opened component by component, each judged on its descriptor, so
//! that what was checked is what is used.

use crate::sys::{Errno, mount};
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{FileStat, fstat};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

/// Why a path is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// It is not there, or cannot be opened.
    Unopened(Errno),
    /// Somebody other than root owns it or may write it.
    Writable,
    /// It is not of the kind it should be.
    Kind,
}

fn sound(stat: &FileStat) -> Result<(), Distrust> {
    if stat.st_uid == 0 && stat.st_mode & 0o022 == 0 { Ok(()) } else { Err(Distrust::Writable) }
}

fn is(stat: &FileStat, kind: u32) -> bool {
    stat.st_mode & libc::S_IFMT == kind
}

fn open(dir: &OwnedFd, name: &OsStr, flags: OFlag) -> Result<(OwnedFd, FileStat), Distrust> {
    let flags = (flags | OFlag::O_NOFOLLOW).bits();
    let file = mount::openat2(dir, name, flags, mount::RESOLVE_NO_MAGICLINKS).map_err(Distrust::Unopened)?;
    let stat = fstat(&file).map_err(Distrust::Unopened)?;
    Ok((file, stat))
}

/// The folder at an absolute path without symbolic links, readable, every folder on the way checked.
pub fn folder(path: &str) -> Result<OwnedFd, Distrust> {
    let mut here = root()?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        here = subfolder(&here, name)?;
    }
    Ok(here)
}

fn root() -> Result<OwnedFd, Distrust> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open("/", flags, nix::sys::stat::Mode::empty()).map_err(Distrust::Unopened)?;
    sound(&fstat(&root).map_err(Distrust::Unopened)?)?;
    Ok(root)
}

/// A folder inside a trusted one.
pub fn subfolder(dir: &OwnedFd, name: &str) -> Result<OwnedFd, Distrust> {
    let (next, stat) = open(dir, name.as_ref(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    sound(&stat)?;
    Ok(next)
}

/// A regular file inside a trusted folder. A FIFO or device is not waited for.
pub fn file(dir: &OwnedFd, name: &OsStr) -> Result<(OwnedFd, FileStat), Distrust> {
    let (file, stat) = open(dir, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    if !is(&stat, libc::S_IFREG) {
        return Err(Distrust::Kind);
    }
    sound(&stat)?;
    Ok((file, stat))
}

/// Follows an absolute path, symbolic links included, as long as root alone could have made each step of it.
pub fn resolve(path: &Path) -> Result<OwnedFd, Distrust> {
    let too_many_links = 40; // path_resolution(7)
    let mut rest: VecDeque<OsString> = words(path)?;
    let mut folders = vec![root()?];
    for _ in 0..too_many_links + 256 {
        let Some(name) = rest.pop_front() else {
            return Err(Distrust::Kind);
        };
        if name == ".." {
            folders.truncate(folders.len().saturating_sub(1).max(1));
            continue;
        }
        let here = folders.last().ok_or(Distrust::Kind)?;
        let (next, stat) = open(here, &name, OFlag::O_PATH)?;
        if is(&stat, libc::S_IFLNK) {
            if stat.st_uid != 0 {
                return Err(Distrust::Writable);
            }
            let target = readlinkat(&next, "").map_err(Distrust::Unopened)?;
            let target = Path::new(&target);
            if target.is_absolute() {
                folders.truncate(1);
            }
            for word in words(target)?.into_iter().rev() {
                rest.push_front(word);
            }
        } else if is(&stat, libc::S_IFDIR) {
            sound(&stat)?;
            folders.push(next);
        } else if rest.is_empty() {
            return file(here, &name).map(|(file, _)| file);
        } else {
            return Err(Distrust::Kind);
        }
    }
    Err(Distrust::Unopened(Errno::ELOOP))
}

fn words(path: &Path) -> Result<VecDeque<OsString>, Distrust> {
    let word = |part: Component<'_>| match part {
        Component::Normal(name) => Some(Ok(name.to_os_string())),
        Component::ParentDir => Some(Ok("..".into())),
        Component::RootDir | Component::CurDir => None,
        Component::Prefix(_) => Some(Err(Distrust::Kind)),
    };
    path.components().filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::stat;

    fn as_of(uid: u32, mode: u32) -> FileStat {
        let mut made = stat("/").unwrap();
        (made.st_uid, made.st_mode) = (uid, mode);
        made
    }

    #[test]
    fn only_what_root_alone_writes_is_sound() {
        // A set-group-ID bit is no right to write.
        for mode in [0o755, 0o500, 0o2755] {
            assert_eq!(sound(&as_of(0, libc::S_IFDIR | mode)), Ok(()), "{mode:o}");
        }
        for (uid, mode) in [(0, 0o775), (0, 0o757), (0, 0o1777), (1000, 0o755), (1000, 0o500)] {
            assert_eq!(sound(&as_of(uid, libc::S_IFDIR | mode)), Err(Distrust::Writable), "{uid} {mode:o}");
        }
        let kinds = [libc::S_IFREG, libc::S_IFDIR, libc::S_IFLNK, libc::S_IFIFO, libc::S_IFSOCK];
        for kind in kinds {
            let stat = as_of(0, kind | 0o644);
            assert_eq!(kinds.map(|other| is(&stat, other)), kinds.map(|other| other == kind));
        }
    }

    #[test]
    fn a_path_is_followed_word_by_word() {
        let words = |path: &str| words(Path::new(path)).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(words("/usr/./bin//../sbin/ip"), ["usr", "bin", "..", "sbin", "ip"]);
        assert!(words("/").is_empty());
        assert_eq!(resolve(Path::new("/")).err(), Some(Distrust::Kind));
        assert_eq!(resolve(Path::new("/etc/passwd/x")).err(), Some(Distrust::Kind));
        assert_eq!(resolve(Path::new("/tmp/x")).err(), Some(Distrust::Writable));
        assert_eq!(resolve(Path::new("/etc/no/such")).err(), Some(Distrust::Unopened(Errno::ENOENT)));
        assert_eq!(resolve(Path::new("/dev/null")).err(), Some(Distrust::Kind), "no regular file");
        assert!(resolve(Path::new("/usr/../../etc/passwd")).is_ok(), "above the root is the root");
    }

    #[test]
    fn links_are_followed_by_nobody_but_resolve() {
        // root's link, to a file beside it, on every machine with a shell.
        assert!(resolve(Path::new("/bin/sh")).is_ok());
        let bin = std::fs::canonicalize("/bin").unwrap();
        let bin = folder(&format!("/{}/", bin.display())).unwrap();
        assert_eq!(file(&bin, OsStr::new("sh")).err(), Some(Distrust::Unopened(Errno::ELOOP)));
        assert_eq!(folder("/etc/passwd").err(), Some(Distrust::Unopened(Errno::ENOTDIR)));
        assert_eq!(folder("/tmp").err(), Some(Distrust::Writable));
        let etc = folder("/etc").unwrap();
        assert!(file(&etc, OsStr::new("passwd")).is_ok());
        assert_eq!(file(&etc, OsStr::new("..")).err(), Some(Distrust::Kind));
    }
}
