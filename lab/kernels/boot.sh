#!/usr/bin/env bash
# One machine under qemu: boot.sh KERNEL-FOLDER IMAGE PAYLOAD.tar RESULTS CONSOLE [KERNEL-ARGUMENT...]. The payload is
# unpacked into /t there, and /t/inside.sh run as root; what it prints comes into RESULTS, whose last line is `end CODE`.
# Exits with that code; 124: no end within CAPLET_KERNELS_SECONDS; 125: the machine died before it was there.
# The image is never written to. TCG, since a virtual machine rarely has another inside; ACCEL=kvm where it has.
set -euo pipefail
kernel=$1 image=$2 payload=$3 results=$4 console=$5
shift 5
: >"$results"
code=0
timeout --foreground "${CAPLET_KERNELS_SECONDS:-3000}" qemu-system-x86_64 -machine q35 -accel "${ACCEL:-tcg,thread=multi}" -cpu max -smp 2 \
    -m "${MEMORY:-3072}" -nodefaults -no-user-config -display none -serial "file:$console" -serial "file:$results" -no-reboot \
    -device isa-debug-exit,iobase=0xf4,iosize=4 -drive "file=$image,if=virtio,format=raw,snapshot=on" \
    -drive "file=$payload,if=virtio,format=raw,readonly=on" -drive "file=$kernel/modules.img,if=virtio,format=raw,readonly=on" \
    -kernel "$kernel/vmlinuz" -initrd "$kernel/initrd" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on lab_init=${INIT:-/sbin/lab-init} $*" \
    </dev/null >/dev/null 2>>"$console" || code=$?
[ "$code" != 124 ] || exit 124
end=$(tr -d '\r' <"$results" | sed -n 's/^end \([0-9]*\)$/\1/p' | tail -1)
exit "${end:-125}"
