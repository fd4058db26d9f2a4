//! A login on a terminal, as a person at a keyboard has it: what terminals.rs shows of `caplet run` is not said again.

use caplet_lab::{Lab, SSH, Session, SharedLab, Terminal, need, shared};
use nix::sys::signal::Signal;

static LAB: SharedLab = SharedLab::new();

const POLICY: &str = r#"
[profile.student]
groups = ["students"]
network = "host"
login = true
"#;

const USERS: [&str; 10] = ["paster", "bytes", "flow", "modes", "pusher", "drawer", "sizes", "keys", "both", "unread"];

fn lab() -> Option<&'static Lab> {
    let lab = shared(&LAB, || {
        let lab = USERS.into_iter().fold(Lab::new(), |lab, user| lab.user(user, &["students"]));
        lab.user("dora", &[]).policy(POLICY)
    })?;
    static READY: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let ready = || {
        lab.login_shells(&USERS);
        lab.sshd(&USERS, "")
    };
    READY.get_or_init(ready).then_some(lab)
}

/// A login over ssh, at the prompt. No escape character: what is typed is the session's.
fn over_ssh(lab: &Lab, user: &str) -> Terminal {
    let line = format!("exec ssh {SSH} -e none -tt {user}@127.0.0.1");
    at_the_prompt(lab.task("dora", ["bash", "-c", &line]).env("TERM", "xterm").limit(100).terminal(30, 100))
}

/// A login by su(1), likewise.
fn by_su(lab: &Lab, user: &str) -> Terminal {
    at_the_prompt(lab.task("root", ["su", "-", user]).env("TERM", "xterm").limit(100).terminal(30, 100))
}

fn at_the_prompt(mut terminal: Terminal) -> Terminal {
    terminal.expect("exit ends it");
    // Neither history nor bracketed paste: what is typed is what is read.
    terminal.send("bind 'set enable-bracketed-paste off'; unset HISTFILE; PS1='in''> '\n");
    terminal.expect("in> ");
    terminal
}

fn leave(mut terminal: Terminal) {
    terminal.send("exit 0\n");
    assert_eq!(terminal.wait().code(), Some(0));
}

/// Bytes that no two places have alike, without a random source: a failure can be had again.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn a_paste_of_a_mebibyte_arrives_whole_and_in_order() {
    let Some(lab) = lab() else { return };
    let lines: String = (0..(1 << 20) / 16).map(|n| format!("{n:07} pasted\n")).collect();
    for (mut terminal, way) in [(over_ssh(lab, "paster"), "ssh"), (by_su(lab, "paster"), "su")] {
        // Line by line, as into an editor of lines; the echo comes back meanwhile.
        terminal.send("cat >lines; echo e''nd\n");
        terminal.expect("\n");
        terminal.paste(format!("{lines}\u{4}"));
        terminal.expect("end\r\n");
        assert!(lab.read("/home/paster/lines") == lines, "{way}: {} bytes", lab.read("/home/paster/lines").len());
        terminal.expect("in> ");
        // The shell reads it as commands: each line once, in this order.
        terminal.send("n=0; bad=0; f() { [ $1 = $n ] || bad=$((bad + 1)); n=$((n + 1)); }; stty -echo\n");
        terminal.expect("in> ");
        let calls: String = (0..5000).map(|n| format!("f {n}\n")).collect();
        terminal.paste(format!("{calls}stty echo; echo sum $n $bad\n"));
        terminal.expect("sum 5000 0\r\n");
        leave(terminal);
    }
}

#[test]
fn every_byte_passes_both_ways_in_raw_mode() {
    let Some(lab) = lab() else { return };
    let every: Vec<u8> = (0..=255).chain((0..=255).rev()).chain((0..=255).flat_map(|b| [b, b, 0])).collect();
    for (mut terminal, way) in [(by_su(lab, "bytes"), "su"), (over_ssh(lab, "bytes"), "ssh")] {
        for (sent, name) in [(every.clone(), "every"), (noise(1 << 20), "noise")] {
            let count = sent.len();
            // In, and only then out: both at once has a test of its own.
            terminal.send(&format!(
                "stty raw -echo; echo re''ady; head -c {count} >{name}; cat {name}; stty sane; echo do''ne\n"
            ));
            terminal.expect("ready\n");
            terminal.paste(sent.clone());
            let back = terminal.next_bytes(count);
            terminal.expect("done\r\n");
            let path = format!("/home/bytes/{name}");
            let got = lab.inside(|| std::fs::read(path).expect("the shell wrote it"));
            assert!(got == sent, "{way}: in, {count}");
            assert!(back == sent, "{way}: out, {count}");
        }
        terminal.expect("in> ");
        leave(terminal);
    }
}

