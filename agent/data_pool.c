/* data_pool.c - one pool on the data thread: its lun, its engine, and what applications see. */
#include <stdio.h>
#include <sys/mman.h>

#include "agent/data_internal.h"

enum { INFLIGHT_MAX = 512 };
#define USERS_PATIENCE_NS (FERRY_NS_PER_S)
#define USERS_LOOK_NS (50 * FERRY_NS_PER_MS)

void data_pool_say_soon(struct data_pool *pool, uint32_t what)
{
	pool->due |= what;
	data_say_later(pool->data);
}

/* ---- The engine's reports. ---- */

static struct data_pool *pool_of(struct ferry_engine *engine)
{
	return engine->config.context;
}

static void on_verdict(struct ferry_engine *engine, enum ferry_verdict verdict)
{
	struct data_pool *pool = pool_of(engine);

	pool->verdict = verdict;
	data_pool_say_soon(pool, DATA_DUE_VERDICT);
}

static void on_health(struct ferry_engine *engine, bool has_path)
{
	struct data_pool *pool = pool_of(engine);

	pool->has_path = has_path;
	data_pool_say_soon(pool, DATA_DUE_HEALTH);
}

static void on_drained(struct ferry_engine *engine, struct ferry_epoch epoch)
{
	struct data_pool *pool = pool_of(engine);

	pool->drained = epoch;
	data_pool_say_soon(pool, DATA_DUE_DRAINED);
}

void data_pool_taken(struct data_pool *pool, int error)
{
	pool->taken_error = error;
	data_pool_say_soon(pool, DATA_DUE_TAKEN);
}

static void on_ask(struct ferry_engine *engine, uint64_t word)
{
	struct data_pool *pool = pool_of(engine);

	pool->word_asked = word;
	data_pool_say_soon(pool, DATA_DUE_ASK);
}

static uint64_t heard_ns(struct ferry_engine *engine)
{
	struct data_pool *pool = pool_of(engine);

	return atomic_load(&pool->data->config.mailbox->cluster_ran_ns);
}

static void on_witness(struct ferry_engine *engine, uint64_t number)
{
	struct data_pool *pool = pool_of(engine);

	pool->witness = number;
	data_pool_say_soon(pool, DATA_DUE_WITNESS);
}

static void on_noted(struct ferry_engine *engine, uint64_t restarts)
{
	struct data_pool *pool = pool_of(engine);

	pool->restarts = restarts;
	data_pool_say_soon(pool, DATA_DUE_NOTED);
}

static void on_preempted(struct ferry_engine *engine)
{
	data_pool_say_soon(pool_of(engine), DATA_DUE_PREEMPTED);
}

static void on_taken(struct ferry_engine *engine, int error)
{
	data_cache_taken(pool_of(engine), error);
}

