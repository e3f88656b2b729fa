#include <corosync/corotypes.h>
#include <corosync/cpg.h>
#include <corosync/quorum.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "agent/adapters/corosync/internal.h"

enum {
	JOIN_MS_MAX = 5000,
	TWIN_MS_MAX = 1500, /* A dead predecessor's leave may come after our join. */
	WAIT_MS = 20,
	MESSAGES_PER_ROUND = 64, /* So that a flood leaves time for the loop's other work. */
};

struct ferry_corosync {
	struct ferry_group group;
	struct ferry_loop *loop;
	struct ferry_corosync_map map;
	cpg_handle_t cpg;
	quorum_handle_t quorum;
	bool is_cpg_open, is_quorum_open, is_joined, is_lost, is_reported;
	struct cpg_name name;
	uint32_t pid;
	struct ferry_watch cpg_watch;
	struct ferry_watch quorum_watch;
	struct ferry_task news; /* What was learnt outside of a callback. */
	char lost_why[128];

	struct ferry_members members;
	uint32_t pids[FERRY_NODES_MAX]; /* Whom of each node we listen to. */
	bool is_self_in, has_twin;
	bool is_members_news, is_quorum_news;
};

static struct ferry_corosync *corosync_of(struct ferry_group *group)
{
	return FERRY_CONTAINER_OF(group, struct ferry_corosync, group);
}

static void corosync_lost(struct ferry_corosync *corosync, const char *what, int error)
{
	if (corosync->is_lost)
		return;
	corosync->is_lost = true;
	(void)snprintf(corosync->lost_why, sizeof(corosync->lost_why), "corosync is gone (%s: %s)",
		       what, cs_strerror((cs_error_t)error));
	ferry_task_post(corosync->loop, &corosync->news);
}

static int group_multicast(struct ferry_group *group, const void *bytes, size_t length_bytes)
{
	struct ferry_corosync *corosync = corosync_of(group);
	struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length_bytes};
	cs_error_t error;

	FERRY_ASSERT_ON_LOOP(corosync->loop);
	ferry_assert(bytes && length_bytes > 0);
	ferry_assert(length_bytes <= FERRY_GROUP_MESSAGE_BYTES_MAX);
	if (corosync->is_lost || !corosync->is_joined)
		return -ENOTCONN;
	error = cpg_mcast_joined(corosync->cpg, CPG_TYPE_AGREED, &part, 1);
	if (error == CS_OK)
		return 0;
	if (ferry_corosync_errno((int)error) == -EAGAIN)
		return -EAGAIN;
	corosync_lost(corosync, "multicast", (int)error);
	return -ENOTCONN;
}

static const struct ferry_group_ops group_ops = {
	.name = "corosync",
	.multicast = group_multicast,
};

/* What we were told, passed on; in this order, so that messages meet the right members. */
static void news_tell(struct ferry_corosync *corosync)
{
	struct ferry_group *group = &corosync->group;

	if (!corosync->is_joined)
		return;
	if (corosync->is_quorum_news) {
		corosync->is_quorum_news = false;
		if (group->on_quorum)
			group->on_quorum(group);
	}
	if (corosync->is_members_news) {
		corosync->is_members_news = false;
		if (group->on_members)
			group->on_members(group, &corosync->members);
	}
}

static void watches_stop(struct ferry_corosync *corosync)
{
	corosync->loop->ops->watch_stop(corosync->loop, &corosync->cpg_watch);
	corosync->loop->ops->watch_stop(corosync->loop, &corosync->quorum_watch);
}

static void on_news(struct ferry_task *task)
{
	struct ferry_corosync *corosync = FERRY_CONTAINER_OF(task, struct ferry_corosync, news);

	if (!corosync->is_lost) {
		news_tell(corosync);
		return;
	}
	if (corosync->is_reported)
		return;
	corosync->is_reported = true;
	watches_stop(corosync);
	/* Nobody vouches for a quorum any more. */
	corosync->group.is_quorate = false;
	if (corosync->group.on_lost)
		corosync->group.on_lost(&corosync->group, corosync->lost_why);
}

/* CPG's callbacks run inside of cpg_dispatch(). */

