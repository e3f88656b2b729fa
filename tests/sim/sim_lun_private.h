/*
 * sim_lun_private.h - between the files of the simulated lun.
 *
 * Owns:    nothing.
 * Callers: sim_lun.c, sim_reservations.c.
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "tests/sim/sim_lun.h"

uint64_t sim_lun_latency_ns(const struct sim_lun *lun);

/* The answer sets out for the initiator. */
void sim_command_reply_in(struct sim_command *command, uint64_t delay_ns);

/* Nobody will answer it; freed, or when its session ends. */
void sim_command_forget(struct sim_command *command);

/* What @node has in the target's queue is gone. */
void sim_lun_abort_nexus(struct sim_lun *lun, uint32_t node);

/*
 * Whether commands of @node's, or of SIM_ALL_NODES, that were accepted before @until are in the
 * target's queue.
 */
bool sim_lun_is_running(const struct sim_lun *lun, uint32_t node, uint64_t until);

/* A request's turn has come. */
void sim_lun_land_fence(struct sim_command *command);
