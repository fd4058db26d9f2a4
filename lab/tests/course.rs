//! The README's page on a login shell for a course, run as it is written.

use caplet_lab::{Lab, need};

const README: &str = include_str!("../../README.md");
const DROP_IN: &str = include_str!("../../etc/ssh/sshd_config.d/caplet.conf");
const SSHD: &str = "Include /etc/ssh/sshd_config.d/*.conf\nPort 22\nListenAddress 127.0.0.1\nHostKey /etc/lab-host\n\
    UsePAM yes\nPidFile /run/lab-sshd.pid\nSubsystem sftp /usr/lib/openssh/sftp-server\n";

/// The commands of that page.
fn page() -> &'static str {
    let (_, page) = README.split_once("## A login shell for a course").expect("the page");
    let (_, block) = page.split_once("```sh\n").expect("its commands");
    block.split_once("```").expect("their end").0
}

#[test]
fn the_page_works_as_it_is_written() {
    need!("ssh", "/usr/sbin/sshd", "passwd");
    let lab = Lab::new().user("alice", &["students"]).user("dora", &[]).policy("");
    let lab = lab.file("/etc/ssh/sshd_config", SSHD, 0o600, "root");
    // There is no systemd here: the reload is what its unit does, and a mask is a link.
    let systemctl = r#"#!/bin/sh
case $* in
'reload ssh') kill -HUP "$(cat /run/lab-sshd.pid)" ;;
'mask user@5001.service') mkdir -p /etc/systemd/system && ln -s /dev/null "/etc/systemd/system/$2" ;;
*) exit 1 ;;
esac
"#;
    let lab = lab.file("/usr/local/bin/systemctl", systemctl, 0o755, "root");
    let lab = lab.file("/usr/share/doc/caplet/examples/sshd-caplet.conf", DROP_IN, 0o644, "root");
    let Some(lab) = lab.start() else { return };
    lab.root(
        "mkdir -p /run/sshd /etc/ssh/sshd_config.d /etc/caplet/policy.d; echo /usr/bin/caplet-shell >> /etc/shells; \
         ssh-keygen -q -t ed25519 -N '' -f /etc/lab-host; ssh-keygen -q -t ed25519 -N '' -f /home/dora/key; \
         mkdir -p /home/alice/.ssh; cp /home/dora/key.pub /home/alice/.ssh/authorized_keys; \
         chown -R alice: /home/alice/.ssh; chown dora: /home/dora/key; \
         echo \"lab $(cat /etc/lab-host.pub)\" >/home/dora/known; /usr/sbin/sshd -E /var/log/lab-sshd",
    )
    .expect_ok();
    lab.set_password("alice", "old-secret-1");
    lab.write("/root/page.sh", page(), 0o700, "root");
    let done =
        lab.root("export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; bash -e /root/page.sh; echo code=$?");
    assert!(done.err().contains("2 profiles, no fault"), "{done}");
    // What the doctor still finds are this machine's own ways around; each mend is a line to type.
    let found = lab.root("caplet doctor --json; true").out();
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    let mends = found["findings"].as_array().expect("findings").iter().filter(|f| f["severity"] != "note");
    for mend in mends.map(|finding| finding["mend"].as_str().expect("a line")) {
        lab.root(mend).expect_ok();
    }
    assert_eq!(lab.root("caplet doctor").code(), 0, "{}", lab.root("caplet doctor; true"));
    let ssh = "ssh -i key -o IdentitiesOnly=yes -o HostKeyAlias=lab -o UserKnownHostsFile=known -o BatchMode=yes \
        -o LogLevel=ERROR";
    let over = |rest: &str| lab.sh("dora", &format!("{ssh} alice@127.0.0.1 {rest}"));
    let inside = over("'echo $CAPLET_PROFILE; grep NoNewPrivs /proc/self/status; git --version'");
    assert!(inside.out().starts_with("course\nNoNewPrivs:\t1\n"), "{inside}");
    assert!(!lab.read("/etc/shells").contains("caplet-shell"));
    let shut =
        lab.sh("dora", &format!("timeout 3 {ssh} -o ExitOnForwardFailure=yes -N -R 7001:127.0.0.1:22 alice@127.0.0.1"));
    assert_eq!(shut.code(), 255, "the drop-in holds: {shut}");
    // A password is changed from outside of the session, and nowhere else.
    let line = format!(
        "exec {} -tt alice@127.0.0.1 caplet run -p passwd passwd",
        ssh.replace("BatchMode=yes", "BatchMode=no")
    );
    let mut terminal = lab.task("dora", ["bash", "-c", &line]).terminal(24, 80);
    let before = lab.root("getent shadow alice").out();
    for (asked, answer) in
        [("urrent", "old-secret-1"), ("ew password", "New-Secret-22"), ("ew password", "New-Secret-22")]
    {
        terminal.expect(asked);
        terminal.send(&format!("{answer}\r"));
    }
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.screen());
    assert_ne!(lab.root("getent shadow alice").out(), before);
    assert!(!over("'passwd -S 2>&1; echo x | passwd >/dev/null 2>&1'").ok(), "inside it has no power");
}