/// The kernel's word for it: the writer stands still, and goes on.
#[test]
fn control_s_stops_the_output_and_control_q_lets_it_go_on() {
    let Some(lab) = lab() else { return };
    let mut terminal = over_ssh(lab, "flow");
    terminal.send("i=0; while [ ! -e stop ]; do i=$((i + 1)); echo tick $i; echo $i >count.new; mv count.new count; sleep 0.01; done; echo o''ver\n");
    terminal.expect("tick 5\r\n");
    let count = || lab.read("/home/flow/count").trim().parse::<u32>().expect("a number");
    terminal.send("\u{13}");
    // Nothing for a second of a loop of hundredths: it stands, or the machine does.
    let stands = || {
        let before = count();
        std::thread::sleep(std::time::Duration::from_secs(1));
        count() == before
    };
    assert!(lab.until(stands), "it goes on to {}", count());
    let at = count();
    terminal.send("\u{11}");
    terminal.expect(&format!("tick {}\r\n", at + 5));
    lab.write("/home/flow/stop", "", 0o644, "flow");
    terminal.expect("over\r\n");
    terminal.expect("in> ");
    leave(terminal);
}

/// Whoever dies, the person's terminal is as it was, and nothing is left.
#[test]
fn the_outer_terminal_is_itself_again_whoever_is_killed() {
    let Some(lab) = lab() else { return };
    for who in ["the guard", "PID 1", "the shell"] {
        let mut terminal = lab.task("modes", ["/usr/bin/caplet-shell", "-l"]).env("TERM", "xterm").terminal(24, 80);
        let before = terminal.settings();
        terminal.expect("exit ends it");
        // Further away from a usual terminal than any shell leaves it.
        terminal.send("stty raw -echo; echo re''ady; sleep 1000\n");
        terminal.expect("ready\n");
        assert_ne!(terminal.settings(), before, "{who}");
        let session = Session::find(terminal.pid(), true).expect("a session");
        let pid = match who {
            "the guard" => session.guard,
            "PID 1" => session.init,
            _ => session.command,
        };
        Session::signal(pid, Signal::SIGKILL);
        assert!(!terminal.wait().success(), "{who}");
        assert!(lab.until(|| terminal.settings() == before), "{who}: {:?}", terminal.settings());
        session.wait_end();
        assert!(lab.until(|| lab.pids_of("modes", "").is_empty()), "{who}: {:?}", lab.processes());
        assert!(
            lab.until(|| lab.log().find("end", &[("user", "modes")]).len()
                == lab.log().find("grant", &[("user", "modes")]).len())
        );
    }
}

/// Types into whatever terminals it can reach, also by the number that a filter of 32 bits would not know.
const PUSH: &str = r#"
import ctypes, os
line = b"\x15touch /root/pushed\n"
fds = [0, 1, 2]
for path in ["/dev/tty", "/dev/console", "/dev/tty0", "/dev/ptmx"] + ["/dev/pts/%d" % n for n in range(9)]:
    try: fds.append(os.open(path, os.O_RDWR | os.O_NOCTTY))
    except OSError: pass
libc = ctypes.CDLL(None)
def ioctl(fd, request, data): return libc.syscall(16 if os.uname().machine == "x86_64" else 29, fd, ctypes.c_ulong(request), ctypes.c_char_p(data))
pushed = 0
for fd in fds:
    for request in [0x5412, 0x5412 | 1 << 32]:
        for byte in line: pushed += ioctl(fd, request, bytes([byte])) == 0
    for function in [2, 3, 11]: ioctl(fd, 0x541c, bytes([function] * 16))
print("tried", len(fds) >= 3, flush=True)
"#;

