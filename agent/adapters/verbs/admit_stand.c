#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/adapters/verbs/admit_stand.h"
#include "agent/ports/io.h"

enum { LINKS = 2, MEMORY_BYTES = FERRY_CHUNK_BYTES };

struct admit admit;

static uint64_t soon_ns(void)
{
	return sim_below(&admit.sim, SIM_NETWORK, 200 * FERRY_NS_PER_US);
}

static uint32_t side_of(const struct half *half)
{
	return half == &half->way->tcp[1];
}

/* ---- Requests and answers. ---- */

static void ask_sent(struct ferry_message *message, enum ferry_sent sent)
{
	struct ask *ask = FERRY_CONTAINER_OF(message, struct ask, message);

	assert_true(ask->is_sending && sent != 0);
	ask->is_sending = false;
	if (ask->way->answers <= ask && ask < ask->way->answers + WAY_ANSWERS)
		ask->is_busy = false;
}

static void ask_send(struct ask *ask, struct ferry_link *link)
{
	ask->is_sending = true;
	if (ferry_link_send(link, &ask->message) == 0)
		return;
	ask->is_sending = false;
	if (link == &ask->way->incoming.link)
		ask->is_busy = false; /* It will be asked again. */
}

void way_ask(struct way *way)
{
	for (uint32_t i = 0; i < WAY_ASKS; i++) {
		struct ask *ask = &way->asks[i];

		if (ask->is_busy || ask->is_sending)
			continue;
		ferry_assert(way->sequence + 1 < WAY_SEQUENCES);
		*ask = (struct ask){.way = way, .is_busy = true, .message.on_sent = ask_sent};
		ask->message.header = (struct ferry_wire_header){
			.type = FERRY_WIRE_REQUEST,
			.node = {way->agents[0]->number},
			.incarnation = {way->agents[0]->incarnation},
			.lineage = {{1}},
			.epoch = {1},
			.sequence = ++way->sequence,
			.lun = {{2}},
			.op = FERRY_OP_FLUSH,
		};
		if (way->is_up[0])
			ask_send(ask, &way->outgoing.link);
		return;
	}
}

bool way_is_idle(const struct way *way)
{
	for (uint32_t i = 0; i < WAY_ASKS; i++)
		if (way->asks[i].is_busy)
			return false;
	return true;
}

/* As core/peer.c: by their numbers, what was not answered. */
static void ask_again(struct way *way)
{
	uint64_t last = 0;

	for (;;) {
		struct ask *next = NULL;

		for (uint32_t i = 0; i < WAY_ASKS; i++)
			if (way->asks[i].is_busy && way->asks[i].message.header.sequence > last &&
			    (!next ||
			     way->asks[i].message.header.sequence < next->message.header.sequence))
				next = &way->asks[i];
		if (!next)
			return;
		last = next->message.header.sequence;
		ask_send(next, &way->outgoing.link);
	}
}

static void out_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct way *way = link->context;

	assert_false(way->is_up[0]); /* One up for each down. */
	assert_int_equal(incarnation.v, way->tcp[0].incarnation.v);
	way->is_up[0] = true;
	ask_again(way);
}

static void out_down(struct ferry_link *link, const char *why)
{
	struct way *way = link->context;

	(void)why;
	assert_true(way->is_up[0]);
	way->is_up[0] = false;
	for (uint32_t i = 0; i < WAY_ASKS; i++)
		assert_false(way->asks[i].is_sending); /* Each on_sent() came before. */
}

static void out_message(struct ferry_link *link, const struct ferry_wire_header *header,
			struct ferry_segments *segments)
{
	struct way *way = link->context;

	(void)segments;
	for (uint32_t i = 0; i < WAY_ASKS; i++)
		if (way->asks[i].is_busy &&
		    way->asks[i].message.header.sequence == header->sequence) {
			assert_true(way->is_carried[header->sequence]);
			way->asks[i].is_busy = false;
			way->answered++;
			way->by_rdma += ferry_outgoing_is_rdma(&way->outgoing);
		}
}

static void in_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct way *way = link->context;

	assert_false(way->is_up[1]);
	assert_int_equal(incarnation.v, way->tcp[1].incarnation.v);
	way->is_up[1] = true;
}

static void in_down(struct ferry_link *link, const char *why)
{
	struct way *way = link->context;

	(void)why;
	assert_true(way->is_up[1]);
	way->is_up[1] = false;
}

/* As core/carrier.c, whose answers are kept: a number that was carried is not carried again. */
static void in_message(struct ferry_link *link, const struct ferry_wire_header *header,
		       struct ferry_segments *segments)
{
	struct way *way = link->context;

