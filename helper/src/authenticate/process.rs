//! The PAM process: root's, with no terminal, no descriptor of the caller's and an empty environment. Modules run
//! here and nowhere else. With a PAM session it stays until the guard says that the session is over, or is gone.

use super::talk::{self, Gate, Reply, Word};
use crate::caller::{Controlling, Person};
use crate::error::OURS;
use crate::sys::pam::{Item, Pam, Status, Step, Style};
use crate::sys::{Errno, capability, identity, process, terminal};
use crate::trusted;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, umask};
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

/// The name in `/etc/pam.d`.
const SERVICE: &CStr = c"caplet";
/// Where the administrator says what PAM asks. Without it PAM would take the stack named `other`.
const SERVICE_FILE: &str = "/etc/pam.d/caplet";
/// As sudo's `passwd_tries`.
const TRIES: u32 = 3;

/// What is asked of PAM.
#[derive(Debug)]
pub struct Order<'a> {
    pub person: &'a Person,
    pub password: bool,
    pub account: bool,
    pub session: bool,
}

/// What the conversation has come to, seen from inside.
#[derive(Default)]
struct Course {
    /// A question was answered: another attempt may go better.
    answered: Cell<bool>,
    /// There will be no more answers.
    over: Cell<bool>,
}

/// Runs to the end of the process. `helper` is the pid that must still be the parent.
pub fn serve(order: &Order<'_>, socket: &OwnedFd, helper: u32) -> ! {
    let code = match transact(order, socket, helper) {
        Ok(()) => 0,
        Err(refusal) => {
            let _ = talk::say(socket, &refusal);
            OURS
        }
    };
    identity::end_as(order.person.uid);
    process::exit_now(code)
}

/// The word that ends it.
fn refused(gate: Gate, text: impl Into<String>) -> Word {
    Word::Refused(gate, false, text.into().into_bytes())
}

fn failed(what: &str) -> impl FnOnce(Errno) -> Word + '_ {
    move |errno| refused(Gate::Start, format!("{what}: {}", errno.desc()))
}

/// Its own session, so that no key on the terminal cuts a fail delay short; nothing of the caller's at hand (a module
/// that asks descriptor 0 what it is asks /dev/null: CVE-2023-2002).
fn settle(socket: &OwnedFd) -> Result<(), Word> {
    nix::unistd::setsid().map_err(failed("setsid"))?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed("open /dev/null"))?;
    (0..3).try_for_each(|number| terminal::replace_standard(&null, number)).map_err(failed("dup2 /dev/null"))?;
    process::close_all_but(vec![socket.as_raw_fd()]).map_err(failed("close_range"))?;
    std::mem::forget(null);
    nix::unistd::chdir("/").map_err(failed("chdir /"))
}

