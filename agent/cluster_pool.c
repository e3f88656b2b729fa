/* cluster_pool.c - one pool on the cluster thread: its ownership, and what becomes of a wish. */
#include <stdio.h>

#include "agent/cluster_internal.h"
#include "agent/core/engine.h"

/* How long the next owner may take to own. */
#define MOVE_PATIENCE_NS (20 * FERRY_NS_PER_S)

void cluster_pool_tell(struct cluster_pool *pool, struct ferry_mail mail)
{
	mail.pool = pool->index;
	ferry_mail_to_data(&pool->cluster->mailbox, &mail);
}

void cluster_pool_reason(struct cluster_pool *pool, const char *reason)
{
	(void)snprintf(pool->reason, sizeof(pool->reason), "%.190s", reason);
}

void cluster_pool_answer(struct ferry_control_request **request, int error, const char *why)
{
	struct ferry_control_request *answered = TAKE_PTR(*request);

	if (answered)
		ferry_control_done(answered, error, why);
}

const struct ferry_ownership_member *cluster_pool_member(const struct cluster_pool *pool,
							 struct ferry_node node)
{
	const struct ferry_ownership *ownership = &pool->ownership;

	for (uint32_t i = 0; i < ownership->members.count; i++)
		if (ownership->members.nodes[i].v == node.v)
			return &ownership->known[i];
	return NULL;
}

/* ---- Fitness: the one attribute that location rules look at. ---- */

void cluster_pool_attribute(const struct ferry_config *config, const char *pool,
			    char ret[FERRY_PACEMAKER_NAME_BYTES])
{
	(void)snprintf(ret, FERRY_PACEMAKER_NAME_BYTES, "%s-%s", config->attribute, pool);
}

/*
 * An owner stays fit until its path is convicted: that detours are needed is no reason to move.
 * Everyone else is fit if its own path works.
 */
static void fitness_publish(struct cluster_pool *pool)
{
	struct ferry_cluster *cluster = pool->cluster;
	bool is_owner = pool->ownership.phase == FERRY_OWNERSHIP_OWNING;
	bool is_fit = !pool->is_convicted && (pool->has_path || (is_owner && pool->is_fit));
	char name[FERRY_PACEMAKER_NAME_BYTES];

	if (!cluster->pacemaker)
		return;
	pool->is_fit = is_fit;
	cluster_pool_attribute(&cluster->settings->config, pool->config->name, name);
	if (ferry_pacemaker_set(cluster->pacemaker, name, is_fit ? "1" : "0",
				/* is_private= */ false) < 0)
		ferry_log(FERRY_SEVERITY_ERROR, "attribute %s cannot be published", name);
}

/* ---- From the ownership. ---- */

/* Somebody waits for another node to own the pool. */
static void move_check(struct cluster_pool *pool, const struct ferry_view *view)
{
	if (!pool->moving || view->owner.v != pool->next_owner.v || !view->is_in_force)
		return;
	pool->moving->answer.owner.epoch = view->epoch;
	ferry_timer_stop(pool->cluster->loop, &pool->patience);
	cluster_pool_answer(&pool->moving, 0, NULL);
}

static void set_view(const struct ferry_view *view, void *context)
{
	struct cluster_pool *pool = context;

	move_check(pool, view);
	cluster_pool_tell(pool, (struct ferry_mail){.kind = FERRY_MAIL_VIEW, .view = *view});
}

static void take(const struct ferry_drained_keys *drained, void *context)
{
	cluster_pool_tell(context,
			  (struct ferry_mail){.kind = FERRY_MAIL_TAKE, .drained = *drained});
}

static void peer_has_path(struct ferry_node node, bool has_path, void *context)
{
	const struct cluster_pool *pool = context;

	if (node.v != pool->cluster->self.v)
		cluster_pool_tell(context, (struct ferry_mail){.kind = FERRY_MAIL_PEER_PATH,
							       .node = node,
							       .flag = has_path});
}

/* Who waited for the pool to be served here waits no longer. */
void cluster_pool_acquired(struct cluster_pool *pool, int error, const char *why)
{
	ferry_timer_stop(pool->cluster->loop, &pool->wish_timer);
	cluster_pool_answer(&pool->acquiring, error, why);
}

static void release_over(struct cluster_pool *pool, int error, const char *why)
{
	ferry_timer_stop(pool->cluster->loop, &pool->patience);
	pool->is_releasing = false;
	cluster_pool_answer(&pool->releasing, error, why);
	if (pool->moving && error == 0)
		ferry_timer_start_in(pool->cluster->loop, &pool->patience, MOVE_PATIENCE_NS);
	else
		cluster_pool_answer(&pool->moving, error, why);
}

static void show(struct cluster_pool *pool, struct ferry_epoch tenure)
{
	pool->tenure = tenure;
	cluster_pool_tell(pool, (struct ferry_mail){.kind = FERRY_MAIL_SHOW, .epoch = tenure});
}

