//! What a student tries first in a login shell: attacks.md, part D, items 1 to 5 and 7 to 9, a test a row, each named
//! after it. Each attempt is made for real; that it failed is the kernel's word, and a control shows that it could work.

use caplet_lab::{Inside, Lab, Output, PROBE, SSH, SharedLab, need, shared};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.bounded]
users = ["bomber"]
network = "host"
login = true
max_sessions = 2
limits = { nproc = 40, core = 0, fsize = 2048, nofile = 64 }

[profile.apart]
users = ["apart"]
login = true

[profile.student]
groups = ["students"]
network = "host"
login = true
"#;

const USERS: [&str; 8] = ["liner", "apart", "services", "bomber", "other", "peeper", "stayer", "killer"];

fn lab() -> Option<&'static Lab> {
    let lab = shared(&LAB, || {
        let mighty: &[&str] = &["students", "docker", "adm"];
        let groups = |user: &str| if user == "services" || user == "peeper" { mighty } else { &["students"] };
        let lab = USERS.into_iter().fold(Lab::new(), |lab, user| lab.user(user, groups(user)));
        lab.user("dora", &[]).policy(POLICY)
    })?;
    static READY: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let ready = || {
        lab.login_shells(&USERS);
        lab.sshd(&USERS, "")
    };
    READY.get_or_init(ready).then_some(lab)
}

/// A machine of a test's own, for those that change how one gets in: one student, and dora, who is none.
fn own_lab(profile: &str, sshd: &str) -> Option<Lab> {
    let policy = format!("[profile.student]\ngroups = [\"students\"]\nlogin = true\n{profile}");
    let lab = Lab::new().user("student", &["students"]).user("dora", &[]).policy(&policy).start()?;
    lab.login_shells(&["student"]);
    lab.sshd(&["student"], sshd).then_some(lab)
}

/// What the doctor found, one line each.
fn doctor(lab: &Lab) -> BTreeSet<String> {
    with_mends(lab).into_iter().map(|(found, _)| found).collect()
}

/// The same, with the line that mends it.
fn with_mends(lab: &Lab) -> Vec<(String, String)> {
    let out = lab.sh("root", "caplet doctor --json");
    let report: serde_json::Value = serde_json::from_str(&out.out()).unwrap_or_else(|e| panic!("{e}: {out}"));
    assert!(report["users"].as_array().is_some_and(|users| users.iter().any(|user| user == "student")), "{out}");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    report["findings"].as_array().expect("a list").iter().map(|f| (text(&f["found"]), text(&f["mend"]))).collect()
}

/// What the doctor names goes by the line that it says, typed by root.
fn named_and_mended(lab: &Lab, what: &str) {
    let named = with_mends(lab);
    let mends: Vec<&String> = named.iter().filter(|(found, _)| found.contains(what)).map(|(_, mend)| mend).collect();
    assert_eq!(mends.len(), 1, "{what}: {named:?}");
    lab.root(mends[0]).expect_ok();
    let named = doctor(lab);
    assert!(!named.iter().any(|found| found.contains(what)), "{what}: {} does not help: {named:?}", mends[0]);
}

/// Everything that a command said.
fn said(out: &Output) -> String {
    format!("{}\n{}", out.out(), out.err())
}

