//! The session's file tree: the host's, read-only and nosuid, with what is private laid over it. Built in a mount
//! namespace that root owns, before the last switch, so that every mount of it is locked inside.

use crate::agent::{self, Agent};
use crate::error::{Error, call};
use crate::sys::mount::{self, Attributes, NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::{Errno, standard_cwd};
use crate::user_files::UserFiles;
use caplet_policy::document::{Home, Network, Profile};
use nix::fcntl::{OFlag, readlink};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the tree shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub home: PathBuf,
    pub home_mode: Home,
    /// How much all that is the session's own may hold, in bytes.
    pub tmp_size: Option<u64>,
    /// The folder of homes that the user's own lies in, laid over so that the others are hidden.
    pub home_mask: Option<PathBuf>,
    pub writable: Vec<String>,
    pub hide: Vec<String>,
    pub devices: Vec<String>,
    /// The user's ids, as this namespace sees them.
    pub owner: (u32, u32),
    pub uid: u32,
    /// Nodes can be made; else the host's are bound.
    pub mknod: bool,
    /// Files of a network's member.
    pub names: Option<Names>,
    /// Other users' ids are mapped: `su` inside needs a shadow file that its root may read.
    pub other_users: bool,
    /// The session has a network namespace of its own.
    pub own_network: bool,
}

/// The texts of `/etc/hosts` and, where the network has name servers, `/etc/resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub hosts: String,
    pub resolver: Option<String>,
}

/// The kernel's own file systems, made inside the session's namespaces and not attached yet.
#[derive(Debug)]
pub struct KernelMounts {
    pub proc: OwnedFd,
    pub sys: OwnedFd,
    pub mqueue: OwnedFd,
}

/// Folders of homes that are always hidden.
const HOMES: [&str; 2] = ["/home", "/root"];
/// Folders that hold more than homes: one of them as a home's parent is not laid over.
const SHARED_PARENTS: [&str; 14] = [
    "/", "/etc", "/usr", "/var", "/var/lib", "/var/www", "/opt", "/srv", "/mnt", "/media", "/run", "/tmp", "/var/tmp",
    "/dev",
];
/// What a name look-up needs of the host's /run, where it is there.
const LOOKUP_SERVICES: [&str; 3] = ["/run/nscd", "/run/nslcd", "/run/systemd/userdb"];
/// Mounts of the host that the session has its own of.
const REPLACED: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];
const MS_SLAVE: u64 = libc::MS_SLAVE;
const MS_PRIVATE: u64 = libc::MS_PRIVATE;

/// Character devices: name, major, minor.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

impl Tree {
    pub fn of(profile: &Profile, home: &Path, uid: u32, owner: (u32, u32), mknod: bool) -> Self {
        Self {
            home: home.into(),
            home_mode: profile.home,
            tmp_size: profile.tmp_size,
            home_mask: home_mask(home),
            writable: profile.writable.clone(),
            hide: profile.hide.clone(),
            devices: profile.devices.clone(),
            owner,
            uid,
            mknod,
            names: None,
            other_users: profile.subids,
            own_network: profile.network != Network::Host,
        }
    }

