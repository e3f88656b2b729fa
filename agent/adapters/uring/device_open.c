#include "agent/adapters/uring/device.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/adapters/common/line.h"
#include "agent/adapters/uring/device_private.h"
#include "agent/adapters/uring/multipath.h"

enum { PAGE_BYTES = 4096 };

int64_t ferry_device_size_bytes(int fd, bool is_block_device)
{
	struct stat status;
	uint64_t size_bytes;

	ferry_assert(fd >= 0);
	if (is_block_device) {
		if (ioctl(fd, BLKGETSIZE64, &size_bytes) < 0)
			return -errno;
		return size_bytes > INT64_MAX ? -EFBIG : (int64_t)size_bytes;
	}
	return fstat(fd, &status) < 0 ? -errno : (int64_t)status.st_size;
}

/* The first line of the device's own attribute in sysfs. -ENOENT: none, or empty. */
static int attribute_read(dev_t number, const char *name, char *ret, size_t size_bytes)
{
	ferry_assert(name);
	return ferry_line_read(ret, size_bytes, "/sys/dev/block/%u:%u/%s", major(number),
			       minor(number), name);
}

/* A partition has few attributes of its own: ask the whole device. */
static int disk_attribute_read(dev_t number, const char *name, char *ret, size_t size_bytes)
{
	char path[64];
	char text[16];
	bool is_partition = attribute_read(number, "partition", text, sizeof(text)) == 0;

	ferry_assert(strlen(name) < sizeof(path) - 4);
	(void)snprintf(path, sizeof(path), "%s%s", is_partition ? "../" : "", name);
	return attribute_read(number, path, ret, size_bytes);
}

static uint64_t disk_attribute_number(dev_t number, const char *name, uint64_t otherwise)
{
	char text[32];
	char *end;
	unsigned long long value;

	if (disk_attribute_read(number, name, text, sizeof(text)) < 0)
		return otherwise;
	value = strtoull(text, &end, 10);
	return end == text ? otherwise : value;
}

/* Append @text, each run of blanks and odd bytes as one '_'; too long a name keeps its start. */
static void wwid_append(char *wwid, size_t size_bytes, const char *text)
{
	size_t length = strlen(wwid);

	ferry_assert(length < size_bytes);
	for (; *text && length + 1 < size_bytes; text++) {
		if (isgraph((unsigned char)*text))
			wwid[length++] = *text;
		else if (length > 0 && wwid[length - 1] != '_' && text[1])
			wwid[length++] = '_';
	}
	wwid[length] = '\0';
}

/* The name that the device has by its own word, wherever it is attached. -ENOENT: it has none. */
static int wwid_of_block_device(dev_t number, char *ret, size_t size_bytes)
{
	static const struct {
		const char *attribute;
		const char *prefix;
	} sources[] = {
		{"dm/uuid", "dm."},	      /* A map on top of anything. */
		{"wwid", ""},		      /* NVMe: eui., nvme., uuid. */
		{"device/wwid", ""},	      /* SCSI: naa., eui., t10. */
		{"serial", "serial."},	      /* virtio-blk. */
		{"device/serial", "serial."}, /* Others. */
	};
	char text[160];
	char partition[16];

	ret[0] = '\0';
	for (size_t i = 0; i < FERRY_ARRAY_COUNT(sources); i++) {
		if (disk_attribute_read(number, sources[i].attribute, text, sizeof(text)) < 0)
			continue;
		/* The partition first: it must not be what a long name has cut off. */
		if (attribute_read(number, "partition", partition, sizeof(partition)) == 0) {
			wwid_append(ret, size_bytes, "part");
			wwid_append(ret, size_bytes, partition);
			wwid_append(ret, size_bytes, ".");
		}
		wwid_append(ret, size_bytes, sources[i].prefix);
		wwid_append(ret, size_bytes, text);
		return 0;
	}
	return -ENOENT;
}

static void note_set(struct ferry_device *device, const char *format, ...) FERRY_PRINTF(2, 3);
static void note_set(struct ferry_device *device, const char *format, ...)
{
	size_t length = strlen(device->note);
	va_list arguments;

	ferry_assert(length < sizeof(device->note));
	if (length > 0)
		length += (size_t)snprintf(device->note + length, sizeof(device->note) - length,
					   "; ");
	if (length >= sizeof(device->note))
		return;
	va_start(arguments, format);
	(void)vsnprintf(device->note + length, sizeof(device->note) - length, format, arguments);
	va_end(arguments);
}

