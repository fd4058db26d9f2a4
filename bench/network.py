#!/usr/bin/env python3
"""What a network with others costs, and a way out; see README.md.

As root: CAPLET_BUILD=target/release bench/network.py [--rounds N] [--sessions N] [--seconds N] [--write FILE].
Exit code 1: a bar was missed."""
import argparse, json, subprocess, sys, time
from pathlib import Path

import run

START, SPEED = 1.6, 0.9
POLICY = f"""
[network.bench]
subnet = "172.30.0.0/16"
[profile.iso]
users = ["{run.NAME}"]
max_sessions = 4096
[profile.lan]
users = ["{run.NAME}"]
network = "bench"
max_sessions = 4096
[network.out]
kind = "outgoing"
[profile.out]
users = ["{run.NAME}"]
network = "out"
"""
# A server in a network namespace of its own, beyond a veth pair of the machine's, stands for the outside.
OUTSIDE = """
unshare -n sleep 9999 >/dev/null 2>&1 & echo $! >/run/outside; sleep 0.5
ip link add uplink type veth peer name up0 netns $(cat /run/outside)
ip addr add 203.0.113.1/24 dev uplink; ip link set uplink up; ip route add default via 203.0.113.2
inside() { nsenter -t $(cat /run/outside) -n "$@"; }
inside ip addr add 203.0.113.2/24 dev up0; inside ip link set up0 up
inside iperf3 -s -D >/dev/null; sleep 0.5
"""
# Runs inside, as the user: so many sessions by eight starters at once; each must have an address of its own and reach the
# gateway. The answer on a line, then all end on one.
MANY = r"""
import json, subprocess, sys, threading, time
size = int(sys.argv[1])
line = "ip -4 -br addr show eth0; ping -c 1 -W 5 172.30.0.1 >/dev/null && echo reached; read end"
jobs, lock, started = [None] * size, threading.Lock(), time.monotonic()
def start(first):
    for n in range(first, size, 8):
        jobs[n] = subprocess.Popen(["caplet", "run", "--quiet", "-p", "lan", "sh", "-c", line],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        jobs[n].answer = [jobs[n].stdout.readline(), jobs[n].stdout.readline()]
starters = [threading.Thread(target=start, args=(n,)) for n in range(8)]
[s.start() for s in starters]
[s.join() for s in starters]
opened = time.monotonic() - started
addresses = [job.answer[0].split()[-1] for job in jobs if "/" in job.answer[0]]
reached = sum(job.answer[1] == "reached\n" for job in jobs)
wrong = [job.answer for job in jobs if job.answer[1] != "reached\n"][:3]
print(json.dumps({"open": opened, "distinct": len(set(addresses)), "reached": reached, "wrong": wrong}), flush=True)
sys.stdin.readline()
started = time.monotonic()
for job in jobs:
    job.stdin.write("\n"); job.stdin.flush()
codes = [job.wait() for job in jobs]
print(json.dumps({"end": time.monotonic() - started, "codes": sorted(set(codes))}), flush=True)
"""


def left(box):
    """What there is of networks: links, rules, records."""
    words = ["bash", "-c", "ip -br link; nft list ruleset; ls /run/caplet; ip route show table all"]
    text = subprocess.run(box.command(words), capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if "cplt" in line or "caplet" in line or line.startswith("net.") or "172.30" in line]


def many(box, size):
    box.put("/usr/local/lib/many-lan.py", MANY, 0o755)
    words = box.command(["/usr/bin/python3", "/usr/local/lib/many-lan.py", str(size)], user=True)
    job = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    opened = json.loads(job.stdout.readline())
    job.stdin.write("\n")
    job.stdin.flush()
    ended = json.loads(job.communicate()[0])
    started = time.monotonic()
    while (rest := left(box)) and time.monotonic() - started < 60:
        time.sleep(0.2)
    return {**opened, **ended, "clean": time.monotonic() - started, "left": rest}


def outgoing(box, seconds, rounds):
    """Of a session with a way out of its own (passt): start beside a private one, in ms; Gbit/s to the outside and back, beside the
    machine itself, the best of two."""
    subprocess.run(box.command(["bash", "-c", OUTSIDE]), stdout=subprocess.DEVNULL)
    commands = [(key, "caplet", f"caplet run --quiet -p {key} /bin/true") for key in ("iso", "out")]
    rows, _ = run.measure(box, commands, rounds)
    start = {row[0]: row[2] / 1e6 for row in rows}
    best = {}
    for _ in range(2):
        for who, words in [("machine", []), ("session", ["caplet", "run", "--quiet", "-p", "out"])]:
            for way, more in [("there", []), ("back", ["-R"])]:
                command = box.command([*words, "iperf3", "-J", "-t", str(seconds), "-c", "203.0.113.2", *more], user=True)
                out = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
                rate = json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e9
                best[who, way] = max(best.get((who, way), 0), rate)
    return start, best