    /// Everything, in order. The mount namespace must be this process's own.
    pub fn build(
        &self,
        user: UserFiles,
        kernel: KernelMounts,
        pts: &OwnedFd,
        power_is_real: bool,
    ) -> Result<(), Error> {
        let kept = self.keep(user)?;
        seal()?;
        for path in REPLACED {
            match mount::detach(path) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                // In a user namespace of the user's own the host's mounts are locked; they are laid over.
                Err(Errno::EPERM) if !power_is_real => {}
                Err(errno) => return Err(call(format!("umount {path}"))(errno)),
            }
        }
        attach(&kernel.proc, "/proc")?;
        attach(&kernel.sys, "/sys")?;
        let owner = self.owner;
        let space = Space::new(self.tmp_size, owner)?;
        self.dev(&kept, &kernel.mqueue, pts, &space)?;
        attach(&space.tmp, "/tmp")?;
        attach(&space.var_tmp, "/var/tmp")?;
        if let Some((agent, socket)) = &kept.agent {
            agent.put(socket, owner)?;
        }
        self.run(&kept.services, owner, &space)?;
        if let Some(names) = &self.names {
            put_names(names)?;
        }
        self.homes(&kept, &space)?;
        for (path, tree, at) in &kept.writable {
            self.put_writable(path, tree, at, kept.home.as_ref().map(|h| &h.0))?;
        }
        self.hide()
    }

    /// Copies of what stays as it is, taken before the tree is sealed and laid over.
    fn keep(&self, user: UserFiles) -> Result<Kept, Error> {
        let copy = |fd: OwnedFd, name: &str, set: u64| -> Result<(OwnedFd, OwnedFd), Error> {
            let tree = mount::clone_tree(&fd, "", true).map_err(call(format!("open_tree {name}")))?;
            let attributes = Attributes { set, propagation: MS_SLAVE, ..Attributes::default() };
            mount::set_attributes(&tree, "", true, attributes).map_err(call(format!("mount_setattr {name}")))?;
            Ok((tree, fd))
        };
        let read_only = if self.home_mode == Home::ReadOnly { RDONLY } else { 0 };
        let home = match user.home.filter(|_| self.home_mode != Home::Tmpfs) {
            Some(fd) => Some(copy(fd, "the home", NOSUID | NODEV | read_only)?),
            None => None,
        };
        let mut writable = Vec::new();
        for (path, fd) in user.writable {
            let (tree, at) = copy(fd, &path, NOSUID | NODEV)?;
            writable.push((path, tree, at));
        }
        let mut devices = Vec::new();
        let nodes = NODES.iter().map(|(name, _, _)| format!("/dev/{name}")).filter(|_| !self.mknod);
        for path in nodes.chain(self.devices.iter().cloned()) {
            let tree = mount::clone_tree(standard_cwd(), &path, false).map_err(call(format!("open_tree {path}")))?;
            let attributes = Attributes { set: NOSUID | NOEXEC, propagation: MS_PRIVATE, ..Attributes::default() };
            mount::set_attributes(&tree, "", false, attributes).map_err(call(format!("mount_setattr {path}")))?;
            devices.push((path, tree));
        }
        let mut services = Vec::new();
        for path in resolver(self.own_network).into_iter().chain(LOOKUP_SERVICES.map(PathBuf::from)) {
            let name = path.to_string_lossy().into_owned();
            match mount::clone_tree(standard_cwd(), &name, true) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => return Err(call(format!("open_tree {name}"))(errno)),
                Ok(tree) => {
                    let set = RDONLY | NOSUID | NODEV | NOEXEC;
                    let attributes = Attributes { set, propagation: MS_PRIVATE, ..Attributes::default() };
                    mount::set_attributes(&tree, "", true, attributes)
                        .map_err(call(format!("mount_setattr {name}")))?;
                    services.push((path, tree));
                }
            }
        }
        let agent = match user.agent {
            Some((agent, socket)) => Some((agent, agent::copy(socket)?)),
            None => None,
        };
        Ok(Kept { home, home_parent: user.home_parent, writable, devices, services, agent })
    }

    /// A small `/dev`: the nodes every program expects, a devpts of its own, what the profile lists.
    fn dev(&self, kept: &Kept, mqueue: &OwnedFd, pts: &OwnedFd, space: &Space) -> Result<(), Error> {
        let dev = tmpfs("755", NOSUID | NOEXEC)?;
        if self.mknod {
            for (name, major, minor) in NODES {
                mknodat(&dev, name, SFlag::S_IFCHR, mode(0o666), libc::makedev(major, minor))
                    .map_err(call(format!("mknod /dev/{name} c {major} {minor}")))?;
            }
        }
        for (name, target) in LINKS {
            nix::unistd::symlinkat(target, &dev, name).map_err(call(format!("symlink /dev/{name}")))?;
        }
        for folder in ["pts", "shm", "mqueue"] {
            mkdirat(&dev, folder, mode(0o755)).map_err(call(format!("mkdir /dev/{folder}")))?;
        }
        for (path, _) in &kept.devices {
            let name = Path::new(path).strip_prefix("/dev").unwrap_or(Path::new(path));
            if let Some(parent) = name.parent() {
                folders(&dev, parent)?;
            }
            empty_file(&dev, name)?;
        }
        attach(&dev, "/dev")?;
        attach(pts, "/dev/pts")?;
        attach(mqueue, "/dev/mqueue")?;
        attach(&space.shm, "/dev/shm")?;
        for (path, node) in &kept.devices {
            attach(node, path)?;
        }
        Ok(())
    }

    /// A `/run` of the user's own, with what look-ups need of the host's.
    fn run(&self, services: &[(PathBuf, OwnedFd)], owner: (u32, u32), space: &Space) -> Result<(), Error> {
        let run = &space.run;
        folders(run, Path::new("user"))?;
        let own = format!("user/{}", self.uid);
        mkdirat(run, own.as_str(), mode(0o700)).map_err(call("mkdir /run/user/UID"))?;
        mkdirat(run, "lock", mode(0o1777)).map_err(call("mkdir /run/lock"))?;
        let (uid, gid) = (nix::unistd::Uid::from_raw(owner.0), nix::unistd::Gid::from_raw(owner.1));
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(run, own.as_str(), Some(uid), Some(gid), flags).map_err(call("chown /run/user/UID"))?;
        for (path, service) in services {
            let name = path.strip_prefix("/run").unwrap_or(path);
            let stat = nix::sys::stat::fstat(service).map_err(call("fstat a service"))?;
            match stat.st_mode & libc::S_IFMT {
                libc::S_IFDIR => folders(run, name)?,
                _ => {
                    folders(run, name.parent().unwrap_or(Path::new("")))?;
                    empty_file(run, name)?;
                }
            }
        }
        attach(run, "/run")?;
        services.iter().try_for_each(|(path, service)| attach(service, path))?;
        if self.other_users { shadow(run, owner) } else { Ok(()) }
    }

    /// Hides all homes and puts the user's own back.
    fn homes(&self, kept: &Kept, space: &Space) -> Result<(), Error> {
        let own_mask = self.home_mask.as_deref().filter(|mask| !HOMES.iter().any(|h| Path::new(h) == *mask));
        for mask in HOMES.iter().map(Path::new).chain(own_mask) {
            let target = match (mount::openat2(standard_cwd(), mask, libc::O_PATH | libc::O_DIRECTORY, 0), mask) {
                (Ok(target), _) => target,
                (Err(Errno::ENOENT | Errno::ENOTDIR), _) => continue,
                // Below a mount that root may not enter (FUSE, root_squash): the user's own descriptor leads there.
                (Err(errno), mask) => match &kept.home_parent {
                    Some(parent) if Some(mask) == self.home_mask.as_deref() => {
                        parent.try_clone().map_err(|_| call("dup")(Errno::EMFILE))?
                    }
                    _ => return Err(call(format!("open {}", mask.display()))(errno)),
                },
            };
            let over = tmpfs("755", NOSUID | NODEV)?;
            let inside = self.home.strip_prefix(mask).ok().filter(|rest| !rest.as_os_str().is_empty());
            if let Some(rest) = inside {
                folders(&over, rest)?;
            }
            for (path, _, _) in &kept.writable {
                if let Ok(rest) = Path::new(path).strip_prefix(mask) {
                    if !Path::new(path).starts_with(&self.home) {
                        folders(&over, rest)?;
                    }
                }
            }
            mount::attach(&over, &target, "").map_err(call(format!("mount a mask on {}", mask.display())))?;
            if let Some(rest) = inside {
                let at = mount::openat2(&over, rest, libc::O_PATH, mount::RESOLVE_NO_SYMLINKS)
                    .map_err(call("open the home's place"))?;
                self.put_home(kept, &at, space)?;
            }
            let read_only = Attributes { set: RDONLY, ..Attributes::default() };
            mount::set_attributes(&over, "", false, read_only).map_err(call("make a mask read-only"))?;
        }
        if self.home_mask.is_none() {
            if let Some((_, at)) = &kept.home {
                return self.put_home(kept, at, space);
            }
        }
        Ok(())
    }

    fn put_home(&self, kept: &Kept, at: &OwnedFd, space: &Space) -> Result<(), Error> {
        match (&kept.home, self.home_mode) {
            (_, Home::Tmpfs) => mount::attach(&space.home, at, "").map_err(call("mount an empty home")),
            (Some((home, _)), _) => mount::attach(home, at, "").map_err(call("mount the home")),
            (None, _) => Ok(()),
        }
    }

    /// A writable path goes exactly onto what the user opened, unless that is laid over by now.
    fn put_writable(&self, path: &str, tree: &OwnedFd, at: &OwnedFd, home: Option<&OwnedFd>) -> Result<(), Error> {
        let failed = || call(format!("mount {path}"));
        let rest = Path::new(path).strip_prefix(&self.home).ok();
        if let (Some(rest), Some(home)) = (rest, home) {
            let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
            let inside = mount::openat2(home, rest, libc::O_PATH, mount::RESOLVE_NO_SYMLINKS).map_err(failed())?;
            return mount::attach(tree, inside, "").map_err(failed());
        }
        let fresh = ["/tmp", "/var/tmp", "/run", "/dev/shm"].into_iter().find(|top| Path::new(path).starts_with(top));
        if let Some(top) = fresh {
            let folder = mount::openat2(standard_cwd(), top, libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(failed())?;
            folders(&folder, Path::new(path).strip_prefix(top).unwrap_or(Path::new("")))?;
            return mount::attach(tree, standard_cwd(), path).map_err(failed());
        }
        let masks = HOMES.iter().map(Path::new).chain(self.home_mask.as_deref());
        if masks.into_iter().any(|mask| Path::new(path).starts_with(mask)) {
            return mount::attach(tree, standard_cwd(), path).map_err(failed());
        }
        mount::attach(tree, at, "").map_err(failed())
    }

    /// What the profile hides: an empty folder over a folder, an empty file over anything else.
    fn hide(&self) -> Result<(), Error> {
        if self.hide.is_empty() {
            return Ok(());
        }
        let void = tmpfs("755", NOSUID | NODEV | NOEXEC)?;
        mkdirat(&void, "folder", mode(0)).map_err(call("mkdir an empty folder"))?;
        empty_file(&void, Path::new("file"))?;
        attach(&void, "/tmp")?; // a copy can only be taken of what is attached
        for path in &self.hide {
            let target = match mount::openat2(standard_cwd(), path, libc::O_PATH, mount::RESOLVE_NO_MAGICLINKS) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                opened => opened.map_err(call(format!("open {path} to hide it")))?,
            };
            let stat = nix::sys::stat::fstat(&target).map_err(call(format!("fstat {path}")))?;
            let what = if stat.st_mode & libc::S_IFMT == libc::S_IFDIR { "folder" } else { "file" };
            let empty = mount::clone_tree(&void, what, false).map_err(call("open_tree an empty mask"))?;
            let attributes = Attributes { set: RDONLY, ..Attributes::default() };
            mount::set_attributes(&empty, "", false, attributes).map_err(call("make a mask read-only"))?;
            mount::attach(&empty, &target, "").map_err(call(format!("hide {path}")))?;
        }
        mount::detach("/tmp").map_err(call("umount the empty masks"))
    }
}

