#include "migrate/pull.h"

#include <stdio.h>

static void emit(struct ferry_pull *pull, enum ferry_severity severity, const char *to,
		 const char *why)
{
	uint64_t now_ns = ferry_loop_now_ns(pull->config.loop);
	struct ferry_event event = {.kind = FERRY_EVENT_HANDOVER,
				    .severity = severity,
				    .node = pull->import.from.owner,
				    .value = pull->import.lines_count,
				    .time_ns = now_ns};

	(void)snprintf(event.pool, sizeof(event.pool), "%s", pull->config.pool);
	(void)snprintf(event.to, sizeof(event.to), "%s", to);
	ferry_event_emit(pull->config.events, event, "%s (%llu lines, %llu ms)", why,
			 (unsigned long long)pull->import.lines_count,
			 (unsigned long long)((now_ns - pull->started_ns) / FERRY_NS_PER_MS));
}

/* Let whoever waits go on, from a fresh stack. */
static void ready(struct ferry_pull *pull)
{
	if (pull->is_awaited)
		ferry_timer_start_in(pull->config.loop, &pull->timer, 0);
}

static void over(struct ferry_pull *pull, enum ferry_severity severity, const char *why)
{
	ferry_assert(!pull->is_out);
	pull->is_running = false;
	ferry_segments_drop(&pull->request.segments);
	emit(pull, severity, "warm start over", why);
	ready(pull);
}

static void ask(struct ferry_pull *pull, uint64_t cursor)
{
	pull->request.cursor = cursor;
	pull->is_out = true;
	if (ferry_peer_warm(pull->peer, &pull->request) < 0) {
		pull->is_out = false;
		over(pull, FERRY_SEVERITY_NOTICE, "the last owner's agent cannot be reached");
	}
}

/* The first received_bytes of the request's buffers, borrowed. */
static struct ferry_segments received(const struct ferry_peer_warm *request)
{
	struct ferry_segments part = request->segments;
	uint32_t left_bytes = request->received_bytes;

	part.count = 0;
	part.length_bytes = left_bytes;
	while (left_bytes > 0) {
		struct ferry_segment *segment = &part.v[part.count++];

		segment->length_bytes = (uint32_t)ferry_min_u64(segment->length_bytes, left_bytes);
		left_bytes -= segment->length_bytes;
	}
	return part;
}

static void part_came(struct ferry_peer_warm *request, int error)
{
	struct ferry_pull *pull = request->context;
	struct ferry_segments part = received(request);
	struct ferry_error why;
	uint64_t cursor;
	int r;

	ferry_assert(pull->is_out);
	pull->is_out = false;
	if (!pull->is_running) {
		ferry_segments_drop(&request->segments);
		return;
	}
	if (error < 0) {
		over(pull, FERRY_SEVERITY_NOTICE,
		     error == -ENODATA ? "the last owner has nothing to give"
				       : "the last owner's agent was lost");
		return;
	}
	pull->bytes += part.length_bytes;
	r = ferry_warm_import_part(&pull->import, &part, &cursor, &why);
	if (r < 0)
		over(pull, FERRY_SEVERITY_WARNING, why.message);
	else if (cursor == 0)
		over(pull, FERRY_SEVERITY_NOTICE, "all of the last owner's cache is here");
	else if (ferry_index_is_full(&pull->config.cache->index))
		over(pull, FERRY_SEVERITY_NOTICE, "the cache is full");
	else if (pull->config.cache->epoch.v != pull->import.epoch.v)
		over(pull, FERRY_SEVERITY_NOTICE, "overtaken by a newer epoch");
	else
		ask(pull, cursor);
}

static void timer_ran(struct ferry_timer *timer)
{
	struct ferry_pull *pull = FERRY_CONTAINER_OF(timer, struct ferry_pull, timer);

	if (!pull->is_awaited)
		return;
	pull->is_awaited = false;
	if (pull->is_running)
		emit(pull, FERRY_SEVERITY_NOTICE, "warm start goes on", "its time is over");
	pull->config.on_ready(pull->config.context);
}

void ferry_pull_init(struct ferry_pull *pull, const struct ferry_pull_config *config)
{
	ferry_assert(config->loop && config->arena && config->cache);
	ferry_assert(config->peer_of && config->on_ready && config->pool);
	*pull = (struct ferry_pull){.config = *config, .timer = {.run = timer_ran}};
}

void ferry_pull_start(struct ferry_pull *pull, struct ferry_epoch epoch, uint64_t patience_ns)
{
	const struct ferry_pull_config *config = &pull->config;
	int r;

	ferry_assert(epoch.v > 0);
	FERRY_ASSERT_ON_LOOP(config->loop);
	ferry_pull_stop(pull);
	pull->is_awaited = true;
	pull->started_ns = ferry_loop_now_ns(config->loop);
	pull->bytes = 0;
	r = pull->is_out
		    ? -EBUSY
		    : ferry_warm_import_begin(&pull->import, config->cache, &config->name, epoch);
	if (r == 0)
		pull->peer = config->peer_of(pull->import.from.owner, config->context);
	if (r < 0 || !pull->peer ||
	    ferry_arena_take(config->arena, FERRY_IO_BYTES_MAX, &pull->request.segments) < 0) {
		ready(pull); /* Cold, or with its own lines of before. */
		return;
	}
	pull->is_running = true;
	pull->request.lun = config->name.lun;
	pull->request.lineage = config->name.lineage;
	pull->request.epoch = epoch;
	pull->request.on_done = part_came;
	pull->request.context = pull;
	ferry_timer_start_in(config->loop, &pull->timer, patience_ns);
	ask(pull, 0);
}

void ferry_pull_stop(struct ferry_pull *pull)
{
	ferry_assert(pull);
	pull->is_running = false;
	pull->is_awaited = false;
	ferry_timer_stop(pull->config.loop, &pull->timer);
	if (!pull->is_out)
		ferry_segments_drop(&pull->request.segments);
}
