/*
 * ublk_stand.h - a ublk driver for tests: devices, their queues and their data are files of a
 * folder, and commands come by the command port. What it does is what Linux 6.12's does, as far as
 * the front end can see.
 *
 * Owns:    its folder and devices.
 * Callers: ublk_test.c.
 * Thread:  the loop's.
 * Rooms:   tests only.
 */
#pragma once

#include <sys/types.h>

#include "agent/adapters/ublk/kernel.h"
#include "agent/adapters/ublk/ublk.h"

enum { UBLK_STAND_DEVICES = 4, UBLK_STAND_PENDING_MAX = 128 };

struct ublk_stand_slot {
	struct ferry_command *fetch; /* The server waits for a request. */
	bool is_asked;		     /* A request is unanswered. */
	bool is_answered;
	int32_t result;
};

struct ublk_stand_device {
	bool is_there;
	int fd;
	struct ublksrv_ctrl_dev_info info;
	struct ublk_params params;
	struct ublk_stand_slot slots[FERRY_UBLK_DEPTH];
	uint32_t recoveries;
	uint32_t busy_count; /* So often START_USER_RECOVERY says EBUSY. */
};

struct ublk_stand {
	struct ferry_commands commands;
	struct ferry_loop *loop;
	struct ferry_timer timer; /* Due at once: before whatever the server waits for. */
	char folder[64];
	pid_t sweeper_pid; /* It removes the folder when this process has ended... */
	int sweeper_fd;	   /* ...and so closed this. */
	char trace[256];   /* A letter for each control command. */
	uint32_t fail_code;
	int fail_result;
	uint32_t reserved_count;
	struct ublk_stand_device devices[UBLK_STAND_DEVICES];
	struct {
		struct ferry_command *command;
		int result;
	} pending[UBLK_STAND_PENDING_MAX];
	uint32_t pending_count;
};

void ublk_stand_init(struct ublk_stand *stand, struct ferry_loop *loop);
void ublk_stand_done(struct ublk_stand *stand);

/* An application's request: the server is asked. */
void ublk_stand_ask(struct ublk_stand *stand, uint32_t id, uint32_t tag, uint32_t op_flags,
		    uint64_t start_sector, uint32_t nr_sectors);
/* The pages of a request. */
void ublk_stand_data_write(struct ublk_stand *stand, uint32_t id, uint32_t tag, const void *from,
			   size_t length_bytes);
void ublk_stand_data_read(struct ublk_stand *stand, uint32_t id, uint32_t tag, void *to,
			  size_t length_bytes);
/* The server's process has ended. */
void ublk_stand_server_died(struct ublk_stand *stand);
