#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "agent/adapters/verbs/room.h"

enum {
	RESOLVE_MS = 2000,
	LISTEN_BACKLOG = 32,
	EVENTS_MAX = 64,  /* In one callback: others want to run, too. */
	ACK_TIMEOUT = 17, /* 4.096 us * 2^17: half a second, ... */
	RETRIES = 3,	  /* ... and so often again. */
	PRIVATE_BYTES_MAX = 256,
};

static struct ferry_loop *loop_of(const struct verbs_link *link)
{
	return link->verbs->config.loop;
}

int verbs_address_parse(const char *text, uint16_t port, struct verbs_address *ret,
			struct ferry_error *reterr)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (text && inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
		memcpy(&ret->room, &v4, sizeof(v4));
		return 0;
	}
	if (text && inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
		memcpy(&ret->room, &v6, sizeof(v6));
		return 0;
	}
	return ferry_error_set(reterr, -EINVAL, "'%s' is no numeric address", text ? text : "");
}

/* ---- Trying. ---- */

void verbs_again(struct verbs_link *link)
{
	uint64_t half_ns = link->backoff_ns / 2;

	ferry_assert(link->role == VERBS_LINK_CONNECTOR && link->state == VERBS_LINK_DOWN);
	if (!link->is_enabled)
		return;
	ferry_timer_start_in(loop_of(link), &link->again,
			     half_ns + ferry_prng_below(&link->verbs->prng, half_ns + 1));
	link->backoff_ns = ferry_min_u64(2 * link->backoff_ns, FERRY_VERBS_BACKOFF_NS_MAX);
}

static void link_try(struct ferry_timer *timer)
{
	struct verbs_link *link = FERRY_CONTAINER_OF(timer, struct verbs_link, again);
	struct ferry_verbs *verbs = link->verbs;
	struct verbs_address from = verbs->address;
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&from.room;

	ferry_assert(link->is_enabled && link->state == VERBS_LINK_DOWN && !link->id);
	v4->sin_port = 0; /* At the same place in IPv6's. */
	link->state = VERBS_LINK_GREETING;
	ferry_timer_start_in(loop_of(link), &link->tick, FERRY_VERBS_CONNECT_NS);
	if (rdma_create_id(verbs->channel, &link->id, link, RDMA_PS_TCP) < 0) {
		link->id = NULL;
		verbs_link_cut(link, "cannot connect: %s", strerror(errno));
	} else if (rdma_resolve_addr(link->id, &from.any, &link->address.any, RESOLVE_MS) < 0) {
		verbs_link_cut(link, "cannot connect: %s", strerror(errno));
	}
}

static struct ferry_rdma_hello hello_of(const struct verbs_link *link)
{
	return (struct ferry_rdma_hello){
		.node = link->verbs->config.self.node,
		.incarnation = link->verbs->config.self.incarnation,
		.number = link->number,
		.credits = FERRY_VERBS_CREDITS,
	};
}

/* No retry when the receiver is not ready: credits see to it that it is. */
static struct rdma_conn_param param_of(const struct verbs_link *link, const uint8_t *hello)
{
	return (struct rdma_conn_param){
		.private_data = hello,
		.private_data_len = FERRY_RDMA_HELLO_BYTES,
		.responder_resources = (uint8_t)link->verbs->rd_atomic,
		.initiator_depth = (uint8_t)link->verbs->rd_atomic,
		.retry_count = RETRIES,
		.rnr_retry_count = 0,
	};
}

static void ack_timeout_set(struct rdma_cm_id *id)
{
	uint8_t timeout = ACK_TIMEOUT;

	/* Refused: then the device's own. It costs time, not safety. */
	(void)rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
			      sizeof(timeout));
}

static void link_resolve_route(struct verbs_link *link)
{
	if (link->id->verbs != link->verbs->context) {
		verbs_link_cut(link, "cannot connect: not by the device of this node's address");
		return;
	}
	ack_timeout_set(link->id);
	if (rdma_resolve_route(link->id, RESOLVE_MS) < 0)
		verbs_link_cut(link, "cannot connect: %s", strerror(errno));
}

static void link_request(struct verbs_link *link)
{
	struct ferry_rdma_hello hello;
	struct rdma_conn_param param;
	int r;

	link->number++;
	hello = hello_of(link);
	r = verbs_link_arm(link, link->id);
	if (r == 0)
		r = ferry_rdma_hello_encode(link->verbs->config.auth, &link->secret, NULL, &hello,
					    link->hello);
	param = param_of(link, link->hello);
	if (r == 0 && rdma_connect(link->id, &param) < 0)
		r = -errno;
	if (r < 0)
		verbs_link_cut(link, "cannot connect: %s", strerror(-r));
}