/// 1: no string of the command decides. Each line below runs the probe, if anything; some run it more than once.
#[test]
fn d1_no_command_line_is_matched_to_be_run_outside() {
    need!("rsync", "scp", "git");
    let Some(lab) = lab() else { return };
    for line in [
        "scp ; PROBE",
        "scp -t /home/liner; PROBE",
        "scp -f /etc/passwd </dev/null; PROBE",
        "sftp-server; PROBE",
        "/usr/lib/openssh/sftp-server </dev/null; PROBE",
        "internal-sftp; PROBE",
        "rsync --server --sender . ; PROBE",
        "git-upload-pack x; PROBE",
        "git-shell -c git-upload-pack; PROBE",
        "caplet-shell -c PROBE; PROBE",
        "/bin/sh .ssh/rc; PROBE",
        "true\nPROBE",
        "exec bash -c \"exec -a -caplet-shell PROBE\"",
        "exec env -i PROBE",
        "env SHELL=/bin/sh USER=root HOME=/root PROBE",
        "bash --noprofile --norc -c PROBE",
        "CAPLET_PROFILE= CAPLET_SCOPE=host PROBE",
    ] {
        let out = lab.ssh("liner", &format!("'{}'", line.replace("PROBE", PROBE)));
        let probes = Inside::all(&out.out());
        assert!(!probes.is_empty(), "{line}: {out}");
        probes.iter().for_each(|inside| inside.is_session_of(lab, "liner"));
    }
    // A shell by another name, reading its lines from standard input; and one on a terminal.
    for rest in ["'scp ; bash -i'", "bash", "'sftp-server; sh'", ""] {
        // sftp-server takes the first packet that is none as its end.
        let text = format!("\n\n\n\n{PROBE}\n{PROBE}\n");
        let out = lab.task("dora", ["bash", "-c", &format!("ssh {SSH} liner@127.0.0.1 {rest}")]).stdin(text).run();
        let probes = Inside::all(&out.out());
        assert!(!probes.is_empty() || rest.starts_with("'sftp"), "{rest}: {out}");
        probes.iter().for_each(|inside| inside.is_session_of(lab, "liner"));
    }
    let out = lab.ssh("liner", &format!("-tt 'bash --noprofile -c {PROBE}'"));
    Inside::of(&out.out()).is_session_of(lab, "liner");

    // What a tool lets its caller name on the other side. The words are read there.
    let probe = |name: &str| format!("{PROBE} >probe-{name} 2>&1");
    for (name, line) in [
        (
            "rsync",
            format!(
                "rsync -e 'ssh {SSH}' --rsync-path='sh -c \"{}\"; rsync' key.pub liner@127.0.0.1:r",
                probe("rsync")
            ),
        ),
        ("scp", format!("scp -O {SSH} key.pub 'liner@127.0.0.1:$({})x'", probe("scp"))),
        (
            "git",
            format!(
                "GIT_SSH_COMMAND='ssh {SSH}' git clone -u '{}; git-upload-pack' liner@127.0.0.1:none",
                probe("git")
            ),
        ),
        (
            "subsystem",
            format!("ssh {SSH} -s liner@127.0.0.1 sftp </dev/null; ssh {SSH} liner@127.0.0.1 '{}'", probe("subsystem")),
        ),
    ] {
        let out = lab.sh("dora", &line);
        let path = format!("/home/liner/probe-{name}");
        assert!(lab.exists(&path), "{line}: {out}");
        Inside::of(&lab.read(&path)).is_session_of(lab, "liner");
    }
}

/// 2: `internal-sftp` never runs the login shell, and the doctor says so; the external server is inside.
#[test]
fn d2_internal_sftp_is_outside_and_named_and_the_external_server_is_inside() {
    need!("sftp");
    let Some(lab) = own_lab("network = \"host\"\n", "") else { return };
    lab.root("echo of-the-machine >/tmp/bait; chmod 644 /tmp/bait");
    let fetch = |lab: &Lab| {
        lab.sh("dora", &format!("echo 'get /tmp/bait got' | sftp -q -b - {SSH} student@127.0.0.1; cat got; rm -f got"))
    };
    let config = |server: &str| {
        lab.root(&format!("sed 's#/usr/lib/openssh/sftp-server#{server}#' /etc/lab-sshd >/etc/ssh/sshd_config"));
        doctor(&lab)
    };
    let out = fetch(&lab);
    assert!(!said(&out).contains("of-the-machine"), "{out}");
    assert_eq!(lab.log().find("grant", &[("user", "student")]).len(), 1);
    assert!(!config("/usr/lib/openssh/sftp-server").iter().any(|found| found.contains("internal-sftp")));

    let found = config("internal-sftp");
    assert!(found.contains("sshd: Subsystem sftp internal-sftp"), "{found:?}");
    lab.root(
        "kill $(pgrep -o -x sshd); sed -i 's#^Port.*#Port 23#' /etc/ssh/sshd_config; /usr/sbin/sshd; \
        for i in $(seq 500); do (: </dev/tcp/127.0.0.1/23) 2>/dev/null && exit; sleep 0.02; done; exit 1",
    );
    let out =
        lab.sh("dora", &format!("echo 'get /tmp/bait got' | sftp -q -b - {SSH} -P 23 student@127.0.0.1; cat got"));
    assert_eq!(out.expect_ok().out().lines().last(), Some("of-the-machine"), "that is why the doctor calls it a fault");
    assert_eq!(lab.log().find("grant", &[("user", "student")]).len(), 1, "no session");
}

/// Of the machine's own, and not the session's: a port of its loopback and a socket in its /run.
const SERVICES: &str = r#"
import os, select, socket
tcp = socket.create_server(("127.0.0.1", 7777))
unix = socket.socket(socket.AF_UNIX); unix.bind("/run/lab.sock"); unix.listen(); os.chmod("/run/lab.sock", 0o666)
print("serves", flush=True)
while True:
    for s in select.select([tcp, unix], [], [])[0]:
        c, _ = s.accept(); c.sendall(b"of-the-machine\n"); c.close()
"#;

