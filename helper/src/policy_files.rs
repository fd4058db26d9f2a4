//! Opening the policy safely: `/etc/caplet/policy.toml`, then `policy.d/*.toml` in byte order.

use crate::error::Error;
use crate::hygiene::Power;
use crate::trusted::{self, Distrust};
use caplet_policy::document::{Document, Faults, Source};
use caplet_policy::judge::{Caller, speaks_of};
use nix::sys::stat::{FileStat, fstat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

const FOLDER: &str = "/etc/caplet";
/// A policy larger than this is a mistake or an attack, not a policy.
const LARGEST: u64 = 16 << 20;

/// Reads the policy that holds for this run. One fault anywhere means no grant for anybody.
/// Only the caller's profiles are kept.
pub fn read(power: Power, asked: Option<&OsStr>, caller: &Caller) -> Result<Document, Error> {
    let sources = match (power, asked) {
        (Power::None, None) => return Ok(Document::built_in()),
        (Power::None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|e| faulty(&path.to_string_lossy(), &e.to_string()))?;
            vec![Source { path: path.to_string_lossy().into_owned(), text }]
        }
        (Power::Setuid, Some(_)) => {
            let text = "--policy is only for a helper without the setuid bit: here the administrator's policy holds";
            return Err(Error::Unsupported(text.into()));
        }
        (Power::Setuid, None) => installed()?,
    };
    Document::read_for(&sources, &|profile| speaks_of(profile, caller)).map_err(|Faults { faults, contact }| {
        let first = faults.first();
        let detail =
            first.map(|f| format!("{}:{}:{}: {} ({} in all)", f.file, f.line, f.column, f.message, faults.len()));
        Error::Policy { detail: detail.unwrap_or_default(), contact }
    })
}

fn installed() -> Result<Vec<Source>, Error> {
    let folder = trusted::folder(FOLDER).map_err(|why| distrusted(FOLDER, why))?;
    let mut sources = vec![source(&folder, OsStr::new("policy.toml"), "")?];
    let dropins = match trusted::subfolder(&folder, "policy.d") {
        Ok(dropins) => dropins,
        Err(Distrust::Unopened(crate::sys::Errno::ENOENT)) => return Ok(sources),
        Err(why) => return Err(distrusted("/etc/caplet/policy.d", why)),
    };
    for name in names(&dropins)? {
        sources.push(source(&dropins, &name, "policy.d/")?);
    }
    Ok(sources)
}

/// The drop-ins' names in byte order; those that start with a dot are editors' and package managers' leftovers.
fn names(folder: &OwnedFd) -> Result<Vec<OsString>, Error> {
    let fault = |e: nix::Error| faulty("/etc/caplet/policy.d", e.desc());
    let copy = folder.try_clone().map_err(|e| faulty("/etc/caplet/policy.d", &e.to_string()))?;
    let mut dir = nix::dir::Dir::from_fd(copy).map_err(fault)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(fault)?;
        let name = entry.file_name().to_bytes();
        if name.ends_with(b".toml") && !name.starts_with(b".") {
            names.push(OsStr::from_bytes(name).to_os_string());
        }
    }
    names.sort();
    Ok(names)
}

fn source(folder: &OwnedFd, name: &OsStr, prefix: &str) -> Result<Source, Error> {
    let path = format!("{FOLDER}/{prefix}{}", name.to_string_lossy());
    let (file, stat) = trusted::file(folder, name).map_err(|why| distrusted(&path, why))?;
    let text = text(File::from(file), &stat).map_err(|why| faulty(&path, &why))?;
    Ok(Source { path, text })
}

/// All of a file as it was when it was opened: a part of a policy, or of two, would be another policy. Who writes one in
/// place is noticed where that falls into the reading; the way to change one is rename(2).
fn text(file: File, opened: &FileStat) -> Result<String, String> {
    let size = opened.st_size as u64;
    if size > LARGEST {
        return Err("larger than 16 MiB".into());
    }
    let mut bytes = Vec::with_capacity(size as usize + 1);
    (&file).take(LARGEST).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let when = |stat: &FileStat| (stat.st_mtime, stat.st_mtime_nsec);
    let read = fstat(&file).map_err(|errno| errno.desc().to_owned())?;
    if bytes.len() as u64 != size || read.st_size != opened.st_size || when(&read) != when(opened) {
        return Err("was written while it was read".into());
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".into())
}

fn distrusted(path: &str, why: Distrust) -> Error {
    match why {
        Distrust::Unopened(errno) => faulty(path, errno.desc()),
        Distrust::Writable => faulty(path, "must belong to root and be writable by nobody else"),
        Distrust::Kind => faulty(path, "not a regular file"),
    }
}

fn faulty(path: &str, why: &str) -> Error {
    Error::Policy { detail: format!("{path}: {why}"), contact: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_are_read_in_byte_order_and_leftovers_are_not() {
        let path = std::env::temp_dir().join(format!("caplet-policy-files.{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        for name in ["20-b.toml", "10-a.toml", "A.toml", ".hidden.toml", "x.toml.dpkg-new", "y.toml~", "toml", "z.TOML"]
        {
            std::fs::write(path.join(name), "").unwrap();
        }
        let found = names(&std::fs::File::open(&path).unwrap().into());
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(found.unwrap(), ["10-a.toml", "20-b.toml", "A.toml"]);
    }

    #[test]
    fn a_policy_is_read_whole_or_not_at_all() {
        let path = std::env::temp_dir().join(format!("caplet-policy-size.{}", std::process::id()));
        let new = |size: u64| {
            std::fs::File::create(&path).and_then(|file| file.set_len(size)).unwrap();
            let file = File::open(&path).unwrap();
            let stat = fstat(&file).unwrap();
            (file, stat)
        };
        let whole = |size: u64| {
            let (file, stat) = new(size);
            text(file, &stat).map(|text| text.len() as u64)
        };
        assert_eq!([whole(LARGEST), whole(0)], [Ok(LARGEST), Ok(0)]);
        assert_eq!(whole(LARGEST + 1), Err("larger than 16 MiB".into()));
        for change in [
            |stat: &mut FileStat| stat.st_size += 1,
            |stat: &mut FileStat| stat.st_size -= 1,
            |stat: &mut FileStat| stat.st_mtime -= 1,
            |stat: &mut FileStat| stat.st_mtime_nsec ^= 1,
        ] {
            let (file, mut stat) = new(3);
            change(&mut stat);
            assert_eq!(text(file, &stat), Err("was written while it was read".into()));
        }
        // One that is replaced meanwhile was whole.
        let (file, stat) = new(3);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text(file, &stat).as_deref(), Ok("\0\0\0"));
        std::fs::write(&path, b"\xff").unwrap();
        let file = File::open(&path).unwrap();
        let stat = fstat(&file).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text(file, &stat), Err("not UTF-8".into()));
        assert_eq!(LARGEST, 16 * 1024 * 1024);
    }

    #[test]
    fn a_policy_of_ones_own_is_only_for_a_helper_without_the_setuid_bit() {
        let caller = crate::samples::caller();
        let refused = read(Power::Setuid, Some(OsStr::new("/etc/passwd")), &caller);
        assert!(
            matches!(&refused, Err(Error::Unsupported(text)) if text.starts_with("--policy is only")),
            "{refused:?}"
        );
        assert_eq!(read(Power::None, None, &caller).unwrap().profiles.len(), 1);
        let Err(Error::Policy { detail, contact: None }) = read(Power::None, Some(OsStr::new("/etc/passwd")), &caller)
        else {
            panic!("no policy");
        };
        assert!(detail.starts_with("/etc/passwd:1:"), "{detail}");
    }
}
