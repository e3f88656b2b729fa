#include "proto/rdma_frame.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "agent/base/checksum.h"
#include "agent/ports/io.h"
#include "proto/rdma_hello.h"
#include "tests/fuzz/fake_auth.h"

static struct ferry_rdma_frame frame_of(enum ferry_rdma_kind kind, uint32_t payload_bytes)
{
	bool is_answer = kind == FERRY_RDMA_PLACED;
	struct ferry_rdma_frame frame = {
		.kind = kind,
		.credits = 5,
		.taken = 77,
		.header = {.type = is_answer ? FERRY_WIRE_REPLY : FERRY_WIRE_REQUEST,
			   .payload_bytes = payload_bytes,
			   .node = {1},
			   .incarnation = {10},
			   .lineage = {{1}},
			   .epoch = {1},
			   .sequence = 3,
			   .lun = {{2}},
			   .op = is_answer || payload_bytes == 0 ? FERRY_OP_READ : FERRY_OP_WRITE,
			   .length_blocks = payload_bytes ? payload_bytes / 512 : 256},
	};

	if (is_answer) {
		frame.header.outcome = FERRY_OUTCOME_DONE;
		frame.header.cause = FERRY_CAUSE_NONE;
	}
	return frame;
}

static void pieces_add(struct ferry_rdma_frame *frame, uint32_t length_bytes)
{
	frame->pieces[frame->pieces_count] = (struct ferry_rdma_piece){
		.address = 0x7f0000000000 + frame->pieces_count * UINT64_C(65536),
		.key = 0x1234500 + frame->pieces_count,
		.length_bytes = length_bytes,
	};
	frame->pieces_count++;
}

static int decode(const uint8_t *bytes, uint32_t length_bytes)
{
	struct ferry_rdma_frame frame;
	const uint8_t *data;

	return ferry_rdma_frame_decode(bytes, length_bytes, &frame, &data, NULL);
}

static void round_trip(const struct ferry_rdma_frame *frame)
{
	uint8_t bytes[FERRY_RDMA_FRAME_BYTES_MAX] = {};
	uint32_t length_bytes = ferry_rdma_frame_encode(frame, bytes);
	struct ferry_rdma_frame again = {};
	const uint8_t *data = NULL;
	bool has_data = frame->kind == FERRY_RDMA_MESSAGE && frame->header.payload_bytes > 0;

	if (has_data)
		length_bytes += frame->header.payload_bytes;
	assert_int_equal(ferry_rdma_frame_decode(bytes, length_bytes, &again, &data, NULL), 0);
	assert_int_equal(again.kind, frame->kind);
	assert_int_equal(again.credits, 5);
	assert_int_equal(again.taken, 77);
	assert_int_equal(again.header.sequence, frame->kind == FERRY_RDMA_CREDIT ? 0 : 3);
	assert_int_equal(again.pieces_count, frame->pieces_count);
	assert_memory_equal(again.pieces, frame->pieces, sizeof(again.pieces));
	assert_true((data != NULL) == has_data);
	if (has_data)
		assert_true(data + frame->header.payload_bytes == bytes + length_bytes);
	assert_true(decode(bytes, length_bytes - 1) < 0);
	assert_true(decode(bytes, length_bytes + 1) < 0);
}

static void frames_round_trip(void **state)
{
	struct ferry_rdma_frame frame = frame_of(FERRY_RDMA_CREDIT, 0);

	(void)state;
	round_trip(&frame);
	frame = frame_of(FERRY_RDMA_MESSAGE, 0);
	round_trip(&frame);
	frame = frame_of(FERRY_RDMA_MESSAGE, FERRY_RDMA_INLINE_BYTES_MAX);
	round_trip(&frame);
	frame = frame_of(FERRY_RDMA_PLACED, 8192);
	round_trip(&frame);
	frame = frame_of(FERRY_RDMA_OFFER, FERRY_IO_BYTES_MAX);
	while (frame.pieces_count < FERRY_RDMA_PIECES_MAX)
		pieces_add(&frame, FERRY_CHUNK_BYTES);
	round_trip(&frame);
	frame = frame_of(FERRY_RDMA_ROOM, 0);
	pieces_add(&frame, FERRY_CHUNK_BYTES);
	pieces_add(&frame, 512);
	round_trip(&frame);
}

