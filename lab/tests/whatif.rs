//! `caplet check --as`: the rules of the contract, a question each, and the helper itself (`--dry-run`, as that user)
//! must answer the same.

use caplet_lab::{Lab, Output, SharedLab, shared};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r##"
[defaults]
contact = "room 2.14"

[profile.basic]
users = ["alice", "carol"]
groups = ["students"]
not_users = ["mallory"]
not_groups = ["banned"]
may_add = ["NET_RAW", "chown"]

[profile.netlab]
groups = ["students"]
not_users = ["mallory"]
user = "root"
caps = ["docker"]
may_add = ["NET_ADMIN", "SYS_PTRACE"]

[profile.other]
users = ["*"]
not_groups = ["students"]
machines = ["desk-*"]
may_add = ["SYS_ADMIN"]

[profile.past]
users = ["alice"]
may_add = ["SYS_BOOT"]
valid_until = 2020-02-29

[profile.future]
users = ["alice"]
may_add = ["SYS_CHROOT"]
valid_from = 2090-01-01

[profile.everything]
users = ["#5003"]
may_add = ["ALL"]
privileged = true

[profile.hostnet]
users = ["erin"]
network = "host"
may_add = ["IPC_OWNER"]

[profile.clock]
groups = ["timekeepers"]
scope = "host"
caps = ["SYS_TIME"]
commands = ["/usr/bin/date", ["/usr/bin/env", "one", "two words"], "/srv/open/tool"]
pam_account = false

[profile.prio]
users = ["alice"]
scope = "host"
may_add = ["SYS_NICE"]
pam_account = false
"##;

const DROP_IN: &str = "[profile.extra]\nusers = [\"alice\"]\nmay_add = [\"WAKE_ALARM\", \"KILL\"]\n\
    [profile.early]\nusers = [\"erin\"]\nmay_add = [\"KILL\"]\n";

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        Lab::new()
            .group("banned")
            .group("timekeepers")
            .user("alice", &["students", "timekeepers"])
            .user("bob", &["students", "banned"])
            .user("dave", &[])
            .user("mallory", &["students"])
            .user("carol", &[])
            .user("erin", &[])
            .policy(POLICY)
            .file("/etc/caplet/policy.d/50-extra.toml", DROP_IN, 0o640, "root")
            .file("/etc/caplet/policy.d/9-nine.toml", NINE, 0o640, "root")
            .file("/etc/caplet/policy.d/.hidden.toml", "nonsense", 0o640, "root")
            .file("/srv/open/tool", "#!/bin/sh\n", 0o777, "root")
    })
}

/// Behind 50-extra.toml in byte order, before it by number.
const NINE: &str = "[profile.nine]\nusers = [\"erin\", \"carol\"]\nmay_add = [\"KILL\"]\n";