bool data_pool_say(struct data_pool *pool)
{
	static const enum ferry_mail_kind kinds[] = {
		FERRY_MAIL_OPENED,  FERRY_MAIL_DRAINED,	  FERRY_MAIL_TAKEN,	FERRY_MAIL_HEALTH,
		FERRY_MAIL_VERDICT, FERRY_MAIL_NBDDEV,	  FERRY_MAIL_SHOWN,	FERRY_MAIL_HIDDEN,
		FERRY_MAIL_ASK,	    FERRY_MAIL_KEYS_READ, FERRY_MAIL_PREEMPTED, FERRY_MAIL_WITNESS,
		FERRY_MAIL_NOTED,   FERRY_MAIL_ATTACHED,
	};

	for (uint32_t i = 0; i < FERRY_ARRAY_COUNT(kinds); i++) {
		struct ferry_mail mail = {.kind = kinds[i], .pool = pool->index};

		if (!(pool->due & 1u << i))
			continue;
		if (kinds[i] == FERRY_MAIL_OPENED) {
			mail.identity = pool->engine.config.identity;
			mail.flag = pool->engine.config.fence != NULL;
		} else if (kinds[i] == FERRY_MAIL_DRAINED) {
			mail.epoch = pool->drained;
		} else if (kinds[i] == FERRY_MAIL_ASK) {
			mail.count = pool->word_asked;
		} else if (kinds[i] == FERRY_MAIL_WITNESS) {
			mail.count = pool->witness;
		} else if (kinds[i] == FERRY_MAIL_NOTED) {
			mail.count = pool->restarts;
		} else if (kinds[i] == FERRY_MAIL_TAKEN) {
			mail.error = pool->taken_error;
			mail.epoch = pool->taking;
		} else if (kinds[i] == FERRY_MAIL_HEALTH) {
			mail.flag = pool->has_path;
		} else if (kinds[i] == FERRY_MAIL_VERDICT) {
			mail.verdict = pool->verdict;
		} else if (kinds[i] == FERRY_MAIL_SHOWN) {
			mail.error = pool->shown_error;
		} else if (kinds[i] == FERRY_MAIL_HIDDEN) {
			mail.error = pool->hidden_error;
			mail.users = pool->users;
		} else if (kinds[i] == FERRY_MAIL_KEYS_READ) {
			mail.keys = pool->keys;
			mail.error = pool->keys_error;
		} else if (kinds[i] == FERRY_MAIL_ATTACHED) {
			memcpy(mail.text, pool->attached, sizeof(mail.text));
			mail.error = pool->attached_error;
		} else if (kinds[i] == FERRY_MAIL_NBDDEV) {
			mail.flag = !pool->nbddev_ends;
		}
		if (ferry_mail_to_cluster(pool->data->config.mailbox, &mail) < 0)
			return false;
		pool->due &= ~(1u << i);
	}
	return true;
}

/* ---- Opening. ---- */

/* On a scratch pool the lane sees the filter, which hands on what it does not keep. */
static int fault_open(struct data_pool *pool, struct ferry_region *region,
		      struct ferry_engine_config *config)
{
	int r;

	if (!pool->config->is_scratch)
		return 0;
	r = ferry_fault_init(&pool->fault, region, pool->path, config->loop,
			     /* can_lay= */ config->fence != NULL);
	if (r < 0)
		return r;
	pool->has_fault = true;
	config->path = &pool->fault.path;
	return 0;
}

/*
 * Alone there is one path. After a target's own session may come one to a target that was restarted
 * in between, which no registration tells of: what it had not flushed is written anew. A device is
 * the same again, its cache the kernel's.
 */
static bool flushes_by_path(const struct data_pool *pool, const struct ferry_lun_identity *identity)
{
	if (!pool->config->is_shared)
		return pool->iscsi && identity->has_volatile_cache;
	if (pool->config->lun.flush_scope != 0)
		return pool->config->lun.flush_scope == FERRY_FLUSH_SCOPE_PATH;
	return identity->is_cached_by_node;
}

static int engine_open(struct data_pool *pool, const struct ferry_lun_identity *identity,
		       struct ferry_fence *fence, struct ferry_error *reterr)
{
	struct ferry_data *data = pool->data;
	struct ferry_engine_config config = {
		.loop = data->loop,
		.arena = &data->arena,
		.events = &data->events,
		.self = data->config.self,
		.incarnation = data->config.incarnation,
		.lineage = pool->config->lineage,
		.identity = *identity,
		.path = pool->path,
		.fence = pool->config->is_shared ? fence : NULL,
		.resetter = pool->config->is_shared ? NULL : fence,
		.carrier = data->config.cluster ? &data->carrier : NULL,
		.is_read_only = pool->config->is_read_only,
		.flushes_by_path = flushes_by_path(pool, identity),
		.resets_keep_cache = pool->iscsi && ferry_iscsi_lays_by_reset(pool->iscsi),
		.aborts_may_reset = fence && ferry_laying_may_reset(fence->ability.laying),
		.inflight_max = INFLIGHT_MAX,
		.path_timeout_ns = data->config.path_timeout_ns,
		.hold_timeout_ns = data->config.hold_timeout_ns,
		.convict_failures = pool->config->convict_failures,
		.convict_window_ns = pool->config->convict_window_ns,
		.seed = data->config.incarnation.v * 31 + pool->index,
		.on_verdict = on_verdict,
		.on_health = on_health,
		.on_drained = on_drained,
		.on_taken = on_taken,
		.on_ask = data->config.cluster ? on_ask : NULL,
		.heard_ns = heard_ns,
		.on_witness = data->config.cluster ? on_witness : NULL,
		.on_noted = on_noted,
		.on_preempted = on_preempted,
		.on_warm = data_cache_on_warm,
		.context = pool,
	};
	struct ferry_region region;
	int r;

