/* data_peers.c - the data thread's links to other nodes' agents: out to carry ours, in for theirs.
 */
#include <stdio.h>

#include "agent/data_internal.h"

static struct data_peer *peer_find(struct ferry_data *data, struct ferry_node node)
{
	for (uint32_t i = 0; i < data->config.peers_count; i++)
		if (data->config.peers[i].node.v == node.v)
			return &data->peers[i];
	return NULL;
}

static bool is_member(struct ferry_node node, void *context)
{
	const struct data_peer *peer = peer_find(context, node);

	return peer && peer->is_member;
}

/* ---- Links in: TCP's and RDMA's of one node are one to the carrier. ---- */

static int carrier_accept(void *context, struct ferry_link *link,
			  struct ferry_incarnation incarnation)
{
	struct ferry_data *data = context;

	return ferry_carrier_accept(&data->carrier, link, incarnation);
}

static int tcp_accept(void *context, struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct data_peer *peer = peer_find(context, link->node);

	return peer ? ferry_incoming_tcp(&peer->incoming, link, incarnation) : -ENOENT;
}

static int rdma_accept(void *context, struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct data_peer *peer = peer_find(context, link->node);

	return peer ? ferry_incoming_rdma(&peer->incoming, link, incarnation) : -ENOENT;
}

static int rdma_secret(void *context, struct ferry_node node, struct ferry_incarnation incarnation,
		       struct ferry_rdma_secret *ret)
{
	struct ferry_data *data = context;

	if (!data->listener || !is_member(node, data) ||
	    ferry_tcp_listener_secret(data->listener, node, incarnation, ret->v) < 0)
		return -ENOENT;
	return 0;
}

/* ---- Links out. ---- */

static void rdma_raise(void *context, bool is_wanted)
{
	struct data_peer *peer = context;
	bool is_taken = ferry_tcp_link_features(peer->connector) & FERRY_HANDSHAKE_FEATURE_RDMA;
	struct ferry_rdma_secret secret;

	if (!is_wanted || !is_taken || ferry_tcp_link_secret(peer->connector, secret.v) < 0)
		ferry_verbs_enable(peer->rdma, NULL);
	else
		ferry_verbs_enable(peer->rdma, &secret);
}

static struct ferry_handshake_config handshake_config(struct ferry_data *data)
{
	struct ferry_handshake_config config = {
		.auth = data->config.auth,
		.self = data->config.self,
		.incarnation = data->config.incarnation,
		.is_member = is_member,
		.features = data->verbs ? FERRY_HANDSHAKE_FEATURE_RDMA : 0,
		.context = data,
	};

	(void)snprintf(config.cluster, sizeof(config.cluster), "%s", data->config.cluster);
	return config;
}

static void outgoing_open(struct data_peer *peer)
{
	struct ferry_data *data = peer->data;
	struct ferry_outgoing_config config = {
		.loop = data->loop,
		.events = &data->events,
		.tcp = ferry_tcp_link_of(peer->connector),
		.rdma = peer->rdma,
		.is_rdma_only = data->config.transport == FERRY_CONFIG_TRANSPORT_RDMA,
		.raise = rdma_raise,
		.context = peer,
	};

	ferry_outgoing_init(&peer->outgoing, &config);
}

static int connector_open(struct ferry_data *data, uint32_t index, struct ferry_error *reterr)
{
	struct data_peer *peer = &data->peers[index];
	const struct ferry_data_peer *config = &data->config.peers[index];
	struct ferry_tcp_connect_config tcp = {
		.loop = data->loop,
		.events = &data->events,
		.address = config->address,
		.port = config->port,
		.peer = config->node,
		.handshake = handshake_config(data),
		.seed = data->config.incarnation.v * 17 + index,
	};
	struct ferry_peer_config peer_config = {
		.loop = data->loop,
		.events = &data->events,
		.self = data->config.self,
		.incarnation = data->config.incarnation,
	};
	struct ferry_incoming_config in = {.accept = carrier_accept, .context = data};
	int r;

	peer->data = data;
	r = ferry_tcp_connect(&tcp, &peer->connector, reterr);
	if (r == 0 && data->verbs)
		r = ferry_verbs_connect(data->verbs, config->node, config->address, config->port,
					&peer->rdma, reterr);
	if (r < 0)
		return r;
	outgoing_open(peer);
	ferry_incoming_init(&peer->incoming, config->node, &in);
	r = ferry_peer_init(&peer->peer, &data->tables, &peer->outgoing.link, &peer_config);
	if (r < 0)
		return ferry_error_set(reterr, r, "no memory for peer %u", config->node.v);
	return 0;
}

