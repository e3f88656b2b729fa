#include "tests/sim/sim_node.h"

#include <inttypes.h>
#include <stdlib.h>

#include "agent/core/key.h"

static const struct ferry_uuid lineage = {{0x11, 0x22, 0x33, 0x44}};

/* ---- Between the two threads. ---- */

static void post_free(struct sim_post *post)
{
	sim_input_cancel(&post->input);
	ferry_list_remove(&post->link);
	free(post);
}

/* The transport's doing when a node's agent is no member any more; and again, when it is. */
static void members_heard(struct sim_node *node, const struct ferry_members *members)
{
	struct ferry_members before = node->members;

	node->members = *members;
	for (uint32_t i = 0; i < before.count; i++) {
		uint32_t peer = before.nodes[i].v;
		bool is_still = false;

		for (uint32_t j = 0; j < members->count; j++)
			is_still |= members->nodes[j].v == peer;
		if (is_still || peer == node->id)
			continue;
		sim_transport_forget(&node->transport, peer);
		ferry_peer_lost(&node->peers[peer]);
	}
}

static void post_to_data(struct sim_node *node, const struct sim_post *post)
{
	switch (post->kind) {
	case SIM_POST_VIEW:
		members_heard(node, &post->view.members);
		ferry_engine_set_view(&node->engine, &post->view);
		break;
	case SIM_POST_TAKE:
		node->drained = post->drained;
		node->taking = node->engine.view.epoch;
		if (ferry_engine_cache(&node->engine))
			ferry_pull_stop(&node->pull);
		ferry_engine_take(&node->engine, &post->drained);
		break;
	case SIM_POST_PEER_PATH:
		ferry_engine_set_peer_has_path(&node->engine, post->peer, post->flag);
		break;
	case SIM_POST_DRAINED:
	case SIM_POST_TAKEN:
	case SIM_POST_HEALTH:
	case SIM_POST_VERDICT:
	case SIM_POST_ASK:
	case SIM_POST_PREEMPTED:
	case SIM_POST_WITNESS:
	case SIM_POST_NOTED:
	default:
		ferry_unreachable("not for the data side");
	}
}

static void post_run(struct sim_input *input)
{
	struct sim_post *post = FERRY_CONTAINER_OF(input, struct sim_post, input);
	struct sim_node *node = post->node;

	switch (post->kind) {
	case SIM_POST_VIEW:
	case SIM_POST_TAKE:
	case SIM_POST_PEER_PATH:
		post_to_data(node, post);
		break;
	case SIM_POST_DRAINED:
		ferry_ownership_drained(&node->ownership, post->epoch);
		break;
	case SIM_POST_TAKEN:
		ferry_ownership_taken(&node->ownership, post->epoch, post->error);
		break;
	case SIM_POST_HEALTH:
		ferry_ownership_health(&node->ownership, post->flag);
		break;
	case SIM_POST_VERDICT:
		node->convictions += post->flag;
		break;
	case SIM_POST_ASK:
		ferry_ownership_ask(&node->ownership, post->word);
		break;
	case SIM_POST_PREEMPTED:
		ferry_ownership_preempted(&node->ownership);
		break;
	case SIM_POST_WITNESS:
		ferry_ownership_witness(&node->ownership, post->word);
		break;
	case SIM_POST_NOTED:
		ferry_ownership_noted(&node->ownership, post->word);
		break;
	default:
		ferry_unreachable("no such post");
	}
	post_free(post);
}

/* Of the direction @way: none is heard until then. */
static void post_delay(struct sim_node *node, uint32_t way, uint64_t delay_ns)
{
	if (node->posted_ns[way] <= node->sim->now_ns)
		node->stuck_ns[way] = node->sim->now_ns;
	node->posted_ns[way] = ferry_max_u64(node->posted_ns[way], node->sim->now_ns + delay_ns);
}

static struct sim_post *post_new(struct sim_node *node, enum sim_post_kind kind)
{
	struct sim_post *post = sim_alloc(sizeof(*post));
	uint32_t way = kind >= SIM_POST_DRAINED;
	uint64_t delay_ns =
		sim_between(node->sim, SIM_CLOCK, 1 * FERRY_NS_PER_US, 50 * FERRY_NS_PER_US);

