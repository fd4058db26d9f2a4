#!/usr/bin/env bash
# The life of the Debian package in a machine with systemd: /t has an older and a newer one.
set -euo pipefail
. /t/inside.sh
old=$(ls /t/caplet_0.0*.deb) new=$(ls /t/caplet_0.1*.deb)
helper=/usr/libexec/caplet/caplet-helper
mode() { stat -c '%a %U:%G' "$1"; }
install_quietly() { dpkg --force-confold -i "$1" >/t/dpkg.log 2>&1 || { cat /t/dpkg.log; fail "dpkg -i $1"; }; }

echo "== install"
install_quietly "$old"
is "the helper is setuid root's" "4755 root:root" mode $helper
is "the policy is root's to read" "640 root:root" mode /etc/caplet/policy.toml
is "the folders are root's to write" "755 root:root" mode /etc/caplet/policy.d
is "the record of sessions is root's" "700 root:root" mode /run/caplet
is "it stands in /etc/shells" 1 grep -cx /usr/bin/caplet-shell /etc/shells
is "nobody is granted anything yet" "caplet: no profile, no fault: this policy grants nobody anything" caplet check
has "--version" "features:" caplet --version
people
policy
is "the policy has no fault" "caplet: 2 profiles, no fault" caplet check

echo "== run"
is "a capability in a session" "" as alice caplet run --cap-add NET_ADMIN ip link add br0 type bridge
has "a real capability" "ends with -5" as bob caplet run -p nice --quiet sh -c 'nice -n -5 sh -c "echo ends with \$(nice)"'
has "a refusal" "no profile of yours lets you add" as bob caplet run --cap-add SYS_MODULE true
has "setuid has no power inside" "NoNewPrivs:	1" as alice caplet run cat /proc/self/status

echo "== login"
# In some containers logind makes no session for anybody.
login 'sleep 3' &
sleep 1
logind=$(loginctl --no-pager list-sessions | grep -c alice || true)
wait
usermod -s /usr/bin/caplet-shell alice
is "ssh HOST COMMAND" "course 0" login 'echo $CAPLET_PROFILE $(grep -c . /nonexistent 2>/dev/null || echo 0)'
is "ssh HOST caplet run" NET_ADMIN login caplet run --quiet --cap-add NET_ADMIN printenv CAPLET_CAPS
is "su -" course su - alice -c 'echo $CAPLET_PROFILE'
has "the journal has its fields" "profile=course" journalctl -q CAPLET_USER=alice CAPLET_EVENT=grant
login 'while sleep 0.2; do date +%s >clock; done' &
open=$!
sleep 1
if [ "$logind" != 0 ]; then
    has "logind knows the session" alice loginctl --no-pager list-sessions
else
    echo "skipped: logind makes no session here, also not for a login with bash"
fi

echo "== upgrade, with a session open and logins all the time"
echo '# edited here' >>/etc/caplet/policy.toml
groupadd capletusers
usermod -aG capletusers alice
dpkg-statoverride --update --add root capletusers 4750 $helper
sed -i '\#^/usr/bin/caplet-shell$#d' /etc/shells
touch /t/upgrading
(
    tries=0 wrong=0
    while [ -e /t/upgrading ]; do
        tries=$((tries + 1))
        [ "$(su - alice -c 'echo in' 2>/t/login.err)" = in ] || { wrong=$((wrong + 1)); cat /t/login.err; }
    done
    echo "$tries $wrong" >/t/logins
) &
poll=$!
# Each step of dpkg that changes a name waits, so that there are logins between all of them.
strace -f -qq -o /dev/null -e trace=rename,link,unlink,symlink,chmod,chown -e inject=rename,link,unlink,symlink,chmod,chown:delay_exit=100000 \
    dpkg --force-confold -i "$new" >/t/dpkg.log 2>&1 || { cat /t/dpkg.log; fail upgrade; }
