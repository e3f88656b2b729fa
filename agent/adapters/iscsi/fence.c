/*
 * Persistent reservations, one request at a time, each a short walk over the steps below.
 *
 * PREEMPT, by PREEMPT AND ABORT:   read keys, preempt and abort, read keys.
 * PREEMPT, by PREEMPT, LUN RESET:  read keys, preempt, lun reset, read keys.
 * PREEMPT, by reinstatement:       read keys, preempt, log in by the victim's name, read keys.
 * PREEMPT, by a promised time:     read keys, preempt, wait, read keys.
 *
 * RESET:                           lun reset. The session that asks has the name (initiator, ISID)
 * of its forerunner, so the target has closed that one, and with it what it had not read yet, at
 * our login (RFC 7143, 6.3.5, session reinstatement); the reset waits for what it had begun.
 *
 * REGISTER:                        register in the place of the kept key; the target refuses that
 * if another key, or none, is this nexus' by now. If the kept key is registered all the same, it is
 * for another nexus of this node's: an older portal or name, a session that the target has not
 * closed yet. Then register beside it, and look once more: if it was preempted meanwhile, withdraw.
 *
 * If the victim is not registered (any more), what follows the PREEMPT is done all the same,
 * provided that the lun is reserved: the victim can then start nothing new. So an answer that was
 * lost is made good by asking again. By the first way there is nothing to abort by: then it is LUN
 * RESET, for which the standard says as much as for PREEMPT AND ABORT.
 *
 * Whatever changes the registrations is not sent after a reset was reported (29h): it may have been
 * a restart, which changing them hides (docs/decisions/0009). Whoever asked reads the keys first.
 * To withdraw a registration that should not be there comes before that.
 *
 * Reinstatement needs the victim's name. The lun tells it (READ FULL STATUS, instead of READ KEYS),
 * and it is remembered, since it goes with the registration. A newer agent of the same node that is
 * registered has logged in by that very name, so its forerunners are dead.
 */
#include <inttypes.h>

#include "agent/adapters/iscsi/private.h"
#include "proto/scsi_reservation.h"

enum {
	STATUS_BYTES = 8 + FERRY_KEYS_MAX * (24 + 4 + 256),
	RETRIES_MAX = 32,
};

enum step {
	STEP_KEYS = 1,
	STEP_RESERVATION,
	STEP_REGISTER,
	STEP_RESERVE,
	STEP_ABORT,
	STEP_PREEMPT,
	STEP_RESET,
	STEP_REINSTATE,
	STEP_QUIESCE,
	STEP_VERIFY,	/* Read the keys again: the victim is gone. */
	STEP_PERSISTED, /* Whether the registration outlives a power cut. */
	STEP_SEEK,	/* The kept key is not this nexus': is it at the lun at all? */
	STEP_BESIDE,	/* It is: register whatever this nexus has... */
	STEP_STILL,	/* ...and see that it was there all the time. */
	STEP_WITHDRAW,
};

static void answered(struct ferry_iscsi_call *call);

static void forget_call(struct ferry_iscsi_call *call)
{
	struct ferry_iscsi_fence_state *fencing = &call->iscsi->fencing;

	for (uint32_t i = 0; i < FERRY_ISCSI_FENCE_CALLS_MAX; i++)
		if (call == &fencing->calls[i])
			fencing->calls_taken[i] = false;
}

/* Its request has ended by its deadline. */
static void answered_too_late(struct ferry_iscsi_call *call)
{
	if (ferry_iscsi_answer_is_unit_attention(&call->answer))
		ferry_iscsi_note_attention(call->iscsi, &call->answer);
	forget_call(call);
}

static struct ferry_iscsi_call *take_call(struct ferry_iscsi *iscsi)
{
	struct ferry_iscsi_fence_state *fencing = &iscsi->fencing;

	for (uint32_t i = 0; i < FERRY_ISCSI_FENCE_CALLS_MAX; i++)
		if (!fencing->calls_taken[i]) {
			fencing->calls_taken[i] = true;
			return &fencing->calls[i];
		}
	return NULL;
}

