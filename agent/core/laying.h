/*
 * laying.h - having ghosts proven dead: whom to ask to kill a nexus, until somebody could.
 *
 * This node's own nexus is killed by a peer, with this node's consent: it is this node that asks.
 * Where there are no peers, and nobody else uses the lun, a new session of this node's resets it.
 * A peer's nexus is killed by this node itself if its path works, or by another peer. Only the
 * lun's answer counts as proof (design, rule 3); asking again is harmless.
 *
 * Owns:    one wish per lane.
 * Callers: engine.c, on behalf of router.c.
 * Thread:  the pool's data loop.
 * Rooms:   rank 2.
 */
#pragma once

#include "agent/core/peer.h"
#include "agent/core/router.h"
#include "agent/core/view.h"
#include "agent/ports/fence.h"

struct ferry_laying;

struct ferry_laying_wish {
	struct ferry_laying *laying;
	struct ferry_lane *lane; /* Whose nexus; NULL while there is no wish. */
	bool is_asking;		 /* An answer is due. */
	bool is_settled;	 /* The answer will be no news: laid by other means. */
	bool is_wanted_anew;	 /* And since then there were new ones. */
	uint32_t attempts;
	uint64_t asked_at; /* By the router's numbers: what was sent later is not covered. */
	struct ferry_peer_lay by_peer;
	struct ferry_fence_request by_self;
};

struct ferry_laying_config {
	struct ferry_loop *loop;
	struct ferry_events *events;
	const char *pool;
	struct ferry_router *router;
	struct ferry_fence *fence; /* NULL: nobody can abort anything at this lun. */
	bool is_alone; /* This node's own nexus is killed by a reset in a new session. */
	struct ferry_key own;
	struct ferry_uuid lun;
	struct ferry_uuid lineage;
	const struct ferry_view *view;
	/* The peer behind a lane. */
	struct ferry_peer *(*peer_of)(struct ferry_lane *lane, void *context);
	/* What went by @lane up to number @until is dead. */
	void (*on_laid)(struct ferry_lane *lane, uint64_t until, const char *by, void *context);
	/* The lun does not know this node's own key. */
	void (*on_unregistered)(void *context);
	/* Its own nexus cannot be killed, try after try: perhaps the lun is not as it was. */
	void (*on_delayed)(void *context);
	/* Whether this node may preempt now; asked again later if not. */
	bool (*may_abort)(void *context);
	void *context;
};

struct ferry_laying {
	struct ferry_laying_config config;
	struct ferry_laying_wish wishes[FERRY_LANES_MAX];
	struct ferry_timer retry_timer;
	bool is_over; /* What is answered from now on changes nothing. */
	uint64_t failures;
	struct ferry_key
		victim_local; /* What to preempt of this node's: its own key, or an elder's. */
};

void ferry_laying_init(struct ferry_laying *laying, const struct ferry_laying_config *config);
void ferry_laying_done(struct ferry_laying *laying);

/* Have the nexus of @lane killed. More than one call is one wish. */
void ferry_laying_want(struct ferry_laying *laying, struct ferry_lane *lane);

/* Its ghosts are known to be dead by other means: nobody is to be asked any more. */
void ferry_laying_settle(struct ferry_laying *laying, struct ferry_lane *lane);

bool ferry_laying_is_wanted(const struct ferry_laying *laying, const struct ferry_lane *lane);
