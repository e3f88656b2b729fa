#include "tests/sim/sim_group.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proto/group_message.h"

static void delivery_free(struct sim_delivery *delivery)
{
	sim_input_cancel(&delivery->input);
	ferry_list_remove(&delivery->link);
	free(delivery);
}

static void delivery_run(struct sim_input *input)
{
	struct sim_delivery *delivery = FERRY_CONTAINER_OF(input, struct sim_delivery, input);
	struct ferry_group *group = &delivery->group->group;

	switch (delivery->kind) {
	case SIM_DELIVERY_MESSAGE:
		group->on_message(group, delivery->from, delivery->bytes, delivery->length_bytes);
		break;
	case SIM_DELIVERY_MEMBERS:
		group->on_members(group, &delivery->members);
		break;
	case SIM_DELIVERY_QUORUM:
		group->is_quorate = delivery->is_quorate;
		group->ring = delivery->ring;
		group->on_quorum(group);
		break;
	}
	delivery_free(delivery);
}

static struct sim_delivery *delivery_new(struct sim_group *group, enum sim_delivery_kind kind,
					 uint64_t lag_ns)
{
	struct sim *sim = group->corosync->sim;
	struct sim_delivery *delivery = sim_alloc(sizeof(*delivery));
	uint64_t *delivered_ns =
		kind == SIM_DELIVERY_QUORUM ? &group->quorum_delivered_ns : &group->delivered_ns;
	uint64_t at_ns = sim->now_ns + lag_ns +
			 sim_between(sim, SIM_NETWORK, 50 * FERRY_NS_PER_US, 1 * FERRY_NS_PER_MS);

	delivery->group = group;
	delivery->kind = kind;
	sim_input_init(&delivery->input, group->loop, SIM_GROUP, delivery_run);
	delivery->input.event.value = 10 + (uint64_t)kind;
	ferry_list_init(&delivery->link);
	ferry_list_append(&group->deliveries, &delivery->link);
	*delivered_ns = ferry_max_u64(*delivered_ns, at_ns);
	sim_input_at(&delivery->input, *delivered_ns);
	return delivery;
}

static bool is_there(const struct sim_corosync_node *node)
{
	return node->is_up && !node->is_frozen;
}

/* ---- Messages. ---- */

static void order_run(struct sim_event *event)
{
	struct sim_group *sender = FERRY_CONTAINER_OF(event, struct sim_group, order_event);
	struct sim_corosync *corosync = sender->corosync;
	const struct sim_corosync_node *from = &corosync->nodes[sender->node];
	struct ferry_list *link;

	if (from->is_gathering || from->is_frozen)
		return; /* The new ring's forming goes on with it. */
	while ((link = ferry_list_pop(&sender->outgoing))) {
		struct sim_outgoing *message = ferry_list_entry(link, struct sim_outgoing, link);

		for (uint32_t i = 1; i <= corosync->nodes_count; i++) {
			struct sim_delivery *delivery;

			if (!corosync->nodes[i].group || corosync->nodes[i].ring != from->ring)
				continue;
			delivery = delivery_new(corosync->nodes[i].group, SIM_DELIVERY_MESSAGE, 0);
			delivery->from.v = sender->node;
			delivery->length_bytes = message->length_bytes;
			memcpy(delivery->bytes, message->bytes, message->length_bytes);
		}
		free(message);
	}
}

static int group_multicast(struct ferry_group *group, const void *bytes, size_t length_bytes)
{
	struct sim_group *self = FERRY_CONTAINER_OF(group, struct sim_group, group);
	struct sim *sim = self->corosync->sim;
	struct sim_outgoing *message;

	struct ferry_group_message decoded;

	ferry_assert(length_bytes <= FERRY_GROUP_MESSAGE_BYTES_MAX);
	if (ferry_group_message_decode(bytes, length_bytes, &decoded, NULL) == 0)
		sim_note(sim, SIM_GROUP, self->node, decoded.type,
			 "multicasts type %u, flags %x, epoch %" PRIu64 ", owner n%u", decoded.type,
			 decoded.flags, decoded.epoch.v, decoded.owner.v);
	if (sim_chance(sim, SIM_NETWORK, 50))
		return -EAGAIN; /* Routine in corosync. */
	message = sim_alloc(sizeof(*message));
	message->length_bytes = length_bytes;
	memcpy(message->bytes, bytes, length_bytes);
	ferry_list_init(&message->link);
	ferry_list_append(&self->outgoing, &message->link);
	if (!sim_is_due(&self->order_event))
		sim_in(sim, &self->order_event,
		       sim_between(sim, SIM_NETWORK, 50 * FERRY_NS_PER_US, 500 * FERRY_NS_PER_US));
	return 0;
}

