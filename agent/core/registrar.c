#include "agent/core/registrar.h"

#include <stdio.h>

#include "agent/base/museum.h"
#include "agent/core/key.h"
#include "agent/core/keys.h"

#define RETRY_NS (300 * FERRY_NS_PER_MS)
static struct ferry_lane *local_lane(struct ferry_registrar *registrar)
{
	return ferry_router_local(registrar->config.router);
}

static void emit(struct ferry_registrar *registrar, enum ferry_event_kind kind,
		 enum ferry_severity severity, uint64_t value, const char *text)
{
	struct ferry_event event = {.kind = kind,
				    .severity = severity,
				    .value = value,
				    .time_ns = ferry_loop_now_ns(registrar->config.loop)};

	(void)snprintf(event.pool, sizeof(event.pool), "%s", registrar->config.pool);
	ferry_event_emit(registrar->config.events, event, "%s", text);
}

static void retry_later(struct ferry_registrar *registrar)
{
	ferry_timer_start_in(registrar->config.loop, &registrar->retry_timer, RETRY_NS);
}

/* Of this node, by the answer that goes now. */
static struct ferry_key kept_key(const struct ferry_registrar *registrar)
{
	if (registrar->request.op == FERRY_FENCE_REGISTER) /* Done; else the keys are read again. */
		return registrar->config.own;
	return ferry_fence_kept(&registrar->request, registrar->config.own);
}

static void ask(struct ferry_registrar *registrar, enum ferry_fence_op op, struct ferry_key victim)
{
	ferry_assert(!registrar->is_busy);
	registrar->request.kept = kept_key(registrar);
	registrar->is_busy = true;
	registrar->request.op = op;
	registrar->request.own = registrar->config.own;
	registrar->request.victim = victim;
	registrar->request.keys_count = 0;
	ferry_fence_submit(registrar->config.fence, &registrar->request);
}

static struct ferry_keys keys_read(const struct ferry_registrar *registrar)
{
	return (struct ferry_keys){.keys = registrar->request.keys,
				   .count = registrar->request.keys_count,
				   .holder = registrar->request.holder};
}

/* ---- Taking the lun over. ---- */

static void take_finish(struct ferry_registrar *registrar, int error)
{
	registrar->take = FERRY_TAKE_NONE;
	registrar->config.on_taken(error, registrar->config.context);
}

/* Whatever step it was at: from the start, once this node is registered again. */
static void take_again(struct ferry_registrar *registrar)
{
	if (registrar->take != FERRY_TAKE_NONE)
		registrar->take = FERRY_TAKE_WAITING;
}

/*
 * Should the session be lost now, the key may be gone and its commands alive: nothing but its name
 * will be left to abort by. False: there are more than can be.
 */
static bool suspect_add(struct ferry_registrar *registrar, struct ferry_key key)
{
	struct ferry_drained_keys *drained = &registrar->drained;

	ferry_assert(key.v != 0);
	ferry_assert(drained->suspects_count <= FERRY_KEYS_MAX);
	for (uint32_t i = registrar->suspects_done; i < drained->suspects_count; i++)
		if (drained->suspects[i].v == key.v)
			return true;
	if (drained->suspects_count == FERRY_KEYS_MAX)
		return false;
	drained->suspects[drained->suspects_count++] = key;
	return true;
}

static void node_add(uint32_t *nodes, uint32_t *count, struct ferry_key key)
{
	uint32_t node = ferry_key_node(key).v;

	for (uint32_t i = 0; i < *count; i++)
		if (nodes[i] == node)
			return;
	if (node != 0)
		nodes[(*count)++] = node;
}

/* Whether each node is either heard or was found registered: then each has been dealt with by name.
 */
static bool has_all_names(const struct ferry_registrar *registrar)
{
	const struct ferry_drained_keys *drained = &registrar->drained;
	uint32_t nodes[2 * FERRY_KEYS_MAX + 1];
	uint32_t count = 0;

	node_add(nodes, &count, registrar->config.own);
	for (uint32_t i = 0; i < drained->count; i++)
		node_add(nodes, &count, drained->keys[i]);
	for (uint32_t i = 0; i < drained->suspects_count; i++)
		node_add(nodes, &count, drained->suspects[i]);
	return count >= drained->nodes_expected;
}

