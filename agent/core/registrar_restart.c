/*
 * registrar_restart.c - what the count of registrations says of the target: whether it was
 * restarted, who is the witness of that, and looking once more (docs/decisions/0009).
 */
#include "agent/base/museum.h"
#include "agent/core/registrar_private.h"

/*
 * Where a restart may go untold, what each node has on its way may be executed by another target
 * than it has read: a REGISTER or a PREEMPT, of which each is followed by a reading.
 */
enum { UNTOLD_CHANGES_MAX = FERRY_NODES_MAX };

/*
 * So there a witness first raises the count by more than that, and then tells. Nodes next to each
 * other stop at levels of their own: none takes what another has done at a later target for its
 * own. Those that all stop at once, each with a REGISTER on its way, do not pass for witnessed.
 */
enum {
	UNTOLD_LEVELS = 8,
	UNTOLD_LEVEL_MIN = UNTOLD_CHANGES_MAX + 1,
	UNTOLD_WITNESSED_ABOVE = UNTOLD_LEVEL_MIN + UNTOLD_LEVELS + UNTOLD_CHANGES_MAX,
};

/* After so many REGISTERs that did not change the count it is taken for one that never does. */
enum { RAISED_VAINLY_MAX = 16 };

/* The highest count that shows that no witness has registered since the target was restarted. */
static uint32_t count_unwitnessed(const struct ferry_registrar *registrar,
				  const struct ferry_fence_request *keys)
{
	return keys->keys_count +
	       (registrar->config.restarts_go_untold ? UNTOLD_WITNESSED_ABOVE : 0);
}

/* The target breaks its promise: there each new session looks like a restart, and is one. */
static bool never_counts(const struct ferry_registrar *registrar)
{
	return registrar->raised_vainly >= RAISED_VAINLY_MAX;
}

/* What is read at any later target would be lower. */
static bool is_raised(const struct ferry_registrar *registrar)
{
	const struct ferry_fence_request *request = &registrar->request;
	uint32_t level = UNTOLD_LEVEL_MIN + ferry_key_node(registrar->config.own).v % UNTOLD_LEVELS;

	return !registrar->config.restarts_go_untold || FERRY_MUSEUM(TOLD_EARLY) ||
	       never_counts(registrar) || request->generation >= request->keys_count + level;
}

/*
 * Nobody has registered here as a witness since the target was restarted: the count of changes
 * begins anew only then (SPC-4, 5.13.7), at 0 or, where a target counts those that it restores, at
 * their number. Each registration, removal and preemption raises it, and with it the number of keys
 * by one at most; a witness raises it by more than that.
 */
bool ferry_registrar_is_first_here(const struct ferry_registrar *registrar)
{
	const struct ferry_fence_request *request = &registrar->request;

	return request->generation <= count_unwitnessed(registrar, request) &&
	       !FERRY_MUSEUM(RESTART_HIDDEN);
}

/* This node has noted a loss since it was last sure of its key. */
static bool is_told(const struct ferry_registrar *registrar)
{
	return registrar->config.router->flush.losses_seen != registrar->losses_seen;
}

/* In a session that lives: what was just read is of another life of the target's. */
bool ferry_registrar_shows_restart(const struct ferry_registrar *registrar)
{
	bool is_lower = registrar->request.generation < registrar->generation;

	return (is_lower && !is_told(registrar)) || ferry_registrar_is_first_here(registrar);
}

static void note_restart(struct ferry_registrar *registrar)
{
	ferry_router_note_reset(registrar->config.router, /* lane= */ NULL,
				"the target has lost its count of registrations: it was restarted");
}

/* In a session that has lived through it: a new one comes back as after any other restart. */
void ferry_registrar_restarted(struct ferry_registrar *registrar)
{
	struct ferry_lane *lane = ferry_registrar_lane(registrar);

	if (ferry_registrar_is_owner(registrar))
		note_restart(registrar);
	registrar->state = FERRY_REGISTRAR_OUT;
	registrar->is_registered = false;
	ferry_registrar_take_again(registrar);
	ferry_lane_allow(lane, false, "the target was restarted");
	ferry_path_renew(lane->path);
}

/* Another has been the witness, or this session is over. */
void ferry_registrar_witness_end(struct ferry_registrar *registrar)
{
	if (registrar->witness == 0)
		return;
	registrar->witness = 0;
	registrar->config.on_witness(0, registrar->config.context);
}

