//! Whether a running session would still be granted (the verb `rejudge`, for root alone): asked of a fresh helper, so
//! that it reads today's policy and user database, by the session's watcher.

use crate::caller::{Moment, Person};
use crate::error::Error;
use crate::hygiene::Power;
use crate::sys::identity;
use crate::{policy_files, trail, world};
use caplet_policy::capability::{CapList, CapSet};
use caplet_policy::judge::{Grant, judge};
use caplet_policy::request::{Request, RequestError, Start};
use nix::unistd::{Gid, Group, User, getgrouplist};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The word on the wire. No front end knows it.
pub const VERB: &str = "rejudge";
/// How the names of the environment begin that hold its words.
const WORD: &str = "WORD";

/// The answer, as an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Granted = 0,
    /// The policy grants it no more.
    Policy = 10,
    /// The account is gone, locked or expired since.
    Account = 11,
    /// The policy is faulty now, or NSS does not answer: the administrator's trouble, and no judgement.
    Unknown = 12,
}

impl Verdict {
    const EVERY: [Self; 4] = [Self::Granted, Self::Policy, Self::Account, Self::Unknown];

    pub fn from_code(code: i32) -> Option<Self> {
        Self::EVERY.into_iter().find(|verdict| *verdict as i32 == code)
    }
}

/// What was granted, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    uid: u32,
    gid: u32,
    name: String,
    scope: String,
    held: CapSet,
    /// The groups that the kernel had for the caller.
    groups: Vec<u32>,
    /// The policy's path of the command, where `commands` bound it.
    command: Option<String>,
    request: Request,
}

/// What the user database said when the session began. Only what changes counts from then on: a key-only account is
/// "locked" from its first day, and pam_group(8) gives groups that NSS never lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    listed: Vec<u32>,
    locked: bool,
    expired: bool,
}

impl Baseline {
    fn is_worse(&self, before: &Self) -> bool {
        (self.locked && !before.locked) || (self.expired && !before.expired)
    }
}

impl Granted {
    pub fn of(grant: &Grant, person: &Person, request: &Request) -> Self {
        let profile = grant.profile();
        let command = grant.command_path().map(str::to_owned);
        // What has no say in a judgement is not kept.
        let start = match (&request.start, &command) {
            (Start::Command(argv), None) => Start::Command(argv.iter().take(1).cloned().collect()),
            (Start::Command(argv), Some(_)) => Start::Command(argv.clone()),
            (Start::Shell | Start::Line(_), _) => Start::Shell,
        };
        let request = Request {
            profile: Some(profile.name.clone()),
            add: request.add,
            drop: request.drop,
            privileged: request.privileged,
            login: request.login,
            ..Request::new(request.verb, start)
        };
        Self {
            uid: person.uid,
            gid: person.gid,
            name: person.name.clone(),
            scope: trail::scope_name(profile.scope).into(),
            held: grant.caps(),
            groups: person.groups.clone(),
            command,
            request,
        }
    }

    /// What the user database says of the user now; `None`: it does not answer. An account whose state nobody knows
    /// stands as one that can get no worse.
    pub fn baseline(&self) -> Option<Baseline> {
        self.ask_nss((true, true))
    }

    fn ask_nss(&self, unknown: (bool, bool)) -> Option<Baseline> {
        // By the primary group of the user database: the process's own may be any of the user's (newgrp(1)).
        let gid = User::from_uid(self.uid.into()).ok()??.gid.as_raw();
        let (locked, expired) = identity::account_state(&c_string(&self.name)?).unwrap_or(unknown);
        Some(Baseline { listed: listed(&self.name, gid)?, locked, expired })
    }

    /// The words, for a helper of root's to find them: everybody reads a process's argv, and nobody its environment
    /// (proc_pid_environ(5)).
    pub fn environment(&self, base: &Baseline) -> Option<Vec<CString>> {
        let word = |(number, word): (usize, OsString)| {
            CString::new([format!("{WORD}{number:04}=").as_bytes(), word.as_bytes()].concat()).ok()
        };
        self.words(base).into_iter().enumerate().map(word).collect()
    }

