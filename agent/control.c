/* control.c - what `ferry` asks: wishes, fencing and faults; control_lists.c has what it shows. */
#include <stdio.h>
#include <stdlib.h>

#include "agent/cluster_internal.h"

static struct ferry_cluster *cluster_of(struct ferry_control *control)
{
	return FERRY_CONTAINER_OF(control, struct ferry_cluster, control);
}

/* ---- Snapshots: one is on its way at a time; who asks meanwhile gets the next. ---- */

static void snapshot_ask(struct ferry_cluster *cluster)
{
	struct ferry_mail mail = {.kind = FERRY_MAIL_SNAPSHOT, .pointer = cluster->snapshot};

	if (cluster->snapshot_is_out || cluster->askers_count == 0 || cluster->data_was_told)
		return;
	cluster->snapshot_is_out = true;
	cluster->askers_served = cluster->askers_count;
	ferry_mail_to_data(&cluster->mailbox, &mail);
}

void control_snapshot_want(struct ferry_cluster *cluster, struct ferry_control_request *request,
			   void (*answer)(struct ferry_cluster *, struct ferry_control_request *))
{
	if (cluster->askers_count == FERRY_SNAPSHOT_ASKERS_MAX || cluster->data_was_told) {
		ferry_control_done(request, cluster->data_was_told ? -ESHUTDOWN : -EAGAIN,
				   cluster->data_was_told ? "the agent is stopping"
							  : "too many questions at once");
		return;
	}
	cluster->askers[cluster->askers_count++] =
		(struct snapshot_asker){.request = request, .answer = answer};
	snapshot_ask(cluster);
}

void control_snapped(struct ferry_cluster *cluster)
{
	uint32_t served = cluster->data_is_stopped ? cluster->askers_count : cluster->askers_served;

	cluster->snapshot_is_out = false;
	for (uint32_t i = 0; i < served; i++)
		cluster->askers[i].answer(cluster, cluster->askers[i].request);
	cluster->askers_count -= served;
	memmove(cluster->askers, cluster->askers + served,
		cluster->askers_count * sizeof(cluster->askers[0]));
	cluster->askers_served = 0;
	snapshot_ask(cluster);
}

/* ---- Wishes. ---- */

static void none_such(struct ferry_control_request *request, const char *kind, const char *name)
{
	char why[FERRY_CONTROL_TEXT_BYTES];

	(void)snprintf(why, sizeof(why), "no such %s on this node: %s", kind, name);
	ferry_control_done(request, -ENOENT, why);
}

static void none_such_node(struct ferry_control_request *request)
{
	char why[FERRY_CONTROL_TEXT_BYTES];

	(void)snprintf(why, sizeof(why), "no such node in corosync's node list: %s", request->node);
	ferry_control_done(request, -ENOENT, why);
}

static struct cluster_pool *pool_find(struct ferry_cluster *cluster, const char *name)
{
	for (uint32_t i = 0; i < cluster->pools_count; i++)
		if (strcmp(cluster->pools[i].config->name, name) == 0)
			return &cluster->pools[i];
	return NULL;
}

static struct cluster_pool *pool_of_volume(struct ferry_cluster *cluster, const char *volume)
{
	for (uint32_t i = 0; i < cluster->pools_count; i++)
		if (strcmp(cluster->pools[i].volume->name, volume) == 0)
			return &cluster->pools[i];
	return NULL;
}

/* A run of `ferry torture` has begun on it, or makes faults just now. */
static bool is_tortured(const struct cluster_pool *pool)
{
	return ferry_loop_now_ns(pool->cluster->loop) < pool->torture_until_ns;
}

/* Why @pool's volume can't be attached now, or NULL. */
static const char *attach_refusal(const struct cluster_pool *pool)
{
	if (!pool->is_shown && pool->cluster->group)
		return "this node does not own the pool: `ferry acquire` it first, or attach where "
		       "it is owned";
	if (!pool->is_shown)
		return pool->is_open ? "the volume is not served: its pool was released; start the "
				       "agent anew"
				     : "the volume is not served: its lun has not answered yet";
	if (is_tortured(pool))
		return "`ferry torture` overwrites it just now";
	return NULL;
}

/*
 * By the NBD front end or the volume's file: the asker makes a device of the kernel's NBD client,
 * or puts a loop device over the file. @reason: why not by ublk, or "".
 */
