/*
 * make_corpus - writes the fuzzers' committed corpora: usage: make_corpus tests/fuzz/corpus
 *
 * Run it when a format changes, and commit what it writes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "agent/adapters/statefile/record.h"
#include "agent/ports/io.h"
#include "proto/group_message.h"
#include "proto/rdma_frame.h"
#include "proto/rdma_hello.h"
#include "proto/stored.h"
#include "proto/stream.h"
#include "proto/wire.h"

static const char *root;
static uint32_t count;

static void save(const char *name, const void *bytes, size_t length_bytes)
{
	char path[4096];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", root, name);
	(void)mkdir(path, 0777); /* It may be there. */
	(void)snprintf(path, sizeof(path), "%s/%s/%03u", root, name, count++);
	file = fopen(path, "wb");
	if (!file || fwrite(bytes, 1, length_bytes, file) != length_bytes || fclose(file) != 0) {
		perror(path);
		exit(1);
	}
}

static void save_header(const struct ferry_wire_header *header)
{
	uint8_t bytes[1 + FERRY_WIRE_HEADER_BYTES] = {3};

	ferry_wire_encode(header, bytes + 1);
	save("wire", bytes, sizeof(bytes));
}

static void save_ops(void)
{
	for (uint32_t op = FERRY_OP_READ; op <= FERRY_OP_WRITE_ZEROES; op++) {
		struct ferry_wire_header header = {
			.type = FERRY_WIRE_REQUEST,
			.node = {1},
			.incarnation = {2},
			.lineage = {{3}},
			.epoch = {4},
			.sequence = 6,
			.floor = 5,
			.lun = {{7}},
			.op = op,
			.lba = {op == FERRY_OP_FLUSH ? 0 : 8},
			.length_blocks = op == FERRY_OP_FLUSH ? 0 : 8,
		};

		if (op == FERRY_OP_WRITE || op == FERRY_OP_WRITE_ZEROES)
			header.flags = FERRY_IO_FUA;
		header.payload_bytes = op == FERRY_OP_WRITE ? 4096 : 0;
		save_header(&header);
		header.type = FERRY_WIRE_REPLY;
		header.losses = 3;
		header.floor = 0;
		for (uint32_t outcome = FERRY_OUTCOME_DONE; outcome <= FERRY_OUTCOME_UNKNOWN;
		     outcome++) {
			bool is_done = outcome == FERRY_OUTCOME_DONE;

			header.outcome = outcome;
			header.cause = is_done ? FERRY_CAUSE_NONE : FERRY_CAUSE_PATH;
			header.payload_bytes = is_done && op == FERRY_OP_READ ? 4096 : 0;
			save_header(&header);
		}
	}
}

static void save_others(void)
{
	struct ferry_wire_header header = {
		.type = FERRY_WIRE_PING, .node = {1}, .incarnation = {2}, .sequence = 3};

	save_header(&header);
	header.type = FERRY_WIRE_PONG;
	save_header(&header);
	header.type = FERRY_WIRE_LAY;
	header.lineage.bytes[0] = header.lun.bytes[0] = 1;
	header.epoch.v = 4;
	header.victim_key = 5;
	save_header(&header);
	header.type = FERRY_WIRE_LAY_REPLY;
	header.victim_key = 0;
	header.outcome = FERRY_OUTCOME_DONE;
	header.cause = FERRY_CAUSE_NONE;
	save_header(&header);
	header.type = FERRY_WIRE_WARM;
	header.outcome = header.cause = 0;
	header.floor = 2;
	header.cursor = 9;
	save_header(&header);
	header.type = FERRY_WIRE_WARM_REPLY;
	header.floor = header.cursor = 0;
	header.outcome = FERRY_OUTCOME_DONE;
	header.cause = FERRY_CAUSE_NONE;
	header.payload_bytes = 129;
	save_header(&header);
	save("wire", "\0garbage", 8);
	save("wire", "\2", 1);
}

/* Whole streams of none, one and two blocks, as they are and with checksums made good. */
static void save_streams(void)
{
	static const uint8_t block[512] = "block";
	struct ferry_stream_begin begin = {.lun = {{1}},
					   .lineage = {{2}},
					   .epoch = {3},
					   .owner = {4},
					   .block_bytes = 512,
					   .write_sequence = 5,
					   .incarnation = 6};
	uint8_t bytes[2048];

	for (uint32_t blocks = 0; blocks < 6; blocks++) {
		struct ferry_stream stream = {};
		struct ferry_stream_data data = {.length_bytes = sizeof(block), .bytes = block};
		size_t at = 1;

		bytes[0] = blocks % 2 ? 7 : 0;
		at += ferry_stream_put_begin(&stream, &begin, bytes + at);
		for (uint32_t i = 0; i < blocks / 2; i++) {
			data.offset_bytes = 512 * i;
			at += ferry_stream_put_data(&stream, &data, bytes + at);
		}
		at += ferry_stream_put_end(&stream, blocks, bytes + at);
		save("stream", bytes, at);
	}
	save("stream", "\0garbage", 8);
}

