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
use std::os::fd::OwnedFd;
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
    let flags = fcntl(&report, FcntlArg::F_GETFL).map_err(no_pipe)?;
    let kind = fstat(&report).map_err(no_pipe)?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFIFO || flags & (libc::O_ACCMODE | libc::O_PATH) != libc::O_WRONLY {
        return Err(no_pipe(nix::Error::EINVAL));
    }
    fcntl(&report, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(no_pipe)?;
    Ok(Some(report))
}

/// Refuses what no command has a use for.
pub fn check() -> Result<(), Error> {
    for number in 0..3 {
        if let Some(what) = unwanted(number)? {
            return Err(Error::Descriptor(number, what));
        }
    }
    Ok(())
}

fn unwanted(number: i32) -> Result<Option<&'static str>, Error> {
    let flags = fcntl(standard(number), FcntlArg::F_GETFL).map_err(call(format!("fcntl({number}, F_GETFL)")))?;
    if flags & libc::O_PATH != 0 {
        return Ok(Some("a path descriptor"));
    }
    let stat = fstat(standard(number)).map_err(call(format!("fstat({number})")))?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => return Ok(Some("a folder")),
        libc::S_IFBLK => return Ok(Some("a block device")),
        libc::S_IFREG | 0 => {}
        _ => return Ok(None),
    }
    let kind = fstatfs(standard(number)).map_err(call(format!("fstatfs({number})")))?.filesystem_type().0;
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
