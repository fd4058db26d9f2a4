//! The tracer, where the profile says `why = "trace"`: for `caplet why` it reads which capabilities the kernel refused to
//! the session, by the tracepoint capability:cap_capable (Linux 6.14), and tells the session's own user. Root's while it
//! opens the records, without any power while it reads them. What it tells is numbers: no address of the kernel's, no
//! descriptor, and nothing of any other process.

use super::wire::{self, Report};
use super::{SETUID, end_as, retire};
use crate::seccomp;
use crate::sys::perf::{self, Ring};
use crate::sys::process::{self, Fork};
use crate::sys::{Errno, capability, identity};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const EVENT: &str = "events/capability/cap_capable";
/// Memory for the records of one processor, and how often it is emptied, in milliseconds.
const PAGES: usize = 16;
const PERIOD: u16 = 100;
/// The latest so many are told; one is 20 bytes of text or so.
const MOST: usize = 8192;
/// How long the guard waits for the tracer, and the tracer for whoever reads, in seconds.
const PATIENCE: u32 = 2;
/// CAP_SETPCAP: what dropping from the bounding set asks for, of the user namespace that it is called in.
const SETPCAP: i32 = 8;
/// `enum perf_event_type` of `linux/perf_event.h`.
const LOST: u32 = 2;
const SAMPLE: u32 = 9;

/// The guard has it look at a process that waits, and hears that it does or cannot. Whether or not, the session goes on.
pub fn attach(line: &OwnedFd, pid: i32) {
    if wire::send(line, Report::Trace(pid as u32), None).is_ok() && is_heard(line, PATIENCE) {
        let _ = wire::receive(line);
    }
}

/// The session is over: it tells what it has, and is gone.
pub fn finish(line: OwnedFd) {
    if wire::send(&line, Report::Go, None).is_ok() {
        is_heard(&line, PATIENCE);
    }
}

fn is_heard(line: &OwnedFd, seconds: u32) -> bool {
    let timeout = PollTimeout::try_from(Duration::from_secs(seconds.into())).unwrap_or(PollTimeout::MAX);
    matches!(poll(&mut [PollFd::new(line.as_fd(), PollFlags::POLLIN)], timeout), Ok(1..))
}

/// Forks it. Where that fails the guard sees the end of its line, and goes on without it.
pub fn start(uid: u32, line: &OwnedFd, report: &OwnedFd) {
    if let Ok(Fork::Child) = process::fork() {
        let _ = run(uid, line, report);
        end_as(uid)
    }
}

