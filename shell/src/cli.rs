//! The command line: flags and helps (clap) on one side, what the person wishes on the other. No word of an error.

mod after_help;

use crate::check::Question;
use crate::log::{self, Whose};
use crate::messages::{FAILURE, NO, Trouble, USAGE};
use crate::{quoting, usage, version};
use caplet_policy::capability::{CapList, CapSet, NameError};
use caplet_policy::request::{Request, Start, Verb, is_profile_name};
use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What a command line wishes.
#[derive(Debug)]
pub enum Wish {
    /// `run`, `shell`.
    Session(Request),
    /// `why`.
    Why { request: Request, json: bool },
    /// `learn`.
    Learn(Request),
    /// `list`.
    List { json: bool, policy: Option<OsString> },
    /// `check`.
    Check { path: Option<PathBuf>, strict: bool },
    /// `check --as`.
    WhatIf(Question),
    /// `caps`.
    Caps { names: CapSet, json: bool },
    /// `edit`.
    Edit { path: Option<PathBuf> },
    /// `doctor`.
    Doctor { user: Option<String>, json: bool },
    /// `forget`.
    Forget,
    /// `sessions`.
    Sessions { json: bool },
    /// `end`.
    End { id: OsString },
    /// `log`.
    Log(log::Question),
    /// A help or the version, for stdout, and the exit code if it cannot be written.
    Text(String, u8),
}

/// A command line that is not one.
#[derive(Debug)]
pub struct No {
    /// What to say; `None`: the whole help, on stderr.
    pub trouble: Option<Trouble>,
    /// The exit code.
    pub code: u8,
}

/// Reads the words after `argv[0]`. Only the subcommand that is asked for is built.
pub fn read(words: Vec<OsString>) -> Result<Wish, No> {
    let Some(first) = words.first() else {
        return Err(No { trouble: None, code: USAGE });
    };
    let what_if = first == "check" && asks_about_somebody(&words[1..]);
    let (command, code) = match first.as_bytes() {
        b"run" => (run(), FAILURE),
        b"shell" => (shell(), FAILURE),
        b"why" => (why(), FAILURE),
        b"learn" => (learn(), USAGE),
        b"list" => (list(), USAGE),
        b"check" if what_if => (check_as(), USAGE),
        b"check" => (check(), USAGE),
        b"caps" => (caps(), USAGE),
        b"edit" => (edit(), USAGE),
        b"forget" => (forget(), USAGE),
        b"log" => (log(), USAGE),
        b"doctor" => (doctor(), USAGE),
        b"sessions" => (sessions(), USAGE),
        b"end" => (end(), USAGE),
        _ => return usage::without_subcommand(words),
    };
    let name = command_name(first);
    let no = |trouble| No { trouble: Some(trouble), code };
    let rest = words[1..].iter();
    let mut matches = match command.no_binary_name(true).try_get_matches_from(rest) {
        Ok(matches) => matches,
        Err(error) => {
            return usage::reword(&error, name, &words[1..]).map(|text| Wish::Text(text, unwritten(code))).map_err(no);
        }
    };
    match name {
        "list" => Ok(Wish::List { json: matches.get_flag("json"), policy: policy_file(&mut matches).map_err(no)? }),
        "check" if what_if => question(&mut matches).map(Wish::WhatIf).map_err(no),
        "edit" => Ok(Wish::Edit { path: matches.remove_one::<OsString>("path").map(PathBuf::from) }),
        "check" => {
            let strict = matches.get_flag("strict");
            Ok(Wish::Check { path: matches.remove_one::<OsString>("path").map(PathBuf::from), strict })
        }
        "why" => {
            let json = matches.get_flag("json");
            match request(&mut matches, true).map_err(no)? {
                request if request.verb == Verb::Judge => Ok(Wish::Session(request)),
                request => Ok(Wish::Why { request, json }),
            }
        }
        "learn" => {
            let command: Vec<OsString> = matches.remove_many("command").map(Iterator::collect).unwrap_or_default();
            if command.is_empty() {
                return Err(no(Trouble::LearnWhat));
            }
            let mut request = Request::new(Verb::Run, Start::Command(command));
            let profile = matches.remove_one::<OsString>("profile").map(profile_name).transpose().map_err(no)?;
            request.profile = profile;
            request.non_interactive = true;
            request.policy = policy_file(&mut matches).map_err(no)?;
            Ok(Wish::Learn(request))
        }
        "forget" => Ok(Wish::Forget),
        "sessions" => Ok(Wish::Sessions { json: matches.get_flag("json") }),
        "end" => match matches.remove_one::<OsString>("id") {
            Some(id) => Ok(Wish::End { id }),
            None => Err(no(Trouble::EndWhat)),
        },
        "doctor" => {
            let user = matches.remove_one::<OsString>("user").map(|user| user.to_string_lossy().into_owned());
            match user {
                Some(user) if user.is_empty() => Err(no(Trouble::NeedsValue { option: "--user".into() })),
                user => Ok(Wish::Doctor { user, json: matches.get_flag("json") }),
            }
        }
        "log" => records(&mut matches).map(Wish::Log).map_err(no),
        "caps" => named(&mut matches).map(|names| Wish::Caps { names, json: matches.get_flag("json") }).map_err(no),
        _ => request(&mut matches, name == "run").map(Wish::Session).map_err(no),
    }
}

