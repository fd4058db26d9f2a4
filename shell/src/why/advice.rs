//! Who is asked what this user may do: the judge, by the helper. Nothing is decided here.

use super::proposal;
use crate::front::ask_helper;
use crate::listing::{self, Own};
use caplet_policy::capability::CapSet;
use caplet_policy::request::{Request, Start, Verb};
use std::ffi::OsString;
use std::process::Stdio;

/// Who is asked what the user may do.
pub struct Advice<'a> {
    pub request: &'a Request,
    /// The user's login name, or `#uid`.
    pub user: String,
    /// The profile of the session that this is in already: there nobody can be asked.
    pub inside: Option<String>,
    /// The user's own profiles, once somebody wants to know.
    pub own: Option<Own>,
    /// The judge's answer to a request.
    pub judge: Box<dyn Fn(&Request) -> Answer + 'a>,
    pub list: Box<dyn Fn() -> Option<Own> + 'a>,
}

/// What the judge says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// By this profile.
    Granted(String),
    /// In these lines.
    Refused(Vec<String>),
}

impl<'a> Advice<'a> {
    /// By the helper.
    pub fn of(request: &'a Request) -> Self {
        let policy = request.policy.clone();
        Self {
            request,
            user: proposal::user(),
            inside: None,
            own: None,
            judge: Box::new(by_helper),
            list: Box::new(move || listing::ask(policy.clone()).ok().flatten()),
        }
    }

    pub fn own(&mut self) -> &Own {
        let list = &self.list;
        self.own.get_or_insert_with(|| list().unwrap_or_default())
    }

    /// The command of the request.
    pub fn words(&self) -> Vec<OsString> {
        match &self.request.start {
            Start::Command(words) => words.clone(),
            _ => Vec::new(),
        }
    }

    /// The request with these capabilities too, and the line that it is.
    pub fn with(&self, need: CapSet) -> Request {
        let mut request = Request { verb: Verb::Judge, quiet: false, ..self.request.clone() };
        request.add.names = request.add.names.union(need);
        request
    }
}

fn by_helper(request: &Request) -> Answer {
    if let Err(error) = request.check() {
        return Answer::Refused(vec![error.to_string()]);
    }
    let answer = ask_helper(&request.encode(), |command| {
        command.stdin(Stdio::null());
    });
    match answer {
        Ok(answer) if answer.status.success() => {
            let said = String::from_utf8_lossy(&answer.stdout).into_owned();
            Answer::Granted(said.split('"').nth(1).unwrap_or_default().to_owned())
        }
        Ok(answer) => {
            let said = String::from_utf8_lossy(&answer.stderr).into_owned();
            Answer::Refused(said.lines().map(|line| line.trim_start_matches("caplet: ").to_owned()).collect())
        }
        Err(trouble) => Answer::Refused(vec![trouble.to_string()]),
    }
}
