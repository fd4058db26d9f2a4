//! systemd's journal, through journalctl's export format (<https://systemd.io/JOURNAL_EXPORT_FORMATS>): text of
//! users cannot leave its field there, and journald says who sent it.

use super::lines::{self, LONGEST, Line};
use super::{Each, Entry, Origin};
use crate::messages::Trouble;
use jiff::Timestamp;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// Hands on every message under the ident `caplet`.
pub fn read(journalctl: &Path, since: Option<Timestamp>, each: Each<'_>) -> Result<(), Trouble> {
    let unreadable = |error| Trouble::LogUnreadable { path: journalctl.as_os_str().to_owned(), error };
    let mut command = Command::new(journalctl);
    command.env_clear().env("LANG", "C.UTF-8").args(["--quiet", "--no-pager", "-o", "export"]);
    if let Some(since) = since {
        command.arg(format!("--since=@{}", since.as_second().max(0)));
    }
    command.args(["--output-fields=MESSAGE,_UID", "SYSLOG_IDENTIFIER=caplet"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(unreadable)?;
    let mut from = BufReader::new(child.stdout.take().ok_or_else(|| unreadable(ErrorKind::BrokenPipe.into()))?);
    let done = entries(&mut from, each, &unreadable);
    if done.is_err() {
        // Nobody wants the rest, which may be years.
        let _ = child.kill();
    }
    let status = child.wait().map_err(unreadable)?;
    done?;
    if status.success() { Ok(()) } else { Err(Trouble::JournalFailed { status }) }
}

/// One entry under construction.
#[derive(Default)]
struct Fields {
    time: Option<Timestamp>,
    uid: Option<u32>,
    text: Option<Vec<u8>>,
    /// A field came twice, or was cut. Whoever writes to the journal can send any field as often as they like.
    odd: bool,
}

impl Fields {
    fn take(&mut self, name: &[u8], value: Vec<u8>, cut: bool) {
        let number = || std::str::from_utf8(&value).ok();
        match name {
            b"__REALTIME_TIMESTAMP" => {
                let micros = number().and_then(|text| text.parse().ok());
                self.time = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok());
            }
            b"_UID" => {
                self.odd |= cut || self.uid.is_some();
                self.uid = number().and_then(|text| text.parse().ok());
            }
            b"MESSAGE" if self.text.is_none() => {
                self.odd |= cut;
                self.text = Some(value);
            }
            b"MESSAGE" => self.odd = true,
            _ => {}
        }
    }

    /// `None`: journalctl gave no entry between two empty lines.
    fn entry(self) -> Option<Entry> {
        let (text, origin) = (self.text.unwrap_or_default(), Origin::Journal { uid: self.uid });
        Some(Entry { time: self.time?, text, whole: !self.odd, origin })
    }
}

fn entries(from: &mut impl BufRead, each: Each<'_>, unreadable: &dyn Fn(io::Error) -> Trouble) -> Result<(), Trouble> {
    let mut line = Vec::new();
    let mut fields = Fields::default();
    loop {
        match lines::next(from, &mut line).map_err(unreadable)? {
            // An entry that ends here without an empty line is not whole; journalctl's exit code says why.
            Line::End => return Ok(()),
            _ if line.is_empty() => {
                if let Some(entry) = std::mem::take(&mut fields).entry() {
                    each(entry)?;
                }
            }
            length => match line.iter().position(|byte| *byte == b'=') {
                Some(at) => fields.take(&line[..at], line[at + 1..].to_owned(), length == Line::Cut),
                None => {
                    let (value, cut) = match binary(from) {
                        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                        value => value.map_err(unreadable)?,
                    };
                    fields.take(&line, value, cut);
                }
            },
        }
    }
}

/// A value that is not one line of text: its length, 64 bits with the lowest byte first, itself, a newline. Whether
/// it was cut.
fn binary(from: &mut impl BufRead) -> io::Result<(Vec<u8>, bool)> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let kept = length.min(LONGEST as u64);
    let mut value = Vec::new();
    from.take(kept).read_to_end(&mut value)?;
    let passed_over = io::copy(&mut from.take(length - kept), &mut io::sink())?;
    let mut newline = [0];
    from.read_exact(&mut newline)?;
    if value.len() as u64 + passed_over < length || newline != *b"\n" {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok((value, passed_over > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> Result<Vec<Entry>, Trouble> {
        let mut found = Vec::new();
        let unreadable = |error| Trouble::LogUnreadable { path: "journalctl".into(), error };
        let mut each = |entry| {
            found.push(entry);
            Ok(())
        };
        entries(&mut bytes, &mut each, &unreadable)?;
        Ok(found)
    }

    fn blob(name: &str, length: u64, value: &[u8]) -> Vec<u8> {
        [name.as_bytes(), b"\n", &length.to_le_bytes(), value, b"\n"].concat()
    }

    fn entry(text: &[u8], uid: Option<u32>, whole: bool) -> Entry {
        let time = Timestamp::from_microsecond(1_795_573_729_973_408).expect("a time");
        Entry { time, text: text.to_owned(), whole, origin: Origin::Journal { uid } }
    }

    const TIME: &[u8] = b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1795573729973408\n";

    #[test]
    fn entries_are_read_in_both_forms() {
        let binary = blob("MESSAGE", 20, b"grant\n\n_UID=0\nabc=12");
        let text = [TIME, b"_UID=0\nMESSAGE=grant id=1\n\n", TIME, &binary, b"_UID=1000\n\n"].concat();
        let expect = [entry(b"grant id=1", Some(0), true), entry(b"grant\n\n_UID=0\nabc=12", Some(1000), true)];
        assert_eq!(all(&text).ok().as_deref(), Some(&expect[..]));
    }

    #[test]
    fn a_field_that_comes_twice_makes_an_entry_odd() {
        let text = [TIME, b"MESSAGE=grant id=1\nMESSAGE=two\n_UID=0\n\n"].concat();
        assert_eq!(all(&text).ok().as_deref(), Some(&[entry(b"grant id=1", Some(0), false)][..]));
        let text = [TIME, b"MESSAGE=grant id=1\n_UID=1000\n_UID=0\n\n"].concat();
        assert_eq!(all(&text).ok().as_deref(), Some(&[entry(b"grant id=1", Some(0), false)][..]));
    }

    #[test]
    fn what_is_too_long_is_passed_over_and_what_follows_is_read() {
        let long = vec![b'x'; 3 * LONGEST];
        let binary = blob("MESSAGE", long.len() as u64, &long);
        let next = b"_UID=0\nMESSAGE=end id=1\n\n";
        for text in
            [[TIME, &binary, b"\n", TIME, next].concat(), [TIME, b"MESSAGE=", &long, b"\n\n", TIME, next].concat()]
        {
            let found = all(&text).expect("it is read");
            assert_eq!(found.len(), 2);
            assert!(!found[0].whole && found[0].text.len() <= LONGEST);
            assert_eq!(found[1], entry(b"end id=1", Some(0), true));
        }
    }

    #[test]
    fn a_torn_entry_is_none() {
        for torn in [
            &b"MESSAGE=grant id=1\n_UID=0\n"[..],
            b"MESSAGE",
            b"MESSAGE\n\x05\0\0",
            b"MESSAGE\n\x05\0\0\0\0\0\0\0abc",
            b"\n\n\n",
        ] {
            let text = if torn == b"\n\n\n" { torn.to_owned() } else { [TIME, torn].concat() };
            assert_eq!(all(&text).ok(), Some(Vec::new()), "{torn:?}");
        }
        assert!(all(&[TIME, &blob("MESSAGE", 1, b"abc")].concat()).is_err());
        assert_eq!(all(&[TIME, &blob("MESSAGE", u64::MAX, b"abc")].concat()).ok(), Some(Vec::new()));
    }

    #[test]
    fn an_entry_without_message_or_uid_is_nobodys() {
        assert_eq!(all(&[TIME, b"\n"].concat()).ok().as_deref(), Some(&[entry(b"", None, true)][..]));
    }

    #[test]
    fn a_journalctl_that_fails_is_told() {
        let trouble = read(Path::new("/bin/false"), None, &mut |_| Ok(())).expect_err("it fails");
        assert!(trouble.to_string().contains("journalctl ended with exit status: 1;"), "{trouble}");
        let trouble = read(Path::new("/nonexistent"), None, &mut |_| Ok(())).expect_err("it is not there");
        assert!(trouble.to_string().starts_with("cannot read /nonexistent: No such file"), "{trouble}");
    }
}
