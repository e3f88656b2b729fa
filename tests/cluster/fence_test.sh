#!/bin/bash
# fence_test.sh - fence_ferry under a real pacemaker-fenced, and the commands for people: a node is
# fenced only if the lun says so, and what cannot be verified has failed.
. "$(dirname "$0")/lib.sh"

LAB_UP="--no-fence"
AGENT=$ROOT/fencing/fence_ferry
PLAIN= # A loop device: a lun without reservations.

finish() {
	local node
	for node in n1 n2 n3; do
		on $node sh -c 'kill -KILL $(cat /run/ferryd.pid)' 2>/dev/null
	done
	[ -z "$PLAIN" ] || losetup --detach "$PLAIN"
}
FINISH=finish

# fence_ferry NODE ARGUMENT...: as Pacemaker would call it there, but by options.
fence_ferry() {
	local node=$1
	shift
	on "$node" /usr/sbin/fence_ferry --binary="$FERRY" "$@" >"$WORK/fence.out" 2>&1
}

# code WANT COMMAND...
code() {
	local want=$1 got=0
	shift
	"$@" || got=$?
	[ $got = "$want" ] || fail "$*: $got, not $want: $(cat "$WORK/fence.out")"
}

# reboot NODE BY: what Pacemaker is asked for.
stonith_reboot() {
	on "$2" stonith_admin --reboot "$1" --timeout 60 >"$WORK/fence.out" 2>&1
}

crm_says() {
	on n2 crm_mon --output-as=xml 2>/dev/null >"$WORK/crm.xml"
	xmllint --xpath "boolean($1)" "$WORK/crm.xml" 2>/dev/null | grep -q true
}

device_runs() {
	crm_says '//resource[@resource_agent="stonith:fence_ferry"][@role="Started"]'
}

stonith_set() {
	on n2 crm configure property stonith-enabled="$1" >"$WORK/crm.out" 2>&1 ||
		fail "crm: $(cat "$WORK/crm.out")"
}

# ---- What Pacemaker asks of any fence agent. ----

the_agent() {
	on n2 stonith_admin --metadata --agent fence_ferry >"$WORK/metadata.xml" ||
		fail "no metadata"
	xmllint --xpath 'boolean(//action[@name="on"][@on_target="1"][@automatic="1"])' \
		"$WORK/metadata.xml" | grep -q true || fail "on is not for the target"
	[ "$(xmllint --xpath 'count(//action[@name="reboot"])' "$WORK/metadata.xml")" = 0 ] ||
		fail "it says that it reboots"
	on n2 stonith_admin --validate --agent fence_ferry --option binary="$FERRY" \
		>"$WORK/fence.out" 2>&1 || fail "not valid: $(cat "$WORK/fence.out")"
	code 1 fence_ferry n2 -o validate-all --binary=/nowhere
	code 0 fence_ferry n2 -o monitor --pools=data
	code 1 fence_ferry n3 -o monitor # The other pool cannot be fenced.
	grep -q 'plain.*no reservations' "$WORK/fence.out" || fail "$(cat "$WORK/fence.out")"
	code 1 fence_ferry n2 -o monitor --pools=data,nothing
	code 0 fence_ferry n2 -o list
	[ "$(xargs <"$WORK/fence.out")" = "n2 n1 n3" ] || fail "list: $(cat "$WORK/fence.out")"
	code 0 fence_ferry n2 -o status -n n1 --pools=data
	code 1 fence_ferry n2 -o off -n n2 --pools=data # Itself.
	code 1 fence_ferry n2 -o off -n n9 --pools=data
	grep -q 'no such node .*: n9' "$WORK/fence.out" || fail "$(cat "$WORK/fence.out")"
	code 1 fence_ferry n2 -o validate-all -n n9
	code 0 fence_ferry n2 -o validate-all -n n1
	code 1 fence_ferry n2 -o off
	code 1 fence_ferry n2 -o nonsense -n n1
	code 1 fence_ferry n2 -o off -n n1 --socket=/nowhere
	code 0 fence_ferry n1 -o on -n n1 --pools=data
	printf 'action=status\nnodename=n1\npools=data\nbinary=%s\n' "$FERRY" |
		on n2 /usr/sbin/fence_ferry >"$WORK/fence.out" || fail "by stdin: $(cat "$WORK/fence.out")"
	is n1 status '.pools[0].state == "serving"' || fail "a question has disturbed the owner"
}

