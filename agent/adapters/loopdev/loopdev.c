#include "agent/adapters/loopdev/loopdev.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "agent/adapters/common/cleanup.h"

enum {
	TRIES_MAX = 32,	       /* Others may take the device that we were told is free. */
	DETACH_WAIT_MS = 3000, /* udev looks at devices at odd moments. */
	STEP_MS = 10,
	DEVICES_MAX = 4096, /* A bound for the walk through /sys/block. */
	LOOP_MAJOR = 7,
	BACKING_PATH_MAX = 4096,
};

static void wait_step(void)
{
	struct timespec step = {.tv_nsec = STEP_MS * (long)FERRY_NS_PER_MS};

	(void)nanosleep(&step, NULL);
}

/* How a loop device and a file belong together. */
enum match {
	MATCH_NONE = 1, /* Another file, or no file. */
	MATCH_LIVE,	/* This file. */
	MATCH_DEAD,	/* A file that was at this path, in a mount that is gone or dead. */
	MATCH_GONE,	/* And the kernel has no answer from it: no I/O can succeed. */
};

/* The path that the kernel shows for the backing file; empty if it cannot be told. */
static void backing_path_read(const char *name, char ret[BACKING_PATH_MAX])
{
	static const char deleted[] = " (deleted)"; /* Its file is no longer shown there. */
	char path[64];
	char *end;
	ssize_t length;
	_cleanup_(ferry_closep) int fd = -1;

	ret[0] = '\0';
	(void)snprintf(path, sizeof(path), "/sys/block/%.16s/loop/backing_file", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	length = read(fd, ret, BACKING_PATH_MAX - 1);
	ret[length < 0 ? 0 : length] = '\0';
	end = ret + strcspn(ret, "\n");
	*end = '\0';
	if ((size_t)(end - ret) >= strlen(deleted) && strcmp(end - strlen(deleted), deleted) == 0)
		end[-(ptrdiff_t)strlen(deleted)] = '\0';
}

/*
 * @attr is the file's, NULL if it cannot be had. A name alone proves nothing while there is a
 * file: a device with the same name may be over another file that lives, in another mount
 * namespace (loop devices are the machine's). Then only device and inode number count.
 */
static enum match info_match(const struct loop_info64 *info, const char *backing_path,
			     const char *file, const struct stat *attr)
{
	char name[LO_NAME_SIZE];

	ferry_assert(info && file);
	if (attr && info->lo_inode == attr->st_ino && info->lo_device == attr->st_dev)
		return MATCH_LIVE;
	(void)snprintf(name, sizeof(name), "%.*s", LO_NAME_SIZE - 1, file);
	if (!attr && (strcmp(backing_path, file) == 0 ||
		      strncmp((const char *)info->lo_file_name, name, LO_NAME_SIZE) == 0))
		return MATCH_DEAD;
	return MATCH_NONE;
}

/* @file ends with @path, which begins with a slash. */
static bool is_tail(const char *file, const char *path)
{
	size_t file_length = strlen(file);
	size_t length = strlen(path);

	return length > 1 && path[0] == '/' && length <= file_length &&
	       strcmp(file + file_length - length, path) == 0;
}

/* The status of /dev/@name through @fd; -ENXIO: it is over nothing. */
static int device_match(int fd, const char *name, const char *file, const struct stat *attr,
			struct loop_info64 *ret_info, enum match *ret)
{
	char backing_path[BACKING_PATH_MAX];
	int r;

	ferry_assert(fd >= 0);
	ferry_assert(ret);
	r = ioctl(fd, LOOP_GET_STATUS64, ret_info) < 0 ? -errno : 0;
	backing_path_read(name, backing_path);
	if (r == 0) {
		*ret = info_match(ret_info, backing_path, file, attr);
		return 0;
	}
	if (r != -ENOTCONN && r != -ENODEV)
		return r;
	/*
	 * The kernel asks the file's attributes first, and the file is in a FUSE mount whose agent
	 * is dead, or the agent has withdrawn it (a file that comes later is another): no I/O of
	 * that device can ever succeed again. Its path is all that is left; if the mount is
	 * detached already, only the part below the mount.
	 */
	*ret_info = (struct loop_info64){0};
	*ret = is_tail(file, backing_path) ? MATCH_GONE : MATCH_NONE;
	return 0;
}

/* Detach through @fd, opened exclusively; waits until it is really gone. */
static int device_clear(int fd)
{
	struct loop_info64 info;

	ferry_assert(fd >= 0);
	if (ioctl(fd, LOOP_CLR_FD, 0) < 0)
		return errno == ENXIO ? 0 : -errno;
	/* Somebody (udev) may have it open this moment: then it goes with the last close. */
	for (int waited_ms = 0; waited_ms < DETACH_WAIT_MS; waited_ms += STEP_MS) {
		if (ioctl(fd, LOOP_GET_STATUS64, &info) < 0) {
			if (errno == ENXIO)
				return 0;
			if (errno != ENOTCONN)
				return -errno;
		} else if (info.lo_flags & LO_FLAGS_AUTOCLEAR) {
			return 0; /* Ours may be the last descriptor: the caller's close does it. */
		}
		wait_step();
	}
	return -EBUSY;
}

static int device_open_exclusive(const char *device)
{
	int fd = -1;

	/* With O_EXCL mounts and other claims show as EBUSY; udev's look is short. */
	for (int waited_ms = 0; waited_ms < DETACH_WAIT_MS / 3; waited_ms += STEP_MS) {
		fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);
		if (fd >= 0 || errno != EBUSY)
			break;
		wait_step();
	}
	return fd < 0 ? -errno : fd;
}

