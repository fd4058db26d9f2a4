#!/usr/bin/env bash
# cargo, also under sudo: the caller's own, as the caller. CAPLET_CARGO: another form of it, `cargo auditable`.
# shellcheck disable=SC2086
exec "$(dirname "$0")/as-caller.sh" ${CAPLET_CARGO:-cargo} "$@"
