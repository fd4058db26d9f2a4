#!/usr/bin/env bash
# An older package for the tests of upgrades: other bytes, another sample policy. older.sh deb|rpm
set -euo pipefail
cd "$(dirname "$0")/../.."
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cp -r --preserve=mode Makefile README.md LICENSE-* Cargo.toml etc man completions packaging "$tree"
mkdir -p "$tree/target/packages"
cp -r target/packages/bin "$tree/target/packages/"
for program in caplet caplet-helper; do
    echo older | objcopy --add-section .older=/dev/stdin "$tree/target/packages/bin/$program"
done
echo '# older' >>"$tree/etc/policy.toml"
CAPLET_PREBUILT=1 CAPLET_PACKAGE_VERSION=0.0.9 "$tree/packaging/build-$1.sh" >/dev/null
cp "$tree"/target/packages/caplet[-_]0.0.9*."$1" target/packages/
