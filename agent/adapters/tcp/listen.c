#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/adapters/tcp/room.h"

enum { LISTEN_BACKLOG = 64, LISTEN_ACCEPTS_MAX = 16 };

#define LISTEN_GREETING_NS_MIN FERRY_NS_PER_S  /* A younger one isn't closed for a newcomer. */
#define LISTEN_REST_NS (100 * FERRY_NS_PER_MS) /* When there are no descriptors to be had. */
#define LISTEN_COMPLAINT_NS FERRY_NS_PER_S     /* At most one event about strangers in it. */

struct ferry_tcp_listener {
	struct ferry_tcp_listen_config config;
	struct ferry_watch watch;
	struct ferry_timer rest;
	uint16_t port;
	uint64_t complained_ns; /* 0: never. */
	uint64_t complaints_unsaid;
	uint64_t refusals;
	struct tcp_greeting greetings[FERRY_TCP_GREETINGS_MAX];
	struct tcp_link links[FERRY_TCP_INCOMING_MAX];
};

static void listener_complain(struct ferry_tcp_listener *listener, const char *name,
			      const char *what)
{
	uint64_t now_ns = ferry_loop_now_ns(listener->config.loop);
	struct ferry_event event = {
		.kind = FERRY_EVENT_REFUSED,
		.severity = FERRY_SEVERITY_WARNING,
		.time_ns = now_ns,
		.value = listener->complaints_unsaid,
	};

	ferry_assert(name && what);
	listener->refusals++;
	if (listener->complained_ns && now_ns - listener->complained_ns < LISTEN_COMPLAINT_NS) {
		listener->complaints_unsaid++;
		return;
	}
	listener->complained_ns = now_ns;
	ferry_event_emit(listener->config.events, event,
			 "connection from %s: %s (and %" PRIu64 " others before)", name, what,
			 listener->complaints_unsaid);
	listener->complaints_unsaid = 0;
}

/* The node's link, or one that nobody uses. */
static struct tcp_link *listener_link(struct ferry_tcp_listener *listener, struct ferry_node node)
{
	struct tcp_link *unused = NULL;

	ferry_assert(node.v > 0);
	for (uint32_t i = 0; i < FERRY_TCP_INCOMING_MAX; i++) {
		struct tcp_link *link = &listener->links[i];

		if (link->link.node.v == node.v)
			return link;
		if (link->state != TCP_LINK_DOWN)
			continue;
		/* Rather one that never had a node than one whose node may come back. */
		if (!unused || (unused->link.node.v != 0 && link->link.node.v == 0))
			unused = link;
	}
	return unused;
}

static void listener_greeted(struct tcp_greeting *greeting, int r, int fd,
			     const struct ferry_error *error)
{
	struct ferry_tcp_listener *listener = greeting->owner;
	const struct ferry_handshake *handshake = &greeting->handshake;
	const char *refused = NULL;
	struct tcp_link *link;

	if (r < 0) {
		listener_complain(listener, greeting->name, error->message);
		return;
	}
	ferry_assert(handshake->state == FERRY_HANDSHAKE_COMPLETE);
	link = listener_link(listener, handshake->peer);
	if (!link)
		refused = "there are too many peers";
	else if (link->state == TCP_LINK_UP &&
		 handshake->peer_incarnation.v < link->peer_incarnation.v)
		refused = "a newer incarnation of this node is connected";
	if (!refused) {
		tcp_link_cut(link, "replaced by a newer connection of node %" PRIu32,
			     handshake->peer.v);
		if (link->state == TCP_LINK_CUT) /* This one now, or one of before. */
			tcp_link_settle(link);
		if (!link->buffer && tcp_link_buffer_take(link) < 0)
			refused = "there is no memory for it";
	}
	if (!refused) {
		link->link.node = handshake->peer;
		r = listener->config.accept(listener->config.context, &link->link,
					    handshake->peer_incarnation);
		if (r < 0)
			refused = strerror(-r);
	}
	if (refused) {
		listener_complain(listener, greeting->name, refused);
		(void)close(fd); /* Nothing of ours is in it. */
		return;
	}
	tcp_link_adopt(link, fd, greeting);
}

/* A free place, maybe that of someone who has been silent for long. NULL: none. */
static struct tcp_greeting *listener_greeting(struct ferry_tcp_listener *listener)
{
	uint64_t now_ns = ferry_loop_now_ns(listener->config.loop);
	struct tcp_greeting *oldest = &listener->greetings[0];

