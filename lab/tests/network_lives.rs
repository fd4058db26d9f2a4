//! How a `[network.NAME]` comes and goes: who makes it, holds it, changes it, and that nothing of it stays.

use caplet_lab::network::{Member, nothing_stays, state};
use caplet_lab::{Lab, need};
use std::time::Duration;

const POLICY: &str = r#"
[network.lab]
subnet = "172.17.0.0/16"
gateway = "172.17.254.254"

[network.other]
subnet = "172.18.0.0/24"

[profile.lab]
users = ["*"]
user = "root"
network = "lab"

[profile.other]
users = ["*"]
network = "other"

[profile.none]
users = ["*"]
"#;

#[test]
fn nothing_of_a_network_stays() {
    need!("nft");
    let Some(own) = Lab::new().user("alice", &[]).user("bob", &[]).policy(POLICY).start() else { return };
    let lab = &own;
    lab.root("nft 'add table inet mine; add chain inet mine c { type filter hook input priority 0; }'; mkdir -p /run/caplet; chmod 700 /run/caplet");
    lab.run_as("alice", ["caplet", "run", "--quiet", "-p", "other", "true"]).expect_ok();
    let clean = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        is_clean(lab)
    });
    assert!(clean, "{}", state(lab));
    let before = state(lab);
    let (alice, bob) = (Member::new(lab, "alice", "lab", &[]), Member::new(lab, "bob", "lab", &[]));
    assert!(state(lab).contains("cplt-lab") && state(lab).contains("table bridge caplet"), "{}", state(lab));
    alice.end();
    assert!(lab.root("ip link show cplt-lab").ok(), "bob is still in it");
    bob.end();
    nothing_stays(lab, &before);
    // Whoever kills everything leaves it to the next start.
    let mut alice = Member::new(lab, "alice", "lab", &[]);
    lab.root("pkill -KILL -x caplet-helper; pkill -KILL -u alice; true");
    alice.running.wait();
    lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "other", "true"]).expect_ok();
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "other", "true"]).expect_ok();
        !lab.root("ip link; nft list ruleset").out().contains("cplt-lab")
    });
    assert!(gone);
    nothing_stays(lab, &before);
}

/// Nothing on the machine bears a name of ours.
fn is_clean(lab: &Lab) -> bool {
    let names = lab.root("ip link; nft list ruleset; ls /run/caplet").out();
    !names.lines().any(|line| line.contains("cplt") || line.contains("caplet") || line.starts_with("net."))
}

/// What stands in the way is said before anything is built.
#[test]
fn what_the_machine_has_already_is_not_touched() {
    need!("nft");
    const POLICY: &str = r#"
[network.theirs]
subnet = "172.17.0.0/24"
bridge = "br0"
[network.clash]
subnet = "172.18.0.0/24"
[network.routed]
subnet = "172.19.0.0/24"
[profile.theirs]
users = ["*"]
network = "theirs"
[profile.clash]
users = ["*"]
network = "clash"
[profile.routed]
users = ["*"]
network = "routed"
"#;
    let Some(own) = Lab::new().user("alice", &[]).user("bob", &[]).policy(POLICY).start() else { return };
    let lab = &own;
    lab.root("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    let run = |profile: &str| lab.run_as("alice", ["caplet", "run", "--quiet", "-p", profile, "true"]);
    let says = |profile: &str, text: &str| {
        let out = run(profile);
        assert_eq!((out.code(), out.err()), (125, format!("caplet: no session: network \"{profile}\": {text}")));
    };
    says("theirs", "there is no bridge br0: root makes it, or leaves the key out");
    lab.root("ip link add br0 type veth peer name br1");
    says("theirs", "br0 is a link, and no bridge");
    lab.root("ip link del br0; ip link add cplt-clash type veth peer name other; ip link add br0 type bridge; ip link set br0 up");
    lab.root("ip addr add 172.17.0.1/24 dev br0; ip link add uplink type veth peer name far; ip link set uplink up; ip link set far up");
    lab.root("ip addr add 172.19.7.1/16 dev uplink");
    says("clash", "cplt-clash is a link, and no bridge");
    says("routed", "its subnet 172.19.0.0/24 overlaps this machine's route by uplink");
    lab.root("mv /usr/sbin/nft /usr/sbin/nft-away; ip addr del 172.19.7.1/16 dev uplink");
    let out = run("routed");
    assert_eq!(
        (out.code(), out.err()),
        (125, "caplet: no session: nftables (the program nft) is not installed".into())
    );
    lab.root("mv /usr/sbin/nft-away /usr/sbin/nft");
    // Refusals leave nothing but what the next start takes away.
    let left = |text: &str| -> Vec<String> {
        let ours = |line: &&str| (line.starts_with("net.") && !line.contains(" = ")) || line.contains("caplet");
        text.lines().filter(ours).map(str::to_owned).collect()
    };
    run("theirs").expect_ok();
    let before = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        // Without a port the bridge has no carrier, which takes it a moment to notice.
        Some(state(lab)).filter(|state| left(state).is_empty() && state.contains("br0: <NO-CARRIER"))
    });
    let before = before.unwrap_or_else(|| panic!("{:#?}", left(&state(lab))));
    // A bridge of the administrator's keeps its addresses and its other ports.
    let mut alice = Member::new(lab, "alice", "theirs", &[]);
    let mut bob = Member::new(lab, "bob", "theirs", &[]);
    assert!(alice.pings(&bob.address) && bob.pings("172.17.0.1"));
    alice.end();
    bob.end();
    nothing_stays(lab, &before);
}