static void on_wish(int error, const char *why, void *context)
{
	struct cluster_pool *pool = context;

	fitness_publish(pool);
	/* It had to be claimed anew while its volume is being hidden: that releases nothing. */
	if (pool->is_releasing && error == 0 && pool->ownership.phase == FERRY_OWNERSHIP_OWNING)
		return;
	cluster_pool_reason(pool, why);
	if (pool->is_withdrawing)
		return; /* Whoever withdraws it knows. */
	if (pool->is_releasing) {
		release_over(pool, error, why);
		return;
	}
	if (error < 0) {
		cluster_pool_acquired(pool, error, why);
		return;
	}
	if (pool->ownership.phase != FERRY_OWNERSHIP_OWNING)
		return; /* It was given up, not had. */
	show(pool, pool->ownership.tenure);
}

static void on_fenced(struct ferry_node victim, int error, const char *why, void *context)
{
	(void)victim;
	warden_fenced(context, error, why);
}

static void ownership_open(struct cluster_pool *pool, const struct ferry_mail *mail)
{
	struct ferry_cluster *cluster = pool->cluster;
	struct ferry_ownership_config config = {
		.loop = cluster->loop,
		.group = cluster->group,
		.store = ferry_statefile_store(cluster->state),
		.events = &cluster->events,
		.lineage = cluster->data_lineages[pool->index],
		.lun = mail->identity.uuid,
		.incarnation = cluster->incarnation,
		.has_reservations = mail->flag,
		.quiesce_time_ns =
			cluster->settings->config.luns[pool->config->luns[0]].quiesce_time_ns,
		.power = cluster->stonith ? &cluster->power : NULL,
		/* Longer than a thread stands still without asking who owns the pool. */
		.drain_timeout_ns = ferry_max_u64(cluster->settings->config.path_timeout_ns,
						  2 * FERRY_ENGINE_FREEZE_NS),
		.set_view = set_view,
		.take = take,
		.peer_has_path = peer_has_path,
		.on_wish = on_wish,
		.on_fenced = on_fenced,
		.context = pool,
	};
	struct ferry_error error;

	(void)snprintf(config.pool, sizeof(config.pool), "%s", pool->config->name);
	if (ferry_ownership_open(&pool->ownership, &config, &error) < 0) {
		ferry_log(FERRY_SEVERITY_ERROR, "%s", error.message);
		cluster_pool_reason(pool, error.message);
		return;
	}
	pool->is_open = true;
	cluster_pool_reason(pool, "nobody has asked for it here");
	if (cluster->members.count > 0)
		ferry_ownership_members(&pool->ownership, &cluster->members);
}

/* Alone: the lun is this agent's, from its first answer. */
static void standalone_open(struct cluster_pool *pool)
{
	struct ferry_view view = {.is_quorate = true,
				  .lineage = pool->cluster->data_lineages[pool->index],
				  .epoch = {1},
				  .owner = pool->cluster->self,
				  .is_in_force = true};

	pool->is_open = true;
	cluster_pool_reason(pool, "standalone");
	set_view(&view, pool);
	show(pool, view.epoch);
}

/* ---- From the data thread. ---- */

static void handle_shown(struct cluster_pool *pool, int error)
{
	struct ferry_control_request *request = pool->acquiring;

	pool->is_shown = error == 0;
	if (error < 0) {
		cluster_pool_reason(pool, "the volume could not be shown: see the log");
		cluster_pool_acquired(pool, error, pool->reason);
		return;
	}
	if (request)
		request->answer.owner.epoch = pool->ownership.view.epoch;
	cluster_pool_acquired(pool, 0, NULL);
}

/* Nobody is to lose what was not synced without a word. */
static void handle_users(struct cluster_pool *pool, const struct ferry_users *users)
{
	char why[FERRY_CONTROL_TEXT_BYTES];

	if (pool->cluster->is_stopping) { /* Nobody is asked any more. */
		cluster_pool_tell(pool, (struct ferry_mail){.kind = FERRY_MAIL_HIDE});
		return;
	}
	(void)snprintf(
		why, sizeof(why),
		"volume %.31s is in use: its file is open %u times (a device? `ferry detach`), "
		"%u NBD clients; end that first: what they have not synced would be lost "
		"(--force)",
		pool->volume->name, users->opens, users->clients);
	cluster_pool_reason(pool, "the pool is owned, its epoch in force");
	release_over(pool, -EPERM, why);
}

static void handle_hidden(struct cluster_pool *pool, const struct ferry_mail *mail)
{
	if (mail->error < 0) {
		if (pool->is_releasing)
			handle_users(pool, &mail->users);
		return;
	}
	pool->is_shown = false;
	if (!pool->is_releasing)
		return;
	if (pool->cluster->group) {
		ferry_ownership_release(&pool->ownership, pool->next_owner);
		return;
	}
	cluster_pool_reason(pool, "released: it is served again when the agent is started anew");
	release_over(pool, 0, "withdrawn");
}

int cluster_pool_attach(struct cluster_pool *pool, struct ferry_control_request *request,
			enum ferry_mail_kind kind)
{
	if (pool->is_attaching)
		return -EBUSY;
	pool->is_attaching = true;
	pool->attaching = request;
	cluster_pool_tell(pool, (struct ferry_mail){.kind = kind});
	return 0;
}

