#!/bin/bash
# reservations.sh - what reservations are worth through the kernel's SCSI disks: a write that is held
# up in the target's backend, its initiator fenced, the same block written by the survivor, the held
# write let go. Three guests: vm1 is the kernel's iSCSI target (LIO), vm2 (A) and vm3 (B) reach its
# lun by the kernel's initiator. A's writes go through ferryd; both fence through adapters/sgio.
#
# Ends with a table of what this target's own commands prove.
. "$(dirname "$0")/lib.sh"

STAND="/ferry/tests/sgio_stand"
LISTEN="/ferry/tests/uevent_stand"
SERIAL=f00d0001
DISK=$(disk_of $SERIAL)
BLOCK=0
TABLE=()

row()
{
	note "$1: $2"
	TABLE+=("$(printf '%-62s | %s' "$1" "$2")")
}

# A command that writes WORD, 4 KiB of it, to a block of a device of the guest's.
write_of()
{
	echo "dd if=/tmp/$1 of=$2 bs=4096 seek=$BLOCK oflag=direct 2>&1 && echo written"
}

block_is()
{
	[ "$(guest_do 3 "dd if=$DISK bs=4096 skip=$BLOCK count=1 iflag=direct 2>/dev/null |
		head -c 6")" = "$1" ]
}

is_held()
{
	[ -s "$HOST/gate/holding" ]
}

# A begins a write that the backend holds; a fresh block for each.
hold()
{
	BLOCK=$((BLOCK + 1))
	rm -rf "$HOST/gate"
	mkdir "$HOST/gate"
	guest_begin 2 "$(write_of HOLD-A "$1")"
	HELD=$JOB
	within 30 is_held || fail "A's write did not come to the backend"
	HELD_AT=$(now)
}

let_go()
{
	touch "$HOST/gate/release"
	LET_GO_AT=$(now)
}

# True while it is less than so many seconds since A's write was held.
hold_for()
{
	until awk -v a="$HELD_AT" -v b="$EPOCHREALTIME" -v s="$1" 'BEGIN { exit b - a < s }'; do
		sleep 0.1
	done
}

has_landed()
{
	[ -s "$HOST/gate/released" ]
}

# Of how many resets has Ferry's adapter in B heard from the kernel, and of more than that?
heard()
{
	grep -c '^reset$' "$HOST/vm3/out.$LISTENER"
}

has_heard()
{
	[ "$(heard)" -gt "$1" ]
}

is_listening()
{
	grep -qs '^listening$' "$HOST/vm3/out.$LISTENER"
}

# B preempts A through the adapter while A's write is held. This target gives no proof (see the
# table), so there is a promised time, which is longer than the write is held.
survivor_keeps_its_data()
{
	local what=$1 device=$2

	guest_do 3 "$STAND $device preempt:b1:a1" >"$WORK/out"
	grep -q 'preempt:b1:a1: EOPNOTSUPP' "$WORK/out" || fail "$what: $(cat "$WORK/out")"
	guest_begin 3 "$STAND $device timeout=20 quiesce=15 preempt:b1:a1"
	local fencing=$JOB
	hold_for 6
	guest_ended 3 "$fencing" && fail "$what: B took for dead what was alive"
	has_landed && fail "$what: the gate did not hold"
	let_go
	guest_result 3 "$fencing" | sed 's/^/    B: /'
	has_landed || fail "$what: the promise was not kept: the write is still in the backend"
	guest_must 3 "$(write_of DATA-B "$DISK")" >/dev/null
	block_is DATA-B || fail "$what: B's data did not remain"
}

# Make A the holder of the reservation, or B; both are registered.
registered()
{
	guest_do 3 "$STAND /dev/mapper/both keys register:b1 && sg_persist -n --out --clear \
		--param-rk=0xb1 $DISK && $STAND /dev/mapper/both register:b1" >/dev/null ||
		fail "B cannot register"
	guest_must 2 "$STAND $DISK register:a1" >/dev/null
	case $1 in
	a) guest_must 2 "$STAND $DISK reserve:a1" >/dev/null ;;
	b) guest_must 3 "$STAND $DISK reserve:b1" >/dev/null ;;
	esac
	# Unit attentions first: else they are the answers.
	guest_do 3 "for i in 1 2 3 4; do sg_turs $DISK; done" >/dev/null 2>&1
}

