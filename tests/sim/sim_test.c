/* Scenarios: what is to happen when one thing goes wrong, told step by step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/key.h"
#include "tests/sim/sim_chaos.h"

static struct sim_cluster cluster;

static bool owner_is(struct sim_cluster *self, void *context)
{
	const struct sim_node *owner = sim_cluster_owner(self);

	return owner && owner->id == *(uint32_t *)context && owner->engine.has_path;
}

static bool is_converged(struct sim_cluster *self, void *context)
{
	(void)context;
	return sim_cluster_is_converged(self);
}

/* @nodes_count agents; node 1 owns the pool; applications are quiet unless @depth says so. */
static void start(uint32_t depth)
{
	uint32_t one = 1;

	cluster.workload.depth = depth;
	cluster.workload.is_stopped = depth == 0;
	cluster.lun.options.slow_per_mille = 0;
	sim_cluster_start_all(&cluster);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 1);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &one, 10 * FERRY_NS_PER_S));
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S); /* Trials are stood. */
}

static void begin(uint64_t seed, uint32_t nodes_count, uint32_t depth)
{
	sim_cluster_init(&cluster, seed, nodes_count);
	start(depth);
}

static void begin_impatient(uint64_t seed, uint64_t path_timeout_ns)
{
	sim_cluster_init(&cluster, seed, 3);
	cluster.options.path_timeout_ns = path_timeout_ns;
	start(/* depth= */ 0);
}

/* Faults stop, everything comes to rest, every block is what it may be. */
static void end(void)
{
	sim_cluster_heal(&cluster);
	cluster.workload.is_stopped = true;
	sim_cluster_manage(&cluster, true);
	assert_true(sim_cluster_run_until(&cluster, is_converged, NULL, 120 * FERRY_NS_PER_S));
	assert_true(sim_cluster_read_all(&cluster, 60 * FERRY_NS_PER_S));
	if (cluster.sim.violations > 0)
		fail_msg("%s", cluster.sim.first_violation);
	sim_cluster_done(&cluster);
}

static const struct ferry_router_stats *stats(uint32_t id)
{
	return &sim_cluster_node(&cluster, id)->engine.router.stats;
}

static enum ferry_lane_state lane_state(uint32_t id)
{
	return sim_cluster_node(&cluster, id)->engine.router.lanes[0].state;
}

static uint64_t errors(void)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(cluster.workload.errors); i++)
		sum += cluster.workload.errors[i];
	return sum;
}

static bool is_quiet(struct sim_cluster *self, void *context)
{
	(void)context;
	return sim_workload_running(&self->workload) == 0;
}

/* One I/O on @id's volume, to its end; its error. */
static int do_io(uint32_t id, enum ferry_op op, uint64_t lba)
{
	uint64_t before[FERRY_ARRAY_COUNT(cluster.workload.errors)];

	memcpy(before, cluster.workload.errors, sizeof(before));
	assert_int_equal(sim_client_submit(&sim_cluster_node(&cluster, id)->client, op, lba, 4), 0);
	assert_true(sim_cluster_run_until(&cluster, is_quiet, NULL, 60 * FERRY_NS_PER_S));
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(before); i++)
		if (cluster.workload.errors[i] != before[i])
			return -(int)i;
	return 0;
}

/* ---- A path. ---- */

static void test_black_hole(void **state)
{
	(void)state;
	begin(101, 3, 8);
	sim_lun_cut(&cluster.lun, 1);
	sim_cluster_run(&cluster, 20 * FERRY_NS_PER_S);
	assert_int_equal(errors(), 0);
	assert_true(stats(1)->ghosts_made > 0);
	assert_int_equal(stats(1)->ghosts_laid_abort, stats(1)->ghosts_made);
	assert_true(stats(1)->detours > 500);
	assert_int_equal(lane_state(1), FERRY_LANE_CONVICTED);
	assert_int_equal(sim_cluster_node(&cluster, 1)->convictions, 1);
	/* The path's timeout, then an abort and a retry. */
	assert_true(stats(1)->latency_ns_max <
		    cluster.options.path_timeout_ns + 500 * FERRY_NS_PER_MS);
	sim_lun_heal(&cluster.lun, 1);
	sim_cluster_run(&cluster, 70 * FERRY_NS_PER_S);
	assert_int_equal(lane_state(1), FERRY_LANE_HEALTHY);
	assert_int_equal(errors(), 0);
	end();
}

static void test_reset(void **state)
{
	(void)state;
	begin(102, 3, 6);
	cluster.workload.latency_ns_max = 0;
	for (int i = 0; i < 10; i++) {
		sim_lun_reset_session(&cluster.lun, 1);
		sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
	}
	assert_int_equal(errors(), 0);
	assert_true(stats(1)->ghosts_made > 0);
	assert_int_equal(stats(1)->ghosts_laid_abort, stats(1)->ghosts_made);
	assert_true(cluster.workload.latency_ns_max < 500 * FERRY_NS_PER_MS);
	end();
}

