#include "agent/adapters/uevent/uevent.h"

#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/adapters/uevent/private.h"

enum {
	GROUP_KERNEL = 1, /* Group 2 is udev's. */
	BUFFER_BYTES = 1024 * 1024,
	EVENTS_MAX = 64, /* In one turn of the loop. */
};

struct ferry_uevent {
	struct ferry_uevent_config config;
	dev_t number;
	struct ferry_watch watch;
};

const char *ferry_uevent_reset_of(const char *event, size_t length_bytes)
{
	const char *devpath = NULL;
	bool is_reset = false;
	size_t length;

	ferry_assert(event || length_bytes == 0);
	/* Words that end with NUL each; the last as well, or it is none. */
	for (size_t at = 0; at < length_bytes; at += length + 1) {
		const char *word = event + at;

		length = strnlen(word, length_bytes - at);
		if (length == length_bytes - at)
			return NULL;
		if (strncmp(word, "DEVPATH=", strlen("DEVPATH=")) == 0)
			devpath = word + strlen("DEVPATH=");
		is_reset |= strcmp(word, "SDEV_UA=POWER_ON_RESET_OCCURRED") == 0;
	}
	return is_reset ? devpath : NULL;
}

/* -EAGAIN: no more. 1: something to look after; 0: nothing of ours. */
static int event_read(struct ferry_uevent *uevent)
{
	static char event[FERRY_UEVENT_BYTES_MAX];
	struct sockaddr_nl from = {0};
	struct iovec part = {.iov_base = event, .iov_len = sizeof(event)};
	struct msghdr message = {
		.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &part, .msg_iovlen = 1};
	ssize_t length = recvmsg(uevent->watch.fd, &message, MSG_DONTWAIT);
	const char *devpath;

	if (length < 0)
		return errno == ENOBUFS ? 1
		       : errno == EINTR ? 0
					: -EAGAIN; /* Lost: perhaps ours. */
	if (from.nl_pid != 0 || (message.msg_flags & MSG_TRUNC))
		return 0; /* Not the kernel's. */
	devpath = ferry_uevent_reset_of(event, (size_t)length);
	return devpath && ferry_uevent_is_beneath("/sys", uevent->number, devpath);
}

static void watch_run(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_uevent *uevent = FERRY_CONTAINER_OF(watch, struct ferry_uevent, watch);
	bool is_reset = false;
	int r = 0;

	(void)ready;
	for (uint32_t i = 0; i < EVENTS_MAX && r >= 0; i++) {
		r = event_read(uevent);
		is_reset |= r > 0;
	}
	if (is_reset)
		uevent->config.on_reset(uevent->config.context);
}

static int socket_open(void)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = GROUP_KERNEL};
	int size_bytes = BUFFER_BYTES;
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			NETLINK_KOBJECT_UEVENT);
	int r;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size_bytes, sizeof(size_bytes)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size_bytes, sizeof(size_bytes));
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	r = -errno;
	(void)close(fd);
	return r;
}

int ferry_uevent_open(const struct ferry_uevent_config *config, struct ferry_uevent **ret,
		      struct ferry_error *reterr)
{
	struct ferry_uevent *uevent;
	struct stat status;
	int fd, r;

	ferry_assert(config && config->loop && config->path);
	ferry_assert(config->on_reset && ret);
	if (stat(config->path, &status) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: %s", config->path, strerror(-r));
	}
	if (!S_ISBLK(status.st_mode) ||
	    !ferry_uevent_is_beneath("/sys", status.st_rdev, /* devpath= */ NULL))
		return ferry_error_set(reterr, -EOPNOTSUPP, "%s: no SCSI disk is beneath it",
				       config->path);
	fd = socket_open();
	if (fd < 0)
		return ferry_error_set(reterr, fd, "the kernel's events: %s", strerror(-fd));
	uevent = calloc(1, sizeof(*uevent));
	if (uevent) {
		*uevent = (struct ferry_uevent){.config = *config,
						.number = status.st_rdev,
						.watch = {.run = watch_run, .fd = fd}};
		r = config->loop->ops->watch_start(config->loop, &uevent->watch, FERRY_WATCH_READ);
	} else {
		r = -ENOMEM;
	}
	if (r < 0) {
		(void)close(fd);
		free(uevent);
		return ferry_error_set(reterr, r, "the kernel's events: %s", strerror(-r));
	}
	*ret = uevent;
	return 0;
}

void ferry_uevent_close(struct ferry_uevent *uevent)
{
	if (!uevent)
		return;
	FERRY_ASSERT_ON_LOOP(uevent->config.loop);
	uevent->config.loop->ops->watch_stop(uevent->config.loop, &uevent->watch);
	(void)close(uevent->watch.fd);
	free(uevent);
}
