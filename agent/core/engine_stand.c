/* engine_stand.c - see engine_stand.h. */
#include "agent/core/engine_stand.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { CACHE_LINES = 16, IO_BLOCKS = FERRY_CACHE_LINE_BYTES / STAND_BLOCK_BYTES };

struct engine_stand at;

static const struct ferry_uuid lineage = {{3}};

struct ferry_key key(uint32_t node, uint64_t incarnation)
{
	return ferry_key_make((struct ferry_node){node}, (struct ferry_incarnation){incarnation});
}

struct ferry_lane *local(void)
{
	return ferry_router_local(&at.engine.router);
}

void run_ms(uint64_t ms)
{
	stand_run_ms(&at.stand, ms);
}

/* ---- The fence. ---- */

static void fence_submit(struct ferry_fence *fence, struct ferry_fence_request *request)
{
	(void)fence;
	for (uint32_t i = 0; i < ENGINE_ASKED_MAX; i++)
		if (!at.asked[i]) {
			at.asked[i] = request;
			return;
		}
	fail();
}

static const struct ferry_fence_ops fence_ops = {.name = "stand", .submit = fence_submit};

struct ferry_fence_request *asked(enum ferry_fence_op op)
{
	for (uint32_t i = 0; i < ENGINE_ASKED_MAX; i++)
		if (at.asked[i] && at.asked[i]->op == op)
			return at.asked[i];
	return NULL;
}

void answer(enum ferry_fence_op op, int error)
{
	struct ferry_fence_request *request = asked(op);

	assert_non_null(request);
	for (uint32_t i = 0; i < ENGINE_ASKED_MAX; i++)
		if (at.asked[i] == request)
			at.asked[i] = NULL;
	at.generation += op == FERRY_FENCE_REGISTER && error == 0;
	request->on_done(request, error);
}

void answer_keys(struct ferry_key one, struct ferry_key other, struct ferry_key holder)
{
	struct ferry_fence_request *request = asked(FERRY_FENCE_READ_KEYS);

	ferry_assert(request);
	request->keys_count = 0;
	if (one.v != 0)
		request->keys[request->keys_count++] = one;
	if (other.v != 0)
		request->keys[request->keys_count++] = other;
	request->holder = holder;
	request->generation = at.generation;
	answer(FERRY_FENCE_READ_KEYS, 0);
}

/* ---- Links. ---- */

static int peer_send(struct ferry_link *link, struct ferry_message *message)
{
	struct engine_peer *peer = FERRY_CONTAINER_OF(link, struct engine_peer, link);

	assert_true(peer->sent_count < ENGINE_SENT_MAX);
	peer->sent[peer->sent_count++] = message;
	return 0;
}

static int link_in_send(struct ferry_link *link, struct ferry_message *message)
{
	(void)link;
	at.reply = message->header;
	at.replies++;
	message->on_sent(message, FERRY_SENT_WHOLE);
	return 0;
}

static void link_reset(struct ferry_link *link, const char *why)
{
	(void)why;
	at.cuts += link == &at.link_in;
}

static const struct ferry_link_ops peer_ops = {
	.name = "stand", .send = peer_send, .reset = link_reset};
static const struct ferry_link_ops link_in_ops = {
	.name = "stand", .send = link_in_send, .reset = link_reset};

/* The place of what @peer has been asked for and has not answered. */
static uint32_t place_of(uint32_t peer, enum ferry_wire_type type)
{
	uint32_t i = 0;

	while (i < at.peers[peer].sent_count &&
	       (!at.peers[peer].sent[i] || at.peers[peer].sent[i]->header.type != type))
		i++;
	return i;
}

const struct ferry_wire_header *sent(uint32_t peer, enum ferry_wire_type type)
{
	uint32_t i = place_of(peer, type);

	return i < at.peers[peer].sent_count ? &at.peers[peer].sent[i]->header : NULL;
}

void reply(uint32_t peer, enum ferry_wire_type type, enum ferry_outcome outcome,
	   enum ferry_cause cause)
{
	struct ferry_link *link = &at.peers[peer].link;
	struct ferry_segments segments = {0};
	struct ferry_wire_header header;
	struct ferry_message *message;
	uint32_t i = place_of(peer, type);

	assert_true(i < at.peers[peer].sent_count);
	message = TAKE_PTR(at.peers[peer].sent[i]);
	header = message->header;
	header.type = header.type == FERRY_WIRE_LAY ? FERRY_WIRE_LAY_REPLY : FERRY_WIRE_REPLY;
	header.payload_bytes = header.payload_crc = 0;
	header.outcome = outcome;
	header.cause = cause;
	if (header.type == FERRY_WIRE_REPLY) {
		header.losses = 1;
		if (header.op == FERRY_OP_READ && outcome == FERRY_OUTCOME_DONE)
			header.payload_bytes = header.length_blocks * STAND_BLOCK_BYTES;
	}
	message->on_sent(message, FERRY_SENT_WHOLE);
	if (header.payload_bytes > 0)
		assert_int_equal(link->on_payload(link, &header, &segments), 0);
	link->on_message(link, &header, &segments);
}

