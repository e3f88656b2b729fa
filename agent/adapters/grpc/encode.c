#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/adapters/grpc/internal.h"

/* The texts are repaired in place: the answer is ours, and used once. */
#define TEXT(field) (ferry_grpc_text_repair((field), sizeof(field)), (field))

enum { UUID_TEXT_BYTES = 37 };

#define SAME(theirs, ours) _Static_assert((int)(theirs) == (int)(ours), "numbered alike")
SAME(FERRY__V1__POOL_STATE__POOL_STATE_STANDBY, FERRY_CONTROL_POOL_STANDBY);
SAME(FERRY__V1__POOL_STATE__POOL_STATE_ACQUIRING, FERRY_CONTROL_POOL_ACQUIRING);
SAME(FERRY__V1__POOL_STATE__POOL_STATE_SERVING, FERRY_CONTROL_POOL_SERVING);
SAME(FERRY__V1__POOL_STATE__POOL_STATE_HOLDING, FERRY_CONTROL_POOL_HOLDING);
SAME(FERRY__V1__POOL_STATE__POOL_STATE_HANDOVER, FERRY_CONTROL_POOL_HANDOVER);
SAME(FERRY__V1__POOL_STATE__POOL_STATE_RELEASING, FERRY_CONTROL_POOL_RELEASING);
SAME(FERRY__V1__POOL_STATE__POOL_STATE_FENCED, FERRY_CONTROL_POOL_FENCED);
SAME(FERRY__V1__POOL_STATE__POOL_STATE_FAILED, FERRY_CONTROL_POOL_FAILED);
SAME(FERRY__V1__HEALTH__HEALTH_HEALTHY, FERRY_CONTROL_HEALTHY);
SAME(FERRY__V1__HEALTH__HEALTH_SUSPECT, FERRY_CONTROL_SUSPECT);
SAME(FERRY__V1__HEALTH__HEALTH_FORWARDING, FERRY_CONTROL_FORWARDING);
SAME(FERRY__V1__HEALTH__HEALTH_CONVICTED, FERRY_CONTROL_CONVICTED);
SAME(FERRY__V1__HEALTH__HEALTH_PROBATION, FERRY_CONTROL_PROBATION);
SAME(FERRY__V1__LINK_STATE__LINK_STATE_DOWN, FERRY_CONTROL_LINK_DOWN);
SAME(FERRY__V1__LINK_STATE__LINK_STATE_CONNECTING, FERRY_CONTROL_LINK_CONNECTING);
SAME(FERRY__V1__LINK_STATE__LINK_STATE_UP, FERRY_CONTROL_LINK_UP);
SAME(FERRY__V1__KEY_STATE__KEY_STATE_OWN, FERRY_CONTROL_KEY_OWN);
SAME(FERRY__V1__KEY_STATE__KEY_STATE_MEMBER, FERRY_CONTROL_KEY_MEMBER);
SAME(FERRY__V1__KEY_STATE__KEY_STATE_OLDER, FERRY_CONTROL_KEY_OLDER);
SAME(FERRY__V1__KEY_STATE__KEY_STATE_ABSENT, FERRY_CONTROL_KEY_ABSENT);
SAME(FERRY__V1__KEY_STATE__KEY_STATE_FOREIGN, FERRY_CONTROL_KEY_FOREIGN);
SAME(FERRY__V1__KEY_STATE__KEY_STATE_UNKNOWN, FERRY_CONTROL_KEY_UNKNOWN);

static void uuid_print(const struct ferry_uuid *uuid, char text[UUID_TEXT_BYTES])
{
	size_t length = 0;

	text[0] = '\0';
	if (ferry_uuid_is_none(uuid))
		return;
	for (size_t i = 0; i < sizeof(uuid->bytes); i++) {
		bool is_dashed = i == 4 || i == 6 || i == 8 || i == 10;

		length += (size_t)snprintf(text + length, UUID_TEXT_BYTES - length,
					   is_dashed ? "-%02x" : "%02x", uuid->bytes[i]);
	}
	ferry_assert(length == UUID_TEXT_BYTES - 1);
}

static void cache_fill(Ferry__V1__Cache *to, struct ferry_control_cache *from)
{
	*to = (Ferry__V1__Cache)FERRY__V1__CACHE__INIT;
	to->enabled = from->is_enabled;
	to->reason = TEXT(from->reason);
	to->capacity_bytes = from->capacity_bytes;
	to->used_bytes = from->used_bytes;
	to->hits = from->hits;
	to->misses = from->misses;
	to->warm_blocks = from->warm_blocks;
}

