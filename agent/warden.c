/*
 * warden.c - who is registered at the luns, removing what is nobody's, and fencing a node: what
 * `ferry keys`, `ferry fence` and fence_ferry ask.
 *
 * One job at a time, for all its pools at once:
 *   LIST, GET_FENCE   read the keys at the lun
 *   CLEAN             read them, judge the one that is to go, remove it, read them again
 *   FENCE             read them: who cannot, changes nothing; have the ownership fence the node;
 *                     read them again
 * Only what the lun itself said counts as verified.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/cluster_internal.h"

static void next_job(struct ferry_cluster *cluster);

static struct warden_job *current(struct ferry_cluster *cluster)
{
	ferry_assert(cluster->warden.jobs_count > 0);
	return &cluster->warden.jobs[0];
}

#define COPY(to, from) ((void)snprintf(to, sizeof(to), "%.*s", (int)sizeof(to) - 1, from))

static const char *read_problem(int error)
{
	switch (-error) {
	case EOPNOTSUPP:
		return "the lun has no reservations: only cutting a node's power fences it";
	case ENOTCONN:
		return "this node's path to the lun does not work";
	case ENXIO:
		return "this node's path to the lun has not worked since the agent started";
	case ETIMEDOUT:
		return "the lun did not answer in time";
	case EACCES:
		return "this node is not registered at the lun itself";
	case EBUSY:
		return "another registration is being removed just now: ask again";
	case EAGAIN:
		return "this node has yet to register at the lun, to see whether the target was "
		       "restarted, or to tell the pool's owner so: ask again in a moment";
	default:
		return "the lun refused";
	}
}

/* ---- Judging registrations. ---- */

static uint64_t incarnation_of(struct ferry_key key)
{
	return key.v & UINT32_MAX; /* See core/key.h. */
}

static enum ferry_control_key_state judge(const struct cluster_pool *pool, struct ferry_key key)
{
	const struct ferry_cluster *cluster = pool->cluster;
	const struct ferry_ownership_member *member;
	struct ferry_node node = ferry_key_node(key);

	if (!ferry_key_is_ours(key))
		return FERRY_CONTROL_KEY_FOREIGN;
	if (cluster->group && key.v == ferry_key_make(cluster->self, cluster->incarnation).v)
		return FERRY_CONTROL_KEY_OWN;
	/* Who is no member of a part without quorum may well be the owner. */
	if (!cluster->group || !pool->is_open || !pool->ownership.view.is_quorate)
		return FERRY_CONTROL_KEY_UNKNOWN;
	member = cluster_pool_member(pool, node);
	if (!member)
		return FERRY_CONTROL_KEY_ABSENT;
	/* Who has not spoken yet, or is newer than its word, is given the benefit of the doubt. */
	return incarnation_of(key) < (member->incarnation.v & UINT32_MAX)
		       ? FERRY_CONTROL_KEY_OLDER
		       : FERRY_CONTROL_KEY_MEMBER;
}

static bool is_stale(enum ferry_control_key_state state)
{
	return state == FERRY_CONTROL_KEY_OLDER || state == FERRY_CONTROL_KEY_ABSENT;
}

/* Why @key is not to be removed, or NULL. */
static const char *clean_refusal(const struct cluster_pool *pool, struct ferry_key key,
				 bool is_foreign_meant)
{
	const struct ferry_cluster *cluster = pool->cluster;
	enum ferry_control_key_state state = judge(pool, key);

	if (!cluster->group)
		return "this agent stands alone: it removes no registrations";
	if (state == FERRY_CONTROL_KEY_UNKNOWN || !pool->ownership.view.is_quorate)
		return "without quorum this node cannot tell whose registrations are in use";
	if (state == FERRY_CONTROL_KEY_FOREIGN && !is_foreign_meant)
		return "it is not Ferry's: somebody else uses the lun, or did (--foreign)";
	for (uint32_t i = 0; i < pool->keys.count && state == FERRY_CONTROL_KEY_FOREIGN; i++)
		if (ferry_key_is_ours(pool->keys.keys[i]) &&
		    ferry_key_node(pool->keys.keys[i]).v == cluster->self.v &&
		    judge(pool, pool->keys.keys[i]) == FERRY_CONTROL_KEY_OLDER)
			return "an earlier agent of this node is registered: ask at another node";
	if (state == FERRY_CONTROL_KEY_FOREIGN)
		return NULL;
	if (!is_stale(state))
		return "it is in use: its agent is a member of the group";
	if (ferry_key_node(key).v == cluster->self.v)
		return "it is an earlier agent's of this very node: ask at another node";
	return NULL;
}