	(void)snprintf(config.pool, sizeof(config.pool), "%s", pool->config->name);
	(void)snprintf(config.volume, sizeof(config.volume), "%s", pool->config->volume);
	data_cache_open(pool, &config);
	pool->memory_bytes = ferry_engine_memory_bytes(&config) + ferry_fault_memory_bytes();
	pool->memory = mmap(NULL, pool->memory_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (pool->memory == MAP_FAILED) {
		pool->memory = NULL;
		return ferry_error_set(reterr, -ENOMEM, "pool %s: no memory for its tables",
				       pool->config->name);
	}
	ferry_region_init(&region, pool->memory, pool->memory_bytes);
	r = fault_open(pool, &region, &config);
	if (r == 0)
		r = ferry_engine_open(&pool->engine, &region, &config);
	if (r == 0)
		r = data_peers_join(pool);
	if (r < 0)
		return ferry_error_set(reterr, r, "pool %s cannot be opened: %s",
				       pool->config->name, strerror(-r));
	pool->is_open = true;
	data_cache_opened(pool);
	if (pool->has_view)
		ferry_engine_set_view(&pool->engine, &pool->view);
	data_ublk_view(pool);
	data_nbddev_view(pool);
	data_pool_say_soon(pool, DATA_DUE_OPENED);
	return 0;
}

int data_pool_lun_open(struct data_pool *pool, struct ferry_error *reterr)
{
	bool has_sgio = pool->sgio && pool->config->is_shared;

	ferry_assert(!pool->is_open);
	if (pool->iscsi)
		return engine_open(pool, ferry_iscsi_identity(pool->iscsi),
				   ferry_iscsi_fence(pool->iscsi), reterr);
	return engine_open(pool, ferry_device_identity(pool->device),
			   has_sgio ? ferry_sgio_fence(pool->sgio) : NULL, reterr);
}

static void sgio_attention(uint8_t asc, uint8_t ascq, void *context)
{
	struct data_pool *pool = context;

	if (pool->is_open)
		ferry_engine_unit_attention(&pool->engine, asc, ascq);
}

/* The reservations of a device that others may use. Without any, the pool is of that class. */
static int sgio_open(struct data_pool *pool, struct ferry_error *reterr)
{
	struct ferry_sgio_config config = {
		.loop = pool->data->loop,
		.path = pool->config->lun.file,
		.laying = pool->config->lun.laying,
		.quiesce_time_ns = pool->config->lun.quiesce_time_ns,
		.on_unit_attention = sgio_attention,
		.context = pool,
	};
	struct ferry_event note = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_WARNING};
	struct ferry_error why;
	int r;

	r = ferry_sgio_open(&config, &pool->sgio, &why);
	if (r == -EOPNOTSUPP && !pool->config->is_shared)
		return 0; /* Alone nobody has to be kept out. */
	if (r == -EOPNOTSUPP) {
		ferry_event_emit(&pool->data->events, note, "pool %s has no reservations: %s",
				 pool->config->name, why.message);
		return 0;
	}
	return r < 0 ? ferry_error_set(reterr, r, "pool %s: %s", pool->config->name, why.message)
		     : 0;
}

