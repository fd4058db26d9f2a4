//! Lines of a log, one at a time and never more of one than a record can have: a log is written by everybody.

use std::io::{self, BufRead, ErrorKind};

/// No line of the helper is longer than 8 KiB; of any other a person needs no more than this, in bytes.
pub const LONGEST: usize = 64 << 10;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Whole,
    /// The rest of it was passed over.
    Cut,
    /// Nothing: there is no more.
    End,
}

/// The next line, without its newline. The last one need not have one.
pub fn next(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let (mut read, mut cut) = (false, false);
    loop {
        let buffer = match from.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            buffer => buffer?,
        };
        if buffer.is_empty() && !read {
            return Ok(Line::End);
        }
        read = true;
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let text = &buffer[..newline.unwrap_or(buffer.len())];
        let taken = text.len().min(LONGEST - line.len());
        line.extend_from_slice(&text[..taken]);
        cut |= taken < text.len();
        let (ends, used) = (newline.is_some() || buffer.is_empty(), newline.map_or(buffer.len(), |at| at + 1));
        from.consume(used);
        if ends {
            return Ok(if cut { Line::Cut } else { Line::Whole });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Read};

    #[test]
    fn lines_come_one_by_one() {
        let mut from = BufReader::with_capacity(3, &b"one\n\n\xfftwo\nlast"[..]);
        let mut line = Vec::new();
        for expect in [&b"one"[..], b"", b"\xfftwo", b"last"] {
            assert_eq!(next(&mut from, &mut line).ok(), Some(Line::Whole));
            assert_eq!(line, expect);
        }
        assert_eq!(next(&mut from, &mut line).ok(), Some(Line::End));
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut from = BufReader::new(io::repeat(b'x').take(100 << 20).chain(&b"\nnext"[..]));
        let mut line = Vec::new();
        assert_eq!(next(&mut from, &mut line).ok(), Some(Line::Cut));
        assert_eq!(line.len(), LONGEST);
        assert!(line.capacity() <= 2 * LONGEST);
        assert_eq!(next(&mut from, &mut line).ok(), Some(Line::Whole));
        assert_eq!(line, b"next");
    }

    #[test]
    fn exactly_the_longest_is_whole() {
        let mut line = Vec::new();
        for (more, expect) in [(0, Line::Whole), (1, Line::Cut)] {
            let text = "x".repeat(LONGEST + more);
            assert_eq!(next(&mut text.as_bytes(), &mut line).ok(), Some(expect));
        }
    }
}
