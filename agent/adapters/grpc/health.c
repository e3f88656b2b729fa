#include "agent/adapters/grpc/internal.h"

#define HEALTH(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

static bool service_is_known(const char *service)
{
	return service[0] == '\0' || strcmp(service, "ferry.v1.Ferry") == 0;
}

static void health_send(struct ferry_grpc_call *call, int status)
{
	Grpc__Health__V1__HealthCheckResponse response =
		GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	response.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
	ferry_grpc_call_send(call, &response.base);
}

static int health_of(const struct ferry_grpc_call *call)
{
	if (!call->is_health_known)
		return HEALTH(SERVICE_UNKNOWN);
	return call->server->is_serving ? HEALTH(SERVING) : HEALTH(NOT_SERVING);
}

void ferry_grpc_handle_health_check(struct ferry_grpc_call *call, const ProtobufCMessage *input)
{
	const Grpc__Health__V1__HealthCheckRequest *request =
		(const Grpc__Health__V1__HealthCheckRequest *)(const void *)input;

	call->is_health_known = service_is_known(request->service);
	if (call->is_health_known)
		health_send(call, health_of(call));
	else
		ferry_grpc_call_finish(call, GRPC_STATUS_NOT_FOUND, "no such service");
}

static void health_refill(struct ferry_grpc_call *call)
{
	int status = health_of(call);

	if (status == call->health_sent)
		return;
	call->health_sent = status;
	health_send(call, status);
}

void ferry_grpc_handle_health_watch(struct ferry_grpc_call *call, const ProtobufCMessage *input)
{
	const Grpc__Health__V1__HealthCheckRequest *request =
		(const Grpc__Health__V1__HealthCheckRequest *)(const void *)input;

	call->is_health_known = service_is_known(request->service);
	call->health_sent = HEALTH(UNKNOWN);
	ferry_grpc_call_stream(call, health_refill);
}

void ferry_grpc_server_set_serving(struct ferry_grpc_server *server, bool is_serving)
{
	ferry_assert(server);
	FERRY_ASSERT_ON_LOOP(server->config.loop);
	server->is_serving = is_serving;
	ferry_list_foreach_safe (link, &server->streams)
		ferry_grpc_call_flush(ferry_list_entry(link, struct ferry_grpc_call, stream_link));
}