static void save_scripts(void)
{
	static const uint8_t REFUSED[] = {0, 3, 8, 'F', 'R', 'H', 'S', 6, 0, 16, 0,
					  3, 8, 2, 0,	0,   0,	  1,   0, 1, 0};
	uint8_t script[32];

	for (uint8_t role = 0; role < 2; role++) {
		memset(script, 0, sizeof(script));
		script[0] = role;
		save("handshake", script, 8);		   /* All genuine. */
		for (uint8_t part = 1; part < 7; part++) { /* One byte of one part is not. */
			memset(script, 0, sizeof(script));
			script[0] = role;
			script[part] = 1;
			script[part + 1] = (uint8_t)(part * 5);
			script[part + 2] = 1;
			save("handshake", script, sizeof(script));
		}
		memcpy(script, REFUSED, sizeof(REFUSED));
		script[0] = role;
		save("handshake", script, sizeof(REFUSED));
	}
}

static void save_group(void)
{
	struct ferry_group_message message = {.pool = {{1}},
					      .lineage = {{2}},
					      .lun = {{3}},
					      .epoch = {4},
					      .owner = {1},
					      .ring = 5,
					      .incarnation = {6}};
	uint8_t bytes[1 + FERRY_GROUP_MESSAGE_BYTES] = {7};

	for (uint32_t type = 1; type <= FERRY_GROUP_TYPE_LAST; type++) {
		message.type = (enum ferry_group_type)type;
		message.flags = type % 2 ? FERRY_GROUP_FLAGS_ALL : 0;
		message.victim.v = type >= FERRY_GROUP_FENCE ? 2 : 0;
		message.restart = type == FERRY_GROUP_NOTED ? 3 : 0;
		ferry_group_message_encode(&message, bytes + 1);
		save("group", bytes, sizeof(bytes));
	}
	bytes[0] = 0;
	bytes[1] ^= 1;
	save("group", bytes, sizeof(bytes));
	save("group", "\2short", 6);
}

/* Values made into records, damaged ones, another's, and files as they might lie there. */
static void save_state(void)
{
	uint8_t bytes[3 + 28] = {0};
	struct ferry_record record;

	for (uint8_t what = 0; what < 8; what++) {
		bytes[0] = what;
		bytes[2] = (uint8_t)(what * 37);
		save("state", bytes, sizeof(bytes));
	}
	ferry_record_make(&record, "pool.data.epoch", bytes, sizeof(bytes));
	memmove((uint8_t *)&record + 3, &record, sizeof(record.head) + sizeof(bytes));
	memset(&record, 0, 3);
	save("state", &record, 3 + sizeof(record.head) + sizeof(bytes));
}

/* Values of each kind and version, and some that cannot be. */
static void save_stored(void)
{
	struct ferry_stored_epoch epoch = {.lineage = {{1, 2, 3}},
					   .epoch = {7},
					   .owner = {2},
					   .settled = {6},
					   .tenure = {4},
					   .tenure_last = {7}};
	uint8_t bytes[1 + FERRY_STORED_EPOCH_BYTES] = {0};

	ferry_stored_epoch_encode(&epoch, bytes + 1);
	save("stored", bytes, sizeof(bytes));
	save("stored", bytes, 1 + FERRY_STORED_EPOCH_BYTES_FIRST);
	save("stored", bytes, 1 + FERRY_STORED_EPOCH_BYTES_SECOND);
	bytes[1 + FERRY_STORED_EPOCH_BYTES_SECOND] = 8; /* It begins after its end. */
	save("stored", bytes, sizeof(bytes));
	bytes[1 + FERRY_STORED_EPOCH_BYTES_SECOND] = 4;
	save("stored", bytes, sizeof(bytes) - 1);
	bytes[1 + FERRY_STORED_EPOCH_BYTES_FIRST] = 8; /* Settled above it. */
	save("stored", bytes, sizeof(bytes));
	memset(bytes + 1, 0, sizeof(bytes) - 1);
	save("stored", bytes, sizeof(bytes));
	bytes[0] = 1;
	save("stored", bytes, 1 + FERRY_STORED_INCARNATION_BYTES);
	ferry_stored_incarnation_encode((struct ferry_incarnation){300}, bytes + 1);
	save("stored", bytes, 1 + FERRY_STORED_INCARNATION_BYTES);
	memset(bytes + 1, 0xff, FERRY_STORED_INCARNATION_BYTES);
	save("stored", bytes, 1 + FERRY_STORED_INCARNATION_BYTES);
	save("stored", bytes, 5);
}

