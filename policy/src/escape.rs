//! Text of users made safe: for a terminal (messages) and for one log line (values that parse back).
//!
//! A log line is `EVENT key=value key=value ...`. Three layers, each undone by its own reader:
//! [`log_command`] turns an argv into one text, [`log_value`] makes any bytes one value, and the journal joins
//! them. `ip route` costs neither layer a character; only odd words pay for their escapes twice.

use std::fmt::Write as _;

/// Characters that the user does not see, though `str::escape_debug` holds them for printable: fillers, joiners
/// and variation selectors.
const INVISIBLE: [std::ops::RangeInclusive<char>; 10] = [
    '\u{34f}'..='\u{34f}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{1d159}'..='\u{1d159}',
    '\u{e0100}'..='\u{e01ef}',
];

/// Whether a character may be shown as it is: no control, bidirectional, format, private or unassigned character,
/// no line separator and no blank but the blank.
fn printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    if INVISIBLE.iter().any(|range| range.contains(&c)) {
        return false;
    }
    // The standard library knows what Unicode calls printable. It escapes combining marks (the vowels of Thai and
    // Hindi) at the start of a text only, so the character is shown to it behind a letter.
    let text = String::from_iter(['a', c]);
    text.escape_debug().eq(text.chars())
}

/// A piece of a text: a character that may be shown, or what must be escaped (one character, or one stray byte).
enum Piece<'t> {
    Shown(char),
    Hidden(&'t [u8]),
}

/// The pieces of a text, in order.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid();
        let good = valid.char_indices().map(move |(at, c)| {
            let whole = valid.get(at..at + c.len_utf8()).unwrap_or(valid);
            if printable(c) { Piece::Shown(c) } else { Piece::Hidden(whole.as_bytes()) }
        });
        good.chain(chunk.invalid().chunks(1).map(Piece::Hidden))
    })
}

/// Each byte as `\xNN`.
fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// Text for a message on a terminal: printable characters as they are; control characters (C0, DEL, C1),
/// bidirectional and other invisible format characters, line separators and bytes that are no UTF-8 as
/// `\n`, `\t`, `\xNN` or `\u{NNNN}`; a backslash as `\\`.
pub fn for_terminal(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for piece in pieces(bytes) {
        match piece {
            Piece::Shown('\\') => out.push_str("\\\\"),
            Piece::Shown(c) => out.push(c),
            Piece::Hidden(b"\n") => out.push_str("\\n"),
            Piece::Hidden(b"\t") => out.push_str("\\t"),
            Piece::Hidden(whole) => match std::str::from_utf8(whole) {
                Ok(text) if !text.is_ascii() => out.extend(text.chars().flat_map(char::escape_unicode)),
                _ => push_hex(&mut out, whole),
            },
        }
    }
    out
}

/// Text for a message, in double quotes, escaped by [`for_terminal`] and cut where it is so long that it would
/// bury the message.
pub fn quoted(bytes: &[u8]) -> String {
    const LIMIT: usize = 80;
    match bytes.get(..LIMIT) {
        Some(start) if bytes.len() > LIMIT => format!("\"{}...\"", for_terminal(start)),
        _ => format!("\"{}\"", for_terminal(bytes)),
    }
}

/// Whether a log value needs no quotes for this byte.
fn bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_./:,@%+=#-".contains(&byte)
}

/// A word as a shell takes it: typed again, it is the same bytes. Bare where that is safe, else in single quotes,
/// else (it holds what a terminal must not show) in `$'...'` of bash, zsh and ksh.
pub fn shell_word(word: &[u8]) -> String {
    if !word.is_empty() && word.iter().copied().all(bare) && !word.starts_with(b"#") && !word.starts_with(b"=") {
        return for_terminal(word);
    }
    let dollar = pieces(word).any(|piece| matches!(piece, Piece::Hidden(_)));
    let mut out = String::from(if dollar { "$'" } else { "'" });
    for piece in pieces(word) {
        match piece {
            Piece::Shown('\'') if !dollar => out.push_str("'\\''"),
            Piece::Shown(c @ ('\'' | '\\')) if dollar => out.extend(['\\', c]),
            Piece::Shown(c) => out.push(c),
            Piece::Hidden(whole) => push_hex(&mut out, whole),
        }
    }
    out.push('\'');
    out
}

