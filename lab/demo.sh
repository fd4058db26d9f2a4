#!/usr/bin/env bash
# The story that caplet began with, live: in a throwaway machine over this one, as its users, through the installed
# setuid helper. Leaves nothing behind. Usage, as root: CAPLET_BUILD=DIR lab/demo.sh
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
if [ "${1:-}" != inside ]; then
    build=$(realpath "${CAPLET_BUILD:?a folder with caplet and caplet-helper}")
    self=$(realpath "$0")
    work=$(mktemp -d /run/caplet-demo.XXXXXX)
    trap 'rmdir "$work"' EXIT
    # shellcheck disable=SC2016 # expanded by the inner shell
    WORK=$work CAPLET_BUILD=$build unshare -m -p -f -n -i -u -C --kill-child --propagation private bash -c '
        set -e
        mount -t tmpfs -o mode=755 demo "$WORK"; mkdir "$WORK"/{upper,work,root}
        mount -t overlay demo -o "lowerdir=/,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"; cd "$WORK/root"
        # Where the machine keeps these on file systems of their own, they are layered likewise. Homes are not shown.
        for d in usr etc var opt; do
            if mountpoint -q /$d; then
                mkdir "$WORK/upper-$d" "$WORK/work-$d"
                mount -t overlay demo -o "lowerdir=/$d,upperdir=$WORK/upper-$d,workdir=$WORK/work-$d" $d
            fi
        done
        cp "$CAPLET_BUILD/caplet" "$CAPLET_BUILD/caplet-helper" .; cp "$0" demo.sh
        family=debian; [ ! -e /etc/pam.d/system-auth ] || family=redhat
        cp "$(dirname "$0")/../etc/pam.d/caplet.$family" caplet.pam
        mount -t proc proc proc; mount -t sysfs sysfs sys; mount -t tmpfs -o mode=755 dev dev
        for n in null zero full random urandom tty; do touch dev/$n; mount --bind /dev/$n dev/$n; done
        mkdir dev/pts dev/shm; mount -t devpts -o newinstance,ptmxmode=0666,gid=5,mode=620 devpts dev/pts
        ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
        for t in dev/shm tmp; do mount -t tmpfs -o mode=1777 t $t; done
        for t in run home; do mount -t tmpfs -o mode=755 $t $t; done; mkdir .old
        ip link set lo up; echo demo >/proc/sys/kernel/hostname; pivot_root . .old; umount -l .old; cd /; exec bash /demo.sh inside' "$self"
    exit
fi

# From here on: inside the throwaway machine.
# Whoever has these names on the real machine, and a policy that is installed there, are not part of the story.
for name in alice bob tim rita mallory; do
    userdel "$name" 2>/dev/null || true
    groupdel "$name" 2>/dev/null || true
done
rm -rf /etc/caplet
groupadd -f students
groupadd -f timekeepers
useradd -m -s /bin/bash -G students alice
useradd -m -s /bin/bash -G students bob
useradd -m -s /bin/bash -G timekeepers tim
useradd -m -s /bin/bash rita
useradd -m -s /bin/bash mallory
install -D -m 4755 /caplet-helper /usr/libexec/caplet/caplet-helper
install -m 755 /caplet /usr/bin/caplet
install -D -m 644 "/caplet.pam" /etc/pam.d/caplet
echo 'rita:correct horse' | chpasswd
mkdir -p /etc/caplet/policy.d
cat >/etc/caplet/policy.toml <<'P'
[defaults]
contact = "lab-admin@example.edu, room 2.14"

[profile.basic]
description = "What everybody in the course has"
groups  = ["students"]
user    = "root"

[profile.netlab]
description = "Networks course: routes, bridges, firewalls in a network of your own"
groups  = ["students"]
user    = "root"
may_add = ["NET_ADMIN"]

[network.lab]
subnet  = "172.21.0.0/16"
gateway = "172.21.254.254"

[profile.course]
description = "Networks course: an eth0 in a network with your classmates"
groups  = ["students"]
user    = "root"
network = "lab"
may_add = ["NET_ADMIN"]

[profile.oslab]
description = "Operating systems course: everything, inside"
groups  = ["students"]
user    = "root"
may_add = ["ALL"]
privileged = true

[profile.clock]
description = "Keeping the time"
groups   = ["timekeepers"]
scope    = "host"
caps     = ["SYS_TIME"]
commands = ["/usr/bin/date"]

