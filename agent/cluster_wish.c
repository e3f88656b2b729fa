/*
 * cluster_wish.c - what people and cluster managers wish of a pool: to acquire it, to have it by
 * force, to release it, to move it; who may, what a wish waits for, and when it ends unfulfilled.
 */
#include <stdio.h>

#include "agent/cluster_internal.h"

/* How long a release lets applications' I/O end by itself. */
#define RELEASE_PATIENCE_NS (5 * FERRY_NS_PER_S)
/* Before its asker's deadline a wish is withdrawn, so that the reason still gets there. */
#define WORD_NS_MAX (500 * FERRY_NS_PER_MS)
/* A person's word for others is not good for longer, whoever waits. */
#define FORCE_NS_MAX (120 * FERRY_NS_PER_S)

/* ---- What it waits for. ---- */

bool cluster_pool_is_wished(const struct cluster_pool *pool)
{
	const struct ferry_ownership *ownership = &pool->ownership;
	bool is_others = ownership->fencing.is_running && !ownership->fencing.keeps_pool;

	if (pool->acquiring)
		return true;
	return pool->is_open && pool->cluster->group && !pool->is_shown && ownership->wants_pool &&
	       !is_others && ownership->phase != FERRY_OWNERSHIP_OWNING &&
	       ownership->phase != FERRY_OWNERSHIP_IDLE;
}

/* What has been heard of one node's agent in this ring. */
static bool has_spoken(const struct cluster_pool *pool, struct ferry_node node)
{
	const struct ferry_ownership_member *member = cluster_pool_member(pool, node);

	return member && member->state_ring == pool->cluster->group->ring;
}

static bool has_acked(const struct cluster_pool *pool, struct ferry_node node)
{
	const struct ferry_ownership_member *member = cluster_pool_member(pool, node);

	return member && member->ack_ring == pool->cluster->group->ring &&
	       member->acked.v == pool->ownership.claimed.v;
}

static bool has_drained(const struct cluster_pool *pool, struct ferry_node node)
{
	const struct ferry_ownership_member *member = cluster_pool_member(pool, node);

	return !member || member->drained.v == pool->ownership.claimed.v;
}

static void name_of(const struct ferry_cluster *cluster, struct ferry_node node,
		    char ret[FERRY_CONFIG_NAME_BYTES])
{
	const char *name = control_node_name(cluster, node);

	if (name[0])
		(void)snprintf(ret, FERRY_CONFIG_NAME_BYTES, "%s", name);
	else
		(void)snprintf(ret, FERRY_CONFIG_NAME_BYTES, "node %u", node.v);
}

static bool is_member(const struct cluster_pool *pool, struct ferry_node node)
{
	return cluster_pool_member(pool, node) != NULL;
}

/* "n2, n3": of the other nodes, those of whom @is_done is not so. */
static void missing_list(const struct cluster_pool *pool,
			 bool (*is_done)(const struct cluster_pool *, struct ferry_node), char *ret,
			 size_t size_bytes)
{
	const struct ferry_cluster *cluster = pool->cluster;
	size_t length = 0;

	ferry_assert(size_bytes > 0);
	ret[0] = '\0';
	for (uint32_t i = 0; i < cluster->peers_count && length + 1 < size_bytes; i++) {
		char name[FERRY_CONFIG_NAME_BYTES];
		int written;

		if (is_done(pool, cluster->peers[i].node))
			continue;
		name_of(cluster, cluster->peers[i].node, name);
		written = snprintf(ret + length, size_bytes - length, "%s%s", length ? ", " : "",
				   name);
		length += ferry_min_u64((uint64_t)written, size_bytes - length);
	}
}

/* How many agents a change of owner needs: see decide.c. */
static uint32_t agents_needed(const struct cluster_pool *pool, bool is_forced)
{
	uint32_t expected = pool->cluster->group->nodes.count;
	bool is_lun_a_voice = is_forced || pool->ownership.config.has_reservations;

	return expected == 2 && is_lun_a_voice ? 1 : ferry_decide_majority(expected);
}

