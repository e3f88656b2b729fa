/*
 * power.h - the power port: what the cluster's manager remembers of fencings that cut nodes' power.
 *
 * It only reports what is written there. What of it is believed, fencing/power.h decides. Times are
 * wall clocks', for telling an old entry from a new one: nothing is measured by them.
 *
 * Owns:    nothing; it is only an interface.
 * Callers: fencing/power.c.
 * Thread:  the cluster loop.
 * Rooms:   adapters/pacemaker, tests/sim.
 */
#pragma once

#include "agent/base/base.h"

enum { FERRY_POWER_FENCINGS_MAX = 512 };

enum ferry_power_result {
	FERRY_POWER_PENDING = 1, /* It may be cutting the power at this moment, or about to. */
	FERRY_POWER_CUT, /* Off, or off and on again, as a device has confirmed to another node. */
	FERRY_POWER_PROVES_NOT, /* Failed; on; by a person's word; by the node itself. */
};

struct ferry_power_fencing {
	struct ferry_node node;
	enum ferry_power_result result;
	uint64_t ended_s; /* Wall clock; 0: pending. */
};

struct ferry_power_report {
	struct ferry_power_fencing fencings[FERRY_POWER_FENCINGS_MAX];
	uint32_t count;
	/* Each of the cluster's fence devices is of a kind that is known to cut the power. */
	bool cuts_power;
	uint64_t asked_s; /* Wall clock, before and after. */
	uint64_t answered_s;
};

struct ferry_power {
	const struct ferry_power_ops *ops;
	/* The owner's. @report: NULL: there was no answer, or not a whole one; @why says more. */
	void (*on_report)(struct ferry_power *power, const struct ferry_power_report *report,
			  const char *why);
	void *context;
};

struct ferry_power_ops {
	const char *name;
	/* on_report() follows exactly once, never from inside. One look at a time. */
	void (*look)(struct ferry_power *power);
};

static inline void ferry_power_look(struct ferry_power *power)
{
	ferry_assert(power && power->ops && power->on_report);
	power->ops->look(power);
}
