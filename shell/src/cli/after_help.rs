//! What stands below the options in each help: how it is used, examples, exit codes. The options are clap's, in `cli`.

/// `caplet --help`.
pub const CAPLET: &str = "\
Examples:
  caplet list                          what is yours, and what for
  caplet run ip addr                   a command, in the first profile that fits
  caplet run --cap-add NET_ADMIN ip link add br0 type bridge
  caplet shell --cap-add NET_ADMIN     your shell, for more than one command
  sudo caplet check                    administrators: is the policy in order?
  sudo caplet sessions                 administrators: who is at it now?
  sudo caplet log --since 2h           administrators: who did what with it?

More on one of them: caplet run --help";

/// `caplet run`.
pub const RUN: &str = "\
Options end at the first word of the command: in `caplet run -p lab ip -n route`
the -n is ip's. Capabilities are named as in Docker: any case, CAP_ or not,
several in one comma list or the option repeated.

Examples:
  caplet run --cap-add NET_ADMIN ip link add br0 type bridge
  caplet run --cap-add ALL --cap-drop MKNOD make check
  caplet run -p clock date -s 12:00
  caplet run --dry-run --cap-add SYS_PTRACE strace true

Exit code: the command's own; 128+N if signal N ended it; 125 if caplet refused
or failed; 126 if the command could not be executed; 127 if it was not found.";

/// `caplet shell`.
pub const SHELL: &str = "\
The session ends with the shell: exit, or Ctrl-D.

Examples:
  caplet shell
  caplet shell -p netlab --cap-add NET_ADMIN

Exit code: the shell's own, or 125 if caplet refused or failed.";

/// `caplet why`.
pub const WHY: &str = "\
The command runs in the session that it would have had, with its own output and
exit code. A watcher inside stops it at the calls that can be refused for want
of a capability, and afterwards says on standard error what was refused, what
it needs, and what you can do about it. What the command leaves behind in the
background ends with it. Without a COMMAND it is the last one that failed, run
once more, if your shell notes it: man caplet-why.

Examples:
  caplet why -- date -s 12:00
  caplet why -p netlab -- ip link add br0 type bridge
  caplet why --json -- make install 2>&1 >/dev/null | tail -1 | jq .

Exit code: that of caplet run.";

/// `caplet learn`.
pub const LEARN: &str = "\
The command is run several times: with all that you may have, with nothing, with
what it was refused, and then without each of these. Every time it is in a new
isolated session, with nothing to read, and its output is thrown away; what it
changes in your home or elsewhere outside of the session stays. No password is
asked for. What counts is that it ends with 0, and that it is refused nothing
more than with all.

Examples:
  caplet learn -- ip link add br0 type bridge
  caplet learn -p netlab -- ./setup.sh > netlab-setup.toml

Exit code: 0, or 1 if it does not end well even with all that you may have.";

/// `caplet list`.
pub const LIST: &str = "\
Examples:
  caplet list
  caplet list --json | jq -r '.profiles[].name'

Exit code: 0, or 1 if no profile is yours.";

/// `caplet sessions`.
pub const SESSIONS: &str = "\
Oldest first. MEMORY is what its processes hold for themselves, libraries and
files left out. A host session's processes are those that come from its command.

Examples:
  caplet sessions
  sudo caplet sessions --json | jq -r '.[] | select(.user == \"alice\") | .id'

Exit code: 0, also if there is none; 1 if the helper gives no answer.";

/// `caplet end`.
pub const END: &str = "\
Its command gets SIGHUP and SIGTERM, and SIGKILL two seconds later; an isolated
session ends with all its processes. It needs no answer from inside. The log's
`end` record says who ended it.

Examples:
  caplet end 7f3a
  sudo caplet end 7f3a90c1d2e4

Exit code: 0 when it is over, else 1.";

/// `caplet edit`.
pub const EDIT: &str = "\
Opens a copy in VISUAL, EDITOR or vi (words, no shell), checks the whole policy
with it, and only then puts it in the file's place, with its owner and mode.
With a fault you edit again or give up; the file in force stays as it was.

Examples:
  sudo caplet edit
  sudo EDITOR='emacs -nw' caplet edit /etc/caplet/policy.d/20-course.toml

Exit code: 0 if it was replaced or nothing was changed, 1 if you gave up.";

/// `caplet caps`.
pub const CAPS: &str = "\
Colours are for terminals alone, and not with NO_COLOR set.

Examples:
  caplet caps
  caplet caps sys_ptrace
  caplet caps --json | jq -r '.[] | select(.docker) | .name'

Exit code: 0.";

/// `caplet check --as`.
pub const CHECK_AS: &str = "\
The same judge as the helper's. Each profile that did not fit is named with its
line and the reason. Passwords, limits and accounts' states are not looked at.

Examples:
  sudo caplet check --as alice --cap-add NET_ADMIN ip route
  sudo caplet check --as alice --machine lab-7 --at 2027-02-15 -p netlab
  caplet check --as alice --policy ./policy.toml date -s 12:00

Exit code: 0 if it would be granted, 1 if refused or the policy has a fault.";

/// `caplet check`.
pub const CHECK: &str = "\
A policy with one fault grants nobody anything, so check before you install it.
The installed one is for root alone to read: sudo caplet check

Examples:
  caplet check policy.toml
  sudo caplet check
  sudo caplet check --as alice --cap-add NET_ADMIN

What --as takes: caplet check --as alice --help

Of the installed policy it also looks at what is around it: owners and modes of
helper, policy and PAM file, mounts, login shells, subordinate ids.

Exit code: 0 if there is no fault, 1 if there is one (--strict: or a warning).";

/// `caplet forget`.
pub const FORGET: &str = "\
After you have given your password, the next session in the same place does not
ask for it again for some minutes. This ends those minutes: next time a profile
with auth = \"password\" asks again.

Examples:
  caplet forget
  echo 'caplet forget' >> ~/.bash_logout

Exit code: 0, or 1 if it could not be done.";

/// `caplet log`.
pub const LOG: &str = "\
A line a record: time, event (grant, end, refuse, auth-failure, probe, fault),
user, profile, the session's id or the reason, what was added, the command.
It is read from systemd's journal or, where there is none, from the first of
auth.log, secure, messages and syslog in /var/log, and from its .1 before it.
What others wrote under caplet's name, or changed, is shown as foreign.

Examples:
  sudo caplet log --since 2h
  sudo caplet log --user alice --since 2027-02-15T18:00 | less -S
  sudo caplet log --json | jq -r 'select(.event == \"refuse\") | .user'
  sudo caplet log --file /var/log/auth.log.1

TIME: 2027-02-15, 2027-02-15T18:00, 18:00 (today), or an age: 90s, 30min, 2h, 3d

Exit code: 0, also if there is no record; 1 if the log cannot be read.";

/// `caplet doctor`.
pub const DOCTOR: &str = "\
Each finding says what a student could do with it, and the line that mends it.
sshd is asked for its effective settings (sshd -T). Nothing is changed.
In /etc/shells caplet-shell is right where it adds rights (chsh and greeters
work), and wrong for a jail (su -s and chsh lead around it).

Examples:
  sudo caplet doctor
  sudo caplet doctor --user alice
  sudo caplet doctor --json | jq -r '.findings[].mend'

Exit code: 0 if there is no fault and no warning, else 1.";
