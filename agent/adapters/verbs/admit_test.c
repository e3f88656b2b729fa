/* Who is admitted by RDMA, and who is not: connect.c on an rdma_cm that is made up, any seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/adapters/verbs/admit_stand.h"

enum { SEEDS = 100, STEPS = 1500 };

static struct agent *any_agent(void)
{
	return &admit.agents[sim_below(&admit.sim, SIM_CRASH, 2)];
}

static uint64_t drawn(uint64_t bound)
{
	return sim_below(&admit.sim, SIM_CRASH, bound);
}

/* ---- What somebody who has no business here asks. ---- */

/* An agent's request of any time and to anybody; or one by the wrong key, secret or number. */
static void request_make(uint32_t node, uint8_t bytes[SIM_CM_PRIVATE_BYTES])
{
	const struct way *way = admit.agents[node - 1].serves;
	struct ferry_rdma_secret secret = way->tcp[1].secret;
	struct ferry_rdma_hello hello = {
		.node = {(uint32_t)(1 + drawn(3))},
		.incarnation = {way->agents[0]->incarnation + drawn(2)},
		.number = (uint32_t)(1 + drawn(50)),
		.credits = FERRY_VERBS_CREDITS,
	};
	bool has_key = drawn(2) == 0;
	struct fake_auth auth;
	int r;

	if (drawn(3) > 0 && admit.tokens_count > 0) {
		uint64_t back = drawn(ferry_min_u64(admit.tokens_count, 1 + drawn(100)));

		memcpy(bytes, admit.tokens[admit.tokens_count - 1 - back].bytes,
		       FERRY_RDMA_HELLO_BYTES);
		return;
	}
	if (has_key)
		secret.v[drawn(sizeof(secret.v))] ^= 1;
	fake_auth_init(&auth, has_key ? 7 : 8, 1);
	r = ferry_rdma_hello_encode(&auth.auth, &secret, NULL, &hello, bytes);
	ferry_assert(r == 0);
}

static void intrude(uint32_t node)
{
	uint8_t bytes[SIM_CM_PRIVATE_BYTES] = {}, length_bytes = FERRY_RDMA_HELLO_BYTES;

	request_make(node, bytes);
	switch (drawn(4)) {
	case 0: /* Shorter, down to nothing, or longer. */
		length_bytes = (uint8_t)drawn(SIM_CM_PRIVATE_BYTES + 1);
		break;
	case 1:
		bytes[drawn(FERRY_RDMA_HELLO_BYTES)] ^= (uint8_t)(1u << drawn(8));
		break;
	default:
		break;
	}
	sim_cm_intrude(node, bytes, length_bytes);
}

/* ---- What goes wrong. ---- */

static struct verbs_link *any_link(struct agent *agent)
{
	return &agent->device.verbs.links[drawn(agent->device.verbs.config.links_max)];
}

static void tell_anything(struct verbs_link *link)
{
	static const enum rdma_cm_event_type TYPES[] = {
		RDMA_CM_EVENT_DISCONNECTED, RDMA_CM_EVENT_DEVICE_REMOVAL, RDMA_CM_EVENT_REJECTED,
		RDMA_CM_EVENT_ADDR_CHANGE,  RDMA_CM_EVENT_DEVICE_REMOVAL,
	};

	if (link->id)
		(void)sim_cm_tell(link->id, TYPES[drawn(FERRY_ARRAY_COUNT(TYPES))]);
}

