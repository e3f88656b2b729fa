/* Where each path has a cache of its own (rule 10): what a path has lost is written anew. */
#include "agent/core/router_stand.h"

/* By the local path, but a read of what is being written: writing anew may undo what it saw. */
static void test_read_waits_for_the_write_that_it_overlaps(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	submit(1, FERRY_OP_READ, 0);
	submit(2, FERRY_OP_READ, 8);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.paths[0].count, 2);
	assert_int_equal(at.paths[0].attempts[0]->epoch.v, 7);
	assert_int_equal(at.paths[0].attempts[1]->lba.v, 8);
	end_all(0);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.results[1], 1);
	assert_int_equal(at.paths[0].count, 3);
	assert_int_equal(at.paths[0].attempts[2]->op, FERRY_OP_READ);
	end_all(0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(at.results[i], 0);
	assert_int_equal(at.router.stats.detours, 0);
}

/* A FLUSH goes to each path that has something; and to no other. */
static void test_flush_goes_to_every_path(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], 0);
	at.router.lanes[0].is_allowed = false;
	submit(1, FERRY_OP_WRITE, 8);
	at.router.lanes[0].is_allowed = true;
	peers_done();
	submit(2, FERRY_OP_FLUSH, 0);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.paths[0].count, 2);
	assert_int_equal(peer_with(2)->attempts[1]->op, FERRY_OP_FLUSH);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 2);
	stand_done(&at.paths[0], 1);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.results[2], 1);
	peers_done();
	assert_int_equal(at.results[2], 0);
	assert_int_equal(at.router.keep.count, 0);
}

/* A path is lost: its unflushed writes are written anew, in order, before anything relies on it. */
static void test_lost_path_is_replayed(void **state)
{
	uint8_t byte = 0;

	(void)state;
	for (uint32_t i = 0; i < 2; i++) { /* The second one over the first. */
		submit(i, FERRY_OP_WRITE, 2 * i);
		ferry_segments_write(&at.ios[i].segments, 0, &(uint8_t){(uint8_t)(7 + i)}, 1);
		stand_done(&at.paths[0], i);
	}
	local_is_lost();
	submit(2, FERRY_OP_FLUSH, 0);
	submit(3, FERRY_OP_READ, 3);
	submit(4, FERRY_OP_WRITE, 0);
	submit(5, FERRY_OP_READ, 20);
	for (uint32_t i = 0; i < 2; i++) {
		struct stand_path *peer = &at.paths[1];

		stand_run_ms(&at.stand, 1);
		for (int j = 1; j < 3; j++) /* 20 flows; 0 to 5 wait. */
			for (uint32_t k = 0; k < at.paths[j].count; k++) {
				if (!at.paths[j].attempts[k])
					continue;
				if (at.paths[j].attempts[k]->op == FERRY_OP_READ) {
					assert_int_equal(at.paths[j].attempts[k]->lba.v, 20);
					peer_done(&at.paths[j], k, 1);
					continue;
				}
				peer = &at.paths[j];
				assert_int_equal(at.paths[j].attempts[k]->op, FERRY_OP_WRITE);
				assert_int_equal(at.paths[j].attempts[k]->lba.v, 2 * i);
				ferry_segments_read(&at.paths[j].attempts[k]->segments, 0, &byte,
						    1);
			}
		assert_int_equal(byte, 7 + i);
		assert_int_equal(at.results[2], 1);
		assert_int_equal(at.results[3], 1);
		assert_int_equal(at.results[4], 1);
		peer_done(peer, peer->count - 1, 1);
	}
	for (int i = 0; i < 5; i++) {
		stand_run_ms(&at.stand, 1);
		peers_done();
	}
	for (int i = 2; i < 6; i++)
		assert_int_equal(at.results[i], 0);
	assert_false(at.router.flush.is_suspect);
}

/* The write of what a path has lost that @path has got; its first byte. */
static uint8_t written_anew(struct stand_path *path)
{
	struct ferry_attempt *attempt = path->attempts[path->count - 1];
	uint8_t byte = 0;

	assert_non_null(attempt);
	assert_int_equal(attempt->op, FERRY_OP_WRITE);
	ferry_segments_read(&attempt->segments, 0, &byte, 1);
	return byte;
}

