/*
 * ownership_epoch.c - stable storage: an epoch is on the disk before it is acknowledged (rule 12).
 */
#include "fencing/ownership_private.h"

#include <stdio.h>

#include "agent/base/museum.h"
#include "proto/stored.h"

static void store_key(const struct ferry_ownership *ownership, char ret[64])
{
	(void)snprintf(ret, 64, "pool.%s.epoch", ownership->config.pool);
}

/* @owner: this node, while it owns the pool under @epoch; else nobody. */
static int epoch_save(struct ferry_ownership *ownership, struct ferry_epoch epoch,
		      struct ferry_node owner)
{
	uint8_t bytes[FERRY_STORED_EPOCH_BYTES];
	struct ferry_store *store = ownership->config.store;
	struct ferry_stored_epoch stored = {
		.lineage = ownership->config.lineage,
		.epoch = epoch,
		.owner = owner,
		.settled = {ferry_min_u64(ownership->settled.v, epoch.v)},
		.tenure = ownership->tenure,
		.tenure_last = ownership->tenure_last,
	};
	char key[64];

	store_key(ownership, key);
	ferry_stored_epoch_encode(&stored, bytes);
	return store->ops->save(store, key, bytes, sizeof(bytes));
}

int ferry_ownership_epoch_load(struct ferry_ownership *ownership, struct ferry_error *reterr)
{
	uint8_t bytes[FERRY_STORE_VALUE_BYTES_MAX];
	struct ferry_store *store = ownership->config.store;
	struct ferry_stored_epoch stored;
	char key[64];
	int r;

	store_key(ownership, key);
	r = store->ops->load(store, key, bytes, sizeof(bytes));
	if (r == -ENOENT)
		return 0; /* This node has never heard of the pool. */
	if (r >= 0)
		r = ferry_stored_epoch_decode(bytes, (size_t)r, &stored);
	if (r < 0)
		return ferry_error_set(reterr, r,
				       "pool %s: the stored epoch cannot be read or is damaged; "
				       "this node must not vote: restore the state directory from "
				       "a backup, or remove the file to join as a new node",
				       ownership->config.pool);
	if (!ferry_uuid_equal(&stored.lineage, &ownership->config.lineage))
		return ferry_error_set(reterr, -EBADMSG,
				       "pool %s: the stored epoch is another lineage's",
				       ownership->config.pool);
	ownership->view.epoch = stored.epoch;
	/* Nobody owns it now: this agent has just started. It may ask for what was this node's. */
	ownership->was_owner = stored.owner.v == ferry_ownership_self(ownership).v;
	ownership->settled = stored.settled;
	ownership->tenure = stored.tenure;
	ownership->tenure_last = stored.tenure_last;
	return 0;
}

bool ferry_ownership_epoch_install(struct ferry_ownership *ownership, struct ferry_epoch epoch,
				   struct ferry_node owner, bool is_in_force)
{
	int r;

	ferry_assert(epoch.v >= ownership->view.epoch.v);
	ownership->was_owner = false;
	r = FERRY_MUSEUM(ACK_UNSAVED) ? 0 : epoch_save(ownership, epoch, (struct ferry_node){0});
	if (r < 0) {
		ownership->store_failed = true;
		ferry_ownership_emit(ownership, FERRY_EVENT_ADMIN, FERRY_SEVERITY_ERROR,
				     "an epoch could not be saved: this node acknowledges nothing");
		/* But it has heard of it: nobody owns by the older one any more, here too. */
		ownership->view.owner.v = 0;
		ownership->view.is_in_force = false;
		ferry_ownership_view_publish(ownership);
		return false;
	}
	ownership->store_failed = false;
	ownership->view.epoch = epoch;
	ownership->view.owner = owner;
	ownership->view.is_in_force = is_in_force;
	return true;
}

/*
 * Each change of owner takes a number, and only one of a number comes into force: nobody else has
 * owned the pool in between if this epoch is the very next. By a person's word it may have been
 * taken without those who know the newest one, whose number may be the same.
 */
static void tenure_extend(struct ferry_ownership *ownership)
{
	struct ferry_epoch epoch = ownership->view.epoch;

	if (ownership->tenure_last.v == 0 || epoch.v > ownership->tenure_last.v + 1 ||
	    ownership->is_forced)
		ownership->tenure = epoch;
	ownership->tenure_last = epoch;
}

void ferry_ownership_owner_save(struct ferry_ownership *ownership, struct ferry_node owner)
{
	if (owner.v != 0)
		tenure_extend(ownership);
	if (epoch_save(ownership, ownership->view.epoch, owner) < 0)
		ferry_ownership_emit(ownership, FERRY_EVENT_ADMIN, FERRY_SEVERITY_WARNING,
				     "who owns the pool could not be saved: going on");
}
