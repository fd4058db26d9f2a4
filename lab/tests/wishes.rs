//! `~/.config/caplet/config.toml`: wishes for a login, which come true where the policy grants them, and lock nobody out.

use caplet_lab::{Lab, SharedLab, shared};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.student]
users = ["alice", "bob", "carol", "dave", "erin"]
login = true

[profile.more]
users = ["alice", "bob", "erin"]
login = true
may_add = ["NET_ADMIN"]

[profile.asks]
users = ["bob"]
login = true
auth = "password"

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
        let users = ["alice", "bob", "carol", "dave", "erin"];
        users.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &[])).policy(POLICY)
    })?;
    static READY: std::sync::Once = std::sync::Once::new();
    READY.call_once(|| {
        lab.root("ln -sf caplet /usr/bin/caplet-shell; cp /bin/bash /usr/bin/rbash-lab; echo /usr/bin/rbash-lab >> /etc/shells");
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

#[test]
fn what_is_refused_or_faulty_costs_the_wish_and_not_the_login() {
    let Some(lab) = lab() else { return };
    for (text, said) in [
        ("profile = \"more\"\ncap_add = [\"SYS_ADMIN\"]\n", "SYS_ADMIN is not yours to add in profile \"more\""),
        ("profile = \"nosuch\"\n", "config.toml: "),
        ("cap_add = [\"KILL\"]\ncap_drop = [\"KILL\"]\n", "KILL is in both"),
        ("profil = \"more\"\n", "config.toml:1: unknown key \"profil\""),
        ("profile = \n", "config.toml:1: "),
        ("shell = \"/usr/bin/vi\"\n", "shell /usr/bin/vi is none of this machine's"),
        // It asks for a password, and there is nobody to ask.
        ("profile = \"asks\"\n", "-n forbids to ask for it"),
    ] {
        wish(lab, "bob", text);
        let out = login(lab, "bob").expect_ok();
        assert_eq!((out.out().as_str(), out.err().as_str()), (NONE, ""), "not a word into a program's stream: {text}");
        // Somebody at a terminal reads why. Standard input is none, or the password could be asked for.
        let line = "exec caplet-shell -c 'echo in-$CAPLET_PROFILE' </dev/null";
        let mut terminal = lab.task("bob", ["bash", "-c", line]).env("HOME", "/home/bob").terminal(24, 200);
        let screen = terminal.expect("in-student");
        assert!(
            screen.contains(said) && screen.contains("this login goes on without these wishes"),
            "{text}: {screen}"
        );
        assert_eq!(terminal.wait().code(), Some(0));
    }
}

#[test]
fn nothing_at_its_place_holds_a_login() {
    let Some(lab) = lab() else { return };
    let place = "/home/carol/.config/caplet/config.toml";
    for made in [
        format!("mkfifo {place}"),
        format!("mkdir {place}"),
        format!("ln -s /dev/zero {place}"),
        format!("ln -s {place} {place}"),
        format!("ln -s /etc/shadow {place}"),
        format!("head -c 1000000 /dev/zero > {place}"),
        format!("echo 'profile = \"more\"' > {place}; chown bob {place}; chmod 644 {place}"),
    ] {
        wish(lab, "carol", "");
        lab.root(&format!("rm {place}; {made}"));
        let out = login(lab, "carol").expect_ok();
        assert_eq!((out.out().as_str(), out.err().as_str()), (NONE, ""), "{made}");
    }
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
    lab.root("install -d /root/.config/caplet; echo 'profile = \"more\"' > /root/.config/caplet/config.toml");
    let out = lab.root("HOME=/root caplet-shell -c 'echo $0-$CAPLET_PROFILE'").expect_ok();
    assert_eq!((out.out().as_str(), out.err().as_str()), ("sh-", ""));
}
