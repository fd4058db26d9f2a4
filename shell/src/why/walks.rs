//! Programs that walk a tree with gnulib's fts (GNU find, du, rm -r, chmod -R, chown -R, grep -r). They open a folder a
//! time, and are not stopped at that: two stops a folder would double what a walk costs. They say which folder they were
//! refused, in a message on standard error, and there they are stopped.

use super::arguments;
use super::object::{self, Object, Want, Who};
use caplet_trace as trace;

/// With these flags, from an open folder, fts opens the next one, and hardly anything else does anything.
pub const FLAGS: u32 = (ROOT | libc::O_NOFOLLOW) as u32;
/// So it opens the first one, from the current folder; with O_NOFOLLOW or without.
const ROOT: i32 = libc::O_RDONLY | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_DIRECTORY;
/// The calls that write a message, to standard error.
pub const MESSAGES: [libc::c_long; 2] = [libc::SYS_write, libc::SYS_writev];
pub const STANDARD_ERROR: u32 = 2;
/// Longer messages name no path that could be opened.
const LONGEST: usize = 4096 + 256;
const QUOTES: [(char, char); 4] = [('\u{2018}', '\u{2019}'), ('\'', '\''), ('"', '"'), ('`', '\'')];

/// Whether a program begins a walk.
pub fn begins(number: u64, args: &[u64; 6]) -> bool {
    let open = number == libc::SYS_openat as u64 && args[0] as i32 == libc::AT_FDCWD;
    open && [FLAGS, ROOT as u32].contains(&(args[2] as u32))
}

/// Whether it is a step of one.
pub fn is_step(number: u64, args: &[u64; 6]) -> bool {
    number == libc::SYS_openat as u64 && args[0] as i32 != libc::AT_FDCWD && args[2] as u32 == FLAGS
}

/// Whether it is a message.
pub fn is_message(number: u64, args: &[u64; 6]) -> bool {
    MESSAGES.iter().any(|call| *call as u64 == number) && args[0] as u32 == STANDARD_ERROR
}

/// The folder that the message is about, if its mode keeps this program out.
pub fn refused(pid: i32, number: u64, args: &[u64; 6], who: &Who) -> Option<Object> {
    let bytes = match number == libc::SYS_write as u64 {
        true => trace::read(pid, args[1], (args[2] as usize).min(LONGEST)),
        false => arguments::gathered(pid, args[1], args[2] as usize, LONGEST),
    };
    named(&String::from_utf8_lossy(&bytes)).into_iter().find_map(|path| {
        let file = object::look(&object::base(pid, None, &path), &path, Want::Open(4), who);
        file.obstacle.as_ref().is_some_and(|obstacle| obstacle.stat.is_folder).then_some(Object::File(file))
    })
}

/// What may be a path in a message, in any language: what stands in quotes, the whole, what stands between colons.
fn named(text: &str) -> Vec<String> {
    let text = text.trim_matches('\n');
    let quoted = QUOTES.iter().filter_map(|(opens, closes)| {
        let (_, rest) = text.split_once(*opens)?;
        let (inner, _) = rest.rsplit_once(*closes)?;
        // As a shell has an apostrophe in quotes.
        Some(inner.replace("'\\''", "'"))
    });
    let parts = text.split(": ").map(str::to_owned);
    let all = quoted.chain([text.to_owned()]).chain(parts);
    all.filter(|path| !path.is_empty() && path.len() < libc::PATH_MAX as usize && !path.contains('\0')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_folder() {
        for (text, path) in [
            ("\u{2018}/root\u{2019}", "/root"),
            ("cannot read directory 't/x y'", "t/x y"),
            ("cannot read directory 'it'\\''s'", "it's"),
            ("t/a: b", "t/a: b"),
            ("grep: t/a/b: Permission denied\n", "t/a/b"),
            ("find: `/root': Permission denied\n", "/root"),
        ] {
            assert!(named(text).iter().any(|named| named == path), "{text}: {:?}", named(text));
        }
        assert_eq!(named("\n"), [""; 0]);
        assert_eq!(named(&"x".repeat(5000)), [""; 0]);
    }

    #[test]
    fn a_walk_and_its_steps_are_told_by_their_flags() {
        let open = |folder: i32, flags: u32| [folder as u64, 7, u64::from(flags), 0, 0, 0];
        let number = libc::SYS_openat as u64;
        let own = [
            (open(libc::AT_FDCWD, FLAGS), (true, false)),
            (open(libc::AT_FDCWD, ROOT as u32), (true, false)),
            (open(5, FLAGS), (false, true)),
            (open(5, ROOT as u32), (false, false)),
            (open(5, FLAGS | libc::O_PATH as u32), (false, false)),
        ];
        for (args, wanted) in own {
            assert_eq!((begins(number, &args), is_step(number, &args)), wanted, "{args:?}");
        }
        assert!(is_message(libc::SYS_writev as u64, &[2, 0, 0, 0, 0, 0]));
        assert!(!is_message(libc::SYS_write as u64, &[1, 0, 0, 0, 0, 0]));
    }
}
