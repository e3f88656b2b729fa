/* control.c - what `ferry` asks, answered from the cluster thread's state and a data snapshot. */
#include <stdio.h>
#include <stdlib.h>

#include "agent/cluster_internal.h"

static struct ferry_cluster *cluster_of(struct ferry_control *control)
{
	return FERRY_CONTAINER_OF(control, struct ferry_cluster, control);
}

static void copy(char *to, size_t size_bytes, const char *from)
{
	(void)snprintf(to, size_bytes, "%s", from);
}
#define COPY(to, from) copy(to, sizeof(to), from)

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

static void snapshot_want(struct ferry_cluster *cluster, struct ferry_control_request *request,
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

/* ---- From our words to the port's. ---- */

static enum ferry_control_health health_of(enum ferry_lane_state state)
{
	switch (state) {
	case FERRY_LANE_HEALTHY:
		return FERRY_CONTROL_HEALTHY;
	case FERRY_LANE_SUSPECT:
		return FERRY_CONTROL_SUSPECT;
	case FERRY_LANE_FORWARDING:
		return FERRY_CONTROL_FORWARDING;
	case FERRY_LANE_CONVICTED:
		return FERRY_CONTROL_CONVICTED;
	case FERRY_LANE_PROBATION:
		return FERRY_CONTROL_PROBATION;
	default:
		ferry_unreachable("a lane state that does not exist");
	}
}

static enum ferry_control_pool_state state_of(const struct cluster_pool *pool,
					      const struct ferry_snapshot_pool *data)
{
	const struct ferry_cluster *cluster = pool->cluster;

	if (!pool->is_open)
		return FERRY_CONTROL_POOL_FAILED;
	if (pool->is_releasing)
		return FERRY_CONTROL_POOL_RELEASING;
	if (cluster->group && pool->ownership.is_fenced)
		return FERRY_CONTROL_POOL_FENCED;
	if (cluster_pool_is_wished(pool))
		return FERRY_CONTROL_POOL_ACQUIRING;
	if (cluster->group && pool->ownership.phase != FERRY_OWNERSHIP_OWNING)
		return pool->is_shown ? FERRY_CONTROL_POOL_FENCED /* Others have moved on. */
				      : FERRY_CONTROL_POOL_STANDBY;
	if (data->is_holding)
		return FERRY_CONTROL_POOL_HOLDING;
	return FERRY_CONTROL_POOL_SERVING;
}

static void health_reason(const struct ferry_snapshot_lane *lane, char *ret, size_t size_bytes)
{
	if (lane->state == FERRY_LANE_HEALTHY && lane->is_usable)
		ret[0] = '\0';
	else if (!lane->is_up && lane->detail[0])
		(void)snprintf(ret, size_bytes, "%.90s; %.90s", lane->reason, lane->detail);
	else if (lane->is_up && !lane->is_allowed)
		(void)snprintf(ret, size_bytes, "%.90s; not registered at the lun", lane->reason);
	else
		copy(ret, size_bytes, lane->reason);
}

static const char *pool_reason(const struct cluster_pool *pool,
			       const struct ferry_snapshot_pool *data)
{
	const struct ferry_cluster *cluster = pool->cluster;

	if (!pool->is_open && !data->is_open)
		return data->lanes[0].reason;
	if (data->flush_is_suspect)
		return "acknowledged writes may be lost: flushes fail until an administrator has "
		       "looked";
	if (cluster->group && pool->is_open && pool->ownership.is_synced &&
	    !ferry_ownership_lun_is_agreed(&pool->ownership))
		return "other members see another lun under this pool's name: compare their "
		       "configurations";
	if (cluster->group && pool->is_open && pool->ownership.is_fenced)
		return "this node is fenced from the pool until its agent is started anew";
	return pool->reason;
}

static void pool_fill(const struct cluster_pool *pool, const struct ferry_snapshot_pool *data,
		      struct ferry_control_pool *ret)
{
	const struct ferry_cluster *cluster = pool->cluster;
	const struct ferry_snapshot_lane *local = &data->lanes[0];

	COPY(ret->name, pool->config->name);
	ret->state = state_of(pool, data);
	if (ret->state == FERRY_CONTROL_POOL_ACQUIRING)
		cluster_pool_waits_for(pool, ret->reason, sizeof(ret->reason));
	else
		COPY(ret->reason, pool_reason(pool, data));
	ret->owner = cluster->group ? pool->ownership.view.owner : cluster->self;
	ret->epoch = cluster->group ? pool->ownership.view.epoch : (struct ferry_epoch){1};
	ret->lineage = cluster->data_lineages[pool->index];
	ret->health = health_of(local->state);
	health_reason(local, ret->health_reason, sizeof(ret->health_reason));
	ret->ios = data->stats.reads + data->stats.writes + data->stats.flushes +
		   data->cache.stats.hits;
	ret->detours = data->stats.detours;
	ret->failures = data->stats.errors;
	ret->ghosts_alive = data->ghosts_alive;
	ret->ghosts_laid = data->stats.ghosts_laid_abort + data->stats.ghosts_laid_late;
	ret->cache.is_enabled = data->cache.is_enabled;
	COPY(ret->cache.reason, data->cache.reason);
	ret->cache.capacity_bytes = data->cache.capacity_bytes;
	ret->cache.used_bytes = data->cache.used_bytes;
	ret->cache.hits = data->cache.stats.hits;
	ret->cache.misses = data->cache.stats.misses;
	ret->cache.warm_blocks = data->cache.warm_blocks;
}

static void status_answer(struct ferry_cluster *cluster, struct ferry_control_request *request)
{
	struct ferry_control_status *status = &request->answer.status;

	status->node = cluster->self;
	COPY(status->node_name, cluster->node_name);
	status->incarnation = cluster->incarnation;
	COPY(status->cluster, cluster->name);
	status->is_quorate = cluster->group ? cluster->group->is_quorate : true;
	status->nodes_expected = cluster->group ? cluster->group->nodes_expected : 1;
	status->members = cluster->members;
	status->uptime_seconds =
		(ferry_loop_now_ns(cluster->loop) - cluster->started_ns) / FERRY_NS_PER_S;
	status->is_memory_locked = cluster->system.is_memory_locked;
	status->is_io_flusher = cluster->system.is_io_flusher;
	if (!status->is_quorate)
		COPY(status->reason, "no quorum: I/O is held, nothing is served");
	status->pools_count = cluster->pools_count;
	for (uint32_t i = 0; i < cluster->pools_count; i++)
		pool_fill(&cluster->pools[i], &cluster->snapshot->pools[i], &status->pools[i]);
	ferry_control_done(request, 0, NULL);
}

static void get_status(struct ferry_control *control, struct ferry_control_request *request)
{
	snapshot_want(cluster_of(control), request, status_answer);
}

/* ---- Volumes. ---- */

static void device_of(const struct ferry_cluster *cluster, const char *volume, char *ret,
		      size_t size_bytes)
{
	const struct ferry_config *config = &cluster->settings->config;

	if (!config->is_fuse)
		ret[0] = '\0';
	else if (cluster->settings->is_standalone)
		(void)snprintf(ret, size_bytes, "%.190s", config->fuse_mountpoint);
	else
		(void)snprintf(ret, size_bytes, "%.150s/%.31s", config->fuse_mountpoint, volume);
}

static void uri_of(const struct ferry_cluster *cluster, const char *volume, char *ret,
		   size_t size_bytes)
{
	const struct ferry_config *config = &cluster->settings->config;
	const struct ferry_config_listen *listen = &config->nbd_listens[0];

	if (config->nbd_listens_count == 0)
		ret[0] = '\0';
	else if (listen->is_unix)
		(void)snprintf(ret, size_bytes, "nbd+unix:///%s?socket=%s", volume, listen->path);
	else
		(void)snprintf(ret, size_bytes, "nbd://%s:%u/%s", listen->tcp.address,
			       listen->tcp.port, volume);
}

static void volumes_answer(struct ferry_cluster *cluster, struct ferry_control_request *request)
{
	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		const struct cluster_pool *pool = &cluster->pools[i];
		const struct ferry_snapshot_pool *data = &cluster->snapshot->pools[i];
		struct ferry_control_volume *row = &request->answer.volumes[request->rows_count++];

		COPY(row->name, pool->volume->name);
		COPY(row->pool, pool->config->name);
		row->is_scratch = pool->config->is_scratch;
		row->size_bytes = data->identity.size_blocks * data->identity.block_bytes;
		row->block_bytes = data->identity.block_bytes;
		row->clients = data->clients + data->opens;
		row->is_serving =
			data->is_shown && state_of(pool, data) == FERRY_CONTROL_POOL_SERVING;
		COPY(row->reason, row->is_serving ? "" : pool->reason);
		if (!data->is_shown)
			continue;
		device_of(cluster, pool->volume->name, row->device, sizeof(row->device));
		uri_of(cluster, pool->volume->name, row->uri, sizeof(row->uri));
	}
	ferry_control_done(request, 0, NULL);
}

