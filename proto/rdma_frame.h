/*
 * rdma_frame.h - what one SEND between two agents over RDMA holds, and its one decoder.
 *
 * A frame is a head (credits given back, data taken), and for all but CREDIT a message's header
 * (proto/wire.h). Data up to FERRY_RDMA_INLINE_BYTES_MAX follows it; larger data never passes
 * through a frame: who has it OFFERs it to be read, or PLACEs it in the ROOM that the request
 * named. docs/wire-format.md has the layout. A decoded frame is fully validated.
 *
 * Owns:    nothing.
 * Callers: adapters/verbs, tests/fuzz.
 * Thread:  any.
 * Rooms:   rank 1.
 */
#pragma once

#include "proto/wire.h"

enum {
	FERRY_RDMA_FRAME_MAGIC = 0x46525246, /* "FRRF" */
	FERRY_RDMA_HEAD_BYTES = 32,
	FERRY_RDMA_PIECE_BYTES = 16,
	FERRY_RDMA_PIECES_MAX = FERRY_SEGMENTS_MAX,
	FERRY_RDMA_INLINE_BYTES_MAX = 4096,
	/* All but inline data; what ferry_rdma_frame_encode() writes at most. */
	FERRY_RDMA_LEAD_BYTES_MAX = FERRY_RDMA_HEAD_BYTES + FERRY_WIRE_HEADER_BYTES +
				    FERRY_RDMA_PIECES_MAX * FERRY_RDMA_PIECE_BYTES,
	FERRY_RDMA_FRAME_BYTES_MAX =
		FERRY_RDMA_HEAD_BYTES + FERRY_WIRE_HEADER_BYTES + FERRY_RDMA_INLINE_BYTES_MAX,
	FERRY_RDMA_CREDITS_MAX = 1024, /* Frames that one end may take at a time. */
};

enum ferry_rdma_kind {
	FERRY_RDMA_CREDIT = 1, /* Only a head. It needs no credit itself. */
	FERRY_RDMA_MESSAGE,    /* With its data, if any. */
	FERRY_RDMA_OFFER,      /* The data lies in the pieces: read it there. */
	FERRY_RDMA_ROOM,       /* A request: the data of its answer may be written to the pieces. */
	FERRY_RDMA_PLACED,     /* An answer: its data has been written to the request's pieces. */
	FERRY_RDMA_KIND_LAST = FERRY_RDMA_PLACED,
};

/* A range of the sender's memory, open to this connection alone as long as the key lives. */
struct ferry_rdma_piece {
	uint64_t address;
	uint32_t key;
	uint32_t length_bytes; /* Never zero. */
};

struct ferry_rdma_frame {
	enum ferry_rdma_kind kind;
	uint32_t credits; /* So many more frames may be sent to the sender of this one. */
	uint64_t taken;	  /* So many OFFERs of the receiver have been read, since the beginning. */
	struct ferry_wire_header header; /* Not of CREDIT. */
	uint32_t pieces_count;		 /* OFFER, ROOM. */
	struct ferry_rdma_piece pieces[FERRY_RDMA_PIECES_MAX];
};

/* Write all but inline data, which is to follow it; returns the length. Invalid: our bug. */
uint32_t ferry_rdma_frame_encode(const struct ferry_rdma_frame *frame,
				 uint8_t ret[FERRY_RDMA_LEAD_BYTES_MAX]);

/*
 * Read and validate a frame from a peer. @ret_data: where in @bytes inline data begins, NULL
 * without. -EBADMSG: magic or checksum; -EPROTO: a field or the length is invalid;
 * -EPROTONOSUPPORT.
 */
int ferry_rdma_frame_decode(const uint8_t *bytes, size_t length_bytes, struct ferry_rdma_frame *ret,
			    const uint8_t **ret_data, struct ferry_error *reterr) FERRY_MUST_CHECK;
