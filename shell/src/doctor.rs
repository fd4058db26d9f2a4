//! `caplet doctor`: the ways around a login shell on this machine, and the line that closes each. It changes nothing.

mod around;
mod kernel;
mod sshd;

use crate::check;
use crate::installed;
use crate::messages::{self, NO, Trouble, tell};
use caplet_policy::document::Document;
use caplet_policy::escape::for_terminal;
use serde_json::{Value, json};
use std::process::ExitCode;

/// How much a finding weighs. A note never changes the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Fault,
    Warning,
    Note,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One way around, or one thing without which nothing works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What a student could do with it, or what does not work by it.
    pub means: String,
    /// The line that mends it.
    pub mend: String,
}

impl Finding {
    fn new(severity: Severity, found: impl Into<String>, means: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { severity, found: found.into(), means: means.into(), mend: mend.into() }
    }

    fn to_text(&self) -> String {
        let safe = |text: &str| for_terminal(text.as_bytes());
        let (found, means, mend) = (safe(&self.found), safe(&self.means), safe(&self.mend));
        format!("{}: {found}\n  means  {means}\n  mend   {mend}\n", self.severity.word())
    }

    fn to_json(&self) -> Value {
        json!({ "severity": self.severity.word(), "found": self.found, "means": self.means, "mend": self.mend })
    }
}

/// An account whose login shell is caplet-shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: String,
    pub gid: String,
}

/// Looks at the machine for that user, or for everybody with the login shell.
pub fn run(user: Option<&str>, json: bool) -> ExitCode {
    if !nix::unistd::geteuid().is_root() || installed::session_profile().is_some() {
        tell(&Trouble::DoctorIsRoots);
        return NO.into();
    }
    let passwd = match check::ask("getent", &["passwd"]) {
        Ok(text) => text.unwrap_or_default(),
        Err(trouble) => {
            tell(&trouble);
            return NO.into();
        }
    };
    let accounts = match user {
        None => accounts(&passwd, installed::is_login_shell),
        Some(user) => match check::ask("getent", &["passwd", "--", user]) {
            Ok(Some(line)) => line.lines().filter_map(account).take(1).collect(),
            _ => {
                tell(&Trouble::NoUser(user.into()));
                return NO.into();
            }
        },
    };
    let document = check::installed_document();
    let mut findings = look(document.as_ref(), &accounts);
    findings.sort_by_key(|finding| finding.severity);
    let bad = findings.iter().any(|finding| finding.severity < Severity::Note);
    let text = if json {
        let findings: Vec<Value> = findings.iter().map(Finding::to_json).collect();
        let users: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        messages::json(&format!("{:#}", json!({ "clean": !bad, "users": users, "findings": findings })))
    } else {
        page(&findings, accounts.len())
    };
    let code = messages::print(&text, NO);
    if bad { NO.into() } else { code }
}

fn look(document: Option<&Document>, accounts: &[Account]) -> Vec<Finding> {
    let mut findings = kernel::look(document);
    if document.is_none() {
        let means = "nobody is granted anything, and what the doctor reads from a policy is not known";
        findings.push(Finding::new(
            Severity::Fault,
            "the policy cannot be read, or has a fault",
            means,
            "caplet check",
        ));
    }
    if accounts.is_empty() {
        let found = format!("no account has {} as its login shell", installed::login_shell().display());
        let mend = "caplet doctor --user USER   (for an account that is to have it)";
        findings.push(Finding::new(Severity::Note, found, "sshd, groups, cron and at were not looked at", mend));
    }
    findings.extend(sshd::look(accounts));
    findings.extend(around::look(document, accounts));
    findings
}

fn page(findings: &[Finding], accounts: usize) -> String {
    let mut text: String = findings.iter().map(|finding| finding.to_text() + "\n").collect();
    let number = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    text += &format!(
        "accounts looked at: {}; faults: {}, warnings: {}, notes: {}\n",
        accounts,
        number(Severity::Fault),
        number(Severity::Warning),
        number(Severity::Note)
    );
    text
}

fn account(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let (uid, gid) = (fields.nth(1)?.to_owned(), fields.next()?.to_owned());
    Some(Account { name: name.to_owned(), uid, gid })
}

fn accounts(passwd: &str, is_ours: impl Fn(&str) -> bool) -> Vec<Account> {
    passwd.lines().filter(|line| line.rsplit(':').next().is_some_and(&is_ours)).filter_map(account).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_those_with_exactly_that_shell() {
        let passwd = "root:x:0:0::/root:/bin/bash\na:x:1:7::/home/a:/usr/bin/caplet-shell\nb:x:2:8::/h:/x/usr/bin/caplet-shell\n";
        let one = Account { name: "a".into(), uid: "1".into(), gid: "7".into() };
        assert_eq!(accounts(passwd, |shell| shell == "/usr/bin/caplet-shell"), [one]);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let finding = Finding::new(Severity::Note, "a\x1b[2J", "b", "c");
        assert!(!finding.to_text().contains('\x1b'));
    }
}