/// SOCKS5, as far as a student needs it.
const SOCKS: &str = "import socket\ns=socket.create_connection(('127.0.0.1',7802))\ns.sendall(b'\\x05\\x01\\x00'); s.recv(2)\n\
    s.sendall(b'\\x05\\x01\\x00\\x01\\x7f\\x00\\x00\\x01'+(7777).to_bytes(2,'big'))\nd=b''\n\
    while True:\n b=s.recv(99)\n if not b: break\n d+=b\nprint(d)";

/// 3: what sshd forwards, it forwards outside, past the session's own network: closed by the drop-in, and by nothing else.
#[test]
fn d3_forwarding_leads_around_the_sessions_network_until_the_drop_in_closes_it() {
    need!("/usr/bin/python3");
    let dropin = include_str!("../../etc/ssh/sshd_config.d/caplet.conf");
    let open = "X11Forwarding yes\nXAuthLocation /usr/bin/lab-xauth\n";
    for (closed, config) in [(false, open.to_owned()), (true, format!("{dropin}\n{open}"))] {
        let Some(lab) = own_lab("network = \"private\"\n", &config) else { return };
        lab.write("/usr/bin/lab-xauth", "#!/bin/sh\n", 0o755, "root");
        let server = lab.task("root", ["/usr/bin/python3", "-I", "-c", SERVICES]).limit(300).spawn();
        server.wait_for("serves");
        // The session by itself reaches neither.
        for inside in ["'cat </dev/tcp/127.0.0.1/7777'", "'ls /run/lab.sock'"] {
            let out = lab.ssh("student", inside);
            assert!(!out.ok() && !said(&out).contains("of-the-machine"), "{inside}: {out}");
        }
        let control = format!("ssh {SSH} -o ExitOnForwardFailure=yes -S /home/dora/c student@127.0.0.1");
        let over = |forward: &str, then: &str| {
            format!(
                "{control} -f -N -M {forward} >/dev/null 2>&1 </dev/null || exit; {then}; {control} -O exit 2>/dev/null"
            )
        };
        let read = |port: u16| format!("timeout 20 cat </dev/tcp/127.0.0.1/{port}");
        for line in [
            format!("timeout 20 ssh {SSH} -W 127.0.0.1:7777 student@127.0.0.1 </dev/null"),
            over("-L 7801:127.0.0.1:7777", &read(7801)),
            over("-D 7802", &format!("/usr/bin/python3 -c \"{SOCKS}\"")),
            over("-L 7803:/run/lab.sock", &read(7803)),
            // Listens on the machine's loopback, which the session has nothing of.
            over("-R 7804:127.0.0.1:7777", &read(7804)),
            over("-R /home/student/r.sock:127.0.0.1:7777", "echo of-the-machine"),
            // A display is a port of sshd's as well.
            over(
                "",
                &format!(
                    "DISPLAY=:9 ssh -Y {SSH} student@127.0.0.1 'echo $DISPLAY' | grep -q ':1[0-9]' && echo of-the-machine"
                ),
            ),
        ] {
            let out = lab.sh("dora", &line);
            assert_eq!(said(&out).contains("of-the-machine"), !closed, "drop-in: {closed}: {line}: {out}");
        }
        lab.root("cp /etc/lab-sshd /etc/ssh/sshd_config");
        let found = doctor(&lab);
        for name in ["AllowTcpForwarding yes", "AllowStreamLocalForwarding yes", "X11Forwarding yes"] {
            assert_eq!(found.contains(&format!("sshd: {name}")), !closed, "{found:?}");
        }
        let tunnel = "s#^Port#PermitTunnel yes\\nGatewayPorts yes\\nPort#";
        lab.root(&format!("sed -i '{tunnel}' /etc/ssh/sshd_config"));
        let found = doctor(&lab);
        for name in ["PermitTunnel yes", "GatewayPorts yes"] {
            assert_eq!(found.contains(&format!("sshd: {name}")), !closed, "{found:?}");
        }
        // Through it all, the login itself still works.
        assert!(said(&lab.ssh("student", PROBE)).contains("probe-ends"));
    }
}

const PASSWORD: &str = "correct horse";

/// Types the password, then sees what the probe says.
fn su(lab: &Lab, words: &[&str]) -> String {
    let mut terminal = lab.task("dora", words).terminal(24, 100);
    terminal.expect("assword: ");
    terminal.send(&format!("{PASSWORD}\n"));
    let screen = terminal.expect("probe-ends");
    terminal.wait();
    screen
}

