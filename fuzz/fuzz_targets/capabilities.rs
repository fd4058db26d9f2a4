//! See `checks.rs`.
#![no_main]
#[allow(dead_code)]
#[path = "../src/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::capabilities(bytes));
