//! The command's environment: the user's own, or reset as sudo does where `commands` binds a profile (an ambient
//! process has AT_SECURE = 0, so the loader's variables would be honoured: facts.md 3.1, row 13).

use crate::caller::Person;
use caplet_policy::document::{Profile, Scope};
use caplet_policy::judge::Grant;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where commands of a reset environment are looked up, as in sudo's `secure_path`.
pub const SECURE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the tools are that a session is for, and where a user's own PATH often does not lead.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// Kept by a reset, if the value is harmless: sudo's `env_check`.
const CHECKED: [&str; 8] = ["TERM", "COLORTERM", "LANG", "LANGUAGE", "TZ", "NO_COLOR", "LINES", "COLUMNS"];

/// `NAME=value` entries, each name once; and what a reset keeps, where there is one.
#[derive(Debug)]
pub struct Environment(Vec<(Vec<u8>, Vec<u8>)>, Option<Vec<String>>);

impl Environment {
    /// Builds it for a grant.
    pub fn of(grant: &Grant, person: &Person, inherited: &[CString]) -> Self {
        let profile = grant.profile();
        let entries = inherited.iter().filter_map(|entry| {
            let bytes = entry.as_bytes();
            let at = bytes.iter().position(|b| *b == b'=')?;
            Some((bytes.get(..at)?, bytes.get(at + 1..)?))
        });
        let mut built = Self(Vec::new(), profile.commands.as_ref().map(|_| profile.env_keep.clone()));
        if profile.commands.is_some() {
            for (name, value) in entries {
                if is_kept(name, value, &profile.env_keep) {
                    built.add(name, value);
                }
            }
            let home: &OsStr = if profile.home_keep { person.home.as_os_str() } else { OsStr::new("/") };
            built.set("HOME", home);
            built.set("USER", &person.name);
            built.set("LOGNAME", &person.name);
            built.set("SHELL", "/bin/sh");
            built.set("PATH", SECURE_PATH);
        } else {
            for (name, value) in entries {
                built.add(name, value);
            }
            built.set("PATH", with_system_folders(built.get("PATH")));
            // What a login set it to: editors and pagers start it for a line, and inside it starts nothing.
            if built.get("SHELL").is_some_and(is_ours) {
                built.set("SHELL", shell(profile, person));
            }
        }
        for (name, value) in &profile.env_set {
            built.set(name, value);
        }
        built.set("CAPLET_PROFILE", &profile.name);
        built.set("CAPLET_SCOPE", if profile.scope == Scope::Host { "host" } else { "isolated" });
        built.set("CAPLET_CAPS", grant.caps().to_string());
        built
    }

    /// Adds `NAME=value` of a PAM module's, filtered as the caller's own are, unless the name is there: PAM may have
    /// it from a file of the user's (CVE-2025-6018).
    pub fn offer(&mut self, entry: &[u8]) {
        let Some(at) = entry.iter().position(|b| *b == b'=').filter(|at| *at > 0) else { return };
        let (name, value) = (&entry[..at], &entry[at + 1..]);
        if self.1.as_ref().is_none_or(|keep| is_kept(name, value, keep)) {
            self.add(name, value);
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, value)| OsStr::from_bytes(value))
    }

    /// For exec.
    pub fn entries(&self) -> Vec<CString> {
        self.0.iter().filter_map(|(name, value)| CString::new([name, b"=".as_slice(), value].concat()).ok()).collect()
    }

    /// Adds an entry unless the name is there: of two with one name the first counts, as for getenv(3).
    fn add(&mut self, name: &[u8], value: &[u8]) {
        if !self.0.iter().any(|(n, _)| n == name) {
            self.0.push((name.into(), value.into()));
        }
    }

    fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.retain(|(n, _)| n != name.as_bytes());
        self.0.push((name.into(), value.as_ref().as_bytes().into()));
    }
}

/// The policy's shell, else the user's own; never caplet itself, which would ask for a session again.
pub fn shell(profile: &Profile, person: &Person) -> PathBuf {
    let own = match &profile.shell {
        Some(shell) => PathBuf::from(shell),
        None => person.shell.clone(),
    };
    if is_ours(own.as_os_str()) || !own.is_absolute() { PathBuf::from("/bin/bash") } else { own }
}

fn is_ours(shell: &OsStr) -> bool {
    Path::new(shell).file_name().is_some_and(|name| name.as_bytes().starts_with(b"caplet"))
}

fn is_kept(name: &[u8], value: &[u8], keep: &[String]) -> bool {
    let listed = keep.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == pattern.as_bytes(),
    });
    // A value that starts so is a function of an old bash (CVE-2014-6271).
    if listed {
        return !value.starts_with(b"()");
    }
    let harmless = value.iter().all(|b| b.is_ascii_graphic() && !b"/%".contains(b));
    harmless && (CHECKED.iter().any(|known| name == known.as_bytes()) || name.starts_with(b"LC_"))
}

