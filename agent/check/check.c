#include "agent/check/check.h"

#include <inttypes.h>
#include <stdio.h>

#include "agent/base/checksum.h"

#define NEVER UINT64_MAX

/* One write to one sector. All times are the checker's. */
struct ferry_check_entry {
	struct ferry_list in_sector; /* Or in entries_free. */
	struct ferry_list in_volatiles;
	uint64_t tag;
	uint64_t start; /* Also names the I/O: no two began at once. */
	uint64_t end;
	uint64_t known;	     /* Acknowledged or seen, and not in doubt since. */
	uint64_t seen_start; /* The latest read that returned it, */
	uint64_t seen_end;   /* if it is not in doubt since. */
	uint64_t durable;
	bool is_acknowledged;
	bool is_discard;
	bool is_forgiven;
};

/* ---- Sectors. ---- */

enum {
	SECTOR_WORDS = FERRY_CHECK_SECTOR_BYTES / 8,
	SECTOR_SUMMED_BYTES = FERRY_CHECK_SECTOR_BYTES - 8,
};

static const uint64_t sector_magic = UINT64_C(0xfe77) << 48;

void ferry_check_encode(uint64_t tag, uint64_t sector, void *to)
{
	uint64_t words[SECTOR_WORDS] = {0};

	ferry_assert(to);
	if (tag != 0) {
		words[0] = tag;
		words[1] = sector;
		for (uint64_t i = 2; i < SECTOR_WORDS - 1; i++)
			words[i] = tag * i ^ sector;
		words[SECTOR_WORDS - 1] =
			sector_magic | ferry_crc32c(0, words, SECTOR_SUMMED_BYTES);
	}
	memcpy(to, words, sizeof(words));
}

enum ferry_check_content ferry_check_decode(const void *from, uint64_t sector, uint64_t *ret_tag,
					    uint64_t *ret_sector)
{
	uint64_t words[SECTOR_WORDS];
	uint64_t any = 0;

	ferry_assert(from && ret_tag && ret_sector);
	memcpy(words, from, sizeof(words));
	*ret_tag = 0;
	*ret_sector = 0;
	for (uint32_t i = 0; i < SECTOR_WORDS; i++)
		any |= words[i];
	if (any == 0)
		return FERRY_CHECK_ZEROES;
	if (words[0] == 0 ||
	    words[SECTOR_WORDS - 1] != (sector_magic | ferry_crc32c(0, words, SECTOR_SUMMED_BYTES)))
		return FERRY_CHECK_TORN;
	*ret_tag = words[0];
	*ret_sector = words[1];
	return words[1] == sector ? FERRY_CHECK_TAGGED : FERRY_CHECK_MISPLACED;
}

/* ---- Entries. ---- */

static struct ferry_check_entry *of_sector(struct ferry_list *link)
{
	return ferry_list_entry(link, struct ferry_check_entry, in_sector);
}

static void entry_add(struct ferry_check *check, const struct ferry_check_io *io, uint64_t sector)
{
	struct ferry_list *free = ferry_list_pop(&check->entries_free);
	struct ferry_check_entry *entry;

	ferry_assert(free && sector < check->config.sectors_count);
	entry = of_sector(free);
	*entry = (struct ferry_check_entry){
		.tag = io->op == FERRY_OP_WRITE ? io->tag : 0,
		.start = io->start,
		.end = NEVER,
		.known = NEVER,
		.seen_end = NEVER,
		.durable = NEVER,
		.is_discard = io->op == FERRY_OP_DISCARD,
	};
	ferry_list_init(&entry->in_sector);
	ferry_list_init(&entry->in_volatiles);
	ferry_list_append(&check->sectors[sector], &entry->in_sector);
	ferry_list_append(&check->volatiles, &entry->in_volatiles);
	check->entries_used++;
}

static void entry_free(struct ferry_check *check, struct ferry_check_entry *entry)
{
	ferry_list_remove(&entry->in_sector);
	ferry_list_remove(&entry->in_volatiles);
	ferry_list_append(&check->entries_free, &entry->in_sector);
	check->entries_used--;
}

static void entry_is_durable(struct ferry_check *check, struct ferry_check_entry *entry)
{
	entry->durable = ferry_min_u64(entry->durable, check->clock);
	entry->known = ferry_min_u64(entry->known, check->clock);
	/* Else it may land again, and only the first time was made durable. */
	if (entry->is_acknowledged)
		ferry_list_remove(&entry->in_volatiles);
}

