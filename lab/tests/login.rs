//! caplet-shell as a login shell: a real sshd(8), su(1), and what students do with them. attacks.md, part D.

use caplet_lab::{Lab, Output, SharedLab, need, shared};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[defaults]
contact = "lab-admin@example.edu"

[profile.netlab]
users = ["alice"]
user = "root"
may_add = ["NET_ADMIN"]

[profile.student]
users = ["alice", "carol", "erin"]
network = "host"
login = true

[profile.wished]
users = ["erin"]
login = true
may_add = ["NET_ADMIN"]
"#;

/// A machine with an sshd on its loopback, keys of alice's, bob's, carol's and erin's, and caplet-shell as their login shell.
fn lab() -> Option<&'static Lab> {
    if !caplet_lab::have("/usr/sbin/sshd") {
        caplet_lab::record_skip("needs sshd");
        return None;
    }
    let lab = shared(&LAB, || {
        let lab = Lab::new()
            .user("alice", &["students"])
            .user("bob", &[])
            .user("carol", &[])
            .user("dora", &[])
            .user("erin", &[]);
        lab.policy(POLICY).file("/etc/lab-sshd", SSHD, 0o600, "root")
    })?;
    static READY: std::sync::Once = std::sync::Once::new();
    READY.call_once(|| {
        lab.root(
            "sed -i -E '/^(alice|bob|carol|erin):/s#/bin/bash$#/usr/bin/caplet-shell#' /etc/passwd; mkdir -p /run/sshd; \
             ssh-keygen -q -t ed25519 -N '' -f /etc/lab-host; ssh-keygen -q -t ed25519 -N '' -f /home/dora/key; \
             for u in alice bob carol erin; do mkdir -p /home/$u/.ssh; cp /home/dora/key.pub /home/$u/.ssh/authorized_keys; \
             chown -R $u: /home/$u/.ssh; done; chown dora: /home/dora/key; \
             echo \"lab $(cat /etc/lab-host.pub)\" >/home/dora/known; /usr/sbin/sshd -f /etc/lab-sshd -E /var/log/lab-sshd",
        );
    });
    Some(lab)
}

const SSHD: &str = "Port 22\nListenAddress 127.0.0.1\nHostKey /etc/lab-host\nUsePAM yes\nPidFile none\n\
    AcceptEnv LAB_*\nMaxStartups 100\nSubsystem sftp /usr/lib/openssh/sftp-server\n";

const SSH: &str =
    "-i key -o IdentitiesOnly=yes -o HostKeyAlias=lab -o UserKnownHostsFile=known -o BatchMode=yes -o LogLevel=ERROR";

/// dora's client; `HOST` in the line becomes the user at this machine.
fn ssh(lab: &Lab, user: &str, rest: &str) -> Output {
    lab.sh("dora", &format!("ssh {SSH} {user}@127.0.0.1 {rest}"))
}

#[test]
fn a_command_over_ssh_runs_in_the_session_of_the_login_profile() {
    need!("ssh");
    let Some(lab) = lab() else { return };
    let out =
        ssh(lab, "alice", "'echo $CAPLET_PROFILE $CAPLET_SCOPE $0 $SHELL $HOME $PWD; id -un; exit 42'").expect_code(42);
    assert_eq!(out.out(), "student isolated bash /bin/bash /home/alice /home/alice\nalice");
    assert_eq!(out.err(), "", "nothing but what the command says");
    // The kernel's word for it: namespaces of its own, no capability, no way to get one.
    let line = "'readlink /proc/self/ns/user /proc/self/ns/mnt /proc/self/ns/pid; grep -E \"Cap(Eff|Bnd)|NoNew\" /proc/self/status'";
    let inside = ssh(lab, "alice", line).expect_ok().out();
    let outside = lab.root("readlink /proc/self/ns/user /proc/self/ns/mnt /proc/self/ns/pid").out();
    for namespace in outside.lines() {
        assert!(!inside.contains(namespace), "{inside}\n{outside}");
    }
    assert!(inside.contains("CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1"), "{inside}");
    // Other tests log alice in at the same time.
    let known = [("user", "alice"), ("profile", "student"), ("scope", "isolated")];
    let grants = || lab.log().find("grant", &known);
    let with_the_line = || grants().iter().any(|grant| grant.field("command").starts_with("-c "));
    assert!(
        lab.until(with_the_line),
        "no grant with the line: {:?}",
        grants().iter().map(|g| g.text()).collect::<Vec<_>>()
    );
}

