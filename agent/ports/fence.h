/*
 * fence.h - the fence port: registrations and reservations at one lun, and killing a nexus.
 *
 * What SCSI calls persistent reservations (SPC-4, 5.13), type Write Exclusive - Registrants Only.
 * Where a lun has none the port is absent (NULL) and its class is "no reservations".
 *
 * Owns:    nothing; it is only an interface.
 * Callers: core/engine.c on behalf of fencing/ (register, reserve, change of owner) and of the
 *          router (laying ghosts).
 * Thread:  the pool's data loop.
 * Rooms:   adapters/iscsi, tests/sim.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/base/list.h"

/* A registration key: names the node and its incarnation (design, rule 13); see core/key.h. */
struct ferry_key {
	uint64_t v; /* 0 is no key. */
};

enum { FERRY_KEYS_MAX = 64 };

/* What is known of the others when a lun is taken. */
struct ferry_drained_keys {
	/* Registrations that need no preempting: their agents have drained. */
	struct ferry_key keys[FERRY_KEYS_MAX];
	uint32_t count;
	/*
	 * Agents that have not said so, this node's own past one too: what they had in flight must
	 * be proven dead even if the lun knows their registration no more (targets without APTPL
	 * forget it with the session, and run its commands on).
	 */
	struct ferry_key suspects[FERRY_KEYS_MAX];
	uint32_t suspects_count;
};

enum ferry_fence_op {
	FERRY_FENCE_READ_KEYS = 1, /* Fills keys and holder. */
	FERRY_FENCE_REGISTER,	   /* Register own key for this session's nexus, replacing any. */
	FERRY_FENCE_RESERVE,	   /* Take the reservation if nobody holds it; -EBUSY if another. */
	/*
	 * Remove @victim's registration and prove that none of its commands can land any more:
	 * PREEMPT AND ABORT, or PREEMPT and then LUN RESET where the target is known to wait. The
	 * preempter becomes the holder if the victim was. Done means proven, nothing less.
	 */
	FERRY_FENCE_PREEMPT,
	/*
	 * Prove that nothing that this node sent in an earlier session can land any more. For a
	 * lun that nobody else uses: it ends everyone's commands, and needs no registration. Only
	 * where a new session is known to end the old one of the same name, and LUN RESET to wait
	 * for what runs; -EOPNOTSUPP elsewhere.
	 */
	FERRY_FENCE_RESET,
};

struct ferry_fence_request {
	enum ferry_fence_op op;
	struct ferry_key own;
	struct ferry_key victim; /* PREEMPT. */

	/* Results of READ_KEYS. */
	struct ferry_key keys[FERRY_KEYS_MAX];
	uint32_t keys_count;
	struct ferry_key holder; /* 0: no reservation. */
	uint32_t generation;

	/*
	 * Exactly once, never from inside submit. 0 or: -ENOTCONN the path is down; -ETIMEDOUT no
	 * answer: the command may yet be executed; -EACCES reservation conflict (own key is not
	 * registered); -EBUSY; -ENOENT PREEMPT: no such registration (what it had in flight is
	 * not thereby dead); -EOPNOTSUPP; -EIO.
	 */
	void (*on_done)(struct ferry_fence_request *request, int error);
	void *context;
	struct ferry_list link; /* The adapter's. */
};

struct ferry_fence {
	const struct ferry_fence_ops *ops;
};

struct ferry_fence_ops {
	const char *name;
	void (*submit)(struct ferry_fence *fence, struct ferry_fence_request *request);
};

static inline void ferry_fence_submit(struct ferry_fence *fence,
				      struct ferry_fence_request *request)
{
	ferry_assert(fence && fence->ops);
	ferry_assert(request->on_done);
	ferry_assert(request->op == FERRY_FENCE_READ_KEYS || request->own.v != 0);
	ferry_assert(request->op != FERRY_FENCE_PREEMPT || request->victim.v != 0);
	fence->ops->submit(fence, request);
}
