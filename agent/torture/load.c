#include "agent/torture/load.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#include "agent/adapters/nbd/protocol.h"

enum {
	SECTOR = FERRY_CHECK_SECTOR_BYTES,
	IO_SECTORS_MAX = TORTURE_CLIENT_IO_BYTES_MAX / SECTOR,
	ENTRIES_PER_SECTOR = 64,
	HISTORY_MAX = 60, /* Lines of one violation's. */
	RETRY_NS = 50 * 1000 * 1000,
	ERROR_PAUSE_NS = 20 * 1000 * 1000,
};

uint64_t torture_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * FERRY_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- The record, and what it says of a violation. ---- */

static void record(struct torture_load *load, const struct torture_slot *slot,
		   enum torture_record_kind kind, int error)
{
	struct torture_record *to = &load->records[load->records_count++ % TORTURE_RECORDS_COUNT];

	*to = (struct torture_record){.kind = kind, .time_ns = torture_now_ns(), .error = error};
	if (!slot)
		return;
	to->op = slot->io.op;
	to->flags = slot->io.flags;
	to->client = (uint32_t)(slot->client - load->clients);
	to->sector = slot->io.sector;
	to->sectors_count = slot->io.sectors_count;
	to->tag = slot->io.tag;
}

static const char *op_name(enum ferry_op op)
{
	static const char *const names[] = {
		[FERRY_OP_READ] = "read",	    [FERRY_OP_WRITE] = "write",
		[FERRY_OP_FLUSH] = "flush",	    [FERRY_OP_DISCARD] = "trim",
		[FERRY_OP_WRITE_ZEROES] = "zeroes",
	};

	ferry_assert(op >= FERRY_OP_READ && op <= FERRY_OP_WRITE_ZEROES);
	return names[op];
}

static bool record_is_of(const struct torture_record *this, uint64_t sector)
{
	if (this->kind == TORTURE_RECORD_LOST || this->kind == TORTURE_RECORD_FORGIVE)
		return true;
	return sector >= this->sector && sector - this->sector < this->sectors_count;
}

static bool record_is_flush(const struct torture_record *this)
{
	return this->op == FERRY_OP_FLUSH && this->kind == TORTURE_RECORD_END && this->error == 0;
}

static void record_print(const struct torture_load *load, const struct torture_record *this)
{
	fprintf(load->report, "  %11.6f ", (double)(this->time_ns - load->began_ns) / 1e9);
	if (this->kind == TORTURE_RECORD_LOST)
		fprintf(load->report, "the volatile cache was lost\n");
	else if (this->kind == TORTURE_RECORD_FORGIVE)
		fprintf(load->report, "what was lost was told\n");
	else
		fprintf(load->report,
			"%s %s%s at connection %u, sectors %" PRIu64 "+%u, tag %" PRIu64 "%s%s\n",
			this->kind == TORTURE_RECORD_BEGIN ? "begin" : "end  ", op_name(this->op),
			this->flags & FERRY_IO_FUA ? " FUA" : "", this->client + 1, this->sector,
			this->sectors_count, this->tag, this->error ? ": " : "",
			this->error ? strerror(-this->error) : "");
}

/* The newest that touch @sector, oldest first; of the FLUSHes between two, the last. */
static void history_print(const struct torture_load *load, uint64_t sector)
{
	uint64_t first = load->records_count > TORTURE_RECORDS_COUNT
				 ? load->records_count - TORTURE_RECORDS_COUNT
				 : 0;
	uint64_t from = load->records_count;
	const struct torture_record *flush = NULL;
	uint32_t count = 0;

	while (from > first && count < HISTORY_MAX)
		count += record_is_of(&load->records[--from % TORTURE_RECORDS_COUNT], sector);
	for (uint64_t i = from; i < load->records_count; i++) {
		const struct torture_record *this = &load->records[i % TORTURE_RECORDS_COUNT];

		if (record_is_flush(this))
			flush = this;
		if (!record_is_of(this, sector))
			continue;
		if (flush)
			record_print(load, flush);
		flush = NULL;
		record_print(load, this);
	}
}

