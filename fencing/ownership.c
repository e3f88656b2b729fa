#include "fencing/ownership.h"

#include <stdio.h>

#include "agent/base/checksum.h"
#include "agent/base/museum.h"
#include "proto/cursor.h"

#define RESEND_NS (20 * FERRY_NS_PER_MS)
#define CLAIM_TIMEOUT_NS (500 * FERRY_NS_PER_MS)
/* After the drain timeout: what a preemption, and a reset that waits, may take. */
#define FENCE_TIMEOUT_NS (20 * FERRY_NS_PER_S)
enum { STORED_BYTES = 16 + 8 + 4 };

static void emit(struct ferry_ownership *ownership, enum ferry_event_kind kind,
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

static struct ferry_node self_of(const struct ferry_ownership *ownership)
{
	return ownership->config.group->self;
}

/* What decide.h may know. */
static struct ferry_situation situation_of(const struct ferry_ownership *ownership)
{
	const struct ferry_ownership_config *config = &ownership->config;
	const struct ferry_ownership_fencing *fencing = &ownership->fencing;
	uint64_t now_ns = ferry_loop_now_ns(config->loop);

	return (struct ferry_situation){
		.self = config->group->self,
		.nodes_expected = config->group->nodes_expected,
		.is_quorate = config->group->is_quorate,
		.ring = config->group->ring,
		.members = &ownership->members,
		.known = ownership->known,
		.seen = ownership->seen,
		.lineage = config->lineage,
		.lun = config->lun,
		.has_reservations = config->has_reservations,
		.epoch = ownership->view.epoch,
		.owner = ownership->view.owner,
		.is_in_force = ownership->view.is_in_force,
		.drained = ownership->drained,
		.phase = ownership->phase,
		.claimed = ownership->claimed,
		.is_synced = ownership->is_synced,
		.wants_pool = ownership->wants_pool,
		.was_owner = ownership->was_owner,
		.is_forced = ownership->is_forced,
		.is_by_lun = ownership->is_by_lun,
		.is_sole = ownership->is_sole,
		.is_fenced = ownership->is_fenced,
		.claim_is_over = now_ns >= ownership->claim_deadline_ns,
		.drain_is_over = now_ns >= ownership->drain_deadline_ns,
		.victim = fencing->is_running ? fencing->victim : (struct ferry_node){0},
		.keeps_pool = fencing->keeps_pool,
	};
}

/* ---- Stable storage: an epoch is on the disk before it is acknowledged (rule 12). ---- */

static void store_key(const struct ferry_ownership *ownership, char ret[64])
{
	(void)snprintf(ret, 64, "pool.%s.epoch", ownership->config.pool);
}

/* @owner: this node, while it owns the pool under @epoch; else nobody. */
static int epoch_save(struct ferry_ownership *ownership, struct ferry_epoch epoch,
		      struct ferry_node owner)
{
	uint8_t bytes[STORED_BYTES];
	struct ferry_writer writer = ferry_writer_make(bytes, sizeof(bytes));
	struct ferry_store *store = ownership->config.store;
	char key[64];

	store_key(ownership, key);
	ferry_writer_bytes(&writer, ownership->config.lineage.bytes, 16);
	ferry_writer_u64(&writer, epoch.v);
	ferry_writer_u32(&writer, owner.v);
	return store->ops->save(store, key, bytes, sizeof(bytes));
}

static int epoch_load(struct ferry_ownership *ownership, struct ferry_error *reterr)
{
	uint8_t bytes[FERRY_STORE_VALUE_BYTES_MAX];
	struct ferry_store *store = ownership->config.store;
	struct ferry_reader reader;
	struct ferry_uuid lineage;
	char key[64];
	int r;

	store_key(ownership, key);
	r = store->ops->load(store, key, bytes, sizeof(bytes));
	if (r == -ENOENT)
		return 0; /* This node has never heard of the pool. */
	if (r < 0 || r != STORED_BYTES)
		return ferry_error_set(reterr, r < 0 ? r : -EBADMSG,
				       "pool %s: the stored epoch cannot be read or is damaged; "
				       "this node must not vote: restore the state directory from "
				       "a backup, or remove the file to join as a new node",
				       ownership->config.pool);
	reader = ferry_reader_make(bytes, (size_t)r);
	ferry_reader_bytes(&reader, lineage.bytes, 16);
	if (!ferry_uuid_equal(&lineage, &ownership->config.lineage))
		return ferry_error_set(reterr, -EBADMSG,
				       "pool %s: the stored epoch is another lineage's",
				       ownership->config.pool);
	ownership->view.epoch.v = ferry_reader_u64(&reader);
	/* Nobody owns it now: this agent has just started. It may ask for what was this node's. */
	ownership->was_owner = ferry_reader_u32(&reader) == self_of(ownership).v;
	return 0;
}

/* ---- The view. ---- */

static bool is_drained_here(const struct ferry_ownership *ownership)
{
	return ownership->drained.v == ownership->view.epoch.v;
}

bool ferry_ownership_lun_is_agreed(const struct ferry_ownership *ownership)
{
	struct ferry_situation situation = situation_of(ownership);

	return ferry_decide_lun_is_agreed(&situation);
}

static void view_publish(struct ferry_ownership *ownership)
{
	struct ferry_situation situation = situation_of(ownership);

	ownership->view.members = ownership->members;
	ferry_decide_rights(&situation, &ownership->view);
	ownership->config.set_view(&ownership->view, ownership->config.context);
}

/* ---- Messages out. ---- */

static struct ferry_ownership_seen *seen_find(struct ferry_ownership *ownership,
					      struct ferry_node node)
{
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
		if (node.v != 0 && ownership->seen[i].node.v == node.v)
			return &ownership->seen[i];
	return NULL;
}

/* Which agent of the victim's node a FENCED speaks of: its successors are not meant. */
static struct ferry_incarnation victim_incarnation(struct ferry_ownership *ownership,
						   enum ferry_group_type type)
{
	const struct ferry_ownership_seen *seen = NULL;

	if (type == FERRY_GROUP_FENCED)
		seen = seen_find(ownership, ownership->fencing.told);
	return seen ? seen->fenced : (struct ferry_incarnation){0};
}

static bool message_send(struct ferry_ownership *ownership, enum ferry_group_type type,
			 struct ferry_epoch epoch, uint32_t flags)
{
	const struct ferry_ownership_config *config = &ownership->config;
	struct ferry_group_message message = {
		.type = type,
		.flags = flags,
		.pool = ownership->pool,
		.lineage = config->lineage,
		.lun = config->lun,
		.epoch = epoch,
		.owner = type == FERRY_GROUP_CLAIM	? self_of(ownership)
			 : type == FERRY_GROUP_HANDOVER ? ownership->next_owner
							: ownership->view.owner,
		.ring = config->group->ring,
		.incarnation = config->incarnation,
		.victim = type == FERRY_GROUP_FENCE    ? ownership->fencing.victim
			  : type == FERRY_GROUP_FENCED ? ownership->fencing.told
						       : (struct ferry_node){0},
		.victim_incarnation = victim_incarnation(ownership, type),
	};
	uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES];

	ferry_group_message_encode(&message, bytes);
	return config->group->ops->multicast(config->group, bytes, sizeof(bytes)) == 0;
}