    /// The verb and its places, each of them filled, then the request.
    fn words(&self, base: &Baseline) -> Vec<OsString> {
        let flag = |set: bool| if set { "yes" } else { "no" };
        let places: [OsString; 11] = [
            VERB.into(),
            self.uid.to_string().into(),
            self.gid.to_string().into(),
            self.name.clone().into(),
            self.scope.clone().into(),
            self.held.to_string().into(),
            numbers(&self.groups).into(),
            numbers(&base.listed).into(),
            flag(base.locked).into(),
            flag(base.expired).into(),
            self.command.clone().unwrap_or_default().into(),
        ];
        places.into_iter().chain(self.request.encode()).collect()
    }

    fn read(words: &[OsString]) -> Option<(Self, Baseline)> {
        let (places, request) = words.split_at_checked(11)?;
        let text = |at: usize| places.get(at)?.to_str();
        let flag = |at: usize| text(at).and_then(|t| ["no", "yes"].iter().position(|w| *w == t)).map(|n| n == 1);
        let base = Baseline { listed: read_numbers(text(7)?)?, locked: flag(8)?, expired: flag(9)? };
        let granted = Self {
            uid: text(1)?.parse().ok()?,
            gid: text(2)?.parse().ok()?,
            name: text(3)?.into(),
            scope: text(4)?.into(),
            held: caps(text(5)?)?,
            groups: read_numbers(text(6)?)?,
            command: Some(text(10)?).filter(|path| !path.is_empty()).map(str::to_owned),
            request: Request::decode(request).ok()?,
        };
        Some((granted, base))
    }
}

/// Answers; nothing is logged, and nothing said.
pub fn answer(words: &[OsString], environment: &[CString]) -> Result<i32, Error> {
    if !identity::is_root() {
        return Err(Error::Usage(RequestError(format!("{VERB} is root's alone"))));
    }
    // The watcher of a session that an older version began says it in argv, or in other words: an upgrade ends nobody's
    // work.
    let found = if let [_] = words { words_of(environment) } else { words.to_vec() };
    if found.is_empty() {
        return Err(Error::Usage(RequestError(format!("{VERB} without its words")))); // no verdict
    }
    let verdict = Granted::read(&found).map_or(Verdict::Unknown, |(granted, base)| judge_again(granted, &base));
    Ok(verdict as i32)
}

/// What [`Granted::environment`] wrote, in its order.
fn words_of(environment: &[CString]) -> Vec<OsString> {
    let word = |(number, entry): (usize, &CString)| {
        let word = entry.as_bytes().strip_prefix(format!("{WORD}{number:04}=").as_bytes())?;
        Some(OsStr::from_bytes(word).to_owned())
    };
    environment.iter().enumerate().map_while(word).collect()
}

fn judge_again(granted: Granted, base: &Baseline) -> Verdict {
    match User::from_uid(granted.uid.into()) {
        Err(_) => return Verdict::Unknown,
        Ok(Some(entry)) if entry.name == granted.name => {}
        Ok(_) => return Verdict::Account,
    }
    let Some(now) = granted.ask_nss((false, false)) else { return Verdict::Unknown };
    if now.is_worse(base) {
        return Verdict::Account;
    }
    let Some(groups) = today(&granted.groups, &base.listed, &now.listed) else { return Verdict::Unknown };
    let person = Person {
        uid: granted.uid,
        gid: granted.gid,
        name: granted.name.clone(),
        home: PathBuf::new(),
        shell: PathBuf::new(),
        groups,
    };
    let (Ok(caller), Ok(moment)) = (person.as_caller(), Moment::now()) else { return Verdict::Unknown };
    let Ok(policy) = policy_files::read(Power::Setuid, None, &caller) else { return Verdict::Unknown };
    let same_file = |path: &str| granted.command.as_deref() == Some(path);
    match judge(&policy, &caller, &world(&moment, &same_file), &granted.request) {
        Ok(grant) if covers(&grant, &granted) => Verdict::Granted,
        _ => Verdict::Policy,
    }
}

/// Whether what would be granted now is all that the session has.
fn covers(grant: &Grant, granted: &Granted) -> bool {
    trail::scope_name(grant.profile().scope) == granted.scope && granted.held.minus(grant.caps()).is_empty()
}

