#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/adapters/grpc/internal.h"

#define CONTROL_OP(name) offsetof(struct ferry_control_ops, name)
#define REQUEST(method, type, op)                                                                  \
	{                                                                                          \
		.path = "/ferry.v1.Ferry/" method, .input = &ferry__v1__##type##__descriptor,      \
		.handle = ferry_grpc_handle_request, .control_op = CONTROL_OP(op)                  \
	}

const struct ferry_grpc_method ferry_grpc_methods[] = {
	REQUEST("GetStatus", get_status_request, get_status),
	REQUEST("ListVolumes", list_volumes_request, list_volumes),
	REQUEST("ListPaths", list_paths_request, list_paths),
	REQUEST("ListPeers", list_peers_request, list_peers),
	REQUEST("ListLuns", list_luns_request, list_luns),
	REQUEST("AttachVolume", attach_volume_request, attach),
	REQUEST("DetachVolume", detach_volume_request, detach),
	REQUEST("AcquirePool", acquire_pool_request, acquire),
	REQUEST("ReleasePool", release_pool_request, release),
	REQUEST("MovePool", move_pool_request, move),
	REQUEST("ForcePool", force_pool_request, force),
	REQUEST("ClearPool", clear_pool_request, clear),
	REQUEST("ListKeys", list_keys_request, list_keys),
	REQUEST("CleanKey", clean_key_request, clean_key),
	REQUEST("FenceNode", fence_request, fence),
	REQUEST("GetFence", get_fence_request, get_fence),
	REQUEST("ArmFaults", arm_faults_request, arm_faults),
	{
		.path = "/ferry.v1.Ferry/GetVersion",
		.input = &ferry__v1__get_version_request__descriptor,
		.handle = ferry_grpc_handle_version,
	},
	{
		.path = "/ferry.v1.Ferry/WatchEvents",
		.input = &ferry__v1__watch_events_request__descriptor,
		.handle = ferry_grpc_handle_watch,
		.is_stream = true,
	},
	{
		.path = "/grpc.health.v1.Health/Check",
		.input = &grpc__health__v1__health_check_request__descriptor,
		.handle = ferry_grpc_handle_health_check,
	},
	{
		.path = "/grpc.health.v1.Health/Watch",
		.input = &grpc__health__v1__health_check_request__descriptor,
		.handle = ferry_grpc_handle_health_watch,
		.is_stream = true,
	},
};
const size_t ferry_grpc_methods_count = FERRY_ARRAY_COUNT(ferry_grpc_methods);
_Static_assert(FERRY_ARRAY_COUNT(ferry_grpc_methods) <= FERRY_GRPC_METHODS_MAX, "registered[]");

static void on_shut_down(struct ferry_grpc_op *op, bool ok)
{
	struct ferry_grpc_server *server =
		FERRY_CONTAINER_OF(op, struct ferry_grpc_server, shutdown_op);

	(void)ok;
	grpc_completion_queue_shutdown(server->cq); /* Every call has ended. */
}

static void on_grace_over(struct ferry_timer *timer)
{
	struct ferry_grpc_server *server =
		FERRY_CONTAINER_OF(timer, struct ferry_grpc_server, grace_timer);

	ferry_assert(server->is_stopping);
	grpc_server_cancel_all_calls(server->server);
}

void ferry_grpc_server_shutdown(struct ferry_grpc_server *server, uint64_t grace_ns)
{
	ferry_assert(server && server->is_started);
	FERRY_ASSERT_ON_LOOP(server->config.loop);
	if (server->is_stopping)
		return;
	server->is_stopping = true;
	ferry_grpc_server_set_serving(server, false);
	ferry_grpc_unlisten(server);
	ferry_list_foreach_safe (link, &server->streams) {
		struct ferry_grpc_call *call =
			ferry_list_entry(link, struct ferry_grpc_call, stream_link);

		ferry_grpc_call_finish(call, GRPC_STATUS_UNAVAILABLE, "the agent is stopping");
	}
	grpc_server_shutdown_and_notify(server->server, server->cq, &server->shutdown_op);
	if (grace_ns == 0)
		grpc_server_cancel_all_calls(server->server);
	else
		ferry_timer_start_in(server->config.loop, &server->grace_timer, grace_ns);
}

bool ferry_grpc_server_is_stopped(const struct ferry_grpc_server *server)
{
	ferry_assert(server);
	return server->is_stopped;
}