[profile.priority]
description = "Measurements that must not be disturbed, after your password"
users    = ["rita"]
scope    = "host"
caps     = ["SYS_NICE"]
auth     = "password"
P
chmod 640 /etc/caplet/policy.toml
python3 -c '
import socket, struct
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("/dev/log")
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
import os; os.chmod("/dev/log", 0o666)
with open("/var/log/demo", "w", buffering=1) as log:
    while True:
        data, control, _, _ = s.recvmsg(65536, 256)
        pid, uid, gid = struct.unpack("3i", control[0][2][:12])
        log.write("[sender uid %d] %s\n" % (uid, data.decode(errors="replace")))
' &
until [ -S /dev/log ]; do sleep 0.05; done
# Something of the machine's own that a session must neither see nor change.
ip link add uplink type veth peer name other 2>/dev/null || ip link add uplink type dummy 2>/dev/null ||
    ip link add uplink type bridge
ip addr add 172.17.254.1/16 dev uplink
ip link set uplink up

failed=0
as() { # user, command line: shows it as typed, then what it prints and its code
    printf '\n%s$ %s\n' "$1" "$2"
    code=0
    out=$(setpriv --reuid "$1" --regid "$1" --init-groups --reset-env bash -c "PATH=/usr/bin:/bin; $2" 2>&1 </dev/null) || code=$?
    [ -z "$out" ] || printf '%s\n' "$out"
}
told() { # what should be so, test...
    if "${@:2}"; then printf '   ok: %s\n' "$1"; else printf '   FAILED: %s\n' "$1"; failed=$((failed + 1)); fi
}
has() { case $out in *"$1"*) true ;; *) false ;; esac; }
lacks() { ! has "$1"; }
is() { [ "$code" = "$1" ]; }
# What must not change, without what always does: counters, times.
host_state() { cat /proc/sys/kernel/hostname; ip -o link | cut -d: -f2; ip route show table all; cut -d' ' -f5 /proc/self/mountinfo; }
show() { # command line: the machine itself, asked as root from outside every session
    printf 'outside# %s\n' "$1"
    bash -c "$1"
}
runs_on() { # seconds: no more than a scene's time has passed since then
    local now; now=$(date +%s)
    [ "$now" -ge "$1" ] && [ "$now" -le $(($1 + 60)) ]
}
in_log() { # pattern: waits for the listener, which writes on its own time
    for _ in $(seq 100); do
        out=$(grep -e "$1" /var/log/demo) && return
        sleep 0.05
    done
    out=
}

echo "== 1. The default session: Docker's 14 capabilities, and what they do not reach"
as alice "caplet run -p basic grep CapEff /proc/self/status"
told "the kernel says Docker's 14" has 00000000a80425fb
then=$(date +%s)
as alice 'caplet run -p basic date -s 12:00'
told "the clock is refused" has "cannot set date: Operation not permitted"
show date
told "the clock was not touched" runs_on "$then"
as alice 'caplet run -p basic route add -net 192.168.0.0/24 dev lo'
told "the route is refused" has "Operation not permitted"

echo
echo "== 2. --cap-add NET_ADMIN: the route works, in the session's own network"
show 'ip route'
before=$(host_state)
as alice 'caplet run --cap-add NET_ADMIN sh -c "route add -net 192.168.0.0/24 dev lo && ip route && ls /sys/class/net"'
told "the route is there" has "192.168.0.0/24 dev lo"
told "the command came to its end" is 0
told "only the session's own links are seen, not the machine's uplink" lacks uplink
show 'ip route'
told "the machine's routes, links, mounts and name are as before" [ "$before" = "$(host_state)" ]

echo
echo "== 3. SYS_TIME: of no use in isolation, and for date alone on the host"
as alice 'caplet run -p oslab --cap-add SYS_TIME date -s 12:00'
told "refused, with the reason" has "the clock belongs to the whole machine"
as tim 'caplet run sh -c id'
told "another command is refused" is 125
told "and the reason is the command" has "for certain commands only"
if [ $((0x$(sed -n 's/^CapBnd:\t//p' /proc/self/status) >> 25 & 1)) = 1 ]; then
    # shellcheck disable=SC2016 # alice's shell expands it
    as tim 'caplet run date -s "@$(date +%s)"'
    told "date sets the clock, to the present" is 0
    told "the session says that the capability is real" has "real capabilities on this machine: SYS_TIME"
    show date
else
    echo "   skipped: root of this machine holds no CAP_SYS_TIME itself"
fi

