#!/bin/bash
# refuse_test.sh - what is wrong is refused with a clear word, loses nothing and disturbs nobody:
# keys, strangers, garbage, a second agent, other luns, damaged state. A load runs all the while.
. "$(dirname "$0")/lib.sh"

# says NODE CODE WORDS: ferryd in NODE ends with CODE and says WORDS.
says() {
	local status=0
	on "$1" timeout 20 "$FERRYD" --config /etc/ferry/ferryd.conf >"$WORK/refused.out" 2>&1 ||
		status=$?
	grep -q -e "$3" "$WORK/refused.out" ||
		fail "it does not say '$3' but: $(cat "$WORK/refused.out")"
	[ $status -eq "$2" ] || fail "exit code $status, not $2: $(cat "$WORK/refused.out")"
	note "$(tail -1 "$WORK/refused.out")"
}

agent_stop() {
	agent_signal "$1" TERM
	wait_for 30 "the agent of $1 stops" agent_is_gone "$1"
}

# The others go on: the owner serves, its load flows, the other peer carries.
others_are_well() {
	is n1 status '.pools[0].state == "serving" and .pools[0].failures == 0' ||
		fail "n1 was disturbed: $(ask n1 status .pools[0])"
	is n2 status '.pools[0].state == "standby"' ||
		fail "n2 was disturbed: $(ask n2 status .pools[0])"
	log_has n1 'peer .*down.*reply does not fit' && fail "n1 lost a peer's link"
	return 0
}

# check_says WORDS: so does ferryd --check in n3.
check_says() {
	on n3 timeout 20 "$FERRYD" --config /etc/ferry/ferryd.conf --check >"$WORK/check.out" 2>&1
	[ $? -eq 2 ] && grep -q -e "$1" "$WORK/check.out" ||
		fail "--check does not say '$1' but: $(cat "$WORK/check.out")"
}

n3_is_back() {
	agent_start n3
	wait_for 20 "n3 is back" agent_is_ready n3
	at_rest n1
	others_are_well
}

key_that_others_can_read() {
	agent_stop n3
	on n3 chmod 644 /etc/ferry/authkey
	says n3 1 'others\|0600\|600'
	check_says '/etc/ferry/authkey'
	on n3 chmod 600 /etc/ferry/authkey
	n3_is_back
}

no_key() {
	agent_stop n3
	on n3 mv /etc/ferry/authkey /etc/ferry/authkey.away
	says n3 1 '/etc/ferry/authkey'
	check_says '/etc/ferry/authkey'
	on n3 mv /etc/ferry/authkey.away /etc/ferry/authkey
	n3_is_back
}

# ...and ferry peers says why; of n2, whose link stands, what is known.
n3_has_no_link() {
	is n1 peers '[.peers[] | select(.node == 3 and .link != "up") | .reason |
		select(test("no link: .*key"))] | length == 1' &&
		is n1 peers '[.peers[] | select(.node == 2 and .health == "healthy" and
			.rtt_ns > 0)] | length == 1'
}

another_key() {
	agent_stop n3
	on n3 sh -c 'cp -p /etc/ferry/authkey /etc/ferry/authkey.away
		head -c 128 /dev/urandom >/etc/ferry/authkey'
	agent_start n3
	wait_for 20 "n1 turns n3 away, with a word" log_has n1 \
		'refuse.*key\|key.*refuse\|does not hold the'
	never_for 2 "a link with another key" is n1 peers \
		'[.peers[] | select(.node == 3 and .link == "up")] | length == 1'
	wait_for 10 "n3 has no link" n3_has_no_link
	note "n1: $(on n1 grep -m1 'refuse.*key\|does not hold the' /var/log/ferryd.log |
		cut -c1-190)"
	others_are_well
	agent_stop n3
	on n3 mv /etc/ferry/authkey.away /etc/ferry/authkey
	n3_is_back
}

# ---- At the peers' port. ----

