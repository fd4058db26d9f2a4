#!/usr/bin/env bash
# The release build that packages are made of: the same bytes from the same commit, wherever it is built.
# Writes target/packages/bin/{caplet,caplet-helper,NOTICES}.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
export CARGO_TARGET_DIR=$here/target/packages/build
# shellcheck disable=SC2016
cargo_home=$(lab/as-caller.sh sh -c 'echo "${CARGO_HOME:-$HOME/.cargo}"')
# Places of this machine do not get into the programs.
flags="--remap-path-prefix=$here=/usr/src/caplet"
for crates in "$cargo_home"/registry/src/*; do flags+=" --remap-path-prefix=$crates=/usr/src/crates"; done
export RUSTFLAGS=$flags
export CAPLET_BINDIR=/usr/bin CAPLET_LIBEXECDIR=/usr/libexec/caplet
if lab/as-caller.sh cargo auditable --version >/dev/null 2>&1; then
    export CAPLET_CARGO="cargo auditable"
else
    echo "cargo-auditable is not here: the programs carry no list of their crates"
fi
lab/build.sh
lab/as-caller.sh mkdir -p target/packages/bin
for program in caplet caplet-helper; do
    lab/as-caller.sh objcopy --remove-section=.comment "$CARGO_TARGET_DIR/release/$program" "target/packages/bin/$program"
done
packaging/notices.sh | lab/as-caller.sh tee target/packages/bin/NOTICES >/dev/null
packaging/check-binaries.sh target/packages/bin
