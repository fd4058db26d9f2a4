//! Every way in that runs a login shell, taken as a person takes it; what came of it is the kernel's word.

use caplet_lab::{Inside, Lab, PROBE, Running, SSH, SharedLab, Terminal, need, shared};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.editors]
users = ["stays", "stayslost"]
network = "host"
login = true
linger = true

[profile.student]
groups = ["students"]
network = "host"
login = true
"#;

/// One for each test: who logs in elsewhere does not disturb.
const USERS: [&str; 14] = [
    "pass",
    "sudash",
    "login",
    "cron",
    "master",
    "moved",
    "kept",
    "copyid",
    "lost",
    "lostmon",
    "lostpty",
    "code",
    "stays",
    "stayslost",
];

fn lab() -> Option<&'static Lab> {
    let lab = shared(&LAB, || {
        let lab = USERS.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &["students"]));
        lab.user("dora", &[]).policy(POLICY)
    })?;
    static READY: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let ready = || {
        lab.login_shells(&USERS);
        lab.sshd(&USERS, "")
    };
    READY.get_or_init(ready).then_some(lab)
}

/// What a client does that has no key yet.
const BY_PASSWORD: &str = "-F none -o HostKeyAlias=lab -o UserKnownHostsFile=/home/dora/known -o LogLevel=ERROR \
    -o PubkeyAuthentication=no -o NumberOfPasswordPrompts=1 -o PreferredAuthentications=password";

const PASSWORD: &str = "correct horse";

/// The prompt of the shell inside, after which `expect` waits for nothing that was merely typed.
fn prompt(terminal: &mut Terminal) {
    terminal.send("PS1='in''> '\n");
    terminal.expect("in> ");
}

/// Types the probe and reads what it says.
fn probe(terminal: &mut Terminal) -> Inside {
    terminal.send(&format!("{PROBE}\n"));
    terminal.expect("probe-begins");
    let text = terminal.expect("probe-ends");
    terminal.expect("in> ");
    Inside::of(&format!("probe-begins{text}"))
}

/// Every session of this user's has ended, and the log says so; how many there were.
fn all_ended(lab: &Lab, user: &str) -> usize {
    let ids = |event: &str| -> BTreeSet<String> {
        lab.log().find(event, &[("user", user)]).iter().map(|record| record.field("id")).collect()
    };
    let granted = ids("grant");
    assert!(lab.until(|| ids("end") == granted), "granted {granted:?}, ended {:?}", ids("end"));
    granted.len()
}

#[test]
fn a_password_over_ssh_opens_a_session_and_a_wrong_one_nothing() {
    let Some(lab) = lab() else { return };
    lab.set_password("pass", PASSWORD);
    // ssh takes the first value that it reads of an option.
    let ssh = |options: &str, command: &str| {
        let line = format!("exec ssh {options} {BY_PASSWORD} pass@127.0.0.1 {command}");
        lab.task("dora", ["bash", "-c", &line]).terminal(30, 100)
    };
    let mut wrong = ssh("", "");
    wrong.expect("assword: ");
    wrong.send("battery staple\n");
    assert_eq!(wrong.wait().code(), Some(255));
    assert_eq!(lab.log().find("grant", &[("user", "pass")]).len(), 0);

    // Both ways in which sshd asks for it.
    let mut terminal = ssh("-o PreferredAuthentications=keyboard-interactive", "");
    terminal.expect("assword: ");
    terminal.send(&format!("{PASSWORD}\n"));
    terminal.expect("session of profile \"student\" (isolated); exit ends it");
    prompt(&mut terminal);
    probe(&mut terminal).is_session_of(lab, "pass");
    terminal.send("exit 7\n");
    assert_eq!(terminal.wait().code(), Some(7));

    // A command without a terminal over there.
    let mut terminal = ssh("", &format!("'{PROBE}; exit 9'"));
    terminal.expect("assword: ");
    terminal.send(&format!("{PASSWORD}\n"));
    let text = terminal.expect("probe-ends");
    Inside::of(&text).is_session_of(lab, "pass");
    assert_eq!(terminal.wait().code(), Some(9));
    assert_eq!(all_ended(lab, "pass"), 2);
}

