//! Skips: never silent. Each is printed past the test harness's capture and written to a file.

use crate::{Builder, Lab, SharedLab};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Says that the running test is skipped: on stderr, and as a line of the file `CAPLET_SKIPS` (default
/// `caplet-skips.txt` in the target directory), so that a run can list them at its end.
pub fn record_skip(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("?");
    let program = std::env::current_exe().unwrap_or_default();
    // libtest's executables are named `hygiene-0123456789abcdef`.
    let file = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let file = file.rsplit_once('-').map_or(file.as_str(), |(stem, _)| stem);
    let line = format!("SKIP {file}::{name}: {reason}\n");
    // Not eprint!: its output is captured for tests that pass.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = skips_file()
        && let Ok(mut file) = appended(&path)
    {
        let _ = file.write_all(line.as_bytes());
    }
}

/// Made where it is not there, and not in one go: fs.protected_regular = 2 refuses O_CREAT even to root, in /tmp, for the file
/// of the user who called sudo.
fn appended(path: &Path) -> std::io::Result<std::fs::File> {
    let open = |create| std::fs::OpenOptions::new().create(create).append(true).open(path);
    open(false).or_else(|_| open(true))
}

fn skips_file() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CAPLET_SKIPS") {
        return Some(path.into());
    }
    // target/debug/deps/NAME-HASH
    Some(std::env::current_exe().ok()?.ancestors().nth(3)?.join("caplet-skips.txt"))
}

/// Whether that program is installed where users look for programs.
pub fn have(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).exists();
    }
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join(program).exists())
}

/// The machine that the tests of one file share, made by the first of them. `None`: the test is skipped, as said.
pub fn shared(lab: &'static SharedLab, make: impl FnOnce() -> Builder) -> Option<&'static Lab> {
    let mut first = false;
    let lab = lab.get_or_init(|| {
        first = true;
        make().start()
    });
    if lab.is_none() && !first {
        record_skip("needs root");
    }
    lab.as_ref()
}