	(void)segments;
	assert_true(way->is_up[1]);
	way->is_carried[header->sequence] = true;
	for (uint32_t i = 0; i < WAY_ANSWERS; i++) {
		struct ask *answer = &way->answers[i];

		if (answer->is_busy)
			continue;
		*answer = (struct ask){.way = way, .is_busy = true, .message.on_sent = ask_sent};
		answer->message.header = *header;
		answer->message.header.type = FERRY_WIRE_REPLY;
		answer->message.header.outcome = FERRY_OUTCOME_DONE;
		answer->message.header.cause = FERRY_CAUSE_NONE;
		ask_send(answer, &way->incoming.link);
		return;
	}
	fail_msg("more answers than anybody asked for");
}

static int no_payload(struct ferry_link *link, const struct ferry_wire_header *header,
		      struct ferry_segments *ret)
{
	(void)link, (void)header, (void)ret;
	fail_msg("nobody sends data");
	return -EPROTO;
}

static void no_payload_dropped(struct ferry_link *link, const struct ferry_wire_header *header,
			       struct ferry_segments *segments)
{
	(void)link, (void)header, (void)segments;
}

static void callbacks_set(struct way *way, struct ferry_link *link, uint32_t side)
{
	link->on_up = side == 0 ? out_up : in_up;
	link->on_down = side == 0 ? out_down : in_down;
	link->on_message = side == 0 ? out_message : in_message;
	link->on_payload = no_payload;
	link->on_payload_dropped = no_payload_dropped;
	link->context = way;
}

/* ---- TCP. ---- */

static void half_kick(struct half *half, uint64_t delay_ns)
{
	if (half->way->agents[side_of(half)]->is_open && !sim_input_is_due(&half->work))
		sim_input_in(&half->work, delay_ns);
}

/* All that goes with it, then on_down(). */
static void half_down(struct half *half)
{
	struct ferry_list *entry;

	half->is_going_down = half->link.is_up = false;
	half->frames_count = 0;
	while ((entry = ferry_list_pop(&half->sending))) {
		struct ferry_message *message = ferry_list_entry(entry, struct ferry_message, link);

		message->on_sent(message, FERRY_SENT_NOTHING);
	}
	half->link.on_down(&half->link, "the test");
}

static void half_cut(struct half *half)
{
	half->is_coming_up = false;
	if (!half->link.is_up)
		return;
	half->link.is_up = false;
	half->is_going_down = true;
	half_kick(half, soon_ns());
}

void tcp_break(struct way *way)
{
	half_cut(&way->tcp[0]);
	half_cut(&way->tcp[1]);
}

void tcp_connect(struct way *way)
{
	struct ferry_rdma_secret secret = {};

	if (!way->agents[0]->is_open || !way->agents[1]->is_open)
		return;
	for (int i = 0; i < 2; i++)
		if (way->tcp[i].link.is_up || way->tcp[i].is_going_down || way->tcp[i].is_coming_up)
			return;
	for (uint32_t i = 0; i < sizeof(secret.v); i++)
		secret.v[i] = (uint8_t)sim_below(&admit.sim, SIM_WORKLOAD, 256);
	for (int i = 0; i < 2; i++) {
		way->tcp[i].coming = secret;
		way->tcp[i].is_coming_up = true;
		way->tcp[i].frames_count = 0;
		half_kick(&way->tcp[i], soon_ns());
	}
}

static void half_up(struct half *half)
{
	struct way *way = half->way;
	uint32_t side = side_of(half);

	half->is_coming_up = false;
	half->secret = half->coming;
	half->incarnation.v = way->agents[!side]->incarnation;
	if (side == 1 && ferry_incoming_tcp(&way->incoming, &half->link, half->incarnation) < 0)
		fail_msg("nobody refuses TCP");
	half->link.is_up = true;
	half->link.on_up(&half->link, half->incarnation);
}

static void half_send_one(struct half *half)
{
	struct half *far = &half->way->tcp[!side_of(half)];
	struct ferry_message *message =
		ferry_list_entry(ferry_list_pop(&half->sending), struct ferry_message, link);

	if (memcmp(&far->coming, &half->secret, sizeof(far->coming)) == 0 &&
	    (far->link.is_up || far->is_coming_up)) {
		ferry_assert(far->frames_count < HALF_FRAMES);
		far->frames[(far->frames_first + far->frames_count++) % HALF_FRAMES] =
			message->header;
		half_kick(far, soon_ns());
	}
	message->on_sent(message, FERRY_SENT_WHOLE);
}

