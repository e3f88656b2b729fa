#include "agent/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "agent/data_internal.h"

#define SAY_LATER_NS (1 * FERRY_NS_PER_MS)
#define STOP_NS_MAX (8 * FERRY_NS_PER_S)
#define STOP_POLL_NS (10 * FERRY_NS_PER_MS)

/* ---- To the cluster thread. ---- */

static void events_emit(struct ferry_events *events, const struct ferry_event *event)
{
	struct ferry_data *data = FERRY_CONTAINER_OF(events, struct ferry_data, events);
	struct ferry_mail mail = {.kind = FERRY_MAIL_EVENT, .event = *event};

	if (mail.event.time_ns == 0)
		mail.event.time_ns = ferry_loop_now_ns(data->loop);
	if (ferry_mail_to_cluster(data->config.mailbox, &mail) < 0)
		data->events_lost++;
}

void data_say_later(struct ferry_data *data)
{
	if (!ferry_timer_is_started(&data->due_timer))
		ferry_timer_start_in(data->loop, &data->due_timer, 0);
}

static void say_what_is_due(struct ferry_timer *timer)
{
	struct ferry_data *data = FERRY_CONTAINER_OF(timer, struct ferry_data, due_timer);
	bool all_said = true;

	for (uint32_t i = 0; i < data->config.pools_count && all_said; i++)
		all_said = data_pool_say(&data->pools[i]);
	if (all_said && data->snapshot_due) {
		struct ferry_mail mail = {.kind = FERRY_MAIL_SNAPPED,
					  .pointer = data->snapshot_due};

		all_said = ferry_mail_to_cluster(data->config.mailbox, &mail) == 0;
		if (all_said)
			data->snapshot_due = NULL;
	}
	if (!all_said)
		ferry_timer_start_in(data->loop, timer, SAY_LATER_NS);
}

/* ---- Stopping: front ends first, then what is in flight, then the luns' sessions. ---- */

static bool all_idle(const struct ferry_data *data)
{
	for (uint32_t i = 0; i < data->config.pools_count; i++)
		if (data->pools[i].is_open && !ferry_engine_is_idle(&data->pools[i].engine))
			return false;
	return true;
}

static void stop_finish(struct ferry_data *data)
{
	struct ferry_mail mail = {.kind = FERRY_MAIL_STOPPED, .flag = all_idle(data)};

	if (ferry_mail_to_cluster(data->config.mailbox, &mail) < 0) {
		ferry_timer_start_in(data->loop, &data->stop_timer, SAY_LATER_NS);
		return;
	}
	ferry_uring_loop_stop(data->uring);
}

static void stop_part_done(void *context)
{
	struct ferry_data *data = context;

	ferry_assert(data->stops_left > 0);
	data->stops_left--;
}

static void nbd_stopped(void *context)
{
	struct ferry_data *data = context;

	data->nbd = ferry_nbd_server_free(data->nbd);
	stop_part_done(data);
}

static void fuse_closed(void *context)
{
	struct ferry_data *data = context;

	data->fuse = NULL;
	stop_part_done(data);
}

static void ublk_left(void *context)
{
	struct data_pool *pool = context;

	stop_part_done(pool->data);
}

static void iscsi_closed(void *context)
{
	struct data_pool *pool = context;

	pool->iscsi = NULL;
	stop_part_done(pool->data);
}

enum stop_stage { STOP_FRONT_ENDS = 1, STOP_ENGINES, STOP_LUNS };

static void stop_luns(struct ferry_data *data)
{
	for (uint32_t i = 0; i < data->config.pools_count; i++) {
		struct data_pool *pool = &data->pools[i];

		data_pool_close(pool);
		if (!pool->iscsi)
			continue;
		data->stops_left++;
		ferry_iscsi_close(pool->iscsi, iscsi_closed, pool);
	}
}