/*
 * The older of two is written anew, and while the newer one waits for room in that path, that one
 * is lost too: the older goes first again.
 */
static void test_second_loss_while_it_is_replayed(void **state)
{
	struct stand_path *first, *second;

	(void)state;
	for (uint32_t i = 0; i < 2; i++) { /* The second one over the first. */
		submit(i, FERRY_OP_WRITE, 2 * i);
		ferry_segments_write(&at.ios[i].segments, 0, &(uint8_t){(uint8_t)(7 + i)}, 1);
		stand_done(&at.paths[0], i);
	}
	local_is_lost();
	submit(2, FERRY_OP_FLUSH, 0);
	stand_run_ms(&at.stand, 1);
	first = peer_with(1);
	second = first == &at.paths[1] ? &at.paths[2] : &at.paths[1];
	assert_int_equal(second->count, 0);
	assert_int_equal(written_anew(first), 7);
	peer_done(first, 0, 1);
	first->submit_error = -EAGAIN;
	stand_run_ms(&at.stand, 1);
	assert_int_equal(first->count + second->count, 1); /* It follows the older one. */
	first->path.is_up = false;
	first->path.on_state(&first->path, false, FERRY_CAUSE_PATH);
	for (uint32_t i = 0; i < 2; i++) {
		stand_run_ms(&at.stand, 1);
		assert_int_equal(second->count, 1 + i);
		assert_int_equal(written_anew(second), 7 + i);
		assert_int_equal(at.results[2], 1);
		peer_done(second, i, 1);
	}
	stand_run_ms(&at.stand, 1);
	assert_int_equal(second->attempts[2]->op, FERRY_OP_FLUSH);
	peer_done(second, 2, 1);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.results[2], 0);
	assert_false(at.router.flush.is_suspect);
}

/* A reset seen by a peer: what it had goes anew; a write that was under way too. */
static void test_peers_loss_is_replayed(void **state)
{
	uint32_t i;

	(void)state;
	at.router.lanes[0].is_allowed = false;
	submit(0, FERRY_OP_WRITE, 0);
	stand_run_ms(&at.stand, 1);
	i = at.paths[1].count == 1 ? 1 : 2;
	at.router.lanes[3 - i].avoid_until_ns = UINT64_MAX;
	submit(1, FERRY_OP_READ, 30);
	stand_run_ms(&at.stand, 1);
	peer_done(&at.paths[i], 1, 2); /* The read's answer tells. */
	peer_done(&at.paths[i], 0, 2);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.results[0], 0);
	/* What it read may be older than the write: that is asked again. */
	assert_int_equal(at.paths[i].count, 4);
	assert_int_equal(at.results[1], 1);
	assert_int_equal(at.paths[i].attempts[2]->op, FERRY_OP_READ);
	assert_int_equal(at.paths[i].attempts[3]->op, FERRY_OP_WRITE);
	peer_done(&at.paths[i], 2, 2);
	peer_done(&at.paths[i], 3, 2);
	submit(2, FERRY_OP_FLUSH, 0);
	stand_run_ms(&at.stand, 1);
	peer_done(&at.paths[i], 4, 2);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.results[1], 0);
	assert_int_equal(at.results[2], 0);
	at.router.lanes[3 - i].avoid_until_ns = 0;
}

/*
 * What was acknowledged as durable is not written over by what is older, not for a moment: the
 * agent may be killed, or deposed, before the newer bytes follow. So what it overlaps is flushed
 * before it starts.
 */
static void test_durable_write_over_a_kept_one(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], 0);
	assert_int_equal(at.router.keep.count, 1);
	submit_flagged(1, FERRY_OP_WRITE, FERRY_IO_FUA, 0);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.paths[0].count, 2);
	assert_int_equal(at.paths[0].attempts[1]->op, FERRY_OP_FLUSH);
	stand_done(&at.paths[0], 1);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.paths[0].attempts[2]->flags, FERRY_IO_FUA);
	stand_done(&at.paths[0], 2);
	assert_int_equal(at.results[1], 0);
	assert_int_equal(at.router.keep.count, 0);
	local_is_lost();
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 0); /* Nothing is written anew. */
}

