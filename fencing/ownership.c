#include "fencing/ownership.h"

#include <stdio.h>

#include "agent/base/checksum.h"
#include "agent/core/key.h"
#include "proto/cursor.h"

#define RESEND_NS (20 * FERRY_NS_PER_MS)
#define CLAIM_TIMEOUT_NS (500 * FERRY_NS_PER_MS)
/* After the drain timeout: what a preemption, and a reset that waits, may take. */
#define FENCE_TIMEOUT_NS (20 * FERRY_NS_PER_S)
enum { STORED_BYTES = 16 + 8 + 4 };

const char *ferry_ownership_phase_name(enum ferry_ownership_phase phase)
{
	static const char *const names[] = {
		[FERRY_OWNERSHIP_IDLE] = "IDLE",	   [FERRY_OWNERSHIP_SYNCING] = "SYNCING",
		[FERRY_OWNERSHIP_CLAIMING] = "CLAIMING",   [FERRY_OWNERSHIP_DRAINING] = "DRAINING",
		[FERRY_OWNERSHIP_TAKING] = "TAKING",	   [FERRY_OWNERSHIP_OWNING] = "OWNING",
		[FERRY_OWNERSHIP_RELEASING] = "RELEASING",
	};

	ferry_assert(phase >= FERRY_OWNERSHIP_IDLE && phase <= FERRY_OWNERSHIP_RELEASING);
	return names[phase];
}

uint32_t ferry_ownership_majority(uint32_t nodes_expected)
{
	ferry_assert(nodes_expected > 0);
	return nodes_expected / 2 + 1;
}

/* A change of owner: with two nodes both, since each may be the one that is cut off. */
static uint32_t majority(const struct ferry_ownership *ownership)
{
	return ferry_ownership_majority(ownership->config.group->nodes_expected);
}

/*
 * Whose words make this node's own knowledge current. Of two nodes one is enough to go on with
 * what it has: the other cannot change it alone.
 */
static uint32_t sync_majority(const struct ferry_ownership *ownership)
{
	return ownership->config.group->nodes_expected == 2 ? 1 : majority(ownership);
}

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

/* ---- Stable storage: an epoch is on the disk before it is acknowledged (rule 12). ---- */

static void store_key(const struct ferry_ownership *ownership, char ret[64])
{
	(void)snprintf(ret, 64, "pool.%s.epoch", ownership->config.pool);
}

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
	/* Whoever owned it then does not now: this agent has just started. */
	return 0;
}

/* ---- The view. ---- */

static bool is_drained_here(const struct ferry_ownership *ownership)
{
	return ownership->drained.v == ownership->view.epoch.v;
}

/* How many members have spoken in this ring, and how many of them see the lun that we see. */
static uint32_t spoken_count(const struct ferry_ownership *ownership, bool with_this_lun)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < ownership->members.count; i++) {
		const struct ferry_ownership_member *member = &ownership->known[i];

		count += member->state_ring == ownership->config.group->ring &&
			 (!with_this_lun || ferry_uuid_equal(&member->lun, &ownership->config.lun));
	}
	return count;
}

bool ferry_ownership_lun_is_agreed(const struct ferry_ownership *ownership)
{
	uint32_t spoken = spoken_count(ownership, /* with_this_lun= */ false);
	uint32_t agreeing = spoken_count(ownership, /* with_this_lun= */ true);

	ferry_assert(agreeing <= spoken);
	return agreeing >= sync_majority(ownership) && 2 * agreeing > spoken;
}

