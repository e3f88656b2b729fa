#include "proto/handshake.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/fuzz/fake_auth.h"

enum { FRAMES_MAX = 8, ROOM = FERRY_HANDSHAKE_FRAME_BYTES_MAX * 2 };

/* Both ends and what went between them. */
struct pair {
	struct fake_auth auth[2]; /* 0: the connector's, 1: the acceptor's. */
	struct ferry_handshake_config config[2];
	struct ferry_handshake end[2];
	struct ferry_error error[2];
	int r[2];
	uint8_t said[2][FRAMES_MAX * ROOM]; /* All that an end has said. */
	uint32_t said_bytes[2];
	uint32_t heard_bytes[2]; /* How much of the other's words an end has taken. */
	uint32_t members_asked;
	uint32_t member;
	/* What happens on the way: @flip_bit of what @flip_end said, counted from its start. */
	int flip_end;
	uint32_t flip_bit;
	/* Only so much of what @cut_end said arrives. */
	int cut_end;
	uint32_t cut_bytes;
};

static bool is_member(struct ferry_node node, void *context)
{
	struct pair *pair = context;

	pair->members_asked++;
	return node.v == pair->member;
}

static void pair_init(struct pair *pair, uint64_t seed)
{
	memset(pair, 0, sizeof(*pair));
	pair->flip_end = -1;
	pair->cut_end = -1;
	pair->member = 1;
	fake_auth_init(&pair->auth[0], 11, 2 * seed);
	fake_auth_init(&pair->auth[1], 11, 2 * seed + 1);
	for (uint32_t i = 0; i < 2; i++) {
		pair->config[i] = (struct ferry_handshake_config){
			.role = i == 0 ? FERRY_HANDSHAKE_CONNECTOR : FERRY_HANDSHAKE_ACCEPTOR,
			.auth = &pair->auth[i].auth,
			.cluster = "harbour",
			.self = {i + 1},
			.incarnation = {100 + i},
			.is_member = is_member,
			.context = pair,
		};
	}
	pair->config[0].wanted.v = 2;
}

static void pair_start(struct pair *pair)
{
	for (int i = 0; i < 2; i++)
		pair->r[i] = ferry_handshake_start(&pair->end[i], &pair->config[i], pair->said[i],
						   &pair->said_bytes[i], &pair->error[i]);
}

/* Give @bytes to an end as far as it wants any; whether it took some. */
static bool hear(struct pair *pair, int end, const uint8_t *bytes, uint32_t length_bytes)
{
	uint32_t wants = ferry_handshake_wants(&pair->end[end]);
	uint32_t at = pair->heard_bytes[end];
	uint32_t said = 0;

	if (wants == 0 || length_bytes < at + wants)
		return false;
	pair->r[end] = ferry_handshake_read(&pair->end[end], bytes + at,
					    pair->said[end] + pair->said_bytes[end], &said,
					    &pair->error[end]);
	pair->heard_bytes[end] += wants;
	pair->said_bytes[end] += said;
	assert_true(said <= ROOM);
	return true;
}

static void pair_run(struct pair *pair)
{
	uint8_t bytes[FRAMES_MAX * ROOM];
	bool has_moved = true;

	pair_start(pair);
	while (has_moved) {
		has_moved = false;
		for (int end = 0; end < 2; end++) {
			uint32_t length_bytes = pair->said_bytes[!end];

			memcpy(bytes, pair->said[!end], length_bytes);
			if (pair->flip_end == !end && pair->flip_bit / 8 < length_bytes)
				bytes[pair->flip_bit / 8] ^= (uint8_t)(1u << pair->flip_bit % 8);
			if (pair->cut_end == !end && pair->cut_bytes < length_bytes)
				length_bytes = pair->cut_bytes;
			has_moved |= hear(pair, end, bytes, length_bytes);
		}
	}
}

static void assert_state(const struct pair *pair, enum ferry_handshake_state connector,
			 enum ferry_handshake_state acceptor)
{
	assert_int_equal(pair->end[0].state, connector);
	assert_int_equal(pair->end[1].state, acceptor);
}