/// The groups without those that the user has lost since, and with those that are new: one of `not_groups` may be among
/// them. `None`: of a lost one nobody can say whether it is.
fn today(groups: &[u32], before: &[u32], now: &[u32]) -> Option<Vec<u32>> {
    let lost: Vec<u32> = before.iter().copied().filter(|gid| !now.contains(gid)).collect();
    if lost.iter().any(|gid| Group::from_gid(Gid::from_raw(*gid)).is_err()) {
        return None;
    }
    let new = now.iter().filter(|gid| !before.contains(gid) && !groups.contains(gid));
    Some(groups.iter().filter(|gid| !lost.contains(gid)).chain(new).copied().collect())
}

/// What NSS lists for a user; initgroups(3).
fn listed(name: &str, gid: u32) -> Option<Vec<u32>> {
    let listed = getgrouplist(&c_string(name)?, Gid::from_raw(gid)).ok()?;
    Some(listed.into_iter().map(Gid::as_raw).collect())
}

fn c_string(text: &str) -> Option<CString> {
    CString::new(text).ok()
}

fn numbers(list: &[u32]) -> String {
    list.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn read_numbers(text: &str) -> Option<Vec<u32>> {
    if text.is_empty() { Some(Vec::new()) } else { text.split(',').map(|n| n.parse().ok()).collect() }
}

fn caps(text: &str) -> Option<CapSet> {
    let mut list = CapList::default();
    if !text.is_empty() {
        list.add_text(text).ok()?;
    }
    if list.all { None } else { Some(list.names) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{alice, command, grant};
    use caplet_policy::request::Verb;
    use std::os::unix::ffi::OsStringExt;

    fn granted() -> Granted {
        let mut add = CapList::default();
        add.add_text("net_admin").unwrap();
        let start = Start::Command(vec!["ip".into(), OsString::from_vec(b"\xff\n".to_vec()), "--".into()]);
        Granted {
            uid: 1001,
            gid: 100,
            name: "alice".into(),
            scope: "host".into(),
            held: add.names,
            groups: vec![100, 27],
            command: Some("/usr/sbin/ip".into()),
            request: Request { profile: Some("net".into()), add, login: true, ..Request::new(Verb::Run, start) },
        }
    }

    #[test]
    fn what_is_asked_comes_back() {
        let base = Baseline { listed: vec![100], locked: true, expired: false };
        let mut asked = granted();
        assert_eq!(Granted::read(&asked.words(&base)), Some((asked.clone(), base.clone())));
        let environment = asked.environment(&base).unwrap();
        assert_eq!(words_of(&environment), asked.words(&base));
        assert!(environment[12..].iter().any(|entry| entry.as_bytes().ends_with(b"=ip")), "{environment:?}");
        assert_eq!(words_of(&environment[1..]), Vec::<OsString>::new(), "out of their order they are none");
        let base = Baseline { listed: Vec::new(), locked: false, expired: true };
        asked.command = None;
        asked.held = CapSet::EMPTY;
        asked.groups.clear();
        asked.request.start = Start::Shell;
        assert_eq!(Granted::read(&asked.words(&base)), Some((asked.clone(), base.clone())));
        for (at, word) in [(1, "x"), (5, "NOSUCH"), (6, "1,"), (8, "maybe"), (11, "fly")] {
            let mut words = asked.words(&base);
            words[at] = word.into();
            assert_eq!(Granted::read(&words), None, "{at}");
        }
        assert_eq!(Granted::read(&asked.words(&base)[..9]), None);
    }

    #[test]
    fn an_exit_code_is_one_verdict_or_none() {
        assert_eq!(Verdict::from_code(0), Some(Verdict::Granted));
        assert_eq!(Verdict::from_code(10), Some(Verdict::Policy));
        assert_eq!(Verdict::from_code(11), Some(Verdict::Account));
        assert_eq!(Verdict::from_code(12), Some(Verdict::Unknown));
        for code in [-1, 1, 9, 13, 125, 139] {
            assert_eq!(Verdict::from_code(code), None);
        }
    }

    #[test]
    fn groups_are_lost_and_gained_by_what_the_user_database_lists() {
        assert_eq!(today(&[100, 27, 20], &[100, 27], &[100]), Some(vec![100, 20]));
        assert_eq!(today(&[100, 20], &[100], &[100, 27]), Some(vec![100, 20, 27]));
        // One that the login alone gave, and that the database lists since, is there already.
        assert_eq!(today(&[100, 27], &[100], &[100, 27]), Some(vec![100, 27]));
    }

    #[test]
    fn a_session_goes_on_while_all_that_it_has_would_be_granted() {
        let mut asked = command(&["ip", "link"]);
        asked.add.add_text("NET_ADMIN,NET_RAW").unwrap();
        let wide = "may_add = [\"NET_ADMIN\", \"NET_RAW\"]";
        let held = Granted::of(&grant(wide, &asked), &alice(), &asked);
        assert_eq!((held.uid, held.gid, held.scope.as_str()), (1001, 100, "isolated"));
        assert_eq!(held.request.start, Start::Command(vec!["ip".into()]), "arguments have no say");
        assert!(covers(&grant(wide, &asked), &held));
        let plain = command(&["ip"]);
        assert!(covers(&grant("caps = [\"NET_ADMIN\", \"NET_RAW\", \"SYS_PTRACE\"]", &plain), &held), "more is enough");
        assert!(!covers(&grant("caps = [\"NET_ADMIN\"]", &plain), &held));
        assert!(!covers(&grant("", &plain), &held));
        let host = "scope = \"host\"\ncaps = [\"NET_ADMIN\", \"NET_RAW\"]";
        assert!(!covers(&grant(host, &plain), &held), "another scope");
        // Where the policy's command bound it the arguments count.
        let bound = grant(&format!("{host}\ncommands = [\"/usr/sbin/ip\"]"), &command(&["ip", "link"]));
        let held = Granted::of(&bound, &alice(), &command(&["ip", "link"]));
        assert_eq!((held.command.as_deref(), held.scope.as_str()), (Some("/usr/sbin/ip"), "host"));
        assert_eq!(held.request.start, Start::Command(vec!["ip".into(), "link".into()]));
    }

    #[test]
    fn only_words_in_their_order_are_read() {
        let environment: Vec<CString> =
            ["WORD0000=a", "WORD0001=b=c", "OTHER=1", "WORD0003=d"].map(|entry| CString::new(entry).unwrap()).into();
        assert_eq!(words_of(&environment), ["a", "b=c"]);
    }

    #[test]
    fn what_was_asked_is_asked_again() {
        let asked = Request {
            profile: Some("p".into()),
            privileged: true,
            login: true,
            quiet: true,
            tied: true,
            ..Request::new(Verb::Run, Start::Line("ls".into()))
        };
        let profile = "login = true\nprivileged = true\nmay_add = [\"ALL\"]";
        let held = Granted::of(&grant(profile, &asked), &alice(), &asked).request;
        let wanted = Request { quiet: false, tied: false, start: Start::Shell, ..asked };
        assert_eq!(held, wanted);
        let mut asked = command(&["ip"]);
        asked.add.add_text("NET_ADMIN").unwrap();
        asked.drop.add_text("NET_RAW").unwrap();
        let held = Granted::of(&grant("may_add = [\"ALL\"]", &asked), &alice(), &asked).request;
        assert_eq!(held, Request { profile: Some("p".into()), ..asked });
    }

    #[test]
    fn only_an_account_that_got_worse_ends_a_session() {
        let of = |locked, expired| Baseline { listed: Vec::new(), locked, expired };
        let all = [(false, false), (true, false), (false, true), (true, true)].map(|(l, e)| of(l, e));
        for (before, worse) in all.iter().zip([[1, 2, 3].as_slice(), &[2, 3], &[1, 3], &[]]) {
            for (number, now) in all.iter().enumerate() {
                assert_eq!(now.is_worse(before), worse.contains(&number), "{before:?} {now:?}");
            }
        }
    }

    #[test]
    fn the_user_database_is_asked_by_name_and_uid() {
        let root = Granted { uid: 0, name: "root".into(), ..granted() };
        assert!(root.baseline().unwrap().listed.contains(&0));
        assert_eq!(listed("root", 7777).unwrap()[0], 7777);
        let nobody = Granted { uid: 3_999_999_999, ..granted() };
        assert_eq!(nobody.baseline(), None);
        assert_eq!(c_string("a\0b"), None);
    }

    #[test]
    fn it_is_roots_alone_and_has_words() {
        let answered = answer(&[VERB.into()], &[]);
        assert!(matches!(&answered, Err(Error::Usage(_))), "{answered:?}");
    }
}