fn with_system_folders(path: Option<&OsStr>) -> OsString {
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        return SECURE_PATH.into();
    };
    let mut whole = path.as_bytes().to_vec();
    for folder in SYSTEM_FOLDERS {
        if !path.as_bytes().split(|b| *b == b':').any(|part| part == folder.as_bytes()) {
            whole.push(b':');
            whole.extend_from_slice(folder.as_bytes());
        }
    }
    OsString::from_vec(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{alice, command, grant};

    fn built(profile: &str, inherited: &[&str]) -> Environment {
        let inherited: Vec<CString> = inherited.iter().map(|entry| CString::new(*entry).unwrap()).collect();
        Environment::of(&grant(profile, &command(&["x"])), &alice(), &inherited)
    }

    fn texts(environment: &Environment) -> Vec<String> {
        environment.entries().into_iter().map(|entry| entry.into_string().unwrap()).collect()
    }

    #[test]
    fn where_no_command_is_bound_the_callers_environment_stays() {
        let inherited =
            ["A=1", "A=2", "nothing", "LD_PRELOAD=x.so", "HOME=/h", "PATH=/bin", "CAPLET_CAPS=ALL", "B=x=y"];
        let mut built = built("env_set = { B = \"policy\" }", &inherited);
        let path = "PATH=/bin:/usr/local/sbin:/usr/sbin:/sbin";
        let own = ["CAPLET_PROFILE=p", "CAPLET_SCOPE=isolated", "CAPLET_CAPS="];
        assert_eq!(texts(&built)[..4], ["A=1", "LD_PRELOAD=x.so", "HOME=/h", path]);
        assert_eq!(texts(&built)[4], "B=policy");
        assert_eq!(texts(&built)[5..], own);
        assert_eq!(built.get("A"), Some(OsStr::new("1")));
        assert_eq!(built.get("NO"), None);
        // What PAM says comes after what the caller and the policy said, and cannot be nameless.
        let before = texts(&built);
        for entry in ["A=pam", "B=pam", "=x", "C", "CAPLET_CAPS=SYS_ADMIN", "NEW=pam"] {
            built.offer(entry.as_bytes());
        }
        assert_eq!(texts(&built), [before, vec!["NEW=pam".into()]].concat());
    }

    #[test]
    fn the_login_shell_is_none_inside() {
        for (own, inside) in [("/usr/bin/caplet-shell", "/bin/zsh"), ("/bin/fish", "/bin/fish"), ("", "")] {
            assert_eq!(built("", &[&format!("SHELL={own}")]).get("SHELL"), Some(OsStr::new(inside)));
        }
        assert_eq!(built("", &[]).get("SHELL"), None);
    }

    #[test]
    fn where_a_command_is_bound_it_is_made_anew() {
        let host =
            "scope = \"host\"\ncaps = [\"SYS_TIME\"]\ncommands = [\"/usr/bin/date\"]\nenv_keep = [\"KEEP\", \"X_*\"]";
        let inherited = [
            "LD_PRELOAD=x.so",
            "PATH=/home/alice",
            "HOME=/h",
            "KEEP=1",
            "X_A=()",
            "TERM=xterm",
            "SHELL=x",
            "USER=root",
        ];
        let mut reset = built(host, &inherited);
        let kept = ["KEEP=1", "TERM=xterm", "HOME=/", "USER=alice", "LOGNAME=alice", "SHELL=/bin/sh"];
        let own = ["CAPLET_PROFILE=p", "CAPLET_SCOPE=host", "CAPLET_CAPS=SYS_TIME"];
        assert_eq!(texts(&reset)[..6], kept);
        assert_eq!(texts(&reset)[6], format!("PATH={SECURE_PATH}"));
        assert_eq!(texts(&reset)[7..], own);
        for entry in ["LD_PRELOAD=x.so", "X_B=1", "LANG=C", "PYTHONPATH=x", "KEEP=2"] {
            reset.offer(entry.as_bytes());
        }
        assert_eq!(texts(&reset)[10..], ["X_B=1", "LANG=C"]);
        let home = built(&format!("{host}\nhome_keep = true"), &[]);
        assert_eq!(home.get("HOME"), Some(OsStr::new("/home/alice")));
    }

    #[test]
    fn a_reset_keeps_only_harmless_values() {
        assert!(is_kept(b"TERM", b"xterm-256color", &[]));
        assert!(!is_kept(b"TERM", b"../../x", &[]));
        assert!(!is_kept(b"LC_ALL", b"../../x", &[]));
        assert!(!is_kept(b"LANG", b"\xff\xfe", &[]));
        assert!(!is_kept(b"TZ", b"/etc/shadow", &[]));
        assert!(!is_kept(b"LD_PRELOAD", b"x.so", &[]));
        assert!(!is_kept(b"PATH", b"x", &[]));
    }

    #[test]
    fn env_keep_names_and_patterns_are_kept_but_no_bash_function() {
        let keep = ["EDITOR".to_string(), "GIT_*".to_string()];
        assert!(is_kept(b"EDITOR", b"/usr/bin/vi", &keep));
        assert!(is_kept(b"GIT_DIR", b"/x", &keep));
        assert!(!is_kept(b"GIT_DIR", b"() { :; }", &keep));
        assert!(!is_kept(b"EDITORX", b"vi/", &keep));
        assert!(!is_kept(b"EDITORX", b"vi", &keep));
    }

    #[test]
    fn sbin_is_added_to_a_students_path_once() {
        assert_eq!(with_system_folders(Some(OsStr::new("/bin:/sbin"))), "/bin:/sbin:/usr/local/sbin:/usr/sbin");
        assert_eq!(with_system_folders(None), SECURE_PATH);
        assert_eq!(with_system_folders(Some(OsStr::new(""))), SECURE_PATH, "an empty one is the current folder");
    }
}