/* Whether a read that began at @begin may not see @entry any more because of @other. */
static bool is_replaced_by(const struct ferry_check_entry *entry,
			   const struct ferry_check_entry *other, uint64_t begin)
{
	if (other == entry || other->is_discard)
		return false;
	if (other->known < begin && other->start > entry->end)
		return true;
	/* Both had happened, and a read saw which of them was the last. */
	return entry->is_acknowledged && !entry->is_discard && other->seen_end < begin &&
	       other->seen_start > entry->end;
}

static const struct ferry_check_entry *replaced_by(const struct ferry_check *check, uint64_t sector,
						   const struct ferry_check_entry *entry,
						   uint64_t begin)
{
	ferry_list_foreach (link, &check->sectors[sector]) {
		const struct ferry_check_entry *other = of_sector(link);

		if (is_replaced_by(entry, other, begin))
			return other;
	}
	return NULL;
}

/* What not even a lost cache brings back to any read that runs or is to come. */
static void sector_cut(struct ferry_check *check, uint64_t sector)
{
	uint64_t oldest = check->clock;
	uint64_t start_max = 0;

	if (!ferry_list_is_empty(&check->running))
		oldest = ferry_list_entry(check->running.next, struct ferry_check_io, link)->start;
	ferry_list_foreach (link, &check->sectors[sector]) {
		const struct ferry_check_entry *entry = of_sector(link);

		if (!entry->is_discard && entry->durable < oldest)
			start_max = ferry_max_u64(start_max, entry->start);
	}
	ferry_list_foreach_safe (link, &check->sectors[sector]) {
		struct ferry_check_entry *entry = of_sector(link);

		if (entry->end < start_max)
			entry_free(check, entry);
	}
}

/* ---- Opening. ---- */

size_t ferry_check_memory_bytes(const struct ferry_check_config *config)
{
	ferry_assert(config);
	return config->sectors_count * sizeof(struct ferry_list) +
	       config->entries_max * sizeof(struct ferry_check_entry) + 256; /* Alignments. */
}

int ferry_check_init(struct ferry_check *check, struct ferry_region *region,
		     const struct ferry_check_config *config)
{
	const struct ferry_check_io before_all_time = {.op = FERRY_OP_WRITE_ZEROES};
	struct ferry_check_entry *entries;

	ferry_assert(check && region && config);
	if (config->sectors_count == 0 || config->sectors_count > FERRY_CHECK_SECTORS_MAX ||
	    config->entries_max < config->sectors_count)
		return -EINVAL;
	*check = (struct ferry_check){.config = *config, .clock = 1};
	check->tag_next = config->tag_first ? config->tag_first : 1;
	check->sectors = ferry_region_take(region, config->sectors_count, sizeof(*check->sectors));
	entries = ferry_region_take(region, config->entries_max, sizeof(*entries));
	if (!check->sectors || !entries)
		return -ENOMEM;
	ferry_list_init(&check->entries_free);
	ferry_list_init(&check->volatiles);
	ferry_list_init(&check->running);
	for (uint32_t i = 0; i < config->entries_max; i++)
		ferry_list_append(&check->entries_free, &entries[i].in_sector);
	for (uint64_t i = 0; i < config->sectors_count; i++) {
		struct ferry_check_entry *entry;

		ferry_list_init(&check->sectors[i]);
		entry_add(check, &before_all_time, i);
		entry = of_sector(check->sectors[i].next);
		entry->end = 0;
		entry->is_acknowledged = true;
		entry_is_durable(check, entry);
	}
	check->clock++;
	return 0;
}

/* ---- I/Os. ---- */

int ferry_check_begin(struct ferry_check *check, struct ferry_check_io *io)
{
	bool is_write;

	ferry_assert(check && io);
	ferry_assert(io->op == FERRY_OP_FLUSH || io->sectors_count > 0);
	ferry_assert(io->sector <= check->config.sectors_count);
	ferry_assert(io->sectors_count <= check->config.sectors_count - io->sector);
	is_write = ferry_op_changes_blocks(io->op);
	for (uint64_t i = 0; is_write && i < io->sectors_count; i++)
		sector_cut(check, io->sector + i);
	if (is_write && check->config.entries_max - check->entries_used < io->sectors_count)
		return -ENOSPC;
	io->start = check->clock++;
	io->tag = check->tag_next++;
	for (uint64_t i = 0; is_write && i < io->sectors_count; i++)
		entry_add(check, io, io->sector + i);
	ferry_list_init(&io->link);
	ferry_list_append(&check->running, &io->link);
	return 0;
}

