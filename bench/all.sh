#!/usr/bin/env bash
# Every measurement, one after another, as root; with a FILE the reports are written there too. Exit code 1: a bar was missed.
set -uo pipefail
cd "$(dirname "$0")"
code=0
write=()
[ $# = 0 ] || write=(--write "$(cd .. && realpath "$1")")
for part in run scale many login network why profile; do
    echo "== $part"
    python3 "$part.py" "${write[@]}" || code=1
done
exit $code
