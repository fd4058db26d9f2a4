//! The same document in less time and memory, for a large policy: a file is read profile by profile, each part a small
//! tree that is gone before the next. Only sound policies are read so; anything else is for the whole reading, which
//! knows how to complain.
//!
//! Why it is the same: TOML is a format of lines. A part that is a complete document leaves nothing open, and what
//! follows it begins with a table's header: the whole file has these tables and no others. What the parts cannot see
//! of each other is checked here: that each holds one profile and nothing else, and that no name comes twice.

use super::faults::Sink;
use super::{Defaults, Document, Location, Profile, Source, check, profile, values};
use std::collections::HashSet;
use toml::de::{DeTable, DeValue};

/// Where a part begins.
const HEADER: &str = "\n[profile.";

/// [`Document::read_for`]; `None`: read it as a whole.
pub(super) fn read(sources: &[Source], keep: &dyn Fn(&Profile) -> bool) -> Option<Document> {
    let nothing = DeTable::new();
    let mut heads = Vec::with_capacity(sources.len());
    for source in sources {
        let head = source.text.get(..end_of_part(&source.text))?;
        heads.push(DeTable::parse(head).ok()?.into_inner());
    }
    let mut sink = Sink::default();
    let (mut defaults, mut defaults_table) = (Defaults::default(), None);
    for (key, value) in heads.iter().flatten() {
        let ("defaults", DeValue::Table(table), None) = (key.get_ref().as_ref(), value.get_ref(), defaults_table)
        else {
            return None;
        };
        defaults = profile::read_defaults(&mut sink, table);
        defaults_table = Some(table);
    }
    let (mut profiles, mut names) = (Vec::new(), HashSet::new());
    for source in sources {
        let mut at = end_of_part(&source.text);
        let mut line = 1 + lines_in(source.text.get(..at)?);
        while at < source.text.len() {
            let rest = source.text.get(at..)?;
            let part = rest.get(..end_of_part(rest.get(1..)?) + 1)?;
            let profile = one(&mut sink, part, defaults_table.unwrap_or(&nothing))?;
            if !sink.is_empty() || !names.insert(profile.name.clone()) {
                return None;
            }
            if keep(&profile) {
                let at = Location { file: source.path.clone(), line };
                profiles.push(Profile { at, ..profile });
            }
            at += part.len();
            line += lines_in(part);
        }
    }
    sink.is_empty().then_some(Document { defaults, profiles })
}

/// The part's one profile.
fn one(sink: &mut Sink, part: &str, defaults: &DeTable<'_>) -> Option<Profile> {
    let tree = DeTable::parse(part).ok()?;
    let mut tables = tree.get_ref().iter();
    let (Some((word, value)), None) = (tables.next(), tables.next()) else { return None };
    let ("profile", DeValue::Table(tables)) = (word.get_ref().as_ref(), value.get_ref()) else { return None };
    let mut tables = tables.iter();
    let (Some((key, value)), None) = (tables.next(), tables.next()) else { return None };
    let (name, DeValue::Table(table)) = (key.get_ref().as_ref(), value.get_ref()) else { return None };
    if !values::is_profile_name(name) {
        return None;
    }
    let profile = profile::read(sink, name, table, defaults);
    check::check(sink, &profile, key.span(), table);
    Some(profile)
}

/// How far it is to the next profile's header, or to the end.
fn end_of_part(text: &str) -> usize {
    if text.starts_with(HEADER.trim_start()) { 0 } else { text.find(HEADER).map_or(text.len(), |at| at + 1) }
}

fn lines_in(text: &str) -> u32 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u32
}