/*
 * To abort what nobody is known to have sent means to reset the lun: where a registration ends with
 * its session. Elsewhere the lun has told everybody's; or those that it told, and the group, are
 * all that there are.
 */
static bool suspect_is_moot(const struct ferry_registrar *registrar, struct ferry_key suspect)
{
	enum ferry_laying_way way = registrar->config.fence->ability.laying;

	if (way == 0 || way == FERRY_LAYING_RESET)
		return false;
	return suspect.v == ferry_key_of_nobody().v ||
	       (suspect.v == ferry_key_of_forgotten().v && has_all_names(registrar));
}

/* Only this node and who has drained is registered: now what the others left in flight. */
static void take_abort(struct ferry_registrar *registrar)
{
	const struct ferry_drained_keys *drained = &registrar->drained;

	while (registrar->suspects_done < drained->suspects_count &&
	       (suspect_is_moot(registrar, drained->suspects[registrar->suspects_done]) ||
		FERRY_MUSEUM(ABSENT_NOT_ABORTED)))
		registrar->suspects_done++;
	if (registrar->suspects_done == drained->suspects_count) {
		take_finish(registrar, 0);
		return;
	}
	registrar->take = FERRY_TAKE_ABORTING;
	ferry_router_expect_reset(registrar->config.router);
	ask(registrar, FERRY_FENCE_PREEMPT, drained->suspects[registrar->suspects_done]);
}

static void take_read(struct ferry_registrar *registrar)
{
	struct ferry_keys lun = keys_read(registrar);
	struct ferry_key victim = {0};

	switch (ferry_keys_take(&lun, registrar->config.own, &registrar->drained, &victim)) {
	case FERRY_KEYS_REFUSE:
		emit(registrar, FERRY_EVENT_ADMIN, FERRY_SEVERITY_ERROR, lun.holder.v,
		     "foreign registrations on the lun: not taking it");
		take_finish(registrar, -EPERM);
		return;
	case FERRY_KEYS_PREEMPT:
		if (!suspect_add(registrar, victim)) {
			take_finish(registrar, -EIO);
			return;
		}
		emit(registrar, FERRY_EVENT_FENCED, FERRY_SEVERITY_WARNING, victim.v,
		     "preempting a registrant that has not drained");
		registrar->take = FERRY_TAKE_PREEMPTING;
		ferry_router_expect_reset(registrar->config.router);
		ask(registrar, FERRY_FENCE_PREEMPT, victim);
		return;
	case FERRY_KEYS_RESERVE:
		registrar->take = FERRY_TAKE_RESERVING;
		ask(registrar, FERRY_FENCE_RESERVE, victim);
		return;
	case FERRY_KEYS_ABORT:
	default:
		take_abort(registrar);
		return;
	}
}

/*
 * Whoever registers again after that has asked the group since, whose newest epoch is at least this
 * one: what it had sent is dead, and it sends no more of it. Where aborts take long, several who
 * cannot drain would else be back before the last of them was preempted, again and again.
 */
static void note_preempted(struct ferry_registrar *registrar)
{
	struct ferry_drained_keys *drained = &registrar->drained;

	ferry_assert(registrar->take == FERRY_TAKE_PREEMPTING);
	if (drained->count < FERRY_KEYS_MAX)
		drained->keys[drained->count++] = registrar->request.victim;
}

