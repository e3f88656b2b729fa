/*
 * protocol.h - the bytes of the NBD protocol: numbers, bounded decoding and encoding.
 *
 * Source: "The NBD protocol", doc/proto.md of NetworkBlockDevice/nbd. All integers are big-endian.
 * Pure: no socket, no memory of its own. Bytes from a client never trip an assertion.
 *
 * Owns:    nothing.
 * Callers: negotiation.c, connection.c, tests/fuzz/nbd_fuzz.c.
 * Thread:  any.
 * Rooms:   rank 4.
 */
#pragma once

#include "agent/base/base.h"

#define FERRY_NBD_MAGIC UINT64_C(0x4e42444d41474943)	    /* "NBDMAGIC" */
#define FERRY_NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define FERRY_NBD_OPTION_REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define FERRY_NBD_REQUEST_MAGIC UINT32_C(0x25609513)
#define FERRY_NBD_SIMPLE_REPLY_MAGIC UINT32_C(0x67446698)
#define FERRY_NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)

enum {
	FERRY_NBD_GREETING_BYTES = 18,
	FERRY_NBD_CLIENT_FLAGS_BYTES = 4,
	FERRY_NBD_OPTION_HEADER_BYTES = 16,
	FERRY_NBD_REQUEST_BYTES = 28,
	FERRY_NBD_REPLY_HEADER_BYTES_MAX = 32,
	FERRY_NBD_STRING_BYTES_MAX = 4096, /* Of any name, by the protocol. */
	/* The data of one option: a name, and room for a few queries or information requests. */
	FERRY_NBD_OPTION_BYTES_MAX = 8 * 1024,
};

/* The handshake's flags, the server's and the client's alike. */
enum { FERRY_NBD_FIXED_NEWSTYLE = 1u << 0, FERRY_NBD_NO_ZEROES = 1u << 1 };

/* Options are the client's numbers: a plain uint32_t, which may be none of these. */
#define FERRY_NBD_OPT_EXPORT_NAME UINT32_C(1)
#define FERRY_NBD_OPT_ABORT UINT32_C(2)
#define FERRY_NBD_OPT_LIST UINT32_C(3)
#define FERRY_NBD_OPT_STARTTLS UINT32_C(5)
#define FERRY_NBD_OPT_INFO UINT32_C(6)
#define FERRY_NBD_OPT_GO UINT32_C(7)
#define FERRY_NBD_OPT_STRUCTURED_REPLY UINT32_C(8)
#define FERRY_NBD_OPT_LIST_META_CONTEXT UINT32_C(9)
#define FERRY_NBD_OPT_SET_META_CONTEXT UINT32_C(10)

#define FERRY_NBD_REP_ACK UINT32_C(1)
#define FERRY_NBD_REP_SERVER UINT32_C(2)
#define FERRY_NBD_REP_INFO UINT32_C(3)
#define FERRY_NBD_REP_META_CONTEXT UINT32_C(4)
#define FERRY_NBD_REP_ERR_UNSUP UINT32_C(0x80000001)
#define FERRY_NBD_REP_ERR_INVALID UINT32_C(0x80000003)
#define FERRY_NBD_REP_ERR_UNKNOWN UINT32_C(0x80000006)
#define FERRY_NBD_REP_ERR_SHUTDOWN UINT32_C(0x80000007)
#define FERRY_NBD_REP_ERR_TOO_BIG UINT32_C(0x80000009)

#define FERRY_NBD_INFO_EXPORT 0
#define FERRY_NBD_INFO_NAME 1
#define FERRY_NBD_INFO_DESCRIPTION 2
#define FERRY_NBD_INFO_BLOCK_SIZE 3

/* An export's transmission flags. */
enum {
	FERRY_NBD_HAS_FLAGS = 1u << 0,
	FERRY_NBD_READ_ONLY = 1u << 1,
	FERRY_NBD_SEND_FLUSH = 1u << 2,
	FERRY_NBD_SEND_FUA = 1u << 3,
	FERRY_NBD_SEND_TRIM = 1u << 5,
	FERRY_NBD_SEND_WRITE_ZEROES = 1u << 6,
	FERRY_NBD_SEND_DF = 1u << 7,
	FERRY_NBD_CAN_MULTI_CONN = 1u << 8,
};

