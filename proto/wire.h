/*
 * wire.h - the data plane's messages between agents, and their one decoder.
 *
 * Every message is a header of FERRY_WIRE_HEADER_BYTES, little-endian, with a CRC32C of its own,
 * and for some a payload with its CRC32C in the header. docs/wire-format.md has the layout.
 * A decoded header is fully validated: enums are known, sizes within bounds, unused fields zero.
 *
 * Owns:    nothing.
 * Callers: adapters/tcp, adapters/verbs, core/peer.c, core/carrier.c, tests/sim, tests/fuzz.
 * Thread:  any.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/arena.h"
#include "agent/base/base.h"
#include "agent/base/error.h"

enum {
	FERRY_WIRE_MAGIC = 0x59525246, /* "FRRY" */
	FERRY_WIRE_VERSION = 2,
	FERRY_WIRE_HEADER_BYTES = 160,
	FERRY_WIRE_PAYLOAD_BYTES_MAX = FERRY_IO_BYTES_MAX,
	/* Requests of one requester that may be outstanding at one peer, per lun. */
	FERRY_WIRE_WINDOW_MAX = 128,
};

enum ferry_wire_type {
	FERRY_WIRE_REQUEST = 1, /* Carry this I/O to your local path. WRITE has a payload. */
	FERRY_WIRE_REPLY,	/* What became of it. DONE of a READ has a payload. */
	FERRY_WIRE_LAY,		/* Prove that nothing of this nexus' can land any more. */
	FERRY_WIRE_LAY_REPLY,
	FERRY_WIRE_PING, /* Answered at once by PONG; tells a dead link from an idle one. */
	FERRY_WIRE_PONG,
	FERRY_WIRE_WARM,       /* Give me the next part of what your cache has of this lun. */
	FERRY_WIRE_WARM_REPLY, /* DONE has a payload: one stream of proto/stream.h. */
	FERRY_WIRE_TYPE_LAST = FERRY_WIRE_WARM_REPLY,
};

struct ferry_wire_header {
	enum ferry_wire_type type;
	uint32_t payload_bytes; /* 0 or the data's length. */
	uint32_t payload_crc;	/* CRC32C of the payload; 0 without one. */

	/* Who asks: (node, incarnation, epoch, sequence) names a request for ever (rule 8). */
	struct ferry_node node;
	struct ferry_incarnation incarnation;
	struct ferry_uuid lineage; /* The pool's; with epoch, what the write was admitted under. */
	struct ferry_epoch epoch;
	uint64_t sequence;
	/* REQUEST, LAY: every sequence below is settled for the requester; below it nothing runs.
	 */
	uint64_t floor;

	struct ferry_uuid lun; /* ferry_lun_identity.uuid: identity, size and block size. */

	/* REQUEST and its REPLY. Numbers of enum ferry_op, ferry_outcome, ferry_cause. */
	uint32_t op;
	uint32_t flags;
	struct ferry_lba lba;
	uint32_t length_blocks;
	uint32_t outcome; /* Every reply. */
	uint32_t cause;

	uint64_t victim_key; /* LAY: the registration whose nexus is to be killed. */
	uint64_t cursor;     /* WARM: where the part begins; 0: at the beginning. */
	uint64_t losses;     /* REPLY: resets of the lun that the answerer has seen; 0: unsaid. */
};

/* Who is at one end of a link. */
struct ferry_wire_end {
	struct ferry_node node;
	struct ferry_incarnation incarnation;
};

/* Write the header. It is a bug of ours if it is not valid (ferry_wire_check()). */
void ferry_wire_encode(const struct ferry_wire_header *header,
		       uint8_t ret[FERRY_WIRE_HEADER_BYTES]);

/*
 * Read and validate a header from a peer.
 * -EBADMSG: magic or checksum; -EPROTONOSUPPORT: another version; -EPROTO: a field is invalid.
 * @reterr says which.
 */
int ferry_wire_decode(const uint8_t bytes[FERRY_WIRE_HEADER_BYTES], struct ferry_wire_header *ret,
		      struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The validity that encode asserts and decode demands: 0 or -EPROTO. */
int ferry_wire_check(const struct ferry_wire_header *header, struct ferry_error *reterr);

/*
 * Whether it may come over a link between @self and @peer: a peer speaks for itself only, and
 * answers only us.
 */
bool ferry_wire_is_between(const struct ferry_wire_header *header,
			   const struct ferry_wire_end *self, const struct ferry_wire_end *peer);
