//! What a user asks for, and its strict form between front end and helper.

use crate::capability::{ALL, CapList};
use crate::escape::quoted;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Digits of a session's id.
pub const ID_LENGTH: usize = 12;

/// What the helper is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Judge, log, build, exec.
    Run,
    /// Judge and print the result: run nothing, ask nothing.
    Judge,
    /// Print the caller's own profiles.
    List,
    /// Forget that the caller has given a password.
    Forget,
    /// Write the `end` of sessions that were killed with all that is ours. Nobody gains by asking for it.
    Sweep,
    /// Print the caller's running sessions; root's are everybody's.
    Sessions,
    /// End one of them.
    End,
}

impl Verb {
    const EVERY: [Self; 7] = [Self::Run, Self::Judge, Self::List, Self::Forget, Self::Sweep, Self::Sessions, Self::End];

    /// Its word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Judge => "judge",
            Self::List => "list",
            Self::Forget => "forget",
            Self::Sweep => "sweep",
            Self::Sessions => "sessions",
            Self::End => "end",
        }
    }
}

/// What is to be started in the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The user's own shell, by way of the stage inside.
    Shell,
    /// That shell, with this line behind its `-c`: bytes that nobody but the shell reads.
    Line(OsString),
    /// This argv (never empty; its first word may be an empty string, which is then "not found").
    Command(Vec<OsString>),
}

/// A request, as the front end understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// `-p`.
    pub profile: Option<String>,
    /// `--cap-add`, all together.
    pub add: CapList,
    /// `--cap-drop`, all together.
    pub drop: CapList,
    /// `--privileged`.
    pub privileged: bool,
    /// `-n`: never ask for a password.
    pub non_interactive: bool,
    /// `-S`: read the password from standard input.
    pub stdin_password: bool,
    /// `-A`: ask by way of `CAPLET_ASKPASS`.
    pub askpass: bool,
    /// `--quiet`.
    pub quiet: bool,
    /// The session of a login: only profiles with `login = true`.
    pub login: bool,
    /// It ends with the process that asks, as a login does.
    pub tied: bool,
    /// The shell is to start as a login shell does, with a `-` before its name.
    pub dash: bool,
    /// `caplet why`: the command runs under the watcher, which is started with it and writes what it saw to this
    /// descriptor of the caller's, a pipe. Nobody but the front end reads that.
    pub watch: Option<u16>,
    /// `--policy FILE`: only honoured where no privilege was borrowed.
    pub policy: Option<OsString>,
    /// Which session; [`Verb::End`] has one, and no other verb.
    pub id: Option<String>,
    /// What to start; only [`Verb::Run`] and [`Verb::Judge`] have one.
    pub start: Start,
}

impl Request {
    /// A plain request for a verb.
    pub fn new(verb: Verb, start: Start) -> Self {
        Self {
            verb,
            profile: None,
            add: CapList::default(),
            drop: CapList::default(),
            privileged: false,
            non_interactive: false,
            stdin_password: false,
            askpass: false,
            quiet: false,
            login: false,
            tied: false,
            dash: false,
            watch: None,
            policy: None,
            id: None,
            start,
        }
    }

    /// The helper's argv after `argv[0]`: `VERB [--profile=X] [--add=A,B] ... [-- COMMAND ARG...]`.
    pub fn encode(&self) -> Vec<OsString> {
        let mut words = vec![OsString::from(self.verb.word())];
        let mut flag = |given: bool, word: &str| words.extend(given.then(|| OsString::from(word)));
        if let Some(name) = &self.profile {
            flag(true, &format!("--profile={name}"));
        }
        flag(!self.add.is_empty(), &format!("--add={}", self.add));
        flag(!self.drop.is_empty(), &format!("--drop={}", self.drop));
        flag(self.privileged, "--privileged");
        flag(self.non_interactive, "--non-interactive");
        flag(self.stdin_password, "--stdin");
        flag(self.askpass, "--askpass");
        flag(self.quiet, "--quiet");
        flag(self.login, "--login");
        flag(self.tied, "--tied");
        flag(self.dash, "--dash");
        if let Some(number) = self.watch {
            flag(true, &format!("{WATCH}{number}"));
        }
        if let Some(id) = &self.id {
            flag(true, &format!("--id={id}"));
        }
        let mut put = |name: &str, value: &OsString| {
            let mut word = OsString::from(name);
            word.push(value);
            words.push(word);
        };
        if let Some(path) = &self.policy {
            put("--policy=", path);
        }
        if let Start::Line(line) = &self.start {
            put("--line=", line);
        }
        if let (Verb::Run | Verb::Judge, Start::Command(argv)) = (self.verb, &self.start) {
            words.push(OsString::from("--"));
            words.extend(argv.iter().cloned());
        }
        words
    }

