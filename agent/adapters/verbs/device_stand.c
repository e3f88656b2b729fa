#include "agent/adapters/verbs/device_stand.h"

#include <errno.h>
#include <stdlib.h>

struct window {
	struct ibv_mw mw;
	struct ferry_list link;	 /* In device->windows. */
	const struct ibv_qp *qp; /* It is open to that one; NULL: closed. */
	bool is_stuck;		 /* It was to be closed, which failed. */
	uint32_t key;
	uint64_t address, length_bytes;
	unsigned int access;
};

struct work {
	struct ferry_list link;
	struct ibv_send_wr wr;
	struct ibv_sge sges[VERBS_SGE_MAX];
};

struct pair {
	struct ibv_qp qp;
	struct sim_device *device;
	struct pair *far; /* NULL: it is gone. */
	struct ferry_list works;
	struct {
		uint64_t wr_id;
		struct ibv_sge sge;
	} places[VERBS_IN_MAX]; /* To receive. */
	uint32_t places_first, places_count;
	struct sim_event event;
	bool is_broken;
};

/* librdmacm's, by --wrap. */
int __wrap_rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
void __wrap_rdma_destroy_qp(struct rdma_cm_id *id);

static struct sim_device *device_of(struct ibv_context *context)
{
	return FERRY_CONTAINER_OF(context, struct sim_device, context);
}

static bool fails(struct sim_device *device)
{
	return sim_chance(device->sim, SIM_CRASH, device->fails_per_mille);
}

/* ---- Completions. ---- */

static void complete(struct sim_device *device, uint64_t wr_id, enum ibv_wc_status status,
		     uint32_t length_bytes)
{
	uint32_t at = (device->completions_first + device->completions_count++) %
		      SIM_DEVICE_COMPLETIONS_MAX;

	ferry_assert(device->completions_count <= SIM_DEVICE_COMPLETIONS_MAX);
	device->completions[at] =
		(struct ibv_wc){.wr_id = wr_id, .status = status, .byte_len = length_bytes};
	if (!sim_input_is_due(&device->wake_input))
		sim_input_in(&device->wake_input,
			     sim_below(device->sim, SIM_NETWORK, 20 * FERRY_NS_PER_US));
}

static void wake_run(struct sim_input *input)
{
	verbs_poll(&FERRY_CONTAINER_OF(input, struct sim_device, wake_input)->verbs);
}

static int cq_poll(struct ibv_cq *cq, int count_max, struct ibv_wc *ret)
{
	struct sim_device *device = device_of(cq->context);
	int count = 0;

	while (count < count_max && device->completions_count > 0) {
		ret[count++] = device->completions[device->completions_first];
		device->completions_first =
			(device->completions_first + 1) % SIM_DEVICE_COMPLETIONS_MAX;
		device->completions_count--;
	}
	return count;
}

/* ---- Windows. ---- */

static struct ibv_mw *window_alloc(struct ibv_pd *pd, enum ibv_mw_type type)
{
	struct sim_device *device = device_of(pd->context);
	struct window *window;

	ferry_assert(type == IBV_MW_TYPE_2);
	if (fails(device))
		return NULL;
	window = sim_alloc(sizeof(*window));
	window->mw = (struct ibv_mw){
		.context = pd->context, .pd = pd, .rkey = ++device->keys << 8, .type = type};
	ferry_list_init(&window->link);
	ferry_list_append(&device->windows, &window->link);
	return &window->mw;
}

static int window_dealloc(struct ibv_mw *mw)
{
	struct window *window = FERRY_CONTAINER_OF(mw, struct window, mw);
	struct sim_device *device = device_of(mw->context);

	if (sim_chance(device->sim, SIM_CRASH, device->stuck_per_mille)) {
		device->stuck++;
		window->is_stuck = true;
		return EBUSY;
	}
	ferry_list_remove(&window->link);
	free(window);
	return 0;
}

static struct window *window_find(struct sim_device *device, uint32_t key, const struct ibv_qp *qp)
{
	ferry_list_foreach (entry, &device->windows) {
		struct window *window = ferry_list_entry(entry, struct window, link);

		if (window->qp == qp && window->key == key)
			return window;
	}
	return NULL;
}