/* What to do with each device that has something to do with a file. */
struct walk {
	const char *file;
	const struct stat *attr; /* NULL: the file cannot be asked. */
	char device[FERRY_LOOPDEV_PATH_MAX];
	struct loop_info64 info;
	bool is_found;
	int clear_error; /* Of a dead one that could not be cleared away; that is @device. */
};

static void walk_device(struct walk *walk, const char *name)
{
	char device[FERRY_LOOPDEV_PATH_MAX];
	_cleanup_(ferry_closep) int fd = -1;
	struct loop_info64 info;
	enum match match;

	(void)snprintf(device, sizeof(device), "/dev/%.16s", name);
	fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || device_match(fd, name, walk->file, walk->attr, &info, &match) < 0)
		return;
	if (match == MATCH_LIVE && !walk->is_found) {
		walk->is_found = true;
		walk->info = info;
		memcpy(walk->device, device, sizeof(device));
	} else if (match == MATCH_GONE || (match == MATCH_DEAD && walk->attr)) {
		int r;

		(void)close(fd);
		fd = device_open_exclusive(device);
		r = fd < 0 ? fd : device_clear(fd);
		if (r < 0 && !walk->is_found) {
			walk->clear_error = r;
			memcpy(walk->device, device, sizeof(device));
		}
	}
}

/* Find the live device of a file, and clear away its dead ones. */
static int walk_run(struct walk *walk, struct ferry_error *reterr)
{
	_cleanup_(ferry_closedirp) DIR *directory = opendir("/sys/block");
	const struct dirent *entry;
	int r = directory ? 0 : -errno;

	ferry_assert(walk->file);
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot list /sys/block: %s", strerror(-r));
	for (int i = 0; i < DEVICES_MAX && (entry = readdir(directory)); i++)
		if (strncmp(entry->d_name, "loop", 4) == 0) {
			char path[64];

			(void)snprintf(path, sizeof(path), "/sys/block/%.16s/loop", entry->d_name);
			if (access(path, F_OK) == 0) /* It is over a file. */
				walk_device(walk, entry->d_name);
		}
	return 0;
}

/* A path in /dev for a free device. Without devtmpfs and udev nobody makes it: we do. */
static int free_device_get(int control_fd, char ret_device[FERRY_LOOPDEV_PATH_MAX],
			   struct ferry_error *reterr)
{
	int number = ioctl(control_fd, LOOP_CTL_GET_FREE);
	int r = number < 0 ? -errno : 0;

	if (r < 0)
		return ferry_error_set(reterr, r, "the loop driver gives no free device: %s",
				       strerror(-r));
	(void)snprintf(ret_device, FERRY_LOOPDEV_PATH_MAX, "/dev/loop%d", number);
	for (int waited_ms = 0; waited_ms < 500; waited_ms += STEP_MS) {
		if (access(ret_device, F_OK) == 0)
			return 0;
		wait_step();
	}
	if (mknod(ret_device, S_IFBLK | 0660, makedev(LOOP_MAJOR, (unsigned)number)) < 0 &&
	    errno != EEXIST) {
		r = -errno;
		return ferry_error_set(reterr, r, "cannot make %s: %s", ret_device, strerror(-r));
	}
	return 0;
}

