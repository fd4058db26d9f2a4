//! Which of its names this program was started by, and what follows from it. Nothing else lives here.
#![forbid(unsafe_code)]

mod check;
mod cli;
mod columns;
mod doctor;
mod edit;
mod forget;
mod front;
mod handbook;
mod installed;
mod listing;
mod log;
mod login;
mod messages;
#[cfg(test)]
mod pages;
mod quoting;
mod session;
mod sessions;
mod usage;
mod version;
mod why;
mod wishes;

use messages::{FAILURE, Trouble, tell};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {
        tell(&Trouble::Internal);
        std::process::exit(FAILURE.into());
    }));
    let mut argv = std::env::args_os();
    let name = argv.next().unwrap_or_default();
    match Role::of(&name) {
        Role::Front => front_door(argv.collect()),
        Role::Session => session::enter(argv),
        Role::LoginShell => login::enter(&name, argv.collect()),
    }
}

/// What `argv[0]` says this program is to be.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    /// What people type.
    Front,
    /// The stage inside a session, started by the helper.
    Session,
    /// A login shell, also with the `-` that login(1) and sshd(8) put in front.
    LoginShell,
}

impl Role {
    /// Only these exact names count; every other name is the front door, which never starts a shell by itself.
    fn of(argv0: &OsStr) -> Self {
        let name = argv0.as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
        match name {
            b"caplet-session" => Self::Session,
            b"caplet-shell" | b"-caplet-shell" => Self::LoginShell,
            _ => Self::Front,
        }
    }
}

fn front_door(words: Vec<OsString>) -> ExitCode {
    act(cli::read(words))
}

/// Not inline: what it needs of a small stack is not to be there while the command line is read.
#[inline(never)]
fn act(wish: Result<cli::Wish, cli::No>) -> ExitCode {
    match wish {
        Ok(cli::Wish::Session(request)) => front::start(&request),
        Ok(cli::Wish::Why { request, json }) => why::run(&request, json),
        Ok(cli::Wish::Learn(request)) => why::learn(&request),
        Ok(cli::Wish::List { json, policy }) => listing::show(json, policy),
        Ok(cli::Wish::Check { path, strict }) => check::run(path.as_deref(), strict),
        Ok(cli::Wish::WhatIf(question)) => check::answer(&question),
        Ok(cli::Wish::Edit { path }) => edit::run(path.as_deref()),
        Ok(cli::Wish::Doctor { user, json }) => doctor::run(user.as_deref(), json),
        Ok(cli::Wish::Sessions { json }) => sessions::show(json),
        Ok(cli::Wish::End { id }) => sessions::end(id),
        Ok(cli::Wish::Forget) => forget::run(),
        Ok(cli::Wish::Log(question)) => log::run(&question),
        Ok(cli::Wish::Caps { names, json }) => handbook::show(names, json),
        Ok(cli::Wish::Text(text, unwritten)) => messages::print(&text, unwritten),
        Err(no) => {
            match no.trouble {
                Some(trouble) => tell(&trouble),
                None => messages::write_stderr(&cli::help()),
            }
            no.code.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Role;
    use std::ffi::OsStr;

    #[test]
    fn only_exact_names_change_the_role() {
        for (argv0, role) in [
            ("caplet", Role::Front),
            ("/usr/bin/caplet", Role::Front),
            ("", Role::Front),
            ("-", Role::Front),
            ("caplet-session ", Role::Front),
            ("caplet-session/", Role::Front),
            ("-caplet-session", Role::Front),
            ("--caplet-shell", Role::Front),
            ("caplet-session", Role::Session),
            ("/proc/self/fd/9/caplet-session", Role::Session),
            ("caplet-shell", Role::LoginShell),
            ("-caplet-shell", Role::LoginShell),
            ("/usr/bin/caplet-shell", Role::LoginShell),
        ] {
            assert_eq!(Role::of(OsStr::new(argv0)), role, "{argv0:?}");
        }
    }
}
