/*
 * room.h - what the files of adapters/verbs share.
 *
 * Owns:    nothing; shapes and prototypes.
 * Callers: this folder, and its tests.
 * Thread:  the data loop.
 * Rooms:   adapters/verbs.
 */
#pragma once

#include <rdma/rdma_cma.h>
#include <sys/socket.h>

#include "agent/adapters/verbs/verbs.h"
#include "agent/base/prng.h"
#include "proto/rdma_frame.h"

enum {
	VERBS_WHY_MAX = 160,
	/*
	 * CREDIT frames need no credit: one is sent when as many as half of all are owed, so no
	 * more than two can be on their way.
	 */
	VERBS_CREDIT_FRAMES = 2,
	VERBS_CREDITS_OWED_MAX = FERRY_VERBS_CREDITS / 2,
	VERBS_IN_MAX = FERRY_VERBS_CREDITS + VERBS_CREDIT_FRAMES,
	VERBS_IN_BYTES = 4352,			  /* Of a frame that comes. */
	VERBS_OUT_BYTES = 512,			  /* Of one that goes, without its data. */
	VERBS_SQ_MAX = 256,			  /* Work requests on a send queue. */
	VERBS_SGE_MAX = 5,			  /* Of one of them, if the device has as many. */
	VERBS_MOVES_MAX = 2 * FERRY_SEGMENTS_MAX, /* Where both ends' pieces begin. */
	VERBS_OUT_SPARE = 32, /* Frames that may be sent when all others hold memory open. */
	VERBS_RD_ATOMIC = 16, /* RDMA reads on their way at a time. */
};
_Static_assert(VERBS_IN_BYTES >= (int)FERRY_RDMA_FRAME_BYTES_MAX, "any frame fits");
_Static_assert(VERBS_OUT_BYTES >= (int)FERRY_RDMA_LEAD_BYTES_MAX, "any frame fits");
_Static_assert(FERRY_VERBS_CREDITS <= (int)FERRY_RDMA_CREDITS_MAX, "on the wire");

/* What a completion is about, in its wr_id. */
enum verbs_work { VERBS_WORK_RECEIVE = 1, VERBS_WORK_SEND, VERBS_WORK_MOVE, VERBS_WORK_CLOSE };

/* A frame on its way, or one whose memory the peer may still touch. */
struct verbs_out {
	struct ferry_list link;	       /* out_free, offers or closing. */
	struct ferry_message *message; /* NULL: a frame without one. */
	enum ferry_rdma_kind kind;
	uint8_t *lead;
	bool is_busy;
	bool is_posted;	   /* The SEND has not completed. */
	int32_t answer_at; /* ROOM: the frame that waits for the windows to be closed; else -1. */
	uint32_t windows_count;
	uint16_t windows[FERRY_SEGMENTS_MAX];
};

enum verbs_in_state {
	VERBS_IN_POSTED = 1, /* The device's. */
	VERBS_IN_ARRIVED,
	VERBS_IN_MOVING, /* Its data, or the windows that it had. */
	VERBS_IN_READY,
};

struct verbs_in {
	enum verbs_in_state state;
	uint32_t waits_count; /* For its data, for windows to be closed. */
	bool is_greeted;      /* What it says to the link has been heeded. */
	uint8_t *bytes;
	const uint8_t *data; /* In these; NULL: none. */
	struct ferry_rdma_frame frame;
	struct ferry_segments segments;
};

/* Where the answer to a request goes, as its sender says. */
struct verbs_room {
	uint64_t sequence; /* 0: none. */
	uint32_t pieces_count;
	struct ferry_rdma_piece pieces[FERRY_RDMA_PIECES_MAX];
};

struct verbs_window {
	struct ibv_mw *mw; /* Its key is the one of before until the opening is posted. */
	uint32_t key;
	bool is_bound;
	struct ferry_segment memory; /* While it is bound: what it opens. */
	/* It could not be closed: a use of that memory, so that nobody else gets it. */
	struct ferry_segments stuck;
};

enum verbs_link_state {
	VERBS_LINK_DOWN = 1,
	VERBS_LINK_GREETING, /* A connection is being made. */
	VERBS_LINK_UP,
	VERBS_LINK_CUT, /* The callbacks that say so are still to run. */
};

