#!/bin/bash
# loop.sh - block devices that `ferry attach` makes: direct I/O, sector sizes, filesystems, fio,
# what it refuses, and an agent that dies under one. Exit 77: skipped, the reason is said.
. "$(dirname "$0")/lib.sh"
need losetup mkfs.ext4 mkfs.xfs e2fsck xfs_repair fio cmp blockdev ps jq

# filesystem TYPE DEVICE: make, fill, remount, compare, check.
filesystem() {
	local mnt=$WORK/fs
	mkdir -p "$mnt"
	case $1 in
	ext4) mkfs.ext4 -q -F "$2" ;;
	xfs) mkfs.xfs -q -f "$2" ;;
	esac || fail "mkfs.$1"
	mount "$2" "$mnt" || fail "mount $1"
	MOUNTS+=("$mnt")
	head -c 40M /dev/urandom >"$mnt/data" && sync -f "$mnt/data" || fail "$1: write"
	cp "$mnt/data" "$WORK/data"
	(for i in $(seq 200); do echo "$i" >"$mnt/file.$i"; done)
	rm "$mnt"/file.1*
	fstrim "$mnt" || fail "$1: fstrim"
	umount "$mnt" || fail "umount $1"
	mount "$2" "$mnt" || fail "mount $1 again"
	cmp "$mnt/data" "$WORK/data" || violated "$1: not what was written"
	[ "$(find "$mnt" -name 'file*' | wc -l)" = 89 ] || fail "$1: files $(ls "$mnt" | wc -l)"
	umount "$mnt"
	MOUNTS=()
	case $1 in
	ext4) e2fsck -fn "$2" >"$WORK/fsck.out" 2>&1 ;;
	xfs) xfs_repair -n "$2" >"$WORK/fsck.out" 2>&1 ;;
	esac || fail "$1 is damaged: $(cat "$WORK/fsck.out")"
}

volume_agent() {
	agent "$1" --lun "$WORK/v.img" --block-size "$2" --name volume \
		--fuse "$WORK/volume" "${@:3}"
}

