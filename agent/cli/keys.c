/* keys.c - ferry keys: the registrations at the luns, and removing those that are nobody's. */
#include <inttypes.h>
#include <stdlib.h>

#include "agent/cli/cli.h"
#include "ferry.pb-c.h"

/* protoc-c's initialisers cast const away; gcc sees that they are another's code, clang doesn't. */
#pragma GCC diagnostic ignored "-Wcast-qual"

static bool is_meant(const Ferry__V1__LunKeys *lun, const char *name)
{
	return !name || strcmp(lun->pool, name) == 0 || strcmp(lun->wwid, name) == 0 ||
	       strcmp(lun->name, name) == 0;
}

/* A lun lists a key once for each nexus that registered it; removing one removes them all. */
size_t cli_key_count(const ProtobufCMessage *message, size_t index)
{
	const Ferry__V1__LunKeys *lun = (const Ferry__V1__LunKeys *)(const void *)message;
	size_t count = 0;

	ferry_assert(index < lun->n_keys);
	for (size_t i = 0; i < lun->n_keys; i++) {
		if (strcmp(lun->keys[i]->key, lun->keys[index]->key) != 0)
			continue;
		if (i < index)
			return 0;
		count++;
	}
	return count;
}

static int keys_read(const struct cli_agent *agent, Ferry__V1__KeyList **ret,
		     struct ferry_error *reterr)
{
	Ferry__V1__ListKeysRequest request = FERRY__V1__LIST_KEYS_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	int r;

	r = cli_call(agent, "ListKeys", &request.base, &ferry__v1__key_list__descriptor, &message,
		     reterr);
	if (r == 0)
		*ret = (Ferry__V1__KeyList *)message;
	return r;
}

/* The list as it is, or the luns that are meant; these stay @list's. */
static int keys_print(const struct cli_agent *agent, const Ferry__V1__KeyList *list,
		      struct ferry_error *reterr)
{
	Ferry__V1__KeyList shown = *list;
	const char *name = agent->options->arguments[0];

	shown.n_luns = 0;
	shown.luns = calloc(list->n_luns + 1, sizeof(list->luns[0]));
	if (!shown.luns)
		return ferry_error_set(reterr, -ENOMEM, "no memory");
	for (size_t i = 0; i < list->n_luns; i++)
		if (is_meant(list->luns[i], name))
			shown.luns[shown.n_luns++] = list->luns[i];
	if (shown.n_luns > 0 || !name)
		cli_print(agent, &shown.base, cli_show_keys);
	free(shown.luns);
	if (shown.n_luns == 0 && name)
		return ferry_error_set(reterr, -ENOENT, "no such pool or lun on this node: %s",
				       name);
	return 0;
}

static bool is_foreign(const Ferry__V1__Key *key)
{
	return key->state == FERRY__V1__KEY_STATE__KEY_STATE_FOREIGN;
}

static bool is_to_go(const Ferry__V1__Key *key, bool wants_foreign)
{
	return wants_foreign ? is_foreign(key) : key->stale != 0;
}

static size_t count_of(const Ferry__V1__LunKeys *lun, bool wants_foreign)
{
	size_t count = 0;

	for (size_t i = 0; i < lun->n_keys; i++)
		count += is_to_go(lun->keys[i], wants_foreign);
	return count;
}

/* What exactly will be lost. */
static void victims_print(const Ferry__V1__LunKeys *lun, bool wants_foreign)
{
	char pool[CLI_CELL_BYTES], wwid[CLI_CELL_BYTES], name[CLI_CELL_BYTES];

	cli_clean(pool, sizeof(pool), lun->pool);
	cli_clean(wwid, sizeof(wwid), lun->wwid);
	fprintf(stderr,
		wants_foreign
			? "Of pool %s, lun %s, these registrations are NOT Ferry's: somebody "
			  "else uses the lun, or did.\nThey are removed, and what came by them is "
			  "aborted:\n"
			: "Of pool %s, lun %s, these registrations are removed, and what came by "
			  "them is aborted:\n",
		pool, wwid);
	for (size_t i = 0; i < lun->n_keys; i++) {
		const Ferry__V1__Key *key = lun->keys[i];
		const char *held = key->holder ? "; it holds the reservation" : "";
		size_t count = cli_key_count(&lun->base, i);
		char times[32] = "";

		if (!is_to_go(key, wants_foreign) || count == 0)
			continue;
		if (count > 1)
			(void)snprintf(times, sizeof(times), " x%zu", count);
		cli_clean(name, sizeof(name), key->node_name);
		if (wants_foreign)
			fprintf(stderr, "  %s%s%s\n", key->key, times, held);
		else
			fprintf(stderr,
				"  %s%s  node %" PRIu32 " (%s), incarnation %" PRIu64 ": %s%s\n",
				key->key, times, key->node,
				name[0] ? name : "not in corosync's node list", key->incarnation,
				key->state == FERRY__V1__KEY_STATE__KEY_STATE_OLDER
					? "an earlier agent's"
					: "no agent of that node is in the group",
				held);
	}
	fprintf(stderr, wants_foreign
				? "Whoever it is cannot write any more, at once, whatever it was "
				  "writing.\n"
				: "Should such a node still run, its applications cannot write any "
				  "more.\n");
}

