//! The helper's last steps before the command: nothing of root's is left when it is looked up, and a kernel that did
//! not do as it was told is noticed.

use caplet_lab::{Lab, SharedLab, shared};

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.own]
users = ["alice"]

[profile.zero]
users = ["alice"]
user = "root"
caps = []

[profile.real]
users = ["alice"]
scope = "host"
pam_account = false
"#;

fn lab() -> Option<&'static Lab> {
    shared(&LAB, || {
        Lab::new()
            .user("alice", &["students"])
            .file("/srv/roots/tool", "#!/bin/sh\necho ran\n", 0o700, "root")
            .file("/srv/roots/binary", std::fs::read("/bin/true").expect("/bin/true"), 0o700, "root")
            .policy(POLICY)
    })
}

// "permitted set shrunk to the grant before exec": exec asks for the rights that the process has until then.
#[test]
fn a_command_is_opened_with_the_grants_rights_alone() {
    let Some(lab) = lab() else { return };
    for profile in ["real", "own", "zero"] {
        for file in ["/srv/roots/tool", "/srv/roots/binary"] {
            let out = lab.run_as("alice", ["caplet", "run", "-p", profile, file]).expect_code(126);
            assert!(out.err().contains("cannot be executed"), "{profile}: {out}");
        }
    }
    // In isolation only what is of the user's own ids could be reached with more: a file of hers without any right.
    lab.write("/home/alice/shut/tool", "#!/bin/sh\necho ran\n", 0o755, "alice");
    lab.root("chown alice /home/alice/shut && chmod 0 /home/alice/shut");
    for profile in ["own", "zero", "real"] {
        let out = lab.run_as("alice", ["caplet", "run", "-p", profile, "/home/alice/shut/tool"]).expect_code(126);
        assert_eq!(out.out(), "", "{profile}: {out}");
    }
}

/// Runs caplet as alice where one system call (and, of prctl, one option) says "done" and does nothing: a seccomp
/// filter that root set without no_new_privs, so that the setuid bit still counts.
fn with_a_lying_kernel(lab: &Lab, call: &str, option: Option<u32>, profile: &str) -> (i32, String, String) {
    let number = if cfg!(target_arch = "aarch64") {
        [("prctl", 167), ("capset", 91), ("setresuid", 147), ("seccomp", 277)]
    } else {
        [("prctl", 157), ("capset", 126), ("setresuid", 117), ("seccomp", 317)]
    };
    let number = number.iter().find(|(name, _)| *name == call).expect("a known call").1;
    let (uid, gid) = (lab.uid("alice"), lab.gid("students"));
    let check = match option {
        Some(option) => format!("ld(16),jeq({option},0,1),"),
        None => String::new(),
    };
    let miss = if option.is_some() { 3 } else { 1 };
    let program = format!(
        r#"
import ctypes, os, struct
def op(code, jt, jf, k): return struct.pack('HBBI', code, jt, jf, k)
def ld(at): return op(0x20, 0, 0, at)
def jeq(k, t, f): return op(0x15, t, f, k)
def ret(k): return op(0x06, 0, 0, k)
code = b''.join([ld(0), jeq({number}, 0, {miss}), {check} ret(0x00050000), ret(0x7fff0000)])
kept = ctypes.create_string_buffer(code, len(code))
program = struct.pack('HxxxxxxP', len(code) // 8, ctypes.addressof(kept))
os.setgroups([{gid}])
os.setgid({uid})
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, program, 0, 0): raise OSError(ctypes.get_errno(), 'seccomp')
# Not through the calls that lie: setuid(2) is another than setresuid(2).
libc.syscall({setuid}, {uid}) and os._exit(99)
if os.getresuid() != ({uid},) * 3: os._exit(98)
os.environ.update(HOME='/home/alice', PATH='/usr/bin:/bin')
os.chdir('/')
os.execv('/usr/bin/caplet', ['caplet', 'run', '--quiet', '-p', '{profile}', 'sh', '-c', 'echo ran'])
"#,
        setuid = if cfg!(target_arch = "aarch64") { 146 } else { 105 },
    );
    let out = lab.python("root", &program);
    (out.code(), out.out(), out.err())
}

const PR_CAPBSET_DROP: u32 = 24;
const PR_SET_SECUREBITS: u32 = 28;
const PR_SET_NO_NEW_PRIVS: u32 = 38;

#[test]
fn a_kernel_that_does_not_do_as_told_is_noticed_before_the_command_runs() {
    let Some(lab) = lab() else { return };
    // The bench itself: with a lie about a call that caplet does not make, all is well.
    for profile in ["own", "zero", "real"] {
        let (code, out, err) = with_a_lying_kernel(lab, "prctl", Some(0x7777_0001), profile);
        assert_eq!((code, out.as_str()), (0, "ran"), "{profile}: {err}");
    }
    let lies = [
        ("prctl", Some(PR_CAPBSET_DROP)),
        ("prctl", Some(PR_SET_SECUREBITS)),
        ("prctl", Some(PR_SET_NO_NEW_PRIVS)),
        ("capset", None),
        ("setresuid", None),
        ("seccomp", None),
        // Not setresgid: where nothing happens, the gid is the user's from first to last.
    ];
    for profile in ["own", "zero", "real"] {
        for (call, option) in lies {
            // The filter of a host session is prctl(2)'s, and the terminal's alone.
            if (profile, call) == ("real", "seccomp") {
                continue;
            }
            // uid 0 of a namespace has no securebits from first to last.
            if (profile, option) == ("zero", Some(PR_SET_SECUREBITS)) {
                continue;
            }
            let (code, out, err) = with_a_lying_kernel(lab, call, option, profile);
            assert_eq!((code, out.as_str()), (125, ""), "{profile}, {call} {option:?}: {err}");
            assert!(err.contains("caplet: "), "{profile}, {call} {option:?}: {err}");
        }
    }
}
