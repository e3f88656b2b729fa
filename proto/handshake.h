/*
 * handshake.h - how two agents prove to each other that they hold the cluster's key, before
 * anything else is said.
 *
 *   connector → acceptor   HELLO  {versions, cluster, node, incarnation, wanted node, nonce}
 *   acceptor  → connector  HELLO  {…, nonce}
 *   acceptor  → connector  PROOF  HMAC(key, "acceptor" ‖ both HELLOs)
 *   connector → acceptor   PROOF  HMAC(key, "connector" ‖ both HELLOs)
 *   acceptor  → connector  WELCOME, or REFUSED with a reason
 *
 * Each proof covers both
 * HELLOs whole, so nothing can be replayed, reflected or downgraded. HELLO has a field of
 * features, in which encryption will be agreed upon (none is defined yet).
 *
 * A pure state machine: bytes in, bytes out.
 *
 * Owns:    the state of one handshake.
 * Callers: adapters/tcp (verbs' control connection later), tests/fuzz.
 * Thread:  the data loop.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/base/error.h"
#include "agent/ports/auth.h"

enum { FERRY_HANDSHAKE_FRAME_BYTES_MAX = 192, FERRY_CLUSTER_NAME_MAX = 64 };

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
	/* ACCEPTOR: whether @node is a current member; others are turned away. */
	bool (*is_member)(struct ferry_node node, void *context);
	void *context;
};

struct ferry_handshake {
	struct ferry_handshake_config config;
	enum ferry_handshake_state state;
	uint32_t step;
	uint8_t hello_connector[FERRY_HANDSHAKE_FRAME_BYTES_MAX];
	uint8_t hello_acceptor[FERRY_HANDSHAKE_FRAME_BYTES_MAX];
	uint32_t hello_connector_bytes;
	uint32_t hello_acceptor_bytes;
	struct ferry_node peer; /* Valid once COMPLETE. */
	struct ferry_incarnation peer_incarnation;
};

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
 * -ENXIO: another cluster, or not the wanted node.
 */
int ferry_handshake_read(struct ferry_handshake *handshake, const uint8_t *bytes, uint8_t *ret,
			 uint32_t *ret_bytes, struct ferry_error *reterr) FERRY_MUST_CHECK;
