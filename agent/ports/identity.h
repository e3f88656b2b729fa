/*
 * identity.h - what a lun is, whatever a node calls its device.
 *
 * Owns:    nothing.
 * Callers: local path adapters fill it at open; core compares; proto carries the uuid.
 * Thread:  any.
 * Rooms:   rank 1.
 */
#pragma once

#include "agent/base/base.h"

/* How far one FLUSH reaches (design, rule 10). */
enum ferry_flush_scope {
	FERRY_FLUSH_SCOPE_LUN = 1, /* Covers every acknowledged write, by any path. */
	FERRY_FLUSH_SCOPE_PATH,	   /* Covers only what this path acknowledged. */
};

/* What a lun says of itself; two paths lead to the same lun if all of it is equal. */
struct ferry_lun_identity {
	char wwid[96]; /* Text, for people: "naa.6001…", "file.<uuid>". NUL-terminated. */
	struct ferry_uuid uuid; /* ferry_lun_identity_seal(): the hash of all the rest. */
	uint64_t size_blocks;
	uint32_t block_bytes; /* Logical block size: 512 or 4096. */
	bool can_discard;     /* Not part of the identity. */
	bool has_volatile_cache;
	bool is_cached_by_node; /* Or maybe: then its flush scope is the path. Not part of it. */
};

/* Compute identity->uuid from wwid, size_blocks and block_bytes. */
void ferry_lun_identity_seal(struct ferry_lun_identity *identity);
