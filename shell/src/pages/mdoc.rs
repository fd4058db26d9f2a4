//! mdoc(7) text.

/// Text that a line of mdoc(7) may hold anywhere.
pub fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('^', "\\(ha");
    let text = text.replace('~', "\\(ti").replace('`', "\\(ga").replace('"', "\\(dq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// No line of a page is longer.
const WIDTH: usize = 78;

/// A paragraph: its own lines are joined, each sentence gets a line, and what stands between backticks is quoted.
pub fn paragraph(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut page = String::new();
    for sentence in joined.replace(". ", ".\n").lines() {
        let mut column = 0;
        for word in sentence.split(' ') {
            // The hyphens of prose are hyphens; those of an option are typed.
            let escaped = escape(word).replace("\\(ga", "\\(dq");
            let typed = word.trim_start_matches('`').starts_with('-');
            let word = if typed { escaped } else { escaped.replace("\\-", "-") };
            if column > 0 && column + 1 + word.len() > WIDTH {
                page.push('\n');
                column = 0;
            }
            if column > 0 {
                page.push(' ');
                column += 1;
            }
            page += &word;
            column += word.len();
        }
        page.push('\n');
    }
    page
}

/// Lines as they are.
pub fn literal(lines: &[&str]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| escape(line)).collect();
    format!(".Bd -literal -offset indent\n{}\n.Ed\n", lines.join("\n"))
}
