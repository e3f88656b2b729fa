/*
 * Whatever happens, in any order: I/Os, deliveries, ends of links at either end, new ones, time. No
 * write is carried twice, each I/O ends once and gives its memory back, and when both links are up
 * again and left alone, RDMA carries.
 */
#include "agent/base/prng.h"
#include "agent/transport/transport_stand.h"

enum { SEEDS = TRANSPORT_SEEDS, STEPS = 120, IOS = 12 };

static struct ferry_prng prng;

static uint32_t below(uint32_t bound)
{
	return (uint32_t)ferry_prng_below(&prng, bound);
}

/* A connection is made by the connector, and only if it is wanted there. */
static void maybe_connect(void)
{
	if (!w.tcp[0].link.is_up && !w.tcp[0].is_cut)
		tcp_connect();
	else if (w.is_raised && !w.rdma[0].link.is_up && !w.rdma[0].is_cut && w.tcp[0].link.is_up &&
		 w.tcp[1].link.is_up)
		assert_int_equal(rdma_connect(), 0);
}

static void maybe_carried(uint32_t i)
{
	if (i < at.path.count && at.path.attempts[i])
		stand_done(&at.path, i);
}

static void step(uint32_t *submitted)
{
	struct stand_half *half = below(2) ? &w.rdma[below(2)] : &w.tcp[below(2)];

	switch (below(16)) {
	case 0:
		cut(half, "chance");
		break;
	case 1:
		if (half->link.is_up)
			half->link.ops->reset(&half->link, "chance"); /* Says so later. */
		break;
	case 2:
	case 3:
		settle(half);
		break;
	case 4:
	case 5:
		maybe_connect();
		break;
	case 6:
		stand_run_ms(&at.stand, below(40));
		break;
	case 7:
	case 8:
		maybe_carried(below(IOS));
		break;
	case 9:
	case 10:
		if (*submitted < IOS && w.via->path.is_up && at.stand.arena.free_count > 4)
			submit((*submitted)++, below(3) ? FERRY_OP_WRITE : FERRY_OP_READ);
		break;
	default:
		(void)deliver(half);
		break;
	}
}

static void quiet(void)
{
	for (uint32_t i = 0; i < 8; i++) {
		run();
		maybe_connect();
		for (uint32_t j = 0; j < STAND_ATTEMPTS_MAX; j++)
			maybe_carried(j);
	}
	run();
	stand_run_ms(&at.stand, 301000); /* The longest rest. */
	run();
}

static void one_seed(uint64_t seed)
{
	uint32_t submitted = 0;

	prng.state = seed;
	for (uint32_t i = 0; i < STEPS; i++)
		step(&submitted);
	quiet();
	for (uint32_t i = 0; i < submitted; i++) {
		bool is_write = w.ios[i].attempt.op == FERRY_OP_WRITE;

		if (w.ios[i].outcome == 0 || (is_write && carried(i) > 1) ||
		    (is_write && w.ios[i].outcome == FERRY_OUTCOME_DONE && carried(i) != 1) ||
		    (is_write && w.ios[i].outcome == FERRY_OUTCOME_FAILED && carried(i) != 0))
			fail_msg("seed %u: I/O %u: outcome %u, carried %u times", (unsigned)seed, i,
				 w.ios[i].outcome, carried(i));
	}
	if (!ferry_outgoing_is_rdma(&w.out))
		fail_msg("seed %u: RDMA does not carry", (unsigned)seed);
}

static void test_chance(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		(void)transport_setup(state);
		one_seed(seed);
		(void)transport_teardown(state);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_chance)};

	return cmocka_run_group_tests_name("transport_random", tests, NULL, NULL);
}
