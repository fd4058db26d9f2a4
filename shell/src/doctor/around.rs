//! Ways in that are not sshd's: PAM's environment, cron and at, chsh and `su -s`, lingering services, mighty groups.

use super::Severity::{Fault, Warning};
use super::{Account, Finding};
use crate::{check, installed};
use caplet_policy::document::{Document, ROOT_GROUPS};
use std::fs;
use std::path::Path;

pub fn look(document: Option<&Document>, accounts: &[Account]) -> Vec<Finding> {
    let mut findings = pam();
    if !accounts.is_empty() {
        jobs(&mut findings);
    }
    shells(document, &mut findings);
    for account in accounts {
        let name = &account.name;
        if Path::new("/var/lib/systemd/linger").join(name).exists() {
            let means = "systemd --user runs this user's units at boot and after logout, outside of any session";
            let mend = format!("loginctl disable-linger {name}");
            findings.push(Finding::new(Warning, format!("{name} lingers"), means, mend));
        }
    }
    for group in ROOT_GROUPS {
        let gid = check::ask("getent", &["group", group]).ok().flatten();
        let gid = gid.as_deref().and_then(|line| line.split(':').nth(2)).unwrap_or_default().to_owned();
        let members = check::members(group);
        for account in accounts.iter().filter(|a| members.contains(&a.name) || (!gid.is_empty() && a.gid == gid)) {
            let found = format!("{} is in group {group}", account.name);
            let means = "the group is root's power, or much of it, outside of the session";
            findings.push(Finding::new(Fault, found, means, format!("gpasswd -d {} {group}", account.name)));
        }
    }
    findings
}

fn pam() -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut files: Vec<_> = fs::read_dir("/etc/pam.d").into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    for path in files {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if reads_user_environment(&text) {
            let found = format!("{}: pam_env with user_readenv=1", path.display());
            let means = "~/.pam_environment sets LD_PRELOAD and the like before the login shell starts";
            let mend = format!("sed -i 's/user_readenv=1/user_readenv=0/' {}", path.display());
            findings.push(Finding::new(Fault, found, means, mend));
        }
    }
    findings
}

fn reads_user_environment(text: &str) -> bool {
    text.lines()
        .any(|line| line.split('#').next().is_some_and(|line| line.split_whitespace().any(|w| w == "user_readenv=1")))
}

/// Who may leave jobs that run without a login.
fn jobs(findings: &mut Vec<Finding>) {
    for (program, allow) in [("crontab", "/etc/cron.allow"), ("at", "/etc/at.allow")] {
        if Path::new("/usr/bin").join(program).exists() && !Path::new(allow).exists() {
            let found = format!("{program} is installed, and {allow} is not there");
            let means =
                "a student's jobs run without a login, with a shell that the student names: outside of the session";
            findings.push(Finding::new(Warning, found, means, format!("echo root > {allow}")));
        }
    }
}

/// Listed is right for added rights, where chsh and greeters are to work; unlisted for a jail: chsh(1) and `su -s`
/// refuse users whose shell is not listed. With a `login = true` profile there is a jail to keep.
fn shells(document: Option<&Document>, findings: &mut Vec<Finding>) {
    let shells = fs::read_to_string("/etc/shells").unwrap_or_default();
    let listed = |shell: &str| shells.lines().any(|line| line.trim() == shell);
    let shell = installed::login_shell().display().to_string();
    let profiles = || document.iter().flat_map(|document| &document.profiles);
    if listed(&shell) && profiles().any(|profile| profile.login) {
        let means =
            "with their password, users run su -s /bin/sh and chsh around it; right for added rights, not for a jail";
        let mend = format!("sed -i '\\#^{shell}$#d' /etc/shells");
        findings.push(Finding::new(Warning, format!("{shell} stands in /etc/shells"), means, mend));
    }
    for real in profiles().filter_map(|profile| profile.shell.as_deref()).filter(|real| !listed(real)) {
        let found = format!("{real}, a profile's shell, is not in /etc/shells");
        let finding = Finding::new(
            super::Severity::Note,
            found,
            "some programs inside refuse it",
            format!("echo {real} >> /etc/shells"),
        );
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::reads_user_environment;

    #[test]
    fn user_readenv_counts_outside_of_comments_alone() {
        assert!(reads_user_environment("session required pam_env.so user_readenv=1 envfile=/etc/default/locale\n"));
        assert!(!reads_user_environment("# session required pam_env.so user_readenv=1\nsession required pam_env.so\n"));
        assert!(!reads_user_environment("session required pam_env.so user_readenv=0\n"));
    }
}
