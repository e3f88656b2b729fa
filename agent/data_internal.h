/*
 * data_internal.h - what data*.c share: the data thread's own state.
 *
 * Owns:    see data.h.
 * Callers: agent/data*.c only.
 * Thread:  the data thread.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/adapters/fuse/fuse.h"
#include "agent/adapters/iscsi/iscsi.h"
#include "agent/adapters/nbd/nbd.h"
#include "agent/adapters/nbddev/nbddev.h"
#include "agent/adapters/sgio/flusher.h"
#include "agent/adapters/sgio/sgio.h"
#include "agent/adapters/tcp/tcp.h"
#include "agent/adapters/ublk/ublk.h"
#include "agent/adapters/uevent/uevent.h"
#include "agent/adapters/uring/command.h"
#include "agent/adapters/uring/device.h"
#include "agent/adapters/uring/loop.h"
#include "agent/adapters/verbs/verbs.h"
#include "agent/core/carrier.h"
#include "agent/core/engine.h"
#include "agent/core/peer.h"
#include "agent/data.h"
#include "agent/fault/fault.h"
#include "agent/transport/transport.h"
#include "migrate/pull.h"

/* What a pool still has to say to the cluster thread; the newest value counts. */
enum data_due {
	DATA_DUE_OPENED = 1u << 0,
	DATA_DUE_DRAINED = 1u << 1,
	DATA_DUE_TAKEN = 1u << 2,
	DATA_DUE_HEALTH = 1u << 3,
	DATA_DUE_VERDICT = 1u << 4,
	DATA_DUE_NBDDEV = 1u << 5, /* Before who waits for the next two goes on. */
	DATA_DUE_SHOWN = 1u << 6,
	DATA_DUE_HIDDEN = 1u << 7,
	DATA_DUE_ASK = 1u << 8,
	DATA_DUE_KEYS = 1u << 9,
	DATA_DUE_PREEMPTED = 1u << 10,
	DATA_DUE_WITNESS = 1u << 11,
	DATA_DUE_NOTED = 1u << 12,
	DATA_DUE_ATTACHED = 1u << 13,
};

struct data_pool {
	struct ferry_data *data;
	uint32_t index;
	const struct ferry_data_pool *config;
	struct ferry_device *device;
	struct ferry_sgio *sgio;	    /* The device's reservations, or NULL. */
	struct ferry_sgio_flusher *flusher; /* The device's, or NULL. */
	struct ferry_uevent *uevent;	    /* ...and what the kernel says of its disks, or NULL. */
	struct ferry_iscsi *iscsi;
	struct ferry_path *path;
	struct ferry_fault fault; /* Of a scratch pool, around its path. */
	bool has_fault;
	void *memory; /* Of the engine's tables. */
	size_t memory_bytes;
	struct ferry_engine engine;
	bool is_open;
	struct ferry_fence *guard_fence; /* Alone: whose registrations are looked at first... */
	struct ferry_fence_request guard_request;
	struct ferry_timer guard_timer;
	bool is_guarding;		    /* ...just now. */
	char refusal[FERRY_EVENT_TEXT_MAX]; /* Why the lun is not opened, or empty. */
	struct ferry_view view;		    /* As told before the lun was known. */
	bool has_view;

	void *cache_memory; /* Its lines' data, or NULL. */
	size_t cache_memory_bytes;
	const char *cache_reason; /* Why there is none, or NULL. */
	bool has_pull;
	struct ferry_pull pull;			/* A warm start from the last owner. */
	struct ferry_drained_keys drained_keys; /* Who had drained when the lun was taken. */

	bool is_shown;
	struct ferry_epoch tenure; /* That it is shown by: see struct ferry_ownership. */
	bool is_hiding;
	bool stays;	    /* What can wait for the next agent, while it is being hidden. */
	bool leaves_device; /* ...and its users go on with the next agent. */
	struct ferry_timer users_timer; /* It is to be hidden once nobody uses it... */
	uint64_t users_deadline_ns;	/* ...until then. */
	struct ferry_users users;	/* Who did, when it was not. */
	int hidden_error;
	uint32_t hides_left;   /* Front ends that have not let go yet. */
	struct ferry_io flush; /* The last I/O before it is hidden (rule 17). */

	uint32_t due;
	struct ferry_epoch drained;
	uint64_t word_asked;
	uint64_t witness;  /* As the cluster thread has to hear... */
	uint64_t restarts; /* ...and how many are noted. */
	enum ferry_verdict verdict;
	bool has_path;
	int taken_error;
	struct ferry_epoch taking; /* Installed when the cluster thread asked for it. */
	int shown_error;
	bool was_cleared;		    /* Of what an earlier agent's ublk has left... */
	bool is_clearing;		    /* ...just now. */
	void (*ublk_hidden)(void *context); /* Who waits for ublk to leave its device. */
	bool nbddev_ends; /* What was left of the kernel's NBD client: it does not go on. */
	int attached_error;
	char attached[FERRY_EVENT_TEXT_MAX]; /* Its device, or why it has none. */

	/* What an administrator asks of the lun: one thing at a time. */
	struct ferry_fence_request keys_request;
	struct ferry_key keys_victim;
	bool keys_must_register; /* Once its own keys are read. */
	bool keys_have_reserved;
	struct ferry_mail_keys keys;
	int keys_error;
};