void ferry_grpc_server_close(struct ferry_grpc_server *server)
{
	if (!server)
		return;
	if (server->is_started) {
		ferry_grpc_server_shutdown(server, 0);
		if (!server->is_stopped) {
			grpc_server_cancel_all_calls(server->server);
			ferry_grpc_pump_drain(server);
		}
		server->config.loop->ops->timer_stop(server->config.loop, &server->grace_timer);
	}
	ferry_grpc_unlisten(server);
	if (server->pipe_watch.run)
		server->config.loop->ops->watch_stop(server->config.loop, &server->pipe_watch);
	if (server->is_pumping)
		(void)pthread_join(server->pump, NULL);
	for (int i = 0; i < 2; i++) {
		if (server->pipe_fds[i] >= 0)
			close(server->pipe_fds[i]);
	}
	for (size_t i = 0; server->slots && i < FERRY_GRPC_REQUESTS_MAX; i++)
		ferry_assert(!server->slots[i].call);
	if (server->server)
		grpc_server_destroy(server->server);
	if (server->cq)
		grpc_completion_queue_destroy(server->cq);
	if (server->server)
		grpc_shutdown();
	free(server->slots);
	free(server->events);
	free(server);
}

static void server_closep(struct ferry_grpc_server **server)
{
	ferry_grpc_server_close(*server);
}

/* gRPC starts its threads here: signals are for the loop, so they must not take any. */
static void server_create(struct ferry_grpc_server *server)
{
	static const struct {
		const char *key;
		int value;
	} settings[] = {
		{GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, FERRY_GRPC_RECEIVE_BYTES_MAX},
		{GRPC_ARG_MAX_CONCURRENT_STREAMS, FERRY_GRPC_CALLS_MAX},
		{GRPC_ARG_ALLOW_REUSEPORT, 0},
	};
	grpc_arg arguments[FERRY_ARRAY_COUNT(settings)];
	const grpc_channel_args list = {FERRY_ARRAY_COUNT(settings), arguments};
	sigset_t all, before;

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(settings); i++) {
		arguments[i].type = GRPC_ARG_INTEGER;
		arguments[i].key = (char *)(uintptr_t)settings[i].key; /* gRPC only reads it. */
		arguments[i].value.integer = settings[i].value;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	grpc_init();
	server->server = grpc_server_create(&list, NULL);
	server->cq = grpc_completion_queue_create_for_next(NULL);
	grpc_server_register_completion_queue(server->server, server->cq, NULL);
	for (size_t i = 0; i < ferry_grpc_methods_count; i++)
		server->registered[i] = grpc_server_register_method(
			server->server, ferry_grpc_methods[i].path, NULL,
			GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
	grpc_server_start(server->server);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int server_alloc(const struct ferry_grpc_config *config, struct ferry_grpc_server **ret,
			struct ferry_error *reterr)
{
	_cleanup_(server_closep) struct ferry_grpc_server *server = NULL;
	int length;

	server = calloc(1, sizeof(*server));
	if (!server)
		return ferry_error_set(reterr, -ENOMEM, "no memory for the control plane");
	server->config = *config;
	server->lock_fd = server->listen_watch.fd = -1;
	server->pipe_fds[0] = server->pipe_fds[1] = -1;
	server->shutdown_op.run = on_shut_down;
	server->grace_timer.run = on_grace_over;
	server->events_next = 1;
	ferry_list_init(&server->calls);
	ferry_list_init(&server->streams);
	(void)snprintf(server->version, sizeof(server->version), "%s", config->version);
	length = snprintf(server->socket_path, sizeof(server->socket_path), "%s",
			  config->socket_path);
	if (length <= 0 || (size_t)length >= sizeof(server->socket_path))
		return ferry_error_set(reterr, -ENAMETOOLONG,
				       "the control socket's path must have 1 to %zu bytes: %s",
				       sizeof(server->socket_path) - 1, config->socket_path);
	server->slots = calloc(FERRY_GRPC_REQUESTS_MAX, sizeof(*server->slots));
	server->events = calloc(FERRY_GRPC_EVENTS_MAX, sizeof(*server->events));
	if (!server->slots || !server->events)
		return ferry_error_set(reterr, -ENOMEM, "no memory for the control plane");
	*ret = TAKE_PTR(server);
	return 0;
}

int ferry_grpc_server_open(const struct ferry_grpc_config *config, struct ferry_grpc_server **ret,
			   struct ferry_error *reterr)
{
	_cleanup_(server_closep) struct ferry_grpc_server *server = NULL;
	int r;

	ferry_assert(config && config->socket_path && config->version);
	ferry_assert(config->loop && config->control && config->control->ops);
	FERRY_ASSERT_ON_LOOP(config->loop);
	r = server_alloc(config, &server, reterr);
	if (r < 0)
		return r;
	ferry_assert(server);
	r = ferry_grpc_listen(server, reterr);
	if (r < 0)
		return r;
	server_create(server);
	r = ferry_grpc_pump_start(server);
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot start the control plane: %s",
				       strerror(-r));
	server->is_started = true;
	ferry_grpc_call_expect(server, NULL);
	for (size_t i = 0; i < ferry_grpc_methods_count; i++)
		ferry_grpc_call_expect(server, &ferry_grpc_methods[i]);
	ferry_grpc_listen_start(server);
	*ret = TAKE_PTR(server);
	return 0;
}
