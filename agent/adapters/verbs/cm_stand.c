#include "agent/adapters/verbs/cm_stand.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LATE_NS (8 * FERRY_NS_PER_S) /* Longer than FERRY_VERBS_CONNECT_NS. */
#define SOON_NS (300 * FERRY_NS_PER_US)

enum { ASKED_BYTES = 56, ANSWERED_BYTES = 196 }; /* rdma_cm's private data; the rest are zeroes. */

enum state {
	STATE_NEW = 1,
	STATE_LISTENING,
	STATE_ADDRESS, /* Being resolved, ... */
	STATE_ADDRESSED,
	STATE_ROUTE,
	STATE_ROUTED,
	STATE_CONNECTING, /* Asks. */
	STATE_ASKED,
	STATE_ACCEPTED, /* Has answered, and not heard more. */
	STATE_CONNECTED,
	STATE_OVER,
};

struct cm_id {
	struct rdma_cm_id id;
	struct ferry_list link;
	uint32_t node; /* 0: made by hand, or an intruder's. */
	enum state state;
	uint32_t to;
	struct cm_id *far;
	bool is_intruder; /* Whoever has asked for this. */
	bool is_forged;
	uint8_t asked[SIM_CM_PRIVATE_BYTES]; /* By whom it is for. */
	uint8_t asked_bytes;
	uint64_t told_ns; /* Its events keep their order. */
	uint32_t taken;	  /* Of them, and not acknowledged. */
	bool is_handed;	  /* Who has asked: the agent knows of it, and destroys it. */
};

struct cm_event {
	struct rdma_cm_event theirs;
	struct ferry_list link; /* On its way, then the channel's; none: it is taken. */
	struct sim_event event;
	struct cm_id *about;
	uint8_t bytes[SIM_CM_PRIVATE_BYTES];
};

struct sim_cm sim_cm;
static struct ferry_list under_way;
static struct ibv_context elsewhere; /* Of another device. */

/* librdmacm's, by --wrap. */
struct rdma_event_channel *__wrap_rdma_create_event_channel(void);
void __wrap_rdma_destroy_event_channel(struct rdma_event_channel *channel);
int __wrap_rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **ret,
			  void *context, enum rdma_port_space space);
int __wrap_rdma_destroy_id(struct rdma_cm_id *id);
int __wrap_rdma_bind_addr(struct rdma_cm_id *id, struct sockaddr *address);
int __wrap_rdma_listen(struct rdma_cm_id *id, int backlog);
int __wrap_rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to,
			     int timeout_ms);
int __wrap_rdma_resolve_route(struct rdma_cm_id *id, int timeout_ms);
int __wrap_rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *param);
int __wrap_rdma_accept(struct rdma_cm_id *id, struct rdma_conn_param *param);
int __wrap_rdma_reject(struct rdma_cm_id *id, const void *bytes, uint8_t length_bytes);
int __wrap_rdma_disconnect(struct rdma_cm_id *id);
int __wrap_rdma_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t bytes);
int __wrap_rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **ret);
int __wrap_rdma_ack_cm_event(struct rdma_cm_event *event);

static struct cm_id *id_of(struct rdma_cm_id *id)
{
	return FERRY_CONTAINER_OF(id, struct cm_id, id);
}

static bool is_chance(uint32_t per_mille)
{
	return sim_chance(sim_cm.sim, SIM_NETWORK, per_mille);
}

static uint64_t below_ns(uint64_t bound_ns)
{
	return sim_below(sim_cm.sim, SIM_NETWORK, bound_ns);
}

/* A call that the kernel has no memory for. */
static int failed(void)
{
	if (!sim_chance(sim_cm.sim, SIM_CRASH, sim_cm.fails_per_mille))
		return 0;
	errno = ENOMEM;
	return -1;
}

/* ---- Events. ---- */

static void event_free(struct cm_event *event)
{
	sim_cancel(sim_cm.sim, &event->event);
	ferry_list_remove(&event->link);
	sim_cm.events_count--;
	free(event);
}