/* A write held in the target's queue: the same blocks are written again; then it is let go. */
static void held_write(bool preempt_waits, bool preempt_lies)
{
	cluster.lun.options.preempt_waits = preempt_waits;
	cluster.lun.options.preempt_lies = preempt_lies;
	sim_lun_hold(&cluster.lun, 1, 1);
	assert_int_equal(
		sim_client_submit(&sim_cluster_node(&cluster, 1)->client, FERRY_OP_WRITE, 8, 4), 0);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_MS);
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
	sim_lun_hold(&cluster.lun, 1, 1);
	assert_int_equal(
		sim_client_submit(&sim_cluster_node(&cluster, 1)->client, FERRY_OP_WRITE, 8, 4), 0);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_MS);
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

static void test_all_paths_lost(void **state)
{
	(void)state;
	begin(106, 3, 0);
	for (uint32_t i = 1; i <= 3; i++)
		sim_lun_cut(&cluster.lun, i);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), -ETIMEDOUT);
	assert_int_equal(do_io(1, FERRY_OP_READ, 0), -ETIMEDOUT);
	assert_true(sim_cluster_node(&cluster, 1)->events_seen[FERRY_EVENT_HOLD] > 0);
	for (uint32_t i = 1; i <= 3; i++)
		sim_lun_heal(&cluster.lun, i);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
	end();
}

static void test_lun_fails(void **state)
{
	(void)state;
	begin(107, 3, 2);
	sim_lun_power(&cluster.lun, false);
	sim_cluster_run(&cluster, 30 * FERRY_NS_PER_S);
	for (uint32_t i = 1; i <= 3; i++) {
		assert_int_equal(sim_cluster_node(&cluster, i)->convictions, 0);
		assert_int_equal(sim_cluster_node(&cluster, i)->engine.router.tracker.verdict,
				 FERRY_VERDICT_NONE);
	}
	assert_int_equal(sim_cluster_owner(&cluster)->id, 1); /* Nothing moves. */
	end();
}

/* Its volatile cache is gone, and what was not flushed: a FLUSH must not say that all is well. */
static void test_target_restarts(void **state)
{
	(void)state;
	for (uint64_t seed = 120; seed < 126; seed++) {
		begin(seed, 3, 0);
		for (uint64_t lba = 0; lba < 16; lba += 4)
			assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
		sim_lun_restart(&cluster.lun);
		sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		assert_int_equal(cluster.lun.holder, 1); /* Or nobody would be kept out. */
		sim_cluster_done(&cluster);
	}
}

/* The same, seen by the peers only: the owner's own path is a black hole all the time. */
static void test_target_restarts_unseen_by_the_owner(void **state)
{
	(void)state;
	for (uint64_t seed = 130; seed < 136; seed++) {
		begin(seed, 3, 0);
		for (uint64_t lba = 0; lba < 16; lba += 4)
			assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
		sim_lun_cut(&cluster.lun, 1);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 16), 0);
		sim_lun_restart(&cluster.lun);
		sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		sim_cluster_done(&cluster);
	}
}

/*
 * Its count of registrations begins anew, and others, who have not seen what was before, have
 * raised it by the time the owner is back.
 */
static void test_target_restarts_and_the_owner_is_last(void **state)
{
	(void)state;
	for (uint64_t seed = 170; seed < 176; seed++) {
		sim_cluster_init(&cluster, seed, 3);
		cluster.lun.generation = 0;
		start(/* depth= */ 0);
		assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
		sim_lun_cut(&cluster.lun, 1);
		for (uint32_t i = 2; i <= 3; i++)
			sim_cluster_crash(&cluster, i, /* is_power_cut= */ false);
		sim_lun_restart(&cluster.lun);
		for (uint32_t i = 2; i <= 3; i++)
			sim_cluster_start(&cluster, i);
		for (int i = 0; i < 10; i++) {
			sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
			sim_lun_reset_session(&cluster.lun, 2 + (uint32_t)i % 2);
		}
		sim_lun_heal(&cluster.lun, 1);
		sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
		assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), -EIO);
		sim_cluster_done(&cluster);
	}
}

/* A peer that starts anew has not seen what was before: it must not pass for a witness. */
static void test_restarted_peers_do_not_vouch(void **state)
{
	(void)state;
	begin(136, 3, 0);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0);
	sim_lun_cut(&cluster.lun, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 16), 0);
	sim_lun_restart(&cluster.lun);
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_crash(&cluster, i, /* is_power_cut= */ false);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	for (uint32_t i = 2; i <= 3; i++)
		sim_cluster_start(&cluster, i);
	sim_cluster_run(&cluster, 20 * FERRY_NS_PER_S);
	assert_int_equal(do_io(1, FERRY_OP_READ, 0), 0);
	assert_true(do_io(1, FERRY_OP_FLUSH, 0) < 0);
	sim_cluster_done(&cluster);
}

/* ---- Luns where each path has a cache of its own. ---- */

static void begin_by_path(uint64_t seed, uint32_t depth, bool is_known)
{
	sim_cluster_init(&cluster, seed, 3);
	cluster.lun.options.caches_by_path = true;
	cluster.options.flushes_by_path = is_known;
	start(depth);
}

