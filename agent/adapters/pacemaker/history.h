/*
 * history.h - what crm_mon(8) prints of the cluster's nodes, its fence devices and their history,
 * as XML (of Pacemaker 2.1, `api-version` 2.25), made into a report of the power port.
 *
 * Pure. The bytes come from the cluster's own command, and are checked like anybody's: what does
 * not look as it should makes the whole of it worthless, since a fencing under way may be missing
 * then.
 *
 * Owns:    nothing.
 * Callers: stonith.c; tests/fuzz.
 * Thread:  any.
 * Rooms:   adapters/pacemaker only.
 */
#pragma once

#include "agent/ports/power.h"

enum { FERRY_HISTORY_AGENTS_MAX = 8, FERRY_HISTORY_AGENT_BYTES = 64 };

/* Fence agents that cut the power, by an administrator's word: "fence_ipmilan". */
struct ferry_history_agents {
	char names[FERRY_HISTORY_AGENTS_MAX][FERRY_HISTORY_AGENT_BYTES];
	uint32_t count;
};

/*
 * Fills fencings, count and cuts_power of @ret. -EBADMSG: it is not whole, or not what is known;
 * -E2BIG: more nodes or fencings than fit; -EIO: the command says that it has failed.
 */
int ferry_history_parse(const char *text, size_t length_bytes,
			const struct ferry_history_agents *agents,
			struct ferry_power_report *ret) FERRY_MUST_CHECK;