static struct ferry_check_entry *entry_of(struct ferry_check *check,
					  const struct ferry_check_io *io, uint64_t sector)
{
	/* A running one is near the end: newer ones come after. */
	struct ferry_list *head = &check->sectors[sector];

	for (struct ferry_list *link = head->prev; link != head; link = link->prev)
		if (of_sector(link)->start == io->start)
			return of_sector(link);
	ferry_unreachable("an I/O that runs has its entries");
}

void ferry_check_cancel(struct ferry_check *check, struct ferry_check_io *io)
{
	ferry_assert(check && io && ferry_list_is_linked(&io->link));
	if (ferry_op_changes_blocks(io->op))
		for (uint64_t i = io->sector; i < io->sector + io->sectors_count; i++)
			entry_free(check, entry_of(check, io, i));
	ferry_list_remove(&io->link);
}

static void write_ended(struct ferry_check *check, const struct ferry_check_io *io,
			struct ferry_check_entry *entry, int error)
{
	entry->end = check->clock;
	if (error < 0)
		return;
	entry->is_acknowledged = true;
	if (io->flags & FERRY_IO_FUA)
		entry_is_durable(check, entry);
	else if (io->start > check->lost) /* Else it may have been lost before it was told. */
		entry->known = ferry_min_u64(entry->known, check->clock);
	else if (io->is_of_the_past && entry->known == NEVER) {
		entry->is_forgiven = true;
		check->sectors_past++;
	}
}

static void flush_succeeded(struct ferry_check *check, const struct ferry_check_io *io)
{
	ferry_list_foreach_safe (link, &check->volatiles) {
		struct ferry_check_entry *entry =
			ferry_list_entry(link, struct ferry_check_entry, in_volatiles);
		bool was_promised =
			entry->is_acknowledged && !entry->is_forgiven && entry->end < io->start;

		if (was_promised || entry->known < io->start)
			entry_is_durable(check, entry);
	}
}

void ferry_check_end(struct ferry_check *check, struct ferry_check_io *io, int error)
{
	ferry_assert(check && io && ferry_list_is_linked(&io->link));
	ferry_assert(error <= 0);
	if (ferry_op_changes_blocks(io->op))
		for (uint64_t i = io->sector; i < io->sector + io->sectors_count; i++)
			write_ended(check, io, entry_of(check, io, i), error);
	else if (io->op == FERRY_OP_FLUSH && error == 0)
		flush_succeeded(check, io);
	ferry_list_remove(&io->link);
	check->clock++;
}

/* ---- Reads. ---- */

static enum ferry_check_verdict content_check(struct ferry_check *check,
					      const struct ferry_check_io *io,
					      struct ferry_check_finding *finding)
{
	struct ferry_check_entry *match = NULL;
	uint32_t matches = 0;

	finding->verdict = FERRY_CHECK_IS_ALIEN;
	ferry_list_foreach (link, &check->sectors[finding->sector]) {
		struct ferry_check_entry *entry = of_sector(link);
		const struct ferry_check_entry *other;

		if (entry->tag != finding->tag)
			continue;
		other = replaced_by(check, finding->sector, entry, io->start);
		if (!other) {
			match = entry;
			matches++;
			continue;
		}
		finding->verdict = other->start > entry->end && other->durable < io->start
					   ? FERRY_CHECK_IS_LOST
					   : FERRY_CHECK_IS_STALE;
		finding->other = other->tag;
	}
	if (matches == 0)
		return finding->verdict;
	/* From here on no read that begins later may see what was before; if it is that for sure.
	 */
	if (matches == 1 && io->start > check->lost && !io->is_of_the_past) {
		match->known = ferry_min_u64(match->known, check->clock);
		if (io->start > match->seen_start) {
			match->seen_start = io->start;
			match->seen_end = check->clock;
		}
	}
	return FERRY_CHECK_FINE;
}