static void handle_attached(struct cluster_pool *pool, const struct ferry_mail *mail)
{
	pool->is_attaching = false;
	if (pool->attaching)
		control_attached(pool, mail);
}

void cluster_pool_nbddev_done(struct cluster_pool *pool)
{
	struct ferry_mail shown = pool->shown_later, hidden = pool->hidden_later;

	pool->shown_later.kind = pool->hidden_later.kind = 0;
	if (shown.kind)
		handle_shown(pool, shown.error);
	if (hidden.kind)
		handle_hidden(pool, &hidden);
}

void cluster_pool_mail(struct cluster_pool *pool, const struct ferry_mail *mail)
{
	bool has_ownership = pool->is_open && pool->cluster->group;

	if (mail->kind == FERRY_MAIL_OPENED) {
		(void)snprintf(pool->wwid, sizeof(pool->wwid), "%s", mail->identity.wwid);
		pool->identity = mail->identity;
	}
	if (mail->kind == FERRY_MAIL_OPENED && pool->cluster->group)
		ownership_open(pool, mail);
	else if (mail->kind == FERRY_MAIL_OPENED)
		standalone_open(pool);
	else if (mail->kind == FERRY_MAIL_DRAINED && has_ownership)
		ferry_ownership_drained(&pool->ownership, mail->epoch);
	else if (mail->kind == FERRY_MAIL_ASK && has_ownership)
		ferry_ownership_ask(&pool->ownership, mail->count);
	else if (mail->kind == FERRY_MAIL_WITNESS && has_ownership)
		ferry_ownership_witness(&pool->ownership, mail->count);
	else if (mail->kind == FERRY_MAIL_NOTED && has_ownership)
		ferry_ownership_noted(&pool->ownership, mail->count);
	else if (mail->kind == FERRY_MAIL_PREEMPTED && has_ownership)
		ferry_ownership_preempted(&pool->ownership);
	else if (mail->kind == FERRY_MAIL_TAKEN && has_ownership)
		ferry_ownership_taken(&pool->ownership, mail->epoch, mail->error);
	else if (mail->kind == FERRY_MAIL_NBDDEV)
		cluster_nbddev_mail(pool, mail);
	else if (mail->kind == FERRY_MAIL_SHOWN && pool->is_nbddev_due)
		pool->shown_later = *mail;
	else if (mail->kind == FERRY_MAIL_SHOWN)
		handle_shown(pool, mail->error);
	else if (mail->kind == FERRY_MAIL_HIDDEN && pool->is_nbddev_due)
		pool->hidden_later = *mail;
	else if (mail->kind == FERRY_MAIL_HIDDEN)
		handle_hidden(pool, mail);
	else if (mail->kind == FERRY_MAIL_KEYS_READ)
		warden_keys_read(pool, mail);
	else if (mail->kind == FERRY_MAIL_ATTACHED)
		handle_attached(pool, mail);
	if (mail->kind == FERRY_MAIL_HEALTH) {
		pool->has_path = mail->flag;
		if (has_ownership)
			ferry_ownership_health(&pool->ownership, mail->flag);
	}
	if (mail->kind == FERRY_MAIL_VERDICT)
		pool->is_convicted = mail->verdict == FERRY_VERDICT_LOCAL_PATH;
	if (mail->kind == FERRY_MAIL_HEALTH || mail->kind == FERRY_MAIL_VERDICT)
		fitness_publish(pool);
}

bool cluster_pool_is_quiet(const struct cluster_pool *pool)
{
	return !pool->is_releasing && !pool->is_shown &&
	       pool->ownership.phase != FERRY_OWNERSHIP_OWNING;
}

void cluster_pool_init(struct ferry_cluster *cluster, uint32_t index)
{
	struct cluster_pool *pool = &cluster->pools[index];
	const struct ferry_config *config = &cluster->settings->config;

	*pool = (struct cluster_pool){.cluster = cluster,
				      .index = index,
				      .config = &config->pools[index],
				      .patience = {.run = cluster_pool_patience_over},
				      .wish_timer = {.run = cluster_pool_wish_expired}};
	for (uint32_t i = 0; i < config->volumes_count; i++)
		if (config->volumes[i].pool == index)
			pool->volume = &config->volumes[i];
	cluster_pool_reason(pool, "the lun has not answered yet");
}

void cluster_pool_close(struct cluster_pool *pool)
{
	cluster_pool_acquired(pool, -ESHUTDOWN, "the agent is stopping");
	cluster_pool_answer(&pool->releasing, -ESHUTDOWN, "the agent is stopping");
	cluster_pool_answer(&pool->moving, -ESHUTDOWN, "the agent is stopping");
	cluster_pool_answer(&pool->attaching, -ESHUTDOWN, "the agent is stopping");
	ferry_timer_stop(pool->cluster->loop, &pool->patience);
	cluster_nbddev_close(pool);
	if (pool->is_open && pool->cluster->group)
		ferry_ownership_done(&pool->ownership);
	pool->is_open = false;
}
