/* Rule 9: memory that is used again is out of every peer's reach. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "agent/adapters/verbs/verbs_stand.h"

/* The peer's answer comes long after the requester gave up: its memory has not been given back. */
static void late_answer_touches_no_used_memory(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	uint32_t free_before = world->side[0].arena.free_count;

	all_up(world);
	serves->is_keeping = true;
	assert_int_equal(request(asks, FERRY_OP_READ, LARGE_BLOCKS), 0);
	WAIT(world, serves->messages == 1);
	wait_ns(world, 2 * DEAD_AFTER_NS); /* The requester's time is over. */
	assert_int_equal(asks->busy, 1);
	assert_int_equal(world->side[0].arena.free_count, free_before - 1);
	answer(serves, &serves->header);
	WAIT(world, asks->messages == 1);
	assert_int_equal(asks->whole, 1);
	assert_int_equal(world->side[0].arena.free_count, free_before);
}

/* A request whose room the far end knows, and its pieces there. */
static struct verbs_room learn_room(struct world *world, struct end *asks, struct end *serves)
{
	struct verbs_link *link = verbs_link_of(serves->link);
	struct verbs_room room;
	uint32_t messages = serves->messages;

	serves->is_keeping = true;
	assert_int_equal(request(asks, FERRY_OP_READ, LARGE_BLOCKS), 0);
	WAIT(world, serves->messages == messages + 1);
	room = link->rooms_in[asks->sequence % FERRY_WIRE_WINDOW_MAX];
	assert_int_equal(room.sequence, asks->sequence);
	assert_int_equal(room.pieces_count, 1);
	return room;
}

/* Bare RDMA of the far end's, by no rule of the protocol. */
static void forge_write(struct end *end, struct ferry_rdma_piece piece)
{
	struct verbs_link *link = verbs_link_of(end->link);
	struct ferry_segments segments = {};
	struct ibv_send_wr wrs[VERBS_MOVES_MAX], *bad;
	struct ibv_sge sges[VERBS_MOVES_MAX];
	uint32_t count;

	assert_int_equal(ferry_arena_take(&end->side->arena, piece.length_bytes, &segments), 0);
	fill(&segments, 999);
	count = verbs_move(link, IBV_WR_RDMA_WRITE, &segments, &piece, 1, wrs, sges);
	assert_int_equal(count, 1);
	wrs[0].wr_id = verbs_wr_id(link, VERBS_WORK_MOVE, 0, 0);
	assert_int_equal(ibv_post_send(link->id->qp, wrs, &bad), 0);
	ferry_segments_drop(&segments);
}

/* The requester's memory is used again after the answer; the far end writes by the old key. */
static void stale_key_is_refused(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct ferry_segments again = {};
	struct verbs_room room;

	all_up(world);
	room = learn_room(world, asks, serves);
	answer(serves, &serves->header);
	WAIT(world, asks->messages == 1 && asks->busy == 0);
	assert_int_equal(ferry_arena_take(&world->side[0].arena, LARGE_BLOCKS * 512, &again), 0);
	assert_true((uintptr_t)again.v[0].chunk->data == room.pieces[0].address);
	fill(&again, 555);
	forge_write(serves, room.pieces[0]);
	WAIT(world, serves->downs == 1 && asks->downs == 1);
	assert_true(is_filled(&again, 555));
	ferry_segments_drop(&again);
	only_one_fell(world);
}

/* The connection was cut; its keys open nothing on the next one. */
static void key_dies_with_its_connection(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct ferry_segments again = {};
	struct verbs_room room;

	all_up(world);
	room = learn_room(world, asks, serves);
	asks->link->ops->reset(asks->link, "the test");
	WAIT(world, asks->downs == 1 && serves->downs == 1);
	assert_int_equal(asks->unsure, 1);
	assert_int_equal(ferry_arena_take(&world->side[0].arena, LARGE_BLOCKS * 512, &again), 0);
	assert_true((uintptr_t)again.v[0].chunk->data == room.pieces[0].address);
	fill(&again, 555);
	WAIT(world, asks->ups == 2 && serves->ups == 2);
	forge_write(serves, room.pieces[0]);
	WAIT(world, serves->downs == 2 && asks->downs == 2);
	assert_true(is_filled(&again, 555));
	ferry_segments_drop(&again);
	only_one_fell(world);
}

/* A live key opens its own range and no byte beyond, and only to its own connection. */
static void key_opens_no_more_than_it_says(void **state)
{
	struct world *world = *state;
	struct end *asks = &world->side[0].asks, *serves = &world->side[1].serves;
	struct verbs_room room;

	all_up(world);
	room = learn_room(world, asks, serves);
	room.pieces[0].address += 512;
	forge_write(serves, room.pieces[0]);
	WAIT(world, serves->downs == 1 && asks->downs == 1);
	assert_int_equal(asks->unsure, 1);
	only_one_fell(world);

	WAIT(world, asks->has_up && serves->has_up);
	room = learn_room(world, asks, serves);
	forge_write(&world->side[1].asks, room.pieces[0]); /* By the other connection. */
	WAIT(world, world->side[1].asks.downs == 1);
	assert_int_equal(asks->downs, 1);
	answer(serves, &serves->header);
	WAIT(world, asks->messages == 1 && asks->busy == 0);
}

/* ---- A peer in a process of its own, which can be frozen. ---- */

