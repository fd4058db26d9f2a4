"""Single calls for lab/eperm.tsv, by libc's own functions where it has one: python3 -I eperm.py NAME [ARG]."""
import ctypes
import os
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
# Numbers of calls that libc has no function for: x86_64, aarch64.
ARM = os.uname().machine == "aarch64"
NUMBER = {name: pair[ARM] for name, pair in {
    "pivot_root": (155, 41), "perf_event_open": (298, 241), "bpf": (321, 280), "userfaultfd": (323, 282),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "migrate_pages": (256, 238), "kexec_load": (246, 104),
    "finit_module": (313, 273), "sched_setattr": (314, 274), "keyctl": (250, 219), "quotactl": (179, 60),
    "ioprio_set": (251, 30), "fcntl": (72, 25), "settimeofday": (164, 170)}.items()}
NULL = ctypes.c_void_p(0)


def call(function, *args):
    result = function(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    print(result, os.strerror(ctypes.get_errno()))


def raw(name, *args):
    call(libc.syscall, NUMBER[name], *args)


def setsockopt(level, option, value):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).setsockopt(level, option, value)


def netlink(protocol, kind, flags=5):
    """One message without a body, and the kernel's answer."""
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    s.sendto(struct.pack("=IHHII", 20, kind, flags, 1, 0) + b"\0\0\0\0", (0, 0))
    print(s.recv(4096)[:20])


def taskstats():
    """Asks the family's number by its name, then for this process's figures."""
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
    name = b"TASKSTATS\0"
    attribute = struct.pack("=HH", 4 + len(name), 2) + name + b"\0\0"
    body = struct.pack("=BBH", 3, 1, 0) + attribute
    s.sendto(struct.pack("=IHHII", 16 + len(body), 16, 1, 1, 0) + body, (0, 0))
    answer = s.recv(4096)
    at = 20
    while at < len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == 1:
            family = struct.unpack_from("=H", answer, at + 4)[0]
        at += (length + 3) & ~3
    body = struct.pack("=BBH", 1, 1, 0) + struct.pack("=HHI", 8, 1, os.getpid())
    s.sendto(struct.pack("=IHHII", 16 + len(body), family, 5, 2, 0) + body, (0, 0))
    print(s.recv(4096)[:20])


def memory(pid):
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    own = ctypes.create_string_buffer(8)
    one, other = Vector(ctypes.addressof(own), 8), Vector(4096, 8)
    call(libc.process_vm_readv, int(pid), ctypes.byref(one), 1, ctypes.byref(other), 1, 0)


