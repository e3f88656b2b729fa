#include "agent/adapters/uring/multipath.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/adapters/common/line.h"

/*
 * A multipath target's table begins with its features: their count, then so many words
 * (Documentation/admin-guide/device-mapper/dm-multipath, "features"). 1, 0 or -EBADMSG.
 */
static int features_queue(const char *table)
{
	unsigned long count;
	char *end;

	ferry_assert(table);
	errno = 0;
	count = strtoul(table, &end, 10);
	if (end == table || errno != 0 || count > 64)
		return -EBADMSG;
	for (unsigned long i = 0; i < count; i++) {
		size_t length;

		end += strspn(end, " ");
		length = strcspn(end, " ");
		if (length == 0)
			return -EBADMSG;
		if (length == strlen("queue_if_no_path") &&
		    strncmp(end, "queue_if_no_path", length) == 0)
			return 1;
		end += length;
	}
	return 0;
}

int ferry_multipath_table_queues(const void *targets, size_t size_bytes, uint32_t targets_count)
{
	const char *bytes = targets;
	size_t offset = 0;

	ferry_assert(targets || size_bytes == 0);
	ferry_assert(size_bytes <= FERRY_DM_TABLE_BYTES_MAX);
	for (uint32_t i = 0; i < targets_count; i++) {
		struct dm_target_spec target;
		const char *table;
		int r;

		if (offset > size_bytes || size_bytes - offset <= sizeof(target))
			return -EBADMSG;
		memcpy(&target, bytes + offset, sizeof(target));
		table = bytes + offset + sizeof(target);
		if (!memchr(table, '\0', size_bytes - offset - sizeof(target)))
			return -EBADMSG;
		if (strncmp(target.target_type, "multipath", sizeof(target.target_type)) == 0) {
			r = features_queue(table);
			if (r != 0)
				return r;
		}
		/* From the start of the list; it only ever leads on. */
		if (i + 1 < targets_count && target.next <= offset)
			return -EBADMSG;
		offset = target.next;
	}
	return 0;
}

int ferry_multipath_ask(dev_t number)
{
	struct dm_ioctl *request;
	int fd;
	int r;

	request = calloc(1, FERRY_DM_TABLE_BYTES_MAX);
	if (!request)
		return -ENOMEM;
	fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
		free(request);
		return r;
	}
	/* 4.0.0 is what every kernel since 2.6 speaks; it refuses a greater major only. */
	request->version[0] = 4;
	request->data_size = FERRY_DM_TABLE_BYTES_MAX;
	request->data_start = sizeof(*request);
	request->flags = DM_STATUS_TABLE_FLAG;
	/* huge_encode_dev() of include/linux/kdev_t.h. */
	request->dev = (minor(number) & 0xffu) | (uint64_t)major(number) << 8 |
		       (uint64_t)(minor(number) & ~0xffu) << 12;
	r = ioctl(fd, DM_TABLE_STATUS, request) < 0 ? -errno : 0;
	if (r == 0 && (request->flags & DM_BUFFER_FULL_FLAG))
		r = -EOVERFLOW;
	if (r == 0 && (request->data_start > FERRY_DM_TABLE_BYTES_MAX ||
		       request->data_start < offsetof(struct dm_ioctl, data)))
		r = -EBADMSG;
	if (r == 0)
		r = ferry_multipath_table_queues((const char *)request + request->data_start,
						 FERRY_DM_TABLE_BYTES_MAX - request->data_start,
						 request->target_count);
	(void)close(fd); /* Nothing was written. */
	free(request);
	return r;
}

/* The walk: devices still to be looked at. A device may be met twice; that is only slower. */
struct walk {
	const char *sysfs;
	int (*ask)(dev_t number);
	uint32_t visited_count;
	struct ferry_error *reterr;
};

static int walk_look(struct walk *walk, dev_t number)
{
	char path[PATH_MAX];
	char uuid[160] = "";
	bool is_multipath;
	int r;

	(void)snprintf(path, sizeof(path), "%s/dev/block/%u:%u/dm/uuid", walk->sysfs, major(number),
		       minor(number));
	if (access(path, F_OK) < 0)
		return 0;				       /* Not device-mapper's. */
	(void)ferry_line_read(uuid, sizeof(uuid), "%s", path); /* Empty if it has none. */
	is_multipath = strncmp(uuid, "mpath-", 6) == 0;
	r = walk->ask(number);
	if (r == 1)
		return ferry_error_set(
			walk->reterr, -EMLINK,
			"it sits on the multipath map %u:%u, which queues I/O while it has no path "
			"(queue_if_no_path): it would never fail, so no peer could ever carry its "
			"I/O; set 'no_path_retry fail' in multipath.conf",
			major(number), minor(number));
	if (r < 0 && is_multipath)
		return ferry_error_set(walk->reterr, -EMLINK,
				       "it sits on the multipath map %u:%u, and whether that has "
				       "queue_if_no_path cannot be found out: %s",
				       major(number), minor(number), strerror(-r));
	return 0;
}

static int walk_down(struct walk *walk, dev_t number, uint32_t depth);

static int walk_slaves(struct walk *walk, const char *folder, uint32_t depth)
{
	DIR *directory = opendir(folder);
	struct dirent *entry;
	int r = 0;

	if (!directory)
		return 0; /* A device on no other. */
	while (r == 0 && (entry = readdir(directory))) {
		char text[32];
		unsigned int major_number, minor_number;

		if (entry->d_name[0] == '.')
			continue;
		if (ferry_line_read(text, sizeof(text), "%s/%s/dev", folder, entry->d_name) < 0 ||
		    sscanf(text, "%u:%u", &major_number, &minor_number) != 2)
			continue; /* It went away while we looked. */
		r = walk_down(walk, makedev(major_number, minor_number), depth + 1);
	}
	(void)closedir(directory);
	return r;
}

static int walk_down(struct walk *walk, dev_t number, uint32_t depth)
{
	char path[PATH_MAX];
	const char *up = "";
	int r;

	if (depth >= FERRY_MULTIPATH_DEPTH_MAX ||
	    walk->visited_count >= FERRY_MULTIPATH_DEVICES_MAX)
		return ferry_error_set(walk->reterr, -EMLINK,
				       "it sits on more devices than can be looked through");
	walk->visited_count++;
	r = walk_look(walk, number);
	if (r < 0)
		return r;
	/* A partition sits on what its whole device sits on. */
	(void)snprintf(path, sizeof(path), "%s/dev/block/%u:%u/partition", walk->sysfs,
		       major(number), minor(number));
	if (access(path, F_OK) == 0)
		up = "../";
	(void)snprintf(path, sizeof(path), "%s/dev/block/%u:%u/%sslaves", walk->sysfs,
		       major(number), minor(number), up);
	return walk_slaves(walk, path, depth);
}

int ferry_multipath_check(const char *sysfs, dev_t number, int (*ask)(dev_t number),
			  struct ferry_error *reterr)
{
	struct walk walk = {.sysfs = sysfs, .ask = ask, .reterr = reterr};

	ferry_assert(sysfs && strlen(sysfs) < PATH_MAX / 2);
	ferry_assert(ask);
	return walk_down(&walk, number, /* depth= */ 0);
}
