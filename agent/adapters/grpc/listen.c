#include <fcntl.h>
#include <grpc/grpc_posix.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/adapters/grpc/internal.h"

enum { BACKLOG = 16, ACCEPTS_PER_ROUND = 16 };

/*
 * Whoever holds the lock owns the path and may remove what a dead agent left there. The lock
 * file itself stays: removing it would let two agents lock two files of one name.
 */
static int lock_take(const char *socket_path, int flags, struct ferry_error *reterr)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof(".lock")];
	int fd, r;

	(void)snprintf(path, sizeof(path), "%s.lock", socket_path);
	fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: %s", path, strerror(-r));
	}
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	r = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
	close(fd);
	if (r == -EADDRINUSE)
		return ferry_error_set(reterr, r, "%s: another agent serves this socket",
				       socket_path);
	return ferry_error_set(reterr, r, "%s: %s", path, strerror(-r));
}

int ferry_grpc_check_unserved(const char *socket_path, struct ferry_error *reterr)
{
	int fd = lock_take(socket_path, /* flags= */ 0, reterr);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || fd == -ENOENT ? 0 : fd;
}

int ferry_grpc_listen(struct ferry_grpc_server *server, struct ferry_error *reterr)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	_Static_assert(sizeof(server->socket_path) == sizeof(address.sun_path), "same bound");
	r = lock_take(server->socket_path, O_CREAT, reterr);
	if (r < 0)
		return r;
	server->lock_fd = r;
	memcpy(address.sun_path, server->socket_path, sizeof(address.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: %s", server->socket_path, strerror(-r));
	}
	server->listen_watch.fd = fd;
	/* Before bind, so that there is no moment in which others could connect. */
	if (fchmod(fd, 0600) < 0 || (unlink(server->socket_path) < 0 && errno != ENOENT) ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: %s", server->socket_path, strerror(-r));
	}
	server->is_bound = true;
	if (listen(fd, BACKLOG) < 0) {
		r = -errno;
		return ferry_error_set(reterr, r, "%s: %s", server->socket_path, strerror(-r));
	}
	return 0;
}

static bool peer_is_allowed(int fd)
{
	struct ucred who = {0};
	socklen_t length = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0)
		return false;
	return who.uid == 0 || who.uid == geteuid();
}

static void on_connection(struct ferry_watch *watch, uint32_t ready)
{
	struct ferry_grpc_server *server =
		FERRY_CONTAINER_OF(watch, struct ferry_grpc_server, listen_watch);
	grpc_server_credentials *credentials;

	(void)ready;
	for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
		int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		if (!peer_is_allowed(fd)) { /* Root may have loosened the socket's mode. */
			close(fd);
			continue;
		}
		credentials = grpc_insecure_server_credentials_create();
		grpc_server_add_channel_from_fd(server->server, fd, credentials);
		grpc_server_credentials_release(credentials);
	}
}

void ferry_grpc_listen_start(struct ferry_grpc_server *server)
{
	int r;

	ferry_assert(server->listen_watch.fd >= 0);
	server->listen_watch.run = on_connection;
	r = server->config.loop->ops->watch_start(server->config.loop, &server->listen_watch,
						  FERRY_WATCH_READ);
	ferry_assert(r == 0); /* A fresh descriptor, and the loop has room for its own. */
}

void ferry_grpc_unlisten(struct ferry_grpc_server *server)
{
	if (server->listen_watch.fd >= 0) {
		if (server->listen_watch.run)
			server->config.loop->ops->watch_stop(server->config.loop,
							     &server->listen_watch);
		close(server->listen_watch.fd);
		server->listen_watch.fd = -1;
	}
	if (server->is_bound)
		(void)unlink(server->socket_path); /* Ignoring: someone was faster. */
	server->is_bound = false;
	if (server->lock_fd >= 0)
		close(server->lock_fd);
	server->lock_fd = -1;
}