static void event_arrive(struct sim_event *at)
{
	struct cm_event *event = FERRY_CONTAINER_OF(at, struct cm_event, event);
	struct sim_cm_node *node = &sim_cm.nodes[event->about->node];

	ferry_list_remove(&event->link);
	ferry_list_append(&node->events, &event->link);
	if (!sim_input_is_due(&node->input))
		sim_input_in(&node->input, below_ns(20 * FERRY_NS_PER_US));
}

/* Tell @id, after what it was told before. */
static void tell(struct cm_id *id, enum rdma_cm_event_type type, int status, const void *bytes,
		 uint8_t length_bytes, uint64_t delay_ns)
{
	struct cm_event *event;

	if (id->node == 0)
		return; /* Nobody listens there. */
	event = sim_alloc(sizeof(*event));
	event->about = id;
	event->theirs = (struct rdma_cm_event){.id = &id->id, .event = type, .status = status};
	if (length_bytes > 0) {
		memcpy(event->bytes, bytes, length_bytes);
		event->theirs.param.conn.private_data = event->bytes;
		event->theirs.param.conn.private_data_len = length_bytes;
	}
	event->theirs.param.conn.responder_resources = event->theirs.param.conn.initiator_depth = 1;
	event->event = (struct sim_event){.kind = SIM_LINK, .node = id->node, .run = event_arrive};
	sim_cm.events_count++;
	ferry_list_init(&event->link);
	ferry_list_append(&under_way, &event->link);
	id->told_ns = ferry_max_u64(id->told_ns + 1, sim_cm.sim->now_ns + delay_ns);
	sim_at(sim_cm.sim, &event->event, id->told_ns);
}

static void tell_soon(struct cm_id *id, enum rdma_cm_event_type type, int status)
{
	tell(id, type, status, NULL, 0, below_ns(SOON_NS));
}

static void events_drop(struct ferry_list *events, const struct cm_id *id)
{
	ferry_list_foreach_safe (entry, events) {
		struct cm_event *event = ferry_list_entry(entry, struct cm_event, link);

		if (event->about == id)
			event_free(event);
	}
}

static void node_run(struct sim_input *input)
{
	struct sim_cm_node *node = FERRY_CONTAINER_OF(input, struct sim_cm_node, input);
	struct ferry_watch *watch = &node->device->verbs.channel_watch;

	watch->run(watch, FERRY_WATCH_READ);
	if (!ferry_list_is_empty(&node->events))
		sim_input_in(input, 0);
}

/* As librdmacm does, which readies the queue pair before it tells of the answer. */
static void answer_heed(struct cm_id *id)
{
	if (id->state != STATE_CONNECTING)
		return;
	id->state = STATE_CONNECTED;
	if (!id->far || id->far->state != STATE_ACCEPTED)
		return;
	if (id->far->id.qp)
		sim_pair_join(id->id.qp, id->far->id.qp);
	/* The acceptor hears late that it was heard, or never. */
	if (!is_chance(sim_cm.faults_per_mille))
		tell_soon(id->far, RDMA_CM_EVENT_ESTABLISHED, 0);
	else if (is_chance(500))
		tell(id->far, RDMA_CM_EVENT_ESTABLISHED, 0, NULL, 0, below_ns(LATE_NS));
}

int __wrap_rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **ret)
{
	struct sim_cm_node *node = FERRY_CONTAINER_OF(channel, struct sim_cm_node, channel);
	struct ferry_list *entry = ferry_list_pop(&node->events);
	struct cm_event *event;

	if (!entry) {
		errno = EAGAIN;
		return -1;
	}
	event = ferry_list_entry(entry, struct cm_event, link);
	*ret = &event->theirs;
	event->about->taken++;
	sim_cm.seen[event->theirs.event]++;
	if (event->theirs.event == RDMA_CM_EVENT_ADDR_RESOLVED) {
		event->about->state = STATE_ADDRESSED;
		event->about->id.verbs = is_chance(sim_cm.faults_per_mille / 4)
						 ? &elsewhere
						 : &node->device->context;
	} else if (event->theirs.event == RDMA_CM_EVENT_ROUTE_RESOLVED) {
		event->about->state = STATE_ROUTED;
	} else if (event->theirs.event == RDMA_CM_EVENT_ESTABLISHED) {
		answer_heed(event->about);
		if (event->about->state == STATE_ACCEPTED)
			event->about->state = STATE_CONNECTED;
	} else if (event->theirs.event == RDMA_CM_EVENT_CONNECT_REQUEST) {
		event->about->is_handed = true;
		event->theirs.listen_id = node->listener;
		event->theirs.id->context = node->listener->context;
	}
	return 0;
}

