#include "agent/core/carrier.h"

#include <stdio.h>

#include "agent/base/museum.h"
#include "agent/core/key.h"

#ifdef FERRY_MUSEUM_BUILD
#include "agent/core/engine.h"
#endif

static struct ferry_carrier_lun *lun_find(struct ferry_carrier *carrier,
					  const struct ferry_uuid *uuid)
{
	for (uint32_t i = 0; i < carrier->luns_count; i++)
		if (ferry_uuid_equal(&carrier->luns[i]->uuid, uuid))
			return carrier->luns[i];
	return NULL;
}

/* ---- Jobs and answers. ---- */

static struct ferry_answer *answer_of(struct ferry_session *session, uint64_t sequence)
{
	if (FERRY_MUSEUM(REPLY_EVICTED))
		sequence = 0;
	return &session->answers[sequence % FERRY_WIRE_WINDOW_MAX];
}

static void lun_count_job(struct ferry_job *job, bool is_there)
{
	if (job->is_counted == is_there || !job->lun)
		return;
	job->is_counted = is_there;
	if (is_there) {
		job->lun->jobs_count++;
		return;
	}
	ferry_assert(job->lun->jobs_count > 0);
	if (--job->lun->jobs_count == 0)
		job->lun->on_drained(job->lun);
}

static void job_free_if_over(struct ferry_job *job)
{
	struct ferry_carrier *carrier = job->session->carrier;

	if (job->is_flying || job->is_sending || !job->has_answered)
		return;
	ferry_segments_drop(&job->data);
	ferry_segments_drop(&job->reply.segments);
	lun_count_job(job, false);
	ferry_list_remove(&job->link);
	ferry_list_prepend(&carrier->jobs_free, &job->link);
}

static void reply_sent(struct ferry_message *message, enum ferry_sent sent)
{
	struct ferry_job *job = FERRY_CONTAINER_OF(message, struct ferry_job, reply);

	ferry_assert(job->is_sending);
	(void)sent; /* Lost replies are asked for again. */
	job->is_sending = false;
	job_free_if_over(job);
}

static enum ferry_wire_type reply_type(const struct ferry_wire_header *request)
{
	if (request->type == FERRY_WIRE_LAY)
		return FERRY_WIRE_LAY_REPLY;
	if (request->type == FERRY_WIRE_WARM)
		return FERRY_WIRE_WARM_REPLY;
	ferry_assert(request->type == FERRY_WIRE_REQUEST);
	return FERRY_WIRE_REPLY;
}

/* Tell the requester, if the link that it asked by still stands, and keep the answer. */
static void job_answer(struct ferry_job *job, enum ferry_outcome outcome, enum ferry_cause cause)
{
	struct ferry_session *session = job->session;
	struct ferry_answer *answer = answer_of(session, job->request.sequence);
	/* A new agent counts from 1 again: its forerunner's answer is none to the same number. */
	bool is_askers = session->incarnation.v == job->request.incarnation.v;

	ferry_assert(!job->has_answered);
	job->has_answered = true;
	if (is_askers && answer->sequence == job->request.sequence &&
	    answer->state == FERRY_ANSWER_RUNNING) {
		answer->state = FERRY_ANSWER_KNOWN;
		answer->outcome = outcome;
		answer->cause = cause;
	}
	/*
	 * Data goes only by the link that asked: after a break the requester has given up on its
	 * reads, but asks for its writes again, by the same number.
	 */
	if (!session->link || !is_askers ||
	    (session->link_number != job->link_number && job->reply.segments.count > 0)) {
		ferry_segments_drop(&job->reply.segments);
		return;
	}
	job->reply.header = job->request; /* An answer bears the asker's number and name. */
	job->reply.header.type = reply_type(&job->request);
	job->reply.header.cursor = 0;
	job->reply.header.floor = 0;
	job->reply.header.flags = 0;
	job->reply.header.victim_key = 0;
	job->reply.header.losses =
		job->lun && job->request.type == FERRY_WIRE_REQUEST ? *job->lun->losses : 0;
	job->reply.header.outcome = outcome;
	job->reply.header.cause = cause;
	job->reply.header.payload_bytes = job->reply.segments.length_bytes;
	job->reply.header.payload_crc = 0; /* The transport's, who looks at the data once. */
	job->reply.on_sent = reply_sent;
	job->is_sending = true;
	if (ferry_link_send(session->link, &job->reply) < 0)
		job->is_sending = false;
}

