#!/usr/bin/env bash
# Code lines of what runs as root, without tests, comments and empty lines; a line each for the rooms.
set -euo pipefail
cd "$(dirname "$0")/.."
count() { # files...
    local file
    for file in "$@"; do
        case $file in *tests.rs | */samples.rs | */render.rs) continue ;; esac # the helper is built without `render`
        awk '/^#\[cfg\(test\)\]$/ { getline next_line; if (next_line ~ /^(#|mod tests \{)/) exit; if (next_line !~ /^mod [a-z]+;$/) print next_line }
             !/^#\[cfg\(test\)\]$/ { print }' "$file"
    done | grep -vcE '^[[:space:]]*(//.*)?$'
}
row() { printf '| %s | %d |\n' "$1" "$(count "${@:2}")"; }
h=helper/src p=policy/src
row "the document: its model, every key, every fault at once" $p/document/*.rs
row "the judge and its words" $p/judge.rs $p/judge/*.rs
row "capabilities, handbook, request, escaping" $p/{capability,handbook,request,escape,lib}.rs
row "main, kernel version, hygiene, caller, policy files, errors, list" $h/{main,kernel,hygiene,scheduling,caller,process_stat,trusted,policy_files,error,listing,descriptors}.rs
row "PAM: its process, the conversation, the cache" $h/authenticate/*.rs $h/sys/pam.rs
row "log and registry" $h/{journal,trail,registry,audit}.rs $h/journal/*.rs $p/seal.rs
row "plan, command, environment, limits, launch" $h/{plan,command,environment,limits,launch}.rs
row "isolated: namespaces, maps, tree, user's files, network, agent" $h/{isolated,namespaces,idmap,rootfs,user_files,network,agent}.rs $p/subids.rs
row "cgroups" $h/cgroup/*.rs
row "host, sets, seccomp" $h/{host,capset,seccomp}.rs $h/seccomp/*.rs $p/syscalls.rs
row "relay, guard, watcher, PID 1, terminal" $h/supervise/*.rs
row "running sessions: list, end, judge again" $h/{sessions,rejudge}.rs
row "networks between sessions, and out" $h/lan/*.rs
row "sys: the only unsafe" $(ls $h/sys/*.rs | grep -v pam.rs)
row "together" $(find $h $p -name '*.rs' | sort)