static void finish(struct ferry_iscsi *iscsi, int error)
{
	struct ferry_iscsi_fence_state *fencing = &iscsi->fencing;
	struct ferry_fence_request *request = TAKE_PTR(fencing->current);

	ferry_assert(request);
	ferry_assert(error <= 0);
	ferry_timer_stop(iscsi->config.loop, &fencing->deadline);
	ferry_timer_stop(iscsi->config.loop, &fencing->pause);
	if (fencing->call) /* Still out: let its answer go nowhere. */
		TAKE_PTR(fencing->call)->run = answered_too_late;
	ferry_iscsi_reinstate_stop(iscsi);
	iscsi->holds_back = false;
	request->on_done(request, error);
}

static struct scsi_task *make_in(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call,
				 enum scsi_persistent_in_sa action, uint16_t bytes)
{
	return iscsi_persistent_reserve_in_task(iscsi->context, iscsi->config.lun, (int)action,
						bytes, ferry_iscsi_call_answered, call);
}

static struct scsi_task *make_out(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call,
				  enum scsi_persistent_out_sa action, uint64_t own, uint64_t other)
{
	struct scsi_persistent_reserve_out_basic parameters = {
		.reservation_key = own,
		.service_action_reservation_key = other,
		.aptpl = (action == SCSI_PERSISTENT_RESERVE_REGISTER ||
			  action == SCSI_PERSISTENT_RESERVE_REGISTER_AND_IGNORE_EXISTING_KEY) &&
			 iscsi->lun.can_persist && !iscsi->lacks_persistence,
	};

	iscsi->fencing.has_sent = true;
	call->sends_data = true;
	return iscsi_persistent_reserve_out_task(
		iscsi->context, iscsi->config.lun, (int)action, SCSI_PERSISTENT_RESERVE_SCOPE_LU,
		SCSI_PERSISTENT_RESERVE_TYPE_WRITE_EXCLUSIVE_REGISTRANTS_ONLY, &parameters,
		ferry_iscsi_call_answered, call);
}

static enum ferry_laying_way way_of(const struct ferry_iscsi *iscsi)
{
	return iscsi->fence.ability.laying;
}

static int start_reset(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	iscsi->fencing.has_sent = true;
	iscsi->holds_back = true;
	iscsi->is_reset_ours = true;
	call->is_management = true;
	/* Not iscsi_task_mgmt_lun_reset_async(): that one cancels our own commands locally. */
	return ferry_iscsi_call_started(
		call, iscsi_task_mgmt_async(iscsi->context, iscsi->config.lun, ISCSI_TM_LUN_RESET,
					    0xffffffff, 0, ferry_iscsi_call_answered, call));
}

static struct scsi_task *make_task(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	const struct ferry_fence_request *request = iscsi->fencing.current;

	switch ((enum step)iscsi->fencing.step) {
	case STEP_KEYS:
	case STEP_VERIFY:
	case STEP_SEEK:
	case STEP_STILL:
		if (way_of(iscsi) == FERRY_LAYING_REINSTATE)
			return make_in(iscsi, call, SCSI_PERSISTENT_RESERVE_READ_FULL_STATUS,
				       STATUS_BYTES);
		return make_in(iscsi, call, SCSI_PERSISTENT_RESERVE_READ_KEYS, FERRY_PR_KEYS_BYTES);
	case STEP_PERSISTED:
		return make_in(iscsi, call, SCSI_PERSISTENT_RESERVE_REPORT_CAPABILITIES, 8);
	case STEP_RESERVATION:
		return make_in(iscsi, call, SCSI_PERSISTENT_RESERVE_READ_RESERVATION,
			       FERRY_PR_RESERVATION_BYTES);
	case STEP_REGISTER:
		return make_out(iscsi, call, SCSI_PERSISTENT_RESERVE_REGISTER, request->kept.v,
				request->own.v);
	case STEP_BESIDE:
		return make_out(iscsi, call,
				SCSI_PERSISTENT_RESERVE_REGISTER_AND_IGNORE_EXISTING_KEY, 0,
				request->own.v);
	case STEP_WITHDRAW:
		return make_out(iscsi, call, SCSI_PERSISTENT_RESERVE_REGISTER, request->own.v, 0);
	case STEP_RESERVE:
		return make_out(iscsi, call, SCSI_PERSISTENT_RESERVE_RESERVE, request->own.v, 0);
	case STEP_ABORT:
		return make_out(iscsi, call, SCSI_PERSISTENT_RESERVE_PREEMPT_AND_ABORT,
				request->own.v, request->victim.v);
	case STEP_PREEMPT:
		return make_out(iscsi, call, SCSI_PERSISTENT_RESERVE_PREEMPT, request->own.v,
				request->victim.v);
	case STEP_RESET:
	case STEP_REINSTATE:
	case STEP_QUIESCE:
		break;
	}
	ferry_assert(false);
	return NULL;
}

