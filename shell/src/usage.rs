//! clap's errors in our own words: one line, what was asked, why not, what would work.

use crate::cli::{self, No, SUBCOMMANDS, Wish};
use crate::messages::{NO, Trouble, USAGE};
use crate::quoting;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// A command line whose first word is no subcommand: a help, the version, or a mistake.
pub fn without_subcommand(words: Vec<OsString>) -> Result<Wish, No> {
    let first = words.first().map(|w| w.as_bytes()).unwrap_or_default();
    if first != b"help" && !first.starts_with(b"-") {
        return Err(no(no_subcommand(words)));
    }
    match cli::whole().no_binary_name(true).try_get_matches_from(&words) {
        Err(error) if is_answer(error.kind()) => Ok(Wish::Text(error.render().to_string(), NO)),
        _ if first == b"help" => Err(no(no_subcommand(words[1..].to_vec()))),
        _ => {
            let option = words[0].to_string_lossy().into_owned();
            let known = words.iter().position(|w| SUBCOMMANDS.iter().any(|s| w == *s));
            // `caplet -p lab run ip` and `caplet -p lab ip` both mean `caplet run -p lab ip`.
            let (subcommand, left_out) =
                known.map_or(("run", usize::MAX), |at| (SUBCOMMANDS[position(&words[at])], at));
            let mut rest = quoting::words(&["caplet", subcommand]);
            rest.extend(words.into_iter().enumerate().filter(|(n, _)| *n != left_out).map(|(_, w)| w));
            Err(no(Trouble::EarlyOption { option, rest }))
        }
    }
}

fn position(word: &OsStr) -> usize {
    SUBCOMMANDS.iter().position(|s| word == *s).unwrap_or_default()
}

fn no(trouble: Trouble) -> No {
    No { trouble: Some(trouble), code: USAGE }
}

fn is_answer(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

fn no_subcommand(words: Vec<OsString>) -> Trouble {
    let mut words = words.into_iter();
    let word = words.next().unwrap_or_default();
    let slip = SUBCOMMANDS.into_iter().find(|s| one_slip_apart(word.as_bytes(), s.as_bytes()));
    let mut meant = match slip {
        Some(subcommand) => quoting::words(&["caplet", subcommand]),
        None => vec!["caplet".into(), "run".into(), word.clone()],
    };
    meant.extend(words);
    Trouble::NoSubcommand { word, meant }
}

/// Whether one letter was added, left out, changed or swapped with its neighbour.
fn one_slip_apart(typed: &[u8], meant: &[u8]) -> bool {
    let same_start = typed.iter().zip(meant).take_while(|(a, b)| a == b).count();
    let (typed, meant) = (&typed[same_start..], &meant[same_start..]);
    match (typed, meant) {
        ([_, t @ ..], m) if t == m => true,
        (t, [_, m @ ..]) if t == m => true,
        ([_, t @ ..], [_, m @ ..]) if t == m => true,
        ([a, b, t @ ..], [c, d, m @ ..]) => (a, b) == (d, c) && t == m,
        _ => false,
    }
}

/// What clap says about the words after `caplet COMMAND`: a help (`Ok`), or what is wrong with them.
pub fn reword(error: &clap::Error, command: &'static str, words: &[OsString]) -> Result<String, Trouble> {
    if is_answer(error.kind()) {
        return Ok(error.render().to_string());
    }
    let asked = text(error, ContextKind::InvalidArg).unwrap_or_default();
    // clap names options as in the help: `--profile <PROFILE>`.
    let option = || asked.split([' ', '=']).next().unwrap_or_default().to_owned();
    Err(match error.kind() {
        ErrorKind::UnknownArgument if asked.starts_with('-') => {
            Trouble::NoOption { command, near: text(error, ContextKind::SuggestedArg), option: asked }
        }
        ErrorKind::UnknownArgument if command == "shell" => {
            let mut meant = quoting::words(&["caplet", "run"]);
            meant.extend_from_slice(words);
            Trouble::ShellTakesNoCommand { meant }
        }
        ErrorKind::UnknownArgument => Trouble::NoSuchWord { command, word: asked },
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues | ErrorKind::NoEquals => {
            Trouble::NeedsValue { option: option() }
        }
        ErrorKind::TooManyValues => Trouble::TakesNoValue { option: option() },
        ErrorKind::ArgumentConflict => Trouble::GivenTwice { option: option() },
        kind => Trouble::Usage(kind.as_str().unwrap_or("these words make no sense").to_owned()),
    })
}

/// clap gives one name as a string and several as a list; the first one is enough.
fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(one) => Some(one.clone()),
        ContextValue::Strings(many) => many.first().cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::one_slip_apart;

    #[test]
    fn slips_of_the_finger() {
        for typed in ["rnu", "rn", "runn", "ran", "urn", "rum"] {
            assert!(one_slip_apart(typed.as_bytes(), b"run"), "{typed}");
        }
        for typed in ["ls", "r", "", "date", "nur", "runnn", "run"] {
            assert!(!one_slip_apart(typed.as_bytes(), b"run"), "{typed}");
        }
    }
}
