/* thread.c - the attributes and the signal mask that a new thread is given. */
#include "agent/adapters/common/thread.h"

#include <signal.h>

static int attributes_make(pthread_attr_t *ret, size_t stack_bytes)
{
	int r = -pthread_attr_init(ret);

	if (r < 0 || stack_bytes == 0)
		return r;
	r = -pthread_attr_setstacksize(ret, stack_bytes);
	if (r < 0)
		(void)pthread_attr_destroy(ret);
	return r;
}

static void mask_make(sigset_t *ret)
{
	static const int crashes[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};

	(void)sigfillset(ret);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(crashes); i++)
		(void)sigdelset(ret, crashes[i]); /* Blocked, they would end it without a word. */
}

int ferry_thread_start(pthread_t *ret, size_t stack_bytes, void *(*run)(void *context),
		       void *context)
{
	pthread_attr_t attributes;
	sigset_t blocked, old;
	pthread_t thread;
	int r;

	ferry_assert(ret);
	ferry_assert(run);
	r = attributes_make(&attributes, stack_bytes);
	if (r < 0)
		return r;
	mask_make(&blocked);
	(void)pthread_sigmask(SIG_SETMASK, &blocked, &old); /* A thread begins with its maker's. */
	r = -pthread_create(&thread, &attributes, run, context);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)pthread_attr_destroy(&attributes);
	if (r < 0)
		return r;
	*ret = thread;
	return 0;
}
