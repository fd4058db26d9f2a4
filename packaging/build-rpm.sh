#!/usr/bin/env bash
# The rpm package, into target/packages. CAPLET_PACKAGE_VERSION: another version than the changelog's, for tests.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
[ -n "${CAPLET_PREBUILT:-}" ] || packaging/build.sh
version=$(sed -n '1s/.*(\(.*\)).*/\1/p' packaging/deb/changelog)
when=$(sed -n 's/^ -- .*>  //p' packaging/deb/changelog | head -1)
SOURCE_DATE_EPOCH=$(date -d "$when" +%s)
export SOURCE_DATE_EPOCH
# Debian's changelog is the one that is kept; one entry of ours for each of its.
changelog=$(LC_ALL=C awk -v today="$(LC_ALL=C date -u -d "$when" '+%a %b %d %Y')" '
    /^caplet / { gsub(/[()]/, "", $2); version = $2 }
    /^  \* / { sub(/^  \* /, ""); text = text (text ? "\n" : "") "- " $0 }
    /^    / { sub(/^ +/, ""); text = text " " $0 }
    /^ -- / { author = $0; sub(/^ -- /, "", author); sub(/>.*/, ">", author)
              split($0, part, />  /); split(part[2], day, /[ ,]+/)
              printf "* %s %s %s %s %s - %s-1\n%s\n", day[1], day[3], day[2], day[4], author, version, text; text = "" }
' packaging/deb/changelog)
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
# In a spec % is %%.
sed -e '/^# shellcheck/d' -e 's/%/%%/g' packaging/removal.sh >"$top/removal"
printf '%s\n' "$changelog" >"$top/changelog"
sed -e "/@REMOVAL@/{r $top/removal" -e 'd}' -e "/@CHANGELOG@/{r $top/changelog" -e 'd}' packaging/rpm/caplet.spec >"$top/caplet.spec"
rpmbuild -bb --define "_topdir $top" --define "_rpmdir $top/out" --define "caplet_tree $PWD" \
    --define "caplet_version ${CAPLET_PACKAGE_VERSION:-$version}" "$top/caplet.spec" >"$top/log" 2>&1 || { cat "$top/log" >&2; exit 1; }
mkdir -p target/packages
cp "$top"/out/*/caplet-*.rpm target/packages/
ls target/packages/caplet-"${CAPLET_PACKAGE_VERSION:-$version}"-*.rpm
