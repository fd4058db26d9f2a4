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
    Path::new(BINDIR).join("caplet-shell")
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
