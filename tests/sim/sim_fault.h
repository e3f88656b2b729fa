/*
 * sim_fault.h - what goes wrong in one seed: a plan that is drawn before anything runs, so that
 * leaving one fault out does not change the others (ferry-sim --minimise).
 *
 * Each fault begins at its time and, if it lasts, ends at another; what it does in between is drawn
 * from its own number.
 *
 * Owns:    the plan, and how often each kind was made.
 * Callers: sim_chaos.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "tests/sim/sim_cluster.h"
#include "tests/sim/sim_moment.h"

enum sim_fault {
	SIM_FAULT_CUT = 0,   /* A black hole on a storage path. */
	SIM_FAULT_FLAP,	     /* The same, again and again. */
	SIM_FAULT_RESET,     /* A storage session is lost. */
	SIM_FAULT_SLOW,	     /* A storage path is slow. */
	SIM_FAULT_LUN_OFF,   /* No path of anybody's works. */
	SIM_FAULT_STALL,     /* The target accepts, and does nothing. */
	SIM_FAULT_REFUSE,    /* Commands fail for good: medium error, no space. */
	SIM_FAULT_TARGET,    /* The target's power is cut: its volatile cache is lost. */
	SIM_FAULT_CACHE,     /* The cache alone is lost; every nexus hears of it. */
	SIM_FAULT_ATTENTION, /* A unit attention that means nothing. */
	SIM_FAULT_CRASH,     /* An agent dies, and is started again. */
	SIM_FAULT_POWER,     /* A node dies. */
	SIM_FAULT_CLUSTER,   /* All of them at once. */
	SIM_FAULT_STOP,	     /* An agent is stopped (SIGSTOP). */
	SIM_FAULT_FREEZE,    /* A node is frozen; its clock runs on. */
	SIM_FAULT_PAUSE,     /* A guest is paused, and its clock. */
	SIM_FAULT_ISOLATE,   /* One node is cut off from the others. */
	SIM_FAULT_PARTITION, /* Two sides. */
	SIM_FAULT_CHURN,     /* One way only is cut: rings form again and again. */
	SIM_FAULT_LINK,	     /* Agents' connections between two nodes, both ways or one. */
	SIM_FAULT_BREAK,     /* Connections between agents, at once made anew. */
	SIM_FAULT_HALF_OPEN, /* One end of a connection is gone and the other does not hear. */
	SIM_FAULT_DELAY,     /* The agents' network is slow. */
	SIM_FAULT_MOVE,	     /* Another is to own the pool. */
	SIM_FAULT_RELEASE,   /* The owner is to let go, perhaps for another. */
	SIM_FAULT_STORE,     /* A node's disk fails to save. */
	SIM_FAULT_HOLD,	     /* The target keeps a node's writes, and executes them later. */
	SIM_FAULT_FORCE,     /* A person has another take the pool by force, as soon as one may. */
	SIM_FAULT_ROLL,	     /* Agents die and are started, many at once, again and again. */
	SIM_FAULT_OWNER_CUT, /* A black hole on the path of whoever owns the pool. */
	SIM_FAULT_OWN_CACHE, /* One path's own cache is lost: only where each has one. */
	SIM_FAULT_RELAPSE,   /* Who carries loses its session, and another before the first is
				aborted. */
	SIM_FAULT_UNHEARD,   /* The target is restarted, and nobody told: only where that may be. */
	SIM_FAULT_LATE,	  /* Whoever owns the pool hears the group late: a disk, a busy thread. */
	SIM_FAULT_ORPHAN, /* A peer dies with what it carries: only without reservations. */
	SIM_FAULTS_COUNT,
};

enum { SIM_PLAN_MAX = 256 };

/* Some seeds have but a few kinds of faults, and much of them (swarm testing, ISSTA 2012). */
enum sim_focus {
	SIM_FOCUS_NONE = 0,
	SIM_FOCUS_TAKING,   /* Owners end while the target keeps what peers have carried. */
	SIM_FOCUS_RINGS,    /* Members come and go. */
	SIM_FOCUS_FREEZING, /* Owners with caches stand still, and others take the pool. */
	SIM_FOCUS_HANDOVER, /* The pool moves to and fro, and its cache along. */
	SIM_FOCUS_CARRYING, /* Peers carry, by connections that break. */
	SIM_FOCUS_LOSSES,   /* The target's cache is lost, and who saw it. */
	SIM_FOCUS_LAYING,   /* Aborts wait for what the target keeps, and peers go on carrying. */
	SIM_FOCUS_UNHEARD,  /* The target is restarted beneath sessions that outlive it. */
	SIM_FOCUS_LATE,	    /* The target is restarted while its owner hears of nothing. */
	SIM_FOCUS_POWER,    /* No reservations: nodes go missing, and are fenced by their power. */
	SIM_FOCI_COUNT,
};

const char *sim_focus_name(enum sim_focus focus);

const char *sim_fault_name(enum sim_fault fault);

struct sim_faults;

struct sim_planned {
	struct sim_event begin;
	struct sim_event end; /* Of one that lasts; or its next step. */
	struct sim_faults *faults;
	enum sim_fault fault;
	uint32_t node;
	uint32_t other; /* Another node. */
	uint64_t at_ns; /* From the start of the faults. */
	uint64_t duration_ns;
	uint64_t until_ns; /* While it lasts. */
	struct ferry_prng prng;
	bool is_skipped;
	enum sim_moment moment; /* It waits for that one, up to a limit... */
	enum sim_aim aim;	/* ...and is then aimed at that one. */
	uint32_t actor;		/* Whose moment it is. */
	uint32_t relapsed;	/* RELAPSE, UNHEARD, LATE and ORPHAN: who; 0: nobody yet... */
	uint32_t relapses;	/* ...how often... */
	uint64_t relapsed_at;	/* ...and since when, by the lun's count of what it accepts. */
	bool is_waiting;
	bool has_begun;
};

struct sim_faults {
	struct sim_cluster *cluster;
	struct sim_planned plan[SIM_PLAN_MAX];
	uint32_t count;
	enum sim_focus focus;
	uint32_t aimed_per_mille;
	uint32_t weights[SIM_FAULTS_COUNT]; /* Each seed has its own kinds of weather. */
	uint64_t made[SIM_FAULTS_COUNT];
};

/* Draw weights, by @focus, and plan: faults at most @interval_ns_max apart, for @length_ns. */
void sim_faults_draw(struct sim_faults *faults, struct sim_cluster *cluster, enum sim_focus focus,
		     uint64_t interval_ns_max, uint64_t length_ns);

/* From now on. @skip: SIM_PLAN_MAX flags, or NULL. */
void sim_faults_start(struct sim_faults *faults, const bool *skip);
/* No more; what lasts is ended by sim_cluster_heal(). */
void sim_faults_stop(struct sim_faults *faults);

/* "at 3.250 s: cut n2 for 800 ms". */
void sim_fault_describe(const struct sim_planned *planned, char *text, size_t size_bytes);
