//! Faults: collected by byte offset, handed out by line and column. No rule of the policy in here.

use super::Source;
use crate::capability::nearest;
use crate::escape;
use std::collections::BTreeSet;
use std::ops::Range;

/// One fault of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// 1-based.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// Characters to underline (at least 1).
    pub width: u32,
    /// What is wrong: `unknown key "capz"`.
    pub message: String,
    /// What to do: `did you mean "caps"?`.
    pub help: Option<String>,
}

/// A policy that grants nobody anything.
#[derive(Debug, Clone)]
pub struct Faults {
    /// All of them, in file and line order; never empty.
    pub faults: Vec<Fault>,
    /// The contact, where it could be read all the same.
    pub contact: Option<String>,
}

/// What is wrong with a value, before anybody knows where it stands.
#[derive(Debug)]
pub(super) struct Complaint {
    message: String,
    help: Option<String>,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// Of a text of the file: `"x" is no host name`.
    pub(super) fn of(text: &str, what: &str) -> Self {
        Self::new(format!("{} {what}", quoted(text)))
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With the known word nearest to what was written, if one is near.
    pub(super) fn near(mut self, written: &str, known: impl IntoIterator<Item = &'static str>) -> Self {
        if let Some(word) = nearest(written, known) {
            self.help = Some(format!("did you mean \"{word}\"?"));
        }
        self
    }
}

struct Found {
    file: usize,
    span: Range<usize>,
    syntax: bool,
    complaint: Complaint,
}

/// Where all faults go while the sources are read.
#[derive(Default)]
pub(super) struct Sink {
    /// Which of the sources is being read.
    pub(super) file: usize,
    found: Vec<Found>,
    endless: Vec<(usize, usize)>,
}

impl Sink {
    pub(super) fn fault(&mut self, span: Range<usize>, complaint: Complaint) {
        self.put(span, false, complaint);
    }

    /// A fault of TOML itself. What else stands on its line is not complained of: it was read by guesswork.
    pub(super) fn syntax(&mut self, span: Range<usize>, complaint: Complaint) {
        self.put(span, true, complaint);
    }

    /// A list that is never closed: all that follows in this file was read as its entries.
    pub(super) fn endless(&mut self, start: usize) {
        let complaint = Complaint::new("this list has no end").help("a \"]\" is missing");
        self.put(start..start + 1, true, complaint);
        self.endless.push((self.file, start));
    }

    fn put(&mut self, span: Range<usize>, syntax: bool, complaint: Complaint) {
        let file = self.file;
        if !self.endless.iter().any(|(f, start)| *f == file && span.start >= *start) {
            self.found.push(Found { file, span, syntax, complaint });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// Whether there is a fault within these bytes of this file; with `syntax`, one of TOML itself.
    pub(super) fn has_fault(&self, span: &Range<usize>, syntax: bool) -> bool {
        let there = |f: &Found| f.file == self.file && span.contains(&f.span.start) && (f.syntax || !syntax);
        self.found.iter().any(there)
    }

    /// The faults by file and line; empty if there was none.
    pub(super) fn finish(mut self, sources: &[Source]) -> Vec<Fault> {
        self.found.sort_by_key(|f| (f.file, f.span.start, !f.syntax));
        let mut places = Vec::with_capacity(self.found.len());
        let mut cursor = (usize::MAX, Cursor::new(""));
        for found in self.found {
            let Some(source) = sources.get(found.file) else {
                continue;
            };
            if cursor.0 != found.file {
                cursor = (found.file, Cursor::new(&source.text));
            }
            let (line, column) = cursor.1.go_to(found.span.start);
            let shown = source.text.get(found.span).unwrap_or_default();
            let width = shown.chars().take_while(|c| !matches!(c, '\n' | '\r')).count();
            let fault = Fault {
                file: source.path.clone(),
                line,
                column,
                width: narrow(width.max(1)),
                message: found.complaint.message,
                help: found.complaint.help,
            };
            places.push((found.file, found.syntax, fault));
        }
        let mut broken = BTreeSet::new();
        places.retain(|(file, syntax, fault)| !syntax || broken.insert((*file, fault.line)));
        places.retain(|(file, syntax, fault)| *syntax || !broken.contains(&(*file, fault.line)));
        places.into_iter().map(|(_, _, fault)| fault).collect()
    }
}

/// Counts lines and characters of a text, forwards only: one pass for any number of ascending offsets.
pub(super) struct Cursor<'t> {
    rest: &'t str,
    offset: usize,
    line: usize,
    column: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest, offset: text.len() - rest.len(), line: 1, column: 1 }
    }

    /// The 1-based line and column (in characters) of a byte offset not before the last one asked for.
    pub(super) fn go_to(&mut self, offset: usize) -> (u32, u32) {
        let ahead = offset.saturating_sub(self.offset).min(self.rest.len());
        let Some((passed, rest)) = self.rest.split_at_checked(ahead) else {
            return (narrow(self.line), narrow(self.column));
        };
        if let Some(newline) = passed.rfind('\n') {
            self.line += passed.bytes().filter(|b| *b == b'\n').count();
            self.column = 1;
            self.column += passed.get(newline + 1..).unwrap_or_default().chars().count();
        } else {
            self.column += passed.chars().count();
        }
        self.offset += ahead;
        self.rest = rest;
        (narrow(self.line), narrow(self.column))
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A word of the file for a message.
pub(super) fn quoted(text: &str) -> String {
    escape::quoted(text.as_bytes())
}
