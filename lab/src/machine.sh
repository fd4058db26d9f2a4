# Makes a throwaway machine around itself and becomes its PID 1. Run by machine.rs as
#   unshare -m -p -f -n -i -u -C --kill-child --propagation private bash -c SCRIPT
# Standard input is a pipe of the test process: when it ends, the machine ends. Nothing is written to the host.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
read -r pid _ </proc/self/stat

# The upper layer lies in a tmpfs that only this mount namespace sees; no directory is made on the host.
mount -t tmpfs -o mode=755 lab /tmp
mkdir -p /tmp/r /tmp/l/u /tmp/l/w
mount -t overlay lab -o lowerdir=/,upperdir=/tmp/l/u,workdir=/tmp/l/w /tmp/r
# Where the host keeps these on file systems of their own, they are layered likewise.
n=0
for d in /usr /etc /var /opt /srv /home /root; do
    if mountpoint -q "$d"; then
        n=$((n + 1))
        mkdir -p "/tmp/l/u$n" "/tmp/l/w$n"
        mount -t overlay lab -o "lowerdir=$d,upperdir=/tmp/l/u$n,workdir=/tmp/l/w$n" "/tmp/r$d"
    fi
done
cd /tmp/r

mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup 2>/dev/null || true
mount -t tmpfs -o mode=755,nosuid dev dev
mkdir dev/pts dev/shm dev/mqueue dev/net
# Copied where the device rules allow it (one process for all), else bound from the host.
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty dev/ 2>/dev/null || true
for node in null zero full random urandom tty fuse net/tun; do
    if [ -e "/dev/$node" ] && ! [ -e "dev/$node" ]; then
        : >"dev/$node"
        mount --bind "/dev/$node" "dev/$node"
    fi
done
mount -t devpts -o newinstance,ptmxmode=0666,gid=5,mode=620,nosuid,noexec devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
mount -t mqueue -o nosuid,nodev,noexec mqueue dev/mqueue 2>/dev/null || true
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=755,nosuid,nodev run run
mkdir -m 0755 -p run/user run/sshd
mkdir -p .old
mount --make-rprivate /
pivot_root . .old
umount -l .old
rmdir .old
cd /
# As on a machine with systemd: what is mounted later reaches whoever listens.
[ "${LAB_PROPAGATION:-shared}" = shared ] && mount --make-rshared /
ip link set lo up
echo lab >/proc/sys/kernel/hostname
rm -rf /etc/caplet
echo "ready $pid"
exec >/dev/null 2>&1
# bash reaps whatever is left to it while it waits here, and ends with the pipe.
read -r _ || exit 0
