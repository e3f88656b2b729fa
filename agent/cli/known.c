/* known.c - what is so before a person is asked: that what was named is there, and who is missing.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "agent/cli/cli.h"
#include "ferry.pb-c.h"

/* protoc-c's initialisers cast const away; gcc sees that they are another's code, clang doesn't. */
#pragma GCC diagnostic ignored "-Wcast-qual"

static int status_get(const struct cli_agent *agent, Ferry__V1__Status **ret,
		      struct ferry_error *reterr)
{
	Ferry__V1__GetStatusRequest request = FERRY__V1__GET_STATUS_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	int r;

	r = cli_call(agent, "GetStatus", &request.base, &ferry__v1__status__descriptor, &message,
		     reterr);
	if (r < 0)
		return r;
	*ret = (Ferry__V1__Status *)message;
	return 0;
}

static int peers_get(const struct cli_agent *agent, Ferry__V1__PeerList **ret,
		     struct ferry_error *reterr)
{
	Ferry__V1__ListPeersRequest request = FERRY__V1__LIST_PEERS_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	int r;

	r = cli_call(agent, "ListPeers", &request.base, &ferry__v1__peer_list__descriptor, &message,
		     reterr);
	if (r < 0)
		return r;
	*ret = (Ferry__V1__PeerList *)message;
	return 0;
}

int cli_pool_check(const struct cli_agent *agent, const char *name, struct ferry_error *reterr)
{
	Ferry__V1__Status *status = NULL;
	bool is_known = false;
	int r;

	ferry_assert(name);
	r = status_get(agent, &status, reterr);
	if (r < 0)
		return r;
	for (size_t i = 0; i < status->n_pools; i++)
		is_known |= strcmp(status->pools[i]->name, name) == 0;
	ferry__v1__status__free_unpacked(status, NULL);
	if (!is_known)
		return ferry_error_set(reterr, -ENOENT, "no such pool on this node: %s", name);
	return 0;
}

static bool node_is(const char *text, const char *name, uint32_t node)
{
	char number[16];

	(void)snprintf(number, sizeof(number), "%" PRIu32, node);
	return (name[0] && strcmp(text, name) == 0) || strcmp(text, number) == 0;
}

int cli_node_check(const struct cli_agent *agent, const char *name, struct ferry_error *reterr)
{
	Ferry__V1__Status *status = NULL;
	Ferry__V1__PeerList *list = NULL;
	bool is_known;
	int r;

	ferry_assert(name);
	r = status_get(agent, &status, reterr);
	if (r < 0)
		return r;
	is_known = node_is(name, status->node_name, status->node);
	ferry__v1__status__free_unpacked(status, NULL);
	r = peers_get(agent, &list, reterr);
	if (r < 0)
		return r;
	for (size_t i = 0; i < list->n_peers; i++)
		is_known |= node_is(name, list->peers[i]->name, list->peers[i]->node);
	ferry__v1__peer_list__free_unpacked(list, NULL);
	if (!is_known)
		return ferry_error_set(reterr, -ENOENT, "no such node in corosync's node list: %s",
				       name);
	return 0;
}

static void missing_fill(const Ferry__V1__PeerList *list, struct cli_standing *ret)
{
	size_t length = 0;

	for (size_t i = 0; i < list->n_peers && ret->missing_count < CLI_NODES_MAX; i++) {
		const Ferry__V1__Peer *peer = list->peers[i];
		char name[CLI_CELL_BYTES];
		int written;

		if (peer->member)
			continue;
		cli_clean(name, sizeof(name), peer->name);
		if (!name[0])
			(void)snprintf(name, sizeof(name), "%" PRIu32, peer->node);
		written = snprintf(ret->missing_names + length, sizeof(ret->missing_names) - length,
				   "%s%s", ret->missing_count ? ", " : "", name);
		length = ferry_min_u64(length + (size_t)written, sizeof(ret->missing_names) - 1);
		ret->missing[ret->missing_count++] = peer->node;
	}
}

int cli_standing_get(const struct cli_agent *agent, struct cli_standing *ret,
		     struct ferry_error *reterr)
{
	Ferry__V1__Status *status = NULL;
	Ferry__V1__PeerList *list = NULL;
	int r;

	ferry_assert(ret);
	r = status_get(agent, &status, reterr);
	if (r < 0)
		return r;
	*ret = (struct cli_standing){
		.is_alone = !status->cluster[0],
		.is_quorate = status->quorate,
		.agents_expected = status->nodes_expected,
		.agents_here = status->n_members,
	};
	ferry__v1__status__free_unpacked(status, NULL);
	r = peers_get(agent, &list, reterr);
	if (r < 0)
		return r;
	missing_fill(list, ret);
	ferry__v1__peer_list__free_unpacked(list, NULL);
	return 0;
}

int cli_quorum_check(const struct cli_standing *standing, const char *without,
		     struct ferry_error *reterr)
{
	ferry_assert(standing && without);
	if (standing->is_quorate)
		return 0;
	if (standing->missing_count == 0)
		return ferry_error_set(reterr, -EPERM, "no quorum: %s", without);
	return ferry_error_set(reterr, -EPERM, "no quorum, for the agents of %s are missing: %s",
			       standing->missing_names, without);
}