fn run(uid: u32, line: &OwnedFd, report: &OwnedFd) -> Result<(), Errno> {
    retire(vec![line.as_raw_fd(), report.as_raw_fd()])?;
    let Some((Report::Trace(pid), _)) = wire::receive(line)? else { return Ok(()) };
    let records = Records::open(pid as i32);
    capability::give_up_but(SETUID.bits())?;
    capability::set_no_new_privs()?; // without capabilities no filter without it
    seccomp::only_watch(&[libc::SYS_setitimer], Some(uid)).map_err(|_| Errno::EPERM)?;
    wire::send(line, Report::Go, None)?;
    let text = match records {
        Ok(mut records) => {
            while !is_over(line) {
                records.read();
            }
            records.read();
            records.text()
        }
        Err(why) => {
            while !is_over(line) {}
            format!("{{\"trace\":{{\"not\":\"{why}\"}}}}\n")
        }
    };
    // Nobody keeps this process by not reading, nor what is left of it as root's.
    process::end_in(PATIENCE)?;
    identity::end_as(uid);
    let mut rest = text.as_bytes();
    while let Ok(length @ 1..) = nix::unistd::write(report, rest) {
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// Waits for one period, or until the guard has said so or is gone.
fn is_over(line: &OwnedFd) -> bool {
    matches!(poll(&mut [PollFd::new(line.as_fd(), PollFlags::POLLIN)], PERIOD), Ok(1..))
}

/// Where the tracepoint's record has what is read of it: `events/.../format` of tracefs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fields {
    cap: usize,
    ret: usize,
    target: usize,
}

impl Fields {
    /// `None`: not the format that is known, in any point.
    fn read(format: &str) -> Option<Self> {
        let field = |wanted: &str, size: &str| -> Option<usize> {
            let mut found = format.lines().filter_map(|line| {
                let mut parts = line.strip_prefix("\tfield:")?.split(";\t");
                let name = parts.next()?.rsplit(' ').next()?;
                let offset: usize = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
                let has = parts.next()?.strip_prefix("size:")?;
                (name == wanted && has == size && offset < 4096).then_some(offset)
            });
            found.next().filter(|_| found.next().is_none())
        };
        Some(Self { cap: field("cap", "4")?, ret: field("ret", "4")?, target: field("target_ns", "8")? })
    }
}

/// One refusal: the time (CLOCK_MONOTONIC_RAW, nanoseconds), the thread, the capability, and whether it was asked of the
/// machine's user namespace.
type Refused = (u64, u32, u32, bool);

struct Records {
    rings: Vec<Ring>,
    fields: Fields,
    /// The address of the machine's user namespace.
    machine: u64,
    refused: VecDeque<Refused>,
    lost: u64,
}

impl Records {
    /// Or the word for what is amiss.
    fn open(pid: i32) -> Result<Self, &'static str> {
        let read = |name: &str| {
            PLACES.iter().find_map(|place| std::fs::read_to_string(format!("{place}/{EVENT}/{name}")).ok())
        };
        let id: u64 = read("id").and_then(|text| text.trim().parse().ok()).ok_or("missing")?;
        let fields = read("format").as_deref().and_then(Fields::read).ok_or("unknown")?;
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        let processors = processors(&online).ok_or("unknown")?;
        let machine = machine(id, fields).ok_or("refused")?;
        let mut rings = Vec::new();
        for processor in processors {
            match Ring::open(id, pid, processor, PAGES) {
                Ok(ring) => {
                    ring.filter(c"ret != 0").map_err(|_| "refused")?;
                    rings.push(ring);
                }
                Err(Errno::ENODEV) => {} // it has just gone
                Err(_) => return Err("refused"),
            }
        }
        Ok(Self { rings, fields, machine, refused: VecDeque::new(), lost: 0 })
    }

    fn read(&mut self) {
        for ring in &mut self.rings {
            for record in samples(&ring.take()) {
                match record {
                    Sample::Lost(number) => self.lost = self.lost.saturating_add(number),
                    Sample::Of { tid, time, data } => {
                        let Some((cap, true, target)) = asked(data, self.fields) else { continue };
                        if self.refused.len() == MOST {
                            self.refused.pop_front();
                            self.lost = self.lost.saturating_add(1);
                        }
                        self.refused.push_back((time, tid, cap, target == self.machine));
                    }
                }
            }
        }
    }

    fn text(&self) -> String {
        let one = |(time, tid, cap, machine): &Refused| format!("[{time},{tid},{cap},{machine}]");
        let all: Vec<String> = self.refused.iter().map(one).collect();
        format!("{{\"trace\":{{\"refused\":[{}],\"lost\":{}}}}}\n", all.join(","), self.lost)
    }
}

/// `0-3,8`. Not more than a machine has descriptors for.
fn processors(text: &str) -> Option<Vec<i32>> {
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (i32, i32) = (first.parse().ok()?, last.parse().ok()?);
        all.extend((0..512).map(|n| first.saturating_add(n)).take_while(|n| *n <= last));
    }
    (!all.is_empty() && all.len() <= 512).then_some(all)
}