/// A value of a log line: bare when it is of `[A-Za-z0-9_./:,@%+=#-]` (so `drop=` for the empty value), else in
/// double quotes with `"` and `\` escaped and everything [`for_terminal`] escapes written as `\xNN` byte by byte.
pub fn log_value(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    if bytes.iter().copied().all(bare) {
        out.extend(bytes.iter().map(|byte| char::from(*byte)));
        return out;
    }
    out.push('"');
    for piece in pieces(bytes) {
        push_log(&mut out, &piece, '"');
    }
    out.push('"');
    out
}

/// The bytes of a value, as many as [`log_value`] writes in `limit` bytes; what is left out is counted in a mark
/// `[...N]` behind them, which comes on top.
pub fn log_cut(bytes: &[u8], limit: usize) -> Vec<u8> {
    // Most values are short: four bytes are the most that one takes.
    if bytes.len() * 4 + 2 <= limit {
        return bytes.to_vec();
    }
    let (mut kept, mut used, mut escape) = (0, 2, String::new());
    for piece in pieces(bytes) {
        escape.clear();
        push_log(&mut escape, &piece, '"');
        used += escape.len();
        if used > limit {
            let mut cut = bytes.get(..kept).unwrap_or_default().to_vec();
            cut.extend_from_slice(format!("[...{}]", bytes.len() - kept).as_bytes());
            return cut;
        }
        kept += match piece {
            Piece::Shown(c) => c.len_utf8(),
            Piece::Hidden(whole) => whole.len(),
        };
    }
    bytes.to_vec()
}

/// [`log_command`], cut until [`log_value`] of it takes no more than about `limit` bytes: the mark comes on top.
pub fn log_command_within(argv: &[&[u8]], limit: usize) -> String {
    let mut room = limit;
    loop {
        let text = log_command(argv, room);
        if room < 16 || log_value(text.as_bytes()).len() <= limit + 16 {
            return text;
        }
        // Quotes and backslashes are written twice once more: half as much always fits.
        room = room * 3 / 4;
    }
}

/// One piece inside quotes of a log line.
fn push_log(out: &mut String, piece: &Piece<'_>, quote: char) {
    match *piece {
        Piece::Shown(c) if c == quote || c == '\\' => out.extend(['\\', c]),
        Piece::Shown(c) => out.push(c),
        Piece::Hidden(whole) => push_hex(out, whole),
    }
}

/// An argv as the value of `command=`: each word shell-like (bare, or single-quoted form of [`log_value`]'s
/// escapes) joined by one blank, so that [`parse_log_command`] gives the same argv back; longer than `limit`
/// bytes it is cut after a whole escape, with the mark `[...N]` where N is the number of bytes (of this text)
/// left out. An open quote is closed before the mark; the mark comes on top of the limit.
pub fn log_command(argv: &[&[u8]], limit: usize) -> String {
    let mut text = Cut { out: String::new(), room: limit, left: 0 };
    for (n, word) in argv.iter().enumerate() {
        if n > 0 {
            text.push(" ", 0);
        }
        if !word.is_empty() && word.iter().copied().all(bare) {
            for byte in *word {
                text.push(char::from(*byte).encode_utf8(&mut [0; 4]), 0);
            }
            continue;
        }
        // A quote is opened only where there is room to close it.
        let opened = text.push("'", 1);
        let mut escape = String::new();
        for piece in pieces(word) {
            escape.clear();
            push_log(&mut escape, &piece, '\'');
            text.push(&escape, 1);
        }
        if opened {
            text.out.push('\'');
            text.room = text.room.saturating_sub(1);
        } else {
            text.left += 1;
        }
    }
    if text.left > 0 {
        let _ = write!(text.out, "[...{}]", text.left);
    }
    text.out
}

/// A text that takes whole escapes until one does not fit, and then only counts.
struct Cut {
    out: String,
    room: usize,
    left: usize,
}

impl Cut {
    /// Takes an escape if it fits with `reserve` bytes to spare; says whether it was taken.
    fn push(&mut self, escape: &str, reserve: usize) -> bool {
        let fits = self.left == 0 && escape.len() + reserve <= self.room;
        if fits {
            self.out.push_str(escape);
            self.room -= escape.len();
        } else {
            self.left += escape.len();
        }
        fits
    }
}

/// One log line (`grant id=7f user=alice command="ip route"`) back into its event word and its fields.
/// `None` if it is not of that form.
#[allow(clippy::type_complexity)] // an event word and its fields
pub fn parse_log_line(line: &str) -> Option<(String, Vec<(String, Vec<u8>)>)> {
    let (event, mut rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
    if event.is_empty() || !event.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
        return None;
    }
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (key, value) = rest.strip_prefix(' ')?.split_once('=')?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return None;
        }
        let (value, after) = read_word(value.as_bytes(), b'"')?;
        rest = rest.get(rest.len() - after.len()..)?;
        fields.push((key.to_owned(), value));
    }
    Some((event.to_owned(), fields))
}

