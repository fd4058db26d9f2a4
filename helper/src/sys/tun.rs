//! TAP links: `linux/if_tun.h`, Documentation/networking/tuntap.rst.

use super::Errno;
use std::os::fd::{AsFd, AsRawFd};

/// Makes a link of that name in the network namespace in which `tun`, an open `/dev/net/tun`, was opened: whole frames
/// are read from it and written to it, without a header in front. The link is there as long as the descriptor.
pub fn make_tap(tun: impl AsFd, name: &str) -> Result<(), Errno> {
    // SAFETY: ifreq is plain data for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if name.len() >= request.ifr_name.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short;
    // SAFETY: reads and writes one ifreq of this stack.
    Errno::result(unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) }).map(drop)
}
