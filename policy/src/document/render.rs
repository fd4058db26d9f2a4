//! A fault as people read it. Never in the setuid helper.

use super::{Fault, Source};
use crate::escape::for_terminal;

/// A fault with its source line and a caret under it, as a compiler prints it, without a newline at the end:
/// `path:line:col: message`, the line, `^~~~`, `help: ...`.
pub fn render(fault: &Fault, sources: &[Source]) -> String {
    let mut out = format!("{}:{}:{}: {}", for_terminal(fault.file.as_bytes()), fault.line, fault.column, fault.message);
    let source = sources.iter().find(|source| source.path == fault.file);
    let line = source.and_then(|source| source.text.split('\n').nth((fault.line as usize).saturating_sub(1)));
    if let Some(line) = line {
        // a very long line is shown around the fault
        let column = (fault.column as usize).saturating_sub(1);
        let left_out = if column > 100 { column - 60 } else { 0 };
        let line = line.trim_start_matches('\u{feff}').trim_end_matches('\r');
        let shown: String = line.chars().skip(left_out).take(160).map(one_column).collect();
        let width = (fault.width as usize).min((shown.chars().count() + left_out).saturating_sub(column));
        let tail = "~".repeat(width.saturating_sub(1));
        out += &format!("\n{shown}\n{:indent$}^{tail}", "", indent = column - left_out);
    }
    if let Some(help) = &fault.help {
        out += &format!("\nhelp: {help}");
    }
    out
}

/// The character as it is if a terminal shows it in its place, a stand-in of the same width if not.
fn one_column(c: char) -> char {
    let mut bytes = [0; 4];
    let safe = for_terminal(c.encode_utf8(&mut bytes).as_bytes());
    match c {
        '\t' => ' ',
        '\\' => c,
        _ if safe.chars().eq([c]) => c,
        _ => '\u{fffd}',
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::document::Document;

    fn shown(text: &str) -> String {
        let sources = [Source { path: "p.toml".into(), text: text.into() }];
        let faults = Document::read(&sources).unwrap_err().faults;
        faults.iter().map(|fault| render(fault, &sources)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_fault_is_shown_with_its_line_a_caret_and_what_to_do() {
        assert_eq!(
            shown("[profile.a]\nusers = [\"*\"]\n\tcapz = [\"docker\"]\r\n"),
            "p.toml:3:2: unknown key \"capz\"\n capz = [\"docker\"]\n ^~~~\nhelp: did you mean \"caps\"?"
        );
    }

    #[test]
    fn a_line_with_control_and_bidi_characters_is_made_safe_and_keeps_its_columns() {
        let text = shown("[defaults]\n\u{202e}= 1\ncontact = \"\x1b[31m\" \n");
        assert!(!text.contains(['\u{202e}', '\x1b']), "{text}");
        assert!(text.contains("contact = \"\u{fffd}[31m\""), "{text}");
    }

    #[test]
    fn a_long_line_is_shown_around_its_fault() {
        let text = shown(&format!("[defaults]\nhide = [{} \"x\"]\n", "\"/a\", ".repeat(1000)));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.iter().all(|line| line.len() <= 160), "{text}");
        let caret = lines[2].find('^').unwrap();
        assert_eq!(&lines[1][caret..caret + 3], "\"x\"");
    }

    #[test]
    fn a_fault_of_a_file_that_is_not_there_has_no_line() {
        let fault = Fault { file: "x".into(), line: 0, column: 0, width: 0, message: "m".into(), help: None };
        assert_eq!(render(&fault, &[]), "x:0:0: m");
    }
}