static void list_volumes(struct ferry_control *control, struct ferry_control_request *request)
{
	snapshot_want(cluster_of(control), request, volumes_answer);
}

/* ---- Paths, peers, luns. ---- */

static void lane_fill(const struct cluster_pool *pool, const struct ferry_snapshot_pool *data,
		      const struct ferry_snapshot_lane *lane, struct ferry_control_path *ret)
{
	const struct ferry_config *config = &pool->cluster->settings->config;
	const struct ferry_config_lun *lun = &config->luns[pool->config->luns[0]];
	bool is_local = lane->kind == FERRY_PATH_LOCAL;

	COPY(ret->pool, pool->config->name);
	COPY(ret->lun, data->identity.wwid);
	ret->is_peer = !is_local;
	ret->node = lane->node;
	COPY(ret->transport, !is_local				   ? "tcp"
			     : lun->kind == FERRY_CONFIG_LUN_ISCSI ? "iscsi"
								   : "io_uring");
	if (is_local && lun->kind == FERRY_CONFIG_LUN_ISCSI)
		(void)snprintf(ret->target, sizeof(ret->target), "%.60s:%u/%.110s", lun->host,
			       lun->port, lun->target);
	else if (is_local)
		(void)snprintf(ret->target, sizeof(ret->target), "%.190s", lun->path);
	ret->is_up = lane->is_up;
	ret->health = health_of(lane->state);
	if (!is_local && !lane->is_up)
		COPY(ret->reason, "no link to that node's agent");
	else if (!is_local && !lane->is_usable)
		COPY(ret->reason, "that node's own path does not work, or it is avoided just now");
	else
		health_reason(lane, ret->reason, sizeof(ret->reason));
	ret->ios = lane->stats.done;
	ret->failures = lane->stats.failed;
	ret->unknown = lane->stats.unknown;
	ret->in_flight = lane->flights;
	ret->ghosts_alive = lane->ghosts;
	ret->latency_ns = lane->stats.latency_ns;
}

