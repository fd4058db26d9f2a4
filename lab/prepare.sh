#!/usr/bin/env bash
# Installs what `make demo`, `make test` or `make bench` (peers) needs and this machine lacks; says what it does. With
# `list` in front it only prints the packages for all of it, lacking or not: another machine is made of them.
set -euo pipefail
here=$(dirname "$0")
list=
[ "${1:-}" != list ] || { list=1 && shift; }
case ${1:-test} in
peers) programs="sudo doas bwrap firejail cado iperf3 passt" ;; # each as far as it can be had
deb) programs="cc dpkg-buildpackage dh objdump" ;;
rpm) programs="cc rpmbuild objdump" ;;
packages-check) programs="cc dpkg-buildpackage dh objdump rpmbuild lintian rpmlint mandoc shellcheck zsh fish" ;;
packages) programs="cc dpkg-buildpackage dh objdump rpmbuild lintian rpmlint mandoc shellcheck zsh fish mmdebstrap systemd-nspawn createrepo_c dnf" ;;
fuzz) programs="cc c++" ;;
kernels) programs="cc qemu-system-x86_64 mmdebstrap busybox cpio zstd depmod mke2fs strip" ;;
demo) programs="cc ip route python3 unshare setpriv ps chpasswd ping nft" ;;
*) programs="cc ip route python3 unshare setpriv ps strace ping tcpdump git rsync ssh sshd bindfs fusermount3 capsh keyctl rsyslogd journalctl logger chage auditd crontab atd tmux vi less script nft jq make bwrap passt" ;;
esac
package() { # program, package manager
    case $2:$1 in
    *:cc) echo gcc ;;
    apt:c++) echo g++ ;;
    dnf:c++) echo gcc-c++ ;;
    apt:ip) echo iproute2 ;;
    dnf:ip) echo iproute ;;
    *:route) echo net-tools ;;
    *:unshare | *:setpriv) echo util-linux ;;
    apt:ps) echo procps ;;
    dnf:ps) echo procps-ng ;;
    apt:ping) echo iputils-ping ;;
    dnf:ping) echo iputils ;;
    apt:ssh) echo openssh-client ;;
    dnf:ssh) echo openssh-clients ;;
    *:sshd) echo openssh-server ;;
    apt:doas) echo opendoas ;;
    *:dpkg-buildpackage) echo dpkg-dev ;;
    *:dh) echo debhelper ;;
    *:objdump | *:strip) echo binutils ;;
    apt:rpmbuild) echo rpm ;;
    dnf:rpmbuild) echo rpm-build ;;
    *:systemd-nspawn) echo systemd-container ;;
    apt:createrepo_c) echo createrepo-c ;;
    dnf:shellcheck) echo ShellCheck ;;
    *:bwrap) echo bubblewrap ;;
    apt:qemu-system-x86_64) echo qemu-system-x86 ;;
    *:qemu-system-x86_64) echo qemu-kvm ;;
    apt:busybox) echo busybox-static ;;
    *:depmod) echo kmod ;;
    *:mke2fs) echo e2fsprogs ;;
    *:nft) echo nftables ;;
    *:fusermount3) echo fuse3 ;;
    *:keyctl) echo keyutils ;;
    *:rsyslogd) echo rsyslog ;;
    *:journalctl) echo systemd ;;
    apt:logger) echo bsdutils ;;
    dnf:logger) echo util-linux ;;
    apt:chage | apt:chpasswd) echo passwd ;;
    dnf:chage | dnf:chpasswd) echo shadow-utils ;;
    dnf:auditd) echo audit ;;
    apt:crontab) echo cron ;;
    dnf:crontab) echo cronie ;;
    *:atd) echo at ;;
    apt:vi) echo vim-tiny ;;
    dnf:vi) echo vim-minimal ;;
    apt:script) echo bsdutils ;;
    dnf:script) echo util-linux ;;
    apt:capsh) echo libcap2-bin ;;
    dnf:capsh) echo libcap ;;
    *) echo "$1" ;;
    esac
}
manager=
command -v apt-get >/dev/null && manager=apt
[ -n "$manager" ] || ! command -v dnf >/dev/null || manager=dnf
missing=()
for program in $programs; do
    [ -z "$list" ] && PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing+=("$(package "$program" "$manager")")
done
if [ -n "$list" ]; then
    printf '%s\n' "${missing[@]}" | sort -u
    exit
fi
if [ "${1:-}" = peers ] && ! [ -e /usr/include/security/pam_appl.h ]; then
    case $manager in apt) missing+=(libpam0g-dev) ;; *) missing+=(pam-devel) ;; esac
fi
# cargo-auditable puts the list of its crates into a program, so that a scanner can tell which of them has become unsafe.
auditable() {
    case $1 in deb | rpm | packages*) ;; *) return 0 ;; esac
    ! "$here/as-caller.sh" cargo auditable --version >/dev/null 2>&1 || return 0
    echo "installing: cargo-auditable"
    "$here/as-caller.sh" cargo install -q --locked --version 0.7.7 cargo-auditable || echo "not to be had here: cargo-auditable"
}
if [ ${#missing[@]} = 0 ]; then
    auditable "${1:-test}"
    exit
fi
echo "installing: ${missing[*]}"
install() {
    case $manager in
    apt) "$here/as-root.sh" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ;;
    dnf) "$here/as-root.sh" dnf install -y -q "$@" ;;
    *)
        echo "neither apt-get nor dnf is here: install $* yourself" >&2
        return 1
        ;;
    esac
}
# What cannot be fetched is said once, below.
[ "$manager" != apt ] || "$here/as-root.sh" apt-get update -qq || [ "${1:-}" = kernels ]
if [ "${1:-}" = kernels ]; then
    install "${missing[@]}" 2>/dev/null && exit
    echo "kernels: these packages cannot be had from this machine's apt sources: ${missing[*]}" >&2
    exit 3
fi
if [ "${1:-}" != peers ]; then
    install "${missing[@]}"
    auditable "${1:-test}"
    exit
fi
for package in "${missing[@]}"; do
    install "$package" || echo "not to be had here: $package"
done
