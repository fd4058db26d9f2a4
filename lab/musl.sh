#!/usr/bin/env bash
# Whether Rust's standard library for a target is here; where rustup keeps the toolchain it is asked for it once.
# Use: lab/musl.sh TARGET
set -uo pipefail
target=${1:?target}
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    exec sudo -u "$SUDO_USER" env HOME="$home" PATH="$home/.cargo/bin:$PATH" "$0" "$@"
fi
export PATH=${HOME:-/root}/.cargo/bin:$PATH
present() { compgen -G "$(rustc --print sysroot)/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null; }
present && exit 0
command -v rustup >/dev/null || exit 1
echo "adding the Rust target $target"
timeout 60 rustup -q target add "$target" >/dev/null 2>&1
present