def iperf(box, seconds):
    """Gbit/s between two network namespaces: a veth pair, a bridge without any rule, and two sessions in a network; in
    turn, the best of three."""
    client = f"iperf3 -J -t {seconds} -c"
    script = f"""
unshare -n sleep 600 & a=$!; unshare -n sleep 600 & b=$!; sleep 0.5
ip link add va netns $a type veth peer name vb netns $b
nsenter -t $a -n sh -c 'ip addr add 10.77.0.1/24 dev va; ip link set va up'
nsenter -t $b -n sh -c 'ip addr add 10.77.0.2/24 dev vb; ip link set vb up'
nsenter -t $b -n iperf3 -s -1 >/dev/null & sleep 0.5
nsenter -t $a -n {client} 10.77.0.2; kill $a $b
"""
    bridge = f"""
unshare -n sleep 600 & a=$!; unshare -n sleep 600 & b=$!; sleep 0.5
ip link add plain type bridge; ip link set plain up
for n in 1 2; do
    [ $n = 1 ] && pid=$a || pid=$b
    ip link add plain$n type veth peer name v0 netns $pid; ip link set plain$n master plain up
    nsenter -t $pid -n sh -c "ip addr add 10.77.0.$n/24 dev v0; ip link set v0 up"
done
nsenter -t $b -n iperf3 -s -1 >/dev/null & sleep 0.5
nsenter -t $a -n {client} 10.77.0.2; kill $a $b; ip link del plain
"""
    server = "ip -4 -br addr show eth0; exec iperf3 -s -1"
    best = {"veth": 0.0, "bridge": 0.0, "caplet": 0.0}
    rate = lambda text: json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e9
    for _ in range(3):
        for what, lines in [("veth", script), ("bridge", bridge)]:
            out = subprocess.run(box.command(["bash", "-c", lines]), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
            best[what] = max(best[what], rate(out))
        lan = ["caplet", "run", "--quiet", "-p", "lan"]
        listen = subprocess.Popen(box.command([*lan, "sh", "-c", server], user=True), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        address = listen.stdout.readline().split()[-1].split("/")[0]
        time.sleep(0.5)
        out = subprocess.run(box.command([*lan, *client.split(), address], user=True), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
        best["caplet"] = max(best["caplet"], rate(out))
        listen.wait()
    return best


def main():
    parser = argparse.ArgumentParser(description="measures networks between sessions; needs root")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--write", metavar="FILE", help="append the report there")
    options = parser.parse_args()
    bad, lines = [], ["| what | beside it | in a network | bar | |", "|---|---|---|---|---|"]

    def row(what, beside, own, bar, met):
        lines.append(f"| {what} | {beside} | {own} | {bar} | {'met' if met else '**missed**'} |")
        if not met:
            bad.append(what)

    with run.machine() as (box, _, _):
        box.put("/etc/caplet/policy.toml", POLICY, 0o640)
        # One session stays, as in a lab where people work: the network is there.
        holder = subprocess.Popen(box.command("caplet run --quiet -p lan sleep 9999".split(), user=True), stdin=subprocess.DEVNULL)
        time.sleep(0.5)
        commands = [("iso", "caplet", "caplet run --quiet -p iso /bin/true"), ("lan", "caplet", "caplet run --quiet -p lan /bin/true")]
        rows, _ = run.measure(box, commands, options.rounds)
        iso, lan = (next(row[2] for row in rows if row[0] == key) / 1e6 for key in ("iso", "lan"))
        row("start and end of a session, median", f"private {iso:.2f} ms", f"{lan:.2f} ms", f"{START} times", lan <= START * iso)
        for pid in run.chain(holder.pid)[1:2]:
            subprocess.run(["kill", str(pid)])
        holder.wait()
        first = subprocess.run(box.command(["bash", "-c", "time caplet run --quiet -p lan /bin/true"], user=True), capture_output=True, text=True).stderr
        lines.append(f"| the first one, which makes the network | | {first.split()[1]} | | |")
        result = many(box, options.sessions)
        fine = result["distinct"] == result["reached"] == options.sessions and result["codes"] == [0] and not result["left"]
        text = f"{result['distinct']} addresses, {result['reached']} reach the gateway; open {result['open']:.1f} s, end {result['end']:.1f} s, nothing left after {result['clean']:.1f} s more {result['left'] or ''}{result['wrong'] or ''}"
        row(f"{options.sessions} sessions by 8 starters", "", text, "all; nothing stays", fine)
        if subprocess.run(box.command(["sh", "-c", "command -v iperf3"]), capture_output=True).returncode == 0:
            best = iperf(box, options.seconds)
            row("iperf3, one stream", f"veth {best['veth']:.1f} Gbit/s", f"{best['caplet']:.1f} Gbit/s", f"{SPEED} times", best["caplet"] >= SPEED * best["veth"])
            lines.append(f"| iperf3, a bridge without any rule | | {best['bridge']:.1f} Gbit/s | none | |")
        else:
            lines.append("| iperf3 | not installed | | | |")
        if all(subprocess.run(box.command(["sh", "-c", f"command -v {p}"]), capture_output=True).returncode == 0 for p in ("passt", "iperf3")):
            start, best = outgoing(box, options.seconds, options.rounds // 2)
            lines.append(f"| start and end with a way out (passt), median | private {start['iso']:.2f} ms | {start['out']:.2f} ms | none | |")
            for way in ("there", "back"):
                lines.append(f"| iperf3 by passt, one stream {way} | the machine itself {best['machine', way]:.1f} Gbit/s | {best['session', way]:.1f} Gbit/s | none | |")
        else:
            lines.append("| a way out | passt or iperf3 is not installed | | | |")
    lines += ["", "Verdict: " + (f"missed: {', '.join(bad)}" if bad else "every bar met")]
    print("\n".join(lines))
    if options.write:
        with open(options.write, "a") as file:
            file.write("\n## Networks\n\n" + "\n".join(lines) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