#[test]
fn check_says_what_the_machine_lacks_for_a_network() {
    let policy = "[network.a]\nsubnet = \"172.17.0.0/16\"\nnat = true\n[network.b]\nsubnet = \"10.0.0.0/8\"\n\
        [network.c]\nsubnet = \"172.18.0.0/16\"\nbridge = \"br7\"\n[profile.p]\nusers = [\"alice\"]\nnetwork = \"a\"\n";
    let Some(lab) = Lab::new().user("alice", &[]).policy(policy).start() else { return };
    lab.root("sysctl -qw net.ipv4.ip_forward=0; ip link add upl type veth peer name far; ip link set upl up; ip addr add 10.1.1.1/24 dev upl");
    lab.root("umount /etc/resolv.conf 2>/dev/null; rm -f /etc/resolv.conf; echo nameserver 127.0.0.53 > /etc/resolv.conf; mv /usr/sbin/nft /usr/sbin/nft-x 2>/dev/null; true");
    let said = lab.root("caplet check; true").err();
    for text in [
        "network \"a\": nftables (the program nft) is not installed",
        "network \"a\": nat needs net.ipv4.ip_forward = 1",
        "network \"a\": no dns, and the machine's own resolver listens on its loopback",
        "network \"b\": its subnet 10.0.0.0/8 overlaps the machine's route by upl",
        "network \"c\": there is no bridge br7",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(lab.sh("alice", "caplet list").out().contains("network \"a\" with others"));
}

/// Whatever is killed, and whenever: the next start of anything takes away what is left.
#[test]
fn killed_at_any_moment_it_leaves_nothing_after_the_next_start() {
    need!("nft");
    let Some(own) = Lab::new().user("alice", &[]).user("bob", &[]).policy(POLICY).start() else { return };
    let lab = &own;
    let plain = || lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "none", "true"]).expect_ok();
    plain();
    let before = state(lab);
    for round in 0..60 {
        let line = format!(
            "setpriv --reuid alice --regid alice --init-groups caplet run --quiet -p lab sleep 5 >/dev/null 2>&1 & \
             sleep 0.0{:02}; pkill -KILL -x caplet-helper; pkill -KILL -x caplet; pkill -KILL -u alice; wait; true",
            round / 2
        );
        lab.root(&line);
    }
    let clean = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        plain();
        is_clean(lab)
    });
    assert!(clean, "{}", lab.root("ip link; nft list ruleset; ls /run/caplet").out());
    nothing_stays(lab, &before);
}