/* The newest question has been sent in this ring already, and its answers count. */
static bool is_word_under_way(const struct ferry_ownership *ownership)
{
	return ownership->word_sent == ownership->word_asked &&
	       ownership->word_ring == ownership->config.group->ring;
}

/* A question is asked once in each ring: were it in every STATE, askers would set each other off.
 */
static uint32_t state_flags(const struct ferry_ownership *ownership)
{
	return (is_drained_here(ownership) ? FERRY_GROUP_DRAINED : 0) |
	       (ownership->view.is_in_force ? FERRY_GROUP_IS_IN_FORCE : 0) |
	       (ownership->has_path ? FERRY_GROUP_HAS_PATH : 0) |
	       (ownership->view.word != ownership->word_asked && !is_word_under_way(ownership)
			? FERRY_GROUP_ASKS
			: 0);
}

/*
 * Whoever was away when it was fenced hears of it before the majority has spoken to it, so that it
 * does not register by what it believed before.
 */
static bool reminders_send(struct ferry_ownership *ownership)
{
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++) {
		const struct ferry_ownership_seen *seen = &ownership->seen[i];

		if (seen->fenced.v == 0 || seen->fenced.v < seen->incarnation.v)
			continue;
		ownership->fencing.told = seen->node;
		if (!message_send(ownership, FERRY_GROUP_FENCED, ownership->view.epoch,
				  FERRY_GROUP_REMINDS))
			return false;
	}
	return true;
}

/* Send what is due; what is refused for now is sent a little later. */
static void messages_flush(struct ferry_ownership *ownership)
{
	struct ferry_ownership_fencing *fencing = &ownership->fencing;
	struct ferry_epoch epoch = ownership->view.epoch;
	enum ferry_group_type release_type =
		ownership->next_owner.v ? FERRY_GROUP_HANDOVER : FERRY_GROUP_RELEASE;

	if (fencing->reminders_are_due)
		fencing->reminders_are_due = !reminders_send(ownership);
	if (ownership->state_is_due && !fencing->reminders_are_due &&
	    message_send(ownership, FERRY_GROUP_STATE, epoch, state_flags(ownership))) {
		ownership->state_is_due = false;
		ownership->states_sent++;
		if (ownership->view.word != ownership->word_asked &&
		    !is_word_under_way(ownership)) {
			ownership->word_sent = ownership->word_asked;
			ownership->word_state = ownership->states_sent;
			ownership->word_ring = ownership->config.group->ring;
			ownership->is_word_heard = false;
		}
	}
	if (ownership->ack_is_due)
		ownership->ack_is_due = !message_send(ownership, FERRY_GROUP_ACK, epoch,
						      state_flags(ownership) & FERRY_GROUP_DRAINED);
	if (ownership->claim_is_due)
		ownership->claim_is_due =
			!message_send(ownership, FERRY_GROUP_CLAIM, ownership->claimed, 0);
	if (ownership->in_force_is_due)
		ownership->in_force_is_due =
			!message_send(ownership, FERRY_GROUP_IN_FORCE, epoch, 0);
	if (ownership->release_is_due)
		ownership->release_is_due = !message_send(ownership, release_type, epoch, 0);
	if (fencing->ask_is_due)
		fencing->ask_is_due = !message_send(ownership, FERRY_GROUP_FENCE, epoch, 0);
	if (fencing->answer_is_due) {
		fencing->told = fencing->answered;
		fencing->answer_is_due = !message_send(ownership, FERRY_GROUP_FENCED, epoch,
						       fencing->is_proven ? FERRY_GROUP_PROVEN : 0);
	}
	if (ownership->state_is_due || ownership->ack_is_due || ownership->claim_is_due ||
	    ownership->in_force_is_due || ownership->release_is_due || fencing->ask_is_due ||
	    fencing->answer_is_due || fencing->reminders_are_due)
		ferry_timer_start_in(ownership->config.loop, &ownership->timer, RESEND_NS);
}

