#!/bin/sh
# Installs what is missing, and says so:
#
#	install-needs.sh demo    QEMU
#	install-needs.sh test    QEMU, its tools, a C compiler for the race detector,
#	                         rsync, vim, and a file system that tells of no events
#	install-needs.sh peers   what make bench-peers measures beside this program: libvirt's
#	                         daemon without its services, so that none is started
#
# Tried with apt-get on Debian 12. The other package managers are untried.
set -eu

missing() {
	for program in "$@"; do
		command -v "$program" >/dev/null 2>&1 || return 0
	done
	return 1
}

# One word for each thing that is missing; packages() knows its names.
wants=
missing qemu-system-x86_64 && wants="$wants qemu"
if [ "$1" = test ]; then
	missing qemu-img && wants="$wants tools"
	missing bindfs && wants="$wants bindfs"
	missing rsync && wants="$wants rsync"
	missing vim && wants="$wants vim"
	if missing "$(go env CC 2>/dev/null || echo gcc)" || ! echo '#include <stdlib.h>' | "$(go env CC)" -E - >/dev/null 2>&1; then
		wants="$wants compiler"
	fi
fi
[ "$1" = peers ] && missing libvirtd virsh && wants="$wants libvirt"
[ -n "$wants" ] || exit 0

packages() {
	for want in $wants; do
		case $1:$want in
		apt-get:qemu) echo qemu-system-x86 ;;
		apt-get:tools) echo qemu-utils ;;
		apt-get:compiler) echo gcc libc6-dev ;;
		apt-get:libvirt) echo libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients ;;
		*:bindfs) echo bindfs ;;
		*:rsync) echo rsync ;;
		*:vim) echo vim ;;
		dnf:qemu) echo qemu-system-x86-core ;;
		dnf:tools) echo qemu-img ;;
		dnf:compiler) echo gcc glibc-devel ;;
		pacman:qemu) echo qemu-system-x86 ;;
		pacman:tools) echo qemu-img ;;
		pacman:compiler) echo gcc ;;
		zypper:qemu) echo qemu-x86 ;;
		zypper:tools) echo qemu-tools ;;
		zypper:compiler) echo gcc glibc-devel ;;
		apk:qemu) echo qemu-system-x86_64 ;;
		apk:tools) echo qemu-img ;;
		apk:compiler) echo gcc musl-dev ;;
		esac
	done
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		echo "this needs root, and there is no sudo: $*" >&2
		exit 1
	fi
}

for manager in apt-get dnf pacman zypper apk none; do
	missing "$manager" || break
done
# shellcheck disable=SC2046 # words are wanted
set -- $(packages "$manager")
echo "missing:$wants; installing with $manager: $*"
case $manager in
apt-get)
	install="env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
	# The package lists may be old or absent.
	as_root $install "$@" || { as_root apt-get update && as_root $install "$@"; }
	;;
dnf) as_root dnf install -y "$@" ;;               # untried
pacman) as_root pacman -Sy --needed --noconfirm "$@" ;; # untried
zypper) as_root zypper --non-interactive install "$@" ;; # untried
apk) as_root apk add "$@" ;;                       # untried
none)
	echo "no package manager that is known here: install QEMU (qemu-system-x86_64, qemu-img) and a C compiler" >&2
	exit 1
	;;
esac