/* Without a device all goes by TCP, unless that is not wanted. */
static int rdma_open(struct ferry_data *data, struct ferry_error *reterr)
{
	const struct ferry_data_config *config = &data->config;
	struct ferry_event note = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_INFO};
	struct ferry_verbs_config verbs = {
		.loop = data->loop,
		.events = &data->events,
		.auth = config->auth,
		.self = {config->self, config->incarnation},
		.address = config->rdma_address,
		.port = config->listen_port,
		.memory = data->chunks,
		.memory_bytes = data->chunks_bytes,
		.links_max = 2 * config->peers_count,
		.seed = config->incarnation.v,
		.secret = rdma_secret,
		.accept = rdma_accept,
		.context = data,
	};
	struct ferry_error error = {.message = "as configured"};
	int r = -ENODEV;

	if (config->peers_count == 0)
		return 0;
	if (config->transport != FERRY_CONFIG_TRANSPORT_TCP)
		r = ferry_verbs_open(&verbs, &data->verbs, &error);
	if (r == 0)
		return 0;
	if (config->transport == FERRY_CONFIG_TRANSPORT_RDMA)
		return ferry_error_set(reterr, r, "transport = rdma: %s", error.message);
	(void)snprintf(data->no_rdma, sizeof(data->no_rdma), "%.180s", error.message);
	ferry_event_emit(&data->events, note, "peers are reached by TCP: %s", data->no_rdma);
	return 0;
}

int data_peers_open(struct ferry_data *data, struct ferry_error *reterr)
{
	struct ferry_carrier_config carrier = {
		.loop = data->loop,
		.arena = &data->peers_arena,
		.events = &data->events,
		.self = data->config.self,
		.incarnation = data->config.incarnation,
		.sessions_max = data->config.peers_count,
	};
	struct ferry_tcp_listen_config listen = {
		.loop = data->loop,
		.events = &data->events,
		.address = data->config.listen_address,
		.port = data->config.listen_port,
		.accept = tcp_accept,
		.context = data,
	};
	int r;

	if (data->config.peers_count == 0)
		carrier.sessions_max = 1; /* Nobody will come; the room still has its shape. */
	r = ferry_carrier_init(&data->carrier, &data->tables, &carrier);
	if (r < 0)
		return ferry_error_set(reterr, r, "no memory for what peers ask");
	r = rdma_open(data, reterr);
	if (r < 0)
		return r;
	listen.handshake = handshake_config(data); /* It says whether there is RDMA. */
	for (uint32_t i = 0; i < data->config.peers_count; i++) {
		r = connector_open(data, i, reterr);
		if (r < 0)
			return r;
	}
	return ferry_tcp_listen(&listen, &data->listener, reterr);
}

int data_peers_join(struct data_pool *pool)
{
	struct ferry_data *data = pool->data;
	int r;

	for (uint32_t i = 0; i < data->config.peers_count; i++) {
		r = ferry_engine_add_peer(&pool->engine, &data->peers[i].peer);
		if (r < 0)
			return r;
	}
	return 0;
}

