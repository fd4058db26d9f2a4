#!/usr/bin/env python3
"""What a login shell of caplet's costs whoever sits in it; see README.md.

As root: CAPLET_BUILD=target/release bench/login.py [--rounds N] [--mebibytes N] [--sessions N] [--write FILE].
Exit code 1: a bar was missed."""
import argparse, json, os, statistics, subprocess, sys, time
from pathlib import Path

import run

INSIDE = run.HERE / "login-inside.py"
LOGIN_MS, KEY_MS, FLOW, IDLE_KIB = 8.0, 0.3, 0.5, 2560
POLICY = f"""
[profile.iso]
users = ["{run.NAME}"]
[profile.course]
users = ["{run.NAME}"]
login = true
network = "host"
max_sessions = 1000
"""
SSHD = "Port 22\nListenAddress 127.0.0.1\nHostKey /etc/bench-host\nUsePAM yes\nPidFile none\nPrintMotd no\nPrintLastLog no\n"
PLAIN = "benchplain"


def inside(box, *words, **streams):
    return subprocess.Popen(
        box.command(["/usr/bin/python3", "/usr/local/lib/login-inside.py", *map(str, words)], user=True),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **streams,
    )


def answer(job):
    out, _ = job.communicate()
    if job.returncode:
        sys.exit(f"login-inside.py: code {job.returncode}: {out}")
    return json.loads(out.splitlines()[-1])


def prepare(box):
    box.put("/usr/local/lib/login-inside.py", INSIDE.read_bytes(), 0o755)
    box.put("/etc/caplet/policy.toml", POLICY, 0o640)
    box.put("/etc/bench-sshd", SSHD, 0o600)
    (Path(f"{box.root}/usr/bin/caplet-shell")).symlink_to("caplet")
    line = f"{PLAIN}:x:{run.UID + 1}:{run.UID}::/home/{run.NAME}:/bin/bash\n"
    with open(f"{box.root}/etc/passwd", "a") as file:
        file.write(line)
    with open(f"{box.root}/etc/shadow", "a") as file:
        file.write(f"{PLAIN}:*:20000:0:99999:7:::\n")
    script = f"""
sed -i 's#^\\({run.NAME}:.*\\):/bin/bash$#\\1:/usr/bin/caplet-shell#' /etc/passwd
mkdir -p /run/sshd /root/.ssh /etc/bench-keys; ssh-keygen -q -t ed25519 -N '' -f /etc/bench-host
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/bench; cp /root/.ssh/bench.pub /etc/bench-keys/keys; chmod 755 /etc/bench-keys
chmod 755 /home/{run.NAME}
/usr/sbin/sshd -f /etc/bench-sshd -o AuthorizedKeysFile=/etc/bench-keys/keys -o StrictModes=no -E /var/log/bench-sshd
"""
    subprocess.run(box.command(["bash", "-ec", script]), check=True)


def logins(box, rounds):
    """ms of `ssh HOST true`, over one connection each: bash as login shell, and caplet-shell; in turn."""
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -i /root/.ssh/bench"
    ssh = ["ssh", "-F", "none", *options.split(), "-o", "ControlPath=/run/bench-%r"]
    masters = []
    for user in (PLAIN, run.NAME):
        masters.append(subprocess.Popen(box.command([*ssh, "-M", "-N", f"{user}@127.0.0.1"]), stdin=subprocess.DEVNULL))
    # One process times both, so that entering the machine is in neither.
    program = (
        "import subprocess, sys, time, json\n"
        "rounds, ssh, users = json.loads(sys.argv[1])\n"
        "times = {user: [] for user in users}\n"
        "for n in range(rounds + 5):\n"
        "    for user in users if n % 2 else users[::-1]:\n"
        "        started = time.perf_counter()\n"
        "        subprocess.run([*ssh, user + '@127.0.0.1', 'true'], check=True, stdin=subprocess.DEVNULL)\n"
        "        times[user].append((time.perf_counter() - started) * 1e3)\n"
        "print(json.dumps({user: list[5:] for user, list in times.items()}))\n"
    )
    time.sleep(1.5)
    try:
        words = ["/usr/bin/python3", "-c", program, json.dumps([rounds, ssh, [PLAIN, run.NAME]])]
        out = subprocess.run(box.command(words), stdout=subprocess.PIPE, text=True, check=True).stdout
    finally:
        for master in masters:
            master.terminate()
    times = json.loads(out)
    return statistics.median(times[PLAIN]), statistics.median(times[run.NAME])


