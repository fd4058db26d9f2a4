//! A `/dev/log` listener that keeps who sent each record, as the kernel says.

use crate::task::until;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};
use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The sender, as the kernel says: pid (of the host), uid and gid.
    pub pid: i32,
    #[allow(missing_docs)]
    pub uid: u32,
    #[allow(missing_docs)]
    pub gid: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Record {
    /// As text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Facility and severity: authpriv is 10, notice 5, warning 4, info 6.
    pub fn priority(&self) -> Option<(u32, u32)> {
        let number: u32 = self.text().strip_prefix('<')?.split_once('>')?.0.parse().ok()?;
        Some((number / 8, number % 8))
    }

    /// What stands after `caplet[PID]: `.
    pub fn message(&self) -> Option<String> {
        let text = self.text();
        let start = text.find("caplet")?;
        let (ident, message) = text[start..].split_once(": ")?;
        let number = ident.strip_prefix("caplet")?;
        let bracketed = number.is_empty() || (number.starts_with('[') && number.ends_with(']'));
        bracketed.then(|| message.to_owned())
    }

    /// The first word: `grant`, `refuse`, `end`, `probe`.
    pub fn event(&self) -> Option<String> {
        Some(self.message()?.split(' ').next()?.to_owned())
    }

    /// The `key=value` fields, unescaped; a value that parses badly is an error of the one who wrote it.
    ///
    /// # Panics
    /// Where the line is not of that form.
    #[track_caller]
    pub fn fields(&self) -> BTreeMap<String, String> {
        let message = self.message().unwrap_or_else(|| panic!("no line of caplet's: {:?}", self.text()));
        let rest = message.split_once(' ').map_or("", |(_, rest)| rest);
        parse_fields(rest).unwrap_or_else(|| panic!("not key=value: {message:?}"))
    }

    /// One field.
    ///
    /// # Panics
    /// Where the line is not of that form or has no such field.
    #[track_caller]
    pub fn field(&self, key: &str) -> String {
        self.fields().remove(key).unwrap_or_else(|| panic!("no {key}= in {:?}", self.text()))
    }
}

/// `a=b c="d \"e\" \x0a"` read by the rules of the contract, apart from the code under test.
fn parse_fields(text: &str) -> Option<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return None;
        }
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let end = after.find(' ').unwrap_or(after.len());
            (after[..end].to_owned(), &after[end..])
        };
        fields.insert(key.to_owned(), value);
        rest = if after.is_empty() { after } else { after.strip_prefix(' ')? };
    }
    Some(fields)
}

/// Up to the closing quote: the value, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => return Some((String::from_utf8_lossy(&value).into_owned(), &text[at + 1..])),
            b'\\' if bytes.get(at + 1)? == &b'x' => {
                value.push(u8::from_str_radix(text.get(at + 2..at + 4)?, 16).ok()?);
                at += 4;
            }
            b'\\' => {
                value.push(bytes[at + 1]);
                at += 2;
            }
            other => {
                value.push(*other);
                at += 1;
            }
        }
    }
}

/// The listener.
#[derive(Debug)]
pub struct Journal {
    records: Arc<Mutex<Vec<Record>>>,
    socket: UnixDatagram,
}

impl Journal {
    /// Binds in the machine that the calling thread is in; [`Journal::listen`] must be called outside.
    pub(crate) fn bind(path: &str) -> std::io::Result<UnixDatagram> {
        let socket = UnixDatagram::bind(path)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        setsockopt(&socket, sockopt::RcvBuf, &(4 << 20))?;
        Ok(socket)
    }

    pub(crate) fn listen(socket: UnixDatagram) -> Self {
        let records = Arc::new(Mutex::new(Vec::new()));
        let reader = socket.try_clone().expect("dup");
        let shared = Arc::clone(&records);
        std::thread::spawn(move || {
            while let Some(record) = receive(&reader) {
                shared.lock().expect("no panic").push(record);
            }
        });
        Self { records, socket }
    }

    /// Everything received up to now.
    ///
    /// # Panics
    /// Never.
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().expect("no panic").clone()
    }

    /// The records of one event (`grant`) whose fields have these values.
    pub fn find(&self, event: &str, fields: &[(&str, &str)]) -> Vec<Record> {
        let fits = |r: &Record| {
            r.event().as_deref() == Some(event) && {
                let have = r.fields();
                fields.iter().all(|(k, v)| have.get(*k).is_some_and(|h| h == v))
            }
        };
        self.records().into_iter().filter(fits).collect()
    }

    /// Waits for a record of that event whose fields have these values.
    ///
    /// # Panics
    /// Where none comes in ten seconds: with everything that came.
    #[track_caller]
    pub fn wait(&self, event: &str, fields: &[(&str, &str)]) -> Record {
        let mut found = None;
        until(Duration::from_secs(10), || {
            found = self.find(event, fields).into_iter().next();
            found.is_some()
        });
        found.unwrap_or_else(|| {
            let all: Vec<_> = self.records().iter().map(Record::text).collect();
            panic!("no {event} {fields:?} in the log: {all:#?}")
        })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Ends the reader's recvmsg.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn receive(socket: &UnixDatagram) -> Option<Record> {
    let mut bytes = vec![0; 65536];
    let mut space = nix::cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).ok()?;
    let sender = message.cmsgs().ok()?.find_map(|c| match c {
        ControlMessageOwned::ScmCredentials(sender) => Some(sender),
        _ => None,
    });
    let length = message.bytes;
    // Without a sender: the socket was shut down.
    let sender = sender.filter(|_| length > 0)?;
    bytes.truncate(length);
    Some(Record { pid: sender.pid(), uid: sender.uid(), gid: sender.gid(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_come_back() {
        let fields = parse_fields(r#"id=7f drop= command="a \"b\" \\ \x0a c" x=1"#).expect("parses");
        assert_eq!(fields["command"], "a \"b\" \\ \n c");
        assert_eq!(fields["drop"], "");
        assert_eq!(fields["x"], "1");
    }

    #[test]
    fn text_that_is_no_field_is_refused() {
        assert!(parse_fields("a=b stray").is_none());
        assert!(parse_fields(r#"a="b"c"#).is_none());
        assert!(parse_fields(r#"a="b"#).is_none());
    }
}
