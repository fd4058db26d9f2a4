//! The names by which caplet acts as something else: the stage inside a session, and the login shell to come.

mod tree;

use nix::pty::openpty;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use tree::{Said, Tree, said};

fn as_name(tree: &Tree, argv0: &str, words: &[&str]) -> Command {
    let mut command = tree.caplet();
    command.arg0(argv0).args(words);
    command
}

fn stage(words: &[&str], input: &str) -> Said {
    let tree = Tree::recording();
    let mut command = as_name(&tree, "caplet-session", words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("caplet starts");
    // A stage that fails reads nothing.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    said(child.wait_with_output().expect("it ends"))
}

#[test]
fn the_stage_becomes_the_shell() {
    let said = stage(&["--shell=/bin/sh", "--added=NET_ADMIN"], "echo \"$0 $SHELL\"; kill -PIPE $$\n");
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (None, "sh /bin/sh\n", ""));
    let said = stage(&["--shell=/bin/bash", "--login", "--quiet"], "echo \"$0\"; shopt -q login_shell; exit $?\n");
    assert_eq!(said.code, Some(0));
    assert!(said.stdout.ends_with("-bash\n"), "{said:?}");
}

#[test]
fn a_shell_that_does_not_start_is_named() {
    for (shell, code, text) in [
        ("/no/such/shell", 127, "your shell /no/such/shell is not there; name a command instead: caplet run /bin/sh"),
        (
            "/etc/passwd",
            126,
            "your shell /etc/passwd cannot be executed: Permission denied; name a command instead: caplet run /bin/sh",
        ),
        ("/no/\x1b[2J", 127, r"your shell /no/\x1b[2J is not there; name a command instead: caplet run /bin/sh"),
    ] {
        let said = stage(&[&format!("--shell={shell}")], "");
        assert_eq!((said.code, said.stderr), (Some(code), format!("caplet: {text}\n")));
    }
}

#[test]
fn the_stage_takes_the_helpers_words_alone() {
    for words in [&[][..], &["--shell=sh"], &["--shell=/bin/sh", "-c", "id"], &["run", "id"], &["--help"]] {
        let said = stage(words, "");
        let text = "caplet: caplet-session is started by caplet-helper alone; to get a session: caplet shell\n";
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(125), "", text), "{words:?}");
    }
}

#[test]
fn a_terminal_is_greeted_in_two_lines_and_nothing_else_is() {
    let greeted = |words: &[&str]| {
        let tree = Tree::recording();
        let pty = openpty(None, None).expect("a terminal");
        let status = as_name(&tree, "caplet-session", words)
            .env("CAPLET_PROFILE", "netlab")
            .env("CAPLET_SCOPE", "isolated")
            .env("CAPLET_CAPS", "CHOWN,NET_ADMIN")
            .stdin(Stdio::null())
            .stderr(pty.slave)
            .status();
        assert!(status.expect("caplet starts").success());
        let mut text = [0; 1024];
        let mut master = std::fs::File::from(pty.master);
        // With nothing written and the other end closed this is EIO.
        let length = master.read(&mut text).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).replace('\r', "")
    };
    assert_eq!(
        greeted(&["--shell=/bin/sh", "--added=NET_ADMIN"]),
        "caplet: session of profile \"netlab\" (isolated); exit ends it\ncaplet: it holds CHOWN; added: NET_ADMIN\n"
    );
    assert_eq!(greeted(&["--shell=/bin/sh", "--quiet"]), "");
}

/// What is not root asks the helper; that is the system tests' part.
#[test]
fn the_login_shell_of_root_is_sh_and_asks_nobody() {
    if !nix::unistd::getuid().is_root() {
        return;
    }
    let tree = Tree::recording();
    for (argv0, name) in [("caplet-shell", "sh"), ("-caplet-shell", "-sh"), ("/usr/bin/caplet-shell", "sh")] {
        let said = said(as_name(&tree, argv0, &["-c", "echo $0; exit 3"]).output().expect("caplet starts"));
        assert_eq!((said.code, said.stdout.trim_end(), said.stderr.as_str()), (Some(3), name, ""));
    }
    assert_eq!(tree.recorded(), None);
}