static int device_configure(int device_fd, int file_fd, const char *file, uint32_t block_bytes,
			    bool is_read_only)
{
	struct loop_config config = {.fd = (uint32_t)file_fd, .block_size = block_bytes};
	struct loop_info64 info;
	int off = 0;

	ferry_assert(device_fd >= 0 && file_fd >= 0);
	ferry_assert(block_bytes == 512 || block_bytes == 4096);
	config.info.lo_flags = LO_FLAGS_DIRECT_IO | (is_read_only ? LO_FLAGS_READ_ONLY : 0u);
	(void)snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%.*s", LO_NAME_SIZE - 1,
		       file);
	if (ioctl(device_fd, LOOP_CONFIGURE, &config) < 0)
		return -errno;
	/* The driver drops what it cannot do without a word; a page cache must not come between. */
	if (ioctl(device_fd, LOOP_GET_STATUS64, &info) < 0 ||
	    !(info.lo_flags & LO_FLAGS_DIRECT_IO)) {
		(void)ioctl(device_fd, LOOP_CLR_FD, 0);
		return -EOPNOTSUPP;
	}
	/* BLKROSET outlives the file that it was meant for: a former user may have left it. */
	if (!is_read_only && ioctl(device_fd, BLKROSET, &off) < 0) {
		int r = -errno;

		(void)ioctl(device_fd, LOOP_CLR_FD, 0);
		return r;
	}
	return 0;
}

static int device_block_bytes(const char *device, uint32_t *ret)
{
	char path[80];
	unsigned block_bytes = 0;
	FILE *file;
	int r;

	(void)snprintf(path, sizeof(path), "/sys/block/%.16s/queue/logical_block_size",
		       device + strlen("/dev/"));
	file = fopen(path, "re");
	if (!file)
		return -errno;
	r = fscanf(file, "%u", &block_bytes) == 1 ? 0 : -EIO;
	(void)fclose(file);
	if (r == 0)
		*ret = block_bytes;
	return r;
}

/* A device that is there already: is it what is asked for? */
static int existing_check(const struct walk *walk, uint32_t block_bytes, bool is_read_only,
			  struct ferry_error *reterr)
{
	bool was_read_only = walk->info.lo_flags & LO_FLAGS_READ_ONLY;
	uint32_t was_block_bytes = 0;
	int r = device_block_bytes(walk->device, &was_block_bytes);

	if (r < 0)
		return ferry_error_set(reterr, r, "cannot read the block size of %s: %s",
				       walk->device, strerror(-r));
	if (was_block_bytes != block_bytes || was_read_only != is_read_only ||
	    !(walk->info.lo_flags & LO_FLAGS_DIRECT_IO))
		return ferry_error_set(reterr, -EBUSY,
				       "%s is over %s already, but with %u-byte blocks, %s, %s "
				       "I/O; detach it first",
				       walk->device, walk->file, was_block_bytes,
				       was_read_only ? "read-only" : "writable",
				       walk->info.lo_flags & LO_FLAGS_DIRECT_IO ? "direct"
										: "buffered");
	return 0;
}