/// Granted by this profile with exactly these capabilities, or refused: with this among what root reads.
enum Answer {
    By(&'static str, &'static str),
    No(&'static str),
    /// No request at all: usage.
    Senseless,
}
use Answer::{By, No, Senseless};

const DOCKER: &str = "CHOWN,DAC_OVERRIDE,FOWNER,FSETID,KILL,SETGID,SETUID,SETPCAP,NET_BIND_SERVICE,NET_RAW,SYS_CHROOT,\
    MKNOD,AUDIT_WRITE,SETFCAP";

#[rustfmt::skip]
const CASES: &[(&str, &str, Answer)] = &[
    // who: by name, by group, by #uid, by *, and taken out again
    ("alice", "id", By("basic", "no capability")),
    ("carol", "id", By("basic", "no capability")),
    ("bob", "id", By("netlab", DOCKER)),
    ("bob", "-p basic id", No("profile \"basic\": the user is taken out by not_users or not_groups")),
    ("mallory", "id", By("everything", "no capability")),
    ("mallory", "-p netlab id", No("profile \"netlab\": the user is taken out")),
    ("dave", "id", No("profile \"basic\": the user is in none of its users and groups")),
    ("carol", "-p netlab id", No("profile \"netlab\": the user is in none")),
    // where and when
    ("dave", "-p other id", No("profile \"other\": not on this machine (machines)")),
    ("alice", "-p past id", No("profile \"past\": no longer (valid_until)")),
    ("alice", "-p future id", No("profile \"future\": not yet (valid_from)")),
    ("alice", "--cap-add SYS_BOOT id", No("profile \"past\": no longer")),
    // every capability asked for is in may_add or in caps
    ("alice", "--cap-add NET_RAW id", By("basic", "NET_RAW")),
    ("alice", "--cap-add CHOWN id", By("basic", "CHOWN")),
    ("alice", "--cap-add NET_ADMIN id", By("netlab", "NET_ADMIN")),
    ("alice", "--cap-add NET_ADMIN,NET_RAW id", By("netlab", "NET_ADMIN")),
    ("alice", "--cap-add SYS_MODULE id", No("SYS_MODULE is neither in may_add nor in caps")),
    ("alice", "-p basic --cap-add NET_ADMIN id", No("profile \"basic\": NET_ADMIN is neither")),
    ("carol", "--cap-add NET_ADMIN id", No("profile \"basic\": NET_ADMIN is neither")),
    // nothing is merged across profiles
    ("alice", "--cap-add NET_ADMIN --cap-add WAKE_ALARM id", No("profile \"netlab\": WAKE_ALARM is neither")),
    // the first that fits; policy.toml before the drop-ins; a dot in front hides a file
    ("alice", "--cap-add KILL id", By("netlab", "KILL")),
    ("alice", "-p extra --cap-add KILL id", By("extra", "KILL")),
    ("erin", "--cap-add KILL id", By("early", "KILL")),
    ("erin", "-p nine --cap-add KILL id", By("nine", "KILL")),
    ("carol", "--cap-add KILL id", By("nine", "KILL")),
    ("erin", "id", By("hostnet", "no capability")),
    // isolated ones before host ones; a host profile without commands only with -p
    ("alice", "date", By("basic", "no capability")),
    ("alice", "-p clock date", By("clock", "SYS_TIME")),
    ("alice", "--cap-add SYS_TIME date", By("clock", "SYS_TIME")),
    ("alice", "--cap-add SYS_NICE id", No("profile \"prio\": a host profile without commands is taken only with -p")),
    ("alice", "-p prio --cap-add SYS_NICE id", By("prio", "SYS_NICE")),
    ("alice", "-p prio id", By("prio", "no capability")),
    // what can do nothing does not fit, by name; under ALL it is taken
    ("alice", "-p extra --cap-add WAKE_ALARM id", No("profile \"extra\": WAKE_ALARM can do nothing in this scope")),
    ("dave", "-p everything --cap-add SYS_TIME id", No("profile \"everything\": the user is in none")),
    ("mallory", "-p everything --cap-add SYS_TIME id", No("profile \"everything\": SYS_TIME can do nothing")),
    ("alice", "--cap-add SYS_TIME id", No("profile \"clock\": not one of its commands")),
    // commands: the file, not the text; arguments as listed; root alone can write the way there
    ("alice", "-p clock /usr/bin/date -s 12:00", By("clock", "SYS_TIME")),
    ("alice", "-p clock /usr/bin/../bin/date", By("clock", "SYS_TIME")),
    ("alice", "-p clock /bin/date", By("clock", "SYS_TIME")),
    ("alice", "-p clock ./date", No("profile \"clock\": not one of its commands")),
    ("alice", "-p clock env one 'two words'", By("clock", "SYS_TIME")),
    ("alice", "-p clock env one", No("profile \"clock\": not one of its commands")),
    ("alice", "-p clock env one two words", No("profile \"clock\": not one of its commands")),
    ("alice", "-p clock env one 'two words' three", No("profile \"clock\": not one of its commands")),
    ("alice", "-p clock", No("profile \"clock\": not one of its commands")),
    ("alice", "-p clock tool", No("profile \"clock\": not one of its commands")),
    ("alice", "-p clock cat", No("profile \"clock\": not one of its commands")),
    // names are Docker's
    ("alice", "--cap-add cap_net_admin id", By("netlab", "NET_ADMIN")),
    ("alice", "--cap-add ' Net_Raw ,CAP_CHOWN' id", By("basic", "CHOWN,NET_RAW")),
    ("alice", "--cap-add NET_RAW --cap-add net_raw id", By("basic", "NET_RAW")),
    // (start + add) - drop; ALL in drop empties the start
    ("bob", "--cap-drop MKNOD id", By("netlab", "CHOWN,DAC_OVERRIDE,FOWNER,FSETID,KILL,SETGID,SETUID,SETPCAP,NET_BIND_SERVICE,NET_RAW,SYS_CHROOT,AUDIT_WRITE,SETFCAP")),
    ("bob", "--cap-drop ALL id", By("netlab", "no capability")),
    ("bob", "--cap-drop ALL --cap-add CHOWN id", By("netlab", "CHOWN")),
    ("bob", "--cap-drop ALL --cap-add NET_ADMIN id", By("netlab", "NET_ADMIN")),
    ("bob", "--cap-drop SYS_MODULE id", By("netlab", DOCKER)),
    // ALL is refused unless may_add says so; with it, a drop wins
    ("alice", "--cap-add ALL id", No("profile \"netlab\": ALL is neither in may_add nor in caps")),
    ("mallory", "-p everything --cap-add ALL --cap-drop ALL id", Senseless),
    ("alice", "--cap-add CHOWN --cap-drop chown id", Senseless),
    ("mallory", "-p everything --cap-add ALL --cap-drop SYS_ADMIN id", By("everything", "")),
    ("mallory", "--cap-add ALL id", By("everything", "")),
    // --privileged is isolated only, where the profile says so; a drop is honoured
    ("alice", "--privileged id", No("profile \"netlab\": it does not say privileged = true")),
    ("alice", "-p clock --privileged date", No("profile \"clock\": it does not say privileged = true, or is a host")),
    ("mallory", "--privileged id", By("everything", "")),
    ("mallory", "--privileged --cap-drop ALL id", By("everything", "no capability")),
    // an unknown profile and somebody else's
    ("alice", "-p nothing id", No("")),
    ("alice", "-p hostnet id", No("profile \"hostnet\": the user is in none")),
    // a network that the session does not own
    ("erin", "-p hostnet --cap-add IPC_OWNER id", By("hostnet", "IPC_OWNER")),
    ("erin", "-p hostnet --cap-add NET_ADMIN id", No("profile \"hostnet\": NET_ADMIN is neither")),
    // no COMMAND: the shell
    ("alice", "--cap-add NET_ADMIN", By("netlab", "NET_ADMIN")),
];

/// The capabilities of "NET_ADMIN,..." in the order of their names: the tools write them in the kernel's order.
fn sorted(text: &str) -> Vec<&str> {
    let mut names: Vec<&str> = text.split(',').map(str::trim).collect();
    names.sort_unstable();
    names
}

fn line_of<'t>(text: &'t str, start: &str) -> &'t str {
    text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default()
}