/* ---- What is known of members. ---- */

static struct ferry_ownership_member *member_find(struct ferry_ownership *ownership,
						  struct ferry_node node)
{
	for (uint32_t i = 0; i < ownership->members.count; i++)
		if (ownership->members.nodes[i].v == node.v)
			return &ownership->known[i];
	return NULL;
}

/* Remember the newest incarnation of each node that has ever spoken. */
static void seen_note(struct ferry_ownership *ownership, struct ferry_node node,
		      struct ferry_incarnation incarnation)
{
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++) {
		struct ferry_ownership_seen *seen = &ownership->seen[i];

		if (seen->node.v != 0 && seen->node.v != node.v)
			continue;
		seen->node = node;
		seen->incarnation.v = ferry_max_u64(seen->incarnation.v, incarnation.v);
		return;
	}
}

/* ---- This node's own part: what decide.h says is next, done. ---- */

/* Fencing a node is over here: everybody hears of it, who asked as well. */
static void fence_finish(struct ferry_ownership *ownership)
{
	struct ferry_ownership_fencing *fencing = &ownership->fencing;
	bool is_proven = fencing->is_proven;

	ferry_assert(fencing->is_running);
	fencing->is_running = false;
	fencing->answered = fencing->victim;
	fencing->answer_is_due = true;
	if (!fencing->is_asked_here)
		fencing->victim.v = 0;
	emit(ownership, FERRY_EVENT_FENCED,
	     is_proven ? FERRY_SEVERITY_NOTICE : FERRY_SEVERITY_ERROR,
	     is_proven ? "a node is fenced from the pool"
		       : "a node could not be fenced from the pool");
	messages_flush(ownership);
}

static void wish_over(struct ferry_ownership *ownership, int error, const char *why)
{
	bool was_fencing = ownership->fencing.is_running;

	ownership->is_forced = false;
	if (error < 0) {
		ownership->wants_pool = false;
		ownership->phase = FERRY_OWNERSHIP_IDLE;
	}
	if (was_fencing)
		fence_finish(ownership);
	if (was_fencing && !ownership->fencing.keeps_pool)
		return; /* Nobody here has wished for the pool. */
	emit(ownership, FERRY_EVENT_EPOCH, error < 0 ? FERRY_SEVERITY_ERROR : FERRY_SEVERITY_NOTICE,
	     why);
	ownership->config.on_wish(error, why, ownership->config.context);
}

static void claim_make(struct ferry_ownership *ownership, struct ferry_epoch epoch)
{
	struct ferry_loop *loop = ownership->config.loop;

	ferry_assert(epoch.v > ownership->view.epoch.v);
	ownership->claimed = epoch;
	ownership->phase = FERRY_OWNERSHIP_CLAIMING;
	ownership->is_by_lun = false;
	ownership->in_force_is_due = false;
	ownership->claim_is_due = true;
	ownership->claim_deadline_ns = ferry_loop_now_ns(loop) + CLAIM_TIMEOUT_NS;
	ferry_timer_start(loop, &ownership->timer, ownership->claim_deadline_ns);
	emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_INFO, "claiming the pool");
	messages_flush(ownership);
}

static void drain_begin(struct ferry_ownership *ownership, bool is_by_lun)
{
	struct ferry_loop *loop = ownership->config.loop;

	ownership->phase = FERRY_OWNERSHIP_DRAINING;
	ownership->is_by_lun = is_by_lun;
	ownership->drain_deadline_ns = ferry_loop_now_ns(loop) + ownership->config.drain_timeout_ns;
	ferry_timer_start(loop, &ownership->timer, ownership->drain_deadline_ns);
}

static void take_begin(struct ferry_ownership *ownership, const struct ferry_decision *decision)
{
	if (decision->why)
		emit(ownership, FERRY_EVENT_ADMIN, FERRY_SEVERITY_WARNING, decision->why);
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
		ownership->seen[i].taking = ownership->seen[i].incarnation;
	ownership->phase = FERRY_OWNERSHIP_TAKING;
	emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_INFO, "taking the lun");
	ownership->config.take(&decision->keys, ownership->config.context);
}

