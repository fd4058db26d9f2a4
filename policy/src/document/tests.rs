//! Whole policies: what is read, and what each fault says and where.

use super::*;
use crate::capability::{CapSet, Capability};

fn sources(texts: &[&str]) -> Vec<Source> {
    let name = |n: usize| {
        if n == 0 { "policy.toml".to_owned() } else { format!("policy.d/{n}.toml") }
    };
    let sources = texts.iter().enumerate().map(|(n, text)| Source { path: name(n), text: (*text).to_owned() });
    sources.collect()
}

fn good(text: &str) -> Document {
    Document::read(&sources(&[text])).unwrap_or_else(|faults| panic!("{text}: {faults:#?}"))
}

fn bad(texts: &[&str]) -> Faults {
    Document::read(&sources(texts)).expect_err("a fault")
}

/// `line:column+width message | help`, one per fault.
fn faults(text: &str) -> Vec<String> {
    let line = |fault: Fault| {
        let help = fault.help.map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{}:{}+{} {}{help}", fault.line, fault.column, fault.width, fault.message)
    };
    bad(&[text]).faults.into_iter().map(line).collect()
}

/// Faults of one line of an isolated profile of alice; the line is the third.
fn isolated(line: &str) -> Vec<String> {
    faults(&format!("[profile.p]\nusers = [\"alice\"]\n{line}\n"))
}

fn host(line: &str) -> Vec<String> {
    faults(&format!("[profile.p]\nusers = [\"alice\"]\n{line}\nscope = \"host\"\n"))
}

fn cap(name: &str) -> CapSet {
    CapSet::EMPTY.with(Capability::parse(name).unwrap())
}

#[test]
fn every_key_of_an_isolated_profile_is_read() {
    let document = good(
        r##"
[defaults]
contact = "lab-admin@example.edu"
log = "required"
[profile.netlab]
description = "Networks"
users = ["alice", "#1004", "*"]
groups = ["students", "#2000", "DOMAIN\\staff", "x@example.edu"]
not_users = ["mallory"]
not_groups = ["#0"]
machines = ["lab-*", "pc?.example.edu"]
scope = "isolated"
caps = ["docker", "cap_sys_ptrace"]
may_add = ["NET_ADMIN", "all"]
auth = "password"
auth_cache_minutes = 0
pam_account = true
pam_session = true
valid_from = 2026-09-01
valid_until = 2027-02-15T18:00:00Z
limits = { nofile = "1_024", nproc = 0x10, as = "1:2" }

[profile.netlab.cgroup]
tasks = 200
memory = "1G"
cpu = "150%"
"##
        .replace("1_024", "1024")
        .as_str(),
    );
    assert_eq!(document.defaults.contact.as_deref(), Some("lab-admin@example.edu"));
    assert!(document.defaults.log_required);
    let p = &document.profiles[0];
    assert_eq!((p.name.as_str(), p.at.file.as_str(), p.at.line), ("netlab", "policy.toml", 5));
    assert_eq!(p.users, [Subject::Name("alice".into()), Subject::Id(1004), Subject::Everybody]);
    assert_eq!(p.groups[2], Subject::Name("DOMAIN\\staff".into()));
    assert_eq!(p.not_users, [Subject::Name("mallory".into())]);
    assert_eq!(p.not_groups, [Subject::Id(0)]);
    assert_eq!(p.machines, ["lab-*", "pc?.example.edu"]);
    assert_eq!(p.caps, Some(CapSet::DOCKER.union(cap("SYS_PTRACE"))));
    assert_eq!((p.may_add, p.may_add_all), (cap("NET_ADMIN"), true));
    assert_eq!((p.auth, p.auth_cache_minutes, p.pam_account, p.pam_session), (Auth::Password, 0, true, true));
    assert!(matches!(p.valid_from, Some(Moment::Local(Civil { year: 2026, month: 9, day: 1, hour: 0, .. }))));
    assert_eq!(p.valid_until, Some(Moment::Unix(1_802_714_400)));
    let limit = |name, soft, hard| Limit { name, soft, hard };
    assert_eq!(p.limits, [limit("as", 1024, 2048), limit("nofile", 1024, 1024), limit("nproc", 16, 16)]);
    assert_eq!(p.cgroup, Some(Cgroup { tasks: Some(200), memory: Some(1 << 30), cpu: Some(150) }));

    let document = good(
        r##"
[profile.a]
users = ["*"]
umask = "027"
env_keep = ["LANG", "LC_*"]
env_set = { EDITOR = "vi", EMPTY = "" }
shell = "/bin/bash"
groups_keep = ["students", "#7"]
max_sessions = 1
max_lifetime = 60
login = true
user = "root"
network = "host"
home = "tmpfs"
tmp_size = "512M"
writable = ["/srv/lab"]
hide = ["/srv/exams"]
devices = ["/dev/kvm"]
hostname = "lab-1.example"
subids = true
time_namespace = true
nested_userns = true
seccomp = "none"
privileged = true
linger = true
why = "trace"
"##,
    );
    let p = &document.profiles[0];
    assert_eq!((p.umask, p.shell.as_deref()), (Some(0o27), Some("/bin/bash")));
    assert_eq!(p.env_keep, ["LANG", "LC_*"]);
    assert_eq!((p.env_set["EDITOR"].as_str(), p.env_set["EMPTY"].as_str()), ("vi", ""));
    assert_eq!(p.groups_keep, GroupsKeep::Listed(vec![Subject::Name("students".into()), Subject::Id(7)]));
    assert_eq!((p.max_sessions, p.max_lifetime), (1, Some(60)));
    assert_eq!((p.user, p.network.clone(), p.home), (UserMode::Root, Network::Host, Home::Tmpfs));
    assert_eq!((&p.writable[0][..], &p.hide[0][..], &p.devices[0][..]), ("/srv/lab", "/srv/exams", "/dev/kvm"));
    assert_eq!(p.hostname.as_deref(), Some("lab-1.example"));
    assert_eq!((p.seccomp, p.tmp_size, p.cgroup, p.why), (Seccomp::None, Some(512 << 20), None, Why::Trace));
    assert!(p.login && p.subids && p.time_namespace && p.nested_userns && p.privileged && p.linger);
    assert_eq!(p.starting_set(), CapSet::DOCKER);
}

