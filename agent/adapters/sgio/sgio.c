#include "agent/adapters/sgio/sgio.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/common/thread.h"
#include "agent/adapters/sgio/private.h"

#define TIMEOUT_NS_DEFAULT (5 * FERRY_NS_PER_S)

struct ferry_sgio {
	struct ferry_fence fence;
	struct ferry_sgio_config config;
	struct ferry_sgio_worker *worker;
	pthread_t thread;
	struct ferry_watch watch; /* worker->done_fd */
	struct ferry_task feed;
	struct ferry_timer deadline;
	struct ferry_list queue;
	struct ferry_fence_request *current;
	bool is_out;		   /* The thread has a request, */
	bool is_out_current;	   /* and it is the current one, not one that was given up. */
	struct ferry_sgio *reader; /* Reads keys while this one is busy. */
	struct ferry_sgio *first;  /* The reader's: whose it is. */
	uint32_t generation;	   /* The last that either has read; */
	bool is_counted_anew;	   /* a lower one than before, and the worker does not know. */
};

/* ---- The thread. ---- */

static void worker_unref(struct ferry_sgio_worker *worker)
{
	if (!worker || atomic_fetch_sub(&worker->references, 1) > 1)
		return;
	for (uint32_t i = 0; i < worker->disks_count && !worker->lender; i++)
		(void)close(worker->disks[i]);
	worker_unref(worker->lender);
	if (worker->go_fd >= 0)
		(void)close(worker->go_fd);
	if (worker->done_fd >= 0)
		(void)close(worker->done_fd);
	free(worker);
}

static void worker_unrefp(struct ferry_sgio_worker **worker)
{
	worker_unref(*worker);
}

static void *thread_run(void *context)
{
	struct ferry_sgio_worker *worker = context;

	for (;;) {
		ferry_sgio_await(worker->go_fd);
		if (atomic_load(&worker->is_over))
			break;
		ferry_sgio_walk(worker);
		ferry_sgio_signal(worker->done_fd);
	}
	worker_unref(worker);
	return NULL;
}

static int thread_start(struct ferry_sgio *sgio)
{
	int r;

	atomic_fetch_add(&sgio->worker->references, 1);
	r = ferry_thread_start(&sgio->thread, FERRY_SGIO_STACK_BYTES, thread_run, sgio->worker);
	if (r < 0)
		atomic_fetch_sub(&sgio->worker->references, 1);
	return r;
}

/* ---- The loop's side. ---- */

static void finish(struct ferry_sgio *sgio, int error)
{
	struct ferry_fence_request *request = TAKE_PTR(sgio->current);

	ferry_assert(request && error <= 0);
	ferry_timer_stop(sgio->config.loop, &sgio->deadline);
	sgio->is_out_current = false;
	ferry_task_post(sgio->config.loop, &sgio->feed);
	request->on_done(request, error);
}

static void feed_run(struct ferry_task *task)
{
	struct ferry_sgio *sgio = FERRY_CONTAINER_OF(task, struct ferry_sgio, feed);
	struct ferry_list *link;

	if (!sgio->current) {
		link = ferry_list_pop(&sgio->queue);
		if (!link)
			return;
		sgio->current = ferry_list_entry(link, struct ferry_fence_request, link);
		ferry_timer_start_in(sgio->config.loop, &sgio->deadline,
				     sgio->config.timeout_ns + sgio->config.quiesce_time_ns);
	}
	if (sgio->is_out)
		return; /* It goes when the thread is back, or ends by its deadline. */
	sgio->is_out = true;
	sgio->is_out_current = true;
	if (sgio->is_counted_anew)
		sgio->worker->laid.v = 0; /* As walk.c does when it sees that itself. */
	sgio->is_counted_anew = false;
	sgio->worker->request = *sgio->current;
	ferry_sgio_signal(sgio->worker->go_fd);
}

static void deadline_run(struct ferry_timer *timer)
{
	struct ferry_sgio *sgio = FERRY_CONTAINER_OF(timer, struct ferry_sgio, deadline);

	finish(sgio, -ETIMEDOUT);
}

static void generation_note(struct ferry_sgio *sgio, uint32_t generation)
{
	sgio->is_counted_anew |= generation < sgio->generation;
	sgio->generation = generation;
}

