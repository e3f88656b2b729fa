/*
 * auth.h - the authentication port: proving that one holds the cluster's key, not showing it.
 *
 * Owns:    nothing; it is only an interface.
 * Callers: proto/handshake.c, on behalf of transports.
 * Thread:  the data loop.
 * Rooms:   adapters/openssl (HMAC-SHA256, RFC 2104; the system's random numbers), tests/sim.
 */
#pragma once

#include "agent/base/base.h"

enum { FERRY_NONCE_BYTES = 32, FERRY_PROOF_BYTES = 32 };

struct ferry_auth {
	const struct ferry_auth_ops *ops;
};

struct ferry_auth_ops {
	const char *name;
	/* Fill @ret with unpredictable bytes. -EIO: the system has none; do not go on. */
	int (*random)(struct ferry_auth *auth, void *ret, size_t length_bytes);
	/* The keyed digest of @bytes. -EIO. */
	int (*prove)(struct ferry_auth *auth, const void *bytes, size_t length_bytes,
		     uint8_t ret[FERRY_PROOF_BYTES]);
};

/* Compare in a time that does not depend on where they differ. */
static inline bool ferry_proof_equal(const uint8_t *a, const uint8_t *b)
{
	volatile uint8_t difference = 0;

	for (size_t i = 0; i < FERRY_PROOF_BYTES; i++)
		difference = (uint8_t)(difference | (a[i] ^ b[i]));
	return difference == 0;
}
