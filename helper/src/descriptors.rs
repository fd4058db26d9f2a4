//! What the caller handed in as descriptors 0 to 2. A folder leads out of any tree, a namespace or process handle
//! out of any namespace (CVE-2024-21626), and a writable file of /proc may be more than a file. Of all others the one
//! that `--watch` names is kept, if it is a pipe to write to.

use crate::error::{Error, call};
use crate::sys::{process, standard};
use caplet_policy::request::watch_number;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::stat::fstat;
use nix::sys::statfs::fstatfs;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// `PROC_SUPER_MAGIC`, `NSFS_MAGIC` and `PID_FS_MAGIC` of `linux/magic.h`.
const PROC: i64 = 0x9fa0;
const NSFS: i64 = 0x6e73_6673;
const PIDFS: i64 = 0x5049_4446;

/// Closes what the caller had open from 3 on. What is kept for the watcher is closed on exec until it is started.
pub fn close_but_report(argv: &[OsString]) -> Result<Option<OwnedFd>, Error> {
    let flags = argv.iter().skip(1).map(|word| word.as_bytes()).take_while(|word| *word != b"--");
    let Some(number) = flags.filter_map(watch_number).next() else {
        process::close_from(3).map_err(call("close_range(3)"))?;
        return Ok(None);
    };
    let number = i32::from(number);
    process::close_all_but(vec![number]).map_err(call("close_range"))?;
    let no_pipe = |_| Error::Descriptor(number, "no pipe to write to");
    let report = process::inherited(number).ok_or_else(|| no_pipe(nix::Error::EBADF))?;
    if !is_pipe_to_write(&report).map_err(no_pipe)? {
        return Err(no_pipe(nix::Error::EINVAL));
    }
    fcntl(&report, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(no_pipe)?;
    Ok(Some(report))
}

fn is_pipe_to_write(file: &OwnedFd) -> Result<bool, nix::Error> {
    let flags = fcntl(file, FcntlArg::F_GETFL)?;
    let kind = fstat(file)?.st_mode & libc::S_IFMT;
    Ok(kind == libc::S_IFIFO && flags & (libc::O_ACCMODE | libc::O_PATH) == libc::O_WRONLY)
}

/// Refuses what no command has a use for.
pub fn check() -> Result<(), Error> {
    for number in 0..3 {
        if let Some(what) = unwanted(standard(number))? {
            return Err(Error::Descriptor(number, what));
        }
    }
    Ok(())
}

fn unwanted(file: BorrowedFd<'_>) -> Result<Option<&'static str>, Error> {
    let number = file.as_raw_fd();
    let flags = fcntl(file, FcntlArg::F_GETFL).map_err(call(format!("fcntl({number}, F_GETFL)")))?;
    if flags & libc::O_PATH != 0 {
        return Ok(Some("a path descriptor"));
    }
    let stat = fstat(file).map_err(call(format!("fstat({number})")))?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => return Ok(Some("a folder")),
        libc::S_IFBLK => return Ok(Some("a block device")),
        libc::S_IFREG | 0 => {}
        _ => return Ok(None),
    }
    let kind = fstatfs(file).map_err(call(format!("fstatfs({number})")))?.filesystem_type().0;
    let writable = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE != OFlag::O_RDONLY;
    // Before 6.9 a pidfd is an anonymous inode, told by its name alone.
    let link = || nix::fcntl::readlink(format!("/proc/self/fd/{number}").as_str()).unwrap_or_default();
    Ok(match kind {
        NSFS => Some("a namespace"),
        PIDFS => Some("a process handle"),
        PROC if writable => Some("a writable file of /proc"),
        _ if stat.st_mode & libc::S_IFMT == 0 && link() == "anon_inode:[pidfd]" => Some("a process handle"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::open;
    use nix::sys::stat::Mode;
    use std::os::fd::AsFd;

    fn opened(path: &str, flags: OFlag) -> OwnedFd {
        open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
    }

    fn unwanted_at(path: &str, flags: OFlag) -> Option<&'static str> {
        unwanted(opened(path, flags).as_fd()).unwrap()
    }

    #[test]
    fn what_leads_out_of_a_tree_or_a_namespace_is_not_taken_over() {
        let (read, write, path) = (OFlag::O_RDONLY, OFlag::O_WRONLY, OFlag::O_PATH);
        for (name, flags, what) in [
            ("/", read, "a folder"),
            ("/proc/self/fd", read, "a folder"),
            ("/", path, "a path descriptor"),
            ("/dev/null", path, "a path descriptor"),
            ("/proc/self/ns/mnt", read, "a namespace"),
            ("/proc/self/oom_score_adj", write, "a writable file of /proc"),
            ("/proc/self/oom_score_adj", OFlag::O_RDWR, "a writable file of /proc"),
        ] {
            assert_eq!(unwanted_at(name, flags), Some(what), "{name}");
        }
        let process = process::pidfd_open(std::process::id().cast_signed()).unwrap();
        assert_eq!(unwanted(process.as_fd()).unwrap(), Some("a process handle"));
    }

    #[test]
    fn what_a_shell_hands_over_is() {
        let executable = std::env::current_exe().unwrap();
        for (name, flags) in [
            ("/dev/null", OFlag::O_RDWR),
            ("/proc/self/status", OFlag::O_RDONLY),
            (executable.to_str().unwrap(), OFlag::O_RDONLY),
        ] {
            assert_eq!(unwanted_at(name, flags), None, "{name}");
        }
        let (out, into) = nix::unistd::pipe().unwrap();
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        // An anonymous inode, as a pidfd of an older kernel is, and no process.
        let signals = nix::sys::signalfd::SignalFd::new(&nix::sys::signal::SigSet::empty()).unwrap();
        for file in [out.as_fd(), into.as_fd(), socket.as_fd(), signals.as_fd()] {
            assert_eq!(unwanted(file).unwrap(), None);
        }
        let name = std::env::temp_dir().join(format!("caplet-descriptors.{}", std::process::id()));
        std::fs::write(&name, "").unwrap();
        let plain = opened(name.to_str().unwrap(), OFlag::O_RDWR);
        std::fs::remove_file(name).unwrap();
        assert_eq!(unwanted(plain.as_fd()).unwrap(), None);
    }

    #[test]
    fn a_report_goes_to_the_writing_end_of_a_pipe() {
        let (out, into) = nix::unistd::pipe().unwrap();
        assert!(is_pipe_to_write(&into).unwrap());
        assert!(!is_pipe_to_write(&out).unwrap());
        assert!(!is_pipe_to_write(&opened("/dev/null", OFlag::O_WRONLY)).unwrap());
        let by_path = format!("/proc/self/fd/{}", into.as_raw_fd());
        assert!(!is_pipe_to_write(&opened(&by_path, OFlag::O_PATH)).unwrap());
        assert!(!is_pipe_to_write(&opened(&by_path, OFlag::O_RDWR)).unwrap(), "its reports could be read back");
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!is_pipe_to_write(&socket.into()).unwrap());
    }
}
