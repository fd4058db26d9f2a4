//! The commands of caplet(1) with their options: each as `caplet COMMAND --help` has it.

use super::mdoc::{escape, literal, paragraph};
use crate::cli;
use clap::{Arg, Command};

/// All subsections.
pub fn part() -> String {
    let mut page = String::new();
    for command in cli::whole().get_subcommands() {
        page += &section(command, &format!("caplet {}", command.get_name()));
        if command.get_name() == "check" {
            page += &section(&cli::check_as(), "caplet check --as");
        }
    }
    page
}

fn section(command: &Command, name: &str) -> String {
    let text = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let mut page = format!(".Ss {}\n", escape(name));
    page += &format!(".Bd -ragged -offset indent\n{}\n.Ed\n.Pp\n", escape(usage));
    page += &paragraph(&format!("{}.", text(command.get_about())));
    // The same for all of them; what `run` has is not said again.
    let (run, repeats) = (cli::run(), matches!(name, "caplet shell" | "caplet check --as"));
    let of_run = |arg: &Arg| run.get_arguments().any(|other| other.get_id() == arg.get_id());
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "help");
    let options: String = args.filter(|arg| !repeats || !of_run(arg)).map(option).collect();
    if !options.is_empty() {
        page += &format!(".Bl -tag -width Ds\n{options}.El\n");
    }
    if repeats {
        page += ".Pp\nThe other options are those of\n.Ic caplet run .\n";
    }
    for block in text(command.get_after_help()).split("\n\n").filter(|block| !block.trim().is_empty()) {
        page += ".Pp\n";
        match block.strip_prefix("Examples:\n") {
            Some(lines) => {
                page += "Examples:\n";
                page +=
                    &literal(&lines.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>());
            }
            None => page += &paragraph(block),
        }
    }
    page
}

fn option(arg: &Arg) -> String {
    let names: Vec<String> = (arg.get_short().map(|c| format!("Fl {c}")).into_iter())
        .chain(arg.get_long().map(|long| format!("Fl \\-{}", escape(long))))
        .collect();
    let takes = arg.get_action().takes_values();
    let value = arg.get_value_names().and_then(|names| names.first()).map(|name| format!("Ar {name}"));
    let value = value.filter(|_| takes).unwrap_or_default();
    let head = match names.is_empty() {
        true => value.replace('|', " | "),
        false => format!("{} {value}", names.join(" , ")),
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    format!(".It {}\n{}", head.trim_end(), paragraph(&format!("{help}.")))
}