/* The far end's answer: it has to be proven, too. */
static void link_answered(struct verbs_link *link, const uint8_t *bytes, size_t length_bytes)
{
	struct ferry_rdma_hello hello;
	struct ferry_error error = {};
	int r;

	r = ferry_rdma_hello_decode(bytes, length_bytes, &hello, &error);
	if (r == 0 && ferry_rdma_hello_verify(link->verbs->config.auth, &link->secret, link->hello,
					      bytes) < 0)
		r = ferry_error_set(&error, -EACCES, "the answer is not proven");
	if (r == 0 && (hello.node.v != link->link.node.v || hello.number != link->number))
		r = ferry_error_set(&error, -EPROTO, "the answer is another's");
	if (r < 0) {
		verbs_link_cut(link, "cannot connect: %s", error.message);
		return;
	}
	link->peer = (struct ferry_wire_end){hello.node, hello.incarnation};
	verbs_link_up(link, hello.credits);
}

/* ---- Being asked. ---- */

/* The node's link, or one that nobody uses. */
static struct verbs_link *incoming_find(struct ferry_verbs *verbs, struct ferry_node node)
{
	struct verbs_link *unused = NULL;

	for (uint32_t i = 0; i < verbs->config.links_max; i++) {
		struct verbs_link *link = &verbs->links[i];

		if (link->role == VERBS_LINK_INCOMING && link->link.node.v == node.v)
			return link;
		if (link->role == VERBS_LINK_UNUSED && !unused)
			unused = link;
	}
	return unused;
}

/* Who asks, and whether it may. 0 and the link, or why not. */
static int request_judge(struct ferry_verbs *verbs, const uint8_t *bytes, size_t length_bytes,
			 struct ferry_rdma_hello *hello, struct ferry_rdma_secret *secret,
			 struct verbs_link **ret, struct ferry_error *reterr)
{
	struct verbs_link *link;
	int r;

	r = ferry_rdma_hello_decode(bytes, length_bytes, hello, reterr);
	if (r < 0)
		return r;
	if (verbs->config.secret(verbs->config.context, hello->node, hello->incarnation, secret) <
	    0)
		return ferry_error_set(reterr, -EACCES,
				       "node %" PRIu32 " has no connection by TCP to prove it by",
				       hello->node.v);
	if (ferry_rdma_hello_verify(verbs->config.auth, secret, NULL, bytes) < 0)
		return ferry_error_set(reterr, -EACCES, "node %" PRIu32 " does not prove itself",
				       hello->node.v);
	link = incoming_find(verbs, hello->node);
	if (!link)
		return ferry_error_set(reterr, -ENOSPC, "there are too many links");
	if (link->role == VERBS_LINK_INCOMING && ferry_proof_equal(secret->v, link->secret.v) &&
	    hello->number <= link->number)
		return ferry_error_set(reterr, -EACCES, "node %" PRIu32 "'s request is an old one",
				       hello->node.v);
	*ret = link;
	return 0;
}

static void link_accept(struct verbs_link *link, struct rdma_cm_id *id,
			const struct ferry_rdma_hello *hello, const uint8_t *request,
			const struct rdma_conn_param *asked)
{
	struct ferry_rdma_hello answer;
	uint8_t bytes[FERRY_RDMA_HELLO_BYTES];
	struct rdma_conn_param param;
	int r;

	verbs_link_cut(link, "replaced by a newer connection of node %" PRIu32, hello->node.v);
	if (link->state == VERBS_LINK_CUT)
		verbs_link_settle(link);
	link->role = VERBS_LINK_INCOMING;
	link->link.node = hello->node;
	link->peer = (struct ferry_wire_end){hello->node, hello->incarnation};
	link->number = hello->number;
	link->state = VERBS_LINK_GREETING;
	ferry_timer_start_in(loop_of(link), &link->tick, FERRY_VERBS_CONNECT_NS);
	ack_timeout_set(id);
	answer = hello_of(link);
	r = verbs_link_arm(link, id);
	if (r == 0)
		r = ferry_rdma_hello_encode(link->verbs->config.auth, &link->secret, request,
					    &answer, bytes);
	link->credits_all = hello->credits;
	param = param_of(link, bytes);
	param.responder_resources =
		(uint8_t)ferry_min_u64(param.responder_resources, asked->responder_resources);
	param.initiator_depth =
		(uint8_t)ferry_min_u64(param.initiator_depth, asked->initiator_depth);
	if (r == 0 && rdma_accept(id, &param) < 0)
		r = -errno;
	if (r < 0)
		verbs_link_cut(link, "cannot accept: %s", strerror(-r));
}

