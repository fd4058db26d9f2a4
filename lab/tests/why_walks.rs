//! `caplet why` and programs that walk a tree: they are not stopped at each folder, and what they are refused is told.

use caplet_lab::{Lab, SharedLab, shared};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.iso]
users = ["alice"]

[profile.real]
users = ["alice"]
scope = "host"
caps = ["WAKE_ALARM"]
"#;

#[test]
fn a_walk_is_told_each_folder_that_it_was_refused_and_each_once() {
    let Some(lab) = shared(&LAB, || Lab::new().user("alice", &[]).policy(POLICY)) else { return };
    let made = "mkdir -p '/srv/tree/it'\\''s shut' /srv/tree/a/shut && touch /srv/tree/a/open && chmod 700 /srv/tree/*shut /srv/tree/a/shut";
    lab.sh("root", made).expect_code(0);
    let commands: [&[&str]; 6] = [
        &["find", "tree", "-type", "f"],
        &["du", "/srv/tree"],
        &["grep", "-r", "nothing", "tree"],
        &["chmod", "-R", "g+w", "tree"],
        &["chown", "-R", "alice", "tree"],
        &["sh", "-c", "cd tree && find . 2>/dev/null"],
    ];
    for profile in ["iso", "real"] {
        for command in commands {
            let out = lab
                .task("alice", [&["caplet", "why", "--quiet", "-p", profile, "--"], command].concat())
                .cwd("/srv")
                .run();
            let lines: Vec<String> = out.err_lines().into_iter().filter(|line| line.contains("openat(")).collect();
            for (place, name) in [("/srv/tree/it's shut", "it's shut\""), ("/srv/tree/a/shut", "shut\"")] {
                let of: Vec<&String> = lines.iter().filter(|line| line.contains(place)).collect();
                let said = of.iter().all(|line| line.contains(name) && line.contains("was refused (EACCES)"));
                assert!(of.len() == 1 && said, "{profile} {command:?} {place}: {out}");
                assert!(of[0].contains("DAC_READ_SEARCH"), "{out}");
            }
            assert_eq!(lines.len(), 2, "{profile} {command:?}: {out}");
        }
    }
    // What no walk has said is not believed.
    let talk = "echo \"cannot read directory '/srv/tree/a/shut': Permission denied\" >&2";
    let out = lab.task("alice", ["caplet", "why", "--quiet", "-p", "real", "--", "sh", "-c", talk]).run();
    assert_eq!(out.err_lines().len(), 1, "{out}");
}
