/*
 * corosync.h - corosync: who is in the cluster, quorum, and ordered messages.
 *
 * Implements agent/ports/group.h by CPG, with the group "ferry.<cluster name>"; quorum and ring
 * come from corosync's quorum service; names and addresses of nodes from its configuration
 * (cmap), so that peers need none of their own.
 *
 * Owns:    the connections to corosync.
 * Callers: agent/main; tests.
 * Thread:  the cluster loop, for everything.
 * Rooms:   rank 4.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/group.h"
#include "agent/ports/loop.h"

enum { FERRY_COROSYNC_NAME_BYTES = 256 };

struct ferry_corosync;

/*
 * Connect and read the cluster's configuration; group->self, nodes, is_quorate and ring
 * are set. Start-up only: may block for some seconds. -ECONNREFUSED: corosync isn't running here;
 * -EACCES: it doesn't let us; -EINVAL: its configuration lacks what we need; -EIO.
 */
int ferry_corosync_open(struct ferry_loop *loop, struct ferry_corosync **ret,
			struct ferry_error *reterr) FERRY_MUST_CHECK;

/* NULL is a no-op. Leaves the group. Not from inside one of the group's callbacks. */
void ferry_corosync_close(struct ferry_corosync *corosync);

/* For the owner to set its callbacks in, before it joins. */
struct ferry_group *ferry_corosync_group(struct ferry_corosync *corosync);

/*
 * Join the group: from now on callbacks run, on the loop, on_members() first. Start-up only: may
 * block for a few seconds. -EBUSY: another agent runs on this node; -ETIMEDOUT; -EIO.
 *
 * After on_lost(), which runs once, nothing more is heard, and multicast answers -ENOTCONN.
 */
int ferry_corosync_join(struct ferry_corosync *corosync,
			struct ferry_error *reterr) FERRY_MUST_CHECK;

const char *ferry_corosync_cluster(const struct ferry_corosync *corosync);

/*
 * From the nodelist, as it was at open; NULL: no such node. The address is ring0_addr, which may
 * be a host's name. The name falls back to the address.
 */
const char *ferry_corosync_node_address(const struct ferry_corosync *corosync,
					struct ferry_node node);
const char *ferry_corosync_node_name(const struct ferry_corosync *corosync, struct ferry_node node);
/* The configured nodes in the nodelist's order. Their count. */
uint32_t ferry_corosync_nodes(const struct ferry_corosync *corosync,
			      struct ferry_node ret[FERRY_NODES_MAX]);