void data_peer_member(struct ferry_data *data, struct ferry_node node, bool is_now_member)
{
	struct data_peer *peer = peer_find(data, node);

	if (!peer || !peer->connector || peer->is_member == is_now_member)
		return;
	peer->is_member = is_now_member;
	ferry_tcp_link_enable(peer->connector, is_now_member);
	if (!is_now_member) {
		ferry_tcp_listener_drop(data->listener, node, "no member any more");
		if (data->verbs) {
			ferry_verbs_enable(peer->rdma, NULL);
			ferry_verbs_drop(data->verbs, node, "no member any more");
		}
		ferry_peer_lost(&peer->peer);
	}
}

/* Or "": it carries, or nothing does yet. */
static void why_not_rdma(const struct data_peer *peer, char *ret, size_t size_bytes)
{
	uint64_t features = ferry_tcp_link_features(peer->connector);
	const char *trouble = peer->rdma ? ferry_verbs_trouble(peer->rdma) : "";

	ret[0] = '\0';
	if (ferry_outgoing_is_rdma(&peer->outgoing))
		return;
	if (!peer->rdma)
		(void)snprintf(ret, size_bytes, "%s", peer->data->no_rdma);
	else if (peer->rdma->is_up)
		(void)snprintf(ret, size_bytes, "rdma: up again, about to carry");
	else if (trouble[0])
		(void)snprintf(ret, size_bytes, "rdma: %s", trouble);
	else if (peer->outgoing.is_tcp_up && !(features & FERRY_HANDSHAKE_FEATURE_RDMA))
		(void)snprintf(ret, size_bytes, "the peer takes no RDMA");
}

static void rdma_count(struct ferry_link *link, struct ferry_control_rdma *ret)
{
	struct ferry_verbs_counters counters;

	if (!link)
		return;
	counters = ferry_verbs_counters(link);
	ret->messages_sent += counters.messages_sent - counters.pings_sent;
	ret->pings_sent += counters.pings_sent;
	ret->pings_received += counters.pings_received;
	ret->credit_frames_sent += counters.credit_frames_sent;
	ret->reads += counters.rdma_reads;
	ret->writes += counters.rdma_writes;
	ret->windows_opened += counters.windows_opened;
	ret->bytes_moved += counters.bytes_moved;
	ret->bytes_copied += counters.bytes_copied;
	ret->completions += counters.completions;
	ret->posts += counters.posts;
	ret->polls = counters.polls;
	ret->wakeups = counters.wakeups;
}

void data_peer_snap(const struct data_peer *peer, struct ferry_snapshot_peer *ret)
{
	const struct ferry_data *data = peer->data;

	if (!peer->connector) {
		*ret = (struct ferry_snapshot_peer){.node = peer->peer.node}; /* Stopping. */
		return;
	}
	*ret = (struct ferry_snapshot_peer){
		.node = peer->peer.node,
		.is_up = peer->outgoing.link.is_up,
		.incarnation = peer->peer.incarnation,
		.rtt_ns = ferry_tcp_link_rtt_ns(peer->connector),
		.carried_for = ferry_carrier_carried_for(&data->carrier, peer->peer.node)};
	ret->is_rdma = ferry_outgoing_is_rdma(&peer->outgoing) ||
		       data->config.transport == FERRY_CONFIG_TRANSPORT_RDMA;
	why_not_rdma(peer, ret->not_rdma, sizeof(ret->not_rdma));
	rdma_count(peer->rdma, &ret->rdma);
	rdma_count(peer->incoming.rdma, &ret->rdma);
	(void)snprintf(ret->trouble, sizeof(ret->trouble), "%s",
		       ferry_tcp_link_trouble(peer->connector));
}

void data_peers_close(struct ferry_data *data)
{
	data->listener = ferry_tcp_listener_close(data->listener);
	for (uint32_t i = 0; i < data->config.peers_count; i++)
		data->peers[i].connector = ferry_tcp_link_close(data->peers[i].connector);
	data->verbs = ferry_verbs_close(data->verbs);
	for (uint32_t i = 0; i < data->config.peers_count; i++)
		if (data->peers[i].outgoing.config.loop)
			ferry_outgoing_done(&data->peers[i].outgoing);
}
