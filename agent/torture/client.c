#include "agent/torture/client.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/adapters/nbd/protocol.h"

enum {
	IN_BYTES = TORTURE_CLIENT_IO_BYTES_MAX + 64 * 1024,
	OUT_BYTES =
		TORTURE_CLIENT_DEPTH_MAX * (TORTURE_CLIENT_IO_BYTES_MAX + FERRY_NBD_REQUEST_BYTES),
	REPLY_BYTES = 16,
	OPTION_REPLY_BYTES = 20,
};

/* ---- Opening. ---- */

static int uri_parse(struct torture_client *client, const char *uri)
{
	if (sscanf(uri, "nbd+unix:///%63[^?]?socket=%107[^&]", client->export, client->path) == 2)
		return 0;
	if (sscanf(uri, "nbd+unix:///?socket=%107[^&]", client->path) == 1)
		return 0;
	client->path[0] = '\0';
	if (sscanf(uri, "nbd://%63[^:/]:%7[0-9]/%63s", client->host, client->port,
		   client->export) >= 2)
		return 0;
	return -EINVAL;
}

int torture_client_init(struct torture_client *client, const char *uri, struct ferry_error *reterr)
{
	ferry_assert(client && uri);
	*client = (struct torture_client){.state = TORTURE_CLIENT_OFF, .fd = -1};
	if (uri_parse(client, uri) < 0)
		return ferry_error_set(reterr, -EINVAL,
				       "%s: neither nbd+unix:///EXPORT?socket=PATH nor "
				       "nbd://ADDRESS:PORT/EXPORT",
				       uri);
	client->in = malloc(IN_BYTES);
	client->out = malloc(OUT_BYTES);
	if (!client->in || !client->out)
		return ferry_error_set(reterr, -ENOMEM, "no memory");
	return 0;
}

void torture_client_done(struct torture_client *client)
{
	ferry_assert(client);
	if (client->fd >= 0)
		close(client->fd);
	free(client->in);
	free(client->out);
	*client = (struct torture_client){.state = TORTURE_CLIENT_OFF, .fd = -1};
}

static int unix_connect(const struct torture_client *client)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", client->path);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	r = -errno; /* Also EAGAIN: nobody accepts. */
	close(fd);
	return r;
}

static int tcp_connect(const struct torture_client *client)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found;
	int fd, r;

	if (getaddrinfo(client->host, client->port, &hints, &found) != 0)
		return -ENOENT;
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : 0;
	if (r == 0 && connect(fd, found->ai_addr, found->ai_addrlen) < 0 && errno != EINPROGRESS)
		r = -errno;
	freeaddrinfo(found);
	if (r == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return r;
}

int torture_client_connect(struct torture_client *client)
{
	int fd;

	ferry_assert(client->state == TORTURE_CLIENT_OFF);
	ferry_assert(client->in_flight == 0);
	fd = client->path[0] ? unix_connect(client) : tcp_connect(client);
	if (fd < 0)
		return fd;
	client->fd = fd;
	client->in_used = client->out_used = 0;
	client->state = TORTURE_CLIENT_GREETING;
	return 0;
}

void torture_client_close(struct torture_client *client)
{
	ferry_assert(client);
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	client->state = TORTURE_CLIENT_OFF;
	for (uint32_t i = 0; i < TORTURE_CLIENT_DEPTH_MAX; i++) {
		struct torture_request request = client->requests[i];

		client->requests[i].op = 0;
		if (request.op == 0)
			continue;
		client->in_flight--;
		client->on_reply(client, request.context, -ESHUTDOWN, NULL);
	}
	ferry_assert(client->in_flight == 0);
}

int torture_client_take(struct torture_client *client)
{
	int fd = client->fd;

	ferry_assert(client->state == TORTURE_CLIENT_READY);
	ferry_assert(client->in_flight == 0 && client->out_used == 0);
	if (client->in_used > 0)
		return -EBADMSG; /* What it says unasked would be missed. */
	client->fd = -1;
	client->state = TORTURE_CLIENT_OFF;
	return fd;
}

/* ---- The handshake. ---- */

static struct ferry_nbd_writer writer_of(struct torture_client *client)
{
	return (struct ferry_nbd_writer){.bytes = client->out + client->out_used,
					 .size_bytes = OUT_BYTES - client->out_used};
}