static void violation(struct torture_load *load, const struct torture_slot *slot,
		      const struct ferry_check_finding *finding)
{
	char text[160];

	load->figures.violations++;
	if (load->figures.violations > TORTURE_VIOLATIONS_MAX)
		return;
	ferry_check_describe(finding, text, sizeof(text));
	fprintf(load->report, "VIOLATION at %.6f s: connection %u: %s; its history:\n",
		(double)(torture_now_ns() - load->began_ns) / 1e9,
		(uint32_t)(slot->client - load->clients) + 1, text);
	history_print(load, finding->sector);
	(void)fflush(load->report);
}

/* ---- The ends of I/Os. ---- */

static void succeeded(struct torture_load *load, const struct torture_slot *slot, uint64_t now_ns)
{
	struct torture_figures *figures = &load->figures;

	figures->stall_ns_max = ferry_max_u64(figures->stall_ns_max, now_ns - load->success_ns);
	figures->latency_ns_max = ferry_max_u64(figures->latency_ns_max, now_ns - slot->began_ns);
	load->success_ns = now_ns;
	switch (slot->io.op) {
	case FERRY_OP_READ:
		figures->reads++;
		break;
	case FERRY_OP_WRITE:
		figures->writes++;
		figures->fua_writes += (slot->io.flags & FERRY_IO_FUA) != 0;
		break;
	case FERRY_OP_FLUSH:
		figures->flushes++;
		load->flush_failures[slot->client - load->clients] = 0;
		break;
	case FERRY_OP_DISCARD:
		figures->trims++;
		break;
	case FERRY_OP_WRITE_ZEROES:
		figures->zeroes++;
		break;
	default:
		ferry_unreachable("an operation that does not exist");
	}
}

static void failed(struct torture_load *load, const struct torture_slot *slot, int error)
{
	if (error == -ESHUTDOWN && slot->client->state == TORTURE_CLIENT_OFF) {
		load->figures.cut_off++;
		return;
	}
	load->figures.errors++;
	if (slot->io.op == FERRY_OP_FLUSH) {
		load->figures.flush_errors++;
		load->flush_failures[slot->client - load->clients]++;
	}
}

static void on_reply(struct torture_client *client, void *context, int error, const uint8_t *data)
{
	struct torture_slot *slot = context;
	struct torture_load *load = slot->load;
	uint64_t now_ns = torture_now_ns();
	struct ferry_check_finding finding;

	ferry_assert(slot->is_busy && slot->client == client);
	for (uint32_t i = 0;
	     error == 0 && slot->io.op == FERRY_OP_READ && i < slot->io.sectors_count; i++)
		if (ferry_check_sector(&load->check, &slot->io, i, data + (size_t)i * SECTOR,
				       &finding) != FERRY_CHECK_FINE)
			violation(load, slot, &finding);
	record(load, slot, TORTURE_RECORD_END, error);
	ferry_check_end(&load->check, &slot->io, error);
	slot->is_busy = false;
	load->busy--;
	if (error == 0)
		succeeded(load, slot, now_ns);
	else
		failed(load, slot, error);
	slot->due_ns = now_ns + (error ? ERROR_PAUSE_NS : 0) +
		       ferry_prng_below(&load->prng, load->config.think_ns + 1);
}

/* ---- Their beginnings. ---- */

/* Mostly a few sectors, sometimes many; at most @max. */
static uint32_t length_draw(struct torture_load *load, uint32_t grain, uint64_t max)
{
	uint64_t bound = ferry_prng_below(&load->prng, 8) > 0 ? 16 : IO_SECTORS_MAX;
	uint64_t length = (1 + ferry_prng_below(&load->prng, bound / grain)) * grain;

	return (uint32_t)ferry_min_u64(length, max);
}

