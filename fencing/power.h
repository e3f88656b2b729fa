/*
 * power.h - which nodes are known to be silent: their power was cut, and they have not been back
 * (rule 14, docs/decisions/0011).
 *
 * A fencing is believed only if all of it, its beginning too, came after a look at the history that
 * showed nothing under way for that node, and the node's agent has not become a member since that
 * look. While this node is apart from the majority others may have had the node as a member: then
 * all is forgotten. The clock of the quiesce time begins when this node learns of it.
 *
 * Owns:    what this agent has seen of each node's fencings.
 * Callers: agent/cluster_power.c, tests/sim; fencing/ownership.c reads.
 * Thread:  the cluster loop.
 * Rooms:   rank 3.
 */
#pragma once

#include "agent/ports/events.h"
#include "agent/ports/group.h"
#include "agent/ports/loop.h"
#include "agent/ports/power.h"

/* What has been seen of one node. */
struct ferry_power_node {
	struct ferry_node node; /* 0 ends a list of them. */
	bool is_member;
	/* A look that began after it last became a member has shown nothing under way for it... */
	bool is_clean;
	uint64_t clean_s;  /* ...and when that was asked for (wall clock)... */
	uint64_t newest_s; /* ...and the end of the newest fencing that it showed; 0: none. */
	bool is_passed;	   /* It became a member during the look under way, which counts no more. */
	uint64_t silent_ns; /* Since when it is known to be silent, by this loop's clock; 0: not. */
};

enum ferry_power_verdict {
	FERRY_POWER_NOTHING = 1, /* The report says nothing of it that counts; why. */
	FERRY_POWER_CLEAN,	 /* From here on a new fencing will count. */
	FERRY_POWER_CONFIRMED,	 /* Its power was cut since. */
};

/* What @report is for @node: nothing else is asked. @why: NULL, or why what it says is not
 * believed. */
enum ferry_power_verdict ferry_power_judge(const struct ferry_power_node *node,
					   const struct ferry_power_report *report,
					   const char **why);

struct ferry_power_watch_config {
	struct ferry_loop *loop;
	struct ferry_power *power;
	struct ferry_events *events;
	struct ferry_node self;
	struct ferry_node nodes[FERRY_NODES_MAX]; /* All that are configured. */
	uint32_t nodes_count;
	void (*on_change)(void *context); /* Another node is known to be silent. */
	void *context;
};

struct ferry_power_watch {
	struct ferry_power_watch_config config;
	struct ferry_power_node nodes[FERRY_NODES_MAX + 1];
	struct ferry_timer timer;
	uint64_t period_ns;
	bool is_looking;
	bool cuts_power;    /* What the cluster's fence devices do, as last reported. */
	bool was_refused;   /* As last said. */
	uint64_t confirmed; /* How often. */
};

void ferry_power_watch_init(struct ferry_power_watch *watch,
			    const struct ferry_power_watch_config *config);
/* No report may come any more. */
void ferry_power_watch_done(struct ferry_power_watch *watch);

/* From the group port; before any pool hears of it. */
void ferry_power_watch_members(struct ferry_power_watch *watch,
			       const struct ferry_members *members);
void ferry_power_watch_quorum(struct ferry_power_watch *watch, bool is_quorate);

/* Somebody waits for a node that is missing: look now, and often. */
void ferry_power_watch_hurry(struct ferry_power_watch *watch);
