//! What a user asks for, and its strict form between front end and helper.

use crate::capability::CapList;
use std::ffi::OsString;

/// What the helper is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Judge, log, build, exec.
    Run,
    /// Judge and print the result: run nothing, ask nothing.
    Judge,
    /// Print the caller's own profiles.
    List,
}

/// What is to be started in the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The user's own shell, by way of the stage inside.
    Shell,
    /// This argv (never empty; its first word may be an empty string, which is then "not found").
    Command(Vec<OsString>),
}

/// A request, as the front end understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// `-p`.
    pub profile: Option<String>,
    /// `--cap-add`, all together.
    pub add: CapList,
    /// `--cap-drop`, all together.
    pub drop: CapList,
    /// `--privileged`.
    pub privileged: bool,
    /// `-n`: never ask for a password.
    pub non_interactive: bool,
    /// `-S`: read the password from standard input.
    pub stdin_password: bool,
    /// `-A`: ask by way of `CAPLET_ASKPASS`.
    pub askpass: bool,
    /// `--quiet`.
    pub quiet: bool,
    /// `--policy FILE`: only honoured where no privilege was borrowed.
    pub policy: Option<OsString>,
    /// What to start; ignored by [`Verb::List`].
    pub start: Start,
}

impl Request {
    /// A plain request for a verb.
    pub fn new(verb: Verb, start: Start) -> Self {
        Self {
            verb,
            profile: None,
            add: CapList::default(),
            drop: CapList::default(),
            privileged: false,
            non_interactive: false,
            stdin_password: false,
            askpass: false,
            quiet: false,
            policy: None,
            start,
        }
    }

    /// The helper's argv after `argv[0]`: `VERB [--profile=X] [--add=A,B] ... [-- COMMAND ARG...]`.
    pub fn encode(&self) -> Vec<OsString> {
        todo!()
    }

    /// Reads the helper's argv after `argv[0]`.
    ///
    /// Strict: an unknown word, a flag twice, a value that [`Request::encode`] would not have written, or
    /// words that contradict each other are errors. The bytes after `--` are taken as they are.
    ///
    /// # Errors
    /// What is wrong, in one line, escaped for a terminal.
    pub fn decode(_words: &[OsString]) -> Result<Self, RequestError> {
        todo!()
    }

    /// Docker's and Podman's rules that need no policy: one capability in both lists, or ALL in both.
    ///
    /// # Errors
    /// Which name stands in both.
    pub fn check(&self) -> Result<(), RequestError> {
        todo!()
    }
}

/// A request that makes no sense, with a text that a person can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError(pub String);
