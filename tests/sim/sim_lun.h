/*
 * sim_lun.h - the shared storage: pristine bytes, commands that land late and in any order, and
 * reservations per nexus.
 *
 * A nexus is a node's: its initiator port has one fixed name, so a new session replaces the old
 * one, and an abort hits what any of its sessions left behind. Registrations outlive sessions.
 * What has come as far as the target lands even if its session is gone; only an abort prevents
 * it. What still sits in a cut network lands after the cut heals, unless a newer session was
 * logged in by then or the nexus was preempted.
 *
 * Owns:    the bytes, the nexuses' registrations, every command until it is over.
 * Callers: sim_path (commands), scenarios and sim_fault (faults).
 * Thread:  one.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/ports/fence.h"
#include "agent/ports/identity.h"
#include "agent/ports/io.h"
#include "tests/sim/sim.h"

enum { SIM_NODES_MAX = 7, SIM_BLOCK_BYTES = 512 };

/* For a LUN RESET, which waits for everybody. */
enum { SIM_ALL_NODES = UINT16_MAX };

struct sim_lun;
struct sim_path;
struct sim_ending;

/* Unit attentions that a nexus has still to report (SAM-5, 5.14), by their bits. */
enum sim_attention {
	SIM_ATTENTION_RESET = 1 << 0,	  /* 29h: power on or reset. */
	SIM_ATTENTION_PREEMPTED = 1 << 1, /* 2Ah 03h. */
	SIM_ATTENTION_OTHER = 1 << 2,	  /* 2Ah 01h: mode parameters changed. */
};

struct sim_nexus {
	struct ferry_key key; /* 0: not registered. */
	uint32_t session;     /* The newest that was logged in. */
	uint32_t attentions;
	uint64_t replies_from_ns; /* Nothing overtakes the answer that tells of one. */
	bool is_cut;		  /* A black hole between this node and the lun. */
	bool has_dropped;	  /* A FLUSH failed, and the owner is to hear of it from a peer. */
	uint64_t slow_ns;	  /* So much longer takes every command. */
	uint32_t hold_per_mille;  /* So many of its writes stay at the target, till they may go. */
};

enum sim_command_stage {
	SIM_COMMAND_TO_TARGET = 1,
	SIM_COMMAND_IN_PIPE,   /* The network is cut; it may get there later. */
	SIM_COMMAND_AT_TARGET, /* Accepted; lands when its event is due. */
	SIM_COMMAND_TO_INITIATOR,
	SIM_COMMAND_REPLY_STUCK,
	SIM_COMMAND_LOST, /* Aborted: nobody will ever answer. */
};

struct sim_command {
	struct sim_event event;
	struct sim_lun *lun;
	struct ferry_list link; /* In lun->commands, in the order of their making. */
	enum sim_command_stage stage;
	uint32_t node;
	uint32_t session;
	struct sim_path *path; /* Who waits for it; NULL once given up. */
	uint64_t submitted_ns;

	/* An attempt... */
	enum ferry_op op;
	uint32_t flags;
	struct ferry_lba lba;
	uint32_t length_blocks;
	struct ferry_epoch epoch;
	struct ferry_attempt *attempt; /* Until it is released: its memory is the truth. */
	struct sim_ending *ending;     /* Its end has been told, its release has not. */
	uint8_t *data;
	enum ferry_outcome outcome;
	enum ferry_cause cause;
	uint32_t attentions; /* That it met. */

	/* ...or a fence request. */
	enum ferry_fence_op fence_op; /* 0: an attempt. */
	struct ferry_key own;
	struct ferry_key victim;
	struct ferry_key kept;
	bool is_answered_for;
	struct ferry_fence_request *request;
	struct ferry_fence_request answer; /* READ_KEYS: what they were then. */
	int error;
	bool drops;	      /* A FLUSH that has failed: with it goes the cache. */
	bool is_held;	      /* By sim_lun_hold(). */
	uint64_t accepted;    /* By the lun's count, when it arrived at the target. */
	uint32_t waits_for;   /* PREEMPT: this node's commands, or ALL_NODES', have to end... */
	uint64_t waits_until; /* ...that were accepted before this count. */
};

struct sim_lun_options {
	uint64_t latency_ns_max; /* One way. */
	uint64_t service_ns_max;
	uint32_t slow_per_mille; /* Commands that take up to slow_ns_max. */
	uint64_t slow_ns_max;
	uint64_t abort_slow_ns_max; /* Aborts begin up to so much later. */
	bool preempt_waits;  /* No ABORT: PREEMPT, then a LUN RESET that waits (as tgtd's does). */
	bool preempt_lies;   /* PREEMPT alone, which proves nothing: for canaries. */
	bool caches_by_path; /* Each path has a cache of its own: a FLUSH reaches only that. */
	bool abort_waits;    /* PREEMPT AND ABORT is answered when what ran has ended. */
	bool has_aptpl;	     /* Registrations survive a restart. */
	bool hides_restarts; /* To sessions that outlive one: sim_lun_restart_unheard(). */
	bool has_no_reservations;
	/*
	 * What a machine leaves there when its power is cut lands at any time up to this, or never:
	 * what the storage promises; 0: as fast as else.
	 */
	uint64_t quiesce_ns;
	bool proves_nothing; /* PREEMPT only removes a registration, and only for a person. */
	/*
	 * A login by the victim's name ends its session and waits for that nexus's commands only;
	 * as each login does (LIO, docs/decisions/0008). Of a victim that is not registered it
	 * proves nothing, unless its name was read before by the same path, or a newer agent of its
	 * node is registered.
	 */
	bool reinstates;
};