static void attach_file(struct cluster_pool *pool, struct ferry_control_request *request,
			const char *reason)
{
	struct ferry_cluster *cluster = pool->cluster;

	control_device_of(cluster, request->volume, request->answer.attach.device,
			  sizeof(request->answer.attach.device));
	control_uri_of(cluster, request->volume, request->answer.attach.uri,
		       sizeof(request->answer.attach.uri));
	cluster_nbddev_label(pool, request->answer.attach.label,
			     sizeof(request->answer.attach.label));
	request->answer.attach.hold_s = (uint32_t)ferry_max_u64(
		1, cluster->settings->config.hold_timeout_ns / FERRY_NS_PER_S);
	(void)snprintf(request->answer.attach.front_end, sizeof(request->answer.attach.front_end),
		       "%s", request->answer.attach.device[0] ? "fuse" : "");
	(void)snprintf(request->answer.attach.reason, sizeof(request->answer.attach.reason), "%s",
		       reason);
	ferry_control_done(request, 0, NULL);
}

static void data_ask(struct cluster_pool *pool, struct ferry_control_request *request,
		     enum ferry_mail_kind kind)
{
	if (cluster_pool_attach(pool, request, kind) < 0)
		ferry_control_done(request, -EBUSY, "it is being attached or detached just now");
}

void control_attached(struct cluster_pool *pool, const struct ferry_mail *mail)
{
	struct ferry_control_request *request = TAKE_PTR(pool->attaching);
	const struct ferry_config *config = &pool->cluster->settings->config;

	if (request->is_remove) {
		ferry_control_done(request, mail->error, mail->error < 0 ? mail->text : NULL);
	} else if (mail->error < 0 && (config->is_fuse || config->nbd_listens_count > 0)) {
		attach_file(pool, request, mail->text);
	} else if (mail->error < 0) {
		ferry_control_done(request, mail->error, mail->text);
	} else {
		(void)snprintf(request->answer.attach.device, sizeof(request->answer.attach.device),
			       "%s", mail->text);
		(void)snprintf(request->answer.attach.front_end,
			       sizeof(request->answer.attach.front_end), "ublk");
		control_uri_of(pool->cluster, request->volume, request->answer.attach.uri,
			       sizeof(request->answer.attach.uri));
		ferry_control_done(request, 0, NULL);
	}
}

static void attach(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_cluster *cluster = cluster_of(control);
	struct cluster_pool *pool = pool_of_volume(cluster, request->volume);
	const char *refusal = pool ? attach_refusal(pool) : NULL;

	if (!pool)
		none_such(request, "volume", request->volume);
	else if (refusal)
		ferry_control_done(request, -EPERM, refusal);
	else if (cluster->settings->config.is_ublk)
		data_ask(pool, request, FERRY_MAIL_ATTACH);
	else
		attach_file(pool, request, "");
}

/* What there is to detach, also where the pool is not owned any more; the asker sees to it. */
static void detach_answer(struct ferry_cluster *cluster, struct ferry_control_request *request)
{
	const struct cluster_pool *pool = pool_of_volume(cluster, request->volume);
	const char *device;

	ferry_assert(pool); /* It was there when it was asked. */
	device = cluster->snapshot->pools[pool->index].device;
	if (device[0])
		(void)snprintf(request->answer.attach.device, sizeof(request->answer.attach.device),
			       "%s", device);
	else
		control_device_of(cluster, request->volume, request->answer.attach.device,
				  sizeof(request->answer.attach.device));
	control_uri_of(cluster, request->volume, request->answer.attach.uri,
		       sizeof(request->answer.attach.uri));
	ferry_control_done(request, 0, NULL);
}

static void detach(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_cluster *cluster = cluster_of(control);
	struct cluster_pool *pool = pool_of_volume(cluster, request->volume);

	if (!pool)
		none_such(request, "volume", request->volume);
	else if (request->is_remove)
		data_ask(pool, request, FERRY_MAIL_DETACH);
	else
		control_snapshot_want(cluster, request, detach_answer);
}

static void acquire(struct ferry_control *control, struct ferry_control_request *request)
{
	struct cluster_pool *pool = pool_find(cluster_of(control), request->pool);

	if (!pool)
		none_such(request, "pool", request->pool);
	else
		cluster_pool_acquire(pool, request);
}

static void release(struct ferry_control *control, struct ferry_control_request *request)
{
	struct cluster_pool *pool = pool_find(cluster_of(control), request->pool);

	if (!pool)
		none_such(request, "pool", request->pool);
	else
		cluster_pool_release(pool, request);
}

static struct ferry_node node_find(const struct ferry_cluster *cluster, const char *text)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (strcmp(text, cluster->node_name) == 0 || (*end == '\0' && number == cluster->self.v))
		return cluster->self;
	for (uint32_t i = 0; i < cluster->peers_count; i++) {
		struct ferry_node node = cluster->peers[i].node;
		const char *name = ferry_corosync_node_name(cluster->corosync, node);

		if ((name && strcmp(text, name) == 0) || (*end == '\0' && number == node.v))
			return node;
	}
	return (struct ferry_node){0};
}

