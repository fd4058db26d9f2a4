#!/usr/bin/env bash
# Runs a command as whoever called sudo, with their own home and cargo, so that nothing of root's is left in the tree;
# without sudo, at once.
set -euo pipefail
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    exec sudo -u "$SUDO_USER" env HOME="$home" PATH="$home/.cargo/bin:$PATH" \
        CAPLET_BINDIR="${CAPLET_BINDIR:-/usr/bin}" CAPLET_LIBEXECDIR="${CAPLET_LIBEXECDIR:-/usr/libexec/caplet}" \
        ${CAPLET_COMMIT:+CAPLET_COMMIT="$CAPLET_COMMIT"} ${RUSTFLAGS:+RUSTFLAGS="$RUSTFLAGS"} \
        ${CARGO_TARGET_DIR:+CARGO_TARGET_DIR="$CARGO_TARGET_DIR"} "$@"
fi
exec env PATH="${HOME:-/root}/.cargo/bin:$PATH" "$@"
