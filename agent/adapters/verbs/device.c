#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "agent/adapters/verbs/room.h"

enum {
	POLL_BATCH = 32,
	POLL_BATCHES_MAX = 64, /* Then others want to run, too. */
	HUGE_PAGE_BYTES = 2 * 1024 * 1024,
	LINK_FRAMES_BYTES = VERBS_IN_MAX * VERBS_IN_BYTES + FERRY_VERBS_OUT_MAX * VERBS_OUT_BYTES,
};

enum { INDEX_SHIFT = 16, COUNT_SHIFT = 32, WORK_SHIFT = 40, GENERATION_SHIFT = 48 };
_Static_assert(FERRY_VERBS_OUT_MAX <= UINT16_MAX && VERBS_SQ_MAX <= 256, "in a wr_id");

uint64_t verbs_wr_id(const struct verbs_link *link, enum verbs_work work, uint32_t index,
		     uint32_t count)
{
	ferry_assert(index <= UINT16_MAX && count <= UINT8_MAX);
	return (uint64_t)index | (uint64_t)link->index << INDEX_SHIFT |
	       (uint64_t)count << COUNT_SHIFT | (uint64_t)work << WORK_SHIFT |
	       (uint64_t)link->generation << GENERATION_SHIFT;
}

bool verbs_is_registered(const struct ferry_verbs *verbs, const struct ferry_segments *segments)
{
	uintptr_t start = (uintptr_t)verbs->config.memory;

	for (uint32_t i = 0; i < segments->count; i++) {
		uintptr_t at = (uintptr_t)segments->v[i].chunk->data;

		if (at < start || at - start > verbs->config.memory_bytes - FERRY_CHUNK_BYTES)
			return false;
	}
	return true;
}

struct ibv_mr *verbs_mr_of(const struct ferry_verbs *verbs, const struct ferry_segment *segment)
{
	uintptr_t at = (uintptr_t)segment->chunk->data - (uintptr_t)verbs->config.memory;

	ferry_assert(at % FERRY_CHUNK_BYTES == 0 && at < verbs->config.memory_bytes);
	return verbs->chunk_mrs[at / FERRY_CHUNK_BYTES];
}

/* ---- Completions. ---- */

static void completion_take(struct ferry_verbs *verbs, const struct ibv_wc *wc)
{
	struct verbs_link *link = &verbs->links[(wc->wr_id >> INDEX_SHIFT) & UINT16_MAX];
	enum verbs_work work = (enum verbs_work)((wc->wr_id >> WORK_SHIFT) & 0xf);
	uint32_t index = (uint32_t)(wc->wr_id & UINT16_MAX);
	uint32_t count = (uint32_t)(wc->wr_id >> COUNT_SHIFT) & UINT8_MAX;

	ferry_assert((wc->wr_id >> INDEX_SHIFT & UINT16_MAX) < verbs->config.links_max);
	if ((uint16_t)(wc->wr_id >> GENERATION_SHIFT) != link->generation || !link->id ||
	    link->state == VERBS_LINK_CUT)
		return;
	link->counters.completions++;
	link->is_touched = true;
	if (wc->status != IBV_WC_SUCCESS) {
		verbs_link_cut(link, "RDMA: %s (%u)", ibv_wc_status_str(wc->status),
			       wc->vendor_err);
		return;
	}
	ferry_assert(link->sq_used >= count);
	link->sq_used -= count;
	switch (work) {
	case VERBS_WORK_RECEIVE:
		verbs_received(link, index, wc->byte_len);
		break;
	case VERBS_WORK_SEND:
		verbs_sent(link, &link->out[index]);
		break;
	case VERBS_WORK_MOVE:
		verbs_moved(link, index);
		break;
	case VERBS_WORK_CLOSE:
		verbs_closed(link, &link->out[index]);
		break;
	}
}

static void links_cut(struct ferry_verbs *verbs, const char *why)
{
	for (uint32_t i = 0; i < verbs->config.links_max; i++)
		verbs_link_cut(&verbs->links[i], "%s", why);
}