static void move(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_cluster *cluster = cluster_of(control);
	struct cluster_pool *pool = pool_find(cluster, request->pool);
	struct ferry_node node = node_find(cluster, request->node);

	if (!pool)
		none_such(request, "pool", request->pool);
	else if (node.v == 0 && cluster->group)
		none_such_node(request);
	else
		cluster_pool_move(pool, node, request);
}

static void force(struct ferry_control *control, struct ferry_control_request *request)
{
	struct cluster_pool *pool = pool_find(cluster_of(control), request->pool);

	if (!pool)
		none_such(request, "pool", request->pool);
	else
		cluster_pool_force(pool, request);
}

/* That flushes fail is for applications to see: who still runs would take lost for written. */
static void clear_answer(struct ferry_cluster *cluster, struct ferry_control_request *request)
{
	struct cluster_pool *pool = pool_find(cluster, request->pool);
	const struct ferry_snapshot_pool *data;
	struct ferry_event event = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_WARNING};

	ferry_assert(pool); /* It was there when it was asked. */
	data = &cluster->snapshot->pools[pool->index];
	if (!data->is_open || !data->flush_is_suspect) {
		ferry_control_done(request, -EPERM,
				   "its flushes do not fail on this node: nothing to clear");
	} else if (data->clients + data->opens > 0 && !request->is_force) {
		ferry_control_done(request, -EPERM,
				   "it is in use, by who may miss what it has written: unmount and "
				   "detach first (--force: nevertheless)");
	} else if (cluster->data_was_told) {
		ferry_control_done(request, -ESHUTDOWN, "the agent is stopping");
	} else {
		(void)snprintf(event.pool, sizeof(event.pool), "%s", pool->config->name);
		ferry_event_emit(&cluster->events, event,
				 "an administrator has cleared it: flushes may succeed again");
		cluster_pool_tell(pool, (struct ferry_mail){.kind = FERRY_MAIL_CLEAR});
		ferry_control_done(request, 0, NULL);
	}
}

static void clear(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_cluster *cluster = cluster_of(control);

	if (!pool_find(cluster, request->pool))
		none_such(request, "pool", request->pool);
	else
		control_snapshot_want(cluster, request, clear_answer);
}

/* ---- Registrations, and fencing. ---- */

const char *control_node_name(const struct ferry_cluster *cluster, struct ferry_node node)
{
	const char *name;

	if (node.v == cluster->self.v)
		return cluster->node_name;
	name = cluster->corosync ? ferry_corosync_node_name(cluster->corosync, node) : NULL;
	return name ? name : "";
}

static void list_keys(struct ferry_control *control, struct ferry_control_request *request)
{
	const struct warden_job job = {.kind = WARDEN_LIST, .request = request};

	warden_ask(cluster_of(control), &job);
}

static void clean_key(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_cluster *cluster = cluster_of(control);
	struct warden_job job = {.kind = WARDEN_CLEAN, .request = request};
	char *end;

	errno = 0;
	job.victim.v = strtoull(request->key, &end, 16);
	if (errno != 0 || *end != '\0' || job.victim.v == 0)
		ferry_control_done(request, -EINVAL, "a key is a number like 0xfe00000100000005");
	else if (!pool_find(cluster, request->pool))
		none_such(request, "pool", request->pool);
	else
		warden_ask(cluster, &job);
}

/* Of whom is known what it would be asked of; else it is answered. */
static void fence_ask(struct ferry_control *control, struct ferry_control_request *request,
		      enum warden_kind kind)
{
	struct ferry_cluster *cluster = cluster_of(control);
	const struct warden_job job = {
		.kind = kind, .request = request, .node = node_find(cluster, request->node)};

	if (job.node.v == 0)
		none_such_node(request);
	else if (request->pool[0] && !pool_find(cluster, request->pool))
		none_such(request, "pool", request->pool);
	else if (!cluster->group)
		ferry_control_done(request, -EOPNOTSUPP, "this agent stands alone");
	else if (kind == WARDEN_FENCE && job.node.v == cluster->self.v)
		ferry_control_done(request, -EPERM, "a node does not fence itself");
	else
		warden_ask(cluster, &job);
}

static void fence(struct ferry_control *control, struct ferry_control_request *request)
{
	fence_ask(control, request, WARDEN_FENCE);
}

static void get_fence(struct ferry_control *control, struct ferry_control_request *request)
{
	fence_ask(control, request, WARDEN_GET_FENCE);
}

