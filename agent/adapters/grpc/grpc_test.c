/*
 * What `ferry` never asks: health, calls that aren't there, requests that can't be read. The
 * commands themselves are tested by agent/cli/cli_test.sh.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/grpc/client.h"
#include "agent/adapters/grpc/grpc.h"
#include "agent/adapters/qb/qb.h"
#include "ferry.pb-c.h"
#include "health.pb-c.h"

/* As in internal.h. */
#pragma GCC diagnostic ignored "-Wcast-qual"

#define HEALTH(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

enum { DEADLINE_S = 30 };
static const uint64_t timeout_ns = 5 * FERRY_NS_PER_S;

static char directory[64];
static char socket_path[96];
static struct ferry_qb_loop *loop;
static struct ferry_grpc_server *server;
static struct ferry_grpc_client *client;
static pthread_t thread;
static _Atomic int order; /* For the loop's thread, see on_wake(). */
static int seen[8];
static size_t seen_count;

enum { ORDER_SERVE = 1, ORDER_DO_NOT, ORDER_STOP };

/* What the last request asked for; the loop's thread writes it, the test's reads a copy. */
static struct ferry_control_request heard;
static struct ferry_control_request told;
static pthread_mutex_t heard_lock = PTHREAD_MUTEX_INITIALIZER;

static void hear(void)
{
	(void)pthread_mutex_lock(&heard_lock);
	told = heard;
	(void)pthread_mutex_unlock(&heard_lock);
}

static void force(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	(void)pthread_mutex_lock(&heard_lock);
	memcpy(heard.pool, request->pool, sizeof(heard.pool));
	heard.nodes = request->nodes;
	(void)pthread_mutex_unlock(&heard_lock);
	ferry_control_done(request, 0, NULL);
}

static void fence(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	(void)pthread_mutex_lock(&heard_lock);
	memcpy(heard.pool, request->pool, sizeof(heard.pool));
	memcpy(heard.node, request->node, sizeof(heard.node));
	(void)pthread_mutex_unlock(&heard_lock);
	ferry_control_done(request, 0, NULL); /* A report without pools. */
}

static void clean_key(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	(void)pthread_mutex_lock(&heard_lock);
	memcpy(heard.key, request->key, sizeof(heard.key));
	heard.is_foreign = request->is_foreign;
	(void)pthread_mutex_unlock(&heard_lock);
	ferry_control_done(request, 0, NULL);
}

/* As many as there may be, each text as long as it may be, and not ended. */
static void list_keys(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	request->rows_count = FERRY_CONTROL_POOLS_MAX;
	for (uint32_t i = 0; i < request->rows_count; i++) {
		struct ferry_control_lun_keys *lun = &request->answer.keys[i];

		memset(lun->wwid, 'w', sizeof(lun->wwid));
		lun->is_readable = true;
		lun->keys_count = FERRY_KEYS_MAX;
		for (uint32_t j = 0; j < FERRY_KEYS_MAX; j++) {
			memset(lun->keys[j].node_name, 'n', sizeof(lun->keys[j].node_name));
			lun->keys[j].key.v = UINT64_MAX - i * FERRY_KEYS_MAX - j;
			lun->keys[j].state = FERRY_CONTROL_KEY_FOREIGN;
		}
	}
	ferry_control_done(request, 0, NULL);
}

static const struct ferry_control_ops few_ops = {
	.force = force, .fence = fence, .clean_key = clean_key, .list_keys = list_keys};
static struct ferry_control control = {.ops = &few_ops};

static void on_wake(void *context)
{
	(void)context;
	if (order == ORDER_STOP)
		ferry_grpc_server_shutdown(server, FERRY_NS_PER_S);
	else
		ferry_grpc_server_set_serving(server, order == ORDER_SERVE);
}

static void give(int what)
{
	order = what;
	ferry_qb_loop_wake(loop);
}

static void on_stopped(void *context)
{
	(void)context;
	ferry_qb_loop_stop(loop);
}

/* The loop is this thread's once it runs, so what was opened before is closed here. */
static void *thread_run(void *context)
{
	(void)context;
	ferry_qb_loop_run(loop);
	assert_true(ferry_grpc_server_is_stopped(server));
	ferry_grpc_server_close(server);
	ferry_qb_loop_close(loop);
	return NULL;
}

static int setup(void **state)
{
	struct ferry_grpc_config config = {
		.socket_path = socket_path,
		.version = "1.2.3",
		.control = &control,
		.on_stopped = on_stopped,
	};

	(void)state;
	alarm(DEADLINE_S);
	(void)snprintf(directory, sizeof(directory), "/tmp/ferry-grpc-XXXXXX");
	assert_non_null(mkdtemp(directory));
	(void)snprintf(socket_path, sizeof(socket_path), "%s/socket", directory);
	assert_int_equal(ferry_qb_loop_open(&loop, NULL), 0);
	ferry_qb_loop_on_wake(loop, on_wake, NULL);
	config.loop = ferry_qb_loop_port(loop);
	assert_int_equal(ferry_grpc_server_open(&config, &server, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, thread_run, NULL), 0);
	assert_int_equal(ferry_grpc_client_open(socket_path, &client, NULL), 0);
	seen_count = 0;
	return 0;
}

