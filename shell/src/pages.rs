//! Completions, and the parts of the manual pages that say what the program says, made from the same definitions as the
//! helps. The tests compare them with what lies in `completions/` and `man/`; `make pages` writes them.

mod complete;
mod handbook;
mod mdoc;
mod options;
mod policy;

use std::fs;
use std::path::{Path, PathBuf};

/// A file of this source tree.
fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Compares with what is there, or writes it where that is wanted.
fn is_fresh(path: &str, wanted: &str) -> bool {
    let there = fs::read_to_string(place(path)).unwrap_or_default();
    if there != wanted && std::env::var_os("CAPLET_WRITE_PAGES").is_some() {
        fs::write(place(path), wanted).expect("the file can be written");
        return true;
    }
    there == wanted
}

/// A page with its generated part put in anew, between a line `.\" made by pages.rs from WHAT {` and a line `.\" }`.
fn with_part(path: &str, part: &str) -> String {
    let page = fs::read_to_string(place(path)).expect("the page");
    let (before, rest) = page.split_once(" {\n").expect("the start of the part");
    let (_, after) = rest.split_once(".\\\" }\n").expect("the end of the part");
    format!("{before} {{\n{part}.\\\" }}\n{after}")
}

#[test]
fn completions_are_those_of_the_command_line() {
    for (path, text) in complete::all() {
        assert!(is_fresh(path, &text), "{path} is old: make pages");
    }
}

#[test]
fn the_pages_are_of_one_text_with_the_helps_and_the_handbook() {
    for (path, part) in [("man/caplet.1", options::part()), ("man/caplet-capabilities.7", handbook::part())] {
        assert!(is_fresh(path, &with_part(path, &part)), "{path} is old: make pages");
    }
}
