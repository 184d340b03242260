#!/bin/busybox sh
# The whole userland of the Linux test guest; linux.go packs it.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
	$bb insmod "$module"
done

# QEMU's user network forwards to this address, so no DHCP is needed.
$bb ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
	$bb ip addr add 10.0.2.15/24 dev eth0
	$bb ip link set eth0 up
	$bb ip route add default via 10.0.2.2
fi
$bb httpd -p 80 -h /www

off() {
	echo "$1" >/dev/console
	$bb poweroff -f
}

# The device of the power button.
button_event() {
	for event in /sys/class/input/event*; do
		[ "$($bb cat "$event/device/name")" = "Power Button" ] && echo "/dev/input/${event##*/}"
	done
}

# An event is 24 bytes long; the first one is the press.
button() {
	$bb dd of=/dev/null bs=24 count=1 <&3 2>/dev/null && off BUTTON
}

# There is no udev that would make /dev/virtio-ports.
agent_port() {
	for port in /sys/class/virtio-ports/*; do
		[ "$($bb cat "$port/name")" = org.qemu.guest_agent.0 ] && echo "/dev/${port##*/}"
	done
}

# One message a line; the byte 0xFF before a guest-sync-delimited stays in the
# line and does no harm.
agent_answer() {
	id=${1##*\"id\":}
	id=${id# }
	id=${id%%[!0-9]*}
	case $1 in
	*guest-sync-delimited*) printf '\377{"return": %s}\n' "$id" ;;
	*guest-sync*) printf '{"return": %s}\n' "$id" ;;
	*guest-ping*) printf '{"return": {}}\n' ;;
	*guest-shutdown*) off AGENT ;;
	*) printf '{"error": {"class": "CommandNotFound", "desc": "not known here"}}\n' ;;
	esac
}

# A read ends at once while the host has nobody connected.
agent() {
	while :; do
		while read -r line; do
			agent_answer "$line"
		done <&4 >&4
		$bb sleep 0.1
	done
}

# Both devices are open before READY, so that nothing that the host does
# afterwards is lost. A virtio port can be opened only once.
words=" $($bb cat /proc/cmdline) "
case $words in
*" guest.deaf "*) ;;
*)
	exec 3<"$(button_event)"
	button &
	;;
esac
case $words in
*" guest.agent "*)
	exec 4<>"$(agent_port)"
	agent &
	;;
esac

echo READY
while :; do
	$bb sleep 3600
done