	for (uint32_t i = 0; i < FERRY_TCP_GREETINGS_MAX; i++) {
		struct tcp_greeting *greeting = &listener->greetings[i];

		if (greeting->watch.fd < 0)
			return greeting;
		if (greeting->began_ns < oldest->began_ns)
			oldest = greeting;
	}
	if (now_ns - oldest->began_ns < LISTEN_GREETING_NS_MIN)
		return NULL;
	tcp_greeting_stop(oldest);
	listener_complain(listener, oldest->name, "no handshake, and others are waiting");
	return oldest;
}

/* One connection from the queue: 0, or accept4(2)'s error. */
static int listener_accept(struct ferry_tcp_listener *listener)
{
	struct tcp_address address = {.length_bytes = sizeof(address.room)};
	struct tcp_greeting *greeting;
	struct ferry_error error = {};
	char name[TCP_NAME_MAX];
	int fd;

	fd = accept4(listener->watch.fd, &address.any, &address.length_bytes,
		     SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return -errno;
	tcp_address_format(&address, name);
	greeting = listener_greeting(listener);
	if (!greeting) {
		listener_complain(listener, name, "too many connections without a handshake");
		(void)close(fd); /* Nothing of ours is in it. */
		return 0;
	}
	tcp_socket_tune(fd, listener->links[0].dead_after_ns);
	memcpy(greeting->name, name, sizeof(name));
	if (tcp_greeting_start(greeting, fd, /* is_connecting= */ false,
			       &listener->config.handshake, &error) < 0)
		listener_complain(listener, name, error.message);
	return 0;
}

static void listener_ready(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_tcp_listener *listener =
		FERRY_CONTAINER_OF(watch, struct ferry_tcp_listener, watch);
	struct ferry_loop *loop = listener->config.loop;
	int r = 0;

	ferry_assert(watch->fd >= 0);
	(void)ready;
	for (uint32_t i = 0; i < LISTEN_ACCEPTS_MAX && r == 0; i++)
		r = listener_accept(listener);
	if (r == -EMFILE || r == -ENFILE || r == -ENOBUFS || r == -ENOMEM) {
		/* Those who wait would keep the loop awake: look again in a while. */
		listener_complain(listener, "anyone", strerror(-r));
		loop->ops->watch_stop(loop, watch);
		ferry_timer_start_in(loop, &listener->rest, LISTEN_REST_NS);
	}
}

static void listener_rested(struct ferry_timer *timer)
{
	struct ferry_tcp_listener *listener =
		FERRY_CONTAINER_OF(timer, struct ferry_tcp_listener, rest);
	struct ferry_loop *loop = listener->config.loop;

	ferry_assert(listener->watch.fd >= 0);
	if (loop->ops->watch_start(loop, &listener->watch, FERRY_WATCH_READ) < 0)
		ferry_timer_start_in(loop, &listener->rest, LISTEN_REST_NS);
}

static void link_over(struct tcp_link *link)
{
	ferry_assert(link->state == TCP_LINK_DOWN); /* The peer connects anew, not we. */
}

/* Bind and listen. The descriptor, or bind(2)'s errors. */
static int listener_socket(const struct tcp_address *address, uint16_t *ret_port)
{
	struct tcp_address bound = {.length_bytes = sizeof(bound.room)};
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	int one = 1;
	int fd;
	int r;

	fd = tcp_socket_open(address);
	if (fd < 0)
		return fd;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)); /* Or bind tells. */
	r = bind(fd, &address->any, address->length_bytes);
	if (r == 0)
		r = listen(fd, LISTEN_BACKLOG);
	if (r == 0)
		r = getsockname(fd, &bound.any, &bound.length_bytes);
	if (r < 0) {
		r = -errno;
		(void)close(fd); /* Nothing of ours is in it. */
		return r;
	}
	memcpy(&v4, &bound.room, sizeof(v4));
	memcpy(&v6, &bound.room, sizeof(v6));
	*ret_port = ntohs(bound.any.sa_family == AF_INET ? v4.sin_port : v6.sin6_port);
	return fd;
}

static void listener_init(struct ferry_tcp_listener *listener,
			  const struct ferry_tcp_listen_config *config)
{
	listener->config = *config;
	listener->config.address = NULL;
	listener->config.handshake.role = FERRY_HANDSHAKE_ACCEPTOR;
	listener->watch = (struct ferry_watch){.run = listener_ready, .fd = -1};
	listener->rest.run = listener_rested;
	for (uint32_t i = 0; i < FERRY_TCP_GREETINGS_MAX; i++) {
		tcp_greeting_init(&listener->greetings[i], config->loop);
		listener->greetings[i].owner = listener;
		listener->greetings[i].on_end = listener_greeted;
	}
	for (uint32_t i = 0; i < FERRY_TCP_INCOMING_MAX; i++) {
		tcp_link_init(&listener->links[i], config->loop, config->events, &config->handshake,
			      config->dead_after_ns);
		listener->links[i].on_over = link_over;
	}
}

