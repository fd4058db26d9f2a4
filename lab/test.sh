#!/usr/bin/env bash
# All tests: format and lints, units, then the system tests in throwaway machines, which need root.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
skips=$(mktemp)
trap 'rm -f "$skips"' EXIT
chmod 666 "$skips"
export CAPLET_SKIPS=$skips
echo "== format and lints"
lab/cargo.sh fmt --check
lab/cargo.sh clippy -q --workspace --all-targets -- -D warnings
lab/crates.py
echo "== release build"
lab/build.sh
export CAPLET_BUILD=$PWD/target/release
echo "== units and system tests"
if [ "$(id -u)" = 0 ] && [ -z "${SUDO_USER:-}" ]; then
    lab/cargo.sh test --workspace --no-fail-fast --features caplet-policy/render
else
    lab/cargo.sh test --workspace --exclude caplet-lab --features caplet-policy/render
    # Built as the caller, run as root.
    lab/cargo.sh test -p caplet-lab --no-run
    for source in lab/tests/*.rs; do
        name=$(basename "$source" .rs)
        newest=$(find target/debug/deps -name "$name-*" -type f -perm -u+x -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2)
        lab/as-root.sh env CAPLET_BUILD="$CAPLET_BUILD" CAPLET_SKIPS="$skips" "$newest"
    done
fi
echo "== skipped"
if [ -s "$skips" ]; then sort -u "$skips"; else echo "nothing"; fi
echo "verdict: every test passed"
