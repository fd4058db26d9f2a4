#!/usr/bin/env python3
"""What can be said of the code without running it: the crates that the helper links, against the versions that were last
looked at (helper/crates.tsv), and where `unsafe` stands.
usage: lab/crates.py [--write]      (--write: after a look at what changed, puts the new facts down)"""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
TABLE = HERE / "helper/crates.tsv"
HEAD = "crate\tversion\tchecksum\tlines\tunsafe\tbuild script\tproc macro"
# The rooms of ours that may hold `unsafe`; what runs as root has one, `caplet why` a crate for ptrace(2).
ROOMS = ("helper/src/sys/", "trace/src/", "lab/src/")


def cargo(*words):
    out = subprocess.run([HERE / "lab/cargo.sh", *words], cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    return out.stdout


def code(path):
    """The text of a file without comments, strings left in."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(errors="replace"), flags=re.S)


def count(folder):
    """Lines that are neither empty nor comments, and blocks, functions and impls that are unsafe."""
    texts = [code(path) for path in sorted(folder.rglob("*.rs"))]
    lines = sum(1 for text in texts for line in text.split("\n") if line.strip())
    return lines, sum(len(re.findall(r"\bunsafe\s*(?:\{|fn\b|impl\b|extern\b)", text)) for text in texts)


def checksums():
    text = (HERE / "Cargo.lock").read_text()
    return dict(re.findall(r'name = "([^"]+)"\nversion = "[^"]+"\nsource = "[^"]+"\nchecksum = "([0-9a-f]+)"', text))


def facts():
    """A row for each crate that the helper links."""
    linked = set(cargo("tree", "-e", "normal", "-p", "caplet-helper", "--prefix", "none", "--format", "{p}").split("\n"))
    linked = {tuple(line.split()[:2]) for line in linked if line and "(" not in line}
    packages = json.loads(cargo("metadata", "--format-version", "1", "--locked"))["packages"]
    sums, rows = checksums(), []
    for package in sorted(packages, key=lambda p: p["name"]):
        name, version = package["name"], package["version"]
        if (name, f"v{version}") not in linked:
            continue
        kinds = {kind for target in package["targets"] for kind in target["kind"]}
        lines, unsafe = count(Path(package["manifest_path"]).parent / "src")
        yes = ["yes" if kind in kinds else "no" for kind in ("custom-build", "proc-macro")]
        rows.append([name, version, sums.get(name, "-")[:16], str(lines), str(unsafe), *yes])
    assert len(rows) == len(linked), (rows, linked)
    return rows


def main():
    wrong, rows = [], facts()
    text = "\n".join([HEAD, *("\t".join(row) for row in rows)]) + "\n"
    if "--write" in sys.argv:
        TABLE.write_text(text)
    elif not TABLE.exists() or TABLE.read_text() != text:
        wrong.append("helper/crates.tsv is of other versions: look at what changed in them, then lab/crates.py --write")
    readme = (HERE / "helper/README.md").read_text()
    wrong += [f"helper/README.md has no reason for {row[0]}" for row in rows if f"\n| {row[0]} " not in readme]
    wrong += [f"{row[0]} has a proc macro" for row in rows if row[6] == "yes"]
    total = 0
    for path in sorted([*HERE.glob("*/src/**/*.rs"), *HERE.glob("*/tests/**/*.rs")]):
        name, unsafe = str(path.relative_to(HERE)), len(re.findall(r"\bunsafe\s*(?:\{|fn\b|impl\b|extern\b)", code(path)))
        if name.startswith("helper/"):
            total += unsafe
        if unsafe and not name.startswith(ROOMS) and "/tests/" not in name:
            wrong.append(f"{name} is no room for unsafe")
    print(f"unsafe in the helper: {total}, all in helper/src/sys; in the {len(rows)} crates it links:", end=" ")
    print(", ".join(f"{row[0]} {row[4]}" for row in rows))
    for line in wrong:
        print(f"crates: {line}")
    return 1 if wrong else 0


sys.exit(main())