/// Lays a network's files over the machine's; one that the machine does not have is not missed.
fn put_names(names: &Names) -> Result<(), Error> {
    let files = tmpfs("755", NOSUID | NODEV | NOEXEC)?;
    attach(&files, "/dev/shm")?; // a copy can only be taken of what is attached
    for (path, text) in [("/etc/hosts", Some(&names.hosts)), ("/etc/resolv.conf", names.resolver.as_ref())] {
        let (Some(text), Some(name)) = (text, path.strip_prefix("/etc/")) else { continue };
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(&files, name, flags, mode(0o644)).map_err(call(format!("create {name}")))?;
        nix::unistd::write(&file, text.as_bytes()).map_err(call(format!("write {name}")))?;
        // umask
        nix::sys::stat::fchmod(&file, mode(0o644)).map_err(call(format!("chmod {name}")))?;
        let target = match mount::openat2(standard_cwd(), path, libc::O_PATH, mount::RESOLVE_NO_MAGICLINKS) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            opened => opened.map_err(call(format!("open {path}")))?,
        };
        let tree = mount::clone_tree(&files, name, false).map_err(call(format!("open_tree {name}")))?;
        let attributes = Attributes { set: RDONLY, ..Attributes::default() };
        mount::set_attributes(&tree, "", false, attributes).map_err(call(format!("mount_setattr {name}")))?;
        mount::attach(&tree, &target, "").map_err(call(format!("mount {path}")))?;
    }
    mount::detach("/dev/shm").map_err(call("umount a network's files"))
}

