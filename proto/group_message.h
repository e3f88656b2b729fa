/*
 * group_message.h - what agents tell the whole group: who owns which pool, under which epoch, who
 * has drained, whose path works.
 *
 * Every message has the same fields, in a fixed layout with a CRC32C (docs/wire-format.md); which
 * of them mean something depends on its type. corosync authenticates and encrypts on the way.
 *
 * Owns:    nothing.
 * Callers: fencing/ownership_messages.c; tests/fuzz.
 * Thread:  any.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/base/error.h"

enum {
	FERRY_GROUP_MAGIC = 0x47525246, /* "FRRG" */
	FERRY_GROUP_VERSION = 1,
	FERRY_GROUP_MESSAGE_BYTES = 128,
};

enum ferry_group_type {
	FERRY_GROUP_STATE = 1, /* What the sender has persisted and installed, and its path. */
	FERRY_GROUP_CLAIM,     /* owner wants epoch. */
	FERRY_GROUP_ACK,       /* The sender has epoch on its disk and installed; maybe drained. */
	FERRY_GROUP_IN_FORCE,  /* The owner has a majority and the lun: the epoch is in force. */
	FERRY_GROUP_RELEASE,   /* The owner has stopped and drained: nobody owns the pool. */
	FERRY_GROUP_HANDOVER,  /* The same, and the node in owner is to claim it now. */
	FERRY_GROUP_FENCE,     /* The sender asks that victim be fenced from the pool. */
	FERRY_GROUP_FENCED,    /* victim is; with PROVEN its writes are dead, too. */
	FERRY_GROUP_NOTED,     /* The owner knows of the restart that victim's agent told of. */
	FERRY_GROUP_TYPE_LAST = FERRY_GROUP_NOTED,
};

enum {
	FERRY_GROUP_DRAINED = 1u << 0, /* Nothing older than epoch is in flight at the sender. */
	FERRY_GROUP_IS_IN_FORCE = 1u << 1, /* STATE: the sender knows epoch to be in force. */
	FERRY_GROUP_HAS_PATH = 1u << 2,	   /* STATE: the sender's own path to the lun works. */
	FERRY_GROUP_PROVEN = 1u << 3,	   /* FENCED: verified at the lun; else it failed. */
	FERRY_GROUP_REMINDS = 1u << 4,	   /* FENCED: of what was before; answers nobody. */
	FERRY_GROUP_ASKS = 1u << 5,	   /* STATE: the others are to say theirs after it. */
	FERRY_GROUP_FLAGS_ALL = FERRY_GROUP_DRAINED | FERRY_GROUP_IS_IN_FORCE |
				FERRY_GROUP_HAS_PATH | FERRY_GROUP_PROVEN | FERRY_GROUP_REMINDS |
				FERRY_GROUP_ASKS,
};

struct ferry_group_message {
	enum ferry_group_type type;
	uint32_t flags;
	struct ferry_uuid pool; /* The hash of its name. */
	struct ferry_uuid lineage;
	struct ferry_uuid lun; /* What the sender sees there; all zero while it sees none. */
	struct ferry_epoch epoch;
	struct ferry_node owner;
	uint64_t ring;				     /* The sender's when it sent this. */
	struct ferry_incarnation incarnation;	     /* The sender's. */
	struct ferry_node victim;		     /* FENCE, FENCED, NOTED; */
	struct ferry_incarnation victim_incarnation; /* 0: whichever agent of that node. */
	/*
	 * STATE: the sender has found the target restarted, for the so manieth time, and waits for
	 * the owner to note it; 0: it does not. NOTED: the number that victim's agent told.
	 */
	uint64_t restart;
};

void ferry_group_message_encode(const struct ferry_group_message *message,
				uint8_t ret[FERRY_GROUP_MESSAGE_BYTES]);

/* -EBADMSG: length, magic or checksum; -EPROTONOSUPPORT; -EPROTO: a field. */
int ferry_group_message_decode(const void *bytes, size_t length_bytes,
			       struct ferry_group_message *ret,
			       struct ferry_error *reterr) FERRY_MUST_CHECK;
