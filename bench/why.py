#!/usr/bin/env python3
"""What it costs to be watched: `caplet why` beside `caplet run`; see README.md.

As root: CAPLET_BUILD=target/release bench/why.py [--rounds N] [--write FILE]. Exit code 1: a bar was missed."""
import argparse, random, statistics, subprocess, sys, time

import run

BAR = 1.5
LINES = 1000
# Functions of a shape that a compiler has work with, and the headers that such a file has.
HEAD = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n#include <errno.h>\n#include <sys/stat.h>\n"
FUNCTION = """
int work_{n}(const char *text, int size) {{
    int sum = {n};
    for (int i = 0; i < size; i++) {{
        sum = sum * 31 + text[i];
        if (sum % 7 == 3)
            sum ^= i << 2;
    }}
    return sum;
}}
"""
WORK = [
    ("find", "find /usr -type f", "find /usr -type f >/dev/null 2>&1; true"),
    ("cc", f"cc -O2 of {LINES:,} lines of C", "cc -O2 -c -o /tmp/big.o /usr/local/lib/big.c"),
    ("true", "true (the start itself)", "true"),
]


def source():
    text, n = HEAD, 0
    while text.count("\n") < LINES:
        text += FUNCTION.format(n=n)
        n += 1
    return text


def main():
    parser = argparse.ArgumentParser(description="measures caplet why; needs root")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", metavar="FILE", help="append the report there")
    options = parser.parse_args()
    with run.machine() as (box, _, _):
        box.put("/usr/local/lib/big.c", source(), 0o644)
        took = {(key, verb): [] for key, _, _ in WORK for verb in ("run", "why")}
        # The first round fills the caches, and is not counted.
        for number in range(options.rounds + 1):
            order = list(took)
            random.shuffle(order)
            for key, verb in order:
                line = next(work[2] for work in WORK if work[0] == key)
                words = box.command(["caplet", verb, "--quiet", "-p", "iso", "--", "sh", "-c", line], user=True)
                started = time.monotonic()
                subprocess.run(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
                if number:
                    took[key, verb].append(1000 * (time.monotonic() - started))
    bad, lines = [], ["| command | `caplet run`, ms | `caplet why`, ms | times | bar |", "|---|---|---|---|---|"]
    for key, name, _ in WORK:
        plain, watched = (statistics.median(took[key, verb]) for verb in ("run", "why"))
        ratio = watched / plain
        bar = f"{BAR} {'met' if ratio <= BAR else '**missed**'}" if key != "true" else ""
        if key != "true" and ratio > BAR:
            bad.append(name)
        lines.append(f"| {name} | {plain:.1f} | {watched:.1f} | {ratio:.2f} | {bar} |")
    lines += ["", "Verdict: " + (f"missed: {', '.join(bad)}" if bad else "every bar met")]
    print("\n".join(lines))
    if options.write:
        with open(options.write, "a") as file:
            file.write("\n## Being watched (caplet why)\n\n" + "\n".join(lines) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
