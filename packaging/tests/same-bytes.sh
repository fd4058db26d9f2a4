#!/usr/bin/env bash
# Builds both packages once more, in another place, with other settings, and compares them with those in target/packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=$(mktemp -d /var/tmp/somewhere-else.XXXXXX)
trap 'rm -rf "$place"' EXIT
mkdir "$place/tree"
git ls-files -z | xargs -0 cp --parents -t "$place/tree"
commit=$(target/packages/bin/caplet --version | sed -n '1s/.*commit \(.*\))/\1/p')
cd "$place/tree"
umask 077
env -u CAPLET_PREBUILT CAPLET_COMMIT="$commit" TZ=Asia/Tokyo LC_ALL=C.UTF-8 packaging/build-deb.sh >/dev/null 2>"$place/log" ||
    { cat "$place/log" >&2; exit 1; }
env CAPLET_PREBUILT=1 TZ=America/New_York LC_ALL=C packaging/build-rpm.sh >/dev/null
cd - >/dev/null
for package in "$place"/tree/target/packages/caplet*.deb "$place"/tree/target/packages/caplet*.rpm; do
    cmp "$package" "target/packages/$(basename "$package")"
    echo "ok: the same bytes: $(sha256sum "$package" | cut -c1-16) $(basename "$package")"
done
