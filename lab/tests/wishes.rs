//! `~/.config/caplet/config.toml`: wishes for a login, which come true where the policy grants them, and lock nobody out.

use caplet_lab::{Lab, SharedLab, shared};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.student]
users = ["alice", "bob", "carol", "dave", "erin", "frank"]
login = true

[profile.more]
users = ["alice", "bob", "carol", "erin"]
login = true
may_add = ["NET_ADMIN"]

[profile.one]
users = ["frank"]
login = true
max_sessions = 1

[profile.asks]
users = ["bob"]
login = true
auth = "password"

# Its device is missing: that is found out when the session is built.
[profile.broken]
users = ["erin"]
login = true
devices = ["/dev/no-such-node"]

[profile.fixed]
users = ["dave"]
login = true
shell = "/bin/sh"

[profile.noshell]
users = ["alice"]
may_add = ["NET_ADMIN"]
"#;

fn lab() -> Option<&'static Lab> {
    let lab = shared(&LAB, || {
        let users = ["alice", "bob", "carol", "dave", "erin", "frank"];
        users.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &[])).policy(POLICY)
    })?;
    static READY: std::sync::Once = std::sync::Once::new();
    READY.call_once(|| {
        lab.root(
            "ln -sf caplet /usr/bin/caplet-shell; ln -s caplet-shell /usr/bin/alias-lab; cp /bin/bash /usr/bin/rbash-lab; \
             cd /usr/bin; printf '%s\\n' $PWD/rbash-lab $PWD/caplet-shell $PWD/alias-lab $PWD/gone-lab /etc/passwd >> /etc/shells",
        );
    });
    Some(lab)
}

fn wish(lab: &Lab, user: &str, text: &str) {
    lab.root(&format!(
        "rm -rf /home/{user}/.config; install -d -o {user} /home/{user}/.config /home/{user}/.config/caplet"
    ));
    lab.write(&format!("/home/{user}/.config/caplet/config.toml"), text, 0o600, user);
}

/// What a login's command is told by the kernel and by its environment.
fn login(lab: &Lab, user: &str) -> caplet_lab::Output {
    let line = "grep CapEff /proc/self/status; echo $CAPLET_PROFILE $SHELL";
    lab.task(user, ["/usr/bin/caplet-shell", "-c", line]).env("HOME", format!("/home/{user}")).run()
}

const NONE: &str = "CapEff:\t0000000000000000\nstudent /bin/bash";

#[test]
fn a_wish_that_is_granted_comes_true() {
    let Some(lab) = lab() else { return };
    wish(lab, "alice", "profile = \"more\"\ncap_add = [\"net_admin\"]\nshell = \"/usr/bin/rbash-lab\"\n");
    let out = login(lab, "alice").expect_ok();
    assert_eq!(out.out(), "CapEff:\t0000000000001000\nmore /usr/bin/rbash-lab");
    assert_eq!(out.err(), "");
    // A request of one's own says itself what it wishes; nor is it the session of a login.
    let own = lab.task("alice", ["/usr/bin/caplet-shell", "-c", "caplet run -p noshell grep CapEff /proc/self/status"]);
    let own = own.env("HOME", "/home/alice").run().expect_ok();
    assert_eq!(own.out(), "CapEff:\t0000000000000000");
    let shell = lab.task("alice", ["caplet", "shell", "--quiet", "-p", "noshell"]).env("HOME", "/home/alice");
    assert_eq!(shell.stdin("echo $SHELL $CAPLET_PROFILE\n").run().out(), "/bin/bash noshell");
}

/// What somebody at a terminal reads until the login's command runs. Standard input is none, or a password could be
/// asked for.
fn screen(lab: &Lab, user: &str) -> String {
    let line = "exec caplet-shell -c 'echo in-$CAPLET_PROFILE' </dev/null";
    let mut terminal = lab.task(user, ["bash", "-c", line]).env("HOME", format!("/home/{user}")).terminal(24, 300);
    let screen = terminal.expect("in-student");
    assert_eq!(terminal.wait().code(), Some(0));
    screen
}

#[test]
fn what_is_refused_or_faulty_costs_the_wish_and_not_the_login() {
    let Some(lab) = lab() else { return };
    for (text, said) in [
        ("profile = \"more\"\ncap_add = [\"SYS_ADMIN\"]\n", ": SYS_ADMIN is not yours to add in profile \"more\""),
        ("profile = \"nosuch\"\n", ": profile \"nosuch\" is not yours here and now"),
        ("cap_add = [\"KILL\"]\ncap_drop = [\"KILL\"]\n", ": KILL is in both"),
        ("\n profil = \"more\"\n", ":2:2: unknown key \"profil\""),
        ("profile = \n", ":1:"),
        // It asks for a password, and there is nobody to ask.
        ("profile = \"asks\"\n", ": a password is needed for profile \"asks\", and -n forbids to ask for it"),
    ] {
        wish(lab, "bob", text);
        let out = login(lab, "bob").expect_ok();
        assert_eq!((out.out().as_str(), out.err().as_str()), (NONE, ""), "not a word into a program's stream: {text}");
        let screen = screen(lab, "bob");
        assert!(screen.starts_with(&format!("caplet: ~/.config/caplet/config.toml{said}")), "{text}: {screen}");
        assert!(screen.ends_with("; this login goes on without these wishes\r\nin-student"), "{text}: {screen}");
        assert_eq!(screen.lines().count(), 2, "it is told once: {text}: {screen}");
    }
}

