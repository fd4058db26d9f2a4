#!/usr/bin/env bash
# The release build: the helper dynamic (NSS), but without libgcc_s, which only Rust's unused unwinder wants; the front
# end static (it uses no NSS, and starts faster so).
set -euo pipefail
here=$(dirname "$0")
folder=${CARGO_TARGET_DIR:-$here/../target}/static-libgcc
"$here/cargo.sh" build --release -q -p caplet-policy # makes the target folder, as the right user
"$here/as-caller.sh" mkdir -p "$folder"
echo 'INPUT(-l:libgcc_eh.a -l:libgcc.a)' | "$here/as-caller.sh" tee "$folder/libgcc_s.so" >/dev/null
folder=$(realpath "$folder")
"$here/cargo.sh" rustc --release -p caplet-helper --bin caplet-helper -- -L "native=$folder"
"$here/cargo.sh" rustc --release -p caplet --bin caplet -- -C target-feature=+crt-static
