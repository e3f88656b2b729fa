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
#include "agent/ports/group.h"

/* A registration key: names the node and its incarnation (design, rule 13); see core/key.h. */
struct ferry_key {
	uint64_t v; /* 0 is no key. */
};

/* Whether both are of one node, whose nexus has one name over all of its incarnations. */
static inline bool ferry_key_shares_nexus(struct ferry_key one, struct ferry_key other)
{
	return one.v >> 32 == other.v >> 32;
}

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
	struct ferry_members nodes; /* The whole cluster's. */
	/* For all that cannot be proven: a person does, or power fencing and the quiesce time. */
	bool is_answered_for;
};

enum ferry_fence_op {
	FERRY_FENCE_READ_KEYS = 1, /* Fills keys and holder. */
	/*
	 * Register own key for this session's nexus, in the place of @kept: -EACCES, and nothing
	 * done, if that is at the lun no more. Whoever was preempted after READ KEYS learns it so.
	 */
	FERRY_FENCE_REGISTER,
	FERRY_FENCE_RESERVE, /* Take the reservation if nobody holds it; -EBUSY if another. */
	/*
	 * Remove @victim's registration and prove that none of its commands can land any more, by
	 * the way that the lun's ability names. The preempter becomes the holder if the victim was.
	 * Done means proven, nothing less; asking again is harmless and goes on where it was left.
	 * Only where somebody holds the reservation: else the victim's commands that are still on
	 * their way would be let in.
	 * With is_answered_for, where nothing proves it: that the registration is gone.
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
	/* REGISTER: this node's key, or its elder's, by the last READ KEYS; 0: it had none. */
	struct ferry_key kept;
	bool is_answered_for; /* PREEMPT: see above. */

	/* Results of READ_KEYS. */
	struct ferry_key keys[FERRY_KEYS_MAX];
	uint32_t keys_count;
	struct ferry_key holder; /* 0: no reservation. */
	uint32_t generation;

	/*
	 * Exactly once, never from inside submit. 0 or: -ENOTCONN the path is down; -ETIMEDOUT no
	 * answer: the command may yet be executed; -EACCES reservation conflict (own key is not
	 * registered); -EBUSY; -ENOENT PREEMPT: the lun is not reserved, and nothing was done;
	 * -EOPNOTSUPP: nothing proves it here; -EIO.
	 */
	void (*on_done)(struct ferry_fence_request *request, int error);
	void *context;
	struct ferry_list link; /* The adapter's. */
};

/* How PREEMPT proves that a victim's commands are dead (design, rule 3). */
enum ferry_laying_way {
	/* PREEMPT AND ABORT, as the SCSI standard has it: the answer is the target's word for it.
	 */
	FERRY_LAYING_ABORT = 1,
	FERRY_LAYING_RESET, /* PREEMPT, then LUN RESET: where a test shows that it waits. */
	/*
	 * PREEMPT, then a login by the victim's own name, which ends its session and waits for its
	 * commands (RFC 7143, 6.3.5): where a test shows that.
	 */
	FERRY_LAYING_REINSTATE,
	FERRY_LAYING_QUIESCE, /* PREEMPT, then the time after which nothing lands: a promise. */
};

/* PREEMPT AND ABORT too: of a victim that is not registered (any more) nothing else is left. */
static inline bool ferry_laying_may_reset(enum ferry_laying_way way)
{
	return way == FERRY_LAYING_ABORT || way == FERRY_LAYING_RESET;
}

/* What a lun was found to do when it was opened: probed, tested or promised, never assumed. */
struct ferry_fence_ability {
	enum ferry_laying_way laying; /* 0: PREEMPT proves nothing here. */
	bool keeps_registrations;     /* Over a power cut of the target (APTPL in force). */
	uint64_t quiesce_time_ns;     /* Promised by the administrator; 0: none. */
	/*
	 * The path's session is not ours: it may outlive its target, and nothing tell that the
	 * target was restarted but its registrations (docs/decisions/0009).
	 */
	bool hides_restarts;
};

struct ferry_fence {
	const struct ferry_fence_ops *ops;
	struct ferry_fence_ability ability;
};

struct ferry_fence_ops {
	const char *name;
	void (*submit)(struct ferry_fence *fence, struct ferry_fence_request *request);
};

/* What READ KEYS has told of @own's node: @own, or else an elder's key. 0: neither. */
static inline struct ferry_key ferry_fence_kept(const struct ferry_fence_request *request,
						struct ferry_key own)
{
	struct ferry_key kept = {0};

	for (uint32_t i = 0; i < request->keys_count; i++)
		if (ferry_key_shares_nexus(request->keys[i], own) && kept.v != own.v)
			kept = request->keys[i];
	return kept;
}

static inline void ferry_fence_submit(struct ferry_fence *fence,
				      struct ferry_fence_request *request)
{
	ferry_assert(fence && fence->ops);
	ferry_assert(request->on_done);
	ferry_assert(request->op == FERRY_FENCE_READ_KEYS || request->own.v != 0);
	ferry_assert(request->op != FERRY_FENCE_PREEMPT || request->victim.v != 0);
	ferry_assert(request->op != FERRY_FENCE_REGISTER || request->kept.v == 0 ||
		     ferry_key_shares_nexus(request->kept, request->own));
	fence->ops->submit(fence, request);
}
