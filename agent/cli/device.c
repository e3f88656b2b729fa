/* device.c - loop devices over volumes' files: made here, for the agent would wait for itself. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/adapters/loopdev/loopdev.h"
#include "agent/cli/cli.h"
#include "ferry.pb-c.h"

/* A block device that the agent made itself needs nothing of us. */
static bool is_device(const char *path)
{
	return strncmp(path, "/dev/", strlen("/dev/")) == 0;
}

int cli_attach(ProtobufCMessage *message, struct ferry_error *reterr)
{
	Ferry__V1__AttachVolumeReply *reply = (Ferry__V1__AttachVolumeReply *)message;
	char device[FERRY_LOOPDEV_PATH_MAX];
	struct stat attr;
	char *copy;
	int r;

	ferry_assert(reply->base.descriptor == &ferry__v1__attach_volume_reply__descriptor);
	if (is_device(reply->device))
		return 0;
	if (!reply->device[0])
		return ferry_error_set(reterr, -EOPNOTSUPP,
				       "the agent shows no files (no [fuse] in its configuration, "
				       "no --fuse); NBD clients use %s",
				       reply->uri[0] ? reply->uri : "nothing either");
	if (stat(reply->device, &attr) < 0)
		return ferry_error_set(reterr, -errno, "the volume's file %s: %s", reply->device,
				       strerror(errno));
	if (attr.st_blksize != 512 && attr.st_blksize != 4096)
		return ferry_error_set(reterr, -EIO, "%s: not a volume's file: blocks of %ld bytes",
				       reply->device, (long)attr.st_blksize);
	r = ferry_loopdev_attach(reply->device, (uint32_t)attr.st_blksize,
				 !(attr.st_mode & S_IWUSR), device, reterr);
	if (r < 0)
		return r == -EBUSY ? -EPERM : r;
	copy = strdup(device);
	if (!copy)
		return ferry_error_set(reterr, -ENOMEM, "no memory");
	free(reply->device); /* It was not empty, so it is the library's to free, or ours. */
	reply->device = copy;
	return 0;
}

int cli_detach(ProtobufCMessage *message, struct ferry_error *reterr)
{
	const Ferry__V1__DetachVolumeReply *reply = (Ferry__V1__DetachVolumeReply *)message;
	char device[FERRY_LOOPDEV_PATH_MAX];
	int r;

	ferry_assert(reply->base.descriptor == &ferry__v1__detach_volume_reply__descriptor);
	if (!reply->device[0] || is_device(reply->device))
		return 0;
	r = ferry_loopdev_find(reply->device, device, reterr);
	if (r == 0)
		r = ferry_loopdev_detach(device, reply->device, reterr);
	else if (r == -ENOENT || r == -ENODEV || r == -ENOTCONN) /* Not served here any more. */
		r = ferry_loopdev_clear(reply->device, reterr);
	return r == -EBUSY ? -EPERM : r; /* In use: refused, as the help says. */
}

void cli_volumes(ProtobufCMessage *message)
{
	Ferry__V1__VolumeList *list = (Ferry__V1__VolumeList *)message;
	char device[FERRY_LOOPDEV_PATH_MAX];
	struct ferry_error none;

	ferry_assert(list->base.descriptor == &ferry__v1__volume_list__descriptor);
	for (size_t i = 0; i < list->n_volumes; i++) {
		char *file = list->volumes[i]->device;
		char *copy;

		if (!file[0] || is_device(file) || ferry_loopdev_find(file, device, &none) < 0)
			continue;
		copy = strdup(device);
		if (!copy)
			return; /* Its file is true, too. */
		free(file);
		list->volumes[i]->device = copy;
	}
}