static void fault(void)
{
	struct agent *agent = any_agent();
	struct verbs_link *link = any_link(agent);

	switch (drawn(20)) {
	case 0:
		agent_close(agent);
		sim_run_until(&admit.sim, admit.sim.now_ns + drawn(3 * FERRY_NS_PER_S));
		agent_open(agent);
		break;
	case 1:
		if (drawn(8) == 0)
			sim_cm_remove(agent->number);
		break;
	case 2:
		if (!agent->loop.is_frozen)
			sim_loop_freeze(&agent->loop);
		break;
	case 3:
	case 4:
	case 5:
		tcp_break(&admit.ways[drawn(2)]);
		break;
	case 6:
		sim_device_break(link);
		break;
	case 7:
		if (link->link.is_up && !agent->loop.is_frozen)
			link->link.ops->reset(&link->link, "the test");
		break;
	case 8:
		if (!agent->loop.is_frozen)
			ferry_verbs_drop(&agent->device.verbs,
					 (struct ferry_node){3 - agent->number}, "the test");
		break;
	case 9:
		agent->auth.has_no_digest = !agent->auth.has_no_digest;
		break;
	case 10:
	case 11:
	case 12:
		tell_anything(link);
		break;
	default:
		intrude(agent->number);
		break;
	}
}

/* Nobody waits for what may never come; and while TCP stands, one of the two carries. */
static void expect_bounded(void)
{
	for (int i = 0; i < 2; i++) {
		assert_true(admit.ways[i].is_up[0] || !admit.ways[i].tcp[0].link.is_up);
		for (uint32_t j = 0; j < admit.agents[i].device.verbs.config.links_max; j++) {
			const struct verbs_link *link = &admit.agents[i].device.verbs.links[j];

			if (link->state == VERBS_LINK_GREETING)
				assert_true(link->id && ferry_timer_is_started(&link->tick));
		}
	}
}

/* Mostly none, at times as long as anything takes. */
static uint64_t pause_ns(void)
{
	if (drawn(30) == 0)
		return drawn(6 * FERRY_NS_PER_S);
	return drawn(drawn(3) * 10 * FERRY_NS_PER_MS + FERRY_NS_PER_MS / 10);
}

static void step(bool has_faults)
{
	for (int i = 0; i < 2; i++) {
		struct agent *agent = &admit.agents[i];

		if (agent->loop.is_frozen && (!has_faults || drawn(20) == 0))
			sim_loop_wake(&agent->loop);
		if (!agent->loop.is_frozen && !admit.agents[!i].loop.is_frozen)
			tcp_connect(&admit.ways[i]);
		if (!agent->loop.is_frozen && drawn(2) == 0)
			way_ask(&admit.ways[i]);
	}
	if (has_faults && drawn(4) == 0)
		fault();
	sim_run_until(&admit.sim, admit.sim.now_ns + pause_ns());
	expect_bounded();
}

static void faults_set(uint32_t per_mille)
{
	sim_cm.faults_per_mille = per_mille;
	sim_cm.fails_per_mille = per_mille / 4;
	for (int i = 0; i < 2; i++) {
		admit.agents[i].device.fails_per_mille = per_mille / 50;
		admit.agents[i].auth.has_no_digest &= per_mille > 0;
	}
}

/* Nothing goes wrong any more: both ways carry by RDMA again, and nothing asked is left. */
static void heal(void)
{
	faults_set(0);
	for (int i = 0; i < 2; i++)
		if (sim_cm.nodes[i + 1].is_removed) {
			agent_close(&admit.agents[i]);
			agent_open(&admit.agents[i]);
		}
	for (int i = 0; i < 100; i++)
		step(/* has_faults= */ false);
	sim_run_until(&admit.sim, admit.sim.now_ns + 2 * FERRY_TRANSPORT_REST_NS_MAX);
	for (int i = 0; i < 100; i++)
		step(/* has_faults= */ false);
	sim_run_until(&admit.sim, admit.sim.now_ns + FERRY_NS_PER_S);
	for (int i = 0; i < 2; i++) {
		assert_true(ferry_outgoing_is_rdma(&admit.ways[i].outgoing));
		assert_true(way_is_idle(&admit.ways[i]));
	}
}

struct figures {
	uint64_t seen[RDMA_CM_EVENT_TIMEWAIT_EXIT + 1], refusals[REFUSALS];
	uint64_t forged, admissions, answered, by_rdma;
};

