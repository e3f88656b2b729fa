/*
 * decide.h - what a node does about a pool: pure functions of what it knows.
 *
 * Nothing here sends, saves, waits or remembers: ownership.h does, by what is decided here. So each
 * of the rules 12 to 15 can be asked in every situation, and is (tests/golden/fencing).
 *
 * Owns:    nothing.
 * Callers: ownership.h's files; tests/golden.
 * Thread:  any.
 * Rooms:   rank 3.
 */
#pragma once

#include "agent/core/view.h"
#include "agent/ports/fence.h"
#include "agent/ports/group.h"
#include "fencing/power.h"
#include "proto/group_message.h"

enum ferry_ownership_phase {
	FERRY_OWNERSHIP_IDLE = 1,  /* This node does not want the pool. */
	FERRY_OWNERSHIP_SYNCING,   /* Wants it; waits for quorum and the others' states. */
	FERRY_OWNERSHIP_CLAIMING,  /* Its claim is out; waits for a majority. */
	FERRY_OWNERSHIP_DRAINING,  /* A majority has it; waits, for a while, for all to drain. */
	FERRY_OWNERSHIP_TAKING,	   /* The lun is being taken. */
	FERRY_OWNERSHIP_OWNING,	   /* In force. */
	FERRY_OWNERSHIP_RELEASING, /* Was asked to stop; waits for its own I/O to end. */
};

const char *ferry_ownership_phase_name(enum ferry_ownership_phase phase);

/* What this node knows of one member's agent (itself too), from its own words. */
struct ferry_ownership_member {
	struct ferry_node node;
	struct ferry_incarnation incarnation; /* 0: has never spoken. */
	uint64_t state_ring;		      /* Of its last STATE; only the current one counts. */
	uint64_t ack_ring;		      /* Of its last ACK. */
	struct ferry_uuid lun;
	struct ferry_epoch epoch;
	struct ferry_epoch acked;    /* On its disk and installed... */
	struct ferry_node acked_for; /* ...as this node's. */
	struct ferry_epoch drained;  /* And nothing older in flight. */
	bool has_path;
	bool has_answered; /* Since the last question to the group. */
	bool is_serving;   /* By its own last word on that, it owns the pool in force. */
};

/* The newest agent of a node that has ever spoken, member or not. */
struct ferry_ownership_seen {
	struct ferry_node node;
	struct ferry_incarnation incarnation;
	struct ferry_incarnation taking; /* What it was when this node began to take the lun. */
	struct ferry_incarnation laid;	 /* What this one's elders wrote is known to be dead. */
	struct ferry_incarnation fenced; /* It and its elders may not register any more. */
	struct ferry_incarnation proven; /* And whoever fenced it has verified that at the lun. */
	uint64_t heard_ns; /* When this agent first heard that one: its elders were gone by then. */
};

struct ferry_situation {
	/* The cluster. */
	struct ferry_node self;
	const struct ferry_members *nodes; /* Of its configuration. */
	bool is_quorate;
	uint64_t ring;
	const struct ferry_members *members;
	const struct ferry_ownership_member *known; /* By members' index. */
	const struct ferry_ownership_seen *seen; /* FERRY_NODES_MAX; the first with node 0 ends. */

	uint64_t now_ns;
	/* Whose power was cut, as far as is known; a node 0 ends. NULL: nobody can tell. */
	const struct ferry_power_node *power;

	/* The pool, as this node has it on its disk and in its view. */
	struct ferry_uuid lineage;
	struct ferry_uuid lun;
	bool has_reservations;
	uint64_t quiesce_time_ns; /* The storage promises it; 0: it does not. */
	struct ferry_epoch epoch;
	struct ferry_node owner;
	bool is_in_force;
	struct ferry_epoch drained; /* Here. */
	struct ferry_epoch settled; /* Up to this one no taking was left half done. */
	/*
	 * Whose the newest epoch was that this node knows to have been in force, by that agent's
	 * own words; 0: not known.
	 */
	struct ferry_node served_by;
	struct ferry_incarnation served_as;

	/* This node's own part. */
	enum ferry_ownership_phase phase;
	struct ferry_epoch claimed;
	bool is_synced; /* A majority has spoken in this ring. */
	bool wants_pool;
	bool was_owner; /* Its last agent owned the pool in this very epoch. */
	bool is_take;	/* Also from an owner that serves. */
	bool is_forced; /* By a person, who answers for: */
	const struct ferry_members *answered_for;
	bool is_by_lun; /* Of two nodes, the claim goes on without the other's voice. */
	bool is_sole;	/* It took the lun from the other of two, in this membership. */
	bool is_fenced;
	bool claim_is_over; /* Nobody has answered for long. */
	bool drain_is_over;
	struct ferry_node victim; /* Being fenced by this node; 0: nobody. */
	bool keeps_pool;	  /* It owned the pool before it began to. */
};

