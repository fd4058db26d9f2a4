//! `caplet doctor` beside a real sshd(8), and the shipped drop-in against real forwards.

use caplet_lab::{Lab, SharedLab, need, shared};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = "[profile.student]\nusers = [\"alice\"]\nnetwork = \"host\"\nlogin = true\n";
const MAIN: &str = "Include /etc/lab-dropin\nPort 22\nListenAddress 127.0.0.1\nHostKey /etc/lab-host\nUsePAM yes\n\
    PidFile none\nX11Forwarding yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n";
const DROP_IN: &str = include_str!("../../etc/ssh/sshd_config.d/caplet.conf");
const SSH: &str = "-i key -o IdentitiesOnly=yes -o HostKeyAlias=lab -o UserKnownHostsFile=known -o BatchMode=yes \
    -o LogLevel=ERROR -o ExitOnForwardFailure=yes";

fn lab() -> Option<&'static Lab> {
    if !caplet_lab::have("/usr/sbin/sshd") {
        caplet_lab::record_skip("needs sshd");
        return None;
    }
    let lab = shared(&LAB, || {
        let lab = Lab::new().user("alice", &["students"]).user("dora", &[]);
        lab.policy(POLICY).file("/etc/ssh/sshd_config", MAIN, 0o600, "root").file("/etc/lab-dropin", "", 0o600, "root")
    })?;
    lab.root(
        "sed -i -E '/^alice:/s#/bin/bash$#/usr/bin/caplet-shell#' /etc/passwd; mkdir -p /run/sshd; \
         ssh-keygen -q -t ed25519 -N '' -f /etc/lab-host; ssh-keygen -q -t ed25519 -N '' -f /home/dora/key; \
         mkdir -p /home/alice/.ssh; cp /home/dora/key.pub /home/alice/.ssh/authorized_keys; chown -R alice: /home/alice/.ssh; \
         chown dora: /home/dora/key; echo \"lab $(cat /etc/lab-host.pub)\" >/home/dora/known",
    );
    Some(lab)
}

/// The doctor's words about sshd.
fn of_sshd(lab: &Lab) -> String {
    let out = lab.root("/usr/bin/caplet doctor --json || [ $? = 1 ]");
    assert!(out.out().contains("\"alice\""), "{out}");
    let about = |line: &&str| line.contains("\"found\"") && line.contains("sshd");
    out.out().lines().filter(about).map(str::trim).collect::<Vec<_>>().join("\n")
}

/// One after another in one test: both halves change the one machine's sshd.
#[test]
fn the_drop_in_closes_what_is_open_without_it() {
    need!("ssh");
    let Some(lab) = lab() else { return };
    let forwards = |open: bool| {
        let dir = if open { "open" } else { "shut" };
        lab.root(&format!("/usr/sbin/sshd -p 22 -E /var/log/lab-{dir}; sleep 0.3"));
        let banner = format!(
            "ssh {SSH} -N -L 7001:127.0.0.1:22 alice@127.0.0.1 & p=$!; sleep 1.5; \
             timeout 2 bash -c 'read -r l </dev/tcp/127.0.0.1/7001; echo \"got $l\"'; kill $p"
        );
        let out = lab.sh("dora", &banner);
        assert_eq!(out.out().contains("got SSH-2.0"), open, "-L, {dir}: {out}");
        for forward in ["-R 7003:127.0.0.1:22", &format!("-R /home/alice/{dir}.sock:127.0.0.1:22")] {
            let out = lab.sh("dora", &format!("timeout 3 ssh {SSH} -N {forward} alice@127.0.0.1"));
            assert_eq!(out.code(), if open { 124 } else { 255 }, "{forward}, {dir}: {out}");
        }
        let out = lab.sh("dora", &format!("ssh {SSH} alice@127.0.0.1 'echo in-$CAPLET_PROFILE'"));
        assert_eq!(out.out(), "in-student", "{out}");
    };
    let found = of_sshd(lab);
    for name in ["AllowTcpForwarding yes", "AllowStreamLocalForwarding yes", "X11Forwarding yes", "PermitUserRC yes"] {
        assert!(found.contains(name), "{name}: {found}");
    }
    assert!(!found.contains("internal-sftp"), "{found}");
    forwards(true);

    lab.root("sed -i 's#/usr/lib/openssh/sftp-server#internal-sftp#' /etc/ssh/sshd_config");
    assert!(of_sshd(lab).contains("Subsystem sftp internal-sftp"));
    lab.root("sed -i 's#internal-sftp#/usr/lib/openssh/sftp-server#' /etc/ssh/sshd_config");

    lab.root(&format!("cat >/etc/lab-dropin <<'END'\n{DROP_IN}END\n"));
    lab.root("kill $(ps -eo pid,args | awk '/[s]shd.*lab-open/{print $1}'); sleep 0.3");
    let found: Vec<String> = of_sshd(lab).lines().filter(|l| !l.contains("pam.d")).map(str::to_owned).collect();
    assert_eq!(found.len(), 1, "the agent's note alone is left: {found:?}");
    assert!(found[0].contains("AllowAgentForwarding"), "{found:?}");
    forwards(false);
}
