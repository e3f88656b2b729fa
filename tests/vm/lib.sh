# shellcheck shell=bash
# lib.sh - guests with Debian's own kernel, for what this machine's kernel or its missing modules
# cannot show: the kernel's iSCSI target and initiator, SCSI disks, dm-multipath. Sourced first of
# all by a test; needs root.
#
# The test goes on in namespaces of its own (network, processes, mounts), its files in a tmpfs there:
# no packet leaves it, and however it ends, nothing stays (clean.sh). Guests are emulated (TCG): all is
# real, and slow. Guest N is vmN with the address 10.99.0.N; it sees the source tree's build as /ferry
# and the folder that all share as /host. FERRY_VM_KEEP=FOLDER copies that folder, with the consoles,
# to FOLDER when the test ends by itself.
#
#     guest_start N [qemu option...]    and guest_up N waits until it takes orders
#     guest_do N COMMAND...             runs it there in bash: its output, its exit code
#     guest_begin N COMMAND...          only starts it; the job's number is in $JOB
#     guest_ended N JOB                 is it over?
#     guest_result N JOB                waits for it: its output, its exit code
#     guest_kill N                      a power failure
#     guests_cut A B [nft match...]     no packet passes between the two, or none that matches
#     guests_heal                       all pass again
#     target_start                      vm1 with the disks that guest-target wants
set -u -o pipefail

HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
ROOT=$(readlink -f "$HERE/../..")
BUILD=${FERRY_BUILD_DIR:-$ROOT/build}

if [ -z "${FERRY_VM_INSIDE:-}" ]; then
	[ "$(id -u)" = 0 ] || {
		echo "this test needs root: network namespaces, Debian's packages for the guests" >&2
		exit 77
	}
	if [ -z "${FERRY_VM_OUTSIDE:-}" ]; then # Who started this is killed: an end, too.
		exec setpriv --pdeathsig TERM env FERRY_VM_OUTSIDE=1 bash "$0" "$@"
	fi
	IMAGE=$(setpriv --pdeathsig TERM "$HERE/image.sh") || exit 1 # Here, where there is a network.
	mkdir -p "$IMAGE/work"
	setpriv --pdeathsig KILL unshare -n -p -m --mount-proc --fork --kill-child \
		env FERRY_VM_INSIDE="$IMAGE" bash "$0" "$@" &
	INSIDE=$!
	trap 'kill -KILL $INSIDE; exit 143' INT TERM HUP # unshare itself heeds no other.
	wait $INSIDE
	exit
fi

IMAGE=$FERRY_VM_INSIDE
WORK=$IMAGE/work # Empty outside.
mount -t tmpfs -o mode=0700 ferry-vm "$WORK" || exit 1
HOST=$WORK/host
mkdir "$HOST"
# Process 1 comes in a second archive behind the image's own initramfs.
(cat "$IMAGE/initrd" && cd "$HERE" && echo guest-init | cpio -o -H newc --quiet) >"$WORK/initrd"
declare -A QEMU=()
PASSED=0

note()
{
	printf '  %s\n' "$*"
}

fail()
{
	local n

	echo "FAILED: $*" >&2
	for n in "${!QEMU[@]}"; do
		echo "--- console of vm$n:" >&2
		tail -n 15 "$WORK/console.$n" >&2
	done
	exit 1
}

passed()
{
	PASSED=$((PASSED + 1))
	echo "passed: $*"
}

clean_up()
{
	local status=$?

	trap - EXIT
	[ "${#QEMU[@]}" -eq 0 ] || kill -KILL "${QEMU[@]}" 2>/dev/null
	if [ -n "${FERRY_VM_KEEP:-}" ]; then
		rm -f "$WORK/initrd"
		mkdir -p "$FERRY_VM_KEEP" && cp -a "$WORK"/. "$FERRY_VM_KEEP" &&
			echo "kept: $FERRY_VM_KEEP"
	fi
	[ $status -ne 0 ] || echo "passed: $PASSED checks in $SECONDS s"
	exit $status
}
trap clean_up EXIT

