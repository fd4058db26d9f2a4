//! One key's value, taken as the type that the key has; a fault where it has another. No key's meaning in here.

use super::amounts::{self, CGROUP_KEYS};
use super::faults::{Complaint, Sink, quoted};
use super::{Cgroup, Command, GroupsKeep, Limit, Moment, limits, moments, values};
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

/// A key of the file with its value, and where to complain. A reader that has complained gives nothing.
pub(super) struct Field<'f> {
    sink: &'f mut Sink,
    pub(super) key: &'f str,
    value: &'f Spanned<DeValue<'f>>,
}

impl<'f> Field<'f> {
    pub(super) fn new(sink: &'f mut Sink, key: &'f str, value: &'f Spanned<DeValue<'f>>) -> Self {
        Self { sink, key, value }
    }

    fn said<T>(&mut self, result: Result<T, Complaint>) -> Option<T> {
        result.map_err(|complaint| self.sink.fault(self.value.span(), complaint)).ok()
    }

    fn wrong_type<T>(&mut self, wanted: &str) -> Option<T> {
        let written = self.value.get_ref();
        let mut complaint = Complaint::new(format!("{} must be {wanted}, not {}", self.key, kind(written)));
        complaint = match written {
            DeValue::String(text) if wanted.starts_with("a list") => {
                complaint.help(format!("in brackets: [{}]", quoted(text)))
            }
            DeValue::Integer(number) if wanted.starts_with("a string") => {
                complaint.help(format!("in quotes: \"{number}\""))
            }
            DeValue::String(text) if ["true", "false"].contains(&text.as_ref()) => {
                complaint.help(format!("without quotes: {text}"))
            }
            _ => complaint,
        };
        self.said(Err(complaint))
    }

