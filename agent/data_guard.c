/*
 * data_guard.c - an agent that stands alone looks, before it serves a lun, whether nodes of a
 * cluster are registered there: it knows nothing of them, and nothing would keep it from writing
 * beside them.
 *
 *   lun answers   read keys   none: serve
 *                             some: refuse, unless the administrator has said that they are old
 */
#include <stdio.h>

#include "agent/core/key.h"
#include "agent/data_internal.h"

#define RETRY_NS (FERRY_NS_PER_S)

static void say(const struct data_pool *pool, const char *words)
{
	struct ferry_event refused = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_ERROR};

	ferry_event_emit(&pool->data->events, refused, "%s", words);
}

/* "nodes 1, 2, and 1 that is not Ferry's" */
static void registrants_list(const struct ferry_fence_request *request, char *ret,
			     size_t size_bytes)
{
	uint32_t foreign = 0;
	size_t length = 0;

	ferry_assert(request->keys_count <= FERRY_KEYS_MAX && size_bytes > 0);
	ret[0] = '\0';
	for (uint32_t i = 0; i < request->keys_count && length + 1 < size_bytes; i++) {
		int written;

		if (!ferry_key_is_ours(request->keys[i])) {
			foreign++;
			continue;
		}
		written = snprintf(ret + length, size_bytes - length, "%s%u",
				   length ? ", " : "nodes ", ferry_key_node(request->keys[i]).v);
		length += ferry_min_u64((uint64_t)written, size_bytes - length);
	}
	if (foreign > 0 && length + 1 < size_bytes)
		(void)snprintf(ret + length, size_bytes - length, "%s%u that %s not Ferry's",
			       length ? ", and " : "", foreign, foreign > 1 ? "are" : "is");
}

static void lun_open(struct data_pool *pool)
{
	struct ferry_error error;

	if (!pool->is_open && data_pool_lun_open(pool, &error) < 0)
		say(pool, error.message);
}

static void answered(struct ferry_fence_request *request, int error)
{
	struct data_pool *pool = request->context;
	char registrants[120], words[FERRY_EVENT_TEXT_MAX];

	pool->is_guarding = false;
	if (pool->data->stop_stage != 0)
		return;
	if (error == -ENOTCONN)
		return; /* When it is there again it is asked again. */
	if (error < 0 && error != -EOPNOTSUPP) {
		ferry_timer_start_in(pool->data->loop, &pool->guard_timer, RETRY_NS);
		return;
	}
	if (error == -EOPNOTSUPP || request->keys_count == 0) {
		lun_open(pool);
		return;
	}
	registrants_list(request, registrants, sizeof(registrants));
	(void)snprintf(
		words, sizeof(words),
		"not served: %s are registered at the lun, and this agent stands alone: beside "
		"them it would corrupt it; if they are old: --despite-registrations",
		registrants);
	(void)snprintf(pool->refusal, sizeof(pool->refusal), "%s", words);
	say(pool, words);
}

static void ask(struct ferry_timer *timer)
{
	struct data_pool *pool = FERRY_CONTAINER_OF(timer, struct data_pool, guard_timer);

	if (pool->is_open || pool->is_guarding || !pool->guard_fence)
		return;
	pool->is_guarding = true;
	pool->guard_request = (struct ferry_fence_request){
		.op = FERRY_FENCE_READ_KEYS, .on_done = answered, .context = pool};
	ferry_fence_submit(pool->guard_fence, &pool->guard_request);
}

bool data_guard_begin(struct data_pool *pool, struct ferry_fence *fence)
{
	if (pool->config->is_shared || pool->config->ignores_registrations || !fence)
		return false;
	pool->guard_fence = fence;
	pool->guard_timer.run = ask;
	ask(&pool->guard_timer);
	return true;
}

void data_guard_close(struct data_pool *pool)
{
	pool->guard_fence = NULL;
	if (ferry_timer_is_started(&pool->guard_timer))
		ferry_timer_stop(pool->data->loop, &pool->guard_timer);
}
