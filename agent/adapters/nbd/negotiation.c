#include "agent/adapters/nbd/negotiation.h"

#include "agent/base/arena.h"

enum { EXPORT_NONE = FERRY_NBD_EXPORTS_MAX, PREFERRED_BYTES = 4096 };

static const char context_name[] = "base:allocation";

void ferry_nbd_negotiation_greet(struct ferry_nbd_writer *writer)
{
	ferry_assert(writer);
	ferry_nbd_write_u64(writer, FERRY_NBD_MAGIC);
	ferry_nbd_write_u64(writer, FERRY_NBD_OPTION_MAGIC);
	ferry_nbd_write_u16(writer, FERRY_NBD_FIXED_NEWSTYLE | FERRY_NBD_NO_ZEROES);
}

int ferry_nbd_negotiation_flags(struct ferry_nbd_negotiation *negotiation,
				const uint8_t bytes[FERRY_NBD_CLIENT_FLAGS_BYTES])
{
	struct ferry_nbd_reader reader = {.bytes = bytes,
					  .left_bytes = FERRY_NBD_CLIENT_FLAGS_BYTES};
	const uint32_t flags = ferry_nbd_read_u32(&reader);

	ferry_assert(negotiation);
	ferry_assert(!reader.has_failed);
	if (flags & ~(uint32_t)(FERRY_NBD_FIXED_NEWSTYLE | FERRY_NBD_NO_ZEROES))
		return -EPROTO;
	negotiation->is_fixed = flags & FERRY_NBD_FIXED_NEWSTYLE;
	negotiation->has_no_zeroes = flags & FERRY_NBD_NO_ZEROES;
	return 0;
}

static void reply_start(struct ferry_nbd_writer *writer, uint32_t option, uint32_t type,
			uint32_t length_bytes)
{
	ferry_nbd_write_u64(writer, FERRY_NBD_OPTION_REPLY_MAGIC);
	ferry_nbd_write_u32(writer, option);
	ferry_nbd_write_u32(writer, type);
	ferry_nbd_write_u32(writer, length_bytes);
}

/* An answer without data, or with a text for people; the handshake goes on. */
static enum ferry_nbd_verdict reply(struct ferry_nbd_writer *writer, uint32_t option, uint32_t type,
				    const char *text)
{
	const uint32_t length_bytes = text ? (uint32_t)strlen(text) : 0;

	ferry_assert(writer);
	ferry_assert(length_bytes <= FERRY_NBD_STRING_BYTES_MAX);
	reply_start(writer, option, type, length_bytes);
	ferry_nbd_write_bytes(writer, text, length_bytes);
	return FERRY_NBD_CONTINUE;
}

/* The slot of the export of this name; the empty name is the default's. */
static uint32_t export_find(const struct ferry_nbd_negotiation *negotiation, const uint8_t *name,
			    uint32_t length_bytes)
{
	ferry_assert(negotiation->shapes);
	ferry_assert(name || length_bytes == 0);
	for (uint32_t i = 0; i < FERRY_NBD_EXPORTS_MAX; i++) {
		const char *ours = negotiation->shapes[i].name;

		if (ours && strlen(ours) == length_bytes && memcmp(ours, name, length_bytes) == 0)
			return i;
	}
	if (length_bytes > 0 || *negotiation->export_default >= FERRY_NBD_EXPORTS_MAX ||
	    !negotiation->shapes[*negotiation->export_default].name)
		return EXPORT_NONE;
	return *negotiation->export_default;
}

static uint16_t transmission_flags(const struct ferry_nbd_negotiation *negotiation,
				   const struct ferry_nbd_shape *shape)
{
	ferry_assert(shape->flags & FERRY_NBD_HAS_FLAGS);
	return (uint16_t)(shape->flags | (negotiation->has_structured ? FERRY_NBD_SEND_DF : 0));
}

