/*
 * rig.h - for tests: a real tgtd in a network namespace of the test's own.
 *
 * The target listens on the same port of two addresses, 127.0.0.1 and 127.0.0.2, so that one
 * initiator's path can be cut and the other's not. Nothing of it is seen outside, nothing stays.
 *
 * Owns:    the target's process, its backing file and directory, the namespace's packet filter.
 * Callers: iscsi_test.c.
 * Thread:  the test's.
 * Rooms:   tests of adapters/iscsi.
 */
#pragma once

#include <sys/types.h>

#include "agent/base/base.h"

enum { RIG_SIZE_BYTES = 64 * 1024 * 1024 };

#define RIG_TARGET "iqn.2026-11.test.ferry:lun"

struct rig {
	pid_t pid; /* 0: not running. */
	char directory[64];
	char hold[96]; /* While it exists, writes to the second MiB wait. */
};

/* Own network namespace, loopback up. false: not allowed here (skip the tests). */
bool rig_enter(void);

void rig_create(struct rig *rig);
/* @params: further lun parameters, e.g. "scsi_id=x"; NULL: none. */
void rig_start(struct rig *rig, const char *params);
void rig_kill(struct rig *rig);
void rig_destroy(struct rig *rig);

/* Run tgtadm with these words; it must succeed. */
void rig_admin(struct rig *rig, const char *words);

void rig_hold(struct rig *rig);
void rig_let_go(struct rig *rig);

/* What becomes of packets to 127.0.0.@last_octet: "drop", "reject with tcp reset"; NULL: all well.
 */
void rig_cut(unsigned int last_octet, const char *how);

/* Read from the backing file, past the target. */
uint8_t rig_peek(struct rig *rig, off_t offset);
