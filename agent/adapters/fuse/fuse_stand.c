/*
 * fuse_stand.c - the FUSE front end over files in memory, for tests with real clients.
 *
 *   fuse_stand [--single] --mount PLACE --block-bytes N --volume NAME:FILE... [--read-only]
 *              [--no-discard] [--in-flight N] [--arena-kib N] [--close-ms N]
 *
 * The volumes behind it complete I/O in random order, are short of room (-EAGAIN) and of memory,
 * and check what the front end must never ask for. Prints "ready"; ends by SIGTERM, and then
 * prints its counters as JSON. SIGUSR1: remove the last volume. SIGUSR2: hold I/O, or let it go.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/fuse/fuse.h"
#include "agent/adapters/uring/loop.h"
#include "agent/base/prng.h"

enum { VOLUMES_MAX = 4, TURN_IOS_MAX = 8 };

struct volume {
	struct ferry_block block;
	struct stand *stand;
	uint8_t *data;
	uint64_t data_bytes;
	struct ferry_list pending;
	uint32_t pending_count;
};

struct stand {
	struct ferry_uring_loop *uring;
	struct ferry_loop *loop;
	struct ferry_fuse *fuse;
	struct ferry_events events;
	struct ferry_arena arena;
	struct volume volumes[VOLUMES_MAX];
	uint32_t volumes_count;
	struct ferry_task task;
	struct ferry_timer timer;
	struct ferry_watch signals;
	struct ferry_prng prng;
	uint32_t in_flight_max;
	uint32_t block_bytes;
	uint64_t arena_bytes;
	uint64_t close_ns;
	uint64_t again_count, fua_count, piece_bytes_max;
	bool is_read_only, no_discard, is_held;
	const char *mountpoint;
	bool is_single;
};

static void die(const char *what, int r)
{
	(void)fprintf(stderr, "fuse_stand: %s: %s\n", what, strerror(r < 0 ? -r : r));
	exit(1);
}

static void on_event(struct ferry_events *events, const struct ferry_event *event)
{
	(void)events;
	(void)fprintf(stderr, "event: %s\n", event->text);
}

static int submit(struct ferry_block *block, struct ferry_io *io)
{
	struct volume *volume = FERRY_CONTAINER_OF(block, struct volume, block);
	struct stand *stand = volume->stand;
	uint64_t bytes = (uint64_t)io->length_blocks * block->block_bytes;

	ferry_assert((io->flags & ~(uint32_t)FERRY_IO_FLAGS_ALL) == 0);
	ferry_assert((io->op == FERRY_OP_FLUSH) == (io->length_blocks == 0));
	ferry_assert(io->lba.v + io->length_blocks <= block->size_blocks);
	if (ferry_op_has_data(io->op))
		ferry_assert(bytes <= FERRY_IO_BYTES_MAX);
	else
		ferry_assert(bytes <= FERRY_IO_RANGE_BYTES_MAX);
	if (io->op == FERRY_OP_WRITE)
		ferry_assert(io->segments.length_bytes == bytes);
	ferry_assert(!block->is_read_only || !ferry_op_changes_blocks(io->op));
	if (volume->pending_count >= stand->in_flight_max) {
		stand->again_count++;
		return -EAGAIN;
	}
	if (io->flags & FERRY_IO_FUA)
		stand->fua_count++;
	if (bytes > stand->piece_bytes_max)
		stand->piece_bytes_max = bytes;
	ferry_list_append(&volume->pending, &io->link);
	volume->pending_count++;
	ferry_task_post(stand->loop, &stand->task);
	return 0;
}

static const struct ferry_block_ops block_ops = {.submit = submit};

/* False: no memory for the read. */
static bool complete(struct volume *volume, struct ferry_io *io)
{
	struct stand *stand = volume->stand;
	uint64_t offset = io->lba.v * volume->block.block_bytes;
	uint32_t bytes = io->length_blocks * volume->block.block_bytes;

	switch (io->op) {
	case FERRY_OP_READ:
		if (ferry_arena_take(&stand->arena, bytes, &io->segments) < 0)
			return false;
		ferry_segments_write(&io->segments, 0, volume->data + offset, bytes);
		break;
	case FERRY_OP_WRITE:
		ferry_segments_read(&io->segments, 0, volume->data + offset, bytes);
		break;
	case FERRY_OP_WRITE_ZEROES:
		memset(volume->data + offset, 0, bytes);
		break;
	case FERRY_OP_FLUSH:
		break;
	case FERRY_OP_DISCARD: /* Its content is undefined: a hole must not be made by it. */
	default:
		ferry_assert(io->op == FERRY_OP_READ);
	}
	ferry_list_remove(&io->link);
	volume->pending_count--;
	io->on_done(io, 0);
	return true;
}

