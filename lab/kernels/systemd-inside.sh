#!/usr/bin/env bash
# In a machine with systemd as PID 1 and of the cgroup tree (lab/kernels.sh systemd): what limits all of a session under
# user-UID.slice, beside what systemd and logind do there. What counts is what the kernel says; one line each, as inside.sh.
machine=systemd
# shellcheck disable=SC1091
. /t/logins.sh
install_caplet <<'POLICY'
[profile.course]
users = ["alice"]
login = true
may_add = ["NET_ADMIN"]
cgroup = { tasks = 60, memory = "96M", cpu = "50%" }

[profile.kept]
users = ["bob"]
linger = true
cgroup = { tasks = 40 }

[profile.plain]
users = ["bob"]

[profile.plain-real]
users = ["bob"]
scope = "host"
caps = ["SYS_NICE"]

[profile.real]
users = ["bob"]
scope = "host"
caps = ["SYS_NICE"]
cgroup = { tasks = 40, memory = "96M", cpu = "50%" }
POLICY
account alice /usr/bin/caplet-shell
account bob /bin/bash
start_ssh
tree=/sys/fs/cgroup
slice() { echo "$tree/user.slice/user-$(id -u "$1").slice"; }
folders() { find $tree -type d -name 'caplet-*'; }
is() { # file, value
    [ "$(cat "$1")" = "$2" ] || { echo "$1: $(cat "$1"), not $2"; return 1; }
}
until_true() { # seconds, command...
    local end=$((SECONDS + $1))
    shift
    while ! "$@"; do
        [ $SECONDS -lt $end ] || { echo "not in time: $*" && folders && return 1; }
        sleep 0.3
    done
}
field() { sed -n "s/^$1 //p" "$2"; } # of memory.events and the like
none_left() { [ -z "$(folders)" ]; }
one_there() { [ "$(folders | wc -l)" = 1 ] && folder=$(folders); }
# A session that goes on until its standard input ends, which is descriptor 9 here.
open_session() { # user, more words of ssh
    rm -f /tmp/in && mkfifo /tmp/in
    login "$@" </tmp/in >/tmp/said 2>&1 &
    session=$!
    exec 9>/tmp/in
    until_true 60 one_there || { cat /tmp/said; return 1; }
}
close_session() {
    exec 9>&-
    wait $session
    until_true 30 none_left
}
bounds() { # folder, tasks, memory, cpu
    is "$1/pids.max" "$2" && is "$1/memory.max" "$3" && is "$1/cpu.max" "$4" && is "$1/memory.swap.max" 0
}

