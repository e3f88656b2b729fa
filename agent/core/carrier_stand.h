/*
 * carrier_stand.h - node 2's carrier of one lun, for tests: its path is scripted, and what it tells
 * node 1's agent is kept.
 *
 * Owns:    all of that; one of each.
 * Callers: carrier_test.c, carrier_ghost_test.c, carrier_link_test.c, carrier_room_test.c.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/core/carrier.h"
#include "agent/core/key.h"
#include "tests/sim/core_stand.h"

struct carrier_stand {
	struct stand stand;
	struct stand_path path;
	struct ferry_lane lane;
	struct ferry_view view;
	struct ferry_carrier carrier;
	struct ferry_carrier_lun lun;
	struct ferry_link link_in;
	struct ferry_wire_header replies[64];
	uint32_t replies_count;
	uint32_t resets; /* Of the link. */
	uint32_t resumes;
	const struct ferry_wire_header *offered; /* Waits in the link; NULL: nothing does. */
	struct ferry_segments offered_data;
	uint64_t losses;
	uint32_t drains;
	int lay_refusal; /* At once; or what the lun answers. */
	int lay_error;
	uint32_t lays;
};

extern struct carrier_stand at;
extern const struct ferry_uuid lineage;
extern const struct ferry_uuid lun_uuid;
extern const struct ferry_link_ops link_ops;

/* Node 1 owns the pool in epoch 5, and is connected. */
int carrier_setup(void **state);
int carrier_teardown(void **state);

/* Of node 1's fourth agent, in epoch 5, two blocks. */
struct ferry_wire_header request(uint64_t sequence, enum ferry_op op);

/* Node 1 sends it, its data with it. */
void say(const struct ferry_wire_header *header);

/* It is, at once, and nothing of it reaches the path. */
void expect_refused(const struct ferry_wire_header *header, enum ferry_cause cause);
