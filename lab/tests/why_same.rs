//! `caplet why` changes nothing of a command: output and status of fifty are byte for byte those under `caplet run`.

use caplet_lab::{Lab, SharedLab, shared};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.plain]
users = ["alice"]

[profile.real]
users = ["alice"]
scope = "host"
"#;

/// Each is a line for sh.
const COMMANDS: [&str; 50] = [
    "true",
    "false",
    "exit 77",
    "echo out; echo err >&2",
    "printf 'no newline'",
    "printf '\\000\\377\\200binary\\n'",
    "cat",
    "wc -c",
    "head -c 100000 /dev/zero | md5sum",
    "seq 20000",
    "seq 20000 | sort -rn | tail -3",
    "yes | head -1000 | sha256sum",
    "kill -TERM $$",
    "kill -KILL $$",
    "kill -USR1 $$",
    "kill -SEGV $$",
    "kill -PIPE $$",
    "trap 'echo caught' USR1; kill -USR1 $$; echo after",
    "sh -c 'kill -9 $$'; echo $?",
    "date -s 12:00",
    "cat /etc/shadow",
    "ls /nowhere /etc/hostname",
    "no-such-program",
    "/etc/passwd",
    "ip link add x type dummy",
    "ip -br link",
    "mount -t tmpfs none /mnt",
    "chown root /etc/passwd",
    "mknod /tmp/null c 1 3",
    "rm -rf /tmp/a; mkdir -p /tmp/a/b && touch /tmp/a/b/c && ls -R /tmp/a && rm -rv /tmp/a",
    "ln -s /etc/hostname /tmp/l; readlink /tmp/l; rm /tmp/l",
    "cd /tmp && cp /etc/passwd p && cmp p /etc/passwd; rm p",
    "find /etc -maxdepth 1 -name 'pass*' 2>/dev/null",
    "grep -c . /etc/passwd",
    "awk 'BEGIN { for (i = 0; i < 3; i++) system(\"echo \" i) }'",
    "sed -n 1p /etc/passwd",
    "perl -e 'fork or do { print \"child\\n\"; exit 3 }; wait; print $? >> 8, \"\\n\"'",
    "perl -e '$SIG{ALRM} = sub { print \"alarm\\n\"; exit 9 }; alarm 1; sleep 5'",
    "/usr/bin/python3 -I -c 'import threading; t = [threading.Thread(target=print, args=(\"t\",)) for _ in range(8)]; [x.start() or x.join() for x in t]'",
    "/usr/bin/python3 -I -c 'import subprocess; print(subprocess.run([\"sh\", \"-c\", \"exit 4\"]).returncode)'",
    "/usr/bin/python3 -I -c 'import socket; a, b = socket.socketpair(); a.send(b\"x\"); print(b.recv(1))'",
    "/usr/bin/python3 -I -c 'import os; os.abort()'",
    "/usr/bin/python3 -I -c 'open(\"/etc/shadow\")'",
    "nice -n -5 echo nice",
    "nice -n 5 nice",
    "timeout 1 sleep 5; echo $?",
    "(sleep 0.1; echo late) & wait; echo done",
    "mkfifo /tmp/f; (echo through > /tmp/f) & cat /tmp/f; rm /tmp/f",
    "env -i /usr/bin/env",
    "umask; ulimit -n; id -u; id -G; pwd; tty",
];

#[test]
fn output_and_status_of_fifty_commands_are_their_own() {
    let lab = shared(&LAB, || Lab::new().user("alice", &[]).policy(POLICY));
    let Some(lab) = lab else { return };
    for profile in ["plain", "real"] {
        for line in COMMANDS {
            let go = |verb: &str| {
                let words = ["caplet", verb, "--quiet", "-p", profile, "--", "sh", "-c", line];
                lab.task("alice", words).stdin(b"a line\nand bytes \x00\xff\x80").run()
            };
            let (run, why) = (go("run"), go("why"));
            assert_eq!((why.code(), &why.stdout), (run.code(), &run.stdout), "{profile}: {line}: {why}");
            // The explanation comes after everything that is the command's own.
            let (own, rest) = why.stderr.split_at_checked(run.stderr.len()).unwrap_or((&why.stderr, b""));
            assert_eq!(own, run.stderr, "{profile}: {line}: {why}");
            let rest = String::from_utf8(rest.to_vec()).expect("text");
            assert!(rest.lines().all(|line| line.starts_with("caplet: ")), "{profile}: {line}: {why}");
        }
    }
}