/* True: something has changed, look again. */
static bool step(struct ferry_ownership *ownership, const struct ferry_decision *decision)
{
	switch (decision->kind) {
	case FERRY_DECISION_RECLAIM:
		ownership->was_owner = false;
		ownership->wants_pool = true;
		ownership->phase = FERRY_OWNERSHIP_SYNCING;
		emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_NOTICE,
		     "this node owned the pool when its agent ended: claiming it again");
		return true;
	case FERRY_DECISION_CLAIM:
		claim_make(ownership, decision->epoch);
		return false;
	case FERRY_DECISION_WAIT_DRAIN:
		if (ownership->phase == FERRY_OWNERSHIP_DRAINING)
			return false;
		drain_begin(ownership, decision->is_by_lun);
		return true;
	case FERRY_DECISION_TAKE:
		take_begin(ownership, decision);
		return false;
	case FERRY_DECISION_REFUSE:
		wish_over(ownership, decision->error, decision->why);
		return false;
	case FERRY_DECISION_REST:
	case FERRY_DECISION_HOLD:
	case FERRY_DECISION_SYNC:
	case FERRY_DECISION_WAIT_ACKS:
	case FERRY_DECISION_IN_FORCE:
	case FERRY_DECISION_LET_GO:
	default:
		return false;
	}
}

static void advance(struct ferry_ownership *ownership)
{
	struct ferry_situation situation;
	struct ferry_decision decision;

	do { /* Each round is one phase further: bounded. */
		if (ownership->phase == FERRY_OWNERSHIP_TAKING)
			return; /* ferry_ownership_taken() */
		situation = situation_of(ownership);
		ferry_decide_next(&situation, &decision);
	} while (step(ownership, &decision));
}

/* Start over: the claim was overtaken, or the ring it was made in is gone. */
static void claim_again(struct ferry_ownership *ownership)
{
	ownership->claim_is_due = false;
	ownership->in_force_is_due = false;
	ownership->phase = FERRY_OWNERSHIP_SYNCING;
	advance(ownership);
}

static void timer_ran(struct ferry_timer *timer)
{
	struct ferry_ownership *ownership =
		FERRY_CONTAINER_OF(timer, struct ferry_ownership, timer);

	messages_flush(ownership);
	advance(ownership);
	if (ferry_timer_is_started(timer))
		return;
	if (ownership->phase == FERRY_OWNERSHIP_DRAINING)
		ferry_timer_start(ownership->config.loop, timer, ownership->drain_deadline_ns);
	else if (ownership->phase == FERRY_OWNERSHIP_CLAIMING)
		ferry_timer_start(ownership->config.loop, timer, ownership->claim_deadline_ns);
}

/* ---- Installing an epoch that somebody claims, or that others already have. ---- */

/* True if it is on the disk and in the view. */
static bool epoch_install(struct ferry_ownership *ownership, struct ferry_epoch epoch,
			  struct ferry_node owner, bool is_in_force)
{
	int r;

	ferry_assert(epoch.v >= ownership->view.epoch.v);
	ownership->was_owner = false;
	r = FERRY_MUSEUM(ACK_UNSAVED) ? 0 : epoch_save(ownership, epoch, (struct ferry_node){0});
	if (r < 0) {
		ownership->store_failed = true;
		emit(ownership, FERRY_EVENT_ADMIN, FERRY_SEVERITY_ERROR,
		     "an epoch could not be saved: this node acknowledges nothing");
		/* But it has heard of it: nobody owns by the older one any more, here too. */
		ownership->view.owner.v = 0;
		ownership->view.is_in_force = false;
		view_publish(ownership);
		return false;
	}
	ownership->store_failed = false;
	ownership->view.epoch = epoch;
	ownership->view.owner = owner;
	ownership->view.is_in_force = is_in_force;
	return true;
}

/* Whether its next agent is to ask for the pool again. Not knowing it costs no more than asking. */
static void owner_save(struct ferry_ownership *ownership, struct ferry_node owner)
{
	if (epoch_save(ownership, ownership->view.epoch, owner) < 0)
		emit(ownership, FERRY_EVENT_ADMIN, FERRY_SEVERITY_WARNING,
		     "who owns the pool could not be saved: going on");
}

/* This node's own part ends: another has the pool. */
static void deposed(struct ferry_ownership *ownership, const char *why)
{
	bool was_wanted = ownership->wants_pool;

	if (ownership->phase == FERRY_OWNERSHIP_IDLE)
		return;
	ownership->wants_pool = false;
	ownership->phase = FERRY_OWNERSHIP_IDLE;
	ownership->claim_is_due = false;
	ownership->in_force_is_due = false;
	ownership->release_is_due = false;
	if (was_wanted)
		wish_over(ownership, -ESTALE, why);
}

