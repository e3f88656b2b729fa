/*
 * An agent with canned answers behind the real server, for the tests of `ferry`.
 *   ferry_fake_agent SOCKET
 * Names decide: "missing": no such thing; "theirs": refused; "slow": answered after a minute, or
 * when the asker has gone; "late": after 200 ms; "gone": the process ends without a word.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "agent/adapters/grpc/grpc.h"
#include "agent/adapters/qb/qb.h"

enum { PENDING_MAX = FERRY_GRPC_REQUESTS_MAX, VOLUMES = 3 };

struct pending {
	struct ferry_timer timer;
	struct ferry_control_request *request;
};

static struct ferry_qb_loop *loop;
static struct ferry_grpc_server *server;
static struct pending pending[PENDING_MAX];
static const struct ferry_node self = {2};
static bool is_alone;
/* What has become of this node: see get_fence(). */
static enum { WELL, DEPOSED, FENCED } fate;

static void text(char *to, size_t size_bytes, const char *from)
{
	(void)snprintf(to, size_bytes, "%s", from);
}

static void publish(const char *from, const char *to, const char *cause, uint64_t value)
{
	struct ferry_event event = {
		.kind = FERRY_EVENT_PATH_STATE,
		.severity = FERRY_SEVERITY_WARNING,
		.value = value,
		.pool = "pg",
	};
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	text(event.from, sizeof(event.from), from);
	text(event.to, sizeof(event.to), to);
	text(event.text, sizeof(event.text), cause);
	ferry_grpc_server_publish(server, &event,
				  (uint64_t)now.tv_sec * FERRY_NS_PER_S + (uint64_t)now.tv_nsec,
				  self);
}

static void get_status(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_control_status *status = &request->answer.status;
	struct ferry_control_pool *pool = &status->pools[0];

	(void)control;
	status->node = self;
	text(status->node_name, sizeof(status->node_name), "n2");
	status->incarnation.v = 5;
	text(status->cluster, sizeof(status->cluster), "lab");
	status->is_quorate = !is_alone;
	status->nodes_expected = 3;
	status->members = (struct ferry_members){.nodes = {{1}, {2}, {3}}, .count = 3};
	if (is_alone)
		status->members = (struct ferry_members){.nodes = {{2}}, .count = 1};
	status->uptime_seconds = 3723;
	status->is_memory_locked = true;
	status->pools_count = 1;
	text(pool->name, sizeof(pool->name), "pg");
	pool->state = FERRY_CONTROL_POOL_SERVING;
	pool->owner = self;
	pool->epoch.v = UINT64_MAX; /* The largest must come through. */
	for (size_t i = 0; i < sizeof(pool->lineage.bytes); i++)
		pool->lineage.bytes[i] = (uint8_t)i;
	pool->health = FERRY_CONTROL_FORWARDING;
	text(pool->health_reason, sizeof(pool->health_reason), "session lost \xff\x01 60 times");
	pool->ios = 1000;
	pool->detours = 42;
	pool->ghosts_laid = 3;
	pool->cache.is_enabled = true;
	pool->cache.used_bytes = 3 * FERRY_MIB / 2;
	pool->cache.hits = 3;
	pool->cache.misses = 1;
	ferry_control_done(request, 0, NULL);
}

static void list_volumes(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	for (uint32_t i = 0; i < VOLUMES; i++) {
		struct ferry_control_volume *volume = &request->answer.volumes[i];

		(void)snprintf(volume->name, sizeof(volume->name), "vol%u", i);
		text(volume->pool, sizeof(volume->pool), "pg");
		volume->size_bytes = FERRY_MIB << i;
		volume->block_bytes = 4096;
		volume->is_serving = i == 0;
		volume->is_scratch = i > 0;
		volume->state = i == 0	 ? FERRY_CONTROL_POOL_SERVING
				: i == 1 ? FERRY_CONTROL_POOL_HOLDING
					 : FERRY_CONTROL_POOL_STANDBY;
		volume->clients = 3 * i;
		text(volume->reason, sizeof(volume->reason), i ? "another node owns it" : "");
		text(volume->device, sizeof(volume->device), i ? "" : "/dev/loop7");
	}
	request->rows_count = VOLUMES;
	ferry_control_done(request, 0, NULL);
}