/// 4, the first half: other ways in that run the login shell, or are refused because of it.
#[test]
fn d4_other_ways_in_that_meet_the_login_shell_stay_inside() {
    need!("su", "chsh", "tmux");
    let Some(lab) = own_lab("network = \"host\"\n", "") else { return };
    lab.set_password("student", PASSWORD);
    // Not in /etc/shells: su(1) calls it restricted, and runs it whatever -s says.
    for words in [
        &["su", "student", "-c", PROBE][..],
        &["su", "-s", "/bin/sh", "student", "-c", PROBE],
        &["su", "-", "-s", "/bin/bash", "student", "-c", PROBE],
        &["su", "-m", "-s", "/bin/sh", "student", "-c", PROBE],
    ] {
        let screen = su(&lab, words);
        let probes = Inside::all(&screen);
        assert_eq!(probes.len(), 1, "{words:?}: {screen}");
        probes[0].is_session_of(&lab, "student");
    }
    assert!(!doctor(&lab).iter().any(|found| found.contains("/etc/shells")));
    // chsh: from inside no setuid bit counts, from outside it is a restricted shell too.
    let out = lab.ssh("student", "'chsh -s /bin/bash </dev/null'");
    assert_ne!(out.code(), 0, "{out}");
    let out = lab.run_as("student", ["chsh", "-s", "/bin/bash"]);
    assert!(!out.ok() && said(&out).contains("may not change the shell"), "{out}");
    assert!(lab.read("/etc/passwd").contains(":/home/student:/usr/bin/caplet-shell\n"));

    // ~/.ssh/rc: sshd gives it to the login shell. What it leaves behind is its own session's.
    lab.write("/home/student/.ssh/rc", format!("{PROBE} >/home/student/rc.out\n"), 0o755, "student");
    lab.ssh("student", "true").expect_ok();
    Inside::of(&lab.read("/home/student/rc.out")).is_session_of(&lab, "student");
    // ~/.ssh/environment: not read, by default.
    lab.write("/home/student/.ssh/environment", "LD_PRELOAD=/home/student/evil.so\nLAB=read\n", 0o644, "student");
    assert_eq!(lab.ssh("student", "'echo $LAB$LD_PRELOAD'").expect_ok().out(), "");

    // A terminal server that runs outside: its socket is in the machine's /tmp.
    let line = "tmux -f /dev/null new-session -d 'sleep 1000'; tmux list-sessions";
    assert!(lab.sh("student", line).expect_ok().out().contains("1 windows"));
    let out = lab.ssh("student", "'tmux list-sessions; tmux -S /tmp/tmux-*/default list-sessions'");
    assert!(!out.ok() && out.out().is_empty(), "{out}");
    lab.root("pkill -u student -x 'tmux: server'; true");

    // Listed, -s works: right for added rights, and the doctor says what it means.
    lab.root("echo /usr/bin/caplet-shell >>/etc/shells");
    let screen = su(&lab, &["su", "-s", "/bin/sh", "student", "-c", PROBE]);
    assert!(Inside::of(&screen).is_outside(&lab));
    named_and_mended(&lab, "/usr/bin/caplet-shell stands in /etc/shells");
    // By the folder's other name both it and an account are the same.
    lab.root("echo /bin/caplet-shell >>/etc/shells; usermod -s /bin/caplet-shell student").expect_ok();
    named_and_mended(&lab, "/bin/caplet-shell stands in /etc/shells");
}

