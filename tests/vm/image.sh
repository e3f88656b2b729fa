#!/bin/bash
# image.sh - the disk, the kernel and the initramfs of the guests, made once of Debian's packages.
#
#     tests/vm/image.sh       make it if it is not there; prints the folder that holds it
#
# The folder is ${FERRY_VM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/ferry/vm}, about 1 GiB, and may be
# removed at any time. No part of it ever goes into the tree. Needs root, and Debian's packages
# from where this machine has its own; a few minutes.
#
# Nothing of Ferry's is in it: guests see the build and these scripts through shared folders, and
# guest-init comes with the initramfs (lib.sh), so that only a change to this file makes it anew.
# The kernel is Debian's backport: its older one has no ublk.
set -euo pipefail

CACHE=${FERRY_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ferry/vm}

# What the guests have: a small system, the kernel's initiator and its multipath, RDMA, the cluster,
# load, and the libraries that ferryd is linked with (and those of its sanitizers).
PACKAGES="busybox-static kmod iproute2 iputils-ping nftables procps psmisc util-linux mount udev
	sg3-utils lsscsi open-iscsi multipath-tools dmsetup e2fsprogs fuse3 strace
	rdma-core rdmacm-utils ibverbs-utils ibverbs-providers perftest
	corosync pacemaker pacemaker-cli-utils resource-agents jq
	fio nbdkit nbdkit-plugin-python nbd-client libnbd-bin libasan8 libubsan1
	libisal2 liburing2 libiscsi7 libfuse3-3 libqb100 libcpg4 libquorum5 libvotequorum8 libcmap4
	libcfg7 libgrpc29 libprotobuf-c1 libssl3 libinih1"
# Folders of modules that no guest needs.
DROP="sound drivers/gpu drivers/media drivers/net/wireless drivers/net/ethernet drivers/staging
	drivers/iio drivers/input drivers/hid drivers/usb drivers/bluetooth drivers/comedi
	drivers/platform drivers/mmc drivers/mtd drivers/power drivers/hwmon drivers/i2c
	drivers/thunderbolt drivers/gnss drivers/infiniband/hw"
# Modules without which the guests would be of no use.
NEEDED="rdma_rxe ublk_drv nbd target_core_mod target_core_iblock iscsi_target_mod iscsi_tcp sd_mod sg
	dm_multipath dm_round_robin fuse loop ib_uverbs rdma_ucm nf_tables"

say()
{
	echo "vm image: $*" >&2
}

# This machine's own Debian sources, as one-line entries.
sources()
{
	local entry='deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'

	apt-get indextargets --format "$entry \$(SITE) \$(RELEASE) main" \
		'Created-By: Packages' 'Component: main' 'Origin: Debian' | sort -u
}