static int32_t member_find(const struct ferry_corosync *corosync, uint32_t node)
{
	for (uint32_t i = 0; i < corosync->members.count; i++) {
		if (corosync->members.nodes[i].v == node)
			return (int32_t)i;
	}
	return -1;
}

static void on_deliver(cpg_handle_t handle, const struct cpg_name *name, uint32_t node,
		       uint32_t pid, void *bytes, size_t length_bytes)
{
	void *context = NULL;
	struct ferry_corosync *corosync;
	int32_t slot;

	(void)name;
	if (cpg_context_get(handle, &context) != CS_OK)
		return;
	corosync = context;
	slot = member_find(corosync, node);
	/* A second agent of one node is refused, but may say a word before it knows. */
	if (slot < 0 || corosync->pids[slot] != pid)
		return;
	if (length_bytes > FERRY_GROUP_MESSAGE_BYTES_MAX || corosync->is_lost)
		return;
	news_tell(corosync);
	if (corosync->group.on_message)
		corosync->group.on_message(&corosync->group, (struct ferry_node){node}, bytes,
					   length_bytes);
}

static int by_node_and_pid(const void *left, const void *right)
{
	const struct cpg_address *a = left, *b = right;

	if (a->nodeid != b->nodeid)
		return a->nodeid < b->nodeid ? -1 : 1;
	return (a->pid > b->pid) - (a->pid < b->pid);
}

static bool is_listed(const struct cpg_address *list, size_t count, uint32_t node, uint32_t pid)
{
	for (size_t i = 0; i < count; i++) {
		if (list[i].nodeid == node && list[i].pid == pid)
			return true;
	}
	return false;
}

/*
 * One entry for each node. Of two agents on one node we go on listening to the one that we knew
 * before, and here to ourselves.
 */
static void members_set(struct ferry_corosync *corosync, const struct cpg_address *list,
			size_t count)
{
	struct ferry_members before = corosync->members;
	uint32_t before_pids[FERRY_NODES_MAX];
	struct cpg_address sorted[CPG_MEMBERS_MAX];
	struct ferry_members *members = &corosync->members;

	memcpy(before_pids, corosync->pids, sizeof(before_pids));
	count = ferry_min_u64(count, CPG_MEMBERS_MAX);
	memcpy(sorted, list, count * sizeof(*list));
	qsort(sorted, count, sizeof(*sorted), by_node_and_pid);
	members->count = 0;
	for (size_t i = 0; i < count; i++) {
		uint32_t node = sorted[i].nodeid;
		uint32_t pid = sorted[i].pid;

		if (members->count > 0 && members->nodes[members->count - 1].v == node)
			continue;
		if (members->count == FERRY_NODES_MAX)
			break;
		for (uint32_t k = 0; k < before.count; k++) {
			if (before.nodes[k].v == node &&
			    is_listed(list, count, node, before_pids[k]))
				pid = before_pids[k];
		}
		if (node == corosync->group.self.v && is_listed(list, count, node, corosync->pid))
			pid = corosync->pid;
		members->nodes[members->count].v = node;
		corosync->pids[members->count++] = pid;
	}
	/* A restarted agent is news, even if the node's number stays. */
	if (members->count != before.count ||
	    memcmp(members->nodes, before.nodes, before.count * sizeof(before.nodes[0])) != 0 ||
	    memcmp(corosync->pids, before_pids, before.count * sizeof(before_pids[0])) != 0)
		corosync->is_members_news = true;
}

static void on_confchg(cpg_handle_t handle, const struct cpg_name *name,
		       const struct cpg_address *members, size_t members_count,
		       const struct cpg_address *left, size_t left_count,
		       const struct cpg_address *joined, size_t joined_count)
{
	void *context = NULL;
	struct ferry_corosync *corosync;
	bool was_in;

	(void)name;
	(void)left;
	(void)left_count;
	(void)joined;
	(void)joined_count;
	if (cpg_context_get(handle, &context) != CS_OK)
		return;
	corosync = context;
	was_in = corosync->is_self_in;
	corosync->is_self_in =
		is_listed(members, members_count, corosync->group.self.v, corosync->pid);
	corosync->has_twin = false;
	for (size_t i = 0; i < members_count; i++) {
		if (members[i].nodeid == corosync->group.self.v && members[i].pid != corosync->pid)
			corosync->has_twin = true;
	}
	members_set(corosync, members, members_count);
	if (was_in && !corosync->is_self_in)
		corosync_lost(corosync, "expelled from the group", CS_ERR_NOT_EXIST);
	if (corosync->is_joined)
		news_tell(corosync);
}