of_roots() { ps -o pid=,comm=,stat= -u root | awk '$2 == "caplet-helper" && $3 !~ /^Z/ { print $1 }'; }
# All of root's are at the top of the tree: a guard and a watcher at least.
watchers_are_away() {
    local pid pids
    mapfile -t pids < <(of_roots)
    [ ${#pids[@]} -ge 2 ] || { echo "root's: ${pids[*]}"; return 1; }
    for pid in "${pids[@]}"; do is /proc/"$pid"/cgroup 0::/ || return 1; done
}
is_systemds() { [ "$(cat /proc/1/comm)" = systemd ] && [ -d $tree/user.slice ] && loginctl list-users; }
check systemd_has_the_tree is_systemds

inside_the_slice() {
    open_session alice 'echo here; cat >/dev/null' || return 1
    [ "$(dirname "$folder")" = "$(slice alice)" ] || { echo "$folder"; return 1; }
    bounds "$folder" 60 $((96 << 20)) '50000 100000' || return 1
    # The command is in there, and those who watch it are where nobody but root reaches them.
    local pid said
    is_there() { pid=$(pgrep -u alice -x cat); }
    until_true 60 is_there && said=$(cat /proc/"$pid"/cgroup) || return 1
    [ "$said" = "0::${folder#"$tree"}/session" ] || { echo "$said"; return 1; }
    watchers_are_away
}
check a_login_is_limited_in_its_users_slice inside_the_slice

# The session of that check goes on through the next ones.
systemd_leaves_it() {
    systemctl daemon-reload
    systemctl set-property --runtime "user-$(id -u alice).slice" TasksMax=200 MemoryMax=1G CPUWeight=50 || return 1
    is "$(slice alice)/pids.max" 200 || return 1
    # And nothing of it again: systemd takes the controllers away that no unit of its own wants.
    rm -rf /run/systemd/system.control/user-*.slice.d
    systemctl daemon-reload
    systemctl set-property --runtime "user-$(id -u alice).slice" MemoryAccounting=no TasksAccounting=no CPUAccounting=no || return 1
    systemctl daemon-reexec
    sleep 2
    bounds "$folder" 60 $((96 << 20)) '50000 100000'
}
check what_systemd_does_to_the_slice_leaves_the_limits systemd_leaves_it
check a_session_ends_with_its_login_and_so_does_its_cgroup close_session

the_slice_holds() {
    systemctl set-property --runtime "user-$(id -u alice).slice" TasksMax=30 || return 1
    open_session alice 'for n in $(seq 50); do sleep 60 & done 2>/tmp/x; cat >/dev/null' || return 1
    enough() { [ "$(cat "$(slice alice)/pids.current")" -ge 28 ]; }
    until_true 60 enough || return 1
    [ "$(cat "$folder/pids.current")" -lt 30 ] || { cat "$folder/pids.current"; return 1; }
    close_session
    rm -rf /run/systemd/system.control/user-*.slice.d
    systemctl daemon-reload
}
check what_limits_all_of_a_user_goes_on_doing_so the_slice_holds

bomb() {
    open_session alice bash -c "'f() { f | f & }; (f 2>/dev/null) & cat >/dev/null'" || return 1
    refused() { [ "$(($(field max "$folder/pids.events") + $(field max "$folder/session/pids.events")))" -gt 0 ]; }
    until_true 60 refused || return 1
    [ "$(cat "$folder/pids.current")" -le 60 ] || return 1
    [ "$(login bob echo well)" = well ] || { echo "nobody else comes in"; return 1; }
    # Somebody who would leave this to logind: it ends the relay, and the guard all of the session.
    loginctl terminate-user alice || return 1
    gone() { ! pgrep -u alice; }
    until_true 120 gone && exec 9>&- && wait $session
    until_true 30 none_left
}
check a_fork_bomb_is_bounded_and_logind_ends_it bomb

hog() {
    local out
    out=$(login alice 'perl -e "\$x = q(a) x (256 << 20); print q(had it)"; echo hog $?; echo still here' 2>/dev/null)
    [ "$out" = $'hog 137\nstill here' ] || { echo "$out"; return 1; }
    until_true 30 none_left
}
check a_memory_hog_is_killed_in_its_own_session hog

# A unit of the user's own manager is in a part of the tree that is the user's: the session is above it.
by_the_users_manager() {
    local words='export XDG_RUNTIME_DIR=/run/user/$(id -u); exec systemd-run --user --quiet --wait --collect --pipe'
    open_session bob "$words caplet run --quiet -p kept sh -c 'cat >/dev/null'" || return 1
    [ "$(dirname "$folder")" = "$(slice bob)" ] || { echo "$folder"; return 1; }
    is "$folder/pids.max" 40 || return 1
    local pid
    pid=$(pgrep -u bob -x cat) || return 1
    [ "$(cat /proc/"$pid"/cgroup)" = "0::${folder#"$tree"}/session" ] || return 1
    ! runuser -u bob -- sh -c "echo $pid >$(slice bob)/user@$(id -u bob).service/cgroup.procs" || { echo "left"; return 1; }
    close_session
}
check a_unit_of_the_users_manager_is_limited_outside_of_it by_the_users_manager

host_scope() {
    open_session bob "caplet run --quiet -p real sh -c 'cat >/dev/null'" || return 1
    [ "$(dirname "$folder")" = "$(slice bob)" ] || { echo "$folder"; return 1; }
    bounds "$folder" 40 $((96 << 20)) '50000 100000' || return 1
    close_session
}
check host_scope_is_limited_too host_scope

# logind takes any signal for all of a login from its own user: from another login, and for its own.
signalled_by_logind() {
    local profile pid pids id state
    for profile in plain plain-real; do
        rm -f /tmp/in && mkfifo /tmp/in
        login bob "caplet run --quiet -p $profile sh -c 'cat >/dev/null'" </tmp/in >/tmp/said 2>&1 &
        session=$!
        exec 9>/tmp/in
        is_there() { pid=$(pgrep -u bob -x cat); }
        until_true 60 is_there || { cat /tmp/said; return 1; }
        id=$(sed -n 's/.*\/session-\(.*\)\.scope$/\1/p' /proc/"$pid"/cgroup)
        [ -n "$id" ] || { echo "$profile: cat is in $(cat /proc/"$pid"/cgroup)"; return 1; }
        watchers_are_away || return 1
        login bob "loginctl kill-session $id --signal=STOP" || return 1
        stopped() { grep -q '^State:.T' /proc/"$pid"/status; }
        until_true 30 stopped || { echo "$profile: logind stopped nobody"; return 1; }
        mapfile -t pids < <(of_roots)
        [ ${#pids[@]} -ge 2 ] || return 1
        for state in "${pids[@]}"; do ! grep -q '^State:.T' /proc/"$state"/status || { echo "$profile: stopped"; return 1; }; done
        # Stopped as it is, root's word ends it.
        caplet end "$(caplet sessions | grep -oE '\b[0-9a-f]{12}\b' | head -1)" || { caplet sessions; return 1; }
        login bob "loginctl kill-session $id --signal=CONT"
        exec 9>&-
        wait $session
        gone() { ! pgrep -x caplet-helper; }
        until_true 30 gone || return 1
    done
}
check logind_stops_nobody_who_watches signalled_by_logind

# A folder's name is any bytes, and its user may freeze all that is in it.
oddly_named() {
    local words
    rm -f /tmp/in && mkfifo /tmp/in
    cat >/usr/local/bin/lab-odd <<'ODD'
#!/bin/bash
cd "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)" || exit
odd=$(printf '\377')
mkdir "$odd"
echo $$ >"$odd/cgroup.procs"
exec caplet run --quiet -p plain-real sh -c 'cat >/dev/null'
ODD
    chmod 755 /usr/local/bin/lab-odd
    words='export XDG_RUNTIME_DIR=/run/user/$(id -u); exec systemd-run --user --quiet --wait --collect --pipe -p Delegate=yes'
    login bob "$words lab-odd" </tmp/in >/tmp/said 2>&1 &
    session=$!
    exec 9>/tmp/in
    is_there() { pid=$(pgrep -u bob -x cat); }
    until_true 60 is_there || { cat /tmp/said; return 1; }
    LC_ALL=C grep -q -a $'\377' /proc/"$pid"/cgroup || { cat -v /proc/"$pid"/cgroup; return 1; }
    watchers_are_away || return 1
    exec 9>&-
    wait $session
}
check a_cgroup_with_an_odd_name_holds_nobody_who_watches oddly_named

# What a service has, its session has at most.
no_more_than_the_service() {
    systemd-run --quiet --unit of-bobs-limits -p User=bob -p TasksMax=30 -p MemoryMax=64M -p CPUQuota=40% -p StandardInput=tty-force -p TTYPath=/dev/tty9 caplet run --quiet -p kept sleep 4715 || return 1
    until_true 30 one_there || { journalctl -u of-bobs-limits --no-pager | tail -5; return 1; }
    bounds "$folder" 30 $((64 << 20)) '40000 100000' || return 1
    systemctl stop of-bobs-limits
    until_true 30 none_left
}
check a_session_has_no_more_than_the_service_that_started_it no_more_than_the_service

lingers() {
    login bob 'caplet run --quiet -p kept sh -c "setsid sleep 4713 >/dev/null 2>&1 & echo gone"' || return 1
    one_there || { folders; return 1; }
    logged_out() { ! loginctl list-sessions --no-legend | grep -q bob || loginctl list-sessions --no-legend | grep bob | grep -q closing; }
    until_true 60 logged_out || loginctl list-sessions
    systemctl daemon-reload
    is "$folder/pids.max" 40 && pgrep -x sleep || return 1
    caplet end "${folder##*-}" || return 1
    until_true 30 none_left
}
check what_lingers_stays_limited_after_the_logout lingers

# From a service of the machine's, as cron is one.
by_a_service() {
    systemd-run --quiet --unit of-bob -p User=bob -p StandardInput=tty-force -p TTYPath=/dev/tty9 caplet run --quiet -p kept sleep 4714 || return 1
    until_true 30 one_there || { journalctl -u of-bob --no-pager | tail -5; return 1; }
    [ "$(dirname "$folder")" = "$tree/system.slice" ] || { echo "$folder"; return 1; }
    is "$folder/pids.max" 40 || return 1
    systemctl stop of-bob || return 1
    gone() { ! pgrep -x sleep; }
    until_true 30 gone && until_true 30 none_left
}
check a_service_s_session_is_in_the_slice_of_services by_a_service

# PID 1's manager for a user runs what that user left in the home, outside of every session, until the doctor's line is typed.
by_the_home() {
    local words='d=~/.config/systemd/user; mkdir -p $d/default.target.wants; printf "[Service]\nType=oneshot\nExecStart=/bin/sh -c \"readlink /proc/self/ns/mnt >%%h/outside\"\n" >$d/own.service; ln -s ../own.service $d/default.target.wants/; rm -f ~/outside'
    local mend said outside=/home/alice/outside
    # Its exit code says that it has found something.
    doctor() { said=$(caplet doctor) || [ -n "$said" ]; }
    mend() { mend=$(sed -n "s/^  mend   \\(systemctl $1 .*\\)/\\1/p" <<<"$said"); }
    manager_gone() { ! pgrep -u alice -x systemd; }
    login alice "$words"
    loginctl terminate-user alice
    until_true 30 manager_gone || return 1
    login alice true && until_true 30 test -s $outside || { ls -lR /home/alice/.config; return 1; }
    [ "$(cat $outside)" = "$(readlink /proc/1/ns/mnt)" ] || { cat $outside; return 1; }
    doctor && mend mask
    [ "$mend" = "systemctl mask user@$(id -u alice).service" ] || { echo "$said"; return 1; }
    $mend || return 1
    # What runs already is named as long as it does.
    doctor && mend stop
    [ "$mend" = "systemctl stop user@$(id -u alice).service" ] || { echo "$said"; return 1; }
    $mend && until_true 30 manager_gone && rm $outside || return 1
    doctor
    [[ $said == *'accounts looked at'* && $said != *'user manager'* ]] || { echo "$said"; return 1; }
    [ "$(login alice 'echo in; sleep 5')" = in ] || return 1
    ! pgrep -u alice -x systemd && [ ! -e $outside ]
}
check what_a_home_has_the_user_manager_run_is_closed_by_the_doctors_line by_the_home

# Nobody is in any more: systemd takes the user's slice away.
slice_gone() { [ ! -d "$(slice alice)" ] && [ ! -d "$(slice bob)" ]; }
check the_slices_go_when_their_users_are_gone until_true 90 slice_gone
quiet() { ! journalctl -b --no-pager -q _PID=1 | grep -iE 'caplet.*(fail|refus|busy)|failed to (kill|remove|trim|enable).*(cgroup|controller)'; }
check systemd_has_nothing_to_complain_of quiet
exit $failed