/* Not executed: proven, so FAILED. */
static void job_refuse(struct ferry_job *job, enum ferry_cause cause)
{
	job->session->carrier->stats.refused++;
	ferry_segments_drop(&job->data);
	job_answer(job, FERRY_OUTCOME_FAILED, cause);
	job_free_if_over(job);
}

/* ---- Rule 7, looked at when submitting. ---- */

static enum ferry_cause check_standing(const struct ferry_carrier_lun *lun,
				       const struct ferry_wire_header *request)
{
	const struct ferry_view *view = lun->view;

	if (!view->is_quorate || !ferry_view_has_member(view, request->node))
		return FERRY_CAUSE_STALE;
	if (!ferry_uuid_equal(&view->lineage, &request->lineage))
		return FERRY_CAUSE_STALE;
	if (FERRY_MUSEUM(EPOCH_UNCHECKED))
		return FERRY_CAUSE_NONE;
	if (view->epoch.v != request->epoch.v || view->owner.v != request->node.v)
		return FERRY_CAUSE_STALE;
	return FERRY_CAUSE_NONE;
}

static enum ferry_cause check_range(const struct ferry_carrier_lun *lun,
				    const struct ferry_wire_header *request)
{
	uint64_t bytes = (uint64_t)request->length_blocks * lun->block_bytes;
	bool has_data = ferry_op_has_data((enum ferry_op)request->op);

	if (request->lba.v > lun->size_blocks ||
	    request->length_blocks > lun->size_blocks - request->lba.v)
		return FERRY_CAUSE_INVALID;
	if (bytes > (has_data ? FERRY_IO_BYTES_MAX : FERRY_IO_RANGE_BYTES_MAX))
		return FERRY_CAUSE_INVALID;
	if (request->op == FERRY_OP_WRITE && request->payload_bytes != bytes)
		return FERRY_CAUSE_INVALID;
	return FERRY_CAUSE_NONE;
}

/* The requester knows of its ghost; but this node must not pass for drained while it may land. */
static void note_ghost(struct ferry_job *job)
{
	struct ferry_epoch *ghost_epoch = &job->lun->ghost_epoch;

	if (ferry_op_changes_blocks(job->flight.attempt.op) &&
	    !FERRY_MUSEUM(CARRIED_GHOST_FORGOTTEN))
		ghost_epoch->v = ferry_max_u64(ghost_epoch->v, job->request.epoch.v);
}

#ifdef FERRY_MUSEUM_BUILD
/* The carrier knows of no cache, so this mistake has to reach for one. */
static void read_from_cache(struct ferry_job *job)
{
	const struct ferry_engine *engine =
		FERRY_CONTAINER_OF(job->lun, struct ferry_engine, carried);
	const struct ferry_attempt *attempt = &job->flight.attempt;
	uint32_t block_bytes = job->lun->block_bytes;

	for (uint32_t i = 0; engine->config.cache_lines_max > 0 && i < attempt->length_blocks;
	     i++) {
		uint64_t at_bytes = (attempt->lba.v + i) * block_bytes;
		uint32_t slot =
			ferry_index_find(&engine->cache.index, at_bytes / FERRY_CACHE_LINE_BYTES);

		if (slot != FERRY_INDEX_NONE)
			ferry_segments_write(&attempt->segments, i * block_bytes,
					     ferry_index_data(&engine->cache.index, slot) +
						     at_bytes % FERRY_CACHE_LINE_BYTES,
					     block_bytes);
	}
}
#else
static void read_from_cache(struct ferry_job *job)
{
	(void)job;
}
#endif

