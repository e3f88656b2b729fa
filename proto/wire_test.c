#include "proto/wire.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "agent/base/checksum.h"
#include "agent/base/prng.h"
#include "agent/ports/io.h"

static struct ferry_wire_header request(enum ferry_op op)
{
	struct ferry_wire_header header = {
		.type = FERRY_WIRE_REQUEST,
		.node = {7},
		.incarnation = {UINT64_C(0x1122334455667788)},
		.lineage = {{1, 2, 3}},
		.epoch = {9},
		.sequence = 1000,
		.floor = 900,
		.lun = {{4, 5, 6}},
		.op = op,
		.lba = {UINT64_C(0xaabbccddee)},
		.length_blocks = 8,
	};

	if (op == FERRY_OP_FLUSH) {
		header.lba.v = 0;
		header.length_blocks = 0;
	}
	if (op == FERRY_OP_WRITE) {
		header.payload_bytes = 4096;
		header.payload_crc = 0xdeadbeef;
		header.flags = FERRY_IO_FUA;
	}
	return header;
}

static struct ferry_wire_header reply(enum ferry_op op, enum ferry_outcome outcome,
				      enum ferry_cause cause)
{
	struct ferry_wire_header header = request(op);

	header.type = FERRY_WIRE_REPLY;
	header.floor = 0;
	header.payload_bytes = 0;
	header.payload_crc = 0;
	if (op == FERRY_OP_READ && outcome == FERRY_OUTCOME_DONE)
		header.payload_bytes = 4096;
	header.outcome = outcome;
	header.cause = cause;
	header.losses = 99;
	return header;
}

static struct ferry_wire_header lay(void)
{
	struct ferry_wire_header header = request(FERRY_OP_FLUSH);

	header.type = FERRY_WIRE_LAY;
	header.op = 0;
	header.victim_key = 77;
	return header;
}

static struct ferry_wire_header ping(void)
{
	return (struct ferry_wire_header){
		.type = FERRY_WIRE_PING, .node = {1}, .incarnation = {2}, .sequence = 3};
}

static struct ferry_wire_header warm(void)
{
	struct ferry_wire_header header = lay();

	header.type = FERRY_WIRE_WARM;
	header.victim_key = 0;
	header.cursor = 88;
	return header;
}

static struct ferry_wire_header warm_reply(void)
{
	struct ferry_wire_header header = warm();

	header.type = FERRY_WIRE_WARM_REPLY;
	header.floor = 0;
	header.cursor = 0;
	header.outcome = FERRY_OUTCOME_DONE;
	header.cause = FERRY_CAUSE_NONE;
	header.payload_bytes = 129; /* A stream has any length. */
	header.payload_crc = 5;
	return header;
}

static void assert_same(const struct ferry_wire_header *header)
{
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES], again[FERRY_WIRE_HEADER_BYTES];
	struct ferry_wire_header decoded;
	struct ferry_error error = {};

	assert_int_equal(ferry_wire_check(header, &error), 0);
	ferry_wire_encode(header, bytes);
	assert_int_equal(ferry_wire_decode(bytes, &decoded, &error), 0);
	ferry_wire_encode(&decoded, again);
	assert_memory_equal(bytes, again, sizeof(bytes));
	assert_int_equal(decoded.type, header->type);
	assert_int_equal(decoded.lba.v, header->lba.v);
	assert_int_equal(decoded.incarnation.v, header->incarnation.v);
	assert_int_equal(decoded.victim_key, header->victim_key);
	assert_int_equal(decoded.cursor, header->cursor);
	assert_int_equal(decoded.losses, header->losses);
	assert_memory_equal(&decoded.lun, &header->lun, sizeof(decoded.lun));
}

static void assert_refused(const struct ferry_wire_header *header, const char *word)
{
	struct ferry_error error = {};

	assert_int_equal(ferry_wire_check(header, &error), -EPROTO);
	if (!strstr(error.message, word))
		fail_msg("'%s' does not say '%s'", error.message, word);
}

