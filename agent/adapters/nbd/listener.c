#include "agent/adapters/nbd/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 64, LOCK_TRIES_MAX = 16, LOCK_PATH_BYTES = 128 };

_Static_assert(sizeof(((struct ferry_nbd_listener *)0)->path) ==
		       sizeof(((struct sockaddr_un *)0)->sun_path),
	       "any path that can be bound can be kept");

static void lock_path(const char *path, char ret[LOCK_PATH_BYTES])
{
	(void)snprintf(ret, LOCK_PATH_BYTES, "%s.lock", path); /* 107 and 5 bytes: it fits. */
}

/*
 * Whoever holds the lock may replace or remove the socket file. The lock's file is removed by its
 * holder; so a lock that was got on a removed file is worth nothing, and is tried for again.
 */
static int lock_take(const char *path, int *ret_fd, struct ferry_error *reterr)
{
	char name[LOCK_PATH_BYTES];

	lock_path(path, name);
	for (uint32_t i = 0; i < LOCK_TRIES_MAX; i++) {
		struct stat ours, named;
		int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		int r;

		if (fd < 0) {
			r = -errno;
			if (r == -ENOENT)
				return ferry_error_set(
					reterr, r,
					"%s: its directory does not exist; make it first", path);
			return ferry_error_set(reterr, r, "%s: cannot open: %s", name,
					       strerror(-r));
		}
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			r = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
			(void)close(fd);
			return ferry_error_set(reterr, r, "%s: another server listens here%s", path,
					       r == -EADDRINUSE ? "" : ", or its lock is broken");
		}
		if (fstat(fd, &ours) == 0 && stat(name, &named) == 0 &&
		    ours.st_ino == named.st_ino && ours.st_dev == named.st_dev) {
			*ret_fd = fd;
			return 0;
		}
		(void)close(fd); /* It was removed in between. */
	}
	return ferry_error_set(reterr, -EADDRINUSE, "%s: others start and stop here all the time",
			       path);
}

static void lock_drop(struct ferry_nbd_listener *listener)
{
	char name[LOCK_PATH_BYTES];

	if (listener->lock_fd < 0)
		return;
	lock_path(listener->path, name);
	(void)unlink(name); /* A file that stays is no harm: the next server locks it. */
	(void)close(listener->lock_fd);
	listener->lock_fd = -1;
}

/* Whether a server without our lock answers there; if the socket is stale, remove it. */
static int stale_remove(const struct sockaddr_un *address, struct ferry_error *reterr)
{
	const char *path = address->sun_path;
	struct stat st;
	int fd, r;

	if (lstat(path, &st) < 0) {
		r = -errno;
		return r == -ENOENT ? 0 : ferry_error_set(reterr, r, "%s: %s", path, strerror(-r));
	}
	if (!S_ISSOCK(st.st_mode))
		return ferry_error_set(reterr, -EEXIST,
				       "%s exists and is not a socket; choose another path", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "socket: %s", strerror(-r));
	}
	r = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
	(void)close(fd);
	if (r != -ECONNREFUSED)
		return ferry_error_set(reterr, -EADDRINUSE, "%s: another server listens here",
				       path);
	if (unlink(path) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: cannot remove the stale socket: %s", path,
				       strerror(-r));
	}
	return 0;
}

static int unix_bind(struct ferry_nbd_listener *listener, const struct sockaddr_un *address,
		     uint32_t mode, struct ferry_error *reterr)
{
	struct stat st;
	int r, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "socket: %s", strerror(-r));
	}
	listener->watch.fd = fd;
	/* Before bind(2) it is the file's mode to be, less the umask: never open to more. */
	if (fchmod(fd, mode) < 0 ||
	    bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: cannot bind: %s", address->sun_path,
				       strerror(-r));
	}
	if (chmod(address->sun_path, mode) < 0 || lstat(address->sun_path, &st) < 0 ||
	    listen(fd, BACKLOG) < 0) {
		r = -errno;
		(void)unlink(address->sun_path); /* It is ours, just made. */
		return ferry_error_set(reterr, r, "%s: cannot listen: %s", address->sun_path,
				       strerror(-r));
	}
	listener->device = st.st_dev;
	listener->inode = st.st_ino;
	return 0;
}

static int unix_open(struct ferry_nbd_listener *listener, const char *path, uint32_t mode,
		     struct ferry_error *reterr)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const size_t length_bytes = strlen(path);
	int r;

	if (length_bytes == 0 || length_bytes >= sizeof(address.sun_path))
		return ferry_error_set(reterr, -EINVAL,
				       "unix:%s: the path must have 1 to %zu bytes", path,
				       sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, length_bytes);
	r = lock_take(path, &listener->lock_fd, reterr);
	if (r < 0)
		return r;
	memcpy(listener->path, path, length_bytes + 1);
	r = stale_remove(&address, reterr);
	if (r < 0)
		return r;
	return unix_bind(listener, &address, mode, reterr);
}

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, address, sizeof(in));
		return ntohl(in.sin_addr.s_addr) >> 24 == 127;
	}
	if (address->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, address, sizeof(in6));
		return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
	}
	return false;
}