/* A member, or known to have been switched off and not to have been back. */
static bool is_off(const struct cluster_pool *pool, struct ferry_node node)
{
	const struct ferry_power_node *nodes = pool->cluster->power.nodes;

	if (cluster_pool_member(pool, node))
		return true;
	for (uint32_t i = 0; nodes[i].node.v != 0; i++)
		if (nodes[i].node.v == node.v)
			return nodes[i].silent_ns != 0;
	return false;
}

static void quiesce_say(const struct cluster_pool *pool, char *ret, size_t size_bytes)
{
	uint64_t until_ns = pool->ownership.quiesce_until_ns;
	uint64_t now_ns = ferry_loop_now_ns(pool->cluster->loop);
	char missing[100];

	missing_list(pool, is_off, missing, sizeof(missing));
	if (until_ns == 0)
		(void)snprintf(ret, size_bytes, "waits until %s is fenced by its power, or back",
			       missing);
	else
		(void)snprintf(ret, size_bytes, "waits for the lun's quiesce time, %u s more",
			       (unsigned int)((ferry_max_u64(until_ns, now_ns) - now_ns) /
					      FERRY_NS_PER_S));
}

void cluster_pool_waits_for(const struct cluster_pool *pool, char *ret, size_t size_bytes)
{
	const struct ferry_cluster *cluster = pool->cluster;
	const struct ferry_ownership *ownership = &pool->ownership;
	char missing[100];

	if (!cluster->group->is_quorate) {
		missing_list(pool, is_member, missing, sizeof(missing));
		(void)snprintf(ret, size_bytes, "waits for quorum%s%s%s",
			       missing[0] ? ": the agents of " : "", missing,
			       missing[0] ? " are missing" : "");
	} else if (ownership->phase == FERRY_OWNERSHIP_SYNCING) {
		missing_list(pool, has_spoken, missing, sizeof(missing));
		(void)snprintf(ret, size_bytes,
			       "waits for the agents of %s: %u of %u are needed, %u here", missing,
			       agents_needed(pool, ownership->is_forced),
			       cluster->group->nodes.count, ownership->members.count);
	} else if (ownership->phase == FERRY_OWNERSHIP_CLAIMING) {
		missing_list(pool, has_acked, missing, sizeof(missing));
		(void)snprintf(ret, size_bytes, "waits for the agents of %s to agree", missing);
	} else if (ownership->phase == FERRY_OWNERSHIP_DRAINING && ownership->is_quiescing) {
		quiesce_say(pool, ret, size_bytes);
	} else if (ownership->phase == FERRY_OWNERSHIP_DRAINING) {
		missing_list(pool, has_drained, missing, sizeof(missing));
		(void)snprintf(ret, size_bytes, "waits for what %s has in flight",
			       missing[0] ? missing : "this node");
	} else if (ownership->phase == FERRY_OWNERSHIP_TAKING && !pool->has_path) {
		(void)snprintf(ret, size_bytes, "waits for this node's path to the lun");
	} else if (ownership->phase == FERRY_OWNERSHIP_TAKING) {
		(void)snprintf(ret, size_bytes, "takes the lun");
	} else {
		(void)snprintf(ret, size_bytes, "%s", pool->reason);
	}
}

/* ---- Beginning and ending. ---- */

static bool is_had(const struct cluster_pool *pool)
{
	return pool->ownership.phase == FERRY_OWNERSHIP_OWNING;
}

/* A wish that has not come true does not come true later, when nobody wants it any more. */
static void withdraw(struct cluster_pool *pool, const char *why)
{
	if (!pool->is_open || !pool->cluster->group || is_had(pool) ||
	    pool->ownership.phase == FERRY_OWNERSHIP_IDLE ||
	    pool->ownership.phase == FERRY_OWNERSHIP_RELEASING)
		return;
	pool->is_withdrawing = true;
	ferry_ownership_release(&pool->ownership, (struct ferry_node){0});
	pool->is_withdrawing = false;
	cluster_pool_reason(pool, why);
}