/* Where the kernel has to flush, its word that a flush failed is taken for a loss. */
static int flusher_open(struct data_pool *pool, struct ferry_error *reterr)
{
	struct ferry_sgio_flusher_config config = {
		.loop = pool->data->loop,
		.fd = ferry_device_descriptor(pool->device),
		.on_unit_attention = sgio_attention,
		.context = pool,
	};
	struct ferry_error why;
	int r;

	if (!ferry_device_identity(pool->device)->has_volatile_cache)
		return 0;
	r = ferry_sgio_flusher_open(&config, &pool->flusher, &why);
	if (r == -EOPNOTSUPP)
		return 0;
	if (r < 0)
		return ferry_error_set(reterr, r, "pool %s: %s", pool->config->name, why.message);
	ferry_device_flush_by(pool->device, ferry_sgio_flusher_port(pool->flusher));
	return 0;
}

static void uevent_reset(void *context)
{
	struct data_pool *pool = context;

	if (pool->is_open)
		ferry_engine_maybe_reset(&pool->engine);
}

/* Without reservations there is nothing by which a hint could be verified. */
static void uevent_open(struct data_pool *pool)
{
	struct ferry_uevent_config config = {
		.loop = pool->data->loop,
		.path = pool->config->lun.file,
		.on_reset = uevent_reset,
		.context = pool,
	};
	struct ferry_event note = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_WARNING};
	struct ferry_error why;

	if (pool->sgio && ferry_uevent_open(&config, &pool->uevent, &why) < 0)
		ferry_event_emit(&pool->data->events, note,
				 "pool %s: a restart of the target may go unnoticed: %s",
				 pool->config->name, why.message);
}

static int device_open(struct data_pool *pool, struct ferry_error *reterr)
{
	struct ferry_device_config config = {
		.path = pool->config->lun.file,
		.node = pool->data->config.self,
		.block_bytes = pool->config->lun.block_bytes,
	};
	struct ferry_event note = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_WARNING};
	int r;

	r = ferry_device_open(pool->data->uring, &config, &pool->device, reterr);
	if (r < 0)
		return r;
	if (ferry_device_note(pool->device))
		ferry_event_emit(&pool->data->events, note, "%s", ferry_device_note(pool->device));
	pool->path = ferry_device_path(pool->device);
	r = flusher_open(pool, reterr);
	if (r < 0)
		return r;
	if (pool->config->is_shared || !pool->config->ignores_registrations) {
		r = sgio_open(pool, reterr);
		if (r < 0)
			return r;
		uevent_open(pool);
	}
	if (data_guard_begin(pool, pool->sgio ? ferry_sgio_fence(pool->sgio) : NULL))
		return 0;
	return data_pool_lun_open(pool, reterr);
}

/* The lun answers for the first time: now it is known what it is. */
static void iscsi_state(struct ferry_path *path, bool is_up, enum ferry_cause cause)
{
	struct data_pool *pool = path->context;
	struct ferry_event failed = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_ERROR};
	struct ferry_error error;

	(void)cause;
	if (!is_up || pool->is_open || data_guard_begin(pool, ferry_iscsi_fence(pool->iscsi)))
		return;
	if (data_pool_lun_open(pool, &error) < 0)
		ferry_event_emit(&pool->data->events, failed, "%s", error.message);
}

static void iscsi_attention(struct ferry_path *path, struct ferry_iscsi_unit_attention seen)
{
	const struct ferry_path *outermost = ferry_fault_outermost(path);
	const struct ferry_lane *lane = outermost->context;
	struct ferry_router *router;
	struct ferry_engine *engine;

	if (seen.when != FERRY_ISCSI_AT_IO)
		return; /* Each new session has some; and our own reset is our own doing. */
	if (outermost->on_state == iscsi_state)
		return; /* The path is the pool's still, not a lane's: nothing is served yet. */
	router = lane->config.context;
	engine = FERRY_CONTAINER_OF(router, struct ferry_engine, router);
	ferry_engine_unit_attention(engine, seen.asc, seen.ascq);
}