/* ---- Answers. ---- */

static void keys_fill(const struct cluster_pool *pool, struct ferry_control_lun_keys *ret)
{
	const struct ferry_cluster *cluster = pool->cluster;

	COPY(ret->pool, pool->config->name);
	COPY(ret->name, control_lun_name(pool));
	COPY(ret->wwid, pool->wwid);
	ret->is_readable = pool->keys_error == 0;
	if (pool->keys_error < 0)
		COPY(ret->reason, read_problem(pool->keys_error));
	ret->generation = pool->keys.generation;
	ret->keys_count = pool->keys_error == 0 ? pool->keys.count : 0;
	for (uint32_t i = 0; i < ret->keys_count; i++) {
		struct ferry_control_key *row = &ret->keys[i];

		row->key = pool->keys.keys[i];
		row->state = judge(pool, row->key);
		row->is_stale = is_stale(row->state);
		row->is_holder = row->key.v == pool->keys.holder.v;
		if (row->state == FERRY_CONTROL_KEY_FOREIGN)
			continue;
		row->node = ferry_key_node(row->key);
		row->incarnation.v = incarnation_of(row->key);
		COPY(row->node_name, control_node_name(cluster, row->node));
	}
}

/* This node's own agent, by what it has heard. */
static void self_fill(const struct cluster_pool *pool, struct ferry_control_fenced *ret)
{
	const struct ferry_ownership *ownership = &pool->ownership;

	ret->is_known = pool->is_open && ownership->view.is_quorate;
	ret->is_fenced = pool->is_open &&
			 (ownership->is_fenced || (pool->is_shown && ret->is_known &&
						   ownership->phase != FERRY_OWNERSHIP_OWNING));
	ret->is_known |= ret->is_fenced;
	ret->is_out = pool->is_open && ownership->is_fenced;
	COPY(ret->reason, !pool->is_open	 ? "the lun has not answered yet"
			  : ownership->is_fenced ? "its agent is fenced until it is started anew"
			  : ret->is_fenced ? "it lost the pool, and applications may still use it"
			  : ret->is_known  ? "it may use the pool"
					   : "no quorum");
}

static bool registered_find(const struct cluster_pool *pool, struct ferry_node node,
			    struct ferry_key *ret)
{
	for (uint32_t i = 0; i < pool->keys.count; i++) {
		struct ferry_key key = pool->keys.keys[i];

		if (!ferry_key_is_ours(key) || ferry_key_node(key).v != node.v)
			continue;
		*ret = key;
		return true;
	}
	return false;
}

/* What is so of @node, now that the keys have been read. */
static void fenced_fill(const struct cluster_pool *pool, const struct warden_job *job,
			struct ferry_control_fenced *ret)
{
	const struct ferry_view *view = &pool->ownership.view;
	struct ferry_key key;

