//! From sources to a document: TOML, tables, profiles in their order, defaults merged in.

use super::faults::{Complaint, Cursor, Sink, quoted};
use super::{Defaults, Document, Faults, Lan, Location, Profile, Source, check, network, profile, values};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Error};

type Key<'t> = Spanned<DeString<'t>>;
type Value<'t> = Spanned<DeValue<'t>>;

/// [`Document::read`].
pub(super) fn read(sources: &[Source]) -> Result<Document, Faults> {
    let mut sink = Sink::default();
    let mut trees = Vec::with_capacity(sources.len());
    for (file, source) in sources.iter().enumerate() {
        let (tree, errors) = DeTable::parse_recoverable(&source.text);
        sink.file = file;
        complain_of_syntax(&mut sink, &source.text, &tree, &errors);
        trees.push((file, source, tree.into_inner()));
    }
    let nothing = DeTable::new();
    let (mut defaults, mut defaults_table) = (Defaults::default(), None);
    for (file, source, tree) in &trees {
        sink.file = *file;
        for (key, value) in tree {
            if let ("defaults", DeValue::Table(table)) = (key.get_ref().as_ref(), value.get_ref()) {
                let read = profile::read_defaults(&mut sink, table);
                let (line, _) = Cursor::new(&source.text).go_to(key.span().start);
                if let Some((_, file, line)) = defaults_table {
                    let complaint = Complaint::new("[defaults] stands in two files");
                    sink.fault(key.span(), complaint.help(format!("first in {file}:{line}")));
                } else {
                    (defaults, defaults_table) = (read, Some((table, &source.path, line)));
                }
            } else {
                complain_of_table(&mut sink, key, value);
            }
        }
    }
    let lans = read_networks(&mut sink, &trees);
    let mut profiles = Vec::new();
    let mut names = Vec::new();
    for (file, source, tree) in &trees {
        sink.file = *file;
        if let Some(DeValue::Table(tables)) = tree.get("profile").map(Spanned::get_ref) {
            let defaults = defaults_table.map_or(&nothing, |(table, _, _)| table);
            read_profiles(&mut sink, source, tables, &lans, defaults, &mut |profile, name| {
                names.push((*file, name));
                profiles.push(profile);
            });
        }
    }
    complain_of_duplicates(&mut sink, &profiles, names);
    match sink.finish(sources) {
        faults if faults.is_empty() => Ok(Document { defaults, networks: lans, profiles }),
        faults => Err(Faults { faults, contact: defaults.contact }),
    }
}