static int iscsi_open(struct data_pool *pool, struct ferry_error *reterr)
{
	const struct ferry_data_lun *lun = &pool->config->lun;
	struct ferry_iscsi_config config = {
		.loop = pool->data->loop,
		.events = &pool->data->events,
		.node = pool->data->config.self,
		.portal = lun->iscsi_portal,
		.target = lun->iscsi_target,
		.lun = lun->iscsi_lun,
		.initiator = lun->iscsi_initiator,
		.user = lun->chap_user,
		.password = lun->chap_password,
		.laying = lun->laying,
		.quiesce_time_ns = lun->quiesce_time_ns,
		.isid_qualifier = (uint16_t)(pool->index + 1),
		.idle_timeout_ns = pool->data->config.path_timeout_ns,
		.is_shared = pool->config->is_shared,
		.on_state = iscsi_state,
		.on_unit_attention = iscsi_attention,
		.context = pool,
	};
	int r;

	if (lun->wwid)
		(void)snprintf(config.expect.wwid, sizeof(config.expect.wwid), "%s", lun->wwid);
	config.expect.block_bytes = lun->block_bytes;
	r = ferry_iscsi_open(&config, &pool->iscsi, reterr);
	if (r < 0)
		return r;
	pool->path = ferry_iscsi_path(pool->iscsi);
	return 0;
}

int data_pool_open(struct data_pool *pool, struct ferry_error *reterr)
{
	ferry_assert(pool->config->lun.file || pool->config->lun.iscsi_target);
	if (pool->config->lun.file)
		return device_open(pool, reterr);
	return iscsi_open(pool, reterr);
}

/* ---- What applications see. ---- */

static void hidden(struct data_pool *pool)
{
	pool->is_hiding = false;
	pool->is_shown = false;
	pool->hidden_error = 0;
	data_nbddev_hidden(pool, pool->stays);
	data_pool_say_soon(pool, DATA_DUE_HIDDEN);
}

static void flushed(struct ferry_io *io, int error)
{
	struct data_pool *pool = io->context;
	struct ferry_event failed = {.kind = FERRY_EVENT_HANDOVER,
				     .severity = FERRY_SEVERITY_ERROR};

	if (error < 0)
		ferry_event_emit(&pool->data->events, failed,
				 "pool %s: what was written last could not be flushed before it "
				 "was given up: %s",
				 pool->config->name, strerror(-error));
	hidden(pool);
}

/* The front ends have let go one by one; the last thing is a flush. */
static void hide_done(void *context)
{
	struct data_pool *pool = context;

	ferry_assert(pool->hides_left > 0);
	if (--pool->hides_left > 0)
		return;
	if (pool->leaves_device) { /* Were it to fail, the next agent's would not (rule 11). */
		hidden(pool);
		return;
	}
	pool->flush = (struct ferry_io){.op = FERRY_OP_FLUSH, .on_done = flushed, .context = pool};
	if (!pool->is_shown || !pool->is_open || !pool->engine.router.is_open ||
	    ferry_block_submit(ferry_engine_block(&pool->engine), &pool->flush) < 0)
		hidden(pool); /* It was not this node's to flush. */
}

static void pool_hide(struct data_pool *pool, bool stays)
{
	struct ferry_data *data = pool->data;

	if (pool->is_hiding)
		return;
	pool->is_hiding = true;
	pool->stays = stays;
	pool->leaves_device = stays && data_may_stay(pool) &&
			      (data_ublk_device(pool)[0] || data_nbddev_stays(pool));
	pool->hides_left = 1;
	if (pool->is_shown && data->nbd &&
	    ferry_nbd_server_export_remove(data->nbd, pool->config->volume, hide_done, pool) == 0)
		pool->hides_left++;
	if (pool->is_shown && data->fuse &&
	    ferry_fuse_remove(data->fuse, ferry_engine_block(&pool->engine), hide_done, pool) == 0)
		pool->hides_left++;
	if (pool->is_shown && data_ublk_hide(pool, stays, hide_done))
		pool->hides_left++;
	hide_done(pool);
}

