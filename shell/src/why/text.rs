//! A call as a person reads it: with the arguments that matter, by the names of the manual pages.

use super::object::Object;

pub fn call(name: &str, args: &[u64; 6], object: &Object) -> String {
    let word = |n: usize| args[n] as u32;
    let inner = match (name, object) {
        (_, Object::Port(port)) => format!("port {port}"),
        ("prlimit64" | "setrlimit", _) => limit(word(usize::from(name == "prlimit64"))).to_owned(),
        ("unshare" | "clone" | "clone3", _) => namespaces(word(0)),
        (_, Object::Process { pid, .. }) => format!("process {pid}"),
        (_, Object::Text(text)) => text.clone(),
        ("clock_settime" | "clock_adjtime", _) if word(0) == 0 => "CLOCK_REALTIME".into(),
        ("timerfd_create" | "timer_create", _) => {
            if word(0) == 8 { "CLOCK_REALTIME_ALARM" } else { "CLOCK_BOOTTIME_ALARM" }.into()
        }
        ("socket", _) => format!("{}, {}", family(word(0)), kind(word(1))),
        ("ioctl", _) => request(word(1)).map_or_else(|| format!("{:#x}", word(1)), str::to_owned),
        ("setsockopt", _) if word(1) == 1 && option(word(2)).is_some() => {
            option(word(2)).unwrap_or_default().to_owned()
        }
        ("setsockopt" | "getsockopt", _) => format!("level {}, option {}", word(1), word(2)),
        ("setpriority", _) => (word(2) as i32).to_string(),
        ("setuid" | "setgid", _) => word(0).to_string(),
        ("prctl" | "bpf" | "keyctl" | "fcntl", _) => format!("operation {}", word(usize::from(name == "fcntl"))),
        (_, Object::File(file)) if !file.shown.is_empty() => format!("\"{}\"", file.shown),
        _ => String::new(),
    };
    format!("{name}({inner})")
}

/// asm-generic/resource.h
fn limit(number: u32) -> &'static str {
    const NAMES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    NAMES.get(number as usize).copied().unwrap_or("a limit")
}

/// linux/sched.h
fn namespaces(flags: u32) -> String {
    let names = [
        (0x80, "NEWTIME"),
        (0x0002_0000, "NEWNS"),
        (0x0200_0000, "NEWCGROUP"),
        (0x0400_0000, "NEWUTS"),
        (0x0800_0000, "NEWIPC"),
        (0x1000_0000, "NEWUSER"),
        (0x2000_0000, "NEWPID"),
        (0x4000_0000, "NEWNET"),
    ];
    let set = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| format!("CLONE_{name}"));
    set.collect::<Vec<_>>().join("|")
}

/// asm-generic/socket.h
fn option(number: u32) -> Option<&'static str> {
    Some(match number {
        1 => "SO_DEBUG",
        12 => "SO_PRIORITY",
        25 => "SO_BINDTODEVICE",
        32 => "SO_SNDBUFFORCE",
        33 => "SO_RCVBUFFORCE",
        36 => "SO_MARK",
        46 => "SO_BUSY_POLL",
        _ => return None,
    })
}

fn family(number: u32) -> String {
    match number {
        2 => "AF_INET".into(),
        10 => "AF_INET6".into(),
        15 => "AF_KEY".into(),
        16 => "AF_NETLINK".into(),
        17 => "AF_PACKET".into(),
        44 => "AF_XDP".into(),
        other => other.to_string(),
    }
}

fn kind(number: u32) -> &'static str {
    match number & 0xf {
        1 => "SOCK_STREAM",
        2 => "SOCK_DGRAM",
        3 => "SOCK_RAW",
        _ => "another type",
    }
}

/// linux/sockios.h and others.
fn request(number: u32) -> Option<&'static str> {
    Some(match number {
        1 => "FIBMAP",
        0x5412 => "TIOCSTI",
        0x541d => "TIOCCONS",
        0x4004_54ca => "TUNSETIFF",
        0x4024_700a => "RTC_SET_TIME",
        0x4008_6602 => "FS_IOC_SETFLAGS",
        0x401c_5820 => "FS_IOC_FSSETXATTR",
        0xc018_5879 => "FITRIM",
        0xc004_5877 => "FIFREEZE",
        0x890b => "SIOCADDRT",
        0x890c => "SIOCDELRT",
        0x8914 => "SIOCSIFFLAGS",
        0x8916 => "SIOCSIFADDR",
        0x891c => "SIOCSIFNETMASK",
        0x8922 => "SIOCSIFMTU",
        0x8923 => "SIOCSIFNAME",
        0x8924 => "SIOCSIFHWADDR",
        0x8946 => "SIOCETHTOOL",
        0x8953 => "SIOCDARP",
        0x8955 => "SIOCSARP",
        0x89a0 => "SIOCBRADDBR",
        0x89a1 => "SIOCBRDELBR",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_shown_by_their_names() {
        for (name, args, object, wanted) in [
            ("clock_settime", [0, 9, 0, 0, 0, 0], Object::Nothing, "clock_settime(CLOCK_REALTIME)"),
            ("ioctl", [3, 0x890b, 9, 0, 0, 0], Object::Nothing, "ioctl(SIOCADDRT)"),
            ("socket", [17, 0x80003, 0, 0, 0, 0], Object::Nothing, "socket(AF_PACKET, SOCK_RAW)"),
            ("bind", [3, 9, 16, 0, 0, 0], Object::Port(80), "bind(port 80)"),
            ("mount", [0; 6], Object::Text("tmpfs".into()), "mount(tmpfs)"),
            ("setpriority", [0, 0, -5i64 as u64, 0, 0, 0], Object::Nothing, "setpriority(-5)"),
            ("swapon", [0; 6], Object::Nothing, "swapon()"),
        ] {
            assert_eq!(call(name, &args, &object), wanted);
        }
    }
}
