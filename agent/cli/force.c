/* force.c - ferry own --force, ferry fence and ferry clear: where somebody is passed over. */
#include <stdlib.h>

#include "agent/cli/cli.h"
#include "ferry.pb-c.h"

/* protoc-c's initialisers cast const away; gcc sees that they are another's code, clang doesn't. */
#pragma GCC diagnostic ignored "-Wcast-qual"

enum { MISSING_MAX = 64 };

/* The nodes whose agents are not in the group: by number, and as words. */
struct missing {
	uint32_t nodes[MISSING_MAX];
	size_t count;
	char names[CLI_CELL_BYTES];
};

static int missing_find(const struct cli_agent *agent, struct missing *ret,
			struct ferry_error *reterr)
{
	Ferry__V1__ListPeersRequest request = FERRY__V1__LIST_PEERS_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	Ferry__V1__PeerList *list;
	size_t length = 0;
	int r;

	r = cli_call(agent, "ListPeers", &request.base, &ferry__v1__peer_list__descriptor, &message,
		     reterr);
	if (r < 0)
		return r;
	list = (Ferry__V1__PeerList *)message;
	*ret = (struct missing){0};
	for (size_t i = 0; i < list->n_peers && ret->count < MISSING_MAX; i++) {
		const Ferry__V1__Peer *peer = list->peers[i];
		char name[CLI_CELL_BYTES];
		int written;

		if (peer->member)
			continue;
		cli_clean(name, sizeof(name), peer->name);
		if (!name[0])
			(void)snprintf(name, sizeof(name), "%u", peer->node);
		written = snprintf(ret->names + length, sizeof(ret->names) - length, "%s%s",
				   ret->count ? ", " : "", name);
		length = ferry_min_u64(length + (size_t)written, sizeof(ret->names) - 1);
		ret->nodes[ret->count++] = peer->node;
	}
	protobuf_c_message_free_unpacked(message, NULL);
	return 0;
}

/* What no word of a person's makes up for. Of two nodes one is enough, by that word. */
static int agents_check(const struct cli_agent *agent, struct ferry_error *reterr)
{
	Ferry__V1__GetStatusRequest request = FERRY__V1__GET_STATUS_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	const Ferry__V1__Status *status;
	uint32_t needed;
	int r;

	r = cli_call(agent, "GetStatus", &request.base, &ferry__v1__status__descriptor, &message,
		     reterr);
	if (r < 0)
		return r;
	status = (const Ferry__V1__Status *)message;
	if (!status->cluster[0]) {
		protobuf_c_message_free_unpacked(message, NULL);
		return ferry_error_set(reterr, -EPERM,
				       "this agent stands alone: there is nobody to pass over, and "
				       "what it released it serves when it is started anew");
	}
	needed = status->nodes_expected == 2 ? 1 : status->nodes_expected / 2 + 1;
	if (status->n_members < needed)
		r = ferry_error_set(reterr, -EPERM,
				    "%u of %u agents are needed, %zu here: start ferryd on more "
				    "nodes first",
				    needed, status->nodes_expected, status->n_members);
	protobuf_c_message_free_unpacked(message, NULL);
	return r;
}

int cli_own(const struct cli_agent *agent, struct ferry_error *reterr)
{
	Ferry__V1__ForcePoolRequest request = FERRY__V1__FORCE_POOL_REQUEST__INIT;
	const char *pool = agent->options->arguments[0];
	ProtobufCMessage *message = NULL;
	struct missing missing;
	char question[3 * CLI_CELL_BYTES];
	int r;

	if (!agent->options->is_force)
		return ferry_error_set(reterr, -EINVAL,
				       "own wants --force; the ordinary way is: ferry acquire");
	r = agents_check(agent, reterr);
	if (r < 0)
		return r;
	r = missing_find(agent, &missing, reterr);
	if (r < 0)
		return r;
	if (missing.count == 0)
		return ferry_error_set(reterr, -EPERM,
				       "the agents of all nodes are in the group, there is nobody "
				       "to pass over: ferry acquire");
	(void)snprintf(question, sizeof(question),
		       "%s %s %s not answered. If %s still runs, or the storage is still at a "
		       "write of %s, data will be corrupted.\n"
		       "Have you made sure that %s powered off, and that the storage has ended "
		       "what it was at? Type the pool's name to go on:",
		       missing.count > 1 ? "Nodes" : "Node", missing.names,
		       missing.count > 1 ? "have" : "has", missing.count > 1 ? "any of them" : "it",
		       missing.count > 1 ? "theirs" : "its own",
		       missing.count > 1 ? "they are" : "it is");
	r = cli_ask(agent->options, question, pool, reterr);
	if (r < 0)
		return r;
	request.pool = (char *)(uintptr_t)pool; /* Only read. */
	request.nodes = missing.nodes;
	request.n_nodes = missing.count;
	r = cli_call(agent, "ForcePool", &request.base, &ferry__v1__acquire_pool_reply__descriptor,
		     &message, reterr);
	if (r < 0)
		return r;
	cli_print(agent, message, cli_show_acquire);
	protobuf_c_message_free_unpacked(message, NULL);
	return 0;
}

