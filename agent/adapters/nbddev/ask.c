/* ask.c - what an agent asks of devices on a thread of its own: the kernel may wait. */
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/adapters/common/thread.h"
#include "agent/adapters/nbddev/private.h"

enum { STACK_BYTES = 256 * 1024, CLOSE_WAIT_MS = 2000 };

struct ferry_nbddev_asking {
	atomic_uint references; /* The asker's and the thread's. */
	const struct nbddev_kernel *kernel;
	struct ferry_nbddev_question question;
	int answer;
	int fd;	     /* With the answer; -1: none. */
	int done_fd; /* eventfd: answer and fd are there. */

	/* The asker's alone. */
	struct ferry_loop *loop;
	struct ferry_watch watch; /* done_fd */
	pthread_t thread;
	ferry_nbddev_answered_fn *on_answer;
	void *context;
};

static void asking_unref(struct ferry_nbddev_asking *asking)
{
	if (!asking || atomic_fetch_sub(&asking->references, 1) > 1)
		return;
	if (asking->fd >= 0)
		(void)close(
			asking->fd); /* Nobody took it: the device's connection is dead again. */
	if (asking->done_fd >= 0)
		(void)close(asking->done_fd);
	free(asking);
}

static void asking_unrefp(struct ferry_nbddev_asking **asking)
{
	asking_unref(*asking);
}

static void *thread_run(void *context)
{
	struct ferry_nbddev_asking *asking = context;
	const struct ferry_nbddev_question *question = &asking->question;
	const uint64_t one = 1;
	ssize_t length;

	asking->answer = question->goes_on
				 ? nbddev_return(asking->kernel, question->uri, question->label,
						 &question->shape, &asking->fd)
				 : nbddev_end(asking->kernel, question->uri);
	do {
		length = write(asking->done_fd, &one, sizeof(one));
	} while (length < 0 && errno == EINTR);
	ferry_assert(length == sizeof(one));
	asking_unref(asking);
	return NULL;
}

static int thread_start(struct ferry_nbddev_asking *asking)
{
	int r;

	atomic_fetch_add(&asking->references, 1);
	r = ferry_thread_start(&asking->thread, STACK_BYTES, thread_run, asking);
	if (r < 0)
		atomic_fetch_sub(&asking->references, 1);
	return r;
}

static void on_done(struct ferry_watch *watch, uint32_t ready)
{
	_cleanup_(asking_unrefp) struct ferry_nbddev_asking *asking =
		FERRY_CONTAINER_OF(watch, struct ferry_nbddev_asking, watch);
	int fd;

	(void)ready;
	asking->loop->ops->watch_stop(asking->loop, watch);
	(void)pthread_join(asking->thread, NULL); /* It has nothing left to do. */
	fd = asking->fd;
	asking->fd = -1;
	asking->on_answer(asking->context, asking->answer, fd);
}

int nbddev_ask(const struct nbddev_kernel *kernel, struct ferry_loop *loop,
	       const struct ferry_nbddev_question *question, ferry_nbddev_answered_fn *on_answer,
	       void *context, struct ferry_nbddev_asking **ret)
{
	_cleanup_(asking_unrefp) struct ferry_nbddev_asking *asking = calloc(1, sizeof(*asking));
	int r;

	ferry_assert(loop && question && on_answer);
	if (!asking)
		return -ENOMEM;
	*asking = (struct ferry_nbddev_asking){
		.kernel = kernel,
		.question = *question,
		.fd = -1,
		.done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.loop = loop,
		.on_answer = on_answer,
		.context = context,
	};
	atomic_init(&asking->references, 1);
	if (asking->done_fd < 0)
		return -errno;
	asking->watch = (struct ferry_watch){.run = on_done, .fd = asking->done_fd};
	r = loop->ops->watch_start(loop, &asking->watch, FERRY_WATCH_READ);
	if (r < 0)
		return r;
	r = thread_start(asking);
	if (r < 0) {
		loop->ops->watch_stop(loop, &asking->watch);
		return r;
	}
	*ret = TAKE_PTR(asking);
	return 0;
}

int ferry_nbddev_ask(struct ferry_loop *loop, const struct ferry_nbddev_question *question,
		     ferry_nbddev_answered_fn *on_answer, void *context,
		     struct ferry_nbddev_asking **ret)
{
	return nbddev_ask(&nbddev_netlink, loop, question, on_answer, context, ret);
}

struct ferry_nbddev_asking *ferry_nbddev_ask_close(struct ferry_nbddev_asking *asking)
{
	struct pollfd done = {.events = POLLIN};

	if (!asking)
		return NULL;
	asking->loop->ops->watch_stop(asking->loop, &asking->watch);
	done.fd = asking->done_fd;
	if (poll(&done, 1, CLOSE_WAIT_MS) > 0)
		(void)pthread_join(asking->thread, NULL);
	else
		(void)pthread_detach(asking->thread); /* It has a reference of its own. */
	asking_unref(asking);
	return NULL;
}
