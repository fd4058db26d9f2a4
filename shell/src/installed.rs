//! Where things are: the helper, the policy, and whether this program runs from a build tree.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where programs that people type are installed; set CAPLET_BINDIR at build time.
const BINDIR: &str = match option_env!("CAPLET_BINDIR") {
    Some(path) => path,
    None => "/usr/bin",
};

/// Where the helper is installed; set CAPLET_LIBEXECDIR at build time.
const LIBEXECDIR: &str = match option_env!("CAPLET_LIBEXECDIR") {
    Some(path) => path,
    None => "/usr/libexec/caplet",
};

/// The helper's file name and its `argv[0]`.
pub const HELPER: &str = "caplet-helper";

/// The login shell's file name.
const LOGIN_SHELL: &str = "caplet-shell";

/// The policy's folder.
pub const POLICY: &str = "/etc/caplet";

/// The installed helper.
pub fn helper() -> PathBuf {
    Path::new(LIBEXECDIR).join(HELPER)
}

/// How often, and how long each time, a helper without its setuid bit is waited for.
const WAITS: u32 = 10;
const WAIT: Duration = Duration::from_millis(50);

/// The installed helper, when nobody is just replacing it: rpm takes the setuid bit from the old file before it puts the
/// new one in its place (`removeSBITS` of its lib/fsm.c), and a login in between must not be refused.
pub fn helper_at_rest() -> PathBuf {
    let helper = helper();
    let is_without = || std::fs::metadata(&helper).is_ok_and(|meta| meta.permissions().mode() & 0o4000 == 0);
    for _ in 0..WAITS {
        if !is_without() {
            break;
        }
        std::thread::sleep(WAIT);
    }
    helper
}

/// The installed login shell: this program under another name.
pub fn login_shell() -> PathBuf {
    Path::new(BINDIR).join(LOGIN_SHELL)
}

/// Whether passwd(5) or shells(5) mean the login shell by that path, which may lead by another one of its folder's names
/// (`/bin` is `/usr/bin` on most machines).
pub fn is_login_shell(path: &str) -> bool {
    let (path, own) = (Path::new(path), login_shell());
    if path == own {
        return true;
    }
    let folder = |path: &Path| path.parent().and_then(|folder| folder.canonicalize().ok());
    path.is_absolute() && path.file_name() == own.file_name() && folder(path).is_some_and(|f| Some(f) == folder(&own))
}

/// The file that would be the helper in a build tree: the one beside this program, wherever it was really
/// started from, unless this is the installed program. It need not exist.
pub fn helper_beside() -> Option<PathBuf> {
    let own = std::fs::read_link("/proc/self/exe").ok()?;
    let folder = own.parent()?;
    (folder != Path::new(BINDIR)).then(|| folder.join(HELPER))
}

/// The profile of the session that this process is in, if it is in one.
///
/// The helper sets the variable; someone who takes it away only gets the helper's own answer instead, since
/// inside a session the helper has no power.
pub fn session_profile() -> Option<OsString> {
    std::env::var_os("CAPLET_PROFILE").filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_shell_is_known_by_any_path_of_its_folder() {
        let link = std::env::temp_dir().join(format!("caplet-unit-bin-{}", std::process::id()));
        std::os::unix::fs::symlink(BINDIR, &link).expect("a link");
        let by = |name: &str| link.join(name).display().to_string();
        assert!(is_login_shell(&by("caplet-shell")) && is_login_shell(&format!("{BINDIR}/caplet-shell")));
        assert!(is_login_shell(&format!("{BINDIR}/../bin/caplet-shell")));
        for other in
            [by("caplet"), by("nowhere/caplet-shell"), "/caplet-shell".into(), "caplet-shell".into(), String::new()]
        {
            assert!(!is_login_shell(&other), "{other}");
        }
        std::fs::remove_file(link).expect("no link");
    }
}
