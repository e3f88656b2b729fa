/*
 * cluster_internal.h - what cluster*.c, control*.c and warden.c share.
 *
 * Owns:    see cluster.h.
 * Callers: agent/cluster*.c, agent/control*.c, agent/warden.c only.
 * Thread:  the cluster thread.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/adapters/corosync/corosync.h"
#include "agent/adapters/grpc/grpc.h"
#include "agent/adapters/pacemaker/pacemaker.h"
#include "agent/adapters/pacemaker/stonith.h"
#include "agent/adapters/qb/qb.h"
#include "agent/adapters/statefile/statefile.h"
#include "agent/cluster.h"
#include "agent/core/key.h"
#include "agent/ports/control.h"
#include "fencing/ownership.h"
#include "proto/handshake.h"
#include "proto/wire.h"

enum {
	FERRY_SNAPSHOT_ASKERS_MAX = FERRY_GRPC_REQUESTS_MAX,
	FERRY_WARDEN_JOBS_MAX = FERRY_GRPC_REQUESTS_MAX,
};

struct cluster_pool {
	struct ferry_cluster *cluster;
	uint32_t index;
	const struct ferry_config_pool *config;
	const struct ferry_config_volume *volume;
	struct ferry_ownership ownership;
	bool is_open;			     /* The lun has answered; the ownership is open. */
	char wwid[FERRY_CONTROL_TEXT_BYTES]; /* Once the lun has answered. */
	struct ferry_lun_identity identity;  /* Likewise. */
	struct ferry_epoch tenure;	     /* That it is shown by: see struct ferry_ownership. */
	bool is_shown;
	bool has_path;
	bool is_convicted;
	bool is_fit;				 /* As published. */
	struct ferry_control_request *acquiring; /* Or NULL. */
	struct ferry_control_request *releasing;
	struct ferry_control_request
		*attaching;		      /* Or detaching, by ublk; NULL: its asker has gone. */
	bool is_attaching;		      /* The data thread has not answered. */
	struct ferry_control_request *moving; /* Waits for next_owner's epoch to be in force. */
	struct ferry_node next_owner;
	bool is_releasing;	       /* Also without a request: the agent stops. */
	bool is_withdrawing;	       /* on_wish() is told of nothing new. */
	struct ferry_timer patience;   /* Of a release with I/O that does not end. */
	struct ferry_timer wish_timer; /* Of who waits for the pool: then the wish is withdrawn. */

	/* What an agent has left of the kernel's NBD client; who waits for that. */
	bool is_nbddev_due;
	bool nbddev_goes_on;
	bool nbddev_asked;			   /* Whether it goes on, of whom is asked now: */
	struct ferry_nbddev_asking *nbddev_asking; /* NULL: nobody. */
	uint32_t nbddev_tries;
	struct ferry_timer nbddev_timer;
	struct ferry_mail shown_later, hidden_later; /* kind 0: none. */

	uint64_t
		torture_until_ns; /* `ferry torture` has begun on it, or makes faults, till then. */

	/* Of the warden's job, while the pool has a part in it. */
	bool is_in_job;
	bool was_fenced;    /* The ownership was asked. */
	bool is_fencing;    /* The ownership's answer is owed. */
	int fence_error;    /* That answer... */
	char fence_why[96]; /* ...and its words. */
	int keys_error;
	struct ferry_mail_keys keys; /* As read at the lun. */
	char reason[FERRY_CONTROL_TEXT_BYTES];
};

struct snapshot_asker {
	struct ferry_control_request *request;
	void (*answer)(struct ferry_cluster *cluster, struct ferry_control_request *request);
};

enum warden_kind {
	WARDEN_LIST = 1,  /* Read all luns' registrations. */
	WARDEN_CLEAN,	  /* Remove one. */
	WARDEN_FENCE,	  /* A node, from its pools. */
	WARDEN_GET_FENCE, /* How that is. */
};