/* How much of a write is surely one command: no limit of the queue can split it. */
static uint32_t whole_bytes_of(dev_t number)
{
	uint64_t bytes = disk_attribute_number(number, "queue/max_sectors_kb", 0) * FERRY_KIB;
	uint64_t segments = disk_attribute_number(number, "queue/max_segments", 0);

	/* At worst each page is a segment, and the first and the last are parts of pages. */
	if (segments < 2)
		return 0;
	return (uint32_t)ferry_min_u64(ferry_min_u64(bytes, (segments - 1) * PAGE_BYTES),
				       FERRY_IO_BYTES_MAX);
}

static int size_set(struct ferry_device *device, const char *path, struct ferry_error *reterr)
{
	struct ferry_lun_identity *identity = &device->identity;
	int64_t size_bytes = ferry_device_size_bytes(device->fd, device->is_block_device);

	ferry_assert(identity->block_bytes == 512 || identity->block_bytes == 4096);
	if (size_bytes < 0)
		return ferry_error_set(reterr, (int)size_bytes, "%s: its size: %s", path,
				       strerror((int)-size_bytes));
	if (size_bytes == 0)
		return ferry_error_set(reterr, -EINVAL, "%s: it is empty", path);
	if (size_bytes % identity->block_bytes != 0)
		return ferry_error_set(
			reterr, -EINVAL,
			"%s: its size, %lld bytes, is no multiple of its block size, "
			"%u bytes",
			path, (long long)size_bytes, identity->block_bytes);
	identity->size_blocks = (uint64_t)size_bytes / identity->block_bytes;
	return 0;
}

/* Loop, md, LVM, bcache: who knows. A disk hangs on a device of its bus, a multipath map on disks.
 */
static bool is_plain_disk(dev_t number)
{
	char text[128];

	if (disk_attribute_read(number, "device/uevent", text, sizeof(text)) == 0)
		return true;
	return disk_attribute_read(number, "dm/uuid", text, sizeof(text)) == 0 &&
	       strncmp(text, "mpath-", strlen("mpath-")) == 0;
}

static int open_block_device(struct ferry_device *device, const struct ferry_device_config *config,
			     dev_t number, struct ferry_error *reterr)
{
	struct ferry_lun_identity *identity = &device->identity;
	int is_read_only = 0;
	int block_bytes = 0;
	char text[32];
	int r;

	if (ioctl(device->fd, BLKROGET, &is_read_only) < 0 ||
	    ioctl(device->fd, BLKSSZGET, &block_bytes) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: %s", config->path, strerror(-r));
	}
	if (is_read_only)
		return ferry_error_set(reterr, -EROFS, "%s: it is read-only", config->path);
	if (block_bytes != 512 && block_bytes != 4096)
		return ferry_error_set(reterr, -EINVAL,
				       "%s: its logical block size is %d bytes; Ferry knows 512 "
				       "and 4096",
				       config->path, block_bytes);
	if (config->block_bytes != 0 && config->block_bytes != (uint32_t)block_bytes)
		return ferry_error_set(reterr, -EINVAL,
				       "%s: its logical block size is %d bytes, not %u",
				       config->path, block_bytes, config->block_bytes);
	identity->block_bytes = (uint32_t)block_bytes;
	identity->can_discard =
		disk_attribute_number(number, "queue/write_zeroes_max_bytes", 0) > 0;
	identity->has_volatile_cache =
		disk_attribute_read(number, "queue/write_cache", text, sizeof(text)) < 0 ||
		strcmp(text, "write through") != 0;
	device->is_cached = !is_plain_disk(number);
	identity->is_cached_by_node = device->is_cached;
	device->whole_bytes_max = whole_bytes_of(number);
	if (wwid_of_block_device(number, identity->wwid, sizeof(identity->wwid)) < 0) {
		(void)snprintf(identity->wwid, sizeof(identity->wwid), "dev.%u:%u", major(number),
			       minor(number));
		note_set(device,
			 "it has no name of its own (WWID or serial number), so other nodes "
			 "cannot know it for the same lun");
	}
	return 0;
}