/* What this step, or what follows from its answer, would change may be another target's by now. */
static bool is_overtaken(const struct ferry_iscsi *iscsi)
{
	if (!iscsi->fencing.has_seen_reset)
		return false;
	switch ((enum step)iscsi->fencing.step) {
	case STEP_KEYS:
		return iscsi->fencing.current->op == FERRY_FENCE_PREEMPT;
	case STEP_REGISTER:
	case STEP_SEEK:
	case STEP_BESIDE:
	case STEP_ABORT:
	case STEP_PREEMPT:
		return true;
	case STEP_RESERVATION:
	case STEP_RESERVE:
	case STEP_RESET:
	case STEP_REINSTATE:
	case STEP_QUIESCE:
	case STEP_VERIFY:
	case STEP_PERSISTED:
	case STEP_STILL:
	case STEP_WITHDRAW:
		break;
	}
	return false;
}

/* Ask the target for the current step. A refusal marks the session as lost, which ends us. */
static void ask(struct ferry_iscsi *iscsi)
{
	struct ferry_iscsi_fence_state *fencing = &iscsi->fencing;
	struct ferry_iscsi_call *call;

	ferry_assert(fencing->current && !fencing->call);
	if (is_overtaken(iscsi)) {
		finish(iscsi, -EIO);
		return;
	}
	if (!iscsi->context || iscsi->is_lost || !iscsi->path.is_up)
		return; /* fence_drop() ends it. */
	call = take_call(iscsi);
	if (!call)
		return; /* All wait for a target that does not answer: the deadline ends it. */
	ferry_iscsi_call_prepare(iscsi, call, answered);
	fencing->call = call;
	if (fencing->step == STEP_RESET
		    ? start_reset(iscsi, call) < 0
		    : ferry_iscsi_call_tasked(call, make_task(iscsi, call)) < 0) {
		fencing->call = NULL;
		forget_call(call);
	}
}

static void go(struct ferry_iscsi *iscsi, enum step step)
{
	iscsi->fencing.step = step;
	ask(iscsi);
}

/* Nothing here proves dead what the victim has sent. A person may answer for it. */
static void not_proven(struct ferry_iscsi *iscsi)
{
	if (iscsi->fencing.current->is_answered_for)
		go(iscsi, STEP_VERIFY);
	else
		finish(iscsi, -EOPNOTSUPP);
}

static void start_reinstatement(struct ferry_iscsi *iscsi)
{
	const struct ferry_fence_request *request = iscsi->fencing.current;
	const struct ferry_iscsi_registrant *whom =
		ferry_iscsi_registrants_find(&iscsi->seen, request->victim);
	const struct ferry_iscsi_registrant *own =
		ferry_iscsi_registrants_find(&iscsi->seen, request->own);

	iscsi->fencing.step = STEP_REINSTATE;
	if (whom && own && whom->has_name && whom->target_port == own->target_port) {
		iscsi->fencing.has_sent = true;
		ferry_iscsi_reinstate(iscsi, whom);
		return;
	}
	ferry_iscsi_say_error(iscsi, "cannot prove dead what %#" PRIx64 " sent: %s",
			      request->victim.v,
			      whom && own && whom->has_name
				      ? "it is logged in at another portal group"
				      : "the lun does not tell its initiator's name (any more)");
	not_proven(iscsi);
}

void ferry_iscsi_fence_reinstated(struct ferry_iscsi *iscsi, int error)
{
	ferry_assert(iscsi->fencing.current && iscsi->fencing.step == STEP_REINSTATE);
	if (error < 0)
		finish(iscsi, error);
	else
		go(iscsi, STEP_VERIFY);
}

