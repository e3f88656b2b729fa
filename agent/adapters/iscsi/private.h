/*
 * private.h - the parts of one iSCSI path, for this folder's files only.
 *
 * The library calls back from inside iscsi_service() and iscsi_destroy_context(). Such a callback
 * only notes the answer; ferry_iscsi_settle() acts on it later, outside of the library, so that
 * whoever is told may submit, reset or close at once.
 *
 * Owns:    struct ferry_iscsi.
 * Callers: iscsi.c, call.c, session.c, idle.c, attempt.c, fence.c, reinstate.c.
 * Thread:  the pool's data loop.
 * Rooms:   adapters/iscsi only.
 */
#pragma once

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "agent/adapters/iscsi/iscsi.h"
#include "agent/adapters/iscsi/outcome.h"
#include "agent/adapters/iscsi/registrants.h"
#include "agent/adapters/iscsi/vpd.h"

enum {
	/*
	 * The library is given no more than this many commands that it has not yet written to the
	 * socket. What waits in our own queue has then provably not left this node.
	 */
	FERRY_ISCSI_UNWRITTEN_MAX = 8,
	FERRY_ISCSI_RETRIES_ATTENTION_MAX = 8,
	FERRY_ISCSI_RETRIES_BUSY_MAX = 10,
	FERRY_ISCSI_LOGIN_RETRIES_MAX = 24,
	FERRY_ISCSI_ROUNDS_MAX = 16,
	FERRY_ISCSI_FENCE_CALLS_MAX = 4,
	FERRY_ISCSI_FENCE_CONFLICTS_MAX = 4,
	FERRY_ISCSI_ZEROES_BYTES = FERRY_CHUNK_BYTES,
	FERRY_ISCSI_ERROR_MAX = 256,
};

#define FERRY_ISCSI_BUSY_PAUSE_NS (50 * FERRY_NS_PER_MS)
#define FERRY_ISCSI_BACKOFF_MIN_NS (100 * FERRY_NS_PER_MS)
#define FERRY_ISCSI_BACKOFF_MAX_NS (2 * FERRY_NS_PER_S)
#define FERRY_ISCSI_LOGOUT_NS (500 * FERRY_NS_PER_MS)
/* A session that lived this long was a good one: the next login is not delayed. */
#define FERRY_ISCSI_SETTLED_NS FERRY_NS_PER_S

/* One thing asked of the library: a SCSI command, connect, login, logout, task management. */
struct ferry_iscsi_call {
	struct ferry_list link; /* calls_out, calls_lingering or calls_done. */
	struct ferry_iscsi *iscsi;
	struct scsi_task *task; /* The library's; freed before run(). NULL: not a SCSI command. */
	struct ferry_iscsi_answer answer;
	uint32_t response; /* Task management. */
	bool is_out;	   /* In the library's hands. */
	bool is_management;
	bool sends_data;
	bool moves_blocks;   /* All of them or it is not DONE; else a short answer is usual. */
	const uint8_t *data; /* While run() runs: what the target sent, if not into segments. */
	size_t data_bytes;
	void (*run)(struct ferry_iscsi_call *call); /* Outside of the library. */
};

enum ferry_iscsi_method {
	FERRY_ISCSI_METHOD_READ = 1,
	FERRY_ISCSI_METHOD_WRITE,
	FERRY_ISCSI_METHOD_SYNC,
	FERRY_ISCSI_METHOD_UNMAP,
	FERRY_ISCSI_METHOD_UNMAP_SAME,
	FERRY_ISCSI_METHOD_ZERO_SAME,
	FERRY_ISCSI_METHOD_ZERO_WRITE,
};

/* One attempt in this path's hands: its parts go one after the other. */
struct ferry_iscsi_slot {
	struct ferry_iscsi_call call;
	struct ferry_list link; /* slots_free, waiting or resting; none while the call is out. */
	struct ferry_attempt *attempt;
	enum ferry_iscsi_method method;
	uint32_t done_blocks;
	uint32_t part_blocks;
	uint32_t retries_busy;
	uint32_t retries_attention;
	bool was_sent;
	bool needs_sync; /* FUA by a SYNCHRONIZE CACHE after the last part. */
	struct scsi_iovec iov[FERRY_SEGMENTS_MAX];
};