static void io_draw(struct torture_load *load, struct torture_slot *slot)
{
	const uint16_t flags = slot->client->flags;
	uint64_t total = load->config.size_bytes / SECTOR;
	uint32_t grain = slot->client->block_bytes / SECTOR;
	uint64_t dice = ferry_prng_below(&load->prng, 100);

	slot->io = (struct ferry_check_io){.op = FERRY_OP_READ};
	if (dice < 4 && (flags & FERRY_NBD_SEND_FLUSH)) {
		slot->io.op = FERRY_OP_FLUSH;
		return;
	}
	slot->io.sector = ferry_prng_below(&load->prng, total / grain) * grain;
	slot->io.sectors_count = length_draw(load, grain, total - slot->io.sector);
	if (dice < 8 && (flags & FERRY_NBD_SEND_TRIM))
		slot->io.op = FERRY_OP_DISCARD;
	else if (dice < 12 && (flags & FERRY_NBD_SEND_WRITE_ZEROES))
		slot->io.op = FERRY_OP_WRITE_ZEROES;
	else if (dice < 55)
		slot->io.op = FERRY_OP_WRITE;
	if ((slot->io.op == FERRY_OP_WRITE || slot->io.op == FERRY_OP_WRITE_ZEROES) &&
	    (flags & FERRY_NBD_SEND_FUA) && ferry_prng_below(&load->prng, 10) == 0)
		slot->io.flags |= FERRY_IO_FUA;
	if (slot->io.op == FERRY_OP_WRITE_ZEROES && ferry_prng_below(&load->prng, 2) == 0)
		slot->io.flags |= FERRY_IO_NO_UNMAP;
}

static int slot_submit(struct torture_slot *slot)
{
	const struct ferry_check_io *io = &slot->io;

	if (io->op == FERRY_OP_WRITE)
		for (uint32_t i = 0; i < io->sectors_count; i++)
			ferry_check_encode(io->tag, io->sector + i,
					   slot->buffer + (size_t)i * SECTOR);
	return torture_client_submit(slot->client, io->op, io->flags, io->sector * SECTOR,
				     io->sectors_count * SECTOR, slot->buffer, slot);
}

static void slot_start(struct torture_load *load, struct torture_slot *slot, uint64_t now_ns)
{
	int r;

	r = ferry_check_begin(&load->check, &slot->io);
	if (r < 0) { /* Too much is remembered: only a FLUSH helps. */
		slot->io = (struct ferry_check_io){.op = FERRY_OP_FLUSH};
		r = ferry_check_begin(&load->check, &slot->io);
		ferry_assert(r == 0);
	}
	record(load, slot, TORTURE_RECORD_BEGIN, 0);
	slot->began_ns = now_ns;
	if (slot_submit(slot) < 0) {
		ferry_check_cancel(&load->check, &slot->io);
		slot->due_ns = now_ns + ERROR_PAUSE_NS;
		return;
	}
	slot->is_busy = true;
	load->busy++;
}

/* ---- Running. ---- */

static void client_connect(struct torture_load *load, uint32_t index, uint64_t now_ns)
{
	struct torture_client *client = &load->clients[index];

	if (client->state != TORTURE_CLIENT_OFF || load->is_held[index] ||
	    now_ns < load->retry_ns[index])
		return;
	load->retry_ns[index] = now_ns + RETRY_NS;
	torture_client_connect(client); /* Or again, after a while. */
}

static void slots_start(struct torture_load *load, uint64_t now_ns)
{
	for (uint32_t i = 0; i < load->clients_count * load->config.depth; i++) {
		struct torture_slot *slot = &load->slots[i];

		if (load->is_ending || slot->is_busy || slot->due_ns > now_ns ||
		    slot->client->state != TORTURE_CLIENT_READY)
			continue;
		io_draw(load, slot);
		slot_start(load, slot, now_ns);
	}
}

static void client_run(struct torture_load *load, struct torture_client *client, short ready)
{
	enum torture_client_state before = client->state;

	torture_client_run(client, ready);
	if (client->state == before)
		return;
	load->figures.connections += client->state == TORTURE_CLIENT_READY;
	load->figures.disconnections += before == TORTURE_CLIENT_READY;
	load->flush_failures[client - load->clients] = 0;
}

