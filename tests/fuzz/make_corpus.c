/*
 * make_corpus - writes the fuzzers' committed corpora: usage: make_corpus tests/fuzz/corpus
 *
 * Run it when the wire format changes, and commit what it writes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "agent/ports/io.h"
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
	return 0;
}