/// From root, and from another user who knows the password; with the dash and without; a line and a terminal.
#[test]
fn su_lands_inside_however_it_is_called() {
    need!("su", "runuser");
    let Some(lab) = lab() else { return };
    let line = format!("{PROBE}; {PROBE}; echo $PWD $0; exit 5");
    for (words, last) in [
        (&["su", "-", "sudash", "-c", &line][..], "/home/sudash -bash"),
        (&["su", "-l", "sudash", "-c", &line], "/home/sudash -bash"),
        (&["su", "-", "-c", &line, "sudash"], "/home/sudash -bash"),
        (&["runuser", "-l", "sudash", "-c", &line], "/home/sudash -bash"),
        // Where root was: an empty folder of that name.
        (&["su", "sudash", "-c", &line], "/root bash"),
    ] {
        let out = lab.task("root", words).run().expect_code(5);
        let both = Inside::all(&out.out());
        assert_eq!(both.len(), 2, "{words:?}: {out}");
        both.iter().for_each(|inside| inside.is_session_of(lab, "sudash"));
        assert_eq!(both[0].namespace("pid"), both[1].namespace("pid"), "one line, one session");
        assert_eq!(out.out().lines().last(), Some(last), "{words:?}");
    }
    lab.set_password("sudash", PASSWORD);
    for (words, login) in [(&["su", "-", "sudash"][..], "on"), (&["su", "sudash"], "off")] {
        for user in ["root", "dora"] {
            let mut terminal = lab.task(user, words).terminal(24, 80);
            if user == "dora" {
                terminal.expect("assword: ");
                terminal.send(&format!("{PASSWORD}\n"));
            }
            terminal.expect("exit ends it");
            prompt(&mut terminal);
            probe(&mut terminal).is_session_of(lab, "sudash");
            terminal.send("shopt login_shell; cat | cat; exit 3\n");
            terminal.expect(&format!("login_shell    \t{login}"));
            terminal.send("\u{4}");
            assert_eq!(terminal.wait().code(), Some(3), "{words:?} of {user}");
        }
    }
    assert_eq!(all_ended(lab, "sudash"), 9);
}

#[test]
fn login_with_a_password_on_a_terminal_is_a_session() {
    need!("login");
    let Some(lab) = lab() else { return };
    lab.set_password("login", PASSWORD);
    let mut terminal = lab.task("root", ["login"]).env("TERM", "linux").terminal(24, 80);
    terminal.expect("login: ");
    terminal.send("login\n");
    terminal.expect("assword: ");
    terminal.send("wrong\n");
    terminal.expect("Login incorrect");
    terminal.expect("login: ");
    terminal.send("login\n");
    terminal.expect("assword: ");
    terminal.send(&format!("{PASSWORD}\n"));
    terminal.expect("session of profile \"student\" (isolated); exit ends it");
    prompt(&mut terminal);
    probe(&mut terminal).is_session_of(lab, "login");
    terminal.send("echo $0 $HOME $PWD $TERM; shopt login_shell\n");
    terminal.expect("-bash /home/login /home/login linux\r\n");
    terminal.expect("login_shell    \ton");
    terminal.send("logout\n");
    terminal.wait();
    assert_eq!(all_ended(lab, "login"), 1);
}