    /// Reads the helper's argv after `argv[0]`.
    ///
    /// Strict: an unknown word, a flag twice, a value that [`Request::encode`] would not have written, or
    /// words that contradict each other are errors. The bytes after `--` are taken as they are.
    ///
    /// # Errors
    /// What is wrong, in one line, escaped for a terminal.
    pub fn decode(words: &[OsString]) -> Result<Self, RequestError> {
        let (first, words) =
            words.split_first().ok_or_else(|| error("no verb: run, judge, list, forget, sweep, sessions or end"))?;
        let verb = Verb::EVERY.into_iter().find(|verb| first == verb.word());
        let verb = verb.ok_or_else(|| error(format!("unknown verb {}", quoted(first.as_bytes()))))?;
        let mut request = Self::new(verb, Start::Shell);
        let (flags, argv) = match words.iter().position(|word| word == "--") {
            Some(at) => (words.get(..at).unwrap_or_default(), words.get(at + 1..)),
            None => (words, None),
        };
        for (n, word) in flags.iter().enumerate() {
            let name = |word: &OsString| word.as_bytes().split(|b| *b == b'=').next().map(<[u8]>::to_vec);
            if flags.iter().take(n).any(|before| name(before) == name(word)) {
                return Err(error(format!("{} is given twice", quoted(word.as_bytes()))));
            }
            request.read_flag(word.as_bytes())?;
        }
        match argv {
            Some([]) => return Err(error("no command follows --")),
            Some(_) if request.start != Start::Shell => return Err(error("a line for the shell, and a command")),
            Some(argv) => request.start = Start::Command(argv.to_vec()),
            None => {}
        }
        request.check()?;
        Ok(request)
    }

