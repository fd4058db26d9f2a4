//! A file that is refused: by its mode, its owner, its folder, its mount, the kind of file system, or by something that
//! cannot be seen from here.

use super::object::{File, Lacks, Obstacle, Stat};
use super::proc;
use super::rules::{Reach, Refusal, Verdict};
use std::path::Path;

/// kernel/user_namespace.c: what an id without a mapping looks like from inside.
const OVERFLOW: u32 = 65534;

pub fn judge(refusal: &Refusal<'_>, file: &File) -> Option<Verdict> {
    let call = refusal.call;
    if let Some(verdict) = proc::judge(refusal, file) {
        return Some(verdict);
    }
    match refusal.errno {
        // Of what is open, its mode has been looked at before.
        _ if ["fcntl", "ioctl", "write", "fanotify_mark"].contains(&call) => return None,
        libc::EROFS => return Some(Verdict::no_capability(format!("{} is on a read-only mount", place(file)))),
        libc::EACCES => {}
        libc::EPERM => return not_permitted(refusal, file),
        _ => return None,
    }
    let on = |flag: &str| refusal.mount.iter().any(|own| own == flag);
    match &file.obstacle {
        Some(obstacle) => Some(by_mode(refusal, obstacle)),
        None if call.starts_with("exec") && on("noexec") => {
            Some(Verdict::no_capability(format!("{} is on a mount without programs (noexec)", place(file))))
        }
        None if file.stat.is_some_and(|stat| stat.is_device) && on("nodev") => {
            Some(Verdict::no_capability(format!("{} is on a mount without devices (nodev)", place(file))))
        }
        None if call.starts_with("utime") => Some(owners(refusal, file, &["FOWNER", "DAC_OVERRIDE"])),
        None => Some(Verdict::no_capability(format!(
            "the modes on the way to {} allow it: an ACL, or a security module (SELinux, AppArmor, Landlock)",
            place(file)
        ))),
    }
}

/// fs/namei.c: generic_permission.
fn by_mode(refusal: &Refusal<'_>, obstacle: &Obstacle) -> Verdict {
    let Obstacle { path, stat, lacks } = obstacle;
    let shown = path.display();
    let may = match lacks {
        Lacks::Search => "be searched",
        Lacks::Read => "be read",
        Lacks::Write => "be written",
        Lacks::ReadAndWrite => "be read and written",
        Lacks::Execute => "be executed",
    };
    let cause = format!("{shown} ({}) may not {may} by this user", owner(*stat));
    let needs: &[&str] = match lacks {
        Lacks::Search => &["DAC_READ_SEARCH", "DAC_OVERRIDE"],
        Lacks::Read => &["DAC_READ_SEARCH", "DAC_OVERRIDE"],
        Lacks::Write | Lacks::ReadAndWrite => &["DAC_OVERRIDE"],
        Lacks::Execute if stat.mode & 0o111 == 0 => {
            return Verdict::no_capability(format!("{shown} ({}) is no program: nobody may execute it", owner(*stat)));
        }
        Lacks::Execute => &["DAC_OVERRIDE"],
    };
    Verdict::needs(needs, reach(refusal, *stat)).because(cause)
}

