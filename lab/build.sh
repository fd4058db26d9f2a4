#!/usr/bin/env bash
# The release build: the helper dynamic (NSS), the front end static (it uses no NSS, and starts faster so).
set -euo pipefail
here=$(dirname "$0")
"$here/cargo.sh" build --release -p caplet-helper
"$here/cargo.sh" rustc --release -p caplet --bin caplet -- -C target-feature=+crt-static
