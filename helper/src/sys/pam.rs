//! Linux-PAM, loaded only where a profile needs it: pam(3), pam_conv(3). The process that loads it has nothing else
//! to do, so that a module may crash, hang or start threads there.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

const LIBRARY: &CStr = c"libpam.so.0";
/// `PAM_MAX_NUM_MSG` of `security/_pam_types.h`.
const MOST_MESSAGES: c_int = 32;
const CONV_ERR: c_int = 19;
const BUF_ERR: c_int = 5;

/// What a PAM call returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub c_int);

#[allow(missing_docs)] // the names of pam(3)
impl Status {
    pub const SUCCESS: Self = Self(0);
    pub const MAXTRIES: Self = Self(11);
    pub const NEW_AUTHTOK_REQD: Self = Self(12);
    pub const ABORT: Self = Self(26);
}

/// How a module wants to speak to the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Secret,
    Visible,
    Error,
    Info,
}

/// What can be told about the request beforehand (pam_set_item(3)).
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub enum Item {
    User = 2,
    Tty = 3,
    RequestingUser = 8,
}

/// One step of a transaction.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Without empty passwords (`PAM_DISALLOW_NULL_AUTHTOK`).
    Authenticate,
    Account,
    EstablishCredentials,
    OpenSession,
    CloseSession,
    DeleteCredentials,
}

/// Answers a message; `None` ends the conversation. For [`Style::Error`] and [`Style::Info`] any answer will do.
pub type Converse = dyn FnMut(Style, &[u8]) -> Option<Vec<u8>>;

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

#[repr(C)]
struct Conversation {
    call: extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int,
    data: *mut c_void,
}

type Handle = *mut c_void;

struct Calls {
    start: unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut Handle) -> c_int,
    end: unsafe extern "C" fn(Handle, c_int) -> c_int,
    set_item: unsafe extern "C" fn(Handle, c_int, *const c_void) -> c_int,
    get_item: unsafe extern "C" fn(Handle, c_int, *mut *const c_void) -> c_int,
    step: [unsafe extern "C" fn(Handle, c_int) -> c_int; 5],
    environment: unsafe extern "C" fn(Handle) -> *mut *mut c_char,
    text: unsafe extern "C" fn(Handle, c_int) -> *const c_char,
}

/// A transaction.
pub struct Pam {
    calls: Calls,
    handle: Handle,
    last: c_int,
    converse: *mut Box<Converse>,
}

impl std::fmt::Debug for Pam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pam").finish_non_exhaustive()
    }
}

impl Pam {
    /// Loads the library and begins. An error is its own text.
    pub fn start(service: &CStr, user: &CStr, converse: Box<Converse>) -> Result<Self, String> {
        let calls = Calls::load()?;
        let converse = Box::into_raw(Box::new(converse));
        let conversation = Conversation { call: talk, data: converse.cast() };
        let mut handle: Handle = std::ptr::null_mut();
        // SAFETY: pam_start copies the strings and the structure; `converse` lives until `Drop`, after pam_end.
        let status =
            unsafe { (calls.start)(service.as_ptr(), user.as_ptr(), &raw const conversation, &raw mut handle) };
        let pam = Self { calls, handle, last: status, converse };
        if status == 0 && !handle.is_null() { Ok(pam) } else { Err(pam.text(Status(status))) }
    }

    pub fn set(&mut self, item: Item, value: &CStr) -> Status {
        // SAFETY: pam_set_item copies the string.
        Status(unsafe { (self.calls.set_item)(self.handle, item as c_int, value.as_ptr().cast()) })
    }

    /// `PAM_USER` as it stands: a module may have changed it.
    pub fn user(&self) -> Option<CString> {
        let mut value: *const c_void = std::ptr::null();
        // SAFETY: on success the item is NULL or a string that PAM owns; it is copied before any other call.
        unsafe {
            let status = (self.calls.get_item)(self.handle, Item::User as c_int, &raw mut value);
            (status == 0 && !value.is_null()).then(|| CStr::from_ptr(value.cast()).to_owned())
        }
    }

    pub fn run(&mut self, step: Step) -> Status {
        let (number, flags) = match step {
            Step::Authenticate => (0, 1),
            Step::Account => (1, 0),
            Step::EstablishCredentials => (2, 2),
            Step::DeleteCredentials => (2, 4),
            Step::OpenSession => (3, 0),
            Step::CloseSession => (4, 0),
        };
        // SAFETY: a live handle; what modules do in here is the reason for a process of its own.
        self.last = unsafe { (self.calls.step[number])(self.handle, flags) };
        Status(self.last)
    }

    /// `NAME=value` entries that modules want the session to have (pam_getenvlist(3)).
    pub fn environment(&self) -> Vec<CString> {
        let mut entries = Vec::new();
        // SAFETY: NULL, or an array ended by NULL of strings, all from malloc(3) and now ours to free.
        unsafe {
            let list = (self.calls.environment)(self.handle);
            let mut at = list;
            while !at.is_null() && !(*at).is_null() {
                entries.push(CStr::from_ptr(*at).to_owned());
                libc::free((*at).cast());
                at = at.add(1);
            }
            libc::free(list.cast());
        }
        entries
    }

