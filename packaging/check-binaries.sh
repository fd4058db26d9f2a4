#!/usr/bin/env bash
# Whether the programs in a folder can be shipped: loadable from glibc 2.34 on (CentOS Stream 9, Ubuntu 22.04, Debian 12),
# hardened, stripped, and without a path of the machine that built them.
set -euo pipefail
floor=2.34
folder=${1:?folder}
failed=0
no() {
    echo "$program: $1" >&2
    failed=1
}
for program in "$folder/caplet" "$folder/caplet-helper"; do
    newest=$(objdump -T "$program" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1 || true)
    if [ -n "$newest" ] && [ "$(printf '%s\n' "$newest" $floor | sort -V | tail -1)" != $floor ]; then
        no "needs GLIBC_$newest: newer than $floor"
    fi
    headers=$(readelf -W -h -l -d "$program" 2>/dev/null)
    grep -q 'Type: *DYN' <<<"$headers" || no "is no position-independent executable"
    grep -q GNU_RELRO <<<"$headers" || no "has no RELRO"
    grep -Eq 'BIND_NOW|Flags:.*NOW' <<<"$headers" || no "is not bound at its start"
    grep -Eq 'GNU_STACK.* RW ' <<<"$headers" || no "has an executable stack"
    ! readelf -W -S "$program" | grep -Eq ' \.(symtab|debug_)' || no "is not stripped"
    for place in "$PWD" "${CARGO_HOME:-$HOME/.cargo}" "$HOME/"; do
        ! grep -aqF "$place" "$program" || no "names $place, a place of this machine"
    done
    needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$headers" | tr '\n' ' ')
    list=$(readelf -W -S "$program" | grep -q '\.dep-v0' && echo "with a list of its crates" || echo "without a list of its crates")
    echo "$(basename "$program"): newest symbol ${newest:+GLIBC_}${newest:-none}, needs ${needed:-nothing}, $list"
done
exit $failed