/* ---- Rings. ---- */

static void tell(struct sim_corosync *corosync, uint32_t node, uint32_t alone)
{
	struct sim_group *group = corosync->nodes[node].group;
	struct sim_delivery *members;
	struct sim_delivery *quorum;
	uint32_t present = 0;
	uint64_t lags_ns[2] = {0};

	if (!group)
		return;
	/* One of the two services is late. */
	lags_ns[sim_below(corosync->sim, SIM_NETWORK, 2)] =
		sim_below(corosync->sim, SIM_NETWORK, corosync->quorum_lag_ns_max + 1);
	members = delivery_new(group, SIM_DELIVERY_MEMBERS, lags_ns[0]);
	quorum = delivery_new(group, SIM_DELIVERY_QUORUM, lags_ns[1]);
	quorum->ring = alone ? corosync->ring_next++ : corosync->nodes[node].ring;
	for (uint32_t i = 1; i <= corosync->nodes_count; i++) {
		if (alone ? i != node : corosync->nodes[i].ring != corosync->nodes[node].ring)
			continue;
		present++;
		if (corosync->nodes[i].group)
			members->members.nodes[members->members.count++].v = i;
	}
	quorum->is_quorate =
		present * 2 > corosync->nodes_count || (corosync->nodes_count == 2 && !alone);
	sim_note(corosync->sim, SIM_GROUP, node, quorum->ring,
		 "ring %" PRIu64 ": %u nodes, %u agents%s", quorum->ring, present,
		 members->members.count, quorum->is_quorate ? ", quorate" : "");
}

static void form_run(struct sim_event *event)
{
	struct sim_corosync *corosync = FERRY_CONTAINER_OF(event, struct sim_corosync, form_event);
	bool is_done[SIM_NODES_MAX + 1] = {false};

	for (uint32_t i = 1; i <= corosync->nodes_count; i++) {
		uint64_t ring = corosync->ring_next;
		bool is_any_gathering = false;

		if (is_done[i] || !is_there(&corosync->nodes[i]))
			continue;
		for (uint32_t j = i; j <= corosync->nodes_count; j++)
			is_any_gathering |= is_there(&corosync->nodes[j]) &&
					    corosync->nodes[j].side == corosync->nodes[i].side &&
					    corosync->nodes[j].is_gathering;
		for (uint32_t j = i; j <= corosync->nodes_count; j++) {
			struct sim_corosync_node *node = &corosync->nodes[j];

			if (!is_there(node) || node->side != corosync->nodes[i].side)
				continue;
			is_done[j] = true;
			if (is_any_gathering)
				node->ring = ring;
		}
		corosync->ring_next += is_any_gathering;
	}
	for (uint32_t i = 1; i <= corosync->nodes_count; i++) {
		struct sim_corosync_node *node = &corosync->nodes[i];

		if (!is_there(node)) {
			node->ring = 0; /* In nobody's ring any more. */
			continue;
		}
		if (!node->is_gathering)
			continue;
		node->is_gathering = false;
		if (node->was_away)
			tell(corosync, i, i);
		node->was_away = false;
		tell(corosync, i, 0);
		if (node->group && !ferry_list_is_empty(&node->group->outgoing))
			sim_in(corosync->sim, &node->group->order_event, 0);
	}
}

/* The rings of @node and of all that it might join now have to form anew. */
static void gather(struct sim_corosync *corosync, uint32_t node, uint64_t token_ns)
{
	const struct sim_corosync_node *changed = &corosync->nodes[node];

	for (uint32_t i = 1; i <= corosync->nodes_count; i++) {
		struct sim_corosync_node *other = &corosync->nodes[i];

		if (i == node || (other->ring != 0 && other->ring == changed->ring) ||
		    (is_there(changed) && is_there(other) && other->side == changed->side))
			other->is_gathering = true;
	}
	sim_in(corosync->sim, &corosync->form_event, token_ns);
}

