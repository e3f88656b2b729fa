/*
 * base.h - the ground that every other file stands on: assertions, small types, clean-up.
 *
 * Owns:    nothing.
 * Callers: everyone.
 * Thread:  any.
 * Rooms:   rank 0; includes libc's pure headers only.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* For our own bugs only, and always on. Bytes from a peer, a disk or a user never trip one. */
#define ferry_assert(condition)                                                                    \
	do {                                                                                       \
		if (__builtin_expect(!(condition), 0))                                             \
			ferry_assert_failed(#condition, __FILE__, __LINE__, __func__);             \
	} while (0)

/* A place that our own code cannot come to. */
#define ferry_unreachable(what) ferry_assert_failed(what, __FILE__, __LINE__, __func__)

_Noreturn void ferry_assert_failed(const char *condition, const char *file, int line,
				   const char *function);

#define FERRY_ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FERRY_CONTAINER_OF(pointer, type, member)                                                  \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define _cleanup_(function) __attribute__((cleanup(function)))
#define FERRY_MUST_CHECK __attribute__((warn_unused_result))
#define FERRY_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Hand a pointer over: the expression's value is the old one, the variable becomes NULL. */
#define TAKE_PTR(pointer)                                                                          \
	({                                                                                         \
		__auto_type _taken = (pointer);                                                    \
		(pointer) = NULL;                                                                  \
		_taken;                                                                            \
	})

/* One-member structs, so that mixing them fails to compile. */
struct ferry_lba {
	uint64_t v; /* In blocks of the lun's logical block size. */
};
struct ferry_node {
	uint32_t v; /* corosync's node id; 0 is nobody. */
};
struct ferry_incarnation {
	uint64_t v; /* Grows by one at each start of a node's agent; 0 is none. */
};
struct ferry_epoch {
	uint64_t v; /* The counter of a pool's ownership; 0 is none. See fencing/. */
};

/* 128 bits that name a thing: a lun's identity, a pool's lineage. All zero is none. */
struct ferry_uuid {
	uint8_t bytes[16];
};

static inline bool ferry_uuid_equal(const struct ferry_uuid *a, const struct ferry_uuid *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static inline bool ferry_uuid_is_none(const struct ferry_uuid *uuid)
{
	static const struct ferry_uuid none;

	return ferry_uuid_equal(uuid, &none);
}

#define FERRY_NS_PER_US UINT64_C(1000)
#define FERRY_NS_PER_MS UINT64_C(1000000)
#define FERRY_NS_PER_S UINT64_C(1000000000)
#define FERRY_KIB UINT64_C(1024)
#define FERRY_MIB (UINT64_C(1024) * FERRY_KIB)

static inline uint64_t ferry_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t ferry_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}
