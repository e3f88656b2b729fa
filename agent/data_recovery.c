/*
 * data_recovery.c - what outlives an agent: whether a device that an earlier one has left may go
 * on, and whether this one's may wait for the next. Asked for ublk and for the kernel's NBD client.
 */
#include "agent/data_internal.h"

/*
 * Whether one that bears this tenure's label may: nobody else has served the volume since. Its
 * elder's writes have to be dead by then: in a cluster each taking of a lun with reservations
 * sees to it; alone, a file or device could only be opened when the kernel had ended them, while
 * nothing tells of the iSCSI session before one's own. And a FLUSH has to cover what that agent
 * acknowledged: where that depends on the path, nobody knows by which.
 */
bool data_may_recover(const struct data_pool *pool)
{
	const struct ferry_engine_config *config = &pool->engine.config;

	if (config->flushes_by_path)
		return false;
	return pool->config->is_shared ? config->fence != NULL : pool->iscsi == NULL;
}

/* While flushes fail for what is lost: the next agent's would not. Its users hear of it. */
bool data_may_stay(const struct data_pool *pool)
{
	return !pool->engine.router.flush.is_suspect;
}

/* Another node serves the pool: what this node's last agent has left can never be served again. */
bool data_is_lost(const struct data_pool *pool)
{
	const struct ferry_view *view = &pool->view;

	return !pool->is_shown && pool->is_open && view->is_in_force &&
	       view->owner.v != pool->data->config.self.v;
}
