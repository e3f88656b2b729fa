/*
 * nbd_stand.h - the server on a real loop and real sockets, for tests: two exports of one volume in
 * memory, on a socket in a folder of its own.
 *
 * Owns:    the loop and its thread, the memory, the folder, the server until it is freed.
 * Callers: the tests of this room, client_stand.c.
 * Thread:  the loop has one of its own, and the test is another: what touches the server or the
 *          volume is called on the loop. Sockets of the test's are plain and blocking, and give up
 *          after PATIENCE_S.
 * Rooms:   tests only.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/adapters/nbd/block_stub.h"
#include "agent/adapters/nbd/nbd.h"
#include "agent/adapters/uring/loop.h"

enum {
	PATIENCE_S = 10,
	BLOCK = 512,
	VOLUME_BYTES = 64 * 1024 * 1024,
	ARENA_BYTES = 8 * 1024 * 1024,
	REGION_BYTES = 64 * 1024,
};

struct fixture {
	char directory[32];
	char path[64];
	char listen[80];
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_region region;
	struct ferry_arena arena;
	void *region_memory, *arena_memory;
	uint8_t *bytes;
	struct ferry_block_stub stub;
	struct ferry_nbd_config config;
	struct ferry_nbd_server *server;
	pthread_t thread;
	struct ferry_uring_waker waker;
	void (*call)(struct fixture *fixture, void *argument);
	void *argument;
	sem_t called;
	sem_t stopped;
	sem_t removed;
};

/* As a good volume does. */
#define WELL ((struct ferry_block_behaviour){0})

/* Poll @condition until it holds. */
#define UNTIL(condition)                                                                           \
	do {                                                                                       \
		const time_t until = time(NULL) + PATIENCE_S;                                      \
		while (!(condition)) {                                                             \
			assert_true(time(NULL) < until);                                           \
			(void)usleep(1000);                                                        \
		}                                                                                  \
	} while (0)

int set_up(void **state);
int tear_down(void **state); /* Fails if a chunk or a file was left behind. */

/* Have the loop's thread call it; back when it has. */
void on_loop(struct fixture *fixture, void (*call)(struct fixture *, void *), void *argument);

/* For on_loop(). */
void do_stop(struct fixture *fixture, void *argument);
void do_free(struct fixture *fixture, void *argument);
void do_take_all(struct fixture *fixture, void *argument); /* The arena's chunks. */
void do_drop_all(struct fixture *fixture, void *argument);

void server_start(struct fixture *fixture);
void wait_for(sem_t *semaphore);

/* Of the volume, from here on. */
void behave(struct fixture *fixture, struct ferry_block_behaviour behaviour);

/* As they are now. */
struct ferry_nbd_counters counters(struct fixture *fixture);
struct ferry_block_stub stub(struct fixture *fixture);
uint32_t chunks_free(struct fixture *fixture);
