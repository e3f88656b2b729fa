/*
 * control.h - the control port: what an administrator may ask of the agent, and the answers.
 *
 * Plain structs; proto/ferry.proto says what each means to the outside, field by field. Every
 * request is answered once, at once or later: a change of owner or a look into a data thread's
 * counters takes its time. Texts are NUL-terminated; the adapter makes them valid UTF-8.
 *
 * Owns:    nothing; shapes only. A request and its answer's rows belong to the adapter until
 *          ferry_control_done(), and may not be touched after it.
 * Callers: adapters/grpc asks; agent/main and the test agent answer.
 * Thread:  the cluster loop.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/ports/fence.h"
#include "agent/ports/group.h"

enum {
	FERRY_CONTROL_NAME_BYTES = 64, /* With the NUL. */
	FERRY_CONTROL_TEXT_BYTES = 192,
	FERRY_CONTROL_POOLS_MAX = 64,
	FERRY_CONTROL_ROWS_MAX = 256, /* Volumes, paths, peers, luns: more are not listed. */
};

enum ferry_control_pool_state {
	FERRY_CONTROL_POOL_STANDBY = 1,
	FERRY_CONTROL_POOL_ACQUIRING,
	FERRY_CONTROL_POOL_SERVING,
	FERRY_CONTROL_POOL_HOLDING,
	FERRY_CONTROL_POOL_HANDOVER,
	FERRY_CONTROL_POOL_RELEASING,
	FERRY_CONTROL_POOL_FENCED,
	FERRY_CONTROL_POOL_FAILED,
};

enum ferry_control_health {
	FERRY_CONTROL_HEALTHY = 1,
	FERRY_CONTROL_SUSPECT,
	FERRY_CONTROL_FORWARDING,
	FERRY_CONTROL_CONVICTED,
	FERRY_CONTROL_PROBATION,
};

struct ferry_control_cache {
	bool is_enabled;
	char reason[FERRY_CONTROL_TEXT_BYTES];
	uint64_t capacity_bytes;
	uint64_t used_bytes;
	uint64_t hits;
	uint64_t misses;
	uint64_t warm_blocks;
};

struct ferry_control_pool {
	char name[FERRY_CONTROL_NAME_BYTES];
	enum ferry_control_pool_state state;
	char reason[FERRY_CONTROL_TEXT_BYTES];
	struct ferry_node owner;
	struct ferry_epoch epoch;
	struct ferry_uuid lineage;
	enum ferry_control_health health;
	char health_reason[FERRY_CONTROL_TEXT_BYTES];
	uint64_t ios;
	uint64_t detours;
	uint64_t failures;
	uint32_t ghosts_alive;
	uint64_t ghosts_laid;
	struct ferry_control_cache cache;
};

struct ferry_control_status {
	struct ferry_node node;
	char node_name[FERRY_CONTROL_NAME_BYTES];
	struct ferry_incarnation incarnation;
	char cluster[FERRY_CONTROL_NAME_BYTES]; /* Empty: standalone. */
	bool is_quorate;
	uint32_t nodes_expected;
	struct ferry_members members;
	uint64_t uptime_seconds;
	bool is_memory_locked;
	bool is_io_flusher;
	char reason[FERRY_CONTROL_TEXT_BYTES];
	uint32_t pools_count;
	struct ferry_control_pool pools[FERRY_CONTROL_POOLS_MAX];
};

struct ferry_control_volume {
	char name[FERRY_CONTROL_NAME_BYTES];
	char pool[FERRY_CONTROL_NAME_BYTES];
	uint64_t size_bytes;
	uint32_t block_bytes;
	bool is_serving;
	enum ferry_control_pool_state state; /* Its pool's, here; SERVING only once it is shown. */
	char reason[FERRY_CONTROL_TEXT_BYTES];
	char device[FERRY_CONTROL_TEXT_BYTES];
	char uri[FERRY_CONTROL_TEXT_BYTES];
	uint32_t clients;
	bool is_scratch;
};

struct ferry_control_path {
	char pool[FERRY_CONTROL_NAME_BYTES];
	char lun[FERRY_CONTROL_TEXT_BYTES];
	bool is_peer;
	struct ferry_node node;
	char transport[FERRY_CONTROL_NAME_BYTES];
	char target[FERRY_CONTROL_TEXT_BYTES];
	bool is_up;
	enum ferry_control_health health;
	char reason[FERRY_CONTROL_TEXT_BYTES];
	uint64_t ios;
	uint64_t failures;
	uint64_t unknown;
	uint32_t in_flight;
	uint32_t ghosts_alive;
	uint64_t ghosts_laid;
	uint64_t latency_ns;
};

enum ferry_control_link {
	FERRY_CONTROL_LINK_DOWN = 1,
	FERRY_CONTROL_LINK_CONNECTING,
	FERRY_CONTROL_LINK_UP,
};

