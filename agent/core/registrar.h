/*
 * registrar.h - this node's registration at one lun, and taking the lun over.
 *
 * Every session at the lun starts unregistered, whatever was before: the local lane is allowed
 * only once this session has registered, and it registers only by grant (view.may_register), and
 * only when nothing of an older session of this node can be in flight any more (design, rule 13).
 * The holder never unregisters; it is preempted.
 *
 * Owns:    one fence request at a time; the local lane's permit.
 * Callers: engine.c.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/core/router.h"
#include "agent/core/view.h"
#include "agent/ports/fence.h"

enum ferry_registrar_state {
	FERRY_REGISTRAR_OUT = 1, /* Not registered, and not trying. */
	FERRY_REGISTRAR_READING, /* Reading the keys before registering. */
	FERRY_REGISTRAR_WITNESS, /* The first since the target's restart: the owner has to know. */
	FERRY_REGISTRAR_RAISING, /* As a witness; the keys are read anew each time. */
	FERRY_REGISTRAR_JOINING, /* Registering. */
	FERRY_REGISTRAR_RESERVING, /* The owner's, on a lun that has lost its reservation. */
	FERRY_REGISTRAR_ASKING,	   /* Registered; may it, as far as the group knows now? */
	FERRY_REGISTRAR_IN,	   /* Registered in this session. */
	FERRY_REGISTRAR_FOREIGN,   /* Somebody else's keys are on the lun: hands off. */
};

/* Taking the lun over: everyone who has not drained is preempted, then it is reserved. */
enum ferry_take_step {
	FERRY_TAKE_NONE = 0,
	FERRY_TAKE_WAITING, /* For the registration. */
	FERRY_TAKE_READING,
	FERRY_TAKE_PREEMPTING,
	FERRY_TAKE_RESERVING,
	FERRY_TAKE_ABORTING, /* What suspects, unknown to the lun by now, may have in flight. */
};

struct ferry_registrar_config {
	struct ferry_loop *loop;
	struct ferry_events *events;
	const char *pool;
	struct ferry_fence *fence;
	struct ferry_router *router;
	const struct ferry_view *view;
	struct ferry_key own;
	bool restarts_go_untold; /* The lun has a cache to lose, and fence.h's hides_restarts. */
	/* Whether a wish to kill this node's own nexus is on its way. */
	bool (*is_being_laid)(void *context);
	/*
	 * An older incarnation's key was on the lun, and this one's is in its place: the nexus is
	 * the same. Until it has been killed this node's lane carries nothing.
	 */
	void (*on_old_key)(struct ferry_key key, void *context);
	/* The owner's registration was taken, not at its wish: its epoch is no good any more. */
	void (*on_preempted)(void *context);
	/* Ask the group for a view that is newer than now; its word() answers. 0: nobody to ask. */
	uint64_t (*ask)(void *context);
	/*
	 * @number: this node has found the target restarted, and waits until view.told says that
	 * the owner knows; 0: it does not any more.
	 */
	void (*on_witness)(uint64_t number, void *context);
	/*
	 * About to be allowed, the first time too: an abort of a nexus without a registration has
	 * proven dead what was sent to it till then.
	 */
	void (*on_join)(void *context);
	void (*on_taken)(int error, void *context);
	void *context;
};

