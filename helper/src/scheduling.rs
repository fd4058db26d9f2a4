//! How the caller's process is scheduled, which all of ours would inherit: timer slack by which no timeout ever ends, an
//! idle policy under which a judgement never comes, a bias to be the first victim of the kernel's. None of it for us;
//! the command has it back.

use crate::error::{Error, call};
use crate::sys::process::{self, Affinity};
use nix::errno::Errno;

/// The usual timer slack, in nanoseconds (prctl(2), PR_SET_TIMERSLACK).
const SLACK: u64 = 50_000;
const OOM: &str = "/proc/self/oom_score_adj";

/// What was found, where it is worse than usual.
#[derive(Debug, Clone, Default)]
pub struct Scheduling {
    slack: Option<u64>,
    idle: bool,
    nice: Option<i32>,
    affinity: Option<Affinity>,
    io: Option<i32>,
    oom: Option<i32>,
}

impl Scheduling {
    /// Takes it all away. What cannot be read or taken (a container may lack CAP_SYS_NICE) stays.
    pub fn take() -> Self {
        let own = Affinity::own().filter(|_| Affinity::all().set().is_ok());
        let found = Self {
            slack: process::timer_slack().filter(|slack| *slack != SLACK),
            idle: process::is_idle(),
            nice: process::nice().ok().filter(|nice| *nice > 0),
            affinity: own.filter(|own| Affinity::own().as_ref() != Some(own)),
            io: process::io_priority().filter(|io| *io != 0),
            oom: std::fs::read_to_string(OOM).ok().and_then(|n| n.trim().parse().ok()).filter(|n| *n > 0),
        };
        found.undo();
        found
    }

    /// Takes it away again, as far as it can be.
    pub fn undo(&self) {
        let _ = process::set_timer_slack(SLACK);
        if self.idle {
            let _ = process::set_idle(false);
        }
        if self.nice.is_some() {
            let _ = process::set_nice(0, 0);
        }
        if self.affinity.is_some() {
            let _ = Affinity::all().set();
        }
        if self.io.is_some() {
            let _ = process::set_io_priority(0);
        }
        if self.oom.is_some() {
            let _ = std::fs::write(OOM, "0");
        }
    }

    /// Gives it back, for a process that is about to be forked: a command is not to be better off than its caller.
    pub fn give_back(&self) -> Result<(), Error> {
        if let Some(slack) = self.slack {
            process::set_timer_slack(slack).map_err(call("prctl(PR_SET_TIMERSLACK)"))?;
        }
        if let Some(io) = self.io {
            process::set_io_priority(io).map_err(call("ioprio_set"))?;
        }
        if let Some(affinity) = &self.affinity {
            affinity.set().map_err(call("sched_setaffinity"))?;
        }
        if let Some(oom) = self.oom {
            let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
            std::fs::write(OOM, oom.to_string()).map_err(|error| call(format!("write {OOM}"))(errno(error)))?;
        }
        if let Some(nice) = self.nice {
            process::set_nice(0, nice).map_err(call(format!("setpriority({nice})")))?;
        }
        if self.idle {
            process::set_idle(true).map_err(call("sched_setscheduler"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All but the oom score are a thread's own.
    fn in_a_thread(test: fn()) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn what_holds_us_up_is_taken_away_and_given_back() {
        in_a_thread(|| {
            let (worst_io, before) = (2 << 13 | 7, Affinity::own().unwrap());
            process::set_timer_slack(70_000).unwrap();
            process::set_io_priority(worst_io).unwrap();
            let nice = process::nice().unwrap().clamp(4, 18) + 1; // no better than what this test runs with
            process::set_nice(0, nice).unwrap();
            let found = Scheduling::take();
            assert_eq!(
                (found.slack, found.idle, found.nice, found.io),
                (Some(70_000), false, Some(nice), Some(worst_io))
            );
            assert_eq!(process::timer_slack(), Some(SLACK));
            assert_ne!(process::io_priority(), Some(worst_io));
            found.give_back().unwrap();
            assert_eq!((process::timer_slack(), process::nice()), (Some(70_000), Ok(nice)));
            assert_eq!((process::io_priority(), Affinity::own().unwrap()), (Some(worst_io), before));
            found.undo();
            assert_eq!(process::timer_slack(), Some(SLACK));
        });
    }

    #[test]
    fn what_is_as_usual_is_not_touched() {
        in_a_thread(|| {
            // Those who may not lower it again leave it.
            if process::nice() != Ok(0) || process::is_idle() {
                return;
            }
            let found = Scheduling::take();
            assert_eq!((found.slack, found.idle, found.nice, found.io), (None, false, None, None));
            found.give_back().unwrap();
            assert_eq!((process::timer_slack(), process::nice()), (Some(SLACK), Ok(0)));
        });
    }

    #[test]
    fn an_idle_caller_and_one_of_one_processor_are_seen() {
        in_a_thread(|| {
            let all = Affinity::own().unwrap();
            let one = Affinity::first();
            one.set().unwrap();
            let is_all = Affinity::own().unwrap() == all;
            process::set_idle(true).unwrap();
            let found = Scheduling::take();
            assert!(found.idle);
            assert_eq!(found.affinity.is_none(), is_all, "of one processor there is nothing to take");
            found.give_back().unwrap();
            assert!(process::is_idle());
            assert_eq!(Affinity::own().unwrap() == all, is_all);
        });
    }
}