#[test]
fn every_key_of_a_host_profile_is_read() {
    let document = good(
        r#"
[profile.clock]
users = ["alice"]
scope = "host"
caps = ["SYS_TIME", "SYS_ADMIN"]
may_add = ["ALL"]
commands = ["/usr/bin/date", ["/usr/sbin/hwclock", "--systohc"], ["/bin/x"]]
home_keep = true
no_new_privs = false
accept_root_equivalent = true
"#,
    );
    let p = &document.profiles[0];
    let command = |path: &str, args: Option<&[&str]>| Command {
        path: path.into(),
        args: args.map(|args| args.iter().map(|arg| (*arg).to_owned()).collect()),
    };
    assert_eq!(
        p.commands.as_deref().unwrap(),
        [
            command("/usr/bin/date", None),
            command("/usr/sbin/hwclock", Some(&["--systohc"])),
            command("/bin/x", Some(&[])),
        ]
    );
    assert!(p.home_keep && !p.no_new_privs && p.accept_root_equivalent && p.may_add_all);
    assert_eq!((p.scope, p.starting_set()), (Scope::Host, cap("SYS_TIME").union(cap("SYS_ADMIN"))));
}

#[test]
fn what_is_not_set_has_the_contracts_default() {
    let document = good("[profile.a]\nusers=['*']\n[profile.b]\ngroups=['g']\nscope='host'\n");
    let (a, b) = (&document.profiles[0], &document.profiles[1]);
    assert_eq!((a.pam_account, b.pam_account), (false, true));
    assert_eq!((&a.groups_keep, &b.groups_keep), (&GroupsKeep::NotRootEquivalent, &GroupsKeep::All));
    assert_eq!((a.auth, a.auth_cache_minutes, a.max_sessions, a.max_lifetime), (Auth::None, 5, 32, None));
    assert_eq!(
        (a.user, a.network.clone(), a.home, a.scope),
        (UserMode::Own, Network::Private, Home::ReadWrite, Scope::Isolated)
    );
    assert!(!a.login && !a.subids && !a.privileged && !a.pam_session && b.no_new_privs && !b.home_keep);
    assert!(a.starting_set().is_empty() && b.starting_set().is_empty() && b.commands.is_none());
    let empty = good("");
    assert!(empty.profiles.is_empty() && !empty.defaults.log_required && empty.defaults.contact.is_none());
    assert!(Document::read(&[]).unwrap().profiles.is_empty());
}

#[test]
fn defaults_fill_what_a_profile_leaves_out_and_add_to_hide() {
    let texts = [
        "[profile.z]\nusers=['*']\n[profile.own]\nusers=['*']\numask='077'\nhide=['/b']\npam_account=true\nenv_keep=[]\n",
        "[profile.h]\nusers=['*']\nscope='host'\n[defaults]\numask='022'\nhide=['/a','/b']\npam_account=false\n\
         env_keep=['LANG']\nenv_set={A='1'}\nlimits={core=0}\nauth_cache_minutes=9\n",
    ];
    let document = Document::read(&sources(&texts)).unwrap();
    let names: Vec<_> = document.profiles.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["z", "own", "h"], "in the order in which they stand");
    let [z, own, h] = &document.profiles[..] else { panic!() };
    assert_eq!((z.umask, own.umask, h.umask), (Some(0o22), Some(0o77), Some(0o22)));
    assert_eq!((z.hide.join(" "), own.hide.join(" "), h.hide.join(" ")), ("/a /b".into(), "/a /b".into(), "".into()));
    assert_eq!((z.pam_account, own.pam_account, h.pam_account), (false, true, false));
    assert_eq!((z.env_keep.len(), own.env_keep.len(), z.env_set.len(), z.limits.len()), (1, 0, 1, 1));
    assert_eq!((h.auth_cache_minutes, h.at.file.as_str(), h.at.line), (9, "policy.d/1.toml", 1));
}

