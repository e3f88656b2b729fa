/*
 * key.h - registration keys: 8 bits that say Ferry, 24 bits of node id, 32 of incarnation.
 *
 * Owns:    nothing.
 * Callers: registrar.c, laying.c, carrier.c, fencing/.
 * Thread:  any.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/base/base.h"
#include "agent/ports/fence.h"

enum { FERRY_KEY_MAGIC = 0xfe, FERRY_KEY_NODE_MAX = (1 << 24) - 1 };

static inline struct ferry_key ferry_key_make(struct ferry_node node,
					      struct ferry_incarnation incarnation)
{
	ferry_assert(node.v > 0 && node.v <= FERRY_KEY_NODE_MAX);
	ferry_assert(incarnation.v > 0);
	return (struct ferry_key){(uint64_t)FERRY_KEY_MAGIC << 56 | (uint64_t)node.v << 32 |
				  (incarnation.v & UINT32_MAX)};
}

/*
 * A name that no agent has. To abort by it proves dead what nobody is known to have in flight,
 * where aborts are done by LUN RESET; elsewhere the lun knows everybody's.
 */
static inline struct ferry_key ferry_key_of_nobody(void)
{
	return (struct ferry_key){(uint64_t)FERRY_KEY_MAGIC << 56};
}

/*
 * The same, where a taking may have been left half done: then the lun need not know everybody's,
 * and what it cannot prove is not proven.
 */
static inline struct ferry_key ferry_key_of_forgotten(void)
{
	return (struct ferry_key){(uint64_t)FERRY_KEY_MAGIC << 56 | 1};
}

/* Whether it is one of ours at all; foreign keys mean that somebody else uses the lun. */
static inline bool ferry_key_is_ours(struct ferry_key key)
{
	return key.v >> 56 == FERRY_KEY_MAGIC;
}

static inline struct ferry_node ferry_key_node(struct ferry_key key)
{
	return (struct ferry_node){(uint32_t)(key.v >> 32) & FERRY_KEY_NODE_MAX};
}

static inline uint32_t ferry_key_incarnation(struct ferry_key key)
{
	return (uint32_t)key.v;
}