# key_is NODE_ID STATE STALE: what n2 reads. A lun may list a key once for each session that it was
# registered in, those that are over too: an agent whose forerunner left its key is listed twice.
key_is() {
	is n2 keys "[.luns[] | select(.pool == \"data\") | .keys[] | select(.node == $1)] |
		length > 0 and all(.state == \"$2\" and .stale == $3)"
}

# ---- A standby is fenced, and wants the pool: its owner goes on. ----

code_of() {
	local got=0
	"$@" >"$WORK/fence.out" 2>&1 || got=$?
	echo $got
}

fenced_wants_the_pool() {
	local epoch
	load n1 calm
	[ "$(code_of ferry n1 fence n3 --pool data </dev/null)" = 5 ] || fail "nobody was asked"
	ferry n1 fence n3 --pool data --yes >"$WORK/fence.out" 2>&1 || fail "$(cat "$WORK/fence.out")"
	wait_for 5 "n3 knows" is n3 status '.pools[0].state == "fenced"'
	code 1 fence_ferry n3 -o monitor --pools=data
	grep -q 'fenced itself' "$WORK/fence.out" || fail "$(cat "$WORK/fence.out")"
	[ "$(code_of ferry n1 fence n3 --pool data --check)" = 0 ] || fail "$(cat "$WORK/fence.out")"
	[ "$(code_of ferry n3 fence n1 --pool data --check)" = 1 ] || fail "$(cat "$WORK/fence.out")"
	epoch=$(ask n1 status '.pools[0].epoch')
	[ "$(code_of ferry n3 acquire data --take)" = 5 ] || fail "$(cat "$WORK/fence.out")"
	grep -q 'fenced from the pool until' "$WORK/fence.out" || fail "$(cat "$WORK/fence.out")"
	[ "$(code_of ferry n1 move data n3 --force)" = 5 ] || fail "it moves there"
	io_goes n1
	load_was_clean calm
	is n1 status ".pools[0] | .state == \"serving\" and .epoch == $epoch" ||
		fail "the owner was disturbed: $(ask n1 status .pools[0])"
	agent_signal n3 KILL
	wait_for 10 "n3's agent has gone" agent_is_gone n3
	agent_start n3
	wait_for 15 "n3's agent is ready" agent_is_ready n3
	wait_for 20 "n3 is registered" key_is 3 member false
}

# ---- A node whose agent is well is fenced, and comes back. ----

no_key_of_n1() {
	is n2 keys '[.luns[] | select(.pool == "data") | .keys[] | select(.node == 1)] == []'
}

fence_a_member() {
	local before
	before=$(ask n1 status '.pools[0].epoch')
	load n1 first --depth 8 --go-on
	io_goes n1
	ferry n2 fence n1 --pool data --yes >"$WORK/fence.out" 2>&1 || fail "$(cat "$WORK/fence.out")"
	no_key_of_n1 || fail "its registration is there: $(ask n2 keys .)"
	wait_for 5 "n1 knows" is n1 status '.pools[0].state == "fenced"'
	[ "$(ask n2 status '.pools[0].epoch')" -gt "$before" ] || fail "no new epoch"
	own n2
	load n2 second
	io_goes n2
	load_end first && fail "the fenced node's application saw no error"
	load_was_clean second
	check_blocks n2 "$WORK/first.journal" "$WORK/second.journal"
	code 2 fence_ferry n2 -o status -n n1 --pools=data
}

# A fenced agent stays out until it is started anew; then the node may come back.
let_in_again() {
	never_for 2 "a fenced agent registers again" is n2 keys '[.luns[] | select(.pool == "data") |
		.keys[] | select(.node == 1)] != []'
	code 1 fence_ferry n1 -o on -n n1 --pools=data
	grep -q 'reboot this node' "$WORK/fence.out" || fail "$(cat "$WORK/fence.out")"
	ferry n1 acquire data >"$WORK/acquire.out" 2>&1 && fail "a fenced node acquires the pool"
	agent_signal n1 KILL
	wait_for 10 "n1's agent has gone" agent_is_gone n1
	agent_start n1
	n1_is_in
	code 0 fence_ferry n2 -o status -n n1 --pools=data
	at_rest n2
}

n1_is_in() {
	wait_for 15 "n1's agent is ready" agent_is_ready n1
	code 0 fence_ferry n1 -o on -n n1 --pools=data
	wait_for 20 "n1 is registered" key_is 1 member false
}

# ---- Pacemaker fences an owner that hangs; a fenced node's Pacemaker stops itself. ----

