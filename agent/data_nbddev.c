/*
 * data_nbddev.c - what becomes of a device of the kernel's NBD client that an agent leaves, or has
 * left: decided here, done by the cluster thread (cluster_nbddev.c): the kernel waits for answers
 * of this one.
 */
#include <unistd.h>

#include "agent/data_internal.h"

static void say(struct data_pool *pool, bool goes_on)
{
	/* What was once to be ended is not taken up later, should the word not be out yet. */
	pool->nbddev_ends = pool->nbddev_ends || !goes_on;
	data_pool_say_soon(pool, DATA_DUE_NBDDEV);
}

void data_nbddev_show(struct data_pool *pool)
{
	if (pool->data->nbd)
		say(pool, data_may_recover(pool));
}

void data_nbddev_view(struct data_pool *pool)
{
	if (pool->data->nbd && !pool->nbddev_ends && data_is_lost(pool))
		say(pool, /* goes_on= */ false);
}

bool data_nbddev_stays(const struct data_pool *pool)
{
	const struct ferry_data *data = pool->data;

	return data->nbd && data_may_stay(pool) &&
	       ferry_nbd_server_export_clients(data->nbd, pool->config->volume) > 0;
}

void data_nbddev_hidden(struct data_pool *pool, bool stays)
{
	if (pool->data->nbd && !(stays && data_may_stay(pool)))
		say(pool, /* goes_on= */ false);
}

void data_nbddev_mail(struct data_pool *pool, const struct ferry_mail *mail)
{
	struct ferry_event failed = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_ERROR};
	struct ferry_data *data = pool->data;
	int r;

	ferry_assert(mail->fd >= 0);
	if (!data->nbd) { /* It stops: the next agent is asked. */
		(void)close(mail->fd);
		return;
	}
	r = ferry_nbd_server_adopt(data->nbd, pool->config->volume, mail->fd);
	if (r < 0)
		ferry_event_emit(&data->events, failed,
				 "volume %s: its nbd device is not served again: %s",
				 pool->config->volume, strerror(-r));
}