/* Some by its own path, some by a peer's: a FLUSH covers both. */
static void flush_by_every_path(bool is_known)
{
	struct ferry_lane *local;

	begin_by_path(140, 0, is_known);
	for (uint64_t lba = 0; lba < 16; lba += 4)
		assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
	local = ferry_router_local(&sim_cluster_node(&cluster, 1)->engine.router);
	ferry_lane_avoid(local, 10 * FERRY_NS_PER_S);
	for (uint64_t lba = 16; lba < 32; lba += 4)
		assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
	assert_true(stats(1)->detours > 0);
	local->avoid_until_ns = 0;
	local->config.on_change(local, local->config.context);
	assert_int_equal(do_io(1, FERRY_OP_FLUSH, 0), 0);
	for (uint32_t i = 1; i <= 3; i++)
		sim_lun_lose_path_cache(&cluster.lun, i);
	for (uint64_t lba = 0; lba < 32; lba += 4)
		assert_int_equal(do_io(1, FERRY_OP_READ, lba), 0);
}

static void test_flush_by_every_path(void **state)
{
	(void)state;
	flush_by_every_path(/* is_known= */ true);
	end();
}

/* The rig's own proof: taken for a lun with one cache, the flush is found out. */
static void test_canary_flush_by_one_path(void **state)
{
	(void)state;
	flush_by_every_path(/* is_known= */ false);
	assert_true(cluster.sim.violations > 0);
	sim_cluster_done(&cluster);
}

/* A path is lost, and all that its cache had: it is written anew before anybody can see that. */
static void test_lost_paths_are_replayed(void **state)
{
	(void)state;
	for (uint64_t seed = 141; seed < 151; seed++) {
		begin_by_path(seed, 4, /* is_known= */ true);
		for (int i = 0; i < 24; i++) {
			uint32_t id = (uint32_t)sim_between(&cluster.sim, SIM_CRASH, 1, 3);
			bool is_short = sim_chance(&cluster.sim, SIM_CRASH, 500);

			if (is_short)
				sim_lun_reset_session(&cluster.lun, id);
			else
				sim_lun_cut(&cluster.lun, id);
			sim_lun_lose_path_cache(&cluster.lun, id);
			sim_cluster_run(&cluster, sim_between(&cluster.sim, SIM_CRASH, 1, 3000) *
							  FERRY_NS_PER_MS);
			sim_lun_heal(&cluster.lun, id);
			sim_cluster_run(&cluster, sim_between(&cluster.sim, SIM_CRASH, 1, 2000) *
							  FERRY_NS_PER_MS);
			if (cluster.sim.violations > 0)
				fail_msg("%s", cluster.sim.first_violation);
		}
		assert_int_equal(cluster.workload.errors[EIO], 0);
		end();
	}
}

/* ---- Peers. ---- */