/* ---- Faults of our own making. ---- */

static void faults_answer(struct ferry_cluster *cluster, struct ferry_control_request *request)
{
	const struct cluster_pool *pool = pool_of_volume(cluster, request->volume);
	const struct ferry_fault_stats *from;
	const uint64_t *injected;

	ferry_assert(pool); /* It was there when it was asked. */
	from = &cluster->snapshot->pools[pool->index].faults;
	injected = from->injected;
	request->answer.faults = (struct ferry_control_faults){
		.errors = injected[FERRY_FAULT_ERROR],
		.delays = injected[FERRY_FAULT_DELAY],
		.lost_requests = injected[FERRY_FAULT_HOLE_REQUEST],
		.lost_answers = injected[FERRY_FAULT_HOLE_REPLY],
		.ghosts = injected[FERRY_FAULT_GHOST],
		.ghosts_landed = from->ghosts_landed,
		.ghosts_refused = from->ghosts_refused,
		.ghosts_dropped = from->ghosts_dropped,
	};
	ferry_control_done(request, 0, NULL);
}

static void plan_arm(struct cluster_pool *pool, const struct ferry_fault_plan *plan)
{
	struct ferry_cluster *cluster = pool->cluster;
	const struct ferry_mail mail = {
		.kind = FERRY_MAIL_FAULT, .pool = pool->index, .plan = *plan};

	pool->torture_until_ns = plan->seconds == 0 ? 0
						    : ferry_loop_now_ns(cluster->loop) +
							      plan->seconds * FERRY_NS_PER_S;
	if (!cluster->data_was_told)
		ferry_mail_to_data(&cluster->mailbox, &mail);
}

/* A run begins, which overwrites the volume: nobody may use it, nor another run have begun. */
static void run_answer(struct ferry_cluster *cluster, struct ferry_control_request *request)
{
	struct cluster_pool *pool = pool_of_volume(cluster, request->volume);
	const struct ferry_snapshot_pool *data;
	struct ferry_fault_plan plan;
	char why[FERRY_CONTROL_TEXT_BYTES];

	ferry_assert(pool); /* It was there when it was asked. */
	data = &cluster->snapshot->pools[pool->index];
	if (data->clients + data->opens > 0) {
		(void)snprintf(
			why, sizeof(why),
			"it is in use, and this would overwrite it: its file is open %u times "
			"(a device? `ferry detach`), %u NBD clients (another run?)",
			data->opens, data->clients);
		ferry_control_done(request, -EPERM, why);
	} else if (is_tortured(pool)) {
		ferry_control_done(request, -EPERM, "another run has just begun on it");
	} else if (ferry_fault_plan_parse(request->faults, &plan) < 0) {
		ferry_control_done(request, -EINVAL, "that is no plan for faults");
	} else {
		plan_arm(pool, &plan);
		faults_answer(cluster, request);
	}
}

static void arm_faults(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_cluster *cluster = cluster_of(control);
	struct cluster_pool *pool = pool_of_volume(cluster, request->volume);
	struct ferry_fault_plan plan;

	if (!pool) {
		none_such(request, "volume", request->volume);
	} else if (!pool->config->is_scratch) {
		ferry_control_done(request, -EPERM,
				   "its pool is not marked scratch: faults are only for volumes "
				   "whose data are worth nothing (scratch = yes in its [pool])");
	} else if (ferry_fault_plan_parse(request->faults, &plan) < 0) {
		ferry_control_done(request, -EINVAL, "that is no plan for faults");
	} else if (plan.seconds > 0 && plan.error + plan.delay + plan.hole + plan.ghost == 0) {
		control_snapshot_want(cluster, request, run_answer);
	} else {
		plan_arm(pool, &plan);
		control_snapshot_want(cluster, request, faults_answer);
	}
}

/* A wish ends with its asker; all else goes on, and is answered to nobody. */
static void cancelled(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_cluster *cluster = cluster_of(control);

	for (uint32_t i = 0; i < cluster->pools_count; i++)
		cluster_pool_cancelled(&cluster->pools[i], request);
}

const struct ferry_control_ops control_ops = {
	.get_status = control_get_status,
	.list_volumes = control_list_volumes,
	.list_paths = control_list_paths,
	.list_peers = control_list_peers,
	.list_luns = control_list_luns,
	.attach = attach,
	.detach = detach,
	.acquire = acquire,
	.release = release,
	.move = move,
	.force = force,
	.clear = clear,
	.list_keys = list_keys,
	.clean_key = clean_key,
	.fence = fence,
	.get_fence = get_fence,
	.arm_faults = arm_faults,
	.cancelled = cancelled,
};