enum ferry_iscsi_state {
	FERRY_ISCSI_RESTING = 1, /* Until the session timer. */
	FERRY_ISCSI_CONNECTING,
	FERRY_ISCSI_LOGGING_IN,
	FERRY_ISCSI_PROBING,
	FERRY_ISCSI_UP,
	FERRY_ISCSI_LEAVING,
};

struct ferry_iscsi_fence_state {
	struct ferry_list queue; /* Requests that wait; the head's is `current`. */
	struct ferry_fence_request *current;
	uint32_t step;
	uint32_t retries;
	uint32_t conflicts; /* Of PREEMPT, each followed by reading the keys again. */
	bool has_sent;	    /* Something that changes the lun's reservations, or a reset, is out. */
	bool has_seen_reset;	       /* Not of our making, since current began. */
	struct ferry_iscsi_call *call; /* current's, while it is out. */
	struct ferry_iscsi_call calls[FERRY_ISCSI_FENCE_CALLS_MAX];
	bool calls_taken[FERRY_ISCSI_FENCE_CALLS_MAX];
	struct ferry_timer deadline;
	struct ferry_timer pause;
};

/* A login by another's name; see reinstate.c. */
struct ferry_iscsi_reinstatement {
	struct iscsi_context *context; /* NULL: none is under way. */
	struct ferry_watch watch;
	bool is_watched;
	bool is_connected;
	bool is_logging_in;
	bool is_logged_in;
	bool has_failed;
};

struct ferry_iscsi {
	struct ferry_path path;
	struct ferry_fence fence;
	struct ferry_iscsi_config config; /* Its strings are the arrays below. */
	char portal[FERRY_ISCSI_PORTAL_MAX + 1];
	char target[FERRY_ISCSI_NAME_MAX + 1];
	char initiator[FERRY_ISCSI_NAME_MAX + 1];
	char secrets[4][FERRY_ISCSI_SECRET_MAX + 1]; /* user, password, the target's two. */
	char redirect[FERRY_ISCSI_PORTAL_MAX + 1];   /* Where the target sent us, this once. */

	struct iscsi_context *context; /* NULL while RESTING. */
	struct ferry_watch watch;
	bool is_watched;
	bool is_destroying;
	bool is_settling;
	bool is_lost;	   /* The library gave up on the session: drop it. */
	bool is_down_owed; /* on_state(down) is still to be told. */
	bool is_closing;
	bool wants_room;
	bool holds_back;    /* A LUN RESET of ours is under way: feed nothing. */
	bool is_reset_ours; /* The next 29h is the echo of our own LUN RESET. */
	enum ferry_cause down_cause;
	enum ferry_iscsi_state state;
	struct ferry_timer session_timer; /* Deadline of login or logout; backoff. */
	struct ferry_timer retry_timer;
	struct ferry_timer idle_timer;
	struct ferry_iscsi_call idle_call; /* A NOP-Out. */
	uint64_t heard_ns;		   /* When the target last answered anything. */
	bool is_overdue;		   /* The NOP-Out's answer. */
	struct ferry_task work;
	uint64_t backoff_ns;
	uint64_t up_since_ns;

	struct ferry_iscsi_call session_call;
	uint32_t probe_step;
	uint32_t probe_retries;
	struct ferry_iscsi_lun lun; /* As this session sees it. */
	struct ferry_lun_identity identity;
	bool has_identity;
	bool lacks_same;	   /* The target refuses WRITE SAME, or refuses it nobody. */
	bool has_abort;		   /* It knows PREEMPT AND ABORT. */
	bool lacks_persistence;	   /* It refused a registration that outlives a power cut. */
	struct ferry_key quiet;	   /* Whose commands are waited out, in this session, */
	uint64_t quiet_since_ns;   /* from when on nothing new of it could start, */
	uint32_t quiet_generation; /* while registrations are as they were then. */
	struct ferry_iscsi_registrants seen; /* The last that was read of each node's nexus. */
	struct ferry_iscsi_reinstatement reinstatement;

