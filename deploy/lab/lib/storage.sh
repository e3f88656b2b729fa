# shellcheck shell=bash
# storage.sh - the shared luns, whichever target serves them.
#
# Both targets serve iqn.2026-11.ferry.lab:disk, luns 1..K, at 10.98.0.254:3260, each
# lun with a serial that depends on its number only. Both say that they have a
# write-back cache (the page cache of the machine below) and SYNCHRONIZE CACHE
# empties it; both unmap.
#
# The target's own processes form one session, so that they can be stopped together.
# A target's file gives: X_start (returns when it serves), X_counters.

# shellcheck disable=SC2034 # The targets' files use it.
STORAGE_IQN=iqn.2026-11.ferry.lab:disk

storage_up() {
	local lun
	if [ "$LAB_TARGET" = none ]; then
		return 0
	fi
	holder_start st --net
	case $LAB_TARGET in
	tgt) network_plug st storage ;;
	lio) network_plug st storage admin ;; # 10.98.0.254 is the virtual machine's.
	esac
	for ((lun = 1; lun <= LAB_LUNS; lun++)); do
		truncate -s "${LAB_SIZE}M" "$(storage_image "$lun")"
	done
	"${LAB_TARGET}_prepare"
	"${LAB_TARGET}_start"
}

storage_image() {
	echo "$LAB/target/lun$1.img"
}

# At most 20 characters; LIO makes its WWID of the hexadecimal digits among them.
storage_serial() {
	printf 'FE44-1AB0-%04d' "$1"
}

# storage_spawn NAMESPACE-PID CMD...: the target's process, its own session leader.
storage_spawn() {
	local pid=$1
	shift
	# shellcheck disable=SC2016 # The inner shell expands these.
	setsid nsenter --target "$pid" --net -- \
		sh -c 'echo $$ >"$0.new" && mv "$0.new" "$0" && exec "$@"' "$LAB/target/pid" "$@" \
		</dev/null >>"$LAB/target.log" 2>&1 9>&- &
	disown # Its end is no news for this shell.
}

storage_pid() {
	local pid
	read -r pid 2>/dev/null <"$LAB/target/pid" && [ -e "/proc/$pid/root" ] || return 1
	echo "$pid"
}

storage_state() {
	local pid state
	[ "$LAB_TARGET" != none ] || return 0
	pid=$(storage_pid) || { echo off; return 0; }
	read -r _ _ state _ <"/proc/$pid/stat"
	[ "$state" != T ] || { echo stopped; return 0; }
	echo on
}

storage_verb() {
	[ "$LAB_TARGET" != none ] || die "this lab has no target"
	case ${1:-} in
	stop) storage_signal STOP ;;
	continue) storage_signal CONT ;;
	kill) storage_kill ;;
	start) storage_pid >/dev/null || "${LAB_TARGET}_start" ;;
	restart) storage_kill; "${LAB_TARGET}_start" ;;
	slow) tgt_slow "${@:2}" ;;
	hold | pass | release) "${LAB_TARGET}_$1" "${2:-1}" ;;
	stall) tgt_stalled 1 ;;
	resume) tgt_stalled 0 ;;
	lie) tgt_lying 1 ;;
	power-cut) tgt_power_cut "${@:2}" ;;
	losses) tgt_losses ;;
	*) die "target: which verb? see: lab help" ;;
	esac
}

storage_signal() {
	local pid
	pid=$(storage_pid) || die "the target is off"
	kill -s "$1" -- "-$pid"
}

storage_kill() {
	local pid
	pid=$(storage_pid) || return 0
	kill -s KILL -- "-$pid"
	wait_until 20 storage_is_off || die "the target does not end"
}

storage_is_off() {
	! storage_pid >/dev/null
}

storage_counters() {
	[ "$LAB_TARGET" != none ] || die "this lab has no target"
	"${LAB_TARGET}_counters" | grep -E "^lun=${1:-[0-9]+} "
}