enum verbs_link_role { VERBS_LINK_UNUSED = 0, VERBS_LINK_CONNECTOR, VERBS_LINK_INCOMING };

/* An address as the kernel wants it. */
struct verbs_address {
	union {
		struct sockaddr any;
		struct sockaddr_storage room;
	};
};

struct verbs_link {
	struct ferry_link link;
	struct ferry_verbs *verbs;
	uint16_t index;
	uint16_t generation; /* Of its queue pair: completions of older ones say nothing. */
	enum verbs_link_role role;
	enum verbs_link_state state;
	bool is_running; /* A callback of ours is on the stack. */
	bool is_touched; /* Something completed. */
	struct rdma_cm_id *id;
	struct ferry_wire_end peer;
	struct ferry_task task;
	struct ferry_timer tick; /* UP: looks at the peer. GREETING: the time is over. */
	char why[VERBS_WHY_MAX]; /* It is not up. */
	struct ferry_verbs_counters counters;

	/* Connecting. */
	struct verbs_address address;
	struct ferry_timer again;
	struct ferry_rdma_secret secret;
	uint32_t number; /* Of the last try by this secret. */
	bool is_enabled;
	uint64_t backoff_ns;
	uint8_t hello[FERRY_RDMA_HELLO_BYTES]; /* Our request. */

	/* Liveness. */
	uint64_t up_ns, received_ns, sent_ns, pinged_ns, ticked_ns;
	uint64_t ping_sequence;
	struct ferry_message ping, pong;

	/* Out. */
	struct ferry_list queue;
	uint32_t queue_count;
	uint32_t credits;
	uint32_t credits_all; /* What the peer takes at a time. */
	uint32_t sq_used;
	struct verbs_out out[FERRY_VERBS_OUT_MAX];
	struct ferry_list out_free;
	uint32_t out_free_count;
	struct ferry_list offers;  /* In the order in which they are taken. */
	struct ferry_list closing; /* Their windows are to be closed. */
	uint64_t offers_taken;
	uint16_t rooms_out[FERRY_WIRE_WINDOW_MAX]; /* By sequence: the frame's place + 1. */
	struct verbs_room rooms_in[FERRY_WIRE_WINDOW_MAX];
	struct verbs_window windows[FERRY_VERBS_WINDOWS];
	uint16_t windows_free[FERRY_VERBS_WINDOWS];
	uint32_t windows_free_count;

	/* In: a ring of those that are here, [first, first + count), of which begun are begun. */
	struct verbs_in in[VERBS_IN_MAX];
	uint16_t order[VERBS_IN_MAX];
	uint32_t order_first, order_count, order_begun;
	uint32_t credits_owed;
	uint64_t taken; /* The peer's offers that were read. */
	bool is_paused;
};

struct ferry_verbs {
	struct ferry_verbs_config config;
	struct ferry_prng prng;
	struct verbs_address address;
	struct rdma_event_channel *channel;
	struct ferry_watch channel_watch;
	struct rdma_cm_id *listener;
	struct ibv_context *context; /* rdma_cm's. */
	struct ibv_pd *pd;
	/*
	 * One for each chunk of the memory. Soft RoCE holds a window to the bounds of its region,
	 * not to its own: so even there no key opens more than the chunk that it is about.
	 */
	struct ibv_mr **chunk_mrs;
	uint32_t chunks_count;
	struct ibv_mr *frames_mr;
	uint8_t *frames;
	size_t frames_bytes;
	struct ibv_comp_channel *completions;
	struct ferry_watch completions_watch;
	struct ibv_cq *cq;
	struct ferry_task poll_task;
	bool is_asleep; /* The queue will say when there is more. */
	uint64_t completed_ns;
	uint32_t sge_max;
	uint32_t rd_atomic;
	uint64_t completions_count, polls_count, wakeups_count;
	struct verbs_link *links; /* config.links_max. */
};

static inline struct verbs_link *verbs_link_of(struct ferry_link *link)
{
	return FERRY_CONTAINER_OF(link, struct verbs_link, link);
}

/* device.c */
uint64_t verbs_wr_id(const struct verbs_link *link, enum verbs_work work, uint32_t index,
		     uint32_t count);
