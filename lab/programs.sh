# For other scripts: the test files of the lab, built by cargo as the caller of sudo, and run as root.
# shellcheck shell=bash
# cargo's messages as lines: the name of a test file, its program.
name_programs() {
    python3 -c '
import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("executable") and "test" in message["target"]["kind"]:
        print(message["target"]["name"], message["executable"])'
}
build_programs() { programs=$(lab/cargo.sh test -q -p caplet-lab --no-run --message-format=json | name_programs); }
# Where cargo has built that test file, as it says itself.
program() {
    local built
    built=$(printf '%s\n' "$programs" | sed -n "s/^$1 //p")
    echo "${built:?cargo names no test $1}"
}