struct warden_job {
	enum warden_kind kind;
	struct ferry_control_request *request;
	struct ferry_node node;	 /* The victim. */
	struct ferry_key victim; /* CLEAN. */
	bool is_cleaning;	 /* It was judged, and is being removed. */
};

/* What is asked of the luns' registrations: one job at a time, all its pools at once. */
struct warden {
	struct warden_job jobs[FERRY_WARDEN_JOBS_MAX]; /* The first is under way. */
	uint32_t jobs_count;
	uint32_t pools_left;
	bool is_closed;
};

struct ferry_cluster {
	struct ferry_settings *settings;
	struct ferry_system system;
	struct ferry_qb_loop *qb;
	struct ferry_loop *loop;
	void *mail_memory;
	struct ferry_mailbox mailbox;
	struct ferry_data *data;
	struct ferry_statefile *state;
	struct ferry_auth *auth;
	struct ferry_corosync *corosync;
	struct ferry_group *group; /* NULL: standalone. */
	struct ferry_pacemaker *pacemaker;
	struct ferry_stonith *stonith; /* NULL: nobody can tell whose power was cut. */
	struct ferry_power_watch power;
	struct ferry_grpc_server *grpc;
	struct ferry_control control;
	struct ferry_events events;
	struct ferry_members members;
	struct ferry_node self;
	struct ferry_incarnation incarnation;
	char name[FERRY_CLUSTER_NAME_MAX];
	char node_name[FERRY_CONFIG_NAME_BYTES];
	char own_address[FERRY_CONFIG_ADDRESS_BYTES];  /* To listen on... */
	char rdma_address[FERRY_CONFIG_ADDRESS_BYTES]; /* ...which may name no device. */
	char addresses[FERRY_LANES_MAX][FERRY_CONFIG_ADDRESS_BYTES];
	struct cluster_pool pools[FERRY_SNAPSHOT_POOLS_MAX];
	uint32_t pools_count;
	struct ferry_uuid data_lineages[FERRY_SNAPSHOT_POOLS_MAX];
	struct ferry_data_peer peers[FERRY_LANES_MAX];
	uint32_t peers_count;
	uint64_t started_ns;

	struct ferry_snapshot *snapshot;
	bool snapshot_is_out;
	struct snapshot_asker askers[FERRY_SNAPSHOT_ASKERS_MAX];
	uint32_t askers_count;
	uint32_t askers_served; /* Of them, those that the snapshot on its way is for. */

	struct warden warden;

	bool is_stopping;
	bool data_was_told; /* To stop. */
	bool data_is_stopped;
	_Atomic bool data_has_ended; /* By itself; set by the data thread. */
	uint64_t stop_deadline_ns;
	struct ferry_timer stop_timer;
	struct ferry_timer pulse_timer;
	struct ferry_timer quorum_timer; /* Without quorum for too long (rule 15). */
	int result;
};

/* cluster_pool.c */
void cluster_pool_init(struct ferry_cluster *cluster, uint32_t index);
void cluster_pool_mail(struct cluster_pool *pool, const struct ferry_mail *mail);
void cluster_pool_tell(struct cluster_pool *pool, struct ferry_mail mail); /* The data thread. */
void cluster_pool_reason(struct cluster_pool *pool, const char *reason);
/* What the group has of @node; NULL: it is no member. */
const struct ferry_ownership_member *cluster_pool_member(const struct cluster_pool *pool,
							 struct ferry_node node);
/* Have the data thread ATTACH or DETACH, one at a time: its answer is not another's. -EBUSY. */
int cluster_pool_attach(struct cluster_pool *pool, struct ferry_control_request *request,
			enum ferry_mail_kind kind) FERRY_MUST_CHECK;
/* @request is done, if there is one, and then NULL. */
void cluster_pool_answer(struct ferry_control_request **request, int error, const char *why);
void cluster_pool_acquired(struct cluster_pool *pool, int error, const char *why);

