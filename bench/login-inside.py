"""The part of login.py that runs inside the throwaway machine, as its user: one job, one line of JSON."""
import fcntl, json, os, pty, select, struct, subprocess, sys, termios, time, tty

SHELLS = {"bash": ["/bin/bash"], "caplet": ["/usr/bin/caplet-shell"]}


def on_terminal(words):
    """Starts words on a new pty of 24 x 80; pid and master."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(words[0], words)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    return pid, master


def until(master, text, limit=20):
    got, end = b"", time.monotonic() + limit
    while text not in got:
        if not select.select([master], [], [], max(0, end - time.monotonic()))[0]:
            sys.exit(f"{text!r} did not come: {got!r}")
        got += os.read(master, 65536)
    return got


def keys(rounds):
    """The time from a key to its echo, in µs: by the terminal itself, and through the relay; in turn."""
    ready = ["sh", "-c", "echo ready; exec cat"]
    pairs = {"none": on_terminal(ready), "caplet": on_terminal(["caplet", "run", "--quiet", "-p", "iso", *ready])}
    for _, master in pairs.values():
        until(master, b"ready")
    time.sleep(0.5)
    times = {kind: [] for kind in pairs}
    for n in range(rounds):
        for kind, (_, master) in pairs.items():
            started = time.perf_counter()
            os.write(master, b"x")
            until(master, b"x")
            times[kind].append((time.perf_counter() - started) * 1e6)
            if n % 40 == 39:
                os.write(master, b"\x15")  # the line is emptied: its room is limited
                time.sleep(0.01)
                while select.select([master], [], [], 0.01)[0]:
                    os.read(master, 65536)
    for pid, master in pairs.values():
        os.write(master, b"\x15\x04")
        os.waitpid(pid, 0)
    return times


def flow(mebibytes, rounds):
    """Seconds for so much through a terminal: `script`, and a session; in turn."""
    data = os.environ["BIG"]
    ways = {
        "script": ["script", "-qc", f"cat {data}", "/dev/null"],
        "caplet": ["caplet", "run", "--quiet", "-p", "iso", "cat", data],
    }
    times = {kind: [] for kind in ways}
    for _ in range(rounds):
        for kind, words in ways.items():
            started, size = time.perf_counter(), 0
            pid, master = on_terminal(words)
            while True:
                try:
                    part = os.read(master, 65536)
                except OSError:
                    break
                if not part:
                    break
                size += len(part)
            os.waitpid(pid, 0)
            os.close(master)
            if size < mebibytes << 20:
                sys.exit(f"{kind}: {size} bytes of {mebibytes} MiB")
            times[kind].append(time.perf_counter() - started)
    return times


def many(size):
    """So many login shells at once, each of which answers; seconds to open all, to be answered by all, to end all."""
    started = time.monotonic()
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    jobs = []
    for n in range(size):
        jobs.append(subprocess.Popen(["/usr/bin/caplet-shell"], **pipe))
        jobs[-1].stdin.write(b"echo $CAPLET_PROFILE-$$-%d\n" % n)
        jobs[-1].stdin.flush()
    opened = time.monotonic()
    answers = [job.stdout.readline() for job in jobs]
    wrong = [n for n, text in enumerate(answers) if not text.startswith(b"course-") or not text.endswith(b"-%d\n" % n)]
    answered = time.monotonic()
    print(json.dumps("all open"), flush=True)
    sys.stdin.readline()
    ending = time.monotonic()
    for job in jobs:
        job.stdin.close()
    codes = [job.wait() for job in jobs]
    ended = time.monotonic()
    return {
        "open": opened - started, "answer": answered - opened, "end": ended - ending,
        "wrong": len(wrong), "codes": sorted(set(codes)),
    }


def idle():
    """An interactive login at its prompt, until somebody writes a line."""
    pid, master = on_terminal(["/usr/bin/caplet-shell", "-l"])
    os.write(master, b"PS1='at> '\n")
    until(master, b"at> ")
    print(json.dumps("idle"), flush=True)
    sys.stdin.readline()
    os.write(master, b"exit\n")
    os.waitpid(pid, 0)
    return {}


print(json.dumps(globals()[sys.argv[1]](*map(int, sys.argv[2:]))), flush=True)