static void take_step(struct ferry_registrar *registrar, int error)
{
	switch (registrar->take) {
	case FERRY_TAKE_WAITING: /* A step of an earlier taking ended: it says nothing here. */
		registrar->take = FERRY_TAKE_READING;
		ask(registrar, FERRY_FENCE_READ_KEYS, (struct ferry_key){0});
		return;
	case FERRY_TAKE_READING:
		if (error == 0) {
			take_read(registrar);
			return;
		}
		break;
	case FERRY_TAKE_PREEMPTING:
	case FERRY_TAKE_RESERVING:
		if (error == 0 && registrar->take == FERRY_TAKE_PREEMPTING)
			note_preempted(registrar);
		/* Whatever it said, what the lun says next counts. */
		if (error == 0 || error == -EBUSY || error == -ENOENT) {
			registrar->take = FERRY_TAKE_READING;
			ask(registrar, FERRY_FENCE_READ_KEYS, (struct ferry_key){0});
			return;
		}
		break;
	case FERRY_TAKE_ABORTING:
		/* -ENOENT: the reservation is gone, and with it what kept the suspect out. */
		if (error == 0) {
			registrar->suspects_done++;
			take_abort(registrar);
			return;
		}
		break;
	case FERRY_TAKE_NONE:
	default:
		return;
	}
	if (error == -EACCES) {
		ferry_registrar_lost(registrar);
		return;
	}
	if (error == -EOPNOTSUPP) { /* It will not be otherwise the next time. */
		take_finish(registrar, error);
		return;
	}
	registrar->take = FERRY_TAKE_WAITING; /* Until the path works. */
	retry_later(registrar);
}

/*
 * A reset was reported meanwhile, maybe a restart's: a further PREEMPT would hide it. So what this
 * step came to is kept, and the taking goes on from the start once the keys have been looked at.
 */
static void take_pause(struct ferry_registrar *registrar, int error)
{
	if (error == 0 && registrar->take == FERRY_TAKE_PREEMPTING)
		note_preempted(registrar);
	if (error == 0 && registrar->take == FERRY_TAKE_ABORTING)
		registrar->suspects_done++;
	registrar->take = FERRY_TAKE_WAITING;
	ferry_registrar_poke(registrar);
}

/* ---- Joining. ---- */

/* The keys on the lun forbid it. A taking that waits for the registration will not get it. */
static void join_refuse(struct ferry_registrar *registrar, enum ferry_registrar_state state,
			const char *why)
{
	if (!registrar->is_refused)
		emit(registrar, FERRY_EVENT_ADMIN, FERRY_SEVERITY_ERROR,
		     registrar->request.keys_count > 0 ? registrar->request.keys[0].v : 0, why);
	registrar->is_refused = true;
	registrar->state = state;
	if (registrar->take != FERRY_TAKE_NONE)
		take_finish(registrar, state == FERRY_REGISTRAR_FOREIGN ? -EPERM : -EACCES);
	retry_later(registrar);
}

static struct ferry_key elder_key(const struct ferry_registrar *registrar)
{
	const struct ferry_fence_request *request = &registrar->request;

	for (uint32_t i = 0; i < request->keys_count; i++)
		if (request->keys[i].v != registrar->config.own.v &&
		    ferry_key_shares_nexus(request->keys[i], registrar->config.own))
			return request->keys[i];
	return (struct ferry_key){0};
}

/* Whether the lun still has this node's key, or its elder's. */
static bool is_kept(const struct ferry_registrar *registrar)
{
	return kept_key(registrar).v != 0;
}

/*
 * Nobody has registered here as a witness since the target was restarted: the count of changes
 * begins anew only then (SPC-4, 5.13.7), at 0 or, where a target counts those that it restores, at
 * their number. Each registration, removal and preemption raises it, and with it the number of keys
 * by one at most; a witness raises it by more than that.
 */
static bool is_first_here(const struct ferry_registrar *registrar)
{
	const struct ferry_fence_request *request = &registrar->request;

	return request->generation <= request->keys_count && !FERRY_MUSEUM(RESTART_HIDDEN);
}

static void note_restart(struct ferry_registrar *registrar)
{
	ferry_router_note_reset(registrar->config.router, /* lane= */ NULL,
				"the target has lost its count of registrations: it was restarted");
}

/* ---- The witness of a restart (docs/decisions/0009). ---- */

static bool is_owner(const struct ferry_registrar *registrar)
{
	return registrar->config.view->owner.v == ferry_key_node(registrar->config.own).v;
}

static void join_register(struct ferry_registrar *registrar, uint32_t times)
{
	registrar->generation = registrar->request.generation;
	registrar->registers_left = times;
	registrar->state = FERRY_REGISTRAR_JOINING;
	ask(registrar, FERRY_FENCE_REGISTER, (struct ferry_key){0});
}