	if (sim_chance(node->sim, SIM_CLOCK, 10)) /* The other thread is busy... */
		delay_ns *= 100;
	if (sim_chance(node->sim, SIM_CLOCK, node->stall_per_mille)) /* ...or waits for a disk. */
		delay_ns += sim_below(node->sim, SIM_CLOCK, node->stall_ns_max);
	post->node = node;
	post->kind = kind;
	sim_input_init(&post->input, &node->loop, SIM_POST, post_run);
	post->input.event.value = kind;
	ferry_list_init(&post->link);
	ferry_list_append(&node->posts, &post->link);
	post_delay(node, way, delay_ns);
	sim_input_at(&post->input, node->posted_ns[way]);
	return post;
}

void sim_node_hears_late(struct sim_node *node, uint64_t delay_ns)
{
	sim_note(node->sim, SIM_FAULT, node->id, delay_ns, "hears its group %" PRIu64 " ms late",
		 delay_ns / FERRY_NS_PER_MS);
	post_delay(node, 0, delay_ns);
}

/* ---- The cluster side speaks. ---- */

static void ownership_set_view(const struct ferry_view *view, void *context)
{
	struct sim_node *node = context;

	post_new(node, SIM_POST_VIEW)->view = *view;
}

static void ownership_take(const struct ferry_drained_keys *drained, void *context)
{
	struct sim_node *node = context;

	post_new(node, SIM_POST_TAKE)->drained = *drained;
	node->power_takes += drained->is_answered_for && !node->ownership.is_forced;
}

static void ownership_peer_has_path(struct ferry_node peer, bool has_path, void *context)
{
	struct sim_node *node = context;
	struct sim_post *post = post_new(node, SIM_POST_PEER_PATH);

	post->peer = peer;
	post->flag = has_path;
}

static void ownership_wish(int error, const char *why, void *context)
{
	struct sim_node *node = context;

	sim_note(node->sim, SIM_NODE, node->id, (uint64_t)-error, "wish: %d, %s", error, why);
	node->wish_error = error;
}

static void ownership_fenced(struct ferry_node victim, int error, const char *why, void *context)
{
	struct sim_node *node = context;

	sim_note(node->sim, SIM_NODE, node->id, victim.v, "fencing node %u: %d, %s", victim.v,
		 error, why);
	node->fence_error = error;
}

/* ---- The data side speaks. ---- */

static struct sim_node *of_engine(struct ferry_engine *engine)
{
	return FERRY_CONTAINER_OF(engine, struct sim_node, engine);
}

static void engine_verdict(struct ferry_engine *engine, enum ferry_verdict verdict)
{
	post_new(of_engine(engine), SIM_POST_VERDICT)->flag = verdict == FERRY_VERDICT_LOCAL_PATH;
}

static void engine_health(struct ferry_engine *engine, bool has_path)
{
	post_new(of_engine(engine), SIM_POST_HEALTH)->flag = has_path;
}

static void engine_drained(struct ferry_engine *engine, struct ferry_epoch epoch)
{
	post_new(of_engine(engine), SIM_POST_DRAINED)->epoch = epoch;
}

/* ---- The warm start, wired as agent/data_cache.c does it. ---- */

static struct ferry_warm_name own_name(const struct sim_node *node)
{
	const struct ferry_engine_config *config = &node->engine.config;

	return (struct ferry_warm_name){.lun = config->identity.uuid,
					.lineage = config->lineage,
					.node = config->self,
					.incarnation = config->incarnation};
}

static int engine_warm(struct ferry_engine *engine, uint64_t cursor, struct ferry_arena *arena,
		       struct ferry_segments *ret)
{
	struct ferry_warm_name name = own_name(of_engine(engine));

	return ferry_warm_export(&engine->cache, &name, cursor, arena, ret);
}

static struct ferry_peer *pull_peer_of(struct ferry_node id, void *context)
{
	struct sim_node *node = context;

	return ferry_engine_peer(&node->engine, id);
}

static void taken_say(struct sim_node *node, int error)
{
	struct sim_post *post = post_new(node, SIM_POST_TAKEN);

	post->epoch = node->taking;
	post->error = error;
}

static void pull_ready(void *context)
{
	taken_say(context, 0);
}

static bool last_owner_drained(const struct sim_node *node)
{
	for (uint32_t i = 0; i < node->drained.count; i++)
		if (ferry_key_node(node->drained.keys[i]).v == node->engine.cache.heritage.owner.v)
			return true;
	return false;
}

static void engine_taken(struct ferry_engine *engine, int error)
{
	struct sim_node *node = of_engine(engine);
	bool has_cache = ferry_engine_cache(engine) != NULL;

	if (has_cache && error == 0) {
		ferry_pull_start(&node->pull, engine->view.epoch,
				 last_owner_drained(node) ? node->warm_patience_ns : 0);
		return;
	}
	if (has_cache)
		ferry_pull_stop(&node->pull);
	taken_say(node, error);
}

