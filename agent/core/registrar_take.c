/*
 * registrar_take.c - taking the lun over: preempting, reserving, and having dead what the absent
 * have left in flight, one step after the other.
 */
#include "agent/base/museum.h"
#include "agent/core/keys.h"
#include "agent/core/registrar_private.h"

void ferry_registrar_take_finish(struct ferry_registrar *registrar, int error)
{
	registrar->take = FERRY_TAKE_NONE;
	registrar->config.on_taken(error, registrar->config.context);
}

/* Whatever step it was at: from the start, once this node is registered again. */
void ferry_registrar_take_again(struct ferry_registrar *registrar)
{
	if (registrar->take != FERRY_TAKE_NONE)
		registrar->take = FERRY_TAKE_WAITING;
}

/*
 * Should the session be lost now, the key may be gone and its commands alive: nothing but its name
 * will be left to abort by. False: there are more than can be.
 */
static bool suspect_add(struct ferry_registrar *registrar, struct ferry_key key)
{
	struct ferry_drained_keys *drained = &registrar->drained;

	ferry_assert(key.v != 0);
	ferry_assert(drained->suspects_count <= FERRY_KEYS_MAX);
	for (uint32_t i = registrar->suspects_done; i < drained->suspects_count; i++)
		if (drained->suspects[i].v == key.v)
			return true;
	if (drained->suspects_count == FERRY_KEYS_MAX)
		return false;
	drained->suspects[drained->suspects_count++] = key;
	return true;
}

static bool has_name(const struct ferry_registrar *registrar, struct ferry_node node)
{
	const struct ferry_drained_keys *drained = &registrar->drained;

	if (ferry_key_node(registrar->config.own).v == node.v)
		return true;
	for (uint32_t i = 0; i < drained->count; i++)
		if (ferry_key_node(drained->keys[i]).v == node.v)
			return true;
	for (uint32_t i = 0; i < drained->suspects_count; i++)
		if (ferry_key_node(drained->suspects[i]).v == node.v)
			return true;
	return false;
}

/*
 * Whether each node is either heard or was found registered: then each has been dealt with by name.
 * A key that a node has left behind which is in the cluster no more is nobody's name.
 */
static bool has_all_names(const struct ferry_registrar *registrar)
{
	const struct ferry_members *nodes = &registrar->drained.nodes;

	for (uint32_t i = 0; i < nodes->count; i++)
		if (!has_name(registrar, nodes->nodes[i]))
			return false;
	return true;
}

/*
 * To abort what nobody is known to have sent means to reset the lun: where a registration ends with
 * its session. Elsewhere the lun has told everybody's; or those that it told, and the group, are
 * all that there are.
 */
static bool suspect_is_moot(const struct ferry_registrar *registrar, struct ferry_key suspect)
{
	enum ferry_laying_way way = registrar->config.fence->ability.laying;

	if (way == 0 || way == FERRY_LAYING_RESET)
		return false;
	return suspect.v == ferry_key_of_nobody().v ||
	       (suspect.v == ferry_key_of_forgotten().v && has_all_names(registrar));
}

/* Only this node and who has drained is registered: now what the others left in flight. */
static void take_abort(struct ferry_registrar *registrar)
{
	const struct ferry_drained_keys *drained = &registrar->drained;

	while (registrar->suspects_done < drained->suspects_count &&
	       (suspect_is_moot(registrar, drained->suspects[registrar->suspects_done]) ||
		FERRY_MUSEUM(ABSENT_NOT_ABORTED)))
		registrar->suspects_done++;
	if (registrar->suspects_done == drained->suspects_count) {
		ferry_registrar_take_finish(registrar, 0);
		return;
	}
	registrar->take = FERRY_TAKE_ABORTING;
	ferry_router_expect_reset(registrar->config.router);
	ferry_registrar_ask(registrar, FERRY_FENCE_PREEMPT,
			    drained->suspects[registrar->suspects_done]);
}