static uint64_t token_ns(const struct sim_corosync *corosync)
{
	return sim_between(corosync->sim, SIM_NETWORK, corosync->token_ns_min,
			   corosync->token_ns_max);
}

void sim_corosync_init(struct sim_corosync *corosync, struct sim *sim, uint32_t nodes_count)
{
	ferry_assert(nodes_count > 0 && nodes_count <= SIM_NODES_MAX);
	*corosync = (struct sim_corosync){
		.sim = sim,
		.nodes_count = nodes_count,
		.form_event = {.kind = SIM_GROUP, .value = 1, .run = form_run},
		.ring_next = 1,
		.token_ns_min = 300 * FERRY_NS_PER_MS,
		.token_ns_max = 1200 * FERRY_NS_PER_MS,
		.quorum_lag_ns_max = 1 * FERRY_NS_PER_MS,
	};
}

void sim_corosync_node_up(struct sim_corosync *corosync, uint32_t node, bool is_up)
{
	struct sim_corosync_node *changed = &corosync->nodes[node];

	if (changed->is_up == is_up)
		return;
	changed->is_up = is_up;
	if (is_up)
		changed->ring = 0;
	gather(corosync, node, is_up ? 50 * FERRY_NS_PER_MS : token_ns(corosync));
}

void sim_corosync_freeze(struct sim_corosync *corosync, uint32_t node, bool is_frozen)
{
	struct sim_corosync_node *changed = &corosync->nodes[node];

	changed->is_frozen = is_frozen;
	if (!is_frozen && changed->ring == 0)
		changed->was_away = true; /* The others have formed a ring without it. */
	gather(corosync, node, token_ns(corosync));
}

void sim_corosync_partition(struct sim_corosync *corosync, const uint32_t *sides)
{
	for (uint32_t i = 1; i <= corosync->nodes_count; i++) {
		if (corosync->nodes[i].side == sides[i])
			continue;
		corosync->nodes[i].side = sides[i];
		gather(corosync, i, token_ns(corosync));
	}
}

/* ---- Agents. ---- */

static void members_changed(struct sim_corosync *corosync, uint32_t node)
{
	/* Agents come and go within a ring; only CPG speaks. The ring stays. */
	for (uint32_t i = 1; i <= corosync->nodes_count; i++)
		if (corosync->nodes[i].ring != 0 &&
		    corosync->nodes[i].ring == corosync->nodes[node].ring &&
		    !corosync->nodes[i].is_gathering)
			tell(corosync, i, 0);
}

static const struct ferry_group_ops sim_group_ops = {
	.name = "sim",
	.multicast = group_multicast,
};

void sim_group_join(struct sim_group *group, struct sim_corosync *corosync, struct sim_loop *loop,
		    uint32_t node)
{
	group->group.ops = &sim_group_ops;
	group->group.self.v = node;
	group->group.nodes = ferry_members_of(corosync->nodes_count);
	group->corosync = corosync;
	group->loop = loop;
	group->node = node;
	group->order_event =
		(struct sim_event){.kind = SIM_GROUP, .node = node, .value = 2, .run = order_run};
	ferry_list_init(&group->deliveries);
	ferry_list_init(&group->outgoing);
	ferry_assert(!corosync->nodes[node].group);
	corosync->nodes[node].group = group;
	if (!corosync->nodes[node].is_up)
		sim_corosync_node_up(corosync, node, true);
	else
		members_changed(corosync, node);
}

void sim_group_leave(struct sim_group *group)
{
	sim_cancel(group->corosync->sim, &group->order_event);
	while (!ferry_list_is_empty(&group->deliveries))
		delivery_free(ferry_list_entry(group->deliveries.next, struct sim_delivery, link));
	while (!ferry_list_is_empty(&group->outgoing)) {
		struct sim_outgoing *message =
			ferry_list_entry(group->outgoing.next, struct sim_outgoing, link);

		ferry_list_remove(&message->link);
		free(message);
	}
	group->corosync->nodes[group->node].group = NULL;
	members_changed(group->corosync, group->node);
}
