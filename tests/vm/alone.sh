# alone.sh - sourced: one agent that stands alone in vm1, over /dev/vdb (512-byte blocks) or /dev/vdc
# (4096), and what its device does whatever makes it. FRONT_END: the agent's options for that.
. "$(dirname "$0")/lib.sh"

N=1
MIB=96
DISKS=(512 4096)

# vm1 is up, with the disks and the programs.
alone_up()
{
	local size

	for size in "${DISKS[@]}"; do
		truncate -s ${MIB}M "$WORK/disk.$size"
	done
	GUEST_MIB=1024 guest_start $N \
		-drive "if=none,id=a,file=$WORK/disk.512,format=raw,discard=unmap" \
		-device virtio-blk-pci,drive=a,addr=0x10 \
		-drive "if=none,id=b,file=$WORK/disk.4096,format=raw,discard=unmap" \
		-device virtio-blk-pci,drive=b,addr=0x11,logical_block_size=4096,physical_block_size=4096
	guest_up $N
	must 'cp /ferry/bin/ferryd /ferry/bin/ferry /usr/local/bin/'
}

# agent_start DISK [option...]: until it answers. As a service it would be started again, too, while the
# kernel still ends the I/O of the one before, which has the disk open till then.
agent_start()
{
	guest_must $N "for i in \$(seq 300); do
		ferry status >/dev/null 2>&1 && exit
		[ -e /proc/\$(cat /run/ferryd.pid 2>/dev/null)/exe ] || {
			setsid ferryd --standalone --lun /dev/$1 --name data $FRONT_END --run-dir /run/ferry \
				--memory 32M ${*:2} >>/var/log/ferryd.log 2>&1 </dev/null &
			echo \$! >/run/ferryd.pid
		}
		sleep 0.2
	done; exit 1"
}

# agent_end SIGNAL: and until its process is gone.
agent_end()
{
	guest_must $N "p=\$(cat /run/ferryd.pid); kill -$1 \$p
		for i in \$(seq 300); do [ -e /proc/\$p/exe ] || exit 0; sleep 0.1; done; exit 1"
}

say_all()
{
	guest_do $N 'tail -n 30 /var/log/ferryd.log; ferry status; ferry volumes; ls /dev/ublk* /dev/nbd0
		dmesg | tail -n 30' >&2
}

must()
{
	guest_do $N "$@" >"$WORK/out" || {
		say_all
		fail "$* $(cat "$WORK/out")"
	}
}

ios()
{
	guest_do $N "ferry --timeout 5 --json status" | jq -r '.pools[0].ios'
}

ios_at_least()
{
	[ "$(ios)" -ge "$1" ] 2>/dev/null
}

# Since an agent is new its count begins at 0.
ios_go_on()
{
	within 120 ios_at_least $(($(ios) + 200)) || {
		say_all
		fail "I/O does not go on"
	}
}

# device_keeps DEVICE SIZE: what is written by one way is read by the other, by the largest requests and
# at the very end; zeroes and discards go where they should.
device_keeps()
{
	must "dd if=/dev/urandom of=/run/data bs=1M count=$MIB 2>&1
		r() { awk '{print \$5}' /sys/block/${1#/dev/}/stat; }; before=\$(r)
		dd if=/run/data of=$1 bs=1M oflag=direct 2>&1
		echo \"writes: \$((\$(r) - before))\"; [ \$((\$(r) - before)) = $MIB ] &&
		cmp /run/data $1 && dd if=$1 of=/run/tail bs=$2 iflag=direct \
			skip=$((MIB * 1048576 / $2 - 1)) count=9 2>&1 &&
		cmp /run/tail <(tail -c $2 /run/data)"
	must "blkdiscard -z -o 1048576 -l 20971520 $1 &&
		cmp -n 20971520 /dev/zero <(dd if=$1 bs=1M skip=1 iflag=direct 2>/dev/null) &&
		cmp -n 1048576 /run/data $1 &&
		cmp <(tail -c +22020097 /run/data) <(tail -c +22020097 $1) &&
		blkdiscard -o 0 -l 67108864 $1 && rm /run/data"
	must "fio --name=x --filename=$1 --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite \
		--bsrange=$2-1m --bs_unaligned=0 --size=32m --io_size=32m --verify=crc32c --verify_fatal=1 \
		--verify_async=0 --minimal"
}

# device_carries_ext4 DEVICE CHECK: it is kept while it is mounted, and is found again; CHECK: it is gone.
device_carries_ext4()
{
	must "mke2fs -q -t ext4 $1 && mount -o discard $1 /mnt &&
		dd if=/dev/urandom of=/mnt/x bs=64k count=200 conv=fsync 2>&1"
	guest_do $N 'ferry detach data' >"$WORK/out"
	[ $? = 5 ] || fail "detached while it is mounted: $(cat "$WORK/out")"
	must 'sha256sum /mnt/x >/run/sum && umount /mnt && ferry detach data'
	"$2"
	must "ferry attach data >/dev/null && mount $1 /mnt && sha256sum -c /run/sum &&
		umount /mnt && e2fsck -fn $1 && ferry detach data && ferry detach data"
	"$2"
}