static void flight_ended(struct ferry_flight *flight, enum ferry_outcome outcome,
			 enum ferry_cause cause)
{
	struct ferry_job *job = FERRY_CONTAINER_OF(flight, struct ferry_job, flight);

	ferry_assert(job->is_flying);
	if (outcome == FERRY_OUTCOME_UNKNOWN)
		note_ghost(job);
	if (job->has_answered)
		return; /* Overdue: the requester has been told UNKNOWN. */
	if (outcome == FERRY_OUTCOME_DONE && job->request.op == FERRY_OP_READ) {
		if (FERRY_MUSEUM(PEER_CACHE))
			read_from_cache(job);
		ferry_segments_share(&flight->attempt.segments, &job->reply.segments);
	}
	job_answer(job, outcome, cause);
}

static void flight_released(struct ferry_flight *flight)
{
	struct ferry_job *job = FERRY_CONTAINER_OF(flight, struct ferry_job, flight);

	ferry_assert(job->is_flying);
	job->is_flying = false;
	ferry_segments_drop(&flight->attempt.segments);
	job_free_if_over(job);
}

/* Half of the requester's window is behind what has no answer: the next ones will need the rest. */
static bool is_crowded(const struct ferry_session *session)
{
	return session->newest - session->floor >= FERRY_WIRE_WINDOW_MAX / 2;
}

static void flight_overdue(struct ferry_flight *flight)
{
	struct ferry_job *job = FERRY_CONTAINER_OF(flight, struct ferry_job, flight);

	if (job->lun->answers_at_end && ferry_op_changes_blocks(flight->attempt.op) &&
	    !is_crowded(job->session))
		return; /* Its requester has a deadline of its own. */
	job_answer(job, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_TIMEOUT);
}

/* A write that hangs must not close the window: its end will not be told then. */
static void late_answer(struct ferry_session *session, struct ferry_carrier_lun *lun)
{
	ferry_list_foreach_safe (link, &lun->lane->flights) {
		struct ferry_flight *flight = ferry_list_entry(link, struct ferry_flight, link);
		struct ferry_job *job = FERRY_CONTAINER_OF(flight, struct ferry_job, flight);

		if (flight->on_end == flight_ended && flight->is_overdue &&
		    job->session == session && !job->has_answered)
			job_answer(job, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_TIMEOUT);
	}
}

static int job_fly(struct ferry_job *job)
{
	struct ferry_carrier *carrier = job->session->carrier;
	const struct ferry_wire_header *request = &job->request;
	int r = 0;

	job->flight = (struct ferry_flight){
		.attempt = {.op = (enum ferry_op)request->op,
			    .flags = request->flags,
			    .lba = request->lba,
			    .length_blocks = request->length_blocks,
			    .epoch = request->epoch},
		.on_end = flight_ended,
		.on_released = flight_released,
		.on_overdue = flight_overdue,
	};
	if (request->op == FERRY_OP_READ)
		r = ferry_arena_take(carrier->config.arena,
				     request->length_blocks * job->lun->block_bytes,
				     &job->flight.attempt.segments);
	else if (request->op == FERRY_OP_WRITE)
		ferry_segments_share(&job->data, &job->flight.attempt.segments);
	if (r == 0)
		r = ferry_lane_submit(job->lun->lane, &job->flight);
	if (r < 0)
		ferry_segments_drop(&job->flight.attempt.segments);
	return r;
}

static void arena_wait(struct ferry_carrier *carrier)
{
	if (!carrier->arena_waiter.link.next || !ferry_list_is_linked(&carrier->arena_waiter.link))
		ferry_arena_wait(carrier->config.arena, &carrier->arena_waiter);
}

