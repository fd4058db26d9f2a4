//! What one string of the policy means: names, paths, sets, patterns. No TOML in here, and no other key.

use super::Subject;
use super::faults::{Complaint, quoted};
use crate::capability::{CapSet, Capability, NameError, nearest};

type Parsed<T> = Result<T, Complaint>;

/// An entry of `users`: a login name, `#uid` or `*`.
pub(super) fn user(text: &str) -> Parsed<Subject> {
    if text == "*" { Ok(Subject::Everybody) } else { subject(text) }
}

/// A login or group name, or `#id`. Strict, since a name that is read differently by NSS and by us is a way in
/// (CVE-2019-14287: `#-1`; CVE-2019-15900: an id that does not parse).
pub(super) fn subject(text: &str) -> Parsed<Subject> {
    if let Some(digits) = text.strip_prefix('#') {
        return id(digits)
            .map(Subject::Id)
            .ok_or_else(|| Complaint::of(text, "is no id").help("\"#\" and 0 to 4294967294"));
    }
    let complaint = |what: &str| Err(Complaint::of(text, what));
    let by_id = |help: &str| Complaint::of(text, "is no name").help(help);
    match text {
        "" => Err(Complaint::new("an empty name")),
        "*" => complaint("is everybody, and stands in \"users\" only"),
        _ if text.bytes().all(|b| b.is_ascii_digit()) => Err(by_id(&format!("an id is written \"#{text}\""))),
        _ if text.starts_with('%') => Err(by_id("a group stands in \"groups\", without \"%\"")),
        _ if !text.is_ascii() => complaint("has letters that are not plain ASCII"),
        _ if text.contains(['*', '?', '[']) => complaint("is a pattern; users and groups are named one by one"),
        _ if text.contains(|c: char| c.is_ascii_whitespace()) => {
            Err(by_id("without blanks; a group whose name has some is written \"#gid\""))
        }
        _ if text.starts_with(['-', '+']) || !text.bytes().all(of_a_name) => complaint("is no name"),
        _ => Ok(Subject::Name(text.to_owned())),
    }
}

/// useradd(8)'s characters, and those of directories: `user@example.edu`, `DOMAIN\user`, `machine$`.
fn of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-@\\$+".contains(&byte)
}

fn id(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    // (uid_t) -1 means "leave it" to setresuid(2)
    digits.parse().ok().filter(|id| plain && *id != u32::MAX)
}

/// `[A-Za-z0-9_-]{1,64}`
pub(super) fn is_profile_name(text: &str) -> bool {
    let of_it = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(of_it)
}

/// A text for people, of one line.
pub(super) fn one_line(text: &str) -> Parsed<String> {
    if text.contains(char::is_control) {
        return Err(Complaint::new("must be one line, without tabs"));
    }
    Ok(text.to_owned())
}

/// An absolute path in its shortest form, so that equal text is equal meaning (symbolic links apart).
pub(super) fn path(text: &str) -> Parsed<String> {
    let Some(parts) = text.strip_prefix('/') else {
        return Err(Complaint::of(text, "is no absolute path").help("it starts with \"/\""));
    };
    let complaint = |what: &str| Err(Complaint::of(text, what));
    match parts {
        "" => complaint("is the whole tree"),
        _ if parts.ends_with('/') => complaint("ends with \"/\""),
        _ if parts.split('/').any(str::is_empty) => complaint("has an empty part"),
        _ if parts.split('/').any(|part| part == "." || part == "..") => complaint("has \".\" or \"..\" in it"),
        _ if parts.contains(char::is_control) => complaint("has a control character in it"),
        _ if text.len() > 4095 => complaint("is too long for a path"),
        _ => Ok(text.to_owned()),
    }
}

/// The path of a command, where people used to sudoers write arguments and patterns as well.
pub(super) fn command(text: &str) -> Parsed<String> {
    if text.contains([' ', '*', '?']) {
        return Err(Complaint::of(text, "is no path of one command")
            .help("no patterns; a command with exactly these arguments is a list: [\"/path\", \"argument\"]"));
    }
    path(text)
}