static int attach_new(const char *file, int file_fd, uint32_t block_bytes, bool is_read_only,
		      char ret_device[FERRY_LOOPDEV_PATH_MAX], struct ferry_error *reterr)
{
	_cleanup_(ferry_closep) int control_fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int r = control_fd < 0 ? -errno : 0;

	if (r < 0)
		return ferry_error_set(reterr, r == -ENOENT ? -ENODEV : r,
				       "cannot open /dev/loop-control: %s; load the driver: "
				       "modprobe loop",
				       strerror(-r));
	for (int i = 0; i < TRIES_MAX; i++) {
		_cleanup_(ferry_closep) int device_fd = -1;
		char device[FERRY_LOOPDEV_PATH_MAX];

		r = free_device_get(control_fd, device, reterr);
		if (r < 0)
			return r;
		device_fd = open(device, (is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
		r = device_fd < 0
			    ? -errno
			    : device_configure(device_fd, file_fd, file, block_bytes, is_read_only);
		if (r == 0) {
			memcpy(ret_device, device, sizeof(device));
			return 0;
		}
		if (r != -EBUSY && r != -ENXIO && r != -ENOENT && r != -EAGAIN && r != -EINTR)
			return ferry_error_set(
				reterr, r, "cannot attach %s to %s: %s", device, file,
				r == -EOPNOTSUPP ? "the kernel gives no direct I/O" : strerror(-r));
		wait_step(); /* Another process was quicker. */
	}
	return ferry_error_set(reterr, -EAGAIN, "no loop device for %s: others took each of %d",
			       file, TRIES_MAX);
}

int ferry_loopdev_attach(const char *file, uint32_t block_bytes, bool is_read_only,
			 char ret_device[FERRY_LOOPDEV_PATH_MAX], struct ferry_error *reterr)
{
	struct walk walk = {.file = file};
	_cleanup_(ferry_closep) int file_fd = -1;
	struct stat attr;
	int r;

	ferry_assert(file && ret_device);
	ferry_assert(block_bytes == 512 || block_bytes == 4096);
	file_fd = open(file, (is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	r = file_fd < 0 || fstat(file_fd, &attr) < 0 ? -errno : 0;
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot open the volume's file %s: %s", file,
				       strerror(-r));
	walk.attr = &attr;
	r = walk_run(&walk, reterr);
	if (r < 0)
		return r;
	if (!walk.is_found)
		return attach_new(file, file_fd, block_bytes, is_read_only, ret_device, reterr);
	r = existing_check(&walk, block_bytes, is_read_only, reterr);
	if (r < 0)
		return r;
	memcpy(ret_device, walk.device, sizeof(walk.device));
	return 0;
}

int ferry_loopdev_find(const char *file, char ret_device[FERRY_LOOPDEV_PATH_MAX],
		       struct ferry_error *reterr)
{
	struct walk walk = {.file = file};
	struct stat attr;
	int r;

	ferry_assert(file && ret_device);
	r = stat(file, &attr) < 0 ? -errno : 0;
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot look at the volume's file %s: %s", file,
				       strerror(-r));
	walk.attr = &attr;
	r = walk_run(&walk, reterr);
	if (r < 0)
		return r;
	if (!walk.is_found)
		return ferry_error_set(reterr, -ENOENT, "no loop device is over %s", file);
	memcpy(ret_device, walk.device, sizeof(walk.device));
	return 0;
}

int ferry_loopdev_clear(const char *file, struct ferry_error *reterr)
{
	struct walk walk = {.file = file};
	int r;

	ferry_assert(file);
	r = walk_run(&walk, reterr);
	if (r < 0)
		return r;
	if (walk.clear_error < 0)
		return ferry_error_set(reterr, walk.clear_error,
				       "%s, which gives only errors now, cannot be detached: %s",
				       walk.device, strerror(-walk.clear_error));
	return 0;
}

int ferry_loopdev_detach(const char *device, const char *file, struct ferry_error *reterr)
{
	_cleanup_(ferry_closep) int fd = -1;
	struct loop_info64 info;
	enum match match;
	struct stat attr;
	bool is_alive;
	int r;

	ferry_assert(device && file);
	if (strncmp(device, "/dev/loop", strlen("/dev/loop")) != 0)
		return ferry_error_set(reterr, -EINVAL, "%s is not a loop device", device);
	is_alive = stat(file, &attr) == 0;
	fd = open(device, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -errno
		   : device_match(fd, device + strlen("/dev/"), file, is_alive ? &attr : NULL,
				  &info, &match);
	if (r < 0 && r != -ENXIO)
		return ferry_error_set(reterr, r, "cannot ask %s: %s", device, strerror(-r));
	if (r == -ENXIO || match == MATCH_NONE)
		return ferry_error_set(reterr, -ENODEV, "%s is not over %s: left alone", device,
				       file);
	(void)close(fd);
	fd = device_open_exclusive(device);
	r = fd < 0 ? fd : device_clear(fd);
	if (r == -EBUSY)
		return ferry_error_set(reterr, r,
				       "%s is in use; unmount it (or stop what has it open) first",
				       device);
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot detach %s: %s", device, strerror(-r));
	return 0;
}