/// The code for a help that cannot be written: `run` and `shell` have one for everything of ours.
fn unwritten(usage: u8) -> u8 {
    if usage == FAILURE { FAILURE } else { NO }
}

fn command_name(word: &OsStr) -> &'static str {
    SUBCOMMANDS.into_iter().find(|name| word == *name).unwrap_or("run")
}

/// The subcommands there are.
pub const SUBCOMMANDS: [&str; 13] =
    ["run", "shell", "why", "learn", "list", "sessions", "end", "check", "caps", "edit", "forget", "log", "doctor"];

fn request(matches: &mut ArgMatches, may_name_command: bool) -> Result<Request, Trouble> {
    let verb = if matches.get_flag("dry-run") { Verb::Judge } else { Verb::Run };
    let command: Vec<OsString> = if may_name_command {
        matches.remove_many("command").map(Iterator::collect).unwrap_or_default()
    } else {
        Vec::new()
    };
    let start = if command.is_empty() { Start::Shell } else { Start::Command(command) };
    let mut request = Request::new(verb, start);
    if let Some(name) = matches.remove_one::<OsString>("profile") {
        request.profile = Some(profile_name(name)?);
    }
    request.add = capabilities(matches, "cap-add", "--cap-add")?;
    request.drop = capabilities(matches, "cap-drop", "--cap-drop")?;
    request.privileged = matches.get_flag("privileged");
    request.non_interactive = matches.get_flag("non-interactive");
    request.stdin_password = matches.get_flag("stdin");
    request.askpass = matches.get_flag("askpass");
    request.quiet = matches.get_flag("quiet");
    request.policy = policy_file(matches)?;
    request.check().map_err(|e| Trouble::Request(e.0))?;
    Ok(request)
}

/// With `--as` anywhere the words are those of `run`, and not a policy's path.
fn asks_about_somebody(words: &[OsString]) -> bool {
    words.iter().map(|word| word.as_bytes()).any(|word| word == b"--as" || word.starts_with(b"--as="))
}

fn question(matches: &mut ArgMatches) -> Result<Question, Trouble> {
    let mut text = |id: &str| matches.remove_one::<OsString>(id).map(|value| value.to_string_lossy().into_owned());
    let (user, machine, at) = (text("as").unwrap_or_default(), text("machine"), text("at"));
    let policy = policy_file(matches)?.map(PathBuf::from);
    Ok(Question { user, machine, at, policy, request: request(matches, true)? })
}

/// What `caplet log` is to show.
fn records(matches: &mut ArgMatches) -> Result<log::Question, Trouble> {
    let mut given = |id: &str, option: &str| match matches.remove_one::<OsString>(id) {
        Some(value) if value.is_empty() => Err(Trouble::NeedsValue { option: option.into() }),
        value => Ok(value),
    };
    let user = given("user", "--user")?.map(Whose::read).transpose()?;
    let since = given("since", "--since")?.map(log::since).transpose()?;
    let file = given("file", "--file")?.map(PathBuf::from);
    Ok(log::Question { user, since, file, json: matches.get_flag("json") })
}

