#!/usr/bin/env bash
# The disk that the kernels boot: image.sh KIND CACHE prints the path of CACHE/image-KIND-HASH.img, made if it is not
# there: a Debian of this machine's own suite, so that what is built here runs there.
#   quick    what lab/kernels.sh's QUICK tests need
#   full     everything that lab/prepare.sh installs for the lab tests
#   systemd  systemd, logind, sshd and Debian's SELinux policy, every file labelled
set -euo pipefail
kind=${1:?kind} cache=${2:?cache}
here=$(dirname "$0")
mirror=$("$here/mirror.sh")
# shellcheck disable=SC1091
suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") || {
    echo "kernels: the machines are made of this machine's own Debian, and this is none" >&2
    exit 3
}
base="kmod mount passwd login procps util-linux iproute2 libc-bin"
case $kind in
quick) packages="$base strace python3 libcap2-bin sudo nftables iputils-ping keyutils" ;;
full) packages="$base sudo libc6-dev $("$here/../prepare.sh" list test)" ;;
systemd)
    packages="$base systemd systemd-sysv dbus dbus-user-session libpam-systemd openssh-server openssh-client selinux-policy-default selinux-utils policycoreutils auditd"
    ;;
*) echo "kernels: no image is called $kind" >&2 && exit 2 ;;
esac
packages=$(printf '%s\n' $packages | sort -u | paste -sd, -)
hash=$(cat "$here"/{image.sh,init,run,exit.c} <(echo "$suite $packages") | sha256sum | cut -c1-12)
image=$cache/image-$kind-$hash.img
if [ -e "$image" ]; then
    echo "$image"
    exit
fi
mkdir -p "$cache"
work=$(mktemp -d "$cache/making.XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
if ! mmdebstrap -q --mode=root --variant=apt --include="$packages" --dpkgopt=path-exclude=/usr/share/doc/\* \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Languages "none"' \
    "$suite" "$work/root" "deb $mirror $suite main" >"$work/log" 2>&1; then
    echo "kernels: the packages of $suite cannot be had from $mirror: $(grep -m1 '^E:' "$work/log" || tail -1 "$work/log")" >&2
    exit 3
fi
rm -rf "$work/root"/var/cache/apt/archives/*.deb "$work/root"/var/lib/apt/lists/*
cc -O2 -static -o "$work/root/sbin/lab-exit" "$here/exit.c"
install -m 755 "$here/init" "$work/root/sbin/lab-init"
install -m 755 "$here/run" "$work/root/sbin/lab-run"
mkdir -p "$work/root/usr/lib/modules"
echo machine >"$work/root/etc/hostname"
if [ "$kind" = systemd ]; then
    cat >"$work/root/etc/systemd/system/lab.service" <<'UNIT'
[Unit]
After=multi-user.target ssh.service
[Service]
Type=oneshot
ExecStart=/sbin/lab-run
TimeoutStartSec=infinity
UNIT
    ln -s ../lab.service "$work/root/etc/systemd/system/multi-user.target.wants/lab.service"
    "$here/label.sh" "$work/root" >"$work/log" 2>&1 || { echo "kernels: labelling failed: $(tail -1 "$work/log")" >&2; exit 1; }
fi
truncate -s 4G "$work/image"
mke2fs -q -F -t ext4 -O ^has_journal -d "$work/root" "$work/image"
rm -f "$cache/image-$kind"-*.img
mv "$work/image" "$image"
echo "$image"