/* Look at everything now, and submit. False: it has to wait for room. */
static bool job_run(struct ferry_job *job)
{
	struct ferry_carrier *carrier = job->session->carrier;
	enum ferry_cause cause = check_standing(job->lun, &job->request);
	int r;

	/*
	 * While it waited its requester may have started anew, or settled it; or the link that
	 * asked was cut: who still wants it asks again, and hears that it was not run.
	 */
	if (job->request.incarnation.v != job->session->incarnation.v ||
	    job->request.sequence < job->session->floor || !job->session->link ||
	    job->session->link_number != job->link_number)
		cause = FERRY_MUSEUM(LINK_OUTLIVED) ? cause : FERRY_CAUSE_STALE;
	if (FERRY_MUSEUM(CHECKED_ONCE) && job->flight.on_end) /* It was looked at before. */
		cause = FERRY_CAUSE_NONE;
	if (cause == FERRY_CAUSE_NONE)
		cause = check_range(job->lun, &job->request);
	if (cause == FERRY_CAUSE_NONE && !ferry_lane_is_usable(job->lun->lane)) {
		/* Nothing waits for a nexus to come back: it may have been killed meanwhile. */
		if (FERRY_MUSEUM(LINK_OUTLIVED))
			return false;
		cause = FERRY_CAUSE_UNHEALTHY;
	}
	if (cause != FERRY_CAUSE_NONE) {
		job_refuse(job, cause);
		return true;
	}
	r = job_fly(job);
	carrier->waits_for_path = r == -EAGAIN;
	if (r == -ENOBUFS)
		arena_wait(carrier);
	if (r == -EAGAIN || r == -ENOBUFS)
		return false;
	if (r < 0) {
		job_refuse(job, r == -EOPNOTSUPP ? FERRY_CAUSE_INVALID : FERRY_CAUSE_UNHEALTHY);
		return true;
	}
	job->is_flying = true;
	carrier->stats.carried++;
	job->session->carried++;
	ferry_segments_drop(&job->data); /* The flight holds its own use. */
	return true;
}

static void retry_waiting(struct ferry_task *task)
{
	struct ferry_carrier *carrier = FERRY_CONTAINER_OF(task, struct ferry_carrier, retry_task);

	while (!ferry_list_is_empty(&carrier->waiting)) {
		struct ferry_job *job =
			ferry_list_entry(carrier->waiting.next, struct ferry_job, link);

		ferry_list_remove(&job->link);
		if (job_run(job))
			continue;
		ferry_list_prepend(&carrier->waiting, &job->link);
		return;
	}
}

/* ---- Killing a nexus for its owner. ---- */

static void lay_done(void *context, int error)
{
	struct ferry_job *job = context;

	if (error == 0)
		job->session->carrier->stats.laid++;
	job->is_flying = false;
	job_answer(job, error == 0 ? FERRY_OUTCOME_DONE : FERRY_OUTCOME_FAILED,
		   error == 0 ? FERRY_CAUSE_NONE : FERRY_CAUSE_UNHEALTHY);
	job_free_if_over(job);
}

/* Whoever is a member may have its own nexus killed, an older incarnation's too. */
static bool is_consent(const struct ferry_carrier_lun *lun, const struct ferry_wire_header *request)
{
	struct ferry_key victim = {request->victim_key};

	return lun->view->is_quorate && ferry_view_has_member(lun->view, request->node) &&
	       ferry_uuid_equal(&lun->view->lineage, &request->lineage) &&
	       ferry_key_is_ours(victim) && ferry_key_node(victim).v == request->node.v;
}

static void job_lay(struct ferry_job *job)
{
	struct ferry_key victim = {job->request.victim_key};
	enum ferry_cause cause = check_standing(job->lun, &job->request);

	if (is_consent(job->lun, &job->request))
		cause = FERRY_CAUSE_NONE;

	if (cause != FERRY_CAUSE_NONE) {
		job_refuse(job, cause);
		return;
	}
	job->is_flying = true;
	if (job->lun->lay(job->lun, victim, lay_done, job) < 0) {
		job->is_flying = false;
		job_refuse(job, FERRY_CAUSE_UNHEALTHY);
	}
}