static struct ferry_users users_of(const struct data_pool *pool)
{
	const struct ferry_data *data = pool->data;
	struct ferry_users users = {0};

	if (!pool->is_shown || !pool->is_open)
		return users;
	if (data->nbd)
		users.clients = ferry_nbd_server_export_clients(data->nbd, pool->config->volume);
	if (data->fuse)
		users.opens = ferry_fuse_opens(data->fuse, &pool->engine.volume.block);
	if (data_ublk_device(pool)[0]) /* Who has it open only the kernel knows. */
		users.opens++;
	return users;
}

/* Who has just left may still be counted for a moment: a loop device's file is closed later. */
static void users_look(struct ferry_timer *timer)
{
	struct data_pool *pool = FERRY_CONTAINER_OF(timer, struct data_pool, users_timer);
	struct ferry_loop *loop = pool->data->loop;

	pool->users = users_of(pool);
	if (pool->users.clients + pool->users.opens == 0) {
		pool_hide(pool, /* stays= */ false);
	} else if (ferry_loop_now_ns(loop) < pool->users_deadline_ns) {
		ferry_timer_start_in(loop, timer, USERS_LOOK_NS);
	} else {
		pool->hidden_error = -EBUSY;
		data_pool_say_soon(pool, DATA_DUE_HIDDEN);
	}
}

static void pool_hide_unused(struct data_pool *pool)
{
	pool->users_timer.run = users_look;
	pool->users_deadline_ns = ferry_loop_now_ns(pool->data->loop) + USERS_PATIENCE_NS;
	users_look(&pool->users_timer);
}

static void pool_hide_asked(struct data_pool *pool, const struct ferry_mail *mail)
{
	ferry_timer_stop(pool->data->loop, &pool->users_timer);
	if (mail->flag)
		pool_hide_unused(pool);
	else
		pool_hide(pool, mail->count != 0);
}

static int pool_show(struct data_pool *pool, struct ferry_epoch tenure, struct ferry_error *reterr)
{
	struct ferry_data *data = pool->data;
	struct ferry_block *block;
	int r = 0;

	if (!pool->is_open)
		return ferry_error_set(reterr, -ENXIO, "pool %s: its lun has not answered yet",
				       pool->config->name);
	if (pool->is_hiding)
		return ferry_error_set(reterr, -EBUSY, "pool %s is just being withdrawn",
				       pool->config->name);
	if (pool->is_shown)
		return 0;
	pool->tenure = tenure;
	block = ferry_engine_block(&pool->engine);
	if (data->nbd) {
		struct ferry_nbd_export export = {.name = pool->config->volume,
						  .block = block,
						  .is_default = pool->index == 0,
						  .is_read_only = pool->config->is_read_only};

		r = ferry_nbd_server_export_add(data->nbd, &export, reterr);
	}
	if (r == 0 && data->fuse)
		r = ferry_fuse_add(data->fuse, block, reterr);
	if (r == 0)
		data_ublk_show(pool);
	if (r == 0)
		data_nbddev_show(pool);
	pool->is_shown = true; /* Also half: hiding takes all back. */
	if (r < 0)
		pool_hide(pool, /* stays= */ false);
	return r;
}

static void pool_show_and_say(struct data_pool *pool, struct ferry_epoch tenure)
{
	struct ferry_event failed = {.kind = FERRY_EVENT_ADMIN, .severity = FERRY_SEVERITY_ERROR};
	struct ferry_error error;

	pool->shown_error = pool_show(pool, tenure, &error);
	if (pool->shown_error < 0)
		ferry_event_emit(&pool->data->events, failed, "%s", error.message);
	data_pool_say_soon(pool, DATA_DUE_SHOWN);
}

