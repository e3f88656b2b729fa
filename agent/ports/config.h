/*
 * config.h - the agent's configuration: plain, validated, with every default filled in.
 *
 * A config that a reader returned holds: names are [a-z0-9-]{1,31} and unique per kind; every
 * index points to something; each lun is in exactly one pool and under at most one volume; paths
 * are absolute; strings are NUL-terminated; numbers are within the bounds below.
 *
 * Owns:    nothing; shapes only.
 * Callers: adapters/inifile fills it; agent/main wires by it.
 * Thread:  read-only once it is read: any.
 * Rooms:   adapters/inifile. docs: deploy/ferryd.conf.example.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/ports/events.h"
#include "agent/ports/fence.h"
#include "agent/ports/identity.h"

enum {
	FERRY_CONFIG_PEERS_MAX = 31, /* FERRY_NODES_MAX without this node. */
	FERRY_CONFIG_LUNS_MAX = 64,
	FERRY_CONFIG_POOLS_MAX = 32,
	FERRY_CONFIG_POOL_LUNS_MAX = 16,
	FERRY_CONFIG_VOLUMES_MAX = 64,
	FERRY_CONFIG_LISTENS_MAX = 4,

	FERRY_CONFIG_NAME_BYTES = 32, /* Here and below with the closing NUL. */
	FERRY_CONFIG_PATH_BYTES = 256,
	FERRY_CONFIG_RUN_DIR_BYTES = 64, /* Leaves room for a socket's name: sockaddr_un has 108. */
	FERRY_CONFIG_SOCKET_BYTES = 108,
	FERRY_CONFIG_ADDRESS_BYTES = 46, /* INET6_ADDRSTRLEN */
	FERRY_CONFIG_HOST_BYTES = 256,
	FERRY_CONFIG_IQN_BYTES = 224, /* RFC 7143, 4.2.7.1: 223 bytes. */
	FERRY_CONFIG_WWID_BYTES = 96,
	FERRY_CONFIG_CHAP_USER_BYTES = 128,
	FERRY_CONFIG_ATTRIBUTE_BYTES = 65,
	FERRY_CONFIG_POWER_AGENTS_MAX = 8,
	FERRY_CONFIG_POWER_AGENT_BYTES = 64,

	FERRY_CONFIG_PORT_DEFAULT = 7077,
	FERRY_CONFIG_ISCSI_PORT_DEFAULT = 3260, /* IANA */
	FERRY_CONFIG_ISCSI_LUN_MAX = 16383,	/* SAM-5, flat space addressing. */
};

/* Numbers' bounds; the defaults are ferry_config_defaults()'s. */
#define FERRY_CONFIG_PATH_TIMEOUT_MIN_NS (100 * FERRY_NS_PER_MS)
#define FERRY_CONFIG_PATH_TIMEOUT_MAX_NS (60 * FERRY_NS_PER_S)
#define FERRY_CONFIG_HOLD_TIMEOUT_MIN_NS (1 * FERRY_NS_PER_S)
#define FERRY_CONFIG_HOLD_TIMEOUT_MAX_NS (3600 * FERRY_NS_PER_S)
#define FERRY_CONFIG_QUIESCE_MIN_NS FERRY_NS_PER_S
#define FERRY_CONFIG_QUIESCE_MAX_NS (3600 * FERRY_NS_PER_S)
#define FERRY_CONFIG_WINDOW_MIN_NS (1 * FERRY_NS_PER_S)
#define FERRY_CONFIG_WINDOW_MAX_NS (3600 * FERRY_NS_PER_S)
#define FERRY_CONFIG_MEMORY_MIN_BYTES (8 * FERRY_MIB)
#define FERRY_CONFIG_MEMORY_MAX_BYTES (16 * 1024 * FERRY_MIB)
#define FERRY_CONFIG_CACHE_MAX_BYTES (64 * 1024 * FERRY_MIB)

/* Where a socket is: numeric, so that nobody waits for a name server. */
struct ferry_config_endpoint {
	char address[FERRY_CONFIG_ADDRESS_BYTES]; /* Empty: not said. */
	uint16_t port;
};

struct ferry_config_listen {
	bool is_unix;
	char path[FERRY_CONFIG_SOCKET_BYTES]; /* Of a unix socket. */
	struct ferry_config_endpoint tcp;
};

struct ferry_config_peer {
	char name[FERRY_CONFIG_NAME_BYTES];
	uint32_t line; /* Of its section, for later messages. */
	struct ferry_node node;
	struct ferry_config_endpoint endpoint; /* No address: corosync's node list has it. */
};

enum ferry_config_lun_kind {
	FERRY_CONFIG_LUN_DEVICE = 1,
	FERRY_CONFIG_LUN_FILE, /* Standalone only: the wiring refuses it in a cluster. */
	FERRY_CONFIG_LUN_ISCSI,
};