void verbs_poll(struct ferry_verbs *verbs)
{
	struct ibv_wc wcs[POLL_BATCH];
	int count = POLL_BATCH;

	for (uint32_t i = 0; i < POLL_BATCHES_MAX && count == POLL_BATCH; i++) {
		count = ibv_poll_cq(verbs->cq, POLL_BATCH, wcs);
		verbs->polls_count++;
		if (count < 0) /* The device is broken, or gone. */
			links_cut(verbs, "RDMA: the queue of completions fails");
		for (int at = 0; at < count; at++)
			completion_take(verbs, &wcs[at]);
		if (count > 0) {
			verbs->completions_count += (uint64_t)count;
			verbs->completed_ns = ferry_loop_now_ns(verbs->config.loop);
		}
	}
	for (uint32_t i = 0; i < verbs->config.links_max; i++)
		if (verbs->links[i].is_touched)
			ferry_task_post(verbs->config.loop, &verbs->links[i].task);
}

/* Look, and go on looking for a while after the last completion; then sleep until there is one. */
static void poll_run(struct ferry_task *task)
{
	struct ferry_verbs *verbs = FERRY_CONTAINER_OF(task, struct ferry_verbs, poll_task);
	uint64_t now_ns = ferry_loop_now_ns(verbs->config.loop);

	verbs_poll(verbs);
	if (now_ns - ferry_min_u64(now_ns, verbs->completed_ns) < verbs->config.poll_ns) {
		ferry_task_post(verbs->config.loop, task);
		return;
	}
	if (!verbs->is_asleep) {
		/* Asked to be woken, it looks once more: what came before wakes nobody. */
		if (ibv_req_notify_cq(verbs->cq, /* solicited_only= */ 0) != 0)
			links_cut(verbs, "RDMA: the queue of completions wakes nobody");
		verbs->is_asleep = true;
		ferry_task_post(verbs->config.loop, task);
	}
}

static void poll_wake(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_verbs *verbs =
		FERRY_CONTAINER_OF(watch, struct ferry_verbs, completions_watch);
	struct ibv_cq *cq;
	void *context;

	(void)ready;
	/* Asked for once at a time, it comes once; if there were another, the loop would say so. */
	if (ibv_get_cq_event(verbs->completions, &cq, &context) == 0) {
		ibv_ack_cq_events(cq, 1);
		verbs->wakeups_count++;
	}
	verbs->is_asleep = false;
	verbs->completed_ns = ferry_loop_now_ns(verbs->config.loop);
	ferry_task_post(verbs->config.loop, &verbs->poll_task);
}

/* ---- Opening. ---- */

/* What cannot do windows that are bound to one queue pair cannot keep one peer out of another's. */
static int device_check(struct ferry_verbs *verbs, struct ibv_device_attr *attr,
			struct ferry_error *reterr)
{
	const char *name = ibv_get_device_name(verbs->context->device);
	uint64_t entries = (uint64_t)verbs->config.links_max * (VERBS_SQ_MAX + VERBS_IN_MAX);

	if (ibv_query_device(verbs->context, attr) != 0)
		return ferry_error_set(reterr, -EIO, "RDMA device %s does not answer", name);
	if (!(attr->device_cap_flags &
	      (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B)))
		return ferry_error_set(reterr, -EOPNOTSUPP,
				       "RDMA device %s has no memory windows of type 2", name);
	if ((uint64_t)attr->max_cqe < entries || attr->max_qp_wr < VERBS_SQ_MAX ||
	    attr->max_sge < 2)
		return ferry_error_set(reterr, -EOPNOTSUPP,
				       "RDMA device %s is too small for %" PRIu32
				       " links: %d completions, %d requests, %d pieces",
				       name, verbs->config.links_max, attr->max_cqe,
				       attr->max_qp_wr, attr->max_sge);
	verbs->sge_max = (uint32_t)ferry_min_u64((uint64_t)attr->max_sge, VERBS_SGE_MAX);
	verbs->rd_atomic = (uint32_t)ferry_min_u64(
		ferry_min_u64((uint64_t)attr->max_qp_rd_atom, (uint64_t)attr->max_qp_init_rd_atom),
		VERBS_RD_ATOMIC);
	return 0;
}