	struct ferry_list calls_out;
	struct ferry_list calls_lingering; /* Answered, but the library may still send its data. */
	struct ferry_list calls_done;

	struct ferry_iscsi_slot *slots;
	uint32_t slots_busy;
	struct ferry_list slots_free;
	struct ferry_list waiting;
	struct ferry_list resting;
	uint8_t *zeroes;

	struct ferry_iscsi_fence_state fencing;

	struct ferry_iscsi_counters counters;
	char said[FERRY_ISCSI_ERROR_MAX]; /* The library, when the session's end began. */
	char last_error[FERRY_ISCSI_ERROR_MAX];
	void (*on_closed)(void *context);
	void *on_closed_context;
};

/* call.c */
void ferry_iscsi_call_prepare(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call,
			      void (*run)(struct ferry_iscsi_call *call));
/* The library took it (@r 0, or @task not NULL), or refused: then -EIO, and the session is lost. */
int ferry_iscsi_call_started(struct ferry_iscsi_call *call, int r);
int ferry_iscsi_call_tasked(struct ferry_iscsi_call *call, struct scsi_task *task);
void ferry_iscsi_call_answered(struct iscsi_context *context, int status, void *data,
			       void *private_data);
void ferry_iscsi_settle(struct ferry_iscsi *iscsi);
void ferry_iscsi_settle_later(struct ferry_iscsi *iscsi);
void ferry_iscsi_watch_run(struct ferry_watch *watch, uint32_t ready);
void ferry_iscsi_unwatch(struct ferry_iscsi *iscsi);

/* session.c */
void ferry_iscsi_session_begin(struct ferry_iscsi *iscsi);
void ferry_iscsi_session_drop(struct ferry_iscsi *iscsi, enum ferry_cause cause, const char *why);
/* The lun was BUSY while we logged in: ask again. */
void ferry_iscsi_session_retry(struct ferry_iscsi *iscsi);
void ferry_iscsi_session_leave(struct ferry_iscsi *iscsi);
void ferry_iscsi_session_timer_run(struct ferry_timer *timer);
/* What every login of ours says, as @context's own name with ISID qualifier @qualifier. */
int ferry_iscsi_session_prepare(struct ferry_iscsi *iscsi, struct iscsi_context *context,
				uint16_t qualifier);
void ferry_iscsi_say_error(struct ferry_iscsi *iscsi, const char *format, ...) FERRY_PRINTF(2, 3);
void ferry_iscsi_note_attention(struct ferry_iscsi *iscsi, const struct ferry_iscsi_answer *answer);

/* idle.c */
void ferry_iscsi_idle_begin(struct ferry_iscsi *iscsi);
void ferry_iscsi_idle_timer_run(struct ferry_timer *timer);

/* attempt.c */
extern const struct ferry_path_ops FERRY_ISCSI_PATH_OPS;
void ferry_iscsi_attempts_feed(struct ferry_iscsi *iscsi);
void ferry_iscsi_attempts_drop_unsent(struct ferry_iscsi *iscsi);
void ferry_iscsi_retry_timer_run(struct ferry_timer *timer);

/* fence.c */
extern const struct ferry_fence_ops FERRY_ISCSI_FENCE_OPS;
void ferry_iscsi_fence_init(struct ferry_iscsi *iscsi);
void ferry_iscsi_fence_feed(struct ferry_iscsi *iscsi);
void ferry_iscsi_fence_drop(struct ferry_iscsi *iscsi);
/* From a fresh stack: @error 0: the session of the name that was asked for has ended. */
void ferry_iscsi_fence_reinstated(struct ferry_iscsi *iscsi, int error);

/* reinstate.c */
/* ferry_iscsi_fence_reinstated() follows, unless it is stopped before. */
void ferry_iscsi_reinstate(struct ferry_iscsi *iscsi, const struct ferry_iscsi_registrant *whom);
void ferry_iscsi_reinstate_stop(struct ferry_iscsi *iscsi);