/// EPERM: what is its owner's alone, or kept even from that.
fn not_permitted(refusal: &Refusal<'_>, file: &File) -> Option<Verdict> {
    let own = file.stat.is_some_and(|stat| stat.uid == refusal.who.uid);
    match refusal.call {
        "open" | "openat" | "openat2" if file.path == Path::new("/dev/kmsg") => {
            Some(Verdict::needs(&["SYSLOG"], Reach::Machine))
        }
        // drivers/char/mem.c: open_port; arch/x86/kernel/msr.c. Their modes have been passed.
        "open" | "openat" | "openat2" if is_raw(&file.path) => Some(Verdict::needs(&["SYS_RAWIO"], Reach::Machine)),
        // O_NOATIME: fs/namei.c, may_open
        "open" if refusal.args[1] as i32 & libc::O_NOATIME != 0 && !own => Some(owners(refusal, file, &["FOWNER"])),
        "openat" if refusal.args[2] as i32 & libc::O_NOATIME != 0 && !own => Some(owners(refusal, file, &["FOWNER"])),
        "open" | "openat" | "openat2" | "creat" => Some(fixed(file)),
        "chmod" | "fchmod" | "fchmodat" | "utime" | "utimes" | "utimensat" if !own => {
            Some(owners(refusal, file, &["FOWNER"]))
        }
        "chown" | "lchown" | "fchown" | "fchownat" => {
            let verdict = owners(refusal, file, &["CHOWN"]);
            // The new owner is an id that no isolated session of one user knows.
            Some(if refusal.isolated { verdict } else { Verdict { reach: Reach::Machine, ..verdict } })
        }
        // fs/namei.c: may_linkat, with fs.protected_hardlinks
        "link" | "linkat" if !own => {
            Some(owners(refusal, file, &["FOWNER"]).because("fs.protected_hardlinks keeps files of others from it"))
        }
        "unlink" | "unlinkat" | "rmdir" | "rename" | "renameat" | "renameat2" => {
            let sticky = file.folder.is_some_and(|folder| folder.mode & 0o1000 != 0);
            match sticky && !own {
                true => Some(
                    owners(refusal, file, &["FOWNER"]).because("the folder is sticky (+t): only owners remove there"),
                ),
                false => Some(fixed(file)),
            }
        }
        "setxattr" | "lsetxattr" | "fsetxattr" | "removexattr" | "lremovexattr" | "fremovexattr" => {
            Some(attribute(refusal, file))
        }
        "chmod" | "fchmod" | "fchmodat" | "truncate" | "utimensat" | "link" | "linkat" | "mkdir" | "mkdirat"
        | "symlinkat" => Some(fixed(file)),
        "execve" | "execveat" => Some(Verdict::no_capability(format!(
            "{} carries file capabilities that this session does not hold: they must be among what it starts with",
            place(file)
        ))),
        _ => None,
    }
}

fn is_raw(path: &Path) -> bool {
    let files = ["/proc/kcore", "/dev/mem", "/dev/port", "/dev/kmem", "/dev/nvram"];
    files.iter().any(|file| path == Path::new(file)) || path.starts_with("/dev/cpu") && path.ends_with("msr")
}

/// fs/xattr.c: xattr_permission; security/commoncap.c: cap_inode_setxattr.
fn attribute(refusal: &Refusal<'_>, file: &File) -> Verdict {
    let name = String::from_utf8_lossy(refusal.memory);
    match name.split('.').next().unwrap_or_default() {
        "trusted" => Verdict::needs(&["SYS_ADMIN"], Reach::Machine),
        "security" if name == "security.capability" => owners(refusal, file, &["SETFCAP"]),
        "security" => Verdict::needs(&["SYS_ADMIN"], Reach::Machine),
        _ => owners(refusal, file, &["FOWNER"]),
    }
}

/// FOWNER, for this file.
pub fn owned(refusal: &Refusal<'_>, file: &File) -> Verdict {
    owners(refusal, file, &["FOWNER"])
}

/// What an owner may do and this user is not: capable_wrt_inode_uidgid.
fn owners(refusal: &Refusal<'_>, file: &File, needs: &[&str]) -> Verdict {
    let stat = file.stat.unwrap_or(Stat { uid: OVERFLOW, gid: OVERFLOW, mode: 0, is_folder: false, is_device: false });
    Verdict::needs(needs, reach(refusal, stat)).because(format!("{} ({})", place(file), owner(stat)))
}

fn fixed(file: &File) -> Verdict {
    Verdict::needs(&["LINUX_IMMUTABLE"], Reach::Machine)
        .because(format!("{} may be immutable or append-only (lsattr), or be kept by a security module", place(file)))
        .unsure()
}

/// A capability of a session reaches files whose owner and group the session knows (capable_wrt_inode_uidgid): in an
/// isolated one all but the unmapped, and seen from the machine's own namespace none but the user's own.
fn reach(refusal: &Refusal<'_>, stat: Stat) -> Reach {
    let known = match refusal.isolated {
        true => stat.uid != OVERFLOW && stat.gid != OVERFLOW,
        false => stat.uid == refusal.who.uid && stat.gid == refusal.who.gid,
    };
    if known { Reach::Session } else { Reach::Machine }
}

