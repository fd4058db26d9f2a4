//! What a refused call was about: which file stands in the way, whose process it is, which port. Facts alone, found out
//! with the eyes of the session; the part that walks a path is told who looks, so that it can be tested.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// The process that was refused, as /proc/PID/status has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    pub name: String,
    pub group: i32,
    pub parent: i32,
    /// The ids by which it opens files.
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub effective: u64,
    pub permitted: u64,
    /// Who traces it; 0: nobody.
    pub tracer: i32,
}

impl Who {
    /// `None` where it is gone.
    pub fn of(pid: i32) -> Option<Self> {
        std::fs::read(format!("/proc/{pid}/status")).ok().map(|text| Self::read(&String::from_utf8_lossy(&text)))
    }

    fn read(text: &str) -> Self {
        let mut who = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let number = |at: usize| value.split_whitespace().nth(at).and_then(|n| n.parse().ok()).unwrap_or(0);
            let set = || u64::from_str_radix(value, 16).unwrap_or(0);
            match key {
                "Name" => who.name = value.to_owned(),
                "Tgid" => who.group = number(0) as i32,
                "PPid" => who.parent = number(0) as i32,
                "Uid" => who.uid = number(3),
                "Gid" => who.gid = number(3),
                "Groups" => who.groups = value.split_whitespace().filter_map(|n| n.parse().ok()).collect(),
                "TracerPid" => who.tracer = number(0) as i32,
                "CapEff" => who.effective = set(),
                "CapPrm" => who.permitted = set(),
                _ => {}
            }
        }
        who
    }

    fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// What the call was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    Nothing,
    File(File),
    Process {
        pid: i32,
        uid: Option<u32>,
    },
    Port(u16),
    /// A port of AF_VSOCK.
    VsockPort(u16),
    /// A socket's address of another kind.
    Address(u16),
    Text(String),
}

/// A file and what stands in the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// As the program named it.
    pub shown: String,
    /// Where it really is, as far as that is known.
    pub path: PathBuf,
    /// Of the file itself: owner, group, mode.
    pub stat: Option<Stat>,
    /// Of the folder that it is in.
    pub folder: Option<Stat>,
    pub obstacle: Option<Obstacle>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stat {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub is_folder: bool,
    pub is_device: bool,
}

impl Stat {
    pub fn of(path: &Path, follow: bool) -> Option<Self> {
        let meta = if follow { path.metadata() } else { path.symlink_metadata() }.ok()?;
        let kind = meta.file_type();
        Some(Self {
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o7777,
            is_folder: kind.is_dir(),
            is_device: kind.is_block_device() || kind.is_char_device(),
        })
    }

    /// Whether the mode gives all these bits (4 read, 2 write, 1 execute or search).
    fn gives(&self, who: &Who, bits: u32) -> bool {
        let shift = match () {
            () if self.uid == who.uid => 6,
            () if who.is_in(self.gid) => 3,
            () => 0,
        };
        self.mode >> shift & bits == bits
    }
}

/// Why the path is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub path: PathBuf,
    pub stat: Stat,
    pub lacks: Lacks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacks {
    Search,
    Read,
    Write,
    /// Both of the two before.
    ReadAndWrite,
    Execute,
}

/// What was wanted of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The file itself: these bits of its mode.
    Open(u32),
    /// As `Open`, and to make it if it is not there.
    Make(u32),
    /// An entry of its folder: made, removed or renamed.
    Entry,
    /// To get there.
    Reach,
}

/// Where the paths of a process begin.
pub fn base(pid: i32, folder: Option<i32>, path: &str) -> PathBuf {
    match folder {
        _ if path.starts_with('/') => format!("/proc/{pid}/root").into(),
        None | Some(libc::AT_FDCWD) => format!("/proc/{pid}/cwd").into(),
        Some(number) => format!("/proc/{pid}/fd/{number}").into(),
    }
}

/// The file of an open descriptor.
pub fn open_file(pid: i32, number: i32) -> File {
    let link = PathBuf::from(format!("/proc/{pid}/fd/{number}"));
    let path = std::fs::read_link(&link).unwrap_or_default();
    let stat = Stat::of(&link, true);
    File { shown: path.to_string_lossy().into_owned(), path, stat, folder: None, obstacle: None }
}

