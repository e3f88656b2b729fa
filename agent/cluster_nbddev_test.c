/* What becomes of a device that an agent has left, on the cluster thread: asked again, in time. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/nbddev/nbddev.h"
#include "agent/cluster_internal.h"
#include "tests/sim/core_stand.h"

static struct stand stand;
static struct ferry_cluster cluster;
static struct ferry_config_pool config_pool;
static struct ferry_config_volume volume;
static struct cluster_pool *const pool = &cluster.pools[0];
static int answer;   /* Of the kernel: of the next question; 1 for a return: a connection. */
static bool is_slow; /* It answers when the test says so. */
static uint32_t returns, ends, dones, closes;
static struct ferry_nbddev_question asked;
static struct ferry_task answer_task;
static struct ferry_nbddev_asking *const asking = (struct ferry_nbddev_asking *)&asked;
static int other_end; /* Of the connection that the kernel has. */
static struct ferry_mail told;

/* ---- The kernel, and the wiring around it. ---- */

static ferry_nbddev_answered_fn *on_answer;

static void answer_run(struct ferry_task *task)
{
	int pair[2] = {-1, -1};

	(void)task;
	if (asked.goes_on && answer >= 0) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		if (other_end >= 0)
			assert_int_equal(close(other_end), 0);
		other_end = pair[0];
	}
	on_answer(pool, answer, pair[1]);
}

int ferry_nbddev_ask(struct ferry_loop *loop, const struct ferry_nbddev_question *question,
		     ferry_nbddev_answered_fn *answered, void *context,
		     struct ferry_nbddev_asking **ret)
{
	assert_ptr_equal(context, pool);
	assert_null(pool->nbddev_asking); /* One at a time. */
	assert_string_equal(question->uri, "uri of v");
	asked = *question;
	returns += question->goes_on;
	ends += !question->goes_on;
	if (answer == -ENOMEM)
		return answer;
	on_answer = answered;
	answer_task.run = answer_run;
	if (!is_slow)
		ferry_task_post(loop, &answer_task);
	*ret = asking;
	return 0;
}

struct ferry_nbddev_asking *ferry_nbddev_ask_close(struct ferry_nbddev_asking *closed)
{
	closes += closed == asking;
	return NULL;
}

void control_uri_of(const struct ferry_cluster *of, const char *name, char *ret, size_t size_bytes)
{
	(void)of;
	(void)snprintf(ret, size_bytes, "uri of %s", name);
}

void cluster_pool_tell(struct cluster_pool *of, struct ferry_mail mail)
{
	assert_ptr_equal(of, pool);
	told = mail;
}

void cluster_pool_nbddev_done(struct cluster_pool *of)
{
	assert_ptr_equal(of, pool);
	assert_false(of->is_nbddev_due);
	dones++;
}

void ferry_log(enum ferry_severity severity, const char *format, ...)
{
	(void)severity;
	(void)format;
}

static int setup(void **state)
{
	(void)state;
	stand_open(&stand);
	memset(&cluster, 0, sizeof(cluster));
	volume = (struct ferry_config_volume){.name = "v"};
	cluster.loop = &stand.loop.loop;
	cluster.self.v = 1;
	pool->cluster = &cluster;
	pool->config = &config_pool;
	pool->volume = &volume;
	pool->identity.size_blocks = 256;
	pool->identity.block_bytes = 4096;
	told = (struct ferry_mail){0};
	returns = ends = dones = closes = 0;
	is_slow = false;
	other_end = -1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cluster_nbddev_close(pool);
	if (other_end >= 0)
		(void)close(other_end);
	stand_close(&stand);
	return 0;
}

static void decided(bool goes_on)
{
	const struct ferry_mail mail = {.kind = FERRY_MAIL_NBDDEV, .flag = goes_on};

	cluster_nbddev_mail(pool, &mail);
}

/* ---- Tests. ---- */

