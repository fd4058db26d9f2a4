#!/usr/bin/env bash
# Everything hostile that fits in half an hour: the attacks of lab/ATTACKS.md, every call of the helper failing with
# an error, the helper stopped at every stage, three weakened helpers, and the fuzz targets for a moment. As root.
# A verdict and counts at the end. CAPLET_HOSTILE_SECONDS: how long it may take (default 1800).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
[ "$(id -u)" = 0 ] || { echo "hostile: the system tests need root" >&2; exit 2; }
. lab/programs.sh
work=$(mktemp -d /tmp/caplet-hostile.XXXXXX)
trap 'rm -rf "$work"' EXIT
export CAPLET_SKIPS=$work/skips CAPLET_BUILD=$PWD/target/release CARGO_TERM_COLOR=never
: >"$CAPLET_SKIPS"
end=$((SECONDS + ${CAPLET_HOSTILE_SECONDS:-1800}))
failed=()
part() { # name, least seconds it needs, command...
    local name=$1 needs=$2 left=$((end - SECONDS))
    shift 2
    if [ "$left" -lt "$needs" ]; then
        echo "== $name: no time is left"
        failed+=("$name (not run)")
        return
    fi
    echo "== $name"
    if timeout "$left" "$@" >"$work/$name" 2>&1; then
        echo "held in $((left - (end - SECONDS))) s"
    else
        failed+=("$name")
        grep -E '^ODD|^UNMET|panicked|FAILED|NOT NOTICED|DOES NOT|^error' "$work/$name" | head -40
    fi
}
lab/build.sh || exit 2
build_programs || exit 2
# The files that the table names, but failing_calls, which comes alone and whole.
mapfile -t files < <(grep -oE '[a-z_]+::[a-z0-9_]+' lab/ATTACKS.md | sed 's/::.*//' | sort -u | grep -vxE 'policy|helper|shell|failing_calls')
# As files of a shell of their own, which a part's time ends.
tests=()
for file in catalogue "${files[@]}"; do tests+=("$(program "$file")") || exit 2; done
# shellcheck disable=SC2016
part attacks 60 bash -c 'failed=0; for file; do "$file" --nocapture || failed=1; done; exit $failed' - "${tests[@]}"
part units 30 lab/cargo.sh test -q -p caplet-policy -p caplet-helper -p caplet --features caplet-policy/render
part failing-calls 300 env CAPLET_FULL=calls "$(program failing_calls)" --nocapture
part sabotage 120 env CAPLET_SABOTAGE_QUICK=1 lab/sabotage.sh \
    lab/sabotage/{read-back-removed,permitted-not-shrunk,user-namespace-owned-by-the-user}.patch
if [ -x lab/fuzz.sh ]; then
    part fuzz 120 sh -c 'lab/prepare.sh fuzz && lab/fuzz.sh 10'
fi

# What skips itself so has shown nothing.
if grep -qs 'needs root' "$work"/*; then failed+=("system tests, which did not run as root"); fi

echo "== counts"
echo "rows of lab/ATTACKS.md: $(grep -c '^| [A-Z]' lab/ATTACKS.md), of which cannot apply: $(grep -c 'cannot apply' lab/ATTACKS.md)"
echo "attack tests: $(grep -hc '^test .* ok$' "$work/attacks") held, $(grep -hc '^test .* FAILED$' "$work/attacks") did not"
sed -n 's/^COVERED /injection, profile /p; s/^BELIEVED /calls that lie, profile /p' "$work/failing-calls" 2>/dev/null
[ ! -e "$work/sabotage" ] || tail -1 "$work/sabotage"
[ ! -e "$work/fuzz" ] || tail -3 "$work/fuzz"
if [ -s "$CAPLET_SKIPS" ]; then
    echo "== skipped"
    sort -u "$CAPLET_SKIPS"
fi
if [ ${#failed[@]} = 0 ]; then
    echo "verdict: all held"
else
    printf 'verdict: NOT HELD: %s\n' "$(IFS=,; echo "${failed[*]}")"
    exit 1
fi