/* Commands are the client's numbers, too. */
#define FERRY_NBD_CMD_READ 0
#define FERRY_NBD_CMD_WRITE 1
#define FERRY_NBD_CMD_DISC 2
#define FERRY_NBD_CMD_FLUSH 3
#define FERRY_NBD_CMD_TRIM 4
#define FERRY_NBD_CMD_WRITE_ZEROES 6
#define FERRY_NBD_CMD_BLOCK_STATUS 7

enum {
	FERRY_NBD_CMD_FUA = 1u << 0,
	FERRY_NBD_CMD_NO_HOLE = 1u << 1,
	FERRY_NBD_CMD_DF = 1u << 2,
	FERRY_NBD_CMD_REQ_ONE = 1u << 3,
};

#define FERRY_NBD_EPERM UINT32_C(1)
#define FERRY_NBD_EIO UINT32_C(5)
#define FERRY_NBD_EINVAL UINT32_C(22)
#define FERRY_NBD_ENOSPC UINT32_C(28)
#define FERRY_NBD_ESHUTDOWN UINT32_C(108)

enum { FERRY_NBD_CONTEXT_ALLOCATION = 1 }; /* Our id of "base:allocation". */

/* A bounded cursor over bytes that came from a client. Once it fails, it stays failed. */
struct ferry_nbd_reader {
	const uint8_t *bytes;
	uint32_t left_bytes;
	bool has_failed;
};

uint16_t ferry_nbd_read_u16(struct ferry_nbd_reader *reader);
uint32_t ferry_nbd_read_u32(struct ferry_nbd_reader *reader);
uint64_t ferry_nbd_read_u64(struct ferry_nbd_reader *reader);
/* Points into the reader's bytes; NULL when there aren't so many. */
const uint8_t *ferry_nbd_read_bytes(struct ferry_nbd_reader *reader, uint32_t length_bytes);

/* A bounded cursor that is written to. What doesn't fit is a bug of ours. */
struct ferry_nbd_writer {
	uint8_t *bytes;
	uint32_t size_bytes;
	uint32_t used_bytes;
};

void ferry_nbd_write_u16(struct ferry_nbd_writer *writer, uint16_t value);
void ferry_nbd_write_u32(struct ferry_nbd_writer *writer, uint32_t value);
void ferry_nbd_write_u64(struct ferry_nbd_writer *writer, uint64_t value);
void ferry_nbd_write_bytes(struct ferry_nbd_writer *writer, const void *bytes,
			   uint32_t length_bytes);

struct ferry_nbd_option {
	uint32_t option;
	uint32_t length_bytes;
};

/* -EBADMSG: this is not an option. The length is the client's word, unchecked. */
int ferry_nbd_option_decode(const uint8_t bytes[FERRY_NBD_OPTION_HEADER_BYTES],
			    struct ferry_nbd_option *ret) FERRY_MUST_CHECK;

struct ferry_nbd_request {
	uint16_t flags;
	uint16_t command;
	uint64_t cookie; /* The client's name of the request, given back as it came. */
	uint64_t offset_bytes;
	uint32_t length_bytes;
};

/* -EBADMSG: this is not a request; the stream can't be trusted any more. */
int ferry_nbd_request_decode(const uint8_t bytes[FERRY_NBD_REQUEST_BYTES],
			     struct ferry_nbd_request *ret) FERRY_MUST_CHECK;

/* What clients see of one export. */
struct ferry_nbd_shape {
	const char *name; /* NULL: no export here. */
	const char *description;
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint16_t flags; /* Transmission flags, without SEND_DF. */
};

/*
 * Whether @request may be carried out on @shape: 0, or the protocol's error for the client.
 * DISC is always allowed. @has_structured and @has_allocation: what was negotiated.
 */
uint32_t ferry_nbd_request_check(const struct ferry_nbd_request *request,
				 const struct ferry_nbd_shape *shape, bool has_structured,
				 bool has_allocation);

/* The protocol's error for a negative errno of the block port. */
uint32_t ferry_nbd_error_from_errno(int error);

/*
 * The header of the reply to @request, with @error (the protocol's, 0: done). With structured
 * replies READ and BLOCK_STATUS get one chunk that is also the last; a READ's data follows it.
 * Returns its length.
 */
uint32_t ferry_nbd_reply_encode(const struct ferry_nbd_request *request, bool has_structured,
				uint32_t error, uint8_t ret[FERRY_NBD_REPLY_HEADER_BYTES_MAX]);