static void half_run(struct sim_input *input)
{
	struct half *half = FERRY_CONTAINER_OF(input, struct half, work);
	struct ferry_segments none = {};

	if (half->is_going_down) {
		half_down(half);
	} else if (half->is_coming_up) {
		half_up(half);
	} else if (half->link.is_up && half->frames_count > 0) {
		struct ferry_wire_header header = half->frames[half->frames_first];

		half->frames_first = (half->frames_first + 1) % HALF_FRAMES;
		half->frames_count--;
		half->link.on_message(&half->link, &header, &none);
	} else if (half->link.is_up && !ferry_list_is_empty(&half->sending)) {
		half_send_one(half);
	}
	if (half->is_going_down || half->frames_count > 0 || !ferry_list_is_empty(&half->sending))
		half_kick(half, soon_ns());
}

static int half_send(struct ferry_link *link, struct ferry_message *message)
{
	struct half *half = FERRY_CONTAINER_OF(link, struct half, link);

	ferry_list_init(&message->link);
	ferry_list_append(&half->sending, &message->link);
	half_kick(half, soon_ns());
	return 0;
}

static void half_reset(struct ferry_link *link, const char *why)
{
	(void)why;
	tcp_break(FERRY_CONTAINER_OF(link, struct half, link)->way);
}

static void half_resume(struct ferry_link *link)
{
	(void)link;
}

static const struct ferry_link_ops HALF_OPS = {
	.name = "tcp",
	.send = half_send,
	.resume = half_resume,
	.reset = half_reset,
};

static void half_init(struct way *way, uint32_t side)
{
	struct half *half = &way->tcp[side];

	*half = (struct half){
		.link = {.ops = &HALF_OPS, .node = {way->agents[!side]->number}},
		.way = way,
	};
	ferry_list_init(&half->sending);
	sim_input_init(&half->work, &way->agents[side]->loop, SIM_LINK, half_run);
}

/* ---- Who was admitted, by what. ---- */

static bool secret_equal(const struct ferry_rdma_secret *a, const struct ferry_rdma_secret *b)
{
	return memcmp(a->v, b->v, sizeof(a->v)) == 0;
}

static void on_connect(uint32_t node, const void *bytes, size_t length_bytes)
{
	struct way *way = admit.agents[node - 1].asks;
	struct token *token = &admit.tokens[admit.tokens_count++];

	ferry_assert(admit.tokens_count <= TOKENS_MAX && length_bytes >= sizeof(token->bytes));
	*token = (struct token){.from = node, .secret = way->tcp[0].secret};
	memcpy(token->bytes, bytes, sizeof(token->bytes));
	assert_true(way->tcp[0].link.is_up || way->tcp[0].is_going_down); /* It vouches. */
}

static struct token *token_find(const void *bytes)
{
	for (uint32_t i = 0; i < admit.tokens_count; i++)
		if (memcmp(admit.tokens[i].bytes, bytes, sizeof(admit.tokens[i].bytes)) == 0)
			return &admit.tokens[i];
	return NULL;
}

/* The adapter has said yes. */
static void on_accept(uint32_t node, const struct rdma_cm_id *id, const void *bytes,
		      size_t length_bytes)
{
	struct agent *agent = &admit.agents[node - 1];
	const struct half *tcp = &agent->serves->tcp[1];
	struct token *token = length_bytes >= FERRY_RDMA_HELLO_BYTES ? token_find(bytes) : NULL;

	assert_non_null(id->context);
	if (!token || token->from == node) {
		fail_msg("node %u accepts what nobody has asked", node);
		return;
	}
	if (token->is_used)
		fail_msg("node %u accepts the same twice", node);
	if (!tcp->link.is_up || !secret_equal(&tcp->secret, &token->secret))
		fail_msg("node %u accepts what no TCP connection vouches for", node);
	token->is_used = true;
	if (sim_chance(&admit.sim, SIM_NETWORK, sim_cm.faults_per_mille / 2))
		tcp_break(agent->serves); /* Before it stands. */
	admit.admitted[node - 1] = token;
}

static void on_event(struct ferry_events *events, const struct ferry_event *event)
{
	static const char *const WHY[REFUSALS] = {
		[REFUSED_NO_AGENT] = "no Ferry agent's RDMA",
		[REFUSED_VERSION] = "version",
		[REFUSED_IMPOSSIBLE] = "a greeting that cannot be",
		[REFUSED_NOT_VOUCHED] = "has no connection by TCP",
		[REFUSED_NOT_PROVEN] = "does not prove itself",
		[REFUSED_OLD] = "request is an old one",
		[REFUSED_DEVICE] = "another device",
	};
	uint32_t i = 0;

	(void)events;
	if (event->kind != FERRY_EVENT_REFUSED)
		return;
	while (i < REFUSALS && !strstr(event->text, WHY[i]))
		i++;
	assert_true(i < REFUSALS);
	admit.refusals[i]++;
}

