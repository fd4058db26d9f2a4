//! Who the caller claims to be, proven where the profile asks for it. The PAM room: until it is furnished, a
//! profile that needs PAM is refused, so that nothing passes unauthenticated.

use crate::error::Error;
use caplet_policy::document::Auth;
use caplet_policy::judge::Grant;

/// A grant whose authentication, as the profile wants it, has passed.
#[derive(Debug)]
#[must_use]
pub struct Authenticated(Grant);

impl Authenticated {
    pub fn grant(&self) -> &Grant {
        &self.0
    }
}

/// Passes a grant that needs no proof; refuses every other.
pub fn authenticate(grant: Grant) -> Result<Authenticated, Error> {
    let profile = grant.profile();
    let wants = |key: &str, instead: &str| {
        let text = format!(
            "profile \"{}\" wants {key}, and this version of caplet has no PAM yet: the administrator can say {instead}",
            profile.name
        );
        Err(Error::Unsupported(text))
    };
    if profile.auth == Auth::Password {
        return wants("auth = \"password\"", "auth = \"none\"");
    }
    if profile.pam_account {
        return wants("pam_account = true (the default of host profiles)", "pam_account = false");
    }
    if profile.pam_session {
        return wants("pam_session = true", "pam_session = false");
    }
    Ok(Authenticated(grant))
}
