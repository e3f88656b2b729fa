/*
 * sim_loop.h - the loop port of one simulated node, and the door through which the world comes in.
 *
 * Whatever reaches a node (completions, messages, members) is a sim_input: while the node is
 * frozen it waits in line, and when the node has crashed it is dropped. Each node has a clock of
 * its own, which drifts; a frozen node's clock runs on, or stands still as a paused guest's does.
 *
 * Owns:    the timers' heap, the tasks' list and what waits while frozen.
 * Callers: sim_path, sim_link, sim_group, sim_node.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/base/list.h"
#include "agent/ports/loop.h"
#include "tests/sim/sim.h"

enum { SIM_TIMERS_MAX = 512 };

struct sim_loop {
	struct ferry_loop loop;
	struct sim *sim;
	uint32_t node;
	bool is_frozen;
	bool is_stopped;	   /* Frozen, and its clock with it. */
	int64_t drift_ppm;	   /* How much faster its clock is. */
	uint64_t origin_ns;	   /* When its clock was right... */
	uint64_t stopped_ns;	   /* ...and how long it has stood still since. */
	uint64_t stopped_since_ns; /* While it does. */
	struct ferry_timer *timers[SIM_TIMERS_MAX];
	uint32_t timers_count;
	uint64_t sequence_next;
	struct ferry_list tasks;
	struct sim_event timer_event;
	struct sim_event task_event;
	struct ferry_list late; /* Inputs that came while frozen. */
};

struct sim_input {
	struct sim_event event;
	struct sim_loop *loop;
	struct ferry_list link; /* In loop->late. */
	void (*run)(struct sim_input *input);
};

void sim_loop_init(struct sim_loop *loop, struct sim *sim, uint32_t node);
/* The node is gone: nothing of it runs any more. */
void sim_loop_done(struct sim_loop *loop);

/* What its clock says. */
uint64_t sim_loop_now_ns(const struct sim_loop *loop);

void sim_loop_freeze(struct sim_loop *loop);
/* While frozen: until it wakes. */
void sim_loop_stop_clock(struct sim_loop *loop);
void sim_loop_wake(struct sim_loop *loop);

void sim_input_init(struct sim_input *input, struct sim_loop *loop, enum sim_kind kind,
		    void (*run)(struct sim_input *input));
void sim_input_at(struct sim_input *input, uint64_t time_ns);
void sim_input_in(struct sim_input *input, uint64_t delay_ns);
void sim_input_cancel(struct sim_input *input);
/* Its loop goes away: cancelled, and never to be used again. */
void sim_input_disown(struct sim_input *input);
bool sim_input_is_due(const struct sim_input *input);
