#!/usr/bin/env python3
"""What many sessions open at once cost; see README.md.

As root: CAPLET_BUILD=target/release bench/many.py [--sizes 100,1000,2000] [--write FILE]."""
import argparse, subprocess, sys, tempfile, time
from pathlib import Path

import run

INSIDE = ["/bin/sh", "-c", "echo; exec sleep 99999"]
KINDS = {
    "iso": "caplet run --quiet -p iso".split(),
    "hostnet": "caplet run --quiet -p hostnet".split(),
    "host": "caplet run --quiet -p hostprofile".split(),
    "bwrap-all": "bwrap --die-with-parent --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp".split(),
}
KERNEL = ["Slab", "KernelStack", "PageTables", "Percpu"]


def meminfo():
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {key: values.get(key, 0) for key in KERNEL}


def own_memory():
    """Private_Dirty and Pss, in KiB, of every process of caplet's or bwrap's, and how many they are."""
    dirty = pss = count = 0
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and (folder / "comm").read_text().startswith(("caplet", "bwrap")):
                rollup = dict(line.split(":", 1) for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
                dirty += int(rollup["Private_Dirty"].split()[0])
                pss += int(rollup["Pss"].split()[0])
                count += 1
        except (FileNotFoundError, ProcessLookupError, KeyError):
            pass  # it ended
    return dirty, pss, count


def calm():
    """Waits until the kernel has taken down what earlier sessions left: their network namespaces go one by one."""
    last = None
    for _ in range(120):
        slab = meminfo()["Slab"]
        if last is not None and abs(slab - last) < 512:
            return
        last = slab
        time.sleep(0.5)


def hold(box, size, words):
    calm()
    before = meminfo()
    job = subprocess.Popen(
        box.command(["/usr/local/bin/many", str(size), *words, *INSIDE], user=True),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    opened = job.stdout.readline().split()
    if not opened:
        return None, job.communicate()[1].strip().splitlines()[-1:]
    time.sleep(1)
    after = meminfo()
    dirty, pss, count = own_memory()
    out, errors = job.communicate("\n")
    if job.returncode:
        return None, errors.strip().splitlines()[-1:]
    kernel = {key: (after[key] - before[key]) / size for key in KERNEL}
    return ([int(n) / 1e6 for n in opened], [int(n) / 1e6 for n in out.split()], dirty / size, pss / size, count / size, kernel), None


def main():
    parser = argparse.ArgumentParser(description="measures many sessions at once; needs root")
    parser.add_argument("--sizes", default="100,1000,2000")
    parser.add_argument("--write", metavar="FILE", help="append the report there")
    options = parser.parse_args()
    lines = [
        "Each opens its sessions one after another, holds all of them, and ends each by SIGTERM to its first process; times in ms: median, median of the last tenth, largest. Memory a session, in KiB: of the tool's own processes (`smaps_rollup`), and what the machine's kernel took (`/proc/meminfo`; the sleeping command's share is in it for all alike).",
        "",
        "| open at once | what | open | close | processes | Private_Dirty | Pss | " + " | ".join(KERNEL) + " |",
        "|---|---|---|---|---|---|---|" + "---|" * len(KERNEL),
    ]
    bad = []
    with run.machine() as (box, _, _), tempfile.TemporaryDirectory(prefix="caplet-bench.") as folder:
        subprocess.run(["cc", "-O2", "-o", f"{folder}/many", run.HERE / "many.c"], check=True)
        box.put("/usr/local/bin/many", Path(f"{folder}/many").read_bytes(), 0o755)
        box.put("/etc/caplet/policy.toml", run.POLICY.replace("users =", "max_sessions = 4096\nusers ="), 0o640)
        for size in map(int, options.sizes.split(",")):
            for kind, words in KINDS.items():
                row, why = hold(box, size, words)
                if row is None:
                    lines.append(f"| {size} | {kind} | not done: {' '.join(why)} |")
                    bad += [kind] if words[0] == "caplet" else []
                    continue
                opened, closed, dirty, pss, count, kernel = row
                times = [" / ".join(f"{ms:.2f}" for ms in part) for part in (opened, closed)]
                cells = [f"{dirty:.0f}", f"{pss:.0f}", *(f"{kernel[key]:.0f}" for key in KERNEL)]
                lines.append(f"| {size} | {kind} | {times[0]} | {times[1]} | {count:.1f} | " + " | ".join(cells) + " |")
    lines += ["", "Verdict: " + (f"not done: {', '.join(bad)}" if bad else "every session opened and closed")]
    print("\n".join(lines))
    if options.write:
        with open(options.write, "a") as file:
            file.write("\n## Many sessions at once\n\n" + "\n".join(lines) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
