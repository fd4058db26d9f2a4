//! The setuid-root helper of caplet: reads the policy, judges, logs, builds, drops, execs. Nothing else runs as root.
#![cfg_attr(not(test), no_main)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod agent;
mod audit;
mod authenticate;
mod caller;
mod capset;
mod cgroup;
mod command;
mod descriptors;
mod environment;
mod error;
mod host;
mod hygiene;
mod idmap;
mod isolated;
mod journal;
mod kernel;
mod lan;
mod launch;
mod limits;
mod listing;
mod namespaces;
mod network;
mod plan;
mod policy_files;
mod process_stat;
mod registry;
mod rejudge;
mod rootfs;
#[cfg(test)]
mod samples;
mod scheduling;
mod seccomp;
mod sessions;
mod supervise;
mod sys;
mod trail;
mod trusted;
mod user_files;

use caller::{Moment, Person};
use caplet_policy::document::{Auth, Document, Scope};
use caplet_policy::judge::{Caller, Grant, Refusal, World, judge, own_profiles};
use caplet_policy::request::{Request, Start, Verb};
use cgroup::Place;
use error::{Error, TO_SAY, call, say};
use hygiene::Power;
use lan::Uplink;
use plan::{Launch, Plan};
use rejudge::Granted;
use std::os::fd::OwnedFd;
use std::time::Duration;
use supervise::relay::Relay;
use supervise::terminal::Outer;
use supervise::wire::Report;
use supervise::{guard, watcher, wire};
use sys::process::{self, Fork};
use trail::{Late, Recorded, Trail};

/// Where the front end is installed; set at build time.
const BINDIR: &str = match option_env!("CAPLET_BINDIR") {
    Some(path) => path,
    None => "/usr/bin",
};
/// Where this program is installed; set at build time.
const LIBEXECDIR: &str = match option_env!("CAPLET_LIBEXECDIR") {
    Some(path) => path,
    None => "/usr/libexec/caplet",
};

/// Called by `sys::entry`.
#[cfg_attr(test, allow(dead_code))]
fn start() -> i32 {
    std::panic::set_hook(Box::new(|_| {
        say("internal error: nothing was run");
        process::exit_now(error::OURS);
    }));
    let caller = nix::unistd::getuid().as_raw();
    let done = run();
    sys::identity::end_as(caller);
    let _ = sys::capability::set_not_dumpable(); // which fs.suid_dumpable may have changed
    done.unwrap_or_else(|error| {
        let _ = process::end_in(TO_SAY);
        error.say();
        error.code()
    })
}