/*
 * A path that never ends a write: once that is done elsewhere a read of it waits no more; nor a
 * write, once what hangs is proven dead.
 */
static void test_hanging_write_is_in_nobodys_way(void **state)
{
	struct stand_path *first, *second;

	(void)state;
	at.router.lanes[0].is_allowed = false;
	submit(0, FERRY_OP_WRITE, 0);
	submit(1, FERRY_OP_READ, 0);
	stand_run_ms(&at.stand, 1);
	first = peer_with(1);
	second = first == &at.paths[1] ? &at.paths[2] : &at.paths[1];
	stand_run_ms(&at.stand, 1100);
	assert_int_equal(at.lays, 1);
	assert_int_equal(second->count, 1);
	peer_done(second, 0, 1);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(second->count, 2);
	peer_done(second, 1, 1);
	assert_int_equal(at.results[1], 0);
	submit(2, FERRY_OP_WRITE, 0);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(second->count, 2); /* What hangs may yet land. */
	assert_true(lay((uint32_t)(first - at.paths)));
	stand_run_ms(&at.stand, 1);
	assert_int_equal(second->count, 3);
	peer_done(second, 2, 1);
	assert_int_equal(at.results[2], 0);
	assert_non_null(first->attempts[0]);
}

/* What is kept is bounded: flushes are forced. */
static void test_kept_writes_are_bounded(void **state)
{
	uint32_t flushes = 0;

	(void)state;
	for (uint32_t i = 0; i < 20; i++) {
		at.results[0] = 1;
		submit(0, FERRY_OP_WRITE, 8 * i);
		for (int j = 0; j < 4 && at.results[0] == 1; j++) {
			uint32_t last = at.paths[0].count - 1;

			stand_run_ms(&at.stand, 1);
			last = at.paths[0].count - 1;
			flushes += at.paths[0].attempts[last]->op == FERRY_OP_FLUSH;
			stand_done(&at.paths[0], last);
		}
		assert_int_equal(at.results[0], 0);
		assert_true(at.router.keep.chunks <= STAND_CHUNKS / 4);
	}
	assert_true(flushes >= 4);
}

/* A flush that the path's cache fails: written anew, and flushed again. */
static void test_failed_flush_of_a_path_is_replayed(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	stand_done(&at.paths[0], 0);
	submit(1, FERRY_OP_FLUSH, 0);
	stand_run_ms(&at.stand, 1);
	stand_end(&at.paths[0], 1, FERRY_OUTCOME_FAILED, FERRY_CAUSE_LOST);
	stand_release(&at.paths[0], 1);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.paths[0].attempts[2]->op, FERRY_OP_WRITE);
	stand_done(&at.paths[0], 2);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.paths[0].attempts[3]->op, FERRY_OP_FLUSH);
	assert_int_equal(at.results[1], 1);
	stand_done(&at.paths[0], 3);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.results[1], 0);
}

/* It failed, and a path may have it: what is read of it must not vanish with that path's cache. */
static void test_failed_write_is_completed(void **state)
{
	struct stand_path *peer;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	ferry_segments_write(&at.ios[0].segments, 0, &(uint8_t){9}, 1);
	at.router.lanes[1].is_allowed = at.router.lanes[2].is_allowed = false;
	end_unknown(&at.paths[0]);
	ferry_router_fail_waiting(&at.router, -ETIMEDOUT);
	assert_int_equal(at.results[0], -ETIMEDOUT);
	at.router.lanes[1].is_allowed = at.router.lanes[2].is_allowed = true;
	submit(1, FERRY_OP_FLUSH, 0);
	submit(2, FERRY_OP_READ, 0);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.paths[1].count + at.paths[2].count, 0); /* It may land yet. */
	assert_true(lay(0));
	stand_run_ms(&at.stand, 1);
	peer = peer_with(1);
	assert_int_equal(written_anew(peer), 9);
	peer_done(peer, 0, 1);
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.results[1], 1);
	peers_done();
	stand_run_ms(&at.stand, 1);
	assert_int_equal(at.results[1], 0);
	assert_int_equal(at.results[2], 0);
	assert_int_equal(at.router.keep.count, 0);
	assert_false(at.router.flush.is_suspect);
}

