//! Ways in that are not sshd's: PAM's environment, cron and at, chsh and `su -s`, lingering services, mighty groups.

use super::Severity::{Fault, Warning};
use super::{Account, Finding};
use crate::messages::why;
use crate::quoting::word;
use crate::{check, installed};
use caplet_policy::document::{Document, ROOT_GROUPS};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where cron(8) keeps users' tables: Debian's, and RHEL's.
const TABLES: [&str; 2] = ["/var/spool/cron/crontabs", "/var/spool/cron"];
/// Where atd(8) keeps jobs: Debian's, and RHEL's.
const JOBS: [&str; 2] = ["/var/spool/cron/atjobs", "/var/spool/at"];
/// Where an administrator's units are: at boot, and until then.
const UNITS: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];
const OUTSIDE_UNITS: &str = "it runs what its user leaves in ~/.config/systemd/user: outside of the session";
const OUTSIDE: &str = "jobs run without a login, with a shell that the student names: outside of the session";

pub fn look(document: Option<&Document>, accounts: &[Account]) -> Vec<Finding> {
    let mut findings = pam();
    if !accounts.is_empty() {
        jobs(accounts, &mut findings);
        managers(accounts, &mut findings);
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

/// The stacks of every service, the administrator's and the vendor's.
fn pam_files() -> Vec<PathBuf> {
    let folders = ["/etc/pam.d", "/usr/etc/pam.d", "/usr/lib/pam.d"];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn pam() -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in pam_files() {
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

/// Who may leave jobs that run without a login, and who has left some before that was closed.
fn jobs(accounts: &[Account], findings: &mut Vec<Finding>) {
    for (program, allow) in [("crontab", "/etc/cron.allow"), ("at", "/etc/at.allow")] {
        if !Path::new("/usr/bin").join(program).exists() {
            continue;
        }
        let listed = match fs::read(allow) {
            Ok(listed) => String::from_utf8_lossy(&listed).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let found = format!("{program} is installed, and {allow} is not there");
                findings.push(Finding::new(Warning, found, OUTSIDE, format!("echo root > {allow}")));
                continue;
            }
            Err(error) => {
                let found = format!("{allow} cannot be read: {}", why(&error));
                findings.push(Finding::new(Warning, found, OUTSIDE, format!("ls -l {allow}")));
                continue;
            }
        };
        for Account { name, .. } in accounts.iter().filter(|a| listed.lines().any(|line| line.trim() == a.name)) {
            let mend = format!("sed -i {} {allow}", word(&without_line(name)));
            findings.push(Finding::new(Warning, format!("{name} is in {allow}"), OUTSIDE, mend));
        }
    }
    // They go on whatever the files say by now, and crontab(1) does not even show root those of whom it may not serve.
    for Account { name, .. } in accounts {
        for table in TABLES.map(|folder| Path::new(folder).join(name)).iter().filter(|table| table.is_file()) {
            let found = format!("{name} has a table of cron's, {}", table.display());
            findings.push(Finding::new(Warning, found, OUTSIDE, format!("rm -- {}", word(table.as_os_str()))));
        }
    }
    let files: Vec<_> = JOBS.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten()).collect();
    for Account { name, uid, .. } in accounts {
        let is_own = |file: &&fs::DirEntry| file.metadata().is_ok_and(|meta| meta.uid().to_string() == *uid);
        let numbers = files.iter().filter(is_own).filter_map(|file| job_number(file.file_name().to_str()?));
        let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
        if !numbers.is_empty() {
            let numbers = numbers.join(" ");
            let found = format!("{name} has jobs of at's: {numbers}");
            findings.push(Finding::new(Warning, found, OUTSIDE, format!("atrm {numbers}")));
        }
    }
}

/// For sed(1): takes the lines away that are that text, whatever blanks stand around it.
fn without_line(text: &str) -> OsString {
    let escaped = |c: char| match c {
        '\\' | '/' | '^' => format!("\\{c}"),
        c if c.is_alphanumeric() || c == '_' => c.to_string(),
        c => format!("[{c}]"),
    };
    format!("/^[[:blank:]]*{}[[:blank:]]*$/d", text.chars().map(escaped).collect::<String>()).into()
}

/// The number by which atrm(1) knows the job in a file of that name: a queue's letter, the number and a time in hex.
fn job_number(name: &str) -> Option<u32> {
    (name.len() == 14 && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '='))
        .then(|| u32::from_str_radix(name.get(1..6)?, 16).ok())?
}

/// `pam_systemd` has PID 1 start a user manager at each login, and it runs what `~/.config/systemd/user` says.
fn managers(accounts: &[Account], findings: &mut Vec<Finding>) {
    let asks = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        let is_login = !name.as_encoded_bytes().starts_with(b"runuser") && name != "systemd-user";
        is_login && fs::read_to_string(path).is_ok_and(|text| names_logind(&text))
    };
    let units = ["/usr/lib/systemd/system/user@.service", "/lib/systemd/system/user@.service"];
    if !units.iter().any(|unit| Path::new(unit).exists()) || !pam_files().iter().any(asks) {
        return;
    }
    let is_masked =
        |unit: &str| UNITS.iter().any(|f| fs::read_link(Path::new(f).join(unit)).is_ok_and(|to| to == *"/dev/null"));
    let unit = |account: &Account| format!("user@{}.service", account.uid);
    let open = accounts.iter().filter(|account| !is_masked("user@.service") && !is_masked(&unit(account)));
    let (names, open): (Vec<&str>, Vec<String>) = open.map(|account| (account.name.as_str(), unit(account))).unzip();
    // One that is masked while it runs goes on until its user is gone.
    for Account { name, uid, .. } in accounts {
        let runs = format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service");
        if Path::new(&runs).exists() && !names.contains(&name.as_str()) {
            let found = format!("the user manager of {name} still runs");
            findings.push(Finding::new(Warning, found, OUTSIDE_UNITS, format!("systemctl stop user@{uid}.service")));
        }
    }
    if !names.is_empty() {
        let found = format!("a user manager (systemd --user) starts at each login of: {}", names.join(", "));
        findings.push(Finding::new(Warning, found, OUTSIDE_UNITS, format!("systemctl mask {}", open.join(" "))));
    }
}

