#!/usr/bin/env python3
"""Mutates the helper's decisions one place at a time (cargo-mutants), and tries what its unit tests do not notice on the
system tests. Run as root, with CAPLET_BUILD; hours for all of it.
usage: lab/mutants.py [FILE...]      (default: those of THEN below; `plan` is helper/src/plan.rs)

Each missed mutant is built in a copy of the tree, and the test files named below (not all there are) run until a test
fails. At the end: how many which file noticed; the exit code says if any survived. All of it looks at a copy of the tree.
MUTANTS_OUT=FOLDER: cargo-mutants' results are there already, of this tree. WORKERS: how many at once, default 2.
"""
import collections, json, os, queue, subprocess, sys, tempfile, threading, time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
WORKERS = int(os.environ.get("WORKERS", "2"))
# Quick ones first; then those that know most about the file.
FIRST = "claims limits trail as_written before_exec check whatif wishes arguments seccomp".split()
THEN = {
    "rejudge": "withdrawal sessions",
    "environment": "surroundings login terminals",
    "trusted": "",
    "caller": "hostile_callers surroundings login pam cache failing_calls",
    "capset": "masks surroundings eperm failing_calls",
    "plan": "masks surroundings hostile_callers escapes networks login",
    "limits": "surroundings hostile_callers pam",
    "idmap": "masks escapes login failing_calls",
    "policy_files": "hostile_callers login",
    "registry": "linger accomplice hostile_callers sessions lifetimes",
    "isolated": "masks escapes login terminals login_terminal networks failing_calls",
    "scheduling": "failing_calls withdrawal",
    "host": "pam failing_calls",
    "command": "",
    "seccomp": "failing_calls outgoing",
    "kernel": "old_kernel",
    "authenticate/mod": "cache pam entries terminals",
    "authenticate/cache": "cache",
    "authenticate/process": "cache pam terminals",
    "authenticate/dialogue": "cache pam terminals",
    "descriptors": "hostile_callers networks",
    "hygiene": "hostile_callers surroundings withdrawal",
    "user_files": "hostile_callers escapes login networks",
    "sessions": "sessions",
    "namespaces": "escapes masks networks",
    "sys/identity": "failing_calls",
}
LAST = "surroundings hostile_callers login accomplice masks why_trace knobs".split()


def copy(tree):
    """What git knows of this tree, and what it would take, without its history."""
    os.makedirs(tree)
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE,
    ).stdout
    subprocess.run(["rsync", "-a", "--files-from=-", f"{ROOT}/", tree], input=listed, check=True)
    return tree


def mutate(tree, folder, rooms):
    files = [word for room in rooms for word in ("-f", f"helper/src/{room}.rs")]
    line = ["cargo", "mutants", "-p", "caplet-helper", "-j", str(WORKERS), "--timeout", "60", "--no-shuffle"]
    # 2 and 3: some were missed, or timed out.
    if subprocess.run([*line, "-o", folder, *files], cwd=tree).returncode not in (0, 2, 3):
        sys.exit("mutants: cargo-mutants failed (it is had with `cargo install --locked cargo-mutants`)")
    return f"{folder}/mutants.out"


def missed(folder, rooms):
    """Name, file and diff of each, in the order of the files."""
    found = []
    for outcome in json.load(open(f"{folder}/outcomes.json"))["outcomes"]:
        if outcome["summary"] != "MissedMutant":
            continue
        name = outcome["scenario"]["Mutant"]["name"]
        room = name.split(":")[0].removeprefix("helper/src/").removesuffix(".rs")
        # Of flags that share no bit, as all are that are joined here, both give the same number.
        if room in rooms and "replace | with ^" not in name:
            found.append((name, room, os.path.join(folder, outcome["diff_path"])))
    return sorted(found, key=lambda job: rooms.index(job[1]))


def test_programs(tree, target):
    built = subprocess.run(
        ["cargo", "test", "-p", "caplet-lab", "--no-run", "--message-format=json"],
        cwd=tree, env=os.environ | {"CARGO_TARGET_DIR": target}, check=True, stdout=subprocess.PIPE, text=True,
    )
    found = {}
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and "test" in message["target"]["kind"]:
            found[message["target"]["name"]] = message["executable"]
    return found


