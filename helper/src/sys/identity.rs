//! Ids, groups and the local time: what NSS and the C library know. What changes ids fails with EPERM also where the
//! kernel has others afterwards: filters of root emulation in containers say that it was done, and do nothing.

use super::Errno;
use caplet_policy::document::Civil;
use std::ffi::CStr;

/// Whether this is root, and not a user by the setuid bit.
pub fn is_root() -> bool {
    nix::unistd::getuid().is_root() && nix::unistd::geteuid().is_root()
}

/// Real, effective and saved user id at once, `uid` checked not to be the "leave it" value -1.
pub fn set_user(uid: u32) -> Result<(), Errno> {
    set_users(uid, uid, uid)
}

/// The three user ids, each checked not to be the "leave it" value -1.
pub fn set_users(real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    if [real, effective, saved].contains(&u32::MAX) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: plain numbers; one thread, so the raw call changes the whole process.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, real, effective, saved) as i32 })?;
    let now = nix::unistd::getresuid()?;
    as_asked([now.real, now.effective, now.saved].map(|id| id.as_raw()) == [real, effective, saved])
}

/// The same as a process's last act, which nothing depends on. Its parent may be a process of the user's by then (a subreaper,
/// prctl(2)) that waits for nobody: what is left of it, a zombie, counts as that user's (RLIMIT_NPROC) and not as the machine's.
pub fn end_as(uid: u32) {
    if uid != u32::MAX {
        // SAFETY: plain numbers.
        unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    }
}

/// Real, effective and saved group id at once, `gid` checked not to be the "leave it" value -1.
pub fn set_group(gid: u32) -> Result<(), Errno> {
    set_groups(gid, gid, gid)
}

/// The three group ids, each checked not to be the "leave it" value -1.
pub fn set_groups(real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    if [real, effective, saved].contains(&u32::MAX) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: as above.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, real, effective, saved) as i32 })?;
    let now = nix::unistd::getresgid()?;
    as_asked([now.real, now.effective, now.saved].map(|id| id.as_raw()) == [real, effective, saved])
}

/// The group id by which files are opened (setfsgid(2)); the call itself never says that it failed.
pub fn set_file_group(gid: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers; the second call changes nothing, and says what is.
    let now = unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsgid, u32::MAX)
    };
    as_asked(now as u32 == gid)
}

/// The supplementary groups.
pub fn set_supplementary_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the kernel reads `groups.len()` ids from a slice that lives through the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) as i32 })?;
    let mut held: Vec<u32> = nix::unistd::getgroups()?.into_iter().map(|gid| gid.as_raw()).collect();
    let mut wanted = groups.to_vec();
    held.sort_unstable();
    wanted.sort_unstable();
    as_asked(held == wanted)
}

fn as_asked(is: bool) -> Result<(), Errno> {
    if is { Ok(()) } else { Err(Errno::EPERM) }
}

/// A moment in the machine's time zone (localtime_r(3)); the environment's TZ has been emptied before.
pub fn local_time(unix: i64) -> Civil {
    // SAFETY: tm is plain data; both pointers are to this stack.
    let time = unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const unix, &raw mut time);
        time
    };
    Civil {
        year: time.tm_year + 1900,
        month: (time.tm_mon + 1) as u8,
        day: time.tm_mday as u8,
        hour: time.tm_hour as u8,
        minute: time.tm_min as u8,
        second: time.tm_sec as u8,
    }
}

/// The first user or group id that NSS enumerates inside `[first, last]`: getpwent(3), getgrent(3).
pub fn enumerated_id_within(first: u32, last: u32, groups: bool) -> Option<u32> {
    let inside = |id: u32| (first..=last).contains(&id);
    let mut found = None;
    // SAFETY: one thread; the entries are read before the next call overwrites them.
    unsafe {
        if groups {
            libc::setgrent();
            while let Some(entry) = libc::getgrent().as_ref() {
                found = found.or(Some(entry.gr_gid).filter(|id| inside(*id)));
            }
            libc::endgrent();
        } else {
            libc::setpwent();
            while let Some(entry) = libc::getpwent().as_ref() {
                found = found.or(Some(entry.pw_uid).filter(|id| inside(*id)));
            }
            libc::endpwent();
        }
    }
    found
}

/// The same, back (mktime(3)).
pub fn unix_time(civil: Civil) -> i64 {
    // SAFETY: tm is plain data; the pointer is to this stack.
    unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        time.tm_year = civil.year - 1900;
        time.tm_mon = i32::from(civil.month) - 1;
        time.tm_mday = civil.day.into();
        (time.tm_hour, time.tm_min, time.tm_sec) = (civil.hour.into(), civil.minute.into(), civil.second.into());
        time.tm_isdst = -1;
        libc::mktime(&raw mut time)
    }
}

/// Whether an account's password is locked (`passwd -l`), and whether the account has expired; shadow(5). `None`:
/// no entry, or no right to read it.
pub fn account_state(name: &CStr) -> Option<(bool, bool)> {
    // SAFETY: one thread; the entry and its strings are read before the next call overwrites them.
    unsafe {
        let entry = libc::getspnam(name.as_ptr()).as_ref()?;
        let password = if entry.sp_pwdp.is_null() { c"" } else { CStr::from_ptr(entry.sp_pwdp) };
        Some(state_of(password, entry.sp_expire, libc::time(std::ptr::null_mut())))
    }
}

/// `expire`: the first day since 1970 on which the account is none, negative for never; as pam_unix(8) counts.
fn state_of(password: &CStr, expire: i64, now: i64) -> (bool, bool) {
    (password.to_bytes().starts_with(b"!"), expire >= 0 && expire <= now / 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_and_back() {
        for unix in [0, 951_825_600, 1_802_678_400, 4_107_542_400] {
            assert_eq!(unix_time(local_time(unix)), unix);
        }
    }

    #[test]
    fn an_account_is_locked_by_a_mark_and_expired_from_its_day_on() {
        let day = 86_400;
        assert_eq!(state_of(c"!$y$x", -1, 20_000 * day), (true, false));
        assert_eq!(state_of(c"!", 20_001, 20_000 * day), (true, false));
        assert_eq!(state_of(c"$y$!", 20_000, 20_000 * day - 1), (false, false));
        assert_eq!(state_of(c"*", 20_000, 20_000 * day), (false, true));
        assert_eq!(state_of(c"", 0, 5), (false, true));
        assert_eq!(account_state(c"no such user, ever"), None);
    }

    #[test]
    fn the_user_database_is_enumerated_from_the_first_to_the_last() {
        for groups in [false, true] {
            assert_eq!(enumerated_id_within(0, 0, groups), Some(0));
            assert_eq!(enumerated_id_within(3_999_999_998, 3_999_999_999, groups), None);
        }
    }

    #[test]
    fn ids_are_what_was_asked_or_an_error() {
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        assert_eq!(set_user(uid), Ok(()), "what they are already");
        assert_eq!(set_group(gid), Ok(()));
        assert_eq!(set_users(uid, u32::MAX, uid), Err(Errno::EINVAL));
        assert_eq!(set_groups(u32::MAX, gid, gid), Err(Errno::EINVAL));
        assert_eq!(as_asked(false), Err(Errno::EPERM));
    }
}