static int open_file(struct ferry_device *device, const struct ferry_device_config *config,
		     const struct stat *status, struct ferry_error *reterr)
{
	/* Of the whole file, and of this open file: another open of it by this process, too. */
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct ferry_lun_identity *identity = &device->identity;
	int r;

	if (fcntl(device->fd, F_OFD_SETLK, &lock) < 0) {
		r = -errno;
		if (r == -EAGAIN || r == -EACCES)
			return ferry_error_set(reterr, -EBUSY,
					       "%s: another program holds it, maybe another agent "
					       "(lslocks tells which)",
					       config->path);
		return ferry_error_set(reterr, r, "%s: it cannot be locked: %s", config->path,
				       strerror(-r));
	}
	device->is_cached = true;
	identity->block_bytes = config->block_bytes ? config->block_bytes : 512;
	identity->can_discard = true;
	identity->has_volatile_cache = true;
	(void)snprintf(identity->wwid, sizeof(identity->wwid), "file.%llx.%llu",
		       (unsigned long long)status->st_dev, (unsigned long long)status->st_ino);
	return 0;
}

/* Open, and see what it is. */
static int open_descriptor(struct ferry_device *device, const struct ferry_device_config *config,
			   struct stat *ret_status, struct ferry_error *reterr)
{
	int flags = O_RDWR | O_DIRECT | O_CLOEXEC | O_NOCTTY;
	int r;

	/* Looked at first: opening a tape, a fifo or a terminal may do things. */
	if (stat(config->path, ret_status) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: %s", config->path, strerror(-r));
	}
	if (!S_ISBLK(ret_status->st_mode) && !S_ISREG(ret_status->st_mode))
		return ferry_error_set(reterr, -ENOTBLK,
				       "%s: it is neither a block device nor a regular file",
				       config->path);
	device->is_block_device = S_ISBLK(ret_status->st_mode);
	if (device->is_block_device) {
		r = ferry_multipath_check("/sys", ret_status->st_rdev, ferry_multipath_ask, reterr);
		if (r < 0)
			return r;
		flags |= O_EXCL;
	}
	device->fd = open(config->path, flags);
	if (device->fd < 0 && errno == EINVAL && !device->is_block_device) {
		device->fd = open(config->path, flags & ~O_DIRECT);
		note_set(device, "its filesystem has no direct I/O, so it goes through the page "
				 "cache");
	}
	if (device->fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: %s", config->path,
				       r == -EBUSY ? "it is in use: mounted, or held by another "
						     "program (lsblk and fuser tell which)"
						   : strerror(-r));
	}
	/* It may be another by now. */
	if (fstat(device->fd, ret_status) < 0 ||
	    S_ISBLK(ret_status->st_mode) != device->is_block_device)
		return ferry_error_set(reterr, -EIO, "%s: it changed while it was opened",
				       config->path);
	return 0;
}

/* Read the last block: it can be read, in units of its block size, and the end is where it says. */
static int try_read(struct ferry_device *device, const char *path, struct ferry_error *reterr)
{
	uint32_t block_bytes = device->identity.block_bytes;
	uint64_t offset_bytes = (device->identity.size_blocks - 1) * block_bytes;
	ssize_t count = pread(device->fd, device->probe_block, block_bytes, (off_t)offset_bytes);
	int r = count < 0 ? -errno : 0;

	if (count == (ssize_t)block_bytes)
		return 0;
	if (r == -EINVAL)
		return ferry_error_set(reterr, r,
				       "%s: direct I/O in blocks of %u bytes is not possible here; "
				       "use a block size of 4096",
				       path, block_bytes);
	return ferry_error_set(reterr, r < 0 ? r : -EIO, "%s: its last block cannot be read: %s",
			       path, r < 0 ? strerror(-r) : "no data");
}

