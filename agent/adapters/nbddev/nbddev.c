#include "agent/adapters/nbddev/nbddev.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/adapters/common/cleanup.h"
#include "agent/adapters/common/line.h"
#include "agent/adapters/nbddev/private.h"

enum {
	DEVICES_MAX = 4096,   /* A bound for the walk through /sys/block. */
	USERS_WAIT_MS = 1000, /* udev looks at devices at odd moments. */
	STEP_MS = 10,
	REQUEST_KIB_MAX = 1024, /* The largest request that the server takes. */
};

static void wait_step(void)
{
	struct timespec step = {.tv_nsec = STEP_MS * (long)FERRY_NS_PER_MS};

	(void)nanosleep(&step, NULL);
}

/* ---- Whose a device is. ---- */

/* Empty: nobody's, or not one of ours. */
static void identity_read(const struct nbddev_kernel *kernel, uint32_t index,
			  char ret[FERRY_NBDDEV_IDENTITY_BYTES])
{
	if (ferry_line_read(ret, FERRY_NBDDEV_IDENTITY_BYTES, "%.90s/nbd%u/backend",
			    kernel->sys_block, index) < 0)
		ret[0] = '\0';
}

static bool is_of(const struct nbddev_kernel *kernel, uint32_t index, const char *identity)
{
	char is[FERRY_NBDDEV_IDENTITY_BYTES];

	identity_read(kernel, index, is);
	return strcmp(is, identity) == 0;
}

static DIR *devices_open(const struct nbddev_kernel *kernel)
{
	return opendir(kernel->sys_block);
}

/* The next device that bears an identity; false: no more. */
static bool devices_next(const struct nbddev_kernel *kernel, DIR *directory, uint32_t *ret_index,
			 char ret_identity[FERRY_NBDDEV_IDENTITY_BYTES])
{
	const struct dirent *entry;

	for (int i = 0; i < DEVICES_MAX && (entry = readdir(directory)); i++) {
		char *end;
		unsigned long number;

		if (strncmp(entry->d_name, "nbd", 3) != 0)
			continue;
		number = strtoul(entry->d_name + 3, &end, 10);
		if (*end != '\0' || end == entry->d_name + 3 || number >= UINT32_MAX)
			continue;
		identity_read(kernel, (uint32_t)number, ret_identity);
		if (!ret_identity[0])
			continue;
		*ret_index = (uint32_t)number;
		return true;
	}
	return false;
}

/* ---- Dead or alive. ---- */

/*
 * A device whose server has gone is ended, with all I/O that it holds; true if it was one.
 * The kernel does not say which is dead, but it takes a new connection only in place of a dead one:
 * it is offered one that leads nowhere. Whether it kept it shows at the other end.
 */
static bool end_if_dead(const struct nbddev_kernel *kernel, const char *identity, uint32_t index)
{
	struct pollfd other = {.events = POLLIN};
	int pair[2];
	bool is_dead;
	int r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	r = kernel->reconnect(identity, index, pair[0]);
	(void)close(pair[0]);
	other.fd = pair[1];
	is_dead = r == 0 && !(poll(&other, 1, 0) > 0 && other.revents & POLLHUP);
	(void)close(pair[1]); /* First: so that no sender of the kernel's waits for us. */
	if (is_dead)
		(void)kernel->disconnect(index); /* Gone in between is as good. */
	return is_dead || r == -EINVAL;
}

/* It is disconnected: free with its last user. */
static int gone_wait(const struct nbddev_kernel *kernel, const char *identity, uint32_t index)
{
	for (int waited_ms = 0; is_of(kernel, index, identity); waited_ms += STEP_MS) {
		if (waited_ms >= USERS_WAIT_MS)
			return -EBUSY;
		wait_step();
	}
	return 0;
}

/* The device of @identity, dead or alive. */
static int find(const struct nbddev_kernel *kernel, const char *identity, uint32_t *ret_index,
		struct ferry_error *reterr)
{
	_cleanup_(ferry_closedirp) DIR *directory = NULL;
	char is[FERRY_NBDDEV_IDENTITY_BYTES];
	uint32_t index;