static void done_run(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_sgio *sgio = FERRY_CONTAINER_OF(watch, struct ferry_sgio, watch);
	struct ferry_sgio_worker *worker = sgio->worker;
	struct ferry_fence_request *request = sgio->current;
	uint64_t count;

	(void)ready;
	if (read(watch->fd, &count, sizeof(count)) < 0)
		return; /* EAGAIN */
	ferry_assert(sgio->is_out);
	sgio->is_out = false;
	for (uint32_t i = 0; sgio->config.on_unit_attention && i < worker->attentions_count; i++)
		sgio->config.on_unit_attention(worker->attentions[i].asc,
					       worker->attentions[i].ascq, sgio->config.context);
	if (!sgio->is_out_current) {
		ferry_task_post(sgio->config.loop, &sgio->feed);
		return;
	}
	ferry_assert(request);
	memcpy(request->keys, worker->request.keys, sizeof(request->keys));
	request->keys_count = worker->request.keys_count;
	request->holder = worker->request.holder;
	request->generation = worker->request.generation;
	if (request->op == FERRY_FENCE_READ_KEYS && worker->error == 0)
		generation_note(sgio->first ? sgio->first : sgio, request->generation);
	finish(sgio, worker->error);
}

static bool is_busy(const struct ferry_sgio *sgio)
{
	return sgio->current || sgio->is_out || !ferry_list_is_empty(&sgio->queue);
}

static void fence_submit(struct ferry_fence *fence, struct ferry_fence_request *request)
{
	struct ferry_sgio *sgio = FERRY_CONTAINER_OF(fence, struct ferry_sgio, fence);

	FERRY_ASSERT_ON_LOOP(sgio->config.loop);
	if (request->op == FERRY_FENCE_READ_KEYS && is_busy(sgio))
		sgio = sgio->reader;
	ferry_list_append(&sgio->queue, &request->link);
	ferry_task_post(sgio->config.loop, &sgio->feed);
}

static const struct ferry_fence_ops fence_ops = {
	.name = "sgio",
	.submit = fence_submit,
};

/* ---- Opening and closing. ---- */

static void sgio_freep(struct ferry_sgio **sgio)
{
	if (!*sgio)
		return;
	worker_unref((*sgio)->worker);
	free(*sgio);
}

static struct ferry_sgio_worker *worker_new(const int *disks, uint32_t disks_count)
{
	struct ferry_sgio_worker *worker = calloc(1, sizeof(*worker));

	if (!worker) {
		for (uint32_t i = 0; i < disks_count; i++)
			(void)close(disks[i]);
		return NULL;
	}
	atomic_init(&worker->references, 1);
	memcpy(worker->disks, disks, disks_count * sizeof(disks[0]));
	worker->disks_count = disks_count;
	worker->go_fd = eventfd(0, EFD_CLOEXEC);
	worker->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return worker;
}

/* What reads while @first is busy: by the same descriptors. */
static struct ferry_sgio_worker *worker_borrow(struct ferry_sgio_worker *first)
{
	struct ferry_sgio_worker *worker = worker_new(first->disks, 0);

	if (!worker)
		return NULL;
	memcpy(worker->disks, first->disks, sizeof(worker->disks));
	worker->disks_count = first->disks_count;
	worker->lender = first;
	atomic_fetch_add(&first->references, 1);
	return worker;
}

static enum ferry_laying_way choose_laying(const struct ferry_sgio_config *config, bool is_untrue)
{
	ferry_assert(config->laying == 0 || config->laying == FERRY_LAYING_ABORT ||
		     config->laying == FERRY_LAYING_QUIESCE);
	ferry_assert(config->laying != FERRY_LAYING_QUIESCE || config->quiesce_time_ns > 0);
	if (config->laying)
		return config->laying;
	if (!is_untrue)
		return FERRY_LAYING_ABORT;
	return config->quiesce_time_ns ? FERRY_LAYING_QUIESCE : 0;
}

/* Give @sgio its thread: @worker's from now on. */
static int hand_start(struct ferry_sgio *sgio, const struct ferry_sgio_config *config,
		      struct ferry_sgio_worker *worker, struct ferry_error *reterr)
{
	int r;

	sgio->worker = worker;
	if (worker->go_fd < 0 || worker->done_fd < 0)
		return ferry_error_set(reterr, -EMFILE, "no descriptors for reservations");
	sgio->config = *config;
	if (sgio->config.timeout_ns == 0)
		sgio->config.timeout_ns = TIMEOUT_NS_DEFAULT;
	sgio->feed.run = feed_run;
	sgio->deadline.run = deadline_run;
	ferry_list_init(&sgio->queue);
	sgio->watch = (struct ferry_watch){.run = done_run, .fd = worker->done_fd};
	r = config->loop->ops->watch_start(config->loop, &sgio->watch, FERRY_WATCH_READ);
	if (r < 0)
		return ferry_error_set(reterr, r, "reservations: %s", strerror(-r));
	r = thread_start(sgio);
	if (r < 0) {
		config->loop->ops->watch_stop(config->loop, &sgio->watch);
		return ferry_error_set(reterr, r, "no thread for reservations: %s", strerror(-r));
	}
	return 0;
}

