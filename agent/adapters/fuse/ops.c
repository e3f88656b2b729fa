#include <fcntl.h>
#include <linux/fuse.h> /* struct fuse_open_out: see op_open(). */
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "agent/adapters/fuse/internal.h"

enum {
	DIRECTORY_BYTES_MAX = 4096, /* One answer of readdir. */
	ROOT_BLOCK_BYTES = 4096,
};

static const double attr_timeout_s = 1.0; /* Names and sizes rarely change. */

struct fuse_volume *fuse_volume_find(struct ferry_fuse *fuse, fuse_ino_t ino)
{
	ferry_assert(fuse);
	for (size_t i = 0; i < FERRY_FUSE_VOLUMES_MAX; i++) {
		struct fuse_volume *volume = &fuse->volumes[i];

		if (volume->block && !volume->is_removed && volume->ino == ino)
			return volume;
	}
	return NULL;
}

static bool attr_fill(struct ferry_fuse *fuse, fuse_ino_t ino, struct stat *ret)
{
	struct fuse_volume *volume = fuse_volume_find(fuse, ino);

	*ret = (struct stat){.st_ino = ino, .st_nlink = 1};
	if (ino == FUSE_ROOT_ID && !fuse->is_single_file) {
		ret->st_mode = S_IFDIR | 0700;
		ret->st_nlink = 2;
		ret->st_blksize = ROOT_BLOCK_BYTES;
		return true;
	}
	if (!volume)
		return false;
	ret->st_mode = S_IFREG | (volume->block->is_read_only ? 0400 : 0600);
	ret->st_size = (off_t)(volume->block->size_blocks * volume->block->block_bytes);
	ret->st_blocks = ret->st_size / 512; /* stat(2)'s unit, whatever the block size. */
	ret->st_blksize = (blksize_t)volume->block->block_bytes;
	return true;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct ferry_fuse *fuse = userdata;

	ferry_assert(fuse);
	ferry_assert(conn);
	/* Data is copied once, from libfuse's buffer to the arena; pipes would be one more way. */
	conn->want &=
		~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	/* O_TRUNC comes as a change of size then, and is refused as such. */
	conn->want &= ~(unsigned)FUSE_CAP_ATOMIC_O_TRUNC;
	conn->want |= conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO);
	conn->max_write = (unsigned)ferry_min_u64(conn->max_write, FERRY_IO_BYTES_MAX);
	conn->max_background = FERRY_FUSE_BACKGROUND;
	conn->congestion_threshold = FERRY_FUSE_BACKGROUND * 3 / 4;
	conn->max_readahead = 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ferry_fuse *fuse = fuse_req_userdata(req);
	struct fuse_entry_param entry = {.attr_timeout = attr_timeout_s,
					 .entry_timeout = attr_timeout_s};

	ferry_assert(name);
	for (size_t i = 0; parent == FUSE_ROOT_ID && i < FERRY_FUSE_VOLUMES_MAX; i++) {
		struct fuse_volume *volume = &fuse->volumes[i];

		if (!volume->block || volume->is_removed || strcmp(volume->block->name, name) != 0)
			continue;
		entry.ino = volume->ino;
		if (attr_fill(fuse, volume->ino, &entry.attr)) {
			(void)fuse_reply_entry(req, &entry);
			return;
		}
	}
	(void)fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ferry_fuse *fuse = fuse_req_userdata(req);
	struct stat attr;

	(void)fi;
	FERRY_ASSERT_ON_LOOP(fuse->loop);
	if (attr_fill(fuse, ino, &attr))
		(void)fuse_reply_attr(req, &attr, attr_timeout_s);
	else
		(void)fuse_reply_err(req, ENODEV);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *wanted, int to_set,
		       struct fuse_file_info *fi)
{
	struct ferry_fuse *fuse = fuse_req_userdata(req);
	struct stat attr;

