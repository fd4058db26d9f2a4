//! The filter of an isolated session's command: `caplet_policy::syscalls` as a program for the kernel.
//!
//! The program is assembled at build time, for both system call tables of the machine. A grant only takes rows out of
//! it: the first step of an open row jumps to the same place either way. So nothing is laid out at run time, and no
//! grant can make a program that shuts less than its rows. No crate does it: seccompiler knows no second table (i386),
//! and kills whoever uses one.
//!
//! Native 32-bit programs work, with the same rows: courses build them (`gcc -m32`), and people bring old ones. x32 is
//! shut: few kernels have it and no distribution has programs for it.

use super::numbers::{NONE, NUMBERS};
use super::{ALLOW, ARCH, EQUAL, LOAD, NUMBER, RETURN, abi, stands, step};
use crate::error::{Error, call};
use crate::sys::capability;
use caplet_policy::capability::CapSet;
use caplet_policy::syscalls::{Answer, GATES, When};
use libc::sock_filter;

const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const ARG0_LOW: u32 = 16; // in struct seccomp_data; the kernel reads no more of these arguments
const X32: u32 = 0x4000_0000; // __X32_SYSCALL_BIT
const ERRNO: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO
const NO_CALL: u32 = ERRNO | libc::ENOSYS as u32;

/// Room for every row of two tables; the build fails where it is too small.
const ROOM: usize = 256;
const NO_GATE: u8 = u8::MAX;

/// The columns of `NUMBERS` and the AUDIT_ARCH_* of a machine's two tables; x86 has a third one inside the first.
#[derive(Debug, Clone, Copy)]
struct Machine {
    columns: [usize; 2],
    arch: [u32; 2],
    x32: bool,
}

#[cfg(target_arch = "x86_64")]
const HERE: Machine = Machine { columns: [0, 1], arch: [abi::NATIVE, abi::COMPAT], x32: true };
#[cfg(target_arch = "aarch64")]
const HERE: Machine = Machine { columns: [2, 3], arch: [abi::NATIVE, abi::COMPAT], x32: false };

/// The whole program, and which gate a step is the first of.
struct Program {
    steps: [sock_filter; ROOM],
    gates: [u8; ROOM],
    length: usize,
}

static PROGRAM: Program = assemble(HERE);

const fn answer(answer: Answer) -> u32 {
    ERRNO
        | match answer {
            Answer::NotPermitted => libc::EPERM as u32,
            Answer::NoSuchCall => libc::ENOSYS as u32,
            Answer::NoSuchFamily => libc::EAFNOSUPPORT as u32,
        }
}

impl Program {
    const fn put(&mut self, step: sock_filter) {
        self.steps[self.length] = step;
        self.length += 1;
    }

    /// The rows of one table, the number being loaded first.
    const fn table(&mut self, column: usize, x32: bool) {
        self.put(step(LOAD, NUMBER, 0, 0));
        if x32 {
            self.put(step(AT_LEAST, X32, 0, 1));
            self.put(step(RETURN, NO_CALL, 0, 0));
        }
        let mut n = 0;
        while n < GATES.len() {
            let (gate, (name, numbers)) = (&GATES[n], NUMBERS[n]);
            assert!(same(gate.call, name), "the numbers are in the order of the gates");
            if numbers[column] != NONE {
                self.row(n as u8, numbers[column], gate.when, answer(gate.answer));
            }
            n += 1;
        }
        self.put(step(RETURN, ALLOW, 0, 0));
    }

    const fn row(&mut self, gate: u8, number: u32, when: When, answer: u32) {
        self.gates[self.length] = gate;
        let on = step(RETURN, ALLOW, 0, 0);
        let off = step(RETURN, answer, 0, 0);
        match when {
            When::Always => {
                self.put(step(EQUAL, number, 0, 1));
                self.put(off);
                return;
            }
            When::AnyBit(bits) => {
                self.put(step(EQUAL, number, 0, 4));
                self.put(step(LOAD, ARG0_LOW, 0, 0));
                self.put(step(ANY_BIT, bits, 0, 1));
            }
            When::NoBit(bit) => {
                self.put(step(EQUAL, number, 0, 4));
                self.put(step(LOAD, ARG0_LOW, 0, 0));
                self.put(step(ANY_BIT, bit, 1, 0));
            }
            When::OneOf([one, other]) => {
                self.put(step(EQUAL, number, 0, 5));
                self.put(step(LOAD, ARG0_LOW, 0, 0));
                self.put(step(EQUAL, one, 1, 0));
                self.put(step(EQUAL, other, 0, 1));
            }
        }
        self.put(off);
        self.put(on);
    }
}

const fn assemble(machine: Machine) -> Program {
    let nothing = step(RETURN, NO_CALL, 0, 0);
    let mut program = Program { steps: [nothing; ROOM], gates: [NO_GATE; ROOM], length: 0 };
    program.put(step(LOAD, ARCH, 0, 0));
    program.put(step(EQUAL, machine.arch[0], 3, 0));
    program.put(step(EQUAL, machine.arch[1], 1, 0));
    program.put(nothing); // no third table is known
    let over = program.length;
    program.put(nothing);
    program.table(machine.columns[0], machine.x32);
    program.steps[over] = step(JUMP, (program.length - over - 1) as u32, 0, 0);
    program.table(machine.columns[1], false);
    program
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut n = 0;
    while n < one.len() && n < other.len() && one[n] == other[n] {
        n += 1;
    }
    n == one.len() && n == other.len()
}

/// What is installed for one grant.
#[derive(Clone)]
pub struct Filter(Vec<sock_filter>);

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} steps)", self.0.len())
    }
}

impl Filter {
    /// The filter of a session that holds these capabilities.
    pub fn of(caps: CapSet, nested_userns: bool) -> Self {
        Self::from(&PROGRAM, caps, nested_userns)
    }

    fn from(program: &Program, caps: CapSet, nested_userns: bool) -> Self {
        let open = |gate: u8| GATES.get(usize::from(gate)).is_some_and(|gate| gate.is_open(caps, nested_userns));
        let steps = program.steps.iter().zip(program.gates).take(program.length);
        Self(
            steps.map(|(step, gate)| sock_filter { jt: if open(gate) { step.jf } else { step.jt }, ..*step }).collect(),
        )
    }

    /// Installs it, for good, and tries whether it stands. Needs no_new_privs.
    pub fn install(&self) -> Result<(), Error> {
        capability::install_session_filter(&self.0).map_err(call("seccomp(SECCOMP_SET_MODE_FILTER)"))?;
        stands(capability::senseless_swapon()) // which no grant opens
    }
}

#[cfg(test)]
mod tests;
