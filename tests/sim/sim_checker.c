#include "tests/sim/sim_checker.h"

#include <inttypes.h>
#include <stdlib.h>

void sim_checker_init(struct sim_checker *checker, struct sim *sim, uint64_t size_blocks)
{
	*checker = (struct sim_checker){
		.sim = sim,
		.blocks = sim_alloc(size_blocks * sizeof(*checker->blocks)),
		.size_blocks = size_blocks,
		.clock = 1,
	};
	for (uint64_t i = 0; i < size_blocks; i++)
		checker->blocks[i].count = 1; /* Zeroes, from before all time. */
}

void sim_checker_done(struct sim_checker *checker)
{
	free(checker->blocks);
	checker->blocks = NULL;
}

uint64_t sim_checker_now(struct sim_checker *checker)
{
	return checker->clock++;
}

/* Whether something that was certainly done before @begin came after @write had ended. */
static bool is_replaced(const struct sim_history *history, const struct sim_write *write,
			uint64_t begin)
{
	for (uint32_t i = 0; i < history->count; i++)
		if (history->writes[i].known < begin && history->writes[i].start > write->end)
			return true;
	return false;
}

static void history_cut(struct sim_history *history, uint64_t oldest)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < history->count; i++)
		if (!is_replaced(history, &history->writes[i], oldest))
			history->writes[kept++] = history->writes[i];
	ferry_assert(kept > 0);
	history->count = kept;
}

void sim_checker_write_begin(struct sim_checker *checker, uint64_t tag, uint64_t lba,
			     uint32_t length_blocks, uint64_t oldest)
{
	uint64_t start = checker->clock;

	ferry_assert(lba + length_blocks <= checker->size_blocks);
	for (uint64_t i = lba; i < lba + length_blocks; i++) {
		struct sim_history *history = &checker->blocks[i];

		if (history->count % 16 == 15)
			history_cut(history, oldest);
		ferry_assert(history->count < SIM_HISTORY_MAX);
		history->writes[history->count++] = (struct sim_write){
			.tag = tag, .start = start, .end = UINT64_MAX, .known = UINT64_MAX};
	}
}

void sim_checker_write_end(struct sim_checker *checker, uint64_t tag, uint64_t start, uint64_t lba,
			   uint32_t length_blocks, bool is_acknowledged)
{
	for (uint64_t i = lba; i < lba + length_blocks; i++) {
		struct sim_history *history = &checker->blocks[i];

		for (uint32_t j = 0; j < history->count; j++) {
			struct sim_write *write = &history->writes[j];

			if (write->tag != tag || write->start != start)
				continue;
			write->end = checker->clock;
			if (is_acknowledged)
				write->known = ferry_min_u64(write->known, checker->clock);
		}
	}
	checker->clock++;
}

bool sim_checker_read(struct sim_checker *checker, uint64_t start, uint64_t lba, uint64_t tag)
{
	struct sim_history *history = &checker->blocks[lba];
	struct sim_write *match = NULL;
	uint32_t matches = 0;

	checker->reads_checked++;
	for (uint32_t i = 0; i < history->count; i++) {
		struct sim_write *write = &history->writes[i];

		if (write->tag != tag || is_replaced(history, write, start))
			continue;
		match = write;
		matches++;
	}
	if (matches == 1) /* From here on no read that begins later may see what was before. */
		match->known = ferry_min_u64(match->known, checker->clock);
	return matches > 0;
}