struct frozen {
	pid_t pid;
	int to;	  /* It reads its orders here. */
	int from; /* And says what happened. */
};

static char frozen_said(const struct frozen *peer)
{
	struct pollfd ready = {.fd = peer->from, .events = POLLIN};
	char said = 0;

	if (poll(&ready, 1, /* timeout= */ 0) == 1)
		assert_int_equal(read(peer->from, &said, 1), 1);
	return said;
}

/*
 * That process: 'g' when it got a request. At an order it freezes, and when it goes on it writes to
 * where it might before. 'd' when its link is down. It ends by itself when its orders do.
 */
static int frozen_main(int from, int to)
{
	struct world *world = world_make(1);
	struct end *serves = &world->side[1].serves;
	uint16_t port = ferry_verbs_port(world->side[1].verbs);
	uint32_t messages = 0, downs = 0;
	struct ferry_rdma_piece piece = {};
	struct pollfd orders = {.fd = from, .events = POLLIN};
	char order;

	assert_int_equal(prctl(PR_SET_PDEATHSIG, SIGKILL), 0); /* However the test ends. */
	serves->is_keeping = true;
	assert_int_equal(write(to, &port, sizeof(port)), sizeof(port));
	for (;;) {
		if (poll(&orders, 1, /* timeout= */ 0) == 1) {
			if (read(from, &order, 1) != 1)
				return 0;
			assert_int_equal(raise(SIGSTOP), 0);
			forge_write(serves, piece); /* Before it can know what it slept through. */
		}
		turn(world);
		if (serves->messages > messages) {
			struct verbs_link *link = verbs_link_of(serves->link);

			messages = serves->messages;
			piece = link->rooms_in[serves->header.sequence % FERRY_WIRE_WINDOW_MAX]
					.pieces[0];
			assert_int_equal(write(to, "g", 1), 1);
		}
		if (serves->downs > downs) {
			downs = serves->downs;
			assert_int_equal(write(to, "d", 1), 1);
		}
	}
}

static uint16_t frozen_start(struct frozen *peer)
{
	char from[16], to[16], flag[] = "--peer", path[] = "/proc/self/exe";
	char *arguments[] = {path, flag, from, to, NULL};
	int orders[2], says[2];
	uint16_t port = 0;

	assert_int_equal(pipe(orders) + pipe(says), 0);
	assert_int_equal(fcntl(orders[1], F_SETFD, FD_CLOEXEC), 0); /* It ends when we do. */
	assert_int_equal(fcntl(says[0], F_SETFD, FD_CLOEXEC), 0);
	(void)snprintf(from, sizeof(from), "%d", orders[0]);
	(void)snprintf(to, sizeof(to), "%d", says[1]);
	assert_int_equal(posix_spawn(&peer->pid, path, NULL, NULL, arguments, environ), 0);
	close(orders[0]);
	close(says[1]);
	peer->to = orders[1];
	peer->from = says[0];
	assert_int_equal(read(peer->from, &port, sizeof(port)), sizeof(port));
	return port;
}

/*
 * The peer freezes with a READ's room open. The requester cuts, and uses its memory for something
 * else; then the peer wakes up and writes, as if no time had passed.
 */
static void frozen_peer_writes_nowhere(void **state)
{
	struct world *world = *state;
	struct side *side = &world->side[0];
	struct end *asks = &side->asks;
	struct ferry_segments again = {};
	struct ferry_link *link = NULL;
	struct frozen peer;
	uint16_t port = frozen_start(&peer);
	int status;

	ferry_verbs_enable(asks->link, NULL); /* The neighbour in this process is another one. */
	WAIT(world, !asks->has_up);
	assert_int_equal(ferry_verbs_connect(side->verbs, (struct ferry_node){2}, stand_address(),
					     port, &link, NULL),
			 0);
	memset(asks, 0, sizeof(*asks));
	end_attach(side, asks, link);
	ferry_verbs_enable(link, &world->secret);
	WAIT(world, asks->has_up);
	assert_int_equal(request(asks, FERRY_OP_READ, LARGE_BLOCKS), 0);
	WAIT(world, frozen_said(&peer) == 'g');

	assert_int_equal(write(peer.to, "s", 1), 1);
	WAIT(world, asks->downs == 1);
	assert_non_null(strstr(asks->why, "nothing heard from node 2"));
	assert_int_equal(asks->unsure, 1);
	assert_int_equal(ferry_arena_take(&side->arena, LARGE_BLOCKS * 512, &again), 0);
	fill(&again, 555);
	assert_int_equal(kill(peer.pid, SIGCONT), 0);
	WAIT(world, frozen_said(&peer) == 'd');
	assert_true(is_filled(&again, 555));
	ferry_segments_drop(&again);
	WAIT(world, asks->has_up); /* And it is welcome again. */
	close(peer.to);
	assert_int_equal(waitpid(peer.pid, &status, 0), peer.pid);
	assert_int_equal(status, 0);
	WAIT(world, asks->downs == 2); /* A peer that died. */
	close(peer.from);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(late_answer_touches_no_used_memory), TEST(stale_key_is_refused),
		TEST(key_dies_with_its_connection),	  TEST(key_opens_no_more_than_it_says),
		TEST(frozen_peer_writes_nowhere),
	};

	if (argc == 4 && stand_address())
		return frozen_main((int)strtol(argv[2], NULL, 10), (int)strtol(argv[3], NULL, 10));
	return STAND_RUN(tests);
}