/* Another has been the witness, or this session is over. */
static void witness_end(struct ferry_registrar *registrar)
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
static bool owner_knows(struct ferry_registrar *registrar)
{
	const struct ferry_view *view = registrar->config.view;

	if (!registrar->has_asked || registrar->witness_epoch.v != view->epoch.v) {
		registrar->has_asked = true;
		registrar->witness_epoch = view->epoch;
		registrar->word = registrar->config.ask(registrar->config.context);
	}
	if (view->word < registrar->word || !view->may_help)
		return false;
	if (is_owner(registrar) || FERRY_MUSEUM(RESTART_UNTOLD))
		return true;
	return ferry_view_has_member(view, view->owner) && view->told_by.v == view->owner.v &&
	       view->told >= registrar->witness;
}

static void witness_wait(struct ferry_registrar *registrar)
{
	registrar->state = FERRY_REGISTRAR_WITNESS;
	if (!ferry_timer_is_started(&registrar->retry_timer))
		retry_later(registrar); /* Another may be quicker: it is read again. */
}

static void read_keys(struct ferry_registrar *registrar)
{
	registrar->is_registered = false; /* By what was known before they come. */
	registrar->reset_is_due = false;
	registrar->state = FERRY_REGISTRAR_READING;
	ask(registrar, FERRY_FENCE_READ_KEYS, (struct ferry_key){0});
}

/*
 * The owner needs nobody to tell it, and notes at once what it has seen: by the time that it may
 * register, others' changes may have hidden it. So does who becomes the owner while it waits.
 */
static void witness_note(struct ferry_registrar *registrar)
{
	if (is_owner(registrar) && !registrar->witness_noted)
		note_restart(registrar);
	registrar->witness_noted = is_owner(registrar);
}

static void witness_begin(struct ferry_registrar *registrar)
{
	if (registrar->witness == 0) {
		registrar->witness = ++registrar->witness_last;
		registrar->has_asked = false;
		registrar->witness_noted = false;
		registrar->config.on_witness(registrar->witness, registrar->config.context);
	}
	witness_note(registrar);
}

/* The keys have just been read. */
static void witness_read(struct ferry_registrar *registrar)
{
	const struct ferry_fence_request *request = &registrar->request;

	ferry_assert(request->generation <= request->keys_count);
	witness_begin(registrar);
	if (!owner_knows(registrar)) {
		witness_wait(registrar);
		return;
	}
	if (is_owner(registrar))
		note_restart(registrar);
	join_register(registrar, 2 + request->keys_count - request->generation);
}

/* This node has noted a loss since it was last sure of its key. */
static bool is_told(const struct ferry_registrar *registrar)
{
	return registrar->config.router->flush.losses_seen != registrar->losses_seen;
}

/*
 * What only the owner can miss. Of two nodes that are apart the other may have been the witness,
 * and has nobody to tell; and somebody who is no agent of ours may have registered first.
 */
static void note_unseen(struct ferry_registrar *registrar)
{
	bool is_lower = registrar->request.generation < registrar->generation;

	if (registrar->was_in && (registrar->is_apart || (is_lower && !is_told(registrar))))
		note_restart(registrar);
}

/*
 * Beside foreign keys it does not register; but an administrator may have this node remove them,
 * and that changes the count.
 */
static void witness_beside(struct ferry_registrar *registrar)
{
	if (!is_first_here(registrar)) {
		witness_end(registrar);
		return;
	}
	witness_begin(registrar);
	(void)owner_knows(registrar); /* What comes of asking is looked at when it counts. */
}

static void join_refuse_lost(struct ferry_registrar *registrar)
{
	join_refuse(registrar, FERRY_REGISTRAR_OUT,
		    "this node's registration is gone, and the other node, which may have "
		    "taken it, is not heard: not registering");
}

