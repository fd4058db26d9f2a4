#!/usr/bin/env bash
# Everything that is promised of the packages: `make packages-test`. SUITES: which suites of Debian, and of Ubuntu (jammy,
# noble, resolute) from UBUNTU_MIRROR. With the word `cheap` only what needs no other machine and no second build:
# `make packages-check`, a part of CI.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${SUITES:=bookworm trixie sid}"
export CARGO_TERM_COLOR=never
passed=0 failed=0
# check NAME COMMAND...
check() {
    local name=$1
    shift
    echo "== $name"
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $name" >&2
    fi
}
# A lint that says nothing has nothing to say.
silent() { local said; said=$("$@" 2>&1) || true; said=$(grep -v "${ignore:-^$}" <<<"$said" || true); [ -z "$said" ] || { echo "$said"; return 1; }; }
pages() { local ignore='referenced manual not found\|outdated mandoc.db'; silent mandoc -T lint man/*.[1-8]; }
completions() { bash -n completions/caplet.bash && shellcheck completions/caplet.bash && zsh -n completions/_caplet && fish -n completions/caplet.fish; }
debian_lint() {
    local ignore='^running with root privileges'
    # What a folder of the builder's own makes of its paths is not looked at.
    silent lintian -EviI --pedantic -q "target/packages/caplet_${version}_amd64.changes"
}
rpm_lint() {
    local said
    said=$(rpmlint -c packaging/rpm/rpmlint.toml "target/packages/caplet-$version-1.x86_64.rpm" 2>&1) || true
    [[ $said == *" 0 errors, 0 warnings,"* ]] || { echo "$said"; return 1; }
}

# What `make install` puts is what the package has, but for what only a package can put.
installation() {
    local place
    place=$(mktemp -d)
    make -s install DESTDIR="$place" PAM_FAMILY=debian
    diff <(cd "$place" && find . ! -type d | sort) \
        <(dpkg-deb -c "target/packages/caplet_${version}_"*.deb | awk '$1 !~ /^d/ { print $6 }' | sed 's/\.gz$//' \
            | grep -v -e tmpfiles.d -e shells.d -e '/doc/caplet/[^/]*$' -e lintian | sort) || { rm -rf "$place"; return 1; }
    rm -rf "$place"
}

rm -f target/packages/*.deb target/packages/*.rpm target/packages/*.changes target/packages/*.buildinfo
check "shell scripts" shellcheck -S warning packaging/*.sh packaging/tests/*.sh
check "manual pages" pages
check "completions" completions
check "the programs" packaging/build.sh
export CAPLET_PREBUILT=1
version=$(sed -n '1s/.*(\(.*\)).*/\1/p' packaging/deb/changelog)
check "make deb" packaging/build-deb.sh
check "make rpm" packaging/build-rpm.sh
check "lintian" debian_lint
check "rpmlint" rpm_lint
check "make install" installation
if [ "${1:-}" = cheap ]; then
    echo "left out here: the same bytes twice, and the packages' lives in throwaway machines (make packages-test)"
else
    check "the same bytes again" packaging/tests/same-bytes.sh
    if [ "$(id -u)" = 0 ]; then
        check "an older deb" packaging/tests/older.sh deb
        check "an older rpm" packaging/tests/older.sh rpm
        for suite in $SUITES; do check "deb on $suite" packaging/tests/machine.sh "$suite" deb.sh target/packages/*.deb; done
        check "rpm" packaging/tests/machine.sh bookworm rpm.sh target/packages/*.rpm
    else
        echo "skipped: the life of the packages in throwaway machines needs root"
    fi
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
