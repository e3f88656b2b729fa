#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/adapters/tcp/room.h"
#include "agent/base/prng.h"

struct ferry_tcp_link {
	struct tcp_link core;
	struct tcp_greeting greeting;
	struct ferry_handshake_config handshake;
	struct tcp_address address;
	struct ferry_timer again; /* The next try. */
	struct ferry_prng prng;
	uint64_t backoff_ns;
	bool is_enabled;
	char trouble[TCP_WHY_MAX]; /* What the last try met, so that it is told once. */
};

static void connector_again(struct ferry_tcp_link *connector)
{
	uint64_t half_ns = connector->backoff_ns / 2;

	ferry_assert(connector->core.state == TCP_LINK_DOWN);
	if (!connector->is_enabled)
		return;
	/* Half of it by chance, lest all peers of a node that was away come at once. */
	ferry_timer_start_in(connector->core.loop, &connector->again,
			     half_ns + ferry_prng_below(&connector->prng, half_ns + 1));
	connector->backoff_ns = ferry_min_u64(2 * connector->backoff_ns, FERRY_TCP_BACKOFF_NS_MAX);
}

static void connector_trouble(struct ferry_tcp_link *connector, const char *trouble)
{
	struct ferry_event event = {
		.kind = FERRY_EVENT_PEER,
		.severity = FERRY_SEVERITY_WARNING,
		.time_ns = ferry_loop_now_ns(connector->core.loop),
		.node = connector->core.link.node,
		.from = "down",
		.to = "down",
	};

	connector->core.counters.refusals++;
	if (strncmp(connector->trouble, trouble, sizeof(connector->trouble) - 1) == 0)
		return;
	(void)snprintf(connector->trouble, sizeof(connector->trouble), "%s", trouble);
	ferry_event_emit(connector->core.events, event, "%s: %s", connector->greeting.name,
			 trouble);
}

static void connector_try(struct ferry_timer *timer)
{
	struct ferry_tcp_link *connector = FERRY_CONTAINER_OF(timer, struct ferry_tcp_link, again);
	struct ferry_error error = {};
	int fd;
	int r;

	ferry_assert(connector->is_enabled);
	ferry_assert(connector->core.state == TCP_LINK_DOWN && connector->greeting.watch.fd < 0);
	fd = tcp_socket_open(&connector->address);
	r = fd;
	if (fd >= 0) {
		tcp_socket_tune(fd, connector->core.dead_after_ns);
		r = connect(fd, &connector->address.any, connector->address.length_bytes);
		r = r < 0 && errno != EINPROGRESS ? -errno : 0;
		if (r == 0)
			r = tcp_greeting_start(&connector->greeting, fd, /* is_connecting= */ true,
					       &connector->handshake, &error);
		else
			(void)close(fd); /* Nothing of ours is in it. */
	}
	if (r < 0) {
		(void)ferry_error_set(&error, r, "cannot connect: %s", strerror(-r));
		connector_trouble(connector, error.message);
		connector_again(connector);
	}
}

static void connector_greeted(struct tcp_greeting *greeting, int r, int fd,
			      const struct ferry_error *error)
{
	struct ferry_tcp_link *connector =
		FERRY_CONTAINER_OF(greeting, struct ferry_tcp_link, greeting);

	if (r < 0) {
		/* One who refuses will not change its mind at once. */
		if (greeting->handshake.state == FERRY_HANDSHAKE_FAILED)
			connector->backoff_ns = FERRY_TCP_BACKOFF_NS_MAX;
		connector_trouble(connector, error->message);
		connector_again(connector);
		return;
	}
	ferry_assert(greeting->handshake.state == FERRY_HANDSHAKE_COMPLETE);
	connector->trouble[0] = '\0';
	tcp_link_adopt(&connector->core, fd, greeting);
}

/* It was up and is down. */
static void connector_over(struct tcp_link *core)
{
	struct ferry_tcp_link *connector = FERRY_CONTAINER_OF(core, struct ferry_tcp_link, core);
	uint64_t stood_ns = ferry_loop_now_ns(core->loop) - core->up_ns;

	/* One that falls as soon as it stands must not be raised ever again at full speed. */
	if (stood_ns >= FERRY_TCP_BACKOFF_NS_MAX)
		connector->backoff_ns = FERRY_TCP_BACKOFF_NS_MIN;
	connector_again(connector);
}

int ferry_tcp_connect(const struct ferry_tcp_connect_config *config, struct ferry_tcp_link **ret,
		      struct ferry_error *reterr)
{
	struct ferry_tcp_link *connector;
	struct tcp_address address = {};
	int r;