/* Fixed newstyle; then NBD_OPT_GO, asking for the block sizes. */
static int greeting_take(struct torture_client *client, struct ferry_nbd_reader *reader)
{
	const uint32_t name_bytes = (uint32_t)strlen(client->export);
	struct ferry_nbd_writer writer = writer_of(client);

	if (ferry_nbd_read_u64(reader) != FERRY_NBD_MAGIC ||
	    ferry_nbd_read_u64(reader) != FERRY_NBD_OPTION_MAGIC ||
	    !(ferry_nbd_read_u16(reader) & FERRY_NBD_FIXED_NEWSTYLE))
		return -EBADMSG;
	ferry_nbd_write_u32(&writer, FERRY_NBD_FIXED_NEWSTYLE | FERRY_NBD_NO_ZEROES);
	ferry_nbd_write_u64(&writer, FERRY_NBD_OPTION_MAGIC);
	ferry_nbd_write_u32(&writer, FERRY_NBD_OPT_GO);
	ferry_nbd_write_u32(&writer, 4 + name_bytes + 2 + 2);
	ferry_nbd_write_u32(&writer, name_bytes);
	ferry_nbd_write_bytes(&writer, client->export, name_bytes);
	ferry_nbd_write_u16(&writer, 1);
	ferry_nbd_write_u16(&writer, FERRY_NBD_INFO_BLOCK_SIZE);
	client->out_used += writer.used_bytes;
	client->block_bytes = 512;
	client->state = TORTURE_CLIENT_ASKING;
	return 0;
}

/* One reply of the server's about the export. */
static int option_take(struct torture_client *client, uint32_t type,
		       struct ferry_nbd_reader *reader)
{
	uint16_t information;

	if (type == FERRY_NBD_REP_ACK) {
		client->state = TORTURE_CLIENT_READY;
		return client->size_bytes > 0 ? 0 : -EBADMSG;
	}
	if (type != FERRY_NBD_REP_INFO)
		return -ENOENT; /* No such export here, now. */
	information = ferry_nbd_read_u16(reader);
	if (information == FERRY_NBD_INFO_EXPORT) {
		client->size_bytes = ferry_nbd_read_u64(reader);
		client->flags = ferry_nbd_read_u16(reader);
	} else if (information == FERRY_NBD_INFO_BLOCK_SIZE) {
		client->block_bytes = ferry_nbd_read_u32(reader);
	}
	return reader->has_failed ? -EBADMSG : 0;
}

/* ---- Requests. ---- */

static uint16_t command_of(enum ferry_op op)
{
	switch (op) {
	case FERRY_OP_READ:
		return FERRY_NBD_CMD_READ;
	case FERRY_OP_WRITE:
		return FERRY_NBD_CMD_WRITE;
	case FERRY_OP_FLUSH:
		return FERRY_NBD_CMD_FLUSH;
	case FERRY_OP_DISCARD:
		return FERRY_NBD_CMD_TRIM;
	case FERRY_OP_WRITE_ZEROES:
		return FERRY_NBD_CMD_WRITE_ZEROES;
	default:
		ferry_unreachable("an operation that does not exist");
	}
}

int torture_client_submit(struct torture_client *client, enum ferry_op op, uint32_t flags,
			  uint64_t offset_bytes, uint32_t length_bytes, const void *data,
			  void *context)
{
	uint16_t nbd_flags = 0;
	struct ferry_nbd_writer writer = writer_of(client);
	uint32_t data_bytes = op == FERRY_OP_WRITE ? length_bytes : 0;
	uint32_t slot = 0;

	ferry_assert(client->state == TORTURE_CLIENT_READY);
	ferry_assert(length_bytes <= TORTURE_CLIENT_IO_BYTES_MAX || !ferry_op_has_data(op));
	while (slot < TORTURE_CLIENT_DEPTH_MAX && client->requests[slot].op != 0)
		slot++;
	if (slot == TORTURE_CLIENT_DEPTH_MAX ||
	    writer.size_bytes < FERRY_NBD_REQUEST_BYTES + data_bytes)
		return -EAGAIN;
	if (flags & FERRY_IO_FUA)
		nbd_flags |= FERRY_NBD_CMD_FUA;
	if (flags & FERRY_IO_NO_UNMAP)
		nbd_flags |= FERRY_NBD_CMD_NO_HOLE;
	client->requests[slot] = (struct torture_request){
		.op = op,
		.length_bytes = op == FERRY_OP_READ ? length_bytes : 0,
		.cookie = client->cookie_next++ << 8 | slot,
		.context = context,
	};
	client->in_flight++;
	ferry_nbd_write_u32(&writer, FERRY_NBD_REQUEST_MAGIC);
	ferry_nbd_write_u16(&writer, nbd_flags);
	ferry_nbd_write_u16(&writer, command_of(op));
	ferry_nbd_write_u64(&writer, client->requests[slot].cookie);
	ferry_nbd_write_u64(&writer, offset_bytes);
	ferry_nbd_write_u32(&writer, length_bytes);
	if (data_bytes > 0)
		ferry_nbd_write_bytes(&writer, data, data_bytes);
	client->out_used += writer.used_bytes;
	return 0;
}

static int errno_of(uint32_t error)
{
	switch (error) {
	case 0:
		return 0;
	case FERRY_NBD_EPERM:
		return -EPERM;
	case FERRY_NBD_EINVAL:
		return -EINVAL;
	case FERRY_NBD_ENOSPC:
		return -ENOSPC;
	case FERRY_NBD_ESHUTDOWN:
		return -ESHUTDOWN;
	default:
		return -EIO;
	}
}