fn transact(order: &Order<'_>, socket: &OwnedFd, helper: u32) -> Result<(), Word> {
    // Before this process leaves its session.
    let terminal = Controlling::find().and_then(|c| c.name).unwrap_or_default();
    settle(socket)?;
    let person = order.person;
    // With a real uid of 0 pam_rootok would let everybody pass.
    identity::set_groups(person.gid, 0, 0).map_err(failed("setresgid"))?;
    identity::set_users(person.uid, 0, 0).map_err(failed("setresuid"))?;
    capability::set_not_dumpable().map_err(failed("prctl(PR_SET_DUMPABLE)"))?;
    // After the change of ids, which clears it.
    capability::set_parent_death_signal(libc::SIGKILL).map_err(failed("prctl(PR_SET_PDEATHSIG)"))?;
    if nix::unistd::getppid().as_raw() as u32 != helper {
        return Err(refused(Gate::Start, "the helper is gone"));
    }
    if trusted::resolve(Path::new(SERVICE_FILE)).is_err() {
        return Err(refused(Gate::Start, format!("{SERVICE_FILE} is missing or not root's alone")));
    }
    let name = CString::new(person.name.as_str()).map_err(|_| refused(Gate::Start, "no login name"))?;
    let course = Rc::new(Course::default());
    let socket_of_conversation = socket.try_clone().map_err(|e| refused(Gate::Start, e.to_string()))?;
    let seen = Rc::clone(&course);
    let converse = Box::new(move |style, text: &[u8]| converse(&socket_of_conversation, &seen, style, text));
    let mut pam = Pam::start(SERVICE, &name, converse).map_err(|text| refused(Gate::Start, text))?;
    // No PAM_RHOST: the request comes from this machine, and pam_access(8) would take any value for a remote host. An
    // empty PAM_TTY where there is no terminal: pam_time and others stumble over none at all.
    let terminal = CString::new(terminal).unwrap_or_default();
    for (item, value) in [(Item::Tty, &terminal), (Item::RequestingUser, &name)] {
        let status = pam.set(item, value);
        if status != Status::SUCCESS {
            return Err(refused(Gate::Start, pam.text(status)));
        }
    }
    if order.password {
        authenticate(&mut pam, socket, &course)?;
        is_still(&pam, &name, Gate::Authentication)?;
    }
    if order.account {
        account(&mut pam)?;
        is_still(&pam, &name, Gate::Account)?;
    }
    if order.session {
        return keep_session(pam, &name, socket);
    }
    accept(socket)?;
    yield_to_others();
    Ok(())
}

/// The proof has its time from here: whoever hears of it may have been stopped meanwhile.
fn accept(socket: &OwnedFd) -> Result<(), Word> {
    let now = process::boot_time().as_millis() as u64;
    talk::say(socket, &Word::Accepted(now)).map_err(failed("send"))
}

/// What is left, cleaning up after the modules, must not take the processor from those who were waiting for the answer.
fn yield_to_others() {
    let _ = process::set_nice(0, 19);
}

/// A module can map one user to another (PAM_USER): the grant is not the other's.
fn is_still(pam: &Pam, name: &CStr, gate: Gate) -> Result<(), Word> {
    match pam.user() {
        Some(user) if user.as_c_str() == name => Ok(()),
        _ => Err(refused(gate, "it speaks of another user than the one who asks")),
    }
}

fn authenticate(pam: &mut Pam, socket: &OwnedFd, course: &Course) -> Result<(), Word> {
    for number in 1..=TRIES {
        course.answered.set(false);
        let status = pam.run(Step::Authenticate);
        if status == Status::SUCCESS {
            return Ok(());
        }
        let text = pam.text(status);
        if !course.over.get() {
            let _ = talk::say(socket, &Word::Failed(text.clone().into_bytes()));
        }
        // Without a question nothing would be different the next time (a locked account, a stack that denies all).
        let final_word = [Status::MAXTRIES, Status::ABORT].contains(&status) || course.over.get();
        let may_retry = course.answered.get() && !final_word;
        if !may_retry || number == TRIES {
            return Err(refused(Gate::Authentication, text));
        }
    }
    Err(refused(Gate::Authentication, "too many attempts"))
}

fn account(pam: &mut Pam) -> Result<(), Word> {
    match pam.run(Step::Account) {
        Status::SUCCESS => Ok(()),
        // Changing it is passwd(1)'s, with the rules of the machine: not a step on the way to a capability.
        status => Err(Word::Refused(Gate::Account, status == Status::NEW_AUTHTOK_REQD, pam.text(status).into_bytes())),
    }
}

/// One message of a module's.
fn converse(socket: &OwnedFd, course: &Course, style: Style, text: &[u8]) -> Option<Vec<u8>> {
    let text = text.to_vec();
    let visible = match style {
        Style::Error | Style::Info => {
            return talk::say(socket, &Word::Show(text)).ok().map(|()| Vec::new());
        }
        Style::Secret => false,
        Style::Visible => true,
    };
    if course.over.get() {
        return None;
    }
    talk::say(socket, &Word::Prompt { visible, text }).ok()?;
    match talk::listen(socket) {
        Reply::Answer(secret) => {
            course.answered.set(true);
            Some(secret.into_bytes())
        }
        Reply::Unusable => {
            course.answered.set(true);
            None
        }
        Reply::Nothing | Reply::Close => {
            course.over.set(true);
            None
        }
    }
}

