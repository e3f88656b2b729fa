/* cluster_pool.c - one pool on the cluster thread: its ownership, and who waits for what of it. */
#include <stdio.h>

#include "agent/cluster_internal.h"

/* How long a release lets applications' I/O end by itself. */
#define RELEASE_PATIENCE_NS (5 * FERRY_NS_PER_S)
/* How long the next owner may take to own. */
#define MOVE_PATIENCE_NS (20 * FERRY_NS_PER_S)

static void tell_data(struct cluster_pool *pool, struct ferry_mail mail)
{
	mail.pool = pool->index;
	ferry_mail_to_data(&pool->cluster->mailbox, &mail);
}

static void reason_set(struct cluster_pool *pool, const char *reason)
{
	(void)snprintf(pool->reason, sizeof(pool->reason), "%.190s", reason);
}

static void answer(struct ferry_control_request **request, int error, const char *why)
{
	struct ferry_control_request *answered = TAKE_PTR(*request);

	if (answered)
		ferry_control_done(answered, error, why);
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
	answer(&pool->moving, 0, NULL);
}

static void set_view(const struct ferry_view *view, void *context)
{
	struct cluster_pool *pool = context;

	move_check(pool, view);
	tell_data(pool, (struct ferry_mail){.kind = FERRY_MAIL_VIEW, .view = *view});
}

static void take(const struct ferry_drained_keys *drained, void *context)
{
	tell_data(context, (struct ferry_mail){.kind = FERRY_MAIL_TAKE, .drained = *drained});
}

static void peer_has_path(struct ferry_node node, bool has_path, void *context)
{
	const struct cluster_pool *pool = context;

	if (node.v != pool->cluster->self.v)
		tell_data(context, (struct ferry_mail){.kind = FERRY_MAIL_PEER_PATH,
						       .node = node,
						       .flag = has_path});
}

static void release_over(struct cluster_pool *pool, int error, const char *why)
{
	ferry_timer_stop(pool->cluster->loop, &pool->patience);
	pool->is_releasing = false;
	answer(&pool->releasing, error, why);
	if (pool->moving && error == 0)
		ferry_timer_start_in(pool->cluster->loop, &pool->patience, MOVE_PATIENCE_NS);
	else
		answer(&pool->moving, error, why);
}

static void on_wish(int error, const char *why, void *context)
{
	struct cluster_pool *pool = context;

	reason_set(pool, why);
	fitness_publish(pool);
	if (pool->is_releasing) {
		release_over(pool, error, why);
		return;
	}
	if (error < 0) {
		answer(&pool->acquiring, error, why);
		return;
	}
	tell_data(pool, (struct ferry_mail){.kind = FERRY_MAIL_SHOW});
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
		.drain_timeout_ns = cluster->settings->config.path_timeout_ns,
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
		reason_set(pool, error.message);
		return;
	}
	pool->is_open = true;
	reason_set(pool, "nobody has asked for it here");
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
	reason_set(pool, "standalone");
	set_view(&view, pool);
	tell_data(pool, (struct ferry_mail){.kind = FERRY_MAIL_SHOW});
}

/* ---- From the data thread. ---- */

static void handle_shown(struct cluster_pool *pool, int error, uint64_t warm_blocks)
{
	struct ferry_control_request *request = pool->acquiring;

	pool->is_shown = error == 0;
	if (error < 0) {
		reason_set(pool, "the volume could not be shown: see the log");
		answer(&pool->acquiring, error, pool->reason);
		return;
	}
	if (request) {
		request->answer.owner.epoch = pool->ownership.view.epoch;
		request->answer.owner.warm_blocks = warm_blocks;
	}
	answer(&pool->acquiring, 0, NULL);
}

static void handle_hidden(struct cluster_pool *pool)
{
	pool->is_shown = false;
	if (!pool->is_releasing)
		return;
	if (pool->cluster->group)
		ferry_ownership_release(&pool->ownership, pool->next_owner);
	else
		release_over(pool, 0, "withdrawn");
}