static void wish_begin(struct cluster_pool *pool, struct ferry_control_request *request,
		       const char *reason, uint64_t deadline_ns)
{
	struct ferry_loop *loop = pool->cluster->loop;
	uint64_t now_ns = ferry_loop_now_ns(loop);
	uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;

	ferry_assert(!pool->acquiring);
	pool->acquiring = request;
	cluster_pool_reason(pool, reason);
	if (deadline_ns != UINT64_MAX)
		ferry_timer_start_in(loop, &pool->wish_timer,
				     left_ns - ferry_min_u64(WORD_NS_MAX, left_ns / 4));
}

static void wish_end(struct cluster_pool *pool)
{
	char waited[FERRY_CONTROL_TEXT_BYTES - 32], why[FERRY_CONTROL_TEXT_BYTES];

	if (is_had(pool)) {
		cluster_pool_acquired(pool, -ETIMEDOUT,
				      "the pool is owned, its volume is not shown yet");
		return;
	}
	cluster_pool_waits_for(pool, waited, sizeof(waited));
	(void)snprintf(why, sizeof(why), "%s; withdrawn", waited);
	withdraw(pool, why);
	cluster_pool_acquired(pool, -ETIMEDOUT, why);
}

void cluster_pool_wish_expired(struct ferry_timer *timer)
{
	struct cluster_pool *pool = FERRY_CONTAINER_OF(timer, struct cluster_pool, wish_timer);

	if (pool->acquiring)
		wish_end(pool);
}

void cluster_pool_cancelled(struct cluster_pool *pool, struct ferry_control_request *request)
{
	if (pool->attaching == request) { /* The device is made all the same; nobody is told. */
		pool->attaching = NULL;
		ferry_control_done(request, -ECANCELED, NULL);
	}
	if (pool->acquiring == request)
		wish_end(pool); /* A release or a move goes on: what is begun is best ended. */
}

/* ---- Acquiring. ---- */

static const char *acquire_refusal(const struct cluster_pool *pool)
{
	if (pool->ownership.is_fenced)
		return "this node is fenced from the pool until its agent is started anew";
	/* What its applications know is from before others wrote. */
	if (pool->is_shown && !is_had(pool))
		return "this node was deposed and applications may still have the volume open: "
		       "`ferry release` it first";
	return NULL;
}

/* Whether the pool can be wished for now; else @request is answered. */
static bool may_acquire(struct cluster_pool *pool, struct ferry_control_request *request)
{
	const char *refusal;

	if (!pool->is_open) {
		ferry_control_done(request, -EAGAIN,
				   "this node's path to the lun has not worked since the agent "
				   "started: it cannot take the pool yet");
		return false;
	}
	if (!pool->cluster->group) {
		ferry_control_done(request, -EOPNOTSUPP,
				   "this agent stands alone: what it released it serves when it is "
				   "started anew");
		return false;
	}
	if (pool->is_releasing) {
		ferry_control_done(request, -EBUSY, "a change of owner is under way");
		return false;
	}
	refusal = acquire_refusal(pool);
	if (refusal)
		ferry_control_done(request, -EPERM, refusal);
	return !refusal;
}

/* A person's word is for nodes that do not answer: from one that serves nothing is taken by it. */
static bool is_free(struct cluster_pool *pool, struct ferry_control_request *request,
		    const char *otherwise)
{
	char why[FERRY_CONTROL_TEXT_BYTES], name[FERRY_CONFIG_NAME_BYTES];

	if (!ferry_ownership_is_served_elsewhere(&pool->ownership))
		return true;
	name_of(pool->cluster, pool->ownership.view.owner, name);
	(void)snprintf(why, sizeof(why),
		       "%s serves it: `ferry move %s %s` there, or %s, which its applications see "
		       "as errors",
		       name, pool->config->name, pool->cluster->node_name, otherwise);
	ferry_control_done(request, -EPERM, why);
	return false;
}

void cluster_pool_acquire(struct cluster_pool *pool, struct ferry_control_request *request)
{
	if (!may_acquire(pool, request))
		return;
	if (pool->acquiring) {
		ferry_control_done(request, -EBUSY, "somebody waits for it to be acquired already");
		return;
	}
	if (!request->is_take && !is_free(pool, request, "--take"))
		return;
	wish_begin(pool, request, "acquiring", request->deadline_ns);
	ferry_ownership_acquire(&pool->ownership, request->is_take);
}