static void run_volume(struct stand *stand, struct volume *volume)
{
	for (int i = 0; i < TURN_IOS_MAX && volume->pending_count > 0; i++) {
		struct ferry_list *link = volume->pending.next;
		uint64_t skip = ferry_prng_next(&stand->prng) % volume->pending_count;

		while (skip-- > 0)
			link = link->next;
		if (!complete(volume, ferry_list_entry(link, struct ferry_io, link))) {
			ferry_timer_start_in(stand->loop, &stand->timer, FERRY_NS_PER_MS);
			return;
		}
	}
	if (volume->pending_count > 0)
		ferry_task_post(stand->loop, &stand->task);
}

static void on_task(struct ferry_task *task)
{
	struct stand *stand = FERRY_CONTAINER_OF(task, struct stand, task);

	for (uint32_t i = 0; i < stand->volumes_count && !stand->is_held; i++)
		run_volume(stand, &stand->volumes[i]);
}

static void on_timer(struct ferry_timer *timer)
{
	on_task(&FERRY_CONTAINER_OF(timer, struct stand, timer)->task);
}

static void on_removed(void *context)
{
	(void)context;
	(void)printf("removed\n");
}

static void on_closed(void *context)
{
	struct stand *stand = context;

	stand->fuse = NULL;
	stand->loop->ops->watch_stop(stand->loop, &stand->signals);
	ferry_timer_stop(stand->loop, &stand->timer);
	ferry_task_cancel(stand->loop, &stand->task);
	ferry_uring_loop_stop(stand->uring);
}

static void print_counters(const struct stand *stand)
{
	struct ferry_fuse_counters c;

	ferry_fuse_counters_get(stand->fuse, &c);
	(void)printf("{\"reads\":%llu,\"writes\":%llu,\"flushes\":%llu,\"zeroes\":%llu,"
		     "\"refused\":%llu,\"failed\":%llu,\"stalled\":%llu,\"in_flight\":%u,"
		     "\"again\":%llu,\"fua\":%llu,\"piece_bytes_max\":%llu}\n",
		     (unsigned long long)c.reads, (unsigned long long)c.writes,
		     (unsigned long long)c.flushes, (unsigned long long)c.zeroes,
		     (unsigned long long)c.refused, (unsigned long long)c.failed,
		     (unsigned long long)c.stalled, c.in_flight,
		     (unsigned long long)stand->again_count, (unsigned long long)stand->fua_count,
		     (unsigned long long)stand->piece_bytes_max);
}