/* What RDMA took, of both links with a peer, since the agent's start. */
struct ferry_control_rdma {
	uint64_t messages_sent; /* Without the next. */
	uint64_t pings_sent, pings_received;
	uint64_t credit_frames_sent;
	uint64_t reads, writes;	 /* By this node, of the peer's memory. */
	uint64_t windows_opened; /* On this node's memory, for the peer. */
	uint64_t bytes_moved;	 /* By these reads and writes. */
	uint64_t bytes_copied;	 /* Data of up to 4 KiB that came with messages. */
	uint64_t completions, posts;
	uint64_t polls, wakeups; /* The device's: for all peers. */
};

struct ferry_control_peer {
	struct ferry_node node;
	char name[FERRY_CONTROL_NAME_BYTES];
	bool is_member;
	enum ferry_control_link link;
	char reason[FERRY_CONTROL_TEXT_BYTES];
	char transport[FERRY_CONTROL_NAME_BYTES];
	char not_rdma[FERRY_CONTROL_TEXT_BYTES]; /* Why, or empty: it carries. */
	struct ferry_control_rdma rdma;
	char address[FERRY_CONTROL_TEXT_BYTES];
	struct ferry_incarnation incarnation;
	uint64_t rtt_ns;
	enum ferry_control_health health;
	uint64_t carried_for_it;
	uint64_t carried_by_it;
};

struct ferry_control_lun {
	char pool[FERRY_CONTROL_NAME_BYTES];
	char name[FERRY_CONTROL_NAME_BYTES]; /* Of its section. */
	char wwid[FERRY_CONTROL_TEXT_BYTES];
	struct ferry_uuid uuid;
	uint64_t size_bytes;
	uint32_t block_bytes;
	bool is_flush_scope_path; /* Else its flush reaches the whole lun. */
	bool has_reservations;
	char lun_class[FERRY_CONTROL_NAME_BYTES]; /* docs/fault-model.md: what each is promised. */
	char laying[FERRY_CONTROL_NAME_BYTES];	  /* Of a ghost; "": only by its own end. */
	bool can_discard;
	bool is_open;
	char reason[FERRY_CONTROL_TEXT_BYTES];
};

enum ferry_control_key_state {
	FERRY_CONTROL_KEY_OWN = 1,
	FERRY_CONTROL_KEY_MEMBER,
	FERRY_CONTROL_KEY_OLDER,
	FERRY_CONTROL_KEY_ABSENT,
	FERRY_CONTROL_KEY_FOREIGN,
	FERRY_CONTROL_KEY_UNKNOWN,
};

struct ferry_control_key {
	struct ferry_key key;
	struct ferry_node node; /* 0: foreign. */
	char node_name[FERRY_CONTROL_NAME_BYTES];
	struct ferry_incarnation incarnation;
	enum ferry_control_key_state state;
	bool is_holder;
	bool is_stale;
};

struct ferry_control_lun_keys {
	char pool[FERRY_CONTROL_NAME_BYTES];
	char name[FERRY_CONTROL_NAME_BYTES]; /* Of the lun's section. */
	char wwid[FERRY_CONTROL_TEXT_BYTES];
	bool is_readable;
	char reason[FERRY_CONTROL_TEXT_BYTES]; /* Why not. */
	uint32_t generation;
	uint32_t keys_count;
	struct ferry_control_key keys[FERRY_KEYS_MAX];
};

/* What is known of one node and one pool; fenced means verified, nothing less. */
struct ferry_control_fenced {
	char pool[FERRY_CONTROL_NAME_BYTES];
	bool is_fenced;
	bool is_known; /* False: it could not be found out. */
	bool is_out;   /* Of the node that is asked: fenced until its agent is started anew. */
	char reason[FERRY_CONTROL_TEXT_BYTES];
	struct ferry_node owner;
	struct ferry_epoch epoch;
};

struct ferry_control_fence {
	struct ferry_node node;
	char node_name[FERRY_CONTROL_NAME_BYTES];
	uint32_t pools_count;
	struct ferry_control_fenced pools[FERRY_CONTROL_POOLS_MAX];
};

/* What the fault layer has made since the agent's start. */
struct ferry_control_faults {
	uint64_t errors;
	uint64_t delays;
	uint64_t lost_requests;
	uint64_t lost_answers;
	uint64_t ghosts;
	uint64_t ghosts_landed;
	uint64_t ghosts_refused;
	uint64_t ghosts_dropped;
};