/// A start that stands still (its user can freeze a cgroup) or is killed keeps nobody out of its network, takes it away from
/// nobody, and has no place in it any more when it goes on too late.
#[test]
fn a_frozen_start_keeps_nobody_out_of_the_network() {
    need!("nft");
    let Some(own) = Lab::new().user("alice", &[]).user("bob", &[]).user("carol", &[]).policy(POLICY).start() else {
        return;
    };
    let lab = &own;
    let before = state(lab);
    // nft(8) as ever, but the first one waits, and whoever started it has the network alone.
    let slow = "#!/bin/sh\n[ ! -e /run/slow ] || { rm /run/slow; while [ ! -e /run/go ]; do sleep 0.1; done; }\nexec nft.real \"$@\"\n";
    lab.root(&format!("mv /usr/sbin/nft /usr/sbin/nft.real; printf '{slow}' >/usr/sbin/nft; chmod 755 /usr/sbin/nft"));
    let start = |user: &str| {
        lab.root("rm -f /run/go; >/run/slow");
        let running = lab.task(user, ["caplet", "run", "--quiet", "-p", "lab", "sleep", "60"]).limit(120).spawn();
        assert!(lab.until(|| !lab.exists("/run/slow")));
        running
    };
    // Two of root's: the start, where its user put it, and the holder, with nobody's session, terminal or cgroup.
    let alice = start("alice");
    let (caller, holder) = of_the_start(lab, alice.pid_inside());
    let stat = |pid: &str| lab.read(&format!("/proc/{pid}/stat")).rsplit_once(')').expect("a name").1.to_owned();
    let session = |pid: &str| stat(pid).split_whitespace().nth(3).expect("a session").to_owned();
    assert_eq!((session(&holder), stat(&holder).split_whitespace().nth(4)), (holder.clone(), Some("0")));
    let open = lab.root(&format!("readlink /proc/{holder}/fd/[012] /proc/{holder}/cwd /proc/{holder}/root")).out();
    assert_eq!(open.lines().collect::<Vec<_>>(), ["/dev/null", "/dev/null", "/dev/null", "/", "/"]);
    lab.root(&format!("kill -STOP {caller}; >/run/go")).expect_ok();
    let mut bob = Member::new(lab, "bob", "lab", &[]);
    assert!(bob.pings("172.17.254.254"));
    // What it would have used is held for it, for a while.
    bob.end();
    let bridge = "ip link show cplt-lab";
    assert!(lab.root(bridge).ok());
    assert!((0..450).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        !lab.sh("root", bridge).ok()
    }));
    // Somebody else's is another one.
    let mut bob = Member::new(lab, "bob", "lab", &[]);
    lab.root(&format!("kill -CONT {caller}")).expect_ok();
    let late = alice.output();
    assert!(late.code() == 125 && late.err().contains("\"lab\": this start stood still for 7 s"), "{late}");
    assert!(bob.pings("172.17.254.254"));
    bob.end();
    nothing_stays(lab, &before);

    // Killed with all that is in its cgroup, while nft works for it: what nft makes is complete, and goes.
    let mut carol = start("carol");
    let (caller, _) = of_the_start(lab, carol.pid_inside());
    lab.root(&format!("kill -KILL {caller}; >/run/go"));
    carol.wait();
    nothing_stays(lab, &before);
}