static void seed_run(uint64_t seed, bool has_faults, struct figures *figures)
{
	admit_open(seed);
	for (int i = 0; i < STEPS; i++) {
		if (has_faults && i % 100 == 0)
			faults_set((uint32_t)drawn(4) * 100);
		step(has_faults);
	}
	heal();
	for (uint32_t i = 0; i <= RDMA_CM_EVENT_TIMEWAIT_EXIT; i++)
		figures->seen[i] += sim_cm.seen[i];
	for (uint32_t i = 0; i < REFUSALS; i++)
		figures->refusals[i] += admit.refusals[i];
	figures->forged += sim_cm.forged;
	figures->admissions += admit.admissions;
	for (int i = 0; i < 2; i++) {
		figures->answered += admit.ways[i].answered;
		figures->by_rdma += admit.ways[i].by_rdma;
	}
	admit_close();
}

static void test_without_faults(void **state)
{
	struct figures figures = {};

	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++)
		seed_run(seed, /* has_faults= */ false, &figures);
	assert_int_equal(figures.admissions, 2 * 4); /* It stays up. */
	assert_int_equal(figures.seen[RDMA_CM_EVENT_REJECTED], 0);
	assert_true(figures.answered > 1000 && figures.by_rdma > figures.answered * 9 / 10);
}

/* Whatever ends a connection ends it, once, though nothing else is heard. */
static void test_each_end(void **state)
{
	static const enum rdma_cm_event_type ENDS[] = {
		RDMA_CM_EVENT_DISCONNECTED,
		RDMA_CM_EVENT_DEVICE_REMOVAL,
		RDMA_CM_EVENT_CONNECT_ERROR,
		RDMA_CM_EVENT_UNREACHABLE,
	};

	(void)state;
	for (uint64_t seed = 0; seed < 2 * FERRY_ARRAY_COUNT(ENDS); seed++) {
		const struct told *told;

		admit_open(seed);
		for (int i = 0; i < 20; i++)
			step(/* has_faults= */ false);
		told = &admit.ways[0].rdma[seed % 2];
		assert_true(told->is_up && told->ups == 1);
		(void)sim_cm_tell(verbs_link_of(told->link)->id, RDMA_CM_EVENT_ADDR_CHANGE);
		sim_run_until(&admit.sim, admit.sim.now_ns + FERRY_NS_PER_MS);
		assert_true(told->is_up);
		(void)sim_cm_tell(verbs_link_of(told->link)->id, ENDS[seed / 2]);
		sim_run_until(&admit.sim, admit.sim.now_ns + FERRY_NS_PER_MS);
		assert_true(!told->is_up || told->ups == 2);
		admit_close();
	}
}

/* Each thing that can be has been. */
static void expect_all(const struct figures *figures)
{
	for (int i = 0; i <= RDMA_CM_EVENT_TIMEWAIT_EXIT; i++) {
		if (i == RDMA_CM_EVENT_CONNECT_RESPONSE || i == RDMA_CM_EVENT_MULTICAST_JOIN ||
		    i == RDMA_CM_EVENT_MULTICAST_ERROR)
			continue; /* Not of connections that have a queue pair. */
		print_message("%s: %u\n", rdma_event_str((enum rdma_cm_event_type)i),
			      (unsigned int)figures->seen[i]);
		assert_true(figures->seen[i] > SEEDS / 4);
	}
	for (uint32_t i = 0; i < REFUSALS; i++) {
		print_message("refusal %u: %u\n", i, (unsigned int)figures->refusals[i]);
		assert_true(figures->refusals[i] > SEEDS / 4);
	}
	print_message("%u admitted, %u answers forged; %u requests answered, %u by RDMA\n",
		      (unsigned int)figures->admissions, (unsigned int)figures->forged,
		      (unsigned int)figures->answered, (unsigned int)figures->by_rdma);
	assert_true(figures->admissions > 10 * SEEDS && figures->forged > SEEDS / 4);
	assert_true(figures->by_rdma > 100 * SEEDS && figures->by_rdma < figures->answered);
}

static void test_with_faults(void **state)
{
	struct figures figures = {};

	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		seed_run(100 + seed, /* has_faults= */ true, &figures);
	expect_all(&figures);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_faults),
		cmocka_unit_test(test_each_end),
		cmocka_unit_test(test_with_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