static void assert_refused(const struct pair *pair, int r, const char *connector_word,
			   const char *acceptor_word)
{
	assert_state(pair, FERRY_HANDSHAKE_FAILED, FERRY_HANDSHAKE_FAILED);
	assert_int_equal(pair->r[0], r);
	assert_int_equal(pair->r[1], r);
	if (!strstr(pair->error[0].message, connector_word))
		fail_msg("'%s' lacks '%s'", pair->error[0].message, connector_word);
	if (!strstr(pair->error[1].message, acceptor_word))
		fail_msg("'%s' lacks '%s'", pair->error[1].message, acceptor_word);
}

static void both_complete(void **state)
{
	uint8_t secrets[3][FERRY_PROOF_BYTES];
	struct pair pair;

	(void)state;
	pair_init(&pair, 1);
	pair_run(&pair);
	assert_state(&pair, FERRY_HANDSHAKE_COMPLETE, FERRY_HANDSHAKE_COMPLETE);
	assert_int_equal(pair.end[0].peer.v, 2);
	assert_int_equal(pair.end[0].peer_incarnation.v, 101);
	assert_int_equal(pair.end[1].peer.v, 1);
	assert_int_equal(pair.end[1].peer_incarnation.v, 100);
	assert_int_equal(pair.end[0].version, 2);
	assert_int_equal(pair.end[1].version, 2);
	assert_int_equal(ferry_handshake_wants(&pair.end[0]), 0);
	assert_int_equal(ferry_handshake_wants(&pair.end[1]), 0);
	assert_int_equal(pair.said_bytes[0], 144 + 40);
	assert_int_equal(pair.said_bytes[1], 144 + 40 + 56);
	assert_int_equal(ferry_handshake_secret(&pair.end[0], secrets[0]), 0);
	assert_int_equal(ferry_handshake_secret(&pair.end[1], secrets[1]), 0);
	assert_memory_equal(secrets[0], secrets[1], FERRY_PROOF_BYTES);
	pair_init(&pair, 2); /* Another connection has another. */
	pair_run(&pair);
	assert_int_equal(ferry_handshake_secret(&pair.end[0], secrets[2]), 0);
	assert_memory_not_equal(secrets[0], secrets[2], FERRY_PROOF_BYTES);
	pair.auth[0].has_no_digest = true;
	assert_int_equal(ferry_handshake_secret(&pair.end[0], secrets[2]), -EIO);
}

static void strangers_are_turned_away(void **state)
{
	struct pair pair;

	(void)state;
	pair_init(&pair, 2);
	pair.auth[0].key = 12;
	pair_run(&pair);
	assert_refused(&pair, -EACCES, "does not hold", "key differs");
	assert_int_equal(pair.members_asked, 0);

	pair_init(&pair, 3);
	memcpy(pair.config[0].cluster, "anchorage", sizeof("anchorage"));
	pair_run(&pair);
	assert_refused(&pair, -ENXIO, "of cluster 'harbour'", "name differs");

	pair_init(&pair, 4);
	pair.member = 3;
	pair_run(&pair);
	assert_refused(&pair, -EACCES, "not a current member", "node 1 is not a current member");

	pair_init(&pair, 5);
	pair.config[0].wanted.v = 3;
	pair_run(&pair);
	assert_refused(&pair, -ENXIO, "we are node 1", "another node");

	pair_init(&pair, 6); /* It calls itself. */
	pair.config[0].self.v = 2;
	pair_run(&pair);
	assert_refused(&pair, -ENXIO, "we are node 2", "another node");
}

/*
 * A connector that has the key but not a right to be here, and that doesn't check the acceptor:
 * the acceptor judges by itself, and only after the proof.
 */
static void acceptor_judges_by_itself(void **state)
{
	static const uint8_t WRONG[40] = {'F', 'R', 'H', 'S', 4, 0, 40, 0};
	struct pair pair;

	(void)state;
	pair_init(&pair, 7);
	pair.member = 3; /* Which the stranger must not learn. */
	pair_start(&pair);
	assert_true(hear(&pair, 1, pair.said[0], pair.said_bytes[0]));
	assert_true(hear(&pair, 1, pair.said[0], pair.said_bytes[0]));
	pair.heard_bytes[1] = 0;
	assert_true(hear(&pair, 1, WRONG, sizeof(WRONG)));
	assert_true(hear(&pair, 1, WRONG, sizeof(WRONG)));
	assert_int_equal(pair.r[1], -EACCES);
	assert_non_null(strstr(pair.error[1].message, "does not hold"));
	assert_int_equal(pair.members_asked, 0);
}

