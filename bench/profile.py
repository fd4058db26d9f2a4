#!/usr/bin/env python3
"""Where caplet's own time goes: perf(1) samples by program, and the system calls that take longest; see README.md.

As root: CAPLET_BUILD=target/release bench/profile.py [--write FILE]."""
import argparse, collections, shutil, subprocess, sys, tempfile

import run


def samples(box, command, folder):
    """Share of each (program, object) in the processor's time of 300 runs; idle time left out."""
    data = f"{folder}/perf"
    drive = box.command(["/usr/local/bin/drive", "300", command], user=True)
    record = ["perf", "record", "-q", "-F", "10000", "-a", "-e", "cpu-clock", "-o", data, "--", *drive]
    subprocess.run(record, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    words = ["perf", "report", "-i", data, "--sort", "comm,dso", "--stdio", "-t", "\t", "-F", "sample,comm,dso"]
    counts = collections.Counter()
    for line in subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines():
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) == 3 and cells[0].isdigit() and not cells[1].startswith(("swapper", "perf", "python")):
            program = cells[1] if cells[1] in ("caplet", "caplet-helper", "true", "drive") else "kernel threads and others"
            counts[program, cells[2]] += int(cells[0])
    return counts


def calls(box, command):
    """`strace -c -w` of ten runs: (call, percent of the time, times a run)."""
    script = f"for n in 1 2 3 4 5 6 7 8 9 10; do {command}; done"
    words = ["strace", "-u", run.NAME, "-f", "-c", "-w", "-U", "name,time,calls", "-S", "time", "-o", "/root/calls", "sh", "-c", script]
    subprocess.run(box.command(words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    rows = [line.split() for line in (box.root / "root/calls").read_text().splitlines()]
    return [(row[0], row[1], int(row[-1]) / 10) for row in rows if len(row) == 3 and row[2].isdigit() and row[0] != "total"]


def main():
    parser = argparse.ArgumentParser(description="profiles caplet; needs root")
    parser.add_argument("--write", metavar="FILE", help="append the report there")
    options = parser.parse_args()
    lines = []
    with run.machine() as (box, _, _), tempfile.TemporaryDirectory(prefix="caplet-bench.") as folder:
        for key in ["host", "iso"]:
            command = next(row[2] for row in run.COMMANDS if row[0] == key)
            lines += [f"`{command}`:", ""]
            if shutil.which("perf"):
                counts = samples(box, command, folder)
                total = sum(counts.values())
                lines += ["| program | object | share of processor time |", "|---|---|---|"]
                lines += [f"| {program} | {name} | {100 * n / total:.1f} % |" for (program, name), n in counts.most_common(10)]
            else:
                lines += ["Missing here: perf"]
            lines += ["", "System calls by wall time under strace (waiting included), ten runs:", "", "| call | share | times a run |", "|---|---|---|"]
            lines += [f"| {name} | {share} % | {times:g} |" for name, share, times in calls(box, command)[:12]]
            lines += [""]
    print("\n".join(lines))
    if options.write:
        with open(options.write, "a") as file:
            file.write("\n## Where the time goes\n\n" + "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
