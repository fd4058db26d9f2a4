#!/usr/bin/env bash
# Whether Rust's standard library for a target is here; if not, rustup is asked for it, where it keeps the toolchain.
# Use: lab/as-caller.sh lab/musl.sh TARGET
set -uo pipefail
target=${1:?target}
present() { compgen -G "$(rustc --print sysroot)/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null; }
present && exit 0
command -v rustup >/dev/null || exit 1
echo "adding the Rust target $target"
timeout 60 rustup -q target add "$target" >/dev/null 2>&1
present
