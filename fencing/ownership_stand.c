/* ownership_stand.c - see ownership_stand.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fencing/ownership_stand.h"

struct stand stand;
struct ferry_group group;
struct ferry_group_message said[SAID_MAX]; /* Not heard by itself yet. */
uint32_t said_count;
uint32_t says[FERRY_GROUP_TYPE_LAST + 1]; /* How often, by type. */
struct ferry_group_message last[FERRY_GROUP_TYPE_LAST + 1];
int refusal; /* What multicast() says. */
uint8_t stored[FERRY_STORE_VALUE_BYTES_MAX];
int stored_bytes; /* Or the error of load(). */
int save_error;
struct ferry_ownership_config config;
struct ferry_ownership ownership;
struct ferry_view view;
uint32_t takes;
struct ferry_drained_keys drained;
bool peer_has_path[8];
uint32_t path_news;
uint32_t wishes;
int wish;
uint32_t fences;
int fenced;

static const struct ferry_uuid lineage = {{7}};
static const struct ferry_uuid lun = {{8}};

/* ---- The ports. ---- */

static int multicast(struct ferry_group *self, const void *bytes, size_t length_bytes)
{
	struct ferry_group_message message;
	struct ferry_error error;

	(void)self;
	if (refusal < 0)
		return refusal;
	assert_int_equal(ferry_group_message_decode(bytes, length_bytes, &message, &error), 0);
	assert_int_equal(message.ring, group.ring);
	assert_int_equal(message.incarnation.v, 1);
	assert_true(ferry_uuid_equal(&message.lineage, &lineage));
	assert_true(ferry_uuid_equal(&message.lun, &lun));
	if (message.type == FERRY_GROUP_ACK || message.type == FERRY_GROUP_STATE)
		assert_true(stored_bytes > 0 || message.epoch.v == 0); /* On its disk first. */
	says[message.type]++;
	last[message.type] = message;
	assert_true(said_count < SAID_MAX);
	said[said_count++] = message;
	return 0;
}

static int load(struct ferry_store *self, const char *key, void *ret, size_t size_bytes)
{
	(void)self;
	assert_string_equal(key, "pool.p.epoch");
	if (stored_bytes > 0) {
		assert_true((size_t)stored_bytes <= size_bytes);
		memcpy(ret, stored, (size_t)stored_bytes);
	}
	return stored_bytes;
}

static int save(struct ferry_store *self, const char *key, const void *value, size_t length_bytes)
{
	(void)self;
	assert_string_equal(key, "pool.p.epoch");
	if (save_error < 0)
		return save_error;
	memcpy(stored, value, length_bytes);
	stored_bytes = (int)length_bytes;
	return 0;
}

static const struct ferry_group_ops group_ops = {.name = "stand", .multicast = multicast};
static const struct ferry_store_ops store_ops = {.name = "stand", .load = load, .save = save};
static struct ferry_store store = {.ops = &store_ops};

static void set_view(const struct ferry_view *now, void *context)
{
	(void)context;
	view = *now;
}

static void take(const struct ferry_drained_keys *keys, void *context)
{
	(void)context;
	takes++;
	drained = *keys;
}

static void on_path(struct ferry_node node, bool has_path, void *context)
{
	(void)context;
	path_news++;
	peer_has_path[node.v] = has_path;
}

static void on_wish(int error, const char *why, void *context)
{
	(void)context;
	assert_non_null(why);
	wishes++;
	wish = error;
}

static void on_fenced(struct ferry_node victim, int error, const char *why, void *context)
{
	(void)context;
	assert_non_null(why);
	assert_int_equal(victim.v, 3);
	fences++;
	fenced = error;
}

/* ---- The cluster around it. ---- */

/* Its own messages come back, in their order. */
void echo(void)
{
	for (uint32_t i = 0; i < said_count; i++) {
		struct ferry_group_message message = said[i]; /* More may come. */

		ferry_ownership_message(&ownership, group.self, &message);
	}
	said_count = 0;
}

