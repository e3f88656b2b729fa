/*
 * private.h - what the files of this folder share: finding disks, one command, threads.
 *
 * Owns:    nothing.
 * Callers: agent/adapters/sgio only.
 * Thread:  as each says.
 * Rooms:   private.
 */
#pragma once

#include <pthread.h>
#include <scsi/sg.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "agent/adapters/sgio/flusher.h"
#include "agent/adapters/sgio/sgio.h"
#include "agent/ports/io.h"
#include "proto/scsi_reservation.h"

enum {
	FERRY_SGIO_PATHS_MAX = 16, /* Of one multipath map. */
	FERRY_SGIO_NAME_MAX = 64,
	FERRY_SGIO_ATTENTIONS_MAX = 4,
	FERRY_SGIO_RESET_ONLY = 0x100, /* SG_SCSI_RESET_NO_ESCALATE, which libc's header lacks. */
};

/* ---- find.c: which disks are behind a block device. ---- */

struct ferry_sgio_disks {
	uint32_t count;
	bool is_untrue; /* A target of which PREEMPT AND ABORT proves nothing. */
	char names[FERRY_SGIO_PATHS_MAX][FERRY_SGIO_NAME_MAX]; /* In /dev. */
};

/* -EOPNOTSUPP: as ferry_sgio_open(). @sysfs is "/sys". */
int ferry_sgio_find(const char *sysfs, dev_t number, struct ferry_sgio_disks *ret,
		    struct ferry_error *reterr) FERRY_MUST_CHECK;

/* ---- command.c: one SCSI command by one path. Any thread; blocks. ---- */

enum ferry_sgio_answer {
	FERRY_SGIO_GOOD = 1,
	FERRY_SGIO_CONFLICT,
	FERRY_SGIO_ATTENTION,	/* Not executed; again, at once. */
	FERRY_SGIO_BUSY,	/* Not executed; again, later. */
	FERRY_SGIO_UNSUPPORTED, /* The target does not know this command. */
	FERRY_SGIO_REFUSED,	/* The target's own word, whatever else it was. */
	FERRY_SGIO_UNSENT,	/* Nothing left the node. */
	FERRY_SGIO_UNKNOWN,	/* No answer: executed or not. */
};

struct ferry_sgio_command {
	uint8_t cdb[FERRY_PR_CDB_BYTES];
	uint8_t *data;	     /* NULL: none goes either way. */
	uint32_t data_bytes; /* Set to what came, for one that reads. */
	bool is_out;
	bool changes_keys; /* Not after a reset was reported: the keys are to be read first. */
	uint32_t timeout_ms;
	struct ferry_sense sense; /* ATTENTION, UNSUPPORTED, REFUSED. */
	int error;		  /* UNSENT: the ioctl's; 0: the host's word. */
	uint32_t host_status;	  /* The kernel's, where it says anything. */
	bool is_checked;	  /* CHECK CONDITION, if without sense. */
};

enum ferry_sgio_answer ferry_sgio_send(int fd, struct ferry_sgio_command *command);

/* LUN RESET, and nothing more if that fails. 0, or -ETIMEDOUT: no answer; -ENOTCONN; -EIO. */
int ferry_sgio_reset(int fd) FERRY_MUST_CHECK;

/* What a completed SG_IO means; apart from the above for tests. */
enum ferry_sgio_answer ferry_sgio_judge(const struct sg_io_hdr *header, struct ferry_sense *ret);

/* ---- thread.c: a thread that is woken by an eventfd. ---- */

enum { FERRY_SGIO_STACK_BYTES = 256 * 1024 };

void ferry_sgio_signal(int fd);
void ferry_sgio_await(int fd);

/* ---- flusher.c ---- */

/* What the end of a SYNCHRONIZE CACHE proves. */
struct ferry_sgio_flush_end {
	enum ferry_outcome outcome;
	enum ferry_cause cause;
	bool may_repeat; /* That is what it is if it says so again and again; */
	bool may_wait;	 /* or if it was not executed, again and again. */
};

struct ferry_sgio_flush_end ferry_sgio_flush_judge(enum ferry_sgio_answer answer,
						   const struct ferry_sgio_command *command);

/* For tests, too: whatever the descriptor is. */
int ferry_sgio_flusher_start(const struct ferry_sgio_flusher_config *config,
			     struct ferry_sgio_flusher **ret,
			     struct ferry_error *reterr) FERRY_MUST_CHECK;

/* ---- walk.c: a whole request, on the thread. ---- */

/* The thread's, and while it has a request nobody else's. */
struct ferry_sgio_worker {
	atomic_uint references; /* The adapter's and the thread's. */
	atomic_bool is_over;
	int go_fd;			  /* eventfd: there is a request, or it is over. */
	int done_fd;			  /* eventfd: the request is done. */
	struct ferry_sgio_worker *lender; /* Whose descriptors these are; NULL: its own. */
	int disks[FERRY_SGIO_PATHS_MAX];
	uint32_t disks_count;
	uint32_t disk;		      /* That answered last. */
	enum ferry_laying_way laying; /* 0: PREEMPT would prove nothing. */
	uint64_t quiesce_time_ns;

	struct ferry_fence_request request; /* A copy: its owner may have given up. */
	int error;
	struct {
		uint8_t asc, ascq;
	} attentions[FERRY_SGIO_ATTENTIONS_MAX];
	uint32_t attentions_count;
	bool has_seen_reset; /* In this request. */

	/* Proven dead while registrations were at this generation. */
	struct ferry_key laid;
	uint32_t laid_generation;
};

/* Whether the target can do all that is needed. As ferry_sgio_open(). */
int ferry_sgio_probe(struct ferry_sgio_worker *worker, struct ferry_error *reterr) FERRY_MUST_CHECK;

/* Do worker->request; what came of it is there, and in worker->error. */
void ferry_sgio_walk(struct ferry_sgio_worker *worker);

/* ---- sgio.c ---- */

/* For tests, too: with descriptors that are opened already, which are the worker's from now on. */
int ferry_sgio_start(const struct ferry_sgio_config *config, const int *disks, uint32_t disks_count,
		     bool is_untrue, struct ferry_sgio **ret,
		     struct ferry_error *reterr) FERRY_MUST_CHECK;