class Worker:
    def __init__(self, whole, work, seconds):
        self.whole, self.tree, self.seconds = whole, f"{work}/tree", seconds
        os.makedirs(work)
        subprocess.run(["cp", "-a", whole, self.tree], check=True)
        self.out = f"{work}/build"
        os.makedirs(self.out)
        subprocess.run(["cp", f"{os.environ['CAPLET_BUILD']}/caplet", self.out], check=True)
        self.environ = os.environ | {
            # Not the whole of an optimised build, but a stack that fits the limits of the tests.
            "CARGO_PROFILE_DEV_OPT_LEVEL": "1",
            "CARGO_PROFILE_DEV_DEBUG": "0",
            # Checks of the standard library make system calls of their own, which the filters refuse.
            "CARGO_PROFILE_DEV_DEBUG_ASSERTIONS": "false",
            "CARGO_TARGET_DIR": f"{work}/target",
            "CAPLET_BUILD": self.out,
            "RUST_BACKTRACE": "0",
            "CAPLET_SKIPS": f"{work}/skips",
        }

    def build(self):
        made = subprocess.run(
            ["cargo", "build", "-q", "-p", "caplet-helper"],
            cwd=self.tree, env=self.environ, capture_output=True,
        )
        if made.returncode == 0:
            subprocess.run(["cp", f"{self.environ['CARGO_TARGET_DIR']}/debug/caplet-helper", self.out], check=True)
        return made.returncode == 0

    def first_to_fail(self, programs, names):
        return next((by for by in (self.fails(programs, name) for name in names) if by), None)

    def fails(self, programs, name):
        """Which test of that file fails first; the others are not waited for."""
        # Most of withdrawal's time is waiting. The others are written for what a small machine does at once.
        threads = 16 if name == "withdrawal" else 2
        running = subprocess.Popen(
            [programs[name], f"--test-threads={threads}"],
            cwd=f"{self.whole}/lab", env=self.environ, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
        )
        # The untouched tree says how long it takes, a mutant may take thrice that.
        began = time.monotonic()
        late = threading.Timer(self.seconds.get(name, 600) * 3 + 60, running.kill)
        late.start()
        try:
            for line in running.stdout:
                if line.startswith("test ") and line.rstrip().endswith("... FAILED"):
                    return f"{name}: {line.split()[1]}"
            code = running.wait()
            self.seconds.setdefault(name, time.monotonic() - began)
            return f"{name}: exit {code}" if code else None
        finally:
            late.cancel()
            running.kill()
            running.wait()

    def patch(self, file, diff, *options):
        if subprocess.run(["patch", "-s", "-f", "-r", "-", *options, file, diff], cwd=self.tree).returncode != 0:
            sys.exit(f"mutants: {diff} does not apply")


def tests_for(room):
    names = FIRST + THEN.get(room, "").split() + LAST
    return list(dict.fromkeys(names))


def main():
    rooms = sys.argv[1:] or list(THEN)
    for room in rooms:
        if not os.path.exists(f"{ROOT}/helper/src/{room}.rs"):
            sys.exit(f"mutants: there is no helper/src/{room}.rs; name files as in `lab/mutants.py plan capset`")
    with tempfile.TemporaryDirectory(prefix="caplet-mutants.") as scratch:
        tree = copy(f"{scratch}/tree")
        folder = os.environ.get("MUTANTS_OUT") or mutate(tree, scratch, rooms)
        return try_on_the_system(tree, missed(folder, rooms), scratch)


def try_on_the_system(tree, mutants, scratch):
    jobs = queue.Queue()
    for job in mutants:
        jobs.put(job)
    programs = test_programs(tree, f"{scratch}/tests")
    noticed, survivors, lock = collections.Counter(), [], threading.Lock()
    seconds = {}  # of each test file, without a mutant

    def work(scratch):
        worker = Worker(tree, scratch, seconds)
        if not worker.build():
            sys.exit("mutants: the tree itself does not build")
        while True:
            try:
                name, room, diff = jobs.get_nowait()
            except queue.Empty:
                return
            file = name.split(":")[0]
            worker.patch(file, diff)
            by = worker.first_to_fail(programs, tests_for(room)) if worker.build() else "the compiler"
            worker.patch(file, diff, "-R")
            with lock:
                if by:
                    noticed[by.split(":")[0]] += 1
                else:
                    survivors.append(name)
                print(f"{'noticed by ' + by if by else 'SURVIVED'}  {name}", flush=True)

    # No mutant's doing: what fails already would notice everything.
    base = Worker(tree, f"{scratch}/base", seconds)
    if not base.build():
        sys.exit("mutants: the tree itself does not build")
    fails = base.first_to_fail(programs, sorted({test for _, room, _ in mutants for test in tests_for(room)}))
    if fails:
        sys.exit(f"mutants: without any of them, {fails} fails")
    threads = [threading.Thread(target=work, args=(f"{scratch}/{n}",)) for n in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, times in noticed.most_common():
        print(f"{times:5} {name}")
    if sum(noticed.values()) + len(survivors) != len(mutants):
        sys.exit("mutants: a worker broke off")
    print(f"verdict: {len(mutants) - len(survivors)} of {len(mutants)} noticed, {len(survivors)} survived")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
