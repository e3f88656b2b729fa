#include <stdio.h>

#include "agent/base/museum.h"
#include "agent/core/keys.h"
#include "agent/core/registrar_private.h"

#define RETRY_NS (300 * FERRY_NS_PER_MS)

void ferry_registrar_emit(struct ferry_registrar *registrar, enum ferry_event_kind kind,
			  enum ferry_severity severity, uint64_t value, const char *text)
{
	struct ferry_event event = {.kind = kind,
				    .severity = severity,
				    .value = value,
				    .time_ns = ferry_loop_now_ns(registrar->config.loop)};

	(void)snprintf(event.pool, sizeof(event.pool), "%s", registrar->config.pool);
	ferry_event_emit(registrar->config.events, event, "%s", text);
}

void ferry_registrar_retry_later(struct ferry_registrar *registrar)
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

void ferry_registrar_ask(struct ferry_registrar *registrar, enum ferry_fence_op op,
			 struct ferry_key victim)
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

/* ---- Joining. ---- */

/* The keys on the lun forbid it. A taking that waits for the registration will not get it. */
static void join_refuse(struct ferry_registrar *registrar, enum ferry_registrar_state state,
			const char *why)
{
	if (!registrar->is_refused)
		ferry_registrar_emit(
			registrar, FERRY_EVENT_ADMIN, FERRY_SEVERITY_ERROR,
			registrar->request.keys_count > 0 ? registrar->request.keys[0].v : 0, why);
	registrar->is_refused = true;
	registrar->state = state;
	if (registrar->take != FERRY_TAKE_NONE)
		ferry_registrar_take_finish(registrar,
					    state == FERRY_REGISTRAR_FOREIGN ? -EPERM : -EACCES);
	ferry_registrar_retry_later(registrar);
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

void ferry_registrar_register(struct ferry_registrar *registrar, uint32_t times)
{
	registrar->generation = registrar->request.generation;
	registrar->registers_left = times;
	registrar->state = FERRY_REGISTRAR_JOINING;
	ferry_registrar_ask(registrar, FERRY_FENCE_REGISTER, (struct ferry_key){0});
}

static void read_keys(struct ferry_registrar *registrar)
{
	registrar->is_registered = false; /* By what was known before they come. */
	registrar->reset_is_due = false;
	registrar->state = FERRY_REGISTRAR_READING;
	ferry_registrar_ask(registrar, FERRY_FENCE_READ_KEYS, (struct ferry_key){0});
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
	struct ferry_keys lun = ferry_registrar_keys(registrar);
	enum ferry_keys_join verdict =
		ferry_keys_join(&lun, registrar->config.own, registrar->config.view->only_if_kept);

	switch (verdict) {
	case FERRY_KEYS_FOREIGN:
		ferry_registrar_witness_beside(registrar);
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
	if (ferry_registrar_is_first_here(registrar)) {
		ferry_registrar_witness_read(registrar);
		return;
	}
	ferry_registrar_witness_end(registrar);
	ferry_registrar_note_unseen(registrar);
	ferry_registrar_register(registrar, 1);
}

/*
 * The key is on the lun: that alone lets this node abort others. Its own I/O waits for the grant,
 * and until nothing older of its own may land.
 */
static void join_finish(struct ferry_registrar *registrar)
{
	const struct ferry_view *view = registrar->config.view;

	if (registrar->reset_is_due ||
	    ferry_registrar_lane(registrar)->is_doubtful) { /* Since it read. */
		ferry_registrar_verify_begin(registrar);
		return;
	}
	if ((!view->may_register || view->word < registrar->word) &&
	    !FERRY_MUSEUM(REGISTERS_ITSELF))
		return;
	/* Its ghosts are being laid as long as there are some; nothing else may be in flight. */
	if ((registrar->config.is_being_laid(registrar->config.context) ||
	     !ferry_router_lane_is_clean(registrar->config.router,
					 ferry_registrar_lane(registrar))) &&
	    !FERRY_MUSEUM(JOINS_UNCLEAN))
		return;
	if (registrar->is_unsure && view->only_if_kept) {
		registrar->session_is_new = true; /* All of it again, once the other is heard. */
		join_refuse_lost(registrar);
		return;
	}
	registrar->is_unsure = false;
	registrar->is_apart = false;
	if (registrar->was_in || !FERRY_MUSEUM(JOINS_UNCUT))
		registrar->config.on_join(registrar->config.context);
	registrar->state = FERRY_REGISTRAR_IN;
	registrar->was_in = true;
	registrar->losses_seen = registrar->config.router->flush.losses_seen;
	ferry_registrar_emit(registrar, FERRY_EVENT_ADMIN, FERRY_SEVERITY_INFO,
			     registrar->config.own.v, "registered at the lun");
	ferry_lane_allow(ferry_registrar_lane(registrar), true, "registered");
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
			ferry_registrar_ask(registrar, FERRY_FENCE_REGISTER, (struct ferry_key){0});
			return;
		}
		registrar->is_registered = true;
		ferry_registrar_witness_end(registrar);
	}
	if (registrar->state == FERRY_REGISTRAR_JOINING && registrar->must_reserve) {
		/*
		 * Without it the lun lets everyone write, those too who have been preempted, so
		 * nothing is laid there. Whose it is does not matter, and the owner may have no
		 * path.
		 */
		registrar->state = FERRY_REGISTRAR_RESERVING;
		ferry_registrar_ask(registrar, FERRY_FENCE_RESERVE, (struct ferry_key){0});
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
	if (request->op == FERRY_FENCE_PREEMPT) {
		ferry_router_reset_answered(registrar->config.router);
		registrar->verify_is_due |= registrar->config.restarts_go_untold;
	}
	if (registrar->is_verifying && registrar->is_registered &&
	    (registrar->state == FERRY_REGISTRAR_IN || registrar->state == FERRY_REGISTRAR_ASKING ||
	     registrar->state == FERRY_REGISTRAR_OUT)) {
		ferry_registrar_verify_done(registrar, error);
		if (error == 0) /* Else not at once: who answers may still be at failing it. */
			ferry_registrar_poke(registrar);
		return;
	}
	if (registrar->state == FERRY_REGISTRAR_IN) {
		if (registrar->take != FERRY_TAKE_NONE && registrar->reset_is_due)
			ferry_registrar_take_pause(registrar, error);
		else if (registrar->take != FERRY_TAKE_NONE)
			ferry_registrar_take_step(registrar, error);
		else
			ferry_registrar_poke(registrar); /* The take was dropped meanwhile. */
		if (registrar->take == FERRY_TAKE_NONE && registrar->config.restarts_go_untold)
			ferry_registrar_poke(registrar); /* What is due had to wait for it. */
		return;
	}
	registrar->is_verifying = false; /* Lost meanwhile: there is nothing to look for. */
	if (registrar->state == FERRY_REGISTRAR_RESERVING && error == -EBUSY)
		error = 0; /* Somebody was first: that one is to be asked, or has us preempted. */
	if (error < 0) {
		/* Refused: the key that was read is gone, and who took it is not known. */
		if (error == -EACCES && (registrar->state == FERRY_REGISTRAR_RAISING ||
					 registrar->state == FERRY_REGISTRAR_JOINING))
			registrar->is_unsure = true;
		registrar->state = FERRY_REGISTRAR_OUT;
		ferry_registrar_retry_later(registrar);
		return;
	}
	if (registrar->state == FERRY_REGISTRAR_READING)
		join_read(registrar);
	else if (registrar->state == FERRY_REGISTRAR_RAISING)
		read_keys(registrar); /* The next one is of what the target is by then. */
	else if (registrar->state == FERRY_REGISTRAR_JOINING ||
		 registrar->state == FERRY_REGISTRAR_RESERVING)
		join_done(registrar);
	else if (registrar->state != FERRY_REGISTRAR_ASKING) /* The session was lost meanwhile;
								another may be up already. */
		ferry_registrar_retry_later(registrar);
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
		/* Registering looks at it anyway. */
		ferry_registrar_lane(registrar)->is_doubtful = false;
		ferry_registrar_witness_end(registrar);
		ferry_registrar_take_again(registrar);
		ferry_lane_allow(ferry_registrar_lane(registrar), false,
				 "the session at the lun is lost");
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
	struct ferry_lane *lane = ferry_registrar_lane(registrar);

	ferry_assert(registrar);
	registrar->is_apart |=
		registrar->config.view->only_if_kept && registrar->state != FERRY_REGISTRAR_IN;
	if (registrar->witness != 0)
		ferry_registrar_witness_note(registrar);
	if (registrar->is_busy || !lane->path->is_up)
		return;
	if (registrar->state == FERRY_REGISTRAR_WITNESS) {
		if (ferry_registrar_owner_knows(registrar))
			read_keys(registrar); /* What was read may be old by now. */
		return;
	}
	if (registrar->state == FERRY_REGISTRAR_IN) {
		if (registrar->reset_is_due &&
		    (registrar->take == FERRY_TAKE_NONE || registrar->take == FERRY_TAKE_WAITING)) {
			ferry_registrar_verify_begin(registrar);
			return;
		}
		if (registrar->durable_is_due &&
		    (registrar->take == FERRY_TAKE_NONE || registrar->take == FERRY_TAKE_WAITING)) {
			ferry_registrar_verify_begin(registrar);
			return;
		}
		if (registrar->verify_is_due && registrar->take == FERRY_TAKE_NONE) {
			ferry_registrar_verify_begin(registrar);
			return;
		}
		if (registrar->take == FERRY_TAKE_WAITING)
			registrar->take = FERRY_TAKE_READING;
		else
			return;
		ferry_registrar_ask(registrar, FERRY_FENCE_READ_KEYS, (struct ferry_key){0});
		return;
	}
	if (registrar->state == FERRY_REGISTRAR_ASKING) {
		join_finish(registrar);
		return;
	}
	if (registrar->reset_is_due && registrar->is_registered && !registrar->session_is_new) {
		ferry_registrar_verify_begin(
			registrar); /* It waits for its own nexus to be laid. */
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
	struct ferry_lane *lane = ferry_registrar_lane(registrar);

	ferry_assert(registrar);
	if (registrar->state != FERRY_REGISTRAR_IN && registrar->state != FERRY_REGISTRAR_ASKING)
		return;
	registrar->state = FERRY_REGISTRAR_OUT;
	registrar->is_registered = false;
	ferry_registrar_take_again(registrar);
	if (view->owner.v == ferry_key_node(registrar->config.own).v && view->is_in_force) {
		registrar->preempted = view->epoch;
		registrar->config.on_preempted(registrar->config.context);
	}
	ferry_registrar_emit(registrar, FERRY_EVENT_FENCED, FERRY_SEVERITY_WARNING,
			     registrar->config.own.v,
			     "this node's registration is gone from the lun");
	ferry_lane_allow(lane, false, "registration lost");
	ferry_path_renew(lane->path);
}

void ferry_registrar_note_laid(struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	registrar->state = FERRY_REGISTRAR_OUT;
	ferry_registrar_take_again(registrar);
}

void ferry_registrar_was_killed(struct ferry_registrar *registrar)
{
	struct ferry_lane *lane = ferry_registrar_lane(registrar);

	ferry_assert(registrar);
	ferry_assert(registrar->state != FERRY_REGISTRAR_IN);
	/* A session that was lost is followed by a new one; the kernel's may live on. */
	if (registrar->session_is_new || !lane->path->is_up)
		return;
	registrar->state = FERRY_REGISTRAR_OUT;
	ferry_path_renew(lane->path);
}