/// A start that waited while root changed the network brings nothing of the old one back.
#[test]
fn a_start_brings_no_older_rules_than_the_policys() {
    need!("nft", "flock");
    let open = "[network.lab]\nsubnet = \"172.17.0.0/24\"\nhost_access = true\n\
        [profile.lab]\nusers = [\"*\"]\nnetwork = \"lab\"\n";
    let Some(own) = Lab::new().user("alice", &[]).user("bob", &[]).policy(open).start() else { return };
    let lab = &own;
    let start = |user: &str| lab.task(user, ["caplet", "run", "--quiet", "-p", "lab", "sleep", "9"]).limit(60).spawn();
    let rules = || lab.root("nft list ruleset").out();
    let shut = open.replace("true", "false");
    for with_others in [true, false] {
        lab.write("/etc/caplet/policy.toml", open, 0o600, "root");
        let first = with_others.then(|| Member::new(lab, "bob", "lab", &[]));
        assert_eq!(rules().contains("table inet caplet-lab"), with_others);
        assert!(!rules().contains("echo-request accept"));
        let hold = "exec flock -x /run/caplet/net.lab sh -c 'echo held; read x'";
        let mut root = lab.task("root", ["sh", "-c", hold]).stdin_open().spawn();
        root.wait_for("held");
        let ours = || lab.root("pgrep -u root -x caplet-helper || true").out().lines().count();
        let others = ours();
        let alice = start("alice");
        // Judged by the old policy: its holder, the second of root's, is there to stay, and waits for the lock.
        let waits = || {
            std::thread::sleep(Duration::from_millis(50));
            ours() == others + 2
        };
        assert!(lab.until(|| (0..5).all(|_| waits())), "{others}, {}", ours());
        lab.write("/etc/caplet/policy.toml", &shut, 0o600, "root");
        // As a start that was judged by the new policy would have.
        lab.root("nft delete table inet caplet-lab; true");
        drop(root.stdin.take());
        root.wait();
        let late = alice.output();
        let why = "the policy has changed since it was asked for";
        assert!(late.code() == 125 && late.err().contains(why), "{late}");
        assert!(!rules().contains("table inet caplet-lab"), "{}", rules());
        let second = Member::new(lab, "alice", "lab", &[]);
        assert!(rules().contains("echo-request accept"));
        for member in [Some(second), first].into_iter().flatten() {
            member.end();
        }
        let gone = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            !rules().contains("table inet caplet-lab")
        });
        assert!(gone, "{}", rules());
    }
}

/// The caller's process of a start, and the one that makes the network for it.
fn of_the_start(lab: &Lab, caller: i32) -> (String, String) {
    let caller = caller.to_string();
    let all = lab.root("pgrep -u root -x caplet-helper").out();
    let mut others = all.lines().filter(|pid| *pid != caller);
    let holder = others.next().expect("a holder").to_owned();
    assert_eq!(others.next(), None, "{all}");
    (caller, holder)
}

/// Whoever gives the own link up gives its address up; what is at that address then is not taken down with the session.
#[test]
fn the_end_of_a_session_takes_its_own_link_and_no_other() {
    need!("nft");
    const POLICY: &str = "[network.tiny]\nsubnet = \"172.22.0.0/30\"\n[profile.tiny]\nusers = [\"*\"]\n\
        user = \"root\"\nnetwork = \"tiny\"\nmay_add = [\"NET_ADMIN\"]\n";
    let Some(lab) = Lab::new().user("alice", &[]).user("bob", &[]).policy(POLICY).start() else { return };
    let mut alice = Member::new(&lab, "alice", "tiny", &["--cap-add", "NET_ADMIN"]);
    let address = alice.address.clone();
    alice.run("ip link del eth0");
    let mut bob = Member::new(&lab, "bob", "tiny", &[]);
    assert_eq!(bob.address, address);
    alice.end();
    std::thread::sleep(Duration::from_secs(1));
    assert!(bob.pings("172.22.0.1"), "{}", bob.run("ip addr"));
    assert!(lab.root("nft list ruleset").out().contains("caplet-tiny"));
    bob.end();
}

#[test]
fn what_a_network_is_cannot_change_while_sessions_are_in_it() {
    need!("nft");
    let policy = |network: &str| {
        format!("[network.n]\n{network}\n[profile.n]\nusers = [\"*\"]\nuser = \"root\"\nnetwork = \"n\"\n")
    };
    let first = "subnet = \"172.22.0.0/24\"";
    let lab = Lab::new().user("alice", &[]).user("bob", &[]).policy(&policy(first));
    let Some(lab) = lab.start() else { return };
    let mut alice = Member::new(&lab, "alice", "n", &[]);
    for other in [
        "subnet = \"172.23.0.0/24\"",
        "subnet = \"172.22.0.0/24\"\nantispoof = false",
        "subnet = \"172.22.0.0/24\"\nisolate = true",
    ] {
        lab.set_policy(&policy(other));
        let out = lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "n", "true"]);
        assert_eq!(out.code(), 125);
        assert!(out.err().contains("the policy has changed what it is while sessions are in it"), "{other}: {out}");
    }
    // What only its rules say may change at once.
    lab.set_policy(&policy(&format!("{first}\nhost_access = true")));
    lab.run_as("bob", ["caplet", "run", "--quiet", "-p", "n", "true"]).expect_ok();
    assert!(alice.pings("172.22.0.1"));
    alice.end();
}
