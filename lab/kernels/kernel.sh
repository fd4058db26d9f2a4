#!/usr/bin/env bash
# The cloud kernel of a Debian suite, for qemu: kernel.sh SUITE FOLDER leaves vmlinuz, initrd, modules.img (an ext4 of
# /usr/lib/modules) and release there, and does nothing where they lie already. Packages come from the mirror of this
# machine's own apt sources, signed by Debian's keys; nothing is installed here.
set -euo pipefail
suite=${1:?suite} folder=${2:?folder}
[ ! -e "$folder/release" ] || exit 0
here=$(dirname "$0")
mirror=$("$here/mirror.sh")
rm -rf "$folder"
mkdir -p "$folder"/{lists/partial,cache/archives/partial,deb,x,i/{bin,dev,proc,sys,mnt,m}}
folder=$(realpath "$folder")
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$folder/sources"
: >"$folder/status"
# sid's Release file may be older than it says it may be; a mirror of a fixed day has nothing newer.
options=(-qq -o "Dir::Etc::sourcelist=$folder/sources" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$folder/lists"
    -o "Dir::Cache=$folder/cache" -o "Dir::State::status=$folder/status" -o Acquire::Check-Valid-Until=false
    -o Acquire::Languages=none -o APT::Sandbox::User=root)
lacking() { echo "kernels: $suite's kernel cannot be had from $mirror: $1" >&2; exit 3; }
apt-get "${options[@]}" update >"$folder/log" 2>&1 || lacking "$(tail -1 "$folder/log")"
depends() { apt-cache "${options[@]}" depends "$1" | sed -n "s/.*Depends: \($2\)/\1/p"; }
package=$(depends linux-image-cloud-amd64 'linux-image-[0-9].*' | head -1)
[ -n "$package" ] || lacking "it has no linux-image-cloud-amd64"
# From 7.x on a kernel comes in several packages.
mapfile -t more < <(depends "$package" 'linux-\(binary\|modules\|base\)-[0-9].*' | sed 's/^\(linux-[a-z]*-[^ ]*\).*/\1/')
(cd "$folder/deb" && apt-get "${options[@]}" download "$package" "${more[@]}") >"$folder/log" 2>&1 || lacking "$(tail -1 "$folder/log")"
for file in "$folder"/deb/*.deb; do dpkg -x "$file" "$folder/x"; done
root=$folder/x
[ -d "$root/lib/modules" ] || root=$folder/x/usr
release=$(ls "$root/lib/modules")
/sbin/depmod -b "$root" "$release"
cp "$(find "$folder/x" -name 'vmlinuz*' -type f | head -1)" "$folder/vmlinuz"
# What it needs to find its disk, and then the disk's own init.
cp "$(command -v busybox)" "$folder/i/bin/busybox"
for name in sh mount switch_root insmod sleep; do ln -s busybox "$folder/i/bin/$name"; done
for module in virtio_pci virtio_blk overlay; do
    /sbin/modprobe -d "$root" -S "$release" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$1]++' | while read -r file; do
    name=$(basename "${file%.xz}")
    case $file in *.xz) xz -dc "$file" >"$folder/i/m/$name" ;; *) cp "$file" "$folder/i/m/$name" ;; esac
    echo "$name"
done >"$folder/i/modules"
cp "$here/initrd-init" "$folder/i/init"
(cd "$folder/i" && find . | cpio -oH newc --quiet | zstd -q -3) >"$folder/initrd"
size=$(du -sm "$root/lib/modules" | cut -f1)
truncate -s $((size * 5 / 4 + 16))M "$folder/modules.img"
/sbin/mke2fs -q -F -t ext4 -O ^has_journal -d "$root/lib/modules" "$folder/modules.img"
rm -rf "$folder"/{lists,cache,deb,x,i,log,status,sources}
echo "$release" >"$folder/release"