/* Others have it already, and say whose it is. */
static void learn(struct ferry_ownership *ownership, const struct ferry_group_message *message,
		  bool is_own_past)
{
	struct ferry_node owner = is_own_past ? (struct ferry_node){0} : message->owner;
	bool is_in_force = message->flags & FERRY_GROUP_IS_IN_FORCE && !is_own_past;

	if (!epoch_install(ownership, message->epoch, owner, is_in_force))
		return;
	emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_NOTICE, "learnt a newer epoch");
	ownership->state_is_due = true;
	view_publish(ownership);
	/* What is under way for a lower one will not be answered any more. */
	if (is_own_past && ownership->phase != FERRY_OWNERSHIP_IDLE &&
	    ownership->phase != FERRY_OWNERSHIP_RELEASING)
		claim_again(ownership);
}

/* It is claimed: to the disk, to the data thread, then acknowledged. */
static void install(struct ferry_ownership *ownership, struct ferry_node from,
		    const struct ferry_group_message *message)
{
	bool is_in_force = message->type == FERRY_GROUP_IN_FORCE;

	if (!epoch_install(ownership, message->epoch, from, is_in_force)) {
		if (from.v == self_of(ownership).v)
			wish_over(ownership, -EIO, "the epoch could not be saved");
		return;
	}
	emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_NOTICE, "a new epoch is installed");
	ownership->ack_is_due = true;
	view_publish(ownership);
	messages_flush(ownership);
}

static void follow(struct ferry_ownership *ownership, struct ferry_node owner)
{
	ownership->view.owner = owner;
	ownership->view.is_in_force = true;
	view_publish(ownership);
}

static void nobodys(struct ferry_ownership *ownership, struct ferry_node from,
		    const struct ferry_group_message *message)
{
	bool is_own = from.v == self_of(ownership).v;

	ownership->view.owner.v = 0;
	ownership->view.is_in_force = false;
	ownership->released = message->epoch;
	view_publish(ownership);
	if (is_own)
		owner_save(ownership, (struct ferry_node){0});
	if (is_own && ownership->phase == FERRY_OWNERSHIP_RELEASING) {
		ownership->phase = FERRY_OWNERSHIP_IDLE;
		wish_over(ownership, 0, "the pool is released");
	}
	if (message->type == FERRY_GROUP_HANDOVER && message->owner.v == self_of(ownership).v) {
		emit(ownership, FERRY_EVENT_HANDOVER, FERRY_SEVERITY_NOTICE,
		     "the owner hands the pool over to this node");
		ferry_ownership_acquire(ownership);
	}
}

/* ---- Fencing a node from the pool. ---- */

static void fence_over(struct ferry_ownership *ownership, int error, const char *why)
{
	struct ferry_ownership_fencing *fencing = &ownership->fencing;
	struct ferry_node victim = fencing->victim;

	ferry_assert(fencing->is_asked_here);
	ferry_timer_stop(ownership->config.loop, &fencing->timer);
	fencing->is_asked_here = false;
	fencing->ask_is_due = false;
	if (!fencing->is_running)
		fencing->victim.v = 0;
	ownership->config.on_fenced(victim, error, why, ownership->config.context);
}

static void fence_timer_ran(struct ferry_timer *timer)
{
	struct ferry_ownership *ownership =
		FERRY_CONTAINER_OF(timer, struct ferry_ownership, fencing.timer);

	fence_over(ownership, -ETIMEDOUT,
		   "whoever was to fence the node has not verified it in time");
}

/* From here on that agent, and what was before it on its node, may not register. */
static void victim_note(struct ferry_ownership *ownership, struct ferry_node victim,
			struct ferry_incarnation incarnation)
{
	struct ferry_ownership_seen *seen = seen_find(ownership, victim);

	if (seen)
		seen->fenced.v = ferry_max_u64(seen->fenced.v, incarnation.v);
	if (victim.v != self_of(ownership).v || incarnation.v < ownership->config.incarnation.v ||
	    ownership->is_fenced)
		return;
	ownership->is_fenced = true;
	emit(ownership, FERRY_EVENT_FENCED, FERRY_SEVERITY_ERROR,
	     "this node is fenced from the pool until its agent is started anew");
	if (ownership->phase != FERRY_OWNERSHIP_OWNING)
		deposed(ownership, "this node is fenced from the pool");
	view_publish(ownership);
}

static void fence_begin(struct ferry_ownership *ownership, struct ferry_node victim)
{
	struct ferry_ownership_fencing *fencing = &ownership->fencing;

	if (fencing->victim.v != 0 && fencing->victim.v != victim.v)
		return; /* This node has asked for another itself: one at a time. */
	fencing->victim = victim;
	fencing->is_running = true;
	fencing->is_proven = false;
	fencing->keeps_pool = ownership->wants_pool;
	ownership->wants_pool = true;
	claim_again(ownership);
}

static void fenced_heard(struct ferry_ownership *ownership,
			 const struct ferry_group_message *message)
{
	const struct ferry_ownership_fencing *fencing = &ownership->fencing;
	bool is_proven = message->flags & FERRY_GROUP_PROVEN;

	victim_note(ownership, message->victim, message->victim_incarnation);
	if (message->flags & FERRY_GROUP_REMINDS)
		return;
	if (fencing->is_asked_here && fencing->victim.v == message->victim.v)
		fence_over(ownership, is_proven ? 0 : -EIO,
			   is_proven ? "its registrations are gone, what it sent is dead"
				     : "it could not be verified at the lun: see the owner's log");
}

