//! Every seed of the fuzz targets, and with them whatever once broke one, holds what the targets hold.
#![cfg(feature = "render")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../fuzz/src/checks.rs"]
mod checks;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = format!("{}/../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        check(&bytes);
        // Also cut short, and with a byte turned.
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 97) {
            check(&bytes[..at]);
            let mut turned = bytes.clone();
            turned[at] ^= 0x15;
            check(&turned);
        }
        seen += 1;
    }
    assert!(seen > 1, "{target}: {seen}");
}

#[test]
fn policies() {
    replay("policy", checks::policy);
}

#[test]
fn requests() {
    replay("request", checks::request);
}

#[test]
fn log_lines() {
    replay("log", checks::log);
}

#[test]
fn subordinate_ids() {
    replay("subuid", checks::subuid);
}

#[test]
fn capability_names() {
    replay("capabilities", checks::capabilities);
}
