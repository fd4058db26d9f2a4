//! The same document in less time and memory, for a large policy: a file is read profile by profile, each part a small
//! tree that is gone before the next. Only sound policies are read so; anything else is for the whole reading, which
//! knows how to complain.
//!
//! Why it is the same: TOML is a format of lines. A part that is a complete document leaves nothing open, and what
//! follows it begins with a table's header: the whole file has these tables and no others. What the parts cannot see
//! of each other is checked here: that each holds one profile and nothing else, and that no name comes twice.

use super::faults::Sink;
use super::{Defaults, Document, Lan, Location, Profile, Source, check, network, profile, values};
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
    let mut lans = Vec::new();
    for (source, head) in sources.iter().zip(&heads) {
        for (key, value) in head {
            match (key.get_ref().as_ref(), value.get_ref(), defaults_table) {
                ("defaults", DeValue::Table(table), None) => {
                    defaults = profile::read_defaults(&mut sink, table);
                    defaults_table = Some(table);
                }
                ("network", DeValue::Table(tables), _) => lans.extend(networks(&mut sink, source, tables)?),
                _ => return None,
            }
        }
    }
    let mut alone = true;
    network::check_all(&lans, |_, _| alone = false);
    if !alone {
        return None;
    }
    let (mut profiles, mut names) = (Vec::new(), HashSet::new());
    for source in sources {
        let mut at = end_of_part(&source.text);
        let mut line = 1 + lines_in(source.text.get(..at)?);
        while at < source.text.len() {
            let rest = source.text.get(at..)?;
            let part = rest.get(..end_of_part(rest.get(1..)?) + 1)?;
            let (profile, name) = one(&mut sink, part, &lans, defaults_table.unwrap_or(&nothing))?;
            if !sink.is_empty() || !names.insert(profile.name.clone()) {
                return None;
            }
            if keep(&profile) {
                let line = line + lines_in(part.get(..name)?);
                let at = Location { file: source.path.clone(), line };
                profiles.push(Profile { at, ..profile });
            }
            at += part.len();
            line += lines_in(part);
        }
    }
    sink.is_empty().then_some(Document { defaults, networks: lans, profiles })
}

/// The networks of a file's head.
fn networks(sink: &mut Sink, source: &Source, tables: &DeTable<'_>) -> Option<Vec<Lan>> {
    let mut lans = Vec::new();
    for (key, value) in tables {
        let table = value.get_ref().as_table()?;
        let (lan, sound) = network::read(sink, key.get_ref(), key.span(), table);
        let line = 1 + lines_in(source.text.get(..key.span().start)?);
        lans.push(Lan { at: Location { file: source.path.clone(), line }, ..lan });
        sound.then_some(())?;
    }
    Some(lans)
}

/// The part's one profile, and where its name stands.
fn one(sink: &mut Sink, part: &str, lans: &[Lan], defaults: &DeTable<'_>) -> Option<(Profile, usize)> {
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
    check::check(sink, &profile, lans, key.span(), table);
    Some((profile, key.span().start))
}

/// How far it is to the next profile's header, or to the end. That of a table in a profile, `[profile.a.cgroup]`, is none:
/// it goes with what stands before it, which is then more than one profile where it is another's.
fn end_of_part(text: &str) -> usize {
    if text.starts_with(HEADER.trim_start()) {
        return 0;
    }
    let of_a_profile = |at: &usize| {
        let name = text.get(at + HEADER.len()..).unwrap_or_default();
        let name = name.find(['.', ']', '\n']).and_then(|end| name.get(end..)).unwrap_or_default();
        !name.starts_with('.')
    };
    let found = text.match_indices(HEADER).map(|(at, _)| at).find(of_a_profile);
    found.map_or(text.len(), |at| at + 1)
}