def user_map():
    """A child in a user namespace of its own, whose map is to hold ids of others."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        libc.unshare(0x10000000)
        os.write(write, b"x")
        import time
        time.sleep(2)
        os._exit(0)
    os.read(read, 1)
    try:
        with open(f"/proc/{child}/uid_map", "w") as file:
            file.write("0 493216 10")
    finally:
        os.kill(child, 9)


def credentials():
    a, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("=iII", 1, 0, 0))])


def own_network(path):
    libc.setns(os.open(path, os.O_RDONLY), 0x40000000)


def perf(cpu_wide):
    # struct perf_event_attr: PERF_TYPE_SOFTWARE, its size, PERF_COUNT_SW_CPU_CLOCK; exclude_user for the kernel's side.
    attr = struct.pack("=IIQQQQQ", 1, 64, 0, 0, 0, 0, 0 if cpu_wide else 1 << 4) + bytes(16)
    raw("perf_event_open", ctypes.create_string_buffer(attr), -1 if cpu_wide else 0, 0 if cpu_wide else -1, -1, 0)


def load_program(kind):
    # struct bpf_attr: the type, two instructions (r0 = 0; exit), the license.
    code = ctypes.create_string_buffer(bytes.fromhex("b7000000000000009500000000000000"))
    license = ctypes.create_string_buffer(b"GPL")
    attr = struct.pack("=IIQQIIQII", kind, 2, ctypes.addressof(code), ctypes.addressof(license), 0, 0, 0, 0, 0)
    raw("bpf", 5, ctypes.create_string_buffer(attr.ljust(128, b"\0")), 128)


buffer = ctypes.create_string_buffer(256)
now = struct.pack("=qq", 1700000000, 0)
CALLS = {
    "settimeofday": lambda: raw("settimeofday", ctypes.create_string_buffer(now), NULL),
    "so_priority": lambda: setsockopt(1, 12, 7),
    "so_rcvbufforce": lambda: setsockopt(1, 33, 1 << 20),
    "so_mark": lambda: setsockopt(1, 36, 1),
    "taskstats": taskstats,
    "audit": lambda: netlink(9, 1107),
    "bind": lambda port: socket.socket().bind(("127.0.0.1", int(port))),
    "connect": lambda path: socket.socket(socket.AF_UNIX).connect(path),
    "mount_fuse": lambda: call(libc.mount, b"x", b"/mnt", b"fuse", 0, b"fd=3,rootmode=40000,user_id=0,group_id=0"),
    "mount": lambda kind: call(libc.mount, b"none", b"/mnt", kind.encode(), 0, NULL),
    "umount": lambda path: call(libc.umount2, path.encode(), 0),
    "fitrim": lambda: call(libc.ioctl, os.open("/", os.O_RDONLY), 0xC0185879, buffer),
    "setxattr": lambda path, name: os.setxattr(path, name, b"x"),
    "acl": lambda path: os.setxattr(path, "system.posix_acl_access", bytes.fromhex(
        "0200000001000600ffffffff02000400dd05000004000400ffffffff10000400ffffffff20000400ffffffff")),
    "noatime": lambda path: os.open(path, os.O_RDONLY | os.O_NOATIME),
    "pivot_root": lambda: raw("pivot_root", b"/", b"/"),
    "swapon": lambda path: call(libc.swapon, path.encode(), 0),
    "quota": lambda: raw("quotactl", 0x800007 << 8, b"/dev/loop0", 0, buffer),
    "lease": lambda path: raw("fcntl", os.open(path, os.O_RDONLY), 1024, 0),
    "fanotify": lambda: call(libc.fanotify_init, 4, 0),
    "deadline": lambda: raw("sched_setattr", 0, ctypes.create_string_buffer(
        struct.pack("=IIQiIQQQ", 48, 6, 0, 0, 0, 10**7, 10**8, 10**8)), 0),
    "vm_read": memory,
    "pidfd_getfd": lambda pid: raw("pidfd_getfd", libc.syscall(NUMBER["pidfd_open"], int(pid), 0), 0, 0),
    "migrate_pages": lambda pid: raw("migrate_pages", int(pid), 64, ctypes.byref(ctypes.c_ulong(1)),
                                     ctypes.byref(ctypes.c_ulong(1))),
    "perf_cpu": lambda: perf(True),
    "perf_kernel": lambda: perf(False),
    "bpf_load": lambda: load_program(2),
    "bpf_ids": lambda: raw("bpf", 11, ctypes.create_string_buffer(128), 128),
    "setns": own_network,
    "user_map": user_map,
    "setuid": lambda: call(libc.setuid, 0),
    "setgroups": lambda: os.setgroups([0]),
    "oom": lambda: open("/proc/self/oom_score_adj", "w", buffering=1).write("-500\n"),
    "mlockall": lambda: call(libc.mlockall, 1),
    "huge": lambda: call(libc.shmget, 0, 2 << 20, 0o4000 | 0o1000 | 0o600),
    "kexec": lambda: raw("kexec_load", 0, 0, NULL, 0),
    "module": lambda: raw("finit_module", os.open("/dev/null", os.O_RDONLY), b"", 0),
    "acct": lambda path: call(libc.acct, path.encode()),
    "ioperm": lambda: call(libc.ioperm, 0x70, 2, 1),
    "key_chown": lambda: (raw("keyctl", 1, NULL), raw("keyctl", 4, -3, 0, -1)),
    "userfaultfd": lambda: raw("userfaultfd", 0),
    "alarm": lambda: call(libc.timerfd_create, 9, 0),
    "queue": lambda key: call(libc.msgctl, libc.msgget(int(key, 16), 0), 0, NULL),
    "bounding": lambda: call(libc.prctl, 24, 0, 0, 0, 0),
    "set_mm": lambda: call(libc.prctl, 35, 1, 4096, 0, 0),
    "last_pid": lambda: open("/proc/sys/kernel/ns_last_pid", "w", buffering=1).write("100\n"),
    "credentials": credentials,
}

CALLS[sys.argv[1]](*sys.argv[2:])