echo
echo "== 4. Somebody without the right: refused, and logged"
as mallory 'caplet run --cap-add NET_ADMIN ip route'
told "refused, and told whom to ask" has "ask: lab-admin@example.edu, room 2.14"
told "nothing was run" is 125
in_log 'refuse user=mallory'
printf '%s\n' "$out"
told "the refusal is in the log" has 'reason="no profile for this user" command="ip route"'
told "the record came from uid 0" has "[sender uid 0]"

echo
echo "== 5. --cap-add ALL --cap-drop MKNOD"
as alice 'caplet run -p oslab --cap-add ALL --cap-drop MKNOD sh -c "grep CapBnd /proc/self/status; mknod /tmp/n c 1 3"'
told "every capability but MKNOD (bit 27)" has "CapBnd:	000001fff7ffffff"
told "mknod is refused" has "mknod: /tmp/n: Operation not permitted"

echo
echo "== 6. --privileged, and the machine still stands"
before=$(host_state)
as alice 'caplet run -p oslab --privileged sh -c "grep CapEff /proc/self/status; hostname pwned && hostname && mount -t tmpfs evil /mnt && grep -o \"/mnt .* evil\" /proc/self/mountinfo"'
told "all capabilities, inside" has "000001ffffffffff"
told "the hostname is the session's" has pwned
told "the mount is there" has " - tmpfs evil"
told "all of it was allowed" is 0
show 'hostname; ip route; grep -c evil /proc/self/mountinfo || true'
told "the machine's name, links, routes and mounts are as before" [ "$before" = "$(host_state)" ]
as alice 'caplet run -p oslab --privileged cat /etc/shadow'
told "host root's files stay closed" has "/etc/shadow: Permission denied"
as alice 'caplet list'
told "caplet list says what is hers" has netlab

echo
echo "== 7. A password: a real capability, for whoever proves to be Rita"
as rita 'caplet run -p priority id'
told "without a terminal it says how to give one" has "standard input (-S)"
as rita 'echo "battery staple" | caplet run -S -p priority id'
told "a wrong one is refused" is 125
told "and nothing was run" lacks "uid="
in_log 'auth-failure user=rita'
printf '%s\n' "$out"
told "the attempt is in the log, and the record came from uid 0" has "[sender uid 0]"
as rita 'echo "correct horse" | caplet run -S -p priority grep CapEff /proc/self/status'
told "the right one is taken" is 0
told "the kernel says SYS_NICE (bit 23), and nothing else" has "0000000000800000"

echo
echo "== 8. An eth0 of one's own, in a network with classmates"
before=$(host_state)
rules=$(nft list ruleset)
as alice 'caplet run -p course route add -net 192.168.0.0/24 gw 172.21.254.254 eth0'
told "without NET_ADMIN the route is refused" has "SIOCADDRT: Operation not permitted"
as alice 'caplet run -p course --cap-add NET_ADMIN sh -c "route add -net 192.168.0.0/24 gw 172.21.254.254 eth0 && route -n"'
told "with it, it is there" has "192.168.0.0     172.21.254.254  255.255.255.0"
setpriv --reuid bob --regid bob --init-groups --reset-env bash -c 'caplet run -p course sh -c "ip -4 -br addr show eth0 >/tmp/told; sleep 60"' >/dev/null 2>&1 </dev/null &
for _ in $(seq 100); do
    bobs=$(caplet sessions --json | grep -m1 -o '"id": "[0-9a-f]*"' | tr -dc 0-9a-f | cut -c2-) && [ -n "$bobs" ] && break
    sleep 0.05
done
show 'caplet sessions'
bob=172.21.$(ip -o link | grep -o 'cpltac15[0-9a-f]*' | head -1 | sed 's/cpltac15\(..\)\(..\)/\1 \2/' | { read -r a b; echo "$((0x$a)).$((0x$b))"; })
as alice "caplet run -p course ping -c 1 -W 2 $bob"
told "a classmate answers" has "1 received"
show "caplet end $bobs"
wait %2 2>/dev/null || true
for _ in $(seq 100); do
    [ "$before$rules" != "$(host_state)$(nft list ruleset)" ] || break
    sleep 0.1
done
told "with the last session its bridge and rules are gone" [ "$before$rules" = "$(host_state)$(nft list ruleset)" ]

echo
if [ "$failed" = 0 ]; then
    echo "verdict: every scene went as told"
else
    echo "verdict: $failed FAILED"
    exit 1
fi
