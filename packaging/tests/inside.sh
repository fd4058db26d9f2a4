# What the scripts of this folder share; sourced inside a throwaway machine.
# shellcheck shell=bash
export LC_ALL=C.UTF-8 SYSTEMD_PAGER=cat
fail() {
    echo "FAILED: $*"
    exit 1
}
# is WHAT WANTED COMMAND...: its output is that.
is() {
    local what=$1 wanted=$2 got
    shift 2
    got=$("$@" 2>&1) || true
    [ "$got" = "$wanted" ] || fail "$what: wanted \"$wanted\", got \"$got\""
    echo "ok: $what"
}
# has WHAT PART COMMAND...: its output contains that.
has() {
    local what=$1 part=$2 got
    shift 2
    got=$("$@" 2>&1) || true
    [[ $got == *"$part"* ]] || fail "$what: wanted \"...$part...\", got \"$got\""
    echo "ok: $what"
}
# Two users, one with a key of the machine's own root; sshd answers.
people() {
    useradd -m -s /bin/bash alice
    useradd -m -s /bin/bash bob
    groupadd -f students
    usermod -aG students alice
    [ -e /root/.ssh/id ] || { install -d -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id; }
    install -d -o alice -g alice -m 700 /home/alice/.ssh
    install -o alice -g alice -m 600 /root/.ssh/id.pub /home/alice/.ssh/authorized_keys
    ssh-keygen -A >/dev/null
}
as() {
    local user=$1
    shift
    runuser -u "$user" -- "$@"
}
login() {
    ssh -i /root/.ssh/id -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
        -o ConnectTimeout=10 alice@127.0.0.1 "$@"
}
# A policy for them, in the tree that is named.
policy() {
    cat >"${1:-}"/etc/caplet/policy.d/10-test.toml <<'END'
[profile.course]
groups = ["students"]
login = true
may_add = ["NET_ADMIN"]
[profile.nice]
users = ["bob"]
scope = "host"
caps = ["SYS_NICE"]
END
}