static void view_publish(struct ferry_ownership *ownership)
{
	struct ferry_view *view = &ownership->view;
	bool is_mine = view->owner.v == self_of(ownership).v;

	view->members = ownership->members;
	view->is_quorate = ownership->config.group->is_quorate && ownership->is_synced;
	/*
	 * Registering is by the owner's grant, which is its epoch, for who has nothing older in
	 * flight; or for the owner that is about to take the lun. The epoch need not be in force
	 * yet: the taker may need another's registration to have its own nexus killed. Nobody
	 * leaves a key on a lun that the others don't call by this pool's name.
	 */
	view->may_register = view->is_quorate && !ownership->is_fenced &&
			     (is_mine || (ferry_ownership_lun_is_agreed(ownership) &&
					  (view->owner.v == 0 || is_drained_here(ownership))));
	view->may_help = view->is_quorate && !ownership->is_fenced &&
			 (is_mine || ferry_ownership_lun_is_agreed(ownership));
	ownership->config.set_view(view, ownership->config.context);
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

static uint32_t state_flags(const struct ferry_ownership *ownership)
{
	return (is_drained_here(ownership) ? FERRY_GROUP_DRAINED : 0) |
	       (ownership->view.is_in_force ? FERRY_GROUP_IS_IN_FORCE : 0) |
	       (ownership->has_path ? FERRY_GROUP_HAS_PATH : 0);
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
		if (ownership->word_sent != ownership->word_asked)
			ownership->word_state = ownership->states_sent;
		ownership->word_sent = ownership->word_asked;
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

static int member_index(const struct ferry_ownership *ownership, struct ferry_node node)
{
	for (uint32_t i = 0; i < ownership->members.count; i++)
		if (ownership->members.nodes[i].v == node.v)
			return (int)i;
	return -1;
}

static const struct ferry_ownership_member *member_find(const struct ferry_ownership *ownership,
							struct ferry_node node)
{
	int index = member_index(ownership, node);

	return index < 0 ? NULL : &ownership->known[index];
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

/* ---- Claiming. ---- */

static struct ferry_epoch epoch_highest(const struct ferry_ownership *ownership)
{
	struct ferry_epoch highest = ownership->view.epoch;

	for (uint32_t i = 0; i < ownership->members.count; i++)
		highest.v = ferry_max_u64(highest.v, ownership->known[i].epoch.v);
	return highest;
}

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

/* Claim, if this node wants the pool and may. */
static void claim_if_wanted(struct ferry_ownership *ownership)
{
	if (!ownership->wants_pool || ownership->phase != FERRY_OWNERSHIP_SYNCING)
		return;
	if (!ownership->config.group->is_quorate || !ownership->is_synced)
		return;
	if (!ferry_ownership_lun_is_agreed(ownership)) {
		/* Those who have not spoken yet may agree. */
		if (spoken_count(ownership, false) == ownership->members.count)
			wish_over(ownership, -EPERM,
				  "other members see another lun under this pool's name: compare "
				  "their configurations");
		return;
	}
	ownership->claimed.v = epoch_highest(ownership).v + 1;
	ownership->phase = FERRY_OWNERSHIP_CLAIMING;
	ownership->claim_is_due = true;
	ownership->claim_deadline_ns = ferry_loop_now_ns(ownership->config.loop) + CLAIM_TIMEOUT_NS;
	ferry_timer_start(ownership->config.loop, &ownership->timer, ownership->claim_deadline_ns);
	emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_INFO, "claiming the pool");
	messages_flush(ownership);
}

/* Start over: the claim was overtaken, or the ring it was made in is gone. */
static void claim_again(struct ferry_ownership *ownership)
{
	ownership->claim_is_due = false;
	ownership->in_force_is_due = false;
	ownership->phase = FERRY_OWNERSHIP_SYNCING;
	claim_if_wanted(ownership);
}

static uint32_t acked_count(const struct ferry_ownership *ownership, struct ferry_epoch epoch,
			    bool wants_drained)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < ownership->members.count; i++) {
		const struct ferry_ownership_member *member = &ownership->known[i];
		struct ferry_epoch has = wants_drained ? member->drained : member->acked;

		count += member->ack_ring == ownership->config.group->ring && has.v == epoch.v;
	}
	return count;
}