// D1: no string of the command decides whether it is isolated
#[test]
fn no_command_line_leads_around_the_session() {
    let Some(lab) = lab() else { return };
    for line in [
        "scp ; echo in-$CAPLET_PROFILE",
        "sftp-server; echo in-$CAPLET_PROFILE",
        "/usr/lib/openssh/sftp-server </dev/null; echo in-$CAPLET_PROFILE",
        "caplet run true; echo in-$CAPLET_PROFILE",
        "caplet-shell -c id; echo in-$CAPLET_PROFILE",
        "exec bash -c \"echo in-\\$CAPLET_PROFILE\"",
        "echo in-$CAPLET_PROFILE # caplet run id",
        "true --login; echo in-$CAPLET_PROFILE",
    ] {
        let out = ssh(lab, "alice", &format!("'{line}'"));
        assert!(out.out().ends_with("in-student"), "{line}: {out}");
    }
}

#[test]
fn pipes_are_clean_and_statuses_are_the_commands() {
    let Some(lab) = lab() else { return };
    let out = lab.sh(
        "dora",
        &format!(
            "head -c 5000000 /dev/urandom >piped; ssh {SSH} alice@127.0.0.1 cat <piped >returned; cmp piped returned && echo same"
        ),
    );
    assert_eq!(out.expect_ok().out(), "same");
    for (line, code) in
        [("exit 7", 7), ("kill -KILL $$", 137), ("no-such-command", 127), ("/etc/passwd", 126), ("true", 0)]
    {
        assert_eq!(ssh(lab, "alice", &format!("'{line}'")).code(), code, "{line}");
    }
    let out = ssh(lab, "alice", "'echo out; echo err >&2'").expect_ok();
    assert_eq!((out.out().as_str(), out.err().as_str()), ("out", "err"));
    // A script on standard input, as some remotes start.
    let out = lab.sh("dora", &format!("echo 'echo $CAPLET_PROFILE; exit 3' | ssh {SSH} alice@127.0.0.1"));
    assert!(out.code() == 3 && out.out().ends_with("student"), "{out}"); // before it stands sshd's motd
}

