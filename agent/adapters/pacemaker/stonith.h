/*
 * stonith.h - the power port by Pacemaker: crm_mon(8) is asked for the history of fencings.
 *
 * One run has all that is needed: which node is who, the fence devices of the whole cluster, and
 * the history, which pacemaker-fenced keeps on every node (Pacemaker 2.1.5: 30 ms).
 *
 * Owns:    the process that it starts.
 * Callers: agent/cluster_power.c; tests.
 * Thread:  the cluster loop.
 * Rooms:   rank 4.
 */
#pragma once

#include "agent/adapters/pacemaker/history.h"
#include "agent/base/error.h"
#include "agent/ports/loop.h"

struct ferry_stonith;

struct ferry_stonith_config {
	struct ferry_loop *loop;
	const char *program;  /* NULL: /usr/sbin/crm_mon. */
	uint64_t deadline_ns; /* Of one run; then it is killed. 0: 10 s. */
	struct ferry_history_agents agents;
};

/* Start-up only. -ENOENT: the program isn't there: is pacemaker installed? */
int ferry_stonith_open(const struct ferry_stonith_config *config, struct ferry_stonith **ret,
		       struct ferry_error *reterr) FERRY_MUST_CHECK;
/* NULL is a no-op. Kills what is still running. */
void ferry_stonith_close(struct ferry_stonith *stonith);

struct ferry_power *ferry_stonith_power(struct ferry_stonith *stonith);