/*
 * Before anybody carries anything at the restarted target, whoever owns the pool has to know: a
 * claim that only this node has heard of is no ownership, so the group is asked once more in each
 * epoch. Without an owner nobody is promised anything; who claims the pool is then the first here.
 */
bool ferry_registrar_owner_knows(struct ferry_registrar *registrar)
{
	const struct ferry_view *view = registrar->config.view;

	if (!registrar->has_asked || registrar->witness_epoch.v != view->epoch.v) {
		registrar->has_asked = true;
		registrar->witness_epoch = view->epoch;
		registrar->word = registrar->config.ask(registrar->config.context);
	}
	if (view->word < registrar->word || !view->may_help)
		return false;
	if (ferry_registrar_is_owner(registrar) || FERRY_MUSEUM(RESTART_UNTOLD))
		return true;
	return ferry_view_has_member(view, view->owner) && view->told_by.v == view->owner.v &&
	       view->told >= registrar->witness;
}

static void witness_wait(struct ferry_registrar *registrar)
{
	registrar->state = FERRY_REGISTRAR_WITNESS;
	if (!ferry_timer_is_started(&registrar->retry_timer))
		ferry_registrar_retry_later(
			registrar); /* Another may be quicker: it is read again. */
}

/*
 * The owner needs nobody to tell it, and notes at once what it has seen: by the time that it may
 * register, others' changes may have hidden it. So does who becomes the owner while it waits.
 */
void ferry_registrar_witness_note(struct ferry_registrar *registrar)
{
	if (ferry_registrar_is_owner(registrar) && !registrar->witness_noted)
		note_restart(registrar);
	registrar->witness_noted = ferry_registrar_is_owner(registrar);
}

static void witness_begin(struct ferry_registrar *registrar)
{
	if (registrar->witness == 0) {
		registrar->witness = ++registrar->witness_last;
		registrar->witness_count = registrar->request.generation;
		registrar->has_asked = false;
		registrar->witness_noted = false;
		registrar->config.on_witness(registrar->witness, registrar->config.context);
	}
	ferry_registrar_witness_note(registrar);
}

/*
 * Where sessions outlive a restart, each REGISTER is decided on by a reading of its own, and what
 * the owner was told holds as long as the count is as this node has left it.
 */
static void witness_raise(struct ferry_registrar *registrar)
{
	bool is_vain = registrar->request.generation == registrar->raised_from;

	registrar->raised_vainly = is_vain ? registrar->raised_vainly + 1 : 0;
	registrar->raised_from = registrar->request.generation;
	registrar->witness_count++;
	registrar->state = FERRY_REGISTRAR_RAISING;
	ferry_registrar_ask(registrar, FERRY_FENCE_REGISTER, (struct ferry_key){0});
}

/* The keys have just been read. */
void ferry_registrar_witness_read(struct ferry_registrar *registrar)
{
	const struct ferry_fence_request *request = &registrar->request;
	bool is_untold = registrar->config.restarts_go_untold;

	ferry_assert(request->generation <= count_unwitnessed(registrar, request));
	if (is_untold && registrar->witness_count != request->generation &&
	    !FERRY_MUSEUM(TOLD_EARLY))
		ferry_registrar_witness_end(registrar);
	if (!is_raised(registrar)) {
		witness_raise(registrar);
		return;
	}
	witness_begin(registrar);
	if (!ferry_registrar_owner_knows(registrar)) {
		witness_wait(registrar);
		return;
	}
	if (is_untold && !never_counts(registrar)) {
		witness_raise(registrar);
		return;
	}
	if (ferry_registrar_is_owner(registrar))
		note_restart(registrar);
	ferry_registrar_register(registrar,
				 2 + count_unwitnessed(registrar, request) - request->generation);
}

/*
 * What only the owner can miss. Of two nodes that are apart the other may have been the witness,
 * and has nobody to tell; and somebody who is no agent of ours may have registered first.
 */
void ferry_registrar_note_unseen(struct ferry_registrar *registrar)
{
	bool is_lower = registrar->request.generation < registrar->generation;

	if (registrar->was_in && (registrar->is_apart || (is_lower && !is_told(registrar))))
		note_restart(registrar);
}

/*
 * Beside foreign keys it does not register; but an administrator may have this node remove them,
 * and that changes the count.
 */
