#include "agent/core/router_stand.h"

struct router_stand at;

static void on_lay(struct ferry_lane *lane, void *context)
{
	(void)context;
	at.lays++;
	if (lane == ferry_router_local(&at.router))
		ferry_lane_allow(lane, false, "consent");
}

static void on_verdict(enum ferry_verdict now, void *context)
{
	(void)context;
	at.verdict = now;
}

static void on_done(struct ferry_io *io, int error)
{
	assert_int_equal(at.results[io - at.ios], 1); /* Once. */
	at.results[io - at.ios] = error;
	ferry_segments_drop(&io->segments);
}

void peer_done(struct stand_path *path, uint32_t i, uint64_t losses)
{
	path->attempts[i]->mark = (struct ferry_mark){.boot = {9}, .losses = losses};
	stand_done(path, i);
}

static int open_with(bool flushes_by_path)
{
	struct ferry_router_config config = stand_router_config(&at.stand);
	struct ferry_lane *lane;

	stand_open(&at.stand);
	config.inflight_max = ROUTER_IOS_MAX;
	config.flushes_by_path = flushes_by_path;
	config.lay = on_lay;
	config.on_verdict = on_verdict;
	at.lays = 0;
	at.verdict = FERRY_VERDICT_NONE;
	assert_int_equal(ferry_router_init(&at.router, &at.stand.region, &config), 0);
	for (uint32_t i = 0; i < 3; i++) {
		stand_path_init(&at.paths[i], i == 0 ? FERRY_PATH_LOCAL : FERRY_PATH_PEER, i + 1,
				i == 0);
		assert_int_equal(ferry_router_add_path(&at.router, &at.paths[i].path, false, &lane),
				 0);
		if (i > 0)
			ferry_lane_set_peer_has_path(lane, true);
	}
	for (int i = 0; i < ROUTER_IOS_MAX; i++)
		at.results[i] = 1;
	ferry_router_open(&at.router, (struct ferry_epoch){7});
	stand_run_ms(&at.stand, 1);
	for (uint32_t i = 1; i < 3; i++) { /* Peers are asked what they have seen so far. */
		assert_int_equal(at.paths[i].count, 1);
		assert_int_equal(at.paths[i].attempts[0]->op, FERRY_OP_READ);
		peer_done(&at.paths[i], 0, 1);
		at.paths[i].count = 0;
	}
	return 0;
}

int router_setup(void **state)
{
	(void)state;
	return open_with(/* flushes_by_path= */ false);
}

int router_setup_by_path(void **state)
{
	(void)state;
	return open_with(/* flushes_by_path= */ true);
}

int router_teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) /* Probes, and what a test left. */
		end_all(i);
	ferry_router_done(&at.router);
	stand_close(&at.stand);
	return 0;
}

void submit_flagged(uint32_t i, enum ferry_op op, uint32_t flags, uint64_t lba)
{
	at.ios[i] = (struct ferry_io){
		.op = op, .flags = flags, .lba = {lba}, .length_blocks = 4, .on_done = on_done};
	if (op == FERRY_OP_FLUSH)
		at.ios[i].lba.v = at.ios[i].length_blocks = 0;
	if (op == FERRY_OP_WRITE)
		assert_int_equal(ferry_arena_take(&at.stand.arena, 4 * STAND_BLOCK_BYTES,
						  &at.ios[i].segments),
				 0);
	assert_int_equal(ferry_router_submit(&at.router, &at.ios[i]), 0);
}

void submit(uint32_t i, enum ferry_op op, uint64_t lba)
{
	submit_flagged(i, op, /* flags= */ 0, lba);
}

struct stand_path *peer_with(uint32_t count)
{
	return at.paths[1].count == count ? &at.paths[1] : &at.paths[2];
}

void end_all(int i)
{
	for (uint32_t j = 0; j < at.paths[i].count; j++)
		if (at.paths[i].attempts[j])
			stand_done(&at.paths[i], j);
}

void end_unknown(struct stand_path *path)
{
	stand_end(path, path->count - 1, FERRY_OUTCOME_UNKNOWN, FERRY_CAUSE_PATH);
	stand_release(path, path->count - 1);
	stand_run_ms(&at.stand, 1);
}

bool lay(uint32_t i)
{
	return ferry_router_laid(&at.router, &at.router.lanes[i], UINT64_MAX, "test");
}

void local_is_lost(void)
{
	at.paths[0].path.is_up = false;
	at.paths[0].path.on_state(&at.paths[0].path, false, FERRY_CAUSE_PATH);
}

void flush_by_local(uint32_t io, int expected)
{
	submit(io, FERRY_OP_FLUSH, 0);
	stand_done(&at.paths[0], at.paths[0].count - 1);
	assert_int_equal(at.results[io], expected);
}

void peers_done(void)
{
	for (int i = 1; i < 3; i++)
		for (uint32_t j = 0; j < at.paths[i].count; j++)
			if (at.paths[i].attempts[j])
				peer_done(&at.paths[i], j, 1);
	stand_run_ms(&at.stand, 1);
}