struct sim_lun_stats {
	uint64_t landed;
	uint64_t landed_late; /* Writes that landed after their initiator had given up. */
	uint64_t aborted;
	uint64_t conflicts;
	uint64_t preempts;
	uint64_t flushes;
	uint64_t fuas;
	uint64_t losses;      /* Times that the volatile cache was lost... */
	uint64_t blocks_lost; /* ...and blocks that fell back. */
	uint64_t attentions;  /* Reported. */
	uint64_t refused;     /* Commands that failed for good: medium error, no space. */
};

struct sim_lun {
	struct sim *sim;
	struct sim_lun_options options;
	struct ferry_lun_identity identity;
	uint8_t *bytes;	   /* What reads see. */
	uint8_t *durable;  /* What survives a power cut. */
	bool *is_dirty;	   /* By block: bytes is newer than durable. */
	uint8_t *dirty_by; /* By block: whose paths' caches have it, a bit for each node. */
	_Static_assert(SIM_NODES_MAX < 8, "a bit each");
	struct sim_nexus nexuses[SIM_NODES_MAX + 1];
	uint32_t holder; /* A node; 0: no reservation. */
	uint32_t generation;
	bool is_off;
	struct ferry_epoch epoch_floor; /* Landing a write of an older epoch breaks a promise. */
	struct ferry_list commands;
	struct ferry_list paths;       /* Those that are open. */
	uint64_t hold_node;	       /* Scenarios: this node's writes stay at the target... */
	uint32_t hold_left;	       /* ...so many of them... */
	bool is_holding;	       /* ...while this is set. */
	bool is_stalled;	       /* Nothing that was accepted runs... */
	bool stalls_fences;	       /* ...not even reservations. */
	uint32_t refuse_left;	       /* So many more commands fail for good... */
	enum ferry_cause refuse_cause; /* ...with this, */
	bool flush_drops;	       /* and a FLUSH among them takes the cache with it. */
	/* The volatile cache was lost. */
	void (*on_lost)(void *context);
	void *context;
	uint64_t accepted_next;
	uint32_t owner; /* Whose epoch_floor it is: node and incarnation. */
	struct ferry_incarnation owner_incarnation;
	struct sim_lun_stats stats;
};

void sim_lun_init(struct sim_lun *lun, struct sim *sim, uint64_t size_blocks);
void sim_lun_done(struct sim_lun *lun);

/* ---- Faults. ---- */
void sim_lun_cut(struct sim_lun *lun, uint32_t node);
void sim_lun_heal(struct sim_lun *lun, uint32_t node);
void sim_lun_reset_session(struct sim_lun *lun, uint32_t node);
void sim_lun_power(struct sim_lun *lun, bool is_on);
/* Each unflushed block is kept or lost. */
void sim_lun_lose_cache(struct sim_lun *lun);
/*
 * The same, with all that its power going takes along but the sessions: it ends all commands, every
 * nexus reports it.
 */
void sim_lun_reset_hard(struct sim_lun *lun);
/*
 * Its power is cut: sessions, the volatile cache and, without APTPL, registrations are gone.
 * sim_lun_power() turns it on again.
 */
void sim_lun_power_cut(struct sim_lun *lun);
/* The same, of one path's own cache: all of it is lost, and the session with it, unheard. */
void sim_lun_lose_path_cache(struct sim_lun *lun, uint32_t node);
/* Off and on again. */
void sim_lun_restart(struct sim_lun *lun);
/*
 * The same beneath kernels that hold the sessions: these are made anew, what was not answered is
 * sent once more, and nobody is told. LIO does so; its registrations are kept (tests/vm).
 */
void sim_lun_restart_unheard(struct sim_lun *lun);
/* Whether somebody's REGISTER is on its way, or waits there. */
bool sim_lun_is_registering(const struct sim_lun *lun);
void sim_lun_attention(struct sim_lun *lun, uint32_t node, enum sim_attention attention);
/* What it has accepted stays where it is, until it is no longer stalled. */
void sim_lun_stall(struct sim_lun *lun, bool is_stalled, bool stalls_fences);
/* The next @count commands fail for good. */
/* @by's answer that a FLUSH failed has come to @node, which had asked it to carry that. */
void sim_lun_flush_failure_told(struct sim_lun *lun, uint32_t node, uint32_t by);
void sim_lun_refuse(struct sim_lun *lun, uint32_t count, enum ferry_cause cause, bool flush_drops);
/* The next @count writes of @node that are accepted don't land until let go. */
void sim_lun_hold(struct sim_lun *lun, uint32_t node, uint32_t count);
void sim_lun_let_go(struct sim_lun *lun);
/*
 * The same as weather: so many of @node's writes stay, some for seconds, some until with 0 each
 * goes at its own time.
 */
void sim_lun_hold_some(struct sim_lun *lun, uint32_t node, uint32_t per_mille);
/* Of those, what was accepted before that count of @before goes soon. */
void sim_lun_let_go_before(struct sim_lun *lun, uint32_t node, uint64_t before);

/* ---- For sim_path. ---- */
struct sim_command *sim_command_new(struct sim_lun *lun, struct sim_path *path, uint32_t node,
				    uint32_t session);
void sim_command_send(struct sim_command *command);
/* Take over the data of a write whose memory is about to be another's. */
void sim_command_capture(struct sim_command *command);
void sim_command_free(struct sim_command *command);
bool sim_lun_login(struct sim_lun *lun, uint32_t node, uint32_t *ret_session);
