/*
 * ownership_restart.c - the owner of a pool hears of each restart of the target before anybody
 * carries anything there (docs/decisions/0009): who has found one says so in its STATE until the
 * owner's data thread has noted it and the owner has answered.
 */
#include "fencing/ownership_private.h"

static struct ferry_ownership_told *told_find(struct ferry_ownership *ownership,
					      struct ferry_node node)
{
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
		if (ownership->told[i].by.v == node.v)
			return &ownership->told[i];
	return NULL;
}

static bool is_owner(const struct ferry_ownership *ownership)
{
	return ownership->view.owner.v == ferry_ownership_self(ownership).v;
}

void ferry_ownership_restarts_ask(struct ferry_ownership *ownership)
{
	for (uint32_t i = 0; is_owner(ownership) && i < FERRY_NODES_MAX; i++) {
		struct ferry_ownership_told *told = &ownership->told[i];

		if (told->by.v != 0 && told->noting == 0)
			told->noting = ++ownership->view.restarts;
	}
}

void ferry_ownership_restart_hear(struct ferry_ownership *ownership, struct ferry_node from,
				  const struct ferry_group_message *message)
{
	struct ferry_ownership_told *told = told_find(ownership, from);

	ferry_assert(from.v != 0 && message->type == FERRY_GROUP_STATE);
	if (!told && message->restart != 0)
		told = told_find(ownership, (struct ferry_node){0});
	if (!told || from.v == ferry_ownership_self(ownership).v)
		return;
	if (message->restart == 0) {
		*told = (struct ferry_ownership_told){0};
		return;
	}
	if (told->by.v == from.v && told->incarnation.v == message->incarnation.v &&
	    told->number == message->restart) {
		told->answer_is_due = told->is_noted; /* It has not heard the last answer. */
		return;
	}
	*told = (struct ferry_ownership_told){
		.by = from, .incarnation = message->incarnation, .number = message->restart};
	if (is_owner(ownership))
		ferry_ownership_view_publish(ownership);
}

void ferry_ownership_noted_hear(struct ferry_ownership *ownership, struct ferry_node from,
				const struct ferry_group_message *message)
{
	ferry_assert(message->type == FERRY_GROUP_NOTED);
	if (from.v != ownership->view.owner.v || message->epoch.v != ownership->view.epoch.v ||
	    message->victim.v != ferry_ownership_self(ownership).v ||
	    message->restart != ownership->witness || /* Of an earlier restart: it says nothing. */
	    message->victim_incarnation.v != ownership->config.incarnation.v)
		return;
	ownership->view.told = message->restart;
	ownership->view.told_by = from;
	ferry_ownership_view_publish(ownership);
}

struct ferry_ownership_told *ferry_ownership_answer_due(struct ferry_ownership *ownership)
{
	for (uint32_t i = 0; is_owner(ownership) && i < FERRY_NODES_MAX; i++)
		if (ownership->told[i].answer_is_due)
			return &ownership->told[i];
	return NULL;
}

void ferry_ownership_witness(struct ferry_ownership *ownership, uint64_t number)
{
	ferry_assert(ownership);
	if (ownership->witness == number)
		return;
	ownership->witness = number;
	ownership->state_is_due = true;
	ferry_ownership_messages_flush(ownership);
}

void ferry_ownership_noted(struct ferry_ownership *ownership, uint64_t restarts)
{
	ferry_assert(ownership);
	ferry_assert(restarts <= ownership->view.restarts);
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++) {
		struct ferry_ownership_told *told = &ownership->told[i];

		if (told->noting == 0 || told->noting > restarts || told->is_noted)
			continue;
		told->is_noted = true;
		told->answer_is_due = true;
	}
	ferry_ownership_messages_flush(ownership);
}