static void test_link_lost_with_writes_in_flight(void **state)
{
	uint64_t repeated;

	(void)state;
	begin(108, 2, 6);
	sim_lun_cut(&cluster.lun, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	for (int i = 0; i < 20; i++) { /* Only the agents' network: the members stay. */
		uint64_t pause_ns = sim_below(&cluster.sim, SIM_CRASH, 50 * FERRY_NS_PER_MS);
		struct sim_node *node = sim_cluster_node(&cluster, 1);

		sim_cluster_run(&cluster, 300 * FERRY_NS_PER_MS + pause_ns);
		node->links[2].link.ops->reset(&node->links[2].link, "the scenario");
	}
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	repeated = sim_cluster_node(&cluster, 2)->carrier.stats.repeated;
	assert_true(sim_cluster_node(&cluster, 1)->peers[2].resent > 0);
	assert_true(repeated > 0); /* And answered from what is kept, not run again. */
	assert_int_equal(errors(), 0);
	end();
}

static void test_peer_restarts(void **state)
{
	(void)state;
	begin(109, 3, 6);
	sim_lun_cut(&cluster.lun, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	for (int i = 0; i < 6; i++) {
		uint32_t peer = 2 + (uint32_t)i % 2;

		sim_cluster_crash(&cluster, peer, /* is_power_cut= */ i % 3 == 0);
		sim_cluster_run(&cluster, 400 * FERRY_NS_PER_MS);
		sim_cluster_start(&cluster, peer);
		sim_cluster_run(&cluster, 4 * FERRY_NS_PER_S);
	}
	assert_true(cluster.nodes[2].incarnation.v == 4);
	assert_int_equal(errors(), 0);
	end();
}

static uint32_t ghosts_alive(void)
{
	return sim_cluster_node(&cluster, 1)->engine.router.ghosts_count;
}

static bool is_ghostless(struct sim_cluster *self, void *context)
{
	(void)self;
	(void)context;
	return ghosts_alive() == 0;
}

/*
 * Writes are lost on the way to a peer, proven dead at the lun, and done by another. When the
 * agents' network is back, their numbers are still unanswered: they must not be asked again.
 */
static void test_laid_is_not_asked_again(void **state)
{
	struct sim_node *owner;

	(void)state;
	begin(116, 3, 0);
	owner = sim_cluster_node(&cluster, 1);
	sim_lun_cut(&cluster.lun, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0); /* By a peer, from here on. */
	sim_net_cut(&cluster.net, 1, 2, true);
	for (uint64_t lba = 0; lba < 32; lba += 4)
		assert_int_equal(sim_client_submit(&owner->client, FERRY_OP_WRITE, lba, 4), 0);
	assert_true(sim_cluster_run_until(&cluster, is_quiet, NULL, 60 * FERRY_NS_PER_S));
	assert_true(sim_cluster_run_until(&cluster, is_ghostless, NULL, 60 * FERRY_NS_PER_S));
	assert_true(stats(1)->ghosts_laid_abort > 0);
	for (uint64_t lba = 0; lba < 32; lba += 4) /* Newer data, by node 3. */
		assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
	/* Node 2 has a new session, and so a new registration. */
	sim_lun_reset_session(&cluster.lun, 2);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	sim_net_cut(&cluster.net, 1, 2, false);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	for (uint64_t lba = 0; lba < 32; lba += 4)
		assert_int_equal(do_io(1, FERRY_OP_READ, lba), 0);
	end();
}

/*
 * The same, but the link lives through it: what was under way on it arrives when the peer whose
 * registration was taken has a new one.
 */
static void test_laid_is_not_heard_later(void **state)
{
	struct sim_node *owner;

	(void)state;
	begin_impatient(117, 200 * FERRY_NS_PER_MS);
	owner = sim_cluster_node(&cluster, 1);
	sim_lun_cut(&cluster.lun, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0); /* By a peer, from here on. */
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	sim_net_cut(&cluster.net, 1, 2, true);
	for (uint64_t lba = 0; lba < 32; lba += 4)
		assert_int_equal(sim_client_submit(&owner->client, FERRY_OP_WRITE, lba, 4), 0);
	sim_cluster_run(&cluster, 220 * FERRY_NS_PER_MS);
	assert_true(stats(1)->ghosts_laid_abort > 1);
	assert_int_equal(ghosts_alive(), 0);
	for (uint64_t lba = 0; lba < 32; lba += 4) /* Newer data, by node 3. */
		assert_int_equal(do_io(1, FERRY_OP_WRITE, lba), 0);
	/* Node 2 has a new session, and so a new registration. */
	sim_lun_reset_session(&cluster.lun, 2);
	sim_cluster_run(&cluster, 200 * FERRY_NS_PER_MS);
	sim_net_cut(&cluster.net, 1, 2, false);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	for (uint64_t lba = 0; lba < 32; lba += 4)
		assert_int_equal(do_io(1, FERRY_OP_READ, lba), 0);
	end();
}

/* By hand: a link, and a request of an epoch that is gone. */
static void test_stale_epoch_is_refused(void **state)
{
	struct sim_node *carrier;
	uint64_t refused;

	(void)state;
	begin(110, 3, 0);
	carrier = sim_cluster_node(&cluster, 2);
	sim_lun_cut(&cluster.lun, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0); /* By a peer. */
	refused = carrier->carrier.stats.refused;
	/* Node 1 hears nothing of its successor, but still reaches node 2. */
	sim_loop_freeze(&sim_cluster_node(&cluster, 1)->loop);
	sim_cluster_acquire(&cluster, 2);
	sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
	sim_loop_wake(&sim_cluster_node(&cluster, 1)->loop);
	assert_true(do_io(1, FERRY_OP_WRITE, 0) < 0);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_true(carrier->carrier.stats.refused >= refused);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 2);
	end();
}

/* ---- Owners. ---- */

static void test_owner_crashes(void **state)
{
	uint32_t two = 2;
	uint64_t epoch;

	(void)state;
	begin(111, 3, 4);
	epoch = sim_cluster_owner(&cluster)->engine.router.epoch.v;
	sim_lun_hold(&cluster.lun, 1, 4);
	sim_cluster_run(&cluster, 50 * FERRY_NS_PER_MS);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	assert_true(sim_cluster_owner(&cluster)->engine.router.epoch.v > epoch);
	assert_true(cluster.lun.stats.aborted > 0); /* What node 1 left in the queue. */
	sim_lun_let_go(&cluster.lun);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	end();
}

/*
 * Who preempts the dead owner dies itself before the target's queue is empty: the key is gone, the
 * write is not, and the node that left it is back and has drained.
 */
static void test_preempter_crashes(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(119, 3, 0);
	cluster.lun.options.preempt_waits = true;
	sim_lun_hold(&cluster.lun, 1, 1);
	assert_int_equal(
		sim_client_submit(&sim_cluster_node(&cluster, 1)->client, FERRY_OP_WRITE, 8, 4), 0);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_MS);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 3);
	sim_cluster_run(&cluster, 2500 * FERRY_NS_PER_MS);
	assert_int_equal(cluster.lun.stats.preempts, 1);
	sim_cluster_crash(&cluster, 3, /* is_power_cut= */ true);
	sim_cluster_start(&cluster, 1);
	sim_cluster_start(&cluster, 3);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 2);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	sim_lun_let_go(&cluster.lun);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 20 * FERRY_NS_PER_S));
	assert_int_equal(do_io(2, FERRY_OP_WRITE, 8), 0);
	end();
}

