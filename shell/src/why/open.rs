//! What a process has open that answers in another way than by a call's result: sockets of netlink, files of the kernel.

use std::collections::HashMap;

/// Of one process, by their numbers.
#[derive(Debug, Clone, Default)]
pub struct Open {
    /// Sockets of netlink, and their protocol.
    pub netlink: HashMap<u64, u16>,
    /// Files of /proc and /sys, open for writing.
    pub kernel: HashMap<u64, ()>,
}

impl Open {
    pub fn is_empty(&self) -> bool {
        self.netlink.is_empty() && self.kernel.is_empty()
    }

    pub fn close(&mut self, number: u64) {
        self.netlink.remove(&number);
        self.kernel.remove(&number);
    }

    pub fn copy(&mut self, from: u64, to: u64) {
        self.close(to);
        if let Some(protocol) = self.netlink.get(&from).copied() {
            self.netlink.insert(to, protocol);
        }
        if self.kernel.contains_key(&from) {
            self.kernel.insert(to, ());
        }
    }
}

/// openat2(2) is not asked: what writes to /proc does not use it.
pub fn opens_to_write(number: u64, args: &[u64; 6]) -> bool {
    let writes = |flags: u64| flags as i32 & libc::O_ACCMODE != libc::O_RDONLY;
    match number as libc::c_long {
        libc::SYS_openat => writes(args[2]),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => writes(args[1]),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => true,
        _ => false,
    }
}