/// Copies taken before sealing: the tree, and the descriptor of the place it came from.
struct Kept {
    home: Option<(OwnedFd, OwnedFd)>,
    home_parent: Option<OwnedFd>,
    writable: Vec<(String, OwnedFd, OwnedFd)>,
    devices: Vec<(String, OwnedFd)>,
    services: Vec<(PathBuf, OwnedFd)>,
    agent: Option<(Agent, OwnedFd)>,
}

/// A shadow file in which every local account exists and has no password: pam_unix asks it whether an account is
/// expired, and the host's belongs to a root that is not mapped.
fn shadow(run: &OwnedFd, owner: (u32, u32)) -> Result<(), Error> {
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(|e| crate::hygiene::io("read /etc/passwd", &e))?;
    let names = passwd.lines().filter_map(|line| line.split(':').next()).filter(|name| !name.is_empty());
    let text: String = names.map(|name| format!("{name}:*:19000:0:99999:7:::\n")).collect();
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(run, "shadow", flags, mode(0o600)).map_err(call("create a shadow file"))?;
    let (uid, gid) = (nix::unistd::Uid::from_raw(owner.0), nix::unistd::Gid::from_raw(owner.1));
    nix::unistd::fchown(&file, Some(uid), Some(gid)).map_err(call("chown a shadow file"))?;
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(|e| crate::hygiene::io("write a shadow file", &e))?;
    let tree = mount::clone_tree(standard_cwd(), "/run/shadow", false).map_err(call("open_tree a shadow file"))?;
    match mount::attach(&tree, standard_cwd(), "/etc/shadow") {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(call("mount /etc/shadow")(errno)),
    }
    nix::unistd::unlinkat(run, "shadow", nix::unistd::UnlinkatFlags::NoRemoveDir).map_err(call("unlink a shadow file"))
}