/// The steps, in order. None goes back.
fn run() -> Result<i32, Error> {
    let inherited = hygiene::take_over()?;
    let power = inherited.power;
    let words = inherited.argv.get(1..).unwrap_or_default();
    if words.first().is_some_and(|word| word == rejudge::VERB) {
        return rejudge::answer(words, &inherited.environment);
    }
    if words.first().is_some_and(|word| word == lan::VERB) {
        return lan::unplug(words);
    }
    if words.first().is_some_and(|word| word == trail::FOR) {
        return trail::sweep_for(words);
    }
    let request = Request::decode(words).map_err(Error::Usage)?;
    match request.verb {
        Verb::Forget => return forget(power),
        // A build tree borrows no privilege, and keeps no record.
        Verb::Sweep | Verb::Sessions if power == Power::None => return Ok(0),
        Verb::End if power == Power::None => return Err(Error::NoSession(request.id.unwrap_or_default())),
        Verb::Sweep => return trail::sweep(nix::unistd::getuid().as_raw()).map(|()| 0),
        Verb::Sessions => return sessions::list().map(|()| 0),
        Verb::End => return sessions::end(request.id.as_deref().unwrap_or_default()).map(|()| 0),
        Verb::Run | Verb::Judge | Verb::List => {}
    }
    let person = Person::find()?;
    let cwd = std::env::current_dir().ok();
    let moment = Moment::now()?;
    let caller = person.as_caller()?;
    let policy = policy_files::read(power, request.policy.as_deref(), &caller);
    let mut trail = Trail::new(power, &person);
    let policy = policy.map_err(|error| trail.fault(error))?;
    let verdict = consider(&policy, &caller, &moment, &person, &request);
    let grant = match request.verb {
        Verb::Judge => return answer(&mut trail, power, &person, &request, verdict),
        Verb::List => {
            trail.probe("list", &request, &verdict);
            // Whoever does not read what is written keeps a process of their own waiting.
            if power == Power::Setuid {
                person.become_again(None)?;
            }
            return list(&policy, &caller, &moment);
        }
        _ => verdict.map_err(|refusal| trail.refuse(&request, &refusal))?,
    };
    kernel::new_enough().map_err(|error| trail.impossible(&grant.profile().name, &request, error))?;
    descriptors::check()?;
    drop(policy);
    let pending = authenticate::begin(grant, &request, &person, &inherited, &mut trail)?;
    // Plain data, made while PAM works.
    let plan = Plan::of(pending.grant(), &person, &caller, &request, &inherited, cwd.clone(), &moment);
    let granted = pending.finish(&request, &person, &mut trail)?;
    let name = granted.grant().profile().name.clone();
    // No privilege was borrowed: there is nothing that a policy could take back.
    let watched = (power == Power::Setuid).then(|| Granted::of(granted.grant(), &person, &request));
    let mut plan = plan.map_err(|error| trail.impossible(&name, &request, error))?;
    let tied = request.login || request.tied || request.watch.is_some();
    let traced = plan.isolation.as_ref().is_some_and(|isolation| isolation.traced);
    let before = Before::prepare(plan.isolation.is_some(), tied, traced)?;
    // Until here the user may stop this process, and a password takes its time: no verdict is kept for later.
    if power == Power::Setuid {
        trail.journal()?; // with root's ids from here on: no signal of the user's stops it now
        still(&granted, &caller, &request, &mut trail, &mut plan)?;
    }
    let uplink = uplink(granted.grant(), power, &caller);
    let uplink = uplink.map_err(|error| trail.impossible(&name, &request, error))?;
    let before = Before { uplink, ..before };
    let place = place(granted.grant(), power).map_err(|error| trail.impossible(&name, &request, error))?;
    // A network may have been waited for.
    if power == Power::Setuid {
        still(&granted, &caller, &request, &mut trail, &mut plan)?;
    }
    let recorded = Recorded::of(granted, person.clone(), trail, &request, cwd.as_deref(), place);
    // A network that was made for one that fails is nobody's: its holder hears of that.
    let recorded = recorded?;
    announce(recorded.grant(), &request, power);
    drop((request, caller, moment));
    supervise(plan, recorded, person, watched, before)
}

/// How old a judgement may be when the session is built.
const STALE: Duration = Duration::from_secs(2);

/// Judges once more, where that was a while ago, by the policy and the time of now; the same grant, or none.
fn still(
    granted: &authenticate::Authenticated,
    caller: &Caller,
    request: &Request,
    trail: &mut Trail<'_>,
    plan: &mut Plan,
) -> Result<(), Error> {
    if process::boot_time().saturating_sub(plan.judged_at) <= STALE {
        return Ok(());
    }
    let profile = &granted.grant().profile().name;
    if let Err(lines) = granted.is_recent() {
        trail.refused(profile, request, "the proof is too old");
        return Err(Error::Refused(lines.into()));
    }
    let moment = Moment::now()?;
    let policy = policy_files::read(Power::Setuid, request.policy.as_deref(), caller);
    let policy = policy.map_err(|error| trail.fault(error))?;
    // By the path of the first judgement: a folder of the user's, named in the command, may not answer any more.
    let same_file = |path: &str| granted.grant().command_path() == Some(path);
    let verdict = judge(&policy, caller, &world(&moment, &same_file), request);
    let now = verdict.map_err(|refusal| trail.refuse(request, &refusal))?;
    if !now.is_same_as(granted.grant()) {
        return Err(trail.impossible(profile, request, Error::OtherPolicy));
    }
    plan.date(granted.grant().profile(), &moment);
    Ok(())
}

