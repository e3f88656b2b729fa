#include "agent/core/abort.h"

#include "agent/core/key.h"

enum { ATTEMPTS_MAX = 4 };

static void submit(struct ferry_abort *abort, enum ferry_fence_op op)
{
	ferry_assert(abort->is_busy);
	abort->request.op = op;
	abort->request.victim = abort->victim;
	abort->request.keys_count = 0;
	ferry_fence_submit(abort->fence, &abort->request);
}

static void finish(struct ferry_abort *abort, int error)
{
	ferry_assert(abort->is_busy);
	abort->is_busy = false;
	abort->on_done(abort, error);
}

/* The victim's node may have started anew meanwhile, with another key for the same nexus. */
static void keys_read(struct ferry_abort *abort)
{
	const struct ferry_fence_request *request = &abort->request;

	for (uint32_t i = 0; i < request->keys_count; i++) {
		if (!ferry_key_is_ours(request->keys[i]) ||
		    ferry_key_node(request->keys[i]).v != ferry_key_node(abort->victim).v)
			continue;
		if (++abort->attempts > ATTEMPTS_MAX) {
			finish(abort, -EIO);
			return;
		}
		abort->victim = request->keys[i];
		submit(abort, FERRY_FENCE_PREEMPT);
		return;
	}
	finish(abort, 0);
}

static void request_done(struct ferry_fence_request *request, int error)
{
	struct ferry_abort *abort = request->context;

	if (request->op == FERRY_FENCE_PREEMPT && error == -ENOENT)
		submit(abort, FERRY_FENCE_READ_KEYS);
	else if (request->op == FERRY_FENCE_READ_KEYS && error == 0)
		keys_read(abort);
	else
		finish(abort, error);
}

void ferry_abort_start(struct ferry_abort *abort, struct ferry_fence *fence, struct ferry_key own,
		       struct ferry_key victim)
{
	ferry_assert(!abort->is_busy && abort->on_done);
	ferry_assert(ferry_key_node(own).v != ferry_key_node(victim).v);
	abort->is_busy = true;
	abort->fence = fence;
	abort->victim = victim;
	abort->attempts = 0;
	abort->request =
		(struct ferry_fence_request){.own = own, .on_done = request_done, .context = abort};
	submit(abort, FERRY_FENCE_PREEMPT);
}
