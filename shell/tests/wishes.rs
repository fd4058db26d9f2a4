//! `~/.config/caplet/config.toml`: what the helper is asked for a login, and what is said, with a helper that says yes
//! or no as it is told to. Whether a wish comes true is the system tests' part.

mod tree;

use nix::pty::openpty;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use tree::{Said, Tree, said};

/// A home with this `config.toml`, and a helper that writes down each question and whose judge does what `judge` says.
fn home(config: &str, judge: &str) -> Tree {
    let tree = Tree::with_helper(&format!("echo \"$*\" >> asked; [ $1 != judge ] || {{ {judge}\n}}; exit 7"));
    // The login's user writes here.
    fs::set_permissions(&tree.folder, fs::Permissions::from_mode(0o777)).expect("chmod");
    fs::create_dir_all(tree.folder.join(".config/caplet")).expect("a folder");
    tree.write(".config/caplet/config.toml", config);
    tree
}

/// caplet-shell of somebody who is not root.
fn login(tree: &Tree, words: &[&str]) -> Command {
    let mut command = tree.caplet();
    command.arg0("caplet-shell").args(words).env("HOME", &tree.folder).stdin(Stdio::null());
    if nix::unistd::getuid().is_root() {
        command.uid(65534).gid(65534);
    }
    command
}

fn asked(tree: &Tree) -> Vec<String> {
    let text = fs::read_to_string(tree.folder.join("asked")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What it writes to a terminal on standard error, and its exit code.
fn on_a_terminal(mut command: Command) -> (Option<i32>, String) {
    let pty = openpty(None, None).expect("a terminal");
    let status = command.stderr(pty.slave).status().expect("caplet starts");
    drop(command);
    let mut text = [0; 4096];
    // With nothing written and the other end closed this is EIO.
    let length = fs::File::from(pty.master).read(&mut text).unwrap_or(0);
    (status.code(), String::from_utf8_lossy(&text[..length]).replace('\r', ""))
}

const WISHES: &str = "profile = \"lab\"\ncap_add = [\"net_admin\"]\ncap_drop = [\"KILL\"]\n";
const CONFIG: &str = "caplet: ~/.config/caplet/config.toml";

#[test]
fn the_judge_is_asked_first_and_then_the_same_is_run() {
    let tree = home(WISHES, "exit 0");
    let out = said(login(&tree, &["-c", "id"]).output().expect("caplet starts"));
    assert_eq!(out, Said { code: Some(7), stdout: String::new(), stderr: String::new() });
    let [judge, run] = &asked(&tree)[..] else { panic!("{:?}", asked(&tree)) };
    assert!(judge.starts_with("judge ") && judge.contains("--non-interactive"), "nobody is there to ask: {judge}");
    assert_eq!(judge.replacen("judge", "run", 1).replace(" --non-interactive", ""), *run);
    for word in ["lab", "NET_ADMIN", "KILL", "id"] {
        assert!(run.contains(word), "{word}: {run}");
    }
}

#[test]
fn a_refusal_costs_the_wishes_and_is_told_to_a_terminal_alone() {
    let plain = home("", "exit 0");
    login(&plain, &["-c", "id"]).output().expect("caplet starts");
    let [plain] = &asked(&plain)[..] else { panic!("nothing is wished: {:?}", asked(&plain)) };
    let refused = "echo noise; echo 'caplet: not yours' >&2; echo 'caplet: ask: root' >&2; exit 125";
    for judge in [refused, "kill -9 $$"] {
        let tree = home(WISHES, judge);
        let out = said(login(&tree, &["-c", "id"]).output().expect("caplet starts"));
        assert_eq!(out, Said { code: Some(7), stdout: String::new(), stderr: String::new() }, "{judge}");
        assert_eq!(asked(&tree).last(), Some(plain), "{judge}");
    }
    let tree = home(WISHES, refused);
    let (code, text) = on_a_terminal(login(&tree, &["-c", "id"]));
    assert_eq!((code, text), (Some(7), format!("{CONFIG}: not yours; this login goes on without these wishes\n")));
    assert_eq!(asked(&tree).last(), Some(plain));
}

#[test]
fn a_faulty_file_is_told_of_with_line_and_column_and_nobody_is_asked() {
    let tree = home("# mine\nshell = \"/bin/sh\"\n profil = 1\n", "exit 0");
    let (code, text) = on_a_terminal(login(&tree, &["-l"]));
    let fault = "unknown key \"profil\"; there are: profile, cap_add, cap_drop, shell";
    assert_eq!(text, format!("{CONFIG}:3:2: {fault}; this login goes on without these wishes\n"));
    assert!(code == Some(7) && asked(&tree).len() == 1 && asked(&tree)[0].starts_with("run "), "{:?}", asked(&tree));
    let tree = home("", "exit 0");
    let file = tree.folder.join(".config/caplet/config.toml");
    fs::remove_file(&file).expect("there");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("a FIFO");
    let (code, text) = on_a_terminal(login(&tree, &["-l"]));
    let fault = "cannot be read: it is no regular file";
    assert_eq!((code, text), (Some(7), format!("{CONFIG} {fault}; this login goes on without these wishes\n")));
}

#[test]
fn only_a_login_has_wishes() {
    let tree = home(WISHES, "exit 0");
    let own = said(login(&tree, &["-c", "caplet run id"]).output().expect("caplet starts"));
    assert_eq!(own.code, Some(7));
    let typed = said(tree.caplet().args(["run", "id"]).env("HOME", &tree.folder).output().expect("caplet starts"));
    assert_eq!(typed.code, Some(7));
    let asked = asked(&tree);
    assert!(asked.len() == 2 && asked.iter().all(|words| !words.contains("lab")), "{asked:?}");
}

/// The stage inside, whose profile names `/bin/sh`, or leaves the shell to its user.
fn stage(config: &str, words: &[&str]) -> (Option<i32>, String, String) {
    let tree = home(config, "exit 0");
    let mut command = tree.caplet();
    command.arg0("caplet-session").arg("--shell=/bin/sh").args(words).arg("--line=echo $0 $SHELL >said");
    let (code, text) = on_a_terminal({
        command.env("HOME", &tree.folder).stdin(Stdio::null());
        command
    });
    (code, text, fs::read_to_string(tree.folder.join("said")).unwrap_or_default())
}

#[test]
fn the_stage_becomes_the_shell_that_is_wished_for_where_the_policy_names_none() {
    let wish = "shell = \"/bin/bash\"\n";
    assert_eq!(stage(wish, &["--own"]), (Some(0), String::new(), "bash /bin/bash\n".into()));
    assert_eq!(stage(wish, &[]), (Some(0), String::new(), "sh /bin/sh\n".into()));
    // It has been told of outside.
    assert_eq!(stage("shel = 1\n", &["--own"]), (Some(0), String::new(), "sh /bin/sh\n".into()));
    let fault = format!(
        "{CONFIG}: shell /no/\\x1b[2J is none of this machine's, which are in /etc/shells; this login goes on with /bin/sh\n"
    );
    assert_eq!(stage("shell = \"/no/\\u001b[2J\"\n", &["--own"]), (Some(0), fault, "sh /bin/sh\n".into()));
}
