#!/usr/bin/env bash
# All tests: format and lints, units, then the system tests in throwaway machines, which need root.
set -euo pipefail
cd "$(dirname "$0")/.."
. lab/programs.sh
export CARGO_TERM_COLOR=never
skips=$(mktemp)
verdict="FAILED, and cut short"
ends() {
    rm -f "$skips"
    echo "verdict: $verdict"
}
trap ends EXIT
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
failed=0
# What mostly waits, a minute and more each: side by side, with all of their tests at once.
waiting="lifetimes sessions withdrawal"
is_waiting() { case " $waiting " in *" $1 "*) ;; *) false ;; esac; }
# One test file of the lab, as root.
file() {
    local built
    built=$(program "$1") || return
    lab/as-root.sh env CAPLET_BUILD="$CAPLET_BUILD" CAPLET_SKIPS="$skips" "$built" "${@:2}"
}
# Its output in one piece.
apart() {
    local said code=0
    said=$("$@" 2>&1) || code=$?
    printf '%s\n' "$said"
    return $code
}
render="--features caplet-policy/render"
if [ "$(id -u)" = 0 ] && [ -z "${SUDO_USER:-}" ]; then
    others=$(for source in */tests/*.rs; do
        name=$(basename "$source" .rs)
        is_waiting "$name" || printf -- '--test %s\n' "$name"
    done | sort -u)
    # shellcheck disable=SC2086
    lab/cargo.sh test --workspace --no-fail-fast $render --lib --bins $others || failed=1
    # shellcheck disable=SC2086
    lab/cargo.sh test --workspace $render --doc || failed=1
    waits() { lab/cargo.sh test --workspace $render --test "$1" -- --test-threads=16; }
else
    # shellcheck disable=SC2086
    lab/cargo.sh test --workspace --exclude caplet-lab $render || failed=1
    build_programs
    for source in lab/tests/*.rs; do
        name=$(basename "$source" .rs)
        is_waiting "$name" || file "$name" || failed=1
    done
    waits() { file "$1" --test-threads=16; }
fi
jobs=()
for name in $waiting; do
    apart waits "$name" &
    jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job" || failed=1; done
echo "== skipped"
if [ -s "$skips" ]; then sort -u "$skips"; else echo "nothing"; fi
verdict=FAILED
[ "$failed" = 0 ] || exit 1
verdict="every test passed"