static void pool_fill(Ferry__V1__Pool *to, Ferry__V1__Cache *cache, char *lineage,
		      struct ferry_control_pool *from)
{
	*to = (Ferry__V1__Pool)FERRY__V1__POOL__INIT;
	to->name = TEXT(from->name);
	to->state = (Ferry__V1__PoolState)from->state;
	to->reason = TEXT(from->reason);
	to->owner = from->owner.v;
	to->epoch = from->epoch.v;
	uuid_print(&from->lineage, lineage);
	to->lineage = lineage;
	to->health = (Ferry__V1__Health)from->health;
	to->health_reason = TEXT(from->health_reason);
	to->ios = from->ios;
	to->detours = from->detours;
	to->failures = from->failures;
	to->ghosts_alive = from->ghosts_alive;
	to->ghosts_laid = from->ghosts_laid;
	cache_fill(cache, &from->cache);
	to->cache = cache;
}

static void encode_status(struct ferry_grpc_call *call, struct ferry_control_status *from)
{
	Ferry__V1__Status to = FERRY__V1__STATUS__INIT;
	Ferry__V1__Pool pools[FERRY_CONTROL_POOLS_MAX];
	Ferry__V1__Pool *pointers[FERRY_CONTROL_POOLS_MAX];
	Ferry__V1__Cache caches[FERRY_CONTROL_POOLS_MAX];
	char lineages[FERRY_CONTROL_POOLS_MAX][UUID_TEXT_BYTES];
	uint32_t members[FERRY_NODES_MAX];

	ferry_assert(from->pools_count <= FERRY_CONTROL_POOLS_MAX);
	ferry_assert(from->members.count <= FERRY_NODES_MAX);
	to.node = from->node.v;
	to.node_name = TEXT(from->node_name);
	to.incarnation = from->incarnation.v;
	to.version = call->server->version;
	to.cluster = TEXT(from->cluster);
	to.quorate = from->is_quorate;
	to.nodes_expected = from->nodes_expected;
	for (uint32_t i = 0; i < from->members.count; i++)
		members[i] = from->members.nodes[i].v;
	to.n_members = from->members.count;
	to.members = members;
	to.uptime_seconds = from->uptime_seconds;
	to.memory_locked = from->is_memory_locked;
	to.io_flusher = from->is_io_flusher;
	to.reason = TEXT(from->reason);
	for (uint32_t i = 0; i < from->pools_count; i++) {
		pool_fill(&pools[i], &caches[i], lineages[i], &from->pools[i]);
		pointers[i] = &pools[i];
	}
	to.n_pools = from->pools_count;
	to.pools = pointers;
	ferry_grpc_call_send(call, &to.base);
}

static void encode_volumes(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	Ferry__V1__VolumeList list = FERRY__V1__VOLUME_LIST__INIT;
	Ferry__V1__Volume rows[FERRY_CONTROL_ROWS_MAX];
	Ferry__V1__Volume *pointers[FERRY_CONTROL_ROWS_MAX];

	for (uint32_t i = 0; i < request->rows_count; i++) {
		struct ferry_control_volume *from = &request->answer.volumes[i];
		Ferry__V1__Volume *to = pointers[i] = &rows[i];

		*to = (Ferry__V1__Volume)FERRY__V1__VOLUME__INIT;
		to->name = TEXT(from->name);
		to->pool = TEXT(from->pool);
		to->size_bytes = from->size_bytes;
		to->block_bytes = from->block_bytes;
		to->serving = from->is_serving;
		to->reason = TEXT(from->reason);
		to->device = TEXT(from->device);
		to->uri = TEXT(from->uri);
		to->clients = from->clients;
		to->scratch = from->is_scratch;
		to->state = (Ferry__V1__PoolState)from->state;
	}
	list.n_volumes = request->rows_count;
	list.volumes = pointers;
	ferry_grpc_call_send(call, &list.base);
}