static void on_signal(struct ferry_watch *watch, uint32_t ready)
{
	struct stand *stand = FERRY_CONTAINER_OF(watch, struct stand, signals);
	struct volume *last = &stand->volumes[stand->volumes_count - 1];
	struct signalfd_siginfo info;

	(void)ready;
	if (read(watch->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (info.ssi_signo == SIGUSR1) {
		(void)printf("remove: %d\n",
			     ferry_fuse_remove(stand->fuse, &last->block, on_removed, stand));
	} else if (info.ssi_signo == SIGUSR2) {
		stand->is_held = !stand->is_held;
		(void)printf("held: %d\n", stand->is_held);
		ferry_task_post(stand->loop, &stand->task);
	} else {
		print_counters(stand);
		ferry_fuse_close(stand->fuse, ferry_loop_now_ns(stand->loop) + stand->close_ns,
				 on_closed, stand);
	}
}

static void add_volume(struct stand *stand, char *spec)
{
	struct volume *volume = &stand->volumes[stand->volumes_count++];
	char *file = strchr(spec, ':');
	struct stat attr;
	int fd;

	if (!file || stand->volumes_count > VOLUMES_MAX)
		die("--volume NAME:FILE", EINVAL);
	*file++ = '\0';
	fd = open(file, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &attr) < 0)
		die(file, errno);
	volume->stand = stand;
	volume->data_bytes = (uint64_t)attr.st_size;
	volume->data = mmap(NULL, volume->data_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (volume->data == MAP_FAILED)
		die("mmap", errno);
	(void)close(fd);
	ferry_list_init(&volume->pending);
	volume->block.name = spec;
}

static void parse(struct stand *stand, int argc, char **argv)
{
	static const struct option options[] = {
		{"mount", required_argument, NULL, 'm'},
		{"single", no_argument, NULL, 's'},
		{"block-bytes", required_argument, NULL, 'b'},
		{"volume", required_argument, NULL, 'v'},
		{"read-only", no_argument, NULL, 'r'},
		{"no-discard", no_argument, NULL, 'd'},
		{"in-flight", required_argument, NULL, 'i'},
		{"arena-kib", required_argument, NULL, 'a'},
		{"close-ms", required_argument, NULL, 'c'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		switch (c) {
		case 'm':
			stand->mountpoint = optarg;
			break;
		case 's':
			stand->is_single = true;
			break;
		case 'b':
			stand->block_bytes = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'v':
			add_volume(stand, optarg);
			break;
		case 'r':
			stand->is_read_only = true;
			break;
		case 'd':
			stand->no_discard = true;
			break;
		case 'i':
			stand->in_flight_max = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'a':
			stand->arena_bytes = strtoul(optarg, NULL, 10) * FERRY_KIB;
			break;
		case 'c':
			stand->close_ns = strtoul(optarg, NULL, 10) * FERRY_NS_PER_MS;
			break;
		default:
			exit(2);
		}
	if (!stand->mountpoint || stand->volumes_count == 0)
		die("--mount and --volume are needed", EINVAL);
}

static void make_arena(struct stand *stand)
{
	size_t region_bytes = FERRY_MIB;
	struct ferry_region region;
	void *memory, *table;

	memory = aligned_alloc(FERRY_CHUNK_BYTES, stand->arena_bytes);
	table = aligned_alloc(64, region_bytes);
	if (!memory || !table)
		die("memory", ENOMEM);
	memset(table, 0, region_bytes);
	ferry_region_init(&region, table, region_bytes);
	if (ferry_arena_init(&stand->arena, &region, memory, stand->arena_bytes) < 0)
		die("arena", ENOMEM);
}

static void open_all(struct stand *stand)
{
	struct ferry_fuse_config config = {.loop = stand->loop,
					   .mountpoint = stand->mountpoint,
					   .is_single_file = stand->is_single,
					   .events = &stand->events};
	struct ferry_error error = {0};

	if (ferry_fuse_open(&config, &stand->fuse, &error) < 0) {
		(void)fprintf(stderr, "fuse_stand: %s\n", error.message);
		exit(3);
	}
	for (uint32_t i = 0; i < stand->volumes_count; i++) {
		struct ferry_block *block = &stand->volumes[i].block;

		block->ops = &block_ops;
		block->block_bytes = stand->block_bytes;
		block->size_blocks = stand->volumes[i].data_bytes / stand->block_bytes;
		block->can_discard = !stand->no_discard;
		block->is_read_only = stand->is_read_only;
		block->loop = stand->loop;
		block->arena = &stand->arena;
		if (ferry_fuse_add(stand->fuse, block, &error) < 0) {
			(void)fprintf(stderr, "fuse_stand: %s\n", error.message);
			exit(3);
		}
	}
}

int main(int argc, char **argv)
{
	static struct stand stand = {.in_flight_max = 64,
				     .block_bytes = 512,
				     .arena_bytes = 8 * FERRY_MIB,
				     .close_ns = 5 * FERRY_NS_PER_S,
				     .task = {.run = on_task},
				     .timer = {.run = on_timer},
				     .events = {.emit = on_event}};
	struct ferry_error error = {0};
	sigset_t set;
	int r;

	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	parse(&stand, argc, argv);
	stand.prng.state = 1; /* One seed, one order. */
	make_arena(&stand);
	if (ferry_uring_loop_open(&stand.uring, &error) < 0)
		die(error.message, -error.code);
	stand.loop = ferry_uring_loop_of(stand.uring);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGUSR1);
	(void)sigaddset(&set, SIGUSR2);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	stand.signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	stand.signals.run = on_signal;
	r = stand.loop->ops->watch_start(stand.loop, &stand.signals, FERRY_WATCH_READ);
	if (r < 0)
		die("signalfd", r);
	open_all(&stand);
	(void)printf("ready\n");
	r = ferry_uring_loop_run(stand.uring);
	ferry_uring_loop_close(stand.uring);
	return r < 0 ? 1 : 0;
}