    fn string(&mut self) -> Option<&'f str> {
        match self.value.get_ref() {
            DeValue::String(text) => self.said(plain(text)),
            _ => self.wrong_type("a string"),
        }
    }

    fn array(&mut self) -> Option<&'f DeArray<'f>> {
        match self.value.get_ref() {
            DeValue::Array(items) => Some(items),
            _ => self.wrong_type("a list of strings"),
        }
    }

    fn table(&mut self) -> Option<&'f DeTable<'f>> {
        match self.value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => self.wrong_type("a table"),
        }
    }

    pub(super) fn boolean(&mut self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type("true or false"),
        }
    }

    /// A whole number from `least` on.
    pub(super) fn number(&mut self, least: u32) -> Option<u32> {
        self.number_between(least, u32::MAX)
    }

    fn number_between(&mut self, least: u32, most: u32) -> Option<u32> {
        let DeValue::Integer(written) = self.value.get_ref() else {
            return self.wrong_type("an integer");
        };
        let number = integer(written).and_then(|n| u32::try_from(n).ok());
        self.said(number.filter(|n| (least..=most).contains(n)).ok_or_else(|| {
            Complaint::new(format!("{written} is no value for {}", self.key)).help(format!("{least} to {most}"))
        }))
    }

    pub(super) fn text<T>(&mut self, parse: fn(&str) -> Result<T, Complaint>) -> Option<T> {
        let text = self.string()?;
        self.said(parse(text))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.string()?;
        let found = words.iter().find(|(word, _)| *word == text);
        self.said(found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names: Vec<_> = words.iter().map(|(word, _)| quoted(word)).collect();
            Complaint::new(format!("{} is no value for {}", quoted(text), self.key))
                .help(format!("one of {}", names.join(", ")))
        }))
    }

    /// Every string of a list, in turn; what is complained of stands in the file where that string does.
    pub(super) fn each(&mut self, mut take: impl FnMut(&str) -> Result<(), Complaint>) {
        for item in self.array().into_iter().flatten() {
            let not_text = |kind| Complaint::new(format!("{} holds strings, not {kind}", self.key));
            let taken = match item.get_ref() {
                DeValue::String(text) => plain(text).and_then(&mut take),
                other => Err(not_text(kind(other))),
            };
            if let Err(complaint) = taken {
                self.sink.fault(item.span(), complaint);
            }
        }
    }

    pub(super) fn list<T>(&mut self, parse: fn(&str) -> Result<T, Complaint>) -> Vec<T> {
        let mut list = Vec::new();
        self.each(|text| parse(text).map(|value| list.push(value)));
        list
    }

    /// How many entries a list has.
    pub(super) fn len(&self) -> usize {
        self.value.get_ref().as_array().map_or(0, |items| items.len())
    }

    pub(super) fn moment(&mut self, end_of_day: bool) -> Option<Moment> {
        let moment = moments::moment(self.value.get_ref(), end_of_day);
        self.said(moment)
    }

    pub(super) fn groups_keep(&mut self) -> Option<GroupsKeep> {
        match self.value.get_ref() {
            DeValue::String(text) if text == "all" => Some(GroupsKeep::All),
            DeValue::Array(_) => Some(GroupsKeep::Listed(self.list(values::subject))),
            _ => self.said(Err(Complaint::new("groups_keep must be \"all\" or a list of groups"))),
        }
    }

    /// `commands`: paths, and lists of a path with its arguments.
    pub(super) fn commands(&mut self) -> Option<Vec<Command>> {
        let items = self.array()?;
        if items.is_empty() {
            let complaint = Complaint::new("commands has no command in it");
            return self.said(Err(complaint.help("without this key every command may be run")));
        }
        let mut commands = Vec::with_capacity(items.len());
        for value in items {
            let mut item = Field::new(self.sink, "a command", value);
            if !matches!(value.get_ref(), DeValue::Array(_)) {
                commands.extend(item.text(values::command).map(|path| Command { path, args: None }));
                continue;
            }
            let (mut first, mut path, mut args) = (true, None, Vec::new());
            item.each(|word| {
                if std::mem::take(&mut first) {
                    path = Some(values::path(word)?);
                } else {
                    args.push(word.to_owned());
                }
                Ok(())
            });
            match path {
                Some(path) => commands.push(Command { path, args: Some(args) }),
                None if item.len() == 0 => item.said(Err(Complaint::new("an empty command"))).unwrap_or_default(),
                None => (),
            }
        }
        Some(commands)
    }

    /// `limits`: limits.conf's names, each with an integer or a string.
    pub(super) fn limits(&mut self) -> Vec<Limit> {
        let mut all = Vec::new();
        for (key, value) in self.table().into_iter().flatten() {
            let name = limits::name(key.get_ref()).map_err(|complaint| self.sink.fault(key.span(), complaint));
            let mut field = Field::new(self.sink, key.get_ref(), value);
            let text = match value.get_ref() {
                DeValue::Integer(written) => Some(integer(written).map_or(written.to_string(), |n| n.to_string())),
                DeValue::String(text) => Some(text.to_string()),
                _ => field.wrong_type("an integer or a string"),
            };
            if let (Ok(name), Some(text)) = (name, text) {
                all.extend(field.said(limits::limit(name, &text)));
            }
        }
        all
    }

    /// `cgroup`: some limit at least.
    pub(super) fn cgroup(&mut self) -> Option<Cgroup> {
        let (table, mut cgroup) = (self.table()?, Cgroup::default());
        for (key, value) in table {
            let mut field = Field::new(self.sink, key.get_ref(), value);
            match key.get_ref().as_ref() {
                "tasks" => cgroup.tasks = field.number_between(amounts::LEAST_TASKS, amounts::MOST_TASKS),
                "memory" => cgroup.memory = field.text(amounts::memory),
                "cpu" => cgroup.cpu = field.text(amounts::percent),
                name => {
                    let complaint = Complaint::new(format!("unknown key {} of cgroup", quoted(name)));
                    self.sink.fault(key.span(), complaint.near(name, CGROUP_KEYS));
                }
            }
        }
        if table.is_empty() {
            let complaint = Complaint::new("cgroup limits nothing");
            return self.said(Err(complaint.help("tasks = 200, memory = \"1G\" or cpu = \"50%\"")));
        }
        Some(cgroup)
    }

    /// `env_set`: names of variables, each with a string.
    pub(super) fn variables(&mut self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (key, value) in self.table().into_iter().flatten() {
            let name = values::variable(key.get_ref()).map_err(|complaint| self.sink.fault(key.span(), complaint));
            let mut field = Field::new(self.sink, key.get_ref(), value);
            if let (Ok(name), Some(text)) = (name, field.string()) {
                all.insert(name, text.to_owned());
            }
        }
        all
    }
}

/// A string without NUL and the like, which no key has a use for and no C string can hold.
fn plain(text: &str) -> Result<&str, Complaint> {
    match text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        Some(c) => Err(Complaint::new(format!("character {} in a string", c.escape_unicode()))),
        None => Ok(text),
    }
}

fn integer(written: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(written.as_str(), written.radix()).ok()
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
