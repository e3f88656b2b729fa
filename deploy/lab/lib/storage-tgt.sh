# shellcheck shell=bash
# storage-tgt.sh - tgtd, a target that is an ordinary process.
#
# tgtd counts commands per session and forgets them with the session, so they are
# counted where it does its I/O (target/tgt-count.c, preloaded).

tgt_prepare() {
	tgt_preload_make tgt-count
	[ "$LAB_BACKING" != volatile ] || tgt_preload_make tgt-volatile
	[ "$LAB_PLAIN" = no ] || tgt_preload_make tgt-plain # target/tgt-plain.c
}

tgt_preload_make() {
	cc -O2 -Wall -shared -fPIC -o "$LAB/target/$1.so" "$HERE/target/$1.c" -ldl
}

tgt_start() {
	local lun admin=(tgt_admin --lld iscsi) preload=$LAB/target/tgt-count.so volatile=()
	if [ "$LAB_BACKING" = volatile ]; then
		preload+=:$LAB/target/tgt-volatile.so
		volatile=(TGT_VOLATILE="$LAB/target/volatile")
	fi
	[ "$LAB_PLAIN" = no ] || preload+=:$LAB/target/tgt-plain.so
	rm -f "$LAB/target/pid" "$LAB"/target/tgtd.ipc*
	storage_spawn "$(holder_pid st)" env TGT_IPC_SOCKET="$LAB/target/tgtd.ipc" \
		TGT_COUNT="$LAB/target/counters" "${volatile[@]}" LD_PRELOAD="$preload" \
		tgtd --foreground --control-port 0 --iscsi portal=10.98.0.254:3260
	wait_until 10 tgt_answers || die "tgtd did not start, see $LAB/target.log"
	"${admin[@]}" --op new --mode target --tid 1 --targetname "$STORAGE_IQN"
	for ((lun = 1; lun <= LAB_LUNS; lun++)); do
		"${admin[@]}" --op new --mode logicalunit --tid 1 --lun "$lun" \
			--bstype rdwr --backing-store "$(storage_image "$lun")"
		"${admin[@]}" --op update --mode logicalunit --tid 1 --lun "$lun" --params \
			"vendor_id=FERRY,thin_provisioning=1,scsi_id=FERRY-LAB-LUN-$lun"\
",scsi_sn=$(storage_serial "$lun")"
	done
	if [ -n "$LAB_CHAP" ]; then
		"${admin[@]}" --op new --mode account --user "${LAB_CHAP%%:*}" \
			--password "${LAB_CHAP#*:}"
		"${admin[@]}" --op bind --mode account --tid 1 --user "${LAB_CHAP%%:*}"
	fi
	# Last, so that nobody logs in to half a target.
	"${admin[@]}" --op bind --mode target --tid 1 --initiator-address ALL
}

tgt_admin() {
	TGT_IPC_SOCKET="$LAB/target/tgtd.ipc" tgtadm "$@"
}

tgt_answers() {
	tgt_admin --op show --mode sys >/dev/null
}

# The counters' file, as laid out in tgt-count.c: 64-bit words, the first row is for
# the settings, then one row of eight words per lun.
tgt_counters() {
	od -An -v -t u8 -w64 "$LAB/target/counters" | awk -v luns="$LAB_LUNS" '
		NR > 1 && NR - 1 <= luns {
			printf "lun=%d reads=%d read_sectors=%d writes=%d " \
				"write_sectors=%d flushes=%d discards=%d\n",
				NR - 1, $1, $2 / 512, $3, $4 / 512, $5, $6
		}'
}

# tgt_slow READ_MS WRITE_MS
tgt_slow() {
	[ "$LAB_TARGET" = tgt ] || die "only tgt can be made slow"
	[[ ${1:-} =~ ^[0-9]+$ && ${2:-} =~ ^[0-9]+$ ]] || die "target slow READ_MS WRITE_MS"
	tgt_words "$LAB/target/counters" 0 "$(($1 * 1000))" "$(($2 * 1000))"
}

# A write that is held waits for nine seconds, whatever is said later.
tgt_hold() {
	tgt_slow 0 9000
}

tgt_pass() {
	tgt_slow 0 0
}

tgt_release() {
	tgt_slow 0 0
	sleep 9 # tidy: allow banned - the held write's own time, which nothing shortens
}

# ---- the luns' volatile cache, target/tgt-volatile.c: its words, by their places ----

tgt_is_volatile() {
	[ "$LAB_BACKING" = volatile ] || die "only with: lab up --backing volatile"
}

tgt_stalled() {
	tgt_is_volatile
	tgt_words "$LAB/target/volatile" 0 "$1"
}

tgt_lying() {
	tgt_is_volatile
	tgt_words "$LAB/target/volatile" 1 "$1"
}

# A power cut: the target ends, and when it comes back its cache has been through it.
tgt_power_cut() {
	local seed=${1:-$RANDOM} cuts
	tgt_is_volatile
	[[ $seed =~ ^[0-9]+$ ]] || die "target power-cut [SEED]"
	storage_kill
	read -r _ _ cuts _ < <(od -An -v -t u8 -N 64 -w64 "$LAB/target/volatile")
	tgt_words "$LAB/target/volatile" 0 0 # What was stalled is over with it.
	tgt_words "$LAB/target/volatile" 2 $((cuts + 1)) "$seed"
	tgt_start
}

tgt_losses() {
	tgt_is_volatile
	od -An -v -t u8 -w64 "$LAB/target/volatile" | awk -v luns="$LAB_LUNS" '
		NR == 1 { printf "cuts=%d waiting=%d\n", $3, $5 }
		NR > 1 && NR - 1 <= luns {
			printf "lun=%d kept=%d dropped=%d torn=%d flushes=%d carried=%d " \
				"unflushed_bytes=%d\n", NR - 1, $1, $2, $3, $4, $5, $6
		}'
}

# tgt_words FILE WORD VALUE...: 64-bit words of a shared file, from number WORD on.
tgt_words() {
	local file=$1 word=$2 value hex bytes=''
	shift 2
	for value in "$@"; do
		printf -v hex '%016x' "$value"
		while [ -n "$hex" ]; do # Little-endian.
			bytes+="\\x${hex: -2}"
			hex=${hex%??}
		done
	done
	printf '%b' "$bytes" | dd of="$file" bs=8 seek="$word" conv=notrunc status=none
}
