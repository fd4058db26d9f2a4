//! mdoc(7) text.

/// Text that a line of mdoc(7) may hold anywhere.
pub fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('^', "\\(ha");
    let text = text.replace('~', "\\(ti").replace('`', "\\(ga").replace('"', "\\(dq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// A paragraph: its own lines are joined, each sentence gets a line, and what stands between backticks is a literal.
pub fn paragraph(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut page = String::new();
    for sentence in joined.replace(". ", ".\n").lines() {
        // The hyphens of prose are hyphens; those of an option are typed.
        let words = sentence
            .split(' ')
            .map(|word| if word.starts_with(['-', '`']) { escape(word) } else { escape(word).replace("\\-", "-") });
        page += &words.collect::<Vec<_>>().join(" ").replace("\\(ga", "\\(dq");
        page.push('\n');
    }
    page
}

/// Lines as they are.
pub fn literal(lines: &[&str]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| escape(line)).collect();
    format!(".Bd -literal -offset indent\n{}\n.Ed\n", lines.join("\n"))
}
