/*
 * cluster_nbddev.c - devices of the kernel's NBD client that an agent has left: they get a new
 * connection, or are ended, as the data thread has decided (data_recovery.c). Here, since the
 * kernel may wait for that thread.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/adapters/nbddev/nbddev.h"
#include "agent/base/checksum.h"
#include "agent/cluster_internal.h"

#define AGAIN_NS (50 * FERRY_NS_PER_MS)

enum { TRIES_MAX = 100 }; /* 5 s */

/* Who serves it and which lun it is on: the same after a restart of the agent, and else not. */
void cluster_nbddev_label(const struct cluster_pool *pool, char *ret, size_t size_bytes)
{
	const struct ferry_cluster *cluster = pool->cluster;
	struct {
		struct ferry_uuid lineage, lun;
		uint64_t node;
	} who = {cluster->data_lineages[pool->index], pool->identity.uuid, cluster->self.v};
	struct ferry_uuid hash = ferry_hash128(&who, sizeof(who));
	uint64_t number;

	memcpy(&number, &hash, sizeof(number));
	(void)snprintf(ret, size_bytes, "%016llx", (unsigned long long)number);
}

static void said(const struct cluster_pool *pool, const char *what)
{
	ferry_log(FERRY_SEVERITY_NOTICE, "volume %s: %s", pool->volume->name, what);
}

/* 0: done; -EAGAIN: the kernel has not let go of the agent before this one. */
static int go_on(struct cluster_pool *pool, const char *uri)
{
	const struct ferry_nbddev_shape shape = {
		.size_bytes = pool->identity.size_blocks * pool->identity.block_bytes,
		.block_bytes = pool->identity.block_bytes,
		.flags = pool->volume->is_read_only ? FERRY_NBDDEV_READ_ONLY : 0,
	};
	char label[FERRY_CONTROL_NAME_BYTES];
	struct ferry_mail mail = {.kind = FERRY_MAIL_ADOPT};
	int r;

	cluster_nbddev_label(pool, label, sizeof(label));
	r = ferry_nbddev_return(uri, label, &shape, &mail.fd);
	if (r == -ESTALE)
		said(pool, "the nbd device of an earlier agent was of another lun: it is ended");
	if (r < 0)
		return r == -EAGAIN ? r : 0;
	if (fcntl(mail.fd, F_SETFL, O_NONBLOCK) < 0) { /* It is dead again, and can be ended. */
		(void)close(mail.fd);
		return 0;
	}
	cluster_pool_tell(pool, mail);
	said(pool, "the nbd device of an earlier agent is served again");
	return 0;
}

static void look(struct ferry_timer *timer)
{
	struct cluster_pool *pool = FERRY_CONTAINER_OF(timer, struct cluster_pool, nbddev_timer);
	char uri[FERRY_CONTROL_TEXT_BYTES];
	int r;

	control_uri_of(pool->cluster, pool->volume->name, uri, sizeof(uri));
	r = pool->nbddev_goes_on ? go_on(pool, uri) : ferry_nbddev_end(uri);
	if (r > 0)
		said(pool,
		     "its nbd device is ended: another may serve the volume, or has served it");
	if (r == -EAGAIN && ++pool->nbddev_tries < TRIES_MAX) {
		ferry_timer_start_in(pool->cluster->loop, timer, AGAIN_NS);
		return;
	}
	if (r == -EAGAIN)
		said(pool, "its nbd device has another server, one in another mount namespace?");
	pool->is_nbddev_due = false;
	cluster_pool_nbddev_done(pool);
}

void cluster_nbddev_mail(struct cluster_pool *pool, const struct ferry_mail *mail)
{
	pool->nbddev_goes_on = mail->flag;
	pool->nbddev_tries = 0;
	pool->is_nbddev_due = true;
	ferry_timer_stop(pool->cluster->loop, &pool->nbddev_timer);
	pool->nbddev_timer.run = look;
	look(&pool->nbddev_timer);
}

void cluster_nbddev_close(struct cluster_pool *pool)
{
	ferry_timer_stop(pool->cluster->loop, &pool->nbddev_timer);
}