/* ---- Messages in. ---- */

static void sync_check(struct ferry_ownership *ownership)
{
	struct ferry_situation situation = situation_of(ownership);

	struct ferry_view rights = ownership->view;

	ownership->is_synced |= ferry_decide_is_synced(&situation);
	if (!ownership->is_synced)
		return;
	situation.is_synced = true;
	ferry_decide_rights(&situation, &rights);
	if (rights.is_quorate != ownership->view.is_quorate ||
	    rights.may_register != ownership->view.may_register ||
	    rights.may_help != ownership->view.may_help ||
	    rights.only_if_kept != ownership->view.only_if_kept)
		view_publish(ownership);
	advance(ownership);
}

/*
 * This node's own STATE came back, in the order that all see, and a majority has spoken after it:
 * the ring was alive then, and whatever was ordered before has been heard here too. The view is as
 * new as the question (rule 6). Its coming back alone would prove nothing (rule 12).
 */
static void word_note(struct ferry_ownership *ownership, struct ferry_ownership_member *member,
		      const struct ferry_group_message *message)
{
	struct ferry_situation situation = situation_of(ownership);
	bool is_own = member->node.v == self_of(ownership).v;

	ownership->states_seen += is_own;
	if (ownership->view.word == ownership->word_sent || message->ring != situation.ring ||
	    ownership->word_ring != situation.ring || !situation.is_quorate)
		return; /* In each new ring it is asked anew. */
	if (!ownership->is_word_heard && is_own &&
	    ownership->states_seen >= ownership->word_state) {
		ownership->is_word_heard = true;
		for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
			ownership->known[i].has_answered = false;
	}
	if (!ownership->is_word_heard)
		return;
	member->has_answered = true;
	if (!ferry_decide_is_answered(&situation))
		return;
	ownership->view.word = ownership->word_sent;
	view_publish(ownership);
}

/* What a STATE says of its sender. */
static void state_note(struct ferry_ownership *ownership, struct ferry_ownership_member *member,
		       const struct ferry_group_message *message)
{
	bool is_same_lun = ferry_uuid_equal(&message->lun, &ownership->config.lun);
	bool has_path = (message->flags & FERRY_GROUP_HAS_PATH) && is_same_lun;
	bool is_other = member->node.v != self_of(ownership).v;

	if (!is_same_lun && !ferry_uuid_equal(&member->lun, &message->lun))
		emit(ownership, FERRY_EVENT_ADMIN, FERRY_SEVERITY_ERROR,
		     "a member sees another lun (identity, size or block size) under this pool's "
		     "name: it will not be used");
	member->lun = message->lun;
	member->epoch = message->epoch;
	if (message->flags & FERRY_GROUP_DRAINED)
		member->drained = message->epoch;
	if (member->has_path != has_path || member->incarnation.v == 0) {
		member->has_path = has_path;
		ownership->config.peer_has_path(member->node, has_path, ownership->config.context);
	}
	/* Whoever speaks for the first time in this ring may not have heard this node's words. */
	if (is_other &&
	    (member->state_ring != message->ring ||
	     member->incarnation.v != message->incarnation.v || message->flags & FERRY_GROUP_ASKS))
		ownership->state_is_due = true;
	member->incarnation = message->incarnation;
	member->state_ring = message->ring;
}

static void ack_note(struct ferry_ownership *ownership, struct ferry_ownership_member *member,
		     const struct ferry_group_message *message)
{
	member->ack_ring = message->ring;
	member->acked = message->epoch;
	member->acked_for = message->owner;
	member->epoch = message->epoch;
	member->incarnation = message->incarnation;
	if (message->flags & FERRY_GROUP_DRAINED)
		member->drained = message->epoch;
	advance(ownership);
}

static void note(struct ferry_ownership *ownership, const struct ferry_group_message *message)
{
	const struct ferry_ownership_seen *victim = seen_find(ownership, message->victim);

	if (message->type == FERRY_GROUP_FENCE && victim)
		victim_note(ownership, message->victim, victim->incarnation);
	else if (message->type == FERRY_GROUP_FENCED)
		fenced_heard(ownership, message);
}

static void react(struct ferry_ownership *ownership, struct ferry_node from,
		  const struct ferry_group_message *message, const struct ferry_reaction *reaction)
{
	if (reaction->deposes)
		deposed(ownership, "another node has the pool");
	switch (reaction->kind) {
	case FERRY_REACTION_INSTALL:
		install(ownership, from, message);
		break;
	case FERRY_REACTION_LEARN:
		learn(ownership, message, reaction->is_own_past);
		break;
	case FERRY_REACTION_FOLLOW:
		follow(ownership, message->type == FERRY_GROUP_STATE ? message->owner : from);
		break;
	case FERRY_REACTION_CLAIM_AGAIN:
	case FERRY_REACTION_CLAIM_ABOVE:
		claim_again(ownership);
		break;
	case FERRY_REACTION_NOBODYS:
		nobodys(ownership, from, message);
		break;
	case FERRY_REACTION_FENCE:
		note(ownership, message);
		fence_begin(ownership, message->victim);
		break;
	case FERRY_REACTION_NOTE:
		note(ownership, message);
		break;
	case FERRY_REACTION_IGNORE:
	default:
		break;
	}
}