/// 4, the second half: ways in that run no login shell at all. From inside none can be opened; that they are open to
/// whoever got outside is the doctor's to say, with the line that closes each.
#[test]
fn d4_ways_in_without_a_login_shell_are_the_doctors_to_name() {
    need!("crontab", "at", "atd");
    let Some(lab) = own_lab("network = \"host\"\n", "") else { return };
    lab.root("cp /etc/lab-sshd /etc/ssh/sshd_config; rm -f /etc/cron.allow /etc/cron.deny /etc/at.allow /etc/at.deny");
    lab.root("touch /etc/at.deny; sed -i 's/user_readenv=1/user_readenv=0/' /etc/pam.d/*");
    let clean = doctor(&lab);
    let names = |what: &str| doctor(&lab).iter().any(|found| found.contains(what));

    // From inside: no setgid bit counts, and the spool is read-only.
    let job = format!(
        "printf \"* * * * * {PROBE}\\n\" | crontab -; echo {PROBE} | at now; \
        cp /etc/passwd /var/spool/cron/crontabs/student; cp /etc/passwd /var/spool/cron/atjobs/a0000000000000"
    );
    let out = lab.ssh("student", &format!("'{job}'"));
    assert_ne!(out.code(), 0, "{out}");
    assert_eq!(lab.root("ls -A /var/spool/cron/crontabs; ls -A /var/spool/cron/atjobs | grep -v SEQ; true").out(), "");

    // From outside, where they are open, the jobs run outside: with /bin/sh, and with any shell that the table names.
    assert!(clean.iter().any(|found| found.contains("crontab is installed")), "{clean:?}");
    assert!(clean.iter().any(|found| found.contains("at is installed")), "{clean:?}");
    let table = format!("@reboot {PROBE} >sh 2>&1; mv sh sh.out\n");
    lab.task("student", ["crontab", "-"]).stdin(table).run().expect_ok();
    // at(1) leaves SHELL out of the job, and runs /bin/sh.
    let at = lab.task("student", ["at", "now"]).env("SHELL", "/usr/bin/caplet-shell");
    at.stdin(format!("{PROBE} >at 2>&1\nmv at at.out\n")).run().expect_ok();
    let cron = if caplet_lab::have("/usr/sbin/cron") { ["/usr/sbin/cron", "-f"] } else { ["/usr/sbin/crond", "-n"] };
    let daemons = [lab.task("root", cron).spawn(), lab.task("root", ["/usr/sbin/atd", "-f"]).spawn()];
    for name in ["sh.out", "at.out"] {
        let path = format!("/home/student/{name}");
        assert!(lab.until(|| lab.exists(&path)), "{name}: {:?}", lab.processes());
        assert!(Inside::of(&lab.read(&path)).is_outside(&lab), "{name}");
    }
    drop(daemons);
    // The doctor's own lines close them, also for what was left before.
    lab.task("student", ["at", "now", "+", "2", "days"]).stdin("id\n").run().expect_ok();
    named_and_mended(&lab, "crontab is installed");
    named_and_mended(&lab, "at is installed");
    named_and_mended(&lab, "student has a table of cron's");
    named_and_mended(&lab, "student has jobs of at's: 2");
    assert_eq!(lab.root("ls -A /var/spool/cron/crontabs; ls -A /var/spool/cron/atjobs | grep -v SEQ; true").out(), "");
    for file in ["/etc/cron.allow", "/etc/at.allow"] {
        assert!(!names(file));
        lab.root(&format!("echo student >>{file}"));
        named_and_mended(&lab, &format!("student is in {file}"));
    }
    assert_ne!(lab.task("student", ["crontab", "-"]).stdin("@reboot id\n").run().code(), 0);
    assert_ne!(lab.task("student", ["at", "now"]).stdin("id\n").run().code(), 0);

    // PID 1's user manager, where the machine has one; what it does is lab/kernels/systemd-inside.sh's to show.
    lab.root(
        "mkdir -p /usr/lib/systemd/system; touch /usr/lib/systemd/system/user@.service; \
         echo 'session optional pam_systemd.so' >>/etc/pam.d/sshd",
    );
    named_and_mended(&lab, "a user manager (systemd --user) starts at each login of: student");
    lab.root("sed -i '$d' /etc/pam.d/sshd");

    // The rest needs what is not on every machine, and is looked for in the files that switch it on.
    for (line, name, undo) in [
        (
            "mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/student",
            "student lingers",
            "rm /var/lib/systemd/linger/student",
        ),
        ("gpasswd -a student adm", "student is in group adm", "gpasswd -d student adm"),
        (
            "sed -i '1iPermitUserEnvironment yes' /etc/ssh/sshd_config",
            "PermitUserEnvironment is on",
            "sed -i 1d /etc/ssh/sshd_config",
        ),
        (
            "echo 'session required pam_env.so user_readenv=1' >>/etc/pam.d/sshd",
            "/etc/pam.d/sshd: pam_env with user_readenv=1",
            "sed -i '$d' /etc/pam.d/sshd",
        ),
        (
            "sed -i '1iPermitUserRC yes' /etc/ssh/sshd_config",
            "PermitUserRC yes",
            "sed -i '1s/yes/no/' /etc/ssh/sshd_config",
        ),
    ] {
        assert!(!names(name) || name.starts_with("PermitUserRC"), "{name}");
        lab.root(line);
        assert!(names(name), "{name}: {:?}", doctor(&lab));
        lab.root(undo);
        assert!(!names(name), "{name}");
    }
}

/// Sockets of services that act for their caller, each of which says whom it serves.
const MIGHTY: &str = r#"
import os, select, socket, sys
uid = int(sys.argv[1])
paths = ["/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", f"/run/user/{uid}/bus",
         f"/run/user/{uid}/systemd/private", "/tmp/lab.sock", "\0/lab/abstract"]
listening = []
for p in paths:
    s = socket.socket(socket.AF_UNIX)
    if p[0] == "/": os.makedirs(os.path.dirname(p), exist_ok=True)
    s.bind(p); s.listen(); listening.append(s)
    if p[0] == "/": os.chmod(p, 0o666)
