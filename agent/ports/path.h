/*
 * path.h - the path port: one way from this node to a lun, local or through a peer's agent.
 *
 * A path knows how to try; it never decides to retry. It says what became of each attempt and
 * whether it is up; the router decides.
 *
 * Owns:    nothing; it is only an interface.
 * Callers: core/router.c (the owner's I/O), core/carrier.c (a peer's I/O).
 * Thread:  every call and callback runs on the pool's data loop.
 * Rooms:   adapters/uring, adapters/iscsi (local), core/peer.c (peer), tests/sim.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/identity.h"
#include "agent/ports/io.h"
#include "agent/ports/loop.h"

enum ferry_path_kind { FERRY_PATH_LOCAL = 1, FERRY_PATH_PEER };

struct ferry_path {
	const struct ferry_path_ops *ops;
	enum ferry_path_kind kind;
	struct ferry_node node; /* PEER: whose; LOCAL: this node. */
	bool is_up;		/* The path's own view: a session or a link stands. */

	/*
	 * The owner's, set before the path is opened. @cause says why it went down. Attempts that
	 * were in flight end by themselves, before on_state(down) runs.
	 */
	void (*on_state)(struct ferry_path *path, bool is_up, enum ferry_cause cause);
	/* The owner's: a submit was refused with -EAGAIN and there is room again. */
	void (*on_room)(struct ferry_path *path);
	void *context;
};

struct ferry_path_ops {
	const char *name;

	/*
	 * Start @attempt. 0: on_end() and then on_released() run exactly once, later, never from
	 * inside. On an error neither runs, and nothing left the node.
	 * -EAGAIN: the queue is full; wait for on_room(). -ENOTCONN: the path is down.
	 * -EOPNOTSUPP: this lun cannot DISCARD or WRITE_ZEROES.
	 */
	int (*submit)(struct ferry_path *path, struct ferry_attempt *attempt);

	/*
	 * Give up on everything in flight: each attempt ends soon, UNKNOWN or, if nothing of it
	 * left, FAILED; the path then comes up anew by itself when it can. Optional: NULL where
	 * the kernel cannot be asked (then attempts end when they end).
	 */
	void (*reset)(struct ferry_path *path);

	/*
	 * This node's registration is gone: accept nothing more, and go down and come up anew, a
	 * new session, once nothing from before can be sent (again). What is in flight ends when
	 * it ends. Optional: where reset() does as much, and sooner, that is taken.
	 */
	void (*renew)(struct ferry_path *path);

	/*
	 * @attempt, a write in flight here, is proven dead elsewhere: never send it (again). It
	 * ends soon, UNKNOWN. Optional: NULL where nothing is ever sent twice.
	 */
	void (*abandon)(struct ferry_path *path, struct ferry_attempt *attempt);
};

static inline int ferry_path_submit(struct ferry_path *path, struct ferry_attempt *attempt)
{
	int r;

	ferry_assert(path && path->ops);
	ferry_assert(attempt->on_end && attempt->on_released);
	ferry_assert(!ferry_op_has_data(attempt->op) || attempt->segments.count > 0);
	ferry_assert(attempt->op == FERRY_OP_FLUSH || attempt->length_blocks > 0);
	if (!path->is_up)
		return -ENOTCONN;
	r = path->ops->submit(path, attempt);
	ferry_assert(r == 0 || r == -EAGAIN || r == -ENOTCONN || r == -EOPNOTSUPP);
	return r;
}

/* Only a new session may register again (design, rule 13). Nothing if the path is down. */
static inline void ferry_path_renew(struct ferry_path *path)
{
	ferry_assert(path && path->ops);
	if (!path->is_up)
		return;
	if (path->ops->reset)
		path->ops->reset(path);
	else if (path->ops->renew)
		path->ops->renew(path);
}