static void pull_open(struct sim_node *node)
{
	struct ferry_pull_config config = {
		.loop = &node->loop.loop,
		.arena = &node->arena_peers,
		.events = &node->events,
		.pool = "pool",
		.cache = ferry_engine_cache(&node->engine),
		.name = own_name(node),
		.peer_of = pull_peer_of,
		.on_ready = pull_ready,
		.context = node,
	};

	if (config.cache)
		ferry_pull_init(&node->pull, &config);
}

static void engine_ask(struct ferry_engine *engine, uint64_t word)
{
	post_new(of_engine(engine), SIM_POST_ASK)->word = word;
}

static uint64_t engine_heard_ns(struct ferry_engine *engine)
{
	const struct sim_node *node = of_engine(engine);
	uint64_t silent_ns = 0;

	if (node->posted_ns[0] > node->sim->now_ns)
		silent_ns = node->sim->now_ns - node->stuck_ns[0];
	return ferry_loop_now_ns(engine->config.loop) - silent_ns;
}

static void engine_witness(struct ferry_engine *engine, uint64_t number)
{
	post_new(of_engine(engine), SIM_POST_WITNESS)->word = number;
}

static void engine_noted(struct ferry_engine *engine, uint64_t restarts)
{
	post_new(of_engine(engine), SIM_POST_NOTED)->word = restarts;
}

static void engine_preempted(struct ferry_engine *engine)
{
	(void)post_new(of_engine(engine), SIM_POST_PREEMPTED);
}

/* ---- The group and the transport speak. ---- */

static void group_members(struct ferry_group *group, const struct ferry_members *members)
{
	struct sim_node *node = group->context;

	if (node->ownership.config.power)
		ferry_power_watch_members(&node->watch, members);
	ferry_ownership_members(&node->ownership, members);
}

static void group_quorum(struct ferry_group *group)
{
	struct sim_node *node = group->context;

	if (node->ownership.config.power)
		ferry_power_watch_quorum(&node->watch, group->is_quorate);
	ferry_ownership_quorum(&node->ownership);
}

static void group_message(struct ferry_group *group, struct ferry_node from, const void *bytes,
			  size_t length_bytes)
{
	struct sim_node *node = group->context;
	struct ferry_group_message message;
	int r = ferry_group_message_decode(bytes, length_bytes, &message, NULL);

	ferry_assert(r == 0);
	ferry_ownership_message(&node->ownership, from, &message);
}

static void group_lost(struct ferry_group *group, const char *why)
{
	(void)group;
	(void)why;
}

static bool transport_is_member(struct sim_transport *transport, uint32_t id)
{
	const struct sim_node *node = transport->context;

	for (uint32_t i = 0; i < node->members.count; i++)
		if (node->members.nodes[i].v == id)
			return true;
	return false;
}

static int transport_accept(struct sim_transport *transport, struct ferry_link *link,
			    struct ferry_incarnation incarnation)
{
	struct sim_node *node = transport->context;

	return ferry_carrier_accept(&node->carrier, link, incarnation);
}

static void events_emit(struct ferry_events *events, const struct ferry_event *event)
{
	struct sim_node *node = FERRY_CONTAINER_OF(events, struct sim_node, events);

	ferry_assert((uint32_t)event->kind < (uint32_t)SIM_EVENT_KINDS);
	node->events_seen[event->kind]++;
	sim_note(node->sim, SIM_EVENT, node->id, (uint64_t)event->kind << 32 | event->value,
		 "%s %s%s%s: %s", ferry_event_kind_name(event->kind), event->from,
		 event->from[0] ? "->" : "", event->to, event->text);
	if (node->on_event)
		node->on_event(node->on_event_context, node->id, event);
}

static void path_attention(struct sim_path *path, uint32_t attentions)
{
	struct sim_node *node = FERRY_CONTAINER_OF(path, struct sim_node, path);

	if (attentions & SIM_ATTENTION_RESET)
		ferry_engine_unit_attention(&node->engine, 0x29, 0x00);
	if (attentions & SIM_ATTENTION_PREEMPTED)
		ferry_engine_unit_attention(&node->engine, 0x2a, 0x03);
	if (attentions & SIM_ATTENTION_OTHER)
		ferry_engine_unit_attention(&node->engine, 0x2a, 0x01);
}

static bool client_is_open(struct sim_client *client)
{
	const struct sim_node *node = client->context;

	return node->engine.router.is_open;
}