/* ---- By force. ---- */

static bool is_among(const struct ferry_members *nodes, struct ferry_node node)
{
	for (uint32_t i = 0; i < nodes->count; i++)
		if (nodes->nodes[i].v == node.v)
			return true;
	return false;
}

/* Of the cluster's nodes, those in the request; each once, and no others. */
static void named_find(const struct ferry_cluster *cluster, const struct ferry_members *asked,
		       struct ferry_members *ret)
{
	*ret = (struct ferry_members){0};
	for (uint32_t i = 0; i < cluster->peers_count; i++)
		if (is_among(asked, cluster->peers[i].node))
			ret->nodes[ret->count++] = cluster->peers[i].node;
}

/* Whom the person has not answered for, though it is missing; 0: nobody. */
static struct ferry_node missing_find(const struct cluster_pool *pool,
				      const struct ferry_members *answered_for)
{
	const struct ferry_cluster *cluster = pool->cluster;

	for (uint32_t i = 0; i < cluster->peers_count; i++) {
		struct ferry_node node = cluster->peers[i].node;

		if (!ferry_view_has_member(&pool->ownership.view, node) &&
		    !is_among(answered_for, node))
			return node;
	}
	return (struct ferry_node){0};
}

/* Whether a person's word is enough; else @request is answered. */
static bool may_force(const struct cluster_pool *pool, struct ferry_control_request *request)
{
	const struct ferry_cluster *cluster = pool->cluster;
	struct ferry_node missing = missing_find(pool, &request->nodes);
	uint32_t needed = agents_needed(pool, /* is_forced= */ true);
	char why[FERRY_CONTROL_TEXT_BYTES], names[FERRY_CONFIG_NAME_BYTES + 50];

	if (missing.v != 0) {
		name_of(cluster, missing, names);
		(void)snprintf(why, sizeof(why), "%s has not answered either", names);
		ferry_control_done(request, -EPERM, why);
		return false;
	}
	if (cluster->members.count < needed) {
		missing_list(pool, is_member, names, sizeof(names));
		(void)snprintf(why, sizeof(why), "%u of %u agents are needed, %u here; missing: %s",
			       needed, cluster->group->nodes.count, cluster->members.count, names);
		ferry_control_done(request, -EPERM, why);
		return false;
	}
	return true;
}

void cluster_pool_force(struct cluster_pool *pool, struct ferry_control_request *request)
{
	uint64_t now_ns = ferry_loop_now_ns(pool->cluster->loop);
	struct ferry_members named;

	if (!may_acquire(pool, request) || !may_force(pool, request) ||
	    !is_free(pool, request, "`ferry acquire --take`"))
		return;
	named_find(pool->cluster, &request->nodes, &named);
	if (pool->acquiring)
		cluster_pool_acquired(pool, -ECANCELED, "`ferry own --force` has taken its place");
	withdraw(pool, "acquiring by force");
	wish_begin(pool, request, "acquiring by force",
		   ferry_min_u64(request->deadline_ns, now_ns + FORCE_NS_MAX));
	if (ferry_ownership_force(&pool->ownership, &named) < 0)
		cluster_pool_acquired(pool, -EBUSY, "a change of owner is under way");
}

/* ---- Releasing and moving. ---- */

/* I/O that does not end by itself is told that the volume is closing. */
void cluster_pool_patience_over(struct ferry_timer *timer)
{
	struct cluster_pool *pool = FERRY_CONTAINER_OF(timer, struct cluster_pool, patience);

	if (!pool->is_releasing) {
		cluster_pool_answer(&pool->moving, -ETIMEDOUT,
				    "the pool is released, but the other node does not own it yet: "
				    "see its log");
		return;
	}
	cluster_pool_tell(pool, (struct ferry_mail){.kind = FERRY_MAIL_FAIL});
	ferry_timer_start_in(pool->cluster->loop, timer, FERRY_NS_PER_S);
}

