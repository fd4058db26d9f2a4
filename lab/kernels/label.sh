#!/usr/bin/env bash
# Labels every file of a root directory as its SELinux policy says: label.sh ROOT. With a /proc of its own, without which
# setfiles(8) labels nothing.
set -euo pipefail
root=${1:?root}
exec unshare -m --propagation private bash -euc '
    mount -t proc proc "$1/proc"
    chroot "$1" /sbin/setfiles -F -e /proc -e /sys -e /dev /etc/selinux/default/contexts/files/file_contexts /
    umount "$1/proc"
' label "$root"