fence_the_owner() {
	ferry n2 move data n1 >"$WORK/move.out" 2>&1 || fail "$(cat "$WORK/move.out")"
	at_rest n1
	load n1 old --depth 8 --go-on
	io_goes n1
	agent_signal n1 STOP # Its writes are at the lun, on the way, and before the agent.
	wait_for 30 "Pacemaker knows who can fence n1" sh -c \
		"'$LAB' exec n2 stonith_admin --list n1 2>&1 | grep -q storage"
	stonith_reboot n1 n2 || fail "n1 is not fenced: $(cat "$WORK/fence.out")"
	wait_for 1 "its registration is gone" no_key_of_n1
	on n2 grep -h "Operation '.*' targeting n1 by .*: OK" /var/log/pacemaker/pacemaker.log \
		>"$WORK/history" || fail "pacemaker-fenced says nothing of it"
	note "Pacemaker: $(tail -1 "$WORK/history" | sed "s/.*Operation/Operation/")"
	own n2
	load n2 new
	io_goes n2
	agent_signal n1 CONT
	# It hides the pool for 20 s at most, and gives the data thread as long once more.
	wait_for 50 "n1's agent ends, as its corosync does" agent_is_gone n1
	io_goes n2
	load_was_clean new
	load_end old && fail "the fenced node's application saw no error"
	note "n1's application: $(figure old '.first_errors[0] | .[1] + " " + .[2]')"
	check_blocks n2 "$WORK/old.journal" "$WORK/new.journal"
	log_has n1 'registration is gone' || fail "the lun refused nothing of n1's"
}

# The node is rebooted; Pacemaker lets it in when its agent says that it may.
reboot() {
	"$LAB" kill n1
	"$LAB" boot n1 >"$WORK/boot.log" 2>&1
	wait_for 20 "n1's corosync runs" on n1 sh -c "corosync-quorumtool -s >/dev/null 2>&1"
	agent_start n1
	n1_is_in
	wait_for 60 "Pacemaker has n1 again" crm_says \
		'//nodes/node[@name="n1"][@online="true"][@unclean="false"]'
	at_rest n2
}

# ---- What cannot be verified. ----

survivors_without_paths() {
	local before node
	before=$(ask n2 status '.pools[0].epoch')
	load n2 quiet
	"$LAB" cut n1 storage
	"$LAB" cut n3 storage
	io_goes n2
	code 1 fence_ferry n3 -o off -n n2 --pools=data --timeout=30
	grep -q 'NOT verified' "$WORK/fence.out" || fail "$(cat "$WORK/fence.out")"
	note "$(head -1 "$WORK/fence.out")"
	stonith_reboot n2 n3 && fail "Pacemaker believes that n2 is fenced"
	for node in n1 n3; do
		on $node grep -h 'fence_ferry.*NOT verified' /var/log/pacemaker/pacemaker.log
	done >"$WORK/pacemaker.log"
	[ -s "$WORK/pacemaker.log" ] || fail "Pacemaker was not told why"
	note "Pacemaker: $(tail -1 "$WORK/pacemaker.log" | sed 's/.*fence_ferry/fence_ferry/')"
	[ "$(ask n2 status '.pools[0].epoch')" = "$before" ] || fail "n2 was deposed for nothing"
	io_goes n2
	load_was_clean quiet
	"$LAB" heal n1 storage
	"$LAB" heal n3 storage
	at_rest n2
}

# What can be fenced is, and the whole has failed all the same. Who has just got its path back has to
# register first, so it is asked again.
off_from_one() {
	code 1 fence_ferry n3 -o off -n n1 --timeout=30
	no_key_of_n1
}

a_lun_without_reservations() {
	wait_for 30 "n1 is fenced from the other pool" off_from_one
	grep -q 'pool plain: NOT verified: the lun has no reservations' "$WORK/fence.out" ||
		fail "$(cat "$WORK/fence.out")"
	note "$(grep plain "$WORK/fence.out")"
	wait_for 5 "n1 knows" is n1 status '.pools[0].state == "fenced"'
}

no_quorum() {
	stonith_set false # Else Pacemaker fences n3, as it should.
	"$LAB" cut n3 cluster
	wait_for 20 "n3 has no quorum" is n3 status '.quorate | not'
	code 1 fence_ferry n3 -o off -n n2 --pools=data --timeout=10
	code 1 fence_ferry n3 -o monitor --pools=data
	code 1 fence_ferry n3 -o status -n n2 --pools=data
	"$LAB" heal n3 cluster
	wait_for 30 "n3 is back" is n3 status '.quorate and (.members | length) == 3'
	wait_for 30 "the owner still serves" is n2 status '.pools[0].state == "serving"'
	wait_for 30 "Pacemaker has all nodes" sh -c "'$LAB' wait 3 n2"
	stonith_set true
}

