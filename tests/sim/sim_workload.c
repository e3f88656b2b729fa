#include "tests/sim/sim_workload.h"

#include <inttypes.h>
#include <stdlib.h>

#include "agent/cache/index.h"
#include "tests/sim/sim_lun.h"
#include "tests/sim/sim_path.h"

/* The checker's: of each block the writes that a loss of the cache could bring back. */
enum { ENTRIES_MAX = 8192 };

enum { LINE_BLOCKS = FERRY_CACHE_LINE_BYTES / SIM_BLOCK_BYTES };

_Static_assert((int)LINE_BLOCKS <= (int)SIM_CLIENT_BLOCKS_MAX, "one I/O covers a line");
_Static_assert((int)SIM_BLOCK_BYTES == (int)FERRY_CHECK_SECTOR_BYTES, "a block is a sector");

void sim_workload_init(struct sim_workload *workload, struct sim *sim, uint64_t size_blocks)
{
	const struct ferry_check_config config = {.sectors_count = size_blocks,
						  .entries_max = ENTRIES_MAX};
	size_t bytes = ferry_check_memory_bytes(&config);
	struct ferry_region region;
	int r;

	*workload = (struct sim_workload){
		.sim = sim,
		.memory = sim_alloc(bytes),
		.size_blocks = size_blocks,
		.depth = 4,
		.think_ns_max = 4 * FERRY_NS_PER_MS,
		.span_blocks = size_blocks,
		.fua_per_mille = 100,
		.shares = {[FERRY_OP_READ] = 42,
			   [FERRY_OP_WRITE] = 50,
			   [FERRY_OP_FLUSH] = 4,
			   [FERRY_OP_WRITE_ZEROES] = 4},
	};
	ferry_region_init(&region, workload->memory, bytes);
	r = ferry_check_init(&workload->check, &region, &config);
	ferry_assert(r == 0);
}

void sim_workload_done(struct sim_workload *workload)
{
	free(workload->memory);
}

static void think(struct sim_io *io)
{
	struct sim_workload *workload = io->client->workload;

	sim_input_in(&io->input, sim_between(workload->sim, SIM_WORKLOAD, 10 * FERRY_NS_PER_US,
					     workload->think_ns_max));
}

/* ---- Tagged blocks. ---- */

static void tag_write(const struct sim_io *io, const struct ferry_segments *segments)
{
	uint8_t bytes[SIM_BLOCK_BYTES];

	for (uint32_t i = 0; i < io->io.length_blocks; i++) {
		ferry_check_encode(io->check.tag, io->io.lba.v + i, bytes);
		ferry_segments_write(segments, i * SIM_BLOCK_BYTES, bytes, SIM_BLOCK_BYTES);
	}
}

static void read_check(struct sim_io *io)
{
	struct sim_client *client = io->client;
	struct sim_workload *workload = client->workload;
	struct ferry_check_finding finding;
	uint8_t bytes[SIM_BLOCK_BYTES];
	char text[160];

	io->check.is_of_the_past = workload->tolerates_stale_reads && client->is_deposed(client);
	for (uint32_t i = 0; i < io->io.length_blocks; i++) {
		ferry_segments_read(&io->io.segments, i * SIM_BLOCK_BYTES, bytes, SIM_BLOCK_BYTES);
		if (ferry_check_sector(&workload->check, &io->check, i, bytes, &finding) ==
		    FERRY_CHECK_FINE)
			continue;
		ferry_check_describe(&finding, text, sizeof(text));
		if (io->check.is_of_the_past)
			workload->stale_reads++;
		else
			sim_violation(workload->sim, client->node, "io %" PRIu64 ": %s",
				      io->check.tag, text);
	}
}

/* A clock that went on would have told that others may have the pool (docs/decisions/0009). */
static void write_check(struct sim_io *io)
{
	struct sim_client *client = io->client;
	bool has_stood = io->started_ns < client->clock_stood_ns;

	io->check.is_of_the_past = has_stood && client->is_deposed(client);
	client->workload->past_writes += io->check.is_of_the_past;
}

/* ---- I/Os. ---- */

static void io_ended(struct sim_io *io, int error)
{
	struct sim_client *client = io->client;

	ferry_assert(io->is_running);
	io->is_running = false;
	client->running_count--;
	ferry_check_end(&client->workload->check, &io->check, error);
}

