use super::*;
use crate::samples::{alice, caller, command, grant};
use caplet_policy::judge::Group;
use caplet_policy::request::Verb;
use std::ffi::OsStr;

fn inherited(power: Power) -> Inherited {
    Inherited {
        argv: Vec::new(),
        environment: vec![c"SSH_AUTH_SOCK=/tmp/ssh-abcdefgh/agent.7".into(), c"HOME=/home/alice".into()],
        limits: vec![(libc::RLIMIT_NOFILE, 64, 128)],
        umask: 0o27,
        ignored: vec![libc::SIGHUP],
        power,
        scheduling: Scheduling::default(),
        report: None,
    }
}

fn plan_of(profile: &str, request: &Request, power: Power) -> Plan {
    let moment = Moment::now().unwrap();
    let grant = grant(profile, request);
    Plan::of(&grant, &alice(), &caller(), request, &inherited(power), None, &moment).unwrap()
}

fn isolation(profile: &str, request: &Request) -> Isolation {
    let held = CapSet::KNOWN;
    Isolation::of(&grant(profile, request), &alice(), Power::Setuid, held).unwrap()
}

fn adding(caps: &str) -> Request {
    let mut request = command(&["x"]);
    request.add.add_text(caps).unwrap();
    request
}

#[test]
fn groups_as_good_as_root_stay_outside_by_default() {
    assert_eq!(kept_groups(&GroupsKeep::NotRootEquivalent, &caller()), [100, 50]);
    assert_eq!(kept_groups(&GroupsKeep::All, &caller()), [100, 27, 50]);
    let mut nameless = caller();
    nameless.groups.push(Group { gid: 7777, name: None });
    assert_eq!(kept_groups(&GroupsKeep::NotRootEquivalent, &nameless), [100, 50, 7777]);
    for name in ROOT_GROUPS {
        nameless.groups = vec![Group { gid: 7, name: Some(name.into()) }];
        assert_eq!(kept_groups(&GroupsKeep::NotRootEquivalent, &nameless), [0; 0], "{name}");
    }
}

#[test]
fn a_session_ends_with_what_comes_first() {
    let mut profile = Profile::new("p", Scope::Isolated);
    assert_eq!(lifetime(&profile, 1000), None);
    profile.max_lifetime = Some(2);
    assert_eq!(lifetime(&profile, 1000), Some(Duration::from_secs(120)));
    profile.valid_until = Some(document::Moment::Unix(1059));
    assert_eq!(lifetime(&profile, 1000), Some(Duration::from_secs(60)));
    profile.valid_until = Some(document::Moment::Unix(9999));
    assert_eq!(lifetime(&profile, 1000), Some(Duration::from_secs(120)));
    profile.valid_until = Some(document::Moment::Unix(900));
    assert_eq!(lifetime(&profile, 1000), Some(Duration::ZERO));
    profile.valid_until = Some(document::Moment::Local(identity::local_time(1059)));
    assert_eq!(lifetime(&profile, 1000), Some(Duration::from_secs(60)));
}

#[test]
fn groups_keep_narrows_and_never_adds() {
    let keep = GroupsKeep::Listed(vec![
        Subject::Name("staff".into()),
        Subject::Id(27),
        Subject::Name("wheel".into()),
        Subject::Everybody,
    ]);
    assert_eq!(kept_groups(&keep, &caller()), [27, 50]);
}

#[test]
fn the_shell_is_the_policys_or_the_users_and_never_caplets() {
    let with = |shell: &str| Person { shell: shell.into(), ..alice() };
    let mut profile = Profile::new("p", Scope::Isolated);
    assert_eq!(shell(&profile, &with("/bin/zsh")), Path::new("/bin/zsh"));
    for own in ["/usr/bin/caplet-shell", "/usr/bin/caplet", "zsh", "", "./zsh"] {
        assert_eq!(shell(&profile, &with(own)), Path::new("/bin/bash"), "{own}");
    }
    profile.shell = Some("/bin/dash".into());
    assert_eq!(shell(&profile, &with("/bin/zsh")), Path::new("/bin/dash"));
}

#[test]
fn a_word_goes_over_whole_or_not_at_all() {
    assert_eq!(strings(["a b".into(), "".into()]).unwrap(), [c"a b".to_owned(), c"".to_owned()]);
    assert!(strings(["a\0b".into()]).is_err());
    assert_eq!(flag("--shell=", "/bin/sh"), "--shell=/bin/sh");
}

