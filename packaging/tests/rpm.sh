#!/usr/bin/env bash
# The life of the rpm package, with rpm --root and dnf --installroot, in a tree of its own inside a booted machine. What of
# CentOS is missing there is stood in for: a package that provides what this machine's files are, and CentOS's PAM stack.
set -euo pipefail
. /t/inside.sh
old=$(ls /t/caplet-0.0*.rpm) new=$(ls /t/caplet-0.1*.rpm)
helper=/usr/libexec/caplet/caplet-helper
tree=/el
mkdir $tree /t/layers
mount -t tmpfs layers /t/layers
mkdir /t/layers/upper /t/layers/work
mount -t overlay el -o lowerdir=/,upperdir=/t/layers/upper,workdir=/t/layers/work $tree
people
for folder in proc sys dev run tmp; do mount --rbind /$folder $tree/$folder; done
mkdir -p $tree/t $tree/old && mount --bind /t $tree/t
cp /etc/passwd /etc/shadow /etc/group $tree/etc/
cat >$tree/etc/pam.d/system-auth <<'END'
auth required pam_unix.so
account required pam_unix.so
password required pam_unix.so
session required pam_limits.so
session required pam_unix.so
END
# Not chroot(2), in which the kernel makes no user namespaces.
in_tree() {
    unshare -m --propagation slave sh -c 'cd /el && pivot_root . old && umount -l /old && cd / && exec "$@"' in "$@"
}
in_as() { in_tree runuser -u "$1" -- "${@:2}"; }
mode() { stat -c '%a %U:%G' "$tree$1"; }
# Debian's rpm warns each time that this is no machine of rpm's.
rpm_() { rpm --root $tree "$@" 2> >(grep -v '^rpm: ' >&2); }

echo "== what stands in for CentOS"
mkdir -p /t/repo
{
    printf 'Name: centos-stand-in\nVersion: 9\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\n'
    for package in "$old" "$new"; do rpm -qp --requires "$package"; done | sort -u | grep -v -e '^rpmlib(' -e '^config(caplet)' \
        | sed 's/^/Provides: /'
    printf '%%description\nx\n%%files\n'
} >/t/stand-in.spec
rpmbuild -bb --define '_topdir /t/rpmbuild' --define '_rpmdir /t/repo' /t/stand-in.spec >/dev/null 2>&1 || fail "the stand-in"
rpm_ --initdb
rpm_ -i /t/repo/noarch/centos-stand-in-9-1.noarch.rpm

echo "== install"
rpm_ -i "$old" || fail "rpm -i"
is "the helper is setuid root's" "4755 root:root" mode $helper
is "the policy is root's to read" "640 root:root" mode /etc/caplet/policy.toml
is "it stands in /etc/shells" 1 grep -cx /usr/bin/caplet-shell $tree/etc/shells
is "the PAM stack is the family's" 3 grep -c 'include *system-auth' $tree/etc/pam.d/caplet
is "rpm -V finds nothing" "" rpm_ -V caplet
has "--version" "features:" in_tree caplet --version
policy $tree
cat >>$tree/etc/caplet/policy.d/10-test.toml <<'END'
[profile.asked]
users = ["bob"]
scope = "host"
auth = "password"
pam_session = true
END
is "the policy has no fault" "caplet: 3 profiles, no fault" in_tree caplet check

echo "== run"
is "a capability in a session" "" in_as alice caplet run --cap-add NET_ADMIN ip link add br0 type bridge
has "a real capability" "ends with -5" in_as bob caplet run -p nice --quiet sh -c 'nice -n -5 sh -c "echo ends with \$(nice)"'
echo bob:secret-7 | in_tree chpasswd
has "a password, by CentOS's stack" "bob" in_as bob sh -c 'echo secret-7 | caplet run -p asked -S --quiet id -un'
has "a wrong one" code=125 in_as bob sh -c 'caplet forget; echo wrong | caplet run -p asked -S --quiet id -un; echo code=$?'
in_tree usermod -s /usr/bin/caplet-shell alice
is "su -" course in_tree su - alice -c 'echo $CAPLET_PROFILE'

echo "== what rpm -V sees"
chmod 755 $tree$helper
chmod 666 $tree/etc/caplet/policy.toml
has "the helper's mode" ".M.......    $helper" rpm_ -V caplet
has "the policy's" ".M.......  c /etc/caplet/policy.toml" rpm_ -V caplet
rpm_ --setperms caplet
is "rpm --setperms mends both" "4755 root:root 640 root:root" echo "$(mode $helper) $(mode /etc/caplet/policy.toml)"