/* ---- Work. ---- */

static void pair_fail(struct pair *pair)
{
	if (pair->is_broken)
		return;
	pair->is_broken = true;
	sim_cancel(pair->device->sim, &pair->event);
	ferry_assert(pair->places_count > 0);
	complete(pair->device, pair->places[pair->places_first].wr_id, IBV_WC_WR_FLUSH_ERR, 0);
}

/* The far end of a connection that has ended finds out when its next work fails, or by itself. */
static void pair_kick(struct pair *pair)
{
	struct sim_device *device = pair->device;
	const struct work *work;
	uint64_t delay_ns = sim_below(device->sim, SIM_NETWORK, 50 * FERRY_NS_PER_US);

	if (pair->is_broken || sim_is_due(&pair->event))
		return;
	if (!pair->far)
		delay_ns = sim_below(device->sim, SIM_NETWORK, 100 * FERRY_NS_PER_MS);
	else if (ferry_list_is_empty(&pair->works))
		return;
	work = ferry_list_entry(pair->works.next, struct work, link);
	if (pair->far &&
	    (work->wr.opcode == IBV_WR_RDMA_READ || work->wr.opcode == IBV_WR_RDMA_WRITE) &&
	    sim_chance(device->sim, SIM_NETWORK, device->late_per_mille)) {
		delay_ns = sim_below(device->sim, SIM_NETWORK, device->late_ns_max);
		device->late++;
	}
	sim_in(device->sim, &pair->event, delay_ns);
}

static bool work_rdma(struct pair *pair, const struct work *work)
{
	bool is_read = work->wr.opcode == IBV_WR_RDMA_READ;
	const struct window *window =
		window_find(pair->far->device, work->wr.wr.rdma.rkey, &pair->far->qp);
	uint64_t at = work->wr.wr.rdma.remote_addr;
	uint32_t length_bytes = work->sges[0].length;
	union {
		uint64_t address;
		void *memory;
	} far = {.address = at}, near = {.address = work->sges[0].addr};

	ferry_assert(work->wr.num_sge == 1);
	if (!window || at < window->address ||
	    at + length_bytes > window->address + window->length_bytes ||
	    !(window->access & (is_read ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE))) {
		pair->device->denied++;
		return false;
	}
	memcpy(is_read ? near.memory : far.memory, is_read ? far.memory : near.memory,
	       length_bytes);
	return true;
}

/* Whoever sends has a credit: there is a place for it. */
static void work_send(struct pair *pair, const struct work *work)
{
	struct pair *far = pair->far;
	uint32_t at = far->places_first;
	uint32_t length_bytes = 0;

	ferry_assert(far->places_count > 0);
	for (int i = 0; i < work->wr.num_sge; i++) {
		union {
			uint64_t address;
			uint8_t *memory;
		} to = {.address = far->places[at].sge.addr},
		  from = {.address = work->sges[i].addr};

		ferry_assert(length_bytes + work->sges[i].length <= far->places[at].sge.length);
		memcpy(to.memory + length_bytes, from.memory, work->sges[i].length);
		length_bytes += work->sges[i].length;
	}
	far->places_first = (at + 1) % VERBS_IN_MAX;
	far->places_count--;
	complete(far->device, far->places[at].wr_id, IBV_WC_SUCCESS, length_bytes);
}

static bool work_do(struct pair *pair, const struct work *work)
{
	struct window *window;

	if (work->wr.opcode == IBV_WR_BIND_MW) {
		window = FERRY_CONTAINER_OF(work->wr.bind_mw.mw, struct window, mw);
		ferry_assert(!window->qp);
		window->qp = &pair->qp;
		window->key = work->wr.bind_mw.rkey;
		window->address = work->wr.bind_mw.bind_info.addr;
		window->length_bytes = work->wr.bind_mw.bind_info.length;
		window->access = work->wr.bind_mw.bind_info.mw_access_flags;
		return true;
	}
	if (work->wr.opcode == IBV_WR_LOCAL_INV) {
		window = window_find(pair->device, work->wr.invalidate_rkey, &pair->qp);
		ferry_assert(window);
		window->qp = NULL;
		return true;
	}
	if (!pair->far || pair->far->is_broken)
		return false;
	if (work->wr.opcode == IBV_WR_SEND) {
		work_send(pair, work);
		return true;
	}
	return work_rdma(pair, work);
}

