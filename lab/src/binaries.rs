//! The programs under test: from `CAPLET_BUILD`, or built once in the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What is installed in a machine.
pub(crate) struct Binaries {
    pub caplet: Vec<u8>,
    pub helper: Vec<u8>,
}

/// The two programs, read once.
///
/// # Panics
/// Where they cannot be built or read: a system test without them proves nothing.
pub(crate) fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let dir = std::env::var_os("CAPLET_BUILD").map_or_else(build, PathBuf::from);
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        Binaries { caplet: read("caplet"), helper: read("caplet-helper") }
    })
}

fn build() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the lab lies in the workspace");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "-p", "caplet", "-p", "caplet-helper"])
        .current_dir(workspace)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the programs under test could not be built");
    target.join("release")
}
