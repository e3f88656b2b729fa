/*
 * device.c - what is done here with a device, for the agent would wait for itself: devices of the
 * kernel's NBD client; loop devices over volumes' files; and a look at who uses a device of ublk,
 * before the agent removes it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/loopdev/loopdev.h"
#include "agent/adapters/nbddev/nbddev.h"
#include "agent/cli/cli.h"
#include "ferry.pb-c.h"

/* As in main.c: protoc-c's initialisers. */
#pragma GCC diagnostic ignored "-Wcast-qual"

/* A block device that the agent made itself needs nothing of us. */
static bool is_device(const char *path)
{
	return strncmp(path, "/dev/", strlen("/dev/")) == 0;
}

/* A text of a message: if it is not empty it is the library's to free, or ours. */
static int text_replace(char **text, const char *by)
{
	char *copy = strdup(by);

	if (!copy)
		return -ENOMEM;
	if ((*text)[0])
		free(*text);
	*text = copy;
	return 0;
}

/* ---- Attaching. ---- */

static int answer_set(Ferry__V1__AttachVolumeReply *reply, const char *device,
		      const char *front_end, struct ferry_error *reterr)
{
	if (text_replace(&reply->device, device) < 0 ||
	    text_replace(&reply->front_end, front_end) < 0)
		return ferry_error_set(reterr, -ENOMEM, "no memory");
	return 0;
}

/* Why it is by none of the better ones: the agent's reason, and this. */
static int reason_add(Ferry__V1__AttachVolumeReply *reply, const char *why)
{
	char text[2 * CLI_CELL_BYTES];

	(void)snprintf(text, sizeof(text), "%.250s%s%.250s", reply->reason,
		       reply->reason[0] ? "; " : "", why);
	return text_replace(&reply->reason, text);
}

/* One that is attached by a loop device stays so: two devices would not see each other's writes. */
static bool has_loop(const char *file)
{
	char device[FERRY_LOOPDEV_PATH_MAX];
	struct ferry_error none;

	return file[0] && ferry_loopdev_find(file, device, &none) == 0;
}

static int no_front_end(const Ferry__V1__AttachVolumeReply *reply, struct ferry_error *reterr)
{
	if (reply->reason[0] && !reply->uri[0])
		return ferry_error_set(reterr, -EOPNOTSUPP, "%s", reply->reason);
	return ferry_error_set(reterr, -EOPNOTSUPP,
			       "%s%sthe agent shows no files (no [fuse] in its configuration, "
			       "no --fuse); NBD clients use %s",
			       reply->reason, reply->reason[0] ? "; " : "",
			       reply->uri[0] ? reply->uri : "nothing either");
}

static int loop_attach(Ferry__V1__AttachVolumeReply *reply, struct ferry_error *reterr)
{
	char device[FERRY_LOOPDEV_PATH_MAX];
	struct stat attr;
	int r;

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
	return answer_set(reply, device, "fuse, loop", reterr);
}

int cli_attach(ProtobufCMessage *message, struct ferry_error *reterr)
{
	Ferry__V1__AttachVolumeReply *reply = (Ferry__V1__AttachVolumeReply *)message;
	char device[FERRY_NBDDEV_PATH_MAX];
	struct ferry_error why;
	int r;

	ferry_assert(reply->base.descriptor == &ferry__v1__attach_volume_reply__descriptor);
	if (is_device(reply->device))
		return 0;
	if (cli_nbd_is(reply->uri) && !has_loop(reply->device)) {
		r = cli_nbd_attach(reply->uri, reply->label, reply->hold_s, device, &why);
		if (r == 0)
			return answer_set(reply, device, "nbd", reterr);
		if (r == -EBUSY) {
			*reterr = why;
			return -EPERM; /* A dead one in use: refused, as with the others. */
		}
		if (reason_add(reply, why.message) < 0)
			return ferry_error_set(reterr, -ENOMEM, "no memory");
	}
	return reply->device[0] ? loop_attach(reply, reterr) : no_front_end(reply, reterr);
}

/* ---- Detaching. ---- */

/*
 * The agent's own device: removed if it can be held here, alone. Mounts and other claims show as
 * busy; a mere open(2) does not, the kernel tells nobody of it.
 */
static int ublk_detach(const struct cli_agent *agent, const char *device,
		       struct ferry_error *reterr)
{
	Ferry__V1__DetachVolumeRequest request = FERRY__V1__DETACH_VOLUME_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	int fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);
	int r = fd < 0 ? -errno : 0;

	if (r == -EBUSY)
		return ferry_error_set(reterr, r, "%s is in use; unmount it first", device);
	if (r < 0)
		return ferry_error_set(reterr, r, "%s: %s", device, strerror(-r));
	request.volume = (char *)(uintptr_t)agent->options->arguments[0]; /* Only read. */
	request.remove = true;
	r = cli_call(agent, "DetachVolume", &request.base,
		     &ferry__v1__detach_volume_reply__descriptor, &message, reterr);
	protobuf_c_message_free_unpacked(message, NULL);
	(void)close(fd); /* Till now, so that nobody else could begin to use it. */
	return r;
}

int cli_detach(const struct cli_agent *agent, ProtobufCMessage *message, struct ferry_error *reterr)
{
	const Ferry__V1__DetachVolumeReply *reply = (Ferry__V1__DetachVolumeReply *)message;
	char device[FERRY_LOOPDEV_PATH_MAX];
	int r;

	ferry_assert(reply->base.descriptor == &ferry__v1__detach_volume_reply__descriptor);
	if (cli_nbd_is(reply->uri)) {
		r = ferry_nbddev_detach(reply->uri, reterr);
		if (r != -ENOENT)
			return r == -EBUSY ? -EPERM : r;
	}
	if (!reply->device[0])
		return 0;
	if (strncmp(reply->device, "/dev/ublkb", strlen("/dev/ublkb")) == 0) {
		r = ublk_detach(agent, reply->device, reterr);
		return r == -EBUSY ? -EPERM : r;
	}
	if (is_device(reply->device))
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

	_Static_assert((int)FERRY_LOOPDEV_PATH_MAX == (int)FERRY_NBDDEV_PATH_MAX, "either's");
	ferry_assert(list->base.descriptor == &ferry__v1__volume_list__descriptor);
	for (size_t i = 0; i < list->n_volumes; i++) {
		const char *file = list->volumes[i]->device;
		const char *uri = list->volumes[i]->uri;

		if (is_device(file))
			continue;
		if ((!cli_nbd_is(uri) || ferry_nbddev_find(uri, device, &none) < 0) &&
		    (!file[0] || ferry_loopdev_find(file, device, &none) < 0))
			continue;
		if (text_replace(&list->volumes[i]->device, device) < 0)
			return; /* Its file is true, too. */
	}
}
