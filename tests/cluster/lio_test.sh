#!/bin/bash
# lio_test.sh - a cluster on the kernel's own target: a path that is reset or becomes a black hole, and
# an owner that is killed, all while one of its writes is held up inside the target.
. "$(dirname "$0")/lib.sh"

ghosts_are_laid() {
	is n1 status '.pools[0].ghosts_alive == 0'
}

ghosts_are_alive() {
	is n1 status '.pools[0].ghosts_alive > 0'
}

the_lun_is_known() {
	is n1 luns '.luns[0] | .lun_class == "reservations" and .laying == "preempt, reinstate"'
}

# held_cut [--reset]: what n1 wrote last stays in the target for two seconds after the cut.
held_cut() {
	local began let_go
	at_rest n1
	load n1 cut
	io_goes n1
	"$LAB" target hold
	"$LAB" cut n1 storage "$@"
	began=$(now_ns)
	"$LAB" target pass
	wait_for 15 "a ghost is alive" ghosts_are_alive
	never_for 2 "a ghost was laid while its write was held" ghosts_are_laid
	"$LAB" target release
	let_go=$(now_ns)
	wait_for 30 "all ghosts are laid" ghosts_are_laid
	note "laid $((($(now_ns) - let_go) / 1000000)) ms after the write was let go"
	io_goes n1
	"$LAB" heal n1 storage
	at_rest n1
	load_was_clean cut
	note "stall, slowest request: $(stall cut "$began") ms, of which the write was held" \
		"$(((let_go - began) / 1000000)) ms"
	check_blocks n1 "$WORK/cut.journal"
}

# plain_cut [--reset]: with nothing held up, how long is it?
plain_cut() {
	local began
	at_rest n1
	load n1 plain
	io_goes n1
	began=$(now_ns)
	"$LAB" cut n1 storage "$@"
	io_goes n1
	wait_for 30 "all ghosts are laid" ghosts_are_laid
	"$LAB" heal n1 storage
	at_rest n1
	load_was_clean plain
	note "stall, slowest request: $(stall plain "$began") ms"
	check_blocks n1 "$WORK/plain.journal"
}

n2_owns() {
	is n2 status '.pools[0].state == "serving"'
}

killed_and_taken_over() {
	local let_go
	at_rest n1
	load n1 killed
	io_goes n1
	"$LAB" target hold
	agent_signal n1 KILL
	"$LAB" target pass
	load_end killed || true # Its server is gone.
	ferry n2 acquire data >"$WORK/acquire.out" 2>&1 &
	JOBS+=($!)
	never_for 3 "n2 serves while a write of n1 is held" n2_owns
	"$LAB" target release
	let_go=$(now_ns)
	wait_for 30 "n2 serves" n2_owns
	note "n2 serves $((($(now_ns) - let_go) / 1000000)) ms after the write was let go"
	check_blocks n2 "$WORK/killed.journal"
	agent_start n1
	wait_for 30 "the agent of n1 is ready" agent_is_ready n1
}

begin --target lio
agents_up
own n1
scenario "the lun is what it is" wait_for 5 "LIO's class" the_lun_is_known
scenario "a reset path, a write held in the target" held_cut --reset
scenario "a black hole, a write held in the target" held_cut
scenario "a reset path" plain_cut --reset
scenario "a black hole" plain_cut
scenario "a killed owner, its write held in the target" killed_and_taken_over