static int frames_take(struct ferry_verbs *verbs)
{
	size_t size_bytes = (size_t)verbs->config.links_max * LINK_FRAMES_BYTES;
	void *memory;

	size_bytes = (size_bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
	memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (memory == MAP_FAILED) /* None are set aside: then of what there is. */
		memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			      -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	verbs->frames = memory;
	verbs->frames_bytes = size_bytes;
	return 0;
}

static int chunks_register(struct ferry_verbs *verbs)
{
	uint32_t count = (uint32_t)(verbs->config.memory_bytes / FERRY_CHUNK_BYTES);

	verbs->chunk_mrs = calloc(count, sizeof(verbs->chunk_mrs[0]));
	if (!verbs->chunk_mrs)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *chunk = (uint8_t *)verbs->config.memory + (size_t)i * FERRY_CHUNK_BYTES;

		/* Nobody reaches it from afar but through a window. */
		verbs->chunk_mrs[i] = ibv_reg_mr(verbs->pd, chunk, FERRY_CHUNK_BYTES,
						 IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
		if (!verbs->chunk_mrs[i])
			return -errno;
		verbs->chunks_count++;
	}
	return 0;
}

static int device_register(struct ferry_verbs *verbs, struct ferry_error *reterr)
{
	int r;

	if (frames_take(verbs) < 0)
		return ferry_error_set(reterr, -ENOMEM, "no memory for RDMA's frames");
	verbs->pd = ibv_alloc_pd(verbs->context);
	if (!verbs->pd)
		return ferry_error_set(reterr, -ENOMEM, "RDMA: no protection domain");
	verbs->frames_mr =
		ibv_reg_mr(verbs->pd, verbs->frames, verbs->frames_bytes, IBV_ACCESS_LOCAL_WRITE);
	r = verbs->frames_mr ? chunks_register(verbs) : -errno;
	if (r < 0)
		return ferry_error_set(reterr, r,
				       "%zu bytes cannot be registered with RDMA: %s; raise "
				       "LimitMEMLOCK",
				       verbs->config.memory_bytes + verbs->frames_bytes,
				       strerror(-r));
	return 0;
}

static int queue_open(struct ferry_verbs *verbs, struct ferry_error *reterr)
{
	struct ferry_loop *loop = verbs->config.loop;
	int entries = (int)(verbs->config.links_max * (VERBS_SQ_MAX + VERBS_IN_MAX));
	int r;

	verbs->completions = ibv_create_comp_channel(verbs->context);
	if (!verbs->completions)
		return ferry_error_set(reterr, -ENOMEM, "RDMA: no channel of completions");
	verbs->cq = ibv_create_cq(verbs->context, entries, verbs, verbs->completions, 0);
	if (!verbs->cq)
		return ferry_error_set(reterr, -ENOMEM, "RDMA: no queue of %d completions",
				       entries);
	r = fcntl(verbs->completions->fd, F_SETFL, O_NONBLOCK);
	if (r < 0)
		return ferry_error_set(reterr, -EIO, "RDMA: its channel would block");
	verbs->completions_watch =
		(struct ferry_watch){.run = poll_wake, .fd = verbs->completions->fd};
	r = loop->ops->watch_start(loop, &verbs->completions_watch, FERRY_WATCH_READ);
	if (r < 0) {
		verbs->completions_watch.fd = -1;
		return ferry_error_set(reterr, r, "RDMA: cannot watch its channel: %s",
				       strerror(-r));
	}
	verbs->poll_task.run = poll_run;
	ferry_task_post(loop, &verbs->poll_task);
	return 0;
}

static int links_open(struct ferry_verbs *verbs, struct ferry_error *reterr)
{
	verbs->links = calloc(verbs->config.links_max, sizeof(verbs->links[0]));
	if (!verbs->links)
		return ferry_error_set(reterr, -ENOMEM, "no memory for RDMA's links");
	for (uint32_t i = 0; i < verbs->config.links_max; i++) {
		int r = verbs_link_init(&verbs->links[i], verbs, (uint16_t)i,
					verbs->frames + (size_t)i * LINK_FRAMES_BYTES);

		if (r < 0)
			return ferry_error_set(reterr, r, "RDMA: no more memory windows: %s",
					       strerror(-r));
	}
	return 0;
}

/* librdmacm says much on stderr where there is nothing for it. */
static bool has_device(void)
{
	DIR *folder = opendir("/sys/class/infiniband");
	const struct dirent *entry = NULL;

	if (!folder)
		return false;
	do
		entry = readdir(folder);
	while (entry && entry->d_name[0] == '.');
	(void)closedir(folder); /* It was only read. */
	return entry != NULL;
}

int ferry_verbs_open(const struct ferry_verbs_config *config, struct ferry_verbs **ret,
		     struct ferry_error *reterr)
{
	_cleanup_(ferry_verbs_closep) struct ferry_verbs *verbs = NULL;
	struct ibv_device_attr attr = {};
	int r;

	ferry_assert(config && config->loop && config->auth && ret);
	ferry_assert(config->secret && config->accept && config->memory);
	ferry_assert((uintptr_t)config->memory % FERRY_CHUNK_BYTES == 0);
	ferry_assert(config->memory_bytes > 0 && config->memory_bytes % FERRY_CHUNK_BYTES == 0);
	ferry_assert(config->links_max > 0 && config->links_max <= FERRY_VERBS_LINKS_MAX);
	if (!has_device())
		return ferry_error_set(reterr, -ENODEV, "no RDMA device");
	verbs = calloc(1, sizeof(*verbs));
	if (!verbs)
		return ferry_error_set(reterr, -ENOMEM, "no memory for RDMA");
	verbs->config = *config;
	verbs->config.address = NULL;
	if (verbs->config.dead_after_ns == 0)
		verbs->config.dead_after_ns = FERRY_VERBS_DEAD_AFTER_NS;
	if (verbs->config.poll_ns == 0)
		verbs->config.poll_ns = FERRY_VERBS_POLL_NS;
	verbs->prng.state = config->seed;
	verbs->channel_watch.fd = verbs->completions_watch.fd = -1;
	r = verbs_address_parse(config->address, config->port, &verbs->address, reterr);
	if (r == 0)
		r = verbs_channel_open(verbs, reterr);
	if (r == 0)
		r = device_check(verbs, &attr, reterr);
	if (r == 0)
		r = device_register(verbs, reterr);
	if (r == 0)
		r = queue_open(verbs, reterr);
	if (r == 0)
		r = links_open(verbs, reterr);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(verbs);
	return 0;
}

void verbs_links_close(struct ferry_verbs *verbs)
{
	for (uint32_t i = 0; verbs->links && i < verbs->config.links_max; i++) {
		struct verbs_link *link = &verbs->links[i];

		if (!link->verbs)
			break; /* The opening failed here. */
		ferry_assert(!link->is_running);
		link->is_enabled = false;
		verbs_link_cut(link, "this agent is closing");
		if (link->state == VERBS_LINK_CUT)
			verbs_link_settle(link);
		verbs_link_done(link);
	}
	free(verbs->links);
}

struct ferry_verbs *ferry_verbs_close(struct ferry_verbs *verbs)
{
	struct ferry_loop *loop;

	if (!verbs)
		return NULL;
	loop = verbs->config.loop;
	verbs_links_close(verbs);
	if (verbs->poll_task.run)
		ferry_task_cancel(loop, &verbs->poll_task);
	if (verbs->completions_watch.fd >= 0)
		loop->ops->watch_stop(loop, &verbs->completions_watch);
	/* What has no user left cannot fail to go. */
	if (verbs->cq)
		(void)ibv_destroy_cq(verbs->cq);
	if (verbs->completions)
		(void)ibv_destroy_comp_channel(verbs->completions);
	for (uint32_t i = 0; i < verbs->chunks_count; i++)
		(void)ibv_dereg_mr(verbs->chunk_mrs[i]);
	free(verbs->chunk_mrs);
	if (verbs->frames_mr)
		(void)ibv_dereg_mr(verbs->frames_mr);
	if (verbs->pd)
		(void)ibv_dealloc_pd(verbs->pd);
	if (verbs->frames)
		(void)munmap(verbs->frames, verbs->frames_bytes);
	verbs_channel_close(verbs);
	free(verbs);
	return NULL;
}