/* As many as there may be, each as long as it may be: bounds on the way must hold. */
static void list_paths(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	for (uint32_t i = 0; i < FERRY_CONTROL_ROWS_MAX; i++) {
		struct ferry_control_path *path = &request->answer.paths[i];

		text(path->pool, sizeof(path->pool), "pg");
		memset(path->lun, 'x', sizeof(path->lun) - 1);
		memset(path->reason, 'r', sizeof(path->reason)); /* And one that isn't ended. */
		path->is_peer = i > 0;
		path->node.v = i + 1;
		text(path->transport, sizeof(path->transport), i ? "tcp" : "iscsi");
		path->is_up = i % 2 == 0;
		path->health = i ? FERRY_CONTROL_HEALTHY : FERRY_CONTROL_CONVICTED;
		path->ios = i;
		path->latency_ns = i * 1000;
	}
	request->rows_count = FERRY_CONTROL_ROWS_MAX;
	ferry_control_done(request, 0, NULL);
}

static void list_peers(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_control_peer *peer = &request->answer.peers[0];

	(void)control;
	peer->node.v = 1;
	text(peer->name, sizeof(peer->name), "n1");
	peer->is_member = !is_alone;
	peer->link = FERRY_CONTROL_LINK_CONNECTING;
	text(peer->reason, sizeof(peer->reason), "connection refused");
	text(peer->transport, sizeof(peer->transport), "tcp");
	text(peer->not_rdma, sizeof(peer->not_rdma), "no RDMA device");
	text(peer->address, sizeof(peer->address), "10.0.0.1");
	peer->rtt_ns = 1234567;
	peer->health = FERRY_CONTROL_PROBATION;
	peer++;
	peer->node.v = 3;
	text(peer->name, sizeof(peer->name), "n3");
	text(peer->transport, sizeof(peer->transport), "rdma");
	peer->link = FERRY_CONTROL_LINK_DOWN;
	request->rows_count = 2;
	ferry_control_done(request, 0, NULL);
}

static void list_luns(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control; /* None. */
	ferry_control_done(request, 0, NULL);
}

static void on_late(struct ferry_timer *timer)
{
	struct pending *entry = FERRY_CONTAINER_OF(timer, struct pending, timer);

	ferry_control_done(TAKE_PTR(entry->request), 0, NULL);
}

static void answer(struct ferry_control_request *request, const char *name)
{
	uint64_t delay_ns = strcmp(name, "slow") == 0 ? 60 * FERRY_NS_PER_S : 200 * FERRY_NS_PER_MS;

	if (strcmp(name, "gone") == 0)
		_exit(7);
	if (strcmp(name, "missing") == 0) {
		ferry_control_done(request, -ENOENT, "there is no such thing");
		return;
	}
	if (strcmp(name, "theirs") == 0) {
		ferry_control_done(request, -EBUSY, "node 1 owns it");
		return;
	}
	if (strcmp(name, "broken") == 0) {
		ferry_control_done(request, -EIO, NULL);
		return;
	}
	if (strcmp(name, "slow") != 0 && strcmp(name, "late") != 0) {
		ferry_control_done(request, 0, NULL);
		return;
	}
	for (size_t i = 0; i < PENDING_MAX; i++) {
		if (pending[i].request)
			continue;
		pending[i].request = request;
		pending[i].timer.run = on_late;
		ferry_timer_start_in(ferry_qb_loop_port(loop), &pending[i].timer, delay_ns);
		return;
	}
	abort(); /* The server lets no more through. */
}

static void attach(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	if (strcmp(request->volume, "nbd") == 0) { /* Shown by an NBD socket alone. */
		text(request->answer.attach.uri, sizeof(request->answer.attach.uri),
		     "nbd+unix:///nbd?socket=/none/such.sock");
		text(request->answer.attach.label, sizeof(request->answer.attach.label), "1");
		answer(request, request->volume);
		return;
	}
	text(request->answer.attach.device, sizeof(request->answer.attach.device), "/dev/loop7");
	text(request->answer.attach.front_end, sizeof(request->answer.attach.front_end), "ublk");
	text(request->answer.attach.reason, sizeof(request->answer.attach.reason), "no\nbetter");
	answer(request, request->volume);
}

static void detach(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	text(request->answer.attach.device, sizeof(request->answer.attach.device), "/dev/loop7");
	answer(request, request->volume);
}

static void acquire(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	printf("acquire %s%s\n", request->pool, request->is_take ? " take" : "");
	(void)fflush(stdout);
	request->answer.owner.epoch.v = 8;
	answer(request, request->pool);
}

static void move(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	printf("move %s %s%s\n", request->pool, request->node, request->is_force ? " force" : "");
	(void)fflush(stdout);
	request->answer.owner.epoch.v = 9;
	request->answer.owner.was_there = strcmp(request->node, "n2") == 0;
	publish("n2", request->node, "moved by an administrator", 9);
	answer(request, request->pool);
}

