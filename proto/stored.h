/*
 * stored.h - what an agent finds in its state directory: the values of records whose checksum was
 * right. They are no peer's words; but an old version's, a newer one's, or another node's they may
 * be, and what is misread here is voted with (rules 8 and 12).
 *
 * Owns:    nothing.
 * Callers: fencing/ownership_epoch.c; agent/cluster.c; tests/fuzz.
 * Thread:  any.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/base.h"

enum {
	FERRY_STORED_EPOCH_BYTES_FIRST = 16 + 8 + 4, /* Without the epoch that is settled. */
	FERRY_STORED_EPOCH_BYTES_SECOND = FERRY_STORED_EPOCH_BYTES_FIRST + 8, /* Nor a tenure. */
	FERRY_STORED_EPOCH_BYTES = FERRY_STORED_EPOCH_BYTES_SECOND + 8 + 8,
	FERRY_STORED_INCARNATION_BYTES = 8,
};

/* A pool's epoch, as this node has acknowledged it. */
struct ferry_stored_epoch {
	struct ferry_uuid lineage;
	struct ferry_epoch epoch;   /* Never 0: that is not stored. */
	struct ferry_node owner;    /* This node, while it owned the pool under it; else 0. */
	struct ferry_epoch settled; /* Up to here no taking was left half done; not above epoch. */
	/*
	 * The last epochs that this node owned the pool by, each the very next: nobody else had it
	 * in between. From the first to the last of them, not above epoch; both 0: there are none.
	 */
	struct ferry_epoch tenure, tenure_last;
};

void ferry_stored_epoch_encode(const struct ferry_stored_epoch *epoch,
			       uint8_t ret[FERRY_STORED_EPOCH_BYTES]);
/* 0 or -EBADMSG. */
int ferry_stored_epoch_decode(const uint8_t *bytes, size_t length_bytes,
			      struct ferry_stored_epoch *ret) FERRY_MUST_CHECK;

/* The agent's last incarnation: never 0, and never the last that there is. 0 or -EBADMSG. */
void ferry_stored_incarnation_encode(struct ferry_incarnation incarnation,
				     uint8_t ret[FERRY_STORED_INCARNATION_BYTES]);
int ferry_stored_incarnation_decode(const uint8_t *bytes, size_t length_bytes,
				    struct ferry_incarnation *ret) FERRY_MUST_CHECK;
