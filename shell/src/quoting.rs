//! How a command line is shown in a message, so that it can be pasted and cannot harm a terminal.

use caplet_policy::escape::shell_word;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Longest command line that is shown, in bytes.
const LONGEST: usize = 400;

/// A whole command line; a very long one is cut after a word.
pub fn command_line<W: AsRef<OsStr>>(words: &[W]) -> String {
    let mut line = String::new();
    for text in words.iter().map(AsRef::as_ref) {
        let next = if text.len() > LONGEST { "...".to_owned() } else { word(text) };
        if line.len() + next.len() > LONGEST {
            line.push_str(" ...");
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&next);
    }
    line
}

/// One word as a shell reads it.
pub fn word(text: &OsStr) -> String {
    shell_word(text.as_bytes())
}

/// Words of ours as the beginning of a command line.
pub fn words(texts: &[&str]) -> Vec<OsString> {
    texts.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_words_are_quoted() {
        let words = ["date", "", "a b", "\x1b[2J"].map(OsStr::new);
        assert_eq!(command_line(&words), r"date '' 'a b' $'\x1b[2J'");
    }

    #[test]
    fn a_long_line_is_cut() {
        assert_eq!(command_line(&["ls", &"x".repeat(500)]), "ls ...");
        assert!(command_line(&["word"; 500]).len() < LONGEST + 8);
    }
}