fn policy_file(matches: &mut ArgMatches) -> Result<Option<OsString>, Trouble> {
    match matches.remove_one::<OsString>("policy") {
        Some(path) if path.is_empty() => Err(Trouble::NeedsValue { option: "--policy".into() }),
        path => Ok(path),
    }
}

fn profile_name(name: OsString) -> Result<String, Trouble> {
    if is_profile_name(name.as_bytes()) {
        name.into_string().map_err(Trouble::BadProfileName)
    } else {
        Err(Trouble::BadProfileName(name))
    }
}

/// What `caplet caps` is asked about; nothing: all of them.
fn named(matches: &mut ArgMatches) -> Result<CapSet, Trouble> {
    let list = capabilities(matches, "name", "caps")?;
    Ok(if list.all { CapSet::KNOWN } else { list.names })
}

fn capabilities(matches: &mut ArgMatches, id: &str, option: &'static str) -> Result<CapList, Trouble> {
    let mut list = CapList::default();
    for value in matches.remove_many::<OsString>(id).into_iter().flatten() {
        let Some(text) = value.to_str() else {
            return Err(Trouble::UnknownCapability { option, text: value, near: None });
        };
        list.add_text(text).map_err(|error| match error {
            NameError::Empty => Trouble::EmptyCapability { option },
            NameError::Unknown { text, near } => Trouble::UnknownCapability {
                option,
                near: if text.trim().eq_ignore_ascii_case("CAP_ALL") { Some("ALL") } else { near },
                text: text.into(),
            },
        })?;
    }
    Ok(list)
}

/// The help of `caplet --help`.
pub fn help() -> String {
    whole().render_help().to_string()
}

/// Every subcommand, for the help here and for whoever makes man pages and completions from it.
pub fn whole() -> Command {
    plain(Command::new("caplet"))
        .version(version::text())
        .about("Run commands with the Linux capabilities that your administrator lets you have")
        .override_usage("caplet COMMAND [OPTIONS]")
        .subcommands([
            run(),
            shell(),
            why(),
            learn(),
            list(),
            sessions(),
            end(),
            check(),
            caps(),
            edit(),
            forget(),
            log(),
            doctor(),
        ])
        .subcommand_required(true)
        .after_help(after_help::CAPLET)
}

/// `caplet run`.
pub fn run() -> Command {
    session(plain(Command::new("run")))
        .bin_name("caplet run")
        .about("Run a command in a session, or your shell if no command is named")
        .override_usage("caplet run [OPTIONS] [--] [COMMAND [ARG]...]")
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .help("The command and its arguments; everything after its first word is the command's own")
                .value_parser(OsStringValueParser::new())
                .num_args(0..)
                .trailing_var_arg(true),
        )
        .after_help(after_help::RUN)
}

/// `caplet shell`.
pub fn shell() -> Command {
    session(plain(Command::new("shell")))
        .bin_name("caplet shell")
        .about("Start your own shell in a session")
        .override_usage("caplet shell [OPTIONS]")
        .after_help(after_help::SHELL)
}

/// `caplet why`.
pub fn why() -> Command {
    session(plain(Command::new("why")))
        .bin_name("caplet why")
        .about("Run a command as run does, and explain what it was refused")
        .override_usage("caplet why [OPTIONS] [--] COMMAND [ARG]...")
        .arg(flag("json", None, "Explain in JSON, for programs: one line on standard error"))
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .help("The command and its arguments; everything after its first word is the command's own")
                .value_parser(OsStringValueParser::new())
                .num_args(0..)
                .trailing_var_arg(true),
        )
        .after_help(after_help::WHY)
}

/// `caplet learn`.
pub fn learn() -> Command {
    plain(Command::new("learn"))
        .bin_name("caplet learn")
        .about("Find the least that a command needs, and print it as a profile")
        .override_usage("caplet learn [-p PROFILE] [--] COMMAND [ARG]...")
        .args([
            value(
                "profile",
                Some('p'),
                "PROFILE",
                "Try in sessions of this profile [default: in which you may have most]",
            ),
            policy(),
        ])
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .help("The command and its arguments; everything after its first word is the command's own")
                .value_parser(OsStringValueParser::new())
                .num_args(0..)
                .trailing_var_arg(true),
        )
        .after_help(after_help::LEARN)
}

