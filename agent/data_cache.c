/* data_cache.c - a pool's read cache on the data thread: its memory, and its way between nodes. */
#include <stdio.h>
#include <sys/mman.h>

#include "agent/core/key.h"
#include "agent/data_internal.h"

/* How much longer a change of owner may take for the sake of a warm start. */
#define WARM_PATIENCE_NS (2 * FERRY_NS_PER_S)

/* Why this pool has no cache, or NULL. */
static const char *reason_against(const struct data_pool *pool,
				  const struct ferry_engine_config *config)
{
	if (pool->data->config.cache_bytes == 0)
		return "none is configured: [cache] size";
	if (!config->fence && !pool->config->is_exclusive)
		return "the lun has no reservations, and its pool does not say exclusive = yes";
	if (ferry_cache_lines(pool->data->config.cache_bytes / pool->data->config.pools_count) == 0)
		return "[cache] size is too small for this many pools";
	return NULL;
}

void data_cache_open(struct data_pool *pool, struct ferry_engine_config *config)
{
	const struct ferry_data_config *data = &pool->data->config;
	uint32_t lines;
	void *memory;

	pool->cache_reason = reason_against(pool, config);
	if (pool->cache_reason)
		return;
	lines = ferry_cache_lines(data->cache_bytes / data->pools_count);
	pool->cache_memory_bytes = (size_t)lines * FERRY_CACHE_LINE_BYTES;
	memory = mmap(NULL, pool->cache_memory_bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED) { /* A cache is no reason to serve nothing. */
		pool->cache_reason = "no memory for it: lower [cache] size";
		return;
	}
	pool->cache_memory = memory;
	config->cache_data = memory;
	config->cache_lines_max = lines;
}

static struct ferry_warm_name own_name(const struct data_pool *pool)
{
	const struct ferry_engine_config *config = &pool->engine.config;

	return (struct ferry_warm_name){.lun = config->identity.uuid,
					.lineage = config->lineage,
					.node = config->self,
					.incarnation = config->incarnation};
}

int data_cache_on_warm(struct ferry_engine *engine, uint64_t cursor, struct ferry_arena *arena,
		       struct ferry_segments *ret)
{
	struct data_pool *pool = engine->config.context;
	struct ferry_warm_name name = own_name(pool);

	return ferry_warm_export(&engine->cache, &name, cursor, arena, ret);
}

static struct ferry_peer *pull_peer_of(struct ferry_node node, void *context)
{
	struct data_pool *pool = context;

	return ferry_engine_peer(&pool->engine, node);
}

static void pull_ready(void *context)
{
	data_pool_taken(context, 0);
}

void data_cache_opened(struct data_pool *pool)
{
	struct ferry_pull_config config = {
		.loop = pool->data->loop,
		.arena = &pool->data->peers_arena,
		.events = &pool->data->events,
		.pool = pool->config->name,
		.cache = ferry_engine_cache(&pool->engine),
		.name = own_name(pool),
		.peer_of = pull_peer_of,
		.on_ready = pull_ready,
		.context = pool,
	};

	pool->has_pull = config.cache && pool->data->config.cluster;
	if (pool->has_pull)
		ferry_pull_init(&pool->pull, &config);
}

/* Who had to be preempted is dead or frozen, as like as not: nobody waits for it. */
static bool last_owner_drained(const struct data_pool *pool)
{
	struct ferry_node owner = pool->engine.cache.heritage.owner;

	for (uint32_t i = 0; i < pool->drained_keys.count; i++)
		if (ferry_key_node(pool->drained_keys.keys[i]).v == owner.v)
			return true;
	return false;
}

void data_cache_taken(struct data_pool *pool, int error)
{
	if (pool->has_pull && error == 0) {
		/* The lun is this node's alone, and nobody writes yet: now is the time. */
		ferry_pull_start(&pool->pull, pool->engine.view.epoch,
				 last_owner_drained(pool) ? WARM_PATIENCE_NS : 0);
		return;
	}
	if (pool->has_pull)
		ferry_pull_stop(&pool->pull);
	data_pool_taken(pool, error);
}

void data_cache_snap(const struct data_pool *pool, struct ferry_snapshot_cache *ret)
{
	static const char *const reasons[] = {
		[FERRY_CACHE_OFF] = "empty: this node does not own the pool, or has lost its hold",
		[FERRY_CACHE_SERVING] = "serving",
		[FERRY_CACHE_HELD] = "held for the next owner",
	};
	const struct ferry_cache *cache = &pool->engine.cache;

	*ret = (struct ferry_snapshot_cache){};
	if (pool->cache_reason || !pool->is_open) {
		(void)snprintf(ret->reason, sizeof(ret->reason), "%s",
			       pool->cache_reason ? pool->cache_reason
						  : "the lun is not known yet");
		return;
	}
	ret->is_enabled = true;
	(void)snprintf(ret->reason, sizeof(ret->reason), "%s",
		       cache->is_blocked ? "waiting for writes whose outcome is unknown"
					 : reasons[cache->mode]);
	ret->capacity_bytes = (uint64_t)cache->index.lines_max * FERRY_CACHE_LINE_BYTES;
	ret->used_bytes = ferry_cache_used_bytes(cache);
	ret->warm_blocks = cache->stats.imported;
	ret->stats = cache->stats;
}

void data_cache_close(struct data_pool *pool)
{
	if (pool->has_pull)
		ferry_pull_stop(&pool->pull);
	if (pool->cache_memory)
		(void)munmap(pool->cache_memory, pool->cache_memory_bytes);
	pool->cache_memory = NULL;
}