# What the target's own commands are worth: B's COMMAND is to prove that A's held write is dead. EXPECTED
# is what docs and adapters/sgio are built on: "remains", "OVERWRITTEN", or "*", which nothing is.
as_such()
{
	local what=$1 expected=$2 command=$3 fencing data=remains

	guest_begin 3 "$command && echo answered"
	fencing=$JOB
	hold_for 5
	if guest_ended 3 "$fencing"; then
		guest_result 3 "$fencing" >"$WORK/out" || fail "$what: $(cat "$WORK/out")"
		row "$what" "answered while the write is held"
		guest_must 3 "$(write_of DATA-B "$DISK")" >/dev/null
		let_go
		within 30 has_landed || fail "$what: the held write is lost"
		within 5 block_is HOLD-A && data=OVERWRITTEN
	else
		let_go
		guest_result 3 "$fencing" >"$WORK/out" || fail "$what: $(cat "$WORK/out")"
		row "$what" "answered $(since "$LET_GO_AT") s after the write was let go"
		has_landed || fail "$what: answered before the write ended"
		guest_must 3 "$(write_of DATA-B "$DISK")" >/dev/null
		block_is DATA-B || fail "$what: B's data did not remain"
	fi
	row "   then the survivor's data" "$data"
	# shellcheck disable=SC2053 # A pattern.
	[[ $data == $expected ]] || fail "$what: $data, not $expected: docs and adapters say otherwise"
}

cp "$HERE"/{held_disk.py,guest-target,guest-initiator} "$HOST"
mkdir "$HOST/gate"
target_start
guest_start 2
guest_start 3
for n in 1 2 3; do
	guest_up "$n"
done
note "guests are up after $SECONDS s"
guest_must 1 "/host/guest-target $SERIAL"
files='for w in HOLD-A LATE-A DATA-A DATA-B; do printf $w >/tmp/$w; truncate -s 4096 /tmp/$w; done'
# Without udev, which would read the volume through an agent that is fenced, and wait.
guest_must 2 "$files; /host/guest-initiator && modprobe nbd && udevadm control --exit" >/dev/null
guest_must 3 "$files; /host/guest-initiator 2 && modprobe dm-round-robin" >/dev/null

# --- What has reservations, and what has not.
guest_must 3 "$STAND $DISK keys" >/dev/null
# A map of both paths as multipathd makes one, and one that is no multipath's.
guest_must 3 'p=$(lsblk -dno MAJ:MIN -I 8 | xargs printf "%s 1 "); s=$(blockdev --getsz /dev/sda)
	dmsetup create both -u mpath-both --table "0 $s multipath 0 0 1 1 round-robin 0 2 1 $p" &&
	dmsetup create part -u LVM-part --table "0 1024 linear /dev/mapper/both 0"' >/dev/null
guest_do 3 "$STAND /dev/mapper/part keys; [ \$? = 3 ]" || fail "a piece of a lun has reservations"
guest_do 3 "$STAND /dev/vda keys; [ \$? = 3 ]" || fail "a virtio disk has reservations"
passed "classes of devices"

# --- A holds the reservation; its agent writes; the write is held.
guest_must 2 "$STAND $DISK register:a1 reserve:a1" >/dev/null
guest_must 3 "$STAND /dev/mapper/both register:b1 keys" | tee "$WORK/keys" >/dev/null
grep -q '^keys [0-9]* a1 a1 b1 b1$' "$WORK/keys" || fail "a map's two paths: $(cat "$WORK/keys")"
passed "a multipath map registers each of its paths"

guest_begin 2 "exec /ferry/bin/ferryd --standalone --lun $DISK --nbd unix:/run/ferry.sock \
	--despite-registrations --path-timeout 3s --hold-timeout 10s"
AGENT=$JOB
guest_must 2 'for i in $(seq 100); do [ -S /run/ferry.sock ] && break; sleep 0.1; done
	nbd-client -unix /run/ferry.sock /dev/nbd0' >/dev/null
BLOCK=900
guest_must 2 "$(write_of DATA-A /dev/nbd0)" >/dev/null
block_is DATA-A || fail "A's ordinary write"
BLOCK=0
hold /dev/nbd0
survivor_keeps_its_data "A holds the reservation" /dev/mapper/both
guest_result 2 "$HELD" >/dev/null # Done, before B's: or given up by then.
passed "A held the reservation: the survivor's data remains"

# --- Fenced: refused at the lun, and the agent says why.
BLOCK=900
guest_do 2 "$(write_of DATA-A /dev/nbd0)" >/dev/null && fail "a fenced node wrote"
grep -q 'reservation conflict' "$HOST/vm2/out.$AGENT" || fail "A's agent does not say why"
grep 'reservation conflict' "$HOST/vm2/out.$AGENT" | head -1 | sed 's/^/    A: /'
BLOCK=902
guest_do 2 "$(write_of DATA-A "$DISK")" >/dev/null && fail "a fenced node wrote past its agent"
passed "a fenced node's write is refused, and its agent says why"

# --- A is registered again, but B is the holder. Straight to the disk: its agent does not register.
registered b
BLOCK=10
hold "$DISK"
survivor_keeps_its_data "A does not hold it" "$DISK"
guest_result 2 "$HELD" >/dev/null
passed "A did not hold the reservation: the survivor's data remains"

