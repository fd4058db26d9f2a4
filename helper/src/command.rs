//! The command of a request: is it one of the policy's, and which file is then executed.

use crate::caller::Person;
use crate::error::{Error, NOT_EXECUTABLE};
use crate::sys::process;
use crate::trusted;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Whether the asked word is the file at `policy_path`: the same folder, the same last name, reached only through
/// what root alone can write. A bare name means the policy's own path: nobody's PATH has a say.
pub fn is_same(word: &OsStr, policy_path: &str, person: &Person) -> bool {
    let (asked, listed) = (Path::new(word), Path::new(policy_path));
    if asked.file_name() != listed.file_name() || asked.file_name().is_none() {
        return false;
    }
    if trusted::resolve(listed).is_err() {
        return false;
    }
    if asked == listed || Some(asked.as_os_str()) == asked.file_name() {
        return true;
    }
    let Some(folder) = asked.parent() else { return false };
    // The user's own rights: what the user may not see must not change the answer.
    process::set_fs_ids(person.uid, person.gid);
    let seen = std::fs::metadata(folder);
    process::set_fs_ids(nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let listed = listed.parent().and_then(|parent| std::fs::metadata(parent).ok());
    seen.ok().zip(listed).is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// What to execute for a profile with `commands`.
#[derive(Debug)]
pub enum Program {
    /// By descriptor, under the policy's path as `argv[0]`.
    File(OwnedFd),
    /// A script: its interpreter opens it by this path, which root alone can write.
    Script,
}

/// Opens the policy's command for good.
pub fn open(policy_path: &str) -> Result<Program, Error> {
    let failed = |why: &str| Error::Command { name: policy_path.into(), why: why.into(), code: NOT_EXECUTABLE };
    let file = trusted::resolve(Path::new(policy_path)).map_err(|_| failed("cannot be opened safely"))?;
    let file = std::fs::File::from(file);
    let mut head = [0u8; 2];
    let read = file.read_at(&mut head, 0).map_err(|_| failed("cannot be read"))?;
    if read == 2 && head == *b"#!" { Ok(Program::Script) } else { Ok(Program::File(file.into())) }
}

/// The argv that is executed: the policy's path instead of the word that was typed.
pub fn argv(policy_path: &str, asked: &[OsString]) -> Vec<OsString> {
    std::iter::once(policy_path.into()).chain(asked.iter().skip(1).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::alice;

    #[test]
    fn a_word_is_the_policys_command_by_folder_and_name() {
        let is = |word: &str, listed: &str| is_same(OsStr::new(word), listed, &alice());
        for word in ["/etc/passwd", "passwd", "/usr/../etc/passwd", "//etc/passwd", "/etc/./passwd"] {
            assert!(is(word, "/etc/passwd"), "{word}");
        }
        for word in
            ["", "/", ".", "..", "passwd/", "/etc/passwd2", "/etc/group", "./passwd", "/usr/passwd", "/no/passwd"]
        {
            assert!(!is(word, "/etc/passwd"), "{word}");
        }
        assert!(!is("none", "/etc/none") && !is("/etc/none", "/etc/none"), "it is not there");
        assert!(!is("null", "/dev/null"), "no file");
        assert!(!is("x", "/"), "no name");
    }

    #[test]
    fn what_is_executed_is_under_the_policys_name() {
        let asked = ["date".into(), "-s".into(), "".into()];
        assert_eq!(argv("/usr/bin/date", &asked), ["/usr/bin/date", "-s", ""]);
        assert!(matches!(open("/etc/passwd"), Ok(Program::File(_))));
        assert!(matches!(open("/etc/none"), Err(Error::Command { code: NOT_EXECUTABLE, .. })));
    }
}