	COPY(ret->pool, pool->config->name);
	if (pool->is_open) {
		ret->owner = view->owner;
		ret->epoch = view->epoch;
	}
	if (job->node.v == pool->cluster->self.v) {
		self_fill(pool, ret);
		return;
	}
	if (pool->keys_error < 0 || !view->is_quorate) {
		COPY(ret->reason,
		     pool->keys_error < 0 ? read_problem(pool->keys_error) : "no quorum");
		return;
	}
	ret->is_known = true;
	if (registered_find(pool, job->node, &key)) {
		(void)snprintf(ret->reason, sizeof(ret->reason),
			       "it is registered at the lun (0x%016llx)",
			       (unsigned long long)key.v);
	} else if (view->owner.v == job->node.v) {
		COPY(ret->reason, "it owns the pool");
	} else if (job->kind != WARDEN_FENCE &&
		   !ferry_ownership_is_fenced_for_sure(&pool->ownership, job->node)) {
		/* A registration that is gone is half of it: what it sent may yet land. */
		ret->is_known = false;
		COPY(ret->reason, "no registration of it is on the lun, but that what it sent is "
				  "dead has not been verified, as far as this node knows");
	} else {
		ret->is_fenced = true;
	}
	if (ret->is_fenced)
		(void)snprintf(ret->reason, sizeof(ret->reason),
			       "no registration of it is on the lun, epoch %llu is %s",
			       (unsigned long long)view->epoch.v,
			       view->owner.v ? "another's" : "nobody's");
}

static void fence_answer(struct ferry_cluster *cluster, const struct warden_job *job)
{
	struct ferry_control_fence *report = &job->request->answer.fence;

	report->node = job->node;
	COPY(report->node_name, control_node_name(cluster, job->node));
	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		const struct cluster_pool *pool = &cluster->pools[i];
		struct ferry_control_fenced *row = &report->pools[report->pools_count];

		if (!pool->is_in_job)
			continue;
		report->pools_count++;
		fenced_fill(pool, job, row);
		if (pool->fence_error == 0)
			continue;
		row->is_fenced = false; /* Whatever the lun says: what it sent may yet land. */
		COPY(row->reason, pool->fence_why);
	}
}

static void list_answer(struct ferry_cluster *cluster, const struct warden_job *job)
{
	struct ferry_control_request *request = job->request;

	for (uint32_t i = 0; i < cluster->pools_count; i++)
		keys_fill(&cluster->pools[i], &request->answer.keys[request->rows_count++]);
}

static void job_over(struct ferry_cluster *cluster, int error, const char *why)
{
	struct warden *warden = &cluster->warden;
	struct ferry_control_request *request = current(cluster)->request;

	for (uint32_t i = 0; i < cluster->pools_count; i++)
		cluster->pools[i].is_in_job = false;
	warden->jobs_count--;
	memmove(warden->jobs, warden->jobs + 1, warden->jobs_count * sizeof(warden->jobs[0]));
	ferry_control_done(request, error, why);
	if (warden->jobs_count > 0 && !warden->is_closed)
		next_job(cluster);
}

static void pool_ask_lun(struct cluster_pool *pool, struct ferry_key victim, bool is_foreign)
{
	struct ferry_mail mail = {
		.kind = FERRY_MAIL_KEYS, .pool = pool->index, .key = victim, .flag = is_foreign};

	pool->keys = (struct ferry_mail_keys){0};
	ferry_mail_to_data(&pool->cluster->mailbox, &mail);
}

/* The key has been judged by what was just read; the next answer is what the lun says then. */
static void clean_step(struct cluster_pool *pool)
{
	struct ferry_cluster *cluster = pool->cluster;
	struct warden_job *job = current(cluster);
	bool is_there = false;
	const char *refusal;

	for (uint32_t i = 0; i < pool->keys.count; i++)
		is_there |= pool->keys.keys[i].v == job->victim.v;
	if (pool->keys_error < 0) {
		job_over(cluster, pool->keys_error == -ENOTCONN ? -EIO : pool->keys_error,
			 read_problem(pool->keys_error));
	} else if (job->is_cleaning) {
		job_over(cluster, is_there ? -EIO : 0, "it is still there");
	} else if (!is_there) {
		job_over(cluster, -ENOENT, "there is no such registration at the lun");
	} else if ((refusal = clean_refusal(pool, job->victim, job->request->is_foreign))) {
		job_over(cluster, -EPERM, refusal);
	} else {
		ferry_log(FERRY_SEVERITY_WARNING,
			  "pool %s: an administrator has registration 0x%016llx removed",
			  pool->config->name, (unsigned long long)job->victim.v);
		job->is_cleaning = true;
		pool_ask_lun(pool, job->victim, job->request->is_foreign);
	}
}

