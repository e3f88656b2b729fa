/*
 * ownership.h - who owns one pool, under which epoch: the cluster side of a pool on one node.
 *
 * A claim is multicast; each member that has quorum in the same ring writes the new epoch to its
 * disk, installs it at its submitting thread, and only then acknowledges; when its older I/O has
 * ended it says so (drained). With a majority's acknowledgements in the quorum's current ring the
 * claimant has the lun taken: whoever has not drained is preempted. Only then is the epoch in
 * force and the first I/O admitted (design, rules 12 and 13).
 *
 *   IDLE → SYNCING → CLAIMING → DRAINING → TAKING → OWNING        (this node's own part)
 *
 * Owns:    one pool's state on this node, and its copy on stable storage.
 * Callers: agent/main's wiring on the cluster loop; tests/sim.
 * Thread:  the cluster loop.
 * Rooms:   rank 3; what is decided, and by what, is in decide.h.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/ports/events.h"
#include "agent/ports/loop.h"
#include "agent/ports/store.h"
#include "fencing/decide.h"

/* Fencing a node from the pool, as far as this node has a part in it. */
struct ferry_ownership_fencing {
	struct ferry_node victim; /* 0: none under way here. */
	bool is_running;	  /* This node does it; else it waits for who does. */
	bool is_asked_here;	  /* on_fenced() is owed. */
	bool keeps_pool;	  /* It owned the pool before, and will again. */
	bool ask_is_due;	  /* A multicast was refused for now. */
	bool answer_is_due;
	bool reminders_are_due;	    /* Before this node's STATE in a new ring. */
	bool is_proven;		    /* The lun has been taken without it: the answer. */
	struct ferry_node told;	    /* The victim of what is being sent. */
	struct ferry_node answered; /* The answer's. */
	struct ferry_timer timer;   /* Then it has not been verified. */
};

struct ferry_ownership_config {
	struct ferry_loop *loop;
	struct ferry_group *group;
	struct ferry_store *store;
	struct ferry_events *events;
	char pool[FERRY_EVENT_NAME_MAX];
	struct ferry_uuid lineage;
	struct ferry_uuid lun;
	struct ferry_incarnation incarnation;
	bool has_reservations;
	uint64_t quiesce_time_ns;	 /* Promised by the storage; 0: nothing is. */
	struct ferry_power_watch *power; /* Whose power was cut; NULL: nobody can tell. */
	uint64_t drain_timeout_ns;	 /* Then those who have not drained are preempted. */

	/* To the data thread. */
	void (*set_view)(const struct ferry_view *view, void *context);
	void (*take)(const struct ferry_drained_keys *drained, void *context);
	void (*peer_has_path)(struct ferry_node node, bool has_path, void *context);
	/* The outcome of acquire or release: 0 or a negative errno. */
	void (*on_wish)(int error, const char *why, void *context);
	/*
	 * The outcome of ferry_ownership_fence() on this node: 0 only if it was verified at the
	 * lun. NULL: this agent never asks.
	 */
	void (*on_fenced)(struct ferry_node victim, int error, const char *why, void *context);
	void *context;
};

/* A member's agent has found the target restarted, and waits for the owner to know. */
struct ferry_ownership_told {
	struct ferry_node by;
	struct ferry_incarnation incarnation;
	uint64_t number; /* Its own count of those that it has found. */
	uint64_t noting; /* The view's count that this owner's data thread is to note; 0: none. */
	bool is_noted;	 /* It has. */
	bool answer_is_due;
};

struct ferry_ownership {
	struct ferry_ownership_config config;
	enum ferry_ownership_phase phase;
	struct ferry_view view;
	struct ferry_uuid pool; /* The hash of its name. */
	struct ferry_members members;
	struct ferry_ownership_member known[FERRY_NODES_MAX]; /* By members' index. */
	struct ferry_ownership_seen seen[FERRY_NODES_MAX];
	struct ferry_node next_owner; /* Of a release under way. */
	struct ferry_epoch claimed;   /* This node's own claim. */
	struct ferry_epoch released;  /* The last epoch whose owner let go. */
	struct ferry_epoch drained;   /* At this node. */
	struct ferry_epoch settled;   /* See struct ferry_situation; on the disk too. */
	struct ferry_node served_by;  /* See there. */
	struct ferry_incarnation served_as;
	bool is_synced; /* A majority has spoken in this ring. */
	bool has_path;	/* This node's. */
	bool wants_pool;
	bool is_take; /* Also from an owner that serves. */
	/*
	 * Since @tenure it has been this node that owned the pool, its last agents too, and nobody
	 * else in between; up to @tenure_last. On the disk too; 0: it never did.
	 */
	struct ferry_epoch tenure, tenure_last;
	bool was_owner; /* When its last agent ended: the pool is its own still. */
	bool is_by_lun; /* Of two nodes: see struct ferry_situation. */
	bool is_sole;
	bool store_failed; /* An epoch could not be saved: never acknowledge. */
	bool state_is_due; /* A multicast was refused for now. */
	bool ack_is_due;
	bool claim_is_due;
	bool in_force_is_due;
	bool release_is_due;
	struct ferry_timer timer;	 /* The claim's deadline, or the drain's. */
	struct ferry_timer resend_timer; /* Its own: neither puts the other off. */
	uint64_t states_sent;		 /* This node's STATEs, and how many came back to it. */
	uint64_t states_seen;
	uint64_t word_asked;
	uint64_t word_sent;  /* Asked before the STATE... */
	uint64_t word_state; /* ...of this number. */
	uint64_t word_ring;  /* In this ring: in another it is asked anew. */
	bool is_word_heard;  /* It has come back: who speaks from here on has heard it too. */
	uint64_t claim_deadline_ns;
	uint64_t drain_deadline_ns;
	bool is_quiescing;	   /* All have drained that will; waits for time to pass... */
	uint64_t quiesce_until_ns; /* ...until then; 0: for a power fencing. */
	struct ferry_timer quiesce_timer;  /* For that, and for who will be dead. */
	bool is_forced;			   /* By a person, who answers for: */
	struct ferry_members answered_for; /* None of them has been a member since. */
	bool is_taken_by_word;		   /* The taking under way has that word for a proof. */
	bool is_fenced;			   /* This agent is: it has to be started anew. */
	struct ferry_ownership_fencing fencing;
	uint64_t witness; /* What this agent has found and waits with; 0: nothing. */
	struct ferry_ownership_told told[FERRY_NODES_MAX];
};

