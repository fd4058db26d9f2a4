#!/usr/bin/env bash
# The lab tests on other kernels: boots Debian's under qemu, installs the real setuid helper there, runs them as its root
# with all of root's capabilities, and prints a verdict and counts for each kernel. As root, on a Debian.
# usage: lab/kernels.sh [KERNEL...]     KERNEL: a suite of Debian (bullseye bookworm trixie sid), or
#   selinux (6.12 of trixie with SELinux enforcing), systemd (the same kernel with systemd and logind)
#   (nothing)        the tests of what sessions are made of, on a machine with all their programs
#   QUICK=1          a few tests on a small machine; what CI does
#   FULL=1           all files of lab/tests; on an emulated processor an hour and more for each kernel
#   TESTS="a b::c"   these: a file of lab/tests, or those tests of it whose name has the text behind the colons
#   CACHE=DIR        where images and kernels are kept (default target/kernels)
#   ACCEL=kvm        where this machine may boot virtual machines for real; SLOW=1 then
#   ACCEL=tcg,thread=single    for why_trace: the kernel patches itself there, and qemu's other threads may not see it
#   SLOW=N           how much longer tests wait than on a real machine (default 6)
# Under 5.10, which is too old, only the refusal is looked at.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "kernels: making the machines needs root" >&2; exit 2; }
cache=${CACHE:-target/kernels}
mkdir -p "$cache"
cache=$(realpath "$cache")
export CARGO_TERM_COLOR=never

# Never run in these machines, and why; said in every run.
left_out() {
    case $1 in
    audit) echo "audits this machine, in its first pid namespace" ;;
    as_written) echo "holds the pages against the tree, which no kernel changes" ;;
    failing_calls) echo "a thousand traced runs are hours on an emulated processor: make hostile" ;;
    *) return 1 ;;
    esac
}
quick="old_kernel knobs claims::the_five_sets claims::ids_are_mapped claims::a_same_uid_process claims::whoever_is_killed
    claims::programs_inside claims::what_sessions_hold claims::the_clock claims::the_log_has limits"
core="old_kernel knobs claims accomplice before_exec seccomp masks networks network_lives terminals sessions limits"
all=()
for file in lab/tests/*.rs; do all+=("$(basename "$file" .rs)"); done

work=$(mktemp -d /tmp/caplet-kernels.XXXXXX)
trap 'rm -rf "$work"' EXIT

build() {
    [ ! -e "$work/built" ] || return 0
    lab/build.sh >"$work/log" 2>&1 || { cat "$work/log"; exit 2; }
    mkdir -p "$work/build" "$work/tests" "$work/tree"
    cp target/release/{caplet,caplet-helper} "$work/build/"
    local args=() name
    for name in "$@"; do args+=(--test "$name"); done
    lab/cargo.sh test -p caplet-lab --no-run "${args[@]}" >"$work/log" 2>&1 || { cat "$work/log"; exit 2; }
    for name in "$@"; do
        strip -o "$work/tests/$name" "$(sed -n "s/^ *Executable tests\/$name\.rs (\(.*\))$/\1/p" "$work/log")"
    done
    # What tests read of the tree, where it lies here.
    tar -c --exclude=./target --exclude=./.git . | tar -x -C "$work/tree"
    touch "$work/built"
}

# The machine's payload, in $work/payload.tar: what lies under build, tests and tree, and these settings.
payload() { # tests...
    cp lab/kernels/{inside,logins,selinux-inside,systemd-inside}.sh "$work/"
    printf "tree='%s'\ntests='%s'\nslow=%s\nseconds=%s\n" "$PWD" "$*" "${SLOW:-6}" "${FILE_SECONDS:-1200}" >"$work/settings"
    tar -C "$work" -cf "$work/payload.tar" build tests tree settings inside.sh logins.sh selinux-inside.sh systemd-inside.sh
    truncate -s %512 "$work/payload.tar"
}

table=() bad=0
count() { grep -c "^$1 " "$results" || true; }
verdict() { # kernel, exit code
    local release
    tr -d '\r' <"$results" >"$results.clean" && mv "$results.clean" "$results"
    release=$(sed -n 's/^kernel //p' "$results" | head -1)
    grep '^|' "$results" || true
    grep -E '^(lsm|bounding|cgroup2|sysctl|file) ' "$results" | sed 's/^/  /' || true
    grep -E '^(failed|skipped|partly) ' "$results" || true
    if [ "$2" = 124 ]; then echo "failed: no end in time"; fi
    if [ "$2" = 125 ]; then
        echo "failed: the machine died; its console ends:"
        tail -5 "$console"
    fi
    local word=passed
    if [ "$2" != 0 ] || [ "$(count failed)" != 0 ] || [ "$(count passed)" = 0 ]; then word=FAILED bad=1; fi
    table+=("$(printf '%-9s %-28s %-7s %s passed, %s failed, %s skipped' "$1" "${release:-?}" "$word" "$(count passed)" "$(count failed)" "$(count skipped)")")
}

kernels=("$@")
[ $# -gt 0 ] || read -r -a kernels <<<"${KERNELS:-bullseye bookworm trixie sid selinux systemd}"
tests=$core
[ -z "${QUICK:-}" ] || tests=$quick
[ -z "${FULL:-}" ] || tests=${all[*]}
read -r -d '' -a wanted <<<"${TESTS:-$tests} " || true
tests=() files=()
for name in "${wanted[@]}"; do
    left_out "$name" >/dev/null || tests+=("$name")
done
mapfile -t files < <(printf '%s\n' "${tests[@]%%::*}" old_kernel | sort -u)
rest=()
for name in "${all[@]}"; do
    if why=$(left_out "$name"); then echo "left out: $name: $why"
    elif [[ " ${files[*]} " != *" $name "* ]]; then rest+=("$name"); fi
done
[ ${#rest[@]} = 0 ] || echo "not run now (FULL=1 does): ${rest[*]}"
kind=full
[ -z "${QUICK:-}" ] || kind=quick
build "${files[@]}"
for kernel in "${kernels[@]}"; do
    echo "== $kernel"
    results=$cache/results-$kernel.txt console=$cache/console-$kernel.txt
    export INIT=/sbin/lab-init
    suite=$kernel image=$kind these=("${tests[@]}") args=()
    case $kernel in
    bullseye) these=(old_kernel) ;;
    selinux | systemd)
        INIT=/sbin/init suite=trixie image=systemd these=()
        args=(lab_script="$kernel-inside.sh" systemd.mask=serial-getty@ttyS0.service systemd.show_status=1)
        if [ "$kernel" = selinux ]; then args+=(security=selinux selinux=1 enforcing=1); fi
        ;;
    esac
    lab/kernels/kernel.sh "$suite" "$cache/$suite" || exit 3
    disk=$(lab/kernels/image.sh "$image" "$cache") || exit 3
    payload "${these[@]}"
    start=$SECONDS code=0
    lab/kernels/boot.sh "$cache/$suite" "$disk" "$work/payload.tar" "$results" "$console" "${args[@]}" || code=$?
    verdict "$kernel" "$code"
    echo "$kernel took $((SECONDS - start)) s"
done
echo "== kernels"
printf '%s\n' "${table[@]}"
if [ $bad = 0 ]; then echo "verdict: every kernel passed"; else echo "verdict: NOT PASSED" && exit 1; fi