struct ferry_registrar {
	struct ferry_registrar_config config;
	enum ferry_registrar_state state;
	enum ferry_take_step take;
	struct ferry_drained_keys drained; /* Who needs no preempting, and who is suspect. */
	uint32_t suspects_done;
	struct ferry_fence_request request;
	bool is_busy;
	bool is_over;	    /* What is answered from now on changes nothing. */
	bool verify_is_due; /* Somebody else took the lun: is this node still registered? */
	bool is_verifying;
	bool is_routine;	 /* It is verifying for a FLUSH only, without a suspicion. */
	bool durable_is_due;	 /* A FLUSH has ended, and is believed when the keys were read. */
	uint64_t durable_until;	 /* Those that had ended when they were last asked for. */
	bool reset_is_due;	 /* A reset was reported, and has not been looked at since. */
	bool session_is_new;	 /* Since the last registration was lost. */
	bool is_registered;	 /* This session has been, since the keys were last looked at. */
	bool was_in;		 /* Registered at least once. */
	bool must_reserve;	 /* Nobody held the reservation when the keys were read. */
	uint64_t word;		 /* What the view's word has to be, to register or be IN. */
	uint32_t generation;	 /* Of the keys, when last read. */
	uint32_t registers_left; /* A witness raises the count until everybody sees it. */
	uint64_t witness;	 /* The number of the restart that the owner has yet to note... */
	uint64_t witness_last;
	uint32_t witness_count; /* Of the keys, as it has left it. */
	uint32_t raised_from;	/* The same when it was last raised... */
	uint32_t raised_vainly; /* ...and how often in a row it stayed as it was. */
	bool witness_noted;	/* ...or this node, which is the owner, has noted... */
	bool has_asked;		/* ...in this epoch, who that is. */
	struct ferry_epoch witness_epoch;
	bool is_apart;		/* Of two nodes, some time since it was last IN. */
	uint64_t losses_seen;	/* Of the router's, when the keys were last as expected. */
	struct ferry_key elder; /* Its key was on the lun before this agent's; 0: none was. */
	bool is_unsure;		/* Its key was gone, and the group has not granted another since. */
	bool is_refused;	/* By the keys on the lun; said once. */
	struct ferry_epoch preempted; /* As its owner: only a later one registers. */
	struct ferry_timer retry_timer;
};

void ferry_registrar_init(struct ferry_registrar *registrar,
			  const struct ferry_registrar_config *config);
void ferry_registrar_done(struct ferry_registrar *registrar);

/* The local path came up (a new session) or went down. */
void ferry_registrar_session(struct ferry_registrar *registrar, bool is_up);

/* Something changed that it may have waited for: the view, a clean lane, a finished laying. */
void ferry_registrar_poke(struct ferry_registrar *registrar);

/* A conflict, or a unit attention, said that this node's registration is gone. */
void ferry_registrar_lost(struct ferry_registrar *registrar);

/* Whether only an owner of the pool is wanting: it has found the target restarted. */
bool ferry_registrar_awaits_owner(const struct ferry_registrar *registrar);

/* Another node has taken the lun, or the target may have been restarted: look at the keys. */
void ferry_registrar_verify(struct ferry_registrar *registrar);

/*
 * Whether this node may preempt others: each PREEMPT raises the count of registrations above the
 * number of keys, which is what a restart is known by. So this session has registered, after it had
 * looked, and no reset is reported that has not been looked at (docs/decisions/0009).
 */
bool ferry_registrar_may_abort(const struct ferry_registrar *registrar);

/*
 * Somebody else registers this node's key beside foreign ones, to remove one of those: whether it
 * may, by the @keys just read. False: the owner does not know yet that the target was restarted.
 */
bool ferry_registrar_may_register_beside(struct ferry_registrar *registrar,
					 const struct ferry_fence_request *keys);

/* And it is registered. */
void ferry_registrar_note_beside(struct ferry_registrar *registrar);

/*
 * The lun reports a reset in this session: a LUN RESET loses nothing, a restart does.
 * ferry_router_reset_seen() follows, or the session is made anew.
 */
void ferry_registrar_look_at_reset(struct ferry_registrar *registrar);

/* Something is held by the local lane (lane.h): ferry_lane_durable() follows. */
void ferry_registrar_look_at_durable(struct ferry_registrar *registrar);

/* The key was removed at this node's own wish. */
void ferry_registrar_note_laid(struct ferry_registrar *registrar);

/*
 * And it is done: what was registered meanwhile is gone too, a new session registers again. The
 * path is told to make one if its session is the old one still.
 */
void ferry_registrar_was_killed(struct ferry_registrar *registrar);

/*
 * Make this node the only one that can write, but for @drained, its peers' agents that have
 * installed the epoch and drained. config.on_taken() follows: 0, or -EPERM foreign keys, -EIO,
 * -ETIMEDOUT, -EACCES this node is not registered and may not register by itself.
 */
void ferry_registrar_take(struct ferry_registrar *registrar,
			  const struct ferry_drained_keys *drained);

/* Another has claimed the pool: no further step, and no on_taken(). A step under way ends unheard.
 */
void ferry_registrar_drop_take(struct ferry_registrar *registrar);