static const char *op_name(enum ferry_op op)
{
	static const char *const names[SIM_OPS] = {
		[FERRY_OP_READ] = "read",
		[FERRY_OP_WRITE] = "write",
		[FERRY_OP_FLUSH] = "flush",
		[FERRY_OP_DISCARD] = "discard",
		[FERRY_OP_WRITE_ZEROES] = "write-zeroes",
	};

	return names[op];
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
	sim_note(workload->sim, SIM_CLIENT, io->client->node, io->check.tag << 8 | (uint64_t)-error,
		 "io %" PRIu64 " %s at %" PRIu64 "+%u: %d", io->check.tag, op_name(io->io.op),
		 io->io.lba.v, io->io.length_blocks, error);
	if (error == 0 && io->io.op == FERRY_OP_READ)
		read_check(io);
	if (error == 0 && ferry_op_changes_blocks(io->io.op))
		write_check(io);
	if (error == 0) {
		workload->ended[io->io.op]++;
		workload->latency_ns_max = ferry_max_u64(workload->latency_ns_max,
							 workload->sim->now_ns - io->started_ns);
	} else {
		workload->errors[-error]++;
		workload->flush_errors += io->io.op == FERRY_OP_FLUSH;
	}
	if (error == -EIO && io->io.op != FERRY_OP_FLUSH && !workload->allows_eio)
		sim_violation(workload->sim, io->client->node, "an I/O failed with EIO");
	io_ended(io, error);
	ferry_segments_drop(&io->io.segments);
	sim_poison(&segments);
	think(io);
}

static int io_submit(struct sim_io *io, enum ferry_op op, uint64_t lba, uint32_t length_blocks)
{
	struct sim_client *client = io->client;
	struct sim_workload *workload = client->workload;
	int r = 0;

	io->io = (struct ferry_io){.op = op, .on_done = io_done};
	if (op != FERRY_OP_FLUSH) {
		io->io.lba.v = lba;
		io->io.length_blocks = length_blocks;
	}
	if ((op == FERRY_OP_WRITE || op == FERRY_OP_WRITE_ZEROES) &&
	    sim_chance(workload->sim, SIM_WORKLOAD, workload->fua_per_mille))
		io->io.flags = FERRY_IO_FUA;
	io->check = (struct ferry_check_io){.op = op,
					    .flags = io->io.flags,
					    .sector = io->io.lba.v,
					    .sectors_count = io->io.length_blocks};
	r = ferry_check_begin(&workload->check, &io->check);
	if (r < 0)
		return r;
	io->started_ns = workload->sim->now_ns;
	if (op == FERRY_OP_WRITE) {
		r = ferry_arena_take(client->block->arena, length_blocks * SIM_BLOCK_BYTES,
				     &io->io.segments);
		if (r == 0)
			tag_write(io, &io->io.segments);
	}
	if (r == 0)
		r = ferry_block_submit(client->block, &io->io);
	if (r < 0) {
		ferry_check_cancel(&workload->check, &io->check);
		ferry_segments_drop(&io->io.segments);
		return r;
	}
	io->is_running = true;
	client->running_count++;
	sim_note(workload->sim, SIM_CLIENT, client->node, io->check.tag,
		 "io %" PRIu64 " %s%s at %" PRIu64 "+%u begins", io->check.tag, op_name(op),
		 io->io.flags & FERRY_IO_FUA ? " with FUA" : "", io->io.lba.v,
		 io->io.length_blocks);
	return 0;
}

static enum ferry_op draw_op(struct sim_workload *workload)
{
	uint64_t draw;
	uint32_t sum = 0;
	uint32_t op = 0;

	for (uint32_t i = 0; i < SIM_OPS; i++)
		sum += workload->shares[i];
	draw = sim_below(workload->sim, SIM_WORKLOAD, sum);
	while (draw >= workload->shares[op])
		draw -= workload->shares[op++];
	return (enum ferry_op)op;
}

static void range_draw(struct sim_workload *workload, uint64_t *ret_lba,
		       uint32_t *ret_length_blocks)
{
	struct sim *sim = workload->sim;

	if (sim_chance(sim, SIM_WORKLOAD, workload->lines_per_mille)) {
		*ret_length_blocks = LINE_BLOCKS;
		*ret_lba = LINE_BLOCKS *
			   sim_below(sim, SIM_WORKLOAD, workload->span_blocks / LINE_BLOCKS);
		return;
	}
	*ret_length_blocks = (uint32_t)sim_between(sim, SIM_WORKLOAD, 1, SIM_CLIENT_BLOCKS_MAX);
	*ret_lba = sim_below(sim, SIM_WORKLOAD, workload->span_blocks - *ret_length_blocks + 1);
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
	range_draw(workload, &lba, &length_blocks);
	if (io_submit(io, draw_op(workload), lba, length_blocks) < 0)
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
			io_ended(&client->ios[i], -ESHUTDOWN);
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
