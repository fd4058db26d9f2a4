//! Every command of the README, the pages under docs and the manual, run as it is written. One that is new is run too: as
//! alice, and must end with 0, unless `OTHERWISE` says how else. What stands there and is nowhere written is a fault.

use How::{As, Code, Elsewhere, Ends, Typed, With};
use caplet_lab::{Lab, need};
use std::collections::BTreeSet;
use std::path::Path;

/// Where commands are written.
const PAGES: [&str; 9] = [
    "README.md",
    "docs/migration.md",
    "docs/security-model.md",
    "docs/comparison.md",
    "man/caplet.1",
    "man/caplet-shell.1",
    "man/caplet-helper.8",
    "man/caplet-why.1",
    "man/caplet-policy.5",
];

enum How {
    /// As somebody else.
    As(&'static str),
    /// Ends with one of these.
    Code(&'static [i32]),
    /// With a word of it replaced by what it stands for here.
    With(&'static str, &'static str),
    /// That word is the id of a running session of alice's.
    Ends(&'static str),
    /// On a terminal: what is waited for, and the keys then.
    Typed(&'static str, &'static str),
    /// This file of the tree runs it: it says that text.
    Elsewhere(&'static str, &'static str),
}

/// The machines' clock is this machine's: it is set to what it shows.
const NOW: &str = "\"$(date '+%F %T.%N')\"";

const OTHERWISE: &[(&str, How)] = &[
    ("make demo", Elsewhere(".ci/run", "make demo")),
    ("make test", Elsewhere(".ci/run", "make test")),
    ("make build", Elsewhere("lab/test.sh", "lab/build.sh")),
    ("make bench", Elsewhere("bench/RESULTS.md", "`make bench RESULTS=bench/RESULTS.md`")),
    ("make pages", Elsewhere("shell/src/pages.rs", "CAPLET_WRITE_PAGES")),
    ("make deb", Elsewhere("packaging/test.sh", "packaging/build-deb.sh")),
    ("make rpm", Elsewhere("packaging/test.sh", "packaging/build-rpm.sh")),
    ("make sabotage", Elsewhere("lab/sabotage.sh", "default: every lab/sabotage/*.patch")),
    ("make mutants", Elsewhere("lab/mutants.py", "hours for all of it")),
    ("make hostile", Elsewhere("lab/hostile.sh", "Everything hostile that fits in half an hour")),
    ("make kernels", Elsewhere(".ci/run", "make kernels")),
    ("sudo make install", Elsewhere("packaging/test.sh", "make install")),
    (
        "sudo apt install ./target/packages/caplet_0.1.0_amd64.deb",
        Elsewhere("packaging/tests/deb.sh", "apt-get -y -q install ./"),
    ),
    (
        "sudo dnf install ./target/packages/caplet-0.1.0-1.x86_64.rpm",
        Elsewhere("packaging/tests/rpm.sh", "dnf_ install /t/"),
    ),
    (
        "install -m 640 /dev/stdin /etc/caplet/policy.d/20-course.toml <<'END'",
        Elsewhere("lab/tests/course.rs", "A login shell for a course"),
    ),
    ("ssh -t HOST caplet run -p passwd passwd", Elsewhere("lab/tests/course.rs", "caplet run -p passwd passwd")),
    (
        "# alice, and bob and carol with a 2 and a 3 for the 1; $router is the router's address",
        Elsewhere("lab/tests/networks.rs", "let [policy, student, router_lines, trial]"),
    ),
    ("# the router", Elsewhere("lab/tests/networks.rs", "let [policy, student, router_lines, trial]")),
    ("# alice", Elsewhere("lab/tests/networks.rs", "let [policy, student, router_lines, trial]")),
    ("journalctl CAPLET_USER=alice", Elsewhere("packaging/tests/deb.sh", "journalctl -q CAPLET_USER=alice")),
    ("profile = \"netlab\"", Elsewhere("lab/tests/as_written.rs", "fn the_wishes_of_the_manual_come_true")),
    ("caplet run -p clock date -s 12:00", With("12:00", NOW)),
    ("caplet check FILE", With("FILE", "policy.toml")),
    ("caplet end ID", Ends("ID")),
    ("caplet end 7f3a", Ends("7f3a")),
    ("sudo caplet end 7f3a90c1d2e4", Ends("7f3a90c1d2e4")),
    ("ssh HOST caplet run --cap-add X CMD", With("X CMD", "NET_ADMIN id")),
    ("ssh HOST caplet run -p PROFILE rm .config/caplet/config.toml", With("PROFILE", "netlab")),
    ("ssh -t HOST caplet shell -p netlab --cap-add NET_ADMIN", Typed("netlab", "exit\r")),
    ("caplet shell", Typed("netlab", "exit\r")),
    ("sudo caplet edit", Typed("lab-admin@example.edu", ":q\r")),
    ("sudo caplet doctor", Code(&[0, 1])),
    ("sudo caplet doctor --user alice", Code(&[0, 1])),
    ("caplet why", Code(&[125])),
    ("caplet why -- date -s 12:00", Elsewhere("lab/tests/why.rs", "fn the_readmes_first_example_is_what_is_shown")),
    ("caplet why -- COMMAND", With("COMMAND", "true")),
    ("caplet why -p netlab -- ip link add br0 type bridge", Code(&[2])),
    ("caplet learn -- COMMAND", With("COMMAND", "true")),
    ("caplet learn -p netlab -- ./setup.sh > netlab-setup.toml", With("./setup.sh", "ip link set lo mtu 1400")),
    (
        "caplet_last() { local code=$? line; line=$(HISTTIMEFORMAT= history 1 | sed '1s/^ *[0-9]*[* ] //')",
        Elsewhere("lab/tests/why.rs", "fn in_a_session_the_last_refusal_is_explained_where_the_hook_is_on"),
    ),
    (
        "caplet_last() { local code=$? line=$(fc -ln -1 2>/dev/null)",
        Elsewhere("lab/tests/why.rs", "fn in_a_session_the_last_refusal_is_explained_where_the_hook_is_on"),
    ),
    (
        "function caplet_last --on-event fish_postexec; set -l code $status; test $code -eq 0",
        Elsewhere("lab/tests/why.rs", "fn in_a_session_the_last_refusal_is_explained_where_the_hook_is_on"),
    ),
    ("caplet check", As("root")),
    ("caplet check --as alice --cap-add NET_ADMIN ip route", As("root")),
    ("for user in $(getent group students | cut -d: -f4 | tr , ' '); do", As("root")),
    ("dpkg-statoverride --update --add root capletusers 4750 \\", As("root")),
];

const POLICY: &str = r#"
[defaults]
contact = "lab-admin@example.edu, room 2.14"

[profile.netlab]
groups = ["students"]
user = "root"
login = true
may_add = ["ALL"]

[profile.container]
groups = ["students"]
user = "root"
may_add = ["NET_ADMIN"]

[network.routing]
subnet = "172.20.0.0/24"
antispoof = false

[profile.routing]
groups = ["students"]
user = "root"
network = "routing"
may_add = ["NET_ADMIN"]

[profile.net]
groups = ["students"]
scope = "host"
caps = ["NET_ADMIN"]

[profile.clock]
groups = ["students"]
scope = "host"
caps = ["SYS_TIME"]
commands = ["/usr/bin/date"]
"#;

const RSYSLOGD: &str = "printf '%s\\n' 'module(load=\"imuxsock\" SysSock.Use=\"on\" SysSock.Name=\"/dev/log\")' \
    'authpriv.* action(type=\"omfile\" file=\"/var/log/auth.log\")' >/etc/lab-rsyslog.conf; rm -f /var/log/auth.log*; \
    setsid rsyslogd -n -i /run/lab-rsyslog.pid -f /etc/lab-rsyslog.conf >/dev/null 2>&1 </dev/null & \
    n=0; until [ -S /dev/log ]; do n=$((n+1)); [ $n -lt 200 ] || exit 1; sleep 0.05; done";

fn text_of(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// One thing to type, who types it, and what is shown then, where the page says so.
struct Command {
    page: &'static str,
    text: String,
    user: String,
    shown: Option<String>,
}

/// What a page has: commands, and whole policies.
#[derive(Default)]
struct Written {
    commands: Vec<Command>,
    policies: Vec<(&'static str, String)>,
}

impl Written {
    fn command(&mut self, page: &'static str, user: &str, text: &str, shown: Option<String>) {
        self.commands.push(Command { page, text: text.trim_end().to_owned(), user: user.to_owned(), shown });
    }

    /// A block of lines to type: each is one, unless they are one together.
    fn lines(&mut self, page: &'static str, block: &str) {
        let is_function = block.starts_with("function ") || block.contains("() {");
        if is_function || block.contains("\\\n") || block.contains("; do\n") {
            return self.command(page, "alice", block, None);
        }
        block.lines().filter(|line| !line.is_empty()).for_each(|line| self.command(page, "alice", line, None));
    }

    /// What was typed behind prompts, and what came.
    fn transcript(&mut self, page: &'static str, block: &str) {
        let mut lines = block.lines().peekable();
        while let Some(line) = lines.next() {
            let (user, text) = line.split_once("$ ").unwrap_or_else(|| panic!("{page}: no prompt: {line}"));
            let mut shown = String::new();
            while let Some(answer) = lines.next_if(|line| !line.contains("$ ")) {
                shown += &format!("{answer}\n");
            }
            let shown = Some(shown.trim_end().to_owned()).filter(|shown| !shown.is_empty());
            self.command(page, if user.is_empty() { "alice" } else { user }, text, shown);
        }
    }

    fn markdown(&mut self, page: &'static str, text: &str) {
        for (n, part) in text.split("```").enumerate() {
            if n % 2 == 1 {
                let (kind, block) = part.split_once('\n').expect("a block has lines");
                match kind {
                    "toml" => self.policies.push((page, block.to_owned())),
                    "sh" => self.command(page, "root", block, None),
                    "" if block.contains("$ ") => self.transcript(page, block),
                    "" => self.lines(page, block),
                    other => panic!("{page}: what is done with a block of {other:?}?"),
                }
                continue;
            }
            for span in part.split('`').skip(1).step_by(2) {
                let words: Vec<&str> = span.split_whitespace().collect();
                let command = match words[..] {
                    ["sudo", "caplet" | "make" | "apt" | "dnf", ..] | ["caplet" | "make" | "journalctl", _, ..] => true,
                    ["ssh", ..] => span.contains("HOST caplet "),
                    _ => false,
                };
                // In brackets and dots stands a form, and no command.
                if command && !span.contains(['[', '…']) && !span.contains("...") {
                    self.command(page, "alice", &words.join(" "), None);
                }
            }
        }
    }

    fn manual(&mut self, page: &'static str, text: &str) {
        let plain =
            [("\\(dq", "\""), ("\\(aq", "'"), ("\\(ti", "~"), ("\\(ha", "^"), ("\\-", "-"), ("\\e", "\\"), ("\\&", "")];
        let text = plain.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let blocks = text.split(".Bd -literal").skip(1).filter_map(|rest| rest.split_once("\n.Ed"));
        for block in blocks.filter_map(|(block, _)| Some(block.split_once('\n')?.1)) {
            match (block.starts_with('['), block.lines().next().is_some_and(|line| line.contains(" = "))) {
                (true, _) => self.policies.push((page, block.to_owned())),
                (false, true) => self.command(page, "alice", block, None),
                (false, false) if block.starts_with("$ ") => self.transcript(page, block),
                (false, false) => self.lines(page, block),
            }
        }
        let sections = text.split("\n.Sh ").filter(|section| !section.starts_with("KEYS OF "));
        for line in sections.flat_map(str::lines) {
            if let Some(command) = line.strip_prefix(".Dl ") {
                self.command(page, "alice", command, None);
            }
            let quoted = line.strip_prefix(".Ql ").or(line.strip_prefix(".Pq Ql ")).unwrap_or_default();
            let quoted = quoted.trim_end_matches([' ', ',', '.']);
            if quoted.contains("HOST caplet ") || quoted.starts_with("journalctl ") {
                self.command(page, "alice", quoted, None);
            }
        }
    }

    fn all() -> Self {
        let mut written = Self::default();
        for page in PAGES {
            let text = text_of(page);
            if page.starts_with("man/") { written.manual(page, &text) } else { written.markdown(page, &text) }
        }
        written
    }
}

/// A command without the remark behind it; of several lines the first. `OTHERWISE` knows it by this.
fn name(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.split("   #").next().unwrap_or(line).trim_end()
}

fn machine() -> Option<Lab> {
    let lab = Lab::new().user("alice", &["students"]).user("dora", &[]).user("mallory", &[]).group("capletusers");
    let lab = lab.without_journal().policy(POLICY).file("/home/alice/Makefile", "check:\n", 0o644, "alice");
    let lab = lab.file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o644, "root");
    // sudo itself is not what is looked at here, and neither is an editor.
    let lab = lab.file("/usr/local/bin/sudo", "#!/bin/sh\nexec env \"$@\"\n", 0o755, "root");
    let lab = lab.file("/usr/bin/emacs", "#!/bin/sh\necho '# by hand' >>\"$2\"\n", 0o755, "root");
    let lab = lab.start()?;
    lab.root(RSYSLOGD);
    if !lab.sshd(&["alice"], "") {
        return None;
    }
    lab.write("/home/alice/policy.toml", POLICY, 0o600, "alice");
    let config = "Host HOST\n HostName 127.0.0.1\n IdentityFile ~/.ssh/own\n StrictHostKeyChecking no\n \
        UserKnownHostsFile /dev/null\n LogLevel ERROR\n";
    lab.write("/home/alice/.ssh/config", config, 0o600, "alice");
    lab.root("cp /home/dora/key /home/alice/.ssh/own; chown alice: /home/alice/.ssh/own");
    Some(lab)
}

/// The id of a session of alice's that has just begun.
fn a_session(lab: &Lab) -> String {
    lab.sh("alice", "setsid caplet run --quiet sleep 60 >/dev/null 2>&1 </dev/null &").expect_ok();
    let newest = || lab.sh("alice", "caplet sessions --json | jq -r '.[-1].id // \"\"'").expect_ok().out();
    assert!(lab.until(|| !newest().is_empty()));
    newest()
}

#[test]
fn every_command_that_is_written_works() {
    need!("ssh", "/usr/sbin/sshd", "rsyslogd", "jq", "vi", "less", "strace", "make", "dpkg-statoverride");
    let Some(lab) = machine() else { return };
    let written = Written::all();
    assert!(written.commands.len() > 70, "{}", written.commands.len());
    let may_set_the_clock = lab.full() & (1 << 25) != 0;
    let (mut failed, mut known, mut done) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for Command { page, text, user, shown } in &written.commands {
        let how = OTHERWISE.iter().find(|(written, _)| *written == name(text)).map(|(written, how)| {
            known.insert(*written);
            how
        });
        if (shown.is_none() && !done.insert(text))
            || (name(text).starts_with("caplet run -p clock") && !may_set_the_clock)
        {
            continue;
        }
        if let Some(Elsewhere(file, says)) = how {
            if !text_of(file).contains(says) {
                failed.push(format!("{page}: {text}\n{file} does not run it: no {says:?} in it"));
            }
            continue;
        }
        let id = if let Some(Ends(_)) = how { a_session(&lab) } else { String::new() };
        let line = match how {
            Some(With(word, other)) => text.replace(word, other),
            Some(Ends(word)) => text.replace(word, &id),
            _ => text.clone(),
        };
        if line.contains("HOST caplet run -p") {
            lab.write("/home/alice/.config/caplet/config.toml", "", 0o600, "alice");
            lab.root("chown -R alice: /home/alice/.config");
        }
        if line.contains("auth.log.1") {
            lab.root("cp /var/log/auth.log /var/log/auth.log.1");
        }
        let user = match how {
            Some(As(user)) => user,
            _ if line.starts_with("sudo ") => "root",
            _ => user.as_str(),
        };
        let home = if user == "root" { "/root" } else { &format!("/home/{user}") };
        let task = lab.task(user, ["/bin/bash", "-c", &line]).cwd(home);
        let (code, said) = if let Some(Typed(wait, keys)) = how {
            let mut terminal = task.terminal(24, 80);
            terminal.expect(wait);
            terminal.send(keys);
            (terminal.wait().code().unwrap_or(-1), terminal.screen())
        } else {
            let out = task.run();
            let differs = shown.as_ref().is_some_and(|shown| *shown != out.err());
            (if differs { -1 } else { out.code() }, out.to_string())
        };
        let wanted: &[i32] = match how {
            Some(Code(codes)) => codes,
            _ if line.contains("caplet doctor") => &[0, 1],
            _ if shown.is_some() => &[125],
            _ => &[0],
        };
        if !wanted.contains(&code) {
            failed.push(format!("{page}, as {user}: {line}\nwanted {wanted:?}, got {code}: {said}"));
        }
        if line.contains("dpkg-statoverride") {
            let mode = lab.root("stat -c '%a %G' /usr/libexec/caplet/caplet-helper").out();
            assert_eq!(mode, "4750 capletusers");
            lab.root(
                "dpkg-statoverride --remove /usr/libexec/caplet/caplet-helper; \
                chown root: /usr/libexec/caplet/caplet-helper; chmod 4755 /usr/libexec/caplet/caplet-helper",
            );
        }
    }
    let unknown: Vec<_> = OTHERWISE.iter().map(|(text, _)| *text).filter(|text| !known.contains(text)).collect();
    assert!(unknown.is_empty(), "nowhere written any more: {unknown:#?}");
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), written.commands.len(), failed.join("\n\n"));
}

#[test]
fn every_policy_that_is_written_has_no_fault() {
    let Some(lab) = Lab::new().user("alice", &[]).policy("").start() else { return };
    let policies = Written::all().policies;
    assert!(policies.len() >= 10, "{}", policies.len());
    for (page, text) in policies {
        lab.write("/home/alice/policy.toml", &text, 0o600, "alice");
        let out = lab.run_as("alice", ["caplet", "check", "/home/alice/policy.toml"]);
        assert!(out.ok(), "{page}:\n{text}\n{out}");
    }
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let mut named = 0;
    for page in ["docs/security-model.md", "docs/comparison.md"] {
        for (file, test) in text_of(page).split('`').skip(1).step_by(2).filter_map(|span| span.split_once("::")) {
            if file != "file" {
                let there = text_of(&format!("lab/tests/{file}.rs")).contains(&format!("\nfn {test}() {{"));
                assert!(there, "{page}: {file}::{test}");
                named += 1;
            }
        }
    }
    assert!(named > 40, "{named}");
}

#[test]
fn the_wishes_of_the_manual_come_true() {
    let page = text_of("man/caplet-shell.1").replace("\\(dq", "\"").replace("\\-", "-");
    let (_, rest) = page.split_once("profile = \"netlab\"\n").expect("the wishes");
    let (rest, _) = rest.split_once(".Ed").expect("their end");
    let Some(lab) = Lab::new().user("alice", &["students"]).policy(POLICY).start() else { return };
    let wishes = format!("profile = \"netlab\"\n{rest}");
    lab.write("/home/alice/.config/caplet/config.toml", wishes, 0o600, "alice");
    lab.root("cp /bin/bash /usr/bin/zsh.new && mv -f /usr/bin/zsh.new /usr/bin/zsh; echo /usr/bin/zsh >>/etc/shells");
    lab.login_shells(&["alice"]);
    let out = lab.root("su - alice -c 'readlink /proc/$$/exe; grep ^CapEff /proc/self/status'").out();
    let (shell, held) = out.split_once('\n').expect("two lines");
    assert_eq!(shell, "/usr/bin/zsh");
    let held = u64::from_str_radix(held.trim_start_matches("CapEff:").trim(), 16).expect("a set");
    assert_ne!(held & (1 << 12), 0, "NET_ADMIN: {out}");
}
