/*
 * load.h - a workload that knows what it wrote: random reads, writes, FLUSH, FUA, zeroes and trims
 * through one or several connections to a volume, each sector checked against agent/check/.
 *
 * One connection is a user's; several are one volume's on several nodes, of which one at a time
 * should serve: what the others answer is checked as well.
 *
 * Owns:    its connections, its memory, the checker, and a record of its latest I/Os.
 * Callers: agent/cli (`ferry torture`), tests/cluster/torture_driver.c.
 * Thread:  the caller's, one.
 * Rooms:   rank 5.
 */
#pragma once

#include <stdio.h>

#include "agent/base/prng.h"
#include "agent/check/check.h"
#include "agent/torture/client.h"

enum {
	TORTURE_CLIENTS_MAX = 8,
	TORTURE_DEPTH_MAX = 32, /* I/Os of one connection. */
	TORTURE_RECORDS_COUNT = 1 << 16,
	TORTURE_VIOLATIONS_MAX = 16, /* More are only counted. */
};

struct torture_config {
	uint64_t seed;
	uint64_t size_bytes; /* Of the range that is written: the volume's beginning. */
	uint32_t depth;
	uint64_t think_ns; /* Pause of each slot between two I/Os, at most. */
};

/* What was asked and how it ended; for the history of a violation. */
enum torture_record_kind {
	TORTURE_RECORD_BEGIN = 1,
	TORTURE_RECORD_END,
	TORTURE_RECORD_LOST,
	TORTURE_RECORD_FORGIVE,
};

struct torture_record {
	enum torture_record_kind kind;
	enum ferry_op op;
	uint32_t flags;
	uint32_t client;
	uint64_t time_ns;
	uint64_t sector;
	uint32_t sectors_count;
	uint64_t tag;
	int error;
};

struct torture_slot {
	struct torture_load *load;
	struct torture_client *client;
	struct ferry_check_io io;
	bool is_busy;
	uint64_t began_ns;
	uint64_t due_ns;
	uint8_t *buffer;
};

struct torture_figures {
	uint64_t reads, writes, fua_writes, zeroes, trims, flushes; /* That succeeded. */
	uint64_t errors;
	uint64_t flush_errors;
	uint64_t connections, disconnections;
	uint64_t cut_off; /* I/Os that went with their connection. */
	uint64_t losses, forgiven;
	uint64_t stall_ns_max;	 /* The longest time in which nothing succeeded. */
	uint64_t latency_ns_max; /* Of an I/O that succeeded. */
	uint64_t violations;
};

struct torture_load {
	struct torture_config config;
	struct ferry_prng prng;
	struct ferry_check check;
	void *memory;
	struct torture_client clients[TORTURE_CLIENTS_MAX];
	uint64_t retry_ns[TORTURE_CLIENTS_MAX];
	bool is_held[TORTURE_CLIENTS_MAX];
	/* FLUSHes that failed since the last that succeeded, by connection. */
	uint32_t flush_failures[TORTURE_CLIENTS_MAX];
	uint32_t clients_count;
	struct torture_slot slots[TORTURE_CLIENTS_MAX * TORTURE_DEPTH_MAX];
	uint8_t *buffers;
	struct torture_record *records;
	uint64_t records_count;
	uint32_t busy;
	bool is_ending; /* No new I/O. */
	uint64_t began_ns;
	uint64_t success_ns; /* When an I/O succeeded last. */
	struct torture_figures figures;
	FILE *report; /* Where violations are told, with their history. */
};

/* Of a range that reads as zeroes, durably; see torture_load_wipe(). -ENOMEM, -EINVAL. */
int torture_load_init(struct torture_load *load, const struct torture_config *config,
		      struct ferry_error *reterr) FERRY_MUST_CHECK;
void torture_load_done(struct torture_load *load);

int torture_load_add(struct torture_load *load, const char *uri,
		     struct ferry_error *reterr) FERRY_MUST_CHECK;

/* Connect, if need be, and make the range zeroes, durably, before the first I/O. */
int torture_load_wipe(struct torture_load *load, uint64_t timeout_ns,
		      struct ferry_error *reterr) FERRY_MUST_CHECK;

/* Start what is due, wait at most @timeout_ms, take what came; also looks at @fd (-1: none). */
void torture_load_run(struct torture_load *load, int timeout_ms, int fd, bool *ret_fd_is_ready);

/* Start nothing more; whether all has ended. */
bool torture_load_end(struct torture_load *load);

/* Whether any connection carries I/O. */
bool torture_load_is_ready(const struct torture_load *load);

/* Once ended: read the whole range through @client. False: a read failed, try again. */
bool torture_load_read_all(struct torture_load *load, uint64_t timeout_ns);

/* See agent/check/check.h. */
void torture_load_lost(struct torture_load *load);
void torture_load_forgive(struct torture_load *load);

/* The application at that connection dies with all its I/O. */
void torture_load_drop(struct torture_load *load, uint32_t client);
/* It is not to begin (again) until it may. */
void torture_load_hold(struct torture_load *load, uint32_t client, bool is_held);

uint64_t torture_now_ns(void);