static void reseal_version(struct pair *pair, uint8_t min, uint8_t max)
{
	pair->said[0][8] = min;
	pair->said[0][10] = max;
	memcpy(pair->end[0].hello_connector, pair->said[0], pair->said_bytes[0]);
}

/* HELLOs of other versions, and with features, with proofs that fit them. */
static void versions_and_features_are_negotiated(void **state)
{
	static const struct {
		uint8_t min, max, optional, required;
		int r;
	} CASES[] = {
		{2, 2, 0, 0, 0},
		{1, 9, 0, 0, 0},
		{1, 1, 0, 0, -EPROTONOSUPPORT},
		{3, 9, 0, 0, -EPROTONOSUPPORT},
		{2, 2, 0xff, 0, 0},
		{2, 2, 0, 1, -EPROTONOSUPPORT},
		{2, 1, 0, 0, -EPROTO},
		{0, 1, 0, 0, -EPROTO},
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(CASES); i++) {
		struct pair pair;
		bool has_moved = true;

		pair_init(&pair, 8 + i);
		pair_start(&pair);
		pair.said[0][32] = CASES[i].optional;
		pair.said[0][40] = CASES[i].required;
		reseal_version(&pair, CASES[i].min, CASES[i].max);
		while (has_moved) {
			has_moved = hear(&pair, 1, pair.said[0], pair.said_bytes[0]);
			has_moved |= hear(&pair, 0, pair.said[1], pair.said_bytes[1]);
		}
		assert_int_equal(pair.r[1], CASES[i].r);
		assert_int_equal(pair.r[0], CASES[i].r);
		assert_int_equal(pair.end[0].state == FERRY_HANDSHAKE_COMPLETE, CASES[i].r == 0);
		assert_int_equal(pair.end[1].state == FERRY_HANDSHAKE_COMPLETE, CASES[i].r == 0);
	}
}

static void features_are_what_both_have(void **state)
{
	struct pair pair;

	(void)state;
	pair_init(&pair, 17);
	pair.config[0].features = FERRY_HANDSHAKE_FEATURE_RDMA | 2;
	pair.config[1].features = FERRY_HANDSHAKE_FEATURE_RDMA | 4;
	pair_run(&pair);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pair.end[i].state, FERRY_HANDSHAKE_COMPLETE);
		assert_int_equal(pair.end[i].features, FERRY_HANDSHAKE_FEATURE_RDMA);
	}
}

static void no_flipped_bit_completes(void **state)
{
	struct pair good, pair;

	(void)state;
	pair_init(&good, 20);
	pair_run(&good);
	for (int end = 0; end < 2; end++) {
		for (uint32_t bit = 0; bit < good.said_bytes[end] * 8; bit++) {
			pair_init(&pair, 20);
			pair.flip_end = end;
			pair.flip_bit = bit;
			pair_run(&pair);
			/* Who got the damage never completes. */
			assert_int_not_equal(pair.end[!end].state, FERRY_HANDSHAKE_COMPLETE);
		}
	}
}

static void no_truncation_completes(void **state)
{
	struct pair good, pair;

	(void)state;
	pair_init(&good, 21);
	pair_run(&good);
	for (int end = 0; end < 2; end++) {
		for (uint32_t bytes = 0; bytes < good.said_bytes[end]; bytes++) {
			pair_init(&pair, 21);
			pair.cut_end = end;
			pair.cut_bytes = bytes;
			pair_run(&pair);
			assert_int_equal(pair.end[!end].state, FERRY_HANDSHAKE_RUNNING);
		}
	}
}