/*
 * Drained is an agent's word for itself: what its elder at the same node had in flight may land
 * yet (rule 8). Finding no key of the elder's proves nothing: whoever took the lun before may have
 * been overtaken between removing it and the end of the reset. Only a taking that this node itself
 * has seen through settles it.
 */
static bool elder_is_suspect(const struct ferry_ownership_seen *seen)
{
	return seen->incarnation.v > ferry_max_u64(seen->laid.v, 1);
}

static struct ferry_key elder_key(const struct ferry_ownership_seen *seen)
{
	ferry_assert(seen->incarnation.v > 1);
	return ferry_key_make(seen->node, (struct ferry_incarnation){seen->incarnation.v - 1});
}

static bool is_being_fenced(const struct ferry_ownership *ownership, struct ferry_node node)
{
	return ownership->fencing.is_running && ownership->fencing.victim.v == node.v;
}

/* Who has drained in this ring, and which of the agents ever heard of has not. */
static void drained_find(const struct ferry_ownership *ownership, struct ferry_drained_keys *ret)
{
	*ret = (struct ferry_drained_keys){0};
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++) {
		const struct ferry_ownership_seen *seen = &ownership->seen[i];
		const struct ferry_ownership_member *member;
		bool is_drained;

		if (seen->node.v == 0)
			break;
		member = member_find(ownership, seen->node);
		is_drained = member && !is_being_fenced(ownership, seen->node) &&
			     member->ack_ring == ownership->config.group->ring &&
			     member->incarnation.v == seen->incarnation.v &&
			     member->drained.v == ownership->claimed.v;
		if (is_drained)
			ret->keys[ret->count++] = ferry_key_make(seen->node, seen->incarnation);
		/* Who takes does not preempt itself: it waits for what it carries (engine.c). */
		if (!is_drained && seen->node.v != self_of(ownership).v)
			ret->suspects[ret->suspects_count++] =
				ferry_key_make(seen->node, seen->incarnation);
		else if (elder_is_suspect(seen))
			ret->suspects[ret->suspects_count++] = elder_key(seen);
	}
}

static void take_now(struct ferry_ownership *ownership)
{
	struct ferry_drained_keys drained;
	uint32_t missing = ownership->config.group->nodes_expected;

	drained_find(ownership, &drained);
	missing -= (uint32_t)ferry_min_u64(missing, drained.count);
	if (missing > 0 && !ownership->config.has_reservations && ownership->is_forced) {
		emit(ownership, FERRY_EVENT_ADMIN, FERRY_SEVERITY_WARNING,
		     "taking over by force: an administrator answers for the nodes that have not "
		     "drained");
	} else if (missing > 0 && !ownership->config.has_reservations) {
		/* Rule 14: nobody can keep the missing ones from writing. */
		wish_over(ownership, -EPERM,
			  "the lun has no reservations and not every node has drained: fence the "
			  "missing nodes, or start their agents");
		return;
	}
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
		ownership->seen[i].taking = ownership->seen[i].incarnation;
	ownership->phase = FERRY_OWNERSHIP_TAKING;
	emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_INFO, "taking the lun");
	ownership->config.take(&drained, ownership->config.context);
}

/* Acknowledgements came in: is it a majority, have all drained? */
static void claim_advance(struct ferry_ownership *ownership)
{
	uint64_t now_ns = ferry_loop_now_ns(ownership->config.loop);

	if (ownership->phase == FERRY_OWNERSHIP_CLAIMING &&
	    acked_count(ownership, ownership->claimed, false) >= majority(ownership)) {
		ownership->phase = FERRY_OWNERSHIP_DRAINING;
		ownership->drain_deadline_ns = now_ns + ownership->config.drain_timeout_ns;
		ferry_timer_start(ownership->config.loop, &ownership->timer,
				  ownership->drain_deadline_ns);
	}
	if (ownership->phase != FERRY_OWNERSHIP_DRAINING)
		return;
	if (acked_count(ownership, ownership->claimed, true) == ownership->members.count ||
	    now_ns >= ownership->drain_deadline_ns)
		take_now(ownership);
}

