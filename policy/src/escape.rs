//! Text of users made safe: for a terminal (messages) and for one log line (values that parse back).

/// Text for a message on a terminal: printable characters as they are; control characters (C0, DEL, C1),
/// bidirectional and other invisible format characters, line separators and bytes that are no UTF-8 as
/// `\n`, `\t`, `\xNN` or `\u{NNNN}`; a backslash as `\\`.
pub fn for_terminal(_bytes: &[u8]) -> String {
    todo!()
}

/// A value of a log line: bare when it is of `[A-Za-z0-9_./:,@%+=#-]` and not empty, else in double quotes with
/// `"` and `\` escaped and everything [`for_terminal`] escapes written as `\xNN` byte by byte.
pub fn log_value(_bytes: &[u8]) -> String {
    todo!()
}

/// An argv as the value of `command=`: each word shell-like (bare, or single-quoted form of [`log_value`]'s
/// escapes) joined by one blank, so that [`parse_log_command`] gives the same argv back; longer than `limit`
/// bytes it is cut after a whole escape, with the mark `[...N]` where N is the number of bytes left out.
pub fn log_command(_argv: &[&[u8]], _limit: usize) -> String {
    todo!()
}

/// One log line (`grant id=7f user=alice command="ip route"`) back into its event word and its fields.
/// `None` if it is not of that form.
pub fn parse_log_line(_line: &str) -> Option<(String, Vec<(String, Vec<u8>)>)> {
    todo!()
}

/// The unescaped value of `command=` back into its argv.
pub fn parse_log_command(_value: &[u8]) -> Option<Vec<Vec<u8>>> {
    todo!()
}