/* What follows reads no byte of it: ASan sees to that. */
int __wrap_rdma_ack_cm_event(struct rdma_cm_event *theirs)
{
	struct cm_event *event = FERRY_CONTAINER_OF(theirs, struct cm_event, theirs);

	ferry_assert(!ferry_list_is_linked(&event->link) && event->about->taken > 0);
	event->about->taken--;
	event_free(event);
	return 0;
}

/* ---- Identifiers. ---- */

static struct cm_id *id_make(uint32_t node, enum state state)
{
	struct cm_id *id = sim_alloc(sizeof(*id));

	id->node = node;
	id->state = state;
	ferry_list_init(&id->link);
	ferry_list_append(&sim_cm.ids, &id->link);
	sim_cm.ids_count++;
	return id;
}

struct rdma_event_channel *__wrap_rdma_create_event_channel(void)
{
	struct rdma_event_channel *channel = &sim_cm.nodes[sim_cm.opening].channel;

	if (failed() < 0)
		return NULL;
	channel->fd = eventfd(0, 0);
	ferry_assert(channel->fd >= 0);
	return channel;
}

void __wrap_rdma_destroy_event_channel(struct rdma_event_channel *channel)
{
	struct sim_cm_node *node = FERRY_CONTAINER_OF(channel, struct sim_cm_node, channel);

	ferry_assert(ferry_list_is_empty(&node->events)); /* Each was of an identifier. */
	sim_input_cancel(&node->input);
	(void)close(channel->fd);
}

int __wrap_rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **ret,
			  void *context, enum rdma_port_space space)
{
	const struct sim_cm_node *node =
		channel ? FERRY_CONTAINER_OF(channel, struct sim_cm_node, channel) : sim_cm.nodes;
	struct cm_id *id;

	ferry_assert(space == RDMA_PS_TCP);
	if (channel && failed() < 0)
		return -1;
	id = id_make((uint32_t)(node - sim_cm.nodes), STATE_NEW);
	id->id.context = context;
	*ret = &id->id;
	return 0;
}

/* What the far end hears of it. */
static void far_tell(struct cm_id *id)
{
	struct cm_id *far = TAKE_PTR(id->far);

	if (!far)
		return;
	far->far = NULL;
	if (id->state == STATE_ASKED || id->state == STATE_CONNECTING)
		tell_soon(far, RDMA_CM_EVENT_REJECTED, 28);
	else
		tell_soon(far, RDMA_CM_EVENT_DISCONNECTED, 0);
}

int __wrap_rdma_destroy_id(struct rdma_cm_id *theirs)
{
	struct cm_id *id = id_of(theirs);

	ferry_assert(!theirs->qp);
	ferry_assert(id->taken == 0); /* librdmacm would wait for ever. */
	events_drop(&under_way, id);
	events_drop(&sim_cm.nodes[id->node].events, id);
	far_tell(id);
	if (id->state == STATE_LISTENING) {
		sim_cm.nodes[id->node].listener = NULL;
		ferry_list_foreach_safe (entry, &sim_cm.ids) { /* Who has asked it. */
			struct cm_id *asked = ferry_list_entry(entry, struct cm_id, link);

			if (asked->node == id->node && asked->state == STATE_ASKED &&
			    !asked->is_handed)
				(void)__wrap_rdma_destroy_id(&asked->id);
		}
	}
	ferry_list_remove(&id->link);
	sim_cm.ids_count--;
	free(id);
	return 0;
}