static void force(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	printf("forced %s without", request->pool);
	for (uint32_t i = 0; i < request->nodes.count; i++)
		printf(" %u", request->nodes.nodes[i].v);
	printf("\n");
	(void)fflush(stdout);
	request->answer.owner.epoch.v = 10;
	answer(request, request->pool);
}

static void clear(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	printf("clear %s%s\n", request->pool, request->is_force ? " force" : "");
	(void)fflush(stdout);
	answer(request, request->pool);
}

static bool key_is_cleaned[6];

/* A registration in each state; what was cleaned is gone. */
static void list_keys(struct ferry_control *control, struct ferry_control_request *request)
{
	static const struct ferry_control_key keys[] = {
		{.key = {0xfe00000200000005},
		 .node = {2},
		 .incarnation = {5},
		 .node_name = "n2",
		 .state = FERRY_CONTROL_KEY_OWN,
		 .is_holder = true},
		{.key = {0xfe00000100000009},
		 .node = {1},
		 .incarnation = {9},
		 .node_name = "n1",
		 .state = FERRY_CONTROL_KEY_MEMBER},
		{.key = {0xfe00000100000008},
		 .node = {1},
		 .incarnation = {8},
		 .node_name = "n1",
		 .state = FERRY_CONTROL_KEY_OLDER,
		 .is_stale = true},
		{.key = {0xfe00000900000001},
		 .node = {9},
		 .incarnation = {1},
		 .state = FERRY_CONTROL_KEY_ABSENT,
		 .is_stale = true},
		{.key = {0xfe00000900000001}, /* The same by another path of that node. */
		 .node = {9},
		 .incarnation = {1},
		 .state = FERRY_CONTROL_KEY_ABSENT,
		 .is_stale = true},
		{.key = {0xabc}, .state = FERRY_CONTROL_KEY_FOREIGN, .is_holder = true},
	};
	struct ferry_control_lun_keys *lun = &request->answer.keys[0];

	(void)control;
	text(lun->pool, sizeof(lun->pool), "pg");
	text(lun->name, sizeof(lun->name), "disk1");
	text(lun->wwid, sizeof(lun->wwid), "naa.5000");
	lun->is_readable = true;
	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(keys); i++)
		if (!key_is_cleaned[i])
			lun->keys[lun->keys_count++] = keys[i];
	lun++;
	text(lun->pool, sizeof(lun->pool), "dark");
	text(lun->wwid, sizeof(lun->wwid), "naa.5001");
	text(lun->reason, sizeof(lun->reason), "this node's path does not work");
	lun++;
	text(lun->pool, sizeof(lun->pool), "bare");
	text(lun->wwid, sizeof(lun->wwid), "naa.5002");
	lun->is_readable = true;
	request->rows_count = 3;
	ferry_control_done(request, 0, NULL);
}

static void clean_key(struct ferry_control *control, struct ferry_control_request *request)
{
	static const char *const keys[] = {
		"", "", "0xfe00000100000008", "0xfe00000900000001", "", "0x0000000000000abc"};

	(void)control;
	for (uint32_t i = 2; i < FERRY_ARRAY_COUNT(keys); i++) {
		if (strcmp(request->key, keys[i]) != 0)
			continue;
		if ((i == 5) != request->is_foreign)
			break;
		if (key_is_cleaned[i]) {
			ferry_control_done(request, -ENOENT, "there is no such registration");
			return;
		}
		key_is_cleaned[i] = true;
		key_is_cleaned[4] |= i == 3;
		ferry_control_done(request, 0, NULL);
		return;
	}
	ferry_control_done(request, -EPERM, "not that one");
}

/* Of one pool it is sure; of the other only for n1. */
static void fence(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_control_fence *report = &request->answer.fence;
	bool is_n1 = strcmp(request->node, "n1") == 0;

	(void)control;
	if (strcmp(request->node, "n9") == 0) {
		ferry_control_done(request, -ENOENT, "no such node in corosync's node list: n9");
		return;
	}
	if (request->pool[0] && strcmp(request->pool, "pg") != 0) {
		ferry_control_done(request, -ENOENT, "no such pool on this node");
		return;
	}
	printf("fenced %s\n", request->node);
	(void)fflush(stdout);
	report->node.v = is_n1 ? 1 : 3;
	text(report->node_name, sizeof(report->node_name), request->node);
	report->pools_count = request->pool[0] ? 1 : 2;
	text(report->pools[0].pool, sizeof(report->pools[0].pool), "pg");
	text(report->pools[0].reason, sizeof(report->pools[0].reason), "verified");
	report->pools[0].is_fenced = true;
	report->pools[0].epoch.v = 11;
	report->pools[0].is_known = true;
	text(report->pools[1].pool, sizeof(report->pools[1].pool), "dark");
	text(report->pools[1].reason, sizeof(report->pools[1].reason), "no path");
	report->pools[1].is_fenced = is_n1;
	answer(request, request->node);
}

