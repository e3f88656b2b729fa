/*
 * slow_disk.c - for tests: preloaded into the target, it holds writes to the second MiB of the
 * backing file while the file $FERRY_SLOW_DISK exists, ten seconds at most. A disk that is slow on
 * demand, so that a command can be caught inside of the target.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

enum { HOLD_FROM = 1 << 20, HOLD_TO = 2 << 20, HOLD_MS_MAX = 10 * 1000 };

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset);

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	static ssize_t (*next)(int, const void *, size_t, off64_t);
	const char *path = getenv("FERRY_SLOW_DISK");

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "pwrite64");
	if (path && offset >= HOLD_FROM && offset < HOLD_TO)
		for (int i = 0; i < HOLD_MS_MAX && access(path, F_OK) == 0; i++)
			usleep(1000);
	return next(fd, data, length, offset);
}
