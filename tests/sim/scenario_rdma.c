/* Scenarios: memory that a peer reaches by RDMA, later than anybody waits. */
#include "tests/sim/scenario.h"

#define TIMEOUT_NS (200 * FERRY_NS_PER_MS)

/* Node 1's path does not work: its I/O goes by peers, all of it by RDMA. */
static void begin_rdma(uint64_t seed, uint64_t late_ns_max, uint64_t death_ns_max)
{
	sim_cluster_init(&cluster, seed, 3);
	cluster.options.path_timeout_ns = TIMEOUT_NS;
	cluster.options.hold_timeout_ns = 60 * FERRY_NS_PER_S;
	cluster.net.rdma.links_per_mille = 1000;
	cluster.net.rdma.death_ns_max = death_ns_max;
	cluster.net.rdma.timeout_ns = TIMEOUT_NS;
	start(/* depth= */ 0);
	sim_lun_cut(&cluster.lun, 1);
	assert_int_equal(do_io(1, FERRY_OP_WRITE, 0), 0); /* By a peer, from here on. */
	sim_cluster_run(&cluster, 3 * FERRY_NS_PER_S);
	cluster.net.rdma.late_per_mille = late_ns_max > 0 ? 1000 : 0;
	cluster.net.rdma.late_ns_max = late_ns_max;
}

static void do_eight(enum ferry_op op)
{
	for (uint64_t lba = 0; lba < 32; lba += 4)
		assert_int_equal(do_io(1, op, lba), 0);
}

/* Each I/O is moved by RDMA, once. */
static void test_moves_large_data(void **state)
{
	uint64_t reads, writes;

	(void)state;
	begin_rdma(130, /* late_ns_max= */ 0, /* death_ns_max= */ 0);
	reads = cluster.net.rdma.reads;
	writes = cluster.net.rdma.writes;
	do_eight(FERRY_OP_WRITE);
	assert_int_equal(cluster.net.rdma.reads, reads + 8);
	do_eight(FERRY_OP_READ);
	assert_int_equal(cluster.net.rdma.writes, writes + 8);
	assert_int_equal(cluster.net.rdma.late_reads + cluster.net.rdma.late_writes, 0);
	end();
}

/*
 * Answers to reads come long after their deadline, by a link that lives on: each goes to where it
 * was asked for, and is no reason to cut the link.
 */
static void test_late_answers(void **state)
{
	const struct sim_node *node;
	uint64_t news;

	(void)state;
	begin_rdma(131, 5 * TIMEOUT_NS, /* death_ns_max= */ 0);
	node = sim_cluster_node(&cluster, 1);
	news = node->events_seen[FERRY_EVENT_PEER];
	for (int i = 0; i < 3; i++)
		do_eight(FERRY_OP_READ);
	sim_cluster_run(&cluster, 20 * TIMEOUT_NS);
	assert_true(cluster.net.rdma.late_writes > 5);
	assert_int_equal(node->events_seen[FERRY_EVENT_PEER], news); /* Up all the time. */
	assert_int_equal(node->arena.free_count, SIM_ARENA_CHUNKS);
	assert_int_equal(errors(), 0);
	end();
}

/* Writes are read long after they were given up, proven dead, and done by another. */
static void test_late_offers(void **state)
{
	(void)state;
	begin_rdma(132, 5 * TIMEOUT_NS, /* death_ns_max= */ 0);
	for (int i = 0; i < 3; i++)
		do_eight(FERRY_OP_WRITE);
	sim_cluster_run(&cluster, 20 * TIMEOUT_NS);
	assert_true(cluster.net.rdma.late_reads > 0);
	assert_true(stats(1)->ghosts_made > 0);
	assert_int_equal(errors(), 0);
	do_eight(FERRY_OP_READ);
	end();
}

/* The connection breaks with data on its way: until the keys are dead it comes and goes. */
static void test_keys_outlive_their_connection(void **state)
{
	(void)state;
	begin_rdma(133, 2 * TIMEOUT_NS, 2 * TIMEOUT_NS);
	for (uint64_t i = 0; i < 40; i++) {
		struct sim_node *node = sim_cluster_node(&cluster, 1);
		enum ferry_op op = i % 2 ? FERRY_OP_WRITE : FERRY_OP_READ;

		assert_int_equal(sim_client_submit(&node->client, op, i % 8 * 4, 4), 0);
		sim_cluster_run(&cluster, TIMEOUT_NS / 2);
		for (uint32_t peer = 2; peer <= 3; peer++)
			node->links[peer].link.ops->reset(&node->links[peer].link, "the scenario");
		assert_true(sim_cluster_run_until(&cluster, is_quiet, NULL, 60 * FERRY_NS_PER_S));
	}
	assert_true(cluster.net.rdma.cut > 0);
	assert_int_equal(errors(), 0);
	end();
}

int scenario_rdma(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves_large_data),
		cmocka_unit_test(test_late_answers),
		cmocka_unit_test(test_late_offers),
		cmocka_unit_test(test_keys_outlive_their_connection),
	};

	return cmocka_run_group_tests_name("rdma", tests, NULL, NULL);
}