/// Follows a path as the kernel would for `who`, and says what stands in the way by its mode.
pub fn look(base: &Path, path: &str, want: Want, who: &Who) -> File {
    let mut at = base.to_path_buf();
    let mut plain = if path.starts_with('/') { PathBuf::new() } else { base.read_link().unwrap_or_default() };
    if path.starts_with('/') {
        plain.push("/");
    }
    let parts: Vec<Component<'_>> =
        Path::new(path).components().filter(|part| !matches!(part, Component::RootDir)).collect();
    let mut file = File { shown: path.to_owned(), path: plain.join(path), stat: None, folder: None, obstacle: None };
    for (n, part) in parts.iter().enumerate() {
        let Some(folder) = Stat::of(&at, true) else { return file };
        if !folder.gives(who, 1) {
            file.obstacle = Some(Obstacle { path: plain, stat: folder, lacks: Lacks::Search });
            return file;
        }
        if n + 1 == parts.len() {
            file.folder = Some(folder);
            if want == Want::Entry && !folder.gives(who, 2) {
                file.stat = Stat::of(&at.join(part), false);
                file.obstacle = Some(Obstacle { path: plain, stat: folder, lacks: Lacks::Write });
                return file;
            }
        }
        if *part != Component::CurDir && (n + 1 < parts.len() || want != Want::Entry) {
            plain.push(part);
        }
        at.push(part);
    }
    file.stat = Stat::of(&at, want != Want::Entry);
    let (Want::Open(bits) | Want::Make(bits)) = want else { return file };
    match (file.stat, file.folder) {
        (Some(stat), _) => {
            // The kernel asks for all bits in one: who wants to write, too, is not helped by what overrides reading.
            let lacks = match bits & 6 {
                _ if stat.gives(who, bits) => None,
                6 => Some(Lacks::ReadAndWrite),
                4 => Some(Lacks::Read),
                2 => Some(Lacks::Write),
                _ if stat.is_folder => Some(Lacks::Search),
                _ => Some(Lacks::Execute),
            };
            file.obstacle = lacks.map(|lacks| Obstacle { path: plain, stat, lacks });
        }
        (None, Some(stat)) if matches!(want, Want::Make(_)) && !stat.gives(who, 2) => {
            plain.pop();
            file.obstacle = Some(Obstacle { path: plain, stat, lacks: Lacks::Write });
        }
        _ => {}
    }
    file
}

/// The flags of the mount that a path is on (`ro`, `nosuid`, `nodev`, `noexec`): of the mounts above it the lowest, and
/// of those at one place the last.
pub fn mount_flags(table: &str, path: &Path) -> Vec<String> {
    let mut best: (usize, Vec<String>) = (0, Vec::new());
    for line in table.lines() {
        let mut words = line.split(' ').skip(4);
        let (Some(point), Some(own)) = (words.next(), words.next()) else { continue };
        let point = point.replace("\\040", " ");
        let depth = Path::new(&point).components().count();
        if path.starts_with(&point) && depth >= best.0 {
            // Behind the `-`: type, source, and the file system's own flags.
            let whole = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').nth(2)).unwrap_or_default();
            let read_only = whole.split(',').any(|flag| flag == "ro").then(|| "ro".to_owned());
            best = (depth, own.split(',').map(str::to_owned).chain(read_only).collect());
        }
    }
    best.1
}

/// The path of an address of AF_UNIX that has one.
pub fn socket_path(bytes: &[u8]) -> Option<String> {
    let (family, path) = bytes.split_at_checked(2)?;
    let path = path.split(|byte| *byte == 0).next().filter(|path| !path.is_empty())?;
    (family == 1u16.to_ne_bytes()).then(|| String::from_utf8_lossy(path).into_owned())
}