/* Before registering anew: is this the lun that we left? */
static void join_read(struct ferry_registrar *registrar)
{
	const struct ferry_fence_request *request = &registrar->request;
	struct ferry_keys lun = keys_read(registrar);
	enum ferry_keys_join verdict =
		ferry_keys_join(&lun, registrar->config.own, registrar->config.view->only_if_kept);

	switch (verdict) {
	case FERRY_KEYS_FOREIGN:
		witness_beside(registrar);
		join_refuse(registrar, FERRY_REGISTRAR_FOREIGN,
			    "foreign registrations on the lun: it is somebody else's");
		return;
	case FERRY_KEYS_NEWER:
		join_refuse(registrar, FERRY_REGISTRAR_OUT,
			    "a later agent of this node's is registered at the lun: its state "
			    "directory is an old copy");
		return;
	case FERRY_KEYS_LOST:
		join_refuse_lost(registrar);
		return;
	case FERRY_KEYS_REGISTER:
	case FERRY_KEYS_REPLACE:
	default:
		break;
	}
	registrar->is_unsure |= !is_kept(registrar);
	if (registrar->is_unsure && registrar->config.view->only_if_kept) {
		join_refuse_lost(registrar);
		return;
	}
	registrar->is_refused = false;
	if (verdict == FERRY_KEYS_REPLACE)
		registrar->elder = elder_key(registrar);
	registrar->must_reserve = request->holder.v == 0;
	if (is_first_here(registrar)) {
		witness_read(registrar);
		return;
	}
	witness_end(registrar);
	note_unseen(registrar);
	join_register(registrar, 1);
}

/* ---- Looking once more. ---- */

static void verify_begin(struct ferry_registrar *registrar)
{
	registrar->verify_is_due = false;
	registrar->reset_is_due = false;
	registrar->is_verifying = true;
	ask(registrar, FERRY_FENCE_READ_KEYS, (struct ferry_key){0});
}

static bool has_own_key(const struct ferry_registrar *registrar)
{
	for (uint32_t i = 0; i < registrar->request.keys_count; i++)
		if (registrar->request.keys[i].v == registrar->config.own.v)
			return true;
	return false;
}

/* In a session that has lived through it: a new one comes back as after any other restart. */
static void restarted(struct ferry_registrar *registrar)
{
	struct ferry_lane *lane = local_lane(registrar);

	if (is_owner(registrar))
		note_restart(registrar);
	registrar->state = FERRY_REGISTRAR_OUT;
	registrar->is_registered = false;
	take_again(registrar);
	ferry_lane_allow(lane, false, "the target was restarted");
	ferry_path_renew(lane->path);
}

/* READ KEYS has come back, whatever this node was looking for. */
static void verify_done(struct ferry_registrar *registrar, int error)
{
	bool is_lower = registrar->request.generation < registrar->generation;

	registrar->is_verifying = false;
	if (error < 0) { /* The session, or the next conflict, will tell; else it is read again. */
		registrar->reset_is_due |= local_lane(registrar)->is_doubtful ||
					   registrar->state != FERRY_REGISTRAR_IN;
		retry_later(registrar);
		return;
	}
	if ((is_lower && !is_told(registrar)) || is_first_here(registrar)) {
		restarted(registrar);
		return;
	}
	registrar->generation = registrar->request.generation;
	if (!has_own_key(registrar) && registrar->state != FERRY_REGISTRAR_OUT) {
		ferry_registrar_lost(registrar);
		return;
	}
	registrar->losses_seen = registrar->config.router->flush.losses_seen;
	if (!registrar->reset_is_due && local_lane(registrar)->is_doubtful)
		ferry_router_reset_seen(registrar->config.router);
}

/*
 * The key is on the lun: that alone lets this node abort others. Its own I/O waits for the grant,
 * and until nothing older of its own may land.
 */