/// A crontab that names the login shell. `@reboot` is what the daemon does as it starts: no minute to wait for.
#[test]
fn a_cron_job_with_the_login_shell_is_a_session() {
    need!("crontab");
    let Some(lab) = lab() else { return };
    let Some(daemon) = ["/usr/sbin/cron", "/usr/sbin/crond"].into_iter().find(|path| caplet_lab::have(path)) else {
        caplet_lab::skip!("there is no cron daemon");
    };
    // The percent sign is crontab(5)'s own: what follows is the standard input.
    let table = format!(
        "SHELL=/usr/bin/caplet-shell\n@reboot {PROBE} >job 2>&1; read x; echo \"$x $PWD\" >>job; mv job done%typed\n"
    );
    let table = lab.task("root", ["crontab", "-u", "cron", "-"]).stdin(table).run();
    table.expect_ok();
    let foreground = if daemon.ends_with("crond") { "-n" } else { "-f" };
    let mut running = lab.task("root", [daemon, foreground]).spawn();
    assert!(lab.until(|| lab.exists("/home/cron/done")), "{:?} {}", lab.processes(), running.err_so_far());
    let job = lab.read("/home/cron/done");
    Inside::of(&job).is_session_of(lab, "cron");
    assert_eq!(job.lines().last(), Some("typed /home/cron"), "{job}");
    assert_eq!(all_ended(lab, "cron"), 1);
    running.signal(Signal::SIGKILL);
    running.wait();
}

/// Ten at once over one connection: ten sessions of their own, with a line for the start and the end of each.
#[test]
fn ten_sessions_over_one_connection_are_ten_sessions() {
    let Some(lab) = lab() else { return };
    let line = format!("exec ssh {SSH} -M -S /home/dora/master -N master@127.0.0.1");
    let mut master = lab.task("dora", ["bash", "-c", &line]).spawn();
    assert!(lab.until(|| lab.exists("/home/dora/master")), "{}", master.err_so_far());
    let through = format!("exec ssh {SSH} -S /home/dora/master master@127.0.0.1 '{PROBE}; read code; exit $code'");
    let mut clients: Vec<_> =
        (0..10).map(|_| lab.task("dora", ["bash", "-c", &through]).stdin_open().spawn()).collect();
    let mut spaces = BTreeSet::new();
    for client in &clients {
        client.wait_for("probe-ends");
        let inside = Inside::of(&client.out_so_far());
        inside.is_session_of(lab, "master");
        spaces.extend(["user", "mnt", "pid"].map(|name| inside.namespace(name).to_owned()));
    }
    assert_eq!(spaces.len(), 30, "three namespaces of its own for each: {spaces:?}");
    assert_eq!(lab.log().find("grant", &[("user", "master")]).len(), 10);
    assert_eq!(lab.log().find("end", &[("user", "master")]).len(), 0, "all ten are open");
    let running = lab.run_as("master", ["caplet", "sessions", "--json"]).expect_ok().out();
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&running).map(|all| all.len()).ok(), Some(10));
    for (code, client) in clients.iter_mut().enumerate() {
        use std::io::Write;
        let mut stdin = client.stdin.take().expect("open");
        writeln!(stdin, "{}", 20 + code).expect("it reads");
    }
    for (code, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.wait().code(), Some(20 + i32::try_from(code).expect("small")));
    }
    assert_eq!(all_ended(lab, "master"), 10);
    let statuses: BTreeSet<String> =
        lab.log().find("end", &[("user", "master")]).iter().map(|end| end.field("status")).collect();
    assert_eq!(statuses, (20..30).map(|code| format!("exit:{code}")).collect());
    master.signal(Signal::SIGKILL); // ssh(1) now and then misses a SIGTERM
    master.wait();
}

