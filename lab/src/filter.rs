//! The system call filters of a running process: read out of the kernel by ptrace(2), and run as the kernel runs them.

use nix::errno::Errno;
use nix::libc;

/// One filter program (bpf(4)).
#[derive(Debug, Clone)]
pub struct Filter(Vec<libc::sock_filter>);

const SEIZE: u32 = 0x4206;
const INTERRUPT: u32 = 0x4207;
const GET_FILTER: u32 = 0x420c; // PTRACE_SECCOMP_GET_FILTER
const DETACH: u32 = 17;

fn ptrace(request: u32, pid: i32, address: usize, data: usize) -> Result<usize, Errno> {
    // SAFETY: of these four requests only GET_FILTER writes, into what `data` names: its caller has the room.
    let result = unsafe { libc::ptrace(request, pid, address, data) };
    if result == -1 { Err(Errno::last()) } else { Ok(result as usize) }
}

impl Filter {
    /// Every filter over that process, the last one first. The caller must be root, and no filter over it.
    ///
    /// # Panics
    /// Where the process cannot be traced.
    pub fn of(pid: i32) -> Vec<Self> {
        ptrace(SEIZE, pid, 0, 0).expect("PTRACE_SEIZE");
        ptrace(INTERRUPT, pid, 0, 0).expect("PTRACE_INTERRUPT");
        let mut status = 0;
        // SAFETY: `status` lives through the call; the process was seized by this thread.
        let stopped = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        assert_eq!(stopped, pid, "{}", Errno::last());
        let mut filters = Vec::new();
        while let Ok(length) = ptrace(GET_FILTER, pid, filters.len(), 0) {
            let mut steps = vec![libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; length];
            ptrace(GET_FILTER, pid, filters.len(), steps.as_mut_ptr() as usize).expect("PTRACE_SECCOMP_GET_FILTER");
            filters.push(Self(steps));
        }
        ptrace(DETACH, pid, 0, 0).expect("PTRACE_DETACH");
        filters
    }

    /// What the kernel does with a call (SECCOMP_RET_*), by its AUDIT_ARCH_*, number and first argument.
    ///
    /// # Panics
    /// Where the program does what no filter of caplet's does.
    pub fn verdict(&self, arch: u32, number: u32, argument: u64) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = self.0[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match (step.code, step.k) {
                (0x20, 0) => value = number,
                (0x20, 4) => value = arch,
                (0x20, 16) => value = argument as u32,
                (0x15, k) => at += jump(value == k),
                (0x35, k) => at += jump(value >= k),
                (0x45, k) => at += jump(value & k != 0),
                (0x05, k) => at += k as usize,
                (0x06, k) => return k,
                other => panic!("{other:x?}"),
            }
        }
    }
}