/* ---- Handing out what the cache has. ---- */

static void job_warm(struct ferry_job *job)
{
	struct ferry_carrier *carrier = job->session->carrier;
	enum ferry_cause cause = check_standing(job->lun, &job->request);

	/* It is advice, and wanted soon or not at all: nothing waits for buffers here. */
	if (cause == FERRY_CAUSE_NONE &&
	    (!job->lun->warm || job->lun->warm(job->lun, job->request.cursor, carrier->config.arena,
					       &job->reply.segments) < 0))
		cause = FERRY_CAUSE_UNHEALTHY;
	if (cause != FERRY_CAUSE_NONE) {
		job_refuse(job, cause);
		return;
	}
	carrier->stats.warmed++;
	job_answer(job, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	job_free_if_over(job);
}

/* ---- Requests. ---- */

static struct ferry_job *job_take(struct ferry_session *session,
				  const struct ferry_wire_header *header,
				  struct ferry_segments *segments)
{
	struct ferry_list *link = ferry_list_pop(&session->carrier->jobs_free);
	struct ferry_job *job;

	if (!link)
		return NULL;
	job = ferry_list_entry(link, struct ferry_job, link);
	*job = (struct ferry_job){
		.session = session,
		.request = *header,
		.data = *segments,
		.link_number = session->link_number,
	};
	segments->count = 0; /* The job's now. */
	ferry_list_init(&job->link);
	return job;
}

/* Asked again: say what is known; what still runs will be answered when it ends. */
static void request_again(struct ferry_session *session, const struct ferry_answer *answer,
			  struct ferry_job *job)
{
	session->carrier->stats.repeated++;
	job->has_answered = true; /* Nothing of this job itself is to be kept or said... */
	if (answer->state == FERRY_ANSWER_KNOWN) {
		job->has_answered = false; /* ...but the old answer is, under its number. */
		job_answer(job, answer->outcome, answer->cause);
	}
	job_free_if_over(job);
}

static void request_take(struct ferry_session *session, struct ferry_job *job)
{
	struct ferry_carrier *carrier = session->carrier;
	const struct ferry_wire_header *request = &job->request;
	struct ferry_answer *answer = answer_of(session, request->sequence);
	bool is_known = answer->sequence == request->sequence && answer->state != FERRY_ANSWER_NONE;

	session->floor = ferry_max_u64(session->floor, request->floor);
	session->newest = ferry_max_u64(session->newest, request->sequence);
	for (uint32_t i = 0; i < carrier->luns_count && is_crowded(session); i++)
		late_answer(session, carrier->luns[i]);
	if (request->sequence < session->floor) {
		job_refuse(job, FERRY_CAUSE_STALE); /* Settled long ago: never run again. */
		return;
	}
	job->lun = lun_find(carrier, &request->lun);
	/* What changes nothing, asked again, runs again: its data is not kept. */
	if (is_known && request->op != FERRY_OP_READ && request->type != FERRY_WIRE_WARM &&
	    !FERRY_MUSEUM(NO_REPLY_CACHE)) {
		request_again(session, answer, job);
		return;
	}
	*answer =
		(struct ferry_answer){.sequence = request->sequence, .state = FERRY_ANSWER_RUNNING};
	if (!job->lun) {
		job_refuse(job, FERRY_CAUSE_LUN);
		return;
	}
	if (request->type == FERRY_WIRE_WARM) {
		job_warm(job); /* No I/O: no change of owner waits for it. */
		return;
	}
	if (!FERRY_MUSEUM(CHECKED_ONCE))
		lun_count_job(job, true);
	if (request->type == FERRY_WIRE_LAY) {
		job_lay(job);
		return;
	}
	if (ferry_list_is_empty(&carrier->waiting) && job_run(job))
		return;
	if (FERRY_MUSEUM(CHECKED_ONCE) && check_standing(job->lun, request) == FERRY_CAUSE_NONE)
		job->flight.on_end = flight_ended;
	ferry_list_append(&carrier->waiting, &job->link);
	ferry_task_post(carrier->config.loop, &carrier->retry_task);
}

static void link_message(struct ferry_link *link, const struct ferry_wire_header *header,
			 struct ferry_segments *segments)
{
	struct ferry_session *session = link->context;
	struct ferry_job *job = NULL;
	const char *why = NULL;

	ferry_assert(session->link == link);
	if (header->type != FERRY_WIRE_REQUEST && header->type != FERRY_WIRE_LAY &&
	    header->type != FERRY_WIRE_WARM)
		why = "not a request";
	else if (header->node.v != session->node.v ||
		 header->incarnation.v != session->incarnation.v)
		why = "a request in another's name";
	else if (header->sequence - header->floor >= FERRY_WIRE_WINDOW_MAX)
		why = "a request outside the window";
	else if (!(job = job_take(session, header, segments)))
		why = "more requests than the window allows";
	if (why) {
		ferry_segments_drop(segments);
		link->ops->reset(link, why);
		return;
	}
	request_take(session, job);
}

static int link_payload(struct ferry_link *link, const struct ferry_wire_header *header,
			struct ferry_segments *ret)
{
	struct ferry_session *session = link->context;
	struct ferry_carrier *carrier = session->carrier;
	int r;

	if (header->type != FERRY_WIRE_REQUEST || header->op != FERRY_OP_WRITE)
		return -EPROTO;
	r = ferry_arena_take(carrier->config.arena, header->payload_bytes, ret);
	if (r < 0) {
		session->is_paused = true;
		arena_wait(carrier);
	}
	return r;
}

static void link_payload_dropped(struct ferry_link *link, const struct ferry_wire_header *header,
				 struct ferry_segments *segments)
{
	(void)link;
	(void)header;
	ferry_segments_drop(segments);
}

static void link_down(struct ferry_link *link, const char *why)
{
	struct ferry_session *session = link->context;

	(void)why; /* The requester's side tells of it. */
	if (session->link != link)
		return; /* Replaced; what is paused is the newer one. */
	session->link = NULL;
	session->is_paused = false;
}

static void link_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	const struct ferry_session *session = link->context;

	ferry_assert(session->link == link); /* Accepted just before. */
	ferry_assert(session->incarnation.v == incarnation.v);
}