static void encode_paths(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	Ferry__V1__PathList list = FERRY__V1__PATH_LIST__INIT;
	Ferry__V1__Path rows[FERRY_CONTROL_ROWS_MAX];
	Ferry__V1__Path *pointers[FERRY_CONTROL_ROWS_MAX];

	for (uint32_t i = 0; i < request->rows_count; i++) {
		struct ferry_control_path *from = &request->answer.paths[i];
		Ferry__V1__Path *to = pointers[i] = &rows[i];

		*to = (Ferry__V1__Path)FERRY__V1__PATH__INIT;
		to->pool = TEXT(from->pool);
		to->lun = TEXT(from->lun);
		to->kind = from->is_peer ? FERRY__V1__PATH_KIND__PATH_KIND_PEER
					 : FERRY__V1__PATH_KIND__PATH_KIND_LOCAL;
		to->node = from->node.v;
		to->transport = TEXT(from->transport);
		to->target = TEXT(from->target);
		to->up = from->is_up;
		to->health = (Ferry__V1__Health)from->health;
		to->reason = TEXT(from->reason);
		to->ios = from->ios;
		to->failures = from->failures;
		to->unknown = from->unknown;
		to->in_flight = from->in_flight;
		to->ghosts_alive = from->ghosts_alive;
		to->ghosts_laid = from->ghosts_laid;
		to->latency_ns = from->latency_ns;
	}
	list.n_paths = request->rows_count;
	list.paths = pointers;
	ferry_grpc_call_send(call, &list.base);
}

static Ferry__V1__PeerRdma rdma_of(const struct ferry_control_rdma *from)
{
	Ferry__V1__PeerRdma to = FERRY__V1__PEER_RDMA__INIT;

	to.messages_sent = from->messages_sent;
	to.pings_sent = from->pings_sent;
	to.pings_received = from->pings_received;
	to.credit_frames_sent = from->credit_frames_sent;
	to.reads = from->reads;
	to.writes = from->writes;
	to.windows_opened = from->windows_opened;
	to.bytes_moved = from->bytes_moved;
	to.bytes_copied = from->bytes_copied;
	to.completions = from->completions;
	to.posts = from->posts;
	to.polls = from->polls;
	to.wakeups = from->wakeups;
	return to;
}

static void encode_peers(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	Ferry__V1__PeerList list = FERRY__V1__PEER_LIST__INIT;
	Ferry__V1__Peer rows[FERRY_CONTROL_ROWS_MAX];
	Ferry__V1__Peer *pointers[FERRY_CONTROL_ROWS_MAX];
	Ferry__V1__PeerRdma rdma[FERRY_CONTROL_ROWS_MAX];

	for (uint32_t i = 0; i < request->rows_count; i++) {
		struct ferry_control_peer *from = &request->answer.peers[i];
		Ferry__V1__Peer *to = pointers[i] = &rows[i];

		*to = (Ferry__V1__Peer)FERRY__V1__PEER__INIT;
		to->node = from->node.v;
		to->name = TEXT(from->name);
		to->member = from->is_member;
		to->link = (Ferry__V1__LinkState)from->link;
		to->reason = TEXT(from->reason);
		to->transport = TEXT(from->transport);
		to->address = TEXT(from->address);
		to->not_rdma = TEXT(from->not_rdma);
		rdma[i] = rdma_of(&from->rdma);
		to->rdma = &rdma[i];
		to->incarnation = from->incarnation.v;
		to->rtt_ns = from->rtt_ns;
		to->health = (Ferry__V1__Health)from->health;
		to->carried_for_it = from->carried_for_it;
		to->carried_by_it = from->carried_by_it;
	}
	list.n_peers = request->rows_count;
	list.peers = pointers;
	ferry_grpc_call_send(call, &list.base);
}

static void encode_luns(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	Ferry__V1__LunList list = FERRY__V1__LUN_LIST__INIT;
	Ferry__V1__Lun rows[FERRY_CONTROL_ROWS_MAX];
	Ferry__V1__Lun *pointers[FERRY_CONTROL_ROWS_MAX];
	char uuids[FERRY_CONTROL_ROWS_MAX][UUID_TEXT_BYTES];
	char scope_lun[] = "lun", scope_path[] = "path";

	for (uint32_t i = 0; i < request->rows_count; i++) {
		struct ferry_control_lun *from = &request->answer.luns[i];
		Ferry__V1__Lun *to = pointers[i] = &rows[i];

		*to = (Ferry__V1__Lun)FERRY__V1__LUN__INIT;
		to->pool = TEXT(from->pool);
		to->name = TEXT(from->name);
		to->wwid = TEXT(from->wwid);
		uuid_print(&from->uuid, uuids[i]);
		to->uuid = uuids[i];
		to->size_bytes = from->size_bytes;
		to->block_bytes = from->block_bytes;
		to->flush_scope = from->is_flush_scope_path ? scope_path : scope_lun;
		to->reservations = from->has_reservations;
		to->lun_class = TEXT(from->lun_class);
		to->laying = TEXT(from->laying);
		to->discard = from->can_discard;
		to->open = from->is_open;
		to->reason = TEXT(from->reason);
	}
	list.n_luns = request->rows_count;
	list.luns = pointers;
	ferry_grpc_call_send(call, &list.base);
}