	(void)fi;
	if (!attr_fill(fuse, ino, &attr)) {
		(void)fuse_reply_err(req, ENODEV);
		return;
	}
	if ((to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) ||
	    ((to_set & FUSE_SET_ATTR_SIZE) && wanted->st_size != attr.st_size)) {
		fuse->counters.refused++;
		(void)fuse_reply_err(req, EPERM);
		return;
	}
	(void)fuse_reply_attr(req, &attr, attr_timeout_s); /* Times: accepted, and not kept. */
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ferry_fuse *fuse = fuse_req_userdata(req);
	struct fuse_volume *volume = fuse_volume_find(fuse, ino);
	struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO};

	ferry_assert(fi);
	if (!volume || fuse->is_closing) {
		(void)fuse_reply_err(req, volume ? ESHUTDOWN : ENODEV);
		return;
	}
	if (volume->block->is_read_only && (fi->flags & O_ACCMODE) != O_RDONLY) {
		(void)fuse_reply_err(req, EROFS);
		return;
	}
	/*
	 * Without this flag the kernel lets one write at a time into a file. libfuse knows it
	 * from 3.15 on, Debian 12 has 3.14: so we write the kernel's own answer.
	 */
#ifdef FOPEN_PARALLEL_DIRECT_WRITES
	out.open_flags |= FOPEN_PARALLEL_DIRECT_WRITES;
#endif
	/* Who has given up on it meanwhile will not close it either. */
	if (fuse_reply_buf(req, (const char *)&out, sizeof(out)) == 0)
		volume->opens++;
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_volume *volume = fuse_volume_find(fuse_req_userdata(req), ino);

	(void)fi;
	if (volume && volume->opens > 0)
		volume->opens--;
	(void)fuse_reply_err(req, 0);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	struct ferry_fuse *fuse = fuse_req_userdata(req);
	char bytes[DIRECTORY_BYTES_MAX];
	size_t room_bytes = (size_t)ferry_min_u64(size, sizeof(bytes));
	size_t used_bytes = 0;

	(void)fi;
	if (ino != FUSE_ROOT_ID || fuse->is_single_file) {
		(void)fuse_reply_err(req, ENOTDIR);
		return;
	}
	/* Offset n: what comes after entry n - 1; 0 and 1 are "." and "..". */
	for (off_t i = offset < 0 ? 0 : offset; i < FERRY_FUSE_VOLUMES_MAX + 2; i++) {
		struct stat attr = {.st_ino = FUSE_ROOT_ID, .st_mode = S_IFDIR};
		const char *name = i == 0 ? "." : "..";
		size_t entry_bytes;

		if (i >= 2) {
			const struct fuse_volume *volume = &fuse->volumes[i - 2];

			if (!volume->block || volume->is_removed)
				continue;
			name = volume->block->name;
			attr.st_ino = volume->ino;
			attr.st_mode = S_IFREG;
		}
		entry_bytes = fuse_add_direntry(req, bytes + used_bytes, room_bytes - used_bytes,
						name, &attr, i + 1);
		if (entry_bytes > room_bytes - used_bytes)
			break;
		used_bytes += entry_bytes;
	}
	(void)fuse_reply_buf(req, bytes, used_bytes);
}

/* The loop driver takes f_bsize as the granularity of discards: the file's own block size. */
static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct ferry_fuse *fuse = fuse_req_userdata(req);
	const struct fuse_volume *volume = fuse_volume_find(fuse, ino);
	struct statvfs stat = {.f_bsize = ROOT_BLOCK_BYTES, .f_namemax = 31};

	ferry_assert(fuse);
	if (volume) {
		stat.f_bsize = volume->block->block_bytes;
		stat.f_blocks = volume->block->size_blocks;
	}
	stat.f_frsize = stat.f_bsize;
	(void)fuse_reply_statfs(req, &stat);
}

const struct fuse_lowlevel_ops ferry_fuse_lowlevel_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.open = op_open,
	.release = op_release,
	.readdir = op_readdir,
	.statfs = op_statfs,
	.read = fuse_op_read,
	.write = fuse_op_write,
	.flush = fuse_op_flush,
	.fsync = fuse_op_fsync,
	.fallocate = fuse_op_fallocate,
};