fn lines_in(text: &str) -> u32 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u32
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is read, or every fault, as text.
    fn whole(sources: &[Source]) -> String {
        match Document::read(sources) {
            Ok(document) => format!("{document:?}"),
            Err(faults) => format!("{:?}", faults.faults),
        }
    }

    fn sources(texts: &[String]) -> Vec<Source> {
        let source = |(n, text): (usize, &String)| Source { path: format!("{n}.toml"), text: text.clone() };
        texts.iter().enumerate().map(source).collect()
    }

    /// The whole reading and the one by parts agree; whether there were parts.
    fn agree(texts: &[String]) -> bool {
        let sources = sources(texts);
        let by_parts = read(&sources, &|_| true);
        if let Some(document) = &by_parts {
            assert_eq!(format!("{document:?}"), whole(&sources), "{texts:#?}");
        }
        by_parts.is_some()
    }

    #[test]
    fn parts_are_read_where_they_are_whole_and_nowhere_else() {
        let good = "[profile.a]\nusers = [\"a\"]\n";
        let b = "[profile.b]\nusers = [\"b\"]\n";
        for (texts, parts) in [
            (vec![format!("{good}{b}")], true),
            (vec![format!("# remark\r\n\r\n{}", good.replace('\n', "\r\n"))], true),
            (vec![format!("[defaults]\numask = \"027\"\n{good}\n\n# x\n{b}limits = {{ nproc = 5 }}")], true),
            (vec![format!("{good}description = \"no [profile.x]\" # [profile.y]\n{b}")], true),
            (vec![good.into(), b.into(), String::new(), "# nothing\n".into()], true),
            (vec![String::new()], true),
            // A header inside a string, a second one, one further in, and subtables of their own.
            (vec![format!("{good}description = \"\"\"\n[profile.x]\nusers = [\"*\"]\n\"\"\"\n")], false),
            (vec![format!("{good}description = '''\n[profile.x]\nusers = [\"*\"]\n#'''\n{b}")], false),
            (vec![format!("{good}env_set = {{ A = \"\"\"x\n[profile.x]\nusers = ['*']\n\"\"\" }}\n{b}")], false),
            (vec![format!("{good}{good}")], false),
            (vec![good.into(), good.into()], false),
            (vec![format!("{good}  {b}")], false),
            (vec![format!("{good}[profile.a.cgroup]\ntasks = 5\n{b}[profile.b.limits]\nnproc = 5\n")], true),
            (vec![format!("{good}[profile.b.limits]\nnproc = 5\n{b}")], false),
            (vec![format!("[profile.b.limits]\nnproc = 5\n{b}")], false),
            (vec![format!("{good}[profile.a.cgroup]\ntasks = 5\n{b}[profile.a.limits]\nnproc = 5\n")], false),
            (vec![format!("{good}[defaults]\numask = \"027\"\n")], false),
            (vec!["[defaults]\n".into(), "[defaults]\n".into()], false),
            (vec![format!("profile.z.users = [\"z\"]\n{good}")], false),
            (vec![format!("x = 1\n{good}")], false),
            (vec![format!("{good}[other]\n")], false),
            (vec![format!("{good}users = [\"b\"]\n")], false),
            (vec![format!("{good}no_such_key = 1\n{b}")], false),
            (vec![format!("[profile.\"a b\"]\nusers = [\"a\"]\n")], false),
            (vec![format!("{good}machines = [\n[profile.x]\n]\n")], false),
        ] {
            assert_eq!(agree(&texts), parts, "{texts:#?}");
        }
    }

    const FRAGMENTS: [&str; 28] = [
        "[network.a]\n",
        "[network.b]\n",
        "subnet = \"10.0.0.0/8\"\n",
        "network = \"a\"\n",
        "[profile.a]\n",
        "[profile.b]\n",
        "[profile.c]\n",
        "[defaults]\n",
        "[profile.a.limits]\n",
        "[profile.b.cgroup]\n",
        "tasks = 5\n",
        "users = [\"alice\"]\n",
        "groups = [\"students\", \"#5\"]\n",
        "umask = \"027\"\n",
        "scope = \"host\"\n",
        "caps = [\"SYS_TIME\"]\n",
        "nproc = 5\n",
        "description = \"\"\"\n",
        "\"\"\"\n",
        "'''\n",
        "# remark\n",
        "\n",
        " ",
        "may_add = [\n",
        "\"NET_RAW\",\n",
        "]\n",
        "\r\n",
        "contact = \"room\"\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn any_text_is_read_by_parts_as_it_is_as_a_whole(
            picks in prop::collection::vec(prop::collection::vec(0..FRAGMENTS.len(), 0..14), 1..3)
        ) {
            let text = |picks: &Vec<usize>| picks.iter().map(|n| FRAGMENTS[*n]).collect::<String>();
            agree(&picks.iter().map(text).collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_what_is_wanted_is_kept_and_all_is_checked() {
        let text = "[profile.a]\nusers = [\"a\"]\n[profile.b]\nusers = [\"b\"]\n";
        let wanted = |profile: &Profile| profile.name == "b";
        let document = Document::read_for(&sources(&[text.into()]), &wanted).unwrap();
        assert_eq!(document.profiles.iter().map(|p| (p.name.as_str(), p.at.line)).collect::<Vec<_>>(), [("b", 3)]);
        let faulty = text.replace("[\"a\"]", "[]");
        assert!(Document::read_for(&sources(&[faulty]), &wanted).is_err());
        let odd = format!("{text}[defaults]\n"); // read as a whole
        assert_eq!(Document::read_for(&sources(&[odd]), &wanted).unwrap().profiles.len(), 1);
    }
}
