#!/usr/bin/env bash
# A root of a Debian or Ubuntu suite for the tests, made once: target/roots/SUITE. Prints its path.
set -euo pipefail
suite=${1:?suite}
roots=$(realpath -m "$(dirname "$0")/../../target/roots")
root=$roots/$suite
include=systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,openssh-client,passwd,login,procps,iproute2,strace
[ "$suite" != bookworm ] || include+=,rpm,dnf,createrepo-c,cpio
if [ ! -e "$root/.made" ]; then
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -1)
    [ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list | head -1)
    # A suite that moves may be older here than its Release file allows.
    old=(--aptopt='Acquire::Check-Valid-Until "false"') more=()
    case $suite in
    jammy | noble | resolute)
        # Ubuntu: from UBUNTU_MIRROR, whose keys Debian has a package of.
        debian=$mirror
        mirror=${UBUNTU_MIRROR:?the address of a mirror of Ubuntu}
        key=$roots/keyring/usr/share/keyrings/ubuntu-archive-keyring.gpg
        if [ ! -e "$key" ]; then
            rm -rf "$roots/keyring"
            mkdir -p "$roots"
            mmdebstrap -q --variant=extract --include=ubuntu-keyring "${old[@]}" sid "$roots/keyring" "$debian" >&2
        fi
        more=("--components=main,universe" --keyring="$key")
        ;;
    esac
    rm -rf "$root"
    mkdir -p "$roots"
    mmdebstrap -q --variant=apt --include="$include" "${old[@]}" "${more[@]}" "$suite" "$root" "$mirror" >&2
    touch "$root/.made"
fi
echo "$root"