/* The kernel has not let go of the agent before: later it has, and the data thread gets its end. */
static void test_goes_on(void **state)
{
	(void)state;
	answer = -EAGAIN;
	decided(true);
	stand_run_ms(&stand, 1000);
	assert_true(returns > 2 && pool->is_nbddev_due);
	assert_int_equal(dones, 0);
	assert_int_equal(told.kind, 0);
	answer = 0;
	stand_run_ms(&stand, 1000);
	assert_int_equal(dones, 1);
	assert_int_equal(ends, 0);
	assert_int_equal(told.kind, FERRY_MAIL_ADOPT);
	assert_true(fcntl(told.fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(asked.shape.size_bytes, 1 << 20);
	assert_int_equal(asked.shape.block_bytes, 4096);
	assert_int_equal(close(told.fd), 0);
	returns = 0;
	stand_run_ms(&stand, 10000);
	assert_int_equal(returns, 0);
}

static void test_none(void **state)
{
	(void)state;
	answer = -ENOENT;
	decided(true);
	stand_run_ms(&stand, 1);
	assert_int_equal(dones, 1);
	answer = 0;
	decided(false);
	stand_run_ms(&stand, 1);
	assert_int_equal(dones, 2);
	assert_int_equal(told.kind, 0);
}

/* It belongs to somebody else: nobody waits for it for ever. */
static void test_gives_up(void **state)
{
	(void)state;
	answer = -EAGAIN;
	decided(true);
	stand_run_ms(&stand, 10000);
	assert_int_equal(dones, 1);
	returns = 0;
	stand_run_ms(&stand, 10000);
	assert_int_equal(returns, 0);
}

/* The pool is given up before the kernel has let go: from now on it is only to be ended. */
static void test_ends_after_all(void **state)
{
	(void)state;
	answer = -EAGAIN;
	decided(true);
	stand_run_ms(&stand, 200);
	decided(false);
	stand_run_ms(&stand, 1);
	returns = 0;
	answer = 1;
	stand_run_ms(&stand, 1000);
	assert_int_equal(returns, 0);
	assert_int_equal(ends, 2);
	assert_int_equal(dones, 1);
	assert_int_equal(told.kind, 0);
}

/* It is given up while the kernel makes up its mind: what it has taken it loses, and is ended. */
static void test_ends_while_asked(void **state)
{
	char byte;

	(void)state;
	is_slow = true;
	answer = 0;
	decided(true);
	decided(false);
	assert_int_equal(returns + ends, 1);
	assert_true(pool->is_nbddev_due);
	answer_run(&answer_task);
	assert_int_equal(told.kind, 0);
	assert_int_equal(read(other_end, &byte, 1), 0); /* Closed. */
	assert_int_equal(ends, 1);
	assert_int_equal(dones, 0);
	answer = 1;
	answer_run(&answer_task);
	assert_int_equal(dones, 1);
	assert_int_equal(told.kind, 0);
}

/* No memory, no threads: later there are; and who stops does not wait for ever. */
static void test_cannot_ask(void **state)
{
	(void)state;
	answer = -ENOMEM;
	decided(false);
	stand_run_ms(&stand, 200);
	assert_true(ends > 2);
	assert_int_equal(dones, 0);
	answer = 0;
	is_slow = true;
	stand_run_ms(&stand, 200);
	cluster_nbddev_close(pool);
	assert_int_equal(closes, 1);
	assert_null(pool->nbddev_asking);
	assert_int_equal(dones, 0);
}

/* Another lun, pool's history, tenure or node: another device. */
static void test_label(void **state)
{
	char first[FERRY_CONTROL_NAME_BYTES], other[FERRY_CONTROL_NAME_BYTES];

	(void)state;
	answer = -ENOENT;
	decided(true);
	stand_run_ms(&stand, 1);
	cluster_nbddev_label(pool, first, sizeof(first));
	assert_string_equal(first, asked.label);
	assert_int_equal(strlen(first), 16);
	memset(&pool->identity.uuid, 1, sizeof(pool->identity.uuid));
	cluster_nbddev_label(pool, other, sizeof(other));
	assert_string_not_equal(first, other);
	memset(&pool->identity.uuid, 0, sizeof(pool->identity.uuid));
	cluster.self.v = 2;
	cluster_nbddev_label(pool, other, sizeof(other));
	assert_string_not_equal(first, other);
	cluster.self.v = 1;
	memset(&cluster.data_lineages[0], 1, sizeof(cluster.data_lineages[0]));
	cluster_nbddev_label(pool, other, sizeof(other));
	assert_string_not_equal(first, other);
	memset(&cluster.data_lineages[0], 0, sizeof(cluster.data_lineages[0]));
	cluster_nbddev_label(pool, other, sizeof(other));
	assert_string_equal(first, other);
	pool->tenure.v++; /* Another node has served it in between. */
	cluster_nbddev_label(pool, other, sizeof(other));
	assert_string_not_equal(first, other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_goes_on),
		TEST(test_none),
		TEST(test_gives_up),
		TEST(test_ends_after_all),
		TEST(test_ends_while_asked),
		TEST(test_cannot_ask),
		TEST(test_label),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
