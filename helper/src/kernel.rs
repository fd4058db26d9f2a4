//! Whether this kernel has what sessions of both scopes are built with.

use crate::error::{Error, call};

/// mount_setattr is of 5.12, openat2 and the rest are older; what is older than this is tested nowhere.
const OLDEST: (u32, u32) = (5, 14);

/// Before anything is asked of PAM, recorded or built.
pub fn new_enough() -> Result<(), Error> {
    let name = nix::sys::utsname::uname().map_err(call("uname"))?;
    let release = name.release().to_string_lossy();
    if version(&release) >= OLDEST { Ok(()) } else { Err(Error::OldKernel(release.into_owned())) }
}

/// `6.1.0-18-amd64` is (6, 1). What is no number counts as 0, and so as too old.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{OLDEST, version};

    #[test]
    fn releases_are_compared_as_numbers() {
        for old in ["5.10.0-32-cloud-amd64", "5.13", "4.18.0", "2.6.78", "", "x.y", "5"] {
            assert!(version(old) < OLDEST, "{old}");
        }
        for new in ["5.14", "5.14.0-70.el9", "5.15+", "6.1.0-18-amd64", "6.12.117+deb13", "10.0"] {
            assert!(version(new) >= OLDEST, "{new}");
        }
    }
}