static void join_finish(struct ferry_registrar *registrar)
{
	const struct ferry_view *view = registrar->config.view;

	if (registrar->reset_is_due || local_lane(registrar)->is_doubtful) { /* Since it read. */
		verify_begin(registrar);
		return;
	}
	if ((!view->may_register || view->word < registrar->word) &&
	    !FERRY_MUSEUM(REGISTERS_ITSELF))
		return;
	/* Its ghosts are being laid as long as there are some; nothing else may be in flight. */
	if ((registrar->config.is_being_laid(registrar->config.context) ||
	     !ferry_router_lane_is_clean(registrar->config.router, local_lane(registrar))) &&
	    !FERRY_MUSEUM(JOINS_UNCLEAN))
		return;
	if (registrar->is_unsure && view->only_if_kept) {
		registrar->session_is_new = true; /* All of it again, once the other is heard. */
		join_refuse_lost(registrar);
		return;
	}
	registrar->is_unsure = false;
	registrar->is_apart = false;
	if (registrar->was_in)
		registrar->config.on_rejoin(registrar->config.context);
	registrar->state = FERRY_REGISTRAR_IN;
	registrar->was_in = true;
	registrar->losses_seen = registrar->config.router->flush.losses_seen;
	emit(registrar, FERRY_EVENT_ADMIN, FERRY_SEVERITY_INFO, registrar->config.own.v,
	     "registered at the lun");
	ferry_lane_allow(local_lane(registrar), true, "registered");
	ferry_registrar_poke(registrar);
}

/*
 * A node that was frozen may have registered by what it knew before, after another took the lun.
 * So it asks once more, now that its key is there: whoever takes the lun from here on sees the key,
 * and what happened earlier is in the answer.
 */
static void join_done(struct ferry_registrar *registrar)
{
	if (registrar->state == FERRY_REGISTRAR_JOINING) {
		registrar->generation++; /* By this registration; others' may have come between. */
		if (--registrar->registers_left > 0 && registrar->reset_is_due) {
			read_keys(registrar); /* The target may be another than the one read. */
			return;
		}
		if (registrar->registers_left > 0) {
			ask(registrar, FERRY_FENCE_REGISTER, (struct ferry_key){0});
			return;
		}
		registrar->is_registered = true;
		witness_end(registrar);
	}
	if (registrar->state == FERRY_REGISTRAR_JOINING && registrar->must_reserve &&
	    is_owner(registrar)) {
		/*
		 * Without it the lun lets everyone write, those too who have been preempted. A
		 * claimant needs it as well: on a lun that nobody has reserved nothing is laid.
		 */
		registrar->state = FERRY_REGISTRAR_RESERVING;
		ask(registrar, FERRY_FENCE_RESERVE, (struct ferry_key){0});
		return;
	}
	registrar->session_is_new = false;
	registrar->state = FERRY_REGISTRAR_ASKING;
	if (registrar->elder.v != 0 && !FERRY_MUSEUM(OLD_KEY_IGNORED)) {
		/* The elder's commands are this nexus's: killed together, or not at all. */
		registrar->config.on_old_key(registrar->elder, registrar->config.context);
		registrar->elder.v = 0;
	}
	registrar->word = registrar->config.ask(registrar->config.context);
	join_finish(registrar);
}

static void request_done(struct ferry_fence_request *request, int error)
{
	struct ferry_registrar *registrar = request->context;

	ferry_assert(registrar->is_busy);
	registrar->is_busy = false;
	if (registrar->is_over)
		return;
	if (request->op == FERRY_FENCE_PREEMPT)
		ferry_router_reset_answered(registrar->config.router);
	if (registrar->is_verifying && registrar->is_registered &&
	    (registrar->state == FERRY_REGISTRAR_IN || registrar->state == FERRY_REGISTRAR_ASKING ||
	     registrar->state == FERRY_REGISTRAR_OUT)) {
		verify_done(registrar, error);
		if (error == 0) /* Else not at once: who answers may still be at failing it. */
			ferry_registrar_poke(registrar);
		return;
	}
	if (registrar->state == FERRY_REGISTRAR_IN) {
		if (registrar->take != FERRY_TAKE_NONE && registrar->reset_is_due)
			take_pause(registrar, error);
		else if (registrar->take != FERRY_TAKE_NONE)
			take_step(registrar, error);
		else
			ferry_registrar_poke(registrar); /* The take was dropped meanwhile. */
		return;
	}
	registrar->is_verifying = false; /* Lost meanwhile: there is nothing to look for. */
	if (registrar->state == FERRY_REGISTRAR_RESERVING && error == -EBUSY)
		error = 0; /* Somebody was first: that one is to be asked, or has us preempted. */
	if (error < 0) {
		/* Refused: the key that was read is gone, and who took it is not known. */
		if (registrar->state == FERRY_REGISTRAR_JOINING && error == -EACCES)
			registrar->is_unsure = true;
		registrar->state = FERRY_REGISTRAR_OUT;
		retry_later(registrar);
		return;
	}
	if (registrar->state == FERRY_REGISTRAR_READING)
		join_read(registrar);
	else if (registrar->state == FERRY_REGISTRAR_JOINING ||
		 registrar->state == FERRY_REGISTRAR_RESERVING)
		join_done(registrar);
	else if (registrar->state != FERRY_REGISTRAR_ASKING) /* The session was lost meanwhile;
								another may be up already. */
		retry_later(registrar);
}