static void resume_paused(struct ferry_task *task)
{
	struct ferry_carrier *carrier = FERRY_CONTAINER_OF(task, struct ferry_carrier, resume_task);

	for (uint32_t i = 0; i < carrier->config.sessions_max; i++) {
		struct ferry_session *session = &carrier->sessions[i];

		if (!session->link || !session->is_paused)
			continue;
		session->is_paused = false;
		session->link->ops->resume(session->link);
	}
}

static void arena_has_room(struct ferry_arena_waiter *waiter)
{
	struct ferry_carrier *carrier =
		FERRY_CONTAINER_OF(waiter, struct ferry_carrier, arena_waiter);

	ferry_task_post(carrier->config.loop, &carrier->resume_task);
	/* A read that finds the path full gives its buffers back: that is no news for itself. */
	if (!carrier->waits_for_path)
		ferry_carrier_look_again(carrier);
}

/* ---- The room's entrances. ---- */

size_t ferry_carrier_memory_bytes(uint32_t sessions_max)
{
	return sessions_max * (sizeof(struct ferry_session) +
			       FERRY_CARRIER_JOBS_PER_SESSION * sizeof(struct ferry_job)) +
	       256;
}

int ferry_carrier_init(struct ferry_carrier *carrier, struct ferry_region *region,
		       const struct ferry_carrier_config *config)
{
	uint32_t jobs_count = config->sessions_max * FERRY_CARRIER_JOBS_PER_SESSION;
	struct ferry_job *jobs;

	ferry_assert(config->loop && config->arena);
	ferry_assert(config->sessions_max > 0 && config->sessions_max <= FERRY_NODES_MAX);
	*carrier = (struct ferry_carrier){
		.config = *config,
		.retry_task = {.run = retry_waiting},
		.resume_task = {.run = resume_paused},
		.arena_waiter = {.run = arena_has_room},
	};
	ferry_list_init(&carrier->jobs_free);
	ferry_list_init(&carrier->waiting);
	carrier->sessions =
		ferry_region_take(region, config->sessions_max, sizeof(*carrier->sessions));
	jobs = ferry_region_take(region, jobs_count, sizeof(*jobs));
	if (!carrier->sessions || !jobs)
		return -ENOMEM;
	for (uint32_t i = 0; i < jobs_count; i++)
		ferry_list_append(&carrier->jobs_free, &jobs[i].link);
	return 0;
}

