//! The program, run as the kernel would (bpf(4), seccomp(2)), over every call, both machines, and grants.

use super::*;
use caplet_policy::capability::Capability;

const X86: Machine = Machine { columns: [0, 1], arch: [0xc000_003e, 0x4000_0003], x32: true };
const ARM: Machine = Machine { columns: [2, 3], arch: [0xc000_00b7, 0x4000_0028], x32: false };
const SIGCHLD: u64 = 17;
const NEWUSER: u64 = 0x1000_0000;
/// What pthread_create(3) of glibc asks.
const THREAD: u64 = 0x3d_0f00;

/// What the kernel does with a call; every jump must stay inside, and a value be loaded before it is looked at.
fn verdict(filter: &Filter, arch: u32, number: u32, argument: u64) -> u32 {
    let (mut at, mut value) = (0, None);
    loop {
        let step = filter.0[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
        match step.code {
            LOAD => {
                value = Some(match step.k {
                    NUMBER => number,
                    ARCH => arch,
                    ARG0_LOW => argument as u32,
                    other => panic!("offset {other}"),
                });
            }
            EQUAL => at += jump(value.unwrap() == step.k),
            AT_LEAST => at += jump(value.unwrap() >= step.k),
            ANY_BIT => at += jump(value.unwrap() & step.k != 0),
            JUMP => at += step.k as usize,
            RETURN => return step.k,
            other => panic!("code {other:#x}"),
        }
    }
}

/// An argument with which a call is off, and one with which it is not.
fn arguments(when: When) -> (u64, Option<u64>) {
    match when {
        When::Always => (0, None),
        When::AnyBit(_) => (NEWUSER | SIGCHLD, Some(THREAD)),
        When::NoBit(bit) => (0, Some(u64::from(bit))),
        When::OneOf([one, _]) => (u64::from(one), Some(2)),
    }
}

fn grants() -> impl Iterator<Item = (CapSet, bool)> {
    let single = CapSet::KNOWN.iter().map(|cap| CapSet::EMPTY.with(cap));
    let sets = single.chain([CapSet::EMPTY, CapSet::DOCKER, CapSet::KNOWN]);
    sets.flat_map(|caps| [(caps, false), (caps, true)])
}

#[test]
fn every_call_of_both_tables_is_as_its_gate_says_under_every_grant() {
    let mut looked_at = 0;
    for machine in [X86, ARM] {
        let program = assemble(machine);
        for (caps, nested) in grants() {
            let filter = Filter::from(&program, caps, nested);
            for (arch, column) in machine.arch.into_iter().zip(machine.columns) {
                for number in 0..600 {
                    let row = NUMBERS.iter().position(|(_, numbers)| numbers[column] == number);
                    let Some(gate) = row.map(|row| &GATES[row]) else {
                        assert_eq!(verdict(&filter, arch, number, u64::MAX), ALLOW, "{number}");
                        continue;
                    };
                    let wanted = if gate.is_open(caps, nested) { ALLOW } else { answer(gate.answer) };
                    let (off, on) = arguments(gate.when);
                    assert_eq!(verdict(&filter, arch, number, off), wanted, "{} {caps} {nested}", gate.call);
                    if let Some(on) = on {
                        assert_eq!(verdict(&filter, arch, number, on), ALLOW, "{} {caps}", gate.call);
                    }
                    looked_at += 1;
                }
            }
        }
    }
    assert!(looked_at > 10_000, "{looked_at}");
}

#[test]
fn each_bit_and_each_family_counts() {
    let filter = Filter::from(&assemble(X86), CapSet::EMPTY, false);
    let x86 = |number, argument| verdict(&filter, X86.arch[0], number, argument);
    for flag in [0x80, 0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, NEWUSER, 0x2000_0000, 0x4000_0000] {
        assert_eq!(x86(272, flag), ERRNO | 1, "unshare {flag:#x}");
        assert_eq!(x86(56, flag | SIGCHLD), if flag == 0x80 { ALLOW } else { ERRNO | 1 }, "clone {flag:#x}");
    }
    // CLONE_FS, CLONE_FILES, CLONE_SYSVSEM, which a user's programs do
    assert_eq!(x86(272, 0x200 | 0x400 | 0x40000), ALLOW);
    for family in 0..64 {
        let wanted = if [38, 40].contains(&family) { ERRNO | 97 } else { ALLOW };
        assert_eq!(x86(41, family), wanted, "{family}");
        // the kernel takes an int: what lies above it does not matter
        assert_eq!(x86(41, family | 7 << 32), wanted, "{family}");
    }
    // socketcall(SYS_CONNECT) and the rest stay
    assert_eq!(verdict(&filter, X86.arch[1], 102, 3), ALLOW);
}

#[test]
fn tables_that_nobody_needs_are_shut() {
    for (machine, caps) in [(X86, CapSet::EMPTY), (X86, CapSet::KNOWN), (ARM, CapSet::KNOWN)] {
        let filter = Filter::from(&assemble(machine), caps, true);
        for arch in [0, 0x8000_0016, X86.arch[0] ^ 1, ARM.arch[0] ^ 1, u32::MAX] {
            assert_eq!(verdict(&filter, arch, 0, 0), NO_CALL, "{arch:#x}");
        }
    }
    let filter = Filter::from(&assemble(X86), CapSet::KNOWN, true);
    for number in [X32, X32 + 512, X32 + 56, 0x8000_0000, u32::MAX] {
        assert_eq!(verdict(&filter, X86.arch[0], number, 0), NO_CALL, "{number:#x}");
    }
}

#[test]
fn a_grant_takes_rows_out_and_nothing_else() {
    let (shut, open) = (Filter::of(CapSet::EMPTY, false), Filter::of(CapSet::KNOWN, true));
    assert_eq!(shut.0.len(), open.0.len());
    let differ = shut.0.iter().zip(&open.0).filter(|(a, b)| a.jt != b.jt);
    assert!(differ.clone().all(|(a, b)| a.code == EQUAL && b.jt == b.jf && a.k == b.k && a.jf == b.jf));
    assert!(differ.count() > 40);
}

#[test]
fn the_native_numbers_are_the_c_librarys() {
    let column = HERE.columns[0];
    let number = |name: &str| {
        let row = NUMBERS.iter().find(|(call, _)| *call == name).unwrap();
        libc::c_long::from(row.1[column])
    };
    for (name, wanted) in [
        ("unshare", libc::SYS_unshare),
        ("clone", libc::SYS_clone),
        ("clone3", libc::SYS_clone3),
        ("setns", libc::SYS_setns),
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("pivot_root", libc::SYS_pivot_root),
        ("move_mount", libc::SYS_move_mount),
        ("open_tree", libc::SYS_open_tree),
        ("fsopen", libc::SYS_fsopen),
        ("fsconfig", libc::SYS_fsconfig),
        ("fsmount", libc::SYS_fsmount),
        ("fspick", libc::SYS_fspick),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("init_module", libc::SYS_init_module),
        ("finit_module", libc::SYS_finit_module),
        ("delete_module", libc::SYS_delete_module),
        ("kexec_load", libc::SYS_kexec_load),
        ("kexec_file_load", libc::SYS_kexec_file_load),
        ("swapon", libc::SYS_swapon),
        ("swapoff", libc::SYS_swapoff),
        ("reboot", libc::SYS_reboot),
        ("acct", libc::SYS_acct),
        ("settimeofday", libc::SYS_settimeofday),
        ("clock_settime", libc::SYS_clock_settime),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("bpf", libc::SYS_bpf),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("io_uring_enter", libc::SYS_io_uring_enter),
        ("io_uring_register", libc::SYS_io_uring_register),
        ("lookup_dcookie", libc::SYS_lookup_dcookie),
        ("socket", libc::SYS_socket),
        #[cfg(target_arch = "x86_64")]
        ("iopl", libc::SYS_iopl),
        #[cfg(target_arch = "x86_64")]
        ("ioperm", libc::SYS_ioperm),
        #[cfg(target_arch = "x86_64")]
        ("uselib", libc::SYS_uselib),
    ] {
        assert_eq!(number(name), wanted, "{name}");
    }
}

#[test]
fn docker_s_default_of_uid_0_opens_nothing() {
    // Of Docker's 14 none stands for a row: what it opens there (chroot(2)) is on here, and the kernel's to judge.
    let opened = CapSet::DOCKER.iter().filter(|cap: &Capability| GATES.iter().any(|g| g.opened_by.contains(*cap)));
    assert_eq!(opened.count(), 0);
}
