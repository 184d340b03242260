#!/bin/sh
# Fetches a Linux kernel and a static busybox for the Linux test guest:
#
#	fetch.sh DIRECTORY
#
# makes DIRECTORY with vmlinuz, busybox and modules/. The packages are
# downloaded and unpacked, never installed.
set -eu

target=$1
[ -f "$target/vmlinuz" ] && [ -f "$target/busybox" ] && [ -d "$target/modules" ] && exit 0
mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# As root, apt would download as a user of its own, who cannot get in here.
get() { apt-get -o APT::Sandbox::User="$(id -un)" download "$@"; }

# The real kernel package behind the one that always names the newest.
kernel_package() {
	for meta in linux-image-cloud-amd64 linux-image-virtual linux-image-amd64; do
		name=$(apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
		if [ -n "$name" ]; then
			echo "$name"
			return
		fi
	done
}

from_apt() {
	kernel=$(kernel_package)
	if [ -z "$kernel" ]; then
		echo "the package lists are empty: apt-get update"
		as_root apt-get update
		kernel=$(kernel_package)
	fi
	[ -n "$kernel" ] || { echo "apt knows no kernel package" >&2; exit 1; }
	packages="$kernel busybox-static"
	# Ubuntu keeps the drivers in a package of their own.
	modules=linux-modules-${kernel#linux-image-}
	apt-cache show "$modules" >/dev/null 2>&1 && packages="$packages $modules"
	echo "downloading $packages (unpacked into $target, not installed)"
	(
		cd "$work"
		# shellcheck disable=SC2086 # a list of words
		get $packages || { as_root apt-get update && get $packages; }
		for package in *.deb; do
			dpkg-deb -x "$package" root
		done
	)
	root=$work/root
	for kernel in "$root"/boot/vmlinuz-*; do :; done
	for modules in "$root"/lib/modules/* "$root"/usr/lib/modules/*; do
		[ -d "$modules" ] && break
	done
	busybox=$(find "$root" -type f -path '*/bin/busybox*' | head -n 1)
}

# Without apt the host's own kernel and busybox must do. Untried.
from_host() {
	modules=/lib/modules/$(uname -r)
	kernel=/boot/vmlinuz-$(uname -r)
	[ -r "$kernel" ] || kernel=$modules/vmlinuz
	busybox=$(command -v busybox.static || command -v busybox-static || command -v busybox || true)
	if [ ! -r "$kernel" ] || [ -z "$busybox" ]; then
		echo "no apt here, and no readable kernel ($kernel) or no busybox for the Linux test guest" >&2
		exit 1
	fi
}

if command -v apt-get >/dev/null 2>&1; then from_apt; else from_host; fi

mkdir -p "$work/made"
cp "$kernel" "$work/made/vmlinuz"
cp "$busybox" "$work/made/busybox"
cp -R "$modules" "$work/made/modules"
chmod -R u+rw "$work/made"
# Newer distributions compress the modules; busybox insmod wants them plain.
find "$work/made/modules" -name '*.ko.xz' -exec unxz {} +
find "$work/made/modules" -name '*.ko.zst' -exec unzstd -q --rm {} +
find "$work/made/modules" -name '*.ko.gz' -exec gunzip {} +
rm -rf "$target"
mv "$work/made" "$target"
