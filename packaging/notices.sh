#!/usr/bin/env bash
# The notices of the crates that are linked into the programs, as their licences ask for.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "caplet and caplet-helper contain code of these crates, each under the licence that it names."
echo
# The front end and the helper; what builds them is not in them.
lab/cargo.sh metadata --format-version 1 --offline --locked --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" \
    | python3 packaging/notices.py caplet caplet-helper