static struct way *way_of(const struct ferry_link *link, uint32_t side)
{
	bool is_second = admit.ways[1].rdma[side].link == link;

	assert_true(is_second || admit.ways[0].rdma[side].link == link);
	return &admit.ways[is_second];
}

static void told_up(struct way *way, uint32_t side, struct ferry_link *link,
		    struct ferry_incarnation incarnation)
{
	struct told *told = &way->rdma[side];

	assert_true(!told->is_up && link->is_up);
	assert_int_equal(incarnation.v, way->tcp[side].incarnation.v);
	told->is_up = true;
	told->ups++;
	told->on_up(link, incarnation);
}

static void told_down(struct way *way, uint32_t side, struct ferry_link *link, const char *why)
{
	struct told *told = &way->rdma[side];

	assert_true(told->is_up);
	told->is_up = false;
	told->on_down(link, why);
}

static void asker_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	assert_false(sim_cm_is_forged(verbs_link_of(link)->id));
	told_up(way_of(link, 0), 0, link, incarnation);
}

static void asker_down(struct ferry_link *link, const char *why)
{
	told_down(way_of(link, 0), 0, link, why);
}

static void server_up(struct ferry_link *link, struct ferry_incarnation incarnation)
{
	struct way *way = way_of(link, 1);
	const struct token *token = admit.admitted[way->agents[1]->number - 1];

	assert_true(token && token->is_used && way->tcp[1].link.is_up);
	assert_true(secret_equal(&way->tcp[1].secret, &token->secret));
	admit.admissions++;
	told_up(way, 1, link, incarnation);
}

static void server_down(struct ferry_link *link, const char *why)
{
	told_down(way_of(link, 1), 1, link, why);
}

/* Between the adapter and agent/transport. */
static void told_set(struct way *way, uint32_t side, struct ferry_link *link)
{
	struct told *told = &way->rdma[side];

	assert_false(told->is_up);
	told->link = link;
	told->on_up = link->on_up;
	told->on_down = link->on_down;
	link->on_up = side == 0 ? asker_up : server_up;
	link->on_down = side == 0 ? asker_down : server_down;
}

/* ---- An agent. ---- */

static int agent_secret(void *context, struct ferry_node node, struct ferry_incarnation incarnation,
			struct ferry_rdma_secret *ret)
{
	const struct way *way = ((struct agent *)context)->serves;

	if (node.v != way->agents[0]->number || incarnation.v != way->tcp[1].incarnation.v ||
	    !way->tcp[1].link.is_up)
		return -ENOENT;
	*ret = way->tcp[1].secret;
	return 0;
}

static int agent_accept(void *context, struct ferry_link *link,
			struct ferry_incarnation incarnation)
{
	struct way *way = ((struct agent *)context)->serves;
	int r = ferry_incoming_rdma(&way->incoming, link, incarnation);

	if (r == 0)
		told_set(way, 1, link);
	return r;
}

static int carrier_accept(void *context, struct ferry_link *link,
			  struct ferry_incarnation incarnation)
{
	(void)link;
	assert_int_equal(incarnation.v, ((struct way *)context)->tcp[1].incarnation.v);
	return 0;
}

static void raise_rdma(void *context, bool is_wanted)
{
	struct way *way = context;

	ferry_verbs_enable(way->outgoing.config.rdma, is_wanted ? &way->tcp[0].secret : NULL);
}

static int watch_start(struct ferry_loop *loop, struct ferry_watch *watch, uint32_t wanted)
{
	(void)loop;
	ferry_assert(watch->run && wanted == FERRY_WATCH_READ);
	return sim_chance(&admit.sim, SIM_CRASH, sim_cm.fails_per_mille) ? -ENOSPC : 0;
}

static void watch_stop(struct ferry_loop *loop, struct ferry_watch *watch)
{
	(void)loop;
	ferry_assert(watch->fd >= 0);
}

