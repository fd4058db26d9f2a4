#!/usr/bin/env bash
# Boots a throwaway machine of a Debian suite, with systemd, journald, logind and sshd, runs a script of this folder in
# it as root, and exits with its code: machine.sh SUITE SCRIPT [FILE...]. The files lie beside the script, in /t.
set -euo pipefail
here=$(dirname "$0")
suite=${1:?suite}
script=${2:?script}
shift 2
root=$("$here/root.sh" "$suite")
export root script here
# Everything that is written goes with this mount namespace.
exec unshare -m --propagation private bash -euo pipefail -c '
    work=$(mktemp -d)
    mount -t tmpfs -o mode=755 machine "$work"
    mkdir "$work/upper" "$work/work" "$work/root"
    mount -t overlay machine -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" "$work/root"
    mkdir "$work/root/t"
    cp "$here/$script" "$here/inside.sh" "$@" "$work/root/t/"
    cat >"$work/root/etc/systemd/system/test.service" <<UNIT
[Unit]
After=multi-user.target ssh.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c "bash /t/$script >/t/log 2>&1; echo \$? >/t/code; systemctl exit \$(cat /t/code)"
UNIT
    ln -s ../test.service "$work/root/etc/systemd/system/multi-user.target.wants/test.service"
    echo machine >"$work/root/etc/hostname"
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=1 timeout 600 systemd-nspawn -q --register=no \
        --keep-unit --private-network --capability=all --system-call-filter=@keyring --console=pipe -M caplet-test -D "$work/root" --boot \
        >"$work/console" 2>&1 </dev/null || true
    cat "$work/root/t/log" 2>/dev/null || cat "$work/console" >&2
    code=$(cat "$work/root/t/code" 2>/dev/null || echo 125)
    umount -R "$work" 2>/dev/null || umount -l "$work"
    rmdir "$work" 2>/dev/null || true
    exit "$code"
' machine "$@"
