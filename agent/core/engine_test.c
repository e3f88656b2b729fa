/* The engine serves: when it takes I/O in, what it holds, what it tells the group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/engine_stand.h"

static const struct engine_wish plain = {.peers_count = 2};

/* ---- Whose the pool is, and whether it may be served. ---- */

static void test_serves_what_it_owns(void **state)
{
	(void)state;
	engine_open(plain);
	assert_true(at.has_path);
	assert_int_equal(at.healths, 1);
	submit(0, FERRY_OP_FLUSH, 0);
	assert_int_equal(at.path.count, 0); /* Nobody's yet. */
	look();
	assert_int_equal(at.path.count, 0); /* Node 2's. */
	at.view.is_in_force = false;
	own();
	assert_int_equal(at.path.count, 0);
	at.view.is_in_force = true;
	at.view.is_quorate = false;
	look();
	assert_int_equal(at.path.count, 0);
	assert_int_equal(at.results[0], 1); /* Held, all the while. */
	at.view.is_quorate = true;
	look();
	assert_int_equal(at.path.count, 1);
	stand_done(&at.path, 0);
	assert_int_equal(at.results[0], 0);
	at.view.is_quorate = false;
	look();
	submit(1, FERRY_OP_FLUSH, 0);
	run_ms(10);
	assert_int_equal(at.path.count, 1);
	assert_int_equal(at.results[1], 1);
}

/* Another owns it: nothing of ours may wait for better times. */
static void test_loses_the_pool(void **state)
{
	(void)state;
	engine_open(plain);
	own();
	at.view.is_quorate = false;
	look();
	submit(0, FERRY_OP_WRITE, 0);
	assert_int_equal(at.results[0], 1);
	at.view.epoch.v = 6;
	at.view.owner.v = 2;
	look();
	assert_int_equal(at.results[0], -ESHUTDOWN);
	submit(1, FERRY_OP_READ, 0);
	assert_int_equal(at.results[1], -ESHUTDOWN);
	at.view.epoch.v = 7;
	at.view.is_quorate = true;
	own();
	submit(2, FERRY_OP_FLUSH, 0);
	assert_int_equal(at.path.count, 1);
	stand_done(&at.path, 0);
}

/* Rule 15: held for so long, then failed, and from then on nothing is held. */
static void test_holds_for_a_time(void **state)
{
	(void)state;
	engine_open(plain);
	own();
	at.view.is_quorate = false;
	look();
	run_ms(9000);
	submit(0, FERRY_OP_WRITE, 0);
	run_ms(900);
	assert_int_equal(at.results[0], 1);
	run_ms(200);
	assert_int_equal(at.results[0], -ETIMEDOUT); /* The pool's time is over, not its own. */
	submit(1, FERRY_OP_WRITE, 0);
	run_ms(150);
	assert_int_equal(at.results[1], -ETIMEDOUT);
	at.view.is_quorate = true;
	look();
	run_ms(150);
	at.view.is_quorate = false;
	look();
	submit(2, FERRY_OP_WRITE, 0);
	run_ms(9500);
	assert_int_equal(at.results[2], 1); /* It begins anew. */
	run_ms(700);
	assert_int_equal(at.results[2], -ETIMEDOUT);
}

/* What is another's is not this node's to fail. */
static void test_another_may_take_its_time(void **state)
{
	(void)state;
	engine_open(plain);
	at.view.owner.v = 0;
	look();
	run_ms(11000);
	submit(0, FERRY_OP_WRITE, 0);
	run_ms(1000);
	assert_int_equal(at.results[0], 1);
}

/* ---- Time that passed unseen. ---- */

static void freeze(uint64_t ms)
{
	sim_loop_freeze(&at.stand.loop);
	run_ms(ms);
	sim_loop_wake(&at.stand.loop);
}

/* Frozen: meanwhile another may have become the owner. The group says, nobody else. */
static void test_wakes(void **state)
{
	(void)state;
	engine_open(plain);
	own();
	freeze(400);
	run_ms(1);
	assert_int_equal(at.word, 0); /* A hiccup. */
	submit(0, FERRY_OP_FLUSH, 0);
	assert_int_equal(at.path.count, 1);
	stand_done(&at.path, 0);
	freeze(600);
	submit(1, FERRY_OP_FLUSH, 0); /* Before its clock's own tick. */
	assert_int_equal(at.word, 1);
	assert_int_equal(at.path.count, 1);
	run_ms(1);
	assert_int_equal(at.word, 1);
	at.view.word = 0; /* From before it asked. */
	ferry_engine_set_view(&at.engine, &at.view);
	run_ms(1);
	assert_int_equal(at.path.count, 1);
	look();
	assert_int_equal(at.path.count, 2);
	stand_done(&at.path, 1);
	assert_int_equal(at.results[1], 0);
	freeze(600);
	run_ms(1);
	assert_int_equal(at.word, 2); /* By its clock alone. */
	submit(2, FERRY_OP_FLUSH, 0);
	assert_int_equal(at.path.count, 2);
}