/* Whether each byte is one that a read may return, and one of those writes may still be at it. */
static bool is_mixed(const struct ferry_check *check, const struct ferry_check_io *io,
		     uint64_t sector, const uint8_t *from)
{
	bool is_explained[FERRY_CHECK_SECTOR_BYTES] = {false};
	bool is_running = false;

	ferry_list_foreach (link, &check->sectors[sector]) {
		const struct ferry_check_entry *entry = of_sector(link);
		uint8_t bytes[FERRY_CHECK_SECTOR_BYTES];

		if (replaced_by(check, sector, entry, io->start))
			continue;
		is_running |= !entry->is_acknowledged || entry->end >= io->start;
		ferry_check_encode(entry->tag, sector, bytes);
		for (size_t i = 0; i < sizeof(bytes); i++)
			is_explained[i] |= bytes[i] == from[i];
	}
	for (size_t i = 0; i < sizeof(is_explained); i++)
		if (!is_explained[i])
			return false;
	return is_running;
}

enum ferry_check_verdict ferry_check_sector(struct ferry_check *check,
					    const struct ferry_check_io *io, uint32_t index,
					    const void *from, struct ferry_check_finding *ret)
{
	struct ferry_check_finding finding = {.verdict = FERRY_CHECK_FINE};
	enum ferry_check_content content;

	ferry_assert(check && io && ret && ferry_list_is_linked(&io->link));
	ferry_assert(io->op == FERRY_OP_READ && index < io->sectors_count);
	check->sectors_checked++;
	finding.sector = io->sector + index;
	content = ferry_check_decode(from, finding.sector, &finding.tag, &finding.other);
	if (content == FERRY_CHECK_TORN && check->config.storage_tears &&
	    is_mixed(check, io, finding.sector, from))
		check->sectors_mixed++;
	else if (content == FERRY_CHECK_TORN)
		finding.verdict = FERRY_CHECK_IS_TORN;
	else if (content == FERRY_CHECK_MISPLACED)
		finding.verdict = FERRY_CHECK_IS_MISPLACED;
	else
		finding.verdict = content_check(check, io, &finding);
	if (finding.verdict != FERRY_CHECK_FINE)
		*ret = finding;
	return finding.verdict;
}

/* ---- Losses. ---- */

void ferry_check_lost(struct ferry_check *check)
{
	ferry_assert(check);
	check->lost = check->clock++;
	ferry_list_foreach (link, &check->volatiles) {
		struct ferry_check_entry *entry =
			ferry_list_entry(link, struct ferry_check_entry, in_volatiles);

		if (entry->durable == NEVER)
			entry->known = NEVER;
		entry->seen_start = 0;
		entry->seen_end = NEVER;
	}
}

void ferry_check_forgive(struct ferry_check *check)
{
	ferry_assert(check);
	ferry_list_foreach (link, &check->volatiles) {
		struct ferry_check_entry *entry =
			ferry_list_entry(link, struct ferry_check_entry, in_volatiles);

		if (entry->is_acknowledged && entry->known == NEVER)
			entry->is_forgiven = true;
	}
}

void ferry_check_describe(const struct ferry_check_finding *finding, char *text, size_t size_bytes)
{
	ferry_assert(finding && text && size_bytes > 0);
	switch (finding->verdict) {
	case FERRY_CHECK_IS_TORN:
		(void)snprintf(text, size_bytes, "sector %" PRIu64 " is torn or was never written",
			       finding->sector);
		return;
	case FERRY_CHECK_IS_MISPLACED:
		(void)snprintf(text, size_bytes,
			       "sector %" PRIu64 " returned write %" PRIu64 " of sector %" PRIu64,
			       finding->sector, finding->tag, finding->other);
		return;
	case FERRY_CHECK_IS_ALIEN:
		(void)snprintf(text, size_bytes,
			       "sector %" PRIu64 " returned write %" PRIu64
			       ", which was replaced long ago or never was",
			       finding->sector, finding->tag);
		return;
	case FERRY_CHECK_IS_STALE:
	case FERRY_CHECK_IS_LOST:
		(void)snprintf(text, size_bytes,
			       "sector %" PRIu64 " returned write %" PRIu64
			       ", which %s write %" PRIu64 " had replaced",
			       finding->sector, finding->tag,
			       finding->verdict == FERRY_CHECK_IS_LOST ? "the durable"
								       : "the known",
			       finding->other);
		return;
	case FERRY_CHECK_FINE:
	default:
		(void)snprintf(text, size_bytes, "nothing is wrong");
		return;
	}
}
