"""Reads `cargo metadata`; writes name, version, licence and licence texts of all that the named packages link."""
import json
import pathlib
import sys

data = json.load(sys.stdin)
packages = {package["id"]: package for package in data["packages"]}
nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
todo = [ident for ident, package in packages.items() if package["name"] in sys.argv[1:]]
linked = set()
while todo:
    ident = todo.pop()
    if ident not in linked:
        linked.add(ident)
        todo += [dep["pkg"] for dep in nodes[ident]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
texts = {}
for package in sorted((packages[ident] for ident in linked), key=lambda package: (package["name"], package["version"])):
    if package["source"] is None:
        continue
    print(f"{package['name']} {package['version']}: {package['license']}")
    folder = pathlib.Path(package["manifest_path"]).parent
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT")):
            text = "\n".join(line.rstrip() for line in file.read_text(errors="replace").strip().splitlines())
            texts.setdefault(text, []).append(f"{package['name']} {package['version']}")
for text, names in texts.items():
    print(f"\n{'-' * 78}\n{', '.join(names)}:\n\n{text}")
