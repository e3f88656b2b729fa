#include <corosync/cmap.h>
#include <corosync/corotypes.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/adapters/corosync/internal.h"

int ferry_corosync_errno(int error)
{
	switch (error) {
	case CS_OK:
		return 0;
	case CS_ERR_TRY_AGAIN:
	case CS_ERR_QUEUE_FULL:
		return -EAGAIN;
	case CS_ERR_ACCESS:
	case CS_ERR_SECURITY:
		return -EACCES;
	case CS_ERR_TIMEOUT:
		return -ETIMEDOUT;
	case CS_ERR_NO_MEMORY:
		return -ENOMEM;
	case CS_ERR_NOT_EXIST:
	case CS_ERR_NAME_NOT_FOUND:
		return -ENOENT;
	default:
		return -EIO;
	}
}

int ferry_corosync_error_set(struct ferry_error *reterr, int error, const char *what)
{
	int r = ferry_corosync_errno(error);

	ferry_assert(error != CS_OK);
	/* What a connect says when nobody listens. */
	if (error == CS_ERR_LIBRARY || error == CS_ERR_TRY_AGAIN)
		return ferry_error_set(reterr, -ECONNREFUSED,
				       "cannot reach corosync (%s: %s): is corosync running?", what,
				       cs_strerror((cs_error_t)error));
	if (r == -EACCES)
		return ferry_error_set(reterr, r,
				       "corosync refuses us (%s): run as root, or allow this "
				       "user in /etc/corosync/uidgid.d",
				       what);
	return ferry_error_set(reterr, r, "corosync: %s: %s", what, cs_strerror((cs_error_t)error));
}

/* False: it isn't there, or isn't text. */
static bool text_get(cmap_handle_t cmap, const char *key, char ret[FERRY_COROSYNC_NAME_BYTES])
{
	char *value = NULL;
	bool is_short;

	if (cmap_get_string(cmap, key, &value) != CS_OK)
		return false;
	is_short = strlen(value) < FERRY_COROSYNC_NAME_BYTES;
	if (is_short)
		(void)snprintf(ret, FERRY_COROSYNC_NAME_BYTES, "%s", value);
	free(value);
	return is_short;
}

static int nodes_read(cmap_handle_t cmap, struct ferry_corosync_map *map,
		      struct ferry_error *reterr)
{
	char key[CMAP_KEYNAME_MAXLEN + 1];

	/* Positions are numbered without holes in a configuration that corosync accepted... */
	for (uint32_t position = 0;; position++) {
		struct ferry_corosync_node *node = &map->nodes[map->nodes_count];
		uint32_t id = 0;

		(void)snprintf(key, sizeof(key), "nodelist.node.%" PRIu32 ".ring0_addr", position);
		if (position == FERRY_NODES_MAX * 2 || map->nodes_count == FERRY_NODES_MAX) {
			char ignored[FERRY_COROSYNC_NAME_BYTES];

			if (text_get(cmap, key, ignored))
				return ferry_error_set(reterr, -EINVAL,
						       "more than %d nodes in corosync.conf",
						       FERRY_NODES_MAX);
			break;
		}
		/* ...but removing a node from a running cluster leaves one. */
		if (!text_get(cmap, key, node->address))
			continue;
		(void)snprintf(key, sizeof(key), "nodelist.node.%" PRIu32 ".nodeid", position);
		if (cmap_get_uint32(cmap, key, &id) != CS_OK || id == 0)
			return ferry_error_set(
				reterr, -EINVAL,
				"corosync.conf: node %s has no nodeid: give each one",
				node->address);
		node->node.v = id;
		(void)snprintf(key, sizeof(key), "nodelist.node.%" PRIu32 ".name", position);
		if (!text_get(cmap, key, node->name))
			memcpy(node->name, node->address, sizeof(node->name));
		map->nodes_count++;
	}
	return 0;
}

int ferry_corosync_map_read(struct ferry_corosync_map *map, struct ferry_error *reterr)
{
	cmap_handle_t cmap = 0;
	cs_error_t error;
	int r;

	ferry_assert(map);
	memset(map, 0, sizeof(*map));
	error = cmap_initialize(&cmap);
	if (error != CS_OK)
		return ferry_corosync_error_set(reterr, (int)error, "cmap");
	if (!text_get(cmap, "totem.cluster_name", map->cluster) || !map->cluster[0])
		r = ferry_error_set(reterr, -EINVAL,
				    "corosync.conf: set cluster_name in totem { }");
	else
		r = nodes_read(cmap, map, reterr);
	if (r == 0 && map->nodes_count == 0)
		r = ferry_error_set(reterr, -EINVAL, "corosync.conf has no nodelist");
	(void)cmap_finalize(cmap); /* Ignoring: nothing can be done about it. */
	return r < 0 ? r : 0;
}