void ferry_ownership_message(struct ferry_ownership *ownership, struct ferry_node from,
			     const struct ferry_group_message *message)
{
	struct ferry_ownership_member *member = member_find(ownership, from);
	struct ferry_situation situation;
	struct ferry_reaction reaction;

	ferry_assert(ownership && message);
	FERRY_ASSERT_ON_LOOP(ownership->config.loop);
	if (!member || !ferry_uuid_equal(&message->pool, &ownership->pool))
		return;
	if (!ferry_uuid_equal(&message->lineage, &ownership->config.lineage)) {
		emit(ownership, FERRY_EVENT_REFUSED, FERRY_SEVERITY_ERROR,
		     "a member has another lineage under this pool's name: not listening to it");
		return;
	}
	seen_note(ownership, from, message->incarnation);
	situation = situation_of(ownership);
	reaction = ferry_decide_message(&situation, from, message);
	if (message->type == FERRY_GROUP_STATE)
		state_note(ownership, member, message);
	react(ownership, from, message, &reaction);
	if (message->type == FERRY_GROUP_STATE) {
		sync_check(ownership);
		word_note(ownership, member, message);
		messages_flush(ownership);
	} else if (message->type == FERRY_GROUP_ACK && reaction.kind == FERRY_REACTION_NOTE) {
		ack_note(ownership, member, message);
	}
}

/* ---- Membership and quorum. ---- */

/*
 * In a new ring everybody speaks anew before anybody believes anything. What others have said in it
 * already, before this node heard of the ring itself, counts.
 */
static void resync(struct ferry_ownership *ownership)
{
	struct ferry_situation situation = situation_of(ownership);
	bool is_alone = ferry_decide_is_alone(&situation);

	ownership->is_synced = false;
	ownership->fencing.reminders_are_due = true;
	ownership->state_is_due = true;
	ownership->is_sole &= is_alone;
	/* The other may be taking the lun at this moment: nothing is served before it has spoken.
	 */
	if (is_alone && !ownership->is_sole && ownership->config.has_reservations)
		ownership->view.is_in_force = false;
	if (ownership->phase == FERRY_OWNERSHIP_CLAIMING ||
	    ownership->phase == FERRY_OWNERSHIP_DRAINING)
		claim_again(ownership);
	view_publish(ownership);
	sync_check(ownership);
	messages_flush(ownership);
}

void ferry_ownership_members(struct ferry_ownership *ownership, const struct ferry_members *members)
{
	struct ferry_ownership_member known[FERRY_NODES_MAX] = {0};

	ferry_assert(ownership && members);
	ferry_assert(members->count <= FERRY_NODES_MAX);
	for (uint32_t i = 0; i < members->count; i++) {
		const struct ferry_ownership_member *old =
			member_find(ownership, members->nodes[i]);

		if (old)
			known[i] = *old;
		known[i].node = members->nodes[i];
	}
	ownership->members = *members;
	memcpy(ownership->known, known, sizeof(known));
	resync(ownership);
}

void ferry_ownership_quorum(struct ferry_ownership *ownership)
{
	ferry_assert(ownership);
	resync(ownership);
}

/* ---- News from the data thread. ---- */

void ferry_ownership_drained(struct ferry_ownership *ownership, struct ferry_epoch epoch)
{
	ferry_assert(ownership);
	if (epoch.v != ownership->view.epoch.v || is_drained_here(ownership))
		return;
	ownership->drained = epoch;
	ownership->ack_is_due = true;
	view_publish(ownership);
	messages_flush(ownership);
}

/* The epoch was taken to fence a node: it is there, and nobody serves before it is acquired. */
static void let_go(struct ferry_ownership *ownership)
{
	ownership->wants_pool = false;
	ownership->next_owner.v = 0;
	ownership->phase = FERRY_OWNERSHIP_RELEASING;
	ownership->release_is_due = true;
	messages_flush(ownership);
}

static void serve(struct ferry_ownership *ownership)
{
	owner_save(ownership, self_of(ownership));
	ownership->phase = FERRY_OWNERSHIP_OWNING;
	ownership->view.is_in_force = true;
	ownership->in_force_is_due = true;
	view_publish(ownership);
	messages_flush(ownership);
	wish_over(ownership, 0, "the pool is owned, its epoch in force");
}

static void take_failed(struct ferry_ownership *ownership, int error)
{
	if (error == -EACCES) {
		ownership->view.owner.v = 0; /* This node is out: it waits for nothing. */
		view_publish(ownership);
	}
	wish_over(ownership, error,
		  error == -EPERM ? "foreign registrations are on the lun"
		  : error == -EACCES
			  ? "the other node has taken the lun, or may have: it has to be "
			    "heard first"
			  : "the lun could not be taken");
}

