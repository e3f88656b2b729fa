#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/adapters/tcp/room.h"

int tcp_address_parse(const char *text, uint16_t port, struct tcp_address *ret,
		      struct ferry_error *reterr)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	ferry_assert(ret);
	if (text && inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
		memcpy(&ret->room, &v4, sizeof(v4));
		ret->length_bytes = sizeof(v4);
		return 0;
	}
	if (text && inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
		memcpy(&ret->room, &v6, sizeof(v6));
		ret->length_bytes = sizeof(v6);
		return 0;
	}
	return ferry_error_set(reterr, -EINVAL,
			       "'%s' is no address: give it in numbers (192.0.2.1 or 2001:db8::1)",
			       text ? text : "");
}

void tcp_address_format(const struct tcp_address *address, char ret[TCP_NAME_MAX])
{
	char text[INET6_ADDRSTRLEN] = "?";

	ferry_assert(address);
	if (address->any.sa_family == AF_INET) {
		struct sockaddr_in v4;

		memcpy(&v4, &address->room, sizeof(v4));
		(void)inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
		(void)snprintf(ret, TCP_NAME_MAX, "%s:%u", text, ntohs(v4.sin_port));
	} else if (address->any.sa_family == AF_INET6) {
		struct sockaddr_in6 v6;

		memcpy(&v6, &address->room, sizeof(v6));
		(void)inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
		(void)snprintf(ret, TCP_NAME_MAX, "[%s]:%u", text, ntohs(v6.sin6_port));
	} else {
		(void)snprintf(ret, TCP_NAME_MAX, "a local socket");
	}
}

int tcp_socket_open(const struct tcp_address *address)
{
	int fd;

	ferry_assert(address->length_bytes > 0);
	fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

void tcp_socket_tune(int fd, uint64_t dead_after_ns)
{
	/*
	 * The kernel counts a peer that is alive but takes nothing, too, so that this is longer
	 * than dead_after: it only ends what PING cannot judge, a peer that we do not listen to.
	 */
	unsigned int user_timeout_ms = (unsigned int)(4 * dead_after_ns / FERRY_NS_PER_MS);
	int one = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
			 sizeof(user_timeout_ms));
}

void tcp_greeting_init(struct tcp_greeting *greeting, struct ferry_loop *loop)
{
	ferry_assert(greeting && loop);
	*greeting = (struct tcp_greeting){.loop = loop, .watch = {.fd = -1}};
}

/* Take the socket back from the loop. */
static int greeting_release(struct tcp_greeting *greeting)
{
	int fd = greeting->watch.fd;

	ferry_timer_stop(greeting->loop, &greeting->deadline);
	if (greeting->is_watched)
		greeting->loop->ops->watch_stop(greeting->loop, &greeting->watch);
	greeting->is_watched = false;
	greeting->watch.fd = -1;
	return fd;
}

static void greeting_end(struct tcp_greeting *greeting, int r, const struct ferry_error *error)
{
	int fd = greeting_release(greeting);

	ferry_assert(fd >= 0);
	ferry_assert(r <= 0);
	if (r < 0) {
		(void)shutdown(fd, SHUT_WR); /* So that a REFUSED arrives rather than a reset. */
		(void)close(fd);
		fd = -1;
	}
	greeting->on_end(greeting, r, fd, error);
}

static void greeting_fail(struct tcp_greeting *greeting, int r, const char *what)
{
	struct ferry_error error = {};

	(void)ferry_error_set(&error, r, "%s", what);
	greeting_end(greeting, r, &error);
}

void tcp_greeting_stop(struct tcp_greeting *greeting)
{
	int fd;

	ferry_assert(greeting);
	fd = greeting_release(greeting);
	if (fd >= 0)
		(void)close(fd); /* Nothing of ours is in it. */
}