/// The tools' servers are inside: none of them finds what lies in the machine's own /tmp, and what they leave in theirs
/// is gone with the session.
#[test]
fn every_transfer_runs_inside() {
    need!("scp", "sftp", "rsync", "git");
    let Some(lab) = lab() else { return };
    lab.root("umask 022; echo outside >/tmp/bait; git init -q --bare /tmp/bait.git; chown -R moved: /tmp/bait.git");
    lab.sh("moved", "cat /tmp/bait && git ls-remote /tmp/bait.git").expect_ok();
    let mut tried = 0;
    for line in [
        "scp OPTIONS moved@127.0.0.1:/tmp/bait fetched",
        "scp -O OPTIONS moved@127.0.0.1:/tmp/bait fetched",
        "echo 'get /tmp/bait fetched' | sftp -b - OPTIONS moved@127.0.0.1",
        "rsync -e 'ssh OPTIONS' moved@127.0.0.1:/tmp/bait fetched",
        "GIT_SSH_COMMAND='ssh OPTIONS' git clone moved@127.0.0.1:/tmp/bait.git fetched",
        "ssh OPTIONS moved@127.0.0.1 git-upload-pack /tmp/bait.git </dev/null",
        "ssh OPTIONS moved@127.0.0.1 'cat /tmp/bait'",
    ] {
        let out = lab.sh("dora", &line.replace("OPTIONS", SSH));
        let said = out.out() + &out.err();
        assert!(!out.ok() && !said.contains("outside"), "{line}: {out}");
        // It was the session that said no, not the connection.
        let refused = ["No such file", "does not appear to be a git repository", "not found"];
        assert!(refused.iter().any(|no| said.contains(no)), "{line}: {out}");
        assert!(!lab.exists("/home/dora/fetched"), "{line}");
        tried += 1;
    }
    for line in [
        "scp -q OPTIONS word moved@127.0.0.1:/tmp/left",
        "scp -q -O OPTIONS word moved@127.0.0.1:/tmp/left",
        "echo 'put word /tmp/left' | sftp -q -b - OPTIONS moved@127.0.0.1",
        "rsync -e 'ssh OPTIONS' word moved@127.0.0.1:/tmp/left",
    ] {
        lab.sh("dora", &format!("echo x >word; {}", line.replace("OPTIONS", SSH))).expect_ok();
        assert!(!lab.exists("/tmp/left"), "{line}");
        tried += 1;
    }
    assert_eq!(all_ended(lab, "moved"), tried);
}

#[test]
fn a_repository_over_ssh_is_cloned_and_pushed_to() {
    need!("git");
    let Some(lab) = lab() else { return };
    lab.sh("kept", "git init -q --bare course.git").expect_ok();
    let id = "-c user.name=d -c user.email=d@e -c init.defaultBranch=main";
    let line = format!(
        "set -e; export GIT_SSH_COMMAND='ssh {SSH}'; git clone -q kept@127.0.0.1:course.git one; cd one; \
         head -c 3000000 /dev/urandom >big; git add big; git {id} commit -qm first; git push -q origin HEAD:main; \
         cd ..; git clone -q -b main kept@127.0.0.1:course.git two; cmp one/big two/big; \
         cd two; echo b >b; git add b; git {id} commit -qm second; git push -q origin HEAD:main; cd ../one; \
         git pull -q origin main; cat b"
    );
    assert_eq!(lab.sh("dora", &line).expect_ok().out(), "b");
    let log = lab.sh("kept", "git --git-dir=course.git log --format=%s main").expect_ok().out();
    assert_eq!(log, "second\nfirst");
    assert_eq!(all_ended(lab, "kept"), 5);
}

/// With the password, as somebody does whose key is not there yet; then with the key alone.
#[test]
fn ssh_copy_id_brings_a_key_that_lets_in() {
    need!("ssh-copy-id");
    let Some(lab) = lab() else { return };
    lab.set_password("copyid", PASSWORD);
    lab.root("rm -r /home/copyid/.ssh");
    lab.sh("dora", "ssh-keygen -q -t ed25519 -N '' -f second; mkdir -p .ssh").expect_ok();
    assert_eq!(lab.ssh("copyid", "true").code(), 255);
    let options = BY_PASSWORD.replace("-F none ", "").replace("-o PubkeyAuthentication=no ", "");
    let line = format!("exec ssh-copy-id -i second.pub {options} copyid@127.0.0.1");
    let mut terminal = lab.task("dora", ["bash", "-c", &line]).terminal(24, 100);
    terminal.expect("assword: ");
    terminal.send(&format!("{PASSWORD}\n"));
    terminal.expect("Number of key(s) added: 1");
    assert_eq!(terminal.wait().code(), Some(0));
    assert_eq!(
        lab.root("stat -c '%U %a' /home/copyid/.ssh /home/copyid/.ssh/authorized_keys").out(),
        "copyid 700\ncopyid 600"
    );
    let second = SSH.replace("/home/dora/key", "/home/dora/second");
    let out = lab.sh("dora", &format!("ssh {second} copyid@127.0.0.1 {PROBE}")).expect_ok();
    Inside::of(&out.out()).is_session_of(lab, "copyid");
    all_ended(lab, "copyid");
}