static void encode_attach(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	Ferry__V1__AttachVolumeReply reply = FERRY__V1__ATTACH_VOLUME_REPLY__INIT;

	reply.device = TEXT(request->answer.attach.device);
	reply.uri = TEXT(request->answer.attach.uri);
	reply.front_end = TEXT(request->answer.attach.front_end);
	reply.reason = TEXT(request->answer.attach.reason);
	reply.label = TEXT(request->answer.attach.label);
	reply.hold_s = request->answer.attach.hold_s;
	ferry_grpc_call_send(call, &reply.base);
}

static void encode_detach(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	Ferry__V1__DetachVolumeReply reply = FERRY__V1__DETACH_VOLUME_REPLY__INIT;

	reply.device = TEXT(request->answer.attach.device);
	reply.uri = TEXT(request->answer.attach.uri);
	ferry_grpc_call_send(call, &reply.base);
}

static void encode_acquire(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	Ferry__V1__AcquirePoolReply reply = FERRY__V1__ACQUIRE_POOL_REPLY__INIT;

	reply.epoch = request->answer.owner.epoch.v;
	ferry_grpc_call_send(call, &reply.base);
}

static void encode_move(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	Ferry__V1__MovePoolReply reply = FERRY__V1__MOVE_POOL_REPLY__INIT;

	reply.epoch = request->answer.owner.epoch.v;
	reply.was_there = request->answer.owner.was_there;
	ferry_grpc_call_send(call, &reply.base);
}

/* All luns' registrations together, in rows of memory for the longest answer there is. */
enum { KEY_ROWS_MAX = FERRY_CONTROL_POOLS_MAX * FERRY_KEYS_MAX, KEY_TEXT_BYTES = 19 };

struct key_rows {
	Ferry__V1__Key keys[KEY_ROWS_MAX];
	Ferry__V1__Key *pointers[KEY_ROWS_MAX];
	char texts[KEY_ROWS_MAX][KEY_TEXT_BYTES];
	uint32_t count;
};

static void key_fill(Ferry__V1__Key *to, char text[KEY_TEXT_BYTES], struct ferry_control_key *from)
{
	*to = (Ferry__V1__Key)FERRY__V1__KEY__INIT;
	(void)snprintf(text, KEY_TEXT_BYTES, "0x%016" PRIx64, from->key.v);
	to->key = text;
	to->node = from->node.v;
	to->node_name = TEXT(from->node_name);
	to->incarnation = from->incarnation.v;
	to->state = (Ferry__V1__KeyState)from->state;
	to->holder = from->is_holder;
	to->stale = from->is_stale;
}

