//! `lab/ATTACKS.md`: every row of the catalogue has a test that is there, or says why it cannot apply. Needs no root.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the lab lies in the workspace")
}

/// The rows that must be there.
fn rows() -> BTreeSet<String> {
    let counted =
        [("B", 1..=23, 2), ("P", 1..=3, 0), ("W", 1..=14, 2), ("T", 1..=40, 2), ("D", 0..=10, 0), ("R", 1..=9, 0)];
    let counted = counted
        .into_iter()
        .flat_map(|(letter, numbers, width)| numbers.map(move |n: u32| format!("{letter}{n:0width$}")));
    let named = "CVE-2019-14287 CVE-2019-18634 CVE-2019-19232 CVE-2021-3156 CVE-2021-23239 CVE-2021-23240 CVE-2022-43995 \
        CVE-2023-22809 CVE-2023-27320 CVE-2023-28486 CVE-2023-28487 CVE-2023-42456 CVE-2023-42465 CVE-2023-7090 \
        CVE-2025-32462 CVE-2025-32463 CVE-2025-46717 CVE-2025-46718 GHSA-q428-6v73-fc4q GHSA-c978-wq47-pvvw \
        GHSA-f42v-x7gq-phc8 CVE-2026-35535 SUDO-NEWS CVE-2023-2002 CVE-2019-25016 CVE-2019-15900 CVE-2019-15901 \
        CVE-2023-28339 CVE-2023-46277 CVE-2021-31153 CVE-2021-4034 CVE-2021-3560 CVE-2025-6018 CVE-2022-24769 \
        CVE-2017-1000367 MOBY-27737 ROS L1";
    counted.chain(named.split_whitespace().map(str::to_owned)).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Functions that are tests, by `FILE::FUNCTION` (lab) and `CRATE::FUNCTION`.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeMap::new();
    for name in ["policy", "helper", "shell"] {
        let mut files = Vec::new();
        sources(&workspace().join(name), &mut files);
        files.into_iter().for_each(|file| drop(found.insert(file, name.to_owned())));
    }
    let mut files = Vec::new();
    sources(&workspace().join("lab/tests"), &mut files);
    for file in files {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        found.insert(file, name);
    }
    let mut tests = BTreeSet::new();
    for (file, name) in found {
        let text = std::fs::read_to_string(&file).expect("a source");
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            match line.strip_prefix("fn ").and_then(|rest| rest.split('(').next()) {
                Some(function) if is_test => {
                    tests.insert(format!("{name}::{function}"));
                    is_test = false;
                }
                Some(_) => {}
                // A table test writes its name in a macro or behind attributes.
                None => is_test = line == "#[test]" || is_test && (line.starts_with('#') || line.starts_with("//")),
            }
        }
    }
    tests
}

/// The words of the form `a::b` in a cell.
fn named(cell: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = cell.split(|c| !is_word(c)).filter(|word| word.contains("::"));
    words.map(|word| word.trim_matches(':').to_owned()).collect()
}

#[test]
fn every_row_of_the_catalogue_has_a_test_that_is_there() {
    let text = std::fs::read_to_string(workspace().join("lab/ATTACKS.md")).expect("lab/ATTACKS.md");
    let (tests, mut wrong, mut met) = (tests(), Vec::new(), BTreeSet::new());
    assert!(tests.len() > 300, "{}", tests.len());
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| row ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [row, attack, by, seen] = cells[..] else { panic!("four cells: {line}") };
        assert!(!attack.is_empty() && !seen.is_empty(), "{line}");
        row.split(", ").for_each(|row| assert!(met.insert(row.to_owned()), "twice: {row}"));
        let names = named(by);
        let excused = by.strip_prefix("cannot apply: ").is_some_and(|why| why.len() > 40);
        if names.is_empty() && !excused {
            wrong.push(format!("{row}: neither a test nor a reason"));
        }
        wrong.extend(names.iter().filter(|name| !tests.contains(*name)).map(|name| format!("{row}: no test {name}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(met, rows());
    println!("CATALOGUE: {} rows", met.len());
}
