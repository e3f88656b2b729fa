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
	/*
	 * How often the kernel looks at an I/O that has no answer yet: so much later than a new
	 * connection it sends it again. By itself it looks each 30 s, and complains of each look.
	 */
	LOOK_MS = 5000,
	SECTOR_BYTES = 512, /* Of sysfs, whatever the block size. */
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

/* Of that volume, whatever lun it was on. */
static bool is_kin(const char *identity, const char *uri)
{
	const char *label = strrchr(identity, '#');
	size_t length = strlen(uri);

	return strcmp(identity, uri) == 0 ||
	       (label == identity + length && strncmp(identity, uri, length) == 0);
}

static int identity_make(const char *uri, const char *label, char ret[FERRY_NBDDEV_IDENTITY_BYTES])
{
	int length = snprintf(ret, FERRY_NBDDEV_IDENTITY_BYTES, "%s#%s", uri, label);

	ferry_assert(uri[0] && !strchr(label, '#'));
	return length < 0 || length >= FERRY_NBDDEV_IDENTITY_BYTES ? -ENAMETOOLONG : 0;
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
 * The kernel does not say which device's connection is dead, but it takes a new one only in place
 * of a dead one. So each is offered one: whether it kept it shows at the other end.
 * 1: kept, *ret_fd is the server's end; 0: its own is alive; -EINVAL: it has been ended; or errors.
 */
static int offer(const struct nbddev_kernel *kernel, const char *identity, uint32_t index,
		 int *ret_fd)
{
	struct pollfd other = {.events = POLLIN};
	int pair[2];
	int r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	r = kernel->reconnect(identity, index, pair[0]);
	(void)close(pair[0]);
	other.fd = pair[1];
	if (r == 0 && !(poll(&other, 1, 0) > 0 && other.revents & POLLHUP)) {
		*ret_fd = pair[1];
		return 1;
	}
	(void)close(pair[1]);
	return r;
}

/*
 * A device whose server has gone is ended, with all I/O that it holds. 1: it was one; 0: it lives;
 * -EINVAL: it had been ended.
 */
static int end_if_dead(const struct nbddev_kernel *kernel, const char *identity, uint32_t index)
{
	int fd = -1;
	int r = offer(kernel, identity, index, &fd);

	if (r == 1) {
		(void)close(fd); /* First: so that no sender of the kernel's waits for us. */
		(void)kernel->disconnect(index); /* Gone in between is as good. */
	}
	return r == 1 || r == -EINVAL ? r : 0;
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

/* The volume's device, dead or alive. */
static int find(const struct nbddev_kernel *kernel, const char *uri, uint32_t *ret_index,
		struct ferry_error *reterr)
{
	_cleanup_(ferry_closedirp) DIR *directory = NULL;
	char is[FERRY_NBDDEV_IDENTITY_BYTES];
	uint32_t index;

	ferry_assert(uri[0]);
	directory = devices_open(kernel);
	while (directory && devices_next(kernel, directory, &index, is))
		if (is_kin(is, uri)) {
			*ret_index = index;
			return 0;
		}
	return ferry_error_set(reterr, -ENOENT, "no nbd device is %s", uri);
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

static int queue_set(const struct nbddev_kernel *kernel, uint32_t index, const char *what,
		     int value)
{
	char path[128];
	FILE *file;
	int r;

	(void)snprintf(path, sizeof(path), "%.80s/nbd%u/queue/%.20s", kernel->sys_block, index,
		       what);
	file = fopen(path, "we");
	if (!file)
		return -errno;
	r = fprintf(file, "%d\n", value) < 0 ? -EIO : 0;
	if (fclose(file) != 0 && r == 0)
		r = -errno;
	return r;
}

int nbddev_attach(const struct nbddev_kernel *kernel, const char *uri, const char *label, int fd,
		  const struct ferry_nbddev_shape *shape, char ret_device[FERRY_NBDDEV_PATH_MAX],
		  struct ferry_error *reterr)
{
	char identity[FERRY_NBDDEV_IDENTITY_BYTES];
	uint32_t index = 0;
	int r = identity_make(uri, label, identity);

	ferry_assert(fd >= 0);
	if (r < 0)
		return ferry_error_set(reterr, r, "%s is too long a name for a device", uri);
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
		r = queue_set(kernel, index, "max_sectors_kb", REQUEST_KIB_MAX);
	if (r == 0)
		r = queue_set(kernel, index, "io_timeout", LOOK_MS);
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

int nbddev_find(const struct nbddev_kernel *kernel, const char *uri,
		char ret_device[FERRY_NBDDEV_PATH_MAX], struct ferry_error *reterr)
{
	uint32_t index = 0;
	int r = find(kernel, uri, &index, reterr);

	if (r < 0)
		return r;
	r = device_is(kernel, index, ret_device);
	return r < 0 ? ferry_error_set(reterr, r, "there is no /dev/nbd%u", index) : 0;
}

int nbddev_end_dead(const struct nbddev_kernel *kernel, const char *uri, struct ferry_error *reterr)
{
	_cleanup_(ferry_closedirp) DIR *directory = devices_open(kernel);
	char is[FERRY_NBDDEV_IDENTITY_BYTES];
	uint32_t index;

	while (directory && devices_next(kernel, directory, &index, is)) {
		if (!is_kin(is, uri) || end_if_dead(kernel, is, index) == 0)
			continue;
		if (gone_wait(kernel, is, index) < 0)
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

int nbddev_detach(const struct nbddev_kernel *kernel, const char *uri, struct ferry_error *reterr)
{
	char device[FERRY_NBDDEV_PATH_MAX], identity[FERRY_NBDDEV_IDENTITY_BYTES];
	uint32_t index = 0;
	int fd, r;

	r = nbddev_find(kernel, uri, device, reterr);
	if (r < 0)
		return r;
	r = nbddev_end_dead(kernel, uri, reterr);
	if (r < 0 || find(kernel, uri, &index, reterr) < 0)
		return r; /* Or that was all. */
	identity_read(kernel, index, identity);
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

/* ---- What an agent asks of devices that an earlier one has left. ---- */

/* Whether all that it may ask for is there. */
static bool fits(const struct nbddev_kernel *kernel, uint32_t index,
		 const struct ferry_nbddev_shape *shape)
{
	char size[32], block[32], read_only[32];

	if (ferry_line_read(size, sizeof(size), "%.90s/nbd%u/size", kernel->sys_block, index) < 0 ||
	    ferry_line_read(block, sizeof(block), "%.90s/nbd%u/queue/logical_block_size",
			    kernel->sys_block, index) < 0 ||
	    ferry_line_read(read_only, sizeof(read_only), "%.90s/nbd%u/ro", kernel->sys_block,
			    index) < 0)
		return false;
	return strtoull(size, NULL, 10) == shape->size_bytes / SECTOR_BYTES &&
	       strtoul(block, NULL, 10) == shape->block_bytes &&
	       (read_only[0] == '1' || !(shape->flags & FERRY_NBDDEV_READ_ONLY));
}

int nbddev_return(const struct nbddev_kernel *kernel, const char *uri, const char *label,
		  const struct ferry_nbddev_shape *shape, int *ret_fd)
{
	_cleanup_(ferry_closedirp) DIR *directory = devices_open(kernel);
	char is[FERRY_NBDDEV_IDENTITY_BYTES], identity[FERRY_NBDDEV_IDENTITY_BYTES];
	uint32_t index;
	int r = -ENOENT;

	if (identity_make(uri, label, identity) < 0)
		return r;
	while (directory && devices_next(kernel, directory, &index, is)) {
		bool is_same = strcmp(is, identity) == 0 && fits(kernel, index, shape);
		int one = 0;

		if (!is_kin(is, uri))
			continue;
		if (is_same)
			one = offer(kernel, is, index, ret_fd);
		if (is_same && one == 1)
			return 0;
		if (!is_same)
			one = end_if_dead(kernel, is, index);
		if (one == 1 && r == -ENOENT)
			r = -ESTALE;
		else if (one != 1 && one != -EINVAL)
			r = -EAGAIN;
	}
	return r;
}

int nbddev_end(const struct nbddev_kernel *kernel, const char *uri)
{
	_cleanup_(ferry_closedirp) DIR *directory = devices_open(kernel);
	char is[FERRY_NBDDEV_IDENTITY_BYTES];
	uint32_t index;
	int count = 0, r = 0;

	while (directory && devices_next(kernel, directory, &index, is)) {
		int one = is_kin(is, uri) ? end_if_dead(kernel, is, index) : -EINVAL;

		if (one == 0)
			r = -EAGAIN;
		count += one == 1;
	}
	return r < 0 ? r : count;
}

/* Whether @identity is of one of @volumes. */
static bool is_among(const char *identity, const char *const volumes[], uint32_t count)
{
	static const char scheme[] = "nbd+unix:///";
	const char *name = identity + strlen(scheme);

	if (strncmp(identity, scheme, strlen(scheme)) != 0)
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (strncmp(name, volumes[i], strlen(volumes[i])) == 0 &&
		    name[strlen(volumes[i])] == '?')
			return true;
	return false;
}

uint32_t nbddev_clear(const struct nbddev_kernel *kernel, const char *path,
		      const char *const volumes[], uint32_t volumes_count)
{
	_cleanup_(ferry_closedirp) DIR *directory = NULL;
	char identity[FERRY_NBDDEV_IDENTITY_BYTES];
	uint32_t index, count = 0;

	ferry_assert(path[0]);
	directory = devices_open(kernel);
	while (directory && devices_next(kernel, directory, &index, identity)) {
		const char *socket = strstr(identity, "?socket=");

		if (socket && is_kin(socket + strlen("?socket="), path) &&
		    !is_among(identity, volumes, volumes_count) &&
		    end_if_dead(kernel, identity, index) == 1)
			count++;
	}
	return count;
}

int ferry_nbddev_attach(const char *uri, const char *label, int fd,
			const struct ferry_nbddev_shape *shape,
			char ret_device[FERRY_NBDDEV_PATH_MAX], struct ferry_error *reterr)
{
	return nbddev_attach(&nbddev_netlink, uri, label, fd, shape, ret_device, reterr);
}

int ferry_nbddev_find(const char *uri, char ret_device[FERRY_NBDDEV_PATH_MAX],
		      struct ferry_error *reterr)
{
	return nbddev_find(&nbddev_netlink, uri, ret_device, reterr);
}

int ferry_nbddev_end_dead(const char *uri, struct ferry_error *reterr)
{
	return nbddev_end_dead(&nbddev_netlink, uri, reterr);
}

int ferry_nbddev_detach(const char *uri, struct ferry_error *reterr)
{
	return nbddev_detach(&nbddev_netlink, uri, reterr);
}

uint32_t ferry_nbddev_clear(const char *path, const char *const volumes[], uint32_t volumes_count)
{
	return nbddev_clear(&nbddev_netlink, path, volumes, volumes_count);
}
