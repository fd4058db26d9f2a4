# shellcheck shell=sh
# Without its file a login shell is a locked door: removal waits until nobody has it, by whichever name of its folder.
if [ "${CAPLET_REMOVE:-}" != yes ]; then
    having=$(getent passwd | sed -n 's|^\([^:]*\):.*:\(/usr\)\{0,1\}/bin/\(caplet-shell\)$|\1|p' | tr '\n' ' ')
    if [ -n "$having" ]; then
        echo "caplet: not removed: these accounts have caplet-shell, and could not log in any more: $having" >&2
        echo "caplet: give each another shell first: usermod -s /bin/bash USER" >&2
        echo "caplet: or remove it all the same: set CAPLET_REMOVE=yes in the environment" >&2
        exit 1
    fi
fi
