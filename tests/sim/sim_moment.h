/*
 * sim_moment.h - at which moment, and at whom, a fault is aimed.
 *
 * Most faults begin at a time that was drawn, at a node that was drawn. What matters is often one
 * step of one node's, over in a millisecond: a fault that is aimed waits for such a step, which the
 * core's own events tell of, and then looks for its victim.
 *
 * Owns:    nothing.
 * Callers: sim_fault.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "tests/sim/sim_cluster.h"

enum sim_moment {
	SIM_MOMENT_DRAWN = 0,  /* Whatever happens. */
	SIM_MOMENT_CLAIMING,   /* A node claims the pool... */
	SIM_MOMENT_TAKING,     /* ...takes the lun... */
	SIM_MOMENT_PREEMPTING, /* ...removes another's registration... */
	SIM_MOMENT_OWNING,     /* ...has it. */
	SIM_MOMENT_GHOST,      /* A write's outcome is unknown. */
	SIM_MOMENT_LAID,       /* Ghosts are proven dead. */
	SIM_MOMENT_FORWARDING, /* An own path does not work... */
	SIM_MOMENT_REGISTERED, /* ...or works again, in a new session. */
	SIM_MOMENTS_COUNT,
};

enum sim_aim {
	SIM_AIM_DRAWN = 0, /* Whoever was drawn. */
	SIM_AIM_OWNER,	   /* Whoever owned the pool last. */
	SIM_AIM_ACTOR,	   /* Whose moment it is; without one, the owner. */
	SIM_AIM_OTHER,	   /* Neither of them. */
	SIM_AIM_CARRIER,   /* Of these, one with writes in the target's queue. */
	SIM_AIMS_COUNT,
};

const char *sim_moment_name(enum sim_moment moment);
const char *sim_aim_name(enum sim_aim aim);

/* Which moment @event tells of; SIM_MOMENT_DRAWN: none. */
enum sim_moment sim_moment_of(const struct ferry_event *event);

/* The node that is meant: @drawn, if there is no such one. @actor: whose moment it is, or 0. */
uint32_t sim_aim_resolve(const struct sim_cluster *cluster, enum sim_aim aim, uint32_t drawn,
			 uint32_t actor);