# within SECONDS COMMAND...: wait until it is true.
within()
{
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# Seconds, with their milliseconds.
now()
{
	echo "$EPOCHREALTIME"
}

since()
{
	awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'
}

ip link set lo up
ip link add br0 type bridge mcast_snooping 0
ip link set br0 mtu 9000 up

guest_start()
{
	local n=$1

	shift
	rm -rf "$HOST/vm$n"
	mkdir "$HOST/vm$n"
	ip -br link show "tap$n" >/dev/null 2>&1 || ip tuntap add "tap$n" mode tap
	ip link set "tap$n" mtu 9000 master br0 up
	# Each a session of its own: where the kernel shares time among sessions (autogroup), the guests
	# together do not count as one.
	setsid qemu-system-x86_64 -name "vm$n" -accel tcg,thread=multi,tb-size=256 \
		-machine pc,hpet=off -cpu max,-la57 \
		-smp 1 -m "${GUEST_MIB:-512}" -nodefaults -display none -no-reboot \
		-kernel "$IMAGE/vmlinux" -initrd "$WORK/initrd" \
		-append "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off nokaslr \
cryptomgr.notests audit=0 nowatchdog no_timer_check net.ifnames=0 random.trust_cpu=on \
8250.nr_uarts=1 vm.id=$n" \
		-serial "file:$WORK/console.$n" \
		-drive "if=none,id=root,file=$IMAGE/root.img,format=raw,readonly=on" \
		-device virtio-blk-pci,drive=root \
		-netdev "tap,id=n,ifname=tap$n,script=no,downscript=no" \
		-device "virtio-net-pci,netdev=n,mac=52:54:00:99:00:0$n,host_mtu=9000,romfile=" \
		-fsdev "local,id=h,path=$HOST,security_model=none" \
		-device virtio-9p-pci,fsdev=h,mount_tag=host \
		-fsdev "local,id=f,path=$BUILD,security_model=none,readonly=on,multidevs=remap" \
		-device virtio-9p-pci,fsdev=f,mount_tag=ferry \
		-device virtio-rng-pci "$@" </dev/null >"$WORK/qemu.$n" 2>&1 &
	QEMU[$n]=$!
	disown "${QEMU[$n]}" # The shell need not tell that it was killed.
}

guest_is_up()
{
	[ -e "$HOST/vm$1/up" ]
}

guest_up()
{
	within 240 guest_is_up "$1" || fail "vm$1 did not come up: $(cat "$WORK/qemu.$1")"
}

guest_kill()
{
	kill -KILL "${QEMU[$1]}"
	within 10 test ! -d "/proc/${QEMU[$1]}"
	unset "QEMU[$1]"
}

guest_begin()
{
	local home=$HOST/vm$1

	shift
	JOB=1
	while [ -e "$home/todo.$JOB" ]; do
		JOB=$((JOB + 1))
	done
	printf '%s\n' "$*" >"$home/new"
	mv "$home/new" "$home/todo.$JOB"
}

guest_ended()
{
	[ -e "$HOST/vm$1/status.$2" ]
}

guest_result()
{
	within "${GUEST_SECONDS:-300}" guest_ended "$1" "$2" ||
		fail "vm$1 does not end: $(cat "$HOST/vm$1/todo.$2"): $(cat "$HOST/vm$1/out.$2")"
	cat "$HOST/vm$1/out.$2"
	return "$(cat "$HOST/vm$1/status.$2")"
}

guest_do()
{
	guest_begin "$@"
	guest_result "$1" "$JOB"
}

# The same, and what fails ends the test.
guest_must()
{
	guest_do "$@" || fail "vm$1: ${*:2}"
}

# nobody_complains N...: neither the guests' kernels nor the agents there, if they could (a build with
# sanitizers). What was leaked is told by agents that have ended.
nobody_complains()
{
	local n

	for n in "$@"; do
		guest_must "$n" '! dmesg | grep -E "BUG:|WARNING:|Oops|blocked for more than"'
		guest_must "$n" '! grep -E "ERROR: [A-Z][a-z]+Sanitizer|runtime error|assertion failed" \
			/var/log/ferryd.log'
	done
}

# In the network, not in a guest: neither can know of it but by silence.
guests_cut()
{
	local a=52:54:00:99:00:0$1 b=52:54:00:99:00:0$2

	shift 2
	nft -f - <<-END || fail "no packet filter: $*"
		table bridge cuts {
			chain forward {
				type filter hook forward priority 0
				ether saddr $a ether daddr $b $* drop
				ether saddr $b ether daddr $a $* drop
			}
		}
	END
}

guests_heal()
{
	nft delete table bridge cuts
}

# The lun, and what the target keeps over a loss of power.
target_start()
{
	[ -e "$WORK/lun.img" ] || truncate -s 64M "$WORK/lun.img"
	[ -e "$WORK/kept.img" ] || truncate -s 16M "$WORK/kept.img"
	guest_start 1 -drive "if=none,id=lun,file=$WORK/lun.img,format=raw" \
		-device virtio-blk-pci,drive=lun,addr=0x10 \
		-drive "if=none,id=kept,file=$WORK/kept.img,format=raw,cache=writethrough" \
		-device virtio-blk-pci,drive=kept,addr=0x11
}

# The stable name of guest-target's lun in the other guests, by its serial.
disk_of()
{
	echo "/dev/disk/by-id/wwn-0x6001405${1}00000000000000000"
}
