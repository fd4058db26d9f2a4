//! The text of the file of wishes, read. No file, no helper and no judgement in here.

use caplet_policy::capability::CapList;
use caplet_policy::escape::quoted;
use caplet_policy::request::is_profile_name;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// As people call it.
pub const SHOWN: &str = "~/.config/caplet/config.toml";
const KEYS: &str = "profile, cap_add, cap_drop, shell";

/// What somebody wishes for the session of a login.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub profile: Option<String>,
    pub add: CapList,
    pub drop: CapList,
    pub shell: Option<PathBuf>,
}

/// Why the wishes do not come true, in one line.
pub type Fault = String;

/// What is wrong, and at which byte.
type Wrong = (usize, String);

/// Of several faults, the first in the file.
pub fn parse(text: &str) -> Result<Wishes, Fault> {
    let said = |(start, what): Wrong| format!("{}: {what}", place(text, start));
    let table = DeTable::parse(text)
        .map_err(|error| said((error.span().map_or(0, |span| span.start), error.message().to_owned())))?;
    let mut wishes = Wishes::default();
    let wrong = table.get_ref().iter().filter_map(|(key, value)| wishes.take(key, value).err()).min();
    wrong.map_or(Ok(wishes), |wrong| Err(said(wrong)))
}

/// `FILE:LINE:COLUMN`, as the policy's faults; columns in characters.
fn place(text: &str, start: usize) -> String {
    let before = text.get(..start).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let column = line.trim_start_matches('\u{feff}').chars().count() + 1;
    format!("{SHOWN}:{}:{column}", before.matches('\n').count() + 1)
}

impl Wishes {
    fn take(&mut self, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Result<(), Wrong> {
        let wrong = |what: String| (value.span().start, what);
        match key.get_ref().as_ref() {
            "profile" => {
                let name = string("profile", value)?;
                if !is_profile_name(name.as_bytes()) {
                    return Err(wrong(format!("no profile can be called {}", quoted(name.as_bytes()))));
                }
                self.profile = Some(name.to_owned());
            }
            "cap_add" => self.add = capabilities("cap_add", value)?,
            "cap_drop" => self.drop = capabilities("cap_drop", value)?,
            "shell" => {
                let path = string("shell", value)?;
                if !path.starts_with('/') || path.contains('\0') {
                    return Err(wrong(format!("shell {} is no absolute path", quoted(path.as_bytes()))));
                }
                self.shell = Some(PathBuf::from(OsStr::new(path)));
            }
            other => {
                let what = format!("unknown key {}; there are: {KEYS}", quoted(other.as_bytes()));
                return Err((key.span().start, what));
            }
        }
        Ok(())
    }
}

fn string<'v>(key: &str, value: &'v Spanned<DeValue<'_>>) -> Result<&'v str, Wrong> {
    let wrong = || (value.span().start, format!("{key} must be a string, as in: {key} = \"...\""));
    value.get_ref().as_str().ok_or_else(wrong)
}

fn capabilities(key: &str, value: &Spanned<DeValue<'_>>) -> Result<CapList, Wrong> {
    let wrong = |at: &Spanned<DeValue<'_>>| {
        (at.span().start, format!("{key} must be a list of names, as in: {key} = [\"NET_ADMIN\"]"))
    };
    let mut list = CapList::default();
    for item in value.get_ref().as_array().ok_or_else(|| wrong(value))? {
        let name = item.get_ref().as_str().ok_or_else(|| wrong(item))?;
        list.add_text(name).map_err(|error| (item.span().start, format!("{key}: {error}")))?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_wishes_are_read() {
        let text = "# mine\nprofile = \"lab\"\ncap_add = [\"net_admin\", \"CAP_NET_RAW\"]\ncap_drop = [\"ALL\"]\nshell = \"/bin/zsh\"\n";
        let wishes = parse(text).expect("good");
        assert_eq!((wishes.profile.as_deref(), wishes.drop.all), (Some("lab"), true));
        assert_eq!(wishes.add.to_string(), "NET_ADMIN,NET_RAW");
        assert_eq!(wishes.shell, Some("/bin/zsh".into()));
        assert_eq!(parse(""), Ok(Wishes::default()));
    }

    /// As the fuzz target has it: a fault is one line without a control character, whatever stands in the file.
    #[test]
    fn every_seed_of_the_fuzz_target_is_read_or_refused_in_one_line() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/wishes");
        let (mut good, mut bad) = (0, 0);
        for entry in std::fs::read_dir(folder).expect("the seeds") {
            let bytes = std::fs::read(entry.expect("an entry").path()).expect("a seed");
            let text = String::from_utf8_lossy(&bytes);
            for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
                match parse(&text[..end]) {
                    Ok(_) => good += 1,
                    Err(fault) => {
                        assert!(fault.starts_with(SHOWN) && !fault.contains(char::is_control), "{fault:?}");
                        bad += 1;
                    }
                }
            }
        }
        assert!(good > 1 && bad > 20, "{good} {bad}");
    }

    #[test]
    fn what_is_wrong_is_one_line_that_says_where() {
        for (text, fault) in [
            ("\nprofil = \"x\"", ":2:1: unknown key \"profil\"; there are: profile, cap_add, cap_drop, shell"),
            ("profile = 1", ":1:11: profile must be a string, as in: profile = \"...\""),
            ("profile = \"a b\"", ":1:11: no profile can be called \"a b\""),
            ("cap_add = \"KILL\"", ":1:11: cap_add must be a list of names, as in: cap_add = [\"NET_ADMIN\"]"),
            ("cap_add = [\"KILL\", 1]", ":1:20: cap_add must be a list of names, as in: cap_add = [\"NET_ADMIN\"]"),
            ("\u{feff}cap_add = 1", ":1:11: cap_add must be a list of names, as in: cap_add = [\"NET_ADMIN\"]"),
            // Columns are characters, and the first fault counts.
            ("profile = \"é\"", ":1:11: no profile can be called \"é\""),
            ("shell = 1 # é\ncap_add = 1", ":1:9: shell must be a string, as in: shell = \"...\""),
            ("cap_drop = [\"KILL\",\n \"KIL\"]", ":2:2: cap_drop: unknown capability \"KIL\"; did you mean KILL?"),
            ("shell = \"zsh\"", ":1:9: shell \"zsh\" is no absolute path"),
            ("\"\\u001b[2J\" = 1", ":1:1: unknown key \"\\x1b[2J\"; there are: profile, cap_add, cap_drop, shell"),
        ] {
            assert_eq!(parse(text), Err(format!("{SHOWN}{fault}")), "{text}");
        }
        for text in ["profile", "profile = \"x\"\nprofile = \"y\"", "cap_add = [\"NOSUCH\"]", "= 1"] {
            let fault = parse(text).expect_err("a fault");
            assert!(fault.starts_with(&format!("{SHOWN}:")) && fault.lines().count() == 1, "{text}: {fault}");
        }
    }
}