int __wrap_rdma_bind_addr(struct rdma_cm_id *theirs, struct sockaddr *address)
{
	ferry_assert(id_of(theirs)->state == STATE_NEW && address->sa_family == AF_INET);
	if (failed() < 0)
		return -1;
	theirs->verbs = &sim_cm.nodes[id_of(theirs)->node].device->context;
	return 0;
}

int __wrap_rdma_listen(struct rdma_cm_id *theirs, int backlog)
{
	struct cm_id *id = id_of(theirs);

	ferry_assert(id->state == STATE_NEW && theirs->verbs && backlog > 0);
	if (failed() < 0)
		return -1;
	id->state = STATE_LISTENING;
	sim_cm.nodes[id->node].listener = theirs;
	return 0;
}

int __wrap_rdma_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t bytes)
{
	ferry_assert(id->verbs && level == RDMA_OPTION_ID);
	ferry_assert(name == RDMA_OPTION_ID_ACK_TIMEOUT && value && bytes == 1);
	return failed();
}

/* ---- To connect. ---- */

int __wrap_rdma_resolve_addr(struct rdma_cm_id *theirs, struct sockaddr *from, struct sockaddr *to,
			     int timeout_ms)
{
	struct cm_id *id = id_of(theirs);
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)to;

	ferry_assert(id->state == STATE_NEW && from->sa_family == AF_INET);
	ferry_assert(to->sa_family == AF_INET && timeout_ms > 0);
	if (failed() < 0)
		return -1;
	id->state = STATE_ADDRESS;
	id->to = ntohl(v4->sin_addr.s_addr) & 0xff;
	if (sim_cm.nodes[id->node].is_removed || is_chance(sim_cm.faults_per_mille / 2))
		tell_soon(id, RDMA_CM_EVENT_ADDR_ERROR, -ENODEV);
	else
		tell_soon(id, RDMA_CM_EVENT_ADDR_RESOLVED, 0);
	return 0;
}

int __wrap_rdma_resolve_route(struct rdma_cm_id *theirs, int timeout_ms)
{
	struct cm_id *id = id_of(theirs);

	ferry_assert(id->state == STATE_ADDRESSED && timeout_ms > 0);
	if (failed() < 0)
		return -1;
	id->state = STATE_ROUTE;
	if (is_chance(sim_cm.faults_per_mille / 2))
		tell_soon(id, RDMA_CM_EVENT_ROUTE_ERROR, -ETIMEDOUT);
	else
		tell_soon(id, RDMA_CM_EVENT_ROUTE_RESOLVED, 0);
	return 0;
}

/* Bytes on their way, changed by somebody. */
static void spoil(uint8_t *bytes, uint8_t *length_bytes)
{
	if (is_chance(500))
		bytes[sim_below(sim_cm.sim, SIM_NETWORK, FERRY_RDMA_HELLO_BYTES)] ^=
			(uint8_t)(1u << sim_below(sim_cm.sim, SIM_NETWORK, 8));
	else
		*length_bytes = (uint8_t)sim_below(sim_cm.sim, SIM_NETWORK, FERRY_RDMA_HELLO_BYTES);
}

static struct cm_id *ask(uint32_t node, const void *bytes, uint8_t length_bytes)
{
	struct cm_id *id = id_make(node, STATE_ASKED);

	id->id.verbs = is_chance(sim_cm.faults_per_mille / 4) ? &elsewhere
							      : &sim_cm.nodes[node].device->context;
	if (length_bytes > 0)
		memcpy(id->asked, bytes, length_bytes);
	id->asked_bytes = length_bytes;
	tell(id, RDMA_CM_EVENT_CONNECT_REQUEST, 0, id->asked, length_bytes,
	     is_chance(sim_cm.faults_per_mille) ? below_ns(LATE_NS) : below_ns(SOON_NS));
	return id;
}