static void timer_ran(struct ferry_timer *timer)
{
	struct ferry_ownership *ownership =
		FERRY_CONTAINER_OF(timer, struct ferry_ownership, timer);

	uint64_t now_ns = ferry_loop_now_ns(ownership->config.loop);

	messages_flush(ownership);
	claim_advance(ownership);
	/* Whoever was late for the ring has not answered: claim anew. */
	if (ownership->phase == FERRY_OWNERSHIP_CLAIMING && now_ns >= ownership->claim_deadline_ns)
		claim_again(ownership);
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
	r = epoch_save(ownership, epoch, owner);
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

static void handle_claim(struct ferry_ownership *ownership, struct ferry_node from,
			 const struct ferry_group_message *message)
{
	if (message->ring != ownership->config.group->ring || !ownership->config.group->is_quorate)
		return; /* Not in this quorum's ring: acknowledging would be no agreement. */
	if (!ferry_uuid_equal(&message->lun, &ownership->config.lun))
		return; /* It would serve another lun under this name: not with this node's voice.
			 */
	if (message->epoch.v <= ownership->view.epoch.v) {
		if (from.v == self_of(ownership).v && ownership->phase == FERRY_OWNERSHIP_CLAIMING)
			claim_again(ownership); /* Another was first. */
		return;
	}
	if (from.v != self_of(ownership).v)
		deposed(ownership, "another node has claimed the pool");
	if (!epoch_install(ownership, message->epoch, from, /* is_in_force= */ false)) {
		if (from.v == self_of(ownership).v)
			wish_over(ownership, -EIO, "the epoch could not be saved");
		return;
	}
	emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_NOTICE, "a new epoch is installed");
	ownership->ack_is_due = true;
	view_publish(ownership);
	messages_flush(ownership);
}

/* ---- Messages in. ---- */

static void sync_check(struct ferry_ownership *ownership)
{
	bool may_register = ownership->view.may_register;

	ownership->is_synced |= spoken_count(ownership, false) >= sync_majority(ownership);
	if (!ownership->is_synced)
		return;
	if (!ownership->view.is_quorate || !may_register)
		view_publish(ownership);
	claim_if_wanted(ownership);
}

/*
 * This node's own STATE came back, in the order that all see: whatever was ordered before it has
 * been heard too. That is no agreement, but the view is as new as the question (rule 6).
 */
static void word_note(struct ferry_ownership *ownership, const struct ferry_group_message *message)
{
	ownership->states_seen++;
	if (ownership->view.word == ownership->word_sent ||
	    ownership->states_seen < ownership->word_state ||
	    message->ring != ownership->config.group->ring || !ownership->config.group->is_quorate)
		return; /* Each new ring has a STATE of its own. */
	ownership->view.word = ownership->word_sent;
	view_publish(ownership);
}