	ferry_assert(config && config->loop && ret);
	ferry_assert(config->peer.v > 0);
	r = tcp_address_parse(config->address, config->port, &address, reterr);
	if (r < 0)
		return r;
	if (config->port == 0)
		return ferry_error_set(reterr, -EINVAL, "node %" PRIu32 " has no port",
				       config->peer.v);
	if (!ferry_handshake_cluster_is_valid(config->handshake.cluster))
		return ferry_error_set(reterr, -EINVAL,
				       "the cluster's name is no plain text of 1 "
				       "to 63 characters");
	connector = calloc(1, sizeof(*connector));
	if (!connector)
		return ferry_error_set(reterr, -ENOMEM, "no memory for a link");
	tcp_link_init(&connector->core, config->loop, config->events, &config->handshake,
		      config->dead_after_ns);
	connector->core.link.node = config->peer;
	connector->core.on_over = connector_over;
	connector->handshake = config->handshake;
	connector->handshake.role = FERRY_HANDSHAKE_CONNECTOR;
	connector->handshake.wanted = config->peer;
	connector->address = address;
	connector->again.run = connector_try;
	connector->prng.state = config->seed;
	connector->backoff_ns = FERRY_TCP_BACKOFF_NS_MIN;
	tcp_greeting_init(&connector->greeting, config->loop);
	connector->greeting.on_end = connector_greeted;
	tcp_address_format(&address, connector->greeting.name);
	if (tcp_link_buffer_take(&connector->core) < 0) {
		free(connector);
		return ferry_error_set(reterr, -ENOMEM, "no memory for a link");
	}
	*ret = connector;
	return 0;
}

struct ferry_link *ferry_tcp_link_of(struct ferry_tcp_link *connector)
{
	ferry_assert(connector);
	return &connector->core.link;
}

void ferry_tcp_link_enable(struct ferry_tcp_link *connector, bool is_enabled)
{
	struct tcp_link *core = &connector->core;

	FERRY_ASSERT_ON_LOOP(core->loop);
	ferry_assert(!is_enabled || core->link.on_up);
	if (connector->is_enabled == is_enabled)
		return;
	connector->is_enabled = is_enabled;
	connector->backoff_ns = FERRY_TCP_BACKOFF_NS_MIN;
	if (is_enabled) {
		/* One that is cut and not yet settled goes on by connector_over(). */
		if (core->state == TCP_LINK_DOWN && !core->is_running)
			ferry_timer_start_in(core->loop, &connector->again, 0);
		return;
	}
	ferry_timer_stop(core->loop, &connector->again);
	tcp_greeting_stop(&connector->greeting);
	tcp_link_cut(core, "no longer wanted");
}

uint64_t ferry_tcp_link_rtt_ns(const struct ferry_tcp_link *connector)
{
	const struct tcp_link *core = &connector->core;
	struct tcp_info info = {0};
	socklen_t length_bytes = sizeof(info);

	if (core->state != TCP_LINK_UP ||
	    getsockopt(core->watch.fd, IPPROTO_TCP, TCP_INFO, &info, &length_bytes) < 0)
		return 0;
	return (uint64_t)info.tcpi_rtt * 1000;
}

const char *ferry_tcp_link_trouble(const struct ferry_tcp_link *connector)
{
	if (connector->core.state == TCP_LINK_UP)
		return "";
	return connector->trouble[0] ? connector->trouble : connector->core.why;
}

uint64_t ferry_tcp_link_features(const struct ferry_tcp_link *connector)
{
	ferry_assert(connector);
	return connector->core.state == TCP_LINK_UP ? connector->core.features : 0;
}

int ferry_tcp_link_secret(const struct ferry_tcp_link *connector, uint8_t ret[FERRY_PROOF_BYTES])
{
	ferry_assert(connector);
	return tcp_link_secret(&connector->core, ret);
}

struct ferry_tcp_counters ferry_tcp_link_counters(const struct ferry_tcp_link *connector)
{
	ferry_assert(connector);
	return connector->core.counters;
}

struct ferry_tcp_link *ferry_tcp_link_close(struct ferry_tcp_link *connector)
{
	if (!connector)
		return NULL;
	ferry_assert(!connector->core.is_running);
	ferry_tcp_link_enable(connector, false);
	if (connector->core.state == TCP_LINK_CUT)
		tcp_link_settle(&connector->core);
	tcp_link_done(&connector->core);
	free(connector);
	return NULL;
}
