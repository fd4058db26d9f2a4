#!/usr/bin/env bash
# Weakens one thing at a time, in a copy of the tree, and shows which system test notices. Run as root.
# usage: lab/sabotage.sh [PATCH...]     (default: every lab/sabotage/*.patch)
# A patch says on its line "Tests: FILE..." which files of lab/tests it runs first; the others follow only where those
# notice nothing. CAPLET_SABOTAGE_QUICK=1: those alone, also before.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "sabotage: the system tests need root" >&2; exit 2; }
patches=("$@")
[ $# -gt 0 ] || patches=(lab/sabotage/*.patch)
work=$(mktemp -d /tmp/caplet-sabotage.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"
git -c safe.directory="$PWD" ls-files -z -co --exclude-standard |
    while IFS= read -r -d '' file; do if [ -e "$file" ]; then printf '%s\0' "$file"; fi; done |
    tar cf - --no-recursion --null -T - | tar xf - -C "$work/tree"
for patch in "${patches[@]}"; do cp "$patch" "$work/"; done
# Under sudo it is the caller's cargo that builds.
if [ -n "${SUDO_USER:-}" ]; then chown -R "$SUDO_USER:" "$work"; fi

cd "$work/tree"
export CARGO_TERM_COLOR=never CARGO_TARGET_DIR=$work/target CAPLET_BUILD=$work/target/release CAPLET_SKIPS=$work/skips
# What is weakened does not depend on how well it is optimised.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
# shellcheck disable=SC1091
. lab/programs.sh
build() { lab/cargo.sh build -q --release -p caplet -p caplet-helper && build_programs; }
run() { # test files... ; the names of the tests that fail
    local name
    : >"$work/log"
    for name in "$@"; do
        # A weakened helper may also hang: that is noticed too.
        timeout 330 "$(program "$name")" >>"$work/log" 2>&1 || { [ $? != 124 ] || echo "(the tests hung)"; }
    done
    sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$work/log" | sort -u
}

all=()
for file in lab/tests/*.rs; do
    name=$(basename "$file" .rs)
    [ "$name" = harness ] || all+=("$name")
done
if [ -n "${CAPLET_SABOTAGE_QUICK:-}" ]; then
    read -r -a all <<<"$(sed -n 's/^Tests: //p' "${patches[@]}" | tr ' ' '\n' | sort -u | paste -sd' ')"
fi
echo "== without sabotage: ${all[*]}"
build
run "${all[@]}" >"$work/before"
grep -q '^test result' "$work/log" || { cat "$work/log"; echo "verdict: the tests do not run"; exit 2; }
[ ! -s "$work/before" ] || { echo "these fail already, and count as noticing nothing:"; sed 's/^/  /' "$work/before"; }

bad=0
for patch in "${patches[@]}"; do
    file=$work/$(basename "$patch")
    name=$(basename "$patch" .patch)
    printf '%-36s ' "$name"
    if ! git apply --unsafe-paths "$file" 2>"$work/error"; then
        echo "DOES NOT APPLY: $(head -1 "$work/error")"
        bad=$((bad + 1))
        continue
    fi
    if build 2>"$work/error"; then
        read -r -a first <<<"$(sed -n 's/^Tests: //p' "$file")"
        noticed=$(run "${first[@]}" | grep -vxFf "$work/before" || true)
        if [ -z "$noticed" ] && [ -z "${CAPLET_SABOTAGE_QUICK:-}" ]; then
            noticed=$(run "${all[@]}" | grep -vxFf "$work/before" || true)
        fi
        if [ -n "$noticed" ]; then
            echo "noticed by $(wc -l <<<"$noticed"): $(head -3 <<<"$noticed" | paste -sd' ')"
        else
            echo "NOT NOTICED"
            bad=$((bad + 1))
        fi
    else
        echo "DOES NOT BUILD: $(grep -m1 '^error' "$work/error")"
        bad=$((bad + 1))
    fi
    git apply --unsafe-paths -R "$file"
done
if [ -s "$work/skips" ]; then
    echo "== skipped"
    sort -u "$work/skips"
fi
if [ "$bad" = 0 ]; then
    echo "verdict: all ${#patches[@]} were noticed"
else
    echo "verdict: $bad of ${#patches[@]} were not noticed"
    exit 1
fi
