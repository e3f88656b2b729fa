#include "migrate/warm.h"

/* A cursor is a slot of the source's index plus one: it means nothing to anybody else. */

static uint32_t lines_from(const struct ferry_cache *cache, uint32_t slot)
{
	uint32_t count = 0;

	for (; slot != FERRY_INDEX_NONE && count < FERRY_WARM_LINES_PER_PART; count++)
		slot = ferry_cache_cooler(cache, slot);
	return count;
}

static uint32_t put_lines(struct ferry_stream *stream, const struct ferry_cache *cache,
			  uint32_t *slot, uint32_t count, const struct ferry_segments *to,
			  uint32_t at_bytes)
{
	uint8_t frame[FERRY_WARM_LINE_BYTES];

	for (; count > 0; count--) {
		const struct ferry_index_line *line = &cache->index.lines[*slot];
		struct ferry_stream_data data = {
			.offset_bytes = line->number * FERRY_CACHE_LINE_BYTES,
			.length_bytes = FERRY_CACHE_LINE_BYTES,
			.heat = line->heat,
			.bytes = ferry_index_data(&cache->index, *slot),
		};

		(void)ferry_stream_put_data(stream, &data, frame); /* As long as any. */
		ferry_segments_write(to, at_bytes, frame, sizeof(frame));
		at_bytes += (uint32_t)sizeof(frame);
		*slot = ferry_cache_cooler(cache, *slot);
	}
	return at_bytes;
}

int ferry_warm_export(struct ferry_cache *cache, const struct ferry_warm_name *name,
		      uint64_t cursor, struct ferry_arena *arena, struct ferry_segments *ret)
{
	struct ferry_stream stream = {};
	struct ferry_cache_export export;
	struct ferry_stream_begin begin;
	uint8_t edge[FERRY_STREAM_BEGIN_BYTES];
	uint32_t at_bytes, count, slot;
	int r;

	ferry_assert(cache && name);
	ferry_assert(name->node.v > 0 && name->incarnation.v > 0);
	_Static_assert(sizeof(edge) >= FERRY_STREAM_END_BYTES, "END fits too");
	r = ferry_cache_export(cache, &export);
	if (r < 0)
		return r;
	if (cursor > 0 && !ferry_cache_has_slot(cache, cursor - 1))
		return -EINVAL;
	slot = cursor > 0 ? (uint32_t)(cursor - 1) : ferry_cache_hottest(cache);
	count = lines_from(cache, slot);
	r = ferry_arena_take(arena,
			     FERRY_STREAM_BEGIN_BYTES + count * (uint32_t)FERRY_WARM_LINE_BYTES +
				     FERRY_STREAM_END_BYTES,
			     ret);
	if (r < 0)
		return r;
	begin = (struct ferry_stream_begin){.lun = name->lun,
					    .lineage = name->lineage,
					    .epoch = export.epoch,
					    .owner = name->node,
					    .block_bytes = cache->block.block_bytes,
					    .write_sequence = export.writes_count,
					    .incarnation = name->incarnation.v};
	at_bytes = (uint32_t)ferry_stream_put_begin(&stream, &begin, edge);
	ferry_segments_write(ret, 0, edge, at_bytes);
	at_bytes = put_lines(&stream, cache, &slot, count, ret, at_bytes);
	(void)ferry_stream_put_end(&stream, slot == FERRY_INDEX_NONE ? 0 : (uint64_t)slot + 1,
				   edge); /* As long as any. */
	ferry_segments_write(ret, at_bytes, edge, FERRY_STREAM_END_BYTES);
	ferry_assert(at_bytes + FERRY_STREAM_END_BYTES == ret->length_bytes);
	return 0;
}

/* ---- Taking it in. ---- */

static int stale(struct ferry_error *reterr, const char *what)
{
	return ferry_error_set(reterr, -ESTALE, "a warm start is refused: %s", what);
}

static int begin_check(const struct ferry_warm_import *import,
		       const struct ferry_stream_begin *begin, struct ferry_error *reterr)
{
	const struct ferry_stream_begin *first = &import->first;

	if (!ferry_uuid_equal(&begin->lun, &import->name.lun))
		return stale(reterr, "it is another lun's");
	if (!ferry_uuid_equal(&begin->lineage, &import->name.lineage))
		return stale(reterr, "it is another lineage's");
	if (begin->block_bytes != import->cache->block.block_bytes)
		return stale(reterr, "its blocks have another size");
	if (begin->epoch.v != import->from.epoch.v)
		return stale(reterr, "it is not of the last epoch before this one");
	if (begin->owner.v != import->from.owner.v)
		return stale(reterr, "it is not the last owner's");
	if (import->has_first && (begin->write_sequence != first->write_sequence ||
				  begin->incarnation != first->incarnation))
		return stale(reterr, "its source has moved on meanwhile");
	return 0;
}

