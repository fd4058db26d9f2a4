#!/usr/bin/env bash
# Runs the lab tests of /t/tests in the machine that lab/kernels.sh booted, as root, and prints one line each: `passed`,
# `failed`, `skipped` (with the reason) FILE::NAME. What a failing file printed follows behind `|`.
set -uo pipefail
tree='' tests='' slow='' seconds=''
# shellcheck disable=SC1091
. /t/settings
export CAPLET_BUILD=/t/build CAPLET_SKIPS=/t/skips CAPLET_LAB_SLOW=$slow CAPLET_OWN_MACHINE=1
echo "kernel $(uname -r)"
echo "lsm $(cat /sys/kernel/security/lsm)"
echo "bounding $(sed -n 's/^CapBnd:\t//p' /proc/self/status)"
echo "cgroup2 $(cat /sys/fs/cgroup/cgroup.controllers)"
for knob in kernel/yama/ptrace_scope kernel/unprivileged_userns_clone fs/protected_symlinks fs/protected_regular dev/tty/legacy_tiocsti; do
    [ ! -e "/proc/sys/$knob" ] || echo "sysctl $knob $(cat "/proc/sys/$knob")"
done
# mmdebstrap leaves these out, and every machine has them.
[ -e /etc/hosts ] || printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 machine\n' >/etc/hosts
[ -e /etc/resolv.conf ] || : >/etc/resolv.conf
# Some tests read the tree that they were built in, where it lay.
mkdir -p "$(dirname "$tree")"
ln -sfn /t/tree "$tree.link"
mv -T "$tree.link" "$tree"
failed=0
for name in $(printf '%s\n' $tests | sed 's/::.*//' | awk '!seen[$0]++'); do
    # Of a file the whole, or the tests whose names have those texts.
    mapfile -t parts < <(printf '%s\n' $tests | sed -n "s/^$name:://p")
    : >"$CAPLET_SKIPS"
    start=$SECONDS
    timeout "$seconds" "/t/tests/$name" --test-threads=2 "${parts[@]}" >/t/out 2>&1
    code=$?
    while read -r test outcome; do
        case $outcome in
        ok) reason=$(sed -n "s/^SKIP $name::$test: //p" "$CAPLET_SKIPS" | grep -vE '^(row |in part: )' | head -1)
            if [ -n "$reason" ]; then echo "skipped $name::$test: $reason"; else echo "passed $name::$test"; fi ;;
        ignored*) echo "skipped $name::$test: ignored" ;;
        *) echo "failed $name::$test" ;;
        esac
    done < <(sed -n 's/^test \([a-z0-9_:]*\)\( - should panic\)\? \.\.\. /\1 /p' /t/out)
    sed -nE "s/^SKIP $name::([a-z0-9_]*: (row |in part: ).*)/partly $name::\1/p" "$CAPLET_SKIPS"
    for part in "${parts[@]}"; do
        grep -q "^test [a-z0-9_:]*$part" /t/out || { echo "failed $name::$part: no test is called so" && failed=1; }
    done
    if [ $code != 0 ]; then
        failed=1
        [ $code != 124 ] || echo "failed $name::no_end_within_${seconds}_s"
        [ $code = 101 ] || [ $code = 124 ] || echo "failed $name::ended_with_$code"
        sed 's/^/| /' /t/out
    fi
    echo "file $name $((SECONDS - start)) s"
done
exit $failed
