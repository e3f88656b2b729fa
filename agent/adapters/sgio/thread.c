#include <unistd.h>

#include "agent/adapters/sgio/private.h"

void ferry_sgio_signal(int fd)
{
	const uint64_t one = 1;
	ssize_t length;

	do {
		length = write(fd, &one, sizeof(one));
	} while (length < 0 && errno == EINTR);
	ferry_assert(length == sizeof(one)); /* An eventfd that is far from full. */
}

void ferry_sgio_await(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) < 0)
		ferry_assert(errno == EINTR);
}
