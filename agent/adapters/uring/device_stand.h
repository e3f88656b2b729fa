/*
 * device_stand.h - a lun that is a file, or a loop device on one, for tests; and what became of
 * each attempt.
 *
 * Owns:    the folder, the loop device, the io_uring loop, the device that was opened.
 * Callers: device_test.c, device_open_test.c, device_loss_test.c.
 * Thread:  the test's.
 * Rooms:   tests only.
 */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/uring/device.h"

enum {
	ARENA_BYTES = 8 * 1024 * 1024,
	SIZE_BYTES = 16 * 1024 * 1024,
	PATTERN = 0xa5,
};

struct fixture {
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_device *device;
	struct ferry_arena arena;
	struct ferry_timer guard;
	char folder[64];
	char file[96];
	void *memory;
	char device_name[32]; /* What is opened: the file, or a loop device on it. */
	int loop_fd;
	bool is_on_loop_device;

	uint32_t ups, downs;
	uint32_t rooms;
	uint32_t left_count; /* Attempts not yet released. */
};

/* One attempt and what became of it. */
struct trial {
	struct ferry_attempt attempt;
	struct fixture *fixture;
	enum ferry_outcome outcome;
	enum ferry_cause cause;
	bool is_released;
};

/* With nothing opened yet; with the file; with the arena registered too; with a loop device. */
int setup_bare(void **state);
int setup_file(void **state);
int setup_file_fixed(void **state);
int setup_loop_device(void **state);
int teardown(void **state);

/* There are no loop devices here: the test is skipped. */
bool skip_without_device(struct fixture *f);

int device_open(struct fixture *f, const char *path, uint32_t depth, uint32_t block_bytes,
		struct ferry_error *reterr);
void file_make(const char *path, off_t size_bytes);

/* A loop device that goes away by itself with our descriptor, however this process ends. */
int loop_device_make(struct fixture *f, uint32_t block_bytes, uint32_t flags);

void trial_init(struct fixture *f, struct trial *trial, enum ferry_op op, uint64_t lba,
		uint32_t length_blocks, uint32_t flags);
int trial_submit(struct trial *trial);
void run_all(struct fixture *f);

/* One I/O, from submission to release; @data is read into or written from. */
struct trial io(struct fixture *f, enum ferry_op op, uint64_t lba, uint32_t length_blocks,
		uint32_t flags, uint8_t *data);
void io_ok(struct fixture *f, enum ferry_op op, uint64_t lba, uint32_t length_blocks,
	   uint32_t flags, uint8_t *data);

void expect_bytes(const uint8_t *data, size_t length_bytes, uint8_t value);