static void test_owner_is_cut_off(void **state)
{
	uint32_t two = 2;
	uint64_t carried;

	(void)state;
	begin(112, 3, 4);
	sim_cluster_isolate(&cluster, 1);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	assert_false(sim_cluster_node(&cluster, 1)->engine.router.is_open);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	carried = stats(1)->reads + stats(1)->writes;
	cluster.workload.strays_per_mille = 50;
	sim_cluster_run(&cluster, 20 * FERRY_NS_PER_S);
	cluster.workload.strays_per_mille = 0;
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	/* The minority serves nothing: what was asked there has failed. */
	assert_false(sim_cluster_node(&cluster, 1)->engine.router.is_open);
	assert_int_equal(sim_cluster_node(&cluster, 1)->client.running_count, 0);
	assert_true(stats(1)->reads + stats(1)->writes > carried);
	assert_true(cluster.workload.errors[ETIMEDOUT] > 0);
	end();
}

static void frozen_owner_wakes(uint64_t seed, bool loses_session)
{
	uint32_t two = 2;

	begin(seed, 3, 6);
	cluster.workload.tolerates_stale_reads = true;
	sim_cluster_freeze(&cluster, 1);
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 20 * FERRY_NS_PER_S));
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	if (loses_session)
		sim_lun_reset_session(&cluster.lun, 1);
	sim_cluster_wake(&cluster, 1);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	assert_false(sim_cluster_node(&cluster, 1)->engine.router.is_open);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 2);
	end();
}

static void test_frozen_owner_wakes(void **state)
{
	(void)state;
	frozen_owner_wakes(113, /* loses_session= */ false);
	frozen_owner_wakes(114, /* loses_session= */ true);
}

/* Its disk fails when another claims the pool: it cannot agree, and must not go on either. */
static void test_owner_cannot_save_the_epoch(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(118, 3, 4);
	cluster.nodes[1].store.saves_to_fail = 1000;
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	assert_false(sim_cluster_node(&cluster, 1)->engine.router.is_open);
	cluster.workload.strays_per_mille = 200;
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	cluster.workload.strays_per_mille = 0;
	cluster.nodes[1].store.saves_to_fail = 0;
	end();
}

static void test_owner_moves(void **state)
{
	(void)state;
	begin(115, 3, 4);
	for (uint32_t i = 0; i < 12; i++) {
		uint32_t next = 1 + (i + 1) % 3;

		sim_cluster_acquire(&cluster, next);
		assert_true(sim_cluster_run_until(&cluster, owner_is, &next, 10 * FERRY_NS_PER_S));
		sim_cluster_run(&cluster, 200 * FERRY_NS_PER_MS);
	}
	assert_int_equal(cluster.lun.stats.preempts, 0); /* Everyone drained. */
	end();
}

static bool is_taking(struct sim_cluster *self, void *context)
{
	return self->nodes[*(uint32_t *)context].node->ownership.phase == FERRY_OWNERSHIP_TAKING;
}

/* The data side's answer to an older taking proves nothing for the one that is asked for now. */
static void test_answer_to_an_older_taking(void **state)
{
	struct ferry_ownership *ownership;
	uint32_t two = 2;

	(void)state;
	begin(129, 3, 0);
	ownership = &sim_cluster_node(&cluster, 2)->ownership;
	sim_lun_power(&cluster.lun, false);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, is_taking, &two, 10 * FERRY_NS_PER_S));
	ferry_ownership_taken(ownership, (struct ferry_epoch){ownership->claimed.v - 1}, 0);
	assert_int_equal(ownership->phase, FERRY_OWNERSHIP_TAKING);
	assert_false(ownership->view.is_in_force);
	sim_lun_power(&cluster.lun, true);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 60 * FERRY_NS_PER_S));
	end();
}

/* ---- Fencing a node from the pool. ---- */

static bool fence_is_over(struct sim_cluster *self, void *context)
{
	return self->nodes[*(uint32_t *)context].node->fence_error <= 0;
}

static int fence(uint32_t by, uint32_t victim)
{
	struct sim_node *node = sim_cluster_node(&cluster, by);

	node->fence_error = 1;
	assert_int_equal(ferry_ownership_fence(&node->ownership, (struct ferry_node){victim}), 0);
	assert_true(sim_cluster_run_until(&cluster, fence_is_over, &by, 60 * FERRY_NS_PER_S));
	return node->fence_error;
}

/* A standby, asked for by another standby: the owner does it, and goes on. */
static void test_fence_a_standby(void **state)
{
	uint64_t epoch;

	(void)state;
	begin(130, 3, 4);
	epoch = sim_cluster_owner(&cluster)->engine.router.epoch.v;
	assert_int_equal(fence(2, 3), 0);
	assert_int_equal(cluster.lun.nexuses[3].key.v, 0);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 1);
	assert_true(sim_cluster_owner(&cluster)->engine.router.epoch.v > epoch);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_int_equal(cluster.lun.nexuses[3].key.v, 0); /* And does not come back by itself. */
	assert_int_equal(errors(), 0);
	sim_cluster_crash(&cluster, 3, /* is_power_cut= */ false);
	sim_cluster_start(&cluster, 3); /* Started anew, it does. */
	end();
}