static void replay_and_reflection_fail(void **state)
{
	struct pair old, pair;

	(void)state;
	pair_init(&old, 22);
	pair_run(&old);
	assert_state(&old, FERRY_HANDSHAKE_COMPLETE, FERRY_HANDSHAKE_COMPLETE);
	for (int end = 0; end < 2; end++) { /* Words of an earlier meeting. */
		pair_init(&pair, 23);
		pair_start(&pair);
		while (hear(&pair, end, old.said[!end], old.said_bytes[!end]))
			;
		assert_int_equal(pair.end[end].state, FERRY_HANDSHAKE_FAILED);
		assert_int_equal(pair.r[end], -EACCES);
	}
	pair_init(&pair, 24); /* One's own words, also with the kind made fit. */
	pair_start(&pair);
	while (hear(&pair, 0, pair.said[0], pair.said_bytes[0]))
		;
	assert_int_equal(pair.r[0], -EPROTO);
	pair_init(&pair, 25);
	pair_start(&pair);
	memcpy(pair.said[1], pair.said[0], pair.said_bytes[0]);
	pair.said[1][4] = 2;
	assert_true(hear(&pair, 0, pair.said[1], pair.said_bytes[0]));
	assert_true(hear(&pair, 0, pair.said[1], pair.said_bytes[0]));
	memcpy(pair.said[1] + pair.said_bytes[0], old.said[1] + 144, 40);
	while (hear(&pair, 0, pair.said[1], pair.said_bytes[0] + 40))
		;
	assert_int_equal(pair.r[0], -EACCES);
}

static void garbage_is_refused(void **state)
{
	struct ferry_prng prng = {.state = 26};
	struct pair pair;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint8_t bytes[512];
		int end = i % 2;

		for (size_t at = 0; at < sizeof(bytes); at++)
			bytes[at] = (uint8_t)ferry_prng_next(&prng);
		if (i % 4 >= 2) /* Into the frames' bodies. */
			memcpy(bytes, "FRHS\1\0\220\0", 8);
		if (i % 4 == 3)
			bytes[4] = 2;
		pair_init(&pair, 27);
		pair_start(&pair);
		while (hear(&pair, end, bytes, sizeof(bytes)))
			;
		assert_int_equal(pair.end[end].state, FERRY_HANDSHAKE_FAILED);
		assert_true(pair.r[end] == -EPROTO || pair.r[end] == -EPROTONOSUPPORT);
		assert_int_equal(pair.members_asked, 0);
	}
}

static void trouble_is_an_error(void **state)
{
	struct pair pair;

	(void)state;
	pair_init(&pair, 28);
	pair.auth[0].has_no_random = true;
	pair_start(&pair);
	assert_int_equal(pair.r[0], -EIO);
	assert_int_equal(ferry_handshake_wants(&pair.end[0]), 0);
	for (int which = 0; which < 3; which++) {
		pair_init(&pair, 29);
		pair.auth[1].has_no_random = which == 0;
		pair.auth[1].has_no_digest = which == 1;
		pair.auth[0].has_no_digest = which == 2;
		pair_run(&pair);
		assert_int_equal(pair.r[0], -EIO);
		assert_int_equal(pair.r[1], -EIO);
	}
}

static void cluster_names(void **state)
{
	char name[FERRY_CLUSTER_NAME_MAX] = {};

	(void)state;
	assert_false(ferry_handshake_cluster_is_valid(name));
	memcpy(name, "a b-c", sizeof("a b-c"));
	assert_true(ferry_handshake_cluster_is_valid(name));
	name[20] = 'x';
	assert_false(ferry_handshake_cluster_is_valid(name));
	memset(name, 'x', sizeof(name));
	assert_false(ferry_handshake_cluster_is_valid(name));
	name[sizeof(name) - 1] = '\0';
	assert_true(ferry_handshake_cluster_is_valid(name));
	name[3] = '\n';
	assert_false(ferry_handshake_cluster_is_valid(name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_complete),
		cmocka_unit_test(strangers_are_turned_away),
		cmocka_unit_test(acceptor_judges_by_itself),
		cmocka_unit_test(versions_and_features_are_negotiated),
		cmocka_unit_test(features_are_what_both_have),
		cmocka_unit_test(no_flipped_bit_completes),
		cmocka_unit_test(no_truncation_completes),
		cmocka_unit_test(replay_and_reflection_fail),
		cmocka_unit_test(garbage_is_refused),
		cmocka_unit_test(trouble_is_an_error),
		cmocka_unit_test(cluster_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
