//! The numbers of the calls that a session's filter knows, in the four tables that a program of ours may meet.
//! Sources: `arch/*/syscall*.tbl` and `include/uapi/asm-generic/unistd.h` of Linux 6.18.

/// No such call in that table: above every number that there is, and below x32's.
pub const NONE: u32 = 0x3fff_ffff;

/// x86_64, i386, aarch64, arm.
pub type Numbers = [u32; 4];

/// In the order of `caplet_policy::syscalls::GATES`; the filter does not build where a name differs.
#[rustfmt::skip]
pub const NUMBERS: [(&str, Numbers); 41] = [
    ("unshare", [272, 310, 97, 337]),
    ("clone", [56, 120, 220, 120]),
    ("clone3", [435, 435, 435, 435]),
    ("setns", [308, 346, 268, 375]),
    ("mount", [165, 21, 40, 21]),
    ("umount2", [166, 52, 39, 52]),
    ("pivot_root", [155, 217, 41, 218]),
    ("move_mount", [429, 429, 429, 429]),
    ("open_tree", [428, 428, 428, 428]),
    ("open_tree_attr", [467, 467, 467, 467]),
    ("fsopen", [430, 430, 430, 430]),
    ("fsconfig", [431, 431, 431, 431]),
    ("fsmount", [432, 432, 432, 432]),
    ("fspick", [433, 433, 433, 433]),
    ("mount_setattr", [442, 442, 442, 442]),
    ("init_module", [175, 128, 105, 128]),
    ("finit_module", [313, 350, 273, 379]),
    ("delete_module", [176, 129, 106, 129]),
    ("kexec_load", [246, 283, 104, 347]),
    ("kexec_file_load", [320, NONE, 294, 401]),
    ("swapon", [167, 87, 224, 87]),
    ("swapoff", [168, 115, 225, 115]),
    ("reboot", [169, 88, 142, 88]),
    ("acct", [163, 51, 89, 51]),
    ("iopl", [172, 110, NONE, NONE]),
    ("ioperm", [173, 101, NONE, NONE]),
    ("settimeofday", [164, 79, 170, 79]),
    ("stime", [NONE, 25, NONE, NONE]),
    ("clock_settime", [227, 264, 112, 262]),
    ("open_by_handle_at", [304, 342, 265, 371]),
    ("bpf", [321, 357, 280, 386]),
    ("userfaultfd", [323, 374, 282, 388]),
    ("io_uring_setup", [425, 425, 425, 425]),
    ("io_uring_enter", [426, 426, 426, 426]),
    ("io_uring_register", [427, 427, 427, 427]),
    ("lookup_dcookie", [212, 253, 18, 249]),
    ("uselib", [134, 86, NONE, 86]),
    ("socket", [41, 359, 198, 281]),
    ("socketcall", [NONE, 102, NONE, NONE]),
    ("umount", [NONE, 22, NONE, NONE]),
    ("clock_settime64", [NONE, 404, NONE, 404]),
];