static bool client_is_deposed(struct sim_client *client)
{
	const struct sim_node *node = client->context;

	/* From the view on that tells of it, not even its cache may answer. */
	return node->engine.router.epoch.v < node->path.lun->epoch_floor.v &&
	       node->engine.view.epoch.v <= node->engine.router.epoch.v;
}

/* ---- Starting. ---- */

static void memory_open(struct sim_node *node)
{
	size_t region_bytes = 8 * FERRY_MIB;
	size_t arena_bytes = (size_t)SIM_ARENA_CHUNKS * FERRY_CHUNK_BYTES;
	struct ferry_arena *arenas[2] = {&node->arena, &node->arena_peers};

	node->memory = aligned_alloc(64, region_bytes); /* Zeroed as it is taken. */
	ferry_assert(node->memory);
	ferry_region_init(&node->region, node->memory, region_bytes);
	for (int i = 0; i < 2; i++) {
		int r;

		node->chunks[i] = aligned_alloc(FERRY_CHUNK_BYTES, arena_bytes);
		ferry_assert(node->chunks[i]);
		r = ferry_arena_init(arenas[i], &node->region, node->chunks[i], arena_bytes);
		ferry_assert(r == 0);
	}
}

static void engine_start(struct sim_node *node, const struct sim_node_world *world)
{
	const struct sim_node_options *options = &world->options;
	struct ferry_engine_config config = {
		.loop = &node->loop.loop,
		.arena = &node->arena,
		.events = &node->events,
		.self = {node->id},
		.incarnation = node->incarnation,
		.pool = "pool",
		.volume = "volume",
		.lineage = lineage,
		.identity = world->lun->identity,
		.path = &node->path.path,
		.fence = world->lun->options.has_no_reservations ? NULL : &node->path.fence,
		.carrier = &node->carrier,
		.inflight_max = options->inflight_max,
		.resets_keep_cache = world->lun->options.preempt_waits,
		.aborts_may_reset = world->lun->options.preempt_waits,
		.cache_data = node->cache_data,
		.cache_lines_max = options->cache_lines,
		.on_warm = options->cache_lines > 0 ? engine_warm : NULL,
		.waits_for_ghosts = options->waits_for_ghosts,
		.flushes_by_path = options->flushes_by_path,
		.path_timeout_ns = options->path_timeout_ns,
		.hold_timeout_ns = options->hold_timeout_ns,
		.convict_failures = options->convict_failures,
		.convict_window_ns = options->convict_window_ns,
		.seed = node->sim->seed ^ node->id,
		.on_verdict = engine_verdict,
		.on_health = engine_health,
		.on_drained = engine_drained,
		.on_taken = engine_taken,
		.on_ask = engine_ask,
		.heard_ns = engine_heard_ns,
		.on_witness = engine_witness,
		.on_noted = engine_noted,
		.on_preempted = engine_preempted,
	};
	struct ferry_carrier_config carrier_config = {
		.loop = &node->loop.loop,
		.arena = &node->arena_peers,
		.events = &node->events,
		.self = {node->id},
		.incarnation = node->incarnation,
		.sessions_max = SIM_NODES_MAX,
	};
	int r = ferry_carrier_init(&node->carrier, &node->region, &carrier_config);

	ferry_assert(r == 0);
	r = ferry_engine_open(&node->engine, &node->region, &config);
	ferry_assert(r == 0);
	pull_open(node);
}

static void peers_start(struct sim_node *node, const struct sim_node_world *world)
{
	struct ferry_peer_config config = {.loop = &node->loop.loop,
					   .events = &node->events,
					   .self = {node->id},
					   .incarnation = node->incarnation};

	for (uint32_t i = 1; i <= world->nodes_count; i++) {
		int r;

		if (i == node->id)
			continue;
		sim_link_open(&node->links[i], &node->transport, i);
		r = ferry_peer_init(&node->peers[i], &node->region, &node->links[i].link, &config);
		ferry_assert(r == 0);
		r = ferry_engine_add_peer(&node->engine, &node->peers[i]);
		ferry_assert(r == 0);
	}
}

static void watch_changed(void *context)
{
	struct sim_node *node = context;

	ferry_ownership_power_news(&node->ownership);
}