#[test]
fn the_built_in_policy() {
    let p = &Document::built_in().profiles[0];
    assert_eq!((p.name.as_str(), p.scope, p.starting_set()), ("default", Scope::Isolated, CapSet::DOCKER));
    assert!(p.may_add_all && p.privileged && p.users == [Subject::Everybody] && !p.login);
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_toml() {
    assert_eq!(good("\u{feff}[profile.a]\r\nusers = [\"a\"]\r\n").profiles.len(), 1);
    assert_eq!(faults("\u{feff}x = 1\r\n"), ["1:1+1 unknown key \"x\""]);
    assert_eq!(faults("[defaults]\r\nä = 1"), ["2:1+1 invalid unquoted key, expected letters, numbers, `-`, `_`"]);
    assert_eq!(faults("[defaults]\ncontact = 'ä', x")[0].split('+').next(), Some("2:14"), "columns are characters");
}

#[test]
fn unknown_tables_and_keys() {
    assert_eq!(faults("[profiles.a]\n"), ["1:2+8 unknown table \"profiles\" | did you mean \"profile\"?"]);
    assert_eq!(faults("users = ['a']\n"), ["1:1+5 unknown key \"users\" | keys stand below a line [profile.NAME]"]);
    assert_eq!(faults("defaults = 1")[0], "1:1+8 defaults must be a table | it starts with a line [defaults]");
    assert_eq!(faults("[[profile]]")[0], "1:3+7 profile must be a table | it starts with a line [profile.NAME]");
    assert_eq!(isolated("capz = []"), ["3:1+4 unknown key \"capz\" | did you mean \"caps\"?"]);
    assert_eq!(isolated("may-add = []"), ["3:1+7 unknown key \"may-add\" | did you mean \"may_add\"?"]);
    assert_eq!(isolated("cgroups = true"), ["3:1+7 unknown key \"cgroups\" | did you mean \"groups\"?"]);
    assert_eq!(
        isolated("seccomp = 'docker'"),
        ["3:11+8 \"docker\" is no value for seccomp | one of \"default\", \"none\""]
    );
    assert_eq!(isolated("contact = 'x'"), ["3:1+7 contact belongs in [defaults]"]);
    assert_eq!(
        faults("[defaults]\ncaps = ['docker']\nlogg = 'required'\n"),
        [
            "2:1+4 caps cannot stand in [defaults] | it belongs in a [profile.NAME]",
            "3:1+4 unknown key \"logg\" | did you mean \"log\"?",
        ]
    );
}

#[test]
fn wrong_types_say_what_to_write() {
    assert_eq!(
        isolated("caps = \"docker\"")[0],
        "3:8+8 caps must be a list of strings, not a string | in brackets: [\"docker\"]"
    );
    assert_eq!(
        isolated("login = \"true\"")[0],
        "3:9+6 login must be true or false, not a string | without quotes: true"
    );
    assert_eq!(isolated("umask = 22")[0], "3:9+2 umask must be a string, not an integer | in quotes: \"22\"");
    assert_eq!(isolated("not_users = [1004]"), ["3:14+4 not_users holds strings, not an integer"]);
    assert_eq!(isolated("env_set = []"), ["3:11+2 env_set must be a table, not a list"]);
    assert_eq!(isolated("env_set = { A = 1 }")[0], "3:17+1 A must be a string, not an integer | in quotes: \"1\"");
    assert_eq!(isolated("max_sessions = 1.5"), ["3:16+3 max_sessions must be an integer, not a number with a point"]);
    assert_eq!(isolated("network = {}"), ["3:11+2 network must be a string, not a table"]);
    assert_eq!(isolated("limits = { core = true }"), ["3:19+4 core must be an integer or a string, not true or false"]);
    let kept = |line: &str| good(&format!("[profile.a]\nusers = ['x']\n{line}\n")).profiles[0].groups_keep.clone();
    assert_eq!(kept("groups_keep = 'all'"), GroupsKeep::All);
    assert_eq!(isolated("groups_keep = 'none'"), ["3:15+6 groups_keep must be \"all\" or a list of groups"]);
    assert_eq!(
        isolated("valid_until = '2027-02-15'"),
        ["3:15+12 must be a date or a date-time | 2027-02-15, or 2027-02-15T18:00:00, without quotes"]
    );
    assert_eq!(isolated("valid_from = 10:00:00")[0].split(" |").next(), Some("3:14+8 a time of day without a date"));
    assert_eq!(
        faults("[profile]\na = 1"),
        ["2:1+1 profile \"a\" must be a table | it starts with a line [profile.NAME]"]
    );
    assert_eq!(isolated("home = 'none'"), ["3:8+6 \"none\" is no value for home | one of \"rw\", \"ro\", \"tmpfs\""]);
}

#[test]
fn capabilities_and_sets() {
    assert_eq!(
        isolated("caps = ['NET_ADMN']"),
        ["3:9+10 unknown capability \"NET_ADMN\" | did you mean \"NET_ADMIN\"?"]
    );
    assert_eq!(isolated("caps = ['dokcer']"), ["3:9+8 unknown capability \"dokcer\" | did you mean \"docker\"?"]);
    assert_eq!(isolated("may_add = ['CAP_ALL']")[0].split(" |").next(), Some("3:12+9 unknown capability \"CAP_ALL\""));
    assert_eq!(isolated("may_add = ['']"), ["3:12+2 an empty capability name"]);
    assert_eq!(isolated("caps = ['none', 'CHOWN']"), ["3:9+6 \"none\" stands alone"]);
    assert_eq!(isolated("caps = ['ALL']")[0].split(" |").next(), Some("3:9+5 ALL is no starting set"));
    assert_eq!(
        isolated("may_add = ['docker']"),
        ["3:12+8 \"docker\" is a set, and a set stands in \"caps\" only | may_add names capabilities, or \"ALL\""]
    );
    let none =
        good("[profile.a]\nusers=['*']\nuser='root'\ncaps=['none']\n[profile.b]\nusers=['*']\nuser='root'\ncaps=[]\n");
    assert!(none.profiles.iter().all(|p| p.starting_set().is_empty()));
}

#[test]
fn profiles_twice_or_for_nobody_or_without_a_name() {
    assert_eq!(
        faults("[profile.a]\nusers=['*']\n\n[profile.a]\nusers=['*']\n"),
        ["4:10+1 \"a\" stands here twice | first on line 1"]
    );
    assert_eq!(
        faults("[profile.a]\nusers=['*']\nusers = ['b']\n"),
        ["3:1+5 \"users\" stands here twice | first on line 2"]
    );
    let again = bad(&["[profile.a]\nusers=['*']\n", "\n[profile.a]\nusers=['*']\n[profile.b]\nusers=['*']\n"]).faults;
    assert_eq!((again.len(), again[0].file.as_str(), again[0].line), (1, "policy.d/1.toml", 2));
    assert_eq!(again[0].message, "profile \"a\" stands in two files");
    assert_eq!(again[0].help.as_deref(), Some("first in policy.toml:1"));
    let twice = bad(&["[defaults]\n", "", "[defaults]\nlog = 1\n"]).faults;
    assert_eq!((twice.len(), twice[0].line, twice[1].line), (2, 1, 2));
    assert_eq!(twice[0].help.as_deref(), Some("first in policy.toml:1"));
    assert_eq!(
        faults("[profile.a]\nusers = []\n"),
        ["1:10+1 profile \"a\" is for nobody | users = [...] or groups = [...]; users = [\"*\"] is everybody"]
    );
    for name in ["a b", "", "ä", "a.b", &"x".repeat(65), "a\\u0000", "../a"] {
        let found = faults(&format!("[profile.\"{name}\"]\nusers = ['*']\n"));
        assert!(found.len() == 1 && found[0].contains("cannot be the name of a profile"), "{found:?}");
    }
}

#[test]
fn keys_of_the_other_scope() {
    assert_eq!(isolated("commands = ['x']"), ["3:1+8 commands is for host profiles | scope = \"host\" makes this one"]);
    for key in ["login = true", "privileged = true", "hide = []", "user = 'root'", "time_namespace = false"] {
        let found = host(key);
        let key = key.split(' ').next().unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with(&format!("3:1+{} {key} is for isolated profiles", key.len())), "{found:?}");
    }
    let unclear = faults("[profile.a]\nusers = ['*']\nscope = 'hots'\nlogin = true\ncommands = ['/bin/x']\n");
    assert_eq!(unclear, ["3:9+6 \"hots\" is no value for scope | one of \"isolated\", \"host\""]);
}