static void paths_answer(struct ferry_cluster *cluster, struct ferry_control_request *request)
{
	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		const struct ferry_snapshot_pool *data = &cluster->snapshot->pools[i];

		for (uint32_t j = 0; j < data->lanes_count; j++) {
			if (request->rows_count == FERRY_CONTROL_ROWS_MAX)
				break;
			lane_fill(&cluster->pools[i], data, &data->lanes[j],
				  &request->answer.paths[request->rows_count++]);
		}
	}
	ferry_control_done(request, 0, NULL);
}

static void list_paths(struct ferry_control *control, struct ferry_control_request *request)
{
	snapshot_want(cluster_of(control), request, paths_answer);
}

static void peers_answer(struct ferry_cluster *cluster, struct ferry_control_request *request)
{
	for (uint32_t i = 0; i < cluster->peers_count; i++) {
		const struct ferry_snapshot_peer *data = &cluster->snapshot->peers[i];
		const struct ferry_data_peer *peer = &cluster->peers[i];
		struct ferry_control_peer *row = &request->answer.peers[request->rows_count++];
		const char *name = ferry_corosync_node_name(cluster->corosync, peer->node);

		row->node = peer->node;
		COPY(row->name, name ? name : "");
		for (uint32_t j = 0; j < cluster->members.count; j++)
			row->is_member |= cluster->members.nodes[j].v == peer->node.v;
		row->link = data->is_up	     ? FERRY_CONTROL_LINK_UP
			    : row->is_member ? FERRY_CONTROL_LINK_CONNECTING
					     : FERRY_CONTROL_LINK_DOWN;
		COPY(row->reason, data->is_up	   ? ""
				  : row->is_member ? "a member, but no link yet"
						   : "no agent of that node is in the group");
		COPY(row->transport, "tcp");
		(void)snprintf(row->address, sizeof(row->address), "%s:%u", peer->address,
			       peer->port);
		row->incarnation = data->incarnation;
		row->health = data->is_up ? FERRY_CONTROL_HEALTHY : FERRY_CONTROL_SUSPECT;
		row->carried_by_it = data->requests;
	}
	ferry_control_done(request, 0, NULL);
}

