/*
 * control_lists.c - what `ferry status`, `volumes`, `paths`, `peers` and `luns` show, filled from
 * the cluster thread's state and a data snapshot.
 */
#include <stdio.h>

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
	if (!cluster->group && !pool->is_shown)
		return FERRY_CONTROL_POOL_STANDBY; /* Not yet, or released. */
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
		       "looked (ferry clear)";
	if (cluster->group && pool->is_open && pool->ownership.is_synced &&
	    !ferry_ownership_lun_is_agreed(&pool->ownership))
		return "other members see another lun under this pool's name: compare their "
		       "configurations";
	if (cluster->group && pool->is_open && pool->ownership.is_fenced)
		return "this node is fenced from the pool until its agent is started anew";
	if (cluster->group && pool->is_open && pool->ownership.was_owner)
		return "this node's last agent had it: it is served again once a majority agrees";
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
	status->nodes_expected = cluster->group ? cluster->group->nodes.count : 1;
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

void control_get_status(struct ferry_control *control, struct ferry_control_request *request)
{
	control_snapshot_want(cluster_of(control), request, status_answer);
}

/* ---- Volumes. ---- */

void control_device_of(const struct ferry_cluster *cluster, const char *volume, char *ret,
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

void control_uri_of(const struct ferry_cluster *cluster, const char *volume, char *ret,
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
		row->state = state_of(pool, data);
		if (row->state == FERRY_CONTROL_POOL_SERVING && !data->is_shown)
			row->state = FERRY_CONTROL_POOL_STANDBY;
		row->is_serving = row->state == FERRY_CONTROL_POOL_SERVING;
		COPY(row->reason, row->is_serving ? ""
				  : row->state == FERRY_CONTROL_POOL_HOLDING
					  ? "I/O waits for a path, or for the quorum"
					  : pool_reason(pool, data));
		if (!data->is_shown)
			continue;
		control_device_of(cluster, pool->volume->name, row->device, sizeof(row->device));
		if (data->device[0])
			COPY(row->device, data->device);
		control_uri_of(cluster, pool->volume->name, row->uri, sizeof(row->uri));
	}
	ferry_control_done(request, 0, NULL);
}

void control_list_volumes(struct ferry_control *control, struct ferry_control_request *request)
{
	control_snapshot_want(cluster_of(control), request, volumes_answer);
}

/* ---- Paths, peers, luns. ---- */

static const char *link_name(const struct ferry_cluster *cluster, struct ferry_node node)
{
	const struct ferry_snapshot *data = cluster->snapshot;

	for (uint32_t i = 0; i < data->peers_count; i++)
		if (data->peers[i].node.v == node.v && data->peers[i].is_rdma)
			return "rdma";
	return "tcp";
}

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
	COPY(ret->transport, !is_local ? link_name(pool->cluster, lane->node)
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

void control_list_paths(struct ferry_control *control, struct ferry_control_request *request)
{
	control_snapshot_want(cluster_of(control), request, paths_answer);
}

/* What @node has told the group of its own path; in doubt nothing. */
static void peer_health(const struct ferry_cluster *cluster, struct ferry_control_peer *ret)
{
	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		const struct ferry_ownership *ownership = &cluster->pools[i].ownership;

		for (uint32_t j = 0; cluster->pools[i].is_open && j < ownership->members.count;
		     j++) {
			const struct ferry_ownership_member *member = &ownership->known[j];

			if (ownership->members.nodes[j].v != ret->node.v ||
			    member->incarnation.v == 0)
				continue;
			if (ret->health == 0)
				ret->health = FERRY_CONTROL_HEALTHY;
			if (member->has_path)
				continue;
			ret->health = FERRY_CONTROL_FORWARDING;
			if (!ret->reason[0])
				(void)snprintf(ret->reason, sizeof(ret->reason),
					       "its own path to pool %.31s does not work",
					       cluster->pools[i].config->name);
		}
	}
}

static uint64_t carried_by(const struct ferry_cluster *cluster, struct ferry_node node)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		const struct ferry_snapshot_pool *data = &cluster->snapshot->pools[i];

		for (uint32_t j = 0; j < data->lanes_count; j++)
			if (data->lanes[j].kind != FERRY_PATH_LOCAL &&
			    data->lanes[j].node.v == node.v)
				sum += data->lanes[j].stats.done;
	}
	return sum;
}

