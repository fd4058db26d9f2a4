//! What the PAM process and the helper say to each other, one packet each. Both are root's; still, what comes from a
//! process that ran modules is read strictly, and anything else ends the conversation.

use crate::sys::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use std::os::fd::{AsRawFd, OwnedFd};

/// `PAM_MAX_RESP_SIZE` of `security/_pam_types.h`, less its NUL: modules take no longer answer.
const LONGEST_ANSWER: usize = 511;
/// The longest packet; a longer variable of the environment is left out.
const LONGEST: usize = 64 * 1024;
/// The longest text of a module that is passed on.
const LONGEST_TEXT: usize = 8 * 1024;

/// An answer: a password, most likely. Never grows, so that no copy is left behind; wiped when it is freed, as every
/// block of this program is (`sys::alloc`).
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An answer that is being typed: one line.
#[derive(Debug)]
pub struct Typed {
    secret: Secret,
    fault: Option<&'static str>,
}

impl Typed {
    pub fn new() -> Self {
        Self { secret: Secret(Vec::with_capacity(LONGEST_ANSWER)), fault: None }
    }

    /// Takes a byte of the line.
    pub fn take(&mut self, byte: u8) {
        if byte == 0 {
            self.fault = Some("an answer cannot hold a NUL byte");
        } else if self.secret.0.len() == LONGEST_ANSWER {
            self.fault = Some("an answer cannot be longer than 511 bytes");
        } else {
            self.secret.0.push(byte);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.secret.0.is_empty() && self.fault.is_none()
    }

    /// The answer, or why it can be none.
    pub fn finish(self) -> Result<Secret, &'static str> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.secret),
        }
    }
}

/// Which step of PAM refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It could not even begin.
    Start,
    Authentication,
    Account,
    Session,
}

/// What the PAM process says.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// A question, answered in the open or unseen.
    Prompt {
        visible: bool,
        text: Vec<u8>,
    },
    Show(Vec<u8>),
    /// An attempt failed.
    Failed(Vec<u8>),
    /// No more attempts: which step, whether the password is only to be changed, and why.
    Refused(Gate, bool, Vec<u8>),
    /// A limit that a module set: resource, whether the hard one, value.
    Limit(u32, bool, u64),
    Umask(u32),
    Nice(i32),
    Variable(Vec<u8>),
    /// Identity and account are proven. A PAM session opens next, where the profile wants one.
    /// When, in milliseconds since boot.
    Accepted(u64),
    Opened,
    Closed,
}

/// What it hears.
#[derive(Debug)]
pub enum Reply {
    Answer(Secret),
    /// What was typed can be no answer; the attempt counts.
    Unusable,
    /// There will be no answer.
    Nothing,
    /// The session is over. So is the end of the socket.
    Close,
}

impl Word {
    fn encode(&self) -> Vec<u8> {
        let with = |tag: u8, flag: u8, rest: &[u8]| [&[tag, flag], rest.get(..LONGEST_TEXT).unwrap_or(rest)].concat();
        match self {
            Self::Prompt { visible, text } => with(b'p', u8::from(*visible), text),
            Self::Show(text) => with(b's', 0, text),
            Self::Failed(text) => with(b'f', 0, text),
            Self::Refused(gate, change, text) => {
                let gate = match gate {
                    Gate::Start => 0,
                    Gate::Authentication => 1,
                    Gate::Account => 2,
                    Gate::Session => 3,
                };
                with(b'r', gate | u8::from(*change) << 4, text)
            }
            Self::Limit(resource, hard, value) => {
                [&[b'l', u8::from(*hard)][..], &resource.to_ne_bytes(), &value.to_ne_bytes()].concat()
            }
            Self::Umask(mask) => with(b'u', 0, &mask.to_ne_bytes()),
            Self::Nice(nice) => with(b'n', 0, &nice.to_ne_bytes()),
            Self::Variable(entry) => [&[b'v', 0], entry.as_slice()].concat(),
            Self::Accepted(at) => with(b'a', 0, &at.to_ne_bytes()),
            Self::Opened => with(b'o', 0, b""),
            Self::Closed => with(b'c', 0, b""),
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, flag, rest) = match bytes {
            [tag, flag, rest @ ..] => (*tag, *flag, rest),
            _ => return None,
        };
        let four = || rest.try_into().ok();
        Some(match tag {
            b'p' => Self::Prompt { visible: flag == 1, text: rest.into() },
            b's' => Self::Show(rest.into()),
            b'f' => Self::Failed(rest.into()),
            b'r' => {
                let gate = match flag & 0xf {
                    0 => Gate::Start,
                    1 => Gate::Authentication,
                    2 => Gate::Account,
                    _ => Gate::Session,
                };
                Self::Refused(gate, flag >> 4 == 1, rest.into())
            }
            b'l' => {
                let (resource, value) = rest.split_first_chunk()?;
                Self::Limit(u32::from_ne_bytes(*resource), flag == 1, u64::from_ne_bytes(value.try_into().ok()?))
            }
            b'u' => Self::Umask(u32::from_ne_bytes(four()?)),
            b'n' => Self::Nice(i32::from_ne_bytes(four()?)),
            b'v' => Self::Variable(rest.into()),
            b'a' => Self::Accepted(u64::from_ne_bytes(rest.try_into().ok()?)),
            b'o' => Self::Opened,
            b'c' => Self::Closed,
            _ => return None,
        })
    }
}