void peer_up(uint32_t peer, uint64_t incarnation)
{
	at.peers[peer].link.is_up = true;
	at.peers[peer].link.on_up(&at.peers[peer].link, (struct ferry_incarnation){incarnation});
	ferry_engine_set_peer_has_path(&at.engine, at.peers[peer].link.node, true);
	run_ms(1);
	if (sent(peer, FERRY_WIRE_REQUEST)) /* What it has seen of resets. */
		reply(peer, FERRY_WIRE_REQUEST, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
}

void carry(uint64_t sequence, uint64_t epoch)
{
	struct ferry_wire_header request = {.type = FERRY_WIRE_REQUEST,
					    .node = {2},
					    .incarnation = {9},
					    .lineage = lineage,
					    .epoch = {epoch},
					    .sequence = sequence,
					    .floor = sequence,
					    .lun = at.engine.config.identity.uuid,
					    .op = FERRY_OP_WRITE_ZEROES,
					    .length_blocks = 4};
	struct ferry_segments none = {0};

	at.link_in.on_message(&at.link_in, &request, &none);
}

/* ---- What the engine says. ---- */

static void on_verdict(struct ferry_engine *engine, enum ferry_verdict verdict)
{
	(void)engine;
	(void)verdict;
	at.verdicts++;
}

static void on_health(struct ferry_engine *engine, bool has_path)
{
	(void)engine;
	at.healths++;
	at.has_path = has_path;
}

static void on_drained(struct ferry_engine *engine, struct ferry_epoch epoch)
{
	(void)engine;
	at.drains++;
	at.drained = epoch.v;
}

static void on_taken(struct ferry_engine *engine, int error)
{
	(void)engine;
	at.takes++;
	at.taken = error;
}

static void on_preempted(struct ferry_engine *engine)
{
	(void)engine;
	at.preempted++;
}

static void on_ask(struct ferry_engine *engine, uint64_t word)
{
	(void)engine;
	assert_true(word > at.word);
	at.word = word;
}

static uint64_t heard_ns(struct ferry_engine *engine)
{
	return ferry_loop_now_ns(engine->config.loop) - at.unheard_ns;
}

static void on_witness(struct ferry_engine *engine, uint64_t number)
{
	(void)engine;
	at.witness = number;
}

static void on_noted(struct ferry_engine *engine, uint64_t restarts)
{
	at.noted = restarts;
	assert_true(engine->router.flush.losses_seen > 1); /* First it is one. */
}

static int on_warm(struct ferry_engine *engine, uint64_t cursor, struct ferry_arena *arena,
		   struct ferry_segments *ret)
{
	(void)engine;
	(void)arena;
	(void)ret;
	at.warms++;
	return cursor == 77 ? 0 : -ENODATA;
}

static void on_done(struct ferry_io *io, int error)
{
	assert_int_equal(at.results[io - at.ios], 1); /* Once. */
	at.results[io - at.ios] = error;
	ferry_segments_drop(&io->segments);
}

void submit(uint32_t i, enum ferry_op op, uint64_t lba)
{
	struct ferry_io *io = &at.ios[i];
	int r;

	*io = (struct ferry_io){.op = op,
				.lba = {op == FERRY_OP_FLUSH ? 0 : lba},
				.length_blocks = op == FERRY_OP_FLUSH ? 0 : IO_BLOCKS,
				.on_done = on_done};
	at.results[i] = 1;
	if (op == FERRY_OP_WRITE)
		assert_int_equal(ferry_arena_take(&at.stand.arena, IO_BLOCKS * STAND_BLOCK_BYTES,
						  &io->segments),
				 0);
	r = ferry_block_submit(ferry_engine_block(&at.engine), io);
	if (r < 0)
		on_done(io, r);
}

/* ---- Opening and closing. ---- */

static void peers_open(uint32_t count)
{
	struct ferry_peer_config config = {
		.loop = &at.stand.loop.loop, .self = {1}, .incarnation = {2}};

	for (uint32_t i = 0; i < count; i++) {
		struct engine_peer *peer = &at.peers[i];

		peer->link = (struct ferry_link){.ops = &peer_ops, .node = {2 + i}};
		assert_int_equal(
			ferry_peer_init(&peer->peer, &at.stand.region, &peer->link, &config), 0);
		assert_int_equal(ferry_engine_add_peer(&at.engine, &peer->peer), 0);
	}
}

static void carrier_open(void)
{
	struct ferry_carrier_config config = {.loop = &at.stand.loop.loop,
					      .arena = &at.stand.arena,
					      .self = {1},
					      .incarnation = {2},
					      .sessions_max = 2};

	assert_int_equal(ferry_carrier_init(&at.carrier, &at.stand.region, &config), 0);
	at.link_in = (struct ferry_link){.ops = &link_in_ops, .node = {2}, .is_up = true};
	assert_int_equal(
		ferry_carrier_accept(&at.carrier, &at.link_in, (struct ferry_incarnation){9}), 0);
}

void engine_open(struct engine_wish wish)
{
	struct ferry_engine_config config = {
		.self = {1},
		.incarnation = {2},
		.pool = "pool",
		.volume = "volume",
		.lineage = lineage,
		.identity = {.uuid = {{8}}, .size_blocks = 4096, .block_bytes = STAND_BLOCK_BYTES},
		.inflight_max = ENGINE_IOS_MAX,
		.path_timeout_ns = 1 * FERRY_NS_PER_S,
		.hold_timeout_ns = 10 * FERRY_NS_PER_S,
		.convict_failures = 2,
		.convict_window_ns = 60 * FERRY_NS_PER_S,
		.aborts_may_reset = true,
		.on_warm = on_warm,
		.on_verdict = on_verdict,
		.on_health = on_health,
		.on_drained = on_drained,
		.on_taken = on_taken,
		.on_preempted = on_preempted,
		.on_witness = on_witness,
		.on_noted = on_noted,
	};

	at = (struct engine_stand){.fence = {.ops = &fence_ops}, .generation = 1000, .taken = 1};
	at.fence.ability.laying = FERRY_LAYING_ABORT;
	stand_open(&at.stand);
	stand_path_init(&at.path, FERRY_PATH_LOCAL, 1, /* can_reset= */ true);
	at.path.path.is_up = !wish.is_down;
	config.loop = &at.stand.loop.loop;
	config.arena = &at.stand.arena;
	config.path = &at.path.path;
	config.fence = wish.has_fence ? &at.fence : NULL;
	config.resetter = wish.has_resetter ? &at.fence : NULL;
	config.on_ask = wish.has_no_group ? NULL : on_ask;
	config.heard_ns = heard_ns;
	if (wish.has_carrier) {
		carrier_open();
		config.carrier = &at.carrier;
	}
	if (wish.has_cache) {
		at.cache_data = sim_alloc(CACHE_LINES * FERRY_CACHE_LINE_BYTES);
		config.cache_data = at.cache_data;
		config.cache_lines_max = CACHE_LINES;
	}
	assert_int_equal(ferry_engine_open(&at.engine, &at.stand.region, &config), 0);
	peers_open(wish.peers_count);
	at.view = (struct ferry_view){.members = {.nodes = {{1}, {2}, {3}}, .count = 3},
				      .is_quorate = true,
				      .lineage = lineage,
				      .epoch = {5},
				      .owner = {2},
				      .is_in_force = true,
				      .may_register = true,
				      .may_help = true};
	run_ms(1);
}

static void peer_close(struct engine_peer *peer)
{
	for (uint32_t i = 0; i < peer->sent_count; i++)
		if (peer->sent[i])
			peer->sent[i]->on_sent(peer->sent[i], FERRY_SENT_NOTHING);
	ferry_peer_lost(&peer->peer);
}

int engine_teardown(void **state)
{
	(void)state;
	ferry_router_close(&at.engine.router);
	for (uint32_t i = 1; i < at.engine.router.lanes_count && i <= ENGINE_PEERS; i++)
		peer_close(&at.peers[i - 1]);
	for (uint32_t i = 0; i < at.path.count; i++)
		if (at.path.attempts[i])
			stand_done(&at.path, i);
	ferry_router_fail_waiting(&at.engine.router, -ESHUTDOWN);
	assert_true(ferry_engine_is_idle(&at.engine));
	ferry_engine_done(&at.engine);
	stand_close(&at.stand);
	free(at.cache_data);
	return 0;
}

void look(void)
{
	at.view.word = at.word;
	ferry_engine_set_view(&at.engine, &at.view);
	run_ms(1);
}

void join(void)
{
	look();
	answer_keys(key(2, 1), (struct ferry_key){0}, key(2, 1));
	answer(FERRY_FENCE_REGISTER, 0);
	look();
	assert_int_equal(at.engine.registrar.state, FERRY_REGISTRAR_IN);
	assert_true(local()->is_allowed);
	run_ms(1); /* A probe shows that it works. */
	if (at.path.count > 0 && at.path.attempts[at.path.count - 1])
		stand_done(&at.path, at.path.count - 1);
	run_ms(1);
	at.path.count = 0;
	assert_true(at.has_path);
}

void own(void)
{
	at.view.owner.v = 1;
	look();
}