static void retry_now(struct ferry_timer *timer)
{
	struct ferry_registrar *registrar =
		FERRY_CONTAINER_OF(timer, struct ferry_registrar, retry_timer);

	if (registrar->state == FERRY_REGISTRAR_WITNESS) {
		registrar->state = FERRY_REGISTRAR_OUT; /* Read again; and who owns the pool now? */
		registrar->has_asked = false;
	}
	ferry_registrar_poke(registrar);
}

/* ---- The room's entrances. ---- */

void ferry_registrar_init(struct ferry_registrar *registrar,
			  const struct ferry_registrar_config *config)
{
	ferry_assert(config->loop && config->fence && config->router && config->view);
	ferry_assert(config->own.v != 0 && config->is_being_laid && config->on_taken);
	ferry_assert(config->ask && config->on_old_key && config->on_preempted);
	ferry_assert(config->on_witness);
	*registrar = (struct ferry_registrar){
		.config = *config,
		.state = FERRY_REGISTRAR_OUT,
		.retry_timer = {.run = retry_now},
		.request = {.on_done = request_done, .context = registrar},
	};
}

void ferry_registrar_done(struct ferry_registrar *registrar)
{
	registrar->is_over = true;
	ferry_timer_stop(registrar->config.loop, &registrar->retry_timer);
}

void ferry_registrar_session(struct ferry_registrar *registrar, bool is_up)
{
	ferry_assert(registrar);
	if (!is_up) {
		registrar->state = FERRY_REGISTRAR_OUT;
		registrar->is_registered = false;
		registrar->reset_is_due = false;
		local_lane(registrar)->is_doubtful = false; /* Registering looks at it anyway. */
		witness_end(registrar);
		take_again(registrar);
		ferry_lane_allow(local_lane(registrar), false, "the session at the lun is lost");
		return;
	}
	registrar->session_is_new = true;
	/*
	 * Who has been registered before may have been preempted, and know nothing of it: frozen,
	 * its clock too. By what it knew it would leave a key that passes for one that was kept.
	 */
	if (registrar->was_in && !FERRY_MUSEUM(REGISTERS_ITSELF))
		registrar->word = registrar->config.ask(registrar->config.context);
	ferry_registrar_poke(registrar);
}

void ferry_registrar_poke(struct ferry_registrar *registrar)
{
	struct ferry_lane *lane = local_lane(registrar);

	ferry_assert(registrar);
	registrar->is_apart |=
		registrar->config.view->only_if_kept && registrar->state != FERRY_REGISTRAR_IN;
	if (registrar->witness != 0)
		witness_note(registrar);
	if (registrar->is_busy || !lane->path->is_up)
		return;
	if (registrar->state == FERRY_REGISTRAR_WITNESS) {
		if (owner_knows(registrar))
			read_keys(registrar); /* What was read may be old by now. */
		return;
	}
	if (registrar->state == FERRY_REGISTRAR_IN) {
		if (registrar->reset_is_due &&
		    (registrar->take == FERRY_TAKE_NONE || registrar->take == FERRY_TAKE_WAITING)) {
			verify_begin(registrar);
			return;
		}
		if (registrar->verify_is_due && registrar->take == FERRY_TAKE_NONE) {
			verify_begin(registrar);
			return;
		}
		if (registrar->take == FERRY_TAKE_WAITING)
			registrar->take = FERRY_TAKE_READING;
		else
			return;
		ask(registrar, FERRY_FENCE_READ_KEYS, (struct ferry_key){0});
		return;
	}
	if (registrar->state == FERRY_REGISTRAR_ASKING) {
		join_finish(registrar);
		return;
	}
	if (registrar->reset_is_due && registrar->is_registered && !registrar->session_is_new) {
		verify_begin(registrar); /* It waits for its own nexus to be laid. */
		return;
	}
	if (!registrar->config.view->may_help || !registrar->session_is_new)
		return;
	if (registrar->config.view->word < registrar->word)
		return;
	if (registrar->preempted.v != 0 &&
	    registrar->config.view->epoch.v <= registrar->preempted.v)
		return; /* Somebody took it from the owner: the group has to say anew who owns. */
	read_keys(registrar);
}

