#!/usr/bin/env python3
"""What a large policy costs: caplet and its peers with as many rules each, the last one the caller's; see README.md.

As root: CAPLET_BUILD=target/release bench/scale.py [--rounds N] [--write FILE]. Exit code 1: a bar was missed."""
import argparse, sys

import run

SIZES = [1, 100, 1000, 10000]
COMMANDS = [row for row in run.COMMANDS if row[0] in ("true", "sudo", "sudo-rs", "doas", "dosr", "host")]
# A size's median, in parts of that of one profile.
BARS = {100: 1.15, 1000: 2.0}


def policy(size):
    others = (
        f'[profile.course{n}]\ndescription = "Course {n}"\nusers = ["student{n}"]\nmay_add = ["NET_RAW"]\n'
        for n in range(1, size)
    )
    last = f'[profile.hostprofile]\nusers = ["{run.NAME}"]\nscope = "host"\ncaps = ["SYS_NICE"]\npam_account = false\n'
    return "\n".join([*others, last])


def rules(size, other, own):
    return "\n".join([*(other.format(n) for n in range(1, size)), own]) + "\n"


def furnish(box, size):
    box.put("/etc/caplet/policy.toml", policy(size), 0o640)
    sudoers = rules(size, "student{} ALL=(root) NOPASSWD: /usr/bin/id", f"{run.NAME} ALL=(ALL) NOPASSWD: ALL")
    for path in ["/etc/sudoers.d/bench", "/etc/sudoers-rs"]:
        box.put(path, sudoers, 0o440)
    box.put("/etc/security/rootasrole.d/bench.json", run.dosr_rules(size), 0o600)
    box.put("/etc/doas.conf", rules(size, "permit nopass student{} as root cmd /usr/bin/id", f"permit nopass {run.NAME}"), 0o600)


def report(results, rounds):
    yield f"Rules: one for each other user, the caller's last; {rounds} rounds for each size, order shuffled in each; a syslog reader is present."
    yield ""
    yield "| rules | what | median | to `true` | ru_maxrss |"
    yield "|---|---|---|---|---|"
    for size, rows in results.items():
        base = next(row[2] for row in rows if row[0] == "true")
        for key, _, median, _, maxrss in rows:
            if key != "true":
                yield f"| {size} | {'caplet' if key == 'host' else key} | {median / 1e6:.2f} ms | {median / base:.2f} | {maxrss} KiB |"
    yield ""
    bad = []
    host = {size: next(row for row in rows if row[0] == "host") for size, rows in results.items()}
    for size, bar in BARS.items():
        ratio = host[size][2] / host[1][2]
        yield f"\n{size} profiles: {ratio:.2f} times one, bar ≤ {bar}: " + ("met" if ratio <= bar else "**missed**")
        if ratio > bar:
            bad.append(str(size))
    largest = SIZES[-1]
    for key, _, median, _, maxrss in results[largest]:
        if key in ("true", "host"):
            continue
        ahead = host[largest][2] < median and host[largest][4] < maxrss
        yield f"\n{largest} profiles, beside {key}: " + ("ahead in time and memory" if ahead else "**not ahead in both**")
        if not ahead:
            bad.append(f"{largest} beside {key}")
    yield ""
    yield "Verdict: " + (f"missed: {', '.join(bad)}" if bad else "every bar met")


def main():
    parser = argparse.ArgumentParser(description="measures large policies; needs root")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--write", metavar="FILE", help="append the report there")
    options = parser.parse_args()
    results, missing = {}, []
    with run.machine() as (box, _, _):
        for size in SIZES:
            furnish(box, size)
            results[size], missing = run.measure(box, COMMANDS, options.rounds)
    lines = [*report(results, options.rounds)]
    lines[-1:-1] = [f"\nMissing here: {line}" for line in missing]
    print("\n".join(lines))
    if options.write:
        with open(options.write, "a") as file:
            file.write("\n## Large policies\n\n" + "\n".join(lines) + "\n")
    return 0 if "every bar met" in lines[-1] else 1


if __name__ == "__main__":
    sys.exit(main())