/*
 * The ring's sequence grows with each change; the node that began it makes it unique when two
 * halves of a cluster count on by themselves.
 */
static void ring_set(struct ferry_corosync *corosync, bool is_quorate, struct quorum_ring_id id)
{
	struct ferry_group *group = &corosync->group;
	uint64_t ring = (id.seq << 32) | id.nodeid;

	if (group->is_quorate == is_quorate && group->ring == ring)
		return;
	group->is_quorate = is_quorate;
	group->ring = ring;
	corosync->is_quorum_news = true;
}

static void on_quorum(quorum_handle_t handle, uint32_t quorate, struct quorum_ring_id id,
		      uint32_t members_count, const uint32_t *members)
{
	const void *context = NULL;
	struct ferry_corosync *corosync;

	(void)members_count;
	(void)members;
	if (quorum_context_get(handle, &context) != CS_OK)
		return;
	corosync = (struct ferry_corosync *)(uintptr_t)context; /* It was ours, not const. */
	ring_set(corosync, quorate != 0, id);
	news_tell(corosync);
}

/* Up to MESSAGES_PER_ROUND; the descriptor stays readable while there are more. */
static void cpg_pump(struct ferry_corosync *corosync)
{
	for (int i = 0; i < MESSAGES_PER_ROUND && !corosync->is_lost; i++) {
		cs_error_t error = cpg_dispatch(corosync->cpg, CS_DISPATCH_ONE_NONBLOCKING);

		if (error == CS_ERR_TRY_AGAIN)
			return;
		if (error != CS_OK)
			corosync_lost(corosync, "group", (int)error);
	}
}

static void quorum_pump(struct ferry_corosync *corosync)
{
	for (int i = 0; i < MESSAGES_PER_ROUND && !corosync->is_lost; i++) {
		cs_error_t error = quorum_dispatch(corosync->quorum, CS_DISPATCH_ONE_NONBLOCKING);

		if (error == CS_ERR_TRY_AGAIN)
			return;
		if (error != CS_OK)
			corosync_lost(corosync, "quorum", (int)error);
	}
}

static void on_cpg_ready(struct ferry_watch *watch, uint32_t ready)
{
	(void)ready;
	cpg_pump(FERRY_CONTAINER_OF(watch, struct ferry_corosync, cpg_watch));
}

static void on_quorum_ready(struct ferry_watch *watch, uint32_t ready)
{
	(void)ready;
	quorum_pump(FERRY_CONTAINER_OF(watch, struct ferry_corosync, quorum_watch));
}

/* Opening and joining: on the loop's thread, before it runs. */

static uint64_t clock_ms(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* Cannot fail. */
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / FERRY_NS_PER_MS;
}

static int quorum_open(struct ferry_corosync *corosync, struct ferry_error *reterr)
{
	quorum_model_v1_data_t model = {
		.model = QUORUM_MODEL_V1,
		.quorum_notify_fn = on_quorum,
	};
	uint64_t end_ms = clock_ms() + JOIN_MS_MAX;
	uint32_t type = 0;
	cs_error_t error;

	error = quorum_model_initialize(&corosync->quorum, QUORUM_MODEL_V1,
					(quorum_model_data_t *)(void *)&model, &type, corosync);
	if (error != CS_OK)
		return ferry_corosync_error_set(reterr, (int)error, "quorum");
	corosync->is_quorum_open = true;
	if (type != QUORUM_SET)
		return ferry_error_set(reterr, -EINVAL,
				       "corosync.conf: set provider in quorum { }: without quorum "
				       "nothing may be owned");
	error = quorum_trackstart(corosync->quorum, CS_TRACK_CURRENT | CS_TRACK_CHANGES);
	if (error == CS_OK)
		error = quorum_fd_get(corosync->quorum, &corosync->quorum_watch.fd);
	if (error != CS_OK)
		return ferry_corosync_error_set(reterr, (int)error, "quorum");
	while (corosync->group.ring == 0) {
		struct pollfd fd = {.fd = corosync->quorum_watch.fd, .events = POLLIN};

		(void)poll(&fd, 1, WAIT_MS);
		quorum_pump(corosync);
		if (corosync->is_lost)
			return ferry_error_set(reterr, -EIO, "%s", corosync->lost_why);
		if (clock_ms() > end_ms)
			return ferry_error_set(reterr, -ETIMEDOUT,
					       "corosync says nothing of the quorum");
	}
	return 0;
}

