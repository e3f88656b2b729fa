/*
 * handshake_fuzz - one end of a handshake, whose genuine far end is reached through the fuzzer.
 *
 * Byte 0: bit 0 which end is fuzzed, the others what is wrong from the start (enum wrong).
 * Then a script, one word for each part that the end wants:
 *   even          deliver the genuine bytes
 *   1 mod 4       deliver them with the byte at [next byte] xored by [the byte after]
 *   3 mod 4       deliver [next byte] bytes of the script, padded with zeroes
 *
 * An end completes only if it heard nothing but what the genuine far end said.
 */
#include "proto/handshake.h"
#include "tests/fuzz/fake_auth.h"

enum { SAID_BYTES_MAX = 4096 };

enum wrong {
	WRONG_CLUSTER = 1u << 1,
	WRONG_MEMBER = 1u << 2,
	WRONG_NODE = 1u << 3,
	WRONG_KEY = 1u << 4,
	WRONG_DIGEST = 1u << 5, /* The fuzzed end cannot make any. */
	WRONG_ANY = WRONG_CLUSTER | WRONG_MEMBER | WRONG_NODE | WRONG_KEY | WRONG_DIGEST,
};

struct script {
	const uint8_t *data;
	size_t left_bytes;
};

struct fuzzed_end {
	struct fake_auth auth;
	struct ferry_handshake handshake;
	uint8_t said[SAID_BYTES_MAX];
	uint32_t said_bytes;
	uint32_t heard_bytes;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes);

static uint8_t script_next(struct script *script)
{
	if (script->left_bytes == 0)
		return 0;
	script->left_bytes--;
	return *script->data++;
}

static bool is_member(struct ferry_node node, void *context)
{
	return node.v == 1 && !(*(uint8_t *)context & WRONG_MEMBER);
}

static void end_start(struct fuzzed_end *end, enum ferry_handshake_role role, uint8_t *wrong)
{
	bool is_connector = role == FERRY_HANDSHAKE_CONNECTOR;
	struct ferry_handshake_config config = {
		.role = role,
		.auth = &end->auth.auth,
		.cluster = "harbour",
		.self = {role},
		.incarnation = {5},
		.wanted = {FERRY_HANDSHAKE_ACCEPTOR},
		.is_member = is_member,
		.context = wrong,
	};

	if (is_connector && (*wrong & WRONG_CLUSTER))
		config.cluster[0]++;
	if (is_connector && (*wrong & WRONG_NODE))
		config.wanted.v = 3;
	fake_auth_init(&end->auth, is_connector && (*wrong & WRONG_KEY) ? 12 : 11, role);
	ferry_assert(ferry_handshake_start(&end->handshake, &config, end->said, &end->said_bytes,
					   NULL) == 0);
}

static void end_hear(struct fuzzed_end *end, const uint8_t *bytes)
{
	struct ferry_error error = {};
	uint32_t said_bytes = 0;
	int r;

	ferry_assert(sizeof(end->said) - end->said_bytes >= 2 * FERRY_HANDSHAKE_FRAME_BYTES_MAX);
	r = ferry_handshake_read(&end->handshake, bytes, end->said + end->said_bytes, &said_bytes,
				 &error);
	ferry_assert(said_bytes <= 2 * FERRY_HANDSHAKE_FRAME_BYTES_MAX);
	ferry_assert((r < 0) == (end->handshake.state == FERRY_HANDSHAKE_FAILED));
	ferry_assert(r == 0 || (error.code == r && error.message[0] != '\0'));
	end->said_bytes += said_bytes;
}

/* The genuine end hears all that was said to it. */
static void end_follow(struct fuzzed_end *end, const struct fuzzed_end *far)
{
	for (;;) {
		uint32_t wants = ferry_handshake_wants(&end->handshake);

		if (wants == 0 || far->said_bytes - end->heard_bytes < wants)
			return;
		end->heard_bytes += wants;
		end_hear(end, far->said + end->heard_bytes - wants);
	}
}

/* What the fuzzed end is told next. Whether it is what the far end said. */
static bool script_part(struct script *script, const struct fuzzed_end *end,
			const struct fuzzed_end *far, uint32_t wants, uint8_t *ret)
{
	bool is_there = far->said_bytes - end->heard_bytes >= wants;
	const uint8_t *genuine = far->said + end->heard_bytes;
	uint8_t word = script_next(script);

	memset(ret, 0, wants);
	if (word % 4 == 3 || !is_there) {
		for (uint32_t i = script_next(script), at = 0; i > 0 && at < wants; i--)
			ret[at++] = script_next(script);
	} else {
		memcpy(ret, genuine, wants);
	}
	if (word % 4 == 1) {
		uint8_t at = script_next(script);

		ret[at % wants] ^= script_next(script);
	}
	return is_there && memcmp(ret, genuine, wants) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length_bytes)
{
	struct script script = {data, length_bytes};
	struct fuzzed_end ends[2] = {};
	uint8_t wrong = script_next(&script);
	bool is_acceptor = wrong & 1;
	struct fuzzed_end *end = &ends[is_acceptor], *far = &ends[!is_acceptor];
	bool is_genuine = true;

	end_start(&ends[0], FERRY_HANDSHAKE_CONNECTOR, &wrong);
	end_start(&ends[1], FERRY_HANDSHAKE_ACCEPTOR, &wrong);
	end->auth.has_no_digest = wrong & WRONG_DIGEST;
	for (uint32_t i = 0; i < 16; i++) { /* Twice as many parts as a handshake has. */
		uint8_t bytes[FERRY_HANDSHAKE_FRAME_BYTES_MAX];
		uint32_t wants;

		end_follow(far, end);
		wants = ferry_handshake_wants(&end->handshake);
		if (wants == 0)
			break;
		ferry_assert(wants <= sizeof(bytes));
		is_genuine &= script_part(&script, end, far, wants, bytes);
		end->heard_bytes =
			(uint32_t)ferry_min_u64(end->heard_bytes + wants, far->said_bytes);
		end_hear(end, bytes);
	}
	if (end->handshake.state == FERRY_HANDSHAKE_COMPLETE) {
		ferry_assert(is_genuine && !(wrong & WRONG_ANY));
		ferry_assert(end->handshake.peer.v == far->handshake.config.self.v);
	}
	return 0;
}
