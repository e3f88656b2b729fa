#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "agent/adapters/common/cleanup.h"
#include "agent/adapters/fuse/internal.h"

enum {
	STALE_MOUNTS_MAX = 8, /* Agents that died one after another at one place. */
	OPTIONS_BYTES_MAX = 128,
};

static void tell(struct ferry_fuse *fuse, enum ferry_severity severity, const char *what,
		 const char *more)
{
	ferry_event_emit(fuse->events,
			 (struct ferry_event){
				 .kind = FERRY_EVENT_ADMIN,
				 .severity = severity,
				 .time_ns = ferry_loop_now_ns(fuse->loop),
			 },
			 "%s %s", what, more);
}

/* Dead agents leave mounts that answer ENOTCONN to everything. */
static int stale_mounts_remove(struct ferry_fuse *fuse, struct ferry_error *reterr)
{
	struct statfs fs;

	ferry_assert(fuse->mountpoint[0] == '/');
	for (int i = 0; i < STALE_MOUNTS_MAX; i++) {
		/* Unlike stat(2) this is never answered from what the kernel remembers. */
		if (statfs(fuse->mountpoint, &fs) == 0 || errno != ENOTCONN)
			return 0;
		if (umount2(fuse->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
			int r = -errno;

			return ferry_error_set(reterr, r,
					       "cannot remove the dead mount at %s: %s; unmount it "
					       "by hand: umount -l %s",
					       fuse->mountpoint, strerror(-r), fuse->mountpoint);
		}
		tell(fuse, FERRY_SEVERITY_NOTICE,
		     "removed a mount that an agent had left when it died:", fuse->mountpoint);
	}
	return ferry_error_set(reterr, -EBUSY, "more than %d dead mounts at %s; unmount them",
			       STALE_MOUNTS_MAX, fuse->mountpoint);
}

static int place_make(struct ferry_fuse *fuse, struct ferry_error *reterr)
{
	int r = 0;

	ferry_assert(!fuse->is_made);
	if (fuse->is_single_file) {
		int fd = open(fuse->mountpoint, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

		if (fd < 0)
			r = -errno;
		else
			(void)close(fd);
	} else if (mkdir(fuse->mountpoint, 0700) < 0) {
		r = -errno;
	}
	if (r == -EEXIST)
		return 0;
	if (r < 0)
		return ferry_error_set(reterr, r, "cannot make the mount point %s: %s",
				       fuse->mountpoint, strerror(-r));
	fuse->is_made = true;
	return 0;
}

static int directory_check_empty(const char *path, struct ferry_error *reterr)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;
	int count = 0;
	int r = directory ? 0 : -errno;

	if (r < 0)
		return ferry_error_set(reterr, r, "cannot read the mount point %s: %s", path,
				       strerror(-r));
	while (count == 0 && (entry = readdir(directory)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			count++;
	(void)closedir(directory);
	if (count > 0)
		return ferry_error_set(reterr, -ENOTEMPTY,
				       "the mount point %s is not empty; name an empty directory",
				       path);
	return 0;
}

/* Nothing living is mounted there, and nothing would be hidden by mounting over it. */
static int place_check(const struct ferry_fuse *fuse, struct ferry_error *reterr)
{
	enum { FUSE_MAGIC = 0x65735546 }; /* statfs(2) */
	const char *path = fuse->mountpoint;
	struct statfs fs;
	struct stat attr;

	if (stat(path, &attr) < 0 || statfs(path, &fs) < 0) {
		int r = -errno;

		return ferry_error_set(reterr, r, "cannot look at the mount point %s: %s", path,
				       strerror(-r));
	}
	if (fs.f_type == FUSE_MAGIC && attr.st_ino == FUSE_ROOT_ID)
		return ferry_error_set(reterr, -EBUSY,
				       "%s is mounted already, by a running agent or another FUSE "
				       "program; stop it or choose another mount point",
				       path);
	if (fuse->is_single_file) {
		if (S_ISREG(attr.st_mode))
			return 0;
		return ferry_error_set(reterr, -EINVAL,
				       "%s is not a regular file; name one, or a path that is "
				       "free, as mount point of a single volume",
				       path);
	}
	if (!S_ISDIR(attr.st_mode))
		return ferry_error_set(reterr, -ENOTDIR,
				       "%s is not a directory; name an empty directory as mount "
				       "point",
				       path);
	return directory_check_empty(path, reterr);
}

int fuse_mount(struct ferry_fuse *fuse, int *ret_fd, struct ferry_error *reterr)
{
	_cleanup_(ferry_closep) int fd = -1;
	char options[OPTIONS_BYTES_MAX];
	int r;

	ferry_assert(!fuse->is_mounted);
	r = stale_mounts_remove(fuse, reterr);
	if (r < 0)
		return r;
	r = place_make(fuse, reterr);
	if (r < 0)
		return r;
	r = place_check(fuse, reterr);
	if (r < 0)
		return r;
	fd = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r,
				       "cannot open /dev/fuse: %s; the kernel needs FUSE "
				       "(modprobe fuse), and a container this device",
				       strerror(-r));
	}
	(void)snprintf(options, sizeof(options),
		       "fd=%d,rootmode=%o,user_id=0,group_id=0,default_permissions", fd,
		       (unsigned)(fuse->is_single_file ? S_IFREG | 0600 : S_IFDIR | 0700));
	if (mount("ferry", fuse->mountpoint, "fuse.ferry",
		  MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME, options) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "cannot mount %s: %s", fuse->mountpoint,
				       strerror(-r));
	}
	fuse->is_mounted = true;
	*ret_fd = fd;
	fd = -1; /* Handed over. */
	return 0;
}

void fuse_unmount(struct ferry_fuse *fuse)
{
	ferry_assert(fuse);
	if (fuse->is_mounted && umount2(fuse->mountpoint, UMOUNT_NOFOLLOW) < 0) {
		int r = -errno;

		if (r == -EBUSY)
			tell(fuse, FERRY_SEVERITY_WARNING,
			     "volumes are still in use (a loop device? ferry detach): their users "
			     "will see errors; detached lazily:",
			     fuse->mountpoint);
		if (umount2(fuse->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			tell(fuse, FERRY_SEVERITY_WARNING,
			     "cannot unmount, ignoring:", strerror(errno));
	}
	fuse->is_mounted = false;
	if (!fuse->is_made)
		return;
	/* Ignoring errors: whoever put something there since may keep it. */
	if (fuse->is_single_file)
		(void)unlink(fuse->mountpoint);
	else
		(void)rmdir(fuse->mountpoint);
	fuse->is_made = false;
}
