/*
 * private.h - what the files of this folder share.
 *
 * Owns:    see ublk.h.
 * Callers: ublk.c (who is shown, who waits), device.c (life of a device), recover.c (devices of
 *          earlier agents), queue.c (requests), translate.c (the driver's words and ours).
 * Thread:  the loop's.
 * Rooms:   private to adapters/ublk.
 */
#pragma once

#include "agent/adapters/ublk/kernel.h"
#include "agent/adapters/ublk/ublk.h"
#include "agent/base/list.h"

enum { UBLK_CANDIDATES_MAX = 256 };

/* What is being done with a volume's device. */
enum ublk_state {
	UBLK_NONE = 1, /* It has no device. */
	UBLK_FINDING,  /* Looking for one of an earlier agent. */
	UBLK_WAITING,  /* Found, the kernel has not let go of the dead agent yet. */
	UBLK_STARTING, /* A new one, or a found one: not served yet. */
	UBLK_LIVE,     /* Served. */
	UBLK_STOPPING, /* On its way out. */
};

struct ublk_slot {
	struct ublk_device *device;
	struct ferry_command command;
	struct ferry_io io;
	struct ferry_list link; /* In device->waiting. */
	bool has_request;	/* The application's; else the kernel has the slot... */
	bool is_kept;		/* ...or waits for its answer, the next agent's. */
};

struct ublk_device {
	struct ferry_ublk *ublk;
	struct ferry_ublk_volume volume; /* block: NULL: the place is free. */
	uint64_t label;
	enum ublk_state state;
	bool is_recovery; /* STARTING: a found one. */
	uint32_t id;	  /* The driver's, while there is a device. */
	char name[FERRY_UBLK_NAME_BYTES];

	/* The control command under way, and what follows it. */
	struct ferry_command control;
	bool is_in_control;
	void (*on_control)(struct ublk_device *device, int result);
	struct ublksrv_ctrl_dev_info info; /* The kernel's to read and to fill. */
	struct ublk_params params;
	struct ferry_timer timer; /* Of the next step. */
	void (*on_timer)(struct ublk_device *device);
	uint32_t tries_count;

	/* Finding: the devices that there are, by number. */
	uint32_t candidates[UBLK_CANDIDATES_MAX];
	uint32_t candidates_count;

	/* The queue. */
	int fd;
	const struct ublksrv_io_desc *descs; /* NULL: not mapped. */
	struct ublk_slot slots[FERRY_UBLK_DEPTH];
	uint32_t fetches_count;	 /* Slots that the kernel has. */
	uint32_t requests_count; /* Slots with a request. */
	int queue_error;	 /* Of a slot that the kernel did not take. */
	struct ferry_list waiting;
	struct ferry_arena_waiter arena_waiter;
	bool is_arena_wanted;
	struct ferry_task retry_task;
	struct ferry_timer retry_timer;

	/* Who waits. */
	int error; /* Why it is stopped, for who attached. */
	char why[120];
	void (*on_attached)(int error, const char *text, void *context);
	void *attach_context;
	void (*on_detached)(int error, const char *text, void *context);
	void *detach_context;
	bool is_removed;
	void (*on_removed)(void *context);
	void *remove_context;
	bool is_leaving;
	void (*on_left)(void *context);
	void *left_context;
	struct ferry_task news_task;
};

struct ferry_ublk {
	struct ferry_ublk_config config;
	const char *folder; /* Of devices. */
	int control_fd;	    /* -1: not opened yet. */
	struct ublk_device devices[FERRY_UBLK_DEVICES_MAX];
	struct ferry_ublk_counters counters;
};

/* translate.c: no state, no system calls. */
uint64_t ublk_label_of(const struct ferry_ublk_label *label, const char *volume);
/* The same agent's and volume's; the lun or the tenure may be another. */
bool ublk_label_is_kin(uint64_t one, uint64_t other);
void ublk_info_make(uint64_t label, int32_t pid, struct ublksrv_ctrl_dev_info *ret);
/* Whether the driver has all that is needed: what it gave, and what it had to. */
bool ublk_info_is_right(const struct ublksrv_ctrl_dev_info *info);
void ublk_params_make(const struct ferry_block *block, struct ublk_params *ret);
/* Whether a device with @params, of an earlier agent, is this volume as it is now. */
bool ublk_params_fit(const struct ferry_block *block, const struct ublk_params *params);
/* op, flags, lba and length of @ret. -EINVAL, -EOPNOTSUPP: the kernel was told otherwise. */
int ublk_request_translate(const struct ferry_block *block, const struct ublksrv_io_desc *desc,
			   struct ferry_io *ret) FERRY_MUST_CHECK;
/* What the driver is to be told of an I/O that ended with @error. */
int32_t ublk_result_of(const struct ferry_io *io, uint32_t block_bytes, int error);

/* queue.c */
/* Open /dev/ublkcN and offer all slots to the kernel. Negative errno. */
int ublk_queue_open(struct ublk_device *device) FERRY_MUST_CHECK;
void ublk_queue_init(struct ublk_device *device);
/* The kernel has none of its slots any more, and no request is in flight. */
bool ublk_queue_is_over(const struct ublk_device *device);
/* The agent stops: what has not begun stays unanswered. */
void ublk_queue_leave(struct ublk_device *device);
/* There will be no next one for it after all: it fails. */
void ublk_queue_refuse(struct ublk_device *device);
void ublk_queue_close(struct ublk_device *device);

/* device.c */
void ublk_control(struct ublk_device *device, uint32_t code, const void *buffer,
		  size_t buffer_bytes, uint64_t data,
		  void (*next)(struct ublk_device *device, int result));
void ublk_after(struct ublk_device *device, uint64_t delay_ns,
		void (*next)(struct ublk_device *device));
/* Of that number, in /dev. */
void ublk_device_is(struct ublk_device *device, uint32_t id);
int ublk_driver_open(struct ferry_ublk *ublk);
#define UBLK_NO_DRIVER "no ublk: /dev/ublk-control: %s; load the driver: modprobe ublk_drv"
void ublk_device_start(struct ublk_device *device);
/* The device is there (device->id), the queue not yet: START_DEV or END_USER_RECOVERY. */
void ublk_device_serve(struct ublk_device *device);
/* @error: 0, or for who has asked for a device; @why is said, if it is not empty. */
void ublk_device_stop(struct ublk_device *device, int error, const char *why);
/* It is over: nothing of it is left. */
void ublk_device_gone(struct ublk_device *device);
/* Something that others may wait for has changed. */
void ublk_device_news(struct ublk_device *device);
void ublk_say(struct ublk_device *device, enum ferry_severity severity, const char *format, ...)
	FERRY_PRINTF(3, 4);

/* recover.c: FINDING; then NONE, or what becomes of the device that was found. */
void ublk_find(struct ublk_device *device);