struct data_peer {
	struct ferry_data *data;
	struct ferry_tcp_link *connector;
	struct ferry_link *rdma; /* Out; NULL: there is no device. */
	struct ferry_outgoing outgoing;
	struct ferry_incoming incoming;
	struct ferry_peer peer;
	bool is_member;
};

struct ferry_data {
	struct ferry_data_config config;
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_uring_waker waker;
	struct ferry_events events;
	uint64_t events_lost;
	struct ferry_timer due_timer;
	struct ferry_timer stop_timer;

	void *io_memory; /* Both arenas', one region registered with the kernel. */
	size_t io_memory_bytes;
	void *chunks; /* In it: all of both arenas'. */
	size_t chunks_bytes;
	void *tables_memory;
	size_t tables_bytes;
	struct ferry_region tables;
	struct ferry_arena arena;	/* This node's applications'. */
	struct ferry_arena peers_arena; /* Peers': they cannot starve the others. */

	struct data_pool pools[FERRY_SNAPSHOT_POOLS_MAX];
	struct ferry_nbd_server *nbd;
	struct ferry_fuse *fuse;
	struct ferry_uring_commands *commands; /* For ublk, or NULL. */
	struct ferry_ublk *ublk;
	struct ferry_carrier carrier;
	struct ferry_tcp_listener *listener;
	struct ferry_verbs *verbs;	    /* NULL: no RDMA... */
	char no_rdma[FERRY_EVENT_TEXT_MAX]; /* ...and why. */
	struct data_peer peers[FERRY_LANES_MAX];

	int stop_stage; /* 0: running. */
	uint64_t stop_deadline_ns;
	uint32_t stops_left;
	void *snapshot_due;
};

/* data_pool.c */
int data_pool_open(struct data_pool *pool, struct ferry_error *reterr);
void data_pool_mail(struct data_pool *pool, const struct ferry_mail *mail);
void data_pool_close(struct data_pool *pool);
void data_pool_snap(const struct data_pool *pool, struct ferry_snapshot_pool *ret);
/* Say what is due. False: no room, later. */
bool data_pool_say(struct data_pool *pool);

/* The lun has answered, and may be used. */
int data_pool_lun_open(struct data_pool *pool, struct ferry_error *reterr) FERRY_MUST_CHECK;

/* data_guard.c. True: the lun is opened later, if nobody is registered there. */
bool data_guard_begin(struct data_pool *pool, struct ferry_fence *fence);
void data_guard_close(struct data_pool *pool);

/* data_pool.c */
void data_pool_taken(struct data_pool *pool, int error); /* To the cluster thread. */

void data_pool_say_soon(struct data_pool *pool, uint32_t what); /* Of enum data_due. */

/* data_keys.c */
void data_keys_mail(struct data_pool *pool, const struct ferry_mail *mail);

/* data_cache.c */
void data_cache_open(struct data_pool *pool, struct ferry_engine_config *config);
void data_cache_opened(struct data_pool *pool); /* The engine is open. */
int data_cache_on_warm(struct ferry_engine *engine, uint64_t cursor, struct ferry_arena *arena,
		       struct ferry_segments *ret);
void data_cache_taken(struct data_pool *pool, int error); /* By the engine. */
void data_cache_snap(const struct data_pool *pool, struct ferry_snapshot_cache *ret);
void data_cache_close(struct data_pool *pool);

/* data_recovery.c */
bool data_may_recover(const struct data_pool *pool);
bool data_may_stay(const struct data_pool *pool);
bool data_is_lost(const struct data_pool *pool);

/* data_nbddev.c */
void data_nbddev_show(struct data_pool *pool);
void data_nbddev_view(struct data_pool *pool); /* It is new, or the lun is. */
/* Whether somebody has it who may be a device, and may wait for the next agent. */
bool data_nbddev_stays(const struct data_pool *pool);
void data_nbddev_hidden(struct data_pool *pool, bool stays);
void data_nbddev_mail(struct data_pool *pool, const struct ferry_mail *mail); /* ADOPT */

/* data_ublk.c */
int data_ublk_open(struct ferry_data *data, struct ferry_error *reterr);
void data_ublk_show(struct data_pool *pool);
void data_ublk_view(struct data_pool *pool); /* It is new, or the lun is. */
/* @stays: its device, for the next agent. True: @done runs later. */
bool data_ublk_hide(struct data_pool *pool, bool stays, void (*done)(void *context));
void data_ublk_mail(struct data_pool *pool, const struct ferry_mail *mail); /* ATTACH, DETACH */
const char *data_ublk_device(const struct data_pool *pool);		    /* Or "". */

/* data_peers.c */
int data_peers_open(struct ferry_data *data, struct ferry_error *reterr);
int data_peers_join(struct data_pool *pool); /* Give an opened engine its peers. */
void data_peer_member(struct ferry_data *data, struct ferry_node node, bool is_member);
void data_peer_snap(const struct data_peer *peer, struct ferry_snapshot_peer *ret);
void data_peers_close(struct ferry_data *data);

/* data.c */
void data_say_later(struct ferry_data *data);
