//! Completions for three shells, from the same definition as the helps.

use crate::cli;
use caplet_policy::capability::CapSet;
use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::{Generator, Shell, generate};

/// Each file of `completions/` with its text.
pub fn all() -> [(&'static str, String); 3] {
    let fish = text(Shell::Fish) + &behind_run_in_fish();
    [("completions/caplet.bash", bash()), ("completions/_caplet", text(Shell::Zsh)), ("completions/caplet.fish", fish)]
}

fn text(shell: impl Generator) -> String {
    let mut bytes = Vec::new();
    generate(shell, &mut whole(), "caplet", &mut bytes);
    String::from_utf8(bytes).expect("UTF-8")
}

/// All of it as completions need it: what is hidden is left out, and values have hints. The program itself takes more
/// as a capability: any case, lists, `CAP_`.
fn whole() -> Command {
    let names: Vec<&'static str> = CapSet::KNOWN.iter().map(|cap| cap.name()).collect();
    let listed = |all: bool| PossibleValuesParser::new(names.iter().copied().chain(all.then_some("ALL")));
    let hinted = |arg: &Arg| {
        let arg = arg.clone().required(false);
        let hint = match kind(&arg) {
            Kind::Capability => {
                let all = arg.get_long().is_some();
                return arg.value_parser(listed(all));
            }
            Kind::Command => ValueHint::CommandWithArguments,
            Kind::File => ValueHint::AnyPath,
            Kind::User => ValueHint::Username,
            Kind::Other => return arg,
        };
        arg.value_hint(hint)
    };
    let of_the_helps = cli::whole();
    let subcommands = of_the_helps.get_subcommands().map(|sub| {
        let (as_somebody, merges) = (cli::check_as(), sub.get_name() == "check");
        let more = as_somebody.get_arguments().filter(|arg| merges && sub.get_arguments().all(|own| own != *arg));
        let args = sub.get_arguments().chain(more.filter(|arg| arg.get_id() != "command"));
        let args: Vec<Arg> = args.filter(|arg| !arg.is_hide_set()).map(hinted).collect();
        let about = sub.get_about().cloned().unwrap_or_default();
        Command::new(cli::SUBCOMMANDS.into_iter().find(|name| *name == sub.get_name()).unwrap_or_default())
            .about(about)
            .disable_help_flag(true)
            .args(args)
    });
    let subcommands: Vec<Command> = subcommands.collect();
    let help = Arg::new("help").short('h').long("help").help("Print this help").action(clap::ArgAction::Help);
    Command::new("caplet")
        .version("x")
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .arg(help)
        .subcommands(subcommands)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Capability,
    Command,
    File,
    User,
    Other,
}

/// What an argument's value is.
fn kind(arg: &Arg) -> Kind {
    match arg.get_id().as_str() {
        "cap-add" | "cap-drop" | "name" => Kind::Capability,
        "command" => Kind::Command,
        "path" | "policy" | "file" => Kind::File,
        "user" | "as" => Kind::User,
        _ => Kind::Other,
    }
}

/// `-p`, `--profile`.
fn names(arg: &Arg) -> impl Iterator<Item = String> {
    let short = arg.get_short().map(|c| format!("-{c}"));
    short.into_iter().chain(arg.get_long().map(|long| format!("--{long}")))
}

fn options(command: &Command, wanted: impl Fn(&Arg) -> bool) -> String {
    command.get_arguments().filter(|arg| wanted(arg)).flat_map(names).collect::<Vec<_>>().join(" ")
}

/// What fish offers behind `run`: the command's own completions.
fn behind_run_in_fish() -> String {
    let run = cli::run();
    let with_value = options(&run, |arg| arg.get_action().takes_values());
    format!(
        "complete -c caplet -n \"__fish_caplet_using_subcommand run\" -x -a \
         \"(__fish_complete_subcommand --fcs-skip=2 {with_value})\"\n"
    )
}

/// bash: the rules stand in `bash.template`; clap_complete's own script ends where the command of `run` begins.
fn bash() -> String {
    let whole = whole();
    let commands: Vec<&str> = whole.get_subcommands().map(Command::get_name).collect();
    let of_kind = |command: &Command, wanted: Kind| options(command, |arg| kind(arg) == wanted);
    let mut table = String::new();
    for command in whole.get_subcommands() {
        let takes = |arg: &Arg| arg.get_action().takes_values();
        let word = command.get_positionals().next().map_or(Kind::Other, kind);
        let word = match word {
            Kind::Capability => "capability",
            Kind::Command => "command",
            Kind::File => "file",
            Kind::User => "user",
            Kind::Other => "",
        };
        table += &format!("    {})\n", command.get_name());
        table += &format!("        options=\"{}\"\n", options(command, |_| true));
        for (name, value) in [
            ("valued", options(command, takes)),
            ("capability", of_kind(command, Kind::Capability)),
            ("file", of_kind(command, Kind::File)),
            ("user", of_kind(command, Kind::User)),
            ("word", word.into()),
        ] {
            if !value.is_empty() {
                table += &format!("        {name}=\"{value}\"\n");
            }
        }
        table += "        ;;\n";
    }
    let capabilities: Vec<&str> = CapSet::KNOWN.iter().map(|cap| cap.name()).collect();
    include_str!("bash.template")
        .replace("@COMMANDS@", &commands.join(" "))
        .replace("@CAPABILITIES@", &capabilities.join(" "))
        .replace("    @TABLE@\n", &table)
}
