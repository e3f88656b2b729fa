/* beneath.c - which SCSI devices a block device sits on. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/adapters/uevent/private.h"

static bool is_there(const char *folder, const char *name)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path) &&
	       access(path, F_OK) == 0;
}

/* Whether the disk in @folder is a SCSI device, and @devpath. */
static bool is_device(const char *sysfs, const char *folder, const char *devpath)
{
	char path[PATH_MAX], device[PATH_MAX], root[PATH_MAX];
	size_t length;

	if (!is_there(folder, "device/scsi_level"))
		return false;
	if (!devpath)
		return true;
	if (snprintf(path, sizeof(path), "%s/device", folder) >= (int)sizeof(path) ||
	    !realpath(path, device) || !realpath(sysfs, root))
		return false;
	length = strlen(root);
	return strncmp(device, root, length) == 0 && strcmp(device + length, devpath) == 0;
}

static bool look(const char *sysfs, const char *folder, const char *devpath, uint32_t depth)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *directory;
	bool is_found;

	if (depth == FERRY_UEVENT_DEPTH_MAX)
		return false;
	if (is_there(folder, "partition")) { /* Its disk's. */
		if (snprintf(path, sizeof(path), "%s/..", folder) >= (int)sizeof(path))
			return false;
		return look(sysfs, path, devpath, depth + 1);
	}
	is_found = is_device(sysfs, folder, devpath);
	if (is_found || snprintf(path, sizeof(path), "%s/slaves", folder) >= (int)sizeof(path))
		return is_found;
	directory = opendir(path);
	while (directory && !is_found && (entry = readdir(directory))) {
		char slave[PATH_MAX];

		if (entry->d_name[0] != '.' && snprintf(slave, sizeof(slave), "%s/%s", path,
							entry->d_name) < (int)sizeof(slave))
			is_found = look(sysfs, slave, devpath, depth + 1);
	}
	if (directory)
		(void)closedir(directory); /* It was only read. */
	return is_found;
}

bool ferry_uevent_is_beneath(const char *sysfs, dev_t number, const char *devpath)
{
	char path[PATH_MAX], folder[PATH_MAX];

	ferry_assert(sysfs && strlen(sysfs) < PATH_MAX / 2);
	(void)snprintf(path, sizeof(path), "%.*s/dev/block/%u:%u", PATH_MAX / 2, sysfs,
		       major(number), minor(number));
	return realpath(path, folder) && look(sysfs, folder, devpath, 0);
}
