#!/usr/bin/env bash
# Runs a command as root: at once, or with sudo.
set -euo pipefail
if [ "$(id -u)" = 0 ]; then exec "$@"; fi
exec sudo "$@"