int ferry_carrier_add_lun(struct ferry_carrier *carrier, struct ferry_carrier_lun *lun)
{
	ferry_assert(carrier && lun);
	ferry_assert(lun->view && lun->lane && lun->lay && lun->on_drained);
	ferry_assert(lun->losses);
	if (carrier->luns_count == FERRY_CARRIER_LUNS_MAX)
		return -ENOSPC;
	carrier->luns[carrier->luns_count++] = lun;
	return 0;
}

static struct ferry_session *session_find(struct ferry_carrier *carrier, struct ferry_node node)
{
	for (uint32_t i = 0; i < carrier->config.sessions_max; i++)
		if (carrier->sessions[i].node.v == node.v || carrier->sessions[i].node.v == 0)
			return &carrier->sessions[i];
	return NULL;
}

uint64_t ferry_carrier_carried_for(const struct ferry_carrier *carrier, struct ferry_node node)
{
	ferry_assert(carrier && node.v != 0);
	for (uint32_t i = 0; i < carrier->config.sessions_max; i++)
		if (carrier->sessions[i].node.v == node.v)
			return carrier->sessions[i].carried;
	return 0;
}

int ferry_carrier_accept(struct ferry_carrier *carrier, struct ferry_link *link,
			 struct ferry_incarnation incarnation)
{
	struct ferry_session *session;

	ferry_assert(carrier && link);
	ferry_assert(link->node.v > 0 && incarnation.v > 0);
	session = session_find(carrier, link->node);
	if (!session)
		return -ENOSPC;
	if (incarnation.v < session->incarnation.v)
		return -ESTALE;
	if (session->link)
		session->link->ops->reset(session->link, "replaced by a newer connection");
	if (incarnation.v > session->incarnation.v) {
		/* Old answers are nobody's; old jobs end by themselves and answer nobody. */
		memset(session->answers, 0, sizeof(session->answers));
		session->floor = session->newest = 0;
	}
	session->carrier = carrier;
	session->node = link->node;
	session->incarnation = incarnation;
	session->link = link;
	session->link_number++;
	session->is_paused = false;
	link->on_up = link_up;
	link->on_down = link_down;
	link->on_payload = link_payload;
	link->on_payload_dropped = link_payload_dropped;
	link->on_message = link_message;
	link->context = session;
	return 0;
}

void ferry_carrier_cut(struct ferry_carrier *carrier, const char *why)
{
	ferry_assert(carrier && why);
	for (uint32_t i = 0; i < carrier->config.sessions_max; i++)
		if (carrier->sessions[i].link)
			carrier->sessions[i].link->ops->reset(carrier->sessions[i].link, why);
}

void ferry_carrier_look_again(struct ferry_carrier *carrier)
{
	ferry_assert(carrier);
	if (!ferry_list_is_empty(&carrier->waiting))
		ferry_task_post(carrier->config.loop, &carrier->retry_task);
}