static void request_refuse(struct ferry_verbs *verbs, struct rdma_cm_id *id, const char *why)
{
	struct ferry_event event = {
		.kind = FERRY_EVENT_REFUSED,
		.severity = FERRY_SEVERITY_WARNING,
		.time_ns = ferry_loop_now_ns(verbs->config.loop),
	};

	ferry_event_emit(verbs->config.events, event, "connection by RDMA: %s", why);
	(void)rdma_reject(id, NULL, 0); /* Gone already: as well. */
	(void)rdma_destroy_id(id);
}

static void request_take(struct ferry_verbs *verbs, struct rdma_cm_id *id, const uint8_t *bytes,
			 const struct rdma_conn_param *asked)
{
	struct ferry_rdma_hello hello;
	struct ferry_rdma_secret secret;
	struct ferry_error error = {};
	struct verbs_link *link = NULL;
	int r;

	r = request_judge(verbs, bytes, asked->private_data_len, &hello, &secret, &link, &error);
	if (r == 0 && id->verbs != verbs->context)
		r = ferry_error_set(&error, -ENODEV, "it came to another device");
	if (r < 0) {
		request_refuse(verbs, id, error.message);
		return;
	}
	link->secret = secret;
	link_accept(link, id, &hello, bytes, asked);
}

/* The peer has heard our answer, and will send. */
static void link_accepted(struct verbs_link *link)
{
	int r = link->verbs->config.accept(link->verbs->config.context, &link->link,
					   link->peer.incarnation);

	if (r < 0)
		verbs_link_cut(link, "refused: %s", strerror(-r));
	else
		verbs_link_up(link, link->credits_all);
}

/* ---- Events of rdma_cm. ---- */

static void link_event(struct verbs_link *link, const struct rdma_cm_event *event,
		       const uint8_t *bytes)
{
	switch ((int)event->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		link_resolve_route(link);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		link_request(link);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		if (link->role == VERBS_LINK_CONNECTOR)
			link_answered(link, bytes, event->param.conn.private_data_len);
		else
			link_accepted(link);
		break;
	case RDMA_CM_EVENT_REJECTED:
		verbs_link_cut(link, "cannot connect: refused (%d)", event->status);
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		verbs_poll(link->verbs); /* What it is about may lie there. */
		verbs_link_cut(link, "the peer closed the connection");
		break;
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
	case RDMA_CM_EVENT_ADDR_CHANGE:
		break;
	default:
		verbs_link_cut(link, "RDMA: %s (%d)", rdma_event_str(event->event), event->status);
		break;
	}
}

/* An event is copied and given back first: its connection may be destroyed by what it causes. */
static void event_take(struct ferry_verbs *verbs, struct rdma_cm_event *theirs)
{
	struct rdma_cm_event event = *theirs;
	uint8_t bytes[PRIVATE_BYTES_MAX] = {};
	bool is_of_listener = event.id == verbs->listener || event.listen_id == verbs->listener;
	struct verbs_link *link = is_of_listener ? NULL : event.id->context;

	if (event.event == RDMA_CM_EVENT_CONNECT_REQUEST ||
	    event.event == RDMA_CM_EVENT_ESTABLISHED)
		memcpy(bytes, event.param.conn.private_data ? event.param.conn.private_data : bytes,
		       event.param.conn.private_data ? event.param.conn.private_data_len : 0);
	else
		event.param.conn.private_data_len = 0;
	(void)rdma_ack_cm_event(theirs);
	if (event.event == RDMA_CM_EVENT_CONNECT_REQUEST)
		request_take(verbs, event.id, bytes, &event.param.conn);
	else if (link && link->id == event.id && link->state != VERBS_LINK_CUT)
		link_event(link, &event, bytes); /* Else it was given up before it heard this. */
}

static void channel_ready(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_verbs *verbs = FERRY_CONTAINER_OF(watch, struct ferry_verbs, channel_watch);
	struct rdma_cm_event *event;

	(void)ready;
	for (uint32_t i = 0; i < EVENTS_MAX; i++) {
		if (rdma_get_cm_event(verbs->channel, &event) < 0)
			return;
		event_take(verbs, event);
	}
}