/// What can fail and leaves nothing behind: made before the grant is recorded, so that every record gets its end.
struct Before {
    outer: Option<Outer>,
    parent: Option<OwnedFd>,
    guards_end: OwnedFd,
    relays_end: OwnedFd,
    /// The guard's and the watcher's ends.
    watch: (OwnedFd, OwnedFd),
    /// The guard's and the tracer's ends, where there is one.
    trace: Option<(OwnedFd, OwnedFd)>,
    uplink: Option<Uplink>,
}

/// The network that the session gets a link into, made if it is not there.
fn uplink(grant: &Grant, power: Power, caller: &Caller) -> Result<Option<Uplink>, Error> {
    let Some(lan) = grant.lan() else { return Ok(None) };
    if power == Power::None {
        let why = "a network with a way out needs the installed helper; without it: network = \"private\"";
        return Err(Error::NoNetwork(why.into()));
    }
    Uplink::prepare(lan, caller).map(Some)
}

/// Where the session's cgroup will be, if its profile limits it.
fn place(grant: &Grant, power: Power) -> Result<Option<Place>, Error> {
    let Some(limits) = grant.profile().cgroup else { return Ok(None) };
    if power == Power::None {
        return Err(Error::NoLimits("only the installed helper, setuid root, can make a cgroup".into()));
    }
    Place::prepare(limits).map(Some)
}

impl Before {
    fn prepare(isolated: bool, tied: bool, traced: bool) -> Result<Self, Error> {
        let parent = nix::unistd::getppid().as_raw();
        // PID 1 takes in whoever has lost a parent, and goes away last.
        let parent = if tied && parent > 1 { process::pidfd_open(parent).ok() } else { None };
        let outer = if isolated { Outer::find()? } else { None };
        let (guards_end, relays_end) = wire::pair()?;
        let watch = wire::pair()?;
        let trace = traced.then(wire::pair).transpose()?;
        nix::sys::signal::SigSet::all().thread_block().map_err(call("sigprocmask"))?;
        Ok(Self { outer, parent, guards_end, relays_end, watch, trace, uplink: None })
    }
}

/// Splits into the guard, which builds, the relay, which gives root up at once, and the watcher, which sleeps.
fn supervise(
    plan: Plan,
    recorded: Recorded,
    person: Person,
    watched: Option<Granted>,
    before: Before,
) -> Result<i32, Error> {
    let Before { outer, parent, guards_end, relays_end, watch: (guards_watch, watch), trace, uplink } = before;
    let (guards_trace, trace) = trace.unzip();
    let lan = uplink.as_ref().and_then(Uplink::shared).map(str::to_owned);
    let forked = match process::fork() {
        Ok(forked) => forked,
        Err(errno) => {
            recorded.into_ending().end("failed:125", None, None).into_iter().for_each(Late::insist);
            return Err(call("fork")(errno));
        }
    };
    match forked {
        Fork::Child => {
            drop((relays_end, parent, watch, trace));
            let watcher = watched.is_some().then_some(guards_watch);
            guard::run(plan, recorded, &guards_end, watcher, outer, uplink, guards_trace)
        }
        Fork::Parent(guard_pid) => {
            drop((guards_end, guards_watch, guards_trace));
            if let Some(watched) = watched {
                let keeper = outer.as_ref().and_then(Outer::keeper);
                watcher::start(person.uid, watched, plan.judged_at, lan.as_deref(), keeper, &watch);
            }
            if let (Some(line), Launch::Stage { report: Some(report), .. }) = (&trace, &plan.start) {
                supervise::trace::start(person.uid, line, report);
            }
            drop((watch, trace, uplink));
            let shares_group = plan.isolation.is_none();
            let ignored = plan.ignored.clone();
            if plan.power == Power::Setuid {
                person.become_again(None)?;
            }
            // Now the command may run: before, a failure of ours would have cut it off half-way.
            match wire::send(&relays_end, Report::Go, None) {
                // The guard has ended: what it says of that comes next.
                Ok(()) | Err(sys::Errno::EPIPE | sys::Errno::ECONNRESET) => {}
                Err(errno) => return Err(call("tell the guard")(errno)),
            }
            drop((plan, recorded, person));
            Ok(Relay { guard: relays_end, guard_pid, outer, parent, ignored, shares_group }.run())
        }
    }
}