/* Requests may follow: settle what holds for them. */
static enum ferry_nbd_verdict transmit(struct ferry_nbd_negotiation *negotiation, uint32_t slot)
{
	ferry_assert(slot < FERRY_NBD_EXPORTS_MAX);
	ferry_assert(negotiation->shapes[slot].name);
	negotiation->export = slot;
	/* Contexts that were set for one export mean nothing for another. */
	if (negotiation->allocation_export != slot)
		negotiation->has_allocation = false;
	return FERRY_NBD_TRANSMIT;
}

static enum ferry_nbd_verdict on_export_name(struct ferry_nbd_negotiation *negotiation,
					     const uint8_t *data, uint32_t length_bytes,
					     struct ferry_nbd_writer *writer)
{
	static const uint8_t zeroes[124];
	const uint32_t slot = export_find(negotiation, data, length_bytes);
	const struct ferry_nbd_shape *shape;

	if (slot == EXPORT_NONE)
		return FERRY_NBD_DISCONNECT; /* This old option has no way to say why. */
	shape = &negotiation->shapes[slot];
	ferry_nbd_write_u64(writer, shape->size_bytes);
	ferry_nbd_write_u16(writer, transmission_flags(negotiation, shape));
	if (!negotiation->has_no_zeroes)
		ferry_nbd_write_bytes(writer, zeroes, sizeof(zeroes));
	return transmit(negotiation, slot);
}

static enum ferry_nbd_verdict on_list(struct ferry_nbd_negotiation *negotiation,
				      uint32_t length_bytes, struct ferry_nbd_writer *writer)
{
	if (length_bytes > 0)
		return reply(writer, FERRY_NBD_OPT_LIST, FERRY_NBD_REP_ERR_INVALID,
			     "LIST takes no data");
	for (uint32_t i = 0; i < FERRY_NBD_EXPORTS_MAX; i++) {
		const struct ferry_nbd_shape *shape = &negotiation->shapes[i];
		uint32_t name_bytes, description_bytes;

		if (!shape->name)
			continue;
		name_bytes = (uint32_t)strlen(shape->name);
		description_bytes = (uint32_t)strlen(shape->description);
		reply_start(writer, FERRY_NBD_OPT_LIST, FERRY_NBD_REP_SERVER,
			    4 + name_bytes + description_bytes);
		ferry_nbd_write_u32(writer, name_bytes);
		ferry_nbd_write_bytes(writer, shape->name, name_bytes);
		ferry_nbd_write_bytes(writer, shape->description, description_bytes);
	}
	return reply(writer, FERRY_NBD_OPT_LIST, FERRY_NBD_REP_ACK, NULL);
}

static void info_text(struct ferry_nbd_writer *writer, uint32_t option, uint16_t type,
		      const char *text)
{
	const uint32_t length_bytes = (uint32_t)strlen(text);

	ferry_assert(length_bytes <= FERRY_NBD_NAME_BYTES_MAX);
	reply_start(writer, option, FERRY_NBD_REP_INFO, 2 + length_bytes);
	ferry_nbd_write_u16(writer, type);
	ferry_nbd_write_bytes(writer, text, length_bytes);
}

/* EXPORT and BLOCK_SIZE always, so that every client may know; the texts when asked for. */
static void info_all(const struct ferry_nbd_negotiation *negotiation,
		     const struct ferry_nbd_shape *shape, uint32_t option, uint32_t wanted,
		     struct ferry_nbd_writer *writer)
{
	ferry_assert(shape->name);
	ferry_assert(shape->block_bytes > 0 && shape->block_bytes <= FERRY_IO_BYTES_MAX);
	reply_start(writer, option, FERRY_NBD_REP_INFO, 12);
	ferry_nbd_write_u16(writer, FERRY_NBD_INFO_EXPORT);
	ferry_nbd_write_u64(writer, shape->size_bytes);
	ferry_nbd_write_u16(writer, transmission_flags(negotiation, shape));

	reply_start(writer, option, FERRY_NBD_REP_INFO, 14);
	ferry_nbd_write_u16(writer, FERRY_NBD_INFO_BLOCK_SIZE);
	ferry_nbd_write_u32(writer, shape->block_bytes);
	ferry_nbd_write_u32(writer, (uint32_t)ferry_max_u64(shape->block_bytes, PREFERRED_BYTES));
	ferry_nbd_write_u32(writer, FERRY_IO_BYTES_MAX);