void cluster_pool_mail(struct cluster_pool *pool, const struct ferry_mail *mail)
{
	bool has_ownership = pool->is_open && pool->cluster->group;

	if (mail->kind == FERRY_MAIL_OPENED)
		(void)snprintf(pool->wwid, sizeof(pool->wwid), "%s", mail->identity.wwid);
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
	else if (mail->kind == FERRY_MAIL_SHOWN)
		handle_shown(pool, mail->error, mail->count);
	else if (mail->kind == FERRY_MAIL_HIDDEN)
		handle_hidden(pool);
	else if (mail->kind == FERRY_MAIL_KEYS_READ)
		warden_keys_read(pool, mail);
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

/* ---- Wishes. ---- */

/* Whether the pool can be wished for now; else @request is answered. */
static bool may_acquire(struct cluster_pool *pool, struct ferry_control_request *request)
{
	if (!pool->is_open) {
		ferry_control_done(request, -EAGAIN,
				   "this node's path to the lun has not worked since the agent "
				   "started: it cannot take the pool yet");
		return false;
	}
	if (!pool->cluster->group || pool->acquiring || pool->is_releasing) {
		ferry_control_done(request, pool->cluster->group ? -EBUSY : -EOPNOTSUPP,
				   pool->cluster->group ? "a change of owner is under way"
							: "this agent stands alone: what it "
							  "released it serves when it is "
							  "started anew");
		return false;
	}
	if (pool->is_shown && pool->ownership.phase != FERRY_OWNERSHIP_OWNING) {
		/* What its applications know is from before others wrote. */
		ferry_control_done(request, -EPERM,
				   "this node was deposed and applications may still have the "
				   "volume open: `ferry release` it first");
		return false;
	}
	return true;
}

void cluster_pool_acquire(struct cluster_pool *pool, struct ferry_control_request *request)
{
	if (!may_acquire(pool, request))
		return;
	pool->acquiring = request;
	reason_set(pool, "acquiring");
	ferry_ownership_acquire(&pool->ownership);
}

/* Whom the person has not answered for, though it is missing; 0: nobody. */
static struct ferry_node missing_find(const struct cluster_pool *pool,
				      const struct ferry_members *answered_for)
{
	const struct ferry_cluster *cluster = pool->cluster;

	for (uint32_t i = 0; i < cluster->peers_count; i++) {
		struct ferry_node node = cluster->peers[i].node;
		bool is_answered_for = ferry_view_has_member(&pool->ownership.view, node);

		for (uint32_t j = 0; j < answered_for->count; j++)
			is_answered_for |= answered_for->nodes[j].v == node.v;
		if (!is_answered_for)
			return node;
	}
	return (struct ferry_node){0};
}

void cluster_pool_force(struct cluster_pool *pool, struct ferry_control_request *request)
{
	char why[96];
	struct ferry_node missing;

	if (!may_acquire(pool, request))
		return;
	missing = missing_find(pool, &request->nodes);
	if (missing.v != 0) {
		(void)snprintf(why, sizeof(why), "node %u has not answered either", missing.v);
		ferry_control_done(request, -EPERM, why);
		return;
	}
	pool->acquiring = request;
	reason_set(pool, "acquiring by force");
	if (ferry_ownership_force(&pool->ownership) < 0)
		answer(&pool->acquiring, -EBUSY, "a change of owner is under way");
}

/* I/O that does not end by itself is told that the volume is closing. */
static void patience_over(struct ferry_timer *timer)
{
	struct cluster_pool *pool = FERRY_CONTAINER_OF(timer, struct cluster_pool, patience);

	if (!pool->is_releasing) {
		answer(&pool->moving, -ETIMEDOUT,
		       "the pool is released, but the other node does not own it yet: see its log");
		return;
	}
	tell_data(pool, (struct ferry_mail){.kind = FERRY_MAIL_FAIL});
	ferry_timer_start_in(pool->cluster->loop, timer, FERRY_NS_PER_S);
}

void cluster_pool_release(struct cluster_pool *pool, struct ferry_control_request *request)
{
	if (pool->is_releasing || pool->acquiring) {
		if (request)
			ferry_control_done(request, -EBUSY, "a change of owner is under way");
		return;
	}
	if (!pool->is_open) {
		if (request)
			ferry_control_done(request, 0, NULL);
		return;
	}
	pool->next_owner.v = 0;
	pool->releasing = request;
	pool->is_releasing = true;
	reason_set(pool, "releasing");
	ferry_timer_start_in(pool->cluster->loop, &pool->patience, RELEASE_PATIENCE_NS);
	tell_data(pool, (struct ferry_mail){.kind = FERRY_MAIL_HIDE});
}

void cluster_pool_move(struct cluster_pool *pool, struct ferry_node node,
		       struct ferry_control_request *request)
{
	const struct ferry_cluster *cluster = pool->cluster;

	if (!cluster->group || pool->ownership.phase != FERRY_OWNERSHIP_OWNING) {
		ferry_control_done(request, -EPERM,
				   "this node does not own the pool: ask the one that does");
		return;
	}
	if (node.v == cluster->self.v) {
		ferry_control_done(request, 0, NULL);
		return;
	}
	if (!ferry_view_has_member(&pool->ownership.view, node)) {
		ferry_control_done(request, -ENOENT, "no agent of that node is in the group");
		return;
	}
	if (pool->is_releasing || pool->acquiring || pool->moving) {
		ferry_control_done(request, -EBUSY, "a change of owner is under way");
		return;
	}
	cluster_pool_release(pool, /* request= */ NULL);
	pool->moving = request;
	pool->next_owner = node;
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
				      .patience = {.run = patience_over}};
	for (uint32_t i = 0; i < config->volumes_count; i++)
		if (config->volumes[i].pool == index)
			pool->volume = &config->volumes[i];
	reason_set(pool, "the lun has not answered yet");
}

void cluster_pool_close(struct cluster_pool *pool)
{
	answer(&pool->acquiring, -ESHUTDOWN, "the agent is stopping");
	answer(&pool->releasing, -ESHUTDOWN, "the agent is stopping");
	answer(&pool->moving, -ESHUTDOWN, "the agent is stopping");
	ferry_timer_stop(pool->cluster->loop, &pool->patience);
	if (pool->is_open && pool->cluster->group)
		ferry_ownership_done(&pool->ownership);
	pool->is_open = false;
}