/// `caplet list`.
pub fn list() -> Command {
    plain(Command::new("list"))
        .bin_name("caplet list")
        .about("Show your profiles: what each holds, what you may add, and what for")
        .override_usage("caplet list [--json]")
        .arg(flag("json", None, "Print JSON, for programs"))
        .arg(policy())
        .after_help(after_help::LIST)
}

/// `caplet sessions`.
pub fn sessions() -> Command {
    plain(Command::new("sessions"))
        .bin_name("caplet sessions")
        .about("Show your running sessions; root sees everybody's")
        .override_usage("caplet sessions [--json]")
        .arg(flag("json", None, "Print JSON, for programs"))
        .after_help(after_help::SESSIONS)
}

/// `caplet end`.
pub fn end() -> Command {
    plain(Command::new("end"))
        .bin_name("caplet end")
        .about("End one of your running sessions; root may end anybody's")
        .override_usage("caplet end ID")
        .arg(
            Arg::new("id")
                .value_name("ID")
                .help("The session's id, or so much of its start that it is the only one")
                .value_parser(OsStringValueParser::new()),
        )
        .after_help(after_help::END)
}

/// `caplet check`.
pub fn check() -> Command {
    plain(Command::new("check"))
        .bin_name("caplet check")
        .about("Read a policy as the helper would: every fault, and risky grants")
        .override_usage("caplet check [--strict] [FILE|DIR]")
        .arg(flag("strict", None, "A warning counts as a fault"))
        .arg(
            Arg::new("path")
                .value_name("FILE|DIR")
                .help("A policy file, or a folder with policy.toml and policy.d/ [default: /etc/caplet]")
                .value_parser(OsStringValueParser::new()),
        )
        .after_help(after_help::CHECK)
}

/// `caplet caps`.
pub fn caps() -> Command {
    plain(Command::new("caps"))
        .bin_name("caplet caps")
        .about("The capability handbook: what each one gates, where it works, how risky it is")
        .override_usage("caplet caps [--json] [CAP]...")
        .arg(
            Arg::new("name")
                .value_name("CAP")
                .help("A capability, or several: NET_ADMIN,NET_RAW [default: a table of all]")
                .value_parser(OsStringValueParser::new())
                .num_args(0..),
        )
        .arg(flag("json", None, "Print JSON, for programs"))
        .after_help(after_help::CAPS)
}

/// `caplet check --as`: the flags and the command of `run` behind it.
pub fn check_as() -> Command {
    session(plain(Command::new("check")))
        .mut_arg("policy", |arg| arg.value_name("FILE|DIR").help("The policy to ask [default: /etc/caplet]"))
        .bin_name("caplet check")
        .about("Say what would be decided for a user, by which profile and line")
        .override_usage("caplet check --as USER [OPTIONS] [--] [COMMAND [ARG]...]")
        .arg(value("as", None, "USER", "Whom: a login name, or #uid").required(true).display_order(0))
        .arg(value("machine", None, "HOST", "As if on this host [default: here]").display_order(1))
        .arg(value("at", None, "DATE", "As if then: 2027-02-15, 2027-02-15T18:00 [default: now]").display_order(1))
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .help("The command that would be run")
                .value_parser(OsStringValueParser::new())
                .num_args(0..)
                .trailing_var_arg(true),
        )
        .after_help(after_help::CHECK_AS)
}

/// `caplet edit`.
pub fn edit() -> Command {
    plain(Command::new("edit"))
        .bin_name("caplet edit")
        .about("Edit a policy file, check it, and replace it at once if it has no fault")
        .override_usage("caplet edit [FILE]")
        .arg(
            Arg::new("path")
                .value_name("FILE")
                .help("The file to edit or to make [default: /etc/caplet/policy.toml]")
                .value_parser(OsStringValueParser::new()),
        )
        .after_help(after_help::EDIT)
}

/// `caplet forget`.
pub fn forget() -> Command {
    plain(Command::new("forget"))
        .bin_name("caplet forget")
        .about("Forget that you have given your password: the next session asks again")
        .override_usage("caplet forget")
        .after_help(after_help::FORGET)
}