static void watch_start(struct sim_node *node, const struct sim_node_world *world)
{
	struct ferry_power_watch_config config = {
		.loop = &node->loop.loop,
		.power = &node->power.power,
		.events = &node->events,
		.self = {node->id},
		.nodes_count = world->nodes_count,
		.on_change = watch_changed,
		.context = node,
	};

	for (uint32_t i = 0; i < world->nodes_count; i++)
		config.nodes[i].v = i + 1;
	sim_power_open(&node->power, world->stonith, &node->loop);
	ferry_power_watch_init(&node->watch, &config);
}

static void cluster_start(struct sim_node *node, const struct sim_node_world *world)
{
	struct ferry_ownership_config config = {
		.loop = &node->loop.loop,
		.group = &node->group.group,
		.store = &world->store->store,
		.events = &node->events,
		.pool = "pool",
		.lineage = lineage,
		.lun = world->lun->identity.uuid,
		.incarnation = node->incarnation,
		.has_reservations = !world->lun->options.has_no_reservations,
		.quiesce_time_ns = world->options.quiesce_time_ns,
		.power = world->options.quiesce_time_ns != 0 ? &node->watch : NULL,
		.drain_timeout_ns = world->options.drain_timeout_ns,
		.set_view = ownership_set_view,
		.take = ownership_take,
		.peer_has_path = ownership_peer_has_path,
		.on_wish = ownership_wish,
		.on_fenced = ownership_fenced,
		.context = node,
	};
	int r;

	node->group.group.on_members = group_members;
	node->group.group.on_quorum = group_quorum;
	node->group.group.on_message = group_message;
	node->group.group.on_lost = group_lost;
	node->group.group.context = node;
	node->group.group.self.v = node->id;
	node->group.group.nodes = ferry_members_of(world->nodes_count);
	if (config.power)
		watch_start(node, world);
	r = ferry_ownership_open(&node->ownership, &config, NULL);
	ferry_assert(r == 0);
	sim_group_join(&node->group, world->corosync, &node->loop, node->id);
}

struct sim_node *sim_node_start(const struct sim_node_world *world, uint32_t id,
				struct ferry_incarnation incarnation)
{
	struct sim_node *node = sim_alloc(sizeof(*node));

	ferry_assert(id > 0 && id <= world->nodes_count);
	node->sim = world->sim;
	node->id = id;
	node->incarnation = incarnation;
	node->stall_per_mille = world->options.stall_per_mille;
	node->stall_ns_max = world->options.stall_ns_max;
	node->warm_patience_ns = world->options.warm_patience_ns;
	node->events.emit = events_emit;
	ferry_list_init(&node->posts);
	sim_note(world->sim, SIM_NODE, id, incarnation.v, "agent starts, incarnation %" PRIu64,
		 incarnation.v);
	sim_loop_init(&node->loop, world->sim, id);
	memory_open(node);
	if (world->options.cache_lines > 0)
		node->cache_data =
			sim_alloc((size_t)world->options.cache_lines * FERRY_CACHE_LINE_BYTES);
	if (world->options.drift_ppm_max > 0)
		node->loop.drift_ppm = (int64_t)sim_below(world->sim, SIM_CLOCK,
							  2 * world->options.drift_ppm_max + 1) -
				       (int64_t)world->options.drift_ppm_max;
	sim_path_open(&node->path, world->lun, &node->loop, id);
	node->path.on_attention = path_attention;
	node->path.depth = world->options.path_depth;
	node->transport.is_member = transport_is_member;
	node->transport.accept = transport_accept;
	node->transport.context = node;
	sim_transport_open(&node->transport, world->net, &node->loop, id, incarnation);
	engine_start(node, world);
	peers_start(node, world);
	cluster_start(node, world);
	node->client.is_open = client_is_open;
	node->client.is_deposed = client_is_deposed;
	node->client.context = node;
	sim_client_start(&node->client, world->workload, &node->loop,
			 ferry_engine_block(&node->engine));
	return node;
}

struct sim_node *sim_node_crash(struct sim_node *node, bool is_power_cut)
{
	sim_note(node->sim, SIM_NODE, node->id, is_power_cut, "agent dies%s",
		 is_power_cut ? ": power cut" : "");
	sim_client_crash(&node->client);
	sim_path_crash(&node->path, is_power_cut);
	sim_power_close(&node->power);
	sim_transport_crash(&node->transport, is_power_cut);
	sim_group_leave(&node->group);
	while (!ferry_list_is_empty(&node->posts))
		post_free(ferry_list_entry(node->posts.next, struct sim_post, link));
	sim_loop_done(&node->loop);
	free(node->memory);
	free(node->chunks[0]);
	free(node->chunks[1]);
	free(node->cache_data);
	free(node);
	return NULL;
}
