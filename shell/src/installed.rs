//! Where things are: the helper, the policy, and whether this program runs from a build tree.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

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