static int open_memory(struct ferry_device *device, struct ferry_error *reterr)
{
	device->requests = calloc(device->depth, sizeof(device->requests[0]));
	device->zeroes = aligned_alloc(PAGE_BYTES, FERRY_DEVICE_ZEROES_BYTES);
	device->probe_block = aligned_alloc(PAGE_BYTES, PAGE_BYTES);
	if (!device->requests || !device->zeroes || !device->probe_block)
		return ferry_error_set(reterr, -ENOMEM, "no memory for %u requests", device->depth);
	memset(device->zeroes, 0, FERRY_DEVICE_ZEROES_BYTES);
	for (uint32_t i = 0; i < device->depth; i++) {
		struct ferry_device_request *request = &device->requests[i];

		request->ring.run = ferry_device_request_run;
		request->flush.on_done = ferry_device_flush_run;
		request->device = device;
		ferry_list_init(&request->link);
		ferry_list_append(&device->free, &request->link);
	}
	if (ferry_uring_reserve(device->loop, device->depth + 1) < 0)
		return ferry_error_set(reterr, -ENOSPC,
				       "all local paths together have room for %d I/Os in flight: "
				       "lower their depths",
				       FERRY_URING_REQUESTS_MAX);
	device->is_reserved = true;
	return 0;
}

static void device_free(struct ferry_device *device)
{
	ferry_assert(device->inflight_count == 0);
	ferry_assert(!device->is_probing);
	if (device->is_reserved)
		ferry_uring_unreserve(device->loop, device->depth + 1);
	if (device->fd >= 0)
		(void)close(device->fd); /* Direct I/O: nothing is left to be written. */
	free(device->probe_block);
	free(device->zeroes);
	free(device->requests);
	free(device);
}

static void device_freep(struct ferry_device **device)
{
	if (*device)
		device_free(*device);
}

static int config_check(const struct ferry_device_config *config, struct ferry_error *reterr)
{
	ferry_assert(config->path);
	if (config->depth > FERRY_DEVICE_DEPTH_MAX)
		return ferry_error_set(reterr, -EINVAL, "a depth of %u is over %d", config->depth,
				       FERRY_DEVICE_DEPTH_MAX);
	if (config->block_bytes != 0 && config->block_bytes != 512 && config->block_bytes != 4096)
		return ferry_error_set(reterr, -EINVAL, "a block size is 512 or 4096, not %u",
				       config->block_bytes);
	return 0;
}

int ferry_device_open(struct ferry_uring_loop *loop, const struct ferry_device_config *config,
		      struct ferry_device **ret, struct ferry_error *reterr)
{
	_cleanup_(device_freep) struct ferry_device *device = NULL;
	struct stat status;
	int r;

	ferry_assert(loop && config && ret);
	r = config_check(config, reterr);
	if (r < 0)
		return r;
	FERRY_ASSERT_ON_LOOP(ferry_uring_loop_of(loop));
	device = calloc(1, sizeof(*device));
	if (!device)
		return ferry_error_set(reterr, -ENOMEM, "no memory for a device");
	device->fd = -1;
	device->loop = loop;
	device->depth = config->depth ? config->depth : FERRY_DEVICE_DEPTH_DEFAULT;
	device->settle.run = ferry_device_settle_run;
	device->probe.run = ferry_device_probe_run;
	device->probe_timer.run = ferry_device_probe_timer_run;
	ferry_list_init(&device->free);
	device->path = (struct ferry_path){
		.ops = &ferry_device_path_ops,
		.kind = FERRY_PATH_LOCAL,
		.node = config->node,
		.on_state = config->on_state,
		.on_room = config->on_room,
		.context = config->context,
	};
	r = open_memory(device, reterr);
	if (r < 0)
		return r;
	r = open_descriptor(device, config, &status, reterr);
	if (r < 0)
		return r;
	r = device->is_block_device ? open_block_device(device, config, status.st_rdev, reterr)
				    : open_file(device, config, &status, reterr);
	if (r < 0)
		return r;
	r = size_set(device, config->path, reterr);
	if (r < 0)
		return r;
	r = try_read(device, config->path, reterr);
	if (r < 0)
		return r;
	ferry_lun_identity_seal(&device->identity);
	device->path.is_up = true;
	*ret = TAKE_PTR(device);
	return 0;
}

int ferry_device_close(struct ferry_device *device)
{
	if (!device)
		return 0;
	FERRY_ASSERT_ON_LOOP(ferry_uring_loop_of(device->loop));
	device->is_closing = true;
	device->path.is_up = false;
	ferry_task_cancel(ferry_uring_loop_of(device->loop), &device->settle);
	ferry_timer_stop(ferry_uring_loop_of(device->loop), &device->probe_timer);
	if (device->inflight_count > 0 || device->is_probing || device->is_in_callback)
		return -EBUSY;
	device_free(device);
	return 0;
}