#[test]
fn an_interactive_login_is_the_users_shell_on_a_terminal_of_its_own() {
    let Some(lab) = lab() else { return };
    let line = format!("exec ssh -tt {SSH} alice@127.0.0.1");
    let mut terminal = lab.task("dora", ["bash", "-c", &line]).terminal(33, 100);
    terminal.expect("session of profile \"student\" (isolated); exit ends it");
    terminal.send("PS1='in''> '\n");
    terminal.expect("in> ");
    terminal.send("echo $0-$SHELL; tty; stty size; shopt login_shell\n");
    let screen = terminal.expect("in> ");
    assert!(
        screen.contains("-bash-/bin/bash\r\n/dev/pts/0\r\n33 100\r\n") && screen.contains("login_shell    \ton"),
        "{screen}"
    );
    terminal.send("sleep 100\n");
    terminal.expect("sleep 100\r\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.send("\u{1a}");
    terminal.expect("Stopped");
    terminal.send("fg\n");
    terminal.expect("sleep 100\r\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.send("\u{3}");
    terminal.expect("in> ");
    terminal.send("exit 9\n");
    assert_eq!(terminal.wait().code(), Some(9));
}

#[test]
fn files_go_over_by_every_usual_way() {
    need!("scp", "sftp", "rsync", "git");
    let Some(lab) = lab() else { return };
    lab.sh("carol", "git init -q --bare repo.git").expect_ok();
    let lines = [
        "scp -q SSH sent carol@127.0.0.1:one && scp -q SSH carol@127.0.0.1:one back && cmp sent back",
        "scp -q -O SSH sent carol@127.0.0.1:two && scp -q -O SSH carol@127.0.0.1:two back && cmp sent back",
        "echo 'put sent three' | sftp -q SSH -b - carol@127.0.0.1 >/dev/null && scp -q SSH carol@127.0.0.1:three back && cmp sent back",
        "rsync -a -e 'ssh SSH' sent carol@127.0.0.1:four && rsync -a -e 'ssh SSH' carol@127.0.0.1:four back && cmp sent back",
        "export GIT_SSH_COMMAND='ssh SSH'; rm -rf w && git init -q w && cd w && echo a >f && git add f && \
         git -c user.name=d -c user.email=d@e commit -qm x && GIT_SSH_COMMAND=\"cd ..; ssh SSH\" true; \
         GIT_SSH_COMMAND='ssh ABSSSH' git push -q carol@127.0.0.1:repo.git HEAD:refs/heads/m && \
         GIT_SSH_COMMAND='ssh ABSSSH' git ls-remote carol@127.0.0.1:repo.git | grep refs/heads/m",
    ];
    lab.sh("dora", "head -c 300000 /dev/urandom >sent").expect_ok();
    let absolute = SSH.replace("-i key", "-i /home/dora/key").replace("=known", "=/home/dora/known");
    for line in lines {
        let line = line
            .replace("ABSSSH", &absolute)
            .replace("SSH ", &format!("{SSH} "))
            .replace("ssh SSH'", &format!("ssh {SSH}'"));
        lab.sh("dora", &line).expect_ok();
    }
    let owners = lab.root("stat -c %U /home/carol/one /home/carol/two /home/carol/three /home/carol/four").out();
    assert_eq!(owners, "carol\ncarol\ncarol\ncarol");
}

#[test]
fn su_lands_in_the_session_too() {
    let Some(lab) = lab() else { return };
    for (words, wanted) in [
        (&["su", "-", "alice", "-c", "echo a; echo $CAPLET_PROFILE-$0"][..], "a\nstudent--bash"),
        (&["su", "alice", "-c", "echo a; echo $CAPLET_PROFILE-$0"], "a\nstudent-bash"),
        (&["runuser", "-l", "alice", "-c", "echo $CAPLET_PROFILE"], "student"),
    ] {
        let out = lab.task("root", words).run().expect_ok();
        assert_eq!(out.out(), wanted, "{words:?}");
    }
}

#[test]
fn a_request_of_ones_own_over_ssh_is_one_session_and_not_two() {
    let Some(lab) = lab() else { return };
    let out = ssh(lab, "alice", "caplet run --quiet --cap-add NET_ADMIN -- cat /proc/self/status");
    assert!(out.expect_ok().out().contains("CapEff:\t00000000a80435fb"));
    // What an editor inside starts for a line is no login shell.
    assert_eq!(ssh(lab, "alice", "caplet run --quiet printenv SHELL").expect_ok().out(), "/bin/bash");
    let out = ssh(lab, "alice", "caplet run -p netlab --cap-add SYS_ADMIN id").expect_code(125);
    assert!(out.err().contains("SYS_ADMIN is not yours to add in profile \"netlab\""), "{out}");
    // More than plain words: the shell inside reads it, and says how to have it.
    let out = ssh(lab, "alice", "'caplet run --cap-add NET_ADMIN id; echo after'");
    assert!(out.err().contains("this session is fixed"), "{out}");
    assert!(out.out().ends_with("after"), "{out}");
}

/// `config.toml`, as sshd(8) starts a login shell.
#[test]
fn wishes_are_for_the_login_and_not_for_a_request_of_ones_own() {
    let Some(lab) = lab() else { return };
    let config = |text: &str| {
        lab.root("install -d -o erin /home/erin/.config /home/erin/.config/caplet");
        lab.write("/home/erin/.config/caplet/config.toml", text, 0o600, "erin");
    };
    let held = "'grep CapEff /proc/self/status; echo $CAPLET_PROFILE'";
    config("profile = \"wished\"\ncap_add = [\"NET_ADMIN\"]\n");
    assert_eq!(ssh(lab, "erin", held).expect_ok().out(), "CapEff:\t0000000000001000\nwished");
    let own = ssh(lab, "erin", "caplet run --quiet -- grep CapEff /proc/self/status");
    assert_eq!(own.expect_ok().out(), "CapEff:\t0000000000000000");
    // Refused: nothing disturbs a stream, and a terminal is told.
    config("cap_add = [\"SYS_ADMIN\"]\n");
    let out = ssh(lab, "erin", held).expect_ok();
    assert_eq!((out.out().as_str(), out.err().as_str()), ("CapEff:\t0000000000000000\nstudent", ""));
    lab.sh("dora", &format!("echo a >wishful; scp -q {SSH} wishful erin@127.0.0.1:got")).expect_ok();
    assert_eq!(lab.read("/home/erin/got"), "a\n");
    let line = format!("exec ssh -tt {SSH} erin@127.0.0.1");
    let mut terminal = lab.task("dora", ["bash", "-c", &line]).terminal(24, 300);
    terminal.expect("caplet: ~/.config/caplet/config.toml: no profile of yours");
    terminal.expect("this login goes on without these wishes");
    terminal.send("echo in-$CAPLET_PROFILE; exit 4\n");
    terminal.expect("in-student");
    assert_eq!(terminal.wait().code(), Some(4));
}

#[test]
fn it_fails_closed_and_root_always_gets_in() {
    let Some(lab) = lab() else { return };
    for rest in ["id", "", "-tt id"] {
        let out = ssh(lab, "bob", rest);
        assert_eq!(out.code(), 125, "{out}");
        let said = out.out() + &out.err();
        assert!(
            said.contains("caplet: no profile of this machine is yours") && said.contains("ask: lab-admin@example.edu"),
            "{said}"
        );
        assert!(!said.contains("uid="), "{said}");
    }
    let Some(other) = Lab::new().user("alice", &[]).policy("[profile.p]\nusers = [\"alice\"]\n").start() else {
        return;
    };
    let shell = |user: &str, words: &[&str]| other.run_as(user, [&["/usr/bin/caplet-shell"], words].concat());
    let out = shell("alice", &["-c", "id"]).expect_code(125);
    assert!(out.err().contains("no profile of yours is for logins (yours: p)") && out.out().is_empty(), "{out}");
    let out = shell("alice", &["-x"]).expect_code(125);
    assert!(out.err().contains("a login shell takes -l and -c COMMAND, not -x"), "{out}");
    other.set_policy("[profile.p]\nusers = [\"alice\"]\nlogin = true\nno_such_key = 1\n");
    let out = shell("alice", &["-c", "id"]).expect_code(125);
    assert!(out.err().contains("the policy of this machine is faulty") && out.out().is_empty(), "{out}");
    // A policy that names caplet-shell as the shell is no loop.
    other.set_policy("[profile.p]\nusers = [\"alice\"]\nlogin = true\nshell = \"/usr/bin/caplet-shell\"\n");
    assert_eq!(shell("alice", &["-c", "echo $0"]).expect_ok().out(), "bash");
    other.root("rm -rf /etc/caplet");
    assert_eq!(shell("root", &["-c", "echo $0-$(id -u)"]).expect_ok().out(), "sh-0");
    shell("alice", &["-c", "id"]).expect_code(125);
}

/// sshd leaves a command without a terminal running when the client is gone; the session ends all the same.
#[test]
fn a_lost_connection_without_a_terminal_ends_the_session_and_caplet_run_outlives_its_parent() {
    let Some(lab) = lab() else { return };
    let line = "'nohup sleep 4711 >/dev/null 2>&1 & setsid sleep 4711 & exec sleep 4711'";
    let mut client =
        lab.task("dora", ["bash", "-c", &format!("exec ssh {SSH} carol@127.0.0.1 {line}")]).stdin_open().spawn();
    let sleeping = || lab.root("pgrep -fc '^sleep 4711' || true").out();
    assert!(lab.until(|| sleeping() == "3"), "{}", sleeping());
    client.signal(nix::sys::signal::Signal::SIGKILL);
    client.wait();
    assert!(lab.until(|| sleeping() == "0"), "{}", sleeping());
    lab.log().wait("end", &[("user", "carol"), ("profile", "student"), ("status", "signal:9")]);
    lab.sh("alice", "(caplet run --quiet -p student sh -c 'sleep 1; echo lived >/home/alice/lived' </dev/null >/dev/null 2>&1 &) ; exit 0").expect_ok();
    assert!(lab.until(|| lab.exists("/home/alice/lived")));
}

/// What `ssh HOST caplet run` starts is the connection's too, unlike `caplet run` at a prompt.
#[test]
fn a_request_of_ones_own_ends_with_its_connection() {
    let Some(lab) = lab() else { return };
    let line = "caplet run --quiet -p netlab sleep 4712";
    let mut client =
        lab.task("dora", ["bash", "-c", &format!("exec ssh {SSH} alice@127.0.0.1 {line}")]).stdin_open().spawn();
    let sleeping = || lab.root("pgrep -fc '^sleep 4712' || true").out();
    assert!(lab.until(|| sleeping() == "1"), "{}", sleeping());
    client.signal(nix::sys::signal::Signal::SIGKILL);
    client.wait();
    assert!(lab.until(|| sleeping() == "0"), "{}", sleeping());
    let end = lab.log().wait("end", &[("user", "alice"), ("profile", "netlab"), ("status", "signal:9")]);
    assert_eq!(end.field("by"), "hangup");
}

// R7: sshd's own socket of this login comes along, and no other
#[test]
fn a_forwarded_agent_comes_along_and_no_other_socket() {
    need!("ssh-agent");
    let Some(lab) = lab() else { return };
    let there = "ssh-add -l; stat -c %a-%u ${SSH_AUTH_SOCK%/*}; readlink /proc/self/ns/mnt";
    let line = format!(
        "eval $(ssh-agent) >/dev/null; ssh-add -q key; ssh-add -l; ssh -A {SSH} alice@127.0.0.1 '{there}'; \
         ssh -A {SSH} alice@127.0.0.1 caplet run --quiet -p netlab ssh-add -l; kill $SSH_AGENT_PID"
    );
    let out = lab.sh("dora", &line).expect_ok().out();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 5 && lines[0].contains("ED25519"), "{out}");
    assert_eq!((lines[1], lines[4]), (lines[0], lines[0]), "the client's keys, in both sessions");
    assert_eq!(lines[2], format!("700-{}", lab.uid("alice")));
    assert_ne!(lines[3], lab.root("readlink /proc/self/ns/mnt").out());
    // Of the same form, the user's own and in such a folder, but nobody's that started this shell.
    let forged = r#"
import os, socket, subprocess
folder = "/tmp/ssh-AAAAbbbb12"
os.mkdir(folder, 0o700)
path = folder + "/agent.%d"
answers = []
def look(sock):
    env = dict(os.environ, SSH_AUTH_SOCK=sock)
    line = "ls -d $SSH_AUTH_SOCK || echo none"
    return subprocess.run(["/usr/bin/caplet-shell", "-c", line], env=env, capture_output=True, text=True).stdout.strip()
listener = socket.socket(socket.AF_UNIX)
listener.bind(path % os.getpid())
listener.listen()
answers.append(look(path % os.getpid()))
# A child that this shell is no child of, as any service of the user's.
other = path % 1
child = os.fork()
if child == 0:
    far = socket.socket(socket.AF_UNIX)
    far.bind(other)
    far.listen()
    os.write(1, b"")
    import time
    time.sleep(60)
while not os.path.exists(other):
    pass
answers.append(look(other))
os.symlink(path % os.getpid(), path % 2)
answers.append(look(path % 2))
os.chmod(folder, 0o755)
answers.append(look(path % os.getpid()))
os.kill(child, 9)
print(answers)
"#;
    assert_eq!(lab.python("carol", forged).expect_ok().out(), "['none', 'none', 'none', 'none']");
}