echo "== upgrade, with logins all the time"
echo '# edited here' >>$tree/etc/caplet/policy.toml
sed -i '\#^/usr/bin/caplet-shell$#d' $tree/etc/shells
touch /t/upgrading
(
    tries=0 wrong=0
    while [ -e /t/upgrading ]; do
        tries=$((tries + 1))
        [ "$(in_tree su - alice -c 'echo in' 2>/t/login.err)" = in ] || { wrong=$((wrong + 1)); cat /t/login.err; }
    done
    echo "$tries $wrong" >/t/logins
) &
poll=$!
strace -f -qq -o /dev/null -e trace=rename,renameat,unlink,unlinkat,symlink,symlinkat,chmod,chown \
    -e inject=rename,renameat,unlink,unlinkat,symlink,symlinkat,chmod,chown:delay_exit=100000 \
    rpm --root $tree -U "$new" 2>/t/rpm.log || { cat /t/rpm.log; fail upgrade; }
rm /t/upgrading
wait $poll
read -r tries wrong </t/logins
[ "$wrong" = 0 ] && [ "$tries" -gt 10 ] || fail "logins during the upgrade: $tries, of which $wrong failed"
echo "ok: $tries logins during the upgrade, none failed"
is "the edited policy stays" 1 grep -c 'edited here' $tree/etc/caplet/policy.toml
is "the new one lies beside it" "640 root:root" mode /etc/caplet/policy.toml.rpmnew
is "the line that was taken out of /etc/shells stays out" 0 grep -cx /usr/bin/caplet-shell $tree/etc/shells
is "the helper is setuid root's" "4755 root:root" mode $helper
has "rpm -V sees the edited policy alone" "c /etc/caplet/policy.toml" rpm_ -V caplet

echo "== downgrade and reinstall"
rpm_ -U --oldpackage "$old" || fail downgrade
is "login after the downgrade" course in_tree su - alice -c 'echo $CAPLET_PROFILE'
rpm_ -U "$new" || fail upgrade
rpm_ -U --replacepkgs "$new" || fail reinstallation
is "login after the reinstallation" course in_tree su - alice -c 'echo $CAPLET_PROFILE'

echo "== erase"
has "is refused while alice has the shell" "could not log in any more: alice" rpm_ -e caplet
is "and login works still" course in_tree su - alice -c 'echo $CAPLET_PROFILE'
in_tree usermod -s /bin/caplet-shell alice
has "also by its other path" "could not log in any more: alice" rpm_ -e caplet
in_tree usermod -s /usr/bin/caplet-shell alice
CAPLET_REMOVE=yes rpm_ -e caplet || fail "it can be erased all the same"
[ ! -e $tree/usr/bin/caplet-shell ] || fail "it was erased"
in_tree usermod -s /bin/bash alice
printf /bin/lab-last >>$tree/etc/shells
rpm_ -i "$new"
is "it stands in /etc/shells again" 1 grep -cx /usr/bin/caplet-shell $tree/etc/shells
is "beside a last line that had no end" 1 grep -cx /bin/lab-last $tree/etc/shells
echo '# edited here' >>$tree/etc/caplet/policy.toml
rpm_ -e caplet || fail "erase"
[ -e $tree/etc/caplet/policy.toml.rpmsave ] || fail "the edited policy is kept as .rpmsave"
is "it is not in /etc/shells" 0 grep -cx /usr/bin/caplet-shell $tree/etc/shells
[ ! -e $tree/usr/libexec/caplet ] || fail "its folder is gone"

echo "== dnf, with a repository of its own"
cp "$old" "$new" /t/repo/
createrepo_c -q /t/repo
dnf_() {
    dnf -q -y --installroot=$tree --setopt=reposdir=/nonexistent --setopt=install_weak_deps=0 --nogpgcheck --releasever=9 \
        --repofrompath=local,file:///t/repo --repo=local "$@"
}
dnf_ install caplet-0.0.9 >/t/dnf.log 2>&1 || { cat /t/dnf.log; fail "dnf install"; }
is "installed" "caplet-0.0.9-1.x86_64" rpm_ -q caplet
dnf_ upgrade >/t/dnf.log 2>&1 || { cat /t/dnf.log; fail "dnf upgrade"; }
is "upgraded" "caplet-0.1.0-1.x86_64" rpm_ -q caplet
is "the helper is setuid root's" "4755 root:root" mode $helper
is "a capability in a session" "" in_as alice caplet run --cap-add NET_ADMIN ip link add br0 type bridge
dnf_ remove caplet >/t/dnf.log 2>&1 || { cat /t/dnf.log; fail "dnf remove"; }
[ ! -e $tree$helper ] || fail "removed"
# As the README says.
dnf_ install /t/caplet-0.1.0-1.*.rpm >/t/dnf.log 2>&1 || { cat /t/dnf.log; fail "dnf install FILE"; }
is "a capability in a session" "" in_as alice caplet run --cap-add NET_ADMIN ip link add br0 type bridge
dnf_ remove caplet >/t/dnf.log 2>&1 || { cat /t/dnf.log; fail "dnf remove"; }
[ ! -e $tree$helper ] || fail "removed"
echo "rpm: passed with $(rpm --version), dnf $(dnf --version | head -1)"