/// The classic: root becomes a user in a shell of root's own, whom the user leaves something in the terminal's input.
#[test]
fn nothing_is_pushed_into_the_outer_terminal() {
    need!("/usr/bin/python3", "su", "setpriv");
    let Some(lab) = lab() else { return };
    lab.write("/usr/bin/lab-push", format!("#!/usr/bin/python3 -I\n{PUSH}"), 0o755, "root");
    let mut terminal = lab.task("root", ["bash", "--norc", "-i"]).env("PS1", "outer''> ").terminal(24, 100);
    terminal.send("PS1='out''er> '\n");
    terminal.expect("outer> ");
    let knob = std::fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").unwrap_or_else(|_| "1".into());
    if knob.trim() == "1" {
        // It can be done on this machine: without a session it is.
        terminal.send(&format!("setpriv --reuid {0} --clear-groups /usr/bin/lab-push\n", lab.uid("dora")));
        terminal.expect("tried True");
        // Behind all that was pushed.
        terminal.send("echo sett''led\n");
        terminal.expect("settled\r\n");
        assert!(lab.exists("/root/pushed"), "{}", terminal.screen());
        lab.root("rm /root/pushed");
    }
    for start in ["su - pusher", "su pusher", "su - pusher -c /usr/bin/lab-push", "su -P pusher -c /usr/bin/lab-push"] {
        terminal.send(&format!("{start}; echo ba''ck\n"));
        if !start.contains("-c") {
            terminal.expect("exit ends it");
            terminal.send("/usr/bin/lab-push; exit\n");
        }
        terminal.expect("tried True");
        terminal.expect("back\r\n");
        // Whatever stands in the input comes before this line.
        terminal.send("echo af''ter\n");
        terminal.expect("after\r\n");
        assert!(!lab.exists("/root/pushed"), "{start}: {}", terminal.screen());
    }
    terminal.send("exit\n");
    terminal.wait();
}

#[test]
fn full_screen_programs_draw_and_quit() {
    need!("tmux", "script", "less", "vi");
    let Some(lab) = lab() else { return };
    for mut terminal in [over_ssh(lab, "drawer"), by_su(lab, "drawer")] {
        let settled = |terminal: &mut Terminal, what: &str| {
            terminal.expect("in> ");
            terminal.send(&format!(
                "echo {what}''-gone; stty -a | tr ' ;' '\\n' | grep -x -e echo -e icanon -e icrnl | tr '\\n' ' '\n"
            ));
            terminal.expect(&format!("{what}-gone\r\n"));
            terminal.expect("icrnl icanon echo");
            terminal.expect("in> ");
        };
        // less: the first page, a search, the end.
        terminal.send("seq 1000 >numbers; less numbers\n");
        terminal.expect("\r\n28\r\n");
        terminal.send("/777\n");
        terminal.expect("805");
        terminal.send("q");
        settled(&mut terminal, "less");
        // vi: a file with what was typed. An escape key and a letter after it are two keys only with time between them.
        terminal.send("rm -f written; vi -u NONE -N written\n");
        terminal.expect("\"written\"");
        terminal.send("ityped in vi");
        terminal.expect("typed in vi");
        terminal.send("\u{1b}");
        std::thread::sleep(std::time::Duration::from_millis(300));
        terminal.send(":wq\n");
        settled(&mut terminal, "vi");
        assert_eq!(lab.read("/home/drawer/written"), "typed in vi\n");
        // script: a terminal within the terminal.
        terminal.send("script -q typescript\n");
        terminal.send("PS1='scr''ipt> '; tty; test $(tty) != /dev/pts/0 && echo an''other; exit\n");
        terminal.expect("another\r\n");
        settled(&mut terminal, "script");
        assert!(lab.read("/home/drawer/typescript").contains("another\r\n"));
        // tmux: a server of its own, two windows, a detach and an attach. Keys that come fast are no paste.
        lab.write("/home/drawer/tmux.conf", "set -g assume-paste-time 0\n", 0o644, "drawer");
        terminal.send("tmux -f tmux.conf new-session -s work\n");
        terminal.expect("[work]");
        terminal.send("echo fi''rst window $TMUX_PANE\n");
        terminal.expect("first window %0");
        terminal.send("\u{2}c");
        terminal.expect("1:");
        terminal.send("echo sec''ond window $TMUX_PANE\n");
        terminal.expect("second window %1");
        terminal.send("\u{2}d");
        terminal.expect("[detached (from session work)]");
        terminal.send("tmux attach\n");
        terminal.expect("second window %1");
        terminal.send("tmux kill-server\n");
        settled(&mut terminal, "tmux");
        leave(terminal);
    }
}

/// Says the terminal's size whenever it is told of a new one, also while it says the one before.
const WINCH: &str = "import os, signal\n\
    def said(*_): os.write(1, b'%d %d\\n' % tuple(reversed(os.get_terminal_size(0))))\n\
    signal.signal(signal.SIGWINCH, said)\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n\
    print('wait' 'ing', flush=True)\n\
    while True: signal.pause()\n";