/* ---- Bytes. ---- */

/* How many bytes the next whole thing in @in has; 0: more than are there. */
static uint32_t reply_take(struct torture_client *client, const uint8_t *in, uint32_t in_bytes,
			   int *ret_error)
{
	struct ferry_nbd_reader reader = {.bytes = in, .left_bytes = in_bytes};
	struct torture_request request;
	uint32_t error, slot, data_bytes;
	uint64_t cookie;

	if (in_bytes < REPLY_BYTES)
		return 0;
	if (ferry_nbd_read_u32(&reader) != FERRY_NBD_SIMPLE_REPLY_MAGIC) {
		*ret_error = -EBADMSG;
		return 0;
	}
	error = ferry_nbd_read_u32(&reader);
	cookie = ferry_nbd_read_u64(&reader);
	slot = (uint32_t)(cookie & 0xff);
	if (slot >= TORTURE_CLIENT_DEPTH_MAX || client->requests[slot].op == 0 ||
	    client->requests[slot].cookie != cookie) {
		client->unasked++;
		*ret_error = -EBADMSG;
		return 0;
	}
	request = client->requests[slot];
	data_bytes = error == 0 ? request.length_bytes : 0;
	if (in_bytes < REPLY_BYTES + data_bytes)
		return 0;
	client->requests[slot].op = 0;
	client->in_flight--;
	client->on_reply(client, request.context, errno_of(error), in + REPLY_BYTES);
	return REPLY_BYTES + data_bytes;
}

static uint32_t answer_take(struct torture_client *client, const uint8_t *in, uint32_t in_bytes,
			    int *ret_error)
{
	struct ferry_nbd_reader reader = {.bytes = in, .left_bytes = in_bytes};
	uint32_t type, length_bytes;

	if (client->state == TORTURE_CLIENT_GREETING) {
		if (in_bytes < FERRY_NBD_GREETING_BYTES)
			return 0;
		*ret_error = greeting_take(client, &reader);
		return FERRY_NBD_GREETING_BYTES;
	}
	if (in_bytes < OPTION_REPLY_BYTES)
		return 0;
	if (ferry_nbd_read_u64(&reader) != FERRY_NBD_OPTION_REPLY_MAGIC) {
		*ret_error = -EBADMSG;
		return 0;
	}
	(void)ferry_nbd_read_u32(&reader); /* Of which option. */
	type = ferry_nbd_read_u32(&reader);
	length_bytes = ferry_nbd_read_u32(&reader);
	if (length_bytes > FERRY_NBD_OPTION_BYTES_MAX)
		*ret_error = -EBADMSG;
	if (*ret_error < 0 || reader.left_bytes < length_bytes)
		return 0;
	reader.left_bytes = length_bytes;
	*ret_error = option_take(client, type, &reader);
	return OPTION_REPLY_BYTES + length_bytes;
}

static void in_run(struct torture_client *client)
{
	uint32_t taken = 0, step;
	int error = 0;
	ssize_t count;

	count = recv(client->fd, client->in + client->in_used, IN_BYTES - client->in_used, 0);
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count <= 0) {
		torture_client_close(client);
		return;
	}
	client->in_used += (uint32_t)count;
	do {
		const uint8_t *in = client->in + taken;

		step = client->state == TORTURE_CLIENT_READY
			       ? reply_take(client, in, client->in_used - taken, &error)
			       : answer_take(client, in, client->in_used - taken, &error);
		taken += step;
	} while (step > 0 && error == 0 && client->state != TORTURE_CLIENT_OFF);
	if (client->state == TORTURE_CLIENT_OFF)
		return; /* Closed by who heard of a reply. */
	if (error < 0) {
		torture_client_close(client);
		return;
	}
	memmove(client->in, client->in + taken, client->in_used - taken);
	client->in_used -= taken;
}

static void out_run(struct torture_client *client)
{
	ssize_t count = send(client->fd, client->out, client->out_used, MSG_NOSIGNAL);

	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count < 0) {
		torture_client_close(client);
		return;
	}
	memmove(client->out, client->out + count, client->out_used - (uint32_t)count);
	client->out_used -= (uint32_t)count;
}

short torture_client_events(const struct torture_client *client)
{
	return (short)(POLLIN | (client->out_used > 0 ? POLLOUT : 0));
}

void torture_client_run(struct torture_client *client, short ready)
{
	ferry_assert(client->state != TORTURE_CLIENT_OFF);
	if ((ready & POLLOUT) && client->out_used > 0)
		out_run(client);
	if (client->state != TORTURE_CLIENT_OFF && (ready & (POLLIN | POLLHUP | POLLERR)))
		in_run(client);
}