/* Whatever bit is flipped on the way, but in data, whose checksum is the message's. */
static void damage_is_seen(void **state)
{
	struct ferry_rdma_frame frame = frame_of(FERRY_RDMA_OFFER, 8192);
	uint8_t bytes[FERRY_RDMA_LEAD_BYTES_MAX];
	uint32_t length_bytes;

	(void)state;
	pieces_add(&frame, 4096);
	pieces_add(&frame, 4096);
	length_bytes = ferry_rdma_frame_encode(&frame, bytes);
	for (uint32_t bit = 0; bit < 8 * length_bytes; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_true(decode(bytes, length_bytes) < 0);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (uint32_t cut = 0; cut < length_bytes; cut++)
		assert_true(decode(bytes, cut) < 0);
	assert_int_equal(decode(bytes, length_bytes), 0);
}

/* Make the checksum of what was changed good again: the peer itself did it. */
static void make_good(uint8_t *bytes, uint32_t pieces_count)
{
	uint32_t crc = ferry_crc32c(0, bytes, 12);

	crc = ferry_crc32c(crc, bytes + 16, 16);
	if (pieces_count > 0)
		crc = ferry_crc32c(crc, bytes + 192, (size_t)pieces_count * 16);
	for (uint32_t i = 0; i < 4; i++)
		bytes[12 + i] = (uint8_t)(crc >> (8 * i));
}

/* A frame whose byte at @at is @value instead, by a peer that knows how. */
static int breach(struct ferry_rdma_frame frame, uint32_t at, uint8_t value)
{
	uint8_t bytes[FERRY_RDMA_LEAD_BYTES_MAX];
	uint32_t length_bytes = ferry_rdma_frame_encode(&frame, bytes);

	assert_true(at < length_bytes && bytes[at] != value);
	bytes[at] = value;
	make_good(bytes, frame.pieces_count);
	return decode(bytes, length_bytes);
}

static void breaches_are_refused(void **state)
{
	struct ferry_rdma_frame offer = frame_of(FERRY_RDMA_OFFER, 8192);
	struct ferry_rdma_frame room = frame_of(FERRY_RDMA_ROOM, 0);

	(void)state;
	pieces_add(&offer, 4096);
	pieces_add(&offer, 4096);
	pieces_add(&room, 65536);
	assert_int_equal(breach(offer, 4, FERRY_RDMA_KIND_LAST + 1), -EPROTO);
	assert_int_equal(breach(offer, 4, 0), -EPROTO);
	assert_int_equal(breach(offer, 4, FERRY_RDMA_MESSAGE), -EPROTO); /* No pieces there. */
	assert_int_equal(breach(offer, 4, FERRY_RDMA_ROOM), -EPROTO);	 /* It has data. */
	assert_int_equal(breach(room, 4, FERRY_RDMA_OFFER), -EPROTO);	 /* It has none. */
	assert_int_equal(breach(offer, 6, 1), -EPROTO);			 /* Fewer pieces. */
	assert_int_equal(breach(offer, 6, 17), -EPROTO);
	assert_int_equal(breach(offer, 10, 1), -EPROTO);	/* 65541 credits. */
	assert_int_equal(breach(offer, 24, 1), -EPROTO);	/* Reserved. */
	assert_int_equal(breach(offer, 192 + 13, 0), -EPROTO);	/* A piece of nothing. */
	assert_int_equal(breach(offer, 192 + 13, 15), -EPROTO); /* Not the payload's length. */
	assert_int_equal(breach(offer, 192 + 15, 255), -EPROTO);
	for (uint32_t i = 0; i < 8; i++) /* Beyond the end of all memory. */
		room.pieces[0].address |= UINT64_C(0xff) << (8 * i);
	room.pieces[0].address &= ~UINT64_C(0xff000000);
	assert_int_equal(breach(room, 192 + 3, 0xff), -EPROTO);
	assert_int_equal(breach(frame_of(FERRY_RDMA_CREDIT, 0), 4, FERRY_RDMA_MESSAGE), -EPROTO);
}

static const struct ferry_rdma_hello HELLO = {
	.node = {3}, .incarnation = {30}, .number = 4, .credits = 64};

static void greetings_are_proven(void **state)
{
	struct ferry_rdma_secret secret = {"both know it"}, other = {"nobody knows"};
	uint8_t request[FERRY_RDMA_HELLO_BYTES], answer[FERRY_RDMA_HELLO_BYTES];
	struct ferry_rdma_hello hello;
	struct fake_auth auth, stranger;

	(void)state;
	fake_auth_init(&auth, 11, 1);
	fake_auth_init(&stranger, 12, 1);
	assert_int_equal(ferry_rdma_hello_encode(&auth.auth, &secret, NULL, &HELLO, request), 0);
	assert_int_equal(ferry_rdma_hello_encode(&auth.auth, &secret, request, &HELLO, answer), 0);
	assert_int_equal(ferry_rdma_hello_decode(request, 196, &hello, NULL), 0); /* Padded. */
	assert_int_equal(hello.node.v, 3);
	assert_int_equal(hello.incarnation.v, 30);
	assert_int_equal(hello.number, 4);
	assert_int_equal(hello.credits, 64);
	assert_int_equal(ferry_rdma_hello_verify(&auth.auth, &secret, NULL, request), 0);
	assert_int_equal(ferry_rdma_hello_verify(&auth.auth, &secret, request, answer), 0);
	/* Another's secret or key, an answer for a question, another question's answer. */
	assert_int_equal(ferry_rdma_hello_verify(&auth.auth, &other, NULL, request), -EACCES);
	assert_int_equal(ferry_rdma_hello_verify(&stranger.auth, &secret, NULL, request), -EACCES);
	assert_int_equal(ferry_rdma_hello_verify(&auth.auth, &secret, NULL, answer), -EACCES);
	assert_int_equal(ferry_rdma_hello_verify(&auth.auth, &secret, request, request), -EACCES);
	request[12]++; /* Its number. */
	assert_int_equal(ferry_rdma_hello_verify(&auth.auth, &secret, request, answer), -EACCES);
	assert_int_equal(ferry_rdma_hello_verify(&auth.auth, &secret, NULL, request), -EACCES);
	auth.has_no_digest = true;
	assert_int_equal(ferry_rdma_hello_verify(&auth.auth, &secret, NULL, request), -EIO);
	assert_int_equal(ferry_rdma_hello_encode(&auth.auth, &secret, NULL, &HELLO, request), -EIO);
}

/* docs/wire-format.md: label, secret, for an answer its request, and the fields. */
static void what_is_proven(void **state)
{
	enum { FIELDS_BYTES = FERRY_RDMA_HELLO_BYTES - FERRY_PROOF_BYTES };
	struct ferry_rdma_secret secret = {"both know it"};
	uint8_t request[FERRY_RDMA_HELLO_BYTES], answer[FERRY_RDMA_HELLO_BYTES];
	uint8_t bytes[16 + sizeof(secret.v) + sizeof(request) + FIELDS_BYTES] = "rdma connector";
	uint8_t proof[FERRY_PROOF_BYTES];
	struct fake_auth auth;

	(void)state;
	fake_auth_init(&auth, 11, 1);
	assert_int_equal(ferry_rdma_hello_encode(&auth.auth, &secret, NULL, &HELLO, request), 0);
	assert_int_equal(ferry_rdma_hello_encode(&auth.auth, &secret, request, &HELLO, answer), 0);
	memcpy(bytes + 16, secret.v, sizeof(secret.v));
	memcpy(bytes + 16 + sizeof(secret.v), request, FIELDS_BYTES);
	auth.auth.ops->prove(&auth.auth, bytes, 16 + sizeof(secret.v) + FIELDS_BYTES, proof);
	assert_memory_equal(request + FIELDS_BYTES, proof, sizeof(proof));
	memcpy(bytes, "rdma acceptor\0", 15);
	memcpy(bytes + 16 + sizeof(secret.v), request, sizeof(request));
	memcpy(bytes + sizeof(bytes) - FIELDS_BYTES, answer, FIELDS_BYTES);
	auth.auth.ops->prove(&auth.auth, bytes, sizeof(bytes), proof);
	assert_memory_equal(answer + FIELDS_BYTES, proof, sizeof(proof));
}

static void strange_greetings_are_refused(void **state)
{
	static const struct {
		uint32_t at;
		int r;
	} CASES[] = {{0, -EBADMSG}, {4, -EPROTONOSUPPORT}, {6, -EPROTO},
		     {8, -EPROTO},  {12, -EPROTO},	   {16, -EPROTO}};
	struct ferry_rdma_secret secret = {"both know it"};
	uint8_t bytes[FERRY_RDMA_HELLO_BYTES], changed[FERRY_RDMA_HELLO_BYTES];
	struct ferry_rdma_hello hello;
	struct fake_auth auth;

	(void)state;
	fake_auth_init(&auth, 11, 1);
	assert_int_equal(ferry_rdma_hello_encode(&auth.auth, &secret, NULL, &HELLO, bytes), 0);
	for (uint32_t length_bytes = 0; length_bytes < sizeof(bytes); length_bytes++)
		assert_true(ferry_rdma_hello_decode(bytes, length_bytes, &hello, NULL) < 0);
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(CASES); i++) { /* Each field at zero. */
		memcpy(changed, bytes, sizeof(changed));
		changed[CASES[i].at] = 0;
		assert_int_equal(ferry_rdma_hello_decode(changed, sizeof(changed), &hello, NULL),
				 CASES[i].r);
	}
	memcpy(changed, bytes, sizeof(changed));
	changed[7] = 0xff; /* More credits than any end has. */
	assert_int_equal(ferry_rdma_hello_decode(changed, sizeof(changed), &hello, NULL), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_round_trip),
		cmocka_unit_test(damage_is_seen),
		cmocka_unit_test(breaches_are_refused),
		cmocka_unit_test(greetings_are_proven),
		cmocka_unit_test(what_is_proven),
		cmocka_unit_test(strange_greetings_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