fn names_logind(text: &str) -> bool {
    let mut rules = text.lines().map(|line| line.trim_start().trim_start_matches('-'));
    rules.any(|line| line.starts_with("session") && line.split_whitespace().any(|w| w.ends_with("pam_systemd.so")))
}

/// Listed is right for added rights, where chsh and greeters are to work; unlisted for a jail: chsh(1) and `su -s`
/// refuse users whose shell is not listed. With a `login = true` profile there is a jail to keep.
fn shells(document: Option<&Document>, findings: &mut Vec<Finding>) {
    let shells = fs::read_to_string("/etc/shells").unwrap_or_default();
    let listed = |shell: &str| shells.lines().any(|line| line.trim() == shell);
    let profiles = || document.iter().flat_map(|document| &document.profiles);
    let own = shells.lines().map(str::trim).filter(|line| installed::is_login_shell(line));
    for shell in own.filter(|_| profiles().any(|profile| profile.login)) {
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
    use super::{job_number, names_logind, reads_user_environment, without_line};

    #[test]
    fn user_readenv_counts_outside_of_comments_alone() {
        assert!(reads_user_environment("session required pam_env.so user_readenv=1 envfile=/etc/default/locale\n"));
        assert!(!reads_user_environment("# session required pam_env.so user_readenv=1\nsession required pam_env.so\n"));
        assert!(!reads_user_environment("session required pam_env.so user_readenv=0\n"));
    }

    #[test]
    fn what_starts_a_user_manager_is_a_session_rule() {
        assert!(names_logind("auth required pam_unix.so\nsession optional\tpam_systemd.so \n"));
        assert!(names_logind("-session   optional     pam_systemd.so\n"));
        assert!(names_logind("session [success=ok] /usr/lib/security/pam_systemd.so debug\n"));
        assert!(!names_logind("# session optional pam_systemd.so\n-auth sufficient pam_systemd.so\n"));
        assert!(!names_logind("session optional pam_systemd_home.so\n"));
    }

    #[test]
    fn a_job_of_ats_has_its_number_in_its_name() {
        assert_eq!(job_number("a0001201c1e5b4"), Some(0x12));
        assert_eq!(job_number("=0001201c1e5b4"), Some(0x12));
        for other in [".SEQ", "a00012", "spool", "a00012\u{20ac}1c1e5b"] {
            assert_eq!(job_number(other), None, "{other}");
        }
    }

    /// sed(1) itself says which lines go.
    #[test]
    fn a_line_goes_by_its_name_alone() {
        let all = [
            "al.ice",
            "alxice",
            " al.ice\t",
            "#al.ice",
            "LAB\\bob",
            "LAB/bob",
            "a*b",
            "aab",
            "x$",
            "é",
            "a+",
            "aa",
            "]^",
        ];
        for name in ["al.ice", "LAB\\bob", "LAB/bob", "a*b", "x$", "é", "a+", "]^", "no-one"] {
            let mut sed = std::process::Command::new("sed");
            let sed = sed.env("LC_ALL", "C.UTF-8").arg(without_line(name)).stdin(std::process::Stdio::piped());
            let mut sed = sed.stdout(std::process::Stdio::piped()).spawn().expect("sed");
            let text = all.join("\n") + "\n";
            std::io::Write::write_all(&mut sed.stdin.take().expect("a pipe"), text.as_bytes()).expect("it reads");
            let out = sed.wait_with_output().expect("it ends").stdout;
            let left: Vec<_> = all.into_iter().filter(|line| line.trim() != name).collect();
            assert_eq!(String::from_utf8_lossy(&out).lines().collect::<Vec<_>>(), left, "{name}");
        }
    }
}
