/*
 * tgt-count.c - preloaded into tgtd: counts the I/O it does on the luns' images.
 *
 * tgtd's "rdwr" backing store makes one pread/pwrite of each READ/WRITE command, one
 * fsync or fdatasync of each SYNCHRONIZE CACHE and one fallocate of each unmapped
 * extent. These are counted here in a shared file that anybody may read, and reads
 * and writes can be delayed. Only files named .../lunN.img are looked at.
 *
 * And each read and write of them is done at once, as a disk does a sector: a page cache copies
 * it byte by byte, and a read beside a write may find half of each.
 *
 * The file: 64-bit words in rows of eight. Row 0: read delay, write delay (µs).
 * Row N: lun N's reads, read bytes, writes, written bytes, flushes, discards.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
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

enum word { READS, READ_BYTES, WRITES, WRITE_BYTES, FLUSHES, DISCARDS };

static _Atomic uint64_t *table;	       /* The shared file; NULL: nothing is counted. */
static _Atomic int lun_of_fd[FDS_MAX]; /* 0: not looked at yet, -1: no lun. */
static pthread_rwlock_t at_once = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

__attribute__((constructor)) static void open_table(void)
{
	const size_t size_bytes = (LUNS_MAX + 1) * ROW * sizeof(*table);
	const char *path = getenv("TGT_COUNT");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;

	if (fd < 0 || ftruncate(fd, (off_t)size_bytes) < 0)
		return;
	table = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (table == MAP_FAILED)
		table = NULL;
	close(fd);
}

/* The lun whose image is open as @fd, or -1. tgtd keeps its images open for good. */
static int lun_of(int fd)
{
	char link[64], path[4096];
	const char *name;
	ssize_t length;
	int lun = -1;

	if (!table || fd < 0 || fd >= FDS_MAX)
		return -1;
	if (lun_of_fd[fd] != 0)
		return lun_of_fd[fd];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	path[length < 0 ? 0 : length] = '\0';
	name = strrchr(path, '/');
	if (!name || sscanf(name, "/lun%d.img", &lun) != 1 || lun < 1 || lun > LUNS_MAX)
		lun = -1;
	lun_of_fd[fd] = lun;
	return lun;
}

static void count(int fd, enum word word, uint64_t n)
{
	int lun = lun_of(fd);

	if (lun > 0)
		atomic_fetch_add(&table[lun * ROW + word], n);
}

static void delay(int fd, int word)
{
	uint64_t us = lun_of(fd) > 0 ? table[word] : 0;
	struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

	if (us > 0)
		nanosleep(&t, NULL);
}

/* The next definition of @name after ours: libc's. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset)
{
	ssize_t done;

	count(fd, READS, 1);
	count(fd, READ_BYTES, size);
	delay(fd, 0);
	pthread_rwlock_rdlock(&at_once);
	done = NEXT(pread64)(fd, buffer, size, offset);
	pthread_rwlock_unlock(&at_once);
	return done;
}

ssize_t pwrite64(int fd, const void *buffer, size_t size, off64_t offset)
{
	ssize_t done;

	count(fd, WRITES, 1);
	count(fd, WRITE_BYTES, size);
	delay(fd, 1);
	pthread_rwlock_wrlock(&at_once);
	done = NEXT(pwrite64)(fd, buffer, size, offset);
	pthread_rwlock_unlock(&at_once);
	return done;
}

int fsync(int fd)
{
	count(fd, FLUSHES, 1);
	return NEXT(fsync)(fd);
}

int fdatasync(int fd)
{
	count(fd, FLUSHES, 1);
	return NEXT(fdatasync)(fd);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
	count(fd, DISCARDS, 1);
	return NEXT(fallocate)(fd, mode, offset, size);
}