/* What was left is settled: who waited for it goes on. */
void cluster_pool_nbddev_done(struct cluster_pool *pool);

/* cluster_nbddev.c */
void cluster_nbddev_mail(struct cluster_pool *pool, const struct ferry_mail *mail);
void cluster_nbddev_label(const struct cluster_pool *pool, char *ret, size_t size_bytes);
void cluster_nbddev_close(struct cluster_pool *pool);

/* cluster_power.c */
/* If there is a promised quiesce time, and an agent that cuts the power. */
int cluster_power_open(struct ferry_cluster *cluster, struct ferry_error *reterr) FERRY_MUST_CHECK;
void cluster_power_close(struct ferry_cluster *cluster);

/* cluster_wish.c */
void cluster_pool_acquire(struct cluster_pool *pool, struct ferry_control_request *request);
/* @request: NULL: the agent stops, whoever uses the volume. */
void cluster_pool_release(struct cluster_pool *pool, struct ferry_control_request *request);
void cluster_pool_move(struct cluster_pool *pool, struct ferry_node node,
		       struct ferry_control_request *request);
/* On a lun without reservations, by a person's word for the nodes in request->nodes (rule 14). */
void cluster_pool_force(struct cluster_pool *pool, struct ferry_control_request *request);
/* Its asker has gone: nobody waits for it any more. */
void cluster_pool_cancelled(struct cluster_pool *pool, struct ferry_control_request *request);
void cluster_pool_wish_expired(struct ferry_timer *timer);
void cluster_pool_patience_over(struct ferry_timer *timer);
/* Whether the pool is wished for here and not had yet; then, in words, what that waits for. */
bool cluster_pool_is_wished(const struct cluster_pool *pool);
void cluster_pool_waits_for(const struct cluster_pool *pool, char *ret, size_t size_bytes);
/* Whether it holds nothing that a stop would have to give back first. */
bool cluster_pool_is_quiet(const struct cluster_pool *pool);
void cluster_pool_close(struct cluster_pool *pool);
/* The name of the attribute that says whether @pool would be well placed here. */
void cluster_pool_attribute(const struct ferry_config *config, const char *pool,
			    char ret[FERRY_PACEMAKER_NAME_BYTES]);

/* warden.c */
void warden_ask(struct ferry_cluster *cluster, const struct warden_job *job);
void warden_keys_read(struct cluster_pool *pool, const struct ferry_mail *mail);
void warden_fenced(struct cluster_pool *pool, int error, const char *why);
void warden_close(struct ferry_cluster *cluster);

/* control.c */
const char *control_node_name(const struct ferry_cluster *cluster, struct ferry_node node);
extern const struct ferry_control_ops control_ops;
void control_attached(struct cluster_pool *pool, const struct ferry_mail *mail);
void control_snapped(struct ferry_cluster *cluster);
/* Have @answer answer @request once cluster->snapshot is new. */
void control_snapshot_want(struct ferry_cluster *cluster, struct ferry_control_request *request,
			   void (*answer)(struct ferry_cluster *, struct ferry_control_request *));

/* control_lists.c; a volume's file and its NBD URI, empty where there is none. */
void control_device_of(const struct ferry_cluster *cluster, const char *volume, char *ret,
		       size_t size_bytes);
void control_uri_of(const struct ferry_cluster *cluster, const char *volume, char *ret,
		    size_t size_bytes);
const char *control_lun_name(const struct cluster_pool *pool);
void control_get_status(struct ferry_control *control, struct ferry_control_request *request);
void control_list_volumes(struct ferry_control *control, struct ferry_control_request *request);
void control_list_paths(struct ferry_control *control, struct ferry_control_request *request);
void control_list_peers(struct ferry_control *control, struct ferry_control_request *request);
void control_list_luns(struct ferry_control *control, struct ferry_control_request *request);
