/*
 * pacemaker.h - Pacemaker: this node's attributes, which location rules look at.
 *
 * Attributes are transient: gone when the node leaves the cluster, but not when the agent ends,
 * however it does: whoever supervises it has them withdrawn (`ferryd --withdraw`). Published by
 * running attrd_updater(8), without ever waiting for it. Debian ships no header of attrd's IPC, and
 * libcrmcommon promises no stable interface; the command is the documented one, and costs 15 ms
 * on a change that is followed by moving a service.
 *
 * Each attribute that is written to the CIB begins a transition of its own, and one that comes
 * while a live migration runs turns it into a stop and a start. (Measured with Pacemaker 2.1.5:
 * four attributes are four transitions, in whatever order, with dampening or without. Private
 * ones cause none, and so does writing a value that is there already.) Therefore:
 *   - only what location rules look at is published plainly; all else is private,
 *   - what changes at one time is written at one time, in parallel, then nothing more,
 *   - where several pools may change at once the cluster property transition-delay (250ms)
 *     makes one transition of them; docs recommend it.
 *
 * Owns:    the processes that it starts.
 * Callers: agent/main; tests.
 * Thread:  the cluster loop, for everything but ferry_pacemaker_withdraw(): any.
 * Rooms:   rank 4.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/loop.h"

enum {
	FERRY_PACEMAKER_ATTRIBUTES_MAX = 64,
	FERRY_PACEMAKER_NAME_BYTES = 128, /* With the NUL; so has a value. */
};

struct ferry_pacemaker;

struct ferry_pacemaker_config {
	struct ferry_loop *loop;
	const char *program;  /* NULL: /usr/sbin/attrd_updater. */
	uint64_t deadline_ns; /* Of one run; then it is killed. 0: 10 s. */
	uint64_t retry_ns;    /* After a failure; doubled up to 32 times this. 0: 1 s. */
	/*
	 * Publishing began to fail (@error < 0 and why) or everything wanted is published again
	 * (0, NULL). Once per change. May be NULL.
	 */
	void (*on_state)(void *context, int error, const char *why);
	void *context;
};

/* Start-up only. -ENOENT: the program isn't there: is pacemaker installed? */
int ferry_pacemaker_open(const struct ferry_pacemaker_config *config, struct ferry_pacemaker **ret,
			 struct ferry_error *reterr) FERRY_MUST_CHECK;

/* NULL is a no-op. Kills what is still running. What is published stays. */
void ferry_pacemaker_close(struct ferry_pacemaker *pacemaker);

/*
 * Want @name to have @value. What is wanted when the loop comes round next is published
 * together, as far as it differs from what was; with the same value this is a no-op.
 * @is_private: known to attrd only, never in the CIB; fixed by the first call for @name.
 * -EINVAL: @name isn't letters, digits, '-', '_' or '.', or @value has control characters, or
 * one is too long; -ENOSPC: FERRY_PACEMAKER_ATTRIBUTES_MAX.
 */
int ferry_pacemaker_set(struct ferry_pacemaker *pacemaker, const char *name, const char *value,
			bool is_private) FERRY_MUST_CHECK;

/*
 * Publish everything again, for a Pacemaker that was restarted and forgot. Values that it has
 * already change nothing.
 */
void ferry_pacemaker_refresh(struct ferry_pacemaker *pacemaker);

/*
 * Unset @name: for whoever stands for an agent that is gone, and has no loop. Waits for it.
 * @program, @deadline_ns: as in the configuration. -EINVAL: no such name; -ENOENT: no program;
 * -EIO: it has failed, as it does where no Pacemaker runs; -ETIMEDOUT.
 */
int ferry_pacemaker_withdraw(const char *program, const char *name, uint64_t deadline_ns,
			     struct ferry_error *reterr) FERRY_MUST_CHECK;

/* Whether everything wanted is published. */
bool ferry_pacemaker_is_settled(const struct ferry_pacemaker *pacemaker);