/// Opens the PAM session while the helper builds, tells what modules changed, and closes it when the session is over.
fn keep_session(mut pam: Pam, name: &CStr, socket: &OwnedFd) -> Result<(), Word> {
    // From here on the user can no more signal this process; the helper may end before the session does.
    let _ = capability::set_parent_death_signal(0);
    identity::set_groups(0, 0, 0).map_err(failed("setresgid(0)"))?;
    identity::set_users(0, 0, 0).map_err(failed("setresuid(0)"))?;
    capability::set_not_dumpable().map_err(failed("prctl(PR_SET_DUMPABLE)"))?;
    accept(socket)?;
    let no = |pam: &Pam, status: Status| refused(Gate::Session, pam.text(status));
    let status = pam.run(Step::EstablishCredentials);
    if status != Status::SUCCESS {
        return Err(no(&pam, status));
    }
    let before = Surroundings::take().map_err(failed("getrlimit, getpriority"))?;
    let opened = pam.run(Step::OpenSession);
    if opened != Status::SUCCESS {
        pam.run(Step::DeleteCredentials);
        return Err(no(&pam, opened));
    }
    let close = |pam: &mut Pam| {
        pam.run(Step::CloseSession);
        pam.run(Step::DeleteCredentials);
    };
    if let Err(refusal) = is_still(&pam, name, Gate::Session) {
        close(&mut pam);
        return Err(refusal);
    }
    let told = before.tell_changes(socket).and_then(|()| {
        pam.environment().into_iter().try_for_each(|entry| talk::say(socket, &Word::Variable(entry.into_bytes())))
    });
    // A helper that did not hear all of it does not hear that the session is open, and runs nothing.
    if told.and_then(|()| talk::say(socket, &Word::Opened)).is_ok() {
        while !matches!(talk::listen(socket), Reply::Close) {}
    }
    close(&mut pam);
    yield_to_others();
    talk::say(socket, &Word::Closed).map_err(failed("send"))
}

/// What session modules change in their own process and mean for the command: limits (pam_limits), umask (pam_umask),
/// priority. Nothing else of the process reaches it, and nothing of the caller's reaches modules: they run under the
/// helper's own limits and umask.
struct Surroundings {
    limits: Vec<(u32, u64, u64)>,
    nice: i32,
}

/// What no module sets, so that one which sets the helper's own, 077, is seen: files are root's alone under either.
const OWN_UMASK: u32 = 0o067;

impl Surroundings {
    fn take() -> Result<Self, Errno> {
        umask(Mode::from_bits_truncate(OWN_UMASK));
        Ok(Self { limits: all_limits()?, nice: process::nice()? })
    }

    fn tell_changes(self, socket: &OwnedFd) -> Result<(), Errno> {
        for ((resource, soft, hard), (_, soft_before, hard_before)) in all_limits()?.iter().zip(self.limits) {
            for (is_hard, value, before) in [(true, *hard, hard_before), (false, *soft, soft_before)] {
                if value != before {
                    talk::say(socket, &Word::Limit(*resource, is_hard, value))?;
                }
            }
            // What a module limited for the command must not get in the way of closing the session.
            if *resource != libc::RLIMIT_CORE {
                let _ = process::set_limit(*resource, *hard, *hard);
            }
        }
        let mask = umask(Mode::from_bits_truncate(0o077)).bits();
        if mask != OWN_UMASK {
            talk::say(socket, &Word::Umask(mask))?;
        }
        match process::nice()? {
            nice if nice != self.nice => talk::say(socket, &Word::Nice(nice)),
            _ => Ok(()),
        }
    }
}

/// All 16 of getrlimit(2).
fn all_limits() -> Result<Vec<(u32, u64, u64)>, Errno> {
    (0..16).map(|resource| process::limit(resource).map(|(soft, hard)| (resource, soft, hard))).collect()
}