/// Nothing goes out, everything is read-only and without setuid.
fn seal() -> Result<(), Error> {
    let attributes = Attributes { set: RDONLY | NOSUID, propagation: MS_SLAVE, ..Attributes::default() };
    mount::set_attributes(standard_cwd(), "/", true, attributes)
        .map_err(call("mount_setattr / (read-only, nosuid, slave)"))
}

/// Whether this folder, as passwd(5) names it for somebody's home, holds one that every session has its own of: `/` itself
/// for many accounts of services. Mounted as a home it would bring in what is laid over.
pub fn is_laid_over(home: &OwnedFd) -> Result<bool, Errno> {
    let own = nix::sys::stat::fstat(home)?;
    let laid = REPLACED.iter().chain(&HOMES).chain(&["/var/tmp"]);
    for path in laid.flat_map(|path| Path::new(path).ancestors()) {
        match nix::sys::stat::stat(path) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == (own.st_dev, own.st_ino) => return Ok(true),
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(false)
}

/// The folder of homes around a home: `/home` for anything below it, else the parent, where that holds homes only.
fn home_mask(home: &Path) -> Option<PathBuf> {
    if !home.is_absolute() || home.components().any(|c| c == std::path::Component::ParentDir) {
        return None;
    }
    if let Some(known) = HOMES.iter().map(Path::new).find(|top| home.starts_with(top) && home != *top) {
        return Some(known.into());
    }
    let parent = home.parent()?;
    let shared = SHARED_PARENTS.iter().any(|top| Path::new(top) == parent);
    if shared { None } else { Some(parent.into()) }
}

/// The part of /run that `/etc/resolv.conf` points into: its folder, so that a replaced file is seen. In a network of the
/// session's own the file alone: systemd-resolved's socket beside it asks the machine's network for anybody.
fn resolver(own_network: bool) -> Option<PathBuf> {
    let link = readlink("/etc/resolv.conf").ok()?;
    let mut target = PathBuf::from("/");
    for part in Path::new("/etc").join(PathBuf::from(link)).components() {
        match part {
            std::path::Component::ParentDir => drop(target.pop()),
            std::path::Component::Normal(name) => target.push(name),
            _ => {}
        }
    }
    let target = match target.strip_prefix("/var/run") {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => target,
    };
    let parent = target.parent()?;
    if !target.starts_with("/run") {
        None
    } else if own_network || parent == Path::new("/run") {
        Some(target)
    } else {
        Some(parent.into())
    }
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits)
}