static int teardown(void **state)
{
	char path[128];

	(void)state;
	give(ORDER_STOP);
	assert_int_equal(pthread_join(thread, NULL), 0);
	ferry_grpc_client_close(client);
	(void)snprintf(path, sizeof(path), "%s.lock", socket_path);
	assert_int_equal(unlink(path), 0);
	assert_int_not_equal(access(socket_path, F_OK), 0);
	alarm(0);
	return rmdir(directory);
}

static int check(const char *service, int *ret)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	ProtobufCMessage *answer = NULL;
	int r;

	request.service = (char *)(uintptr_t)service;
	r = ferry_grpc_client_call(client, "/grpc.health.v1.Health/Check", &request.base,
				   &grpc__health__v1__health_check_response__descriptor, timeout_ns,
				   &answer, NULL);
	if (r < 0)
		return r;
	*ret = (int)((Grpc__Health__V1__HealthCheckResponse *)(void *)answer)->status;
	protobuf_c_message_free_unpacked(answer, NULL);
	return 0;
}

static bool on_health(const ProtobufCMessage *message, void *context)
{
	const Grpc__Health__V1__HealthCheckResponse *answer = (const void *)message;

	(void)context;
	assert_true(seen_count < FERRY_ARRAY_COUNT(seen));
	seen[seen_count++] = (int)answer->status;
	if (seen_count == 1)
		give(ORDER_SERVE);
	else if (answer->status == HEALTH(SERVING))
		give(ORDER_DO_NOT);
	return seen_count < 3;
}

static void test_health(void **state)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	int status = 0;

	(void)state;
	assert_int_equal(check("ferry.v1.Ferry", &status), 0);
	assert_int_equal(status, HEALTH(NOT_SERVING));
	assert_int_equal(check("nobody", &status), -ENOENT);
	assert_int_equal(
		ferry_grpc_client_stream(client, "/grpc.health.v1.Health/Watch", &request.base,
					 &grpc__health__v1__health_check_response__descriptor,
					 timeout_ns, on_health, NULL, NULL),
		0);
	assert_int_equal(seen[0], HEALTH(NOT_SERVING));
	assert_int_equal(seen[1], HEALTH(SERVING));
	assert_int_equal(seen[2], HEALTH(NOT_SERVING));
}

static void test_calls_that_are_not_there(void **state)
{
	Ferry__V1__GetStatusRequest request = FERRY__V1__GET_STATUS_REQUEST__INIT;
	struct ferry_error error = {0};
	ProtobufCMessage *answer = NULL;

	(void)state;
	assert_int_equal(ferry_grpc_client_call(client, "/ferry.v1.Ferry/Explode", &request.base,
						&ferry__v1__status__descriptor, timeout_ns, &answer,
						&error),
			 -EOPNOTSUPP);
	assert_int_equal(ferry_grpc_client_call(client, "/ferry.v1.Ferry/GetStatus", &request.base,
						&ferry__v1__status__descriptor, timeout_ns, &answer,
						&error),
			 -EOPNOTSUPP); /* Its op is NULL. */
	assert_null(answer);
}

static void test_requests_that_cannot_be_read(void **state)
{
	static char large[FERRY_GRPC_RECEIVE_BYTES_MAX + 1];
	Ferry__V1__Event event = FERRY__V1__EVENT__INIT;
	Ferry__V1__AttachVolumeRequest attach = FERRY__V1__ATTACH_VOLUME_REQUEST__INIT;
	struct ferry_error error = {0};
	ProtobufCMessage *answer = NULL;
	int status = 0;

	(void)state;
	event.sequence = 1; /* A number where a text belongs. */
	assert_int_equal(ferry_grpc_client_call(client, "/ferry.v1.Ferry/AttachVolume", &event.base,
						&ferry__v1__attach_volume_reply__descriptor,
						timeout_ns, &answer, &error),
			 -EINVAL);
	memset(large, 'x', sizeof(large) - 1);
	attach.volume = large;
	assert_int_equal(ferry_grpc_client_call(client, "/ferry.v1.Ferry/AttachVolume",
						&attach.base,
						&ferry__v1__attach_volume_reply__descriptor,
						timeout_ns, &answer, &error),
			 -EIO);
	assert_null(answer);
	assert_int_equal(check("", &status), 0); /* And it goes on. */
}

static int call(const char *method, const ProtobufCMessage *input,
		const ProtobufCMessageDescriptor *output, ProtobufCMessage **ret)
{
	return ferry_grpc_client_call(client, method, input, output, timeout_ns, ret, NULL);
}

