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

static int accept_link(void *context, struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct ferry_data *data = context;

	return ferry_carrier_accept(&data->carrier, link, incarnation);
}

static struct ferry_handshake_config handshake_config(struct ferry_data *data)
{
	struct ferry_handshake_config config = {
		.auth = data->config.auth,
		.self = data->config.self,
		.incarnation = data->config.incarnation,
		.is_member = is_member,
		.context = data,
	};

	(void)snprintf(config.cluster, sizeof(config.cluster), "%s", data->config.cluster);
	return config;
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
	int r;

	peer->data = data;
	r = ferry_tcp_connect(&tcp, &peer->connector, reterr);
	if (r < 0)
		return r;
	r = ferry_peer_init(&peer->peer, &data->tables, ferry_tcp_link_of(peer->connector),
			    &peer_config);
	if (r < 0)
		return ferry_error_set(reterr, r, "no memory for peer %u", config->node.v);
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
		.handshake = handshake_config(data),
		.accept = accept_link,
		.context = data,
	};
	int r;

	if (data->config.peers_count == 0)
		carrier.sessions_max = 1; /* Nobody will come; the room still has its shape. */
	r = ferry_carrier_init(&data->carrier, &data->tables, &carrier);
	if (r < 0)
		return ferry_error_set(reterr, r, "no memory for what peers ask");
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

	if (!peer || peer->is_member == is_now_member)
		return;
	peer->is_member = is_now_member;
	ferry_tcp_link_enable(peer->connector, is_now_member);
	if (!is_now_member) {
		ferry_tcp_listener_drop(data->listener, node, "no member any more");
		ferry_peer_lost(&peer->peer);
	}
}

void data_peers_close(struct ferry_data *data)
{
	data->listener = ferry_tcp_listener_close(data->listener);
	for (uint32_t i = 0; i < data->config.peers_count; i++)
		data->peers[i].connector = ferry_tcp_link_close(data->peers[i].connector);
}
