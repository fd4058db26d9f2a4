#!/usr/bin/env bash
# In a machine with systemd, sshd and SELinux enforcing (lab/kernels.sh selinux): an account with caplet-shell, logins over
# ssh, `caplet run` in both scopes; what counts is what the kernel says of the processes. One line each, as inside.sh.
machine=selinux
# shellcheck disable=SC1091
. /t/logins.sh
install_caplet <<'POLICY'
[profile.netlab]
users = ["alice", "bob"]
login = true
may_add = ["NET_ADMIN"]

[profile.zero]
users = ["bob"]
user = "root"

[profile.clock]
users = ["bob"]
scope = "host"
caps = ["SYS_TIME"]
POLICY
account alice /usr/bin/caplet-shell
account bob /bin/bash
restorecon -RF /usr/bin /usr/libexec/caplet /etc/caplet /etc/pam.d /home >/dev/null 2>&1
start_ssh
says() { # user, command, then lines of `FIELD VALUE` that its output must have
    local user=$1 command=$2 line
    shift 2
    login "$user" "$command" >/tmp/said 2>&1 || { cat /tmp/said; return 1; }
    for line in "$@"; do
        tr -s ' \t' ' ' </tmp/said | sed 's/^ //; s/ $//' | grep -qxF -- "$line" || { echo "no line: $line" && cat /tmp/said; return 1; }
    done
}
probe='cat /proc/self/status; echo map $(cat /proc/self/uid_map); echo context $(tr -d "\000" </proc/self/attr/current)'
none=0000000000000000 net=0000000000001000 docker=00000000a80425fb time=0000000002000000
five() { printf '%s\n' "CapInh: $1" "CapPrm: $1" "CapEff: $1" "CapBnd: $1" "CapAmb: $1"; }
uid() { id -u "$1"; }
# A line that is one plain command is one session with what it adds.
printf '#!/bin/sh\n%s\nip link set lo mtu 1400\n' "$probe" >/usr/local/bin/lab-added
chmod 755 /usr/local/bin/lab-added
restorecon -F /usr/local/bin/lab-added
unconfined='context unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023'
own_namespaces() {
    local name there
    there=$(login alice 'cd /proc/self/ns && readlink user mnt pid ipc uts cgroup net')
    [ "$(wc -l <<<"$there")" = 7 ] || { echo "$there"; return 1; }
    for name in user mnt pid ipc uts cgroup net; do
        grep -q "^$name:\[" <<<"$there" || { echo "no $name: $there"; return 1; }
        ! grep -qxF "$(readlink /proc/self/ns/$name)" <<<"$there" || { echo "the machine's $name"; return 1; }
    done
}
enforcing() { [ "$(getenforce)" = Enforcing ]; }
labelled() {
    ls -Z /usr/bin/caplet /usr/libexec/caplet/caplet-helper
    [ "$(stat -c %C /usr/bin/caplet /usr/libexec/caplet/caplet-helper | cut -d: -f3 | sort -u)" = bin_t ]
}
mapfile -t empty < <(five $none)
mapfile -t added < <(five $net)
mapfile -t clock < <(five $time)
check selinux_enforces enforcing
check the_programs_are_bin_t labelled
check a_login_by_ssh_lands_in_a_session says alice "$probe" "${empty[@]}" 'NoNewPrivs: 1' 'Seccomp: 2' "map $(uid alice) $(uid alice) 1" "$unconfined"
check the_session_has_namespaces_of_its_own own_namespaces
check a_login_adds_a_capability says alice "caplet run --quiet --cap-add NET_ADMIN lab-added" \
    "${added[@]}" 'NoNewPrivs: 1' "map $(uid alice) $(uid alice) 1"
terminal() { login alice -tt 'tty; readlink /proc/self/fd/0' | grep -q /dev/pts/; }
check a_login_has_a_terminal_of_its_own terminal
refused() { login alice "caplet run --cap-add SYS_ADMIN true"; [ $? = 125 ]; }
check what_is_not_granted_is_refused refused
check uid_0_of_a_session_is_the_users_uid says bob "caplet run --quiet -p zero sh -c '$probe'" \
    "CapInh: $none" "CapPrm: $docker" "CapEff: $docker" "CapBnd: $docker" "CapAmb: $none" "map 0 $(uid bob) 1"
check host_scope_has_what_was_granted says bob "caplet run --quiet -p clock sh -c '$probe'" "${clock[@]}" 'NoNewPrivs: 1' "$unconfined"
clock_set() { login bob 'caplet run --quiet -p clock date -s "2001-02-03 04:05:06"' && [ "$(date +%Y)" = 2001 ]; }
# The last: certificates and logs have the wrong date from here on.
denied() {
    sleep 1
    ausearch -m avc -ts boot 2>/dev/null | grep '^type=AVC' | grep -i caplet && return 1
    dmesg | grep 'avc:.*denied' | grep -i caplet && return 1
    true
}
check no_denial_names_caplet denied
check the_clock_can_be_set clock_set
exit $failed