/*
 * Whoever asks again goes on waiting where the last one gave up, unless registrations have changed
 * since: the victim may have been back.
 */
static void start_quiesce(struct ferry_iscsi *iscsi)
{
	const struct ferry_fence_request *request = iscsi->fencing.current;
	bool has_preempted = iscsi->fencing.step == STEP_PREEMPT;
	uint64_t now_ns = ferry_loop_now_ns(iscsi->config.loop);
	uint64_t over_ns;

	if (has_preempted || iscsi->quiet.v != request->victim.v ||
	    iscsi->quiet_generation != request->generation) {
		iscsi->quiet = request->victim;
		iscsi->quiet_generation = request->generation + has_preempted; /* By that one. */
		iscsi->quiet_since_ns = now_ns;
	}
	over_ns = iscsi->quiet_since_ns + iscsi->config.quiesce_time_ns;
	iscsi->fencing.step = STEP_QUIESCE;
	ferry_timer_start_in(iscsi->config.loop, &iscsi->fencing.pause,
			     over_ns > now_ns ? over_ns - now_ns : 0);
}

/* The victim can start nothing new: now what it has started. */
static void go_lay(struct ferry_iscsi *iscsi)
{
	switch (way_of(iscsi)) {
	case FERRY_LAYING_ABORT: /* Its answer was lost: see the top. */
	case FERRY_LAYING_RESET:
		go(iscsi, STEP_RESET);
		return;
	case FERRY_LAYING_REINSTATE:
		start_reinstatement(iscsi);
		return;
	case FERRY_LAYING_QUIESCE:
		start_quiesce(iscsi);
		return;
	default:
		not_proven(iscsi);
	}
}

static uint32_t keys_like(const struct ferry_fence_request *request, struct ferry_key key)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < request->keys_count; i++)
		count += request->keys[i].v == key.v;
	return count;
}

static bool has_key(const struct ferry_fence_request *request, struct ferry_key key)
{
	return keys_like(request, key) > 0;
}

static int parse_keys(struct ferry_fence_request *request, const uint8_t *data, size_t length_bytes)
{
	struct ferry_pr_keys keys = {0};

	if (!data || ferry_pr_get_keys(data, length_bytes, &keys) < 0)
		return -EIO;
	request->generation = keys.generation;
	request->keys_count = keys.count;
	memcpy(request->keys, keys.keys, sizeof(request->keys));
	return 0;
}

static int parse_status(struct ferry_iscsi *iscsi, struct ferry_fence_request *request,
			const uint8_t *data, size_t length_bytes)
{
	struct ferry_iscsi_registrants all;

	if (ferry_iscsi_registrants_parse(data, length_bytes, &all) < 0)
		return -EIO;
	request->generation = ferry_iscsi_get_u32(data);
	request->keys_count = all.count;
	for (uint32_t i = 0; i < all.count; i++)
		request->keys[i] = all.rows[i].key;
	ferry_iscsi_registrants_merge(&iscsi->seen, &all);
	return 0;
}

static bool has_successor(const struct ferry_fence_request *request)
{
	for (uint32_t i = 0; i < request->keys_count; i++)
		if (ferry_key_shares_nexus(request->keys[i], request->victim) &&
		    request->keys[i].v > request->victim.v)
			return true;
	return false;
}

/* The type in force, or 0: not reserved. */
static int parse_reservation(struct ferry_fence_request *request, const uint8_t *data,
			     size_t length_bytes)
{
	struct ferry_pr_reservation reservation;

	request->holder.v = 0;
	if (!data || ferry_pr_get_reservation(data, length_bytes, &reservation) < 0)
		return -EIO;
	request->holder = reservation.holder;
	return reservation.type;
}

static void preempt_with_keys(struct ferry_iscsi *iscsi)
{
	struct ferry_fence_request *request = iscsi->fencing.current;

	if (!has_key(request, request->own))
		finish(iscsi, -EACCES);
	else if (!way_of(iscsi) && !request->is_answered_for)
		finish(iscsi, -EOPNOTSUPP);
	else if (!has_key(request, request->victim) && way_of(iscsi) == FERRY_LAYING_REINSTATE &&
		 has_successor(request))
		finish(iscsi, 0);
	else
		go(iscsi, STEP_RESERVATION);
}

