#!/usr/bin/env bash
# cargo, also under sudo: the caller's own, as the caller.
exec "$(dirname "$0")/as-caller.sh" cargo "$@"
