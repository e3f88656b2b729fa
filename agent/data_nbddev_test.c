/*
 * What outlives an agent, for whatever front end: the decision; and what is said of a device of the
 * kernel's NBD client.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/data_internal.h"

static struct ferry_data data;
static struct data_pool *const pool = &data.pools[0];
static struct ferry_data_pool config;
static struct ferry_fence fence;
static uint32_t clients;
static int adopted;    /* The descriptor. */
static char somewhere; /* What is only compared with NULL. */

/* ---- The front end and the wiring around it. ---- */

uint32_t ferry_nbd_server_export_clients(const struct ferry_nbd_server *server, const char *name)
{
	(void)server;
	assert_string_equal(name, "v");
	return clients;
}

int ferry_nbd_server_adopt(struct ferry_nbd_server *server, const char *name, int fd)
{
	(void)server;
	assert_string_equal(name, "v");
	adopted = fd;
	return 0;
}

void data_pool_say_soon(struct data_pool *which, uint32_t what)
{
	which->due |= what;
}

static int setup(void **state)
{
	(void)state;
	memset(&data, 0, sizeof(data));
	config = (struct ferry_data_pool){.volume = "v"};
	clients = 0;
	data.nbd = (struct ferry_nbd_server *)(void *)&somewhere;
	data.config.self.v = 1;
	pool->data = &data;
	pool->config = &config;
	pool->is_open = true;
	return 0;
}

/* ---- Tests. ---- */

static void test_decision_in_a_cluster(void **state)
{
	(void)state;
	config.is_shared = true;
	assert_false(data_may_recover(pool)); /* Nothing proves dead what was sent before. */
	pool->engine.config.fence = &fence;
	assert_true(data_may_recover(pool));
	/* What a path's cache has of the earlier agent's no FLUSH of this one covers. */
	pool->engine.config.flushes_by_path = true;
	assert_false(data_may_recover(pool));
}

static void test_decision_alone(void **state)
{
	(void)state;
	assert_true(data_may_recover(pool));
	pool->iscsi = (struct ferry_iscsi *)(void *)&somewhere;
	assert_false(data_may_recover(pool));
}

static void test_lost(void **state)
{
	(void)state;
	pool->view.is_in_force = true;
	pool->view.owner.v = 1;
	assert_false(data_is_lost(pool));
	pool->view.owner.v = 2;
	assert_true(data_is_lost(pool));
	pool->view.is_in_force = false;
	assert_false(data_is_lost(pool));
	pool->view.is_in_force = true;
	pool->is_shown = true; /* This agent's own: its users have their errors from it. */
	assert_false(data_is_lost(pool));
}

static bool is_said(bool *ret_goes_on)
{
	bool is_due = pool->due & DATA_DUE_NBDDEV;

	pool->due = 0;
	*ret_goes_on = !pool->nbddev_ends;
	return is_due;
}

static void test_shown(void **state)
{
	bool goes_on;

	(void)state;
	data_nbddev_show(pool);
	assert_true(is_said(&goes_on) && goes_on);
	pool->engine.config.flushes_by_path = true;
	data_nbddev_show(pool);
	assert_true(is_said(&goes_on) && !goes_on);
	pool->engine.config.flushes_by_path = false;
	data_nbddev_show(pool); /* What was to be ended is not taken up by the same agent. */
	assert_true(is_said(&goes_on) && !goes_on);
	data.nbd = NULL;
	data_nbddev_show(pool);
	assert_false(is_said(&goes_on));
}

/* Another node serves while it waits: it ends, once, and does not come back with the pool. */
static void test_another_serves(void **state)
{
	bool goes_on;

	(void)state;
	pool->view.is_in_force = true;
	pool->view.owner.v = 1;
	data_nbddev_view(pool);
	assert_false(is_said(&goes_on));
	pool->view.owner.v = 2;
	data_nbddev_view(pool);
	assert_true(is_said(&goes_on) && !goes_on);
	data_nbddev_view(pool);
	assert_false(is_said(&goes_on));
	data_nbddev_show(pool);
	assert_true(is_said(&goes_on) && !goes_on);
}

static void test_hidden(void **state)
{
	bool goes_on;

	(void)state;
	assert_false(data_nbddev_stays(pool)); /* Nobody has it. */
	clients = 1;
	assert_true(data_nbddev_stays(pool));
	data_nbddev_hidden(pool, /* stays= */ true);
	assert_false(is_said(&goes_on));
	/* Its flushes fail here; with the next agent they would succeed. */
	pool->engine.router.flush.is_suspect = true;
	assert_false(data_nbddev_stays(pool));
	data_nbddev_hidden(pool, /* stays= */ true);
	assert_true(is_said(&goes_on) && !goes_on);
	pool->engine.router.flush.is_suspect = pool->nbddev_ends = false;
	data_nbddev_hidden(pool, /* stays= */ false);
	assert_true(is_said(&goes_on) && !goes_on);
}

static void test_adopted(void **state)
{
	const struct ferry_mail mail = {.kind = FERRY_MAIL_ADOPT, .fd = 7};

	(void)state;
	data_nbddev_mail(pool, &mail);
	assert_int_equal(adopted, 7);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_decision_in_a_cluster),
		TEST(test_decision_alone),
		TEST(test_lost),
		TEST(test_shown),
		TEST(test_another_serves),
		TEST(test_hidden),
		TEST(test_adopted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