/// `caplet log`.
pub fn log() -> Command {
    plain(Command::new("log"))
        .bin_name("caplet log")
        .about("Read back the records of grants, refusals and ends; for root")
        .override_usage("caplet log [--user USER] [--since TIME] [--json] [--file FILE]")
        .arg(value("user", None, "USER", "Only what this user did: a login name, or #uid"))
        .arg(value("since", None, "TIME", "Only what happened since then, as in: 2h"))
        .arg(flag("json", None, "Print JSON, for programs: one object a line"))
        .arg(value("file", None, "FILE", "Read this syslog file [default: the machine's log]"))
        .after_help(after_help::LOG)
}

/// `caplet doctor`.
pub fn doctor() -> Command {
    plain(Command::new("doctor"))
        .bin_name("caplet doctor")
        .about("Find the ways around the login shell on this machine; for root")
        .override_usage("caplet doctor [--user USER] [--json]")
        .arg(value("user", None, "USER", "Look at this account [default: all with caplet-shell]"))
        .arg(flag("json", None, "Print JSON, for programs"))
        .after_help(after_help::DOCTOR)
}

fn plain(command: Command) -> Command {
    command.max_term_width(80).disable_help_flag(true).arg(
        Arg::new("help").short('h').long("help").help("Print this help").action(ArgAction::Help).display_order(100),
    )
}

fn session(command: Command) -> Command {
    command.args([
        value("profile", Some('p'), "PROFILE", "Take this profile and no other [default: the first that fits]"),
        value("cap-add", None, "CAP", "Add a capability, or several: NET_ADMIN,NET_RAW; ALL for every one")
            .action(ArgAction::Append),
        value("cap-drop", None, "CAP", "Leave out one that the profile starts with; ALL empties the start")
            .action(ArgAction::Append),
        flag("privileged", None, "Every capability, inside the session's own namespaces"),
        flag("dry-run", None, "Say what would be decided, and run nothing"),
        flag("quiet", None, "No greeting and no notice; refusals are still told"),
        flag("non-interactive", Some('n'), "Never ask for a password; refuse if one is needed").long(None),
        flag("stdin", Some('S'), "Read the password from standard input"),
        flag("askpass", Some('A'), "Ask for the password by the program in CAPLET_ASKPASS"),
        policy(),
        // Habits of `docker run -it`: a terminal is always passed on.
        flag("i", Some('i'), "").long(None).hide(true),
        flag("t", Some('t'), "").long(None).hide(true),
    ])
}

fn policy() -> Arg {
    value("policy", None, "FILE", "Read this policy instead; only without installation")
}

fn flag(name: &'static str, short: Option<char>, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).help(help).action(ArgAction::SetTrue).overrides_with(name);
    match short {
        Some(c) => arg.short(c),
        None => arg,
    }
}

fn value(name: &'static str, short: Option<char>, shown: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).value_name(shown).help(help).value_parser(OsStringValueParser::new());
    match short {
        Some(c) => arg.short(c),
        None => arg,
    }
}

/// The line that starts a session with the same wishes elsewhere: `caplet shell -p netlab --cap-add NET_ADMIN`.
pub fn shell_line(request: &Request) -> (bool, Vec<OsString>) {
    wishes_line("shell", request)
}

/// The line that runs the request's command: `caplet run -p clock -- date -s 12:00`.
pub fn run_line(request: &Request) -> Vec<OsString> {
    let (_, mut line) = wishes_line("run", request);
    if let Start::Command(command) = &request.start {
        line.push("--".into());
        line.extend(command.iter().cloned());
    }
    line
}

fn wishes_line(subcommand: &str, request: &Request) -> (bool, Vec<OsString>) {
    let mut line = quoting::words(&["caplet", subcommand]);
    let start = line.len();
    if let Some(profile) = &request.profile {
        line.extend(quoting::words(&["-p", profile]));
    }
    for (option, list) in [("--cap-add", request.add), ("--cap-drop", request.drop)] {
        if !list.is_empty() {
            line.extend(quoting::words(&[option, &list.to_string()]));
        }
    }
    if request.privileged {
        line.push("--privileged".into());
    }
    (line.len() > start, line)
}