static void link_fill(const struct ferry_snapshot_peer *data, struct ferry_control_peer *ret)
{
	ret->link = data->is_up	     ? FERRY_CONTROL_LINK_UP
		    : ret->is_member ? FERRY_CONTROL_LINK_CONNECTING
				     : FERRY_CONTROL_LINK_DOWN;
	if (data->is_up)
		return;
	if (!ret->is_member)
		COPY(ret->reason, "no agent of that node is in the group");
	else if (data->trouble[0])
		(void)snprintf(ret->reason, sizeof(ret->reason), "a member, but no link: %.160s",
			       data->trouble);
	else
		COPY(ret->reason, "a member, but no link yet");
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
		link_fill(data, row);
		COPY(row->transport, data->is_rdma ? "rdma" : "tcp");
		(void)snprintf(row->not_rdma, sizeof(row->not_rdma), "%.180s", data->not_rdma);
		(void)snprintf(row->address, sizeof(row->address), "%s:%u", peer->address,
			       peer->port);
		row->rdma = data->rdma;
		row->incarnation = data->incarnation;
		row->rtt_ns = data->rtt_ns;
		if (row->is_member)
			peer_health(cluster, row);
		row->carried_for_it = data->carried_for;
		row->carried_by_it = carried_by(cluster, peer->node);
	}
	ferry_control_done(request, 0, NULL);
}

void control_list_peers(struct ferry_control *control, struct ferry_control_request *request)
{
	control_snapshot_want(cluster_of(control), request, peers_answer);
}

const char *control_lun_name(const struct cluster_pool *pool)
{
	return pool->cluster->settings->config.luns[pool->config->luns[0]].name;
}

static const char *class_text(const struct ferry_cluster *cluster,
			      const struct ferry_snapshot_pool *data)
{
	if (!cluster->group)
		return "standalone";
	if (!data->has_reservations)
		return "none";
	if (!data->ability.laying)
		return "unproven";
	return data->ability.keeps_registrations ? "reservations" : "volatile";
}

static const char *laying_text(const struct cluster_pool *pool,
			       const struct ferry_snapshot_pool *data)
{
	static const char *const TEXTS[] = {
		[0] = "",
		[FERRY_LAYING_ABORT] = "preempt and abort",
		[FERRY_LAYING_RESET] = "preempt, lun reset",
		[FERRY_LAYING_REINSTATE] = "preempt, reinstate",
		[FERRY_LAYING_QUIESCE] = "preempt, quiesce time",
	};

	/* Only where the cluster's fence devices are known to cut the power. */
	if (data->is_open && !data->has_reservations && pool->ownership.config.power &&
	    pool->ownership.config.power->cuts_power && pool->ownership.config.quiesce_time_ns > 0)
		return "power fencing, quiesce time";
	ferry_assert(data->ability.laying < FERRY_ARRAY_COUNT(TEXTS));
	return TEXTS[data->ability.laying];
}

static void luns_answer(struct ferry_cluster *cluster, struct ferry_control_request *request)
{
	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		const struct ferry_snapshot_pool *data = &cluster->snapshot->pools[i];
		struct ferry_control_lun *row = &request->answer.luns[request->rows_count++];

		COPY(row->pool, cluster->pools[i].config->name);
		COPY(row->name, control_lun_name(&cluster->pools[i]));
		COPY(row->wwid, data->identity.wwid);
		row->uuid = data->identity.uuid;
		row->size_bytes = data->identity.size_blocks * data->identity.block_bytes;
		row->block_bytes = data->identity.block_bytes;
		row->has_reservations = data->has_reservations;
		COPY(row->lun_class, class_text(cluster, data));
		COPY(row->laying, laying_text(&cluster->pools[i], data));
		row->can_discard = data->identity.can_discard;
		row->is_flush_scope_path = data->flushes_by_path;
		row->is_open = data->is_open;
		COPY(row->reason, data->is_open ? "" : data->lanes[0].detail);
	}
	ferry_control_done(request, 0, NULL);
}

void control_list_luns(struct ferry_control *control, struct ferry_control_request *request)
{
	control_snapshot_want(cluster_of(control), request, luns_answer);
}