	ferry_assert(identity[0]);
	directory = devices_open(kernel);
	while (directory && devices_next(kernel, directory, &index, is))
		if (strcmp(is, identity) == 0) {
			*ret_index = index;
			return 0;
		}
	return ferry_error_set(reterr, -ENOENT, "no nbd device is %s", identity);
}

/* ---- What is asked. ---- */

static int device_is(const struct nbddev_kernel *kernel, uint32_t index,
		     char ret[FERRY_NBDDEV_PATH_MAX])
{
	char path[FERRY_NBDDEV_PATH_MAX];

	(void)snprintf(path, sizeof(path), "%.16s/nbd%u", kernel->dev, index);
	for (int waited_ms = 0; access(path, F_OK) < 0; waited_ms += STEP_MS) {
		if (waited_ms >= USERS_WAIT_MS)
			return -ENOENT; /* A new one, and nobody makes its node. */
		wait_step();
	}
	memcpy(ret, path, sizeof(path));
	return 0;
}

static int limit_set(const struct nbddev_kernel *kernel, uint32_t index)
{
	char path[128];
	FILE *file;
	int r;

	(void)snprintf(path, sizeof(path), "%.80s/nbd%u/queue/max_sectors_kb", kernel->sys_block,
		       index);
	file = fopen(path, "we");
	if (!file)
		return -errno;
	r = fprintf(file, "%d\n", REQUEST_KIB_MAX) < 0 ? -EIO : 0;
	if (fclose(file) != 0 && r == 0)
		r = -errno;
	return r;
}

int nbddev_attach(const struct nbddev_kernel *kernel, const char *identity, int fd,
		  const struct ferry_nbddev_shape *shape, char ret_device[FERRY_NBDDEV_PATH_MAX],
		  struct ferry_error *reterr)
{
	uint32_t index = 0;
	int r;

	ferry_assert(identity[0] && strlen(identity) < FERRY_NBDDEV_IDENTITY_BYTES);
	ferry_assert(fd >= 0);
	if (shape->block_bytes != 512 && shape->block_bytes != 4096)
		return ferry_error_set(reterr, -EINVAL, "%s has blocks of %u bytes", identity,
				       shape->block_bytes);
	r = kernel->connect(identity, fd, shape, &index);
	if (r == -ENODEV)
		return ferry_error_set(reterr, r,
				       "no nbd: the kernel has no such driver here (modprobe nbd)");
	if (r < 0)
		return ferry_error_set(reterr, r, "the nbd driver makes no device: %s",
				       strerror(-r));
	r = is_of(kernel, index, identity) ? 0 : -EOPNOTSUPP;
	if (r == 0)
		r = limit_set(kernel, index);
	if (r == 0)
		r = device_is(kernel, index, ret_device);
	if (r == 0)
		return 0;
	(void)kernel->disconnect(index); /* Nobody has been told of it. */
	return ferry_error_set(reterr, r, "/dev/nbd%u cannot be used: %s", index,
			       r == -EOPNOTSUPP ? "the kernel's nbd knows no identities: Linux "
						  "5.14 or later"
						: strerror(-r));
}

int nbddev_find(const struct nbddev_kernel *kernel, const char *identity,
		char ret_device[FERRY_NBDDEV_PATH_MAX], struct ferry_error *reterr)
{
	uint32_t index = 0;
	int r = find(kernel, identity, &index, reterr);

	if (r < 0)
		return r;
	r = device_is(kernel, index, ret_device);
	return r < 0 ? ferry_error_set(reterr, r, "there is no /dev/nbd%u", index) : 0;
}

int nbddev_end_dead(const struct nbddev_kernel *kernel, const char *identity,
		    struct ferry_error *reterr)
{
	_cleanup_(ferry_closedirp) DIR *directory = devices_open(kernel);
	char is[FERRY_NBDDEV_IDENTITY_BYTES];
	uint32_t index;

