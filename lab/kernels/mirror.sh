#!/usr/bin/env bash
# The address of the Debian mirror that this machine's own apt uses.
set -euo pipefail
mirror=$(grep -hA20 '^Types:.*deb' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs: *\([^ ]*\).*/\1/p' | head -1)
[ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -1)
if [ -z "$mirror" ] || ! command -v apt-get >/dev/null; then
    echo "kernels: this machine has no apt sources to take Debian's kernels from" >&2
    exit 3
fi
echo "$mirror"
