#include "agent/core/keep.h"

static struct ferry_kept *kept_of(struct ferry_list *link)
{
	return ferry_list_entry(link, struct ferry_kept, link);
}

size_t ferry_keep_memory_bytes(uint32_t inflight_max)
{
	return (size_t)inflight_max * FERRY_KEPT_PER_ROUTE * sizeof(struct ferry_kept);
}

int ferry_keep_init(struct ferry_keep *keep, struct ferry_region *region, uint32_t inflight_max,
		    uint32_t chunks_max)
{
	uint32_t entries_count = inflight_max * FERRY_KEPT_PER_ROUTE;
	struct ferry_kept *entries =
		ferry_region_take(region, entries_count, sizeof(struct ferry_kept));

	ferry_assert(keep && inflight_max > 0);
	ferry_assert(chunks_max > 0);
	if (!entries)
		return -ENOMEM;
	*keep = (struct ferry_keep){
		.is_on = true, .count_max = entries_count - inflight_max, .chunks_max = chunks_max};
	ferry_list_init(&keep->kept);
	ferry_list_init(&keep->free);
	for (uint32_t i = 0; i < entries_count; i++)
		ferry_list_append(&keep->free, &entries[i].link);
	return 0;
}

void ferry_keep_add(struct ferry_keep *keep, const struct ferry_attempt *attempt,
		    struct ferry_lane *lane)
{
	struct ferry_list *link = ferry_list_pop(&keep->free);
	struct ferry_kept *kept;

	ferry_assert(link); /* count_max leaves one for each write in flight. */
	ferry_assert(ferry_op_changes_blocks(attempt->op));
	kept = kept_of(link);
	*kept = (struct ferry_kept){.op = attempt->op,
				    .flags = attempt->flags,
				    .lba = attempt->lba,
				    .length_blocks = attempt->length_blocks,
				    .lane = lane,
				    .number = ++keep->number_last,
				    .stamp = ++keep->stamp_last};
	ferry_list_init(&kept->link);
	if (attempt->op == FERRY_OP_WRITE)
		ferry_segments_share(&attempt->segments, &kept->segments);
	keep->count++;
	keep->chunks += kept->segments.count;
	ferry_list_append(&keep->kept, &kept->link);
}

static bool is_overlapped(const struct ferry_kept *kept, struct ferry_lba lba,
			  uint32_t length_blocks)
{
	return kept->lba.v < lba.v + length_blocks && lba.v < kept->lba.v + kept->length_blocks;
}

struct ferry_kept *ferry_keep_find(struct ferry_keep *keep, struct ferry_lba lba,
				   uint32_t length_blocks, bool is_orphan)
{
	ferry_list_foreach (link, &keep->kept) {
		struct ferry_kept *kept = kept_of(link);

		if (is_overlapped(kept, lba, length_blocks) && !kept->lane == is_orphan)
			return kept;
	}
	return NULL;
}

bool ferry_keep_is_split(struct ferry_keep *keep, struct ferry_lba lba, uint32_t length_blocks)
{
	const struct ferry_lane *lane = NULL;

	ferry_list_foreach (link, &keep->kept) {
		const struct ferry_kept *kept = kept_of(link);

		if (!kept->lane || !is_overlapped(kept, lba, length_blocks))
			continue;
		if (lane && lane != kept->lane)
			return true;
		lane = kept->lane;
	}
	return false;
}

uint64_t ferry_keep_oldest(const struct ferry_keep *keep, const struct ferry_lane *lane)
{
	ferry_list_foreach (link, &keep->kept) {
		const struct ferry_kept *kept = kept_of(link);

		if (!lane || kept->lane == lane)
			return kept->number;
	}
	return UINT64_MAX;
}

bool ferry_keep_orphan(struct ferry_keep *keep, const struct ferry_lane *lane)
{
	bool had_any = false;

	ferry_list_foreach (link, &keep->kept) {
		struct ferry_kept *kept = kept_of(link);

		if (!kept->lane || (lane && kept->lane != lane))
			continue;
		kept->lane = NULL;
		had_any = true;
	}
	return had_any;
}

struct ferry_kept *ferry_keep_next_orphan(struct ferry_keep *keep, struct ferry_kept *before)
{
	struct ferry_list *link = before ? before->link.next : keep->kept.next;

	for (; link != &keep->kept; link = link->next)
		if (!kept_of(link)->lane)
			return kept_of(link);
	return NULL;
}

void ferry_keep_drop(struct ferry_keep *keep, struct ferry_kept *kept)
{
	ferry_assert(keep->count > 0);
	ferry_assert(keep->chunks >= kept->segments.count);
	keep->count--;
	keep->chunks -= kept->segments.count;
	ferry_list_remove(&kept->link);
	ferry_list_prepend(&keep->free, &kept->link);
	ferry_segments_drop(&kept->segments);
}

void ferry_keep_flushed(struct ferry_keep *keep, const struct ferry_lane *lane, uint64_t stamp)
{
	ferry_assert(keep && lane);
	ferry_list_foreach_safe (link, &keep->kept) {
		struct ferry_kept *kept = kept_of(link);

		if (kept->lane == lane && kept->stamp <= stamp)
			ferry_keep_drop(keep, kept);
	}
}

void ferry_keep_clear(struct ferry_keep *keep)
{
	if (!keep->is_on)
		return;
	ferry_list_foreach_safe (link, &keep->kept)
		ferry_keep_drop(keep, kept_of(link));
}
