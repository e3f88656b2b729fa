/*
 * tgt-volatile.c - preloaded into tgtd: gives each lun a volatile write cache, and power cuts.
 *
 * What tgtd writes or punches into .../lunN.img goes there (the view: what reads see) and, in
 * order, into the cache's log. fsync and fdatasync, which tgtd makes of SYNCHRONIZE CACHE and of
 * FUA, carry the log over into lunN.durable, and only they do: what is in the log is not on the
 * medium yet. At a power cut each write of the log is kept, dropped or torn, sector by sector, by
 * a seed; so the image that the target finds when it comes back has lost what nobody flushed. The
 * end of tgtd alone is no power cut: the log is in a shared file and outlives it.
 *
 * $TGT_VOLATILE is a file of 64-bit words in rows of eight, which anybody may read and write:
 *   row 0: stalled (every request waits while it is not 0), lying (flushes are answered and not
 *          done), the number of power cuts, their seed, requests that wait in a stall
 *   row N: lun N's writes that a power cut kept, dropped, tore; flushes; writes carried over
 *          without one since the log was full; bytes in the log
 * A power cut is: end tgtd, add 1 to the number, start tgtd.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LUNS_MAX 32
#define FDS_MAX 1024
#define ROW 8
#define SECTOR 512
#define LOG_BYTES ((uint64_t)32 << 20)

enum word { STALLED, LYING, CUTS, SEED, WAITING };
enum row_word { KEPT, DROPPED, TORN, FLUSHES, CARRIED, LOG_USED };

/* Ahead of the log; the log's end moves after the record is whole. */
struct cache {
	_Atomic uint64_t used_bytes;
	_Atomic uint64_t cuts; /* As many power cuts as it has been through. */
	uint64_t unused[6];
	unsigned char log[];
};

/* The bytes of a write follow; a punched hole has none. */
struct record {
	uint64_t offset;
	uint64_t size;
	uint64_t has_bytes;
};

struct lun {
	struct cache *cache;
	int view;
	int durable;
};

static _Atomic uint64_t *table; /* The shared file; NULL: nothing is volatile. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct lun luns[LUNS_MAX + 1];
static int lun_of_fd[FDS_MAX]; /* 0: not looked at yet, -1: no lun. */

/* The next definition of @name after ours: libc's. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void give_up(const char *what)
{
	perror(what);
	abort(); /* A lab whose storage is not what it says is worth nothing. */
}

static void *file_map(const char *path, size_t size_bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	void *map;

	if (fd < 0 || ftruncate(fd, (off_t)size_bytes) < 0)
		give_up(path);
	map = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		give_up(path);
	close(fd);
	return map;
}

__attribute__((constructor)) static void open_table(void)
{
	const char *path = getenv("TGT_VOLATILE");

	if (!path)
		return;
	table = file_map(path, (LUNS_MAX + 1) * ROW * sizeof(*table));
	table[WAITING] = 0; /* Of the tgtd before. */
}

/* Write @size bytes, or zeroes, at @offset of @fd, and all of it. */
static void put(int fd, const void *bytes, uint64_t size, uint64_t offset)
{
	static const unsigned char zeroes[64 * 1024];

	while (size > 0) {
		size_t step = bytes || size < sizeof(zeroes) ? size : sizeof(zeroes);
		ssize_t done = NEXT(pwrite64)(fd, bytes ? bytes : zeroes, step, (off64_t)offset);

		if (done <= 0)
			give_up("write");
		bytes = bytes ? (const unsigned char *)bytes + done : NULL;
		offset += (uint64_t)done;
		size -= (uint64_t)done;
	}
}

static struct record record_at(const struct cache *cache, uint64_t at)
{
	struct record record;

	memcpy(&record, cache->log + at, sizeof(record));
	return record;
}

static uint64_t record_bytes(const struct record *record)
{
	return sizeof(*record) + (record->has_bytes ? record->size : 0);
}

static const unsigned char *bytes_at(const struct cache *cache, uint64_t at)
{
	return record_at(cache, at).has_bytes ? cache->log + at + sizeof(struct record) : NULL;
}

/* Every record in order to @fd. Doing it twice is as good as once. */
static void log_play(const struct cache *cache, int fd)
{
	struct record record;

	for (uint64_t at = 0; at < cache->used_bytes; at += record_bytes(&record)) {
		record = record_at(cache, at);
		put(fd, bytes_at(cache, at), record.size, record.offset);
	}
}

/* splitmix64 */
static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* The medium's own fate of one write: kept, dropped, or some of its sectors. */
static void settle(struct lun *lun, int number, uint64_t at, uint64_t *state)
{
	struct record record = record_at(lun->cache, at);
	const unsigned char *bytes = bytes_at(lun->cache, at);
	uint64_t fate = draw(state) % 3;

	atomic_fetch_add(&table[number * ROW + (int)fate], 1);
	if (fate == DROPPED)
		return;
	for (uint64_t done = 0; done < record.size; done += SECTOR) {
		uint64_t size = record.size - done < SECTOR ? record.size - done : SECTOR;

		if (fate == KEPT || draw(state) % 2 == 0)
			put(lun->durable, bytes ? bytes + done : NULL, size, record.offset + done);
	}
}

/* What the log's writes touched reads from now on as the medium has it. */
static void view_renew(struct lun *lun, uint64_t offset, uint64_t size)
{
	unsigned char buffer[64 * 1024];

	while (size > 0) {
		size_t step = size < sizeof(buffer) ? size : sizeof(buffer);
		ssize_t done = NEXT(pread64)(lun->durable, buffer, step, (off64_t)offset);

		if (done <= 0)
			give_up("read");
		put(lun->view, buffer, (uint64_t)done, offset);
		offset += (uint64_t)done;
		size -= (uint64_t)done;
	}
}