test_block_size() {
	local before
	volume_agent "a$1" "$1" --nbd "unix:$WORK/nbd.sock"
	attach volume
	[ "$(blockdev --getss "$DEVICE")" = "$1" ] || fail "sector size of $DEVICE"
	[ "$(cat "/sys/block/${DEVICE#/dev/}/loop/dio")" = 1 ] || fail "$DEVICE is not direct"
	[ "$(blockdev --getsize64 "$DEVICE")" = $((384 * 1048576)) ] || fail "size of $DEVICE"
	[ "$(ferry attach volume)" = "$DEVICE" ] || fail "attaching twice made another"
	has ".device == \"$DEVICE\" and (.uri | startswith(\"nbd+unix:\"))" attach volume ||
		fail "attach --json"
	verify "$DEVICE" 64m
	before=$(sha256sum <"$DEVICE")
	nbdcopy "nbd+unix:///?socket=$WORK/nbd.sock" "$WORK/copy" || fail nbdcopy
	[ "$(sha256sum <"$WORK/copy")" = "$before" ] || violated "NBD and the device differ"
	cmp "$WORK/copy" "$WORK/v.img" || violated "the lun differs"
	ok "$1-byte sectors: direct I/O, fio --verify on the device, the same by NBD and in the lun"
	filesystem ext4 "$DEVICE"
	ok "$1-byte sectors: ext4 made, filled, trimmed, mounted again, compared, checked"
	filesystem xfs "$DEVICE"
	ok "$1-byte sectors: xfs likewise"
	detach volume
	ferry detach volume || fail "detaching what is detached is no error"
	has '.pools[0].failures == 0' status || fail "I/O failed: $(ferry status)"
	agent_end
	[ ! -e "$WORK/volume" ] || fail "the volume's file is still there"
	ok "$1-byte sectors: detached; the agent ends, and its file is gone"
}

test_refusals() {
	volume_agent r 512
	attach volume
	has ".volumes[0] | .device == \"$DEVICE\" and .clients >= 1 and .state == \"serving\"" \
		volumes || fail "the volume attached: $SAID"
	fails_with "no such volume on this node: none" ferry attach none
	fails_with "no such pool on this node: none" ferry release none
	fails_with "stands alone" ferry own standalone --force
	fails_with "stands alone" ferry move standalone n2
	ferry attach none 2>/dev/null
	[ $? = 4 ] || fail "the exit code for a volume that is not there"
	mkfs.ext4 -q -F "$DEVICE" && mkdir -p "$WORK/fs" && mount "$DEVICE" "$WORK/fs" || fail mount
	MOUNTS+=("$WORK/fs")
	fails_with "in use" ferry detach volume
	ferry detach volume 2>/dev/null
	[ $? = 5 ] || fail "the exit code for a device in use"
	echo still >"$WORK/fs/alive" && sync -f "$WORK/fs/alive" || fail "detach disturbed a mount"
	[ "$(losetup -n -O AUTOCLEAR "$DEVICE" | tr -d ' ')" = 0 ] || fail "autoclear was set"
	ferry release standalone >"$WORK/release.out" 2>&1
	[ $? = 5 ] || fail "the exit code for releasing what is mounted: $(cat "$WORK/release.out")"
	grep -q 'volume volume is in use: its file is open' "$WORK/release.out" ||
		fail "releasing what is mounted: $(cat "$WORK/release.out")"
	sync -f "$WORK/fs/alive" || fail "release disturbed a mount"
	umount "$WORK/fs"
	MOUNTS=()
	ok "no such volume, in use: refused by name and exit code, nothing changed"
}

# The agent dies under an attached device: the next one serves, attaching again works.
test_killed() {
	local dead=$DEVICE
	agent_kill
	dd if="$dead" of=/dev/null bs=4k count=1 iflag=direct status=none 2>/dev/null &&
		fail "a dead agent's device answers"
	fails_with "no agent is running" ferry status
	volume_agent r 512
	grep -q 'removed a mount that an agent had left' "$WORK/r.log" || fail "not said"
	attach volume
	verify "$DEVICE" 16m
	detach volume
	[ "$dead" = "$DEVICE" ] || [ ! -e "/sys/block/${dead#/dev/}/loop" ] ||
		[ "$(cat "/sys/block/${dead#/dev/}/loop/backing_file")" != /volume ] ||
		fail "the dead device is still attached: $(losetup -l)"
	has '.luns[0] | .lun_class == "standalone" and .name == "lun"' luns || fail "luns: $SAID"
	ferry release standalone || fail release
	has '.pools[0] | .state == "standby" and (.reason | startswith("released"))' status ||
		fail "the status of what was released: $SAID"
	has '.volumes[0] | .state == "standby" and .device == ""' volumes || fail "and: $SAID"
	agent_end
	ok "killed under a device: its mount and device are cleared by the next agent, which works"
}

test_read_only() {
	local before
	before=$(sha256sum <"$WORK/v.img")
	volume_agent ro 512 --read-only --nbd "unix:$WORK/nbd.sock"
	attach volume
	[ "$(blockdev --getro "$DEVICE")" = 1 ] || fail "$DEVICE can be written"
	fails_with 'not permitted\|read-only' dd if=/dev/zero of="$DEVICE" bs=4k count=1
	fails_with 'read-only\|readonly\|permission denied' \
		qemu-io -f raw -c 'write 0 4k' "nbd+unix:///?socket=$WORK/nbd.sock"
	detach volume
	agent_end
	[ "$(sha256sum <"$WORK/v.img")" = "$before" ] || fail "a read-only volume was written"
	agent nofuse --lun "$WORK/v.img" --nbd "unix:$WORK/nbd.sock"
	fails_with 'shows no files.*nbd+unix' ferry attach volume
	agent_end
	ok "read-only is read-only on the device and by NBD; without --fuse attach says what to do"
}

enter -- "$@"
[ -c /dev/fuse ] || skip "no /dev/fuse: the kernel or the container has no FUSE"
[ -c /dev/loop-control ] || skip "no loop driver"
begin
lun v.img 384
test_block_size 512
test_block_size 4096
test_refusals
test_killed
test_read_only
finish