static void take_read(struct ferry_registrar *registrar)
{
	struct ferry_keys lun = ferry_registrar_keys(registrar);
	struct ferry_key victim = {0};

	switch (ferry_keys_take(&lun, registrar->config.own, &registrar->drained, &victim)) {
	case FERRY_KEYS_REFUSE:
		ferry_registrar_emit(registrar, FERRY_EVENT_ADMIN, FERRY_SEVERITY_ERROR,
				     lun.holder.v,
				     "foreign registrations on the lun: not taking it");
		ferry_registrar_take_finish(registrar, -EPERM);
		return;
	case FERRY_KEYS_PREEMPT:
		if (!suspect_add(registrar, victim)) {
			ferry_registrar_take_finish(registrar, -EIO);
			return;
		}
		ferry_registrar_emit(registrar, FERRY_EVENT_FENCED, FERRY_SEVERITY_WARNING,
				     victim.v, "preempting a registrant that has not drained");
		registrar->take = FERRY_TAKE_PREEMPTING;
		ferry_router_expect_reset(registrar->config.router);
		ferry_registrar_ask(registrar, FERRY_FENCE_PREEMPT, victim);
		return;
	case FERRY_KEYS_RESERVE:
		registrar->take = FERRY_TAKE_RESERVING;
		ferry_registrar_ask(registrar, FERRY_FENCE_RESERVE, victim);
		return;
	case FERRY_KEYS_ABORT:
	default:
		take_abort(registrar);
		return;
	}
}

/*
 * Whoever registers again after that has asked the group since, whose newest epoch is at least this
 * one: what it had sent is dead, and it sends no more of it. Where aborts take long, several who
 * cannot drain would else be back before the last of them was preempted, again and again.
 */
static void note_preempted(struct ferry_registrar *registrar)
{
	struct ferry_drained_keys *drained = &registrar->drained;

	ferry_assert(registrar->take == FERRY_TAKE_PREEMPTING);
	if (drained->count < FERRY_KEYS_MAX)
		drained->keys[drained->count++] = registrar->request.victim;
}

void ferry_registrar_take_step(struct ferry_registrar *registrar, int error)
{
	switch (registrar->take) {
	case FERRY_TAKE_WAITING: /* A step of an earlier taking ended: it says nothing here. */
		registrar->take = FERRY_TAKE_READING;
		ferry_registrar_ask(registrar, FERRY_FENCE_READ_KEYS, (struct ferry_key){0});
		return;
	case FERRY_TAKE_READING:
		if (error == 0 && registrar->config.restarts_go_untold &&
		    ferry_registrar_shows_restart(registrar)) {
			ferry_registrar_restarted(registrar);
			return;
		}
		if (error == 0) {
			take_read(registrar);
			return;
		}
		break;
	case FERRY_TAKE_PREEMPTING:
	case FERRY_TAKE_RESERVING:
		if (error == 0 && registrar->take == FERRY_TAKE_PREEMPTING)
			note_preempted(registrar);
		/* Whatever it said, what the lun says next counts. */
		if (error == 0 || error == -EBUSY || error == -ENOENT) {
			registrar->take = FERRY_TAKE_READING;
			ferry_registrar_ask(registrar, FERRY_FENCE_READ_KEYS,
					    (struct ferry_key){0});
			return;
		}
		break;
	case FERRY_TAKE_ABORTING:
		/* -ENOENT: the reservation is gone, and with it what kept the suspect out. */
		if (error == 0) {
			registrar->suspects_done++;
			take_abort(registrar);
			return;
		}
		break;
	case FERRY_TAKE_NONE:
	default:
		return;
	}
	if (error == -EACCES) {
		ferry_registrar_lost(registrar);
		return;
	}
	if (error == -EOPNOTSUPP) { /* It will not be otherwise the next time. */
		ferry_registrar_take_finish(registrar, error);
		return;
	}
	registrar->take = FERRY_TAKE_WAITING; /* Until the path works. */
	ferry_registrar_retry_later(registrar);
}

/*
 * A reset was reported meanwhile, maybe a restart's: a further PREEMPT would hide it. So what this
 * step came to is kept, and the taking goes on from the start once the keys have been looked at.
 */
void ferry_registrar_take_pause(struct ferry_registrar *registrar, int error)
{
	if (error == 0 && registrar->take == FERRY_TAKE_PREEMPTING)
		note_preempted(registrar);
	if (error == 0 && registrar->take == FERRY_TAKE_ABORTING)
		registrar->suspects_done++;
	registrar->take = FERRY_TAKE_WAITING;
	ferry_registrar_poke(registrar);
}

void ferry_registrar_take(struct ferry_registrar *registrar,
			  const struct ferry_drained_keys *drained)
{
	ferry_assert(registrar && drained);
	registrar->drained = *drained;
	registrar->request.is_answered_for = drained->is_answered_for;
	registrar->suspects_done = 0;
	registrar->take = FERRY_TAKE_WAITING;
	ferry_registrar_poke(registrar);
}

void ferry_registrar_drop_take(struct ferry_registrar *registrar)
{
	ferry_assert(registrar);
	registrar->take = FERRY_TAKE_NONE;
}