static int encode_keys(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	Ferry__V1__KeyList list = FERRY__V1__KEY_LIST__INIT;
	Ferry__V1__LunKeys luns[FERRY_CONTROL_POOLS_MAX];
	Ferry__V1__LunKeys *pointers[FERRY_CONTROL_POOLS_MAX];
	struct key_rows *rows;

	ferry_assert(request->rows_count <= FERRY_CONTROL_POOLS_MAX);
	rows = calloc(1, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	for (uint32_t i = 0; i < request->rows_count; i++) {
		struct ferry_control_lun_keys *from = &request->answer.keys[i];
		Ferry__V1__LunKeys *to = pointers[i] = &luns[i];

		ferry_assert(from->keys_count <= FERRY_KEYS_MAX);
		*to = (Ferry__V1__LunKeys)FERRY__V1__LUN_KEYS__INIT;
		to->pool = TEXT(from->pool);
		to->name = TEXT(from->name);
		to->wwid = TEXT(from->wwid);
		to->readable = from->is_readable;
		to->reason = TEXT(from->reason);
		to->generation = from->generation;
		to->n_keys = from->keys_count;
		to->keys = &rows->pointers[rows->count];
		for (uint32_t j = 0; j < from->keys_count; j++) {
			uint32_t row = rows->count++;

			rows->pointers[row] = &rows->keys[row];
			key_fill(&rows->keys[row], rows->texts[row], &from->keys[j]);
		}
	}
	list.n_luns = request->rows_count;
	list.luns = pointers;
	ferry_grpc_call_send(call, &list.base);
	free(rows);
	return 0;
}

static void encode_fence(struct ferry_grpc_call *call, struct ferry_control_fence *from)
{
	Ferry__V1__FenceReport report = FERRY__V1__FENCE_REPORT__INIT;
	Ferry__V1__FencedPool pools[FERRY_CONTROL_POOLS_MAX];
	Ferry__V1__FencedPool *pointers[FERRY_CONTROL_POOLS_MAX];

	ferry_assert(from->pools_count <= FERRY_CONTROL_POOLS_MAX);
	report.node = from->node.v;
	report.node_name = TEXT(from->node_name);
	report.fenced = from->pools_count > 0; /* Of nothing there is nothing to verify. */
	for (uint32_t i = 0; i < from->pools_count; i++) {
		struct ferry_control_fenced *pool = &from->pools[i];
		Ferry__V1__FencedPool *to = pointers[i] = &pools[i];

		*to = (Ferry__V1__FencedPool)FERRY__V1__FENCED_POOL__INIT;
		to->pool = TEXT(pool->pool);
		to->fenced = pool->is_fenced;
		to->reason = TEXT(pool->reason);
		to->owner = pool->owner.v;
		to->epoch = pool->epoch.v;
		to->known = pool->is_known;
		to->out = pool->is_out;
		report.fenced = report.fenced && pool->is_fenced;
	}
	report.n_pools = from->pools_count;
	report.pools = pointers;
	ferry_grpc_call_send(call, &report.base);
}

static void encode_faults(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	const struct ferry_control_faults *from = &request->answer.faults;
	Ferry__V1__Faults faults = FERRY__V1__FAULTS__INIT;

	faults.errors = from->errors;
	faults.delays = from->delays;
	faults.lost_requests = from->lost_requests;
	faults.lost_answers = from->lost_answers;
	faults.ghosts = from->ghosts;
	faults.ghosts_landed = from->ghosts_landed;
	faults.ghosts_refused = from->ghosts_refused;
	faults.ghosts_dropped = from->ghosts_dropped;
	ferry_grpc_call_send(call, &faults.base);
}

int ferry_grpc_encode(struct ferry_grpc_call *call, struct ferry_control_request *request)
{
	const ProtobufCMessageDescriptor *input = call->method->input;
	Ferry__V1__ReleasePoolReply empty = FERRY__V1__RELEASE_POOL_REPLY__INIT;

	ferry_assert(request->rows_count <= FERRY_CONTROL_ROWS_MAX);
	if (input == &ferry__v1__get_status_request__descriptor)
		encode_status(call, &request->answer.status);
	else if (input == &ferry__v1__list_volumes_request__descriptor)
		encode_volumes(call, request);
	else if (input == &ferry__v1__list_paths_request__descriptor)
		encode_paths(call, request);
	else if (input == &ferry__v1__list_peers_request__descriptor)
		encode_peers(call, request);
	else if (input == &ferry__v1__list_luns_request__descriptor)
		encode_luns(call, request);
	else if (input == &ferry__v1__attach_volume_request__descriptor)
		encode_attach(call, request);
	else if (input == &ferry__v1__detach_volume_request__descriptor)
		encode_detach(call, request);
	else if (input == &ferry__v1__acquire_pool_request__descriptor ||
		 input == &ferry__v1__force_pool_request__descriptor)
		encode_acquire(call, request);
	else if (input == &ferry__v1__move_pool_request__descriptor)
		encode_move(call, request);
	else if (input == &ferry__v1__list_keys_request__descriptor)
		return encode_keys(call, request);
	else if (input == &ferry__v1__fence_request__descriptor ||
		 input == &ferry__v1__get_fence_request__descriptor)
		encode_fence(call, &request->answer.fence);
	else if (input == &ferry__v1__arm_faults_request__descriptor)
		encode_faults(call, request);
	else
		ferry_grpc_call_send(call, &empty.base);
	return 0;
}