int __wrap_rdma_connect(struct rdma_cm_id *theirs, struct rdma_conn_param *param)
{
	struct cm_id *id = id_of(theirs);
	uint8_t bytes[ASKED_BYTES] = {}, length_bytes = ASKED_BYTES;
	const struct sim_cm_node *far = &sim_cm.nodes[id->to];

	ferry_assert(id->state == STATE_ROUTED && theirs->qp && param->private_data);
	ferry_assert(id->to < SIM_CM_NODES_MAX && param->private_data_len <= ASKED_BYTES);
	if (failed() < 0)
		return -1;
	memcpy(bytes, param->private_data, param->private_data_len);
	sim_cm.on_connect(id->node, bytes, length_bytes); /* Whoever listens has it. */
	id->state = STATE_CONNECTING;
	if (!far->listener || far->is_removed) {
		tell_soon(id, RDMA_CM_EVENT_REJECTED, 8);
		return 0;
	}
	if (is_chance(sim_cm.faults_per_mille)) {
		static const enum rdma_cm_event_type INSTEAD[] = {RDMA_CM_EVENT_UNREACHABLE,
								  RDMA_CM_EVENT_REJECTED,
								  RDMA_CM_EVENT_CONNECT_ERROR};

		tell(id, INSTEAD[sim_below(sim_cm.sim, SIM_NETWORK, 3)],
		     (int)sim_below(sim_cm.sim, SIM_NETWORK, 40), NULL, 0, below_ns(LATE_NS));
		return 0;
	}
	if (is_chance(sim_cm.faults_per_mille)) /* Somebody who listens is faster. */
		sim_cm_intrude(id->to, bytes, length_bytes);
	if (is_chance(sim_cm.faults_per_mille / 2))
		spoil(bytes, &length_bytes);
	id->far = ask(id->to, bytes, length_bytes);
	id->far->far = id;
	return 0;
}

/* ---- To be asked. ---- */

int __wrap_rdma_accept(struct rdma_cm_id *theirs, struct rdma_conn_param *param)
{
	struct cm_id *id = id_of(theirs), *far = id->far;
	uint8_t bytes[ANSWERED_BYTES] = {}, length_bytes = ANSWERED_BYTES;

	ferry_assert(id->state == STATE_ASKED && theirs->qp && param->private_data);
	ferry_assert(param->private_data_len <= ANSWERED_BYTES);
	if (failed() < 0)
		return -1;
	id->state = STATE_ACCEPTED;
	sim_cm.on_accept(id->node, theirs, id->asked, id->asked_bytes);
	if (id->is_intruder) {
		tell(id, RDMA_CM_EVENT_ESTABLISHED, 0, NULL, 0,
		     below_ns(is_chance(500) ? SOON_NS : LATE_NS / 4));
		return 0;
	}
	if (!far) { /* Who has asked is gone. */
		tell_soon(id, is_chance(500) ? RDMA_CM_EVENT_REJECTED : RDMA_CM_EVENT_CONNECT_ERROR,
			  0);
		return 0;
	}
	memcpy(bytes, param->private_data, param->private_data_len);
	if (is_chance(sim_cm.faults_per_mille / 2)) {
		spoil(bytes, &length_bytes);
		far->is_forged = true;
		sim_cm.forged++;
	}
	if (is_chance(sim_cm.faults_per_mille)) /* It is lost: each end hears so, or one. */
		tell(is_chance(500) ? id : far, RDMA_CM_EVENT_UNREACHABLE, 0, NULL, 0,
		     below_ns(LATE_NS));
	else
		tell(far, RDMA_CM_EVENT_ESTABLISHED, 0, bytes, length_bytes, below_ns(SOON_NS));
	return 0;
}

int __wrap_rdma_reject(struct rdma_cm_id *theirs, const void *bytes, uint8_t length_bytes)
{
	struct cm_id *id = id_of(theirs);

	(void)bytes;
	ferry_assert(id->state == STATE_ASKED && length_bytes == 0);
	return failed(); /* What the other hears it hears by the destruction. */
}

