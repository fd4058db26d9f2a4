//! A build tree of our own: the real `caplet`, and beside it a helper that only writes down what it was given.

#![allow(dead_code)] // each test program uses a part

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Tree {
    pub folder: PathBuf,
}

/// What a program printed and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Tree {
    /// A tree without a helper in it.
    pub fn bare() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("caplet-shell-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().canonicalize().expect("a temporary folder").join(name);
        fs::create_dir(&folder).expect("a folder of our own");
        install(Path::new(env!("CARGO_BIN_EXE_caplet")), &folder.join("caplet"));
        Self { folder }
    }

    /// A tree whose helper is this shell script.
    pub fn with_helper(script: &str) -> Self {
        let tree = Self::bare();
        let text = format!("#!/bin/sh\ncd '{}' || exit 99\n{script}\n", tree.folder.display());
        install(&tree.write("script", &text), &tree.folder.join("caplet-helper"));
        tree
    }

    /// A tree whose helper writes down its words, environment and signals, and ends with code 7.
    pub fn recording() -> Self {
        Self::with_helper(
            "cat /proc/$$/cmdline > words; cat /proc/$$/environ > environ; cat /proc/$$/status > status; exit 7",
        )
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("a file of our own");
        path
    }

    /// `caplet`, in an environment that is in no session.
    pub fn caplet(&self) -> Command {
        let mut command = Command::new(self.folder.join("caplet"));
        command.current_dir(&self.folder);
        for name in ["CAPLET_PROFILE", "CAPLET_SCOPE", "CAPLET_CAPS"] {
            command.env_remove(name);
        }
        command
    }

    pub fn run<W: AsRef<OsStr>>(&self, words: &[W]) -> Said {
        said(self.caplet().args(words).output().expect("caplet starts"))
    }

    /// The words that the helper got after its name; `None` if it was not started.
    pub fn recorded(&self) -> Option<Vec<Vec<u8>>> {
        let bytes = fs::read(self.folder.join("words")).ok()?;
        let mut words: Vec<Vec<u8>> = bytes.split(|b| *b == 0).map(<[u8]>::to_vec).collect();
        assert_eq!(words.pop().as_deref(), Some(&[][..]), "a NUL ends the last word");
        // The interpreter and the script stand in front.
        Some(words.split_off(2))
    }

    /// What the helper is given for a command line, as text.
    pub fn wire(&self, words: &[&str]) -> Vec<String> {
        let said = self.run(words);
        assert_eq!(said.code, Some(7), "{words:?}: {said:?}");
        let recorded = self.recorded().expect("the helper was started");
        recorded.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect()
    }

    /// A command line that must end here, with exactly this text on stderr.
    pub fn refuses(&self, words: &[&str], code: i32, stderr: &str) {
        let said = self.run(words);
        let expect = Said { code: Some(code), stdout: String::new(), stderr: format!("{stderr}\n") };
        assert_eq!(said, expect, "{words:?}");
        assert_eq!(self.recorded(), None, "{words:?} reached the helper");
    }
}

/// Copies a program by another process: a descriptor for writing that is open here could be passed on to what
/// another test starts at that moment, and the kernel executes no file that somebody may still write (ETXTBSY).
fn install(from: &Path, to: &Path) {
    let done = Command::new("install").args(["-m", "755"]).args([from, to]).status();
    assert!(done.expect("install runs").success(), "{} is not installed", to.display());
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The line without its newline, for paths in messages.
pub fn shown(path: &Path) -> String {
    path.display().to_string()
}