/// sshd's process of that connection.
fn sshd_of(lab: &Lab, user: &str, monitor: bool) -> i32 {
    let owner = if monitor { "root" } else { user };
    let of_it =
        |line: &&str| line.contains(&format!("sshd: {user}")) || line.contains(&format!("sshd-session: {user}"));
    let listed = lab.root(&format!("ps -o pid=,args= -u {owner}")).out();
    let found: Vec<&str> = listed.lines().filter(of_it).filter(|l| l.contains("[priv]") == monitor).collect();
    let [line] = found[..] else { panic!("{found:?} in {listed}") };
    line.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a pid")
}

/// kill -9 of sshd's own processes while a command runs: nothing of the session is left, with a terminal and without.
#[test]
fn when_sshd_is_killed_nothing_is_left() {
    let Some(lab) = lab() else { return };
    // Deaf, and with a child in a session of its own.
    let line = "trap \"\" HUP TERM PIPE INT; (setsid nohup sleep 4711 >/dev/null 2>&1 &); sleep 4711 & \
        echo re\"\"ady; while :; do sleep 1; done";
    // The root half alone does not end a connection: the other one goes on with it.
    for (user, tty, halves) in
        [("lost", "-T", &[false][..]), ("lostmon", "-T", &[true, false]), ("lostpty", "-tt", &[false])]
    {
        let client = format!("exec ssh {SSH} {tty} {user}@127.0.0.1 '{line}'");
        let mut client = lab.task("dora", ["bash", "-c", &client]).stdin_open().spawn();
        client.wait_for("ready");
        assert!(lab.until(|| lab.pids_of(user, "sleep").len() >= 2));
        let grant = lab.log().wait("grant", &[("user", user)]);
        let id = grant.field("id");
        let recorded = || lab.sh("root", &format!("grep -q {id} /run/caplet/*")).ok();
        assert!(recorded());
        for monitor in halves {
            lab.root(&format!("kill -KILL {}", sshd_of(lab, user, *monitor)));
        }
        assert_eq!(client.wait().code(), Some(255));
        assert!(lab.until(|| lab.pids_of(user, "").is_empty()), "{user}: {:?}", lab.processes());
        let end = lab.log().wait("end", &[("user", user), ("id", &id)]);
        assert!(end.field("status").starts_with("signal:"), "{}", end.text());
        assert!(lab.until(|| !recorded()), "{}", lab.root("cat /run/caplet/*").out());
        // What the session had of root's: its guard, and its mounts, which live as long as a process in their namespace.
        assert!(lab.until(|| !lab.root("ps -u 0 -o args").out().contains("4711")));
    }
    assert_eq!(lab.mounts_left(), Vec::<std::path::PathBuf>::new());
}

/// A server as remote editors leave it behind: of its own session, no parent, no terminal; it answers each connection
/// with its count and what the kernel says of it.
const SERVER: &str = r#"
import os, socket, subprocess, sys
s = socket.create_server(("127.0.0.1", 0))
print("listening on", s.getsockname()[1], flush=True)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
null = os.open("/dev/null", os.O_RDWR)
for n in 0, 1, 2: os.dup2(null, n)
count = 0
while True:
    c, _ = s.accept()
    count += 1
    c.sendall(b"answer %d\n" % count + subprocess.run(["/usr/bin/lab-probe"], capture_output=True).stdout)
    c.close()
"#;

/// Through a forwarded port of a connection of its own, as an editor that comes back.
fn through_a_forward(lab: &Lab, user: &str, port: &str) -> String {
    let control = format!("ssh {SSH} -S /home/dora/forward-{user} {user}@127.0.0.1");
    let local = lab.uid(user) + 2000; // each its own
    let forward = format!("-M -f -N -o ExitOnForwardFailure=yes -L {local}:127.0.0.1:{port}");
    let line = format!(
        "{control} {forward} >/dev/null 2>&1 </dev/null || exit; cat </dev/tcp/127.0.0.1/{local}; {control} -O exit 2>/dev/null"
    );
    lab.sh("dora", &line).expect_ok().out()
}