/// The networks of all files.
fn read_networks(sink: &mut Sink, trees: &[(usize, &Source, DeTable<'_>)]) -> Vec<Lan> {
    let (mut lans, mut places) = (Vec::new(), Vec::new());
    for (file, source, tree) in trees {
        sink.file = *file;
        let tables = tree.get("network").and_then(|value| value.get_ref().as_table());
        for (key, value) in tables.into_iter().flatten() {
            let (name, span) = (key.get_ref().as_ref(), key.span());
            let DeValue::Table(table) = value.get_ref() else {
                let complaint = Complaint::new(format!("network {} must be a table", quoted(name)));
                sink.fault(span, complaint.help("it starts with a line [network.NAME]"));
                continue;
            };
            let (line, _) = Cursor::new(&source.text).go_to(span.start);
            let at = Location { file: source.path.clone(), line };
            // One with a fault is there all the same: its profiles are not complained of as well.
            let (lan, sound) = network::read(sink, name, span.clone(), table);
            lans.push(Lan { at, ..lan });
            places.push((*file, span, sound));
        }
    }
    let mut found = Vec::new();
    network::check_all(&lans, |n, complaint| found.push((n, complaint)));
    for (n, complaint) in found {
        if let Some((file, span, true)) = places.get(n) {
            sink.file = *file;
            sink.fault(span.clone(), complaint);
        }
    }
    lans
}

/// All profiles of a file, in the order in which their names stand there (the tree has them by name).
fn read_profiles(
    sink: &mut Sink,
    source: &Source,
    tables: &DeTable<'_>,
    lans: &[Lan],
    defaults: &DeTable<'_>,
    take: &mut dyn FnMut(Profile, Range<usize>),
) {
    let mut order: Vec<_> = tables.iter().collect();
    order.sort_by_key(|(key, _)| key.span().start);
    let mut cursor = Cursor::new(&source.text);
    let mut order = order.into_iter().peekable();
    while let Some((key, value)) = order.next() {
        let (name, span) = (key.get_ref().as_ref(), key.span());
        if !values::is_profile_name(name) {
            let complaint = Complaint::new(format!("{} cannot be the name of a profile", quoted(name)));
            sink.fault(span.clone(), complaint.help("1 to 64 letters, digits, \"_\" and \"-\""));
        }
        let DeValue::Table(table) = value.get_ref() else {
            let complaint = Complaint::new(format!("profile {} must be a table", quoted(name)));
            sink.fault(span, complaint.help("it starts with a line [profile.NAME]"));
            continue;
        };
        let mut profile = profile::read(sink, name, table, defaults);
        let end = order.peek().map_or(usize::MAX, |(next, _)| next.span().start);
        if !sink.has_fault(&(span.start..end), true) {
            check::check(sink, &profile, lans, span.clone(), table);
        }
        let (line, _) = cursor.go_to(span.start);
        profile.at = Location { file: source.path.clone(), line };
        take(profile, span);
    }
}

/// Anything at the top of a file but `[defaults]` and the profiles.
fn complain_of_table(sink: &mut Sink, key: &Key<'_>, value: &Value<'_>) {
    let name = key.get_ref().as_ref();
    let complaint = match (name, value.get_ref()) {
        ("profile" | "network", DeValue::Table(_)) => return,
        ("network", _) => Complaint::new("network must be a table").help("it starts with a line [network.NAME]"),
        ("profile", _) => Complaint::new("profile must be a table").help("it starts with a line [profile.NAME]"),
        ("defaults", _) => Complaint::new("defaults must be a table").help("it starts with a line [defaults]"),
        (_, DeValue::Table(_)) => {
            Complaint::new(format!("unknown table {}", quoted(name))).near(name, ["defaults", "network", "profile"])
        }
        _ if profile::is_key(name) => profile::unknown(name).help("keys stand below a line [profile.NAME]"),
        _ => profile::unknown(name),
    };
    sink.fault(key.span(), complaint);
}

/// Profiles of one name in two files; in one file, TOML itself complains.
fn complain_of_duplicates(sink: &mut Sink, profiles: &[Profile], names: Vec<(usize, Range<usize>)>) {
    let mut seen: BTreeMap<&str, &Location> = BTreeMap::new();
    for (profile, (file, span)) in profiles.iter().zip(names) {
        if let Some(Location { file: first, line }) = seen.get(profile.name.as_str()) {
            let complaint = Complaint::new(format!("profile {} stands in two files", quoted(&profile.name)));
            sink.file = file;
            sink.fault(span, complaint.help(format!("first in {first}:{line}")));
        } else {
            seen.insert(&profile.name, &profile.at);
        }
    }
}

fn complain_of_syntax(sink: &mut Sink, text: &str, tree: &Spanned<DeTable<'_>>, errors: &[Error]) {
    let endless = |error: &&Error| {
        error.message().starts_with("unexpected `=` in array") || error.message().starts_with("unclosed array")
    };
    let place = |error: &Error| error.span().unwrap_or_default();
    let endless = errors.iter().find(endless).map(|error| place(error).start);
    if let Some(start) = endless.and_then(|offset| list_around(tree.get_ref(), offset)) {
        sink.endless(start);
    }
    // the keys of a table that stands twice were added to those of the first
    let mut twice = None;
    for error in errors {
        let span = place(error);
        if error.message() != "duplicate key" {
            // what stands without quotes is some text, says toml
            let message = error.message().trim_end_matches(", expected literal string");
            sink.syntax(span, Complaint::new(message));
            continue;
        }
        let (complaint, header) = duplicate(text, span.clone());
        let since = twice.and_then(|end| text.get(end..span.start));
        if header || since.is_none_or(|between| between.contains("\n[")) {
            sink.syntax(span.clone(), complaint);
        }
        if header {
            twice = Some(span.end);
        }
    }
}

/// The start of the outermost list that an offset lies in.
fn list_around(table: &DeTable<'_>, offset: usize) -> Option<usize> {
    table.iter().find_map(|(_, value)| match value.get_ref() {
        DeValue::Array(_) => {
            let Range { start, end } = value.span();
            (start..=end).contains(&offset).then_some(start)
        }
        DeValue::Table(table) => list_around(table, offset),
        _ => None,
    })
}

/// A key that stands twice: the complaint, with the line of the first, and whether it is the header of a table.
fn duplicate(text: &str, span: Range<usize>) -> (Complaint, bool) {
    let before = text.get(..span.end).unwrap_or_default();
    let (earlier, start) = before.rsplit_once('\n').unwrap_or(("", before));
    let word = quoted(text.get(span).unwrap_or_default());
    let same = |line: &str| {
        let rest = line.trim_start().strip_prefix(start.trim_start());
        rest.is_some_and(|rest| rest.starts_with([' ', '\t', '=', ']', '.']))
    };
    let complaint = Complaint::new(format!("{word} stands here twice"));
    let first = earlier.lines().enumerate().filter(|(_, line)| same(line)).last();
    let complaint = match first {
        Some((line, _)) => complaint.help(format!("first on line {}", line + 1)),
        None => complaint,
    };
    (complaint, start.trim_start().starts_with('['))
}
