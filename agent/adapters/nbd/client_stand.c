#include "agent/adapters/nbd/client_stand.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

int client_connect(struct fixture *fixture)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", fixture->path);
	assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	return fd;
}

/*
 * Not a signal: the kernel, done with an earlier test's ring, interrupts the thread that made it,
 * and sockets with a time limit then give up with EINTR.
 */
static ssize_t receive(int fd, void *bytes, size_t length_bytes)
{
	size_t got_bytes = 0;

	while (got_bytes < length_bytes) {
		ssize_t got = recv(fd, (uint8_t *)bytes + got_bytes, length_bytes - got_bytes, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno != ECONNRESET)
			fail_msg("recv: %s", strerror(errno));
		if (got <= 0)
			break;
		got_bytes += (size_t)got;
	}
	return (ssize_t)got_bytes;
}

void say(int fd, const void *bytes, size_t length_bytes)
{
	size_t sent_bytes = 0;

	while (sent_bytes < length_bytes) {
		ssize_t sent = send(fd, (const uint8_t *)bytes + sent_bytes,
				    length_bytes - sent_bytes, MSG_NOSIGNAL);

		if (sent < 0 && errno != EINTR)
			fail_msg("send: %s", strerror(errno));
		sent_bytes += sent > 0 ? (size_t)sent : 0;
	}
}

void hear(int fd, void *bytes, size_t length_bytes)
{
	assert_int_equal(receive(fd, bytes, length_bytes), length_bytes);
}

void hear_end(int fd)
{
	uint8_t byte;

	assert_int_equal(receive(fd, &byte, 1), 0);
	close(fd);
}

struct ferry_nbd_writer writer_of(uint8_t *bytes, uint32_t size_bytes)
{
	return (struct ferry_nbd_writer){.bytes = bytes, .size_bytes = size_bytes};
}

int client_greet_as(struct fixture *fixture, uint32_t flags)
{
	uint8_t greeting[FERRY_NBD_GREETING_BYTES];
	uint8_t answer[4];
	struct ferry_nbd_reader reader = {.bytes = greeting, .left_bytes = sizeof(greeting)};
	struct ferry_nbd_writer writer = writer_of(answer, sizeof(answer));
	int fd = client_connect(fixture);

	hear(fd, greeting, sizeof(greeting));
	assert_int_equal(ferry_nbd_read_u64(&reader), FERRY_NBD_MAGIC);
	assert_int_equal(ferry_nbd_read_u64(&reader), FERRY_NBD_OPTION_MAGIC);
	assert_int_equal(ferry_nbd_read_u16(&reader), 3);
	ferry_nbd_write_u32(&writer, flags);
	say(fd, answer, sizeof(answer));
	return fd;
}

int client_greet(struct fixture *fixture)
{
	return client_greet_as(fixture, 3);
}

void option_say(int fd, uint32_t option, const void *data, uint32_t length_bytes)
{
	uint8_t header[FERRY_NBD_OPTION_HEADER_BYTES];
	struct ferry_nbd_writer writer = writer_of(header, sizeof(header));

	ferry_nbd_write_u64(&writer, FERRY_NBD_OPTION_MAGIC);
	ferry_nbd_write_u32(&writer, option);
	ferry_nbd_write_u32(&writer, length_bytes);
	say(fd, header, sizeof(header));
	if (length_bytes > 0)
		say(fd, data, length_bytes);
}

uint32_t option_hear(int fd, uint32_t option, uint8_t ret[4096], uint32_t *ret_bytes)
{
	uint8_t header[20], data[4096];
	struct ferry_nbd_reader reader = {.bytes = header, .left_bytes = sizeof(header)};
	uint32_t type, length_bytes;

	hear(fd, header, sizeof(header));
	assert_int_equal(ferry_nbd_read_u64(&reader), FERRY_NBD_OPTION_REPLY_MAGIC);
	assert_int_equal(ferry_nbd_read_u32(&reader), option);
	type = ferry_nbd_read_u32(&reader);
	length_bytes = ferry_nbd_read_u32(&reader);
	assert_true(length_bytes <= sizeof(data));
	if (length_bytes > 0)
		hear(fd, ret ? ret : data, length_bytes);
	if (ret_bytes)
		*ret_bytes = length_bytes;
	return type;
}

void option_expect(int fd, uint32_t option, const void *data, uint32_t length_bytes, uint32_t type)
{
	option_say(fd, option, data, length_bytes);
	assert_int_equal(option_hear(fd, option, NULL, NULL), type);
}