static void list_peers(struct ferry_control *control, struct ferry_control_request *request)
{
	snapshot_want(cluster_of(control), request, peers_answer);
}

static const char *class_text(const struct ferry_snapshot_pool *data)
{
	if (!data->has_reservations)
		return "none";
	if (!data->ability.laying)
		return "unproven";
	return data->ability.keeps_registrations ? "reservations" : "volatile";
}

static const char *laying_text(const struct ferry_snapshot_pool *data)
{
	static const char *const TEXTS[] = {
		[0] = "",
		[FERRY_LAYING_ABORT] = "preempt and abort",
		[FERRY_LAYING_RESET] = "preempt, lun reset",
		[FERRY_LAYING_REINSTATE] = "preempt, reinstate",
		[FERRY_LAYING_QUIESCE] = "preempt, quiesce time",
	};

	ferry_assert(data->ability.laying < FERRY_ARRAY_COUNT(TEXTS));
	return TEXTS[data->ability.laying];
}

static void luns_answer(struct ferry_cluster *cluster, struct ferry_control_request *request)
{
	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		const struct ferry_snapshot_pool *data = &cluster->snapshot->pools[i];
		struct ferry_control_lun *row = &request->answer.luns[request->rows_count++];

		COPY(row->pool, cluster->pools[i].config->name);
		COPY(row->wwid, data->identity.wwid);
		row->uuid = data->identity.uuid;
		row->size_bytes = data->identity.size_blocks * data->identity.block_bytes;
		row->block_bytes = data->identity.block_bytes;
		row->has_reservations = data->has_reservations;
		COPY(row->lun_class, class_text(data));
		COPY(row->laying, laying_text(data));
		row->can_discard = data->identity.can_discard;
		row->is_flush_scope_path = data->flushes_by_path;
		row->is_open = data->is_open;
		COPY(row->reason, data->is_open ? "" : data->lanes[0].detail);
	}
	ferry_control_done(request, 0, NULL);
}

static void list_luns(struct ferry_control *control, struct ferry_control_request *request)
{
	snapshot_want(cluster_of(control), request, luns_answer);
}

/* ---- Wishes. ---- */

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