/* One answer for each parser of vpd_fuzz.c, in its order. */
static void save_vpd(void)
{
	static const uint8_t standard[37] = {0, 0, 0, 5, 2, 31, 0, 0, 0, 'L', 'I', 'O', ' '};
	static const uint8_t identification[] = {1,    0,   0x83, 0,   24,  2, 1, 0, 0,
						 4,    'T', 'E',  'S', 'T', 1, 3, 0, 8,
						 0x50, 1,   2,	  3,   4,   5, 6, 7};
	static const uint8_t serial[] = {2, 0, 0x80, 0, 4, 'A', 'B', 1, ' '};
	static const uint8_t limits[65] = {3, 0, 0xb0, 0, 60, [9] = 1, [21] = 2, [37] = 3};
	static const uint8_t provisioning[] = {4, 0, 0xb2, 0, 4, 0, 0xe4};
	static const uint8_t capacity[33] = {5, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 2, 0};
	static const uint8_t caching[29] = {6, 0, 26, 0, 0x10, 0, 0, 0, 0, 0x08, 0x12, 0x04};
	static const uint8_t capabilities[9] = {7, 0, 8, 1, 0x81, 0xea, 1};

	save("vpd", standard, sizeof(standard));
	save("vpd", identification, sizeof(identification));
	save("vpd", serial, sizeof(serial));
	save("vpd", limits, sizeof(limits));
	save("vpd", provisioning, sizeof(provisioning));
	save("vpd", capacity, sizeof(capacity));
	save("vpd", caching, sizeof(caching));
	save("vpd", capabilities, sizeof(capabilities));
}

/* READ FULL STATUS: one registrant, two, and a name that is not ours. */
static void save_registrants(void)
{
	static const char *const PORTS[] = {"iqn.2026-11.t:n1,i,0x80fe44190001",
					    "iqn.2026-11.t:n2,i,0x80FE4419000a",
					    "iqn.2026-11.t:n3,i,0x80fe44180001"};
	uint8_t data[8 + 3 * 72] = {0};

	for (size_t i = 0; i < 3; i++) {
		uint8_t *row = data + 8 + 72 * i;

		row[0] = 0xfe;
		row[3] = (uint8_t)(i + 1);
		row[7] = row[19] = 1;
		row[23] = 72 - 24;
		row[24] = 0x45; /* An iSCSI initiator port. */
		row[27] = 72 - 28;
		memcpy(row + 28, PORTS[i], strlen(PORTS[i]));
		data[7] = (uint8_t)(72 * (i + 1));
		save("registrants", data, 8 + 72 * (i + 1));
	}
}

static void save_frame(enum ferry_rdma_kind kind, uint32_t payload_bytes, uint32_t pieces_count)
{
	bool is_answer = kind == FERRY_RDMA_PLACED;
	struct ferry_rdma_frame frame = {
		.kind = kind,
		.credits = 3,
		.taken = 4,
		.header = {.type = is_answer ? FERRY_WIRE_REPLY : FERRY_WIRE_REQUEST,
			   .payload_bytes = payload_bytes,
			   .node = {1},
			   .incarnation = {2},
			   .lineage = {{3}},
			   .epoch = {4},
			   .sequence = 6,
			   .lun = {{7}},
			   .op = is_answer || payload_bytes == 0 ? FERRY_OP_READ : FERRY_OP_WRITE,
			   .outcome = is_answer ? FERRY_OUTCOME_DONE : 0,
			   .cause = is_answer ? FERRY_CAUSE_NONE : 0,
			   .length_blocks = payload_bytes ? payload_bytes / 512 : 16},
		.pieces_count = pieces_count,
	};
	uint8_t bytes[1 + FERRY_RDMA_FRAME_BYTES_MAX] = {3};
	size_t length_bytes = 1;

	for (uint32_t i = 0; i < pieces_count; i++)
		frame.pieces[i] = (struct ferry_rdma_piece){65536 * i, 100 + i, 4096};
	length_bytes += ferry_rdma_frame_encode(&frame, bytes + 1);
	length_bytes += kind == FERRY_RDMA_MESSAGE ? payload_bytes : 0;
	save("rdma", bytes, length_bytes);
}

static void save_rdma(void)
{
	save_frame(FERRY_RDMA_CREDIT, 0, 0);
	save_frame(FERRY_RDMA_MESSAGE, 0, 0);
	save_frame(FERRY_RDMA_MESSAGE, 512, 0);
	save_frame(FERRY_RDMA_OFFER, 8192, 2);
	save_frame(FERRY_RDMA_ROOM, 0, 2);
	save_frame(FERRY_RDMA_PLACED, 8192, 0);
}

/* A request and an answer, proven and not. */
static void save_hello(void)
{
	uint8_t bytes[1 + FERRY_RDMA_HELLO_BYTES] = {};

	bytes[1 + 6] = bytes[1 + 8] = bytes[1 + 12] = bytes[1 + 16] = 1;
	for (uint32_t i = 0; i < 4; i++) {
		bytes[0] = (uint8_t)(2 | (i & 1) | (i & 2) << 2);
		save("hello", bytes, sizeof(bytes));
	}
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		(void)fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	root = argv[1];
	(void)mkdir(root, 0777); /* It may be there. */
	save_ops();
	save_others();
	count = 0;
	save_scripts();
	count = 0;
	save_streams();
	count = 0;
	save_group();
	count = 0;
	save_state();
	count = 0;
	save_stored();
	count = 0;
	save_vpd();
	count = 0;
	save_registrants();
	count = 0;
	save_rdma();
	count = 0;
	save_hello();
	return 0;
}