struct ferry_config_lun {
	char name[FERRY_CONFIG_NAME_BYTES];
	uint32_t line;
	enum ferry_config_lun_kind kind;
	char path[FERRY_CONFIG_PATH_BYTES]; /* DEVICE, FILE. */

	/* ISCSI */
	char host[FERRY_CONFIG_HOST_BYTES]; /* Lower case; IPv6 without brackets. */
	uint16_t port;
	char target[FERRY_CONFIG_IQN_BYTES]; /* Lower case, as RFC 7143 has names compared. */
	uint32_t target_lun;
	char initiator[FERRY_CONFIG_IQN_BYTES];	      /* Empty: made of the node's name. */
	char chap_user[FERRY_CONFIG_CHAP_USER_BYTES]; /* Empty: no CHAP. */
	char chap_password_file[FERRY_CONFIG_PATH_BYTES];
	enum ferry_laying_way laying; /* 0: by what the target is and knows. */
	uint64_t quiesce_time_ns;     /* Promised by the storage; 0: nothing is. */

	char wwid[FERRY_CONFIG_WWID_BYTES]; /* Expected; empty: any. */
	uint32_t block_bytes;		    /* Expected: 512 or 4096; 0: any. */
	enum ferry_flush_scope flush_scope; /* 0: what the adapter knows. */
	uint32_t pool;			    /* Index. */
};

struct ferry_config_pool {
	char name[FERRY_CONFIG_NAME_BYTES];
	uint32_t line;
	uint32_t luns[FERRY_CONFIG_POOL_LUNS_MAX]; /* Indices. */
	uint32_t luns_count;
	bool is_exclusive; /* The administrator's word that nobody else writes (rule 16). */
	bool is_scratch;   /* Its data are worth nothing: faults may be injected. */
};

struct ferry_config_volume {
	char name[FERRY_CONFIG_NAME_BYTES];
	uint32_t line;
	uint32_t lun;  /* Index: the volume is raw, the lun as it is. */
	uint32_t pool; /* Index. */
	bool is_read_only;
};

/* What carries between agents. */
enum ferry_config_transport {
	FERRY_CONFIG_TRANSPORT_AUTO = 1, /* RDMA where both ends have it, else TCP. */
	FERRY_CONFIG_TRANSPORT_RDMA,	 /* Nothing by TCP, and no start without a device. */
	FERRY_CONFIG_TRANSPORT_TCP,
};

enum ferry_config_decision { FERRY_CONFIG_DECISION_COUNT = 1, FERRY_CONFIG_DECISION_OFF };

struct ferry_config {
	/* [agent] */
	char state_dir[FERRY_CONFIG_PATH_BYTES];
	char run_dir[FERRY_CONFIG_RUN_DIR_BYTES];
	char key_file[FERRY_CONFIG_PATH_BYTES];
	struct ferry_config_endpoint listen; /* No address: this node's in corosync's list. */
	enum ferry_config_transport transport;
	enum ferry_severity log_level;
	uint64_t path_timeout_ns;   /* An attempt without an answer is UNKNOWN after this. */
	uint64_t hold_timeout_ns;   /* I/O that no path can carry is held, then fails. */
	uint64_t quorum_timeout_ns; /* Likewise without quorum (rule 15). */
	uint64_t memory_bytes;	    /* The arena: a multiple of FERRY_CHUNK_BYTES. */

	uint64_t cache_bytes; /* [cache]; 0: none. */

	/* [decision] */
	enum ferry_config_decision decision;
	uint32_t decision_failures;
	uint64_t decision_window_ns;

	/* [pacemaker] */
	bool is_published;
	char attribute[FERRY_CONFIG_ATTRIBUTE_BYTES]; /* The node attributes' prefix. */
	/* Fence agents that cut the power, by the administrator's word. */
	char power_agents[FERRY_CONFIG_POWER_AGENTS_MAX][FERRY_CONFIG_POWER_AGENT_BYTES];
	uint32_t power_agents_count;

	/* [nbd], [fuse], [ublk]: on if there is such a section. */
	bool is_nbd;
	bool is_fuse;
	bool is_ublk;
	struct ferry_config_listen nbd_listens[FERRY_CONFIG_LISTENS_MAX];
	uint32_t nbd_listens_count;
	char fuse_mountpoint[FERRY_CONFIG_PATH_BYTES];

	struct ferry_config_peer peers[FERRY_CONFIG_PEERS_MAX];
	uint32_t peers_count;
	struct ferry_config_lun luns[FERRY_CONFIG_LUNS_MAX];
	uint32_t luns_count;
	struct ferry_config_pool pools[FERRY_CONFIG_POOLS_MAX];
	uint32_t pools_count;
	struct ferry_config_volume volumes[FERRY_CONFIG_VOLUMES_MAX];
	uint32_t volumes_count;
};

/* What an empty file means; also where a standalone agent's options begin. */
void ferry_config_defaults(struct ferry_config *ret);