/* Not if nothing of it was sent, nor if the pool is another's. */
static void test_failed_write_is_forgotten(void **state)
{
	(void)state;
	at.router.lanes[0].is_allowed = at.router.lanes[1].is_allowed =
		at.router.lanes[2].is_allowed = false;
	ferry_router_close(&at.router);
	submit(0, FERRY_OP_WRITE, 0);
	ferry_router_fail_waiting(&at.router, -ETIMEDOUT);
	assert_int_equal(at.results[0], -ETIMEDOUT);
	assert_int_equal(at.router.keep.count, 0);
	ferry_router_open(&at.router, (struct ferry_epoch){7});
	at.router.lanes[0].is_allowed = true;
	submit(1, FERRY_OP_WRITE, 0);
	submit(2, FERRY_OP_WRITE, 8);
	ferry_router_close(&at.router);
	ferry_router_depose(&at.router);
	end_unknown(&at.paths[0]);
	stand_done(&at.paths[0], 0);
	assert_int_equal(at.results[1], -ESHUTDOWN);
	assert_int_equal(at.results[2], -ESHUTDOWN);
	assert_int_equal(at.router.keep.count, 0);
	assert_true(lay(0));
}

/* Nor if the pool is back by the time that it ends: others have written meanwhile. */
static void test_write_of_before_is_forgotten(void **state)
{
	struct stand_path *peer;

	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	end_unknown(&at.paths[0]);
	peer = peer_with(1);
	assert_int_equal(peer->count, 1);
	ferry_router_close(&at.router);
	ferry_router_depose(&at.router);
	assert_true(lay(0));
	ferry_router_open(&at.router, (struct ferry_epoch){9});
	peer_done(peer, 0, 1);
	assert_int_equal(at.results[0], -ESHUTDOWN);
	assert_int_equal(at.router.keep.count, 0);
}

/* It waits for its ghost, and nothing else does: not even when all that may be kept is kept. */
static void test_failed_write_is_in_nobodys_way(void **state)
{
	(void)state;
	submit(0, FERRY_OP_WRITE, 0);
	at.router.lanes[1].is_allowed = at.router.lanes[2].is_allowed = false;
	end_unknown(&at.paths[0]);
	ferry_router_fail_waiting(&at.router, -ETIMEDOUT);
	assert_int_equal(at.results[0], -ETIMEDOUT);
	at.router.lanes[1].is_allowed = true;
	for (uint32_t i = 0; i < 6; i++) {
		at.results[1] = 1;
		submit(1, FERRY_OP_WRITE, 100 + 8 * i);
		for (uint32_t j = 0; j < 6; j++) {
			stand_run_ms(&at.stand, 1);
			peers_done();
		}
		assert_int_equal(at.results[1], 0);
	}
	at.results[1] = 1;
	submit(1, FERRY_OP_WRITE, 0); /* Over its blocks. */
	stand_run_ms(&at.stand, 1);
	peers_done();
	assert_int_equal(at.results[1], 1);
	assert_true(lay(0));
	for (uint32_t j = 0; j < 6; j++) {
		stand_run_ms(&at.stand, 1);
		peers_done();
	}
	assert_int_equal(at.results[1], 0);
}

int main(void)
{
#define BY_PATH(name) cmocka_unit_test_setup_teardown(name, router_setup_by_path, router_teardown)
	const struct CMUnitTest tests[] = {
		BY_PATH(test_read_waits_for_the_write_that_it_overlaps),
		BY_PATH(test_flush_goes_to_every_path),
		BY_PATH(test_lost_path_is_replayed),
		BY_PATH(test_second_loss_while_it_is_replayed),
		BY_PATH(test_peers_loss_is_replayed),
		BY_PATH(test_durable_write_over_a_kept_one),
		BY_PATH(test_hanging_write_is_in_nobodys_way),
		BY_PATH(test_kept_writes_are_bounded),
		BY_PATH(test_failed_flush_of_a_path_is_replayed),
		BY_PATH(test_failed_write_is_completed),
		BY_PATH(test_failed_write_is_forgotten),
		BY_PATH(test_failed_write_is_in_nobodys_way),
		BY_PATH(test_write_of_before_is_forgotten),
	};

	return cmocka_run_group_tests_name("router_keep", tests, NULL, NULL);
}
