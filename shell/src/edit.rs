//! `caplet edit`, visudo's job: a copy, the editor, the check, the atomic replace. The file in force is never half
//! written, and never faulty by our hand.

use crate::check::{judge_in_place, read};
use crate::installed;
use crate::messages::{NO, Trouble, tell, write_stderr};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::process::{Command, ExitCode};
use tempfile::{Builder, NamedTempFile};

/// Mode of a file that was not there before: as installed.
const NEW_MODE: u32 = 0o640;

/// Edits that file, or the policy's first.
pub fn run(path: Option<&Path>) -> ExitCode {
    match edit(&path.map_or_else(|| Path::new(installed::POLICY).join("policy.toml"), Path::to_owned)) {
        Ok(code) => code,
        Err(trouble) => {
            tell(&trouble);
            NO.into()
        }
    }
}

/// What an answer at the prompt wants.
enum Answer {
    Again,
    GiveUp,
}

fn edit(asked: &Path) -> Result<ExitCode, Trouble> {
    // A link is edited where it points; a file that is not there yet is made.
    let path = fs::canonicalize(asked).or_else(|_| std::path::absolute(asked)).unwrap_or_else(|_| asked.to_owned());
    let name = || path.as_os_str().to_owned();
    let folder = path.parent().unwrap_or(Path::new("/"));
    let locked = lock(&path)?;
    let before = if locked.is_some() { read(&path)? } else { String::new() };
    let copy = copy(folder, &path, &before)?;
    // Ctrl-C is the editor's: it must not leave the editor without us. std gives children an empty mask.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGQUIT);
    let _ = signals.thread_block();
    call_editor(copy.path())?;
    loop {
        let done = consider(&path, copy.path(), &before).and_then(|edited| match edited {
            Edited::Same => Ok(Some(Trouble::Unchanged(name()))),
            Edited::Good(after) => {
                replace(&path, locked.as_ref(), &before, &after).map(|()| Some(Trouble::Replaced(name())))
            }
            Edited::Faulty => Ok(None),
        });
        match done {
            Ok(Some(said)) => {
                tell(&said);
                return Ok(ExitCode::SUCCESS);
            }
            Ok(None) => {}
            Err(trouble) => tell(&trouble), // what was typed is not lost: it can be edited again
        }
        match ask() {
            // An editor that fails now loses nothing either.
            Answer::Again => call_editor(copy.path()).unwrap_or_else(|trouble| tell(&trouble)),
            Answer::GiveUp => {
                tell(&Trouble::Unchanged(name()));
                return Ok(NO.into());
            }
        }
    }
}

/// What the editor left.
enum Edited {
    Same,
    Good(String),
    Faulty,
}

/// Judges the copy in the file's place, as part of the whole policy; every fault is shown.
fn consider(path: &Path, copy: &Path, before: &str) -> Result<Edited, Trouble> {
    let after = read(copy)?;
    Ok(match after == before {
        true => Edited::Same,
        false if judge_in_place(path, &after)? => Edited::Good(after),
        false => Edited::Faulty,
    })
}

/// Opens and locks the file against another `caplet edit`. `None`: it is not there.
fn lock(path: &Path) -> Result<Option<Flock<File>>, Trouble> {
    let name = || path.as_os_str().to_owned();
    loop {
        let file = match OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(Trouble::EditDenied(name())),
            Err(error) => return Err(Trouble::Unreadable { path: name(), error }),
        };
        let meta = file.metadata().map_err(|error| Trouble::Unreadable { path: name(), error })?;
        if !meta.is_file() {
            return Err(Trouble::NotAFile(name()));
        }
        let locked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => locked,
            Err((_, Errno::EWOULDBLOCK)) => return Err(Trouble::EditBusy(name())),
            Err((_, errno)) => return Err(Trouble::Unreadable { path: name(), error: errno.into() }),
        };
        // Replaced between open and lock: what is locked is nobody's file any more.
        if fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (meta.dev(), meta.ino())) {
            return Ok(Some(locked));
        }
    }
}