/* Look at the queue until it is empty; links are run from tasks. */
void verbs_poll(struct ferry_verbs *verbs);
/* Whether they lie in the registered memory. */
bool verbs_is_registered(const struct ferry_verbs *verbs, const struct ferry_segments *segments);
struct ibv_mr *verbs_mr_of(const struct ferry_verbs *verbs, const struct ferry_segment *segment);
/* Cut all, and free them. */
void verbs_links_close(struct ferry_verbs *verbs);

/* connect.c */
int verbs_channel_open(struct ferry_verbs *verbs, struct ferry_error *reterr);
void verbs_channel_close(struct ferry_verbs *verbs);
/* A connector that is down: when to try again. */
void verbs_again(struct verbs_link *link);
int verbs_address_parse(const char *text, uint16_t port, struct verbs_address *ret,
			struct ferry_error *reterr);

/* link.c */
int verbs_link_init(struct verbs_link *link, struct ferry_verbs *verbs, uint16_t index,
		    uint8_t *frames);
void verbs_link_done(struct verbs_link *link);
/* The link's queue pair on @id, which is the link's from here on, and what it takes to receive. */
int verbs_link_arm(struct verbs_link *link, struct rdma_cm_id *id);
/* Nothing touches the link's memory any more: windows and queue pair are destroyed, and @id. */
void verbs_link_disarm(struct verbs_link *link);
void verbs_link_up(struct verbs_link *link, uint32_t credits);
/* Up to cut, or a greeting to its end; else a no-op. Callbacks run from a task. */
void verbs_link_cut(struct verbs_link *link, const char *format, ...) FERRY_PRINTF(2, 3);
/* Cut to down, now. */
void verbs_link_settle(struct verbs_link *link);

/* send.c */
void verbs_enqueue(struct verbs_link *link, struct ferry_message *message);
void verbs_flush(struct verbs_link *link);
void verbs_sent(struct verbs_link *link, struct verbs_out *out);
/* The peer is done with what the frame has opened: close it. */
void verbs_out_close(struct verbs_link *link, struct verbs_out *out);
void verbs_closed(struct verbs_link *link, struct verbs_out *out);
/* The peer says that it has read so many offers. Whether that can be. */
bool verbs_offers_taken(struct verbs_link *link, uint64_t taken);
/* The request whose answer this is, if room was made for that. */
struct verbs_out *verbs_room_out(struct verbs_link *link, const struct ferry_wire_header *answer);
/* Nothing is in the device's hands: each message is its sender's again. */
void verbs_send_reset(struct verbs_link *link);
/* Post a chain, @count of them. 0, or the link is cut. */
int verbs_post(struct verbs_link *link, struct ibv_send_wr *wrs, uint32_t count);
bool verbs_has_room(const struct verbs_link *link, uint32_t count);

/* receive.c */
int verbs_receive_post(struct verbs_link *link, uint32_t index);
void verbs_received(struct verbs_link *link, uint32_t index, uint32_t length_bytes);
/* One of the things that the frame waits for is done. */
void verbs_in_waited(struct verbs_link *link, uint32_t index);
void verbs_moved(struct verbs_link *link, uint32_t index);
void verbs_receive_run(struct verbs_link *link);
void verbs_receive_reset(struct verbs_link *link);

/* move.c */
/*
 * Chain RDMA work from or to @segments, all of it, and the peer's @pieces, into @wrs and @sges, at
 * least VERBS_MOVES_MAX of each. How many; 0: the pieces are shorter than the segments.
 */
uint32_t verbs_move(const struct verbs_link *link, enum ibv_wr_opcode opcode,
		    const struct ferry_segments *segments, const struct ferry_rdma_piece *pieces,
		    uint32_t pieces_count, struct ibv_send_wr *wrs, struct ibv_sge *sges);
/* Chain the opening of windows for @segments. How many; pieces go to @ret. */
uint32_t verbs_windows_open(struct verbs_link *link, struct verbs_out *out,
			    const struct ferry_segments *segments, struct ibv_send_wr *wrs,
			    struct ferry_rdma_piece *ret);
/* They are posted. */
void verbs_windows_opened(struct verbs_link *link, const struct verbs_out *out);
uint32_t verbs_windows_close(const struct verbs_link *link, const struct verbs_out *out,
			     struct ibv_send_wr *wrs);