#[test]
fn paths_are_absolute_and_in_their_shortest_form() {
    for (path, what) in [
        ("date", "is no absolute path | it starts with \"/\""),
        ("", "is no absolute path | it starts with \"/\""),
        ("~/x", "is no absolute path | it starts with \"/\""),
        ("/", "is the whole tree"),
        ("/a/", "ends with \"/\""),
        ("//a", "has an empty part"),
        ("/a//b", "has an empty part"),
        ("/a/../b", "has \".\" or \"..\" in it"),
        ("/a/.", "has \".\" or \"..\" in it"),
    ] {
        for (key, at) in [("writable", 13), ("hide", 9), ("devices", 12)] {
            let expected = format!("3:{at}+{} \"{path}\" {what}", path.len() + 2);
            assert_eq!(isolated(&format!("{key} = [\"{path}\"]")), [expected]);
        }
        assert_eq!(isolated(&format!("shell = '{path}'")), [format!("3:9+{} \"{path}\" {what}", path.len() + 2)]);
        assert_eq!(host(&format!("commands = ['{path}']")), [format!("3:13+{} \"{path}\" {what}", path.len() + 2)]);
        let in_list = host(&format!("commands = [['{path}', '-x']]"));
        assert_eq!(in_list, [format!("3:14+{} \"{path}\" {what}", path.len() + 2)]);
    }
    assert_eq!(isolated(r#"hide = ["/a\u0000b"]"#), ["3:9+11 character \\u{0} in a string"]);
    assert_eq!(isolated(r#"hide = ["/a\tb"]"#), ["3:9+7 \"/a\\tb\" has a control character in it"]);
    assert!(isolated(&format!("hide = ['/{}']", "x".repeat(4095)))[0].ends_with("is too long for a path"));
    assert_eq!(
        host("commands = []")[0],
        "3:12+2 commands has no command in it | without this key every command may be run"
    );
    assert_eq!(host("commands = [[]]"), ["3:13+2 an empty command"]);
    assert_eq!(host("commands = [1]"), ["3:13+1 a command must be a string, not an integer | in quotes: \"1\""]);
    assert_eq!(host("commands = [['/bin/x', 1]]"), ["3:24+1 a command holds strings, not an integer"]);
    for command in ["/sbin/hwclock --systohc", "/bin/*"] {
        let found = host(&format!("commands = ['{command}']"));
        assert!(
            found[0].starts_with("3:13+") && found[0].contains("is no path of one command | no patterns; a command")
        );
    }
}

#[test]
fn names_and_ids_of_users_are_strict() {
    for text in ["#-1", "#4294967295", "#4294967296", "# 0", "#+0", "#0x0", "#", "#00", "#01", "#1 ", "#5e3", "##1"] {
        let found = isolated(&format!("not_users = ['{text}']"));
        assert_eq!(found, [format!("3:14+{} \"{text}\" is no id | \"#\" and 0 to 4294967294", text.len() + 2)]);
    }
    for text in ["", "0", "1004", "-1", " alice", "alice ", "a b", "a:b", "a/b", "al*", "%staff", "аlice", "a#b", "+x"]
    {
        let found = isolated(&format!("not_users = ['{text}']"));
        assert!(found.len() == 1 && found[0].starts_with("3:14+"), "{text}: {found:?}");
        assert_eq!(isolated(&format!("not_groups = ['{text}']")).len(), 1, "{text}");
        assert_eq!(isolated(&format!("groups_keep = ['{text}']")).len(), 1, "{text}");
    }
    assert_eq!(isolated("not_users = [\"a\\nb\"]").len(), 1);
    assert_eq!(isolated("not_users = ['1004']"), ["3:14+6 \"1004\" is no name | an id is written \"#1004\""]);
    assert_eq!(isolated("groups = ['*']"), ["3:11+3 \"*\" is everybody, and stands in \"users\" only"]);
    assert_eq!(good("[profile.a]\nusers=['#0','#4294967294','a.b-c_d$']\n").profiles[0].users.len(), 3);
}

#[test]
fn single_values() {
    let first = |line: &str| isolated(line)[0].split(" |").next().unwrap().to_owned();
    for umask in ["8", "0o22", "1000", "00022", "", "-22", "u=rwx"] {
        assert_eq!(first(&format!("umask = '{umask}'")), format!("3:9+{} \"{umask}\" is no umask", umask.len() + 2));
    }
    for (key, value) in
        [("max_sessions", "0"), ("max_lifetime", "0"), ("auth_cache_minutes", "-1"), ("max_sessions", "4294967296")]
    {
        let at = key.len() + 4;
        assert_eq!(first(&format!("{key} = {value}")), format!("3:{at}+{} {value} is no value for {key}", value.len()));
    }
    for (value, fault) in [
        ("{}", "3:10+2 cgroup limits nothing"),
        ("5", "3:10+1 cgroup must be a table, not an integer"),
        ("{ tasks = 3 }", "3:20+1 3 is no value for tasks"),
        ("{ tasks = 4194305 }", "3:20+7 4194305 is no value for tasks"),
        ("{ tasks = '9' }", "3:20+3 tasks must be an integer, not a string"),
        ("{ memory = 9000000 }", "3:21+7 memory must be a string, not an integer"),
        ("{ memory = '7M' }", "3:21+4 \"7M\" is no size"),
        ("{ cpu = '1.5' }", "3:18+5 \"1.5\" is no share of a processor"),
        ("{ task = 9 }", "3:12+4 unknown key \"task\" of cgroup"),
    ] {
        assert_eq!(first(&format!("cgroup = {value}")), fault);
    }
    assert_eq!(first("tmp_size = '2g'"), "3:12+4 \"2g\" is no size");
    for name in ["-a", "a-", "a_b", "a..b", "", "ä", &"a".repeat(64), "a b"] {
        assert!(first(&format!("hostname = '{name}'")).ends_with("is no host name"), "{name}");
        if !["-a", "a-", "a_b", "a..b"].contains(&name) && name.len() < 64 {
            assert!(first(&format!("machines = ['{name}']")).ends_with("is no host name"), "{name}");
        }
    }
    assert_eq!(isolated("description = \"a\\nb\""), ["3:15+6 must be one line, without tabs"]);
    assert_eq!(first("env_keep = ['A', '1B']"), "3:18+4 \"1B\" is no name of a variable");
    assert_eq!(first("env_keep = ['*']"), "3:13+3 \"\" is no name of a variable");
    assert_eq!(first("env_keep = ['L*']"), "3:13+4 \"L*\" takes in LD_");
    assert_eq!(first("env_keep = ['LD_LIB*']"), "3:13+9 LD_LIB makes programs load code, or is caplet's own");
    assert_eq!(
        first("env_set = { LD_PRELOAD = '/x' }"),
        "3:13+10 LD_PRELOAD makes programs load code, or is caplet's own"
    );
    assert_eq!(
        first("env_set = { GLIBC_TUNABLES = '' }"),
        "3:13+14 GLIBC_TUNABLES makes programs load code, or is caplet's own"
    );
    assert_eq!(
        first("env_set = { CAPLET_CAPS = '' }"),
        "3:13+11 CAPLET_CAPS makes programs load code, or is caplet's own"
    );
    assert_eq!(first("env_set = { 'A=B' = '' }"), "3:13+5 \"A=B\" is no name of a variable");
    assert_eq!(first("env_set = { A = \"\\u0000\" }"), "3:17+8 character \\u{0} in a string");
}

#[test]
fn limits_name_where_they_are_wrong() {
    assert_eq!(isolated("limits = { nofiles = 1 }"), ["3:12+7 unknown limit \"nofiles\" | did you mean \"nofile\"?"]);
    assert_eq!(
        isolated("limits = { maxlogins = 1 }"),
        ["3:12+9 unknown limit \"maxlogins\" | max_sessions of the profile counts sessions"]
    );
    assert_eq!(isolated("limits.nproc = '9:8'"), ["3:16+5 the soft limit 9 is above the hard one, 8"]);
    assert_eq!(
        isolated("limits.nproc = 'many'"),
        ["3:16+6 \"many\" is no value for nproc | a number, \"unlimited\", or \"soft:hard\""]
    );
    assert_eq!(
        isolated("limits.as = 9223372036854775807"),
        ["3:13+19 \"9223372036854775807\" is no value for as | a number from 0, or \"unlimited\""]
    );
}

#[test]
fn what_does_not_fit_together() {
    assert_eq!(
        isolated("valid_from = 2027-02-16\nvalid_until = 2027-02-15"),
        ["4:15+10 valid_until lies before valid_from"]
    );
    assert_eq!(
        isolated("subids = true"),
        ["3:10+4 subids needs user = \"root\" | other ids exist only behind a root of the session's own"]
    );
    assert_eq!(
        isolated("may_add = ['CHOWN', 'net_raw', 'NET_ADMIN']\nnetwork = 'host'"),
        [
            "3:21+9 NET_RAW can do nothing with network = \"host\" | \
             with network = \"private\" the session has a network of its own",
            "3:32+11 NET_ADMIN can do nothing with network = \"host\" | \
             with network = \"private\" the session has a network of its own",
        ]
    );
    good("[profile.a]\nusers=['*']\nnetwork='host'\ncaps=['docker']\nmay_add=['ALL']\n");
}

#[test]
fn what_is_as_good_as_root_on_the_host_must_be_accepted() {
    let first = |line: &str| {
        let found = host(line);
        let words = |fault: &String| fault.split(" |").next().unwrap().to_owned();
        found.iter().map(words).collect::<Vec<_>>()
    };
    assert_eq!(first("may_add = ['ALL']"), ["3:12+5 ALL: as good as root on this machine"]);
    assert_eq!(first("caps = ['SYS_TIME', 'SYS_ADMIN']"), ["3:21+11 SYS_ADMIN: as good as root on this machine"]);
    assert_eq!(first("may_add = ['DAC_READ_SEARCH']"), ["3:12+17 DAC_READ_SEARCH: as good as root on this machine"]);
    assert_eq!(
        first("caps = ['PERFMON']\nmay_add = ['BPF']"),
        ["3:9+9 PERFMON: as good as root on this machine", "4:12+5 BPF: as good as root on this machine"]
    );
    assert_eq!(first("caps = ['podman']").len(), 1);
    assert!(host("caps = ['SYS_PTRACE']")[0].contains("| accept_root_equivalent = true, if that is meant"));
    for line in ["caps = ['PERFMON']", "caps = ['BPF']", "may_add = ['SYS_TIME', 'SYSLOG', 'SYS_NICE']"] {
        good(&format!("[profile.p]\nusers=['*']\nscope='host'\n{line}\n"));
    }
    good("[profile.p]\nusers=['*']\nscope='host'\ncaps=['docker']\nmay_add=['ALL']\naccept_root_equivalent=true\n");
}

#[test]
fn broken_toml_is_complained_of_once_and_without_guesses() {
    assert_eq!(
        faults("[profile.a]\nusers = [alice]\n[profile.b]\nusers = ['*']\nscope = host\ncommands = ['/bin/x']\n"),
        ["2:10+5 string values must be quoted", "5:9+4 string values must be quoted"]
    );
    assert_eq!(
        faults("[profile.a]\nusers = ['x'\ncaps = ['docker']\n[profile.b]\ncapz = 1\n"),
        ["2:9+1 this list has no end | a \"]\" is missing"]
    );
    // Of other files all is told, and of this one what stands before it.
    let found = bad(&["[profile.a]\nusers = ['x'\n", "[profile.b]\nusers = ['*']\nlogin = 1\n"]).faults;
    assert_eq!(
        found.iter().map(|f| (f.file.as_str(), f.line)).collect::<Vec<_>>(),
        [("policy.toml", 2), ("policy.d/1.toml", 3)]
    );
    assert_eq!(faults("[profile.a]\nlogin = 1\nusers = ['x'")[0], "2:9+1 login must be true or false, not an integer");
    assert_eq!(faults("[profile.a]\nusers = ['x'")[0], "2:9+1 this list has no end | a \"]\" is missing");
    assert!(!faults("\0").is_empty() && !faults("[profile.a]\nusers = ['a\0']").is_empty());
}

#[test]
fn ten_faults_of_ten_kinds_are_ten_and_the_contact_is_read_all_the_same() {
    let text = "\
[defaults]
contact = \"room 2.14\"
log = \"sometimes\"
[profile.a]
users = ['#-1']
capz = []
may_add = ['NET_ADMN']
umask = 22
hide = ['x']
subids = true
[profile.b]
[profile.c]
users = ['*']
login = maybe
[profile.d]
users = ['*']
scope = 'host'
caps = ['SYS_ADMIN']
commands = ['date']
home = 'ro'
";
    let Faults { faults, contact } = bad(&[text, "[profile.a]\nusers = ['*']\n"]);
    assert_eq!(contact.as_deref(), Some("room 2.14"));
    let lines: Vec<_> = faults.iter().map(|f| (f.file.as_str(), f.line)).collect();
    let mut expected: Vec<_> = [3, 5, 6, 7, 8, 9, 10, 11, 14, 18, 19, 20].map(|line| ("policy.toml", line)).into();
    expected.push(("policy.d/1.toml", 1));
    assert_eq!(lines, expected, "{faults:#?}");
}

const SAMPLE: &str = include_str!("../../../etc/policy.toml");

/// `#key` becomes `key`; `# prose` stays, as the file's head says.
fn switched_on() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    SAMPLE.lines().map(line).collect()
}

#[test]
fn the_installed_sample_grants_nobody_anything_and_its_examples_are_right() {
    let installed = good(SAMPLE);
    assert!(installed.profiles.is_empty() && installed.defaults.contact.is_none());
    let document = good(&switched_on());
    let names: Vec<_> = document.profiles.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["student", "netlab", "oslab", "shared", "clock", "perf"]);
    assert!(document.defaults.contact.is_some() && document.networks.len() == 1);
    assert!(document.profiles[0].login && document.profiles[0].starting_set().is_empty());
    assert!(SAMPLE.lines().all(|line| line.len() <= 110));
}

#[test]
fn no_bytes_panic_the_reader() {
    // xorshift: the same mutations every time
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let whole = switched_on();
    let good = whole.as_bytes();
    let words: [&[u8]; 12] = [
        b"[",
        b"]",
        b"\"",
        b"'''",
        b"=",
        b"\n[profile.",
        b"{",
        b"}",
        b"\0",
        b"\xef\xbb\xbf",
        b"\xf0\x9f\x98\x80",
        b"1e9",
    ];
    for _ in 0..3000 {
        let mut bytes = good.to_vec();
        for _ in 0..=random(8) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.drain(at..(at + random(40)).min(bytes.len()))),
                2 => drop(bytes.splice(at..at, words[random(words.len())].iter().copied())),
                _ => {
                    let from = random(good.len());
                    let piece = &good[from..(from + random(80)).min(good.len())];
                    drop(bytes.splice(at..at, piece.iter().copied()));
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(faults) = Document::read(&sources(&[&text, "[profile.z]\nusers = ['*']\n"])) {
            let ordered = faults.faults.windows(2).all(|f| (f[0].file != f[1].file) || f[0].line <= f[1].line);
            assert!(!faults.faults.is_empty() && ordered);
            assert!(faults.faults.iter().all(|f| f.line >= 1 && f.column >= 1 && f.width >= 1));
            #[cfg(feature = "render")]
            for fault in &faults.faults {
                render(fault, &sources(&[&text]));
            }
        }
    }
    let deep = "a.".repeat(100_000);
    assert!(Document::read(&sources(&[&format!("[profile.{deep}a]\n{deep}a = {}1\n", "[".repeat(100_000))])).is_err());
}

#[test]
fn networks_are_read_with_their_defaults() {
    let document = good(
        r#"
[network.lab]
subnet = "172.17.0.0/16"
[network.exam-2]
description = "x"
kind = "bridge"
subnet = "192.168.7.0/24"
gateway = "192.168.7.254"
nat = true
isolate = true
dns = ["10.0.0.53", "fd00::53"]
host_access = true
antispoof = false
[network.theirs]
subnet = "10.1.0.0/30"
bridge = "br0"
[profile.p]
users = ["alice"]
network = "lab"
"#,
    );
    let [lab, exam, theirs] = document.networks.as_slice() else { panic!("{document:#?}") };
    let by_name = |name: &str| document.networks.iter().find(|lan| lan.name == name).unwrap();
    assert_eq!((lab.name.as_str(), exam.name.as_str(), theirs.name.as_str()), ("exam-2", "lab", "theirs"));
    let lab = by_name("lab");
    assert_eq!((lab.gateway.to_string(), lab.subnet.to_string()), ("172.17.0.1".into(), "172.17.0.0/16".into()));
    assert_eq!((lab.nat, lab.isolate, lab.host_access, lab.antispoof, lab.at.line), (false, false, false, true, 2));
    assert_eq!((lab.subnet.hosts(), lab.bridge.as_deref()), (65534, None));
    let exam = by_name("exam-2");
    assert_eq!((exam.nat, exam.isolate, exam.host_access, exam.antispoof), (true, true, true, false));
    assert_eq!((exam.gateway.to_string(), exam.dns.len()), ("192.168.7.254".into(), 2));
    assert_eq!(by_name("theirs").bridge.as_deref(), Some("br0"));
    assert_eq!(document.profiles[0].network, Network::Named("lab".into()));
}

#[test]
fn an_outgoing_network_needs_no_other_key() {
    let document = good(
        r#"
[network.lab]
subnet = "10.0.0.0/8"
[network.out]
kind = "outgoing"
[network.own]
kind = "outgoing"
subnet = "10.1.0.0/29"
gateway = "10.1.0.2"
subnet6 = "fd00:1::/64"
gateway6 = "fd00:1::a01:3"
dns = ["192.0.2.53"]
host_access = true
"#,
    );
    let by_name = |name: &str| document.networks.iter().find(|lan| lan.name == name).unwrap();
    let (out, own) = (by_name("out"), by_name("own"));
    assert_eq!((by_name("lab").kind, out.kind, own.kind), (Kind::Bridge, Kind::Outgoing, Kind::Outgoing));
    let addresses = |lan: &Lan| {
        let (resolver, session) = lan.outgoing_addresses();
        [lan.gateway, resolver, session].map(|address| address.to_string())
    };
    assert_eq!(addresses(out), ["10.173.0.1", "10.173.0.2", "10.173.0.3"]);
    assert!(!out.host_access && out.dns.is_empty() && own.host_access);
    // Neither address is a gateway's.
    assert_eq!(addresses(own), ["10.1.0.2", "10.1.0.1", "10.1.0.4"]);
    let only = |line: &str| faults(&format!("[network.out]\nkind = \"outgoing\"\n{line}\n"));
    let alone = "an outgoing session is alone in its network: leave it out";
    for (key, value) in [("nat", "true"), ("isolate", "false"), ("antispoof", "true"), ("bridge", "'br0'")] {
        let fault = format!("3:1+{} {key} is for kind = \"bridge\" | {alone}", key.len());
        assert_eq!(only(&format!("{key} = {value}")), [fault]);
    }
    assert_eq!(
        only("subnet = '10.0.0.0/30'"),
        ["3:10+13 10.0.0.0/30 is too small for kind = \"outgoing\" | /8 to /29"]
    );
    assert_eq!(only("gateway = '10.0.0.1'"), ["3:11+10 gateway 10.0.0.1 is no address of 10.173.0.0/24"]);
}

/// Faults of a network whose line 2 this is, beside a subnet.
fn network(line: &str) -> Vec<String> {
    faults(&format!("[network.lab]\n{line}\nsubnet = \"10.0.0.0/8\"\n"))
}

#[test]
fn what_is_no_network_is_said_where() {
    assert_eq!(faults("[network.lab]\n"), ["1:10+3 network \"lab\" has no subnet | subnet = \"172.17.0.0/16\""]);
    assert_eq!(
        faults("[network]\nlab = 1\n"),
        ["2:1+3 network \"lab\" must be a table | it starts with a line [network.NAME]"]
    );
    assert_eq!(faults("network = 1\n"), ["1:1+7 network must be a table | it starts with a line [network.NAME]"]);
    assert_eq!(network("natt = true"), ["2:1+4 unknown key \"natt\" | did you mean \"nat\"?"]);
    assert_eq!(network("kind = \"wire\""), ["2:8+6 \"wire\" is no value for kind | one of \"bridge\", \"outgoing\""]);
    assert_eq!(network("gateway = \"11.0.0.1\""), ["2:11+10 gateway 11.0.0.1 is no address of 10.0.0.0/8"]);
    assert_eq!(network("gateway = \"10.0.0.0\""), ["2:11+10 gateway 10.0.0.0 is no address of 10.0.0.0/8"]);
    assert_eq!(network("gateway = \"x\""), ["2:11+3 \"x\" is no IPv4 address"]);
    assert_eq!(network("dns = [\"x\"]"), ["2:8+3 \"x\" is no address of a name server"]);
    assert_eq!(
        network("bridge = \"br0\"\nnat = true"),
        ["3:7+4 nat is for a bridge of caplet's own | on one of yours the rules are yours: leave it out"]
    );
    assert_eq!(
        network("bridge = \"cplt-x\""),
        ["2:10+8 \"cplt-x\" is a name that caplet gives | without this key caplet makes the bridge"]
    );
    for (subnet, fault) in [
        ("10.0.0.0", "is no subnet | as in: \"172.17.0.0/16\""),
        ("10.0.0.0/08", "is no subnet | as in: \"172.17.0.0/16\""),
        ("10.0.0.0/+8", "is no subnet | as in: \"172.17.0.0/16\""),
        ("010.0.0.0/8", "is no subnet | as in: \"172.17.0.0/16\""),
        ("10.0.0.0/7", "is too large or too small | /8 to /30"),
        ("10.0.0.0/31", "is too large or too small | /8 to /30"),
        ("10.0.0.1/24", "names a host of its subnet | \"10.0.0.0/24\""),
        ("127.0.0.0/8", "is not for hosts"),
        ("224.0.0.0/8", "is not for hosts"),
        ("169.254.0.0/16", "is not for hosts"),
    ] {
        let width = subnet.len() + 2;
        let expect = format!("2:10+{width} \"{subnet}\" {fault}");
        assert_eq!(faults(&format!("[network.lab]\nsubnet = \"{subnet}\"\n")), [expect]);
    }
    for name in ["host", "private", "join", "Lab", "eleven-long", "-x", "a_b"] {
        let said = faults(&format!("[network.{name}]\nsubnet = \"10.0.0.0/8\"\n"));
        assert!(said.len() == 1 && said[0].contains("cannot be the name of a network"), "{said:?}");
    }
}

#[test]
fn networks_do_not_overlap_and_profiles_name_one_that_is_there() {
    let two = |a: &str, b: &str| format!("[network.a]\nsubnet = \"{a}\"\n[network.b]\nsubnet = \"{b}\"\n");
    assert_eq!(
        faults(&two("10.0.0.0/8", "10.9.0.0/16")),
        ["3:10+1 subnet 10.9.0.0/16 overlaps that of network \"a\" | which is 10.0.0.0/8"]
    );
    good(&two("10.8.0.0/16", "10.9.0.0/16"));
    let profile = "[profile.p]\nusers = [\"alice\"]\nnetwork = \"c\"\n";
    assert_eq!(
        faults(&format!("{}{profile}", two("10.8.0.0/16", "10.9.0.0/16"))),
        ["7:11+3 no network is called \"c\" | \"private\", \"host\", \"a\", \"b\""]
    );
    assert_eq!(
        isolated("network = 'lab'"),
        ["3:11+5 no network is called \"lab\" | \"private\", \"host\", or the NAME of a [network.NAME]"]
    );
    // In whatever file and order.
    let later = "[network.c]\nsubnet = \"10.7.0.0/16\"\n";
    assert!(Document::read(&sources(&[profile, later])).is_ok());
    let twice = bad(&[later, later]).faults;
    assert_eq!(twice.len(), 1);
    assert_eq!(twice[0].help.as_deref(), Some("first in policy.toml:1"));
}

#[test]
fn a_route_of_the_machine_that_leads_into_a_subnet_is_found() {
    let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
        eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
    let into = |a: [u8; 4], prefix, own| Subnet { address: a.into(), prefix }.route_into(routes, own);
    assert_eq!(into([192, 168, 7, 0], 24, "x").as_deref(), Some("eth0"));
    assert_eq!(into([192, 0, 0, 0], 8, "x").as_deref(), Some("eth0"));
    assert_eq!(into([192, 168, 7, 0], 24, "eth0"), None);
    assert_eq!(into([10, 0, 0, 0], 8, "x"), None);
}

#[test]
fn a_network_may_have_ipv6_too() {
    let document = good("[network.lab]\nsubnet = \"172.17.0.0/16\"\nsubnet6 = \"fd00:17::/64\"\n");
    let subnet = document.networks[0].subnet6.unwrap();
    assert_eq!((subnet.to_string(), subnet.gateway.to_string()), ("fd00:17::/64".into(), "fd00:17::1".into()));
    assert_eq!(subnet.member([172, 17, 1, 2].into()).to_string(), "fd00:17::ac11:102");
    let other = "[network.lab]\nsubnet = \"172.17.0.0/16\"\nsubnet6 = \"2001:db8::/32\"\ngateway6 = \"2001:db8::5\"\n";
    assert_eq!(good(other).networks[0].subnet6.unwrap().gateway.to_string(), "2001:db8::5");
    for (line, fault) in [
        ("subnet6 = \"fd00::1/64\"", "2:11+12 \"fd00::1/64\" names a host of its subnet"),
        ("subnet6 = \"fd00::/97\"", "2:11+11 \"fd00::/97\" is too large or too small | /16 to /96"),
        ("subnet6 = \"10.0.0.0/8\"", "2:11+12 \"10.0.0.0/8\" is no IPv6 subnet | as in: \"fd00:17::/64\""),
        ("gateway6 = \"fd00::1\"", "2:12+9 gateway6 without a subnet6"),
    ] {
        assert_eq!(network(line), [fault], "{line}");
    }
    assert_eq!(network("subnet6 = \"fe80::/64\"").len(), 1);
    assert_eq!(network("subnet6 = \"ff02::/64\"").len(), 1);
    assert_eq!(
        network("subnet6 = \"fd00::/64\"\ngateway6 = \"fd01::1\""),
        ["3:12+9 gateway6 fd01::1 is no address of fd00::/64"]
    );
    let two = "[network.a]\nsubnet = \"10.1.0.0/16\"\nsubnet6 = \"fd00::/32\"\n[network.b]\nsubnet = \"10.2.0.0/16\"\nsubnet6 = \"fd00:0:7::/64\"\n";
    assert_eq!(faults(two), ["4:10+1 subnet6 overlaps that of network \"a\""]);
}

#[test]
fn a_profile_needs_pam_for_a_password_an_account_and_a_session() {
    for (lines, needs) in [
        ("", false),
        ("auth = 'password'", true),
        ("auth = 'none'", false),
        ("pam_account = true", true),
        ("pam_session = true", true),
        ("auth = 'none'\npam_account = false\npam_session = false", false),
    ] {
        let document = good(&format!("[profile.a]\nusers = ['x']\n{lines}\n"));
        assert_eq!(document.profiles[0].needs_pam(), needs, "{lines}");
    }
}

#[test]
fn names_and_paths_may_be_as_long_as_the_kernel_takes_them() {
    let x = |length: usize| "x".repeat(length);
    let with = |line: &str| good(&format!("[profile.a_b-{}]\nusers=['x']\n{line}\n", x(60)));
    let host = |length: usize| format!("hostname = '{}.{}'", x(32), x(length - 33));
    assert_eq!(with(&host(64)).profiles[0].hostname.as_ref().map(String::len), Some(64));
    assert!(isolated(&host(65))[0].contains("is no host name"));
    let path = |length: usize| format!("hide = ['/{}{}']", "a/".repeat(2046), x(length - 4093));
    assert_eq!(with(&path(4095)).profiles[0].hide[0].len(), 4095);
    assert!(isolated(&path(4096))[0].contains("is too long for a path"));
}
