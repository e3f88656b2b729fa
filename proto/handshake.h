/*
 * handshake.h - how two agents prove to each other that they hold the cluster's key, before
 * anything else is said.
 *
 *   connector → acceptor   HELLO  {versions, cluster, node, incarnation, wanted node, nonce}
 *   acceptor  → connector  HELLO  {…, nonce}
 *   acceptor  → connector  PROOF  HMAC(key, "acceptor" ‖ both HELLOs)
 *   connector → acceptor   PROOF  HMAC(key, "connector" ‖ both HELLOs)
 *   acceptor  → connector  WELCOME {version, features, HMAC(key, "welcome" ‖ both HELLOs ‖ both)}
 *
 * or, at any step and from either end, REFUSED with a reason. Each proof covers both HELLOs whole,
 * so nothing can be replayed, reflected or downgraded. What the acceptor thinks of the connector's
 * cluster, wanted node and membership it says only to one who has proven that it holds the key.
 * HELLO has fields of features: RDMA for now, and encryption will be agreed upon there.
 * docs/wire-format.md has the frames.
 *
 * A pure state machine: bytes in, bytes out.
 *
 * Owns:    the state of one handshake.
 * Callers: adapters/tcp, tests/fuzz.
 * Thread:  the data loop.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/base/error.h"
#include "agent/ports/auth.h"

enum { FERRY_HANDSHAKE_FRAME_BYTES_MAX = 192, FERRY_CLUSTER_NAME_MAX = 64 };

/* What an end has, bit by bit; the numbers are on the wire. */
enum {
	/* It takes connections by RDMA where it takes those by TCP: at that address and port. */
	FERRY_HANDSHAKE_FEATURE_RDMA = 1 << 0,
};

enum ferry_handshake_role { FERRY_HANDSHAKE_CONNECTOR = 1, FERRY_HANDSHAKE_ACCEPTOR };

enum ferry_handshake_state {
	FERRY_HANDSHAKE_RUNNING = 1,
	FERRY_HANDSHAKE_COMPLETE,
	FERRY_HANDSHAKE_FAILED,
};

struct ferry_handshake_config {
	enum ferry_handshake_role role;
	struct ferry_auth *auth;
	char cluster[FERRY_CLUSTER_NAME_MAX]; /* Another cluster's agents are turned away. */
	struct ferry_node self;
	struct ferry_incarnation incarnation;
	struct ferry_node wanted; /* CONNECTOR: whom it means to reach. */
	uint64_t features;	  /* What this end has. */
	/* ACCEPTOR: whether @node is a current member; others are turned away. */
	bool (*is_member)(struct ferry_node node, void *context);
	void *context;
};

struct ferry_handshake {
	struct ferry_handshake_config config;
	enum ferry_handshake_state state;
	uint32_t step;
	uint8_t frame[FERRY_HANDSHAKE_FRAME_BYTES_MAX]; /* The one that is being read. */
	uint32_t frame_bytes;				/* How much of it is here. */
	uint8_t hello_connector[FERRY_HANDSHAKE_FRAME_BYTES_MAX];
	uint8_t hello_acceptor[FERRY_HANDSHAKE_FRAME_BYTES_MAX];
	uint32_t hello_connector_bytes;
	uint32_t hello_acceptor_bytes;
	struct ferry_node peer; /* Valid once COMPLETE, as is the rest. */
	struct ferry_incarnation peer_incarnation;
	uint32_t version;  /* The highest that both speak. */
	uint64_t features; /* What both have. */
};

/* What REFUSED says; the numbers are on the wire. */
enum ferry_handshake_refusal {
	FERRY_HANDSHAKE_REFUSED_GARBAGE = 1, /* Not a handshake, or frames out of turn. */
	FERRY_HANDSHAKE_REFUSED_VERSION,     /* No version that both speak. */
	FERRY_HANDSHAKE_REFUSED_FEATURE,     /* One requires what the other does not have. */
	FERRY_HANDSHAKE_REFUSED_KEY,	     /* The proof is wrong: not our key. */
	FERRY_HANDSHAKE_REFUSED_CLUSTER,     /* The right key, but another cluster's name. */
	FERRY_HANDSHAKE_REFUSED_NODE,	     /* Not the node that was wanted. */
	FERRY_HANDSHAKE_REFUSED_MEMBER,	     /* Not a current member. */
	FERRY_HANDSHAKE_REFUSED_TROUBLE,     /* No random numbers, or the like. */
	FERRY_HANDSHAKE_REFUSED_LAST = FERRY_HANDSHAKE_REFUSED_TROUBLE,
};

/* Printable ASCII, padded with zeroes to the end, at least one of each. */
bool ferry_handshake_cluster_is_valid(const char name[FERRY_CLUSTER_NAME_MAX]);

/* How many bytes ferry_handshake_read() wants next; 0 when it waits for nothing. */
uint32_t ferry_handshake_wants(const struct ferry_handshake *handshake);

/*
 * Begin. @ret gets the first bytes to send (CONNECTOR), *ret_bytes their count, maybe 0.
 * -EIO: no random numbers.
 */
int ferry_handshake_start(struct ferry_handshake *handshake,
			  const struct ferry_handshake_config *config, uint8_t *ret,
			  uint32_t *ret_bytes, struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * Take exactly ferry_handshake_wants() bytes; @ret (FERRY_HANDSHAKE_FRAME_BYTES_MAX * 2) gets what
 * to send, also on failure (a REFUSED that says why).
 * -EACCES: wrong key, or not a member; -EPROTONOSUPPORT: version; -EPROTO: not a handshake;
 * -ENXIO: another cluster, or not the wanted node; -EIO: no random numbers or no digest.
 * The codes are the same at the end that refuses and at the one that is refused.
 */
int ferry_handshake_read(struct ferry_handshake *handshake, const uint8_t *bytes, uint8_t *ret,
			 uint32_t *ret_bytes, struct ferry_error *reterr) FERRY_MUST_CHECK;

/*
 * What both ends of this connection know and nobody else: by it they know each other on another one
 * (RDMA). Of no use for any later handshake's. -EIO: no digest.
 */
int ferry_handshake_secret(struct ferry_handshake *handshake,
			   uint8_t ret[FERRY_PROOF_BYTES]) FERRY_MUST_CHECK;