static int cpg_open(struct ferry_corosync *corosync, struct ferry_error *reterr)
{
	cpg_model_v1_data_t model = {
		.model = CPG_MODEL_V1,
		.cpg_deliver_fn = on_deliver,
		.cpg_confchg_fn = on_confchg,
	};
	unsigned int self = 0;
	cs_error_t error;
	int length;

	error = cpg_model_initialize(&corosync->cpg, CPG_MODEL_V1,
				     (cpg_model_data_t *)(void *)&model, corosync);
	if (error != CS_OK)
		return ferry_corosync_error_set(reterr, (int)error, "group");
	corosync->is_cpg_open = true;
	error = cpg_local_get(corosync->cpg, &self);
	if (error == CS_OK)
		error = cpg_fd_get(corosync->cpg, &corosync->cpg_watch.fd);
	if (error != CS_OK)
		return ferry_corosync_error_set(reterr, (int)error, "group");
	corosync->group.self.v = self;
	length = snprintf(corosync->name.value, sizeof(corosync->name.value), "ferry.%s",
			  corosync->map.cluster);
	if (length < 0 || (size_t)length >= sizeof(corosync->name.value))
		return ferry_error_set(reterr, -EINVAL,
				       "corosync.conf: cluster_name is longer than %zu bytes",
				       sizeof(corosync->name.value) - sizeof("ferry."));
	corosync->name.length = (uint32_t)length;
	return 0;
}

static void corosync_closep(struct ferry_corosync **corosync)
{
	ferry_corosync_close(*corosync);
}

int ferry_corosync_open(struct ferry_loop *loop, struct ferry_corosync **ret,
			struct ferry_error *reterr)
{
	_cleanup_(corosync_closep) struct ferry_corosync *corosync = NULL;
	int r;

	ferry_assert(loop && ret);
	FERRY_ASSERT_ON_LOOP(loop);
	corosync = calloc(1, sizeof(*corosync));
	if (!corosync)
		return ferry_error_set(reterr, -ENOMEM, "no memory for the cluster's membership");
	corosync->loop = loop;
	corosync->group.ops = &group_ops;
	corosync->pid = (uint32_t)getpid();
	corosync->news.run = on_news;
	corosync->cpg_watch = (struct ferry_watch){.run = on_cpg_ready, .fd = -1};
	corosync->quorum_watch = (struct ferry_watch){.run = on_quorum_ready, .fd = -1};
	r = ferry_corosync_map_read(&corosync->map, reterr);
	if (r < 0)
		return r;
	corosync->group.nodes.count = corosync->map.nodes_count;
	for (uint32_t i = 0; i < corosync->map.nodes_count; i++)
		corosync->group.nodes.nodes[i] = corosync->map.nodes[i].node;
	r = cpg_open(corosync, reterr);
	if (r < 0)
		return r;
	r = quorum_open(corosync, reterr);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(corosync);
	return 0;
}