int __wrap_rdma_disconnect(struct rdma_cm_id *theirs)
{
	struct cm_id *id = id_of(theirs);

	ferry_assert(theirs->qp); /* Or it would know no connection. */
	if ((id->state != STATE_CONNECTED && id->state != STATE_ACCEPTED) || id->node == 0) {
		errno = EINVAL;
		return -1;
	}
	if (id->far && id->far->state != STATE_OVER)
		tell_soon(id->far, RDMA_CM_EVENT_DISCONNECTED, 0);
	tell_soon(id, RDMA_CM_EVENT_DISCONNECTED, 0);
	tell_soon(id, RDMA_CM_EVENT_TIMEWAIT_EXIT, 0);
	id->state = STATE_OVER;
	return 0;
}

/* ---- The test's. ---- */

void sim_cm_init(struct sim *sim)
{
	sim_cm = (struct sim_cm){.sim = sim};
	for (uint32_t i = 0; i < SIM_CM_NODES_MAX; i++)
		ferry_list_init(&sim_cm.nodes[i].events);
	ferry_list_init(&sim_cm.ids);
	ferry_list_init(&under_way);
}

void sim_cm_done(void)
{
	ferry_assert(sim_cm.ids_count == 0 && sim_cm.events_count == 0);
	ferry_assert(ferry_list_is_empty(&sim_cm.ids) && ferry_list_is_empty(&under_way));
}

int sim_cm_open(struct sim_device *device, uint32_t number)
{
	struct sim_cm_node *node = &sim_cm.nodes[number];
	struct ferry_error error = {};
	int r;

	ferry_assert(!node->device && number > 0 && number < SIM_CM_NODES_MAX);
	*node = (struct sim_cm_node){.device = device};
	ferry_list_init(&node->events);
	sim_input_init(&node->input, device->loop, SIM_LINK, node_run);
	sim_cm.opening = number;
	device->verbs.channel = NULL;
	device->verbs.listener = NULL;
	device->verbs.channel_watch.fd = -1;
	r = verbs_channel_open(&device->verbs, &error);
	ferry_assert((r == 0) == (error.message[0] == '\0'));
	return r;
}

void sim_cm_close(uint32_t number)
{
	struct sim_cm_node *node = &sim_cm.nodes[number];

	verbs_channel_close(&node->device->verbs);
	ferry_list_foreach (entry, &sim_cm.ids)
		ferry_assert(ferry_list_entry(entry, struct cm_id, link)->node != number);
	node->device = NULL;
}

void sim_cm_intrude(uint32_t node, const void *bytes, uint8_t length_bytes)
{
	if (sim_cm.nodes[node].listener && !sim_cm.nodes[node].is_removed)
		ask(node, bytes, length_bytes)->is_intruder = true;
}

bool sim_cm_tell(struct rdma_cm_id *theirs, enum rdma_cm_event_type type)
{
	struct cm_id *id = id_of(theirs);
	bool is_connected = id->state == STATE_CONNECTED || id->state == STATE_ACCEPTED;

	if (type == RDMA_CM_EVENT_DISCONNECTED && !is_connected)
		return false;
	if (type == RDMA_CM_EVENT_REJECTED && id->state != STATE_CONNECTING)
		return false;
	if (type == RDMA_CM_EVENT_ADDR_CHANGE && !theirs->verbs)
		return false;
	tell_soon(id, type, (int)sim_below(sim_cm.sim, SIM_NETWORK, 40));
	if (type == RDMA_CM_EVENT_DISCONNECTED)
		tell(id, RDMA_CM_EVENT_TIMEWAIT_EXIT, 0, NULL, 0, 0);
	return true;
}

void sim_cm_remove(uint32_t number)
{
	sim_cm.nodes[number].is_removed = true;
	ferry_list_foreach (entry, &sim_cm.ids) {
		struct cm_id *id = ferry_list_entry(entry, struct cm_id, link);

		if (id->node == number && id->id.verbs)
			tell_soon(id, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
	}
}

bool sim_cm_is_forged(const struct rdma_cm_id *id)
{
	return FERRY_CONTAINER_OF((struct rdma_cm_id *)(uintptr_t)id, struct cm_id, id)->is_forged;
}