/// The unescaped value of `command=` back into its argv. `None` if it was cut, or is no such text.
pub fn parse_log_command(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut argv = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        if !argv.is_empty() {
            rest = rest.strip_prefix(b" ")?;
        }
        let (word, after) = read_word(rest, b'\'')?;
        if after.len() == rest.len() {
            return None;
        }
        argv.push(word);
        rest = after;
    }
    Some(argv)
}

/// One bare or quoted word, up to a blank or the end, and what follows it.
fn read_word(text: &[u8], quote: u8) -> Option<(Vec<u8>, &[u8])> {
    let (word, rest) = match text.strip_prefix(&[quote]) {
        Some(inside) => read_quoted(inside, quote)?,
        None => {
            let (word, rest) = text.split_at(text.iter().take_while(|b| bare(**b)).count());
            (word.to_vec(), rest)
        }
    };
    matches!(rest.first(), None | Some(b' ')).then_some((word, rest))
}

/// What stands before the closing quote, unescaped, and what follows it.
fn read_quoted(mut text: &[u8], quote: u8) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        text = match text {
            [c, rest @ ..] if *c == quote => return Some((word, rest)),
            [b'\\', b'x', high, low, rest @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                word.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
                rest
            }
            [b'\\', c, rest @ ..] if *c == quote || *c == b'\\' => {
                word.push(*c);
                rest
            }
            [b'\\' | 0..=0x1f | 0x7f, ..] | [] => return None,
            [c, rest @ ..] => {
                word.push(*c);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// What must never reach a terminal or a log, said independently of [`printable`].
    fn dangerous(c: char) -> bool {
        c.is_control()
            || (c.is_whitespace() && c != ' ')
            || matches!(c,
                '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}'
                | '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{e000}'..='\u{f8ff}')
    }

    fn safe(text: &str) -> bool {
        !text.chars().any(dangerous)
    }

    fn words(argv: &[Vec<u8>]) -> Vec<&[u8]> {
        argv.iter().map(Vec::as_slice).collect()
    }

    /// argv -> a whole log line -> argv.
    fn around(argv: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
        let value = log_value(log_command(argv, usize::MAX).as_bytes());
        let line = format!("grant id=7f3a90 user=alice drop= command={value} seconds=1");
        assert!(safe(&line), "{line:?}");
        let (event, fields) = parse_log_line(&line)?;
        assert_eq!(event, "grant");
        let names: Vec<_> = fields.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["id", "user", "drop", "command", "seconds"]);
        parse_log_command(&fields.get(3)?.1)
    }

    /// What bash makes of a word of [`shell_word`].
    fn unshell(text: &str) -> Vec<u8> {
        if let Some(inside) = text.strip_prefix('$') {
            return read_word(inside.as_bytes(), b'\'').unwrap().0;
        }
        text.replace("'\\''", "\0").replace('\'', "").replace('\0', "'").into_bytes()
    }

    #[test]
    fn a_cut_value_keeps_whole_characters_and_counts_the_rest() {
        assert_eq!(log_cut(b"short", 100), b"short");
        assert_eq!(log_cut(&[1; 100], 42), [&[1; 10][..], b"[...90]"].concat());
        let thai = "\u{e01}".repeat(50);
        assert_eq!(log_cut(thai.as_bytes(), 20), [&thai.as_bytes()[..18], b"[...132]"].concat());
        assert_eq!(log_cut(&[b'x'; 100], 102), [b'x'; 100]);
    }

    proptest! {
        #[test]
        fn no_value_is_longer_in_the_line_than_it_may_be(
            bytes in vec(any::<u8>(), 0..4000), argv in vec(vec(any::<u8>(), 0..900), 0..9), quotes in 0..5000usize,
        ) {
            prop_assert!(log_value(&log_cut(&bytes, 768)).len() <= 768 + 16);
            prop_assert!(log_value(log_command_within(&words(&argv), 1024).as_bytes()).len() <= 1024 + 16);
            let (quoted, slashes) = (vec![b'"'; quotes], vec![b'\\'; quotes]);
            prop_assert!(log_value(log_command_within(&[&quoted, &slashes], 4096).as_bytes()).len() <= 4096 + 16);
        }
    }

    #[test]
    fn the_terminal_sees_no_control_of_any_kind() {
        for (raw, shown) in [
            (&b"plain text"[..], "plain text"),
            (b"two\nlines\tand a tab", "two\\nlines\\tand a tab"),
            (b"\x1b[31mred", "\\x1b[31mred"),
            (b"\r\x07\x7f\0", "\\x0d\\x07\\x7f\\x00"),
            (b"c:\\dir", "c:\\\\dir"),
            ("c1 \u{9b}31m".as_bytes(), "c1 \\u{9b}31m"),
            ("rtl \u{202e}txt".as_bytes(), "rtl \\u{202e}txt"),
            ("zero\u{200b}width\u{feff}".as_bytes(), "zero\\u{200b}width\\u{feff}"),
            ("nbsp\u{a0}.".as_bytes(), "nbsp\\u{a0}."),
            ("\u{2028}\u{2029}".as_bytes(), "\\u{2028}\\u{2029}"),
            ("tag\u{e0041}".as_bytes(), "tag\\u{e0041}"),
            ("é 中 ß ที่ नी".as_bytes(), "é 中 ß ที่ नी"),
            (b"\xff\x9b", "\\xff\\x9b"),
            (b"\xe4\xb8", "\\xe4\\xb8"),
        ] {
            assert_eq!(for_terminal(raw), shown);
        }
    }

    #[test]
    fn every_character_of_unicode_is_safe_after_escaping() {
        for c in '\0'..=char::MAX {
            assert!(!(printable(c) && dangerous(c)), "{c:?}");
        }
    }

    #[test]
    fn a_long_word_does_not_bury_the_message() {
        assert_eq!(quoted(b"a\nb"), "\"a\\nb\"");
        assert_eq!(quoted(&[b'x'; 80]), format!("\"{}\"", "x".repeat(80)));
        assert_eq!(quoted(&[b'x'; 200_000]), format!("\"{}...\"", "x".repeat(80)));
    }

    #[test]
    fn log_values() {
        for (raw, value) in [
            (&b"alice"[..], "alice"),
            (b"", ""),
            (b"/etc/caplet/policy.toml:12", "/etc/caplet/policy.toml:12"),
            (b"two words", "\"two words\""),
            (b"say \"hi\" \\", "\"say \\\"hi\\\" \\\\\""),
            (b"a\nuser=root", "\"a\\x0auser=root\""),
            ("\u{202e}é".as_bytes(), "\"\\xe2\\x80\\xaeé\""),
            (b"\xff", "\"\\xff\""),
        ] {
            assert_eq!(log_value(raw), value);
        }
    }

    #[test]
    fn commands_stay_readable() {
        for (argv, text) in [
            (&[&b"ip"[..], b"route", b"add", b"default", b"via", b"10.0.0.1"][..], "ip route add default via 10.0.0.1"),
            (&[b"echo", b"two words", b""], "echo 'two words' ''"),
            (&[b"echo", b"it's"], "echo 'it\\'s'"),
            (&[b"a\nb"], "'a\\x0ab'"),
            (&[], ""),
            (&[b""], "''"),
        ] {
            assert_eq!(log_command(argv, 4096), text);
        }
        let line = log_value(log_command(&[b"ip", b"route", b"add"], 4096).as_bytes());
        assert_eq!(line, "\"ip route add\"");
    }

    #[test]
    fn a_forged_line_stays_one_word() {
        for word in [
            &b"a\nNov 23 sudo: root : FAKE"[..],
            b"\x1b[31m",
            b"\x9b",
            "\u{202e}".as_bytes(),
            b"\xff",
            b"two words",
            b"\" user=root command=\"id",
            b"' 'id",
            b"\\",
            b"\\x41",
            b"[...5]",
            b"a[...5]",
            b"",
            b"=",
            b" ",
        ] {
            assert_eq!(around(&[b"id", word, b"end"]), Some(vec![b"id".to_vec(), word.to_vec(), b"end".to_vec()]));
        }
    }

    #[test]
    fn a_cut_command_says_how_much_is_missing() {
        assert_eq!(log_command(&[b"echo", b"abcdef"], 11), "echo abcdef");
        assert_eq!(log_command(&[b"echo", b"abcdef"], 10), "echo abcde[...1]");
        assert_eq!(log_command(&[b"echo", b"a b\n"], 12), "echo 'a b'[...4]");
        assert_eq!(log_command(&[b"echo", b"a b\n"], 14), "echo 'a b\\x0a'");
        assert_eq!(log_command(&[b"echo", b"a b"], 6), "echo [...5]");
        assert_eq!(log_command(&[b"x"], 0), "[...1]");
        assert_eq!(log_command(&[&[b'y'; 131_072]], 100).len(), 100 + "[...130972]".len());
        assert_eq!(parse_log_command(b"echo abcde[...1]"), None);
        assert_eq!(parse_log_command(b"echo 'a b'[...4]"), None);
    }

    #[test]
    fn lines_of_another_form_are_none() {
        for line in [
            "",
            " ",
            "grant ",
            "Grant a=b",
            "grant  a=b",
            "grant a",
            "grant =b",
            "grant a=\"b",
            "grant a=\"b\"c",
            "grant a=b\"c\"",
            "grant a=\"\\y\"",
            "grant a=\"\\x4\"",
            "grant a=\"\\xgg\"",
            "grant a=\"\n\"",
            "grant a=b\nend x=y",
            "grant a=b ",
            "grant a b=c",
        ] {
            assert_eq!(parse_log_line(line), None, "{line:?}");
        }
        assert_eq!(parse_log_line("end"), Some(("end".to_owned(), vec![])));
        for value in [&b" "[..], b"a  b", b"a ", b" a", b"'a", b"a'b'", b"'\\'", b"a\nb", b"\"a\""] {
            assert_eq!(parse_log_command(value), None, "{value:?}");
        }
    }

    #[test]
    fn shell_words_can_be_pasted() {
        for (raw, text) in [
            (&b"-s"[..], "-s"),
            (b"12:00", "12:00"),
            (b"", "''"),
            (b"two words", "'two words'"),
            (b"$(id)", "'$(id)'"),
            (b"it's", "'it'\\''s'"),
            (b"c:\\d", "'c:\\d'"),
            (b"#1", "'#1'"),
            (b"=ls", "'=ls'"),
            (b"a\n'\\", "$'a\\x0a\\'\\\\'"),
            (b"\xff", "$'\\xff'"),
            ("é".as_bytes(), "'é'"),
        ] {
            assert_eq!(shell_word(raw), text);
            assert_eq!(unshell(text), raw);
        }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..40),
            any::<String>().prop_map(String::into_bytes),
            "[a '\"\\\\x=\\[\\]0-9.]{0,12}".prop_map(String::into_bytes)
        ]
    }

    proptest! {
        #[test]
        fn any_argv_comes_back_from_the_log(argv in vec(bytes(), 0..6)) {
            prop_assert_eq!(around(&words(&argv)), Some(argv));
        }

        #[test]
        fn any_value_comes_back_and_is_one_safe_line(value in bytes()) {
            let text = log_value(&value);
            prop_assert!(safe(&text));
            let (_, fields) = parse_log_line(&format!("end status={text}")).unwrap();
            prop_assert_eq!(fields, vec![("status".to_owned(), value)]);
        }

        #[test]
        fn a_cut_command_is_a_prefix_within_its_limit(argv in vec(bytes(), 0..6), limit in 0usize..60) {
            let whole = log_command(&words(&argv), usize::MAX);
            let cut = log_command(&words(&argv), limit);
            prop_assert!(safe(&cut));
            if whole.len() <= limit {
                prop_assert_eq!(cut, whole);
            } else {
                let (kept, mark) = cut.rsplit_once("[...").unwrap();
                let left: usize = mark.strip_suffix(']').unwrap().parse().unwrap();
                prop_assert!(kept.len() <= limit);
                let kept = if whole.starts_with(kept) { kept } else { kept.strip_suffix('\'').unwrap() };
                prop_assert!(whole.starts_with(kept));
                prop_assert!((whole.len() - kept.len()).abs_diff(left) <= 1);
                prop_assert_eq!(parse_log_command(cut.as_bytes()), None);
                let line = format!("grant command={}", log_value(cut.as_bytes()));
                prop_assert!(parse_log_line(&line).is_some());
            }
        }

        #[test]
        fn the_terminal_is_safe_from_any_bytes(text in bytes()) {
            prop_assert!(safe(&for_terminal(&text)));
            prop_assert!(safe(&quoted(&text)));
            prop_assert!(safe(&shell_word(&text)));
        }

        #[test]
        fn a_shell_reads_its_word_back(word in bytes().prop_filter("argv has no NUL", |w| !w.contains(&0))) {
            prop_assert_eq!(unshell(&shell_word(&word)), word);
        }

        #[test]
        fn no_line_panics_the_parsers(line in any::<String>(), value in vec(any::<u8>(), 0..60)) {
            let _ = parse_log_line(&line);
            let _ = parse_log_command(&value);
        }
    }
}
