/*
 * ownership.c - the entrances: opening, and the wishes for a pool; what a situation and a view are
 * made of. The idea, and the files that carry it out, are in ownership.h and ownership_private.h.
 */
#include "fencing/ownership_private.h"

#include <stdio.h>

#include "agent/base/checksum.h"

void ferry_ownership_emit(struct ferry_ownership *ownership, enum ferry_event_kind kind,
			  enum ferry_severity severity, const char *text)
{
	struct ferry_event event = {.kind = kind,
				    .severity = severity,
				    .node = ownership->view.owner,
				    .value = ownership->view.epoch.v,
				    .time_ns = ferry_loop_now_ns(ownership->config.loop)};

	(void)snprintf(event.pool, sizeof(event.pool), "%s", ownership->config.pool);
	(void)snprintf(event.to, sizeof(event.to), "%s",
		       ferry_ownership_phase_name(ownership->phase));
	ferry_event_emit(ownership->config.events, event, "%s", text);
}

struct ferry_situation ferry_ownership_situation(const struct ferry_ownership *ownership)
{
	const struct ferry_ownership_config *config = &ownership->config;
	const struct ferry_ownership_fencing *fencing = &ownership->fencing;
	uint64_t now_ns = ferry_loop_now_ns(config->loop);

	return (struct ferry_situation){
		.self = config->group->self,
		.nodes = &config->group->nodes,
		.is_quorate = config->group->is_quorate,
		.ring = config->group->ring,
		.members = &ownership->members,
		.known = ownership->known,
		.seen = ownership->seen,
		.lineage = config->lineage,
		.lun = config->lun,
		.has_reservations = config->has_reservations,
		.quiesce_time_ns = config->quiesce_time_ns,
		.now_ns = now_ns,
		.power = config->power ? config->power->nodes : NULL,
		.epoch = ownership->view.epoch,
		.owner = ownership->view.owner,
		.is_in_force = ownership->view.is_in_force,
		.drained = ownership->drained,
		.settled = ownership->settled,
		.served_by = ownership->served_by,
		.served_as = ownership->served_as,
		.phase = ownership->phase,
		.claimed = ownership->claimed,
		.is_synced = ownership->is_synced,
		.wants_pool = ownership->wants_pool,
		.is_take = ownership->is_take,
		.was_owner = ownership->was_owner,
		.is_forced = ownership->is_forced,
		.answered_for = &ownership->answered_for,
		.is_by_lun = ownership->is_by_lun,
		.is_sole = ownership->is_sole,
		.is_fenced = ownership->is_fenced,
		.claim_is_over = now_ns >= ownership->claim_deadline_ns,
		.drain_is_over = now_ns >= ownership->drain_deadline_ns,
		.victim = fencing->is_running ? fencing->victim : (struct ferry_node){0},
		.keeps_pool = fencing->keeps_pool,
	};
}

void ferry_ownership_view_publish(struct ferry_ownership *ownership)
{
	struct ferry_situation situation = ferry_ownership_situation(ownership);

	ownership->view.members = ownership->members;
	ferry_ownership_restarts_ask(ownership);
	ferry_decide_rights(&situation, &ownership->view);
	ownership->config.set_view(&ownership->view, ownership->config.context);
}

bool ferry_ownership_lun_is_agreed(const struct ferry_ownership *ownership)
{
	struct ferry_situation situation = ferry_ownership_situation(ownership);

	return ferry_decide_lun_is_agreed(&situation);
}

void ferry_ownership_health(struct ferry_ownership *ownership, bool has_path)
{
	ferry_assert(ownership);
	if (ownership->has_path == has_path)
		return;
	ownership->has_path = has_path;
	ownership->state_is_due = true;
	ferry_ownership_messages_flush(ownership);
}

bool ferry_ownership_is_served_elsewhere(const struct ferry_ownership *ownership)
{
	struct ferry_situation situation = ferry_ownership_situation(ownership);

	return ferry_decide_is_served_elsewhere(&situation);
}

void ferry_ownership_acquire(struct ferry_ownership *ownership, bool is_take)
{
	ferry_assert(ownership);
	ownership->wants_pool = true;
	ownership->is_take |= is_take;
	ownership->was_owner = false;
	if (ownership->fencing.is_running && ownership->phase != FERRY_OWNERSHIP_RELEASING)
		ownership->fencing.keeps_pool = true; /* Then it serves at the end of that. */
	if (ownership->phase == FERRY_OWNERSHIP_OWNING) {
		ferry_ownership_wish_over(ownership, 0, "the pool is owned already");
		return;
	}
	if (ownership->phase == FERRY_OWNERSHIP_IDLE)
		ownership->phase = FERRY_OWNERSHIP_SYNCING;
	ferry_ownership_advance(ownership);
}

int ferry_ownership_force(struct ferry_ownership *ownership, const struct ferry_members *nodes)
{
	ferry_assert(ownership && nodes);
	ferry_assert(nodes->count <= FERRY_NODES_MAX);
	if (ownership->phase != FERRY_OWNERSHIP_IDLE && ownership->phase != FERRY_OWNERSHIP_OWNING)
		return -EBUSY;
	ownership->is_forced = true;
	ownership->answered_for = *nodes;
	ferry_ownership_word_narrow(ownership);
	ferry_ownership_acquire(ownership, /* is_take= */ true);
	return 0;
}

int ferry_ownership_open(struct ferry_ownership *ownership,
			 const struct ferry_ownership_config *config, struct ferry_error *reterr)
{
	int r;

	ferry_assert(config->loop && config->group && config->store);
	ferry_assert(config->set_view && config->take && config->peer_has_path && config->on_wish);
	ferry_assert(config->incarnation.v > 0);
	*ownership = (struct ferry_ownership){
		.config = *config,
		.phase = FERRY_OWNERSHIP_IDLE,
		.pool = ferry_hash128(config->pool, strlen(config->pool)),
		.view = {.lineage = config->lineage},
		.timer = {.run = ferry_ownership_timer_ran},
		.resend_timer = {.run = ferry_ownership_resend_ran},
		.quiesce_timer = {.run = ferry_ownership_quiesce_ran},
		.fencing = {.timer = {.run = ferry_ownership_fence_timer_ran}},
	};
	r = ferry_ownership_epoch_load(ownership, reterr);
	if (r < 0)
		return r;
	ferry_ownership_view_publish(ownership);
	return 0;
}

void ferry_ownership_done(struct ferry_ownership *ownership)
{
	ferry_assert(ownership);
	ferry_timer_stop(ownership->config.loop, &ownership->timer);
	ferry_timer_stop(ownership->config.loop, &ownership->resend_timer);
	ferry_timer_stop(ownership->config.loop, &ownership->quiesce_timer);
	ferry_timer_stop(ownership->config.loop, &ownership->fencing.timer);
}