/* Send what the handshake has said; 0 also when some is left. */
static int greeting_send(struct tcp_greeting *greeting)
{
	ferry_assert(greeting->out_sent_bytes <= greeting->out_bytes);
	while (greeting->out_sent_bytes < greeting->out_bytes) {
		ssize_t n = send(greeting->watch.fd, greeting->out + greeting->out_sent_bytes,
				 greeting->out_bytes - greeting->out_sent_bytes,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		greeting->out_sent_bytes += (uint32_t)n;
	}
	return 0;
}

/* One frame or part of one. 1: more may follow; 0: nothing is there now. */
static int greeting_receive(struct tcp_greeting *greeting, struct ferry_error *reterr)
{
	uint8_t said[2 * FERRY_HANDSHAKE_FRAME_BYTES_MAX];
	uint32_t wants = ferry_handshake_wants(&greeting->handshake);
	uint32_t said_bytes = 0;
	ssize_t n;
	int r;

	if (wants == 0)
		return 0;
	ferry_assert(greeting->in_bytes < wants && wants <= sizeof(greeting->in));
	n = recv(greeting->watch.fd, greeting->in + greeting->in_bytes, wants - greeting->in_bytes,
		 MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0; /* The watch is level-triggered. */
	if (n < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "handshake: %s", strerror(-r));
	}
	if (n == 0)
		return ferry_error_set(reterr, -ECONNRESET, "closed during the handshake");
	greeting->in_bytes += (uint32_t)n;
	if (greeting->in_bytes < wants)
		return 1;
	greeting->in_bytes = 0;
	r = ferry_handshake_read(&greeting->handshake, greeting->in, said, &said_bytes, reterr);
	ferry_assert(said_bytes <= sizeof(greeting->out) - greeting->out_bytes);
	memcpy(greeting->out + greeting->out_bytes, said, said_bytes);
	greeting->out_bytes += said_bytes;
	return r < 0 ? r : 1;
}

static void greeting_watch(struct tcp_greeting *greeting)
{
	uint32_t wanted = FERRY_WATCH_READ;

	if (greeting->out_sent_bytes < greeting->out_bytes)
		wanted |= FERRY_WATCH_WRITE;
	greeting->loop->ops->watch_set(greeting->loop, &greeting->watch, wanted);
}

/* The connection stands, or not. */
static int greeting_connected(struct tcp_greeting *greeting, struct ferry_error *reterr)
{
	int error = 0;
	socklen_t error_bytes = sizeof(error);

	if (getsockopt(greeting->watch.fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) < 0)
		error = errno;
	if (error)
		return ferry_error_set(reterr, -error, "cannot connect: %s", strerror(error));
	greeting->is_connecting = false;
	ferry_timer_start_in(greeting->loop, &greeting->deadline, FERRY_TCP_GREET_NS);
	return ferry_handshake_start(&greeting->handshake, &greeting->config, greeting->out,
				     &greeting->out_bytes, reterr);
}

static void greeting_run(struct ferry_watch *watch, uint32_t ready)
{
	struct tcp_greeting *greeting = FERRY_CONTAINER_OF(watch, struct tcp_greeting, watch);
	struct ferry_error error = {};
	int r = 0;

	ferry_assert(watch->fd >= 0);
	(void)ready; /* Each call below finds out by itself. */
	if (greeting->is_connecting)
		r = greeting_connected(greeting, &error);
	if (r == 0)
		r = 1;
	for (uint32_t i = 0; i < 8 && r == 1; i++) /* A whole handshake has fewer parts. */
		r = greeting_receive(greeting, &error);
	if (r < 0) {
		(void)greeting_send(greeting); /* The REFUSED; it is over, sent or not. */
		greeting_end(greeting, r, &error);
		return;
	}
	r = greeting_send(greeting);
	if (r < 0) {
		greeting_fail(greeting, r, strerror(-r));
		return;
	}
	if (greeting->handshake.state == FERRY_HANDSHAKE_COMPLETE &&
	    greeting->out_sent_bytes == greeting->out_bytes)
		greeting_end(greeting, 0, &error);
	else
		greeting_watch(greeting);
}

static void greeting_late(struct ferry_timer *timer)
{
	struct tcp_greeting *greeting = FERRY_CONTAINER_OF(timer, struct tcp_greeting, deadline);

	ferry_assert(greeting->watch.fd >= 0);
	greeting_fail(greeting, -ETIMEDOUT,
		      greeting->is_connecting ? "cannot connect: no answer in time"
					      : "no handshake in time");
}

int tcp_greeting_start(struct tcp_greeting *greeting, int fd, bool is_connecting,
		       const struct ferry_handshake_config *config, struct ferry_error *reterr)
{
	struct ferry_loop *loop = greeting->loop;
	int r = 0;

	ferry_assert(greeting->watch.fd < 0 && fd >= 0);
	ferry_assert(greeting->on_end);
	greeting->watch = (struct ferry_watch){.run = greeting_run, .fd = fd};
	greeting->deadline.run = greeting_late;
	greeting->config = *config;
	greeting->is_connecting = is_connecting;
	greeting->in_bytes = greeting->out_bytes = greeting->out_sent_bytes = 0;
	greeting->began_ns = ferry_loop_now_ns(loop);
	if (!is_connecting) {
		r = ferry_handshake_start(&greeting->handshake, config, greeting->out,
					  &greeting->out_bytes, reterr);
		ferry_assert(config->role == FERRY_HANDSHAKE_ACCEPTOR && greeting->out_bytes == 0);
	}
	if (r >= 0) {
		r = loop->ops->watch_start(loop, &greeting->watch,
					   is_connecting ? FERRY_WATCH_WRITE : FERRY_WATCH_READ);
		if (r < 0)
			(void)ferry_error_set(reterr, r, "cannot watch a socket: %s", strerror(-r));
	}
	if (r < 0) {
		greeting->watch.fd = -1;
		(void)close(fd); /* Nothing of ours is in it. */
		return r;
	}
	greeting->is_watched = true;
	ferry_timer_start_in(loop, &greeting->deadline,
			     is_connecting ? FERRY_TCP_CONNECT_NS : FERRY_TCP_GREET_NS);
	return 0;
}