static void valid_headers_survive(void **state)
{
	struct ferry_wire_header header;

	(void)state;
	for (enum ferry_op op = FERRY_OP_READ; op <= FERRY_OP_WRITE_ZEROES; op++) {
		header = request(op);
		assert_same(&header);
		header = reply(op, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
		assert_same(&header);
		header = reply(op, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
		assert_same(&header);
		header = reply(op, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_TIMEOUT);
		assert_same(&header);
	}
	header = lay();
	assert_same(&header);
	header.type = FERRY_WIRE_LAY_REPLY;
	header.floor = 0;
	header.victim_key = 0;
	header.outcome = FERRY_OUTCOME_DONE;
	header.cause = FERRY_CAUSE_NONE;
	assert_same(&header);
	header = ping();
	assert_same(&header);
	header.type = FERRY_WIRE_PONG;
	assert_same(&header);
	header = warm();
	assert_same(&header);
	header = warm_reply();
	assert_same(&header);
	header.outcome = FERRY_OUTCOME_FAILED;
	header.cause = FERRY_CAUSE_UNHEALTHY;
	header.payload_bytes = header.payload_crc = 0;
	assert_same(&header);
}

/* The bytes that docs/wire-format.md promises: a change of them is a change of version. */
static void layout_is_the_documented_one(void **state)
{
	struct ferry_wire_header header = request(FERRY_OP_WRITE);
	static const uint8_t BEGIN[32] = {
		'F', 'R', 'R', 'Y', 2, 0, 1, 0, 0x00, 0x10, 0,	  0,	0xef, 0xbe, 0xad, 0xde,
		7,   0,	  0,   0,   2, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
	};
	uint8_t bytes[FERRY_WIRE_HEADER_BYTES];

	(void)state;
	ferry_wire_encode(&header, bytes);
	assert_memory_equal(bytes, BEGIN, sizeof(BEGIN));
	assert_int_equal(bytes[32], 1);	   /* lineage */
	assert_int_equal(bytes[48], 9);	   /* epoch */
	assert_int_equal(bytes[56], 0xe8); /* sequence */
	assert_int_equal(bytes[64], 0x84); /* floor */
	assert_int_equal(bytes[72], 4);	   /* lun */
	assert_int_equal(bytes[88], 0xee); /* lba */
	assert_int_equal(bytes[96], 8);	   /* length */
	assert_int_equal(bytes[100], 1);   /* flags */
	header = reply(FERRY_OP_WRITE, FERRY_OUTCOME_FAILED, FERRY_CAUSE_STALE);
	ferry_wire_encode(&header, bytes);
	assert_int_equal(bytes[104], 2);  /* outcome */
	assert_int_equal(bytes[108], 9);  /* cause */
	assert_int_equal(bytes[128], 99); /* losses */
	header = lay();
	ferry_wire_encode(&header, bytes);
	assert_int_equal(bytes[112], 77);
	header = warm();
	ferry_wire_encode(&header, bytes);
	assert_int_equal(bytes[6], 7);
	assert_int_equal(bytes[120], 88); /* cursor */
}

static void invalid_fields_are_named(void **state)
{
	static const struct {
		size_t offset_bytes;
		size_t size_bytes;
		uint64_t value;
		const char *word;
		enum ferry_op op;
	} CASES[] = {
#define CASE(field, value, word, op)                                                               \
	{offsetof(struct ferry_wire_header, field),                                                \
	 sizeof(((struct ferry_wire_header *)0)->field), value, word, op}
		CASE(type, 0, "type", FERRY_OP_READ),
		CASE(type, FERRY_WIRE_TYPE_LAST + 1, "type", FERRY_OP_READ),
		CASE(node, 0, "node", FERRY_OP_READ),
		CASE(incarnation, 0, "incarnation", FERRY_OP_READ),
		CASE(sequence, 0, "sequence", FERRY_OP_READ),
		CASE(epoch, 0, "epoch", FERRY_OP_READ),
		CASE(floor, 1001, "floor", FERRY_OP_READ),
		CASE(victim_key, 1, "victim key", FERRY_OP_READ),
		CASE(losses, 1, "losses", FERRY_OP_READ),
		CASE(op, 0, "operation", FERRY_OP_READ),
		CASE(op, 6, "operation", FERRY_OP_READ),
		CASE(flags, FERRY_IO_FUA, "flags", FERRY_OP_READ),
		CASE(flags, FERRY_IO_NO_UNMAP, "flags", FERRY_OP_WRITE),
		CASE(flags, FERRY_IO_FUA, "flags", FERRY_OP_DISCARD),
		CASE(flags, FERRY_IO_FUA, "flags", FERRY_OP_FLUSH),
		CASE(flags, 4, "flags", FERRY_OP_WRITE_ZEROES),
		CASE(lba, 1, "lba of a flush", FERRY_OP_FLUSH),
		CASE(length_blocks, 1, "length of a flush", FERRY_OP_FLUSH),
		CASE(length_blocks, 0, "length", FERRY_OP_READ),
		CASE(length_blocks, FERRY_IO_BYTES_MAX / 512 + 1, "length", FERRY_OP_READ),
		CASE(length_blocks, FERRY_IO_RANGE_BYTES_MAX / 512 + 1, "length", FERRY_OP_DISCARD),
		CASE(length_blocks, FERRY_IO_RANGE_BYTES_MAX / 512 + 1, "length",
		     FERRY_OP_WRITE_ZEROES),
		CASE(lba, UINT64_MAX - 7, "lba", FERRY_OP_READ),
		CASE(outcome, 1, "outcome", FERRY_OP_READ),
		CASE(cause, 1, "cause", FERRY_OP_READ),
		CASE(payload_bytes, 4096, "payload length", FERRY_OP_READ),
		CASE(payload_crc, 1, "payload checksum", FERRY_OP_READ),
		CASE(payload_bytes, 0, "payload length", FERRY_OP_WRITE),
		CASE(payload_bytes, 513, "payload length", FERRY_OP_WRITE),
		CASE(payload_bytes, 512, "payload length", FERRY_OP_WRITE), /* 8 blocks. */
		CASE(payload_bytes, FERRY_IO_BYTES_MAX + 512, "payload length", FERRY_OP_WRITE),
#undef CASE
	};

	(void)state;
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(CASES); i++) {
		struct ferry_wire_header header = request(CASES[i].op);

		/* Little- and big-endian machines alike. */
		if (CASES[i].size_bytes == sizeof(uint32_t))
			memcpy((uint8_t *)&header + CASES[i].offset_bytes,
			       &(uint32_t){(uint32_t)CASES[i].value}, sizeof(uint32_t));
		else
			memcpy((uint8_t *)&header + CASES[i].offset_bytes, &CASES[i].value,
			       sizeof(uint64_t));
		assert_refused(&header, CASES[i].word);
	}
}

static void outcomes_and_causes_fit(void **state)
{
	struct ferry_wire_header header;

	(void)state;
	header = reply(FERRY_OP_WRITE, FERRY_OUTCOME_DONE, FERRY_CAUSE_PATH);
	assert_refused(&header, "cause");
	header = reply(FERRY_OP_WRITE, FERRY_OUTCOME_FAILED, FERRY_CAUSE_NONE);
	assert_refused(&header, "cause");
	header = reply(FERRY_OP_WRITE, FERRY_OUTCOME_FAILED, FERRY_CAUSE_TIMEOUT);
	assert_refused(&header, "cause");
	header = reply(FERRY_OP_WRITE, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_STALE);
	assert_refused(&header, "cause");
	header = reply(FERRY_OP_WRITE, (enum ferry_outcome)4, FERRY_CAUSE_PATH);
	assert_refused(&header, "outcome");
	header = reply(FERRY_OP_WRITE, FERRY_OUTCOME_FAILED, (enum ferry_cause)14);
	assert_refused(&header, "cause");
	header = reply(FERRY_OP_READ, FERRY_OUTCOME_FAILED, FERRY_CAUSE_MEDIUM);
	header.payload_bytes = 4096;
	assert_refused(&header, "payload");
	header = reply(FERRY_OP_READ, FERRY_OUTCOME_DONE, FERRY_CAUSE_NONE);
	header.floor = 1;
	assert_refused(&header, "floor");
	header = lay();
	header.victim_key = 0;
	assert_refused(&header, "victim key");
	header = lay();
	header.op = FERRY_OP_READ;
	assert_refused(&header, "operation");
	header = lay();
	header.lba.v = 1;
	assert_refused(&header, "lba");
	header = lay();
	header.cursor = 1;
	assert_refused(&header, "cursor");
	header = warm();
	header.payload_bytes = 512;
	assert_refused(&header, "payload");
	header = warm();
	header.op = FERRY_OP_READ;
	assert_refused(&header, "operation");
	header = warm_reply();
	header.payload_bytes = 0;
	assert_refused(&header, "payload");
	header = warm_reply();
	header.payload_bytes = FERRY_WIRE_PAYLOAD_BYTES_MAX + 1;
	assert_refused(&header, "payload");
	header = warm_reply();
	header.outcome = FERRY_OUTCOME_FAILED;
	header.cause = FERRY_CAUSE_STALE;
	assert_refused(&header, "payload");
	header = warm_reply();
	header.outcome = 0;
	assert_refused(&header, "outcome");
	header = ping();
	header.lun.bytes[15] = 1;
	assert_refused(&header, "lun");
	header = ping();
	header.epoch.v = 1;
	assert_refused(&header, "epoch");
	header = request(FERRY_OP_READ);
	header.lineage = (struct ferry_uuid){};
	assert_refused(&header, "lineage");
}

static void patch_crc(uint8_t *bytes)
{
	uint32_t crc = ferry_crc32c(0, bytes, 156);

	for (size_t i = 0; i < 4; i++)
		bytes[156 + i] = (uint8_t)(crc >> (8 * i));
}

static void damage_is_refused(void **state)
{
	struct ferry_wire_header header = request(FERRY_OP_WRITE);
	struct ferry_wire_header decoded = {};
	uint8_t good[FERRY_WIRE_HEADER_BYTES], bytes[FERRY_WIRE_HEADER_BYTES];
	struct ferry_error error = {};

	(void)state;
	ferry_wire_encode(&header, good);
	for (size_t bit = 0; bit < sizeof(good) * 8; bit++) {
		memcpy(bytes, good, sizeof(bytes));
		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_int_equal(ferry_wire_decode(bytes, &decoded, &error), -EBADMSG);
	}
	for (size_t at = 136; at < 156; at++) {
		memcpy(bytes, good, sizeof(bytes));
		bytes[at] = 1;
		patch_crc(bytes);
		assert_int_equal(ferry_wire_decode(bytes, &decoded, &error), -EPROTO);
		assert_non_null(strstr(error.message, "reserved"));
	}
	memcpy(bytes, good, sizeof(bytes));
	bytes[4] = 1;
	patch_crc(bytes);
	assert_int_equal(ferry_wire_decode(bytes, &decoded, &error), -EPROTONOSUPPORT);
	assert_non_null(strstr(error.message, "version 1"));
	assert_int_equal(decoded.type, 0); /* Untouched on failure. */
}

/* Whatever passes the checksum and decodes is encoded to the same bytes. */
static void random_bytes_decode_to_themselves(void **state)
{
	struct ferry_prng prng = {.state = 42};
	uint32_t decoded_count = 0;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		struct ferry_wire_header header = request(
						 (enum ferry_op)(1 + ferry_prng_below(&prng, 5))),
					 decoded;
		uint8_t bytes[FERRY_WIRE_HEADER_BYTES], again[FERRY_WIRE_HEADER_BYTES];

		ferry_wire_encode(&header, bytes);
		for (uint64_t n = ferry_prng_below(&prng, 3); n > 0; n--)
			bytes[6 + ferry_prng_below(&prng, 150)] = (uint8_t)ferry_prng_next(&prng);
		patch_crc(bytes);
		if (ferry_wire_decode(bytes, &decoded, NULL) < 0)
			continue;
		decoded_count++;
		ferry_wire_encode(&decoded, again);
		assert_memory_equal(bytes, again, sizeof(bytes));
	}
	assert_true(decoded_count > 1000 && decoded_count < 199000);
}