# ---- For people. ----

force_says() {
	local words=$1
	shift
	ferry n3 own "$@" >"$WORK/force.out" 2>&1 </dev/null && fail "own $*: it is taken"
	grep -q "$words" "$WORK/force.out" || fail "own $*: $(cat "$WORK/force.out")"
}

# Each node's voice for a lun without reservations is tested by the simulator.
force() {
	force_says 'nobody to pass over' plain --force --yes
	agent_signal n1 KILL
	wait_for 10 "n1's agent has gone" is n3 status '.members == [2, 3]'
	force_says 'wants --force' plain
	force_says 'no terminal' plain --force
	force_says 'no such pool' nothing --force --yes
	is n2 status '.pools[0].state == "serving"' || fail "n2 serves no more: $(ask n2 status .pools)"
	force_says 'n2 serves it' data --force --yes # Nothing is taken from who answers.
	ferry n3 -t 3 own plain --force --yes >"$WORK/force.out" 2>&1 &&
		fail "a majority is needed all the same, and nobody else knows the pool"
	grep -q 'waits for the agents of n1, n2.*withdrawn' "$WORK/force.out" ||
		fail "what it waits for: $(cat "$WORK/force.out")"
	is n3 status '.pools[1].state == "standby"' || fail "the consent lives on"
	code 6 ferry n3 -t 2 own plain --force --yes # And may be given anew.
	is n3 status '.pools[1].state != "serving"' || fail "a pool of one node's is served"
	return 0
}

clean() {
	ferry "$1" keys --clean data "${@:2}" >"$WORK/fence.out" 2>&1
}

keys_for_people() {
	agent_start n1
	n1_is_in
	key_is 1 member false || fail "$(ask n2 keys .)"
	ferry n2 keys --clean data --yes >"$WORK/clean.out" 2>&1 || fail "$(cat "$WORK/clean.out")"
	key_is 1 member false || fail "a member's registration is cleaned"
	stonith_set false # Else Pacemaker fences n1, as it should.
	"$LAB" cut n1 cluster
	wait_for 20 "n1 is no member any more" is n2 status '.members == [2, 3]'
	wait_for 10 "its registration is nobody's" key_is 1 absent true
	ferry n2 keys data | sed 's/^/  /'
	wait_for 20 "n1 has no quorum" is n1 status '.quorate | not'
	code 5 clean n1 --yes # It has no quorum: it is blind.
	grep -q 'no quorum, for the agents of n2, n3' "$WORK/fence.out" || fail "$(cat "$WORK/fence.out")"
	is n2 keys '[.luns[0].keys[] | select(.node == 2 or .node == 3)] | length >= 2' ||
		fail "a node without quorum removed the others' registrations"
	ferry n2 keys --clean data </dev/null >"$WORK/clean.out" 2>&1 && fail "nobody was asked"
	grep -q 'node 1 (n1), incarnation .*no agent of that node' "$WORK/clean.out" ||
		fail "it is not said what will be lost: $(cat "$WORK/clean.out")"
	ferry n2 keys --clean data --yes >"$WORK/clean.out" 2>&1 || fail "$(cat "$WORK/clean.out")"
	is n2 keys '[.luns[0].keys[] | select(.node == 1)] == []' || fail "$(ask n2 keys .luns[0])"
	is n2 status '.pools[0].state == "serving"' || fail "the owner was disturbed"
	"$LAB" heal n1 cluster
	wait_for 30 "n1 is back" is n2 status '.members == [1, 2, 3]'
	wait_for 30 "it registers again" key_is 1 member false
	wait_for 30 "Pacemaker has all nodes" sh -c "'$LAB' wait 3 n2"
	stonith_set true
	at_rest n2
}

# Killed while it is registered: its successor finds the key, has it laid, and is in.
restarted_while_registered() {
	key_is 1 member false || fail "n1 is not registered: $(ask n2 keys .)"
	agent_signal n1 KILL
	wait_for 10 "n1's agent has gone" is n2 status '.members == [2, 3]'
	wait_for 5 "its registration is left" key_is 1 absent true
	agent_start n1
	n1_is_in
	ferry n2 keys data | sed 's/^/  /'
	at_rest n2
}

# ---- Somebody else on the lun. ----

foreign_says() {
	tail -n +"$1" "$WORK/foreign.out" 2>/dev/null | grep -qx "$2"
}

