//! Pages for a person: 80 columns, values under each other.

/// How much room a line has.
pub const COLUMNS: usize = 80;
/// Where the values stand, behind their heads.
pub const INDENT: usize = 12;

/// `head` and then the text, wrapped at blanks, every further line indented as far as the first one's text.
pub fn put(page: &mut String, head: &str, text: &str) {
    page.push_str(head);
    let indent = INDENT.max(head.chars().count());
    let mut column = head.chars().count();
    if head.is_empty() {
        page.push_str(&" ".repeat(INDENT));
        column = INDENT;
    }
    let start = column;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let width = word.chars().count();
        if column == start {
            column += width;
        } else if column + 1 + width <= COLUMNS {
            page.push(' ');
            column += 1 + width;
        } else {
            page.push('\n');
            // A long name in front does not push the rest to the right.
            page.push_str(&" ".repeat(INDENT.min(indent)));
            column = INDENT + width;
        }
        page.push_str(word);
    }
    page.push('\n');
}
