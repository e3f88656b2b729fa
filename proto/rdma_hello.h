/*
 * rdma_hello.h - who may connect by RDMA: the private data of rdma_cm, both ways.
 *
 * No key and no token is ever sent. Both ends derive a secret from the handshake of their TCP
 * connection (ferry_handshake_secret()), so it is worth nothing once that connection is over; with
 * it and the cluster's key the connector proves its request, and the acceptor its answer to that
 * very request. Each try over one secret bears a higher number: nothing can be replayed.
 *
 * Owns:    nothing.
 * Callers: adapters/verbs, tests/fuzz.
 * Thread:  any.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/base/error.h"
#include "agent/ports/auth.h"

enum {
	FERRY_RDMA_HELLO_MAGIC = 0x48525246, /* "FRRH" */
	FERRY_RDMA_VERSION = 1,
	FERRY_RDMA_HELLO_BYTES = 56, /* rdma_cm's private data of a request has no more. */
};

/* What both ends of one TCP connection know, and nobody else. */
struct ferry_rdma_secret {
	uint8_t v[FERRY_PROOF_BYTES];
};

struct ferry_rdma_hello {
	struct ferry_node node; /* Who says it. */
	struct ferry_incarnation incarnation;
	uint32_t number;  /* Of the try, from 1; the answer repeats it. */
	uint32_t credits; /* So many frames the sender takes at a time; at least 1. */
	uint8_t proof[FERRY_PROOF_BYTES];
};

/* Fill in the proof and write it. @request: what is answered, NULL for a request. -EIO: no digest.
 */
int ferry_rdma_hello_encode(struct ferry_auth *auth, const struct ferry_rdma_secret *secret,
			    const uint8_t *request, const struct ferry_rdma_hello *hello,
			    uint8_t ret[FERRY_RDMA_HELLO_BYTES]) FERRY_MUST_CHECK;

/*
 * Read it; nothing of it is proven yet. @length_bytes may be more than it has: rdma_cm pads.
 * -EBADMSG, -EPROTONOSUPPORT, -EPROTO.
 */
int ferry_rdma_hello_decode(const void *bytes, size_t length_bytes, struct ferry_rdma_hello *ret,
			    struct ferry_error *reterr) FERRY_MUST_CHECK;

/* Whether the bytes that were decoded are proven. -EACCES: no; -EIO: no digest. */
int ferry_rdma_hello_verify(struct ferry_auth *auth, const struct ferry_rdma_secret *secret,
			    const uint8_t *request,
			    const uint8_t bytes[FERRY_RDMA_HELLO_BYTES]) FERRY_MUST_CHECK;
