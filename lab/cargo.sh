#!/usr/bin/env bash
# cargo, also under sudo: the caller's own, as the caller, so that no root-owned build tree is left behind.
set -euo pipefail
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    exec sudo -u "$SUDO_USER" env HOME="$home" PATH="$home/.cargo/bin:$PATH" \
        CAPLET_BINDIR="${CAPLET_BINDIR:-/usr/bin}" CAPLET_LIBEXECDIR="${CAPLET_LIBEXECDIR:-/usr/libexec/caplet}" \
        cargo "$@"
fi
exec env PATH="${HOME:-/root}/.cargo/bin:$PATH" cargo "$@"
