#include "tests/sim/sim_workload.h"

#include <inttypes.h>

#include "tests/sim/sim_lun.h"
#include "tests/sim/sim_path.h"

enum { WORDS_PER_BLOCK = SIM_BLOCK_BYTES / 8 };

void sim_workload_init(struct sim_workload *workload, struct sim *sim, struct sim_checker *checker)
{
	*workload = (struct sim_workload){
		.sim = sim,
		.checker = checker,
		.tag_next = 1,
		.depth = 4,
		.think_ns_max = 4 * FERRY_NS_PER_MS,
		.span_blocks = checker->size_blocks,
	};
}

static void think(struct sim_io *io)
{
	struct sim_workload *workload = io->client->workload;

	sim_input_in(&io->input, sim_between(workload->sim, SIM_WORKLOAD, 10 * FERRY_NS_PER_US,
					     workload->think_ns_max));
}

/* ---- Tagged blocks: the tag and the block's address, over and over. ---- */

static void tag_write(const struct sim_io *io, const struct ferry_segments *segments)
{
	uint64_t words[WORDS_PER_BLOCK];

	for (uint32_t i = 0; i < io->io.length_blocks; i++) {
		for (uint32_t j = 0; j < WORDS_PER_BLOCK; j += 2) {
			words[j] = io->tag;
			words[j + 1] = io->io.lba.v + i;
		}
		ferry_segments_write(segments, i * SIM_BLOCK_BYTES, words, SIM_BLOCK_BYTES);
	}
}

/* The tag of one block, or false: it is torn, misplaced or never was one. */
static bool tag_read(const uint64_t words[WORDS_PER_BLOCK], uint64_t lba, uint64_t *ret_tag)
{
	for (uint32_t j = 0; j < WORDS_PER_BLOCK; j += 2) {
		if (words[j] != words[0])
			return false;
		if (words[j + 1] != (words[0] ? lba : 0))
			return false;
	}
	*ret_tag = words[0];
	return true;
}

static void read_check(struct sim_io *io)
{
	struct sim_client *client = io->client;
	struct sim_workload *workload = client->workload;
	uint64_t words[WORDS_PER_BLOCK];

	for (uint32_t i = 0; i < io->io.length_blocks; i++) {
		uint64_t lba = io->io.lba.v + i;
		uint64_t tag;

		ferry_segments_read(&io->io.segments, i * SIM_BLOCK_BYTES, words, SIM_BLOCK_BYTES);
		if (!tag_read(words, lba, &tag)) {
			sim_violation(workload->sim, client->node,
				      "block %" PRIu64 " is torn or not its own: %" PRIx64, lba,
				      words[0]);
			continue;
		}
		if (sim_checker_read(workload->checker, io->start, lba, tag))
			continue;
		if (workload->tolerates_stale_reads && client->is_deposed(client))
			workload->stale_reads++;
		else
			sim_violation(workload->sim, client->node,
				      "read of block %" PRIu64 " returned io %" PRIu64
				      ", which was replaced or never was",
				      lba, tag);
	}
}

/* ---- I/Os. ---- */

static uint64_t oldest_start(const struct sim_workload *workload)
{
	uint64_t oldest = workload->checker->clock;

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(workload->clients); i++)
		for (uint32_t j = 0; workload->clients[i] && j < SIM_CLIENT_DEPTH_MAX; j++)
			if (workload->clients[i]->ios[j].is_running)
				oldest = ferry_min_u64(oldest, workload->clients[i]->ios[j].start);
	return oldest;
}

static void io_ended(struct sim_io *io, bool is_acknowledged)
{
	struct sim_client *client = io->client;

	ferry_assert(io->is_running);
	io->is_running = false;
	client->running_count--;
	if (ferry_op_changes_blocks(io->io.op))
		sim_checker_write_end(client->workload->checker,
				      io->io.op == FERRY_OP_WRITE ? io->tag : 0, io->start,
				      io->io.lba.v, io->io.length_blocks, is_acknowledged);
}

static void io_done(struct ferry_io *done, int error)
{
	struct sim_io *io = FERRY_CONTAINER_OF(done, struct sim_io, io);
	struct sim_workload *workload = io->client->workload;
	struct ferry_segments segments = io->io.segments;

	if (!io->is_running) {
		sim_violation(workload->sim, io->client->node, "an I/O completed twice");
		return;
	}
	sim_note(workload->sim, SIM_CLIENT, io->client->node, io->tag << 8 | (uint64_t)-error,
		 "io %" PRIu64 " op %u at %" PRIu64 "+%u: %d", io->tag, io->io.op, io->io.lba.v,
		 io->io.length_blocks, error);
	if (error == 0 && io->io.op == FERRY_OP_READ)
		read_check(io);
	if (error == 0) {
		workload->ended[io->io.op]++;
		workload->latency_ns_max = ferry_max_u64(workload->latency_ns_max,
							 workload->sim->now_ns - io->started_ns);
	} else {
		workload->errors[-error]++;
	}
	if (error == -EIO && io->io.op != FERRY_OP_FLUSH)
		sim_violation(workload->sim, io->client->node, "an I/O failed with EIO");
	io_ended(io, error == 0);
	ferry_segments_drop(&io->io.segments);
	sim_poison(&segments);
	think(io);
}

