#!/usr/bin/env bash
# The release build: the helper dynamic (NSS), but without libgcc_s, which only Rust's unused unwinder wants; the front
# end static (it uses no NSS), with musl where rustup can bring that target: glibc's start asks the processor for its
# caches with dozens of CPUID instructions, and each of them leaves a virtual machine (0.6 ms here, bench/README.md).
set -euo pipefail
here=$(dirname "$0")
target=${CARGO_TARGET_DIR:-$here/../target}
folder=$target/static-unwinder
"$here/cargo.sh" build --release -q -p caplet-policy # makes the target folder, as the right user
"$here/as-caller.sh" mkdir -p "$folder"
folder=$(realpath "$folder")
# That unwinder would ask glibc 2.35 where an object's frames are, and with that one call keep the helper from starting
# with 2.34. It is answered here: there are none. Nothing unwinds in a program that aborts at a panic.
echo '__attribute__((visibility("hidden"))) int _dl_find_object(void *at, void *found) { return -1; }' |
    "$here/as-caller.sh" cc -O2 -w -x c -c -o "$folder/find_object.o" -
echo "INPUT($folder/find_object.o -l:libgcc_eh.a -l:libgcc.a)" | "$here/as-caller.sh" tee "$folder/libgcc_s.so" >/dev/null
# What `caplet --version` names; a tree without git has it from whoever packed it.
: "${CAPLET_COMMIT:=$("$here/as-caller.sh" git -C "$here" describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || echo unknown)}"
export CAPLET_COMMIT
"$here/cargo.sh" rustc --release -p caplet-helper --bin caplet-helper -- -L "native=$folder"

musl=$(uname -m)-unknown-linux-musl
if "$here/as-caller.sh" "$here/musl.sh" "$musl"; then
    "$here/cargo.sh" rustc --release -p caplet --bin caplet --target "$musl"
    # Renamed into place: a running caplet keeps its file.
    "$here/as-caller.sh" cp "$target/$musl/release/caplet" "$target/release/caplet.new"
    "$here/as-caller.sh" mv -f "$target/release/caplet.new" "$target/release/caplet"
else
    echo "no Rust target $musl here: the front end is linked with glibc, and starts slower in a virtual machine"
    "$here/cargo.sh" rustc --release -p caplet --bin caplet -- -C target-feature=+crt-static
fi
