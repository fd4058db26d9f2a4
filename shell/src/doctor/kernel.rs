//! What no session can start without: the helper, the kernel, user namespaces, subordinate ids.

use super::Finding;
use super::Severity::{Fault, Warning};
use crate::messages::Trouble;
use crate::{check, installed};
use caplet_policy::document::Document;
use std::fs;

pub fn look(document: Option<&Document>) -> Vec<Finding> {
    let helper = installed::helper().display().to_string();
    let mend = format!("chown root:root {helper} && chmod 4755 {helper}");
    let mut findings: Vec<Finding> = check::of_helper()
        .into_iter()
        .map(|trouble| {
            let mend = if matches!(trouble, Trouble::NoHelper(_)) { "make install" } else { &mend };
            Finding::new(Fault, trouble.to_string(), "no session can start, or not safely", mend)
        })
        .collect();
    if check::on_nosuid() {
        let found = format!("{helper} lies on a file system mounted nosuid");
        let mend = format!("mount -o remount,suid \"$(findmnt -no TARGET -T {helper})\"   (and in /etc/fstab)");
        findings.push(Finding::new(Fault, found, "no session can start", mend));
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if version(&release).is_some_and(|version| version < (5, 14)) {
        let found = format!("the kernel is {}; 5.14 or newer is needed", release.trim());
        findings.push(Finding::new(Fault, found, "no session can start", "install a newer kernel, and reboot"));
    }
    let namespaces = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if namespaces.trim() == "0" {
        let mend = "sysctl -w user.max_user_namespaces=10000   (and in /etc/sysctl.d/)";
        findings.push(Finding::new(Fault, "user.max_user_namespaces is 0", "no isolated session can start", mend));
    }
    for text in check::subordinate_ids(document) {
        let mend = "usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER   (a range that nobody else has)";
        findings.push(Finding::new(Warning, text, "the helper refuses this user's sessions of that profile", mend));
    }
    findings
}

/// `6.1.0-18-amd64` is (6, 1).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("6.1.0-18-amd64\n"), Some((6, 1)));
        assert!(version("5.9.1").is_some_and(|version| version < (5, 14)));
        assert_eq!(version(""), None);
    }
}
