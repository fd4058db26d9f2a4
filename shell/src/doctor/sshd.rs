//! What sshd(8) lets a login do beside its shell, by sshd's own word: `sshd -T -C user=NAME`. No file is parsed here.

use super::Severity::{Fault, Note, Warning};
use super::{Account, Finding};
use std::path::Path;
use std::process::Command;

const PLACES: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];

pub fn look(accounts: &[Account]) -> Vec<Finding> {
    let Some(sshd) = PLACES.into_iter().find(|path| Path::new(path).exists()) else {
        return vec![Finding::new(Note, "no sshd is installed", "nothing: nobody comes in by ssh", "nothing to do")];
    };
    let mut findings = Vec::new();
    for account in accounts {
        let found = match effective(sshd, &account.name) {
            Ok(text) => judge(&text),
            Err(why) => vec![Finding::new(
                Fault,
                format!("sshd -T fails: {why}"),
                "what sshd allows is not known",
                format!("{sshd} -T -C user={},host=localhost,addr=127.0.0.1", account.name),
            )],
        };
        for finding in found {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

fn effective(sshd: &str, user: &str) -> Result<String, String> {
    let of_user = format!("user={user},host=localhost,addr=127.0.0.1");
    let out = Command::new(sshd).args(["-T", "-C", &of_user]).env_clear().env("LC_ALL", "C").output();
    let out = out.map_err(|error| error.to_string())?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&out.stderr).lines().last().unwrap_or("no reason given").trim().to_owned())
}

/// What that configuration leaves open. Keys are in lower case there, one a line.
pub fn judge(text: &str) -> Vec<Finding> {
    let value = |key: &str| {
        let of_it = |line: &str| line.split_once(' ').filter(|(k, _)| *k == key).map(|(_, v)| v.trim().to_owned());
        text.lines().find_map(of_it).unwrap_or_default()
    };
    let mut findings = Vec::new();
    let internal = |words: &str| words.split_whitespace().any(|word| word == "internal-sftp");
    let subsystem = text.lines().filter_map(|line| line.strip_prefix("subsystem sftp ")).any(internal);
    if subsystem || internal(&value("forcecommand")) {
        let from = if subsystem { "Subsystem sftp" } else { "ForceCommand" };
        findings.push(Finding::new(
            Fault,
            format!("sshd: {from} internal-sftp"),
            "sftp reads and writes files outside of the session: sshd starts no shell for it",
            "Subsystem sftp /usr/lib/openssh/sftp-server   (the external server's path here; no ForceCommand)",
        ));
    }
    let closed = value("disableforwarding") == "yes";
    for (key, name, means) in FORWARDING {
        let set = value(key);
        if !closed && !set.is_empty() && set != "no" {
            findings.push(Finding::new(Warning, format!("sshd: {name} {set}"), means, format!("{name} no")));
        }
    }
    if !closed && value("allowagentforwarding") == "yes" {
        let means = "a student's own keys are used from here; sshd, outside of the session, holds the socket";
        findings.push(Finding::new(Note, "sshd: AllowAgentForwarding yes", means, "AllowAgentForwarding no"));
    }
    if !matches!(value("permituserenvironment").as_str(), "" | "no") {
        let means = "~/.ssh/environment sets LD_PRELOAD and the like for what sshd starts outside of the session";
        findings.push(Finding::new(Fault, "sshd: PermitUserEnvironment is on", means, "PermitUserEnvironment no"));
    }
    if value("permituserrc") == "yes" {
        let means = "at each login sshd has the login shell run ~/.ssh/rc; close what a course does not need";
        findings.push(Finding::new(Warning, "sshd: PermitUserRC yes", means, "PermitUserRC no"));
    }
    findings
}

const FORWARDING: [(&str, &str, &str); 5] = [
    ("allowtcpforwarding", "AllowTcpForwarding", "ssh -L, -D, -R: the machine's network, whatever the session's is"),
    ("allowstreamlocalforwarding", "AllowStreamLocalForwarding", "ssh -L to unix sockets that the session hides"),
    ("x11forwarding", "X11Forwarding", "sshd listens and runs xauth for a student outside of the session"),
    ("permittunnel", "PermitTunnel", "ssh -w: a tunnel device on the machine's network"),
    ("gatewayports", "GatewayPorts", "a port forwarded with -R is open to other machines"),
];

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::doctor::Severity;

    const STOCK: &str = "permituserrc yes\nx11forwarding yes\nallowtcpforwarding yes\nallowagentforwarding yes\n\
        allowstreamlocalforwarding yes\ngatewayports no\npermittunnel no\npermituserenvironment no\n\
        disableforwarding no\nforcecommand none\nsubsystem sftp internal-sftp -l INFO\n";

    #[test]
    fn each_line_mended_makes_its_finding_vanish() {
        let all = judge(STOCK);
        assert_eq!(all.len(), 6, "{all:?}");
        for (open, shut) in [
            ("permituserrc yes", "permituserrc no"),
            ("x11forwarding yes", "x11forwarding no"),
            ("allowtcpforwarding yes", "allowtcpforwarding no"),
            ("allowagentforwarding yes", "allowagentforwarding no"),
            ("allowstreamlocalforwarding yes", "allowstreamlocalforwarding no"),
            ("internal-sftp -l INFO", "/usr/lib/openssh/sftp-server"),
        ] {
            assert_eq!(judge(&STOCK.replace(open, shut)).len(), 5, "{shut}");
        }
    }

    #[test]
    fn disable_forwarding_closes_every_one() {
        let left = judge(&STOCK.replace("disableforwarding no", "disableforwarding yes"));
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn an_agent_is_but_a_note_and_a_local_forward_no_less_than_a_yes() {
        let found = judge("allowagentforwarding yes\nallowtcpforwarding local\n");
        let severities: Vec<Severity> = found.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Severity::Warning, Severity::Note]);
    }
}
