//! The kernel's audit trail, where auditd keeps it: one user record of a command asked for, as sudo writes it
//! (AUDIT_USER_CMD). Best effort: the kernel takes none from inside a container.

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `AUDIT_USER_CMD` of `linux/audit.h`.
const USER_CMD: u16 = 1123;
/// `NLM_F_REQUEST` of `linux/netlink.h`.
const REQUEST: u16 = 1;
/// The kernel takes `MAX_AUDIT_MESSAGE_LENGTH`, 8,970 bytes; words are written in hexadecimal.
const LONGEST: usize = 3000;

/// Where auditd says that it runs.
const DAEMON: &str = "/run/auditd.pid";

/// Tells what was asked and whether it was granted. Who asks the kernel adds itself (auid, ses, uid).
pub fn tell(argv: &[OsString], cwd: &Path, terminal: Option<&str>, granted: bool) {
    if !Path::new(DAEMON).exists() {
        return;
    }
    let mut words = argv.iter().map(|word| word.as_bytes()).collect::<Vec<_>>().join(&b' ');
    words.truncate(LONGEST);
    if words.is_empty() {
        words.extend_from_slice(b"(shell)");
    }
    let mut folder = cwd.as_os_str().as_bytes().to_vec();
    folder.truncate(LONGEST / 4);
    let text = format!(
        "cwd={} cmd={} exe=\"{}/caplet-helper\" hostname=? addr=? terminal={} res={}",
        encoded(&folder),
        encoded(&words),
        crate::LIBEXECDIR,
        terminal.map_or("?", |name| name.trim_start_matches("/dev/")),
        if granted { "success" } else { "failed" },
    );
    let _ = send(text.as_bytes());
}

/// As libaudit's audit_encode_nv_string(3): in quotes, or in hexadecimal where a byte could end the field.
fn encoded(bytes: &[u8]) -> String {
    if bytes.iter().all(|b| (b'!'..=b'~').contains(b) && *b != b'"') {
        return format!("\"{}\"", String::from_utf8_lossy(bytes));
    }
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

fn send(text: &[u8]) -> nix::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkAudit)?;
    // struct nlmsghdr: length, type, flags, sequence, port.
    let mut packet = (16 + text.len() as u32 + 1).to_ne_bytes().to_vec();
    packet.extend_from_slice(&USER_CMD.to_ne_bytes());
    packet.extend_from_slice(&REQUEST.to_ne_bytes());
    packet.extend_from_slice(&[0; 8]);
    packet.extend_from_slice(text);
    packet.resize(packet.len().next_multiple_of(4).max(16 + text.len() + 1), 0);
    sendto(socket.as_raw_fd(), &packet, &NetlinkAddr::new(0, 0), MsgFlags::MSG_DONTWAIT).map(drop)
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn nothing_ends_a_field_early() {
        assert_eq!(encoded(b"/usr/bin/date"), "\"/usr/bin/date\"");
        assert_eq!(encoded(b"date -s"), "64617465202D73");
        assert_eq!(encoded(b"a\" res=success"), "6122207265733D73756363657373");
    }
}
