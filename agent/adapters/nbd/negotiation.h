/*
 * negotiation.h - one client's handshake: option by option, bytes in, bytes out.
 *
 * Pure: no socket. The caller bounds an option's data by FERRY_NBD_OPTION_BYTES_MAX and gives a
 * writer with FERRY_NBD_ANSWER_BYTES_MAX of room for each answer.
 *
 * Owns:    what was agreed upon; the exports' shapes are the server's.
 * Callers: connection.c, tests/fuzz/nbd_fuzz.c.
 * Thread:  any.
 * Rooms:   rank 4.
 */
#pragma once

#include "agent/adapters/nbd/protocol.h"

enum {
	FERRY_NBD_EXPORTS_MAX = 64,
	FERRY_NBD_NAME_BYTES_MAX = 128, /* Of an export of ours, and of its description. */
	FERRY_NBD_OPTIONS_PER_CLIENT_MAX = 256,
	/* The longest answer: LIST with all exports, each with name and description; then ACK. */
	FERRY_NBD_ANSWER_BYTES_MAX =
		FERRY_NBD_EXPORTS_MAX * (20 + 4 + 2 * FERRY_NBD_NAME_BYTES_MAX) + 20 + 2048,
};

enum ferry_nbd_verdict {
	FERRY_NBD_CONTINUE = 1, /* Await the next option. */
	FERRY_NBD_TRANSMIT,	/* negotiation->export was chosen: requests follow. */
	FERRY_NBD_CLOSE,	/* Send the answer, then close. */
	FERRY_NBD_DISCONNECT,	/* The client broke the protocol, or can't be answered. */
};

struct ferry_nbd_negotiation {
	const struct ferry_nbd_shape *shapes; /* FERRY_NBD_EXPORTS_MAX of them. */
	const uint32_t *export_default;	      /* Its slot, the server's word; or none. */
	uint32_t options_count;
	uint32_t export; /* The slot that was chosen; valid after TRANSMIT. */
	bool is_fixed;
	bool has_no_zeroes;
	bool has_structured;
	bool has_allocation; /* Was asked for, for the export in @allocation_export. */
	uint32_t allocation_export;
};

/* What the server says first. */
void ferry_nbd_negotiation_greet(struct ferry_nbd_writer *writer);

/* The client's flags. -EPROTO: it has some that we don't know. */
int ferry_nbd_negotiation_flags(struct ferry_nbd_negotiation *negotiation,
				const uint8_t bytes[FERRY_NBD_CLIENT_FLAGS_BYTES]) FERRY_MUST_CHECK;

/* One whole option; @data has option->length_bytes, at most FERRY_NBD_OPTION_BYTES_MAX. */
enum ferry_nbd_verdict ferry_nbd_negotiation_option(struct ferry_nbd_negotiation *negotiation,
						    const struct ferry_nbd_option *option,
						    const uint8_t *data,
						    struct ferry_nbd_writer *writer);

/* An option whose data was too long to look at, and has been dropped. */
enum ferry_nbd_verdict ferry_nbd_negotiation_too_big(struct ferry_nbd_negotiation *negotiation,
						     const struct ferry_nbd_option *option,
						     struct ferry_nbd_writer *writer);
