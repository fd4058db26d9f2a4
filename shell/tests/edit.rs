//! `caplet edit`: the file in force is replaced whole and without a fault, or not at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const GOOD: &str = "[profile.a]\nusers = [\"alice\"]\nmay_add = [\"NET_RAW\"]\n";

/// A folder of its own, with a policy and an editor: a script that gets the file as its last argument.
struct Place(PathBuf);

impl Place {
    fn new(editor: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("caplet-edit-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let place = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(place.0.join("policy.d")).expect("a folder");
        fs::write(place.policy(), GOOD).expect("a policy");
        fs::set_permissions(place.policy(), fs::Permissions::from_mode(0o604)).expect("a mode");
        place.script(editor);
        place
    }

    fn script(&self, text: &str) {
        fs::write(self.0.join("ed"), format!("for file; do :; done; here={}\n{text}\n", self.0.display())).expect("it");
    }

    fn policy(&self) -> PathBuf {
        self.0.join("policy.toml")
    }

    fn command(&self, path: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caplet"));
        command.arg("edit").arg(path).env_remove("VISUAL").env("EDITOR", format!("sh {}/ed", self.0.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn edit(&self, path: &Path, answers: &str) -> (i32, String) {
        let mut child = self.command(path).spawn().expect("it starts");
        child.stdin.take().expect("a pipe").write_all(answers.as_bytes()).expect("it reads");
        said(child.wait_with_output().expect("it ends"))
    }

    /// Nothing but the files that were made: no copy is left.
    fn is_tidy(&self) -> bool {
        let hidden = |folder: PathBuf| {
            let names = fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").file_name());
            names.filter(|name| name.to_string_lossy().starts_with('.')).count()
        };
        hidden(self.0.clone()) + hidden(self.0.join("policy.d")) == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn said(out: Output) -> (i32, String) {
    (out.status.code().unwrap_or(-1), String::from_utf8(out.stderr).expect("text"))
}

#[test]
fn a_good_text_takes_the_place_with_owner_and_mode_kept() {
    let place = Place::new("echo 'max_sessions = 3' >> $file");
    let (code, err) = place.edit(&place.policy(), "");
    assert_eq!((code, err.contains("is replaced")), (0, true), "{err}");
    assert_eq!(fs::read_to_string(place.policy()).expect("it"), format!("{GOOD}max_sessions = 3\n"));
    assert_eq!(fs::metadata(place.policy()).expect("it").permissions().mode() & 0o7777, 0o604);
    assert!(place.is_tidy());
}

#[test]
fn an_editor_that_replaces_the_file_is_as_good() {
    let place = Place::new("{ cat $file; echo 'max_sessions = 3'; } > $file.new; mv $file.new $file");
    assert_eq!(place.edit(&place.policy(), "").0, 0);
    assert!(fs::read_to_string(place.policy()).expect("it").ends_with("max_sessions = 3\n"));
    assert_eq!(fs::metadata(place.policy()).expect("it").permissions().mode() & 0o7777, 0o604);
}

#[test]
fn a_fault_is_shown_and_never_takes_the_place() {
    let place = Place::new("echo 'max_session = 3' >> $file");
    for (answers, code) in [("q\n", 1), ("", 1), ("what?\nq\n", 1)] {
        let (ended, err) = place.edit(&place.policy(), answers);
        assert_eq!(ended, code, "{answers}: {err}");
        assert!(
            err.contains("policy.toml:4:1") && err.contains("max_sessions") && err.contains("is unchanged"),
            "{err}"
        );
        assert_eq!(fs::read_to_string(place.policy()).expect("it"), GOOD);
    }
    assert!(place.is_tidy());
}

#[test]
fn a_fault_can_be_mended_in_what_was_typed() {
    let place = Place::new(
        "if grep -q max_session $file; then sed -i s/max_session/max_sessions/ $file; else echo 'max_session = 3' >> $file; fi",
    );
    let (code, err) = place.edit(&place.policy(), "e\n");
    assert_eq!(code, 0, "{err}");
    assert_eq!(fs::read_to_string(place.policy()).expect("it"), format!("{GOOD}max_sessions = 3\n"));
}

#[test]
fn the_policy_is_judged_as_a_whole() {
    let place = Place::new("printf '[profile.a]\\nusers = [\"bob\"]\\n' > $file");
    let drop_in = place.0.join("policy.d/20-new.toml");
    let (code, err) = place.edit(&drop_in, "q\n");
    assert_eq!((code, err.contains("stands in two files")), (1, true), "{err}");
    assert!(!drop_in.exists());
    place.script("printf '[profile.b]\\nusers = [\"bob\"]\\n' > $file");
    let (code, err) = place.edit(&drop_in, "");
    assert_eq!(code, 0, "{err}");
    assert_eq!(fs::metadata(&drop_in).expect("it").permissions().mode() & 0o7777, 0o640);
}

#[test]
fn nothing_typed_and_a_failing_editor_change_nothing() {
    for (script, code, text) in
        [("true", 0, "is unchanged"), ("echo x >> $file; exit 3", 1, "ended with exit status: 3")]
    {
        let place = Place::new(script);
        let (ended, err) = place.edit(&place.policy(), "");
        assert_eq!((ended, err.contains(text)), (code, true), "{err}");
        assert_eq!(fs::read_to_string(place.policy()).expect("it"), GOOD);
        assert!(place.is_tidy());
    }
}

#[test]
fn the_editor_is_words_and_no_shell_reads_them() {
    let place = Place::new("echo $# > $here/count");
    let editor = |value: String| {
        let out = place.command(&place.policy()).env("EDITOR", value).stdin(Stdio::null()).output().expect("it starts");
        said(out)
    };
    assert_eq!(editor(format!("sh  {}/ed one\ttwo ", place.0.display())).0, 0);
    assert_eq!(fs::read_to_string(place.0.join("count")).expect("it ran"), "3\n");
    let (code, err) = editor(format!("true;touch {}/bad", place.0.display()));
    assert_eq!((code, err.contains("cannot be started")), (1, true), "{err}");
    assert!(!place.0.join("bad").exists());
}

#[test]
fn two_at_once_and_a_change_from_outside_are_told() {
    let place = Place::new("touch $here/started; while [ ! -e $here/go ]; do sleep 0.02; done; echo '# x' >> $file");
    let first = place.command(&place.policy()).spawn().expect("it starts");
    while !place.0.join("started").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (code, err) = place.edit(&place.policy(), "");
    assert_eq!((code, err.contains("being edited by somebody else")), (1, true), "{err}");
    fs::write(place.policy(), "# another hand\n").expect("it");
    fs::write(place.0.join("go"), "").expect("it");
    let (code, err) = said(first.wait_with_output().expect("it ends"));
    assert_eq!((code, err.contains("changed by somebody else")), (1, true), "{err}");
    assert_eq!(fs::read_to_string(place.policy()).expect("it"), "# another hand\n");
    assert!(place.is_tidy());
}

#[test]
fn a_kill_in_the_middle_leaves_the_old_file_and_a_copy_that_no_policy_reads() {
    let place = Place::new("echo nonsense >> $file; touch $here/started; sleep 0.3");
    let mut child = place.command(&place.policy()).spawn().expect("it starts");
    while !place.0.join("started").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("it lives");
    child.wait().expect("it ends");
    assert_eq!(fs::read_to_string(place.policy()).expect("it"), GOOD);
    let names = fs::read_dir(&place.0).expect("a folder").map(|e| e.expect("an entry").file_name());
    let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.starts_with(".policy.edit-")), "{names:?}");
    let check = Command::new(env!("CARGO_BIN_EXE_caplet")).arg("check").arg(&place.0).output().expect("it starts");
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    std::thread::sleep(Duration::from_millis(400));
}

#[test]
fn what_is_no_file_is_not_edited() {
    let place = Place::new("true");
    for path in [place.0.join("policy.d"), "/dev/null".into()] {
        let (code, err) = place.edit(&path, "");
        assert_eq!((code, err.lines().count()), (1, 1), "{err}");
    }
}
