/*
 * ownership_ring.c - membership: who is in the ring, what each has said in it, whether that is
 * enough to believe it, and how new it is.
 */
#include "agent/base/museum.h"
#include "fencing/ownership_private.h"

struct ferry_ownership_member *ferry_ownership_member_find(struct ferry_ownership *ownership,
							   struct ferry_node node)
{
	for (uint32_t i = 0; i < ownership->members.count; i++)
		if (ownership->members.nodes[i].v == node.v)
			return &ownership->known[i];
	return NULL;
}

struct ferry_ownership_seen *ferry_ownership_seen_find(struct ferry_ownership *ownership,
						       struct ferry_node node)
{
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
		if (node.v != 0 && ownership->seen[i].node.v == node.v)
			return &ownership->seen[i];
	return NULL;
}

void ferry_ownership_seen_note(struct ferry_ownership *ownership, struct ferry_node node,
			       struct ferry_incarnation incarnation)
{
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++) {
		struct ferry_ownership_seen *seen = &ownership->seen[i];

		if (seen->node.v != 0 && seen->node.v != node.v)
			continue;
		seen->node = node;
		if (incarnation.v <= seen->incarnation.v)
			return;
		seen->incarnation = incarnation;
		seen->heard_ns = ferry_loop_now_ns(ownership->config.loop);
		ferry_ownership_quiesce_heard(ownership);
		return;
	}
}

void ferry_ownership_sync_check(struct ferry_ownership *ownership)
{
	struct ferry_situation situation = ferry_ownership_situation(ownership);

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
		ferry_ownership_view_publish(ownership);
	ferry_ownership_advance(ownership);
}

bool ferry_ownership_is_word_under_way(const struct ferry_ownership *ownership)
{
	return ownership->word_sent == ownership->word_asked &&
	       ownership->word_ring == ownership->config.group->ring;
}

/*
 * This node's own STATE came back, in the order that all see, and a majority has spoken after it:
 * the ring was alive then, and whatever was ordered before has been heard here too. The view is as
 * new as the question (rule 6). Its coming back alone would prove nothing (rule 12).
 */
void ferry_ownership_word_note(struct ferry_ownership *ownership,
			       struct ferry_ownership_member *member,
			       const struct ferry_group_message *message)
{
	struct ferry_situation situation = ferry_ownership_situation(ownership);
	bool is_own = member->node.v == ferry_ownership_self(ownership).v;

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
	ferry_ownership_view_publish(ownership);
}

void ferry_ownership_state_note(struct ferry_ownership *ownership,
				struct ferry_ownership_member *member,
				const struct ferry_group_message *message)
{
	bool is_same_lun = ferry_uuid_equal(&message->lun, &ownership->config.lun);
	bool has_path = (message->flags & FERRY_GROUP_HAS_PATH) && is_same_lun;
	bool is_other = member->node.v != ferry_ownership_self(ownership).v;

	if (!is_same_lun && !ferry_uuid_equal(&member->lun, &message->lun))
		ferry_ownership_emit(ownership, FERRY_EVENT_ADMIN, FERRY_SEVERITY_ERROR,
				     "a member sees another lun (identity, size or block size) "
				     "under this pool's name: it will not be used");
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

/*
 * In a new ring everybody speaks anew before anybody believes anything. What others have said in it
 * already, before this node heard of the ring itself, counts.
 */
static void resync(struct ferry_ownership *ownership)
{
	struct ferry_situation situation = ferry_ownership_situation(ownership);
	bool is_alone = ferry_decide_is_alone(&situation);

	ownership->is_synced &= FERRY_MUSEUM(OLD_RING_ACKS);
	ownership->fencing.reminders_are_due = true;
	ownership->state_is_due = true;
	ownership->is_sole &= is_alone;
	/* The other may be taking the lun at this moment: nothing is served before it has spoken.
	 */
	if (is_alone && !ownership->is_sole && ownership->config.has_reservations)
		ownership->view.is_in_force = false;
	/* And whoever takes the lun may have begun while the other was there, and spared it. */
	if (ownership->phase == FERRY_OWNERSHIP_CLAIMING ||
	    ownership->phase == FERRY_OWNERSHIP_DRAINING ||
	    (ownership->phase == FERRY_OWNERSHIP_TAKING && is_alone))
		ferry_ownership_claim_again(ownership);
	ferry_ownership_view_publish(ownership);
	ferry_ownership_sync_check(ownership);
	ferry_ownership_messages_flush(ownership);
}

static bool is_among(const struct ferry_members *nodes, struct ferry_node node)
{
	for (uint32_t i = 0; i < nodes->count; i++)
		if (nodes->nodes[i].v == node.v)
			return true;
	return false;
}

void ferry_ownership_word_narrow(struct ferry_ownership *ownership)
{
	struct ferry_members *named = &ownership->answered_for;
	uint32_t count = 0;

	for (uint32_t i = 0; i < named->count; i++)
		if (!is_among(&ownership->members, named->nodes[i]))
			named->nodes[count++] = named->nodes[i];
	named->count = count;
}

/*
 * A person has answered for those who were missing then, not for who is missing from now on: that
 * one may be cut off, and write. A taking that has begun has been decided without it.
 */
static void word_check(struct ferry_ownership *ownership, const struct ferry_members *before)
{
	if (!ownership->is_forced || ownership->phase == FERRY_OWNERSHIP_TAKING)
		return;
	for (uint32_t i = 0; i < before->count; i++) {
		if (is_among(&ownership->members, before->nodes[i]))
			continue;
		ownership->phase = FERRY_OWNERSHIP_IDLE;
		ownership->claim_is_due = false;
		ownership->in_force_is_due = false;
		ferry_ownership_withdrawn(ownership);
		ferry_ownership_wish_over(ownership, -EPERM,
					  "a node that nobody has answered for has left the group "
					  "meanwhile: make sure of it too, then force it again");
		return;
	}
}

void ferry_ownership_members(struct ferry_ownership *ownership, const struct ferry_members *members)
{
	struct ferry_members before = ownership->members;
	struct ferry_ownership_member known[FERRY_NODES_MAX] = {0};

	ferry_assert(ownership && members);
	ferry_assert(members->count <= FERRY_NODES_MAX);
	for (uint32_t i = 0; i < members->count; i++) {
		const struct ferry_ownership_member *old =
			ferry_ownership_member_find(ownership, members->nodes[i]);

		if (old)
			known[i] = *old;
		known[i].node = members->nodes[i];
	}
	ownership->members = *members;
	memcpy(ownership->known, known, sizeof(known));
	ferry_ownership_word_narrow(ownership);
	word_check(ownership, &before);
	resync(ownership);
}

void ferry_ownership_quorum(struct ferry_ownership *ownership)
{
	ferry_assert(ownership);
	resync(ownership);
}

void ferry_ownership_ask(struct ferry_ownership *ownership, uint64_t word)
{
	ferry_assert(ownership);
	ferry_assert(word > ownership->word_asked);
	ownership->word_asked = word;
	ownership->state_is_due = true;
	ferry_ownership_messages_flush(ownership);
}