/// A private copy beside the file, so that it can take its place; its name starts with a dot, so that no policy reads
/// it, also when all of us is killed.
fn copy(folder: &Path, path: &Path, text: &str) -> Result<NamedTempFile, Trouble> {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_stem().unwrap_or(OsStr::new("policy")));
    prefix.push(".edit-");
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied => Trouble::EditDenied(path.as_os_str().to_owned()),
        _ => Trouble::NotWritten { path: folder.as_os_str().to_owned(), error },
    };
    let copy =
        Builder::new().prefix(&prefix).suffix(".toml").permissions(Permissions::from_mode(0o600)).tempfile_in(folder);
    let mut copy = copy.map_err(failed)?;
    copy.write_all(text.as_bytes()).and_then(|()| copy.flush()).map_err(failed)?;
    Ok(copy)
}

/// The words of VISUAL or EDITOR, split at blanks and nothing else, with the file behind them.
fn words_of_editor() -> Vec<OsString> {
    let named = ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os);
    let split = |value: OsString| -> Vec<OsString> {
        let words = value.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.map(|word| OsString::from_vec(word.to_vec())).collect()
    };
    let fallback =
        || ["/usr/bin/editor", "/usr/bin/vi", "/usr/bin/nano"].into_iter().find(|path| Path::new(path).exists());
    named.map(split).find(|words| !words.is_empty()).unwrap_or_else(|| vec![fallback().unwrap_or("vi").into()])
}

fn call_editor(file: &Path) -> Result<(), Trouble> {
    let words = words_of_editor();
    let editor = words.first().cloned().unwrap_or_default();
    let status = Command::new(&editor).args(&words[1..]).arg(file).status();
    let status = status.map_err(|_| Trouble::NoEditor(editor.clone()))?;
    if status.success() { Ok(()) } else { Err(Trouble::EditorFailed { editor, status }) }
}

/// Until there is an answer; none at all (end of file) gives up.
fn ask() -> Answer {
    loop {
        write_stderr("What now? (e)dit again, (q)uit without saving: ");
        let mut word = Vec::new();
        let mut byte = [0u8; 1];
        // Byte by byte: what follows the line is the editor's.
        loop {
            match std::io::stdin().lock().read(&mut byte) {
                Ok(1) if byte != *b"\n" => word.push(byte[0]),
                Ok(1) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => {
                    write_stderr("\n");
                    return Answer::GiveUp;
                }
            }
        }
        match word.trim_ascii() {
            b"e" | b"E" | b"edit" => return Answer::Again,
            b"q" | b"Q" | b"quit" => return Answer::GiveUp,
            _ => {}
        }
    }
}

/// Puts the copy in the file's place in one step, with its owner and mode.
fn replace(path: &Path, locked: Option<&Flock<File>>, before: &str, after: &str) -> Result<(), Trouble> {
    let failed = |error| Trouble::NotWritten { path: path.as_os_str().to_owned(), error };
    let now = match read(path) {
        Ok(text) => text,
        Err(_) if locked.is_none() => String::new(),
        Err(trouble) => return Err(trouble),
    };
    if now != before || (locked.is_none() && path.exists()) {
        return Err(Trouble::ChangedMeanwhile(path.as_os_str().to_owned()));
    }
    // An editor may have put another file in the copy's place: a new one is written, of which we hold the descriptor.
    let fresh = copy(path.parent().unwrap_or(Path::new("/")), path, after)?;
    let mode = match locked.map(|file| file.metadata()).transpose().map_err(failed)? {
        Some(meta) => {
            fchown(fresh.as_file(), Some(meta.uid()), Some(meta.gid())).map_err(failed)?;
            meta.mode() & 0o7777
        }
        None => NEW_MODE,
    };
    fresh.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    fresh.as_file().sync_all().map_err(failed)?;
    fresh.persist(path).map_err(|error| failed(error.error))?;
    let _ = File::open(path.parent().unwrap_or(Path::new("/"))).and_then(|folder| folder.sync_all());
    Ok(())
}