/// The socket address that a call named.
pub fn address(bytes: &[u8]) -> Object {
    match bytes {
        // struct sockaddr_vm: the port is a whole number there.
        [a, b, _, _, port @ ..] if u16::from_ne_bytes([*a, *b]) == 40 => {
            let port = port.first_chunk().map_or(u32::MAX, |bytes| u32::from_ne_bytes(*bytes));
            u16::try_from(port).map_or(Object::Address(40), Object::VsockPort)
        }
        [a, b, c, d, ..] => match u16::from_ne_bytes([*a, *b]) {
            2 | 10 => Object::Port(u16::from_be_bytes([*c, *d])),
            family => Object::Address(family),
        },
        _ => Object::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_obstacle_on_the_way_is_named() {
        let tree = tempfile::tempdir().expect("a folder");
        let root = tree.path();
        let mode = |path: &str, mode| set_permissions(root.join(path), Permissions::from_mode(mode)).expect("ours");
        create_dir(root.join("shut")).expect("ours");
        create_dir(root.join("open")).expect("ours");
        write(root.join("shut/file"), "").expect("ours");
        write(root.join("open/file"), "").expect("ours");
        let meta = root.metadata().expect("ours");
        let mine = Who { uid: meta.uid(), gid: meta.gid(), ..Who::default() };
        let other = Who { uid: meta.uid() + 1, gid: meta.gid() + 1, ..Who::default() };
        mode("", 0o711);
        mode("shut", 0o700);
        mode("open", 0o755);
        mode("open/file", 0o640);
        let lacks = |path: &str, want, who: &Who| {
            look(root, path, want, who).obstacle.map(|o| (o.path.file_name().map(|n| n.to_owned()), o.lacks))
        };
        let is = |name: &str, lacks| Some((Some(name.into()), lacks));
        assert_eq!(lacks("open/file", Want::Open(6), &mine), None);
        assert_eq!(lacks("shut/file", Want::Open(4), &other), is("shut", Lacks::Search));
        assert_eq!(lacks("open/file", Want::Open(4), &other), is("file", Lacks::Read));
        assert_eq!(lacks("open/file", Want::Open(2), &other), is("file", Lacks::Write));
        assert_eq!(lacks("open/new", Want::Make(2), &other), is("open", Lacks::Write));
        assert_eq!(lacks("open/new", Want::Open(4), &other), None, "it is not there");
        assert_eq!(lacks("open/file", Want::Entry, &other), is("open", Lacks::Write));
        assert_eq!(lacks("open/file", Want::Open(1), &mine), is("file", Lacks::Execute));
        assert_eq!(lacks("open", Want::Reach, &other), None);
        assert_eq!(lacks("shut", Want::Open(1), &other), is("shut", Lacks::Search), "a folder is searched");
        assert_eq!(lacks("open/file", Want::Open(6), &other), is("file", Lacks::ReadAndWrite));
    }

    #[test]
    fn the_lowest_mount_counts_and_the_last_one_there() {
        let table = "1 0 0:1 / / rw,nosuid - ext4 /dev/vda rw\n2 1 0:2 / /a\\040b ro,nodev - tmpfs t rw\n\
                     3 1 0:3 / /a\\040b rw - tmpfs t ro\n";
        assert_eq!(mount_flags(table, Path::new("/x")), ["rw", "nosuid"]);
        assert_eq!(mount_flags(table, Path::new("/a b/c")), ["rw", "ro"]);
    }

    #[test]
    fn status_and_address_are_read() {
        let who = Who::read(
            "Name:\tdate\nTgid:\t7\nPPid:\t3\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t6\nGroups:\t8 9\nCapEff:\t0000000002000000\n",
        );
        assert_eq!((who.name.as_str(), who.group, who.parent, who.uid, who.gid), ("date", 7, 3, 4, 6));
        assert_eq!((who.groups.as_slice(), who.effective), (&[8, 9][..], 1 << 25));
        assert_eq!(address(&[2, 0, 0, 80, 0, 0]), Object::Port(80));
        assert_eq!(address(&[16, 0, 0, 0]), Object::Address(16));
        assert_eq!(address(&[40, 0, 0, 0, 80, 0, 0, 0]), Object::VsockPort(80));
        assert_eq!(socket_path(b"\x01\0/run/x\0rest"), Some("/run/x".into()));
        assert_eq!(
            (socket_path(b"\x01\0\0abstract"), socket_path(b"\x02\0/x"), socket_path(b"\x01")),
            (None, None, None)
        );
    }
}