os.chown(f"/run/user/{uid}", uid, uid)
print("serves", flush=True)
while True: select.select(listening, [], [])[0][0].accept()[0].close()
"#;

const KNOCK: &str = r#"
import os, socket
u = os.getuid()
for p in ["/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", f"/run/user/{u}/bus",
          f"/run/user/{u}/systemd/private", "/tmp/lab.sock", "\0/lab/abstract"]:
    try: socket.socket(socket.AF_UNIX).connect(p); print("reached", repr(p))
    except OSError: pass
"#;

/// 5: services that would act outside for the student.
#[test]
fn d5_services_that_act_outside_are_not_reached() {
    need!("/usr/bin/python3");
    let Some(lab) = lab() else { return };
    let uid = lab.uid("services").to_string();
    let server = lab.task("root", ["/usr/bin/python3", "-I", "-c", MIGHTY, &uid]).limit(300).spawn();
    server.wait_for("serves");
    let knock = |user: &str, inside: bool| {
        lab.write(&format!("/home/{user}/knock.py"), KNOCK, 0o644, user);
        let line = format!("/usr/bin/python3 /home/{user}/knock.py");
        let out = if inside { lab.ssh(user, &line) } else { lab.sh(user, &line) };
        out.expect_ok().out()
    };
    assert_eq!(knock("services", false).lines().count(), 7, "outside, the same user reaches all of them");
    // With the host's network its abstract sockets come along: they belong to the network, not to a path.
    assert_eq!(knock("services", true), "reached '\\x00/lab/abstract'");
    assert_eq!(knock("apart", true), "");
    // The tools that would ask them, and the setuid ones, as far as they are here.
    for tool in [
        "systemd-run --user id",
        "systemd-run id",
        "loginctl enable-linger",
        "loginctl list-sessions",
        "machinectl shell",
        "busctl list",
        "busctl call org.freedesktop.Accounts /org/freedesktop/Accounts/User0 org.freedesktop.Accounts.User SetShell s /bin/sh",
        "pkexec id",
        "sudo -n id",
        "doas -n id",
        "udisksctl status",
        "newgrp docker -c id",
        "sg docker id",
        "su -c id",
        "mount /dev/vda /mnt",
    ] {
        let name = tool.split(' ').next().expect("a name");
        let out = lab.ssh("services", &format!("'{tool} </dev/null'"));
        assert_ne!(out.code(), 0, "{tool}: {out}");
        assert!(!said(&out).contains("uid=0"), "{tool}: {out}");
        assert!(caplet_lab::have(name) || out.code() == 127, "{tool}: {out}");
    }
    // The group that opens the socket is not the session's.
    let inside = Inside::of(&lab.ssh("services", PROBE).out());
    assert!(!inside.status.groups().contains(&lab.gid("docker")), "{:?}", inside.status.groups());
    let found = lab.sh("root", "caplet doctor --user services");
    assert!(said(&found).contains("services is in group docker"), "{found}");
}