static void power_cut(struct lun *lun, int number)
{
	struct cache *cache = lun->cache;
	uint64_t state = table[SEED] * 1000003 + table[CUTS] * 131 + (uint64_t)number;
	struct record record;

	for (uint64_t at = 0; at < cache->used_bytes; at += record_bytes(&record)) {
		record = record_at(cache, at);
		settle(lun, number, at, &state);
	}
	for (uint64_t at = 0; at < cache->used_bytes; at += record_bytes(&record)) {
		record = record_at(cache, at);
		view_renew(lun, record.offset, record.size);
	}
	cache->used_bytes = 0;
	cache->cuts = table[CUTS];
}

/* Its first use since tgtd's start: a power cut, or what a killed tgtd may have left half done. */
static void lun_attach(int number, const char *image)
{
	struct lun *lun = &luns[number];
	char path[4096 + 16];
	const size_t stem = strlen(image) - strlen(".img");
	off64_t size_bytes;

	snprintf(path, sizeof(path), "%.*s.cache", (int)stem, image);
	lun->cache = file_map(path, sizeof(struct cache) + LOG_BYTES);
	lun->view = open(image, O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "%.*s.durable", (int)stem, image);
	lun->durable = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (lun->view < 0 || lun->durable < 0)
		give_up(image);
	size_bytes = lseek64(lun->view, 0, SEEK_END);
	if (ftruncate64(lun->durable, size_bytes) < 0)
		give_up(path);
	if (lun->cache->cuts != table[CUTS])
		power_cut(lun, number);
	else
		log_play(lun->cache, lun->view);
}

/* Under the lock. The lun whose image is open as @fd, or NULL. */
static struct lun *lun_of(int fd)
{
	char link[64], path[4096];
	const char *name;
	ssize_t length;
	int number = -1;

	if (!table || fd < 0 || fd >= FDS_MAX || lun_of_fd[fd] < 0)
		return NULL;
	if (lun_of_fd[fd] == 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, path, sizeof(path) - 1);
		path[length < 0 ? 0 : length] = '\0';
		name = strrchr(path, '/');
		if (!name || sscanf(name, "/lun%d.img", &number) != 1 || number > LUNS_MAX)
			number = -1;
		lun_of_fd[fd] = number;
		if (number > 0 && !luns[number].cache)
			lun_attach(number, path);
	}
	return lun_of_fd[fd] > 0 ? &luns[lun_of_fd[fd]] : NULL;
}

static void carry_over(struct lun *lun)
{
	log_play(lun->cache, lun->durable);
	lun->cache->used_bytes = 0;
	table[(lun - luns) * ROW + LOG_USED] = 0;
}

static void log_add(struct lun *lun, const void *bytes, uint64_t size, uint64_t offset)
{
	struct cache *cache = lun->cache;
	struct record record = {.offset = offset, .size = size, .has_bytes = bytes != NULL};

	if (cache->used_bytes + record_bytes(&record) > LOG_BYTES) {
		carry_over(lun); /* As a cache writes back when it is full. */
		atomic_fetch_add(&table[(lun - luns) * ROW + CARRIED], 1);
	}
	if (record_bytes(&record) > LOG_BYTES)
		abort();
	memcpy(cache->log + cache->used_bytes, &record, sizeof(record));
	if (bytes)
		memcpy(cache->log + cache->used_bytes + sizeof(record), bytes, size);
	cache->used_bytes += record_bytes(&record); /* In, or not: nothing between. */
	table[(lun - luns) * ROW + LOG_USED] = cache->used_bytes;
}

/* Every request: it waits while the medium is stalled, and has the lock until leave(). */
static struct lun *enter(int fd)
{
	const struct timespec step = {.tv_nsec = 1000000};
	struct lun *lun;

	pthread_mutex_lock(&lock);
	lun = lun_of(fd);
	if (!lun || !table[STALLED])
		return lun;
	atomic_fetch_add(&table[WAITING], 1);
	while (table[STALLED]) {
		pthread_mutex_unlock(&lock);
		nanosleep(&step, NULL);
		pthread_mutex_lock(&lock);
	}
	atomic_fetch_sub(&table[WAITING], 1);
	return lun;
}

static void leave(void)
{
	pthread_mutex_unlock(&lock);
}

ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset)
{
	ssize_t done;

	(void)enter(fd);
	done = NEXT(pread64)(fd, buffer, size, offset);
	leave();
	return done;
}

ssize_t pwrite64(int fd, const void *buffer, size_t size, off64_t offset)
{
	struct lun *lun = enter(fd);
	ssize_t done;

	if (lun)
		log_add(lun, buffer, size, (uint64_t)offset);
	done = NEXT(pwrite64)(fd, buffer, size, offset);
	leave();
	return done;
}

/* Of a lun. The medium of this lab is the durable file, in memory. */
static void flush(struct lun *lun)
{
	atomic_fetch_add(&table[(lun - luns) * ROW + FLUSHES], 1);
	if (!table[LYING])
		carry_over(lun);
}

int fsync(int fd)
{
	struct lun *lun = enter(fd);

	if (lun)
		flush(lun);
	leave();
	return lun ? 0 : NEXT(fsync)(fd);
}

int fdatasync(int fd)
{
	struct lun *lun = enter(fd);

	if (lun)
		flush(lun);
	leave();
	return lun ? 0 : NEXT(fdatasync)(fd);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
	struct lun *lun = enter(fd);
	int r;

	if (lun && (mode & FALLOC_FL_PUNCH_HOLE))
		log_add(lun, NULL, (uint64_t)size, (uint64_t)offset);
	r = NEXT(fallocate)(fd, mode, offset, size);
	leave();
	return r;
}