static void hand_close(struct ferry_sgio *sgio)
{
	sgio->config.loop->ops->watch_stop(sgio->config.loop, &sgio->watch);
	ferry_timer_stop(sgio->config.loop, &sgio->deadline);
	ferry_task_cancel(sgio->config.loop, &sgio->feed);
	atomic_store(&sgio->worker->is_over, true);
	ferry_sgio_signal(sgio->worker->go_fd);
	if (sgio->is_out)
		(void)pthread_detach(sgio->thread); /* It has a reference of its own. */
	else
		(void)pthread_join(sgio->thread, NULL);
	sgio_freep(&sgio);
}

static int reader_start(struct ferry_sgio *sgio, struct ferry_error *reterr)
{
	_cleanup_(worker_unrefp) struct ferry_sgio_worker *worker = worker_borrow(sgio->worker);
	_cleanup_(sgio_freep) struct ferry_sgio *reader = calloc(1, sizeof(*reader));
	int r;

	if (!worker || !reader)
		return ferry_error_set(reterr, -ENOMEM, "no memory for reservations");
	r = hand_start(reader, &sgio->config, TAKE_PTR(worker), reterr);
	if (r < 0)
		return r;
	reader->first = sgio;
	sgio->reader = TAKE_PTR(reader);
	return 0;
}

int ferry_sgio_start(const struct ferry_sgio_config *config, const int *disks, uint32_t disks_count,
		     bool is_untrue, struct ferry_sgio **ret, struct ferry_error *reterr)
{
	_cleanup_(worker_unrefp) struct ferry_sgio_worker *worker = worker_new(disks, disks_count);
	_cleanup_(sgio_freep) struct ferry_sgio *sgio = calloc(1, sizeof(*sgio));
	int r;

	ferry_assert(disks_count > 0 && disks_count <= FERRY_SGIO_PATHS_MAX);
	if (!worker || !sgio)
		return ferry_error_set(reterr, -ENOMEM, "no memory for reservations");
	worker->laying = choose_laying(config, is_untrue);
	worker->quiesce_time_ns = config->quiesce_time_ns;
	r = ferry_sgio_probe(worker, reterr);
	if (r < 0)
		return r;
	sgio->fence = (struct ferry_fence){
		.ops = &fence_ops,
		.ability = {.laying = worker->laying,
			    .keeps_registrations = true, /* Else it would not be open. */
			    .hides_restarts = true,	 /* The session is the kernel's. */
			    .quiesce_time_ns = config->quiesce_time_ns},
	};
	r = hand_start(sgio, config, TAKE_PTR(worker), reterr);
	if (r < 0)
		return r;
	r = reader_start(sgio, reterr);
	if (r < 0) {
		hand_close(TAKE_PTR(sgio));
		return r;
	}
	*ret = TAKE_PTR(sgio);
	return 0;
}

static int disk_open(const char *name, struct ferry_error *reterr)
{
	char path[sizeof("/dev/") + FERRY_SGIO_NAME_MAX];
	int fd;
	int r;

	(void)snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC); /* Others may hold it, O_EXCL or not. */
	if (fd >= 0)
		return fd;
	r = -errno;
	return ferry_error_set(reterr, r, "%s: %s", path, strerror(-r));
}

int ferry_sgio_open(const struct ferry_sgio_config *config, struct ferry_sgio **ret,
		    struct ferry_error *reterr)
{
	int fds[FERRY_SGIO_PATHS_MAX];
	struct ferry_sgio_disks disks = {};
	struct stat status;
	uint32_t count = 0;
	int r;

	ferry_assert(config && config->loop && config->path && ret);
	if (stat(config->path, &status) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: %s", config->path, strerror(-r));
	}
	if (!S_ISBLK(status.st_mode))
		return ferry_error_set(reterr, -EOPNOTSUPP, "%s is a file: no reservations there",
				       config->path);
	r = ferry_sgio_find("/sys", status.st_rdev, &disks, reterr);
	for (; r == 0 && count < disks.count; count++) {
		r = disk_open(disks.names[count], reterr);
		if (r < 0)
			break;
		fds[count] = r;
		r = 0;
	}
	if (r == 0)
		return ferry_sgio_start(config, fds, count, disks.is_untrue, ret, reterr);
	while (count > 0)
		(void)close(fds[--count]);
	return r;
}

struct ferry_fence *ferry_sgio_fence(struct ferry_sgio *sgio)
{
	ferry_assert(sgio);
	return &sgio->fence;
}

void ferry_sgio_close(struct ferry_sgio *sgio)
{
	if (!sgio)
		return;
	FERRY_ASSERT_ON_LOOP(sgio->config.loop);
	hand_close(TAKE_PTR(sgio->reader));
	hand_close(sgio);
}