# throw NODE: garbage in many forms at NODE's port, from a machine outside of the cluster.
throw() {
	on client /usr/bin/python3 - "$1" <<-'END'
		import os, random, socket, sys
		random.seed(1)
		held = []
		for round in range(120):
		    sock = socket.socket()
		    sock.settimeout(2)
		    try:
		        sock.connect((sys.argv[1], 7077))
		        kind = round % 6
		        if kind == 0:
		            sock.sendall(os.urandom(random.randrange(1, 200000)))
		        elif kind == 1:
		            sock.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
		        elif kind == 2:
		            pass  # Says nothing and goes.
		        elif kind == 3:
		            sock.sendall(bytes(100000))
		        elif kind == 4:
		            sock.sendall(b"\xff" * 65536)
		        else:
		            held.append(sock)  # Says nothing and stays.
		            continue
		        if round % 2:
		            sock.recv(1000)
		    except OSError:
		        pass
		    sock.close()
		print(len(held), "held open")
	END
}

garbage() {
	local before
	before=$(ask n1 status '.incarnation, .pools[0].ios' | xargs)
	throw n1 >"$WORK/throw.out" || fail "$(cat "$WORK/throw.out")"
	throw n2 >>"$WORK/throw.out" || fail "$(cat "$WORK/throw.out")"
	is n1 status ".incarnation == ${before% *} and .pools[0].ios > ${before#* }" ||
		fail "n1 does not go on"
	at_rest n1 # The true peers' links stand, or stand again.
	others_are_well
	[ "$(log_count n1 .)" -lt 600 ] || fail "garbage floods the log: $(log_count n1 .) lines"
	note "n1 wrote $(log_count n1 refused) lines of refusals"
}

# ---- One node. ----

second_agent() {
	says n3 1 'another\|already\|in use\|running'
	is n3 status '.pools[0].state == "standby"' || fail "the first agent was disturbed"
	ferry n3 status >/dev/null || fail "the first agent's socket is gone"
	at_rest n1
	others_are_well
}

damaged_state() {
	local file
	agent_stop n3
	for file in incarnation pool.data.epoch; do
		on n3 sh -c "f=\$(find /var/lib/ferry -name '$file*' -type f | head -1)
			cp -p \$f /root/saved &&
				printf XXXX | dd of=\$f bs=1 seek=9 conv=notrunc status=none
			echo \$f >/root/saved.name"
		if [ $file = incarnation ]; then
			says n3 1 'damaged'
		else
			agent_start n3
			wait_for 15 "it says that its epoch is damaged" log_has n3 'epoch.*damaged'
			never_for 2 "a node with a damaged epoch votes" agent_is_ready n3
			note "$(ask n3 status '.pools[0].state + ": " + .pools[0].reason')"
			agent_stop n3
		fi
		others_are_well
		on n3 sh -c 'mv /root/saved "$(cat /root/saved.name)"'
	done
	n3_is_back
}

# ---- The lun is not what the configuration, or the others, say. ----

wrong_expectation() {
	agent_stop n3
	LUN_MORE=$1 config_set_n3 1
	agent_start n3
	wait_for 15 "n3 says what is wrong" log_has n3 "$2"
	never_for 2 "it uses another lun" agent_is_ready n3
	is n3 paths '[.paths[] | select(.kind == "local" and (.up | not) and
		(.reason | length) > 0)] | length == 1' || fail "n3's path: $(ask n3 paths .)"
	is n1 paths '[.paths[] | select(.kind == "peer" and .node == 3 and .reason == "")] |
		length == 0' || fail "n1 would use n3: $(ask n1 paths .)"
	note "n3: $(ask n3 luns '.luns[0].reason' | cut -c1-150)"
	others_are_well
	agent_stop n3
	config_set_n3 1
	n3_is_back
}

config_set_n3() {
	config_set n3 "$(config_make "$1")"
}

by_n3() {
	ask n1 paths '[.paths[] | select(.kind == "peer" and .node == 3)][0].ios'
}