def ours(pid):
    """caplet's processes below one, and what they hold."""
    found = []
    todo = [pid]
    while todo:
        pid = todo.pop()
        todo += run.children(pid)
        if Path(f"/proc/{pid}/comm").read_text().startswith("caplet"):
            found.append((pid, run.private_dirty(pid)))
    return found


def idle(box):
    job = inside(box, "idle")
    job.stdout.readline()
    time.sleep(4)  # the watcher has looked at the user database
    held = ours(job.pid)
    job.communicate("\n")
    return held


def many(box, size):
    job = inside(box, "many", size)
    job.stdout.readline()
    held = ours(job.pid)
    job.stdin.write("\n")
    job.stdin.flush()
    return answer(job), sum(dirty for _, dirty in held), len(held)


def main():
    parser = argparse.ArgumentParser(description="measures the login shell; needs root")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--write", metavar="FILE", help="append the report there")
    options = parser.parse_args()
    bad, lines = [], ["| what | beside it | caplet | bar | |", "|---|---|---|---|---|"]

    def row(what, beside, own, bar, met):
        lines.append(f"| {what} | {beside} | {own} | {bar} | {'met' if met else '**missed**'} |")
        if not met:
            bad.append(what)

    with run.machine() as (box, syslog, _):
        prepare(box)
        plain, own = logins(box, options.rounds)
        row("`ssh HOST true`, median", f"bash {plain:.1f} ms", f"{own:.1f} ms", f"+ {LOGIN_MS} ms", own - plain <= LOGIN_MS)
        times = answer(inside(box, "keys", options.rounds * 10))
        none, own = statistics.median(times["none"]), statistics.median(times["caplet"])
        row("a key's echo, median", f"terminal {none:.0f} µs", f"{own:.0f} µs", f"+ {KEY_MS * 1e3:.0f} µs", own - none <= KEY_MS * 1e3)
        big = Path(f"{box.root}/var/tmp/big")
        line = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234\n" * 16384
        with open(big, "wb") as file:
            for _ in range(options.mebibytes):
                file.write(line[: 1 << 20])
        os.chmod(big, 0o644)
        job = subprocess.Popen(
            box.command(["env", "BIG=/var/big", "/usr/bin/python3", "/usr/local/lib/login-inside.py", "flow", str(options.mebibytes), "2"], user=True),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) if big.rename(f"{box.root}/var/big") else None
        times = answer(job)
        rate = {kind: options.mebibytes / min(list) for kind, list in times.items()}
        row(f"{options.mebibytes} MiB through a terminal", f"script {rate['script']:.0f} MiB/s", f"{rate['caplet']:.0f} MiB/s", f"{FLOW} times", rate["caplet"] >= FLOW * rate["script"])
        Path(f"{box.root}/var/big").unlink()
        held = idle(box)
        kib = sum(dirty for _, dirty in held)
        row("an idle interactive login holds", "", f"{kib} KiB in {len(held)} processes", f"{IDLE_KIB} KiB", kib <= IDLE_KIB)
        before = syslog.grants, syslog.ends
        result, dirty, count = many(box, options.sessions)
        time.sleep(1)
        grants, ends = syslog.grants - before[0], syslog.ends - before[1]
        fine = result["wrong"] == 0 and result["codes"] == [0] and (grants, ends) == (options.sessions, options.sessions)
        text = f"open {result['open']:.1f} s, answer {result['answer']:.1f} s, end {result['end']:.1f} s; {dirty // options.sessions} KiB each; {grants} grants, {ends} ends"
        row(f"{options.sessions} logins at once", "", text, "all answer and end", fine)
    lines += ["", "Verdict: " + (f"missed: {', '.join(bad)}" if bad else "every bar met")]
    print("\n".join(lines))
    if options.write:
        with open(options.write, "a") as file:
            file.write("\n## The login shell\n\n" + "\n".join(lines) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
