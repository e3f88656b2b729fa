#include "agent/adapters/statefile/statefile.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/statefile/record.h"

#define TEMPORARY_SUFFIX "~" /* No key has this character. */

struct ferry_statefile {
	struct ferry_store store;
	int directory_fd;
};

static struct ferry_statefile *statefile_from(struct ferry_store *store)
{
	struct ferry_statefile *statefile =
		FERRY_CONTAINER_OF(store, struct ferry_statefile, store);

	ferry_assert(store);
	ferry_assert(statefile->directory_fd >= 0);
	return statefile;
}

/* a-z, 0-9, '-', '.', not first a '.': no key leads out of the directory. */
static bool key_is_valid(const char *key)
{
	size_t length;

	ferry_assert(key);
	length = strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-.");
	return length > 0 && length <= FERRY_STATEFILE_KEY_MAX && key[length] == '\0' &&
	       key[0] != '.';
}

/* All that there is, up to one byte more than @size_bytes would be an error: count, or errno. */
static ssize_t read_all(int fd, void *ret, size_t size_bytes)
{
	size_t count = 0;

	ferry_assert(fd >= 0);
	while (count < size_bytes) {
		ssize_t part = read(fd, (uint8_t *)ret + count, size_bytes - count);

		if (part < 0 && errno == EINTR)
			continue;
		if (part < 0)
			return -errno;
		if (part == 0)
			break;
		count += (size_t)part;
	}
	return (ssize_t)count;
}

static int write_all(int fd, const void *bytes, size_t size_bytes)
{
	ferry_assert(fd >= 0);
	for (size_t count = 0; count < size_bytes;) {
		ssize_t part = write(fd, (const uint8_t *)bytes + count, size_bytes - count);

		if (part < 0 && errno == EINTR)
			continue;
		if (part < 0)
			return -errno;
		count += (size_t)part;
	}
	return 0;
}