# --- Held up on its way to the target: fenced, written by the survivor, and only then let go.
registered b
BLOCK=19
touch "$HOST/gate/release"
ip link set tap2 down
guest_begin 2 "$(write_of LATE-A "$DISK")"
HELD=$JOB
guest_must 2 'until [ "$(awk "{ print \$2 }" /sys/block/sda/inflight)" = 1 ]; do sleep 0.1; done'
guest_must 3 "$STAND $DISK timeout=20 quiesce=1 preempt:b1:a1" | sed 's/^/    B: /'
guest_must 3 "$(write_of DATA-B "$DISK")" >/dev/null
block_is DATA-B || fail "B's write beside one that is on its way"
guest_ended 2 "$HELD" && fail "A's write was not held: $(guest_result 2 "$HELD")"
LET_GO_AT=$(now)
ip link set tap2 up
guest_result 2 "$HELD" >"$WORK/out" && fail "A's late write was done"
block_is DATA-B || fail "A's late write landed"
note "A's write ended $(since "$LET_GO_AT") s after it was let go: $(grep -o 'error writing.*' "$WORK/out")"
passed "A's write came after the survivor's: refused, the survivor's data remains"

# --- What one would rely on without a test.
keys="--param-rk=0xb1 --param-sark=0xa1 --prout-type=5"
BLOCK=20
registered b
hold "$DISK"
as_such "PREEMPT AND ABORT, A registered" OVERWRITTEN "sg_persist -n --out --preempt-abort $keys $DISK"
guest_result 2 "$HELD" >/dev/null
registered a
hold "$DISK"
as_such "PREEMPT AND ABORT, A holds it" remains "sg_persist -n --out --preempt-abort $keys $DISK"
guest_result 2 "$HELD" >/dev/null
registered b
guest_begin 3 "exec $LISTEN /dev/mapper/both"
LISTENER=$JOB
within 30 is_listening || fail "Ferry cannot listen: $(cat "$HOST/vm3/out.$LISTENER")"
HEARD=$(heard)
hold "$DISK"
as_such "PREEMPT, LUN RESET" remains "sg_persist -n --out --preempt $keys $DISK && sg_reset -d -N $DISK"
guest_result 2 "$HELD" >/dev/null
within 30 has_heard "$HEARD" || fail "the kernel says nothing of a LUN RESET, which Ferry listens for"
row "   what the kernel says of it" "a reset; Ferry hears it, beneath a map of paths too"
passed "the target's commands as such, and a reset is heard of"

# --- And where the target has just lost A's connection: its session is closing, its write alive.
registered b
hold "$DISK"
ip link set tap2 down
guest_must 1 'ss -K dst 10.99.0.2' >/dev/null
as_such "PREEMPT, LUN RESET, A's session closing" "*" \
	"sg_persist -n --out --preempt $keys $DISK && sg_reset -d -N $DISK"
ip link set tap2 up
guest_do 2 true
passed "the same of a session that is closing"

# --- The target loses power. All that was registered and reserved is there when it is back.
GUEST_SECONDS=240 registered b
guest_must 3 "$STAND $DISK keys" >"$WORK/before"
HEARD=$(heard)
guest_kill 1
target_start
guest_up 1
guest_must 1 /host/guest-target $SERIAL
guest_must 3 "$STAND $DISK timeout=120 keys" >"$WORK/after"
for when in before after; do
	grep '^keys ' "$WORK/$when" | cut -d' ' -f3- | tr ' ' '\n' | sort >"$WORK/$when.keys"
done
sed 's/^/    /' "$WORK/before" "$WORK/after"
diff "$WORK/before.keys" "$WORK/after.keys" || fail "registrations are not what they were"
grep -q '^keys [0-9]* b1 .*a1' "$WORK/after" || fail "the holder is another"
# By this Ferry knows the restart (decision 0009): a count that is not above the number of keys.
awk '$1 == "keys" { found = $2 <= NF - 3 } END { exit !found }' "$WORK/after" ||
	fail "the target's count of registrations does not show that it was restarted"
guest_must 3 "$STAND $DISK timeout=60 quiesce=1 preempt:b1:a1" >/dev/null
BLOCK=904
guest_do 2 "$(write_of DATA-A "$DISK")" >/dev/null && fail "a fenced node wrote"
guest_must 3 "$(write_of DATA-B "$DISK")" >/dev/null
block_is DATA-B || fail "B's write after the target's restart"
row "power cut of the target: registrations, reservation" "kept (APTPL, fed back at set-up)"
passed "reservations outlive the target's loss of power"

# --- Who has to look whether it was restarted? This target does not say 29h to its initiators, so the
# kernel has nothing to tell. Would it say so, then Ferry has to hear it.
if grep -q '^attention 29/' "$WORK/after"; then
	within 30 has_heard "$HEARD" || fail "the target says that it was reset, and Ferry does not hear it"
	fail "the target says that it was reset: the fault model says otherwise"
fi
within 2 has_heard "$HEARD" && fail "the kernel says that the target was reset: the fault model says otherwise"
row "   what the target and the kernel say of it" "nothing: its count of registrations shows it"
passed "a restart that no UNIT ATTENTION tells of shows in the count of registrations"

printf '%s\n' "LIO, kernel $(guest_do 1 uname -r):" "${TABLE[@]}"