static int tcp_bind(struct ferry_nbd_listener *listener, const char *name,
		    const struct addrinfo *info, struct ferry_error *reterr)
{
	union {
		struct sockaddr_storage storage;
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} bound = {0};
	socklen_t bound_bytes = sizeof(bound);
	const int on = 1;
	int r, fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "tcp:%s: socket: %s", name, strerror(-r));
	}
	listener->watch.fd = fd;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (info->ai_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, &bound.any, &bound_bytes) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "tcp:%s: cannot listen: %s", name, strerror(-r));
	}
	listener->port =
		ntohs(bound.any.sa_family == AF_INET6 ? bound.in6.sin6_port : bound.in.sin_port);
	return 0;
}

/* "HOST:PORT" or "[HOST]:PORT" into two strings. */
static int tcp_split(const char *address, char host[64], const char **ret_port)
{
	const char *colon = strrchr(address, ':');
	size_t length_bytes;

	if (!colon || colon == address || colon[1] == '\0')
		return -EINVAL;
	length_bytes = (size_t)(colon - address);
	if (address[0] == '[') {
		if (length_bytes < 3 || address[length_bytes - 1] != ']')
			return -EINVAL;
		address++;
		length_bytes -= 2;
	} else if (memchr(address, ':', length_bytes)) {
		return -EINVAL; /* Where would the port begin? */
	}
	if (length_bytes >= 64)
		return -EINVAL;
	memcpy(host, address, length_bytes);
	host[length_bytes] = '\0';
	*ret_port = colon + 1;
	return 0;
}

static int tcp_open(struct ferry_nbd_listener *listener, const char *address, bool allow_remote,
		    struct ferry_error *reterr)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
	struct addrinfo *info;
	const char *port;
	char host[64];
	unsigned long number;
	char *end;
	int r;

	r = tcp_split(address, host, &port);
	if (r < 0)
		return ferry_error_set(
			reterr, r, "tcp:%s: expected tcp:HOST:PORT or tcp:[ADDRESS]:PORT", address);
	number = strtoul(port, &end, 10);
	if (*end != '\0' || port[0] < '0' || port[0] > '9' || number > UINT16_MAX)
		return ferry_error_set(reterr, -EINVAL, "tcp:%s: the port must be 0 to 65535",
				       address);
	/* No name service: an agent's start must not wait for one. */
	if (strcmp(host, "localhost") == 0)
		memcpy(host, "127.0.0.1", sizeof("127.0.0.1"));
	hints.ai_flags |= AI_NUMERICHOST;
	if (getaddrinfo(host, port, &hints, &info) != 0)
		return ferry_error_set(reterr, -EINVAL,
				       "tcp:%s: the host must be an IP address or localhost",
				       address);
	if (!allow_remote && !is_loopback(info->ai_addr))
		r = ferry_error_set(
			reterr, -EACCES,
			"tcp:%s: NBD has no authentication: only loopback addresses are "
			"allowed unless the configuration permits remote clients",
			address);
	else
		r = tcp_bind(listener, address, info, reterr);
	freeaddrinfo(info);
	return r;
}

int ferry_nbd_listener_open(struct ferry_nbd_listener *listener, const char *address,
			    const struct ferry_nbd_config *config, struct ferry_error *reterr)
{
	int r;

	ferry_assert(listener && address);
	ferry_assert(config->socket_mode > 0);
	listener->watch.fd = -1;
	listener->lock_fd = -1;
	if (strncmp(address, "unix:", 5) == 0)
		r = unix_open(listener, address + 5, config->socket_mode, reterr);
	else if (strncmp(address, "tcp:", 4) == 0)
		r = tcp_open(listener, address + 4, config->allow_remote, reterr);
	else
		r = ferry_error_set(reterr, -EINVAL, "%s: expected unix:PATH or tcp:HOST:PORT",
				    address);
	if (r < 0)
		ferry_nbd_listener_close(listener);
	return r;
}

void ferry_nbd_listener_close(struct ferry_nbd_listener *listener)
{
	struct stat st;

	ferry_assert(listener);
	if (listener->watch.fd >= 0) {
		/* Only what is ours: someone may have replaced it in spite of the lock. */
		if (listener->inode != 0 && lstat(listener->path, &st) == 0 &&
		    st.st_ino == listener->inode && st.st_dev == listener->device)
			(void)unlink(listener->path); /* The next server finds it stale. */
		(void)close(listener->watch.fd);
		listener->watch.fd = -1;
	}
	lock_drop(listener);
}