void torture_load_run(struct torture_load *load, int timeout_ms, int fd, bool *ret_fd_is_ready)
{
	struct pollfd polls[TORTURE_CLIENTS_MAX + 1];
	uint64_t now_ns = torture_now_ns();

	if (load->busy == 0 && !torture_load_is_ready(load))
		load->figures.stall_ns_max =
			ferry_max_u64(load->figures.stall_ns_max, now_ns - load->success_ns);
	for (uint32_t i = 0; i < load->clients_count; i++)
		client_connect(load, i, now_ns);
	slots_start(load, now_ns);
	for (uint32_t i = 0; i < load->clients_count; i++)
		polls[i] = (struct pollfd){.fd = load->clients[i].fd,
					   .events = torture_client_events(&load->clients[i])};
	polls[load->clients_count] = (struct pollfd){.fd = fd, .events = POLLIN};
	if (poll(polls, load->clients_count + 1, timeout_ms) <= 0)
		return;
	for (uint32_t i = 0; i < load->clients_count; i++)
		if (polls[i].revents && load->clients[i].fd == polls[i].fd)
			client_run(load, &load->clients[i], polls[i].revents);
	if (ret_fd_is_ready)
		*ret_fd_is_ready = polls[load->clients_count].revents != 0;
}

bool torture_load_is_ready(const struct torture_load *load)
{
	for (uint32_t i = 0; i < load->clients_count; i++)
		if (load->clients[i].state == TORTURE_CLIENT_READY)
			return true;
	return false;
}

bool torture_load_end(struct torture_load *load)
{
	load->is_ending = true;
	return load->busy == 0;
}

/* ---- One after the other: the beginning and the end. ---- */

/* Whatever connection serves. 0, or the error of the last try. */
static int io_once(struct torture_load *load, const struct ferry_check_io *io, uint64_t deadline_ns)
{
	struct torture_slot *slot = NULL;
	uint64_t errors = load->figures.errors + load->figures.cut_off;

	for (uint32_t i = 0; i < load->clients_count; i++)
		if (load->clients[i].state == TORTURE_CLIENT_READY)
			slot = &load->slots[i * load->config.depth];
	if (!slot)
		return -ENOTCONN;
	slot->io = *io;
	slot_start(load, slot, torture_now_ns());
	while (slot->is_busy && torture_now_ns() < deadline_ns)
		torture_load_run(load, 20, -1, NULL);
	if (slot->is_busy)
		return -ETIMEDOUT;
	return load->figures.errors + load->figures.cut_off == errors ? 0 : -EIO;
}

static int io_until(struct torture_load *load, const struct ferry_check_io *io,
		    uint64_t deadline_ns)
{
	int r;

	do {
		r = io_once(load, io, deadline_ns);
		if (r < 0 && r != -ETIMEDOUT)
			torture_load_run(load, 20, -1, NULL);
	} while (r < 0 && r != -ETIMEDOUT && torture_now_ns() < deadline_ns);
	return r;
}

int torture_load_wipe(struct torture_load *load, uint64_t timeout_ns, struct ferry_error *reterr)
{
	const uint64_t deadline_ns = torture_now_ns() + timeout_ns;
	const uint64_t total = load->config.size_bytes / SECTOR;
	int r = 0;

	load->is_ending = true;
	for (uint64_t sector = 0; r == 0 && sector < total; sector += IO_SECTORS_MAX) {
		struct ferry_check_io io = {
			.op = FERRY_OP_WRITE_ZEROES,
			.sector = sector,
			.sectors_count = (uint32_t)ferry_min_u64(total - sector, IO_SECTORS_MAX),
		};

		r = io_until(load, &io, deadline_ns);
	}
	if (r == 0)
		r = io_until(load, &(struct ferry_check_io){.op = FERRY_OP_FLUSH}, deadline_ns);
	load->is_ending = false;
	load->figures = (struct torture_figures){.connections = 1};
	load->success_ns = torture_now_ns();
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot make the volume's beginning zeroes: %s",
				       strerror(-r));
	return 0;
}

bool torture_load_read_all(struct torture_load *load, uint64_t timeout_ns)
{
	const uint64_t deadline_ns = torture_now_ns() + timeout_ns;
	const uint64_t total = load->config.size_bytes / SECTOR;

	ferry_assert(load->is_ending && load->busy == 0);
	for (uint64_t sector = 0; sector < total; sector += IO_SECTORS_MAX) {
		struct ferry_check_io io = {
			.op = FERRY_OP_READ,
			.sector = sector,
			.sectors_count = (uint32_t)ferry_min_u64(total - sector, IO_SECTORS_MAX),
		};

		if (io_until(load, &io, deadline_ns) < 0)
			return false;
	}
	return true;
}