/// Sends the script to `ssh HOST bash` as such a remote does; the client, its connection open, and the server's port.
fn start_server(lab: &Lab, user: &str) -> (Running, String) {
    use std::io::Write;
    let line = format!("exec ssh {SSH} -T {user}@127.0.0.1 bash");
    let mut client = lab.task("dora", ["bash", "-c", &line]).stdin_open().spawn();
    let script = format!(
        "mkdir -p .server\ncat >.server/run.py <<'END'{SERVER}END\n/usr/bin/python3 .server/run.py\necho started\n"
    );
    client.stdin.as_mut().expect("open").write_all(script.as_bytes()).expect("it reads");
    client.wait_for("started");
    let said = client.out_so_far();
    let port = said.split_once("listening on ").and_then(|(_, rest)| rest.split_whitespace().next());
    (client, port.expect("a port").to_owned())
}

/// Found again by its port, it goes on counting, and is where it was: the namespaces are the same each time.
fn answers(lab: &Lab, user: &str, port: &str, counts: std::ops::RangeInclusive<u32>) {
    let mut spaces = BTreeSet::new();
    for count in counts {
        let answer = through_a_forward(lab, user, port);
        assert!(answer.starts_with(&format!("answer {count}\n")), "one and the same server: {answer}");
        let inside = Inside::of(&answer);
        inside.is_session_of(lab, user);
        spaces.insert(inside.namespace("pid").to_owned());
    }
    assert_eq!(spaces.len(), 1, "{spaces:?}");
    assert_eq!(lab.pids_of(user, "python3").len(), 1);
}

/// `ssh HOST bash` with a script on standard input that leaves a server: it is in the session, is found again through a
/// forwarded port as long as that connection lives, and is gone with it.
#[test]
fn a_remote_editors_server_is_found_again_while_its_connection_lives() {
    need!("/usr/bin/python3");
    let Some(lab) = lab() else { return };
    let (mut client, port) = start_server(lab, "code");
    answers(lab, "code", &port, 1..=3);
    assert_eq!(lab.log().find("grant", &[("user", "code")]).len(), 1, "a forward starts no shell");
    drop(client.stdin.take());
    assert_eq!(client.wait().code(), Some(0));
    assert!(lab.until(|| lab.pids_of("code", "").is_empty()), "{:?}", lab.processes());
    assert_ne!(lab.sh("dora", &format!("cat </dev/tcp/127.0.0.1/{port}")).code(), 0);
    assert_eq!(all_ended(lab, "code"), 1);
}

/// With `linger` it stays, whether its connection was closed or lost, in the session that it was left in; it ends with
/// that session, whose `end` is then in the log.
#[test]
fn with_linger_a_remote_editors_server_outlives_its_connection() {
    need!("/usr/bin/python3");
    let Some(lab) = lab() else { return };
    for (user, lost) in [("stays", false), ("stayslost", true)] {
        let (mut client, port) = start_server(lab, user);
        answers(lab, user, &port, 1..=1);
        if lost {
            client.signal(Signal::SIGKILL);
        }
        drop(client.stdin.take());
        client.wait();
        // The shell ends, the server does not.
        assert!(lab.until(|| lab.pids_of(user, "bash").is_empty()), "{:?}", lab.processes());
        answers(lab, user, &port, 2..=4);
        let grant = lab.log().wait("grant", &[("user", user)]);
        let id = grant.field("id");
        assert!(lab.log().find("end", &[("id", &id)]).is_empty());
        assert!(lab.run_as(user, ["caplet", "sessions"]).out().contains(&id));
        lab.run_as(user, ["caplet", "end", &id]).expect_ok();
        assert!(lab.until(|| lab.pids_of(user, "").is_empty()), "{:?}", lab.processes());
        assert_eq!(all_ended(lab, user), 1);
    }
}
