#include <stdarg.h>
#include <stdio.h>

#include "agent/adapters/iscsi/private.h"

enum {
	INQUIRY_BYTES = 255,
	KEEPALIVE_IDLE_S = 5,
	KEEPALIVE_INTERVAL_S = 2,
	KEEPALIVE_COUNT = 3,
	CAPABILITIES_BYTES = 8,
};

/*
 * Targets for which tests/target shows what proves that a command is dead, and what does not.
 *
 * Linux's own (LIO): PREEMPT AND ABORT aborts only what came in while the victim was the holder;
 * LUN RESET passes over the commands of a session that is closing, and waits for a silent
 * initiator until the target drops its session; reinstatement waits for the commands themselves.
 * tgtd: no PREEMPT AND ABORT; a session's commands outlive it; LUN RESET waits for all of them.
 * Of who is not registered it refuses WRITE, but neither WRITE SAME nor UNMAP.
 */
static const struct {
	const char *vendor; /* NULL: any. */
	const char *product;
	enum ferry_laying_way laying;
	bool refuses_writes_only;
} TESTED[] = {
	{"LIO-ORG", NULL, FERRY_LAYING_REINSTATE, false},
	{NULL, "VIRTUAL-DISK", FERRY_LAYING_RESET, true},
};

/* No lun holds such a key; see start_abort(). */
#define KEY_OF_NOBODY UINT64_C(0xfffffffffe441919)