static void preempt_reserved(struct ferry_iscsi *iscsi)
{
	const struct ferry_fence_request *request = iscsi->fencing.current;

	if (!has_key(request, request->victim))
		go_lay(iscsi);
	else
		go(iscsi, way_of(iscsi) == FERRY_LAYING_ABORT ? STEP_ABORT : STEP_PREEMPT);
}

static void registered(struct ferry_iscsi *iscsi)
{
	if (iscsi->lun.can_persist)
		go(iscsi, STEP_PERSISTED);
	else
		finish(iscsi, 0);
}

static void register_with_keys(struct ferry_iscsi *iscsi)
{
	const struct ferry_fence_request *request = iscsi->fencing.current;
	uint32_t ours = request->kept.v == request->own.v; /* What STEP_BESIDE has put there. */

	ferry_assert(request->kept.v != 0);
	if (iscsi->fencing.step == STEP_SEEK && has_key(request, request->kept))
		go(iscsi, STEP_BESIDE);
	else if (iscsi->fencing.step == STEP_SEEK)
		finish(iscsi, -EACCES);
	else if (keys_like(request, request->kept) > ours)
		registered(iscsi);
	else
		go(iscsi, STEP_WITHDRAW);
}

static void keys_answered(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	struct ferry_fence_request *request = iscsi->fencing.current;
	int r;

	r = way_of(iscsi) == FERRY_LAYING_REINSTATE
		    ? parse_status(iscsi, request, call->data, call->data_bytes)
		    : parse_keys(request, call->data, call->data_bytes);
	if (r < 0) {
		finish(iscsi, r);
		return;
	}
	switch (request->op) {
	case FERRY_FENCE_READ_KEYS:
		go(iscsi, STEP_RESERVATION);
		return;
	case FERRY_FENCE_RESERVE: /* Refused: because of another's, or for want of ours? */
		finish(iscsi, has_key(request, request->own) ? -EBUSY : -EACCES);
		return;
	case FERRY_FENCE_PREEMPT:
		if (iscsi->fencing.step == STEP_KEYS)
			preempt_with_keys(iscsi);
		else
			finish(iscsi, has_key(request, request->victim) ? -EIO : 0);
		return;
	case FERRY_FENCE_REGISTER:
		register_with_keys(iscsi);
		return;
	case FERRY_FENCE_RESET:
		break;
	}
	ferry_assert(false);
}

static void reservation_answered(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	struct ferry_fence_request *request = iscsi->fencing.current;
	int type;

	type = parse_reservation(request, call->data, call->data_bytes);
	if (type < 0)
		finish(iscsi, type);
	else if (request->op == FERRY_FENCE_READ_KEYS)
		finish(iscsi, 0);
	else if (type >= FERRY_PR_WRITE_EXCLUSIVE_REGISTRANTS)
		preempt_reserved(iscsi);
	else /* Nothing keeps the victim from writing on, what is still on its way included. */
		finish(iscsi, -ENOENT);
}

/* GOOD, or the target's word about a reset. */
static void step_done(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	switch ((enum step)iscsi->fencing.step) {
	case STEP_KEYS:
	case STEP_VERIFY:
	case STEP_SEEK:
	case STEP_STILL:
		keys_answered(iscsi, call);
		return;
	case STEP_RESERVATION:
		reservation_answered(iscsi, call);
		return;
	case STEP_REGISTER:
		registered(iscsi);
		return;
	case STEP_BESIDE:
		go(iscsi, STEP_STILL);
		return;
	case STEP_WITHDRAW:
		finish(iscsi, -EACCES);
		return;
	case STEP_PERSISTED:
		(void)ferry_iscsi_vpd_capabilities(call->data, call->data_bytes, &iscsi->lun);
		iscsi->fence.ability.keeps_registrations = iscsi->lun.does_persist;
		finish(iscsi, 0);
		return;
	case STEP_RESERVE:
		finish(iscsi, 0);
		return;
	case STEP_PREEMPT:
		go_lay(iscsi);
		return;
	case STEP_ABORT:
		go(iscsi, STEP_VERIFY);
		return;
	case STEP_RESET:
		if (call->response == ISCSI_TMR_FUNC_COMPLETE &&
		    iscsi->fencing.current->op == FERRY_FENCE_RESET)
			finish(iscsi, 0);
		else if (call->response == ISCSI_TMR_FUNC_COMPLETE)
			go(iscsi, STEP_VERIFY);
		else if (call->response == ISCSI_TMR_TMF_NOT_SUPPORTED)
			not_proven(iscsi);
		else
			finish(iscsi, -EIO);
		return;
	case STEP_REINSTATE: /* Their ends are no answers. */
	case STEP_QUIESCE:
		break;
	}
	ferry_assert(false);
}