int ferry_tcp_listen(const struct ferry_tcp_listen_config *config, struct ferry_tcp_listener **ret,
		     struct ferry_error *reterr)
{
	struct ferry_tcp_listener *listener;
	struct tcp_address address = {};
	char name[TCP_NAME_MAX];
	int r;

	ferry_assert(config && config->loop && ret);
	ferry_assert(config->accept && config->handshake.is_member);
	r = tcp_address_parse(config->address, config->port, &address, reterr);
	if (r < 0)
		return r;
	if (!ferry_handshake_cluster_is_valid(config->handshake.cluster))
		return ferry_error_set(reterr, -EINVAL,
				       "the cluster's name is no plain text of 1 "
				       "to 63 characters");
	tcp_address_format(&address, name);
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return ferry_error_set(reterr, -ENOMEM, "no memory for a listener");
	listener_init(listener, config);
	r = listener_socket(&address, &listener->port);
	if (r >= 0) {
		listener->watch.fd = r;
		r = config->loop->ops->watch_start(config->loop, &listener->watch,
						   FERRY_WATCH_READ);
	}
	if (r < 0) {
		if (listener->watch.fd >= 0)
			(void)close(listener->watch.fd); /* Nothing of ours is in it. */
		free(listener);
		return ferry_error_set(reterr, r, "cannot listen on %s: %s", name, strerror(-r));
	}
	*ret = listener;
	return 0;
}

uint16_t ferry_tcp_listener_port(const struct ferry_tcp_listener *listener)
{
	ferry_assert(listener && listener->port > 0);
	return listener->port;
}

void ferry_tcp_listener_drop(struct ferry_tcp_listener *listener, struct ferry_node node,
			     const char *why)
{
	FERRY_ASSERT_ON_LOOP(listener->config.loop);
	ferry_assert(node.v > 0 && why);
	for (uint32_t i = 0; i < FERRY_TCP_INCOMING_MAX; i++) {
		if (listener->links[i].link.node.v == node.v)
			tcp_link_cut(&listener->links[i], "%s", why);
	}
}

int ferry_tcp_listener_secret(const struct ferry_tcp_listener *listener, struct ferry_node node,
			      struct ferry_incarnation incarnation, uint8_t ret[FERRY_PROOF_BYTES])
{
	ferry_assert(node.v > 0 && incarnation.v > 0);
	for (uint32_t i = 0; i < FERRY_TCP_INCOMING_MAX; i++) {
		const struct tcp_link *link = &listener->links[i];

		if (link->link.node.v == node.v && link->peer_incarnation.v == incarnation.v)
			return tcp_link_secret(link, ret);
	}
	return -ENOTCONN;
}

struct ferry_tcp_counters ferry_tcp_listener_counters(const struct ferry_tcp_listener *listener)
{
	struct ferry_tcp_counters sum = {.refusals = listener->refusals};

	for (uint32_t i = 0; i < FERRY_TCP_INCOMING_MAX; i++)
		tcp_counters_add(&sum, &listener->links[i].counters);
	return sum;
}

struct ferry_tcp_listener *ferry_tcp_listener_close(struct ferry_tcp_listener *listener)
{
	struct ferry_loop *loop;

	if (!listener)
		return NULL;
	loop = listener->config.loop;
	if (!ferry_timer_is_started(&listener->rest))
		loop->ops->watch_stop(loop, &listener->watch);
	ferry_timer_stop(loop, &listener->rest);
	(void)close(listener->watch.fd); /* Nothing of ours is in it. */
	for (uint32_t i = 0; i < FERRY_TCP_GREETINGS_MAX; i++)
		tcp_greeting_stop(&listener->greetings[i]);
	for (uint32_t i = 0; i < FERRY_TCP_INCOMING_MAX; i++) {
		struct tcp_link *link = &listener->links[i];

		ferry_assert(!link->is_running);
		tcp_link_cut(link, "this agent is closing");
		if (link->state == TCP_LINK_CUT)
			tcp_link_settle(link);
		tcp_link_done(link);
	}
	free(listener);
	return NULL;
}