static int line_take(struct ferry_warm_import *import, const struct ferry_stream_data *data)
{
	int r;

	r = ferry_cache_import(import->cache, import->epoch, import->begun,
			       data->offset_bytes / FERRY_CACHE_LINE_BYTES, data->heat,
			       data->bytes);
	if (r == 0)
		import->lines_count++;
	else
		import->refused_count++; /* Each line is judged for itself. */
	return 0;
}

static int frame_apply(struct ferry_warm_import *import, const struct ferry_stream_frame *frame,
		       bool is_taking, uint64_t *cursor, struct ferry_error *reterr)
{
	if (frame->kind == FERRY_STREAM_BEGIN)
		return begin_check(import, &frame->begin, reterr);
	if (frame->kind == FERRY_STREAM_END) {
		*cursor = frame->end.cursor_next;
		return 0;
	}
	if (frame->data.length_bytes != FERRY_CACHE_LINE_BYTES ||
	    frame->data.offset_bytes % FERRY_CACHE_LINE_BYTES != 0)
		return ferry_error_set(reterr, -EPROTO, "a warm start is refused: not whole lines");
	return is_taking ? line_take(import, &frame->data) : 0;
}

/* Walk the part once: to judge it, or to take it. */
static int part_walk(struct ferry_warm_import *import, const struct ferry_segments *part,
		     bool is_taking, uint64_t *cursor, struct ferry_error *reterr)
{
	struct ferry_stream stream = {};
	struct ferry_stream_frame frame;
	uint8_t bytes[FERRY_WARM_LINE_BYTES];
	uint32_t at_bytes = 0;
	int r;

	while (at_bytes < part->length_bytes) {
		uint32_t left_bytes = part->length_bytes - at_bytes;

		if (ferry_stream_is_complete(&stream) || left_bytes < FERRY_STREAM_HEADER_BYTES)
			return ferry_error_set(reterr, -EPROTO,
					       "stream: bytes that belong nowhere");
		ferry_segments_read(part, at_bytes, bytes, FERRY_STREAM_HEADER_BYTES);
		r = ferry_stream_frame_bytes(bytes, reterr);
		if (r < 0)
			return r;
		if ((uint32_t)r > left_bytes || (size_t)r > sizeof(bytes))
			return ferry_error_set(reterr, -EPROTO, "stream: a frame is too long");
		ferry_segments_read(part, at_bytes, bytes, (uint32_t)r);
		at_bytes += (uint32_t)r;
		r = ferry_stream_get(&stream, bytes, (size_t)r, &frame, reterr);
		if (r == 0)
			r = frame_apply(import, &frame, is_taking, cursor, reterr);
		if (r < 0)
			return r;
		if (frame.kind == FERRY_STREAM_BEGIN && is_taking && !import->has_first) {
			import->first = frame.begin;
			import->has_first = true;
		}
	}
	if (!ferry_stream_is_complete(&stream))
		return ferry_error_set(reterr, -EPROTO, "stream: it has no end");
	return 0;
}

int ferry_warm_import_begin(struct ferry_warm_import *import, struct ferry_cache *cache,
			    const struct ferry_warm_name *name, struct ferry_epoch epoch)
{
	struct ferry_cache_heritage from = cache->heritage;
	uint64_t begun;
	int r;

	ferry_assert(import && name);
	ferry_assert(epoch.v > 0);
	if (cache->seen.epoch.v != epoch.v || cache->seen.owner.v != name->node.v)
		return -ENODATA; /* Overtaken: the claim is not this node's, or not the last. */
	if (from.epoch.v == 0 || from.owner.v == 0)
		return -ENODATA;
	if (from.owner.v == name->node.v)
		return -EALREADY;
	r = ferry_cache_import_begin(cache, epoch, &begun);
	if (r < 0)
		return r;
	*import = (struct ferry_warm_import){
		.cache = cache, .name = *name, .epoch = epoch, .from = from, .begun = begun};
	return 0;
}

int ferry_warm_import_part(struct ferry_warm_import *import, const struct ferry_segments *part,
			   uint64_t *ret_cursor, struct ferry_error *reterr)
{
	uint64_t cursor = 0;
	int r;

	ferry_assert(import && import->cache);
	ferry_assert(part && ret_cursor);
	r = part_walk(import, part, /* is_taking= */ false, &cursor, reterr);
	if (r == -ESTALE && import->lines_count > 0)
		ferry_cache_empty(import->cache, "the last owner's cache is not to be believed");
	if (r < 0)
		return r;
	r = part_walk(import, part, /* is_taking= */ true, &cursor, reterr);
	ferry_assert(r == 0); /* The very same bytes. */
	*ret_cursor = cursor;
	return 0;
}
