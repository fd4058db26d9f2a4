#!/usr/bin/env bash
# Builds the peers that no distribution here packages, sudo-rs and RootAsRole's dosr, from the crate registry into FOLDER
# (the others: lab/prepare.sh peers). What cannot be had is said, and named as missing later.
# Use: lab/as-caller.sh bench/peers.sh FOLDER
set -uo pipefail
folder=${1:?folder of the built peers}
SUDO_RS=0.2.15
ROOTASROLE=4.2.0
mkdir -p "$folder"
folder=$(realpath "$folder")

# dosr builds only inside its unpacked crate (its settings lie in the crate's .cargo), so both are built in such a folder,
# with the lock file they were published with.
crate() { # name, version, program, features
    local source=$folder/$1-$2
    [ -x "$folder/$3" ] && [ "$(cat "$folder/$3.version" 2>/dev/null)" = "$2" ] && return 0
    echo "building: $1 $2"
    rm -rf "$folder/fetch" "$source"
    mkdir -p "$folder/fetch/src"
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n[dependencies]\n%s = "=%s"\n' "$1" "$2" >"$folder/fetch/Cargo.toml"
    : >"$folder/fetch/src/lib.rs"
    (cd "$folder/fetch" && cargo fetch -q) || return 1
    local manifest
    manifest=$(cd "$folder/fetch" && cargo metadata --format-version 1 | python3 -c '
import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == sys.argv[1]))' "$1") || return 1
    cp -r "$(dirname "$manifest")" "$source" || return 1
    rm -rf "$folder/fetch"
    # It lies below caplet's own workspace, and is none of it.
    grep -q '^\[workspace' "$source/Cargo.toml" || printf '\n[workspace]\n' >>"$source/Cargo.toml"
    (cd "$source" && CARGO_TARGET_DIR=$folder/target cargo build -q --release --locked --bin "$3" ${4:+--features "$4"} 2>"$folder/$3.log") ||
        { tail -5 "$folder/$3.log"; return 1; }
    cp "$folder/target/release/$3" "$folder/$3"
    (cd "$source" && cargo tree --locked -e normal --prefix none ${4:+--features "$4"} | sed 's/ (.*//' | sort -u | wc -l) >"$folder/$3.crates"
    echo "$2" >"$folder/$3.version"
    rm -rf "$folder/target" "$source"
}
crate sudo-rs $SUDO_RS sudo || echo "not to be had here: sudo-rs"
crate rootasrole $ROOTASROLE dosr finder || echo "not to be had here: dosr"
exit 0