static void attach(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_cluster *cluster = cluster_of(control);

	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		const struct cluster_pool *pool = &cluster->pools[i];

		if (strcmp(pool->volume->name, request->volume) != 0)
			continue;
		if (!pool->is_shown) {
			ferry_control_done(
				request, -EPERM,
				cluster->group	? "this node does not own the pool: `ferry "
						  "acquire` it first, or attach where it is "
						  "owned"
				: pool->is_open ? "the volume is not served: its pool was "
						  "released; start the agent anew"
						: "the volume is not served: its lun has not "
						  "answered yet");
			return;
		}
		if (is_tortured(pool)) {
			ferry_control_done(request, -EPERM,
					   "`ferry torture` overwrites it just now");
			return;
		}
		device_of(cluster, request->volume, request->answer.attach.device,
			  sizeof(request->answer.attach.device));
		uri_of(cluster, request->volume, request->answer.attach.uri,
		       sizeof(request->answer.attach.uri));
		ferry_control_done(request, 0, NULL);
		return;
	}
	ferry_control_done(request, -ENOENT, "no such volume on this node");
}

/* What there is to detach, also where the pool is not owned any more; the asker does it. */
static void detach(struct ferry_control *control, struct ferry_control_request *request)
{
	struct ferry_cluster *cluster = cluster_of(control);

	if (!pool_of_volume(cluster, request->volume)) {
		ferry_control_done(request, -ENOENT, "no such volume on this node");
		return;
	}
	device_of(cluster, request->volume, request->answer.attach.device,
		  sizeof(request->answer.attach.device));
	ferry_control_done(request, 0, NULL);
}

static void acquire(struct ferry_control *control, struct ferry_control_request *request)
{
	struct cluster_pool *pool = pool_find(cluster_of(control), request->pool);

	if (!pool)
		ferry_control_done(request, -ENOENT, "no such pool on this node");
	else
		cluster_pool_acquire(pool, request);
}

static void release(struct ferry_control *control, struct ferry_control_request *request)
{
	struct cluster_pool *pool = pool_find(cluster_of(control), request->pool);

	if (!pool)
		ferry_control_done(request, -ENOENT, "no such pool on this node");
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
		ferry_control_done(request, -ENOENT, "no such pool on this node");
	else if (node.v == 0)
		ferry_control_done(request, -ENOENT, "no such node in corosync's node list");
	else
		cluster_pool_move(pool, node, request);
}

static void force(struct ferry_control *control, struct ferry_control_request *request)
{
	struct cluster_pool *pool = pool_find(cluster_of(control), request->pool);

	if (!pool)
		ferry_control_done(request, -ENOENT, "no such pool on this node");
	else
		cluster_pool_force(pool, request);
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
		ferry_control_done(request, -ENOENT, "no such pool on this node");
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
		ferry_control_done(request, -ENOENT, "no such node in corosync's node list");
	else if (request->pool[0] && !pool_find(cluster, request->pool))
		ferry_control_done(request, -ENOENT, "no such pool on this node");
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
		ferry_control_done(request, -ENOENT, "no such volume on this node");
	} else if (!pool->config->is_scratch) {
		ferry_control_done(request, -EPERM,
				   "its pool is not marked scratch: faults are only for volumes "
				   "whose data are worth nothing (scratch = yes in its [pool])");
	} else if (ferry_fault_plan_parse(request->faults, &plan) < 0) {
		ferry_control_done(request, -EINVAL, "that is no plan for faults");
	} else if (plan.seconds > 0 && plan.error + plan.delay + plan.hole + plan.ghost == 0) {
		snapshot_want(cluster, request, run_answer);
	} else {
		plan_arm(pool, &plan);
		snapshot_want(cluster, request, faults_answer);
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
	.get_status = get_status,
	.list_volumes = list_volumes,
	.list_paths = list_paths,
	.list_peers = list_peers,
	.list_luns = list_luns,
	.attach = attach,
	.detach = detach,
	.acquire = acquire,
	.release = release,
	.move = move,
	.force = force,
	.list_keys = list_keys,
	.clean_key = clean_key,
	.fence = fence,
	.get_fence = get_fence,
	.arm_faults = arm_faults,
	.cancelled = cancelled,
};