/* The owner, frozen with a write at the target: nobody serves, and what it sent is dead. */
static void test_fence_the_owner(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(131, 3, 0);
	sim_lun_hold(&cluster.lun, 1, 1);
	assert_int_equal(
		sim_client_submit(&sim_cluster_node(&cluster, 1)->client, FERRY_OP_WRITE, 8, 4), 0);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_MS);
	sim_cluster_freeze(&cluster, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_int_equal(fence(2, 1), 0);
	assert_int_equal(cluster.lun.nexuses[1].key.v, 0);
	assert_int_equal(cluster.lun.stats.aborted, 1);
	assert_int_equal(sim_cluster_node(&cluster, 2)->ownership.view.owner.v, 0);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	sim_cluster_wake(&cluster, 1);
	sim_cluster_run(&cluster, 1 * FERRY_NS_PER_S);
	assert_int_equal(do_io(2, FERRY_OP_WRITE, 8), 0);
	sim_lun_let_go(&cluster.lun);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_int_equal(cluster.lun.nexuses[1].key.v, 0);
	assert_int_equal(do_io(2, FERRY_OP_READ, 8), 0);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	end();
}

/* No path of the fencing node's: it cannot be verified, and is not said to be. */
static void test_fence_is_not_verified(void **state)
{
	(void)state;
	begin(132, 3, 0);
	sim_cluster_freeze(&cluster, 1);
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	sim_lun_power(&cluster.lun, false);
	assert_int_equal(fence(2, 1), -ETIMEDOUT);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	end();
}

/* ---- Restart and freeze. ---- */

/* Nobody asks for it: the pool of a killed agent is its own when it is back. */
static void test_killed_agent_reclaims(void **state)
{
	uint32_t one = 1;
	uint64_t epoch;
	uint64_t landed_late;

	(void)state;
	begin(140, 3, 4);
	epoch = sim_cluster_owner(&cluster)->engine.router.epoch.v;
	sim_lun_hold(&cluster.lun, 1, 2);
	sim_cluster_run(&cluster, 50 * FERRY_NS_PER_MS);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
	sim_cluster_start(&cluster, 1);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &one, 10 * FERRY_NS_PER_S));
	assert_true(sim_cluster_owner(&cluster)->engine.router.epoch.v > epoch);
	landed_late = cluster.lun.stats.landed_late; /* Before it was back, they may. */
	sim_lun_let_go(&cluster.lun);		     /* Its elder's writes: they are dead. */
	sim_cluster_run(&cluster, 2 * FERRY_NS_PER_S);
	assert_int_equal(cluster.lun.stats.landed_late, landed_late);
	end();
}

static void test_killed_agent_does_not_reclaim(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(141, 3, 0);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	sim_cluster_start(&cluster, 1);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 2); /* It was given away. */
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ false);
	sim_cluster_start(&cluster, 1);
	sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
	assert_int_equal(sim_cluster_owner(&cluster)->id, 2);
	end();
}

/* All lose power; the keys of all are on the lun, and nobody is registered who could abort. */
static void test_whole_cluster_restarts(void **state)
{
	(void)state;
	for (int way = 0; way < 2; way++) {
		uint32_t one = 1;
		uint64_t epoch;

		begin(142, 3, 4);
		cluster.lun.options.preempt_waits = way == 1;
		epoch = sim_cluster_owner(&cluster)->engine.router.epoch.v;
		for (uint32_t i = 1; i <= 3; i++)
			sim_cluster_crash(&cluster, i, /* is_power_cut= */ true);
		sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
		sim_cluster_start(&cluster, 1); /* One alone decides nothing. */
		sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
		assert_int_equal(sim_cluster_node(&cluster, 1)->ownership.view.is_in_force, 0);
		sim_cluster_start(&cluster, 2);
		sim_cluster_start(&cluster, 3);
		assert_true(sim_cluster_run_until(&cluster, owner_is, &one, 20 * FERRY_NS_PER_S));
		assert_true(sim_cluster_owner(&cluster)->engine.router.epoch.v > epoch);
		end();
	}
}

/* Only the agent stands still; the group goes on without it. What it reads then it may not have. */
static void test_frozen_agent_serves_no_read(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(143, 3, 0);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 8), 0);
	sim_loop_freeze(&sim_cluster_node(&cluster, 1)->loop);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	sim_loop_wake(&sim_cluster_node(&cluster, 1)->loop);
	assert_int_equal(
		sim_client_submit(&sim_cluster_node(&cluster, 1)->client, FERRY_OP_READ, 8, 4), 0);
	/* By the view that it had, it is open still; but it has looked at the clock. */
	assert_false(sim_cluster_node(&cluster, 1)->engine.router.is_open);
	assert_true(sim_cluster_run_until(&cluster, is_quiet, NULL, 60 * FERRY_NS_PER_S));
	assert_true(errors() > 0);
	end();
}