struct ferry_group_message message_of(enum ferry_group_type type, uint64_t epoch, uint32_t owner,
				      uint32_t flags)
{
	return (struct ferry_group_message){.type = type,
					    .flags = flags,
					    .pool = ferry_hash128("p", 1),
					    .lineage = lineage,
					    .lun = lun,
					    .epoch = {epoch},
					    .owner = {owner},
					    .ring = group.ring,
					    .incarnation = {1}};
}

void hear(uint32_t from, enum ferry_group_type type, uint64_t epoch, uint32_t owner, uint32_t flags)
{
	struct ferry_group_message message = message_of(type, epoch, owner, flags);

	ferry_ownership_message(&ownership, (struct ferry_node){from}, &message);
}

void hear_fence(uint32_t from, enum ferry_group_type type, uint32_t victim, uint64_t incarnation,
		uint32_t flags)
{
	struct ferry_group_message message = message_of(type, view.epoch.v, view.owner.v, flags);

	message.victim.v = victim;
	message.victim_incarnation.v = incarnation;
	ferry_ownership_message(&ownership, (struct ferry_node){from}, &message);
}

void ring_of(uint32_t count, bool is_quorate)
{
	struct ferry_members members = {.nodes = {{1}, {2}, {3}}, .count = count};

	group.ring++;
	group.is_quorate = is_quorate;
	ferry_ownership_members(&ownership, &members);
	echo();
}

/* All of the ring have spoken: nobody owns the pool. */
void speak(uint64_t epoch, uint32_t owner, uint32_t flags)
{
	for (uint32_t node = 2; node <= ownership.members.count; node++)
		hear(node, FERRY_GROUP_STATE, epoch, owner, flags);
	echo();
}

void open_as(uint32_t nodes, bool has_reservations)
{
	struct ferry_error error;

	stand_open(&stand);
	group = (struct ferry_group){
		.ops = &group_ops, .self = {1}, .nodes = ferry_members_of(nodes), .ring = 100};
	said_count = 0;
	memset(says, 0, sizeof(says));
	memset(peer_has_path, 0, sizeof(peer_has_path));
	stored_bytes = -ENOENT;
	refusal = save_error = 0;
	takes = wishes = fences = path_news = 0;
	wish = fenced = 1;
	config = (struct ferry_ownership_config){.loop = &stand.loop.loop,
						 .group = &group,
						 .store = &store,
						 .pool = "p",
						 .lineage = lineage,
						 .lun = lun,
						 .incarnation = {1},
						 .has_reservations = has_reservations,
						 .drain_timeout_ns = DRAIN_MS * FERRY_NS_PER_MS,
						 .set_view = set_view,
						 .take = take,
						 .peer_has_path = on_path,
						 .on_wish = on_wish,
						 .on_fenced = on_fenced};
	assert_int_equal(ferry_ownership_open(&ownership, &config, &error), 0);
}

int setup(void **state)
{
	(void)state;
	open_as(3, /* has_reservations= */ true);
	ring_of(3, true);
	speak(0, 0, 0);
	return 0;
}

int teardown(void **state)
{
	(void)state;
	ferry_ownership_done(&ownership);
	stand_close(&stand);
	return 0;
}

void reopen_as(uint32_t nodes, bool has_reservations)
{
	(void)teardown(NULL);
	open_as(nodes, has_reservations);
}

/* Its epoch is at all of them, and nothing older is in flight anywhere. */
void all_drain(uint64_t epoch)
{
	echo();
	ferry_ownership_drained(&ownership, (struct ferry_epoch){epoch});
	echo();
	for (uint32_t node = 2; node <= ownership.members.count; node++)
		hear(node, FERRY_GROUP_ACK, epoch, 1, FERRY_GROUP_DRAINED);
}

void own(uint64_t epoch)
{
	ferry_ownership_acquire(&ownership, /* is_take= */ true);
	all_drain(epoch);
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_TAKING);
	ferry_ownership_taken(&ownership, (struct ferry_epoch){epoch}, 0);
	echo();
	assert_int_equal(ownership.phase, FERRY_OWNERSHIP_OWNING);
	assert_true(view.is_in_force);
}

bool is_drained(uint32_t node)
{
	for (uint32_t i = 0; i < drained.count; i++)
		if (ferry_key_node(drained.keys[i]).v == node)
			return true;
	return false;
}
