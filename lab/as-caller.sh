#!/usr/bin/env bash
# Runs a command as whoever called sudo, so that nothing of root's is left in the tree; without sudo, at once.
set -euo pipefail
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then exec sudo -u "$SUDO_USER" "$@"; fi
exec "$@"
