/* Scenarios: writes of unknown outcome, and what comes after them. */
#include "tests/sim/scenario.h"

/* A write held in the target's queue: the same blocks are written again; then it is let go. */
static void held_write(bool preempt_waits, bool preempt_lies)
{
	cluster.lun.options.preempt_waits = preempt_waits;
	cluster.lun.options.preempt_lies = preempt_lies;
	hold_a_write();
	sim_lun_reset_session(&cluster.lun, 1);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
}

static void test_late_landing_is_aborted(void **state)
{
	(void)state;
	begin(103, 3, 0);
	held_write(/* preempt_waits= */ false, /* preempt_lies= */ false);
	assert_int_equal(sim_workload_running(&cluster.workload), 0);
	assert_int_equal(stats(1)->ghosts_laid_abort, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 8), 0);
	sim_lun_let_go(&cluster.lun);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	assert_int_equal(cluster.lun.stats.aborted, 1);
	assert_int_equal(do_io(1, FERRY_OP_READ, 8), 0);
	end();
}

static void test_late_landing_is_waited_for(void **state)
{
	(void)state;
	begin(104, 3, 0);
	cluster.options.hold_timeout_ns = 60 * FERRY_NS_PER_S;
	held_write(/* preempt_waits= */ true, /* preempt_lies= */ false);
	/* The same write went by a peer meanwhile: the same bytes. */
	assert_int_equal(sim_workload_running(&cluster.workload), 0);
	assert_int_equal(
		sim_client_submit(&sim_cluster_node(&cluster, 1)->client, FERRY_OP_WRITE, 8, 4), 0);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	/* PREEMPT alone would have been answered; the reset waits, and so do other bytes. */
	assert_int_equal(sim_workload_running(&cluster.workload), 1);
	assert_int_equal(stats(1)->ghosts_laid_abort, 0);
	assert_int_equal(
		sim_client_submit(&sim_cluster_node(&cluster, 1)->client, FERRY_OP_WRITE, 40, 4),
		0);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	assert_int_equal(sim_workload_running(&cluster.workload), 1); /* Elsewhere all flows. */
	sim_lun_let_go(&cluster.lun);
	sim_cluster_run(&cluster, 4 * FERRY_NS_PER_S);
	assert_int_equal(sim_workload_running(&cluster.workload), 0);
	assert_int_equal(stats(1)->ghosts_laid_abort, 1);
	end();
}

/*
 * An owner dies with a write at the target. The next one has its key removed and waits for the
 * reset; the dead node's agent starts anew, finds no older key and drains; a third one claims. All
 * have drained and no key is to be preempted, yet the write may land.
 */
static void test_elders_write_is_waited_for(void **state)
{
	uint32_t three = 3;

	(void)state;
	begin(121, 3, 0);
	cluster.lun.options.preempt_waits = true;
	hold_a_write();
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	sim_cluster_acquire(&cluster, 2);
	sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
	assert_int_equal(cluster.lun.stats.preempts, 1); /* And its reset waits. */
	assert_null(sim_cluster_owner(&cluster));
	sim_cluster_start(&cluster, 1);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 3);
	assert_false(sim_cluster_run_until(&cluster, owner_is, &three, 5 * FERRY_NS_PER_S));
	sim_lun_let_go(&cluster.lun);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &three, 10 * FERRY_NS_PER_S));
	assert_int_equal(cluster.lun.stats.landed_late, 1);
	assert_int_equal(do_io(3, FERRY_OP_WRITE, 8), 0);
	end();
}

/*
 * A write is acknowledged beside its ghost, and the owner dies: whoever owns the pool next has the
 * ghost laid before it writes. The same when the owner's own new agent is the next.
 */
static void acknowledged_beside_a_ghost(uint64_t seed, uint32_t next, bool is_power_cut)
{
	begin(seed, 3, 0);
	cluster.lun.options.preempt_waits = true;
	cluster.options.hold_timeout_ns = 60 * FERRY_NS_PER_S;
	held_write(/* preempt_waits= */ true, /* preempt_lies= */ false);
	assert_int_equal(sim_workload_running(&cluster.workload), 0);
	assert_int_equal(sim_cluster_node(&cluster, 1)->engine.router.ghosts_count, 1);
	sim_cluster_crash(&cluster, 1, is_power_cut);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	sim_cluster_start(&cluster, 1);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, next);
	assert_false(sim_cluster_run_until(&cluster, owner_is, &next, 5 * FERRY_NS_PER_S));
	sim_lun_let_go(&cluster.lun);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &next, 20 * FERRY_NS_PER_S));
	assert_int_equal(cluster.lun.stats.landed_late, 1);
	assert_int_equal(do_io(next, FERRY_OP_READ, 8), 0);
	assert_int_equal(do_io(next, FERRY_OP_WRITE, 8), 0);
	assert_int_equal(do_io(next, FERRY_OP_READ, 8), 0);
	end();
}

static void test_ghost_of_an_acknowledged_write_is_inherited(void **state)
{
	(void)state;
	acknowledged_beside_a_ghost(122, 2, /* is_power_cut= */ true);
	acknowledged_beside_a_ghost(123, 3, /* is_power_cut= */ false);
	acknowledged_beside_a_ghost(124, 1, /* is_power_cut= */ false);
}