/* What was asked, and room for the answer: zeroed when the request is handed over. */
struct ferry_control_request {
	/* Arguments: checked UTF-8, never empty where the request has them. */
	char pool[FERRY_CONTROL_NAME_BYTES];   /* acquire, release, move, force, clean_key; fence,
						  get_fence: or empty, which is all */
	char volume[FERRY_CONTROL_NAME_BYTES]; /* attach, detach, arm_faults */
	char node[FERRY_CONTROL_NAME_BYTES];   /* move, fence: name, or number as text */
	char key[FERRY_CONTROL_NAME_BYTES];    /* clean_key: as text */
	char faults[FERRY_CONTROL_NAME_BYTES]; /* arm_faults: the plan as text */
	bool is_foreign;		       /* clean_key: a foreign key is meant */
	bool is_force;			       /* release, move, clear: also while it is in use */
	bool is_take;			       /* acquire: also from an owner that serves */
	bool is_remove;			       /* detach: the device, if it is the agent's own */
	struct ferry_members nodes;	       /* force: whom a person answers for */
	uint64_t deadline_ns;		       /* By the loop's clock: the asker waits no longer. */

	/* The answer. The union's member follows from the request. */
	uint32_t rows_count; /* volumes, paths, peers, luns, keys */
	union {
		struct ferry_control_status status;
		struct ferry_control_volume volumes[FERRY_CONTROL_ROWS_MAX];
		struct ferry_control_path paths[FERRY_CONTROL_ROWS_MAX];
		struct ferry_control_peer peers[FERRY_CONTROL_ROWS_MAX];
		struct ferry_control_lun luns[FERRY_CONTROL_ROWS_MAX];
		struct ferry_control_lun_keys keys[FERRY_CONTROL_POOLS_MAX];
		struct ferry_control_fence fence;
		struct ferry_control_faults faults;
		struct {
			char device[FERRY_CONTROL_TEXT_BYTES];
			char uri[FERRY_CONTROL_TEXT_BYTES];
			char front_end[FERRY_CONTROL_NAME_BYTES]; /* "ublk", "fuse" or none. */
			char reason[FERRY_CONTROL_TEXT_BYTES];	  /* Why no better one. */
			char label[FERRY_CONTROL_NAME_BYTES];	  /* Which lun it is on. */
			uint32_t hold_s; /* A device that waits for an agent: so long. */
		} attach;		 /* And detach: device, uri. */
		struct {
			struct ferry_epoch epoch;
			bool was_there; /* move: nothing was. */
		} owner;		/* acquire, move, force */
	} answer;

	/* The adapter's; see ferry_control_done(). */
	void (*on_done)(struct ferry_control_request *request, int error, const char *message);
	void *context; /* The answerer's. */
};

/*
 * Answer @request; it is gone afterwards. May be called from inside the op.
 * @error is 0, or what the asker is told, with @message (may be NULL) for people:
 * -ENOENT: no such pool, volume or node. -EPERM, -EACCES, -EBUSY, -ESTALE: refused: not the
 * owner, no quorum, in use. -ETIMEDOUT. -EINVAL. -ESHUTDOWN: the agent is stopping. -EAGAIN:
 * something else is going on; ask again. -EOPNOTSUPP. Everything else is a failure.
 */
static inline void ferry_control_done(struct ferry_control_request *request, int error,
				      const char *message)
{
	ferry_assert(request && request->on_done);
	ferry_assert(error <= 0);
	ferry_assert(request->rows_count <= FERRY_CONTROL_ROWS_MAX);
	request->on_done(request, error, message);
}

struct ferry_control {
	const struct ferry_control_ops *ops;
};

/* Each op ends in one ferry_control_done(). A NULL op is answered with -EOPNOTSUPP. */
struct ferry_control_ops {
	void (*get_status)(struct ferry_control *control, struct ferry_control_request *request);
	void (*list_volumes)(struct ferry_control *control, struct ferry_control_request *request);
	void (*list_paths)(struct ferry_control *control, struct ferry_control_request *request);
	void (*list_peers)(struct ferry_control *control, struct ferry_control_request *request);
	void (*list_luns)(struct ferry_control *control, struct ferry_control_request *request);
	void (*attach)(struct ferry_control *control, struct ferry_control_request *request);
	void (*detach)(struct ferry_control *control, struct ferry_control_request *request);
	void (*acquire)(struct ferry_control *control, struct ferry_control_request *request);
	void (*release)(struct ferry_control *control, struct ferry_control_request *request);
	void (*move)(struct ferry_control *control, struct ferry_control_request *request);
	void (*force)(struct ferry_control *control, struct ferry_control_request *request);
	void (*clear)(struct ferry_control *control, struct ferry_control_request *request);
	void (*list_keys)(struct ferry_control *control, struct ferry_control_request *request);
	void (*clean_key)(struct ferry_control *control, struct ferry_control_request *request);
	void (*fence)(struct ferry_control *control, struct ferry_control_request *request);
	void (*get_fence)(struct ferry_control *control, struct ferry_control_request *request);
	void (*arm_faults)(struct ferry_control *control, struct ferry_control_request *request);

	/*
	 * The asker has gone or its time is up. What was begun may go on; the request still wants
	 * its ferry_control_done(), whose answer nobody reads. Optional.
	 */
	void (*cancelled)(struct ferry_control *control, struct ferry_control_request *request);
};