/// Asks the judge.
fn consider(
    policy: &Document,
    caller: &Caller,
    moment: &Moment,
    person: &Person,
    request: &Request,
) -> Result<Grant, Refusal> {
    let first_word = match &request.start {
        Start::Command(argv) => argv.first().cloned().unwrap_or_default(),
        Start::Shell | Start::Line(_) => Default::default(),
    };
    let same_file = |path: &str| command::is_same(&first_word, path, person);
    judge(policy, caller, &world(moment, &same_file), request)
}

fn world<'a>(moment: &'a Moment, same_file: &'a dyn Fn(&str) -> bool) -> World<'a> {
    World {
        machine: &moment.machine,
        unix: moment.unix,
        local: moment.local,
        kernel: moment.kernel,
        held: moment.held,
        same_file,
    }
}

/// What a person must know before the command runs.
fn announce(grant: &Grant, request: &Request, power: Power) {
    if request.quiet {
        return;
    }
    if grant.profile().scope == Scope::Host && !grant.caps().is_empty() {
        say(&format!("real capabilities on this machine: {}", grant.caps()));
    }
    if power == Power::None {
        say("not installed setuid: this session is your own, and any process of your uid can enter it");
    }
}

/// `--dry-run`.
fn answer(
    trail: &mut Trail<'_>,
    power: Power,
    person: &Person,
    request: &Request,
    verdict: Result<Grant, Refusal>,
) -> Result<i32, Error> {
    trail.probe("judge", request, &verdict);
    let grant = verdict.map_err(|refusal| Error::Refused(refusal.lines().to_vec()))?;
    if request.non_interactive && grant.profile().auth == Auth::Password {
        return Err(Error::Refused(authenticate::not_asked(&grant.profile().name).into()));
    }
    // Asked by a login that would go on without its wishes: a "yes" here and a "no" later would lock its user out.
    let max = grant.profile().max_sessions;
    if request.login && power == Power::Setuid && registry::is_full(person.uid, max)? {
        return Err(Error::TooMany(max));
    }
    if power == Power::Setuid {
        person.become_again(None)?;
    }
    let caps = if grant.caps().is_empty() { "none".into() } else { grant.caps().to_string() };
    let scope = trail::scope_name(grant.profile().scope);
    let text = format!("granted by profile \"{}\" ({scope}): {caps}\n", grant.profile().name);
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    Ok(0)
}

/// `list`.
fn list(policy: &Document, caller: &Caller, moment: &Moment) -> Result<i32, Error> {
    let nothing = |_: &str| false;
    let own = own_profiles(policy, caller, &world(moment, &nothing));
    match listing::write(&own, policy) {
        Ok(()) => Ok(0),
        Err(error) => Err(hygiene::io("write to standard output", &error)),
    }
}

/// `forget`.
fn forget(power: Power) -> Result<i32, Error> {
    let uid = nix::unistd::getuid();
    match (uid.is_root(), power) {
        (true, _) => Err(Error::RootForgets),
        (false, Power::None) => Ok(0),
        (false, Power::Setuid) => authenticate::cache::forget(uid.as_raw()).map(|()| 0),
    }
}
