/* force.c - ferry own --force, ferry fence and ferry clear: where somebody is passed over. */
#include <stdlib.h>

#include "agent/cli/cli.h"
#include "ferry.pb-c.h"

/* protoc-c's initialisers cast const away; gcc sees that they are another's code, clang doesn't. */
#pragma GCC diagnostic ignored "-Wcast-qual"

/* What no word of a person's makes up for. Of two nodes one is enough, by that word. */
static int agents_check(const struct cli_standing *standing, struct ferry_error *reterr)
{
	uint32_t expected = standing->agents_expected;
	uint32_t needed = expected == 2 ? 1 : expected / 2 + 1;

	if (standing->is_alone)
		return ferry_error_set(reterr, -EPERM,
				       "this agent stands alone: there is nobody to pass over, and "
				       "what it released it serves when it is started anew");
	if (standing->agents_here < needed)
		return ferry_error_set(reterr, -EPERM,
				       "%u of %u agents are needed, %zu here; missing: %s: start "
				       "ferryd on more nodes first",
				       needed, expected, standing->agents_here,
				       standing->missing_names);
	if (standing->missing_count == 0)
		return ferry_error_set(reterr, -EPERM,
				       "the agents of all nodes are in the group, there is nobody "
				       "to pass over: ferry acquire");
	return 0;
}

static int own_ask(const struct cli_agent *agent, const struct cli_standing *standing,
		   struct ferry_error *reterr)
{
	bool are_several = standing->missing_count > 1;
	char question[3 * CLI_CELL_BYTES];

	(void)snprintf(question, sizeof(question),
		       "%s %s %s not answered. If %s still runs, or the storage is still at a "
		       "write of %s, data will be corrupted.\n"
		       "Have you made sure that %s powered off, and that the storage has ended "
		       "what it was at? Type the pool's name to go on:",
		       are_several ? "Nodes" : "Node", standing->missing_names,
		       are_several ? "have" : "has", are_several ? "any of them" : "it",
		       are_several ? "theirs" : "its own", are_several ? "they are" : "it is");
	return cli_ask(agent->options, question, agent->options->arguments[0], reterr);
}

int cli_own(const struct cli_agent *agent, struct ferry_error *reterr)
{
	Ferry__V1__ForcePoolRequest request = FERRY__V1__FORCE_POOL_REQUEST__INIT;
	const char *pool = agent->options->arguments[0];
	ProtobufCMessage *message = NULL;
	struct cli_standing standing;
	int r;

	if (!agent->options->is_force)
		return ferry_error_set(reterr, -EINVAL,
				       "own wants --force; the ordinary way is: ferry acquire");
	r = cli_pool_check(agent, pool, reterr);
	if (r == 0)
		r = cli_standing_get(agent, &standing, reterr);
	if (r == 0)
		r = agents_check(&standing, reterr);
	if (r == 0)
		r = own_ask(agent, &standing, reterr);
	if (r < 0)
		return r;
	request.pool = (char *)(uintptr_t)pool; /* Only read. */
	request.nodes = standing.missing;
	request.n_nodes = standing.missing_count;
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
	if (!options->is_yes) { /* Else the agent says so as soon. */
		r = cli_pool_check(agent, pool, reterr);
		if (r < 0)
			return r;
	}
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

static int fence_ask(const struct cli_agent *agent, struct ferry_error *reterr)
{
	const struct cli_options *options = agent->options;
	const char *node = options->arguments[0];
	char question[3 * CLI_CELL_BYTES], clean[CLI_CELL_BYTES], pool[CLI_CELL_BYTES];
	int r;

	cli_clean(clean, sizeof(clean), node);
	cli_clean(pool, sizeof(pool), options->pool ? options->pool : "");
	if (!clean[0])
		return ferry_error_set(reterr, -EINVAL, "a name is empty");
	if (options->is_yes)
		return 0; /* The agent looks for them before it does anything. */
	r = cli_node_check(agent, node, reterr);
	if (r == 0 && options->pool)
		r = cli_pool_check(agent, options->pool, reterr);
	if (r < 0)
		return r;
	(void)snprintf(
		question, sizeof(question),
		"Node %s loses %s%s and its registrations: its applications get errors, what "
		"they have not\nsynced is lost, and its agent stays out until it is started "
		"anew.\nType the node's name to go on:",
		clean, options->pool ? "pool " : "all pools", pool);
	return cli_ask(options, question, node, reterr);
}

/* 0 only if the node is fenced, for sure, from each pool. */
static int fence_judge(const struct cli_options *options, const Ferry__V1__FenceReport *report,
		       struct ferry_error *reterr)
{
	const char *node = options->arguments[0];
	bool is_allowed = false;

	if (report->fenced)
		return 0;
	if (!options->is_check)
		return ferry_error_set(reterr, -EIO, "it could not be verified that %s is fenced",
				       node);
	for (size_t i = 0; i < report->n_pools; i++)
		is_allowed |= report->pools[i]->known && !report->pools[i]->fenced;
	if (is_allowed)
		return ferry_error_set(reterr, -EIO, "%s is not fenced", node);
	return ferry_error_set(reterr, -EIO, "it is not known whether %s is fenced", node);
}

int cli_fence(const struct cli_agent *agent, struct ferry_error *reterr)
{
	Ferry__V1__FenceRequest request = FERRY__V1__FENCE_REQUEST__INIT;
	const struct cli_options *options = agent->options;
	ProtobufCMessage *message = NULL;
	int r;

	if (!options->is_check) {
		r = fence_ask(agent, reterr);
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
	cli_print(agent, message, cli_show_fence);
	r = fence_judge(options, (const Ferry__V1__FenceReport *)message, reterr);
	protobuf_c_message_free_unpacked(message, NULL);
	return r;
}