static int key_clean(const struct cli_agent *agent, const Ferry__V1__LunKeys *lun,
		     const Ferry__V1__Key *key, struct ferry_error *reterr)
{
	Ferry__V1__CleanKeyRequest request = FERRY__V1__CLEAN_KEY_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	int r;

	request.pool = lun->pool;
	request.key = key->key;
	request.foreign = is_foreign(key);
	r = cli_call(agent, "CleanKey", &request.base, &ferry__v1__clean_key_reply__descriptor,
		     &message, reterr);
	if (r == -ENOENT)
		return 0; /* Gone meanwhile, which is what was asked for. */
	if (r < 0)
		return r;
	protobuf_c_message_free_unpacked(message, NULL);
	return 0;
}

/* Ask for those of one kind, then remove them. */
static int lun_clean(const struct cli_agent *agent, const Ferry__V1__LunKeys *lun,
		     bool wants_foreign, struct ferry_error *reterr)
{
	char question[CLI_CELL_BYTES];
	int r;

	if (count_of(lun, wants_foreign) == 0)
		return 0;
	victims_print(lun, wants_foreign);
	(void)snprintf(question, sizeof(question),
		       wants_foreign ? "Type the pool's name to go on:" : "Type yes to go on:");
	r = cli_ask(agent->options, question, wants_foreign ? lun->pool : "yes", reterr);
	for (size_t i = 0; i < lun->n_keys && r == 0; i++)
		if (is_to_go(lun->keys[i], wants_foreign) && cli_key_count(&lun->base, i) > 0)
			r = key_clean(agent, lun, lun->keys[i], reterr);
	return r;
}

/* Whether this node can tell whose registrations are in use; if not, none looks stale. */
static int clean_check(const struct cli_agent *agent, struct ferry_error *reterr)
{
	struct cli_standing standing;
	int r;

	r = cli_standing_get(agent, &standing, reterr);
	if (r < 0)
		return r;
	if (standing.is_alone)
		return ferry_error_set(reterr, -EPERM,
				       "this agent stands alone: it removes no registrations");
	return cli_quorum_check(&standing,
				"this node cannot tell whose registrations are in use, and removes "
				"none",
				reterr);
}

/* @ret_count grows by the registrations that were to go. */
static int lun_clean_all(const struct cli_agent *agent, const Ferry__V1__LunKeys *lun,
			 size_t *ret_count, struct ferry_error *reterr)
{
	int r = 0;

	if (!lun->readable)
		return ferry_error_set(reterr, -EIO, "the keys cannot be read: %s", lun->reason);
	*ret_count += count_of(lun, false);
	/* Foreign ones first: while they are there this node is not registered itself. */
	if (agent->options->is_foreign) {
		*ret_count += count_of(lun, true);
		r = lun_clean(agent, lun, /* wants_foreign= */ true, reterr);
	} else if (count_of(lun, true) > 0) {
		fprintf(stderr, "ferry: foreign registrations stay (--foreign)\n");
	}
	return r < 0 ? r : lun_clean(agent, lun, /* wants_foreign= */ false, reterr);
}

static int pool_clean(const struct cli_agent *agent, const Ferry__V1__KeyList *list,
		      struct ferry_error *reterr)
{
	const char *name = agent->options->arguments[0];
	char clean[CLI_CELL_BYTES];
	size_t count = 0;
	bool is_found = false;
	int r;

	for (size_t i = 0; i < list->n_luns; i++)
		is_found |= is_meant(list->luns[i], name);
	if (!is_found)
		return ferry_error_set(reterr, -ENOENT, "no such pool or lun on this node: %s",
				       name);
	r = clean_check(agent, reterr);
	for (size_t i = 0; i < list->n_luns && r == 0; i++)
		if (is_meant(list->luns[i], name))
			r = lun_clean_all(agent, list->luns[i], &count, reterr);
	if (r < 0 || count > 0)
		return r;
	cli_clean(clean, sizeof(clean), name);
	fprintf(stderr, "ferry: nothing to remove: no registration of %s is stale%s\n", clean,
		agent->options->is_foreign ? " or foreign" : "");
	return 0;
}

int cli_keys(const struct cli_agent *agent, struct ferry_error *reterr)
{
	const struct cli_options *options = agent->options;
	Ferry__V1__KeyList *list = NULL;
	int r;

	if (options->is_clean && !options->arguments[0])
		return ferry_error_set(reterr, -EINVAL, "--clean wants a POOL");
	if (options->is_foreign && !options->is_clean)
		return ferry_error_set(reterr, -EINVAL, "--foreign is for --clean");
	if (options->is_yes && !options->is_clean)
		return ferry_error_set(reterr, -EINVAL, "--yes is for --clean");
	r = keys_read(agent, &list, reterr);
	if (r == 0 && options->is_clean) {
		r = pool_clean(agent, list, reterr);
		ferry__v1__key_list__free_unpacked(TAKE_PTR(list), NULL);
		if (r == 0)
			r = keys_read(agent, &list, reterr);
	}
	if (r == 0)
		r = keys_print(agent, list, reterr);
	if (list)
		ferry__v1__key_list__free_unpacked(list, NULL);
	return r;
}