/* Whatever an older taking has come to, or still waits for, is no answer to this one. */
static void pool_take(struct data_pool *pool, const struct ferry_drained_keys *drained)
{
	pool->taking = pool->view.epoch;
	pool->due &= ~(uint32_t)DATA_DUE_TAKEN;
	if (pool->has_pull)
		ferry_pull_stop(&pool->pull);
	if (!pool->is_open) {
		data_pool_taken(pool, -ENXIO);
		return;
	}
	pool->drained_keys = *drained;
	ferry_engine_take(&pool->engine, drained);
}

void data_pool_mail(struct data_pool *pool, const struct ferry_mail *mail)
{
	switch (mail->kind) {
	case FERRY_MAIL_VIEW:
		pool->view = mail->view;
		pool->has_view = true;
		if (pool->is_open)
			ferry_engine_set_view(&pool->engine, &mail->view);
		data_ublk_view(pool);
		data_nbddev_view(pool);
		break;
	case FERRY_MAIL_TAKE:
		pool_take(pool, &mail->drained);
		break;
	case FERRY_MAIL_PEER_PATH:
		if (pool->is_open)
			ferry_engine_set_peer_has_path(&pool->engine, mail->node, mail->flag);
		break;
	case FERRY_MAIL_SHOW:
		pool_show_and_say(pool, mail->epoch);
		break;
	case FERRY_MAIL_HIDE:
		pool_hide_asked(pool, mail);
		break;
	case FERRY_MAIL_ATTACH:
	case FERRY_MAIL_DETACH:
		data_ublk_mail(pool, mail);
		break;
	case FERRY_MAIL_ADOPT:
		data_nbddev_mail(pool, mail);
		break;
	case FERRY_MAIL_FAIL:
		if (pool->is_open)
			ferry_router_fail_waiting(&pool->engine.router, -ESHUTDOWN);
		break;
	case FERRY_MAIL_KEYS:
		data_keys_mail(pool, mail);
		break;
	case FERRY_MAIL_CLEAR:
		if (pool->is_open)
			ferry_router_clear_suspect(&pool->engine.router);
		break;
	case FERRY_MAIL_FAULT:
		if (pool->has_fault)
			ferry_fault_arm(&pool->fault, &mail->plan);
		break;
	case FERRY_MAIL_PEER:
	case FERRY_MAIL_SNAPSHOT:
	case FERRY_MAIL_STOP:
	case FERRY_MAIL_OPENED:
	case FERRY_MAIL_DRAINED:
	case FERRY_MAIL_TAKEN:
	case FERRY_MAIL_HEALTH:
	case FERRY_MAIL_VERDICT:
	case FERRY_MAIL_ASK:
	case FERRY_MAIL_KEYS_READ:
	case FERRY_MAIL_ATTACHED:
	case FERRY_MAIL_NBDDEV:
	case FERRY_MAIL_PREEMPTED:
	case FERRY_MAIL_WITNESS:
	case FERRY_MAIL_NOTED:
	case FERRY_MAIL_SHOWN:
	case FERRY_MAIL_HIDDEN:
	case FERRY_MAIL_EVENT:
	case FERRY_MAIL_SNAPPED:
	case FERRY_MAIL_STOPPED:
	default:
		ferry_unreachable("mail that is not a pool's");
	}
}

/* ---- Figures. ---- */

static void lane_snap(const struct data_pool *pool, const struct ferry_lane *lane,
		      struct ferry_snapshot_lane *ret)
{
	*ret = (struct ferry_snapshot_lane){
		.kind = lane->path->kind,
		.node = lane->path->node,
		.is_up = lane->path->is_up,
		.is_allowed = lane->is_allowed,
		.is_usable = ferry_lane_is_usable(lane),
		.state = lane->state,
		.flights = lane->flights_count,
		.stats = lane->stats,
	};
	(void)snprintf(ret->reason, sizeof(ret->reason), "%s", lane->reason);
	if (lane->path->kind == FERRY_PATH_LOCAL && pool->iscsi)
		(void)snprintf(ret->detail, sizeof(ret->detail), "%s",
			       ferry_iscsi_last_error(pool->iscsi));
	ferry_list_foreach (link, &pool->engine.router.ghosts)
		ret->ghosts += ferry_list_entry(link, struct ferry_try, link)->flight.lane == lane;
}

