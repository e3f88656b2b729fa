/*
 * device_private.h - the device's insides, shared by its two files.
 *
 * Owns:    nothing.
 * Callers: device.c (I/O), device_open.c (opening, identity).
 * Thread:  the loop's.
 * Rooms:   private to adapters/uring.
 */
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include "agent/adapters/uring/device.h"
#include "agent/adapters/uring/ring.h"

enum {
	FERRY_DEVICE_NOTE_MAX = 256,
	/* What one step of writing zeroes by hand uses over and over. */
	FERRY_DEVICE_ZEROES_BYTES = FERRY_CHUNK_BYTES,
};

/* What a request is at; WRITE_ZEROES goes down the list as far as it must. */
enum ferry_device_step {
	FERRY_DEVICE_STEP_DATA = 1,   /* Read or write the segments. */
	FERRY_DEVICE_STEP_PUNCH,      /* Deallocate. */
	FERRY_DEVICE_STEP_ZERO_RANGE, /* Zero, keeping the space. */
	FERRY_DEVICE_STEP_ZERO_WRITE, /* Write zeroes: the device knows no better way. */
	FERRY_DEVICE_STEP_SYNC,	      /* FLUSH, or FUA of the steps that have no such flag. */
};

struct ferry_device_request {
	struct ferry_uring_request ring;
	struct ferry_flusher_request flush;
	struct ferry_device *device;
	struct ferry_attempt *attempt;
	struct ferry_list link; /* In device->free. */
	enum ferry_device_step step;
	uint32_t done_bytes;
	struct iovec parts[FERRY_SEGMENTS_MAX];
};

struct ferry_device {
	struct ferry_path path;
	struct ferry_uring_loop *loop;
	struct ferry_lun_identity identity;
	char note[FERRY_DEVICE_NOTE_MAX];
	int fd;
	bool is_block_device;
	bool is_cached;	  /* By the kernel, or maybe: anything but a plain disk. */
	bool is_reserved; /* In the loop: depth requests and the probe. */
	bool is_closing;
	bool is_in_callback;
	bool is_going_down; /* is_up is false, and on_state() waits for those in flight. */
	bool is_room_wanted;
	struct ferry_flusher *flusher; /* NULL: the kernel flushes. */
	bool is_fua_two_steps;	       /* A write, and then a flush: there is or was a flusher. */
	bool lacks_punch;
	bool lacks_zero_range;
	uint32_t whole_bytes_max; /* What goes to a block device as one command. */
	uint8_t *zeroes;	  /* FERRY_DEVICE_ZEROES_BYTES. */

	struct ferry_device_request *requests;
	struct ferry_list free;
	uint32_t depth;
	uint32_t inflight_count;

	struct ferry_task settle; /* Down, and nothing was in flight. */
	struct ferry_timer probe_timer;
	struct ferry_uring_request probe;
	bool is_probing;
	uint8_t *probe_block; /* One block. */
};

extern const struct ferry_path_ops ferry_device_path_ops;

void ferry_device_settle_run(struct ferry_task *task);
void ferry_device_probe_timer_run(struct ferry_timer *timer);
void ferry_device_probe_run(struct ferry_uring_request *request, int result);
void ferry_device_request_run(struct ferry_uring_request *request, int result);
void ferry_device_flush_run(struct ferry_flusher_request *request, enum ferry_outcome outcome,
			    enum ferry_cause cause);

/* The size now, in bytes; negative errno. */
int64_t ferry_device_size_bytes(int fd, bool is_block_device);
