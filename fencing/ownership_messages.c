/*
 * ownership_messages.c - messages out, now or a little later; and in, to whom they concern.
 */
#include "fencing/ownership_private.h"

#define RESEND_NS (20 * FERRY_NS_PER_MS)

/* Which agent of the victim's node a FENCED speaks of: its successors are not meant. */
static struct ferry_incarnation victim_incarnation(struct ferry_ownership *ownership,
						   enum ferry_group_type type)
{
	const struct ferry_ownership_seen *seen = NULL;

	if (type == FERRY_GROUP_FENCED)
		seen = ferry_ownership_seen_find(ownership, ownership->fencing.told);
	return seen ? seen->fenced : (struct ferry_incarnation){0};
}

static bool multicast(struct ferry_ownership *ownership, const struct ferry_group_message *message)
{
	struct ferry_group *group = ownership->config.group;
	uint8_t bytes[FERRY_GROUP_MESSAGE_BYTES];

	ferry_group_message_encode(message, bytes);
	return group->ops->multicast(group, bytes, sizeof(bytes)) == 0;
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
		.owner = type == FERRY_GROUP_CLAIM	? ferry_ownership_self(ownership)
			 : type == FERRY_GROUP_HANDOVER ? ownership->next_owner
							: ownership->view.owner,
		.ring = config->group->ring,
		.incarnation = config->incarnation,
		.victim = type == FERRY_GROUP_FENCE    ? ownership->fencing.victim
			  : type == FERRY_GROUP_FENCED ? ownership->fencing.told
						       : (struct ferry_node){0},
		.victim_incarnation = victim_incarnation(ownership, type),
		.restart = type == FERRY_GROUP_STATE ? ownership->witness : 0,
	};

	return multicast(ownership, &message);
}

/* To those who have told of a restart: this owner knows. True: all of them have been sent. */
static bool answers_send(struct ferry_ownership *ownership)
{
	const struct ferry_ownership_config *config = &ownership->config;
	struct ferry_ownership_told *told;

	while ((told = ferry_ownership_answer_due(ownership))) {
		struct ferry_group_message message = {
			.type = FERRY_GROUP_NOTED,
			.pool = ownership->pool,
			.lineage = config->lineage,
			.lun = config->lun,
			.epoch = ownership->view.epoch,
			.owner = ownership->view.owner,
			.ring = config->group->ring,
			.incarnation = config->incarnation,
			.victim = told->by,
			.victim_incarnation = told->incarnation,
			.restart = told->number,
		};

		if (!multicast(ownership, &message))
			return false;
		told->answer_is_due = false;
	}
	return true;
}

/* A question is asked once in each ring: were it in every STATE, askers would set each other off.
 */
static uint32_t state_flags(const struct ferry_ownership *ownership)
{
	return (ferry_ownership_is_drained_here(ownership) ? FERRY_GROUP_DRAINED : 0) |
	       (ownership->view.is_in_force ? FERRY_GROUP_IS_IN_FORCE : 0) |
	       (ownership->has_path ? FERRY_GROUP_HAS_PATH : 0) |
	       (ownership->view.word != ownership->word_asked &&
				!ferry_ownership_is_word_under_way(ownership)
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

void ferry_ownership_messages_flush(struct ferry_ownership *ownership)
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
		    !ferry_ownership_is_word_under_way(ownership)) {
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
	if (!answers_send(ownership) || ownership->state_is_due || ownership->ack_is_due ||
	    ownership->claim_is_due || ownership->in_force_is_due || ownership->release_is_due ||
	    fencing->ask_is_due || fencing->answer_is_due || fencing->reminders_are_due)
		ferry_timer_start_in(ownership->config.loop, &ownership->resend_timer, RESEND_NS);
}

void ferry_ownership_resend_ran(struct ferry_timer *timer)
{
	ferry_ownership_messages_flush(
		FERRY_CONTAINER_OF(timer, struct ferry_ownership, resend_timer));
}

static void note(struct ferry_ownership *ownership, struct ferry_node from,
		 const struct ferry_group_message *message)
{
	const struct ferry_ownership_seen *victim =
		ferry_ownership_seen_find(ownership, message->victim);

	if (message->type == FERRY_GROUP_FENCE && victim)
		ferry_ownership_victim_note(ownership, message->victim, victim->incarnation);
	else if (message->type == FERRY_GROUP_FENCED)
		ferry_ownership_fenced_heard(ownership, message);
	else if (message->type == FERRY_GROUP_NOTED)
		ferry_ownership_noted_hear(ownership, from, message);
}

static void react(struct ferry_ownership *ownership, struct ferry_node from,
		  const struct ferry_group_message *message, const struct ferry_reaction *reaction)
{
	if (reaction->deposes)
		ferry_ownership_deposed(ownership, "another node has the pool");
	switch (reaction->kind) {
	case FERRY_REACTION_INSTALL:
		ferry_ownership_install(ownership, from, message);
		break;
	case FERRY_REACTION_LEARN:
		ferry_ownership_learn(ownership, message, reaction->is_own_past);
		break;
	case FERRY_REACTION_FOLLOW:
		ferry_ownership_follow(ownership,
				       message->type == FERRY_GROUP_STATE ? message->owner : from);
		break;
	case FERRY_REACTION_CLAIM_AGAIN:
	case FERRY_REACTION_CLAIM_ABOVE:
		ferry_ownership_claim_again(ownership);
		break;
	case FERRY_REACTION_NOBODYS:
		ferry_ownership_nobodys(ownership, from, message);
		break;
	case FERRY_REACTION_FENCE:
		note(ownership, from, message);
		ferry_ownership_fence_begin(ownership, message->victim);
		break;
	case FERRY_REACTION_NOTE:
		note(ownership, from, message);
		break;
	case FERRY_REACTION_IGNORE:
	default:
		break;
	}
}

void ferry_ownership_message(struct ferry_ownership *ownership, struct ferry_node from,
			     const struct ferry_group_message *message)
{
	struct ferry_ownership_member *member = ferry_ownership_member_find(ownership, from);
	struct ferry_situation situation;
	struct ferry_reaction reaction;

	ferry_assert(ownership && message);
	FERRY_ASSERT_ON_LOOP(ownership->config.loop);
	if (!member || !ferry_uuid_equal(&message->pool, &ownership->pool))
		return;
	if (!ferry_uuid_equal(&message->lineage, &ownership->config.lineage)) {
		ferry_ownership_emit(
			ownership, FERRY_EVENT_REFUSED, FERRY_SEVERITY_ERROR,
			"a member has another lineage under this pool's name: not listening to it");
		return;
	}
	ferry_ownership_seen_note(ownership, from, message->incarnation);
	situation = ferry_ownership_situation(ownership);
	reaction = ferry_decide_message(&situation, from, message);
	if (message->type == FERRY_GROUP_STATE)
		ferry_ownership_state_note(ownership, member, message);
	react(ownership, from, message, &reaction);
	ferry_ownership_served_note(ownership, from, message);
	if (message->type == FERRY_GROUP_STATE) {
		ferry_ownership_restart_hear(ownership, from, message);
		ferry_ownership_sync_check(ownership);
		ferry_ownership_word_note(ownership, member, message);
		ferry_ownership_messages_flush(ownership);
	} else if (message->type == FERRY_GROUP_ACK && reaction.kind == FERRY_REACTION_NOTE) {
		ferry_ownership_ack_note(ownership, member, message);
	}
}
