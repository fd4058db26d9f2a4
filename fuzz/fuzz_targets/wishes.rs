//! `~/.config/caplet/config.toml`, written by whoever logs in.
#![no_main]
#[allow(dead_code)]
#[path = "../../shell/src/wishes/text.rs"]
mod text;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = std::str::from_utf8(bytes) else { return };
    match text::parse(file) {
        // What is shown on the terminal is one line without a control character.
        Err(fault) => assert!(fault.starts_with(text::SHOWN) && !fault.contains(char::is_control), "{fault:?}"),
        Ok(wishes) => {
            assert!(wishes.profile.is_none_or(|name| caplet_policy::request::is_profile_name(name.as_bytes())));
            assert!(wishes.shell.is_none_or(|shell| shell.is_absolute()));
        }
    }
});