/* A peer asks in its own name, and answers in ours. */
static void speaks_for_itself(void **state)
{
	const struct ferry_wire_end self = {{1}, {10}}, peer = {{2}, {20}};
	struct ferry_wire_header header = {};

	(void)state;
	for (uint32_t type = FERRY_WIRE_REQUEST; type <= FERRY_WIRE_TYPE_LAST; type++) {
		bool is_asking = type == FERRY_WIRE_REQUEST || type == FERRY_WIRE_LAY ||
				 type == FERRY_WIRE_PING || type == FERRY_WIRE_WARM;
		const struct ferry_wire_end *right = is_asking ? &peer : &self;
		const struct ferry_wire_end *wrong = is_asking ? &self : &peer;

		header.type = (enum ferry_wire_type)type;
		header.node = right->node;
		header.incarnation = right->incarnation;
		assert_true(ferry_wire_is_between(&header, &self, &peer));
		header.incarnation.v++;
		assert_false(ferry_wire_is_between(&header, &self, &peer));
		header.incarnation = right->incarnation;
		header.node = wrong->node;
		assert_false(ferry_wire_is_between(&header, &self, &peer));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(valid_headers_survive),
		cmocka_unit_test(layout_is_the_documented_one),
		cmocka_unit_test(invalid_fields_are_named),
		cmocka_unit_test(outcomes_and_causes_fit),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(speaks_for_itself),
		cmocka_unit_test(random_bytes_decode_to_themselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
