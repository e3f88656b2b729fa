/* A link comes up for who proves itself, and anew. */
#include "agent/adapters/verbs/verbs_stand.h"

#include <time.h>

enum { STEPS_MAX = 6 };

/* So that what is under way in the kernel gets there. */
static void wait_quietly(void)
{
	(void)nanosleep(&(struct timespec){.tv_nsec = 2 * (long)FERRY_NS_PER_MS}, NULL);
}

static void comes_up(void **state)
{
	struct world *world = *state;

	all_up(world);
	assert_string_equal(ferry_verbs_trouble(world->side[0].asks.link), "");
	wait_ns(world, 2 * DEAD_AFTER_NS); /* Idle, and not dead. */
	assert_int_equal(world->side[0].asks.downs + world->side[1].serves.downs, 0);
	assert_true(ferry_verbs_counters(world->side[0].asks.link).messages_received > 0);
}

static void only_who_proves_itself(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct ferry_rdma_secret wrong;

	all_up(world);
	memset(wrong.v, 'w', sizeof(wrong.v));
	ferry_verbs_enable(asks->link, &wrong);
	assert_true(asks->has_up); /* It is not asked again who it is. */
	asks->link->ops->reset(asks->link, "the test");
	WAIT(world, asks->downs == 1);
	WAIT(world, world->refused_events >= 2);
	assert_false(asks->has_up);
	assert_non_null(strstr(world->last.text, "node 1 does not prove itself"));
	assert_non_null(strstr(ferry_verbs_trouble(asks->link), "refused"));
	world->has_no_secret = true;
	ferry_verbs_enable(asks->link, &world->secret);
	WAIT(world, strstr(world->last.text, "no connection by TCP"));
	world->has_no_secret = false;
	WAIT(world, asks->has_up && serves->has_up);
	/* A number that was used is used up. */
	verbs_link_of(serves->link)->number += 1000;
	asks->link->ops->reset(asks->link, "the test");
	WAIT(world, strstr(world->last.text, "an old one"));
	assert_false(asks->has_up);
	only_one_fell(world);
}

static void connects_anew(void **state)
{
	struct world *world = *state;
	struct side *far = &world->side[1];
	struct end *asks = &world->side[0].asks;
	uint16_t port = ferry_verbs_port(far->verbs);

	all_up(world);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(request(asks, FERRY_OP_WRITE, LARGE_BLOCKS), 0);
	far->verbs = ferry_verbs_close(far->verbs); /* The peer dies. */
	WAIT(world, asks->downs == 1);
	assert_int_equal(asks->busy, 0);
	assert_int_equal(asks->whole + asks->nothing + asks->unsure, 10);
	assert_int_equal(request(asks, FERRY_OP_WRITE, 1), -ENOTCONN);
	far->incarnation++;
	assert_int_equal(side_open(far, port, NULL), 0);
	WAIT(world, asks->ups == 2 && far->serves.has_up);
	assert_int_equal(request(asks, FERRY_OP_WRITE, LARGE_BLOCKS), 0);
	WAIT(world, asks->messages > 0 && asks->busy == 0);
	ferry_verbs_enable(asks->link, NULL);
	WAIT(world, asks->downs == 2 && far->serves.downs == 2);
	side_connect(far, &world->side[0]);
}

/* One turn of the loop, what the device and its connections have to say first. */
static void turn_once(struct world *world)
{
	wait_quietly();
	ferry_timer_start_in(world->loop, &world->pause, 0);
	assert_int_equal(ferry_uring_loop_run(world->uring), 0);
}

/*
 * It is given up between two steps of the greeting, of which the next one's news has come already.
 */
static void given_up_while_it_greets(void **state)
{
	struct world *world = *state;
	struct verbs_link *ends[2];

	all_up(world);
	ends[0] = verbs_link_of(world->side[0].asks.link);
	ends[1] = verbs_link_of(world->side[1].serves.link);
	for (uint32_t i = 0; i < 2 * STEPS_MAX; i++) {
		struct verbs_link *link = ends[i % 2];

		WAIT(world, world->side[0].asks.has_up && world->side[1].serves.has_up);
		verbs_link_cut(ends[0], "the test");
		for (uint32_t j = 0; j < 5000 && link->state != VERBS_LINK_GREETING; j++)
			turn_once(world);
		assert_int_equal(link->state, VERBS_LINK_GREETING);
		for (uint32_t j = 0; j < i / 2; j++)
			turn_once(world);
		wait_quietly();
		verbs_link_cut(link, "the test");
		turn_once(world);
	}
	WAIT(world, world->side[0].asks.has_up && world->side[1].serves.has_up);
}

/* The TCP connection that it was proven by is over before it stands, and another one is up. */
static void proven_by_a_connection_that_is_over(void **state)
{
	struct world *world = *state;
	struct verbs_link *serves;
	uint32_t ups;

	all_up(world);
	serves = verbs_link_of(world->side[1].serves.link);
	ups = world->side[1].serves.ups;
	verbs_link_cut(verbs_link_of(world->side[0].asks.link), "the test");
	for (uint32_t i = 0; i < 5000 && serves->state != VERBS_LINK_GREETING; i++)
		turn_once(world);
	assert_int_equal(serves->state, VERBS_LINK_GREETING);
	world->secret.v[0] ^= 1;
	WAIT(world, serves->state == VERBS_LINK_DOWN);
	assert_non_null(strstr(serves->why, "refused"));
	assert_int_equal(world->side[1].serves.ups, ups);
	world->secret.v[0] ^= 1;
	WAIT(world, world->side[0].asks.has_up && world->side[1].serves.has_up);
}

static void wrong_configuration(void **state)
{
	struct world *world = *state;
	struct ferry_verbs *verbs = NULL;
	struct ferry_error error = {};
	struct ferry_verbs_config config = {
		.loop = world->loop,
		.auth = world->auth,
		.self = {{3}, {30}},
		.address = "127.0.0.1",
		.memory = world->side[0].memory,
		.memory_bytes = ARENA_BYTES,
		.links_max = 1,
		.secret = side_secret,
		.accept = side_accept,
	};

	assert_int_equal(ferry_verbs_open(&config, &verbs, &error), -ENODEV);
	assert_non_null(strstr(error.message, "no RDMA device has this address"));
	config.address = "a name";
	assert_int_equal(ferry_verbs_open(&config, &verbs, &error), -EINVAL);
	assert_null(verbs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(comes_up),
		TEST(only_who_proves_itself),
		TEST(connects_anew),
		TEST(given_up_while_it_greets),
		TEST(proven_by_a_connection_that_is_over),
		TEST(wrong_configuration),
	};

	return STAND_RUN(tests);
}