void ferry_registrar_lost(struct ferry_registrar *registrar)
{
	const struct ferry_view *view = registrar->config.view;
	struct ferry_lane *lane = local_lane(registrar);

	ferry_assert(registrar);
	if (registrar->state != FERRY_REGISTRAR_IN && registrar->state != FERRY_REGISTRAR_ASKING)
		return;
	registrar->state = FERRY_REGISTRAR_OUT;
	registrar->is_registered = false;
	take_again(registrar);
	if (view->owner.v == ferry_key_node(registrar->config.own).v && view->is_in_force) {
		registrar->preempted = view->epoch;
		registrar->config.on_preempted(registrar->config.context);
	}
	emit(registrar, FERRY_EVENT_FENCED, FERRY_SEVERITY_WARNING, registrar->config.own.v,
	     "this node's registration is gone from the lun");
	ferry_lane_allow(lane, false, "registration lost");
	ferry_path_renew(lane->path);
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
	else if (local_lane(registrar)->path->is_up)
		registrar->reset_is_due = true; /* What is being read may be older than this. */
	ferry_registrar_poke(registrar);
}

bool ferry_registrar_may_register_beside(struct ferry_registrar *registrar,
					 const struct ferry_fence_request *keys)
{
	const struct ferry_view *view = registrar->config.view;

	ferry_assert(registrar && keys->keys_count <= FERRY_KEYS_MAX);
	if (keys->generation > keys->keys_count)
		return true;
	if (registrar->witness == 0)
		return false; /* It has not seen that yet. */
	return owner_knows(registrar) ||
	       (view->owner.v == 0 && view->may_help && view->word >= registrar->word);
}

void ferry_registrar_note_beside(struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	registrar->is_registered = registrar->state == FERRY_REGISTRAR_FOREIGN;
}

bool ferry_registrar_may_abort(const struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	return registrar->is_registered && !registrar->reset_is_due && !registrar->is_verifying;
}

void ferry_registrar_look_at_reset(struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	registrar->reset_is_due = true;
	ferry_registrar_poke(registrar);
}

void ferry_registrar_note_laid(struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	registrar->state = FERRY_REGISTRAR_OUT;
	take_again(registrar);
}

void ferry_registrar_was_killed(struct ferry_registrar *registrar)
{
	struct ferry_lane *lane = local_lane(registrar);

	ferry_assert(registrar);
	ferry_assert(registrar->state != FERRY_REGISTRAR_IN);
	/* A session that was lost is followed by a new one; the kernel's may live on. */
	if (registrar->session_is_new || !lane->path->is_up)
		return;
	registrar->state = FERRY_REGISTRAR_OUT;
	ferry_path_renew(lane->path);
}

void ferry_registrar_take(struct ferry_registrar *registrar,
			  const struct ferry_drained_keys *drained)
{
	ferry_assert(registrar && drained);
	registrar->drained = *drained;
	registrar->request.is_answered_for = drained->is_answered_for;
	registrar->suspects_done = 0;
	registrar->take = FERRY_TAKE_WAITING;
	ferry_registrar_poke(registrar);
}

void ferry_registrar_drop_take(struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	registrar->take = FERRY_TAKE_NONE;
}
