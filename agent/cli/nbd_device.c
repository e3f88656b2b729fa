/*
 * nbd_device.c - devices of the kernel's own NBD client: here is the handshake with the agent, of
 * which the kernel knows nothing, and the device's identity: the volume's URI and label.
 */
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/adapters/nbddev/nbddev.h"
#include "agent/cli/cli.h"
#include "agent/torture/client.h"

enum { HANDSHAKE_MS = 5000 };

bool cli_nbd_is(const char *uri)
{
	return strncmp(uri, "nbd+unix:///", strlen("nbd+unix:///")) == 0 &&
	       strlen(uri) < FERRY_NBDDEV_IDENTITY_BYTES;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Till the export is ready for requests. */
static int handshake(struct torture_client *client)
{
	uint64_t end_ms = now_ms() + HANDSHAKE_MS;
	int r = torture_client_connect(client);

	while (r >= 0 && client->state != TORTURE_CLIENT_READY) {
		struct pollfd fd = {.fd = client->fd, .events = torture_client_events(client)};
		uint64_t now = now_ms();

		if (client->state == TORTURE_CLIENT_OFF)
			return -ECONNRESET;
		if (now >= end_ms)
			return -ETIMEDOUT;
		if (poll(&fd, 1, (int)(end_ms - now)) > 0)
			torture_client_run(client, fd.revents);
	}
	return r;
}

static int attach_new(struct torture_client *client, const char *uri, const char *label,
		      uint32_t hold_s, char ret_device[FERRY_NBDDEV_PATH_MAX],
		      struct ferry_error *reterr)
{
	struct ferry_nbddev_shape shape;
	int fd, r;

	r = handshake(client);
	fd = r < 0 ? r : torture_client_take(client);
	if (fd < 0)
		return ferry_error_set(reterr, fd, "%s: %s", uri, strerror(-fd));
	shape = (struct ferry_nbddev_shape){.size_bytes = client->size_bytes,
					    .block_bytes = client->block_bytes,
					    .flags = client->flags,
					    .hold_s = hold_s};
	r = ferry_nbddev_attach(uri, label, fd, &shape, ret_device, reterr);
	(void)close(fd); /* The kernel has its own hold on it. */
	return r;
}

int cli_nbd_attach(const char *uri, const char *label, uint32_t hold_s,
		   char ret_device[FERRY_NBDDEV_PATH_MAX], struct ferry_error *reterr)
{
	struct torture_client client;
	int r;

	ferry_assert(cli_nbd_is(uri));
	r = ferry_nbddev_end_dead(uri, reterr);
	if (r < 0)
		return r;
	r = ferry_nbddev_find(uri, ret_device, reterr);
	if (r != -ENOENT)
		return r; /* Attaching twice is once. */
	r = torture_client_init(&client, uri, reterr);
	if (r == 0)
		r = attach_new(&client, uri, label, hold_s, ret_device, reterr);
	torture_client_done(&client);
	return r;
}