static int statefile_load(struct ferry_store *store, const char *key, void *ret, size_t size_bytes)
{
	struct ferry_statefile *statefile = statefile_from(store);
	struct {
		struct ferry_record record;
		uint8_t excess; /* A file that is too long is damaged, too. */
	} buffer;
	ssize_t count;
	int length;
	int fd;

	ferry_assert(ret || size_bytes == 0);
	if (!key_is_valid(key))
		return -EINVAL;
	fd = openat(statefile->directory_fd, key, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : -EIO; /* There, but not to be had. */
	count = read_all(fd, &buffer, sizeof(buffer.record) + 1);
	(void)close(fd); /* It was only read. */
	if (count < 0)
		return -EIO;
	length = ferry_record_check(&buffer.record, (size_t)count, key);
	if (length < 0)
		return length;
	if ((size_t)length > size_bytes)
		return -ENOBUFS;
	memcpy(ret, buffer.record.value, (size_t)length);
	return length;
}

/* What the port has a word for; the rest is -EIO. */
static int save_error(int error)
{
	ferry_assert(error < 0);
	if (error == -ENOSPC || error == -EDQUOT)
		return -ENOSPC;
	return error == -EROFS ? -EROFS : -EIO;
}

static int save_temporary(struct ferry_statefile *statefile, const char *name,
			  const struct ferry_record *record, size_t size_bytes)
{
	int fd = openat(statefile->directory_fd, name,
			O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = write_all(fd, record, size_bytes);
	/* Before the rename: else a power cut could leave the new name on an empty file. */
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static int statefile_save(struct ferry_store *store, const char *key, const void *value,
			  size_t length_bytes)
{
	struct ferry_statefile *statefile = statefile_from(store);
	char name[FERRY_STATEFILE_KEY_MAX + sizeof(TEMPORARY_SUFFIX)];
	struct ferry_record record;
	int r;

	ferry_assert(value || length_bytes == 0);
	ferry_assert(length_bytes <= FERRY_STORE_VALUE_BYTES_MAX);
	if (!key_is_valid(key))
		return -EINVAL;
	(void)snprintf(name, sizeof(name), "%s" TEMPORARY_SUFFIX, key); /* It fits: see above. */
	ferry_record_make(&record, key, value, length_bytes);
	r = save_temporary(statefile, name, &record, sizeof(record.head) + length_bytes);
	if (r == 0 && renameat(statefile->directory_fd, name, statefile->directory_fd, key) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(statefile->directory_fd, name, 0); /* Also done at the next open. */
		return save_error(r);
	}
	/* Of a failure here nobody can say which of the two values a power cut would leave. */
	if (fsync(statefile->directory_fd) < 0)
		return save_error(-errno);
	return 0;
}

/* Remove what a save that did not come to its end has left. */
static void sweep(struct ferry_statefile *statefile)
{
	int fd = openat(statefile->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *directory;

	if (fd < 0)
		return; /* They do no harm. */
	directory = fdopendir(fd);
	if (!directory) {
		(void)close(fd);
		return;
	}
	while ((entry = readdir(directory))) {
		size_t length = strlen(entry->d_name);

		if (length > 1 && strcmp(entry->d_name + length - 1, TEMPORARY_SUFFIX) == 0)
			(void)unlinkat(statefile->directory_fd, entry->d_name, 0);
	}
	(void)closedir(directory);
}

/* A directory just made is itself an entry that a power cut may take along. */
static int parent_sync(const struct ferry_statefile *statefile)
{
	int fd = openat(statefile->directory_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = fsync(fd) < 0 ? -errno : 0;
	(void)close(fd); /* It was only synced. */
	return r;
}

static int open_directory(struct ferry_statefile *statefile, const char *path,
			  struct ferry_error *reterr)
{
	struct stat status;
	int r;

	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: it cannot be made: %s", path, strerror(-r));
	}
	statefile->directory_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (statefile->directory_fd < 0 || fstat(statefile->directory_fd, &status) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: %s", path, strerror(-r));
	}
	if (status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)))
		return ferry_error_set(reterr, -EPERM,
				       "%s: others may write to it; it must be this user's own, "
				       "mode 0700",
				       path);
	if (flock(statefile->directory_fd, LOCK_EX | LOCK_NB) < 0) {
		r = errno == EWOULDBLOCK ? -EBUSY : -errno;
		return ferry_error_set(reterr, r, "%s: %s", path,
				       r == -EBUSY ? "another agent uses it" : strerror(-r));
	}
	r = parent_sync(statefile);
	if (r < 0)
		return ferry_error_set(reterr, r, "%s: its parent cannot be synced: %s", path,
				       strerror(-r));
	return 0;
}

static const struct ferry_store_ops statefile_ops = {
	.name = "statefile",
	.load = statefile_load,
	.save = statefile_save,
};

int ferry_statefile_open(const char *path, struct ferry_statefile **ret, struct ferry_error *reterr)
{
	_cleanup_(ferry_statefile_closep) struct ferry_statefile *statefile = NULL;
	int r;

	ferry_assert(path);
	ferry_assert(ret);
	statefile = calloc(1, sizeof(*statefile));
	if (!statefile)
		return ferry_error_set(reterr, -ENOMEM, "no memory for the state directory");
	statefile->store.ops = &statefile_ops;
	statefile->directory_fd = -1;
	r = open_directory(statefile, path, reterr);
	if (r < 0)
		return r;
	sweep(statefile);
	*ret = TAKE_PTR(statefile);
	return 0;
}

struct ferry_store *ferry_statefile_store(struct ferry_statefile *statefile)
{
	ferry_assert(statefile);
	ferry_assert(statefile->store.ops == &statefile_ops);
	return &statefile->store;
}

struct ferry_statefile *ferry_statefile_close(struct ferry_statefile *statefile)
{
	if (!statefile)
		return NULL;
	if (statefile->directory_fd >= 0)
		(void)close(statefile->directory_fd); /* Every save has ended, synced. */
	free(statefile);
	return NULL;
}
