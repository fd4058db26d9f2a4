#!/usr/bin/env bash
# Runs a command as whoever called sudo, with their own home and cargo, so that nothing of root's is left in the tree;
# without sudo, at once.
set -euo pipefail
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    kept=()
    for name in CAPLET_COMMIT RUSTFLAGS CARGO_{TARGET_DIR,TERM_COLOR,PROFILE_RELEASE_{LTO,CODEGEN_UNITS}}; do
        [ -z "${!name:-}" ] || kept+=("$name=${!name}")
    done
    exec sudo -u "$SUDO_USER" env HOME="$home" PATH="$home/.cargo/bin:$PATH" \
        CAPLET_BINDIR="${CAPLET_BINDIR:-/usr/bin}" CAPLET_LIBEXECDIR="${CAPLET_LIBEXECDIR:-/usr/libexec/caplet}" \
        "${kept[@]}" "$@"
fi
exec env PATH="${HOME:-/root}/.cargo/bin:$PATH" "$@"