static void get_fence(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_control_fenced *pool = &request->answer.fence.pools[0];

	(void)control;
	request->answer.fence.node.v = 3;
	request->answer.fence.pools_count = 1;
	text(pool->pool, sizeof(pool->pool), "pg");
	pool->is_fenced = strcmp(request->node, "n1") == 0 ||
			  (fate != WELL && strcmp(request->node, "n2") == 0);
	pool->is_out = pool->is_fenced && fate == FENCED;
	text(pool->reason, sizeof(pool->reason),
	     fate == FENCED ? "its agent is fenced until it is started anew" : "");
	pool->is_known = strcmp(request->node, "n3") != 0; /* Of that one it is not sure. */
	answer(request, request->node);
}

static void cancelled(struct ferry_control *control, struct ferry_control_request *request)
{
	(void)control;
	for (size_t i = 0; i < PENDING_MAX; i++) {
		if (pending[i].request != request)
			continue;
		ferry_qb_loop_port(loop)->ops->timer_stop(ferry_qb_loop_port(loop),
							  &pending[i].timer);
		printf("cancelled\n");
		(void)fflush(stdout);
		ferry_control_done(TAKE_PTR(pending[i].request), -ETIMEDOUT, NULL);
	}
}

static const struct ferry_control_ops ops = {
	.get_status = get_status,
	.list_volumes = list_volumes,
	.list_paths = list_paths,
	.list_peers = list_peers,
	.list_luns = list_luns,
	.attach = attach,
	.detach = detach,
	.acquire = acquire,
	.force = force,
	.clear = clear,
	.list_keys = list_keys,
	.clean_key = clean_key,
	.fence = fence,
	.get_fence = get_fence,
	.move = move, /* And no release: an agent that cannot do something. */
	.cancelled = cancelled,
};

static void on_signal(void *context, int number)
{
	(void)context;
	if (number == SIGUSR1)
		publish("HEALTHY", "SUSPECT", "session lost", 1);
	else if (number == SIGUSR2)
		for (uint64_t i = 0; i < 5000; i++) /* More than are kept. */
			publish("SUSPECT", "HEALTHY", "flood", i);
	else if (number == SIGWINCH) {
		fate = fate == FENCED ? WELL : fate + 1;
		printf("%s\n", fate == DEPOSED ? "deposed" : fate == FENCED ? "fenced" : "well");
		(void)fflush(stdout);
	} else if (number == SIGHUP) {
		is_alone = !is_alone;
		printf("%s\n", is_alone ? "alone" : "together");
		(void)fflush(stdout);
	} else
		ferry_grpc_server_shutdown(server, 500 * FERRY_NS_PER_MS);
}

static void on_stopped(void *context)
{
	(void)context;
	ferry_qb_loop_stop(loop);
}

int main(int argc, char **argv)
{
	static const int signals[] = {SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, SIGWINCH};
	struct ferry_control control = {.ops = &ops};
	struct ferry_grpc_config config = {
		.socket_path = argv[argc - 1],
		.version = "9.9.9",
		.wire_version = 1,
		.control = &control,
		.on_stopped = on_stopped,
	};
	struct ferry_error error = {0};

	(void)alarm(120); /* Whatever becomes of the test. */
	if (argc != 2 || ferry_qb_loop_open(&loop, &error) < 0 ||
	    ferry_qb_loop_signals(loop, signals, FERRY_ARRAY_COUNT(signals), on_signal, NULL) < 0)
		return 2;
	config.loop = ferry_qb_loop_port(loop);
	if (ferry_grpc_server_open(&config, &server, &error) < 0) {
		fprintf(stderr, "fake agent: %s\n", error.message);
		ferry_qb_loop_close(loop);
		return 1;
	}
	ferry_grpc_server_set_serving(server, true);
	publish("", "HEALTHY", "started", 0);
	publish("HEALTHY", "HEALTHY", "registered", 0xfe00000200000005);
	printf("ready\n");
	(void)fflush(stdout);
	ferry_qb_loop_run(loop);
	ferry_grpc_server_close(server);
	ferry_qb_loop_close(loop);
	printf("stopped\n");
	return 0;
}