static void test_nodes_that_a_person_answers_for(void **state)
{
	Ferry__V1__ForcePoolRequest request = FERRY__V1__FORCE_POOL_REQUEST__INIT;
	uint32_t nodes[FERRY_NODES_MAX + 1];
	char pool[] = "pg";
	ProtobufCMessage *answer = NULL;

	(void)state;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(nodes); i++)
		nodes[i] = i + 1;
	request.pool = pool;
	request.nodes = nodes;
	request.n_nodes = FERRY_NODES_MAX;
	assert_int_equal(call("/ferry.v1.Ferry/ForcePool", &request.base,
			      &ferry__v1__acquire_pool_reply__descriptor, &answer),
			 0);
	protobuf_c_message_free_unpacked(TAKE_PTR(answer), NULL);
	hear();
	assert_string_equal(told.pool, "pg");
	assert_int_equal(told.nodes.count, FERRY_NODES_MAX);
	assert_int_equal(told.nodes.nodes[FERRY_NODES_MAX - 1].v, FERRY_NODES_MAX);
	request.n_nodes++;
	assert_int_equal(call("/ferry.v1.Ferry/ForcePool", &request.base,
			      &ferry__v1__acquire_pool_reply__descriptor, &answer),
			 -EINVAL);
	assert_null(answer);
}

static void test_a_node_from_all_its_pools(void **state)
{
	Ferry__V1__FenceRequest request = FERRY__V1__FENCE_REQUEST__INIT;
	char node[] = "n1";
	ProtobufCMessage *answer = NULL;

	(void)state;
	(void)pthread_mutex_lock(&heard_lock);
	(void)snprintf(heard.pool, sizeof(heard.pool), "unheard");
	(void)pthread_mutex_unlock(&heard_lock);
	assert_int_equal(call("/ferry.v1.Ferry/FenceNode", &request.base,
			      &ferry__v1__fence_report__descriptor, &answer),
			 -EINVAL); /* No node. */
	hear();
	assert_string_equal(told.pool, "unheard");
	request.node = node;
	assert_int_equal(call("/ferry.v1.Ferry/FenceNode", &request.base,
			      &ferry__v1__fence_report__descriptor, &answer),
			 0);
	hear();
	assert_string_equal(told.pool, "");
	assert_string_equal(told.node, "n1");
	assert_false(((Ferry__V1__FenceReport *)(void *)answer)->fenced);
	protobuf_c_message_free_unpacked(answer, NULL);
}

static void test_keys(void **state)
{
	Ferry__V1__ListKeysRequest list = FERRY__V1__LIST_KEYS_REQUEST__INIT;
	Ferry__V1__CleanKeyRequest clean = FERRY__V1__CLEAN_KEY_REQUEST__INIT;
	char pool[] = "pg", key[] = "0xabc";
	ProtobufCMessage *answer = NULL;
	Ferry__V1__KeyList *keys;

	(void)state;
	assert_int_equal(call("/ferry.v1.Ferry/ListKeys", &list.base,
			      &ferry__v1__key_list__descriptor, &answer),
			 0);
	keys = (Ferry__V1__KeyList *)(void *)answer;
	assert_int_equal(keys->n_luns, FERRY_CONTROL_POOLS_MAX);
	assert_int_equal(keys->luns[1]->n_keys, FERRY_KEYS_MAX);
	assert_int_equal(strlen(keys->luns[1]->wwid), FERRY_CONTROL_TEXT_BYTES - 1);
	assert_string_equal(keys->luns[1]->keys[1]->key, "0xffffffffffffffbe");
	assert_int_equal(strlen(keys->luns[1]->keys[1]->node_name), FERRY_CONTROL_NAME_BYTES - 1);
	protobuf_c_message_free_unpacked(TAKE_PTR(answer), NULL);
	clean.pool = pool;
	clean.key = key;
	clean.foreign = true;
	assert_int_equal(call("/ferry.v1.Ferry/CleanKey", &clean.base,
			      &ferry__v1__clean_key_reply__descriptor, &answer),
			 0);
	protobuf_c_message_free_unpacked(answer, NULL);
	hear();
	assert_string_equal(told.key, "0xabc");
	assert_true(told.is_foreign);
}

static void test_who_serves(void **state)
{
	struct ferry_error error;
	char other[128];

	(void)state;
	assert_int_equal(ferry_grpc_check_unserved(socket_path, &error), -EADDRINUSE);
	(void)snprintf(other, sizeof(other), "%s.other", socket_path);
	assert_int_equal(ferry_grpc_check_unserved(other, &error), 0); /* And leaves nothing. */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_health, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls_that_are_not_there, setup, teardown),
		cmocka_unit_test_setup_teardown(test_requests_that_cannot_be_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nodes_that_a_person_answers_for, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_node_from_all_its_pools, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_serves, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
