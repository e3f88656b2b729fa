/*
 * decide_private.h - what the files behind decide.h share.
 *
 * Owns:    nothing.
 * Callers: decide.c (what is next, messages, rights), decide_take.c (taking the lun),
 *          decide_quiesce.c (whom power fencing has silenced).
 * Thread:  any.
 * Rooms:   private to decide.
 */
#pragma once

#include "fencing/decide.h"

/* ---- decide.c ---- */

/* Among the members; negative: it is none. */
int ferry_decide_member_index(const struct ferry_situation *situation, struct ferry_node node);

/* How many of those for whom a person answers are not there. */
uint32_t ferry_decide_answered_count(const struct ferry_situation *situation);

/* ---- decide_take.c ---- */

/* A majority has the epoch, and all have drained that will. */
void ferry_decide_taking(const struct ferry_situation *situation, struct ferry_decision *ret);

/* Whether an earlier agent of that node may have something in flight. */
bool ferry_decide_elder_is_suspect(const struct ferry_ownership_seen *seen);

/* ---- decide_quiesce.c ---- */

enum ferry_quiesce_kind {
	FERRY_QUIESCE_NO =
		1, /* There is no promise; or somebody may write, and nobody will tell. */
	FERRY_QUIESCE_WAIT,
	FERRY_QUIESCE_PROCEED, /* Nothing can land any more of who has not drained. */
};

struct ferry_quiesce {
	enum ferry_quiesce_kind kind;
	uint64_t until_ns; /* WAIT: 0: until a fencing is confirmed. */
	const char *why;
};

/* Silent nodes, and agents that have a successor, whose quiesce time has passed. */
void ferry_decide_dead(const struct ferry_situation *situation, struct ferry_dead *ret);

/* Of those that @keys does not name as drained: the promised time has to pass since their silence.
 */
struct ferry_quiesce ferry_decide_quiesce(const struct ferry_situation *situation,
					  const struct ferry_drained_keys *keys);

/* Its power was cut, it has not been back, and the lun promises when that is enough. */
bool ferry_decide_is_silent(const struct ferry_situation *situation, struct ferry_node node);