#[test]
fn each_scope_and_user_mode_has_its_sets() {
    let of = |profile: &str, request: &Request| target(&grant(profile, request), &alice(), &[100]);
    let caps = CapSet::from_bits(1 << 12 | 1 << 13);
    let net = adding("NET_ADMIN,NET_RAW");
    let own = of("may_add = [\"NET_ADMIN\", \"NET_RAW\"]", &net);
    assert_eq!(own, Target::ambient(1001, 100, caps));
    let root = of("user = \"root\"\ncaps = []\nmay_add = [\"NET_ADMIN\", \"NET_RAW\"]", &net);
    assert_eq!(root, Target::namespace_root(caps));
    let host = "scope = \"host\"\nmay_add = [\"NET_ADMIN\", \"NET_RAW\"]";
    let groups = Some(vec![100]);
    let whole = Target { groups: groups.clone(), ..Target::ambient(1001, 100, caps) };
    assert_eq!(of(host, &net), whole);
    let setuid = of(&format!("{host}\nno_new_privs = false"), &net);
    assert_eq!(setuid, Target { bounding: None, securebits: 0, no_new_privs: false, ..whole });
}

#[test]
fn an_isolated_session_has_all_namespaces_but_what_the_profile_leaves() {
    use libc::{CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS};
    let always = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    let plain = command(&["x"]);
    for (profile, flags, private) in [
        ("", always | CLONE_NEWNET, true),
        ("network = \"private\"", always | CLONE_NEWNET, true),
        ("network = \"host\"", always, false),
        ("time_namespace = true", always | CLONE_NEWNET | CLONE_NEWTIME, true),
    ] {
        let built = isolation(profile, &plain);
        assert_eq!((built.namespaces, built.private_network), (flags, private), "{profile}");
        assert_eq!(built.tree.own_network, private);
    }
}

#[test]
fn what_a_session_may_do_more_is_what_the_grant_says() {
    let plain = command(&["x"]);
    let any = "may_add = [\"ALL\"]\nprivileged = true";
    let of = |profile: &str, request: &Request| {
        let built = isolation(profile, request);
        (built.nested, built.makes_namespaces, built.ceiling, built.filter.is_some())
    };
    assert_eq!(of("", &plain), (false, false, false, true));
    assert_eq!(of("nested_userns = true", &plain), (true, true, false, true));
    assert_eq!(of(any, &adding("NET_ADMIN")), (false, false, false, true));
    assert_eq!(of(any, &adding("SYS_ADMIN")), (false, true, false, true));
    let mut but_admin = adding("ALL");
    but_admin.drop.add_text("SYS_ADMIN").unwrap();
    assert_eq!(of(any, &but_admin), (false, false, true, true));
    but_admin.drop.add_text("SYS_RESOURCE").unwrap();
    assert_eq!(of(any, &but_admin), (false, false, false, true));
    assert_eq!(of(any, &adding("ALL")), (false, true, true, true));
    assert_eq!(of("seccomp = \"none\"", &plain), (false, false, false, false));
    assert_eq!(of(any, &Request { privileged: true, ..plain }), (false, true, true, false));
    // Without installation nothing of the machine's is touched.
    let without = |request: &Request, held| Isolation::of(&grant(any, request), &alice(), Power::None, held).unwrap();
    let built = without(&adding("ALL"), CapSet::KNOWN);
    assert!(!built.ceiling && !built.tree.mknod);
    assert_eq!(built.tree.owner, (0, 0));
    let real = isolation("", &command(&["x"]));
    assert!(real.tree.mknod && !real.traced && !real.linger && real.dns.is_empty() && real.agent.is_none());
    assert_eq!(real.tree.owner, (1001, 100));
    let bound = CapSet::KNOWN.minus(CapSet::from_bits(1 << 27));
    let built = Isolation::of(&grant("", &command(&["x"])), &alice(), Power::Setuid, bound).unwrap();
    assert!(!built.tree.mknod, "mknod is not ours");
    assert!(isolation("linger = true", &command(&["x"])).linger);
    assert_eq!(isolation("hostname = \"lab\"", &command(&["x"])).hostname.as_deref(), Some("lab"));
}