	if (wanted & 1u << FERRY_NBD_INFO_NAME)
		info_text(writer, option, FERRY_NBD_INFO_NAME, shape->name);
	if (wanted & 1u << FERRY_NBD_INFO_DESCRIPTION)
		info_text(writer, option, FERRY_NBD_INFO_DESCRIPTION, shape->description);
}

static enum ferry_nbd_verdict on_info(struct ferry_nbd_negotiation *negotiation, uint32_t option,
				      struct ferry_nbd_reader reader,
				      struct ferry_nbd_writer *writer)
{
	const uint32_t name_bytes = ferry_nbd_read_u32(&reader);
	const uint8_t *name = ferry_nbd_read_bytes(&reader, name_bytes);
	const uint16_t wanted_count = ferry_nbd_read_u16(&reader);
	uint32_t wanted = 0, slot;

	ferry_assert(option == FERRY_NBD_OPT_INFO || option == FERRY_NBD_OPT_GO);
	if (reader.has_failed || reader.left_bytes != 2u * wanted_count)
		return reply(writer, option, FERRY_NBD_REP_ERR_INVALID, "lengths do not add up");
	if (name_bytes > FERRY_NBD_STRING_BYTES_MAX)
		return reply(writer, option, FERRY_NBD_REP_ERR_TOO_BIG, "name too long");
	for (uint32_t i = 0; i < wanted_count; i++) {
		const uint16_t type = ferry_nbd_read_u16(&reader);

		if (type < 32) /* Unknown ones are to be ignored. */
			wanted |= 1u << type;
	}
	ferry_assert(!reader.has_failed);
	slot = export_find(negotiation, name, name_bytes);
	if (slot == EXPORT_NONE)
		return reply(writer, option, FERRY_NBD_REP_ERR_UNKNOWN, "no such export");
	info_all(negotiation, &negotiation->shapes[slot], option, wanted, writer);
	(void)reply(writer, option, FERRY_NBD_REP_ACK, NULL); /* Says CONTINUE, always. */
	return option == FERRY_NBD_OPT_GO ? transmit(negotiation, slot) : FERRY_NBD_CONTINUE;
}

static bool context_matches(uint32_t option, const uint8_t *query, uint32_t length_bytes)
{
	static const uint32_t namespace_bytes = sizeof("base:") - 1;
	const uint32_t whole_bytes = sizeof(context_name) - 1;

	ferry_assert(query || length_bytes == 0);
	if (length_bytes == whole_bytes)
		return memcmp(query, context_name, whole_bytes) == 0;
	return option == FERRY_NBD_OPT_LIST_META_CONTEXT && length_bytes == namespace_bytes &&
	       memcmp(query, context_name, namespace_bytes) == 0;
}

static enum ferry_nbd_verdict on_meta_context(struct ferry_nbd_negotiation *negotiation,
					      uint32_t option, struct ferry_nbd_reader reader,
					      struct ferry_nbd_writer *writer)
{
	const bool is_set = option == FERRY_NBD_OPT_SET_META_CONTEXT;
	const uint32_t name_bytes = ferry_nbd_read_u32(&reader);
	const uint8_t *name = ferry_nbd_read_bytes(&reader, name_bytes);
	const uint32_t queries_count = ferry_nbd_read_u32(&reader);
	bool is_matched = !is_set && queries_count == 0; /* LIST without a query: all. */
	uint32_t slot;

