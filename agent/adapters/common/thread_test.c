/* thread_test.c - a new thread hears of no signal but its own crashes; its maker hears as before.
 */
#include "agent/adapters/common/thread.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

enum { STACK_BYTES = 256 * 1024 };

struct seen {
	sigset_t mask;
	size_t stack_bytes;
};

static void *look(void *context)
{
	struct seen *seen = context;
	pthread_attr_t attributes;

	(void)pthread_sigmask(SIG_SETMASK, NULL, &seen->mask);
	if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
		(void)pthread_attr_getstacksize(&attributes, &seen->stack_bytes);
		(void)pthread_attr_destroy(&attributes);
	}
	return context;
}

static struct seen start_and_look(size_t stack_bytes)
{
	struct seen seen = {0};
	pthread_t thread;
	void *answer = NULL;

	assert_int_equal(ferry_thread_start(&thread, stack_bytes, look, &seen), 0);
	assert_int_equal(pthread_join(thread, &answer), 0);
	assert_ptr_equal(answer, &seen);
	return seen;
}

static void test_signals(void **state)
{
	static const int blocked[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGPIPE};
	static const int open[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	struct seen seen = start_and_look(STACK_BYTES);
	sigset_t own;

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(blocked); i++)
		assert_int_equal(sigismember(&seen.mask, blocked[i]), 1);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(open); i++)
		assert_int_equal(sigismember(&seen.mask, open[i]), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &own), 0);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(blocked); i++)
		assert_int_equal(sigismember(&own, blocked[i]), 0);
}

static void test_stacks(void **state)
{
	pthread_t thread = pthread_self();
	struct seen small = start_and_look(STACK_BYTES);
	struct seen usual = start_and_look(0);

	(void)state;
	assert_in_range(small.stack_bytes, STACK_BYTES, 2 * STACK_BYTES);
	assert_true(usual.stack_bytes > small.stack_bytes);
	assert_int_equal(ferry_thread_start(&thread, 1, look, NULL), -EINVAL);
	assert_int_not_equal(pthread_equal(thread, pthread_self()), 0); /* Untouched. */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_stacks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