static void pool_over(struct cluster_pool *pool)
{
	struct ferry_cluster *cluster = pool->cluster;
	const struct warden_job *job = current(cluster);

	ferry_assert(cluster->warden.pools_left > 0);
	if (--cluster->warden.pools_left > 0)
		return;
	if (job->kind == WARDEN_LIST)
		list_answer(cluster, job);
	else
		fence_answer(cluster, job);
	job_over(cluster, 0, NULL);
}

/* ---- Fencing. ---- */

void warden_fenced(struct cluster_pool *pool, int error, const char *why)
{
	if (!pool->is_in_job || !pool->is_fencing)
		return;
	pool->is_fencing = false;
	pool->fence_error = error;
	COPY(pool->fence_why, why);
	pool_ask_lun(pool, (struct ferry_key){0}, false);
}

static const char *fence_problem(int error)
{
	switch (-error) {
	case EOPNOTSUPP:
		return "the lun has no reservations";
	case EPERM:
		return "this node is fenced from the pool itself: start its agent anew";
	case EAGAIN:
		return "no quorum";
	case EBUSY:
		return "another node is being fenced from this pool";
	default:
		return "it cannot be fenced";
	}
}

/*
 * A claim deposes the victim, whatever comes of it: not from a node that could not verify the rest.
 */
static void fence_step(struct cluster_pool *pool)
{
	int r;

	if (pool->was_fenced) {
		pool_over(pool);
		return;
	}
	if (pool->keys_error < 0) {
		pool->fence_error = pool->keys_error;
		COPY(pool->fence_why, read_problem(pool->keys_error));
		pool_over(pool);
		return;
	}
	pool->was_fenced = true;
	pool->is_fencing = true;
	r = ferry_ownership_fence(&pool->ownership, current(pool->cluster)->node);
	if (r < 0)
		warden_fenced(pool, r, fence_problem(r));
}

void warden_keys_read(struct cluster_pool *pool, const struct ferry_mail *mail)
{
	if (!pool->is_in_job)
		return;
	pool->keys = mail->keys;
	pool->keys_error = mail->error;
	if (current(pool->cluster)->kind == WARDEN_CLEAN)
		clean_step(pool);
	else if (current(pool->cluster)->kind == WARDEN_FENCE)
		fence_step(pool);
	else
		pool_over(pool);
}

/* ---- Jobs. ---- */

static void next_job(struct ferry_cluster *cluster)
{
	const struct warden_job *job = current(cluster);
	const char *name = job->kind == WARDEN_LIST ? "" : job->request->pool;
	struct warden *warden = &cluster->warden;

	warden->pools_left = 0;
	for (uint32_t i = 0; i < cluster->pools_count; i++) {
		struct cluster_pool *pool = &cluster->pools[i];

		if (name[0] && strcmp(name, pool->config->name) != 0)
			continue;
		pool->is_in_job = true;
		pool->is_fencing = false;
		pool->was_fenced = false;
		pool->fence_error = 0;
		warden->pools_left++;
	}
	ferry_assert(warden->pools_left > 0); /* control.c has looked for the pool. */
	for (uint32_t i = 0; i < cluster->pools_count; i++)
		if (cluster->pools[i].is_in_job)
			pool_ask_lun(&cluster->pools[i], (struct ferry_key){0}, false);
}

void warden_ask(struct ferry_cluster *cluster, const struct warden_job *job)
{
	struct warden *warden = &cluster->warden;

	ferry_assert(job->request && job->kind);
	if (warden->is_closed || cluster->data_was_told) {
		ferry_control_done(job->request, -ESHUTDOWN, "the agent is stopping");
		return;
	}
	ferry_assert(warden->jobs_count < FERRY_WARDEN_JOBS_MAX); /* grpc has no more. */
	warden->jobs[warden->jobs_count++] = *job;
	if (warden->jobs_count == 1)
		next_job(cluster);
}

void warden_close(struct ferry_cluster *cluster)
{
	cluster->warden.is_closed = true;
	while (cluster->warden.jobs_count > 0)
		job_over(cluster, -ESHUTDOWN, "the agent is stopping");
}
