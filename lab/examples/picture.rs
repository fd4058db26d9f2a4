//! The README's picture: a login over ssh and a session with more, typed in a throwaway machine, and what came back as
//! SVG. Usage, as root: `make picture`, or `cargo run -p caplet-lab --example picture -- FILE`.

use caplet_lab::Lab;
use std::fmt::Write as _;

const POLICY: &str = r#"
[profile.course]
groups  = ["students"]
login   = true
network = "host"

[profile.netlab]
groups  = ["students"]
user    = "root"
may_add = ["NET_ADMIN"]
"#;
const SSHD: &str = "Port 22\nListenAddress 127.0.0.1\nHostKey /etc/lab-host\nUsePAM yes\nPidFile none\nPrintMotd no\n\
    PrintLastLog no\n";
const CLIENT: &str = "Host lab\n  HostName 127.0.0.1\n  User alice\n  IdentityFile ~/key\n  HostKeyAlias lab\n  \
    UserKnownHostsFile ~/known\n  LogLevel ERROR\n";

/// What is typed, and the prompt that stands there when its answer is complete.
const TYPED: [(&str, &str); 7] = [
    ("ssh lab", "alice@lab:~$ "),
    ("grep CapEff /proc/self/status", "alice@lab:~$ "),
    ("ip link add br0 type bridge", "alice@lab:~$ "),
    ("exit", "laptop$ "),
    ("ssh -t lab caplet shell -p netlab --cap-add NET_ADMIN", "alice@lab:~# "),
    ("ip link add br0 type bridge && ip -br link", "alice@lab:~# "),
    ("exit", "laptop$ "),
];

fn main() {
    let file = std::env::args().nth(1).expect("usage: picture FILE");
    let lab = Lab::new().user("alice", &["students"]).user("dora", &[]).policy(POLICY);
    let lab = lab.file("/etc/lab-sshd", SSHD, 0o600, "root").file("/home/dora/.ssh/config", CLIENT, 0o600, "dora");
    // Whoever is uid 0 of a session is alice with more, and the prompt says both.
    let prompt = "PS1='alice@lab:\\w\\$ '\n";
    let lab = lab.file("/home/alice/.bashrc", prompt, 0o644, "alice");
    let lab = lab.file("/home/alice/.bash_profile", prompt, 0o644, "alice");
    let lab = lab.start().expect("a machine of its own: run as root");
    lab.root(
        "usermod -s /usr/bin/caplet-shell alice; mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f /etc/lab-host; \
         ssh-keygen -q -t ed25519 -N '' -f /home/dora/key; mkdir -p /home/alice/.ssh; \
         cp /home/dora/key.pub /home/alice/.ssh/authorized_keys; chown -R alice: /home/alice/.ssh; chown dora: /home/dora/key; \
         chown -R dora: /home/dora/.ssh; echo \"lab $(cat /etc/lab-host.pub)\" >/home/dora/known; \
         : >/etc/motd; rm -f /etc/update-motd.d/*; /usr/sbin/sshd -f /etc/lab-sshd",
    )
    .expect_ok();
    let shell = ["env", "-C", "/home/dora", "TERM=dumb", "PS1=laptop$ ", "bash", "--norc", "-i"];
    let mut terminal = lab.task("dora", shell).terminal(40, 96);
    let mut screen = terminal.expect("laptop$ ");
    for (line, prompt) in TYPED {
        terminal.send(&format!("{line}\r"));
        screen.push_str(&terminal.expect(prompt));
    }
    std::fs::write(&file, svg(&plain(&screen))).expect("the picture can be written");
    println!("{file}: {} lines", plain(&screen).lines().count());
}

/// Without escape sequences, carriage returns and the prompt that waits at the end.
fn plain(screen: &str) -> String {
    let mut out = String::new();
    let mut chars = screen.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                while chars.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
            }
            '\r' | '\u{7}' => {}
            '\t' => {
                let column = out.lines().last().map_or(0, |line| line.chars().count());
                out.push_str(&" ".repeat(8 - column % 8));
            }
            c => out.push(c),
        }
    }
    out.trim_end().trim_end_matches("laptop$").trim_end().to_owned()
}

/// Dark on light, one `text` a line; what was typed stands out.
fn svg(text: &str) -> String {
    const LINE: usize = 19;
    let lines: Vec<&str> = text.lines().collect();
    let (width, height) =
        (lines.iter().map(|l| l.chars().count()).max().unwrap_or(0) * 9 + 40, lines.len() * LINE + 36);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"A login over ssh is a session without capabilities; a second one has NET_ADMIN in a network of its own\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1d2430\"/>\n\
         <g font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"15\" fill=\"#d7dce4\" xml:space=\"preserve\">\n"
    );
    for (n, line) in lines.iter().enumerate() {
        let y = 30 + n * LINE;
        let prompts = ["laptop$ ", "alice@lab:~$ ", "alice@lab:~# "];
        let _ = match prompts.iter().find_map(|prompt| Some((prompt, line.strip_prefix(prompt)?))) {
            Some((prompt, typed)) => writeln!(
                out,
                "<text x=\"20\" y=\"{y}\"><tspan fill=\"#7fb4e6\">{prompt}</tspan><tspan font-weight=\"bold\">{}</tspan></text>",
                escaped(typed)
            ),
            None => writeln!(out, "<text x=\"20\" y=\"{y}\">{}</text>", escaped(line)),
        };
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
