/*
 * nbd_fuzz.c - what a client says to the NBD front end: flags, options, then requests.
 *
 * The bytes are one client's stream, as connection.c would cut it.
 */
#include "agent/adapters/nbd/negotiation.h"
#include "agent/adapters/nbd/protocol.h"
#include "agent/base/arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static struct ferry_nbd_shape shapes[FERRY_NBD_EXPORTS_MAX] = {
	{.name = "demo",
	 .description = "a volume",
	 .size_bytes = UINT64_C(1) << 30,
	 .block_bytes = 512,
	 .flags = FERRY_NBD_HAS_FLAGS | FERRY_NBD_SEND_TRIM},
	{.name = "fixed",
	 .description = "",
	 .size_bytes = UINT64_C(1) << 40,
	 .block_bytes = 4096,
	 .flags = FERRY_NBD_HAS_FLAGS | FERRY_NBD_READ_ONLY},
};

static void requests(const struct ferry_nbd_negotiation *negotiation, const uint8_t *data,
		     size_t left_bytes)
{
	const struct ferry_nbd_shape *shape = &shapes[negotiation->export];
	uint8_t header[FERRY_NBD_REPLY_HEADER_BYTES_MAX];
	struct ferry_nbd_request request;

	while (left_bytes >= FERRY_NBD_REQUEST_BYTES &&
	       ferry_nbd_request_decode(data, &request) == 0) {
		uint32_t error = ferry_nbd_request_check(
			&request, shape, negotiation->has_structured, negotiation->has_allocation);

		data += FERRY_NBD_REQUEST_BYTES;
		left_bytes -= FERRY_NBD_REQUEST_BYTES;
		if (error == 0 && request.command != FERRY_NBD_CMD_DISC) {
			/* What connection.c and request.c build upon. */
			ferry_assert(request.offset_bytes <= shape->size_bytes);
			ferry_assert(request.length_bytes <=
				     shape->size_bytes - request.offset_bytes);
			ferry_assert(request.offset_bytes % shape->block_bytes == 0);
			ferry_assert(request.length_bytes % shape->block_bytes == 0);
			ferry_assert(request.command > FERRY_NBD_CMD_WRITE ||
				     request.length_bytes <= FERRY_IO_BYTES_MAX);
		}
		ferry_assert(ferry_nbd_reply_encode(&request, negotiation->has_structured, error,
						    header) <= sizeof(header));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	static uint8_t answer[FERRY_NBD_ANSWER_BYTES_MAX];
	static const uint32_t export_default;
	struct ferry_nbd_negotiation negotiation = {.shapes = shapes,
						    .export_default = &export_default};

	if (size_bytes < FERRY_NBD_CLIENT_FLAGS_BYTES ||
	    ferry_nbd_negotiation_flags(&negotiation, data) < 0)
		return 0;
	data += FERRY_NBD_CLIENT_FLAGS_BYTES;
	size_bytes -= FERRY_NBD_CLIENT_FLAGS_BYTES;
	while (size_bytes >= FERRY_NBD_OPTION_HEADER_BYTES) {
		struct ferry_nbd_writer writer = {.bytes = answer, .size_bytes = sizeof(answer)};
		struct ferry_nbd_option option;
		enum ferry_nbd_verdict verdict;

		if (ferry_nbd_option_decode(data, &option) < 0)
			return 0;
		data += FERRY_NBD_OPTION_HEADER_BYTES;
		size_bytes -= FERRY_NBD_OPTION_HEADER_BYTES;
		if (option.length_bytes > size_bytes)
			return 0;
		if (option.length_bytes > FERRY_NBD_OPTION_BYTES_MAX)
			verdict = ferry_nbd_negotiation_too_big(&negotiation, &option, &writer);
		else
			verdict =
				ferry_nbd_negotiation_option(&negotiation, &option, data, &writer);
		data += option.length_bytes;
		size_bytes -= option.length_bytes;
		if (verdict == FERRY_NBD_TRANSMIT)
			requests(&negotiation, data, size_bytes);
		if (verdict != FERRY_NBD_CONTINUE)
			return 0;
	}
	return 0;
}