/*
 * Because of another's reservation; because the victim's key has gone since we read it, to somebody
 * who was faster (SPC-4, 5.13.11.2.3); or for want of our own? The keys say.
 */
static void conflicted(struct ferry_iscsi *iscsi, enum step step)
{
	bool has_read = step == STEP_ABORT || step == STEP_PREEMPT;

	if (step == STEP_RESERVE ||
	    (has_read && ++iscsi->fencing.conflicts <= FERRY_ISCSI_FENCE_CONFLICTS_MAX))
		go(iscsi, STEP_KEYS);
	else if (step == STEP_REGISTER && iscsi->fencing.current->kept.v != 0)
		go(iscsi, STEP_SEEK);
	else
		finish(iscsi, -EACCES);
}

static void step_refused(struct ferry_iscsi *iscsi, const struct ferry_iscsi_answer *answer)
{
	enum step step = (enum step)iscsi->fencing.step;
	char text[64];

	if (answer->status == SCSI_STATUS_RESERVATION_CONFLICT) {
		conflicted(iscsi, step);
		return;
	}
	if (step == STEP_REGISTER && iscsi->lun.can_persist && !iscsi->lacks_persistence) {
		iscsi->lacks_persistence = true; /* LIO without a place to write to, for one. */
		go(iscsi, STEP_REGISTER);
		return;
	}
	ferry_iscsi_answer_describe(answer, text, sizeof(text));
	ferry_iscsi_say_error(iscsi, "reservations, step %d: %s", (int)step, text);
	finish(iscsi, ferry_iscsi_answer_is_unsupported(answer) ? -EOPNOTSUPP : -EIO);
}

static void answered(struct ferry_iscsi_call *call)
{
	struct ferry_iscsi *iscsi = call->iscsi;
	struct ferry_iscsi_fence_state *fencing = &iscsi->fencing;
	struct ferry_iscsi_conclusion conclusion = ferry_iscsi_conclude(&call->answer);

	ferry_assert(fencing->current && fencing->call == call);
	fencing->call = NULL;
	forget_call(call); /* Its answer stays readable until something is asked again. */
	if (ferry_iscsi_answer_is_unit_attention(&call->answer)) {
		ferry_iscsi_note_attention(iscsi, &call->answer);
		conclusion.verdict = FERRY_ISCSI_VERDICT_RETRY;
	}
	if (conclusion.verdict != FERRY_ISCSI_VERDICT_END && ++fencing->retries > RETRIES_MAX)
		finish(iscsi, -EIO);
	else if (conclusion.verdict == FERRY_ISCSI_VERDICT_RETRY)
		ask(iscsi);
	else if (conclusion.verdict == FERRY_ISCSI_VERDICT_RETRY_LATER)
		ferry_timer_start_in(iscsi->config.loop, &fencing->pause,
				     FERRY_ISCSI_BUSY_PAUSE_NS);
	else if (conclusion.outcome == FERRY_OUTCOME_DONE)
		step_done(iscsi, call);
	else if (conclusion.outcome == FERRY_OUTCOME_FAILED)
		step_refused(iscsi, &call->answer);
	else /* No answer: executed or not. */
		finish(iscsi, fencing->has_sent ? -ETIMEDOUT : -ENOTCONN);
}