	if (is_set)
		negotiation->has_allocation = false;
	if (!negotiation->has_structured)
		return reply(writer, option, FERRY_NBD_REP_ERR_INVALID,
			     "negotiate structured replies first");
	/* Each query takes at least four bytes, so the data bounds the loop. */
	for (uint32_t i = 0; i < queries_count && !reader.has_failed; i++) {
		const uint32_t query_bytes = ferry_nbd_read_u32(&reader);
		const uint8_t *query = ferry_nbd_read_bytes(&reader, query_bytes);

		if (query)
			is_matched |= context_matches(option, query, query_bytes);
	}
	if (reader.has_failed || reader.left_bytes > 0)
		return reply(writer, option, FERRY_NBD_REP_ERR_INVALID, "lengths do not add up");
	slot = export_find(negotiation, name, name_bytes);
	if (slot == EXPORT_NONE)
		return reply(writer, option, FERRY_NBD_REP_ERR_UNKNOWN, "no such export");
	if (is_matched) {
		reply_start(writer, option, FERRY_NBD_REP_META_CONTEXT,
			    4 + sizeof(context_name) - 1);
		ferry_nbd_write_u32(writer, is_set ? FERRY_NBD_CONTEXT_ALLOCATION : 0);
		ferry_nbd_write_bytes(writer, context_name, sizeof(context_name) - 1);
	}
	if (is_set && is_matched) {
		negotiation->has_allocation = true;
		negotiation->allocation_export = slot;
	}
	return reply(writer, option, FERRY_NBD_REP_ACK, NULL);
}

enum ferry_nbd_verdict ferry_nbd_negotiation_option(struct ferry_nbd_negotiation *negotiation,
						    const struct ferry_nbd_option *option,
						    const uint8_t *data,
						    struct ferry_nbd_writer *writer)
{
	const struct ferry_nbd_reader reader = {.bytes = data, .left_bytes = option->length_bytes};

	ferry_assert(negotiation && negotiation->shapes);
	ferry_assert(option->length_bytes <= FERRY_NBD_OPTION_BYTES_MAX);
	ferry_assert(writer->size_bytes - writer->used_bytes >= FERRY_NBD_ANSWER_BYTES_MAX);
	if (++negotiation->options_count > FERRY_NBD_OPTIONS_PER_CLIENT_MAX)
		return FERRY_NBD_DISCONNECT;
	/* A client that isn't of the fixed newstyle understands no answers to options. */
	if (!negotiation->is_fixed && option->option != FERRY_NBD_OPT_EXPORT_NAME)
		return FERRY_NBD_DISCONNECT;
	switch (option->option) {
	case FERRY_NBD_OPT_EXPORT_NAME:
		return on_export_name(negotiation, data, option->length_bytes, writer);
	case FERRY_NBD_OPT_ABORT:
		(void)reply(writer, option->option, FERRY_NBD_REP_ACK, NULL); /* CONTINUE. */
		return FERRY_NBD_CLOSE;
	case FERRY_NBD_OPT_LIST:
		return on_list(negotiation, option->length_bytes, writer);
	case FERRY_NBD_OPT_INFO:
	case FERRY_NBD_OPT_GO:
		return on_info(negotiation, option->option, reader, writer);
	case FERRY_NBD_OPT_STRUCTURED_REPLY:
		if (option->length_bytes > 0)
			return reply(writer, option->option, FERRY_NBD_REP_ERR_INVALID,
				     "STRUCTURED_REPLY takes no data");
		negotiation->has_structured = true;
		return reply(writer, option->option, FERRY_NBD_REP_ACK, NULL);
	case FERRY_NBD_OPT_LIST_META_CONTEXT:
	case FERRY_NBD_OPT_SET_META_CONTEXT:
		return on_meta_context(negotiation, option->option, reader, writer);
	default: /* STARTTLS too: there is no TLS here. */
		return reply(writer, option->option, FERRY_NBD_REP_ERR_UNSUP, "not supported");
	}
}

enum ferry_nbd_verdict ferry_nbd_negotiation_too_big(struct ferry_nbd_negotiation *negotiation,
						     const struct ferry_nbd_option *option,
						     struct ferry_nbd_writer *writer)
{
	ferry_assert(negotiation);
	ferry_assert(option->length_bytes > FERRY_NBD_OPTION_BYTES_MAX);
	if (++negotiation->options_count > FERRY_NBD_OPTIONS_PER_CLIENT_MAX)
		return FERRY_NBD_DISCONNECT;
	if (!negotiation->is_fixed || option->option == FERRY_NBD_OPT_EXPORT_NAME)
		return FERRY_NBD_DISCONNECT;
	return reply(writer, option->option, FERRY_NBD_REP_ERR_TOO_BIG, "option data too long");
}