void ferry_ownership_taken(struct ferry_ownership *ownership, struct ferry_epoch epoch, int error)
{
	struct ferry_situation situation;
	struct ferry_decision decision;

	ferry_assert(ownership);
	if (ownership->phase != FERRY_OWNERSHIP_TAKING || epoch.v != ownership->claimed.v)
		return; /* Overtaken meanwhile, if only by a claim of its own. */
	if (error < 0) {
		take_failed(ownership, error);
		return;
	}
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
		ownership->seen[i].laid = ownership->seen[i].taking;
	situation = situation_of(ownership);
	ferry_decide_next(&situation, &decision);
	ownership->fencing.is_proven |=
		ownership->fencing.is_running && (decision.kind == FERRY_DECISION_IN_FORCE ||
						  decision.kind == FERRY_DECISION_LET_GO);
	ownership->is_sole =
		decision.kind == FERRY_DECISION_IN_FORCE && ferry_decide_is_alone(&situation);
	if (decision.kind == FERRY_DECISION_IN_FORCE)
		serve(ownership);
	else if (decision.kind == FERRY_DECISION_LET_GO)
		let_go(ownership);
	else
		claim_again(ownership);
}

void ferry_ownership_health(struct ferry_ownership *ownership, bool has_path)
{
	ferry_assert(ownership);
	if (ownership->has_path == has_path)
		return;
	ownership->has_path = has_path;
	ownership->state_is_due = true;
	messages_flush(ownership);
}

void ferry_ownership_preempted(struct ferry_ownership *ownership)
{
	ferry_assert(ownership);
	if (ownership->phase == FERRY_OWNERSHIP_OWNING)
		claim_again(ownership);
}

void ferry_ownership_ask(struct ferry_ownership *ownership, uint64_t word)
{
	ferry_assert(ownership);
	ferry_assert(word > ownership->word_asked);
	ownership->word_asked = word;
	ownership->state_is_due = true;
	messages_flush(ownership);
}

/* ---- Wishes. ---- */

void ferry_ownership_acquire(struct ferry_ownership *ownership)
{
	ferry_assert(ownership);
	ownership->wants_pool = true;
	ownership->was_owner = false;
	if (ownership->phase == FERRY_OWNERSHIP_OWNING) {
		wish_over(ownership, 0, "the pool is owned already");
		return;
	}
	if (ownership->phase == FERRY_OWNERSHIP_IDLE)
		ownership->phase = FERRY_OWNERSHIP_SYNCING;
	advance(ownership);
}

int ferry_ownership_force(struct ferry_ownership *ownership)
{
	ferry_assert(ownership);
	if (ownership->phase != FERRY_OWNERSHIP_IDLE && ownership->phase != FERRY_OWNERSHIP_OWNING)
		return -EBUSY;
	ownership->is_forced = true;
	ferry_ownership_acquire(ownership);
	return 0;
}

int ferry_ownership_fence(struct ferry_ownership *ownership, struct ferry_node victim)
{
	struct ferry_ownership_fencing *fencing = &ownership->fencing;

	ferry_assert(ownership && ownership->config.on_fenced);
	ferry_assert(victim.v > 0);
	if (!ownership->config.has_reservations)
		return -EOPNOTSUPP;
	if (victim.v == self_of(ownership).v)
		return -EINVAL;
	if (!ownership->view.is_quorate)
		return -EAGAIN;
	if (fencing->victim.v != 0)
		return -EBUSY;
	fencing->victim = victim;
	fencing->is_asked_here = true;
	fencing->ask_is_due = true;
	ferry_timer_start_in(ownership->config.loop, &fencing->timer,
			     ownership->config.drain_timeout_ns + FENCE_TIMEOUT_NS);
	messages_flush(ownership);
	return 0;
}

void ferry_ownership_release(struct ferry_ownership *ownership, struct ferry_node next_owner)
{
	ferry_assert(ownership);
	ferry_assert(next_owner.v != self_of(ownership).v);
	ownership->next_owner = next_owner;
	ownership->wants_pool = false;
	ownership->was_owner = false;
	if (ownership->phase != FERRY_OWNERSHIP_OWNING) {
		ownership->phase = FERRY_OWNERSHIP_IDLE;
		ownership->claim_is_due = false;
		wish_over(ownership, 0, "the pool was not owned");
		return;
	}
	/* The wiring has closed the volume and waited for its I/O before it called. */
	ownership->phase = FERRY_OWNERSHIP_RELEASING;
	ownership->release_is_due = true;
	messages_flush(ownership);
}

/* ---- Opening. ---- */

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
		.timer = {.run = timer_ran},
		.fencing = {.timer = {.run = fence_timer_ran}},
	};
	r = epoch_load(ownership, reterr);
	if (r < 0)
		return r;
	view_publish(ownership);
	return 0;
}

void ferry_ownership_done(struct ferry_ownership *ownership)
{
	ferry_assert(ownership);
	ferry_timer_stop(ownership->config.loop, &ownership->timer);
	ferry_timer_stop(ownership->config.loop, &ownership->fencing.timer);
}