int cli_clear(const struct cli_agent *agent, struct ferry_error *reterr)
{
	Ferry__V1__ClearPoolRequest request = FERRY__V1__CLEAR_POOL_REQUEST__INIT;
	const struct cli_options *options = agent->options;
	const char *pool = options->arguments[0];
	char question[2 * CLI_CELL_BYTES], clean[CLI_CELL_BYTES];
	ProtobufCMessage *message = NULL;
	int r;

	cli_clean(clean, sizeof(clean), pool);
	if (!clean[0])
		return ferry_error_set(reterr, -EINVAL, "a name is empty");
	(void)snprintf(question, sizeof(question),
		       "What was written to pool %s and not synced may be lost, in part, and from "
		       "now on\nno flush says so. Will whoever uses it look first at what the disk "
		       "really has\n(recovery, fsck)? Type the pool's name to go on:",
		       clean);
	r = cli_ask(options, question, pool, reterr);
	if (r < 0)
		return r;
	request.pool = (char *)(uintptr_t)pool; /* Only read. */
	request.force = options->is_force;
	r = cli_call(agent, "ClearPool", &request.base, &ferry__v1__clear_pool_reply__descriptor,
		     &message, reterr);
	if (r < 0)
		return r;
	cli_print(agent, message, cli_show_nothing);
	protobuf_c_message_free_unpacked(message, NULL);
	return 0;
}

static int fence_ask(const struct cli_options *options, struct ferry_error *reterr)
{
	const char *node = options->arguments[0];
	char question[2 * CLI_CELL_BYTES], clean[CLI_CELL_BYTES];

	cli_clean(clean, sizeof(clean), node);
	if (!clean[0])
		return ferry_error_set(reterr, -EINVAL, "a name is empty");
	(void)snprintf(
		question, sizeof(question),
		"Node %s loses %s%s and its registrations: its applications get errors, what "
		"they have not\nsynced is lost, and its agent stays out until it is started "
		"anew.\nType the node's name to go on:",
		clean, options->pool ? "pool " : "all pools", options->pool ? options->pool : "");
	return cli_ask(options, question, node, reterr);
}

int cli_fence(const struct cli_agent *agent, struct ferry_error *reterr)
{
	Ferry__V1__FenceRequest request = FERRY__V1__FENCE_REQUEST__INIT;
	const struct cli_options *options = agent->options;
	ProtobufCMessage *message = NULL;
	bool is_fenced;
	int r;

	if (!options->is_check) {
		r = fence_ask(options, reterr);
		if (r < 0)
			return r;
	}
	request.node = (char *)(uintptr_t)options->arguments[0]; /* Only read. */
	if (options->pool)
		request.pool = (char *)(uintptr_t)options->pool;
	/* GetFenceRequest has the same fields. */
	r = cli_call(agent, options->is_check ? "GetFence" : "FenceNode", &request.base,
		     &ferry__v1__fence_report__descriptor, &message, reterr);
	if (r < 0)
		return r;
	is_fenced = ((Ferry__V1__FenceReport *)message)->fenced;
	cli_print(agent, message, cli_show_fence);
	protobuf_c_message_free_unpacked(message, NULL);
	if (!is_fenced && !options->is_check)
		return ferry_error_set(reterr, -EIO, "it could not be verified that %s is fenced",
				       options->arguments[0]);
	return 0;
}