enum ferry_decision_kind {
	FERRY_DECISION_REST = 1, /* Nothing is to be done. */
	FERRY_DECISION_HOLD,	 /* No quorum: nothing is decided (rule 15). */
	FERRY_DECISION_SYNC,	 /* Wait for a majority's words in this ring. */
	FERRY_DECISION_RECLAIM,	 /* Wish for what this node's last agent owned. */
	FERRY_DECISION_CLAIM,	 /* epoch. */
	FERRY_DECISION_WAIT_ACKS,
	FERRY_DECISION_WAIT_DRAIN,   /* is_by_lun. */
	FERRY_DECISION_WAIT_QUIESCE, /* until_ns; 0: until a power fencing is confirmed. */
	FERRY_DECISION_TAKE,	     /* keys: who needs no preempting, and who is to be aborted. */
	FERRY_DECISION_IN_FORCE,     /* The epoch is: serve. */
	FERRY_DECISION_LET_GO,	     /* It was taken to fence a node: nobody is to serve. */
	FERRY_DECISION_REFUSE,	     /* The wish is over: error. */
};

struct ferry_decision {
	enum ferry_decision_kind kind;
	const char *why; /* NULL: goes without saying. */
	int error;
	struct ferry_epoch epoch;
	bool is_by_lun;
	uint64_t until_ns;
	struct ferry_drained_keys keys;
};

/* What is next for this node's own part; asked when anything has changed. */
void ferry_decide_next(const struct ferry_situation *situation, struct ferry_decision *ret);

enum ferry_reaction_kind {
	FERRY_REACTION_IGNORE = 1,  /* why. */
	FERRY_REACTION_NOTE,	    /* It says something of its sender, nothing more. */
	FERRY_REACTION_INSTALL,	    /* To the disk, into the view, then acknowledge. */
	FERRY_REACTION_LEARN,	    /* To the disk, into the view: others have it already. */
	FERRY_REACTION_FOLLOW,	    /* The same epoch is in force, its sender's or as it says. */
	FERRY_REACTION_CLAIM_AGAIN, /* Another was first. */
	FERRY_REACTION_CLAIM_ABOVE, /* A claim that came to nothing is above what this one owns. */
	FERRY_REACTION_NOBODYS,	    /* Its owner has let go of the epoch. */
	FERRY_REACTION_FENCE,	    /* This node is the one to fence the victim. */
};

struct ferry_reaction {
	enum ferry_reaction_kind kind;
	const char *why;
	bool deposes; /* What this node owns or wants, another has. */
	/* LEARN: of an epoch that an earlier agent of this node owned: now nobody does (rule 8). */
	bool is_own_past;
};

/* What a message of a member's is to this node. Reads nothing that is not in the two. */
struct ferry_reaction ferry_decide_message(const struct ferry_situation *situation,
					   struct ferry_node from,
					   const struct ferry_group_message *message);

/* What the data thread may do now: fills is_quorate, the may_ fields, and dead. */
void ferry_decide_rights(const struct ferry_situation *situation, struct ferry_view *view);

/*
 * Whether a majority, and most of those who have spoken, see the lun that this node sees under the
 * pool's name. Who does not agree neither claims nor registers; nobody votes for another lun.
 */
bool ferry_decide_lun_is_agreed(const struct ferry_situation *situation);

/* Whether enough have spoken in this ring to believe what this node knows. */
bool ferry_decide_is_synced(const struct ferry_situation *situation);

/* Whether enough have answered the last question: a word is no agreement of one's own (rule 12). */
bool ferry_decide_is_answered(const struct ferry_situation *situation);

/*
 * Another member has the epoch in force, as far as this node knows: its applications would lose
 * what they have not synced.
 */
bool ferry_decide_is_served_elsewhere(const struct ferry_situation *situation);

/* Of two nodes, this one is alone: the lun is the third voice. */
bool ferry_decide_is_alone(const struct ferry_situation *situation);

/*
 * When the next node, or agent, will be dead for the lun, too, that is silent now; 0: none will by
 * itself.
 */
uint64_t ferry_decide_dead_next_ns(const struct ferry_situation *situation);

/* How many members' acknowledgements put an epoch in force (rule 12). */
uint32_t ferry_decide_majority(uint32_t nodes_expected);