/* Who hears the group hangs, and this thread runs: what it knows of the group is as old. */
static void test_group_is_unheard(void **state)
{
	(void)state;
	engine_open(plain);
	own();
	at.unheard_ns = 400 * FERRY_NS_PER_MS;
	run_ms(1000);
	assert_int_equal(at.word, 0);
	at.unheard_ns = 500 * FERRY_NS_PER_MS;
	submit(0, FERRY_OP_FLUSH, 0);
	assert_int_equal(at.word, 1);
	run_ms(1000);
	assert_int_equal(at.word, 1); /* Once is enough, however long. */
	assert_int_equal(at.path.count, 0);
	at.unheard_ns = 0;
	run_ms(1000);
	assert_int_equal(at.path.count, 0); /* It is back, and knows nothing yet. */
	look();
	assert_int_equal(at.path.count, 1);
	stand_done(&at.path, 0);
	assert_int_equal(at.results[0], 0);
	at.unheard_ns = 500 * FERRY_NS_PER_MS;
	run_ms(200);
	assert_int_equal(at.word, 2); /* By its clock alone. */
}

static void test_stale_view_registers_nobody(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.has_fence = true, .is_down = true});
	look();
	assert_null(asked(FERRY_FENCE_READ_KEYS));
	freeze(600);
	run_ms(1);
	assert_int_equal(at.word, 1);
	assert_false(at.engine.view.may_help || at.engine.view.may_register);
	at.path.path.is_up = true;
	at.path.path.on_state(&at.path.path, true, FERRY_CAUSE_NONE);
	run_ms(1);
	assert_null(asked(FERRY_FENCE_READ_KEYS));
	look();
	assert_non_null(asked(FERRY_FENCE_READ_KEYS));
	answer(FERRY_FENCE_READ_KEYS, -EIO);
}

static void test_wakes_alone(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.has_no_group = true});
	own();
	freeze(600);
	submit(0, FERRY_OP_FLUSH, 0);
	assert_int_equal(at.path.count, 1);
	stand_done(&at.path, 0);
}

/* The cache serves no more than the router does. */
static void test_cache_waits_too(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.has_cache = true, .peers_count = 2});
	own();
	submit(0, FERRY_OP_FLUSH, 0); /* What others wrote last is durable. */
	stand_done(&at.path, 0);
	at.path.count = 0;
	submit(0, FERRY_OP_READ, 0);
	run_ms(1);
	assert_false(ferry_engine_is_idle(&at.engine));
	for (uint32_t i = 0; i < at.path.count; i++)
		stand_done(&at.path, i);
	run_ms(1);
	assert_int_equal(at.results[0], 0);
	at.path.count = 0;
	submit(1, FERRY_OP_READ, 0);
	assert_false(ferry_engine_is_idle(&at.engine)); /* The hit is to be told yet. */
	run_ms(1);
	assert_int_equal(at.results[1], 0);
	assert_true(ferry_engine_is_idle(&at.engine));
	assert_int_equal(at.path.count, 0);
	freeze(600);
	submit(2, FERRY_OP_READ, 0);
	run_ms(1);
	assert_int_equal(at.results[2], 1);
}

/* ---- What it tells the group. ---- */

static void test_health(void **state)
{
	(void)state;
	engine_open(plain);
	own();
	assert_int_equal(at.healths, 1);
	at.path.path.is_up = false;
	at.path.path.on_state(&at.path.path, false, FERRY_CAUSE_PATH);
	run_ms(1);
	assert_int_equal(at.healths, 2);
	assert_false(at.has_path);
	run_ms(500);
	assert_int_equal(at.healths, 2);
	at.path.path.is_up = true;
	at.path.path.on_state(&at.path.path, true, FERRY_CAUSE_NONE);
	run_ms(1);
	assert_int_equal(at.path.count, 1);
	stand_done(&at.path, 0);
	run_ms(1);
	assert_int_equal(at.healths, 3);
	assert_true(at.has_path);
}

