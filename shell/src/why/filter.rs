//! The filter that stops a command before the calls of `calls`, and before no other: seccomp(2), SECCOMP_RET_TRACE. The
//! kernel remembers which calls always pass, and does not run it for them.

use super::calls::{CALLS, Trap};
use super::walks;
use seccompiler::{BpfProgram, sock_filter};

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const XOR: u16 = 0xa4; // BPF_ALU | BPF_XOR | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const NUMBER: u32 = 0; // offsets in struct seccomp_data
const ARCH: u32 = 4;
const ALLOW: u32 = 0x7fff_0000;
const TRACE: u32 = 0x7ff0_0000;

/// AUDIT_ARCH of this program's own table; programs of another (32-bit ones) run unwatched.
#[cfg(target_arch = "x86_64")]
pub const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub const NATIVE: u32 = 0xc000_00b7;

fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The low half of an argument.
fn argument(number: u8) -> sock_filter {
    step(LOAD, 16 + 8 * u32::from(number), 0, 0)
}

/// The whole program.
pub fn program() -> BpfProgram {
    let mut program =
        vec![step(LOAD, ARCH, 0, 0), step(EQUAL, NATIVE, 1, 0), step(RETURN, ALLOW, 0, 0), step(LOAD, NUMBER, 0, 0)];
    let messages = walks::MESSAGES.map(|number| (number, Trap::Values(0, &[walks::STANDARD_ERROR])));
    for (number, trap) in CALLS.iter().map(|call| (call.number, call.trap)).chain(messages) {
        let mut tests = Vec::new();
        match trap {
            Trap::Always => {}
            Trap::Values(arg, values) => {
                tests.push(argument(arg));
                tests.extend(values.iter().map(|value| step(EQUAL, *value, 0, 0)));
            }
            Trap::Bits(arg, bits) => tests.extend([argument(arg), step(ANY_BIT, bits, 0, 0)]),
            Trap::Unless(arg, value) => {
                // What differs has a bit left.
                tests.extend([argument(arg), step(XOR, value, 0, 0), step(ANY_BIT, u32::MAX, 0, 0)]);
                tests.extend([argument(0), step(EQUAL, libc::AT_FDCWD as u32, 0, 0)]);
            }
            Trap::Requests(types, singles) => {
                tests.push(argument(1));
                tests.extend(singles.iter().map(|value| step(EQUAL, *value, 0, 0)));
                tests.push(step(AND, 0xff00, 0, 0));
                tests.extend(types.iter().map(|byte| step(EQUAL, u32::from(*byte) << 8, 0, 0)));
            }
        }
        if !tests.is_empty() {
            // Each test that holds jumps over the rest and the ALLOW.
            let end = tests.len();
            for (at, test) in tests.iter_mut().enumerate().filter(|(_, t)| t.code == EQUAL || t.code == ANY_BIT) {
                test.jt = (end - at) as u8;
            }
            tests.push(step(RETURN, ALLOW, 0, 0));
        }
        tests.push(step(RETURN, TRACE, 0, 0));
        program.push(step(EQUAL, number as u32, 0, tests.len() as u8));
        program.extend(tests);
    }
    program.push(step(RETURN, ALLOW, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would make of it.
    fn verdict(arch: u32, number: libc::c_long, args: [u32; 6]) -> u32 {
        let program = program();
        let (mut at, mut value) = (0, 0u32);
        loop {
            let step = &program[at];
            let taken = match step.code {
                LOAD => {
                    value = match step.k {
                        NUMBER => number as u32,
                        ARCH => arch,
                        offset => args[(offset as usize - 16) / 8],
                    };
                    0
                }
                EQUAL => {
                    if value == step.k {
                        step.jt
                    } else {
                        step.jf
                    }
                }
                ANY_BIT => {
                    if value & step.k != 0 {
                        step.jt
                    } else {
                        step.jf
                    }
                }
                XOR => {
                    value ^= step.k;
                    0
                }
                AND => {
                    value &= step.k;
                    0
                }
                _ => return step.k,
            };
            at += 1 + usize::from(taken);
        }
    }

    #[test]
    fn it_stops_where_a_refusal_is_possible_and_nowhere_else() {
        let of = |number, arg: usize, value| {
            let mut args = [0; 6];
            args[arg] = value;
            verdict(NATIVE, number, args) == TRACE
        };
        for (number, arg, value, stops) in [
            (libc::SYS_openat, 0, 0, true),
            (libc::SYS_read, 0, 0, false),
            (libc::SYS_write, 0, 1, false),
            (libc::SYS_write, 0, 2, true),
            (libc::SYS_openat, 2, walks::FLAGS, false),
            (libc::SYS_openat, 2, walks::FLAGS ^ 1, true),
            (libc::SYS_newfstatat, 0, 0, false),
            (libc::SYS_getdents64, 0, 0, false),
            (libc::SYS_clock_settime, 0, 0, true),
            (libc::SYS_fcntl, 1, 1024, true),
            (libc::SYS_fcntl, 1, 3, false),
            (libc::SYS_ioctl, 1, 0x890b, true),
            (libc::SYS_ioctl, 1, 0x5401, false),
            (libc::SYS_ioctl, 1, 0x5412, true),
            (libc::SYS_ioctl, 1, 0x4004_54ca, true),
            (libc::SYS_clone, 0, 0x4000_0011, true),
            (libc::SYS_getsockopt, 1, 41, true),
            (libc::SYS_getsockopt, 1, 1, false),
        ] {
            assert_eq!(of(number, arg, value), stops, "{number} {arg} {value:x}");
        }
        let root = [libc::AT_FDCWD as u32, 0, walks::FLAGS, 0, 0, 0];
        assert_eq!(verdict(NATIVE, libc::SYS_openat, root), TRACE, "where a walk begins");
        assert_eq!(verdict(0x4000_0003, libc::SYS_openat, [0; 6]), ALLOW, "another table");
        assert!(program().len() < 4096);
    }
}