# An uncompressed kernel starts through PVH: under emulation unpacking takes long.
unpack_kernel()
{
	local packed=$1 at tool

	for tool in '\x28\xb5\x2f\xfd zstd' '\xfd7zXZ\x00 xz'; do
		while read -r at; do
			tail -c +$((at + 1)) "$packed" | ${tool##* } -dcq 2>/dev/null || true
		done < <(LC_ALL=C grep -aboP "${tool% *}" "$packed" | head -1 | cut -d: -f1) >"$2"
		if [[ $(head -c 4 "$2" | tail -c 3) == ELF ]]; then
			return
		fi
	done
	cp "$packed" "$2"
}

# apt for the backports alone, with lists of its own: this machine's sources stay as they are.
backports()
{
	local command=$1

	shift
	"$command" -qq -o Dir::Etc::sourcelist="$work/apt/backports.list" \
		-o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$work/apt/lists" \
		-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root "$@"
}

get_kernel()
{
	local package folder name

	mkdir -p "$work/apt/lists/partial"
	sources | sed -n 's| bookworm main$| bookworm-backports main|p' | head -1 \
		>"$work/apt/backports.list"
	backports apt-get update
	package=$(backports apt-cache depends linux-image-amd64 |
		sed -n 's/.*Depends: \(linux-image-6[^ ]*\).*/\1/p' | head -1)
	[ -n "$package" ] || {
		say "no kernel in bookworm-backports where this machine has its packages from"
		exit 1
	}
	say "kernel: $package"
	(cd "$work" && backports apt-get download "$package" && dpkg -x "$package"_*.deb kernel)
	version=${package#linux-image-}
	if [ ! -d "$work/kernel/lib/modules" ]; then
		mkdir -p "$work/kernel/lib"
		mv "$work/kernel/usr/lib/modules" "$work/kernel/lib/"
	fi
	for folder in $DROP; do
		rm -rf "$work/kernel/lib/modules/$version/kernel/$folder"
	done
	find "$work/kernel/lib/modules" -name '*.ko.xz' -print0 | xargs -0r -n 64 xz -dq
	depmod -b "$work/kernel" "$version"
	for name in $NEEDED; do
		modinfo -b "$work/kernel" -k "$version" "$name" >/dev/null || {
			say "this kernel has no $name"
			exit 1
		}
	done
	unpack_kernel "$work/kernel/boot/vmlinuz-$version" "$work/vmlinux"
}

get_root()
{
	say "packages"
	sources >"$work/sources.list"
	# What it leaves when it is killed goes with the rest.
	TMPDIR=$work mmdebstrap --quiet --variant=apt --mode=root --aptopt='Acquire::Languages "none"' \
		--dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--include="$(echo $PACKAGES | tr ' ' ',')" bookworm "$work/root" - \
		<"$work/sources.list" 2>"$work/mmdebstrap.log" || {
		tail -n 20 "$work/mmdebstrap.log" >&2
		exit 1
	}
	rm -rf "$work/root/lib/modules"
	cp -a "$work/kernel/lib/modules" "$work/root/lib/"
	mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$work/root" "$work/root.img" 1800M >/dev/null
}

# busybox, and what it takes to mount the image under a tmpfs. Process 1 is in a second archive that
# the host lays behind this one.
get_initramfs()
{
	local file tree=$work/initramfs

	mkdir -p "$tree"/{bin,mods,dev,proc,ro,rw,new}
	cp /bin/busybox "$tree/bin/"
	for file in virtio_pci virtio_blk ext4 overlay; do
		modprobe -d "$work/kernel" -S "$version" --show-depends "$file"
	done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' >"$work/mods"
	while read -r file; do
		cp "$file" "$tree/mods/"
		basename "$file"
	done <"$work/mods" >"$tree/mods/order"
	cat >"$tree/init" <<-'INIT'
		#!/bin/busybox sh
		B=/bin/busybox
		$B mount -t devtmpfs dev /dev
		$B mount -t proc proc /proc
		while read -r m; do $B insmod /mods/$m; done </mods/order
		i=0
		while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do $B usleep 50000; i=$((i + 1)); done
		$B mount -t ext4 -o ro /dev/vda /ro
		$B mount -t tmpfs -o size=90% tmpfs /rw
		$B mkdir /rw/up /rw/work
		$B mount -t overlay -o lowerdir=/ro,upperdir=/rw/up,workdir=/rw/work overlay /new
		$B cp /guest-init /new/sbin/guest-init
		$B umount /proc
		$B mount --move /dev /new/dev
		exec $B switch_root /new /sbin/guest-init
	INIT
	chmod 755 "$tree/init"
	(cd "$tree" && find . | cpio -o -H newc --quiet >"$work/initrd")
}

# In namespaces of its own: if this is killed, nothing that it started or mounted stays.
if [ -z "${FERRY_VM_IMAGE:-}" ]; then
	setpriv --pdeathsig KILL unshare -p -m --mount-proc --fork --kill-child \
		env FERRY_VM_IMAGE=1 bash "$0" &
	INSIDE=$!
	trap 'kill -KILL $INSIDE; exit 143' INT TERM HUP # unshare itself heeds no other.
	wait $INSIDE
	exit
fi
mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9
stamp=$(sha256sum <"$0" | cut -c1-16)
if [ "$(cat "$CACHE/stamp" 2>/dev/null)" != "$stamp" ]; then
	say "making it in $CACHE, once"
	rm -rf --one-file-system "$CACHE"/build.* # Of one that was killed.
	work=$(mktemp -d "$CACHE/build.XXXXXX")
	trap 'rm -rf --one-file-system "$work"' EXIT
	get_kernel
	get_root
	get_initramfs
	rm -f "$CACHE/stamp"
	trap '' INT TERM # From here on it is an image.
	mv -f "$work"/{vmlinux,initrd,root.img} "$CACHE/"
	echo "$stamp" >"$CACHE/stamp"
	say "made in $SECONDS s"
fi
echo "$CACHE"
