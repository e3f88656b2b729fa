/*
 * lane.h - a path in use: its health, its deadlines, what is in flight on it.
 *
 * A path only tries; the lane watches: it gives each attempt a deadline, resets a path that let
 * one pass, keeps the state HEALTHY → SUSPECT → FORWARDING → CONVICTED → PROBATION, probes a path
 * that does not work, and measures latency. The router (owner's I/O) and the carrier (peers' I/O)
 * share the one lane of a node's local path.
 *
 * Owns:    its path's callbacks; the list of flights; not the flights' memory.
 * Callers: router.c, carrier.c, engine.c.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/base/list.h"
#include "agent/ports/events.h"
#include "agent/ports/path.h"

enum ferry_lane_state {
	FERRY_LANE_HEALTHY = 1,
	FERRY_LANE_SUSPECT,    /* Something failed; I/O still goes here. */
	FERRY_LANE_FORWARDING, /* Does not work: no I/O goes here; it is probed. */
	FERRY_LANE_CONVICTED,  /* FORWARDING, and the tracker says that it will last. */
	FERRY_LANE_PROBATION,  /* A probe succeeded: I/O goes here again, on trial. */
};

const char *ferry_lane_state_name(enum ferry_lane_state state);

struct ferry_lane;

/* One attempt with its deadline. The caller owns it and keeps it until on_released(). */
struct ferry_flight {
	struct ferry_attempt attempt; /* op, flags, lba, length, epoch, segments: the caller's. */
	struct ferry_lane *lane;
	uint64_t started_ns;
	bool is_overdue;
	bool is_released;	/* While it is held. */
	uint64_t held;		/* DONE, but not believed yet: in the order of their ends; 0: no. */
	struct ferry_list link; /* In lane->flights from submit until its end has been told. */

	void (*on_end)(struct ferry_flight *flight, enum ferry_outcome outcome,
		       enum ferry_cause cause);
	void (*on_released)(struct ferry_flight *flight);
	/*
	 * The deadline passed and the path cannot be reset: on_end() will come, nobody knows when.
	 * At most once, before on_end(). The caller treats the attempt as UNKNOWN from here on.
	 */
	void (*on_overdue)(struct ferry_flight *flight);
	void *context;
};

struct ferry_lane_stats {
	uint64_t ended;
	uint64_t done;
	uint64_t failed;
	uint64_t unknown;
	uint64_t resets;
	uint64_t latency_ns; /* Exponentially weighted mean of DONE, 1/8 per sample. */
};

struct ferry_lane_config {
	struct ferry_loop *loop;
	struct ferry_arena *arena; /* For probes. */
	struct ferry_events *events;
	const char *pool; /* For events; outlives the lane. */
	uint32_t block_bytes;
	uint64_t timeout_ns; /* The deadline of each attempt, from its submission. */
	bool needs_permit;   /* is_allowed starts false: the lun has reservations. */

	/* Usable or not may have changed, or there is room again. */
	void (*on_change)(struct ferry_lane *lane, void *context);
	/* LOCAL: one interval of a path that does not work is over; @works: it does again. */
	void (*on_probe)(struct ferry_lane *lane, bool works, void *context);
	/* A probe or a greeting of the lane's own has ended, and nothing else is in flight. */
	void (*on_clear)(struct ferry_lane *lane, void *context);
	/*
	 * LOCAL: an attempt ended with FERRY_CAUSE_RESET or FERRY_CAUSE_LOST, somebody's; or the
	 * path went down: FERRY_CAUSE_PATH.
	 */
	void (*on_reset)(struct ferry_lane *lane, enum ferry_cause cause, void *context);
	/* PEER: an attempt's end says what the peer has seen of that. */
	void (*on_mark)(struct ferry_lane *lane, struct ferry_mark mark, bool is_done,
			void *context);
	/*
	 * LOCAL, where a restart of the target may go untold: what was to make something durable
	 * is DONE, and is held until ferry_lane_durable() says what it is worth. NULL elsewhere.
	 */
	void (*look_at_durable)(void *context);
	void *context;
};

struct ferry_lane {
	struct ferry_lane_config config;
	struct ferry_path *path;
	enum ferry_lane_state state;
	char reason[FERRY_EVENT_TEXT_MAX];
	bool is_allowed;    /* Registered at the lun, or no registration is needed. */
	bool peer_has_path; /* PEER: it has announced a working path of its own. */
	/*
	 * When a LUN RESET of our own making was last asked for or answered; 0: none is expected
	 * to show here any more. Each makes every nexus report it once, before anything succeeds.
	 */
	uint64_t reset_expected_ns;
	/* PEER: what it had seen of resets when last heard, and since which number that is known.
	 */
	struct ferry_mark mark;
	uint64_t vouches_since;
	uint64_t lost_until; /* The router's: what bears no higher number may be lost again. */
	bool is_doubtful;    /* LOCAL: the lun reports a reset, of what kind is being looked at. */
	bool is_greeted;     /* PEER: since its link came up it has said so. */
	uint64_t avoid_until_ns;
	uint32_t failures_in_row;
	uint32_t trial_left;   /* PROBATION: successes still to come. */
	uint64_t probation_ns; /* How long the last one has to last; doubles with relapses. */
	uint64_t healthy_since_ns;
	struct ferry_list flights; /* In the order of submission, so of deadlines. */
	uint32_t flights_count;
	uint64_t held_last; /* The newest flight.held. */
	struct ferry_timer deadline_timer;
	struct ferry_timer probe_timer;
	struct ferry_flight probe;
	bool probe_is_flying;
	struct ferry_lane_stats stats;
};

/* Attach to @path and take over its callbacks. The path may be up or down. */
void ferry_lane_init(struct ferry_lane *lane, struct ferry_path *path,
		     const struct ferry_lane_config *config);

/* Stop the timers. Nothing may be in flight. */
void ferry_lane_done(struct ferry_lane *lane);

/* Whether new I/O may go here now. */
bool ferry_lane_is_usable(const struct ferry_lane *lane);

/*
 * Start one attempt. 0: on_end() and on_released() run, each once, later.
 * -EAGAIN: the path is full; on_change() follows. -ENOTCONN: down. -EOPNOTSUPP: cannot do this op.
 */
int ferry_lane_submit(struct ferry_lane *lane, struct ferry_flight *flight) FERRY_MUST_CHECK;

/* The permit at the lun was given or lost. */
void ferry_lane_allow(struct ferry_lane *lane, bool is_allowed, const char *why);

/*
 * What is held up to number @until ends: DONE, if the target @is_same as when those writes were
 * acknowledged that it covers; else FAILED, and it may be tried again.
 */
void ferry_lane_durable(struct ferry_lane *lane, uint64_t until, bool is_same);

/* What is in flight here may be proven dead from now on: none of it is sent once more. */
void ferry_lane_give_up(struct ferry_lane *lane);

/* PEER: if it has not been since its link came up, have it say what it has seen of resets. */
void ferry_lane_greet(struct ferry_lane *lane, struct ferry_epoch epoch);

/* The tracker's verdict. */
void ferry_lane_convict(struct ferry_lane *lane, const char *why);

/* Send nothing here for a while: it refused for a reason that may pass. */
void ferry_lane_avoid(struct ferry_lane *lane, uint64_t delay_ns);

/* PEER: what the peer announced of its own path. */
void ferry_lane_set_peer_has_path(struct ferry_lane *lane, bool has_path);
