//! The policy file's model, read with spans; every fault at once. No judgement in here.

mod amounts;
mod check;
mod faults;
mod fields;
mod limits;
mod model;
mod moments;
mod network;
mod parts;
mod profile;
mod read;
#[cfg(feature = "render")]
mod render;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
mod values;

pub use amounts::CGROUP_KEYS;
pub use check::root_equivalents;
pub use faults::{Fault, Faults};
pub use model::*;
pub use network::NETWORK_KEYS;
#[cfg(feature = "render")]
pub use profile::KEYS;
#[cfg(feature = "render")]
pub use render::render;

/// One policy file's name and text, in the order in which they count.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path, for messages to root and for the log.
    pub path: String,
    /// Its bytes, decoded.
    pub text: String,
}

/// The whole policy: every file of it, without a fault.
#[derive(Debug, Clone)]
pub struct Document {
    /// `[defaults]`.
    pub defaults: Defaults,
    /// The networks that profiles name.
    pub networks: Vec<Lan>,
    /// The profiles in the order in which they are tried (isolated before host is the judge's business).
    pub profiles: Vec<Profile>,
}

/// `[defaults]`.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Shown under every refusal.
    pub contact: Option<String>,
    /// `log = "required"`: no log line, no session.
    pub log_required: bool,
    // limits, umask, env_keep, env_set, hide, pam_account, auth_cache_minutes are merged into each profile
    // that does not set them itself; `hide` is added to the profile's own.
}

impl Document {
    /// Reads all sources as one policy.
    ///
    /// # Errors
    /// Every fault of every source at once; then nobody is granted anything.
    pub fn read(sources: &[Source]) -> Result<Self, Faults> {
        read::read(sources)
    }

    /// The same, with only those profiles kept that `keep` wants; all of them are read and checked. In less time and
    /// memory, where every profile stands below a header line of its own.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn read_for(sources: &[Source], keep: &dyn Fn(&Profile) -> bool) -> Result<Self, Faults> {
        if let Some(document) = parts::read(sources, keep) {
            return Ok(document);
        }
        let mut document = Self::read(sources)?;
        document.profiles.retain(keep);
        Ok(document)
    }

    /// What an unprivileged build without installation grants: isolated, `user = "root"`, Docker's 14, anything
    /// may be added (`contract.md`, "Without installation"). Profile name `default`.
    pub fn built_in() -> Self {
        let mut profile = Profile::new("default", Scope::Isolated);
        profile.at.file = "built-in".into();
        profile.users.push(Subject::Everybody);
        profile.user = UserMode::Root;
        profile.may_add_all = true;
        profile.privileged = true;
        Self { defaults: Defaults::default(), networks: Vec::new(), profiles: vec![profile] }
    }
}