    /// The library's words for a status.
    pub fn text(&self, status: Status) -> String {
        // SAFETY: a constant string of the library's, or NULL.
        unsafe {
            let text = (self.calls.text)(self.handle, status.0);
            if text.is_null() {
                return format!("PAM error {}", status.0);
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}

impl Drop for Pam {
    fn drop(&mut self) {
        // SAFETY: the handle is not used after pam_end, and the conversation not after that. A handle that was never
        // made is not ended.
        unsafe {
            if !self.handle.is_null() {
                (self.calls.end)(self.handle, self.last);
            }
            drop(Box::from_raw(self.converse));
        }
    }
}

impl Calls {
    fn load() -> Result<Self, String> {
        // SAFETY: a constant name; under AT_SECURE the loader looks in the system's own folders alone (ld.so(8)).
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_LAZY) };
        if library.is_null() {
            return Err("libpam.so.0 cannot be loaded".into());
        }
        let find = |name: &CStr| {
            // SAFETY: a live library and a constant name.
            let address = unsafe { libc::dlsym(library, name.as_ptr()) };
            if address.is_null() { Err(format!("libpam.so.0 has no {}", name.to_string_lossy())) } else { Ok(address) }
        };
        let step = |name| {
            // SAFETY: the type that `security/pam_appl.h` declares for each of these.
            find(name)
                .map(|a| unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Handle, c_int) -> c_int>(a) })
        };
        // SAFETY: the types that `security/pam_appl.h` declares; the library is never unloaded.
        unsafe {
            Ok(Self {
                start: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut Handle) -> c_int,
                >(find(c"pam_start")?),
                end: step(c"pam_end")?,
                set_item: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Handle, c_int, *const c_void) -> c_int>(
                    find(c"pam_set_item")?,
                ),
                get_item: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(Handle, c_int, *mut *const c_void) -> c_int,
                >(find(c"pam_get_item")?),
                step: [
                    step(c"pam_authenticate")?,
                    step(c"pam_acct_mgmt")?,
                    step(c"pam_setcred")?,
                    step(c"pam_open_session")?,
                    step(c"pam_close_session")?,
                ],
                environment: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Handle) -> *mut *mut c_char>(
                    find(c"pam_getenvlist")?,
                ),
                text: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Handle, c_int) -> *const c_char>(find(
                    c"pam_strerror",
                )?),
            })
        }
    }
}

/// The conversation function: pam_conv(3). Answers are from malloc(3), since modules free them.
extern "C" fn talk(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    if !(1..=MOST_MESSAGES).contains(&count) || messages.is_null() || responses.is_null() || data.is_null() {
        return CONV_ERR;
    }
    let count = count as usize;
    // SAFETY: `messages` points to `count` pointers to messages, as Linux-PAM passes them; `data` is the boxed closure
    // that `start` left there; every response lies inside the block that calloc(3) has just given.
    unsafe {
        let converse = &mut *data.cast::<Box<Converse>>();
        let answers = libc::calloc(count, size_of::<Response>()).cast::<Response>();
        if answers.is_null() {
            return BUF_ERR;
        }
        for n in 0..count {
            let message = *messages.add(n);
            let answer = match message.as_ref() {
                Some(message) => answer_one(converse, message),
                None => Err(CONV_ERR),
            };
            match answer {
                Ok(text) => (*answers.add(n)).text = text,
                Err(code) => {
                    for before in 0..n {
                        wipe((*answers.add(before)).text);
                    }
                    libc::free(answers.cast());
                    return code;
                }
            }
        }
        *responses = answers;
    }
    0
}

/// # Safety
/// The message's text is NULL or a string.
unsafe fn answer_one(converse: &mut Box<Converse>, message: &Message) -> Result<*mut c_char, c_int> {
    let style = match message.style {
        1 => Style::Secret,
        2 => Style::Visible,
        3 => Style::Error,
        4 => Style::Info,
        _ => return Err(CONV_ERR),
    };
    let text = match message.text.is_null() {
        true => &[][..],
        // SAFETY: the caller's.
        false => unsafe { CStr::from_ptr(message.text) }.to_bytes(),
    };
    let answer = converse(style, text).ok_or(CONV_ERR)?;
    if matches!(style, Style::Error | Style::Info) {
        return Ok(std::ptr::null_mut());
    }
    if answer.contains(&0) {
        return Err(CONV_ERR);
    }
    // SAFETY: a block one byte longer than the answer, filled with it and a NUL.
    unsafe {
        let copy = libc::malloc(answer.len() + 1).cast::<u8>();
        if copy.is_null() {
            return Err(BUF_ERR);
        }
        copy.copy_from_nonoverlapping(answer.as_ptr(), answer.len());
        *copy.add(answer.len()) = 0;
        Ok(copy.cast())
    }
}

/// # Safety
/// NULL, or a string from malloc(3) that nobody else has.
unsafe fn wipe(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the caller's.
        unsafe {
            libc::explicit_bzero(text.cast(), libc::strlen(text));
            libc::free(text.cast());
        }
    }
}
