/* data_ublk.c - a pool's volume as a block device of the kernel's own, by the ublk driver. */
#include <stdio.h>

#include "agent/data_internal.h"

int data_ublk_open(struct ferry_data *data, struct ferry_error *reterr)
{
	struct ferry_ublk_config config = {.loop = data->loop, .events = &data->events};
	int r;

	if (!data->config.is_ublk)
		return 0;
	r = ferry_uring_commands_open(data->uring, &data->commands, reterr);
	if (r < 0)
		return r;
	config.commands = ferry_uring_commands_of(data->commands);
	return ferry_ublk_open(&config, &data->ublk, reterr);
}

static int volume_add(struct data_pool *pool, bool may_recover)
{
	struct ferry_data *data = pool->data;
	const struct ferry_ublk_volume volume = {
		.block = ferry_engine_block(&pool->engine),
		.label = {.agent = data->config.run_dir,
			  .node = data->config.self,
			  .lineage = pool->config->lineage,
			  .tenure = pool->tenure,
			  .lun = pool->engine.config.identity.uuid},
		.may_recover = may_recover,
	};
	struct ferry_event failed = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_WARNING};
	struct ferry_error error;
	int r = ferry_ublk_add(data->ublk, &volume, &error);

	if (r < 0) /* The volume is shown all the same: the other front ends have it. */
		ferry_event_emit(&data->events, failed, "%s", error.message);
	return r;
}

void data_ublk_show(struct data_pool *pool)
{
	if (pool->data->ublk && !pool->is_clearing)
		(void)volume_add(pool, data_may_recover(pool)); /* It has been said. */
}

static void cleared(void *context)
{
	struct data_pool *pool = context;

	pool->is_clearing = false;
	if (pool->is_shown && !pool->is_hiding)
		data_ublk_show(pool);
}

/* Whoever waits for what is lost has to be told. Once: later devices are this agent's own. */
void data_ublk_view(struct data_pool *pool)
{
	if (!pool->data->ublk || pool->was_cleared || !data_is_lost(pool))
		return;
	pool->was_cleared = true;
	if (volume_add(pool, /* may_recover= */ false) < 0)
		return;
	pool->is_clearing = ferry_ublk_remove(pool->data->ublk, ferry_engine_block(&pool->engine),
					      cleared, pool) == 0;
}

/* What was in flight till now may have told of a loss: then the next agent must not have it. */
static void left(void *context)
{
	struct data_pool *pool = context;

	if (data_may_stay(pool) ||
	    ferry_ublk_remove(pool->data->ublk, ferry_engine_block(&pool->engine),
			      pool->ublk_hidden, pool) < 0)
		pool->ublk_hidden(pool);
}

bool data_ublk_hide(struct data_pool *pool, bool stays, void (*done)(void *context))
{
	struct ferry_ublk *ublk = pool->data->ublk;
	struct ferry_block *block = ferry_engine_block(&pool->engine);

	if (!ublk)
		return false;
	stays = stays && data_may_stay(pool);
	pool->ublk_hidden = done;
	return (stays ? ferry_ublk_leave(ublk, block, left, pool)
		      : ferry_ublk_remove(ublk, block, done, pool)) == 0;
}

const char *data_ublk_device(const struct data_pool *pool)
{
	const struct ferry_ublk *ublk = pool->data->ublk;

	return ublk && pool->is_open ? ferry_ublk_device(ublk, &pool->engine.volume.block) : "";
}

/* ---- What the cluster thread asks for: one thing at a time. ---- */

static void on_done(int error, const char *text, void *context)
{
	struct data_pool *pool = context;

	pool->attached_error = error;
	(void)snprintf(pool->attached, sizeof(pool->attached), "%s", text);
	data_pool_say_soon(pool, DATA_DUE_ATTACHED);
}

void data_ublk_mail(struct data_pool *pool, const struct ferry_mail *mail)
{
	struct ferry_ublk *ublk = pool->data->ublk;
	struct ferry_block *block = ferry_engine_block(&pool->engine);

	if (!ublk || !pool->is_shown || pool->is_hiding)
		on_done(-ENODEV, "it is not shown just now", pool);
	else if (mail->kind == FERRY_MAIL_ATTACH)
		ferry_ublk_attach(ublk, block, on_done, pool);
	else
		ferry_ublk_detach(ublk, block, on_done, pool);
}