/// The address of the user namespace that this process is in: seen by having the kernel look there.
fn machine(id: u64, fields: Fields) -> Option<u64> {
    // Another processor's turn in between would be missed.
    (0..5).find_map(|_| {
        let mut ring = Ring::open(id, 0, perf::processor(), 1).ok()?;
        capability::drop_bounding(SETPCAP as u8).ok()?;
        samples(&ring.take()).into_iter().find_map(|record| match record {
            Sample::Of { data, .. } => asked(data, fields).filter(|(cap, ..)| *cap == SETPCAP as u32).map(|a| a.2),
            Sample::Lost(_) => None,
        })
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Sample<'a> {
    Of { tid: u32, time: u64, data: &'a [u8] },
    Lost(u64),
}

/// The kernel's records; what is no whole one ends it.
fn samples(mut bytes: &[u8]) -> Vec<Sample<'_>> {
    let mut all = Vec::new();
    while let (Some(kind), Some(size)) = (word(bytes, 0), word(bytes, 4).map(|both| (both >> 16) as usize)) {
        let Some((record, rest)) = bytes.split_at_checked(size).filter(|_| size >= 8) else { break };
        bytes = rest;
        match kind {
            // pid, tid, time, size, data
            SAMPLE => {
                let length = word(record, 24).unwrap_or(0) as usize;
                if let (Some(tid), Some(time), Some(data)) =
                    (word(record, 12), long(record, 16), record.get(28..28 + length))
                {
                    all.push(Sample::Of { tid, time, data });
                }
            }
            // id, how many
            LOST => all.extend(long(record, 16).map(Sample::Lost)),
            _ => {}
        }
    }
    all
}

/// Which capability, whether it was refused, and of which namespace.
fn asked(data: &[u8], fields: Fields) -> Option<(u32, bool, u64)> {
    Some((word(data, fields.cap)?, word(data, fields.ret)? != 0, long(data, fields.target)?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: cap_capable\nID: 2073\nformat:\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:struct user_namespace * target_ns;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:int cap;\toffset:32;\tsize:4;\tsigned:1;\n\tfield:int ret;\toffset:36;\tsize:4;\tsigned:1;\n\n\
        print fmt: \"cap %d\", REC->cap\n";

    #[test]
    fn only_the_known_format_is_read() {
        assert_eq!(Fields::read(FORMAT), Some(Fields { cap: 32, ret: 36, target: 16 }));
        for (from, to) in
            [("int ret;", "int result;"), ("offset:32", "offset:x"), ("size:8", "size:4"), ("\tfield", "field")]
        {
            assert_eq!(Fields::read(&FORMAT.replace(from, to)), None, "{to}");
        }
        let twice = format!("{FORMAT}\tfield:int cap;\toffset:40;\tsize:4;\tsigned:1;\n");
        assert_eq!(Fields::read(&twice), None);
    }

    #[test]
    fn records_are_read_and_half_a_one_is_not() {
        let mut bytes: Vec<u8> = Vec::new();
        let mut data = vec![0u8; 40];
        data[16..24].copy_from_slice(&77u64.to_ne_bytes());
        data[32] = 25;
        data[36..40].copy_from_slice(&(-1i32).to_ne_bytes());
        bytes.extend([9u32, 72 << 16, 500, 501].iter().flat_map(|n| n.to_ne_bytes()));
        bytes.extend(12u64.to_ne_bytes());
        bytes.extend(44u32.to_ne_bytes());
        bytes.extend(&data);
        bytes.extend([0; 4]);
        let end = bytes.len();
        bytes.extend([2u32, 24 << 16].iter().flat_map(|n| n.to_ne_bytes()));
        bytes.extend([1u64, 6].iter().flat_map(|n| n.to_ne_bytes()));
        // The size in the record is that of the data and what fills it up.
        let shown = samples(&bytes);
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert_eq!(shown[1], Sample::Lost(6));
        let Sample::Of { tid: 501, time: 12, data } = shown[0] else { panic!("{shown:?}") };
        let fields = Fields { cap: 32, ret: 36, target: 16 };
        assert_eq!(asked(data, fields), Some((25, true, 77)));
        assert_eq!(samples(&bytes[..end - 1]), []);
        assert_eq!(asked(&data[..30], fields), None);
        assert_eq!(samples(&[9, 0, 0, 0, 0, 0, 0, 0]), [], "a size of nothing");
    }

    #[test]
    fn processors_are_counted_up() {
        assert_eq!(processors("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!((processors(""), processors("0-"), processors("0-9999")), (None, None, Some((0..512).collect())));
    }
}