/// An entry of `caps`: a capability or the name of a set.
pub(super) fn starting(text: &str) -> Parsed<CapSet> {
    const SETS: [(&str, CapSet); 3] = [("docker", CapSet::DOCKER), ("podman", CapSet::PODMAN), ("none", CapSet::EMPTY)];
    if let Some((_, set)) = SETS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
        return Ok(*set);
    }
    if is_all(text) {
        return Err(Complaint::new("ALL is no starting set")
            .help("may_add = [\"ALL\"] lets everything be added; privileged = true allows --privileged"));
    }
    capability(text).map_err(|complaint| match nearest(text, SETS.map(|(name, _)| name)) {
        Some(set) => complaint.help(format!("did you mean \"{set}\"?")),
        None => complaint,
    })
}

/// An entry of `may_add` apart from `ALL`.
pub(super) fn addable(text: &str) -> Parsed<CapSet> {
    if ["docker", "podman", "none"].iter().any(|set| text.eq_ignore_ascii_case(set)) {
        return Err(Complaint::of(text, "is a set, and a set stands in \"caps\" only")
            .help("may_add names capabilities, or \"ALL\""));
    }
    capability(text)
}

/// `ALL`, in any case, as Docker takes it.
pub(super) fn is_all(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("ALL")
}

fn capability(text: &str) -> Parsed<CapSet> {
    match Capability::parse(text) {
        Ok(cap) => Ok(CapSet::EMPTY.with(cap)),
        Err(NameError::Empty) => Err(Complaint::new("an empty capability name")),
        Err(NameError::Unknown { near, .. }) => {
            let complaint = Complaint::new(format!("unknown capability {}", quoted(text)));
            Err(match near {
                Some(near) => complaint.help(format!("did you mean \"{near}\"?")),
                None => complaint,
            })
        }
    }
}

/// A file mode mask, octal: `"0000"` to `"0777"`.
pub(super) fn umask(text: &str) -> Parsed<u32> {
    let octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| octal && *mask <= 0o777);
    mask.ok_or_else(|| Complaint::of(text, "is no umask").help("octal, \"000\" to \"777\""))
}

/// What no policy sets or keeps: names that begin so make ld.so or libc load code of the value's choosing (an
/// ambient process has AT_SECURE = 0, so nobody takes them out behind us: ld.so(8)), or are caplet's own.
const NEVER: [&str; 6] = ["LD_", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "NLSPATH", "CAPLET_"];

/// The name of an environment variable that the policy may set or keep.
pub(super) fn variable(text: &str) -> Parsed<String> {
    let of_it = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || !text.bytes().all(of_it) {
        return Err(Complaint::of(text, "is no name of a variable"));
    }
    match NEVER.iter().find(|never| text.starts_with(**never)) {
        Some(_) => Err(Complaint::new(format!("{text} makes programs load code, or is caplet's own"))),
        None => Ok(text.to_owned()),
    }
}

/// An entry of `env_keep`: a name, or the beginning of names with `*` behind it.
pub(super) fn kept_variable(text: &str) -> Parsed<String> {
    let Some(beginning) = text.strip_suffix('*') else {
        return variable(text);
    };
    variable(beginning)?;
    match NEVER.iter().find(|never| never.starts_with(beginning)) {
        Some(never) => Err(Complaint::of(text, &format!("takes in {never}"))),
        None => Ok(text.to_owned()),
    }
}

/// A host name: RFC 1123 labels, and no longer than uname(2) can hold.
pub(super) fn hostname(text: &str) -> Parsed<String> {
    let label = |label: &str| {
        let ends = !label.starts_with('-') && !label.ends_with('-');
        ends && (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.len() > 64 || !text.split('.').all(label) {
        return Err(
            Complaint::of(text, "is no host name").help("letters, digits and \"-\", at most 64, parts joined by \".\"")
        );
    }
    Ok(text.to_owned())
}

/// An entry of `machines`: a host name with `*` and `?`.
pub(super) fn machine(text: &str) -> Parsed<String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*?".contains(&b)) {
        return Err(Complaint::of(text, "is no host name")
            .help("letters, digits, \"-\" and \".\", with \"*\" for any text and \"?\" for one letter"));
    }
    Ok(text.to_owned())
}