static void pair_run(struct sim_event *event)
{
	struct pair *pair = FERRY_CONTAINER_OF(event, struct pair, event);
	struct ferry_list *entry = ferry_list_pop(&pair->works);
	struct work *work;

	if (!entry) { /* Nothing was asked of it, and the far end is gone. */
		pair_fail(pair);
		return;
	}
	work = ferry_list_entry(entry, struct work, link);
	if (!work_do(pair, work)) {
		if (pair->far)
			pair_fail(pair->far);
		pair_fail(pair);
	} else if (work->wr.send_flags & IBV_SEND_SIGNALED) {
		complete(pair->device, work->wr.wr_id, IBV_WC_SUCCESS, 0);
	}
	free(work);
	pair_kick(pair);
}

static int pair_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct pair *pair = FERRY_CONTAINER_OF(qp, struct pair, qp);

	(void)bad;
	for (; wr; wr = wr->next) {
		struct work *work = sim_alloc(sizeof(*work));

		ferry_assert(wr->num_sge <= VERBS_SGE_MAX);
		work->wr = *wr;
		for (int i = 0; i < wr->num_sge; i++)
			work->sges[i] = wr->sg_list[i];
		ferry_list_init(&work->link);
		ferry_list_append(&pair->works, &work->link);
	}
	pair_kick(pair);
	return 0;
}

static int pair_receive(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct pair *pair = FERRY_CONTAINER_OF(qp, struct pair, qp);
	uint32_t at = (pair->places_first + pair->places_count) % VERBS_IN_MAX;

	(void)bad;
	if (fails(pair->device))
		return ENOMEM;
	pair->places_count++;
	ferry_assert(pair->places_count <= VERBS_IN_MAX && !wr->next && wr->num_sge == 1);
	pair->places[at].wr_id = wr->wr_id;
	pair->places[at].sge = wr->sg_list[0];
	return 0;
}

/* ---- Queue pairs. ---- */

int __wrap_rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	struct sim_device *device = device_of(pd->context);
	struct pair *pair;

	ferry_assert(attr->qp_type == IBV_QPT_RC && !id->qp);
	ferry_assert(!id->verbs || id->verbs == pd->context); /* By hand it has none. */
	if (fails(device)) {
		errno = ENOMEM;
		return -1;
	}
	pair = sim_alloc(sizeof(*pair));
	pair->device = device;
	pair->qp.context = pd->context;
	pair->event = (struct sim_event){.kind = SIM_LINK, .run = pair_run};
	ferry_list_init(&pair->works);
	id->qp = &pair->qp;
	device->pairs_count++;
	return 0;
}

void __wrap_rdma_destroy_qp(struct rdma_cm_id *id)
{
	struct pair *pair = FERRY_CONTAINER_OF(id->qp, struct pair, qp);
	struct ferry_list *entry;

	sim_cancel(pair->device->sim, &pair->event);
	while ((entry = ferry_list_pop(&pair->works)))
		free(ferry_list_entry(entry, struct work, link));
	ferry_list_foreach (link, &pair->device->windows) {
		const struct window *window = ferry_list_entry(link, struct window, link);

		ferry_assert(window->qp != &pair->qp || window->is_stuck);
	}
	if (pair->far) {
		pair->far->far = NULL;
		pair_kick(TAKE_PTR(pair->far));
	}
	pair->device->pairs_count--;
	free(pair);
	id->qp = NULL;
}

