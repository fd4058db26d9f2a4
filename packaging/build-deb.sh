#!/usr/bin/env bash
# The Debian package, into target/packages. CAPLET_PACKAGE_VERSION: another version than the changelog's, for tests.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
[ -n "${CAPLET_PREBUILT:-}" ] || packaging/build.sh
version=$(sed -n '1s/.*(\(.*\)).*/\1/p' packaging/deb/changelog)
grep -q "^version = \"$version\"" Cargo.toml || { echo "the changelog's version, $version, is not that of Cargo.toml" >&2; exit 1; }
# A setuid program of root's must not lie about in a build tree: nobody else gets in, and it goes away.
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
tree=$stage/caplet
mkdir "$tree"
cp -r --preserve=mode packaging/deb "$tree/debian"
cp -r --preserve=mode Makefile README.md etc man completions target/packages/bin "$tree"
sed -i "1s/(.*)/(${CAPLET_PACKAGE_VERSION:-$version})/" "$tree/debian/changelog"
sed -i -e '/@REMOVAL@/{r packaging/removal.sh' -e 'd}' "$tree/debian/caplet.prerm"
sed -i '/^# shellcheck/d' "$tree/debian/caplet.prerm"
echo '3.0 (native)' | install -D -m 644 /dev/stdin "$tree/debian/source/format"
(cd "$tree" && dpkg-buildpackage -b -us -uc -ui >"$stage/log" 2>&1) || { cat "$stage/log" >&2; exit 1; }
mkdir -p target/packages
cp "$stage"/caplet_*.deb "$stage"/caplet_*.changes "$stage"/caplet_*.buildinfo target/packages/
ls target/packages/caplet_"${CAPLET_PACKAGE_VERSION:-$version}"_*.deb