void data_pool_snap(const struct data_pool *pool, struct ferry_snapshot_pool *ret)
{
	const struct ferry_router *router = &pool->engine.router;
	struct ferry_users users = users_of(pool);

	memset(ret, 0, sizeof(*ret));
	ret->clients = users.clients;
	ret->opens = users.opens;
	(void)snprintf(ret->device, sizeof(ret->device), "%.31s", data_ublk_device(pool));
	data_cache_snap(pool, &ret->cache);
	ret->is_open = pool->is_open;
	ret->is_shown = pool->is_shown;
	if (!pool->is_open) {
		ret->lanes_count = 1;
		ret->lanes[0].kind = FERRY_PATH_LOCAL;
		ret->lanes[0].node = pool->data->config.self;
		ret->lanes[0].state = FERRY_LANE_FORWARDING;
		(void)snprintf(ret->lanes[0].reason, sizeof(ret->lanes[0].reason), "%s",
			       pool->refusal[0] ? pool->refusal : "the lun has not answered yet");
		if (pool->iscsi)
			(void)snprintf(ret->lanes[0].detail, sizeof(ret->lanes[0].detail), "%s",
				       ferry_iscsi_last_error(pool->iscsi));
		return;
	}
	ret->identity = pool->engine.config.identity;
	ret->has_reservations = pool->engine.config.fence != NULL;
	if (pool->iscsi && ferry_iscsi_fence(pool->iscsi))
		ret->ability = ferry_iscsi_fence(pool->iscsi)->ability;
	else if (pool->sgio)
		ret->ability = ferry_sgio_fence(pool->sgio)->ability;
	ret->flushes_by_path = pool->engine.config.flushes_by_path;
	ret->is_registered = pool->engine.registrar.state == FERRY_REGISTRAR_IN;
	/* Also when all that is here waits for ghosts to be laid: with a cache no read shows it. */
	ret->is_holding =
		router->is_holding || (router->ghosts_count > 0 && router->routes_count > 0 &&
				       ferry_list_is_empty(&router->running));
	ret->flush_is_suspect = router->flush.is_suspect;
	ret->stats = router->stats;
	ret->ghosts_alive = router->ghosts_count;
	ret->routes = router->routes_count;
	ret->lanes_count = router->lanes_count;
	if (pool->has_fault)
		ret->faults = pool->fault.stats;
	for (uint32_t i = 0; i < router->lanes_count; i++)
		lane_snap(pool, &router->lanes[i], &ret->lanes[i]);
}

/* ---- Closing. ---- */

void data_pool_close(struct data_pool *pool)
{
	data_guard_close(pool);
	if (ferry_timer_is_started(&pool->users_timer))
		ferry_timer_stop(pool->data->loop, &pool->users_timer);
	if (pool->has_fault)
		ferry_fault_done(&pool->fault);
	pool->has_fault = false;
	if (pool->is_open)
		ferry_engine_done(&pool->engine);
	pool->is_open = false;
	ferry_uevent_close(TAKE_PTR(pool->uevent));
	ferry_sgio_close(TAKE_PTR(pool->sgio));
	ferry_sgio_flusher_close(TAKE_PTR(pool->flusher));
	if (pool->device && ferry_device_close(pool->device) < 0)
		return; /* The kernel still has I/O: its memory stays until the process ends. */
	pool->device = NULL;
	data_cache_close(pool);
	if (pool->memory)
		(void)munmap(pool->memory, pool->memory_bytes);
	pool->memory = NULL;
}