fn owner(stat: Stat) -> String {
    let name = |id: u32, name: Option<String>| match id {
        OVERFLOW => "of the machine".to_owned(),
        _ => name.unwrap_or_else(|| id.to_string()),
    };
    let user = name(stat.uid, name_in("/etc/passwd", stat.uid));
    let group = name(stat.gid, name_in("/etc/group", stat.gid));
    format!("owner {user}, group {group}, mode {:04o}", stat.mode)
}

/// From the files alone: this program has no NSS.
pub fn name_in(file: &str, id: u32) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

fn place(file: &File) -> String {
    file.path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::object::{Object, Who};
    use super::super::rules::{EACCES, EPERM};
    use super::*;
    use caplet_policy::capability::CapSet;

    fn ask(call: &str, errno: i32, file: File, mount: &[&str], isolated: bool) -> Verdict {
        let who = Who { uid: 1000, ..Who::default() };
        let mount: Vec<String> = mount.iter().map(|flag| (*flag).to_owned()).collect();
        let object = Object::File(file);
        let refusal = Refusal {
            call,
            args: [0; 6],
            errno,
            object: &object,
            who: &who,
            isolated,
            mount: &mount,
            port_floor: 1024,
            program: Stat::default(),
            filtered: false,
            release: (6, 18),
            memory: b"trusted.x",
        };
        super::super::rules::judge(&refusal).unwrap_or_else(|| panic!("{call}"))
    }

    fn stat(uid: u32, mode: u32) -> Stat {
        Stat { uid, gid: uid, mode, is_folder: false, is_device: false }
    }

    fn file(path: &str, uid: u32, mode: u32) -> File {
        File {
            shown: path.into(),
            path: path.into(),
            stat: Some(stat(uid, mode)),
            folder: Some(stat(0, 0o1777)),
            obstacle: None,
        }
    }

    fn names(verdict: &Verdict) -> String {
        verdict.needs.iter().map(CapSet::to_string).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn a_mode_names_what_overrides_it() {
        for (lacks, mode, wanted) in [
            (Lacks::Read, 0o640, "DAC_READ_SEARCH|DAC_OVERRIDE"),
            (Lacks::Search, 0o700, "DAC_READ_SEARCH|DAC_OVERRIDE"),
            (Lacks::Write, 0o644, "DAC_OVERRIDE"),
            (Lacks::Execute, 0o744, "DAC_OVERRIDE"),
            (Lacks::Execute, 0o644, ""),
        ] {
            let obstacle = Some(Obstacle { path: "/x".into(), stat: stat(0, mode), lacks });
            let verdict = ask("openat", EACCES, File { obstacle, ..file("/x", 0, mode) }, &[], false);
            assert_eq!((names(&verdict).as_str(), verdict.reach == Reach::Machine), (wanted, true));
        }
        let obstacle = Some(Obstacle { path: "/x".into(), stat: stat(OVERFLOW, 0o600), lacks: Lacks::Read });
        assert_eq!(
            ask("openat", EACCES, File { obstacle, ..file("/x", OVERFLOW, 0o600) }, &[], true).reach,
            Reach::Machine
        );
    }

    #[test]
    fn other_causes_are_told_apart() {
        assert_eq!(names(&ask("openat", libc::EROFS, file("/x", 0, 0), &["ro"], true)), "");
        assert!(
            ask("execve", EACCES, file("/x", 1000, 0o755), &["noexec"], true).cause.expect("one").contains("noexec")
        );
        assert!(ask("openat", EACCES, file("/x", 1000, 0o755), &[], true).cause.expect("one").contains("ACL"));
        assert_eq!(names(&ask("fchmodat", EPERM, file("/x", 0, 0o644), &[], false)), "FOWNER");
        assert_eq!(names(&ask("fchownat", EPERM, file("/x", 1000, 0o644), &[], false)), "CHOWN");
        assert_eq!(names(&ask("unlinkat", EPERM, file("/tmp/x", 0, 0o644), &[], false)), "FOWNER");
        assert!(!ask("openat", EPERM, file("/x", 1000, 0o644), &[], false).sure);
        assert_eq!(names(&ask("setxattr", EPERM, file("/x", 1000, 0o644), &[], false)), "SYS_ADMIN");
        assert_eq!(names(&ask("openat", EPERM, file("/dev/kmsg", 0, 0o644), &[], false)), "SYSLOG");
    }
}
