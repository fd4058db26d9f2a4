//! What `caplet --version` says: which build this is. Nothing is asked of the machine.

use std::sync::LazyLock;

/// Which commit this was built from; set CAPLET_COMMIT at build time.
const COMMIT: &str = match option_env!("CAPLET_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// How this program is linked: with musl it is static by itself, with glibc where the build says so.
const LINKED: &str = match (cfg!(target_env = "musl"), cfg!(target_feature = "crt-static")) {
    (true, _) => "static, musl",
    (false, true) => "static, glibc",
    (false, false) => "dynamic, glibc",
};

/// The version, the commit, what is built in, and where this build looks for its helper.
pub fn text() -> &'static str {
    &TEXT
}

static TEXT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} (commit {COMMIT})\nfeatures: isolated host login pam journal networks; {}, {LINKED}\nhelper: {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        crate::installed::helper().display(),
    )
});
