#include "agent/core/keys.h"

#include "agent/core/key.h"

static bool has_foreign(const struct ferry_keys *lun)
{
	for (uint32_t i = 0; i < lun->count; i++)
		if (!ferry_key_is_ours(lun->keys[i]))
			return true;
	return lun->holder.v != 0 && !ferry_key_is_ours(lun->holder);
}

enum ferry_keys_join ferry_keys_join(const struct ferry_keys *lun, struct ferry_key own,
				     bool only_if_kept)
{
	bool has_own = false;
	bool has_elder = false;

	ferry_assert(lun->count <= FERRY_KEYS_MAX && own.v != 0);
	if (has_foreign(lun))
		return FERRY_KEYS_FOREIGN;
	for (uint32_t i = 0; i < lun->count; i++) {
		struct ferry_key key = lun->keys[i];

		if (ferry_key_node(key).v != ferry_key_node(own).v)
			continue;
		/* Incarnations only grow; in a key they may wrap, after 4 billion starts. */
		if ((int32_t)(ferry_key_incarnation(key) - ferry_key_incarnation(own)) > 0)
			return FERRY_KEYS_NEWER;
		has_own |= key.v == own.v;
		has_elder |= key.v != own.v;
	}
	if (only_if_kept && !has_own && !has_elder)
		return FERRY_KEYS_LOST;
	return has_elder ? FERRY_KEYS_REPLACE : FERRY_KEYS_REGISTER;
}

static bool is_drained(const struct ferry_drained_keys *drained, struct ferry_key key)
{
	for (uint32_t i = 0; i < drained->count; i++)
		if (drained->keys[i].v == key.v)
			return true;
	return false;
}

enum ferry_keys_take ferry_keys_take(const struct ferry_keys *lun, struct ferry_key own,
				     const struct ferry_drained_keys *drained,
				     struct ferry_key *ret_victim)
{
	ferry_assert(lun->count <= FERRY_KEYS_MAX && drained->count <= FERRY_KEYS_MAX);
	if (has_foreign(lun))
		return FERRY_KEYS_REFUSE;
	/* Without a reservation whoever is preempted writes on: what is proven dead then is not
	 * all. */
	if (lun->holder.v == 0)
		return FERRY_KEYS_RESERVE;
	/* Older incarnations of this node's own go too. */
	for (uint32_t i = 0; i < lun->count; i++)
		if (lun->keys[i].v != own.v && !is_drained(drained, lun->keys[i])) {
			*ret_victim = lun->keys[i];
			return FERRY_KEYS_PREEMPT;
		}
	return FERRY_KEYS_ABORT;
}