fn attach(tree: &OwnedFd, path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    mount::attach(tree, standard_cwd(), path).map_err(call(format!("mount {}", path.display())))
}

/// Of root's alone: nobody in the session can write to it.
fn tmpfs(mode: &str, attributes: u64) -> Result<OwnedFd, Error> {
    mount::new_filesystem("tmpfs", &[("mode", mode)], attributes).map_err(call("new tmpfs"))
}

/// The one file system that everything lies in which a session writes into memory: `/tmp`, `/var/tmp`, `/dev/shm`, `/run`
/// and a home that is forgotten. So there is one size for all of it: the profile's, or the kernel's own, half of memory
/// (tmpfs(5)), which one of each would be five times.
struct Space {
    tmp: OwnedFd,
    var_tmp: OwnedFd,
    shm: OwnedFd,
    run: OwnedFd,
    home: OwnedFd,
}

impl Space {
    /// Its folders, each a detached mount. The user owns `run` and `home`.
    fn new(size: Option<u64>, owner: (u32, u32)) -> Result<Self, Error> {
        let bytes = size.map(|size| size.to_string());
        // As many files as the kernel would allow for that size.
        let files = size.map(|size| (size / 4096).to_string());
        let mut options = vec![("mode", "755")];
        options.extend(bytes.iter().map(|bytes| ("size", bytes.as_str())));
        options.extend(files.iter().map(|files| ("nr_inodes", files.as_str())));
        let top = mount::new_filesystem("tmpfs", &options, NOSUID | NODEV).map_err(call("new tmpfs"))?;
        attach(&top, "/tmp")?; // a copy can only be taken of what is attached
        let folder = |name: &str, bits: u32, owner: (u32, u32)| {
            mkdirat(&top, name, mode(bits)).map_err(call(format!("mkdir {name}")))?;
            let (uid, gid) = (nix::unistd::Uid::from_raw(owner.0), nix::unistd::Gid::from_raw(owner.1));
            let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
            nix::unistd::fchownat(&top, name, Some(uid), Some(gid), flags).map_err(call(format!("chown {name}")))?;
            mount::clone_tree(&top, name, false).map_err(call(format!("open_tree {name}")))
        };
        let space = Self {
            tmp: folder("tmp", 0o1777, (0, 0))?,
            var_tmp: folder("var", 0o1777, (0, 0))?,
            shm: folder("shm", 0o1777, (0, 0))?,
            run: folder("run", 0o755, owner)?,
            home: folder("home", 0o700, owner)?,
        };
        mount::detach("/tmp").map_err(call("umount what a session writes"))?;
        Ok(space)
    }
}

/// Makes a chain of folders inside a tree that only we have built.
fn folders(top: impl AsFd, path: &Path) -> Result<(), Error> {
    let mut so_far = PathBuf::new();
    for part in path.components() {
        so_far.push(part);
        match mkdirat(&top, &so_far, mode(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(call(format!("mkdir {}", so_far.display()))(errno)),
        }
    }
    Ok(())
}

fn empty_file(top: &OwnedFd, path: &Path) -> Result<(), Error> {
    let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::openat(top, path, flags, mode(0)).map(drop).map_err(call(format!("create {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_homes_are_hidden_wherever_homes_are() {
        let mask = |home: &str| home_mask(Path::new(home)).map(|p| p.to_string_lossy().into_owned());
        assert_eq!(mask("/home/alice").as_deref(), Some("/home"));
        assert_eq!(mask("/home/students/a/alice").as_deref(), Some("/home"));
        assert_eq!(mask("/data/homes/alice").as_deref(), Some("/data/homes"));
        assert_eq!(mask("/var/lib/gitolite"), None);
        assert_eq!(mask("/alice"), None);
        assert_eq!(mask("/"), None);
        assert_eq!(mask("relative"), None);
        assert_eq!(mask("/home/../etc"), None);
    }
}
