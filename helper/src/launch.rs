//! The very last step: signals and limits as the command shall have them, the folder it starts in, exec.

use crate::environment::SECURE_PATH;
use crate::error::{Error, NOT_EXECUTABLE, NOT_FOUND, call, say};
use crate::limits::Limits;
use crate::plan::Launch;
use crate::sys::{Errno, process};
use crate::{command::Program, environment::Environment};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Everything that the command's process needs once it has its ids and sets.
#[derive(Debug)]
pub struct Start {
    pub launch: Launch,
    pub environment: Environment,
    pub limits: Limits,
    pub ignored: Vec<i32>,
    /// Folders to try, in order, and whether to say that the first was not to be had. Empty: stay.
    pub folders: Vec<PathBuf>,
    pub quiet: bool,
}

impl Start {
    /// Does not come back but with an error.
    pub fn go(&self) -> Error {
        self.enter_folder();
        if let Err(error) = self.signals().and_then(|()| self.limits.set()) {
            return error;
        }
        let environment = self.environment.entries();
        match &self.launch {
            Launch::Policy { program: Program::File(file), argv } => {
                failed(argv, process::fexecve(file, argv, &environment))
            }
            Launch::Policy { program: Program::Script, argv } => match argv.first() {
                Some(path) => failed(argv, process::execve(path, argv, &environment)),
                None => failed(argv, Errno::ENOENT),
            },
            Launch::Stage { file, argv, report } => {
                if let Some(Err(errno)) = report.as_ref().map(|fd| fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))) {
                    return failed(argv, errno);
                }
                failed(argv, process::fexecve(file, argv, &environment))
            }
            Launch::Search(argv) => self.search(argv, &environment),
        }
    }

    fn signals(&self) -> Result<(), Error> {
        let set = |signal, ignored| process::set_ignored(signal, ignored).map_err(call("sigaction"));
        set(libc::SIGPIPE, false)?;
        set(libc::SIGXFSZ, false)?;
        self.ignored.iter().try_for_each(|signal| set(*signal, true))?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(call("sigprocmask"))
    }

    /// The cwd, else the home, else `/`. A relative result cannot come of it: every path is absolute.
    fn enter_folder(&self) {
        for (n, folder) in self.folders.iter().enumerate() {
            if nix::unistd::chdir(folder.as_path()).is_ok() {
                if n > 0 && !self.quiet {
                    let shown = |path: &Path| caplet_policy::escape::for_terminal(path.as_os_str().as_bytes());
                    let wanted = self.folders.first().map(|p| shown(p)).unwrap_or_default();
                    say(&format!("{wanted} is not in the session: starting in {}", shown(folder)));
                }
                return;
            }
        }
    }

    /// As execvp(3): along PATH; a file that the kernel does not know is a shell script.
    fn search(&self, argv: &[CString], environment: &[CString]) -> Error {
        let Some(word) = argv.first() else {
            return failed(argv, Errno::ENOENT);
        };
        if word.as_bytes().is_empty() {
            return failed(argv, Errno::ENOENT);
        }
        if word.as_bytes().contains(&b'/') {
            return failed(argv, attempt(word, argv, environment));
        }
        let path = self.environment.get("PATH").unwrap_or(OsStr::new(SECURE_PATH));
        let mut last = Errno::ENOENT;
        for folder in path.as_bytes().split(|b| *b == b':') {
            let folder: &[u8] = if folder.is_empty() { b"." } else { folder };
            let Ok(file) = CString::new([folder, b"/", word.as_bytes()].concat()) else {
                continue;
            };
            match attempt(&file, argv, environment) {
                Errno::ENOENT | Errno::ENOTDIR => {}
                errno @ (Errno::EACCES | Errno::ELOOP | Errno::ENAMETOOLONG) => last = errno,
                errno => return failed(argv, errno),
            }
        }
        failed(argv, last)
    }
}

fn attempt(file: &CString, argv: &[CString], environment: &[CString]) -> Errno {
    match process::execve(file, argv, environment) {
        Errno::ENOEXEC => {
            let mut shell = vec![c"sh".to_owned(), file.clone()];
            shell.extend(argv.iter().skip(1).cloned());
            process::execve(&c"/bin/sh".to_owned(), &shell, environment)
        }
        errno => errno,
    }
}

fn failed(argv: &[CString], errno: Errno) -> Error {
    let name = argv.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => Error::Command { name, why: "command not found".into(), code: NOT_FOUND },
        Errno::E2BIG => Error::Command { name, why: "the argument list is too long".into(), code: NOT_EXECUTABLE },
        // The kernel wants all of a file's capabilities inside the bounding set: facts.md 3.1, row 11.
        Errno::EPERM => Error::Command {
            name,
            why: "cannot be executed: it carries file capabilities that this session does not hold".into(),
            code: NOT_EXECUTABLE,
        },
        errno => Error::Command { name, why: format!("cannot be executed: {}", errno.desc()), code: NOT_EXECUTABLE },
    }
}