#[test]
fn each_rule_of_the_contract_is_answered_as_the_helper_does() {
    let Some(lab) = lab() else { return };
    assert!(CASES.len() >= 60, "{}", CASES.len());
    let everything = lab.uid("mallory");
    lab.root(&format!("sed -i 's/#5003/#{everything}/' /etc/caplet/policy.toml"));
    let mut wrong = Vec::new();
    for (user, words, answer) in CASES {
        let what_if = lab.root(&format!("caplet check --as {user} {words}; echo code=$? >&2"));
        let helper = lab.sh(user, &format!("caplet run --dry-run {words}"));
        if let Err(what) = agree(&what_if, &helper, answer) {
            wrong.push(format!("{user}: {words}: {what}\n{what_if}\n{helper}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

fn agree(what_if: &Output, helper: &Output, answer: &Answer) -> Result<(), String> {
    let (text, said) = (what_if.out(), helper.out());
    let granted = matches!(answer, By(..));
    let code = what_if.err().lines().last().unwrap_or_default().to_owned();
    let wanted = match answer {
        By(..) => "code=0",
        No(_) => "code=1",
        Senseless => "code=2",
    };
    if code != wanted {
        return Err(format!("{code}, and not {wanted}"));
    }
    if helper.code() != if granted { 0 } else { 125 } {
        return Err(format!("the helper: {}", helper.code()));
    }
    match answer {
        By(profile, caps) => {
            let by = format!("granted by profile \"{profile}\"");
            if !text.starts_with(&by) || !said.starts_with(&by) {
                return Err("another profile".into());
            }
            let holds = line_of(&text, "  holds: ");
            let held = said.trim_end().rsplit(": ").next().unwrap_or_default();
            let held = if held == "none" { "no capability" } else { held };
            if sorted(holds) != sorted(held) {
                return Err("other capabilities than the helper's".into());
            }
            // Additions only are named for profiles that start with Docker's set.
            let whole = sorted(holds);
            if !caps.is_empty() && !sorted(caps).iter().all(|cap| whole.contains(cap)) {
                return Err(format!("holds {holds}"));
            }
            let additions_only = *profile == "netlab" && !caps.contains(',') && whole.len() > 2;
            if !caps.is_empty() && !additions_only && sorted(caps) != whole {
                return Err(format!("holds {holds}"));
            }
        }
        No(why) => {
            if !text.contains(why) {
                return Err(format!("not because {why}"));
            }
            let reads: Vec<&str> =
                text.lines().skip_while(|l| *l != "the user reads:").skip(1).map(str::trim).collect();
            let read = helper.err();
            if reads != read.lines().collect::<Vec<_>>() {
                return Err("the user reads something else".into());
            }
        }
        Senseless if text.is_empty() && what_if.err_lines().first() == helper.err_lines().first() => {}
        Senseless => return Err("other words than the helper's".into()),
    }
    Ok(())
}

#[test]
fn other_machines_and_other_days_can_be_asked_about() {
    let Some(lab) = lab() else { return };
    let ask = |words: &str| lab.root(&format!("caplet check --as {words}; true")).out();
    for (words, granted) in [
        ("dave --machine desk-7 id", true),
        ("dave --machine DESK-7 id", true),
        ("dave --machine lab-7 id", false),
        ("alice --at 2020-02-29 -p past id", true),
        ("alice --at 2020-02-29T23:59:59 -p past id", true),
        ("alice --at 2020-03-01 -p past id", false),
        ("alice --at 2089-12-31 -p future id", false),
        ("alice --at 2090-01-01T00:00 -p future id", true),
        ("'#0' id", false),
    ] {
        assert_eq!(ask(words).starts_with("granted"), granted, "{words}: {}", ask(words));
    }
}

#[test]
fn a_faulty_policy_answers_no_and_shows_root_where() {
    let Some(lab) = lab() else { return };
    lab.write("/root/p/policy.toml", "[profile.x]\nusers = [\"alice\"]\nmay_ad = [\"NET_RAW\"]\n", 0o600, "root");
    for path in ["/root/p", "/root/p/policy.toml"] {
        let out = lab.root(&format!("caplet check --as alice --policy {path} id; echo code=$?"));
        assert_eq!(out.out(), "code=1", "{out}");
        assert!(out.err().contains("policy.toml:3:1") && out.err().contains("may_add"), "{out}");
    }
    for question in
        ["--as nobody-of-that-name id", "--as '#x' id", "--as alice --at tomorrow id", "--as", "--as alice --bad"]
    {
        let out = lab.root(&format!("caplet check {question}; echo code=$?"));
        assert_eq!(out.out(), "code=2", "{question}: {out}");
        assert_eq!(out.err_lines().len(), 1, "{question}: {out}");
    }
    let out = lab.task("alice", ["caplet", "edit"]).env("EDITOR", "true").run().expect_code(1);
    assert_eq!(
        out.err_lines(),
        ["caplet: /etc/caplet/policy.toml is not yours to change: sudo caplet edit /etc/caplet/policy.toml"]
    );
    // As a user, where the policy is root's alone to read.
    let out = lab.sh("alice", "caplet check --as alice id");
    assert_eq!((out.code(), out.out()), (1, String::new()), "{out}");
}
