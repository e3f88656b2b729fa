/*
 * cluster.h - the cluster thread: membership, ownership, decisions, the log and the control
 * socket, put together and run.
 *
 * Owns:    the libqb loop and all that runs on it.
 * Callers: main.c.
 * Thread:  the starting thread, which becomes the cluster thread.
 * Rooms:   rank 5.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/data.h"
#include "agent/settings.h"
#include "agent/system.h"

struct ferry_cluster;

/*
 * Log, signals, state directory, corosync: whatever the data thread's configuration depends on.
 * @ret_data gets all of that configuration. The mailbox is the cluster's.
 */
int ferry_cluster_open(struct ferry_settings *settings, const struct ferry_system *system,
		       struct ferry_cluster **ret, struct ferry_data_config *ret_data,
		       struct ferry_error *reterr) FERRY_MUST_CHECK;

/* The data thread is ready to be told: join the group, open the control socket. */
int ferry_cluster_start(struct ferry_cluster *cluster, struct ferry_data *data,
			struct ferry_error *reterr) FERRY_MUST_CHECK;

/* Until the agent was asked to stop and has. 0, or why it had to. */
int ferry_cluster_run(struct ferry_cluster *cluster);

/* The data thread has ended by itself, which it should not. Any thread. */
void ferry_cluster_data_ended(struct ferry_cluster *cluster);

/*
 * For an agent that is gone, however it ended: unset what it has published at Pacemaker. 0, also
 * where it publishes nothing; or why not, of the first that failed.
 */
int ferry_cluster_withdraw(const struct ferry_settings *settings,
			   struct ferry_error *reterr) FERRY_MUST_CHECK;

/* NULL is a no-op. Returns NULL. */
struct ferry_cluster *ferry_cluster_close(struct ferry_cluster *cluster);
static inline void ferry_cluster_closep(struct ferry_cluster **cluster)
{
	*cluster = ferry_cluster_close(*cluster);
}