	while (directory && devices_next(kernel, directory, &index, is)) {
		if (strcmp(is, identity) != 0 || !end_if_dead(kernel, identity, index))
			continue;
		if (gone_wait(kernel, identity, index) < 0)
			return ferry_error_set(reterr, -EBUSY,
					       "/dev/nbd%u, which gives only errors now, is in "
					       "use; unmount it (or stop what has it open) first",
					       index);
	}
	return 0;
}

static int open_exclusive(const char *device)
{
	int fd;

	for (int waited_ms = 0;; waited_ms += STEP_MS) {
		/* Mounts and other claims show as EBUSY. */
		fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno != EBUSY || waited_ms >= USERS_WAIT_MS)
			return -errno;
		wait_step();
	}
}

int nbddev_detach(const struct nbddev_kernel *kernel, const char *identity,
		  struct ferry_error *reterr)
{
	char device[FERRY_NBDDEV_PATH_MAX];
	uint32_t index = 0;
	int fd, r;

	r = nbddev_find(kernel, identity, device, reterr);
	if (r < 0)
		return r;
	r = nbddev_end_dead(kernel, identity, reterr);
	if (r < 0 || find(kernel, identity, &index, reterr) < 0)
		return r; /* Or that was all. */
	fd = open_exclusive(device);
	if (fd == -EBUSY)
		return ferry_error_set(reterr, fd, "%s is in use; unmount it first", device);
	if (fd < 0)
		return ferry_error_set(reterr, fd, "%s: %s", device, strerror(-fd));
	/*
	 * Who has merely opened it may have written through the page cache. No FLUSH: while those
	 * fail for what was lost before, it has to be detached all the same.
	 */
	r = sync_file_range(fd, 0, 0,
			    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				    SYNC_FILE_RANGE_WAIT_AFTER) < 0
		    ? -errno
		    : 0;
	if (r == 0)
		r = kernel->disconnect(index);
	(void)close(fd); /* Till now, so that nobody else could begin to use it. */
	if (r == 0)
		r = gone_wait(kernel, identity, index);
	return r < 0 ? ferry_error_set(reterr, r, "cannot detach %s: %s", device, strerror(-r)) : 0;
}

uint32_t nbddev_clear(const struct nbddev_kernel *kernel, const char *path)
{
	_cleanup_(ferry_closedirp) DIR *directory = NULL;
	char identity[FERRY_NBDDEV_IDENTITY_BYTES];
	uint32_t index, count = 0;

	ferry_assert(path[0]);
	directory = devices_open(kernel);
	while (directory && devices_next(kernel, directory, &index, identity)) {
		const char *socket = strstr(identity, "?socket=");

		if (socket && strcmp(socket + strlen("?socket="), path) == 0 &&
		    end_if_dead(kernel, identity, index))
			count++;
	}
	return count;
}

int ferry_nbddev_attach(const char *identity, int fd, const struct ferry_nbddev_shape *shape,
			char ret_device[FERRY_NBDDEV_PATH_MAX], struct ferry_error *reterr)
{
	return nbddev_attach(&nbddev_netlink, identity, fd, shape, ret_device, reterr);
}

int ferry_nbddev_find(const char *identity, char ret_device[FERRY_NBDDEV_PATH_MAX],
		      struct ferry_error *reterr)
{
	return nbddev_find(&nbddev_netlink, identity, ret_device, reterr);
}

int ferry_nbddev_end_dead(const char *identity, struct ferry_error *reterr)
{
	return nbddev_end_dead(&nbddev_netlink, identity, reterr);
}

int ferry_nbddev_detach(const char *identity, struct ferry_error *reterr)
{
	return nbddev_detach(&nbddev_netlink, identity, reterr);
}

uint32_t ferry_nbddev_clear(const char *path)
{
	return nbddev_clear(&nbddev_netlink, path);
}
