//! `caplet forget`: the helper is asked to forget that the caller has given a password. Nothing is kept here.

use crate::front::ask_helper;
use crate::installed::session_profile;
use crate::messages::{NO, Trouble, tell};
use caplet_policy::request::{Request, Start, Verb};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, Stdio};

/// Says nothing when it is done, as `sudo -k`.
pub fn run() -> ExitCode {
    match forget(session_profile()) {
        Ok(true) => ExitCode::SUCCESS,
        // The helper has said why.
        Ok(false) => NO.into(),
        Err(trouble) => {
            tell(&trouble);
            NO.into()
        }
    }
}

/// Whether the helper has done it.
fn forget(session: Option<OsString>) -> Result<bool, Trouble> {
    if let Some(profile) = session {
        return Err(Trouble::ForgetInside { profile });
    }
    let answer = ask_helper(&Request::new(Verb::Forget, Start::Shell).encode(), |command| {
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
    })?;
    match answer.status.signal() {
        Some(signal) => Err(Trouble::HelperKilled { undone: "nothing is forgotten", signal }),
        None => Ok(answer.status.success()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_a_session_the_helper_is_not_asked() {
        let trouble = forget(Some("netlab".into())).expect_err("nothing to forget");
        let text = "inside a session (profile \"netlab\") there is no password to forget; leave it first: exit";
        assert_eq!(trouble.to_string(), text);
    }
}
