#!/usr/bin/env bash
# A root of a Debian suite for the tests, made once: target/roots/SUITE. Prints its path.
set -euo pipefail
suite=${1:?suite}
roots=$(realpath -m "$(dirname "$0")/../../target/roots")
root=$roots/$suite
include=systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,openssh-client,passwd,login,procps,iproute2,strace
[ "$suite" != bookworm ] || include+=,rpm,dnf,createrepo-c,cpio
if [ ! -e "$root/.made" ]; then
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -1)
    [ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list | head -1)
    rm -rf "$root"
    mkdir -p "$roots"
    # A suite that moves may be older here than its Release file allows.
    mmdebstrap -q --variant=apt --include="$include" --aptopt='Acquire::Check-Valid-Until "false"' \
        "$suite" "$root" "$mirror" >&2
    touch "$root/.made"
fi
echo "$root"