# Its first commands hear of it (2: a unit attention); then 24, RESERVATION CONFLICT.
foreign_is_refused() {
	echo >&9
	tail -1 "$WORK/foreign.out" | grep -qx 24
}

# foreign_keys HOLDER [unreserved] - whether it holds a reservation as well, as jq says it.
foreign_keys() {
	local node holder=$1
	shift
	for node in n1 n2 n3; do
		agent_signal $node TERM
		wait_for 60 "the agent of $node has gone" agent_is_gone $node
	done
	"$LAB" target restart # It forgets what was registered.
	rm -f "$WORK/foreign.in" "$WORK/foreign.out"
	mkfifo "$WORK/foreign.in"
	on st "$BUILD/tests/foreign_key" 10.98.0.254 iqn.2026-11.ferry.lab:disk 1 0xabc "$@" \
		<"$WORK/foreign.in" >"$WORK/foreign.out" 2>&1 &
	JOBS+=($!)
	exec 9>"$WORK/foreign.in"
	wait_for 10 "somebody else is on the lun" foreign_says 1 registered
	agents_up
	ferry n2 acquire data -t 3 >"$WORK/acquire.out" 2>&1 && fail "a foreign lun is taken"
	wait_for 5 "it is shown" is n2 keys '[.luns[0].keys[] | select(.state == "foreign" and
		.key == "0x0000000000000abc" and .holder == '"$holder"' and
		(.stale | not))] | length == 1'
	is n2 keys '.luns[0].keys | length == 1' || fail "somebody has registered beside it"
	ferry n2 keys --clean data --yes >"$WORK/clean.out" 2>&1
	is n2 keys '.luns[0].keys | length == 1' || fail "a foreign key is cleaned unasked"
	ferry n2 keys --clean --foreign data </dev/null >"$WORK/clean.out" 2>&1 &&
		fail "nobody was asked"
	grep -q 'NOT Ferry.s' "$WORK/clean.out" || fail "$(cat "$WORK/clean.out")"
	echo >&9
	wait_for 5 "it still writes" foreign_says 2 0
	ferry n2 keys --clean --foreign data --yes >"$WORK/clean.out" 2>&1 ||
		fail "$(cat "$WORK/clean.out")"
	is n2 keys '[.luns[0].keys[] | select(.state == "foreign")] == []' || fail "it is still there"
	wait_for 20 "all agents register" is n2 keys '[.luns[0].keys[] | .node] | unique == [1, 2, 3]'
	own n1
	wait_for 5 "the lun refuses it" foreign_is_refused
	exec 9>&-
	at_rest n1
}

inject() {
	install -D -m 755 "$AGENT" "$FERRY_LAB_DIR/inject/usr/sbin/fence_ferry"
}

# A device has one opener on this machine, so that only n3's agent knows this pool.
plain_make() {
	truncate -s 64M "$WORK/plain"
	PLAIN=$(losetup --find --show "$WORK/plain") || fail "no loop device"
	config_set n3 "$(config_make; printf '%s\n' '[lun plain]' "device = $PLAIN" \
		'[pool plain]' 'luns = plain' '[volume plain]' 'lun = plain')"
}

export PATH_TIMEOUT=1s HOLD_TIMEOUT=20s
BEFORE_UP=inject
begin
plain_make
agents_up
own n1
at_rest n1
on n2 crm configure primitive storage stonith:fence_ferry params binary="$FERRY" pools=data \
	meta provides=unfencing op monitor interval=10s timeout=20s >"$WORK/crm.out" 2>&1 ||
	fail "crm: $(cat "$WORK/crm.out")"
stonith_set true
wait_for 30 "Pacemaker has started the device" device_runs
scenario "what Pacemaker asks of an agent" the_agent
scenario "a fenced standby wants the pool" fenced_wants_the_pool
scenario "a node whose agent is well is fenced" fence_a_member
scenario "it is let in again when its agent is started anew" let_in_again
scenario "survivors without paths" survivors_without_paths
scenario "a lun without reservations" a_lun_without_reservations
scenario "no quorum" no_quorum
scenario "a pool taken by force" force
scenario "registrations for people" keys_for_people
scenario "a registered agent is killed and started anew" restarted_while_registered
scenario "the owner hangs, and Pacemaker fences it" fence_the_owner
scenario "its node is rebooted, and let in" reboot
scenario "somebody else on the lun" foreign_keys true
scenario "somebody else, who has not reserved it" foreign_keys false unreserved