void sim_pair_join(struct ibv_qp *a, struct ibv_qp *b)
{
	struct pair *pairs[2] = {FERRY_CONTAINER_OF(a, struct pair, qp),
				 FERRY_CONTAINER_OF(b, struct pair, qp)};

	ferry_assert(!pairs[0]->far && !pairs[1]->far);
	pairs[0]->far = pairs[1];
	pairs[1]->far = pairs[0];
}

/* ---- The devices. ---- */

void sim_device_open(struct sim_device *device, struct sim_loop *loop, uint32_t node, void *memory,
		     size_t memory_bytes, uint32_t links_max)
{
	struct ferry_verbs *verbs = &device->verbs;
	size_t chunks_count = memory_bytes / FERRY_CHUNK_BYTES;
	size_t frames_bytes = VERBS_IN_MAX * VERBS_IN_BYTES + FERRY_VERBS_OUT_MAX * VERBS_OUT_BYTES;

	*device = (struct sim_device){
		.sim = loop->sim,
		.loop = loop,
		.context = {.ops = {.poll_cq = cq_poll,
				    .alloc_mw = window_alloc,
				    .dealloc_mw = window_dealloc,
				    .post_send = pair_send,
				    .post_recv = pair_receive}},
		.pd = {.context = &device->context},
		.cq = {.context = &device->context},
		.verbs = {.config = {.loop = &loop->loop,
				     .self = {{node}, {node}},
				     .memory = memory,
				     .memory_bytes = memory_bytes,
				     .links_max = links_max,
				     .dead_after_ns = FERRY_VERBS_DEAD_AFTER_NS},
			  .context = &device->context,
			  .pd = &device->pd,
			  .cq = &device->cq,
			  .frames_mr = &device->mr,
			  .sge_max = VERBS_SGE_MAX,
			  .chunks_count = (uint32_t)chunks_count},
	};
	ferry_list_init(&device->windows);
	sim_input_init(&device->wake_input, loop, SIM_LINK, wake_run);
	verbs->chunk_mrs = sim_alloc(chunks_count * sizeof(verbs->chunk_mrs[0]));
	for (size_t i = 0; i < chunks_count; i++)
		verbs->chunk_mrs[i] = &device->mr;
	verbs->frames = sim_alloc(links_max * frames_bytes);
	verbs->links = sim_alloc(links_max * sizeof(verbs->links[0]));
	for (uint32_t i = 0; i < links_max; i++) {
		int r = verbs_link_init(&verbs->links[i], verbs, (uint16_t)i,
					verbs->frames + i * frames_bytes);

		ferry_assert(r == 0);
	}
}

void sim_device_close(struct sim_device *device)
{
	verbs_links_close(&device->verbs);
	ferry_assert(ferry_list_is_empty(&device->windows) && device->pairs_count == 0);
	sim_input_cancel(&device->wake_input);
	free(device->verbs.chunk_mrs);
	free(device->verbs.frames);
}

void sim_device_connect(struct sim_device *a, struct sim_device *b)
{
	struct sim_device *devices[2] = {a, b};

	for (int i = 0; i < 2; i++) {
		struct verbs_link *link = sim_device_link(devices[i]);
		struct rdma_cm_id *id = NULL;
		int r = rdma_create_id(NULL, &id, link, RDMA_PS_TCP);

		ferry_assert(r == 0);
		link->role = VERBS_LINK_INCOMING;
		link->state = VERBS_LINK_GREETING;
		link->peer = devices[!i]->verbs.config.self;
		link->link.node = link->peer.node;
		r = verbs_link_arm(link, id);
		ferry_assert(r == 0);
	}
	sim_pair_join(sim_device_link(a)->id->qp, sim_device_link(b)->id->qp);
	verbs_link_up(sim_device_link(a), FERRY_VERBS_CREDITS);
	verbs_link_up(sim_device_link(b), FERRY_VERBS_CREDITS);
}

void sim_device_break(struct verbs_link *link)
{
	struct pair *pair;

	if (!link->id || !link->id->qp)
		return;
	pair = FERRY_CONTAINER_OF(link->id->qp, struct pair, qp);
	if (pair->far)
		pair_fail(pair->far);
	pair_fail(pair);
}