#[test]
fn a_session_is_traced_only_where_the_policy_says_so_and_somebody_asks_why() {
    let traced = |profile: &str, watch, power| {
        let request = Request { watch, ..command(&["x"]) };
        is_traced(&grant(profile, &request), &request, power)
    };
    let trace = "why = \"trace\"";
    assert!(traced(trace, Some(7), Power::Setuid));
    assert!(!traced(trace, Some(7), Power::None));
    assert!(!traced(trace, None, Power::Setuid));
    assert!(!traced("", Some(7), Power::Setuid));
}

#[test]
fn only_a_login_has_its_agent_inside() {
    let agent = |request: Request| plan_of("login = true", &request, Power::Setuid).isolation.unwrap().agent;
    let plain = command(&["x"]);
    assert_eq!(agent(plain.clone()), None);
    let named = Agent::named(OsStr::new("/tmp/ssh-abcdefgh/agent.7"));
    assert!(named.is_some());
    assert_eq!(agent(Request { tied: true, ..plain.clone() }), named);
    assert_eq!(agent(Request { login: true, ..plain }), named);
}

#[test]
fn limits_umask_and_keyring_are_the_callers_or_the_profiles() {
    let plain = command(&["x"]);
    let plan = plan_of("", &plain, Power::Setuid);
    assert_eq!((plan.umask.mask, plan.umask.fixed, plan.user_keyring), (0o27, false, false));
    assert_eq!((plan.groups.as_slice(), plan.ignored.as_slice()), ([100, 50].as_slice(), [libc::SIGHUP].as_slice()));
    let plan = plan_of("scope = \"host\"\numask = \"0077\"\npam_session = true", &plain, Power::Setuid);
    assert_eq!((plan.umask.mask, plan.umask.fixed, plan.user_keyring), (0o77, true, true));
    assert!(plan.isolation.is_none());
    assert!(!plan_of("scope = \"host\"", &plain, Power::Setuid).user_keyring);
}

#[test]
fn a_later_judgement_says_how_long_it_lasts() {
    let mut plan = plan_of("", &command(&["x"]), Power::Setuid);
    assert_eq!(plan.lifetime, None);
    let mut profile = Profile::new("p", Scope::Isolated);
    profile.valid_until = Some(document::Moment::Unix(1059));
    let now = Moment { unix: 1000, boot: Duration::from_secs(7), ..Moment::now().unwrap() };
    assert!(plan.judged_at > now.boot);
    plan.date(&profile, &now);
    assert_eq!((plan.lifetime, plan.judged_at), (Some(Duration::from_secs(60)), now.boot));
}

#[test]
fn the_stage_is_told_of_the_shell_what_was_granted() {
    let start = |start| Request::new(Verb::Run, start);
    let words = |profile: &str, request: &Request| shell_words(&grant(profile, request), &alice(), request);
    assert_eq!(words("", &start(Start::Shell)), ["--shell=/bin/zsh"]);
    let line = Request { quiet: true, ..start(Start::Line("ls; id".into())) };
    assert_eq!(words("", &line), ["--shell=/bin/zsh", "--quiet", "--line=ls; id"]);
    let login = Request { login: true, dash: true, ..start(Start::Shell) };
    assert_eq!(words("login = true", &login), ["--shell=/bin/zsh", "--login", "--own"]);
    assert_eq!(words("login = true\nshell = \"/bin/sh\"", &login), ["--shell=/bin/sh", "--login"]);
    let added = Request { add: adding("NET_ADMIN").add, ..start(Start::Shell) };
    assert_eq!(words("may_add = [\"ALL\"]", &added)[1], "--added=NET_ADMIN");
}

#[test]
fn a_command_is_searched_for_or_is_the_policys_file() {
    let plain = command(&["ls", "-l"]);
    match plan_of("", &plain, Power::Setuid).start {
        Launch::Search(argv) => assert_eq!(argv, [c"ls".to_owned(), c"-l".to_owned()]),
        other => panic!("{other:?}"),
    }
    // The policy's own, and its path for its name, whatever was typed.
    let listed = |path: &str| {
        let profile = format!("scope = \"host\"\ncommands = [\"{path}\"]");
        plan_of(&profile, &plain, Power::Setuid).start
    };
    match listed("/etc/passwd") {
        Launch::Policy { program: Program::File(_), argv } => {
            assert_eq!(argv, [c"/etc/passwd".to_owned(), c"-l".to_owned()]);
        }
        other => panic!("{other:?}"),
    }
}