static void handle_state(struct ferry_ownership *ownership, struct ferry_ownership_member *member,
			 const struct ferry_group_message *message)
{
	bool has_path = message->flags & FERRY_GROUP_HAS_PATH;
	bool is_in_force = message->flags & FERRY_GROUP_IS_IN_FORCE;
	bool is_same_lun = ferry_uuid_equal(&message->lun, &ownership->config.lun);

	if (!is_same_lun && !ferry_uuid_equal(&member->lun, &message->lun))
		emit(ownership, FERRY_EVENT_ADMIN, FERRY_SEVERITY_ERROR,
		     "a member sees another lun (identity, size or block size) under this pool's "
		     "name: it will not be used");
	member->lun = message->lun;
	member->epoch = message->epoch;
	if (message->flags & FERRY_GROUP_DRAINED)
		member->drained = message->epoch;
	if (!is_same_lun) {
		/* Its epochs are another lun's; a claim of ours will still be above them. */
	} else if (message->epoch.v > ownership->view.epoch.v) {
		/* This node was away. What it owned then, it does not now. */
		if (message->owner.v != self_of(ownership).v)
			deposed(ownership, "the pool has moved on while this node was away");
		if (!epoch_install(ownership, message->epoch, message->owner, is_in_force))
			return;
		emit(ownership, FERRY_EVENT_EPOCH, FERRY_SEVERITY_NOTICE, "learnt a newer epoch");
		ownership->state_is_due = true;
		view_publish(ownership);
	} else if (message->epoch.v == ownership->view.epoch.v && is_in_force &&
		   !ownership->view.is_in_force && message->owner.v != 0 &&
		   message->owner.v != self_of(ownership).v) {
		ownership->view.owner = message->owner;
		ownership->view.is_in_force = true;
		view_publish(ownership);
	}
	if (member->has_path != (has_path && is_same_lun) || member->incarnation.v == 0) {
		member->has_path = has_path && is_same_lun;
		ownership->config.peer_has_path(member->node, member->has_path,
						ownership->config.context);
	}
	/* Whoever speaks for the first time in this ring may not have heard this node's words. */
	if (member->node.v != self_of(ownership).v &&
	    (member->state_ring != message->ring ||
	     member->incarnation.v != message->incarnation.v))
		ownership->state_is_due = true;
	member->incarnation = message->incarnation;
	member->state_ring = message->ring;
	sync_check(ownership);
	messages_flush(ownership);
}

static void handle_ack(struct ferry_ownership *ownership, struct ferry_ownership_member *member,
		       const struct ferry_group_message *message)
{
	if (message->ring != ownership->config.group->ring)
		return; /* From before a change of membership: no agreement of this ring's. */
	member->ack_ring = message->ring;
	member->acked = message->epoch;
	member->epoch = message->epoch;
	member->incarnation = message->incarnation;
	if (message->flags & FERRY_GROUP_DRAINED)
		member->drained = message->epoch;
	claim_advance(ownership);
}

static void handle_in_force(struct ferry_ownership *ownership, struct ferry_node from,
			    const struct ferry_group_message *message)
{
	if (message->epoch.v > ownership->view.epoch.v) {
		/* Its claim could not be saved here; perhaps it can be now. */
		if (!epoch_install(ownership, message->epoch, from, /* is_in_force= */ true))
			return;
		ownership->ack_is_due = true;
		view_publish(ownership);
		messages_flush(ownership);
		return;
	}
	if (message->epoch.v != ownership->view.epoch.v || from.v != ownership->view.owner.v)
		return;
	ownership->view.is_in_force = true;
	view_publish(ownership);
}