void ferry_registrar_witness_beside(struct ferry_registrar *registrar)
{
	if (!ferry_registrar_is_first_here(registrar)) {
		ferry_registrar_witness_end(registrar);
		return;
	}
	witness_begin(registrar);
	(void)ferry_registrar_owner_knows(
		registrar); /* What comes of asking is looked at when it counts. */
}

void ferry_registrar_verify_begin(struct ferry_registrar *registrar)
{
	registrar->is_routine = !registrar->verify_is_due && !registrar->reset_is_due;
	registrar->verify_is_due = false;
	registrar->reset_is_due = false;
	registrar->durable_is_due = false;
	registrar->durable_until = ferry_registrar_lane(registrar)->held_last;
	registrar->is_verifying = true;
	ferry_registrar_ask(registrar, FERRY_FENCE_READ_KEYS, (struct ferry_key){0});
}

static bool has_own_key(const struct ferry_registrar *registrar)
{
	for (uint32_t i = 0; i < registrar->request.keys_count; i++)
		if (registrar->request.keys[i].v == registrar->config.own.v)
			return true;
	return false;
}

/* READ KEYS has come back, whatever this node was looking for. */
void ferry_registrar_verify_done(struct ferry_registrar *registrar, int error)
{
	registrar->is_verifying = false;
	if (error < 0) { /* The session, or the next conflict, will tell; else it is read again. */
		registrar->durable_is_due |= registrar->durable_until > 0;
		registrar->reset_is_due |= ferry_registrar_lane(registrar)->is_doubtful ||
					   registrar->state != FERRY_REGISTRAR_IN;
		ferry_registrar_retry_later(registrar);
		return;
	}
	if (ferry_registrar_shows_restart(registrar)) {
		ferry_registrar_restarted(registrar);
		return;
	}
	registrar->generation = registrar->request.generation;
	if (!has_own_key(registrar) && registrar->state != FERRY_REGISTRAR_OUT) {
		ferry_registrar_lost(registrar);
		return;
	}
	registrar->losses_seen = registrar->config.router->flush.losses_seen;
	if (!registrar->reset_is_due && ferry_registrar_lane(registrar)->is_doubtful)
		ferry_router_reset_seen(registrar->config.router);
	ferry_lane_durable(ferry_registrar_lane(registrar), registrar->durable_until,
			   /* is_same= */ true);
}

bool ferry_registrar_awaits_owner(const struct ferry_registrar *registrar)
{
	const struct ferry_view *view = registrar->config.view;

	/* A claim that came to nothing leaves an owner behind that will never answer. */
	return registrar->witness != 0 && !registrar->is_refused &&
	       (!view->is_in_force || !ferry_view_has_member(view, view->owner));
}

void ferry_registrar_verify(struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	if (registrar->state == FERRY_REGISTRAR_IN)
		registrar->verify_is_due = true;
	else if (ferry_registrar_lane(registrar)->path->is_up)
		registrar->reset_is_due = true; /* What is being read may be older than this. */
	ferry_registrar_poke(registrar);
}

bool ferry_registrar_may_register_beside(struct ferry_registrar *registrar,
					 const struct ferry_fence_request *keys)
{
	const struct ferry_view *view = registrar->config.view;

	ferry_assert(registrar && keys->keys_count <= FERRY_KEYS_MAX);
	if (keys->generation > count_unwitnessed(registrar, keys))
		return true;
	if (registrar->witness == 0)
		return false; /* It has not seen that yet. */
	return ferry_registrar_owner_knows(registrar) ||
	       (view->owner.v == 0 && view->may_help && view->word >= registrar->word);
}

bool ferry_registrar_may_abort(const struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	return registrar->is_registered && !registrar->reset_is_due &&
	       (!registrar->is_verifying || registrar->is_routine);
}

void ferry_registrar_look_at_reset(struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	registrar->reset_is_due = true;
	ferry_registrar_poke(registrar);
}

void ferry_registrar_look_at_durable(struct ferry_registrar *registrar)
{
	struct ferry_lane *lane = ferry_registrar_lane(registrar);

	ferry_assert(registrar && registrar->config.restarts_go_untold);
	if (registrar->state != FERRY_REGISTRAR_IN) { /* The keys say nothing of that FLUSH. */
		ferry_lane_durable(lane, lane->held_last, /* is_same= */ false);
		return;
	}
	registrar->durable_is_due = true;
	ferry_registrar_poke(registrar);
}

void ferry_registrar_note_beside(struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	registrar->is_registered = registrar->state == FERRY_REGISTRAR_FOREIGN;
}