/* Until the group knows us, and no other agent of this node. */
static int join_wait(struct ferry_corosync *corosync, struct ferry_error *reterr)
{
	uint64_t begin_ms = clock_ms();

	for (;;) {
		struct pollfd fd = {.fd = corosync->cpg_watch.fd, .events = POLLIN};
		uint64_t waited_ms;

		if (corosync->is_self_in && !corosync->has_twin)
			return 0;
		(void)poll(&fd, 1, WAIT_MS);
		waited_ms = clock_ms() - begin_ms;
		/* One at a time: messages that come after it are for the loop to deliver. */
		if (fd.revents != 0) {
			cs_error_t error = cpg_dispatch(corosync->cpg, CS_DISPATCH_ONE_NONBLOCKING);

			if (error != CS_OK && error != CS_ERR_TRY_AGAIN)
				return ferry_corosync_error_set(reterr, (int)error, "join");
		}
		if (corosync->is_self_in && corosync->has_twin && waited_ms > TWIN_MS_MAX)
			return ferry_error_set(reterr, -EBUSY,
					       "another agent runs on this node (node %" PRIu32
					       " of cluster %s)",
					       corosync->group.self.v, corosync->map.cluster);
		if (waited_ms > JOIN_MS_MAX)
			return ferry_error_set(reterr, -ETIMEDOUT,
					       "corosync didn't let us join within %d s",
					       JOIN_MS_MAX / 1000);
	}
}

int ferry_corosync_join(struct ferry_corosync *corosync, struct ferry_error *reterr)
{
	uint64_t end_ms = clock_ms() + JOIN_MS_MAX;
	struct ferry_loop *loop;
	cs_error_t error;
	int r;

	ferry_assert(corosync && !corosync->is_joined);
	loop = corosync->loop;
	FERRY_ASSERT_ON_LOOP(loop);
	while ((error = cpg_join(corosync->cpg, &corosync->name)) == CS_ERR_TRY_AGAIN &&
	       clock_ms() < end_ms)
		(void)poll(NULL, 0, WAIT_MS); /* A membership change is under way. */
	if (error != CS_OK)
		return ferry_corosync_error_set(reterr, (int)error, "join");
	r = join_wait(corosync, reterr);
	if (r < 0) {
		/* Ignoring: closing the connection leaves the group as well. */
		(void)cpg_leave(corosync->cpg, &corosync->name);
		return r;
	}
	r = loop->ops->watch_start(loop, &corosync->cpg_watch, FERRY_WATCH_READ);
	if (r == 0)
		r = loop->ops->watch_start(loop, &corosync->quorum_watch, FERRY_WATCH_READ);
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot watch corosync: %s", strerror(-r));
	corosync->is_joined = true;
	corosync->is_quorum_news = true;
	corosync->is_members_news = true;
	ferry_task_post(loop, &corosync->news);
	return 0;
}

void ferry_corosync_close(struct ferry_corosync *corosync)
{
	if (!corosync)
		return;
	watches_stop(corosync);
	ferry_task_cancel(corosync->loop, &corosync->news);
	/* Ignoring their errors: corosync may be gone, and forgets us either way. */
	if (corosync->is_cpg_open)
		(void)cpg_finalize(corosync->cpg);
	if (corosync->is_quorum_open)
		(void)quorum_finalize(corosync->quorum);
	free(corosync);
}

struct ferry_group *ferry_corosync_group(struct ferry_corosync *corosync)
{
	ferry_assert(corosync);
	return &corosync->group;
}

const char *ferry_corosync_cluster(const struct ferry_corosync *corosync)
{
	ferry_assert(corosync);
	return corosync->map.cluster;
}

static const struct ferry_corosync_node *node_find(const struct ferry_corosync *corosync,
						   struct ferry_node node)
{
	ferry_assert(corosync);
	for (uint32_t i = 0; i < corosync->map.nodes_count; i++) {
		if (corosync->map.nodes[i].node.v == node.v)
			return &corosync->map.nodes[i];
	}
	return NULL;
}

const char *ferry_corosync_node_address(const struct ferry_corosync *corosync,
					struct ferry_node node)
{
	const struct ferry_corosync_node *found = node_find(corosync, node);

	return found ? found->address : NULL;
}

const char *ferry_corosync_node_name(const struct ferry_corosync *corosync, struct ferry_node node)
{
	const struct ferry_corosync_node *found = node_find(corosync, node);

	return found ? found->name : NULL;
}

uint32_t ferry_corosync_nodes(const struct ferry_corosync *corosync,
			      struct ferry_node ret[FERRY_NODES_MAX])
{
	ferry_assert(corosync && ret);
	for (uint32_t i = 0; i < corosync->map.nodes_count; i++)
		ret[i] = corosync->map.nodes[i].node;
	return corosync->map.nodes_count;
}