static void stop_step(struct ferry_timer *timer)
{
	struct ferry_data *data = FERRY_CONTAINER_OF(timer, struct ferry_data, stop_timer);
	bool is_late = ferry_loop_now_ns(data->loop) >= data->stop_deadline_ns;

	if (data->stop_stage == STOP_FRONT_ENDS && is_late) {
		for (uint32_t i = 0; i < data->config.pools_count; i++)
			if (data->pools[i].is_open)
				ferry_router_fail_waiting(&data->pools[i].engine.router,
							  -ESHUTDOWN);
		data->stop_deadline_ns += STOP_NS_MAX / 4;
		data->stop_stage = STOP_ENGINES;
	} else if (data->stop_stage == STOP_FRONT_ENDS && data->stops_left == 0) {
		data->stop_stage = STOP_ENGINES;
	} else if (data->stop_stage == STOP_ENGINES && all_idle(data)) {
		data->stop_stage = STOP_LUNS;
		data_peers_close(data);
		stop_luns(data);
	} else if (data->stop_stage == STOP_ENGINES && is_late) {
		stop_finish(data); /* What is in flight stays so: the process ends around it. */
		return;
	} else if (data->stop_stage == STOP_LUNS && (data->stops_left == 0 || is_late)) {
		stop_finish(data);
		return;
	}
	ferry_timer_start_in(data->loop, timer, STOP_POLL_NS);
}

static void stop_begin(struct ferry_data *data)
{
	uint64_t now_ns = ferry_loop_now_ns(data->loop);

	if (data->stop_stage)
		return;
	data->stop_stage = STOP_FRONT_ENDS;
	data->stop_deadline_ns = now_ns + STOP_NS_MAX;
	if (data->nbd) {
		data->stops_left++;
		ferry_nbd_server_stop(data->nbd, nbd_stopped, data);
	}
	if (data->fuse) {
		data->stops_left++;
		ferry_fuse_close(data->fuse, data->stop_deadline_ns, fuse_closed, data);
	}
	for (uint32_t i = 0; i < data->config.pools_count; i++)
		if (data->pools[i].is_open &&
		    data_ublk_hide(&data->pools[i], /* stays= */ true, ublk_left))
			data->stops_left++;
	ferry_timer_start(data->loop, &data->stop_timer, now_ns);
}

/* ---- From the cluster thread. ---- */

static void snapshot_fill(struct ferry_data *data, struct ferry_snapshot *ret)
{
	ret->pools_count = data->config.pools_count;
	for (uint32_t i = 0; i < data->config.pools_count; i++)
		data_pool_snap(&data->pools[i], &ret->pools[i]);
	ret->peers_count = data->config.peers_count;
	for (uint32_t i = 0; i < data->config.peers_count; i++)
		data_peer_snap(&data->peers[i], &ret->peers[i]);
	data->snapshot_due = ret;
	data_say_later(data);
}

static void mail_handle(struct ferry_data *data, const struct ferry_mail *mail)
{
	if (mail->kind == FERRY_MAIL_STOP) {
		stop_begin(data);
	} else if (mail->kind == FERRY_MAIL_PEER) {
		data_peer_member(data, mail->node, mail->flag);
	} else if (mail->kind == FERRY_MAIL_SNAPSHOT) {
		snapshot_fill(data, mail->pointer);
	} else {
		ferry_assert(mail->pool < data->config.pools_count);
		data_pool_mail(&data->pools[mail->pool], mail);
	}
}

static void mail_arrived(struct ferry_uring_waker *waker)
{
	struct ferry_data *data = FERRY_CONTAINER_OF(waker, struct ferry_data, waker);
	struct ferry_mail mail;

	while (ferry_spsc_pop(&data->config.mailbox->to_data, &mail) == 0)
		mail_handle(data, &mail);
}

void ferry_data_wake(void *data)
{
	struct ferry_data *self = data;

	ferry_uring_loop_wake(self->uring);
}