rm /t/upgrading
wait $poll
read -r tries wrong </t/logins
[ "$wrong" = 0 ] && [ "$tries" -gt 10 ] || fail "logins during the upgrade: $tries, of which $wrong failed"
echo "ok: $tries logins during the upgrade, none failed"
is "the edited policy stays" 1 grep -c 'edited here' /etc/caplet/policy.toml
is "the new one lies beside it" "640 root:root" mode /etc/caplet/policy.toml.dpkg-dist
is "the override of the mode holds" "4750 root:capletusers" mode $helper
has "who is not in its group is kept off" "caplet:" as bob caplet run true
is "the line that was taken out of /etc/shells stays out" 0 grep -cx /usr/bin/caplet-shell /etc/shells
kill -0 $open || fail "the open session is gone"
has "the session is seen by the new version" course caplet sessions
is "dpkg -V sees the edited policy alone" "??5?????? c /etc/caplet/policy.toml" dpkg -V caplet

echo "== the open session outlives its next judgement, by the new helper"
before=$(date +%s)
while [ $(($(date +%s) - before)) -lt 62 ]; do sleep 1; done
[ $(($(date +%s) - $(cat /home/alice/clock))) -le 2 ] || fail "the open session has stopped"
echo "ok: it goes on"
id=$(caplet sessions --json | sed -n 's/.*"id": "\([^"]*\)".*/\1/p' | head -1)
caplet end "$id" || fail "caplet end $id"
wait $open || true
is "and ends when told to" 0 pgrep -fc 'date .%s >clock'

echo "== downgrade and reinstall"
dpkg-statoverride --remove $helper
install_quietly "$old"
is "the mode is back" "4755 root:root" mode $helper
is "login after the downgrade" course login 'echo $CAPLET_PROFILE'
install_quietly "$new"
install_quietly "$new"
is "login after the reinstallation" course login 'echo $CAPLET_PROFILE'

echo "== by apt, as the README says"
if dpkg -P caplet >/dev/null 2>&1; then fail "it was purged under alice's login shell"; fi
CAPLET_REMOVE=yes dpkg -r caplet >/dev/null || fail "it can be removed"
(cd /t && apt-get -y -q install ./caplet_0.1.0_*.deb) >/t/apt.log 2>&1 || { cat /t/apt.log; fail "apt install"; }
is "login after that" course login 'echo $CAPLET_PROFILE'

echo "== removal"
has "is refused while alice has the shell" "could not log in any more: alice" dpkg -r caplet
has "also by apt" "could not log in any more: alice" apt-get -y remove caplet
is "and login works still" course login 'echo $CAPLET_PROFILE'
usermod -s /bin/caplet-shell alice
has "also by its other path" "could not log in any more: alice" dpkg -r caplet
usermod -s /usr/bin/caplet-shell alice
CAPLET_REMOVE=yes dpkg -r caplet >/dev/null || fail "it can be removed all the same"
[ ! -e /usr/bin/caplet-shell ] || fail "it was removed"
is "root still comes in as alice" alice su -s /bin/sh alice -c 'id -un'
install_quietly "$new"
is "it is back with its policy" course login 'echo $CAPLET_PROFILE'
usermod -s /bin/bash alice
dpkg -r caplet >/dev/null || fail "removal"
is "it is not in /etc/shells" 0 grep -cx /usr/bin/caplet-shell /etc/shells
[ -e /etc/caplet/policy.toml ] || fail "the policy stays until it is purged"
echo "== purge"
dpkg -P caplet >/dev/null || fail purge
left=$(find / -xdev -path /proc -prune -o -path /t -prune -o -path /sys -prune -o -name '*caplet*' -print | grep -v -e '^/var/lib/systemd/' -e '^/run/' || true)
is "nothing is left" "" echo "$left"
echo "deb: passed on $(. /etc/os-release && echo "$PRETTY_NAME"), $(ssh -V 2>&1 | cut -d, -f1), $(systemctl --version | head -1)"
