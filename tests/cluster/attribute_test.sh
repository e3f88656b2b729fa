#!/bin/bash
# attribute_test.sh - what Pacemaker knows of a node whose agent is gone: its attribute goes with the
# agent, by what the service's unit has done then, and a resource goes where an agent lives.
. "$(dirname "$0")/lib.sh"

LAB_UP=--no-fence
UNIT=$ROOT/deploy/systemd/ferryd.service.in

attribute_is() {
	local value
	value=$(on n2 crm_attribute --query --node "$1" --name ferry-path-data --lifetime reboot \
		--quiet --default none 2>/dev/null)
	[ "$value" = "$2" ]
}

dummy_is_on() {
	on n2 crm_mon --output-as=xml 2>/dev/null >"$WORK/crm.xml"
	[ "$(xmllint --xpath 'string(//resource[@id="app"]/node/@name)' "$WORK/crm.xml")" = "$1" ]
}

# stop_post NODE: what systemd does when the service has ended, however it did.
stop_post() {
	local line
	line=$(sed -n 's/^ExecStopPost=-@CMAKE_INSTALL_FULL_SBINDIR@\/ferryd //p' "$UNIT")
	[ -n "$line" ] || fail "the unit does nothing when the service has ended"
	# shellcheck disable=SC2086 # Words.
	on "$1" "$FERRYD" $line >"$WORK/withdraw.out" 2>&1
}

published() {
	local node
	for node in n1 n2 n3; do
		wait_for 20 "$node is fit" attribute_is $node 1
	done
	on n2 crm configure primitive app ocf:pacemaker:Dummy op monitor interval=10s \
		>"$WORK/crm.out" 2>&1 || fail "crm: $(cat "$WORK/crm.out")"
	on n2 crm configure location app-likes app 50: n1 >"$WORK/crm.out" 2>&1 &&
		on n2 crm configure location app-path app rule -10000: \
			not_defined ferry-path-data or ferry-path-data lt 1 \
			>"$WORK/crm.out" 2>&1 || fail "crm: $(cat "$WORK/crm.out")"
	wait_for 20 "it runs where it likes to" dummy_is_on n1
}

killed() {
	stop_post n1 && fail "it is withdrawn, and the agent lives and would not set it again"
	grep -q 'an agent is running here' "$WORK/withdraw.out" || fail "$(cat "$WORK/withdraw.out")"
	attribute_is n1 1 || fail "refused, and done all the same"
	agent_signal n1 KILL
	wait_for 10 "n1's agent has gone" agent_is_gone n1
	attribute_is n1 1 || fail "it has gone by itself: then nobody needs the unit's line"
	stop_post n1 || fail "$(cat "$WORK/withdraw.out")"
	wait_for 5 "n1 is not fit" attribute_is n1 none
	attribute_is n2 1 && attribute_is n3 1 || fail "others' have gone as well"
	wait_for 20 "it runs where an agent lives" is_elsewhere
}

is_elsewhere() {
	dummy_is_on n2 || dummy_is_on n3
}

back() {
	agent_start n1
	wait_for 20 "n1 is fit again" attribute_is n1 1
	wait_for 20 "it is back where it likes to be" dummy_is_on n1
}

# A Pacemaker that is not there is no reason to hang, nor to keep the service from ending.
no_pacemaker() {
	local began=$SECONDS
	on n3 pkill -KILL -f '[p]acemakerd'
	on n3 pkill -KILL -x pacemaker-attrd
	stop_post n3 && fail "it says that it has told somebody"
	[ $((SECONDS - began)) -lt 20 ] || fail "it waits for nobody"
}

begin
for node in n1 n2 n3; do
	config_set $node "$(config_make | sed 's/^publish = no/publish = yes/')"
done
agents_up
scenario "each agent says that its node is fit" published
scenario "an agent is killed" killed
scenario "it is started anew" back
scenario "no Pacemaker" no_pacemaker