/* Nothing that was admitted under an older epoch is in flight here. */
static void test_drains(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.has_carrier = true, .peers_count = 2});
	own();
	assert_int_equal(at.drains, 1);
	submit(0, FERRY_OP_WRITE, 0);
	at.view.epoch.v = 6;
	look();
	assert_int_equal(at.drains, 2); /* Its own older I/O is its own. */
	at.view.epoch.v = 7;
	at.view.owner.v = 2;
	look();
	assert_int_equal(at.drains, 2);
	stand_done(&at.path, 0);
	look();
	assert_int_equal(at.drains, 3);
	assert_int_equal(at.drained, 7);
	look();
	assert_int_equal(at.drains, 3); /* Once. */

	at.path.count = 0;
	carry(1, 7);
	assert_int_equal(at.path.count, 1);
	at.view.epoch.v = 8;
	look();
	assert_int_equal(at.drains, 3);
	assert_false(ferry_engine_is_idle(&at.engine));
	stand_end(&at.path, 0, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(&at.path, 0); /* A ghost of epoch 7, for which the lun knows no cure. */
	run_ms(1);
	assert_int_equal(at.engine.carried.ghost_epoch.v, 7);
	assert_int_equal(at.drains, 3);
	at.engine.carried.ghost_epoch.v = 0; /* By the storage's promise. */
	look();
	assert_int_equal(at.drains, 4);
	assert_int_equal(at.drained, 8);
}

/* ---- Peers. ---- */

static void test_peers(void **state)
{
	(void)state;
	engine_open(plain);
	own();
	assert_ptr_equal(ferry_engine_peer(&at.engine, (struct ferry_node){2}), &at.peers[0].peer);
	assert_ptr_equal(ferry_engine_peer(&at.engine, (struct ferry_node){3}), &at.peers[1].peer);
	assert_null(ferry_engine_peer(&at.engine, (struct ferry_node){1}));
	assert_null(ferry_engine_peer(&at.engine, (struct ferry_node){4}));
	peer_up(0, 40);
	peer_up(1, 50);
	assert_true(ferry_lane_is_usable(&at.engine.router.lanes[1]));
	assert_true(ferry_lane_is_usable(&at.engine.router.lanes[2]));
	ferry_engine_set_peer_has_path(&at.engine, (struct ferry_node){3}, false);
	assert_true(ferry_lane_is_usable(&at.engine.router.lanes[1]));
	assert_false(ferry_lane_is_usable(&at.engine.router.lanes[2]));
	ferry_engine_set_peer_has_path(&at.engine, (struct ferry_node){3}, true);
	at.view.members.nodes[1].v = 3; /* Node 2 has left: what it said is old. */
	at.view.members.count = 2;
	look();
	assert_false(ferry_lane_is_usable(&at.engine.router.lanes[1]));
	assert_true(ferry_lane_is_usable(&at.engine.router.lanes[2]));
}

/*
 * The view has named a dead node before the time is up for what it was to carry: when that is given
 * up it is proven dead as well, and done by another path.
 */
static void test_dead_node_answers_late_or_never(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.peers_count = 1, .is_down = true});
	own();
	peer_up(0, 40);
	submit(0, FERRY_OP_WRITE, 0);
	run_ms(500);
	assert_non_null(sent(0, FERRY_WIRE_REQUEST));
	at.view.members.nodes[1].v = 3;
	at.view.members.count = 2;
	at.view.dead = (struct ferry_dead){.of = {{{2}, {FERRY_DEAD_ALL}}}, .count = 1};
	look();
	assert_int_equal(at.engine.router.stats.ghosts_made, 0);
	run_ms(600);
	assert_int_equal(at.engine.router.stats.ghosts_made, 1);
	assert_int_equal(at.engine.router.ghosts_count, 0);
	at.path.path.is_up = true;
	at.path.path.on_state(&at.path.path, true, FERRY_CAUSE_NONE);
	run_ms(1);
	stand_done(&at.path, 0); /* A probe. */
	run_ms(1);
	stand_done(&at.path, 1);
	assert_int_equal(at.results[0], 0);
}

/* A peer has a new agent, and what its last one had may still land: till the view says not. */
static void test_dead_agents_ghosts(void **state)
{
	(void)state;
	engine_open((struct engine_wish){.peers_count = 1, .is_down = true});
	own();
	peer_up(0, 40);
	submit(0, FERRY_OP_WRITE, 0);
	run_ms(500);
	peer_up(0, 41);
	assert_int_equal(at.engine.router.ghosts_count, 1);
	submit(1, FERRY_OP_WRITE, 64); /* By the new one, which does not answer. */
	run_ms(1100);
	assert_int_equal(at.engine.router.ghosts_count, 2);
	at.view.dead = (struct ferry_dead){.of = {{{2}, {40}}}, .count = 1};
	look();
	assert_int_equal(at.engine.router.ghosts_count, 2);
	at.view.dead.of[0].before.v = 41;
	look();
	assert_int_equal(at.engine.router.ghosts_count, 1);
	at.view.dead.of[0].before.v = 42;
	look();
	assert_int_equal(at.engine.router.ghosts_count, 0);
}

