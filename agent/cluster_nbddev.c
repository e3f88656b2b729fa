/*
 * cluster_nbddev.c - devices of the kernel's NBD client that an agent has left: they get a new
 * connection, or are ended, as the data thread has decided (data_recovery.c). Here, since the
 * kernel may wait for that thread; and on a thread of its own, since it may wait for long.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/adapters/nbddev/nbddev.h"
#include "agent/base/checksum.h"
#include "agent/cluster_internal.h"

#define AGAIN_NS (50 * FERRY_NS_PER_MS)

enum { TRIES_MAX = 100 }; /* 5 s */

/*
 * Who serves it, since when alone, and which lun it is on: the same after a restart of the agent,
 * and else not.
 */
void cluster_nbddev_label(const struct cluster_pool *pool, char *ret, size_t size_bytes)
{
	const struct ferry_cluster *cluster = pool->cluster;
	struct {
		struct ferry_uuid lineage, lun;
		uint64_t node, tenure;
	} who = {cluster->data_lineages[pool->index], pool->identity.uuid, cluster->self.v,
		 pool->tenure.v};
	struct ferry_uuid hash = ferry_hash128(&who, sizeof(who));
	uint64_t number;

	memcpy(&number, &hash, sizeof(number));
	(void)snprintf(ret, size_bytes, "%016llx", (unsigned long long)number);
}

static void said(const struct cluster_pool *pool, const char *what)
{
	ferry_log(FERRY_SEVERITY_NOTICE, "volume %s: %s", pool->volume->name, what);
}

static void answered(void *context, int answer, int fd);

static void done(struct cluster_pool *pool)
{
	pool->is_nbddev_due = false;
	cluster_pool_nbddev_done(pool);
}

/* The kernel has not let go of the agent before this one, or there was no thread to ask on. */
static void again(struct cluster_pool *pool, const char *why_never)
{
	if (++pool->nbddev_tries < TRIES_MAX) {
		ferry_timer_start_in(pool->cluster->loop, &pool->nbddev_timer, AGAIN_NS);
		return;
	}
	said(pool, why_never);
	done(pool);
}

/* What the data thread has decided, as it stands now. */
static void ask(struct cluster_pool *pool)
{
	struct ferry_nbddev_question question = {
		.goes_on = pool->nbddev_goes_on,
		.shape = {.size_bytes = pool->identity.size_blocks * pool->identity.block_bytes,
			  .block_bytes = pool->identity.block_bytes,
			  .flags = pool->volume->is_read_only ? FERRY_NBDDEV_READ_ONLY : 0}};
	int r;

	ferry_assert(!pool->nbddev_asking);
	cluster_nbddev_label(pool, question.label, sizeof(question.label));
	control_uri_of(pool->cluster, pool->volume->name, question.uri, sizeof(question.uri));
	pool->nbddev_asked = question.goes_on;
	r = ferry_nbddev_ask(pool->cluster->loop, &question, answered, pool, &pool->nbddev_asking);
	if (r < 0)
		again(pool, "it could not be asked what becomes of its nbd device");
}

static void look(struct ferry_timer *timer)
{
	ask(FERRY_CONTAINER_OF(timer, struct cluster_pool, nbddev_timer));
}

/* @fd is the data thread's from now on; or is closed: its device is dead again, and can be ended.
 */
static void serve(struct cluster_pool *pool, int fd)
{
	struct ferry_mail mail = {.kind = FERRY_MAIL_ADOPT, .fd = fd};

	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		(void)close(fd);
		return;
	}
	cluster_pool_tell(pool, mail);
	said(pool, "the nbd device of an earlier agent is served again");
}

static void answered(void *context, int answer, int fd)
{
	struct cluster_pool *pool = context;

	pool->nbddev_asking = NULL;
	if (pool->nbddev_asked != pool->nbddev_goes_on) { /* Decided anew meanwhile. */
		if (fd >= 0)
			(void)close(fd);
		ask(pool);
		return;
	}
	if (answer == -EAGAIN) {
		again(pool, "its nbd device has another server, one in another mount namespace?");
		return;
	}
	if (fd >= 0)
		serve(pool, fd);
	else if (answer == -ESTALE)
		said(pool, "the nbd device of an earlier agent was of another lun, or another node "
			   "has served the volume since: it is ended");
	else if (answer > 0)
		said(pool,
		     "its nbd device is ended: another may serve the volume, or has served it");
	done(pool);
}

void cluster_nbddev_mail(struct cluster_pool *pool, const struct ferry_mail *mail)
{
	pool->nbddev_goes_on = mail->flag;
	pool->nbddev_tries = 0;
	pool->is_nbddev_due = true;
	ferry_timer_stop(pool->cluster->loop, &pool->nbddev_timer);
	pool->nbddev_timer.run = look;
	if (!pool->nbddev_asking) /* Else its answer leads on. */
		ask(pool);
}

void cluster_nbddev_close(struct cluster_pool *pool)
{
	ferry_timer_stop(pool->cluster->loop, &pool->nbddev_timer);
	pool->nbddev_asking = ferry_nbddev_ask_close(pool->nbddev_asking);
}