/// 7: what one student uses up is bounded as the profile says, is theirs alone, and is given back at the end.
#[test]
fn d7_what_one_uses_up_others_still_have() {
    let Some(lab) = lab() else { return };
    let others = |when: &str| {
        let out = lab.ssh("other", PROBE);
        assert!(out.ok(), "{when}: {out}");
        Inside::of(&out.out()).is_session_of(lab, "other");
    };
    // A fork bomb that says how far it got, and stays.
    let bomb = "f() { f | f & }; for i in $(seq 200); do sleep 4712 & done 2>err; f 2>/dev/null; jobs -p | wc -l; \
        grep -c -i -m1 resource err; read x";
    let mut client =
        lab.task("dora", ["bash", "-c", &format!("exec ssh {SSH} bomber@127.0.0.1 '{bomb}'")]).stdin_open().spawn();
    assert!(lab.until(|| lab.log().find("grant", &[("user", "bomber")]).len() == 1));
    assert!(lab.until(|| lab.pids_of("bomber", "sleep").len() > 20), "{:?}", lab.processes());
    others("beside a fork bomb");
    let count = lab.pids_of("bomber", "").len();
    // The limit is of processes of that user in that session; what carries the session is not among them.
    assert!((20..=48).contains(&count), "{count}");
    drop(client.stdin.take());
    client.signal(Signal::SIGKILL);
    client.wait();
    assert!(lab.until(|| lab.pids_of("bomber", "").is_empty()), "{:?}", lab.processes());

    // Core files, large files, many descriptors.
    let out =
        lab.ssh("bomber", "'ulimit -c; ulimit -c 1000; ulimit -n; sh -c \"kill -SEGV \\$\\$\"; ls core* 2>/dev/null'");
    assert!(out.out().starts_with("0\n64") && !out.out().contains("core"), "{out}");
    let out = lab.ssh("bomber", "'head -c 5000000 /dev/zero >big; stat -c %s big'");
    assert_eq!(out.out(), "2097152", "{out}");

    // System V memory, message queues and files in /dev/shm and /tmp: of the session's own, and gone with it.
    let shm = |lab: &Lab| lab.root("ipcs -m | grep -c ^0x; ls -A /dev/shm /dev/mqueue | grep -v :; true").out();
    lab.root("rm -f /tmp/x /var/tmp/x"); // whoever left them on this machine
    let before = shm(lab);
    let line = "ipcmk -M 4096 >/dev/null && ipcmk -Q >/dev/null && ipcs -m | grep -c ^0x; head -c 1000000 /dev/zero >/dev/shm/x; touch /tmp/x /var/tmp/x; echo made";
    assert_eq!(lab.ssh("other", &format!("'{line}'")).expect_ok().out(), "1\nmade");
    assert_eq!(shm(lab), before);
    assert!(!lab.exists("/tmp/x") && !lab.exists("/var/tmp/x"));

    // Sessions: no more than the profile says, for this user alone.
    let hold = || {
        let client = format!("exec ssh {SSH} bomber@127.0.0.1 'echo in; read x'");
        let running = lab.task("dora", ["bash", "-c", &client]).stdin_open().spawn();
        running.wait_for("in");
        running
    };
    let held = [hold(), hold()];
    let out = lab.ssh("bomber", "echo third");
    assert!(out.code() == 125 && out.err().contains("you have 2 sessions already"), "{out}");
    others("beside the last session of another's");
    for mut running in held {
        drop(running.stdin.take());
        running.wait();
    }
    assert!(lab.until(|| lab.ssh("bomber", "true").ok()), "its places are free again");

    // A port below 1024 is the machine's; in a network of one's own it is nobody else's.
    let serve = "import socket; s = socket.create_server((str(), 80)); print(s.getsockname()[1])";
    let out = lab.ssh("other", &format!("'/usr/bin/python3 -c \"{serve}\"'"));
    assert!(!out.ok() && out.err().contains("Permission denied"), "{out}");
    assert_eq!(lab.ssh("apart", &format!("'/usr/bin/python3 -c \"{serve}\"'")).expect_ok().out(), "80");
}

/// 8: what others do and have.
#[test]
fn d8_the_others_are_not_seen() {
    let Some(lab) = lab() else { return };
    lab.root("touch /run/utmp; chgrp utmp /run/utmp; chmod 664 /run/utmp; echo mark-of-log >/var/log/lab.log; \
        chgrp adm /var/log/lab.log; chmod 640 /var/log/lab.log; chmod 755 /home/dora; echo mark-of-home >/home/dora/open");
    // Somebody else who works here, with something on the command line.
    let mut worker = lab.task("dora", ["sleep", "4713"]).spawn();
    let client = format!("exec ssh {SSH} -tt other@127.0.0.1");
    let mut login = lab.task("dora", ["bash", "-c", &client]).terminal(24, 80);
    login.expect("exit ends it");

    let everything = "ps -ef; ps axo pid,args; cat /proc/[0-9]*/cmdline | tr \"\\0\" \" \"; w; who; who -a; users; \
        ls -la /home /home/dora; cat /home/dora/open; cat /var/log/lab.log; lsof 2>/dev/null; ss -xa 2>/dev/null; \
        ls /proc | grep -c \"^[0-9]\"; ls /run /tmp /var/tmp /dev/pts /dev/shm; find /proc/[0-9]* -maxdepth 1 -name cwd | xargs ls -l";
    let outside = lab.sh("peeper", everything);
    for mark in ["sleep 4713", "mark-of-home", "mark-of-log", "other"] {
        assert!(said(&outside).contains(mark), "outside {mark} is seen: {outside}");
    }
    let inside = lab.ssh("peeper", &format!("'{everything}'"));
    for mark in ["sleep 4713", "mark-of-home", "mark-of-log", "other", "sshd", "dora@"] {
        let text = inside.out().replace("/home/dora", "").replace("'other'", "");
        assert!(!text.contains(mark), "{mark}: {inside}");
    }
    let numbers = lab.ssh("peeper", "'ls /proc | grep \"^[0-9]\"'").expect_ok().out();
    let numbers: Vec<u32> = numbers.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.contains(&1) && numbers.iter().all(|pid| *pid < 100), "{numbers:?}");
    // The kernel's messages, as for anybody.
    let dmesg = |out: Output| out.ok();
    assert_eq!(dmesg(lab.ssh("peeper", "dmesg")), dmesg(lab.sh("peeper", "dmesg")));
    // In a network of one's own, its interfaces alone.
    lab.root("ip link add uplink9 type bridge || ip link add uplink9 type veth peer name uplink8");
    assert_eq!(lab.ssh("apart", "ls /sys/class/net").expect_ok().out(), "lo");
    let names = lab.ssh("apart", "'cut -d: -f1 /proc/net/dev | tail -n +3'").expect_ok().out();
    assert_eq!(names.split_whitespace().collect::<Vec<_>>(), ["lo"]);
    login.send("exit\n");
    login.wait();
    worker.signal(Signal::SIGKILL);
    worker.wait();
}