/* Nobody took the pool meanwhile: it goes on, after the group's word. */
static void test_frozen_agent_goes_on(void **state)
{
	(void)state;
	begin(144, 3, 0);
	sim_loop_freeze(&sim_cluster_node(&cluster, 1)->loop);
	sim_cluster_run(&cluster, 700 * FERRY_NS_PER_MS);
	sim_loop_wake(&sim_cluster_node(&cluster, 1)->loop);
	assert_int_equal(do_io(1, FERRY_OP_READ, 8), 0);
	assert_true(sim_cluster_node(&cluster, 1)->engine.waking_word > 0);
	assert_int_equal(errors(), 0);
	end();
}

/* Rule 15: held for the time that is configured, then failed; and from then on at once. */
static void test_no_quorum_stops_serving(void **state)
{
	uint64_t began_ns;

	(void)state;
	begin(145, 3, 0);
	sim_cluster_isolate(&cluster, 1);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	began_ns = cluster.sim.now_ns;
	assert_true(do_io(1, FERRY_OP_READ, 8) < 0);
	assert_true(cluster.sim.now_ns - began_ns > 4 * FERRY_NS_PER_S);
	sim_cluster_run(&cluster, cluster.options.hold_timeout_ns);
	began_ns = cluster.sim.now_ns;
	assert_true(do_io(1, FERRY_OP_READ, 8) < 0);
	assert_true(cluster.sim.now_ns - began_ns < 1 * FERRY_NS_PER_S);
	end();
}

static bool is_out(struct sim_cluster *self, void *context)
{
	(void)context;
	return self->nodes[1].node->engine.registrar.state == FERRY_REGISTRAR_OUT;
}

/* Its key is back on the lun. */
static bool is_registered(struct sim_cluster *self, void *context)
{
	(void)context;
	return self->lun.nexuses[1].key.v != 0;
}

/* Somebody outside removes the owner's key: it has to be made the owner anew. */
static void test_owner_is_preempted_from_outside(void **state)
{
	uint32_t one = 1;
	uint64_t epoch;

	(void)state;
	begin(146, 3, 0);
	epoch = sim_cluster_owner(&cluster)->engine.router.epoch.v;
	cluster.lun.nexuses[1].key.v = 0;
	cluster.lun.generation++;
	(void)do_io(1, FERRY_OP_WRITE, 8);
	assert_true(sim_cluster_run_until(&cluster, is_out, NULL, 20 * FERRY_NS_PER_S));
	assert_true(sim_cluster_run_until(&cluster, is_registered, NULL, 20 * FERRY_NS_PER_S));
	assert_true(sim_cluster_node(&cluster, 1)->engine.view.epoch.v > epoch);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &one, 20 * FERRY_NS_PER_S));
	sim_cluster_run(&cluster, 5 * FERRY_NS_PER_S);
	assert_true(sim_cluster_owner(&cluster)->engine.router.epoch.v > epoch);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 8), 0);
	end();
}

/* ---- Two nodes: the lun is the third voice. ---- */

static void test_two_nodes_take_over(void **state)
{
	uint32_t two = 2;

	(void)state;
	begin(147, 2, 4);
	sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	sim_cluster_acquire(&cluster, 2);
	assert_true(sim_cluster_run_until(&cluster, owner_is, &two, 10 * FERRY_NS_PER_S));
	end();
}

/* Each believes the other dead, and both want the pool: one gets it, the other stops. */
static void test_two_nodes_apart(void **state)
{
	(void)state;
	for (uint64_t seed = 150; seed < 160; seed++) {
		uint32_t open_count = 0;

		begin(seed, 2, 4);
		sim_cluster_isolate(&cluster, 1);
		sim_cluster_run(&cluster,
				sim_below(&cluster.sim, SIM_CRASH, 2000) * FERRY_NS_PER_MS);
		sim_cluster_acquire(&cluster, 2);
		sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
		sim_cluster_acquire(&cluster, 1); /* Trying again does not help it. */
		sim_cluster_acquire(&cluster, 2);
		sim_cluster_run(&cluster, 10 * FERRY_NS_PER_S);
		for (uint32_t i = 1; i <= 2; i++)
			open_count += sim_cluster_node(&cluster, i)->engine.router.is_open;
		assert_int_equal(open_count, 1);
		assert_true((cluster.lun.nexuses[1].key.v != 0) !=
			    (cluster.lun.nexuses[2].key.v != 0));
		end();
	}
}

static bool has_key_at_lun(struct sim_cluster *self, void *context)
{
	return self->lun.nexuses[*(uint32_t *)context].key.v != 0;
}

/*
 * A paused guest has lost the lun to the other, wakes, and registers by what it last heard: that
 * the other is there. When it then finds itself alone, that key is no proof of having won.
 */
