//! Where the process begins: `main` as the C library calls it. Rust's own start would read `/proc/self/maps`, set up
//! a signal stack and look at descriptors before the first step of ours; hygiene wants that order for itself.

use std::ffi::{c_char, c_int};

/// The C library's `main`. Arguments are read later, from the copy that the standard library keeps on this platform.
// SAFETY: the one definition of `main` in this program, with the type that the C library calls.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    open_standard();
    own_name();
    crate::start()
}

unsafe extern "C" {
    static mut program_invocation_name: *const c_char;
    static mut program_invocation_short_name: *const c_char;
}

/// What syslog(3) in NSS and PAM modules puts before their lines is the start of `argv[0]`, which is the caller's to
/// choose: a name of our own takes its place.
fn own_name() {
    // SAFETY: one thread; two pointers of the C library's, which it only reads, to a constant string.
    unsafe {
        program_invocation_name = c"caplet-helper".as_ptr();
        program_invocation_short_name = c"caplet-helper".as_ptr();
    }
}

/// Opens `/dev/null` where one of 0 to 2 is closed, so that no file of ours ever lands there.
fn open_standard() {
    for number in 0..3 {
        // SAFETY: plain numbers and a constant string; the lowest free number is the closed one.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) == -1 && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) != number {
                libc::_exit(crate::error::OURS);
            }
        }
    }
}
