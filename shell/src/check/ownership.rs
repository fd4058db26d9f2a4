//! Whose the policy's files and folders are, and the helper's: what the helper refuses is said before it does.

use crate::installed;
use crate::messages::Trouble;
use std::ffi::OsString;
use std::fs::{Metadata, symlink_metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const SETUID: u32 = 0o4000;

/// What is wrong with a file or folder of the policy. One that is not there is the reader's business.
pub fn look(path: &Path, is_folder: bool) -> Option<Trouble> {
    // The helper follows no symbolic link here.
    let meta = symlink_metadata(path).ok()?;
    let name = path.as_os_str().to_owned();
    if meta.is_symlink() {
        return Some(Trouble::Symlink(name));
    }
    unsound(&meta, name).filter(|_| meta.is_dir() == is_folder)
}

fn unsound(meta: &Metadata, path: OsString) -> Option<Trouble> {
    let mode = meta.mode() & 0o7777;
    (meta.uid() != 0 || mode & WRITABLE_BY_OTHERS != 0).then(|| Trouble::NotRoots { path, uid: meta.uid(), mode })
}

/// What is wrong with the installed helper and the folder it lies in.
pub fn of_helper() -> Vec<Trouble> {
    let helper = installed::helper();
    let name = helper.as_os_str().to_owned();
    let meta = match symlink_metadata(&helper) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return vec![Trouble::NoHelper(name)],
        Err(error) => return vec![Trouble::Unreadable { path: name, error }],
    };
    let mut troubles: Vec<Trouble> = helper.ancestors().skip(1).filter_map(|folder| look(folder, true)).collect();
    let mode = meta.mode() & 0o7777;
    if !meta.is_file() || meta.uid() != 0 || mode & SETUID == 0 || mode & WRITABLE_BY_OTHERS != 0 {
        troubles.push(Trouble::HelperMode { path: name, uid: meta.uid(), mode });
    }
    troubles
}