void ferry_iscsi_fence_feed(struct ferry_iscsi *iscsi)
{
	struct ferry_iscsi_fence_state *fencing = &iscsi->fencing;
	struct ferry_list *link;

	if (fencing->current || !iscsi->path.is_up)
		return;
	link = ferry_list_pop(&fencing->queue);
	if (!link)
		return;
	fencing->current = ferry_list_entry(link, struct ferry_fence_request, link);
	fencing->current->keys_count = 0;
	fencing->current->holder.v = 0;
	fencing->retries = 0;
	fencing->conflicts = 0;
	fencing->has_sent = false;
	fencing->has_seen_reset = false;
	ferry_timer_start_in(iscsi->config.loop, &fencing->deadline,
			     iscsi->config.fence_timeout_ns + iscsi->config.quiesce_time_ns);
	switch (fencing->current->op) {
	case FERRY_FENCE_READ_KEYS:
	case FERRY_FENCE_PREEMPT:
		go(iscsi, STEP_KEYS);
		break;
	case FERRY_FENCE_REGISTER:
		go(iscsi, STEP_REGISTER);
		break;
	case FERRY_FENCE_RESERVE:
		go(iscsi, STEP_RESERVE);
		break;
	case FERRY_FENCE_RESET:
		if (way_of(iscsi) == FERRY_LAYING_RESET)
			go(iscsi, STEP_RESET);
		else /* By reinstatement our own login has done it. */
			finish(iscsi, way_of(iscsi) == FERRY_LAYING_REINSTATE ? 0 : -EOPNOTSUPP);
		break;
	}
}

/* The path is down: what has not begun is not executed, what has begun may be. */
void ferry_iscsi_fence_drop(struct ferry_iscsi *iscsi)
{
	struct ferry_iscsi_fence_state *fencing = &iscsi->fencing;
	struct ferry_list dropped;
	struct ferry_list *link;

	ferry_assert(!iscsi->path.is_up);
	if (fencing->current && !fencing->call)
		finish(iscsi, fencing->has_sent ? -ETIMEDOUT : -ENOTCONN);
	ferry_list_init(&dropped); /* What is asked again meanwhile is for the next time. */
	while ((link = ferry_list_pop(&fencing->queue)))
		ferry_list_append(&dropped, link);
	while ((link = ferry_list_pop(&dropped))) {
		struct ferry_fence_request *request =
			ferry_list_entry(link, struct ferry_fence_request, link);

		request->on_done(request, -ENOTCONN);
	}
}

static void deadline_run(struct ferry_timer *timer)
{
	struct ferry_iscsi *iscsi = FERRY_CONTAINER_OF(timer, struct ferry_iscsi, fencing.deadline);

	ferry_assert(iscsi->fencing.current);
	finish(iscsi, -ETIMEDOUT);
	ferry_iscsi_settle(iscsi);
}

static void pause_run(struct ferry_timer *timer)
{
	struct ferry_iscsi *iscsi = FERRY_CONTAINER_OF(timer, struct ferry_iscsi, fencing.pause);

	ferry_assert(iscsi->fencing.current);
	if (iscsi->fencing.step == STEP_QUIESCE)
		go(iscsi, STEP_VERIFY);
	else
		ask(iscsi);
	ferry_iscsi_settle(iscsi);
}

static void fence_submit(struct ferry_fence *fence, struct ferry_fence_request *request)
{
	struct ferry_iscsi *iscsi = FERRY_CONTAINER_OF(fence, struct ferry_iscsi, fence);

	FERRY_ASSERT_ON_LOOP(iscsi->config.loop);
	ferry_list_append(&iscsi->fencing.queue, &request->link);
	ferry_iscsi_settle_later(iscsi);
}

void ferry_iscsi_fence_init(struct ferry_iscsi *iscsi)
{
	ferry_list_init(&iscsi->fencing.queue);
	iscsi->fencing.deadline.run = deadline_run;
	iscsi->fencing.pause.run = pause_run;
	for (uint32_t i = 0; i < FERRY_ISCSI_FENCE_CALLS_MAX; i++)
		ferry_list_init(&iscsi->fencing.calls[i].link);
}

const struct ferry_fence_ops FERRY_ISCSI_FENCE_OPS = {
	.name = "iscsi",
	.submit = fence_submit,
};
