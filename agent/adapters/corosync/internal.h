/*
 * internal.h - what the files of adapters/corosync share.
 *
 * Owns:    see corosync.h.
 * Callers: this folder only.
 * Thread:  the cluster loop.
 * Rooms:   rank 4.
 */
#pragma once

#include "agent/adapters/corosync/corosync.h"

struct ferry_corosync_node {
	struct ferry_node node;
	char name[FERRY_COROSYNC_NAME_BYTES];
	char address[FERRY_COROSYNC_NAME_BYTES];
};

/* What the configuration says. */
struct ferry_corosync_map {
	char cluster[FERRY_COROSYNC_NAME_BYTES];
	uint32_t nodes_count;
	struct ferry_corosync_node nodes[FERRY_NODES_MAX];
};

/* map.c: -ECONNREFUSED, -EACCES, -EINVAL, -EIO. */
int ferry_corosync_map_read(struct ferry_corosync_map *map,
			    struct ferry_error *reterr) FERRY_MUST_CHECK;

/* corosync's errors (enum cs_error_t) as errno and as text for people. */
int ferry_corosync_errno(int error);
int ferry_corosync_error_set(struct ferry_error *reterr, int error, const char *what);