/* ---- What the caller knows. ---- */

void torture_load_lost(struct torture_load *load)
{
	load->figures.losses++;
	record(load, NULL, TORTURE_RECORD_LOST, 0);
	ferry_check_lost(&load->check);
}

void torture_load_forgive(struct torture_load *load)
{
	load->figures.forgiven++;
	record(load, NULL, TORTURE_RECORD_FORGIVE, 0);
	ferry_check_forgive(&load->check);
}

void torture_load_drop(struct torture_load *load, uint32_t client)
{
	ferry_assert(client < load->clients_count);
	if (load->clients[client].state == TORTURE_CLIENT_READY)
		load->figures.disconnections++;
	torture_client_close(&load->clients[client]);
	load->retry_ns[client] = torture_now_ns() + RETRY_NS;
}

void torture_load_hold(struct torture_load *load, uint32_t client, bool is_held)
{
	ferry_assert(client < load->clients_count);
	load->is_held[client] = is_held;
}

/* ---- Opening. ---- */

static int memory_take(struct torture_load *load)
{
	const struct ferry_check_config check = {
		.sectors_count = load->config.size_bytes / SECTOR,
		.entries_max = (uint32_t)(load->config.size_bytes / SECTOR * ENTRIES_PER_SECTOR),
		.tag_first = load->config.seed << 32 | 1,
		.storage_tears = true, /* What is under the volume is not known here. */
	};
	const size_t size_bytes = (ferry_check_memory_bytes(&check) + 63) / 64 * 64;
	const size_t slots = FERRY_ARRAY_COUNT(load->slots);
	struct ferry_region region;

	load->memory = aligned_alloc(64, size_bytes); /* As a region wants it. */
	load->buffers = malloc(slots * TORTURE_CLIENT_IO_BYTES_MAX);
	load->records = calloc(TORTURE_RECORDS_COUNT, sizeof(*load->records));
	if (!load->memory || !load->buffers || !load->records)
		return -ENOMEM;
	for (size_t i = 0; i < slots; i++)
		load->slots[i].buffer = load->buffers + i * TORTURE_CLIENT_IO_BYTES_MAX;
	ferry_region_init(&region, load->memory, size_bytes);
	return ferry_check_init(&load->check, &region, &check);
}

int torture_load_init(struct torture_load *load, const struct torture_config *config,
		      struct ferry_error *reterr)
{
	int r;

	ferry_assert(config->depth > 0 && config->depth <= TORTURE_DEPTH_MAX);
	*load = (struct torture_load){.config = *config, .report = stdout};
	load->prng.state = config->seed;
	load->config.seed &= 0xffffff;
	load->began_ns = load->success_ns = torture_now_ns();
	r = memory_take(load);
	if (r < 0)
		return ferry_error_set(reterr, r, "no room for a check of that many bytes");
	return 0;
}

void torture_load_done(struct torture_load *load)
{
	for (uint32_t i = 0; i < load->clients_count; i++) {
		torture_client_close(&load->clients[i]);
		torture_client_done(&load->clients[i]);
	}
	free(load->memory);
	free(load->buffers);
	free(load->records);
	*load = (struct torture_load){0};
}

int torture_load_add(struct torture_load *load, const char *uri, struct ferry_error *reterr)
{
	struct torture_client *client = &load->clients[load->clients_count];
	int r;

	if (load->clients_count == TORTURE_CLIENTS_MAX)
		return ferry_error_set(reterr, -E2BIG, "too many connections");
	r = torture_client_init(client, uri, reterr);
	if (r < 0)
		return r;
	client->on_reply = on_reply;
	client->context = load;
	for (uint32_t i = 0; i < load->config.depth; i++) {
		struct torture_slot *slot =
			&load->slots[load->clients_count * load->config.depth + i];

		slot->load = load;
		slot->client = client;
	}
	load->clients_count++;
	return 0;
}