/* @is_force: whoever uses the volume. One that was lost gives errors already: nothing is saved. */
static void release_begin(struct cluster_pool *pool, bool is_force)
{
	bool is_served = !pool->cluster->group || pool->ownership.wants_pool;

	pool->next_owner.v = 0;
	pool->is_releasing = true;
	cluster_pool_reason(pool, "releasing");
	ferry_timer_start_in(pool->cluster->loop, &pool->patience, RELEASE_PATIENCE_NS);
	/* Who stands alone has nobody to give the pool to: the next agent goes on with it. */
	cluster_pool_tell(pool, (struct ferry_mail){.kind = FERRY_MAIL_HIDE,
						    .flag = is_served && !is_force,
						    .count = pool->cluster->is_stopping &&
							     !pool->cluster->group});
}

void cluster_pool_release(struct cluster_pool *pool, struct ferry_control_request *request)
{
	if (pool->is_releasing) {
		if (request)
			ferry_control_done(request, -EBUSY, "a change of owner is under way");
		return;
	}
	if (!pool->is_open) {
		if (request)
			ferry_control_done(request, 0, NULL);
		return;
	}
	if (pool->acquiring)
		cluster_pool_acquired(pool, -ECANCELED, "the pool was released meanwhile");
	if (!pool->is_shown)
		withdraw(pool, "releasing");
	pool->releasing = request;
	release_begin(pool, !request || request->is_force);
}

/* Why @node cannot be the next owner, or NULL. */
static const char *move_refusal(const struct cluster_pool *pool, struct ferry_node node)
{
	const struct ferry_ownership *ownership = &pool->ownership;
	const struct ferry_ownership_member *member = cluster_pool_member(pool, node);

	ferry_assert(member);
	for (uint32_t i = 0; i < FERRY_NODES_MAX; i++)
		if (ownership->seen[i].node.v == node.v &&
		    ownership->seen[i].fenced.v >= member->incarnation.v &&
		    ownership->seen[i].fenced.v != 0)
			return "that node is fenced from the pool until its agent is started anew";
	if (!member->has_path)
		return "that node has no path to the lun that works: it could not serve";
	return NULL;
}

/* Only the owner can hand a pool over. */
static void owner_ask(const struct cluster_pool *pool, struct ferry_control_request *request)
{
	const struct ferry_view *view = &pool->ownership.view;
	char why[FERRY_CONTROL_TEXT_BYTES], name[FERRY_CONFIG_NAME_BYTES];

	if (!pool->is_open || view->owner.v == 0 || view->owner.v == pool->cluster->self.v) {
		ferry_control_done(request, -EPERM,
				   "this node does not own the pool, and knows of nobody who does");
		return;
	}
	name_of(pool->cluster, view->owner, name);
	(void)snprintf(why, sizeof(why),
		       "this node does not own the pool: `ferry move %s %s` on %s, which does",
		       pool->config->name, request->node, name);
	ferry_control_done(request, -EPERM, why);
}

void cluster_pool_move(struct cluster_pool *pool, struct ferry_node node,
		       struct ferry_control_request *request)
{
	const struct ferry_cluster *cluster = pool->cluster;
	const char *refusal;

	if (!cluster->group) {
		ferry_control_done(request, -EOPNOTSUPP, "this agent stands alone");
		return;
	}
	if (!is_had(pool)) {
		owner_ask(pool, request);
		return;
	}
	if (node.v == cluster->self.v) {
		request->answer.owner.epoch = pool->ownership.view.epoch;
		request->answer.owner.was_there = true;
		ferry_control_done(request, 0, NULL);
		return;
	}
	if (!ferry_view_has_member(&pool->ownership.view, node)) {
		ferry_control_done(request, -ENOENT, "no agent of that node is in the group");
		return;
	}
	if (pool->is_releasing || pool->acquiring || pool->moving ||
	    pool->ownership.fencing.is_running) {
		ferry_control_done(request, -EBUSY, "a change of owner is under way");
		return;
	}
	refusal = move_refusal(pool, node);
	if (refusal) {
		ferry_control_done(request, -EPERM, refusal);
		return;
	}
	pool->moving = request;
	release_begin(pool, request->is_force);
	pool->next_owner = node;
}
