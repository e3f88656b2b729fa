# shellcheck shell=bash
# storage-lio.sh - the Linux kernel's target, in a kernel that is a process.
#
# Debian's user-mode-linux boots with this machine's file system, read-only, as its
# root and target/lio-init as its first process. It has what tgtd lacks: PREEMPT AND
# ABORT, READ FULL STATUS, APTPL, COMPARE AND WRITE. $LAB/target is writable in it, as
# /mnt/target, which is also the way to talk to it.

# Always the same, or the nodes would not find it again after a restart.
LIO_MAC=02:00:0a:62:00:fe

lio_prepare() {
	ip tuntap add mode tap name st-storage
	ip link set dev st-storage master storage up
	mkdir -p "$LAB/target/lio"
}

lio_start() {
	local lun disks=()
	rm -rf "$LAB/target/pid" "$LAB/target/uml" "$LAB"/target/{ready,request,reply}
	for ((lun = 1; lun <= LAB_LUNS; lun++)); do
		disks+=("ubd$((lun - 1))=$(storage_image "$lun")")
	done
	# NAME=VALUE words that the kernel doesn't know become lio-init's environment.
	storage_spawn $$ linux.uml mem=384M umid=lio uml_dir="$LAB/target/uml/" \
		root=/dev/root rootfstype=hostfs rootflags=/ ro quiet "${disks[@]}" \
		vec0:transport=tap,ifname=st-storage,depth=128,gro=1,mac="$LIO_MAC" \
		con=null con0=null,fd:1 \
		init="$HERE/target/lio-init" TARGET_DIR="$LAB/target" TARGET_IQN="$STORAGE_IQN" \
		TARGET_CHAP="$LAB_CHAP" \
		TARGET_SERIALS="$(for ((lun = 1; lun <= LAB_LUNS; lun++)); do
			storage_serial "$lun"; echo -n ,; done)"
	wait_until 10 storage_pid >/dev/null || die "user-mode Linux did not start"
	wait_until 60 lio_ready_or_off || die "LIO hangs, see $LAB/target.log"
	[ -e "$LAB/target/ready" ] || die "LIO did not start, see $LAB/target.log"
}

lio_ready_or_off() {
	[ -e "$LAB/target/ready" ] || storage_is_off
}

# Its own block layer's counts: the bytes are exact; one READ or WRITE command may
# count as several if it is large.
lio_counters() {
	lio_ask counters
}

lio_hold() {
	lio_ask hold "$1"
}

lio_pass() {
	lio_ask pass "$1"
}

lio_release() {
	lio_ask release "$1"
}

# lio_ask WORD...: have lio-init do it, and print what it says.
lio_ask() {
	rm -f "$LAB/target/reply"
	echo "$*" >"$LAB/target/request.new"
	mv "$LAB/target/request.new" "$LAB/target/request"
	wait_until 30 test -e "$LAB/target/reply" || die "LIO does not answer"
	! grep '^failed: ' "$LAB/target/reply" >&2 || die "LIO cannot"
	cat "$LAB/target/reply"
}