#[test]
fn a_shell_that_is_none_costs_the_wish_and_not_the_login() {
    let Some(lab) = lab() else { return };
    for (shell, said) in [
        ("/usr/bin/vi", "is none of this machine's, which are in /etc/shells"),
        // All of these stand there.
        ("/usr/bin/gone-lab", "is not there"),
        ("/etc/passwd", "cannot be executed: Permission denied"),
        ("/usr/bin/caplet-shell", "is caplet itself, and this is its session already"),
        ("/usr/bin/alias-lab", "is caplet itself, and this is its session already"),
    ] {
        wish(lab, "bob", &format!("shell = \"{shell}\"\n"));
        let out = login(lab, "bob").expect_ok();
        assert_eq!((out.out().as_str(), out.err().as_str()), (NONE, ""), "{shell}");
        let line =
            format!("caplet: ~/.config/caplet/config.toml: shell {shell} {said}; this login goes on with /bin/bash");
        assert_eq!(screen(lab, "bob"), format!("{line}\r\nin-student"));
    }
}

#[test]
fn nothing_at_its_place_holds_a_login() {
    let Some(lab) = lab() else { return };
    let place = "/home/carol/.config/caplet/config.toml";
    for (made, said) in [
        (format!("mkfifo {place}"), "it is no regular file"),
        (format!("mkdir {place}"), "it is no regular file"),
        (format!("ln -s /dev/zero {place}"), "it is no regular file"),
        (format!("ln -s {place} {place}"), "Too many symbolic links encountered"),
        (format!("ln -s /etc/shadow {place}"), "Permission denied"),
        (format!("yes '#' | head -c 65537 > {place}"), "it is larger than 64 KiB"),
        (
            format!("echo 'profile = \"more\"' > {place}; chown bob {place}; chmod 644 {place}"),
            "it belongs to somebody else",
        ),
    ] {
        wish(lab, "carol", "");
        lab.root(&format!("rm {place}; {made}")).expect_ok();
        let out = login(lab, "carol").expect_ok();
        assert_eq!((out.out().as_str(), out.err().as_str()), (NONE, ""), "{made}");
        let line = format!(
            "caplet: ~/.config/caplet/config.toml cannot be read: {said}; this login goes on without these wishes"
        );
        assert_eq!(screen(lab, "carol"), format!("{line}\r\nin-student"), "{made}");
    }
    // What is right is read: the same text of carol's own.
    wish(lab, "carol", "profile = \"more\"\n");
    assert!(login(lab, "carol").expect_ok().out().contains("more /bin/bash"));
}

#[test]
fn a_profile_that_has_no_place_left_costs_the_wish_and_not_the_login() {
    let Some(lab) = lab() else { return };
    wish(lab, "frank", "profile = \"one\"\n");
    let line = "echo in-$CAPLET_PROFILE; exec sleep 60";
    let first = lab.task("frank", ["/usr/bin/caplet-shell", "-c", line]).env("HOME", "/home/frank").spawn();
    first.wait_for("in-one");
    assert_eq!(login(lab, "frank").expect_ok().out(), NONE);
    assert!(screen(lab, "frank").contains(": you have a session already, and the profile allows no second one"));
    // Only what is wished for a login asks so: elsewhere a dry run is the policy's word alone.
    lab.sh("frank", "caplet run --dry-run -p one id").expect_ok();
}

/// What no judge foresees ends the login; a request of one's own has no wishes, and is the way back.
#[test]
fn a_wish_that_fails_later_can_be_taken_back() {
    let Some(lab) = lab() else { return };
    wish(lab, "erin", "profile = \"broken\"\n");
    assert!(login(lab, "erin").expect_code(125).err().contains("/dev/no-such-node"));
    let back = "caplet run -p student rm .config/caplet/config.toml";
    lab.task("erin", ["/usr/bin/caplet-shell", "-c", back]).env("HOME", "/home/erin").run().expect_ok();
    assert_eq!(login(lab, "erin").expect_ok().out(), NONE);
}

#[test]
fn a_shell_that_the_policy_names_stays() {
    let Some(lab) = lab() else { return };
    wish(lab, "dave", "profile = \"fixed\"\nshell = \"/usr/bin/rbash-lab\"\n");
    assert_eq!(login(lab, "dave").expect_ok().out(), "CapEff:\t0000000000000000\nfixed /bin/sh");
}

#[test]
fn root_gets_its_shell_and_nothing_else() {
    let Some(lab) = lab() else { return };
    lab.root("install -d /root/.config/caplet; echo 'profil = \"more\"' > /root/.config/caplet/config.toml");
    let task = || lab.task("root", ["/usr/bin/caplet-shell", "-c", "echo $0-$CAPLET_PROFILE"]).env("HOME", "/root");
    let out = task().run().expect_ok();
    assert_eq!((out.out().as_str(), out.err().as_str()), ("sh-", ""));
    // Not even looked at, or the fault would be told.
    assert_eq!(task().terminal(24, 200).expect("sh-"), "sh-");
}