/* A peer's ghost of an acknowledged write outlives the owner that knew of it. */
static void test_peers_ghost_is_inherited(void **state)
{
	uint32_t three = 3;

	(void)state;
	begin_impatient(125, 200 * FERRY_NS_PER_MS);
	cluster.lun.options.preempt_waits = true;
	sim_lun_cut(&cluster.lun, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0); /* By a peer, from here on. */
	sim_lun_hold(&cluster.lun, 2, 1);
	for (uint64_t lba = 0; lba < 32; lba += 4) /* Some by node 2. */
		assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
	assert_int_equal(sim_cluster_node(&cluster, 1)->engine.router.ghosts_count, 1);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_cluster_acquire(&cluster, 3);
	assert_false(sim_cluster_run_until(&cluster, owner_is, &three, 8 * FERRY_NS_PER_S));
	sim_lun_let_go(&cluster.lun);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &three, 20 * FERRY_NS_PER_S));
	for (uint64_t lba = 0; lba < 32; lba += 4)
		assert_int_equal(do_io(3, FERRY_OP_WRITE, lba), 0);
	end();
}

/* ---- What acknowledging beside a ghost gains: docs/decisions/0006. ---- */

struct gain {
	uint64_t writes;
	uint64_t latency_ns_max;
	uint64_t eight_ns; /* The first eight, from the cut on. */
};

/*
 * Node 1's path is cut, and what it left at the target keeps every abort waiting for @lay_ns more.
 * One writer that waits for each write: each time elsewhere, or each block four times, as a log
 * does.
 */
static struct gain gain_measure(bool waits, bool is_log, uint64_t lay_ns)
{
	struct gain gain = {};
	uint64_t end_ns;
	bool is_held = true;

	sim_cluster_init(&cluster, 126, 3);
	cluster.options.waits_for_ghosts = waits;
	cluster.options.hold_timeout_ns = 120 * FERRY_NS_PER_S;
	cluster.options.path_timeout_ns = 1 * FERRY_NS_PER_S;
	cluster.lun.options.preempt_waits = true;
	start(/* depth= */ 0);
	sim_lun_hold(&cluster.lun, 1, 1);
	end_ns = cluster.sim.now_ns + cluster.options.path_timeout_ns + lay_ns;
	for (uint64_t i = 0; is_held || gain.writes < 400; i++) {
		uint64_t begun_ns = cluster.sim.now_ns;
		uint64_t lba = (i == 0 ? 0 : is_log ? i / 4 % 20 : 1 + i % 19) * 4;

		assert_int_equal(sim_client_submit(&sim_cluster_node(&cluster, 1)->client,
						   FERRY_OP_WRITE, lba, 4),
				 0);
		if (i == 0)
			sim_cluster_run(&cluster, 5 * FERRY_NS_PER_MS);
		if (i == 0)
			sim_lun_cut(&cluster.lun, 1);
		if (is_held &&
		    !sim_cluster_run_until(&cluster, is_quiet, NULL, end_ns - cluster.sim.now_ns)) {
			sim_lun_let_go(&cluster.lun);
			is_held = false;
		}
		assert_true(sim_cluster_run_until(&cluster, is_quiet, NULL, 120 * FERRY_NS_PER_S));
		gain.writes++;
		gain.eight_ns += gain.writes <= 8 ? cluster.sim.now_ns - begun_ns : 0;
		gain.latency_ns_max =
			ferry_max_u64(gain.latency_ns_max, cluster.sim.now_ns - begun_ns);
		sim_cluster_run(&cluster, 1 * FERRY_NS_PER_MS);
	}
	assert_int_equal(errors(), 0);
	end();
	return gain;
}

static void test_what_acknowledging_beside_ghosts_gains(void **state)
{
	static const uint64_t lays_ms[] = {5, 1000, 45000};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(lays_ms); i++)
		for (int is_log = 0; is_log < 2; is_log++) {
			struct gain at_once =
				gain_measure(false, is_log, lays_ms[i] * FERRY_NS_PER_MS);
			struct gain later =
				gain_measure(true, is_log, lays_ms[i] * FERRY_NS_PER_MS);

			print_message("laying takes %5u ms, %s: longest %5u ms, first eight %5u "
				      "ms; waiting for it: %5u, %5u\n",
				      (unsigned int)lays_ms[i], is_log ? "log   " : "random",
				      (unsigned int)(at_once.latency_ns_max / FERRY_NS_PER_MS),
				      (unsigned int)(at_once.eight_ns / FERRY_NS_PER_MS),
				      (unsigned int)(later.latency_ns_max / FERRY_NS_PER_MS),
				      (unsigned int)(later.eight_ns / FERRY_NS_PER_MS));
			assert_true(later.latency_ns_max >= lays_ms[i] * FERRY_NS_PER_MS);
			/* A timeout or two, whatever laying takes. */
			assert_true(is_log ||
				    at_once.latency_ns_max < 2 * cluster.options.path_timeout_ns);
		}
}

/* The rig's own proof: were it not aborted, it would land over newer data, and be found out. */
static void test_canary_preempt_without_abort(void **state)
{
	(void)state;
	begin(105, 3, 0);
	held_write(/* preempt_waits= */ false, /* preempt_lies= */ true);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 8), 0);
	sim_lun_let_go(&cluster.lun);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	assert_int_equal(cluster.lun.stats.landed_late, 1);
	assert_int_equal(do_io(1, FERRY_OP_READ, 8), 0);
	assert_true(cluster.sim.violations > 0);
	sim_cluster_done(&cluster);
}

int scenario_ghosts(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_late_landing_is_aborted),
		cmocka_unit_test(test_late_landing_is_waited_for),
		cmocka_unit_test(test_elders_write_is_waited_for),
		cmocka_unit_test(test_ghost_of_an_acknowledged_write_is_inherited),
		cmocka_unit_test(test_peers_ghost_is_inherited),
		cmocka_unit_test(test_what_acknowledging_beside_ghosts_gains),
		cmocka_unit_test(test_canary_preempt_without_abort),
	};

	return cmocka_run_group_tests_name("ghosts", tests, NULL, NULL);
}
