#!/usr/bin/env bash
# For the scripts of machines with systemd and sshd: installs what /t/build has with the policy of standard input, accounts
# with passwords, and logins over ssh. A check is one line, as inside.sh prints them.
set -uo pipefail
failed=0
check() { # name, command...
    local name=$1
    shift
    if "$@" >/tmp/out 2>&1; then echo "passed $machine::$name"; else
        echo "failed $machine::$name"
        sed 's/^/| /' /tmp/out
        failed=1
    fi
}
install_caplet() {
    install -d -m 755 /usr/libexec/caplet /etc/caplet/policy.d
    install -m 755 /t/build/caplet /usr/bin/caplet
    ln -sf caplet /usr/bin/caplet-shell
    install -m 4755 /t/build/caplet-helper /usr/libexec/caplet/caplet-helper
    install -m 644 /t/tree/etc/pam.d/caplet.debian /etc/pam.d/caplet
    cat >/etc/caplet/policy.toml
    chmod 640 /etc/caplet/policy.toml
}
account() { # name, shell
    useradd -m -s "$2" "$1"
    usermod -p "$(perl -e 'print crypt("of the lab", "\$6\$lab\$")')" "$1"
}
start_ssh() {
    printf '#!/bin/sh\necho of the lab\n' >/run/askpass
    chmod 755 /run/askpass
    ssh-keygen -A >/dev/null
    systemctl restart ssh
}
login() { # user, more words of ssh
    local user=$1
    shift
    SSH_ASKPASS=/run/askpass SSH_ASKPASS_REQUIRE=force timeout 120 ssh -F none -o NumberOfPasswordPrompts=1 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR "$user@127.0.0.1" "$@"
}
echo "kernel $(uname -r)"
echo "lsm $(cat /sys/kernel/security/lsm)"
echo "bounding $(sed -n 's/^CapBnd:\t//p' /proc/self/status)"
