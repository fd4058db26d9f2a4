//! The credential cache: one password serves one terminal, one login, one profile, one boot, for a while.

use caplet_lab::{Lab, SharedLab, Terminal, record_skip, shared};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.one]
users = ["*"]
scope = "host"
auth = "password"

[profile.two]
users = ["*"]
auth = "password"

[profile.never]
users = ["*"]
auth = "password"
auth_cache_minutes = 0
"#;
const STACK: &str = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n";
const SECRET: &str = "correct horse";

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        let users = ["alice", "bob", "carol", "dave", "erin", "frank"];
        let lab = users.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &[]));
        lab.policy(POLICY).file("/etc/pam.d/caplet", STACK, 0o644, "root")
    })
}

/// A login shell on a terminal of its own.
struct Login(Terminal);

impl Login {
    fn of(lab: &Lab, user: &str) -> Self {
        lab.set_password(user, SECRET);
        let mut terminal = lab.task(user, ["bash", "--norc", "-i"]).env("PS1", "outer> ").terminal(24, 200);
        terminal.expect("outer> ");
        Self(terminal)
    }

    /// Whether a run in that profile asks for a password; it is given where it does.
    fn asks(&mut self, profile: &str) -> bool {
        self.0.send(&format!("caplet run --quiet -p {profile} sh -c 'echo ran-$((6*7))'; echo status-$?\n"));
        self.0.expect("status-$?");
        let prompt = format!("(profile {profile}): ");
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let asked = loop {
            let screen = self.0.screen();
            let new = screen.rsplit_once("status-$?").expect("shown above").1;
            if new.contains(&prompt) {
                break true;
            }
            if new.contains("status-") {
                break false;
            }
            assert!(std::time::Instant::now() < limit, "{screen}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        if asked {
            self.0.send(&format!("{SECRET}\n"));
        }
        self.0.expect("ran-42");
        self.0.expect("status-0");
        self.0.expect("outer> ");
        asked
    }

    fn types(&mut self, line: &str) -> String {
        self.0.send(&format!("{line}; echo 'don''e'-$?\n"));
        self.0.expect("done-")
    }
}

fn file(lab: &Lab, user: &str) -> String {
    format!("/run/caplet/auth/{}", lab.uid(user))
}

#[test]
fn a_password_serves_its_terminal_and_profile_and_no_other() {
    let Some(lab) = lab() else { return };
    let mut first = Login::of(lab, "alice");
    assert!(first.asks("one"));
    assert!(!first.asks("one"), "as sudo: once for five minutes");
    assert!(first.asks("two"), "another profile");
    assert!(!first.asks("two") && !first.asks("one"));
    assert!(first.asks("never") && first.asks("never"), "auth_cache_minutes = 0");
    let mut second = Login::of(lab, "alice");
    assert!(second.asks("one"), "another terminal");
    // Another session leader on a terminal that has the first one's number is another login.
    first.0.send("exec bash --norc -i\n");
    first.0.expect("outer> ");
    assert!(!first.asks("one"), "the same process goes on");
}

#[test]
fn what_is_kept_is_roots_alone_and_says_nothing_of_a_password() {
    let Some(lab) = lab() else { return };
    let mut login = Login::of(lab, "bob");
    assert!(login.asks("one"));
    let path = file(lab, "bob");
    assert_eq!(lab.root(&format!("stat -c '%u %a' /run/caplet/auth {path}")).out(), "0 700\n0 600");
    let text = lab.read(&path);
    assert!(!text.contains("horse"), "{text}");
    assert!(text.starts_with(lab.read("/proc/sys/kernel/random/boot_id").trim()), "{text}");
    // Age is time since boot, which no SYS_TIME can set.
    let at: f64 = text.lines().nth(1).expect("a proof").split(' ').next().expect("at").parse().expect("seconds");
    let up: f64 = lab.read("/proc/uptime").split(' ').next().expect("up").parse().expect("seconds");
    assert!((0.0..20.0).contains(&(up - at)), "{at} {up}");
    for line in [format!("cat {path}"), format!("touch {path}"), "ls /run/caplet/auth".into()] {
        assert!(!lab.sh("bob", &line).ok(), "{line}");
    }
}

/// What stands in the file is made what it would be had something happened, and the next run asks.
#[test]
fn age_reboot_and_recycled_pids_end_it() {
    let Some(lab) = lab() else { return };
    let mut login = Login::of(lab, "carol");
    let path = file(lab, "carol");
    let fields = |text: &str| -> Vec<String> { text.trim().split(' ').map(str::to_owned).collect() };
    assert!(login.asks("one"));
    for (what, change) in [
        (
            "five minutes ago",
            &(|f: &mut Vec<String>| {
                let before = f[0].parse::<u64>().expect("at").checked_sub(300).unwrap_or_else(|| {
                    record_skip("five minutes ago: this machine was not up then");
                    u64::MAX
                });
                f[0] = before.to_string();
            }) as &dyn Fn(&mut Vec<String>),
        ),
        ("from the future", &|f| f[0] = (f[0].parse::<u64>().expect("at") + 100).to_string()),
        ("another terminal", &|f| f[1] = (f[1].parse::<u64>().expect("tty") + 1).to_string()),
        ("another leader", &|f| f[2] = (f[2].parse::<u64>().expect("pid") + 1).to_string()),
        ("a recycled pid", &|f| f[3] = (f[3].parse::<u64>().expect("start") - 1).to_string()),
        ("another profile", &|f| f[4] = "two".into()),
    ] {
        assert!(!login.asks("one"), "before: {what}");
        let text = lab.read(&path);
        let (boot, proof) = text.split_once('\n').expect("two lines");
        let mut proof = fields(proof);
        change(&mut proof);
        lab.write(&path, format!("{boot}\n{}\n", proof.join(" ")), 0o600, "root");
        assert!(login.asks("one"), "{what}");
        // The proof of this round alone stays.
        lab.root(&format!("sed -i -n '1p;$p' {path}"));
    }
    for spoiled in ["another-boot\n", "", "not a proof at all"] {
        let text = lab.read(&path);
        let rest = text.split_once('\n').expect("two lines").1;
        lab.write(&path, format!("{spoiled}{rest}"), 0o600, "root");
        assert!(login.asks("one"), "{spoiled:?}");
    }
    lab.root(&format!("chmod 644 {path}"));
    assert!(login.asks("one"), "a file that others can read is not the helper's");
}

#[test]
fn forget_ends_it_for_every_terminal() {
    let Some(lab) = lab() else { return };
    let (mut first, mut second) = (Login::of(lab, "dave"), Login::of(lab, "dave"));
    assert!(first.asks("one") && second.asks("one") && second.asks("two"));
    let screen = first.types("caplet forget");
    assert!(!screen.contains("caplet: "), "{screen}");
    assert!(!lab.exists(&file(lab, "dave")));
    assert!(first.asks("one") && second.asks("one") && second.asks("two"));
    // Nobody forgets for another, nothing to forget is no fault, and root is never asked.
    lab.run_as("erin", ["caplet", "forget"]).expect_ok();
    assert!(!first.asks("one"));
    let out = lab.run_as("root", ["caplet", "forget"]).expect_code(1);
    assert!(out.err().contains("you are root"), "{out}");
    // It needs no policy: what was proven must be taken back also where the policy is broken.
    let policy = lab.read("/etc/caplet/policy.toml");
    assert!(!policy.is_empty());
}

#[test]
fn without_a_terminal_nothing_is_kept() {
    let Some(lab) = lab() else { return };
    lab.set_password("erin", SECRET);
    let run = |flags: &[&str]| {
        let words = ["caplet", "run", "--quiet"].iter().chain(flags).chain(&["-p", "one", "true"]);
        lab.task("erin", words).stdin(format!("{SECRET}\n")).run().code()
    };
    assert_eq!(run(&["-S"]), 0);
    assert_eq!(run(&["-n"]), 125);
    assert!(!lab.exists(&file(lab, "erin")));
}

#[test]
fn a_proof_serves_n_and_the_account_is_still_looked_at() {
    let Some(lab) = lab() else { return };
    let mut login = Login::of(lab, "frank");
    assert!(login.types("caplet run -n --quiet -p one true").contains("-n forbids"));
    assert!(login.asks("one"));
    assert!(login.types("caplet run -n --quiet -p one echo r''an").contains("ran\r\n"));
    lab.edit_accounts("chage -E 1 frank");
    let screen = login.types("caplet run -n --quiet -p one echo r''an");
    assert!(screen.contains("your account is refused") && !screen.contains("\nran\r\n"), "{screen}");
    lab.edit_accounts("chage -E -1 frank");
}
