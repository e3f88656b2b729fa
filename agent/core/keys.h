/*
 * keys.h - what this node may conclude from the registrations at a lun: pure functions.
 *
 * Owns:    nothing.
 * Callers: registrar.c; tests/golden.
 * Thread:  any.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/ports/fence.h"

struct ferry_keys {
	const struct ferry_key *keys;
	uint32_t count;
	struct ferry_key holder; /* 0: the lun is not reserved. */
};

enum ferry_keys_join {
	FERRY_KEYS_REGISTER = 1,
	FERRY_KEYS_REPLACE, /* Register in an elder's place: then have this nexus killed. */
	FERRY_KEYS_FOREIGN, /* Somebody else uses the lun: hands off. */
	FERRY_KEYS_NEWER,   /* A later agent of this node's: the state directory is an old one. */
	FERRY_KEYS_LOST,    /* Only who has kept its key may come back, and this node has not. */
};

/* Before this node registers; a node's key in view.only_if_kept's sense is its elder's too. */
enum ferry_keys_join ferry_keys_join(const struct ferry_keys *lun, struct ferry_key own,
				     bool only_if_kept);

enum ferry_keys_take {
	FERRY_KEYS_REFUSE = 1, /* Foreign keys. */
	FERRY_KEYS_PREEMPT,    /* victim. */
	FERRY_KEYS_RESERVE,
	FERRY_KEYS_ABORT, /* Only those who may are registered: now what the suspects sent. */
};

/* Before the lun is this node's: the next step. */
enum ferry_keys_take ferry_keys_take(const struct ferry_keys *lun, struct ferry_key own,
				     const struct ferry_drained_keys *drained,
				     struct ferry_key *ret_victim);