another_lun() {
	local carried
	agent_stop n3
	config_set_n3 2
	agent_start n3
	wait_for 15 "n1 says that n3 sees another lun" log_has n1 'sees another lun'
	never_for 2 "n1 would use it" is n1 paths \
		'[.paths[] | select(.kind == "peer" and .node == 3 and .reason == "")] | length > 0'
	carried=$(by_n3)
	"$LAB" cut n1 storage # Now only n2 may carry.
	wait_for 20 "n2 carries" is n1 paths \
		'[.paths[] | select(.kind == "peer" and .node == 2)][0].ios > 100'
	io_goes n1
	[ "$(by_n3)" = "$carried" ] || fail "n3 carried I/O to another lun"
	"$LAB" heal n1 storage
	wait_for 20 "n1's path is back" is n1 paths \
		'[.paths[] | select(.kind == "local" and .up and
			(.health == "healthy" or .health == "probation"))] | length == 1'
	ferry n3 acquire data --take >"$WORK/acquire.out" 2>&1 &&
		fail "n3 acquires the pool with another lun"
	note "n3: $(tail -1 "$WORK/acquire.out")"
	is n3 status '.pools[0].reason | test("another lun")' ||
		fail "n3's status does not say why: $(ask n3 status .pools[0])"
	is n3 paths '[.paths[] | select(.kind == "local" and
		(.reason | test("not registered")))] | length == 1' ||
		fail "n3 registered at a lun that is not the pool's"
	others_are_well
	on n3 sh -c ': >/var/log/ferryd.log'
	agent_stop n3
	config_set_n3 1
	n3_is_back
}

same_lun_twice() {
	local twice
	agent_stop n3
	twice=$(config_make 1; printf '%s\n' '[lun again]' \
		'iscsi = iscsi://10.98.0.254/iqn.2026-11.ferry.lab:disk/1' \
		'[pool again]' 'luns = again' '[volume again]' 'lun = again')
	config_set n3 "$twice"
	says n3 2 'again\|same lun\|twice'
	config_set_n3 1
	n3_is_back
}

bad_config() {
	agent_stop n3
	config_set n3 "$(config_make 1 | sed 's/path_timeout = .*/path_timeout = soon/')"
	says n3 2 'line\|ferryd.conf:[0-9]'
	config_set_n3 1
	n3_is_back
}

# n3_by WHY: n1 and n3 reach each other by TCP, and each says why it is not RDMA; n3: WHY.
n3_by() {
	is n3 peers "all(.peers[]; .link == \"up\" and .transport == \"tcp\" and .not_rdma == \"$1\")" &&
		is n1 peers 'all(.peers[]; .transport == "tcp" and .not_rdma == "no RDMA device")'
}

# Where there is no device all goes by TCP, with one line about it, unless it is to be RDMA.
no_rdma() {
	compgen -G '/sys/class/infiniband/*' >/dev/null && { note "this machine has one"; return; }
	n3_by "no RDMA device" || fail "n3: $(ask n3 peers .)"
	[ "$(log_count n1 RDMA)" = 1 ] && log_has n1 'reached by TCP: no RDMA device' ||
		fail "n1 says of RDMA: $(on n1 grep RDMA /var/log/ferryd.log)"
	agent_stop n3
	config_set n3 "$(config_make 1 | sed 's/^path_timeout/transport = rdma\n&/')"
	says n3 1 'transport = rdma: no RDMA device'
	config_set n3 "$(config_make 1 | sed 's/^path_timeout/transport = tcp\n&/')"
	n3_is_back
	wait_for 15 "n3 goes by TCP, as configured" n3_by "as configured"
	agent_stop n3
	config_set_n3 1
	n3_is_back
}

export PATH_TIMEOUT=1s HOLD_TIMEOUT=20s
begin --luns 2
agents_up
own n1
at_rest n1
load n1 whole --depth 4
scenario "no RDMA device" no_rdma
scenario "a key that others can read" key_that_others_can_read
scenario "no key" no_key
scenario "another key" another_key
scenario "garbage at the peers' port" garbage
scenario "a second agent" second_agent
scenario "a bad configuration" bad_config
scenario "the same lun under two names" same_lun_twice
scenario "another wwid than expected" wrong_expectation \
	"wwid = naa.600000000000000000000000deadbeef" 'wwid\|expected'
scenario "another block size than expected" wrong_expectation \
	"block_size = 4096" 'block size\|block_size\|expected'
scenario "another lun under the same name" another_lun
scenario "damaged state" damaged_state
load_was_clean whole
note "the load: $(figure whole .acknowledged) writes and flushes," \
	"longest gap $(figure whole .gap_ms_max) ms"
check_blocks n1 "$WORK/whole.journal"
