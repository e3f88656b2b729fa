/*
 * sim_store.h - a node's stable storage: it outlives the agent and the machine's power.
 *
 * Owns:    a few values by key.
 * Callers: sim_node; the ownership through the port.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/ports/store.h"
#include "tests/sim/sim.h"

enum { SIM_STORE_VALUES_MAX = 8, SIM_STORE_KEY_MAX = 64 };

struct sim_store {
	struct ferry_store store;
	struct {
		char key[SIM_STORE_KEY_MAX];
		size_t length_bytes;
		uint8_t bytes[FERRY_STORE_VALUE_BYTES_MAX];
	} values[SIM_STORE_VALUES_MAX];
	uint32_t saves_to_fail; /* So many saves say -EIO; each may or may not be there. */
	uint64_t saves;
	struct sim *sim;
};

void sim_store_init(struct sim_store *store, struct sim *sim);
