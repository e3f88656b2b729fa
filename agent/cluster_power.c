/* cluster_power.c - whose power was cut, by Pacemaker's history, for all pools of the agent. */
#include "agent/cluster_internal.h"

static void on_change(void *context)
{
	struct ferry_cluster *cluster = context;

	for (uint32_t i = 0; i < cluster->pools_count; i++)
		if (cluster->pools[i].is_open)
			ferry_ownership_power_news(&cluster->pools[i].ownership);
}

/* Without a promise nothing follows from a fencing. */
static bool is_of_use(const struct ferry_config *config)
{
	for (uint32_t i = 0; i < config->luns_count; i++)
		if (config->luns[i].quiesce_time_ns > 0)
			return config->power_agents_count > 0;
	return false;
}

int cluster_power_open(struct ferry_cluster *cluster, struct ferry_error *reterr)
{
	const struct ferry_config *config = &cluster->settings->config;
	struct ferry_stonith_config stonith = {.loop = cluster->loop};
	struct ferry_power_watch_config watch = {
		.loop = cluster->loop,
		.events = &cluster->events,
		.self = cluster->self,
		.on_change = on_change,
		.context = cluster,
	};
	int r;

	_Static_assert(sizeof(stonith.agents.names) == sizeof(config->power_agents), "the same");
	if (!is_of_use(config))
		return 0;
	memcpy(stonith.agents.names, config->power_agents, sizeof(stonith.agents.names));
	stonith.agents.count = config->power_agents_count;
	r = ferry_stonith_open(&stonith, &cluster->stonith, reterr);
	if (r < 0)
		return r;
	watch.power = ferry_stonith_power(cluster->stonith);
	watch.nodes_count = ferry_corosync_nodes(cluster->corosync, watch.nodes);
	ferry_power_watch_init(&cluster->power, &watch);
	return 0;
}

void cluster_power_close(struct ferry_cluster *cluster)
{
	if (!cluster->stonith)
		return;
	ferry_power_watch_done(&cluster->power);
	ferry_stonith_close(cluster->stonith);
	cluster->stonith = NULL;
}