static void handle_release(struct ferry_ownership *ownership, struct ferry_node from,
			   const struct ferry_group_message *message)
{
	if (message->epoch.v != ownership->view.epoch.v || from.v != ownership->view.owner.v)
		return;
	ownership->view.owner.v = 0;
	ownership->view.is_in_force = false;
	ownership->released = message->epoch;
	view_publish(ownership);
	if (from.v == self_of(ownership).v && ownership->phase == FERRY_OWNERSHIP_RELEASING) {
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

/* Who owns the pool does it, and keeps it; without an owner, who asks. */
static void handle_fence(struct ferry_ownership *ownership, struct ferry_node from,
			 const struct ferry_group_message *message)
{
	struct ferry_ownership_fencing *fencing = &ownership->fencing;
	const struct ferry_ownership_seen *seen = seen_find(ownership, message->victim);
	struct ferry_node owner = ownership->view.owner;
	bool has_owner = owner.v != 0 && owner.v != message->victim.v &&
			 ownership->view.is_in_force && member_index(ownership, owner) >= 0;

	if (seen)
		victim_note(ownership, message->victim, seen->incarnation);
	if ((has_owner ? owner.v : from.v) != self_of(ownership).v || fencing->is_running)
		return;
	if (fencing->victim.v != 0 && fencing->victim.v != message->victim.v)
		return; /* This node has asked for another itself: one at a time. */
	fencing->victim = message->victim;
	fencing->is_running = true;
	fencing->is_proven = false;
	fencing->keeps_pool = ownership->wants_pool;
	ownership->wants_pool = true;
	claim_again(ownership);
}

static void handle_fenced(struct ferry_ownership *ownership,
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

void ferry_ownership_message(struct ferry_ownership *ownership, struct ferry_node from,
			     const struct ferry_group_message *message)
{
	int index = member_index(ownership, from);
	struct ferry_ownership_member *member = index < 0 ? NULL : &ownership->known[index];

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
	switch (message->type) {
	case FERRY_GROUP_STATE:
		handle_state(ownership, member, message);
		if (from.v == self_of(ownership).v)
			word_note(ownership, message);
		break;
	case FERRY_GROUP_CLAIM:
		handle_claim(ownership, from, message);
		break;
	case FERRY_GROUP_ACK:
		handle_ack(ownership, member, message);
		break;
	case FERRY_GROUP_IN_FORCE:
		handle_in_force(ownership, from, message);
		break;
	case FERRY_GROUP_RELEASE:
	case FERRY_GROUP_HANDOVER:
		handle_release(ownership, from, message);
		break;
	case FERRY_GROUP_FENCE:
		handle_fence(ownership, from, message);
		break;
	case FERRY_GROUP_FENCED:
		handle_fenced(ownership, message);
		break;
	default:
		break; /* The decoder lets no other through. */
	}
}

/* ---- Membership and quorum. ---- */

/*
 * In a new ring everybody speaks anew before anybody believes anything. What others have said in it
 * already, before this node heard of the ring itself, counts.
 */
static void resync(struct ferry_ownership *ownership)
{
	ownership->is_synced = false;
	ownership->fencing.reminders_are_due = true;
	ownership->state_is_due = true;
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

void ferry_ownership_taken(struct ferry_ownership *ownership, int error)
{
	ferry_assert(ownership);
	if (ownership->phase != FERRY_OWNERSHIP_TAKING)
		return; /* Overtaken meanwhile. */
	if (error < 0) {
		wish_over(ownership, error,
			  error == -EPERM ? "foreign registrations are on the lun"
					  : "the lun could not be taken");
		return;
	}
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
		ownership->seen[i].laid = ownership->seen[i].taking;
	/* A change of ring meanwhile asks for the majority anew. */
	if (ownership->view.epoch.v != ownership->claimed.v ||
	    ownership->view.owner.v != self_of(ownership).v ||
	    acked_count(ownership, ownership->claimed, false) < majority(ownership)) {
		claim_again(ownership);
		return;
	}
	ownership->fencing.is_proven |= ownership->fencing.is_running;
	if (ownership->fencing.is_running && !ownership->fencing.keeps_pool) {
		/* The epoch is there, and without an owner: nobody serves before it is acquired. */
		ownership->wants_pool = false;
		ownership->next_owner.v = 0;
		ownership->phase = FERRY_OWNERSHIP_RELEASING;
		ownership->release_is_due = true;
		messages_flush(ownership);
		return;
	}
	ownership->phase = FERRY_OWNERSHIP_OWNING;
	ownership->view.is_in_force = true;
	ownership->in_force_is_due = true;
	view_publish(ownership);
	messages_flush(ownership);
	wish_over(ownership, 0, "the pool is owned, its epoch in force");
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
	if (ownership->phase == FERRY_OWNERSHIP_OWNING) {
		wish_over(ownership, 0, "the pool is owned already");
		return;
	}
	if (ownership->phase == FERRY_OWNERSHIP_IDLE)
		ownership->phase = FERRY_OWNERSHIP_SYNCING;
	claim_if_wanted(ownership);
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