/* ---- Opening, enabling. ---- */

int verbs_channel_open(struct ferry_verbs *verbs, struct ferry_error *reterr)
{
	struct ferry_loop *loop = verbs->config.loop;
	int r = 0;

	verbs->channel = rdma_create_event_channel();
	if (!verbs->channel)
		return ferry_error_set(reterr, -ENODEV, "this kernel has no RDMA: %s",
				       strerror(errno));
	if (rdma_create_id(verbs->channel, &verbs->listener, verbs, RDMA_PS_TCP) < 0 ||
	    rdma_bind_addr(verbs->listener, &verbs->address.any) < 0 ||
	    rdma_listen(verbs->listener, LISTEN_BACKLOG) < 0 ||
	    fcntl(verbs->channel->fd, F_SETFL, O_NONBLOCK) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r == -EADDRINUSE ? r : -ENODEV,
				       "no RDMA device has this address: %s", strerror(-r));
	}
	if (!verbs->listener->verbs) /* The wildcard names none. */
		return ferry_error_set(reterr, -ENODEV, "no RDMA device has this address");
	verbs->context = verbs->listener->verbs;
	verbs->channel_watch = (struct ferry_watch){.run = channel_ready, .fd = verbs->channel->fd};
	r = loop->ops->watch_start(loop, &verbs->channel_watch, FERRY_WATCH_READ);
	if (r < 0) {
		verbs->channel_watch.fd = -1;
		return ferry_error_set(reterr, r, "cannot watch RDMA's events: %s", strerror(-r));
	}
	return 0;
}

void verbs_channel_close(struct ferry_verbs *verbs)
{
	struct ferry_loop *loop = verbs->config.loop;

	if (verbs->channel_watch.fd >= 0)
		loop->ops->watch_stop(loop, &verbs->channel_watch);
	if (verbs->listener)
		(void)rdma_destroy_id(verbs->listener);
	if (verbs->channel)
		rdma_destroy_event_channel(verbs->channel);
}

uint16_t ferry_verbs_port(const struct ferry_verbs *verbs)
{
	return ntohs(rdma_get_src_port(verbs->listener));
}

int ferry_verbs_connect(struct ferry_verbs *verbs, struct ferry_node node, const char *address,
			uint16_t port, struct ferry_link **ret, struct ferry_error *reterr)
{
	struct verbs_address parsed = {};
	int r = verbs_address_parse(address, port, &parsed, reterr);

	ferry_assert(node.v > 0 && ret);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < verbs->config.links_max; i++) {
		struct verbs_link *link = &verbs->links[i];

		if (link->role != VERBS_LINK_UNUSED)
			continue;
		link->role = VERBS_LINK_CONNECTOR;
		link->address = parsed;
		link->link.node = node;
		link->again.run = link_try;
		*ret = &link->link;
		return 0;
	}
	return ferry_error_set(reterr, -ENOSPC, "there are too many links");
}

void ferry_verbs_enable(struct ferry_link *port, const struct ferry_rdma_secret *secret)
{
	struct verbs_link *link = verbs_link_of(port);
	bool was_enabled = link->is_enabled;

	FERRY_ASSERT_ON_LOOP(loop_of(link));
	ferry_assert(link->role == VERBS_LINK_CONNECTOR);
	link->is_enabled = secret != NULL;
	if (!secret) {
		ferry_timer_stop(loop_of(link), &link->again);
		verbs_link_cut(link, "no longer wanted");
		return;
	}
	ferry_assert(link->link.on_up);
	if (!ferry_proof_equal(link->secret.v, secret->v))
		link->number = 0;
	link->secret = *secret;
	if (was_enabled && ferry_timer_is_started(&link->again))
		link->backoff_ns = FERRY_VERBS_BACKOFF_NS_MIN; /* A new chance. */
	if (link->state == VERBS_LINK_DOWN && !link->is_running)
		ferry_timer_start_in(loop_of(link), &link->again, 0);
}

void ferry_verbs_drop(struct ferry_verbs *verbs, struct ferry_node node, const char *why)
{
	ferry_assert(node.v > 0 && why);
	for (uint32_t i = 0; i < verbs->config.links_max; i++)
		if (verbs->links[i].role == VERBS_LINK_INCOMING &&
		    verbs->links[i].link.node.v == node.v)
			verbs_link_cut(&verbs->links[i], "%s", why);
}