/*
 * Load the pool's state. -EBADMSG: the stored epoch is damaged: this node must not vote with it;
 * -EIO; @reterr says what to do.
 */
int ferry_ownership_open(struct ferry_ownership *ownership,
			 const struct ferry_ownership_config *config,
			 struct ferry_error *reterr) FERRY_MUST_CHECK;
void ferry_ownership_done(struct ferry_ownership *ownership);

/* From the group port. */
void ferry_ownership_members(struct ferry_ownership *ownership,
			     const struct ferry_members *members);
void ferry_ownership_quorum(struct ferry_ownership *ownership);
void ferry_ownership_message(struct ferry_ownership *ownership, struct ferry_node from,
			     const struct ferry_group_message *message);

/* config.power knows of another node. */
void ferry_ownership_power_news(struct ferry_ownership *ownership);

/* From the data thread. */
void ferry_ownership_drained(struct ferry_ownership *ownership, struct ferry_epoch epoch);
/* @epoch: the one that was installed when the taking was asked for. */
void ferry_ownership_taken(struct ferry_ownership *ownership, struct ferry_epoch epoch, int error);
void ferry_ownership_health(struct ferry_ownership *ownership, bool has_path);
/* Somebody took this node's registration, not at its own wish: only a new epoch gives it back. */
void ferry_ownership_preempted(struct ferry_ownership *ownership);

/*
 * This node has found the target restarted, its @number-th time, and registers there only when
 * view.told says that the owner knows; 0: it does not wait any more.
 */
void ferry_ownership_witness(struct ferry_ownership *ownership, uint64_t number);
/* The data thread has noted the first @restarts of those that view.restarts counts. */
void ferry_ownership_noted(struct ferry_ownership *ownership, uint64_t restarts);

/* Make sure that the view is no older than now, then publish it with @word; words grow. */
void ferry_ownership_ask(struct ferry_ownership *ownership, uint64_t word);

/*
 * This node wants the pool; config.on_wish() says how it went: -EPERM without @is_take, if it turns
 * out, now or when the others have spoken, that another member serves it.
 */
void ferry_ownership_acquire(struct ferry_ownership *ownership, bool is_take);

/* Whether it would be refused without @is_take as far as is known now. */
bool ferry_ownership_is_served_elsewhere(const struct ferry_ownership *ownership);
/*
 * It does not want it any more. @next_owner: who is to claim it then; 0: nobody in particular. A
 * wish that has not come true yet is withdrawn, at once, whatever others have acknowledged of it.
 */
void ferry_ownership_release(struct ferry_ownership *ownership, struct ferry_node next_owner);

/*
 * The same as acquire, from whoever serves it, with a person's word that @nodes can write no more
 * (rule 14): on a lun without reservations it is taken over though they have not drained. The word
 * is for those nodes as they are now: for none that is a member, or becomes one; and if another
 * leaves meanwhile, the wish is over with -EPERM. It holds for this one wish, and ends with it,
 * also if it is withdrawn; quorum and a majority are needed all the same. @nodes are of the
 * cluster, each of them once. 0, config.on_wish() follows; -EBUSY: a change of owner is under way
 * here; the caller has asked the person first.
 */
int ferry_ownership_force(struct ferry_ownership *ownership,
			  const struct ferry_members *nodes) FERRY_MUST_CHECK;

/*
 * Fence @victim from the pool: a new epoch without it, its registrations preempted and all it may
 * have in flight aborted, by whoever owns the pool, or by this node. If @victim owned it, nobody
 * does afterwards, until it is acquired. The victim's agent does not register again before it is
 * started anew. 0: config.on_fenced() follows, with 0 only for what was verified at the lun.
 * -EOPNOTSUPP: the lun has no reservations, fence the node by its power; -EINVAL: this node
 * itself; -EPERM: this node is fenced itself; -EAGAIN: no quorum; -EBUSY: another is being fenced.
 */
int ferry_ownership_fence(struct ferry_ownership *ownership,
			  struct ferry_node victim) FERRY_MUST_CHECK;

/*
 * Whether the newest agent of @node has been fenced, and this agent has heard that it was verified
 * at the lun: nothing that the node sent can land any more. False may be ignorance.
 */
bool ferry_ownership_is_fenced_for_sure(const struct ferry_ownership *ownership,
					struct ferry_node node);

/* Whether enough of the others see the lun that this node sees under the pool's name. */
bool ferry_ownership_lun_is_agreed(const struct ferry_ownership *ownership);
