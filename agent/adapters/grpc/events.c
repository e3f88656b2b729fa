#include "agent/adapters/grpc/internal.h"

/*
 * The last events are kept in a ring. Who watches has a cursor into it, and is sent the next one
 * when the one before has left: a slow reader misses events, and is told how many.
 */

static void event_send(struct ferry_grpc_call *call, uint64_t sequence, uint64_t missed)
{
	const struct ferry_grpc_event *kept =
		&call->server->events[sequence % FERRY_GRPC_EVENTS_MAX];
	struct ferry_event event = kept->event;
	Ferry__V1__Event message = FERRY__V1__EVENT__INIT;

	ferry_grpc_text_repair(event.pool, sizeof(event.pool));
	ferry_grpc_text_repair(event.from, sizeof(event.from));
	ferry_grpc_text_repair(event.to, sizeof(event.to));
	ferry_grpc_text_repair(event.text, sizeof(event.text));
	message.sequence = sequence;
	message.missed = missed;
	message.time_wall_ns = kept->time_wall_ns;
	message.node = event.node.v;
	message.kind = (char *)(uintptr_t)ferry_event_kind_name(event.kind); /* Only read. */
	message.severity = (Ferry__V1__Severity)event.severity;
	message.value = event.value;
	message.pool = event.pool;
	message.from = event.from;
	message.to = event.to;
	message.cause = event.text;
	ferry_grpc_call_send(call, &message.base);
}

static void events_refill(struct ferry_grpc_call *call)
{
	const struct ferry_grpc_server *server = call->server;
	uint64_t oldest = server->events_next > FERRY_GRPC_EVENTS_MAX
				  ? server->events_next - FERRY_GRPC_EVENTS_MAX
				  : 1;
	uint64_t missed = 0;

	if (call->cursor < oldest) {
		missed = oldest - call->cursor;
		call->cursor = oldest;
	}
	if (call->cursor < server->events_next)
		event_send(call, call->cursor++, missed);
	else if (!call->is_following)
		ferry_grpc_call_finish(call, GRPC_STATUS_OK, "%s", "");
}

void ferry_grpc_handle_watch(struct ferry_grpc_call *call, const ProtobufCMessage *input)
{
	const Ferry__V1__WatchEventsRequest *request =
		(const Ferry__V1__WatchEventsRequest *)(const void *)input;
	const struct ferry_grpc_server *server = call->server;

	_Static_assert((int)FERRY__V1__SEVERITY__SEVERITY_ERROR == (int)FERRY_SEVERITY_ERROR &&
			       (int)FERRY__V1__SEVERITY__SEVERITY_DEBUG ==
				       (int)FERRY_SEVERITY_DEBUG,
		       "severities are numbered alike");
	if (request->from_sequence > server->events_next) {
		ferry_grpc_call_finish(call, GRPC_STATUS_OUT_OF_RANGE,
				       "the newest event is number %llu",
				       (unsigned long long)(server->events_next - 1));
		return;
	}
	/* 0 asks for what there is, and is told of nothing missed. */
	call->cursor = request->from_sequence;
	if (call->cursor == 0 && server->events_next > FERRY_GRPC_EVENTS_MAX)
		call->cursor = server->events_next - FERRY_GRPC_EVENTS_MAX;
	call->cursor = ferry_max_u64(call->cursor, 1);
	call->is_following = request->follow;
	ferry_grpc_call_stream(call, events_refill);
}

void ferry_grpc_server_publish(struct ferry_grpc_server *server, const struct ferry_event *event,
			       uint64_t time_wall_ns, struct ferry_node self)
{
	struct ferry_grpc_event *kept;

	ferry_assert(server && event);
	FERRY_ASSERT_ON_LOOP(server->config.loop);
	kept = &server->events[server->events_next % FERRY_GRPC_EVENTS_MAX];
	kept->event = *event;
	kept->time_wall_ns = time_wall_ns;
	if (kept->event.node.v == 0)
		kept->event.node = self;
	server->events_next++;
	ferry_list_foreach_safe (link, &server->streams)
		ferry_grpc_call_flush(ferry_list_entry(link, struct ferry_grpc_call, stream_link));
}
