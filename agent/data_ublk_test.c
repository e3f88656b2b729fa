/* Which device of an earlier agent may go on, and which stays for the next one. */
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
static struct ferry_ublk_volume shown;
static char done_by[8]; /* What was done: 'a'dd, 'r'emove, 'l'eave. */

static void (*on_left_now)(void *context);
static void (*on_removed_now)(void *context);

static void did(char what)
{
	assert_true(strlen(done_by) + 1 < sizeof(done_by));
	done_by[strlen(done_by)] = what;
}

/* ---- The front end and the wiring around it. ---- */

int ferry_uring_commands_open(struct ferry_uring_loop *loop, struct ferry_uring_commands **ret,
			      struct ferry_error *reterr)
{
	(void)loop;
	*ret = NULL;
	return ferry_error_set(reterr, -EINVAL, "not asked here");
}

struct ferry_commands *ferry_uring_commands_of(struct ferry_uring_commands *commands)
{
	(void)commands;
	return NULL;
}

int ferry_ublk_open(const struct ferry_ublk_config *ublk, struct ferry_ublk **ret,
		    struct ferry_error *reterr)
{
	(void)ublk;
	*ret = NULL;
	return ferry_error_set(reterr, -EINVAL, "not asked here");
}

int ferry_ublk_add(struct ferry_ublk *ublk, const struct ferry_ublk_volume *volume,
		   struct ferry_error *reterr)
{
	(void)ublk;
	(void)reterr;
	shown = *volume;
	did('a');
	return 0;
}

void ferry_ublk_attach(struct ferry_ublk *ublk, struct ferry_block *block,
		       void (*on_done)(int error, const char *text, void *context), void *context)
{
	(void)ublk;
	(void)block;
	on_done(0, "/dev/ublkb0", context);
}

void ferry_ublk_detach(struct ferry_ublk *ublk, struct ferry_block *block,
		       void (*on_done)(int error, const char *text, void *context), void *context)
{
	(void)ublk;
	(void)block;
	on_done(0, "", context);
}

int ferry_ublk_remove(struct ferry_ublk *ublk, struct ferry_block *block,
		      void (*on_removed)(void *context), void *context)
{
	(void)ublk;
	on_removed_now = on_removed;
	(void)context;
	assert_ptr_equal(block, ferry_engine_block(&pool->engine));
	did('r');
	return 0;
}

int ferry_ublk_leave(struct ferry_ublk *ublk, struct ferry_block *block,
		     void (*on_left)(void *context), void *context)
{
	(void)ublk;
	on_left_now = on_left;
	assert_ptr_equal(context, pool);
	assert_ptr_equal(block, ferry_engine_block(&pool->engine));
	did('l');
	return 0;
}

const char *ferry_ublk_device(const struct ferry_ublk *ublk, const struct ferry_block *block)
{
	(void)ublk;
	(void)block;
	return "";
}

void data_pool_say_soon(struct data_pool *which, uint32_t what)
{
	which->due |= what;
}

/* ---- Tests. ---- */

static char somewhere; /* What is only compared with NULL. */

static int setup(void **state)
{
	(void)state;
	memset(&data, 0, sizeof(data));
	memset(&config, 0, sizeof(config));
	memset(done_by, 0, sizeof(done_by));
	data.ublk = (struct ferry_ublk *)(void *)&somewhere;
	pool->data = &data;
	pool->config = &config;
	pool->is_open = true;
	return 0;
}

static bool is_recovered(void)
{
	shown.may_recover = false;
	pool->tenure.v++;
	data_ublk_show(pool);
	assert_int_equal(shown.label.tenure.v, pool->tenure.v);
	return shown.may_recover;
}

static void test_shared(void **state)
{
	(void)state;
	config.is_shared = true;
	assert_false(is_recovered()); /* Nothing proves dead what was sent before. */
	pool->engine.config.fence = &fence;
	assert_true(is_recovered());
	/* What a path's cache has of the earlier agent's no FLUSH of this one covers. */
	pool->engine.config.flushes_by_path = true;
	assert_false(is_recovered());
}

static void test_alone(void **state)
{
	(void)state;
	assert_true(is_recovered());
	pool->iscsi = (struct ferry_iscsi *)(void *)&somewhere;
	assert_false(is_recovered());
}

static void test_stays(void **state)
{
	(void)state;
	assert_true(data_ublk_hide(pool, /* stays= */ true, NULL));
	assert_string_equal(done_by, "l");
	assert_true(data_ublk_hide(pool, /* stays= */ false, NULL));
	assert_string_equal(done_by, "lr");
	/* Its flushes fail here; with the next agent they would succeed. */
	pool->engine.router.flush.is_suspect = true;
	assert_true(data_ublk_hide(pool, /* stays= */ true, NULL));
	assert_string_equal(done_by, "lrr");
	data.ublk = NULL;
	assert_false(data_ublk_hide(pool, /* stays= */ true, NULL));
}

static void hidden(void *context)
{
	assert_ptr_equal(context, pool);
	did('h');
}

/* What ends while it is left may tell of a loss: the next agent's FLUSH would hide it. */
static void test_lost_while_leaving(void **state)
{
	(void)state;
	assert_true(data_ublk_hide(pool, /* stays= */ true, hidden));
	on_left_now(pool);
	assert_string_equal(done_by, "lh");
	assert_true(data_ublk_hide(pool, /* stays= */ true, hidden));
	pool->engine.router.flush.is_suspect = true;
	on_left_now(pool);
	assert_string_equal(done_by, "lhlr");
	on_removed_now(pool);
	assert_string_equal(done_by, "lhlrh");
}

/* Another node serves the pool: once, what is left here goes. */
static void test_cleared(void **state)
{
	(void)state;
	data.config.self.v = 1;
	pool->view.is_in_force = true;
	pool->view.owner.v = 1;
	data_ublk_view(pool);
	assert_string_equal(done_by, "");
	pool->view.owner.v = 2;
	data_ublk_view(pool);
	assert_string_equal(done_by, "ar");
	assert_false(shown.may_recover);
	data_ublk_view(pool);
	assert_string_equal(done_by, "ar");
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shared),  TEST(test_alone),
		TEST(test_stays),   TEST(test_lost_while_leaving),
		TEST(test_cleared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