uint32_t info_data(uint8_t ret[64], const char *name)
{
	struct ferry_nbd_writer writer = writer_of(ret, 64);

	ferry_nbd_write_u32(&writer, (uint32_t)strlen(name));
	ferry_nbd_write_bytes(&writer, name, (uint32_t)strlen(name));
	ferry_nbd_write_u16(&writer, 2);
	ferry_nbd_write_u16(&writer, FERRY_NBD_INFO_NAME);
	ferry_nbd_write_u16(&writer, FERRY_NBD_INFO_DESCRIPTION);
	return writer.used_bytes;
}

uint32_t info_ask(int fd, uint32_t option, const char *name)
{
	uint8_t data[64], answer[4096];
	uint32_t type, seen = 0;

	option_say(fd, option, data, info_data(data, name));
	while ((type = option_hear(fd, option, answer, NULL)) == FERRY_NBD_REP_INFO)
		seen |= 1u << answer[1];
	assert_int_equal(type, FERRY_NBD_REP_ACK);
	return seen;
}

int client_go(struct fixture *fixture, const char *name, bool has_structured)
{
	int fd = client_greet(fixture);

	if (has_structured)
		option_expect(fd, FERRY_NBD_OPT_STRUCTURED_REPLY, NULL, 0, FERRY_NBD_REP_ACK);
	(void)info_ask(fd, FERRY_NBD_OPT_GO, name);
	return fd;
}

void request_encode(uint8_t ret[FERRY_NBD_REQUEST_BYTES], uint16_t command, uint16_t flags,
		    uint64_t cookie, uint64_t offset_bytes, uint32_t length_bytes)
{
	struct ferry_nbd_writer writer = writer_of(ret, FERRY_NBD_REQUEST_BYTES);

	ferry_nbd_write_u32(&writer, FERRY_NBD_REQUEST_MAGIC);
	ferry_nbd_write_u16(&writer, flags);
	ferry_nbd_write_u16(&writer, command);
	ferry_nbd_write_u64(&writer, cookie);
	ferry_nbd_write_u64(&writer, offset_bytes);
	ferry_nbd_write_u32(&writer, length_bytes);
}

void request_say(int fd, uint16_t command, uint16_t flags, uint64_t cookie, uint64_t offset_bytes,
		 uint32_t length_bytes)
{
	uint8_t request[FERRY_NBD_REQUEST_BYTES];

	request_encode(request, command, flags, cookie, offset_bytes, length_bytes);
	say(fd, request, sizeof(request));
}

uint32_t reply_hear(int fd, uint64_t *ret_cookie)
{
	uint8_t reply[16];
	struct ferry_nbd_reader reader = {.bytes = reply, .left_bytes = sizeof(reply)};
	uint32_t error;

	hear(fd, reply, sizeof(reply));
	assert_int_equal(ferry_nbd_read_u32(&reader), FERRY_NBD_SIMPLE_REPLY_MAGIC);
	error = ferry_nbd_read_u32(&reader);
	*ret_cookie = ferry_nbd_read_u64(&reader);
	return error;
}

void reply_expect(int fd, uint64_t cookie, uint32_t error)
{
	uint64_t heard;

	assert_int_equal(reply_hear(fd, &heard), error);
	assert_int_equal(heard, cookie);
}

void expect(int fd, uint16_t command, uint16_t flags, uint64_t offset_bytes, uint32_t length_bytes,
	    uint32_t error)
{
	static uint64_t cookie = UINT64_C(0xfeedf00d00000000);

	request_say(fd, command, flags, ++cookie, offset_bytes, length_bytes);
	reply_expect(fd, cookie, error);
}

void write_expect(int fd, uint16_t flags, uint64_t offset_bytes, uint32_t length_bytes,
		  uint8_t byte, uint32_t error)
{
	uint8_t *data = malloc(length_bytes + 1);

	assert_non_null(data);
	memset(data, byte, length_bytes);
	request_say(fd, FERRY_NBD_CMD_WRITE, flags, 77, offset_bytes, length_bytes);
	say(fd, data, length_bytes);
	reply_expect(fd, 77, error);
	free(data);
}

void read_hear(int fd, uint32_t length_bytes, uint8_t byte)
{
	uint8_t *data = malloc(length_bytes);

	assert_non_null(data);
	hear(fd, data, length_bytes);
	for (uint32_t i = 0; i < length_bytes; i++)
		assert_int_equal(data[i], byte);
	free(data);
}

void read_expect(int fd, uint64_t offset_bytes, uint32_t length_bytes, uint8_t byte)
{
	expect(fd, FERRY_NBD_CMD_READ, 0, offset_bytes, length_bytes, 0);
	read_hear(fd, length_bytes, byte);
}
