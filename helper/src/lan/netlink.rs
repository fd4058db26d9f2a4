//! netlink(7): requests with an acknowledgement each. Only the kernel is believed.

use crate::sys::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};

pub const ACK: u16 = libc::NLM_F_ACK as u16;
pub const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
/// NLA_F_NESTED.
const NESTED: u16 = 1 << 15;
const HEADER: usize = 16;

/// A socket and the number of its next request.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A message as it is built: fixed part, then attributes.
#[derive(Debug, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        let mut message = Self(bytes);
        message.put(fixed);
        message
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn raw(mut self, kind: u16, value: &[u8]) -> Self {
        self.put_head(kind, value.len());
        self.put(value);
        self
    }

    fn put_head(&mut self, kind: u16, length: usize) {
        self.0.extend_from_slice(&((length + 4) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
    }

    pub fn bytes(self, kind: u16, value: &[u8]) -> Self {
        self.raw(kind, value)
    }

    pub fn number(self, kind: u16, value: u32) -> Self {
        self.raw(kind, &value.to_ne_bytes())
    }

    pub fn byte(self, kind: u16, value: u8) -> Self {
        self.raw(kind, &[value])
    }

    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.raw(kind, &bytes)
    }

    /// An attribute that holds others, perhaps behind a fixed part of its own.
    pub fn nest(mut self, kind: u16, fixed: &[u8], fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.put_head(kind | NESTED, 0);
        self.put(fixed);
        let mut whole = fill(self);
        let length = (whole.0.len() - start) as u16;
        whole.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        whole
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

impl Netlink {
    /// To the network namespace that this process is in.
    pub fn open(protocol: SockProtocol) -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(Self { socket: socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?, sequence: 1 })
    }

    /// Sends one and waits for its answers; what they carry. An acknowledgement without an error is an empty one.
    pub fn ask(&mut self, message: Message) -> Result<Vec<Vec<u8>>, Errno> {
        self.ask_all(vec![message])
    }

    /// Several at once, as a batch of nf_tables; the last answers for all, and an error of one ends it.
    pub fn ask_all(&mut self, messages: Vec<Message>) -> Result<Vec<Vec<u8>>, Errno> {
        let (first, mut bytes) = (self.sequence, Vec::new());
        let mut awaited = 0;
        for message in messages {
            let flags = u16::from_ne_bytes([message.0[6], message.0[7]]);
            awaited += u32::from(flags & (ACK | libc::NLM_F_DUMP as u16) != 0);
            bytes.extend(message.finish(self.sequence));
            self.sequence += 1;
        }
        sendto(self.socket.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0u8; 1 << 16];
        while awaited > 0 {
            let (length, from) = recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer)?;
            if from.is_none_or(|from| from.pid() != 0) {
                continue; // another process's word
            }
            let mut rest = buffer.get(..length).ok_or(Errno::EBADMSG)?;
            while let Some((kind, sequence, body, next)) = split(rest) {
                rest = next;
                if sequence < first || sequence >= self.sequence {
                    continue;
                }
                match i32::from(kind) {
                    libc::NLMSG_ERROR => {
                        let code = body.get(..4).and_then(|code| code.try_into().ok()).ok_or(Errno::EBADMSG)?;
                        match i32::from_ne_bytes(code) {
                            0 => awaited -= 1,
                            code => return Err(Errno::from_raw(-code)),
                        }
                    }
                    libc::NLMSG_DONE => awaited -= 1,
                    _ => answers.push(body.to_vec()),
                }
            }
        }
        Ok(answers)
    }
}

/// Kind, number and body of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let number = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let length = number(0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, number(8)?, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The attributes behind a fixed part of that size.
pub fn attributes(body: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(fixed..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read() {
        let message =
            Message::new(16, ACK, &[1, 2, 3, 4, 5]).text(3, "eth0").number(4, 7).nest(18, &[], |m| m.byte(1, 9));
        let bytes = message.finish(5);
        let (kind, sequence, body, rest) = split(&bytes).expect("a message");
        assert_eq!((kind, sequence, rest), (16, 5, &[][..]));
        let all: Vec<_> = attributes(body, 8).collect();
        assert_eq!(all, [(3, &b"eth0\0"[..]), (4, &7u32.to_ne_bytes()), (18, &[5, 0, 1, 0, 9, 0, 0, 0])]);
        assert!(split(&bytes[..20]).is_none());
        assert_eq!(attributes(&[1, 0], 0).count(), 0);
    }
}