static int io_submit(struct sim_io *io, enum ferry_op op, uint64_t lba, uint32_t length_blocks)
{
	struct sim_client *client = io->client;
	struct sim_workload *workload = client->workload;
	struct sim_checker *checker = workload->checker;
	int r;

	io->io = (struct ferry_io){.op = op, .on_done = io_done};
	if (op != FERRY_OP_FLUSH) {
		io->io.lba.v = lba;
		io->io.length_blocks = length_blocks;
	}
	if (op == FERRY_OP_WRITE && sim_chance(workload->sim, SIM_WORKLOAD, 100))
		io->io.flags = FERRY_IO_FUA;
	io->tag = workload->tag_next++;
	io->started_ns = workload->sim->now_ns;
	if (op == FERRY_OP_WRITE) {
		r = ferry_arena_take(client->block->arena, length_blocks * SIM_BLOCK_BYTES,
				     &io->io.segments);
		if (r < 0)
			return r;
		tag_write(io, &io->io.segments);
	}
	r = ferry_block_submit(client->block, &io->io);
	if (r < 0) {
		ferry_segments_drop(&io->io.segments);
		return r;
	}
	if (ferry_op_changes_blocks(op))
		sim_checker_write_begin(checker, op == FERRY_OP_WRITE ? io->tag : 0, lba,
					length_blocks, oldest_start(workload));
	io->start = sim_checker_now(checker);
	io->is_running = true;
	client->running_count++;
	sim_note(workload->sim, SIM_CLIENT, client->node, io->tag,
		 "io %" PRIu64 " op %u at %" PRIu64 "+%u begins", io->tag, op, io->io.lba.v,
		 io->io.length_blocks);
	return 0;
}

static enum ferry_op draw_op(struct sim *sim)
{
	uint64_t draw = sim_below(sim, SIM_WORKLOAD, 100);

	if (draw < 50)
		return FERRY_OP_WRITE;
	if (draw < 92)
		return FERRY_OP_READ;
	return draw < 96 ? FERRY_OP_FLUSH : FERRY_OP_WRITE_ZEROES;
}

static void io_next(struct sim_input *input)
{
	struct sim_io *io = FERRY_CONTAINER_OF(input, struct sim_io, input);
	struct sim_client *client = io->client;
	struct sim_workload *workload = client->workload;
	uint32_t length_blocks;
	uint64_t lba;

	if (workload->is_stopped)
		return;
	/* Most applications run where the pool is; some knock at the wrong door. */
	if (!client->is_open(client) &&
	    !sim_chance(workload->sim, SIM_WORKLOAD, workload->strays_per_mille)) {
		think(io);
		return;
	}
	length_blocks =
		(uint32_t)sim_between(workload->sim, SIM_WORKLOAD, 1, SIM_CLIENT_BLOCKS_MAX);
	lba = sim_below(workload->sim, SIM_WORKLOAD, workload->span_blocks - length_blocks + 1);
	if (io_submit(io, draw_op(workload->sim), lba, length_blocks) < 0)
		think(io);
}

int sim_client_submit(struct sim_client *client, enum ferry_op op, uint64_t lba,
		      uint32_t length_blocks)
{
	for (uint32_t i = 0; i < SIM_CLIENT_DEPTH_MAX; i++)
		if (!client->ios[i].is_running) {
			sim_input_cancel(&client->ios[i].input);
			return io_submit(&client->ios[i], op, lba, length_blocks);
		}
	return -EBUSY;
}

void sim_client_resume(struct sim_client *client)
{
	for (uint32_t i = 0; i < client->workload->depth; i++)
		if (!client->ios[i].is_running && !sim_input_is_due(&client->ios[i].input))
			think(&client->ios[i]);
}

void sim_client_start(struct sim_client *client, struct sim_workload *workload,
		      struct sim_loop *loop, struct ferry_block *block)
{
	client->workload = workload;
	client->loop = loop;
	client->block = block;
	client->node = loop->node;
	ferry_assert(!workload->clients[client->node]);
	workload->clients[client->node] = client;
	for (uint32_t i = 0; i < SIM_CLIENT_DEPTH_MAX; i++) {
		client->ios[i].client = client;
		sim_input_init(&client->ios[i].input, loop, SIM_CLIENT, io_next);
	}
	if (!workload->is_stopped)
		sim_client_resume(client);
}

void sim_client_crash(struct sim_client *client)
{
	client->workload->clients[client->node] = NULL;
	for (uint32_t i = 0; i < SIM_CLIENT_DEPTH_MAX; i++) {
		sim_input_cancel(&client->ios[i].input);
		if (client->ios[i].is_running)
			io_ended(&client->ios[i], /* is_acknowledged= */ false);
	}
}

uint32_t sim_workload_running(const struct sim_workload *workload)
{
	uint32_t count = 0;

	for (size_t i = 0; i < FERRY_ARRAY_COUNT(workload->clients); i++)
		if (workload->clients[i])
			count += workload->clients[i]->running_count;
	return count;
}