#[test]
fn the_window_and_its_name_are_right() {
    need!("tty", "who", "/usr/bin/python3");
    let Some(lab) = lab() else { return };
    lab.write("/home/sizes/winch.py", WINCH, 0o644, "sizes");
    for mut terminal in [over_ssh(lab, "sizes"), by_su(lab, "sizes")] {
        terminal.send("tty; readlink /proc/self/fd/0; stat -c '%U %a %t' $(tty); who >/dev/null && echo who-''works; ls -A /dev/pts | tr '\\n' ' '; stty size\n");
        terminal.expect("/dev/pts/0\r\n/dev/pts/0\r\nsizes 620 88\r\nwho-works\r\n0 ptmx 30 100\r\n");
        terminal.expect("in> ");
        // A person pulls at the corner: while the shell waits, and while a command runs.
        terminal.resize(41, 111);
        terminal.send("until [ \"$(stty size)\" = '41 111' ]; do sleep 0.02; done; echo fir''st; checkwinsize=1; echo $(tput lines)\n");
        terminal.expect("first\r\n41\r\n");
        // Python: bash(1) may lose a signal that comes while its trap for the one before runs.
        terminal.send("/usr/bin/python3 winch.py\n");
        terminal.expect("waiting\r\n");
        for (rows, columns) in [(10, 20), (200, 300), (24, 80)] {
            terminal.resize(rows, columns);
            terminal.expect(&format!("{rows} {columns}\r\n"));
        }
        terminal.send("\u{3}");
        terminal.expect("in> ");
        leave(terminal);
    }
}

#[test]
fn keys_that_signal_reach_the_foreground_alone() {
    let Some(lab) = lab() else { return };
    for mut terminal in [over_ssh(lab, "keys"), by_su(lab, "keys")] {
        terminal.send("sleep 1000 & trap '' QUIT; bash -c 'echo re''ady; read x; echo got $x'\n");
        terminal.expect("ready\r\n");
        terminal.send("\u{1c}");
        // What bash was told to ignore, its children ignore too.
        terminal.send("line\n");
        terminal.expect("got line");
        terminal.expect("in> ");
        terminal.send("trap - QUIT; ulimit -c 0; sleep 1001\n");
        assert!(lab.until(|| lab.pids_of("keys", "sleep").len() == 2));
        terminal.send("\u{1c}");
        terminal.expect("Quit");
        terminal.expect("in> ");
        terminal.send("sleep 1002 | cat; echo ${PIPESTATUS[@]}-pipe\n");
        assert!(lab.until(|| lab.pids_of("keys", "sleep").len() == 2));
        terminal.send("\u{3}");
        terminal.expect("in> ");
        terminal.send("jobs; echo j''obs\n");
        let jobs = terminal.expect("jobs\r\n");
        assert!(
            jobs.contains("Running") && jobs.contains("sleep 1000"),
            "the job in the background heard none of it: {jobs}"
        );
        terminal.send("kill %1; wait; cat\n");
        assert!(lab.until(|| lab.pids_of("keys", "cat").len() == 1));
        terminal.send("typed\n");
        terminal.expect("typed\r\ntyped\r\n");
        terminal.send("\u{4}");
        terminal.expect("in> ");
        leave(terminal);
    }
}

/// A program that reads and writes at once, faster on neither side than on the other.
#[test]
fn what_is_typed_and_what_is_shown_do_not_wait_for_each_other() {
    let Some(lab) = lab() else { return };
    for _ in 0..3 {
        let mut terminal = over_ssh(lab, "both");
        let sent = noise(1 << 20);
        terminal
            .send(&format!("stty raw -echo; echo re''ady; head -c {} | tee got; stty sane; echo do''ne\n", sent.len()));
        terminal.expect("ready\n");
        terminal.paste(sent.clone());
        assert!(terminal.next_bytes(sent.len()) == sent);
        terminal.expect("done\r\n");
        terminal.expect("in> ");
        leave(terminal);
    }
}

/// Keys that pile up before a program that reads none of them: a lost connection ends the session all the same.
#[test]
fn keys_that_nobody_reads_do_not_keep_a_session_past_its_connection() {
    let Some(lab) = lab() else { return };
    let mut terminal = over_ssh(lab, "unread");
    terminal.send("stty raw -echo; echo re''ady; sleep 4716\n");
    terminal.expect("ready\n");
    // More than every queue on the way takes; it stays in them.
    terminal.paste(noise(4 << 20));
    let queued = || {
        let sockets = lab.root("ss -Htn state established '( sport = :22 )'").out();
        sockets.lines().any(|line| line.split_whitespace().next().is_some_and(|queue| queue != "0"))
    };
    assert!(lab.until(queued), "sshd reads no more: its terminal is full");
    terminal.signal(Signal::SIGKILL);
    terminal.wait();
    assert!(lab.until(|| lab.pids_of("unread", "").is_empty()), "{:?}", lab.processes());
    lab.log().wait("end", &[("user", "unread")]);
}