void ferry_iscsi_say_error(struct ferry_iscsi *iscsi, const char *format, ...)
{
	char text[FERRY_ISCSI_ERROR_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (strcmp(text, iscsi->last_error) == 0)
		return; /* The same as last time: nobody wants to read it every two seconds. */
	(void)snprintf(iscsi->last_error, sizeof(iscsi->last_error), "%s", text);
	if (iscsi->config.events)
		ferry_event_emit(
			iscsi->config.events,
			(struct ferry_event){.kind = FERRY_EVENT_PATH_STATE,
					     .severity = FERRY_SEVERITY_WARNING,
					     .time_ns = ferry_loop_now_ns(iscsi->config.loop),
					     .node = iscsi->config.node},
			"iscsi %s lun %u: %s", iscsi->target, iscsi->config.lun, text);
}

void ferry_iscsi_note_attention(struct ferry_iscsi *iscsi, const struct ferry_iscsi_answer *answer)
{
	struct ferry_iscsi_unit_attention seen = {
		.asc = answer->asc, .ascq = answer->ascq, .when = FERRY_ISCSI_AT_IO};

	ferry_assert(ferry_iscsi_answer_is_unit_attention(answer));
	if (iscsi->state != FERRY_ISCSI_UP) {
		seen.when = FERRY_ISCSI_AT_LOGIN;
	} else if (answer->asc == 0x29 && iscsi->is_reset_ours) {
		seen.when = FERRY_ISCSI_AT_OWN_RESET;
		iscsi->is_reset_ours = false;
	} else if (answer->asc == 0x29) {
		iscsi->counters.attentions_reset++;
		iscsi->fencing.has_seen_reset = true;
	} else {
		iscsi->counters.attentions_other++;
	}
	if (iscsi->config.on_unit_attention && !iscsi->is_closing)
		iscsi->config.on_unit_attention(&iscsi->path, seen);
}

/* Why the session ended, in the library's words where they tell people anything. */
static void say_lost(struct ferry_iscsi *iscsi)
{
	char text[FERRY_ISCSI_ERROR_MAX];
	char *stale;

	(void)snprintf(text, sizeof(text), "%s",
		       iscsi->said[0] ? iscsi->said : iscsi_get_error(iscsi->context));
	stale = strstr(text, " SENSE KEY:"); /* It repeats an old answer behind the new error. */
	if (stale)
		*stale = '\0';
	if (!text[0] || strstr(text, "reconnect") || strncmp(text, "SENSE", 5) == 0)
		(void)snprintf(text, sizeof(text), "the connection was closed or reset");
	if (iscsi->state == FERRY_ISCSI_UP)
		ferry_iscsi_say_error(iscsi, "session lost: %s", text);
	else
		ferry_iscsi_say_error(iscsi, "%s %s: %s",
				      iscsi->state == FERRY_ISCSI_CONNECTING ? "connect to"
									     : "login at",
				      iscsi->portal, text);
}

static void schedule_login(struct ferry_iscsi *iscsi)
{
	if (iscsi->is_closing)
		return;
	ferry_timer_start_in(iscsi->config.loop, &iscsi->session_timer, iscsi->backoff_ns);
	iscsi->backoff_ns =
		ferry_min_u64(ferry_max_u64(2 * iscsi->backoff_ns, FERRY_ISCSI_BACKOFF_MIN_NS),
			      FERRY_ISCSI_BACKOFF_MAX_NS);
}

/*
 * End the session, now: close the socket and have every call in the library's hands answered by
 * CANCELLED in the next settle(). After this nothing touches the attempts' memory.
 */
void ferry_iscsi_session_drop(struct ferry_iscsi *iscsi, enum ferry_cause cause, const char *why)
{
	struct ferry_list *link;

	iscsi->is_lost = false;
	if (!iscsi->context)
		return;
	ferry_assert(!iscsi->is_destroying);
	ferry_iscsi_unwatch(iscsi);
	ferry_timer_stop(iscsi->config.loop, &iscsi->session_timer);
	ferry_timer_stop(iscsi->config.loop, &iscsi->idle_timer);
	if (!iscsi->is_closing && iscsi->state != FERRY_ISCSI_UP)
		iscsi->counters.login_failures++;
	if (!iscsi->is_closing && why)
		ferry_iscsi_say_error(iscsi, "%s", why);
	else if (!iscsi->is_closing)
		say_lost(iscsi);
	iscsi->is_destroying = true;
	(void)iscsi_destroy_context(TAKE_PTR(iscsi->context)); /* It cannot fail. */
	iscsi->is_destroying = false;

	ferry_list_move_all(&iscsi->calls_done, &iscsi->calls_lingering);
	while ((link = ferry_list_pop(&iscsi->calls_out))) {
		struct ferry_iscsi_call *call =
			ferry_list_entry(link, struct ferry_iscsi_call, link);

		call->is_out = false;
		call->answer = (struct ferry_iscsi_answer){.status = SCSI_STATUS_CANCELLED};
		ferry_list_append(&iscsi->calls_done, &call->link);
	}
	if (iscsi->path.is_up) {
		iscsi->path.is_up = false;
		iscsi->is_down_owed = true;
		iscsi->down_cause = cause;
		iscsi->counters.sessions_lost++;
	}
	if (iscsi->state == FERRY_ISCSI_UP &&
	    ferry_loop_now_ns(iscsi->config.loop) - iscsi->up_since_ns >= FERRY_ISCSI_SETTLED_NS)
		iscsi->backoff_ns = 0;
	iscsi->state = FERRY_ISCSI_RESTING;
	iscsi->redirect[0] = '\0';
	iscsi->holds_back = false;
	iscsi->is_reset_ours = false;
	schedule_login(iscsi);
}

/* The login failed, with a reason for people; the next one is scheduled. */
static void fail_login(struct ferry_iscsi *iscsi, const char *format, ...) FERRY_PRINTF(2, 3);
static void fail_login(struct ferry_iscsi *iscsi, const char *format, ...)
{
	char text[FERRY_ISCSI_ERROR_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	ferry_iscsi_session_drop(iscsi, FERRY_CAUSE_PATH, text);
}

static int start_ready(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	return ferry_iscsi_call_tasked(call,
				       iscsi_testunitready_task(iscsi->context, iscsi->config.lun,
								ferry_iscsi_call_answered, call));
}

static int start_inquiry(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call, int page)
{
	return ferry_iscsi_call_tasked(call, iscsi_inquiry_task(iscsi->context, iscsi->config.lun,
								page != 0, page, INQUIRY_BYTES,
								ferry_iscsi_call_answered, call));
}

static int start_standard(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	return start_inquiry(iscsi, call, 0);
}

static int start_identification(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	return start_inquiry(iscsi, call, SCSI_INQUIRY_PAGECODE_DEVICE_IDENTIFICATION);
}

static int start_serial(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	return start_inquiry(iscsi, call, SCSI_INQUIRY_PAGECODE_UNIT_SERIAL_NUMBER);
}

static int start_limits(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	return start_inquiry(iscsi, call, SCSI_INQUIRY_PAGECODE_BLOCK_LIMITS);
}

static int start_provisioning(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	return start_inquiry(iscsi, call, SCSI_INQUIRY_PAGECODE_LOGICAL_BLOCK_PROVISIONING);
}

static int start_capacity(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	return ferry_iscsi_call_tasked(call,
				       iscsi_readcapacity16_task(iscsi->context, iscsi->config.lun,
								 ferry_iscsi_call_answered, call));
}

static int start_caching(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	return ferry_iscsi_call_tasked(
		call, iscsi_modesense10_task(iscsi->context, iscsi->config.lun, 0, 1,
					     SCSI_MODESENSE_PC_CURRENT, SCSI_MODEPAGE_CACHING, 0,
					     INQUIRY_BYTES, ferry_iscsi_call_answered, call));
}

static int start_keys(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	return ferry_iscsi_call_tasked(
		call, iscsi_persistent_reserve_in_task(iscsi->context, iscsi->config.lun,
						       SCSI_PERSISTENT_RESERVE_READ_KEYS, 8,
						       ferry_iscsi_call_answered, call));
}

static int start_capabilities(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	return ferry_iscsi_call_tasked(
		call, iscsi_persistent_reserve_in_task(iscsi->context, iscsi->config.lun,
						       SCSI_PERSISTENT_RESERVE_REPORT_CAPABILITIES,
						       CAPABILITIES_BYTES,
						       ferry_iscsi_call_answered, call));
}

/*
 * Whether the target knows PREEMPT AND ABORT, without doing it: with a key that this nexus did not
 * register the answer is RESERVATION CONFLICT (SPC-4, 5.13.11.1) or "no such service action".
 */
static int start_abort(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call)
{
	struct scsi_persistent_reserve_out_basic parameters = {
		.reservation_key = KEY_OF_NOBODY,
		.service_action_reservation_key = KEY_OF_NOBODY,
	};

	return ferry_iscsi_call_tasked(
		call,
		iscsi_persistent_reserve_out_task(
			iscsi->context, iscsi->config.lun,
			SCSI_PERSISTENT_RESERVE_PREEMPT_AND_ABORT, SCSI_PERSISTENT_RESERVE_SCOPE_LU,
			SCSI_PERSISTENT_RESERVE_TYPE_WRITE_EXCLUSIVE_REGISTRANTS_ONLY, &parameters,
			ferry_iscsi_call_answered, call));
}

/* What a login asks, in this order. An optional step may be answered by any refusal. */
static const struct {
	const char *name;
	int (*start)(struct ferry_iscsi *iscsi, struct ferry_iscsi_call *call);
	int (*parse)(const uint8_t *data, size_t length_bytes, struct ferry_iscsi_lun *ret);
	bool is_optional;
} STEPS[] = {
	{"TEST UNIT READY", start_ready, NULL, false},
	{"INQUIRY", start_standard, ferry_iscsi_vpd_standard, false},
	{"INQUIRY page 83h", start_identification, ferry_iscsi_vpd_identification, true},
	{"INQUIRY page 80h", start_serial, ferry_iscsi_vpd_serial, true},
	{"READ CAPACITY (16)", start_capacity, ferry_iscsi_vpd_capacity, false},
	{"INQUIRY page B0h", start_limits, ferry_iscsi_vpd_limits, true},
	{"INQUIRY page B2h", start_provisioning, ferry_iscsi_vpd_provisioning, true},
	{"MODE SENSE (10) caching", start_caching, ferry_iscsi_vpd_caching, true},
	{"READ KEYS", start_keys, NULL, true},
	{"REPORT CAPABILITIES", start_capabilities, ferry_iscsi_vpd_capabilities, true},
	{"PREEMPT AND ABORT", start_abort, NULL, true},
};

enum { STEP_READY = 0, STEP_KEYS = 8, STEP_ABORT = 10 };
_Static_assert(FERRY_ARRAY_COUNT(STEPS) == STEP_ABORT + 1, "the steps and their numbers");

static bool differs(struct ferry_iscsi *iscsi, const struct ferry_lun_identity *from,
		    const struct ferry_lun_identity *is, const char *whose)
{
	if (from->wwid[0] && strcmp(from->wwid, is->wwid) != 0)
		fail_login(iscsi, "another lun: it is %s, %s is %s", is->wwid, whose, from->wwid);
	else if (from->size_blocks && from->size_blocks != is->size_blocks)
		fail_login(iscsi, "another size: it has %llu blocks, %s has %llu",
			   (unsigned long long)is->size_blocks, whose,
			   (unsigned long long)from->size_blocks);
	else if (from->block_bytes && from->block_bytes != is->block_bytes)
		fail_login(iscsi, "another block size: it is %u bytes, %s is %u", is->block_bytes,
			   whose, from->block_bytes);
	else
		return false;
	return true;
}

static int find_tested(const struct ferry_iscsi_lun *lun)
{
	for (int i = 0; i < (int)FERRY_ARRAY_COUNT(TESTED); i++)
		if ((!TESTED[i].vendor || strcmp(lun->vendor, TESTED[i].vendor) == 0) &&
		    (!TESTED[i].product || strcmp(lun->product, TESTED[i].product) == 0))
			return i;
	return -ENOENT;
}

/*
 * Whether a preempted node's commands on ranges would be executed all the same, at any time later:
 * then nobody may send any.
 */
static bool ranges_are_unguarded(const struct ferry_iscsi *iscsi)
{
	int tested = find_tested(&iscsi->lun);

	return iscsi->config.is_shared && tested >= 0 && TESTED[tested].refuses_writes_only;
}

static bool identify(struct ferry_iscsi *iscsi, struct ferry_lun_identity *ret)
{
	const struct ferry_iscsi_lun *lun = &iscsi->lun;

	ferry_assert(lun->block_bytes > 0);
	*ret = (struct ferry_lun_identity){
		.size_blocks = lun->size_blocks,
		.block_bytes = lun->block_bytes,
		.can_discard =
			(lun->has_unmap || lun->has_unmap_by_same) && !ranges_are_unguarded(iscsi),
		.has_volatile_cache = lun->has_write_cache,
	};
	if (lun->wwid[0]) {
		memcpy(ret->wwid, lun->wwid, sizeof(ret->wwid));
	} else if (lun->serial[0]) {
		(void)snprintf(ret->wwid, sizeof(ret->wwid), "scsi.%s_%s_%s", lun->vendor,
			       lun->product, lun->serial);
	} else {
		fail_login(iscsi, "the lun has neither an identifier nor a serial number");
		return false;
	}
	ferry_lun_identity_seal(ret);
	return true;
}

/* Which way this lun is laid by, from what it was seen to know and to be. */
static enum ferry_laying_way choose_laying(const struct ferry_iscsi *iscsi)
{
	int tested = find_tested(&iscsi->lun);

	if (iscsi->config.laying)
		return iscsi->config.laying;
	if (tested >= 0)
		return TESTED[tested].laying;
	if (iscsi->has_abort)
		return FERRY_LAYING_ABORT;
	return iscsi->config.quiesce_time_ns ? FERRY_LAYING_QUIESCE : 0;
}

static void come_up(struct ferry_iscsi *iscsi)
{
	struct ferry_lun_identity identity;

	if (!identify(iscsi, &identity))
		return;
	if (differs(iscsi, &iscsi->config.expect, &identity, "the one that is expected"))
		return;
	if (iscsi->has_identity &&
	    differs(iscsi, &iscsi->identity, &identity, "the one that was opened"))
		return;
	iscsi->identity = identity;
	iscsi->has_identity = true;
	iscsi->lacks_same = ranges_are_unguarded(iscsi);
	iscsi->lacks_persistence = false;
	iscsi->quiet.v = 0;
	iscsi->fence.ability =
		(struct ferry_fence_ability){.laying = choose_laying(iscsi),
					     .keeps_registrations = iscsi->lun.can_persist,
					     .quiesce_time_ns = iscsi->config.quiesce_time_ns};
	ferry_timer_stop(iscsi->config.loop, &iscsi->session_timer);
	iscsi->state = FERRY_ISCSI_UP;
	iscsi->up_since_ns = ferry_loop_now_ns(iscsi->config.loop);
	iscsi->counters.logins++;
	iscsi->path.is_up = true;
	ferry_iscsi_idle_begin(iscsi);
	if (iscsi->config.events)
		ferry_event_emit(iscsi->config.events,
				 (struct ferry_event){.kind = FERRY_EVENT_PATH_STATE,
						      .severity = FERRY_SEVERITY_INFO,
						      .time_ns = iscsi->up_since_ns,
						      .node = iscsi->config.node,
						      .to = "up"},
				 "iscsi %s lun %u: logged in, lun %s", iscsi->target,
				 iscsi->config.lun, identity.wwid);
	if (iscsi->path.on_state)
		iscsi->path.on_state(&iscsi->path, true, FERRY_CAUSE_NONE);
}

static void probe_answered(struct ferry_iscsi_call *call);

static void probe(struct ferry_iscsi *iscsi)
{
	ferry_assert(iscsi->state == FERRY_ISCSI_PROBING);
	while (iscsi->probe_step > STEP_KEYS && iscsi->probe_step <= STEP_ABORT &&
	       !iscsi->lun.has_reservations)
		iscsi->probe_step++;
	if (iscsi->probe_step == FERRY_ARRAY_COUNT(STEPS)) {
		come_up(iscsi);
		return;
	}
	ferry_iscsi_call_prepare(iscsi, &iscsi->session_call, probe_answered);
	/* A refusal marks the session as lost: settle() drops it. */
	(void)STEPS[iscsi->probe_step].start(iscsi, &iscsi->session_call);
}

/* What the steps about reservations tell is in how they are answered. */
static void conclude_reservations(struct ferry_iscsi *iscsi,
				  const struct ferry_iscsi_answer *answer)
{
	if (iscsi->probe_step == STEP_KEYS)
		iscsi->lun.has_reservations = answer->status == SCSI_STATUS_GOOD;
	if (iscsi->probe_step == STEP_ABORT)
		iscsi->has_abort = answer->status == SCSI_STATUS_RESERVATION_CONFLICT;
}

static bool retry_probe(struct ferry_iscsi *iscsi, const struct ferry_iscsi_answer *answer)
{
	struct ferry_iscsi_conclusion conclusion = ferry_iscsi_conclude(answer);

	if (ferry_iscsi_answer_is_unit_attention(answer))
		ferry_iscsi_note_attention(iscsi, answer);
	else if (conclusion.verdict != FERRY_ISCSI_VERDICT_RETRY_LATER)
		return false;
	if (++iscsi->probe_retries > FERRY_ISCSI_LOGIN_RETRIES_MAX)
		return false;
	if (conclusion.verdict == FERRY_ISCSI_VERDICT_RETRY_LATER)
		ferry_timer_start_in(iscsi->config.loop, &iscsi->retry_timer,
				     FERRY_ISCSI_BUSY_PAUSE_NS);
	else
		probe(iscsi);
	return true;
}

static void probe_answered(struct ferry_iscsi_call *call)
{
	struct ferry_iscsi *iscsi = call->iscsi;
	uint32_t step = iscsi->probe_step;
	char text[64];
	int r = 0;

	if (iscsi->state != FERRY_ISCSI_PROBING)
		return; /* The session is gone. */
	ferry_assert(step < FERRY_ARRAY_COUNT(STEPS));
	if (retry_probe(iscsi, &call->answer))
		return;
	conclude_reservations(iscsi, &call->answer);
	if (call->answer.status == SCSI_STATUS_GOOD && STEPS[step].parse)
		r = STEPS[step].parse(call->data, call->data ? call->data_bytes : 0, &iscsi->lun);
	else if (call->answer.status != SCSI_STATUS_GOOD && !STEPS[step].is_optional &&
		 !(step == STEP_READY && call->answer.status == SCSI_STATUS_RESERVATION_CONFLICT))
		r = -EIO;
	if (r == -ENODEV || (r == -EIO && call->answer.asc == 0x25)) {
		fail_login(iscsi, "the target has no lun %u for this initiator", iscsi->config.lun);
	} else if (r == -ENOTBLK) {
		fail_login(iscsi, "lun %u is not a disk", iscsi->config.lun);
	} else if (r < 0 && !STEPS[step].is_optional) {
		ferry_iscsi_answer_describe(&call->answer, text, sizeof(text));
		fail_login(iscsi, "%s: %s", STEPS[step].name,
			   r == -EBADMSG ? "the answer makes no sense" : text);
	} else {
		iscsi->probe_step++;
		probe(iscsi);
	}
}

void ferry_iscsi_session_retry(struct ferry_iscsi *iscsi)
{
	if (iscsi->state == FERRY_ISCSI_PROBING && !iscsi->session_call.is_out)
		probe(iscsi);
}

static void login_answered(struct ferry_iscsi_call *call)
{
	struct ferry_iscsi *iscsi = call->iscsi;
	char portal[FERRY_ISCSI_PORTAL_MAX + 1] = "";

	if (iscsi->state != FERRY_ISCSI_LOGGING_IN)
		return;
	if (call->answer.status == SCSI_STATUS_REDIRECT && !iscsi->redirect[0]) {
		(void)snprintf(portal, sizeof(portal), "%s",
			       iscsi_get_target_address(iscsi->context));
		fail_login(iscsi, "the target redirects to %s", portal);
		memcpy(iscsi->redirect, portal, sizeof(portal));
		return;
	}
	if (call->answer.status != SCSI_STATUS_GOOD) {
		ferry_iscsi_session_drop(iscsi, FERRY_CAUSE_PATH, NULL);
		return;
	}
	iscsi->state = FERRY_ISCSI_PROBING;
	iscsi->probe_step = 0;
	iscsi->probe_retries = 0;
	iscsi->has_abort = false;
	/* What the lun does not tell: that it may lose what isn't flushed. */
	iscsi->lun = (struct ferry_iscsi_lun){.has_write_cache = true};
	probe(iscsi);
}

static void connect_answered(struct ferry_iscsi_call *call)
{
	struct ferry_iscsi *iscsi = call->iscsi;

	if (iscsi->state != FERRY_ISCSI_CONNECTING)
		return;
	if (call->answer.status != SCSI_STATUS_GOOD) {
		ferry_iscsi_session_drop(iscsi, FERRY_CAUSE_PATH, NULL);
		return;
	}
	iscsi->state = FERRY_ISCSI_LOGGING_IN;
	ferry_iscsi_call_prepare(iscsi, call, login_answered);
	(void)ferry_iscsi_call_started(/* A refusal marks the session as lost. */
				       call, iscsi_login_async(iscsi->context,
							       ferry_iscsi_call_answered, call));
}

int ferry_iscsi_session_prepare(struct ferry_iscsi *iscsi, struct iscsi_context *context,
				uint16_t qualifier)
{
	uint32_t timeout_ms = iscsi->config.tcp_user_timeout_ms;

	ferry_assert(context);
	ferry_assert(timeout_ms > 0 && timeout_ms <= INT32_MAX);
	iscsi_set_noautoreconnect(context, 1);
	(void)iscsi_set_timeout(context, 0); /* Setters of a fresh context: they cannot fail. */
	(void)iscsi_set_isid_random(context, FERRY_ISCSI_ISID, qualifier);
	(void)iscsi_set_session_type(context, ISCSI_SESSION_NORMAL);
	(void)iscsi_set_header_digest(context, ISCSI_HEADER_DIGEST_NONE_CRC32C);
	iscsi_set_tcp_user_timeout(context, (int)timeout_ms);
	iscsi_set_tcp_keepidle(context, KEEPALIVE_IDLE_S);
	iscsi_set_tcp_keepintvl(context, KEEPALIVE_INTERVAL_S);
	iscsi_set_tcp_keepcnt(context, KEEPALIVE_COUNT);
	if (iscsi_set_targetname(context, iscsi->target) < 0)
		return -EINVAL;
	if (iscsi->secrets[0][0] &&
	    iscsi_set_initiator_username_pwd(context, iscsi->secrets[0], iscsi->secrets[1]) < 0)
		return -EINVAL;
	if (iscsi->secrets[2][0] &&
	    iscsi_set_target_username_pwd(context, iscsi->secrets[2], iscsi->secrets[3]) < 0)
		return -EINVAL;
	return 0;
}

void ferry_iscsi_session_begin(struct ferry_iscsi *iscsi)
{
	const char *portal = iscsi->redirect[0] ? iscsi->redirect : iscsi->portal;

	ferry_assert(!iscsi->context && iscsi->state == FERRY_ISCSI_RESTING);
	ferry_assert(iscsi->slots_busy == 0 && !iscsi->is_down_owed);
	iscsi->context = iscsi_create_context(iscsi->initiator);
	if (!iscsi->context) {
		ferry_iscsi_say_error(iscsi, "no memory for a session");
		schedule_login(iscsi);
		return;
	}
	iscsi->state = FERRY_ISCSI_CONNECTING;
	iscsi->said[0] = '\0';
	ferry_timer_start_in(iscsi->config.loop, &iscsi->session_timer,
			     iscsi->config.login_timeout_ns);
	if (ferry_iscsi_session_prepare(iscsi, iscsi->context, iscsi->config.isid_qualifier) < 0) {
		iscsi->is_lost = true;
		return;
	}
	ferry_iscsi_call_prepare(iscsi, &iscsi->session_call, connect_answered);
	(void)ferry_iscsi_call_started(/* A refusal marks the session as lost. */
				       &iscsi->session_call,
				       iscsi_connect_async(iscsi->context, portal,
							   ferry_iscsi_call_answered,
							   &iscsi->session_call));
}

static void logout_answered(struct ferry_iscsi_call *call)
{
	ferry_iscsi_session_drop(call->iscsi, FERRY_CAUSE_PATH, NULL);
}

void ferry_iscsi_session_leave(struct ferry_iscsi *iscsi)
{
	ferry_assert(iscsi->is_closing);
	if (iscsi->state != FERRY_ISCSI_UP) {
		ferry_iscsi_session_drop(iscsi, FERRY_CAUSE_PATH, NULL);
		return;
	}
	iscsi->state = FERRY_ISCSI_LEAVING;
	iscsi->path.is_up = false;
	ferry_timer_stop(iscsi->config.loop, &iscsi->idle_timer);
	ferry_timer_start_in(iscsi->config.loop, &iscsi->session_timer, FERRY_ISCSI_LOGOUT_NS);
	ferry_iscsi_call_prepare(iscsi, &iscsi->session_call, logout_answered);
	(void)ferry_iscsi_call_started(/* A refusal marks the session as lost. */
				       &iscsi->session_call,
				       iscsi_logout_async(iscsi->context, ferry_iscsi_call_answered,
							  &iscsi->session_call));
}

void ferry_iscsi_session_timer_run(struct ferry_timer *timer)
{
	struct ferry_iscsi *iscsi = FERRY_CONTAINER_OF(timer, struct ferry_iscsi, session_timer);
	unsigned long long timeout_ms = iscsi->config.login_timeout_ns / FERRY_NS_PER_MS;

	switch (iscsi->state) {
	case FERRY_ISCSI_RESTING:
		ferry_assert(!iscsi->is_closing);
		if (iscsi->slots_busy > 0 || iscsi->is_down_owed) /* The old session first. */
			ferry_timer_start_in(iscsi->config.loop, timer, 0);
		else
			ferry_iscsi_session_begin(iscsi);
		break;
	case FERRY_ISCSI_CONNECTING:
		fail_login(iscsi, "connect to %s: no answer within %llu ms", iscsi->portal,
			   timeout_ms);
		break;
	case FERRY_ISCSI_LOGGING_IN:
		fail_login(iscsi, "login at %s: no answer within %llu ms", iscsi->portal,
			   timeout_ms);
		break;
	case FERRY_ISCSI_PROBING:
		fail_login(iscsi, "%s: no answer within %llu ms of the login's beginning",
			   STEPS[iscsi->probe_step].name, timeout_ms);
		break;
	case FERRY_ISCSI_LEAVING:
		ferry_iscsi_session_drop(iscsi, FERRY_CAUSE_PATH, NULL);
		break;
	case FERRY_ISCSI_UP:
		ferry_assert(false); /* It is stopped on coming up. */
	}
	ferry_iscsi_settle(iscsi);
}