/* Of two nodes each can think itself the majority; of three none can. */
static void test_majority_is_real(void **state)
{
	(void)state;
	for (uint32_t peers = 0; peers < 2; peers++) {
		engine_open((struct engine_wish){.has_cache = true, .peers_count = peers});
		assert_false(at.engine.cache.config.is_majority_real);
		assert_int_equal(engine_teardown(NULL), 0);
	}
	engine_open((struct engine_wish){.has_cache = true, .peers_count = 2});
	assert_true(at.engine.cache.config.is_majority_real);
}

static void test_too_many_peers(void **state)
{
	struct ferry_link link = {.ops = at.peers[0].link.ops, .node = {9}};
	struct ferry_peer_config config = {.self = {1}, .incarnation = {2}};
	static struct ferry_peer others[FERRY_LANES_MAX];

	(void)state;
	engine_open(plain);
	config.loop = &at.stand.loop.loop;
	for (uint32_t i = 3; i <= FERRY_LANES_MAX; i++) {
		assert_int_equal(ferry_peer_init(&others[i - 3], &at.stand.region, &link, &config),
				 0);
		assert_int_equal(ferry_engine_add_peer(&at.engine, &others[i - 3]),
				 i == FERRY_LANES_MAX ? -ENOSPC : 0);
	}
}

/* The next owner asks for what the cache has: if there is one, and who says. */
static void test_warms(void **state)
{
	struct ferry_segments none = {0};

	(void)state;
	engine_open((struct engine_wish){.has_carrier = true});
	assert_int_equal(at.engine.carried.warm(&at.engine.carried, 77, &at.stand.arena, &none),
			 -ENODATA);
	assert_int_equal(at.warms, 0);
	assert_int_equal(engine_teardown(NULL), 0);
	engine_open((struct engine_wish){.has_carrier = true, .has_cache = true});
	assert_int_equal(at.engine.carried.warm(&at.engine.carried, 77, &at.stand.arena, &none), 0);
	at.engine.config.on_warm = NULL;
	assert_int_equal(at.engine.carried.warm(&at.engine.carried, 77, &at.stand.arena, &none),
			 -ENODATA);
	assert_int_equal(at.warms, 1);
}

/* What it says that it takes is enough, and what it takes. */
static void test_memory(void **state)
{
	struct ferry_engine_config config;
	struct ferry_engine *engine = sim_alloc(sizeof(*engine));
	struct stand_path path;
	struct ferry_region region;

	(void)state;
	engine_open((struct engine_wish){.has_cache = true});
	config = at.engine.config;
	for (int with_cache = 0; with_cache < 2; with_cache++) {
		size_t bytes;
		void *memory;

		config.cache_lines_max = with_cache ? at.engine.config.cache_lines_max : 0;
		stand_path_init(&path, FERRY_PATH_LOCAL, 1, true);
		config.path = &path.path;
		bytes = ferry_engine_memory_bytes(&config);
		memory = sim_alloc(bytes);
		ferry_region_init(&region, memory, bytes);
		assert_int_equal(ferry_engine_open(engine, &region, &config), 0);
		ferry_engine_done(engine);
		if (with_cache) { /* No room for it, but for the rest. */
			config.cache_lines_max = 0;
			bytes = ferry_engine_memory_bytes(&config);
			config.cache_lines_max = at.engine.config.cache_lines_max;
		} else {
			bytes /= 2;
		}
		ferry_region_init(&region, memory, bytes);
		assert_int_equal(ferry_engine_open(engine, &region, &config), -ENOMEM);
		ferry_task_cancel(config.loop, &engine->news_task);
		ferry_timer_stop(config.loop, &engine->tick_timer);
		free(memory);
	}
	free(engine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_teardown(name, engine_teardown)
		TEST(test_serves_what_it_owns),
		TEST(test_loses_the_pool),
		TEST(test_holds_for_a_time),
		TEST(test_another_may_take_its_time),
		TEST(test_wakes),
		TEST(test_group_is_unheard),
		TEST(test_stale_view_registers_nobody),
		TEST(test_wakes_alone),
		TEST(test_cache_waits_too),
		TEST(test_health),
		TEST(test_drains),
		TEST(test_peers),
		TEST(test_dead_node_answers_late_or_never),
		TEST(test_dead_agents_ghosts),
		TEST(test_majority_is_real),
		TEST(test_too_many_peers),
		TEST(test_warms),
		TEST(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
