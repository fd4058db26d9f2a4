#!/usr/bin/env python3
"""What caplet costs, measured beside its peers in one interleaved run; see README.md.

As root: CAPLET_BUILD=target/release bench/run.py [--rounds N] [--only WORD,WORD] [--write FILE]. Exit code 1: a bar was missed."""
import argparse, contextlib, datetime, json, os, platform, re, shutil, signal, socket, subprocess, sys, tempfile, threading, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = Path(os.environ.get("CAPLET_PEERS", HERE.parent / "target/peers"))  # what bench/peers.sh built
NAME, UID = "capletbench", 5901
BARS = {"host": 4.0, "iso": 5.5, "session": 7.6}  # times /bin/true
PEAK_KIB, STAYS_KIB = 3584, 1024
HEAD = """# Results of `make bench`

`make bench RESULTS=bench/RESULTS.md`, as root, built by `lab/build.sh` at the commit before the one that brings this file.

"""

POLICY = f"""
[profile.iso]
users = ["{NAME}"]

[profile.hostnet]
users = ["{NAME}"]
network = "host"

[profile.hostprofile]
users = ["{NAME}"]
scope = "host"
caps = ["SYS_NICE"]
pam_account = false

[profile.account]
users = ["{NAME}"]
scope = "host"
caps = ["SYS_NICE"]

[profile.session]
users = ["{NAME}"]
scope = "host"
caps = ["SYS_NICE"]
pam_session = true
"""

# RootAsRole: where the rules are, and the rules.
DOSR = {"version": "4.2.0", "storage": {"method": "json", "settings": {"path": "/etc/security/rootasrole.d/", "immutable": False}}}


def dosr_rules(size=1):
    tasks = [{"name": "all", "cred": {"setuid": "root", "setgid": "root", "capabilities": "all"}, "commands": "all"}]
    others = [
        {"name": f"course{n}", "actors": [{"type": "user", "name": f"student{n}"}], "tasks": [{**tasks[0], "commands": ["/usr/bin/id"]}]}
        for n in range(1, size)
    ]
    own = {"name": "bench", "actors": [{"type": "user", "name": NAME}], "tasks": tasks}
    return json.dumps({"version": "4.2.0", "options": {"authentication": "skip"}, "roles": [*others, own]})


# key, program it needs, command
COMMANDS = [
    ("true", "true", "/bin/true"),
    ("setpriv", "setpriv", "setpriv --no-new-privs /bin/true"),
    ("unshare", "unshare", "unshare -Ur /bin/true"),
    ("sudo", "sudo", "sudo -n /bin/true"),
    ("sudo-rs", "sudo-rs", "sudo-rs -n /bin/true"),
    ("dosr", "dosr", "dosr /bin/true"),
    ("doas", "doas", "doas -n /bin/true"),
    ("cado", "cado", "cado sys_nice /bin/true"),
    ("bwrap", "bwrap", "bwrap --dev-bind / / /bin/true"),
    ("bwrap-all", "bwrap", "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp /bin/true"),
    ("bwrap-suid", "bwrap-suid", "bwrap-suid --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp /bin/true"),
    ("firejail", "firejail", "firejail --quiet --noprofile /bin/true"),
    ("floor-host", "floor", "floor host /bin/true"),
    ("floor-session", "floor", "floor session /bin/true"),
    ("floor-iso", "floor", "floor iso /bin/true"),
    ("host", "caplet", "caplet run --quiet -p hostprofile /bin/true"),
    ("account", "caplet", "caplet run --quiet -p account /bin/true"),
    ("session", "caplet", "caplet run --quiet -p session /bin/true"),
    ("hostnet", "caplet", "caplet run -p hostnet /bin/true"),
    ("iso", "caplet", "caplet run -p iso /bin/true"),
]