/// The PAM process speaks.
pub fn say(socket: &OwnedFd, word: &Word) -> Result<(), Errno> {
    let bytes = word.encode();
    if bytes.len() > LONGEST {
        return Ok(());
    }
    send(socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL).map(drop)
}

/// Its next word; the caller has polled. `None`: it is gone, or speaks no sense.
pub fn hear(socket: &OwnedFd) -> Option<Word> {
    Word::decode(&packet(socket, MsgFlags::MSG_DONTWAIT).ok()??)
}

/// The next packet, however long. `None`: there will be none.
pub fn packet(socket: &OwnedFd, flags: MsgFlags) -> Result<Option<Vec<u8>>, Errno> {
    let receive = |bytes: &mut [u8], flags| loop {
        match recv(socket.as_raw_fd(), bytes, flags) {
            Err(Errno::EINTR) => {}
            // Reset: it went without reading all.
            Err(Errno::ECONNRESET) | Ok(0) => return Ok(0),
            other => return other,
        }
    };
    let length = receive(&mut [], flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC)?;
    let mut bytes = vec![0; length.min(LONGEST)];
    let length = receive(&mut bytes, flags)?;
    bytes.truncate(length);
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// The helper answers.
pub fn reply(socket: &OwnedFd, reply: &Reply) -> Result<(), Errno> {
    let bytes = match reply {
        Reply::Answer(Secret(text)) => {
            let mut bytes = Vec::with_capacity(LONGEST_ANSWER + 1);
            bytes.push(b'a');
            bytes.extend_from_slice(text);
            bytes
        }
        Reply::Unusable => b"u".to_vec(),
        Reply::Nothing => b"n".to_vec(),
        Reply::Close => b"c".to_vec(),
    };
    send(socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT).map(drop)
}

/// The PAM process waits for an answer. The end of the socket is [`Reply::Close`].
pub fn listen(socket: &OwnedFd) -> Reply {
    let mut bytes = vec![0; LONGEST_ANSWER + 1];
    loop {
        match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            Ok(n) if n > 0 && bytes.first() == Some(&b'a') => {
                bytes.truncate(n);
                bytes.remove(0);
                return Reply::Answer(Secret(bytes));
            }
            Ok(1) if bytes.first() == Some(&b'u') => return Reply::Unusable,
            Ok(1) if bytes.first() == Some(&b'n') => return Reply::Nothing,
            _ => return Reply::Close,
        }
    }
}

impl Secret {
    /// For PAM alone.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_comes_back() {
        let text = || b"Password: ".to_vec();
        for word in [
            Word::Prompt { visible: true, text: text() },
            Word::Prompt { visible: false, text: Vec::new() },
            Word::Show(text()),
            Word::Failed(text()),
            Word::Refused(Gate::Start, false, text()),
            Word::Refused(Gate::Authentication, false, text()),
            Word::Refused(Gate::Account, true, text()),
            Word::Refused(Gate::Session, false, text()),
            Word::Limit(7, true, u64::MAX),
            Word::Umask(0o027),
            Word::Nice(-5),
            Word::Variable(b"A=b".to_vec()),
            Word::Accepted(1 << 40),
            Word::Opened,
            Word::Closed,
        ] {
            assert_eq!(Word::decode(&word.encode()), Some(word));
        }
        for nonsense in [&b""[..], b"a", b"l\0\0", b"u\0\0\0\0", b"z\0"] {
            assert_eq!(Word::decode(nonsense), None, "{nonsense:?}");
        }
    }

    /// Every tag and flag, at every length that could matter: no panic, and what is read is what is said again.
    #[test]
    fn whatever_a_module_sends_is_a_word_or_none() {
        let mut words = 0;
        for (tag, flag) in (0..=255u8).flat_map(|tag| (0..=255u8).map(move |flag| (tag, flag))) {
            for length in 0..=16 {
                let bytes = [&[tag, flag][..], &vec![0xa5; length]].concat();
                if let Some(word) = Word::decode(&bytes) {
                    assert_eq!(Word::decode(&word.encode()), Some(word));
                    words += 1;
                }
            }
        }
        assert!(words > 8000, "{words}");
    }

    fn typed(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut typed = Typed::new();
        bytes.iter().for_each(|byte| typed.take(*byte));
        typed.finish().map(Secret::into_bytes)
    }

    #[test]
    fn an_answer_is_passed_on_whole_or_not_at_all() {
        assert_eq!(typed(b"\x15a\x7f"), Ok(b"\x15a\x7f".to_vec()));
        assert_eq!(typed(&[b'x'; 511]), Ok(vec![b'x'; 511]));
        assert!(typed(&[b'x'; 512]).is_err());
        assert!(typed(b"a\0b").is_err());
        assert_eq!(format!("{:?}", Typed::new()), "Typed { secret: Secret(..), fault: None }");
    }
}
