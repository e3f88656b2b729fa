/*
 * data_keys.c - a lun's registrations for people and fence agents: read, and one of them removed.
 *
 *   [read  register]  [preempt, else reserve and preempt]  read
 *
 * Nobody is preempted on a lun that is not reserved (ports/fence.h). Who is registered here makes a
 * reservation when it joins; somebody else may have registered and made none.
 *
 * Registering changes the count by which a restart of the target is known: where that has just been
 * seen, it waits (-EAGAIN) until the owner knows (docs/decisions/0009).
 *
 * The cluster thread has judged which one may go, and asks for one thing at a time.
 */
#include "agent/data_internal.h"

static void over(struct data_pool *pool, int error)
{
	pool->keys_error = error;
	data_pool_say_soon(pool, DATA_DUE_KEYS);
}

static void submit(struct data_pool *pool, enum ferry_fence_op op)
{
	const struct ferry_engine_config *config = &pool->engine.config;
	struct ferry_fence *fence = config->fence ? config->fence : config->resetter;

	if (!fence) {
		over(pool, -EOPNOTSUPP);
		return;
	}
	if (!config->path->is_up) {
		over(pool, -ENOTCONN);
		return;
	}
	pool->keys_request.op = op;
	ferry_fence_submit(fence, &pool->keys_request);
}

static void preempted(void *context, int error)
{
	struct data_pool *pool = context;

	if (error == -ENOENT && !pool->keys_have_reserved) {
		pool->keys_have_reserved = true;
		submit(pool, FERRY_FENCE_RESERVE);
	} else if (error < 0 && error != -ENOENT) {
		over(pool, error);
	} else {
		submit(pool, FERRY_FENCE_READ_KEYS); /* It says whether the key is gone. */
	}
}

static void preempt(struct data_pool *pool)
{
	int r = ferry_engine_preempt(&pool->engine, pool->keys_victim, preempted, pool);

	if (r < 0)
		over(pool, r);
}

static void answered(struct ferry_fence_request *request, int error)
{
	struct data_pool *pool = request->context;
	bool is_reserved = request->op == FERRY_FENCE_RESERVE && error == -EBUSY; /* By another. */

	if (error < 0 && !is_reserved) {
		over(pool, error);
	} else if (request->op == FERRY_FENCE_RESERVE) {
		preempt(pool);
	} else if (request->op == FERRY_FENCE_READ_KEYS && pool->keys_must_register) {
		pool->keys_must_register = false;
		if (!ferry_registrar_may_register_beside(&pool->engine.registrar, request)) {
			over(pool, -EAGAIN);
			return;
		}
		request->kept = ferry_fence_kept(request, request->own);
		submit(pool, FERRY_FENCE_REGISTER);
	} else if (request->op == FERRY_FENCE_REGISTER) {
		ferry_registrar_note_beside(&pool->engine.registrar);
		preempt(pool);
	} else {
		ferry_assert(request->keys_count <= FERRY_KEYS_MAX);
		memcpy(pool->keys.keys, request->keys, sizeof(pool->keys.keys));
		pool->keys.count = request->keys_count;
		pool->keys.holder = request->holder;
		pool->keys.generation = request->generation;
		over(pool, 0);
	}
}

void data_keys_mail(struct data_pool *pool, const struct ferry_mail *mail)
{
	if (!pool->is_open) {
		over(pool, -ENXIO);
		return;
	}
	pool->keys = (struct ferry_mail_keys){0};
	pool->keys_victim = mail->key;
	pool->keys_have_reserved = false;
	pool->keys_request = (struct ferry_fence_request){
		.own = pool->engine.registrar.config.own, .on_done = answered, .context = pool};
	/*
	 * Beside foreign registrations this node has none of its own, and only registrants preempt.
	 * Nothing goes by it: that waits for the registrar.
	 */
	pool->keys_must_register = mail->key.v != 0 && mail->flag &&
				   pool->engine.registrar.state == FERRY_REGISTRAR_FOREIGN;
	if (mail->key.v != 0 && !pool->keys_must_register)
		preempt(pool);
	else
		submit(pool, FERRY_FENCE_READ_KEYS);
}