/* ---- Opening. ---- */

static int memory_open(struct ferry_data *data, struct ferry_error *reterr)
{
	const struct ferry_data_config *config = &data->config;
	size_t half_bytes = config->memory_bytes / FERRY_CHUNK_BYTES * FERRY_CHUNK_BYTES;
	size_t chunks_count = half_bytes / FERRY_CHUNK_BYTES;
	uint8_t *aligned;
	int r;

	data->io_memory_bytes = 2 * half_bytes + FERRY_CHUNK_BYTES;
	data->tables_bytes =
		2 * chunks_count * sizeof(struct ferry_chunk) + 4096 +
		ferry_carrier_memory_bytes(config->peers_count + 1) +
		config->peers_count *
			(FERRY_WIRE_WINDOW_MAX * sizeof(struct ferry_peer_request) + 64);
	data->io_memory = mmap(NULL, data->io_memory_bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	data->tables_memory = mmap(NULL, data->tables_bytes, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (data->io_memory == MAP_FAILED || data->tables_memory == MAP_FAILED)
		return ferry_error_set(reterr, -ENOMEM,
				       "no memory for I/O (%zu MiB): lower [agent] memory",
				       data->io_memory_bytes / (size_t)FERRY_MIB);
	aligned = (uint8_t *)(((uintptr_t)data->io_memory + FERRY_CHUNK_BYTES - 1) /
			      FERRY_CHUNK_BYTES * FERRY_CHUNK_BYTES);
	data->chunks = aligned;
	data->chunks_bytes = 2 * half_bytes;
	ferry_region_init(&data->tables, data->tables_memory, data->tables_bytes);
	r = ferry_arena_init(&data->arena, &data->tables, aligned, half_bytes);
	if (r == 0)
		r = ferry_arena_init(&data->peers_arena, &data->tables, aligned + half_bytes,
				     half_bytes);
	if (r < 0)
		return ferry_error_set(reterr, r, "no memory for the arenas' tables");
	r = ferry_uring_loop_register(data->uring, data->chunks, data->chunks_bytes,
				      /* reterr= */ NULL);
	if (r < 0) {
		struct ferry_event note = {.kind = FERRY_EVENT_ADMIN,
					   .severity = FERRY_SEVERITY_WARNING};

		ferry_event_emit(&data->events, note,
				 "I/O memory is not registered with the kernel (%s): I/O works, "
				 "only slower; raise LimitMEMLOCK",
				 strerror(-r));
	}
	return 0;
}

/*
 * Whoever uses a device that an earlier agent has left of a volume that is no more gets errors:
 * else it might wait for ever. (`ferry attach` uses the first of the sockets.)
 */
static void dead_devices_clear(struct ferry_data *data)
{
	struct ferry_event note = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_WARNING};

	const char *volumes[FERRY_SNAPSHOT_POOLS_MAX];

	for (uint32_t i = 0; i < data->config.pools_count; i++)
		volumes[i] = data->config.pools[i].volume;
	for (uint32_t i = 0; i < data->config.nbd_listen_count; i++) {
		const char *listen = data->config.nbd_listen[i];
		uint32_t count = 0;

		if (strncmp(listen, "unix:", strlen("unix:")) == 0)
			count = ferry_nbddev_clear(listen + strlen("unix:"), volumes,
						   i == 0 ? data->config.pools_count : 0);

		if (count > 0)
			ferry_event_emit(&data->events, note,
					 "%u nbd devices of an earlier agent were ended", count);
	}
}

static int front_ends_open(struct ferry_data *data, struct ferry_error *reterr)
{
	const struct ferry_data_config *config = &data->config;
	struct ferry_nbd_config nbd = {.loop = data->loop,
				       .listen_count = config->nbd_listen_count,
				       .allow_remote = config->nbd_allow_remote};
	struct ferry_fuse_config fuse = {.loop = data->loop,
					 .mountpoint = config->fuse_mount,
					 .is_single_file = config->fuse_is_single_file,
					 .events = &data->events};
	int r;

	for (uint32_t i = 0; i < config->nbd_listen_count; i++)
		nbd.listen[i] = config->nbd_listen[i];
	if (config->nbd_listen_count > 0) {
		r = ferry_nbd_server_start(&nbd, &data->nbd, reterr);
		if (r < 0)
			return r;
		dead_devices_clear(data);
	}
	if (config->fuse_mount) {
		r = ferry_fuse_open(&fuse, &data->fuse, reterr);
		if (r < 0)
			return r;
	}
	return data_ublk_open(data, reterr);
}

static int data_open(struct ferry_data *data, struct ferry_error *reterr)
{
	int r;

	r = ferry_uring_loop_open(&data->uring, reterr);
	if (r < 0)
		return r;
	data->loop = ferry_uring_loop_of(data->uring);
	r = memory_open(data, reterr);
	if (r < 0)
		return r;
	ferry_uring_loop_waker_add(data->uring, &data->waker);
	if (data->config.cluster) {
		r = data_peers_open(data, reterr);
		if (r < 0)
			return r;
	}
	for (uint32_t i = 0; i < data->config.pools_count; i++) {
		struct data_pool *pool = &data->pools[i];

		pool->data = data;
		pool->index = i;
		pool->config = &data->config.pools[i];
		r = data_pool_open(pool, reterr);
		if (r < 0)
			return r;
	}
	return front_ends_open(data, reterr);
}

int ferry_data_open(const struct ferry_data_config *config, struct ferry_data **ret,
		    struct ferry_error *reterr)
{
	_cleanup_(ferry_data_closep) struct ferry_data *data = NULL;
	int r;

	ferry_assert(config->mailbox && config->pools_count > 0);
	ferry_assert(config->pools_count <= FERRY_SNAPSHOT_POOLS_MAX);
	data = calloc(1, sizeof(*data));
	if (!data)
		return ferry_error_set(reterr, -ENOMEM, "no memory");
	data->config = *config;
	data->events.emit = events_emit;
	data->due_timer.run = say_what_is_due;
	data->stop_timer.run = stop_step;
	data->waker.run = mail_arrived;
	data->io_memory = MAP_FAILED;
	data->tables_memory = MAP_FAILED;
	r = data_open(data, reterr);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(data);
	return 0;
}

int ferry_data_run(struct ferry_data *data)
{
	ferry_assert(data && data->uring);
	return ferry_uring_loop_run(data->uring);
}

/* Started, but not run: stop what has begun, the ordinary way. */
static void unwind(struct ferry_data *data)
{
	if (!data->uring || data->stop_stage)
		return;
	stop_begin(data);
	if (ferry_uring_loop_run(data->uring) < 0)
		return; /* Nothing more can be waited for. */
}

static struct ferry_data *volatile left_to_exit; /* In sight of who looks for leaks. */

struct ferry_data *ferry_data_close(struct ferry_data *data)
{
	if (!data)
		return NULL;
	unwind(data);
	if (data->uring && !all_idle(data)) {
		left_to_exit = data; /* The kernel may still write to its memory. */
		return NULL;
	}
	if (data->uring) {
		ferry_timer_stop(data->loop, &data->due_timer);
		ferry_timer_stop(data->loop, &data->stop_timer);
		ferry_uring_loop_waker_remove(data->uring, &data->waker);
	}
	data->ublk = ferry_ublk_free(data->ublk);
	data->commands = ferry_uring_commands_close(data->commands);
	data->uring = ferry_uring_loop_close(data->uring);
	if (data->io_memory != MAP_FAILED)
		(void)munmap(data->io_memory, data->io_memory_bytes);
	if (data->tables_memory != MAP_FAILED)
		(void)munmap(data->tables_memory, data->tables_bytes);
	free(data);
	return NULL;
}