class Box:
    """The throwaway machine of lab/src/machine.sh; it dies with its standard input, that is with this process."""

    def __init__(self):
        script = (HERE.parent / "lab/src/machine.sh").read_text()
        words = "unshare -m -p -f -n -i -u -C --kill-child --propagation private bash -c".split()
        self.unshare = subprocess.Popen([*words, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self.unshare.stdout.readline().split()
        if ready[:1] != ["ready"]:
            sys.exit("the throwaway machine does not come up (see lab/src/machine.sh)")
        self.pid = int(ready[1])
        self.root = Path(f"/proc/{self.pid}/root")

    def put(self, path, content, mode, owner=0):
        path = Path(f"{self.root}{path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.chown(path, owner, owner)
        path.chmod(mode)

    def command(self, words, user=False):
        enter = f"nsenter -t {self.pid} -m -p -n -i -u -C -r -w".split()
        if user:
            path = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
            enter += f"setpriv --reuid={UID} --regid={UID} --clear-groups --inh-caps=-all --reset-env --".split()
            enter += ["env", f"PATH={path}", "LANG=C.UTF-8", "TERM=dumb", f"--chdir=/home/{NAME}"]
        return [*enter, *words]

    def furnish(self, build, programs):
        for path, line in [
            ("/etc/passwd", f"{NAME}:x:{UID}:{UID}::/home/{NAME}:/bin/bash\n"),
            ("/etc/group", f"{NAME}:x:{UID}:\n"),
            ("/etc/shadow", f"{NAME}:*:20000:0:99999:7:::\n"),
        ]:
            with open(f"{self.root}{path}", "a") as file:
                file.write(line)
        home = Path(f"{self.root}/home/{NAME}")
        home.mkdir(mode=0o700, parents=True)
        os.chown(home, UID, UID)
        self.put("/usr/bin/caplet", (build / "caplet").read_bytes(), 0o755)
        self.put("/usr/libexec/caplet/caplet-helper", (build / "caplet-helper").read_bytes(), 0o4755)
        self.put("/etc/caplet/policy.toml", POLICY, 0o640)
        family = "redhat" if (self.root / "etc/pam.d/system-auth").exists() else "debian"
        self.put("/etc/pam.d/caplet", (HERE.parent / f"etc/pam.d/caplet.{family}").read_bytes(), 0o644)
        self.put("/etc/sudoers.d/bench", f"{NAME} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        self.put("/etc/doas.conf", f"permit nopass {NAME}\n", 0o600)
        self.put("/etc/hosts", "127.0.0.1 localhost lab\n", 0o644)  # sudo looks its host name up
        self.put("/usr/local/bin/drive", (programs / "drive").read_bytes(), 0o755)
        self.put("/usr/local/bin/floor", (programs / "floor-front").read_bytes(), 0o755)
        self.put("/usr/local/lib/floor", (programs / "floor").read_bytes(), 0o4755)
        self.furnish_peers()

    def furnish_peers(self):
        """Those that the distribution does not set up by itself."""
        for built, name in [("sudo", "sudo-rs"), ("dosr", "dosr")]:
            if (PEERS / built).exists():
                self.put(f"/usr/local/bin/{name}", (PEERS / built).read_bytes(), 0o4755)
        self.put("/etc/sudoers-rs", f"{NAME} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        self.put("/etc/security/rootasrole.json", json.dumps(DOSR), 0o600)
        self.put("/etc/security/rootasrole.d/bench.json", dosr_rules(), 0o600)
        if (stack := self.root / "etc/pam.d/sudo").exists():
            self.put("/etc/pam.d/dosr", stack.read_bytes(), 0o644)
        if (bwrap := self.root / "usr/bin/bwrap").exists():
            self.put("/usr/local/bin/bwrap-suid", bwrap.read_bytes(), 0o4755)
        if (self.root / "usr/bin/cado").exists():
            # cado always asks PAM: a stack that says yes without a question is the least it can cost.
            self.put("/etc/cado.conf", f"sys_nice: {NAME}\n", 0o644)
            self.put("/etc/pam.d/cado", "auth required pam_permit.so\naccount required pam_permit.so\n", 0o644)
            subprocess.run(self.command(["cado", "-s"]), capture_output=True)
        if (self.root / "usr/bin/firejail").exists():
            # firejail does nothing where none of the first ten processes has a kernel thread's name (its own sandboxes
            # look so, and so does this machine): a sleeping process stands in.
            self.put("/usr/local/lib/kthreadd", (self.root / "usr/bin/sleep").read_bytes(), 0o755)
            script = "echo 7 >/proc/sys/kernel/ns_last_pid; /usr/local/lib/kthreadd infinity </dev/null >/dev/null 2>&1 &"
            subprocess.run(self.command(["sh", "-c", script]), check=True)

    def close(self):
        self.unshare.stdin.close()
        self.unshare.wait()


class Syslog:
    """Reads /dev/log of the box and counts."""

    def __init__(self, box):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = f"{box.root}/dev/log"
        self.socket.bind(path)
        os.chmod(path, 0o666)
        self.grants = self.ends = 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            record = self.socket.recv(1 << 16)
            self.grants += b"grant id=" in record
            self.ends += b"end id=" in record


def compile_programs(folder):
    for words in [
        ["-O2", "-o", folder / "drive", HERE / "drive.c"],
        ["-O2", "-w", "-o", folder / "floor", HERE / "floor.c"],
        ["-nostdlib", "-static", "-o", folder / "floor-front", HERE / "floor-front.S"],
    ]:
        subprocess.run(["cc", *words], check=True)


def measure(box, commands, rounds, only=()):
    """Rows (key, command, median ns, p10 ns, maxrss KiB), and what is missing or does not work here."""
    kept, missing = [], []
    for key, program, command in commands:
        if only and key not in only and key != "true":
            continue
        loud = command.replace("--quiet ", "").split()
        probe = subprocess.run(box.command(loud, user=True), capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if "existing sandbox" in probe.stderr:
            missing.append(f"{key}: sees the throwaway machine as a sandbox and does nothing in it")
        elif probe.returncode == 0:
            kept.append((key, command))
        elif program == "caplet":
            sys.exit(f"{command}: {probe.stderr.strip()} (code {probe.returncode})")
        else:
            found = any(Path(f"{box.root}{d}/{program}").exists() for d in ["/usr/bin", "/bin", "/usr/local/bin"])
            why = (probe.stderr.strip() or f"code {probe.returncode}") if found else "not installed"
            missing.append(f"{key}: {why}")
    words = ["/usr/local/bin/drive", str(rounds), *(command for _, command in kept)]
    out = subprocess.run(box.command(words, user=True), stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [(*job, *map(int, line.split())) for job, line in zip(kept, out.splitlines(), strict=True)]
    return rows, missing


def anatomy(box, command):
    """Of a command's first program: (path, KiB, libraries linked, libraries opened in a run, system calls of a run)."""
    program = command.split()[0]
    path = shutil.which(program, path=":".join(f"{box.root}{d}" for d in ["/usr/local/bin", "/usr/bin", "/bin"]))
    inside = path.removeprefix(str(box.root))
    size, linked = os.path.getsize(path), libraries(box, inside)
    if program == "caplet":  # the front end and the helper together
        helper = "/usr/libexec/caplet/caplet-helper"
        size, linked = size + os.path.getsize(f"{box.root}{helper}"), linked + libraries(box, helper)
    # Traced by root, run as the user: setuid bits hold.
    words = ["strace", "-u", NAME, "-f", "-qq", "-o", "/root/trace", *command.split()]
    subprocess.run(box.command(words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    trace = Path(f"{box.root}/root/trace").read_text(errors="replace").splitlines()
    calls = [line for line in trace if "resumed>" not in line and "(" in line]
    opened = {m[1] for line in trace if (m := re.search(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]*\.so[.0-9]*)".* = \d+$', line))}
    return inside, size // 1024, linked, len(opened), len(calls)


def libraries(box, path):
    """How many shared objects the loader brings with a program."""
    out = subprocess.run(box.command(["ldd", path]), capture_output=True, text=True).stdout
    return sum("=>" in line or line.strip().startswith("/") for line in out.splitlines())


def crates():
    """Rust programs: how many crates are linked, their own left out."""
    files = [(key, PEERS / f"{name}.crates") for key, name in [("sudo-rs", "sudo"), ("dosr", "dosr")]]
    counts = {key: str(int(file.read_text()) - 1) for key, file in files if file.exists()}
    words = [HERE.parent / "lab/cargo.sh", "tree", "-p", "caplet-helper", "-e", "normal", "--prefix", "none"]
    tree = subprocess.run(words, cwd=HERE.parent, capture_output=True, text=True)
    names = {line.split(" (")[0] for line in tree.stdout.splitlines() if line.strip() and "caplet" not in line}
    if tree.returncode == 0:
        counts.update(dict.fromkeys(["host", "account", "session", "hostnet", "iso"], f"{len(names)} (helper)"))
    return counts


def status(pid, key):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def private_dirty(pid):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise LookupError("no Private_Dirty")


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def chain(pid):
    """A process and its first children: relay, guard, (PID 1,) command."""
    pids = [pid]
    while below := children(pids[-1]):
        pids.append(below[0])
    return pids


def memory(box, profile):
    """Of a sleeping session: (name, Private_Dirty, VmHWM) of each process that is caplet's."""
    words = box.command(["caplet", "run", "--quiet", "-p", profile, "sleep", "600"], user=True)
    job = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        names = ["relay", "guard", "PID 1"] if profile != "hostprofile" else ["relay", "guard"]
        comm = lambda pid: Path(f"/proc/{pid}/comm").read_text().strip()
        for _ in range(500):
            time.sleep(0.02)
            pids = chain(job.pid)
            while pids and not comm(pids[0]).startswith("caplet"):
                pids.pop(0)
            if len(pids) == len(names) + 1 and comm(pids[-1]) == "sleep":
                break
        else:
            sys.exit(f"the sleeping session does not look as it should: {[comm(p) for p in chain(job.pid)]}")
        time.sleep(4)  # the watcher has looked at the user database
        watcher = [pid for pid in children(pids[0])[1:] if comm(pid).startswith("caplet")]
        if len(watcher) != 1:
            sys.exit(f"a session has one watcher: {watcher}")
        named = zip([*names, "watcher"], [*pids[: len(names)], *watcher])
        return [(name, private_dirty(pid), status(pid, "VmHWM")) for name, pid in named]
    finally:
        # nsenter stays as the parent: the session is ended by its relay.
        for pid in chain(job.pid)[1:2] or [job.pid]:
            os.kill(pid, signal.SIGTERM)
        job.wait()


def report(rows, missing, sizes, rounds, syslog, build, parts_of, crates):
    base, base10 = next((row[2], row[3]) for row in rows if row[0] == "true")
    yield f"Date: {datetime.datetime.now():%Y-%m-%d %H:%M}, kernel {platform.release()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    yield f"Run: {rounds} rounds, order shuffled in each; syslog reader present: it read {syslog.grants} grants and {syslog.ends} ends"
    version = lambda path: f"{path.stat().st_size // 1024} KiB"
    yield f"Programs: caplet {version(build / 'caplet')}, caplet-helper {version(build / 'caplet-helper')}"
    yield ""
    yield "| what | median | to `true` | 10th percentile | to `true` | bar | ru_maxrss | command |"
    yield "|---|---|---|---|---|---|---|---|"
    bad = []
    for key, command, median, p10, maxrss in rows:
        bar = BARS.get(key)
        verdict = "" if bar is None else f"≤ {bar}: " + ("met" if median / base <= bar else "**missed**")
        if bar is not None and median / base > bar:
            bad.append(key)
        yield f"| {key} | {median / 1e6:.2f} ms | {median / base:.2f} | {p10 / 1e6:.2f} ms | {p10 / base10:.2f} | {verdict} | {maxrss} KiB | `{command}` |"
    for line in missing:
        yield f"\nMissing here: {line}"
    yield ""
    yield "What each is made of: size of the program (caplet: front end and helper together), shared objects it is linked with, those opened in one run (PAM modules and plug-ins too), system calls of one run with all its processes, the command's own among them, and crates linked beside its own."
    yield ""
    yield "| what | program | KiB | linked | opened | system calls | crates |"
    yield "|---|---|---|---|---|---|---|"
    for key, (path, kib, linked, opened, calls) in parts_of.items():
        yield f"| {key} | `{path}` | {kib} | {linked} | {opened} | {calls} | {crates.get(key, '')} |"
    yield ""
    yield "| sleeping session | process | Private_Dirty | VmHWM |"
    yield "|---|---|---|---|"
    for profile, parts in sizes.items():
        for name, dirty, peak in parts:
            yield f"| {profile} | {name} | {dirty} KiB | {peak} KiB |"
    peak = max(p[2] for parts in sizes.values() for p in parts)
    stays = sum(p[1] for p in sizes["iso"])
    for name, value, bar in [("peak memory of the helper", peak, PEAK_KIB), ("what stays of an isolated session", stays, STAYS_KIB)]:
        yield f"\n{name}: {value} KiB, bar ≤ {bar} KiB: " + ("met" if value <= bar else "**missed**")
        if value > bar:
            bad.append(name)
    yield ""
    yield "Verdict: " + (f"missed: {', '.join(bad)}" if bad else "every bar met")


@contextlib.contextmanager
def machine():
    """A furnished throwaway machine with a syslog reader, and the folder of the programs in it; gone at the end."""
    if os.geteuid():
        sys.exit("bench: root makes the throwaway machine; run it with sudo")
    build = Path(os.environ.get("CAPLET_BUILD", HERE.parent / "target/release"))
    with tempfile.TemporaryDirectory(prefix="caplet-bench.") as folder:
        compile_programs(Path(folder))
        box = Box()
        try:
            box.furnish(build, Path(folder))
            yield box, Syslog(box), build
        finally:
            box.close()


def main():
    parser = argparse.ArgumentParser(description="measures caplet beside its peers; needs root")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--only", default="", help="keys of the table, separated by commas")
    parser.add_argument("--write", metavar="FILE", help="write the report there too")
    options = parser.parse_args()
    with machine() as (box, syslog, build):
        rows, missing = measure(box, COMMANDS, options.rounds, set(filter(None, options.only.split(","))))
        parts_of = {key: anatomy(box, command) for key, command, *_ in rows}
        sizes = {profile: memory(box, profile) for profile in ["iso", "hostprofile"]}
        time.sleep(0.3)  # the last `end` record
        lines = list(report(rows, missing, sizes, options.rounds, syslog, build, parts_of, crates()))
    print("\n".join(lines))
    if options.write:
        Path(options.write).write_text(HEAD + "\n".join(lines) + "\n")
    return 0 if "every bar met" in lines[-1] else 1


if __name__ == "__main__":
    sys.exit(main())
