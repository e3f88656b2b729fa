/*
 * data.h - the data thread: luns, engines, front ends and peers' links, put together and run.
 *
 * Owns:    the data loop and all that runs on it; the memory of I/O.
 * Callers: main.c opens, runs and closes it; cluster.c talks to it by mail only.
 * Thread:  open and close: the starting thread, while the data thread does not run.
 * Rooms:   rank 5: the one place that knows both core/ and the adapters of the data plane.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/mail.h"
#include "agent/ports/auth.h"
#include "agent/ports/config.h"
#include "agent/snapshot.h"

struct ferry_data;

enum { FERRY_DATA_NBD_LISTENS_MAX = 4 };

struct ferry_data_lun {
	const char *file; /* A file or block device, or NULL. */
	uint32_t block_bytes;
	const char *iscsi_portal; /* Or an iSCSI lun. */
	const char *iscsi_target;
	uint16_t iscsi_lun;
	const char *iscsi_initiator;
	const char *chap_user;
	const char *chap_password;
	enum ferry_laying_way laying;
	uint64_t quiesce_time_ns;
	const char *wwid;		    /* Expected, or NULL. */
	enum ferry_flush_scope flush_scope; /* 0: what the adapter knows. */
};

struct ferry_data_pool {
	const char *name;
	const char *volume;
	struct ferry_uuid lineage;
	struct ferry_data_lun lun;
	bool is_read_only;
	bool is_exclusive;	    /* The administrator's word that nobody else writes to it. */
	bool is_scratch;	    /* Faults may be injected. */
	bool ignores_registrations; /* Alone: the administrator's word that those there are old. */
	bool is_shared; /* In a cluster: others may use the lun, reservations are asked for. */
	uint32_t convict_failures;
	uint64_t convict_window_ns;
};

struct ferry_data_peer {
	struct ferry_node node;
	const char *address;
	uint16_t port;
};

struct ferry_data_config {
	struct ferry_mailbox *mailbox;
	struct ferry_node self;
	struct ferry_incarnation incarnation;
	struct ferry_data_pool pools[FERRY_SNAPSHOT_POOLS_MAX];
	uint32_t pools_count;
	const char *nbd_listen[FERRY_DATA_NBD_LISTENS_MAX];
	uint32_t nbd_listen_count;
	bool nbd_allow_remote;
	const char *fuse_mount; /* NULL: none. */
	bool fuse_is_single_file;
	bool is_ublk;
	const char *run_dir;  /* No other agent on this machine has it. */
	size_t memory_bytes;  /* For I/O of this node's applications; as much again for peers. */
	uint64_t cache_bytes; /* Of read cache, for all pools together; 0: none. */
	uint64_t path_timeout_ns;
	uint64_t hold_timeout_ns;

	/* In a cluster: */
	const char *cluster; /* Its name; NULL: alone. */
	struct ferry_auth *auth;
	const char *listen_address;
	uint16_t listen_port;
	enum ferry_config_transport transport;
	const char *rdma_address; /* This node's own, which names the RDMA device. */
	struct ferry_data_peer peers[FERRY_LANES_MAX];
	uint32_t peers_count;
};

/* The strings of @config must outlive the data thread. Errors: the adapters', said in @reterr. */
int ferry_data_open(const struct ferry_data_config *config, struct ferry_data **ret,
		    struct ferry_error *reterr) FERRY_MUST_CHECK;

/* Run until a STOP has been obeyed; to be called on the data thread. */
int ferry_data_run(struct ferry_data *data) FERRY_MUST_CHECK;

/* Any thread. */
void ferry_data_wake(void *data);

/* After run() has returned, or was never called. NULL is a no-op. Returns NULL. */
struct ferry_data *ferry_data_close(struct ferry_data *data);
static inline void ferry_data_closep(struct ferry_data **data)
{
	*data = ferry_data_close(*data);
}
