#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/adapters/common/line.h"
#include "agent/adapters/sgio/private.h"

/* One disk, by its folder in sysfs. */
static int disk_add(const char *folder, const char *name, struct ferry_sgio_disks *disks,
		    struct ferry_error *reterr)
{
	char text[32];
	char *to;

	if (ferry_line_read(text, sizeof(text), "%s/device/scsi_level", folder) < 0)
		return ferry_error_set(reterr, -EOPNOTSUPP,
				       "%s is no SCSI disk: no reservations there", name);
	/* tgtd: its PREEMPT returns while the victim's write still runs, and there is no ABORT. */
	if (ferry_line_read(text, sizeof(text), "%s/device/model", folder) == 0 &&
	    strncmp(text, "VIRTUAL-DISK", strlen("VIRTUAL-DISK")) == 0)
		return ferry_error_set(reterr, -EOPNOTSUPP,
				       "%s: its target, tgtd, cannot PREEMPT AND ABORT; Ferry has "
				       "another way with it where the lun is configured by iscsi=",
				       name);
	if (ferry_line_read(text, sizeof(text), "%s/device/vendor", folder) == 0 &&
	    strncmp(text, "LIO-ORG", strlen("LIO-ORG")) == 0)
		disks->is_untrue = true;
	if (disks->count == FERRY_SGIO_PATHS_MAX || strlen(name) >= FERRY_SGIO_NAME_MAX)
		return ferry_error_set(reterr, -EOPNOTSUPP,
				       "it has more paths than the %d that Ferry can register",
				       FERRY_SGIO_PATHS_MAX);
	to = disks->names[disks->count++];
	(void)snprintf(to, FERRY_SGIO_NAME_MAX, "%s", name);
	for (; *to; to++)
		if (*to == '!') /* What sysfs has for a slash. */
			*to = '/';
	return 0;
}

static int map_add(const char *folder, struct ferry_sgio_disks *disks, struct ferry_error *reterr)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *directory;
	int r = 0;

	(void)snprintf(path, sizeof(path), "%.*s/slaves", PATH_MAX - 16, folder);
	directory = opendir(path);
	if (!directory)
		return ferry_error_set(reterr, -EIO, "%s: %s", path, strerror(errno));
	while (r == 0 && (entry = readdir(directory))) {
		char disk[PATH_MAX];

		if (entry->d_name[0] == '.')
			continue;
		if (snprintf(disk, sizeof(disk), "%s/%s", path, entry->d_name) >= (int)sizeof(disk))
			r = ferry_error_set(reterr, -EIO, "%s: too long a path", path);
		else
			r = disk_add(disk, entry->d_name, disks, reterr);
	}
	(void)closedir(directory); /* It was only read. */
	if (r == 0 && disks->count == 0)
		return ferry_error_set(reterr, -EIO, "the multipath map has no path now");
	return r;
}

int ferry_sgio_find(const char *sysfs, dev_t number, struct ferry_sgio_disks *ret,
		    struct ferry_error *reterr)
{
	struct ferry_sgio_disks disks = {};
	char link[PATH_MAX], folder[PATH_MAX], text[160];
	const char *name;
	ssize_t length;
	int r;

	ferry_assert(sysfs && strlen(sysfs) < PATH_MAX / 2);
	ferry_assert(ret);
	(void)snprintf(folder, sizeof(folder), "%.*s/dev/block/%u:%u", PATH_MAX / 2, sysfs,
		       major(number), minor(number));
	length = readlink(folder, link, sizeof(link) - 1);
	if (length < 0)
		return ferry_error_set(reterr, -EOPNOTSUPP,
				       "it is no block device: no reservations there");
	link[length] = '\0';
	name = strrchr(link, '/') ? strrchr(link, '/') + 1 : link;
	if (ferry_line_read(text, sizeof(text), "%s/partition", folder) == 0)
		return ferry_error_set(reterr, -EOPNOTSUPP,
				       "%s is a partition: a reservation is the whole lun's", name);
	if (ferry_line_read(text, sizeof(text), "%s/dm/uuid", folder) == 0 &&
	    strncmp(text, "mpath-", strlen("mpath-")) == 0)
		r = map_add(folder, &disks, reterr);
	else
		r = disk_add(folder, name, &disks, reterr);
	if (r == 0)
		*ret = disks;
	return r;
}
