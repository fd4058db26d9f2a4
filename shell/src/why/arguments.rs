//! What a call's arguments point to, read from the memory of the process that made it.

use super::calls::At;
use super::object::{self, Object, Want, Who};
use caplet_trace as trace;

/// What the call was about.
pub fn object(pid: i32, name: &str, at: At, args: &[u64; 6], who: &Who) -> Object {
    let arg = |n: u8| args[usize::from(n)];
    match at {
        At::Nothing => Object::Nothing,
        At::File(n) => Object::File(object::open_file(pid, arg(n) as i32)),
        At::Path(n) => path(pid, name, None, arg(n), args, who),
        At::Folder(folder, n) => path(pid, name, Some(arg(folder) as i32), arg(n), args, who),
        At::Process(n) => {
            let number = (arg(n) as i32).unsigned_abs() as i32;
            let of = if number == 0 { pid } else { number };
            let uid = Who::of(of).map(|other| other.uid);
            Object::Process { pid: of, uid }
        }
        At::Address(n, length) => {
            let bytes = trace::read(pid, arg(n), (arg(length) as usize).min(128));
            // net/unix/af_unix.c: a socket is written to by who connects, and is an entry of its folder.
            let want = if name == "bind" { Want::Entry } else { Want::Open(2) };
            match object::socket_path(&bytes) {
                Some(path) => Object::File(object::look(&object::base(pid, None, &path), &path, want, who)),
                None => object::address(&bytes),
            }
        }
        At::Text(n) => Object::Text(text_at(pid, arg(n))),
    }
}

fn path(pid: i32, name: &str, folder: Option<i32>, at: u64, args: &[u64; 6], who: &Who) -> Object {
    let path = text_at(pid, at);
    if let (Some(number), true) = (folder.filter(|number| *number >= 0), path.is_empty()) {
        return Object::File(object::open_file(pid, number));
    }
    let file = object::look(&object::base(pid, folder, &path), &path, want(pid, name, args), who);
    // Where the first path is free, it is the second that is refused.
    let second = match name {
        "rename" | "link" => Some((None, args[1])),
        "renameat" | "renameat2" | "linkat" => Some((Some(args[2] as i32), args[3])),
        _ => None,
    };
    if let Some((folder, at)) = second.filter(|_| file.obstacle.is_none()) {
        let path = text_at(pid, at);
        let other = object::look(&object::base(pid, folder, &path), &path, Want::Entry, who);
        if other.obstacle.is_some() {
            return Object::File(other);
        }
    }
    Object::File(file)
}

/// Whether a connect(2) was to D-Bus, where services do what no call of the program's own does.
pub fn is_system_bus(pid: i32, args: &[u64; 6]) -> bool {
    let bytes = trace::read(pid, args[1], (args[2] as usize).min(128));
    let path = object::socket_path(&bytes).unwrap_or_default();
    path.ends_with("/dbus/system_bus_socket") || path == "/run/systemd/private"
}

/// clone3(2) has its flags in memory: they stand first, as in clone(2).
pub fn flat(pid: i32, name: &str, mut args: [u64; 6]) -> [u64; 6] {
    if name == "clone3" {
        args[0] = trace::read(pid, args[0], 8).try_into().map_or(0, u64::from_ne_bytes);
    }
    args
}

/// The `struct ucred` that sendmsg(2) sends along, from a `struct msghdr`; empty: none.
pub fn credentials(pid: i32, at: u64) -> Vec<u8> {
    let word = |bytes: &[u8], at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    let header = trace::read(pid, at, 56);
    let (Some(control), Some(length)) = (word(&header, 32), word(&header, 40)) else { return Vec::new() };
    let bytes = trace::read(pid, control, (length as usize).min(4096));
    let mut rest = &bytes[..];
    // struct cmsghdr: length, level, type; SOL_SOCKET, SCM_CREDENTIALS.
    while let (Some(length), Some(kind)) = (word(rest, 0), word(rest, 8)) {
        if kind == 1 | 2 << 32 {
            return rest.get(16..28).unwrap_or_default().to_vec();
        }
        rest = rest.get((length as usize).max(16).next_multiple_of(8)..).unwrap_or_default();
    }
    Vec::new()
}

/// What the program wants of the path.
fn want(pid: i32, name: &str, args: &[u64; 6]) -> Want {
    let flags = match name {
        "open" => args[1],
        "openat" => args[2],
        "creat" => (libc::O_CREAT | libc::O_WRONLY) as u64,
        "openat2" => {
            let how = trace::read(pid, args[2], 8);
            how.try_into().map_or(0, u64::from_ne_bytes)
        }
        "execve" | "execveat" | "chdir" | "chroot" => return Want::Open(1),
        "truncate" => return Want::Open(2),
        "swapon" | "swapoff" => return Want::Open(6),
        "mkdir" | "mkdirat" | "rmdir" | "unlink" | "unlinkat" | "rename" | "renameat" | "renameat2" | "symlink"
        | "symlinkat" | "mknod" | "mknodat" => return Want::Entry,
        // access(2) asks of the real ids; here they are the others' too.
        "access" => return Want::Open(args[1] as u32 & 7),
        "faccessat" | "faccessat2" => return Want::Open(args[2] as u32 & 7),
        _ => return Want::Reach,
    } as i32;
    let bits = match flags & libc::O_ACCMODE {
        libc::O_RDONLY if flags & libc::O_TRUNC != 0 => 6,
        libc::O_RDONLY => 4,
        libc::O_WRONLY => 2,
        _ => 6,
    };
    if flags & libc::O_CREAT != 0 { Want::Make(bits) } else { Want::Open(bits) }
}

/// What a socket has received: behind a `struct msghdr`, or a buffer itself.
pub fn received(pid: i32, is_message: bool, at: u64, length: usize) -> Vec<u8> {
    let length = length.min(64 << 10);
    if !is_message {
        return trace::read(pid, at, length);
    }
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
    let header = trace::read(pid, at, 32);
    let vector = trace::read(pid, word(&header, 16), 16);
    trace::read(pid, word(&vector, 0), length.min(word(&vector, 8) as usize))
}

/// What writev(2) writes, at most so much of it.
pub fn gathered(pid: i32, at: u64, count: usize, most: usize) -> Vec<u8> {
    let vectors = trace::read(pid, at, 16 * count.min(16));
    let mut bytes = Vec::new();
    for vector in vectors.chunks_exact(16) {
        let word = |at: usize| vector[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
        let left = most - bytes.len();
        bytes.extend(trace::read(pid, word(0), (word(8) as usize).min(left)));
    }
    bytes
}

/// A text that ends with a NUL.
pub fn text_at(pid: i32, at: u64) -> String {
    let bytes = if at == 0 { Vec::new() } else { trace::read(pid, at, 4096) };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