static void test_two_nodes_wakes_alone(void **state)
{
	uint32_t one = 1;
	uint32_t two = 2;

	(void)state;
	for (uint64_t seed = 160; seed < 170; seed++) {
		begin(seed, 2, 4);
		sim_cluster_pause(&cluster, 2, SIM_FREEZE_GUEST);
		sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
		assert_true(sim_cluster_run_until(&cluster, owner_is, &one, 10 * FERRY_NS_PER_S));
		assert_false(has_key_at_lun(&cluster, &two));
		sim_lun_reset_session(&cluster.lun, 2);
		sim_cluster_wake(&cluster, 2);
		sim_cluster_run(&cluster, 200 * FERRY_NS_PER_MS); /* Before the ring forms. */
		sim_cluster_crash(&cluster, 1, /* is_power_cut= */ true);
		for (int i = 0; i < 20; i++) {
			sim_cluster_acquire(&cluster, 2);
			sim_cluster_run(&cluster, 500 * FERRY_NS_PER_MS);
			assert_false(sim_cluster_node(&cluster, 2)->engine.router.is_open);
		}
		end();
	}
}

/* ---- The simulator itself. ---- */

static void test_same_seed_same_trace(void **state)
{
	const struct sim_chaos_options options = {0};

	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct sim_result first;
		struct sim_result second;

		sim_chaos_run(seed, &options, &first);
		sim_chaos_run(seed, &options, &second);
		assert_int_equal(first.exit_code, 0);
		assert_true(first.trace_hash == second.trace_hash);
		assert_true(first.steps == second.steps && first.steps > 1000);
	}
}

/* What long runs have found. */
static void test_seeds_of_old(void **state)
{
	static const uint64_t seeds[] = {426, 603, 687, 1398, 1830, 2162, 2493};
	const struct sim_chaos_options options = {0};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(seeds); i++) {
		struct sim_result result;

		sim_chaos_run(seeds[i], &options, &result);
		if (result.exit_code != 0)
			fail_msg("seed %u: %s", (unsigned int)seeds[i], result.what);
	}
}

/* Timeouts taken for failures: the oldest mistake of all. It must not stay hidden. */
static void test_canary_timeouts_as_failures(void **state)
{
	const struct sim_chaos_options options = {.takes_timeouts_as_failures = true};
	bool is_caught = false;

	(void)state;
	for (uint64_t seed = 1; seed <= 60 && !is_caught; seed++) {
		struct sim_result result;

		sim_chaos_run(seed, &options, &result);
		is_caught = result.exit_code == SIM_EXIT_WRONG;
	}
	assert_true(is_caught);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_black_hole),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_late_landing_is_aborted),
		cmocka_unit_test(test_late_landing_is_waited_for),
		cmocka_unit_test(test_elders_write_is_waited_for),
		cmocka_unit_test(test_ghost_of_an_acknowledged_write_is_inherited),
		cmocka_unit_test(test_peers_ghost_is_inherited),
		cmocka_unit_test(test_what_acknowledging_beside_ghosts_gains),
		cmocka_unit_test(test_canary_preempt_without_abort),
		cmocka_unit_test(test_all_paths_lost),
		cmocka_unit_test(test_lun_fails),
		cmocka_unit_test(test_target_restarts),
		cmocka_unit_test(test_target_restarts_unseen_by_the_owner),
		cmocka_unit_test(test_target_restarts_and_the_owner_is_last),
		cmocka_unit_test(test_restarted_peers_do_not_vouch),
		cmocka_unit_test(test_flush_by_every_path),
		cmocka_unit_test(test_canary_flush_by_one_path),
		cmocka_unit_test(test_lost_paths_are_replayed),
		cmocka_unit_test(test_link_lost_with_writes_in_flight),
		cmocka_unit_test(test_peer_restarts),
		cmocka_unit_test(test_laid_is_not_asked_again),
		cmocka_unit_test(test_laid_is_not_heard_later),
		cmocka_unit_test(test_stale_epoch_is_refused),
		cmocka_unit_test(test_owner_crashes),
		cmocka_unit_test(test_preempter_crashes),
		cmocka_unit_test(test_owner_is_cut_off),
		cmocka_unit_test(test_frozen_owner_wakes),
		cmocka_unit_test(test_owner_cannot_save_the_epoch),
		cmocka_unit_test(test_owner_moves),
		cmocka_unit_test(test_answer_to_an_older_taking),
		cmocka_unit_test(test_fence_a_standby),
		cmocka_unit_test(test_fence_the_owner),
		cmocka_unit_test(test_fence_is_not_verified),
		cmocka_unit_test(test_killed_agent_reclaims),
		cmocka_unit_test(test_killed_agent_does_not_reclaim),
		cmocka_unit_test(test_whole_cluster_restarts),
		cmocka_unit_test(test_frozen_agent_serves_no_read),
		cmocka_unit_test(test_frozen_agent_goes_on),
		cmocka_unit_test(test_no_quorum_stops_serving),
		cmocka_unit_test(test_owner_is_preempted_from_outside),
		cmocka_unit_test(test_two_nodes_take_over),
		cmocka_unit_test(test_two_nodes_apart),
		cmocka_unit_test(test_two_nodes_wakes_alone),
		cmocka_unit_test(test_same_seed_same_trace),
		cmocka_unit_test(test_seeds_of_old),
		cmocka_unit_test(test_canary_timeouts_as_failures),
	};

	return cmocka_run_group_tests_name("sim", tests, NULL, NULL);
}