/// 9: nothing outlives the session: not by a second fork, a session or a double name of its own, a kill of what carries it.
#[test]
fn d9_nothing_persists_past_the_end() {
    need!("/usr/bin/python3");
    let Some(lab) = lab() else { return };
    let daemon = "import os,time,signal\n\
        for s in (1,2,3,15): signal.signal(s, signal.SIG_IGN)\n\
        for i in range(3):\n if os.fork(): os._exit(0)\n os.setsid()\n\
        open('/home/stayer/daemon','w').write('up'); time.sleep(4000)\n";
    lab.write("/home/stayer/daemon.py", daemon, 0o644, "stayer");
    let start = "rm -f daemon; nohup sleep 4714 >/dev/null 2>&1 & (setsid sleep 4714 &) ; (trap \"\" HUP TERM; sleep 4714 & disown -a) ; \
        /usr/bin/python3 daemon.py </dev/null >/dev/null 2>&1; until [ -e daemon ]; do sleep 0.02; done";
    // After a line, after a login on a terminal, after a line that had no time to end.
    lab.ssh("stayer", &format!("'exec >/dev/null 2>&1; {start}'")).expect_ok();
    assert!(lab.until(|| lab.pids_of("stayer", "").is_empty()), "{:?}", lab.processes());

    let client = format!("exec ssh {SSH} -tt stayer@127.0.0.1");
    let mut terminal = lab.task("dora", ["bash", "-c", &client]).terminal(24, 200);
    terminal.expect("exit ends it");
    terminal.send(&format!("{start}; echo all''up\n"));
    terminal.expect("allup");
    assert!(lab.pids_of("stayer", "sleep").len() >= 3 && lab.pids_of("stayer", "python3").len() == 1);
    // The first logout only warns, where jobs are left.
    terminal.send("exit\nexit\n");
    terminal.wait();
    assert!(lab.until(|| lab.pids_of("stayer", "").is_empty()), "{:?}", lab.processes());

    // Whoever carries it, killed by the student from outside, as far as the kernel lets them, and by root.
    let line = format!(
        "exec ssh {SSH} killer@127.0.0.1 '(setsid sleep 4715 >/dev/null 2>&1 &); trap \"\" HUP TERM; echo up; while :; do sleep 1; done'"
    );
    let find = "ps -eo pid=,user:20=,args= | grep '[c]aplet-helper run' | grep 4715";
    for (who, guard) in [("killer", false), ("root", true), ("root", false)] {
        let mut client = lab.task("dora", ["bash", "-c", &line]).stdin_open().spawn();
        client.wait_for("up");
        let carriers = lab.root(find).out();
        let of = |root: bool| -> Vec<&str> {
            let lines = carriers.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            lines.filter(|words| (words[1] == "root") == root).map(|words| words[0]).collect()
        };
        let (guards, own) = (of(true), of(false));
        assert!(!guards.is_empty() && own.len() >= 2, "{carriers}");
        // Never the student's to kill.
        for pid in &guards {
            assert_ne!(lab.sh("killer", &format!("kill -KILL {pid}")).code(), 0, "{carriers}");
        }
        let victims = if guard { guards } else { own };
        for pid in victims {
            lab.sh(who, &format!("kill -KILL {pid}"));
        }
        client.wait();
        assert!(lab.until(|| lab.pids_of("killer", "").is_empty()), "{who} {guard}: {:?}", lab.processes());
        assert!(lab.until(|| lab.sh("root", find).out().is_empty()), "{who} {guard}: {}", lab.sh("root", find));
    }
    let ids = |event: &str| -> BTreeSet<String> {
        ["stayer", "killer"]
            .iter()
            .flat_map(|user| lab.log().find(event, &[("user", user)]))
            .map(|r| r.field("id"))
            .collect()
    };
    assert!(lab.until(|| ids("end") == ids("grant")), "{:?} {:?}", ids("grant"), ids("end"));
    assert_eq!(ids("grant").len(), 5);
}