    /// Takes one word before `--`.
    fn read_flag(&mut self, word: &[u8]) -> Result<(), RequestError> {
        let unknown = || error(format!("unknown flag {}", quoted(word)));
        let (name, value) = match word.iter().position(|b| *b == b'=') {
            Some(at) => (word.get(..at), word.get(at + 1..)),
            None => (Some(word), None),
        };
        match (name.unwrap_or_default(), value) {
            (b"--profile", Some(value)) => self.profile = Some(profile_name(value)?),
            (b"--add", Some(value)) => self.add = cap_list(value)?,
            (b"--drop", Some(value)) => self.drop = cap_list(value)?,
            (b"--privileged", None) => self.privileged = true,
            (b"--non-interactive", None) => self.non_interactive = true,
            (b"--stdin", None) => self.stdin_password = true,
            (b"--askpass", None) => self.askpass = true,
            (b"--quiet", None) => self.quiet = true,
            (b"--login", None) => self.login = true,
            (b"--tied", None) => self.tied = true,
            (b"--dash", None) => self.dash = true,
            (b"--watch", Some(_)) => self.watch = Some(watch_number(word).ok_or_else(unknown)?),
            (b"--id", Some(value)) => self.id = Some(session_id(value)?),
            (b"--line", Some(value)) => self.start = Start::Line(OsString::from_vec(value.to_vec())),
            (b"--policy", Some([])) => return Err(error("--policy names no file")),
            (b"--policy", Some(value)) => self.policy = Some(OsString::from_vec(value.to_vec())),
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// The rules that need no policy. Docker's and Podman's: one capability in both lists, or ALL in both. Ours:
    /// a profile's name is one, `-S` and `-A` exclude each other, a list asks for no session.
    ///
    /// One name in both lists is no error beside an `ALL`: with it both peers agree what is meant (added, a drop
    /// wins; dropped, exactly the additions are held).
    ///
    /// # Errors
    /// Which name stands in both, or what else contradicts itself.
    pub fn check(&self) -> Result<(), RequestError> {
        if let Some(name) = &self.profile {
            profile_name(name.as_bytes())?;
        }
        if self.add.all && self.drop.all {
            return Err(error(format!("{ALL} is in both --cap-add and --cap-drop: nobody can mean it; leave one out")));
        }
        let both = self.add.names.intersection(self.drop.names);
        if !both.is_empty() && !self.add.all && !self.drop.all {
            let verb = if both.iter().count() == 1 { "is" } else { "are" };
            return Err(error(format!("{both} {verb} in both --cap-add and --cap-drop: leave one of the two out")));
        }
        if self.stdin_password && self.askpass {
            return Err(error("-S and -A exclude each other: the password comes from one place"));
        }
        if self.dash && matches!(self.start, Start::Command(_)) {
            return Err(error("a command is no login shell"));
        }
        if self.watch.is_some() && !(self.verb == Verb::Run && matches!(self.start, Start::Command(_))) {
            return Err(error("only a command that is run can be watched"));
        }
        match (self.verb, &self.id) {
            (Verb::End, Some(id)) => drop(session_id(id.as_bytes())?),
            (Verb::End, None) => return Err(error("end needs the id of a session")),
            (verb, Some(_)) => return Err(error(format!("{} takes no id", verb.word()))),
            (_, None) => {}
        }
        let session = !self.add.is_empty()
            || !self.drop.is_empty()
            || self.privileged
            || self.start != Start::Shell
            || self.login
            || self.tied
            || self.dash;
        if !matches!(self.verb, Verb::Run | Verb::Judge) && session {
            return Err(error(format!("{} takes no capabilities and no command", self.verb.word())));
        }
        Ok(())
    }
}

/// How the word begins that names the watcher's descriptor.
const WATCH: &str = "--watch=";

/// The descriptor of a `--watch=N`, in the one spelling that [`Request::encode`] writes: not one of the standard three.
pub fn watch_number(word: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(word).ok()?.strip_prefix(WATCH)?;
    text.parse().ok().filter(|number: &u16| *number > 2 && number.to_string() == text)
}

/// Whether a text is a profile's name: `[A-Za-z0-9_-]{1,64}`.
pub fn is_profile_name(name: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    (1..=64).contains(&name.len()) && name.iter().all(fits)
}

/// Whether a text is a session's id as the log has it, or its start: `[0-9a-f]{1,12}`.
pub fn is_session_id(id: &[u8]) -> bool {
    (1..=ID_LENGTH).contains(&id.len()) && id.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
}

fn session_id(value: &[u8]) -> Result<String, RequestError> {
    match std::str::from_utf8(value) {
        Ok(id) if is_session_id(value) && id.len() == ID_LENGTH => Ok(id.to_owned()),
        _ => Err(error(format!("{} is no session's id ({ID_LENGTH} of 0-9 a-f)", quoted(value)))),
    }
}

fn profile_name(value: &[u8]) -> Result<String, RequestError> {
    match std::str::from_utf8(value) {
        Ok(name) if is_profile_name(value) => Ok(name.to_owned()),
        _ => Err(error(format!("{} is no profile name (1 to 64 of A-Z a-z 0-9 _ -)", quoted(value)))),
    }
}

/// A list in the one spelling that [`Request::encode`] writes.
fn cap_list(value: &[u8]) -> Result<CapList, RequestError> {
    let text =
        std::str::from_utf8(value).map_err(|_| error(format!("{} is no list of capabilities", quoted(value))))?;
    let mut list = CapList::default();
    list.add_text(text).map_err(|fault| error(fault.to_string()))?;
    if list.to_string() == text { Ok(list) } else { Err(error(format!("{} is not written as {list}", quoted(value)))) }
}

fn error(text: impl Into<String>) -> RequestError {
    RequestError(text.into())
}

/// A request that makes no sense, with a text that a person can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError(pub String);

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RequestError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::CapSet;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn list(text: &str) -> CapList {
        let mut list = CapList::default();
        if !text.is_empty() {
            list.add_text(text).unwrap();
        }
        list
    }

    fn words(texts: &[&str]) -> Vec<OsString> {
        texts.iter().map(OsString::from).collect()
    }

    fn command(texts: &[&str]) -> Start {
        Start::Command(words(texts))
    }

    fn asked(add: &str, drop: &str) -> Request {
        Request { add: list(add), drop: list(drop), ..Request::new(Verb::Run, command(&["id"])) }
    }

    fn refused(texts: &[&str]) -> String {
        Request::decode(&words(texts)).unwrap_err().to_string()
    }

    #[test]
    fn every_flag_on_the_wire() {
        let request = Request {
            verb: Verb::Judge,
            profile: Some("netlab".to_owned()),
            add: list("net_admin,chown"),
            drop: list("all"),
            privileged: true,
            non_interactive: true,
            stdin_password: true,
            askpass: false,
            quiet: true,
            login: true,
            tied: true,
            dash: false,
            watch: None,
            policy: Some(OsString::from_vec(b"/tmp/p=\xff".to_vec())),
            id: None,
            start: command(&["ip", "--", "-x"]),
        };
        let wire = request.encode();
        let shown: Vec<String> = wire.iter().map(|w| w.as_bytes().escape_ascii().to_string()).collect();
        let expect = [
            "judge",
            "--profile=netlab",
            "--add=CHOWN,NET_ADMIN",
            "--drop=ALL",
            "--privileged",
            "--non-interactive",
            "--stdin",
            "--quiet",
            "--login",
            "--tied",
            "--policy=/tmp/p=\\xff",
            "--",
            "ip",
            "--",
            "-x",
        ];
        assert_eq!(shown, expect);
        assert_eq!(Request::decode(&wire), Ok(request));
    }

    #[test]
    fn a_line_for_the_shell_is_any_bytes() {
        let line = OsString::from_vec(b"--add=X\n\xff 'a; b'".to_vec());
        let mut request = Request { login: true, dash: true, ..Request::new(Verb::Run, Start::Line(line)) };
        assert_eq!(Request::decode(&request.encode()), Ok(request.clone()));
        request.start = Start::Line(OsString::new());
        assert_eq!(Request::decode(&request.encode()), Ok(request));
        assert_eq!(refused(&["run", "--line=x", "--", "id"]), "a line for the shell, and a command");
        assert_eq!(refused(&["run", "--dash", "--", "id"]), "a command is no login shell");
        for flag in ["--add=KILL", "--drop=KILL", "--privileged", "--login", "--tied", "--dash"] {
            assert_eq!(refused(&["list", flag]), "list takes no capabilities and no command", "{flag}");
        }
    }

    #[test]
    fn only_a_command_that_is_run_is_watched() {
        let request = Request { watch: Some(3), ..Request::new(Verb::Run, command(&["id"])) };
        assert_eq!(request.encode(), words(&["run", "--watch=3", "--", "id"]));
        assert_eq!(Request::decode(&request.encode()), Ok(request));
        for number in ["", "0", "2", "03", "+3", "-1", "65536", "3 "] {
            let flag = format!("--watch={number}");
            assert_eq!(refused(&["run", &flag, "--", "id"]), format!("unknown flag \"{flag}\""));
        }
        for texts in [&["run", "--watch=3"][..], &["judge", "--watch=3", "--", "id"], &["list", "--watch=3"]] {
            assert_eq!(refused(texts), "only a command that is run can be watched");
        }
        assert!(Request::decode(&words(&["run", "--watch", "--", "id"])).is_err());
    }

    #[test]
    fn a_session_is_named_by_its_whole_id() {
        let mut request = Request::new(Verb::End, Start::Shell);
        assert_eq!(request.check().unwrap_err().to_string(), "end needs the id of a session");
        request.id = Some("0123456789ab".to_owned());
        assert_eq!(request.encode(), words(&["end", "--id=0123456789ab"]));
        assert_eq!(Request::decode(&request.encode()), Ok(request));
        for id in ["", "0123", "0123456789AB", "0123456789abc", "../../etc/pa"] {
            let text = format!("\"{id}\" is no session's id (12 of 0-9 a-f)");
            assert_eq!(refused(&["end", &format!("--id={id}")]), text);
        }
        assert_eq!(refused(&["run", "--id=0123456789ab"]), "run takes no id");
        assert_eq!(refused(&["sessions", "--", "id"]), "sessions takes no capabilities and no command");
        assert!(is_session_id(b"0a") && !is_session_id(b"") && !is_session_id(b"x"));
    }

    #[test]
    fn without_two_dashes_it_is_the_shell() {
        assert_eq!(Request::decode(&words(&["run"])), Ok(Request::new(Verb::Run, Start::Shell)));
        assert_eq!(Request::decode(&words(&["list"])), Ok(Request::new(Verb::List, Start::Shell)));
        assert_eq!(Request::new(Verb::List, command(&["id"])).encode(), words(&["list"]));
    }

    #[test]
    fn command_bytes_are_untouched() {
        let argv = vec![
            OsString::new(),
            OsString::from_vec(vec![b'\\'; 131_072]),
            OsString::from_vec(b"\xff\xfe\n=".to_vec()),
            OsString::from("--"),
            OsString::from("--add=CHOWN"),
            OsString::new(),
        ];
        let request = Request::new(Verb::Run, Start::Command(argv));
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn what_the_front_end_never_writes_is_refused() {
        for texts in [
            &[][..],
            &[""],
            &["RUN"],
            &["--"],
            &["run", "--"],
            &["run", "id"],
            &["run", ""],
            &["run", "-n"],
            &["run", "--privileged=yes"],
            &["run", "--privileged="],
            &["run", "--profile"],
            &["run", "--profile="],
            &["run", "--profile=a b"],
            &["run", "--profile=../x"],
            &["run", "--profile=a", "--profile=a"],
            &["run", "--quiet", "--quiet"],
            &["run", "--add="],
            &["run", "--add=CHOWN", "--add=KILL"],
            &["run", "--add=chown"],
            &["run", "--add=CAP_CHOWN"],
            &["run", "--add=KILL,CHOWN"],
            &["run", "--add=CHOWN,CHOWN"],
            &["run", "--add= CHOWN"],
            &["run", "--add=CHOWN,ALL"],
            &["run", "--add=NOSUCH"],
            &["run", "--add=CHOWN", "--drop=CHOWN"],
            &["run", "--add=ALL", "--drop=ALL"],
            &["run", "--stdin", "--askpass"],
            &["run", "--policy="],
            &["run", "--=x"],
            &["run", "=", "--", "id"],
            &["list", "--", "id"],
            &["list", "--add=CHOWN"],
            &["list", "--drop=CHOWN"],
            &["list", "--privileged"],
        ] {
            assert!(Request::decode(&words(texts)).is_err(), "{texts:?}");
        }
    }

    #[test]
    fn profile_names() {
        for (name, good) in
            [("a", true), ("A-z_09", true), ("-", true), ("", false), ("a.b", false), ("é", false), ("a\n", false)]
        {
            assert_eq!(is_profile_name(name.as_bytes()), good, "{name:?}");
        }
        assert!(is_profile_name(&[b'x'; 64]));
        assert!(!is_profile_name(&[b'x'; 65]));
        assert_eq!(refused(&["run", "--profile=a\nb"]), "\"a\\nb\" is no profile name (1 to 64 of A-Z a-z 0-9 _ -)");
        let mut request = Request::new(Verb::Run, Start::Shell);
        request.profile = Some("no name".to_owned());
        assert!(request.check().is_err(), "also before it is encoded");
    }

    #[test]
    fn docker_and_podman_on_one_name_in_both_lists() {
        for (add, drop, good) in [
            ("", "", true),
            ("CHOWN", "KILL", true),
            ("CHOWN", "CHOWN", false),
            ("CHOWN,KILL", "KILL,SETUID", false),
            ("ALL", "CHOWN", true),
            ("ALL,CHOWN", "CHOWN", true),
            ("CHOWN", "ALL", true),
            ("CHOWN", "ALL,CHOWN", true),
            ("ALL", "ALL", false),
            ("ALL,CHOWN", "ALL,KILL", false),
        ] {
            assert_eq!(asked(add, drop).check().is_ok(), good, "add {add} drop {drop}");
        }
        let text = |add, drop| asked(add, drop).check().unwrap_err().to_string();
        assert_eq!(text("CHOWN,KILL", "KILL"), "KILL is in both --cap-add and --cap-drop: leave one of the two out");
        assert_eq!(text("ALL", "ALL"), "ALL is in both --cap-add and --cap-drop: nobody can mean it; leave one out");
        assert!(Request { privileged: true, ..asked("KILL", "KILL") }.check().is_err(), "also with --privileged");
    }

    #[test]
    fn an_error_is_one_safe_line() {
        assert_eq!(refused(&["run", "--\u{202e}\n"]), "unknown flag \"--\\u{202e}\\n\"");
        assert_eq!(refused(&["\u{1b}[2J"]), "unknown verb \"\\x1b[2J\"");
        assert!(refused(&["run", &"x".repeat(131_072)]).len() < 200);
        assert!(refused(&["run", &format!("--add={}", "x".repeat(131_072))]).len() < 200);
    }

    fn caps() -> impl Strategy<Value = CapList> {
        let bits = prop_oneof![Just(0), any::<u64>()];
        (any::<bool>(), bits).prop_map(|(all, bits)| CapList { all, names: CapSet::from_bits(bits) })
    }

    fn any_words(len: usize) -> impl Strategy<Value = Vec<OsString>> {
        vec(vec(any::<u8>(), 0..20).prop_map(OsString::from_vec), 0..len)
    }

    prop_compose! {
        fn any_request()(
            judge: bool, profile in proptest::option::of("[A-Za-z0-9_-]{1,64}"), add in caps(), drop in caps(),
            flags: [bool; 8], watch in proptest::option::of(3..=u16::MAX), policy in proptest::option::of("[^\0]{1,20}"), argv in any_words(5),
        ) -> Request {
            let [privileged, non_interactive, stdin_password, askpass, quiet, login, tied, dash] = flags;
            let start = match argv.as_slice() {
                [] => Start::Shell,
                [line] if login => Start::Line(line.clone()),
                _ => Start::Command(argv),
            };
            Request {
                verb: if judge { Verb::Judge } else { Verb::Run },
                profile, add, drop, privileged, non_interactive, stdin_password, askpass, quiet, login, tied, dash,
                watch: watch.filter(|_| !judge && matches!(start, Start::Command(_))), policy: policy.map(OsString::from), id: None,
                start,
            }
        }
    }

    proptest! {
        #[test]
        fn any_request_that_makes_sense_round_trips(request in any_request()) {
            let back = Request::decode(&request.encode());
            match request.check() {
                Ok(()) => prop_assert_eq!(back, Ok(request)),
                Err(text) => prop_assert_eq!(back, Err(text)),
            }
        }

        #[test]
        fn no_bytes_panic_and_what_is_read_is_written_the_same(
            verb in "run|judge|list|.*",
            flags in vec("--(profile|add|drop|privileged|quiet|stdin|askpass|policy|.*)(=(ALL|CHOWN|x|,|.*))?", 0..4),
            rest in any_words(4),
        ) {
            let words: Vec<OsString> =
                [verb].into_iter().chain(flags).map(OsString::from).chain(rest).collect();
            match Request::decode(&words) {
                Ok(request) => prop_assert_eq!(Request::decode(&request.encode()), Ok(request)),
                Err(text) => prop_assert!(!text.0.contains(char::is_control)),
            }
        }
    }
}
