//! PAM in a machine: passwords, the service file, and a module that behaves as a test wants.

use crate::Lab;

/// Where [`Lab::pam_module`] puts it.
pub const PAM_MODULE: &str = "/usr/local/lib/pam_lab.so";

impl Lab {
    /// Replaces `/etc/pam.d/caplet`.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn set_pam(&self, text: &str) {
        self.write("/etc/pam.d/caplet", text, 0o644, "root");
    }

    /// Gives a user a password, hashed in a way that costs little time.
    ///
    /// # Panics
    /// Where it cannot be set.
    #[track_caller]
    pub fn set_password(&self, user: &str, password: &str) {
        let line = format!("{user}:{password}\n");
        let command = ["flock", "/run/lab-accounts", "chpasswd", "-c", "SHA512", "-s", "1000"];
        self.task("root", command).stdin(line).run().expect_ok();
    }

    /// Runs a command that edits accounts (`chage -E 1 alice`): one at a time, since each waits long for the other.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn edit_accounts(&self, command: &str) {
        self.root(&format!("flock /run/lab-accounts {command}"));
    }

    /// Builds and installs `lab/pam/module.c`.
    ///
    /// # Panics
    /// Where it cannot be built.
    #[track_caller]
    pub fn pam_module(&self) {
        self.write("/usr/local/lib/pam_lab.c", include_str!("../pam/module.c"), 0o644, "root");
        let line = format!("cc -w -shared -fPIC -o {PAM_MODULE} /usr/local/lib/pam_lab.c -l:libpam.so.0 -lpthread");
        self.root(&line);
    }
}
