/*
 * sim_path.h - one node's initiator: the path port and the fence port over one session at the lun.
 *
 * Owns:    what it has in flight, and how each attempt's end and release are told.
 * Callers: sim_node opens it; the core uses it through the ports; sim_lun answers.
 * Thread:  the node's simulated loop.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/ports/fence.h"
#include "agent/ports/path.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_lun.h"

enum { SIM_PATH_DEPTH = 64 };

/* One attempt's or request's end, on its way to the core. */
struct sim_ending {
	struct sim_input input;
	struct ferry_list link; /* In path->endings. */
	struct sim_path *path;
	struct sim_command *command; /* NULL: nothing of it can land any more. */
	struct ferry_attempt *attempt;
	struct ferry_fence_request *request;
	bool is_ended;
	uint8_t *data; /* Of a read that is done. */
	enum ferry_outcome outcome;
	enum ferry_cause cause;
	int error;
	uint32_t attentions;
	struct ferry_fence_request answer; /* The keys, as read. */
};

struct sim_path {
	struct ferry_path path;
	struct ferry_fence fence;
	struct sim_lun *lun;
	struct sim_loop *loop;
	uint32_t node;
	uint32_t session;
	struct ferry_list link; /* In lun->paths. */
	struct ferry_list endings;
	uint32_t depth; /* 0: SIM_PATH_DEPTH. */
	uint32_t inflight;
	bool was_full;
	bool is_told_up; /* What on_state() has said last. */
	struct sim_input state_input;
	struct sim_input login_input;
	struct sim_input fence_input;	 /* The deadline of fence requests. */
	uint32_t names;			 /* A bit for each node whose registration it has read. */
	bool takes_timeouts_as_failures; /* A mistake, for canaries. */
	/* The lun said something unasked (enum sim_attention). */
	void (*on_attention)(struct sim_path *path, uint32_t attentions);
};

void sim_path_open(struct sim_path *path, struct sim_lun *lun, struct sim_loop *loop,
		   uint32_t node);
/* The node has crashed: what is on its way goes on without it. */
void sim_path_crash(struct sim_path *path, bool is_power_cut);

/* The session is lost: everything in flight ends. */
void sim_path_drop(struct sim_path *path, enum ferry_cause cause);

/* For sim_lun: the answer is here. @command is freed. */
void sim_path_answered(struct sim_path *path, struct sim_command *command);

/* Fill what is free with a pattern, so that whoever still uses it is found out. */
void sim_poison(const struct ferry_segments *segments);
