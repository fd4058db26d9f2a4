#!/usr/bin/env bash
# The fuzz targets (fuzz/), each for so many seconds, from the committed seeds and what earlier runs found; no cargo-fuzz and
# no nightly is needed: the compiler's coverage passes are in every toolchain.
# usage: lab/fuzz.sh [SECONDS] [TARGET...]     (default: 10 seconds, every target)
# What crashes a target is left in target/fuzz/crashes: made small, it belongs in fuzz/seeds/TARGET, where a test keeps it.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
[ $# = 0 ] || shift
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz/fuzz_targets/*.rs)
out=$PWD/target/fuzz
host=$(lab/as-caller.sh rustc -vV | sed -n 's/^host: //p')
coverage="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
coverage+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# With --target the flags are not for build scripts.
CARGO_TARGET_DIR=$out RUSTFLAGS=$coverage lab/cargo.sh build -q --release --locked --manifest-path fuzz/Cargo.toml --target "$host"
code=0
for target in "${targets[@]}"; do
    corpus=$out/corpus/$target log=$out/$target.log
    lab/as-caller.sh mkdir -p "$corpus" "$out/crashes"
    printf '%-14s' "$target"
    if lab/as-caller.sh "$out/$host/release/$target" -max_total_time="$seconds" -print_final_stats=1 -timeout=10 \
        -rss_limit_mb=2048 -artifact_prefix="$out/crashes/$target-" "$corpus" "fuzz/seeds/$target" >"$log" 2>&1; then
        sed -n 's/^stat::number_of_executed_units: */executions: /p' "$log"
    else
        code=1
        echo "CRASHED:"
        grep -aE 'panicked at|^SUMMARY|Test unit written' -A1 "$log" | tail -8
    fi
done
exit $code