static void ways_open(struct agent *agent)
{
	struct ferry_outgoing_config config = {.loop = &agent->loop.loop, .raise = raise_rdma};
	char address[16];
	int r;

	half_init(agent->asks, 0);
	half_init(agent->serves, 1);
	(void)snprintf(address, sizeof(address), "10.0.0.%u", 3 - agent->number);
	r = ferry_verbs_connect(&agent->device.verbs, (struct ferry_node){3 - agent->number},
				address, 1, &config.rdma, NULL);
	assert_int_equal(r, 0);
	config.tcp = &agent->asks->tcp[0].link;
	config.context = agent->asks;
	ferry_outgoing_init(&agent->asks->outgoing, &config);
	callbacks_set(agent->asks, &agent->asks->outgoing.link, 0);
	told_set(agent->asks, 0, config.rdma);
	ferry_incoming_init(&agent->serves->incoming, (struct ferry_node){3 - agent->number},
			    &(struct ferry_incoming_config){.accept = carrier_accept,
							    .context = agent->serves});
	callbacks_set(agent->serves, &agent->serves->incoming.link, 1);
}

void agent_open(struct agent *agent)
{
	struct ferry_verbs_config *config = &agent->device.verbs.config;
	char address[16];
	int r;

	agent->incarnation++;
	sim_loop_init(&agent->loop, &admit.sim, agent->number);
	agent->loop_ops = *agent->loop.loop.ops;
	agent->loop_ops.watch_start = watch_start;
	agent->loop_ops.watch_stop = watch_stop;
	agent->loop.loop.ops = &agent->loop_ops;
	fake_auth_init(&agent->auth, /* key= */ 7, /* seed= */ agent->number);
	sim_device_open(&agent->device, &agent->loop, agent->number, agent->memory, MEMORY_BYTES,
			LINKS);
	config->self.incarnation.v = agent->incarnation;
	config->events = &admit.events;
	config->auth = &agent->auth.auth;
	config->secret = agent_secret;
	config->accept = agent_accept;
	config->context = agent;
	agent->device.verbs.rd_atomic = VERBS_RD_ATOMIC;
	agent->device.verbs.prng.state = admit.sim.seed + agent->number;
	(void)snprintf(address, sizeof(address), "10.0.0.%u", agent->number);
	r = verbs_address_parse(address, 1, &agent->device.verbs.address, NULL);
	assert_int_equal(r, 0);
	while (sim_cm_open(&agent->device, agent->number) < 0)
		sim_cm_close(agent->number);
	agent->is_open = true;
	ways_open(agent);
}

void agent_close(struct agent *agent)
{
	struct half *halves[2] = {&agent->asks->tcp[0], &agent->serves->tcp[1]};

	if (agent->loop.is_frozen)
		sim_loop_wake(&agent->loop);
	tcp_break(agent->asks);
	tcp_break(agent->serves);
	for (int i = 0; i < 2; i++) {
		if (halves[i]->is_going_down)
			half_down(halves[i]);
		sim_input_cancel(&halves[i]->work);
	}
	sim_device_close(&agent->device);
	assert_false(agent->asks->rdma[0].is_up || agent->serves->rdma[1].is_up);
	assert_false(agent->asks->is_up[0] || agent->serves->is_up[1]);
	agent->asks->rdma[0].link = agent->serves->rdma[1].link = NULL;
	ferry_outgoing_done(&agent->asks->outgoing);
	sim_cm_close(agent->number);
	sim_loop_done(&agent->loop);
	agent->is_open = false;
	for (uint32_t i = 0; i < WAY_ASKS; i++) /* Whoever had asked is gone, too. */
		agent->asks->asks[i].is_busy = false;
	for (uint32_t i = 0; i < WAY_ANSWERS; i++)
		assert_false(agent->serves->answers[i].is_busy);
}

void admit_open(uint64_t seed)
{
	admit = (struct admit){};
	sim_init(&admit.sim, seed);
	sim_cm_init(&admit.sim);
	admit.events.emit = on_event;
	sim_cm.on_connect = on_connect;
	sim_cm.on_accept = on_accept;
	for (uint32_t i = 0; i < 2; i++) {
		admit.agents[i].number = i + 1;
		admit.agents[i].asks = &admit.ways[i];
		admit.agents[i].serves = &admit.ways[!i];
		admit.ways[i].agents[0] = &admit.agents[i];
		admit.ways[i].agents[1] = &admit.agents[!i];
		admit.agents[i].memory = aligned_alloc(FERRY_CHUNK_BYTES, MEMORY_BYTES);
	}
	for (uint32_t i = 0; i < 2; i++)
		agent_open(&admit.agents[i]);
}

void admit_close(void)
{
	for (uint32_t i = 0; i < 2; i++) {
		agent_close(&admit.agents[i]);
		free(admit.agents[i].memory);
	}
	sim_cm_done();
	sim_done(&admit.sim);
}
