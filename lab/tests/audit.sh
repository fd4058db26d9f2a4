# A machine for the kernel's audit trail, which takes records from the initial pid namespace alone: mounts of its own, and
# nothing else. Arguments: folder with the two programs, then the user's command. Prints the records of that run.
# Exit code 77: the kernel audits for somebody else already, or not at all.
set -eu
build=$1
shift
[ "${INSIDE:-}" ] || INSIDE=1 exec unshare -m --propagation private bash "$0" "$build" "$@"
auditctl -s >/tmp/audit-status.$$ 2>&1 || { rm -f /tmp/audit-status.$$; exit 77; }
grep -qx 'pid 0' /tmp/audit-status.$$ || { rm -f /tmp/audit-status.$$; exit 77; }
rm -f /tmp/audit-status.$$
w=$(mktemp -d)
mount -t tmpfs -o mode=755 audit "$w"
mkdir "$w"/{u,w,r}
mount -t overlay audit -o "lowerdir=/,upperdir=$w/u,workdir=$w/w" "$w/r"
r=$w/r
for m in proc sys dev; do mount --rbind "/$m" "$r/$m"; done
mount -t tmpfs -o mode=755 run "$r/run"
mkdir -p "$r/usr/libexec/caplet" "$r/etc/caplet" "$r/home/alice" "$r/var/log/audit"
install -m 4755 "$build/caplet-helper" "$r/usr/libexec/caplet/caplet-helper"
install -m 755 "$build/caplet" "$r/usr/bin/caplet"
echo 'alice:x:5901:5901::/home/alice:/bin/bash' >>"$r/etc/passwd"
echo 'alice:*:20000:0:99999:7:::' >>"$r/etc/shadow"
echo 'alice:x:5901:' >>"$r/etc/group"
printf '[profile.own]\nusers = ["alice"]\nscope = "host"\npam_account = false\n' >"$r/etc/caplet/policy.toml"
chmod 640 "$r/etc/caplet/policy.toml"
mkdir -p "$r/etc/lab-audit"
sed 's/^write_logs.*/write_logs = yes/; s/^flush.*/flush = NONE/' "$r/etc/audit/auditd.conf" >"$r/etc/lab-audit/auditd.conf"
chroot "$r" auditd -n -s enable -c /etc/lab-audit >/dev/null 2>&1 &
daemon=$!
end() {
    auditctl -e 0 >/dev/null 2>&1 || true
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
    umount -l "$w"
    rmdir "$w"
}
trap end EXIT
n=0
until [ -e "$r/run/auditd.pid" ]; do
    n=$((n + 1))
    [ $n -lt 100 ] || exit 77
    sleep 0.05
done
chroot "$r" setpriv --reuid=5901 --regid=5901 --clear-groups --inh-caps=-all env -C /home/alice PATH=/usr/bin:/bin "$@" >/dev/null 2>&1 </dev/null || true
sleep 0.5
grep -h 'type=USER_CMD' "$r"/var/log/audit/audit.log || true
